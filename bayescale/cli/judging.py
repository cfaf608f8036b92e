"""The commands that judge: a table before it is fitted, a fit's sampler, and a fit's intervals."""

from __future__ import annotations

from typing import Annotated

import typer

from bayescale.cli.options import (
    Best,
    Column,
    DropMissing,
    FitPath,
    Flops,
    Json,
    LawName,
    LearningRates,
    LossUnit,
    RowsPerRun,
    Source,
    Unit,
    Where,
)
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import budgets_of, one_fit, read_for, reading


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (doctor, check, audit):
        app.command()(command)


def doctor(
    source: Source,
    law: LawName = "chinchilla",
    flops: Flops = None,
    where: Where = None,
    drop_missing: DropMissing = False,
    loss_unit: LossUnit = None,
    column: Column = None,
    unit: Unit = None,
    rows_per_run: RowsPerRun = None,
    learning_rates: LearningRates = None,
    best: Best = False,
    instead: Annotated[
        bool,
        typer.Option("--instead/--no-instead", help="Where the law's exponents are out of reach, fit what is not."),
    ] = True,
    json: Json = False,
) -> None:
    """Before fitting: what can this table answer?"""
    from bayescale.diagnostics import doctor as diagnose, proposal
    from bayescale.tables import findings_lines

    runs = read_for(
        source,
        law,
        **reading(where, drop_missing, loss_unit, column, unit, rows_per_run, learning_rates),
        best=best,
    )
    found = diagnose(runs, law, flops=budgets_of(flops))
    answers = _instead(runs, law, found) if instead else None
    if json:
        print_document(
            {
                "schema": "bayescale.doctor/1",
                "law": found.law,
                "status": found.status,
                "runs": {
                    "source": runs.source,
                    "rows": runs.rows_read,
                    "used": len(runs),
                    "sha256": runs.sha256,
                    "assumptions": list(runs.assumptions),
                },
                "findings": found.to_json(),
                "refused": [f.code for f in found.refusals],
                "next_runs": [r.to_json() for r in found.next_runs],
                "ladders": answers.to_json() if answers else None,
            }
        )
        return
    say([f"note: {a}" for a in runs.assumptions], style="dim", err=True)
    lines = [f"{found.status.upper()} {found.source} for {found.law}", *findings_lines(found.findings)]
    if answers:
        lines += ["", "What these runs answer instead", *(f"  {line}" for line in answers.lines)]
    say([*lines, "", proposal(found.next_runs)] if found.next_runs else lines)


def _instead(runs, law: str, found):
    """What recipes say along their own scale, where the design does not tell the law's exponents apart."""
    from bayescale.auditing import ladders
    from bayescale.errors import NotFittedFor

    if not any(
        f.status == "fail" and f.code in ("design-ray", "distinct-inputs", "recipe-confounded") for f in found.findings
    ):
        return None
    try:
        return ladders(runs, law)
    except NotFittedFor:
        return None


def check(fit: FitPath, json: Json = False) -> None:
    """After fitting: did the chains converge, for every number that is reported?"""
    from bayescale.allocation import allocate
    from bayescale.cli import NOT_CONVERGED
    from bayescale.diagnostics import check as check_fit
    from bayescale.tables import findings_lines

    result = one_fit(fit)
    budgets = result.info.get("budgets") or []
    found = check_fit(result, allocate(result, budgets, draws="posterior", far_ok=True) if budgets else None)
    own = {f.code for f in found}
    found = [*found, *(f for f in result.checks if f.code not in own)]  # what was checked beside the sampler
    failed = any(f.status == "fail" for f in found)
    if json:
        print_document(
            {
                "schema": "bayescale.check/1",
                "law": result.law.name,
                "status": "fail" if failed else "pass",
                "converged": not failed,
                "checks": [f.to_json() for f in found],
                "verdict": dict(result.info["verdict"]),
            }
        )
    else:
        say([repr(result)[1:-1], *findings_lines(found)])
    if failed:
        raise typer.Exit(NOT_CONVERGED)


def audit(
    fit: FitPath,
    quantity: Annotated[
        list[str] | None, typer.Option("--quantity", help="A number of the fit; may be repeated.")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit every noise too, with groups and without (about a minute).")
    ] = False,
    bags: Annotated[
        int | None,
        typer.Option("--bags", min=10, help="BayesBag: fit so many tables of clusters of runs drawn again, 50 say."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="The clusters that --bags draws: params, budget, run, row.")
    ] = None,
    json: Json = False,
) -> None:
    """Are the intervals honest? Findings, answers by window of compute, and without groups of runs."""
    from bayescale.auditing import audit as audit_fit, bayesbag, stability
    from bayescale.errors import NotFittedFor
    from bayescale.tables import adjusted_lines, audit_lines

    result = one_fit(fit)
    if bags:
        result = bayesbag(result, by, bags=bags, progress=False if json else None)
    found = audit_fit(result, quantity or (), refit=refit, progress=False if json else None)
    try:
        windows = stability(result, quantity or ())
    except NotFittedFor:  # a table without compute
        windows = None
    if json:
        print_document({**found.to_json(), "stability": windows.to_json() if windows else None})
    else:
        say([*audit_lines(found, windows), *(["", *adjusted_lines(result)] if bags else [])])
