"""Build a model from a law, a noise and a table of runs; fix the scales at which its priors are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bayescale.errors import LawError, Note, RunsError, nearest
from bayescale.law import LOSS_UNITS, Input, Law, Parameter, PooledLaw, Prior, Response
from bayescale.laws import find_law
from bayescale.model.coordinates import Coordinates, make_coordinates
from bayescale.model.density import Anchor, Intercepts, Structure, bucket, pad
from bayescale.model.grouping import FEWEST_ROWS_PER_LEVEL, Grouping, make_groupings, parents_of
from bayescale.model.observing import (
    Observing,
    checkpoints_of,
    interval_data,
    notes_on,
    observing_data,
    observing_of,
)
from bayescale.model.pooling import pooled_column, pooling_notes, with_information
from bayescale.noise import LINKS, noise_named
from bayescale.runs import Runs, require_runs

#: Shares of a mixture may miss one by this much: published tables round them to three digits or so.
SHARES_OFF = 0.01
#: The spread of runs that are measured on several sets, in units of the noise of one set.
CROSSED = 4.0


@dataclass(frozen=True, eq=False)
class Model:
    """A law, a noise and a table bound together: the structure that is compiled and the numbers it is given.

    `references` are the scales at which priors on contributions are judged; they come from the design alone, and a
    refit on part of the runs should be given those of the first fit. `data` is the padded table as the compiled
    programs take it.

    Example:
        >>> import bayescale as bs
        >>> model = bs.build_model("chinchilla", bs.load_runs("byte-ladder"), group="none")
        >>> model.structure.coordinates.names
        ('E', 'A_ref', 'B_ref', 'alpha', 'beta', 'sigma', 'nu')
    """

    law: Law
    runs: Runs
    noise: str
    structure: Structure
    references: Mapping[str, Any]
    data: Mapping[str, Any]
    groupings: tuple[Grouping, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def numpyro_model(self, data: Mapping[str, Any] | None = None) -> None:
        """The NumPyro model, for NumPyro's own handlers and inference; call it under `jax.enable_x64(True)`."""
        self.structure.numpyro_model(self.data if data is None else data)

    def with_locations(self, located: Mapping[str, Mapping[str, np.ndarray]]) -> Model:
        """The same model with where the levels of its groups lie, by site: better coordinates for a sampler."""
        effects = {site: {**known, **located[site]} for site, known in self.data["effects"].items()}
        return replace(self, data={**self.data, "effects": effects})

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """The law's inputs at the rows of the table, unpadded."""
        return {name: np.asarray(v)[: len(self.runs)] for name, v in self.data["inputs"].items()}


def build_model(
    law: str | Law,
    runs: Runs,
    *,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    fix: Mapping[str, float] | None = None,
    tie: Iterable[tuple[str, str]] = (),
    priors: Mapping[str, Prior] | None = None,
    references: Mapping[str, Any] | None = None,
    min_flops: str | None = None,
    rows: int | None = None,
    held: np.ndarray | None = None,
) -> Model:
    """Bind a law and a noise to a table of runs.

    `group`, `fix`, `tie` and `priors` are as in `fit`; `references` overrides the scales at which priors are judged
    (by default the geometric middle of the design, to one digit); `min_flops="auto"` lets rows below a cut in compute
    lie off the law; `rows` pads to more rows than the table has. Rows where `held` is true are part of the design, with
    the levels that they alone have, but their responses are not looked at: a prediction of them is a fair one.

    Raises `LawError` for names the law does not have or a law that takes no table, `RunsError` for missing columns.
    """
    law, tie = find_law(law), list(tie)
    held = np.zeros(len(runs), bool) if held is None else np.asarray(held, bool)
    if law.kind != "model":
        raise LawError(
            f"law {law.name!r} is computed from another law's posterior",
            code="BS-F001",
            remedy="Fit that law and use its allocation verbs.",
        )
    inputs = {i.name: _input_values(i, require_runs(runs)) for i in law.inputs}
    refs = make_references(law, inputs, references)
    pooled = pooled_column(law, runs)
    groupings, notes = make_groupings(runs, group, pooled) if law.likelihood is None else ((), ())
    over = sorted({p.over for p in (*law.parameters, *law.sampled) if p.over})
    levels = {c: runs.labels(c) for c in over} | {g.column: (g.index, g.levels) for g in groupings}
    runs = runs.using(levels)
    axes = dict(law.dims)
    for i in law.inputs:
        for axis, length in zip(i.dims, inputs[i.name].shape[1:], strict=False):
            if axes.setdefault(axis, length) != length:
                raise LawError(f"law {law.name!r}: axis {axis!r} is {axes[axis]} long, the table gives {length}")
    noises = {r.name: noise_named(noise) for r in law.responses} if law.likelihood is None else {}
    suffixes = {r.name: "" if len(law.responses) == 1 else f"_{r.name}" for r in law.responses}
    parents = parents_of(groupings)
    intercepts = tuple(
        Intercepts(g, r.name, suffixes[r.name], parents[g.column]) for r in law.responses for g in groupings
    )
    checkpoints = checkpoints_of(law, runs, group, groupings)
    seen = observing_of(law, runs, checkpoints, any(n.grows for n in noises.values()), min_flops == "auto")
    extra = [
        _suffixed(p, suffixes[r.name])
        for r in law.responses
        if r.name in noises
        for p in noises[r.name].parameters(_noise_scale(r, unit_factor(law, runs)), of_runs=seen.several)
    ]
    extra += [_suffixed(p, suffixes[r.name]) for r in law.responses if r.name in noises for p in seen.parameters]
    sets = [index for column, (index, _) in levels.items() if column in over]
    spreads = {i: _spread(i, _crosses(i.grouping, sets)) for i in intercepts if i.grouping.fixed is None}
    stated = {*(fix or {}), *(priors or {}), *(name for pair in tie for name in pair)}
    few = {s.name: s.prior.median for i, s in spreads.items() if s.prior and i.grouping.few and s.name not in stated}
    coordinates = make_coordinates(
        law,
        [*extra, *spreads.values()],
        levels={c: len(names) for c, (_, names) in levels.items()},
        axes=axes,
        unit_factor=unit_factor(law, runs),
        fix={**few, **(fix or {})},
        tie=tie,
        priors=priors,
    )
    structure = Structure(law, coordinates, noises, intercepts, seen, _anchor(law, coordinates))
    count = rows or bucket(len(runs))
    responses = {r.name: _response_data(r, law, runs, count, seen, held) for r in law.responses}
    data = {
        "inputs": {name: pad(v, count) for name, v in inputs.items()},
        "logs": {i.name: pad(np.log(inputs[i.name]), count) for i in law.inputs if i.centre == "ratio" and not i.dims},
        "references": {name: np.asarray(v, float) for name, v in refs.items()},
        "responses": responses,
        "levels": {c: pad(np.asarray(index, np.int32), count) for c, (index, _) in levels.items()},
        "effects": {i.site: _effects(i, responses[i.response]["used"][: len(runs)], levels) for i in intercepts},
        "anchor": np.asarray(_middle_row(law, inputs), np.int32),
        **_padded(observing_data(seen, runs, checkpoints, held), count),
    }
    notes = (*notes, *notes_on(seen, law, runs, checkpoints), *map(_note_on, (i for i in spreads if i.ratio in few)))
    options = {
        "fix": dict(fix or {}),
        "tie": [list(t) for t in tie],
        "priors": {k: v.exact for k, v in (priors or {}).items()},
        "min_flops": min_flops,
        "pool": law.pool if isinstance(law, PooledLaw) else None,
        "curve": checkpoints is not None and not any(g.kind == "run" for g in groupings),
    }
    if held.any():
        options["held_out"] = [row for row, out in zip(runs.rows, held, strict=True) if out]
    data = with_information(structure, data)
    return Model(law, runs, noise, structure, refs, data, groupings, options, (*notes, *pooling_notes(law, runs)))


def with_responses(model: Model, runs: Runs, held: np.ndarray | None = None) -> Model:
    """The same model of a table that differs from its own in the responses alone: inputs, groups, errors are the same.

    Raises `RunsError` as `build_model` does.
    """
    held = np.zeros(len(runs), bool) if held is None else np.asarray(held, bool)
    law, seen = model.law, model.structure.observing
    count = len(next(iter(model.data["responses"].values()))["y"])
    responses = {r.name: _response_data(r, law, runs, count, seen, held) for r in law.responses}
    return replace(model, runs=runs.using(model.data["levels"]), data={**model.data, "responses": responses})


def unit_factor(law: Law, runs: Runs) -> float:
    """What a prior in the law's unit of loss is multiplied by to be in the table's unit; 1 for other responses."""
    unit = law.responses[0].unit
    return LOSS_UNITS[runs.loss_unit].per_nat / LOSS_UNITS[unit].per_nat if unit in LOSS_UNITS else 1.0


def make_references(
    law: Law, inputs: Mapping[str, np.ndarray], given: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """The scale of every input at which priors are judged: given, or the geometric middle of the design to one digit.

    The design alone decides it, never the response; it is written into the fit.
    """
    known = {i.reference_name: i for i in law.inputs if i.centre != "none"}
    for name in given or {}:
        if name not in known:
            raise LawError(f"no reference {name!r}", code="BS-L002", remedy=nearest(name, [*known]))
    references: dict[str, np.ndarray] = {}
    for name, i in known.items():
        if given and name in given:
            references[name] = np.asarray(given[name], float)
        elif i.simplex:
            middle = inputs[i.name].mean(axis=0)
            references[name] = np.round(middle / middle.sum(), 2)
        elif i.centre in ("least", "most"):
            references[name] = (np.min if i.centre == "least" else np.max)(inputs[i.name], axis=0)
        elif i.centre == "difference":
            references[name] = np.round(inputs[i.name].mean(axis=0))
        else:
            middle = np.exp(np.mean([np.log(inputs[i.name].min(axis=0)), np.log(inputs[i.name].max(axis=0))], axis=0))
            references[name] = _one_digit(middle)
    return references


def _one_digit(x: np.ndarray) -> np.ndarray:
    size = 10.0 ** np.floor(np.log10(x))
    return np.round(x / size) * size


def _input_values(i: Input, runs: Runs) -> np.ndarray:
    columns = i.columns(runs.columns)
    missing = [c for c in columns if not runs.has(c)]
    if missing or not columns:
        wanted = ", ".join(repr(c) for c in missing) or f"a column like {i.column!r}"
        raise RunsError(
            f"the law needs {i.name} ({i.meaning}), in column {wanted}, which the table does not have",
            code="BS-R030",
            file=runs.source,
            remedy="Name the column with --column NAME=HEADER, or choose a law for the columns that are there.",
        )
    values = np.stack([runs.values(c) for c in columns], axis=-1)
    values = values if i.dims else values[:, 0]
    bad = ~np.isfinite(values) | ((values <= 0) if i.centre == "ratio" else False)
    if bad.any():
        lines = np.flatnonzero(bad.reshape(len(runs), -1).any(axis=1))
        raise RunsError(
            f"{i.name} must be a positive number" if i.centre == "ratio" else f"{i.name} must be a number",
            code="BS-R003",
            column=columns[0],
            file=runs.source,
            rows=[runs.rows[k] for k in lines],
            remedy="Correct these cells, or leave the rows out with --where or --drop-missing.",
        )
    if i.simplex:
        bad = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > SHARES_OFF)
        if bad.any():
            raise RunsError(
                f"{i.name} must be shares of one: not negative, with the sum 1 over {', '.join(columns)}",
                code="BS-R003",
                column=columns[0],
                file=runs.source,
                rows=[runs.rows[k] for k in np.flatnonzero(bad)],
                remedy="Divide each row by its sum, or name every part of the mixture.",
            )
    return _so_far(values[:, 0], runs) if i.per == "run" else values


def _so_far(values: np.ndarray, runs: Runs) -> np.ndarray:
    """The sequence of every row's run up to that row, its last value repeated, shape (rows, longest run)."""
    index, _ = runs.labels("run")
    when = next((runs.values(c) for c in ("step", "tokens") if runs.has(c)), np.zeros(len(values)))
    longest = np.arange(np.bincount(index).max())
    sequences = np.empty((len(values), len(longest)))
    for level in np.unique(index):
        own = np.flatnonzero(index == level)
        own = own[np.argsort(when[own], kind="stable")]
        for position, row in enumerate(own):
            sequences[row] = values[own[np.minimum(longest, position)]]
    return sequences


def _padded(tree: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {k: _padded(v, rows) if isinstance(v, Mapping) else pad(v, rows) for k, v in tree.items()}


def _response_data(
    r: Response, law: Law, runs: Runs, count: int, seen: Observing, held: np.ndarray
) -> dict[str, np.ndarray]:
    """The observed response on its link, its standard error there, and which rows observe it, padded."""
    values, used = runs.values(r.source), observed_rows(r, law, runs) & ~held
    if not used.any():
        raise RunsError(f"every row that observes {r.name} is held out", code="BS-R054", file=runs.source)
    inside = {
        "positive": values > 0,
        "real": np.isfinite(values),
        "unit": (values > 0) & (values < 1),
        "count": (values >= 0) & (values == np.floor(values)),
    }[r.support]
    if (bad := used & ~(inside & np.isfinite(values))).any():
        where = {"positive": "positive", "real": "finite", "unit": "between 0 and 1", "count": "a count"}[r.support]
        raise RunsError(
            f"{r.name} must be {where}",
            code="BS-R002",
            column=r.source,
            file=runs.source,
            rows=[runs.rows[k] for k in np.flatnonzero(bad)],
        )
    y, error = np.where(used, values, np.median(values[used])), np.zeros_like(values)
    column = f"{r.source}_se"
    if law.likelihood is None:
        link = LINKS[r.support]
        slope = np.exp(link.log_slope(y))
        y = np.asarray(link.forward(y), float)
        if runs.has(column):
            error = np.where(used, runs.values(column) * slope, 0.0)
    if (bad := ~np.isfinite(error) | (error < 0)).any():
        raise RunsError(
            "a standard error must be zero or positive",
            code="BS-R003",
            column=column,
            file=runs.source,
            rows=[runs.rows[k] for k in np.flatnonzero(bad)],
        )
    data = {"y": pad(y, count), "used": np.concatenate([used, np.zeros(count - len(used), bool)])}
    data |= _padded(interval_data(seen, r.source, r.support, runs), count)
    return data | ({"error": pad(error, count)} if seen.error else {})


def observed_rows(r: Response, law: Law, runs: Runs) -> np.ndarray:
    """Which rows observe a response: all, or those whose `response` column names it, where a law has several.

    Raises `RunsError` when the column names something else, or when a response is observed in no row.
    """
    if len(law.responses) == 1 or not runs.has("response"):
        return np.ones(len(runs), bool)
    named = runs.frame["response"].astype(str).to_numpy()
    names = [other.name for other in law.responses]
    if (bad := ~np.isin(named, names)).any():
        raise RunsError(
            f"must name one of {', '.join(names)}",
            column="response",
            file=runs.source,
            rows=[runs.rows[k] for k in np.flatnonzero(bad)],
            remedy="Correct these cells, or leave the rows out with --where.",
        )
    if not (named == r.name).any():
        raise RunsError(f"no row observes {r.name}", code="BS-R030", column="response", file=runs.source)
    return named == r.name


def _noise_scale(r: Response, factor: float) -> float:
    """The typical noise on the link scale: it follows the unit of the response only where there is no link."""
    return r.noise_scale * (factor if r.support == "real" and r.unit in LOSS_UNITS else 1.0)


def _anchor(law: Law, coordinates: Coordinates) -> Anchor | None:
    """The floor as samplers see it, where it is sampled, alone, under a prior whose quantile is simple."""
    if law.floor is None or law.likelihood is not None:
        return None
    name = law.floor.removeprefix("-")
    slot = next((s for s in coordinates.slots if s.parameter.name == name), None)
    if slot is None or slot.shape or slot.parameter.pooled is not None:
        return None
    prior = slot.parameter.prior
    assert prior is not None
    bounded = slot.parameter.above is not None or slot.parameter.below is not None
    tied = name in coordinates.ties.values()
    return None if bounded or tied or not prior.traceable else Anchor(slot.start, -1 if "-" in law.floor else 1, prior)


def _effects(i: Intercepts, used: np.ndarray, levels: Mapping[str, tuple[np.ndarray, Any]]) -> dict[str, np.ndarray]:
    """What samplers know of effects: rows a level, its parent, and where it lies, which a search for the mode finds."""
    grouping = i.grouping
    counts = np.bincount(grouping.index, weights=used, minlength=len(grouping.levels))
    made: dict[str, np.ndarray] = {"rows": counts, "location": np.zeros(len(counts)), "known": np.zeros(len(counts))}
    if i.parent is not None:
        made["parent"] = np.zeros(len(counts), np.int32)
        made["parent"][grouping.index] = levels[i.parent][0]
    return made


def _middle_row(law: Law, inputs: Mapping[str, np.ndarray]) -> int:
    """The run nearest the middle of the design, in units of the design's spread along each input."""
    distance = np.zeros(len(next(iter(inputs.values()))))
    for i in law.inputs:
        x = np.log(inputs[i.name]) if i.centre == "ratio" else inputs[i.name]
        x = x.reshape(len(x), -1)
        spread = np.ptp(x, axis=0)
        distance = distance + (((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)) ** 2).sum(axis=1)
    return int(np.argmin(distance))


def _suffixed(p: Parameter, suffix: str) -> Parameter:
    import dataclasses

    return dataclasses.replace(p, name=f"{p.name}{suffix}") if suffix else p


def _crosses(grouping: Grouping, sets: Sequence[np.ndarray]) -> bool:
    """Whether a run has rows on several levels that the law's parameters differ by: evaluation sets, benchmarks."""
    if grouping.kind != "run":
        return False
    pairs = [len({*zip(grouping.index.tolist(), index.tolist(), strict=True)}) for index in sets]
    return any(count >= FEWEST_ROWS_PER_LEVEL * len(grouping.levels) for count in pairs)


def _note_on(i: Intercepts) -> Note:
    few = (
        f"the {len(i.grouping.levels)} levels of {i.grouping.column!r} are too few to learn the spread of their effects"
    )
    return Note("BS-R016", f"{few}: it is fixed at the median of its prior; state another with --fix {i.ratio}=")


def _spread(i: Intercepts, crossed: bool) -> Parameter:
    """The sampled spread of a grouping's intercepts: a ratio to sigma, or to the prior's scale on the link scale."""
    from bayescale.law import HalfNormal

    effect = i.grouping.effect
    prior = effect.prior if effect.relative else HalfNormal(1.0)
    if crossed:  # what a run does better on every set may be many times the noise of one set
        prior = HalfNormal(CROSSED)
    return Parameter(i.ratio, prior, f"spread of {effect.meaning}, as a ratio")
