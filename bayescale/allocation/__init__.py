"""What to train next: budgets split between size and data, and whatever else the users of a law decide."""

from bayescale.allocation.allocating import allocate, allocate_levels, answered
from bayescale.allocation.budgets import (
    ABSURD,
    COSTS,
    FAR,
    NEAR_OPTIMAL,
    Cost,
    caveats,
    cost_named,
    default_budgets,
    largest_compute,
    least_compute,
    loss_on_budget,
    optimum_at,
    parameter_draws,
    require_budgets,
    require_given,
    require_headline,
    require_optimum,
    require_within_reach,
    splits_budgets,
)
from bayescale.allocation.record import Allocation
from bayescale.allocation.searching import bisected

__all__ = [
    "ABSURD",
    "COSTS",
    "FAR",
    "NEAR_OPTIMAL",
    "Allocation",
    "Cost",
    "allocate",
    "allocate_levels",
    "answered",
    "bisected",
    "caveats",
    "cost_named",
    "default_budgets",
    "largest_compute",
    "least_compute",
    "loss_on_budget",
    "optimum_at",
    "parameter_draws",
    "require_budgets",
    "require_given",
    "require_headline",
    "require_optimum",
    "require_within_reach",
    "splits_budgets",
]
