"""What was measured of the paper's two observations, with its uncertainty: numbers per image in, estimates out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from results.analysis.bootstrap import Floats, mean_intervals
from results.analysis.statistics import summarize
from results.records.schema import MethodPart

Values = Mapping[str, Floats]
"""Measure to one number per image; NaN where an image has none."""
Quantity = Callable[[Values], Floats]
"""A number per image made from the measures, such as a difference of two."""
Verdict = Literal["holds", "reversed", "open"]


@dataclass(frozen=True)
class Measured:
    """One trained cell, measured on test images; the same images in the same order for every cell of a block.

    Attributes:
        values: the measures, named as in ``measures`` and ``weight_measures`` of ``adm_core.insight``.
        places: where S and the activations were read and how widths were matched, e.g. ``last (identity)``.
        grid: height and width of S.
    """

    values: Values
    places: str
    grid: tuple[int, int]


@dataclass(frozen=True)
class Estimate:
    """A mean over images and seeds.

    Attributes:
        mean: the mean.
        std: of the seeds' means, ddof 1; None for one seed.
        low: lower end of the 95 % interval over images.
        high: its upper end.
        seeds: each seed's own mean.
    """

    mean: float
    std: float | None
    low: float
    high: float
    seeds: tuple[float, ...]


def per_image(measured: Sequence[Values], quantities: Mapping[str, Quantity]) -> dict[str, Floats]:
    """Quantities of several seeds as [S, N] each, over the N images on which every measure is defined.

    Args:
        measured: the measures of each seed.
        quantities: by name.
    """
    undefined = [np.isnan(array) for values in measured for array in values.values()]
    kept = ~np.logical_or.reduce(undefined)
    return {name: np.stack([make(values)[kept] for values in measured]) for name, make in quantities.items()}


def estimates(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Means with intervals; an image counts once, with its mean over seeds, as seeds saw the same images.

    Args:
        arrays: quantity to [S, N]: seeds and images.
    """
    intervals = mean_intervals(np.stack([array.mean(0) for array in arrays.values()]))
    found = {}
    for (name, array), (low, high) in zip(arrays.items(), intervals, strict=True):
        seeds = tuple(float(mean) for mean in array.mean(1))
        summary = summarize(seeds)
        assert summary is not None  # a row has at least one seed
        found[name] = Estimate(summary.mean, summary.std, low, high, seeds)
    return found


def verdict(tests: Sequence[tuple[Estimate, float]]) -> Verdict:
    """``holds`` when every estimate lies above its null value, ``reversed`` when every one lies below, else ``open``.

    To lie above takes the whole interval over images and the mean of every single seed.

    Args:
        tests: estimates, each with the value that chance or no difference gives.
    """
    if all(min(estimate.low, *estimate.seeds) > null for estimate, null in tests):
        return "holds"
    if all(max(estimate.high, *estimate.seeds) < null for estimate, null in tests):
        return "reversed"
    return "open"


def without_adm(method: tuple[MethodPart, ...]) -> tuple[MethodPart, ...] | None:
    """The parts of a method beside ``adm``, settings included; None for a method without it."""
    rest = tuple(part for part in method if part.name != "adm")
    return rest if len(rest) < len(method) else None
