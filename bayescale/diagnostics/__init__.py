"""Doctor before sampling, checks after it."""

from bayescale.diagnostics.after import check, check_draws, divergences, judge_convergence, judge_together
from bayescale.diagnostics.before import (
    Diagnosis,
    ProposedRun,
    design_findings,
    doctor,
    laws_along,
    proposal,
    require_answerable,
    response_findings,
    without_groups,
)
from bayescale.diagnostics.jacobian import exponents_of
from bayescale.diagnostics.ladders import Ladder, ladders_of
from bayescale.diagnostics.sweeps import best_runs, settings_of

__all__ = [
    "Diagnosis",
    "Ladder",
    "ProposedRun",
    "best_runs",
    "check",
    "check_draws",
    "design_findings",
    "divergences",
    "doctor",
    "exponents_of",
    "judge_convergence",
    "judge_together",
    "ladders_of",
    "laws_along",
    "proposal",
    "require_answerable",
    "response_findings",
    "settings_of",
    "without_groups",
]
