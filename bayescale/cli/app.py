"""The commands."""

from __future__ import annotations

import time
import warnings
from typing import Annotated

import typer

from bayescale.cli import choosing, deciding, judging, kits, many
from bayescale.cli.commands import Commands
from bayescale.cli.options import (
    Best,
    Column,
    Draws,
    DropMissing,
    FarOk,
    FitPath,
    Fix,
    Flops,
    Group,
    Json,
    LawName,
    LearningRates,
    LossUnit,
    MinFlops,
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
)
from bayescale.cli.places import require_folder
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import (
    budgets_of,
    least_flops,
    number,
    numbers,
    one_fit,
    pairs,
    pool_of,
    read_for,
    read_source,
    reading,
)
from bayescale.errors import NotConverged

app = typer.Typer(
    cls=Commands,
    help="Bayesian inference for neural scaling laws: a table of training runs in, a posterior over its scaling law "
    "and its optimal allocation out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """What stands before a command."""
    if version:
        from bayescale import __version__

        print(f"bayescale {__version__}")
        raise typer.Exit


@app.command()
def fit(
    source: Source,
    law: LawName = "chinchilla",
    noise: Noise = "student_t",
    group: Group = "auto",
    sampler: Annotated[str, typer.Option(help="auto, nuts or hmc.")] = "auto",
    chains: Annotated[int, typer.Option(help="Independent chains.")] = 4,
    draws: Annotated[int, typer.Option(help="Draws a chain, after warm-up.")] = 1000,
    seed: Seed = 0,
    prob: Prob = 0.9,
    flops: Flops = None,
    min_flops: MinFlops = None,
    where: Where = None,
    drop_missing: DropMissing = False,
    loss_unit: LossUnit = None,
    column: Column = None,
    unit: Unit = None,
    rows_per_run: RowsPerRun = None,
    learning_rates: LearningRates = None,
    best: Best = False,
    fix: Fix = None,
    tie: Tie = None,
    prior: Priors = None,
    pool: Pool = None,
    prior_only_ok: Annotated[
        bool, typer.Option("--prior-only-ok", help="Fit even where rows are fewer than parameters.")
    ] = False,
    out: Annotated[str | None, typer.Option("--out", help="Folder for posterior.nc, fit.json and runs.csv.")] = None,
    report: Annotated[str | None, typer.Option("--report", help="Folder for a report, as `bayescale report`.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Every parameter, check and assumption.")] = False,
) -> None:
    """Fit a scaling law to a table of runs: posterior, checks, verdict, allocation."""
    from bayescale.cli import INTERRUPTED, NOT_CONVERGED
    from bayescale.inference import fit as fit_law
    from bayescale.tables import fit_document, fit_lines, headline_allocation, summary_lines, write_folder
    from bayescale.verdicts import verdict_of

    began = time.perf_counter()
    require_folder(out, force)
    require_folder(report, force)
    runs = read_for(
        source,
        law,
        **reading(where, drop_missing, loss_unit, column, unit, rows_per_run, learning_rates),
        best=best,
        group=group,
        pool=pool,
    )
    read_at = time.perf_counter()
    if not (quiet or json):
        say([f"note: {a}" for a in runs.assumptions], style="dim", err=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        try:
            result = fit_law(
                law,
                runs,
                seed=seed,
                noise=noise,
                group=group,
                sampler=sampler,
                chains=chains,
                draws=draws,
                prob=prob,
                flops=budgets_of(flops),
                min_flops=least_flops(min_flops),
                fix=numbers("--fix", fix),
                tie=list(pairs("--tie", tie).items()),
                priors=pairs("--prior", prior),
                pool=pool_of(pool),
                prior_only_ok=prior_only_ok,
                progress=False if quiet or json else None,
            )
        except KeyboardInterrupt:  # before the first draw that could be kept
            say(["interrupted: nothing was written"], err=True)
            raise typer.Exit(INTERRUPTED) from None
    baseline = _cross_check(result, runs)
    if baseline is not None:
        result = result.with_info(checks=[*result.info["checks"], baseline.document()])
        result = result.with_info(verdict=verdict_of(result))  # which counts all checks, this one too
    allocation = headline_allocation(result)
    seconds = {**result.info["seconds"], "read": read_at - began, "total": time.perf_counter() - began}
    result = result.with_info(seconds=seconds)
    if out is not None:
        write_folder(result, out, force=force, allocation=allocation)
    kit = None
    if report is not None:
        from bayescale.reporting.kit import report as write_report

        kit = write_report(result, report, force=force, progress=False if quiet or json else None)
    if json:
        print_document(fit_document(result, allocation))
    else:
        lines = fit_lines(result, allocation, baseline)
        if details:
            lines += ["", *summary_lines(result), "", *_detail_lines(result)]
        say([*lines, "", *kits.kit_lines(kit)] if kit else lines)
        if not quiet:
            say(["", *_next_steps(result, out, details)], style="dim", err=True)
    if result.info["interrupted"]:
        raise typer.Exit(INTERRUPTED)
    if not result.converged:
        say(["NOT CONVERGED: do not use these numbers."], style="bold red", err=True)
        raise typer.Exit(NOT_CONVERGED)


def _cross_check(result, runs):
    """The least-squares value beside the posterior, where the law's response has residuals."""
    from bayescale.baseline import compare_with_baseline, least_squares
    from bayescale.errors import BayescaleError

    options = result.info["options"]
    try:
        point = least_squares(
            result.law, runs, starts=8, fix=options["fix"], tie=options["tie"], references=result.references
        )
    except BayescaleError:
        return None
    return compare_with_baseline(result, point)


def _detail_lines(result) -> list[str]:
    from bayescale.tables import aligned, findings_lines
    from bayescale.tables.symbols import prior_of

    priors = [["  " + name, prior_of(result, name)] for name in result.info["priors"]]
    references = ", ".join(f"{k} = {v:.4g}" for k, v in result.references.items() if v.ndim == 0)
    attempts = result.info["attempts"]
    return [
        "Checks",
        *findings_lines((*result.design, *result.checks, *result.audit)),
        "",
        f"Priors, judged at {references}" if references else "Priors",
        *aligned(priors),
        "",
        f"Sampler: {result.info['sampler']}, {len(attempts)} attempt(s), "
        f"{sum(a['gradients'] for a in attempts):,} gradients; "
        + ", ".join(f"{k} {v:.1f} s" for k, v in result.info["seconds"].items() if v is not None),
        "Assumptions",
        *(f"  {a}" for a in result.info["runs"]["assumptions"]),
    ]


def _next_steps(result, out: str | None, details: bool) -> list[str]:
    if result.headline_source == "none":
        return [f"Next: bayescale audit {out} shows why" if out else "Next: --details shows every parameter and check"]
    if out is not None:
        from bayescale.tables.document import beyond_reach

        budgets = [C for C in result.info["budgets"] if C not in beyond_reach(result)]
        again = f"bayescale allocate {out} --flops {budgets[-1]:.3g}" if budgets else f"bayescale forecast {out}"
        return [f"Next: {again}; bayescale audit {out} shows what the intervals rest on"]
    more = "" if details else "--details shows every parameter and check; "
    return [f"Next: {more}--out DIR keeps the posterior for audit, allocate and forecast"]


@app.command()
def laws(
    name: Annotated[str | None, typer.Argument(help="One law, with its priors and sources.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Which laws this table's columns support.")] = None,
    column: Column = None,
    loss_unit: LossUnit = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table in Markdown.")] = False,
    json: Json = False,
) -> None:
    """The catalogue of scaling laws."""
    from bayescale.errors import BayescaleError
    from bayescale.laws import LAWS, find_law
    from bayescale.tables import catalogue, implied_prior, law_document, law_lines

    if for_ is not None and (name is not None or markdown):
        other = "the name of a law" if name is not None else "--markdown"
        raise BayescaleError(f"--for asks about all laws, without {other}", code="BS-U001", remedy="Leave one out.")
    if for_ is None and (column or loss_unit):
        option = "--column" if column else "--loss-unit"
        raise BayescaleError(f"{option} is about a table", code="BS-U001", remedy="Name the table: --for SOURCE.")
    if name is not None:
        law = find_law(name)
        prior = implied_prior(law)
        if json:
            print_document({"schema": "bayescale.laws/1", "laws": [law_document(law)], "implied_prior": prior})
            return
        if markdown:
            print("\n".join(catalogue.markdown_table([law])))
            return
        said = [f"  {k}: {v['median']:.3g} ({v['lower']:.3g} to {v['upper']:.3g})" for k, v in prior.items()]
        say([*law_lines(law), *(["", "Implied before any data (median, 90 %)", *said] if said else [])])
    elif for_ is not None:
        runs = read_source(for_, response=None, columns=pairs("--column", column), loss_unit=loss_unit)
        rows = catalogue.supported(runs)
        if json:
            print_document({"schema": "bayescale.laws/1", "source": for_, **catalogue.support_document(rows)})
        else:
            say([f"note: {a}" for a in runs.assumptions], style="dim", err=True)
            say(catalogue.support_lines(rows))
    elif json:
        print_document({"schema": "bayescale.laws/1", "laws": catalogue.catalogue_documents()})
    elif markdown:
        print("\n".join(catalogue.markdown_table([find_law(n) for n in LAWS])))
    else:
        say(catalogue.catalogue_lines())


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(help="One data set, with its licence and subsets.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download it now.")] = False,
    json: Json = False,
) -> None:
    """The data sets that come with bayescale or can be downloaded by it."""
    from bayescale.tables.catalogue import dataset_documents, dataset_lines

    documents = dataset_documents(name, fetch)
    if json:
        print_document({"schema": "bayescale.datasets/1", "datasets": documents})
    else:
        say(dataset_lines(documents, full=name is not None))


@app.command()
def allocate(
    fit: FitPath,
    flops: Annotated[
        list[str] | None,
        typer.Option(
            "--flops", help="A budget in FLOP; may be repeated. Left out where none bears on what is decided."
        ),
    ] = None,
    max_params: Annotated[str | None, typer.Option("--max-params", help="The largest model you can train.")] = None,
    cost: Annotated[str, typer.Option(help="6nd, or table: compute as the runs spent it.")] = "6nd",
    given: Annotated[list[str] | None, typer.Option("--given", help="An input a budget does not set: U=1e11.")] = None,
    level: Annotated[list[str] | None, typer.Option("--level", help="An evaluation set or recipe: eval=c4.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", help="What a level counts in the mean that is least: c4=2.")
    ] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    far_ok: FarOk = False,
    json: Json = False,
) -> None:
    """The compute-optimal model size and data at each budget, and what else a law's users decide, with intervals."""
    from bayescale.allocation import allocate as allocate_budgets
    from bayescale.tables import allocation_lines

    result = one_fit(fit)
    if not flops and not (result.law.decides and result.law.decides.answers):
        raise typer.BadParameter("Say how much may be spent, for example 1e21.", param_hint="--flops")
    made = allocate_budgets(
        result,
        budgets_of(flops) if flops else None,
        prob=prob,
        max_params=number("--max-params", max_params) if max_params is not None else None,
        cost=cost,
        given=numbers("--given", given),
        levels=pairs("--level", level),
        weights=numbers("--weight", weight) or None,
        draws=draws,
        far_ok=far_ok,
    )
    if json:
        print_document(
            {
                "schema": "bayescale.allocation/1",
                "law": made.law,
                "cost": made.cost,
                "prob": made.prob,
                "intervals": made.kind,
                "draws": draws,
                "allocation": made.to_json(),
                "notes": list(made.notes),
            }
        )
    else:
        say([f"{result.info['runs']['source']} · {made.law} · {made.prob:.0%} {made.kind} intervals"])
        say(allocation_lines(made))


@app.command()
def forecast(
    fit: FitPath,
    params: Annotated[str | None, typer.Option("--params", help="Model size N.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="Training tokens D.")] = None,
    flops: Annotated[
        str | None, typer.Option("--flops", help="Compute C; alone, N and D are the optimal ones.")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--given", help="Another input of the law: U=1e11.")] = None,
    level: Annotated[list[str] | None, typer.Option("--level", help="A known group: params=1e9.")] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    far_ok: FarOk = False,
    json: Json = False,
) -> None:
    """The loss that a run would reach: the law's curve, and a new run with its groups and noise."""
    from bayescale.forecasting import forecast as forecast_runs
    from bayescale.tables.text import forecast_lines

    result = one_fit(fit)
    if params is None and tokens is None and flops is None and not given:
        from bayescale.errors import BayescaleError

        remedy = "Give --params and --tokens, or --flops."
        raise BayescaleError("what should be forecast?", code="BS-U001", remedy=remedy)
    made = forecast_runs(
        result,
        N=number("--params", params) if params is not None else None,
        D=number("--tokens", tokens) if tokens is not None else None,
        C=number("--flops", flops) if flops is not None else None,
        inputs=numbers("--given", given),
        levels=pairs("--level", level),
        prob=prob,
        draws=draws,
        far_ok=far_ok,
    )
    if json:
        print_document(
            {
                "schema": "bayescale.forecast/1",
                "law": made.law,
                "unit": made.unit,
                "prob": made.prob,
                "intervals": made.kind,
                "draws": draws,
                "forecast": made.to_json(),
                "notes": list(made.notes),
            }
        )
    else:
        say(forecast_lines(made))


judging.add_commands(app)
kits.add_commands(app)
choosing.add_commands(app)
many.add_commands(app)
deciding.add_commands(app)
