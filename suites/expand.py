"""From a suite to its cells: names checked, settings resolved, identities computed. Loads no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.errors import AdmError, nearest, unknown
from adm_core.method import Method
from adm_core.recipe import Protocol
from results.schema import Cell, MethodPart, TeacherRecipe, canonical_json, digest
from suites import catalogue
from suites.definition import (
    Block,
    MethodEntry,
    Override,
    Pair,
    Settings,
    Suite,
    load_protocol,
    load_suite,
    suite_file,
)


@dataclass(frozen=True)
class PlannedCell:
    """One thing to train and how it is shown.

    Attributes:
        cell: the science; its ``id`` names record and work folder.
        protocol: the resolved recipe, whose digest the cell holds.
        label: the row's label.
        block: the table's title.
        teacher: offline: the planned cell that trains the teacher.
    """

    cell: Cell
    protocol: Protocol
    label: str
    block: str
    teacher: PlannedCell | None = None

    @functools.cached_property
    def id(self) -> str:
        """The cell's identity."""
        return self.cell.id


@dataclass(frozen=True)
class Expansion:
    """A suite's cells.

    Attributes:
        suite: where they come from.
        rows: the tables' cells in the suite's order; a cell may stand in several tables.
        artefacts: the trainings of teachers alone that the rows share.
    """

    suite: Suite
    rows: tuple[PlannedCell, ...]
    artefacts: tuple[PlannedCell, ...]

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Everything to train, each cell once, artefacts first."""
        found: dict[str, PlannedCell] = {}
        for planned in [*self.artefacts, *self.rows]:
            found.setdefault(planned.id, planned)
        return tuple(found.values())


def expand(name: str, method_files: Iterable[Path] = ()) -> Expansion:
    """Read a suite by name or path and expand it.

    Args:
        name: of a suite, or a path to a YAML file.
        method_files: files of the user's own that register methods.

    Raises:
        AdmError: unknown names (with nearest ones), invalid settings, a method that does not run in the regime.
    """
    for file in method_files:
        registry.load_file(file)
    return expand_suite(load_suite(name), suite_file(name))


def expand_suite(suite: Suite, file: Path | None = None) -> Expansion:
    """Expand a suite that has been read.

    Args:
        suite: what the file said.
        file: named in messages; paths to protocols start in its folder.
    """
    used = _Used(str(file or f"suite '{suite.name}'"))
    rows = [row for block in suite.blocks for row in _expand_block(suite, block, file and file.parent, used)]
    used.check(suite)
    _check_labels(used.where, rows)
    artefacts = {row.teacher.id: row.teacher for row in rows if row.teacher}
    return Expansion(suite=suite, rows=tuple(rows), artefacts=tuple(artefacts.values()))


def teacher_cell(cell: Cell) -> Cell | None:
    """The ``alone`` cell that trains an offline cell's teacher; None where there is none."""
    if cell.teacher_recipe is None or cell.teacher is None:
        return None
    return Cell(
        task=cell.task,
        benchmark=cell.benchmark,
        protocol=cell.teacher_recipe.protocol,
        protocol_digest=cell.teacher_recipe.protocol_digest,
        regime="alone",
        student=cell.teacher,
        teacher=None,
        teacher_recipe=None,
        method=_method_parts(registry.create("none")),
        seed=cell.teacher_recipe.seed,
    )


class _Used:
    """What an expansion remembers: methods made, and which settings found a cell, so that no misspelt one passes.

    Attributes:
        where: the suite's file, for messages.
        parts: methods that occur.
        overrides: indices of those that found a cell.
        made: methods by name and settings.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.parts: set[str] = set()
        self.overrides: set[int] = set()
        self.made: dict[str, Method] = {}

    def create(self, spec: str, settings: Settings) -> Method:
        """The method, made once for equal settings."""
        key = f"{spec} {canonical_json(settings)}"
        if key not in self.made:
            self.made[key] = registry.create(spec, settings)  # type: ignore[arg-type]
        return self.made[key]

    def check(self, suite: Suite) -> None:
        """Stop at settings that belong to no row.

        Raises:
            AdmError: names them, and the nearest names that do occur.
        """
        for part in suite.settings:
            if part not in self.parts:
                raise unknown("method", part, self.parts, where=f"{self.where}: settings")
        for index, override in enumerate(suite.overrides):
            if index not in self.overrides:
                told = f"{self.where}: overrides.{index} matches no cell of the suite"
                raise AdmError(f"{told}{self._hint(suite, override)}")

    def _hint(self, suite: Suite, override: Override) -> str:
        """The first word of an override that nothing in the suite answers to."""
        pairs = [pair for block in suite.blocks for pair in block.pairs]
        known = {
            "teacher": {pair.teacher for pair in pairs},
            "student": {pair.student for pair in pairs},
            "method": self.parts,
            "regime": {block.regime for block in suite.blocks},
        }
        for key, pattern in override.when.model_dump(exclude_defaults=True).items():
            if not any(fnmatchcase(name, pattern) for name in known[key]):
                return f": when.{key} = '{pattern}'; {nearest(pattern, known[key])}"
        for part in override.settings:
            if part not in self.parts:
                return f": settings.{part}; {nearest(part, self.parts)}"
        return f" (when {override.when.model_dump(exclude_defaults=True)}, settings {sorted(override.settings)})"


def _expand_block(suite: Suite, block: Block, folder: Path | None, used: _Used) -> list[PlannedCell]:
    where = f"{used.where}, block '{block.title}'"
    catalogue.check_benchmark(block.task, block.benchmark, where)
    protocol_name, protocol = load_protocol(block.protocol, folder, f"{where}, protocol")
    if protocol.task != block.task:
        raise AdmError(f"{where}: protocol '{protocol_name}' is for task '{protocol.task}', not '{block.task}'")
    catalogue.check_data(block.task, protocol.data, f"{where}, protocol '{protocol_name}'")
    for pair in block.pairs:
        catalogue.check_network(block.task, pair.teacher, where, "teacher")
        catalogue.check_network(block.task, pair.student, where, "student")
    rows = []
    for pair in block.pairs:
        for entry in block.methods:
            method = _resolve(suite, block, pair, entry, used, where)
            rows += _plan_seeds(block, pair, entry, method, (protocol_name, protocol))
    return rows


def _plan_seeds(
    block: Block, pair: Pair, entry: MethodEntry, method: tuple[MethodPart, ...], named: tuple[str, Protocol]
) -> list[PlannedCell]:
    """One row of a table: the same cell with every seed."""
    name, protocol = named
    fingerprint = protocol_digest(protocol)
    recipe = TeacherRecipe(protocol=name, protocol_digest=fingerprint, seed=block.teacher_seed)
    cells = [
        Cell(
            task=block.task,
            benchmark=block.benchmark,
            protocol=name,
            protocol_digest=fingerprint,
            regime=block.regime,
            student=pair.student,
            teacher=pair.teacher,
            teacher_recipe=recipe if block.regime == "offline" else None,
            method=method,
            seed=seed,
        )
        for seed in block.seeds
    ]
    alone = teacher_cell(cells[0])
    label = f"teacher {pair.teacher}"
    teacher = PlannedCell(alone, protocol, label, "Teachers, trained alone") if alone else None
    return [PlannedCell(cell, protocol, entry.shown, block.title, teacher) for cell in cells]


def protocol_digest(protocol: Protocol) -> str:
    """What identifies a protocol: all that it does, not its title nor its source."""
    return digest(protocol.model_dump(mode="json", exclude={"title", "source"}))


def _resolve(
    suite: Suite, block: Block, pair: Pair, entry: MethodEntry, used: _Used, where: str
) -> tuple[MethodPart, ...]:
    """The entry's method with the settings in force: defaults, suite, overrides, entry, in rising order."""
    parts = [part.strip() for part in entry.method.split("+")]
    used.parts |= set(parts)
    layers: list[Settings] = [{part: suite.settings[part] for part in parts if part in suite.settings}]
    for index, override in enumerate(suite.overrides):
        when = override.when
        names = ((pair.teacher, when.teacher), (pair.student, when.student), (block.regime, when.regime))
        if not all(fnmatchcase(name, pattern) for name, pattern in names):
            continue
        found = {part: s for part, s in override.settings.items() if part in parts and fnmatchcase(part, when.method)}
        if found:
            used.overrides.add(index)
            layers.append(found)
    layers.append(entry.settings)
    merged: Settings = {}
    for layer in layers:
        for part, settings in layer.items():
            merged[part] = merged.get(part, {}) | settings
    method = _create(entry.method, merged, block.regime, used, f"{where}, methods")
    for name in (pair.teacher, pair.student):
        catalogue.check_taps(block.task, name, method.needs.taps, f"{where}, methods: method '{entry.method}'")
    return _method_parts(method)


def _create(spec: str, settings: Settings, regime: str, used: _Used, where: str) -> Method:
    try:
        method = used.create(spec, settings)
    except AdmError as error:
        raise AdmError(f"{where}: {error}") from error
    if regime not in method.card.regimes:
        runs = " and ".join(sorted(method.card.regimes))
        raise AdmError(f"{where}: method '{spec}' does not run {regime}; it runs {runs}")
    return method


def _method_parts(method: Method) -> tuple[MethodPart, ...]:
    return tuple(
        MethodPart(name=part.card.name, version=part.card.version, settings=_plain(part.resolved()))
        for part in parts_of(method)
    )


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _check_labels(where: str, rows: list[PlannedCell]) -> None:
    """Within one table a label, pair and seed must mean one cell, and a cell must have one label."""
    by_label: dict[tuple[str, ...], PlannedCell] = {}
    by_cell: dict[tuple[str, ...], PlannedCell] = {}
    for row in rows:
        place = (row.block, str(row.cell.teacher), row.cell.student, str(row.cell.seed))
        told = f"{where}, block '{row.block}', methods"
        if (*place, row.label) in by_label:
            raise AdmError(f"{told}: two rows are labelled '{row.label}'")
        twin = by_cell.get((*place, row.id))
        if twin:
            raise AdmError(f"{told}: '{twin.label}' and '{row.label}' are the same experiment; leave one out")
        by_label[(*place, row.label)] = row
        by_cell[(*place, row.id)] = row
