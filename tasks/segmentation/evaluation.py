"""What trained networks are worth: MMSegmentation's own inference and IoU, on labels at their full size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from adm_core.task import ENSEMBLE, Scores, equals
from tasks.datasets.scenes import VOID
from tasks.segmentation.batches import Scored
from tasks.segmentation.class_maps import MapReader, MapWriter
from tasks.segmentation.data_settings import Sliding
from tasks.segmentation.networks.segmentor import Segmentor


class Areas(NamedTuple):
    """Pixels per class [K]."""

    intersection: Tensor
    union: Tensor
    predicted: Tensor
    labelled: Tensor


class Evaluation(NamedTuple):
    """Scores by role and metric, and the class maps of the teacher as :mod:`.class_maps` packs them, where asked."""

    scores: Scores
    teacher: Tensor | None


def evaluate(
    networks: Mapping[str, Segmentor],
    batches: Iterable[Scored],
    classes: tuple[str, ...],
    sliding: Sliding | None,
    teacher: Tensor | None = None,
    pack: bool = False,
) -> Evaluation:
    """Metrics of each network and of the ensemble of equals, one pass over the images.

    Beside a teacher the student also has ``agreement``, the share in percent of labelled pixels on which both name the
    same class.

    Args:
        networks: by role; they are put in evaluation mode.
        batches: from :func:`tasks.segmentation.batches.evaluation_batches`.
        classes: their names.
        sliding: windows; None: the whole image at once.
        teacher: class maps of a teacher that was evaluated before and so is not among the networks.
        pack: whether the maps of one that is are wanted.
    """
    none = torch.zeros(len(classes), dtype=torch.float64)
    together = [ENSEMBLE] if equals(networks) else []
    totals = {role: Areas(none, none, none, none) for role in (*networks, *together)}
    before, packing = MapReader(teacher) if teacher is not None else None, MapWriter()
    same = labelled = 0
    for batch in batches:
        predicted = _predictions(networks, batch.images, sliding)
        for role, found in predicted.items():
            new = areas(found, batch.labels, len(classes))
            totals[role] = Areas(*(total + area for total, area in zip(totals[role], new, strict=True)))
        theirs = before.next(batch.labels.shape).to(batch.labels.device) if before else predicted.get("teacher")
        if theirs is not None:
            valid = batch.labels != VOID
            same += int(((predicted["student"] == theirs) & valid).sum())
            labelled += int(valid.sum())
        if pack:
            packing.add(predicted["teacher"])
    result: Scores = {role: scores(total, classes) for role, total in totals.items()}
    if before or "teacher" in networks:
        result["student"]["agreement"] = 100 * same / labelled
    return Evaluation(result, packing.packed() if pack else None)


def _predictions(networks: Mapping[str, Segmentor], images: Tensor, sliding: Sliding | None) -> dict[str, Tensor]:
    """Predicted classes of each network, and of the mean of the softmax outputs of equals."""
    predicted: dict[str, Tensor] = {}
    members, total = equals(networks), None
    for role, network in networks.items():
        logits = predict_logits(network, images, sliding)
        predicted[role] = logits.argmax(1)
        if role in members:
            total = logits.softmax(1) if total is None else total + logits.softmax(1)
    return predicted if total is None else predicted | {ENSEMBLE: total.argmax(1)}


def predict_logits(network: Segmentor, images: Tensor, sliding: Sliding | None) -> Tensor:
    """Logits [B, K, H, W] of images [B, 3, H, W] (RGB, 0..255), by MMSegmentation's inference."""
    from mmengine.config import ConfigDict

    model = network.model
    model.test_cfg = ConfigDict(
        {"mode": "slide", "crop_size": (sliding.crop, sliding.crop), "stride": (sliding.stride, sliding.stride)}
        if sliding
        else {"mode": "whole"}
    )
    network.eval()
    size = tuple(images.shape[2:])
    about = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0, 0, 0, 0]}
    with torch.inference_mode():
        # Of images as they are, neither padded nor mirrored, the most likely class is all that its predict() adds, and
        # it takes images one by one and resizes each to the size it has.
        logits: Tensor = model.inference(network.normalised(images), [about] * len(images))
        return logits


def areas(predicted: Tensor, labels: Tensor, classes: int) -> Areas:
    """Pixels per class of one batch, as MMSegmentation's ``IoUMetric`` has them; void pixels are left out.

    They are counted in integers: ``IoUMetric`` counts in float32, where a class ends at 2^24 pixels of a batch.

    Args:
        predicted: classes int64 [B, H, W].
        labels: uint8 [B, H, W].
        classes: K.
    """
    pairs = (labels.long() * classes + predicted).masked_fill_(labels == VOID, classes**2)
    confusion = pairs.flatten().bincount(minlength=classes**2 + 1)[:-1].view(classes, classes).double().cpu()
    right, found, there = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    return Areas(right, found + there - right, found, there)


def scores(found: Areas, classes: tuple[str, ...]) -> dict[str, float | None]:
    """``miou``, ``macc``, ``aacc`` and ``iou/CLASS`` in percent; None for a class that nobody named or labelled.

    Means are over the classes that occur, as ``IoUMetric`` takes them, but not rounded.
    """
    from mmseg.evaluation import IoUMetric

    metrics = IoUMetric.total_area_to_metrics(*found, ["mIoU"])
    per_class = [100 * float(value) for value in metrics["IoU"]]
    result = {"miou": _mean(per_class), "macc": _mean([100 * float(value) for value in metrics["Acc"]])}
    result["aacc"] = 100 * float(metrics["aAcc"])
    return result | {
        f"iou/{name}": None if math.isnan(value) else value for name, value in zip(classes, per_class, strict=True)
    }


def _mean(values: list[float]) -> float | None:
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there) if there else None
