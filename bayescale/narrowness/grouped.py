"""Alarms about effects of groups: those the model has none for, and those that stand in for what the law misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayescale.errors import Finding
from bayescale.law import Law, PooledLaw
from bayescale.law.pooling import poolable
from bayescale.model import same_partition
from bayescale.model.grouping import FEWEST_ROWS_PER_LEVEL
from bayescale.narrowness.alarms import GROUP_ALARM, Bench, distinct_factors, standardised
from bayescale.narrowness.clusters import BAND, FEWEST_CLUSTERS, ROW, Clusters, labels_of
from bayescale.runs import Runs, compute_of

#: Effects are held against a polynomial of at most this degree along an input, of one degree for every three levels.
_DEGREE, _LEVELS_A_DEGREE = 3, 3


def group_alarms(bench: Bench) -> list[Finding]:
    """Whether residuals share an effect that the model has none for, and whether fitted effects follow an input.

    Both have one chance of an alarm together, over all groupings and inputs: each statistic is compared, in its own
    standard deviations, with the largest of them all over tables that follow the model.
    """
    missing, ordered = _unmodelled(bench), _orders(bench)
    law, runs = bench.line.model.law, bench.line.model.runs

    def told_missing(c: Clusters, *how) -> Finding:
        return _tell_missing(c, _advice(c, law, runs), *how)

    kinds = [(missing, _together, told_missing), (ordered, _followed, _tell_ordered)]
    kinds = [(found, statistic(bench, found), tell) for found, statistic, tell in kinds if found]
    if not kinds:
        return []
    scored = [(found, values, standardised(*values), tell) for found, values, tell in kinds]
    largest = np.max([worlds_z.max(axis=1) for _, _, (_, worlds_z), _ in scored], axis=0)
    level = float(np.quantile(largest, 1 - GROUP_ALARM))
    findings = []
    for found, (seen, worlds), (z, _), tell in scored:
        k = int(np.argmax(z))
        threshold = worlds[:, k].mean() + level * worlds[:, k].std()
        findings.append(tell(found[k], float(seen[k]), float(threshold), bool(z[k] > level)))
    return findings


def _unmodelled(bench: Bench) -> list[Clusters]:
    """Partitions that the model has no effect for though they repeat often enough to have one.

    Where hardly a row shares its cluster, as in 25 rows of 23 sizes, an effect hardly makes an interval too narrow: an
    alarm would tell of the table, not of its intervals.
    """
    fewest = FEWEST_ROWS_PER_LEVEL
    return [c for c in bench.clusters if not c.fitted and c.name != ROW and len(c.index) >= fewest * c.count]


def _together(bench: Bench, candidates: Sequence[Clusters]) -> tuple[np.ndarray, np.ndarray]:
    """The log of the squared sums of scores within clusters over their squares, of the table and of the worlds."""

    def statistic(tables):
        scores = tables.score * bench.line.rows.scale
        power = (scores**2).sum(axis=1)
        made = []
        for c in candidates:
            sums = np.stack([scores[:, rows].sum(axis=1) for rows in c.rows()], axis=1)
            made.append(np.log((sums**2).sum(axis=1) / power))
        return np.stack(made, axis=1)

    return statistic(bench.line.table)[0], bench.over_worlds(statistic)


def _advice(c: Clusters, law: Law, runs: Runs) -> str:
    """What to do about residuals that go together: levels of a pooled law cannot have intercepts too."""
    if c.name == BAND:
        return "the law misses something along compute"
    if not (isinstance(law, PooledLaw) and same_partition(c.index, runs.labels(law.column)[0])):
        return f"fit an effect of {c.name} (--group)"
    differ = [p.name for p in law.parameters if p.over == law.column]
    more = [p.name for p in law.one.parameters if p.name not in differ and poolable(law.one, p.name)]
    if not more:
        return f"the law's form differs by {c.name}, and not only its parameters: fit the levels one by one"
    return f"let more parameters differ by it (--pool {law.column}={','.join([*differ, *more])})"


def _tell_missing(c: Clusters, advice: str, seen: float, threshold: float, failed: bool) -> Finding:
    value, limit = np.exp(seen), np.exp(threshold)
    times, explained = distinct_factors(value, limit)
    message = f"residuals of one {c.label} go together {times} times as much as independent ones would"
    if failed:
        message += f"; chance explains up to {explained}: {advice}"
    else:
        message += f", which chance explains (up to {explained})"
    status = "fail" if failed else "pass"
    return Finding("unmodelled-groups", "groups of residuals", status, float(value), float(limit), message)


@dataclass(frozen=True, eq=False)
class _Order:
    """A fitted grouping along an input: its column, the input, where its effects are in `x`, and an orthonormal basis
    of smooth curves through its levels, shape (levels, degree)."""

    column: str
    axis: str
    effects: slice
    basis: np.ndarray


def _orders(bench: Bench) -> list[_Order]:
    """Every fitted grouping that is shrunk like noise, along what orders its levels: compute those of budgets, every
    positive input the others."""
    line, found = bench.line, []
    inputs = {n: v for n, v in line.model.inputs.items() if np.ndim(v) == 1 and (np.asarray(v, float) > 0).all()}
    C, first = compute_of(line.model.runs), line.inner
    for g in line.model.groupings:
        effects, first = slice(first, first + len(g.levels)), first + len(g.levels)
        if g.fixed is not None:
            continue
        for axis, values in ({"C": C} if g.kind == "budget" and C is not None else inputs).items():
            sizes = np.bincount(g.index, minlength=len(g.levels))
            where = np.bincount(g.index, np.log(np.asarray(values, float)), len(g.levels)) / np.maximum(sizes, 1)
            count = len(np.unique(where.round(9)))
            if count < FEWEST_CLUSTERS:
                continue
            degree = min(_DEGREE, count // _LEVELS_A_DEGREE)
            powers = np.polynomial.legendre.legvander(2 * (where - where.min()) / np.ptp(where) - 1, degree)
            found.append(_Order(g.column, axis, effects, np.linalg.qr(powers)[0][:, 1:]))
    return found


def _followed(bench: Bench, orders: Sequence[_Order]) -> tuple[np.ndarray, np.ndarray]:
    """The log odds of the share of effects' spread that a smooth curve tells, of the table and of the worlds."""

    def statistic(x):
        made = []
        for o in orders:
            u = x[:, o.effects] - x[:, o.effects].mean(axis=1, keepdims=True)
            told = ((u @ o.basis) ** 2).sum(axis=1)
            made.append(np.log(told + 1e-300) - np.log(np.maximum((u**2).sum(axis=1) - told, 1e-12 * told + 1e-300)))
        return np.stack(made, axis=1)

    return statistic(bench.line.x[None])[0], statistic(bench.fitted[1])


def _tell_ordered(o: _Order, seen: float, threshold: float, failed: bool) -> Finding:
    value, limit = (1 / (1 + np.exp(-odds)) for odds in (seen, threshold))
    message = f"a smooth curve along {o.axis} tells {value:.0%} of what the effects of {labels_of(o.column)} differ by"
    if failed:
        message += (
            f", where chance goes to {limit:.0%}: they stand in for what the law misses along {o.axis}; compare "
            "laws that bend there (bayescale compare), or fit a narrower range"
        )
    else:
        message += f", as chance may (up to {limit:.0%})"
    status = "fail" if failed else "pass"
    return Finding("ordered-effects", "order of fitted effects", status, float(value), float(limit), message)
