"""Alarms: a statistic of the table against the same statistic of tables simulated at its own design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.errors import Finding, shorten_rows
from bayescale.narrowness.clusters import ROW, Clusters, halves
from bayescale.narrowness.jackknife import leave_out, model_spread, narrowness_of, spread_of
from bayescale.narrowness.linearised import Linearised, Tables
from bayescale.posterior import evaluate_draws
from bayescale.runs import compute_of

#: The chance of each alarm on a table that the model fits: 5 % together, over all quantities and groupings. Where runs
#: are repeated, the test of lack of fit has its chance from that of narrowness.
NARROW_ALARM, WINDOW_ALARM, GROUP_ALARM, LACK_ALARM = 0.03, 0.01, 0.01, 0.01
#: The chance that the most influential run of a table that the model fits is warned of.
INFLUENCE_WARNING = 0.01
#: Widened draws need the spread of at least this many clusters.
FEWEST_TO_WIDEN = 10
WORLDS, _CHUNK = 1000, 2e7
#: A row is told that is off the law by so many scales of the noise and by this share: with 4 degrees of freedom one row
#: in 25,000 is by chance.
_FAR_OFF, _FAR_SHARE = 20.0, 0.03
#: So many of the simulated tables are fitted half by half, until their log density gains less than this share.
_REFITTED, _TOLERANCE = 500, 1e-5


@dataclass(frozen=True, eq=False)
class Bench:
    """A linearised fit with the quantities asked about, and tables simulated from it, each refitted."""

    line: Linearised
    names: tuple[str, ...]
    gradients: np.ndarray
    middles: Mapping[str, float]
    logged: frozenset[str]
    clusters: tuple[Clusters, ...]
    seed: int = 0
    worlds: int = WORLDS

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
        y = line.curve + truth[:, line.inner :] @ line.incidence.T + noise
        rows, dimension = line.slopes.shape
        size = int(np.clip(_CHUNK // (rows * dimension), 10, len(y)))
        moved = []
        for first in range(0, len(y), size):
            last = min(first, len(y) - size)  # the last piece overlaps, so that all have one shape
            part = slice(last, last + size)
            upper, below = (line.modes(y[part], keep, truth[part], _TOLERANCE)[0] for keep in halves)
            moved.append(((upper - below) @ self.gradients.T)[first - last :])
        return seen, np.concatenate(moved)


def standardised(seen: np.ndarray, worlds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of the table and of the worlds in the worlds' own mean and standard deviation."""
    mean, sd = worlds.mean(axis=0), worlds.std(axis=0) + 1e-12
    return (seen - mean) / sd, (worlds - mean) / sd


def distinct_factors(value: float, threshold: float) -> tuple[str, str]:
    """Two factors with one decimal, or as many more, up to three, as tell them apart."""
    for digits in (1, 2, 3):
        written = f"{value:.{digits}f}", f"{threshold:.{digits}f}"
        if written[0] != written[1]:
            break
    return written


def narrow_interval(
    bench: Bench, chance: float = NARROW_ALARM
) -> tuple[Finding, dict[str, float], tuple[str, Clusters]]:
    """The largest leave-cluster-out spread over quantities and groupings, against what chance explains."""
    line, best = bench.line, {n: (-np.inf, 1.0) for n in bench.names}
    top, worlds_top, where = -np.inf, np.full(bench.worlds, -np.inf), (bench.names[0], bench.clusters[0])
    level_at: dict[tuple[str, str], tuple[float, float, float]] = {}

    def statistic(tables):
        return np.log(narrowness_of(line, tables, bench.clusters, bench.gradients))

    every, every_world = statistic(line.table)[0], bench.over_worlds(statistic)
    for c, clusters in enumerate(bench.clusters):
        seen, worlds = every[c], every_world[:, c]
        z, worlds_z = standardised(seen, worlds)
        mean, sd = worlds.mean(axis=0), worlds.std(axis=0)
        worlds_top = np.maximum(worlds_top, worlds_z.max(axis=1))
        for k, n in enumerate(bench.names):
            level_at[n, clusters.name] = (float(np.exp(seen[k])), float(mean[k]), float(sd[k]))
            if z[k] > best[n][0]:
                best[n] = (float(z[k]), float(np.exp(seen[k] - mean[k])))
        k = int(np.argmax(z))
        if z[k] > top:
            top, where = float(z[k]), (bench.names[k], clusters)
    level = float(np.quantile(worlds_top, 1 - chance))
    name, clusters = where
    value, mean, sd = level_at[name, clusters.name]
    threshold = float(np.exp(mean + level * sd))
    times, explained = distinct_factors(value, threshold)
    message = (
        f"leaving out one {clusters.label} at a time ({clusters.count}) moves {name} {times} times as far as its "
        "interval says"
    )
    if top > level:
        message += f"; chance explains up to {explained}: the interval is too narrow"
        finding = Finding("narrow-interval", "narrowness", "fail", value, threshold, message)
    else:
        message += f", which chance explains (up to {explained})"
        finding = Finding("narrow-interval", "narrowness", "pass", value, threshold, message)
    return finding, {n: max(1.0, ratio) for n, (_, ratio) in best.items()}, where


def unstable_law(bench: Bench, prefer: Sequence[str]) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Does the lower half of the table by compute tell the same law as the upper half?"""
    line = bench.line
    C = compute_of(line.model.runs)
    if C is None or len(np.unique(C)) < 2:
        return None, []
    lower = halves(C)
    if min(lower.sum(), (~lower).sum()) < line.inner:
        return None, []
    seen, null = bench.apart(lower)
    z, worlds = standardised(seen, null)
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


def influence(bench: Bench, prefer: Sequence[str]) -> Finding:
    """The run whose absence moves an answer the most, in posterior standard deviations.

    It is told where it moves it by more than one of them and by more than chance does: with hardly more runs than
    parameters every one of them carries much.
    """
    line = bench.line
    asked = [bench.names.index(n) for n in prefer if n in bench.names][:1]

    def shares(tables: Tables) -> np.ndarray:
        gradients = bench.gradients[asked] if asked else bench.gradients
        moves = leave_out(line, tables, bench.clusters[:1], gradients)[0]
        return np.abs(moves) / model_spread(tables, gradients)[..., None]

    seen = shares(line.table)[0]
    k, row = np.unravel_index(int(np.argmax(seen)), seen.shape)
    name, number, value = bench.names[asked[0] if asked else k], line.model.runs.rows[row], float(seen[k, row])
    chance = bench.over_worlds(lambda tables: shares(tables).max(axis=(1, 2)))
    limit = max(1.0, float(np.quantile(chance, 1 - INFLUENCE_WARNING)))
    moved, explained = distinct_factors(value, limit)
    message = f"without row {number} {name} would move by {moved} posterior sds, more than without any other"
    status = "warn" if value > limit else "pass"
    if status == "warn":
        message += f"; chance goes to {explained}: look at that run before you rely on the answer"
    elif value > 1:
        message += f", as chance may (up to {explained})"
    return Finding("influence", "most influential run", status, value, limit, message)


def outlying_rows(line: Linearised) -> list[Finding]:
    """Rows that lie off the law by twenty times what the others scatter, and by 3 %: misread cells, or diverged runs.

    Heavy tails bear them, so no alarm goes off and no answer moves much; they are told all the same.
    """
    off = line.residual / line.rows.spread
    far = np.flatnonzero((np.abs(off) > _FAR_OFF) & (np.abs(line.residual) > _FAR_SHARE))
    if not len(far) or len(far) > len(off) / 4:
        return []
    k = far[np.argmax(np.abs(off[far]))]
    rows = [line.model.runs.rows[j] for j in far]
    others = "" if len(rows) == 1 else f" (of {len(rows)} such rows: {shorten_rows(rows)})"
    message = (
        f"row {line.model.runs.rows[k]} lies {abs(np.expm1(line.residual[k])):.0%} "
        f"{'above' if off[k] > 0 else 'below'} the law, where the noise's scale is {line.rows.spread[k]:.1%}{others}: "
        "read its cells again"
    )
    return [Finding("outlying-rows", "rows far off the law", "warn", abs(float(off[k])), _FAR_OFF, message)]


def clusters_to_widen(bench: Bench, alarmed: Sequence[Finding], worst: tuple[str, Clusters]) -> Clusters | None:
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
    moves = leave_out(bench.line, bench.line.table, enough, bench.gradients[k : k + 1])
    return enough[int(np.argmax([spread_of(m)[0, 0] for m in moves]))]
