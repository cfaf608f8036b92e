"""Simulated tables, ranks of their truths, and bands that catch a wrong likelihood."""

import json

import numpy as np
import pytest
from test_targets import stand_in
from worlds import chinchilla_world

import bayescale as bs
from bayescale.calibration import bands
from bayescale.calibration.calibrating import RANKED, ranked_quantities

DESIGN = chinchilla_world(24, 77)


@pytest.fixture(scope="module")
def calibration():
    # Normal noise, as where a wrong likelihood is to be caught: one program for both. Student-t is calibrated below.
    return bs.calibrate("chinchilla", DESIGN, simulations=60, seed=2, group="none", noise="normal", progress=False)


def test_the_computation_is_calibrated(calibration):
    """Bands of 99 % over all quantities: correct code fails with probability .01, and this seed does not."""
    assert [f.message for f in calibration.findings if f.code == "ranks-uniform" and f.status != "pass"] == []
    assert calibration.certified.mean() >= 0.95
    assert {"a", "log N_opt", "loss at N_opt", "log-likelihood", "sigma"} <= set(calibration.ranks)
    coverage = calibration.coverage()
    assert (np.abs(coverage["80%"] - 0.8) < 4 * coverage["80% mcse"]).all()
    document = json.loads(json.dumps(calibration.to_json()))
    assert document["status"] == calibration.status and "computation" in repr(calibration)


def test_a_wrong_likelihood_is_caught():
    wrong = bs.calibrate(
        "chinchilla",
        DESIGN,
        simulations=60,
        seed=3,
        group="none",
        noise="normal",
        simulate_noise="laplace",  # its scale is not its standard deviation
        progress=False,
    )
    bad = {f.name for f in wrong.findings if f.status == "fail"}
    assert "sigma" in bad and "the posterior lies too high" in repr(wrong)


def test_around_the_posterior_of_a_table():
    """A fit brings its own priors, noise and runs: its simulated tables are fitted with them, beside its own."""
    tight = bs.fit("chinchilla", DESIGN, seed=0, group="none", draws=300, priors={"alpha": "normal(.30,.003)"})
    found = bs.calibrate("chinchilla", DESIGN, simulations=30, seed=6, given=tight, progress=False)
    assert found.status != "fail" and found.rows == 2 * len(DESIGN) and "nu" in found.ranks
    with pytest.raises(bs.LawError, match="other runs"):
        bs.simulate("chinchilla", chinchilla_world(24, 78), given=tight)
    with pytest.raises(bs.LawError, match="own noise"):
        bs.calibrate("chinchilla", DESIGN, given=tight, simulate_noise="normal")


def test_a_fit_brings_its_cut(monkeypatch):
    """Excess below a cut is part of the model that is calibrated: its tables are fitted with it."""
    from bayescale.calibration import calibrating

    class Seen(Exception):
        pass

    def prepare_all(tables, law, seed, flops, options):
        raise Seen(options["min_flops"])

    monkeypatch.setattr(calibrating, "prepare_all", prepare_all)
    model = bs.build_model("chinchilla", DESIGN, group="none", min_flops="auto")
    given = stand_in("chinchilla", DESIGN, model=model)
    with pytest.raises(Seen, match="auto"):
        bs.calibrate("chinchilla", DESIGN, simulations=2, given=given, progress=False)
    with pytest.raises(bs.LawError, match="no number of simulations"):
        bs.calibrate("chinchilla", DESIGN, simulations=2.5, progress=False)
    with pytest.raises(bs.LawError, match="at least one table"):
        bs.calibrate("chinchilla", DESIGN, simulations=0, progress=False)


def recipes():
    """The design with five recipes, so that spreads are learnt."""
    return bs.Runs(DESIGN.frame.assign(recipe=np.resize(list("abcde"), len(DESIGN))), "recipes")


def test_what_is_ranked_of_a_pooled_law():
    """Centre, spread and every level of what differs, and optima by level: each that of the law of its level."""
    law = bs.pooled_law(bs.find_law("chinchilla"), "recipe")
    model = bs.build_model(law, recipes(), group="none")
    flat = 0.5 * np.random.default_rng(2).standard_normal((3, model.structure.dimension))
    found = ranked_quantities(model, flat, 1e22)
    assert {"A_ref_centre", "A_ref_spread", "A_ref[4]", "B_ref[0]", "alpha", "log-likelihood"} <= set(found)
    assert "log N_opt" not in found
    for k in range(5):
        A, B, alpha, beta = (found[n] for n in (f"A[{k}]", f"B[{k}]", "alpha", "beta"))
        N = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (1e22 / 6) ** (beta / (alpha + beta))
        np.testing.assert_allclose(found[f"log N_opt[{k}]"], np.log(N), rtol=1e-12)
        loss = found["E"] + A * N**-alpha + B * (1e22 / 6 / N) ** -beta
        np.testing.assert_allclose(found[f"loss at N_opt[{k}]"], loss, rtol=1e-12)


@pytest.mark.slow
def test_a_pooled_law_is_calibrated():
    found = bs.calibrate("chinchilla", recipes(), simulations=20, seed=8, group="none", pool="recipe", progress=False)
    assert [f.message for f in found.findings if f.code == "ranks-uniform" and f.status != "pass"] == []
    tight = bs.fit("chinchilla", recipes(), seed=0, group="none", pool="recipe", draws=300)
    with pytest.raises(bs.LawError, match="own pooling"):
        bs.calibrate("chinchilla", recipes(), given=tight, pool="recipe")


def test_measurement_errors_follow_the_simulated_response():
    frame = DESIGN.frame.assign(loss_se=0.01 * DESIGN.frame["loss"])
    made = bs.simulate("chinchilla", bs.Runs(frame, "with errors"), tables=3, seed=2, group="none")
    for runs in made.tables.values():
        assert np.allclose(runs.values("loss_se") / runs.values("loss"), 0.01)


def test_coverage_of_uniform_ranks_is_what_it_says():
    import pandas as pd

    uniform = pd.DataFrame({"x": np.repeat(np.arange(RANKED + 1), 10)})
    coverage = bs.Calibration(uniform, np.ones(len(uniform), bool), "law", "normal", 0.99, 24).coverage()
    assert [coverage.loc["x", f"{p:.0%}"] for p in (0.5, 0.8, 0.9, 0.95)] == pytest.approx([0.5, 0.8, 0.9, 0.95])


def test_bands_hold_a_whole_curve_of_uniform_ranks():
    """1,000 curves: the share outside is .05 ± .007; 4 errors of slack leave a false alarm of 6e-5."""
    rng = np.random.default_rng(0)
    lower, upper = bands.band(200, RANKED, 0.95)
    outside = 0
    for _ in range(1000):
        shares = bands.curve(rng.integers(0, RANKED + 1, 200), RANKED)
        outside += bool(((shares < lower) | (shares > upper)).any())
    assert abs(outside / 1000 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("ranks", [np.arange(400) % 51, np.r_[np.zeros(60, int), np.arange(340) % 101]])
def test_bands_catch_ranks_that_are_not_uniform(ranks):
    lower, upper = bands.band(400, RANKED, 0.99)
    shares = bands.curve(ranks, RANKED)
    assert ((shares < lower) | (shares > upper)).any()


def test_simulated_tables_have_the_truths_they_state():
    made = bs.simulate("chinchilla", DESIGN, tables=200, seed=1, noise="normal", group="none", given={"sigma": 0.01})
    N, D = (DESIGN.values(c) for c in ("params", "tokens"))
    t = {k: v.to_numpy()[:, None] for k, v in made.truth.items()}
    mean = t["E"] + t["A"] * N ** -t["alpha"] + t["B"] * D ** -t["beta"]
    residual = np.log(np.stack([r.values("loss") for r in made.tables.values()]) / mean) / 0.01
    count = residual.size
    assert abs(residual.mean()) < 4 / np.sqrt(count) and abs(residual.var() - 1) < 4 * np.sqrt(2 / count)
    again = bs.simulate("chinchilla", DESIGN, tables=200, seed=1, noise="normal", group="none", given={"sigma": 0.01})
    assert again.truth.equals(made.truth)


def test_a_design_without_a_response():
    made = bs.simulate("chinchilla", {"params": [1e8, 1e9, 2e9], "tokens": [1e10, 2e10, 4e10]}, tables=2, group="none")
    assert all((r.values("loss") > 0).all() and len(r) == 3 for r in made.tables.values())
