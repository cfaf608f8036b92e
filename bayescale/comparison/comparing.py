"""`compare`: which of several models predicts parts of the table that were left out, and what the choice changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayescale.allocation import (
    allocate,
    largest_compute,
    loss_on_budget,
    parameter_draws,
    require_budgets,
    require_optimum,
)
from bayescale.comparison.answering import Comparison, Model
from bayescale.comparison.folds import ALL, LATER, Folds, folds_of, later_runs, scale_of
from bayescale.comparison.refitting import Contender, Scored, named, refitted, scored
from bayescale.comparison.weighing import FEWEST_FOR_WEIGHTS, stacking_weights
from bayescale.errors import LawError, NotFittedFor, require_positive, require_prob, require_seed, require_workers
from bayescale.law import Law, pooled_law
from bayescale.laws import find_law
from bayescale.model import build_model, observed_rows, resolved_pool
from bayescale.posterior import Fit, one_level
from bayescale.runs import Runs, require_runs
from bayescale.sampling import Progress, part_of, progress_bar

#: What models are asked about lies this many times beyond the largest run.
TIMES = 10.0


def compare(
    fits: Runs | Sequence[Fit],
    laws: Sequence[str | Law] = (),
    *,
    noise: str | Sequence[str] = "student_t",
    group: str | Sequence[str] = "auto",
    pool: str | Mapping[str, Any] | None = None,
    over: str | None = None,
    cut: float | None = None,
    flops: float | None = None,
    seed: int = 0,
    prob: float = 0.9,
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> Comparison:
    """Compare laws, noises or groups by what they predict of runs that were left out, and by what they answer.

    Every level of an axis (compute budgets, else model sizes, else bands of compute; or the column `over`) is left out
    in turn and every model refitted to the rest, by `fit_many`. A fold's score is the log density of all its responses
    together, log p(y_fold | the other runs): effects of groups that are known are taken as known, those of levels that
    only the fold has are integrated out, and laws fitted on different links are compared by the density of the
    response itself. Rows one at a time, as the usual leave-one-out has it, would be predicted by the effects of their
    own group. Runs above a cut in compute are left out as well, since decisions extrapolate.

    Parameters
    ----------
    fits
        Fits of the same runs, or a table to which each of `laws` is fitted under each `noise` (one or several) with
        `group` and `pool`, as in `fit`.
    over
        The axis of the folds.
    cut
        Runs above this compute (or the law's own first input) are the later ones; by default above 0.4 of the largest.
    flops
        The budget at which models are asked for the best size; by default ten times the largest run's.

    With fewer than 8 folds weights are equal: those that fit so few would follow chance. A fold counts where every
    model's refit is certified; others are named. The standard error of a difference is that over folds.

    Raises `LawError` (BS-L002) for fewer than two models, (BS-U001) where fits are not of the same runs and response,
    `NotFittedFor` (BS-F002) where there is no axis, or fewer than two models can be scored.

    Example:
        >>> bs.compare([student, normal])  # doctest: +SKIP
        >>> bs.compare(runs, ["chinchilla", "kaplan_nd"]).frame()  # doctest: +SKIP
    """
    seed, prob, workers = require_seed(seed), require_prob(prob), require_workers(workers)
    cut = None if cut is None else require_positive("cut", cut)
    flops = None if flops is None else float(require_budgets(flops)[0])
    contenders = named(_contenders(fits, laws, noise, group, pool))
    runs = contenders[0].fit.runs if contenders[0].fit is not None else fits
    assert isinstance(runs, Runs)
    first = contenders[0].law
    observed = np.any([observed_rows(r, first, runs) for r in first.responses], axis=0)
    folds = folds_of(runs, over, first)
    held = {n: rows for n, rows in folds.held().items() if (rows & observed).any()}
    scale, notes, later, where = scale_of(runs, first), [], None, float("nan")
    if scale is not None:
        try:
            where, later = later_runs(scale.values, cut)
        except NotFittedFor as error:
            if cut is not None:
                raise
            notes.append(f"no score of later runs: {error.message}")
    parts = held | ({LATER: later} if later is not None else {})
    results = []
    title = f"comparing {len(contenders)} models of {runs.source}"
    with progress_bar(progress, title, steady=False) as report:
        for k, c in enumerate(contenders):
            batch = refitted(
                c, runs, parts, seed=seed, workers=workers, prob=prob, progress=_part(report, k, contenders)
            )
            report((k + 1) / len(contenders), f"{c.name}: densities")
            results.append(scored(c, batch, parts, seed))
    return _compared(runs, contenders, results, folds, held, later, where, scale, notes, prob, flops)


def _part(report: Progress, k: int, contenders: Sequence[Contender]) -> Progress:
    count, name = len(contenders), contenders[k].name
    part = part_of(report, k / count, (k + 1) / count)
    return lambda share, doing: part(share, f"{name}: {doing}")


def _contenders(
    fits: Runs | Sequence[Fit],
    laws: Sequence[str | Law],
    noise: str | Sequence[str],
    group: str | Sequence[str],
    pool: str | Mapping[str, Any] | None,
) -> list[Contender]:
    if not isinstance(fits, Runs):
        if laws:
            if not (isinstance(fits, list | tuple) and all(isinstance(f, Fit) for f in fits)):
                require_runs(fits)
            raise LawError("fits have laws of their own", code="BS-U001", remedy="Give compare(runs, laws).")
        made = [Contender.of(f) for f in fits]
        _require_alike([c.fit for c in made if c.fit is not None])
    else:
        noises = [noise] if isinstance(noise, str) else list(noise)
        shared: dict[str, Any] = {"group": group, "fix": None, "tie": (), "priors": {}, "references": None}
        found = [pooled_law(find_law(law), resolved_pool(pool, fits)) for law in laws]
        made = [Contender(law, {"noise": n, **shared, "min_flops": None}) for law in found for n in noises]
        _require_responses([(c.law, c.law.spec) for c in made])
        for c in made:
            build_model(c.law, fits, noise=c.options["noise"], group=group)  # what is wrong with the question is raised
    if len(made) < 2:
        raise LawError("one model has nothing to be compared with", code="BS-L002", remedy="Name another law or noise.")
    return made


def _require_alike(fits: Sequence[Fit]) -> None:
    """Refuse fits of other runs, units or responses, naming what differs."""
    _require_responses([(f.law, f"fit {k}") for k, f in enumerate(fits, 1)])
    for k, f in enumerate(fits[1:], 2):
        one, other = fits[0].runs, f.runs
        what = None
        if one.rows != other.rows:
            what = f"fit 1 has {len(one)} rows of {one.source}, fit {k} has {len(other)} of {other.source}"
            if len(one) == len(other):
                what = f"fit 1 and fit {k} have different rows"
        elif one.loss_unit != other.loss_unit:
            what = f"fit 1 has losses in {one.loss_unit}, fit {k} in {other.loss_unit}"
        else:
            for r in fits[0].law.responses:
                x, y = one.values(r.source), other.values(r.source)
                if (bad := ~((x == y) | (np.isnan(x) & np.isnan(y)))).any():
                    what = f"{r.source} of fit 1 and fit {k} differs in {int(bad.sum())} rows"
        if f.info["options"].get("held_out") or fits[0].info["options"].get("held_out"):
            what = "a fit with rows held out was not fitted to all of its runs"
        if what:
            raise LawError(
                f"fits of different data cannot be compared: {what}",
                code="BS-U001",
                remedy="Fit every law to the same table, with the same filter and unit.",
            )


def _require_responses(laws: Iterable[tuple[Law, str]]) -> None:
    """Refuse laws of different responses, and counts beside densities: their scores have different units."""
    if not (laws := [*laws]):
        return
    (first, one), *rest = laws
    for law, other in rest:
        mine, theirs = ([(r.name, r.source) for r in x.responses] for x in (first, law))
        if [s for _, s in mine] != [s for _, s in theirs]:
            told = " and ".join(f"{who} of {', '.join(s for _, s in r)}" for who, r in ((one, mine), (other, theirs)))
            raise LawError(
                f"models of different responses cannot be compared: {told}",
                code="BS-U001",
                remedy="Compare laws that predict the same column.",
            )
        if (first.likelihood is None) != (law.likelihood is None):
            raise LawError(
                f"{one} and {other} cannot be compared: one has a probability of its response, the other a density",
                code="BS-U001",
                remedy="Compare laws of the same kind of response.",
            )


def _compared(
    runs: Runs,
    contenders: Sequence[Contender],
    results: Sequence[Scored],
    folds: Folds,
    held: Mapping[str, np.ndarray],
    later: np.ndarray | None,
    where: float,
    scale: Any,
    notes: list[str],
    prob: float,
    flops: float | None,
) -> Comparison:
    import xarray as xr

    enough = len(held) / 2
    fine = [k for k, r in enumerate(results) if r.whole is not None and sum(n in r.densities for n in held) >= enough]
    for k, r in enumerate(results):
        if k not in fine:
            first = next(iter(r.why.items()), (ALL, "no fold could be scored"))
            notes.append(f"{r.name} was left out of the comparison: {first[0]}: {first[1]}")
    if len(fine) < 2:
        raise NotFittedFor(
            f"fewer than two models could be scored: {'; '.join(notes)}",
            code="BS-F002",
            remedy="Try simpler laws, or another axis.",
        )
    asked, results, contenders = len(results), [results[k] for k in fine], [contenders[k] for k in fine]
    for r in results:
        notes += [f"{n} could not be predicted by {r.name}: {w}" for n, w in r.why.items()]
    table = {key: np.full((len(results), len(held)), np.nan) for key in ("elpd", "mcse", "overlap")}
    for m, r in enumerate(results):
        for f, name in enumerate(held):
            if name in r.densities:
                d = r.densities[name]
                table["elpd"][m, f], table["mcse"][m, f], table["overlap"][m, f] = d.value, d.error, d.overlap
    ahead = {
        f"later_{key}": (
            "model",
            [getattr(r.densities[LATER], at) if LATER in r.densities else np.nan for r in results],
        )
        for key, at in (("elpd", "value"), ("mcse", "error"), ("overlap", "overlap"))
    }
    dataset = xr.Dataset(
        {**{k: (("model", "fold"), v) for k, v in table.items()}, **ahead},
        coords={
            "model": [r.name for r in results],
            "fold": list(held),
            "rows": ("fold", [int(v.sum()) for v in held.values()]),
        },
    )
    counted = np.isfinite(table["elpd"]).all(axis=0)
    if counted.sum() < 2:
        raise NotFittedFor(f"fewer than two folds could be scored: {'; '.join(notes)}", code="BS-F002")
    few = counted.sum() < FEWEST_FOR_WEIGHTS
    weights = np.full(len(results), 1 / len(results)) if few else stacking_weights(table["elpd"][:, counted].T)
    fits = [r.whole for r in results if r.whole is not None]
    quantity, models = _answers(contenders, fits, prob)
    budget, models, regret = _sizes(models, fits, runs, flops, prob)
    return Comparison(
        dataset,
        tuple(models),
        weights,
        "equal" if few else "stacking",
        folds.over,
        folds.label,
        quantity,
        budget,
        regret,
        None if later is None else (where, int(later.sum()), scale.name, scale.unit),
        prob,
        runs.source,
        runs.loss_unit,
        tuple(notes),
        tuple(fine),
        asked,
    )


def _drawn(fit: Fit) -> str:
    return "posterior" if fit.headline_source == "none" else "headline"


def _answers(contenders: Sequence[Contender], fits: Sequence[Fit], prob: float) -> tuple[str | None, list[Model]]:
    """The first derived quantity that means the same in all laws (a parameter, where they are one law), and its values.

    Laws use one letter for several things: what is compared has the same name and the same meaning.
    """
    ends = [0.5, (1 - prob) / 2, (1 + prob) / 2]
    scalars = [{n: x for n, x in f.draws(_drawn(f)).items() if x.ndim == 1 and np.ptp(x) > 0} for f in fits]
    wanted = {n: d.meaning for n, d in fits[0].law.derived.items()}
    one_law = len({f.law.digest() for f in fits}) == 1
    wanted |= {p.name: p.meaning for p in fits[0].law.parameters} if one_law else {}

    def has(fit: Fit, values: Mapping[str, np.ndarray], name: str) -> bool:
        law = fit.law
        meaning = law.derived[name].meaning if name in law.derived else law.parameter(name).meaning if one_law else None
        return meaning == wanted[name] and name in values and bool(np.isfinite(values[name]).all())

    shared = next((n for n in wanted if all(has(f, s, n) for f, s in zip(fits, scalars, strict=True))), None)
    models = []
    for c, f, s in zip(contenders, fits, scalars, strict=True):
        value = tuple(map(float, np.quantile(s[shared], ends))) if shared else None
        kind = f.interval_kind() if f.headline_source != "none" else "not backed by the checks"
        models.append(Model(c.name, c.law.spec, f.noise, tuple(f.group), kind, f, value))
    return shared, models


def _sizes(
    models: list[Model], fits: Sequence[Fit], runs: Runs, flops: float | None, prob: float
) -> tuple[float | None, list[Model], np.ndarray | None]:
    """The best size by every model at a budget, and what each loses under every other, shape (chosen by, true)."""
    from dataclasses import replace

    largest = largest_compute(runs)
    if flops is None and not np.isfinite(largest):
        return None, models, None
    C = TIMES * largest if flops is None else float(flops)
    try:
        for f in fits:
            require_optimum(f.law, {})
        made = [allocate(f, [C], prob=prob, draws=_drawn(f), far_ok=True) for f in fits]
    except NotFittedFor:
        if flops is not None:
            raise
        return None, models, None
    sizes = [tuple(map(float, a.interval("params")[:, 0])) for a in made]
    if not np.isfinite(sizes).all():
        return None, models, None
    regret = np.empty((len(fits), len(fits)))
    for j, (f, a) in enumerate(zip(fits, made, strict=True)):
        own = one_level(f, None)[0]
        values, best = parameter_draws(own, _drawn(f)), np.asarray(a.dataset["loss"]).ravel()
        for i, (size, _, _) in enumerate(sizes):
            here = np.ravel(loss_on_budget(own.law, values, own.references, C, size))
            regret[i, j] = float(np.median(here / best - 1))
    return C, [replace(m, params=s) for m, s in zip(models, sizes, strict=True)], np.maximum(regret, 0.0)
