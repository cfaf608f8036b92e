"""A figure of the joint posterior of the law's parameters, two at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from bayescale.errors import NotFittedFor
from bayescale.plots.comparisons import density, scalars
from bayescale.plots.style import (
    BLUE,
    DARK,
    finish,
    interval_label,
    legend,
    new_grid,
    symbol_label,
    warning_of,
)
from bayescale.posterior import Fit

#: A density needs no more draws than this, nor a finer grid.
_DRAWS, _GRID = 1000, 36
_MASSES = (0.9, 0.5)
_MOST = 8


def plot_pairs(fit: Fit, names: Sequence[str] | None = None, axes: Any = None) -> np.ndarray:
    """Draw the joint posterior of every pair of parameters: regions that hold 50 % and 90 % of it, and the margins.

    By default the coordinates that are sampled: parameters, with amplitudes as their contributions in the middle of the
    design, which are less correlated than the amplitudes themselves. `axes` are n × n Axes for n names; the upper
    triangle is hidden. The Axes are returned as an (n, n) array.

    Raises `NotFittedFor` for a name that the fit does not report, fewer than two names, or more than 8.

    Example:
        >>> axes = bs.plot_pairs(fit, ["E", "alpha", "beta"])  # doctest: +SKIP
    """
    draws = {n: after for n, (_, after) in scalars(fit, names or default_pairs(fit)).items()}
    count = len(draws)
    if not 2 <= count <= _MOST:
        raise NotFittedFor(f"pairs are drawn of 2 to {_MOST} quantities, not {count}", remedy="Name some.")
    made = new_grid(axes, count * count, count, (max(0.66, 3.4 / count), max(0.62, 3.1 / count))).reshape(count, count)
    thin = {n: x[:: -(-len(x) // _DRAWS)] for n, x in draws.items()}
    reach = {n: np.quantile(x, [0.002, 0.998]) for n, x in draws.items()}
    listed = list(draws)
    for i, row in enumerate(listed):
        for j, column in enumerate(listed):
            ax = made[i, j]
            if j > i:
                ax.set_axis_off()
                continue
            if i == j:
                _margin(ax, draws[row], reach[row])
            else:
                _joint(ax, thin[column], thin[row], reach[column], reach[row])
            _labels(ax, fit, row if j == 0 and i > 0 else None, column if i == count - 1 else None, i == j)
    handles = [
        Patch(color=BLUE, alpha=0.75, linewidth=0, label=interval_label(fit, _MASSES[1])),
        Patch(color=BLUE, alpha=0.3, linewidth=0, label=interval_label(fit, _MASSES[0])),
        Line2D([], [], color=DARK, marker="+", linestyle="none", markersize=5, label="medians"),
    ]
    # In the hidden triangle, where there is room; it must not push the panels apart.
    corner = made[0, -1]
    legend(corner, handles, loc="upper right", title=warning_of(fit), bbox_to_anchor=(1.0, 1.0))
    corner.get_legend().set_in_layout(False)
    return made


def default_pairs(fit: Fit) -> list[str]:
    """The sampled coordinates of the law that vary, at most eight."""
    free = scalars(fit, None)
    known = set(fit.tree["headline"].data_vars) & set(fit.tree["prior"].data_vars)
    wanted = [p.name for p in fit.law.coordinates() if p.name in known and not p.dims and not p.over]
    varied = [n for n in wanted if n in free or np.ptp(np.asarray(fit.tree["headline"][n])) > 0]
    draws = {n: np.asarray(fit.tree["headline"][n]).ravel() for n in varied}
    # Tied parameters are one.
    own = [n for k, n in enumerate(varied) if not any(_follows(draws[n], draws[m]) for m in varied[:k])]
    return own[:_MOST]


def _follows(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two quantities move on one straight line."""
    return bool(abs(np.corrcoef(x, y)[0, 1]) > 1 - 1e-9)


def _margin(ax: Axes, x: np.ndarray, reach: np.ndarray) -> None:
    grid = np.linspace(reach[0], reach[1], 121)
    height = density(x, grid, None, None)
    ax.fill_between(grid, height, color=BLUE, alpha=0.35, linewidth=0)
    ax.plot(grid, height, color=BLUE, linewidth=1.0)
    ax.axvline(float(np.median(x)), color=DARK, linewidth=0.7)
    ax.set_xlim(*reach)
    ax.set_ylim(0, 1.08 * height.max())


def _joint(ax: Axes, x: np.ndarray, y: np.ndarray, across: np.ndarray, up: np.ndarray) -> None:
    """Regions of highest density that hold given shares of the draws; a line where one follows from the other."""
    from scipy.stats import gaussian_kde

    if _follows(x, y):
        ax.plot(x, y, ",", color=BLUE)
        ax.set_xlim(*across)
        ax.set_ylim(*up)
        return
    estimate = gaussian_kde(np.stack([x, y]))
    gx, gy = np.linspace(across[0], across[1], _GRID), np.linspace(up[0], up[1], _GRID)
    height = estimate(np.stack([g.ravel() for g in np.meshgrid(gx, gy)])).reshape(_GRID, _GRID)
    own = estimate(np.stack([x, y]))
    levels = [float(np.quantile(own, 1 - mass)) for mass in _MASSES]
    for level, alpha in zip(levels, (0.3, 0.6), strict=True):
        if level < height.max():
            ax.contourf(gx, gy, height, levels=[level, float(height.max()) * 1.01], colors=[BLUE], alpha=alpha)
    ax.plot(np.median(x), np.median(y), "+", color=DARK, markersize=4, markeredgewidth=0.8)
    ax.set_xlim(*across)
    ax.set_ylim(*up)


def _labels(ax: Axes, fit: Fit, row: str | None, column: str | None, margin: bool) -> None:
    """Symbols and ticks at the outer panels only; units stand in the table of coefficients."""
    ax.xaxis.set_major_locator(MaxNLocator(2, prune="both"))
    ax.yaxis.set_major_locator(NullLocator() if margin else MaxNLocator(2, prune="both"))
    names = [symbol_label(fit, n).partition(" (")[0] if n else None for n in (column, row)]
    finish(ax, *names)
    ax.tick_params(which="both", labelbottom=column is not None, labelleft=row is not None, length=2)
    if column:
        ax.tick_params(axis="x", rotation=45)
    if margin:
        ax.spines["left"].set_visible(False)
