"""Choosing between laws, noises and groups: by what they predict of runs that were left out; and stacks of them."""

from bayescale.comparison.answering import Comparison
from bayescale.comparison.comparing import compare
from bayescale.comparison.folds import Folds, Scale, folds_of, later_runs, scale_of
from bayescale.comparison.refitting import Contender, named, refitted
from bayescale.comparison.stacking import stack
from bayescale.comparison.weighing import stacking_weights

__all__ = [
    "Comparison",
    "Contender",
    "Folds",
    "Scale",
    "compare",
    "folds_of",
    "later_runs",
    "named",
    "refitted",
    "scale_of",
    "stack",
    "stacking_weights",
]
