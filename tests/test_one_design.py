"""Thousands of tables of one design: what is shared is looked at once, what is not asked for is never made."""

import copy
import pickle

import numpy as np
import pytest
import xarray as xr
from worlds import chinchilla_world

import bayescale as bs
from bayescale.batch import chunks, ladder
from bayescale.batch.certifying import Certificates
from bayescale.batch.gathering import Part, gathered
from bayescale.batch.preparing import prepare_all
from bayescale.diagnostics import judge_convergence, judge_together
from bayescale.errors import Finding
from bayescale.laws import find_law

OPTIONS = dict(noise="student_t", group="none", fix=None, tie=(), priors={}, references=None)


@pytest.fixture(scope="module")
def base():
    return chinchilla_world(24, 900)


@pytest.fixture(scope="module")
def losses(base):
    return base.values("loss") * np.exp(np.random.default_rng(3).normal(0, 0.01, (6, len(base))))


def test_tables_given_together_are_prepared_as_alone(base, losses):
    """Keys, hashes, models and refusals of a `OneDesign` are those of its tables one by one."""
    law, losses = find_law("chinchilla"), losses.copy()
    losses[2, 5], losses[3], losses[4, 0] = np.nan, 2.0, -1.0
    names = ("a", "b", "gap", "flat", "negative", "f")
    many = bs.OneDesign(base, {"loss": losses}, names)
    for options in (OPTIONS, {**OPTIONS, "fix": {"E": 1.0}}, {**OPTIONS, "group": ["loss_kind"]}):
        columns = {"loss_kind": [*"abcdef"] * 4} if options["group"] != "none" else {}
        given = bs.OneDesign(base.with_columns(columns), {"loss": losses}, names) if columns else many
        (together, refused), (alone, faults) = (prepare_all(t, law, 4, (), options) for t in (given, dict(given)))
        assert [t.name for t in together] == [t.name for t in alone] == ["a", "b", "f"]
        assert {n: str(e) for n, e in refused.items()} == {n: str(e) for n, e in faults.items()}
        assert refused["gap"].code == refused["negative"].code == refused["flat"].code == "BS-R002"
        for one, other in zip(together, alone, strict=True):
            assert np.array_equal(one.key, other.key) and one.fingerprint == other.fingerprint
            assert one.design.findings == other.design.findings and one.design.shape == other.design.shape
            assert one.model.runs.source == one.name and one.model.runs.sha256 == other.model.runs.sha256
            (own, fresh) = (t.padded.data["responses"]["loss"] for t in (one, other))
            assert own.keys() == fresh.keys() and all(np.array_equal(own[k], fresh[k]) for k in own)


def test_fitted_as_alone(base, losses):
    """Bitwise the same draws, the same status and documents, whether tables come as one design or one by one."""
    together = bs.fit_many("chinchilla", bs.OneDesign(base, {"loss": losses[:3]}), seed=4, group="none")
    alone = bs.fit_many("chinchilla", dict(bs.OneDesign(base, {"loss": losses[:3]})), seed=4, group="none")
    assert together.names == ("table-0", "table-1", "table-2") and together.converged
    assert together.status.drop(columns="seconds").equals(alone.status.drop(columns="seconds"))
    assert together.info["datasets"] == alone.info["datasets"]
    for name in together.names:
        assert together[name].tree["posterior"].equals(alone[name].tree["posterior"])
        assert together[name].tree["constant_data"].equals(alone[name].tree["constant_data"])
    sent = pickle.loads(pickle.dumps((together.tree, together.info, together.tables)))
    assert sent[0].equals(together.tree) and type(sent[1]["datasets"]) is dict
    assert np.array_equal(sent[2]["table-1"].values("loss"), losses[1])


def test_what_is_written_after_a_fit_does_not_matter():
    """Documents and tables are made when they are asked for: of the numbers that were fitted all the same."""
    runs, law = chinchilla_world(24, 901), find_law("chinchilla")
    losses = np.stack([runs.values("loss")] * 2)
    own = losses[0].copy()
    given = bs.OneDesign(runs, {"loss": losses})
    (alone,), _ = prepare_all({"x": runs}, law, 4, (), OPTIONS)
    (first, _), _ = prepare_all(given, law, 4, (), OPTIONS)
    runs.frame.loc[1, "params"] = 5e8
    runs.frame["loss"] += 1.0
    losses += 1.0
    for task in (alone, first):
        assert np.array_equal(task.model.runs.values("loss"), own) and task.model.runs.values("params")[0] != 5e8
    assert alone.sha256 == first.sha256 == chinchilla_world(24, 901).sha256


def test_tables_of_a_design_as_a_mapping(base, losses):
    many = bs.OneDesign(base, {"loss": losses})
    assert len(many) == 6 and [*many][-1] == "table-5" and "table-6" not in many and "6 tables of 24 runs" in repr(many)
    assert np.array_equal(many["table-2"].values("loss"), losses[2])
    assert np.array_equal(many["table-2"].values("params"), base.values("params"))
    with pytest.raises(KeyError):
        many["table-6"]
    for columns, names, match in (
        ({"loss": losses[:, 1:]}, (), r"'loss' of shape \(6, 23\), for tables of 24 runs"),
        ({"loss": losses}, ("a", "b"), r"for 2 names of 24 runs"),
        ({}, (), "no column"),
        ({"loss": losses[:2]}, ("a", "a"), "one name"),
    ):
        with pytest.raises(bs.RunsError, match=match):
            bs.OneDesign(base, columns, names)


def test_findings_of_many_tables_are_those_of_each():
    """Numbers and which tables pass: judged in arrays as in words, at the thresholds and where numbers are none."""
    rng = np.random.default_rng(0)
    tables, names = 400, ["a", "b", "c"]
    r_hat = rng.choice([1.0, 1.005, 1.01, 1.0101, np.nan], (tables, 3), p=[0.5, 0.3, 0.1, 0.05, 0.05])
    bulk, tail = (rng.choice([399.9, 400, 900, np.nan], (tables, 3), p=[0.05, 0.2, 0.7, 0.05]) for _ in range(2))
    diverged, e_bfmi = rng.choice([0, 1, 2], tables), rng.choice([0.29, 0.3, 0.8, np.nan], (tables, 4))
    moves = rng.random((tables, 3)) < 0.8
    moves[:, 0] = True
    bars = dict(ess=400, divergent=1e-3)
    told, passed = judge_together((r_hat, bulk, tail), moves, (diverged, 1600), e_bfmi, **bars)
    for k in range(tables):
        own = np.flatnonzero(moves[k])
        numbers = [x[k, own] for x in (r_hat, bulk, tail)]
        found = judge_convergence([names[j] for j in own], numbers, (int(diverged[k]), 1600), e_bfmi[k], **bars)
        assert passed[k] == all(f.status == "pass" for f in found)
        for f in found:
            assert np.array_equal(told[f.code][k], np.nan if f.value is None else f.value, equal_nan=True), f.code
    assert 0 < passed.sum() < tables
    none = judge_together((r_hat, bulk, tail), np.zeros_like(moves), (0 * diverged, 1600), np.ones((tables, 4)), **bars)
    assert not none[1].any()  # nothing that moves is nothing that converged


def test_a_table_whose_chains_never_moved_is_one_among_others():
    found = Finding("r-hat", "R-hat", "pass", 1.0, 1.01, "")
    moved = Certificates({"r-hat": np.ones(1)}, np.ones(1, bool), lambda k: (found,))
    stuck = Certificates({}, np.zeros(1, bool), lambda k: ())
    for order in ((moved, stuck), (stuck, moved)):
        both = Certificates.of_each(order)
        assert both.passed.tolist() == [t is moved for t in order]
        assert np.isnan(both.numbers["r-hat"]).tolist() == [t is stuck for t in order]
        assert [both.findings(k) for k in range(2)] == [t.findings(0) for t in order]


def test_arrays_are_gathered_when_they_are_looked_at():
    """Parts in any order, narrower ones filled up; every way of xarray to index, copies and pickles agree."""
    rng = np.random.default_rng(1)
    wide, narrow = rng.normal(size=(4, 2, 5, 3)), rng.normal(size=(3, 2, 5, 4)).astype(np.float32)
    parts = [
        Part(wide, np.asarray([4, 0, 2]), np.asarray([0, 3, 1])),
        Part(narrow, np.asarray([1, 3]), np.asarray([1, 2]), slice(1, 3)),
    ]
    expected = np.full((5, 2, 5, 3), np.nan)
    expected[[4, 0, 2]], expected[[1, 3], ..., :2] = wide[[0, 3, 1]], narrow[[1, 2], ..., 1:3]

    def lazy():
        return xr.Variable(("dataset", "chain", "draw", "k"), gathered(parts, 5, np.float64))

    assert lazy().shape == expected.shape and lazy().dtype == np.float64
    own = xr.Variable(lazy().dims, expected)
    for chosen in ({"dataset": 3}, {"dataset": [4, 1]}, {"draw": slice(1, None, 2), "k": [2, 0]}, {"k": -1}):
        assert lazy().isel(chosen).equals(own.isel(chosen))
    assert lazy().isel(dataset=[3, 1]).isel(dataset=1).equals(own.isel(dataset=1))
    at = xr.Variable(("p",), [0, 1])
    assert lazy().isel(dataset=at, draw=at).equals(own.isel(dataset=at, draw=at))
    assert copy.deepcopy(lazy()).equals(own) and pickle.loads(pickle.dumps(lazy())).equals(own)
    for order in ([0, 2, 1, 3], [3, 2, 1, 0], [1, 2, 3, 0], [0, 1, 2, 3]):  # tables of a later rung come in any order
        every = np.arange(4)
        assert np.array_equal(gathered([Part(wide, every, np.asarray(order))], 4).array.whole, wide[order])
        assert np.array_equal(gathered([Part(wide, np.asarray(order), every)], 4).array.whole[order], wide)
    once = gathered(parts, 5)
    assert once.array.dtype == np.float64 and not len(once.array.whole) == 0 and not once.array._parts


@pytest.mark.parametrize("crowded", [False, True])
def test_lanes_of_one_design(base, losses, monkeypatch, crowded):
    """As an accelerator samples them: what they share is spread there, draws are fetched at once where it is full."""
    monkeypatch.setattr(ladder, "lanes_for", lambda task: 4)
    monkeypatch.setattr(chunks, "_crowded", lambda: crowded)
    given = bs.OneDesign(base, {"loss": losses[:5]})
    one = bs.fit_many("chinchilla", given, seed=4, group="none")
    assert one.converged and set(one.status["rung"]) <= {"ensemble 1", "ensemble 1 × 2"}
    # A column that no law looks at makes designs of their own: nothing is shared.
    other = {n: t.with_columns({"cohort": np.full(len(t), n)}) for n, t in given.items()}
    two = bs.fit_many("chinchilla", other, seed=4, group="none")
    for name in one.names:
        for told in ("r_hat", "ess_bulk", "ess_tail", "e_bfmi", "gradients"):
            assert one.status.loc[name, told] == two.status.loc[name, told], told
        assert one[name].tree["posterior"].equals(two[name].tree["posterior"])
    assert one.summary().equals(two.summary())
