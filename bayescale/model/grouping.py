"""Groups of rows that share an unexplained effect: which columns make them, and how they are shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayescale.errors import LawError, Note, RunsError
from bayescale.model.pooling import FEWEST_LEVELS
from bayescale.noise import EFFECTS, Effect
from bayescale.runs import LEVEL_TOLERANCE, Runs

#: Nor can a spread be learnt from fewer rows a level than this.
FEWEST_ROWS_PER_LEVEL = 1.5

#: The columns that group rows without being asked, and what each grouping means.
AUTOMATIC = {"run": "run", "params": "size", "budget": "budget", "recipe": "recipe", "group": "other"}
_KINDS = {**AUTOMATIC, "tokenizer": "recipe", "family": "recipe", "dataset": "recipe", "flops": "budget"}


@dataclass(frozen=True, eq=False)
class Grouping:
    """A partition of the rows by one column: the level of every row, the names of the levels, and its kind."""

    column: str
    kind: str
    index: np.ndarray
    levels: tuple[str, ...]

    @property
    def effect(self) -> Effect:
        """How its intercepts are shrunk."""
        return EFFECTS[self.kind]

    @property
    def few(self) -> bool:
        """Whether it has too few levels to learn the spread of their effects."""
        return len(self.levels) < FEWEST_LEVELS

    @property
    def fixed(self) -> float | None:
        """The spread of its effects where they are parameters like the law's; None where they are shrunk like noise."""
        return self.effect.few if self.few else None

    @property
    def rows_per_level(self) -> float:
        """The mean number of rows a level."""
        return len(self.index) / max(1, len(self.levels))


def make_groupings(
    runs: Runs, group: str | Sequence[str], pooled: str | None = None
) -> tuple[tuple[Grouping, ...], tuple[Note, ...]]:
    """The groupings asked for, and notes on those left out.

    `group` is "auto" (run, model size, budget and recipe, wherever a column has two or more levels and 1.5 rows a
    level that are no chance coincidences), "none", or column names. Two to four levels get effects of a spread that
    is not learnt: a wide one for recipes, the median of its prior for what is noise. The column that a law is `pooled`
    over has parameters of its own, so no intercepts: "auto" leaves it out. Raises `RunsError` (BS-R030) for a column
    that the table lacks, `LawError` (BS-L002) for one with a single level, (BS-L003) for the pooled one.
    """
    if group == "none" or (not isinstance(group, str) and not group):
        return (), ()
    if group == "auto":
        return _automatic(runs, pooled)
    names = [n.strip() for n in group.split(",")] if isinstance(group, str) else list(group)
    if pooled is not None and runs.resolve(pooled) in map(runs.resolve, names):
        raise LawError(
            f"{pooled!r} cannot have intercepts as well as parameters of its own",
            code="BS-L003",
            remedy="Pool over it, or group by it.",
        )
    return tuple(_asked(runs, name) for name in dict.fromkeys(names)), ()


def _asked(runs: Runs, column: str) -> Grouping:
    if column in ("flops", "budget") and not runs.has("budget") and (found := isoflop_levels(runs)):
        return found
    column = runs.resolve(column)
    index, levels = runs.labels(column)
    kind = _KINDS.get(column, "other")
    if len(levels) < 2:
        raise LawError(
            f"column {column!r} has one level: its effect cannot be told from the law",
            code="BS-L002",
            remedy="Leave the grouping out.",
        )
    if len(levels) >= len(runs):
        raise RunsError(
            f"column {column!r} has a level of its own for every row: its effect cannot be told from noise",
            code="BS-R030",
            column=column,
            file=runs.source,
            remedy="Leave the grouping out.",
        )
    return Grouping(column, kind, index, levels)


def _automatic(runs: Runs, pooled: str | None) -> tuple[tuple[Grouping, ...], tuple[Note, ...]]:
    found: list[Grouping] = []
    taken = runs.labels(pooled)[0] if pooled is not None else None
    notes: list[Note] = []
    for made in _candidates(runs):
        column = made.column
        if len(made.levels) == 1 or any(same_partition(made.index, g.index) for g in found):
            continue
        if taken is not None and same_partition(made.index, taken):
            continue
        if alike := next((g for g in found if _told_apart(made, g) < FEWEST_ROWS_PER_LEVEL), None):
            notes.append(
                Note(
                    "BS-R016",
                    f"no effect of {column!r} was fitted: it can hardly be told from that of {alike.column!r}",
                )
            )
            continue
        if made.fixed is not None:
            found.append(made)
            message = (
                f"the {len(made.levels)} levels of {column!r} are too few to learn their spread: each has an effect of "
                f"its own, up to about {made.fixed:.0%} of the loss"
            )
            notes.append(Note("BS-R023", message))
        elif made.rows_per_level < FEWEST_ROWS_PER_LEVEL:
            continue
        elif _met_by_chance(runs, made):
            message = (
                f"no effect of {column!r} was fitted: its {len(made.levels)} levels are values that happen to lie "
                f"within {LEVEL_TOLERANCE:.1%} of each other, not repeated ones; --group {column} fits one all the same"
            )
            notes.append(Note("BS-R016", message))
        else:
            found.append(made)
    return tuple(found), tuple(notes)


def _met_by_chance(runs: Runs, made: Grouping) -> bool:
    """Whether the levels of a column of numbers are no design, but coincidences of values that were spread out.

    Values scattered at random are as likely to be followed by another at once and twice the tolerance as within it;
    after a repeated value, if only by its rounding, there is a void. Of 100 random designs of 60 to 3,000 rows of
    each of several densities 88 to 100 are told by half that likelihood, of 1,200 repeated ones with values
    scattered by up to .25 % none is taken for random.
    """
    column = runs.resolve(made.column)
    if runs.frame[column].dtype.kind not in "iuf":
        return False
    values = np.unique(runs.values(column))
    if len(made.index) >= FEWEST_ROWS_PER_LEVEL * len(values) or values[0] <= 0:
        return False
    gaps = np.diff(np.log(values)) / LEVEL_TOLERANCE
    within, next_to = int((gaps < 1).sum()), int(((gaps >= 1) & (gaps < 2)).sum())
    return next_to * len(gaps) >= within * max(1, len(gaps) - within) / 2


def _candidates(runs: Runs) -> list[Grouping]:
    """The groupings of a table that "auto" looks at, in turn: those that hold a fixed spread for noise come last."""
    made = []
    for column, kind in AUTOMATIC.items():
        if column == "budget" and not runs.has("budget"):
            if runs.has("flops") and (levels := isoflop_levels(runs)):
                made.append(levels)
        elif runs.has(column):
            made.append(Grouping(column, kind, *runs.labels(column)))
    return sorted(made, key=lambda g: g.few and g.fixed is None)


def parents_of(groupings: Sequence[Grouping]) -> dict[str, str | None]:
    """For every column, that of the finest grouping whose levels are made of whole levels of it, if any.

    Where effects are shrunk like noise. Finer groupings choose first; a parent has one part, and is part of none.
    """
    shrunk = sorted((g for g in groupings if g.fixed is None), key=lambda g: -len(g.levels))
    found: dict[str, str | None] = {g.column: None for g in groupings}
    for k, part in enumerate(shrunk):
        if part.column in found.values():
            continue
        for outer in shrunk[k + 1 :]:
            pairs = np.unique(part.index.astype(np.int64) * len(outer.levels) + outer.index)
            free = outer.column not in found.values() and len(outer.levels) < len(part.levels)
            if free and len(pairs) == len(np.unique(part.index)):
                found[part.column] = outer.column
                break
    return found


def _told_apart(made: Grouping, other: Grouping) -> float:
    """How many levels of another grouping a level of this one holds, on average."""
    pairs = {*zip(made.index.tolist(), other.index.tolist(), strict=True)}
    return len(pairs) / len(made.levels)


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two groupings put the same rows together."""
    pairs = {*zip(one.tolist(), other.tolist(), strict=True)}
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def isoflop_levels(runs: Runs, tolerance: float = 0.02, fewest_sizes: int = 3) -> Grouping | None:
    """IsoFLOP budgets read off the compute column: most runs within 2 % of a budget that at least 3 sizes share."""
    if not (runs.has("flops") and runs.has("params")):
        return None
    flops, (size, _) = runs.values("flops"), runs.labels("params")
    order = np.argsort(flops, kind="stable")
    ranked = flops[order]
    level = np.concatenate([[0], np.cumsum(np.diff(np.log(ranked)) > tolerance)])
    index = np.empty(len(flops), np.int32)
    index[order] = level
    members = [np.flatnonzero(index == k) for k in range(int(level[-1]) + 1)]
    shared = [m for m in members if len(set(size[m].tolist())) >= fewest_sizes and np.ptp(np.log(flops[m])) <= 0.05]
    if not shared or sum(map(len, shared)) < 0.8 * len(flops):
        return None
    names = tuple(f"{np.median(flops[m]):.4g}" for m in members)
    return Grouping("flops", "budget", index, names)
