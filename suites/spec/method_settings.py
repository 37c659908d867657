"""The settings in force in each row of a suite, and the methods made with them. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.errors import AdmError, nearest, unknown
from adm_core.method import Method
from adm_core.recipe import Recipe
from adm_core.task import Offered
from results.records.identity import canonical_json
from results.records.schema import Cell, MethodPart
from suites.spec.definition import Block, MethodEntry, Override, Pair, Settings, Suite
from suites.spec.networks import OwnNetworks
from suites.spec.published import published_settings
from suites.spec.tuned import TunedRow, TunedSettings
from tasks import listed_taps


@dataclass(frozen=True)
class Resolved:
    """A row's method.

    Attributes:
        method: its parts, with every setting written out that acts in the regime.
        chosen: how these came about; None: there are none to choose.
        skipped: why its cells will be, as far as that shows before networks are built.
        tuned: what was tuned of the row; None: nothing.
    """

    method: tuple[MethodPart, ...]
    chosen: str | None
    skipped: str | None
    tuned: TunedRow | None


class MethodSettings:
    """Resolves a suite's rows and remembers which settings found one, so that no misspelt one passes.

    Args:
        suite: what the file said.
        where: the suite's file, for messages.
        networks: the suite's own.
        tuned: what was tuned of it.
    """

    def __init__(self, suite: Suite, where: str, networks: OwnNetworks, tuned: TunedSettings) -> None:
        self._suite, self._where, self._networks, self._tuned = suite, where, networks, tuned
        self._parts: set[str] = set()
        self._overrides: set[int] = set()
        self._made: dict[str, Method] = {}

    def resolve(
        self, block: Block, pair: Pair, entry: MethodEntry, offered: Offered, recipe: Recipe, where: str
    ) -> Resolved:
        """A row's settings in force: defaults, published, suite, overrides, row, tuned, in rising order.

        Args:
            block: which holds the row.
            pair: of networks.
            entry: the row.
            offered: what the task shows methods there.
            recipe: of the block's protocol.
            where: file and block, for messages.

        Raises:
            AdmError: an unknown method, invalid settings, or a method that does not run in the regime or on the pair.
        """
        parts = [part.strip() for part in entry.method.split("+")]
        self._parts |= set(parts)
        stated = _merged([*self._stated(block, pair, parts), entry.settings])
        published = _merged(published_settings(block, pair, parts, stated) if self._suite.published else ())
        merged = _merged([published, stated])
        method = self._create(entry.method, merged, block.regime, f"{where}, methods")
        resolved = method_parts(method, block.regime)
        chosen = _told(resolved, published, stated)
        tuned = self._tuned.row(block.title, str(pair), entry.shown)
        if tuned is not None:
            tuned.check_start(resolved, f"{where}, chosen")
            method = self._create(entry.method, _merged([merged, tuned.settings]), block.regime, f"{where}, chosen")
            resolved = method_parts(method, block.regime)
        if self._suite.tuned_file:
            chosen = None if entry.stretch else tuned.told(resolved) if tuned else "not tuned"
        untapped = self._why_untapped(block, pair, method, stated, f"{where}, methods: method '{entry.method}'")
        ungrouped = recipe.why_ungrouped() if method.needs.gradient_groups else None
        mixed = ungrouped and f"'{method.card.name}' {ungrouped}"
        skipped = offered.why_not(method.needs, block.task) or mixed or untapped
        return Resolved(resolved, chosen, skipped, tuned)

    def _why_untapped(self, block: Block, pair: Pair, method: Method, stated: Settings, where: str) -> str | None:
        """What a network of the pair lacks of the taps that the method reads by itself; None: nothing that shows here.

        Raises:
            AdmError: it lacks one that the suite names.
        """
        given = [value for settings in stated.values() for value in settings.values()]
        named = {word for value in given for word in (value if isinstance(value, list) else [value])}
        taps, reasons = method.needs.taps, []
        known = [self._networks.tapped(name) for name in (pair.teacher, pair.student) if name]
        for network in filter(None, known):
            listed_taps.check_taps(block.task, network, [tap for tap in taps if tap in named], where)
            reasons.append(listed_taps.why_untapped(block.task, network, taps))
        return next(filter(None, reasons), None)

    def _stated(self, block: Block, pair: Pair, parts: list[str]) -> list[Settings]:
        """The suite's own settings of a row's parts, then those of the overrides that hold for it."""
        layers: list[Settings] = [{part: self._suite.settings[part] for part in parts if part in self._suite.settings}]
        for index, override in enumerate(self._suite.overrides):
            when = override.when
            names = ((pair.teacher, when.teacher), (pair.student, when.student), (block.regime, when.regime))
            if not all(fnmatchcase(name or "", pattern) for name, pattern in names):
                continue
            found = {
                part: settings
                for part, settings in override.settings.items()
                if part in parts and fnmatchcase(part, when.method)
            }
            if found:
                self._overrides.add(index)
                layers.append(found)
        return layers

    def check_used(self) -> None:
        """Stop at settings that belong to no row.

        Raises:
            AdmError: names them, and the nearest names that do occur.
        """
        self._tuned.check_used(self._where)
        for part in self._suite.settings:
            if part not in self._parts:
                raise unknown("method", part, self._parts, where=f"{self._where}: settings")
        for index, override in enumerate(self._suite.overrides):
            if index not in self._overrides:
                told = f"{self._where}: overrides.{index} matches no cell of the suite"
                raise AdmError(f"{told}{self._hint(override)}")

    def _create(self, spec: str, settings: Settings, regime: str, where: str) -> Method:
        """The method, made once for equal settings."""
        key = f"{spec} {canonical_json(settings)}"
        try:
            if key not in self._made:
                self._made[key] = registry.create(spec, settings)
        except AdmError as error:
            raise AdmError(f"{where}: {error}") from error
        method = self._made[key]
        if regime not in method.card.regimes:
            runs = " and ".join(sorted(method.card.regimes))
            raise AdmError(f"{where}: method '{spec}' does not run {regime}; it runs {runs}")
        return method

    def _hint(self, override: Override) -> str:
        """The first word of an override that nothing in the suite answers to."""
        pairs = [pair for block in self._suite.blocks for pair in block.pairs]
        known: dict[str, set[str]] = {
            "teacher": {pair.teacher for pair in pairs if pair.teacher},
            "student": {pair.student for pair in pairs},
            "method": self._parts,
            "regime": {block.regime for block in self._suite.blocks},
        }
        for key, pattern in override.when.model_dump(exclude_defaults=True).items():
            if not any(fnmatchcase(name, pattern) for name in known[key]):
                return f": when.{key} = '{pattern}'; {nearest(pattern, known[key])}"
        for part in override.settings:
            if part not in self._parts:
                return f": settings.{part}; {nearest(part, self._parts)}"
        return f" (when {override.when.model_dump(exclude_defaults=True)}, settings {sorted(override.settings)})"


def method_parts(method: Method, regime: str) -> tuple[MethodPart, ...]:
    """A method as a cell names it: its parts with every setting written out that acts in the regime."""
    return tuple(
        MethodPart(
            name=part.card.name,
            version=part.card.version,
            settings=(settings := _plain(part.resolved(regime))),
            at_default=at_default(type(part), settings),
        )
        for part in parts_of(method)
    )


def at_default(method: type[Method], settings: Mapping[str, object]) -> tuple[str, ...]:
    """The names of those settings that are at the method's defaults, sorted."""
    defaults = _plain(method.defaults())
    return tuple(sorted(key for key, value in settings.items() if key in defaults and defaults[key] == value))


def settings_of(part: MethodPart) -> dict[str, Any]:
    """The settings of a method that a cell names, as :func:`adm_core.registry.create` takes them."""
    return dict(part.settings)


def method_of(cell: Cell) -> Method:
    """The method that a cell names, with its settings.

    Raises:
        AdmError: no such method, or it has no such settings any more.
    """
    return registry.create(cell.method_name, {part.name: settings_of(part) for part in cell.method})


def _merged(layers: Iterable[Mapping[str, Mapping[str, Any]]]) -> Settings:
    """Settings of several layers, later ones above earlier."""
    merged: Settings = {}
    for layer in layers:
        for part, settings in layer.items():
            merged[part] = merged.get(part, {}) | dict(settings)
    return merged


def _told(method: Iterable[MethodPart], published: Settings, stated: Settings) -> str | None:
    """Where the settings of a method come from, in one word where that holds for all its parts; None: it has none."""
    found: dict[str, list[str]] = {}
    for part in method:
        if part.settings:
            printed = published.get(part.name, {})
            own = any(printed.get(name) != value for name, value in stated.get(part.name, {}).items())
            given = "stated" if own else "published" if printed else "default"
            found.setdefault(given, []).append(part.name)
    if len(found) > 1:
        return "; ".join(f"{', '.join(parts)} {given}" for given, parts in found.items())
    return next(iter(found), None)


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
