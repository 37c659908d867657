"""Networks that begin as others are, or follow them: copies that a method keeps, students that start as teachers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adm_core.errors import Unsupported
from adm_core.taps import Network


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


class NetworkCopy(nn.Module):
    """A frozen copy in evaluation mode that can follow a network; it travels in checkpoints as a part of the method.

    What it shows on the batch, feature maps included, stands in ``step.copies``; called as a module it gives the
    prediction on other inputs.

    Args:
        source: the network to copy.
        student: the network to follow, a peer or the student, of the same architecture where it is followed.
    """

    def __init__(self, source: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self.updates = 0
        self._student = (student,)  # in a tuple, so that it does not become a part of this module

    def get_extra_state(self) -> int:
        """How often it has followed."""
        return self.updates

    def set_extra_state(self, state: int) -> None:
        """Take up the count of a checkpoint."""
        self.updates = int(state)

    def train(self, mode: bool = True) -> NetworkCopy:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The prediction, float32, without gradients."""
        with torch.no_grad():
            prediction: Tensor = self.network(*inputs)
        return prediction.float()

    @torch.no_grad()
    def follow(self, decay: float | Callable[[int], float] = 0.0) -> None:
        """Become ``decay · copy + (1 - decay) · student``: weights are averaged, buffers taken over.

        Args:
            decay: in [0, 1]; 0 takes the student as it is. Or a schedule: how often the copy has followed before to
                the decay of this time.
        """
        student, share = self._student[0], decay(self.updates) if callable(decay) else decay
        own: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(own, list(student.parameters()), 1 - share)
        for mine, other in zip(self.network.buffers(), student.buffers(), strict=True):
            mine.copy_(other)
        self.updates += 1
