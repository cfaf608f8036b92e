"""Many tables at once: each result is that of its own table, certified or marked."""

import json

import jax
import numpy as np
import pytest
from worlds import chinchilla_world, mcse_distance

import bayescale as bs
from bayescale.batch import ladder
from bayescale.batch.certifying import certified
from bayescale.batch.chunks import Chunk, _kept, in_chunks
from bayescale.batch.preparing import prepare
from bayescale.batch.storing import selected
from bayescale.laws import find_law
from bayescale.model import double_precision, forget_programs, programs
from bayescale.posterior import model_of
from bayescale.sampling.ensemble import CHAINS, DRAWS, TRAJECTORY, WARMUP, _descend, _lengths

OPTIONS = dict(noise="student_t", group="none", fix=None, tie=(), priors={}, references=None)


@pytest.fixture(scope="module")
def tables():
    small = {f"small-{k}": chinchilla_world(24, 900 + k) for k in range(6)}
    return small | {"larger": chinchilla_world(40, 950)}


@pytest.fixture(scope="module")
def batch(tables):
    bad = {"params": [1e8, 2e8], "tokens": [1e10, 2e10], "loss": [float("nan"), 2.5]}
    with pytest.warns(bs.NotConverged, match="1 of 8 tables are not certified \\(bad\\)"):
        return bs.fit_many("chinchilla", {**tables, "bad": bad}, seed=4, group="none", flops=[1e22], progress=False)


def test_a_bad_table_costs_only_itself(batch, tables):
    assert batch.certified == tuple(tables)
    assert batch.status.loc["bad", "status"] == "failed"
    assert "row 1" in batch.status.loc["bad", "sentence"] and "BS-R001" in batch.status.loc["bad", "sentence"]
    with pytest.raises(bs.FitError, match="BS-R001"):
        batch["bad"]
    with pytest.raises(bs.FitError) as caught:
        batch["smal-0"]
    assert "small-0" in caught.value.remedy


def test_draws_depend_on_the_table_alone(batch, tables):
    alone = bs.fit_many("chinchilla", {"another name": tables["small-3"]}, seed=4, group="none", flops=[1e22])
    for name in ("E", "A", "alpha", "a", "nu"):
        one, other = (np.asarray(f.tree["posterior"][name]) for f in (alone["another name"], batch["small-3"]))
        assert np.array_equal(one, other)
    other_seed = bs.fit_many("chinchilla", {"x": tables["small-3"]}, seed=5, group="none")
    assert not np.array_equal(other_seed["x"].draws()["E"], batch["small-3"].draws()["E"])


@pytest.mark.parametrize("name", ["small-0", "larger"])
def test_agrees_with_a_single_fit(batch, tables, name):
    single = bs.fit("chinchilla", tables[name], seed=11, group="none")
    for quantity in single.quantities():  # 12 quantities, 2 tables: exceeding 4.5 errors by chance is < 1e-3
        assert mcse_distance(batch[name], single, quantity) < 4.5, quantity
        one, other = batch[name].quantities()[quantity], single.quantities()[quantity]
        size = min(one.ess_tail, 400)
        assert abs(np.log(one.sd / other.sd)) < 4.5 * np.sqrt(4 / size), quantity  # heavy tails: twice the normal's


def test_certificates_are_those_of_arviz(batch):
    import arviz

    from bayescale.diagnostics import check_draws

    for name in batch.certified:
        certificate = {f.code: f.value for f in bs.check(batch[name])}
        assert certificate["r-hat"] <= 1.01 and certificate["ess-bulk"] >= 400 and certificate["ess-tail"] >= 400
        assert batch.status.loc[name, "r_hat"] == certificate["r-hat"]
        drawn = batch[name].tree["headline"].to_dataset()
        kept = {str(n): np.asarray(v) for n, v in drawn.data_vars.items()}
        found = {f.code: f.value for f in check_draws(kept, batch[name].tree["sample_stats"].to_dataset(), ess=400)}
        assert float(arviz.rhat(drawn).to_array().max()) == pytest.approx(found["r-hat"], abs=1e-8)
        assert float(arviz.ess(drawn).to_array().min()) == pytest.approx(found["ess-bulk"], rel=1e-8)
        if batch.status.loc[name, "rung"] == "ensemble 1":  # kept as they ran; N_opt at the budget counts there too
            assert certificate["r-hat"] >= found["r-hat"] - 1e-12


def test_verbs_answer_for_every_certified_table(batch):
    answers = bs.allocate(batch, [1e21, 1e22])
    assert set(answers) == set(batch.certified) and "BS-R001" in answers.left_out["bad"]
    one = bs.allocate(batch["larger"], [1e21, 1e22])
    assert np.array_equal(answers["larger"].interval("params"), one.interval("params"))
    frame = answers.frame()
    assert set(frame["dataset"]) == set(batch.certified) and len(frame) == 7 * len(one.frame())
    assert answers.dataset["params"].sizes["dataset"] == 7
    assert json.loads(json.dumps(answers.to_json()))["larger"][0]["flops"] == 1e21
    assert set(bs.forecast(batch, N=1e9, D=1e10)) == set(batch.certified)
    summary = batch.summary()
    assert summary.loc[("small-1", "a"), "median"] == batch["small-1"].summary().loc["a", "median"]


def test_saved_and_loaded(batch, tmp_path):
    path = batch.save(tmp_path / "batch.nc")
    again = bs.load_fit(path)
    assert isinstance(again, bs.Batch) and again.certified == batch.certified
    assert again.summary().equals(batch.summary())
    assert again.status["sentence"].equals(batch.status["sentence"])
    assert np.array_equal(again["larger"].runs.values("loss"), batch["larger"].runs.values("loss"))
    with pytest.raises(bs.FitError, match="exists"):
        batch.save(path)


def test_one_table_can_be_examined(batch):
    fit = bs.examined(batch["larger"])
    assert fit.audit and {"log_likelihood", "posterior_predictive"} <= set(fit.tree.children)
    one, other = fit.summary().loc["a"], batch["larger"].summary().loc["a"]
    assert one["model_lower"] == other["model_lower"]  # the headline may have been widened
    assert bs.examined(fit) is fit


def test_every_table_can_be_examined(batch, tables, tmp_path):
    shares = []
    whole = bs.examined(batch, workers=2, progress=lambda share, doing: shares.append(share))
    assert whole.examined and not batch.examined and shares[-1] == 1.0 and len(shares) == len(tables)
    assert bs.examined(whole).info["datasets"] == whole.info["datasets"]
    one, other = whole["larger"], bs.examined(batch["larger"])
    assert one.audit == other.audit and one.verdict == other.verdict and one.headline_source == other.headline_source
    assert np.array_equal(one.draws()["a"], other.draws()["a"])
    again = bs.load_fit(whole.save(tmp_path / "examined.nc"))
    assert isinstance(again, bs.Batch) and again.examined and again.summary().equals(whole.summary())
    for name in tables:
        fit, row = whole[name], whole.status.loc[name]
        alarms = [f.code for f in fit.audit if f.status == "fail"]
        assert row["verdict"] == fit.verdict.status and row["headline"] == fit.headline_source
        assert row["alarms"] == ", ".join(alarms) and (fit.headline_source == "posterior") == (not alarms)
        assert set(whole.summary().loc[name, "headline"]) == {fit.headline_source}
        shown, own = fit.summary().loc["a"], whole.summary().loc[(name, "a")]
        assert all(shown[c] == own[c] for c in ("lower", "upper", "model_lower", "model_upper", "r_hat"))
    assert whole.status.loc["bad", ["verdict", "alarms", "headline"]].isna().all()
    frame = bs.check(whole).frame()
    assert len(frame) == 5 * len(tables) and frame["headline"].isin(["posterior", "sandwich", "none"]).all()


def test_an_examination_that_fails_costs_only_its_table(batch, monkeypatch):
    from bayescale import inference

    examine = inference.examine

    def broken(model, *rest, **more):
        if len(model.runs) == 40:
            raise FloatingPointError("no curvature")
        return examine(model, *rest, **more)

    monkeypatch.setattr(inference, "examine", broken)
    whole = bs.examined(selected(batch, ["small-0", "larger"]), progress=False)
    assert whole.status.loc["larger", "headline"] == "none" and whole.status.loc["larger", "alarms"] == "not-examined"
    assert "no curvature" in whole["larger"].verdict.lines[0] and whole["small-0"].audit[0].code != "not-examined"


def test_groups_of_different_sizes_share_a_program(tmp_path):
    sizes = {"twelve": 12, "nine": 9}
    tables = {n: chinchilla_world(60, 700 + k, groups=[("recipe", k, 3.0)]) for n, k in sizes.items()}
    batch = bs.fit_many("chinchilla", tables, seed=0, group=["recipe"])
    assert batch.converged and batch.tree["posterior"]["u_recipe"].shape[-1] == 12
    for name, levels in sizes.items():
        effects = batch[name].tree["posterior"]["u_recipe"]
        assert effects.sizes["level_recipe"] == levels and np.isfinite(effects).all()
    single = bs.fit("chinchilla", tables["nine"], seed=5, group=["recipe"])
    for quantity in single.quantities():
        assert mcse_distance(batch["nine"], single, quantity) < 4.5, quantity
    again = bs.load_fit(batch.save(tmp_path / "groups.nc"))
    assert again["nine"].tree["posterior"]["u_recipe"].equals(batch["nine"].tree["posterior"]["u_recipe"])


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_side_by_side_as_an_accelerator_samples(tables, monkeypatch, precision):
    """Lanes of one program, a last chunk that is not full, checks where the draws lie: the certificates of the host."""
    monkeypatch.setattr(ladder, "lanes_for", lambda task: 3)
    few = {n: tables[n] for n in [*tables][:5]}
    forget_programs()
    found = bs.fit_many("chinchilla", few, seed=4, group="none", flops=[1e22], precision=precision)
    first = found.status.index[found.status["rung"] == "ensemble 1"]
    assert len(found.certified) == len(few) and len(first)
    first_leaves = [full[2][0] for full in programs._programs if full[0][0] == "certificate"]
    once = [leaf for leaf in first_leaves if leaf[0][:3] == (3, CHAINS, DRAWS)]
    assert once and len({*once}) == len(once)  # what was compiled ahead is what was used
    for name in first:
        tree, told = found[name].tree, found.info["datasets"][name]["checks"]
        drawn = {str(n): np.asarray(v) for n, v in tree["posterior"].to_dataset().data_vars.items()}
        stats = {str(n): np.asarray(v) for n, v in tree["sample_stats"].to_dataset().data_vars.items()}
        own = certified(model_of(found[name]), drawn, stats, [1e22]).findings(0)
        assert [f.message for f in own] == [f["message"] for f in told if f["code"] != "precision"]


def test_the_search_finds_the_mode_and_its_curvature():
    """Of a bowl of five coordinates, searched from four points: twice five slopes are no whole number of passes."""
    rng = np.random.default_rng(0)
    mode, begin = rng.standard_normal(5), rng.standard_normal((4, 5))
    axes = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    bend = axes * [1.0, 3.0, 10.0, 30.0, 100.0] @ axes.T

    def potential(x):
        return 0.5 * ((x - mode) @ bend * (x - mode)).sum(axis=1), (x - mode) @ bend

    with double_precision():
        search = jax.jit(lambda x, curved: _descend(potential, x, np.ones(5), curved))
        points, values, gradients, curvature = search(begin, True)
        same, _, fewer, none = search(begin, False)
    # Slopes end below 1e-2, and the least curvature is 1.
    np.testing.assert_allclose(points, np.tile(mode, (4, 1)), atol=0.03)
    np.testing.assert_allclose(values, 0, atol=1e-3)
    np.testing.assert_allclose(curvature, bend, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(same, points)
    assert int(gradients) - int(fewer) == 3 * 4 and not np.asarray(none).any()


def test_tables_side_by_side_take_trajectories_of_one_length(batch):
    """Gradients at a draw differ with a table's step size alone: lanes that drew their own lengths would wait more."""
    plan, lengths = ladder.RUNGS[0].few, _lengths(WARMUP + DRAWS)
    begun = sum(plan.phases)
    first = batch.status.index[batch.status["rung"] == "ensemble 1"]
    assert len(first) > 1
    for name in first:
        stats = batch[name].tree["sample_stats"]
        steps = 2 * np.clip(
            np.round(lengths[begun : begun + DRAWS] / stats["step_size"].values[0]), 1, plan.longest / 2
        )
        np.testing.assert_array_equal(stats["n_steps"].values[0], steps)
    spread = np.sort(lengths[begun : begun + DRAWS]) / TRAJECTORY - 0.5
    assert np.abs(spread - np.arange(DRAWS) / DRAWS).max() < 4 / DRAWS  # random ones: about 16 / DRAWS


def test_tables_of_one_design_are_examined_once(tables):
    """What is remembered of a design gives the very task that the table alone gives."""
    law, designs = find_law("chinchilla"), {}
    base = tables["small-0"]
    other = base.with_columns({"loss": base.values("loss") * 1.01})
    held = np.arange(len(base)) < 3
    for table, out in ((base, None), (other, None), (base, held), (other, held), (tables["small-1"], None)):
        task, alone = (prepare("x", table, law, 4, (), OPTIONS, (), out, d) for d in (designs, None))
        assert task.fingerprint == alone.fingerprint and task.design.shape == alone.design.shape
        assert task.design.findings == alone.design.findings
        assert task.sha256 == task.model.runs.sha256 == alone.model.runs.sha256
        assert task.model.options == alone.model.options
        (own, fresh) = (next(iter(t.padded.data["responses"].values())) for t in (task, alone))
        for name, leaf in own.items():
            np.testing.assert_array_equal(leaf, fresh[name])
    assert len(designs) == 3


def test_single_precision(tables):
    law = find_law("chinchilla")
    means = {}
    for name, table in {"quiet": chinchilla_world(24, 33, sigma=2e-4), "loud": tables["small-1"]}.items():
        task = prepare(name, table, law, 4, (), OPTIONS)
        for precision in ("float32", "float64"):
            chunk = Chunk([task], 1, precision)
            drawn = chunk.drawn(chunk.sample(ladder.RUNGS[0].plan), [(1e22,)])
            status = {f.code: f.status for f in drawn.certificates.findings(0)}
            alpha = drawn.values["alpha"]
            means[precision] = alpha.mean(), alpha.std() / 20  # 400 effective draws
            if precision == "float32":
                assert drawn.flat.dtype == np.float32
                assert status["precision"] == ("fail" if name == "quiet" else "pass")
    (one, error), (other, _) = means["float32"], means["float64"]
    assert abs(one - other) < 4.5 * np.sqrt(2) * error


def test_faults_of_the_law_are_raised():
    table = chinchilla_world(24, 1)
    with pytest.raises(bs.LawError, match="no law"):
        bs.fit_many("chinchila", {"x": table})
    with pytest.raises(bs.LawError, match="no noise"):
        bs.fit_many("chinchilla", {"x": table}, noise="cauchy")
    with pytest.raises(bs.LawError, match="precision"):
        bs.fit_many("chinchilla", {"x": table}, precision="half")
    with pytest.raises(bs.BayescaleError, match="no tables"):
        bs.fit_many("chinchilla", {})


def test_kept_draws_of_more_chains_lie_in_halves():
    x = np.arange(8 * 800.0).reshape(1, 8, 800)
    (kept,) = _kept(x)
    assert kept.shape == (CHAINS, DRAWS)
    assert set(kept[0, :200] // 800) == {0.0} and set(kept[0, 200:] // 800) == {1.0}  # split R-hat sees both chains


def test_a_store_goes_on_where_it_stopped(tables, tmp_path, monkeypatch):
    from bayescale.batch import fitting

    names = [n for n in tables if n != "larger"]
    monkeypatch.setattr(fitting, "BLOCK", 2)
    first = bs.fit_many("chinchilla", {n: tables[n] for n in names[:3]}, seed=4, group="none", store=tmp_path / "store")
    assert sorted(f.name for f in (tmp_path / "store").iterdir()) == ["part-0000.nc", "part-0001.nc"]
    sampled = []
    climb = fitting.climb
    monkeypatch.setattr(fitting, "climb", lambda tasks, **k: sampled.extend(t.name for t in tasks) or climb(tasks, **k))
    changed = {**{n: tables[n] for n in names[:4]}, names[0]: tables["small-5"]}
    second = bs.fit_many("chinchilla", changed, seed=4, group="none", store=tmp_path / "store")
    assert sampled == [names[0], names[3]] and second.names == tuple(changed)  # what changed, and what is new
    assert np.array_equal(second[names[1]].draws()["a"], first[names[1]].draws()["a"])
    assert not np.array_equal(second[names[0]].draws()["a"], first[names[0]].draws()["a"])
    with pytest.raises(bs.FitError, match="is of the law 'chinchilla', not of 'power_law'"):
        bs.fit_many("power_law", {"x": tables["small-0"]}, store=tmp_path / "store")


def test_tables_with_and_without_groups_join(tables, tmp_path, monkeypatch):
    from bayescale.batch import fitting

    monkeypatch.setattr(fitting, "BLOCK", 1)
    grouped = chinchilla_world(60, 709, groups=[("recipe", 9, 3.0)])
    batch = bs.fit_many("chinchilla", {"plain": tables["small-0"], "grouped": grouped}, store=tmp_path / "parts")
    assert batch.converged and "tau_recipe" not in batch["plain"].quantities()
    assert "tau_recipe" in batch["grouped"].quantities() and np.isfinite(batch.summary()["mean"]).all()
    assert batch["plain"].tree["unconstrained_posterior"].sizes["coordinate"] == 7


def test_command_line(tables, tmp_path, capsys):
    from bayescale.cli import run

    files = []
    for name in ("small-0", "small-1"):
        files.append(str(tmp_path / f"{name}.csv"))
        tables[name].frame.to_csv(files[-1], index=False)
    (tmp_path / "bad.csv").write_text("params,tokens\n1,2\n3,4\n")
    store = str(tmp_path / "store")
    assert run(["batch", *files, str(tmp_path / "bad.csv"), "--group", "none", "--store", store, "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "bayescale.batch/1" and document["certified"] == 2
    assert {t["status"] for t in document["tables"].values()} == {"certified", "failed"}
    assert document["tables"][files[0]]["quantities"]["a"]["r_hat"] < 1.01
    assert run(["batch", *files, "--group", "none", "--store", store]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(["batch", *files, "--group", "none", "--store", store, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "2 certified" in shown and "as honest as the model" in shown
    assert run(["batch", *files, "--group", "none", "--store", store, "--resume", "--examine"]) == 0
    assert "Verdicts of the 2 certified" in capsys.readouterr().out
    assert (tmp_path / "store" / "summary.csv").read_text().startswith("dataset,quantity,certified,mean")


def test_a_table_split_by_a_column(tables, tmp_path, capsys):
    import pandas as pd

    from bayescale.cli import run

    parts = [tables[n].frame.assign(task=n) for n in ("small-0", "small-2")]
    pd.concat(parts).to_csv(tmp_path / "all.csv", index=False)
    assert run(["batch", str(tmp_path / "all.csv"), "--by", "task", "--group", "none", "--quiet"]) == 0
    assert "small-2" in capsys.readouterr().out


def test_a_number_that_is_not_one_is_never_certified(tables):
    task = prepare("x", tables["small-0"], find_law("chinchilla"), 4, (), OPTIONS)
    chunk = Chunk([task], 1, "float64")
    found = chunk.sample(ladder.RUNGS[0].few)
    found["values"]["B"] = np.array(found["values"]["B"])
    found["values"]["B"][1, 7] = np.nan
    checks = chunk.drawn(found, [()]).certificates.findings(0)
    assert any("(B)" in f.message for f in checks if f.status == "fail")


def test_whatever_goes_wrong_with_one_table_costs_only_itself(tables, monkeypatch):
    sample = Chunk.sample

    def broken(self, *rest):
        if self.tasks[0].name == "small-1":
            raise FloatingPointError("no density anywhere")
        return sample(self, *rest)

    monkeypatch.setattr(Chunk, "sample", broken)
    monkeypatch.setattr(ladder, "RUNGS", ladder.RUNGS[:1])
    with pytest.warns(bs.NotConverged):
        found = bs.fit_many("chinchilla", {n: tables[n] for n in ("small-0", "small-1")}, seed=4, group="none")
    assert found.certified == ("small-0",) and found.status.loc["small-1", "status"] == "failed"
    assert "no density anywhere" in found.status.loc["small-1", "sentence"]


def test_nothing_to_fit(tmp_path):
    bad = {"params": [1e8, 2e8], "tokens": [1e10, 2e10], "loss": [float("nan"), 2.5]}
    with pytest.warns(bs.NotConverged):
        found = bs.fit_many("chinchilla", {"bad": bad}, store=tmp_path / "store")
    assert found.names == () and len(bs.allocate(found, [1e21])) == 0 and len(found.status) == 1


def test_another_unit_or_question_is_fitted_again(tables, tmp_path):
    from dataclasses import replace

    table = tables["small-0"]
    prints = {
        prepare("x", t, find_law("chinchilla"), 4, (), OPTIONS, asked).fingerprint
        for t, asked in ((table, ()), (replace(table, loss_unit="bits/token"), ()), (table, (0.9,)))
    }
    assert len(prints) == 3


def test_any_executor_can_fit_parts_elsewhere(batch, tables, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from bayescale.batch import fitting

    monkeypatch.setattr(fitting, "BLOCK", 2)
    names = ["small-0", "small-1", "small-2"]
    with ThreadPoolExecutor(2) as pool:
        found = bs.fit_many("chinchilla", {n: tables[n] for n in names}, seed=4, group="none", client=pool)
    assert found.names == tuple(names) and found.converged
    for name in names:
        assert np.array_equal(found[name].draws()["a"], batch[name].draws()["a"])


def test_axes_of_different_lengths_are_each_table_s_own():
    import pandas as pd

    def mixture(parts, seed):
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet(np.ones(parts), 60)
        loss = 2.0 + np.exp(-1 + shares @ np.linspace(-1, 1, parts)) + 0.01 * rng.standard_normal(60)
        columns = {**{f"w_{k}": shares[:, k] for k in range(parts)}, "loss": loss}
        return bs.Runs(pd.DataFrame(columns, index=pd.RangeIndex(1, 61, name="row")), f"{parts} parts")

    batch = bs.fit_many("data_mixing", {"three": mixture(3, 1), "four": mixture(4, 2)}, group="none", progress=False)
    for name, parts in (("three", 3), ("four", 4)):
        vectors = [v for v in batch[name].tree["posterior"].data_vars.values() if v.ndim == 3]
        assert vectors and all(v.shape[-1] == parts and np.isfinite(v).all() for v in vectors)


@pytest.mark.parametrize(
    "count, lanes, widths",
    [
        (8000, 2048, [2048, 2048, 2048, 2048]),
        (2100, 2048, [2048, 256]),
        (160, 2048, [256]),
        (257, 2048, [2048]),
        (5, 4, [4, 1]),
        (3, 1, [1, 1, 1]),
        (0, 2048, []),
    ],
)
def test_few_tables_take_a_program_of_fewer_lanes(count, lanes, widths):
    made = in_chunks(range(count), lanes)
    assert [width for width, _ in made] == widths
    assert [k for _, some in made for k in some] == [*range(count)] and all(len(some) <= w for w, some in made)
