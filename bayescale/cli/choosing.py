"""The commands that hold models against runs they were not fitted to: compare and backtest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayescale.cli.options import (
    Best,
    Column,
    DropMissing,
    Fix,
    Group,
    Json,
    LawName,
    LearningRates,
    LossUnit,
    Noise,
    Pool,
    Priors,
    Prob,
    RowsPerRun,
    Seed,
    Source,
    Tie,
    Unit,
    Where,
    Workers,
)
from bayescale.cli.places import require_picture
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import budget, number, numbers, pairs, pool_of, read_for, reading

if TYPE_CHECKING:
    from bayescale.runs import Runs

Budget = Annotated[
    str | None, typer.Option("--flops", help="Where models are asked for the best size; else 10 times the largest run.")
]
Picture = Annotated[str | None, typer.Option("--out", help="Draw it to this file, .png or .pdf.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(compare)
    app.command()(backtest)


def compare(
    source: Source,
    law: Annotated[list[str] | None, typer.Option("--law", help="A law; two or more, or one with noises.")] = None,
    noise: Annotated[list[str] | None, typer.Option("--noise", help="A noise; may be repeated.")] = None,
    group: Group = "auto",
    pool: Pool = None,
    over: Annotated[
        str | None, typer.Option("--over", help="What is left out one at a time: budget, params, compute or a column.")
    ] = None,
    cut: Annotated[str | None, typer.Option("--cut", help="Runs above this compute are the later ones.")] = None,
    flops: Budget = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    where: Where = None,
    drop_missing: DropMissing = False,
    loss_unit: LossUnit = None,
    column: Column = None,
    unit: Unit = None,
    rows_per_run: RowsPerRun = None,
    learning_rates: LearningRates = None,
    best: Best = False,
    workers: Workers = None,
    out: Picture = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Which law, noise or grouping predicts left-out runs better, by how much, and does the choice matter?"""
    from bayescale.cli import PARTLY
    from bayescale.comparison import compare as compare_models

    require_picture(out, force)
    laws = law or ["chinchilla"]
    options = reading(where, drop_missing, loss_unit, column, unit, rows_per_run, learning_rates)
    runs = _read(source, laws[0], options, best, quiet or json)
    made = compare_models(
        runs,
        laws,
        noise=noise or "student_t",
        group=group,
        pool=pool_of(pool),
        over=over,
        cut=number("--cut", cut) if cut is not None else None,
        flops=budget("--flops", flops) if flops is not None else None,
        seed=seed,
        prob=prob,
        workers=workers,
        progress=False if quiet or json else None,
    )
    if out is not None:
        from bayescale.plots import plot_compare

        _save(plot_compare(made), out)
    if json:
        print_document(made.to_json())
    else:
        say([f"{made.source} · {made.scored} folds over {made.over}", "", *made.table_lines(), "", *made.lines()])
        say([f"note: {n}" for n in made.notes], style="dim", err=True)
    if not made.complete:
        raise typer.Exit(PARTLY)


def backtest(
    source: Source,
    law: LawName = "chinchilla",
    noise: Noise = "student_t",
    group: Group = "auto",
    pool: Pool = None,
    fix: Fix = None,
    tie: Tie = None,
    prior: Priors = None,
    cut: Annotated[
        list[str] | None, typer.Option("--cut", help="Fit below this compute, forecast above; may be repeated.")
    ] = None,
    flops: Budget = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    where: Where = None,
    drop_missing: DropMissing = False,
    loss_unit: LossUnit = None,
    column: Column = None,
    unit: Unit = None,
    rows_per_run: RowsPerRun = None,
    learning_rates: LearningRates = None,
    best: Best = False,
    workers: Workers = None,
    out: Picture = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How well would the law have forecast the larger runs? Fitted below several cuts, asked about what lies above."""
    from bayescale.backtesting import backtest as backtest_law
    from bayescale.cli import PARTLY

    require_picture(out, force)
    options = reading(where, drop_missing, loss_unit, column, unit, rows_per_run, learning_rates)
    runs = _read(source, law, options, best, quiet or json)
    made = backtest_law(
        law,
        runs,
        noise=noise,
        group=group,
        pool=pool_of(pool),
        fix=numbers("--fix", fix),
        tie=list(pairs("--tie", tie).items()),
        priors=pairs("--prior", prior),
        cuts=[number("--cut", c) for c in cut or ()],
        flops=budget("--flops", flops) if flops is not None else None,
        seed=seed,
        prob=prob,
        workers=workers,
        progress=False if quiet or json else None,
    )
    if out is not None:
        from bayescale.plots import plot_backtest

        _save(plot_backtest(made)[0], out)
    if json:
        print_document(made.to_json())
    else:
        say([f"{made.source} · {made.law}, {made.noise} noise", "", *made.table_lines(), "", *made.lines()])
        say([f"note: {n}" for n in made.notes], style="dim", err=True)
    if not made.complete:
        raise typer.Exit(PARTLY)


def _read(source: str, law: str, options: dict[str, Any], best: bool, silent: bool) -> Runs:
    runs = read_for(source, law, **options, best=best)
    if not silent:
        say([f"note: {a}" for a in runs.assumptions], style="dim", err=True)
    return runs


def _save(ax: Any, out: str) -> None:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(out, dpi=200, bbox_inches="tight")
