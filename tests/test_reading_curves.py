"""Training curves: which rows are one run, how many are kept, schedules; sweeps of learning rates as a row a cell."""

import numpy as np
import pandas as pd
import pytest

from bayescale.cli import run
from bayescale.datasets import load_runs
from bayescale.errors import RunsError
from bayescale.reading import read_runs
from bayescale.reading.tuning import fit_surface


def curves(steps, sizes=(1e8, 4e8, 1.6e9), named=True, **columns):
    """Rows of several runs along their steps; further columns are functions of the share of the run that is done."""
    rows = []
    for k, n in enumerate(sizes):
        for s in steps:
            row = {"params": n, "step": s, "tokens": s * 1e6, "loss": 2 + 480 * n**-0.35 + 2085 * (s * 1e6) ** -0.37}
            row |= {name: f(s / max(steps)) for name, f in columns.items()}
            rows.append({"run": f"r{k}", **row} if named else row)
    return pd.DataFrame(rows)


def said(runs, code):
    return [n.message for n in runs.notes if n.code == code]


STEPS = tuple(int(s) for s in np.geomspace(100, 10_000, 40))
MANY = tuple(int(s) for s in np.geomspace(1e3, 1e6, 400))


def test_rows_of_one_run_are_recognised_and_kept():
    runs = read_runs(curves(STEPS))
    (message,) = said(runs, "BS-R016")
    assert len(runs) == 120 and "120 rows are checkpoints of 3 runs (up to 40 rows each, by 'tokens')" in message
    assert "--rows-per-run last" in message and not said(runs, "BS-R052")
    assert not said(read_runs(curves((10_000,))), "BS-R016")


def test_the_last_row_of_every_run():
    runs = read_runs(curves(STEPS), rows_per_run="last")
    assert list(runs.values("tokens")) == [1e10] * 3 and runs.rows == (40, 80, 120) and runs.rows_read == 120
    assert "kept the last row of each of 3 runs: 3 of 120 rows" in said(runs, "BS-R052")[0]
    shuffled = curves(STEPS).sample(frac=1, random_state=1)
    assert sorted(read_runs(shuffled, rows_per_run="last").values("loss")) == sorted(runs.values("loss"))


@pytest.mark.parametrize(("asked", "most"), [("knots", 8), (4, 4), ("4", 4), (1000, 40)])
def test_some_rows_of_every_run_spread_over_the_log_of_its_tokens(asked, most):
    runs = read_runs(curves(STEPS), rows_per_run=asked)
    counts = runs.frame["run"].value_counts()
    assert (counts <= most).all() and (counts >= min(most, 40) - 2).all()
    for _, rows in runs.frame.groupby("run"):
        gaps = np.diff(np.log(rows["tokens"]))
        assert rows["tokens"].max() == 1e10 and rows["tokens"].min() == 1e8
        assert most == 40 or gaps.max() < 1.5 * gaps.mean()


def test_all_rows_are_kept_without_a_note_where_that_was_asked():
    runs = read_runs(curves(STEPS), rows_per_run="all")
    assert len(runs) == 120 and not said(runs, "BS-R052")


def test_large_tables_of_curves_keep_some_rows_of_every_run_unless_all_are_asked_for():
    """Three runs of 400 rows: up to 333 of each, the last among them, and the note says how to keep all."""
    frame = curves(MANY)
    runs = read_runs(frame)
    assert 800 < len(runs) < 1000 and runs.rows_read == 1200
    ends = read_runs(frame, rows_per_run="last")
    assert {*ends.values("loss")} <= {*runs.values("loss")}
    (note,) = [n for n in said(runs, "BS-R052")]
    assert all(part in note for part in ("up to 333 rows", f"{len(runs)} of 1200 rows", "--rows-per-run all"))
    assert len(read_runs(frame, rows_per_run="all")) == 1200
    assert len(read_runs(curves(MANY[:330]))) == 990, "a thousand rows are kept"


def test_many_runs_keep_at_least_six_rows_each():
    """So their checkpoints are enough to tell how they err alike; a run of fewer keeps all."""
    sizes = tuple(np.geomspace(1e7, 1e9, 300))
    assert len(read_runs(curves(np.geomspace(1e3, 1e6, 12).astype(int), sizes=sizes))) == 6 * 300
    short = curves((1000, 2000), sizes=sizes[:150])
    long = curves(np.geomspace(1e3, 1e6, 12).astype(int), sizes=sizes[150:])
    both = pd.concat([short, long.assign(run="long " + long["run"])])
    assert len(read_runs(both)) == (2 + 6) * 150


def test_every_evaluation_of_a_checkpoint_that_is_kept_is_kept():
    both = pd.concat([curves(MANY).assign(eval=name) for name in ("c4", "wiki")])
    both["loss"] *= np.where(both["eval"] == "c4", 1.0, 1.02)
    runs = read_runs(both)
    assert len(runs) < len(both) and set(np.bincount(runs.labels("eval")[0])) == {len(runs) // 2}


def test_a_checkpoint_that_two_phases_share_is_kept_once():
    """Where its loss is told to five digits; a rounded one may be another evaluation that came out alike."""
    shared = curves(STEPS).assign(phase="start of the decay")
    both = pd.concat([curves(STEPS).assign(phase="stable"), shared.iloc[::4].assign(logged=1.0)], ignore_index=True)
    runs = read_runs(both)
    (message,) = said(runs, "BS-R014")
    assert message.startswith("30 rows tell a checkpoint of their run again, with the same 'loss', left out (rows 121,")
    assert len(runs) == 120 and set(runs.frame["phase"]) == {"stable"}
    assert len(read_runs(both.round({"loss": 2}))) == 150
    assert len(read_runs(both, columns={"recipe": "phase"})) == 150
    for name in ("accuracy", "seed"):  # several evaluations of a checkpoint, or seeds of a run without noise
        assert len(read_runs(both.assign(**{name: np.where(both["phase"] == "stable", 2.0, 3.0)}))) == 150
    assert len(read_runs(both.assign(score=0.42), response="score")) == 150


def test_a_history_that_was_sampled_is_said_of_the_rows_that_were_read():
    rng = np.random.default_rng(0)
    steps = tuple(sorted(rng.choice(np.arange(1000, 100_000), 500, replace=False).tolist()))
    runs = read_runs(curves(steps))
    assert len(runs) < 1500 and said(runs, "BS-R036")


def test_runs_that_follow_a_schedule_keep_every_row():
    """Laws of schedules read the learning rate of every row before one."""
    for name, rate in (
        ("lr", _cosine(0.1)),
        ("lr", lambda t: 3e-4 * (1 - t)),
        ("optim/lr", lambda t: 3e-4 * min(t / 0.1, 1.0)),
        ("lr", lambda t: np.nan if t > 0.99 else _cosine(0.1)(t)),
    ):
        assert len(read_runs(curves(MANY, **{name: rate}))) == 1200, name
    assert len(read_runs(curves(MANY, lr=lambda t: 3e-4))) < 1000


def test_runs_are_found_where_a_step_rises_and_falls_back():
    frame = curves(STEPS, named=False).drop(columns=["tokens"])
    runs = read_runs(frame, rows_per_run="last")
    assert len(runs) == 3 and "3 runs, along each of which 'step' rises" in said(runs, "BS-R057")[0]


def test_a_table_without_curves_says_so():
    with pytest.raises(RunsError, match="which rows are one run") as caught:
        read_runs(curves((100, 200), named=False), rows_per_run="last")
    assert caught.value.code == "BS-R030" and "--column run=" in caught.value.remedy
    assert len(read_runs(curves((100,)), rows_per_run="last")) == 3, "one row a run already"


@pytest.mark.parametrize("option", [{"rows_per_run": "first"}, {"rows_per_run": 0}, {"learning_rates": "median"}])
def test_unknown_choices_are_refused(option):
    with pytest.raises(RunsError) as caught:
        read_runs(curves(STEPS), **option)
    assert caught.value.code == "BS-U001" and caught.value.remedy


def test_an_experiment_with_models_of_several_sizes_is_no_run():
    frame = curves(STEPS, named=False).assign(experiment="sweep 1")
    runs = read_runs(frame)
    assert "experiment" in runs.columns and any("not taken for the run" in m for m in said(runs, "BS-R030"))


# Schedules


def _cosine(floor):
    return lambda t: 3e-4 * (t / 0.02 if t < 0.02 else floor + (1 - floor) * (1 + np.cos(np.pi * t)) / 2)


def test_schedules_are_recognised_with_their_warm_up():
    steps = tuple(range(100, 10_001, 100))
    (message,) = said(read_runs(curves(steps, lr=_cosine(0.1))), "BS-R059")
    assert "'lr' follows a schedule along 3 of 3 runs" in message and "3 rows lie in a warm-up" in message
    assert "before their decay does" not in message and "--rows-per-run last" in message
    (message,) = said(read_runs(curves(steps, lr=lambda t: _cosine(0.1)(t / 2))), "BS-R059")
    assert "3 runs end before their decay does" in message
    assert not said(read_runs(curves(MANY, lr=lambda t: 3e-4)), "BS-R059")
    assert not said(read_runs(curves(steps, lr=_cosine(0.1)), rows_per_run="last"), "BS-R059")


def test_unfinished_cosines_are_said_with_a_filter_that_works():
    frame = curves((2000, 10_000), named=False).assign(total_steps=10_000)
    (message,) = said(read_runs(frame), "BS-R016")
    assert message.startswith("3 of 6 rows") and "had not decayed" in message
    assert len(read_runs(frame, where=message.split('"')[1])) == 3


def test_tokens_seen_beside_planned_ones_are_offered():
    frame = curves((2000, 10_000), named=False).assign(total_steps=10_000).rename(columns={"tokens": "tokens_seen"})
    frame["tokens"] = 1e10
    assert "--column tokens=tokens_seen" in said(read_runs(frame), "BS-R016")[0]


def test_long_warm_ups_are_said():
    frame = curves((10_000,)).assign(warmup=[100, 3000, 5000])
    (message,) = said(read_runs(frame), "BS-R059")
    assert message.startswith("in 2 of 3 runs the warm-up") and "50%" in message
    assert len(read_runs(frame, where=message.split('"')[1])) == 1


def test_uneven_steps_are_a_sampled_history():
    rng = np.random.default_rng(0)
    uneven = tuple(sorted(rng.choice(np.arange(100, 10_001), 60, replace=False).tolist()))
    assert "tracker sampled" in said(read_runs(curves(uneven)), "BS-R036")[0]
    assert not said(read_runs(curves(tuple(range(100, 10_001, 100)))), "BS-R036")
    assert not said(read_runs(curves(STEPS)), "BS-R036"), "evenly in the log is a plan, not a sample"


# Sweeps of the learning rate


def sweep(noise=0.004, seed=0, cells=12, rates=6, batches=(1.0,)):
    """Cells of N and D, each with parabolas in the log of the learning rate about an optimum of its own."""
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for k in range(cells):
        n, d = 1e7 * 2.0**k, 2e8 * 2.0 ** (k * 0.9)
        best, batch = np.log(3e-3) - 0.1 * k + rng.uniform(-0.3, 0.3), np.log(64.0) + 0.05 * k
        least = np.log(1.7 + 480 * n**-0.35 + 2085 * d**-0.37)
        truth.append(np.exp(least))
        for x in best + np.linspace(-1.2, 1.2, rates) + rng.uniform(-0.1, 0.1):
            for b in batches:
                y = least + 0.06 / 2 * (x - best) ** 2 + 0.04 / 2 * (np.log(b) - batch if len(batches) > 1 else 0) ** 2
                rows.append(
                    dict(params=n, tokens=d, lr=np.exp(x), bs=b, loss=np.exp(y + noise * rng.standard_normal()))
                )
    return pd.DataFrame(rows), np.array(truth)


@pytest.mark.parametrize("batches", [(1.0,), (16.0, 32.0, 64.0, 128.0)])
def test_the_minimum_of_the_surface_and_its_error_are_right(batches):
    """z-scores of the minima of 240 cells, worth 100 at least as cells of a sweep share a curvature.

    Their sd then has an error of 0.07 and their mean one of 0.1: correct code fails in 1 of 100 draws of the seeds.
    """
    scores = []
    for seed in range(20):
        frame, truth = sweep(seed=seed, batches=batches)
        runs = read_runs(frame, learning_rates="surface")
        assert len(runs) == len(truth) and runs.rows_read == len(frame)
        scores.append(np.log(runs.values("loss") / truth) / (runs.values("loss_se") / runs.values("loss")))
    scores = np.concatenate(scores)
    assert 0.8 < scores.std() < 1.2 and abs(scores.mean()) < 0.3


def test_the_best_of_noisy_losses_is_low_and_the_surface_is_not():
    """Means of 12 x 20 cells; six standard errors of the mean tell the bias, two and a half bound what is none."""
    low, fair = [], []
    for seed in range(20):
        frame, truth = sweep(noise=0.01, seed=seed, rates=12)
        low.append(np.log(read_runs(frame, learning_rates="best").values("loss") / truth))
        fair.append(np.log(read_runs(frame, learning_rates="surface").values("loss") / truth))
    low, fair = np.concatenate(low), np.concatenate(fair)
    assert low.mean() < -6 * low.std() / np.sqrt(len(low))
    assert abs(fair.mean()) < 2.5 * fair.std() / np.sqrt(len(fair))


def test_minima_beyond_the_rates_tried_are_taken_at_the_edge():
    x = np.log(1e-3) + np.linspace(0, 1.2, 5)
    cell = np.repeat([0, 1, 2], 5)
    logs = np.tile(x, 3)[:, None]
    best = np.array([x[2], x[2], x[4] + 2.0])[cell]
    y = 1.0 + 0.05 * (logs[:, 0] - best) ** 2 + 1e-4 * np.random.default_rng(1).standard_normal(15)
    found = fit_surface(cell, logs, y)
    assert list(found.edge) == [False, False, True] and found.at[2, 0] == pytest.approx(x[4])
    np.testing.assert_allclose(found.at[:2, 0], x[2], atol=0.05)
    np.testing.assert_allclose(found.least[:2], 1.0, atol=1e-3)


def test_rows_of_a_sweep_are_questioned_and_options_settle_it():
    frame, _ = sweep()
    (message,) = said(read_runs(frame), "BS-R058")
    assert message.startswith("12 of 12 cells") and "--learning-rates surface" in message
    assert len(read_runs(frame)) == len(frame) and not said(read_runs(frame, learning_rates="all"), "BS-R058")
    best = read_runs(frame, learning_rates="best")
    assert len(best) == 12 and (best.values("loss") == frame.groupby("params")["loss"].min().to_numpy()).all()


def test_too_few_rates_and_no_sweep_are_refused():
    few = sweep(rates=2)[0]
    with pytest.raises(RunsError, match="too few learning rates") as caught:
        read_runs(few, learning_rates="surface")
    assert caught.value.code == "BS-R058" and "--learning-rates best" in caught.value.remedy
    with pytest.raises(RunsError, match="no sweep"):
        read_runs(few.groupby("params").head(1), learning_rates="best")


def test_byte_ladder_from_all_its_rows():
    default, surface = load_runs("byte-ladder"), load_runs("byte-ladder", learning_rates="surface")
    assert len(default) == len(surface) == 30 and surface.rows_read == 134
    assert "loss_se" in surface.columns and "loss_se" not in default.columns
    assert any("--learning-rates surface" in a for a in default.assumptions)
    merged = default.frame.merge(surface.frame, on=["params", "tokens"], suffixes=("", "_surface"))
    assert len(merged) == 30
    off = np.log(merged["loss_surface"] / merged["loss"]) / (merged["loss_se"] / merged["loss_surface"])
    assert np.abs(off).max() < 6 and (merged["loss_se"] / merged["loss"]).between(0.003, 0.05).all()
    assert len(load_runs("byte-ladder", learning_rates="best")) == 30


def test_the_command_line_takes_both(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    curves(STEPS).to_csv(path, index=False)
    assert run(["doctor", str(path), "--rows-per-run", "5", "--json"]) == 0
    assert '"used": 15' in capsys.readouterr().out
    assert run(["doctor", "byte-ladder", "--learning-rates", "surface", "--json"]) == 0
    assert '"rows": 134' in capsys.readouterr().out
    assert run(["doctor", str(path), "--rows-per-run", "few"]) == 2


@pytest.mark.parametrize("spacing, curves", [("even", True), ("doubling", False), ("random", False)])
def test_evenly_spaced_tokens_are_checkpoints_without_a_run_column(spacing, curves):
    """Forty losses of one size, 150 million tokens apart, are one run; runs of their own are spread otherwise."""
    rng = np.random.default_rng(3)
    places = {
        "even": np.arange(1, 41) * 1.5e8,
        "doubling": np.geomspace(1.5e8, 6e9, 40),
        "random": np.sort(rng.uniform(1e8, 6e9, 40)),
    }[spacing]
    D = np.concatenate([places * (1 + k / 4) for k in range(4)])
    N = np.repeat([1e8, 2e8, 4e8, 8e8], 40)
    runs = read_runs({"params": N, "tokens": D, "loss": 1.8 + 400 * N**-0.34 + 410 * D**-0.28})
    assert runs.has("run") == curves
    if curves:
        assert len(runs.labels("run")[1]) == 4
        said = " ".join(n.message for n in runs.notes)
        assert "run is reconstructed, not recorded: 4 runs" in said and "160 rows are checkpoints of 4 runs" in said
