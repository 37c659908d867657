"""A way back through the stages of a network: from its last map to maps like those of earlier stages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor, nn


class StageDecoder(nn.Module):
    """Makes maps like those of all stages but the last, of a map like that of the last.

    For each stage a transposed 3×3 convolution of its width and of the stride between the two, batch normalisation and
    ReLU (Li et al., arXiv:2103.14473).

    Args:
        stages: shapes [B, C, H, W] in the order of the network.
    """

    def __init__(self, stages: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        pairs = list(pairwise(reversed(stages)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(low[1], high[1], 3, ceil(high[2] / low[2]), padding=1, bias=False) for low, high in pairs
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(high[1]) for _, high in pairs)

    def forward(self, last: Tensor, stages: Sequence[Tensor]) -> list[Tensor]:
        """Maps of all stages but the last, in the order of the network.

        Args:
            last: [B, C, H, W].
            stages: maps of all stages, whose height and width these get.
        """
        made, x = list[Tensor](), last
        for up, norm, stage in zip(self.up, self.norms, reversed(stages[:-1]), strict=True):
            x = norm(up(x, output_size=stage.shape[2:])).relu()
            made.append(x)
        return made[::-1]

    @torch.no_grad()
    def targets(self, last: Tensor, stages: Sequence[Tensor]) -> list[Tensor]:
        """The same as constants, by its running statistics."""
        trains = self.training
        self.eval()
        made: list[Tensor] = self(last, stages)
        self.train(trains)
        return made
