"""Options and arguments that many commands take."""

from __future__ import annotations

from typing import Annotated

import typer

FitPath = Annotated[str, typer.Argument(metavar="FIT", help="The folder that `bayescale fit --out` made.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Source = Annotated[str, typer.Argument(help="A file (CSV, TSV, Parquet, JSON) or a data set's name.")]
LawName = Annotated[str, typer.Option("--law", help="A law; options after a colon, as kaplan_nd:floor=yes.")]
Where = Annotated[str | None, typer.Option("--where", help="Keep rows where this holds, as 'params < 1e9'.")]
DropMissing = Annotated[bool, typer.Option("--drop-missing", help="Leave out rows with blank cells, and say how many.")]
Best = Annotated[
    bool,
    typer.Option("--best", help="Where settings such as the learning rate were swept, the best run of each design."),
]
LossUnit = Annotated[
    str | None, typer.Option("--loss-unit", help="nats/token, bits/token, nats/byte, bits/byte or ppl.")
]
Column = Annotated[list[str] | None, typer.Option("--column", help="Which header a quantity is under: loss=val_ppl.")]
Unit = Annotated[list[str] | None, typer.Option("--unit", help="The unit of a scale column: params=millions.")]
RowsPerRun = Annotated[
    str | None,
    typer.Option(
        "--rows-per-run",
        help="Of training curves: all, last, knots, or how many rows a run; by default all, or about 1,000 of more.",
    ),
]
LearningRates = Annotated[
    str | None,
    typer.Option(
        "--learning-rates",
        help="Of a sweep: all, best (the lowest loss of every N and D), or surface (the minimum of a fitted parabola).",
    ),
]
MinFlops = Annotated[
    str | None,
    typer.Option(
        "--min-flops", help="Leave out smaller runs; auto: below a cut, averaged over, they may lie off the law."
    ),
]
Flops = Annotated[list[str] | None, typer.Option("--flops", help="A budget in FLOP; may be repeated.")]
Prob = Annotated[float, typer.Option("--prob", help="Probability of the intervals.")]
Draws = Annotated[
    str, typer.Option("--draws", help="headline, or posterior: the model's own, whatever the checks say.")
]
FarOk = Annotated[bool, typer.Option("--far-ok", help="Answer even more than 1,000 times beyond the largest run.")]
Noise = Annotated[str, typer.Option(help="student_t, normal, laplace or growing.")]
Group = Annotated[str, typer.Option(help="auto, none, or columns joined by commas.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random, from 0 to 2^32 - 1.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Threads; by default about one a core.")]
Fix = Annotated[list[str] | None, typer.Option("--fix", help="A known value: E=1.69.")]
Tie = Annotated[list[str] | None, typer.Option("--tie", help="Two equal parameters: alpha=beta.")]
Pool = Annotated[
    str | None,
    typer.Option("--pool", help="Recipes of their own, partially pooled: recipe, or recipe=A,B,E (what differs)."),
]
Priors = Annotated[list[str] | None, typer.Option("--prior", help="A prior: 'alpha=normal(.35,.02)'.")]
