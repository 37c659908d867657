"""One network's classifier on another network's features."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

from adm_core.taps import Network, record, unwrap


class ReusedClassifier(nn.Module):
    """A student up to its last map, a projector, and another network's classifier on the mean of what that gives.

    All weights are those of the modules given, not copies. The student's own classifier is left out: neither run nor
    counted nor saved.

    Args:
        student: its classifier reads the mean of its last stage.
        projector: from the student's last map to the one that ``head`` was trained on the mean of.
        head: another network's classifier.
    """

    def __init__(self, student: Network, projector: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self._student = _without_head(student)
        self.body, self.projector, self.head = self._student.module, projector, head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits [B, K]."""
        with record(self._student, ("last",)) as seen:
            self.body(*inputs)
        logits: Tensor = self.head(self.projector(seen["last"]).mean((2, 3)))
        return logits


def _without_head(network: Network) -> Network:
    """The same modules, those that hold the classifier copied without their content, the classifier passing over."""
    *way, last = (network.head or "").split(".")
    root = holder = _shell(unwrap(network.module))
    for name in way:
        shell = _shell(holder.get_submodule(name))
        holder._modules[name] = shell
        holder = shell
    holder._modules[last] = nn.Identity()
    return replace(network, module=root, head=None)


def _shell(module: nn.Module) -> nn.Module:
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell
