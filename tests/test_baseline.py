"""The field's usual fit: published numbers, and its own early stop."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from test_targets import stand_in
from worlds import TRUTH, chinchilla_world

import bayescale as bs
from bayescale.baseline import compare_with_baseline
from bayescale.law import pooled_law
from bayescale.laws import find_law

#: Hoffmann et al. (2022), as printed.
ROUNDED = dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def values(fit):
    return {k: float(v[0]) for k, v in fit.draws("posterior").items()}


def status(fit, code):
    return next(f for f in fit.checks if f.code == code)


def test_huber_reproduces_the_replication(epoch):
    """Besiroglu et al. (2024), their cell 18: Huber(1e-3) on log loss, summed, from a grid of starts."""
    fit = bs.least_squares("chinchilla", epoch)
    published = dict(A=477.84, B=2143.86, E=1.8172, alpha=0.34731, beta=0.36718)
    for name, value in published.items():
        assert values(fit)[name] == pytest.approx(value, rel=5e-3)
    assert fit.info["objective"] == pytest.approx(1.0182740e-3, rel=1e-5)
    assert {f.status for f in fit.checks} == {"pass"}


def test_small_delta_reproduces_the_published_table(epoch):
    """The printed numbers are those of least absolute deviations, which the Huber loss tends to."""
    fit = bs.least_squares("chinchilla", epoch, delta=1e-7)
    published = dict(A=482.01, B=2085.43, E=1.8169, alpha=0.3478, beta=0.3658)
    for name, value in published.items():
        assert values(fit)[name] == pytest.approx(value, rel=5e-3)


def test_the_early_stop_is_caught(epoch):
    """From the printed values with SciPy's defaults: `success=True` at a = .457; the true optimum is .514."""
    fit = bs.least_squares(
        "chinchilla", epoch, starts=[ROUNDED], coordinates="paper", scaled=False, options={}, polish=False
    )
    assert fit.info["optimiser_success"] is True
    assert values(fit)["a"] == pytest.approx(0.457, abs=0.001)
    assert status(fit, "early-stop").status == "fail"
    assert "stopped early" in status(fit, "early-stop").message
    assert fit.verdict.status == "fail"


def test_polishing_repairs_the_early_stop(epoch):
    fit = bs.least_squares("chinchilla", epoch, starts=[ROUNDED], coordinates="paper", scaled=False, options={})
    assert values(fit)["a"] == pytest.approx(0.5139, abs=0.0005)
    assert status(fit, "early-stop").status == "fail", "it is still said"


def test_bootstrap_spread_is_the_published_one(epoch):
    """Published standard errors (4,000 resamples): E .0257, alpha .0154, beta .0206; 300 resamples know them to 4 %."""
    fit = bs.least_squares("chinchilla", epoch, bootstrap=300)
    draws = fit.draws("posterior")
    assert draws["a"].shape == (301,)
    for name, published in (("E", 0.0257), ("alpha", 0.0154), ("beta", 0.0206)):
        assert np.std(draws[name]) == pytest.approx(published, rel=0.25)  # 5 Monte Carlo errors, and tails


def test_truth_without_noise_is_found_exactly():
    runs = chinchilla_world(60, 0, sigma=0.0)
    fit = bs.least_squares("chinchilla", runs)
    for name, value in TRUTH.items():
        assert values(fit)[name] == pytest.approx(value, rel=1e-4)


def test_it_is_a_fit_like_any_other(ladder, tmp_path):
    fit = bs.least_squares("chinchilla", ladder, bootstrap=20)
    made = bs.allocate(fit, [1e15])
    assert made.dataset["params"].shape == (1, 1, 21)
    assert bs.load_fit(fit.save(tmp_path / "x.nc")).tree.identical(fit.tree)


def test_fixed_and_tied_parameters(ladder):
    fit = bs.least_squares("chinchilla", ladder, fix={"E": 0.4}, tie=[("alpha", "beta")])
    assert values(fit)["E"] == pytest.approx(0.4) and values(fit)["alpha"] == values(fit)["beta"]


def test_cross_check_sentence(plain_fit, ladder):
    point = bs.least_squares("chinchilla", ladder)
    finding = compare_with_baseline(plain_fit, point)
    assert finding is not None and finding.status == "pass" and "posterior sds" in finding.message
    posterior = plain_fit.tree["posterior"].to_dataset().assign(a=lambda d: 0 * d["a"] + 0.5)
    fixed = replace(plain_fit, tree=xr.DataTree.from_dict({"posterior": posterior}))
    assert compare_with_baseline(fixed, point) is None, "a number that cannot vary has no sd to be away by"


def test_refusals(ladder):
    with pytest.raises(bs.LawError, match="no coordinates 'raw'"):
        bs.least_squares("chinchilla", ladder, coordinates="raw")
    with pytest.raises(bs.LawError, match="leaves out"):
        bs.least_squares("chinchilla", ladder, starts=[{"E": 1.0}])


def test_a_fit_of_one_draw_has_a_summary(ladder):
    summary = bs.least_squares("chinchilla", ladder, starts=2).summary()
    assert 0 < summary.loc["a", "median"] < 1
    assert summary.loc["a", ["sd", "mcse_mean", "r_hat"]].isna().all()


def untuned_world(rows=60):
    """Runs of which a third were not tuned: their losses lie up to 20 % above the law."""
    runs, rng = chinchilla_world(rows, 12, sigma=0.002), np.random.default_rng(12)
    late = np.arange(rows) % 3 == 0
    loss = runs.values("loss") * np.where(late, 1 + rng.uniform(0.05, 0.2, rows), 1.0)
    return runs.with_columns({"loss": loss, "undertuned": late.astype(float)}), late


def test_bounds_have_no_residual():
    runs, late = untuned_world()
    point = bs.least_squares("chinchilla", runs, starts=4, bootstrap=5)
    tuned = bs.least_squares("chinchilla", runs.take(~late), starts=4, bootstrap=5)
    assert point.draws("posterior")["a"] == pytest.approx(tuned.draws("posterior")["a"], rel=1e-9)
    assert point.info["runs"]["used"] == 40
    assert "20 of 60 runs were not tuned: a bound has no residual" in point.info["runs"]["assumptions"][-1]
    fit = stand_in("chinchilla", runs)
    finding = compare_with_baseline(fit, point)
    assert finding is not None and "without the 20 runs that were not tuned gives a = " in finding.message
    assert ("those runs, noise model or group effects" in finding.message) == (finding.status == "warn")
    for bounds, said in ((np.ones(60), "all 60 rows tell only a bound"), (np.arange(60) > 3, "4 are too few for 5")):
        with pytest.raises(bs.NotFittedFor, match=said):
            bs.least_squares("chinchilla", runs.with_columns({"undertuned": bounds.astype(float)}))


def test_levels_whose_runs_are_all_bounds_are_not_compared():
    runs, late = untuned_world()
    kind = np.where(late, "late", np.resize(["a", "b", "c", "d"], 60))
    pooled = runs.with_columns({"recipe": kind})
    point = bs.least_squares("chinchilla", pooled, starts=2, pool={"recipe": ("alpha",)})
    fit = stand_in(pooled_law(find_law("chinchilla"), {"recipe": ("alpha",)}), pooled)
    assert "late" in fit.levels["recipe"] and "late" not in point.levels["recipe"]
    finding = compare_with_baseline(fit, point)
    assert finding is not None and "of late" not in finding.message
