"""What is stored: the identity of a cell, the record of its training, the manifest of a suite."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from results.records.identity import identity
from results.records.privacy import as_reason, refuse_paths, refuse_paths_within, refuse_persons

SCHEMA_VERSION = 2

Regime = Literal["alone", "offline", "online", "peers"]
Status = Literal["ok", "diverged", "oom", "timeout", "error", "interrupted", "skipped"]

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite float."""
Text = Annotated[str, AfterValidator(refuse_paths)]
"""Text that holds no absolute path."""
Reason = Annotated[str, AfterValidator(as_reason)]
"""Free text, mostly from an exception; absolute paths in it are cut to their last part, and a long one is cut."""
Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""16 hexadecimal digits."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a file's content."""
Overrides = Annotated[dict[str, JsonValue], AfterValidator(refuse_paths_within)]
"""Plain JSON of any depth that holds no absolute path."""
Scalar = bool | int | Number | Text | None
Setting = Scalar | list[Scalar]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodPart(_Model):
    """One method of a composition, with the settings that were in force."""

    name: Text
    version: int = Field(ge=1, description="raised when the method's numbers are meant to move")
    settings: dict[str, Setting] = {}
    at_default: tuple[Text, ...] = Field(
        (), description="those of the settings that are at the method's defaults, sorted; they do not enter the id"
    )

    @model_validator(mode="after")
    def _are_settings(self) -> Self:
        if not set(self.at_default) <= set(self.settings):
            raise ValueError(f"at_default: {sorted(set(self.at_default) - set(self.settings))} are no settings of it")
        return self


class TeacherRecipe(_Model):
    """How a frozen teacher was trained; names the ``alone`` cell that trained it."""

    protocol: Text
    protocol_digest: Hex16
    seed: int


class NetworkIdentity(_Model):
    """What a network is that the suite defines itself."""

    base: Text = Field(description="a network name that the task knows, or the name of the config file")
    config: Sha256 | None = Field(None, description="SHA-256 of the config file; null: the base is a known network")
    overrides: Overrides = Field({}, description="what the suite changes, in the task's own words")
    checkpoint: Sha256 | None = Field(None, description="SHA-256 of the weights that a frozen teacher starts with")


class BenchmarkIdentity(_Model):
    """What a benchmark is that the suite defines itself: a folder of images, one folder per class in each split."""

    classes: int = Field(gt=1, description="how many class folders there are")
    image: int = Field(gt=0, description="side in pixels of the images that networks see")
    mean: tuple[Number, Number, Number] = Field(description="of pixel values in 0..1, red, green, blue; subtracted")
    std: tuple[Number, Number, Number] = Field(description="divided by")
    images: dict[Text, int] = Field(description="split (train, validation, test) to how many images it has")
    files: Sha256 = Field(
        description="SHA-256 of the list of files: of each its split, its path below the split's folder, its bytes"
    )


class Cell(_Model):
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


class Primary(_Model):
    """Which score ranks, and how it was picked."""

    metric: Text
    higher_is_better: bool
    unit: Text = Field(description="e.g. %; empty when the score has none")
    selection: Literal["last", "best-validation"] = Field(
        description="last: after the last epoch; best-validation: best epoch on a split carved from train"
    )


class Cost(_Model):
    """What training took; null where it was not measured."""

    setup_s: Number | None = Field(None, description="seconds until the first step")
    train_s: Number | None = Field(None, description="seconds in training, evaluation left out")
    eval_s: Number | None = Field(None, description="seconds in evaluation")
    sampling: dict[str, Number] = Field({}, description="seconds, student's images_per_s", exclude_if=lambda s: not s)
    step_ms: Number | None = Field(None, description="milliseconds per optimiser step, median")
    images_per_s: Number | None = Field(None, description="training images per second")
    peak_memory_mb: Number | None = Field(None, description="peak memory in MiB (device, else process)")
    parameters: dict[str, Number | None] = Field({}, description="trainable parameters: student, teacher, method")
    flops: dict[str, Number | None] = Field({}, description="per image, forward: student, teacher")


class TeacherIdentity(_Model):
    """The frozen teacher that an offline cell learned from."""

    cell_id: Hex16 | None = Field(None, description="of the cell that trained it; null: it came as a checkpoint")
    checkpoint: Text | None = Field(
        None, description="name of the file it came in; left out where it was trained here",
        exclude_if=lambda name: name is None,
    )  # fmt: skip
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")] = Field(description="SHA-256 of its weights file")
    score: Number | None = Field(None, description="its primary score")

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        if (self.cell_id is None) == (self.checkpoint is None):
            raise ValueError("a frozen teacher comes either from a cell or from a checkpoint")
        return self


class Attempt(_Model):
    """One try at training the cell."""

    status: Status
    reason: Reason | None = Field(None, description="why it is not ok; of an ok one, why it started over")
    seconds: Number = Field(ge=0)


class Record(_Model):
    """The result of one cell. One JSON file each, ``records/<id>.json``."""

    schema_version: Literal[2] = Field(2, description="raised whenever older records must be migrated to be read")
    id: Hex16
    cell: Cell
    status: Status = Field(description="only ok and skipped count as done")
    reason: Reason | None = Field(None, description="why it is not ok")
    scores: dict[str, dict[str, Number | None]] = Field(
        {}, description="network (student, teacher) to metric to value; percent metrics run from 0 to 100"
    )
    primary: Primary | None = None
    curves: dict[str, list[Number | None]] = Field({}, description="one value per epoch; 'epoch' comes first")
    teacher: TeacherIdentity | None = Field(None, description="offline only")
    cost: Cost = Cost()
    capabilities: list[Text] = Field([], description="what the method needs beyond the rule")
    data_digest: Text | None = None
    code: dict[Text, Sha256] = Field(
        {}, description="SHA-256 of the code that made the numbers: adm_core, tasks/TASK, and each method NAME",
        exclude_if=lambda code: not code,
    )  # fmt: skip
    environment: Annotated[dict[str, Scalar], AfterValidator(refuse_persons)] = Field(
        {}, description="versions, device, precision, git commit; never host, user or paths"
    )
    attempts: list[Attempt] = []

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.id != self.cell.id:
            raise ValueError(f"id '{self.id}' is not the cell's, which is '{self.cell.id}'")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status '{self.status}' needs a reason")
        if self.status == "ok" and self.score("student") is None:
            raise ValueError("status 'ok' needs 'primary' and a finite primary score of the student")
        if self.teacher and self.cell.checkpoint not in (None, self.teacher.digest):
            raise ValueError("the teacher's digest is not that of the checkpoint which the cell names")
        if len({len(curve) for curve in self.curves.values()}) > 1:
            raise ValueError("curves differ in length; every curve has one value (or null) per epoch")
        return self

    def score(self, network: str, metric: str | None = None) -> float | None:
        """A network's score; the primary metric's unless another is named; None where there is none."""
        metric = metric or (self.primary.metric if self.primary else "")
        value = self.scores.get(network, {}).get(metric)
        return value if value is not None and math.isfinite(value) else None


class ManifestRow(_Model):
    """A cell's place in a suite's tables."""

    cell: Cell
    id: Hex16
    label: Text = Field(description="the row's label; the seeds of one row share it")
    block: Text = Field(description="title of the table")

    @model_validator(mode="after")
    def _id_is_the_cells(self) -> Self:
        if self.id != self.cell.id:
            raise ValueError(f"id '{self.id}' is not the cell's, which is '{self.cell.id}'")
        return self


class Manifest(_Model):
    """What a suite's tables consist of. One JSON file each, ``suites/<suite>.json``."""

    schema_version: Literal[2] = 2
    suite: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: Text
    baseline: Text = "none"
    rows: list[ManifestRow]
