"""Networks that begin as others are, or follow them: copies that a method keeps, students that start as teachers."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from adm_core.averaging import tensors_of
from adm_core.errors import Unsupported
from adm_core.taps import Network, record, unwrap


def start_as(teacher: Network, student: Network, method: str) -> None:
    """Give a student its teacher's weights to begin with, as a method of this name wants it.

    Raises:
        Unsupported: they are of different architectures.
    """
    try:
        student.module.load_state_dict(teacher.module.state_dict())
    except RuntimeError:
        raise Unsupported(
            f"'{method}' starts the student from the teacher's weights, so both must be one architecture, not "
            f"'{teacher.name}' and '{student.name}'"
        ) from None


class TrainedCopy(nn.Module):
    """A copy of a network that a method trains as a part of its own, in an optimiser of its own or the networks'.

    Args:
        source: the network to copy, as it is now.
    """

    def __init__(self, source: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(unwrap(source.module)).requires_grad_(True)
        self._known = replace(source, module=self.network)

    def forward(self, tap: str, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction on some inputs, and the feature map at a tap."""
        with record(self._known, (tap,)) as seen:
            prediction: Tensor = self.network(*inputs)
        return prediction, seen[tap]


class NetworkCopy(nn.Module):
    """A frozen copy that can follow a network; it travels in checkpoints as a part of the method.

    What it shows on the batch, feature maps included, stands in ``step.copies``; called as a module it gives the
    prediction on other inputs.

    Args:
        source: the network to copy.
        student: the network to follow, a peer or the student, of the same architecture where it is followed.
        trains: whether it runs in training mode where the networks do, with normalisation statistics of its own; else
            it stays in evaluation mode, and its statistics follow as its weights do.
    """

    def __init__(self, source: nn.Module, student: nn.Module, trains: bool = False) -> None:
        super().__init__()
        self.trains = trains
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self.updates = 0
        self._student = (student,)  # in a tuple, so that it does not become a part of this module
        self._exchanged, self._state = False, list[dict[str, Tensor]]()

    def get_extra_state(self) -> dict[str, Any]:
        """How often it has followed, and what an optimiser kept of the weights that are here."""
        return {"updates": self.updates, "state": self._state}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint has."""
        self.updates, self._state = int(state["updates"]), state["state"]

    @torch.no_grad()
    def exchange(self) -> None:
        """Let weights and buffers change places with the student's; the optimiser's state of its weights follows."""
        for one, two in zip(tensors_of(self.network), tensors_of(self._student[0]), strict=True):
            kept = one.clone()
            one.copy_(two)
            two.copy_(kept)
        self._exchanged = True

    def exchange_state(self, optimizer: torch.optim.Optimizer) -> None:
        """After :meth:`exchange`: let what an optimiser keeps of the student's weights change places with what is here.

        What was here at first is as of weights that never moved, zeros.
        """
        if not self._exchanged:
            return
        weights, state = list(self._student[0].parameters()), optimizer.state
        taken = [state[p] for p in weights]
        for p, own, other in zip(weights, self._state or [{} for _ in weights], taken, strict=True):
            # A checkpoint's are on the host.
            state[p] = {k: own[k].to(v.device) if k in own else torch.zeros_like(v) for k, v in other.items()}
        self._state, self._exchanged = taken, False

    def train(self, mode: bool = True) -> NetworkCopy:
        """Stays in evaluation mode, unless it ``trains``."""
        return super().train(mode and self.trains)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The prediction, float32, without gradients."""
        with torch.no_grad():
            prediction: Tensor = self.network(*inputs)
        return prediction.float()

    @torch.no_grad()
    def follow(self, decay: float | Callable[[int], float] = 0.0) -> None:
        """Become ``decay · copy + (1 - decay) · student``, weights and, unless they are its own, statistics.

        Statistics of another network than that of the weights would spoil both: what is followed may change at once,
        as where it changes places with another.

        Args:
            decay: in [0, 1]; 0 takes the student as it is. Or a schedule: how often the copy has followed before to
                the decay of this time.
        """
        student, share = self._student[0], decay(self.updates) if callable(decay) else decay
        own: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(own, list(student.parameters()), 1 - share)
        if not self.trains:
            for mine, other in zip(self.network.buffers(), student.buffers(), strict=True):
                _approach(mine, other, 1 - share)
        self.updates += 1

    @torch.no_grad()
    def follow_fragments(self, decay: float, keep: float, draws: random.Random) -> None:
        """Follow by :meth:`follow`'s average, but leave each weight tensor as it is with probability ``keep``.

        A layer's buffers follow together with its first weight; those of layers without weights always.

        Args:
            decay: in [0, 1].
            keep: in [0, 1].
            draws: randomness, of the host.
        """
        for own, other in zip(self.network.modules(), self._student[0].modules(), strict=True):
            weights = list(zip(own.parameters(recurse=False), other.parameters(recurse=False), strict=True))
            moves = [draws.random() >= keep for _ in weights]
            for mine, theirs in itertools.compress(weights, moves):
                mine.lerp_(theirs, 1 - decay)
            if not moves or moves[0]:
                for buffer, followed in zip(own.buffers(recurse=False), other.buffers(recurse=False), strict=True):
                    _approach(buffer, followed, 1 - decay)
        self.updates += 1


def _approach(mine: Tensor, other: Tensor, share: float) -> None:
    """Go a share of the way to another buffer; what counts, and is not measured, is taken over."""
    if mine.is_floating_point():
        mine.lerp_(other, share)
    else:
        mine.copy_(other)
