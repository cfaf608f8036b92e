"""What rows have in common, and what a column of losses hides: noted, or asked where one answer is needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import numpy as np

from bayescale.errors import shorten_rows
from bayescale.reading.draft import Draft
from bayescale.reading.headers import like_a_loss, normalise
from bayescale.reading.magnitudes import QUANTITIES
from bayescale.reading.register import check, plural
from bayescale.reading.trends import least_absolute_deviations, rank_correlation
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, numeric_levels

if TYPE_CHECKING:
    import pandas as pd

#: More tokens than this share of the distinct ones are repeats, and not rounding.
_REPEATED = 1.05
_EPOCHS = re.compile(r"(n|num|data|dataset)?epochs?")
_FEWEST_LEVELS, _MOST_LEVELS = 2, 30
#: C/(6ND) between these is a way of counting, not a mistake; beyond, or with such a trend over N, it is worth a word.
_USUAL, _TREND, _TREND_RANGE = (0.5, 2.0), 0.6, 1.2
_SEEDS = re.compile(r"seed|repeat|replicate|trial|run|name|id|time|date|seconds|hours|user|url|path|wall|created")
_SETS = re.compile(r"(data|eval|evaluation|loss)?(split|set|subset|partition|type|kind|which)")
_TRAINING = frozenset("train training".split())
_HELD_OUT = frozenset("val valid validation eval evaluation test heldout held-out held_out dev".split())
_SMOOTH = re.compile(r"ema|smooth(ed)?|movingaverage|runningmean|runningavg|avgloss|exponentialaverage")
#: In so many rows, distinct losses under this share of them are quantised; said where it is more than this of a loss.
_MANY, _TIED, _FELT = 40, 0.6, 2e-4
#: A level of a column this near to 1/ln 2 above another one is in bits where the other is in nats.
_BITS, _NEAR = 1 / np.log(2), 0.03


@check("BS-R013", "rows")
def note_repeated_data(draft: Draft) -> None:
    """A token seen again teaches less than a new one; most laws count them alike."""
    tokens, unique = draft.values("tokens"), draft.values("unique_tokens")
    if tokens is not None and unique is not None:
        epochs, keep = tokens / unique, f"tokens <= {_REPEATED:g} * unique_tokens"
    else:
        counted = [h for h in numeric_columns(draft) if _EPOCHS.fullmatch(normalise(h))]
        if len(counted) != 1:
            return
        epochs, keep = draft.frame[counted[0]].to_numpy(), f"{quoted(counted[0])} <= {_REPEATED:g}"
    again = epochs > _REPEATED
    if again.any():
        draft.note(
            "BS-R013",
            f"{int(again.sum())} of {len(epochs)} rows read their data repeatedly, up to {np.nanmax(epochs):,.0f} "
            "times: a law of N and D counts a repeated token as a new one, a data-constrained law does not; keep the "
            f'others with --where "{keep}"',
        )


@check("BS-R011", "rows")
def note_other_compute(draft: Draft) -> None:
    """C that is not 6ND says how it was counted, which decides what a budget buys."""
    if not set(QUANTITIES) <= draft.given or draft.headers.get("flops") == draft.headers.get("budget", ""):
        return
    n, d, c = (draft.frame[q].to_numpy(float) for q in QUANTITIES)
    if len(n) < 3:
        return
    ratio = c / (FLOPS_PER_PARAM_TOKEN * n * d)
    off = (ratio < _USUAL[0]) | (ratio > _USUAL[1])
    trend = rank_correlation(n, ratio)
    trending = bool(np.isfinite(trend) and abs(trend) > _TREND and ratio.max() / ratio.min() > _TREND_RANGE)
    if not (off.any() or trending):
        return
    rows = draft.rows(off)
    where = f" (outside 0.5 to 2: {plural('row', rows)} {shorten_rows(rows)})" if rows else ""
    draft.note(
        "BS-R011",
        f"compute is {ratio.min():.3g} to {ratio.max():.3g} times 6ND{where}: {_cause(ratio, trend, trending)}",
    )


def _cause(ratio: np.ndarray, trend: float, trending: bool) -> str:
    constant = ratio.max() / ratio.min() < 1.05
    middle = float(np.median(ratio))
    if trending and trend < 0:
        return "it falls with N, as where embeddings or attention are counted in C and not in 6ND"
    if trending:
        return "it rises with N, as where N counts embeddings or experts that C does not"
    if constant and abs(middle - 1 / 3) < 0.03:
        return "a third everywhere, as where only the forward pass was counted"
    if constant and abs(middle - 4 / 3) < 0.05:
        return "four thirds everywhere, as where activations were computed twice"
    if middle < 1:
        return "less than 6ND, as where N counts all the experts of a mixture or D repeats what C counts once"
    return "more than 6ND, as where C is what the hardware could have done, or D counts one of several epochs"


@check("BS-R015", "rows")
def note_replicates(draft: Draft) -> None:
    """Rows that agree in every setting are replicates: what noise between runs looks like."""
    loss = draft.values(draft.response) if draft.response else None
    scales = [q for q in QUANTITIES if q in draft.given]
    if loss is None or not (loss > 0).all() or draft.curves is not None or not {"params", "tokens"} & draft.given:
        return
    if any(cast("pd.Series", draft.frame[q]).is_unique for q in scales):
        return  # the usual table: no two rows of one scale
    index = draft.frame.groupby(settings_of(draft), sort=False, dropna=False).ngroup().to_numpy()
    counts = np.bincount(index)
    several = counts[index] > 1
    if not several.any() or len(counts) < 2:
        return
    logs, cells = np.log(loss[several]), index[several]
    sums = np.bincount(cells, logs, len(counts))
    squares = np.bincount(cells, (logs - sums[cells] / counts[cells]) ** 2, len(counts))
    spread = float(np.sqrt(squares.sum() / (several.sum() - (counts > 1).sum())))
    settings = int((counts > 1).sum())
    draft.note(
        "BS-R015",
        f"{int(several.sum())} rows repeat {settings} setting{'s' if settings > 1 else ''}, up to {counts.max()} times "
        f"each: kept as replicates, which differ by {spread:.2%} (sd)",
    )


def settings_of(draft: Draft, without: tuple[str, ...] = ()) -> list[str]:
    """The columns that say how a run was set up: scales, labels, and others that take few values."""
    found = []
    for header in draft.frame.columns:
        series = cast("pd.Series", draft.frame[header])
        key = normalise(header)
        if header in without or header in ("loss", "loss_se", "flops_se", draft.response) or like_a_loss(header):
            continue
        if header in QUANTITIES:
            if header in draft.given:
                found.append(header)
        elif _SEEDS.search(key) or (series.dtype.kind == "f" and len(series.drop_duplicates()) > len(series) / 2):
            continue
        else:
            found.append(header)
    return found


@check("BS-R022", "rows")
def note_edges_of_budgets(draft: Draft) -> None:
    """Where the smallest or largest model of a budget is its best, the optimum lies beyond the sizes tried."""
    n, loss = draft.values("params"), draft.values("loss")
    levels = _budgets(draft)
    if draft.response != "loss" or n is None or loss is None or levels is None:
        return
    kinds = [h for h in text_columns(draft) if len(draft.frame[h].drop_duplicates()) <= _MOST_LEVELS]
    groups = draft.frame.assign(**{"": levels}).groupby(["", *kinds], sort=True, dropna=False).indices
    edges, judged = [], 0
    for positions in groups.values():
        sizes = n[positions]
        if len(np.unique(sizes)) < 3:
            continue
        judged += 1
        best = sizes[np.argmin(loss[positions])]
        if best in (sizes.min(), sizes.max()):
            which = "smallest" if best == sizes.min() else "largest"
            level = np.median(draft.frame["flops"].to_numpy()[positions])
            edges.append(f"{level:.3g} FLOP (the {which}, {best:.3g})")
    if edges:
        shown = ", ".join(edges[:4]) + (f" and {len(edges) - 4} more" if len(edges) > 4 else "")
        draft.note(
            "BS-R022",
            f"at {len(edges)} of {judged} budgets the best model stands at the edge of the sizes tried: {shown}. Their "
            "optimum may lie beyond; add a size there",
        )


def _budgets(draft: Draft) -> np.ndarray | None:
    """Which IsoFLOP budget every row belongs to, where the table has a column of budgets or is a ladder of them."""
    if "flops" not in draft.frame or "params" not in draft.frame:
        return None
    if "budget" in draft.frame:
        budget = draft.frame["budget"].to_numpy()
        return None if np.isnan(budget).any() else numeric_levels(budget)[0]
    logs = np.log10(draft.frame["flops"].to_numpy())
    order = np.argsort(logs)
    level = np.empty(len(logs), int)
    level[order] = np.concatenate([[0], np.cumsum(np.diff(logs[order]) > 0.1)])
    if level.max() > len(logs) / 2:
        return None  # no ladder: eight in ten rows would have to share a level with three more
    widths = [np.ptp(logs[level == k]) for k in range(level.max() + 1)]
    sizes = [len(np.unique(draft.frame["params"].to_numpy()[level == k])) for k in range(level.max() + 1)]
    held = sum(int((level == k).sum()) for k, s in enumerate(sizes) if s >= 4 and widths[k] < 0.15)
    ladder = level.max() > 0 and held >= 0.8 * len(logs)
    return level if ladder else None


@check("BS-R023", "rows")
def note_pooled_settings(draft: Draft) -> None:
    """Text that sorts rows into a few kinds, which no column of the reading uses."""
    used = set(draft.headers)
    for header in text_columns(draft):
        series = cast("pd.Series", draft.frame[header])
        if header in used or like_a_loss(header):
            continue
        levels = len(series.drop_duplicates())
        if not _FEWEST_LEVELS <= levels <= _MOST_LEVELS or levels > len(series) / 4:
            continue
        if not _follows(draft, header):
            draft.note(
                "BS-R023",
                f"{header!r} ({levels}) sorts the rows into kinds that are pooled: keep one with --where, or give the "
                "column an effect with --group",
                unused=header,
            )


def _follows(draft: Draft, header: str) -> bool:
    """Whether a column follows from the model size or from a column that is used, as a model's name does."""
    others = [c for c in ("params", "recipe", "group") if c in draft.frame]
    for other in others:
        pairs = {*zip(draft.frame[other].tolist(), draft.frame[header].tolist(), strict=True)}
        if len(pairs) == len({first for first, _ in pairs}):
            return True
    return False


@check("BS-R024", "rows")
def ask_which_losses(draft: Draft) -> None:
    """Losses of training and of held-out data in one column are two quantities."""
    if draft.response != "loss":
        return
    for header in text_columns(draft):
        series = cast("pd.Series", draft.frame[header])
        if not _SETS.fullmatch(normalise(header)):
            continue
        values = sorted({str(v) for v in series.tolist()})
        training = [v for v in values if v.strip().lower() in _TRAINING]
        held_out = [v for v in values if v.strip().lower() in _HELD_OUT]
        if training and held_out:
            raise draft.error(
                "BS-R024",
                f"{header!r} says that losses of {training[0]!r} and of {held_out[0]!r} stand in one column",
                name="loss",
                remedy=f"Keep one kind with --where \"{quoted(header)} == '{held_out[0]}'\" (in Python: where=).",
            )


@check("BS-R025", "rows")
def note_smoothed_losses(draft: Draft) -> None:
    """A running mean lags, and hides the noise that an interval is made of."""
    header = draft.headers.get("loss")
    if draft.response == "loss" and header and _SMOOTH.search(normalise(header)):
        draft.note(
            "BS-R025",
            f"{header!r} is smoothed, as its name says: a running mean lags behind the run and hides its noise, so "
            "intervals may be too narrow; name the loss as it was logged with --column loss=HEADER",
        )


@check("BS-R026", "rows")
def note_rounded_losses(draft: Draft) -> None:
    """Losses of two decimals err by more than careful runs do: each stands for all that round to it."""
    loss = draft.values("loss")
    told = "loss_se" in draft.frame or "loss_step" in draft.frame
    if draft.response != "loss" or loss is None or len(loss) < 8 or draft.loss_unit == "ppl" or told:
        return
    for step in (1.0, 0.1, 0.01):
        if np.allclose(loss / step, np.round(loss / step), rtol=0, atol=1e-6):
            draft.frame["loss_step"] = step
            draft.note(
                "BS-R026",
                f"the losses are multiples of {step:g}, {step / np.median(loss):.2%} of their size: each is taken to "
                "stand for all that round to it (column loss_step); more digits would say more",
            )
            return
    values = np.unique(loss)
    if len(loss) >= _MANY and len(values) < _TIED * len(loss) and len(values) > 2 and draft.curves is None:
        step = float(np.median(np.diff(values)))
        error = step / np.sqrt(12)
        share = error / np.median(loss)
        if share > _FELT:
            draft.note(
                "BS-R026",
                f"{len(loss)} rows hold only {len(values)} distinct losses, as where they were read off colours: that "
                f"alone errs by about {error:.2g} (sd), {share:.2%} of the loss; give the step, about {step:.2g}, as a "
                "column loss_step",
            )


@check("BS-R006", "rows")
def note_mixed_units(draft: Draft) -> None:
    """Rows of one kind that lie above those of another by 1/ln 2 at equal scale are in bits, the others in nats."""
    loss = draft.values("loss")
    inputs = [v for q in ("params", "tokens") if q in draft.given and (v := draft.values(q)) is not None]
    if draft.response != "loss" or loss is None or not inputs or not (loss > 0).all():
        return
    logs = [np.log(x) for x in inputs if np.ptp(np.log(x)) > 1e-6]
    for header in text_columns(draft):
        series = cast("pd.Series", draft.frame[header])
        if like_a_loss(header):
            continue
        index = series.astype("string").fillna("").factorize(sort=True)[0]
        counts = np.bincount(index) if len(index) else np.zeros(0, int)
        if not 2 <= len(counts) <= 6 or counts.min() < 3 + len(logs):
            continue
        design = np.column_stack([index[:, None] == np.arange(len(counts)), *logs]).astype(float)
        coefficients = least_absolute_deviations(design, np.log(loss))
        spread = float(np.median(np.abs(np.log(loss) - design @ coefficients)))
        levels = coefficients[: len(counts)]
        if spread < 0.02 and abs(np.ptp(levels) - np.log(_BITS)) < _NEAR:
            names = sorted({str(v) for v in series.tolist()})
            high, low = names[int(np.argmax(levels))], names[int(np.argmin(levels))]
            draft.note(
                "BS-R006",
                f"the losses of {header} {high!r} lie {np.exp(np.ptp(levels)):.3f} times above those of {low!r} at "
                "equal scale, as bits lie above nats (1.443): convert one kind, or keep one with --where",
            )


def numeric_columns(draft: Draft) -> list[str]:
    """The headers of columns of numbers."""
    return [h for h, kind in zip(draft.frame.columns, draft.frame.dtypes, strict=True) if kind.kind == "f"]


def text_columns(draft: Draft) -> list[str]:
    """The headers of the other columns, the run's apart."""
    numbers = {*numeric_columns(draft), "run"}
    return [h for h in draft.frame.columns if h not in numbers]


def quoted(header: str) -> str:
    """A column's name as a filter takes it."""
    return header if header.isidentifier() else f"`{header}`"
