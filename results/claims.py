"""Published figures, with their sources. They are never ranked with ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from results.errors import RecordError

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")

_Figure = Annotated[float, Field(allow_inf_nan=False)]
_Given = _Figure | tuple[_Figure, _Figure] | None
_Pair = Annotated[str, Field(pattern=r"^\S+ > \S+$")]


class Claim(BaseModel):
    """One published figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    regime: Literal["offline", "online"]
    teacher: str
    student: str
    method: str
    metric: str
    scored: Literal["student", "teacher"] = Field(description="the network whose score it is")
    value: _Figure
    std: _Figure | None = None
    n: int | None = Field(None, ge=1, description="runs, where known")
    source: str
    protocol: str = Field(description="how it was trained and picked, as far as known")


class ClaimGroup(BaseModel):
    """One table of one source: method to a figure for each pair."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    benchmark: str = Field(description="name, without version")
    regime: Literal["offline", "online"]
    protocol: str
    metric: str = "top1"
    n: int | None = Field(None, ge=1)
    pairs: tuple[_Pair, ...] = Field(min_length=1)
    teacher: dict[str, tuple[_Given, ...]] = {}
    student: dict[str, tuple[_Given, ...]] = {}

    @model_validator(mode="after")
    def _one_figure_per_pair(self) -> Self:
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError(f"{self.source}: a pair stands twice in 'pairs'")
        for method, figures in [*self.teacher.items(), *self.student.items()]:
            if len(figures) != len(self.pairs):
                raise ValueError(f"{self.source}: {method} has {len(figures)} figures for {len(self.pairs)} pairs")
        return self

    def claims(self) -> list[Claim]:
        """The single figures, in the order of the file."""
        found = []
        scored: Literal["student", "teacher"]
        for scored, table in (("teacher", self.teacher), ("student", self.student)):
            for method, figures in table.items():
                for pair, figure in zip(self.pairs, figures, strict=True):
                    if figure is not None:
                        found.append(self._claim(pair, method, scored, figure))
        return found

    def _claim(
        self,
        pair: str,
        method: str,
        scored: Literal["student", "teacher"],
        figure: float | tuple[float, float],
    ) -> Claim:
        teacher, student = pair.split(" > ")
        value, std = figure if isinstance(figure, tuple) else (figure, None)
        return Claim(
            benchmark=self.benchmark,
            regime=self.regime,
            teacher=teacher,
            student=student,
            method=method,
            metric=self.metric,
            scored=scored,
            value=value,
            std=std,
            n=self.n,
            source=self.source,
            protocol=self.protocol,
        )


@cache
def load_claims(path: Path = CLAIMS_FILE) -> tuple[Claim, ...]:
    """Read published figures.

    Args:
        path: a YAML file: a list of :class:`ClaimGroup`.

    Raises:
        RecordError: the file cannot be read or says something that the model forbids.
    """
    try:
        groups = TypeAdapter(list[ClaimGroup]).validate_python(yaml.load(path.read_text(), Loader=_loader()))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RecordError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise RecordError(f"{path}: {place}: {fault['msg'].removeprefix('Value error, ')}") from error
    claims = tuple(claim for group in groups for claim in group.claims())
    _forbid_contradictions(claims, path)
    return claims


def _loader() -> type:
    """The C loader where PyYAML has it; it is ten times faster."""
    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return loader


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
        )
        if key in seen:
            raise RecordError(
                f"{path}: {claim.source} gives {claim.method} on {claim.teacher} > {claim.student} "
                f"({claim.scored}) twice"
            )
        seen.add(key)
