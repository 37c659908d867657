"""How known metrics are shown. An unknown one is shown by its own name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from results.table import Column

_Direction = Literal["high", "low", ""]
SEPARATOR = "/"
"""Between a metric and the part of the test set that it is of, as in ``iou/car``."""

_KNOWN: dict[str, tuple[str, int, _Direction, str]] = {
    "top1": ("top-1 %", 2, "high", "share of images whose most likely class is right"),
    "top5": ("top-5 %", 2, "high", "share of images whose class is among the five most likely"),
    "miou": ("mIoU %", 2, "high", "mean intersection over union of the classes"),
    "iou": ("IoU %", 2, "high", "intersection over union of one class"),
    "macc": ("mAcc %", 2, "high", "mean over classes of the share of a class's pixels that is named right"),
    "aacc": ("aAcc %", 2, "high", "share of all pixels that is named right"),
    "fid": ("FID", 2, "low", "Fréchet distance between generated and training images in the features of Inception"),
    "kid": ("KID ×1000", 2, "low", "kernel distance of generated and training images, in the features of Inception"),
    "frechet": ("Fréchet", 2, "low", "as FID, but in the features of this suite's own classifier: no FID"),
    "kernel": ("kernel ×1000", 2, "low", "as KID, but in the features of this suite's own classifier: no KID"),
    "precision": ("precision %", 2, "high", "share of generated images that lie among the training images"),
    "recall": ("recall %", 2, "high", "share of training images that lie among the generated ones"),
    "density": ("density %", 2, "high", "how densely training images surround a generated one"),
    "coverage": ("coverage %", 2, "high", "share of training images that have a generated one near by"),
    "denoising_error": ("denoising MSE", 4, "low", "squared error of what is predicted on held-out images, noised"),
    "teacher_mse": ("MSE to teacher", 4, "low", "between pixels that student and teacher make of the same noise"),
    "teacher_cosine": ("cosine to teacher", 4, "high", "of features of what both make of the same noise"),
    "nearest_train": ("near copies %", 2, "", "generated images nearer to a training image than 99 % of held-out ones"),
    "bpc": ("bits/character", 3, "low", "mean of -log2 of the probability that the next character was given"),
    "next_top1": ("next top-1 %", 2, "high", "share of characters that are the most likely one by those before them"),
    "nll": ("NLL", 3, "low", "negative log-likelihood of the right class, natural logarithm"),
    "brier": ("Brier", 4, "low", "squared distance between predicted probabilities and the truth"),
    "ece": ("ECE %", 2, "low", "expected calibration error, 15 bins of equal width"),
    "ece_ts": ("ECE-T %", 2, "low", "ECE after one temperature has been fitted on validation data"),
    "memorised": ("memorised %", 2, "low", "share of the wrong training labels that are named for their pictures"),
    "agreement": ("agree %", 2, "", "share of images (or pixels) on which student and teacher name the same class"),
}


def metric_column(metric: str, key: str = "", higher_is_better: bool | None = None) -> Column:
    """The column of a metric as mean and std over seeds.

    Args:
        metric: its name in records.
        key: the column's plain name; the metric's own by default.
        higher_is_better: the direction; by default what is known of the metric.
    """
    title, digits, best, about = _KNOWN.get(metric, (metric, 4, "", ""))
    if higher_is_better is not None:
        best = "high" if higher_is_better else "low"
    return Column(key or metric, title, "spread", digits, about, best)


def unit_of(metric: str) -> str:
    """``%`` for a metric that is known to run from 0 to 100, else empty; a part of the test set is as the whole."""
    title, *_ = _KNOWN.get(metric.split(SEPARATOR)[0], ("",))
    return "%" if title.endswith("%") else ""


def higher_is_better(metric: str) -> bool | None:
    """The better direction of a known metric, else None; a part of the test set is as the whole."""
    known = _KNOWN.get(metric.split(SEPARATOR)[0])
    return {"high": True, "low": False}.get(known[2]) if known else None


def in_order(metrics: Iterable[str]) -> list[str]:
    """Metrics as they are shown: known ones first, in a fixed order; then the others by name."""
    known = list(_KNOWN)
    return sorted(set(metrics), key=lambda name: (known.index(name) if name in known else len(known), name))
