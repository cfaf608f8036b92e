"""How figures look: colours that colour-blind readers can tell apart, readable ticks, sizes that fit one column."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from bayescale.errors import NotFittedFor
from bayescale.posterior import Fit
from bayescale.runs import COLUMNS
from bayescale.tables.symbols import named

# Okabe and Ito's palette, and two greys.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
GREY, DARK = "#8c8c8c", "#262626"
#: Lines beyond the runs.
DASHED = (0, (4, 2))
#: Runs drawn over lines.
EDGED: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
#: Behind text that lines pass through.
HALO = (patheffects.withStroke(linewidth=2, foreground="white"),)

#: Inches: one column of a journal's page.
COLUMN = (3.4, 2.7)
_NARROW = 4.2
#: Values on a logarithmic axis that coincide, and over how much of it those of one place are spread.
_COINCIDE, _WIDEST = 1e-3, 0.02


def new_axes(ax: Axes | None, size: tuple[float, float] = COLUMN) -> Axes:
    """The Axes given, or those of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, np.ndarray]:
    """A figure of so many inches that no session keeps, and its Axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def lay_out(figure: Any) -> None:
    """Give a figure's panels the places that they have when it is drawn, as far as is known yet."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def written_width(text: str, size: float) -> float:
    """How many points a text takes that is written in a size."""
    return float(TextPath((0, 0), text, size=size).get_extents().x1)


def save_figure(figure: Any, stem: Any, dpi: int) -> None:
    """Write a figure as `stem.png` and `stem.pdf`: fonts embedded, no date in the file."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is done: both files are of the same one
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(f"{stem}.png", dpi=dpi, metadata={"Software": None})
        figure.savefig(f"{stem}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})


def new_grid(axes: Any, count: int, columns: int, size: tuple[float, float], **options: Any) -> np.ndarray:
    """The first `count` of the Axes given, or those of a new figure with panels of that size; the rest is hidden."""
    if axes is not None:
        given = np.asarray(axes, object).ravel()
        if len(given) < count:
            raise NotFittedFor(
                f"{count} panels need as many Axes, got {len(given)}", code="BS-U001", remedy="Give axes= an array."
            )
        return given[:count]
    from matplotlib import pyplot

    columns = min(columns, count)
    rows = -(-count // columns)
    _, made = pyplot.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, layout="constrained", **options
    )
    for ax in made.ravel()[count:]:
        ax.set_axis_off()
    return made.ravel()[:count]


def text_sizes(ax: Axes) -> tuple[float, float]:
    """Points for labels, and for ticks and legends: the session's own size, but at most 8 and 7 in a narrow panel."""
    own = FontProperties(size=matplotlib.rcParams["font.size"]).get_size_in_points()
    return (min(own, 8.0), min(own, 7.0)) if is_narrow(ax) else (own, 0.9 * own)


def is_narrow(ax: Axes) -> bool:
    """Whether a panel is no wider than a column of a page."""
    return ax.bbox.width / ax.figure.dpi < _NARROW


def finish(ax: Axes, x: str | None, y: str | None) -> Axes:
    """Label the axes, size the text for the panel's width, and take away what carries nothing."""
    label, small = text_sizes(ax)
    if x is not None:
        ax.set_xlabel(x, fontsize=label)
    if y is not None:
        ax.set_ylabel(y, fontsize=label)
    ax.tick_params(which="both", labelsize=small)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend(ax: Axes, handles: Sequence[Any], **options: Any) -> None:
    """A legend in the panel's small text."""
    settings = {
        "fontsize": text_sizes(ax)[1],
        "title_fontsize": text_sizes(ax)[1],
        "frameon": True,
        "framealpha": 0.8,
        "edgecolor": "none",
        "borderpad": 0.3,
        "handlelength": 1.6,
        "handletextpad": 0.5,
        "labelspacing": 0.3,
        "columnspacing": 1.0,
        **options,
    }
    settings["title"] = _folded(settings.get("title"), ax.bbox.width / ax.figure.dpi, settings["title_fontsize"])
    made = ax.legend(handles=handles, alignment="left", **settings)
    made.get_title().set_color(VERMILLION)


def legend_above(ax: Axes, handles: Sequence[Any], columns: int, *, by_rows: bool = False, **options: Any) -> None:
    """A legend over the panel, where it hides nothing, in at most so many columns as fit; filled row by row or down."""
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.1}
    spec = ax.get_subplotspec()
    # The last panel's legend may go on to the edge of the page, that of another to the next panel.
    room = 0.92 * (ax.figure.bbox.width - ax.bbox.x0) if spec is None or spec.is_last_col() else 1.15 * ax.bbox.width
    for count in range(columns, 0, -1):
        if by_rows and -(-len(handles) // count) == -(-len(handles) // (count - 1 or 1)):
            continue  # as many rows as with a column less
        ordered = [h for k in range(count) for h in handles[k::count]] if by_rows else handles
        legend(ax, ordered, ncols=count, **{**place, **options})
        made = ax.get_legend()
        if made is not None and made.get_window_extent().width <= room:
            break


def legend_over(figure: Any, handles: Sequence[Any], columns: int, size: float, title: str | None) -> None:
    """A legend of all panels, over them; the warning at its head stays within the figure."""
    made = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        fontsize=size,
        title=_folded(title, figure.get_figwidth(), size),
        title_fontsize=size,
        frameon=False,
    )
    made.get_title().set_color(VERMILLION)


def _folded(title: str | None, inches: float, size: float) -> str | None:
    """A long title in as many lines as a width asks for."""
    return textwrap.fill(title, max(24, int(72 * inches / (0.55 * size)))) if title else title


def literal(text: str) -> str:
    """Text of a table as it is: a dollar sign would begin mathematics, and long names would push the panel aside.

    Characters that the session's font does not have are drawn as question marks.
    """
    shown = text if len(text) <= 40 else f"{text[:39]}…"
    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else "?" for c in shown).replace("$", r"\$")


def count_label(x: float, _: Any = None, digits: int = 3) -> str:
    """A count as people say it: 300k, 3M, 70B, 1.4T."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= 0.9995 * size:
            return f"{x / size:.{digits}g}{letter}" if x < 1e15 else power_label(x)
    return f"{x:.{digits}g}"


def power_label(x: float, _: Any = None) -> str:
    """A large number in scientific notation, as mathematics: 3×10¹⁵."""
    if not x > 0:
        return f"{x:g}"
    mantissa, exponent = f"{x:.1e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    short = mantissa.removesuffix(".0")
    return f"${power}$" if short == "1" else rf"${short}\times{power}$"


def number_label(x: float, _: Any = None) -> str:
    """A plain number where it is short, else scientific notation."""
    return f"{x:.4g}" if x == 0 or 1e-3 <= abs(x) < 1e4 else power_label(x)


def percent(probability: float) -> str:
    """A probability in percent, without digits that carry nothing: 90%, 99.5%."""
    return f"{100 * probability:g}%"


class SparseLog(ticker.Locator):
    """Ticks of a logarithmic axis: as many of 1, 2, 5 or 1, 3 or 1 a decade as the axis has room to label.

    Where these would be fewer than three, there are finer ones between them.
    """

    #: Inches that a label takes, along x and along y; one with a factor before its power is wider.
    _ROOM, _WIDE = (0.45, 0.3), 0.62
    _STEPS = ((1, 2, 5), (1, 3), (1,))
    _FINER = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))

    def __init__(self, ax: Axes, which: str, wide: bool = False):
        self.ax, self.which, self.wide = ax, which, wide

    def __call__(self) -> Any:
        """The ticks of the view."""
        return self.tick_values(*(self.ax.get_xlim() if self.which == "x" else self.ax.get_ylim()))

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The ticks between two values."""
        vmin, vmax = sorted((vmin, vmax))
        if not 0 < vmin < vmax:
            return []
        few = min(3, int(self._most(self.wide)))
        ticks: Any = np.empty(0)
        if vmax < 3 * vmin:
            for most in range(4, 9):
                ticks = ticker.MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
                if ((ticks >= vmin) & (ticks <= vmax)).sum() >= few:
                    break
            return ticks
        powers = np.arange(np.floor(np.log10(vmin)), np.floor(np.log10(vmax)) + 1)

        def inside(powers: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
            ticks = (10.0 ** powers[:, None] * np.asarray(steps)).ravel()
            return ticks[(ticks >= 0.999 * vmin) & (ticks <= 1.001 * vmax)]

        for every in range(1, len(powers) + 1):
            for steps in self._STEPS if every == 1 else ((1,),):
                ticks = inside(powers[powers % every == 0], steps)
                if len(ticks) <= self._most(self.wide and len(steps) > 1):
                    break
            else:
                continue
            break
        finer = [inside(powers, steps) for steps in self._FINER] if len(ticks) < few else []
        fitting = [found for found in finer if few <= len(found) <= self._most(self.wide)]
        # One tick tells no scale: rather two close ones.
        return next(iter(fitting), ticks if len(ticks) > 1 else next((f for f in finer if len(f) > 1), ticks))

    def _most(self, wide: bool) -> float:
        inches = (self.ax.bbox.width if self.which == "x" else self.ax.bbox.height) / self.ax.figure.dpi
        room = self._WIDE if wide and self.which == "x" else self._ROOM[self.which == "y"]
        return min(7.0, max(2.0, inches / room))


def log_scale(ax: Axes, which: str, label: Callable[..., str]) -> None:
    """Make an axis ("x" or "y") logarithmic with few, readable ticks."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(SparseLog(ax, which, wide=label is power_label))
    axis.set_major_formatter(ticker.FuncFormatter(label))
    axis.set_minor_formatter(ticker.NullFormatter())


#: Symbols of the canonical columns, and how their values are written.
_COLUMNS = {
    "params": ("model size N (parameters)", count_label),
    "tokens": ("training data D (tokens)", count_label),
    "flops": ("training compute C (FLOP)", power_label),
    "tokens_per_param": ("tokens per parameter D/N", count_label),
    "unique_tokens": ("distinct data U (tokens)", count_label),
    "budget": ("compute budget (FLOP)", power_label),
}


def column_label(column: str, source: str | None = None) -> tuple[str, Callable[..., str]]:
    """What an axis of a column is called, with its unit, and how its values are written."""
    if column in _COLUMNS:
        return _COLUMNS[column]
    unit = COLUMNS[column].unit if column in COLUMNS else ""
    return f"{source or column}{f' ({unit})' if unit else ''}", number_label


def loss_label(fit: Fit) -> str:
    """What the axis of the response is called, with its unit."""
    response = fit.law.responses[0]
    unit = fit.info["loss_unit"] if response.name == "loss" else response.unit
    return response.name if unit in ("", "1") else f"{response.name} ({unit})"


def symbol_label(fit: Fit, name: str) -> str:
    """The symbol of a reported quantity, with its unit where it has one."""
    about = named(fit, name)
    text = f"${about.symbol}$" if about.symbol else literal(name.partition("[")[0].replace("_", " "))
    element = f" [{literal(about.element)}]" if about.element else ""
    return f"{text}{element}{f' ({about.unit})' if about.unit else ''}"


def side_by_side(x: np.ndarray, step: float = 0.012) -> np.ndarray:
    """Positive values on a logarithmic axis, those that coincide moved apart by a small share of the axis.

    Only values within 0.1 % of each other are moved, and all of them over no more than 2 % of the axis.
    """
    x = np.asarray(x, float)
    order = np.argsort(x, kind="stable")
    logs = np.log(x[order])
    reach = float(np.ptp(logs)) if np.ptp(logs) > _COINCIDE else 1.0
    aside, first = np.zeros(len(x)), 0
    for k in range(1, len(x) + 1):
        if k == len(x) or logs[k] - logs[first] > _COINCIDE:
            size = k - first
            part = reach * min(step, _WIDEST / max(size - 1, 1))
            aside[order[first:k]] = part * (np.arange(size) - (size - 1) / 2)
            first = k
    return x * np.exp(aside)


def interval_label(fit: Fit, prob: float, draws: str = "headline") -> str:
    """What an interval is called, with its probability: credible, or adjusted where draws were widened."""
    return f"{percent(prob)} {fit.interval_kind(draws)}"


def warning_of(fit: Fit) -> str | None:
    """The checks that failed, for the head of a legend: a figure leaves the session without its verdict."""
    failed = list(dict.fromkeys(f.code for f in (*fit.design, *fit.checks, *fit.audit) if f.status == "fail"))
    if not failed and fit.headline_source != "none":
        return None
    return (
        f"checks failed: {', '.join(failed[:3])}{' …' if len(failed) > 3 else ''}" if failed else "not to be relied on"
    )


def shades(values: np.ndarray) -> tuple[Callable[[Any], Any], LogNorm]:
    """A map from positive values to colours, dark for small, and its scale; the palest colours are left out."""
    low, high = float(np.min(values)), float(np.max(values))
    norm = LogNorm(low, high if high > 1.01 * low else 2 * low)
    palette = matplotlib.colormaps["viridis"]
    return lambda x: palette(0.82 * np.clip(np.asarray(norm(x), float), 0, 1)), norm


def size_key(ax: Axes, sizes: np.ndarray, colour: Callable[[Any], Any]) -> list[Line2D]:
    """Legend entries of a few model sizes, evenly spread on a logarithmic scale; the first names the quantity."""
    known = np.unique(sizes)
    wanted = np.geomspace(known[0], known[-1], 3 if is_narrow(ax) else 5)
    shown = known[np.unique([int(np.argmin(np.abs(np.log(known / w)))) for w in wanted])]
    texts = [count_label(float(x)) for x in shown]
    return [
        Line2D([], [], color=colour(x), marker="o", linestyle="none", markersize=3.5, label=f"N = {t}" if k == 0 else t)
        for k, (x, t) in enumerate(zip(shown, texts, strict=True))
    ]
