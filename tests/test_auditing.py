"""The audit's tables, windows of compute, and judgements of published intervals."""

import json
import warnings

import numpy as np
import pytest
from worlds import chinchilla_world

import bayescale as bs
from bayescale.cli import run


@pytest.fixture(scope="module")
def grouped_fit():
    """160 runs of 16 model sizes that share an effect of the size of the noise."""
    runs = chinchilla_world(160, 11, sigma=0.005, tails=30)
    rng = np.random.default_rng(0)
    N = np.geomspace(5e7, 1e10, 16)[np.arange(160) % 16]
    D = runs.values("flops") / 6 / N
    loss = 1.8172 + 482.01 * N**-0.3478 + 2085.43 * D**-0.3658
    effect = 0.005 * rng.standard_normal(16)[np.arange(160) % 16]
    loss = loss * np.exp(effect + 0.005 * rng.standard_normal(160))
    return bs.fit("chinchilla", runs.with_columns({"params": N, "tokens": D, "loss": loss}), seed=0)


def test_the_audit_survives_the_file(grouped_fit, tmp_path):
    loaded = bs.load_fit(grouped_fit.save(tmp_path / "fit.nc"))
    one, other = bs.audit(grouped_fit, ["a"]), bs.audit(loaded, ["a"])
    assert one.to_json() == other.to_json()
    json.dumps(one.to_json(), allow_nan=False)
    assert set(one.left_out["grouping"]) >= {"row", "params", "band of compute"}
    assert len(one.left_out.query("grouping == 'params'")) == 16


def test_leaving_out_a_size_is_fitting_without_it(grouped_fit):
    """The moves of the audit against a fit by NUTS of the other 150 rows, in posterior sds."""
    runs = grouped_fit.runs
    told = bs.audit(grouped_fit, ["a"]).left_out.query("grouping == 'params'")
    row = told.loc[told["sds"].abs().idxmax()]
    keep = np.array([f"{n:.6g}" != row["cluster"] for n in runs.values("params")])
    assert keep.sum() == 150
    again = bs.fit("chinchilla", runs.take(keep), seed=0, references=grouped_fit.references)
    draws = grouped_fit.draws("posterior")["a"]
    moved = (np.median(again.draws("posterior")["a"]) - np.median(draws)) / draws.std()
    assert moved == pytest.approx(row["sds"], abs=0.35)  # noise and spreads are fitted anew, by the sampler alone


def test_windows_agree_where_one_law_holds(grouped_fit):
    table = bs.stability(grouped_fit, ["a"]).frame()
    assert set(table["window"]) == {"up to", "from"}
    whole = table.loc[table["runs"].idxmax(), "value"]
    assert (np.abs(table["value"] - whole) < 4 * table["sd"]).all()
    assert table.loc[table["runs"].idxmin(), "sd"] > table.loc[table["runs"].idxmax(), "sd"]


def test_more_rows_of_the_same_sizes_stop_helping(grouped_fit):
    now = grouped_fit.quantities()["a"]
    width = now.upper - now.lower
    half = bs.runs_needed(grouped_fit, "a", width=width / 2)
    assert half.rows == 160 and half.width == pytest.approx(width)
    assert half.new_groups == pytest.approx(640)
    assert half.same_groups is None or half.same_groups > 3 * half.new_groups
    tiny = bs.runs_needed(grouped_fit, "a", width=width / 1000)
    assert tiny.same_groups is None and "No number of runs in the same model sizes" in tiny.sentence
    assert tiny.limit > width / 1000
    assert bs.runs_needed(grouped_fit, "a", width=2 * width).same_groups == 160
    with pytest.raises(bs.LawError):
        bs.runs_needed(grouped_fit, "a", width=0)
    with pytest.raises(bs.LawError, match="no quantity 'aa'"):
        bs.runs_needed(grouped_fit, "aa", width=0.1)


def test_without_groups_rows_are_runs():
    fit = bs.fit("chinchilla", chinchilla_world(200, 4), group="none")
    needed = bs.runs_needed(fit, "a", width=(fit.quantities()["a"].upper - fit.quantities()["a"].lower) / 2)
    assert needed.same_groups == pytest.approx(needed.new_groups, rel=0.05)  # the prior says a little


def test_the_original_interval_implies_600000_runs():
    """Besiroglu et al. (2024), notebook: 240 * (.0514 / .001)^2, printed there as 634,773 from more digits."""
    made = bs.judge((0.454, 0.455), 240, prob=0.8, width=0.0514)
    assert made.implied_runs == pytest.approx(634_773, rel=0.002)
    rounded = dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    exact = dict(E=1.6934, A=406.4, B=410.7, alpha=0.33917084, beta=0.2849083)
    told = bs.judge((0.454, 0.455), 240, prob=0.8, printed=rounded, unrounded=exact).rounding
    assert told["unrounded"] == pytest.approx(40.3e9, rel=0.01)
    assert told["printed"] == pytest.approx(32.2e9, rel=0.01)


def test_commands(grouped_fit, tmp_path, capsys):
    from bayescale.tables import write_folder

    folder = str(write_folder(grouped_fit, tmp_path / "fit"))
    assert run(["audit", folder, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "bayescale.audit/1" and document["stability"]
    assert run(["audit", folder]) == 0
    said = capsys.readouterr().out
    assert "without one model size" in said and "from part of the runs" in said
    assert run(["judge", "--interval", ".454", ".455", "--rows", "240", "--width", ".0514", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["implied_runs"] == pytest.approx(634_070.4)
    assert run(["judge", "--interval", ".454", ".455", "--rows", "240", "--fit", folder]) == 0
    assert "would have needed about" in capsys.readouterr().out
    assert run(["judge", "--interval", ".5", ".4", "--rows", "240"]) == 2


def test_other_noises_are_set_beside_the_fit(plain_fit):
    made = bs.specifications(plain_fit, ["a"], progress=False)
    table = made.frame().set_index("noise")
    assert list(table.index) == [*bs.NOISES] and table["certified"].all()
    assert (
        table.loc["student_t", "median"] == np.median(plain_fit.draws("posterior")["a"]) and table["fitted"].sum() == 1
    )
    normal = bs.fit("chinchilla", plain_fit.runs, noise="normal", group="none", seed=3, references=plain_fit.references)
    a = normal.draws("posterior")["a"]
    # Medians of at least 400 and 1,000 effective draws: 4.5 joint errors, exceeded by chance 7 in a million times.
    error = 1.25 * a.std() * np.hypot(1 / np.sqrt(400), 1 / np.sqrt(1000))
    assert abs(table.loc["normal", "median"] - np.median(a)) < 4.5 * error
    import arviz

    with warnings.catch_warnings():  # one run's shape, 0.5 to 0.7, lies beyond ArviZ's limit for some draws
        warnings.filterwarnings("ignore", "Estimated shape parameter")
        examined = arviz.loo(bs.examined(normal).tree, var_name="loss")
    assert table.loc["normal", "elpd"] == pytest.approx(float(examined.elpd), abs=0.3)
    assert made.finding.code == "model-choice" and made.to_json()["specifications"][0]["comparable"] in (True, False)
    with pytest.raises(bs.LawError, match="no quantity"):
        bs.specifications(plain_fit, ["alhpa"])


def test_where_the_exponents_are_tied_the_windows_follow_the_parameters(ladder):
    fit = bs.fit("chinchilla", ladder, seed=0, group="none", noise="normal", tie=[("alpha", "beta")], draws=300)
    assert {"E", "alpha"} <= set(bs.stability(fit).frame()["quantity"])
    assert set(bs.audit(fit).left_out["quantity"]) == set(bs.stability(fit).quantities)


def test_a_prior_against_the_runs_is_told():
    """A true exponent of .3 against a prior at .8 ± .02, and the same runs under the law's own prior."""
    x = np.geomspace(1e6, 1e9, 24)
    loss = (2 + 3 * (x / 1e7) ** -0.3) * np.exp(0.01 * np.random.default_rng(3).standard_normal(24))
    runs = bs.read_runs({"params": x, "loss": loss}, loss_unit="nats/token")
    found = {}
    for name, priors in (("own", {}), ("tight", {"alpha": "normal(.8,.02)"})):
        fit = bs.fit("power_law_offset:x=params", runs, seed=0, group="none", chains=2, draws=300, priors=priors)
        (found[name],) = (f for f in fit.audit if f.code == "prior-conflict")
    assert found["own"].status == "pass" and found["tight"].status == "warn"
    assert "alpha: 0.8 in the prior's middle" in found["tight"].message and "--prior" in found["tight"].message
    assert found["tight"].value > found["tight"].threshold > found["own"].value


def test_a_spread_of_groups_far_beyond_its_prior_is_told():
    """Effects of sizes ten times the noise, where their prior says about as large."""
    rng = np.random.default_rng(11)
    x = np.repeat(np.geomspace(1e6, 1e9, 12), 8)
    y = np.tile(np.geomspace(1e8, 1e11, 8), 12)
    effect = np.repeat(0.01 * rng.standard_normal(12), 8)
    loss = (1.8 + 0.6 * (x / 3e7) ** -0.35 + 0.5 * (y / 3e9) ** -0.35) * np.exp(
        effect + 0.001 * rng.standard_normal(96)
    )
    fit = bs.fit("chinchilla", bs.read_runs({"params": x, "tokens": y, "loss": loss}), noise="normal", draws=300)
    (found,) = (f for f in fit.audit if f.code == "prior-conflict")
    assert found.status == "warn" and "tau_params_ratio: 0.674 in the prior's middle" in found.message
