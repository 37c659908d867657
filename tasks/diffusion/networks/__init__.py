"""Networks for diffusion, by name: Diffusers' ``UNet2DModel``. Listing and checking them loads no torch.

Own names stand in ``networks.yaml``; ``diffusers/OWNER/NAME`` is the U-Net of a repository on the Hugging Face hub. A
suite's own network has one of these as its base, or the ``config.json`` that Diffusers writes beside a U-Net's weights
(also given as the folder of the U-Net or of its pipeline). Its overrides are keys of ``UNet2DModel``'s config, and
``block_removal`` (see :func:`tasks.diffusion.networks.configs.without_blocks`).

Taps are numbered by level, and levels are counted from the outside, so that the same number means the same level in
networks of different depth, on the way down and on the way up:

- ``down1`` … ``downN``: what the block of a level hands to the next level. It has passed the downsampler and so has the
  next level's resolution, except in the innermost level, which has no downsampler.
- ``mid``: of the innermost resolution; absent where the block is removed.
- ``upN`` … ``up1``: what the block of a level hands outwards, at the next outer level's resolution; ``up1``, the last
  to run, at the image's.
- ``mid.attention``, ``down2.attention``, ``up2.attention``: output of the last self-attention of such a block, at the
  block's own resolution; where it has any.
- ``last``: another word for ``up1``.
- ``noise``: the output of the last convolution, which is the prediction.

Resolutions of equal taps agree, with one exception: where a student lacks the teacher's innermost level, its own
innermost ``down`` tap has twice the side of the teacher's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adm_core.errors import AdmError
from adm_core.network_definition import NetworkDefinition
from tasks.diffusion.networks import configs, folders
from tasks.offer import ListedNetwork, NetworkFile, listed

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adm_core.taps import Network

EXTERNAL = (folders.HUB,)
"""Prefixes of names that a library answers to."""
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def catalogue() -> list[ListedNetwork]:
    """The networks of this task in the order of their file, without torch.

    Parameters are at 3 channels and without classes.
    """
    return [listed(name, configs.taps(configs.resolve(name)), entry) for name, entry in configs.entries().items()]


def check(name: str, where: str) -> None:
    """Stop at a name that cannot be one of a repository on the hub; whether it is there shows once it is built.

    Raises:
        AdmError: says what such a name looks like.
    """
    folders.repository(name, where)


def check_definition(definition: NetworkDefinition) -> None:
    """Stop at a suite's own network that cannot be built, as far as its config file and its overrides tell.

    Raises:
        AdmError: the file is not the config of a ``UNet2DModel``, or an override is unknown or does not fit.
    """
    if definition.file is None and definition.base.startswith(EXTERNAL):
        configs.check_overrides(definition.overrides)
    else:
        configs.resolve(definition.base, definition)


def build(
    name: str,
    channels: int,
    image_size: int,
    classes: int | None = None,
    definition: NetworkDefinition | None = None,
) -> Network:
    """A network with fresh weights, initialised from torch's global generator.

    Args:
        name: a name of the catalogue, ``diffusers/OWNER/NAME``, or any name with a ``definition``.
        channels: of the benchmark's images.
        image_size: their height and width.
        classes: of the benchmark where networks are told the class; None: they are not.
        definition: what a suite's own network is.

    Raises:
        AdmError: no such network (nearest names are given), it is made for other images, or it cannot be built.
    """
    from tasks.diffusion.networks import denoiser

    config = configs.resolve(name, definition)
    return denoiser.build(name, configs.adapted(config, name, channels, image_size, classes))


def locate(place: str, wanted: NetworkFile, where: str) -> Path:
    """The file that a network's config or weights are read from, for a place that is no file itself.

    Args:
        place: a folder that holds a U-Net or a pipeline with one, or ``diffusers/OWNER/NAME``, which is looked for
            among what was downloaded.
        wanted: which of the two.
        where: file and key that named the place, for messages.

    Raises:
        AdmError: nothing is there, it is something else, or its weights are not one safetensors file.
    """
    try:
        return folders.locate(place, wanted)
    except AdmError as error:
        raise AdmError(f"{where}: {error}") from error


def as_denoiser(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ``UNet2DModel`` by the names that a :class:`~tasks.diffusion.networks.denoiser.Denoiser` has.

    Names get the prefix ``unet.`` where they lack it, and attention layers that Diffusers wrote before its version 0.15
    get their present names, as Diffusers itself does when it loads them.
    """
    renamed = {}
    for name, tensor in weights.items():
        old = re.fullmatch(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.\w+)", name)
        present = f"{old[1]}{_OLD_ATTENTION[old[2]]}{old[3]}" if old else name
        renamed[f"unet.{present.removeprefix('unet.')}"] = tensor
    return renamed
