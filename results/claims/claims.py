"""Published figures, with their sources. They are never ranked with ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from results.errors import RecordError
from results.records.schema import Regime

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")
TASKS: Mapping[str, str] = {"top1": "classification", "miou": "segmentation", "fid": "diffusion"}
"""Metric of published figures to the task whose networks it scores; tasks may have benchmarks of one name."""

_Figure = Annotated[float, Field(allow_inf_nan=False)]
_Given = _Figure | tuple[_Figure, _Figure] | None
_Networks = Annotated[str, Field(pattern=r"^\S+( > \S+)?$")]


class Claim(BaseModel):
    """One published figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    regime: Regime
    teacher: str | None = Field(description="None for a network that was trained alone, which is the student here")
    student: str
    method: str
    metric: str
    nfe: int | None = Field(None, ge=1, description="evaluations of the network per image, of what it generated")
    scored: Literal["student", "teacher"] = Field(description="the network whose score it is")
    value: _Figure
    std: _Figure | None = None
    n: int | None = Field(None, ge=1, description="runs, where known")
    source: str
    protocol: str = Field(description="how it was trained and picked, as far as known")

    @property
    def task(self) -> str:
        """The task of the network."""
        return TASKS[self.metric]


class ClaimGroup(BaseModel):
    """One table of one source: method to a list of figures.

    Each figure is of one of ``pairs`` and, for images that a network generated, of one of ``nfe``; either of the two
    may have a single entry that holds for all figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    benchmark: str = Field(description="name, without version")
    regime: Regime
    protocol: str
    metric: str = "top1"
    n: int | None = Field(None, ge=1)
    pairs: tuple[_Networks, ...] = Field(min_length=1, description="teacher > student; alone: the one network")
    nfe: tuple[int, ...] = Field((), description="evaluations of the network per image")
    teacher: dict[str, tuple[_Given, ...]] = {}
    student: dict[str, tuple[_Given, ...]] = {}

    @model_validator(mode="after")
    def _one_figure_per_pair(self) -> Self:
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError(f"{self.source}: a pair stands twice in 'pairs'")
        if len(self.pairs) > 1 and len(self.nfe) > 1 and len(self.nfe) != len(self.pairs):
            raise ValueError(f"{self.source}: 'nfe' has {len(self.nfe)} entries for {len(self.pairs)} pairs")
        columns, what = len(self._columns()), "numbers of evaluations" if len(self.nfe) > 1 else "pairs"
        for method, figures in [*self.teacher.items(), *self.student.items()]:
            if len(figures) != columns:
                raise ValueError(f"{self.source}: {method} has {len(figures)} figures for {columns} {what}")
        return self

    @model_validator(mode="after")
    def _networks_fit(self) -> Self:
        if self.metric not in TASKS:
            raise ValueError(f"{self.source}: metric '{self.metric}' is none of {', '.join(TASKS)}")
        single = self.regime in ("alone", "peers")
        if any((" > " in pair) == single for pair in self.pairs):
            wanted = "one network each" if single else "teacher > student each"
            raise ValueError(f"{self.source}: regime '{self.regime}' takes 'pairs' of {wanted}")
        if self.regime == "alone" and self.teacher:
            raise ValueError(f"{self.source}: a network that was trained alone stands under 'student'")
        return self

    def _columns(self) -> list[tuple[str, int | None]]:
        """Pair and number of evaluations of each figure."""
        count = max(len(self.pairs), len(self.nfe))
        pairs = self.pairs * (count if len(self.pairs) == 1 else 1)
        evaluations = (self.nfe or (None,)) * (count if len(self.nfe) <= 1 else 1)
        return list(zip(pairs, evaluations, strict=True))

    def claims(self) -> list[Claim]:
        """The single figures, in the order of the file."""
        found = []
        scored: Literal["student", "teacher"]
        for scored, table in (("teacher", self.teacher), ("student", self.student)):
            for method, figures in table.items():
                for (pair, nfe), figure in zip(self._columns(), figures, strict=True):
                    if figure is not None:
                        found.append(self._claim(pair, nfe, method, scored, figure))
        return found

    def _claim(
        self,
        pair: str,
        nfe: int | None,
        method: str,
        scored: Literal["student", "teacher"],
        figure: float | tuple[float, float],
    ) -> Claim:
        *teacher, student = pair.split(" > ")
        value, std = figure if isinstance(figure, tuple) else (figure, None)
        return Claim(
            benchmark=self.benchmark,
            regime=self.regime,
            teacher=teacher[0] if teacher else None,
            student=student,
            method=in_order(method),
            metric=self.metric,
            nfe=nfe,
            scored=scored,
            value=value,
            std=std,
            n=self.n,
            source=self.source,
            protocol=self.protocol,
        )


def in_order(method: str) -> str:
    """A composition with its parts in the order in which records have them, whatever order a source names."""
    return "+".join(sorted(method.split("+"), reverse=True))


@cache
def load_claims(path: Path = CLAIMS_FILE) -> tuple[Claim, ...]:
    """Read published figures.

    Args:
        path: a YAML file: a list of :class:`ClaimGroup`.

    Raises:
        RecordError: the file cannot be read or says something that the model forbids.
    """
    try:
        groups = TypeAdapter(list[ClaimGroup]).validate_python(
            YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        )
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise RecordError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise RecordError(f"{path}: {place}: {fault['msg'].removeprefix('Value error, ')}") from error
    claims = tuple(claim for group in groups for claim in group.claims())
    _forbid_contradictions(claims, path)
    return claims


def _forbid_contradictions(claims: tuple[Claim, ...], path: Path) -> None:
    seen = set()
    for claim in claims:
        key = (
            claim.source,
            claim.benchmark,
            claim.regime,
            claim.teacher,
            claim.student,
            claim.method,
            claim.scored,
            claim.nfe,
        )
        if key in seen:
            networks = f"{claim.teacher} > {claim.student}" if claim.teacher else claim.student
            raise RecordError(f"{path}: {claim.source} gives {claim.method} on {networks} ({claim.scored}) twice")
        seen.add(key)
