"""Every row of the documented list of bad inputs that reading settles: code, rows, column and remedy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayescale.errors import CODES, RunsError, UnitError
from bayescale.reading import CHECKS, read_runs

GOOD = "params,tokens,loss\n1e8,2e9,3.5\n2e8,4e9,3.2\n4e8,8e9,3.0\n8e8,16e9,2.8\n"


def table(**columns):
    """Four ordinary runs as a dict of columns, some of them replaced, renamed or left out (None)."""
    made = {"params": [1e8, 2e8, 4e8, 8e8], "tokens": [2e9, 4e9, 8e9, 1.6e10], "loss": [3.5, 3.2, 3.0, 2.8]}
    return {name: values for name, values in {**made, **columns}.items() if values is not None}


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "runs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(source, code, **options) -> RunsError:
    with pytest.raises(RunsError) as caught:
        read_runs(source, **options)
    assert caught.value.code == code, str(caught.value)
    assert code in CODES
    return caught.value


def codes(runs):
    return [n.code for n in runs.notes]


def said(runs, code):
    return " ".join(n.message for n in runs.notes if n.code == code)


def test_an_ordinary_table_is_read_as_it_is(write):
    runs = read_runs(write(GOOD))
    assert runs.columns == ("params", "tokens", "flops", "loss")
    assert runs.rows == (2, 3, 4, 5) and runs.rows_read == 4
    np.testing.assert_array_equal(runs.values("tokens"), [2e9, 4e9, 8e9, 16e9])
    np.testing.assert_allclose(runs.values("flops"), 6 * runs.values("params") * runs.values("tokens"))
    assert all(dtype == np.float64 for dtype in runs.frame.dtypes)
    assert codes(runs) == ["BS-R053", "BS-R050"]
    assert runs.source.endswith("runs.csv")


def test_every_check_has_a_code_and_runs_in_a_known_stage():
    assert {c.stage for c in CHECKS} == {"cells", "runs", "rows"}
    assert all(c.code in CODES and c.meaning and c.run.__doc__ for c in CHECKS)
    assert len({c.run for c in CHECKS}) == len(CHECKS)


def test_reading_is_cheap_to_import():
    code = "import sys, bayescale.reading, bayescale.datasets; print({'pandas', 'jax', 'pooch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# 1: blank cells


@pytest.mark.parametrize("mark", ["", " ", "-", "—", "N/A", "nan", "NaN", "null", "None", "#N/A"])
def test_blank_losses_are_refused_with_their_rows(write, mark):
    error = refusal(write(GOOD + f"1e9,2e10,{mark}\n3e9,3e10,2.5\n"), "BS-R001")
    assert error.rows == (6,) and error.column == "loss" and error.file.endswith("runs.csv")
    assert "--drop-missing" in error.remedy and "drop_missing=True" in error.remedy


def test_blank_cells_name_the_header_and_the_text(write):
    error = refusal(write("N,D,val_loss\n1e8,2e9,3.5\n-,4e9,OOM\n3e8,4e9,crashed\n"), "BS-R001")
    assert error.column == "N" and error.rows == (3,)
    error = refusal(write("N,D,val_loss\n1e8,2e9,3.5\n2e8,4e9,OOM\n"), "BS-R001")
    assert error.column == "val_loss" and "'OOM' in row 3" in error.message


def test_drop_missing_counts_what_it_leaves_out(write):
    runs = read_runs(write(GOOD + "1e9,2e10,\n,2e10,2.4\n3e9,3e10,NaN\n5e9,2e10,OOM\n"), drop_missing=True)
    assert runs.rows == (2, 3, 4, 5) and runs.rows_read == 8
    assert "4 rows" in said(runs, "BS-R052") and "rows 6, 7, 8, 9" in said(runs, "BS-R052")
    assert "'OOM'" in said(runs, "BS-R052")


def test_a_table_of_nothing_but_blanks_is_refused():
    assert refusal(table(loss=[None] * 4), "BS-R030").message == "no column for the loss"
    assert refusal(table(loss=[None] * 4), "BS-R001", columns={"loss": "loss"}).column == "loss"
    refusal(table(loss=[None, None, None, "-"], x=[1, 2, 3, 4]), "BS-R030")
    missing = [[1e8, None], [None, 2e9], [3.0, 2.9]]
    refusal(dict(zip(("params", "tokens", "loss"), missing, strict=True)), "BS-R037", drop_missing=True)


def test_a_column_without_values_is_taken_as_absent():
    runs = read_runs(table(flops=[None] * 4, group=["", "", "", "-"]))
    np.testing.assert_allclose(runs.values("flops"), 6 * runs.values("params") * runs.values("tokens"))
    assert "group" not in runs.columns and "'flops', 'group'" in said(runs, "BS-R030")


# 2, 3: signs


@pytest.mark.parametrize("bad", ["0", "-1.5", "inf", "-inf", "Infinity"])
def test_impossible_losses_are_refused(write, bad):
    error = refusal(write(GOOD + f"1e9,2e10,{bad}\n"), "BS-R002")
    assert error.rows == (6,) and error.column == "loss"
    assert error.message == f"loss {bad} at row 6: diverged or unlogged?"
    assert "--where" in error.remedy


def test_a_filter_may_leave_out_impossible_rows(write):
    runs = read_runs(write(GOOD + "1e9,2e10,0\n1e9,3e10,inf\n"), where="loss > 0 and loss < 100")
    assert runs.rows == (2, 3, 4, 5) and "kept the 4 of 6 rows" in said(runs, "BS-R052")


@pytest.mark.parametrize("name", ["params", "tokens", "flops"])
@pytest.mark.parametrize("bad", [0.0, -1e9, np.inf])
def test_impossible_scales_are_refused(name, bad):
    made = table(flops=[1.2e18, 4.8e18, 1.92e19, 7.68e19])
    made[name] = [*made[name][:2], bad, made[name][3]]
    error = refusal(made, "BS-R003")
    assert error.rows == (3,) and error.column == name and "is not a positive number" in error.message


@pytest.mark.parametrize("name", ["loss_se", "flops_se"])
def test_standard_errors_are_not_negative(name):
    assert refusal(table(**{name: [0.01, -0.01, 0.01, np.inf]}), "BS-R003").rows == (2, 4)


# 4: diverged runs


def test_a_diverged_run_is_kept_and_named():
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(9, 12, 40)
    loss = (1.8 + 480 * n**-0.35 + 2000 * d**-0.37) * np.exp(0.01 * rng.standard_normal(40))
    assert "BS-R004" not in codes(read_runs({"params": n, "tokens": d, "loss": loss}))
    loss[11] = 9.0
    runs = read_runs({"params": n, "tokens": d, "loss": loss})
    assert len(runs) == 40 and "row 12)" in said(runs, "BS-R004")


# 5, 6: units of the loss


def test_a_perplexity_is_asked_about():
    error = refusal(table(loss=[35.0, 25.0, 12.0, 9.0]), "BS-R005")
    assert isinstance(error, UnitError) and error.column == "loss" and error.rows == (1, 2)
    assert "--loss-unit ppl" in error.remedy and "--loss-unit nats/token" in error.remedy


@pytest.mark.parametrize("name", ["loss", "ppl", "val_ppl", "Perplexity", "loss (ppl)"])
def test_the_log_is_taken_of_a_stated_perplexity(name):
    stated = {"loss_unit": "ppl"} if name == "loss" else {}
    runs = read_runs(table(**{"loss": None, name: [35.0, 25.0, 12.0, 9.0]}), **stated)
    np.testing.assert_allclose(runs.values("loss"), np.log([35.0, 25.0, 12.0, 9.0]))
    assert runs.loss_unit == "nats/token" and "log of the perplexity" in said(runs, "BS-R053")


def test_a_perplexity_is_above_one():
    error = refusal(table(loss=[35.0, 25.0, 0.5, 9.0]), "BS-R002", loss_unit="ppl")
    assert error.rows == (3,) and "perplexity 0.5" in error.message


def test_a_large_loss_passes_once_its_unit_is_stated():
    assert len(read_runs(table(loss=[35.0, 25.0, 12.0, 9.0]), loss_unit="nats/token")) == 4


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("bits_per_byte", "bits/byte"),
        ("val_bpb", "bits/byte"),
        ("loss (bits/byte)", "bits/byte"),
        ("loss_nats_per_byte", "nats/byte"),
        ("loss [bits]", "bits/token"),
        ("loss_nats", "nats/token"),
    ],
)
def test_the_name_of_a_column_gives_the_unit(name, unit):
    runs = read_runs(table(loss=None, **{name: [1.5, 1.4, 1.3, 1.2]}))
    assert runs.loss_unit == unit and unit in said(runs, "BS-R053") and runs.column_map["loss"] == name


def test_a_stated_unit_wins_over_the_name():
    runs = read_runs(table(loss=None, val_bpb=[1.5, 1.4, 1.3, 1.2]), loss_unit="nats/byte")
    assert runs.loss_unit == "nats/byte" and "its name says bits/byte" in said(runs, "BS-R053")


def test_an_unknown_unit_names_the_flag():
    error = refusal(table(), "BS-R006", loss_unit="furlongs")
    assert isinstance(error, UnitError) and "--loss-unit" in error.remedy and "ppl" in error.remedy


def test_without_a_unit_nats_per_token_is_assumed_and_said():
    runs = read_runs(table())
    assert runs.loss_unit == "nats/token" and "--loss-unit" in said(runs, "BS-R053")


# 7: accuracies


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_an_accuracy_is_no_loss(scale):
    error = refusal(table(loss=[0.1 * scale, 0.2 * scale, 0.4 * scale, 0.6 * scale]), "BS-R007")
    assert error.column == "loss" and "accuracy" in error.message


def test_losses_below_one_that_fall_are_losses():
    assert len(read_runs(table(loss=[0.9, 0.8, 0.7, 0.6]))) == 4
    assert len(read_runs(table(loss=[0.1, 0.2, 0.4, 0.6]), loss_unit="bits/byte")) == 4


# 8, 9, 10: multiples


def test_params_in_millions_are_asked_about():
    error = refusal(table(params=[70, 160, 410, 1000]), "BS-R008")
    assert isinstance(error, UnitError) and error.column == "params" and "--unit params=millions" in error.remedy
    runs = read_runs(table(params=[70, 160, 410, 1000]), units={"params": "millions"})
    np.testing.assert_array_equal(runs.values("params"), [7e7, 1.6e8, 4.1e8, 1e9])
    assert "1e+06" in said(runs, "BS-R008")


def test_params_and_tokens_in_billions_are_asked_about_together():
    error = refusal(table(params=[0.07, 0.16, 0.41, 1.0], tokens=[1.4, 3.2, 8.2, 20]), "BS-R008")
    assert "--unit params=billions --unit tokens=billions" in error.remedy
    runs = read_runs(
        table(params=[0.07, 0.16, 0.41, 1.0], tokens=[1.4, 3.2, 8.2, 20]),
        units={"params": "billions", "tokens": 1e9},
    )
    np.testing.assert_array_equal(runs.values("params"), [7e7, 1.6e8, 4.1e8, 1e9])


def test_tokens_in_billions_are_asked_about():
    error = refusal(table(tokens=[2, 4, 8, 16]), "BS-R009")
    assert error.column == "tokens" and "--unit tokens=billions" in error.remedy


@pytest.mark.parametrize(
    ("params", "tokens", "flops", "code"),
    [
        (1e6, 1.0, 1.0, "BS-R008"),
        (1e9, 1.0, 1.0, "BS-R008"),
        (1.0, 1e9, 1.0, "BS-R009"),
        (1e6, 1e9, 1.0, "BS-R008"),
        (1e9, 1e9, 1.0, "BS-R008"),
        (1e6, 1e6, 1.0, "BS-R009"),
        (1.0, 1.0, 1e18, "BS-R056"),
        (1.0, 1.0, 1e21, "BS-R056"),
        (1.0, 1.0, 8.64e19, "BS-R010"),
        (1e6, 1e9, 8.64e19, "BS-R010"),
    ],
)
def test_constant_powers_of_ten_against_6nd_are_repaired(params, tokens, flops, code):
    n, d = np.array([1e8, 2e8, 4e8, 8e8]), np.array([2e9, 5e9, 8e9, 1.2e10])
    counted = 6 * n * d * np.array([1.0, 1.1, 1.05, 1.2])
    runs = read_runs(table(params=n / params, tokens=d / tokens, flops=counted / flops))
    np.testing.assert_allclose(runs.values("params"), n)
    np.testing.assert_allclose(runs.values("tokens"), d)
    np.testing.assert_allclose(runs.values("flops"), counted)
    assert code in codes(runs) and "times 6ND in every row" in said(runs, code)


def test_a_power_of_ten_that_could_be_either_is_asked_about():
    n, d = np.array([1e8, 2e8, 4e8, 8e8]), np.array([2e9, 4e9, 8e9, 1.6e10])
    error = refusal(table(flops=6e3 * n * d), "BS-R009")
    assert "--unit tokens=thousands" in error.remedy and "--unit params=thousands" in error.remedy
    assert len(read_runs(table(flops=6e3 * n * d), units={"params": 1, "tokens": 1, "flops": 1})) == 4


def test_compute_in_pf_days_is_asked_about_where_it_stands_alone():
    error = refusal(table(tokens=None, flops=[0.014, 0.056, 0.22, 0.89]), "BS-R010")
    assert "--unit flops=pf-days" in error.remedy
    runs = read_runs(table(tokens=None, flops=[0.014, 0.056, 0.22, 0.89]), units={"flops": "pf-days"})
    np.testing.assert_allclose(runs.values("flops")[0], 0.014 * 8.64e19)


def test_small_models_are_legitimate():
    runs = read_runs({"params": [32768, 81920, 2.3e6], "tokens": [1e7, 3e6, 1e8], "loss": [1.8, 1.4, 1.2]})
    assert runs.values("params")[0] == 32768
    assert len(read_runs({"params": [2e5, 4e5, 8e5], "tokens": [2e8, 4e8, 8e8], "loss": [3, 2.9, 2.8]})) == 3
    assert len(read_runs(table(params=[70, 160, 410, 1000]), units={"params": 1})) == 4


def test_multiples_in_cells_are_read_and_said(write):
    text = 'Params,Tokens,Val Loss\n70M,"1,400,000,000",3.5\n1.4B,28 B,3.2\n7e9,1.4T,3.0\n12 k,2_000_000,2.8\n'
    runs = read_runs(write(text))
    np.testing.assert_array_equal(runs.values("params"), [7e7, 1.4e9, 7e9, 1.2e4])
    np.testing.assert_array_equal(runs.values("tokens"), [1.4e9, 2.8e10, 1.4e12, 2e6])
    assert "'70M'" in said(runs, "BS-R008") and "'28 B'" in said(runs, "BS-R009")


def test_cells_with_their_own_multiple_escape_the_unit_of_the_header():
    runs = read_runs({"params (M)": ["70", "1.4B"], "tokens": ["2B", "28B"], "loss": [3.5, 3.1]})
    np.testing.assert_array_equal(runs.values("params"), [7e7, 1.4e9])


@pytest.mark.parametrize(
    "units", [{"params": "furlongs"}, {"params": -1}, {"params": 0}, {"params": "nan"}, {"loss": "millions"}, {"x": 1}]
)
def test_unknown_units_name_the_flag(units):
    assert "--" in refusal(table(), "BS-R006", units=units).remedy


# 14: duplicates


def test_exact_duplicates_are_dropped_and_counted(write):
    runs = read_runs(write(GOOD + "1e8,2e9,3.5\n2e8,4e9,3.2\n1e8,2e9,3.5\n"))
    assert runs.rows == (2, 3, 4, 5) and runs.rows_read == 7
    assert "3 rows are exact copies" in said(runs, "BS-R014") and "rows 6, 7, 8" in said(runs, "BS-R014")


def test_rows_that_differ_in_any_column_are_no_duplicates():
    runs = read_runs(table(params=[1e8] * 4, tokens=[2e9] * 4, loss=[3.5] * 4, seed=[0, 1, 2, 2]))
    assert runs.rows == (1, 2, 3)


def test_duplicates_with_cells_that_cannot_be_hashed():
    assert (
        len(read_runs(table(params=[1e8] * 4, tokens=[2e9] * 4, loss=[3.5] * 4, tags=[["a"], ["b"], ["a"], []]))) == 3
    )


# 28, 29: absurd amounts, precision


def test_absurd_compute_is_refused():
    error = refusal(table(flops=[1.2e18, 4.8e18, 1e36, 1e40]), "BS-R028")
    assert error.rows == (3, 4) and error.column == "flops" and "--unit" in error.remedy
    error = refusal({"params": [1e20, 2e20], "tokens": [1e20, 2e20], "loss": [3, 2.9]}, "BS-R028")
    assert "follows from C = 6ND" in error.message
    assert refusal({"N": [1e20, 1e8], "C": [1e18, 1.2e18], "loss": [3, 2.9]}, "BS-R028").rows == (1,)


def test_6nd_beyond_int64_does_not_overflow():
    n = np.array([7 * 10**10, 4 * 10**11], dtype=np.int64)
    d = np.array([15 * 10**12, 15 * 10**12], dtype=np.int64)
    runs = read_runs({"N": n, "D": d, "loss": [1.9, 1.8]})
    np.testing.assert_allclose(runs.values("flops"), [6.3e24, 3.6e25])
    big = pd.DataFrame({"N": n, "C": pd.Series([63 * 10**23, 36 * 10**24], dtype=object), "loss": [1.9, 1.8]})
    np.testing.assert_allclose(read_runs(big).values("tokens"), 15e12)
    assert refusal(table(flops=[10**400, 10**18, 10**18, 10**18]), "BS-R003").rows == (1,)


def test_low_precision_columns_become_float64_and_are_noted():
    frame = pd.DataFrame(table()).astype({"loss": "float16", "tokens": "float32"})
    runs = read_runs(frame)
    assert runs.values("loss").dtype == np.float64
    assert "'loss' came as float16" in said(runs, "BS-R029") and "3 digits" in said(runs, "BS-R029")
    assert "'tokens' came as float32" in said(runs, "BS-R029")


# 33: totals


@pytest.mark.parametrize("label", ["Total", "mean:", "Average", "std"])
def test_a_row_of_totals_is_refused(write, label):
    text = f"run,params,tokens,loss\na,1e8,2e9,3.5\nb,2e8,4e9,3.2\n{label},1.5e8,3e9,3.35\n"
    error = refusal(write(text), "BS-R033")
    assert error.rows == (4,) and repr(label) in error.message


def test_a_word_in_every_row_is_no_total():
    assert len(read_runs(table(kind=["mean"] * 4))) == 4
    assert len(read_runs(table(kind=["max", "min", "max", "min"]))) == 4


# 50, 51: completion and conventions


@pytest.mark.parametrize("absent", ["params", "tokens", "flops"])
def test_the_missing_quantity_follows_from_6nd(absent):
    whole = table(flops=[1.2e18, 4.8e18, 1.92e19, 7.68e19])
    runs = read_runs({k: v for k, v in whole.items() if k != absent})
    np.testing.assert_allclose(runs.values(absent), whole[absent])
    assert absent in said(runs, "BS-R050")


def test_blank_cells_are_filled_only_where_the_table_obeys_6nd():
    runs = read_runs(table(flops=[1.2e18, None, 1.92e19, None]))
    np.testing.assert_allclose(runs.values("flops"), [1.2e18, 4.8e18, 1.92e19, 7.68e19])
    assert "2 blank cells of flops" in said(runs, "BS-R050")
    assert refusal(table(flops=[1.5e18, None, 2.92e19, None]), "BS-R001").rows == (2, 4)
    assert refusal(table(flops=["1.2e18", "oops", "1.92e19", "7.68e19"]), "BS-R001").rows == (2,)


def test_all_three_are_kept_as_they_are():
    counted = [1.5e18, 5.5e18, 2.1e19, 8e19]
    runs = read_runs(table(flops=counted))
    np.testing.assert_array_equal(runs.values("flops"), counted)
    assert "BS-R050" not in codes(runs)


def test_a_budget_stands_in_for_compute_where_nothing_else_does():
    runs = read_runs({"N": [1e8, 2e8], "isoflop_budget": [1e19, 1e19], "loss": [3.0, 2.9]})
    np.testing.assert_allclose(runs.values("tokens"), [1e19 / 6e8, 1e19 / 12e8])
    assert "budget" in said(runs, "BS-R050")


def test_the_convention_of_n_is_carried():
    runs = read_runs(table(params=None, params_non_embedding=[1e8, 2e8, 4e8, 8e8]))
    assert runs.convention == "non-embedding" and "non-embedding" in said(runs, "BS-R051")
    runs = read_runs(table(params_non_embedding=[0.9e8, 1.8e8, 3.6e8, 7.2e8]))
    assert runs.convention is None and "'params_non_embedding' (non-embedding)" in said(runs, "BS-R051")
    error = refusal(table(params=None, total_params=[2e8] * 4, active_params=[1e8] * 4), "BS-R012")
    assert "--column params=total_params" in error.remedy and "--column params=active_params" in error.remedy
    assert refusal(table(active_params=[1e7, 2e7, 4e7, 8e7]), "BS-R012").code == "BS-R012"
    chosen = read_runs(table(active_params=[1e7, 2e7, 4e7, 8e7]), columns={"params": "params"})
    assert chosen.values("params")[0] == 1e8
    assert read_runs(table(active_params=[1e8, 2e8, 4e8, 8e8])).column_map["params"] == "params"


# Other responses


def test_another_response_is_required_but_not_checked_as_a_loss():
    accuracy = [0.1, 0.2, 0.4, 0.6]
    runs = read_runs(table(loss=None, accuracy=accuracy), response="accuracy")
    np.testing.assert_array_equal(runs.values("accuracy"), accuracy)
    assert refusal(table(accuracy=[0.1, None, 0.4, 0.6]), "BS-R001", response="accuracy").rows == (2,)
    assert refusal(table(accuracy=[0.1, np.inf, 0.4, 0.6]), "BS-R002", response="accuracy").rows == (2,)
    assert "--column accuracy=HEADER" in refusal(table(), "BS-R030", response="accuracy").remedy
    assert len(read_runs(table(accuracy=[0.0, -0.5, 0.4, 0.6]), response="accuracy")) == 4
    assert read_runs(table(loss=None, Accuracy=accuracy), response="accuracy").column_map["accuracy"] == "Accuracy"


def test_no_response_need_be_there():
    assert read_runs(table(loss=None), response=None).columns == ("params", "tokens", "flops")
    runs = read_runs(table(loss=None, val_loss=[3, 2.9, 2.8, 2.7], test_loss=[3, 2.8, 2.7, 2.6]), response=None)
    assert "loss" not in runs.columns and "could each be the loss" in said(runs, "BS-R030")


def grid(**columns):
    """Four model sizes at six amounts of data, and further columns."""
    sizes = [n * 1e8 for n in (1, 2, 4, 8) for _ in range(6)]
    tokens = [d * 1e9 for _ in range(4) for d in (1, 2, 4, 8, 16, 32)]
    loss = [1.8 + 480 * n**-0.35 + 2085 * d**-0.37 for n, d in zip(sizes, tokens, strict=True)]
    return {"params": sizes, "tokens": tokens, "loss": loss, **columns}


def noted(runs, code):
    return [n.message for n in runs.notes if n.code == code]


def test_repeated_data_is_said_and_the_filter_offered_works():
    runs = read_runs(grid(unique_tokens=[4e9] * 24))
    (message,) = noted(runs, "BS-R013")
    assert message.startswith("12 of 24 rows") and "up to 8 times" in message
    kept = read_runs(grid(unique_tokens=[4e9] * 24), where="tokens <= 1.05 * unique_tokens")
    assert len(kept) == 12 and not noted(kept, "BS-R013")
    assert not noted(read_runs(grid(unique_tokens=[32e9] * 24)), "BS-R013")


@pytest.mark.parametrize(
    "extra",
    [
        {"portion_steps_elapsed": [k / 6 for k in range(1, 7)] * 4},
        {"steps": [100, 200, 300, 400, 500, 600] * 4, "total_steps": [600] * 24},
    ],
)
def test_checkpoints_of_unfinished_runs_get_their_runs(extra):
    runs = read_runs(grid(**extra))
    (message,) = noted(runs, "BS-R016")
    assert message.startswith("20 of 24 rows")
    assert len(set(runs.frame["run"])) == 4 and len(noted(runs, "BS-R057")) == 1
    assert (runs.frame.groupby("run")["params"].nunique() == 1).all()
    condition = message.split('"')[1]
    assert len(read_runs(grid(**extra), where=condition)) == 4
    named = read_runs(grid(run=[f"r{k // 6}" for k in range(24)], **extra))
    assert set(named.frame["run"]) == {"r0", "r1", "r2", "r3"} and not noted(named, "BS-R057")


def test_a_grid_of_finished_runs_is_not_taken_for_checkpoints():
    for extra in ({}, {"steps": [100, 200, 300, 400, 500, 600] * 4}, {"portion_steps_elapsed": [1.0] * 24}):
        runs = read_runs(grid(**extra))
        assert "run" not in runs.frame and not noted(runs, "BS-R016")


def test_settings_that_are_pooled_are_said():
    (message,) = noted(read_runs(grid(schedule=["cosine", "constant"] * 12)), "BS-R023")
    assert "'schedule' (2)" in message and "--where" in message
    named = [f"m{n}" for n in (1, 2, 4, 8) for _ in range(6)]
    assert not noted(read_runs(grid(model=named)), "BS-R023"), "a model's name follows from its size"
