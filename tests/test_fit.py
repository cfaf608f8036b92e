"""The main job: a posterior with its checks, whatever the session around it does."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from worlds import TRUTH, chinchilla_world, mcse_distance

import bayescale as bs
from bayescale.errors import Finding
from bayescale.posterior import flat_draws, flattened, model_of
from bayescale.sampling import PLAIN, Settings, sampler_named

NAMES = ("E", "A_ref", "B_ref", "alpha", "beta", "a", "sigma", "nu")


def test_ladder_converges_on_every_reported_number(ladder_fit):
    found = {f.code: f for f in bs.check(ladder_fit, bs.allocate(ladder_fit, [1e15, 1e16]))}
    assert {c: f.status for c, f in found.items()} == dict.fromkeys(found, "pass")
    assert found["divergences"].value == 0
    assert found["r-hat"].value <= 1.01
    assert min(found["ess-bulk"].value, found["ess-tail"].value) >= 1000


def test_groups_of_the_tree(ladder_fit):
    wanted = (
        "posterior unconstrained_posterior headline sample_stats log_likelihood log_likelihood_group log_prior "
        "posterior_predictive prior prior_predictive observed_data constant_data"
    ).split()
    assert set(wanted) == set(ladder_fit.tree.children)
    posterior = ladder_fit.tree["posterior"]
    assert posterior["u_params"].dims == ("chain", "draw", "level_params")
    rows = ladder_fit.tree["log_likelihood"]["loss"]
    assert rows.dims == ("chain", "draw", "row")
    assert list(np.asarray(rows["row"])) == list(ladder_fit.runs.rows)
    for name, group in ladder_fit.tree.children.items():
        for variable in group.data_vars.values():
            if variable.dtype.kind == "f":
                assert np.isfinite(variable).all(), f"{name}/{variable.name}"


def test_paper_parameters_and_contributions_agree(ladder_fit):
    draws, N0, D0 = ladder_fit.draws("posterior"), *(float(ladder_fit.references[k]) for k in ("N0", "D0"))
    np.testing.assert_allclose(draws["A_ref"], draws["A"] * N0 ** -draws["alpha"], rtol=1e-12)
    np.testing.assert_allclose(draws["B_ref"], draws["B"] * D0 ** -draws["beta"], rtol=1e-12)
    np.testing.assert_allclose(draws["a"], draws["beta"] / (draws["alpha"] + draws["beta"]), rtol=1e-12)


def test_the_ladder_says_what_was_published_of_it(plain_fit):
    """What was said of the 30 tuned runs when they were trained, E .41, alpha .35, beta .62, a .64 and noise of 3 %,
    lies in the 95 % intervals. Those came of priors that favoured higher floors: E hardly leaves its prior here."""
    published = dict(E=0.41, alpha=0.35, beta=0.62, a=0.64, sigma=0.03)
    draws = plain_fit.draws("posterior")
    assert len(plain_fit.runs) == 30
    for name, value in published.items():
        low, high = np.quantile(draws[name], [0.025, 0.975])
        assert low < value < high, name


def test_log_likelihood_is_that_of_the_loss(plain_fit):
    """Recomputed with SciPy from the draws: Student-t on log loss, with the Jacobian of the log."""
    from scipy import stats

    runs, d = plain_fit.runs, plain_fit.draws("posterior")
    N, D, L = (runs.values(c) for c in ("params", "tokens", "loss"))
    pick = np.arange(0, len(d["E"]), 97)
    v = {k: x[pick][:, None] for k, x in d.items() if x.ndim == 1}
    mean = v["E"] + v["A"] * N ** -v["alpha"] + v["B"] * D ** -v["beta"]
    expected = stats.t.logpdf(np.log(L), v["nu"], np.log(mean), v["sigma"]) - np.log(L)
    ours = np.asarray(plain_fit.tree["log_likelihood"]["loss"]).reshape(-1, len(L))[pick]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_density_is_prior_times_likelihood(plain_fit):
    """NumPyro's potential against the pieces that the tree keeps."""
    import jax

    from bayescale.model import build_model

    model = build_model(plain_fit.law, plain_fit.runs, group="none")
    z = np.random.default_rng(0).standard_normal((5, model.structure.dimension))
    with jax.enable_x64(True):
        for one in z:
            potential = float(model.structure.potential(one, model.data))
            out = model.structure.draw(one, model.data)
            rows = np.asarray(out["log_likelihood"]["loss"])[: len(model.runs)]
            jacobian = np.log(model.runs.values("loss")).sum()  # the factor of the model is on the log scale
            joint = rows.sum() + jacobian + float(out["log_prior"])
            assert -potential == pytest.approx(joint, rel=1e-10)


def test_prior_predictive_and_replicates_have_the_size_of_losses(plain_fit):
    prior = np.asarray(plain_fit.tree["prior_predictive"]["loss"])
    replicated = np.asarray(plain_fit.tree["posterior_predictive"]["loss"])
    observed = plain_fit.runs.values("loss")
    assert 0.05 < np.median(prior) < 10
    within = np.mean((replicated.reshape(-1, len(observed)) < observed).mean(axis=0))
    assert 0.3 < within < 0.7


def test_truth_is_recovered():
    """240 runs at 0.5 % noise: every parameter within 4.5 posterior sds of the truth.

    Six quantities: correct code fails once in 20,000 seeds.
    """
    fit = bs.fit("chinchilla", chinchilla_world(240, 1), group="none", seed=1)
    for name in ("E", "A", "B", "alpha", "beta"):
        x = np.log(fit.draws()[name])
        assert abs(x.mean() - np.log(TRUTH[name])) < 4.5 * x.std()
    a = fit.draws()["a"]
    assert abs(a.mean() - TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])) < 4.5 * a.std()


def test_same_seed_same_draws_and_others_differ(ladder, plain_fit):
    again = bs.fit("chinchilla", ladder, seed=0, group="none")
    other = bs.fit("chinchilla", ladder, seed=1, group="none")
    assert again.tree["posterior"].to_dataset().equals(plain_fit.tree["posterior"].to_dataset())
    assert not other.tree["posterior"].to_dataset().equals(plain_fit.tree["posterior"].to_dataset())
    assert max(mcse_distance(other, plain_fit, n) for n in NAMES) < 5  # 8 names: false alarm below 1e-5


def test_rows_shuffled_and_groups_named_otherwise(ladder, ladder_fit):
    import dataclasses

    frame = ladder.frame.sample(frac=1, random_state=3)
    again = bs.fit("chinchilla", dataclasses.replace(ladder, frame=frame), seed=0)
    assert max(mcse_distance(again, ladder_fit, n) for n in (*NAMES, "tau_params", "tau_budget")) < 5


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_rescaled_inputs_leave_the_posterior(ladder, plain_fit, factor):
    """N in other units: same answer within 5 Monte Carlo errors, at most twice the gradients."""
    scaled = ladder.with_columns({"params": ladder.values("params") * factor})
    again = bs.fit("chinchilla", scaled, seed=0, group="none")
    assert float(again.references["N0"]) == pytest.approx(float(plain_fit.references["N0"]) * factor)
    assert max(mcse_distance(again, plain_fit, n) for n in NAMES) < 5
    gradients = [f.info["attempts"][0]["gradients"] for f in (again, plain_fit)]
    assert gradients[0] <= 2 * gradients[1]


def test_bits_instead_of_nats(ladder, plain_fit):
    import dataclasses

    scaled = dataclasses.replace(
        ladder.with_columns({"loss": ladder.values("loss") / np.log(2)}), loss_unit="bits/byte"
    )
    again = bs.fit("chinchilla", scaled, seed=0, group="none")
    assert max(mcse_distance(again, plain_fit, n) for n in ("alpha", "beta", "a", "sigma", "nu")) < 5
    E, nats = again.quantities()["E"], plain_fit.quantities()["E"]
    assert abs(E.mean * np.log(2) - nats.mean) < 5 * np.hypot(E.mcse_mean * np.log(2), nats.mcse_mean)


def test_another_reference_moves_nothing_the_data_settle(ladder, plain_fit):
    """Priors judged at twice the scale: a weak prior moves the posterior by far less than its own sd."""
    references = {k: 2 * v for k, v in plain_fit.references.items()}
    again = bs.fit("chinchilla", ladder, seed=0, group="none", references=references)
    for name in ("a", "alpha", "beta"):
        one, other = again.quantities()[name], plain_fit.quantities()[name]
        assert abs(one.mean - other.mean) < 0.15 * other.sd


def test_fix_tie_and_prior(ladder):
    fit = bs.fit("chinchilla", ladder, group="none", fix={"E": 0.4}, tie=[("alpha", "beta")])
    d = fit.draws("posterior")
    assert np.ptp(d["E"]) == 0 and d["E"][0] == pytest.approx(0.4)
    np.testing.assert_array_equal(d["alpha"], d["beta"])
    tight = bs.fit("chinchilla", ladder, group="none", priors={"alpha": "normal(.5, .001)"})
    assert tight.quantities()["alpha"].mean == pytest.approx(0.5, abs=0.005)
    paper = bs.fit("chinchilla", ladder, group="none", fix={"A": 20.0})
    assert np.ptp(paper.draws("posterior")["A"]) == 0
    with pytest.raises(bs.LawError, match=r"no parameter 'gamma'"):
        bs.fit("chinchilla", ladder, fix={"gamma": 1.0})
    with pytest.raises(bs.LawError, match="fixed or tied"):
        bs.fit("chinchilla", ladder, fix={"E": 1.0}, priors={"E": bs.LogNormal(0, 1)})


def test_priors_from_another_fit_narrow_the_answer(ladder, plain_fit):
    again = bs.fit("chinchilla", ladder, group="none", priors_from=plain_fit)
    assert again.quantities()["a"].sd < plain_fit.quantities()["a"].sd
    assert again.references == plain_fit.references


def test_hmc_agrees_with_nuts(ladder, plain_fit):
    again = bs.fit("chinchilla", ladder, group="none", sampler="hmc")
    assert max(mcse_distance(again, plain_fit, n) for n in NAMES) < 5


def test_saved_and_loaded_without_loss(ladder_fit, tmp_path):
    path = ladder_fit.save(tmp_path / "fit.nc")
    loaded = bs.load_fit(path)
    assert loaded.tree.identical(ladder_fit.tree)
    assert loaded.info == json.loads(json.dumps(ladder_fit.info))
    assert loaded.runs.sha256 == ladder_fit.runs.sha256
    path.unlink()  # the file is closed: the fit stays usable
    assert loaded.quantities()["a"] == ladder_fit.quantities()["a"]
    assert [p.name for p in tmp_path.iterdir()] == []


def test_loading_what_is_not_a_fit(ladder_fit, tmp_path):
    (tmp_path / "x.nc").write_bytes(b"not a file of netCDF")
    for path in (tmp_path / "missing", tmp_path / "x.nc"):
        with pytest.raises(bs.FitError):
            bs.load_fit(path)
    with pytest.raises(bs.FitError, match="exists"):
        ladder_fit.save(ladder_fit.save(tmp_path / "y.nc"))


def test_a_session_in_single_precision_keeps_it(ladder):
    code = (
        "import jax, jax.numpy as jnp\n"
        "before = jnp.ones(3) + 1\n"
        "import bayescale as bs\n"
        "fit = bs.fit('chinchilla', bs.load_runs('byte-ladder'), group='none', draws=1000)\n"
        "after = jnp.ones(3) + 1\n"
        "print(before.dtype, after.dtype, fit.draws()['a'].dtype, jax.config.jax_enable_x64)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["float32", "float32", "float64", "False"], done.stderr
    assert done.stdout.count("\n") == 1 and not done.stderr.strip(), "the Python API prints nothing"


def test_fits_in_threads_are_those_made_alone(ladder, plain_fit):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        fits = list(pool.map(lambda s: bs.fit("chinchilla", ladder, group="none", seed=s), (0, 1, 0)))
    for fit in (fits[0], fits[2]):
        assert fit.tree["posterior"].to_dataset().equals(plain_fit.tree["posterior"].to_dataset())


def test_too_short_a_run_goes_on_and_says_so():
    """Chains that were too short go on: their draws are those of one long run, of which no warm-up is repeated."""
    easy = chinchilla_world(240, 8)  # nothing diverges here: 4 x 150 draws are too few, and that is all
    fit = bs.fit("chinchilla", easy, group="none", draws=150, warmup=300)
    attempts = fit.info["attempts"]
    assert attempts[0]["failed"] and not attempts[-1]["failed"]
    assert len(attempts) > 1 and attempts[1]["draws"] > attempts[0]["draws"]
    assert {a["target_accept"] for a in attempts} == {0.9} and attempts[1]["seconds"]["compile"] == 0
    model, (_, sample) = model_of(fit), sampler_named("nuts")
    long = Settings(draws=attempts[-1]["draws"], warmup=300, target_accept=0.9)
    at_once = sample(model, long)
    np.testing.assert_array_equal(flat_draws(fit, model), at_once.flat.reshape(-1, at_once.flat.shape[-1]))
    assert sum(a["gradients"] for a in attempts) == at_once.gradients


def test_what_is_tried_next_depends_on_what_failed():
    asked, (first, second, *_) = Settings(draws=100, warmup=50), PLAIN.rungs
    begun = PLAIN.first(asked)
    assert (begun.target_accept, begun.draws) == (first[0], 100)

    def failing(code, value=None, threshold=None):
        return Finding(code, code, "fail", value, threshold, "")

    assert PLAIN.after(asked, begun, [failing("ess-tail", 500.0, 1000.0)]).draws == 260  # 1.3 times what it lacks
    assert PLAIN.after(asked, begun, [failing("ess-bulk", 900.0, 1000.0)]).draws == 200
    assert PLAIN.after(asked, begun, [failing("r-hat", 1.03, 1.01)]).draws == 400
    assert PLAIN.after(asked, begun, [failing("r-hat")]) == replace(begun, draws=400)
    last, times = PLAIN.rungs[-1]
    smallest = PLAIN.after(asked, replace(begun, draws=800), [failing("r-hat")])
    assert (smallest.target_accept, smallest.draws) == (last, times * 100)
    assert PLAIN.after(asked, replace(smallest, draws=800), [failing("r-hat")]) is None
    for code in ("divergences", "e-bfmi"):
        next_one = PLAIN.after(asked, begun, [failing(code, 3.0, 0.0), failing("r-hat", 1.1, 1.01)])
        assert (next_one.target_accept, next_one.draws, next_one.warmup) == (second[0], 200, 100)
    assert PLAIN.after(asked, replace(begun, target_accept=PLAIN.rungs[-1][0]), [failing("e-bfmi")]) is None


def test_not_converged_is_never_silent(ladder):
    with pytest.warns(bs.NotConverged, match="not converged after"):
        fit = bs.fit("chinchilla", ladder, group="none", draws=10, warmup=20, chains=2)
    assert not fit.converged and fit.verdict.status == "fail" and fit.headline_source == "none"
    assert "NOT CONVERGED" in repr(fit)
    with pytest.raises(bs.NotFittedFor):
        bs.allocate(fit, 1e15)


@pytest.mark.slow
def test_noise_models(epoch):
    """The published spread of answers over noise models, which the default must be able to show."""
    fits = {n: bs.fit("chinchilla", epoch, noise=n, group="none") for n in ("normal", "laplace")}
    a = {n: fit.draws("posterior")["a"].mean() for n, fit in fits.items()}
    assert a["normal"] == pytest.approx(0.530, abs=0.004)
    assert a["laplace"] == pytest.approx(0.514, abs=0.01)  # near least absolute deviations: .5126


def test_the_replication(epoch):
    """Student-t, no group effects: the posterior's a = .511 with sd .009-.012, E = 1.81; the headline is wider."""
    fit = bs.fit("chinchilla", epoch, group="none")
    a, E = (fit.draws("posterior")[n] for n in ("a", "E"))
    assert a.mean() == pytest.approx(0.511, abs=0.004)
    assert 0.009 < a.std() < 0.012
    assert E.mean() == pytest.approx(1.81, abs=0.01)
    assert fit.quantities()["a"].sd > 2 * a.std() and fit.verdict.status == "fail"


def test_measurement_error_adds(ladder, plain_fit):
    """A stated error of 3 % takes the place of most of the noise, and leaves the law where it was."""
    loss = ladder.values("loss")
    fit = bs.fit("chinchilla", ladder.with_columns({"loss_se": 0.03 * loss}), group="none")
    assert fit.quantities()["sigma"].median < 0.7 * plain_fit.quantities()["sigma"].median
    assert abs(fit.quantities()["a"].mean - plain_fit.quantities()["a"].mean) < plain_fit.quantities()["a"].sd


def test_numpyro_model_runs_under_its_own_handlers(ladder, plain_fit):
    import jax
    import numpyro
    from numpyro.infer import MCMC, NUTS

    model = bs.build_model("chinchilla", ladder, group="none")
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeded = numpyro.handlers.seed(model.numpyro_model, jax.random.key(0))
        trace = numpyro.handlers.trace(seeded).get_trace()
        assert {"z", "E", "A", "alpha", "sigma", "nu"} <= set(trace)
        mcmc = MCMC(NUTS(model.numpyro_model, dense_mass=True), num_warmup=800, num_samples=1500, progress_bar=False)
        mcmc.run(jax.random.key(1))
        a = np.asarray(mcmc.get_samples()["beta"] / (mcmc.get_samples()["alpha"] + mcmc.get_samples()["beta"]))
    q = plain_fit.quantities()["a"]
    assert abs(a.mean() - q.mean) < 6 * q.sd / np.sqrt(100)  # its effective draws are few on this ridge


def test_flattened_names_vectors(ladder_fit):
    names = [n for n, _ in flattened(ladder_fit.tree["posterior"].to_dataset()[["u_budget"]])]
    assert names[0] == "u_budget[3e+12]"


def test_wrong_options_are_refused(ladder):
    for options, message in (
        ({"noise": "cauchy"}, "no noise 'cauchy'"),
        ({"sampler": "gibbs"}, "no sampler 'gibbs'"),
        ({"group": ["colour"]}, "no column 'colour'"),
        ({"prob": 90}, "between 0 and 1"),
        ({"draws": 3}, "draws must be at least 4"),
        ({"chains": 0}, "at least 1"),
        ({"tie": [("alpha", "zeta")]}, "no parameter 'zeta'"),
        ({"priors": {"alpha": "gaussian(1,2)"}}, "no prior family"),
        ({"references": {"X0": 1.0}}, "no reference 'X0'"),
    ):
        with pytest.raises(bs.BayescaleError, match=message):
            bs.fit("chinchilla", ladder, **options)
