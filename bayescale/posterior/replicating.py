"""Responses as a model would have produced them at the rows of its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayescale.model import Model
from bayescale.model.observing import RANGE, excess_of
from bayescale.noise import LINKS


def replicate(
    model: Model, out: Mapping[str, Any], rng: np.random.Generator, take: np.ndarray
) -> dict[str, np.ndarray]:
    """Responses as the model would have produced them at the same rows, groups included, shape (chains, kept, rows)."""
    rows = len(model.runs)
    made = {}
    for response in model.law.responses:
        mean = out["mean"][response.name][:, :rows][take]
        if model.law.likelihood is not None:
            if model.law.sampler is not None:
                known = {name: v[take] for name, v in out["values"].items()}
                made[response.name] = model.law.sampler(rng, **_sampler_arguments(model, mean, known))
            continue
        suffix, link = model.structure.suffix(response.name), LINKS[response.support]
        noise = model.structure.noises[response.name]
        location = link.forward(mean)
        if model.structure.observing.excess:
            known = {k: v[take][..., None] for k, v in out["values"].items() if v.ndim == 1}
            below = {k: v[:rows] for k, v in model.data["below"].items()}
            location = location + excess_of(known, below, suffix, np)
        for i in model.structure.intercepts:
            if i.response == response.name:
                location = location + out["effects"][i.site][take][..., i.grouping.index]
        values = {p.name: out["values"][f"{p.name}{suffix}"][take][..., None] for p in noise.shape}
        scale = out["scale"][response.name]
        scale = scale[:, :rows][take] if scale.ndim > 1 else scale[take][..., None]
        residual = noise.sample(rng, location.shape, **values)
        if model.structure.observing.serial:
            residual = _correlated(model, residual, out["values"][f"{RANGE.name}{suffix}"][take])
        made[response.name] = rounded(model, response.source, link.inverse(location + scale * residual))
    return made


def _correlated(model: Model, residual: np.ndarray, ell: np.ndarray) -> np.ndarray:
    """Residuals at unit scale of checkpoints that are correlated along their run, from independent ones."""
    previous, gap = (model.data["serial"][k][: residual.shape[-1]] for k in ("previous", "gap"))
    made, rows = residual.copy(), np.flatnonzero(gap < 0)  # the first checkpoints, then what follows them
    while len(rows := np.flatnonzero(np.isin(previous, rows) & (gap >= 0))):
        for row in rows:
            rho = np.exp(-gap[row] / ell)
            made[..., row] = rho * made[..., previous[row]] + np.sqrt(1 - rho**2) * residual[..., row]
    return made


def rounded(model: Model, source: str, values: np.ndarray) -> np.ndarray:
    """Responses to the step that the table rounds them to."""
    if source != "loss" or not model.runs.has("loss_step"):
        return values
    step = np.nan_to_num(model.runs.values("loss_step"), nan=0.0)
    return np.where(step > 0, np.round(values / np.where(step > 0, step, 1.0)) * step, values)


def _sampler_arguments(model: Model, mean: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a law's own sampler names, with axes (chain, draw, row, ...): parameters gathered by the row's level."""
    from bayescale.law import argument_names

    rows = mean.shape[-1]
    over = {p.name: p.over for p in model.law.parameters if p.over}
    arguments: dict[str, Any] = {}
    for name in argument_names(model.law.sampler)[1:]:  # type: ignore[arg-type]
        if name == "mean":
            arguments[name] = mean
        elif name in model.data["inputs"]:
            arguments[name] = model.data["inputs"][name][:rows]
        elif name in over:
            arguments[name] = values[name][:, :, model.data["levels"][over[name]][:rows]]
        else:
            arguments[name] = values[name][:, :, None]
    return arguments
