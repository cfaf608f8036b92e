"""How a reported quantity is written: its symbol, its unit, and what it means."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bayescale.law import Parameter, PooledLaw
from bayescale.model.observing import CUT, EXCESS, RANGE, growths_of
from bayescale.narrowness.clusters import label_of
from bayescale.noise import NOISES
from bayescale.posterior import Fit, members_of


@dataclass(frozen=True)
class Named:
    """A reported quantity: symbol in LaTeX, element of a vector, unit, meaning; each "" where it has none."""

    symbol: str
    element: str
    unit: str
    meaning: str


def named(fit: Fit, name: str) -> Named:
    """The symbol, unit and meaning of a quantity of `fit.summary()`."""
    root, _, element = name.partition("[")
    known = {p.name: p for p in (*fit.law.coordinates(), *fit.law.parameters)}
    noise: dict[str, Parameter] = {}
    if fit.law.likelihood is None:
        noises = [NOISES[m.noise] for m, _ in members_of(fit)] or [NOISES[fit.noise]]
        shape = [p for n in noises for p in n.shape]
        growth = [g.parameter for g in growths_of(fit.law)] if any(n.grows for n in noises) else []
        noise = {p.name: p for p in (*shape, *growth, RANGE, EXCESS, CUT)}
    symbol, unit, meaning = "", "", ""
    if root in known:
        p = known[root]
        symbol, meaning = p.latex, p.meaning
        if p.unit in ("response", "1/response"):
            # A coefficient's own unit has powers of N or D in it; its contribution is in that of the response.
            unit = "" if p.at else p.unit.replace("response", fit.info["loss_unit"])
        elif p.unit != "1":
            unit = p.unit
    elif root in noise:
        symbol, meaning = noise[root].latex, noise[root].meaning
    elif root == "sigma":
        symbol, meaning = r"\sigma", "scale of the noise on the link scale"
    elif root.startswith("tau_"):
        column = root.removeprefix("tau_")
        ratio = column not in fit.group and column.removesuffix("_ratio") in fit.group
        column = column.removesuffix("_ratio") if ratio else column
        # A column's name is the table's own text: only its letters and digits go into mathematics.
        plain = r"\ ".join(re.findall(r"[A-Za-z0-9]+", column))
        symbol = rf"\tau_\mathrm{{{plain}}}" + (r"/\sigma" if ratio else "") if plain else ""
        meaning = f"spread of the effects of each {label_of(column)}" + (", over the noise's scale" if ratio else "")
    elif (pooled := _pooled(fit, root)) is not None:
        symbol, unit, meaning = pooled.symbol, pooled.unit, pooled.meaning
    elif root in fit.law.derived:
        d = fit.law.derived[root]
        unit, meaning = "" if d.unit == "1" else d.unit, d.meaning
        symbol = root if re.fullmatch(r"[A-Za-z](_\w+)?", root) else ""
    symbol = re.sub(r"_(\w{2,})$", r"_\\mathrm{\1}", symbol)
    return Named(symbol, element.removesuffix("]"), unit, meaning)


def prior_of(fit: Fit, name: str) -> str:
    """The prior of a parameter with the bound that it is counted from: `4 + LogNormal(2.079, 1)`."""
    above = fit.info.get("above", {}).get(name)
    prior = fit.info["priors"][name]
    return prior if above is None else f"{above:g} + {prior}"


def _pooled(fit: Fit, root: str) -> Named | None:
    """The centre or the spread of a parameter whose levels are shrunk to a common centre."""
    if not isinstance(fit.law, PooledLaw):
        return None
    for name, spread in (fit.law.spreads or {}).items():
        about = named(fit, name) if root.startswith(name) else Named("", "", "", "")
        inner = about.symbol or rf"\mathrm{{{name}}}"
        if root == f"{name}_centre":
            return Named(rf"\bar {inner}", "", about.unit, f"centre of {name} over the levels")
        if root == f"{name}_spread":
            scale = {"log": "sd of the log", "value": "sd", "prior": "in sds of the prior"}[spread.on]
            return Named(rf"\tau_{{{inner}}}", "", "", f"spread of {name} between levels ({scale})")
    return None
