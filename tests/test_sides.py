"""What belongs to a table stays with it: its unit, references, columns' names, held-out rows; in batches, in files."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from test_targets import stand_in
from worlds import chinchilla_world

import bayescale as bs
from bayescale.batch.preparing import prepare
from bayescale.batch.storing import Store
from bayescale.cli import run
from bayescale.inference import priors_of
from bayescale.law import parse_prior
from bayescale.laws import find_law
from bayescale.model.observing import checkpoints_of
from bayescale.narrowness import clusters_of
from bayescale.posterior import model_of
from bayescale.verdicts import header_of

OPTIONS = dict(noise="student_t", group="none", fix=None, tie=(), priors={}, references=None)


def curve(low, high, unit="nats/token"):
    """Forty runs of one power law above a floor, in either unit."""
    x = np.geomspace(low, high, 40)
    loss = 2.0 + 0.3 * (x / 1e9) ** -0.25
    noise = 0.001 * np.random.default_rng(int(x[0])).standard_normal(40)
    per_nat = 1.0 if unit == "nats/token" else 1 / np.log(2)
    return bs.read_runs({"params": x, "loss": per_nat * loss * np.exp(noise)}, loss_unit=unit)


def test_recipes_of_a_batch_keep_their_references_and_their_units():
    """One curve seen over two ranges, whose references differ, needs the same compute; nats are not bits."""
    tables = {"small": curve(1e7, 1e9), "large": curve(1e8, 1e10), "bits": curve(1e8, 1e10, "bits/token")}
    batch = bs.fit_many("power_law_offset:x=params", tables, group="none", progress=False)
    assert batch["small"].references != batch["large"].references
    made = bs.multiplier(batch, ("small", "large"), [1e9])
    _, low, high = made.interval(0)[:, 0]
    assert 0.8 < low < high < 1.25 and made.kind == "credible"
    with pytest.raises(bs.NotFittedFor, match="small in nats/token, bits in bits/token"):
        bs.multiplier(batch, ("small", "bits"), [1e9])


def test_rows_held_out_are_named_by_their_table_and_never_examined():
    table = chinchilla_world(24, 901)
    held = np.arange(24) >= 20
    with pytest.raises(bs.LawError, match="no table of this batch"):
        bs.fit_many("chinchilla", {"one": table}, held_out={"two": held})
    with pytest.warns(bs.NotConverged):
        short = bs.fit_many("chinchilla", {"one": table}, held_out={"one": held[:5]}, progress=False)
    assert "which of 24 rows are held out" in short.status.loc["one", "sentence"]
    by_number = bs.fit_many("chinchilla", {0: table}, group="none", held_out={0: held}, progress=False)
    assert by_number["0"].info["options"]["held_out"] == list(table.rows[20:])
    with pytest.raises(bs.NotFittedFor, match="held out"):
        bs.examined(by_number)


def test_columns_keep_their_names_in_files_and_simulations(tmp_path):
    """Which of N, D and C follows from the others decides what an error of one moves: files must know."""
    world = chinchilla_world(24, 902)
    columns = {"N": world.values("params"), "C": world.values("flops"), "final loss": world.values("loss")}
    runs = bs.read_runs({**columns, "N_se": 0.05 * world.values("params")}, columns={"params_se": "N_se"})
    fit = stand_in("chinchilla", runs)
    simulated = bs.simulate("chinchilla", runs, tables=1, group="none").tables["simulated-0"]
    moved = (("params", (("N", 1.0), ("D", -1.0))),)
    for one in (fit, bs.load_fit(fit.save(tmp_path / "one.nc"))):
        assert model_of(one).structure.observing.moved == moved
        assert one.runs.assumptions[: len(runs.assumptions)] == runs.assumptions
        assert one.runs.resolve("final loss") == "loss"
    assert bs.build_model("chinchilla", simulated, group="none").structure.observing.moved == moved
    assert (tmp_path / "one.nc").stat().st_mode & 0o044, "colleagues may read it"


def test_numbers_beside_another_table_s_text_stay_numbers(tmp_path):
    numbers, words = chinchilla_world(36, 903), chinchilla_world(36, 904)
    cohort = np.repeat(np.arange(1.0, 13.0), 3)
    numbers = numbers.with_columns({"cohort": cohort})
    words = words.with_columns({"cohort": [f"r{c:.0f}" if c > 1 else None for c in cohort]})
    numbers = dataclasses.replace(numbers, column_map={"params": "N", "tokens": "D", "flops": "C", "loss": "loss"})
    batch = bs.fit_many("chinchilla", {"n": numbers, "w": words}, group=["cohort"], progress=False)
    again = bs.load_fit(batch.save(tmp_path / "batch.nc"))
    for name in ("n", "w"):
        one, other = (f.tables[name].labels("cohort") for f in (batch, again))
        assert one[1] == other[1] and np.array_equal(one[0], other[0])
        assert [*again[name].tree["posterior"]["level_cohort"].values] == [*model_of(again[name]).groupings[0].levels]
    assert again.tables["n"].column_map == numbers.column_map
    assert "(blank)" in again.tables["w"].labels("cohort")[1]


def test_a_posterior_becomes_a_prior_in_the_table_s_unit():
    law, nats, bits = find_law("chinchilla"), chinchilla_world(24, 911), chinchilla_world(24, 911, unit="bits/token")
    fit = stand_in("chinchilla", nats)
    same, scaled = (priors_of(fit, law, runs) for runs in (nats, bits))
    for name in ("E", "A_ref", "B_ref"):
        assert scaled[name].median == pytest.approx(same[name].median / np.log(2))
    assert scaled["alpha"] == same["alpha"]
    exact = {"alpha": bs.Normal(0.2500004, 1e-7)}
    kept = bs.build_model("chinchilla", nats, group="none", priors=exact).options["priors"]
    assert parse_prior(kept["alpha"]) == exact["alpha"]


def test_every_column_of_a_stored_table_counts(tmp_path, monkeypatch):
    """An audit looks at compute and labels that the model does not: the draws are as before, the result is not."""
    table = chinchilla_world(24, 905)
    dearer = table.with_columns({"flops": 2 * table.values("flops")})
    one, other = (prepare("x", t, find_law("chinchilla"), 4, (), OPTIONS) for t in (table, dearer))
    assert one.fingerprint != other.fingerprint and np.array_equal(one.key, other.key)
    (tmp_path / "part-0007.nc").write_bytes(b"")
    batch = bs.fit_many("chinchilla", {"x": table}, group="none", progress=False)
    store = Store(tmp_path / "new")
    (tmp_path / "new" / "part-0003.nc").write_bytes(b"")
    store.add(batch)
    assert (tmp_path / "new" / "part-0004.nc").stat().st_size

    link = os.link

    def after_another_process(file, name):
        monkeypatch.setattr(os, "link", link)
        Path(name).write_text("of another process")
        link(file, name)

    monkeypatch.setattr(os, "link", after_another_process)
    store.add(batch)
    assert (tmp_path / "new" / "part-0005.nc").read_text() == "of another process"
    assert bs.load_fit(store.files[-1]).names == ("x",) and store.files[-1].name == "part-0006.nc"
    assert not [*store.folder.glob(".*")]


def test_what_groups_alone_have_can_be_fixed():
    """The doctor looks at a model without groups: a spread that is stated is no fault of the law."""
    table = chinchilla_world(60, 906, groups=[("cohort", 3, 2.0)])
    fix = {"tau_cohort_ratio": 0.3}
    options = {**OPTIONS, "group": ["cohort"], "fix": fix}
    assert prepare("x", table, find_law("chinchilla"), 4, (), options).model.options["fix"] == fix
    assert bs.doctor(table, fix=fix).status != "fail"
    with pytest.raises(bs.LawError, match="no parameter 'alhpa'"):
        bs.doctor(table, fix={"alhpa": 0.3})


def test_a_group_may_be_named_by_its_header():
    world = chinchilla_world(40, 907)
    columns = {c: world.values(c) for c in ("params", "tokens", "loss")}
    runs = bs.read_runs(
        {**columns, "Model Family": np.resize(list("abcdefgh"), 40)}, columns={"recipe": "Model Family"}
    )
    (grouping,) = bs.build_model("chinchilla", runs, group=["Model Family"]).groupings
    assert grouping.column == "recipe" and grouping.kind == "recipe"


def test_blank_numbers_sort_nothing():
    """A budget that some rows lack is no partition of them: neither the verdict nor the audit asks for it."""
    world = chinchilla_world(30, 908)
    budget = np.where(np.arange(30) < 3, np.nan, np.resize([1e19, 1e20, 1e21], 30))
    runs = world.with_columns({"budget": budget})
    assert runs.has("budget") and not runs.sorts("budget") and world.sorts("params")
    assert "budget" not in [c.name for c in clusters_of(runs, ())]
    assert "3 budgets" not in header_of(stand_in("chinchilla", runs))


def test_rows_of_which_a_bound_is_known_are_no_neighbours():
    """And rows of different responses are never one curve."""
    N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 1e10, 6), np.geomspace(2e9, 2e11, 6)))
    run_of = np.repeat([f"r{k}" for k in range(6)], 6)
    order = np.argsort(N, kind="stable")
    table = dict(params=N[order], tokens=D[order], run=run_of, loss=np.linspace(3, 2, 36))
    plain = bs.read_runs(table, rows_per_run="all")
    bounded = plain.with_columns({"undertuned": np.resize([0.0, 1.0], 36)})
    serial = bs.build_model("chinchilla", bounded).data["serial"]
    late = bounded.values("undertuned") > 0
    gap, previous = serial["gap"][:36], serial["previous"][:36]
    assert (gap[late] == -1).all() and not late[previous[gap >= 0]].any() and (gap >= 0).sum() == 12
    law = find_law("chinchilla")
    two = plain.with_columns({"response": np.resize(["loss", "accuracy"], 36)})
    curves, _ = checkpoints_of(law, two, "auto", bs.build_model("chinchilla", plain).groupings)
    assert len(np.unique(curves)) == 12


def test_an_answer_says_that_the_verdict_is_fail(tmp_path, capsys):
    sizes = np.geomspace(1e8, 1e10, 4)
    N, D = (g.ravel() for g in np.meshgrid(sizes, np.geomspace(2e9, 2e11, 4)))
    fit = stand_in("chinchilla", dict(params=N, tokens=D, flops=6 * N * D, loss=2.5))
    alarm = {"code": "narrow-interval", "name": "narrowness", "status": "fail", "value": 2.0, "threshold": 1.0}
    failed = fit.with_info(audit=[{**alarm, "message": "rows move it"}], headline_source="sandwich")
    answers = [
        bs.allocate(failed, [1e21]),
        bs.forecast(failed, N=1e9, D=2e10),
        bs.regret(failed, [1e9], 1e21),
        bs.reach(failed, 2.4),
        bs.serve(failed, 2.6, 1e12),
    ]
    for made in answers:
        assert made.notes[0] == "the verdict on this fit is fail: rows move it; intervals are adjusted"
    cut_short = fit.with_info(interrupted=True, headline_source="none")
    assert "fail: it was interrupted" in bs.allocate(cut_short, [1e21], draws="posterior").notes[0]
    shown = bs.allocate(failed, [1e21], draws="posterior")
    assert "which the checks do not back" in shown.notes[0] and not bs.allocate(fit, [1e21]).notes
    failed.save(tmp_path / "fit.nc")
    assert run(["forecast", str(tmp_path / "fit.nc"), "--params", "1B", "--tokens", "20B"]) == 0
    assert "note: the verdict on this fit is fail" in capsys.readouterr().out
    for words, code in (
        (["allocate", "--flops", "1e21", "--prob", "95"], "BS-U001"),
        (["allocate", "--flops", "1e21", "--draws", "prior"], "BS-U001"),
        (["allocate", "--flops", "1e21", "--level", "recipe=a"], "BS-L002"),
        (["reach", "--target", "2.4", "--prob", "2"], "BS-U001"),
        (["forecast", "--params", "1B", "--tokens", "20B", "--flops", "1e21"], "BS-F001"),
        (["regret", "--params", "1B", "--flops", "1e21", "--prob", "0"], "BS-U001"),
    ):
        assert run([words[0], str(tmp_path / "fit.nc"), *words[1:], "--json"]) in (2, 3), words
        assert json.loads(capsys.readouterr().out)["code"] == code, words


def test_responses_that_no_run_could_have_are_refused():
    world = chinchilla_world(24, 909)
    with pytest.raises(bs.RunsError, match=r"every run has loss = 0\.5"):
        bs.fit("chinchilla", world.with_columns({"loss": np.full(24, 0.5)}))
    with pytest.raises(bs.RunsError, match="E is fixed at 9, and every loss lies below"):
        bs.fit("chinchilla", world, fix={"E": 9.0})
    with pytest.warns(bs.NotConverged):
        two = {"fine": world, "flat": world.with_columns({"loss": np.full(24, 2.5)})}
        batch = bs.fit_many("chinchilla", two, group="none", progress=False)
    assert batch.certified == ("fine",) and "every run has loss = 2.5" in batch.status.loc["flat", "sentence"]


def test_a_row_far_off_the_law_is_named():
    world = chinchilla_world(40, 910, sigma=0.002)
    loss = world.values("loss")
    loss[7] *= 1.15
    fit = bs.fit("chinchilla", world.with_columns({"loss": loss}), group="none", draws=300)
    (found,) = (f for f in fit.audit if f.code == "outlying-rows")
    assert found.status == "warn" and f"row {world.rows[7]} lies 1" in found.message and "above" in found.message


def test_a_judgement_counts_the_runs_that_it_was_given():
    for wrong, said in (
        (dict(interval=(0.5, 0.4), rows=240), "lower and an upper end"),
        (dict(interval=(0.4, 0.5), rows=0), "at least one row"),
        (dict(interval=(0.4, 0.5), rows=240, prob=80), "between 0 and 1"),
        (dict(interval=(0.4, 0.5), rows=240, width=-0.1), "positive"),
    ):
        with pytest.raises(bs.LawError, match=said):
            bs.judge(**wrong)


def test_a_cost_that_a_table_tells_is_not_stretched(ladder):
    """A power law of C / 6ND would fall below one; beyond the runs' sizes it stays what it is at their ends."""
    from bayescale.allocation import cost_named

    cost = cost_named("table", ladder)
    times = cost.flops(np.array([1.0, 1e3, 1e9, 1e12]), 1.0) / (6 * np.array([1.0, 1e3, 1e9, 1e12]))
    assert times[0] == pytest.approx(times[1]) and times[1] > times[2] >= 1 and times[2] == pytest.approx(times[3])
    assert np.log(cost.flops(np.exp(cost.log_largest(40.0)), 1.0)) == pytest.approx(40.0)
