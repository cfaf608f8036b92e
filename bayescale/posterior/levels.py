"""One level of a fit whose parameters differ by level, as a fit of its own; and the average of its levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import LawError, NotFittedFor, nearest
from bayescale.law import Derived, Law, Parameter, PooledLaw, Spread, argument_names, call
from bayescale.model import double_precision, formulas_of

if TYPE_CHECKING:
    import xarray as xr

    from bayescale.posterior.fit import Fit


def level_column(law: Law) -> str | None:
    """The one column whose levels have parameters of their own; None where there is none, or several."""
    columns = {p.over for p in (*law.parameters, *law.sampled) if p.over}
    return next(iter(columns)) if len(columns) == 1 else None


def levels_of(fit: Fit) -> tuple[str, ...]:
    """The levels whose parameters differ, in the order of the table's labels; none where nothing differs."""
    column = level_column(fit.law)
    if column is None:
        return ()
    return tuple(str(v) for v in np.asarray(fit.tree["posterior"][f"level_{column}"]))


def at_level(fit: Fit, levels: Mapping[str, str]) -> Fit:
    """The fit of one level, as if it had been fitted alone: its parameters, its runs, the law of one level."""

    column = level_column(fit.law)
    (asked, level), *more = levels.items()
    if column is None or asked != column or more:
        told = f"{column!r}" if column else "no column"
        raise LawError(
            f"the parameters of this fit differ by {told}, not by {', '.join(map(repr, levels))}",
            code="BS-L002",
            remedy=f"Name one of {', '.join(levels_of(fit))}." if column else "Fit with pool=COLUMN (--pool COLUMN).",
        )
    known = levels_of(fit)
    if str(level) not in known:
        raise NotFittedFor(f"{column!r} has no level {level!r}", remedy=nearest(str(level), [*known]))
    k, dim = known.index(str(level)), f"level_{column}"
    index, _ = fit.runs.labels(column)
    groups: dict[str, xr.Dataset] = {}
    for name, node in fit.tree.children.items():
        made = node.to_dataset()
        if name == "unconstrained_posterior":
            continue
        if dim in made.dims:
            made = made.isel({dim: k}, drop=True)
        groups[name] = made.isel(row=np.flatnonzero(index == k)) if "row" in made.dims else made
    return _alone(fit, groups, {column: str(level)}, f"[{level}]")


def one_level(fit: Fit, levels: Mapping[str, str] | None) -> tuple[Fit, dict[str, str], tuple[str, ...]]:
    """The fit that a verb answers from, the levels that are still to be chosen, and a note.

    Of a pooled law it is the fit of the named level, or of the average one; every other fit passes through.
    """
    named = dict(levels or {})
    if not isinstance(fit.law, PooledLaw):
        return fit, named, ()
    column = fit.law.column
    if column in named or named:
        return at_level(fit, {column: named.pop(column)} if column in named else named), named, ()
    return averaged(fit), {}, (f"an average of the levels of {column}: name one with levels= (--level {column}=NAME)",)


def averaged(fit: Fit) -> Fit:
    """The fit of the average level of a pooled law: the centre that its levels are shrunk to.

    Positive coordinates (contributions at the reference) are geometric means over the levels, the paper's parameters
    and derived quantities follow from them. All runs stay.
    """
    return _centred(fit, None)


def new_level(fit: Fit, rng: np.random.Generator) -> Fit | None:
    """The fit of a level not seen before, drawn anew for every draw; None where its spread was not learnt."""
    law = fit.law
    assert isinstance(law, PooledLaw) and law.spreads is not None
    if not all(f"{name}_spread" in fit.tree["posterior"].data_vars for name in law.spreads):
        return None
    return _centred(fit, rng)


def _centred(fit: Fit, rng: np.random.Generator | None) -> Fit:
    law = fit.law
    assert isinstance(law, PooledLaw) and law.spreads is not None
    dim = f"level_{law.column}"
    groups = {}
    for name, node in fit.tree.children.items():
        made = node.to_dataset()
        if name == "unconstrained_posterior":
            continue
        if name in ("posterior", "headline", "prior"):
            made = _one_level(law, made, fit.references, dim, rng)
        groups[name] = made
    return _alone(fit, groups, {}, None)


def _one_level(law: PooledLaw, posterior: xr.Dataset, references: Mapping[str, Any], dim: str, rng: Any) -> xr.Dataset:
    """The posterior of the average level, or of new ones: sampled coordinates first, then what follows from them."""
    import jax
    import xarray as xr

    base, spreads = law.one, law.spreads or {}
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    count = posterior.sizes[dim]
    known = {str(n): np.asarray(v) for n, v in posterior.data_vars.items() if dim not in v.dims}
    declared = {p.name: p for p in base.coordinates()}
    for name, spread in spreads.items():
        x = np.asarray(posterior[name])
        x = np.exp(np.log(x).mean(axis=-1)) if (x > 0).all() else x.mean(axis=-1)
        if rng is not None:
            # The centre is the mean of the levels that were seen: a new one lies a little further from it than they.
            sd = np.asarray(posterior[f"{name}_spread"]) * np.sqrt(1 + 1 / count)
            x = _moved(declared[name], spread, x, sd * rng.standard_normal(shape))
        known[name] = x
    differs = {str(n) for n, v in posterior.data_vars.items() if dim in v.dims} - {*known}
    formulas: dict[str, Any] = {n: f for n, f in formulas_of(base)[0].items() if n in differs}
    formulas |= {n: d.function for n, d in base.derived.items() if n in differs}
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in known.items()}
    while ready := [n for n, f in formulas.items() if {*argument_names(f)} <= {*flat, *references}]:
        with double_precision():
            for n in ready:
                taken = {a: flat[a] for a in argument_names(formulas[n]) if a in flat}
                fixed = {a: references[a] for a in argument_names(formulas[n]) if a not in flat}
                made = jax.vmap(lambda one, f=formulas[n], fixed=fixed: call(f, {**fixed, **one}))(taken)
                flat[n] = np.asarray(made)
                del formulas[n]
    variables: dict[Any, Any] = {n: v for n, v in posterior.data_vars.items() if dim not in v.dims}
    for n, v in flat.items():
        if n not in variables:
            rest = posterior[n].dims[3:]
            variables[n] = (("chain", "draw", *rest), v.reshape(*shape, *v.shape[1:]))
    return xr.Dataset(variables, coords={c: v for c, v in posterior.coords.items() if c != dim})


def _moved(p: Parameter, spread: Spread, x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Values of a coordinate moved on the scale of its spread, as its levels are."""
    if spread.on == "log":
        return x * np.exp(by)
    assert p.prior is not None
    with double_precision():
        return np.asarray(p.prior.image(p.prior.preimage(x) + by / spread.unit(p.prior)))


def _alone(fit: Fit, groups: Mapping[str, xr.Dataset], at: Mapping[str, str], suffix: str | None) -> Fit:
    import xarray as xr

    law = fit.law.one if isinstance(fit.law, PooledLaw) else _of_one_level(fit.law)
    info = dict(fit.info)
    info["options"] = {**info["options"], "pool": None}
    info["law_digest"], info["at"] = law.digest(), dict(at)
    for key in ("narrowness", "prior_share"):
        named = info.get(key, {})
        own = {n.removesuffix(suffix): v for n, v in named.items() if suffix and n.endswith(suffix)}
        info[key] = {**{n: v for n, v in named.items() if "[" not in n}, **own}
    return replace(fit, tree=xr.DataTree.from_dict(dict(groups)), law=law, info=info)


@lru_cache(maxsize=64)
def _of_one_level(law: Law) -> Law:
    """A law that compares levels, as the law of one of them."""

    def plain(p: Parameter) -> Parameter:
        return replace(p, over=None, pooled=None)

    def derived(d: Derived) -> Derived:
        return replace(d, over=None)

    return replace(
        law,
        parameters=tuple(map(plain, law.parameters)),
        sampled=tuple(map(plain, law.sampled)),
        derived={n: derived(d) for n, d in law.derived.items()},
    )
