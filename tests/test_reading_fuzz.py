"""Whatever the input, the outcome is runs or a typed error that says where and what to do; no row is lost silently."""

import json
import re

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings, strategies as st

from bayescale.errors import CODES, BayescaleError
from bayescale.reading import read_runs

HEADERS = [
    *("params", "tokens", "flops", "loss", "N", "D", "C", "L", "val_loss", "params_M", "tokens (B)", "run", "family"),
    *("loss_se", "budget", "x", "", "#", "perplexity", "params_non_embedding", "c", "1", "1e9"),
]
GOOD_CELLS = ["1e8", "2e8", "4e9", "3.1", "2.9", "2.5"]
BAD_CELLS = [
    *("3,5", "1,234", "1.234", "70B", "1.4T", "", "-", "NaN", "inf", "-inf", "0", "-1", "1e400", "1e-400", "abc"),
    *("true", "2020-01-01", "1+2j", "'", '"', '""', "# x", "1__0", "0x10", "10^9", "10^999", "e5", "+", "९", "− 3"),
    *("total", "1e308", "9" * 400, "|", ";", "\t", "...", "\x00", "\u2028", "{", "3.4.5", "1.2.3,4", "=1+1"),
]
cells = st.one_of(
    st.sampled_from(GOOD_CELLS), st.sampled_from(GOOD_CELLS), st.sampled_from(BAD_CELLS), st.text(max_size=6)
)
options = st.sampled_from(
    [
        {},
        {"drop_missing": True},
        {"response": None},
        {"where": "params > 1e8"},
        {"loss_unit": "ppl"},
        {"units": {"params": "millions"}},
        {"columns": {"loss": "L"}},
    ]
)
FUZZ = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def outcome(source, **chosen):
    """Runs or the typed error; whatever else is raised fails the test."""
    try:
        runs = read_runs(source, **chosen)
    except BayescaleError as error:
        assert error.code in CODES and str(error) and error.to_json()["code"] == error.code
        return error
    assert 0 < len(runs) <= runs.rows_read and runs.frame.index.is_unique
    for name in {"params", "tokens", "flops"} & set(runs.columns):
        assert runs.frame[name].dtype == np.float64 and (runs.values(name) > 0).all()
    assert all(n.code in CODES for n in runs.notes) and runs.sha256 and repr(runs) and runs._repr_html_()
    return runs


@st.composite
def malformed_text(draw):
    headers = draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=6))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", " "]))
    rows = draw(
        st.lists(
            st.one_of(st.lists(cells, min_size=len(headers), max_size=len(headers)), st.lists(cells, max_size=7)),
            max_size=7,
        )
    )
    text = draw(st.sampled_from(["\n", "\r\n"])).join(delimiter.join(r) for r in [headers, *rows])
    return text.encode(draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "latin-1"])), "replace")


@given(content=malformed_text(), name=st.sampled_from(["a.csv", "a.tsv", "a"]), chosen=options)
@FUZZ
def test_malformed_text(tmp_path, content, name, chosen):
    path = tmp_path / name
    path.write_bytes(content)
    outcome(path, **chosen)


@given(
    content=st.binary(max_size=200),
    name=st.sampled_from(["a.csv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz"]),
    start=st.sampled_from([b"", b"params,tokens,loss\n", b"PAR1", b"\x1f\x8b", b"\xff\xfe", b"[{", b"\x80\x04"]),
)
@FUZZ
def test_random_bytes(tmp_path, content, name, start):
    path = tmp_path / name
    path.write_bytes(start + content)
    outcome(path)


json_cells = st.one_of(
    st.sampled_from(
        [1e8, 2e9, 3.5, None, "70B", "x", True, [1], {"a": 1}, 10**400, float("nan"), float("inf"), -1, 0, ""]
    ),
    st.floats(),
    st.integers(),
)


@given(
    records=st.lists(st.dictionaries(st.sampled_from(HEADERS), json_cells, max_size=6), max_size=6),
    lines=st.booleans(),
    chosen=options,
)
@FUZZ
def test_malformed_json(tmp_path, records, lines, chosen):
    path = tmp_path / ("a.jsonl" if lines else "a.json")
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    outcome(path, **chosen)


frame_cells = st.sampled_from(
    [
        *(1e8, 2e9, 3.1, 10**30, 10**400, "70B", "", "x", None, True, 1j, float("nan"), float("inf"), -1.0, [1], b"x"),
        *(pd.NaT, pd.NA, pd.Timestamp("2020-01-01"), np.float16(3.1), np.datetime64("2020-01-01")),
    ]
)


@given(data=st.data(), names=st.lists(st.sampled_from(HEADERS), min_size=1, max_size=5, unique=True), chosen=options)
@FUZZ
def test_malformed_frames(data, names, chosen):
    rows = data.draw(st.integers(0, 5))
    columns = {n: data.draw(st.lists(frame_cells, min_size=rows, max_size=rows)) for n in names}
    before = {n: list(map(repr, c)) for n, c in columns.items()}
    outcome(columns, **chosen)
    assert {n: list(map(repr, c)) for n, c in columns.items()} == before
    frame = pd.DataFrame({n: pd.Series(c, dtype=object) for n, c in columns.items()})
    copy = frame.copy(deep=True)
    outcome(frame, **chosen)
    assert [list(map(repr, frame[n])) for n in frame] == [list(map(repr, copy[n])) for n in copy]


@given(
    kinds=st.lists(st.sampled_from(["good", "good", "copy", "blank"]), min_size=1, max_size=12),
    chosen=st.sampled_from([{}, {"where": "loss > 2.5"}]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_row_is_lost_silently(kinds, chosen):
    rows = []
    for k, kind in enumerate(kinds):
        good = (1e8 * (k + 1), 2e9 * (k + 1) ** 1.3, 4.0 - 0.2 * k)
        rows.append(rows[0] if kind == "copy" and rows else (good[0], good[1], None) if kind == "blank" else good)
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    result = outcome(frame, drop_missing=True, **chosen)
    if isinstance(result, BayescaleError):
        assert result.code in ("BS-R037", "BS-R030", "BS-R054")
        return
    left_out = 0
    for note in result.notes:
        if note.code == "BS-R014":
            left_out += int(re.match(r"(\d+) row", note.message)[1])
        if note.code == "BS-R052":
            kept = re.match(r"kept the (\d+) of (\d+) rows", note.message)
            left_out += int(kept[2]) - int(kept[1]) if kept else int(re.match(r"(\d+) row", note.message)[1])
    assert len(result) + left_out == result.rows_read == len(frame)
