"""What figures say of runs: which lie behind a curve, which belong to a budget, and where each stands."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import xarray as xr

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex

import bayescale as bs
from bayescale.datasets.registry import ON_BUDGET_FLAG
from bayescale.narrowness import windows_of
from bayescale.plots.budgets import frontier_bands, isoflop_curves, loss_surface
from bayescale.plots.checking import _named_levels
from bayescale.plots.draws import stretches
from bayescale.plots.style import BLUE, SparseLog, count_label, legend_above, log_scale, side_by_side
from bayescale.reporting.figures import FIGURES
from bayescale.reporting.numbers import _stability, unstable_quantity

pytestmark = pytest.mark.usefixtures("closed")


def with_runs(fit, **columns):
    """The fit as if its table had other values."""
    groups = {k: v.to_dataset() for k, v in fit.tree.children.items()}
    for name, values in columns.items():
        groups["constant_data"][name] = ("row", np.asarray(values, float))
    return replace(fit, tree=xr.DataTree.from_dict(groups))


def elsewhere(fit):
    """The same compute spent on models a hundred times smaller: the optimum is of no size that was tried."""
    return with_runs(fit, params=fit.runs.values("params") / 100, tokens=fit.runs.values("tokens") * 100)


def new_ax():
    return pyplot.subplots(figsize=(3.3, 2.6), layout="constrained")[1]


def legend_text(ax):
    made = ax.get_legend()
    return " | ".join(t.get_text() for t in [made.get_title(), *made.get_texts()])


def medians(ax):
    """The solid and the dashed parts of a figure's blue line."""
    lines = [line for line in ax.lines if to_hex(line.get_color()) == BLUE.lower() and line.get_marker() == "None"]
    return [line for line in lines if line.get_linestyle() == "-"], [
        line for line in lines if line.get_linestyle() == "--"
    ]


# What lies beyond the runs.


@pytest.mark.parametrize("quantity", ["params", "loss"])
def test_a_frontier_of_sizes_that_nobody_trained_is_beyond_the_runs(quantity, thin_fit):
    assert not frontier_bands(elsewhere(thin_fit), 1e15, quantity).bands["within"].any()
    ax = bs.plot_frontier(elsewhere(thin_fit), new_ax(), 1e15, quantity)
    solid, dashed = medians(ax)
    assert not solid and len(dashed) == 1 and "beyond the runs" in legend_text(ax)
    usual = bs.plot_frontier(thin_fit, new_ax(), 1e15, quantity)
    strength = [max(c.get_alpha() for c in a.collections if isinstance(c, PolyCollection)) for a in (ax, usual)]
    assert strength[0] < strength[1]


def test_what_is_within_the_runs_is_so_by_compute_size_and_data(thin_fit):
    found, runs = frontier_bands(thin_fit, 1e17), thin_fit.runs
    bands = found.bands.merge(frontier_bands(thin_fit, 1e17, "tokens").bands, on="flops", suffixes=("", "_D"))
    expected = bands["flops"] <= found.largest * (1 + 1e-9)
    for column, values in (("median", runs.values("params")), ("median_D", runs.values("tokens"))):
        expected &= (bands[column] >= values.min() / 1.05) & (bands[column] <= values.max() * 1.05)
    assert np.array_equal(bands["within"], expected) and expected.any() and not expected.all()


def test_stretches_share_their_ends():
    inside = np.asarray([False, False, True, True, True, False])
    assert stretches(inside) == [(False, slice(0, 3)), (True, slice(2, 5)), (False, slice(4, 6))]
    assert stretches(np.ones(4, bool)) == [(True, slice(0, 4))]


def test_a_budget_beyond_the_runs_is_pale_and_dashed(thin_fit):
    ax = bs.plot_isoflop(thin_fit, new_ax(), [1e13, 1e16])
    assert isoflop_curves(thin_fit, [1e13, 1e16]).beyond == {1e16}
    curves = [line for line in ax.lines if len(line.get_xdata()) == 60]
    assert [line.get_linestyle() for line in curves] == ["-", "--"]
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert bands[1].get_alpha() < bands[0].get_alpha() and "beyond the runs" in legend_text(ax)


def test_a_frontier_out_of_view_is_not_in_the_legend(thin_fit):
    assert loss_surface(thin_fit, points=8).in_view("median", "median")
    assert "frontier" in legend_text(bs.plot_loss_contour(thin_fit, new_ax()))
    assert "frontier" not in legend_text(bs.plot_loss_contour(elsewhere(thin_fit), new_ax()))


# Where runs stand.


def test_only_coinciding_runs_are_moved_and_hardly():
    apart = 1e18 * 1.02 ** np.arange(200)
    assert np.array_equal(side_by_side(apart), apart)
    together = np.repeat([1e18, 1e20], [60, 3])
    moved = side_by_side(together)
    assert len(np.unique(moved)) == 63
    assert np.abs(np.log(moved / together)).max() <= 0.0101 * np.log(100)


def test_both_panels_of_a_fit_have_a_run_at_the_same_compute(thin_fit):
    upper, lower = bs.plot_fit(thin_fit)
    bars = next(c for c in upper.collections if isinstance(c, LineCollection))
    x = np.asarray([s[0, 0] for s in bars.get_segments()])
    (dots,) = [c for c in lower.collections if len(c.get_offsets()) == len(x)]
    assert np.array_equal(np.asarray(dots.get_offsets())[:, 0], x)
    assert np.abs(np.log(x / thin_fit.runs.values("flops"))).max() < 0.011 * np.log(100)


# Which budget a run belongs to.


def test_a_named_budget_has_its_runs_and_a_reconstructed_one_those_near_it(thin_fit):
    flops = thin_fit.runs.values("flops").copy()
    flops[:3] *= (2.0, 1.3, 1.05)
    named = with_runs(thin_fit, flops=flops)
    assert isoflop_curves(named).runs["budget"].notna().all()
    made = with_runs(named, **{ON_BUDGET_FLAG: np.where(np.arange(len(flops)) == 5, 0.0, 1.0)})
    told = isoflop_curves(made).runs["budget"].isna().to_numpy()
    assert np.array_equal(np.flatnonzero(told), [0, 1, 5])
    assert "runs of no budget" in legend_text(bs.plot_isoflop(made, new_ax()))
    assert "runs of no budget" not in legend_text(bs.plot_isoflop(named, new_ax()))


def test_windows_are_named_by_the_compute_of_their_runs(ladder):
    flops = ladder.values("flops").copy()
    flops[np.argmax(ladder.values("budget") == 1e14)] *= 3
    runs = ladder.with_columns({"flops": flops})
    windows = windows_of(SimpleNamespace(model=SimpleNamespace(runs=runs), inner=2))
    assert len(windows) > 4
    for window, cut, kept in windows:
        assert cut == (flops[kept].max() if window == "up to" else flops[kept].min())


# What an axis is called.


def test_compute_counted_otherwise_than_the_tables_own_is_named(thin_fit):
    assert bs.plot_frontier(thin_fit, new_ax(), 1e15).get_xlabel() == "training compute 6ND (FLOP)"
    assert bs.plot_frontier(thin_fit, new_ax(), 1e15, cost="table").get_xlabel() == "training compute C (FLOP)"
    same = with_runs(thin_fit, flops=6 * thin_fit.runs.values("params") * thin_fit.runs.values("tokens"))
    assert bs.plot_frontier(same, new_ax(), 1e15).get_xlabel() == "training compute C (FLOP)"


def test_the_loss_has_the_unit_of_the_table(thin_fit):
    assert bs.plot_residuals(thin_fit, "loss", new_ax()).get_xlabel() == "loss (nats/byte)"
    noted = with_runs(thin_fit, loss_se=np.linspace(0.01, 0.02, len(thin_fit.runs)))
    assert bs.plot_residuals(noted, "loss_se", new_ax()).get_xlabel() == "loss_se (nats/byte)"


def test_adjusted_posteriors_are_called_so_and_priors_not(thin_fit):
    text = legend_text(bs.plot_prior_posterior(thin_fit.with_info(headline_source="bayesbag"), ["E"], [new_ax()])[0])
    assert "posterior, adjusted" in text and "median and 90%" in text and "90% adjusted" not in text


def test_levels_that_read_alike_get_another_digit():
    assert _named_levels(["1.041e8", "1.044e8", "2e8", "x"], count_label) == ["104.1M", "104.4M", "200M", "x"]
    assert _named_levels(["1e8", "2e8"], count_label) == ["100M", "200M"]


@pytest.mark.parametrize(("low", "high"), [(0.9, 3.2), (7e9, 1.2e10), (9.5, 11), (2.1, 8.9)])
def test_a_short_log_axis_has_three_ticks(low, high):
    ax = new_ax()
    log_scale(ax, "x", count_label)
    ax.set_xlim(low, high)
    ticks = np.asarray(SparseLog(ax, "x")())
    assert 3 <= ((ticks >= low) & (ticks <= high)).sum() <= 7


def test_a_legend_stays_on_the_page():
    ax = new_ax()
    for k in range(6):
        ax.plot([0, 1], [0, k], label=f"a curve with a name, {k}")
    legend_above(ax, ax.lines, 6, by_rows=True)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    placed = [(t.get_window_extent(), t.get_text()) for t in ax.get_legend().get_texts()]
    assert [text[-1] for _, text in sorted(placed, key=lambda p: (-round(p[0].y0), p[0].x0))] == [*"012345"]


# The answer by window.


def test_bars_of_a_positive_quantity_stay_positive(ladder_fit):
    ax = bs.plot_windows(ladder_fit, "A", new_ax())
    bars = [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    table = bs.stability(ladder_fit, ["A"]).frame()
    assert (table["value"] < 1.7 * table["sd"]).any(), "no bar would have gone below zero"
    assert bars and min(s[:, 1].min() for s in bars) > 0
    assert {0.985, 1.015} <= {round(s[0, 0] / x, 3) for s in bars for x in table["flops"]}


def test_the_quantity_that_a_check_found_unstable_is_recorded_and_drawn(ladder_fit):
    quantities = ladder_fit.info["windows"]["quantities"]
    assert unstable_quantity(ladder_fit) is None
    audit = [
        {**c, "status": "fail", "value": abs(quantities["beta"]["z"])} if c["code"] == "law-unstable-in-compute" else c
        for c in ladder_fit.info["audit"]
    ]
    failed = ladder_fit.with_info(audit=audit)
    assert unstable_quantity(failed) == "beta"
    records = _stability(failed)
    assert {r["quantity"] for r in records} == {"a", "beta"}
    draw = next(draw for drawn, draw in FIGURES if drawn.name == "stability")
    figure = draw(failed, {"report": {"stability": records, "left_out": {}}}, 3.3)
    assert [ax.get_ylabel() for ax in figure.axes] == ["$a$", r"$\beta$"]
