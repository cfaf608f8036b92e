"""Answers of laws whose users decide more than a size and its data: width and depth, sparsity, mixtures, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation.budgets import NEAR_OPTIMAL, Cost, largest_compute, require_within_reach
from bayescale.allocation.planning import Plan, active_share, coefficients, cost_of, of_shapes, plan_of
from bayescale.allocation.record import TOLD, Allocation
from bayescale.allocation.searching import least_in_box, least_mixture, near_in_box, near_mixture, over_draws
from bayescale.errors import NotFittedFor, nearest
from bayescale.law import Input, Law, argument_names, call
from bayescale.model import compiled, double_precision
from bayescale.posterior import Fit, levels_of
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, short

if TYPE_CHECKING:
    import xarray as xr

#: A share of the draws at an edge, or outside the runs, that is said.
SAID = 0.05
#: Near-optimal mixtures are looked for in so many draws, whose median is told; the choice of the least mean loss in
#: so many.
_NEAR_DRAWS, _MEAN_DRAWS = 100, 400


def decide(
    fit: Fit,
    budgets: np.ndarray | None,
    *,
    about: tuple[str, ...],
    prob: float | None,
    max_params: float | None,
    cost: str,
    given: Mapping[str, float],
    levels: Mapping[str, str],
    weights: Mapping[str, float] | None,
    draws: str,
    far_ok: bool,
) -> Allocation:
    """What `allocate` answers for a law with a decision of its own; see there."""
    law, runs = fit.law, fit.runs
    plan = plan_of(law, budgets is not None, given)
    rule = cost_of(plan, runs, cost)
    largest = largest_compute(runs, rule, active_share(law, runs)) if budgets is not None else float("nan")
    if budgets is not None:
        require_within_reach(budgets, largest, far_ok)
    spent = given.get("C", FLOPS_PER_PARAM_TOKEN * given["N"] * given["D"] if {"N", "D"} <= set(given) else None)
    if spent is not None and np.isfinite(most := largest_compute(runs)):
        require_within_reach(np.array([spent], float), most, far_ok)
    if max_params is not None and not plan.splits:
        raise NotFittedFor(
            f"nothing splits a size from a budget here, so no cap of {max_params:.3g} parameters can bind",
            remedy="Give the size, as given={'N': …}, or leave the cap out.",
        )
    values, weighed, told = _levels(fit, draws, levels, weights)
    notes = [*about, *told, *of_shapes(plan, runs), *_of_given(law, runs, given)]
    data: dict[str, list[np.ndarray]] = {}
    units: dict[str, str] = {}
    for C in [float("nan")] if budgets is None else budgets:
        budget = {
            "C": np.asarray(C, float),
            "cost": rule.numbers,
            "given": {k: np.asarray(float(v)) for k, v in given.items()},
            "follows": coefficients(plan, runs),
        }
        found, units = _read(fit, plan, values, weighed, budget) if law.decides.reads else _found(  # type: ignore[union-attr]
            fit, plan, rule, values, weighed, budget, max_params
        )  # fmt: skip
        if not all(np.isfinite(x).any() for n, x in found.items() if n in {*units, "params", "loss"}):
            raise NotFittedFor(
                f"the law {law.name!r} has no value for what was given", remedy="See the domain of its inputs."
            )
        notes += _of_edges(plan, found, runs, float(C))
        if max_params is not None and (bound := float((found["params"] >= 0.999 * max_params).mean())):
            notes.append(f"the cap of {max_params:.3g} parameters binds in {bound:.0%} of the draws at {C:.3g} FLOP")
        for name, x in found.items():
            data.setdefault(name, []).append(x)
    return _recorded(fit, plan, data, units, budgets, rule, largest, prob, draws, tuple(dict.fromkeys(notes)))


def _of_given(law: Law, runs: Runs, given: Mapping[str, float]) -> list[str]:
    """Which of what was given lies outside the table's runs."""
    notes = []
    for name, x in given.items():
        i = law.input(name)
        if i.dims or not all(runs.has(c) for c in i.columns(runs.columns)):
            continue
        values = _values(i, runs)
        least, most = float(np.nanmin(values)), float(np.nanmax(values))
        if not least * (1 - 1e-9) <= float(x) <= most * (1 + 1e-9):
            notes.append(f"{name} = {short(float(x))} is outside the runs' {short(least)} to {short(most)}")
    return notes


def _levels(
    fit: Fit, draws: str, levels: Mapping[str, str], weights: Mapping[str, float] | None
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """The law's parameters by draw with an axis of levels where they differ, what each weighs, and a note."""
    taken, law = fit.draws(draws), fit.law
    if missing := [p.name for p in law.parameters if p.name not in taken]:
        raise NotFittedFor(f"the parameters {missing} differ by level", remedy="Fit one level alone with --where.")
    column = next((p.over for p in law.parameters if p.over), None)
    if column is None:
        if weights:
            raise NotFittedFor(
                f"{law.name!r} has one {law.responses[0].name}: there is nothing to weigh",
                remedy="Levels of a column weigh: fit them together with over=COLUMN.",
            )
        return {p.name: taken[p.name] for p in law.parameters}, np.ones(1), []
    known, chosen = levels_of(fit), levels.get(column)
    if other := sorted(set(levels) - {column}):
        raise NotFittedFor(f"{law.name!r} has no levels of {other[0]!r}", remedy=f"Its levels are of {column!r}.")
    if chosen is not None and weights:
        raise NotFittedFor(f"level {chosen!r} is named: no mean is taken", remedy="Give a level, or weights.")
    for level in (*([chosen] if chosen is not None else ()), *(weights or {})):
        if str(level) not in known:
            raise NotFittedFor(f"{column!r} has no level {level!r}", remedy=nearest(str(level), [*known]))
    weighed = np.array([(weights or dict.fromkeys(known, 1.0)).get(n, 0.0) for n in known], float)
    if chosen is not None:
        weighed = np.array([float(n == str(chosen)) for n in known])
    if not (np.isfinite(weighed).all() and (weighed >= 0).all() and weighed.sum() > 0):
        raise NotFittedFor("weights must be numbers of at least zero, and one of them above", remedy="As {'web': 2.0}.")
    weighed = weighed / weighed.sum()
    told = ", ".join(f"{w:.3g} {n}" for n, w in zip(known, weighed, strict=True) if w > 0)
    notes = [] if chosen is not None else [f"the mean of {law.responses[0].name} over {column}, weighed {told}"]
    return {p.name: taken[p.name] for p in law.parameters}, weighed, notes


def _loss(plan: Plan, weighed: bool):
    """The first response of one draw at a point of the search: the weighted mean over levels where they differ."""
    import jax
    import jax.numpy as jnp

    law = plan.law
    formula = next(iter(law.formulas().values()))
    names, over = set(argument_names(formula)), {p.name for p in law.parameters if p.over}

    def at(inputs, draw, fixed, weights):
        known = {k: v for k, v in {**fixed, **inputs, **draw}.items() if k in names}
        if not weighed:
            return formula(**known)
        shared = {k: v for k, v in known.items() if k not in over}
        levels = {k: v for k, v in known.items() if k in over}
        return jnp.dot(weights, jax.vmap(lambda own: formula(**shared, **own))(levels))

    return at


def _box(plan: Plan, rule: Cost, runs: Runs, C: float, max_params: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Where coordinates are looked for: the table's range, widened where the law may be read beyond it."""
    low, high = [], []
    for c in plan.choices:
        values = _values(plan.law.input(c.name), runs)
        ends = np.stack([values.min(axis=0), values.max(axis=0)])
        if plan.mixture is not None:
            return ends[0], ends[1]
        ends = np.log(ends) + np.log(c.beyond) * np.array([-1, 1]) if c.scale == "log" else ends
        low.append(ends[0])
        high.append(ends[1])
    if plan.splits:
        most = float(rule.log_largest(np.log(C)))
        if (
            active := active_share(plan.law, runs)
        ) is not None:  # a sparse model holds more parameters than compute counts
            most -= float(np.log(active.min()))
        low.append(0.0)
        high.append(most if max_params is None else min(most, float(np.log(max_params))))
    return np.array(low, float), np.array(high, float)


def _values(i: Input, runs: Runs) -> np.ndarray:
    columns = i.columns(runs.columns)
    found = np.stack([runs.values(c) for c in columns], axis=-1)
    return found if i.dims else found[:, 0]


def _found(
    fit: Fit,
    plan: Plan,
    rule: Cost,
    values: Mapping[str, np.ndarray],
    weighed: np.ndarray,
    budget: Mapping[str, Any],
    max_params: float | None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The best choice of every draw, its loss and near-optimal sets, and units of what is told."""
    import jax
    import jax.numpy as jnp

    law, runs = plan.law, fit.runs
    low, high = _box(plan, rule, runs, float(budget["C"]), max_params)
    names = set(argument_names(next(iter(law.formulas().values()))))
    known = {k: np.asarray(v, float) for k, v in values.items() if k in names}
    fixed = {k: np.asarray(v, float) for k, v in fit.references.items() if k in names}
    loss = _loss(plan, any(p.over for p in law.parameters))
    mixed = plan.mixture is not None

    def program(known, budget, low, high, fixed, weights):
        def one(draw):
            def of(x):
                return loss(plan.inputs(x, budget, jnp), draw, fixed, weights)

            x = least_mixture(of, low, high) if mixed else least_in_box(of, low, high)
            best = of(x)
            found = {"x": x, "loss": best}
            if not mixed:
                found["near"] = near_in_box(of, x, low, high, best + NEAR_OPTIMAL * jnp.abs(best))
            return found

        return over_draws(one, known)

    def taken(known, some, budget, low, high, fixed, weights):
        def at(x, draw):
            return loss(plan.inputs(x, budget, jnp), draw, fixed, weights)

        def mean(x):
            return jnp.mean(jax.vmap(lambda draw: at(x, draw))(some))

        x = least_mixture(mean, low, high) if mixed else least_in_box(mean, low, high)
        return x, over_draws(lambda draw: at(x, draw), known)

    def nearby(known, x, low, high, budget, fixed, weights):
        def one(arguments):
            draw, r = arguments

            def of(r):
                return loss(plan.inputs(r, budget, jnp), draw, fixed, weights)

            best = of(r)
            return near_mixture(of, r, low, high, best + NEAR_OPTIMAL * jnp.abs(best))

        return over_draws(one, (known, x))

    with double_precision():
        arguments = (known, budget, low, high, fixed, weighed)
        out = {k: np.asarray(v) for k, v in compiled(("decide", plan.key), program, *arguments)(*arguments).items()}
        spread = _spread(len(out["x"]), _MEAN_DRAWS)
        arguments = (known, {k: v[spread] for k, v in known.items()}, budget, low, high, fixed, weighed)
        found = compiled(("decide once", plan.key), taken, *arguments)(*arguments)
        out["taken"], out["loss taken"] = map(np.asarray, found)
        if mixed:
            every = _spread(len(out["x"]), _NEAR_DRAWS)
            some = ({k: v[every] for k, v in known.items()}, out["x"][every], low, high, budget, fixed, weighed)
            near = np.full((*out["x"].shape, 2), np.nan)
            near[every] = np.asarray(compiled(("decide near", plan.key), nearby, *some)(*some))
            out["near"] = near
    return _named(fit, plan, values, out, low, high, budget)


def _spread(count: int, most: int) -> np.ndarray:
    """So many draws at most, evenly spread over the chains."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _named(
    fit: Fit,
    plan: Plan,
    values: Mapping[str, np.ndarray],
    out: Mapping[str, np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    budget: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What was found under the names of a record, in its units."""
    law, runs, x = plan.law, fit.runs, out["x"].T
    width = np.where(high > low, high - low, 1.0)[:, None]
    at_low, at_high = (x - low[:, None]) < 1e-6 * width, (high[:, None] - x) < 1e-6 * width
    found: dict[str, np.ndarray] = {
        "loss": out["loss"],
        "regret": (out["loss taken"] - out["loss"]) / np.abs(out["loss"]),
    }
    units: dict[str, str] = {}
    labels = _labels(plan, runs)
    for k, (name, log, unit, range_) in enumerate(labels):
        near = out["near"][:, k]
        for end in (low[k], high[k]):  # a search by halves comes near an end and never reaches it
            near = np.where(np.abs(near - end) < 1e-6 * width[k], end, near)
        chosen, near, taken = (np.exp(v) if log else v for v in (x[k], near, out["taken"][k]))
        found[f"{name}_taken"] = np.asarray(taken)
        if name == "params":
            found |= {"params": chosen, "near_lower": near[:, 0], "near_upper": near[:, 1]}
            continue
        units[name] = unit
        slack = 1e-9 * max(map(abs, range_))
        inside = (chosen >= range_[0] - slack) & (chosen <= range_[1] + slack)
        found |= {name: chosen, f"{name}_near_lower": near[:, 0], f"{name}_near_upper": near[:, 1]}
        found |= {
            f"{name}_inside": np.asarray(inside.mean()),
            f"{name}_edge": np.asarray((at_low | at_high)[k].mean()),
            f"{name}_low": np.asarray(at_low[k].mean()),
        }
    point = x if plan.mixture is not None else [*x]
    known = plan.inputs(point, budget, np)
    return found | _sizes(plan, known, x.shape[1]) | shown(law, {**values, **known}, x.shape[1], units), units


def _sizes(plan: Plan, known: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """The size and what a budget buys for it, by draw."""
    made = {}
    for name, column in (("N", "params"), ("D", "tokens")):
        if name in known and plan.bought:
            made[column] = np.broadcast_to(np.asarray(known[name], float), (count,))
    if made:
        made["tokens_per_param"] = made["tokens"] / made["params"]
    return made


def shown(law: Law, known: Mapping[str, Any], count: int, units: dict[str, str]) -> dict[str, np.ndarray]:
    """What a law shows beside what is chosen, by draw; `units` gains their units."""
    made = {}
    for name, d in (law.decides.shows if law.decides else {}).items():
        with double_precision():
            made[name] = np.broadcast_to(np.asarray(call(d.function, known), float), (count,))
        units[name] = d.unit
    return made


def _labels(plan: Plan, runs: Runs) -> list[tuple[str, bool, str, tuple[float, float]]]:
    """Name, whether it is searched in logs, unit and the table's range of every coordinate."""
    made = []
    for c in plan.choices:
        i = plan.law.input(c.name)
        values = _values(i, runs)
        if i.dims:
            for column, v in zip(i.columns(runs.columns), values.T, strict=True):
                made.append((f"{i.name}[{column}]", False, i.unit, (float(v.min()), float(v.max()))))
        else:
            made.append((i.name, c.scale == "log", i.unit, (float(values.min()), float(values.max()))))
    return [*made, *([("params", True, "parameters", (0.0, np.inf))] if plan.splits else [])]


def _read(
    fit: Fit, plan: Plan, values: Mapping[str, np.ndarray], weighed: np.ndarray, budget: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The responses of a law that predicts what is decided, at what was given."""
    known = plan.inputs((), budget, np)
    count = len(next(iter(values.values())))
    found, units = {}, {}
    if plan.law.optimum is not None and "C" not in plan.given:  # an optimum as a power of compute: what splits it
        fixed = {k: float(v) for k, v in fit.references.items() if np.ndim(v) == 0}
        with double_precision():
            n, d = (np.asarray(x, float) for x in call(plan.law.optimum, {**fixed, **known, **values}))
        return {"params": n, "tokens": d, "tokens_per_param": d / n}, {}
    fixed = {k: float(v) for k, v in fit.references.items() if np.ndim(v) == 0}
    for r in plan.law.responses:
        with double_precision():
            x = np.asarray(call(plan.law.formulas()[r.name], {**fixed, **known, **values}), float)
        found[r.name] = np.broadcast_to(x, (count,))
        seen = fit.runs.values(r.source)
        found[f"{r.name}_inside"] = np.asarray(((x >= np.nanmin(seen)) & (x <= np.nanmax(seen))).mean())
        if r.name not in TOLD and r.source not in TOLD:
            units[r.name] = r.unit
    return found | _sizes(plan, known, count), units


def _of_edges(plan: Plan, found: dict[str, np.ndarray], runs: Runs, C: float) -> list[str]:
    """Which choices lie at the end of where they were looked for, and which outside the table's runs."""
    notes, where = [], f" at {C:.3g} FLOP" if np.isfinite(C) else ""
    beyond = {c.name: c.beyond for c in plan.choices}
    mixed: dict[str, list[str]] = {"least": [], "most": []}
    for name, _, _, (least, most) in _labels(plan, runs):
        if f"{name}_edge" not in found:
            continue
        low = float(found.pop(f"{name}_low"))
        edge, inside = float(found[f"{name}_edge"]), float(found[f"{name}_inside"])
        factor = beyond.get(name, 1.0)
        for share, end, value in ((low, "least", least / factor), (edge - low, "most", most * factor)):
            if plan.mixture is not None:
                mixed[end] += [f"{name} ({share:.0%})"] if share >= SAID else []
            elif share >= SAID:
                limit = "that the runs have" if factor == 1 else f"looked for, {factor:g} times beyond the runs"
                notes.append(
                    f"{name}{where}: {share:.0%} of the draws take the {end} {limit} ({short(value)}), an edge and not "
                    "an optimum"
                )
        if factor > 1 and 1 - inside >= SAID:
            notes.append(
                f"{name}{where}: {1 - inside:.0%} of the draws lie outside the runs' {short(least)} to {short(most)}"
            )
    for end, names in mixed.items():
        if names:
            told = ", ".join(names)
            notes.append(f"the {end} that the runs have, an edge and not an optimum, in so many draws: {told}")
    if (i := plan.mixture) is not None:
        names = [f"{i.name}[{c}]_taken" for c in i.columns(runs.columns)]
        off = np.abs(_values(i, runs) - np.array([float(found[n]) for n in names])).sum(axis=1).min() / 2
        if off >= SAID:
            notes.append(f"the mixture to take differs from that of the nearest run in {off:.0%} of its shares")
    for r in plan.law.responses:
        outside = 1 - float(found.get(f"{r.name}_inside", 1.0))
        if plan.law.decides is not None and plan.law.decides.reads and outside >= SAID:
            least, most = (short(float(end(runs.values(r.source)))) for end in (np.nanmin, np.nanmax))
            notes.append(f"{r.name}{where}: {outside:.0%} of the draws lie outside the runs' {least} to {most}")
    return notes


def _recorded(
    fit: Fit,
    plan: Plan,
    data: Mapping[str, list[np.ndarray]],
    units: Mapping[str, str],
    budgets: np.ndarray | None,
    rule: Cost,
    largest: float,
    prob: float | None,
    draws: str,
    notes: tuple[str, ...],
) -> Allocation:
    import xarray as xr

    taken = fit.tree[draws].to_dataset()
    shape = (taken.sizes["chain"], taken.sizes["draw"])
    variables: dict[str, Any] = {}
    for name, columns in data.items():
        if columns[0].ndim:
            variables[name] = (("flops", "chain", "draw"), np.stack([x.reshape(shape) for x in columns]))
        else:
            variables[name] = (("flops",), np.stack(columns))
    dataset: xr.Dataset = xr.Dataset(
        variables,
        coords={
            "flops": np.array([np.nan]) if budgets is None else budgets,
            "chain": taken["chain"],
            "draw": taken["draw"],
        },
        attrs={"law": plan.law.spec, "cost": rule.meaning, "near_optimal": NEAR_OPTIMAL, "draws": draws},
    )
    return Allocation(
        dataset,
        fit.probability(prob),
        largest,
        plan.law.spec,
        rule.meaning,
        fit.runs.loss_unit,
        fit.runs.source,
        notes,
        fit.interval_kind(draws),
        dict(units),
    )
