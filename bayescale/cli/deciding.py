"""The commands about decisions: which runs to train, which recipe to scale up, what a target takes, what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from bayescale.cli.options import Draws, FarOk, FitPath, Json
from bayescale.cli.printing import print_document, say
from bayescale.cli.values import budget, budgets_of, number, numbers, one_fit, pairs


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("multiplier")(compare)
    app.command("reach")(reached)
    app.command("serve")(served)
    app.command()(judge)
    app.command()(regret)
    app.command("next")(propose)


def compare(
    fit: FitPath,
    between: Annotated[
        tuple[str, str] | None, typer.Option("--between", help="Two recipes X Y; without it all pairs.")
    ] = None,
    flops: Annotated[
        list[str] | None, typer.Option("--flops", help="Compute (or the law's input) to compare at; may be repeated.")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--given", help="An input a budget does not set: U=1e11.")] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    json: Json = False,
) -> None:
    """By what factor of compute one recipe outdoes another, how sure that is, and whether their curves cross."""
    from bayescale.design import multiplier
    from bayescale.posterior import Batch, level_column, load_fit

    result = load_fit(fit)
    made = multiplier(result, between, budgets_of(flops), given=numbers("--given", given), prob=prob, draws=draws)
    several = isinstance(result, Batch) and level_column(result.law) is not None
    if json:
        print_document({"schema": "bayescale.multipliers/1", "tables": made.to_json()} if several else made.to_json())
        return
    for name, one in made.items() if several else [("", made)]:
        say([f"{name or one.source} · {one.law} · {one.prob:.0%} {one.kind} intervals", *one.lines()])


def reached(
    fit: FitPath,
    target: Annotated[str, typer.Option("--target", help="The loss, or other response, that is to be met.")],
    over: Annotated[
        str | None, typer.Option("--over", help="The input that grows; by default the only one, or C.")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--given", help="The law's other inputs: N=1e9.")] = None,
    level: Annotated[list[str] | None, typer.Option("--level", help="The level of a column: recipe=a.")] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    json: Json = False,
) -> None:
    """The scale at which the law's curve meets a target: compute, data, size, or samples a problem."""
    from bayescale.design import reach

    asked = dict(over=over, given=numbers("--given", given), levels=pairs("--level", level), prob=prob, draws=draws)
    _told(reach(one_fit(fit), number("--target", target), **asked), json)


def served(
    fit: FitPath,
    loss: Annotated[str, typer.Option("--loss", help="The loss that the model must have.")],
    tokens: Annotated[str, typer.Option("--tokens", help="The tokens that it will serve in its life.")],
    given: Annotated[list[str] | None, typer.Option("--given", help="The law's other inputs: U=1e11.")] = None,
    level: Annotated[list[str] | None, typer.Option("--level", help="The level of a column: recipe=a.")] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    json: Json = False,
) -> None:
    """The size and training data of a loss that cost least, training and serving together."""
    from bayescale.design import serve

    asked = dict(given=numbers("--given", given), levels=pairs("--level", level), prob=prob, draws=draws)
    _told(serve(one_fit(fit), number("--loss", loss), number("--tokens", tokens), **asked), json)


def _told(made, json: bool) -> None:
    """A question about a target, of one fit or of every table of a batch."""
    from collections.abc import Mapping

    several = dict(made) if isinstance(made, Mapping) else {"": made}
    if json:
        document = {n: one.to_json() for n, one in several.items()}
        print_document({"schema": "bayescale.target/1", **(document.get("") or {"tables": document})})
        return
    say([line for one in several.values() for line in repr(one)[1:-1].splitlines()])


def judge(
    interval: Annotated[tuple[float, float], typer.Option("--interval", help="The published interval: LO HI.")],
    rows: Annotated[int, typer.Option("--rows", help="How many runs it came from.")],
    prob: Annotated[float, typer.Option("--prob", help="The probability that it states.")] = 0.8,
    quantity: Annotated[str, typer.Option("--quantity", help="What it is of.")] = "a",
    width: Annotated[float | None, typer.Option("--width", help="How wide runs like these leave it.")] = None,
    fit: Annotated[str | None, typer.Option("--fit", help="A fit of such runs, in place of --width.")] = None,
    json: Json = False,
) -> None:
    """How many runs would a published interval have needed?"""
    from bayescale.design import judge as judge_interval

    made = judge_interval(interval, rows, prob=prob, quantity=quantity, width=width, fit=one_fit(fit) if fit else None)
    if json:
        print_document(made.to_json())
    else:
        say(list(made.lines))


def regret(
    fit: FitPath,
    params: Annotated[list[str], typer.Option("--params", help="A model size; may be repeated.")],
    flops: Annotated[str, typer.Option("--flops", help="The budget, in FLOP.")],
    cost: Annotated[str, typer.Option("--cost", help="6nd, or table: as the table's own runs spent compute.")] = "6nd",
    level: Annotated[list[str] | None, typer.Option("--level", help="The level of a column: recipe=a.")] = None,
    prob: Annotated[float | None, typer.Option("--prob", help="Probability of the intervals.")] = None,
    draws: Draws = "headline",
    far_ok: FarOk = False,
    json: Json = False,
) -> None:
    """What a model size loses against the best one for its budget, and how sure that is."""
    from bayescale.design import regret as regret_of
    from bayescale.posterior import Batch, load_fit

    sizes, result = [number("--params", p) for p in params], load_fit(fit)
    asked = dict(prob=prob, cost=cost, levels=pairs("--level", level), draws=draws, far_ok=far_ok)
    made = regret_of(result, sizes, budget("--flops", flops), **asked)
    if json:
        several = {"schema": "bayescale.regrets/1", "tables": made.to_json()} if isinstance(result, Batch) else None
        print_document(several or made.to_json())
        return
    for one in made.values() if isinstance(result, Batch) else [made]:
        say([f"{one.source} · {one.law} · {one.prob:.0%} {one.kind} intervals", *one.lines()])


def propose(
    fit: FitPath,
    spend: Annotated[str, typer.Option("--budget", help="What may be spent on new runs, in FLOP.")],
    target: Annotated[
        str | None, typer.Option("--target", help="The budget whose best size is to be known, in FLOP.")
    ] = None,
    far_ok: FarOk = False,
    json: Json = False,
) -> None:
    """The runs that a budget is best spent on next, for the best model size at a larger one."""
    from bayescale.design import next_runs

    goal = budget("--target", target) if target is not None else None
    made = next_runs(one_fit(fit), budget=budget("--budget", spend), target=goal, far_ok=far_ok)
    if json:
        print_document(made.to_json())
    else:
        say(made.lines())
