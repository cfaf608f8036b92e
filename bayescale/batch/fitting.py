"""`fit_many`: one law, many tables, one result with a certificate for each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayescale.allocation import require_budgets
from bayescale.batch.assembling import assemble
from bayescale.batch.interrupting import Interrupts
from bayescale.batch.ladder import MANY, Failure, Outcome, climb
from bayescale.batch.preparing import Task, names_of, prepare_all
from bayescale.batch.storing import BLOCK, Store, joined, selected
from bayescale.errors import (
    LawError,
    NotConverged,
    nearest,
    require_positive,
    require_prob,
    require_seed,
    require_workers,
)
from bayescale.inference import examined
from bayescale.law import Law, PooledLaw, Prior, parse_prior, pooled_law
from bayescale.laws import LAWS, find_law
from bayescale.model import resolved_pool
from bayescale.posterior import CERTIFIED, Batch
from bayescale.runs import Runs
from bayescale.sampling import Progress, part_of, progress_bar

PRECISIONS = ("float64", "float32")
#: The share of the time that sampling takes where intervals are examined too.
_SAMPLING = 0.2


def fit_many(
    law: str | Law,
    tables: Mapping[str, Any] | Sequence[Any],
    *,
    seed: int = 0,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    prob: float = 0.9,
    flops: Sequence[float] = (),
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    priors: Mapping[str, Prior | str] | None = None,
    min_flops: str | float | None = None,
    pool: str | Mapping[str, Any] | None = None,
    references: Mapping[str, Any] | None = None,
    held_out: Mapping[str, np.ndarray] | None = None,
    precision: str = "float64",
    workers: int | None = None,
    examine: bool = False,
    store: str | os.PathLike[str] | None = None,
    client: Any = None,
    progress: bool | Progress | None = None,
) -> Batch:
    """Fit one law to many tables: the same model as `fit`, one compilation for tables of about one size.

    Every table climbs a ladder until R-hat is at most 1.01, bulk and tail ESS at least 400 for every number that is
    reported (optimal model sizes included), at most one transition in 1,000 diverged and E-BFMI is at least 0.3:
    Hamiltonian Monte Carlo by ensembles of growing care, then NUTS. What is still not trusted is marked uncertified and
    never passed on; a table that cannot be fitted costs only itself.

    The certificate speaks of the sampling. Intervals are as honest as the model: with `examine`, or by
    `bs.examined(batch)` later, those of every table are examined as `fit` does, and where an alarm goes off they are
    widened or withheld. There is no Pareto k in the certificate: all draws are of Markov chains, none is weighted.

    Parameters
    ----------
    law
        A name from the catalogue or a `Law`.
    tables
        By name, or a sequence: `Runs`, or whatever `read_runs` takes. Thousands that have the same runs and differ in
        the loss alone are best given as a `OneDesign`, as `simulate` makes them.
    seed
        A table's draws depend on the seed, its own numbers and the options: not on its name, nor on the other tables.
    noise, group, prob, flops, fix, tie, priors, min_flops, pool, references
        As in `fit`, the same for every table.
    held_out
        By table, which of its rows are held out: they belong to the design, but their responses are not looked at.
        Folds of one table share one compilation.
    precision
        "float64", or "float32" for the first rung: faster on a GPU. A table whose noise is below 1e-3 is sampled again
        in double precision.
    workers
        Threads; by default three for two cores, since some check draws while others sample. On an accelerator the
        tables of a size run side by side instead.
    examine
        Examine the intervals of every certified table, about half a second each.
    store
        A folder: results are written there in parts as they are reached. The same call on the same folder goes on where
        it stopped; tables whose numbers or options have changed are fitted again.
    client
        A `dask.distributed.Client`, or any executor with `submit`: parts of the batch are fitted wherever it runs them.
        Processes must be spawned, never forked: JAX does not survive a fork. A private law needs a client that pickles
        functions by value, as dask does.
    progress
        True, False, a callable `(share, doing)`, or None: a bar on a terminal and in notebooks.

    Raises
    ------
    LawError
        For a law, noise, precision or prior that does not exist. What is wrong with one table is in its status.
    FitError
        When the store holds something else.

    Warns
    -----
    NotConverged
        When some tables are not certified.

    Example
    -------
    >>> import bayescale as bs
    >>> batch = bs.fit_many("chinchilla", {"mine": bs.load_runs("byte-ladder")}, seed=0)  # doctest: +SKIP
    >>> bs.allocate(batch, [1e17]).frame()  # doctest: +SKIP
    """
    law = find_law(law)
    seed, prob, workers = require_seed(seed), require_prob(prob), require_workers(workers)
    flops = require_budgets(flops).tolist() if np.size(flops) else []
    named = names_of(tables)
    if pool:
        first = next(iter(named.values()))
        law = pooled_law(law, resolved_pool(pool, first) if isinstance(first, Runs) else pool)
    if precision not in PRECISIONS:
        raise LawError(f"precision {precision!r} is neither float64 nor float32", code="BS-U001")
    if min_flops is not None and min_flops != "auto":
        min_flops = require_positive("min_flops", min_flops)
    held_out = {str(n): np.asarray(mask, bool) for n, mask in (held_out or {}).items()}
    if unknown := [n for n in held_out if n not in named]:
        raise LawError(
            f"rows are held out of {unknown[0]!r}, which is no table of this batch",
            code="BS-U001",
            remedy=nearest(unknown[0], [*named]),
        )
    if held_out and examine:
        raise LawError("tables with rows held out are not examined", code="BS-U001", remedy="Leave out examine.")
    informed = {k: parse_prior(p) if isinstance(p, str) else p for k, p in (priors or {}).items()}
    options = dict(
        noise=noise,
        group=group,
        fix=fix,
        tie=tuple(tie),
        priors=informed,
        references=references,
        min_flops=min_flops,
    )
    kept = Store(store) if store is not None else None
    interrupted = False
    ctrl_c = Interrupts()
    with progress_bar(progress, f"{law.spec} on {len(named)} tables", steady=len(named) >= MANY) as report:
        report(0.0, "reading")
        asked = (prob, tuple(flops), precision)
        tasks, faults = prepare_all(named, law, seed, flops, options, asked, held_out)
        laws = [e for e in faults.values() if isinstance(e, LawError)]
        if laws and not tasks:  # a fault of the law, which no table escapes
            raise laws[0]
        parts = kept.found(tasks, law) if kept else []
        if examine:
            parts = [examined(part, workers=workers, progress=_examining(report)) for part in parts]
        done = {name for part in parts for name in part.names}
        pending = [t for t in tasks if t.name not in done]
        size = BLOCK if kept or client else max(1, len(pending))
        blocks = [pending[k : k + size] for k in range(0, len(pending) or not parts, size)]
        given = dict(seed=seed, prob=prob, flops=tuple(flops), precision=precision, workers=workers, examine=examine)
        if client is not None:
            made = _elsewhere(client, blocks, law, options, {**given, "held_out": held_out}, ctrl_c)
        else:
            count = max(1, len(tasks))

            def share(block: Sequence[Task]) -> Progress:
                return part_of(report, len(done) / count, (len(done) + len(block)) / count)

            made = (_here(block, law, given, noise, share(block), ctrl_c) for block in blocks)
        with ctrl_c:
            for part in made:
                parts.append(part)
                done.update(part.names)
                report(len(done) / max(1, len(tasks)), "sampling")
                interrupted = part.info["interrupted"]
                if kept:
                    kept.add(selected(part, part.certified) if interrupted else part)
                if interrupted or ctrl_c.pressed:
                    break
        interrupted = interrupted or (ctrl_c.pressed and len(done) < len(tasks))
    if not parts:
        parts = [assemble(law, [], {}, {}, {}, seed=seed, prob=prob, noise=noise, budgets={})]
    batch = joined(parts, law, [*named], {n: str(e) for n, e in faults.items()})
    if interrupted and not batch.names:
        raise KeyboardInterrupt
    batch = replace(batch, info={**batch.info, "interrupted": interrupted})
    status = batch.status
    became = status["status"].to_dict()
    if left := [str(n) for n in became if became[n] != CERTIFIED]:
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        warnings.warn(
            NotConverged(f"{len(left)} of {len(status)} tables are not certified ({shown}): see .status", "converged"),
            stacklevel=2,
        )
    return batch


def _here(
    block: Sequence[Task], law: Law, given: Mapping[str, Any], noise: str, report: Progress, ctrl_c: Interrupts
) -> Batch:
    """A part of the batch, sampled in this process."""
    budgets = {t.name: given["flops"] or t.design.budgets for t in block}
    sampling = _SAMPLING if given["examine"] else 1.0
    heard = part_of(report, 0, sampling)
    outcomes, spent, failures, interrupted = _sampled(
        block, budgets, given["precision"], given["workers"], heard, ctrl_c
    )
    made = dict(seed=given["seed"], prob=given["prob"], noise=noise, budgets=budgets)
    part = assemble(law, block, outcomes, spent, failures, **made)
    if given["examine"] and not interrupted:
        try:
            with ctrl_c.may_stop():
                part = examined(part, workers=given["workers"], progress=part_of(report, sampling, 1))
        except KeyboardInterrupt:  # what was sampled is kept
            interrupted = True
    return replace(part, info={**part.info, "interrupted": interrupted})


def _elsewhere(
    client: Any,
    blocks: Sequence[Sequence[Task]],
    law: Law,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    ctrl_c: Interrupts,
) -> Iterator[Batch]:
    """The parts of the batch, sampled wherever a client runs them; at Ctrl-C those that are there."""
    base, pool = (law.one, law.pool) if isinstance(law, PooledLaw) else (law, None)
    known = base.name in LAWS and find_law(base.spec) is base
    shared, options = (base.spec, {**options, "pool": pool}) if known else (law, options)
    tables = [{t.name: t.model.runs for t in block} for block in blocks]
    held = [{n: given["held_out"][n] for n in part if n in given["held_out"]} for part in tables]
    sent = [{**options, **given, "held_out": own} for own in held]
    waited_for = [client.submit(_fitted, shared, *s) for s in zip(tables, sent, strict=True) if s[0]]
    for k, future in enumerate(waited_for):
        try:
            with ctrl_c.may_stop():
                tree, info, status, runs = future.result()
        except KeyboardInterrupt:
            for left in waited_for[k:]:
                left.cancel()
            return
        yield Batch(tree, law, info, status, runs)


def _fitted(law: str | Law, tables: Mapping[str, Runs], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """A part of a batch as another process sends it back: without the law, whose formulas cannot be pickled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        made = fit_many(law, tables, progress=False, **options)
    return made.tree, made.info, made.status, made.tables


def _examining(report: Progress) -> Progress:
    """Progress of what a store held and had not been examined: it is no share of what is left to sample."""
    return lambda share, doing: report(0.0, f"{doing} ({share:.0%})")


def _sampled(
    tasks: Sequence[Task],
    budgets: Mapping[str, Sequence[float]],
    precision: str,
    workers: int | None,
    report: Progress,
    ctrl_c: Interrupts,
) -> tuple[dict[str, Outcome], dict[str, tuple[float, int]], dict[str, str], bool]:
    """By name: the last outcome of every table, the seconds and gradients it took in all, why others have none.

    The last tells whether Ctrl-C came.
    """
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    spent: dict[str, tuple[float, int]] = {}
    report(0.0, "compiling")

    def hear(outcome: Outcome | Failure, share: float) -> None:
        if isinstance(outcome, Failure):
            failures[outcome.task.name] = outcome.sentence
            return
        seconds, gradients = spent.get(outcome.task.name, (0.0, 0))
        spent[outcome.task.name] = (seconds + outcome.seconds, gradients + outcome.gradients)
        outcomes[outcome.task.name] = outcome  # kept though not certified, should nothing better come
        report(share, f"sampling ({outcome.rung})")

    interrupted = False
    try:
        for _ in climb(
            tasks,
            budgets=budgets,
            precision=precision,
            workers=workers,
            report=hear,
            stop=lambda: ctrl_c.pressed,
        ):
            pass
    except KeyboardInterrupt:
        interrupted = True
    return outcomes, spent, failures, interrupted
