"""What residuals of exact, rounded and one-sided rows say, against quadrature and simulated tables."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from worlds import TRUTH

import bayescale as bs
from bayescale.narrowness import clusters_of, gradients_of
from bayescale.narrowness.alarms import Bench, influence
from bayescale.narrowness.linearised import linearise
from bayescale.narrowness.replicates import replicates_of
from bayescale.narrowness.residuals import Residuals
from bayescale.noise import NOISES
from bayescale.posterior import evaluate_draws

FAMILIES = {"normal": ({}, stats.norm()), "student_t": ({"nu": 4.0}, stats.t(4))}


def grid(sigma, step=None, seed=0, **columns):
    """Forty runs of eight sizes at five token counts, their losses rounded to a step."""
    N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 1e10, 8), np.geomspace(2e9, 2e11, 5)))
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    loss = loss * np.exp(sigma * np.random.default_rng(seed).standard_normal(len(N)))
    if step is not None:
        loss, columns = np.round(loss / step) * step, {**columns, "loss_step": np.full(len(N), step)}
    return bs.read_runs({"params": N, "tokens": D, "loss": loss, **columns})


def line_of(runs, **options):
    """The linearisation about the mode given the noise of the prior's middle, one per cent."""
    model = bs.build_model("chinchilla", runs, noise="normal", group="none", **options)
    return linearise(model, np.zeros((1, model.structure.coordinates.dimension)), {})


def bench_of(line):
    """A bench that asks for the exponent of N, with draws of the linear posterior."""
    draws = np.random.default_rng(0).multivariate_normal(line.x, line.covariance, 500)
    flat = np.repeat(line.flat[None], 500, axis=0)
    flat[:, line.positions] = draws
    quantities = {"alpha": np.asarray(evaluate_draws(line.model, flat)["values"]["alpha"])}
    names, gradients = gradients_of(flat, quantities, line)
    middles = {n: float(np.median(quantities[n])) for n in names}
    return Bench(line, tuple(names), gradients, middles, frozenset(names), clusters_of(line.model.runs, ()), worlds=300)


@pytest.mark.parametrize("width", [0.05, 1.0, 4.0, 25.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rounded_row_is_as_likely_as_what_rounds_to_it(family, width):
    """g(r) = (F(r + w/2) - F(r - w/2)) / w, its score, and the information: the integral of g'^2 / g."""
    shape, exact = FAMILIES[family]
    r = np.linspace(-width / 2 - 2, width / 2 + 2, 41)
    half = np.full(len(r), width / 2)
    rows = Residuals(NOISES[family], shape, np.ones(len(r)), -half, half, np.zeros(len(r), bool))

    def mass(x):
        return exact.cdf(x + width / 2) - exact.cdf(x - width / 2)

    def slope(x):
        return exact.pdf(x + width / 2) - exact.pdf(x - width / 2)

    np.testing.assert_allclose(rows.heights(r)[0], np.log(mass(r) / width), atol=5e-3)
    np.testing.assert_array_equal(rows.heights(r)[1], rows.scores(r))
    np.testing.assert_allclose(rows.scores(r), -slope(r) / mass(r), atol=5e-3)
    x = np.linspace(-width / 2 - 12, width / 2 + 12, 100_001)
    with np.errstate(all="ignore"):
        terms = slope(x) ** 2 / mass(x) / width
    told = np.trapezoid(np.where(np.isfinite(terms), terms, 0.0), x)
    # 20,000 draws, of which the squared scores of those near an end tell: at most 2.5 % an error, and four of them.
    np.testing.assert_allclose(rows.information, told, rtol=0.1)
    np.testing.assert_array_equal(rows.curvatures(r), rows.information)


def test_simulated_tables_are_rounded_and_their_fits_scatter_as_the_posterior_says():
    """Steps of one and a half to three times the noise: taken as exact, rows would tell far more than they do."""
    line = line_of(grid(0.01, 0.08), fix={"sigma": 0.01})
    noise, truth = line.simulate(np.random.default_rng(1), 1000)
    made = np.exp(line.curve + noise) / 0.08
    np.testing.assert_allclose(made, np.round(made), atol=1e-9)
    scatter = line.displacement(noise, truth).std(axis=0)
    told = np.sqrt(np.diag(line.covariance - line.covariance @ np.diag(line.precision) @ line.covariance))
    # 1,000 tables tell a standard deviation to 2.2 %; five coordinates, four errors, and one step of a fit.
    np.testing.assert_allclose(scatter, told, rtol=0.15)
    assert (line.rows.information < 0.7 * line_of(grid(0.01), fix={"sigma": 0.01}).rows.information).all()


def test_what_was_not_tuned_is_no_repeat():
    """Of runs of which only a bound is known nobody sees by how much they differ."""
    one = grid(0.01)
    again = one.frame.loc[np.repeat(one.frame.index, 3)].reset_index(drop=True)
    again["loss"] *= np.exp(0.004 * np.random.default_rng(2).standard_normal(len(again)))
    again["undertuned"] = np.tile([0.0, 0.0, 1.0], len(one))
    made = replicates_of(SimpleNamespace(line=line_of(bs.read_runs(again))))
    assert made.free == len(one) == made.count and not (made.rows % 3 == 2).any()
    again["undertuned"] = np.tile([0.0, 1.0, 1.0], len(one))
    assert replicates_of(SimpleNamespace(line=line_of(bs.read_runs(again)))) is None


def test_the_most_influential_run_is_held_against_chance():
    """Of seven runs at five parameters each moves an answer by more than a posterior sd; that is no run's fault."""
    few = grid(0.01).frame.iloc[[0, 5, 12, 19, 26, 31, 39]]
    told = []
    for seed in range(8):
        noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(few)))
        told.append(influence(bench_of(line_of(bs.read_runs(few.assign(loss=few["loss"] * noise)))), ["alpha"]))
    assert np.median([f.value for f in told]) > 0.8
    assert sum(f.status == "warn" for f in told) <= 1, "each with a chance of 1 %: two of eight in 370 runs"
    off = grid(0.01).frame
    off.loc[off.index[0], "loss"] *= 1.1
    found = influence(bench_of(line_of(bs.read_runs(off))), ["alpha"])
    assert found.status == "warn" and found.value > found.threshold >= 1 and f"row {off.index[0]} " in found.message
