"""Attention turned over, and stages that are decoded from a last map: FFSD (Li et al., arXiv:2103.14473)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adm_core.losses.features import attention_map, attention_transfer, unit


def turned_over(features: Tensor) -> tuple[Tensor, Tensor]:
    """An attention map whose higher values have become low, [B, H·W], and the length it had, n [B, 1].

    Of the attention A (:func:`adm_core.losses.features.attention_map`) the lowest third of positions stays as it is,
    but for the highest of these, which becomes n / 2; elsewhere it becomes n - A. n is the length of the channel means
    of squares before A was scaled to length one, as in the authors' code.

    Args:
        features: [B, C, H, W].
    """
    length = torch.linalg.vector_norm(features.pow(2).mean(1).flatten(1), dim=1, keepdim=True)
    attention = attention_map(features)
    third = max(attention.shape[1] // 3, 1)
    threshold = attention.topk(third, dim=1, largest=False).values[:, -1:]
    turned: Tensor = (length / 2 - attention) * torch.sign(attention - threshold) + length / 2
    return turned, length


def moved_elsewhere(features: Tensor) -> Tensor:
    """A map plus ``(a - A) n / C`` in every channel, a the attention A turned over: of the same shape.

    Args:
        features: [B, C, H, W].
    """
    turned, length = turned_over(features)
    change = (turned - attention_map(features)) * length / features.shape[1]
    moved: Tensor = features + change.unflatten(1, features.shape[2:])[:, None]
    return moved


def stage_attention(own: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
    """Sum of :func:`adm_core.losses.features.attention_transfer` over the stages that are decoded: a scalar.

    Args:
        own: maps [B, C, H, W] of all stages.
        decoded: those of all but the last; detach them to make them targets.
    """
    each = [attention_transfer(a, b) for a, b in zip(own, decoded, strict=False)]
    return torch.stack(each).sum()


def diversity(
    own: Sequence[Tensor], other: Tensor, decode: Callable[[Tensor, Sequence[Tensor]], list[Tensor]]
) -> Tensor:
    """How far a network is from looking elsewhere than another does, in all its stages: a scalar.

    The mean squared difference of its last map's attention from the other's turned over, and
    :func:`stage_attention` with what the other's map, moved, is decoded to.

    Args:
        own: maps [B, C, H, W] of all stages.
        other: the other network's last map, a constant.
        decode: makes maps of all stages but the last, as constants, of a last map; it is given the stages as well.
    """
    apart = (attention_map(own[-1]) - turned_over(other)[0]).pow(2).mean()
    return apart + stage_attention(own, decode(moved_elsewhere(other), own))


def decoding_error(decoded: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
    """:func:`stage_attention` and mean squared differences of maps of length one per example: a scalar.

    Args:
        decoded: maps [B, C, H, W] of all stages but the last.
        own: the network's; detach them to make them targets.
    """
    each = [(unit(a.flatten(1)) - unit(b.flatten(1))).pow(2).mean() for a, b in zip(decoded, own, strict=False)]
    return torch.stack(each).sum() + stage_attention(own, decoded)
