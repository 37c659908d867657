"""A critic of whole label maps, which a method trains to tell one network's logits from another's, and its layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HALVINGS, _KERNEL = 4, 4


class Spectral(nn.Module):
    """A layer whose weight is divided by its largest singular value (Miyato et al., arXiv:1802.05957); a mixin.

    The value comes from one power iteration that starts at a kept singular vector. A forward pass leaves that vector
    as it is, so that it is a function of its input alone; :meth:`advance` moves it, once per optimiser step.
    """

    weight: Tensor
    singular: Tensor

    def begin(self) -> None:
        """Draw the singular vector and bring it near; called once there is a weight."""
        self.register_buffer("singular", F.normalize(torch.randn(len(self.weight)), dim=0))
        for _ in range(15):
            self.advance()

    def _iterate(self) -> tuple[Tensor, Tensor]:
        weight = self.weight.detach().flatten(1)
        right = F.normalize(weight.T @ self.singular, dim=0)
        return F.normalize(weight @ right, dim=0), right

    def advance(self) -> None:
        """Keep the left singular vector that one power iteration gives."""
        self.singular.copy_(self._iterate()[0])

    def normalised(self) -> Tensor:
        """The weight divided by its largest singular value."""
        with torch.autocast(self.weight.device.type, enabled=False):  # the norm is to hold to more than three digits
            left, right = self._iterate()
            return self.weight / (left @ (self.weight.flatten(1) @ right))


class SpectralConv(Spectral, nn.Conv2d):
    """A convolution of stride 2 with a :class:`Spectral` weight.

    Args:
        channels: of the input.
        width: of the output.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 4, stride=2, padding=1)
        self.begin()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, width, H / 2, W / 2]."""
        return F.conv2d(x, self.normalised(), self.bias, self.stride, self.padding)


class SpectralLinear(Spectral, nn.Linear):
    """A linear layer without bias, with a :class:`Spectral` weight: no vector becomes longer.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.begin()

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs]."""
        return F.linear(x, self.normalised())


class SelfAttention(nn.Module):
    """Self-attention over the positions of a map, added with a learnt share that starts at zero.

    Zhang et al., arXiv:1805.08318, section 3.

    Args:
        width: channels C, at least 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width // 8, 1)
        # A bias of the keys adds the same to all scores of a query and would cancel in the softmax.
        self.key = nn.Conv2d(width, width // 8, 1, bias=False)
        self.value = nn.Conv2d(width, width, 1)
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        query, key, value = (project(x).flatten(2).transpose(1, 2) for project in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.share * seen.transpose(1, 2).reshape(x.shape)


class Critic(nn.Module):
    """Scores of maps of logits, one per patch: the discriminator of SKD (Liu et al., CVPR 2019), without batch norm.

    Four spectrally normalised convolutions of stride 2 (widths 64, 128, 256, 512; slope 0.1), self-attention after
    the last two, and a convolution to one channel. Maps under 64 positions a side take fewer halvings, so that a 4x4
    window remains. The published one first normalises logits over the batch; this one does not, so that a score
    depends on one example alone and nothing but the logits moves it.

    Args:
        classes: channels K of the maps.
        size: their height and width.
        width: of the first convolution, at least 8.
    """

    def __init__(self, classes: int, size: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        halvings = max(n for n in range(_HALVINGS + 1) if n == 0 or min(size) >> n >= _KERNEL)
        layers: list[nn.Module] = []
        channels = classes
        for n in range(halvings):
            layers += [SpectralConv(channels, width << n), nn.LeakyReLU(0.1)]
            channels = width << n
            if n >= halvings - 2:
                layers.append(SelfAttention(channels))
        window = (min(_KERNEL, size[0] >> halvings), min(_KERNEL, size[1] >> halvings))
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, window))

    def forward(self, logits: Tensor) -> Tensor:
        """[B, K, H, W] → scores [B, H', W']; high where they look like the teacher's."""
        scores: Tensor = self.layers(logits)
        return scores.squeeze(1)

    def advance(self) -> None:
        """Follow the weights' singular vectors; called after every optimiser step."""
        for layer in self.layers:
            if isinstance(layer, SpectralConv):
                layer.advance()
