"""Forecasts of larger runs from smaller ones: what is held out, what is said of it, and what cannot be asked."""

import json

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.cli import run
from bayescale.runs import Runs

OFFSET = "power_law_offset:x=params"


def ladder_of_sizes(seed, sigma=0.004):
    """Runs of nine sizes around a power law with a floor."""
    rng = np.random.default_rng(seed)
    N = np.repeat(np.geomspace(1e7, 1e10, 9), 3)
    loss = (1.5 + 400 * N**-0.34) * np.exp(sigma * rng.standard_normal(27))
    return Runs(pd.DataFrame({"params": N, "loss": loss}), "sizes", "nats/token")


@pytest.fixture(scope="module")
def made():
    return bs.backtest(OFFSET, ladder_of_sizes(5), noise="normal", group="none", cuts=[6e8, 2e9])


def test_what_lies_above_each_cut_is_forecast(made):
    assert [(o.kept, o.held) for o in made.origins] == [(15, 12), (21, 6)]
    first = made.origins[0]
    assert first.cut == pytest.approx(10**8.5) and first.ratio == pytest.approx(10**1.5)
    frame = made.frame()
    error = 100 * (first.forecast[0] / first.observed - 1)
    assert frame["error_pct"][0] == pytest.approx(error.mean())
    assert frame["error"][0] == pytest.approx((first.forecast[0] - first.observed).mean())
    assert frame["rms"][0] == pytest.approx(np.sqrt((error**2).mean()))
    inside = (first.observed >= first.forecast[1]) & (first.observed <= first.forecast[2])
    assert frame["inside_90"][0] == inside.mean()
    assert ((first.below > 0.05) & (first.below < 0.95)).mean() == pytest.approx(frame["inside_90"][0], abs=1e-9)
    assert len(made.runs()) == 18 and (made.runs()["ratio"] > 1).all()


def test_a_right_law_forecasts_well(made):
    """Runs of the law itself, 32 times beyond the cut: within 3 %, and two in three of 18 inside 90 %."""
    every = made.runs()
    assert np.sqrt((every["error"] ** 2).mean()) < 3
    assert ((every["observed"] >= every["lower"]) & (every["observed"] <= every["upper"])).mean() > 2 / 3
    assert made.complete and made.final is not None and made.quantity == "doubling" and made.budget is None


def test_log_scores_add_up(made):
    """p(all above the first cut) = p(between the cuts | below) p(above the second | below it): the second factor is the
    second cut's own score, so the difference is that of the six runs between, about -log sigma each."""
    between = made.origins[0].log_score - made.origins[1].log_score
    runs = ladder_of_sizes(5)
    middle = runs.values("loss")[15:21]
    at_best = -np.log(middle * 0.004 * np.sqrt(2 * np.pi)).sum()  # were law and noise known and the runs on the law
    assert at_best - 9 < between < at_best + 2


def test_least_squares_stands_beside_it(made):
    assert all(o.baseline is not None and len(o.baseline) == o.held for o in made.origins)
    point = bs.least_squares(OFFSET, ladder_of_sizes(5).where("params < 6e8"), starts=8, references={"x0": 3e8})
    told = bs.forecast(point, inputs={"x": made.origins[0].scale}).interval("mean")[0]
    assert made.origins[0].baseline == pytest.approx(told, rel=1e-4)


def test_record(made):
    document = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert document["schema"] == "bayescale.backtest/1" and len(document["origins"]) == 2
    assert document["quantity"] == "doubling" and document["error_unit"] == "percent"
    assert len(document["runs"]) == 18 and document["lines"] == made.lines()
    assert "2 cuts" in made.lines()[0] and "2 trials, not 18" in made.lines()[1]
    assert repr(made).startswith("<Backtest of power_law_offset") and "<table" in made._repr_html_()
    errors, _ = bs.plot_backtest(made)
    dots = np.concatenate([line.get_ydata() for line in errors.lines if line.get_marker() in ("o", "s")])
    assert sorted(dots) == pytest.approx(sorted(-np.concatenate([made.error(o) for o in made.origins])))
    assert errors.get_ylabel() == "observed − forecast (%)"


def test_what_cannot_be_backtested():
    runs = ladder_of_sizes(5)
    with pytest.raises(bs.NotFittedFor, match="no cut of x leaves"):
        bs.backtest(OFFSET, runs, cuts=[1e12], group="none")
    with pytest.raises(bs.NotFittedFor, match="no residuals of one response"):
        bs.backtest("step_law", runs)


def test_backtest_command(tmp_path, capsys):
    path, picture = tmp_path / "runs.csv", tmp_path / "backtest.png"
    ladder_of_sizes(5).frame.to_csv(path, index=False)
    arguments = ["backtest", str(path), "--law", OFFSET, "--noise", "normal", "--group", "none", "--cut", "2B"]
    assert run([*arguments, "--loss-unit", "nats/token", "--out", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "bayescale.backtest/1" and document["origins"][0]["held_out"] == 6
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run([*arguments, "--out", str(picture)]) == 2
    assert run(["backtest", "nowhere.csv", "--json"]) == 3


@pytest.fixture(scope="module")
def untuned():
    """Of every size one run was not tuned, nor was any of the largest; their losses are 10 % above the law."""
    runs = ladder_of_sizes(5)
    late = (np.arange(27) % 3 == 0) | (np.arange(27) >= 24)
    loss = runs.values("loss") * np.where(late, 1.1, 1.0)
    return runs.with_columns({"loss": loss, "undertuned": late.astype(float)})


def test_bounds_have_no_errors(untuned):
    made = bs.backtest(OFFSET, untuned, noise="normal", group="none", cuts=[6e8, 6.01e8, 5e9], progress=False)
    assert [(o.kept, o.held, len(o.one_sided)) for o in made.origins] == [(15, 6, 6)] * 2
    for o in made.origins:
        assert not (untuned.values("undertuned")[o.positions] > 0).any()
        assert np.abs(made.error(o)).max() < 5 and np.abs(made.error(o, o.baseline)).max() < 5
        assert all(len(x) == 6 for x in (o.below, *o.inside.values())) and np.isfinite(o.log_score)
    assert made.frame()["one_sided"].tolist() == [6, 6]
    assert "6 runs above the cuts were not tuned" in made.lines()[2]
    assert len(made.notes) == 1 and made.notes[0].startswith("cut at 5e+09: no run above it was tuned")
    assert json.dumps(made.to_json(), allow_nan=False) and made.complete
    with pytest.raises(bs.NotFittedFor, match="no run above it was tuned"):
        bs.backtest(OFFSET, untuned, noise="normal", group="none", cuts=[5e9])
