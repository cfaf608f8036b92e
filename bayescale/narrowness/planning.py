"""Which runs would make an answer surer: repeats of those there are, or runs of new sizes, by linear algebra."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.diagnostics.before import ProposedRun
from bayescale.diagnostics.jacobian import sensitivity
from bayescale.diagnostics.proposing import can_propose, candidate_runs, with_runs
from bayescale.law import parse_prior
from bayescale.model import build_model
from bayescale.narrowness.linearised import Linearised
from bayescale.runs import compute_of

#: Runs proposed at once; each new one costs at most this share of the largest run.
_AT_ONCE, _SHARE = 3, 1 / 3
#: The most runs that a budget is spent on.
_MOST = 8
#: Runs of new sizes are proposed in place of repeats where they leave this share of what repeats leave, or less.
_CLEARLY = 0.9


@dataclass(frozen=True)
class Plan:
    """Runs worth training next: new ones or repeats, and what they would do to the sd of a quantity.

    `kind` is "new" (anywhere, by compute), "repeat" or "new-halves" (half of the runs in each half of the table).

    The quantity is on the log scale where it is positive, as its sd is then a share of it.
    """

    kind: str
    quantity: str
    runs: tuple[ProposedRun, ...]
    sd_ratio: float

    def to_json(self) -> dict[str, Any]:
        """The plan as a file keeps it."""
        return {
            "kind": self.kind,
            "quantity": self.quantity,
            "runs": [r.to_json() for r in self.runs],
            "sd_ratio": self.sd_ratio,
        }


def plan_new(line: Linearised, quantity: str, gradient: np.ndarray) -> Plan | None:
    """Three runs in or near the design, each of a new size, after which the quantity is known best.

    Together they cost no more than the largest run. None for a law that asks for more than size, tokens and compute.
    """
    if (found := _candidates(line)) is None:
        return None
    candidates, slopes, noise = found
    sizes = np.array([r.params for r in candidates])
    chosen, ratio = _greedy(gradient, line.table.covariance[0], slopes, noise, sizes)
    return Plan("new", quantity, _by_compute(candidates[k] for k in chosen), ratio)


def plan_halves(line: Linearised, quantity: str, gradient: np.ndarray, parts: Sequence[np.ndarray]) -> Plan | None:
    """Three runs in each part of the table (masks) after which the difference between the parts is known best.

    Repeats of its runs with new seeds, or runs of new sizes within its range of compute, whichever says more: effects
    that a size shares are not averaged by repeating it.
    """
    runs = line.model.runs
    C = compute_of(runs)
    if C is None or not (runs.has("params") and runs.has("tokens")):
        return None
    N, D = runs.values("params"), runs.values("tokens")
    repeats, new = _Difference(gradient), _Difference(gradient)
    found = _candidates(line)
    for rows in parts:
        # The other part holds nothing: this one is fitted by itself.
        covariance = line.covariance_of(np.where(rows, line.rows.information, 0.0))
        members = np.flatnonzero(rows)
        picked = repeats.add(covariance, line.slopes[members], 1 / line.rows.information[members], N[members])
        repeats.runs += _by_compute(ProposedRun(float(N[k]), float(D[k]), float(C[k])) for k in members[picked])
        if found is not None:
            candidates, slopes, noise = found
            near = [k for k, r in enumerate(candidates) if C[rows].min() <= r.flops <= C[rows].max()]
            picked = new.add(covariance, slopes[near], noise[near], np.array([candidates[k].params for k in near]))
            new.runs += _by_compute(candidates[near[k]] for k in picked)
    if len(new.runs) == len(repeats.runs) and new.ratio < _CLEARLY * repeats.ratio:
        return Plan("new-halves", quantity, tuple(new.runs), new.ratio)
    return Plan("repeat", quantity, tuple(repeats.runs), repeats.ratio)


def plan_within(
    line: Linearised, gradient: np.ndarray, budget: float, largest: float
) -> tuple[tuple[ProposedRun, ...], float] | None:
    """The runs of new sizes, at most eight, that a budget is best spent on, and the sd left as a share.

    None where no run can be planned, or the budget buys none.
    """
    found = _candidates(line, share=min(1.0, budget / largest))
    if found is None:
        return None
    candidates, slopes, noise = found
    sizes, costs = np.array([r.params for r in candidates]), np.array([r.flops for r in candidates])
    ways = [
        _greedy(gradient, line.table.covariance[0], slopes, noise, sizes, _MOST, costs, budget, per)
        for per in (1.0, costs)
    ]
    chosen, ratio = min(ways, key=lambda way: way[1])
    return (_by_compute(candidates[k] for k in chosen), ratio) if chosen else None


class _Difference:
    """What runs added to parts of a table do to the variance of the difference between the parts."""

    def __init__(self, gradient: np.ndarray):
        self.gradient, self.runs = gradient, []
        self.before = self.after = 0.0

    def add(self, covariance: np.ndarray, slopes: np.ndarray, noise: np.ndarray, sizes: np.ndarray) -> list[int]:
        """The rows to add to one part, each of another size."""
        chosen, ratio = _greedy(self.gradient, covariance, slopes, noise, sizes)
        variance = float(self.gradient @ covariance @ self.gradient)
        self.before, self.after = self.before + variance, self.after + variance * ratio**2
        return chosen

    @property
    def ratio(self) -> float:
        """The sd of the difference afterwards, as a share."""
        return float(np.sqrt(self.after / self.before))


def _by_compute(runs: Iterable[ProposedRun]) -> tuple[ProposedRun, ...]:
    return tuple(sorted(runs, key=lambda r: r.flops))


def _candidates(line: Linearised, share: float = _SHARE) -> tuple[list[ProposedRun], np.ndarray, np.ndarray] | None:
    """Runs of new sizes in or near the design, their slopes in `x`, and the variance of their noise and effects."""
    model = line.model
    if not can_propose(model.law) or not (model.runs.has("params") and model.runs.has("tokens")):
        return None
    candidates = candidate_runs(model.runs, reach=2.0, largest=share, between=True)
    if not candidates:
        return None
    own = {p.name for p in (*model.law.parameters, *model.law.coordinates())}  # groups and noise are not rebuilt
    joint = build_model(
        model.law,
        with_runs(model.runs, candidates),
        noise=model.noise,
        group="none",
        fix={k: v for k, v in model.options["fix"].items() if k in own},
        tie=[(a, b) for a, b in model.options["tie"] if {a, b} <= own],
        priors={k: parse_prior(p) for k, p in model.options["priors"].items() if k in own},
        references=model.references,
    )
    z = np.zeros((1, joint.structure.coordinates.dimension))
    law_s = line.positions[line.positions < z.shape[1]]  # what rows below a cut exceed the law by comes after them
    z[0, law_s] = line.x[: len(law_s)]
    made = sensitivity(joint, z)
    if made is None or not len(made.jacobian):
        return None
    slopes = np.zeros((len(candidates), len(line.x)))
    slopes[:, : len(law_s)] = made.jacobian[0, len(model.runs) :]
    # Effects of sizes, budgets and runs that are new add to the noise of each.
    effects = sum(1 / line.precision[line.inner + k] for k in _one_level_each(line))
    return candidates, slopes, np.full(len(candidates), 1 / float(np.median(line.rows.information)) + effects)


def _one_level_each(line: Linearised) -> list[int]:
    """The place of the first effect of every grouping whose effects are shrunk like noise."""
    places, first = [], 0
    for g in line.model.groupings:
        if g.fixed is None:
            places.append(first)
        first += len(g.levels)
    return places


def _greedy(
    gradient: np.ndarray,
    covariance: np.ndarray,
    slopes: np.ndarray,
    noise: np.ndarray,
    sizes: np.ndarray,
    most: int = _AT_ONCE,
    costs: np.ndarray | float = 0.0,
    budget: float = np.inf,
    per: np.ndarray | float = 1.0,
) -> tuple[list[int], float]:
    """Rows to add one at a time, each of another size, and the sd left as a share.

    Each is the one that gains most, divided by `per`, among those whose `costs` the rest of the budget pays.
    """
    P = covariance.copy()
    before = float(gradient @ P @ gradient)
    chosen: list[int] = []
    costs = np.broadcast_to(costs, len(slopes))
    for _ in range(min(most, len(slopes))):
        reach = slopes @ P
        gained = (reach @ gradient) ** 2 / (noise + np.einsum("ci,ci->c", reach, slopes)) / per
        gained[np.isin(sizes, sizes[chosen]) | (costs > budget - costs[chosen].sum())] = -1.0
        k = int(np.argmax(gained))
        if gained[k] < 0:
            break
        chosen.append(k)
        P -= np.outer(reach[k], reach[k]) / (noise[k] + slopes[k] @ reach[k])
    return chosen, float(np.sqrt(max(gradient @ P @ gradient, 0.0) / before))
