"""Making feature maps of two networks comparable: one resolution, one width."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.card import members
from adm_core.errors import AdmError
from adm_core.method import Shapes

Width = Literal["auto", "identity", "pool", "class", "attention", "projector"]
"""How maps of different width are compared; see :func:`match_width` (``attention`` compares scalar maps)."""


def why_not_maps(taps: Iterable[str], student: Shapes, teacher: Shapes) -> str | None:
    """Why a method cannot read these taps as feature maps [B, C, H, W], or None when it can: for ``supports``."""
    flat = [tap for tap in members(taps, student) if len(student[tap]) != 4 or len(teacher[tap]) != 4]
    return f"tap {', '.join(flat)} is not a feature map [B, C, H, W] on both networks" if flat else None


def why_no_regressor(tap: str, student: Shapes, teacher: Shapes) -> str | None:
    """Why :func:`make_hint_regressor` cannot bring the student's map to the teacher's shape, or None when it can."""
    s, t = student[tap], teacher[tap]
    if len(s) != 4 or len(t) != 4:
        return why_not_maps((tap,), student, teacher)
    if s[2] < t[2] and 2 * s[2] != t[2]:
        return f"the student's {tap} ({s[2]}x{s[3]}) is too small for the teacher's ({t[2]}x{t[3]})"
    return None


def match_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps [B, C, H, W] to the smaller one's height and width."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return pool_map(a, size), pool_map(b, size)


def match_predictions(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate the coarser of two dense predictions [B, K, H, W] bilinearly to the finer one's height and width.

    Predictions that agree in shape, or are not dense, are returned as they are.
    """
    if a.dim() != 4 or b.dim() != 4 or a.shape[2:] == b.shape[2:]:
        return a, b
    size = (max(a.shape[2], b.shape[2]), max(a.shape[3], b.shape[3]))
    return resize_map(a, size), resize_map(b, size)


_POOLS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "mean": (F.adaptive_avg_pool2d, F.avg_pool2d),
    "max": (F.adaptive_max_pool2d, F.max_pool2d),
}
"""Over cells of any sizes, and over cells of one size."""


def pool_map(features: Tensor, size: tuple[int, int], of: Literal["mean", "max"] = "mean") -> Tensor:
    """A map [B, C, H, W] averaged over the cells of a grid, [B, C, h, w], or their maxima: adaptive pooling.

    Where all cells are alike it is done by a kernel whose gradient is the same to the bit every time on GPUs as well:
    torch's list of those that are not (:func:`torch.use_deterministic_algorithms`) has the adaptive ones alone.

    Args:
        features: the map; returned as it is where it has the grid's size.
        size: height h and width w of the grid.
        of: each cell, its mean or its maximum.
    """
    adaptive, even = _POOLS[of]
    height, width = features.shape[2:]
    if (height, width) == size:
        return features
    if (size == (1, 1) and of == "mean") or height % size[0] or width % size[1]:
        return adaptive(features, size)
    return even(features, (height // size[0], width // size[1]))


class MapPool(nn.Module):
    """:func:`pool_map` as a layer."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, features: Tensor) -> Tensor:
        """The map [B, C, H, W] at the layer's size."""
        return pool_map(features, self.size)


def resize_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """A map [B, C, h, w] interpolated bilinearly to another height and width; as it is where they agree."""
    if tuple(features.shape[2:]) == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def pool_channels(features: Tensor, width: int) -> Tensor:
    """Average neighbouring channels down to ``width``: [B, C, H, W] → [B, width, H, W]; no parameters."""
    if features.shape[1] == width:
        return features
    b, _, h, w = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(b, h * w, -1)
    alike = flat.shape[2] % width == 0  # as in pool_map
    pooled = F.avg_pool1d(flat, flat.shape[2] // width) if alike else F.adaptive_avg_pool1d(flat, width)
    return pooled.reshape(b, h, w, width).permute(0, 3, 1, 2)


def class_response(features: Tensor, head: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The network's own classifier at every position: [B, C, H, W] → [B, K, H, W].

    Raises:
        AdmError: the network has no linear classifier, or it does not take this map's width.
    """
    if head is None:
        raise AdmError("class responses need a network whose classifier is a linear layer on pooled features")
    return head(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def match_width(
    student: Tensor,
    teacher: Tensor,
    how: str,
    heads: tuple[Callable[[Tensor], Tensor] | None, Callable[[Tensor], Tensor] | None] = (None, None),
    projector: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Bring two maps [B, C, H, W] to one width.

    Args:
        student: the student's map.
        teacher: the teacher's map.
        how: ``identity`` (widths must agree already), ``pool`` (average channels to the smaller width),
            ``class`` (each network's own classifier at every position) or ``projector`` (a trained 1×1
            convolution on the student).
        heads: the student's and the teacher's classifier, for ``class``.
        projector: for ``projector``.

    Raises:
        AdmError: widths differ under ``identity``, or a classifier or projector is missing.
    """
    if how == "class":
        return class_response(student, heads[0]), class_response(teacher, heads[1])
    if how == "pool":
        width = min(student.shape[1], teacher.shape[1])
        return pool_channels(student, width), pool_channels(teacher, width)
    if how == "projector":
        if projector is None:
            raise AdmError("width matching by projector needs the projector that build() makes")
        return projector(student), teacher
    if student.shape[1] != teacher.shape[1]:
        raise AdmError(
            f"width matching 'identity' needs equal widths, not {student.shape[1]} (student) and "
            f"{teacher.shape[1]} (teacher); use pool, class, attention or projector"
        )
    return student, teacher


def make_projector(student_width: int, teacher_width: int) -> nn.Module:
    """A 1×1 convolution with batch normalisation that maps the student's width to the teacher's."""
    return nn.Sequential(nn.Conv2d(student_width, teacher_width, 1, bias=False), nn.BatchNorm2d(teacher_width))


def make_embedding_head(student_width: int, teacher_width: int) -> nn.Sequential:
    """CIRKD's projector: 1×1 convolution, batch normalisation, ReLU and another 1×1 convolution, without biases."""
    return nn.Sequential(
        *(nn.Conv2d(student_width, teacher_width, 1, bias=False), nn.BatchNorm2d(teacher_width), nn.ReLU()),
        nn.Conv2d(teacher_width, teacher_width, 1, bias=False),
    )


def make_width_adapter(student_width: int, teacher_width: int, bias: bool) -> nn.Module:
    """A plain 1×1 convolution from the student's width to the teacher's; where they agree, the identity."""
    if student_width == teacher_width:
        return nn.Identity()
    return nn.Conv2d(student_width, teacher_width, 1, bias=bias)


def make_width_adapters(taps: Iterable[str], student: Shapes, teacher: Shapes) -> nn.ModuleList:
    """A :func:`make_width_adapter` without bias for each tap, a group's members one each."""
    widths = ((student[tap][1], teacher[tap][1]) for tap in members(taps, student))
    return nn.ModuleList(make_width_adapter(*pair, bias=False) for pair in widths)


def make_generator(width: int) -> nn.Sequential:
    """What restores a map part of which is hidden: two 3×3 convolutions with ReLU between (Yang et al., 2205.01529)."""
    convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1])


def make_hint_regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Sequential:
    """FitNet's regressor from the student's map to the teacher's shape: convolution, batch norm, ReLU.

    Equal sizes take a 1×1 convolution; a student map twice as large a 3×3 of stride 2, one half as large a 4×4
    transposed one of stride 2, and any other larger map a valid convolution of the size that fits.

    Args:
        student: shape [B, C, H, W] of the student's map.
        teacher: shape of the teacher's.

    Raises:
        AdmError: the student's map is smaller in another ratio.
    """
    (c_s, h_s, w_s), (c_t, h_t, w_t) = student[1:], teacher[1:]
    convolution: nn.Module
    if h_s == 2 * h_t:
        convolution = nn.Conv2d(c_s, c_t, 3, stride=2, padding=1)
    elif 2 * h_s == h_t:
        convolution = nn.ConvTranspose2d(c_s, c_t, 4, stride=2, padding=1)
    elif h_s >= h_t and w_s >= w_t:
        convolution = nn.Conv2d(c_s, c_t, (1 + h_s - h_t, 1 + w_s - w_t))
    else:
        raise AdmError(f"no hint regressor from {h_s}x{w_s} to {h_t}x{w_t}: the student's map is too small")
    return nn.Sequential(convolution, nn.BatchNorm2d(c_t), nn.ReLU())


def make_translator(*widths: int) -> nn.Sequential:
    """3×3 convolutions from width to width, each with batch normalisation and a leaky ReLU of slope 0.1.

    What factor transfer (Kim et al., arXiv:1802.04977) makes a student's factors with.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
