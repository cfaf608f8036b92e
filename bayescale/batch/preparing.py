"""Tables as a compiled program takes them: models padded to common sizes, and a key of random numbers for each."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib import metadata
from typing import Any

import numpy as np

from bayescale.allocation import default_budgets
from bayescale.diagnostics import design_findings, require_answerable, response_findings, settings_of, without_groups
from bayescale.errors import BayescaleError, Finding, RunsError
from bayescale.law import Law
from bayescale.model import Model, build_model, pad, with_responses
from bayescale.noise import LINKS
from bayescale.one_design import OneDesign
from bayescale.reading import read_runs
from bayescale.runs import Runs

logger = logging.getLogger("bayescale")

#: Levels of a grouping are padded to these counts, so that tables with about as many share one compilation.
LEVELS = tuple(int(b) for k in range(3, 20) for b in (2**k, 1.5 * 2**k))


@dataclass(frozen=True, eq=False)
class Design:
    """What tables share that differ in their responses alone: what the doctor found, the model, what the key is of."""

    findings: tuple[Finding, ...]
    model: Model
    padded: Model
    digest: Any
    budgets: tuple[float, ...]

    @cached_property
    def shape(self) -> tuple:
        """What the compiled program depends on: tables of the same shape share it."""
        rows = len(next(iter(self.padded.data["responses"].values()))["y"])
        return (self.padded.structure.key, rows)


@dataclass(frozen=True, eq=False)
class Task:
    """One table to be sampled: its design, its responses as the compiled program takes them, and its key.

    `asked` is what its result depends on beside its numbers and the model. What only documents and stores ask for is
    made when they do: of thousands of tables few are looked at one by one.
    """

    name: str
    design: Design
    responses: Mapping[str, Mapping[str, np.ndarray]]
    key: np.ndarray
    asked: Sequence[Any]
    _table: Callable[[], Runs]

    @cached_property
    def model(self) -> Model:
        """The model as it is."""
        own = self.design.model
        runs = self._table().using(own.data["levels"])
        return replace(own, runs=runs, data={**own.data, "responses": self.responses})

    @cached_property
    def padded(self) -> Model:
        """The model as it is compiled, with levels added."""
        return replace(self.design.padded, runs=self.model.runs, data=self.data)

    @property
    def data(self) -> dict[str, Any]:
        """The table as the compiled program takes it."""
        return {**self.design.padded.data, "responses": self.responses}

    @cached_property
    def sha256(self) -> str:
        """The table's own hash."""
        return self._table().sha256

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that the result depends on: the key, what is asked of it, the version, every column."""
        about = f"{self.key.tolist()} {list(self.asked)} {_version()} {self.sha256} {self._table().rows}"
        return hashlib.sha256(about.encode()).hexdigest()[:16]


def prepare(
    name: str,
    table: Any,
    law: Law,
    seed: int,
    flops: Sequence[float],
    options: Mapping[str, Any],
    asked: Sequence[Any] = (),
    held: np.ndarray | None = None,
    designs: dict[bytes, Design] | None = None,
) -> Task:
    """Read, examine and bind one table; raises `BayescaleError` for what makes it unfit.

    `flops` are the budgets that will be asked about, `asked` is what else its result will depend on; the responses of
    rows `held` out are not looked at. `designs` keeps what tables of one law, seed and options have in common:
    simulated tables of one design are examined once.

    What pads is never seen: added rows do not count, added levels have no rows and only repeat their prior.
    """
    runs = table.as_now() if isinstance(table, Runs) else read_runs(table)
    if held is not None and held.shape != (len(runs),):
        raise RunsError(
            f"{held.shape} says which of {len(runs)} rows are held out",
            file=runs.source,
            remedy="Give one true or false a row, of the rows as they were read.",
        )
    if held is not None and held.all():
        raise RunsError("every row is held out", file=runs.source, remedy="Leave some to be looked at.")
    if (least := options.get("min_flops")) not in (None, "auto"):
        told, runs = runs, runs.above(least)
        held = None if held is None else held[np.isin(told.rows, runs.rows)]
    known = None if designs is None else _design_key(runs, law, held)
    design = None if designs is None or known is None else designs.get(known)
    if design is None:
        kept = runs if held is None else runs.take(~np.asarray(held, bool))
        fix, tie = without_groups(law, options["fix"], options["tie"])
        plain = build_model(law, kept, noise=options["noise"], group="none", fix=fix, tie=tie)
        findings = design_findings(plain, flops)
        require_answerable(findings, kept)  # no runs are proposed: a search a table would outlast the batch
        same = (fix, tie) == (dict(options["fix"] or {}), list(options["tie"])) and _is_plain(options, held)
        model = plain if same else build_model(law, runs, held=held, **options)
        padded = _with_padded_levels(model)
        design = Design(findings, model, padded, _digest(seed, padded), default_budgets(runs))
        if designs is not None and known is not None and not model.structure.observing.serial:
            designs[known] = design
    else:
        model = with_responses(design.model, runs, held)
    require_answerable(response_findings(model), runs)
    responses = model.data["responses"]
    return Task(name, design, responses, _key(design.digest, responses), asked, lambda: runs)


def prepare_all(
    tables: Mapping[str, Any],
    law: Law,
    seed: int,
    flops: Sequence[float],
    options: Mapping[str, Any],
    asked: Sequence[Any] = (),
    held_out: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[Task], dict[str, BayescaleError]]:
    """The tables that can be sampled, in their order, and why the others cannot."""
    designs: dict[bytes, Design] = {}
    tasks: dict[str, Task] = {}
    refused: dict[str, BayescaleError] = {}
    for name in tables:
        if name in tasks:
            continue
        held = (held_out or {}).get(name)
        try:
            tasks[name] = prepare(name, tables[name], law, seed, flops, options, asked, held, designs)
        except BayescaleError as error:
            refused[name] = error
            continue
        except Exception as error:  # whatever is wrong with one table must not cost the others
            logger.exception("%s", name)
            refused[name] = BayescaleError(f"could not be prepared: {type(error).__name__}: {error}", file=name)
            continue
        if isinstance(tables, OneDesign) and designs and len(tasks) == 1 and not held_out:
            tasks |= _prepared_together(tables, tasks[name])
    return [tasks[n] for n in tables if n in tasks], refused


def _prepared_together(tables: OneDesign, first: Task) -> dict[str, Task]:
    """The tasks of tables that differ from the first in one plain response alone; all others are left out.

    Left out are also those that are to be looked at by themselves, as their responses may be refused.
    """
    design, law = first.design, first.design.model.law
    (response, *more), data = law.responses, first.responses[law.responses[0].name]
    rows = len(tables.runs)
    if len(design.model.runs) < rows:  # some are left out
        return {}
    plain = not more and law.likelihood is None and {*data} == {"used", "y"} and data["used"][:rows].all()
    if not plain or {*tables.columns} != {response.source} or design.model.options["fix"].get(law.floor) is not None:
        return {}
    values = tables.columns[response.source]
    link = LINKS[response.support]
    with np.errstate(all="ignore"):
        usual = np.isfinite(values).all(axis=1) & (np.ptp(values, axis=1) > 0)
        usual &= np.isfinite(link.log_slope(values)).all(axis=1)
    begun, made = design.digest.copy(), {}
    _update(begun, {"responses": {response.name: {"used": data["used"]}}})
    begun.update(f"/responses/{response.name}/y".encode())
    for k in np.flatnonzero(usual).tolist():
        name, digest = tables.names[k], begun.copy()
        y = pad(np.asarray(link.forward(values[k]), float), len(data["y"]))  # each by itself, as it would be alone
        digest.update(y.tobytes())
        key = np.frombuffer(digest.digest()[:8], np.uint32)
        made[name] = Task(
            name, design, {response.name: {**data, "y": y}}, key, first.asked, partial(tables.__getitem__, name)
        )
    return made


def _is_plain(options: Mapping[str, Any], held: np.ndarray | None) -> bool:
    """Whether the model that the doctor looks at is the one to be sampled."""
    more = ("priors", "references", "min_flops")
    return held is None and options["group"] in ("none", ["none"]) and not any(options.get(k) for k in more)


def _design_key(runs: Runs, law: Law, held: np.ndarray | None) -> bytes | None:
    """A hash of all of a table but its responses; None where the doctor looks at those too, which it does at sweeps."""
    if settings_of(runs, law):
        return None
    responses = {r.source for r in law.responses}
    about = f"{runs.loss_unit} {runs.convention} {sorted(runs.column_map.items())}"
    digest = hashlib.sha256(about.encode())
    for column in runs.columns:
        digest.update(f"\0{column}\0".encode())
        if column not in responses:
            values = runs.frame[column].to_numpy()
            digest.update(values.tobytes() if values.dtype.kind in "fiub" else repr(values.tolist()).encode())
    if held is not None:
        digest.update(np.asarray(held, bool).tobytes() + repr(runs.rows).encode())
    return digest.digest()


@cache
def _version() -> str:
    return metadata.version("bayescale")


def _with_padded_levels(model: Model) -> Model:
    """The same model with levels added to every grouping whose effects are shrunk like noise."""
    intercepts, effects = [], dict(model.data["effects"])
    for i in model.structure.intercepts:
        count = len(i.grouping.levels)
        more = 0 if i.grouping.fixed is not None else next(b for b in LEVELS if b >= count) - count
        levels = (*i.grouping.levels, *(f"(none {k})" for k in range(more)))
        intercepts.append(replace(i, grouping=replace(i.grouping, levels=levels)))
        effects[i.site] = {k: np.concatenate([v, np.zeros(more, v.dtype)]) for k, v in effects[i.site].items()}
    structure = replace(model.structure, intercepts=tuple(intercepts))
    return replace(model, structure=structure, data={**model.data, "effects": effects})


def _digest(seed: int, model: Model) -> Any:
    """The seed, the model and its design, hashed so far."""
    groups, priors = [g.column for g in model.groupings], [repr(s.parameter) for s in model.structure.coordinates.slots]
    about = f"{seed} {model.law.digest()} {model.noise} {groups} {priors} {model.options}"
    digest = hashlib.sha256(about.encode())
    _update(digest, {k: v for k, v in model.data.items() if k != "responses"})
    return digest


def _key(digest: Any, responses: Mapping[str, Any]) -> np.ndarray:
    """Two 32-bit numbers from the seed and the table's own numbers: neither its name nor its neighbours matter."""
    digest = digest.copy()
    _update(digest, {"responses": responses})
    return np.frombuffer(digest.digest()[:8], np.uint32).copy()


def _update(digest: Any, tree: Mapping[str, Any]) -> None:
    for path, values in _leaves(tree):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(values).tobytes())


def _leaves(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, np.ndarray]]:
    found = []
    for name in sorted(tree):
        value = tree[name]
        found += _leaves(value, f"{path}/{name}") if isinstance(value, Mapping) else [(f"{path}/{name}", value)]
    return found


def effect_columns(design: Design) -> dict[str, slice]:
    """Where the effects of every grouping lie in flat vectors of the padded model, levels that pad left out."""
    parts, start = {}, design.padded.structure.coordinates.dimension
    for i, size in zip(design.model.structure.intercepts, design.padded.structure.sizes[1:], strict=True):
        parts[i.site] = slice(start, start + len(i.grouping.levels))
        start += size
    return parts


def unpadded(task: Task, flat: np.ndarray) -> np.ndarray:
    """Flat vectors of the table's own model from those of its padded model."""
    own = task.design.model.structure.coordinates.dimension
    return np.concatenate([flat[..., c] for c in (slice(0, own), *effect_columns(task.design).values())], axis=-1)


def names_of(tables: Any) -> Mapping[str, Any]:
    """Tables by name; a sequence is named by its sources, or by its positions, pairs by their first.

    Raises `BayescaleError` (BS-U001) when there is none, for a single table, and where two have one name.
    """
    if isinstance(tables, OneDesign):
        if not tables:
            raise _no_tables("no tables to fit")
        return tables
    if isinstance(tables, Runs | str | os.PathLike) or hasattr(tables, "columns"):
        raise _no_tables(f"one table was given ({type(tables).__name__}), where several are wanted")
    if isinstance(tables, Mapping):
        pairs = [*tables.items()]
        if pairs and all(_is_column(values) for _, values in pairs):
            raise _no_tables("the columns of one table were given, where several tables are wanted")
    else:
        if not isinstance(tables, Iterable):
            raise _no_tables(f"{type(tables).__name__} is no collection of tables")
        listed = [*tables]
        if listed and all(isinstance(t, tuple) and len(t) == 2 for t in listed):  # as `items` and `groupby` give them
            pairs = listed
        else:
            sources = [getattr(t, "source", None) or f"table-{k}" for k, t in enumerate(listed)]
            if len({*sources}) < len(sources):
                sources = [f"table-{k}" for k in range(len(sources))]
            pairs = list(zip(sources, listed, strict=True))
    if not pairs:
        raise _no_tables("no tables to fit")
    named = {str(name): table for name, table in pairs}
    if len(named) < len(pairs):
        names = [str(name) for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise BayescaleError(f"two tables are named {twice!r}", code="BS-U001", remedy="Give every table its own name.")
    if odd := [name for name in named if "\0" in name]:
        raise BayescaleError(f"the name {odd[0]!r} holds a null character", code="BS-U001", remedy="Leave it out.")
    return named


def _no_tables(message: str) -> BayescaleError:
    return BayescaleError(message, code="BS-U001", remedy="Give them by name: {'run-a': runs, …}.")


def _is_column(values: Any) -> bool:
    """Whether this is a column of numbers or text, and no table."""
    if isinstance(values, Runs | str | os.PathLike | Mapping) or hasattr(values, "columns"):
        return False
    return hasattr(values, "__len__") and not any(isinstance(v, Mapping) for v in [*values][:1])
