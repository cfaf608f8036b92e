"""What the draws and the design say about a posterior's intervals, without sampling again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.diagnostics import exponents_of
from bayescale.errors import Finding
from bayescale.law import Parameter
from bayescale.model import Model
from bayescale.narrowness.alarms import (
    LACK_ALARM,
    NARROW_ALARM,
    WORLDS,
    Bench,
    clusters_to_widen,
    influence,
    narrow_interval,
    outlying_rows,
    unstable_law,
)
from bayescale.narrowness.clusters import Clusters, clusters_of, halves, label_of
from bayescale.narrowness.conflicting import prior_conflict
from bayescale.narrowness.grouped import group_alarms
from bayescale.narrowness.jackknife import gradients_of
from bayescale.narrowness.linearised import Linearised, linearise
from bayescale.narrowness.planning import Plan, plan_halves, plan_new
from bayescale.narrowness.replicates import lack_of_fit, replicates_of
from bayescale.narrowness.residuals import information_of
from bayescale.narrowness.windows import window_values
from bayescale.runs import compute_of

#: A number of which the prior supplies more than this share is held by it: its spread is no property of the data.
PRIOR_HELD = 0.2


@dataclass(frozen=True, eq=False)
class Examination:
    """The outcome: findings, by quantity how many times too narrow its interval looks and the prior's share of it, the
    two halves of the table by compute, the clusters whose spread widens the headline (None: it needs no widening), and
    runs that would make the answer surer.
    """

    findings: tuple[Finding, ...]
    narrowness: Mapping[str, float]
    prior_share: Mapping[str, float]
    windows: Mapping[str, Any] | None = None
    line: Linearised | None = None
    widen_by: Clusters | None = None
    plan: Plan | None = None

    @property
    def failed(self) -> bool:
        """Whether any alarm went off."""
        return any(f.status == "fail" for f in self.findings)


def examine(
    model: Model,
    flat: np.ndarray,
    quantities: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    worlds: int = WORLDS,
) -> Examination:
    """Examine the intervals of a fit: leave-cluster-out spreads, halves of the table, unmodelled groups, the prior.

    `flat` are draws of the model's flat vector, shape (samples, dimension), and `quantities` draws of what is reported,
    by name. Alarms compare the table with tables simulated from the fit at its own design, so that a model that holds
    raises any of them with a chance of 5 % in all.
    """
    structure = model.structure
    z = flat[:, : structure.coordinates.dimension]
    shares = prior_shares(z, quantities)
    parts = np.split(flat, np.cumsum(structure.sizes)[:-1], axis=1)
    effects = {i.site: u for i, u in zip(structure.intercepts, parts[1:], strict=True)}
    findings = [*_effective_runs(model, quantities)]
    line = linearise(model, z, effects)
    prefer = [*(n for n in ("a",) if n in model.law.derived), *exponents_of(model.law)]
    free = {n: x for n, x in quantities.items() if shares.get(n, 1.0) <= PRIOR_HELD}
    names, gradients = gradients_of(z, free, line) if line is not None else ([], np.empty((0, 0)))
    nuisance = {p for i in structure.intercepts for p in (i.spread, i.ratio)} | {
        p.name for p in _noise_parameters(model)
    }
    findings += _prior_held({n: s for n, s in shares.items() if n not in nuisance})
    if line is None or not names:
        why = "the law has an exact likelihood or several responses" if line is None else "the prior holds every number"
        findings.append(Finding("narrow-interval", "narrowness", "pass", None, None, f"not examined: {why}"))
        findings += [prior_conflict(line, z)] if line is not None else []
        return Examination(tuple(findings), {}, shares)
    bench = Bench(
        line,
        tuple(names),
        gradients,
        {n: float(np.median(quantities[n])) for n in names},
        frozenset(n for n in names if (quantities[n] > 0).all()),
        clusters_of(model.runs, model.groupings),
        seed,
        worlds,
    )
    repeats = replicates_of(bench)
    narrow, ratios, worst = narrow_interval(bench, NARROW_ALARM - (LACK_ALARM if repeats else 0.0))
    windows, unstable = unstable_law(bench, prefer)
    group = [*group_alarms(bench), *([lack_of_fit(bench, repeats)] if repeats else [])]
    findings += [narrow, *unstable, *group, influence(bench, prefer), *outlying_rows(line), prior_conflict(line, z)]
    alarmed = [f for f in (narrow, *unstable, *group) if f.status == "fail"]
    widen = clusters_to_widen(bench, alarmed, worst) if alarmed else None
    told = [*(p.name for p in model.law.parameters), *model.law.derived]
    if windows is not None:
        windows["by_compute"] = window_values(line, told)
    wanted = gradients_of(z, {n: quantities[n] for n in prefer if n in quantities}, line)  # held by the prior or not
    return Examination(tuple(findings), ratios, shares, windows, line, widen, _plan(line, *wanted, alarmed))


def _plan(line: Linearised, names: Sequence[str], gradients: np.ndarray, alarmed: Sequence[Finding]) -> Plan | None:
    """Runs in both halves of the table where they differ; else new runs anywhere: for the first exponent."""
    if not names:
        return None
    name, gradient = names[0], gradients[0]
    C = compute_of(line.model.runs)
    if C is not None and any(f.code == "law-unstable-in-compute" for f in alarmed):
        lower = halves(C)
        return plan_halves(line, name, gradient, (lower, ~lower))
    return plan_new(line, name, gradient)


def prior_shares(z: np.ndarray, quantities: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of the prior in what is known of each quantity: 0 where the data decide, 1 where they say nothing.

    A quantity's posterior variance splits into what the prior and what the likelihood leave; the prior's part is the
    fall of the variance as the prior is raised to a power. In standard-normal coordinates z it is
    sum_k cov(q, z_k)^2 / var(q) for quantities that are locally linear. Monte Carlo bias is subtracted.
    """
    centred = z - z.mean(axis=0)
    shares = {}
    for name, x in quantities.items():
        y = np.log(x) if (np.asarray(x) > 0).all() else np.asarray(x, float)
        y = y - y.mean()
        variance = float(np.mean(y**2))
        if not np.isfinite(variance) or variance <= 1e-24:
            continue
        moments = (centred.T @ y) / len(y)
        noise = np.var(centred * y[:, None], axis=0) / len(y)
        shares[name] = float(np.clip(np.sum(moments**2 - noise) / variance, 0.0, 1.0))
    return shares


def _noise_parameters(model: Model) -> list[Parameter]:
    """What is sampled beside the law's own coordinates."""
    own = {p.name for p in (*model.law.coordinates(), *model.law.parameters)}
    return [s.parameter for s in model.structure.coordinates.slots if s.parameter.name not in own]


def _prior_held(shares: Mapping[str, float]) -> list[Finding]:
    held = {n: s for n, s in shares.items() if s > PRIOR_HELD}
    if not shares:
        return []
    name = max(shares, key=lambda n: shares[n])
    if not held:
        message = f"the prior supplies at most {shares[name]:.0%} of what is known of any number ({name})"
        return [Finding("prior-held", "prior's share", "pass", shares[name], PRIOR_HELD, message)]
    told = ", ".join(f"{n} {s:.0%}" for n, s in sorted(held.items(), key=lambda p: -p[1])[:6])
    message = f"held by the prior, not by the data: {told} of what is known; try other priors, or add runs"
    return [Finding("prior-held", "prior's share", "warn", shares[name], PRIOR_HELD, message)]


def _effective_runs(model: Model, quantities: Mapping[str, np.ndarray]) -> list[Finding]:
    """For every fitted grouping, the correlation of its rows and how many independent rows they amount to."""
    findings = []
    for i in model.structure.intercepts:
        tau, sigma = quantities.get(i.spread), quantities.get(f"sigma{i.suffix}")
        if tau is None or sigma is None or i.grouping.column in model.structure.held_spreads:
            continue  # a spread that was fixed says nothing of the rows
        g, noise = i.grouping, model.structure.noises[i.response]
        shape = {p.name: float(np.median(quantities[f"{p.name}{i.suffix}"])) for p in noise.shape}
        variance = sigma**2 / information_of(noise, shape)  # of normal rows that would say as much
        icc = float(np.median(tau**2 / (tau**2 + variance)))
        counts = np.bincount(g.index)
        size = float((counts**2).sum() / counts.sum())
        effective = len(g.index) / (1 + (size - 1) * icc)
        message = (
            f"rows of one {label_of(g.column)} are correlated by {icc:.2f} (median) over {len(g.levels)} levels: "
            f"{len(g.index)} rows count as about {effective:.0f}"
        )
        findings.append(Finding("effective-runs", f"effect of {g.column}", "pass", effective, None, message))
    return findings
