"""Figures of a fit: Axes in, Axes out, nothing shown and no setting of matplotlib changed.

Legends stand above the panels: give Axes of a figure with `layout="constrained"`, or save with `bbox_inches="tight"`.
"""

from bayescale.plots.checking import plot_fit, plot_groups, plot_prior_posterior, plot_residuals
from bayescale.plots.choosing import plot_backtest, plot_compare
from bayescale.plots.many import plot_calibration, plot_tables
from bayescale.plots.pairs import plot_pairs
from bayescale.plots.planning import plot_frontier, plot_isoflop, plot_loss_contour
from bayescale.plots.recipes import plot_multiplier, plot_recipes
from bayescale.plots.windows import plot_held_out, plot_windows

__all__ = [
    "plot_backtest",
    "plot_calibration",
    "plot_compare",
    "plot_fit",
    "plot_frontier",
    "plot_groups",
    "plot_held_out",
    "plot_isoflop",
    "plot_loss_contour",
    "plot_multiplier",
    "plot_pairs",
    "plot_prior_posterior",
    "plot_recipes",
    "plot_residuals",
    "plot_tables",
    "plot_windows",
]
