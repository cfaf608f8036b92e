"""The numbers behind a report: optima, parabolas, and the digits that a Monte Carlo error supports."""

import re

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.reporting.approaches import isoflop_minima
from bayescale.reporting.cells import decimals_of, html_of_maths, interval, number, rounded
from bayescale.reporting.numbers import round_numbers
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
    assert html_of_maths(r"E + A N^{-\alpha}") == "<i>E + A N<sup>−α</sup></i>"


def test_versions_are_shown():
    found = bs.show_versions()
    assert {"bayescale", "jax", "numpyro", "python", "platform"} <= set(found)
    assert f"bayescale  {bs.__version__}" in re.sub(" +", "  ", repr(found))
