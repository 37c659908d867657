"""The settings that papers and their code print for a benchmark and a pair of networks. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from adm_core import registry
from adm_core.errors import AdmError, unknown
from adm_core.yaml_file import read_model
from results.records.fields import Text
from suites.spec.definition import Block, Pair, Settings
from tasks import catalogue

PUBLISHED = Path(__file__).resolve().parents[1] / "published.yaml"


class PublishedEntry(BaseModel):
    """What one source prints for a benchmark.

    Attributes:
        source: the authors' code with its commit, or a table of a paper.
        task: e.g. ``classification``.
        benchmark: name without version; None: all of the task.
        stated: what a suite must say of a method for the entry to hold, e.g. ``{standardise: true}``; empty: nothing.
        settings: those that the source has for every pair, by method.
        pairs: those that it has for some, by ``teacher > student``, two shell-style patterns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Text
    task: str
    benchmark: str | None = None
    stated: dict[str, Any] = {}
    settings: Settings = {}
    pairs: dict[str, Settings] = {}

    @field_validator("pairs")
    @classmethod
    def _written_as_pairs(cls, pairs: dict[str, Settings]) -> dict[str, Settings]:
        for written in pairs:
            if Pair.model_validate(written).teacher is None:
                raise ValueError(f"'{written}': a pair is written 'teacher > student'")
        return pairs

    def layers(self, task: str, benchmark: str, pair: Pair) -> list[Settings]:
        """What holds for a pair on a task's benchmark, in rising order."""
        name, versioned, _ = benchmark.partition("@")
        if task != self.task or (self.benchmark and not (versioned and name == self.benchmark)):
            return []
        known = [(Pair.model_validate(written), settings) for written, settings in self.pairs.items()]
        return [self.settings] + [
            settings
            for pattern, settings in known
            if fnmatchcase(pair.teacher or "", str(pattern.teacher)) and fnmatchcase(pair.student, pattern.student)
        ]

    def holds(self, stated: Mapping[str, Any]) -> bool:
        """Whether it is of a method of which a suite says so much."""
        return all(name in stated and stated[name] == value for name, value in self.stated.items())

    def check(self, where: str) -> None:
        """Stop at a name or a setting that does not exist.

        Raises:
            AdmError: an unknown task, benchmark, network, method or setting, or an invalid value; key and nearest
                valid name are given.
        """
        if self.task not in catalogue.tasks():
            raise unknown("task", self.task, catalogue.tasks(), where=f"{where}, task")
        benchmarks = {name.split("@")[0] for name in catalogue.benchmarks(self.task)}
        if self.benchmark is not None and self.benchmark not in benchmarks:
            raise unknown("benchmark", self.benchmark, benchmarks, where=f"{where}, benchmark")
        known = catalogue.networks(self.task)
        for pattern in (part.strip() for written in self.pairs for part in written.split(">")):
            found = any(fnmatchcase(name, pattern) for name in known)
            if not found and not catalogue.is_network(self.task, pattern):
                raise unknown("network", pattern, known, where=f"{where}, pairs")
        for key, given in [("settings", self.settings), *((f"pairs.{pair}", own) for pair, own in self.pairs.items())]:
            for method, settings in given.items():
                try:
                    registry.create(method, {method: {**self.stated, **settings}})
                except AdmError as error:
                    raise AdmError(f"{where}, {key}: {error}") from error


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: tuple[PublishedEntry, ...]


@cache
def load_published(file: Path = PUBLISHED) -> tuple[PublishedEntry, ...]:
    """The table of published settings.

    Args:
        file: a YAML file with :class:`PublishedEntry` under ``entries``.

    Raises:
        AdmError: as :meth:`PublishedEntry.check`, or a mistake in the file.
    """
    entries = read_model(file, _Table).entries
    for index, entry in enumerate(entries):
        entry.check(f"{file}, entries.{index} ({entry.source})")
    return entries


def published_settings(block: Block, pair: Pair, methods: Iterable[str], stated: Settings) -> list[Settings]:
    """What the table has for methods on a pair, in rising order: later entries stand above earlier ones.

    Args:
        block: for its task and benchmark.
        pair: of networks.
        methods: names of the parts of a row's method.
        stated: what the suite says of them itself.
    """
    wanted, held = set(methods), _of_pair(block.task, block.benchmark, pair)
    return [
        {
            name: {**entry.stated, **own}
            for name, own in given.items()
            if name in wanted and entry.holds(stated.get(name, {}))
        }
        for entry, given in held
    ]


@cache
def _of_pair(task: str, benchmark: str, pair: Pair) -> tuple[tuple[PublishedEntry, Settings], ...]:
    """What the table has for a pair, of all methods: every row of a suite asks."""
    return tuple((entry, layer) for entry in load_published() for layer in entry.layers(task, benchmark, pair))
