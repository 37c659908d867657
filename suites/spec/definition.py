"""Suites and protocols as their YAML files state them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from adm_core.errors import AdmError, unknown
from adm_core.recipe import Protocol
from adm_core.yaml_file import read_model
from results.records.fields import Text
from results.records.privacy import without_paths
from results.records.schema import Condition
from suites.spec.names import NAME, PROTOCOLS, is_path, protocol_names, suite_file, suite_name
from suites.spec.own import OwnBenchmark, OwnNetwork


def _recordable(value: Any) -> Any:
    """Refuses what a record may not hold, before anything is trained."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, bool | int | float | str):
            raise ValueError("should be a number, a word, true or false, or a list of these")
        if isinstance(item, str) and without_paths(item) != item:
            raise ValueError("an absolute path must not be recorded; give a name or a relative path")
    return value


def _by_method(given: Any) -> Any:
    """Refuses settings that do not stand under the name of their method."""
    for key in given if isinstance(given, dict) else ():
        if given[key] is not None and not isinstance(given[key], dict):
            raise ValueError(f"'{key}' should stand under the name of its method, as in {{kd: {{temperature: 2}}}}")
    return given


Regime = Literal["offline", "online", "peers"]
Value = Annotated[Any, AfterValidator(_recordable)]
Settings = Annotated[dict[str, dict[str, Value]], BeforeValidator(_by_method)]
"""Method part to its settings: ``{"kd": {"temperature": 2.0}}``."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pair(_Frozen):
    """A teacher and a student, by network name; also written ``teacher > student``. Among peers: one network."""

    teacher: str | None = None
    student: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        names = [name.strip() for name in given.split(">")]
        if len(names) > 2 or not all(names):
            raise ValueError("a pair is written 'teacher > student'")
        return dict(zip(("teacher", "student") if len(names) == 2 else ("student",), names, strict=True))

    def __str__(self) -> str:
        return f"{self.teacher} > {self.student}" if self.teacher else self.student


class MethodEntry(_Frozen):
    """A row of the table.

    Attributes:
        method: one, or several joined by ``+``.
        label: what the row goes by.
        settings: those that belong to this row alone.
        stretch: how much longer it trains than the protocol says: a factor on the epochs above 1, or ``match``: as long
            as the dearest other row of the table costs, in floating-point operations of training.
        controls: labels of the block's rows that this one is held against, each with its own difference and test.
    """

    method: Text
    label: Text | None = None
    settings: Settings = {}
    stretch: Annotated[float, Field(gt=1, allow_inf_nan=False)] | Literal["match"] | None = None
    controls: tuple[Text, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"method": given} if isinstance(given, str) else given

    @property
    def shown(self) -> str:
        """The label, or the method with the settings that set this row apart."""
        if self.label:
            return self.label
        several = len(self.settings) > 1
        given = [
            f"{part}.{key}={value}" if several else f"{key}={value}"
            for part, settings in self.settings.items()
            for key, value in settings.items()
        ]
        if self.stretch is not None:
            given.append(f"stretch={self.stretch if self.stretch == 'match' else format(self.stretch, 'g')}")
        return f"{self.method} ({', '.join(given)})" if given else self.method


class Block(_Frozen):
    """One table of a suite: every method on every pair with every seed.

    Attributes:
        title: heading of the table.
        task: e.g. ``classification``.
        benchmark: name and version, e.g. ``cifar100@1``, or one of the suite's own ``benchmarks``.
        condition: label noise in training, a shift between training and test, or both; None: the benchmark as it is.
        protocol: name of a file in ``suites/protocols``, or a path to a YAML file (relative to the suite's).
        pairs: teachers and students.
        regime: ``offline`` (the teacher is trained first, alone, and frozen), ``online`` (both together) or ``peers``
            (several networks of one architecture together; each pair is that one network).
        methods: the rows.
        seeds: of the trainings.
        teacher_seed: offline: the seed of the teacher's own training.
        teacher_protocol: offline: that of the teacher's training, on the data of ``protocol``, which it is by default.
    """

    title: Text
    task: str
    benchmark: str
    condition: Condition | None = None
    protocol: str
    pairs: tuple[Pair, ...] = Field(min_length=1)
    regime: Regime
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    teacher_seed: int = 0
    teacher_protocol: str | None = None

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are distinct numbers from 0 on")
        return seeds

    @model_validator(mode="after")
    def _pairs_fit_the_regime(self) -> Self:
        for pair in self.pairs:
            if (pair.teacher is None) != (self.regime == "peers"):
                wanted = "one network each" if self.regime == "peers" else "'teacher > student' each"
                raise ValueError(f"regime {self.regime} takes pairs of {wanted}, not '{pair}'")
        return self

    @model_validator(mode="after")
    def _controls_are_rows(self) -> Self:
        labels = [entry.shown for entry in self.methods]
        for entry in self.methods:
            for control in set(entry.controls).difference(labels):
                raise ValueError(str(unknown(f"control of '{entry.shown}', a row of this block,", control, labels)))
            if entry.shown in entry.controls or len(set(entry.controls)) < len(entry.controls):
                raise ValueError(f"'{entry.shown}': its controls are other rows, each named once")
        return self

    @model_validator(mode="after")
    def _teacher_protocol_is_of_a_frozen_one(self) -> Self:
        if self.teacher_protocol is not None and self.regime != "offline":
            raise ValueError("teacher_protocol is for offline blocks; online, both networks train by 'protocol'")
        return self


class When(_Frozen):
    """Where an override holds: shell-style patterns; an absent one matches everything."""

    teacher: str = "*"
    student: str = "*"
    method: str = "*"
    regime: str = "*"


class Override(_Frozen):
    """Settings for some cells only, such as the weights that the literature gives per pair.

    ``when.method`` is held against the parts of a composed method.
    """

    when: When
    settings: Settings


class Suite(_Frozen):
    """A table of experiments.

    Attributes:
        name: the file's stem; not written in the file.
        title: one line for people.
        blocks: the tables.
        suites: other suites (names, or paths relative to this file) whose tables come before these, each with the
            settings it has on its own; so several tasks stand in one leaderboard.
        networks: the suite's own, by the name that its pairs use.
        benchmarks: the suite's own, by the name that its blocks use.
        published: whether rows take what ``suites/published.yaml`` has for their method and pair, below all that the
            suite says itself.
        settings: method settings for the whole suite.
        chosen: how ``settings`` were chosen; required where there are any. One word that ends in ``.yaml`` is the file
            that ``adm tune`` made (relative to this one), whose settings then stand above all others.
        overrides: settings for some cells; later ones win.
        data_roots: folders with data sets, relative to the suite's file; looked at after the command line's and
            before ``ADM_DATA``. Where data lie is not part of a cell's identity.
    """

    name: str
    title: Text
    blocks: tuple[Block, ...] = ()
    suites: tuple[str, ...] = ()
    networks: dict[Annotated[str, Field(pattern=rf"^{NAME}$")], OwnNetwork] = {}
    benchmarks: dict[Annotated[str, Field(pattern=rf"^{NAME}$")], OwnBenchmark] = {}
    published: bool = False
    settings: Settings = {}
    chosen: str | None = None
    overrides: tuple[Override, ...] = ()
    data_roots: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _holds_something(self) -> Suite:
        if not self.blocks and not self.suites:
            raise ValueError("a suite needs 'blocks', or 'suites' that have some")
        return self

    @model_validator(mode="after")
    def _choice_is_told(self) -> Suite:
        if self.settings and not self.chosen:
            raise ValueError("'settings' needs a sibling 'chosen' that says how they were chosen")
        return self

    @property
    def tuned_file(self) -> Path | None:
        """The file of tuned settings that ``chosen`` names."""
        return Path(self.chosen) if self.chosen and re.fullmatch(r"\S+\.ya?ml", self.chosen) else None


def load_suite(name: str) -> Suite:
    """A suite by name or by path.

    Raises:
        AdmError: no such suite, or a mistake in its file (file, key and value are named).
    """
    return read_model(suite_file(name), Suite, name=suite_name(name))


def load_protocol(name: str, beside: Path | None = None, where: str = "") -> tuple[str, Protocol]:
    """A protocol by name or by path, and the name it goes by.

    Args:
        name: of a file in ``suites/protocols``, or a path to a YAML file.
        beside: folder to which a path is relative.
        where: what names the protocol, for messages.

    Raises:
        AdmError: no such protocol, or a mistake in its file.
    """
    if is_path(name):
        path = (beside or Path()) / Path(name).expanduser()
        if not path.is_file():
            raise AdmError(f"{where}: {name}: no such file" if where else f"protocol file {name}: no such file")
        return path.stem, read_model(path, Protocol)
    if name not in protocol_names():
        raise unknown("protocol", name, protocol_names(), where=where)
    return name, read_model(PROTOCOLS / f"{name}.yaml", Protocol)
