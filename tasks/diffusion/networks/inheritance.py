"""The start of a block-removed student: the weights of its teacher's surviving blocks."""

from __future__ import annotations

import re

import torch

from adm_core.errors import AdmError
from adm_core.taps import Network, unwrap
from tasks.diffusion.networks.denoiser import Denoiser


def inherit(student: Network, teacher: Network) -> int:
    """Copy into a student the weights of the teacher's blocks that it has kept (BK-SDM, arXiv:2305.15798, section 3.2).

    Levels correspond counted from the outside. Of a block's layers the student keeps the first ones on the way down; on
    the way up the first ones and, as its last, the teacher's last, which alone takes the skip connection from the next
    outer level. Everything else corresponds by name. A student of the teacher's own architecture becomes its copy.

    Args:
        student: a :class:`Denoiser`; its weights change in place.
        teacher: a :class:`Denoiser`.

    Returns:
        How many tensors were copied: all that the student has.

    Raises:
        AdmError: the student has a tensor that the teacher lacks or has in another shape; nothing was copied.
    """
    own, given = unwrap(student.module), unwrap(teacher.module)
    if not isinstance(own, Denoiser) or not isinstance(given, Denoiser):
        raise AdmError(f"'{student.name}' cannot inherit from '{teacher.name}': both must be U-Nets of Diffusers")
    weights, source = own.state_dict(), given.state_dict()
    origin = {name: _origin(name, own, given) for name in weights}
    who = f"'{student.name}' cannot inherit from '{teacher.name}'"
    for name, other in origin.items():
        if other not in source:
            raise AdmError(f"{who}: its {name} would be the teacher's {other}, which is not there")
        if weights[name].shape != source[other].shape:
            raise AdmError(
                f"{who}: its {name} is {list(weights[name].shape)}, the teacher's {other} {list(source[other].shape)}; "
                "the student must have the teacher's widths"
            )
    with torch.no_grad():
        for name, other in origin.items():
            weights[name].copy_(source[other])
    return len(origin)


def _origin(name: str, own: Denoiser, given: Denoiser) -> str:
    """The teacher's name for one of the student's tensors."""
    found = re.fullmatch(r"unet\.up_blocks\.(\d+)\.(.*)", name)
    if not found:
        return name
    block = int(found[1])
    theirs = block + len(given.unet.up_blocks) - len(own.unet.up_blocks)
    layer = re.fullmatch(r"(resnets|attentions)\.(\d+)\.(.*)", found[2])
    if not layer or theirs < 0:
        return f"unet.up_blocks.{theirs}.{found[2]}"
    kind, number = layer[1], int(layer[2])
    if number == len(getattr(own.unet.up_blocks[block], kind)) - 1:
        number = max(len(getattr(given.unet.up_blocks[theirs], kind, ())) - 1, 0)
    return f"unet.up_blocks.{theirs}.{kind}.{number}.{layer[3]}"
