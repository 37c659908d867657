"""Fusing a network's levels from the deepest up, so that each knows what the deeper ones do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReviewChain(nn.Module):
    """Attention-based fusion of maps, level by level (Chen et al., arXiv:2104.09044, section 3).

    Args:
        widths: channels of the maps, the finest level first.
        outputs: channels that each level is to have.
        inner: channels in which levels are fused.
    """

    def __init__(self, widths: Sequence[int], outputs: Sequence[int], inner: int) -> None:
        super().__init__()
        deepest = len(widths) - 1
        self.levels = nn.ModuleList(
            _Level(own, inner, output, fuses=number < deepest)
            for number, (own, output) in enumerate(zip(widths, outputs, strict=True))
        )

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Maps [B, C, H, W], the finest first → maps of the output widths and the given heights and widths."""
        found: list[Tensor] = []
        review: Tensor | None = None
        for level, own, size in reversed(list(zip(self.levels, maps, sizes, strict=True))):
            output, review = level(own, review, size)
            found.insert(0, output)
        return found


class _Level(nn.Module):
    def __init__(self, own: int, inner: int, output: int, fuses: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(own, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.leave = nn.Sequential(nn.Conv2d(inner, output, 3, padding=1, bias=False), nn.BatchNorm2d(output))
        self.shares = nn.Sequential(nn.Conv2d(2 * inner, 2, 1), nn.Sigmoid()) if fuses else None
        for convolution in (self.enter[0], self.leave[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)  # type: ignore[arg-type]

    def forward(self, own: Tensor, review: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher's level, and what the next finer level fuses with its own."""
        fused = self.enter(own)
        if self.shares is not None and review is not None:
            deeper = F.interpolate(review, size=tuple(fused.shape[2:]), mode="nearest")
            shares = self.shares(torch.cat([fused, deeper], 1))
            fused = fused * shares[:, :1] + deeper * shares[:, 1:]
        if tuple(fused.shape[2:]) != size:
            fused = F.interpolate(fused, size=size, mode="nearest")
        return self.leave(fused), fused
