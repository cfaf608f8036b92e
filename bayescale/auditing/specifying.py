"""The specification curve: the same question to the same runs, under other noises and without effects of groups."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.batch import fit_many
from bayescale.errors import Finding, LawError, NotConverged, NotFittedFor, nearest, require_seed
from bayescale.noise import NOISES
from bayescale.posterior import Fit, evaluate_draws, flat_draws, model_of
from bayescale.sampling import Progress, progress_bar

if TYPE_CHECKING:
    import pandas as pd

#: A model fits comparably whose expected log predictive density is not further below the best than this many standard
#: errors of the difference, or this many nats.
COMPARABLE_ERRORS, COMPARABLE_NATS = 2.0, 4.0
#: Medians of comparable models should lie within this many half widths of the middle of the headline's interval.
MOVES = 1.0
#: A Pareto k above this leaves an importance-sampling estimate unreliable.
ROUGH = 0.7


@dataclass(frozen=True, eq=False)
class Specifications:
    """What every model says: one row a noise, grouping and quantity.

    `table` has the columns noise, group, fitted (whether it is the fit's own), quantity, median, lower, upper, elpd
    (expected log predictive density of the response, row by row, by Pareto-smoothed leave-one-out given the effects of
    groups: quick, but the rest of the row's group stays, where `compare` leaves out whole groups), behind (how far
    below the best), error (of that), comparable, certified, and rough: the share of rows whose Pareto k exceeds 0.7,
    where the density of a left-out row is not reliable, as with few rows an effect.
    """

    table: pd.DataFrame
    finding: Finding
    prob: float
    source: str
    law: str

    def frame(self) -> pd.DataFrame:
        """The table itself."""
        return self.table

    def span(self) -> tuple[float, float]:
        """The least and the largest median of the first quantity, over the models that predict about as well."""
        named, fine = self.table["quantity"].to_numpy(), self.table["comparable"].to_numpy(bool)
        medians = self.table["median"].to_numpy(float)[(named == named[0]) & fine]
        return float(medians.min()), float(medians.max())

    def to_json(self) -> dict[str, Any]:
        """The finding and one record a row."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"finding": self.finding.to_json(), "prob": self.prob, "specifications": rows}

    def __repr__(self) -> str:
        shown = self.table.drop(columns=["error", "certified", "rough"]).to_string(index=False, float_format="%.4g")
        return f"<Specifications of {self.law} on {self.source}: {self.finding.message}>\n{shown}"


def specifications(
    fit: Fit, quantities: Sequence[str] = (), *, seed: int = 0, progress: bool | Progress | None = None
) -> Specifications:
    """Refit the same runs under every noise, with the fit's groups and without, and set the answers side by side.

    Which noise a paper chose, and whether it thought of groups, is a choice that its interval does not show. The
    finding compares models that predict about as well: what their medians span against the headline's interval.
    `quantities` are names of `fit.summary()`; by default the first derived quantity, or all parameters.

    Raises `NotFittedFor` for a law with an exact likelihood, which leaves no noise to choose.

    Example:
        >>> bs.specifications(fit, ["a"]).frame()  # doctest: +SKIP
    """
    seed = require_seed(seed)
    if fit.law.likelihood is not None:
        raise NotFittedFor("a law with an exact likelihood leaves no noise to choose")
    own = fit.draws("posterior")
    scalars = [n for n, x in own.items() if x.ndim == 1 and n in fit.tree["headline"].data_vars]
    if unknown := [q for q in quantities if q not in scalars]:
        raise LawError(f"no quantity {unknown[0]!r}", code="BS-L002", remedy=nearest(unknown[0], scalars))
    wanted = list(quantities) or [n for n in fit.law.derived if n in scalars][:1] or scalars[:1]
    groups = [fit.group, ()] if fit.group else [()]
    specs = [(noise, group) for group in groups for noise in NOISES]
    found: list[tuple[Fit, bool]] = []
    with progress_bar(progress, "other models of the same runs", steady=False) as report:
        for k, (noise, group) in enumerate(specs):
            report(k / len(specs), f"{noise}, groups {', '.join(group) or 'none'}")
            same = noise == fit.noise and group == fit.group
            found.append((fit, fit.converged) if same else _refitted(fit, noise, group, seed))
    table, finding = _compared(fit, specs, found, wanted)
    return Specifications(table, finding, fit.prob, fit.info["runs"]["source"], fit.law.spec)


def _refitted(fit: Fit, noise: str, group: Sequence[str], seed: int) -> tuple[Fit, bool]:
    """The same runs under another noise or grouping, and whether that is certified."""
    options = fit.info["options"]

    def own(name: str) -> bool:  # of the fit's own noise or groups: others have no such parameter
        shape = [p.name for p in NOISES[fit.noise].shape] if noise != fit.noise else []
        return name.startswith(("tau_", "growth_", "ell")) or any(name == p or name.startswith(f"{p}_") for p in shape)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        batch = fit_many(
            fit.law,
            {"refit": fit.runs},
            seed=seed,
            noise=noise,
            group=list(group) or ("none" if fit.group else fit.grouped),
            fix={k: v for k, v in options["fix"].items() if not own(k)},
            tie=[(first, second) for first, second in options["tie"] if not own(first) and not own(second)],
            priors={k: v for k, v in options["priors"].items() if not own(k)},
            references=fit.references,
            min_flops=options.get("min_flops"),
            progress=False,
        )
    return batch["refit"], batch.converged


def _compared(
    fit: Fit, specs: Sequence[tuple[str, Sequence[str]]], found: Sequence[tuple[Fit, bool]], wanted: Sequence[str]
) -> tuple[pd.DataFrame, Finding]:
    import pandas as pd

    predicted = [_leave_one_out(f) for f, _ in found]
    densities = np.stack([density for density, _ in predicted])
    totals = densities.sum(axis=1)
    trusted = np.asarray([certified for _, certified in found])
    best = int(np.argmax(np.where(trusted, totals, -np.inf)))
    behind = totals[best] - totals
    error = np.sqrt(densities.shape[1]) * (densities[best] - densities).std(axis=1)
    comparable = trusted & (behind <= np.maximum(COMPARABLE_NATS, COMPARABLE_ERRORS * error))
    ends = [0.5, (1 - fit.prob) / 2, (1 + fit.prob) / 2]
    rows = []
    for k, ((noise, group), (one, certified)) in enumerate(zip(specs, found, strict=True)):
        for name in wanted:
            median, lower, upper = np.quantile(one.draws("posterior")[name], ends)
            rows.append(
                dict(
                    noise=noise,
                    group=", ".join(group) or "none",
                    fitted=one is fit,
                    quantity=name,
                    median=float(median),
                    lower=float(lower),
                    upper=float(upper),
                    elpd=float(totals[k]),
                    behind=float(behind[k]),
                    error=float(error[k]),
                    comparable=bool(comparable[k]),
                    certified=certified,
                    rough=predicted[k][1],
                )
            )
    table = pd.DataFrame(rows)
    return table, _finding(fit, table, wanted[0])


def _leave_one_out(fit: Fit) -> tuple[np.ndarray, float]:
    """The expected log predictive density of every observed row, and the share of rows with a high Pareto k."""
    from arviz_stats.base.array import array_stats
    from scipy.special import logsumexp

    model = model_of(fit)
    rows = len(model.runs)
    terms = evaluate_draws(model, flat_draws(fit, model))["log_likelihood"]
    kept = [v[:, :rows][:, model.data["responses"][name]["used"][:rows].astype(bool)] for name, v in terms.items()]
    density = np.concatenate(kept, axis=1).T
    smoothed = [array_stats.psislw(row) for row in density]  # it negates what it is given
    weights, k = np.stack([np.asarray(w) for w, _ in smoothed]), np.asarray([float(k) for _, k in smoothed])
    found = np.asarray(logsumexp(weights + density, axis=1)) - np.asarray(logsumexp(weights, axis=1))
    return found, float((k > ROUGH).mean())


def _finding(fit: Fit, table: pd.DataFrame, name: str) -> Finding:
    """What the medians of models that fit comparably span, in half widths of the headline's interval."""
    group = "headline" if fit.headline_source != "none" else "posterior"
    lower, upper = np.quantile(fit.draws(group)[name], [(1 - fit.prob) / 2, (1 + fit.prob) / 2])
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    rows = table[(table["quantity"] == name) & table["comparable"]]
    low, high = rows["median"].min(), rows["median"].max()
    far = max(high - middle, middle - low) / half
    outside = far > MOVES
    told = f"{len(rows)} of {(table['quantity'] == name).sum()} noises and groupings predict about as well as the best"
    message = f"{told}; their {name} is {low:.3g} to {high:.3g}, the interval {lower:.3g} to {upper:.3g}"
    if outside:
        message += ". The choice of noise or groups alone moves it out of its interval: state it with the number"
    return Finding("model-choice", "choice of noise and groups", "warn" if outside else "pass", far, MOVES, message)
