"""What a task gives the training loop: batches, a loss, an evaluation. Tasks write no loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from adm_core.errors import AdmError, Unsupported
from adm_core.method import Facts, Needs, PredictionKind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from adm_core.batch import Batch, Share
    from adm_core.benchmark_definition import BenchmarkDefinition
    from adm_core.condition import Condition
    from adm_core.insight import ObjectExamples
    from adm_core.network_definition import NetworkDefinition
    from adm_core.recipe import Protocol
    from adm_core.taps import Network

Scores = dict[str, dict[str, float | None]]
"""Role (``student``, ``teacher``, ``peer1``, ``branch2``, :data:`ENSEMBLE`) to metric to value; None where a metric
cannot be had."""
ENSEMBLE = "ensemble"
"""What networks that train as equals predict together: the mean of their softmax outputs."""


def equals(roles: Iterable[str]) -> list[str]:
    """Those of the networks' roles that make up an ensemble: peers, or branches; none where a student trains alone or
    beside a teacher."""
    trained = [role for role in roles if role != "teacher"]
    return trained if len(trained) > 1 else []


@dataclass(frozen=True)
class Offered:
    """What a task shows methods on a benchmark under a protocol, as far as needs ask for it; known before it is opened.

    Attributes:
        prediction: what its networks predict.
        own_views: an augmentation of its own for each of two networks.
        extra_view: a second, stronger one.
        balanced: batches with as many examples of each of their classes.
        unlabelled: further pictures without labels.
        branches: networks that can be cut in two.
        null_class: networks that are sometimes told no class.
        timesteps: of the noise schedule; 0: there is none.
        clean_example: denoisers whose prediction tells the clean example at every timestep.
    """

    prediction: PredictionKind
    own_views: bool = True
    extra_view: bool = False
    balanced: bool = False
    unlabelled: bool = False
    branches: bool = True
    null_class: bool = False
    timesteps: int = 0
    clean_example: bool = True

    def why_not(self, needs: Needs, task: str) -> str | None:
        """Why a method that needs this cannot run; None where it can, as far as this tells.

        Args:
            needs: of the method.
            task: by which the reason names it.
        """
        if needs.prediction not in (None, self.prediction):
            return f"the method reads {needs.prediction}, this task predicts {self.prediction}"
        if needs.views == "own" and not self.own_views:
            return f"the method gives each network a view of its own, which {task} does not have"
        if needs.extra_view and not self.extra_view:
            return f"the method needs a second, {needs.extra_view} view, which {task} does not have"
        if needs.per_class and not self.balanced:
            return f"the method needs batches with balanced classes, which {task} does not draw"
        if needs.branches and not self.branches:
            return f"the method trains copies of the student's end, and networks of {task} cannot be cut"
        if needs.unlabelled and not self.unlabelled:
            return "the method needs pictures without labels, and only a block under a shift has some"
        if "null-class" in needs.capabilities and not self.null_class:
            return (
                "the method needs networks that are sometimes told no class; a protocol's data.conditional and "
                "data.label_dropout train some"
            )
        if needs.timesteps > self.timesteps:
            return f"{needs.timesteps} sampling steps do not fit into a noise schedule of {self.timesteps} timesteps"
        if needs.clean_example and not self.clean_example:
            return (
                "the method asks networks for the clean example where the noise schedule ends in noise alone, and to "
                "predict noise says nothing of it there; set the protocol's data.noise.prediction, or "
                "data.noise.schedule: linear"
            )
        return None


@dataclass(frozen=True)
class TaskContext:
    """What a task is opened with.

    Attributes:
        benchmark: ``name@version``, one of the task's; or the name of ``own``.
        protocol: its ``data`` part is the task's: how splits are made, augmented and scored.
        seed: of the batches.
        device: where networks and batches live.
        data_roots: folders in which data sets are looked for, in this order.
        needs: of the method; a task reads what concerns its batches, such as ``views``.
        download: whether a missing data set may be fetched where its publisher allows it.
        artefacts: folder for what all cells of a benchmark need and one computes; None: nothing is kept.
        own: a benchmark that the suite defines, for tasks that offer it; None: the benchmark is the task's.
        condition: what is made of the benchmark, for tasks that offer it; None: it is as it is.
    """

    benchmark: str
    protocol: Protocol
    seed: int
    device: torch.device
    data_roots: Sequence[Path] = ()
    needs: Needs = field(default_factory=Needs)
    download: bool = False
    artefacts: Path | None = None
    own: BenchmarkDefinition | None = None
    condition: Condition | None = None

    def check_needs(self, offered: Offered) -> None:
        """Stop where the method needs what the task cannot show it; a task calls this when it is opened, before data.

        Raises:
            Unsupported: says what is not offered.
        """
        reason = offered.why_not(self.needs, self.protocol.task)
        if reason:
            raise Unsupported(reason)


class Task(ABC):
    """A task opened on one benchmark with one protocol.

    Attributes:
        benchmark: ``name@version``.
        kind: what networks predict.
        steps_per_epoch: batches in an epoch.
        has_validation: whether there is a validation split.
        metric: name of the primary metric, one of those that :meth:`evaluate` gives.
        higher_is_better: its direction.
        unit: its unit, e.g. ``%``; empty where it has none.
        costs: what the last evaluation took, by name in a record's cost, beside what the loop measures.
        noise: what label noise came to: ``digest`` (SHA-256) of the labels, how many are ``flipped`` of how many
            ``examples``; empty where there is none.
    """

    benchmark: str
    kind: PredictionKind
    steps_per_epoch: int
    has_validation: bool
    metric: str
    higher_is_better: bool
    unit: str
    costs: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    noise: Mapping[str, str | int] = MappingProxyType({})

    @abstractmethod
    def __init__(self, context: TaskContext) -> None:
        """Open a benchmark.

        Raises:
            AdmError: unknown benchmark, invalid data settings, missing or damaged data, or a need that cannot be met.
        """

    @abstractmethod
    def network(self, name: str, definition: NetworkDefinition | None = None) -> Network:
        """A network for this benchmark, initialised from torch's global generator, on the device.

        Args:
            name: of a network that the task knows, or the suite's own with its ``definition``.
            definition: what a network of the suite's own is.

        Raises:
            AdmError: no such network, or it cannot be built.
        """

    @abstractmethod
    def load(self, network: Network, weights: Mapping[str, Tensor], where: str) -> str:
        """Put weights from elsewhere into a network; ``where`` names their file in messages.

        Returns:
            What had to be done to their names, for people; mostly nothing.

        Raises:
            AdmError: they are not this network's, or are made for another benchmark.
        """

    def inherit(self, student: Network, teacher: Network) -> None:
        """Let a student take over weights of its trained teacher before training, where the protocol asks for it."""
        return None

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """The arguments of a network's forward for two examples, to find shapes with."""

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch (from 0) from step ``start`` on; a pure function of seed, epoch and step."""

    def shares(self, epoch: int, start: int, share: Share) -> Iterator[Batch]:
        """What one of several processes takes of these batches; a task that decodes files leaves the rest undecoded."""
        return map(share.of, self.batches(epoch, start))

    @abstractmethod
    def facts(self) -> Facts:
        """What there is to train on: number of examples, classes, labels, steps, batch size."""

    @abstractmethod
    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """The loss of a prediction on a batch per example [B] or per position [B, H, W], not reduced."""

    @abstractmethod
    def evaluate(self, networks: Mapping[str, Network], split: str) -> Scores:
        """Metrics of each network on ``validation`` or ``test``; one named ``group/part`` stands for a slice.

        Where networks predict classes, those of :data:`ENSEMBLE` too if some are :func:`equals`.

        Raises:
            AdmError: the protocol has no such split.
        """

    def object_examples(self, count: int) -> Iterator[ObjectExamples]:
        """Examples of the split that is scored with their exact object masks, the same ones in the same order.

        Args:
            count: how many; all where there are fewer.

        Raises:
            AdmError: this benchmark has no object masks.
        """
        raise AdmError(f"benchmark '{self.benchmark}' has no object masks")

    def export(self, network: Network, folder: Path) -> None:
        """Also write a trained network in the form that the task's own library loads, where it has one."""
        return None

    def standalone(self, network: Network) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """A trained network as a module that takes what people have rather than batches; arguments for two examples."""
        return network.module, self.example()

    def data_digest(self) -> str | None:
        """What identifies the data trained and scored on, without reading through sets of files; None: nothing does."""
        return None


class GenerativeTask(Task):
    """A task whose networks make images."""

    @abstractmethod
    def samples(self, network: Network, count: int) -> Tensor:
        """The first images that a network makes when it is scored, float32 [count, C, H, W] in [-1, 1].

        Where the protocol makes fewer, there are fewer.
        """
