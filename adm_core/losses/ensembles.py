"""What KDCL makes of the predictions of several networks to teach them all (Guo et al., CVPR 2020, section 3.2).

Classes lie along dimension 1: [B, K], or [B, K, H, W] for dense predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import at_size, masked_mean


def ensemble_target(members: Sequence[Tensor], target: Tensor, form: str, mask: Tensor | None = None) -> Tensor:
    """The teaching logits of one of KDCL's forms.

    - ``naive``: per example (pixel), the logits of the member of the smallest cross-entropy;
    - ``linear``: the convex combination, one coefficient for the batch, of smallest ensemble cross-entropy;
    - ``min-logit``: each member's logits less its target logit, then the elementwise minimum;
    - ``mean``: the plain mean of logits.

    Args:
        members: logits [B, K] or [B, K, H, W] of each, used as constants; two of them for ``linear``.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        form: one of the four.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        Detached logits of the same shape.
    """
    first, *others = fixed = [member.detach() for member in members]
    if form == "mean":
        return sum(others, first) / len(fixed)
    if first.dim() == 4:
        target = at_size(target, first.shape[2:])
    if form == "naive":
        return reduce(lambda a, b: _better(a, b, target), fixed)
    if form == "min-logit":
        index = target[:, None]
        return reduce(torch.minimum, (member - member.gather(1, index) for member in fixed))
    (second,) = others
    return _best_convex(first, second, target, mask)


def weighted_ensemble(members: Sequence[Tensor], weights: Tensor, temperature: float) -> Tensor:
    """Logits whose softmax at T is ``Σ_i w_i softmax(z_i / T)``: KDCL's general form; detached, of the same shape.

    Args:
        members: logits [B, K] of each of n, used as constants.
        weights: w [n], not negative and of sum 1.
        temperature: T > 0.
    """
    log_p = torch.stack([(member.detach() / temperature).log_softmax(1) for member in members])
    return temperature * (log_p + weights.log()[:, None, None]).logsumexp(0)


def error_covariance(members: Sequence[Tensor], target: Tensor, chosen: Tensor) -> Tensor:
    """``C_ij = mean_b Σ_k (p_i - y)_bk (p_j - y)_bk`` over the chosen examples, [n, n]; zero where none is.

    Args:
        members: logits [B, K] of each of n, used as constants; p are their softmaxes.
        target: class indices [B]; y is 1 at these and 0 elsewhere.
        chosen: bool [B].
    """
    label = F.one_hot(target, members[0].shape[1])
    errors = torch.stack([member.detach().softmax(1) - label for member in members]) * chosen[:, None]
    return torch.einsum("ibk,jbk->ij", errors, errors) / chosen.sum().clamp_min(1)


def least_error_weights(covariance: Tensor, ridge: float = 1e-3) -> Tensor:
    """Weights of the members whose weighted mean has the least squared error: ``w_i ∝ Σ_j (C⁻¹)_ij``, [n].

    Negative ones, which a member gets that is worse than another whose errors it shares, become zero; the sum is 1.

    Args:
        covariance: C [n, n].
        ridge: what is added to the diagonal, in shares of its mean, so that members that err alike weigh alike.
    """
    mean = covariance.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(covariance), device=covariance.device, dtype=covariance.dtype)
    raw = torch.linalg.inv_ex(covariance + ridge * mean * eye).inverse.sum(1).clamp_min(0.0)
    weights: Tensor = raw / raw.sum()
    return weights


def _better(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Of each example (pixel) the logits of smaller cross-entropy."""
    better = F.cross_entropy(a, target, reduction="none") < F.cross_entropy(b, target, reduction="none")
    return torch.where(better[:, None], a, b)


def _best_convex(s: Tensor, t: Tensor, target: Tensor, mask: Tensor | None, iterations: int = 20) -> Tensor:
    """``a s + (1 - a) t`` with a in [0, 1] of smallest cross-entropy, which is convex in a: bisect its derivative."""
    difference = s - t
    gain = difference.gather(1, target[:, None]).squeeze(1)
    low, high = s.new_zeros(()), s.new_ones(())
    for _ in range(iterations):
        a = (low + high) / 2
        slope = masked_mean(((t + a * difference).softmax(1) * difference).sum(1) - gain, mask)
        low, high = torch.where(slope < 0, a, low), torch.where(slope < 0, high, a)
    return t + (low + high) / 2 * difference
