"""Figures of how an answer depends on which runs are used, and of runs that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import norm

from bayescale.auditing import stability
from bayescale.plots.style import (
    BLUE,
    DARK,
    GREY,
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
    side_by_side,
    symbol_label,
    warning_of,
)
from bayescale.posterior import Fit

#: From this factor between the ends of all bars on, a quantity is drawn on a logarithmic axis.
_WIDE = 5.0


def plot_windows(fit: Fit, quantity: str = "a", ax: Axes | None = None, *, prob: float | None = None) -> Axes:
    """Draw a quantity from the runs up to a compute, and from a compute on, against that compute.

    Bars hold the probability `prob` by the mode and the curvature of each window's posterior (of the logarithm of what
    is positive), given noise and spreads of groups; the band is the headline's interval from all runs. Where one law
    holds, both series agree with it within their bars. The series stand a little apart, as bars at one compute would
    lie on each other.

    Raises `NotFittedFor` where `stability` does.

    Example:
        >>> ax = bs.plot_windows(fit, "a")  # doctest: +SKIP
    """
    prob = fit.probability(prob)
    table = stability(fit, [quantity]).frame()
    ax = new_axes(ax)
    log_scale(ax, "x", power_label)
    reach = float(norm.ppf((1 + prob) / 2))
    value, sd = table["value"].to_numpy(), table["sd"].to_numpy()
    positive = bool((fit.draws("posterior")[quantity] > 0).all()) and bool((value > 0).all())
    # The sd of what is positive is that of its logarithm: its bars never reach zero.
    ends = [value * np.exp(s * reach * sd / value) if positive else value + s * reach * sd for s in (-1, 1)]
    table = table.assign(below=value - ends[0], above=ends[1] - value)
    if positive and ends[1].max() > _WIDE * ends[0].min():
        log_scale(ax, "y", number_label if ends[0].min() > 1e-3 and ends[1].max() < 1e4 else power_label)
    handles = []
    if fit.headline_source != "none":
        q = fit.quantities(prob)[quantity]
        ax.axhspan(q.lower, q.upper, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.axhline(q.median, color=DARK, linewidth=0.8, zorder=1)
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label=f"all runs, {interval_label(fit, prob)}"))
    for window, colour, marker, aside in (("up to", BLUE, "o", 0.985), ("from", VERMILLION, "s", 1.015)):
        part = table[table["window"] == window]
        ax.errorbar(
            aside * part["flops"],
            part["value"],
            yerr=np.asarray(part[["below", "above"]]).T,
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=1.0,
            elinewidth=0.9,
            zorder=3,
        )
        label = f"runs {window} C, {percent(prob)}"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=3.5, linewidth=1.0, label=label))
    legend_above(ax, handles, 2, title=warning_of(fit))
    return finish(ax, column_label("flops")[0], symbol_label(fit, quantity))


def plot_held_out(fit: Fit, found: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Draw how far the largest runs, held out, ended from their forecast, against model size.

    `found` is what a report's document holds under `held_out`. Bars are the interval of one run of new groups, dots the
    runs, open squares those outside their interval; in percent of the forecast's median where the response is positive.
    """
    ax = new_axes(ax)
    held = sorted(found["runs"], key=lambda r: r["row"])
    runs = fit.runs
    column = "params" if runs.has("params") else "flops"
    at = dict(zip(runs.rows, runs.values(column), strict=True)) if runs.has(column) else {}
    label, written = column_label(column)
    log_scale(ax, "x", written)
    x = side_by_side(np.asarray([at.get(r["row"], r["flops"]) for r in held]))
    positive = fit.law.responses[0].support == "positive"

    def off(key: str) -> np.ndarray:
        middle = np.asarray([r["median"] for r in held])
        values = np.asarray([r[key] for r in held])
        return 100 * (values / middle - 1) if positive else values - middle

    inside = np.asarray([r["inside"] for r in held], bool)
    ax.axhline(0, color=DARK, linewidth=0.8, zorder=1)
    ax.vlines(x, off("lower"), off("upper"), color=BLUE, alpha=0.45, linewidth=1.6, zorder=2)
    for part, marker, face in ((inside, "o", VERMILLION), (np.logical_not(inside), "s", "white")):
        ax.plot(
            x[np.flatnonzero(part)],
            off("observed")[np.flatnonzero(part)],
            marker,
            color=VERMILLION,
            markerfacecolor=face,
            markersize=3.2,
            markeredgewidth=0.9,
            zorder=4,
        )
    words = f"forecast, {percent(found['prob'])} {found['kind']}, one run"
    handles = [
        Line2D([], [], color=VERMILLION, marker="o", markersize=3.2, linestyle="none", label="held-out runs"),
        Line2D([], [], color=BLUE, linewidth=1.6, alpha=0.6, label=words),
    ]
    if not inside.all():
        square = dict(marker="s", markerfacecolor="white", markersize=3.2, linestyle="none")
        handles.append(Line2D([], [], color=VERMILLION, label="outside", **square))  # type: ignore[arg-type]
    legend_above(ax, handles, 2, title=warning_of(fit))
    return finish(ax, label, f"observed − forecast ({'%' if positive else loss_label(fit)})")
