"""Models to be compared, each fitted to all rows and to the rows without every fold, in one batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayescale.batch import fit_many
from bayescale.comparison.densities import Density, bridged, held_log_density, joined_chains
from bayescale.comparison.folds import ALL
from bayescale.errors import NotConverged, NotFittedFor, RunsError
from bayescale.law import Law, Prior, parse_prior
from bayescale.model import Model
from bayescale.posterior import CERTIFIED, Batch, Fit, flat_draws, model_of
from bayescale.runs import Runs

#: Draws a chain that densities are computed at.
DRAWS = 200


@dataclass(frozen=True, eq=False)
class Contender:
    """A model to be compared: its law, how it is fitted, and its fit to all rows where there is one already."""

    law: Law
    options: Mapping[str, Any]
    fit: Fit | None = None
    name: str = ""

    @staticmethod
    def of(fit: Fit) -> Contender:
        """The model of a fit."""
        own = fit.info["options"]
        options = {
            "noise": fit.noise,
            "group": fit.grouped,
            "fix": own["fix"],
            "tie": [(first, second) for first, second in own["tie"]],
            "priors": dict(own.get("priors", {})),
            "references": fit.references,
            "min_flops": own.get("min_flops"),
        }
        return Contender(fit.law, options, fit)


def _told(prior: Prior | str) -> str:
    return str(parse_prior(prior) if isinstance(prior, str) else prior)


def named(contenders: Sequence[Contender]) -> list[Contender]:
    """Contenders with names that tell them apart: the law, and what else differs."""
    parts, specs = [], {c.law.spec for c in contenders}
    plain = len({c.law.name for c in contenders}) == len(specs)  # options are named where a law has several
    for c in contenders:
        o = c.options
        told = {
            "law": c.law.name if plain else c.law.spec,
            "noise": str(o["noise"]),
            "group": "groups " + o["group"] if isinstance(o["group"], str) else f"groups {', '.join(o['group'])}",
            "fix": ", ".join(f"{k} = {v:g}" for k, v in (o.get("fix") or {}).items()),
            "tie": ", ".join(f"{a} = {b}" for a, b in o.get("tie") or ()),
            "priors": ", ".join(
                f"{k} {parse_prior(v) if isinstance(v, str) else v}" for k, v in (o.get("priors") or {}).items()
            ),
            "min_flops": "cut averaged over" if o.get("min_flops") else "",
        }
        parts.append(told)
    differs = {k for k in parts[0] if len({p[k] for p in parts}) > 1} if len(parts) > 1 else set()
    names = [" · ".join(p[k] for k in p if p[k] and (k == "law" or k in differs)) for p in parts]
    counts = {n: names.count(n) for n in names}
    seen: dict[str, int] = {}
    made = []
    for c, n in zip(contenders, names, strict=True):
        seen[n] = seen.get(n, 0) + 1
        made.append(replace(c, name=n if counts[n] == 1 else f"{n} #{seen[n]}"))
    return made


def refitted(
    c: Contender,
    runs: Runs,
    held: Mapping[str, np.ndarray],
    *,
    seed: int,
    workers: int | None = None,
    prob: float = 0.9,
    flops: Sequence[float] = (),
    progress: Callable[[float, str], None] | bool = False,
) -> Batch:
    """The model fitted without each of several sets of rows, and, where it has no fit, to all of them.

    Scales of priors, groups and levels are those of the whole table: the design is known, only responses are left out.
    """
    tables = {**({ALL: runs} if c.fit is None else {}), **dict.fromkeys(held, runs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        made = fit_many(
            c.law,
            tables,
            held_out=held,
            seed=seed,
            prob=prob,
            flops=flops,
            workers=workers,
            progress=progress,
            **c.options,
        )
    if made.info["interrupted"]:
        raise KeyboardInterrupt
    return made


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model said of every part that was left out, and its fit to all rows; `why` says of a part without a
    density what is wrong."""

    name: str
    whole: Fit | None
    densities: Mapping[str, Density]
    why: Mapping[str, str]


def scored(c: Contender, batch: Batch, held: Mapping[str, np.ndarray], seed: int) -> Scored:
    """The joint log predictive density of every part that was left out, where both its fits can be trusted."""
    why = {n: str(batch.status.loc[n, "sentence"]) for n in held if batch.status.loc[n, "status"] != CERTIFIED}
    whole = c.fit
    if whole is None:
        if batch.status.loc[ALL, "status"] != CERTIFIED:
            return Scored(c.name, None, {}, {ALL: str(batch.status.loc[ALL, "sentence"]), **why})
        whole = batch[ALL]
    elif not whole.converged:
        return Scored(c.name, None, {}, {ALL: "its fit did not converge", **why})
    model = model_of(whole)
    after_all, chains = flat_draws(whole, model), whole.tree["posterior"].sizes["chain"]
    take = joined_chains(after_all, chains, DRAWS)
    densities = {}
    for name in held:
        if name not in why:
            part = batch[name]
            try:
                densities[name] = _density(model, model_of(part), part, after_all[take], seed)
            except (RunsError, NotFittedFor) as error:
                why[name] = str(error)
    return Scored(c.name, whole, densities, why)


def _density(whole: Model, part: Model, fit: Fit, after: np.ndarray, seed: int) -> Density:
    before = flat_draws(fit, part)
    before = before[joined_chains(before, fit.tree["posterior"].sizes["chain"], DRAWS)]
    found = [
        held_log_density(whole, part, x.reshape(-1, x.shape[-1]), seed).reshape(x.shape[:2]) for x in (before, after)
    ]
    return bridged(*found)
