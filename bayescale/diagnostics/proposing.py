"""Which further runs would let a design answer, by the design's own linearised information."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayescale.allocation import cost_named
from bayescale.diagnostics.before import ONE_BUDGET, RAY_WIDTH, UNIDENTIFIED, WEAK, ProposedRun, doctor
from bayescale.diagnostics.jacobian import Sensitivity, law_slots, sensitivity
from bayescale.law import Law
from bayescale.model import build_model
from bayescale.runs import Runs, distinct

#: Sizes and tokens of candidate runs reach this many times beyond the design's; more only where that takes many.
_REACH = (4.0, 12.0)
_MANY = 4
#: Candidates by size and by tokens; the most runs that are worth proposing; recipes tried.
_SIZES, _TOKENS, _MOST, _RECIPES = 9, 13, 8, 8
#: A set must leave this much less than the threshold: the doctor judges priors at the enlarged design's middle.
_MARGIN = 0.97


def can_propose(law: Law) -> bool:
    """Whether runs of a law are settled by their size and tokens alone."""
    columns = {"params", "tokens", "flops", "tokens_per_param"}
    scales = [i for i in law.inputs if not i.dims and not i.per and i.column in columns]
    simple = law.likelihood is None and not any(p.over for p in (*law.parameters, *law.sampled))
    return simple and len(scales) == len(law.inputs)


def candidate_runs(runs: Runs, reach: float, largest: float = 1.0, between: bool = False) -> list[ProposedRun]:
    """Runs in and near a design: no more compute than `largest` times the largest run, and not much less than the
    smallest. Sizes are those of the table where it has enough, or with `between` new ones; tokens are even on a log
    scale, to two digits.
    """
    N, D = runs.values("params"), runs.values("tokens")
    cost = cost_named("table" if runs.has("flops") else "6nd", runs)
    C = np.asarray(cost.flops(N, D))
    own = np.unique(N)
    if distinct(N) >= 3 and not between:
        picks = np.linspace(np.log(own[0]), np.log(own[-1]), min(_SIZES, distinct(N)))
        sizes = np.unique([own[np.argmin(np.abs(np.log(own) - p))] for p in picks])
    elif between:
        sizes = _two_digits(np.geomspace(own[0], own[-1], _SIZES + 2)[1:-1])
    else:
        sizes = _two_digits(np.geomspace(own[0] / reach, own[-1] * reach, _SIZES))
    tokens = _two_digits(np.geomspace(D.min() / reach, D.max() * reach, _TOKENS))
    made = [ProposedRun(float(n), float(d), float(cost.flops(n, d))) for n in sizes for d in tokens]
    few, many = (D / N).min() / reach**1.5, (D / N).max() * reach**1.5
    kept = [
        r
        for r in made
        if C.min() / (2.5 * reach) <= r.flops <= 1.001 * largest * C.max() and few <= r.tokens / r.params <= many
    ]
    return sorted(kept, key=lambda r: r.flops)


def _two_digits(x: np.ndarray) -> np.ndarray:
    return np.unique([float(f"{v:.2g}") for v in x])


def with_runs(runs: Runs, added: Iterable[ProposedRun], responses: Mapping[str, float] | float = 1.0) -> Runs:
    """The table with runs added that have not been trained: their responses stand in."""
    import pandas as pd

    rows = [{"params": r.params, "tokens": r.tokens, "flops": r.flops, "recipe": r.recipe} for r in added]
    frame = pd.DataFrame(rows)
    frame = frame.drop(columns=[c for c in frame.columns if c not in runs.frame.columns])
    for column in runs.frame.columns:
        if column not in frame.columns:
            given = responses.get(str(column), 1.0) if isinstance(responses, Mapping) else responses
            numeric = pd.api.types.is_numeric_dtype(runs.frame[column])
            frame[column] = given if numeric else "(proposed)"
    frame = frame.reindex(columns=runs.frame.columns)
    for column in frame.columns[[pd.api.types.is_float_dtype(t) for t in runs.frame.dtypes]]:
        frame[column] = frame[column].astype(float)
    frame.index = range(max(runs.rows, default=0) + 1, max(runs.rows, default=0) + 1 + len(frame))
    return Runs(pd.concat([runs.frame, frame]), runs.source, runs.loss_unit, runs.notes)


def runs_that_identify(
    runs: Runs,
    law: Law,
    *,
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    noise: str = "student_t",
) -> tuple[ProposedRun, ...]:
    """The smallest set of runs found whose addition lets the doctor tell the law's exponents apart, cheapest first.

    Runs are added one at a time, each the one that leaves the least of the prior's spread, until the design passes and
    without any one of them is still not blind; then each is replaced by the cheapest that still does. With several
    recipes all are of one, the one that needs fewest. Empty where no set of 8 or fewer does, or the law asks for more
    than size, tokens and compute.
    """
    if not can_propose(law) or not (runs.has("params") and runs.has("tokens")):
        return ()
    settings: dict[str, Any] = dict(fix=fix, tie=tie, noise=noise)
    found: list[tuple[ProposedRun, ...]] = []
    for reach in _REACH:
        if not found or min(map(len, found)) > _MANY:
            sets = [_Search(runs, rows, law, recipe, reach, settings).found() for recipe, rows in _bases(runs)]
            found += [chosen for chosen in sets if chosen]
    return min(found, key=lambda c: (len(c), sum(r.flops for r in c)), default=())


def _bases(runs: Runs) -> list[tuple[str | None, np.ndarray]]:
    """The recipes to add to with their rows; all rows and no recipe where the table has only one."""
    if runs.has("recipe"):
        index, names = runs.labels("recipe")
        if len(names) > 1:
            counts = np.bincount(index)
            return [(names[k], np.flatnonzero(index == k)) for k in np.argsort(-counts, kind="stable")[:_RECIPES]]
    return [(None, np.arange(len(runs)))]


class _Search:
    """The greedy search for runs to add to some rows of a table."""

    def __init__(self, runs, rows, law, recipe, reach, settings):
        own = runs.take(np.isin(np.arange(len(runs)), rows))
        made = candidate_runs(own, reach)
        self.candidates = [ProposedRun(r.params, r.tokens, r.flops, recipe) for r in made]
        base = build_model(law, runs, group="none", **settings)
        joint = with_runs(runs, self.candidates)
        model = build_model(law, joint, group="none", references=base.references, **settings)
        self.sensitivity = sensitivity(model)
        self.runs, self.rows, self.law, self.settings = runs, rows, law, settings
        self.needed = sum(s.size for s in law_slots(model)) + 2
        self.logs = np.log(np.stack([joint.values("params"), joint.values("tokens")]))

    def found(self) -> tuple[ProposedRun, ...]:
        """The set, or nothing."""
        if self.sensitivity is None or not self.sensitivity.gradients or not self.candidates:
            return ()
        grown: list[int] = []
        while len(grown) < _MOST and (best := self._best(grown)) is not None:
            grown.append(best)
            if not self._passes(grown):
                continue
            for chosen in (self._fewer(self._cheaper(grown)), self._fewer(grown)):
                made = tuple(sorted((self.candidates[k] for k in chosen), key=lambda r: r.flops))
                if self._doctor_agrees(made):
                    return made
        return ()

    def _members(self, chosen: Sequence[int]) -> np.ndarray:
        return np.concatenate([self.rows, len(self.runs) + np.asarray(chosen, int)]).astype(int)

    def _best(self, chosen: Sequence[int]) -> int | None:
        """The candidate that leaves the least of the first exponent, among those that were not chosen."""
        assert self.sensitivity is not None
        left = left_with_each(self.sensitivity, self._members(chosen), len(self.runs) + np.arange(len(self.candidates)))
        left[list(chosen)] = np.inf
        order = np.argsort(left, kind="stable")
        return int(order[0]) if np.isfinite(left[order[0]]) else None

    def _passes(self, chosen: Sequence[int]) -> bool:
        """Whether the design does, and none of the new runs alone holds the answer."""
        rest = ([k for k in chosen if k != out] for out in chosen)
        return self._does(chosen, _MARGIN * WEAK, self.needed) and all(self._does(r, UNIDENTIFIED) for r in rest)

    def _does(self, chosen: Sequence[int], threshold: float, needed: int = 0) -> bool:
        """Whether rows, levels, rays, budgets and the information of the design all do."""
        members = self._members(chosen)
        x, y = self.logs[:, members]
        if len(members) < needed or min(distinct(np.exp(x)), distinct(np.exp(y))) < 3:
            return False
        if np.ptp(x + y) / np.log(10) < ONE_BUDGET:
            return False
        slope, level = np.polyfit(x, y, 1)
        if np.std(y - slope * x - level) < RAY_WIDTH and abs(slope + 1) >= 0.1:
            return False
        assert self.sensitivity is not None
        name = next(iter(self.sensitivity.gradients))
        return self.sensitivity.left(name, members) <= threshold

    def _cheaper(self, chosen: Sequence[int]) -> list[int]:
        """Each run in turn replaced by the cheapest that leaves the set good; candidates are ordered by compute."""
        made = list(chosen)
        for place in sorted(range(len(made)), key=lambda p: -self.candidates[made[p]].flops):
            for k in range(made[place]):
                trial = [*made[:place], k, *made[place + 1 :]]
                if k not in made and self._passes(trial):
                    made = trial
                    break
        return made

    def _fewer(self, chosen: Sequence[int]) -> list[int]:
        """The set without runs that it can do without, the dearest tried first."""
        made = sorted(chosen)
        for k in reversed(sorted(chosen)):
            rest = [other for other in made if other != k]
            if self._passes(rest):
                made = rest
        return made

    def _doctor_agrees(self, made: Sequence[ProposedRun]) -> bool:
        from bayescale.diagnostics.before import IDENTIFIABILITY

        told = doctor(with_runs(self.runs, made), self.law, **self.settings)
        return all(f.status == "pass" for f in told.findings if f.code in IDENTIFIABILITY)


def left_with_each(made: Sensitivity, members: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of the prior sd of the first exponent that rows leave with each other row added: (others,)."""
    g = next(iter(made.gradients.values()))
    J, extra = made.jacobian[:, members] / made.noise, made.jacobian[:, others] / made.noise
    covariance = np.linalg.inv(np.eye(J.shape[2]) + np.einsum("drk,drl->dkl", J, J))
    reach = np.einsum("dk,dkl->dl", g, covariance)
    before = np.einsum("dl,dl->d", reach, g)
    gained = np.einsum("dl,dcl->dc", reach, extra) ** 2
    gained /= 1 + np.einsum("dcl,dlm,dcm->dc", extra, covariance, extra, optimize=True)
    return np.median(np.sqrt((before[:, None] - gained) / np.einsum("dk,dk->d", g, g)[:, None]), axis=0)
