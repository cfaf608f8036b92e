"""A figure of how an answer depends on which runs are used."""

from __future__ import annotations

from matplotlib.axes import Axes
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
    new_axes,
    percent,
    power_label,
    warning_of,
)
from bayescale.posterior import Fit


def plot_windows(fit: Fit, quantity: str = "a", ax: Axes | None = None, *, prob: float | None = None) -> Axes:
    """Draw a quantity from the runs up to a compute, and from a compute on, against that compute.

    Bars hold the probability `prob` by the mode and the curvature of each window's posterior, given noise and spreads
    of groups; the band is the headline's interval from all runs. Where one law holds, both series stay inside it.

    Raises `NotFittedFor` where `stability` does.

    Example:
        >>> ax = bs.plot_windows(fit, "a")  # doctest: +SKIP
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    prob = fit.prob if prob is None else prob
    table = stability(fit, [quantity]).frame()
    ax = new_axes(ax)
    log_scale(ax, "x", power_label)
    reach = float(norm.ppf((1 + prob) / 2))
    handles = []
    if fit.headline_source != "none":
        q = fit.quantities(prob)[quantity]
        ax.axhspan(q.lower, q.upper, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.axhline(q.median, color=DARK, linewidth=0.8, zorder=1)
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label=f"all runs, {interval_label(fit, prob)}"))
    for window, colour, marker in (("up to", BLUE, "o"), ("from", VERMILLION, "s")):
        part = table[table["window"] == window]
        ax.errorbar(
            part["flops"],
            part["value"],
            yerr=reach * part["sd"],
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
    return finish(ax, column_label("flops")[0], quantity)
