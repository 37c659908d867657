"""Similarity maps of two networks and the spatial weights made from them: the parts that ADM is built of.

ADM's equations are not public to us; these are a reconstruction from its public descriptions (arXiv:2503.06685).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.align import pool_map, resize_map


class _Share(NamedTuple):
    """The mask of a micro-batch, that of the whole batch, and in how many micro-batches it comes."""

    mask: Tensor
    whole: Tensor
    parts: int


_share: ContextVar[_Share | None] = ContextVar("share", default=None)


def cosine_map(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity along channels at every position: [B, C, H, W] twice → [B, H, W], in [-1, 1]."""
    return F.cosine_similarity(a, b, dim=1)


def attention_similarity(a: Tensor, b: Tensor) -> Tensor:
    """``1 - |A_a - A_b|`` with A the channel mean of squares, brought to [0, 1] per image: [B, H, W].

    Needs no matching of widths.
    """

    def relative_energy(features: Tensor) -> Tensor:
        energy = features.pow(2).mean(1)
        low, high = energy.amin((1, 2), keepdim=True), energy.amax((1, 2), keepdim=True)
        return (energy - low) / (high - low).clamp_min(1e-12)

    return 1 - (relative_energy(a) - relative_energy(b)).abs()


def softmax_weights(similarity: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """``|Ω| softmax_p(S_p / τ)``: weights over positions whose mean is one, so that a loss keeps its scale.

    Give ``-similarity`` for the divergence weights.

    Args:
        similarity: S, [B, H, W].
        temperature: τ > 0; small values select few positions, large ones tend to uniform weights.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        Weights [B, H, W], of mean 1 over the valid positions of each image and 0 elsewhere.
    """
    scaled = (similarity / temperature).flatten(1)
    if mask is None:
        return (scaled.softmax(1) * similarity[0].numel()).view_as(similarity)
    valid = at_size(mask, similarity.shape[1:]).flatten(1)
    # Finite, so that an image without a valid position gets zeros rather than NaN.
    weights = scaled.masked_fill(~valid, -1e9).softmax(1) * valid * valid.sum(1, keepdim=True)
    return weights.view_as(similarity)


def rank_weights(similarity: Tensor, mask: Tensor | None = None) -> Tensor:
    """``(2 r_p + 1) / |Ω|``, r_p ∈ {0, ..., |Ω| - 1} the rank of S_p within its image: weights by order alone.

    Ties keep the order of positions. No gradient reaches S.

    Args:
        similarity: S, [B, H, W].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        Weights [B, H, W] between 0 and 2, of mean 1 over the valid positions of each image and 0 elsewhere.
    """
    values, valid = similarity.detach().flatten(1), torch.ones_like(similarity, dtype=torch.bool).flatten(1)
    if mask is not None:
        valid = at_size(mask, similarity.shape[1:]).flatten(1)
        values = values.masked_fill(~valid, -math.inf)
    count = valid.sum(1, keepdim=True)
    void = valid.shape[1] - count
    ranks = torch.sort(values, dim=1, stable=True).indices.argsort(1) - void
    weights: Tensor = (2 * ranks + 1) * valid / count.clamp_min(1)
    return weights.view_as(similarity)


def mean_map(maps: list[Tensor]) -> Tensor:
    """The mean of maps [B, ., .] at the resolution of the first."""
    first, *others = maps
    if not others:
        return first
    resized = [resize(other, first.shape[1:]) for other in others]
    return sum(resized, first) / len(maps)


def at_size(labels: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """A map of labels or a mask [B, H, W] read at another height and width: at each position its middle one."""
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    resized = F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0]
    return resized.to(labels.dtype)


def relative_entropy(weights: Tensor) -> Tensor:
    """Entropy of weights over positions as a share of its maximum: 1 is uniform, 0 a single position. Batch mean.

    Args:
        weights: [B, H, W], not negative.
    """
    positions = weights[0].numel()
    p = weights.flatten(1)
    p = p / p.sum(1, keepdim=True).clamp_min(1e-12)
    entropy = -torch.special.xlogy(p, p).sum(1).mean()
    return entropy / math.log(positions) if positions > 1 else torch.ones_like(entropy)


def resize(values: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """A map [B, h, w] interpolated bilinearly to another height and width; returned as it is when they agree."""
    return resize_map(values[:, None], (size[0], size[1]))[:, 0]


def weighted_pool(features: Tensor, weights: Tensor) -> Tensor:
    """``1/|Ω| Σ_p w_p F_p``: global average pooling with weights, [B, C, H, W] and [B, H, W] → [B, C]."""
    return (features * weights[:, None]).mean((2, 3))


def pooled_cells(features: Tensor, sides: Iterable[int]) -> Tensor:
    """Means over the cells of grids of so many cells a side, one grid after the other.

    Args:
        features: [B, C, H, W].
        sides: of the grids; each at most H and W.

    Returns:
        [B, C, cells, 1]; (1, 2) gives five cells.
    """
    return torch.cat([pool_map(features, (side, side)).flatten(2) for side in sides], 2)[..., None]


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [B, ...] values over valid positions; zero where nothing is valid.

    Within :func:`share_of` of this mask it is the micro-batch's share in the mean of the whole batch.

    Args:
        values: per example [B] or per position [B, H, W].
        mask: bool [B, ., .]; read at the positions of ``values``; None: everything counts.
    """
    if mask is None:
        return values.mean()
    valid, share = at_size(mask, values.shape[1:]), _share.get()
    total = values.masked_fill(~valid, 0.0).sum()
    if share is None or mask is not share.mask:
        return total / valid.sum().clamp_min(1)
    return share.parts * total / at_size(share.whole, values.shape[1:]).sum().clamp_min(1)


@contextmanager
def share_of(mask: Tensor | None, whole: Tensor | None, parts: int) -> Iterator[None]:
    """Let :func:`masked_mean` divide by the valid positions of a whole batch, of which a micro-batch is one part.

    Micro-batches differ in how many of their positions are valid, so that the mean of their means is not the mean of
    the batch. Within this context it is: every mean over ``mask`` is ``parts`` times the micro-batch's sum over the
    whole batch's count.

    Args:
        mask: bool [B, H, W] of the micro-batch; None: nothing is void, and means are what they are.
        whole: bool [parts · B, H, W], of the batch.
        parts: micro-batches of a step; 1: nothing changes.
    """
    share = None if mask is None or whole is None or parts == 1 else _Share(mask, whole, parts)
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)
