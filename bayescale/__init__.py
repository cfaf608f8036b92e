"""Bayesian inference for neural scaling laws.

`runs table → doctor → posterior → checks → allocation and forecast`. Every public name is loaded when it is first used:
`import bayescale` starts neither JAX nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Every public name and the module that holds it.
_PUBLIC = {
    "errors": (
        "Assumption",
        "BayescaleError",
        "BayescaleWarning",
        "Finding",
        "FitError",
        "LawError",
        "NarrowInterval",
        "NotConverged",
        "NotFittedFor",
        "RunsError",
        "UnitError",
    ),
    "law": (
        "Beta",
        "Check",
        "Choice",
        "Decision",
        "Derived",
        "Exponential",
        "Gamma",
        "HalfNormal",
        "Input",
        "Law",
        "LogNormal",
        "LogUniform",
        "Normal",
        "Parameter",
        "Prior",
        "Reference",
        "Response",
        "Spread",
        "Uniform",
        "pooled_law",
    ),
    "noise": ("NOISES",),
    "runs": ("Runs",),
    "one_design": ("OneDesign",),
    "laws": ("LAWS", "find_law"),
    "model": ("Model", "build_model"),
    "reading": ("read_runs",),
    "datasets": ("DATASETS", "load_runs"),
    "posterior": ("Answers", "Batch", "Fit", "load_fit"),
    "baseline": ("least_squares",),
    "allocation": ("COSTS", "Allocation", "allocate"),
    "forecasting": ("Forecast", "forecast"),
    "diagnostics": ("Diagnosis", "best_runs", "check", "doctor"),
    "inference": ("examined", "fit"),
    "batch": ("fit_many",),
    "comparison": ("Comparison", "compare", "stack"),
    "backtesting": ("Backtest", "backtest"),
    "auditing": (
        "Audit",
        "Ladders",
        "Specifications",
        "Stability",
        "audit",
        "bayesbag",
        "ladders",
        "specifications",
        "stability",
    ),
    "design": (
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
    ),
    "calibration": ("Calibration", "Simulated", "calibrate", "simulate"),
    "plots": (
        "plot_backtest",
        "plot_calibration",
        "plot_compare",
        "plot_fit",
        "plot_frontier",
        "plot_groups",
        "plot_isoflop",
        "plot_loss_contour",
        "plot_multiplier",
        "plot_pairs",
        "plot_prior_posterior",
        "plot_recipes",
        "plot_residuals",
        "plot_tables",
        "plot_windows",
    ),
    "reporting.evaluation": ("Evaluation", "evaluate"),
    "reporting.kit": ("Kit", "report"),
    "reporting.manifest": ("Verification", "verify"),
    "reporting.versions": ("Versions", "show_versions"),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bayescale' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bayescale.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from bayescale.allocation import COSTS, Allocation, allocate
    from bayescale.auditing import (
        Audit,
        Ladders,
        Specifications,
        Stability,
        audit,
        bayesbag,
        ladders,
        specifications,
        stability,
    )
    from bayescale.backtesting import Backtest, backtest
    from bayescale.baseline import least_squares
    from bayescale.batch import fit_many
    from bayescale.calibration import Calibration, Simulated, calibrate, simulate
    from bayescale.comparison import Comparison, compare, stack
    from bayescale.datasets import DATASETS, load_runs
    from bayescale.design import (
        Judgement,
        Multiplier,
        NextRuns,
        Regret,
        RunsNeeded,
        Target,
        judge,
        multiplier,
        next_runs,
        reach,
        regret,
        runs_needed,
        serve,
    )
    from bayescale.diagnostics import Diagnosis, best_runs, check, doctor
    from bayescale.errors import (
        Assumption,
        BayescaleError,
        BayescaleWarning,
        Finding,
        FitError,
        LawError,
        NarrowInterval,
        NotConverged,
        NotFittedFor,
        RunsError,
        UnitError,
    )
    from bayescale.forecasting import Forecast, forecast
    from bayescale.inference import examined, fit
    from bayescale.law import (
        Beta,
        Check,
        Choice,
        Decision,
        Derived,
        Exponential,
        Gamma,
        HalfNormal,
        Input,
        Law,
        LogNormal,
        LogUniform,
        Normal,
        Parameter,
        Prior,
        Reference,
        Response,
        Spread,
        Uniform,
        pooled_law,
    )
    from bayescale.laws import LAWS, find_law
    from bayescale.model import Model, build_model
    from bayescale.noise import NOISES
    from bayescale.one_design import OneDesign
    from bayescale.plots import (
        plot_backtest,
        plot_calibration,
        plot_compare,
        plot_fit,
        plot_frontier,
        plot_groups,
        plot_isoflop,
        plot_loss_contour,
        plot_multiplier,
        plot_pairs,
        plot_prior_posterior,
        plot_recipes,
        plot_residuals,
        plot_tables,
        plot_windows,
    )
    from bayescale.posterior import Answers, Batch, Fit, load_fit
    from bayescale.reading import read_runs
    from bayescale.reporting.evaluation import Evaluation, evaluate
    from bayescale.reporting.kit import Kit, report
    from bayescale.reporting.manifest import Verification, verify
    from bayescale.reporting.versions import Versions, show_versions
    from bayescale.runs import Runs
