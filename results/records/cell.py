"""What a cell is: one thing to train, by all that makes its numbers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from results.records.fields import Hex16, Number, Overrides, Setting, Sha256, Stored, Text
from results.records.identity import identity

Regime = Literal["alone", "offline", "online", "peers"]


class MethodPart(Stored):
    """One method of a composition, with the settings that were in force."""

    name: Text
    version: int = Field(ge=1, description="raised when the method's numbers are meant to move")
    settings: dict[str, Setting] = Field({}, description="every one that acts, with the value in force")
    at_default: tuple[Text, ...] = Field(
        (), description="those of the settings that are at the method's defaults, sorted; they do not enter the id"
    )

    @model_validator(mode="after")
    def _are_settings(self) -> Self:
        if not set(self.at_default) <= set(self.settings):
            raise ValueError(f"at_default: {sorted(set(self.at_default) - set(self.settings))} are no settings of it")
        return self


class TeacherRecipe(Stored):
    """How a frozen teacher was trained; names the ``alone`` cell that trained it."""

    protocol: Text
    protocol_digest: Hex16
    seed: int


class NetworkIdentity(Stored):
    """What a network is that the suite defines itself."""

    base: Text = Field(description="a network name that the task knows, or the name of the config file")
    config: Sha256 | None = Field(None, description="SHA-256 of the config file; null: the base is a known network")
    overrides: Overrides = Field({}, description="what the suite changes, in the task's own words")
    checkpoint: Sha256 | None = Field(None, description="SHA-256 of the weights that a frozen teacher starts with")


class BenchmarkIdentity(Stored):
    """What a benchmark is that the suite defines itself: a folder of images, one folder per class in each split."""

    classes: int = Field(gt=1, description="how many class folders there are")
    image: int = Field(gt=0, description="side in pixels of the images that networks see")
    mean: tuple[Number, Number, Number] = Field(description="of pixel values in 0..1, red, green, blue; subtracted")
    std: tuple[Number, Number, Number] = Field(description="divided by")
    images: dict[Text, int] = Field(description="split (train, validation, test) to how many images it has")
    files: Sha256 = Field(
        description="SHA-256 of the list of files: of each its split, its path below the split's folder, its bytes"
    )


class LabelNoise(Stored):
    """Wrong labels among those that a cell is trained on."""

    kind: Text = Field(description="symmetric, asymmetric or instance")
    rate: Number = Field(gt=0, lt=1, description="share of the training labels that are wrong")
    seed: int = Field(0, ge=0, description="of the draws")

    def __str__(self) -> str:
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.kind} label noise {self.rate:g}{seed}"


class Shift(Stored):
    """Pictures that look otherwise where a cell is scored than where it is trained."""

    corruptions: tuple[Text, ...] = Field(min_length=1, description="names, sorted; each picture has one of them")
    severity: int = Field(ge=1, le=5)
    seed: int = Field(0, ge=0, description="of the draws")

    @field_validator("corruptions")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a corruption stands there twice")
        return tuple(sorted(names))

    def __str__(self) -> str:
        seed = f", seed {self.seed}" if self.seed else ""
        return f"shift to {', '.join(self.corruptions)} at severity {self.severity}{seed}"


class Condition(Stored):
    """What is made of a benchmark: label noise in training, a shift between training and test, or both."""

    noise: LabelNoise | None = Field(
        None, description="of the training labels; left out where there is none", exclude_if=lambda noise: noise is None
    )
    shift: Shift | None = Field(
        None, description="of the pictures; left out where there is none", exclude_if=lambda shift: shift is None
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.noise is None and self.shift is None:
            raise ValueError("a condition has 'noise', 'shift' or both; leave it out where there is none")
        return self

    def __str__(self) -> str:
        return " and ".join(str(part) for part in (self.noise, self.shift) if part is not None)


class Stretch(Stored):
    """How much longer a cell trains than its protocol says, its schedule stretched alike."""

    factor: Number | None = Field(None, gt=1, description="times the protocol's epochs")
    match: tuple[tuple[MethodPart, ...], ...] = Field(
        (), description="methods of its table; it trains as long as the dearest of them costs, in FLOPs of training"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.factor is None) == (not self.match):
            raise ValueError("either a factor or methods to match")
        return self

    def __str__(self) -> str:
        return "match" if self.factor is None else f"{self.factor:g}"


class Cell(Stored):
    """One thing to train.

    Its id is made of what it is: of every field that has not its default, but for the names of protocols, settings at
    their defaults, and the order of the methods.
    """

    rule: Literal[1, 2] = Field(
        2, description="how the id is made; 1: as before schema 2, in stores not brought up; left out otherwise",
        exclude_if=lambda rule: rule == 2,
    )  # fmt: skip

    task: Text
    benchmark: Text = Field(description="name and version, e.g. cifar100@1")
    own_benchmark: BenchmarkIdentity | None = Field(
        None, description="what the benchmark is where the suite defines it; left out elsewhere",
        exclude_if=lambda own: own is None,
    )  # fmt: skip
    condition: Condition | None = Field(
        None, description="what is made of the benchmark; left out where it is as it is",
        exclude_if=lambda condition: condition is None,
    )  # fmt: skip
    protocol: Text = Field(description="the name by which a suite gave it; not in the id")
    protocol_digest: Hex16 = Field(description="of what the protocol does: task, recipe and data, defaults left out")
    regime: Regime = Field(description="alone, offline (frozen teacher), online (both train) or peers (equals train)")
    student: Text = Field(description="network name")
    teacher: Text | None = Field(None, description="network name")
    teacher_recipe: TeacherRecipe | None = Field(
        None, description="offline only; null: the teacher's weights are a checkpoint from elsewhere"
    )
    networks: dict[Text, NetworkIdentity] = Field(
        {}, description="those of the networks above that the suite defines itself; left out where there are none",
        exclude_if=lambda networks: not networks,
    )  # fmt: skip
    method: tuple[MethodPart, ...] = Field(min_length=1, description="its parts; 'none' is one part")
    stretch: Stretch | None = Field(
        None, description="left out where it trains as long as the protocol says", exclude_if=lambda own: own is None
    )
    seed: int

    @model_validator(mode="after")
    def _regime_fits(self) -> Self:
        wants = {
            "alone": (False, False), "offline": (True, True), "online": (True, False), "peers": (False, False),
        }[self.regime]  # fmt: skip
        has = (self.teacher is not None, (self.teacher_recipe is not None) != (self.checkpoint is not None))
        if has != wants:
            need = [
                "no teacher and no teacher_recipe",
                "a teacher and no teacher_recipe",
                "a teacher and its recipe, or its checkpoint",
            ]
            raise ValueError(f"regime '{self.regime}' takes {need[sum(wants)]}")
        return self

    @model_validator(mode="after")
    def _networks_fit(self) -> Self:
        for name, network in self.networks.items():
            if name not in (self.student, self.teacher):
                raise ValueError(f"networks: '{name}' is neither student nor teacher")
            if network.checkpoint and (name == self.student or self.regime != "offline"):
                raise ValueError(f"networks: '{name}' has a checkpoint, so it can only be a frozen teacher")
        return self

    @property
    def checkpoint(self) -> str | None:
        """SHA-256 of the weights file of a frozen teacher that was not trained here."""
        own = self.networks.get(self.teacher or "")
        return own.checkpoint if own else None

    @property
    def id(self) -> str:
        """The cell's identity: 16 hexadecimal digits."""
        return identity(self.model_dump_json(exclude_defaults=self.rule == 2), self.rule)

    @property
    def pair(self) -> str:
        """``teacher > student``, or the network that is trained alone."""
        return f"{self.teacher} > {self.student}" if self.teacher else self.student

    @property
    def method_name(self) -> str:
        """Names of the parts joined by ``+``."""
        return "+".join(part.name for part in self.method)
