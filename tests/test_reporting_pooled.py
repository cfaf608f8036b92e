"""The report of a fit whose parameters differ by recipe: every level has its tables and figures, compared by pairs."""

import json

import numpy as np
import pandas as pd
import pytest
from kits import QUICK, check_notations, check_tables, document_of, printed_rows, table

import bayescale as bs
from bayescale.cli import run
from bayescale.tables import write_folder

TRUTH = dict(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)
#: What a recipe leaves to learn; the second was tried in small runs only. Names of recipes are the table's own text.
SHARE = {"base": 1.0, "=new$_2<": 0.9}


@pytest.fixture(scope="module")
def pooled_fit():
    """Two recipes at IsoFLOP budgets, three of the first and one hundredth of its compute for the second."""
    rng, rows = np.random.default_rng(0), []
    for recipe, budgets in (("base", (1e18, 1e19, 1e20)), ("=new$_2<", (1e17, 3e17, 1e18))):
        for C in budgets:
            for step in (-1.0, -0.5, 0.0, 0.5, 1.0):
                N = 0.1 * C**0.45 * 10**step
                D = C / 6 / N
                rest = TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
                loss = (TRUTH["E"] + SHARE[recipe] * rest) * np.exp(0.003 * rng.standard_normal())
                rows.append({"recipe": recipe, "params": N, "tokens": D, "flops": C, "loss": loss})
    runs = bs.read_runs(pd.DataFrame(rows), loss_unit="nats/token")
    return bs.fit("chinchilla", runs, pool="recipe", seed=0, group="none", draws=500, warmup=500, progress=False)


@pytest.fixture(scope="module")
def pooled_kit(pooled_fit, tmp_path_factory):
    """Its report, with the figures that are drawn by level."""
    folder = tmp_path_factory.mktemp("pooled") / "kit"
    return bs.report(pooled_fit, folder, figures=["isoflop", "frontier", "recipes", "multiplier"], **QUICK)


def test_every_level_has_its_rows_and_every_number_is_the_document_s(pooled_fit, pooled_kit):
    assert check_tables(pooled_kit) > 300 and check_notations(pooled_kit) > 300
    made = document_of(pooled_kit)
    for part in ("budgets", "sizes"):
        assert {e["levels"]["recipe"] for e in made["report"][part]} == set(SHARE)
    by_level = {(by["levels"]["recipe"], e["flops"]): e for by in made["allocation_by_level"] for e in by["allocation"]}
    ends, compared = ("median", "lower", "upper"), 0
    for entry in made["report"]["budgets"]:
        same = by_level.get((entry["levels"]["recipe"], entry["flops"]))
        compared += same is not None
        for name in ("params", "tokens", "loss") if same else ():
            assert [entry[name][e] for e in ends] == [same[name][e] for e in ends]
    assert compared == len(by_level) == 4


def test_the_document_alone_answers_for_a_level(pooled_fit, pooled_kit):
    made = document_of(pooled_kit)
    p = {n: made["parameters"][n]["median"] for n in ("E", "alpha", "beta")}
    for level in SHARE:
        A, B = (made["parameters"][f"{n}[{level}]"]["median"] for n in "AB")
        found = bs.evaluate(made, N=1e9, D=2e10, levels={"recipe": level})
        assert found.loss == pytest.approx(p["E"] + A * 1e9 ** -p["alpha"] + B * 2e10 ** -p["beta"], rel=1e-12)
    for entry in made["report"]["budgets"]:
        found = bs.evaluate(made, C=entry["flops"], levels=entry["levels"])
        assert (found.params, found.best_loss) == (entry["at_medians"]["params"], entry["at_medians"]["loss"])
        assert found.posterior["params"]["median"] == entry["params"]["median"]


def test_approaches_are_of_every_level_and_the_shared_posterior_stands_once(pooled_kit):
    entries = document_of(pooled_kit)["report"]["approaches"]
    alone = [(e["approach"], e["levels"]["recipe"]) for e in entries if "levels" in e]
    assert sorted(alone) == sorted((a, level) for a in "23" for level in SHARE)
    assert [e["name"] for e in entries if "levels" not in e] == ["posterior"]
    assert {row[0] for row in printed_rows(pooled_kit, "approaches")} == {"base", r"=new\$\_2&lt;", "all"}
    # One reason is said once, with the levels it holds for.
    notes = (pooled_kit.folder / "tables" / "approaches.md").read_text(encoding="utf-8")
    assert notes.count("approach 1 (minima") == 1


def test_multipliers_are_those_of_the_verb(pooled_fit, pooled_kit):
    made = bs.multiplier(pooled_fit)
    rows = table(pooled_kit, "multiplier")
    assert [float(r["multiplier_median"]) for r in rows] == made.interval(0)[0].tolist()
    gamma = TRUTH["alpha"] * TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    (x, y), low, high = made.pairs[0], *(float(rows[0][f"multiplier_{e}"]) for e in ("lower", "upper"))
    truth = np.log(SHARE[x] / SHARE[y]) / gamma
    # Four posterior standard deviations: one in 16,000 where the model is right.
    assert abs(np.log(float(rows[0]["multiplier_median"])) - truth) < 4 * np.log(high / low) / (2 * 1.645)
    (crossing,) = table(pooled_kit, "crossings")
    assert "cannot cross" in crossing["slopes"] and crossing["p_never"] == "–", "it was assumed, and is no probability"


def test_figures_and_words_are_of_recipes(pooled_kit, hostile=r"\$\_2"):
    assert pooled_kit.figures == ("isoflop", "frontier", "recipes", "multiplier")
    said = (pooled_kit.folder / "report.md").read_text(encoding="utf-8")
    assert "of every recipe against compute" in said and "dotted lines" not in said
    assert "fixed at 0.6" in said and hostile in said and "Left out" in said
    latex = (pooled_kit.folder / "report.tex").read_text(encoding="utf-8")
    assert "=new$_2<" not in latex
    page = (pooled_kit.folder / "report.html").read_text(encoding="utf-8")
    assert "A<sub>ref</sub>" in page and "A\u0304<sub>ref</sub>" in page


def test_a_pooled_fit_on_the_command_line(pooled_fit, tmp_path, capsys, monkeypatch):
    # The second recipe's largest run is a hundredth of the first's: its budgets lie far beyond it, and are told.
    monkeypatch.setattr("bayescale.inference.fit", lambda *_, **__: pooled_fit)
    pooled_fit.runs.frame.to_csv(tmp_path / "recipes.csv", index=False)
    assert run(["fit", str(tmp_path / "recipes.csv"), "--pool", "recipe", "--quiet"]) == 0
    assert "By recipe" in capsys.readouterr().out
    write_folder(pooled_fit, tmp_path / "fit")
    made = json.loads((tmp_path / "fit" / "fit.json").read_text(encoding="utf-8"))
    assert {by["levels"]["recipe"] for by in made["allocation_by_level"]} == set(SHARE)
