"""The verb of allocation: what to train at each budget, for every draw of the posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayescale.allocation.budgets import (
    NEAR_OPTIMAL,
    caveats,
    cost_named,
    largest_compute,
    optimise,
    parameter_draws,
    require_amount,
    require_budgets,
    require_given,
    require_headline,
    require_optimum,
    require_within_reach,
)
from bayescale.allocation.deciding import decide, shown
from bayescale.allocation.record import Allocation
from bayescale.errors import LawError, NotFittedFor, require_positive
from bayescale.law import Law, call
from bayescale.posterior import Fit, for_each_table, levels_of, one_level


@for_each_table
def allocate(
    fit: Fit,
    flops: Sequence[float] | float | None = None,
    *,
    prob: float | None = None,
    max_params: float | None = None,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    levels: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
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

    A law may declare more that its users decide (`law.decides`): width and depth beside the budget's data, sparsity
    beside size and data, a mixture, a learning rate and batch size. What of it is not `given` is then chosen, for every
    draw, where the law's first response is least: within the range of the table's runs (scales such as a width up to
    ten times beyond), and told under `choices`, with its near-optimal set, the share of the draws that lie within the
    runs, and those at an edge. `flops` is left out where no budget bears on it. Where a law has levels (a mixture
    judged on several evaluation sets) and none is named, their mean by `weights` is least.

    Raises `NotFittedFor` (BS-F001) when the law has no optimum at a budget, naming what it can give, (BS-F002) when
    the fit may not be headlined, and (BS-R027) for a budget that nothing in the table bears on; `LawError` (BS-U001)
    for a cap that is no positive number.

    Example:
        >>> bs.allocate(fit, [1e15, 1e16]).frame()  # doctest: +SKIP
    """
    import xarray as xr

    budgets = None if flops is None else require_budgets(flops)
    max_params = None if max_params is None else require_positive("max_params", max_params)
    given = dict(given or {})
    require_given(fit.law, given)
    decision = fit.law.decides
    if decision is not None and decision.left(given):
        require_headline(fit, draws)
        told = caveats(fit, draws)
        fit, levels, about = one_level(fit, levels)
        return decide(
            fit,
            budgets,
            about=(*told, *about),
            prob=prob,
            max_params=max_params,
            cost=cost,
            given=given,
            levels=levels,
            weights=weights,
            draws=draws,
            far_ok=far_ok,
        )
    require_optimum(fit.law, given)
    if budgets is None:
        raise NotFittedFor("say how much may be spent", remedy="For example flops=1e21 (--flops 1e21).")
    if weights:
        raise NotFittedFor(f"the law {fit.law.name!r} has no levels whose mean is least", remedy="Leave weights out.")
    require_headline(fit, draws)
    told = caveats(fit, draws)
    fit, levels, about = one_level(fit, levels)
    if levels and not any(p.over for p in fit.law.parameters):
        raise LawError(
            f"nothing of this law differs by {', '.join(map(repr, levels))}",
            code="BS-L002",
            remedy="Leave the level out; the effect of a group moves a forecast, not the best size.",
        )
    law = fit.law
    runs = fit.runs
    rule = cost_named(cost, runs)
    largest = largest_compute(runs, rule)
    require_amount(budgets, "FLOP")
    require_within_reach(budgets, largest, far_ok)
    posterior = fit.tree[draws].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    values = parameter_draws(fit, draws, levels)
    data: dict[str, list[np.ndarray]] = {}
    units: dict[str, str] = {}
    exact = closed_form and law.optimum is not None and rule.name == "6nd" and not given
    for C in budgets:
        best = None
        if exact:
            assert law.optimum is not None
            known = {**values, **{k: float(v) for k, v in fit.references.items() if np.ndim(v) == 0}, "C": C}
            best = np.log(np.asarray(call(law.optimum, known)[0], float))
        found = optimise(law, values, fit.references, C, rule, given, best, max_params)
        known = {**given, "N": found["params"], "D": found["tokens"], "C": C, "M": found["tokens_per_param"]}
        found |= shown(law, {**values, **known}, found["loss"].size, units)
        for n, x in found.items():
            data.setdefault(n, []).append(x.reshape(shape))
    dataset = xr.Dataset(
        {n: (("flops", "chain", "draw"), np.stack(v)) for n, v in data.items()},
        coords={"flops": budgets, "chain": posterior["chain"], "draw": posterior["draw"]},
        attrs={"law": law.spec, "cost": rule.meaning, "near_optimal": NEAR_OPTIMAL, "draws": draws},
    )
    notes = [*told, *about]
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
        fit.probability(prob),
        largest,
        law.spec,
        rule.meaning,
        runs.loss_unit,
        runs.source,
        tuple(notes),
        fit.interval_kind(draws),
        units,
    )


def answered(law: Law) -> tuple[bool, str]:
    """Whether `allocate` answers for a law, and what: or why not, and what to ask instead.

    Example:
        >>> from bayescale.laws import find_law
        >>> answered(find_law("chinchilla"))
        (True, 'N and D at a budget')
    """
    decision, names = law.decides, [i.name for i in law.inputs]
    if decision is None or not decision.answers:
        more = [n for n in names if n not in ("N", "D", "C", "M")]
        try:
            require_optimum(law, dict.fromkeys(more, 1.0))
        except NotFittedFor as refused:
            return False, str(refused)
        told = ["N and D", *(f"{n} ({d.meaning})" for n, d in (decision.shows if decision else {}).items())]
        return True, f"{', '.join(told)} at a budget" + (f", given {', '.join(more)}" if more else "")
    found = [r.name for r in law.responses] if decision.reads else [c.name for c in decision.choices]
    found += ["N"] * decision.splits + [n for n in decision.follows]
    rest = [n for n in names if n not in found]
    if decision.reads and law.optimum is not None and names == ["C"]:
        return True, "N and D at a budget"
    bought = "D" in rest and (decision.splits or bool(decision.follows))
    if bought:
        found, rest = [*found, "D"], [n for n in rest if n != "D"]
    told = " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
    return True, told + (" at a budget" if bought else "") + (f", given {', '.join(rest)}" if rest else "")


def allocate_levels(fit: Fit, flops: Sequence[float], **options: Any) -> dict[str, Allocation]:
    """The allocation of every level whose parameters differ, by level; empty where the law is one for all."""
    return {
        level: allocate(fit, flops, levels={column: level}, **options)
        for column in fit.levels
        for level in levels_of(fit)
    }
