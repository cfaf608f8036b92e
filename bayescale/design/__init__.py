"""What to do next, from a posterior: which runs to train, how many, of which recipe, and what a choice would lose."""

from bayescale.design.multiplying import Multiplier, multiplier
from bayescale.design.needing import Judgement, RunsNeeded, judge, runs_needed
from bayescale.design.proposing import NextRuns, next_runs
from bayescale.design.regretting import Regret, regret
from bayescale.design.targets import Target, reach, serve

__all__ = [
    "Judgement",
    "Multiplier",
    "NextRuns",
    "Regret",
    "RunsNeeded",
    "Target",
    "judge",
    "multiplier",
    "next_runs",
    "reach",
    "regret",
    "runs_needed",
    "serve",
]
