"""Figures of what to train: IsoFLOP curves, the compute-optimal frontier, and the loss over sizes and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from bayescale.allocation import NEAR_OPTIMAL
from bayescale.plots.budgets import IsoFlop, frontier_bands, isoflop_curves, loss_surface
from bayescale.plots.draws import compute_by
from bayescale.plots.style import (
    BLUE,
    DARK,
    GREY,
    HALO,
    VERMILLION,
    column_label,
    finish,
    interval_label,
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
    interval of N_opt. Budgets are those of the column `budget`, or read off the compute column, or given in FLOP (runs
    within 10 % of one belong to it); grey runs belong to none. A budget is spent as the table's own runs spent theirs
    (`cost="table"`), or by C = 6ND where the table has no compute; `given` sets other inputs of the law.

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
        shade = colour(budget)
        ax.fill_between(curve["params"], curve["lower"], curve["upper"], color=shade, alpha=0.22, linewidth=0)
        ax.plot(curve["params"], curve["median"], color=shade, linewidth=1.2)
        mine = found.runs[found.runs["budget"] == budget]
        ax.plot(mine["params"], mine["observed"], "o", color=shade, markersize=3, markeredgewidth=0)
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
        markersize=4,
        markerfacecolor="white",
        elinewidth=1,
        capsize=2,
        zorder=4,
    )
    _name_budgets(ax, found, colour)
    handles = [
        Line2D([], [], color=GREY, marker="o", markersize=3, linestyle="none", label="runs, by budget in FLOP"),
        Line2D([], [], color=GREY, linewidth=1.2, label="law's curve, median"),
        Patch(color=GREY, alpha=0.3, linewidth=0, label=interval_label(fit, prob, draws)),
        Line2D(
            [], [], color=DARK, marker="D", markersize=4, markerfacecolor="white", label=f"optimum, {percent(prob)}"
        ),
    ]
    legend_above(ax, handles, 2, title=_about(fit))
    return finish(ax, column_label("params")[0], loss_label(fit))


def _about(fit: Fit) -> str | None:
    """What stands at the head of a legend: checks that failed, and which level an answer is for where levels differ."""
    average = [f"the average {column}" for column in fit.levels]
    told = [*filter(None, [warning_of(fit)]), *average]
    return "; ".join(told) or None


def _name_budgets(ax: Axes, found: IsoFlop, colour: Callable[[Any], Any]) -> None:
    """Write each budget at the right end of its curve, or in the margin where runs or curves are in the way."""
    size = text_sizes(ax)[1]
    points = 72 / ax.figure.dpi
    wide, high = 4.6 * size, 1.2 * size  # a name is about six letters wide

    def place(x: Any, y: Any) -> np.ndarray:
        return points * ax.transData.transform(np.column_stack([x, y]))

    taken = np.concatenate(
        [
            place(found.runs["params"], found.runs["observed"]),
            place(found.curves["params"], found.curves["median"]),
            place(found.optimum["params_median"], found.optimum["loss_median"]),
        ]
    )
    # A name in the margin is led to its curve.
    lead = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    placed: list[tuple[bool, float, float]] = []
    for budget, row in found.curves.groupby("budget").last().sort_values("median").iterrows():
        x, y = place([row["params"]], [row["median"]])[0]
        right, up = (taken - [x + 3, y]).T
        free = not ((right > 1) & (right < wide) & (np.abs(up) < high / 2)).any()
        near = (b + high for f, a, b in placed if f == free and abs(b - y) < high and (not free or abs(a - x) < wide))
        at = max(near, default=y)
        placed.append((free, x, at))
        aside = ax.get_yaxis_transform()
        shift = ScaledTranslation(3 / 72, (at - y) / 72, ax.figure.dpi_scale_trans)
        ax.annotate(
            power_label(float(f"{budget:.1e}")),
            (row["params"], row["median"]),
            (row["params"] if free else 1.0, row["median"]),
            "data",
            (ax.transData if free else aside) + shift,
            arrowprops=None if free else {**lead, "color": colour(budget)},
            color=colour(budget),
            fontsize=size,
            va="center",
            path_effects=HALO,
            annotation_clip=False,
            zorder=5 if free else 4,  # names lie over leads
        )


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
    tokens_per_param or loss. The line is the posterior median, the bands 50 % and `prob`; beyond the largest run
    (vertical line) they are pale and the line dashed: there the answer is mostly the law's form. Dotted lines bound the
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
    edge = found.largest * (1 + 1e-9), found.largest * (1 - 1e-9)
    seen, beyond = bands[bands["flops"] <= edge[0]], bands[bands["flops"] >= edge[1]]
    for part, strength, line in ((seen, 1.0, "-"), (beyond, 0.5, (0, (4, 2)))):
        if len(part) < 2:
            continue
        for lower, upper, alpha in (("lower", "upper", 0.28), ("lower50", "upper50", 0.4)):
            ax.fill_between(
                part["flops"], part[lower], part[upper], color=BLUE, alpha=strength * alpha, linewidth=0, zorder=2
            )
        ax.plot(
            part["flops"], part["median"], color=BLUE, linewidth=1.4, linestyle=line, solid_capstyle="butt", zorder=3
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
    legend_above(ax, handles, 2, title=_about(fit))
    return finish(ax, column_label("flops")[0], f"optimal {label}")


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

    The frontier is (N_opt, D_opt) as compute grows; its band holds the interval of N_opt at each budget, spent by
    `cost`. Contours are labelled in the unit of the loss; `given` sets other inputs of the law.

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
    labels = ax.clabel(lines, fontsize=0.9 * small, fmt=lambda x: f"{x:.3g}", inline_spacing=2)
    inside = ax.get_window_extent().padded(-0.5 * small * ax.figure.dpi / 72)
    for text in labels:
        text.set_path_effects([*HALO])
        # One across the frame would be cut.
        text.set_visible(inside.contains(*ax.transData.transform(text.get_position())))
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
    ax.plot(fit.runs.values("params"), fit.runs.values("tokens"), "o", color=DARK, markersize=2.2, markeredgewidth=0)
    ax.set_xlim(found.params[0], found.params[-1])
    ax.set_ylim(found.tokens[0], found.tokens[-1])
    handles = [
        Line2D([], [], color=DARK, marker="o", markersize=2.5, linestyle="none", label="runs"),
        Line2D([], [], color=lines.cmap(0.4), linewidth=0.9, label=f"median {loss_label(fit)}"),
        Line2D([], [], color=VERMILLION, linewidth=1.4, label="frontier"),
        Patch(color=VERMILLION, alpha=0.2, linewidth=0, label=interval_label(fit, prob, draws)),
    ]
    legend_above(ax, handles, 2, title=_about(fit))
    return finish(ax, column_label("params")[0], column_label("tokens")[0])
