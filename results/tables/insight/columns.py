"""Columns of the insight tables, each with the quantity that it shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from results.analysis.insight import Quantity
from results.table import Column

Spec = tuple[Column, Quantity]
"""A column, and what it shows of an image: ``spread`` columns as mean and std over seeds, others with an interval."""
_IOU = "IoU with the object's mask"
_OWN = "as many positions as the object has"


def _of(measure: str, null: str = "", scale: float = 1.0) -> Quantity:
    """A measure, less another where one is named."""
    return lambda values: scale * (values[measure] - values[null] if null else values[measure])


def _percent(measure: str, null: str = "") -> Quantity:
    return _of(measure, null, 100.0)


def _of_map(name: str, shown: str) -> tuple[Spec, ...]:
    """Columns that tell whether a map is high on the object; ``shown`` is its sign."""
    return (
        (Column("auc", f"AUC of {shown}", "estimate", 3, f"{shown} as a score for object pixels; 0.5 is chance"),
         _of(f"{name}_auc")),
        (Column("top", "top IoU %", "spread", 1, f"{_IOU} of the highest {shown}, {_OWN}"), _percent(f"{name}_top")),
        (Column("bottom", "bottom IoU %", "spread", 1, f"the same of the lowest {shown}"), _percent(f"{name}_bottom")),
        (Column("over_bottom", "top − bottom", "change", 1, "top IoU minus bottom IoU"),
         _percent(f"{name}_top", f"{name}_bottom")),
        (Column("over_chance", "top − chance", "change", 1, "top IoU minus that of a map without preference"),
         _percent(f"{name}_top", "chance")),
        (Column("over_others", "top − others", "change", 1, "top IoU minus that with the objects of other images"),
         _percent(f"{name}_top", f"{name}_others")),
        (Column("top_30", "top 30 % IoU %", "spread", 1, f"{_IOU} of the highest 30 % of {shown}"),
         _percent(f"{name}_top_30")),
        (Column("bottom_30", "bottom 30 % IoU %", "spread", 1, f"the same of the lowest 30 % of {shown}"),
         _percent(f"{name}_bottom_30")),
        (Column("over_chance_30", "top 30 % − chance", "change", 1, "minus that of a map without preference"),
         _percent(f"{name}_top_30", "chance_30")),
    )  # fmt: skip


def _of_activation(key: str, at: str, how: str) -> tuple[Spec, ...]:
    """Columns that hold the teacher's activation against the student's, binarised in one way."""
    return (
        (Column(f"teacher_{key}", f"teacher {at} IoU %", "spread", 1, f"{_IOU} of the teacher's activation, {how}"),
         _percent(f"teacher_at_{key}")),
        (Column(f"student_{key}", f"student {at} IoU %", "spread", 1, f"the same of the student's, {how}"),
         _percent(f"student_at_{key}")),
        (Column(f"gap_{key}", f"{at}: teacher − student", "change", 1, f"the difference of the two, {how}"),
         _percent(f"teacher_at_{key}", f"student_at_{key}")),
    )  # fmt: skip


AGREEMENT: tuple[Spec, ...] = (
    (Column("contrast", "S in − out", "change", 3, "mean similarity on the object minus off it"),
     _of("similarity_contrast")),
    (Column("weight_spread", "w spread", "spread", 2, "standard deviation of the consensus weights; 0 is uniform"),
     _of("weight_spread")),
    (Column("weight_object", "w on the object", "estimate", 3, "the object's mean consensus weight; 1: no preference"),
     _of("weight_object")),
    *_of_map("similarity", "S"),
)  # fmt: skip
"""Is S high on the object?"""
EMPHASIS: tuple[Spec, ...] = (
    *_of_activation("area", "A top", _OWN),
    *_of_activation("mean", "A > mean", "where it is above its mean"),
)
"""Is the teacher's activation A closer to the object than the student's?"""
DIFFERENCE: tuple[Spec, ...] = _of_map("difference", "|A_t − A_s|")
"""Do the activations differ most on the object?"""
CHANGE: tuple[Spec, ...] = (
    (Column("student_area", "student A top IoU %", "change", 1, f"of the student's activation, {_OWN}"),
     _percent("student_at_area")),
    (Column("student_mean", "student A > mean IoU %", "change", 1, "of the student's activation, above its mean"),
     _percent("student_at_mean")),
    (Column("teacher_area", "teacher A top IoU %", "change", 1, f"of the teacher's activation, {_OWN}"),
     _percent("teacher_at_area")),
    (Column("teacher_mean", "teacher A > mean IoU %", "change", 1, "of the teacher's activation, above its mean"),
     _percent("teacher_at_mean")),
    (Column("auc", "AUC of S", "change", 3, "S as a score for object pixels"), _of("similarity_auc")),
    (Column("contrast", "S in − out", "change", 3, "mean similarity on the object minus off it"),
     _of("similarity_contrast")),
    (Column("top", "S top IoU %", "change", 1, f"of the highest S, {_OWN}"), _percent("similarity_top")),
    (Column("difference_auc", "AUC of |A_t − A_s|", "change", 3, "the difference as a score for object pixels"),
     _of("difference_auc")),
)  # fmt: skip
"""What a row with ADM has more than the same row without it."""

CHANCE: Mapping[str, Quantity] = {
    "auc": lambda values: np.full_like(values["chance"], 0.5),
    "weight_object": lambda values: np.ones_like(values["chance"]),
    **dict.fromkeys(("top", "bottom", "teacher_area", "student_area"), _percent("chance")),
    **dict.fromkeys(("top_30", "bottom_30"), _percent("chance_30")),
}
"""What a map without preference reaches, by column."""
CEILING: Mapping[str, Quantity] = dict.fromkeys(("top", "teacher_area", "student_area"), _percent("ceiling"))
"""What the object itself reaches at the resolution of S, by column."""
