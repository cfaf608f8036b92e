"""A law whose parameters differ by recipe, partially pooled: which of them may differ, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from bayescale.errors import LawError, nearest
from bayescale.law.declaration import Derived, Law, Parameter
from bayescale.law.formulas import argument_names, contribution_name
from bayescale.law.priors import HalfNormal, Prior, parse_prior

#: How far levels lie apart, by what differs: the scale of a half-normal prior on their standard deviation. Recipes
#: differ by tens of per cent in what they leave to learn, by some per cent in the floor, hardly in exponents.
AMPLITUDE, FLOOR, EXPONENT, OTHER = 0.3, 0.05, 0.02, 0.5
#: Where levels are too few to learn their spread it is fixed at this multiple of that scale: wide.
FEW = 2.0


@dataclass(frozen=True)
class Spread:
    """How far the levels of a pooled parameter lie apart: a prior on their standard deviation, or a known one.

    `on` is the scale on which they scatter: "log" (of a positive parameter), "value" (at the middle of its prior) or
    "prior" (in standard deviations of its prior). `few` is the spread that few levels, which cannot teach one, are
    given; None learns it however few there are. Deviations from the common centre add up to zero.
    """

    prior: Prior | None
    few: float | None
    on: str

    support = "positive"

    def __post_init__(self):
        if self.on not in ("log", "value", "prior"):
            raise LawError(f"levels scatter on the scale 'log', 'value' or 'prior', not {self.on!r}", code="BS-L003")
        if self.prior is None and not (self.few is not None and self.few > 0):
            raise LawError("a known spread must be a positive number", code="BS-L003")
        if self.prior is not None and self.prior.support == "real":
            raise LawError(f"the prior of a spread must be positive, not {self.prior}", code="BS-L003")

    def fixed(self, levels: int, fewest: int) -> float | None:
        """The spread where it is not learnt from that many levels; None where it is."""
        return self.few if self.prior is None or (self.few is not None and levels < fewest) else None

    def unit(self, prior: Prior) -> float:
        """How far the parameter moves on this scale a unit of its standard-normal coordinate, at the prior's middle."""
        if self.on == "prior":
            return 1.0
        if prior.family == "LogNormal":
            import math

            loc, scale = prior.args
            return scale if self.on == "log" else scale * math.exp(loc)
        if prior.family == "Normal" and self.on == "value":
            return prior.args[1]
        import jax
        import numpy as np

        step = 1e-3
        with jax.enable_x64(True):
            ends = [float(prior.image(np.float64(z))) for z in (-step, step)]
        low, high = np.log(ends) if self.on == "log" else ends
        return float(high - low) / (2 * step)

    def __str__(self) -> str:
        return f"{self.prior}" if self.prior is not None else f"{self.few:g}"


@dataclass(frozen=True, eq=False)
class PooledLaw(Law):
    """A law of which some parameters differ by the level of a column, shrunk to a common centre.

    `base` is the law of one level, `column` names the levels, and `spreads` says of each sampled coordinate that
    differs how far its levels may lie apart. Everything computed from these differs by level too.
    """

    base: Law | None = None
    column: str = ""
    spreads: Mapping[str, Spread] | None = None

    @property
    def pool(self) -> dict[str, dict[str, Any]]:
        """The pooling as a document: it makes the same law again from its base."""
        return {
            self.column: {
                name: {"prior": s.prior.exact if s.prior else None, "few": s.few, "on": s.on}
                for name, s in (self.spreads or {}).items()
            }
        }

    @property
    def one(self) -> Law:
        """The law of one level."""
        assert self.base is not None
        return self.base


def pooled_law(law: Law, pool: str | Mapping[str, Any] | None) -> Law:
    """A law with parameters that differ by the level of a column, partially pooled; None leaves it as it is.

    `"recipe"` lets the amplitudes differ by recipe (contributions at the reference scale, log A_g = log A + tau z_g
    with tau ~ HalfNormal(0.3) and z_g standard normal, adding up to zero), with exponents and floor shared.
    `{"recipe": ("A", "B", "E")}` names the parameters: floors scatter by HalfNormal(0.05) on the log scale, exponents
    by HalfNormal(0.02); an exponent takes its amplitudes with it. `{"recipe": {"A": "halfnormal(.1)", "E": 0.05}}`
    states priors of the spreads, or known spreads. Fewer than five levels cannot teach a spread: theirs is fixed, wide,
    at twice the scale of its prior.

    Raises `LawError` (BS-L002) for a parameter that the law does not have, (BS-L003) for one that cannot be pooled, and
    (BS-F001) for a law without an amplitude, or that compares levels already.

    Example:
        >>> pooled_law(find_law("chinchilla"), {"recipe": ("A", "alpha")}).parameter("alpha").over
        'recipe'
    """
    if not pool:
        return law
    if isinstance(pool, str):
        pool = {pool: None}
    if len(pool) != 1:
        raise LawError(f"pool over one column, not over {', '.join(map(repr, pool))}", code="BS-L003")
    ((column, asked),) = pool.items()
    if isinstance(law, PooledLaw):
        raise LawError(f"the law {law.name!r} is pooled over {law.column!r} already", code="BS-L003")
    if own := next((p.over for p in (*law.parameters, *law.sampled) if p.over), None):
        raise LawError(
            f"the law {law.name!r} compares the levels of {own!r} already",
            code="BS-F001",
            remedy="Leave out the pooling, or fit a law of one level.",
        )
    if law.kind != "model":
        raise LawError(f"the law {law.name!r} is computed from another law's posterior", code="BS-F001")
    if asked is None:
        spreads = {name: default_spread(law, name) for name in amplitudes_of(law)}
        if not spreads:
            able = ", ".join(c.name for c in law.coordinates() if not _why_not(c))
            raise LawError(
                f"the law {law.name!r} has no amplitude that recipes could differ in",
                code="BS-F001",
                remedy=f"Name what differs: --pool {column}=NAME. It could be {able}." if able else None,
            )
    elif isinstance(asked, Mapping):
        spreads = {_coordinate(law, name): _spread(law, name, how) for name, how in asked.items()}
    else:
        names: Sequence[str] = [asked] if isinstance(asked, str) else list(asked)
        spreads = {_coordinate(law, name): default_spread(law, _coordinate(law, name)) for name in names}
    for p in law.parameters:  # levels of an exponent differ at the reference too: its amplitude goes with it
        if p.at and any(e.removeprefix("-") in spreads for e in p.at.values()):
            spreads.setdefault(contribution_name(p.name), default_spread(law, contribution_name(p.name)))
    return _made(law, column, tuple(sorted(spreads.items())))


def amplitudes_of(law: Law) -> list[str]:
    """The sampled coordinates that are amplitudes: contributions at a reference, or else sizes of the response."""
    floor = (law.floor or "").removeprefix("-")
    declared = {contribution_name(p.name) for p in law.parameters if p.at}
    able = [c for c in law.coordinates() if not _why_not(c) and c.prior.support == "positive" and c.name != floor]  # type: ignore[union-attr]
    response = [c.name for c in able if c.unit == "response"]
    found = [c.name for c in able if c.name in declared or (c.name in response and c.name.endswith("_ref"))]
    return found or response


def exponents_in(law: Law) -> set[str]:
    """The parameters that are exponents: those named by a contribution, or free of a unit where there is none."""
    named = {e.removeprefix("-") for p in law.parameters for e in (p.at or {}).values()}
    return named or {p.name for p in law.parameters if p.unit == "1" and p.prior and p.prior.support == "positive"}


def default_spread(law: Law, coordinate: str) -> Spread:
    """How far levels of a coordinate may lie apart, by what it is."""
    c = next(c for c in law.coordinates() if c.name == coordinate)
    if why := _why_not(c):
        raise LawError(f"law {law.name!r}: {coordinate!r} cannot be pooled: {why}", code="BS-L003")
    assert c.prior is not None
    floor, positive = (law.floor or "").removeprefix("-"), c.prior.support == "positive"
    if coordinate in exponents_in(law):
        scale, on = EXPONENT, "value"
    elif positive:
        scale, on = (FLOOR if coordinate == floor else AMPLITUDE), "log"
    else:
        scale, on = OTHER, "prior"
    return Spread(HalfNormal(scale), FEW * scale, on)


def poolable(law: Law, name: str) -> bool:
    """Whether a parameter of a law, by its own name, could differ by the level of a column."""
    try:
        default_spread(law, _coordinate(law, name))
    except LawError:
        return False
    return True


def _why_not(c: Parameter) -> str | None:
    """Why levels of a coordinate cannot scatter about a centre."""
    if c.dims:
        return "it has an axis"
    if c.ordered is not None or c.above is not None or c.below is not None:
        return "it is bounded by another value"
    return None


def _spread(law: Law, name: str, how: Any) -> Spread:
    """A stated spread: a prior, its text, a number, or a document of one."""
    usual = default_spread(law, _coordinate(law, name))
    if isinstance(how, Spread):
        return how
    if isinstance(how, Mapping):
        prior = how["prior"]
        return Spread(parse_prior(prior) if isinstance(prior, str) else prior, how["few"], how["on"])
    if isinstance(how, int | float):
        return Spread(None, float(how), usual.on)
    return Spread(parse_prior(how) if isinstance(how, str) else how, None, usual.on)


def _coordinate(law: Law, name: str) -> str:
    """The sampled coordinate behind a name: itself, a contribution, or what a parameter is computed from."""
    coordinates = [c.name for c in law.coordinates()]
    if name in coordinates:
        return name
    if contribution_name(name) in coordinates:
        return contribution_name(name)
    if name in law.natural:
        behind = [c for c in argument_names(law.natural[name]) if name in argument_names(law.inverse.get(c, _nothing))]
        if len(behind) == 1:
            return behind[0]
    known = [*dict.fromkeys([*(p.name for p in law.parameters), *coordinates])]
    raise LawError(f"law {law.name!r} has no parameter {name!r}", code="BS-L002", remedy=nearest(name, known))


def _nothing() -> None: ...


@dataclass(frozen=True, eq=False)
class ByLevel:
    """A formula of one level's values, mapped over the levels of those that differ."""

    formula: Callable[..., Any]
    differs: frozenset[str]

    @property
    def argument_names(self) -> tuple[str, ...]:
        """What the formula takes."""
        return argument_names(self.formula)

    def __call__(self, **values: Any) -> Any:
        """The values of every level."""
        import jax

        mapped = {k: v for k, v in values.items() if k in self.differs}
        rest = {k: v for k, v in values.items() if k not in self.differs}
        return jax.vmap(lambda one: self.formula(**one, **rest))(mapped)


@lru_cache(maxsize=256)
def _made(law: Law, column: str, spreads: tuple[tuple[str, Spread], ...]) -> PooledLaw:
    """One object a law and pooling, so that compiled programs are found again."""
    given = dict(spreads)
    paper = {p.name: contribution_name(p.name) if p.at else p.name for p in law.parameters}
    differs = {*given, *(name for name, c in paper.items() if c in given)}
    while more := {n for n, f in law.natural.items() if n not in differs and differs & {*argument_names(f)}}:
        differs |= more

    def by_level(p: Parameter) -> Parameter:
        name = paper.get(p.name, p.name)
        return replace(p, over=column, pooled=given.get(name)) if p.name in differs else p

    def mapped(formulas: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
        return {n: ByLevel(f, frozenset(differs)) if differs & {*argument_names(f)} else f for n, f in formulas.items()}

    def derived(d: Derived) -> Derived:
        if not differs & {*argument_names(d.function)}:
            return d
        return replace(d, function=ByLevel(d.function, frozenset(differs)), over=column)

    own = {f.name: getattr(law, f.name) for f in fields(Law) if f.init}
    shown = ", ".join(n for n, c in paper.items() if n in differs and (c in given or n in law.natural))
    return PooledLaw(
        **{
            **own,
            "title": f"{law.title}, {shown} by {column}",
            "parameters": tuple(map(by_level, law.parameters)),
            "sampled": tuple(map(by_level, law.sampled)),
            "natural": mapped(law.natural),
            "inverse": mapped(law.inverse),
            "derived": {n: derived(d) for n, d in law.derived.items()},
        },
        base=law,
        column=column,
        spreads=given,
    )
