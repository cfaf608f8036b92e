"""Models compared by runs that are left out: densities against exact ones, weights, errors, stacks."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logsumexp
from worlds import chinchilla_world, mcse_distance

import bayescale as bs
from bayescale.cli import run
from bayescale.comparison import folds_of, later_runs, stacking_weights
from bayescale.comparison.densities import bridged, held_log_density, novel_effects
from bayescale.comparison.folds import distinct_names
from bayescale.law import Input, Law, Normal, Parameter, Reference, Response
from bayescale.model import build_model
from bayescale.posterior import evaluate_draws, members_of, model_of
from bayescale.runs import Runs
from bayescale.tables import fit_document

POWER, OFFSET = "power_law:x=params", "power_law_offset:x=params"


def sizes_world(seed, *, floor=1.5, levels=9, each=3, sigma=0.004, effect=0.0):
    """Runs of a few sizes, each trained several times, whose loss has a floor; sizes may err together."""
    rng = np.random.default_rng(seed)
    N = np.repeat(np.geomspace(1e7, 1e10, levels), each)
    log_loss = np.log(floor + 400 * N**-0.34) + sigma * rng.standard_normal(len(N))
    log_loss = log_loss + effect * np.repeat(rng.standard_normal(levels), each)
    frame = pd.DataFrame({"params": N, "loss": np.exp(log_loss), "half": np.arange(len(N)) % 2})
    return Runs(frame, "sizes", "nats/token")


@pytest.fixture(scope="module")
def world():
    return sizes_world(1)


@pytest.fixture(scope="module")
def fits(world):
    """One law under two noises."""
    made = {n: bs.fit_many(OFFSET, {"t": world}, noise=n, group="none") for n in ("student_t", "normal")}
    return [batch["t"] for batch in made.values()]


@pytest.fixture(scope="module")
def comparison(fits):
    return bs.compare(fits)


# The density of a fold


@pytest.mark.parametrize("noise", ["normal", "student_t"])
def test_new_levels_are_integrated_out(noise):
    """Per draw, against the exact normal density with crossed effects, or quadrature over the one new effect.

    The estimate of each density is unbiased: their mean ratio is 1 within 4 standard errors but once in 16,000 seeds.
    """
    crossed = noise == "normal"
    groups = [("recipe", 6, 2.0), ("group", 6, 1.0)][: 2 if crossed else 1]
    runs = chinchilla_world(36, 5, groups=groups)
    held = np.asarray(runs.frame["recipe"] == "recipe003")
    if crossed:
        held = held | np.asarray(runs.frame["group"] == "group001")
    names = [name for name, _, _ in groups]
    # Runs around the law at the middle of its priors, so that draws near there are as close to them as a posterior's.
    middle = build_model("chinchilla", runs, group="none")
    mean = evaluate_draws(middle, np.zeros((1, middle.structure.dimension)))["mean"]["loss"][0][: len(runs)]
    truth = np.random.default_rng(6)
    off = sum(0.02 * truth.standard_normal(6)[runs.labels(name)[0]] for name in names) + 0.01 * truth.standard_t(4, 36)
    runs = runs.with_columns({"loss": mean * np.exp(off)})
    whole, part = (build_model("chinchilla", runs, noise=noise, group=names, held=h) for h in (None, held))
    rng, count = np.random.default_rng(0), 200
    flat = 0.02 * rng.standard_normal((count, whole.structure.dimension))
    found = held_log_density(whole, part, flat)
    out = evaluate_draws(whole, flat)
    y, rows = np.log(runs.values("loss")), np.flatnonzero(held)
    exact = np.empty(count)
    new = {name: runs.labels(name)[0] for name in names}
    unseen = {name: sorted({*new[name][held]} - {*new[name][~held]}) for name in names}
    assert novel_effects(whole, part).positions.size == sum(map(len, unseen.values())) == len(names)
    for s in range(count):
        mean, cov = np.log(out["mean"]["loss"][s][rows]), out["scale"]["loss"][s] ** 2 * np.eye(len(rows))
        tau = {n: float(out["values"][f"tau_{n}"][s]) for n in names}
        for n in names:
            level = new[n][rows]
            known = ~np.isin(level, unseen[n])
            mean = mean + np.where(known, out["effects"][f"u_{n}"][s][level], 0.0)
            cov = cov + tau[n] ** 2 * ((level[:, None] == level[None]) & ~known[:, None])
        if crossed:
            exact[s] = stats.multivariate_normal.logpdf(y[rows], mean, cov)
        else:
            nu, scale, spread = float(out["values"]["nu"][s]), float(out["scale"]["loss"][s]), tau["recipe"]
            u = np.linspace(-9 * spread, 9 * spread, 4001)
            terms = stats.t.logpdf((y[rows] - mean)[:, None] - u, nu, 0, scale).sum(axis=0) + stats.norm.logpdf(
                u, 0, spread
            )
            exact[s] = logsumexp(terms) + np.log(u[1] - u[0])
    exact -= y[rows].sum()  # the density of the loss, not of its logarithm
    ratio = np.exp(found - exact)
    assert np.std(found - exact) < 0.35
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(count)


def test_bridge_of_normal_posteriors():
    """log N(y; 0, 1 + s²) from draws of both posteriors, where the mean over one of them would hang on few draws."""
    rng, y, s = np.random.default_rng(3), 3.0, 0.4
    before = rng.standard_normal((4, 2000))
    after = y / (1 + s**2) + np.sqrt(s**2 / (1 + s**2)) * rng.standard_normal((4, 2000))
    made = bridged(*(stats.norm.logpdf(y, x, s) for x in (before, after)))
    exact = stats.norm.logpdf(y, 0, np.sqrt(1 + s**2))
    assert made.error < 0.1 and abs(made.value - exact) < 0.15 and 0 < made.overlap < 0.2
    same = bridged(np.full((4, 10), -2.5), np.full((4, 10), -2.5))
    assert same.value == pytest.approx(-2.5) and same.overlap == pytest.approx(1)


def constant_law(name, loc, scale):
    """A response around one level, with a normal prior: everything about it is known in closed form."""
    return Law(
        name=name,
        title="constant",
        equation="y = m",
        mean=lambda x, m: m + 0 * x,
        inputs=(Input("x", unit="1", meaning="an input without effect", column="x"),),
        parameters=(Parameter("m", Normal(loc, scale), "the level"),),
        response=Response("y", unit="1", support="real"),
        references=(Reference("any textbook", 2000, "A normal mean"),),
    )


@pytest.fixture(scope="module")
def constants():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"x": np.linspace(1, 2, 12), "y": 0.3 + 0.5 * rng.standard_normal(12), "part": np.arange(12) // 4}
    )
    runs = Runs(frame, "constants", "nats/token")
    laws = [constant_law("near", 0.0, 1.0), constant_law("far", 3.0, 0.5)]
    fits = [bs.fit_many(w, {"t": runs}, noise="normal", group="none", fix={"sigma": 0.5})["t"] for w in laws]
    return runs, bs.compare(fits, over="part")


def test_folds_are_scored_by_their_exact_joint_density(constants):
    """A normal level with known noise: each fold's predictive density is that of a multivariate normal.

    Six numbers within 4.5 Monte Carlo errors (of a jackknife of 4 chains, hence the floor): by chance once in 10,000.
    """
    runs, found = constants
    y, part = runs.values("y"), runs.values("part")
    for m, (loc, scale) in enumerate(((0.0, 1.0), (3.0, 0.5))):
        for f in range(3):
            out = part == f
            precision = 1 / scale**2 + (~out).sum() / 0.25
            mean = (loc / scale**2 + y[~out].sum() / 0.25) / precision
            cov = 0.25 * np.eye(out.sum()) + 1 / precision
            exact = stats.multivariate_normal.logpdf(y[out], np.full(out.sum(), mean), cov)
            got = found.dataset.isel(model=m, fold=f)
            assert abs(float(got["elpd"]) - exact) < 4.5 * max(float(got["mcse"]), 0.01), (m, f)
    assert found.models[found.order[0]].name == "near" and found.weighed == "equal" and found.budget is None
    assert any("few" in line for line in found.lines())


def test_rows_held_out_are_not_looked_at(world):
    """A fit with rows held out is the fit of the others, with the priors of the whole design."""
    held = np.isin(world.labels("params")[0], [3, 8])
    frame = world.frame.assign(loss=np.where(held, 1e3, world.values("loss")))
    spoilt = Runs(frame, "sizes", "nats/token")
    options = dict(group="none", noise="normal", references={"x0": 3e8})
    one = bs.fit_many(OFFSET, {"t": world}, held_out={"t": held}, **options)["t"]
    other = bs.fit_many(OFFSET, {"t": spoilt}, held_out={"t": held}, **options)["t"]
    fewer = bs.fit_many(OFFSET, {"t": world.take(~held)}, **options)["t"]
    assert np.array_equal(one.draws()["alpha"], other.draws()["alpha"]) and one.info["runs"]["used"] == 21
    for name in ("E", "alpha", "sigma"):  # 3 numbers beyond 4.5 errors: once in 50,000
        assert mcse_distance(one, fewer, name) < 4.5, name
    assert [*np.asarray(model_of(one).data["responses"]["loss"]["used"])[:27]] == [*~held]
    with pytest.raises(bs.NotFittedFor, match="held out"):
        bs.examined(one)
    with pytest.raises(bs.LawError, match="held out"):
        bs.fit_many(OFFSET, {"t": world}, held_out={"t": held}, examine=True)


# Weights


def test_weights_solve_the_convex_problem():
    assert stacking_weights(np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])) == pytest.approx([7 / 9, 2 / 9], abs=1e-9)
    assert stacking_weights(np.zeros((9, 3))) == pytest.approx([1 / 3] * 3)
    rng = np.random.default_rng(8)
    for size in (0.3, 2.0, 15.0):
        density = size * rng.normal(size=(12, 4))
        p = np.exp(density - density.max(axis=1, keepdims=True))
        w = stacking_weights(density)

        def loss(v, p=p):
            return -np.log(p @ v).mean()

        options = {"ftol": 1e-15, "maxiter": 1000}
        bounds, total = [(0, 1)] * 4, {"type": "eq", "fun": lambda v: v.sum() - 1}
        other = minimize(loss, np.full(4, 0.25), bounds=bounds, constraints=total, method="SLSQP", options=options)
        assert w == pytest.approx(other.x, abs=1e-4) and loss(w) <= other.fun + 1e-9
        slope = (p / (p @ w)[:, None]).mean(axis=0)  # the conditions of the maximum, to 1e-6
        assert abs(w.sum() - 1) < 1e-12 and slope.max() < 1 + 1e-6 and np.abs(slope[w > 1e-9] - 1).max() < 1e-6


# Comparisons


def test_the_law_behind_the_runs_wins():
    """A floor against none: the wrong law is 50 nats behind and more. A right law would be called worse by chance in at
    most 1 of 40 tables, were the two equal."""
    found = bs.compare(sizes_world(21), [POWER, OFFSET], noise="normal", group="none")
    best, other = (int(k) for k in found.order)
    assert found.models[best].law.startswith("power_law_offset") and found.told_apart(best, other)
    assert found.difference(best, other)[0] > 50 and found.weights[best] > 0.9
    assert found.scored == 9 and found.weighed == "stacking" and found.over == "params" and found.complete


def test_order_of_rows_and_of_fits_does_not_matter(world, fits, comparison):
    turned = bs.compare(fits[::-1])
    assert np.array_equal(turned.dataset["elpd"][::-1], comparison.dataset["elpd"])
    order = np.random.default_rng(0).permutation(len(world))
    shuffled = Runs(world.frame.iloc[order], "sizes", "nats/token")
    again = bs.compare(shuffled, [OFFSET], noise=["student_t", "normal"], group="none")
    apart = (again.dataset["elpd"] - comparison.dataset["elpd"]).to_numpy()
    error = np.hypot(again.dataset["mcse"], comparison.dataset["mcse"]).to_numpy()
    # Errors of a jackknife over 4 chains have 3 degrees of freedom: together, 18 of them are 15 % off.
    assert np.sqrt((apart**2).sum() / (error**2).sum()) < 2.5


def test_record(comparison):
    frame = comparison.frame()
    assert [*frame["elpd"]] == sorted(frame["elpd"], reverse=True) and frame["weight"].sum() == pytest.approx(1)
    assert {m.name for m in comparison.models} == {"power_law_offset · student_t", "power_law_offset · normal"}
    folds = comparison.folds()
    assert folds["runs"].sum() == 27 and len(folds) == 9
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert document["schema"] == "bayescale.compare/1" and document["later"]["runs"] == 6 == comparison.later[1]
    assert document["models"][0]["behind"] == 0 and document["models"][0]["error"] is None
    assert document["models"][1]["told_apart"] is False  # normal noise against Student-t on normal runs
    assert "do not tell" in comparison.lines()[0] and repr(comparison).startswith("<Comparison of 2 models")
    assert "<table" in comparison._repr_html_()
    ahead, error, simulated = comparison.difference(0, 1)
    assert comparison.difference(1, 0) == pytest.approx((-ahead, error, simulated), rel=1e-12)
    assert error > 0 and simulated > 0


def test_folds(ladder, world):
    assert folds_of(ladder).names == ("3e+12", "1e+13", "3e+13", "1e+14", "3e+14")
    assert folds_of(ladder, "params").label == "model size" and len(folds_of(ladder, "compute")) >= 5
    assert len(folds_of(sizes_world(2, levels=40, each=1), "params")) == 15
    sizes = np.bincount(folds_of(sizes_world(2, levels=40, each=1), "params").index)
    assert sizes.sum() == 40 and sizes.max() - sizes.min() <= 1
    with pytest.raises(bs.RunsError, match="sizes: no column 'parms'"):
        folds_of(world, "parms")
    with pytest.raises(bs.NotFittedFor, match="2 levels"):
        folds_of(world, "half")
    cut, later = later_runs(np.asarray([1.0, 2, 3, 4, 100]))
    assert cut == 40 and later.tolist() == [False] * 4 + [True]
    with pytest.raises(bs.NotFittedFor, match="no cut"):
        later_runs(np.asarray([1.0, 2, 3]), 0.5)


def test_what_cannot_be_compared(world, fits):
    with pytest.raises(bs.LawError, match="nothing to be compared with"):
        bs.compare(fits[:1])
    with pytest.raises(bs.LawError, match="nothing to be compared with"):
        bs.compare(world, [OFFSET])
    fewer = bs.fit_many(OFFSET, {"t": world.where("params < 5e9")}, noise="normal", group="none")["t"]
    with pytest.raises(bs.LawError, match="fit 1 has 27 rows of sizes, fit 2 has 24"):
        bs.compare([fits[0], fewer])
    with pytest.raises(bs.LawError, match="different responses"):
        bs.compare(world, [OFFSET, "power_law_offset:x=params,y=error"])
    with pytest.raises(bs.LawError, match="laws of their own"):
        bs.compare(fits, [OFFSET])
    with pytest.raises(bs.LawError, match="no law 'power_lw'"):
        bs.compare(world, [OFFSET, "power_lw"])


# Stacks


def test_stack_is_the_mixture(fits, tmp_path):
    made = bs.stack(fits, weights=[1, 3], seed=1)
    assert made.headline_source == "stack" and made.interval_kind() == "credible" and made.converged
    assert made.noise == "student_t + normal" and "nu" not in made.draws()
    shares = [int(own.sum()) for _, own in members_of(made)]
    assert shares == [400, 1200]
    for one, (part, _) in zip(fits, members_of(made), strict=True):
        assert {*part.draws()["alpha"]} <= {*one.draws()["alpha"]} and part.noise == one.noise
    mixture = np.concatenate([part.draws()["alpha"] for part, _ in members_of(made)])
    assert made.summary().loc["alpha", "median"] == pytest.approx(np.median(mixture))
    again = bs.stack(fits, weights=[1, 3], seed=1)
    assert np.array_equal(again.draws()["alpha"], made.draws()["alpha"])
    assert not np.array_equal(bs.stack(fits, weights=[1, 3], seed=2).draws()["alpha"], made.draws()["alpha"])
    whole = bs.forecast(made, inputs={"x": [1e11]})
    parts = [bs.forecast(p, inputs={"x": [1e11]}).dataset["new_group"].to_numpy() for p, _ in members_of(made)]
    assert np.sort(np.concatenate([p.ravel() for p in parts])) == pytest.approx(
        np.sort(whole.dataset["new_group"].to_numpy().ravel())
    )
    loaded = bs.load_fit(made.save(tmp_path / "stack.nc"))
    assert np.array_equal(bs.forecast(loaded, inputs={"x": [1e11]}).interval("new_group"), whole.interval("new_group"))
    document = fit_document(made)
    assert document["headline_source"] == "stack" and json.dumps(document, allow_nan=False)
    for question in (bs.audit, bs.examined, bs.stability, lambda f: bs.report(f, tmp_path / "kit")):
        with pytest.raises(bs.NotFittedFor, match="mixture of models"):
            question(made)


def test_stack_by_left_out_runs(fits, comparison):
    made = bs.stack(fits, comparison=comparison)
    weights = [m["weight"] for m in made.info["stack"]["members"]]
    assert weights == pytest.approx(comparison.weights) and made.info["stack"]["by"] == "stacking"


def test_what_cannot_be_stacked(world, fits):
    other = bs.fit_many(POWER, {"t": world}, noise="normal", group="none")["t"]
    with pytest.raises(bs.LawError, match="different laws") as caught:
        bs.stack([fits[0], other])
    assert "compare" in caught.value.remedy
    with pytest.raises(bs.LawError, match="at least two"):
        bs.stack(fits[:1])
    with pytest.raises(bs.LawError, match="one number a fit"):
        bs.stack(fits, weights=[1, -1])
    with pytest.raises(bs.LawError, match="stacked again"):
        bs.stack([bs.stack(fits, weights=[1, 1]), fits[0]], weights=[1, 1])
    silent = fits[1].with_info(headline_source="none")
    assert bs.stack([fits[0], silent], weights=[1, 1]).headline_source == "none"
    adjusted = fits[1].with_info(headline_source="sandwich")
    assert bs.stack([fits[0], adjusted], weights=[1, 1]).interval_kind() == "adjusted"


# The command line


def test_compare_command(world, tmp_path, capsys):
    path, picture = tmp_path / "runs.csv", tmp_path / "compare.png"
    world.frame.to_csv(path, index=False)
    arguments = ["compare", str(path), "--law", POWER, "--law", OFFSET, "--group", "none", "--loss-unit", "nats/token"]
    assert run([*arguments, "--out", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (
        document["schema"] == "bayescale.compare/1"
        and document["models"][0]["law"] == "power_law_offset:x=params,y=loss"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run([*arguments, "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "predicts left-out runs better than power_law, by" in told and "9 folds" in told
    assert run([*arguments, "--out", str(picture)]) == 2
    assert run([*arguments, "--out", "runs.txt"]) == 2
    assert run(["compare", str(path), "--law", POWER, "--json"]) == 2
    assert "nothing to be compared" in json.loads(capsys.readouterr().out)["message"]


def test_every_row_is_left_out_once():
    """Sizes whose compute differs in the fourth digit, and labels that are names of other tables."""
    rng = np.random.default_rng(0)
    C = np.repeat(np.geomspace(1e18, 1e20, 5), 12) * (1 + 0.003 * rng.uniform(size=60))
    N = np.sqrt(C / 120) * np.tile(np.geomspace(0.25, 4, 12), 5)
    table = {"params": N, "tokens": C / 6 / N, "flops": C, "loss": 2 + (N / 1e9) ** -0.3}
    kinds = np.resize(["all runs", "later runs", "b", "b #2"], 60)
    runs = Runs(pd.DataFrame({**table, "kind": kinds}), "ladder", "nats/token")
    for over in ("compute", "budget", "kind"):
        folds = folds_of(runs, over)
        assert len(set(folds.names)) == len(folds) == len(folds.held())
        assert (np.sum([*folds.held().values()], axis=0) == 1).all()
    assert folds.names == ("all runs #2", "b", "b #2", "later runs #2")
    assert distinct_names(np.array([1e18, 3.161e18, 3.164e18])) == ["1e+18", "3.161e+18", "3.164e+18"]
