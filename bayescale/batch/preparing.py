"""Tables as a compiled program takes them: models padded to common sizes, and a key of random numbers for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from bayescale.allocation import default_budgets
from bayescale.diagnostics import design_findings, require_answerable, response_findings, settings_of, without_groups
from bayescale.errors import BayescaleError, Finding, RunsError
from bayescale.law import Law
from bayescale.model import Model, build_model, with_responses
from bayescale.reading import read_runs
from bayescale.runs import Runs

#: Levels of a grouping are padded to these counts, so that tables with about as many share one compilation.
LEVELS = tuple(int(b) for k in range(3, 20) for b in (2**k, 1.5 * 2**k))


@dataclass(frozen=True, eq=False)
class Task:
    """One table to be sampled: its model as it is and as it is compiled, and what the doctor found.

    `sha256` is the table's own hash; `fingerprint` stands for all that its result depends on: the key, what is asked of
    it, the version. `budgets` are shown where none are asked for.
    """

    name: str
    model: Model
    padded: Model
    key: np.ndarray
    design: tuple[Finding, ...]
    sha256: str
    fingerprint: str
    budgets: tuple[float, ...]

    @property
    def shape(self) -> tuple:
        """What the compiled program depends on: tables of the same shape share it."""
        rows = len(next(iter(self.padded.data["responses"].values()))["y"])
        return (self.padded.structure.key, rows)


@dataclass(frozen=True, eq=False)
class Design:
    """What tables share that differ in their responses alone: what the doctor found, the model, what the key is of."""

    findings: tuple[Finding, ...]
    model: Model
    padded: Model
    digest: Any
    budgets: tuple[float, ...]


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
    runs = table if isinstance(table, Runs) else read_runs(table)
    if held is not None and held.shape != (len(runs),):
        raise RunsError(
            f"{held.shape} says which of {len(runs)} rows are held out",
            file=runs.source,
            remedy="Give one true or false a row, of the rows as they were read.",
        )
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
        padded = replace(
            design.padded, runs=model.runs, data={**design.padded.data, "responses": model.data["responses"]}
        )
    require_answerable(response_findings(model), runs)
    key = _key(design.digest, padded)
    sha256 = runs.sha256
    about = f"{key.tolist()} {list(asked)} {_version()} {sha256} {runs.rows}"  # audits look at every column
    fingerprint = hashlib.sha256(about.encode()).hexdigest()[:16]
    return Task(name, model, padded, key, design.findings, sha256, fingerprint, design.budgets)


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


def _key(digest: Any, model: Model) -> np.ndarray:
    """Two 32-bit numbers from the seed and the table's own numbers: neither its name nor its neighbours matter."""
    digest = digest.copy()
    _update(digest, {"responses": model.data["responses"]})
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


def effect_parts(task: Task, flat: np.ndarray) -> dict[str, np.ndarray]:
    """The effects of every grouping in flat vectors of the padded model, levels that pad left out."""
    parts, start = {}, task.padded.structure.coordinates.dimension
    for i, size in zip(task.model.structure.intercepts, task.padded.structure.sizes[1:], strict=True):
        parts[i.site] = flat[..., start : start + len(i.grouping.levels)]
        start += size
    return parts


def unpadded(task: Task, flat: np.ndarray) -> np.ndarray:
    """Flat vectors of the table's own model from those of its padded model."""
    own = task.model.structure.coordinates.dimension
    return np.concatenate([flat[..., :own], *effect_parts(task, flat).values()], axis=-1)


def names_of(tables: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Tables by name; a sequence is named by its sources, or by its positions.

    Raises `BayescaleError` (BS-U001) when there is none.
    """
    if not isinstance(tables, Mapping):
        named = [getattr(t, "source", None) or f"table-{k}" for k, t in enumerate(tables)]
        if len({*named}) < len(named):
            named = [f"table-{k}" for k in range(len(named))]
        tables = dict(zip(named, tables, strict=True))
    if not tables:
        raise BayescaleError("no tables to fit", code="BS-U001", remedy="Give them by name: {'run-a': runs, …}.")
    return {str(k): v for k, v in tables.items()}
