"""Figures of what to train: IsoFLOP curves, the compute-optimal frontier, and the loss over sizes and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from bayescale.allocation import NEAR_OPTIMAL
from bayescale.plots.budgets import IsoFlop, frontier_bands, isoflop_curves, loss_surface
from bayescale.plots.draws import compute_by, compute_label, stretches
from bayescale.plots.style import (
    BLUE,
    DARK,
    DASHED,
    EDGED,
    GREY,
    HALO,
    VERMILLION,
    column_label,
    finish,
    interval_label,
    lay_out,
    legend_above,
    log_scale,
    loss_label,
    new_axes,
    number_label,
    percent,
    power_label,
    shades,
    text_sizes,
    warning_of,
    written_width,
)
from bayescale.posterior import Fit


def plot_isoflop(
    fit: Fit,
    ax: Axes | None = None,
    budgets: Sequence[float] | None = None,
    *,
    cost: str | None = None,
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Axes:
    """Draw the loss against model size along each compute budget, with the runs and each budget's optimum.

    Lines are the posterior median of the law's curve L(N, D) with its credible band, diamonds the optimum with the
    interval of N_opt. Budgets are those of the column `budget`, which names the runs of each, or are read off the
    compute or given in FLOP (runs within 10 % of one belong to it); grey runs belong to none. Budgets beyond the runs
    are pale and dashed. A budget is spent as the table's own runs spent theirs (`cost="table"`), or by C = 6ND where
    the table has no compute; `given` sets other inputs of the law.

    Raises `NotFittedFor` for a law without an optimum, a table without budgets, or a fit that may not be headlined.

    Example:
        >>> ax = bs.plot_isoflop(fit)  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    found = isoflop_curves(fit, budgets, cost=cost, given=given, prob=prob, draws=draws)
    ax = new_axes(ax)
    log_scale(ax, "x", column_label("params")[1])
    colour, _ = shades(found.optimum["budget"].to_numpy())
    for budget, curve in found.curves.groupby("budget"):
        shade, beyond = colour(budget), budget in found.beyond
        strength, line = (0.5, DASHED) if beyond else (1.0, "-")
        ax.fill_between(
            curve["params"], curve["lower"], curve["upper"], color=shade, alpha=0.22 * strength, linewidth=0
        )
        ax.plot(curve["params"], curve["median"], color=shade, linewidth=1.2, linestyle=line)
        mine = found.runs[found.runs["budget"] == budget]
        ax.plot(mine["params"], mine["observed"], "o", color=shade, markersize=3.2, **EDGED, zorder=4)
    rest = found.runs[found.runs["budget"].isna()]
    if len(rest):
        ax.plot(rest["params"], rest["observed"], "o", color=GREY, alpha=0.5, markersize=2, markeredgewidth=0, zorder=1)
    best = found.optimum
    sides = [best["params_median"] - best["params_lower"], best["params_upper"] - best["params_median"]]
    ax.errorbar(
        best["params_median"],
        best["loss_median"],
        xerr=np.abs(sides),
        fmt="D",
        color=DARK,
        markersize=5,
        markerfacecolor="none",
        markeredgewidth=0.9,
        elinewidth=0.9,
        capsize=2,
        zorder=5,
    )
    handles = [
        Line2D([], [], color=GREY, marker="o", markersize=3, linestyle="none", label="runs, by budget in FLOP"),
        Line2D([], [], color=GREY, linewidth=1.2, label="law's curve, median"),
        Patch(color=GREY, alpha=0.3, linewidth=0, label=interval_label(fit, prob, draws)),
        Line2D([], [], color=DARK, marker="D", markersize=5, markerfacecolor="none", label=f"optimum, {percent(prob)}"),
    ]
    if len(rest):
        handles.append(
            Line2D([], [], color=GREY, alpha=0.5, marker="o", markersize=2, linestyle="none", label="runs of no budget")
        )
    if found.beyond:
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, linestyle=DASHED, label="beyond the runs"))
    legend_above(ax, [*handles, *_average(fit)], 2, title=warning_of(fit))
    finish(ax, column_label("params")[0], loss_label(fit))
    _name_budgets(ax, found, colour)
    return ax


def _average(fit: Fit) -> list[Line2D]:
    """The legend's remark on which level an answer is for where levels differ."""
    return [Line2D([], [], linestyle="none", label=f"the average {column}") for column in fit.levels]


def _name_budgets(ax: Axes, found: IsoFlop, colour: Callable[[Any], Any]) -> None:
    """Write each budget at the right end of its curve, or in the margin where runs or curves are in the way."""
    size = text_sizes(ax)[1]
    points, high = 72 / ax.figure.dpi, 1.2 * size
    lay_out(ax.figure)
    # The panel gives way to names that stand over its right edge.
    widest = max(written_width(_budget_name(b), size) for b in found.optimum["budget"]) + _APART
    left, across = points * ax.bbox.x0, points * ax.bbox.width
    narrower = 1 - widest / across

    def place(x: Any, y: Any) -> np.ndarray:
        at = points * ax.transData.transform(np.column_stack([x, y]))
        return np.column_stack([left + narrower * (at[:, 0] - left), at[:, 1]])

    taken = np.concatenate(
        [
            place(found.runs["params"], found.runs["observed"]),
            place(found.curves["params"], found.curves["median"]),
            place(found.optimum["params_median"], found.optimum["loss_median"]),
        ]
    )
    # Names lie over leads.
    ends = found.curves.groupby("budget").last().sort_values("median")
    names = [
        _Name(N, loss, x, y, budget, size)
        for budget, N, loss, (x, y) in zip(
            ends.index, ends["params"], ends["median"], place(ends["params"], ends["median"]), strict=True
        )
    ]
    for name in names:
        right, up = (taken - [name.x + _APART, name.y]).T
        name.free = not ((right > 1) & (right < name.wide) & (np.abs(up) < high / 2)).any()
    margin = left + narrower * across
    struck = names
    while struck:
        _stack(names, margin, high)
        struck = [n for n in names if n.free and _struck(n, names, margin, high)]
        for name in struck:
            name.free = False
    # A name in the margin is led to its curve.
    lead = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    for name in names:
        shift = ScaledTranslation(_APART / 72, (name.at - name.y) / 72, ax.figure.dpi_scale_trans)
        ax.annotate(
            name.text,
            (name.params, name.loss),
            (name.params if name.free else 1.0, name.loss),
            "data",
            (ax.transData if name.free else ax.get_yaxis_transform()) + shift,
            arrowprops=None if name.free else {**lead, "color": colour(name.budget)},
            color=colour(name.budget),
            fontsize=size,
            va="center",
            path_effects=HALO,
            annotation_clip=False,
            zorder=7 if name.free else 6,
        )


#: Points between the end of a curve and its name.
_APART = 3.0


def _budget_name(budget: float) -> str:
    return power_label(float(f"{budget:.1e}"))


@dataclass
class _Name:
    """The name of a budget: the end of its curve in data and in points, and where it is written, at that end if free
    to be, else in the margin."""

    params: float
    loss: float
    x: float
    y: float
    budget: float
    size: float
    free: bool = True
    at: float = 0.0

    def span(self, margin: float) -> tuple[float, float]:
        """From where to where it is written."""
        start = self.x if self.free else max(margin, self.x)
        return start + _APART, start + _APART + self.wide

    @cached_property
    def text(self) -> str:
        """The budget as it is written."""
        return _budget_name(self.budget)

    @cached_property
    def wide(self) -> float:
        """How many points it takes."""
        return written_width(self.text, self.size)


def _stack(names: Sequence[_Name], margin: float, high: float) -> None:
    """Set the heights of names, from the lowest up, so that none lies on another."""
    for k, name in enumerate(names):
        left, right = name.span(margin)
        beside = sorted(n.at for n in names[:k] if n.span(margin)[0] < right and left < n.span(margin)[1])
        name.at = name.y
        for at in beside:
            name.at = at + high if abs(at - name.at) < high else name.at


def _struck(name: _Name, names: Sequence[_Name], margin: float, high: float) -> bool:
    """Whether the lead of a name in the margin goes through a name at the end of its curve."""
    for other in names:
        start, end = name.span(margin)
        left, right = max(start, other.x), min(end, margin)
        if other.free or left >= right:
            continue
        passed = np.interp([left, right], [other.x, margin], [other.y, other.at])
        if passed.min() < name.at + high / 2 and passed.max() > name.at - high / 2:
            return True
    return False


def plot_frontier(
    fit: Fit,
    ax: Axes | None = None,
    flops: Sequence[float] | float | None = None,
    quantity: str = "params",
    *,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Axes:
    """Draw the compute-optimal model size against training compute, with credible bands.

    It runs from the smallest run's compute to the largest budget asked for; `quantity` is params, tokens,
    tokens_per_param or loss. The line is the posterior median, the bands 50 % and `prob`; beyond the runs they are pale
    and the line dashed: where the compute is more than the largest run's (vertical line), or the size or the data of
    the median optimum is more than 5 % outside those tried, the answer is mostly the law's form. Dotted lines bound the
    choices whose loss is within 0.1 % of the best. Circles mark the budgets asked for (`flops`, by default those of the
    fit). `cost` and `given` are as in `allocate`.

    Raises `NotFittedFor` for a law without an optimum, an unknown quantity, or a fit that may not be headlined.

    Example:
        >>> ax = bs.plot_frontier(fit, flops=[1e16, 1e17])  # doctest: +SKIP
    """
    found = frontier_bands(fit, flops, quantity, cost=cost, given=given, prob=prob, draws=draws)
    ax = new_axes(ax)
    log_scale(ax, "x", power_label)
    label, written = (loss_label(fit), number_label) if quantity == "loss" else column_label(quantity)
    if quantity != "loss":
        log_scale(ax, "y", written)
    runs, bands, asked = fit.runs, found.bands, found.asked
    column = fit.law.responses[0].source if quantity == "loss" else quantity
    handles: list = []
    if runs.has(column):
        ax.plot(
            compute_by(cost, runs),
            runs.values(column),
            "o",
            color=GREY,
            alpha=0.6,
            markersize=2.2,
            markeredgewidth=0,
            zorder=1,
        )
        handles.append(Line2D([], [], color=GREY, marker="o", markersize=2.5, linestyle="none", label="runs"))
    parts = stretches(bands["within"].to_numpy())
    for inside, rows in parts:
        part, strength = bands.iloc[rows], 1.0 if inside else 0.5
        for lower, upper, alpha in (("lower", "upper", 0.28), ("lower50", "upper50", 0.4)):
            ax.fill_between(
                part["flops"], part[lower], part[upper], color=BLUE, alpha=strength * alpha, linewidth=0, zorder=2
            )
        ax.plot(
            part["flops"],
            part["median"],
            color=BLUE,
            linewidth=1.4,
            linestyle="-" if inside else DASHED,
            solid_capstyle="butt",
            zorder=3,
        )
    ax.plot(asked["flops"], asked["median"], "o", color=BLUE, markersize=4, markerfacecolor="white", zorder=4)
    ax.axvline(found.largest, color=DARK, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
    handles += [
        Line2D([], [], color=BLUE, linewidth=1.4, label="median"),
        Patch(color=BLUE, alpha=0.6, linewidth=0, label=interval_label(fit, 0.5, draws)),
        Patch(color=BLUE, alpha=0.28, linewidth=0, label=interval_label(fit, found.prob, draws)),
    ]
    if "near_lower" in bands:
        for side in ("near_lower", "near_upper"):
            ax.plot(bands["flops"], bands[side], color=VERMILLION, linewidth=0.8, linestyle=(0, (1, 1)), zorder=3)
        words = f"loss within {percent(NEAR_OPTIMAL)} of best"
        handles.append(Line2D([], [], color=VERMILLION, linewidth=0.8, linestyle=(0, (1, 1)), label=words))
    handles.append(Line2D([], [], color=DARK, linewidth=0.8, linestyle=(0, (1, 1.5)), label="largest run"))
    if not all(inside for inside, _ in parts):
        handles.append(Line2D([], [], color=BLUE, linewidth=1.4, linestyle=DASHED, label="beyond the runs"))
    legend_above(ax, [*handles, *_average(fit)], 2, title=warning_of(fit))
    return finish(ax, compute_label(cost, runs), f"optimal {label}")


def plot_loss_contour(
    fit: Fit,
    ax: Axes | None = None,
    *,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Axes:
    """Draw contours of the posterior median loss over model size and training tokens, with the runs and the frontier.

    The frontier is (N_opt, D_opt) as compute grows, where it is in view, that is near the runs; its band holds the
    interval of N_opt at each budget, spent by `cost`. Contours are labelled in the unit of the loss; `given` sets other
    inputs of the law.

    Raises `NotFittedFor` for a law without an optimum, a table without N or D, or a fit that may not be headlined.

    Example:
        >>> ax = bs.plot_loss_contour(fit)  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    found = loss_surface(fit, cost=cost, given=given, prob=prob, draws=draws)
    ax = new_axes(ax)
    log_scale(ax, "x", column_label("params")[1])
    log_scale(ax, "y", column_label("tokens")[1])
    _, small = text_sizes(ax)
    lines = ax.contour(
        found.params, found.tokens, found.loss, levels=10, cmap="cividis", linewidths=0.9, negative_linestyles="solid"
    )
    # Lines are not cut for their labels: one across the frame is left out, and must not leave a gap.
    labels = ax.clabel(lines, fontsize=0.9 * small, fmt=lambda x: f"{x:.3g}", inline=False, zorder=4)
    frame = ax.get_window_extent()
    for text in labels:
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})
        box = text.get_window_extent()
        text.set_visible(frame.contains(*box.min) and frame.contains(*box.max))
    path = found.frontier
    ax.fill(
        np.concatenate([path["params_lower"], path["params_upper"][::-1]]),
        np.concatenate([path["tokens_at_lower"], path["tokens_at_upper"][::-1]]),
        color=VERMILLION,
        alpha=0.2,
        linewidth=0,
        zorder=1.5,
    )
    ax.plot(path["params_median"], path["tokens_at_median"], color=VERMILLION, linewidth=1.4, zorder=3)
    ax.plot(fit.runs.values("params"), fit.runs.values("tokens"), "o", color=DARK, markersize=2.8, **EDGED, zorder=5)
    ax.set_xlim(found.params[0], found.params[-1])
    ax.set_ylim(found.tokens[0], found.tokens[-1])
    handles: list[Any] = [
        Line2D([], [], color=DARK, marker="o", markersize=2.5, linestyle="none", label="runs"),
        Line2D([], [], color=lines.cmap(0.4), linewidth=0.9, label=f"median {loss_label(fit)}"),
    ]
    if found.in_view("median", "median"):
        handles.append(Line2D([], [], color=VERMILLION, linewidth=1.4, label="frontier"))
    if found.in_view("lower", "upper"):
        words = interval_label(fit, prob, draws)
        words = words if found.in_view("median", "median") else f"frontier, {words}"
        handles.append(Patch(color=VERMILLION, alpha=0.2, linewidth=0, label=words))
    legend_above(ax, [*handles, *_average(fit)], 2, title=warning_of(fit))
    return finish(ax, column_label("params")[0], column_label("tokens")[0])
