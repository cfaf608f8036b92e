"""`backtest`: rolling origins along compute, every forecast held against the run that it was of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayescale.allocation import allocate, largest_compute, require_budgets, require_optimum
from bayescale.backtesting.recording import COVERED, Backtest, Origin
from bayescale.baseline import least_squares
from bayescale.comparison import Contender, Scale, refitted, scale_of
from bayescale.comparison.folds import distinct_names, folds_of
from bayescale.comparison.refitting import Scored, scored
from bayescale.errors import BayescaleError, NotFittedFor, require_positive, require_prob, require_seed, require_workers
from bayescale.law import Law, Prior, parse_prior, pooled_law
from bayescale.laws import find_law
from bayescale.model import bounded_rows, build_model, observed_rows, resolved_pool
from bayescale.posterior import Fit, evaluate_draws, flat_draws, model_of, replicate
from bayescale.runs import Runs
from bayescale.sampling import Progress, part_of, progress_bar

#: At most so many origins, of which the first is fitted to this share of the runs and to so many more than parameters.
ORIGINS, LEAST_SHARE, MORE_ROWS = 6, 0.3, 4
#: The best size is asked for this many times beyond the largest run.
TIMES = 10.0


def backtest(
    law: str | Law,
    runs: Runs,
    *,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    pool: str | Mapping[str, Any] | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    priors: Mapping[str, Prior | str] | None = None,
    cuts: Sequence[float] = (),
    flops: float | None = None,
    seed: int = 0,
    prob: float = 0.9,
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> Backtest:
    """How well would the law have forecast these runs? Fitted below each of several cuts, asked about those above.

    Cuts lie along compute (or the law's own first input) between budgets, or between bands of runs, at most six;
    `cuts` names others. For every cut the law is refitted by `fit_many` with the responses above it held out: the
    design, its groups and the scales of priors are known, as they are to whoever plans runs. A forecast is of the run
    itself: with the effects of its groups where runs below the cut share them, new ones where they do not, and noise
    (where rows are checkpoints that err alike, as if the last one below the cut had not been seen).
    Beside it stands the usual least-squares fit to the same runs, with the spread of its residuals for an interval.
    `flops` is the budget at which the best size is asked for, by default ten times the largest run's.

    Runs that tell only a bound of the loss (`undertuned`) have no error: those above a cut are counted, not judged, and
    a cut with no other run above it is left out, with a note.

    Refits that are not certified are named, and give no forecast. Runs above one cut err together, and a run lies above
    several cuts: shares inside intervals are not of independent trials.

    Raises `NotFittedFor` (BS-F002) where no cut leaves enough runs, or no refit is certified; (BS-F001) for a law with
    several responses or an exact likelihood.

    Example:
        >>> bs.backtest("chinchilla", bs.load_runs("byte-ladder")).frame()  # doctest: +SKIP
    """
    seed, prob, workers = require_seed(seed), require_prob(prob), require_workers(workers)
    cuts = [require_positive("a cut", c) for c in cuts]
    flops = None if flops is None else float(require_budgets(flops)[0])
    law = pooled_law(find_law(law), resolved_pool(pool, runs))
    if law.likelihood is not None or law.responses[1:]:
        raise NotFittedFor(
            f"the law {law.name!r} has no residuals of one response to judge a forecast by",
            remedy="Backtest a law that predicts one column with a noise.",
        )
    informed = {k: parse_prior(p) if isinstance(p, str) else p for k, p in (priors or {}).items()}
    options = dict(noise=noise, group=group, fix=fix, tie=tuple(tie), priors=informed, references=None, min_flops=None)
    model = build_model(law, runs, noise=noise, group=group, fix=fix, tie=tie, priors=informed)
    scale = scale_of(runs, law)
    if scale is None:
        raise NotFittedFor("the law has no input along which runs could be cut", code="BS-F002")
    held, without = _origins(runs, law, scale, cuts, len(model.structure.coordinates.names))
    contender = Contender(law, {**options, "references": model.references}, None, law.spec)
    with progress_bar(progress, f"backtest of {law.spec} on {runs.source}", steady=False) as report:
        batch = refitted(contender, runs, held, seed=seed, workers=workers, prob=prob, progress=part_of(report, 0, 0.9))
        found = scored(contender, batch, held, seed)
        certified = [n for n in held if n not in found.why or n in batch.certified]
        if not certified:
            raise NotFittedFor(
                "no refit was certified: " + "; ".join(f"{n}: {w}" for n, w in found.why.items()),
                code="BS-F002",
                remedy="Cut higher, or try a law of fewer parameters.",
            )
        budget = _budget(runs, batch[certified[0]], flops)
        origins = []
        for k, (name, out) in enumerate(held.items()):
            report(0.9 + 0.1 * k / len(held), f"forecasts: {name}")
            if name in certified:
                origins.append(_forecast(batch[name], out, scale, found, name, budget, prob, seed))
    answers = None if found.whole is None else _answer(found.whole, budget, prob)
    notes = [*without, *(f"cut at {n}: {w}" for n, w in found.why.items())]
    baseline = [_baseline(law, runs, o, model.references, fix, tie, seed, notes) for o in origins]
    return Backtest(
        tuple(o.with_baseline(b) for o, b in zip(origins, baseline, strict=True)),
        answers,
        None if found.whole is None else next((n for n in law.derived if n in found.whole.draws()), None),
        budget,
        scale.name,
        scale.unit,
        prob,
        law.spec,
        noise,
        tuple(g.column for g in model.groupings),
        runs.source,
        runs.loss_unit if law.responses[0].name == "loss" else law.responses[0].unit,
        law.responses[0].support == "positive",
        tuple(dict.fromkeys(notes)),
        not found.why,
    )


def _origins(
    runs: Runs, law: Law, scale: Scale, cuts: Sequence[float], parameters: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which rows lie above each cut, by the cut's name, and what is said of cuts that are left out."""
    x = scale.values
    observed = observed_rows(law.responses[0], law, runs)
    exact = observed & ~bounded_rows(law.responses[0].source, runs)
    if not len(cuts):
        try:
            bands = folds_of(runs, "budget" if scale.name == "C" else scale.column).index
        except BayescaleError:
            bands = folds_of(runs, "compute" if scale.name == "C" else scale.column).index
        tops = np.sort([x[bands == k].max() for k in range(int(bands.max()) + 1)])[:-1]
        least = max(LEAST_SHARE * len(x), parameters + MORE_ROWS)
        fine = [c for c in tops if (x <= c).sum() >= least and (exact & (x > c)).any()]
        cuts = [fine[k] for k in np.unique(np.linspace(0, len(fine) - 1, min(len(fine), ORIGINS)).round().astype(int))]
    ordered = np.unique(np.asarray(cuts, float))
    above = {n: x > c * (1 + 1e-9) for n, c in zip(distinct_names(ordered), ordered.tolist(), strict=True)}
    above = {n: out for n, out in above.items() if (out & observed).any() and not out.all()}
    held = {n: out for n, out in above.items() if (out & exact).any()}
    without = [
        f"cut at {n}: no run above it was tuned, so each tells only a bound of the loss, and no error"
        for n in above
        if n not in held
    ]
    if not held:
        raise NotFittedFor(
            "; ".join(without) or f"no cut of {scale.name} leaves enough runs to fit and some to forecast",
            code="BS-F002",
            remedy="Name cuts, or try a law of fewer parameters.",
        )
    return held, without


def _budget(runs: Runs, fit: Fit, flops: float | None) -> float | None:
    """The budget at which the best size is asked for; None where the law has none."""
    largest = largest_compute(runs)
    C = TIMES * largest if flops is None else float(flops)
    if not np.isfinite(C):
        return None
    try:
        require_optimum(fit.law, {})
        allocate(fit, [C], draws="posterior", far_ok=True)
    except NotFittedFor:
        if flops is not None:
            raise
        return None
    return C


def _answer(fit: Fit, budget: float | None, prob: float) -> dict[str, tuple[float, float, float]]:
    """Median and interval of the first derived quantity and of the best size at the budget."""
    ends = [0.5, (1 - prob) / 2, (1 + prob) / 2]
    draws, made = fit.draws("posterior"), {}
    for name in (n for n in fit.law.derived if n in draws and draws[n].ndim == 1):
        made["quantity"] = tuple(map(float, np.quantile(draws[name], ends)))
        break
    if budget is not None:
        found = allocate(fit, [budget], prob=prob, draws="posterior", far_ok=True).interval("params")[:, 0]
        made["params"] = tuple(map(float, found))
    return made


def _forecast(
    fit: Fit, out: np.ndarray, scale: Scale, found: Scored, name: str, budget: float | None, prob: float, seed: int
) -> Origin:
    """What a fit below a cut said of every run above it."""
    model, runs = model_of(fit), fit.runs
    response = fit.law.responses[0]
    seen, bounds = out & observed_rows(response, fit.law, runs), bounded_rows(response.source, runs)
    rows = np.flatnonzero(seen & ~bounds)
    drawn = evaluate_draws(model, flat_draws(fit, model))
    posterior = fit.tree["posterior"].sizes
    take = np.arange(posterior["chain"] * posterior["draw"])[None]
    predicted = replicate(model, drawn, np.random.default_rng([seed, 11]), take)[response.name][0][:, rows]
    observed = runs.values(response.source)[rows]
    below = (predicted < observed).mean(axis=0) + 0.5 * (predicted == observed).mean(axis=0)
    ends = np.quantile(predicted, [0.5, (1 - prob) / 2, (1 + prob) / 2], axis=0)
    inside = {}
    for p in COVERED:
        low, high = np.quantile(predicted, [(1 - p) / 2, (1 + p) / 2], axis=0)
        inside[p] = (observed >= low) & (observed <= high)
    x = scale.values
    density = found.densities.get(name)
    return Origin(
        float(x[~out].max()),
        int((~out).sum()),
        float(x[rows].max() / x[~out].max()),
        np.asarray(runs.rows)[rows],
        rows,
        x[rows],
        observed,
        ends,
        below,
        inside,
        None if density is None else density.value,
        _answer(fit, budget, prob),
        one_sided=np.asarray(runs.rows)[seen & bounds],
    )


def _baseline(
    law: Law,
    runs: Runs,
    origin: Origin,
    references: Mapping[str, Any],
    fix: Mapping[str, float] | None,
    tie: Sequence[tuple[str, str]],
    seed: int,
    notes: list[str],
) -> tuple[np.ndarray, float, float | None] | None:
    """The least-squares forecast of every run above a cut, the spread of its residuals on the link scale, and its
    value of the first derived quantity; None where least squares cannot be fitted."""
    kept = np.ones(len(runs), bool)
    kept[scale_above(runs, law, origin.cut)] = False
    try:
        point = least_squares(law, runs.take(kept), starts=8, fix=fix, tie=tie, references=dict(references), seed=seed)
    except BayescaleError as error:
        notes.append(f"no least-squares fit beside it: {error.message}")
        return None
    exact = ~bounded_rows(law.responses[0].source, runs)
    model = build_model(
        law, runs.take(exact), noise="normal", group="none", fix=fix, tie=tie, references=dict(references)
    )
    z = np.asarray(point.tree["unconstrained_posterior"]["z"]).reshape(1, -1)
    means = evaluate_draws(model, z)["mean"][law.responses[0].name][0]
    means = means[np.cumsum(exact)[origin.positions] - 1]
    draws = point.draws("posterior")
    derived = next((float(draws[n][0]) for n in law.derived if n in draws and draws[n].ndim == 1), None)
    return means, float(draws["sigma"][0]), derived


def scale_above(runs: Runs, law: Law, cut: float) -> np.ndarray:
    """The positions of the runs above a cut."""
    scale = scale_of(runs, law)
    assert scale is not None
    return np.flatnonzero(scale.values > cut * (1 + 1e-9))
