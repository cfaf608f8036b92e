"""The numbers behind a report: optima, parabolas, and the digits that a Monte Carlo error supports."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.reporting import checklist
from bayescale.reporting.approaches import isoflop_minima
from bayescale.reporting.cells import decimals_of, html_of_maths, interval, number, rounded
from bayescale.reporting.checklist import NUMBERS, _columns_like, _described, _domain, _evaluated_on, checklist_items
from bayescale.reporting.envelope import envelope_minima
from bayescale.reporting.numbers import kit_document, round_numbers
from bayescale.reporting.sizes import optimal_tokens
from bayescale.runs import Runs


def test_optimal_tokens_are_those_of_the_closed_form(ladder_fit):
    draws = ladder_fit.draws()
    N = 2e6
    D = optimal_tokens(ladder_fit, [N])[0].ravel()
    a, b, G = draws["a"], draws["b"], draws["G"]
    C = 6 * (N / G) ** (1 / a)
    assert D == pytest.approx((C / 6) ** b / G, rel=1e-8)


def test_parabolas_through_exact_parabolas_give_their_slope(ladder_fit):
    C = np.repeat([1e18, 1e19, 1e20], 5)
    optimum = 1e8 * (C / 1e18) ** 0.45
    N = optimum * np.tile([0.25, 0.5, 1.0, 2.0, 4.0], 3)
    frame = pd.DataFrame(
        {"params": N, "tokens": C / 6 / N, "flops": C, "loss": 3 + 0.1 * np.log(N / optimum) ** 2, "budget": C}
    )
    found = isoflop_minima(Runs(frame, "exact"), ladder_fit)
    assert found["value"] == pytest.approx(0.45, abs=1e-9) and found["budgets"] == 3
    with pytest.raises(bs.NotFittedFor, match="approach 2"):
        isoflop_minima(Runs(frame.iloc[:10], "two budgets"), ladder_fit)


@pytest.mark.parametrize(
    "value, error, shown",
    [
        (0.69010, 0.0007, "0.690"),
        (0.69010, 0.0016, "0.69"),
        (1234.5, 3.0, "1230"),
        (15263.0, 120.0, "15,000"),
        (4.2e-7, 1e-8, "4.2e-07"),
        (0.04, 0.5, "0.04"),
        (3.14159, None, "3.14"),
    ],
)
def test_digits_follow_the_monte_carlo_error(value, error, shown):
    assert rounded(value, decimals_of(error, value)) == shown


def test_counts_and_intervals_are_written_as_people_do():
    assert number(3.26e6, 2e4, count=True).markdown == "3.3M"
    assert number(999_999.0, 1e4, count=True).markdown == "1.00M"
    assert number(None).markdown == "–" and number(float("nan")).latex == "--"
    cell = interval(
        {"median": 0.69, "lower": 0.6224, "upper": 0.7487, "mcse": dict(median=7e-4, lower=8e-4, upper=2e-3)}
    )
    assert (cell.median.markdown, cell.lower.markdown, cell.upper.markdown) == ("0.690", "0.62", "0.75")
    assert round_numbers(3e8, 4e9) == [5e8, 1e9, 2e9]


@pytest.mark.parametrize(
    "latex, page",
    [
        (r"E + A N^{-\alpha}", "<i>E + A N<sup>−α</sup></i>"),
        (r"A_\mathrm{ref}", "<i>A<sub>ref</sub></i>"),
        (r"\bar A_\mathrm{ref}", "<i>A\u0304<sub>ref</sub></i>"),
        (r"\tau_{A_\mathrm{ref}}", "<i>τ<sub>A<sub>ref</sub></sub></i>"),
        (r"u^{(\mathrm{budget})}_{i}", "<i>u<sup>(budget)</sup><sub>i</sub></i>"),
        (r"k\,x^a", "<i>k x<sup>a</sup></i>"),
        (r"\mathrm{LogNormal}(-1, 0.5)", "<i>LogNormal(−1, 0.5)</i>"),
        (r"\sqrt{k q}", r"<code>\sqrt{k q}</code>"),
    ],
)
def test_mathematics_is_written_in_html(latex, page):
    assert html_of_maths(latex) == page


def test_versions_are_shown():
    found = bs.show_versions()
    assert {"bayescale", "jax", "numpyro", "python", "platform"} <= set(found)
    assert f"bayescale  {bs.__version__}" in re.sub(" +", "  ", repr(found))


@pytest.fixture(scope="module")
def training_curves():
    """Curves of 30 model sizes under a Chinchilla law without noise, five checkpoints a decade of data."""
    E, A, B, alpha, beta = 1.7, 400.0, 1500.0, 0.34, 0.36
    sizes, steps = np.geomspace(1e7, 1e10, 30), np.geomspace(1e8, 1e12, 21)
    N, D = np.repeat(sizes, len(steps)), np.tile(steps, len(sizes))
    run = np.repeat([f"run {k}" for k in range(len(sizes))], len(steps))
    loss = E + A * N**-alpha + B * D**-beta
    return pd.DataFrame({"run": run, "params": N, "tokens": D, "loss": loss}), beta / (alpha + beta)


def test_the_envelope_of_exact_curves_has_the_laws_exponent(ladder_fit, training_curves):
    """Sizes are .24 apart in ln N, so minima are up to .12 off: over 12.8 e-folds of compute, .01 of the slope."""
    frame, a = training_curves
    found = envelope_minima(Runs(frame, "curves"), ladder_fit)
    assert found["value"] == pytest.approx(a, abs=0.01) and found["runs"] == 30
    assert found["lower"] < a < found["upper"] < found["lower"] + 0.1
    # Neither the order of the rows nor a run without checkpoints is part of the envelope.
    lone = pd.DataFrame({"run": ["lone"], "params": [1e8], "tokens": [1e10], "loss": [1.0]})
    shuffled = pd.concat([frame, lone]).sample(frac=1, random_state=1).reset_index(drop=True)
    assert envelope_minima(Runs(shuffled, "shuffled"), ladder_fit)["value"] == pytest.approx(found["value"], abs=1e-9)


def test_minima_at_the_edge_of_the_sizes_are_none(ladder_fit, training_curves):
    frame, _ = training_curves
    few = frame[frame["params"] < 2.1e7]  # whatever the compute, the largest or smallest of these is best
    with pytest.raises(bs.NotFittedFor, match="the best at some compute"):
        envelope_minima(Runs(few[few["tokens"] > 1e11].reset_index(drop=True), "edge"), ladder_fit)


@pytest.mark.parametrize(
    "without, says", [("run", "a column run"), ("checkpoints", "or more checkpoints"), ("sizes", "4 model sizes")]
)
def test_without_curves_the_envelope_says_what_it_needs(ladder_fit, training_curves, without, says):
    frame, _ = training_curves
    if without == "run":
        frame = frame.drop(columns="run")
    elif without == "checkpoints":
        frame = frame.groupby("run").head(2)
    else:
        frame = frame[frame["params"] < 1.7e7]
    with pytest.raises(bs.NotFittedFor, match=says):
        envelope_minima(Runs(frame.reset_index(drop=True), "less"), ladder_fit)


def table_with(columns, header="loss", notes=(), renamed={}):  # noqa: B006 (never changed)
    """What the checklist looks at of a fit of four runs with these columns besides the usual ones."""
    frame = pd.DataFrame({"params": [1e6, 2e6, 4e6, 8e6], "tokens": 1e8, "loss": [3.0, 2.9, 2.8, 2.7], **columns})
    runs = Runs(frame, "table", column_map={"loss": header, **renamed})
    info = {"loss_unit": "nats/token", "runs": {"assumptions": [*runs.assumptions, *notes], "source": "table"}}
    return SimpleNamespace(runs=runs, law=bs.find_law("chinchilla"), info=info)


def test_the_numbers_of_the_checklist_are_its_items(ladder_fit):
    made = kit_document(ladder_fit, hold_out=False, bootstrap=0)
    items = checklist_items(ladder_fit, made)
    assert tuple(i.number for i in items) == NUMBERS
    own = checklist_items(ladder_fit, made, {"2.8": "open, under Apache-2.0"})
    changed = [(a.number, b.answer) for a, b in zip(items, own, strict=True) if a != b]
    assert [number for number, _ in changed] == ["2.8"] and "The authors: open, under Apache-2.0" in changed[0][1]
    with pytest.raises(bs.NotFittedFor, match=r"no item '9\.9'"):
        bs.report(ladder_fit, "never", answers={"9.9": "x"})


def test_the_checklist_reads_columns_and_headers_and_makes_nothing_up():
    assumed = "the loss was taken to be in nats/token (state another unit with --loss-unit)"
    bare = table_with({}, notes=[assumed], renamed={"tokens": "D"})
    assert _evaluated_on(bare) is None and _domain(bare) is None
    assert _domain(table_with({}, notes=[assumed, "tokens is not in the table: D = C/6N was used"])) is None
    assert _domain(table_with({}, notes=[assumed])).endswith("in tokens: column tokens)")
    assert _described(bare, _columns_like(bare, checklist._DATA)) is None
    assert _evaluated_on(table_with({}, "val_loss")) is None, "a validation set without a name is not told"
    assert _evaluated_on(table_with({}, "loss_c4_val")) == "as the header says: loss_c4_val"
    assert "the training data" in _evaluated_on(table_with({}, "Train loss"))
    stated = table_with({}, renamed={"tokens": "D"})
    assert _domain(stated) == "models of sequences of tokens (loss in nats/token)"
    told = table_with({"dataset": ["c4", "c4", "pile", "pile"], "eval_set": "c4", "task": "translation"})
    assert _described(told, _columns_like(told, checklist._DATA)) == "Recorded in the table: dataset: c4, pile"
    assert _evaluated_on(told).endswith("eval_set: c4") and _domain(told).endswith("task: translation")
    renamed = table_with({"recipe": ["c4", "c4", "rw", "rw"]}, renamed={"recipe": "dataset"})
    assert _described(renamed, _columns_like(renamed, checklist._DATA)).endswith("dataset: c4, rw")
    assert _domain(table_with({"loss_of_programming_languages": 2.0})).startswith("models of sequences")
    many = table_with({"corpus": [f"corpus {k}" for k in range(4)], "hparams": ["a", "b", "a", "b"]})
    assert _described(many, _columns_like(many, checklist._TRAINING)).endswith("hparams: a, b")
