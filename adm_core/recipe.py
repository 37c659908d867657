"""The training part of a protocol: what is frozen about how networks are trained. Loads no torch."""

from __future__ import annotations

import math
from fnmatch import fnmatch
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adm_core.kernels import Kernels


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimizer(_Frozen):
    """SGD with momentum or AdamW.

    ``lr`` is the peak learning rate; weight decay applies to every parameter, biases and normalisation
    included, as in the KD literature.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False


class OptimizerChange(_Frozen):
    """What one network does differently from the protocol's optimiser; an absent key keeps the protocol's value."""

    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)


class Schedule(_Frozen):
    """Learning rate over training, as a factor on the optimiser's ``lr``.

    ``step`` multiplies by ``gamma`` at each milestone (in epochs); ``cosine`` and ``onecycle`` end at
    ``final`` times the peak; ``poly`` is ``(1 - t) ** power``. The first ``warmup`` epochs rise linearly from
    ``initial`` times the peak (``onecycle``: along a cosine).
    """

    name: Literal["constant", "step", "cosine", "onecycle", "poly"] = "constant"
    warmup: float = Field(0.0, ge=0, description="epochs")
    initial: float = Field(0.04, ge=0, le=1)
    milestones: tuple[float, ...] = ()
    gamma: float = Field(0.1, gt=0, le=1)
    power: float = Field(0.9, gt=0)
    final: float = Field(0.0, ge=0, le=1)

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor on the peak learning rate.

        Args:
            epoch: epochs done so far, fractional within an epoch.
            epochs: length of training.
        """
        if epoch < self.warmup:
            rise = epoch / self.warmup
            if self.name == "onecycle":
                rise = (1 - math.cos(math.pi * rise)) / 2
            return self.initial + (1 - self.initial) * rise
        if self.name == "step":
            return float(self.gamma ** sum(epoch >= m for m in self.milestones))
        done = (epoch - self.warmup) / max(epochs - self.warmup, 1e-12)
        if self.name == "poly":
            return float(max(1 - done, 0.0) ** self.power)
        if self.name in ("cosine", "onecycle"):
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return 1.0


class Recipe(_Frozen):
    """How networks are trained, whatever the task: the frozen part that a protocol file states.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples per optimiser step of one process, all micro-batches together.
        accumulate: micro-batches per optimiser step. Their losses add up to the whole batch's; batch normalisation, and
            methods that relate examples to each other, see one micro-batch.
        precision: ``fp32``; ``tf32``, fp32 whose products a GPU rounds to 10 bits first; ``bf16``; ``fp16``. A CPU has
            neither tf32 nor fp16.
        kernels: ``portable``: on a CPU those that all x86 processors with AVX2 have, so that numbers do not follow from
            its generation, on a GPU deterministic ones; ``native``: the fastest that there are.
        compile: whether networks run compiled by ``torch.compile`` in training steps, or ``reduce-overhead``, on a GPU
            replayed as CUDA graphs too. Numbers are the same to rounding, but for dropout, which draws others; the code
            is made for the machine at hand, so it asks for native kernels.
        clip_norm: largest gradient norm of one network (student and teacher are clipped apart); None: no clipping.
        ema: decay of the exponential moving average of weights that is evaluated; None: the weights themselves.
        optimizer: for every network and for the parts a method trains.
        schedule: of the learning rate.
        networks: shell-style pattern on the network's name to what its optimiser does differently.
        teacher: what a co-trained teacher's optimiser does differently (after ``networks``).
        selection: ``last`` epoch, or ``best-validation`` (best epoch on the split carved from train).
        evaluate_every: epochs between evaluations on the validation split, for the curves.
    """

    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulate: int = Field(1, gt=0)
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    kernels: Kernels = "portable"
    compile: bool | Literal["reduce-overhead"] = False
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    networks: dict[str, OptimizerChange] = {}
    teacher: OptimizerChange = OptimizerChange()
    selection: Literal["last", "best-validation"] = "last"
    evaluate_every: int = Field(1, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Recipe:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _compiled_for_this_machine(self) -> Recipe:
        if self.compile and self.kernels == "portable":
            raise ValueError("compile makes code for the machine at hand; it goes with kernels: native")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Recipe:
        """A shortened training whose schedule was forgotten would never see its full, or its lowered, learning rate."""
        schedule, length = self.schedule, f"training has {self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        if schedule.milestones and schedule.name != "step":
            raise ValueError(f"schedule.milestones: schedule '{schedule.name}' has none; use 'step', or leave them out")
        outside = [f"{milestone:g}" for milestone in schedule.milestones if not 0 < milestone < self.epochs]
        if outside:
            raise ValueError(f"schedule.milestones: {', '.join(outside)} are never reached, as {length}")
        if schedule.warmup >= self.epochs:
            raise ValueError(f"schedule.warmup: {schedule.warmup:g} epochs leave nothing after it, as {length}")
        return self

    def stretched(self, factor: float) -> Recipe:
        """The same training made longer, in whole epochs; warm-up and milestones move with them.

        Args:
            factor: times the epochs, at least 1.
        """
        epochs = round(self.epochs * factor)
        own, longer = self.schedule, epochs / self.epochs
        milestones = tuple(milestone * longer for milestone in own.milestones)
        schedule = own.model_copy(update={"warmup": own.warmup * longer, "milestones": milestones})
        return self.model_copy(update={"epochs": epochs, "schedule": schedule})

    def why_ungrouped(self) -> str | None:
        """Why this training cannot keep groups of gradients apart, to be read after the method's name; None: it can."""
        if self.optimizer.name != "sgd" or self.optimizer.nesterov:
            return f"treats momenta apart, which is defined for SGD without Nesterov, not {self.optimizer.name}"
        if self.clip_norm or self.precision == "fp16":
            return "keeps gradients apart, which clip_norm and precision fp16 would mix"
        return None

    def optimizer_of(self, network: str, role: str) -> Optimizer:
        """The optimiser settings of one network: the protocol's, changed by pattern, then by role.

        Args:
            network: the network's name.
            role: ``"student"`` or ``"teacher"``.
        """
        changes: dict[str, Any] = {}
        matching = [change for pattern, change in self.networks.items() if fnmatch(network, pattern)]
        for change in [*matching, *([self.teacher] if role == "teacher" else [])]:
            changes |= change.model_dump(exclude_none=True)
        return self.optimizer.model_copy(update=changes)


class Protocol(_Frozen):
    """A frozen training recipe for one task, as a file in ``suites/protocols/`` states it.

    Attributes:
        title: one line for people.
        source: where the recipe comes from.
        task: the task it is for.
        recipe: training, the same words for every task.
        data: what the task itself reads (splits, augmentation); validated by the task.
    """

    title: str
    source: str
    task: str
    recipe: Recipe
    data: dict[str, Any] = {}
