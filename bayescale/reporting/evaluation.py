"""The law at the medians of its parameters, from the document of a fit alone: no posterior, no table, no sampler."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.errors import FitError, NotFittedFor
from bayescale.law import Law, PooledLaw, argument_names, call, pooled_law
from bayescale.laws import LAWS, find_law
from bayescale.records import Record
from bayescale.runs import FLOPS_PER_PARAM_TOKEN

#: Options of a fit, which stand in its document beside those of its law.
_FIT_OPTIONS = ("fix", "tie", "priors", "pool")
_ELEMENT = re.compile(r"^(.*)\[([^\[\]]*)\]$")


@dataclass(frozen=True)
class Evaluation(Record):
    """The law at the medians of its parameters: the `loss` at the inputs, and the best split of their compute.

    `flops` is the compute, `params`, `tokens` and `tokens_per_param` the optimal N, D and D/N for it (C = 6ND), and
    `best_loss` the loss there; None for a law without an optimum. `posterior` holds medians and intervals of the same
    quantities where the document tabulates that very budget: the median of a function is not the function of medians.
    """

    loss: float
    inputs: Mapping[str, float]
    flops: float | None
    params: float | None
    tokens: float | None
    tokens_per_param: float | None
    best_loss: float | None
    unit: str
    law: str
    posterior: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The record as a document."""
        return {**self.__dict__, "inputs": dict(self.inputs)}


def evaluate(
    document: str | os.PathLike[str] | Mapping[str, Any],
    *,
    N: float | None = None,
    D: float | None = None,
    C: float | None = None,
    inputs: Mapping[str, float] | None = None,
    levels: Mapping[str, str] | None = None,
    law: Law | None = None,
    draws: str = "headline",
) -> Evaluation:
    """The loss at N parameters and D tokens, and N_opt of that compute, from `fit.json` alone.

    L(N, D) and argmin L along C = 6ND are taken at the medians of the parameters that the document prints, so anyone
    can repeat them by hand; they are not the posterior medians of the loss and of N_opt, which stand under
    `posterior`. A missing one of N, D, C follows from C = 6ND; `C` alone means the optimal split. Other inputs of the
    law go into `inputs`, a private law into `law`. Where parameters differ by level, `levels` names one, as
    `{"recipe": "c4"}`.

    Raises `FitError` (BS-F004) for a document that is not of a fit, `NotFittedFor` where an input is missing, and where
    nothing may be headlined unless `draws="posterior"`.

    Example:
        >>> bs.evaluate("fit/fit.json", N=1e9, D=2e10).loss  # doctest: +SKIP
    """
    document = _document(document)
    law = _law(document) if law is None else law
    if document.get("headline_source") == "none" and draws == "headline":
        raise NotFittedFor(
            "no number of this fit may be headlined: its checks do not back one",
            code="BS-F002",
            remedy="draws='posterior' evaluates it at the model's own medians nevertheless.",
        )
    values = _medians(document, law, levels)
    law = law.one if isinstance(law, PooledLaw) else law
    references = {k: np.asarray(v, float) for k, v in document["references"].items()}
    at = _inputs(law, {k: v for k, v in {"N": N, "D": D, "C": C, **(inputs or {})}.items() if v is not None})
    best = None
    flops = at.get("C")
    others = {k: v for k, v in at.items() if k not in ("N", "D", "C", "M")}
    if flops is not None and _has_optimum(law, others):
        best = _optimum(law, values, references, flops, others)
        if "N" not in at:
            at = {**at, **_split(best, flops)}
    for i in law.inputs:
        if i.name not in at:
            raise NotFittedFor(
                f"the law {law.name!r} needs {i.name} ({i.meaning})",
                remedy=f"Give {' and '.join(j.name for j in law.inputs)}.",
            )
    split = _split(best, flops) if best is not None and flops is not None else {}
    return Evaluation(
        loss=_loss(law, values, references, at),
        inputs={k: float(v) for k, v in at.items()},
        flops=flops,
        params=split.get("N"),
        tokens=split.get("D"),
        tokens_per_param=split.get("M"),
        best_loss=_loss(law, values, references, {**at, **split}) if split else None,
        unit=document["loss_unit"],
        law=law.spec,
        posterior=_tabulated(document, flops, levels),
    )


def _document(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        made: Any = source
    else:
        path = Path(source)
        path = path / "fit.json" if path.is_dir() else path
        try:
            made = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FitError(f"cannot be read: {error}", code="BS-F004", file=str(path)) from error
    if not isinstance(made, Mapping) or not str(made.get("schema", "")).startswith("bayescale.fit/"):
        raise FitError("is not the document of a fit", code="BS-F004", remedy="Give fit.json.")
    return made


def _law(document: Mapping[str, Any]) -> Law:
    name = document["law"]
    if name not in LAWS:
        raise FitError(f"was made with the private law {name!r}", code="BS-F004", remedy="Give it: law=...")
    options = document.get("law_options")
    if options is None:
        options = {k: v for k, v in document["options"].items() if k not in _FIT_OPTIONS}
    return pooled_law(find_law(name, **options), document["options"].get("pool"))


def _medians(document: Mapping[str, Any], law: Law, levels: Mapping[str, str] | None) -> dict[str, Any]:
    """The medians of the law's parameters, at a level; elements `c[0]`, `c[1]` become an array again."""
    found: dict[str, Any] = {}
    elements: dict[str, list[float]] = {}
    for name, q in document["parameters"].items():
        if match := _ELEMENT.match(name):
            elements.setdefault(match[1], []).append(q["median"])
        else:
            found[name] = q["median"]
    for p in law.parameters:
        if p.over:
            known = [m[2] for n in document["parameters"] if (m := _ELEMENT.match(n)) and m[1] == p.name]
            level = (levels or {}).get(p.over)
            if level is None or level not in known:
                raise NotFittedFor(
                    f"the parameter {p.name} differs by level",
                    remedy=f"Name one of {', '.join(known)}, as levels={{{p.over!r}: ...}}." if known else None,
                )
            found[p.name] = document["parameters"][f"{p.name}[{level}]"]["median"]
        elif p.name in elements:
            shape = tuple(law.dims.get(d, -1) for d in p.dims)
            found[p.name] = np.asarray(elements[p.name]).reshape(shape)
        if found.get(p.name) is None:
            raise FitError(f"holds no {p.name}", code="BS-F004")
    return {p.name: found[p.name] for p in law.parameters}


def _inputs(law: Law, given: Mapping[str, float]) -> dict[str, Any]:
    """The inputs completed by C = 6ND and M = D/N."""
    at = {k: np.asarray(v, float) if np.ndim(v) else float(v) for k, v in given.items()}
    for name, value in at.items():
        if not np.all(np.isfinite(value)) or (name in "NDC" and not np.all(np.asarray(value) > 0)):
            raise NotFittedFor(f"{name} must be a positive number")
    k = FLOPS_PER_PARAM_TOKEN
    if {"N", "D"} <= set(at):
        at.setdefault("C", k * at["N"] * at["D"])
    elif {"N", "C"} <= set(at):
        at["D"] = at["C"] / (k * at["N"])
    elif {"D", "C"} <= set(at):
        at["N"] = at["C"] / (k * at["D"])
    if {"N", "D"} <= set(at):
        at.setdefault("M", at["D"] / at["N"])
    return at


def _has_optimum(law: Law, others: Mapping[str, Any]) -> bool:
    names = {i.name for i in law.inputs}
    scales = {"N"} <= names or {"M"} <= names
    return scales and not any(i.dims for i in law.inputs) and not names - {"N", "D", "C", "M"} - set(others)


def _loss(law: Law, values: Mapping[str, Any], references: Mapping[str, Any], at: Mapping[str, Any]) -> float:
    formula = next(iter(law.formulas().values()))
    known = {**references, **at, **values}
    named = {k: known[k] for k in argument_names(formula)}
    value = formula(**named)
    if not isinstance(value, float | np.ndarray | np.generic):  # a formula written in JAX
        from bayescale.model import double_precision

        with double_precision():
            value = formula(**named)
    return float(np.asarray(value))


def _optimum(law: Law, values: Mapping[str, Any], references: Mapping[str, Any], C: float, others: Mapping) -> float:
    """The optimal N: the closed form where the law has one, else a search along the budget."""
    if law.optimum is not None and not others:
        return float(call(law.optimum, {**references, **values, "C": C})[0])
    from scipy.optimize import minimize_scalar

    def loss(u: float) -> float:
        return _loss(law, values, references, {**others, **_split(float(np.exp(u)), C), "C": C})

    high = float(np.log(C / FLOPS_PER_PARAM_TOKEN))
    grid = np.linspace(0.0, high, 400)
    k = int(np.nanargmin([loss(u) for u in grid]))
    low, top = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
    found: Any = minimize_scalar(loss, bounds=(low, top), method="bounded", options={"xatol": 1e-10})
    return float(np.exp(found.x))


def _split(N: float, C: float) -> dict[str, float]:
    D = C / (FLOPS_PER_PARAM_TOKEN * N)
    return {"N": N, "D": D, "M": D / N}


def _tabulated(
    document: Mapping[str, Any], flops: float | None, levels: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """The posterior of the allocation where the document tabulates this budget."""
    named = dict(levels or {})
    by_level = document.get("allocation_by_level") or []
    tabulated = [e for e in document.get("report", {}).get("budgets") or [] if e.get("levels", {}) == named]
    own = [e for by in by_level if by["levels"] == named for e in by["allocation"]]
    entries = [*(own if named else document.get("allocation", [])), *tabulated]
    names = ("params", "tokens", "tokens_per_param", "loss")
    for entry in entries:
        if flops is not None and np.isclose(entry["flops"], flops, rtol=1e-9):
            return {n: {k: entry[n][k] for k in ("median", "lower", "upper")} for n in names}
    return None
