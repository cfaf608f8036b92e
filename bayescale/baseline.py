"""The field's usual fit, as a cross-check: Huber loss on log residuals, multi-start L-BFGS, row bootstrap.

It looks for its own early stop: the best-known fit of this kind stopped where its optimiser's tolerance, and not the
data, told it to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.errors import (
    Finding,
    FitError,
    LawError,
    Note,
    NotFittedFor,
    nearest,
    require_prob,
    require_seed,
    worst,
)
from bayescale.law import Law, PooledLaw, Spread, call, pooled_law
from bayescale.laws import find_law
from bayescale.model import (
    Model,
    bounded_rows,
    build_model,
    compiled,
    double_precision,
    one_blas_thread,
    resolved_pool,
)
from bayescale.noise import LINKS
from bayescale.posterior import SCHEMA, Fit, make_tree
from bayescale.runs import Runs

#: Hoffmann et al. (2022) and most since: quadratic within .1 % of the loss, linear beyond.
DELTA = 1e-3
#: A fit stopped early when another descent from its end lowers the objective by more than this share.
EARLY = 1e-4
#: Starts whose objective is within this share of the best agree with it.
AGREE = 1e-4
_TIGHT = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30}
#: A replicate starts at the fit itself and its own sampling error is far larger than this tolerance.
_REPLICATE = {"maxiter": 1000, "ftol": 1e-9, "gtol": 1e-5, "maxcor": 20}


@dataclass(frozen=True, eq=False)
class Objective:
    """The summed Huber loss of residuals on the link scale, over delta, in one set of coordinates.

    `coordinates` is "reference" (the sampled coordinates, contributions at the design's middle: well conditioned) or
    "paper" (logs of the paper's own coefficients and plain exponents, as most published code has it).
    """

    model: Model
    coordinates: str

    @property
    def names(self) -> tuple[str, ...]:
        """What is optimised over."""
        if self.coordinates == "reference":
            return tuple(s.parameter.name for s in self._slots)
        return tuple(p.name for p in self.model.law.parameters if p.name not in self._given)

    @cached_property
    def _slots(self) -> list[Any]:
        own = {p.name for p in self.model.law.coordinates()} | {p.name for p in self.model.law.parameters}
        return [s for s in self.model.structure.coordinates.slots if s.parameter.name in own]

    @property
    def _given(self) -> set[str]:
        c = self.model.structure.coordinates
        return {*c.fixed, *c.ties}

    def _logged(self, name: str) -> bool:
        return self.model.law.parameter(name).unit != "1"

    def values(self, x, data) -> dict[str, Any]:
        """The law's parameters by name; traceable."""
        import jax.numpy as jnp

        structure = self.model.structure
        if self.coordinates == "reference":
            z = jnp.zeros(structure.coordinates.dimension, x.dtype).at[self.positions].set(x)
            return structure.values(z, data)
        known = {n: jnp.exp(x[k]) if self._logged(n) else x[k] for k, n in enumerate(self.names)}
        known |= {n: jnp.asarray(v, x.dtype) for n, v in structure.coordinates.fixed.items()}
        return known | {n: known[source] for n, source in structure.coordinates.ties.items()}

    @cached_property
    def positions(self) -> np.ndarray:
        """Where the law's coordinates lie in z; of pooled ones without the spread, which only a prior would hold."""
        parts = [np.arange(s.start, s.start + s.size) for s in self._slots]
        learnt = [isinstance(s.parameter.pooled, Spread) and s.spread is None for s in self._slots]
        return np.concatenate([np.delete(p, 1) if own else p for p, own in zip(parts, learnt, strict=True)])

    def start_at(self, values: Mapping[str, float]) -> np.ndarray:
        """The coordinates of given paper values, which must name every free parameter."""
        missing = [p.name for p in self.model.law.parameters if p.name not in values and p.name not in self._given]
        if missing:
            raise LawError(f"the start leaves out {missing}", code="BS-L002")
        if self.coordinates == "paper":
            return np.asarray([np.log(values[n]) if self._logged(n) else values[n] for n in self.names], float)
        return self.to_z(values)[self.positions]

    def to_z(self, values: Mapping[str, float]) -> np.ndarray:
        """The standard-normal coordinates of paper values (those of the noise stay at their prior's median)."""
        structure = self.model.structure
        known: dict[str, Any] = {**self.model.references, **values}
        inverse = structure.coordinates.inverse
        z = np.zeros(structure.coordinates.dimension)
        for slot in structure.coordinates.slots:
            p = slot.parameter
            if p.name in inverse and p.name not in known:
                known[p.name] = np.asarray(call(inverse[p.name], known))
            if p.name in known and p.prior is not None:
                x = np.asarray(known[p.name], float)
                if p.above is not None:
                    x = x - (known[p.above] if isinstance(p.above, str) else p.above)
                if p.below is not None:
                    x = x / (known[p.below] if isinstance(p.below, str) else p.below)
                z[slot.start : slot.start + slot.size] = np.ravel(p.prior.preimage(x))
        return z

    def program(self) -> Callable[[np.ndarray, float, np.ndarray], tuple[float, np.ndarray]]:
        """`(x, delta, weights) → value, gradient` of the objective over delta: of order one a row."""
        import jax
        import jax.numpy as jnp

        structure, response = self.model.structure, self.model.law.responses[0]
        link = LINKS[response.support]

        def value(x, delta, weights, data):
            means = structure.means(self.values(x, data), data, response)
            size = jnp.abs(data["responses"][response.name]["y"] - link.forward(means))
            huber = jnp.where(size <= delta, 0.5 * size**2 / delta, size - 0.5 * delta)
            return (weights * huber).sum()

        rows = len(self.model.data["responses"][response.name]["y"])
        with double_precision():
            data = jax.device_put(self.model.data)
            shapes = (np.zeros(self.size), np.asarray(0.0), np.zeros(rows), data)
            run = compiled(("huber", self.coordinates, structure.key), jax.value_and_grad(value), *shapes)

        def evaluate(x: np.ndarray, delta: float, weights: np.ndarray) -> tuple[float, np.ndarray]:
            with double_precision():
                v, g = run(np.asarray(x, float), np.asarray(delta), weights, data)
            v, g = float(v), np.asarray(g)
            return (v, g) if np.isfinite(v) and np.isfinite(g).all() else (1e30, np.zeros_like(g))

        return evaluate

    @property
    def size(self) -> int:
        """How many numbers are optimised over."""
        return len(self.positions) if self.coordinates == "reference" else len(self.names)


def least_squares(
    law: str | Law,
    runs: Runs,
    *,
    delta: float = DELTA,
    starts: int | Sequence[Mapping[str, float]] = 16,
    coordinates: str = "reference",
    options: Mapping[str, Any] | None = None,
    scaled: bool = True,
    polish: bool = True,
    bootstrap: int = 0,
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    pool: str | Mapping[str, Any] | None = None,
    references: Mapping[str, Any] | None = None,
    prob: float = 0.9,
    seed: int = 0,
) -> Fit:
    """Fit by the Huber loss of log residuals, summed over runs, from many starts, with an optional row bootstrap.

    The objective is Σ Huber_δ(log L − log L̂), minimised by L-BFGS; δ → 0 gives least absolute deviations. The result
    is a `Fit` of one chain: one draw, or one a bootstrap replicate (the first is the fit itself). Its checks say
    whether the starts agree and whether the optimiser stopped early.

    `starts` is a number of draws of the prior, or the parameters to start from (then nothing else is tried).
    `coordinates="paper"`, `scaled=False` (the bare sum, of order 1e-3, instead of the sum over delta) and `options` of
    SciPy's L-BFGS-B with `polish=False` reproduce the usual set-up, early stop included: the stop is found by
    descending again from it in well-conditioned coordinates.

    `pool`, as in `fit`, gives every level its own value of what differs and shares the rest. Nothing shrinks the levels
    to each other: what is left of the pooling is what it shares, so the levels are the limit of a wide spread.

    Rows that tell only a bound of the loss (`undertuned`) have no residual: they are left out, with a note.

    Raises `LawError` (BS-F001) for a law with an exact likelihood or several responses, (BS-L002) for unknown names,
    `NotFittedFor` (BS-F002) where bounds leave too few other rows.

    Example:
        >>> bs.least_squares("chinchilla", bs.load_runs("byte-ladder")).summary()  # doctest: +SKIP
    """
    from scipy.optimize import minimize

    law, seed, prob = find_law(law), require_seed(seed), require_prob(prob)
    if coordinates not in ("reference", "paper"):
        raise LawError(
            f"no coordinates {coordinates!r}", code="BS-L002", remedy=nearest(coordinates, ["reference", "paper"])
        )
    if law.likelihood is not None:
        raise LawError(f"law {law.name!r} has an exact likelihood: there are no residuals to fit", code="BS-F001")
    law = pooled_law(law, resolved_pool(pool, runs))
    if isinstance(law, PooledLaw) and (coordinates == "paper" or not isinstance(starts, int)):
        raise LawError(
            "least squares of levels starts from the prior, in the reference coordinates",
            code="BS-F001",
            remedy="Leave out coordinates and give a number of starts.",
        )
    if law.responses[1:]:
        raise LawError(f"law {law.name!r} predicts several responses: least squares weighs only one", code="BS-F001")
    told = len(runs)
    runs = _with_residuals(law, runs)
    model = build_model(law, runs, noise="normal", group="none", fix=fix, tie=tie, references=references)
    objective, good = Objective(model, coordinates), Objective(model, "reference")
    if len(runs) < told and len(runs) <= good.size:
        raise NotFittedFor(
            f"{told - len(runs)} of {told} rows tell only a bound of the loss: {len(runs)} are too few for "
            f"{good.size} parameters",
            code="BS-F002",
            remedy="Leave the column undertuned out to count all rows as losses, or use `fit`, which counts bounds.",
        )
    weights = np.asarray(model.data["responses"][law.responses[0].name]["used"], float)
    evaluate, evaluate_good = objective.program(), good.program()
    unit = 1.0 if scaled else delta
    settings = dict(_TIGHT if options is None else options)
    rng = np.random.default_rng([seed, 3])

    def descend(f, x0: np.ndarray, w: np.ndarray, chosen: Mapping[str, Any], step: float = delta):
        factor = unit if f is evaluate else 1.0

        def scaled_objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = f(x, step, w)
            return factor * value, factor * slope

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            result = minimize(scaled_objective, x0, jac=True, method="L-BFGS-B", options=dict(chosen))
        result.fun = result.fun / factor
        return result

    if isinstance(starts, int):
        points = [np.zeros(good.size), *(0.7 * rng.standard_normal((max(0, starts - 1), good.size)))]
        if coordinates == "paper":
            points = [objective.start_at(_paper_values(good, x)) for x in points]
    else:
        points = [objective.start_at(s) for s in starts]
    with one_blas_thread():
        found = sorted((descend(evaluate, x, weights, settings) for x in points), key=lambda r: r.fun)
    if not found or not np.isfinite(found[0].fun) or found[0].fun >= 1e29:
        raise FitError("no start of the least-squares fit gave a finite loss", remedy="Check the units of the table.")
    best = found[0]
    end = good.start_at(_paper_values(objective, best.x)) if coordinates == "paper" else best.x
    with one_blas_thread():
        again = _anneal(descend, evaluate_good, end, weights, delta)
    findings = [_early_stop(best, again), _agreement(found, best, len(points))]
    x = again.x if polish and again.fun < best.fun else end
    replicates = [x]
    used = np.flatnonzero(weights)
    with one_blas_thread():
        for _ in range(bootstrap):
            again = used[rng.integers(len(used), size=len(used))]
            counts = np.bincount(again, minlength=len(weights)).astype(float)
            replicates.append(descend(evaluate_good, x, counts, _REPLICATE).x)
    return _as_fit(model, good, np.asarray(replicates), findings, delta, prob, seed, bool(best.success))


def _with_residuals(law: Law, runs: Runs) -> Runs:
    """The runs without those of which only a bound is known."""
    bounds = bounded_rows(law.responses[0].source, runs)
    if not bounds.any():
        return runs
    if bounds.all():
        raise NotFittedFor(
            f"all {len(runs)} rows tell only a bound of the loss (undertuned): least squares has no residuals",
            code="BS-F002",
            remedy="Leave the column undertuned out to count them as losses.",
        )
    said = (
        f"{bounds.sum()} of {len(runs)} runs were not tuned: a bound has no residual, so least squares leaves them out"
    )
    return runs.take(~bounds, Note("BS-R061", said))


def _anneal(descend, evaluate, x: np.ndarray, weights: np.ndarray, delta: float):
    """Descend again from an end point, through wider Huber losses, which are smoother, down to the asked one."""
    for step in (max(delta, 1e-2), max(delta, 1e-3), max(delta, 1e-4), max(delta, 1e-5)):
        if step > delta:
            x = descend(evaluate, x, weights, _TIGHT, step).x
    result = descend(evaluate, x, weights, _TIGHT)
    for _ in range(5):  # restarts clear the optimiser's memory at the kinks of small delta
        following = descend(evaluate, result.x, weights, _TIGHT)
        if not following.fun < result.fun * (1 - 1e-12):
            break
        result = following
    return result


def _paper_values(objective: Objective, x: np.ndarray) -> dict[str, float]:
    with double_precision():
        values = objective.values(np.asarray(x, float), objective.model.data)
        return {p.name: np.asarray(values[p.name]) for p in objective.model.law.parameters}  # type: ignore[misc]


def _early_stop(best, again) -> Finding:
    gain = float((best.fun - again.fun) / best.fun)
    stopped = gain > EARLY
    said = "reports success" if best.success else "reports failure"
    message = f"a second descent lowers the objective by {gain:.2g} of itself; at most {EARLY:g} is tolerated"
    if stopped:
        message = (
            f"the optimiser stopped early: it {said}, but a second descent from there lowers the objective by "
            f"{gain:.0%}. Its tolerance, not the data, chose these numbers"
        )
    return Finding("early-stop", "early stop", "fail" if stopped else "pass", gain, EARLY, message)


def _agreement(found, best, starts: int) -> Finding:
    agree = sum(r.fun <= best.fun * (1 + AGREE) for r in found)
    lone = starts > 1 and agree == 1
    message = f"{agree} of {starts} starts reach the best objective"
    if lone:
        message += ": it may not be the global minimum; try more starts"
    elif starts == 1:
        message += ": one start proves nothing"
    return Finding("multi-start", "starts agree", "warn" if lone or starts == 1 else "pass", agree, 2, message)


def _as_fit(
    model: Model,
    good: Objective,
    replicates: np.ndarray,
    findings: Sequence[Finding],
    delta: float,
    prob: float,
    seed: int,
    success: bool,
) -> Fit:
    """One chain of one draw a replicate, its noise scale the spread of the residuals."""
    structure = model.structure
    z = np.zeros((len(replicates), structure.dimension))
    z[:, good.positions] = replicates
    residuals = _residuals(model, z[0])
    sigma = next(s for s in structure.coordinates.slots if s.parameter.name == "sigma")
    assert sigma.parameter.prior is not None
    spread = max(float(np.std(residuals, ddof=1)), 1e-12)
    z[:, sigma.start] = sigma.parameter.prior.preimage(spread)
    count = len(replicates)
    stats = {"diverging": np.zeros((1, count), bool), "energy": np.zeros((1, count))}
    tree = make_tree(model, z[None], stats, np.random.default_rng([seed, 4]))
    runs = model.runs
    info = {
        "schema": SCHEMA,
        "method": "least_squares",
        "law": model.law.name,
        "law_options": dict(model.law.options),
        "law_digest": model.law.digest(),
        "equation": model.law.equation,
        "noise": model.noise,
        "group": [],
        "groupings": [],
        "options": {**model.options, "delta": delta, "bootstrap": count - 1},
        "seed": seed,
        "prob": prob,
        "sampler": "least_squares",
        "references": {k: np.asarray(v).tolist() for k, v in model.references.items()},
        "loss_unit": runs.loss_unit,
        "convention": runs.convention,
        "runs": {
            "source": runs.source,
            "rows": runs.rows_read,
            "used": len(runs),
            "n_groups": {},
            "sha256": runs.sha256,
            "assumptions": list(runs.assumptions),
        },
        "design": [],
        "checks": [f.__dict__ for f in findings],
        "audit": [],
        "optimiser_success": success,
        "objective": float(np.sum(_huber(residuals, delta))),
        "headline_source": "posterior",
        "verdict": {"status": worst(findings), "lines": [f.message for f in findings if f.status != "pass"]},
    }
    return Fit(tree, model.law, info)


def _residuals(model: Model, flat: np.ndarray) -> np.ndarray:
    response = model.law.responses[0]
    link, structure = LINKS[response.support], model.structure
    with double_precision():
        values = structure.values(flat[: structure.coordinates.dimension], model.data)
        means = np.asarray(structure.means(values, model.data, response))
    return (model.data["responses"][response.name]["y"] - link.forward(means))[: len(model.runs)]


def _huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def compare_with_baseline(fit: Fit, baseline: Fit, quantity: str = "a") -> Finding | None:
    """Whether the least-squares value of a quantity lies in the posterior's interval of three sds.

    None without it, and where what was fixed or tied leaves the quantity no other value. Of a quantity that differs by
    level, the level that agrees least is told, of those that both know.
    """
    posterior, point = fit.draws("posterior"), baseline.draws("posterior")
    if quantity not in posterior or quantity not in point:
        return None
    x, y = (np.reshape(v, (len(v), -1)) for v in (posterior[quantity], point[quantity]))
    levels = list(next(iter(fit.levels.values()))) if x.shape[1] > 1 else []
    if levels:
        known = list(next(iter(baseline.levels.values())))
        x, y = x[:, [n in known for n in levels]], y[:, [n in levels for n in known]]
        levels = [n for n in levels if n in known]
    if (x.std(axis=0) == 0).any():
        return None
    away = np.abs(y[0] - x.mean(axis=0)) / x.std(axis=0)
    worst_level = int(np.argmax(away))
    distance = float(away[worst_level])
    named = f"{quantity} of {levels[worst_level]}" if levels else quantity
    bounds = int(bounded_rows(fit.law.responses[0].source, fit.runs).sum())
    without = f" without the {bounds} runs that were not tuned" if bounds else ""
    message = f"least squares (Huber){without} gives {named} = {y[0, worst_level]:.3f}, "
    message += f"{distance:.1f} posterior sds from the mean"
    if distance > 3:
        message += f": {'those runs, ' if bounds else ''}noise model or group effects move the answer; compare noises "
        message += "before quoting it"
    return Finding(
        "baseline-agreement", "least-squares cross-check", "warn" if distance > 3 else "pass", distance, 3, message
    )
