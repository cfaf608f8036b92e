"""What a target takes: the scale that meets it, and the model that serves it at the least cost, draw by draw."""

import json

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.cli import run
from bayescale.design.targets import BELOW, BEYOND
from bayescale.inference import fit_info
from bayescale.law import call
from bayescale.laws import find_law
from bayescale.model import build_model, double_precision
from bayescale.posterior import make_tree
from bayescale.sampling import Settings


def stand_in(spec, frame, scale=0.3, model=None):
    """A fit of draws near the middle of the prior: everything but the sampling."""
    law = find_law(spec)
    runs = frame if isinstance(frame, bs.Runs) else bs.Runs(pd.DataFrame(frame), "table")
    model = model or build_model(law, runs, group="none")
    rng = np.random.default_rng(3)
    flat = scale * rng.standard_normal((2, 50, model.structure.dimension))
    tree = make_tree(model, flat, {"energy": np.zeros((2, 50)), "diverging": np.zeros((2, 50), bool)}, rng)
    info = fit_info(model, (), prob=0.9, sampler="none", settings=Settings(chains=2, draws=50, warmup=0))
    return bs.Fit(tree, law, info)


N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 1e10, 4), np.geomspace(2e9, 2e11, 4)))


@pytest.fixture(scope="module")
def chinchilla():
    return stand_in("chinchilla", dict(params=N, tokens=D, flops=6 * N * D, loss=2.5))


def test_the_scale_of_a_target_inverts_the_law():
    """A power law above a floor in closed form; draws whose floor lies above the target never meet it."""
    fit = stand_in("power_law_offset:x=tokens", dict(tokens=np.geomspace(1e9, 1e11, 8), loss=2.5))
    v, x0 = fit.draws(), float(fit.references["x0"])
    target = float(np.quantile(v["E"], 0.8)) + 0.1
    made = bs.reach(fit, target)
    with np.errstate(invalid="ignore"):
        exact = x0 * ((target - v["E"]) / v["a_ref"]) ** (-1 / v["alpha"])
    low, high = 1e9 / BELOW, 1e11 * BEYOND
    expected = np.where(np.isnan(exact) | (exact > high), np.inf, np.maximum(exact, low))
    np.testing.assert_allclose(made.dataset["x"].to_numpy().ravel(), expected, rtol=1e-9)
    assert 0 < made.met < 1 and made.met == np.isfinite(expected).mean()
    document = json.loads(json.dumps(made.to_json()))
    assert document["met"] == made.met and document["x"]["lower"] > 0 and "or never" in repr(made)
    assert list(made.frame().quantity) == ["x"]


def test_how_many_samples_a_coverage_needs():
    """A metric that rises, of a law with an exact likelihood; and a target that no draw is far from."""
    k = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
    fit = stand_in("large_monkeys", dict(samples=k, coverage=[0.1, 0.2, 0.4, 0.5, 0.6]))
    made = bs.reach(fit, 0.5)
    v, found = fit.draws(), made.dataset["k"].to_numpy().ravel()
    inside = np.isfinite(found) & (found > k.min() / 1e3)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(np.exp(v["a"] * found ** v["b"])[inside], 0.5, rtol=1e-9)


def test_the_compute_of_a_target_lies_on_the_frontier(chinchilla):
    target = 2.4
    made = bs.reach(chinchilla, target)
    C = made.dataset["C"].to_numpy().ravel()
    v = chinchilla.draws()
    for k in np.flatnonzero(np.isfinite(C))[:5]:
        known = {n: v[n][k] for n in ("E", "A", "B", "alpha", "beta")}
        with double_precision():
            n, d = (float(x) for x in call(chinchilla.law.optimum, {**known, "C": C[k]}))
            assert float(call(chinchilla.law.mean, {**known, "N": n, "D": d})) == pytest.approx(target, rel=1e-9)
    at = bs.reach(chinchilla, target, over="D", given={"N": 1e10}).dataset["D"].to_numpy().ravel()
    reached = v["E"] + v["A"] * 1e10 ** -v["alpha"] + v["B"] * at ** -v["beta"]
    np.testing.assert_allclose(reached[np.isfinite(at) & (at > 2e6)], target, rtol=1e-9)


def test_a_served_model_is_the_least_cost_of_sardana(chinchilla):
    """Against the closed equation of `inference_aware`, draw by draw; without tokens served it is the optimum."""
    loss, served = 2.6, 1e12
    made = bs.serve(chinchilla, loss, served)
    v, found = chinchilla.draws(), {n: x.to_numpy().ravel() for n, x in made.dataset.items()}
    law = find_law("inference_aware")
    met = np.flatnonzero(np.isfinite(found["cost"]))
    assert len(met) > 60 and made.met == len(met) / 100
    for k in met[::7]:
        known = {n: np.asarray(v[n][k]) for n in ("E", "A", "B", "alpha", "beta")}
        with double_precision():
            n, d = (float(x) for x in call(law.optimum, {**known, "l": loss, "Dinf": np.asarray(served)}))
        # The cost is flat at its least, so a search finds the size to half of the digits.
        assert found["params"][k] == pytest.approx(n, rel=1e-5)
        assert found["tokens"][k] == pytest.approx(d, rel=1e-5)
        assert found["cost"][k] == pytest.approx(6 * n * d + 2 * n * served, rel=1e-9)
    assert (found["saving"][met] > -1e-9).all() and found["saving"][met].max() > 0.01
    none = bs.serve(chinchilla, loss, 0.0)
    best = [bs.reach(chinchilla, loss).dataset["C"].to_numpy().ravel(), none.dataset["cost"].to_numpy().ravel()]
    both = np.isfinite(best).all(axis=0) & (best[0] > 1.1 * 6 * N.min() * D.min() / 1e3)
    np.testing.assert_allclose(best[0][both], best[1][both], rtol=1e-7)


def test_the_commands_print_what_the_verbs_return(chinchilla, tmp_path, capsys):
    chinchilla.save(tmp_path / "fit.nc")
    for words, made in (
        (["reach", "--target", "2.4"], bs.reach(chinchilla, 2.4)),
        (["serve", "--loss", "2.6", "--tokens", "1T"], bs.serve(chinchilla, 2.6, 1e12)),
    ):
        assert run([words[0], str(tmp_path / "fit.nc"), *words[1:], "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document == {"schema": "bayescale.target/1", **json.loads(json.dumps(made.to_json()))}
    assert run(["reach", str(tmp_path / "fit.nc"), "--target", "2.4", "--over", "Q"]) == 3


def test_what_cannot_be_asked_is_refused(chinchilla):
    with pytest.raises(bs.NotFittedFor, match="also depends on D"):
        bs.reach(chinchilla, 2.4, over="N")
    with pytest.raises(bs.NotFittedFor, match="no scale 'Q'"):
        bs.reach(chinchilla, 2.4, over="Q")
    rates = stand_in("step_law", dict(params=N, tokens=D, lr=1e-3, batch_tokens=1e6))
    for ask in (lambda: bs.serve(rates, 2.4, 1e12), lambda: bs.allocate(rates, 1e21), lambda: bs.reach(rates, 1e-3)):
        with pytest.raises(bs.NotFittedFor):
            ask()


def test_an_allocation_is_of_a_loss_that_a_budget_lowers():
    """Learning rates have no least value worth a budget, and a law in which data does not count has no split of one."""
    from bayescale.allocation import require_optimum

    for spec in ("step_law", "porian_hparams", "bjorck_lr", "passuntil", "kaplan_ns", "clark_routed", "time_matters"):
        law = find_law(spec)
        with pytest.raises(bs.NotFittedFor, match="no compute-optimal model size at a budget"):
            require_optimum(law, {i.name: 1.0 for i in law.inputs if i.name not in ("N", "D", "C", "M")})
    for spec in ("chinchilla", "kaplan_nd", "gadre_overtrain", "isoflop_parabola", "two_step"):
        require_optimum(find_law(spec), {})
