"""Losses on channels seen as distributions over positions: a channel of a map [B, C, H, W] says where, not what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from adm_core.align import match_size
from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size


def log_softmax_over_positions(maps: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """Each channel's log-distribution over the valid positions, [B, C, H·W].

    Args:
        maps: [B, C, H, W].
        temperature: T > 0.
        valid: bool [B, H, W]; elsewhere the result is hugely negative but finite, so that ``p · log p`` is zero;
            where nothing of an image is valid, its distributions are uniform. None: everywhere.
    """
    scaled = (maps / temperature).flatten(2)
    if valid is not None:
        scaled = scaled.masked_fill(~valid.flatten(1)[:, None], -1e9)
    return F.log_softmax(scaled, dim=2)


def _valid(maps: Tensor, mask: Tensor | None) -> Tensor | None:
    return None if mask is None else at_size(mask, maps.shape[2:])


def _images(maps: Tensor, valid: Tensor | None) -> Tensor | int:
    """How many images have a valid position, at least one."""
    return len(maps) if valid is None else valid.flatten(1).any(1).sum().clamp_min(1)


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """``T² / (B C) Σ KL(teacher || student)`` of every channel's softmax over positions (arXiv:2011.13256, section 3).

    Args:
        student: [B, C, H, W].
        teacher: of the same shape; detach it to make it a target.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Void positions are left out
            of the softmax; B counts the images that have a valid one.
    """
    valid = _valid(student, mask)
    log_s = log_softmax_over_positions(student, temperature, valid)
    log_t = log_softmax_over_positions(teacher, temperature, valid)
    total = (log_t.exp() * (log_t - log_s)).sum()
    return temperature**2 * total / (_images(student, valid) * student.shape[1])


def category_similarity(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of the class-by-class Gram matrices ``P Pᵀ``: the category-wise similarity of DSD.

    P [K, N] holds every class's softmax over positions, after average pooling by 2x2 (Feng et al., arXiv:2107.08591,
    in the form of CIRKD's code). As rows of P sum to one, entries are of the order of 1 / N.

    Args:
        student: logits [B, K, H, W].
        teacher: of the same shape.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. A pooled position is the
            mean of the valid ones beneath it and counts where there is one; images without any are left out.
    """
    valid, pooled_valid = _valid(student, mask), None
    if valid is not None:
        share = F.avg_pool2d(valid.to(student.dtype)[:, None], 2, ceil_mode=True)
        pooled_valid = share[:, 0] > 0

    def gram(logits: Tensor) -> Tensor:
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None], 0.0)
        pooled = F.avg_pool2d(logits, 2, ceil_mode=True)
        if valid is not None:
            pooled = pooled / share.clamp_min(1e-6)
        p = log_softmax_over_positions(pooled, temperature, pooled_valid).exp()
        return p @ p.transpose(1, 2)

    total = (gram(student) - gram(teacher)).pow(2).sum()
    return total / (_images(student, valid) * student.shape[1] ** 2)


def interclass_distance(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Mean squared difference of two class-by-class matrices of ``KL(φ_i || φ_j)``, whose rows have length one.

    φ_k is the softmax of class k's logits over the positions of an image (Mansourian et al., arXiv:2308.04243, section
    3). The mean is over entries, and over the images that have a valid position.

    Args:
        student: logits [B, K, H, W].
        teacher: of the same number of classes; sizes may differ.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """

    def divergences(logits: Tensor) -> Tensor:
        log_p = log_softmax_over_positions(logits, temperature, _valid(logits, mask))
        p = log_p.exp()
        return unit((p * log_p).sum(2, keepdim=True) - p @ log_p.transpose(1, 2), dim=2)

    total = (divergences(student) - divergences(teacher)).pow(2).sum()
    return total / (_images(student, _valid(student, mask)) * student.shape[1] ** 2)


def selectivity_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean k(t, t') + mean k(s, s') - 2 mean k(s, t)``: MMD² between the channels of two maps, batch mean.

    Channels are vectors over positions, scaled to length one, and ``k(a, b) = (a · b)²`` (Huang & Wang,
    arXiv:1707.01219, section 4, polynomial kernel of degree 2).

    Args:
        student: [B, C_s, H, W].
        teacher: [B, C_t, H, W]; widths may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Images without a valid
            position do not count.
    """
    own, theirs = (unit(_flat(maps, mask), dim=2) for maps in (student, teacher))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.transpose(1, 2)).pow(2).mean((1, 2))

    each = kernel(theirs, theirs) + kernel(own, own) - 2 * kernel(own, theirs)
    return each.sum() / _images(student, _valid(student, mask))


def channel_correlation(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1/C Σ_ij (G_s - G_t)²_ij``, rows of G [C, C] being those of ``F Fᵀ`` scaled to length one; batch mean.

    F [C, H·W] is the map of one image (Liu et al., arXiv:2202.03680, section 3, as in the authors' code). Sizes may
    differ.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, ., .].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Images without a valid
            position do not count.
    """

    def rows(maps: Tensor) -> Tensor:
        flat = _flat(maps, mask)
        return unit(flat @ flat.transpose(1, 2), dim=2)

    total = (rows(student) - rows(teacher)).pow(2).sum()
    return total / (_images(student, _valid(student, mask)) * student.shape[1])


def flow(lower: Tensor, upper: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1/HW Σ_p F_p G_pᵀ``, how the channels of one map go with those of a later one: [B, C, D].

    Yim et al., CVPR 2017, eq. 1; the larger map is average-pooled to the smaller one's size before.

    Args:
        lower: F [B, C, H, W].
        upper: G [B, D, ., .].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. The mean is over these; zero
            where an image has none.
    """
    first, second = match_size(lower, upper)
    valid = _valid(first, mask)
    count = first[0, 0].numel() if valid is None else valid.flatten(1).sum(1).clamp_min(1)[:, None, None]
    return _flat(first, mask) @ second.flatten(2).transpose(1, 2) / count


def flow_distance(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of :func:`flow`, summed over consecutive maps; mean over images with a valid position.

    Args:
        student: at least two maps [B, C, H, W], in the order of the stages.
        teacher: as many, of the same widths; sizes may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    flows = ([flow(*pair, mask) for pair in pairwise(maps)] for maps in (student, teacher))
    each = sum((own - other).pow(2).mean((1, 2)) for own, other in zip(*flows, strict=True))
    assert isinstance(each, Tensor)
    count = len(each) if mask is None else mask.flatten(1).any(1).sum().clamp_min(1)
    return each.sum() / count


def _flat(maps: Tensor, mask: Tensor | None) -> Tensor:
    """[B, C, H·W], zero at void positions."""
    valid = _valid(maps, mask)
    return maps.flatten(2) if valid is None else maps.masked_fill(~valid[:, None], 0.0).flatten(2)
