"""Rows at one design: sweeps of settings, and repeats that show what the law misses."""

import numpy as np
import pandas as pd
import pytest
from worlds import TRUTH, chinchilla_world

import bayescale as bs
from bayescale.cli import run
from bayescale.diagnostics.sweeps import design_cells


def swept(spread, seed=0):
    """24 designs at three learning rates, the best of which follows the law."""
    rng = np.random.default_rng(seed)
    N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 4e9, 6), np.geomspace(2e9, 1e11, 4)))
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    above = np.array([spread, 0.0, spread / 2])[:, None]
    loss = loss * np.exp(above + 0.003 * rng.standard_normal((3, 24)))
    lr = np.repeat([1e-3, 2e-3, 4e-3], 24)
    table = {"params": np.tile(N, 3), "tokens": np.tile(D, 3), "loss": loss.ravel(), "lr": lr}
    return bs.read_runs(pd.DataFrame(table))


@pytest.mark.parametrize(("spread", "status"), [(0.0, "pass"), (0.02, "warn"), (0.3, "fail")])
def test_a_sweep_is_told_by_how_bad_its_worst_runs_are(spread, status):
    found = next(f for f in bs.doctor(swept(spread)).findings if f.code == "setting-sweeps")
    assert found.status == status and "72 of 72 rows sweep lr within 24 designs" in found.message


def test_the_best_of_each_design_is_kept_and_said(tmp_path, capsys):
    runs = swept(0.3)
    best = bs.best_runs(runs)
    assert len(best) == 24 and (best.values("lr") == 2e-3).all()
    assert any("24 designs" in a for a in best.assumptions)
    assert all(f.code != "setting-sweeps" for f in bs.doctor(best).findings)
    path = tmp_path / "swept.csv"
    runs.frame.to_csv(path, index=False)
    assert run(["doctor", str(path)]) == 0
    assert "--best" in capsys.readouterr().out
    assert run(["doctor", str(path), "--best"]) == 0
    assert "24 rows for 5 parameters" in capsys.readouterr().out


def repeated(bend, seed):
    """10 sizes at 4 budgets, 8 of these designs with three more seeds; the loss bends along compute."""
    rng = np.random.default_rng(seed)
    C, ratio = (g.ravel() for g in np.meshgrid(np.geomspace(1e18, 4e20, 4), np.geomspace(0.15, 6.0, 10)))
    again = np.repeat(rng.choice(40, 8, replace=False), 3)
    C, ratio = np.concatenate([C, C[again]]), np.concatenate([ratio, ratio[again]])
    N = np.sqrt(C / 120) * ratio
    D = C / 6 / N
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    u = np.log10(C) - np.log10(C).mean()
    loss = loss * np.exp(bend * u**2 + 0.003 * rng.standard_normal(64))
    return bs.read_runs({"params": N, "tokens": D, "flops": C, "loss": loss})


@pytest.mark.parametrize(("bend", "status"), [(0.0, "pass"), (0.012, "fail")])
def test_repeats_show_what_the_law_misses(bend, status):
    fit = bs.fit("chinchilla", repeated(bend, 1), group="none", draws=500)
    found = next(f for f in fit.audit if f.code == "lack-of-fit")
    assert found.status == status, found.message
    assert "32 runs repeat 8 designs" in found.message
    pure = float(found.message.split("differ by ")[1].split("%")[0])
    assert pure == pytest.approx(0.3, abs=3 * 0.3 / np.sqrt(2 * 24)), "the truth, within three errors of 24 degrees"


def test_repeats_without_any_difference_are_told_to_be_copies():
    """Numbered as seeds they are kept, but their agreement is no measure of noise."""
    once = chinchilla_world(24, 2).frame[["params", "tokens", "loss"]]
    again = pd.concat([once.assign(seed=k) for k in range(3)], ignore_index=True)
    fit = bs.fit("chinchilla", bs.read_runs(again), group="none", draws=500)
    found = next(f for f in fit.audit if f.code == "lack-of-fit")
    assert found.status == "fail" and "agree in every digit, as copies do" in found.message
    assert fit.verdict.status == "fail"


def test_settings_and_checkpoints_are_no_repeats(ladder_fit):
    assert all(f.code != "lack-of-fit" for f in ladder_fit.audit), "one run a design"
    fit = bs.fit("chinchilla", swept(0.01), group="none", draws=500)
    assert all(f.code != "lack-of-fit" for f in fit.audit), "runs of other learning rates are no repeats"


def test_cells_of_a_law_whose_parameters_differ_by_a_synonym():
    """Observational scaling names families, which a table keeps as recipes: text, and no number."""
    columns = {"flops": [1e20, 1e20, 1e21, 1e21], "family": list("ABAB"), "benchmark": ["x"] * 4}
    runs = bs.read_runs({**columns, "score": [0.2, 0.3, 0.4, 0.5]}, response="score")
    assert "family" not in runs.columns and runs.has("recipe")
    assert len({*design_cells(runs, bs.find_law("obs_scaling")).tolist()}) == 4
