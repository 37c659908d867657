"""Scores of class predictions: accuracy, likelihood, calibration, agreement.

Accuracies and calibration errors are in percent, NLL in nats, Brier in [0, 2].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

BINS = 15
"""Equal-width confidence bins of the expected calibration error (Guo et al., arXiv:1706.04599)."""


def scores(logits: Tensor, labels: Tensor, temperature: float | None = None) -> dict[str, float | None]:
    """All metrics of one network.

    Args:
        logits: [N, K].
        labels: [N].
        temperature: fitted on validation predictions (:func:`fit_temperature`); None where there are none.

    Returns:
        ``top1``, ``top5`` (None below 6 classes), ``nll``, ``brier``, ``ece``, and ``ece_ts``, the calibration error
        after temperature scaling (None without a temperature).
    """
    logits = logits.double()
    probabilities = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).to(probabilities.dtype)
    classes = logits.shape[1]
    return {
        "top1": topk_accuracy(logits, labels, 1),
        "top5": topk_accuracy(logits, labels, 5) if classes > 5 else None,
        "nll": float(F.cross_entropy(logits, labels)),
        "brier": float((probabilities - truth).pow(2).sum(1).mean()),
        "ece": calibration_error(probabilities, labels),
        "ece_ts": calibration_error((logits / temperature).softmax(1), labels) if temperature else None,
    }


def ensemble(members: Sequence[Tensor]) -> Tensor:
    """Logits of an ensemble, ``log (1/M Σ_m softmax(z_m))``, from those of its members, [N, K] each."""
    return torch.stack([logits.log_softmax(1) for logits in members]).logsumexp(0) - math.log(len(members))


def topk_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Share in percent of examples whose label is among the ``k`` largest of logits [N, K]."""
    return 100 * float((logits.topk(k, dim=1).indices == labels[:, None]).any(1).double().mean())


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error in percent: mean |accuracy - confidence| over 15 equal-width bins.

    A bin holds its upper bound. Six lines rather than torchmetrics' function, whose import takes every worker three
    seconds; the tests hold the two against each other.

    Args:
        probabilities: [N, K], rows summing to one.
        labels: [N].
    """
    confidence, predicted = probabilities.max(1)
    bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    excess = (predicted == labels).to(confidence.dtype) - confidence
    per_bin = confidence.new_zeros(BINS).index_add_(0, bins, excess)
    return 100 * float(per_bin.abs().sum() / len(labels))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [0.05, 20] of smallest NLL of ``logits / T`` [N, K] on held-out examples."""
    held = logits.double()
    result = minimize_scalar(
        lambda log_t: float(F.cross_entropy(held / torch.tensor(log_t).exp(), labels)),
        bounds=(-3.0, 3.0),
        method="bounded",
    )
    return float(torch.tensor(result.x).exp())


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Share in percent of examples for which two networks name the same class, [N] each."""
    return 100 * float((student == teacher).double().mean())
