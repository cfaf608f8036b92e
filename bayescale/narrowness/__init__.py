"""Are the intervals honest? Examined from the draws and the design, without refitting."""

from bayescale.narrowness.alarms import FEWEST_TO_WIDEN, values_at
from bayescale.narrowness.clusters import Clusters, bands, clusters_of, halves
from bayescale.narrowness.examination import PRIOR_HELD, Examination, examine, prior_shares
from bayescale.narrowness.jackknife import gradients_of, leave_out, modes_without, narrowness_of, spread_of
from bayescale.narrowness.linearised import Linearised, Tables, linearise
from bayescale.narrowness.planning import Plan, plan_halves, plan_new, plan_within
from bayescale.narrowness.widening import widened
from bayescale.narrowness.windows import window_values, windows_of

__all__ = [
    "FEWEST_TO_WIDEN",
    "PRIOR_HELD",
    "Clusters",
    "Examination",
    "Linearised",
    "Plan",
    "Tables",
    "bands",
    "clusters_of",
    "examine",
    "gradients_of",
    "halves",
    "leave_out",
    "linearise",
    "modes_without",
    "narrowness_of",
    "plan_halves",
    "plan_new",
    "plan_within",
    "prior_shares",
    "spread_of",
    "values_at",
    "widened",
    "window_values",
    "windows_of",
]
