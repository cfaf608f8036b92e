"""`fit_many`: one law, many tables, one result with a certificate for each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import require_budgets, splits_budgets
from bayescale.batch.certifying import DIVERGENT, ESS
from bayescale.batch.ladder import CHAINS, DRAWS, MANY, Failure, Outcome, climb
from bayescale.batch.preparing import Task, effect_parts, names_of, prepare
from bayescale.batch.storing import BLOCK, Store, joined, selected
from bayescale.errors import (
    BayescaleError,
    LawError,
    NotConverged,
    nearest,
    require_prob,
    require_seed,
    require_workers,
    worst,
)
from bayescale.inference import examined, fit_info, runs_info
from bayescale.law import Law, PooledLaw, Prior, parse_prior, pooled_law
from bayescale.laws import LAWS, find_law
from bayescale.model import resolved_pool
from bayescale.posterior import (
    CERTIFIED,
    FAILED,
    POSITION,
    UNCERTIFIED,
    Batch,
    axis_labels,
    variable_dims,
    with_verdicts,
)
from bayescale.runs import Runs
from bayescale.sampling import Progress, Settings, part_of, progress_bar
from bayescale.verdicts import finding_lines

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "bayescale.batch/1"
PRECISIONS = ("float64", "float32")
#: What a table is certified by, where that differs from a single fit.
BARS = {"ess": ESS, "divergent": DIVERGENT}
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
    min_flops: str | None = None,
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
        By name, or a sequence: `Runs`, or whatever `read_runs` takes.
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
        Threads; by default one a core. On an accelerator the tables of a size run side by side instead.
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
    if pool:
        first = next((t for t in (tables.values() if isinstance(tables, Mapping) else tables)), None)
        law = pooled_law(law, resolved_pool(pool, first) if isinstance(first, Runs) else pool)
    if precision not in PRECISIONS:
        raise LawError(f"precision {precision!r} is neither float64 nor float32", code="BS-U001")
    named = names_of(tables)
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
    with progress_bar(progress, f"{law.spec} on {len(named)} tables", steady=len(named) >= MANY) as report:
        report(0.0, "reading")
        asked = (prob, tuple(flops), precision)
        tasks, refused = _prepared(named, law, seed, flops, options, asked, held_out)
        parts = kept.found(tasks, law) if kept else []
        if examine:
            parts = [examined(part, workers=workers, progress=_examining(report)) for part in parts]
        done = {name for part in parts for name in part.names}
        pending = [t for t in tasks if t.name not in done]
        size = BLOCK if kept or client else max(1, len(pending))
        blocks = [pending[k : k + size] for k in range(0, len(pending) or not parts, size)]
        given = dict(seed=seed, prob=prob, flops=tuple(flops), precision=precision, workers=workers, examine=examine)
        if client is not None:
            made = _elsewhere(client, blocks, law, options, {**given, "held_out": held_out})
        else:
            count = max(1, len(tasks))
            made = (
                _here(block, law, given, noise, part_of(report, len(done) / count, (len(done) + len(block)) / count))
                for block in blocks
            )
        for part in made:
            parts.append(part)
            done.update(part.names)
            report(len(done) / max(1, len(tasks)), "sampling")
            interrupted = part.info["interrupted"]
            if kept:
                kept.add(selected(part, part.certified) if interrupted else part)
            if interrupted:
                break
    if not parts:
        parts = [assemble(law, [], {}, _status([], {}, {}, {}), seed=seed, prob=prob, noise=noise, budgets={})]
    batch = joined(parts, law, [*named], refused)
    if interrupted and not batch.names:
        raise KeyboardInterrupt
    batch = replace(batch, info={**batch.info, "interrupted": interrupted})
    status = batch.status
    if left := [n for n in status.index if status.loc[n, "status"] != CERTIFIED]:
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        warnings.warn(
            NotConverged(f"{len(left)} of {len(status)} tables are not certified ({shown}): see .status", "converged"),
            stacklevel=2,
        )
    return batch


def _here(block: Sequence[Task], law: Law, given: Mapping[str, Any], noise: str, report: Progress) -> Batch:
    """A part of the batch, sampled in this process."""
    budgets = {t.name: given["flops"] or t.budgets for t in block}
    sampling = _SAMPLING if given["examine"] else 1.0
    heard = part_of(report, 0, sampling)
    outcomes, spent, failures, interrupted = _sampled(block, budgets, given["precision"], given["workers"], heard)
    status = _status([t.name for t in block], outcomes, spent, failures)
    part = assemble(law, block, outcomes, status, seed=given["seed"], prob=given["prob"], noise=noise, budgets=budgets)
    if given["examine"] and not interrupted:
        try:
            part = examined(part, workers=given["workers"], progress=part_of(report, sampling, 1))
        except KeyboardInterrupt:  # what was sampled is kept
            interrupted = True
    return replace(part, info={**part.info, "interrupted": interrupted})


def _elsewhere(
    client: Any, blocks: Sequence[Sequence[Task]], law: Law, options: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[Batch]:
    """The parts of the batch, sampled wherever a client runs them."""
    base, pool = (law.one, law.pool) if isinstance(law, PooledLaw) else (law, None)
    known = base.name in LAWS and find_law(base.spec) is base
    shared, options = (base.spec, {**options, "pool": pool}) if known else (law, options)
    tables = [{t.name: t.model.runs for t in block} for block in blocks]
    held = [{n: given["held_out"][n] for n in part if n in given["held_out"]} for part in tables]
    sent = [{**options, **given, "held_out": own} for own in held]
    for future in [client.submit(_fitted, shared, *s) for s in zip(tables, sent, strict=True) if s[0]]:
        tree, info, status, runs = future.result()
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


def _prepared(
    named: Mapping[str, Any],
    law: Law,
    seed: int,
    flops: Sequence[float],
    options: Mapping[str, Any],
    asked: Sequence[Any],
    held_out: Mapping[str, np.ndarray],
) -> tuple[list[Task], dict[str, str]]:
    """The tables that can be sampled, and why the others cannot; a fault of the law that no table escapes is raised."""
    tasks, refused, faults, designs = [], {}, [], {}
    for name, table in named.items():
        try:
            tasks.append(prepare(name, table, law, seed, flops, options, asked, held_out.get(name), designs))
        except BayescaleError as error:
            refused[name] = str(error)
            faults += [error] if isinstance(error, LawError) else []
    if faults and not tasks:
        raise faults[0]
    return tasks, refused


def _sampled(
    tasks: Sequence[Task],
    budgets: Mapping[str, Sequence[float]],
    precision: str,
    workers: int | None,
    report: Progress,
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
        for _ in climb(tasks, budgets=budgets, precision=precision, workers=workers, report=hear):
            pass
    except KeyboardInterrupt:
        interrupted = True
    return outcomes, spent, failures, interrupted


def _status(
    names: Sequence[str],
    outcomes: Mapping[str, Outcome],
    spent: Mapping[str, tuple[float, int]],
    failures: Mapping[str, str],
) -> pd.DataFrame:
    """One row a table: what became of it, in a word, in a sentence and in numbers."""
    import pandas as pd

    rows = []
    for name in names:
        sentence = failures.get(name, "interrupted before it")
        row: dict[str, Any] = {"dataset": name, "status": FAILED, "rung": None, "sentence": sentence}
        if name in outcomes:
            found = outcomes[name]
            numbers = {f.code.replace("-", "_"): f.value for f in found.checks}
            bad = "; ".join(f.message for f in found.checks if f.status != "pass")
            seconds, gradients = spent[name]
            row |= {
                "status": CERTIFIED if found.certified else UNCERTIFIED,
                "rung": found.rung,
                "sentence": f"not certified: {bad}" if bad else f"certified by {found.rung}",
                "rows": len(found.task.model.runs),
                **numbers,
                "gradients": gradients,
                "seconds": seconds,
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["dataset", "status", "rung", "sentence"]).set_index("dataset")


def assemble(
    law: Law,
    tasks: Sequence[Task],
    outcomes: Mapping[str, Outcome],
    status: pd.DataFrame,
    *,
    seed: int,
    prob: float,
    noise: str,
    budgets: Mapping[str, Sequence[float]],
) -> Batch:
    """The batch of the tables that were sampled."""
    import xarray as xr

    sampled = [t for t in tasks if t.name in outcomes]
    found = [outcomes[t.name] for t in sampled]
    variables = _variables(found)
    infos, of_design = {}, {}
    for task, outcome in zip(sampled, found, strict=True):
        shared = (id(task.padded.structure), outcome.rung)  # tables of one design have one
        if shared not in of_design:
            of_design[shared] = _design_info(task, outcome, [*variables], seed=seed, prob=prob)
        infos[task.name] = of_design[shared] | _own_info(task, outcome, budgets[task.name])
    names = [t.name for t in sampled]
    coords = {"dataset": names, "chain": np.arange(CHAINS), "draw": np.arange(DRAWS)}
    width = max((t.model.structure.coordinates.dimension for t in sampled), default=0)
    z = np.full((len(names), CHAINS, DRAWS, width), np.nan)
    for k, (task, outcome) in enumerate(zip(sampled, found, strict=True)):
        own = task.model.structure.coordinates.dimension
        z[k, ..., :own] = outcome.flat[..., :own]
    stats = {n: np.stack([o.stats[n] for o in found]) for n in found[0].stats} if found else {}
    posterior = xr.Dataset(variables, coords=coords)
    posterior = posterior.assign_coords({d: np.arange(n) for d, n in posterior.sizes.items() if d not in coords})
    numbered = {**coords, "coordinate": np.arange(width)}
    shared = {n for info in infos.values() for n in info["reported"]}
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "headline": posterior[[n for n in variables if n in shared]],
            "unconstrained_posterior": xr.Dataset(
                {"z": (("dataset", "chain", "draw", "coordinate"), z)}, coords=numbered
            ),
            "sample_stats": xr.Dataset({n: (("dataset", "chain", "draw"), v) for n, v in stats.items()}, coords=coords),
        }
    )
    info = {
        "schema": SCHEMA,
        "law": law.name,
        "law_options": dict(law.options),
        "law_digest": law.digest(),
        "options": {"pool": law.pool if isinstance(law, PooledLaw) else None},
        "noise": noise,
        "group": sorted({c for i in infos.values() for c in i["group"]}),
        "seed": seed,
        "prob": prob,
        "sampler": "ladder",
        "settings": {"chains": CHAINS, "draws": DRAWS, **BARS},
        "interrupted": False,
        "headline_source": "posterior",
        "datasets": infos,
    }
    return Batch(tree, law, info, with_verdicts(status, infos), {t.name: t.model.runs for t in sampled})


def _variables(found: Sequence[Outcome]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Every variable of the posterior over all tables; what a table lacks, or has fewer levels of, is not-a-number.

    Effects of groups, which are many, are kept in single precision: that is far below their Monte Carlo error.
    """
    made: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    parts = [{**o.values, **effect_parts(o.task, o.flat)} for o in found]
    for name in dict.fromkeys(n for part in parts for n in part):
        model = next(o.task.model for o, part in zip(found, parts, strict=True) if name in part)
        dims = tuple(
            f"{POSITION}{d.removeprefix('level_')}" if d.startswith("level_") else d for d in variable_dims(model, name)
        )
        kind = np.float32 if name.startswith("u_") else np.float64
        own = {k: part[name] for k, part in enumerate(parts) if name in part}
        shapes = {v.shape for v in own.values()}
        if len(own) == len(found) and len(shapes) == 1:
            values = np.stack([*own.values()], dtype=kind, casting="same_kind")
        else:
            values = np.full((len(found), *np.max([*shapes], axis=0)), np.nan, kind)
            for k, v in own.items():
                values[(k, *(slice(0, n) for n in v.shape))] = v
        made[name] = (("dataset", "chain", "draw", *dims), values)
    return made


def _design_info(task: Task, outcome: Outcome, every: Sequence[str], *, seed: int, prob: float) -> dict[str, Any]:
    """What the fits of all tables of one design say of themselves."""
    model, runs = task.model, task.model.runs
    info = fit_info(model, task.design, prob=prob, sampler=outcome.rung, settings=Settings(CHAINS, DRAWS, seed=seed))
    info["settings"] |= {**BARS, "warmup": None}  # what is kept may come from several runs
    hidden = {i.ratio for i in model.structure.intercepts} | {i.site for i in model.structure.intercepts}
    own = [*outcome.values, *(i.site for i in model.structure.intercepts)]
    return info | {
        "reported": [n for n in outcome.values if n not in hidden],
        "absent": [n for n in every if n not in own],
        "levels": {g.column: list(g.levels) for g in model.groupings}
        | {c: list(runs.labels(c)[1]) for c in sorted({p.over for p in model.law.parameters if p.over})},
        "axes": {d: list(labels) for d, labels in axis_labels(model).items() if not d.startswith("level_")},
        "coordinates": _coordinate_labels(task),
        "columns": [*runs.columns],
    }


def _own_info(task: Task, outcome: Outcome, budgets: Sequence[float]) -> dict[str, Any]:
    """What the table's own fit says beside it."""
    findings = (*task.design, *outcome.checks)
    answers = all(f.status != "fail" or f.code == "extrapolation" for f in task.design)
    return {
        "runs": runs_info(task.model, task.sha256),
        "checks": [f.document() for f in outcome.checks],
        "headline_source": "posterior" if answers and outcome.certified else "none",
        "verdict": {"status": worst(findings), "lines": finding_lines(findings)},
        "budgets": list(budgets) if splits_budgets(task.model.law) else [],
        "fingerprint": task.fingerprint,
    }


def _coordinate_labels(task: Task) -> list[str]:
    slots = task.model.structure.coordinates.slots
    return [s.parameter.name if s.size == 1 else f"{s.parameter.name}[{k}]" for s in slots for k in range(s.size)]
