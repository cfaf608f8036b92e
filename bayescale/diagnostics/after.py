"""After sampling: did the chains converge, for every number that is reported?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayescale.errors import Finding
from bayescale.posterior import Fit, convergence, flattened, for_each_table, is_stack

if TYPE_CHECKING:
    from bayescale.allocation import Allocation

R_HAT = 1.01
ESS = 1000
E_BFMI = 0.3


@for_each_table
def check(fit: Fit, allocation: Allocation | None = None) -> tuple[Finding, ...]:
    """Check the sampler on every reported quantity, derived ones included, and on an allocation where one is given.

    R-hat at most 1.01, bulk and tail ESS at least 1,000, no divergences, E-BFMI at least 0.3; in a batch 400, and one
    transition in 1,000. Each finding names the worst quantity. A least-squares fit (one draw) has nothing to check.

    Example:
        >>> [f.status for f in bs.check(fit)]  # doctest: +SKIP
        ['pass', 'pass', 'pass', 'pass', 'pass']
    """
    if is_stack(fit) or ("divergent" in fit.info["settings"] and allocation is None):
        return fit.checks  # of a batch: made of all its draws, of which a part is kept; of a stack: of its fits'
    named = dict(flattened(fit.tree["posterior"].to_dataset()[[str(v) for v in fit.tree["headline"].data_vars]]))
    if allocation is not None:
        from bayescale.allocation import allocate_levels

        for level, made in {
            "": allocation,
            **allocate_levels(fit, allocation.flops.tolist(), draws="posterior", far_ok=True),
        }.items():
            for k, C in enumerate(made.flops):
                for name in (n for n in ("params", "tokens_per_param", "loss") if n in made.dataset):
                    draws = np.asarray(made.dataset[name])[k]
                    told = f"{name} of {level} at {C:.3g}" if level else f"{name} at {C:.3g}"
                    named[told] = draws if name == "loss" else np.log(draws)
    return check_draws(named, fit.tree["sample_stats"].to_dataset())


def check_draws(named, stats, *, ess: float = ESS, divergent: float = 0.0) -> tuple[Finding, ...]:
    """The findings for draws of shape (chain, draw) by name and the sampler's statistics.

    `ess` draws of every number must be effective; a share of at most `divergent` transitions may diverge.
    """
    with np.errstate(invalid="ignore"):  # what is fixed has nothing to converge; what is not a number must be seen
        names = [n for n, x in named.items() if not np.ptp(x) == 0]
    if not names:
        return ()
    draws = np.stack([named[n] for n in names])
    if draws.shape[-1] * draws.shape[-2] < 8:
        return ()
    with np.errstate(invalid="ignore", over="ignore"):  # a draw that is not finite fails the check, without a warning
        numbers = convergence.diagnose(draws)
    diverging, energy = np.asarray(stats["diverging"]), np.asarray(stats["energy"])
    counted = (int(diverging.sum()), diverging.size)
    return judge_convergence(names, numbers, counted, convergence.e_bfmi(energy), ess=ess, divergent=divergent)


def judge_convergence(
    names: Sequence[str],
    numbers: Sequence[np.ndarray],
    diverged: tuple[int, int],
    e_bfmi: np.ndarray,
    *,
    ess: float = ESS,
    divergent: float = 0.0,
) -> tuple[Finding, ...]:
    """The findings from what `convergence.diagnose` says of every name, how many transitions of all diverged, and the
    chains' E-BFMI.
    """
    r_hat, bulk, tail = numbers
    return (
        _extreme("r-hat", "R-hat", names, r_hat, R_HAT, above=True, digits=".4f"),
        _extreme("ess-bulk", "bulk ESS", names, bulk, ess, above=False, digits=".0f"),
        _extreme("ess-tail", "tail ESS", names, tail, ess, above=False, digits=".0f"),
        divergences(*diverged, divergent),
        _energy(float(np.min(e_bfmi))),
    )


def judge_together(
    numbers: Sequence[np.ndarray],
    moves: np.ndarray,
    diverged: tuple[np.ndarray, int],
    e_bfmi: np.ndarray,
    *,
    ess: float = ESS,
    divergent: float = 0.0,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The values of the findings of `judge_convergence` for many tables, by code, and which tables pass all of them.

    `numbers` are of shape (tables, names), of which only those that are true in `moves` count.
    """
    r_hat, bulk, tail = numbers
    count, total = diverged
    found = {
        "r-hat": np.where(moves, r_hat, -np.inf).max(axis=1),
        "ess-bulk": np.where(moves, bulk, np.inf).min(axis=1),
        "ess-tail": np.where(moves, tail, np.inf).min(axis=1),
        "divergences": count,
        "e-bfmi": e_bfmi.min(axis=1),
    }
    passed = moves.any(axis=1) & (found["r-hat"] <= R_HAT) & (found["ess-bulk"] >= ess) & (found["ess-tail"] >= ess)
    return found, passed & (count <= int(divergent * total)) & (found["e-bfmi"] >= E_BFMI)


def _extreme(
    code: str, name: str, names: Sequence[str], values: np.ndarray, threshold: float, *, above: bool, digits: str
) -> Finding:
    value = float(values.max() if above else values.min())  # not a number if any is
    # Of numbers that mirror each other, such as a and b = 1 - a, the first is named, whatever rounding says.
    k = int(np.argmax(np.isnan(values) if np.isnan(value) else np.isclose(values, value, rtol=1e-9, atol=0.0)))
    failed = bool(np.isnan(value) or (value > threshold if above else value < threshold))
    extreme, limit = ("largest", "at most") if above else ("smallest", "at least")
    message = f"{extreme} {name} {value:{digits}} ({names[k]}); {limit} {threshold:g} is needed"
    if failed:
        message += ". The chains do not agree yet: sample longer, or simplify the law (--fix, --tie)"
    return Finding(code, name, "fail" if failed else "pass", None if np.isnan(value) else value, threshold, message)


def divergences(count: int, total: int, share: float = 0.0) -> Finding:
    """The finding for transitions that diverged, of which at most a share may."""
    allowed = int(share * total)
    message = f"{count} of {total} transitions diverged" + (f"; at most {allowed} may" if share else "")
    if count > allowed:
        message += ". A part of the posterior was not reached: its intervals may be too narrow"
    return Finding("divergences", "divergences", "fail" if count > allowed else "pass", count, allowed, message)


def _energy(value: float) -> Finding:
    failed = not value >= E_BFMI
    message = f"smallest E-BFMI {value:.2f}; at least {E_BFMI:g} is needed"
    return Finding("e-bfmi", "E-BFMI", "fail" if failed else "pass", value, E_BFMI, message)
