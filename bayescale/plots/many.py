"""Figures of many tables: one quantity side by side, and the ranks of a calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayescale.calibration import Calibration
from bayescale.calibration.bands import curve
from bayescale.errors import LawError, nearest
from bayescale.plots.style import (
    BLUE,
    DARK,
    GREY,
    VERMILLION,
    finish,
    legend_above,
    new_axes,
    new_grid,
    percent,
    text_sizes,
)
from bayescale.posterior import Batch

#: Inches that the name of a table takes, and a panel's least height.
_LINE, _LEAST = 0.17, 1.2


def plot_tables(
    batch: Batch, quantity: str | None = None, ax: Axes | None = None, *, prob: float | None = None
) -> Axes:
    """Draw a quantity's median and interval for every sampled table, in the order of the tables.

    The quantity is by default `a`, or the first parameter of a law without it. Thick bars hold half of the
    posterior, thin ones the probability `prob`. Tables that are not certified, or whose design does not back a
    headline, are pale. Raises `LawError` (BS-L002) for a quantity that no table has.

    Example:
        >>> ax = bs.plot_tables(batch, "a")  # doctest: +SKIP
    """
    prob = batch.probability(prob)
    summary, half = batch.summary(prob), batch.summary(0.5)
    known = list(summary.index.unique("quantity"))
    own = [p.name for p in batch.law.parameters]
    shown = quantity or next(q for q in ("a", *own, *known) if q in known)
    if shown not in known:
        raise LawError(f"no table has a quantity {shown!r}", code="BS-L002", remedy=nearest(shown, known))
    names = [n for n in batch.names if (n, shown) in summary.index]
    ax = new_axes(ax, (3.4, max(_LEAST, 0.6 + _LINE * len(names))))
    certified, doubtful = {*batch.certified}, False
    for k, name in enumerate(names):
        trusted = name in certified and batch.info["datasets"][name]["headline_source"] != "none"
        doubtful |= not trusted
        colour = BLUE if trusted else GREY
        wide, narrow = summary.loc[(name, shown)], half.loc[(name, shown)]
        ax.plot([wide["lower"], wide["upper"]], [k, k], color=colour, linewidth=0.9, solid_capstyle="butt")
        ax.plot([narrow["lower"], narrow["upper"]], [k, k], color=colour, linewidth=2.6, solid_capstyle="butt")
        ax.plot(wide["median"], k, marker="o", markersize=3.2, color="white", markeredgecolor=colour)
    ax.set_yticks(range(len(names)), [n.replace("$", r"\$") for n in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    handles: list[Any] = [
        Line2D([], [], color=BLUE, linewidth=2.6, label="50%"),
        Line2D([], [], color=BLUE, linewidth=0.9, label=f"{percent(prob)} credible"),
    ]
    if doubtful:
        handles.append(Line2D([], [], color=GREY, linewidth=2.6, label="not certified, or no headline"))
    legend_above(ax, handles, 3)
    finish(ax, shown, None)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_calibration(calibration: Calibration, axes: Any = None, *, columns: int = 4) -> np.ndarray:
    """Draw for every quantity how far the cumulative share of its ranks is from that of uniform ranks.

    The band holds all curves together with the calibration's probability; a curve that leaves it is red.

    Example:
        >>> bs.plot_calibration(calibration)  # doctest: +SKIP
    """
    names = [str(n) for n in calibration.ranks]
    panels = new_grid(axes, len(names), columns, (1.7, 1.35), sharex=True, sharey=True)
    lower, upper = calibration.band
    draws = len(lower)
    share = np.arange(1, draws + 1) / (draws + 1)
    for k, (ax, name) in enumerate(zip(panels, names, strict=True)):
        away = curve(calibration.ranks[name].to_numpy(), draws) - share
        inside = bool(((away >= lower - share) & (away <= upper - share)).all())
        ax.fill_between(share, lower - share, upper - share, color=GREY, alpha=0.25, linewidth=0)
        ax.axhline(0, color=DARK, linewidth=0.5)
        ax.step(share, away, color=BLUE if inside else VERMILLION, linewidth=1.0, where="post")
        finish(ax, None, None)
        ax.set_title(name, fontsize=text_sizes(ax)[0], loc="left", pad=3)
        ax.set_xlim(0, 1)
        if k >= len(names) - columns:
            ax.set_xlabel("rank of the truth", fontsize=text_sizes(ax)[1])
            ax.tick_params(labelbottom=True)
        if k % columns == 0:
            ax.set_ylabel("share − uniform", fontsize=text_sizes(ax)[1])
    label = f"{percent(calibration.prob)} of correct computations stay inside everywhere"
    panels[0].figure.legend(
        handles=[Patch(color=GREY, alpha=0.25, linewidth=0, label=label)],
        loc="outside upper left",
        frameon=False,
        fontsize=text_sizes(panels[0])[0],
    )
    return panels
