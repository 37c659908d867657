"""A classifier on features that it was not made for: another network's, or its own network's with layers added."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

from adm_core.losses.logits import layer_normalised
from adm_core.method import Shapes
from adm_core.taps import Network, record, unwrap


def why_not_reused(student: Shapes, teacher: Shapes) -> str | None:
    """Why the teacher's classifier cannot take the place of the student's, or None when it can: for ``supports``."""
    for network, shapes in (("student", student), ("teacher", teacher)):
        if "head" not in shapes or len(shapes["last"]) != 4:
            return f"the {network}'s classifier is no linear layer on the mean of its last map, as it must be to change"
    return None


class ReusedClassifier(nn.Module):
    """A student up to its last map, a projector, and a classifier on the mean of what that gives.

    All weights are those of the modules given, not copies. The student's own classifier is left out: neither run nor
    counted nor saved.

    Args:
        student: its classifier reads the mean of its last stage.
        projector: from the student's last map to the one that ``head`` was trained on the mean of.
        head: another network's classifier, or the student's own.
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


class Residual(nn.Module):
    """``x + reduce(expand(x))``.

    Args:
        expand: the first layers.
        reduce: those after, which give what has the shape of x.
    """

    def __init__(self, expand: nn.Module, reduce: nn.Module) -> None:
        super().__init__()
        self.expand, self.reduce = expand, reduce

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        result: Tensor = x + self.reduce(self.expand(x))
        return result


class NormalisedClassifier(nn.Module):
    """A classifier whose logits have mean 0 and one deviation (:func:`adm_core.losses.logits.layer_normalised`).

    Args:
        head: maps [B, C] to logits [B, K].
        scale: the deviation.
    """

    def __init__(self, head: nn.Module, scale: float) -> None:
        super().__init__()
        self.head, self.scale = head, scale

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, C] → [B, K]."""
        return layer_normalised(self.head(vectors), self.scale)


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
