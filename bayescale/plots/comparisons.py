"""The numbers of figures that hold a fit against its runs and its prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import NotFittedFor, nearest
from bayescale.forecasting import forecast
from bayescale.noise import LINKS, NOISES
from bayescale.plots.draws import DRAWS, ends, thinned
from bayescale.posterior import Fit, flattened, noise_scales, require_examined, require_one_model
from bayescale.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Residuals:
    """Every run against the law: `table` (observed, median, lower, upper, residual) and the `band` that noise and group
    effects should fill; residuals are in `unit`."""

    table: pd.DataFrame
    band: tuple[float, float] | None
    unit: str
    filled_by: str


def residual_table(fit: Fit, *, prob: float | None = None, seed: int = 0) -> Residuals:
    """Every run's observed response, the law's median curve at its inputs, the interval of one run there, the residual.

    Where the law's curve cannot be evaluated on its own (an exact likelihood, parameters by level, several responses),
    the replicated responses of the fit stand in for it.
    """
    import pandas as pd

    law, runs, prob = fit.law, fit.runs, fit.probability(prob)
    response = law.responses[0]
    used: np.ndarray = np.full(len(runs), True)
    if len(law.responses) > 1 and runs.has("response"):
        used = np.asarray([str(v) == response.name for v in runs.frame["response"]])
    observed = runs.values(response.source)[used]
    link = LINKS.get(response.support, LINKS["real"])
    band, filled = None, ""
    if law.likelihood is None and len(law.responses) == 1 and not any(p.over for p in law.parameters):
        few = thinned(fit)
        made = forecast(few, inputs=_inputs(fit), prob=prob, seed=seed, draws="posterior")
        middle, (_, lower, upper) = made.interval("mean")[0], made.interval("new_group")
        band, filled = _band(few, runs, observed, prob, seed), "noise + groups" if fit.group else "noise band"
    elif response.name in fit.tree["posterior_predictive"]:
        replicated = fit.tree["posterior_predictive"].to_dataset()[response.name].to_numpy()[..., used]
        middle, lower, upper = np.quantile(replicated, ends(prob), axis=(0, 1))
    else:
        raise NotFittedFor(
            f"the law {law.name!r} has an exact likelihood that replicates no responses to compare with the runs"
        )
    residual, unit = link.forward(observed) - link.forward(middle), {"log": "%"}.get(link.name, link.name)
    if link.name == "log":
        residual = 100 * np.expm1(residual)
        band = None if band is None else (100 * np.expm1(band[0]), 100 * np.expm1(band[1]))
    elif link.name == "identity":
        unit = fit.info["loss_unit"] if response.name == "loss" else response.unit
    table = pd.DataFrame(
        dict(observed=observed, median=middle, lower=lower, upper=upper, residual=residual),
        index=runs.frame.index[used],
    )
    return Residuals(table, band, unit, filled)


def _inputs(fit: Fit) -> dict[str, np.ndarray]:
    """The law's inputs at the runs; a vector input has one column an axis."""
    made = {}
    for i in fit.law.inputs:
        values = np.stack([fit.runs.values(c) for c in i.columns(fit.runs.columns)], axis=-1)
        made[i.name] = values if i.dims else values[:, 0]
    return made


def _band(fit: Fit, runs: Runs, observed: np.ndarray, prob: float, seed: int) -> tuple[float, float]:
    """Where a run's distance from the curve should lie on the link scale, over the posterior of noise and spreads."""
    response, draws, rng = fit.law.responses[0], fit.draws("posterior"), np.random.default_rng([seed, 9])
    require_one_model(fit)
    noise, repeats = NOISES[fit.noise], 8
    # Rows differ in their scale where it grows, and in their measurement error: the band is that of a typical one.
    scale = np.tile(np.median(noise_scales(fit, _inputs(fit)), axis=0), repeats)
    if runs.has(f"{response.source}_se"):
        slope = np.exp(LINKS[response.support].log_slope(observed))
        scale = np.hypot(scale, np.median(runs.values(f"{response.source}_se") * slope))
    shape = {p.name: np.tile(draws[p.name], repeats) for p in noise.shape}
    deviation = scale * noise.sample(rng, len(scale), **shape)
    for column in fit.group:
        deviation = deviation + np.tile(draws[f"tau_{column}"], repeats) * rng.standard_normal(len(scale))
    low, high = np.quantile(deviation, ends(prob)[1:])
    return float(low), float(high)


def group_effects(fit: Fit, *, prob: float | None = None) -> tuple[pd.DataFrame, str]:
    """Every level's estimated effect (column, level, median, lower, upper), in the order of the levels, and its unit.

    Raises `NotFittedFor` when no groups were fitted.
    """
    import pandas as pd

    posterior, prob = fit.tree["posterior"], fit.probability(prob)
    if not fit.group:
        raise NotFittedFor(
            "no group effects were fitted", code="BS-F002", remedy='Fit with group="auto", or name columns.'
        )
    response = fit.law.responses[0]
    link, parts = LINKS[response.support], []
    for column in fit.group:
        name = f"u_{column}" if f"u_{column}" in posterior else f"u_{column}_{response.name}"
        effect = np.asarray(posterior[name])
        effect = 100 * np.expm1(effect) if link.name == "log" else effect
        median, lower, upper = np.quantile(effect, ends(prob), axis=(0, 1))
        levels = [str(v) for v in np.asarray(posterior[f"level_{column}"])]
        parts.append(pd.DataFrame(dict(column=column, level=levels, median=median, lower=lower, upper=upper)))
    unit = "%" if link.name == "log" else link.name if link.name == "logit" else fit.info["loss_unit"]
    return pd.concat(parts, ignore_index=True), unit


def scalars(fit: Fit, names: Sequence[str] | None = None) -> dict[str, tuple[Any, Any]]:
    """Draws of the prior and of the headline by name, chains joined, elements of vectors as `name[label]`.

    Without names: the law's parameters, its noise, the spreads of groups, and the first derived quantity, without what
    was fixed. Raises `NotFittedFor` for a name that is not there or has no spread.
    """
    require_examined(fit)
    prior = {k: v.ravel() for k, v in flattened(fit.tree["prior"].to_dataset())}
    after = {k: v.ravel() for k, v in flattened(fit.tree["headline"].to_dataset())}
    free = [n for n in after if n in prior and np.ptp(prior[n]) > 0 and np.ptp(after[n]) > 0]
    if names is None:
        # A contribution says again what its parameter says, and parameters by level have a figure of their own.
        law = {p.name for p in fit.law.parameters if not p.over} | {*list(fit.law.derived)[:1]}
        every = {p.name for p in (*fit.law.parameters, *fit.law.coordinates())} | {*fit.law.derived}
        shown = [n for n in free if (root := n.split("[")[0]) in law or root not in every]
        order = {name: k for k, name in enumerate([p.name for p in fit.law.parameters])}
        names = sorted(shown, key=lambda n: order.get(n.split("[")[0], len(order)))
    for name in names:
        if name not in after or name not in prior:
            raise NotFittedFor(f"the fit reports no {name!r}", remedy=nearest(name, free))
        if name not in free:
            raise NotFittedFor(f"{name!r} was fixed: it has neither prior nor posterior", remedy="Leave it out.")
    return {n: (prior[n], after[n]) for n in names}


def density(x: np.ndarray, grid: np.ndarray, lower: float | None, upper: float | None) -> np.ndarray:
    """A kernel density estimate on a grid, mirrored at hard bounds so that nothing leaks past them."""
    from scipy import stats

    estimate = stats.gaussian_kde(x[:: -(-len(x) // DRAWS)])
    values = estimate(grid)
    for bound in (lower, upper):
        if bound is not None:
            values = values + estimate(2 * bound - grid)
    inside = (grid >= (lower if lower is not None else -np.inf)) & (grid <= (upper if upper is not None else np.inf))
    return np.where(inside, values, 0.0)
