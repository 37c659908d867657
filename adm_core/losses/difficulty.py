"""How hard each example or pixel is for a network, and which network a pixel should be learnt from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.align import match_predictions, resize_map
from adm_core.losses.spatial import at_size, resize


@torch.no_grad()
def certainty(prediction: Tensor, auxiliary: Tensor | None, size: tuple[int, ...] | torch.Size) -> Tensor:
    """How well a network's two dense predictions agree, in (0, 1], interpolated bilinearly to another size.

    ``exp(-KL(auxiliary ‖ prediction))`` per position; without an auxiliary one ``exp(-entropy)`` of the prediction.

    Args:
        prediction: logits [B, K, h, w].
        auxiliary: logits [B, K, ., .] of the network's auxiliary classifier; None where it has none.
        size: height and width of the result [B, H, W].
    """
    if auxiliary is None:
        log_p = prediction.log_softmax(1)
        return resize((log_p.exp() * log_p).sum(1).exp(), size)
    log_p, log_q = (logits.log_softmax(1) for logits in match_predictions(prediction, auxiliary))
    return resize((log_q.exp() * (log_p - log_q)).sum(1).exp(), size)


@torch.no_grad()
def easiest(values: Tensor, forget: float) -> Tensor:
    """Positions of the smallest losses of a batch, all but the share ``forget`` of it and at least one: int64 [n].

    Args:
        values: losses per example [B].
        forget: in [0, 1); ``n = ⌊(1 - forget) B⌋``.
    """
    return values.topk(max(int((1 - forget) * len(values)), 1), largest=False).indices


@torch.no_grad()
def lower_half(values: Tensor) -> Tensor:
    """Which values are at most their median, the mean of the two in the middle where their number is even: bool [N]."""
    ordered = values.sort().values
    return values <= (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


@torch.no_grad()
def relative_difficulty(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """``1 - exp(-CE_s / CE_t)``, near 1 where an example is harder for the student (Zhou et al., arXiv:2102.00650).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        target: class indices [B] or [B, H, W].

    Returns:
        [B] or [B, H, W], in [0, 1].
    """
    own, other = (F.cross_entropy(logits, target, reduction="none") for logits in (student, teacher))
    return 1 - (-own / (other + 1e-7)).exp()


@torch.no_grad()
def entropy_weight(student: Tensor, teacher: Tensor, temperature: float, bound: float) -> Tensor:
    """``H_t (1 + H_s / bound) / 2``, large where the teacher is unsure, more so where the student is, too.

    H is the entropy of softened probabilities, in nats (EA-KD, arXiv:2311.13621).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        temperature: T > 0 of both.
        bound: what the student's entropy is a share of; log K is its largest value.

    Returns:
        [B] or [B, H, W], not negative; with ``bound`` = log K at most log K.
    """
    log_s, log_t = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    own, other = (-(log_p.exp() * log_p).sum(1) for log_p in (log_s, log_t))
    return other * (1 + own / bound) / 2


@torch.no_grad()
def hard_pixels(prediction: Tensor, target: Tensor, mask: Tensor | None, threshold: float, least: float) -> Tensor:
    """Where a network gives the label little probability: bool [B, H, W], false at void pixels.

    That is at most ``threshold``, or at most what the share ``least`` of all pixels does not exceed, whichever is
    more, so that a network that is sure of nearly everything still has some. The choice of online hard example mining.

    Args:
        prediction: logits [B, K, h, w], interpolated to the target's size.
        target: class indices [B, H, W].
        mask: bool [B, H, W], valid positions; None: all.
        threshold: probability in [0, 1].
        least: share in [0, 1].
    """
    logits = resize_map(prediction, (target.shape[1], target.shape[2]))
    p = F.cross_entropy(logits, target, reduction="none").neg().exp()
    valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
    p = p.masked_fill(~valid, 1.0)
    limit = p.new_full((), threshold)
    if least:
        count = math.ceil(least * p.numel())
        limit = limit.maximum(p.flatten().topk(count, largest=False, sorted=False).values.amax())
    return (p <= limit) & valid


@torch.no_grad()
def selective_sources(
    student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor | None, region: int, by_pixel: bool
) -> tuple[Tensor, Tensor]:
    """Where the teacher should teach the student, and where the student the teacher.

    In each square of ``region`` positions a side the network with the lower mean cross-entropy is the source, at its
    valid positions; with equal ones neither is.

    Args:
        student: logits [B, K, h, w].
        teacher: logits of the same shape.
        target: class indices [B, ., .] of any size, read at the positions of the logits.
        mask: bool [B, ., .], valid positions; None: all.
        region: side of a region; 0: there are none, and both teach everywhere.
        by_pixel: whether a position is left out where its source does not predict the label.

    Returns:
        Two bool maps [B, h, w]: the teacher is the source, the student is.
    """
    size = student.shape[2:]
    label = at_size(target, size)
    valid = torch.ones_like(label, dtype=torch.bool) if mask is None else at_size(mask, size)
    from_teacher = from_student = valid
    if region:
        gap = F.cross_entropy(student, label, reduction="none") - F.cross_entropy(teacher, label, reduction="none")
        # Its sign is that of the mean over the region's valid positions.
        mean = F.avg_pool2d((gap * valid)[:, None], region, ceil_mode=True)
        mean = mean.repeat_interleave(region, 2).repeat_interleave(region, 3)[:, 0, : size[0], : size[1]]
        from_teacher, from_student = valid & (mean > 0), valid & (mean < 0)
    if by_pixel:
        from_teacher = from_teacher & (teacher.argmax(1) == label)
        from_student = from_student & (student.argmax(1) == label)
    return from_teacher, from_student
