"""How a network wants its images normalised where that is not how the benchmark normalises them.

Batches are normalised once, as the benchmark says. A network that was made with other means and deviations brings its
input to these itself, so that teacher and student may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adm_core.errors import AdmError
from adm_core.network_definition import NetworkDefinition

Channels = tuple[float, ...]
_WANTED = "input_normalisation"


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel of pixel values in 0..1."""

    mean: Channels
    std: Channels

    def __str__(self) -> str:
        return f"mean {list(self.mean)}, std {list(self.std)}"


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel.

    Args:
        mean: of images in 0..1.
        std: of the same.
    """

    def __init__(self, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W], of the same shape."""
        return (images - self.get_buffer("mean")) / self.get_buffer("std")


def of_network(name: str, definition: NetworkDefinition, benchmark: Normalisation, classes: int) -> Normalisation:
    """How a suite's own network wants its images.

    It is what its ``overrides`` say. Without a word there, weights from elsewhere are taken for the library's where
    they have the library's number of classes, and want what these were made with; a network that is trained here wants
    what the benchmark has.

    Args:
        name: of the network, for messages.
        definition: what it is.
        benchmark: what batches have.
        classes: of the benchmark.

    Raises:
        AdmError: it cannot be told: the library's weights differ among themselves, or theirs is another number of
            classes; or ``library`` is asked for and there is none.
    """
    asked = definition.overrides.get("normalisation")
    if isinstance(asked, Mapping):
        return Normalisation(tuple(map(float, asked["mean"])), tuple(map(float, asked["std"])))
    if asked == "benchmark" or (asked is None and not definition.brought):
        return benchmark
    known = _of_library(definition.base)
    of_classes = {normalisation for normalisation, count in known if count == classes}
    found = of_classes or {normalisation for normalisation, _ in known}
    if (len(found) == 1 and (of_classes or asked == "library")) or (asked is None and found <= {benchmark}):
        return next(iter(found), benchmark)
    if asked == "library" and not found:
        raise AdmError(f"network '{name}': overrides.normalisation: {definition.base} has no weights of a library")
    told = " or ".join(sorted(map(str, found)))
    why = "weights of several kinds" if of_classes else f"weights of another number of classes than {classes}"
    raise AdmError(
        f"network '{name}': {definition.base} has in its library {why}, made for {told}, and the benchmark's images "
        f"have {benchmark}; say in its overrides which the checkpoint is used to: {{normalisation: benchmark}}, as "
        "for weights that were trained here, or {normalisation: {mean: [., ., .], std: [., ., .]}}"
    )


def renormalise(module: nn.Module, given: Normalisation, wanted: Normalisation) -> None:
    """Let a network bring images that are normalised one way to another, before it does anything else.

    Its state stays as it is: names and tensors are the library's.

    Args:
        module: the network; takes images [B, C, H, W] first.
        given: how its images come.
        wanted: how its weights want them; nothing happens where it is the same.
    """
    if given == wanted:
        return
    mean, std, own_mean, own_std = (
        torch.tensor(part, dtype=torch.float64) for part in (given.mean, given.std, wanted.mean, wanted.std)
    )
    module.register_buffer("input_scale", (std / own_std).float().view(1, -1, 1, 1), persistent=False)
    module.register_buffer("input_shift", ((mean - own_mean) / own_std).float().view(1, -1, 1, 1), persistent=False)
    module.register_forward_pre_hook(_bring)
    setattr(module, _WANTED, wanted)


def told(module: nn.Module) -> str:
    """For people: how a network brings its images; empty where it takes them as the benchmark has them."""
    wanted = getattr(module, _WANTED, None)
    return f"images are normalised for it by {wanted}, instead of as the benchmark's are" if wanted else ""


def _bring(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = inputs
    scale, shift = module.get_buffer("input_scale"), module.get_buffer("input_shift")
    return images * scale + shift, *others


def _of_library(base: str) -> list[tuple[Normalisation, int]]:
    """What each of a library's trained weights of an architecture was made for, and its number of classes."""
    library, _, name = base.partition("/")
    if library == "timm":
        from timm.models import get_arch_pretrained_cfgs

        architecture, _, tag = name.partition(".")
        configs: Mapping[str, Any] = get_arch_pretrained_cfgs(architecture)
        chosen = [config for full, config in configs.items() if not tag or full == name]
        return [(Normalisation(tuple(c.mean), tuple(c.std)), int(c.num_classes)) for c in chosen]
    if library == "torchvision":
        from torchvision import models

        found = [(weights.transforms(), len(weights.meta["categories"])) for weights in models.get_model_weights(name)]
        return [(Normalisation(tuple(made.mean), tuple(made.std)), count) for made, count in found]
    return []
