"""The skeleton every CIFAR-style network here shares: a stem, stages, a spatial mean and one linear classifier.

Each part is a named child of one ``nn.Sequential``, so every semantic tap is simply a child's output: ``stage1``
to ``stageN`` [B, C, H, W], ``pool`` (tap ``penultimate``) [B, C] and ``head`` (tap ``logits``) [B, K]. Because
``head`` reads the spatial mean of the last stage, it can also be applied at each location of that stage's map.

No activation works in place: a recorded map must keep the value it had when it was recorded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn


class SpatialMean(nn.Module):
    """Mean over height and width: [B, C, H, W] to [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each channel."""
        return x.mean(dim=(2, 3))


class Sum(nn.Module):
    """Two branches of the same input, added: the residual connection.

    Args:
        body: the branch that learns.
        shortcut: the other branch; the identity where shapes allow it.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """``body(x) + shortcut(x)``."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


def assemble(stem: nn.Module, stages: Sequence[nn.Module], width: int, num_classes: int) -> nn.Sequential:
    """A network from its parts.

    Args:
        stem: images [B, 3, H, W] to the input of the first stage.
        stages: each maps [B, C, H, W] to [B, C', H', W'].
        width: channels of the last stage's map.
        num_classes: size of the prediction.

    Returns:
        Children ``stem``, ``stage1`` … ``stageN``, ``pool``, ``head``.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    parts.update((f"stage{number}", stage) for number, stage in enumerate(stages, start=1))
    parts.update(pool=SpatialMean(), head=nn.Linear(width, num_classes))
    return nn.Sequential(parts)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size (apart from its stride), then batch normalisation."""
    return nn.Sequential(convolution(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """:func:`conv_bn` followed by a ReLU."""
    return conv_bn(inputs, outputs, kernel, stride, groups).append(nn.ReLU())


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded so that stride 1 keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def initialise_convolutions(network: nn.Module) -> None:
    """He initialisation from the fan-out (arXiv:1502.01852): variance 2 / (k·k·output channels), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_head(network: nn.Sequential, std: float = 0.01) -> None:
    """A classifier that starts close to the uniform prediction: normal weights of deviation ``std``, bias zero."""
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=std)
    nn.init.zeros_(head.bias)
