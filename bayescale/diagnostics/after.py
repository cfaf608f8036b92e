"""After sampling: did the chains converge, for every number that is reported?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayescale.errors import Finding
from bayescale.posterior import Fit, convergence, flattened

if TYPE_CHECKING:
    from bayescale.allocation import Allocation

R_HAT = 1.01
ESS = 1000
E_BFMI = 0.3


def check(fit: Fit, allocation: Allocation | None = None) -> tuple[Finding, ...]:
    """Check the sampler on every reported quantity, derived ones included, and on an allocation where one is given.

    R-hat at most 1.01, bulk and tail ESS at least 1,000, no divergences, E-BFMI at least 0.3. Each finding names the
    worst quantity. A least-squares fit (one draw) has nothing to check.

    Example:
        >>> [f.status for f in bs.check(fit)]  # doctest: +SKIP
        ['pass', 'pass', 'pass', 'pass', 'pass']
    """
    named = dict(flattened(fit.tree["posterior"].to_dataset()[[str(v) for v in fit.tree["headline"].data_vars]]))
    if allocation is not None:
        for k, C in enumerate(allocation.flops):
            for name in ("params", "tokens_per_param", "loss"):
                draws = np.asarray(allocation.dataset[name])[k]
                named[f"{name} at {C:.3g}"] = draws if name == "loss" else np.log(draws)
    return check_draws(named, fit.tree["sample_stats"].to_dataset())


def check_draws(named, stats) -> tuple[Finding, ...]:
    """The findings for draws of shape (chain, draw) by name and the sampler's statistics."""
    names = [n for n, x in named.items() if np.ptp(x) > 0]  # what is fixed has nothing to converge
    draws = np.stack([named[n] for n in names])
    if draws.shape[-1] * draws.shape[-2] < 8:
        return ()
    return (
        _extreme("r-hat", "R-hat", names, convergence.r_hat(draws), R_HAT, above=True, digits=".4f"),
        _extreme("ess-bulk", "bulk ESS", names, convergence.ess_bulk(draws), ESS, above=False, digits=".0f"),
        _extreme("ess-tail", "tail ESS", names, convergence.ess_tail(draws), ESS, above=False, digits=".0f"),
        _divergences(np.asarray(stats["diverging"])),
        _energy(np.asarray(stats["energy"])),
    )


def _extreme(
    code: str, name: str, names: Sequence[str], values: np.ndarray, threshold: float, *, above: bool, digits: str
) -> Finding:
    bad = np.isnan(values)
    k = int(np.argmax(bad)) if bad.any() else int(np.argmax(values) if above else np.argmin(values))
    value = float(values[k])
    failed = bool(np.isnan(value) or (value > threshold if above else value < threshold))
    extreme, limit = ("largest", "at most") if above else ("smallest", "at least")
    message = f"{extreme} {name} {value:{digits}} ({names[k]}); {limit} {threshold:g} is needed"
    if failed:
        message += ". The chains do not agree yet: sample longer, or simplify the law (--fix, --tie)"
    return Finding(code, name, "fail" if failed else "pass", None if np.isnan(value) else value, threshold, message)


def _divergences(diverging: np.ndarray) -> Finding:
    count, total = int(diverging.sum()), diverging.size
    message = f"{count} of {total} transitions diverged"
    if count:
        message += ". A part of the posterior was not reached: its intervals may be too narrow"
    return Finding("divergences", "divergences", "fail" if count else "pass", count, 0, message)


def _energy(energy: np.ndarray) -> Finding:
    value = float(np.min(convergence.e_bfmi(energy)))
    failed = not value >= E_BFMI
    message = f"smallest E-BFMI {value:.2f}; at least {E_BFMI:g} is needed"
    return Finding("e-bfmi", "E-BFMI", "fail" if failed else "pass", value, E_BFMI, message)
