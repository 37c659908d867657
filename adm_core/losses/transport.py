"""Optimal transport between class probabilities, between two networks' examples, and between features as Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.align import pool_map
from adm_core.losses.logits import NO_MASS, log_softmax_of_others
from adm_core.losses.spatial import at_size, masked_mean


def sinkhorn_cost(log_a: Tensor, log_b: Tensor, cost: Tensor, entropy: float, iterations: int) -> Tensor:
    """``Σ_ij P_ij C_ij`` of the plan P that a number of Sinkhorn's iterations give (Cuturi, NeurIPS 2013).

    ``P = diag(u) exp(-C / ε) diag(v)``, begun from a uniform u and fitted in turn to b and to a, so that its first
    marginal is a; both scalings are kept as logarithms. Gradients flow through the iterations, which take memory for
    2 · ``iterations`` tensors of the size of a.

    Args:
        log_a: logarithms of distributions [N, K]; -1e9 or less is no mass.
        log_b: the same of those that they are moved to.
        cost: C, not negative, [K, K]; at most 80 ε, for exp(-C / ε) must not vanish.
        entropy: ε > 0, of the regularisation.
        iterations: how many.

    Returns:
        The cost of each pair of distributions, [N].
    """
    kernel: Tensor = (-cost / entropy).exp()
    log_u = torch.zeros_like(log_a).masked_fill(log_a <= NO_MASS / 2, NO_MASS)
    log_v = log_u
    for _ in range(iterations):
        log_v = log_b - _log_product(log_u, kernel)
        log_u = log_a - _log_product(log_v, kernel.T)
    top_u, top_v = (x.amax(1, keepdim=True).detach() for x in (log_u, log_v))
    moved = ((log_u - top_u).exp() @ (kernel * cost) * (log_v - top_v).exp()).sum(1)
    return moved * (top_u + top_v).squeeze(1).exp()


def _log_product(log_x: Tensor, matrix: Tensor) -> Tensor:
    """``log(exp(log_x) @ matrix)`` for rows of any scale, [N, K]."""
    top = log_x.amax(1, keepdim=True).detach()
    return ((log_x - top).exp() @ matrix).log() + top


def transport_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    cost: Tensor,
    temperature: float,
    entropy: float,
    iterations: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Transport cost between the softened probabilities of all classes but the target's (arXiv:2412.08139, WKD-L).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape, used as a constant.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        cost: of moving probability from one class to another, [K, K]; see :func:`sinkhorn_cost`.
        temperature: T > 0.
        entropy: ε > 0.
        iterations: of Sinkhorn's algorithm.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if student.dim() == 4:
        target = at_size(target, student.shape[2:])

    def others(logits: Tensor) -> Tensor:
        return log_softmax_of_others(logits, target, temperature).movedim(1, -1).flatten(0, -2)

    each = sinkhorn_cost(others(student), others(teacher.detach()), cost, entropy, iterations)
    return masked_mean(each.view_as(target), mask)


def matching_cost(student: Tensor, teacher: Tensor, known: Tensor, entropy: float, iterations: int) -> Tensor:
    """The cost of moving a batch's student embeddings to its teacher embeddings, whichever fits which: a scalar.

    ``Σ_ij P_ij (1 - ⟨s_i, t_j⟩)``, P with equal mass on every example (:func:`sinkhorn_cost`): the primal form of the
    Wasserstein distance between the two sets.

    Args:
        student: [B, D], of length one.
        teacher: [B, D], of length one.
        known: bool [B], which examples there are; none: 0.
        entropy: ε, at least 0.025, as costs reach 2.
        iterations: of Sinkhorn's algorithm.
    """
    mass = (-known.sum().clamp_min(1).to(student.dtype).log()).expand(len(known)).masked_fill(~known, NO_MASS)[None]
    return sinkhorn_cost(mass, mass, 1 - student @ teacher.T, entropy, iterations).squeeze(0) * known.any()


class ClassSamples:
    """The first vectors of each class that are met, for statistics of classes.

    Args:
        classes: K.
        size: most vectors kept of a class.
    """

    def __init__(self, classes: int, size: int) -> None:
        self.classes, self.size = classes, size
        self._rows: Tensor | None = None
        self.count: Tensor | None = None

    def add(self, rows: Tensor, labels: Tensor, there: Tensor) -> None:
        """Keep vectors [N, C] of classes int64 [N], those that are ``there``, bool [N], in their order."""
        if self._rows is None or self.count is None:
            self._rows = rows.new_zeros(self.classes * self.size + 1, rows.shape[1])
            self.count = labels.new_zeros(self.classes)
        member = (labels[:, None] == torch.arange(self.classes, device=labels.device)) & there[:, None]
        place = self.count[labels] + member.cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
        kept = there & (place < self.size)
        # What is not kept overwrites the row after the last.
        self._rows[torch.where(kept, labels * self.size + place, self.classes * self.size)] = rows
        self.count = self.count + member.sum(0)

    def interrelations(self) -> Tensor:
        """Linear CKA between the vectors of every two classes, [K, K] in [0, 1] (Kornblith et al., arXiv:1905.00414).

        The i-th vector of one class is paired with the i-th of the other; as many count of each class as the rarest
        has. A class of fewer than two vectors is like itself alone.
        """
        assert self._rows is not None and self.count is not None
        known = self.count >= 2
        least = torch.where(known, self.count, self.size).amin().clamp_max(self.size)
        counted = (torch.arange(self.size, device=known.device) < least)[:, None]
        rows = self._rows[:-1].view(self.classes, self.size, -1) * counted
        rows = (rows - rows.sum(1, keepdim=True) / least) * counted * known[:, None, None]
        gram = (rows @ rows.transpose(1, 2)).flatten(1)
        gram = gram / gram.norm(dim=1, keepdim=True).clamp_min(1e-12)
        itself = torch.eye(self.classes, dtype=torch.bool, device=known.device)
        alike: Tensor = gram @ gram.T
        return alike.clamp(0, 1).masked_fill(itself, 1.0)


def class_means(features: Tensor, labels: Tensor, mask: Tensor | None, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What stands for the examples of each class: their pooled vectors, or the means over a class's pixels per image.

    Args:
        features: [B, C], or [B, C, H, W], averaged over positions.
        labels: class of each example [B], or of each pixel [B, ., .] of any size.
        mask: bool [B, ., .], true where a pixel is valid; None: everywhere.
        classes: K.

    Returns:
        Vectors [N, C], their classes int64 [N] and which of them there are, bool [N].
    """
    if labels.dim() == 1:
        rows = features if features.dim() == 2 else features.mean((2, 3))
        return rows, labels, torch.ones_like(labels, dtype=torch.bool)
    at = at_size(labels, features.shape[2:]).flatten(1)
    member = at[..., None] == torch.arange(classes, device=at.device)
    if mask is not None:
        member = member & at_size(mask, features.shape[2:]).flatten(1)[..., None]
    count = member.sum(1)
    sums = torch.einsum("bcp,bpk->bkc", features.flatten(2), member.to(features.dtype))
    rows = sums / count.clamp_min(1)[..., None]
    every = torch.arange(classes, device=at.device).expand(len(at), -1)
    return rows.flatten(0, 1), every.flatten(), (count > 0).flatten()


def gaussian_distance(
    student: Tensor, teacher: Tensor, ratio: float, grid: int, mask: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``ratio · |μ_s - μ_t|² + |σ_s - σ_t|²``: squared Wasserstein distance of normal distributions, apart by channel.

    Mean and deviation [C] of each network's features over the positions of a cell of a grid; sums over channels, the
    mean over cells and examples (arXiv:2412.08139, WKD-F with diagonal covariances). Variances are divided
    by the number of positions; the authors' code divides by one less.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, ., .]; sizes may differ.
        ratio: weight of the means beside the deviations.
        grid: cells a side, at most H and W.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. A cell without a valid
            position does not count.
        eps: added to variances, so that the root has a gradient.
    """

    def moments(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        valid = torch.ones_like(maps[:, 0], dtype=torch.bool) if mask is None else at_size(mask, maps.shape[2:])
        kept = valid[:, None]
        share = pool_map(kept.to(maps.dtype), (grid, grid))
        # Variances do not change with an offset; that of the channel keeps their digits.
        offset = (maps * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True).clamp_min(1)
        shifted = (maps - offset).masked_fill(~kept, 0.0)
        mean, square = (pool_map(x, (grid, grid)) / share.clamp_min(1e-6) for x in (shifted, shifted.pow(2)))
        return mean + offset, ((square - mean.pow(2)).clamp_min(0) + eps).sqrt(), share[:, 0] > 0

    (mean_s, spread_s, there), (mean_t, spread_t, there_t) = moments(student), moments(teacher)
    each = ratio * (mean_s - mean_t).pow(2).sum(1) + (spread_s - spread_t).pow(2).sum(1)
    return masked_mean(each, there & there_t)
