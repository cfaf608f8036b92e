"""Are the intervals honest? Examined from the draws and the design, without refitting."""

from bayescale.narrowness.alarms import FEWEST_TO_WIDEN, values_at
from bayescale.narrowness.clusters import Clusters, bands, clusters_of, halves
from bayescale.narrowness.examination import PRIOR_HELD, Examination, examine, prior_shares
from bayescale.narrowness.jackknife import gradients_of, leave_out, modes_without, narrowness_of, spread_of
from bayescale.narrowness.linearised import Linearised, Tables, linearise
from bayescale.narrowness.widening import widened

__all__ = [
    "FEWEST_TO_WIDEN",
    "PRIOR_HELD",
    "Clusters",
    "Examination",
    "Linearised",
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
    "prior_shares",
    "spread_of",
    "values_at",
    "widened",
]
