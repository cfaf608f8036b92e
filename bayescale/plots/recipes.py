"""Figures that compare recipes: each one's curve against compute, and the multiplier between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayescale.allocation import require_headline
from bayescale.design.frontiers import axis_of
from bayescale.design.multiplying import multiplier
from bayescale.errors import NotFittedFor
from bayescale.forecasting import forecast
from bayescale.plots.budgets import frontier_bands
from bayescale.plots.draws import compute_by, compute_label, ends, stretches, thinned
from bayescale.plots.style import (
    BLUE,
    DARK,
    DASHED,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    column_label,
    finish,
    interval_label,
    legend_above,
    literal,
    log_scale,
    loss_label,
    new_axes,
    number_label,
    power_label,
    warning_of,
)
from bayescale.posterior import Fit, levels_of

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, DARK)
#: More recipes than this cannot be told apart in one panel.
MOST_RECIPES = len(_COLOURS)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_POINTS = 25
#: How grey is what no runs bear on.
_UNSEEN = 0.25


def recipe_curves(
    fit: Fit, quantity: str = "loss", *, prob: float | None = None, draws: str = "headline"
) -> pd.DataFrame:
    """Median and interval of every recipe's curve along its range of compute, and whether that is within its runs:
    columns recipe, at, median, lower, upper, within.

    For a law with N and D it is a quantity of the compute-optimal allocation, for a law of one input the loss.
    """
    import pandas as pd

    require_headline(fit, draws)
    prob = fit.probability(prob)
    parts = []
    for column in fit.levels:
        for level in levels_of(fit):
            one = thinned(fit.at(**{column: level}))
            axis = axis_of(one.law, {})
            if axis.frontier:
                made = frontier_bands(one, None, quantity, prob=prob, draws=draws).bands.rename(columns={"flops": "at"})
                made = made[["at", "median", "lower", "upper", "within"]]
            else:
                runs = axis.values(one.runs, one.law)
                grid = np.unique([*np.geomspace(runs.min(), 3 * runs.max(), _POINTS), runs.max()])
                values = forecast(one, inputs={axis.name: grid}, prob=prob, draws=draws).interval("mean")
                made = pd.DataFrame(dict(zip(("at", "median", "lower", "upper"), (grid, *values), strict=True)))
                made["within"] = grid <= runs.max()
            parts.append(made.assign(recipe=level))
    if not parts:
        raise NotFittedFor("this fit compares no recipes", remedy="Fit with pool='recipe' (--pool recipe).")
    return pd.concat(parts, ignore_index=True)


def plot_recipes(
    fit: Fit,
    ax: Axes | None = None,
    quantity: str = "loss",
    *,
    prob: float | None = None,
    draws: str = "headline",
) -> Axes:
    """Draw every recipe's compute-optimal frontier with its credible band, and the runs.

    `quantity` is loss, params, tokens or tokens_per_param of the best allocation; a law of one input is drawn along it.
    Beyond a recipe's own runs, by compute or by the optimum's size or data, its line is dashed. Recipes that were
    fitted together err together: whether one is better is told by `plot_multiplier`, not by whether bands overlap.

    Raises `NotFittedFor` for a fit without recipes, or with more than six, or that may not be headlined.

    Example:
        >>> ax = bs.plot_recipes(fit)  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    curves = recipe_curves(fit, quantity, prob=prob, draws=draws)
    names = list(dict.fromkeys(curves["recipe"]))
    if len(names) > MOST_RECIPES:
        raise NotFittedFor(
            f"{len(names)} recipes cannot be told apart in one panel", remedy="Draw fit.at(...) one at a time."
        )
    ((column, _),) = fit.levels.items()
    axis = axis_of(fit.law, {})
    ax = new_axes(ax)
    source = "flops" if axis.frontier else fit.law.input(axis.name).column
    along, written = column_label(source)
    along = compute_label("6nd", fit.runs) if axis.frontier else along
    log_scale(ax, "x", written)
    label = loss_label(fit) if quantity == "loss" or not axis.frontier else column_label(quantity)[0]
    log_scale(ax, "y", number_label if quantity == "loss" or not axis.frontier else column_label(quantity)[1])
    shown = fit.law.responses[0].source if quantity == "loss" or not axis.frontier else quantity
    handles = []
    for name, colour, marker in zip(names, _COLOURS, _MARKERS, strict=False):
        own, part = fit.at(**{column: name}).runs, curves[curves["recipe"] == name]
        where = compute_by("6nd", own) if axis.frontier else axis.values(own, fit.law)
        dots: dict[str, Any] = dict(color=colour, marker=marker, markersize=2.8, markeredgewidth=0)
        if own.has(shown):
            ax.plot(where, own.values(shown), alpha=0.7, linestyle="none", zorder=1, **dots)
        ax.fill_between(part["at"], part["lower"], part["upper"], color=colour, alpha=0.22, linewidth=0, zorder=2)
        for inside, rows in stretches(np.asarray(part["within"])):
            line = part.iloc[rows]
            ax.plot(
                line["at"],
                line["median"],
                color=colour,
                linewidth=1.3,
                linestyle="-" if inside else DASHED,
                zorder=3,
            )
        handles.append(Line2D([], [], linewidth=1.3, label=literal(name), **dots))
    handles += [
        Patch(color=GREY, alpha=0.35, linewidth=0, label=interval_label(fit, prob, draws)),
        Line2D([], [], color=GREY, marker="o", markersize=2.5, linestyle="none", label="runs"),
        Line2D([], [], color=GREY, linewidth=1.3, linestyle=DASHED, label="beyond its runs"),
    ]
    legend_above(ax, handles, 3, title=warning_of(fit))
    return finish(ax, along, f"optimal {label}" if axis.frontier and quantity != "loss" else label)


def plot_multiplier(
    fit: Fit,
    between: tuple[str, str],
    ax: Axes | None = None,
    flops: Sequence[float] | None = None,
    *,
    prob: float | None = None,
    draws: str = "headline",
) -> Axes:
    """Draw the compute multiplier of y over x against compute: how many times the compute x needs to do as well.

    The line is the posterior median, the bands 50 % and `prob`. Above one (the horizontal line) y is the better recipe.
    The white part holds the compute at which both have runs; beyond, where it is grey and the line dashed, the answer
    is the law's form.

    Raises `NotFittedFor` and `LawError` where `multiplier` does.

    Example:
        >>> ax = bs.plot_multiplier(fit, ("c4", "refinedweb"))  # doctest: +SKIP
    """
    x, y = between
    first = multiplier(fit, between, (), prob=prob, draws=draws)
    start, end = first.crossings[0].start, first.crossings[0].end
    edge = (min(start, *flops), max(end, *flops)) if flops is not None else (start, 10 * end)
    # The ends of what both have runs of are points of the curve, so that its parts begin there.
    grid = np.unique([*np.geomspace(*edge, _POINTS), *(x for x in (start, end) if edge[0] < x < edge[1])])
    made = multiplier(fit, between, grid.tolist(), prob=prob, draws=draws)
    values = np.asarray(made.dataset["multiplier"])[0].reshape(len(grid), -1)
    wide = np.quantile(values, ends(made.prob), axis=1, method="inverted_cdf")
    half = np.quantile(values, [0.25, 0.75], axis=1, method="inverted_cdf")
    ax = new_axes(ax)
    frontier = made.axis.frontier
    along, written = column_label("flops" if frontier else fit.law.input(made.axis.name).column)
    along = compute_label("6nd", fit.runs) if frontier else along
    log_scale(ax, "x", written if not frontier else power_label)
    log_scale(ax, "y", number_label)
    for low, high in ((edge[0], start), (end, edge[1])):
        if high > low * 1.001:
            ax.axvspan(low, high, color=GREY, alpha=_UNSEEN, linewidth=0, zorder=0)
    ax.fill_between(made.flops, wide[1], wide[2], color=BLUE, alpha=0.25, linewidth=0)
    ax.fill_between(made.flops, half[0], half[1], color=BLUE, alpha=0.4, linewidth=0)
    at = np.asarray(made.flops)
    for inside, part in stretches((at >= start * (1 - 1e-9)) & (at <= end * (1 + 1e-9))):
        ax.plot(at[part], wide[0][part], color=BLUE, linewidth=1.4, linestyle="-" if inside else DASHED)
    ax.axhline(1.0, color=DARK, linewidth=0.8, linestyle=(0, (1, 1.5)))
    ax.set_xlim(*edge)
    handles = [
        Line2D([], [], color=BLUE, linewidth=1.4, label="median"),
        Patch(color=BLUE, alpha=0.6, linewidth=0, label=interval_label(fit, 0.5, draws)),
        Patch(color=BLUE, alpha=0.25, linewidth=0, label=interval_label(fit, made.prob, draws)),
        Patch(color=GREY, alpha=_UNSEEN, linewidth=0, label="no runs of both"),
    ]
    legend_above(ax, handles, 2, title=warning_of(fit))
    return finish(ax, along, f"compute multiplier\n{literal(y)} over {literal(x)}")
