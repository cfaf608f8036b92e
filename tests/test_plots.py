"""Figures: what is drawn is what the posterior says, in the Axes that were given, with units and probability."""

import os
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import xarray as xr

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.collections import LineCollection, PolyCollection

import bayescale as bs
from bayescale.allocation import NEAR_OPTIMAL, cost_named
from bayescale.laws import find_law
from bayescale.plots import (
    plot_fit,
    plot_frontier,
    plot_groups,
    plot_isoflop,
    plot_loss_contour,
    plot_prior_posterior,
    plot_residuals,
)
from bayescale.plots.budgets import frontier_bands, isoflop_curves, loss_surface
from bayescale.plots.comparisons import density, group_effects, residual_table, scalars
from bayescale.plots.draws import thinned
from bayescale.plots.pairs import default_pairs
from bayescale.plots.style import SparseLog, count_label, percent, power_label

#: Functions of one Axes, and what their labels must say.
SINGLE = {
    plot_isoflop: ("model size N (parameters)", "loss (nats/byte)"),
    plot_frontier: ("training compute 6ND (FLOP)", "optimal model size N (parameters)"),
    plot_loss_contour: ("model size N (parameters)", "training data D (tokens)"),
    plot_residuals: ("training compute C (FLOP)", "residual (%)"),
    plot_groups: ("effect on the loss (%)", ""),
}
BUDGETED = (plot_isoflop, plot_frontier, plot_loss_contour)


pytestmark = pytest.mark.usefixtures("closed")


@pytest.fixture(scope="module")
def draws(thin_fit):
    """The draws behind a figure."""
    return {str(k): v.to_numpy().ravel() for k, v in thin_fit.tree["headline"].data_vars.items()}


def new_ax():
    return pyplot.subplots(figsize=(3.3, 2.6), layout="constrained")[1]


def legend_text(ax):
    made = ax.get_legend()
    return " | ".join(t.get_text() for t in [made.get_title(), *made.get_texts()])


def chinchilla_loss(p, N, D):
    return p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]


@pytest.mark.parametrize("plot", SINGLE, ids=lambda f: f.__name__)
def test_draws_in_the_axes_given_with_units_and_probability(plot, thin_fit):
    ax = new_ax()
    figures = pyplot.get_fignums()
    assert plot(thin_fit, ax=ax, prob=0.8) is ax
    assert pyplot.get_fignums() == figures
    assert ax.figure.axes == [ax]
    assert (ax.get_xlabel(), ax.get_ylabel()) == SINGLE[plot]
    assert "80%" in legend_text(ax)
    ax.figure.canvas.draw()


def test_makes_a_figure_when_none_is_given(thin_fit):
    ax = plot_groups(thin_fit)
    assert pyplot.get_fignums() == [ax.figure.number]
    assert "90% credible" in legend_text(ax)


def test_changes_no_setting_and_shows_nothing(thin_fit, monkeypatch):
    monkeypatch.setattr(pyplot, "show", lambda *a, **k: pytest.fail("a figure was shown"))
    before = dict(matplotlib.rcParams)
    for plot in (plot_groups, plot_fit, plot_frontier):
        plot(thin_fit)
    plot_prior_posterior(thin_fit, ["E"])
    assert dict(matplotlib.rcParams) == before


def test_needs_no_display_and_is_loaded_on_demand():
    code = (
        "import sys, bayescale\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from bayescale.plots.style import new_axes\n"
        "new_axes(None).figure.canvas.draw()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_thinning_keeps_every_kth_draw(ladder_fit):
    whole, few = ladder_fit.tree["posterior"]["alpha"], thinned(ladder_fit, 1000).tree["posterior"]["alpha"]
    step = -(-whole.size // 1000)
    assert few.size <= 1000 and np.array_equal(few, whole[:, ::step])
    assert thinned(ladder_fit, whole.size).tree["posterior"]["alpha"].size == whole.size


# IsoFLOP curves.


def test_isoflop_curves_are_quantiles_of_the_law_along_the_tables_own_cost(thin_fit, draws):
    found = isoflop_curves(thin_fit)
    rule = cost_named("table", thin_fit.runs)
    assert found.cost == rule
    budgets = found.optimum["budget"].to_numpy()
    assert np.allclose(budgets, [3e12, 1e13, 3e13, 1e14, 3e14], rtol=0.01)
    for budget, curve in found.curves.groupby("budget"):
        for _, row in curve.iloc[[0, 30, -1]].iterrows():
            assert rule.flops(row["params"], row["tokens"]) == pytest.approx(budget, rel=1e-9)
            loss = chinchilla_loss(draws, row["params"], row["tokens"])
            assert np.quantile(loss, [0.5, 0.05, 0.95]) == pytest.approx(
                row[["median", "lower", "upper"]].to_numpy(), rel=1e-9
            )
        # The optimum marked is near-optimal by the curve drawn: a median of optima is not the optimum of medians.
        best = found.optimum.loc[found.optimum["budget"] == budget, "params_median"].item()
        there = np.interp(np.log(best), np.log(curve["params"]), curve["median"])
        assert there / curve["median"].min() - 1 < NEAR_OPTIMAL


def test_isoflop_draws_every_run_at_its_budget(thin_fit):
    ax = plot_isoflop(thin_fit, new_ax())
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(bands) == 5
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == len(thin_fit.runs)
    assert [t.get_text() for t in ax.texts] == [power_label(b) for b in (3e14, 1e14, 3e13, 1e13, 3e12)]


def test_isoflop_keeps_runs_of_no_budget_and_draws_budgets_without_runs(thin_fit):
    found = isoflop_curves(thin_fit, [1e15, 1e13])
    assert list(found.optimum["budget"]) == [1e13, 1e15]
    ladder = thin_fit.runs.values("budget")
    assert np.array_equal(found.runs["budget"].notna(), ladder == 1e13)
    ax = plot_isoflop(thin_fit, new_ax(), [1e15, 1e13])
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == len(thin_fit.runs)


def test_isoflop_asks_for_budgets_where_the_table_has_none(thin_fit):
    constant = thin_fit.tree["constant_data"].to_dataset().drop_vars(["budget", "level_of_budget"])
    spread = np.geomspace(1, 3, constant.sizes["row"])
    constant = constant.assign(flops=constant["flops"] * spread, tokens=constant["tokens"] * spread)
    groups = {k: v.to_dataset() for k, v in thin_fit.tree.children.items()}
    other = replace(thin_fit, tree=xr.DataTree.from_dict({**groups, "constant_data": constant}))
    with pytest.raises(bs.NotFittedFor, match=r"budgets=\["):
        plot_isoflop(other)


# The frontier.


@pytest.mark.parametrize("quantity", ["params", "tokens", "tokens_per_param", "loss"])
def test_frontier_bands_are_quantiles_of_the_draws(quantity, thin_fit, draws):
    found = frontier_bands(thin_fit, [1e15, 1e17], quantity, prob=0.8)
    assert found.bands["flops"].iloc[0] == pytest.approx(found.smallest)
    assert found.bands["flops"].iloc[-1] == pytest.approx(1e17)
    at_largest = found.bands.iloc[[np.abs(np.log(found.bands["flops"] / found.largest)).argmin()]]
    assert at_largest["flops"].item() == pytest.approx(found.largest)
    names = ["median", "lower50", "upper50", "lower", "upper"]
    # Exact where the allocation was computed; between, quantiles of 1000 draws have kinks that a curve smooths over.
    for table, rel in ((found.asked, 1e-9), (found.bands.iloc[[0, -1]], 1e-9), (at_largest, 1e-9), (found.bands, 0.01)):
        for _, row in table.iterrows():
            N = draws["G"] * (row["flops"] / 6) ** draws["a"]
            D = row["flops"] / (6 * N)
            values = {"params": N, "tokens": D, "tokens_per_param": D / N, "loss": chinchilla_loss(draws, N, D)}
            expected = np.quantile(values[quantity], [0.5, 0.25, 0.75, 0.1, 0.9])
            assert row[names].to_numpy(float) == pytest.approx(expected, rel=rel)
    if quantity == "loss":
        assert "near_lower" not in found.bands
    else:
        middle = found.bands["median"]
        assert ((found.bands["near_lower"] < middle) & (middle < found.bands["near_upper"])).all()


def test_frontier_marks_what_lies_beyond_the_runs(thin_fit):
    ax = plot_frontier(thin_fit, new_ax(), 1e17)
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(bands) == 4
    seen, beyond = bands[:2], bands[2:]
    found = frontier_bands(thin_fit, 1e17)
    for inside, outside in zip(seen, beyond, strict=True):
        assert inside.get_alpha() > outside.get_alpha()
        assert inside.get_paths()[0].vertices[:, 0].max() == pytest.approx(found.largest)
        assert outside.get_paths()[0].vertices[:, 0].min() == pytest.approx(found.largest)
    wide = np.concatenate([bands[0].get_paths()[0].vertices, bands[2].get_paths()[0].vertices])
    assert wide[:, 1].min() == pytest.approx(found.bands["lower"].min())
    assert wide[:, 1].max() == pytest.approx(found.bands["upper"].max())
    assert any(np.ptp(line.get_xdata()) == 0 and line.get_xdata()[0] == found.largest for line in ax.lines)
    text = legend_text(ax)
    assert all(part in text for part in ("50% credible", "90% credible", "within 0.1% of best", "largest run"))


@pytest.mark.parametrize("plot", BUDGETED, ids=lambda f: f.__name__)
def test_a_fit_that_may_not_be_headlined_is_drawn_only_on_request(plot, thin_fit):
    checks = [{**c, "status": "fail"} if c["code"] == "ess-bulk" else c for c in thin_fit.info["checks"]]
    failed = thin_fit.with_info(headline_source="none", checks=checks)
    with pytest.raises(bs.NotFittedFor, match="draws='posterior'"):
        plot(failed)
    assert not pyplot.get_fignums()
    assert "checks failed: ess-bulk" in legend_text(plot(failed, new_ax(), draws="posterior"))


@pytest.mark.parametrize("plot", BUDGETED, ids=lambda f: f.__name__)
def test_a_law_without_an_optimum_is_refused(plot, thin_fit):
    with pytest.raises(bs.NotFittedFor, match="no compute-optimal model size"):
        plot(replace(thin_fit, law=find_law("power_law")))


def test_widened_draws_are_called_adjusted(thin_fit):
    text = legend_text(plot_frontier(thin_fit.with_info(headline_source="bayesbag"), new_ax()))
    assert "90% adjusted" in text and "credible" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [({"quantity": "speed"}, "no 'speed'"), ({"flops": -1.0}, "positive"), ({"flops": []}, "positive")],
)
def test_frontier_refuses_what_it_cannot_draw(options, message, thin_fit):
    with pytest.raises(bs.NotFittedFor, match=message):
        plot_frontier(thin_fit, **options)


# The loss over sizes and tokens.


def test_loss_surface_is_the_median_of_the_law(thin_fit):
    found = loss_surface(thin_fit, points=12)
    few = {k: v for k, v in thinned(thin_fit, 500).draws().items() if v.ndim == 1}
    for i, j in ((0, 0), (3, 7), (11, 11)):
        loss = chinchilla_loss(few, found.params[j], found.tokens[i])
        assert found.loss[i, j] == pytest.approx(np.median(loss), rel=1e-9)
    path = found.frontier
    assert np.allclose(6 * path["params_median"] * path["tokens_at_median"], path["flops"])


def test_loss_contour_holds_every_run(thin_fit):
    ax = plot_loss_contour(thin_fit, new_ax())
    for column, (low, high) in (("params", ax.get_xlim()), ("tokens", ax.get_ylim())):
        values = thin_fit.runs.values(column)
        assert low < values.min() and values.max() < high


# Runs against the law.


def test_residuals_are_distances_from_the_median_curve(thin_fit, draws):
    found = residual_table(thin_fit)
    runs = thin_fit.runs
    curve = chinchilla_loss(draws, runs.values("params")[:, None], runs.values("tokens")[:, None])
    median = np.median(curve, axis=1)
    assert found.table["median"].to_numpy() == pytest.approx(median, rel=1e-9)
    assert found.table["residual"].to_numpy() == pytest.approx(100 * (runs.values("loss") / median - 1), rel=1e-9)
    assert found.unit == "%"
    assert (found.table["lower"] < found.table["median"]).all() and (found.table["median"] < found.table["upper"]).all()


def test_residual_band_holds_its_share_of_noise_and_groups(thin_fit, draws):
    low, high = residual_table(thin_fit, prob=0.8).band
    rng = np.random.default_rng(5)
    size = (100, len(draws["sigma"]))
    deviation = draws["sigma"] * rng.standard_t(draws["nu"], size)
    for column in thin_fit.group:
        deviation = deviation + draws[f"tau_{column}"] * rng.standard_normal(size)
    inside = np.mean((100 * np.expm1(deviation) > low) & (100 * np.expm1(deviation) < high))
    # The band's own ends come from 8,000 simulated deviations: 0.015 is over three of its standard errors.
    assert inside == pytest.approx(0.8, abs=0.015)


def test_fit_draws_two_panels_in_the_axes_given(thin_fit):
    axes = pyplot.subplots(2, 1, layout="constrained")[1]
    out = plot_fit(thin_fit, axes, prob=0.8)
    assert list(out) == list(axes)
    assert axes[0].get_ylabel() == "loss (nats/byte)"
    assert axes[1].get_ylabel() == "residual (%)"
    assert axes[1].get_xlabel() == "training compute C (FLOP)"
    assert "80% predictive" in legend_text(axes[0]) and "80% noise + groups" in legend_text(axes[1])
    bars = next(c for c in axes[0].collections if isinstance(c, LineCollection))
    table = residual_table(thin_fit, prob=0.8).table
    assert np.array_equal([s[:, 1] for s in bars.get_segments()], table[["lower", "upper"]].to_numpy())
    with pytest.raises(bs.NotFittedFor, match="2 panels need as many Axes, got 1"):
        plot_fit(thin_fit, new_ax())


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("params", "model size N (parameters)"),
        ("tokens_per_param", "tokens per parameter D/N"),
        ("lr", "lr"),
        ("run", "run"),
    ],
)
def test_residuals_against_any_column(column, label, thin_fit):
    ax = plot_residuals(thin_fit, column, new_ax())
    assert ax.get_xlabel() == label
    (dots,) = [c for c in ax.collections if len(c.get_offsets()) == len(thin_fit.runs)]
    assert np.asarray(dots.get_offsets())[:, 1] == pytest.approx(residual_table(thin_fit).table["residual"].to_numpy())


def test_residuals_against_a_missing_column(thin_fit):
    with pytest.raises(bs.RunsError, match="no column 'colour'"):
        plot_residuals(thin_fit, "colour")
    assert not pyplot.get_fignums()


def test_a_law_with_an_exact_likelihood_is_held_against_its_replicates(thin_fit):
    def likelihood(loss, N, D, E, A, B, alpha, beta):
        return 0.0

    exact = replace(thin_fit, law=replace(thin_fit.law, likelihood=likelihood))
    found = residual_table(exact)
    replicated = thin_fit.tree["posterior_predictive"]["loss"].to_numpy()
    assert found.table["median"].to_numpy() == pytest.approx(np.median(replicated, axis=(0, 1)))
    assert found.band is None
    assert plot_fit(exact).shape == (2,)


# Groups.


def test_groups_draw_every_level_with_its_interval(thin_fit):
    table, unit = group_effects(thin_fit)
    assert unit == "%" and list(table["column"].unique()) == list(thin_fit.group)
    for column in thin_fit.group:
        effect = 100 * np.expm1(thin_fit.tree["posterior"][f"u_{column}"].to_numpy())
        expected = np.quantile(effect, [0.5, 0.05, 0.95], axis=(0, 1)).T
        assert table.loc[table["column"] == column, ["median", "lower", "upper"]].to_numpy() == pytest.approx(expected)
    ax = plot_groups(thin_fit, new_ax())
    bars = [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    assert len(bars) == len(table) == len(ax.get_yticks())
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["32.8k", "48.6k"]


def test_groups_that_were_not_fitted_name_the_remedy(thin_fit):
    with pytest.raises(bs.NotFittedFor, match='group="auto"'):
        plot_groups(thin_fit.with_info(group=[]))


# Prior against posterior.


def test_prior_posterior_shows_parameters_and_the_first_derived_quantity(thin_fit):
    names = list(scalars(thin_fit))
    assert names[:5] == ["E", "A", "B", "alpha", "beta"]
    assert set(names[5:]) == {"a", "sigma", "nu", "tau_params", "tau_budget"}


def test_prior_posterior_draws_medians_and_intervals(thin_fit):
    axes = pyplot.subplots(1, 3, layout="constrained")[1]
    out = plot_prior_posterior(thin_fit, ["E", "A_ref"], axes, prob=0.8)
    assert list(out) == list(axes[:2])
    assert axes[0].get_xlabel() == "$E$ (nats/byte)" and axes[1].get_xscale() == "log"
    assert "80% credible" in legend_text(axes[0])
    sides = (thin_fit.tree["prior"], thin_fit.tree["headline"])
    for ax, name in zip(out, ("E", "A_ref"), strict=True):
        intervals = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 1]
        for interval, side in zip(intervals, sides, strict=True):
            assert interval == pytest.approx(np.quantile(side[name].to_numpy(), [0.1, 0.9]))
        heights = [line.get_ydata().max() for line in ax.lines if len(line.get_xdata()) > 100]
        assert heights == pytest.approx([1, 1])


def test_prior_posterior_refuses_unknown_and_fixed_names(thin_fit):
    with pytest.raises(bs.NotFittedFor, match="Did you mean alpha"):
        plot_prior_posterior(thin_fit, ["alfa"])
    groups = {k: v.to_dataset() for k, v in thin_fit.tree.children.items()}
    for name in ("prior", "posterior", "headline"):
        groups[name] = groups[name].assign(E=0 * groups[name]["E"] + 0.5)
    fixed = replace(thin_fit, tree=xr.DataTree.from_dict(groups))
    assert "E" not in scalars(fixed)
    with pytest.raises(bs.NotFittedFor, match="'E' was fixed"):
        plot_prior_posterior(fixed, ["E"])
    with pytest.raises(bs.NotFittedFor, match="2 panels need as many Axes, got 1"):
        plot_prior_posterior(thin_fit, ["alpha", "beta"], [new_ax()])


def test_density_does_not_leak_past_a_bound():
    x = np.random.default_rng(0).uniform(0, 1, 4000)
    grid = np.linspace(-0.5, 1.5, 401)
    values = density(x, grid, 0.0, 1.0)
    assert (values[(grid < 0) | (grid > 1)] == 0).all()
    # 4,000 uniform draws: an estimate that leaked would be 0.5 at the ends.
    assert values[(grid >= 0) & (grid <= 1)] == pytest.approx(1, abs=0.2)


# Numbers on the page.


def test_numbers_are_written_as_people_write_them():
    assert [count_label(x) for x in (20, 3e3, 3e5, 1e6, 7e10, 1.4e12)] == ["20", "3k", "300k", "1M", "70B", "1.4T"]
    assert power_label(1e15) == "$10^{15}$" and power_label(3e15) == r"$3\times10^{15}$"
    assert [percent(p) for p in (0.9, 0.5, 0.995, 0.001)] == ["90%", "50%", "99.5%", "0.1%"]


@pytest.mark.parametrize("high", [2.0, 10.0, 300.0, 1e6, 1e15])
def test_a_log_axis_has_a_few_ticks_whatever_its_range(high):
    ax = new_ax()
    ax.set_xscale("log")
    ax.set_xlim(1, high)
    ticks = [t for t in SparseLog(ax, "x")() if 1 <= t <= high]
    assert 2 <= len(ticks) <= 7


def test_pairs_draw_every_pair_in_the_lower_triangle(thin_fit, draws):
    axes = pyplot.subplots(3, 3, layout="constrained")[1]
    out = bs.plot_pairs(thin_fit, ["E", "alpha", "beta"], axes)
    assert out.shape == (3, 3) and out[2, 0] is axes[2, 0]
    assert [out[2, k].get_xlabel() for k in range(3)] == ["$E$", r"$\alpha$", r"$\beta$"]
    assert "90% credible" in legend_text(out[0, 2])
    (line,) = out[2, 1].lines
    assert line.get_xydata()[0] == pytest.approx([np.median(draws["alpha"]), np.median(draws["beta"])], rel=0.02)
    assert not out[0, 1].axison and out[1, 0].get_xlim() == out[0, 0].get_xlim()
    with pytest.raises(bs.NotFittedFor, match="2 to 8"):
        bs.plot_pairs(thin_fit, ["E"])


def test_pairs_of_tied_parameters_are_a_line(thin_fit):
    tied = thin_fit.tree.copy()
    for group in ("headline", "prior"):
        tied[group] = xr.DataTree(tied[group].to_dataset().assign(beta=tied[group]["alpha"]))
    fit = replace(thin_fit, tree=tied)
    assert default_pairs(fit) == ["E", "A_ref", "B_ref", "alpha"]
    (line,) = bs.plot_pairs(fit, ["alpha", "beta"])[1, 0].lines
    assert np.array_equal(line.get_xdata(), line.get_ydata())
