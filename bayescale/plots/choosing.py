"""Figures of a choice between models, and of forecasts held against runs."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayescale.backtesting import Backtest
from bayescale.comparison import Comparison
from bayescale.plots.style import (
    BLUE,
    DARK,
    GREY,
    VERMILLION,
    column_label,
    count_label,
    finish,
    legend_above,
    literal,
    log_scale,
    new_axes,
    new_grid,
    number_label,
    percent,
    power_label,
    side_by_side,
    text_sizes,
)

#: Inches that a model takes, and a panel's least height.
_LINE, _LEAST = 0.3, 0.9


def plot_compare(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw by how many nats every model is behind or ahead of the best, fold by fold and in all.

    Dots are folds, ordered along the axis and shaded from the first (dark) to the last; the bar is the sum over all
    folds, two standard errors to either side; the square is the score of the later runs, against the same model.

    Example:
        >>> ax = bs.plot_compare(bs.compare([student, normal]))  # doctest: +SKIP
    """
    order = comparison.order
    best = int(order[0])
    ax = new_axes(ax, (4.4, max(_LEAST, 0.8 + _LINE * len(order))))
    folds = np.asarray(comparison.dataset["elpd"])[:, comparison.counted]
    later = np.asarray(comparison.dataset["later_elpd"])
    palette = matplotlib.colormaps["viridis"]
    shade = palette(0.82 * np.linspace(0, 1, folds.shape[1]))
    for row, k in enumerate(order.tolist()):
        total, error, _ = comparison.difference(k, best)
        if k == best:
            ax.plot(0, row, marker="D", markersize=4, color=DARK)
            continue
        apart = folds[k] - folds[best]
        ax.scatter(apart, row + np.linspace(-0.22, 0.0, len(apart)), s=9, c=shade, linewidths=0, zorder=2)
        ax.plot([total - 2 * error, total + 2 * error], [row + 0.2] * 2, color=BLUE, linewidth=1.2, zorder=3)
        ax.plot(total, row + 0.2, marker="o", markersize=4, color=BLUE, zorder=4)
        if np.isfinite(later[[k, best]]).all():
            ax.plot(later[k] - later[best], row + 0.2, marker="s", markersize=4, color=VERMILLION, zorder=4)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    if np.abs(ax.get_xlim()).max() > 60:  # a model far behind must not hide the others
        ax.set_xscale("symlog", linthresh=10, linscale=1.2)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_yticks(range(len(order)), [literal(comparison.models[k].name) for k in order])
    ax.set_ylim(len(order) - 0.45, -0.55)
    handles = [
        Line2D([], [], color=BLUE, marker="o", markersize=4, linewidth=1.2, label="all folds ± 2 s.e."),
        Line2D([], [], color=shade[0], marker="o", markersize=3, linestyle="none", label=f"one {comparison.label}"),
    ]
    if comparison.later is not None:
        handles.append(Line2D([], [], color=VERMILLION, marker="s", markersize=4, linestyle="none", label="later runs"))
    legend_above(ax, handles, 3 if text_sizes(ax)[0] > 8 else 2)
    finish(ax, "nats ahead of the best", None)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_backtest(backtest: Backtest, axes: Any = None) -> np.ndarray:
    """Draw the error of every forecast against how far beyond its cut it reached, and the answer against the cut.

    Left, observed less forecast with the predictive interval, each cut in a colour of its own, and the
    least-squares forecasts as crosses; zero should lie in the intervals as often as they say. Right, the law's first
    derived quantity (else the best size at the budget) by cut, with the interval, and what all runs say.

    Example:
        >>> bs.plot_backtest(bs.backtest("chinchilla", runs))  # doctest: +SKIP
    """
    key = "quantity" if any("quantity" in o.answer for o in backtest.origins) else "params"
    answered = [o for o in backtest.origins if key in o.answer]
    panels = new_grid(axes, 2 if answered else 1, 2, (3.4, 2.7))
    _draw_errors(backtest, panels[0])
    if answered:
        _draw_answers(backtest, answered, key, panels[1])
    return panels


def _shades(count: int) -> np.ndarray:
    return matplotlib.colormaps["viridis"](0.82 * np.linspace(0, 1, max(count, 2)))[:count]


def _draw_errors(made: Backtest, ax: Axes) -> None:
    log_scale(ax, "x", number_label)
    crosses, missed = False, False
    for o, colour in zip(made.origins, _shades(len(made.origins)), strict=True):
        x = side_by_side(o.scale / o.cut, 0.009)  # runs of one budget
        ends = -np.stack([made.error(o, o.forecast[k]) for k in (0, 2, 1)])  # as residuals: above is above the law
        outside = (ends[1] > 0) | (ends[2] < 0)
        ax.vlines(x, ends[1], ends[2], color=colour, linewidth=0.8, alpha=0.45, zorder=2)
        ax.plot(x[~outside], ends[0][~outside], "o", color=colour, markersize=2.6, zorder=4)
        ax.plot(x[outside], ends[0][outside], "s", color=colour, markerfacecolor="white", markersize=2.8, zorder=4)
        missed |= bool(outside.any())
        if o.baseline is not None:
            crosses = True
            ax.plot(x, -made.error(o, o.baseline), "x", color=VERMILLION, markersize=2.6, markeredgewidth=0.7, zorder=3)
    ax.axhline(0, color=DARK, linewidth=0.8, zorder=1)
    handles = [
        Line2D([], [], color=DARK, marker="o", markersize=2.6, linewidth=0.8, label=f"forecast, {percent(made.prob)}"),
    ]
    if missed:
        square = dict(marker="s", markerfacecolor="white", markersize=2.8, linestyle="none")
        handles.append(Line2D([], [], color=DARK, label="outside", **square))  # type: ignore[arg-type]
    if crosses:
        cross = dict(marker="x", markersize=2.8, markeredgewidth=0.7, linestyle="none")
        handles.append(Line2D([], [], color=VERMILLION, label="least squares", **cross))  # type: ignore[arg-type]
    written = power_label if made.scale_unit == "FLOP" else count_label
    for k, (o, colour) in enumerate(zip(made.origins, _shades(len(made.origins)), strict=True)):
        name = written(float(f"{o.cut:.2g}"))
        dot = Line2D([], [], color=colour, marker="o", markersize=2.6, linestyle="none")
        dot.set_label(f"cut at {name}" if k == 0 else name)
        handles.append(dot)
    legend_above(ax, handles, 3, by_rows=True)
    finish(ax, f"{made.scale} of the run / cut", f"observed − forecast ({'%' if made.positive else made.unit})")


def _draw_answers(made: Backtest, answered: list[Any], key: str, ax: Axes) -> None:
    log_scale(ax, "x", power_label)
    cuts = np.asarray([o.cut for o in answered])
    middle, low, high = np.asarray([o.answer[key] for o in answered]).T
    handles: list[Any] = []
    if made.final and key in made.final:
        median, lower, upper = made.final[key]
        ax.axhspan(lower, upper, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.axhline(median, color=DARK, linewidth=0.8, zorder=1)
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label=f"all runs, {percent(made.prob)}"))
    ends = [middle - low, high - middle]
    ax.errorbar(cuts, middle, yerr=ends, color=BLUE, marker="o", markersize=3.5, linewidth=1.0, elinewidth=0.9)
    label = f"runs below, {percent(made.prob)}"
    handles.append(Line2D([], [], color=BLUE, marker="o", markersize=3.5, linewidth=1.0, label=label))
    points = [(o.cut, o.baseline_quantity) for o in answered if o.baseline_quantity is not None]
    if key == "quantity" and points:
        ax.plot(*np.asarray(points).T, "x", color=VERMILLION, markersize=4, zorder=4)
        handles.append(
            Line2D([], [], color=VERMILLION, marker="x", markersize=4, linestyle="none", label="least squares")
        )
    if key == "params":
        log_scale(ax, "y", count_label)
    legend_above(ax, handles, 3 if text_sizes(ax)[0] > 8 else 2)
    where = column_label("flops")[0] if made.scale_unit == "FLOP" else f"{made.scale} ({made.scale_unit})"
    name = made.quantity or "" if key == "quantity" else f"best size at {made.budget:.3g} FLOP"
    finish(ax, f"cut: {where}", name)
