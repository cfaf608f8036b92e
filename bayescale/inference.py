"""Fit a law to a table of runs: doctor, sample, escalate, check, and keep everything that was decided."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import Any, overload

import numpy as np

from bayescale.allocation import allocate, allocate_levels, default_budgets, require_budgets, require_optimum
from bayescale.diagnostics import check, divergences, doctor, require_answerable
from bayescale.errors import (
    Finding,
    LawError,
    NotConverged,
    NotFittedFor,
    require_positive,
    require_prob,
    require_seed,
)
from bayescale.law import Law, LogNormal, Normal, Prior, parse_prior, pooled_law
from bayescale.laws import find_law
from bayescale.model import Model, available_cores, build_model, one_blas_thread, resolved_pool
from bayescale.model.build import unit_factor
from bayescale.model.coordinates import RESPONSE_POWERS
from bayescale.narrowness import examine, widened
from bayescale.posterior import (
    SCHEMA,
    Batch,
    Fit,
    flat_draws,
    flattened,
    headline_of,
    make_tree,
    model_of,
    with_verdicts,
)
from bayescale.runs import Runs
from bayescale.sampling import FEWEST_DRAWS, GROUPED, PLAIN, Draws, Progress, Settings, progress_bar, sampler_named
from bayescale.verdicts import finding_lines, verdict_of

logger = logging.getLogger("bayescale")

_PACKAGES = ("bayescale", "numpy", "scipy", "jax", "jaxlib", "numpyro", "xarray", "pandas", "arviz")


def fit(
    law: str | Law,
    runs: Runs,
    *,
    seed: int = 0,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    sampler: str = "auto",
    chains: int = 4,
    draws: int = 1000,
    warmup: int = 1000,
    prob: float = 0.9,
    flops: Sequence[float] = (),
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    priors: Mapping[str, Prior | str] | None = None,
    priors_from: Fit | None = None,
    min_flops: float | str | None = None,
    pool: str | Mapping[str, Any] | None = None,
    references: Mapping[str, Any] | None = None,
    prior_only_ok: bool = False,
    progress: bool | Progress | None = None,
) -> Fit:
    """Fit a scaling law to a table of runs: the posterior, its checks and its verdict.

    The doctor looks first and refuses what the design cannot answer. NUTS then samples in coordinates that are round
    near the posterior's mode; where a check fails its chains go on or, where that cannot help, it samples again with
    smaller steps and more draws. What still fails is marked not converged. The intervals are then examined: against
    what leaving out groups of rows shows, between the halves of the table by compute, and for the prior's share. Where
    an alarm goes off, the headline is widened to what at least 10 clusters of rows show, or nothing is headlined.

    Parameters
    ----------
    law, runs
        A name from the catalogue (options after a colon, as `bnsl:breaks=2`) or a `Law`, and the table.
    seed
        Draws depend on the seed, data, law, options, versions and platform, and on nothing else.
    noise
        Observation model on the response's link scale: student_t, normal or laplace.
    group
        "auto" (shrunk intercepts of run, model size, budget and recipe where a column has two or more levels and 1.5
        rows a level; fewer than five cannot teach their spread, which is then fixed), "none", or column names.
    sampler, chains, draws, warmup
        "auto", "nuts" or "hmc", and how long at first.
    prob
        Probability of the intervals that are printed.
    flops
        Budgets to allocate, in FLOP; by default the powers of ten above the largest run.
    fix, tie, priors
        Known values, pairs of equal parameters, and priors by name (`Normal(.35, .02)` or "normal(.35,.02)").
    priors_from
        A fit whose marginal posteriors become the priors (log-normal where positive), judged at its references.
    min_flops
        Leave out runs of less compute; "auto" keeps them, but lets those below a cut lie off the law by a term that
        grows with the distance from it. The posterior averages over the cut, and the law is what holds above it.
    pool
        A column whose levels, as recipes, differ in their amplitudes, partially pooled: "recipe"; or what differs, as
        `{"recipe": ("A", "B", "E")}`, with spreads as `{"recipe": {"A": "halfnormal(.1)"}}` (see `pooled_law`). No
        intercepts of that column are fitted beside them.
    references
        The scales at which priors are judged, as `{"N0": 1e9}`; by default the geometric middle of the design. A refit
        on part of the runs should be given those of the first fit.
    prior_only_ok
        Fit even where rows are fewer than parameters.
    progress
        True, False, a callable `(share, doing)`, or None: a bar on a terminal and in notebooks.

    Raises
    ------
    RunsError, LawError, FitError
        What is wrong with the table, the law or the start, with the remedy.

    Warns
    -----
    NotConverged
        When checks fail after every escalation.

    Example
    -------
    >>> import bayescale as bs
    >>> fit = bs.fit("chinchilla", bs.load_runs("byte-ladder"), seed=0)  # doctest: +SKIP
    """
    began = time.perf_counter()
    law = pooled_law(find_law(law), resolved_pool(pool, runs))
    seed, prob = require_seed(seed), require_prob(prob)
    flops = require_budgets(flops).tolist() if np.size(flops) else []
    for name, value, least in (("chains", chains, 1), ("draws", draws, FEWEST_DRAWS), ("warmup", warmup, 1)):
        if value < least:
            raise LawError(f"{name} must be at least {least}, got {value}", code="BS-U001")
    informed = {k: parse_prior(p) if isinstance(p, str) else p for k, p in (priors or {}).items()}
    if priors_from is not None:
        informed = priors_of(priors_from, law, runs) | informed
        known = {i.reference_name for i in law.inputs}
        judged = {n: v for n, v in priors_from.references.items() if n in known}
        references = {**judged, **(references or {})}
    if min_flops is not None and min_flops != "auto":
        runs = runs.above(require_positive("min_flops", min_flops))
    budgets = tuple(flops) or default_budgets(runs)
    diagnosis = doctor(runs, law, flops=flops, fix=fix, tie=tie, noise=noise)
    if not (prior_only_ok and all(f.code == "rows" for f in diagnosis.refusals)):
        require_answerable(diagnosis.findings, runs, diagnosis.next_runs)
    model = build_model(
        law,
        runs,
        noise=noise,
        group=group,
        fix=fix,
        tie=tie,
        priors=informed,
        references=references,
        min_flops="auto" if min_flops == "auto" else None,
    )
    asks = {"asked": flops, "next_runs": [r.to_json() for r in diagnosis.next_runs]}
    name, sample = sampler_named(sampler)
    ladder, asked = GROUPED if model.groupings else PLAIN, Settings(chains, draws, warmup, seed=seed)
    attempts: list[dict[str, Any]] = []
    result: Fit | None = None
    with progress_bar(progress, f"{law.spec} on {runs.source}") as report:
        drawn: Draws | None = None
        settings: Settings | None = ladder.first(asked)
        while settings is not None:
            try:
                drawn = sample(model, settings, after=drawn, progress=report)
            except KeyboardInterrupt:
                if drawn is None:
                    raise  # before the first draw that could be kept
                result = _cut_short(model, drawn, prob, budgets, diagnosis.findings, name, asks)
                break
            report(1.0, "checking")
            diverged = divergences(int(drawn.stats["diverging"].sum()), drawn.stats["diverging"].size)
            failed = [diverged] if diverged.status == "fail" else []
            following = ladder.after(asked, settings, failed) if failed and not drawn.interrupted else None
            if following is None:  # else it is repeated whatever the other checks say
                try:
                    result = _assemble(model, drawn, prob, budgets, diagnosis.findings, name, asks)
                except KeyboardInterrupt:
                    result = _cut_short(model, drawn, prob, budgets, diagnosis.findings, name, asks)
                failed = [f for f in result.checks if f.status == "fail"]
                done = not failed or result.info["interrupted"]
                following = None if done else ladder.after(asked, settings, failed)
            attempts.append(
                {
                    "target_accept": settings.target_accept,
                    "draws": settings.draws,
                    "warmup": settings.warmup,
                    "gradients": drawn.gradients,
                    "seconds": {k: float(v) for k, v in drawn.seconds.items()},
                    "failed": [f.code for f in failed],
                }
            )
            settings = following
        assert result is not None and drawn is not None
        if result.converged and not result.info["interrupted"]:
            report(1.0, "examining the intervals")
            try:
                with one_blas_thread():
                    result = _examined(model, drawn.flat, result)
            except KeyboardInterrupt:
                marked = result.with_info(interrupted=True)
                result = _checked(marked, budgets, diagnosis.findings, result.checks)
    seconds = {k: float(sum(a["seconds"][k] for a in attempts)) for k in ("compile", "sample")}
    seconds["total"] = time.perf_counter() - began
    result = result.with_info(attempts=attempts, seconds={"read": None, **seconds})
    if not result.converged:
        bad = "; ".join(f.message for f in result.checks if f.status == "fail")
        warnings.warn(NotConverged(f"not converged after {len(attempts)} attempts: {bad}", "converged"), stacklevel=2)
    return result


def priors_of(fit: Fit, law: Law, runs: Runs) -> dict[str, Prior]:
    """The marginal posteriors of a fit as priors for a law's parameters of the same names, in the table's unit."""
    draws, factor = fit.draws("posterior"), unit_factor(law, runs) / unit_factor(fit.law, fit.runs)
    made: dict[str, Prior] = {}
    for p in law.coordinates():
        if p.name in draws and p.prior is not None and draws[p.name].ndim == 1:
            x = draws[p.name] * factor ** RESPONSE_POWERS.get(p.unit, 0)
            if p.prior.support == "real":
                made[p.name] = Normal(float(x.mean()), float(x.std()))
            else:
                made[p.name] = LogNormal(float(np.log(x).mean()), float(np.log(x).std()))
    return made


def fit_info(
    model: Model, design: Sequence[Finding], *, prob: float, sampler: str, settings: Settings
) -> dict[str, Any]:
    """What a fit's file says of a model and of how it was sampled, before anything was checked."""
    runs, slots = model.runs, model.structure.coordinates.slots
    return {
        "schema": SCHEMA,
        "law": model.law.name,
        "law_options": dict(model.law.options),
        "law_digest": model.law.digest(),
        "equation": model.law.equation,
        "noise": model.noise,
        "group": [g.column for g in model.groupings],
        "groupings": [
            {"column": g.column, "kind": g.kind, "levels": len(g.levels), "rows_per_level": g.rows_per_level}
            | {"spread": model.structure.held_spreads.get(g.column)}
            for g in model.groupings
        ],
        "priors": {s.parameter.name: str(s.parameter.prior) for s in slots},
        "above": {s.parameter.name: s.parameter.above for s in slots if isinstance(s.parameter.above, float)},
        "options": dict(model.options),
        "seed": settings.seed,
        "prob": prob,
        "sampler": sampler,
        "settings": {
            "chains": settings.chains,
            "draws": settings.draws,
            "warmup": settings.warmup,
        },
        "interrupted": False,
        "references": {k: np.asarray(v).tolist() for k, v in model.references.items()},
        "loss_unit": runs.loss_unit,
        "convention": runs.convention,
        "runs": runs_info(model),
        "design": [f.document() for f in design],
        "checks": [],
        "audit": [],
        "budgets": [],
        "asked": [],
        "next_runs": [],
        "plan": None,
        "headline_source": "posterior",
        "verdict": {"status": "pass", "lines": []},
        "versions": _versions(),
    }


def runs_info(model: Model, sha256: str | None = None) -> dict[str, Any]:
    """What a fit's file says of the table, whose hash may be known."""
    runs = model.runs
    return {
        "source": runs.source,
        "column_map": dict(runs.column_map),
        "rows": runs.rows_read,
        "used": len(runs) - len(model.options.get("held_out", ())),
        "n_groups": {g.column: len(g.levels) for g in model.groupings},
        "sha256": sha256 or runs.sha256,
        "assumptions": [*runs.assumptions, *(n.message for n in model.notes)],
    }


@cache
def _versions() -> dict[str, str]:
    return {p: metadata.version(p) for p in _PACKAGES}


def _assemble(
    model: Model,
    drawn: Draws,
    prob: float,
    budgets: Sequence[float],
    design: Sequence[Finding],
    sampler: str,
    asks: Mapping[str, Any],
) -> Fit:
    """The Fit of one run of the sampler, checked on everything it will report."""
    settings = drawn.settings
    tree = make_tree(model, drawn.flat, drawn.stats, np.random.default_rng([settings.seed, 2]))
    info = fit_info(model, design, prob=prob, sampler=sampler, settings=settings)
    info |= asks
    result = Fit(tree, model.law, {**info, "interrupted": drawn.interrupted, "modes": drawn.start.modes.tolist()})
    return _checked(result, budgets, design)


def _cut_short(model: Model, drawn: Draws, *about: Any) -> Fit:
    """The Fit of the last draws there are, marked as interrupted: Ctrl-C came after them."""
    return _assemble(model, replace(drawn, interrupted=True), *about)


def _checked(
    result: Fit, budgets: Sequence[float], design: Sequence[Finding], known: Sequence[Finding] | None = None
) -> Fit:
    """The fit with its sampler's checks (made now, or known), and whether they and its design let it be headlined."""
    allocation, interrupted = None, result.info["interrupted"]
    if budgets:
        try:
            require_optimum(result.law, {})
            allocation = allocate(result, budgets, draws="posterior", far_ok=True)
        except NotFittedFor:
            pass
    checks = check(result, allocation) if known is None else known
    answers = all(f.status != "fail" or f.code == "extrapolation" for f in design)
    converged = all(f.status != "fail" for f in checks) and not interrupted
    result = result.with_info(
        checks=[f.document() for f in checks],
        headline_source="posterior" if answers and converged else "none",
        budgets=list(budgets) if allocation is not None else [],
    )
    return result.with_info(verdict=verdict_of(result))


@overload
def examined(fit: Batch, *, workers: int | None = ..., progress: bool | Progress | None = ...) -> Batch: ...
@overload
def examined(fit: Fit, *, workers: int | None = ..., progress: bool | Progress | None = ...) -> Fit: ...
def examined(fit: Fit, *, workers: int | None = None, progress: bool | Progress | None = None) -> Fit:
    """A table's fit out of a batch, with all that a single fit has: likelihoods, predictions, intervals examined.

    Of a batch, every certified table is examined, on all cores (or as many threads as `workers`): its audit, verdict
    and headline are those of `fit`, widened or withheld where an alarm goes off; likelihoods and predictions are left
    out. Nothing is sampled again. What has been examined is returned as it is.

    Example:
        >>> bs.examined(batch["byte-ladder"]).verdict  # doctest: +SKIP
        >>> bs.examined(batch).status[["verdict", "alarms", "headline"]]  # doctest: +SKIP
    """
    if isinstance(fit, Batch):
        return _all_examined(fit, workers, progress)
    if "log_likelihood" in fit.tree.children:
        return fit
    _require_all_rows(fit.info)
    model = model_of(fit)
    sizes = fit.tree["posterior"].sizes
    flat = flat_draws(fit, model).reshape(sizes["chain"], sizes["draw"], -1)
    stats = {str(k): np.asarray(v) for k, v in fit.tree["sample_stats"].data_vars.items()}
    tree = make_tree(model, flat, stats, np.random.default_rng([fit.info["seed"], 2]))
    result = _checked(replace(fit, tree=tree), fit.info["budgets"], fit.design, fit.checks)
    if not result.converged:
        return result
    with one_blas_thread():
        return _examined(model, flat, result)


def _require_all_rows(info: Mapping[str, Any]) -> None:
    if info["options"].get("held_out"):
        raise NotFittedFor("a fit with rows held out is not examined", remedy="Fit all the rows.")


def _all_examined(batch: Batch, workers: int | None, progress: bool | Progress | None) -> Batch:
    """The batch with every certified table examined; one whose examination fails costs only itself."""
    names = [n for n in batch.certified if not batch.info["datasets"][n]["audit"]]
    for name in names:
        _require_all_rows(batch.info["datasets"][name])

    def one(name: str) -> Fit:
        fit = batch[name]
        try:
            model, sizes = model_of(fit), fit.tree["posterior"].sizes
            return _examined(model, flat_draws(fit, model).reshape(sizes["chain"], sizes["draw"], -1), fit)
        except Exception as error:  # whatever is wrong with one table must not cost the others
            logger.exception("examining %s", name)
            failed = Finding("not-examined", "examination", "fail", None, None, f"could not be examined: {error}")
            findings = (*fit.design, *fit.checks, failed)
            verdict = {"status": "fail", "lines": finding_lines(findings)}
            return fit.with_info(audit=[failed.document()], verdict=verdict, headline_source="none")

    datasets = dict(batch.info["datasets"])
    headline = batch.tree["headline"].to_dataset().load().copy(deep=True)
    pool = ThreadPoolExecutor(workers or available_cores())
    with progress_bar(progress, f"examining {len(names)} tables") as report, one_blas_thread():
        try:
            for k, (name, fit) in enumerate(zip(names, pool.map(one, names), strict=True)):
                datasets[name] = dict(fit.info)
                if fit.headline_source == "sandwich":
                    for variable, draws in fit.tree["headline"].data_vars.items():
                        own = headline[variable].data[batch.names.index(name)]
                        own[tuple(slice(0, n) for n in draws.shape)] = draws.to_numpy()
                report((k + 1) / len(names), "examining the intervals")
        finally:  # Ctrl-C does not wait for the rest
            pool.shutdown(wait=True, cancel_futures=True)
    tree = batch.tree.copy()
    tree["headline"] = type(tree)(headline)
    info = {**batch.info, "datasets": datasets}
    return replace(batch, tree=tree, info=info, status=with_verdicts(batch.status, datasets))


def _examined(model: Model, draws: np.ndarray, result: Fit) -> Fit:
    """The fit with its intervals examined, and the headline that the examination allows."""
    flat, seed = draws.reshape(-1, draws.shape[-1]), result.info["seed"]
    found = examine(model, flat, _asked(result), seed=seed)
    source, widening = result.headline_source, None
    tree = result.tree
    if found.failed and source == "posterior":
        if found.widen_by is not None and found.line is not None:
            source = "sandwich"
            widening = {"clusters": found.widen_by.name, "count": found.widen_by.count}
            wide = widened(found.line, flat, found.widen_by, seed).reshape(draws.shape)
            tree = tree.copy()
            tree["headline"] = type(tree)(headline_of(model, wide))
        else:
            source = "none"
    result = replace(result, tree=tree).with_info(
        audit=[f.document() for f in found.findings],
        narrowness=dict(found.narrowness),
        prior_share=dict(found.prior_share),
        windows=found.windows,
        widening=widening,
        headline_source=source,
        plan=found.plan.to_json() if found.plan else None,
    )
    return result.with_info(verdict=verdict_of(result))


def _asked(result: Fit) -> dict[str, np.ndarray]:
    """Draws of everything that is reported, allocations at the fit's budgets included, by name."""
    asked = {n: x.reshape(-1) for n, x in flattened(result.tree["headline"].to_dataset())}
    if budgets := result.info["budgets"]:
        every = {
            "": allocate(result, budgets, draws="posterior", far_ok=True),
            **allocate_levels(result, budgets, draws="posterior", far_ok=True),
        }
        for level, made in every.items():
            for name in (n for n in ("params", "tokens_per_param", "loss") if n in made.dataset):
                for k, C in enumerate(budgets):
                    told = f"{name} of {level} at {C:.3g}" if level else f"{name} at {C:.3g}"
                    asked[told] = np.asarray(made.dataset[name])[k].reshape(-1)
    return asked
