"""Training curves: which rows are one run, how many of them are kept, schedules, and histories that were sampled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from bayescale.errors import RunsError, shorten_rows
from bayescale.reading.cells import is_missing
from bayescale.reading.draft import Draft
from bayescale.reading.headers import like_a_loss, normalise, recognise
from bayescale.reading.register import check, plural
from bayescale.reading.sharing import numeric_columns, quoted
from bayescale.reading.trends import rank_correlation
from bayescale.runs import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

#: How many rows of a run `rows_per_run="knots"` keeps.
KNOTS = 8
#: Of more checkpoints than this about so many are kept unless all are asked for, and of every run at least so many:
#: rows of one run err alike, so most of them add more time than knowledge.
MANY, _LEAST_OF_A_RUN = 1000, 6
#: A row below this share of its run's steps is a checkpoint of a run that went on.
_ELAPSED = 0.99
#: A run may be logged a little past its planned end.
_OVER = 1.05
#: Without a name for its runs, a table is one of curves where a step rises this often before it falls back.
_FEWEST_POINTS = 20
#: Tokens of a run's rows that are this nearly evenly spaced, but for a few, are those of its checkpoints.
_EVEN, _MOSTLY = 0.05, 0.9
#: A learning rate that varies by more than this factor along a run follows a schedule.
_VARIES = 1.05
#: A schedule that ends above this share of its peak had not decayed, and a warm-up longer than this share is long.
_DECAYED, _LONG_WARMUP = 0.5, 0.2
_SHARE = re.compile(
    r"(portion|fraction|share|proportion).*(elapsed|done|complete)|progress|(elapsed|done)(portion|share)"
)
STEP = re.compile(r"(current|global|train(ing)?|trainer)?(steps?|iterations?|iters?)|globalstep")
_STEPS = re.compile(
    r"(steps?|iterations?|iters?)(total|max|planned)|(total|max|planned)(train(ing)?)?(steps?|iterations?)"
)
_RATE = re.compile(r"(train)?(lr|learningrate|eta)")
_LIKE_A_RATE = re.compile(r"(?<![a-z])(lr|eta)(?![a-z])|learning.?rate")
_WARMUP = re.compile(r"(lr|n|num)?warmup(steps?|iters?|iterations?)?(n|num)?")
_STATE = re.compile(r"(run)?(state|status)")
_FINISHED, _UNFINISHED = {"finished"}, {"running", "crashed", "failed", "killed", "scheduled", "preempted"}
_MOVING = re.compile(r"seconds|time|date|current|epoch|step|iter|elapsed|progress|seen")


@dataclass(frozen=True)
class Curves:
    """Which run every row belongs to, and how far along it a row is, by the column `along`."""

    index: np.ndarray
    names: tuple[str, ...]
    along: str
    position: np.ndarray

    def rows_of(self) -> list[np.ndarray]:
        """The positions of every run's rows, in the order of its progress."""
        order = np.lexsort((self.position, self.index))
        return np.split(order, np.flatnonzero(np.diff(self.index[order])) + 1)


def keep_rows_per_run(draft: Draft) -> None:
    """Find the runs of a table of curves, and keep as many rows of each as `rows_per_run` asks for.

    Where it asks for nothing, large tables are thinned, but for those whose learning rate varies along a run: laws of
    schedules read every row of them. Raises `RunsError` (BS-R030) where the table does not tell which rows are one run.
    """
    wanted = draft.options.rows_per_run
    draft.curves = curves = _without_copies(draft, _find(draft))
    asked = wanted is not None
    if not asked and curves is not None and len(curves.index) > MANY and not _follows_schedule(draft):
        wanted = max(_LEAST_OF_A_RUN, MANY // len(curves.names))
        draft.recorded = curves
    if wanted is None or wanted == "all":
        return
    if curves is None:
        if "run" in draft.frame and draft.frame["run"].is_unique:
            return  # one row a run already
        raise RunsError(
            "no column tells which rows are one run, and how far along it they are",
            code="BS-R030",
            file=draft.source,
            remedy="Name the run with --column run=HEADER; its rows must differ in tokens or in a column of steps.",
        )
    most = 1 if wanted == "last" else KNOTS if wanted == "knots" else int(wanted)
    kept = np.sort(np.concatenate([_chosen(curves.position[rows], most, rows) for rows in curves.rows_of()]))
    if len(kept) == len(curves.index):
        return
    what = "the last row" if most == 1 else f"up to {most} rows, evenly in the log of {curves.along!r},"
    why = "--rows-per-run" if asked else "rows of a run err alike; --rows-per-run all keeps every row"
    draft.note(
        "BS-R052", f"kept {what} of each of {len(curves.names)} runs: {len(kept)} of {len(curves.index)} rows ({why})"
    )
    draft.frame = draft.frame.iloc[kept]
    draft.curves = None if most == 1 else _taken(curves, kept)


def _without_copies(draft: Draft, curves: Curves | None) -> Curves | None:
    """The curves with every checkpoint once: one that two phases share, say, is often recorded under both.

    Copies agree in run, place, every column that is used and every number but marks of 0 and 1, and in a loss of five
    digits or more. Nothing is a copy where such rows differ in a number: they tell of several evaluations or seeds.
    """
    frame, loss = draft.frame, draft.values("loss")
    if curves is None or draft.response != "loss" or loss is None:
        return curves
    marks = [h for h in numeric_columns(draft) if h not in COLUMNS and set(frame[h].dropna().unique()) <= {0.0, 1.0}]
    same = frame[[h for h in frame.columns if h in COLUMNS]].assign(**{"": curves.index, " ": curves.position})
    numbers = [h for h in numeric_columns(draft) if h not in marks and h not in same]
    exact = np.array([np.isfinite(v) and float(f"{v:.4g}") != v for v in loss])
    copy = same.duplicated().to_numpy() & exact
    if not copy.any() or (copy != same.assign(**{h: frame[h] for h in numbers}).duplicated().to_numpy() & exact).any():
        return curves
    rows = draft.rows(copy)
    again = (
        f"{len(rows)} rows tell a checkpoint of their run" if len(rows) > 1 else "1 row tells a checkpoint of its run"
    )
    draft.note(
        "BS-R014",
        f"{again} again, with the same {draft.header('loss')!r}, left out ({plural('row', rows)} {shorten_rows(rows)})",
    )
    kept = np.flatnonzero(~copy)
    draft.frame = draft.frame.iloc[kept]
    return _taken(curves, kept)


def _taken(curves: Curves, kept: np.ndarray) -> Curves | None:
    taken = Curves(curves.index[kept], curves.names, curves.along, curves.position[kept])
    return taken if len(kept) > len(set(taken.index.tolist())) else None


def _chosen(position: np.ndarray, most: int, rows: np.ndarray) -> np.ndarray:
    """The rows of one run at the places nearest to evenly spaced logs of its progress, the last among them.

    All rows of a place are kept, as those of several evaluations of one checkpoint.
    """
    places = np.unique(position)
    if len(places) <= most:
        return rows
    kept = places[-1:]
    if most > 1:
        logs = np.log(np.maximum(places, places[places > 0].min() if (places > 0).any() else 1.0))
        ends = np.linspace(logs[0], logs[-1], most)
        kept = places[np.unique(np.abs(logs[:, None] - ends).argmin(axis=0))]
    return rows[np.isin(position, kept)]


def _find(draft: Draft) -> Curves | None:
    """The curves of a table: rows of a named run, or of a run whose step rises; None where a row is a run."""
    frame = draft.frame
    if "run" not in frame and (found := _progress(draft)) is not None and (found[1] < _ELAPSED).any():
        _reconstruct(draft)
    along = ["tokens", *(h for h in numeric_columns(draft) if STEP.fullmatch(normalise(h)))]
    along = [h for h in along if h in frame and np.isfinite(frame[h].to_numpy(float)).all()]
    if "run" in frame and not any(is_missing(r) for r in frame["run"].tolist()):
        index, names = frame["run"].factorize()
        if len(names) == len(frame) or len(names) < 1:
            return None
        for header in along:
            position = frame[header].to_numpy(float)
            if _distinct_within(index, position) and _constant_within(draft, index):
                return Curves(index, tuple(map(str, names)), header, position)
        return None
    for header in along:
        position = frame[header].to_numpy(float)
        index = _blocks(draft, position)
        if index is not None and (header != "tokens" or _evenly_spaced(index, position)):
            names = tuple(f"run {k + 1}" for k in range(int(index.max()) + 1))
            draft.frame["run"] = [names[k] for k in index]
            draft.note(
                "BS-R057",
                f"run is reconstructed, not recorded: {len(names)} runs, along each of which {header!r} rises; name "
                "the run with --column run=HEADER where the table has it",
            )
            return Curves(index, names, header, position)
    return None


def _evenly_spaced(index: np.ndarray, position: np.ndarray) -> bool:
    """Whether rows of a run lie as far apart as checkpoints do: runs of their own double their tokens, or so."""
    steps = np.diff(position)[np.diff(index) == 0]
    run = index[1:][np.diff(index) == 0]
    middle = np.array([np.median(steps[run == k]) for k in range(int(index.max()) + 1)])[run]
    return bool((np.abs(steps / middle - 1) < _EVEN).mean() > _MOSTLY)


def _distinct_within(index: np.ndarray, position: np.ndarray) -> bool:
    pairs = np.unique(np.column_stack([index, position]), axis=0)
    return len(pairs) > len(np.unique(index)) and len(pairs) >= 0.5 * len(index)


def _constant_within(draft: Draft, index: np.ndarray) -> bool:
    if "params" not in draft.frame:
        return True
    logs = np.log(draft.frame["params"].to_numpy(float))
    low, high = (np.full(index.max() + 1, fill) for fill in (np.inf, -np.inf))
    np.minimum.at(low, index, logs)
    np.maximum.at(high, index, logs)
    return bool((high - low < 0.01).all())


def _blocks(draft: Draft, step: np.ndarray) -> np.ndarray | None:
    """Runs as blocks of rows along which a step rises; None where they are few rows each or mix settings."""
    index = np.concatenate([[0], np.cumsum(np.diff(step) <= 0)])
    counts = np.bincount(index)
    if np.median(counts) < _FEWEST_POINTS or len(counts) > len(step) / _FEWEST_POINTS:
        return None
    for header in draft.frame.columns:
        series = cast("pd.Series", draft.frame[header])
        if series.dtype.kind != "f" and not like_a_loss(header):
            if len({*zip(index.tolist(), series.tolist(), strict=True)}) > len(counts):
                return None
    return index if _constant_within(draft, index) else None


def _progress(draft: Draft) -> tuple[str, np.ndarray, str] | None:
    """How far along its run each row is: the header that tells, the share, and the condition for the end of a run."""
    numeric = {h: normalise(h) for h in numeric_columns(draft)}
    for header, name in numeric.items():
        values = draft.frame[header].to_numpy()
        if _SHARE.fullmatch(name):
            if np.isfinite(values).all() and 0 <= values.min() and 0.5 < values.max() <= _OVER:
                return header, values, f"{quoted(header)} >= {_ELAPSED:g}"
    totals = [h for h, name in numeric.items() if _STEPS.fullmatch(name)]
    steps = [h for h, name in numeric.items() if STEP.fullmatch(name)]
    if len(totals) == 1 and len(steps) == 1:
        step, total = (draft.frame[h].to_numpy() for h in (steps[0], totals[0]))
        if np.isfinite(step).all() and np.isfinite(total).all() and (step <= _OVER * total).all():
            return steps[0], step / total, f"{quoted(steps[0])} >= {_ELAPSED:g} * {quoted(totals[0])}"
    return None


def _reconstruct(draft: Draft) -> None:
    """Rows that agree in everything but what moves along a run are taken for one run."""
    fixed = [
        h
        for h in draft.frame.columns
        if not like_a_loss(h)
        and not ((m := recognise(h)) and m.column in ("tokens", "flops", "loss", "loss_se", "flops_se"))
        and not (_MOVING.search(normalise(h)) and not _STEPS.fullmatch(normalise(h)))
    ]
    if not fixed or "tokens" not in draft.frame:
        return
    index = draft.frame.groupby(fixed, sort=False, dropna=False).ngroup()
    count = int(index.max()) + 1
    if count > len(index) / 2:
        return
    draft.frame["run"] = [f"run {k + 1}" for k in index]
    draft.note(
        "BS-R057",
        f"run is reconstructed, not recorded: {count} runs, whose rows agree in {', '.join(map(repr, fixed))}. Rows of "
        "one run err together; name the run with --column run=HEADER where the table has it",
    )


@check("BS-R016", "rows")
def note_checkpoints(draft: Draft) -> None:
    """Rows of one run share its error; of runs that went on, the learning rate had not decayed."""
    found, curves = _progress(draft), draft.curves
    early = found[1] < _ELAPSED if found else np.zeros(0, bool)
    if found is not None and early.any():
        draft.note(
            "BS-R016",
            f"{int(early.sum())} of {len(early)} rows are checkpoints of runs that went on ({found[0]!r} tells): their "
            f'learning rate had not decayed yet; keep the ends of runs with --where "{found[2]}"' + _seen(draft),
        )
    elif curves is not None:
        counts = np.bincount(curves.index)
        draft.note(
            "BS-R016",
            f"{len(curves.index)} rows are checkpoints of {len(curves.names)} runs (up to {counts.max()} rows each, by "
            f"{curves.along!r}): rows of one run err together, so they count as fewer; --rows-per-run last keeps the "
            f"end of every run, --rows-per-run {KNOTS} a few rows of each",
        )


def _seen(draft: Draft) -> str:
    """What to say where the tokens that a row had seen stand beside those that its run was to see."""
    seen = [h for h in numeric_columns(draft) if normalise(h) in ("tokensseen", "tokensconsumed", "tokensprocessed")]
    if (
        "tokens" not in draft.frame
        or len(seen) != 1
        or not (draft.frame[seen[0]].to_numpy(float) < _ELAPSED * draft.frame["tokens"].to_numpy(float)).any()
    ):
        return ""
    return f"; {seen[0]!r} holds what a row had seen by then: --column tokens={seen[0]}"


@check("BS-R016", "rows")
def note_unfinished_runs(draft: Draft) -> None:
    """A tracker's state tells runs that crashed or are still going: their loss is not what they would end with."""
    for header in draft.frame.columns:
        if not _STATE.fullmatch(normalise(header)) or draft.frame[header].dtype.kind == "f":
            continue
        states = [str(v).strip().lower() for v in draft.frame[header].tolist()]
        if not set(states) <= _FINISHED | _UNFINISHED or not (bad := [s for s in states if s in _UNFINISHED]):
            continue
        done = next((str(v) for v in draft.frame[header].tolist() if str(v).strip().lower() in _FINISHED), "finished")
        draft.note(
            "BS-R016",
            f"{len(bad)} of {len(states)} runs had not finished ({header!r}: {', '.join(sorted(set(bad)))}): keep the "
            f"others with --where \"{quoted(header)} == '{done}'\"",
        )


@check("BS-R059", "rows")
def note_schedules(draft: Draft) -> None:
    """Rows within a schedule of the learning rate: its warm-up, or its decay before the end."""
    curves, found = draft.curves, _schedules(draft)
    if curves is None or found is None:
        return
    header, schedules = found
    warming = decaying = unfinished = 0
    for along in schedules:
        peak = int(np.argmax(along))
        warming += peak
        decaying += int((along[peak:-1] < along.max() / _VARIES).sum())
        unfinished += bool(_DECAYED * along.max() < along[-1] < along.max() / _VARIES)
    if schedules:
        parts = [f"{warming} rows lie in a warm-up"] if warming else []
        parts += [f"{decaying} within the decay"] if decaying else []
        more = f"; {unfinished} runs end before their decay does" if unfinished else ""
        draft.note(
            "BS-R059",
            f"{header!r} follows a schedule along {len(schedules)} of {len(curves.names)} runs"
            f"{': ' if parts else ''}{', '.join(parts)}{more}: losses there are above what the run would end with. "
            "Keep the ends with --rows-per-run last, or fit a law of the schedule (`bayescale laws`)",
        )


def _schedules(draft: Draft) -> tuple[str, list[np.ndarray]] | None:
    """The column of the learning rate and its values along every run in which it varies; None without one column."""
    rates = [h for h in numeric_columns(draft) if _RATE.fullmatch(normalise(h))]
    if draft.curves is None or len(rates) != 1 or not np.isfinite(draft.frame[rates[0]].to_numpy(float)).all():
        return None
    along = [draft.frame[rates[0]].to_numpy(float)[rows] for rows in draft.curves.rows_of()]
    return rates[0], [r for r in along if len(r) >= 3 and r.min() > 0 and r.max() >= _VARIES * r.min()]


def _follows_schedule(draft: Draft) -> bool:
    """Whether anything that may be a learning rate varies along a run: then every row of the run tells of it."""
    curves = draft.curves
    if curves is None:
        return False
    for header in numeric_columns(draft):
        if header == "lr" or _LIKE_A_RATE.search(header.lower()):
            values = draft.frame[header].to_numpy(float)
            for rows in curves.rows_of():
                along = values[rows][np.isfinite(values[rows])]
                if len(along) and along.max() > _VARIES * max(along.min(), 0.0):
                    return True
    return False


@check("BS-R059", "rows")
def note_long_warmups(draft: Draft) -> None:
    """Where the warm-up takes much of a short run, small budgets look worse than they are."""
    numeric = numeric_columns(draft)
    warmups = [h for h in numeric if _WARMUP.fullmatch(normalise(h))]
    steps = [h for h in numeric if _STEPS.fullmatch(normalise(h))] or [
        h for h in numeric if STEP.fullmatch(normalise(h))
    ]
    if len(warmups) != 1 or len(steps) != 1 or draft.curves is not None:
        return
    warm, total = (draft.frame[h].to_numpy(float) for h in (warmups[0], steps[0]))
    with np.errstate(all="ignore"):
        share = np.where(warm >= 1, warm, np.nan) / total
    long = np.nan_to_num(share) > _LONG_WARMUP
    if long.any():
        draft.note(
            "BS-R059",
            f"in {int(long.sum())} of {len(long)} runs the warm-up takes more than a fifth of the steps, up to "
            f"{np.nanmax(share):.0%}: short runs look worse than they are, which bends the exponents; keep the others "
            f'with --where "{quoted(warmups[0])} <= {_LONG_WARMUP:g} * {quoted(steps[0])}"',
        )


@check("BS-R036", "rows")
def note_sampled_histories(draft: Draft) -> None:
    """A tracker's export holds a sample of the logged steps: gaps of every width, in no order."""
    curves = draft.recorded or draft.curves
    if curves is None:
        return
    sampled = []
    for rows in curves.rows_of():
        gaps = np.diff(curves.position[rows])
        if len(gaps) < 30:
            continue
        common = np.unique(np.round(gaps, 6), return_counts=True)[1].max() / len(gaps)
        trend = rank_correlation(np.arange(len(gaps), dtype=float), gaps)
        if common < 0.5 and not abs(trend) > 0.5:
            sampled.append(curves.names[int(curves.index[rows[0]])])
    if sampled:
        draft.note(
            "BS-R036",
            f"the steps of {len(sampled)} of {len(curves.names)} runs lie at uneven gaps, as in a history that a "
            "tracker sampled for export: the end of a run may be missing. Export the whole history (Weights & Biases: "
            "`scan_history` or the history artifact), or take each run's last value from the table of runs",
        )
