"""The runs that a budget should be spent on next, so that the best size at a larger one is known best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.allocation import (
    allocate,
    caveats,
    largest_compute,
    require_budgets,
    require_headline,
    require_optimum,
    require_within_reach,
)
from bayescale.auditing import linearised_fit
from bayescale.diagnostics import ProposedRun
from bayescale.diagnostics.proposing import can_propose
from bayescale.errors import NotFittedFor
from bayescale.narrowness import gradients_of, plan_within
from bayescale.posterior import Fit, flat_draws, model_of
from bayescale.records import Record
from bayescale.runs import short

#: The target where none is given: so many times the largest run.
_TARGET = 10.0


@dataclass(frozen=True)
class NextRuns(Record):
    """Runs worth training next, and what they should do to the sd of log N_opt at the target."""

    runs: tuple[ProposedRun, ...]
    budget: float
    target: float
    sd: float
    sd_after: float
    law: str
    source: str
    notes: tuple[str, ...] = ()

    @property
    def spent(self) -> float:
        """The compute of all proposed runs, in FLOP."""
        return sum(r.flops for r in self.runs)

    def frame(self):
        """One row a run: params, tokens and flops."""
        import pandas as pd

        return pd.DataFrame([r.to_json() for r in self.runs]).drop(columns="recipe")

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        return {
            "schema": "bayescale.next/1",
            "law": self.law,
            "source": self.source,
            "budget": self.budget,
            "spent": self.spent,
            "target": self.target,
            "quantity": "log N_opt",
            "sd": self.sd,
            "sd_after": self.sd_after,
            "runs": [r.to_json() for r in self.runs],
            "notes": list(self.notes),
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """The answer in words: what is gained, then one line a run."""
        factor, after = np.exp(self.sd), np.exp(self.sd_after)
        return [
            f"The best size at {self.target:.3g} FLOP is known within a factor of {factor:.3g} (one sd); after these "
            f"{len(self.runs)} runs, {self.spent:.3g} of {self.budget:.3g} FLOP, within {after:.3g}:",
            *(f"  {short(r.params)} on {short(r.tokens)} tokens ({r.flops:.2g} FLOP)" for r in self.runs),
            *(f"note: {n}" for n in self.notes),
        ]

    def __repr__(self) -> str:
        return "\n".join(["<Next runs", *self.lines()]) + ">"


def next_runs(fit: Fit, *, budget: float, target: float | None = None, far_ok: bool = False) -> NextRuns:
    """The runs, at most eight, on which a budget of compute is best spent next.

    What is to be known better is log N_opt at `target` FLOP (by default ten times the largest run). With its gradient g
    in the law's coordinates, their posterior covariance S, and a candidate's slope s and noise v (effects of new sizes
    and budgets included), one run takes (g'Ss)^2 / (v + s'Ss) from the variance: runs of new sizes are added one at a
    time, the one that takes most, or that takes most a FLOP, whichever way ends lower, while the budget lasts. It
    trusts the law: where the verdict says that one law does not fit, first do what its line *Next* says. The sd is that
    of the headline's draws; of it the new runs leave the share that they leave of the posterior's.

    Raises
    ------
    NotFittedFor
        For a law without an optimum at a budget, or that asks for more than size, tokens and compute; a fit that was
        not examined or headlines nothing; for a target (BS-R027) more than 1,000 times beyond the largest run, unless
        `far_ok`; or a budget that buys no run within the design's reach.

    Example
    -------
    >>> bs.next_runs(fit, budget=1e15).frame()  # doctest: +SKIP
    """
    budget = float(require_budgets(budget)[0])
    target = None if target is None else float(require_budgets(target)[0])
    require_optimum(fit.law, {})
    require_headline(fit, "headline")
    if not can_propose(fit.law):
        raise NotFittedFor(
            f"runs of {fit.law.spec} are not settled by size and tokens alone, so none can be proposed",
            remedy="Fit one recipe by itself, or a law of N and D." if fit.law.kind == "model" else None,
        )
    line, _, _ = linearised_fit(fit)
    largest = largest_compute(fit.runs)
    goal = target if target is not None else _TARGET * largest
    require_within_reach(np.asarray([goal]), largest, far_ok)
    params = np.asarray(allocate(fit, [goal], draws="posterior", far_ok=True).dataset["params"]).reshape(-1)
    model = model_of(fit)
    z = flat_draws(fit, model)[:, : model.structure.coordinates.dimension]
    names, gradients = gradients_of(z, {"N_opt": params}, line)
    if not names:
        raise NotFittedFor(
            f"the best size at {goal:.3g} FLOP does not follow the law's coordinates: the table says too little of it",
            remedy="Ask for a nearer target, or see `bayescale doctor` for runs that would identify the law.",
        )
    found = plan_within(line, gradients[0], budget, largest)
    if found is None:
        raise NotFittedFor(
            f"a budget of {budget:.3g} FLOP buys no run that the design could use",
            remedy="Ask for more compute.",
        )
    chosen, ratio = found
    headline = np.asarray(allocate(fit, [goal], far_ok=True).dataset["params"])
    sd = float(np.log(headline).std())
    source, notes = fit.info["runs"]["source"], caveats(fit, "headline")
    return NextRuns(chosen, budget, goal, sd, sd * ratio, fit.law.spec, source, notes)
