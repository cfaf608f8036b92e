"""What a declaration must not say: every contradiction is named before a law can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bayescale.errors import LawError
from bayescale.law.formulas import argument_names, contribution_name
from bayescale.law.units import LOSS_UNITS

if TYPE_CHECKING:
    from bayescale.law.declaration import Law, Parameter

SUPPORTS = ("positive", "real", "unit", "count")
CENTRES = ("ratio", "difference", "least", "most", "none")
KINDS = ("model", "pushforward")


def contradictions(law: Law) -> Iterator[str]:
    """Sentences on what a declaration gets wrong; nothing when it is sound."""
    yield from _of_the_whole(law)
    yield from _of_inputs(law)
    yield from _of_responses(law)
    yield from _of_formulas(law)
    for p in (*law.parameters, *law.sampled):
        yield from _of_parameter(law, p)
    yield from _of_maps(law)
    yield from _of_decisions(law)


def _references(law: Law) -> set[str]:
    return {i.reference_name for i in law.inputs if i.centre != "none"}


def _axes(law: Law) -> set[str]:
    return set(law.dims) | {d for i in law.inputs for d in i.dims}


def _of_the_whole(law: Law) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", law.name):
        yield "its name must be lower case with underscores"
    if law.kind not in KINDS:
        yield f"kind is {law.kind!r}, not {' or '.join(KINDS)}"
    if not law.responses:
        yield "give its response"
    if not law.references:
        yield "give at least one reference"
    names = [q.name for q in (*law.inputs, *law.responses, *law.parameters, *law.sampled)] + sorted(_references(law))
    names += [contribution_name(p.name) for p in law.parameters if p.at]
    for duplicate in sorted({n for n in names if names.count(n) > 1}):
        yield f"{duplicate!r} is declared twice"
    for axis, size in law.dims.items():
        if not (isinstance(size, int) and size > 0):
            yield f"axis {axis!r} has the length {size!r}, which is not a whole number above 0"


def _of_inputs(law: Law) -> Iterator[str]:
    for i in law.inputs:
        if i.centre not in CENTRES:
            yield f"input {i.name!r}: centre is {i.centre!r}, not ratio, difference, least, most or none"
        if i.centre == "ratio" and i.reference is not None and not i.reference > 0:
            yield f"input {i.name!r}: the reference of a scale must be positive"
        if i.per not in (None, "run"):
            yield f"input {i.name!r}: per is {i.per!r}, not 'run'"
        if len(i.dims) > 1:
            yield f"input {i.name!r} has {len(i.dims)} axes: columns make only one"
        if i.per == "run" and (len(i.dims) != 1 or "+" in i.column or "*" in i.column):
            yield f"input {i.name!r}: a sequence a run has one axis and one column"
        if i.simplex and (not i.dims or i.centre == "ratio"):
            yield f"input {i.name!r}: shares of one have an axis, and no ratio to a reference"


def _of_responses(law: Law) -> Iterator[str]:
    for r in law.responses:
        if r.support not in SUPPORTS:
            yield f"response {r.name!r}: support is {r.support!r}, not one of {', '.join(SUPPORTS)}"
        if r.support == "count" and law.likelihood is None:
            yield f"response {r.name!r} is a count: give its likelihood"
        if not r.noise_scale > 0:
            yield f"response {r.name!r}: the noise's scale must be positive"
    if law.likelihood is not None and len(law.responses) > 1:
        yield "a likelihood is of one response"
    if law.sampler is not None and law.likelihood is None:
        yield "a sampler without a likelihood: the noise draws the responses of other laws"


def _of_formulas(law: Law) -> Iterator[str]:
    inputs, parameters = {i.name for i in law.inputs}, {p.name for p in law.parameters}
    if isinstance(law.mean, Mapping) and set(law.mean) != {r.name for r in law.responses}:
        yield f"mean gives {sorted(law.mean)}, but the responses are {[r.name for r in law.responses]}"
        return
    responses = {r.name for r in law.responses}
    used: set[str] = set()
    for formula in law.formulas().values():
        used |= set(argument_names(formula))
        if unknown := sorted(set(argument_names(formula)) - inputs - parameters - _references(law)):
            yield f"the formula takes {unknown}, which is neither an input, its reference nor a parameter"
    readable = responses | _references(law)
    for what, function, more in (("likelihood", law.likelihood, readable), ("sampler", law.sampler, {"mean"})):
        if function is None:
            continue
        wanted = set(argument_names(function)[1 if what == "sampler" else 0 :])
        used |= wanted
        if unknown := sorted(wanted - inputs - parameters - more):
            yield f"the {what} takes {unknown}, which is not declared"
    if unused := sorted((inputs | parameters) - used):
        yield f"{unused} is declared but no formula takes it"
    if law.floor is not None:
        floor = law.floor.removeprefix("-")
        if floor not in parameters:
            yield f"the floor is {law.floor!r}, which is not a parameter"
        elif law.responses and floor not in argument_names(law.formulas()[law.responses[0].name]):
            yield f"the floor {floor!r} is not in the first formula"


def _of_parameter(law: Law, p: Parameter) -> Iterator[str]:
    inputs, parameters = {i.name for i in law.inputs}, {q.name: q for q in law.parameters}
    if unknown := sorted(set(p.dims) - _axes(law)):
        yield f"parameter {p.name!r} has the axis {unknown}, which neither dims nor an input declares"
    if p.prior is None:
        if p.name not in law.natural:
            yield f"parameter {p.name!r} has neither a prior nor a formula in natural"
        return
    if p.name in law.natural:
        yield f"parameter {p.name!r} has both a prior and a formula in natural"
    for axis, exponent in (p.at or {}).items():
        if axis not in inputs or f"{axis}0" not in _references(law):
            yield f"parameter {p.name!r}: at names {axis!r}, which is not an input with a reference"
        other = parameters.get(exponent.removeprefix("-"))
        if other is None:
            yield f"parameter {p.name!r}: at names the exponent {exponent!r}, which is not a parameter"
        elif (other.over, other.dims) not in {(p.over, p.dims), (None, p.dims), (None, ())}:
            yield f"parameter {p.name!r}: its exponent {other.name!r} runs over levels or axes that it does not"
    if p.unit in ("response", "1/response") and p.below is None and all(r.unit in LOSS_UNITS for r in law.responses):
        try:
            p.prior.scaled(2.0)
        except LawError:
            yield f"parameter {p.name!r} has the unit of the response, but {p.prior} has none to convert"
    for bound in (p.above, p.below):
        if isinstance(bound, str) and (bound == p.name or bound not in {*parameters, *(s.name for s in law.sampled)}):
            yield f"parameter {p.name!r} is bounded by {bound!r}, which is not another parameter"
    if p.below is not None and p.prior.support != "unit":
        yield f"parameter {p.name!r} is below {p.below!r}: its prior is of the fraction, so on (0, 1)"
    if p.above is not None and p.prior.support == "real":
        yield f"parameter {p.name!r}: the prior of a distance or gap must be positive"
    if p.ordered is not None:
        if p.ordered.support == "real":
            yield f"parameter {p.name!r}: the prior of a distance or gap must be positive"
        if not p.dims:
            yield f"parameter {p.name!r} is ordered but has no axis"
        if p.pooled is not None or p.above is not None or p.below is not None:
            yield f"parameter {p.name!r} is ordered: it cannot be pooled or bounded as well"
    if p.pooled is not None:
        if p.over is None:
            yield f"parameter {p.name!r} is pooled but not over a column"
        if p.pooled.support == "real":
            yield f"parameter {p.name!r}: the prior of a spread must be positive"


def _of_maps(law: Law) -> Iterator[str]:
    """The maps between sampled coordinates and the paper's parameters, and what is computed from both."""
    inputs, parameters = {i.name for i in law.inputs}, {p.name for p in law.parameters}
    coordinates = {p.name for p in law.coordinates()}
    known = parameters | coordinates | _references(law)
    for name, formula in {**law.natural, **law.inverse}.items():
        if unknown := sorted(set(argument_names(formula)) - known):
            yield f"the formula of {name!r} takes {unknown}, which is not declared"
    if missing := sorted(set(law.natural) - parameters):
        yield f"natural computes {missing}, which is not a parameter"
    if set(law.inverse) != {p.name for p in law.sampled}:
        yield "inverse must give every sampled coordinate, and only those"
    for name, formula in law.natural.items():
        if not any(name in argument_names(law.inverse.get(c, lambda: 0)) for c in argument_names(formula)):
            yield f"no inverse leads from {name!r} back to a coordinate it is computed from: it could not be fixed"
    for name, derived in law.derived.items():
        if unknown := sorted(set(argument_names(derived.function)) - known):
            yield f"derived {name!r} takes {unknown}, which is not a parameter"
        if name in known or name in inputs:
            yield f"derived {name!r} has the name of a parameter or input"
        if unknown := sorted(set(derived.dims) - _axes(law)):
            yield f"derived {name!r} has the axis {unknown}, which neither dims nor an input declares"
    if law.optimum is not None and (
        unknown := sorted(set(argument_names(law.optimum)) - known - {"C"} - (inputs - {"N", "D"}))
    ):
        yield f"the optimum takes {unknown}, which is not a parameter"


def _of_decisions(law: Law) -> Iterator[str]:
    decision, inputs = law.decides, {i.name: i for i in law.inputs}
    if decision is None:
        return
    if decision.instead and (decision.answers or decision.splits or decision.shows):
        yield "a decision either answers or says what to ask instead"
    for c in decision.choices:
        if c.name not in inputs:
            yield f"it chooses {c.name!r}, which is not an input"
        if not c.beyond >= 1:
            yield f"choice {c.name!r}: beyond must be at least 1"
        if c.scale not in ("log", "linear"):
            yield f"choice {c.name!r}: scale is {c.scale!r}, not log or linear"
    vectors = [c for c in decision.choices if c.name in inputs and inputs[c.name].dims]
    if len(decision.choices) + decision.splits > (1 if vectors else 2):
        yield "it chooses too much at once: a mixture alone, or two at most"
    for name, parts in decision.follows.items():
        if unknown := sorted({name, *parts} - set(inputs)):
            yield f"{name!r} follows from {sorted(parts)}, but {unknown} is not an input"
    if decision.splits and not {"N", "D"} <= set(inputs):
        yield "a budget splits between N and D, which it has not"
    if decision.active is not None and (unknown := sorted(set(argument_names(decision.active)) - set(inputs))):
        yield f"what compute counts takes {unknown}, which is not an input"
    known = {*inputs, *(p.name for p in law.parameters)}
    for name, d in decision.shows.items():
        if unknown := sorted(set(argument_names(d.function)) - known):
            yield f"shown {name!r} takes {unknown}, which is neither an input nor a parameter"
