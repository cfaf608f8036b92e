"""Tables in memory: types of columns, frames of several libraries, labels, and inputs that stay as they were."""

import numpy as np
import pandas as pd
import pytest

from bayescale.errors import RunsError
from bayescale.reading import read_runs


def table(**columns):
    """Four ordinary runs as a dict of columns, some of them replaced, renamed or left out (None)."""
    made = {"params": [1e8, 2e8, 4e8, 8e8], "tokens": [2e9, 4e9, 8e9, 1.6e10], "loss": [3.5, 3.2, 3.0, 2.8]}
    return {name: values for name, values in {**made, **columns}.items() if values is not None}


def refusal(source, code, **options) -> RunsError:
    with pytest.raises(RunsError) as caught:
        read_runs(source, **options)
    assert caught.value.code == code, str(caught.value)
    return caught.value


# 39: types


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([True, False, True, True], "true/false"),
        (np.array([1, 2, 3, 4j]), "complex"),
        (pd.date_range("2020-01-01", periods=4, tz="UTC"), "dates"),
        (pd.to_timedelta([1, 2, 3, 4], unit="s"), "dates"),
        ([1.0, 2.0, {"a": 1}, 3.0], "type dict"),
        ([1.0, 2.0, b"3", 3.0], "type bytes"),
        (["small", "base", "large", "xl"], "text such as 'small'"),
    ],
)
@pytest.mark.parametrize("name", ["loss", "params"])
def test_types_that_hold_no_quantities_are_refused(name, values, holds):
    error = refusal(table(**{name: values}), "BS-R039")
    assert error.column == name and holds in error.message and f"--column {name}=" in error.remedy


def test_odd_cells_are_named_by_row():
    assert refusal(table(loss=[3.5, pd.Timestamp("2020-01-01"), 3.0, 2.8]), "BS-R039").rows == (2,)


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1, 2, 3, 4], dtype="Int64"),
        pd.array([1, 2, 3, 4], dtype="Float32"),
        pd.Categorical(["1", "2", "3", "4"]),
        pd.Categorical([1.0, 2.0, 3.0, 4.0]),
        np.array([1, 2, 3, 4], dtype=np.uint8),
        ["1", 2, 3.0, np.int64(4)],
        pd.array(["1", "2", "3", "4"], dtype="string"),
    ],
)
def test_types_that_hold_numbers_are_read(values):
    np.testing.assert_array_equal(read_runs(table(loss=values), loss_unit="nats/token").values("loss"), [1, 2, 3, 4])


# Sources in memory


def test_inputs_are_never_modified():
    frame = pd.DataFrame(table(run=["a", "b", "c", "c"], flops=[None] * 4))
    before = frame.copy(deep=True)
    read_runs(frame, where="params > 1e8", drop_missing=True)
    pd.testing.assert_frame_equal(frame, before)
    arrays = {k: np.array(v) for k, v in table().items()}
    runs = read_runs(arrays, units={"params": "thousands"})
    runs.frame.loc[:, "loss"] = 0.0
    np.testing.assert_array_equal(arrays["loss"], table()["loss"])
    np.testing.assert_array_equal(arrays["params"], table()["params"])


def test_frames_number_their_rows_from_one_and_keep_a_named_index():
    frame = pd.DataFrame(table(), index=pd.Index(["a", "b", "c", "d"], name="run"))
    runs = read_runs(frame)
    assert runs.rows == (1, 2, 3, 4) and runs.labels("run")[1] == ("a", "b", "c", "d")
    assert read_runs(pd.DataFrame(table(), index=[7, 8, 9, 10])).rows == (1, 2, 3, 4)
    assert "index" in read_runs(pd.DataFrame(table(), index=list("wxyz"))).columns


def test_hierarchical_headers_are_joined():
    frame = pd.DataFrame([[1e8, 2e9, 3.0]])
    frame.columns = pd.MultiIndex.from_tuples([("config", "n_params"), ("config", "tokens"), ("summary", "val_loss")])
    runs = read_runs(frame)
    assert runs.column_map == {"params": "config.n_params", "tokens": "config.tokens", "loss": "summary.val_loss"}


def test_frames_of_other_libraries_are_read():
    import polars as pl
    import pyarrow as pa

    expected = read_runs(table()).sha256
    assert read_runs(pl.DataFrame(table())).sha256 == expected
    assert read_runs(pa.table(table())).sha256 == expected
    assert read_runs([dict(zip(table(), row, strict=True)) for row in zip(*table().values(), strict=True)]).sha256 == (
        expected
    )


@pytest.mark.parametrize("source", [None, 3, 3.0, b"runs.csv", np.ones((3, 3)), [], [1, 2], object()])
def test_objects_that_are_no_tables_are_refused(source):
    refusal(source, "BS-R037")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({}, "BS-R037"),
        (pd.DataFrame(), "BS-R037"),
        (pd.DataFrame(columns=["params", "tokens", "loss"]), "BS-R037"),
        (table(loss=[3.0]), "BS-R033"),
        (table(loss=3.0), "BS-R039"),
        (table(loss="abcd"), "BS-R039"),
        (table(loss=np.ones((4, 2))), "BS-R039"),
        (table(loss=np.float64(3.0)), "BS-R039"),
    ],
)
def test_malformed_tables_in_memory_are_refused(source, code):
    refusal(source, code)


def test_series_are_taken_by_position_not_aligned():
    runs = read_runs(table(loss=pd.Series([3.5, 3.2, 3.0, 2.8], index=[9, 8, 7, 6])))
    np.testing.assert_array_equal(runs.values("loss"), [3.5, 3.2, 3.0, 2.8])


def test_columns_without_a_meaning_are_kept_as_they_are():
    runs = read_runs(table(lr=["1e-3", "2e-3", "", "3e-3"], model=["7B", "7B", "13B", "x"], ok=["true", "False"] * 2))
    np.testing.assert_array_equal(runs.values("lr"), [1e-3, 2e-3, np.nan, 3e-3])
    assert list(runs.frame["model"]) == ["7B", "7B", "13B", "x"]
    assert list(runs.frame["ok"]) == [True, False, True, False]
    assert list(read_runs(table(code=["007", "008", "009", "010"])).frame["code"]) == ["007", "008", "009", "010"]


def test_labels_are_text_even_where_they_are_numbers():
    runs = read_runs(table(run_id=[1000, 1001, 1002, 1002]))
    assert runs.labels("run")[1] == ("1000", "1001", "1002")
    assert read_runs(table(run_id=[1.0, 2.0, np.nan, 3.0])).labels("run")[1] == ("(blank)", "1", "2", "3")


# Cells that could be something else, and rows that could be copies.


def test_a_bare_hundred_among_hundreds_of_millions_is_asked():
    frame = {"params": ["100M", "200", "400M"], "tokens": ["2B", "4B", "28B"], "loss": [3.5, 3.3, 3.1]}
    error = refusal(frame, "BS-R008")
    assert "'100M'" in str(error) and "200 does not" in str(error) and error.rows == (2,) and "--unit" in error.remedy
    runs = read_runs(frame, units={"params": "millions"})
    np.testing.assert_array_equal(runs.values("params"), [1e8, 2e8, 4e8])


def test_less_than_one_parameter_is_no_model():
    error = refusal(table(params=[0.5, 1e8, 2e8, 4e8]), "BS-R028")
    assert error.column == "params" and len(error.rows) == 1


@pytest.mark.parametrize("header, kept", [("idx", 4), ("row no.", 4), ("seed", 40), ("run", 40), ("note", 40)])
def test_an_index_tells_no_rows_apart(header, kept):
    """Ten copies of every row would make every interval a third as wide; numbering them makes them no runs."""
    once = pd.DataFrame(table())
    ten = pd.concat([once] * 10, ignore_index=True)
    ten.insert(0, header, np.arange(40) * (3 if header == "note" else 1))
    runs = read_runs(ten)
    assert len(runs) == kept
    if kept == 4:
        (copies,) = [n.message for n in runs.notes if n.code == "BS-R014"]
        assert "36 rows are exact copies" in copies and "only counts rows" in copies
        pd.testing.assert_series_equal(runs.frame["loss"], read_runs(once).frame["loss"])
