"""What a question about a law's decisions comes to: what is chosen, bought, given, and what follows from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.allocation.budgets import Cost, cost_named
from bayescale.errors import NotFittedFor, nearest
from bayescale.law import Choice, Input, Law, argument_names, call
from bayescale.runs import Runs


@dataclass(frozen=True)
class Plan:
    """What is left to find once what was given is known.

    `choices` and then, where a budget `splits`, N are the coordinates of the search; `follows` names inputs that others
    fix, and those others; `bought` says that D is what a budget buys.
    """

    law: Law
    choices: tuple[Choice, ...]
    splits: bool
    bought: bool
    follows: Mapping[str, tuple[str, ...]]
    given: tuple[str, ...]

    @property
    def mixture(self) -> Input | None:
        """The vector of shares that is chosen, if one is."""
        return next((i for c in self.choices if (i := self.law.input(c.name)).dims), None)

    @property
    def key(self) -> tuple:
        """What a compiled program depends on."""
        return (self.law, self.choices, self.splits, self.bought, tuple(self.follows.items()), self.given)

    def inputs(self, x: Any, budget: Mapping[str, Any], m: Any) -> dict[str, Any]:
        """The law's inputs at a point of the search; `m` is the module that computes them, NumPy or JAX's."""
        known = {"C": budget["C"], **budget["given"]}
        if self.mixture is not None:
            known[self.choices[0].name] = x
        else:
            for k, c in enumerate(self.choices):
                known[c.name] = m.exp(x[k]) if c.scale == "log" else x[k]
        if self.splits:
            known["N"] = m.exp(x[len(self.choices)])
        for name, parts in self.follows.items():
            constant, *exponents = budget["follows"][name]
            known[name] = m.exp(constant + sum(p * m.log(known[n]) for n, p in zip(parts, exponents, strict=True)))
        if self.bought:
            rule = Cost("", "", **budget["cost"])
            size = m.log(known["N"] * self.active(known))
            known["D"] = m.exp(rule.log_tokens(size, m.log(budget["C"])))
        return known

    def active(self, known: Mapping[str, Any]) -> Any:
        """The share of the parameters that compute counts."""
        decision = self.law.decides
        return call(decision.active, known) if decision is not None and decision.active is not None else 1.0


def plan_of(law: Law, budget: bool, given: Mapping[str, float]) -> Plan:
    """What is chosen, bought, given and follows; raises `NotFittedFor` for what a question lacks or contradicts."""
    decision, names = law.decides, [i.name for i in law.inputs]
    assert decision is not None
    if unknown := sorted(set(given) - {*names}):
        raise NotFittedFor(f"the law {law.name!r} has no input {unknown[0]!r}", remedy=nearest(unknown[0], names))
    choices = tuple(c for c in decision.choices if c.name not in given)
    splits = decision.splits and "N" not in given
    kept = {n: parts for n, parts in decision.follows.items() if n not in given}
    unset = [n for n in names if n not in given and n not in kept and n not in {c.name for c in choices}]
    if splits:
        unset.remove("N")
    if splits and "D" in given:
        raise NotFittedFor(
            f"{law.name!r} splits a budget between N and D, and D is given", remedy="Give the budget, or N as well."
        )
    bought = budget and "D" in unset and ("N" in given or "N" in kept or splits)
    spent = budget and "C" in unset
    if bought or spent:
        unset.remove("D" if bought else "C")
    elif budget and "N" in names and "D" in unset:
        raise NotFittedFor(
            f"what {law.name!r} decides depends on N ({law.input('N').meaning}), which a budget does not set",
            remedy="Give it: given={'N': …} (--given N=…).",
        )
    elif budget:
        raise NotFittedFor(
            f"no budget bears on what {law.name!r} decides" + (" once D is given" if "D" in given else ""),
            remedy="Leave the budget out" + (f", and give {', '.join(unset)}." if unset else "."),
        )
    elif splits:
        raise NotFittedFor(f"{law.name!r} splits a budget: say which", remedy="For example flops=1e21 (--flops 1e21).")
    if unset:
        told = ", ".join(f"{n} ({law.input(n).meaning})" for n in unset)
        buys = " or a budget (--flops …)" if unset == ["D"] else ""
        raise NotFittedFor(
            f"what {law.name!r} decides depends on {told}",
            remedy=f"Give it: given={{{unset[0]!r}: …}} (--given {unset[0]}=…){buys}.",
        )
    if not choices and not splits and not decision.reads:
        raise NotFittedFor(f"everything that {law.name!r} depends on is given", remedy="Ask for a forecast.")
    return Plan(law, choices, splits, bought, {n: tuple(parts) for n, parts in kept.items()}, tuple(sorted(given)))


def coefficients(plan: Plan, runs: Runs) -> dict[str, tuple[np.ndarray, ...]]:
    """For every input that follows: its constant and exponents by the table's rows, by least squares on logarithms.

    Where the rows do not tell the exponents apart, the declared ones stay and the rows set the constant alone.
    """
    made, declared = {}, plan.law.decides.follows if plan.law.decides else {}
    for name in plan.follows:
        parts = declared[name]
        y = np.log(runs.values(plan.law.input(name).column))
        logs = np.stack([np.log(runs.values(plan.law.input(n).column)) for n in parts], axis=1)
        design = np.column_stack([np.ones(len(y)), logs - logs.mean(axis=0)])
        if np.linalg.matrix_rank(design, tol=1e-6) == design.shape[1]:
            exponents = np.linalg.lstsq(design, y, rcond=None)[0][1:]
        else:
            exponents = np.array([*parts.values()])
        made[name] = tuple(map(np.asarray, (np.mean(y - logs @ exponents), *exponents)))
    return made


def of_shapes(plan: Plan, runs: Runs) -> list[str]:
    """How inputs that follow were taken from the table, and how well that holds there."""
    made = []
    for name, (constant, *exponents) in coefficients(plan, runs).items():
        y = np.log(runs.values(plan.law.input(name).column))
        terms = [*zip(plan.follows[name], exponents, strict=True)]
        by = constant + sum(p * np.log(runs.values(plan.law.input(n).column)) for n, p in terms)
        off = float(np.exp(np.max(np.abs(y - by))) - 1)
        power = " ".join(f"{n}^{p:.3g}" for n, p in terms)
        made.append(f"{name} = {np.exp(constant):.3g} {power} by the table's own rows, to within {off:.1%}")
    return made


def active_share(law: Law, runs: Runs) -> np.ndarray | None:
    """The share of the parameters that compute counts, of every row of the table."""
    decision = law.decides
    if decision is None or decision.active is None:
        return None
    names = argument_names(decision.active)
    return np.asarray(decision.active(**{n: runs.values(law.input(n).column) for n in names}), float)


def cost_of(plan: Plan, runs: Runs, cost: str) -> Cost:
    """How the budget of a question is counted, of the active parameters where the law says which those are."""
    made = cost_named(cost, runs, active_share(plan.law, runs))
    if made.name == "6nd" and plan.law.decides is not None and plan.law.decides.active is not None:
        return Cost("6nd", "C = 6ND of the active parameters")
    return made if plan.bought or any(i.name == "C" for i in plan.law.inputs) else Cost(made.name, "no budget")
