"""Budgets and what they cost: how compute is counted, what may be asked of it, and its best split by a law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayescale.allocation.searching import bisected
from bayescale.errors import LawError, NotFittedFor, nearest
from bayescale.law import LOSS_UNITS, Law, argument_names, call
from bayescale.model import compiled, double_precision
from bayescale.posterior import Fit
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, MOST_OF, Runs, compute_of

#: A model is near-optimal when its loss is within this share of the best loss at the budget.
NEAR_OPTIMAL = 1e-3
#: Above this ratio of a budget to the largest run, an answer is mostly the law's form.
FAR = 10.0
#: Above this ratio nothing in the table bears on the answer: it is given only when asked for.
ABSURD = 1e3
_GRID = 400
#: The least and the most that anyone could have, by the unit of an input, and the option that gives it.
_AMOUNTS = {
    "parameters": (1.0, MOST_OF["params"], "--params 7e9"),
    "tokens": (1.0, MOST_OF["tokens"], "--tokens 2e10"),
    "FLOP": (FLOPS_PER_PARAM_TOKEN, MOST_OF["flops"], "--flops 1e21"),
}


@dataclass(frozen=True)
class Cost:
    """How compute follows from model size and data: C = 6 N D exp(log_factor) N**slope, both 0 by convention.

    Beyond the log sizes `low` and `high` that it was learnt between, the factor stays what it is there.
    """

    name: str
    meaning: str
    log_factor: float = 0.0
    slope: float = 0.0
    low: float = -1e3
    high: float = 1e3

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """What a compiled program takes of it."""
        return {n: np.asarray(getattr(self, n), float) for n in ("log_factor", "slope", "low", "high")}

    def log_times(self, log_N):
        """The log of what a model size costs over 6ND; any array type."""
        low, high = (log_N < self.low) * (self.low - log_N), (log_N > self.high) * (self.high - log_N)
        return self.log_factor + self.slope * (log_N + low + high)

    def log_tokens(self, log_N, log_C):
        """The log of the training tokens that a budget buys for a model size; any array type."""
        return log_C - np.log(FLOPS_PER_PARAM_TOKEN) - self.log_times(log_N) - log_N

    def log_largest(self, log_C):
        """The log of the model size for which a budget buys one token."""
        one = size = log_C - np.log(FLOPS_PER_PARAM_TOKEN)
        for _ in range(30):
            size = one - self.log_times(size)
        return size

    def flops(self, N, D):
        """The compute of training a model of size N on D tokens."""
        return FLOPS_PER_PARAM_TOKEN * np.exp(self.log_times(np.log(N))) * N * D


def _common(runs: Runs, active: np.ndarray | None = None) -> Cost:
    return Cost("6nd", "C = 6ND")


def _of_table(runs: Runs, active: np.ndarray | None = None) -> Cost:
    """C / 6ND of the table's own runs as a power of N, by least squares on logarithms; N is what is `active` of it.

    Beyond their sizes it stays what it is at the ends: a power law would go below the compute of 6ND.
    """
    if not all(runs.has(c) for c in ("params", "tokens", "flops")):
        raise NotFittedFor(
            "the table has no compute column of its own to learn a cost from",
            remedy="Use the default cost, 6nd.",
        )
    N, D, C = (runs.values(c) for c in ("params", "tokens", "flops"))
    N = N if active is None else N * active
    ratio = np.log(C / (FLOPS_PER_PARAM_TOKEN * N * D))
    if np.ptp(np.log(N)) == 0:
        return Cost("table", "C = 6ND times the table's own factor", float(ratio.mean()), 0.0)
    slope, level = np.polyfit(np.log(N), ratio, 1)
    meaning = f"C = 6ND · {np.exp(level):.3g} N^{slope:.3g} within the runs' sizes, from the table's own compute"
    return Cost("table", meaning, float(level), float(slope), float(np.log(N.min())), float(np.log(N.max())))


#: Ways to count compute, by name: each makes a `Cost` from the table that was fitted.
COSTS: dict[str, Callable[..., Cost]] = {"6nd": _common, "table": _of_table}


def cost_named(name: str, runs: Runs, active: np.ndarray | None = None) -> Cost:
    """The cost of that name for a table, whose compute counts the share `active` of every row's parameters.

    Raises `LawError` (BS-L002) naming those known.
    """
    if name.lower() not in COSTS:
        raise LawError(f"no cost {name!r}", code="BS-L002", remedy=nearest(name, [*COSTS]))
    return COSTS[name.lower()](runs, active)


def largest_compute(runs: Runs, cost: Cost | None = None, active: np.ndarray | None = None) -> float:
    """The compute of the largest run, counted as a budget is; not a number where the table tells none."""
    C = _as_budgets(runs, cost, active)
    return float("nan") if C is None else float(C.max())


def least_compute(runs: Runs) -> float:
    """The compute of the smallest run, counted as a budget is; not a number where the table tells none."""
    C = _as_budgets(runs)
    return float("nan") if C is None else float(C.min())


def _as_budgets(runs: Runs, cost: Cost | None = None, active: np.ndarray | None = None) -> np.ndarray | None:
    """The compute of every run, counted as a budget is: by a cost (6ND if none is given) where the table has sizes and
    tokens, else its own figure; None where it tells neither. It counts what is `active` of the sizes."""
    if runs.has("params") and runs.has("tokens"):
        rule = cost or _common(runs)
        N = runs.values("params") * (1.0 if active is None else active)
        return np.asarray(rule.flops(N, runs.values("tokens")))
    return compute_of(runs)


def require_budgets(flops: Any) -> np.ndarray:
    """Budgets of compute as an array.

    Raises `NotFittedFor` (BS-F001) for none, and for what is no positive number, (BS-R028) for more than there will be.
    """
    budgets = np.atleast_1d(np.asarray(flops, float))
    if budgets.ndim != 1 or not len(budgets) or not (np.isfinite(budgets) & (budgets > 0)).all():
        raise NotFittedFor("budgets must be positive numbers of FLOP", remedy="For example 1e21.")
    if budgets.max() > MOST_OF["flops"]:
        require_amount(budgets, "FLOP")
    return budgets


def require_amount(amounts: Any, unit: str) -> None:
    """Refuse less than one parameter or token, or the compute of one on one, and more than anyone could have.

    Amounts in another unit than parameters, tokens and FLOP pass. Raises `NotFittedFor` (BS-R028).
    """
    least, most, example = _AMOUNTS.get(unit, (0.0, np.inf, ""))
    amounts = np.asarray(amounts, float)
    if amounts.max(initial=least) > most:
        why, worst = "more than anyone could train", amounts.max()
    elif amounts.min(initial=most) < least:
        why, worst = "less than one" if unit != "FLOP" else "less than one parameter takes for one token", amounts.min()
    else:
        return
    raise NotFittedFor(f"{worst:.3g} {unit} is {why}", code="BS-R028", remedy=f"For example {example}.")


def require_given(law: Law, given: Mapping[str, Any]) -> None:
    """Refuse an input of a law at what is no number, or where only a positive one has a place on its scale."""
    for i in law.inputs:
        if i.name in given:
            x = np.asarray(given[i.name], float)
            if not (np.isfinite(x) & ((x > 0) | (i.centre != "ratio"))).all():
                raise NotFittedFor(
                    f"{i.name} must be a {'positive ' if i.centre == 'ratio' else ''}number",
                    remedy=f"Give {i.name} in {i.unit}.",
                )
            require_amount(x, i.unit)


def require_within_reach(budgets: np.ndarray, largest: float, far_ok: bool) -> None:
    """Refuse a budget more than 1,000 times the largest run, unless it is wanted all the same."""
    ratio = float(np.max(budgets)) / largest
    if ratio > ABSURD and not far_ok:
        raise NotFittedFor(
            f"{np.max(budgets):.3g} FLOP is {ratio:.3g} times the largest run: nothing in the table bears on it",
            code="BS-R027",
            remedy="--far-ok answers from the law's form alone (in Python: far_ok=True).",
        )


def optimum_at(
    law: Law, values: Mapping[str, np.ndarray], references: Mapping[str, Any], C: float, cost: Cost | None = None
) -> dict[str, np.ndarray]:
    """The optimum at one budget for each of several sets of the law's parameters: what `allocate` gives a draw."""
    return optimise(law, values, references, C, cost or Cost("6nd", "C = 6ND"), {}, None, None)


def loss_on_budget(
    law: Law,
    values: Mapping[str, np.ndarray],
    references: Mapping[str, Any],
    C: float,
    N: float,
    cost: Cost | None = None,
) -> np.ndarray:
    """The loss of a model of size N trained with a budget, for each of several sets of the law's parameters."""
    formula = next(iter(law.formulas().values()))
    D = float(np.exp((cost or Cost("6nd", "C = 6ND")).log_tokens(np.log(N), np.log(C))))
    fixed = {k: float(v) for k, v in references.items() if np.ndim(v) == 0}
    known = {**fixed, **values, "N": N, "D": D, "C": C, "M": D / N}
    return np.asarray(call(formula, known), float)


def default_budgets(runs: Runs) -> tuple[float, ...]:
    """The budgets shown when none is asked for: the power of ten above the largest run, and ten times that."""
    largest = largest_compute(runs)
    if not np.isfinite(largest):
        return ()
    first = 10.0 ** np.ceil(np.log10(largest) + 1e-9)
    return (float(first), float(10 * first))


def splits_budgets(law: Law) -> bool:
    """Whether a law has a compute-optimal model size at a budget, with nothing else given."""
    try:
        require_optimum(law, {})
    except NotFittedFor:
        return False
    return True


def require_optimum(law: Law, given: Mapping[str, float]) -> None:
    """Refuse a law that has no compute-optimal size at a budget, naming what it can give instead."""
    names = {i.name for i in law.inputs}
    can = _instead(law)
    # A budget bears on the law where it splits into a size and data, or a size at that compute, that lower a loss.
    split = {"N", "D"} <= names or {"N", "C"} <= names or {"C", "M"} <= names
    lowered = law.responses[0].unit in LOSS_UNITS or law.floor is not None
    if not split or not lowered or any(i.dims for i in law.inputs):
        raise NotFittedFor(f"the law {law.name!r} has no compute-optimal model size at a budget", remedy=can)
    if law.decides is not None and law.decides.sizes:
        raise NotFittedFor(
            f"the law {law.name!r} has no compute-optimal model size at a budget without what else is decided",
            remedy="`allocate` answers all of it.",
        )
    if set_by := sorted({"N", "D", "C", "M"} & set(given)):
        raise NotFittedFor(f"{set_by[0]} follows from a budget: it cannot be given as well", remedy="Leave it out.")
    missing = sorted(names - {"N", "D", "C", "M"} - set(given))
    if missing:
        told = ", ".join(f"{m} ({law.input(m).meaning})" for m in missing)
        raise NotFittedFor(
            f"the optimum of {law.name!r} depends on {told}, which a budget does not set",
            remedy=f"Give it: given={{{missing[0]!r}: …}} (--given {missing[0]}=…).",
        )
    if unknown := sorted(set(given) - names):
        raise NotFittedFor(f"the law {law.name!r} has no input {unknown[0]!r}", remedy=can)


def _instead(law: Law) -> str:
    """What to ask of a law that has no optimum at a budget."""
    if law.decides is not None and law.decides.instead:
        return law.decides.instead
    told = f"It gives the {law.responses[0].name} at {', '.join(i.name for i in law.inputs)}: ask for a forecast"
    i = law.inputs[0]
    if len(law.inputs) == 1 and i.centre == "ratio" and not i.dims and law.likelihood is None:
        return f"{told}, or, by `reach`, for the {i.name} that meets a target."
    return f"{told}."


#: The groups of draws that answers are made of: what may be cited, and the model's own whatever the checks say.
DRAWS = ("headline", "posterior")


def require_headline(fit: Fit, draws: str) -> None:
    """Refuse headline answers of a fit whose verdict forbids them, naming why; and draws that there are not."""
    if draws not in DRAWS:
        raise LawError(f"no draws {draws!r}", code="BS-U001", remedy=f"Known: {', '.join(DRAWS)}.")
    if draws == "headline" and fit.headline_source == "none":
        why = next((f for f in (*fit.design, *fit.checks) if f.status == "fail"), None)
        raise NotFittedFor(
            "no allocation or forecast may be headlined from this fit" + (f": {why.message}" if why else ""),
            code="BS-F002",
            remedy="--draws posterior (in Python: draws='posterior') shows the model's own numbers, which the checks "
            "do not back.",
        )


def caveats(fit: Fit, draws: str) -> tuple[str, ...]:
    """What every answer of a fit whose verdict is fail must say, as notes: why, and what its intervals are."""
    why = [f.message for f in (*fit.design, *fit.checks, *fit.audit) if f.status == "fail"]
    why += ["it was interrupted"] if fit.info.get("interrupted") else []
    if not why:
        return ()
    told = f"the verdict on this fit is fail: {why[0]}"
    if draws == "posterior" and fit.headline_source != "posterior":
        return (f"{told}; these are the posterior's own intervals, which the checks do not back",)
    return (f"{told}; intervals are {fit.interval_kind(draws)}",)


def parameter_draws(fit: Fit, draws: str, levels: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Draws of the law's own parameters by name, shape (samples, ...); at the named levels where they differ by level.

    Raises `NotFittedFor` (BS-F001) for a column whose level is not named, or that has no such level.
    """
    taken, values = fit.draws(draws), {}
    if missing := [p.name for p in fit.law.parameters if p.name not in taken]:
        raise NotFittedFor(f"the parameters {missing} differ by level", remedy="Fit one level alone with --where.")
    for p in fit.law.parameters:
        values[p.name] = taken[p.name]
        if p.over:
            known = [str(v) for v in np.asarray(fit.tree[draws][f"level_{p.over}"])]
            named = str((levels or {}).get(p.over))
            if named not in known:
                given = p.over in (levels or {})
                raise NotFittedFor(
                    f"{p.over!r} has no level {named!r}" if given else f"{p.name} differs by the level of {p.over!r}",
                    remedy=nearest(named, known) if given else f"Name one: levels={{{p.over!r}: {known[0]!r}}}.",
                )
            values[p.name] = taken[p.name][:, known.index(named)]
    return values


def optimise(
    law: Law,
    values: Mapping[str, np.ndarray],
    references: Mapping[str, Any],
    C: float,
    cost: Cost,
    given: Mapping[str, float],
    best: np.ndarray | None,
    max_params: float | None,
) -> dict[str, np.ndarray]:
    """N, D, loss and the near-optimal set at one budget for every draw; `best` is log N_opt where it is known."""
    formula = next(iter(law.formulas().values()))
    names = set(argument_names(formula))
    fixed = {k: float(v) for k, v in references.items() if k in names and np.ndim(v) == 0}
    known = {k: np.asarray(v, float) for k, v in values.items() if k in names}
    # The range of sizes: at least one token and one parameter.
    high = cost.log_largest(np.log(C))
    cap = high if max_params is None else min(high, np.log(max_params))
    key = ("allocate", law, tuple(sorted(given)), best is None)
    arguments = (
        known,
        {"C": np.asarray(C), "high": np.asarray(high), "cap": np.asarray(cap)},
        cost.numbers,
        {**fixed, **{k: np.asarray(float(v)) for k, v in given.items()}},
        np.zeros(len(next(iter(known.values())))) if best is None else np.asarray(best, float),
    )
    with double_precision():
        program = compiled(key, partial(_search, formula, names, best is None), *arguments)
        out = {k: np.asarray(v) for k, v in program(*arguments).items()}
    return out


def _search(formula, names, numeric, values, budget, cost, fixed, best):
    """For every draw: the minimiser of the loss along the budget, and where the loss is 0.1 % higher on each side."""
    import jax
    import jax.numpy as jnp

    low, rule = jnp.zeros(()), Cost("", "", **cost)

    def one(draw, known_best):
        def split(u):
            return jnp.exp(u), jnp.exp(rule.log_tokens(u, jnp.log(budget["C"])))

        def loss(u):
            N, D = split(u)
            inputs = {"N": N, "D": D, "C": budget["C"], "M": D / N}
            return formula(**{k: v for k, v in {**inputs, **fixed, **draw}.items() if k in names})

        slope = jax.grad(loss)

        if numeric:
            grid = jnp.linspace(low, budget["high"], _GRID)
            values = jax.vmap(loss)(grid)
            k = jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))
            a, b = grid[jnp.maximum(k - 1, 0)], grid[jnp.minimum(k + 1, _GRID - 1)]
            u = bisected(lambda u: slope(u) > 0, a, b)
        else:
            u = known_best
        u = jnp.minimum(u, budget["cap"])
        N, D = split(u)
        top = (1 + NEAR_OPTIMAL) * loss(u)
        lower = bisected(lambda v: loss(v) <= top, low, u)
        upper = bisected(lambda v: loss(v) > top, u, budget["cap"])
        return {
            "params": N,
            "tokens": D,
            "tokens_per_param": D / N,
            "loss": loss(u),
            "near_lower": jnp.exp(lower),
            "near_upper": jnp.exp(upper),
        }

    return jax.vmap(one)(values, best)
