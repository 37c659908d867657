"""The order of weights and images in memory in which convolutions are fastest: channels last."""

from __future__ import annotations

import torch
from torch import nn

from adm_core.errors import AdmError

_BLOCK = 8
"""Channels that oneDNN's kernels for AVX2 take at a time."""


def channels_last(module: nn.Module, what: str) -> None:
    """Put a module's weights in channels-last order.

    Args:
        module: on its device.
        what: it is, for messages.

    Raises:
        AdmError: on a CPU, for a strided convolution of 1x1 that sees fewer than eight channels. In this order
            oneDNN's kernel for AVX2 writes beyond its memory when it forms the gradient of the weights
            (uxlfoundation/oneDNN#6035): the process dies, or the gradient is wrong and nothing tells.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and part.weight.device.type == "cpu" and _gradient_breaks(part):
            raise AdmError(
                f"{what}: {name or 'it'} is a strided 1x1 convolution of {part.in_channels} channels, whose "
                f"gradient torch gets wrong on CPUs below {_BLOCK} channels (uxlfoundation/oneDNN#6035); make it wider"
            )
    module.to(memory_format=torch.channels_last)


def _gradient_breaks(convolution: nn.Conv2d) -> bool:
    narrow = convolution.groups == 1 and convolution.in_channels < _BLOCK
    return narrow and convolution.kernel_size == (1, 1) and max(convolution.stride) > 1
