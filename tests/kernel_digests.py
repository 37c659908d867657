"""Digests of what single operations give on this processor: ``python -m tests.kernel_digests [NAME=VALUE ...]``.

Two machines whose lines agree compute these operations to the same bits; ``diff`` shows which do not. Kernels are the
portable ones, on one thread; variables on the command line are set above them. Inputs are whole numbers, scaled, so
that no generator is asked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from adm_core import kernels

if TYPE_CHECKING:
    from torch import Tensor

PRODUCTS = [(64, 64, 100), (100, 64, 32), (128, 128, 128), (17, 300, 33), (64, 1024, 64)]
CONVOLUTIONS = [(64, 3, 16, 32, 3, 2), (64, 16, 16, 16, 3, 1), (64, 16, 32, 16, 3, 2), (64, 32, 32, 8, 3, 1),
                (64, 64, 64, 4, 3, 1), (64, 16, 32, 16, 1, 2), (8, 64, 16, 1, 1, 1), (8, 128, 128, 5, 3, 1),
                (1, 64, 64, 16, 3, 1)]  # fmt: skip
"""Batch, channels in and out, side, kernel and stride."""
EACH = ["exp", "log", "sqrt", "rsqrt", "erf", "sin", "cos", "tanh", "sigmoid"]


def numbers(*shape: int, seed: int = 1) -> Tensor:
    """Values in [-1, 1] that depend on shape and seed alone."""
    import torch

    count = torch.Size(shape).numel()
    mixed = (torch.arange(count, dtype=torch.int64) + seed * 7919) * 2654435761 % 4294967291 * 48271 % 2147483647
    return (mixed.double() / 2147483647 * 2 - 1).float().reshape(shape)


def operations() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every operation's name, and what computes it."""
    import torch
    from torch.nn import functional as F

    for m, k, n in PRODUCTS:
        a, b, bias = numbers(m, k), numbers(k, n, seed=2), numbers(n, seed=3)
        yield f"product {m}x{k} {k}x{n}", lambda a=a, b=b: a @ b
        yield f"linear {m}x{k} {k}x{n}", lambda a=a, b=b, bias=bias: F.linear(a, b.T.contiguous(), bias)
        yield f"products 4x{m}x{k} {k}x{n}", lambda a=a, b=b: torch.bmm(a.expand(4, -1, -1), b.expand(4, -1, -1))
        yield f"product {m}x{k} {k}", lambda a=a, k=k: a @ numbers(k, seed=5)
    for shape in CONVOLUTIONS:
        for layout in (torch.channels_last, torch.contiguous_format):
            found = lambda shape=shape, layout=layout: _convolution(*shape, layout)  # noqa: E731
            told = "channels last" if layout == torch.channels_last else "channels first"
            yield f"convolution {'x'.join(map(str, shape))}, {told}", found
    values = numbers(64, 100) * 5
    for name in EACH:
        yield name, lambda name=name: getattr(torch, name)(values.abs() if name in ("log", "sqrt", "rsqrt") else values)
    yield "softmax", lambda: values.softmax(1)
    yield "log_softmax", lambda: values.log_softmax(1)
    yield "cross_entropy", lambda: F.cross_entropy(values, torch.arange(64))
    yield "sums", lambda: (values.sum(), values.sum(0), values.sum(1), values.mean(), values.std())
    maps = numbers(8, 16, 9, 9)
    yield "batch_norm", lambda: F.batch_norm(maps, torch.zeros(16), torch.ones(16), training=True)
    yield "group_norm", lambda: F.group_norm(maps, 4)
    yield "bilinear", lambda: F.interpolate(maps, size=(19, 19), mode="bilinear")
    yield "singular values", lambda: torch.linalg.svdvals(values[:, :40])
    yield "eigenvalues", lambda: torch.linalg.eigvalsh(values[:40, :40] + values[:40, :40].T)
    yield "fft", lambda: torch.view_as_real(torch.fft.rfft2(maps))


def _convolution(batch: int, own: int, other: int, side: int, kernel: int, stride: int, layout: Any) -> list[Tensor]:
    """Its output and both gradients."""
    from torch.nn import functional as F

    maps, weight = numbers(batch, own, side, side), numbers(other, own, kernel, kernel, seed=2)
    inputs = [each.contiguous(memory_format=layout).requires_grad_() for each in (maps, weight)]
    out = F.conv2d(*inputs, stride=stride, padding=kernel // 2)
    out.backward(numbers(*out.shape, seed=3).contiguous(memory_format=layout))
    return [out, *(each.grad for each in inputs if each.grad is not None)]


def digest(found: Any) -> str:
    """Of a tensor's bits, or of several."""
    tensors = found if isinstance(found, (list, tuple)) else [found]
    return " ".join(hashlib.sha1(each.detach().contiguous().numpy().tobytes()).hexdigest()[:10] for each in tensors)


def main() -> None:
    """Print a line for each operation."""
    kernels.settle(os.environ, "portable")
    os.environ.update(word.split("=", 1) for word in sys.argv[1:])
    import torch

    torch.set_num_threads(1)
    for name, compute in operations():
        print(f"{name}: {digest(compute())}", flush=True)


if __name__ == "__main__":
    main()
