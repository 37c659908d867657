"""Running networks on a batch and turning what they give into views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from adm_core import align
from adm_core.batch import Batch
from adm_core.branches import Branch, divided_gradient
from adm_core.card import Branches, PredictionKind
from adm_core.errors import AdmError
from adm_core.losses.spatial import masked_mean
from adm_core.seeds import sow
from adm_core.taps import Network, check_fired, record
from adm_core.view import View

TaskLoss = Callable[[Tensor, Batch], Tensor]
"""(prediction, batch) → loss per example [B] or per position of the target [B, H, W], not reduced."""
Forward = Callable[..., Tensor]
"""(module, the taps that are recorded, inputs ...) → prediction."""


def run(module: nn.Module, listened: tuple[str, ...], *inputs: Tensor) -> Tensor:
    """A network's prediction; compiled, it holds for the very taps with which it was compiled.

    Raises:
        AdmError: a tap has no name.
    """
    # Torch does not compile anew where other modules have hooks than before, but where a value differs that was read.
    if "" in listened:
        raise AdmError("a tap must have a name")
    prediction: Tensor = module(*inputs)
    return prediction


@dataclass(frozen=True)
class Shown:
    """What a frozen teacher shows on a micro-batch, for whoever reads it.

    Attributes:
        view: on its input.
        extra: on the stronger augmentation; None where there is none.
        unlabelled: on the pictures without labels; None where there are none.
    """

    view: View
    extra: View | None = None
    unlabelled: View | None = None


class Showing:
    """How the networks of a distiller are run and what is read from them.

    Args:
        kind: what the networks predict.
        task_loss: the task's loss per element.
        taps: what the method reads.
        head: whether it applies the networks' classifiers.
        cut: how the student is cut into branches; None: it is not.

    Attributes:
        forward: what runs the networks, :func:`run` or that compiled.
    """

    def __init__(
        self,
        kind: PredictionKind,
        task_loss: TaskLoss,
        taps: Sequence[str],
        head: bool,
        cut: Branches | None = None,
    ) -> None:
        self.kind, self.task_loss, self.taps, self.head, self.cut = kind, task_loss, tuple(taps), head, cut
        self.forward: Forward = run

    def show(
        self,
        network: Network,
        inputs: Tensor,
        batch: Batch,
        gradients: bool,
        auxiliary: bool,
        branches: Sequence[Branch] = (),
    ) -> tuple[View, Tensor | None]:
        """A network's view of inputs, and the weighted loss of its auxiliary predictions where there are any.

        Args:
            network: is run once.
            inputs: [B, C, H, W].
            batch: conditions and target.
            gradients: whether it is to be differentiated.
            auxiliary: whether its auxiliary predictions count.
            branches: further ends of it, run on what its beginning gave.
        """
        further = dict(network.auxiliary) if auxiliary else {}
        listened = tuple(dict.fromkeys((*self.taps, *further, *(branch.after for branch in branches))))
        with torch.set_grad_enabled(torch.is_grad_enabled() and gradients), ExitStack() as hooks:
            if branches and self.cut and self.cut.mean_gradient:
                hooks.enter_context(divided_gradient(network, self.cut.after, self.cut.count))
            seen = hooks.enter_context(record(network, listened))
            prediction = self.forward(network.module, listened, inputs, *batch.conditions).float()
        check_fired(network, listened, seen)
        weighted = [
            weight * masked_mean(self.task_loss(seen[tap].float(), batch), batch.mask)
            for tap, weight in further.items()
        ]
        features, labelled = {tap: seen[tap].float() for tap in self.taps}, inputs is not batch.unlabelled_input
        view = self._view(network, prediction, features, batch, gradients and labelled)
        view = view if labelled else replace(view, task_loss=_no_labels)
        if branches:
            ends = (self._show_end(b, seen[b.after], view.features, inputs, batch) for b in branches)
            view = replace(view, branches=(view, *ends))
        return view, sum(weighted[1:], weighted[0]) if weighted else None

    def beside(
        self,
        name: str,
        inputs: Tensor,
        batch: Batch,
        networks: Mapping[str, tuple[Network, bool]],
        seed: int,
        teacher: View | None = None,
    ) -> dict[str, View]:
        """What networks show on the further inputs of a batch, each from a random stream of its own.

        Args:
            name: of the inputs: ``extra`` or ``unlabelled``.
            inputs: [B, C, H, W].
            batch: conditions and target.
            networks: by role, each with whether it is to be differentiated.
            seed: of the step.
            teacher: what a frozen teacher shows on them, where that is known.
        """
        found = {}
        for role, (network, trains) in networks.items():
            if role == "teacher" and teacher:
                found[role] = self.part_of(teacher)
            else:
                sow(inputs.device, seed, role, name)
                found[role] = self.show(network, inputs, batch, trains, False)[0]
        return match_predictions(found)

    def part_of(self, view: View) -> View:
        """Of a view with further taps, what is read here."""
        features = {tap: view.features[tap] for tap in self.taps}
        head = view.head if self.head else None
        return replace(view, features=features, head=head, task_loss=lambda: view.task_loss)

    def _show_end(
        self, branch: Branch, start: Tensor, shared: Mapping[str, Tensor], inputs: Tensor, batch: Batch
    ) -> View:
        """A branch's view: maps of its own end, and the shared ones."""
        own = tuple(tap for tap in self.taps if branch.network.own_tap(tap) in branch.own)
        branch.start_from(start)
        with record(branch.network, own) as seen:
            prediction = branch(inputs, *batch.conditions).float()
        check_fired(branch.network, own, seen)
        features = {**shared, **{tap: seen[tap].float() for tap in own}}
        return self._view(branch.network, prediction, features, batch, True)

    def _view(
        self, network: Network, prediction: Tensor, features: Mapping[str, Tensor], batch: Batch, trains: bool
    ) -> View:
        head = network.classifier() if self.head else None
        # A frozen network's loss is read by few methods; at many classes and pixels it costs time and memory.
        loss = self.task_loss(prediction, batch) if trains else lambda: self.task_loss(prediction, batch)
        return View(prediction, self.kind, features, loss, head)


def _no_labels() -> Tensor:
    raise AdmError("the task loss of a view in step.unlabelled was read, and these pictures have no labels")


def match_predictions(views: Mapping[str, View]) -> dict[str, View]:
    """Views whose dense predictions have all the size of the finest."""
    sizes = [tuple(view.prediction.shape[2:]) for view in views.values()]
    finest = reduce(lambda a, b: tuple(map(max, a, b)), sizes)
    if len(finest) != 2:
        return dict(views)
    size = (finest[0], finest[1])
    return {role: _at(view, size) for role, view in views.items()}


def at_size_of(other: View, view: View) -> View:
    """The view with its dense predictions at another one's height and width."""
    size = tuple(other.prediction.shape[2:])
    return _at(view, (size[0], size[1])) if len(size) == 2 else view


def _at(view: View, size: tuple[int, int]) -> View:
    branches = tuple(_at(branch, size) for branch in view.branches)
    resized = align.resize_map(view.prediction, size)
    return replace(view, prediction=resized, task_loss=lambda: view.task_loss, branches=branches)
