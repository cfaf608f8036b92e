"""What a table can answer, said before anything is sampled."""

import json

import numpy as np
import pandas as pd
import pytest
from worlds import TRUTH, chinchilla_world

import bayescale as bs
from bayescale.cli import run
from bayescale.runs import Runs


def found(diagnosis, code):
    return next(f for f in diagnosis.findings if f.code == code)


def table(N, D, loss=None, **more):
    N, D = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
    loss = 1.8 + 480 * N**-0.35 + 2000 * D**-0.37 if loss is None else loss
    return Runs(pd.DataFrame({"params": N, "tokens": D, "loss": loss, "flops": 6 * N * D, **more}), "made")


SIZES = np.geomspace(1e8, 1e10, 12)


def test_a_good_design_passes():
    assert bs.doctor(chinchilla_world(200, 0), "chinchilla").status == "pass"


def test_the_ladder_warns_of_its_compute(ladder):
    diagnosis = bs.doctor(ladder, "chinchilla", flops=[1e15, 1e16])
    assert diagnosis.status == "warn" and not diagnosis.refusals
    assert "1.11 to 1.50 times 6ND" in found(diagnosis, "flops-convention").message
    near, far = (f for f in diagnosis.findings if f.code == "extrapolation")
    assert (near.status, far.status) == ("pass", "warn")
    assert far.value == pytest.approx(1e16 / (6 * ladder.values("params") * ladder.values("tokens")).max())


def test_one_size_is_refused_and_another_law_is_named():
    runs = table(np.full(12, 1e9), np.geomspace(1e9, 1e12, 12))
    assert found(bs.doctor(runs, "chinchilla"), "distinct-inputs").refuses
    with pytest.raises(bs.RunsError, match="same N") as caught:
        bs.fit("chinchilla", runs)
    assert caught.value.code == "BS-R017"
    assert "power_law_offset:x=tokens" in str(caught.value)


@pytest.mark.parametrize("power", [1.0, 0.8])
def test_a_ray_is_refused(power):
    runs = table(SIZES, 20 * 1e9 * (SIZES / 1e9) ** power)
    ray = found(bs.doctor(runs, "chinchilla"), "design-ray")
    assert ray.refuses and ray.value < ray.threshold
    with pytest.raises(bs.RunsError, match="cannot be told apart") as caught:
        bs.fit("chinchilla", runs)
    assert caught.value.code == "BS-R018"
    assert "power_law_offset" in caught.value.remedy


def trained(runs, proposed, seed, noise=0.005):
    """The table with the proposed runs trained: all losses follow the law, with noise."""
    N = np.concatenate([runs.values("params"), [r.params for r in proposed]])
    D = np.concatenate([runs.values("tokens"), [r.tokens for r in proposed]])
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    return table(N, D, loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N))))


DESIGNS = {
    "ray": table(SIZES, 20 * SIZES),
    "steep ray": table(SIZES, 20 * 1e9 * (SIZES / 1e9) ** 0.8),
    "one size": table(np.full(12, 1e9), np.geomspace(1e9, 1e12, 12)),
    "one budget": table(SIZES, 1e20 / 6 / SIZES),
    "few rows": chinchilla_world(6, 0),
}
IDENTIFIED = ("rows", "distinct-inputs", "design-ray", "identified", "one-isoflop", "recipe-confounded")


@pytest.mark.parametrize(
    "name", [n if n in ("ray", "one budget", "few rows") else pytest.param(n, marks=pytest.mark.slow) for n in DESIGNS]
)
def test_the_proposed_runs_are_enough_and_none_alone_holds_the_answer(name):
    runs = DESIGNS[name]
    proposed = bs.doctor(runs, "chinchilla").next_runs
    assert 2 <= len(proposed) <= 8
    assert [r.flops for r in proposed] == sorted(r.flops for r in proposed)
    assert max(r.flops for r in proposed) <= 1.01 * runs.values("flops").max(), "no larger than the largest run"

    def passes(chosen):
        told = bs.doctor(trained(runs, chosen, 0), "chinchilla")
        return all(f.status == "pass" for f in told.findings if f.code in IDENTIFIED)

    assert passes(proposed) and not passes(proposed[:1])
    for k in range(len(proposed)):
        without = bs.doctor(trained(runs, [*proposed[:k], *proposed[k + 1 :]], 0), "chinchilla")
        assert all(f.status != "fail" for f in without.findings if f.code in IDENTIFIED[1:])


def test_with_the_proposed_runs_the_exponent_is_covered():
    """20 tables on a ray with the runs trained: 90 % intervals miss seven times or more once in 420 (binomial)."""
    runs = DESIGNS["ray"]
    proposed = bs.doctor(runs, "chinchilla").next_runs
    batch = bs.fit_many("chinchilla", [trained(runs, proposed, seed) for seed in range(20)], group="none")
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    told = batch.summary(prob=0.9).xs("a", level="quantity")
    assert len(told) == 20
    assert ((told["lower"] <= a) & (a <= told["upper"])).sum() >= 14
    assert (told["upper"] - told["lower"]).median() < 0.25, "the prior alone leaves .53"


def test_a_refusal_names_the_runs(capsys):
    diagnosis = bs.doctor(DESIGNS["ray"], "chinchilla")
    with pytest.raises(bs.RunsError) as caught:
        bs.fit("chinchilla", DESIGNS["ray"])
    told = f"{diagnosis.next_runs[0].params / 1e6:.0f}M on {diagnosis.next_runs[0].tokens / 1e6:.0f}M tokens"
    assert "runs that would help" in caught.value.remedy and told in caught.value.remedy
    assert told in repr(diagnosis)
    assert run(["doctor", "pile-models", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["next_runs"] and len({r["recipe"] for r in document["next_runs"]}) == 1
    along = {a["recipe"]: a for a in document["ladders"]}
    assert along["Pythia"]["axis"] == "N" and along["Cerebras-GPT"]["axis"] == "C"
    for a in document["ladders"]:
        assert a["lower"] < a["median"] < a["upper"] and f"recipe == '{a['recipe']}'" in a["command"]
    assert run(["doctor", "byte-ladder", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["next_runs"] == [] and document["ladders"] is None


def test_one_budget_is_told_and_not_called_a_ray():
    runs = table(SIZES, 1e20 / 6 / SIZES)
    diagnosis = bs.doctor(runs, "chinchilla")
    assert found(diagnosis, "one-isoflop").status == "warn"
    assert not diagnosis.refusals
    assert found(diagnosis, "identified").status in ("warn", "fail")


def test_too_few_rows_are_refused_unless_insisted():
    runs = chinchilla_world(6, 0)
    with pytest.raises(bs.RunsError, match="6 rows for 5 parameters") as caught:
        bs.fit("chinchilla", runs)
    assert caught.value.code == "BS-R020"
    assert not bs.doctor(runs, "chinchilla", fix={"E": 1.8}).refusals  # a known value is one parameter less
    fit = bs.fit("chinchilla", runs, prior_only_ok=True)
    assert fit.headline_source == "none"


def test_a_short_range_warns():
    C = np.geomspace(1e20, 4e20, 12)
    N = np.geomspace(2e8, 5e9, 12)
    diagnosis = bs.doctor(table(N, C[::-1] / 6 / N), "chinchilla")
    assert found(diagnosis, "compute-range").status == "warn"


def test_recipes_that_hold_the_exponents_apart():
    """Pile models: within one family D is constant, within another D = 20N; only together do they seem to answer."""
    runs = bs.load_runs("pile-models")
    diagnosis = bs.doctor(runs, "chinchilla")
    confounded = found(diagnosis, "recipe-confounded")
    assert confounded.status == "fail" and "confounded" in confounded.message
    assert found(diagnosis, "identified").status != "fail", "pooled, the design would pass"
    fit = bs.fit("chinchilla", runs)
    assert fit.converged
    assert fit.verdict.status == "fail" and "confounded" in fit.verdict.lines[0]
    assert "D = 300B throughout Pythia" in fit.verdict.lines[0] and "the prior alone says" in fit.verdict.lines[1]
    assert any(line.startswith("Next ") and "runs of " in line for line in fit.verdict.lines)
    with pytest.raises(bs.NotFittedFor, match="confounded"):
        bs.allocate(fit, 1e23)
    assert bs.allocate(fit, 1e23, draws="posterior").interval("params").shape == (3, 1)


def test_recipes_with_good_designs_are_not_confounded():
    runs = chinchilla_world(120, 0, groups=[("recipe", 2, 1.0)])
    assert found(bs.doctor(runs, "chinchilla"), "recipe-confounded").status == "pass"


def test_missing_columns_name_the_flag(ladder):
    with pytest.raises(bs.RunsError, match="needs U") as caught:
        bs.doctor(ladder, "data_constrained")
    assert caught.value.code == "BS-R030" and "--column" in str(caught.value)


def test_every_row_ten_times_is_named_and_adds_nothing(ladder, plain_fit):
    """Copies of rows are no evidence: they are counted, left out, and the answer is that of the rows themselves."""
    frame = pd.concat([ladder.frame] * 10, ignore_index=True)
    copies = bs.read_runs(frame, loss_unit="nats/byte")
    assert len(copies) == len(ladder)
    assert any("270" in n.message and n.code == "BS-R014" for n in copies.notes)
    fit = bs.fit("chinchilla", copies, group="none", seed=0)
    assert fit.quantities()["a"] == plain_fit.quantities()["a"]
