"""The certificate of a table: what is checked, on the host for one table, on an accelerator for thousands at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.diagnostics import check_draws, judge_convergence, judge_together
from bayescale.errors import Finding
from bayescale.law import PooledLaw, call
from bayescale.model import Model, Structure, compiled
from bayescale.posterior.convergence_on_device import diagnose

#: A table is certified with this many effective draws of every number, in the bulk and in the tails.
ESS = 400
#: And with this share of divergent transitions: where a floor or a spread may be zero, single steps beyond the wall
#: are rejected, as they should be. What is left of a bias is measured against quadrature in the benchmarks.
DIVERGENT = 1e-3
#: In single precision the noise on the log scale must not be smaller: the residuals have about 1e-7 of rounding.
LEAST_NOISE = 1e-3


@dataclass(frozen=True, eq=False)
class Certificates:
    """The checks of some tables: their numbers by code, which tables pass all, and the findings of one of them.

    Findings are worded when they are asked for: of thousands of tables few are read one by one.
    """

    numbers: Mapping[str, np.ndarray]
    passed: np.ndarray
    findings: Callable[[int], tuple[Finding, ...]]

    @classmethod
    def of_each(cls, told: Sequence[Certificates]) -> Certificates:
        """Those of single tables as one; a table whose chains never moved has no numbers."""
        codes = dict.fromkeys(code for t in told for code in t.numbers)
        numbers = {c: np.concatenate([t.numbers.get(c, np.full(1, np.nan)) for t in told]) for c in codes}
        return cls(numbers, np.concatenate([t.passed for t in told]), lambda k: told[k].findings(0))


def certified(
    model: Model,
    values: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    budgets: Sequence[float],
    single: bool = False,
) -> Certificates:
    """The checks of a single fit on every number that is reported, from draws (chain, draw, …) of one table.

    Of draws in `single` precision whether the noise is large enough for it, too.
    """
    exact = {n: np.asarray(v, float) for n, v in values.items()}
    told = dict(zip(_names(model, values, budgets), _reported(model, exact, model.references, budgets), strict=True))
    found = check_draws(told, stats, ess=ESS, divergent=DIVERGENT)
    found += (noise_is_large(_noise(exact, np)),) if single else ()
    numbers = {f.code: np.asarray([np.nan if f.value is None else f.value]) for f in found}
    passed = bool(found) and all(f.status == "pass" for f in found)
    return Certificates(numbers, np.asarray([passed]), lambda k: found)


def certified_together(
    designs: Sequence[Model],
    found: Mapping[str, Any],
    references: Mapping[str, Any],
    budgets: Sequence[Sequence[float]],
    single: bool = False,
) -> Certificates:
    """The same for tables of one structure, from what an ensemble drew, where it lies: only the numbers are fetched.

    `designs` are the models of the tables, or of others of their design; `found` and `references` have a leading axis
    of lanes, of which the first are these tables.
    """
    import jax

    count = len(designs)
    one = {n: np.empty(v.shape[1:]) for n, v in found["values"].items()}  # only shapes are looked at
    costs = np.empty((len(found["energy"]), len(budgets[0])))
    costs[:count], costs[count:] = budgets, budgets[-1]
    with jax.enable_x64(True):
        program, given = certificate_program(designs[0], found, references, costs)
        *numbers, constant, diverged, e_bfmi, noise = (np.asarray(x)[:count] for x in program(*given))
    total = int(np.prod(found["diverging"].shape[1:]))
    told, passed = judge_together(numbers, ~constant, (diverged, total), e_bfmi, ess=ESS, divergent=DIVERGENT)
    if single:
        told, passed = {**told, "precision": noise}, passed & (noise >= LEAST_NOISE)

    def findings(k: int) -> tuple[Finding, ...]:
        moves = np.flatnonzero(~constant[k])  # what is fixed has nothing to converge
        names = _names(designs[k], one, budgets[k])
        named, own = [names[j] for j in moves], [x[k, moves] for x in numbers]
        counted = (int(diverged[k]), total)
        made = judge_convergence(named, own, counted, e_bfmi[k], ess=ESS, divergent=DIVERGENT)
        return made + ((noise_is_large(float(noise[k])),) if single else ())

    return Certificates(told, passed, findings)


def certificate_program(model: Model, found: Mapping[str, Any], references: Any, costs: Any) -> tuple[Any, tuple]:
    """The compiled function behind `certified_together` and what it takes, of which only shapes are looked at.

    Call it in double precision.
    """
    import jax

    given = (found["values"], references, costs, found["energy"], found["diverging"])
    device = jax.config.jax_default_device
    key = ("certificate", model.structure.key, device and device.id)
    return compiled(key, jax.vmap(_numbers_program(model)), *given), given


def noise_is_large(smallest: float) -> Finding:
    """Whether single precision resolves the residuals, by the median of the least scale of the noise."""
    fine = smallest >= LEAST_NOISE
    message = f"noise of {smallest:.2g}; single precision needs at least {LEAST_NOISE:g}"
    return Finding("precision", "precision", "pass" if fine else "fail", smallest, LEAST_NOISE, message)


def _noise(values: Mapping[str, Any], xp: Any) -> Any:
    """The median of the least scale of the noise; infinite where there is none."""
    medians = [xp.median(v) for n, v in values.items() if n.startswith("sigma")]
    return functools.reduce(xp.minimum, medians, np.inf)


def by_level(model: Model, values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The values of every level whose parameters differ, the rest beside them; all under no name where nothing does."""
    law = model.law
    if not isinstance(law, PooledLaw):
        return {"": values}
    differs = {n for n in values if f"level_{law.column}" in model.structure.coordinates.axes(n)}
    _, levels = model.runs.labels(law.column)
    return {level: {n: v[..., k] if n in differs else v for n, v in values.items()} for k, level in enumerate(levels)}


def _shown(structure: Structure, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The numbers that are reported; spreads are, not their ratios to the noise."""
    hidden = {i.ratio for i in structure.intercepts}
    return ((n, v) for n, v in values.items() if n not in hidden)


def _names(model: Model, values: Mapping[str, Any], budgets: Sequence[float]) -> list[str]:
    """What every number of `_reported` is called."""
    names: list[str] = []
    for name, v in _shown(model.structure, values):
        count = int(np.prod(v.shape[2:]))
        names += [name] if count == 1 else [f"{name}[{k}]" for k in range(count)]
    if model.law.optimum is not None:
        for level in by_level(model, {}):
            names += [f"N_opt of {level} at {C:.3g}" if level else f"N_opt at {C:.3g}" for C in budgets]
    return names


def _reported(
    model: Model, values: Mapping[str, Any], references: Mapping[str, Any], budgets: Sequence[float] | Any, xp: Any = np
) -> list[Any]:
    """Every number of a fit, (chain, draw): parameters, derived quantities, spreads, and logs of optimal sizes."""
    numbers = []
    for _, v in _shown(model.structure, values):
        flat = v.reshape(*v.shape[:2], -1)
        numbers += [flat[..., k] for k in range(flat.shape[-1])]
    if model.law.optimum is not None:
        known = {k: v for k, v in references.items() if np.ndim(v) == 0} | dict(values)
        for own in by_level(model, known).values():
            numbers += [xp.log(xp.asarray(call(model.law.optimum, {**own, "C": C})[0])) for C in budgets]
    return numbers


def _numbers_program(model: Model) -> Callable[..., tuple[Any, ...]]:
    """The function of one table's draws: R-hat, bulk and tail sizes, which never move, divergences, E-BFMI, noise."""

    def run(values, references, budgets, energy, diverging):
        import jax.numpy as jnp

        exact = {n: v.astype(np.float64) for n, v in values.items()}
        x = jnp.stack(_reported(model, exact, references, budgets, jnp))
        energy = energy.astype(np.float64)
        e_bfmi = jnp.mean(jnp.diff(energy, axis=-1) ** 2, axis=-1) / jnp.var(energy, axis=-1)
        top = x.max(axis=(-2, -1))
        constant = (top == x.min(axis=(-2, -1))) & jnp.isfinite(top)
        return *diagnose(x), constant, diverging.sum(), e_bfmi, jnp.asarray(_noise(exact, jnp))

    return run
