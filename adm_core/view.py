"""What a method is given: views of networks on a batch, and the circumstances of the step. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adm_core.card import PredictionKind, members

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from adm_core.batch import Batch
    from adm_core.noising import Noising


class _OnDemand:
    """A field of a dataclass that may be given as a function, which is called when the field is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type | None = None) -> Tensor:
        if instance is None:
            raise AttributeError(self._name)  # so that the dataclass knows of no default
        value = instance.__dict__[self._name]
        if callable(value):
            value = instance.__dict__[self._name] = value()
        return value  # type: ignore[no-any-return]

    def __set__(self, instance: object, value: Tensor | Callable[[], Tensor]) -> None:
        instance.__dict__[self._name] = value


@dataclass(frozen=True)
class View:
    """What one network shows a method on one batch. All tensors are float32.

    Attributes:
        prediction: [B, K] or [B, K, h, w] class logits, or [B, C, h, w] a denoiser's prediction; of the same shape in
            all views of a step (the coarser of dense predictions is interpolated).
        kind: which of these it is.
        features: tap name to feature map [B, C, H, W] (``penultimate``, what the classifier reads, is [B, C] where
            the prediction is one per image).
        task_loss: the task's loss of this network per example [B] or per position of the target [B, H, W], not
            reduced. It may be given as a function that makes it: of what is frozen it is computed when it is read.
        head: the network's own classifier, mapping [..., C] to [..., K]; None where there is none.
        branches: views of the student's branches, its own end first; empty without ``needs.branches``.
    """

    prediction: Tensor
    kind: PredictionKind
    features: Mapping[str, Tensor]
    task_loss: _OnDemand = _OnDemand()
    head: Callable[[Tensor], Tensor] | None = None
    branches: tuple[View, ...] = ()

    def maps(self, taps: Iterable[str]) -> tuple[Tensor, ...]:
        """The maps of taps, in order; a group such as ``all-stages`` gives all of its own."""
        return tuple(self.features[tap] for tap in members(taps, self.features))

    def detached(self) -> View:
        """The same view as a target: no gradient flows back into the network through its tensors."""
        return replace(
            self,
            prediction=self.prediction.detach(),
            features={tap: tensor.detach() for tap, tensor in self.features.items()},
            task_loss=lambda: self.task_loss.detach(),
            head=None if self.head is None else constant(self.head),
            branches=tuple(branch.detached() for branch in self.branches),
        )


def constant(module: Callable[..., Any]) -> Callable[..., Any]:
    """A module as a function whose weights are constants; gradients still pass to its input.

    For a network's classifier as a target, or a critic that judges a network without being trained by it.
    """

    def apply(*inputs: Any) -> Any:
        from torch.func import functional_call

        weights = {name: p.detach() for name, p in module.named_parameters()}  # type: ignore[attr-defined]
        return functional_call(module, weights, inputs)  # type: ignore[arg-type]

    return apply


class ViewsOnDemand(Mapping[str, View]):
    """Views that are made when they are first asked for, so that a copy that is not looked at costs nothing.

    Args:
        makers: name to what makes the view.
    """

    def __init__(self, makers: Mapping[str, Callable[[], View]]) -> None:
        self._makers, self._made = dict(makers), dict[str, View]()

    def __getitem__(self, name: str) -> View:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def under(self, prefix: str) -> ViewsOnDemand:
        """Those whose name begins with a prefix, by the rest of it."""
        own = [name for name in self._makers if name.startswith(prefix)]
        return ViewsOnDemand({name.removeprefix(prefix): lambda name=name: self[name] for name in own})  # type: ignore[misc]


@dataclass(frozen=True)
class Step:
    """The circumstances of one batch.

    Attributes:
        batch: inputs, target, mask and the examples' positions in the training set.
        progress: share of training done, in [0, 1].
        generator: source of randomness on the batch's device, seeded by cell and step.
        views: what every network shows, by role: ``student``, ``teacher``, ``peer1``, ...
        extra: the same on the stronger augmentation, where ``needs.extra_view`` asks for it.
        copies: what the copies of ``needs.copies`` show on the batch, evaluation mode, without gradients; the
            network of mean weights runs as those that it is the mean of. Each is run when it is first asked for, on
            the teacher's augmentation where ``needs.views`` is ``own``.
        phase: name of the phase of ``needs.phases``; empty in the last.
        unlabelled: what every network shows on pictures without labels, where ``needs.unlabelled`` asks for it; the
            ``task_loss`` of these views cannot be read.
    """

    batch: Batch
    progress: float
    generator: Generator
    views: Mapping[str, View] = field(default_factory=dict)
    extra: Mapping[str, View] = field(default_factory=dict)
    copies: ViewsOnDemand = field(default_factory=lambda: ViewsOnDemand({}))
    phase: str = ""
    unlabelled: Mapping[str, View] = field(default_factory=dict)

    @property
    def target(self) -> Tensor:
        """What the prediction is held against: class indices [B] or [B, H, W], or what denoises, [B, C, H, W].

        A dense prediction may be coarser than it.
        """
        return self.batch.target

    @property
    def mask(self) -> Tensor | None:
        """Bool [B, H, W] of the target's positions, true where it is valid; None: everywhere.

        Elsewhere the target holds some class all the same, so that it can index; no term may depend on which.
        """
        return self.batch.mask

    def ramp(self, share: float) -> float:
        """A weight that rises linearly from 0 to 1 over the first ``share`` of training; 1 throughout if that is 0."""
        return min(self.progress / share, 1.0) if share else 1.0

    def decay(self, start: float) -> float:
        """A weight of 1 that falls to 0 along a cosine after the share ``start`` of training."""
        if self.progress <= start:
            return 1.0
        return (1 + math.cos(math.pi * (self.progress - start) / (1 - start))) / 2

    def consistency_ramp(self, share: float) -> float:
        """``exp(-5 (1 - t)²)``, t the linear :meth:`ramp`: a weight that rises to 1 (arXiv:1610.02242)."""
        return math.exp(-5 * (1 - self.ramp(share)) ** 2)

    @property
    def noising(self) -> Noising | None:
        """How noisy inputs came about; set where the networks are denoisers."""
        return self.batch.noising
