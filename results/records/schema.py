"""What is stored: the identity of a cell (:mod:`results.records.cell`), its record, the manifest of a suite."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from results.records.cell import (
    BenchmarkIdentity,
    Cell,
    Condition,
    LabelNoise,
    MethodPart,
    NetworkIdentity,
    Regime,
    Shift,
    Stretch,
    TeacherRecipe,
)
from results.records.fields import Hex16, Number, Reason, Scalar, Sha256, Stored, Text
from results.records.privacy import refuse_persons

__all__ = [
    "SCHEMA_VERSION", "Attempt", "BenchmarkIdentity", "Cell", "Condition", "Cost", "LabelNoise", "Manifest",
    "ManifestRow", "MethodPart", "NetworkIdentity", "NoisyLabels", "Primary", "Record", "Regime", "Shift", "Status",
    "Stretch", "Stretched", "TeacherIdentity", "TeacherRecipe",
]  # fmt: skip

SCHEMA_VERSION = 2

Status = Literal["ok", "diverged", "oom", "timeout", "error", "interrupted", "skipped"]


class Primary(Stored):
    """Which score ranks, and how it was picked."""

    metric: Text
    higher_is_better: bool
    unit: Text = Field(description="e.g. %; empty when the score has none")
    selection: Literal["last", "best-validation"] = Field(
        description="last: after the last epoch; best-validation: best epoch on a split carved from train"
    )


class Stretched(Stored):
    """How long a cell with a ``stretch`` was trained."""

    factor: Number = Field(ge=1, description="what its stretch came to, before whole epochs were made of it")
    epochs: int = Field(gt=0, description="of its training")
    dearest: Text | None = Field(None, description="the method whose training it matches; null: a factor was given")


class NoisyLabels(Stored):
    """The labels that a cell with label noise was trained on."""

    digest: Sha256 = Field(description="SHA-256 of the labels, as little-endian int64")
    flipped: int = Field(gt=0, description="how many are wrong")
    examples: int = Field(gt=0, description="how many there are")


class Cost(Stored):
    """What training took, that of a member of a group as if it had been alone; null where it was not measured."""

    setup_s: Number | None = Field(None, description="seconds until the first step")
    train_s: Number | None = Field(None, description="seconds in training, evaluation left out")
    eval_s: Number | None = Field(None, description="seconds in evaluation")
    sampling: dict[str, Number] = Field({}, description="seconds, student's images_per_s", exclude_if=lambda s: not s)
    step_ms: Number | None = Field(None, description="milliseconds from one optimiser step to the next, median")
    images_per_s: Number | None = Field(None, description="training images per second of train_s")
    peak_memory_mb: Number | None = Field(
        None,
        description="peak in training steps, MiB: what torch allocated on the GPU, else the process's resident set",
    )
    parameters: dict[str, Number | None] = Field({}, description="trainable parameters: student, teacher, method")
    flops: dict[str, Number | None] = Field(
        {}, description="per image: forward of student and teacher; training: a whole training step, backward included"
    )
    group: dict[str, Number] = Field(
        {}, description="of cells trained on one stream of batches and one teacher: members, how many; shared_s, "
        "seconds of train_s (batches, teacher) that they spent once; left out where the cell was alone",
        exclude_if=lambda group: not group,
    )  # fmt: skip


class TeacherIdentity(Stored):
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


class Attempt(Stored):
    """One try at training the cell."""

    status: Status
    reason: Reason | None = Field(None, description="why it is not ok; of an ok one, why it started over")
    seconds: Number = Field(ge=0)


class Record(Stored):
    """The result of one cell. One JSON file each, ``records/<id>.json``."""

    schema_version: Literal[2] = Field(2, description="raised whenever older records must be migrated to be read")
    id: Hex16
    cell: Cell
    status: Status = Field(description="only ok and skipped count as done")
    reason: Reason | None = Field(None, description="why it is not ok")
    scores: dict[str, dict[str, Number | None]] = Field(
        {},
        description="network (student, teacher, peerN, branchN, ensemble) to metric to value; "
        "percent metrics run from 0 to 100",
    )
    primary: Primary | None = None
    curves: dict[str, list[Number | None]] = Field({}, description="one value per epoch; 'epoch' comes first")
    teacher: TeacherIdentity | None = Field(None, description="offline only")
    weights: dict[Literal["student", "teacher"], Sha256] = Field(
        {}, description="SHA-256 of the weights files left; a lone teacher's is teacher.digest of its students",
        exclude_if=lambda weights: not weights,
    )  # fmt: skip
    cost: Cost = Cost()
    stretched: Stretched | None = Field(
        None, description="what the cell's stretch came to", exclude_if=lambda own: own is None
    )
    noisy_labels: NoisyLabels | None = Field(
        None, description="what the condition's label noise came to", exclude_if=lambda own: own is None
    )
    capabilities: list[Text] = Field([], description="what the method needs beyond the rule")
    data_digest: Text | None = None
    code: dict[Text, Sha256] = Field(
        {}, description="SHA-256 of the code that made the numbers: adm_core, tasks/TASK, and each method NAME",
        exclude_if=lambda code: not code,
    )  # fmt: skip
    environment: Annotated[dict[str, Scalar], AfterValidator(refuse_persons)] = Field(
        {}, description="versions, device, precision, kernels, git commit; never host, user or paths"
    )
    attempts: list[Attempt] = Field([], description="every try, the last one last")
    origin: Text | None = Field(
        None, description="name of the store from which adm merge took it; left out where it was trained",
        exclude_if=lambda name: name is None,
    )  # fmt: skip

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


class ManifestRow(Stored):
    """A cell's place in a suite's tables."""

    cell: Cell
    id: Hex16
    label: Text = Field(description="the row's label; the seeds of one row share it")
    block: Text = Field(description="title of the table")
    chosen: Text | None = Field(
        None, description="how the row's settings were chosen: default, published, stated by the suite, or how tuned",
        exclude_if=lambda chosen: chosen is None,
    )  # fmt: skip
    controls: list[Text] = Field(
        [], description="labels of the table's rows that this one is held against; left out where there are none",
        exclude_if=lambda controls: not controls,
    )  # fmt: skip

    @model_validator(mode="after")
    def _id_is_the_cells(self) -> Self:
        if self.id != self.cell.id:
            raise ValueError(f"id '{self.id}' is not the cell's, which is '{self.cell.id}'")
        return self


class Manifest(Stored):
    """What a suite's tables consist of. One JSON file each, ``suites/<suite>.json``."""

    schema_version: Literal[2] = 2
    suite: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: Text
    baseline: Text = "none"
    rows: list[ManifestRow]

    def is_another(self, other: Manifest) -> bool:
        """Whether a suite of the same name is another one: its title and its cells are others."""
        return self.title != other.title and {row.id for row in self.rows} != {row.id for row in other.rows}
