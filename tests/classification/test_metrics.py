"""Metrics against literal loops and an independent library."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from tasks.classification import metrics


@pytest.fixture
def predictions():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (400,), generator=g)
    logits = 2.5 * torch.randn(400, 10, generator=g) + 2.0 * torch.nn.functional.one_hot(labels, 10)
    return logits, labels


def test_accuracy_and_likelihood_are_scikit_learns(predictions):
    logits, labels = predictions
    scores = metrics.scores(logits, labels)
    p = logits.double().softmax(1).numpy()
    assert scores["top1"] == pytest.approx(100 * top_k_accuracy_score(labels, p, k=1))
    assert scores["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, p, k=5))
    assert scores["nll"] == pytest.approx(log_loss(labels, p))


def test_brier_is_the_literal_sum(predictions):
    logits, labels = predictions
    p = logits.double().softmax(1).tolist()
    total = sum(sum((v - (c == y)) ** 2 for c, v in enumerate(row)) for row, y in zip(p, labels.tolist(), strict=True))
    assert metrics.scores(logits, labels)["brier"] == pytest.approx(total / len(p))


def test_calibration_error_is_the_literal_sum_over_fifteen_bins(predictions):
    logits, labels = predictions
    p = logits.double().softmax(1).numpy()
    confidence, right = p.max(1), p.argmax(1) == labels.numpy()
    error = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.scores(logits, labels)["ece"] == pytest.approx(100 * error, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_calibration_error_is_torchmetrics(classes):
    logits = 4 * torch.randn(3000, classes, generator=torch.Generator().manual_seed(classes)).double()
    labels = torch.randint(classes, (3000,), generator=torch.Generator().manual_seed(1))
    p = logits.softmax(1)
    theirs = multiclass_calibration_error(p, labels, classes, n_bins=15, norm="l1")
    assert metrics.calibration_error(p, labels) == pytest.approx(100 * float(theirs), abs=1e-4)


def test_fitted_temperature_is_the_best_on_a_grid_and_undoes_a_scaling(predictions):
    logits, labels = predictions
    grid = np.exp(np.linspace(-3, 3, 601))
    losses = [float(torch.nn.functional.cross_entropy(logits.double() / t, labels)) for t in grid]
    assert metrics.fit_temperature(logits, labels) == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)
    fitted = metrics.fit_temperature(logits, labels)
    assert metrics.fit_temperature(3 * logits, labels) == pytest.approx(3 * fitted, rel=1e-3)


def test_temperature_changes_calibration_only(predictions):
    logits, labels = predictions
    plain, scaled = metrics.scores(4 * logits, labels), metrics.scores(4 * logits, labels, temperature=4.0)
    assert plain["ece_ts"] is None
    assert scaled["ece_ts"] == pytest.approx(metrics.scores(logits, labels)["ece"], abs=1e-6)
    assert scaled["ece_ts"] < plain["ece"]
    assert {k: v for k, v in plain.items() if k != "ece_ts"} == {k: v for k, v in scaled.items() if k != "ece_ts"}


def test_few_classes_have_no_top_five():
    assert metrics.scores(torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))["top5"] is None


def test_agreement_counts_equal_predictions():
    a = torch.eye(4)
    assert metrics.agreement(a.argmax(1), a[[0, 1, 3, 2]].argmax(1)) == 50.0


def test_a_perfect_prediction():
    scores = metrics.scores(50 * torch.eye(10), torch.arange(10))
    assert scores["top1"] == 100 and scores["brier"] < 1e-9 and not math.isnan(scores["ece"])
