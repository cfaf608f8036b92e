"""The commands about folders for papers: make one, and see whether it is still what was made."""

from __future__ import annotations

from typing import Annotated

import typer

from bayescale.cli.options import FitPath, Json
from bayescale.cli.places import require_folder
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import one_fit, pairs
from bayescale.errors import FitError


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(report)
    app.command()(verify)


def report(
    fit: FitPath,
    out: Annotated[str, typer.Option("--out", help="Folder for tables, figures, text and manifest.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it holds a report.")] = False,
    hold_out: Annotated[
        bool, typer.Option("--hold-out/--no-hold-out", help="Refit without the largest runs and forecast them.")
    ] = True,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", help="Your answer to an item of the checklist: '2.8=open, at ...'; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """From a fit to a paper: tables, figures, methods, checklist and manifest in one folder."""
    from bayescale.cli import NOT_CONVERGED
    from bayescale.reporting.kit import report as write_report

    result = one_fit(fit)
    require_folder(out, force)
    made = write_report(
        result,
        out,
        force=force,
        hold_out=hold_out,
        answers=pairs("--answer", answer),
        progress=False if json else None,
    )
    if json:
        print_document(made.to_json())
    else:
        say(kit_lines(made))
    if not result.converged:
        say(["NOT CONVERGED: do not use these numbers."], style="bold red", err=True)
        raise typer.Exit(NOT_CONVERGED)


def kit_lines(made) -> list[str]:
    """What was written, and what is left to the authors."""
    from bayescale.reporting.columns import reasons

    lines = [
        f"{made.folder}: {len(made.tables)} tables and {len(made.figures)} figures",
        "open report.html, or compile report.tex",
        f"checklist: {made.filled:.0%} answered; {len(made.questions)} left to you (--answer NUMBER=TEXT)",
        *(f"  {number} {asks}?" for number, asks in zip(made.items, made.questions, strict=True)),
    ]
    return lines + [f"left out: {line}" for line in reasons(made.left_out)]


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder that `bayescale report` made.")],
    json: Json = False,
) -> None:
    """Is every file of a report still the one that was written? Exit 3 with its name if not."""
    from bayescale.cli import INPUT
    from bayescale.reporting.manifest import verify as verify_folder

    found = verify_folder(folder)
    error = _not_as_written(found)
    if json:
        print_document({**found.to_json(), **(error.to_json() if error else {})})
    else:
        lines = [f"changed: {name}" for name in found.changed] + [f"missing: {name}" for name in found.missing]
        if found.whole:
            lines = [f"{found.folder}: {found.checked} files as they were written"]
        say([*lines, *(f"not in the manifest: {name}" for name in found.unknown)])
    if error:
        say([f"Error: {error}"], err=True)
        raise typer.Exit(INPUT)


def _not_as_written(found) -> FitError | None:
    """The error that names every file of a report that is not the one that was written; None where all are."""
    wrong = (*found.changed, *found.missing)
    if not wrong:
        return None
    return FitError(
        f"{', '.join(wrong)} {'differs' if len(wrong) == 1 else 'differ'} from the manifest",
        code="BS-F005",
        file=found.folder,
        remedy="Make the report again: bayescale report FIT --out DIR --force.",
    )
