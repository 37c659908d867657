"""Losses on class prototypes: the mean feature of the pixels of one class in one image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size, masked_mean


def class_membership(labels: Tensor, classes: int, size: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """Which position belongs to which class, [B, K, H·W] of zeros and ones; void positions belong to none.

    Args:
        labels: class indices [B, ., .] of any size, read at ``size``.
        classes: K.
        size: (H, W).
        mask: bool [B, ., .] of any size, true where a label is valid; None: everywhere.
    """
    member: Tensor = F.one_hot(at_size(labels, size), classes).flatten(1, 2).transpose(1, 2).float()
    if mask is not None:
        member = member * at_size(mask, size).flatten(1)[:, None]
    return member


def similarity_to_prototype(features: Tensor, membership: Tensor) -> Tensor:
    """Cosine of every position's feature to its own class's prototype in the same image, [B, H, W], in [-1, 1].

    Wang et al., ECCV 2020, section 3. Zero at positions that belong to no class.

    Args:
        features: [B, C, H, W].
        membership: [B, K, H·W] of zeros and ones; see :func:`class_membership`.
    """
    vectors = features.flatten(2)
    sums = vectors @ membership.transpose(1, 2)
    prototypes = sums / membership.sum(2).clamp_min(1)[:, None]
    own = prototypes @ membership
    cosine: Tensor = (unit(vectors) * unit(own)).sum(1)
    return cosine.view(len(features), *features.shape[2:])


def intra_class_variation(
    student: Tensor, teacher: Tensor, labels: Tensor, classes: int, mask: Tensor | None = None
) -> Tensor:
    """Mean squared difference of both networks' similarity to prototype (Wang et al., ECCV 2020, section 3).

    Args:
        student: [B, C_s, H, W].
        teacher: [B, C_t, H, W]; widths may differ.
        labels: class indices [B, ., .] of any size, read at the maps' resolution.
        classes: number of classes.
        mask: bool [B, ., .] of any size, true where a label is valid; None: everywhere. Void positions enter no
            prototype and no mean.
    """
    member = class_membership(labels, classes, tuple(student.shape[2:]), mask).to(student.dtype)
    variation = similarity_to_prototype(student, member) - similarity_to_prototype(teacher, member)
    return masked_mean(variation.pow(2), mask)
