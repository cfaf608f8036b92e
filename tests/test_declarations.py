"""Declarations that contradict themselves are refused when they are made, by name and with the fault."""

import dataclasses

import pytest

from bayescale.errors import LawError
from bayescale.law import Beta, Derived, HalfNormal, Input, Law, LogNormal, Normal, Parameter, Reference, Response

SOURCE = Reference("Nobody", 2026, "A law for tests", url="https://example.org")
X = Input("x", "1", "scale", "params")
V = Input("v", "1", "mixture", "w_*", dims=("part",), centre="none")
E = Parameter("E", LogNormal(0.0, 1.0), "floor", unit="response")
A = Parameter("A", LogNormal(0.0, 1.0), "coefficient", unit="response", at={"x": "c"})
EXPONENT = Parameter("c", LogNormal(-1.0, 0.5), "exponent")
LOSS = Response("loss", "nats/token")


def toy(**changes) -> Law:
    """A sound law with one thing changed."""
    sound = dict(
        name="toy",
        title="Toy",
        equation="E + A x^{-c}",
        mean=lambda x, E, A, c: E + A * x**-c,
        inputs=(X,),
        parameters=(E, A, EXPONENT),
        response=LOSS,
        floor="E",
        references=(SOURCE,),
    )
    return Law(**{**sound, **changes})


def with_a(**changes):
    """The toy's parameters with the coefficient declared otherwise."""
    return (E, dataclasses.replace(A, **changes), EXPONENT)


def mapped(**changes):
    """The coefficient computed from a sampled coordinate."""
    sound = dict(
        parameters=(E, Parameter("A", None, "coefficient"), EXPONENT),
        sampled=(Parameter("size", LogNormal(0.0, 1.0), "coefficient at x0"),),
        natural={"A": lambda size, c, x0: size * x0**c},
        inverse={"size": lambda A, c, x0: A * x0**-c},
    )
    return {**sound, **changes}


def vectors(**changes):
    """The coefficient and exponent as vectors over the parts of a mixture."""
    sound = dict(
        mean=lambda v, E, A, c: E + (A * v**c).sum(),
        inputs=(V,),
        parameters=(
            E,
            Parameter("A", LogNormal(0.0, 1.0), "coefficients", dims=("part",)),
            Parameter("c", LogNormal(0.0, 1.0), "exponents", dims=("part",)),
        ),
    )
    return {**sound, **changes}


REFUSED = {
    "its name": (dict(name="Toy law"), "lower case with underscores"),
    "kind": (dict(kind="idea"), "kind is 'idea', not model or pushforward"),
    "no response": (dict(response=None), "give its response"),
    "two ways of responses": (dict(responses=(LOSS, LOSS)), "give response= or responses=, not both"),
    "no reference": (dict(references=()), "give at least one reference"),
    "parameter twice": (dict(parameters=(E, E, A, EXPONENT)), "'E' is declared twice"),
    "parameter as an input": (
        dict(inputs=(X, Input("E", "1", "again", "tokens"))),
        "'E' is declared twice",
    ),
    "parameter as a reference": (
        dict(
            mean=lambda x, E, A, c, x0: E + A * x**-c + x0,
            parameters=(E, A, EXPONENT, Parameter("x0", HalfNormal(1.0), "a scale")),
        ),
        "'x0' is declared twice",
    ),
    "contribution as a parameter": (
        dict(
            mean=lambda x, E, A, c, A_ref: E + A * x**-c + A_ref,
            parameters=(E, A, EXPONENT, Parameter("A_ref", HalfNormal(1.0), "another")),
        ),
        "'A_ref' is declared twice",
    ),
    "formula takes more": (dict(mean=lambda x, E, A, c, d: E), r"the formula takes \['d'\]"),
    "formula takes less": (dict(mean=lambda x, E, A: E + A * x), r"\['c'\] is declared but no formula takes it"),
    "formulas of other responses": (dict(mean={"accuracy": lambda x, E, A, c: E}), r"mean gives \['accuracy'\]"),
    "centre": (dict(inputs=(dataclasses.replace(X, centre="middle"),)), "centre is 'middle', not ratio"),
    "reference of a scale": (
        dict(inputs=(dataclasses.replace(X, reference=0.0),)),
        "input 'x': the reference of a scale must be positive",
    ),
    "per": (dict(inputs=(dataclasses.replace(X, per="step"),)), "per is 'step', not 'run'"),
    "sequence without an axis": (
        dict(inputs=(dataclasses.replace(X, per="run"),)),
        "a sequence a run has one axis and one column",
    ),
    "shares as ratios": (
        vectors(inputs=(dataclasses.replace(V, simplex=True, centre="ratio"),)),
        "shares of one have an axis, and no ratio",
    ),
    "matrix of columns": (
        vectors(inputs=(dataclasses.replace(V, dims=("part", "other")),)),
        "input 'v' has 2 axes",
    ),
    "length of an axis": (vectors(dims={"part": 0}), "axis 'part' has the length 0"),
    "support": (dict(response=Response("loss", "1", support="negative")), "support is 'negative', not one of positive"),
    "noise scale": (dict(response=Response("loss", "1", noise_scale=0.0)), "the noise's scale must be positive"),
    "count without a likelihood": (dict(response=Response("n", "1", support="count")), "'n' is a count: give its"),
    "likelihood of two": (
        dict(
            response=None,
            responses=(LOSS, Response("other", "1")),
            mean={"loss": lambda x, E, A, c: E, "other": lambda x, E, A, c: E},
            likelihood=lambda loss, x, E, A, c: 0.0,
        ),
        "a likelihood is of one response",
    ),
    "likelihood takes more": (
        dict(likelihood=lambda loss, accuracy, x, E, A, c: 0.0),
        r"the likelihood takes \['accuracy'\], which is not declared",
    ),
    "sampler takes more": (
        dict(likelihood=lambda loss, x, E, A, c: 0.0, sampler=lambda rng, mean, sigma: mean),
        r"the sampler takes \['sigma'\], which is not declared",
    ),
    "sampler alone": (dict(sampler=lambda rng, mean: mean), "a sampler without a likelihood"),
    "floor": (dict(floor="E0"), "the floor is 'E0', which is not a parameter"),
    "floor elsewhere": (
        dict(
            response=None,
            responses=(LOSS, Response("other", "1")),
            mean={"loss": lambda x, A, c: A * x**-c, "other": lambda x, E, A, c: E},
        ),
        "the floor 'E' is not in the first formula",
    ),
    "no prior": (dict(parameters=with_a(prior=None, at=None)), "'A' has neither a prior nor a formula in natural"),
    "at of no input": (dict(parameters=with_a(at={"N": "c"})), "at names 'N', which is not an input with a reference"),
    "at of an input without a reference": (
        dict(inputs=(dataclasses.replace(X, centre="none"),)),
        "at names 'x', which is not an input with a reference",
    ),
    "at of no exponent": (dict(parameters=with_a(at={"x": "-gamma"})), "at names the exponent '-gamma'"),
    "at of an exponent by level": (
        dict(parameters=(E, A, dataclasses.replace(EXPONENT, over="recipe"))),
        "'A': its exponent 'c' runs over levels or axes that it does not",
    ),
    "unit of a share": (
        dict(parameters=(dataclasses.replace(E, prior=Beta(2.0, 2.0)), A, EXPONENT)),
        r"'E' has the unit of the response, but Beta\(2, 2\) has none to convert",
    ),
    "bound that is not there": (dict(parameters=with_a(at=None, above="Z")), "bounded by 'Z', which is not another"),
    "bound by itself": (dict(parameters=with_a(at=None, above="A")), "bounded by 'A', which is not another"),
    "fraction that is not one": (dict(parameters=with_a(at=None, below="E")), "'A' is below 'E': its prior is of the"),
    "negative distance": (
        dict(parameters=with_a(at=None, above="E", prior=Normal(0.0, 1.0))),
        "the prior of a distance or gap must be positive",
    ),
    "negative gap": (
        vectors(parameters=(E, dataclasses.replace(vectors()["parameters"][1], ordered=Normal(0.0, 1.0)), EXPONENT)),
        "the prior of a distance or gap must be positive",
    ),
    "order of one": (dict(parameters=with_a(at=None, ordered=HalfNormal(1.0))), "'A' is ordered but has no axis"),
    "ordered and bounded": (
        vectors(
            parameters=(
                E,
                dataclasses.replace(vectors()["parameters"][1], ordered=HalfNormal(1.0), above=1.0),
                EXPONENT,
            )
        ),
        "'A' is ordered: it cannot be pooled or bounded as well",
    ),
    "pool of one": (dict(parameters=with_a(at=None, pooled=HalfNormal(1.0))), "'A' is pooled but not over a column"),
    "negative spread": (
        dict(parameters=with_a(at=None, over="recipe", pooled=Normal(0.0, 1.0))),
        "the prior of a spread must be positive",
    ),
    "axis that is not there": (dict(parameters=with_a(dims=("part",))), r"'A' has the axis \['part'\]"),
    "prior and formula": (
        mapped(parameters=(E, Parameter("A", HalfNormal(1.0), "coefficient"), EXPONENT)),
        "'A' has both a prior and a formula in natural",
    ),
    "natural of no parameter": (
        mapped(natural={"A": lambda size: size, "B": lambda size: size}),
        r"natural computes \['B'\], which is not a parameter",
    ),
    "natural takes more": (mapped(natural={"A": lambda size, z: size}), r"the formula of 'A' takes \['z'\]"),
    "no way back": (mapped(inverse={}), "inverse must give every sampled coordinate"),
    "a way back that does not lead there": (
        mapped(inverse={"size": lambda c, x0: c * x0}),
        "no inverse leads from 'A' back to a coordinate",
    ),
    "derived takes more": (
        dict(derived={"a": Derived(lambda beta: beta, "exponent")}),
        r"derived 'a' takes \['beta'\], which is not a parameter",
    ),
    "derived with a name that is taken": (
        dict(derived={"c": Derived(lambda E: E, "exponent")}),
        "derived 'c' has the name of a parameter or input",
    ),
    "derived axis": (
        dict(derived={"a": Derived(lambda c: c, "exponent", dims=("part",))}),
        r"derived 'a' has the axis \['part'\]",
    ),
    "optimum takes more": (dict(optimum=lambda C, B: C), r"the optimum takes \['B'\], which is not a parameter"),
}


def test_the_toys_are_sound():
    assert toy().digest() and toy(**mapped()).coordinates()[-1].name == "size"
    assert toy(**vectors()).parameter("c").dims == ("part",)


@pytest.mark.parametrize("fault", REFUSED)
def test_contradictions_are_refused(fault):
    changes, said = REFUSED[fault]
    with pytest.raises(LawError, match=said) as caught:
        toy(**changes)
    assert caught.value.message.startswith(f"law {changes.get('name', 'toy')!r}: ")
    assert caught.value.code == "BS-L001"


def test_a_law_can_be_changed():
    """A private variant of a law is `dataclasses.replace` of it; one response stays one response."""
    law = dataclasses.replace(toy(), title="Another")
    assert law.responses == (LOSS,) and law.title == "Another"
    with pytest.raises(LawError, match="not both"):
        dataclasses.replace(law, responses=(LOSS, Response("accuracy", "1", support="unit")))


def test_inputs_know_their_usual_columns():
    assert [Input(n, "1", n).column for n in ("N", "D", "C", "lr")] == ["params", "tokens", "flops", "lr"]
