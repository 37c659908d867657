"""Finding stages, pooled vector and classifier in a network that does not name them, from one forward pass.

A *stage* ends where the map is handed to whatever makes it smaller. So the end of a stage is the outermost module
whose output is the input of the outermost module that reduces the size; the last stage ends with the last map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHRINKS = 1.5  # an unpadded convolution loses a few pixels; that is no downsampling
MOST_STAGES = 4  # the deepest ones, so that stage4 means stride 32 in nearly every ImageNet network


@dataclass
class Call:
    """One call of one module: its path, what it read (None unless a tensor) and what it gave."""

    path: str
    module: nn.Module
    read: Tensor | None
    gave: Tensor | None = None


@dataclass(frozen=True)
class Trace:
    """What happened in one forward pass.

    Attributes:
        calls: in the order in which they began, so that a module comes before its children.
        ended: the same calls in the order in which they ended.
        prediction: the output of the model, [1, K] for a classifier.
    """

    calls: Sequence[Call]
    ended: Sequence[Call]
    prediction: object

    def output(self, path: str) -> Tensor | None:
        """What the module at this path gave last."""
        return next((call.gave for call in reversed(self.ended) if call.path == path), None)

    def maker(self, tensor: object) -> str | None:
        """Path of the outermost module whose last output is this very tensor, if a module made it."""
        paths = (call.path for call in self.calls if call.path and call.gave is tensor)
        return next((path for path in paths if self.output(path) is tensor), None)

    def head(self) -> Call | None:
        """The linear layer whose output is the prediction."""
        linear = [call for call in self.calls if isinstance(call.module, nn.Linear)]
        return next((call for call in linear if call.gave is self.prediction), None)


def trace(model: nn.Module, image: Tensor) -> Trace:
    """Run a model in evaluation mode and note every call of every module.

    Args:
        model: left in the mode it was in.
        image: one input [1, 3, H, W].
    """
    calls: list[Call] = []
    ended: list[Call] = []
    open_calls: dict[int, list[Call]] = {}

    def before(path: str, module: nn.Module, inputs: tuple[object, ...]) -> None:
        read = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        calls.append(Call(path, module, read))
        open_calls.setdefault(id(module), []).append(calls[-1])

    def after(module: nn.Module, output: object) -> None:
        ended.append(open_calls[id(module)].pop())
        ended[-1].gave = output if isinstance(output, Tensor) else None

    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, i, path=path: before(path, m, i)))
        handles.append(module.register_forward_hook(lambda m, _i, output: after(m, output)))
    was_training = model.training
    try:
        with torch.no_grad():
            prediction = model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return Trace(calls, ended, prediction)


def stages(seen: Trace) -> list[str]:
    """Paths of the modules at which stages end, shallow to deep, at most :data:`MOST_STAGES`.

    A first map made by a single convolution is a stem, not a stage; neither is a map that no convolution made.
    """
    sizes = {size for call in seen.calls if (size := map_size(call.gave))}
    ends: dict[int, Tensor] = {}
    for call in seen.calls:
        size, smaller = map_size(call.read), map_size(call.gave)
        between = any(smaller < other <= size / SHRINKS for other in sizes)
        if smaller and size >= SHRINKS * smaller and not between and call.read is not None:
            ends.setdefault(size, call.read)
    last = _last_map(seen)
    if last is not None:
        ends.setdefault(map_size(last), last)
    counts = {size: _convolutions(seen, size, end) for size, end in ends.items()}
    kept = [end for size, end in sorted(ends.items(), reverse=True) if counts[size] > (size == max(sizes))]
    return [path for end in kept if (path := seen.maker(end))][-MOST_STAGES:]


def map_size(tensor: Tensor | None) -> int:
    """Height of a square map [B, C, H, H] of more than one pixel, else 0."""
    if tensor is None or tensor.ndim != 4 or tensor.shape[2] != tensor.shape[3] or tensor.shape[2] == 1:
        return 0
    return tensor.shape[2]


def reads_mean_of(head: Call, stage: Tensor | None) -> bool:
    """Whether the classifier read exactly the spatial mean of this map [1, C, H, W]."""
    return stage is not None and stage.ndim == 4 and _equal(head.read, stage.mean(dim=(2, 3)))


def vector_read_by(seen: Trace, head: Call) -> str | None:
    """Path of the first module whose output is the vector [B, C] that the classifier reads."""
    return next((call.path for call in seen.calls if call.path and _equal(head.read, call.gave)), None)


def unflattened_pool(seen: Trace, head: Call) -> str | None:
    """Path of a pooling layer that gives the classifier's vector as [B, C, 1, 1]."""
    pools = [c for c in seen.calls if c.gave is not None and c.gave.ndim == 4 and not list(c.module.parameters())]
    return next((c.path for c in pools if c.gave is not None and _equal(head.read, c.gave.flatten(1))), None)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Same shape and, relative to the size of the values, same values; two tensors of zeros prove nothing."""
    if one is None or other is None or one.shape != other.shape or one.ndim != 2:
        return False
    return bool(one.norm() > 0 and (one - other).norm() <= 1e-4 * one.norm())


def _last_map(seen: Trace) -> Tensor | None:
    """The deepest map: of the smallest size there is, the one that was finished last."""
    maps = [call.gave for call in seen.ended if map_size(call.gave)]
    smallest = min(map(map_size, maps), default=0)
    return next((tensor for tensor in reversed(maps) if map_size(tensor) == smallest), None)


def _convolutions(seen: Trace, size: int, end: Tensor) -> int:
    """How many convolutions made maps of this size before the one with which the stage ends was there."""
    count = 0
    for call in seen.calls:
        if call.read is end:
            break
        count += isinstance(call.module, nn.Conv2d) and map_size(call.gave) == size
    return count
