"""Relations between the pixels of different images: the parts that CIRKD is built of (Yang et al., arXiv:2204.06986).

Embeddings are compared by their cosine, so that every one is divided by its norm over channels first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adm_core.align import pool_map
from adm_core.losses.spatial import at_size, masked_mean

_NOT_THERE = -1e9
"""Logit of what does not take part in a softmax; finite, so that a row without any column gives no NaN."""


def normalised(features: Tensor, dim: int = 1) -> Tensor:
    """Embeddings divided by their norm along ``dim``; zero where the norm is all but zero."""
    return F.normalize(features, dim=dim, eps=1e-6)


def grid_within(size: tuple[int, int], positions: int) -> tuple[int, int]:
    """The largest height and width of about the same ratio as ``size`` whose product is at most ``positions``."""
    scale = math.sqrt(positions / (size[0] * size[1]))
    if scale >= 1:
        return size
    height = min(max(1, math.floor(size[0] * scale)), positions)
    return height, max(1, min(math.floor(size[1] * scale), positions // height))


def masked_pool(features: Tensor, mask: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A map [B, C, H, W] averaged over the valid positions of each cell of a coarser grid.

    Args:
        features: the map.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
        size: height and width of the grid.

    Returns:
        [B, C, h, w], the mean of all positions where a cell has no valid one, and bool [B, h, w]: which cells have one.
    """
    plain = pool_map(features, size)
    if mask is None:
        return plain, torch.ones(len(features), *size, dtype=torch.bool, device=features.device)
    valid = at_size(mask, features.shape[2:])[:, None].to(features.dtype)
    share = pool_map(valid, size)
    means = pool_map(features * valid, size) / share.clamp_min(1e-6)
    # Void cells count nowhere, but the projector's batch norm sees them, as those of the networks do.
    return torch.where(share > 0, means, plain), share[:, 0] > 0


def relation_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """``KL(softmax(teacher) || softmax(student))`` along the last dimension: [..., M] twice → [...].

    Gradients reach the student's logits alone.
    """
    with torch.no_grad():
        log_t = teacher.log_softmax(-1)
        target = log_t.exp()
        at_best = (target * log_t).sum(-1)
    return at_best - (target * student.log_softmax(-1)).sum(-1)


def pixel_relations(student: Tensor, teacher: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Mini-batch pixel-to-pixel relations (arXiv:2204.06986).

    For each ordered pair of images (i, j), itself included, every pixel of i has a distribution over the pixels of j,
    the softmax of their cosines; ``KL(teacher || student)`` is averaged over the pixels of i and then over the pairs.
    Widths may differ. Takes a few matrices of (B h w)² numbers.

    Args:
        student: [B, C_s, h, w].
        teacher: [B, C_t, h, w], used as a constant.
        valid: bool [B, h, w]; other pixels neither look at any nor are looked at.
        temperature: > 0, of the softmax.
    """
    batch, seen = len(student), valid.flatten(1)
    bias = student.new_zeros(seen.numel()).masked_fill(~seen.flatten(), _NOT_THERE)

    def relations(features: Tensor) -> Tensor:
        rows = normalised(features).flatten(2).transpose(1, 2).flatten(0, 1)
        return torch.addmm(bias, rows / temperature, rows.T).view(len(rows), batch, -1)

    divergence = relation_divergence(relations(student), relations(teacher.detach())).view(batch, -1, batch)
    counts, rows = seen.sum(1), seen[..., None]
    each = (divergence * rows).sum(1) / counts.clamp_min(1)[:, None]
    pairs = (counts > 0)[:, None] & (counts > 0)
    return (each * pairs).sum() / pairs.sum().clamp_min(1)


def contrast_relations(
    student: Tensor, teacher: Tensor, valid: Tensor, contrast: Tensor, there: Tensor, temperature: float
) -> Tensor:
    """Relations of pixels to a set of embeddings (arXiv:2204.06986, its memory terms).

    Every pixel has a distribution over the set, the softmax of cosines; mean of ``KL(teacher || student)`` over pixels.

    Args:
        student: [B, C, h, w], projected to the teacher's width.
        teacher: [B, C, h, w], used as a constant.
        valid: bool [B, h, w], which pixels count.
        contrast: unit embeddings [M, C].
        there: bool [M], which of them take part.
        temperature: > 0, of the softmax.
    """
    bias = student.new_zeros(len(there)).masked_fill(~there, _NOT_THERE)

    def relations(features: Tensor) -> Tensor:
        rows = normalised(features).flatten(2).transpose(1, 2).flatten(0, 1)
        return torch.addmm(bias, rows / temperature, contrast.T)

    divergence = relation_divergence(relations(student), relations(teacher.detach()))
    counted = valid.flatten()
    return (divergence * counted).sum() / counted.sum().clamp_min(1)


def as_positions(maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Channels in the place of pixels: each is described by its values at all positions.

    Args:
        maps: [B, C, h, w].
        valid: bool [B, h, w]; values elsewhere are taken for zero.

    Returns:
        [B, h · w, C, 1], for the functions above, and bool [B, C, 1]: the channels of images with a valid position.
    """
    rows = maps.masked_fill(~valid[:, None], 0.0).flatten(2).transpose(1, 2)[..., None]
    return rows, valid.flatten(1).any(1)[:, None, None].expand(-1, maps.shape[1], 1)


def unit_distance(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of embeddings of length one, over channels and valid pixels.

    Args:
        student: [B, C, h, w].
        teacher: of the same shape.
        valid: bool [B, h, w].
    """
    return masked_mean((normalised(student) - normalised(teacher)).pow(2).mean(1), valid)


@torch.no_grad()
def choose_rows(features: Tensor, valid: Tensor, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """At most ``count`` random pixels of a whole batch, as unit embeddings.

    Args:
        features: [B, C, h, w].
        valid: bool [B, h, w], from which to choose.
        count: most pixels.
        generator: randomness, on the device of ``features``.

    Returns:
        [1, M, C] with M the smaller of ``count`` and B · h · w, and bool [1, M]: which of them there are.
    """
    rows, there = normalised(features).movedim(1, 3).flatten(0, 2), valid.flatten()
    keys = torch.rand(there.shape, generator=generator, device=there.device).masked_fill(~there, 2.0)
    chosen = keys.topk(min(count, len(keys)), largest=False).indices
    return rows[chosen][None], there[chosen][None]


@torch.no_grad()
def choose_pixels(
    features: Tensor, labels: Tensor, mask: Tensor | None, classes: int, count: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """At most ``count`` random pixels of each class and image, as unit embeddings.

    Args:
        features: [B, C, H, W].
        labels: class indices [B, ., .] of any size, read at the positions of ``features``.
        mask: bool [B, ., .], valid positions; None: all.
        classes: K.
        count: most pixels.
        generator: randomness, on the device of ``features``.

    Returns:
        [K, B · count, C] in the order of the images, and bool [K, B · count]: which of them there are.
    """
    found = _labels_at(features, labels, mask, classes)
    most = min(count, found.shape[1])
    noise = torch.randint(2**31, found.shape, generator=generator, device=found.device)
    order = (found * 2**31 + noise).argsort(1)  # by class, void last, at random within a class
    sizes = _sizes(found, classes)
    rank = torch.arange(most, device=found.device)
    there = rank < sizes[..., None]
    place = (sizes.cumsum(1) - sizes)[..., None] + rank
    chosen = order.gather(1, place.flatten(1).clamp_max(found.shape[1] - 1))
    rows = normalised(features).flatten(2).gather(2, chosen[:, None].expand(-1, features.shape[1], -1))
    rows = rows.unflatten(2, (classes, most)).permute(2, 0, 3, 1)
    return rows.flatten(1, 2), there.transpose(0, 1).flatten(1)


@torch.no_grad()
def class_regions(features: Tensor, labels: Tensor, mask: Tensor | None, classes: int) -> tuple[Tensor, Tensor]:
    """The mean unit embedding of each class in each image, of unit norm itself.

    Args:
        features: [B, C, H, W].
        labels: class indices [B, ., .] of any size, read at the positions of ``features``.
        mask: bool [B, ., .], valid positions; None: all.
        classes: K.

    Returns:
        [K, B, C], and bool [K, B]: whether the image has the class.
    """
    found = _labels_at(features, labels, mask, classes)
    belongs = F.one_hot(found, classes + 1)[..., :classes].to(features.dtype)
    means = torch.bmm(normalised(features).flatten(2), belongs)  # sums; the norm is taken out next
    return normalised(means).permute(2, 0, 1), (_sizes(found, classes) > 0).T


def _labels_at(features: Tensor, labels: Tensor, mask: Tensor | None, classes: int) -> Tensor:
    """Labels [B, H · W] at the positions of a map, K where void."""
    found = at_size(labels, features.shape[2:])
    if mask is not None:
        found = found.masked_fill(~at_size(mask, features.shape[2:]), classes)
    return found.flatten(1)


def _sizes(labels: Tensor, classes: int) -> Tensor:
    """Number of pixels of each class in each image, int64 [B, K]."""
    counts = torch.zeros(len(labels), classes + 1, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(1, labels, torch.ones_like(labels))[:, :classes]
