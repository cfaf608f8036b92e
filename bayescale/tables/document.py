"""The machine-readable documents: `fit.json`, the folder of a fit, the list of laws."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.allocation import (
    ABSURD,
    Allocation,
    allocate,
    allocate_levels,
    answered,
    largest_compute,
    require_optimum,
)
from bayescale.errors import FitError, NotFittedFor
from bayescale.law import Law
from bayescale.laws import LAWS, find_law
from bayescale.posterior import Fit, finite
from bayescale.tables.escaping import inert_csv

FIT_SCHEMA = "bayescale.fit/1"


def headline_allocation(fit: Fit) -> Allocation | None:
    """The allocation at the fit's budgets, or None where the law has no optimum or nothing may be headlined."""
    budgets = fit.info.get("budgets") or []
    if not budgets or fit.headline_source == "none":
        return None
    try:
        require_optimum(fit.law, {})
    except NotFittedFor:
        return None
    largest = largest_compute(fit.runs)
    near = [C for C in budgets if not C / largest > ABSURD]
    return allocate(fit, near) if near else None


def beyond_reach(fit: Fit) -> list[float]:
    """The budgets that were asked about and are left out, because nothing in the table bears on them."""
    largest = largest_compute(fit.runs)
    return [float(C) for C in fit.info.get("budgets") or [] if C / largest > ABSURD]


def fit_document(fit: Fit, allocation: Allocation | None = None) -> dict[str, Any]:
    """The document of a fit as `fit.json` holds it, numbers at full precision.

    Where nothing may be headlined, and at budgets more than 1,000 times beyond the largest run, the allocation keeps
    its budgets, every number is null and `reason` says why.
    """
    info, law = fit.info, fit.law
    quantities = {name: q.to_json() for name, q in fit.quantities().items()}
    derived = {n: quantities.pop(n) for n in [*quantities] if n.partition("[")[0] in law.derived}
    if allocation is None:
        allocation = headline_allocation(fit)
    given = {e["flops"]: e for e in allocation.to_json()} if allocation is not None else {}
    entries = [given.pop(e["flops"], e) for e in _silent(fit)] + [*given.values()]
    entries = [{**e, "reason": e.get("reason")} for e in entries]
    seconds = info.get("seconds", {})
    return {
        "schema": FIT_SCHEMA,
        "law": law.name,
        "options": {**info["law_options"], **info["options"]},
        "noise": info["noise"],
        "group": list(info["group"]),
        "seed": info["seed"],
        "prob": info["prob"],
        "sampler": info["sampler"],
        "runs": dict(info["runs"]),
        "parameters": quantities,
        "derived": derived,
        "allocation": entries,
        "allocation_by_level": _by_level(fit) if allocation is not None else None,
        "checks": [_contract(f) for f in info["checks"]],
        "design": [_contract(f) for f in info["design"]],
        "audit": [_contract(f) for f in info["audit"]],
        "verdict": dict(info["verdict"]),
        "next_runs": _next_runs(info),
        "headline_source": info["headline_source"],
        "converged": fit.converged,
        "references": info["references"],
        "law_options": dict(info["law_options"]),
        "loss_unit": info["loss_unit"],
        "equation": info["equation"],
        "attempts": info.get("attempts", []),
        "seconds": {k: finite(seconds.get(k)) for k in ("read", "compile", "sample", "total")},
        "versions": dict(info.get("versions", {})),
    }


def _next_runs(info: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the verdict proposes to train: its kind, the runs, and what they would do to which number."""
    if info.get("next_runs") and info["headline_source"] == "none":
        return {"kind": "identify", "quantity": None, "runs": info["next_runs"], "sd_ratio": None}
    return info.get("plan")


def _by_level(fit: Fit) -> list[dict[str, Any]] | None:
    """The allocation of every level whose parameters differ; None where the law is one for all."""
    made = allocate_levels(fit, fit.info.get("budgets") or [], far_ok=True) if fit.levels else {}
    column = next(iter(fit.levels), None)
    return [{"levels": {column: level}, "allocation": a.to_json()} for level, a in made.items()] or None


def _contract(finding: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in finding.items() if k != "refuses"}


def _silent(fit: Fit) -> list[dict[str, Any]]:
    """The budgets that were asked about, without numbers."""
    largest, left_out = largest_compute(fit.runs), beyond_reach(fit)
    nothing = {"median": None, "lower": None, "upper": None}
    return [
        {
            "flops": float(C),
            "extrapolation_ratio": finite(C / largest),
            **{n: dict(nothing) for n in ("params", "tokens", "tokens_per_param", "loss")},
            "near_optimal": {"lower": None, "upper": None},
            "reason": f"{C / largest:.3g} times the largest run: nothing in the table bears on it"
            if C in left_out
            else "no number is headlined: the checks do not back one",
        }
        for C in fit.info.get("budgets") or []
    ]


def write_folder(
    fit: Fit, folder: str | os.PathLike[str], *, force: bool = False, allocation: Allocation | None = None
) -> Path:
    """Write `posterior.nc`, `fit.json` and `runs.csv` (as understood), the whole folder or none of it.

    Raises `FitError` (BS-U002) when the folder exists and `force` is not given.
    """
    folder = Path(folder)
    if folder.exists() and not force:
        raise FitError(
            f"the folder {folder} exists", code="BS-U002", file=str(folder), remedy="Add --force to replace it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        fit.save(part / "posterior.nc")
        document = fit_document(fit, allocation)
        (part / "fit.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (part / "runs.csv").write_text(runs_table(fit), encoding="utf-8", newline="\n")
        if folder.exists():
            for name in ("posterior.nc", "fit.json", "runs.csv"):
                os.replace(part / name, folder / name)
        else:
            part.chmod(0o755)
            os.replace(part, folder)
    finally:
        if part.exists():
            shutil.rmtree(part)
    return folder


def runs_table(fit: Fit) -> str:
    """The runs as they were understood, as CSV; text that a spreadsheet would take for a formula is disarmed."""
    return inert_csv(fit.runs.frame, index_label="row")


def law_document(law: Law) -> dict[str, Any]:
    """A law as `bayescale laws --json` prints it."""
    entry = LAWS.get(law.name)
    return {
        "name": law.name,
        "spec": law.spec,
        "title": law.title,
        "status": "built",
        "tier": entry.tier if entry else None,
        "family": entry.family if entry else None,
        "equation": law.equation,
        "options": {k: str(v) for k, v in law.options.items()},
        "inputs": [{"name": i.name, "unit": i.unit, "meaning": i.meaning, "column": i.column} for i in law.inputs],
        "responses": [{"name": r.name, "unit": r.unit, "support": r.support} for r in law.responses],
        "parameters": [
            {
                "name": p.name,
                "meaning": p.meaning,
                "unit": p.unit,
                "prior": str(p.prior) if p.prior else None,
                "at": dict(p.at) if p.at else None,
            }
            for p in (*law.parameters, *law.sampled)
        ],
        "derived": [{"name": n, "meaning": d.meaning, "unit": d.unit} for n, d in law.derived.items()],
        "optimum": "closed form" if law.optimum else None,
        "validity": law.validity,
        "relations": list(law.relations),
        "unidentified": list(law.unidentified),
        "decisions": list(law.decisions),
        "allocate": dict(zip(("answers", "what"), answered(law), strict=True)),
        "unverified": law.unverified or None,
        "references": [str(r) for r in law.references],
    }


def implied_prior(law: str | Law, draws: int = 4000, seed: int = 0, prob: float = 0.9) -> dict[str, dict[str, float]]:
    """What a law's priors say before any data about its parameters and derived quantities: median and interval.

    Contributions are judged at the law's own reference scales.
    """
    import jax

    from bayescale.model import double_precision, make_coordinates

    law = find_law(law)
    references = {i.reference_name: np.asarray(i.reference, float) for i in law.inputs if i.reference is not None}
    if any(i.centre != "none" and i.reference is None for i in law.inputs) or any(p.over for p in law.parameters):
        return {}
    coordinates = make_coordinates(law, (), levels={}, axes=dict(law.dims))
    z = np.random.default_rng(seed).standard_normal((draws, coordinates.dimension))

    def one(z):
        values = coordinates.values(z, references)
        return values | coordinates.derived(values, references)

    ends = [0.5, (1 - prob) / 2, (1 + prob) / 2]
    with double_precision():
        out = {k: np.asarray(v) for k, v in jax.jit(jax.vmap(one))(z).items()}
    return {
        k: dict(zip(("median", "lower", "upper"), map(float, np.quantile(v, ends)), strict=True))
        for k, v in out.items()
        if v.ndim == 1
    }
