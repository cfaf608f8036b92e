"""Sweeps of the learning rate: every cell of N and D as one row, its best run or the minimum of a fitted surface."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from bayescale.errors import RunsError
from bayescale.reading.draft import Draft
from bayescale.reading.headers import normalise
from bayescale.reading.register import check
from bayescale.reading.sharing import numeric_columns, text_columns
from bayescale.runs import COLUMNS, numeric_levels

_RATE = re.compile(r"(train|peak|max|base|init(ial)?)?(lr|learningrate)|eta")
_BATCH = re.compile(r"(global|train(ing)?)?(bs|batch|batchsize|batchtokens|batchsizetokens|batchsizeseqs)")
#: Rows further from a cell's best than these do not shape its surface: log of the learning rate, log of the loss.
_WINDOW, _ABOVE = np.log(4.0) + 1e-9, 0.25
_FEWEST_RATES = 3
_MOST_KINDS = 30


@dataclass(frozen=True)
class Sweep:
    """The cell of every row, and the logs of what was varied within cells: learning rate, perhaps batch size."""

    cell: np.ndarray
    axes: tuple[str, ...]
    logs: np.ndarray

    @property
    def count(self) -> int:
        """How many cells there are."""
        return int(self.cell.max()) + 1

    def tried(self) -> np.ndarray:
        """How many learning rates every cell was tried with."""
        pairs = np.unique(np.column_stack([self.cell, self.logs[:, 0]]), axis=0)
        return np.bincount(pairs[:, 0].astype(int), minlength=self.count)


def summarise_learning_rates(draft: Draft) -> None:
    """Keep one row a cell of N and D, as `learning_rates` asks: "best" or "surface".

    Raises `RunsError` (BS-R058) where no cell has learning rates enough.
    """
    how = draft.options.learning_rates
    if how in (None, "all"):
        return
    sweep = _sweep(draft)
    if sweep is None:
        raise RunsError(
            "there is no sweep of the learning rate: no cell of N and D was run with several",
            code="BS-R058",
            file=draft.source,
            remedy="Leave out --learning-rates, or name the column with --column lr=HEADER.",
        )
    if how == "best":
        _keep_best(draft, sweep)
    else:
        _fit_surface(draft, sweep)
    draft.curves = None


def _sweep(draft: Draft) -> Sweep | None:
    """The sweep of a table, or None where no cell holds several learning rates."""
    frame, loss = draft.frame, draft.values("loss")
    scales = [q for q in ("params", "tokens") if q in frame]
    if loss is None or not (loss > 0).all() or not scales or draft.curves is not None:
        return None
    rates = [h for h in numeric_columns(draft) if _RATE.fullmatch(normalise(h))]
    rates = ["lr"] if "lr" in rates else rates
    tried = np.unique(frame[rates[0]].to_numpy(float)) if len(rates) == 1 else np.zeros(0)
    if len(tried) < 2 or not (tried > 0).all():
        return None
    kinds = [h for h in text_columns(draft) if len(frame[h].drop_duplicates()) <= _MOST_KINDS]
    keys = frame[kinds].assign(**{q: numeric_levels(frame[q].to_numpy())[0] for q in scales})
    cell = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
    axes = [rates[0]]
    batches = [h for h in numeric_columns(draft) if _BATCH.fullmatch(normalise(h)) and (frame[h].to_numpy() > 0).all()]
    if batches:
        pairs = np.unique(np.column_stack([cell, frame[batches[0]].to_numpy(float)]), axis=0)
        if np.median(np.bincount(pairs[:, 0].astype(int))) >= _FEWEST_RATES:
            axes.append(batches[0])
    sweep = Sweep(cell, tuple(axes), np.log(frame[axes].to_numpy(float)))
    return sweep if (sweep.tried() > 1).any() else None


@check("BS-R058", "rows")
def note_untuned_rows(draft: Draft) -> None:
    """Rows of a sweep are not all tuned: pooled as they are, they raise the losses of some scales."""
    sweep = _sweep(draft)
    if draft.options.learning_rates is not None or sweep is None:
        return
    several = int((sweep.tried() > 1).sum())
    if several * 2 < sweep.count:
        return
    draft.note(
        "BS-R058",
        f"{several} of {sweep.count} cells of N and D were run at several learning rates, and all rows are kept, tuned "
        "or not: --learning-rates surface takes the minimum over them with its uncertainty, --learning-rates best the "
        "lowest loss, --learning-rates all keeps every row without this note",
    )


def _keep_best(draft: Draft, sweep: Sweep) -> None:
    loss = draft.frame["loss"].to_numpy()
    order = np.lexsort((loss, sweep.cell))
    best = np.sort(order[np.unique(sweep.cell[order], return_index=True)[1]])
    draft.note(
        "BS-R058",
        f"kept the lowest loss of each of {sweep.count} cells of N and D, of {len(loss)} rows: the lowest of several "
        "noisy losses is a little low, most where most were tried (--learning-rates surface does without)",
    )
    draft.frame = draft.frame.iloc[best]


@dataclass(frozen=True)
class Surface:
    """Parabolas in the logs of what was varied, one a cell with one curvature for all, fitted to log loss.

    `least` and `error` are the log loss at every cell's minimum and its standard error, `at` where that is, and `edge`
    the cells whose minimum lies beyond what was tried, taken at the edge; `noise` is the sd of the residuals.
    """

    cells: np.ndarray
    least: np.ndarray
    error: np.ndarray
    at: np.ndarray
    edge: np.ndarray
    noise: float
    used: np.ndarray


def fit_surface(cell: np.ndarray, logs: np.ndarray, y: np.ndarray) -> Surface | None:
    """The minimum of log loss over the learning rate (and batch size) in every cell, with its standard error.

    The model is y = c_i + b_i x + x'Hx/2 in cell i, least squares over all cells at once. The loss at the minimum is a
    prediction there, and because the slope is zero there its error is that of the prediction alone. Shapes: `cell`
    (rows,), `logs` (rows, axes), `y` (rows,). None where too few rows are left over to tell the noise.
    """
    used = _near_the_best(cell, logs, y)
    fewest = _FEWEST_RATES if logs.shape[1] == 1 else 6
    enough = [
        k
        for k in np.unique(cell[used])
        if (points := np.unique(logs[used & (cell == k)], axis=0)).shape[0] >= fewest
        and all(len(np.unique(p)) >= _FEWEST_RATES for p in points.T)
    ]
    if not enough:
        return None
    cells = np.array(enough)
    used &= np.isin(cell, cells)
    place = np.searchsorted(cells, cell[used])
    centre = np.stack([logs[used][place == k].mean(axis=0) for k in range(len(cells))])
    x = logs[used] - centre[place]
    design = _design(place, x, len(cells))
    left = len(x) - design.shape[1]
    if left < 1:
        return None
    coefficients, *_ = np.linalg.lstsq(design, y[used], rcond=None)
    noise = float(np.sqrt(((y[used] - design @ coefficients) ** 2).sum() / left))
    covariance = noise**2 * np.linalg.pinv(design.T @ design)
    axes = x.shape[1]
    slopes = coefficients[len(cells) : len(cells) * (1 + axes)].reshape(axes, len(cells)).T
    pairs = np.triu_indices(axes)
    curvature = np.zeros((axes, axes))
    curvature[pairs] = coefficients[len(cells) * (1 + axes) :]
    curvature = curvature + curvature.T - np.diag(np.diag(curvature))
    at, edge = np.empty((len(cells), axes)), np.zeros(len(cells), bool)
    bent = bool((np.linalg.eigvalsh(curvature) > 0).all())
    for k in range(len(cells)):
        tried = x[place == k]
        free = -np.linalg.solve(curvature, slopes[k]) if bent else np.full(axes, np.inf)
        edge[k] = bool(((free < tried.min(axis=0) - 1e-9) | (free > tried.max(axis=0) + 1e-9)).any())
        predicted = (design @ coefficients)[place == k]
        at[k] = tried[np.argmin(predicted)] if edge[k] else free
    rows = _design(np.arange(len(cells)), at, len(cells))
    error = np.sqrt(np.maximum(np.einsum("ki,ij,kj->k", rows, covariance, rows), 0))
    return Surface(cells, rows @ coefficients, error, at + centre, edge, noise, used)


def _near_the_best(cell: np.ndarray, logs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows near the best learning rate of their cell: elsewhere losses are no parabola."""
    used = np.zeros(len(y), bool)
    for k in np.unique(cell):
        rows = np.flatnonzero(cell == k)
        points, place = np.unique(logs[rows], axis=0, return_inverse=True)
        place = place.ravel()
        middles = np.array([np.median(y[rows][place == j]) for j in range(len(points))])
        best = int(np.argmin(middles))
        close = (np.abs(points - points[best]) <= _WINDOW).all(axis=1) & (middles <= middles[best] + _ABOVE)
        used[rows] = close[place]
    return used


def _design(place: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """Columns of the model: a level and slopes for every cell, and one curvature for all."""
    own = (place[:, None] == np.arange(count)).astype(float)
    slopes = [own * x[:, [j]] for j in range(x.shape[1])]
    pairs = zip(*np.triu_indices(x.shape[1]), strict=True)
    bends = [(x[:, j] * x[:, k] * (0.5 if j == k else 1.0))[:, None] for j, k in pairs]
    return np.hstack([own, *slopes, *bends])


def _fit_surface(draft: Draft, sweep: Sweep) -> None:
    frame = draft.frame
    y = np.log(frame["loss"].to_numpy(float))
    surface = fit_surface(sweep.cell, sweep.logs, y)
    if surface is None:
        raise RunsError(
            "too few learning rates for a surface: a cell needs three, and the table more rows than a parabola a cell",
            code="BS-R058",
            file=draft.source,
            remedy="Keep the lowest loss of every cell with --learning-rates best.",
        )
    first = np.array([np.flatnonzero(sweep.cell == k)[np.argmin(y[sweep.cell == k])] for k in range(sweep.count)])
    made = frame.iloc[first].copy()
    kinds = frame.groupby(sweep.cell).nunique(dropna=False)
    varying = [h for h in frame.columns if h not in COLUMNS and (kinds[h].to_numpy() > 1).any()]
    made = made.drop(columns=[h for h in varying if h not in sweep.axes] + [h for h in ("run",) if h in made])
    for name in ("params", "tokens", "flops"):
        if name in made:
            made[name] = frame.groupby(sweep.cell)[name].median().to_numpy()
    loss, error = made["loss"].to_numpy(copy=True), made["loss"].to_numpy() * surface.noise
    loss[surface.cells] = np.exp(surface.least)
    error[surface.cells] = np.exp(surface.least) * surface.error
    made["loss"], made["loss_se"] = loss, error
    for j, axis in enumerate(sweep.axes):
        values = made[axis].to_numpy(copy=True)
        values[surface.cells] = np.exp(surface.at[:, j])
        made[axis] = values
    bare = sweep.count - len(surface.cells)
    draft.note(
        "BS-R058",
        f"{len(y)} rows became {sweep.count}: the minimum over {' and '.join(map(repr, sweep.axes))} in every cell of "
        f"N and D, of parabolas in logs with one curvature, fitted to {int(surface.used.sum())} rows near the best "
        f"(residuals {surface.noise:.2%}); loss_se is the error of the minimum, {np.median(surface.error):.2%} of "
        "the loss at the median",
    )
    if surface.edge.any() or bare:
        parts = [f"{int(surface.edge.sum())} minima lie beyond the learning rates tried and were taken at the edge"]
        parts = parts if surface.edge.any() else []
        parts += [f"{bare} cells had too few learning rates near their best and keep their lowest loss"] if bare else []
        draft.note("BS-R058", f"of {sweep.count} cells, {'; '.join(parts)}: those losses may be too high")
    if left := [h for h in varying if h not in sweep.axes]:
        draft.note("BS-R058", f"columns that vary within a cell were left out: {', '.join(map(repr, left))}")
    draft.frame = made.sort_index()
