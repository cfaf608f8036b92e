"""The fits behind a stack: their draws taken apart again, for what depends on a noise or on groups of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayescale.errors import NotFittedFor
from bayescale.posterior.fit import Fit
from bayescale.posterior.many import Batch, of_one_table

if TYPE_CHECKING:
    import xarray as xr

#: The variable of a stack's posterior that says which fit every draw comes from.
MEMBER = "member"


def is_stack(fit: Fit) -> bool:
    """Whether a fit is a mixture of others."""
    return "stack" in fit.info


def require_one_model(fit: Fit) -> None:
    """Refuse a stack or a batch where the question is about one model; raises `NotFittedFor` (BS-F002)."""
    if isinstance(fit, Batch):
        raise of_one_table()
    if is_stack(fit):
        raise NotFittedFor(
            "a stack is a mixture of models, and this question is about one",
            code="BS-F002",
            remedy="Ask the fits that it was made of.",
        )


def require_examined(fit: Fit) -> None:
    """Refuse a table of a batch whose intervals were not examined; raises `NotFittedFor` (BS-F002)."""
    if not fit.audit and fit.converged and "divergent" in fit.info["settings"]:
        raise NotFittedFor(
            "the intervals of this table of a batch were not examined",
            code="BS-F002",
            remedy="Ask bayescale.examined(fit), or fit with --examine.",
        )


def members_of(fit: Fit) -> list[tuple[Fit, np.ndarray]]:
    """The fits that a stack mixes, each with its own draws as one chain, and which draws (chain, draw) they are.

    Empty for any other fit, and without members that have no draws.
    """
    if not is_stack(fit):
        return []
    which = np.asarray(fit.tree["posterior"][MEMBER])
    made = []
    for k, about in enumerate(fit.info["stack"]["members"]):
        own = which == k
        if own.any():
            tree = type(fit.tree).from_dict(
                {
                    name: _taken(node.to_dataset(), own, about["variables"])
                    if name in ("posterior", "headline")
                    else node.to_dataset()
                    for name, node in fit.tree.children.items()
                    if name != "sample_stats"
                }
            )
            info = {n: v for n, v in fit.info.items() if n != "stack"}
            info |= {n: about[n] for n in ("noise", "group", "groupings", "headline_source")}
            made.append((replace(fit, tree=tree, info=info), own))
    return made


def _taken(dataset: xr.Dataset, own: np.ndarray, variables: list[str]) -> xr.Dataset:
    """The draws of one member, as one chain."""
    import xarray as xr

    made = {}
    for name, v in dataset.data_vars.items():
        if name in variables:
            made[name] = (("chain", "draw", *v.dims[2:]), np.asarray(v)[own][None])
    kept = {c: v for c, v in dataset.coords.items() if c not in ("chain", "draw")}
    return xr.Dataset(made, coords={**kept, "chain": [0], "draw": np.arange(int(own.sum()))})
