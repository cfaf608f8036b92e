"""A scaling law as one declaration: the paper's formula, its inputs, parameters, priors and what follows from them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bayescale.errors import LawError
from bayescale.law.consistency import contradictions
from bayescale.law.decisions import Decision
from bayescale.law.formulas import contribution_name
from bayescale.law.priors import Prior

if TYPE_CHECKING:
    from bayescale.law.pooling import Spread


@dataclass(frozen=True)
class Reference:
    """Where a law or a number comes from: authors and year, title, and an arXiv identifier or address."""

    authors: str
    year: int
    title: str
    arxiv: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        where = f", arXiv:{self.arxiv}" if self.arxiv else f", {self.url}" if self.url else ""
        return f"{self.authors} ({self.year}), {self.title}{where}"


@dataclass(frozen=True)
class Input:
    """A quantity that a law predicts from.

    `column` is the canonical column of the runs table, by default params, tokens or flops for N, D or C, else the
    input's own name; `params+tokens` or a pattern such as `w_*` gathers several into a vector.
    `reference` is the scale at which priors are judged when the table does not set one; `centre` says how: "ratio"
    for scales (N / N0), "difference" for years and the like, "least" or "most" where the reference is the smallest or
    largest value of the design (a floor below every value of another loss, the peak of a learning rate), "none" where
    there is nothing to centre. `dims` names the axis of a vector input and `simplex` says that its entries are shares
    of one. `per="run"` makes it the sequence of a run so far, as a learning-rate schedule: the column's values at the
    run's rows up to this one (in the order of `step`, else of `tokens`, else of the table), the last one repeated to
    the length of the longest run.
    """

    name: str
    unit: str
    meaning: str
    column: str = ""
    reference: float | None = None
    centre: str = "ratio"
    dims: tuple[str, ...] = ()
    simplex: bool = False
    per: str | None = None

    def __post_init__(self):
        usual = {"N": "params", "D": "tokens", "C": "flops"}
        object.__setattr__(self, "column", self.column or usual.get(self.name, self.name))

    @property
    def reference_name(self) -> str:
        """The name of its reference value in formulas: `N0` for `N`."""
        return f"{self.name}0"

    def columns(self, available: Iterable[str]) -> tuple[str, ...]:
        """The columns of a table that it reads, patterns expanded in the table's order."""
        names = list(available)
        found = [n for part in self.column.split("+") for n in (fnmatch.filter(names, part) if "*" in part else [part])]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Parameter:
    """A parameter with its prior, or a coordinate that is sampled in place of one.

    `at={"N": "alpha"}` puts the prior on the contribution `A * N0**-alpha`, sampled as `A_ref` (`"-alpha"` turns the
    sign of the exponent). `unit="response"`
    makes the prior follow the unit of the response ("1/response" inversely). `dims` gives the parameter axes, `over`
    one value a level of a column (gathered by row before the formula sees it), `pooled` shrinks those levels to a
    common value with that prior on their spread, in units of the prior's own standard deviation (a `Spread` states its
    own scale). `ordered` makes the values increase along the last axis with that prior on the gaps; `above` and `below`
    put the prior on the distance above another parameter, or on the fraction of it.
    """

    name: str
    prior: Prior | None
    meaning: str
    unit: str = "1"
    symbol: str | None = None
    at: Mapping[str, str] | None = None
    dims: tuple[str, ...] = ()
    over: str | None = None
    pooled: Prior | Spread | None = None
    ordered: Prior | None = None
    above: str | float | None = None
    below: str | float | None = None

    @property
    def latex(self) -> str:
        """Its symbol in LaTeX."""
        return self.symbol or (rf"\{self.name}" if self.name in _GREEK else self.name)


@dataclass(frozen=True)
class Response:
    """What a law predicts: its column, unit and support.

    Noise and group effects act on the link of the support: log where "positive", identity where "real", logit where
    "unit", none where "count" (an exact likelihood). `noise_scale` is the typical spread on that link, the median of
    the prior of the noise's scale.
    """

    name: str
    unit: str
    support: str = "positive"
    meaning: str = ""
    column: str | None = None
    noise_scale: float = 0.01

    @property
    def source(self) -> str:
        """The canonical column that holds it."""
        return self.column or self.name


@dataclass(frozen=True)
class Derived:
    """A quantity computed from the parameters of every draw, with its meaning, unit, and axes as a parameter's."""

    function: Callable[..., Any]
    meaning: str
    unit: str = "1"
    dims: tuple[str, ...] = ()
    over: str | None = None


@dataclass(frozen=True)
class Check:
    """A value that a paper's formula must reproduce: what it is, the arguments, the value; `of` names the function.

    `of` is "mean" (the law's formula; a response's name where there are several), the name of a derived quantity, or
    "N_opt", "D_opt" and "tokens_per_param".
    """

    meaning: str
    at: Mapping[str, Any]
    value: float
    of: str = "mean"
    tolerance: float = 1e-5


@dataclass(frozen=True, eq=False)
class Law:
    """A scaling law: one declaration from which model, checks, tables and documents follow.

    `mean` is the paper's formula for one run, in the paper's symbols and units (the engine maps it over the runs), or
    one formula a response. `natural` computes paper parameters that have no prior of their own from `sampled`
    coordinates, and `inverse` the other way. `likelihood` is an exact log-likelihood for one row where the paper has
    one (it names inputs, their references, parameters and the response), and `sampler(rng, ...)` draws from it in
    NumPy: it names `mean`, inputs and parameters, which come with axes that broadcast over (..., rows). `floor` names
    the parameter that the (first) formula adds to the rest (`"-E"` if it is subtracted): samplers then work with the
    predicted response instead. `optimum` is the closed-form compute-optimal `(N, D)` under C = 6ND, or None.
    `decisions` says what its users decide with it, `decides` what of that `allocate` answers, and `unverified` what of
    it could not be checked against its source.

    Raises `LawError` (BS-L001) when the declaration contradicts itself.

    Example:
        >>> from bayescale.laws import find_law
        >>> round(law("chinchilla").mean(N=70e9, D=1.4e12, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28), 5)
        1.93665
    """

    name: str
    title: str
    equation: str
    mean: Callable[..., Any] | Mapping[str, Callable[..., Any]]
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    response: Response | None = None
    responses: tuple[Response, ...] = ()
    derived: Mapping[str, Derived] = field(default_factory=dict)
    optimum: Callable[..., Any] | None = None
    floor: str | None = None
    references: tuple[Reference, ...] = ()
    validity: str = ""
    relations: tuple[str, ...] = ()
    unidentified: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    decides: Decision | None = None
    unverified: str = ""
    sampled: tuple[Parameter, ...] = ()
    natural: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    inverse: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    likelihood: Callable[..., Any] | None = None
    sampler: Callable[..., Any] | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    kind: str = "model"

    def __post_init__(self):
        if self.response is not None:
            if self.responses not in ((), (self.response,)):
                raise self._fault("give response= or responses=, not both")
            object.__setattr__(self, "responses", (self.response,))
        for problem in contradictions(self):
            raise self._fault(problem)

    def _fault(self, problem: str) -> LawError:
        return LawError(f"law {self.name!r}: {problem}")

    def formulas(self) -> dict[str, Callable[..., Any]]:
        """The formula of every response, by the response's name."""
        if isinstance(self.mean, Mapping):
            return dict(self.mean)
        return {r.name: self.mean for r in self.responses}

    def coordinates(self) -> tuple[Parameter, ...]:
        """What is sampled: every parameter with a prior (as its contribution where it has one), then `sampled`."""
        made = []
        for p in self.parameters:
            if p.prior is None:
                continue
            if p.at:
                at = ", ".join(f"{axis} = {axis}0" for axis in p.at)
                made.append(_renamed(p, contribution_name(p.name), f"contribution of {p.name} at {at}"))
            else:
                made.append(p)
        return (*made, *self.sampled)

    def input(self, name: str) -> Input:
        """The input of that name."""
        return next(i for i in self.inputs if i.name == name)

    def parameter(self, name: str) -> Parameter:
        """The paper's parameter or sampled coordinate of that name."""
        return next(p for p in (*self.parameters, *self.coordinates()) if p.name == name)

    @property
    def spec(self) -> str:
        """The name with its options, as the command line takes them."""
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}:{options}" if options else self.name

    def digest(self) -> str:
        """A short hash of the declaration: it changes when inputs, parameters, priors or the equation change."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        text = json.dumps(
            [
                self.spec,
                self.equation,
                [repr(i) for i in self.inputs],
                [repr(p) for p in (*self.parameters, *self.sampled)],
                [repr(r) for r in self.responses],
                [(k, d.meaning) for k, d in self.derived.items()],
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name} [{i.unit}]" for i in self.inputs)
        return f"<Law {self.spec}: {', '.join(r.name for r in self.responses)} from {inputs}>"


def _renamed(parameter: Parameter, name: str, meaning: str) -> Parameter:
    base, _, index = parameter.latex.partition("_")
    symbol = rf"{base}_{{{index.strip('{}')}, \mathrm{{ref}}}}" if index else rf"{base}_\mathrm{{ref}}"
    return replace(parameter, name=name, meaning=meaning, at=None, symbol=symbol)


_GREEK = frozenset("alpha beta gamma delta epsilon eta kappa lambda mu nu sigma tau theta".split())
