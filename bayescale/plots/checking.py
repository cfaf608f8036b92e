"""Figures of how well a fit holds: runs against the law, residuals, groups, and prior against posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bayescale.plots.comparisons import Residuals, density, group_effects, residual_table, scalars
from bayescale.plots.draws import compute_of, ends
from bayescale.plots.style import (
    BLUE,
    COLUMN,
    DARK,
    GREEN,
    GREY,
    HALO,
    ORANGE,
    PURPLE,
    VERMILLION,
    column_label,
    count_label,
    finish,
    interval_label,
    legend_above,
    legend_over,
    literal,
    log_scale,
    loss_label,
    new_axes,
    new_grid,
    number_label,
    percent,
    power_label,
    shades,
    side_by_side,
    size_key,
    symbol_label,
    text_sizes,
    warning_of,
)
from bayescale.posterior import Fit
from bayescale.runs import COLUMNS

#: One colour a grouping of the caterpillar.
_GROUPS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)
#: Levels are drawn without their names where these would be smaller than so many points.
_SMALLEST = 6.0
_NAMED_CATEGORIES = 12
#: Units of columns that are those of the loss, whatever a table's own loss is counted in.
_OF_THE_LOSS = {COLUMNS["loss"].unit, COLUMNS["loss_se"].unit}


def plot_fit(fit: Fit, axes: Any = None, *, prob: float | None = None, seed: int = 0) -> np.ndarray:
    """Draw every run against the law: observed and predicted above, residuals below, by training compute.

    Bars are the predictive interval of one run at those inputs (curve, group effects and noise), dashes the law's
    median curve, dots the runs, coloured by model size. The lower panel is `plot_residuals`. Where the table has no
    compute, the law's first input takes its place. `axes` are two Axes; they are returned as an array.

    Raises `NotFittedFor` for a law with an exact likelihood that replicates no responses.

    Example:
        >>> upper, lower = bs.plot_fit(fit)  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    found = residual_table(fit, prob=prob, seed=seed)
    along, table = _along(fit, _default_axis(fit), found.table.index), found.table
    if along.logarithmic:
        along = replace(along, values=side_by_side(along.values))  # the runs of one budget stand beside each other
    x = along.values
    upper, lower = new_grid(axes, 2, 1, (COLUMN[0], 1.85), sharex=True, height_ratios=(1.5, 1))
    along.prepare(upper)
    upper.vlines(x, table["lower"], table["upper"], color=GREY, alpha=0.5, linewidth=1.2, zorder=1)
    upper.plot(x, table["median"], "_", color=DARK, markersize=4, markeredgewidth=0.9, zorder=2)
    sizes = _sizes(fit, found.table.index)
    colours = BLUE if sizes is None else shades(sizes)[0](sizes)
    upper.scatter(x, table["observed"], s=9, c=colours, linewidths=0, zorder=3)
    handles = [
        Line2D([], [], color=GREY, marker="o", markersize=3, linestyle="none", label="runs"),
        Line2D([], [], color=DARK, marker="_", markersize=5, linestyle="none", label="law's curve, median"),
        Line2D([], [], color=GREY, alpha=0.6, linewidth=1.5, label=f"{percent(prob)} predictive, one run"),
    ]
    legend_above(upper, handles, 2, title=warning_of(fit))
    finish(upper, None, loss_label(fit))
    _residual_panel(fit, lower, along, found, prob, None)
    if axes is None:
        upper.label_outer()
    else:
        finish(upper, along.label, None)
    return np.asarray([upper, lower], object)


def plot_residuals(
    fit: Fit, against: str | None = None, ax: Axes | None = None, *, prob: float | None = None, seed: int = 0
) -> Axes:
    """Draw each run's distance from the law's median curve against a column, coloured by model size.

    Residuals are in percent of the curve where the response is positive, else on the scale of the noise. The band
    holds `prob` of the noise and, where groups were fitted, of their effects: more runs outside it, or a slope across
    it, are what the law does not explain. `against` is any column of the table, by default the compute.

    Raises `RunsError` for a column that is not there.

    Example:
        >>> ax = bs.plot_residuals(fit, "params")  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    found = residual_table(fit, prob=prob, seed=seed)
    along = _along(fit, against or _default_axis(fit), found.table.index)
    ax = new_axes(ax)
    _residual_panel(fit, ax, along, found, prob, warning_of(fit))
    return ax


def _residual_panel(fit: Fit, ax: Axes, along: _Along, found: Residuals, prob: float, title: str | None) -> None:
    along.prepare(ax)
    x = along.values
    handles = []
    if found.band is not None:
        ax.axhspan(*found.band, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label=f"{percent(prob)} {found.filled_by}"))
    ax.axhline(0, color=DARK, linewidth=0.8, zorder=1)
    sizes = _sizes(fit, found.table.index)
    if sizes is None:
        ax.scatter(x, found.table["residual"], s=9, c=BLUE, linewidths=0, zorder=2)
    else:
        colour, _ = shades(sizes)
        ax.scatter(x, found.table["residual"], s=9, c=colour(sizes), linewidths=0, zorder=2)
        handles += size_key(ax, sizes, colour)
    if handles:
        legend_above(
            ax,
            handles,
            len(handles),
            by_rows=True,
            title=title,
            handlelength=1.0,
            columnspacing=0.7,
            handletextpad=0.3,
        )
    finish(ax, along.label, f"residual ({found.unit})")


def _default_axis(fit: Fit) -> str:
    """The compute where the table tells it, else the law's first input."""
    if compute_of(fit.runs) is not None:
        return "flops"
    return fit.law.inputs[0].columns(fit.runs.columns)[0]


@dataclass(frozen=True)
class _Along:
    """The runs along a column: the axis's label, the value of every run, how it is written, or the names of levels."""

    label: str
    values: np.ndarray
    written: Callable[..., str]
    names: tuple[str, ...] = ()

    def prepare(self, ax: Axes) -> None:
        """Set up the x axis."""
        if self.names:
            few = len(self.names) <= _NAMED_CATEGORIES
            ax.set_xticks(range(len(self.names)) if few else [], self.names if few else [], rotation=30, ha="right")
        elif self.logarithmic:
            log_scale(ax, "x", self.written)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            ax.xaxis.set_major_formatter(FuncFormatter(self.written))

    @property
    def logarithmic(self) -> bool:
        """Whether the values are drawn on a logarithmic axis."""
        return not self.names and self.values.min() > 0 and self.values.max() > 4 * self.values.min()


def _along(fit: Fit, column: str, rows: Any) -> _Along:
    import pandas as pd

    runs = fit.runs
    used = runs.frame.index.isin(rows)
    label, written = column_label(column)
    response, about = fit.law.responses[0], COLUMNS.get(runs.resolve(column))
    if runs.resolve(column) == response.source:
        label = loss_label(fit)
    elif about is not None and about.unit in _OF_THE_LOSS:
        label = f"{column} ({fit.info['loss_unit']})"
    if column == "flops" and not runs.has("flops") and (C := compute_of(runs)) is not None:
        return _Along(label, C[used], written)
    if column in runs.columns and not pd.api.types.is_numeric_dtype(runs.frame[column]):
        index, names = runs.labels(column)
        return _Along(literal(label), index[used], written, tuple(map(literal, names)))
    return _Along(literal(label), runs.values(column)[used], written)


def _sizes(fit: Fit, rows: Any) -> np.ndarray | None:
    """The model size of every run, where the table has more than one."""
    runs = fit.runs
    if not runs.has("params"):
        return None
    sizes = runs.values("params")[runs.frame.index.isin(rows)]
    return sizes if np.ptp(sizes) > 0 else None


def plot_groups(fit: Fit, ax: Axes | None = None, *, prob: float | None = None) -> Axes:
    """Draw the estimated effect of every group's levels with its credible interval, one block a grouping.

    Effects are in percent of the response where it is positive, else on the scale of the noise; they are shrunk towards
    0, the law's own curve.

    Raises `NotFittedFor` when no group effects were fitted, saying how to.

    Example:
        >>> ax = bs.plot_groups(fit)  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    table, unit = group_effects(fit, prob=prob)
    lines = len(table) + 2 * len(fit.group)
    ax = new_axes(ax, (COLUMN[0], float(np.clip(0.6 + 0.14 * lines, 1.6, 7.5))))
    _, small = text_sizes(ax)
    tight = min(small, 0.9 * 72 * ax.bbox.height / ax.figure.dpi / (lines + 1))
    named = tight >= _SMALLEST
    ax.axvline(0, color=DARK, linewidth=0.8, zorder=1)
    ticks, texts, at = [], [], 0.0
    for k, column in enumerate(fit.group):
        block = table[table["column"] == column]
        colour = _GROUPS[k % len(_GROUPS)]
        title, written = column_label(column)
        title = literal(title)
        y = at + 1 + np.arange(len(block))
        ax.annotate(
            title,
            (0, at),
            (4, 0),
            ax.get_yaxis_transform(),
            "offset points",
            color=colour,
            fontsize=small,
            va="center",
            path_effects=HALO,
            zorder=4,
        )
        ax.hlines(y, block["lower"], block["upper"], color=colour, linewidth=1.2, zorder=2)
        ax.plot(block["median"], y, "o", color=colour, markersize=3.2, zorder=3)
        ticks += [*y]
        texts += _named_levels(list(block["level"]), written)
        at = y[-1] + 1.6
    ax.set_yticks(ticks if named else [], texts if named else [])
    ax.set_ylim(at - 0.8, -0.8)
    words = f"median and {interval_label(fit, prob, 'posterior')}"
    legend_above(
        ax,
        [Line2D([], [], color=GREY, marker="o", markersize=3.2, linewidth=1.2, label=words)],
        1,
        title=warning_of(fit),
    )
    finish(ax, f"effect on the {fit.law.responses[0].name} ({unit})", None)
    ax.tick_params(axis="y", length=0, labelsize=min(tight, small))
    return ax


def _named_levels(names: Sequence[str], written: Callable[..., str]) -> list[str]:
    """Levels as they are written, with more digits where two would read alike."""
    texts: list[str] = []
    for options in ({}, {"digits": 4}, {"digits": 5}):
        texts = [_level(name, written, **options) for name in names]
        if len({*texts}) == len(texts) or written is not count_label:
            break
    return texts


def _level(name: str, written: Callable[..., str], **options: Any) -> str:
    try:
        return written(float(name), **options)
    except ValueError:
        return literal(name)


def plot_prior_posterior(
    fit: Fit, names: Sequence[str] | None = None, axes: Any = None, *, prob: float | None = None, above: bool = False
) -> np.ndarray:
    """Draw the prior and the posterior density of each parameter, one panel each, with medians and intervals below.

    Every density is scaled to the same height; an axis is logarithmic where the prior of a positive quantity spans more
    than a decade. By default: the law's parameters, its first derived quantity, noise and spreads of groups, without
    what was fixed; `names` are those of `fit.summary()`. `axes` are at least as many Axes; those drawn in are returned.
    The key stands over the figure if it was made here or with `above=True`, else over the first panel.

    Raises `NotFittedFor` for a name that the fit does not report, and for fewer axes than panels.

    Example:
        >>> axes = bs.plot_prior_posterior(fit, ["alpha", "beta", "a"])  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    draws = scalars(fit, names)
    panels = new_grid(axes, len(draws), 4 if len(draws) > 6 else 3, (1.65, 1.35))
    for ax, (name, (prior, after)) in zip(panels, draws.items(), strict=True):
        _densities(ax, prior, after, prob)
        finish(ax, symbol_label(fit, name), None)
        ax.spines["left"].set_visible(False)
    adjusted = fit.interval_kind() == "adjusted"
    # The prior's bars stand beside: what is adjusted is the posterior.
    words = f"median and {percent(prob) if adjusted else interval_label(fit, prob)}"
    handles = [
        Patch(facecolor=ORANGE, edgecolor=ORANGE, alpha=0.5, label="prior"),
        Patch(facecolor=BLUE, edgecolor=BLUE, alpha=0.5, label="posterior, adjusted" if adjusted else "posterior"),
        Line2D([], [], color=GREY, linewidth=1.4, marker="o", markersize=3, label=words),
    ]
    figure = panels[0].figure
    if axes is None or above:
        legend_over(figure, handles, 3, text_sizes(panels[0])[1], warning_of(fit))
    else:
        legend_above(panels[0], handles, 1, title=warning_of(fit))
    return panels


def _densities(ax: Axes, prior: np.ndarray, after: np.ndarray, prob: float) -> None:
    both = np.concatenate([prior, after])
    low, high = np.quantile(prior, [0.05, 0.95])
    logarithmic = both.min() > 0 and high > 10 * low
    bounds: tuple[float | None, float | None] = (None, None)
    if logarithmic:
        log_scale(ax, "x", power_label if both.min() < 1e-3 or both.max() > 1e3 else number_label)
    elif both.min() >= 0:
        bounds = (0.0, 1.0 if both.max() <= 1 else None)
    carry, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    reach = np.asarray([np.quantile(carry(x), [0.005, 0.995]) for x in (prior, after)])
    left, right = reach[:, 0].min(), reach[:, 1].max()
    margin = 0.04 * (right - left)
    for x, colour, y, fill in ((prior, ORANGE, -0.24, 0.2), (after, BLUE, -0.11, 0.35)):
        own = carry(x)
        # A grid of its own, so that a posterior much narrower than the panel keeps its shape.
        a, b = max(own.min(), left - margin), min(own.max(), right + margin)
        spread = 0.15 * (b - a)
        grid = np.linspace(max(a - spread, left - margin), min(b + spread, right + margin), 241)
        height = density(own, grid, *bounds)
        height = height / height.max()
        ax.fill_between(back(grid), height, color=colour, alpha=fill, linewidth=0)
        ax.plot(back(grid), height, color=colour, linewidth=1.1)
        middle, lower, upper = np.quantile(x, ends(prob))
        ax.plot([lower, upper], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
        ax.plot(middle, y, "o", color=colour, markersize=3)
    if not logarithmic:
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.set_xlim(float(back(left - margin)), float(back(right + margin)))
    ax.set_ylim(-0.36, 1.08)
    ax.set_yticks([])
    ax.axhline(0, color=GREY, linewidth=0.5)
