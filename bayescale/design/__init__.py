"""What to do next, from a posterior: how many runs an interval needs, and which recipe to scale up."""

from bayescale.design.multiplying import Multiplier, multiplier
from bayescale.design.needing import Judgement, RunsNeeded, judge, runs_needed

__all__ = ["Judgement", "Multiplier", "RunsNeeded", "judge", "multiplier", "runs_needed"]
