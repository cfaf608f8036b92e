"""What a run would reach: the law's curve, a run of a known group, and a run of a new group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import (
    FAR,
    allocate,
    caveats,
    largest_compute,
    parameter_draws,
    require_amount,
    require_headline,
    require_within_reach,
)
from bayescale.errors import LawError, NotFittedFor, nearest, require_seed
from bayescale.law import Law, PooledLaw, argument_names
from bayescale.model import compiled, double_precision
from bayescale.model.observing import RANGE
from bayescale.noise import LINKS, NOISES
from bayescale.posterior import Fit, carried, finite, for_each_table, members_of, new_level, noise_scales, one_level
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, compute_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: What a forecast can be of.
KINDS = {
    "mean": "the law's curve: the average over groups and runs",
    "new_group": "one run of groups not seen before: curve, group effects and noise",
    "same_group": "one run of the named groups: curve, their estimated effects and noise",
}


#: The log by which a C that is given beside N and D may differ from 6ND.
_APART = 0.05
#: The share by which an input may differ from that of the level that it is asked at: labels are rounded.
_LEVEL_APART = 0.005


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecast losses at given inputs, over the posterior.

    `dataset` has the dims (point, chain, draw) and one variable a kind of forecast: mean, new_group and, when levels
    are named or the table is one run, same_group. `inputs` are the law's inputs at each point.
    """

    dataset: xr.Dataset
    inputs: Mapping[str, np.ndarray]
    prob: float
    extrapolation_ratio: np.ndarray
    law: str
    unit: str
    notes: tuple[str, ...] = ()
    kind: str = "credible"

    def interval(self, kind: str) -> np.ndarray:
        """Median and ends of the equal-tailed interval, shape (3, points)."""
        ends = [0.5, (1 - self.prob) / 2, (1 + self.prob) / 2]
        return np.quantile(np.asarray(self.dataset[kind]), ends, axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a point and kind."""
        import pandas as pd

        rows = []
        for kind in self.dataset.data_vars:
            for k, (median, lower, upper) in enumerate(self.interval(str(kind)).T):
                at = {name: v[k] for name, v in self.inputs.items()}
                rows.append({**at, "kind": kind, "median": median, "lower": lower, "upper": upper})
        frame = pd.DataFrame(rows)
        frame.attrs["prob"] = self.prob
        return frame

    def to_json(self) -> list[dict[str, Any]]:
        """One entry a point: its inputs, the extrapolation ratio and each kind's median and interval."""
        return [
            {
                "inputs": {name: float(v[k]) for name, v in self.inputs.items()},
                "extrapolation_ratio": finite(self.extrapolation_ratio[k]),
                **{
                    str(kind): dict(
                        zip(("median", "lower", "upper"), map(finite, self.interval(str(kind))[:, k]), strict=True)
                    )
                    for kind in self.dataset.data_vars
                },
            }
            for k in range(self.dataset.sizes["point"])
        ]

    def __repr__(self) -> str:
        lines = [f"<Forecast by {self.law} in {self.unit}, {self.prob:.0%} {self.kind} intervals"]
        for entry in self.to_json():
            at = ", ".join(f"{k} = {v:.4g}" for k, v in entry["inputs"].items())
            parts = [
                f"{kind} {entry[kind]['median']:.4g} ({entry[kind]['lower']:.4g} to {entry[kind]['upper']:.4g})"
                for kind in KINDS
                if kind in entry
            ]
            lines.append(f"  {at}: {'; '.join(parts)}")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        return f"<p>{self.prob:.0%} {self.kind} intervals</p>{self.frame().to_html(float_format='%.4g', index=False)}"


@for_each_table
def forecast(
    fit: Fit,
    *,
    N: Any = None,
    D: Any = None,
    C: Any = None,
    inputs: Mapping[str, Any] | None = None,
    levels: Mapping[str, str] | None = None,
    prob: float | None = None,
    seed: int = 0,
    draws: str = "headline",
    response: str | None = None,
    far_ok: bool = False,
) -> Forecast:
    """The response that runs would reach, for every draw (of a law with several, the first or the named one).

    Give the law's inputs: `N` and `D` (a missing one of N, D, C follows from C = 6ND), or by name in `inputs`; scalars
    or arrays of one length. With `C` alone the compute-optimal N and D are used, draw by draw. `levels`, as
    `{"params": "1e9"}`, names groups whose estimated effects are used for `same_group`, and the level of a column that
    the law's parameters differ by; without it a pooled law's curve is that of its average level, and a new group has a
    level of its own. Where checkpoints err alike, a run that is named, or that is the whole table, goes on from the one
    before, at the inputs of that run: the nearer it is, the narrower `same_group` is beside `new_group`, which is of
    another run. Only the checkpoint before counts (the first one before it), and every point is drawn by itself: the
    difference of two points of one run is less uncertain than these draws say.

    Raises `NotFittedFor` when an input of the law is missing, naming it, and (BS-R027) more than 1,000 times beyond the
    largest run, unless `far_ok`.

    Example:
        >>> bs.forecast(fit, N=1e9, D=2e10).frame()  # doctest: +SKIP
    """
    import xarray as xr

    seed = require_seed(seed)
    require_headline(fit, draws)
    if parts := members_of(fit):
        options = dict(N=N, D=D, C=C, inputs=inputs, levels=levels, prob=prob, seed=seed)
        return _of_members(fit, parts, {**options, "draws": draws, "response": response, "far_ok": far_ok})
    told = caveats(fit, draws)
    fit, novel, levels, about = _chosen(fit, levels, seed)
    law = fit.law
    named = {r.name: r for r in law.responses}
    if response is not None and response not in named:
        raise NotFittedFor(f"the law {law.name!r} has no response {response!r}", remedy=nearest(response, [*named]))
    predicted = named[response] if response else law.responses[0]
    suffix = "" if len(named) == 1 else f"_{predicted.name}"
    if law.likelihood is not None:
        raise NotFittedFor(
            f"the law {law.name!r} has an exact likelihood: simulate from it instead",
            remedy="fit.tree['posterior_predictive'] holds replicated responses.",
        )
    posterior = fit.tree[draws].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = parameter_draws(fit, draws, levels)
    alone = {i.name for i in law.inputs} == {"C"}
    optimal = N is None and D is None and not inputs and C is not None and not alone
    if optimal:
        at = {"C": np.atleast_1d(np.asarray(C, float))}

        def means(of: Fit, values: Mapping[str, np.ndarray]) -> np.ndarray:
            best = allocate(of, at["C"].tolist(), draws=draws, levels=levels, far_ok=far_ok)
            named_as = {"N": "params", "D": "tokens"}
            middles = {n: best.dataset[c] for n, c in named_as.items() if c in best.dataset}
            where.update({n: np.median(np.asarray(v), axis=(-2, -1)) for n, v in middles.items()})
            return np.asarray(best.dataset["loss"]).reshape(len(at["C"]), -1)

    else:
        at = _points(fit, N, D, C, inputs)

        def means(of: Fit, values: Mapping[str, np.ndarray]) -> np.ndarray:
            return curve(of, values, {i.name: at[i.name] for i in law.inputs}, predicted.name)

    where: dict[str, np.ndarray] = dict(at)
    mean = means(fit, values)
    link, rng = LINKS[predicted.support], np.random.default_rng([seed, 7])
    location = link.forward(mean)
    noise, taken = NOISES[fit.noise], fit.draws("posterior")
    shape_values = {p.name: taken[f"{p.name}{suffix}"] for p in noise.shape}
    sigma = noise_scales(fit, where, suffix)
    size = location.shape
    run_noise = sigma * noise.sample(rng, size, **shape_values)
    new = run_noise + (link.forward(means(novel, parameter_draws(novel, draws))) if novel else location)
    of_noise = {g["column"] for g in fit.info["groupings"] if "sigma" in (g.get("spread") or "")}
    learnt = [c for c in fit.group if c in of_noise or np.ptp(taken[f"tau_{c}{suffix}"]) > 0]
    for column in learnt:
        new = new + taken[f"tau_{column}{suffix}"] * rng.standard_normal(size)
    made = {"mean": mean, "new_group": link.inverse(new)}
    own = {p.over for p in law.parameters if p.over}
    alone = bool(fit.info["options"].get("curve")) and f"{RANGE.name}{suffix}" in taken and not optimal
    alone = alone and len(fit.runs.labels("run")[1]) == 1
    asked = dict(levels)
    levels = {column: str(v) for column, v in levels.items() if column in fit.group or column not in own}
    if alone and "run" in levels and levels["run"] in map(str, fit.runs.labels("run")[1]):
        del levels["run"]
    levels = _of_run(fit, levels) | levels
    _require_levels(fit, levels, suffix)
    _require_agreement(law, at, asked)
    carried_on = None
    if levels or alone:
        same = sigma * noise.sample(rng, size, **shape_values)
        goes_on = (alone or "run" in levels) and predicted is law.responses[0] and not about
        if goes_on:
            carried_on = carried(fit, at, asked, partial(_at_rows, fit, values, suffix), suffix)
        if carried_on is not None:
            same = carried_on.mean + carried_on.share * same
        same = location + same
        for column in fit.group:
            effects = fit.tree["posterior"][f"u_{column}{suffix}"]
            if column in levels:
                known = [str(v) for v in np.asarray(effects[f"level_{column}"])]
                same = same + np.asarray(effects)[..., known.index(levels[column])].reshape(-1)
            elif column in learnt:
                same = same + taken[f"tau_{column}{suffix}"] * rng.standard_normal(size)
        made["same_group"] = link.inverse(same)
    points = len(mean)
    dataset = xr.Dataset(
        {kind: (("point", "chain", "draw"), v.reshape(points, *shape)) for kind, v in made.items()},
        coords={"point": np.arange(points), "chain": posterior["chain"], "draw": posterior["draw"]},
    )
    compute = at.get("C", FLOPS_PER_PARAM_TOKEN * at["N"] * at["D"] if {"N", "D"} <= set(at) else np.nan)
    own = compute_of(fit.runs) if any(i.name == "C" for i in law.inputs) else None
    largest = largest_compute(fit.runs) if own is None else float(own.max())
    ratio = np.broadcast_to(compute / largest, (points,))
    if np.isfinite(ratio).any():
        require_within_reach(np.asarray(compute, float), largest, far_ok)
    notes = [*told, *about, *(f"{k}: {KINDS[k]}" for k in made)]
    if carried_on is not None:
        notes.append("same_group goes on from the checkpoint of the run that comes before, point by point")
    if few := [column for column in fit.group if column not in learnt]:
        notes.append(
            f"an average of the known levels of {', '.join(few)}: name one with levels= (--level {few[0]}=NAME)"
        )
    if np.nanmax(ratio, initial=0) > FAR:
        notes.append(f"up to {np.nanmax(ratio):.0f} times beyond the largest run: mostly the law's form")
    unit = fit.info["loss_unit"] if predicted.name == "loss" else predicted.unit
    return Forecast(dataset, at, fit.probability(prob), ratio, law.spec, unit, tuple(notes), fit.interval_kind(draws))


def _of_run(fit: Fit, levels: Mapping[str, str]) -> dict[str, str]:
    """The levels of other fitted groups that all rows of a named run share."""
    if "run" not in levels or "run" not in fit.group:
        return {}
    index, labels = fit.runs.labels("run")
    own = np.array([str(v) == levels["run"] for v in labels])[index]
    found = {}
    for column in fit.group:
        place, names = fit.runs.labels(column)
        if own.any() and len(shared := np.unique(place[own])) == 1:
            found[column] = str(names[shared[0]])
    return found


def _require_levels(fit: Fit, levels: Mapping[str, str], suffix: str) -> None:
    """Raise for a group that was not fitted, or a level that it does not have."""
    if unknown := sorted(set(levels) - set(fit.group)):
        raise LawError(
            f"no effect of {unknown[0]!r} was fitted",
            code="BS-L002",
            remedy=f"Groups of this fit: {', '.join(fit.group) or 'none'}.",
        )
    for column, level in levels.items():
        effects = fit.tree["posterior"][f"u_{column}{suffix}"]
        known = [str(v) for v in np.asarray(effects[f"level_{column}"])]
        if level not in known:
            raise NotFittedFor(f"{column!r} has no level {level!r}", remedy=nearest(level, known))


def _require_agreement(law: Law, at: Mapping[str, np.ndarray], levels: Mapping[str, str]) -> None:
    """Refuse the level of a column that is also an input of the law, and is asked about elsewhere."""
    for i in law.inputs:
        if i.dims or i.column not in levels or i.name not in at:
            continue
        try:
            own = float(levels[i.column])
        except ValueError:  # a level that is no number
            continue
        if (np.abs(at[i.name] - own) > _LEVEL_APART * abs(own)).any():
            raise NotFittedFor(
                f"the level of {i.column!r} is {i.name} = {own:g}, and {i.name} = {at[i.name].flat[0]:g} is asked",
                remedy=f"Ask at {i.name} = {own:g}, or leave the level out: a run of another {i.column} has an effect "
                "of its own.",
            )


def _at_rows(fit: Fit, values: Mapping[str, np.ndarray], suffix: str, rows: np.ndarray) -> np.ndarray:
    """The law and all known effects at rows of the table on the link scale, shape (rows, samples)."""
    law, runs = fit.law, fit.runs
    at = {i.name: np.stack([runs.values(c)[rows] for c in i.columns(runs.columns)], axis=-1) for i in law.inputs}
    at = {n: v if law.input(n).dims else v[:, 0] for n, v in at.items()}
    made = LINKS[law.responses[0].support].forward(curve(fit, values, at, law.responses[0].name))
    for column in fit.group:
        effects = fit.tree["posterior"][f"u_{column}{suffix}"]
        levels = [str(v) for v in np.asarray(effects[f"level_{column}"])]
        index, labels = fit.runs.labels(column)
        place = [levels.index(str(labels[k])) for k in index[rows]]
        made = made + np.asarray(effects).reshape(-1, len(levels)).T[place]
    return made


def _of_members(fit: Fit, parts: Sequence[tuple[Fit, np.ndarray]], options: Mapping[str, Any]) -> Forecast:
    """The forecast of a stack: every draw by the noise and groups of the fit that it comes from."""
    import xarray as xr

    made = [(forecast(part, **options), own) for part, own in parts]
    first = made[0][0]
    variables = {}
    for kind in first.dataset.data_vars:
        whole = np.empty((first.dataset.sizes["point"], *made[0][1].shape))
        for one, own in made:
            whole[:, own] = np.asarray(one.dataset[kind])[:, 0]
        variables[str(kind)] = (("point", "chain", "draw"), whole)
    posterior = fit.tree[options["draws"]].to_dataset()
    coords = {"point": first.dataset["point"], "chain": posterior["chain"], "draw": posterior["draw"]}
    notes = tuple(dict.fromkeys(n for one, _ in made for n in one.notes))
    kind = fit.interval_kind(options["draws"])
    return replace(first, dataset=xr.Dataset(variables, coords=coords), notes=notes, kind=kind)


def _chosen(
    fit: Fit, levels: Mapping[str, str] | None, seed: int
) -> tuple[Fit, Fit | None, dict[str, str], tuple[str, ...]]:
    """The fit of the level that is forecast, that of a level not seen before, the groups still named, and a note."""
    named = dict(levels or {})
    if not isinstance(fit.law, PooledLaw):
        return fit, None, named, ()
    column = fit.law.column
    if column in named:
        return one_level(fit, {column: named.pop(column)})[0], None, named, ()
    made, _, about = one_level(fit, None)
    return made, new_level(fit, np.random.default_rng([seed, 8])), named, about


def _points(fit: Fit, N: Any, D: Any, C: Any, inputs: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The law's inputs at every point, completed by C = 6ND and M = D/N."""
    given = {k: v for k, v in {"N": N, "D": D, "C": C, **(inputs or {})}.items() if v is not None}
    arrays = {k: np.atleast_1d(np.asarray(v, float)) for k, v in given.items()}
    k = FLOPS_PER_PARAM_TOKEN
    rules = {
        "C": (("N", "D"), lambda v: k * v["N"] * v["D"]),
        "D": (("C", "N"), lambda v: v["C"] / (k * v["N"])),
        "N": (("C", "D"), lambda v: v["C"] / (k * v["D"])),
        "M": (("N", "D"), lambda v: v["D"] / v["N"]),
    }
    units = {"N": "parameters", "D": "tokens", "C": "FLOP"} | {i.name: i.unit for i in fit.law.inputs}
    for name in (n for n, x in (("N", N), ("D", D), ("C", C)) if x is not None):
        if not (np.isfinite(arrays[name]) & (arrays[name] > 0)).all():
            raise NotFittedFor(f"{name} must be a positive number", remedy="For example --params 1e9 --tokens 2e10.")
        require_amount(arrays[name], units[name])
    apart = np.log(arrays["C"] / (k * arrays["N"] * arrays["D"])) if all(x is not None for x in (N, D, C)) else 0.0
    if np.max(np.abs(apart)) > _APART:  # inputs by name are taken as they are: tables count compute in other ways too
        raise NotFittedFor("N, D and C contradict one another: C = 6ND", remedy="Give two of them.")
    for name, (needs, rule) in rules.items():
        if name not in arrays and all(n in arrays for n in needs):
            one, other = needs
            if 1 != len(arrays[one]) != len(arrays[other]) != 1:
                raise NotFittedFor(f"{one} has {len(arrays[one])} values where {other} has {len(arrays[other])}")
            arrays[name] = rule(arrays)
    for name in (n for n in "NDC" if n in arrays):
        require_amount(arrays[name], units[name])
    for i in fit.law.inputs:
        if i.name not in arrays:
            raise NotFittedFor(
                f"the law {fit.law.name!r} needs {i.name} ({i.meaning})",
                remedy=f"Give {' and '.join(j.name for j in fit.law.inputs)}.",
            )
        bad = ~np.isfinite(arrays[i.name]) | ((arrays[i.name] <= 0) & (i.centre == "ratio"))
        if bad.any():
            raise NotFittedFor(f"{i.name} must be a positive number", remedy=f"Give {i.name} in {i.unit}.")
    scalars = {n: v for n, v in arrays.items() if not _is_vector(fit, n)}
    count = max((len(v) for v in scalars.values()), default=1)
    for name, v in scalars.items():
        if len(v) not in (1, count):
            raise NotFittedFor(f"{name} has {len(v)} values where others have {count}")
        arrays[name] = np.broadcast_to(v, (count,)).copy()
    return arrays


def _is_vector(fit: Fit, name: str) -> bool:
    return any(i.name == name and i.dims for i in fit.law.inputs)


def curve(
    fit: Fit, values: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray], response: str | None = None
) -> np.ndarray:
    """The law's curve at given inputs for given draws of its parameters, shape (points, samples)."""
    import jax

    formulas = fit.law.formulas()
    formula = formulas[response] if response else next(iter(formulas.values()))
    names = set(argument_names(formula))
    fixed = {k: v for k, v in fit.references.items() if k in names}
    known = {k: np.asarray(v, float) for k, v in values.items() if k in names}
    vectors = {i.name for i in fit.law.inputs if i.dims}
    points = {k: np.atleast_2d(v) if k in vectors else v for k, v in at.items() if k in names}

    def means(points, known, fixed):
        return jax.vmap(lambda p: jax.vmap(lambda draw: formula(**p, **draw, **fixed))(known))(points)

    with double_precision():
        return np.asarray(compiled(("curve", fit.law, response), means, points, known, fixed)(points, known, fixed))
