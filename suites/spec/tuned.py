"""The file in which ``adm tune`` leaves a suite's settings, and what a suite that names it takes from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adm_core.errors import AdmError, nearest
from adm_core.yaml_file import read_model
from results.records.schema import Cell, MethodPart

Values = dict[str, dict[str, float]]
"""Method part to its searched settings."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trial(_Frozen):
    """Settings that were tried.

    Attributes:
        settings: every searched setting with its value.
        scores: the student's on the validation split, in the order of the seeds; None: training diverged.
        mean: of the scores; None where one is missing.
    """

    settings: Values
    scores: tuple[float | None, ...]
    mean: float | None


class TunedRow(_Frozen):
    """A row of the suite on one pair.

    Attributes:
        block: title of its table.
        task: e.g. ``classification``.
        benchmark: name and version.
        regime: ``offline``, ``online`` or ``peers``.
        protocol: digest of the block's protocol.
        teacher_protocol: digest of the one that trained the frozen teacher; None: nothing trained one.
        versions: of the row's methods.
        pair: as the suite writes it.
        row: its label.
        metric: what scores are, and by which trials are compared.
        higher_is_better: the metric's direction.
        chosen: number of the best trial, from 1; the first is the row as the suite states it.
        trials: in the order of the sequence.
    """

    block: str
    task: str
    benchmark: str
    regime: str
    protocol: str
    teacher_protocol: str | None
    versions: dict[str, int]
    pair: str
    row: str
    metric: str
    higher_is_better: bool
    chosen: Annotated[int, Field(ge=1)]
    trials: tuple[Trial, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _chosen_is_a_trial(self) -> Self:
        if self.chosen > len(self.trials):
            raise ValueError(f"chosen {self.chosen}: there are only {len(self.trials)} trials")
        return self

    @property
    def settings(self) -> Values:
        """Those of the best trial."""
        return self.trials[self.chosen - 1].settings

    def told(self, method: Iterable[MethodPart]) -> str:
        """How the settings of a method came about, in a few words; those of another version of it say of which."""
        if len(self.trials) == 1:
            return "as stated, nothing searched"
        others = [f"{p.name} {self.versions[p.name]}" for p in method if self.versions[p.name] != p.version]
        old = f", under version {', '.join(others)}" if others else ""
        return f"{'as stated, best' if self.chosen == 1 else f'tuned, number {self.chosen}'} of {len(self.trials)}{old}"

    def check_place(self, cell: Cell, where: str) -> None:
        """Stop where the row is trained on something else now than its trials.

        Args:
            cell: any of the row's.
            where: file and block, for messages.

        Raises:
            AdmError: names what differs, and both values.
        """
        for name, there in place_of(cell).items():
            if (before := getattr(self, name)) != there:
                raise AdmError(
                    f"{where}, row '{self.row}': the block's {name} is {there}, and trials were on {before}; "
                    "run adm tune again, or leave 'chosen' out"
                )

    def check_start(self, stated: Iterable[MethodPart], where: str) -> None:
        """Stop where the row states another method or other values now than its trials started from.

        Args:
            stated: the row's method as the suite states it.
            where: file and block, for messages.

        Raises:
            AdmError: names what differs, and both values.
        """
        now = {part.name: part.settings for part in stated}
        if now.keys() != self.versions.keys():
            raise AdmError(
                f"{where}, row '{self.row}': the method is {'+'.join(sorted(now))}, and trials were of "
                f"{'+'.join(sorted(self.versions))}; run adm tune again, or leave 'chosen' out"
            )
        for part, settings in self.trials[0].settings.items():
            for key, value in settings.items():
                if part not in now or now[part].get(key) != value:
                    found = now.get(part, {}).get(key, "none")
                    raise AdmError(
                        f"{where}, row '{self.row}': {part}.{key} is {found} as the suite states it, and trials "
                        f"started from {value:g}; run adm tune again, or put the value back"
                    )


def place_of(cell: Cell) -> dict[str, str | None]:
    """What settings are tuned for beside a method: fields of :class:`TunedRow`."""
    alone = cell.teacher_recipe
    return {
        "task": cell.task,
        "benchmark": cell.benchmark,
        "regime": cell.regime,
        "protocol": cell.protocol_digest,
        "teacher_protocol": alone.protocol_digest if alone else None,
    }


class Tuned(_Frozen):
    """The outcome of ``adm tune``.

    Attributes:
        suite: its name.
        digest: of the cells of the suite as it states them.
        trials: of every row that has anything to search.
        seeds: of every trial.
        rule: how the best trial was chosen, in words.
        code: SHA-256 of ``adm_core`` and the tasks' folders, by name.
        rows: one for each row of the suite and pair.
    """

    suite: str
    digest: str
    trials: int
    seeds: tuple[int, ...]
    rule: str
    code: dict[str, str]
    rows: tuple[TunedRow, ...]


class TunedSettings:
    """What a suite takes from the file that its ``chosen`` names.

    Args:
        file: as :func:`adm_core.yaml_file.read_model` reads it; None: the suite names none, and takes nothing.

    Raises:
        AdmError: there is no such file, or a mistake in it.
    """

    def __init__(self, file: Path | None) -> None:
        if file is not None and not file.is_file():
            raise AdmError(f"chosen: {file}: no such file; adm tune makes it")
        self._file = file
        rows = () if file is None else read_model(file, Tuned).rows
        self._rows: Mapping[tuple[str, str, str], TunedRow] = {(row.block, row.pair, row.row): row for row in rows}
        self._used: set[tuple[str, str, str]] = set()

    def row(self, block: str, pair: str, label: str) -> TunedRow | None:
        """What was tuned of a row; None: nothing."""
        self._used.add((block, pair, label))
        return self._rows.get((block, pair, label))

    def check_used(self, where: str) -> None:
        """Stop at a tuned row that the suite lacks.

        Raises:
            AdmError: names it, and the nearest that the suite has.
        """
        for place in self._rows:
            if place not in self._used:
                known = {" / ".join(used) for used in self._used}
                told = " / ".join(place)
                raise AdmError(f"{where}: chosen: {self._file}: the suite has no row '{told}'; {nearest(told, known)}")
