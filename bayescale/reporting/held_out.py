"""Extrapolation, tried: the largest runs are held out, the law is fitted to the rest and asked about them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bayescale.comparison import later_runs
from bayescale.errors import BayescaleWarning, LawError, NotFittedFor
from bayescale.forecasting import forecast
from bayescale.inference import fit as fit_law
from bayescale.posterior import Fit
from bayescale.runs import Runs, compute_of


def held_out_runs(fit: Fit) -> dict[str, Any]:
    """The refit without the largest runs by compute, and its forecast of each of them.

    `runs` has one record a run held out (row, flops, observed, median, lower, upper, inside); the interval is of one
    run of groups not seen before. Runs that share a size or budget err together: `inside` of `count` is no count of
    independent trials.

    Raises `NotFittedFor` where the rest cannot be fitted or did not converge.
    """
    runs = fit.runs
    C = compute_of(runs)
    if C is None:
        raise NotFittedFor("the table has no compute to hold out the largest runs by")
    several = len(fit.law.responses) > 1
    if several or fit.law.likelihood is not None or any(i.dims for i in fit.law.inputs):
        raise NotFittedFor("only laws of scalar inputs with one response are tried on held-out runs")
    cut, out = later_runs(C)
    kept = replace(runs, frame=runs.frame[~out])
    options, settings = fit.info["options"], dict(fit.info["settings"])
    sampler = fit.info["sampler"]
    if "divergent" in settings:  # a batch's engine drew it: the refit is one of its own
        sampler, settings = "auto", {}

    def refitted(group: str | list[str]) -> Fit:
        return fit_law(
            fit.law,
            kept,
            seed=fit.info["seed"],
            noise=fit.noise,
            group=group,
            sampler=sampler,
            prob=fit.prob,
            fix=options["fix"],
            tie=[(a, b) for a, b in options["tie"]],
            priors=options["priors"],
            references=fit.references,
            progress=False,
            **settings,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayescaleWarning)
        try:
            rest = refitted(fit.grouped)
        except LawError:  # a grouping with too few levels left
            rest = refitted("auto")
    if not rest.converged:
        raise NotFittedFor("the fit to the rest did not converge")
    draws = "posterior" if rest.headline_source == "none" else "headline"
    response = fit.law.responses[0]
    held = np.flatnonzero(out)
    at = {i.name: runs.values(i.columns(runs.columns)[0])[held] for i in fit.law.inputs}
    median, lower, upper = _forecast_rows(rest, at, runs, held, draws)
    observed = runs.values(response.source)[held]
    inside = (observed >= lower) & (observed <= upper)
    return {
        "cut": cut,
        "kept": int((~out).sum()),
        "count": int(out.sum()),
        "inside": int(inside.sum()),
        "prob": fit.prob,
        "reach": float(C.max() / C[~out].max()),
        "bias": float(np.mean(np.log(observed / median))) if response.support == "positive" else None,
        "verdict": rest.verdict.status,
        "draws": draws,
        "kind": rest.interval_kind(draws),
        "runs": [
            {
                "row": int(row),
                "flops": float(c),
                "observed": float(y),
                "median": float(m),
                "lower": float(a),
                "upper": float(b),
                "inside": bool(i),
            }
            for row, c, y, m, a, b, i in zip(
                np.asarray(runs.rows)[held], C[held], observed, median, lower, upper, inside, strict=True
            )
        ],
    }


def _forecast_rows(rest: Fit, at: Mapping[str, np.ndarray], runs: Runs, held: np.ndarray, draws: str) -> np.ndarray:
    """Median and interval of one run at every row held out, by its own level where parameters differ by level."""
    if not rest.levels:
        return forecast(rest, inputs=at, draws=draws).interval("new_group")
    ((column, known),) = rest.levels.items()
    index, names = runs.labels(column)
    found = np.empty((3, len(held)))
    for level in np.unique(index[held]):
        rows = np.flatnonzero(index[held] == level)
        levels = {column: names[level]} if names[level] in known else None
        inputs = {k: v[rows] for k, v in at.items()}
        found[:, rows] = forecast(rest, inputs=inputs, levels=levels, draws=draws).interval("new_group")
    return found
