"""Plots of a block as inline SVG. This package alone loads matplotlib; nothing else may import it at start."""

from results.plots.canvas import Plot, drawing
from results.plots.curves import curves
from results.plots.intervals import intervals
from results.plots.series import Series, choose
from results.plots.tradeoff import tradeoff

__all__ = ["Plot", "Series", "choose", "curves", "drawing", "intervals", "tradeoff"]
