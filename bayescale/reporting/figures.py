"""The figures of a report, each for one and for two columns of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.errors import BayescaleError, NotFittedFor, nearest
from bayescale.plots import (
    plot_fit,
    plot_frontier,
    plot_groups,
    plot_held_out,
    plot_isoflop,
    plot_loss_contour,
    plot_multiplier,
    plot_pairs,
    plot_prior_posterior,
    plot_recipes,
    plot_residuals,
    plot_windows,
)
from bayescale.plots.budgets import NEAR_BUDGET
from bayescale.plots.comparisons import scalars
from bayescale.plots.pairs import default_pairs
from bayescale.plots.style import legend_over, literal, new_figure, save_figure, text_sizes, warning_of
from bayescale.posterior import Fit
from bayescale.reporting.numbers import unstable_quantity
from bayescale.runs import Runs, compute_of

#: Inches of one and of two columns, and the resolution of their pictures.
WIDTHS: Mapping[str, tuple[float, int]] = {"one": (3.3, 240), "two": (6.9, 160)}


@dataclass(frozen=True)
class Drawn:
    """A figure of the kit: its name and caption; files are `figures/NAME_one.pdf` and so on.

    `by_level` is the caption where parameters differ by level, `adjusted` where the draws were widened; `compares` says
    that the figure is of recipes, and not missed where the law is one for all runs.
    """

    name: str
    caption: str
    by_level: str | None = None
    compares: bool = False
    adjusted: str | None = None

    def captioned(self, fit: Fit) -> Drawn:
        """The figure with the caption that holds for a fit."""
        widened = self.adjusted if fit.interval_kind() == "adjusted" else None
        return replace(self, caption=(self.by_level if fit.levels else None) or widened or self.caption)


Draw = Callable[[Fit, Mapping[str, Any], float], Any]


def _single(plot: Callable[..., Any], ratio: float = 0.82) -> Draw:
    def draw(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
        figure, axes = new_figure(width, width * (ratio if width < 4 else 0.62 * ratio / 0.82))
        plot(fit, document, axes[0, 0])
        return figure

    return draw


#: So many panels of a column of a page fill its height.
_MOST_PANELS = 4


def _panels(
    fit: Fit, width: float, plots: Mapping[str, Callable[[Any], Any]], ratio: float = 0.62, titled: bool = True
) -> Any:
    """One panel a plot, under its name, under one key: below each other in one column, side by side in two."""
    if not 0 < len(plots) <= _MOST_PANELS:
        raise NotFittedFor(f"{len(plots)} panels do not fit a page: draw fit.at(...) one at a time")
    across = 1 if width < 4 else 2
    rows = -(-len(plots) // across)
    figure, axes = new_figure(width, (ratio * width / across + 0.2) * rows + 0.55, rows=rows, columns=across)
    for ax in axes.ravel()[len(plots) :]:
        ax.set_axis_off()
    keys: dict[str, Any] = {}
    for ax, (name, plot) in zip(axes.ravel(), plots.items(), strict=False):
        plot(ax)
        label, small = text_sizes(ax)
        if (key := ax.get_legend()) is not None:
            for handle, told in zip(key.legend_handles, key.get_texts(), strict=True):
                handle.set_label(told.get_text())
                keys.setdefault(told.get_text(), handle)
            key.remove()
        if titled:
            ax.set_title(literal(name), loc="left", fontsize=label, fontweight="bold")
    if keys:
        legend_over(figure, [*keys.values()], 2 if width < 4 else 4, small, warning_of(fit))
    return figure


def _levels(plot: Callable[..., Any], ratio: float = 0.82) -> Draw:
    """A figure of the law, or one panel a level where parameters differ by level."""

    def draw(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
        if not fit.levels:
            return _single(lambda fit, document, ax: plot(fit, ax), ratio)(fit, document, width)
        ((column, levels),) = fit.levels.items()
        return _panels(fit, width, {n: lambda ax, n=n: plot(fit.at(**{column: n}), ax) for n in levels})

    return draw


def _frontier(quantity: str) -> Draw:
    def plot(fit: Fit, document: Mapping[str, Any], ax: Any) -> None:
        (plot_recipes if fit.levels else plot_frontier)(fit, ax, quantity=quantity)

    return _single(plot)


def _recipes(fit: Fit, document: Mapping[str, Any], ax: Any) -> None:
    if not fit.levels:
        raise NotFittedFor("the law is one for all runs: no recipes are compared")
    plot_recipes(fit, ax)


def _multipliers(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    found = document["report"].get("multiplier")
    if not found:
        raise NotFittedFor(
            document["report"]["left_out"].get("multiplier", "the law is one for all runs: no recipes are compared")
        )
    pairs = [tuple(p["between"]) for p in found["pairs"]]
    return _panels(fit, width, {f"{y} over {x}": lambda ax, x=x, y=y: _multiplier(fit, (x, y), ax) for x, y in pairs})


def _multiplier(fit: Fit, between: tuple[str, str], ax: Any) -> None:
    plot_multiplier(fit, between, ax)
    ax.set_ylabel(ax.get_ylabel().partition("\n")[0])  # the title names the pair


def _runs_against_law(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    figure, axes = new_figure(width, 4.0 if width < 4 else 4.6, rows=2)
    axes[1, 0].sharex(axes[0, 0])
    plot_fit(fit, axes.ravel())
    axes[0, 0].set_xlabel("")
    return figure


def _residuals(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    columns = [c for c in ("params", "tokens") if fit.runs.has(c)]
    columns += ["flops"] if compute_of(fit.runs) is not None else []
    columns += [*fit.levels]
    # A budget is a compute: any other group says more beside it.
    others = (g for g in fit.group if g not in columns and not (g == "budget" and _spent(fit.runs)))
    columns += sorted(others, key=lambda g: g == "budget")[:1]
    if not columns:
        raise NotFittedFor("the table has no size, data, compute or group to draw residuals against")
    across = 1 if width < 4 else 2
    rows = -(-len(columns) // across)
    figure, axes = new_figure(width, (1.55 if width < 4 else 2.2) * rows + 0.2, rows=rows, columns=across)
    for ax in axes.ravel()[len(columns) :]:
        ax.set_axis_off()
    for ax, column in zip(axes.ravel(), columns, strict=False):
        plot_residuals(fit, column, ax)
    # One key is enough: it is the same in every panel.
    for ax in axes.ravel()[1 : len(columns)]:
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    return figure


def _spent(runs: Runs) -> bool:
    """Whether every run's budget is its compute, to 10 %."""
    C = compute_of(runs)
    return C is not None and bool((np.abs(np.log(runs.values("budget") / C)) < np.log(NEAR_BUDGET)).all())


def _pairs(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    names = default_pairs(fit)
    if len(names) < 2:
        shared = "are one for all levels" if fit.levels else "vary"
        raise NotFittedFor(f"fewer than two parameters {shared}")
    figure, axes = new_figure(width, width, rows=len(names), columns=len(names))
    plot_pairs(fit, names, axes)
    return figure


def _prior_posterior(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    names = list(scalars(fit))[:12]
    across = 2 if width < 4 else 4
    rows = -(-len(names) // across)
    figure, axes = new_figure(width, 1.3 * rows + 0.4, rows=rows, columns=across)
    for ax in axes.ravel()[len(names) :]:
        ax.set_axis_off()
    plot_prior_posterior(fit, names, axes.ravel(), above=True)
    return figure


def _groups(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    if not fit.group:
        raise NotFittedFor("no group effects were fitted")
    levels = sum(g["levels"] for g in fit.info["groupings"])
    figure, axes = new_figure(width, float(np.clip(0.9 + 0.14 * (levels + 2 * len(fit.group)), 2.0, 7.5)))
    plot_groups(fit, axes[0, 0])
    return figure


def _held_out(fit: Fit, document: Mapping[str, Any], ax: Any) -> None:
    found = document["report"]["held_out"]
    if not found:
        raise NotFittedFor(document["report"]["left_out"].get("held_out", "no runs were held out"))
    plot_held_out(fit, found, ax)


def _windows(fit: Fit, document: Mapping[str, Any], width: float) -> Any:
    """The answer by window and, where a check found another quantity that differs, that one too."""
    if not document["report"]["stability"]:
        raise NotFittedFor(document["report"]["left_out"].get("stability", "no windows of compute"))
    recorded = list(dict.fromkeys(r["quantity"] for r in document["report"]["stability"]))
    named = unstable_quantity(fit)
    shown = recorded if len(recorded) <= 2 else [recorded[0], *([named] if named in recorded[1:] else [])]
    if len(shown) == 1:
        return _single(lambda fit, document, ax: plot_windows(fit, shown[0], ax))(fit, document, width)
    return _panels(fit, width, {q: lambda ax, q=q: plot_windows(fit, q, ax) for q in shown}, titled=False)


FIGURES: tuple[tuple[Drawn, Draw], ...] = (
    (
        Drawn("isoflop", "Loss against model size at every compute budget, spent as the runs did: runs, the law's "
              "curve with its interval, and each budget's optimum."),
        _levels(plot_isoflop),
    ),
    (
        Drawn("frontier", "Compute-optimal model size against compute. Where the compute, or the size or the data of "
              "the optimum, is beyond the runs, bands are pale and the line dashed; between the dotted lines the loss "
              "is within 0.1 % of the best.",
              "Compute-optimal model size of every recipe against compute; dashed where the compute, or the size or "
              "the data of the optimum, is beyond its own runs."),
        _frontier("params"),
    ),
    (
        Drawn("tokens_per_param", "Compute-optimal tokens per parameter against compute. Where the compute, or the "
              "size or the data of the optimum, is beyond the runs, bands are pale and the line dashed.",
              "Compute-optimal tokens per parameter of every recipe against compute; dashed where the compute, or the "
              "size or the data of the optimum, is beyond its own runs."),
        _frontier("tokens_per_param"),
    ),
    (
        Drawn("contours", "Contours of the posterior median loss over model size and data, with the runs and, where "
              "it passes them, the compute-optimal frontier."),
        _levels(plot_loss_contour, 0.9),
    ),
    (
        Drawn("recipes", "The compute-optimal loss of every recipe against compute, with its runs; dashed where the "
              "compute, or the size or the data of the optimum, is beyond them. Recipes that were "
              "fitted together err together: the multiplier tells which is better, not whether bands overlap.",
              compares=True),
        _single(_recipes),
    ),
    (
        Drawn("multiplier", "How many times the compute the second recipe needs to do as well as the first. Grey, and "
              "the line dashed: no runs of both.", compares=True),
        _multipliers,
    ),
    (Drawn("fit", "Every run against the law, and what the law leaves over."), _runs_against_law),
    (Drawn("residuals", "Residuals by model size, data, compute and group."), _residuals),
    (Drawn("groups", "Estimated effects of the groups of runs."), _groups),
    (
        Drawn("pairs", "The joint posterior of the sampled parameters, two at a time, by regions of highest density.",
              adjusted="The joint posterior, adjusted, of the sampled parameters, two at a time, by regions of highest "
              "density."),
        _pairs,
    ),
    (
        Drawn("prior_posterior", "Prior and posterior of every parameter.",
              adjusted="Prior, and posterior as adjusted, of every parameter."),
        _prior_posterior,
    ),
    (
        Drawn("stability", "The answer, and what a check found to differ with compute, from the runs up to a compute "
              "and from a compute on."),
        _windows,
    ),
    (
        Drawn("held_out", "The largest runs, held out, against their forecast from the others."),
        _single(_held_out),
    ),
)  # fmt: skip


def figures_named(names: Sequence[str] | None) -> tuple[tuple[Drawn, Draw], ...]:
    """The figures of those names, all without names; raises `NotFittedFor` for an unknown one."""
    if names is None:
        return FIGURES
    known = {drawn.name: (drawn, draw) for drawn, draw in FIGURES}
    if unknown := [n for n in names if n not in known]:
        raise NotFittedFor(f"no figure is called {unknown[0]!r}", code="BS-U001", remedy=nearest(unknown[0], [*known]))
    return tuple(known[n] for n in names)


def figures_tried(fit: Fit, names: Sequence[str] | None) -> tuple[tuple[Drawn, Draw], ...]:
    """The figures that are drawn for a fit where it supports them: those that compare levels need levels, or a name."""
    return tuple(f for f in figures_named(names) if names is not None or fit.levels or not f[0].compares)


def draw_figures(
    fit: Fit,
    document: Mapping[str, Any],
    folder: Path,
    told: Callable[[str], None],
    names: Sequence[str] | None = None,
) -> tuple[list[Drawn], dict[str, str]]:
    """Draw the figures that the fit supports into a folder; returns those drawn, and why others were not."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Drawn] = []
    missing: dict[str, str] = {}
    for drawn, draw in figures_tried(fit, names):
        told(f"figure {drawn.name}")
        try:
            figures = {label: draw(fit, document, width) for label, (width, _) in WIDTHS.items()}
        except BayescaleError as error:
            missing[f"figure {drawn.name}"] = error.message
            continue
        for label, figure in figures.items():
            save_figure(figure, folder / f"{drawn.name}_{label}", WIDTHS[label][1])
        made.append(drawn.captioned(fit))
    return made, missing
