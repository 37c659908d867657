"""Attention that refines a map by its channels, then by its positions (CBAM, Woo et al., arXiv:1807.06521)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SIDE = 7


def pooled_channels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum of each channel over positions: [B, C, H, W] → [B, C] twice."""
    return x.mean((2, 3)), x.amax((2, 3))


def refined(x: Tensor) -> Tensor:
    """The refinement without parameters: a channel, then a position, is weighed by the sigmoid of mean plus maximum.

    Mansourian et al., arXiv:2403.05451, as in the authors' code: what they do with the teacher's maps.
    """
    x = x * sum(pooled_channels(x)).sigmoid()[:, :, None, None]  # type: ignore[union-attr]
    return x * (x.amax(1, keepdim=True) + x.mean(1, keepdim=True)).sigmoid()


class ConvolutionalAttention(nn.Module):
    """The refinement that learns: ``x' = x σ(f(mean x) + f(max x))``, then ``x' σ(g(max x', mean x'))``.

    f is a perceptron of one hidden layer on each channel's mean or maximum over positions, g a 7×7 convolution and
    batch normalisation on each position's maximum and mean over channels (arXiv:1807.06521, section 3).

    Args:
        width: channels of the maps, C.
        reduction: how many times narrower the hidden layer is; it has four units at least.
    """

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(width // reduction, 4)
        self.channels = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        convolution = nn.Conv2d(2, 1, _SIDE, padding=_SIDE // 2, bias=False)
        self.positions = nn.Sequential(convolution, nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        mean, maximum = pooled_channels(x)
        x = x * (self.channels(mean) + self.channels(maximum)).sigmoid()[:, :, None, None]
        scores = self.positions(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1))
        weighed: Tensor = x * scores.sigmoid()
        return weighed
