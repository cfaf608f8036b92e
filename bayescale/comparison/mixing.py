"""A mixture of fits of one law as a fit: draws taken by weight, findings of all, the headline of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import Finding, LawError
from bayescale.posterior import MEMBER, Fit, is_stack
from bayescale.verdicts import verdict_of

if TYPE_CHECKING:
    import xarray as xr

_BAD = {"fail": 2, "warn": 1, "pass": 0}


def stacked_fit(fits: Sequence[Fit], weights: np.ndarray, seed: int, told: Mapping[str, Any]) -> Fit:
    """The mixture of fits with these weights; `told` says where the weights come from."""
    import xarray as xr

    if any(is_stack(f) for f in fits):
        raise LawError("a stack cannot be stacked again", code="BS-U001", remedy="Stack the fits that it was made of.")
    sizes = [f.tree["posterior"].sizes for f in fits]
    chains, draws = min(s["chain"] for s in sizes), min(s["draw"] for s in sizes)
    which = _members(weights, chains, draws, np.random.default_rng([seed, 10]))
    groups = {name: [f.tree[name].to_dataset() for f in fits] for name in ("posterior", "headline")}
    shared = [n for n in groups["headline"][0].data_vars if all(n in d for d in groups["headline"])]
    every = dict.fromkeys(str(n) for d in groups["posterior"] for n in d.data_vars)
    posterior = _mixed(groups["posterior"], which, [*every])
    posterior[MEMBER] = (("chain", "draw"), which)
    first = fits[0]
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "headline": _mixed(groups["headline"], which, [str(n) for n in shared]),
            **{n: first.tree[n].to_dataset() for n in ("observed_data", "constant_data") if n in first.tree.children},
        }
    )
    used = [f for f, w in zip(fits, weights, strict=True) if w > 0]
    noises = dict.fromkeys(f.noise for f in fits)
    members = [
        {
            "noise": f.noise,
            "group": list(f.group),
            "groupings": list(f.info["groupings"]),
            "weight": float(w),
            "headline_source": f.headline_source,
            "variables": [str(n) for n in f.tree["posterior"].data_vars],
        }
        for f, w in zip(fits, weights, strict=True)
    ]
    groupings = {g["column"]: g for f in fits for g in f.info["groupings"]}
    info = {
        **first.info,
        "noise": " + ".join(noises),
        "group": [*groupings],
        "groupings": [*groupings.values()],
        "sampler": "stack",
        "seed": seed,
        "settings": {"chains": chains, "draws": draws, "warmup": None},
        "stack": {**told, "members": members},
        "headline_source": "none" if any(f.headline_source == "none" for f in used) else "stack",
        **{
            name: [f.document() for f in _worst([getattr(u, name) for u in used])]
            for name in ("design", "checks", "audit")
        },
        "narrowness": {},
        "prior_share": {},
        "windows": None,
        "widening": None,
        "plan": None,
        "attempts": [],
    }
    made = Fit(tree, first.law, info)
    return made.with_info(verdict=verdict_of(made))


def _members(weights: np.ndarray, chains: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Which fit every draw comes from, (chain, draw): counts by weight, over all chains to one draw, order shuffled."""
    ends = np.rint(np.cumsum(weights) * chains * draws).astype(int)
    labels = np.repeat(np.arange(len(weights)), np.diff(ends, prepend=0))
    dealt = np.stack([labels[c::chains] for c in range(chains)])  # dealt like cards: every chain has its share
    return np.stack([rng.permutation(row) for row in dealt])


def _mixed(datasets: Sequence[xr.Dataset], which: np.ndarray, names: Sequence[str]) -> xr.Dataset:
    """Draws of every fit in their own order, evenly spread over its chain, where `which` says they go."""
    import xarray as xr

    chains, draws = which.shape
    variables: dict[str, Any] = {}
    coords: dict[Any, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    for name in names:
        owner = next(d for d in datasets if name in d)
        made = np.full((chains, draws, *owner[name].shape[2:]), np.nan)
        for k, d in enumerate(datasets):
            if name not in d:
                continue
            source = np.asarray(d[name])
            for c in range(chains):
                places = np.flatnonzero(which[c] == k)
                if len(places):
                    made[c, places] = source[c, np.linspace(0, source.shape[1] - 1, len(places)).round().astype(int)]
        variables[name] = (owner[name].dims, made)
        coords |= {dim: owner[dim] for dim in owner[name].dims[2:] if dim in owner.coords}
    return xr.Dataset(variables, coords=coords)


def _worst(findings: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Of every check the outcome of the fit where it is worst."""
    found: dict[str, Finding] = {}
    for f in (f for own in findings for f in own):
        if f.code not in found or _BAD[f.status] > _BAD[found[f.code].status]:
            found[f.code] = f
    return [*found.values()]
