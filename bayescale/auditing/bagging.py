"""BayesBag: the posterior averaged over tables whose clusters of runs were drawn again, with replacement."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayescale.batch import fit_many
from bayescale.errors import Finding, FitError, LawError, NotConverged, NotFittedFor, nearest, require_seed
from bayescale.law import PooledLaw
from bayescale.narrowness import FEWEST_TO_WIDEN, Clusters, clusters_of
from bayescale.narrowness.clusters import ROW, labels_of
from bayescale.posterior import Fit, model_of
from bayescale.runs import COLUMNS, Runs
from bayescale.sampling import Progress, progress_bar
from bayescale.verdicts import verdict_of

#: Bags that must be certified before their average is headlined.
_ENOUGH = 0.9
#: A bag is drawn so many times at most for one that has every level that parameters differ by.
_MOST_TRIES = 1000
#: The chance that bags of a model that holds spread more than is told.
FALSE_ALARM = 0.01


def bayesbag(
    fit: Fit, by: str | None = None, *, bags: int = 50, seed: int = 0, progress: bool | Progress | None = None
) -> Fit:
    """The fit with headline draws from BayesBag: posteriors of `bags` tables whose clusters were drawn again.

    Each table has as many clusters as the fit's, drawn with replacement; it is fitted by the same model and ladder as
    the first, where a cluster that was drawn twice counts as two, each with an effect of its own. The equal mixture of
    the posteriors spreads by what the model leaves open and by what the clusters themselves show:

        var(q) = mean over bags of var(q | bag) + variance over bags of mean(q | bag).

    Where the model holds both terms are equal, so the spread is about sqrt(2) times the posterior's: conservative, and
    wider still where rows share what the model does not know. Intervals are called adjusted. `by` is a grouping of the
    audit ("params", "budget", "run", "band of compute", "row"); by default the one that widened the headline, or the
    fitted one of most clusters, or bands of compute.

    Source: Bühlmann 2014, "Discussion of Big Bayes Stories and BayesBag", Statistical Science 29; Huggins and Miller
    2023, "Reproducible model selection using bagged posteriors", Bayesian Analysis 18.

    Raises
    ------
    NotFittedFor
        Without at least 10 clusters, for a batch, a point, or the column that a law is pooled over.
    LawError
        For a grouping that the table does not have.
    FitError
        When fewer than nine bags in ten are certified.

    Example
    -------
    >>> bs.bayesbag(fit, by="params").summary().loc["a"]  # doctest: +SKIP
    """
    seed = require_seed(seed)
    if not fit.audit or fit.info.get("sampler") == "least_squares":
        raise NotFittedFor("this fit was not examined: there is nothing to compare with", code="BS-F002")
    model = model_of(fit)
    clusters = _clusters(fit, clusters_of(model.runs, model.groupings), by)
    rng, runs = np.random.default_rng([seed, 17]), model.runs
    group = [_copies_of(g) if g == clusters.name else g for g in fit.group]
    needed = sorted({p.over for p in (*fit.law.parameters, *fit.law.sampled) if p.over})
    tables = {f"bag {k}": _drawn(runs, clusters, rng, clusters.name in fit.group, needed) for k in range(bags)}
    options = fit.info["options"]
    with progress_bar(progress, f"BayesBag over {clusters.count} {labels_of(clusters.name)}", steady=False) as report:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            made = fit_many(
                fit.law,
                tables,
                seed=seed,
                noise=fit.noise,
                group=group or "none",
                fix=options["fix"],
                tie=[(first, second) for first, second in options["tie"]],
                priors=options["priors"],
                references=fit.references,
                min_flops=options.get("min_flops"),
                progress=report,
            )
    if len(made.certified) < _ENOUGH * bags:
        worst = made.status.loc[next(n for n in made.status.index if n not in made.certified), "sentence"]
        raise FitError(
            f"{len(made.certified)} of {bags} tables drawn again could be fitted ({worst})",
            code="BS-F002",
            remedy="Draw other clusters: by=.",
        )
    headline, spread = _mixture(fit, [made[n] for n in made.certified], rng, clusters.name)
    tree = fit.tree.copy()
    tree["headline"] = type(tree)(headline)
    finding = _finding(fit, spread, clusters)
    result = replace(fit, tree=tree).with_info(
        headline_source="bayesbag",
        widening={"clusters": clusters.name, "count": clusters.count, "bags": len(made.certified)},
        audit=[*(f for f in fit.info["audit"] if f["code"] != finding.code), finding.document()],
    )
    return result.with_info(verdict=verdict_of(result))


def _clusters(fit: Fit, known: tuple[Clusters, ...], by: str | None) -> Clusters:
    """The partition whose clusters are drawn."""
    named = {c.name: c for c in known if c.name != ROW} | {c.name: c for c in known if c.name == ROW}
    if by is None:
        fitted = sorted((c for c in named.values() if c.fitted), key=lambda c: -c.count)
        widened = (fit.info.get("widening") or {}).get("clusters")
        by = str(widened) if widened else next((c.name for c in (*fitted, *named.values())), ROW)
    if by not in named:
        raise LawError(f"no grouping {by!r} of at least 6 clusters", code="BS-L002", remedy=nearest(by, [*named]))
    if isinstance(fit.law, PooledLaw) and by in fit.law.pool:
        raise NotFittedFor(f"{by!r} has parameters of its own: without its rows they would not be there")
    if named[by].count < FEWEST_TO_WIDEN:
        raise NotFittedFor(
            f"{named[by].count} clusters of {by} are too few to draw again", remedy=f"It takes {FEWEST_TO_WIDEN}."
        )
    return named[by]


def _copies_of(column: str) -> str:
    """The column of clusters that were drawn: a number that the law may read is left as it is."""
    return f"{column} drawn" if column in COLUMNS and COLUMNS[column].kind == "scale" else column


def _drawn(runs: Runs, clusters: Clusters, rng: np.random.Generator, fitted: bool, needed: Sequence[str]) -> Runs:
    """A table of as many clusters, drawn with replacement; where they have effects, each copy is a level of its own.

    It is drawn again until it has every level of the columns `needed`, which parameters differ by.
    """
    members, labels = clusters.rows(), [runs.labels(c) for c in needed]
    for _ in range(_MOST_TRIES):
        drawn = rng.integers(clusters.count, size=clusters.count)
        rows = np.concatenate([members[k] for k in drawn])
        if all(len(np.unique(index[rows])) == len(names) for index, names in labels):
            break
    else:
        raise NotFittedFor(
            f"clusters of {clusters.name} drawn again hardly ever have every level of {', '.join(needed)}",
            remedy="Draw other clusters: by=.",
        )
    copy = np.concatenate([np.full(len(members[k]), j) for j, k in enumerate(drawn)])
    frame = runs.frame.iloc[rows]
    frame = frame.set_axis(range(1, len(frame) + 1), axis=0)
    if fitted:
        frame = frame.assign(**{_copies_of(clusters.name): [f"cluster {j}" for j in copy]})
    return replace(runs, frame=frame, rows_read=len(frame))


def _mixture(fit: Fit, bags: list[Fit], rng: np.random.Generator, by: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Headline draws of equal parts of every bag, and by quantity the means and variances over the bags."""
    import xarray as xr

    own = fit.tree["headline"].to_dataset()
    chains, draws = own.sizes["chain"], own.sizes["draw"]
    share = -(-chains * draws // len(bags))
    order = rng.permutation(share * len(bags))[: chains * draws]
    picks = []
    for bag in bags:
        total = bag.tree["posterior"].sizes["chain"] * bag.tree["posterior"].sizes["draw"]
        picks.append(np.linspace(0, total - 1, share).astype(int))
    variables, spread = {}, {}
    groups = [bag.draws("posterior") for bag in bags]
    for name, variable in ((str(n), v) for n, v in own.data_vars.items()):
        drawn = name.replace(f"tau_{by}", f"tau_{_copies_of(by)}")  # the spread has the name of the copies
        parts = [g[name if name in g else drawn][pick] for g, pick in zip(groups, picks, strict=True)]
        stacked = np.stack(parts)
        variables[name] = (variable.dims, stacked.reshape(-1, *stacked.shape[2:])[order].reshape(variable.shape))
        spread[name] = np.stack([stacked.mean(axis=1), stacked.var(axis=1)])
    return xr.Dataset(variables, coords=own.coords), spread


def _finding(fit: Fit, spread: dict[str, np.ndarray], clusters: Clusters) -> Finding:
    """Whether bags differ by more than their own posteriors explain, in the quantity that is asked about first."""
    from scipy.stats import chi2

    scalars = [n for n in (*fit.law.derived, *(p.name for p in fit.law.parameters)) if n in spread]
    name = next(n for n in scalars if spread[n].ndim == 2 and spread[n][1].mean() > 1e-24)  # and not fixed
    means, variances = spread[name]
    within, between = float(variances.mean()), float(means.var(ddof=1))
    value, few = float(np.sqrt((within + between) / within)), len(means) - 1
    limit = float(np.sqrt(1 + chi2.ppf(1 - FALSE_ALARM, few) / few))
    message = (
        f"over {len(means)} tables of {clusters.count} {labels_of(clusters.name)} drawn again, {name} spreads "
        f"{value:.2f} times as far as within one; where the model holds it is about 1.41, by chance up to {limit:.2f}"
    )
    if value > limit:
        message += ": rows share more than the model knows"
    return Finding("bayesbag", "clusters drawn again", "warn" if value > limit else "pass", value, limit, message)
