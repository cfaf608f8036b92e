"""How rows observe a response: scales that differ by row, correlated checkpoints, rounded and one-sided rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayescale as bs
from bayescale.inference import fit_info
from bayescale.law import LogNormal
from bayescale.model import double_precision
from bayescale.model.observing import BOUNDED_NODES, ROUNDED_NODES, interval_log_density
from bayescale.noise import NOISES, TAILS_OF_RUNS
from bayescale.posterior import evaluate_draws, make_tree, model_of, noise_scales, replicate
from bayescale.sampling import Settings
from bayescale.tables.symbols import prior_of


def grid(loss=None, **columns):
    """Twelve runs over three sizes and four token counts."""
    N, D = (g.ravel() for g in np.meshgrid([1e8, 1e9, 1e10], [2e9, 1e10, 5e10, 2e11]))
    rng = np.random.default_rng(3)
    made = np.exp(np.log(1.7 + 400 * N**-0.34 + 400 * D**-0.28) + 0.01 * rng.standard_normal(len(N)))
    return bs.read_runs({"params": N, "tokens": D, "loss": made if loss is None else loss, **columns})


def curves(checkpoints=20, runs=6, ell=0.5, sd=0.004, seed=0):
    """Training curves whose residuals are an Ornstein and Uhlenbeck process in log tokens."""
    rng = np.random.default_rng(seed)
    N = np.geomspace(1e8, 1e10, runs)
    D = np.geomspace(2e9, 2e11, checkpoints)
    rho = np.exp(-np.diff(np.log(D)) / ell)
    z = rng.standard_normal((runs, checkpoints))
    for k in range(1, checkpoints):
        z[:, k] = rho[k - 1] * z[:, k - 1] + np.sqrt(1 - rho[k - 1] ** 2) * z[:, k]
    N, D = np.repeat(N, checkpoints), np.tile(D, runs)
    loss = np.exp(np.log(1.7 + 400 * N**-0.34 + 400 * D**-0.28) + sd * z.ravel())
    run = np.repeat([f"run{k}" for k in range(runs)], checkpoints)
    return bs.read_runs({"params": N, "tokens": D, "run": run, "loss": loss})


def rows_of(model, flat):
    """Log-densities of the rows on the link scale, their scales and the residuals, at a flat vector."""
    s = model.structure
    with double_precision():
        sites = s.sites(jnp.asarray(flat))
        values, response = s.values(sites["z"], model.data), model.law.responses[0]
        terms = s.row_log_density(values, sites, model.data, response, False)
        residual = model.data["responses"][response.name]["y"] - s.locations(values, sites, model.data, response)
        scale = jnp.broadcast_to(s.scales(values, model.data, response), residual.shape)
    rows = len(model.runs)
    return tuple(np.asarray(v)[:rows] for v in (terms, scale, residual)), {k: np.asarray(v) for k, v in values.items()}


def near(model, seed=0, width=0.3):
    return width * np.random.default_rng(seed).standard_normal(model.structure.dimension)


@pytest.mark.parametrize("noise, shape", [("normal", {}), ("student_t", {"nu": 2.0}), ("student_t", {"nu": 30.0})])
@pytest.mark.parametrize("step", [0.01, 1.0, 10.0, 100.0])
def test_a_rounded_row_has_the_mean_density_over_its_interval(noise, shape, step):
    """Against the distribution function; the rule is exact to rounding where the step is no wider than the noise."""
    n, at = NOISES[noise], np.linspace(-0.45, 0.45, 31) * max(step, 1.0)
    mass = n.cdf(at + step / 2, 1.0, **shape) - n.cdf(at - step / 2, 1.0, **shape)
    with jax.enable_x64(True):
        half = np.full_like(at, step / 2)
        found = interval_log_density(
            lambda r, s: n.log_density(r, s, **shape), at, np.ones_like(at), -half, half, ROUNDED_NODES
        )
    tolerance = 1e-10 if step <= 1 else 1e-4 if step <= 10 else 0.05
    np.testing.assert_allclose(found, np.log(mass / step), atol=tolerance)


@pytest.mark.parametrize("noise, shape", [("normal", {}), ("student_t", {"nu": 2.0}), ("student_t", {"nu": 30.0})])
def test_a_one_sided_row_has_the_mass_below_its_bound(noise, shape):
    n, at = NOISES[noise], np.linspace(-3, 40, 87)
    with jax.enable_x64(True):
        low, high = np.full_like(at, -np.inf), np.zeros_like(at)
        found = interval_log_density(
            lambda r, s: n.log_density(r, s, **shape), at, np.ones_like(at), low, high, BOUNDED_NODES
        )
    np.testing.assert_allclose(found, np.log(n.cdf(at, 1.0, **shape)), atol=3e-3)


def test_exact_and_one_sided_rows_stand_side_by_side():
    """A one-sided row far above the law says nothing; one below it pulls, with a finite slope."""
    flags = np.zeros(12)
    flags[[2, 7]] = 1
    plain, bound = grid(), grid(undertuned=flags)
    both = [bs.build_model("chinchilla", r, noise="normal", group="none") for r in (plain, bound)]
    flat = near(both[0])
    (exact, scale, residual), _ = rows_of(both[0], flat)
    (seen, _, _), _ = rows_of(both[1], flat)
    np.testing.assert_allclose(seen[flags == 0], exact[flags == 0], atol=1e-12)
    expected = stats.norm.logcdf(np.clip(residual / scale, -3, None))
    close = (flags == 1) & (residual > -3 * scale)
    np.testing.assert_allclose(seen[close], expected[close], atol=3e-3)
    with double_precision():
        slope = jax.grad(lambda x: both[1].structure.potential(x, both[1].data))(jnp.asarray(flat))
    assert np.isfinite(slope).all()


def test_the_scale_grows_with_compute_and_with_tokens_a_parameter():
    runs = grid()
    model = bs.build_model("chinchilla", runs, noise="growing", group="none")
    flat = near(model, 1)
    (terms, scale, residual), values = rows_of(model, flat)
    N, D, N0, D0 = runs.values("params"), runs.values("tokens"), model.references["N0"], model.references["D0"]
    slope = values["growth_C"] * np.log(N * D / (N0 * D0)) + values["growth_R"] * np.log(D * N0 / (N * D0))
    expected = values["sigma"] * np.exp(np.log(10) * np.tanh(slope / np.log(10)))
    np.testing.assert_allclose(scale, expected, rtol=1e-12)
    np.testing.assert_allclose(
        terms, stats.t.logpdf(residual / scale, values["nu"]) - np.log(scale), rtol=1e-9, atol=1e-9
    )


def test_checkpoints_of_a_run_are_jointly_normal_with_an_exponential_correlation():
    """The product of conditional densities is the density of the whole curve; rows may come in any order."""
    runs = curves(checkpoints=5)
    order = np.random.default_rng(1).permutation(len(runs))
    shuffled = bs.Runs(runs.frame.iloc[order], "shuffled", runs.loss_unit)
    for table in (runs, shuffled):
        model = bs.build_model("chinchilla", table, noise="normal")
        assert "ell" in model.structure.coordinates.names
        (terms, _, residual), values = rows_of(model, near(model, 2))
        index, levels = table.labels("run")
        for level in range(len(levels)):
            own = index == level
            at = np.log(table.values("tokens")[own])
            covariance = values["sigma"] ** 2 * np.exp(-np.abs(at[:, None] - at) / values["ell"])
            joint = stats.multivariate_normal(np.zeros(own.sum()), covariance).logpdf(residual[own])
            np.testing.assert_allclose(terms[own].sum(), joint, rtol=1e-9)


def two_phases():
    """Every checkpoint of `curves` again after a cool-down of a tenth, and evaluated a second time where it was."""
    hot = curves(checkpoints=5).frame
    cold = hot.assign(tokens=1.1 * hot["tokens"], flops=1.1 * hot["flops"], loss=0.98 * hot["loss"], phase="cold")
    again = hot.assign(loss=1.003 * hot["loss"])
    return bs.Runs(pd.concat([hot, again, cold], ignore_index=True).fillna({"phase": "hot"}), "two phases")


def test_phases_and_repeated_evaluations_of_a_run_are_curves_of_their_own():
    """Given the effect of the run they are independent: hot rows follow hot ones, and copies of a place copies."""
    runs = two_phases()
    model = bs.build_model("chinchilla", runs, noise="normal")
    (terms, _, residual), values = rows_of(model, near(model, 2))
    index, at = runs.labels("run")[0], np.log(runs.values("tokens"))
    for level, part in np.ndindex(6, 3):
        own = np.flatnonzero(index == level)[5 * part : 5 * part + 5]
        covariance = values["sigma"] ** 2 * np.exp(-np.abs(at[own][:, None] - at[own]) / values["ell"])
        joint = stats.multivariate_normal(np.zeros(5), covariance).logpdf(residual[own])
        np.testing.assert_allclose(terms[own].sum(), joint, rtol=1e-9)
    (note,) = [n.message for n in model.notes if n.code == "BS-R016" and "err alike" in n.message]
    assert note.endswith("18 of 6 runs")
    stamped = runs.with_columns({"logged": [f"{k} s" for k in range(len(runs))]})
    serial = bs.build_model("chinchilla", stamped, noise="normal").data["serial"]
    np.testing.assert_array_equal(serial["gap"], model.data["serial"]["gap"], "a column of stamps sorts nothing")
    last = runs.with_columns({"final": np.where(at > np.log(1.9e11), "yes", "no")})
    serial = bs.build_model("chinchilla", last, noise="normal").data["serial"]
    np.testing.assert_array_equal(serial["gap"], model.data["serial"]["gap"], "nor one that marks the ends")


def test_curves_do_not_depend_on_the_order_of_rows():
    """Seeds are numbers, and one of them lacks a checkpoint: no link leads from one seed to another."""
    first = curves(checkpoints=5).frame
    both = pd.concat([first.assign(seed=0.0), first.iloc[1:].assign(seed=1.0, loss=1.01 * first["loss"])])
    mixed = both.sample(frac=1, random_state=0).reset_index(drop=True)
    model = bs.build_model("chinchilla", bs.Runs(mixed, "mixed"), noise="normal")
    previous, gap = (np.asarray(model.data["serial"][k])[: len(mixed)] for k in ("previous", "gap"))
    linked, seed = gap >= 0, mixed["seed"].to_numpy()
    assert linked.sum() == len(mixed) - 12 and (seed[linked] == seed[previous[linked]]).all()


def test_tails_of_several_runs_are_bounded_and_those_of_one_curve_are_not():
    """Else the level of a whole run, off by however much, would pass as one outlier."""
    several = bs.build_model("chinchilla", curves())
    one = bs.build_model("power_law_offset:x=tokens", curves(runs=1))
    independent = bs.build_model("chinchilla", grid(), group="none")
    for model, floor in ((several, TAILS_OF_RUNS), (one, 1.0), (independent, 1.0)):
        found = evaluate_draws(model, 4 * near(model, width=1.0)[None])["values"]["nu"]
        lowest = evaluate_draws(model, np.full((1, model.structure.dimension), -8.0))["values"]["nu"]
        assert found > floor and lowest == pytest.approx(floor, abs=0.01)
    assert prior_of(stand_in(several, draws=20), "nu").startswith("4 + LogNormal(")
    assert prior_of(stand_in(independent, draws=20), "nu").startswith("1 + LogNormal(")
    given = bs.build_model("chinchilla", curves(), priors={"nu": LogNormal(1.0, 0.5)})
    assert prior_of(stand_in(given, draws=20), "nu").startswith("LogNormal("), "one's own prior is as it was given"


def test_errors_of_inputs_count_by_the_slope_of_the_law():
    """The spread of log loss over simulated errors is what the scale adds, to first order."""
    runs = grid()
    params_se, tokens_se = 0.02 * runs.values("params"), 0.03 * runs.values("tokens")
    told = runs.with_columns({"params_se": params_se, "tokens_se": tokens_se})
    model = bs.build_model("chinchilla", told, group="none")
    (_, scale, _), values = rows_of(model, near(model, 3))
    p = {k: values[k] for k in ("E", "A", "B", "alpha", "beta")}
    rng, N, D = np.random.default_rng(0), runs.values("params"), runs.values("tokens")
    many = 20_000
    error_N, error_D = (np.exp(s * rng.standard_normal((many, 1))) for s in (0.02, 0.03))
    log_loss = np.log(p["E"] + p["A"] * (N * error_N) ** -p["alpha"] + p["B"] * (D * error_D) ** -p["beta"])
    spread = np.sqrt(scale**2 - values["sigma"] ** 2)
    # sd of a simulated sd is 1 / sqrt(2 many) = .5 %; 5 of them and 1 % for the second order
    np.testing.assert_allclose(spread, log_loss.std(axis=0), rtol=0.035)


def test_an_error_of_a_size_moves_tokens_that_follow_from_it():
    """Where D = C / 6N, a larger N means a smaller D: the two slopes partly cancel."""
    full = grid()
    columns = {"params": full.values("params"), "flops": full.values("flops"), "loss": full.values("loss")}
    runs = bs.read_runs({**columns, "params_se": 0.02 * full.values("params")})
    model = bs.build_model("chinchilla", runs, group="none")
    assert model.structure.observing.moved == (("params", (("N", 1.0), ("D", -1.0))),)
    of_compute = bs.read_runs({**columns, "flops_se": 0.02 * full.values("flops")})
    assert bs.build_model("chinchilla", of_compute, group="none").structure.observing.moved == (
        ("flops", (("D", 1.0),)),
    )


def test_a_table_that_is_one_curve_has_correlated_checkpoints(tmp_path):
    """Places are of the law's own scale where there are no tokens; a saved fit is built again as it was."""
    x = np.geomspace(1e6, 1e8, 16)
    frame = pd.DataFrame(dict(examples=x, error=0.1 + 0.3 * (x / 1e7) ** -0.3, run="curve"))
    frame["error"] *= np.exp(0.01 * np.random.default_rng(4).standard_normal(16))
    runs, law = bs.Runs(frame, "one curve"), "power_law_offset:x=examples,y=error"
    model = bs.build_model(law, runs, noise="normal")
    assert "ell" in model.structure.coordinates.names and not model.groupings and model.options["curve"]
    assert "ell" not in bs.build_model(law, runs, noise="normal", group="none").structure.coordinates.names
    (terms, _, residual), values = rows_of(model, near(model, 2))
    at = np.log(x)
    covariance = values["sigma"] ** 2 * np.exp(-np.abs(at[:, None] - at) / values["ell"])
    joint = stats.multivariate_normal(np.zeros(16), covariance).logpdf(residual)
    np.testing.assert_allclose(terms.sum(), joint, rtol=1e-9)
    flat = 0.1 * np.random.default_rng(5).standard_normal((1, 4, model.structure.dimension))
    stats_of = {"diverging": np.zeros((1, 4), bool), "energy": np.zeros((1, 4))}
    info = fit_info(model, [], prob=0.9, sampler="nuts", settings=Settings(chains=1, draws=4, warmup=0))
    fit = bs.Fit(make_tree(model, flat, stats_of, np.random.default_rng(6)), model.law, info)
    assert fit.group == () and fit.grouped == "auto" and "ell" in fit.draws("posterior")
    fit.save(tmp_path / "fit.nc")
    again = model_of(bs.load_fit(tmp_path / "fit.nc"))
    assert again.structure.key == model_of(fit).structure.key and again.structure.observing.serial


def stand_in(model, draws=400, seed=5):
    """A fit of draws near the middle of the prior: everything but the sampling."""
    rng = np.random.default_rng(seed)
    flat = 0.3 * rng.standard_normal((1, draws, model.structure.dimension))
    stats_of = {"diverging": np.zeros((1, draws), bool), "energy": np.zeros((1, draws))}
    info = fit_info(model, [], prob=0.9, sampler="nuts", settings=Settings(chains=1, draws=draws, warmup=0))
    return bs.Fit(make_tree(model, flat, stats_of, rng), model.law, info)


def test_one_curve_with_a_group_of_its_own_is_rebuilt_as_it_was(tmp_path):
    """Its checkpoints are correlated, its tails are not those of several runs."""
    x = np.geomspace(1e6, 1e8, 60)
    frame = pd.DataFrame(dict(examples=x, error=0.1 + 0.3 * (x / 1e7) ** -0.3, run="curve"))
    frame["error"] *= np.exp(0.01 * np.random.default_rng(4).standard_normal(60))
    frame["group"] = [f"g{k % 6}" for k in range(60)]
    model = bs.build_model("power_law_offset:x=examples,y=error", bs.Runs(frame, "one curve"))
    fit = stand_in(model, draws=20)
    assert fit.group == ("group",) and prior_of(fit, "nu").startswith("1 + ") and "ell" in fit.info["priors"]
    fit.save(tmp_path / "fit.nc")
    assert model_of(bs.load_fit(tmp_path / "fit.nc")).structure.key == model.structure.key


def test_a_run_goes_on_from_its_last_checkpoint():
    """Forecasts of one curve against the conditional normal of its noise, draw by draw: 2,000 draws of a point's mean.

    Means over draws agree within 5 of their standard errors, which fails once in a million.
    """
    x = np.geomspace(1e6, 1e8, 16)
    error = (0.1 + 0.3 * (x / 1e7) ** -0.3) * np.exp(0.05 * np.sin(np.arange(16.0)))
    runs = bs.Runs(pd.DataFrame(dict(examples=x, error=error, run="curve")), "one curve")
    fit = stand_in(bs.build_model("power_law_offset:x=examples,y=error", runs, noise="normal"), draws=2000)
    at = np.array([1.05e8, 2e8, 1e12, 3e7])
    made = bs.forecast(fit, inputs={"x": at}, draws="posterior", far_ok=True)
    assert {"mean", "new_group", "same_group"} == {*made.dataset.data_vars}
    v = fit.draws()
    mean = {n: np.asarray(made.dataset[n])[:, 0] for n in ("mean", "new_group", "same_group")}
    for k, last in ((0, 15), (1, 15), (2, 15), (3, int(np.searchsorted(x, 3e7)) - 1)):
        law = np.log(v["E"] + v["a_ref"] * (x[last] / fit.references["x0"]) ** -v["alpha"])
        rho = np.exp(-np.log(at[k] / x[last]) / v["ell"])
        noise = np.log(mean["same_group"][k] / mean["mean"][k]) - rho * (np.log(error[last]) - law)
        z = noise / (v["sigma"] * np.sqrt(1 - rho**2))
        assert abs(z.mean()) < 5 / 2000**0.5 and abs((z**2).mean() - 1) < 5 * (2 / 2000) ** 0.5
    width = {n: np.ptp(np.quantile(np.log(y), (0.05, 0.95), axis=1), axis=0) for n, y in mean.items()}
    assert width["same_group"][0] < width["same_group"][1] < width["new_group"][1]
    named = bs.forecast(fit, inputs={"x": at}, levels={"run": "curve"}, draws="posterior", far_ok=True)
    np.testing.assert_array_equal(named.dataset["same_group"], made.dataset["same_group"])
    alone = stand_in(bs.build_model(fit.law, runs, noise="normal", group="none"))
    assert "same_group" not in bs.forecast(alone, inputs={"x": at}, draws="posterior", far_ok=True).dataset


def test_a_named_run_of_many_goes_on_with_its_own_effect():
    """At a checkpoint that was seen there is nothing new; far beyond, the run is its effect and new noise (5 SE)."""
    model = bs.build_model("chinchilla", curves(checkpoints=5), noise="normal", group="run")
    fit, runs = stand_in(model), model.runs
    row = int(np.flatnonzero(runs.labels("run")[0] == 2)[-1])
    N, D = runs.values("params")[row], runs.values("tokens")[row]
    seen = bs.forecast(fit, N=N, D=D, levels={"run": "run2"}, draws="posterior")
    np.testing.assert_allclose(seen.dataset["same_group"], runs.values("loss")[row], rtol=1e-12)
    far = bs.forecast(fit, N=N, D=1e6 * D, levels={"run": "run2"}, draws="posterior", far_ok=True)
    same, mean = (np.asarray(far.dataset[n])[0, 0] for n in ("same_group", "mean"))
    effect = np.asarray(fit.tree["posterior"]["u_run"])[0, :, 2]
    assert abs(((np.log(same / mean) - effect) / fit.draws()["sigma"]).mean()) < 5 / 400**0.5
    elsewhere = bs.forecast(fit, N=2 * N, D=D, levels={"run": "run2"}, draws="posterior")
    assert np.ptp(np.asarray(elsewhere.dataset["same_group"])) > 0, "a point at another size is not of that run"
    with pytest.raises(bs.NotFittedFor, match="no level 'nope'"):
        bs.forecast(fit, N=N, D=D, levels={"run": "nope"}, draws="posterior")


def test_of_several_curves_of_a_run_the_one_that_went_farthest_goes_on():
    fit = stand_in(bs.build_model("chinchilla", two_phases(), noise="normal", group="run"), draws=50)
    runs = fit.runs
    (row,) = np.flatnonzero((runs.frame["run"] == "run2") & (runs.values("tokens") == 1.1 * 2e11))
    N, D, run = runs.values("params")[row], runs.values("tokens")[row], {"run": "run2"}
    seen = bs.forecast(fit, N=N, D=[D, D / 1.1], levels=run, draws="posterior").dataset["same_group"]
    np.testing.assert_allclose(seen[0], runs.values("loss")[row], rtol=1e-12)
    assert np.ptp(np.asarray(seen[1])) > 0, "nor is it known where another curve of the run was"


def test_a_run_goes_on_on_the_set_that_is_asked_for():
    """The last checkpoint was evaluated on both sets: each goes on from its own."""
    first = curves(checkpoints=5).frame.assign(eval="c4")
    both = pd.concat([first, first.assign(eval="wiki", loss=1.5 * first["loss"])], ignore_index=True)
    runs = bs.Runs(both, "two sets")
    fit = stand_in(bs.build_model("chinchilla:over=eval", runs, noise="normal", group="run"), draws=20)
    row = int(np.flatnonzero((both["run"] == "run2") & (both["eval"] == "c4"))[-1])
    N, D = both["params"][row], both["tokens"][row]
    for name, loss in (("c4", both["loss"][row]), ("wiki", 1.5 * both["loss"][row])):
        seen = bs.forecast(fit, N=N, D=D, levels={"run": "run2", "eval": name}, draws="posterior")
        np.testing.assert_allclose(seen.dataset["same_group"], loss, rtol=1e-12)


def test_a_named_run_brings_its_other_groups_along():
    """The run's model size is known from its rows: at a checkpoint that was seen there is nothing new."""
    runs = curves(checkpoints=5, runs=24)
    size = np.asarray(runs.labels("run")[0]) // 3
    runs = runs.with_columns({"params": 1e7 * 2.0**size})
    model = bs.build_model("chinchilla", runs, noise="normal", group=["run", "params"])
    fit = stand_in(model)
    row = int(np.flatnonzero(model.runs.labels("run")[0] == 4)[-1])
    N, D = (model.runs.values(c)[row] for c in ("params", "tokens"))
    run = str(model.runs.labels("run")[1][4])
    seen = bs.forecast(fit, N=N, D=D, levels={"run": run}, draws="posterior")
    np.testing.assert_allclose(seen.dataset["same_group"], model.runs.values("loss")[row], rtol=1e-12)


def test_replicated_checkpoints_are_correlated_as_the_model_says():
    """400 curves: the lag correlation is within 5 standard errors, which fails once in a million."""
    model = bs.build_model("chinchilla", curves(checkpoints=5, runs=10), noise="normal")
    rng = np.random.default_rng(0)
    flat = np.repeat(near(model, 4)[None], 400, axis=0)
    out = evaluate_draws(model, flat)
    made = np.log(replicate(model, out, rng, np.arange(400)[None])["loss"][0])
    made = (made - made.mean(axis=0)) / made.std(axis=0)
    made = made.reshape(400, 10, 5)
    expected = np.exp(-np.diff(np.log(model.runs.values("tokens")[:2]))[0] / out["values"]["ell"][0])
    found = (made[..., 1:] * made[..., :-1]).mean()
    assert abs(found - expected) < 5 / np.sqrt(400 * 10 * 4)


def test_replicated_losses_are_rounded_as_the_table_is():
    runs = grid()
    rounded = runs.with_columns({"loss": np.round(runs.values("loss"), 2), "loss_step": np.full(12, 0.01)})
    model = bs.build_model("chinchilla", rounded, group="none")
    out = evaluate_draws(model, np.repeat(near(model)[None], 3, axis=0))
    made = replicate(model, out, np.random.default_rng(0), np.arange(3)[None])["loss"]
    np.testing.assert_allclose(made * 100, np.round(made * 100), atol=1e-9)


def test_below_a_cut_rows_may_lie_off_the_law():
    """The excess is linear in log compute below the cut, nothing above it, and no part of the law."""
    runs = grid()
    plain, cut = (bs.build_model("chinchilla", runs, group="none", min_flops=m) for m in (None, "auto"))
    assert {"excess", "cut"} == {*cut.structure.coordinates.names} - {*plain.structure.coordinates.names}
    flat = np.append(near(plain), [1.5, 0.2])
    (_, _, residual), values = rows_of(cut, flat)
    (_, _, without), _ = rows_of(plain, flat[:-2])
    log_flops = np.log(runs.values("flops"))
    low, high = np.quantile(log_flops, [0, 0.6])
    at = low + values["cut"] * (high - low)
    away = np.abs(log_flops - at) > 1.5
    expected = values["excess"] * np.maximum(at - log_flops, 0)
    np.testing.assert_allclose((without - residual)[away], expected[away], atol=1e-5)
    assert (np.abs(expected[away]) > 0).any() and (expected[away] == 0).any()


def test_runs_below_a_number_are_left_out():
    runs = grid()
    kept = runs.above(1e20)
    assert (kept.values("flops") >= 1e20).all() and 0 < len(kept) < len(runs)
    assert kept.notes[-1].code == "BS-R052"
    with pytest.raises(bs.RunsError, match="no run has"):
        runs.above(1e30)


EVERYTHING = {"loss_step": np.full(12, 0.02), "undertuned": np.arange(12) % 4 == 1, "params_se": np.full(12, 1e6)}


def test_a_saved_fit_is_rebuilt_with_what_its_rows_are(tmp_path):
    """What a loaded fit computes from its draws is what was computed when it was made; scales are those of rows."""
    from bayescale.posterior import flat_draws, model_of

    runs = grid(**EVERYTHING)
    batch = bs.fit_many("chinchilla", {"t": runs}, noise="growing", min_flops="auto", group="none", progress=False)
    path = tmp_path / "fit.nc"
    bs.examined(batch["t"]).save(path)
    again = bs.load_fit(path)
    model = model_of(again)
    out = evaluate_draws(model, flat_draws(again, model))
    kept = again.tree["log_likelihood"]["loss"].to_numpy().reshape(-1, len(runs))
    np.testing.assert_allclose(out["log_likelihood"]["loss"][:, : len(runs)], kept, rtol=1e-8)
    exact = grid()
    own = noise_scales(again, {"N": exact.values("params"), "D": exact.values("tokens")})
    added = out["scale"]["loss"][:, :12] ** 2 - own.T**2
    assert (added > 0).all() and (own.std(axis=0) > 0).all()


def test_flags_are_read_from_words():
    runs = grid(undertuned=["yes", "no"] * 6)
    assert runs.values("undertuned").tolist() == [1.0, 0.0] * 6
    with pytest.raises(bs.RunsError, match="'maybe' where yes or no") as raised:
        grid(undertuned=["maybe"] + ["no"] * 11)
    assert raised.value.code == "BS-R039" and tuple(raised.value.rows) == (1,)
