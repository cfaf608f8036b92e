"""The lines of a verdict: few, computed from the fit, and what a decision needs."""

import json

import numpy as np
import pytest
from worlds import chinchilla_world

import bayescale as bs
from bayescale.cli import run
from bayescale.tables import fit_document, write_folder
from bayescale.verdicts import verdict_of


@pytest.fixture(scope="module")
def bent_fit():
    """100 runs whose exponent in N falls with compute."""
    runs = chinchilla_world(100, 3, sigma=0.004)
    N, D, C = (runs.values(c) for c in ("params", "tokens", "flops"))
    alpha = np.where(C < np.median(C), 0.5, 0.25)
    loss = 1.8 + 0.36 * (N / 1e9) ** -alpha + 2085.0 * D**-0.3658
    noise = 0.004 * np.random.default_rng(3).standard_normal(100)
    return bs.fit(
        "chinchilla", runs.with_columns({"loss": loss * np.exp(noise)}), group="none", flops=[1e23], draws=500
    )


def line_of(fit, start):
    return next(line for line in fit.verdict.lines if line.startswith(start))


def test_a_verdict_is_short_and_headed(ladder_fit, bent_fit):
    for fit in (ladder_fit, bent_fit):
        told = fit.verdict
        assert 3 <= len(told.lines) <= 10 and told.lines[-1].endswith("checks passed.")
        assert str(told).startswith(f"{told.status.upper()} {fit.runs.source} · chinchilla · ")
        assert fit_document(fit)["verdict"]["header"] == told.header
    assert ladder_fit.verdict.header == "byte-ladder · chinchilla · 30 of 134 rows · 11 sizes, 5 budgets"


def test_the_numbers_are_those_of_the_fit(bent_fit):
    """Size, windows, and what the choice loses, computed again from the halves' coefficients and the law itself."""
    N = float(bs.allocate(bent_fit, 1e23).interval("params")[0, 0])
    told = line_of(bent_fit, "At 1e23")
    assert f": {N / 1e9:.2g}B" in told or f": {N / 1e9:.0f}B" in told
    halves = [w["values"] for w in bent_fit.info["windows"]["by_compute"][:2]]
    sizes = np.geomspace(1e7, 1e13, 6001)

    def loss(p, n):
        return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * (1e23 / 6 / n) ** -p["beta"]

    regret = max(100 * (loss(p, N) / loss(p, sizes).min() - 1) for p in halves)
    assert f"loses at most {regret:.2g} % under either half" in told
    ends = [sizes[np.argmin(loss(p, sizes))] for p in halves]
    assert ("safer than the exponent" in told) == (regret <= 1 and max(ends) / min(ends) >= 1.5)


def test_what_fails_comes_first_and_then_what_to_do(bent_fit):
    lines = bent_fit.verdict.lines
    assert lines[0].startswith("One value of a")
    assert "by window of compute" in line_of(bent_fit, "All runs together: a = ")
    sd = bent_fit.draws("posterior")["a"].std()
    assert f"Do not cite ± {sd:.2g}"[:18] in line_of(bent_fit, "Do not cite")
    plan = bent_fit.info["plan"]
    assert plan["kind"] in ("repeat", "new-halves") and len(plan["runs"]) == 6 and 0 < plan["sd_ratio"] < 1
    known = set(bent_fit.runs.values("params"))
    assert all((r["params"] in known) == (plan["kind"] == "repeat") for r in plan["runs"])
    assert fit_document(bent_fit)["next_runs"] == plan
    assert "between the halves becomes" in line_of(bent_fit, "Next: ")
    in_vain = bs.Fit(bent_fit.tree, bent_fit.law, {**bent_fit.info, "plan": {**plan, "sd_ratio": 0.98}})
    assert any(
        line.startswith("Next: more such runs would hardly narrow the ± ") for line in verdict_of(in_vain)["lines"]
    )


@pytest.mark.slow
def test_new_runs_narrow_as_promised(ladder_fit):
    """The ladder with the proposed runs trained: the linear prediction against a refit, within a quarter."""
    plan = ladder_fit.info["plan"]
    assert plan["kind"] == "new" and line_of(ladder_fit, "Next: ")
    assert sum(r["flops"] for r in plan["runs"]) <= 1.01 * ladder_fit.runs.values("flops").max()
    p = {n: np.median(x) for n, x in ladder_fit.draws("posterior").items() if n in ("E", "A", "B", "alpha", "beta")}
    frame = ladder_fit.runs.frame
    made = frame.iloc[[0] * len(plan["runs"])].copy()
    for column in ("params", "tokens", "flops"):
        made[column] = [r[column] for r in plan["runs"]]
    made["loss"] = p["E"] + p["A"] * made["params"] ** -p["alpha"] + p["B"] * made["tokens"] ** -p["beta"]
    made["budget"] = made["flops"]
    made.index = range(1000, 1000 + len(made))
    import pandas as pd

    runs = bs.runs.Runs(pd.concat([frame, made]), "more", ladder_fit.runs.loss_unit)
    again = bs.fit("chinchilla", runs, references=ladder_fit.references, group=list(ladder_fit.group))
    sd, now = (f.draws("posterior")[plan["quantity"]].std() for f in (ladder_fit, again))
    assert now / sd == pytest.approx(plan["sd_ratio"], rel=0.25)


def test_other_noises_enter_the_verdict(bent_fit):
    told = verdict_of(bent_fit, noises=(0.41, 0.47))
    assert any("the noise model alone moves it 0.41 to 0.47" in line for line in told["lines"])


def test_the_audit_repeats_the_verdict_and_drops_the_highest(bent_fit, tmp_path, capsys):
    made = bs.audit(bent_fit, ["a"])
    assert made.verdict == bent_fit.verdict
    highest = made.highest
    assert highest["k"].tolist() == [0, 1, 2, 3, 5, 10]
    order = np.argsort(-bent_fit.runs.values("loss"))
    assert highest["row"].iloc[1] == bent_fit.runs.rows[order[0]]
    kept = np.ones(100, bool)
    kept[order[:10]] = False
    point = bs.least_squares("chinchilla", bent_fit.runs.take(kept), bootstrap=0)
    spread = bent_fit.draws("posterior")["a"].std()
    assert highest["value"].iloc[-1] == pytest.approx(point.quantities()["a"].mean, abs=3 * spread)
    folder = str(write_folder(bent_fit, tmp_path / "fit"))
    assert run(["audit", folder]) == 0
    said = capsys.readouterr().out
    for part in ("without one row", "move it down most", "without the k runs of highest loss", "Do not cite"):
        assert part in said
    assert run(["audit", folder, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"]["lines"] == list(bent_fit.verdict.lines) and document["highest_left_out"]


def test_far_beyond_the_runs_an_answer_must_be_wanted(ladder_fit):
    far = 2e3 * (6 * ladder_fit.runs.values("params") * ladder_fit.runs.values("tokens")).max()
    for ask in (lambda: bs.allocate(ladder_fit, far), lambda: bs.forecast(ladder_fit, C=far)):
        with pytest.raises(bs.NotFittedFor, match="nothing in the table bears on it") as caught:
            ask()
        assert caught.value.code == "BS-R027" and "--far-ok" in str(caught.value)
    made = bs.allocate(ladder_fit, far, far_ok=True).to_json()[0]
    assert made["extrapolation_ratio"] == pytest.approx(2e3)
    bs.forecast(ladder_fit, C=far, far_ok=True)
    entries = fit_document(ladder_fit.with_info(budgets=[1e15, far]))["allocation"]
    assert entries[0]["params"]["median"] > 0
    assert entries[1]["flops"] == far and entries[1]["params"]["median"] is None


def test_what_is_called_inside_the_data_is():
    """Budgets between two powers of ten, and runs that are all smaller than the best size, or all larger."""

    def ladder_from(low, high, times):
        C = np.repeat(np.geomspace(low, high, 5), 8)
        N = np.sqrt(C / 120) * np.tile(np.geomspace(*times, 8), 5)
        loss = (1.7 + 400 * N**-0.34 + 410 * (C / 6 / N) ** -0.28) * np.exp(
            0.003 * np.random.default_rng(5).standard_normal(40)
        )
        return bs.read_runs({"params": N, "tokens": C / 6 / N, "loss": loss}, loss_unit="nats/token")

    tables = {
        "between": ladder_from(2e19, 9.35e19, (0.25, 4)),
        "reaching": ladder_from(1e18, 1e20, (0.25, 4)),
        "small": ladder_from(1e18, 1e20, (0.02, 0.3)),
        "large": ladder_from(1e18, 1e20, (9, 50)),
    }
    batch = bs.fit_many("chinchilla", tables, noise="normal", group="none", progress=False)
    told = {n: next(x for x in verdict_of(batch[n])["lines"] if "FLOP" in x and "near-optimal" in x) for n in tables}
    assert told["between"].startswith("Inside the data, at 9.3e19 FLOP: ")
    assert told["reaching"].startswith("Inside the data, at 1e20 FLOP: ")
    assert told["small"].startswith("Within the runs' compute, at 1e20 FLOP, but beyond their sizes: ")
    assert told["large"].startswith("Within the runs' compute, at 1e20 FLOP, but beyond their sizes and tokens: ")
