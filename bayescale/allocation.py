"""What to train next: the compute-optimal split of a budget, for every draw of the posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import LawError, NotFittedFor, nearest
from bayescale.law import LOSS_UNITS, Law, argument_names, call
from bayescale.model import compiled, double_precision
from bayescale.posterior import Fit, convergence, finite, for_each_table, levels_of, one_level
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, compute_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: A model is near-optimal when its loss is within this share of the best loss at the budget.
NEAR_OPTIMAL = 1e-3
#: Above this ratio of a budget to the largest run, an answer is mostly the law's form.
FAR = 10.0
#: Above this ratio nothing in the table bears on the answer: it is given only when asked for.
ABSURD = 1e3
_GRID = 400
_BISECTIONS = 56  # from a range of 60 in log N to the last digit


@dataclass(frozen=True)
class Cost:
    """How compute follows from model size and data: C = 6 N D exp(log_factor) N**slope, both 0 by convention."""

    name: str
    meaning: str
    log_factor: float = 0.0
    slope: float = 0.0

    def log_tokens(self, log_N, log_C):
        """The log of the training tokens that a budget buys for a model size; any array type."""
        return log_C - np.log(FLOPS_PER_PARAM_TOKEN) - self.log_factor - (1 + self.slope) * log_N

    def log_largest(self, log_C):
        """The log of the model size for which a budget buys one token."""
        return (log_C - np.log(FLOPS_PER_PARAM_TOKEN) - self.log_factor) / (1 + self.slope)

    def flops(self, N, D):
        """The compute of training a model of size N on D tokens."""
        return FLOPS_PER_PARAM_TOKEN * np.exp(self.log_factor) * N ** (1 + self.slope) * D


def _common(runs: Runs) -> Cost:
    return Cost("6nd", "C = 6ND")


def _of_table(runs: Runs) -> Cost:
    """C / 6ND of the table's own runs as a power of N, by least squares on logarithms."""
    if not all(runs.has(c) for c in ("params", "tokens", "flops")):
        raise NotFittedFor(
            "the table has no compute column of its own to learn a cost from",
            remedy="Use the default cost, 6nd.",
        )
    N, D, C = (runs.values(c) for c in ("params", "tokens", "flops"))
    ratio = np.log(C / (FLOPS_PER_PARAM_TOKEN * N * D))
    if np.ptp(np.log(N)) == 0:
        return Cost("table", "C = 6ND times the table's own factor", float(ratio.mean()), 0.0)
    slope, level = np.polyfit(np.log(N), ratio, 1)
    meaning = f"C = 6ND · {np.exp(level):.3g} N^{slope:.3g}, from the table's own compute"
    return Cost("table", meaning, float(level), float(slope))


#: Ways to count compute, by name: each makes a `Cost` from the table that was fitted.
COSTS: dict[str, Callable[[Runs], Cost]] = {"6nd": _common, "table": _of_table}


def cost_named(name: str, runs: Runs) -> Cost:
    """The cost of that name for a table; raises `LawError` (BS-L002) naming those known."""
    if name.lower() not in COSTS:
        raise LawError(f"no cost {name!r}", code="BS-L002", remedy=nearest(name, [*COSTS]))
    return COSTS[name.lower()](runs)


@dataclass(frozen=True, eq=False)
class Allocation:
    """The compute-optimal allocation at each budget, over the posterior.

    `dataset` has the dims (flops, chain, draw) and the variables params, tokens, tokens_per_param, loss, near_lower
    and near_upper (the ends of the near-optimal set of model sizes). `largest` is the compute of the largest run.
    """

    dataset: xr.Dataset
    prob: float
    largest: float
    law: str
    cost: str
    loss_unit: str
    source: str
    notes: tuple[str, ...] = ()
    kind: str = "credible"

    @property
    def flops(self) -> np.ndarray:
        """The budgets, in FLOP."""
        return np.asarray(self.dataset["flops"])

    def interval(self, name: str) -> np.ndarray:
        """Median and ends of the equal-tailed interval of a variable, shape (3, budgets)."""
        ends = [0.5, (1 - self.prob) / 2, (1 + self.prob) / 2]
        return np.quantile(np.asarray(self.dataset[name]), ends, axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a budget and quantity, with median and interval."""
        import pandas as pd

        rows = []
        for name in ("params", "tokens", "tokens_per_param", "loss"):
            for C, ratio, (median, lower, upper) in zip(
                self.flops, self.flops / self.largest, self.interval(name).T, strict=True
            ):
                rows.append(
                    dict(flops=C, extrapolation_ratio=ratio, quantity=name, median=median, lower=lower, upper=upper)
                )
        frame = pd.DataFrame(rows)
        frame.attrs["prob"] = self.prob
        return frame

    def to_json(self) -> list[dict[str, Any]]:
        """One entry a budget, as `fit.json` holds them."""
        summaries = {n: self.interval(n) for n in ("params", "tokens", "tokens_per_param", "loss")}
        near = [np.median(np.asarray(self.dataset[n]), axis=(1, 2)) for n in ("near_lower", "near_upper")]
        return [
            {
                "flops": float(C),
                "extrapolation_ratio": float(C / self.largest),
                **{
                    n: dict(zip(("median", "lower", "upper"), (finite(x) for x in v[:, k]), strict=True))
                    for n, v in summaries.items()
                },
                "near_optimal": {"lower": finite(near[0][k]), "upper": finite(near[1][k])},
            }
            for k, C in enumerate(self.flops)
        ]

    def ess(self) -> tuple[float, float, float]:
        """Largest R-hat, smallest bulk and smallest tail ESS over log N_opt, log D/N and loss at all budgets."""
        draws = np.concatenate(
            [
                np.log(np.asarray(self.dataset["params"])),
                np.log(np.asarray(self.dataset["tokens_per_param"])),
                np.asarray(self.dataset["loss"]),
            ]
        )
        if draws.shape[-2] * draws.shape[-1] < 8:
            return np.nan, np.nan, np.nan
        return (
            float(np.max(convergence.r_hat(draws))),
            float(np.min(convergence.ess_bulk(draws))),
            float(np.min(convergence.ess_tail(draws))),
        )

    def __repr__(self) -> str:
        lines = [f"<Allocation by {self.law}, {self.cost}, {self.prob:.0%} {self.kind} intervals"]
        for entry in self.to_json():
            n, t = entry["params"], entry["tokens_per_param"]
            lines.append(
                f"  {entry['flops']:.3g} FLOP: N {n['median']:.3g} ({n['lower']:.3g} to {n['upper']:.3g}), "
                f"D/N {t['median']:.3g} ({t['lower']:.3g} to {t['upper']:.3g})"
            )
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        return f"<p>{self.prob:.0%} {self.kind} intervals</p>{self.frame().to_html(float_format='%.4g', index=False)}"


@for_each_table
def allocate(
    fit: Fit,
    flops: Sequence[float] | float,
    *,
    prob: float | None = None,
    max_params: float | None = None,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    levels: Mapping[str, str] | None = None,
    draws: str = "headline",
    closed_form: bool = True,
    far_ok: bool = False,
) -> Allocation:
    """The compute-optimal model size and data at each budget, for every draw.

    N_opt minimises L(N, D) with D bought by the budget: C = 6ND, or the table's own cost with `cost="table"`. The
    near-optimal set holds every N whose loss is within 0.1 % of the best, per draw. `given` sets inputs of the law that
    a budget does not (as U), `levels` names the level of a column that the law's parameters differ by, as an evaluation
    set or a recipe; without it the answer of a pooled law is for its average level. `max_params` caps N.
    `draws="posterior"` answers even where nothing may be headlined, `far_ok=True` even more than 1,000 times beyond the
    largest run, whose compute is counted by the same cost.

    Raises `NotFittedFor` (BS-F001) when the law has no optimum at a budget, naming what it can give, (BS-F002) when
    the fit may not be headlined, and (BS-R027) for a budget that nothing in the table bears on.

    Example:
        >>> bs.allocate(fit, [1e15, 1e16]).frame()  # doctest: +SKIP
    """
    import xarray as xr

    budgets = np.atleast_1d(np.asarray(flops, float))
    if budgets.ndim != 1 or not len(budgets) or not (np.isfinite(budgets) & (budgets > 0)).all():
        raise NotFittedFor("budgets must be positive numbers of FLOP", remedy="For example --flops 1e21.")
    given = dict(given or {})
    require_optimum(fit.law, given)
    require_headline(fit, draws)
    fit, levels, about = one_level(fit, levels)
    law = fit.law
    runs = fit.runs
    rule = cost_named(cost, runs)
    largest = largest_compute(runs, rule)
    require_within_reach(budgets, largest, far_ok)
    posterior = fit.tree[draws].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = parameter_draws(fit, draws, levels)
    names = ("params", "tokens", "tokens_per_param", "loss", "near_lower", "near_upper")
    data: dict[str, list[np.ndarray]] = {n: [] for n in names}
    exact = closed_form and law.optimum is not None and rule.name == "6nd" and not given
    for C in budgets:
        best = None
        if exact:
            assert law.optimum is not None
            known = {**values, **{k: float(v) for k, v in fit.references.items() if np.ndim(v) == 0}, "C": C}
            best = np.log(np.asarray(call(law.optimum, known)[0], float))
        found = _optimise(law, values, fit.references, C, rule, given, best, max_params)
        for n in names:
            data[n].append(found[n].reshape(shape))
    dataset = xr.Dataset(
        {n: (("flops", "chain", "draw"), np.stack(v)) for n, v in data.items()},
        coords={"flops": budgets, "chain": posterior["chain"], "draw": posterior["draw"]},
        attrs={"law": law.spec, "cost": rule.meaning, "near_optimal": NEAR_OPTIMAL, "draws": draws},
    )
    notes = [*about]
    if rule.name == "6nd" and runs.has("flops") and runs.has("params") and runs.has("tokens"):
        ratio = runs.values("flops") / rule.flops(runs.values("params"), runs.values("tokens"))
        if np.max(np.abs(ratio - 1)) > 0.05:
            notes.append(
                f"budgets are spent by C = 6ND, but the runs' own compute is {ratio.min():.2f} to {ratio.max():.2f} "
                "times that; `bayescale allocate --cost table` spends them as the runs did"
            )
    if max_params is not None and (bound := np.asarray(dataset["params"]) >= 0.999 * max_params).any():
        shares = [f"{share:.0%} at {C:.3g}" for C, share in zip(budgets, bound.mean(axis=(1, 2)), strict=True)]
        notes.append(f"the cap of {max_params:.3g} parameters binds in a share of the draws: {', '.join(shares)}")
    return Allocation(
        dataset,
        fit.prob if prob is None else prob,
        largest,
        law.spec,
        rule.meaning,
        runs.loss_unit,
        runs.source,
        tuple(notes),
        fit.interval_kind(draws),
    )


def allocate_levels(fit: Fit, flops: Sequence[float], **options: Any) -> dict[str, Allocation]:
    """The allocation of every level whose parameters differ, by level; empty where the law is one for all."""
    return {
        level: allocate(fit, flops, levels={column: level}, **options)
        for column in fit.levels
        for level in levels_of(fit)
    }


def largest_compute(runs: Runs, cost: Cost | None = None) -> float:
    """The compute of the largest run, counted as a budget is: by a cost (6ND if none is given) where the table has
    sizes and tokens, else its own figure; not a number where it tells neither.
    """
    if runs.has("params") and runs.has("tokens"):
        rule = cost or _common(runs)
        return float(np.max(rule.flops(runs.values("params"), runs.values("tokens"))))
    C = compute_of(runs)
    return float("nan") if C is None else float(C.max())


def require_within_reach(budgets: np.ndarray, largest: float, far_ok: bool) -> None:
    """Refuse a budget more than 1,000 times the largest run, unless it is wanted all the same."""
    ratio = float(np.max(budgets)) / largest
    if ratio > ABSURD and not far_ok:
        raise NotFittedFor(
            f"{np.max(budgets):.3g} FLOP is {ratio:.3g} times the largest run: nothing in the table bears on it",
            code="BS-R027",
            remedy="far_ok=True (--far-ok) answers from the law's form alone.",
        )


def optimum_at(
    law: Law, values: Mapping[str, np.ndarray], references: Mapping[str, Any], C: float, cost: Cost | None = None
) -> dict[str, np.ndarray]:
    """The optimum at one budget for each of several sets of the law's parameters: what `allocate` gives a draw."""
    return _optimise(law, values, references, C, cost or Cost("6nd", "C = 6ND"), {}, None, None)


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


def require_optimum(law: Law, given: Mapping[str, float]) -> None:
    """Refuse a law that has no compute-optimal size at a budget, naming what it can give instead."""
    names = {i.name for i in law.inputs}
    can = f"It gives the {law.responses[0].name} at {', '.join(i.name for i in law.inputs)}: ask for a forecast."
    # A budget bears on the law where it splits into a size and data, or a size at that compute, that lower a loss.
    split = {"N", "D"} <= names or {"N", "C"} <= names or {"C", "M"} <= names
    lowered = law.responses[0].unit in LOSS_UNITS or law.floor is not None
    if not split or not lowered or any(i.dims for i in law.inputs):
        raise NotFittedFor(f"the law {law.name!r} has no compute-optimal model size at a budget", remedy=can)
    missing = sorted(names - {"N", "D", "C", "M"} - set(given))
    if missing:
        told = ", ".join(f"{m} ({law.input(m).meaning})" for m in missing)
        raise NotFittedFor(
            f"the optimum of {law.name!r} depends on {told}, which a budget does not set",
            remedy=f"Give it: given={{{missing[0]!r}: …}} (--given {missing[0]}=…).",
        )
    if unknown := sorted(set(given) - names):
        raise NotFittedFor(f"the law {law.name!r} has no input {unknown[0]!r}", remedy=can)


def require_headline(fit: Fit, draws: str) -> None:
    """Refuse headline answers of a fit whose verdict forbids them, naming why."""
    if draws == "headline" and fit.headline_source == "none":
        why = next((f for f in (*fit.design, *fit.checks) if f.status == "fail"), None)
        raise NotFittedFor(
            "no allocation or forecast may be headlined from this fit" + (f": {why.message}" if why else ""),
            code="BS-F002",
            remedy="draws='posterior' (--draws posterior) shows the model's own numbers, which the checks do not back.",
        )


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


def _optimise(
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
        {"log_factor": np.asarray(cost.log_factor), "slope": np.asarray(cost.slope)},
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

    low, rule = jnp.zeros(()), Cost("", "", cost["log_factor"], cost["slope"])

    def one(draw, known_best):
        def split(u):
            return jnp.exp(u), jnp.exp(rule.log_tokens(u, jnp.log(budget["C"])))

        def loss(u):
            N, D = split(u)
            inputs = {"N": N, "D": D, "C": budget["C"], "M": D / N}
            return formula(**{k: v for k, v in {**inputs, **fixed, **draw}.items() if k in names})

        slope = jax.grad(loss)

        def bisect(positive, a, b):
            """The point where `positive` turns true between a (false) and b (true)."""

            def step(_, ends):
                a, b = ends
                middle = (a + b) / 2
                turned = positive(middle)
                return jnp.where(turned, a, middle), jnp.where(turned, middle, b)

            a, b = jax.lax.fori_loop(0, _BISECTIONS, step, (a, b))
            return (a + b) / 2

        if numeric:
            grid = jnp.linspace(low, budget["high"], _GRID)
            values = jax.vmap(loss)(grid)
            k = jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))
            a, b = grid[jnp.maximum(k - 1, 0)], grid[jnp.minimum(k + 1, _GRID - 1)]
            u = bisect(lambda u: slope(u) > 0, a, b)
        else:
            u = known_best
        u = jnp.minimum(u, budget["cap"])
        N, D = split(u)
        top = (1 + NEAR_OPTIMAL) * loss(u)
        lower = bisect(lambda v: loss(v) <= top, low, u)
        upper = bisect(lambda v: loss(v) > top, u, budget["cap"])
        return {
            "params": N,
            "tokens": D,
            "tokens_per_param": D / N,
            "loss": loss(u),
            "near_lower": jnp.exp(lower),
            "near_upper": jnp.exp(upper),
        }

    return jax.vmap(one)(values, best)
