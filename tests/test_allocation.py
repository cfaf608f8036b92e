"""Allocations and forecasts: closed form against numbers, per-draw quantities, and refusals that help."""

import dataclasses

import numpy as np
import pytest
from worlds import TRUTH, chinchilla_world

import bayescale as bs
from bayescale.allocation import NEAR_OPTIMAL, cost_named, default_budgets

BUDGETS = (1e14, 1e15, 1e16)


@pytest.fixture(scope="module")
def made(ladder_fit):
    return bs.allocate(ladder_fit, BUDGETS)


def test_closed_form_equals_numbers(ladder_fit, made):
    numeric = bs.allocate(ladder_fit, BUDGETS, closed_form=False)
    for name in ("params", "tokens", "tokens_per_param", "loss"):
        np.testing.assert_allclose(numeric.dataset[name], made.dataset[name], rtol=1e-8)


def test_allocation_of_known_parameters(ladder_fit, made):
    """N = G (C/6)^a by hand, from the draws."""
    d = ladder_fit.draws()
    G = (d["alpha"] * d["A"] / (d["beta"] * d["B"])) ** (1 / (d["alpha"] + d["beta"]))
    for k, C in enumerate(BUDGETS):
        N = np.asarray(made.dataset["params"])[k].ravel()
        D = np.asarray(made.dataset["tokens"])[k].ravel()
        np.testing.assert_allclose(N, G * (C / 6) ** d["a"], rtol=1e-10)
        np.testing.assert_allclose(6 * N * D, C, rtol=1e-10)
        loss = d["E"] + d["A"] * N ** -d["alpha"] + d["B"] * D ** -d["beta"]
        np.testing.assert_allclose(np.asarray(made.dataset["loss"])[k].ravel(), loss, rtol=1e-10)


def test_near_optimal_set_is_where_the_loss_is_a_thousandth_higher(ladder_fit, made):
    d = ladder_fit.draws()
    best = np.asarray(made.dataset["loss"])[1].ravel()
    for end in ("near_lower", "near_upper"):
        N = np.asarray(made.dataset[end])[1].ravel()
        loss = d["E"] + d["A"] * N ** -d["alpha"] + d["B"] * (BUDGETS[1] / 6 / N) ** -d["beta"]
        np.testing.assert_allclose(loss, (1 + NEAR_OPTIMAL) * best, rtol=1e-9)
    assert (np.asarray(made.dataset["near_lower"]) < np.asarray(made.dataset["params"])).all()
    assert (np.asarray(made.dataset["near_upper"]) > np.asarray(made.dataset["params"])).all()


def test_document_and_frame_agree(made):
    document, frame = made.to_json(), made.frame()
    row = frame[(frame.flops == 1e15) & (frame.quantity == "params")].iloc[0]
    entry = next(e for e in document if e["flops"] == 1e15)
    assert entry["params"] == {"median": row["median"], "lower": row.lower, "upper": row.upper}
    assert entry["extrapolation_ratio"] == pytest.approx(1e15 / made.largest)
    assert frame.attrs["prob"] == 0.9
    assert set(entry) == {
        "flops",
        "extrapolation_ratio",
        "params",
        "tokens",
        "tokens_per_param",
        "loss",
        "near_optimal",
    }


def test_a_cap_on_size_binds(ladder_fit, made):
    capped = bs.allocate(ladder_fit, [1e16], max_params=5e6)
    N = np.asarray(capped.dataset["params"])
    assert (N <= 5e6 * (1 + 1e-12)).all()
    np.testing.assert_allclose(6 * N * np.asarray(capped.dataset["tokens"]), 1e16, rtol=1e-9)
    assert (np.asarray(capped.dataset["loss"]) >= np.asarray(made.dataset["loss"])[2:] - 1e-12).all()


def test_cost_of_the_table_spends_as_the_runs_did(ladder, ladder_fit):
    cost = cost_named("table", ladder)
    N, D, C = (ladder.values(c) for c in ("params", "tokens", "flops"))
    assert np.max(np.abs(np.log(cost.flops(N, D) / C))) < 0.05  # 6ND is off by up to 50 %
    made = bs.allocate(ladder_fit, [1e15], cost="table")
    spent = cost.flops(np.asarray(made.dataset["params"]), np.asarray(made.dataset["tokens"]))
    np.testing.assert_allclose(spent, 1e15, rtol=1e-9)
    with pytest.raises(bs.LawError, match="no cost 'dollars'"):
        bs.allocate(ladder_fit, [1e15], cost="dollars")


def test_default_budgets_are_the_powers_of_ten_above(ladder):
    assert default_budgets(ladder) == (1e15, 1e16)


def test_laws_without_an_optimum_say_what_they_give(ladder):
    fit = bs.fit("power_law_offset", ladder, group="none")
    with pytest.raises(bs.NotFittedFor, match="no compute-optimal model size") as caught:
        bs.allocate(fit, 1e15)
    assert "loss at x" in str(caught.value)
    assert fit.info["budgets"] == []


def test_an_optimum_that_needs_more_asks_for_it():
    runs = chinchilla_world(60, 2)
    repeats = np.tile([1.0, 4.0, 20.0], 20)
    runs = runs.with_columns({"unique_tokens": runs.values("tokens") / repeats})
    fit = bs.fit("data_constrained", runs, group="none")
    with pytest.raises(bs.NotFittedFor, match="U \\(distinct training tokens\\)"):
        bs.allocate(fit, 1e21)
    few, many = (bs.allocate(fit, 1e22, given={"U": u}).interval("loss")[0, 0] for u in (1e10, 1e12))
    assert few > many  # repeated tokens are worth less


@pytest.mark.parametrize(
    "asked",
    [
        lambda fit: bs.allocate(fit, 1e40, far_ok=True),
        lambda fit: bs.allocate(fit, 1e-3),
        lambda fit: bs.forecast(fit, N=1e200, D=1e200),
        lambda fit: bs.forecast(fit, N=1e100, D=1e300, far_ok=True),
        lambda fit: bs.forecast(fit, N=1e-5, D=1e9),
        lambda fit: bs.forecast(fit, N=1e9, C=1e9),
        lambda fit: bs.regret(fit, N=1e-3, flops=1e15),
        lambda fit: bs.next_runs(fit, budget=1e40),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_nobody_could_train_is_refused(ladder_fit, asked):
    """Less than one parameter or token, or 1e40 FLOP, however far the form of the law may be trusted."""
    with pytest.raises(bs.NotFittedFor, match=r"less than one|more than anyone could train") as caught:
        asked(ladder_fit)
    assert caught.value.code == "BS-R028" and caught.value.remedy


def test_every_budget_must_be_a_number(ladder_fit):
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(bs.NotFittedFor, match="positive"):
            bs.allocate(ladder_fit, bad)


@pytest.mark.parametrize("law", ["kaplan_nd", "gadre_overtrain", "additive_power"])
def test_other_laws_of_size_and_data(ladder, law):
    """Laws that determine N and D allocate; the generic additive law, whose axes are unnamed, refuses."""
    fit = bs.fit(law, ladder, group="none")
    if law == "additive_power":
        with pytest.raises(bs.NotFittedFor):
            bs.allocate(fit, 1e15, draws="posterior")
        return
    exact = bs.allocate(fit, BUDGETS, draws="posterior")
    numeric = bs.allocate(fit, BUDGETS, draws="posterior", closed_form=False)
    np.testing.assert_allclose(numeric.dataset["params"], exact.dataset["params"], rtol=1e-8)


def test_forecast_kinds_are_nested(ladder_fit):
    made = bs.forecast(ladder_fit, N=[356352, 356352], D=[1e7, 1e8], levels={"params": "356352"})
    mean, new, same = (made.interval(k) for k in ("mean", "new_group", "same_group"))
    assert (new[2] - new[1] > mean[2] - mean[1]).all()
    assert (same[2] - same[1] > mean[2] - mean[1]).all()
    assert {"mean", "new_group", "same_group"} <= set(made.to_json()[0])
    assert made.unit == "nats/byte"


def test_forecast_of_the_mean_is_the_formula(ladder_fit):
    d = ladder_fit.draws()
    made = bs.forecast(ladder_fit, N=1e6, D=1e8)
    expected = d["E"] + d["A"] * 1e6 ** -d["alpha"] + d["B"] * 1e8 ** -d["beta"]
    np.testing.assert_allclose(np.asarray(made.dataset["mean"]).ravel(), expected, rtol=1e-12)


def test_forecast_completes_by_6nd_and_optimises_alone(ladder_fit, made):
    by_compute = bs.forecast(ladder_fit, C=6e14, N=1e6)
    assert by_compute.inputs["D"][0] == pytest.approx(1e8)
    alone = bs.forecast(ladder_fit, C=1e15)
    np.testing.assert_allclose(alone.interval("mean")[0, 0], made.interval("loss")[0, 1])


def test_replicates_of_new_runs_cover_the_observed(plain_fit):
    """90 % intervals of new runs at the observed inputs hold 22 to 30 of 30 runs (1 % tails of Binomial(30, .9))."""
    runs = plain_fit.runs
    made = bs.forecast(plain_fit, N=runs.values("params"), D=runs.values("tokens"))
    _, lower, upper = made.interval("new_group")
    inside = ((runs.values("loss") > lower) & (runs.values("loss") < upper)).sum()
    assert 22 <= inside <= 30


def test_forecast_refusals(ladder_fit):
    for options, message in (
        (dict(N=1e6), "needs D"),
        (dict(N=-1, D=1e8), "N must be a positive number"),
        (dict(N=[1e6, 2e6], D=[1e8, 2e8, 3e8]), "2 values"),
        (dict(N=1e6, D=1e8, levels={"params": "7"}), "no level '7'"),
        (dict(N=1e6, D=1e8, levels={"colour": "red"}), "no effect of 'colour'"),
        (dict(N=1e6, D=1e8, response="accuracy"), "no response 'accuracy'"),
    ):
        with pytest.raises(bs.BayescaleError, match=message):
            bs.forecast(ladder_fit, **options)


def test_published_allocation_at_gophers_compute(epoch):
    """Besiroglu et al.: about 20 tokens a parameter at Chinchilla's compute; closed form of their point 18.4."""
    fit = bs.fit("chinchilla", epoch, group="none")
    _, lower, upper = bs.allocate(fit, 5.76e23).interval("tokens_per_param")
    assert lower[0] < 18.4 < upper[0]
    assert TRUTH["E"] < fit.quantities()["E"].upper


def test_records_read_well(made, ladder_fit):
    assert "90% credible" in repr(made)
    assert "<table" in made._repr_html_()
    assert dataclasses.is_dataclass(made)
    assert "mean" in repr(bs.forecast(ladder_fit, N=1e6, D=1e8))
