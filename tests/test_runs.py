"""`Runs`: columns by name, labels, filters, hashes, and the expressions of `where`."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from bayescale.errors import BayescaleError, Note, RunsError
from bayescale.reading import read_runs
from bayescale.runs import COLUMNS, Runs, distinct, numeric_levels, select


def make(**options) -> Runs:
    frame = pd.DataFrame(
        {
            "params": [1e8, 2e8, 4e8, 8e8],
            "tokens": [2e9, 4e9, 8e9, 1.6e10],
            "loss": [3.5, 3.2, 3.0, 2.8],
            "recipe": ["A", "A", "B", "it's"],
            "in_hot_100b+": [1.0, 0.0, 1.0, 1.0],
            "ok": [True, False, True, True],
            "lr": [1e-3, np.nan, 2e-3, 3e-3],
        },
        index=[2, 3, 5, 6],
    )
    defaults = {"frame": frame, "source": "runs.csv", "column_map": {"params": "N", "recipe": "family"}}
    return Runs(**{**defaults, **options})


def rows(expression, **options):
    return make(**options).where(expression).rows


def test_rows_keep_the_numbers_of_the_source():
    runs = make()
    assert len(runs) == 4 and runs.rows == (2, 3, 5, 6) and runs.rows_read == 4
    with pytest.raises(RunsError, match="row numbers repeat"):
        make(frame=pd.DataFrame({"loss": [1.0, 2.0]}, index=[1, 1]))


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("params < 3e8", (2, 3)),
        ("params <= 2e8 or loss == 2.8", (2, 3, 6)),
        ("1e8 < params < 8e8", (3, 5)),
        ("not params < 3e8", (5, 6)),
        ("recipe == 'A' and params > 1e8", (3,)),
        ("recipe != 'A'", (5, 6)),
        ('recipe == "it\'s"', (6,)),
        ("recipe in ('A', 'B')", (2, 3, 5)),
        ("recipe not in ['A']", (5, 6)),
        ("params in (1e8, 8e8)", (2, 6)),
        ("tokens / params >= 20 and -loss < -3", (2, 3)),
        ("params ** 2 > +1e17", (5, 6)),
        ("`in_hot_100b+` == 1 and `params` > 1e8", (5, 6)),
        ("recipe == '`A`' or loss > 3.4", (2,)),
        ("ok", (2, 5, 6)),
        ("not ok", (3,)),
        ("ok == True", (2, 5, 6)),
        ("lr > 0", (2, 5, 6)),
        ("family == 'A'", (2, 3)),
        (" params < 3e8 ", (2, 3)),
        ("1 < 2", (2, 3, 5, 6)),
    ],
)
def test_filters(expression, kept):
    assert rows(expression) == kept


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "params",
        "params <",
        "params < 3e8 &",
        "parms < 3e8",
        "params < 1",
        "recipe < 3",
        "recipe",
        "params and recipe",
        "params < 3e8 and 1",
        "__import__('os')",
        "params.sum() > 1",
        "params[0] > 1",
        "lambda: 1",
        "f'{params}' == 'x'",
        "None",
        "params is 1",
        "'A' in recipe",
        "recipe in 'A'",
        "1 in (1, 2)",
        "params < 9**9**9",
        "params < 1 / 0",
        "`nope` == 1",
        "`in_hot_100b+ == 1",
        "in_hot_100b+ == 1",
        "N < 3e8",
        "(" * 5000 + "params" + ")" * 5000,
        "-" * 50_000 + "params < 1",
        "params < 1\0",
        "x := 1",
        "params = 1",
        "*params",
    ],
)
def test_filters_that_cannot_be_used(expression):
    with pytest.raises(RunsError) as caught:
        make().where(expression)
    assert caught.value.code == "BS-R054" and caught.value.remedy and caught.value.file == "runs.csv"
    assert caught.value.__cause__ is None


def test_a_filter_on_an_old_header_names_the_canonical_column():
    with pytest.raises(RunsError, match="'N' was read as 'params'"):
        make().where("N < 3e8")


def test_a_filter_names_near_columns_and_back_quotes():
    with pytest.raises(RunsError, match="Did you mean params"):
        make().where("parms < 3e8")
    with pytest.raises(RunsError, match="back-quotes"):
        make().where("in_hot_100b+ == 1")
    with pytest.raises(RunsError, match="`in hot`"):
        make(frame=make().frame.rename(columns={"lr": "in hot"})).where("f(`in hot`)")


@given(st.text("paramsloe<>=!&|()[]{}'\"`0123456789. +-*/%,:notand\n\\#é", max_size=25))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_filter_raises_anything_else(expression):
    frame = make().frame
    try:
        keep = select(frame, expression)
    except BayescaleError:
        return
    assert keep.dtype == bool and keep.shape == (4,)


def test_where_says_what_it_kept_and_keeps_the_count_read():
    runs = make().where("params < 3e8").where("loss < 3.4")
    assert runs.rows == (3,) and runs.rows_read == 4
    assert runs.notes == (
        Note("BS-R052", "kept the 2 of 4 rows where params < 3e8"),
        Note("BS-R052", "kept the 1 of 2 rows where loss < 3.4"),
    )


def test_columns_go_by_their_header_too():
    runs = make()
    assert runs.has("N") and runs.has("family") and not runs.has("D")
    np.testing.assert_array_equal(runs.values("N"), runs.values("params"))
    assert runs.labels("family")[1] == ("A", "B", "it's")
    # A canonical name is never taken for the header of something else.
    assert not make(column_map={"eval_se": "loss_se"}).has("loss_se")


def test_values_are_float64_copies():
    runs = make()
    values = runs.values("loss")
    values[:] = 0
    np.testing.assert_array_equal(runs.values("loss"), [3.5, 3.2, 3.0, 2.8])
    np.testing.assert_array_equal(runs.values("tokens_per_param"), [20, 20, 20, 20])
    np.testing.assert_array_equal(runs.values("ok"), [1, 0, 1, 1])
    with pytest.raises(RunsError) as caught:
        runs.values("recipe")
    assert caught.value.code == "BS-R039"
    with pytest.raises(RunsError) as caught:
        runs.values("los")
    assert caught.value.code == "BS-R030" and "Did you mean loss" in caught.value.remedy


def test_labels_of_numbers_join_values_that_differ_by_digitisation():
    index, names = numeric_levels(np.array([1e8, 2.001e8, 1.002e8, 2e8, 5e8]))
    assert index.tolist() == [0, 1, 0, 1, 2] and len(names) == 3
    assert distinct([1.0, 1.001, 2.0]) == 2
    assert numeric_levels(np.array([]))[1] == ()


def test_labels_refuse_blank_numbers():
    with pytest.raises(RunsError) as caught:
        make().labels("lr")
    assert caught.value.rows == (3,) and caught.value.column == "lr"


def test_the_hash_is_of_the_rows_as_understood():
    runs = make()
    assert runs.sha256 == make(source="elsewhere.csv").sha256
    assert runs.sha256 == make(frame=runs.frame[list(reversed(runs.columns))]).sha256
    assert runs.sha256 != make(loss_unit="bits/token").sha256
    assert runs.sha256 != runs.where("params < 3e8").sha256


def test_assumptions_start_with_the_map_of_columns():
    runs = make(notes=(Note("BS-R053", "nats were assumed"),))
    assert runs.assumptions == ("columns: params = 'N', recipe = 'family'", "nats were assumed")


def test_with_columns_leaves_the_original_alone():
    runs = make()
    more = runs.with_columns({"extra": [1, 2, 3, 4]}, Note("BS-R050", "made up"))
    assert "extra" in more.columns and "extra" not in runs.columns and len(more.notes) == 1


def test_representations_are_short_and_escaped():
    runs = make(source="<b>x</b>")
    assert "4 rows" in repr(runs) and "2 of 4 rows" in repr(runs.where("params < 3e8"))
    assert "<b>x</b>" not in runs._repr_html_()


def test_the_canonical_columns_are_documented():
    assert all(c.meaning and c.kind in ("scale", "response", "error", "label", "flag") for c in COLUMNS.values())


def test_what_a_user_writes_into_the_frame_counts():
    """Nothing of a table is remembered beside its frame: not its columns, nor its numbers, nor its hash."""
    runs = read_runs({"params": [1e8, 2e8, 4e8], "tokens": [1e10, 2e10, 3e10], "loss": [3.0, 2.8, 2.6]})
    before = runs.values("loss"), runs.sha256, runs.columns
    runs.frame["loss"] = before[0] + 0.1
    runs.frame["width"] = 64.0
    assert (runs.values("loss") == before[0] + 0.1).all() and runs.sha256 != before[1]
    assert runs.columns == (*before[2], "width") and runs.has("width")


def test_values_that_follow_on_each_other_are_no_one_level():
    """Neighbours .1 % apart over a factor of two: levels of half to one per cent. Rounded values stay together."""
    values = np.random.default_rng(0).permutation(np.geomspace(1e8, 2e8, 700))
    index, names = numeric_levels(values)
    spans = [np.ptp(np.log(values[index == k])) for k in range(len(names))]
    assert len(names) == len(set(names)) == distinct(values) and max(spans) <= 0.0102
    assert 110 < len(names) < 140
    assert distinct(-values) == pytest.approx(len(names), abs=2) and distinct(values - 1.5e8) > 100
    rounded = np.array([0.996, 0.9965, 1.0, 1.0005, 1.004, 1.0085, 1.009, 1.0091])
    assert numeric_levels(rounded)[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert numeric_levels(np.array([1.0, 1.004, 1.008]))[0].tolist() == [0, 0, 0]
