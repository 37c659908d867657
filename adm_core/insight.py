"""ADM's two observations as measures: where two networks agree, and where each is active, against object masks.

Chen et al. (arXiv:2503.06685) observe that (1) features on which student and teacher agree lie mostly on the
foreground object, (2) the teacher emphasises the object more than the student, and (3) what differs most between them
lies on the object as well. Their formulas are not known to us; what is measured here is our reading of them, image by
image. Everything is plain tensor code: maps in, one number per image out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adm_core.align import pool_map
from adm_core.batch import Batch
from adm_core.losses.spatial import at_size, resize

SHARE = 0.3
"""Share of positions that the measures ending in ``_30`` select; the others select as many as the object has."""


@dataclass(frozen=True)
class ObjectExamples:
    """Test images whose objects are known exactly, as a task offers them.

    Attributes:
        batch: inputs as the networks get them, target, and the mask of valid positions where there is one.
        objects: bool [B, H, W] at image size, true on the object.
        images: uint8 [B, 3, H, W], RGB, to be looked at.
    """

    batch: Batch
    objects: Tensor
    images: Tensor


def activation(features: Tensor) -> Tensor:
    """``A = mean_c |F_c|``: how active a network is at each position, [B, C, h, w] → [B, h, w]."""
    return features.abs().mean(1)


def unit_range(maps: Tensor) -> Tensor:
    """Maps [B, H, W] brought to [0, 1], image by image; a constant map becomes zero."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def measures(
    similarity: Tensor,
    teacher: Tensor,
    student: Tensor,
    objects: Tensor,
    valid: Tensor | None = None,
    elsewhere: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every measure of a batch, float64 [B] each; NaN where an image is all object, has none, or has no valid pixel.

    The maps are interpolated bilinearly to the objects' size, activations are then brought to [0, 1] per image, and
    ``difference`` is ``|A_t - A_s|`` of these. IoU is always with the object's mask. For ``map`` = ``similarity`` and
    ``difference``:

    - ``map_auc``: area under the ROC curve of the map as a score for object pixels; 0.5 is chance;
    - ``map_top``, ``map_bottom``: IoU of the positions with the largest (smallest) values, as many as the object has;
    - ``map_others``: mean IoU of the same positions with the objects of *other* images, those of the batch and
      ``elsewhere``: what a map reaches that knows where objects usually lie and nothing of this image; NaN where there
      are no others;
    - ``map_top_30``, ``map_bottom_30``: the same for 30 % of the positions;
    - ``map_contrast``: mean inside the object minus mean outside.

    For ``role`` = ``teacher`` and ``student``: ``role_at_mean`` is the IoU of the activation binarised at its mean,
    ``role_at_area`` at the quantile that selects as many positions as the object has. ``chance`` and ``chance_30`` are
    what a map without preference reaches, ``ceiling`` what the object itself reaches when it is seen at the
    similarity's resolution, and ``area`` is the object's share of the image.

    Args:
        similarity: S, [B, h, w].
        teacher: the teacher's activation, [B, h', w'].
        student: the student's, [B, h'', w''].
        objects: bool [B, H, W].
        valid: bool [B, H, W], false on pixels that do not count; None: all count.
        elsewhere: bool [M, ., .] of any size, objects of further images.
    """
    size = objects.shape[1:]
    counted = (torch.ones_like(objects) if valid is None else valid).flatten(1)
    inside = objects.flatten(1) & counted
    scaled = {role: unit_range(resize(own.float(), size)) for role, own in (("teacher", teacher), ("student", student))}
    seen_coarsely = pool_map(objects[:, None].float(), (similarity.shape[1], similarity.shape[2]))[:, 0]
    others = inside if elsewhere is None else torch.cat([inside, at_size(elsewhere, size).flatten(1)])
    maps = {
        "similarity": resize(similarity.float(), size),
        "difference": (scaled["teacher"] - scaled["student"]).abs(),
    }
    area = inside.sum(1).double() / counted.sum(1)
    fixed = torch.full_like(area, SHARE)
    found = {"area": area, "chance": _chance(area, area), "chance_30": _chance(fixed, area)}
    found["ceiling"] = iou(top_share(resize(seen_coarsely, size).flatten(1), area, counted), inside)
    for name, values in maps.items():
        of_map = _of_map(values.flatten(1), inside, counted, area, fixed, others)
        found |= {f"{name}_{key}": value for key, value in of_map.items()}
    for role, values in scaled.items():
        flat = values.flatten(1)
        mean = flat.double().mul(counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True)
        found[f"{role}_at_mean"] = iou(((flat > mean) & counted).double(), inside)
        found[f"{role}_at_area"] = iou(top_share(flat, area, counted), inside)
    defined = (area > 0) & (area < 1)
    return {key: values.masked_fill(~defined, torch.nan) for key, values in found.items()}


def weight_measures(weights: Tensor, objects: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
    """How much ADM's weights select, and whether they select the object: float64 [B] each.

    - ``weight_spread``: standard deviation over positions of the weights at their own resolution; 0 is uniform, 0.58
      is that of weights spread evenly between 0 and 2 as ranks are;
    - ``weight_object``: mean weight of the object's pixels over the mean of all, interpolated bilinearly; 1 is no
      preference, NaN where an image has no object.

    Args:
        weights: w or v, [B, h, w], of mean one over valid positions and zero elsewhere.
        objects: bool [B, H, W].
        valid: bool [B, H, W], false on pixels that do not count; None: all count.
    """
    counted = torch.ones_like(objects) if valid is None else valid
    own = at_size(counted, weights.shape[1:])
    spread = ((weights.double() - 1).square() * own).sum((1, 2)) / own.sum((1, 2)).clamp_min(1)
    seen, inside = resize(weights.double(), objects.shape[1:]), objects & counted
    of_object, of_all = ((seen * where).sum((1, 2)) / where.sum((1, 2)) for where in (inside, counted))
    return {"weight_spread": spread.sqrt(), "weight_object": of_object / of_all}


def top_share(values: Tensor, share: Tensor, counted: Tensor) -> Tensor:
    """How much each position belongs to the given share of positions with the largest values.

    Tied positions at the edge share evenly what is left, as they would on average if the tie were broken by lot: maps
    of few positions hold many equal values when interpolated, and a constant map then reaches exactly chance.

    Args:
        values: [B, P]; negate them for the smallest.
        share: [B], in [0, 1].
        counted: bool [B, P]; other positions belong to nothing.

    Returns:
        float64 [B, P] in [0, 1], summing to ``share`` times the number of counted positions.
    """
    wanted = share.double()[:, None] * counted.sum(1, keepdim=True)
    masked = values.masked_fill(~counted, -torch.inf)
    last = (wanted.nan_to_num().ceil().long() - 1).clamp(0, values.shape[1] - 1)
    edge = masked.sort(1, descending=True).values.gather(1, last)
    above, tied = masked > edge, (masked == edge) & counted
    left = (wanted - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True).clamp_min(1)
    return above.double() + tied * left


def iou(chosen: Tensor, inside: Tensor) -> Tensor:
    """Intersection over union of memberships [B, P] in [0, 1] and a mask bool [B, P]: float64 [B]."""
    shared = (chosen * inside).sum(1)
    return shared / (chosen.sum(1) + inside.sum(1) - shared)


def auc(values: Tensor, inside: Tensor, counted: Tensor) -> Tensor:
    """Area under the ROC curve of values [B, P] as scores for a mask, ties counting half: float64 [B].

    Computed from midranks (Mann-Whitney): ``(R - n(n + 1)/2) / (n m)`` with R the sum of the ranks of the n positions
    inside and m those outside; NaN where n or m is zero.

    Args:
        values: [B, P].
        inside: bool [B, P], within ``counted``.
        counted: bool [B, P].
    """
    masked = values.masked_fill(~counted, torch.inf).contiguous()
    ordered = masked.sort(1).values
    first, last = (torch.searchsorted(ordered, masked, right=side) for side in (False, True))
    ranks = (first + last + 1).double() / 2
    n = inside.sum(1).double()
    m = counted.sum(1) - n
    return ((ranks * inside).sum(1) - n * (n + 1) / 2) / (n * m)


def _of_map(
    values: Tensor, inside: Tensor, counted: Tensor, area: Tensor, fixed: Tensor, others: Tensor
) -> dict[str, Tensor]:
    """The measures of one map [B, P]; see :func:`measures`."""
    top = top_share(values, area, counted)
    outside = counted & ~inside
    within = (values.double() * inside).sum(1) / inside.sum(1)
    without = (values.double() * outside).sum(1) / outside.sum(1)
    return {
        "auc": auc(values, inside, counted),
        "top": iou(top, inside),
        "bottom": iou(top_share(-values, area, counted), inside),
        "others": _iou_with_others(top, others, counted),
        "top_30": iou(top_share(values, fixed, counted), inside),
        "bottom_30": iou(top_share(-values, fixed, counted), inside),
        "contrast": within - without,
    }


def _iou_with_others(chosen: Tensor, others: Tensor, counted: Tensor) -> Tensor:
    """Mean IoU of each selection [B, P] with all objects [B + M, P] but its own and empty ones: float64 [B]."""
    masks = others.double().T
    shared = chosen @ masks
    ious = shared / (chosen.sum(1, keepdim=True) + counted.double() @ masks - shared)
    wanted = others.any(1).expand_as(ious).clone().fill_diagonal_(False)
    return ious.nan_to_num().mul(wanted).sum(1) / wanted.sum(1)


def _chance(share: Tensor, area: Tensor) -> Tensor:
    """IoU of a map without preference: a share q of positions holds a share q of the object: ``qa / (q + a - qa)``."""
    shared = share * area
    return shared / (share + area - shared)
