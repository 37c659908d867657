"""Attention that refines a map: by channels and positions (CBAM, arXiv:1807.06521), or by all other positions."""

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


class GlobalContext(nn.Module):
    """Every position gathers from all others: ``h([x, g(softmax(q kᵀ / √d) v)])``, q, k and v of d = C / 2 channels.

    g and h are 1×1 convolutions with batch normalisation and ReLU; no convolution has a bias (CIRKDv2's "GCN", as in
    the authors' code, winycg/CIRKD at dab64db). Takes memory for (H W)² numbers per image.

    Args:
        width: channels of the maps, C, at least 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nodes = nn.Conv2d(width, 3 * (width // 2), 1, bias=False)
        self.gathered = _activated(width // 2, width)
        self.joined = _activated(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        query, key, value = self.nodes(x).flatten(2).chunk(3, 1)
        shares = (query.transpose(1, 2) @ key / query.shape[1] ** 0.5).softmax(2)
        context = self.gathered((value @ shares.transpose(1, 2)).unflatten(2, x.shape[2:]))
        joined: Tensor = self.joined(torch.cat([x, context], 1))
        return joined


def _activated(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
