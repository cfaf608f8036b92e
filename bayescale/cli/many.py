"""The commands that fit many tables: a batch, and a calibration."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from bayescale.cli.options import (
    Column,
    DropMissing,
    Fix,
    Flops,
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
from bayescale.cli.places import require_folder
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import budgets_of, numbers, pairs, pool_of, read_for, reading
from bayescale.errors import BayescaleError, NotConverged, RunsError

#: Rows of the table of results that a person is shown; the rest is in the store and in `--json`.
SHOWN = 40


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(batch)
    app.command()(calibrate)


def batch(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files or data sets; or one, with --by.")],
    by: Annotated[
        str | None, typer.Option("--by", help="Fit the law to the rows of every value of this column.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Folder for the results, written as they are reached.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a store that exists.")] = False,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a dask scheduler whose workers have bayescale.")
    ] = None,
    law: LawName = "chinchilla",
    noise: Noise = "student_t",
    group: Group = "auto",
    seed: Seed = 0,
    prob: Prob = 0.9,
    flops: Flops = None,
    where: Where = None,
    drop_missing: DropMissing = False,
    loss_unit: LossUnit = None,
    column: Column = None,
    unit: Unit = None,
    rows_per_run: RowsPerRun = None,
    learning_rates: LearningRates = None,
    fix: Fix = None,
    tie: Tie = None,
    prior: Priors = None,
    pool: Pool = None,
    examine: Annotated[
        bool, typer.Option("--examine", help="Examine every table's intervals as `fit` does: about half a second each.")
    ] = False,
    workers: Workers = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Fit one law to many tables: every result certified, or marked."""
    from bayescale.batch import fit_many
    from bayescale.cli import INTERRUPTED, PARTLY
    from bayescale.tables.many import batch_document, batch_lines, write_store

    if resume and store is None:
        raise BayescaleError("--resume goes on with a store", code="BS-U001", remedy="Name it with --store.")
    empty = store is not None and Path(store).is_dir() and not any(Path(store).iterdir())
    require_folder(store, resume or empty, "--resume", "go on with it")
    asked = reading(where, drop_missing, loss_unit, column, unit, rows_per_run, learning_rates)
    tables, unread = _tables(sources, by, law, asked)
    if not (quiet or json):
        say(_understood(tables), style="dim", err=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        made = fit_many(
            law,
            tables,
            seed=seed,
            noise=noise,
            group=group,
            prob=prob,
            flops=budgets_of(flops),
            fix=numbers("--fix", fix),
            tie=list(pairs("--tie", tie).items()),
            priors=pairs("--prior", prior),
            pool=pool_of(pool),
            workers=workers,
            examine=examine,
            store=store,
            client=_client(scheduler) if scheduler else None,
            progress=False if quiet or json else None,
        )
    if store is not None:
        write_store(made, store, unread)
    if json:
        print_document(batch_document(made, unread))
    else:
        say(batch_lines(made, unread, SHOWN))
        if store is not None and not quiet:
            say(["", f"Next: {store} holds the posterior in parts, status.csv and summary.csv"], style="dim", err=True)
    if made.info["interrupted"]:
        raise typer.Exit(INTERRUPTED)
    if unread or not made.converged:
        raise typer.Exit(PARTLY)


def _understood(tables: dict) -> list[str]:
    """What was assumed of the tables: of all in one line, else of which."""
    said: dict[str, list[str]] = {}
    for name, runs in tables.items():
        for note in runs.assumptions:
            said.setdefault(note, []).append(name)
    lines = []
    for note, names in said.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"note: {note}" if len(names) == len(tables) else f"note: {', '.join(names[:3])}{more}: {note}")
    left = [f"… and {len(lines) - SHOWN} more notes, all of them in --json"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *left]


def _client(address: str):
    """A client of a dask scheduler; raises `BayescaleError` (BS-U001) where dask is not installed."""
    from importlib import import_module

    try:
        return import_module("dask.distributed").Client(address)
    except ImportError:
        remedy = "Install the extra: pip install 'bayescale[batch]'."
        raise BayescaleError("--scheduler needs dask", code="BS-U001", remedy=remedy) from None
    except (OSError, ValueError) as error:
        raise BayescaleError(
            f"no dask scheduler answers at {address}: {error}",
            code="BS-U001",
            remedy="Give the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786.",
        ) from None


def _tables(sources: list[str], by: str | None, law: str, asked: dict) -> tuple[dict, dict[str, str]]:
    """The tables by name, and why others could not be read: one that cannot does not stop the rest."""
    if by is not None:
        if len(sources) != 1:
            raise BayescaleError("--by takes one source", code="BS-U001", remedy="Give one file, or leave --by out.")
        try:
            return _split(read_for(sources[0], law, **asked), by), {}
        except RunsError as error:
            if not error.rows:
                raise
            return _part_by_part(sources[0], by, law, asked, error)
    tables, unread = {}, {}
    for source in sources:
        name, k = source, 1
        while name in tables or name in unread:
            k += 1
            name = f"{source} ({k})"
        try:
            tables[name] = read_for(source, law, **asked)
        except BayescaleError as error:
            if error.code.startswith(("BS-U", "BS-L")) or len(sources) == 1:
                raise
            unread[name] = str(error)
    if not tables:
        raise BayescaleError("none of the sources could be read", code="BS-R040", remedy="; ".join(unread.values()))
    return tables, unread


def _split(runs, column: str) -> dict:
    """The rows of every value of a column, as tables of their own."""
    from dataclasses import replace

    index, levels = runs.labels(column)
    return {
        level: replace(runs, frame=runs.frame[index == k], source=f"{runs.source}[{column}={level}]")
        for k, level in enumerate(levels)
    }


def _part_by_part(source: str, column: str, law: str, asked: dict, error: RunsError) -> tuple[dict, dict[str, str]]:
    """The rows of every value of a column, each read by itself: rows that cannot be read cost only their own table."""
    from dataclasses import replace

    from bayescale.reading.cells import is_missing, parse_number
    from bayescale.reading.sources import open_table

    cells = open_table(source).cells
    if column not in cells.columns:
        raise error
    tables, unread = {}, {}
    for value in dict.fromkeys(v.strip() if isinstance(v, str) else v for v in cells[column] if not is_missing(v)):
        number = parse_number(value) if isinstance(value, str) else (value, True)
        own = f"`{column}` == {repr(value) if number is None else number[0]}"
        where = f"({asked['where']}) and {own}" if asked.get("where") else own
        try:
            runs = read_for(source, law, **{**asked, "where": where})
        except RunsError as its:
            unread[str(value)] = str(its)
        else:
            tables[str(value)] = replace(runs, source=f"{runs.source}[{column}={value}]")
    if not tables:
        raise error
    return tables, unread


def calibrate(
    source: Source,
    law: LawName = "chinchilla",
    simulations: Annotated[int, typer.Option("--simulations", help="Simulated tables.")] = 1000,
    noise: Noise = "student_t",
    group: Group = "auto",
    pool: Pool = None,
    simulate_noise: Annotated[
        str | None, typer.Option("--simulate-noise", help="Simulate with another noise than is fitted.")
    ] = None,
    seed: Seed = 0,
    loss_unit: LossUnit = None,
    column: Column = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> None:
    """Is the computation right? Ranks of truths among posteriors of simulated tables, at this table's design."""
    from bayescale.calibration import calibrate as calibrate_law
    from bayescale.tables.many import calibration_lines

    runs = read_for(source, law, loss_unit=loss_unit, columns=pairs("--column", column))
    made = calibrate_law(
        law,
        runs,
        simulations=simulations,
        seed=seed,
        noise=noise,
        group=group,
        pool=pool_of(pool),
        simulate_noise=simulate_noise,
        progress=False if quiet or json else None,
    )
    if json:
        print_document(made.to_json())
    else:
        say(calibration_lines(made))
