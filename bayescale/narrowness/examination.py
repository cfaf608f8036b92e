"""What the draws and the design say about a posterior's intervals, without refitting: calibrated alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.diagnostics import exponents_of
from bayescale.errors import Finding
from bayescale.law import Parameter
from bayescale.model import Model
from bayescale.narrowness.clusters import BAND, ROW, Clusters, clusters_of, halves, label_of
from bayescale.narrowness.jackknife import gradients_of, leave_out, model_spread, narrowness_of, spread_of
from bayescale.narrowness.linearised import Linearised, Tables, information_of, linearise
from bayescale.posterior import evaluate_draws
from bayescale.runs import compute_of

#: The chance of each alarm on a table that the model fits: 5 % together, over all quantities and groupings.
NARROW_ALARM, WINDOW_ALARM, GROUP_ALARM = 0.03, 0.01, 0.01
#: A number of which the prior supplies more than this share is held by it: its spread is no property of the data.
PRIOR_HELD = 0.2
#: Widened draws need the spread of at least this many clusters.
FEWEST_TO_WIDEN = 10
_WORLDS, _CHUNK = 1000, 2e7
#: So many of the simulated tables are fitted half by half, until their log density gains less than this share.
_REFITTED, _TOLERANCE = 500, 1e-5


@dataclass(frozen=True, eq=False)
class Examination:
    """The outcome: findings, by quantity how many times too narrow its interval looks and the prior's share of it, the
    two halves of the table by compute, and the clusters whose spread widens the headline (None: it needs no widening).
    """

    findings: tuple[Finding, ...]
    narrowness: Mapping[str, float]
    prior_share: Mapping[str, float]
    windows: Mapping[str, Any] | None = None
    line: Linearised | None = None
    widen_by: Clusters | None = None

    @property
    def failed(self) -> bool:
        """Whether any alarm went off."""
        return any(f.status == "fail" for f in self.findings)


@dataclass(frozen=True, eq=False)
class _Bench:
    """A linearised fit with the quantities asked about, and tables simulated from it, each refitted."""

    line: Linearised
    names: tuple[str, ...]
    gradients: np.ndarray
    middles: Mapping[str, float]
    logged: frozenset[str]
    seed: int
    worlds: int = _WORLDS
    clusters: tuple[Clusters, ...] = field(default=())

    @cached_property
    def _simulated(self) -> tuple[np.ndarray, np.ndarray]:
        return self.line.simulate(np.random.default_rng([self.seed, 11]), self.worlds)

    @cached_property
    def fitted(self) -> tuple[np.ndarray, np.ndarray]:
        """The residuals of every simulated table after its fit, and the fit: (worlds, rows), (worlds, dimension)."""
        noise, truth = self._simulated
        moved = self.line.displacement(noise, truth)
        return noise - moved @ self.line.slopes.T, truth + moved

    @cached_property
    def _tables(self) -> list[Tables]:
        rows, dimension = self.line.slopes.shape
        pieces = max(1, int(np.ceil(self.worlds * rows * dimension / _CHUNK)))
        return [self.line.tables(part) for part in np.array_split(self.fitted[0], pieces)]

    def over_worlds(self, statistic: Callable[[Tables], np.ndarray]) -> np.ndarray:
        """A statistic over all simulated tables, in pieces that fit into memory."""
        return np.concatenate([statistic(part) for part in self._tables])

    def apart(self, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Upper less lower half by quantity, each half fitted by itself: of the table (q,), of worlds (worlds, q)."""
        line, halves = self.line, (~lower, lower)
        upper, below = (line.fitted_to(rows).x for rows in halves)
        seen = self.gradients @ (upper - below)
        noise, truth = (x[:_REFITTED] for x in self._simulated)
        location = line.observed - line.residual - line.incidence @ line.x[line.inner :]
        y = location + truth[:, line.inner :] @ line.incidence.T + noise
        rows, dimension = line.slopes.shape
        size = int(np.clip(_CHUNK // (rows * dimension), 10, len(y)))
        moved = []
        for first in range(0, len(y), size):
            last = min(first, len(y) - size)  # the last piece overlaps, so that all have one shape
            part = slice(last, last + size)
            upper, below = (line.modes(y[part], keep, truth[part], _TOLERANCE)[0] for keep in halves)
            moved.append(((upper - below) @ self.gradients.T)[first - last :])
        return seen, np.concatenate(moved)


def examine(
    model: Model,
    flat: np.ndarray,
    quantities: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    worlds: int = _WORLDS,
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
        return Examination(tuple(findings), {}, shares)
    bench = _Bench(
        line,
        tuple(names),
        gradients,
        {n: float(np.median(quantities[n])) for n in names},
        frozenset(n for n in names if (quantities[n] > 0).all()),
        seed,
        worlds,
        clusters_of(model.runs, model.groupings),
    )
    narrow, ratios, worst = _narrow(bench)
    windows, unstable = _windows(bench, prefer)
    group = _unmodelled(bench)
    findings += [narrow, *unstable, *group, _influence(bench, prefer)]
    alarmed = [f for f in (narrow, *unstable, *group) if f.status == "fail"]
    widen = _to_widen(bench, alarmed, worst) if alarmed else None
    return Examination(tuple(findings), ratios, shares, windows, line, widen)


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
        if tau is None or sigma is None or i.grouping.fixed is not None:
            continue
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


def _standardised(seen: np.ndarray, worlds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of the table and of the worlds in the worlds' own mean and standard deviation."""
    mean, sd = worlds.mean(axis=0), worlds.std(axis=0) + 1e-12
    return (seen - mean) / sd, (worlds - mean) / sd


def _narrow(bench: _Bench) -> tuple[Finding, dict[str, float], tuple[str, Clusters]]:
    """The largest leave-cluster-out spread over quantities and groupings, against what chance explains."""
    line, best = bench.line, {n: (-np.inf, 1.0) for n in bench.names}
    top, worlds_top, where = -np.inf, np.full(bench.worlds, -np.inf), (bench.names[0], bench.clusters[0])
    level_at: dict[tuple[str, str], tuple[float, float, float]] = {}
    for clusters in bench.clusters:

        def statistic(tables, clusters=clusters):
            return np.log(narrowness_of(line, tables, clusters, bench.gradients))

        seen, worlds = statistic(line.table)[0], bench.over_worlds(statistic)
        z, worlds_z = _standardised(seen, worlds)
        mean, sd = worlds.mean(axis=0), worlds.std(axis=0)
        worlds_top = np.maximum(worlds_top, worlds_z.max(axis=1))
        for k, n in enumerate(bench.names):
            level_at[n, clusters.name] = (float(np.exp(seen[k])), float(mean[k]), float(sd[k]))
            if z[k] > best[n][0]:
                best[n] = (float(z[k]), float(np.exp(seen[k] - mean[k])))
        k = int(np.argmax(z))
        if z[k] > top:
            top, where = float(z[k]), (bench.names[k], clusters)
    level = float(np.quantile(worlds_top, 1 - NARROW_ALARM))
    name, clusters = where
    value, mean, sd = level_at[name, clusters.name]
    threshold = float(np.exp(mean + level * sd))
    message = (
        f"leaving out one {clusters.label} at a time ({clusters.count}) moves {name} {value:.1f} times as far as its "
        "interval says"
    )
    if top > level:
        message += f"; chance explains up to {threshold:.1f}: the interval is too narrow"
        finding = Finding("narrow-interval", "narrowness", "fail", value, threshold, message)
    else:
        message += f", which chance explains (up to {threshold:.1f})"
        finding = Finding("narrow-interval", "narrowness", "pass", value, threshold, message)
    return finding, {n: max(1.0, ratio) for n, (_, ratio) in best.items()}, where


def _windows(bench: _Bench, prefer: Sequence[str]) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Does the lower half of the table by compute tell the same law as the upper half?"""
    line = bench.line
    C = compute_of(line.model.runs)
    if C is None or len(np.unique(C)) < 2:
        return None, []
    lower = halves(C)
    if min(lower.sum(), (~lower).sum()) < line.inner:
        return None, []
    seen, null = bench.apart(lower)
    z, worlds = _standardised(seen, null)
    level = float(np.quantile(np.abs(worlds).max(axis=1), 1 - WINDOW_ALARM))
    k = int(np.argmax(np.abs(z)))
    asked = [bench.names.index(n) for n in prefer if n in bench.names]
    if asked:
        k = next((q for q in asked if abs(z[q]) > level), k if abs(z[k]) > level else asked[0])
    name, unstable = bench.names[k], bool(np.abs(z).max() > level)
    fits = [line.fitted_to(rows) for rows in (lower, ~lower)]
    cut = float(C[lower].max()), float(C[~lower].min())
    values = values_at(line, fits)
    document: dict[str, Any] = {"cut": list(cut), "rows": [int(lower.sum()), int((~lower).sum())], "quantities": {}}
    for q, n in enumerate(bench.names):
        if n not in values:
            continue
        sds = []
        for fit, rows, value in zip(fits, (lower, ~lower), values[n], strict=True):
            covariance = fit.covariance_of(np.where(rows, np.maximum(fit.table.information[0], 0.0), 0.0))
            unit = abs(value) if n in bench.logged else 1.0
            sds.append(unit * float(np.sqrt(bench.gradients[q] @ covariance @ bench.gradients[q])))
        unit = abs(bench.middles[n]) if n in bench.logged else 1.0
        document["quantities"][n] = {
            "lower": float(values[n][0]),
            "upper": float(values[n][1]),
            "lower_sd": sds[0],
            "upper_sd": sds[1],
            "null_sd": unit * float(null[:, q].std()),
            "z": float(z[q]),
        }
    told = document["quantities"].get(name)
    if told is None:
        message = (
            f"the halves of the table by compute give {name} that differ by {abs(z[k]):.1f} times what chance does"
        )
    else:
        d = _decimals(told["null_sd"])
        what = f"one value of {name} does not fit" if unstable else f"both halves of the table tell one {name}"
        message = (
            f"{what}: {told['lower']:.{d}f} ± {told['lower_sd']:.{d}f} from runs up to {cut[0]:.2g} FLOP, "
            f"{told['upper']:.{d}f} ± {told['upper_sd']:.{d}f} from those above; if the law held, they would differ by "
            f"0 ± {told['null_sd']:.{d}f}"
        )
    status = "fail" if unstable else "pass"
    return document, [
        Finding("law-unstable-in-compute", "one law over compute", status, abs(float(z[k])), level, message)
    ]


def _decimals(error: float) -> int:
    """Decimals that show an error with two digits."""
    return int(np.clip(1 - np.floor(np.log10(max(error, 1e-12))), 0, 8))


def values_at(line: Linearised, modes: Sequence[Linearised]) -> dict[str, np.ndarray]:
    """The law's own values at several modes of one model, by name; what needs an allocation is not among them."""
    flat = np.stack([np.concatenate([m.flat, m.x[m.inner :]]) for m in modes])
    out = evaluate_draws(line.model, flat)["values"]
    return {n: np.asarray(v) for n, v in out.items() if v.ndim == 1}


def _unmodelled(bench: _Bench) -> list[Finding]:
    """Whether residuals share an effect of a grouping that the model has none for."""
    line = bench.line
    candidates = [c for c in bench.clusters if not c.fitted and c.name != ROW and c.count < len(line.residual)]
    if not candidates:
        return []

    def statistic(tables):
        scores = tables.score * line.scale
        power = (scores**2).sum(axis=1)
        made = []
        for c in candidates:
            sums = np.stack([scores[:, rows].sum(axis=1) for rows in c.rows()], axis=1)
            made.append(np.log((sums**2).sum(axis=1) / power))
        return np.stack(made, axis=1)

    seen, worlds = statistic(line.table)[0], bench.over_worlds(statistic)
    z, worlds_z = _standardised(seen, worlds)
    level = float(np.quantile(worlds_z.max(axis=1), 1 - GROUP_ALARM))
    k = int(np.argmax(z))
    c = candidates[k]
    value, threshold = np.exp(seen[k]), np.exp(worlds[:, k].mean() + level * worlds[:, k].std())
    message = f"residuals of one {c.label} go together {value:.1f} times as much as independent ones would"
    if z[k] > level:
        advice = "the law misses something along compute" if c.name == BAND else f"fit an effect of {c.name} (--group)"
        message += f"; chance explains up to {threshold:.1f}: {advice}"
    else:
        message += f", which chance explains (up to {threshold:.1f})"
    status = "fail" if z[k] > level else "pass"
    return [Finding("unmodelled-groups", "groups of residuals", status, float(value), float(threshold), message)]


def _influence(bench: _Bench, prefer: Sequence[str]) -> Finding:
    """The run whose absence moves an answer the most, in posterior standard deviations."""
    line = bench.line
    moves = leave_out(line, line.table, bench.clusters[0], bench.gradients)[0]
    share = np.abs(moves) / model_spread(line.table, bench.gradients)[0][:, None]
    asked = [bench.names.index(n) for n in prefer if n in bench.names]
    q = asked[0] if asked else int(np.argmax(share.max(axis=1)))
    row = int(np.argmax(share[q]))
    number = line.model.runs.rows[row]
    value = float(share[q, row])
    message = (
        f"without row {number} {bench.names[q]} would move by {value:.1f} posterior sds, more than without any other"
    )
    status = "warn" if value > 1 else "pass"
    if status == "warn":
        message += ": look at that run before you rely on the answer"
    return Finding("influence", "most influential run", status, value, 1.0, message)


def _to_widen(bench: _Bench, alarmed: Sequence[Finding], worst: tuple[str, Clusters]) -> Clusters | None:
    """The clusters whose leave-one-out spread widens the headline: those that raised the alarm, or else the partition
    of at least 10 clusters under which the same quantity spreads most."""
    name, clusters = worst
    narrow = any(f.code == "narrow-interval" for f in alarmed)
    if narrow and clusters.count >= FEWEST_TO_WIDEN:
        return clusters
    enough = [c for c in bench.clusters if c.count >= FEWEST_TO_WIDEN and c.name != ROW]
    if not enough:
        return None
    k = bench.names.index(name)
    moves = [leave_out(bench.line, bench.line.table, c, bench.gradients[k : k + 1]) for c in enough]
    return enough[int(np.argmax([spread_of(m)[0, 0] for m in moves]))]
