"""VGG with batch normalisation for small images (Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556).

The distillation literature's version: one linear classifier on the spatial mean instead of three large ones.
"""

from __future__ import annotations

from torch import Tensor, nn

from tasks.classification.networks.staged import assemble, initialise_convolutions, initialise_head

_WIDTHS = (64, 128, 256, 512, 512)


class HalveAbove(nn.Module):
    """Max pooling by two, only where the map is larger than ``size`` pixels.

    Before the last stage the literature pools 64x64 images but not 32x32 ones, so that 4x4 maps remain in both.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled map [B, C, H/2, W/2], or ``x`` itself."""
        halved: Tensor = self.pool(x) if x.shape[-1] > self.size else x
        return halved


def vgg(num_classes: int, convolutions: int) -> nn.Sequential:
    """Five stages of 64, 128, 256, 512, 512 channels.

    Args:
        num_classes: size of the prediction.
        convolutions: 3x3 convolutions per stage: 1 in VGG-8, 2 in VGG-13.
    """
    before = (3, *_WIDTHS)
    pools = (nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2), HalveAbove(4))
    stages = [
        nn.Sequential(pool, *_layers(inputs, outputs, convolutions))
        for pool, inputs, outputs in zip(pools, before, _WIDTHS, strict=False)
    ]
    network = assemble(nn.Identity(), stages, _WIDTHS[-1], num_classes)
    initialise_convolutions(network)
    initialise_head(network)
    return network


def _layers(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """Convolutions with bias (as the literature's), each normalised and activated."""
    layers = nn.Sequential()
    for number in range(convolutions):
        layers.append(nn.Conv2d(outputs if number else inputs, outputs, 3, padding=1))
        layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
    return layers
