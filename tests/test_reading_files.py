"""Files: delimiters, encodings, layouts and formats; any table written out reads back to the same numbers."""

import csv
import gzip
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from bayescale.errors import RunsError
from bayescale.reading import read_runs
from bayescale.reading.cells import parse_number
from bayescale.reading.delimited import sniff

GOOD = "params,tokens,loss\n1e8,2e9,3.5\n2e8,4e9,3.2\n4e8,8e9,3.0\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(source, code, **options):
    with pytest.raises(RunsError) as caught:
        read_runs(source, **options)
    assert caught.value.code == code, str(caught.value)
    return caught.value


def said(runs, code):
    return " ".join(n.message for n in runs.notes if n.code == code)


def is_good(runs):
    np.testing.assert_array_equal(runs.values("params"), [1e8, 2e8, 4e8])
    np.testing.assert_array_equal(runs.values("loss"), [3.5, 3.2, 3.0])
    return runs


# 31: layouts


def test_a_cell_may_hold_a_whole_configuration(write):
    long = "x" * 200_000
    is_good(read_runs(write(f"params,tokens,loss,config\n1e8,2e9,3.5,{long}\n2e8,4e9,3.2,b\n4e8,8e9,3.0,c\n")))
    assert csv.field_size_limit() < 200_000, "the process's own limit is left as it was"


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a bar"), (" ", "spaces")]
)
def test_delimiters_are_found_and_said(write, delimiter, name):
    assert name in said(is_good(read_runs(write(GOOD.replace(",", delimiter)))), "BS-R031")


def test_a_tab_is_expected_in_a_tsv(write):
    assert "BS-R031" not in {n.code for n in is_good(read_runs(write(GOOD.replace(",", "\t"), "runs.tsv"))).notes}


def test_the_delimiter_is_the_one_that_agrees_with_the_header():
    assert sniff(["N;D;loss", "1;2;3,14", "1;2;3,15"]) == ";"
    assert sniff(["N,D,note", "1,2,a;b", "3,4,c;d;e"]) == ","
    assert sniff(["loss", "3.1", "3.2"]) == ","


def test_spaces_and_quotes_around_cells(write):
    is_good(read_runs(write('params , "tokens", loss\n 1e8, "2e9" ,3.5 \n2e8,4e9,"3.2"\n4e8 , 8e9 , 3.0\n')))


def test_comments_and_blank_lines_are_skipped_and_said(write):
    text = "# my runs\n\nparams,tokens,loss\n1e8,2e9,3.5\n# 9e8,2e9,3.5\n2e8,4e9,3.2\n,,\n4e8,8e9,3.0\n\n"
    runs = is_good(read_runs(write(text)))
    assert runs.rows == (4, 6, 8)
    assert "lines 1, 5, starting with '#'" in said(runs, "BS-R031") and "line 7 held no value" in said(runs, "BS-R031")


def test_a_header_in_a_comment_is_used(write):
    runs = is_good(read_runs(write("# by me\n# params, tokens, loss\n1e8,2e9,3.5\n2e8,4e9,3.2\n4e8,8e9,3.0\n")))
    assert "comment on line 2" in said(runs, "BS-R031")


def test_a_column_of_colours_is_not_comments(write):
    runs = read_runs(write("color,params,tokens,loss\n#faebdd,1e8,2e9,3.5\n#f8d1b8,2e8,4e9,3.2\n"))
    assert list(runs.frame["color"]) == ["#faebdd", "#f8d1b8"]


def test_a_missing_header_is_refused(write):
    error = refusal(write("1e8,2e9,3.5\n2e8,4e9,3.2\n"), "BS-R031")
    assert error.rows == (1,) and "Add a header" in error.remedy
    refusal(write("a,1e8,2e9,3.5\nb,2e8,4e9,3.2\n"), "BS-R031")


def test_a_row_of_units_is_used_and_said(write):
    runs = read_runs(write("N,D,loss,note\n(M),(B),bits/byte,\n100,2,1.5,a\n200,4,1.4,b\n"))
    np.testing.assert_array_equal(runs.values("params"), [1e8, 2e8])
    assert runs.loss_unit == "bits/byte" and runs.rows == (3, 4) and "row of units" in said(runs, "BS-R031")


def test_decimal_commas(write):
    text = "params;tokens;loss\n100000000;2000000000;3,5\n200000000;4000000000;3,2\n400000000;8000000000;3,0\n"
    assert "'loss'" in said(is_good(read_runs(write(text))), "BS-R031")
    text = "params;tokens;loss\n100.000.000;2.000.000.000;3,5\n200.000.000;4.000.000.000;3,2\n4e8;8e9;3\n"
    is_good(read_runs(write(text)))
    is_good(read_runs(write('params,tokens,loss\n1e8,2e9,"3,5"\n2e8,4e9,"3,2"\n4e8,8e9,"3,0"\n')))


def test_separators_that_could_be_either_are_asked_about(write):
    error = refusal(write("params;tokens;loss\n1e8;2e9;3,512\n2e8;4e9;3,213\n"), "BS-R031")
    assert error.column == "loss" and "'3,512'" in error.message
    thousands = read_runs(write('params,tokens,loss\n"123,456,789","2,000,000,000",3.5\n"9,876",3e8,3.2\n'))
    np.testing.assert_array_equal(thousands.values("params"), [123456789, 9876])


def test_markdown_tables(write):
    text = "| params | tokens | loss |\n|---|:--:|---:|\n| 1e8 | 2e9 | 3.5 |\n| 2e8 | 4e9 | 3.2 |\n|4e8|8e9|3.0|\n"
    is_good(read_runs(write(text, "runs.md")))


def test_nameless_and_repeated_columns(write):
    runs = is_good(read_runs(write(pd.DataFrame({"params": [1e8, 2e8, 4e8], "loss": [3.5, 3.2, 3.0]}).to_csv())))
    assert runs.columns == ("params", "loss") and "only counts the rows" in said(runs, "BS-R031")
    assert "column_3" in read_runs(write("params,loss,,tokens\n1e8,3.5,a,2e9\n")).columns
    refusal(write("params,loss,loss\n1e8,3.5,3.6\n"), "BS-R030")
    assert "one was kept" in said(read_runs(write("params,loss,loss\n1e8,3.5,3.5\n")), "BS-R030")
    is_good(read_runs(write("params,tokens,loss,\n1e8,2e9,3.5,\n2e8,4e9,3.2,\n4e8,8e9,3.0,\n")))
    is_good(read_runs(write("params,tokens,loss\n1e8,2e9,3.5,\n2e8,4e9,3.2,\n4e8,8e9,3.0,\n")))


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_line_ends(write, newline):
    assert is_good(read_runs(write(GOOD.replace("\n", newline)))).rows == (2, 3, 4)


# 32: encodings


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-8-sig", "UTF-8 with a byte-order mark"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16 without"),
        ("utf-16-be", "UTF-16 without"),
        ("utf-32", "UTF-32"),
        ("latin-1", "Latin-1"),
        ("cp1252", "Windows-1252"),
    ],
)
def test_encodings_are_read_and_named(write, encoding, named):
    word = "“é”" if encoding == "cp1252" else "é"
    text = f"family,params,tokens,loss\n{word},1e8,2e9,3.5\nb,2e8,4e9,3.2\nc,4e8,8e9,3.0\n"
    runs = is_good(read_runs(write(text.encode(encoding))))
    assert named in said(runs, "BS-R032") and runs.frame["recipe"].iloc[0] == word


def test_plain_utf8_is_not_worth_a_note(write):
    assert "BS-R032" not in {n.code for n in read_runs(write("family," + GOOD.replace("\n", "\né,", 3))).notes}


def test_a_damaged_encoding_is_refused(write):
    refusal(write(b"\xff\xfe" + GOOD.encode()), "BS-R032")


# 33: ragged rows


def test_ragged_rows_are_refused_with_their_lines(write):
    error = refusal(write(GOOD + "1e9,2e10\n# x\n1e9,2e10,3,4\n"), "BS-R033")
    assert error.rows == (5, 7) and "2 cells where the header has 3" in error.message
    error = refusal(write("N,D,loss\n100000000,2000000000,3,14\n200000000,4000000000,3,1\n"), "BS-R033")
    assert "semicolons" in error.remedy


def test_an_open_quotation_mark_is_refused(write):
    assert refusal(write('params,tokens,loss\n1e8,"2e9,3.5\n2e8,4e9,3.2\n'), "BS-R033").rows == (2,)
    # Two of them must not hide the row between them.
    text = 'params,loss,note\n1e8,3.5,"bad\n2e8,3.2,"ok"\n4e8,3.0,fine\n'
    assert refusal(write(text), "BS-R033").rows == (2,)


def test_a_quoted_cell_may_hold_delimiters_quotes_and_lines(write):
    runs = read_runs(write('params,loss,note\n1e8,3.5,"a, ""b""\nc"\n2e8,3.2,d\n'))
    assert list(runs.frame["note"]) == ['a, "b"\nc', "d"] and runs.rows == (2, 4)


# 37: sources that are no tables


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (b"", "runs.csv", "empty"),
        (b" \n\n\t", "runs.csv", "empty"),
        (b"# nothing\n", "runs.csv", "only comments"),
        (b"params,tokens,loss\n", "runs.csv", "no row"),
        (pickle.dumps({"a": 1}), "runs.csv", "pickle"),
        (pickle.dumps({"a": 1}, protocol=0), "runs.csv", "pickle"),
        (GOOD.encode(), "runs.pkl", "pickle"),
        (gzip.compress(pickle.dumps(1), mtime=0), "runs.pkl.gz", "pickle"),
        (gzip.compress(pickle.dumps(1), mtime=0), "runs.csv.gz", "pickle"),
        (gzip.compress(GOOD.encode(), mtime=0)[:20], "runs.csv.gz", "damaged"),
        (b"PK\x03\x04...", "runs.xlsx", "spreadsheet"),
        (b"\x89HDF\r\n", "runs.h5", "HDF5"),
        (b"<!DOCTYPE html><p>", "runs.csv", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "runs.csv", "Git LFS"),
        (bytes(range(256)), "runs.csv", "not text"),
        (b"PAR1 nonsense", "runs.parquet", "Parquet"),
        (b"[", "runs.json", "not JSON"),
        (b"[]", "runs.json", "no records"),
        (b"[" * 100_000, "runs.json", "nested"),
    ],
)
def test_files_that_are_no_tables_are_refused(write, content, name, word):
    error = refusal(write(content, name), "BS-R037")
    assert word in error.message and error.remedy and error.file.endswith(name)


def test_paths_that_lead_to_no_file_are_refused(tmp_path):
    assert "folder" in refusal(tmp_path, "BS-R037").message
    assert "no such file" in refusal(tmp_path / "runs.csv", "BS-R037").message
    for address in ("https://example.org/runs.csv", "s3://bucket/runs.csv"):
        assert "address" in refusal(address, "BS-R037").message
    refusal("", "BS-R037")
    refusal("a\0b", "BS-R037")


def test_pickles_are_never_loaded(write):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('a pickle ran')",))

    for name in ("runs.pkl", "runs.csv", "runs.json", "runs.parquet"):
        refusal(write(pickle.dumps(Trap()), name), "BS-R037")


# Formats


def test_gzip_parquet_and_json_hold_the_same_runs(write, tmp_path):
    frame = pd.read_csv(write(GOOD))
    expected = is_good(read_runs(frame)).sha256
    records = frame.to_dict("records")
    frame.to_parquet(tmp_path / "runs.parquet")
    sources = [
        tmp_path / "runs.parquet",
        write(gzip.compress(GOOD.encode()), "runs.csv.gz"),
        write(json.dumps(records), "records.json"),
        write(json.dumps(records), "records.txt"),
        write(json.dumps({"runs": records}), "wrapped.json"),
        write("\n".join(map(json.dumps, records)), "runs.jsonl"),
        write("\n".join(map(json.dumps, records)), "lines.json"),
        write(frame.to_json(), "columns.json"),
        write(frame.to_json(orient="split"), "split.json"),
        write(json.dumps(frame.to_dict("list")), "lists.json"),
    ]
    for source in sources:
        assert read_runs(source).sha256 == expected, source


def test_parquet_without_pyarrow_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "pip install 'bayescale[parquet]'" in refusal(write(b"PAR1", "runs.parquet"), "BS-R037").remedy


def test_nested_records_are_flattened(write):
    record = {"config": {"n_params": 1e8, "tokens": 2e9}, "summary": {"val/loss": 3.5}}
    runs = read_runs(write(json.dumps([record]), "runs.json"))
    assert runs.column_map == {"params": "config.n_params", "tokens": "config.tokens", "loss": "summary.val/loss"}


@pytest.mark.parametrize(
    ("text", "code", "rows"),
    [
        ('{"N": 1e8, "loss": 3}\n{"N": \n', "BS-R033", (2,)),
        ('{"N": 1e8, "loss": 3}\n[1, 2]\n', "BS-R033", (2,)),
        ('{"N": 1e8, "loss": 3}\n{"N": 2e8}\n', "BS-R001", (2,)),
        ('{"N": 1e8, "N": 2e8, "loss": 3}\n', "BS-R033", (1,)),
        ('{"N": 1e8, "loss": NaN}\n{"N": 2e8, "loss": 3}\n', "BS-R001", (1,)),
    ],
)
def test_bad_json_lines_are_refused_with_their_lines(write, text, code, rows):
    assert refusal(write(text, "runs.jsonl"), code).rows == rows


def test_columns_of_different_rows_in_json_are_refused(write):
    refusal(write('{"N": {"0": 1}, "loss": {"1": 2}}', "runs.json"), "BS-R033")
    refusal(write('{"N": [1, 2], "loss": [1]}', "runs.json"), "BS-R033")
    assert refusal(write('{"columns": ["N", "loss"], "data": [[1, 2], [3]]}', "runs.json"), "BS-R033").rows == (2,)


# Numbers in cells


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("70B", 7e10),
        ("1.4T", 1.4e12),
        ("350M", 3.5e8),
        ("12 k", 1.2e4),
        ("7e9", 7e9),
        ("1,234", 1234),
        ("1,234,567.5", 1234567.5),
        ("1_000", 1000),
        ("1 234 567", 1234567),
        ("1\u202f234", 1234),
        ("1'234", 1234),
        ("10^9", 1e9),
        ("2 x 10^9", 2e9),
        ("2.5 × 10^-1", 0.25),
        ("3 billion", 3e9),
        ("1.5 million params", 1.5e6),
        ("−3", -3),
        ("+3", 3),
        (".5", 0.5),
        ("5.", 5),
        ("inf", np.inf),
        ("-∞", -np.inf),
        ("0.07B", 7e7),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert parse_number(text, column="params")[0] == value


@pytest.mark.parametrize(
    "text", ["", "abc", "1,2", "1.2.3", "1,23,456", "7X", "B", "1e", "--1", "0x10", "1+2j", "3;4", "5%"]
)
def test_text_that_is_no_number(text):
    assert parse_number(text, column="params") is None


def test_multiples_are_for_scales_only():
    assert parse_number("7B") is None
    assert parse_number("2 EFLOP", column="flops") == (2e18, True) and parse_number("2 EFLOP", column="params") is None


# Round trips

_NUMBERS = st.floats(1e6, 1e12, allow_subnormal=False)
_LOSSES = st.floats(0.5, 12.0)
_ROWS = st.lists(
    st.tuples(_NUMBERS, _NUMBERS, _LOSSES, st.text("abcé xyz;|'", max_size=5), st.integers(0, 9)),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[:3],
)


@given(
    rows=_ROWS,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    comma=st.booleans(),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_written_tables_read_back_to_the_same_numbers(tmp_path_factory, rows, delimiter, encoding, newline, comma):
    frame = pd.DataFrame(rows, columns=["N", "D", "loss", "note", "seed"])
    path = tmp_path_factory.mktemp("trip") / "runs.csv"
    decimal = "," if comma and delimiter != "," else "."
    # Seventeen digits, so that a number with a decimal comma cannot pass for thousands.
    frame.to_csv(
        path,
        sep=delimiter,
        encoding=encoding,
        lineterminator=newline,
        decimal=decimal,
        index=False,
        float_format="%.17e",
    )
    runs = read_runs(path, loss_unit="nats/token", units={"params": 1, "tokens": 1})
    for ours, theirs in (("params", "N"), ("tokens", "D"), ("loss", "loss"), ("seed", "seed")):
        np.testing.assert_array_equal(runs.values(ours), frame[theirs].to_numpy(float))
    assert runs.rows == tuple(range(2, len(frame) + 2)) and runs.rows_read == len(frame)


@given(
    value=st.integers(1, 10**15),
    how=st.sampled_from(["{:d}", "{:,d}", "{:_d}", "{:.14e}"]),
    space=st.sampled_from(["", " ", "\u00a0"]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_formatted_numbers_read_back(value, how, space):
    text = how.format(value)
    assert parse_number(space + text + space, column="tokens") == (float(text.replace(",", "").replace("_", "")), False)
