"""The page of bad inputs: every kind is said as listed, its remedy works, and no code is said that is not listed."""

import csv
import importlib.util
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import bayescale
from bayescale.errors import CODES, MESSAGES, RunsError
from bayescale.reading import read_runs, sources
from bayescale.tables.escaping import html_text, latex_text, markdown_text, spreadsheet_text

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(bayescale.__file__).parent


def _load():
    spec = importlib.util.spec_from_file_location("bad_inputs", ROOT / "docs" / "bad_inputs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_inputs"] = module
    spec.loader.exec_module(module)
    return module


BAD = _load()
SHOWN = [c for c in BAD.CASES if not c.test]


def test_the_list_is_whole():
    assert [c.number for c in BAD.CASES] == list(range(1, 43))
    for case in BAD.CASES:
        assert not case.code or case.code in CODES, case.code
        assert case.test or case.file


@pytest.mark.parametrize("case", SHOWN, ids=lambda c: f"{c.number} {c.code}")
def test_every_kind_is_said_and_its_remedy_works(case, tmp_path):
    status, text, codes = BAD.outcome(case, False, tmp_path)
    assert case.code in codes and text
    if status == "refused" and case.check == "read":
        assert set("EA") & set(MESSAGES[case.code].kind)
        assert re.search(r"--[a-z]|[.?]", text[0]), "a refusal says what to do"
    if case.remedy or case.instead:
        again, text, codes = BAD.outcome(case, True, tmp_path)
        assert again == "read", text
        assert status == "refused" or case.code not in codes, text


@pytest.mark.parametrize("case", [c for c in BAD.CASES if c.test], ids=lambda c: str(c.number))
def test_what_no_file_can_show_has_a_test(case):
    path, _, name = case.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_the_page_is_current():
    assert BAD.PAGE.read_text(encoding="utf-8") == BAD.page(), "run: uv run python docs/bad_inputs.py"


def test_every_code_said_is_listed_and_every_one_listed_is_said():
    texts = [p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py") if p.name != "codes.py"]
    said = {c for text in texts for c in re.findall(r"\bBS-[A-Z]\d{3}\b", text)}
    findings = {f for text in texts for f in re.findall(r"Finding\(\s*\"([a-z-]+)\"", text)}
    assert said <= set(MESSAGES), said - set(MESSAGES)
    for code, listed in MESSAGES.items():
        assert code in said or listed.finding in findings, f"{code} is listed and never said"
        assert not listed.finding or listed.finding in CODES
        assert set(listed.kind) <= set("EWFA") and listed.title and listed.meaning and listed.remedy


# What no file of a few lines can show.


def _long(path, runs, steps):
    with path.open("w") as file:
        file.write("run_id,N,step,D,loss\n")
        for k in range(runs):
            for s in range(1, steps + 1):
                file.write(f"r{k},{(k + 1) * 1e8:g},{s},{s * 1e8:g},{2 + 3 * s**-0.3:.6f}\n")
    return path


def test_a_large_file_is_read_in_pieces(tmp_path, monkeypatch):
    path = _long(tmp_path / "long.csv", 5, 400)
    whole = read_runs(path, rows_per_run="last")
    monkeypatch.setattr(sources, "MOST_BYTES", 1000)
    runs = read_runs(path)
    assert "BS-R035" in {n.code for n in runs.notes} and runs.rows_read == 2000 and 50 < len(runs) < 250
    assert runs.rows[0] == 2 and runs.values("tokens").max() == 400e8
    last = read_runs(path, rows_per_run="last")
    assert last.sha256 == whole.sha256 and last.rows == whole.rows == (401, 801, 1201, 1601, 2001)


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("N,D,loss\n" + "1e8,2e9,3.5\n" * 200, "a.csv", "BS-R035"),
        ("run,loss,N\n" + "a,3.5,1e8\n" * 200, "a.csv", "BS-R035"),
        ("[" + '{"N": 1e8},' * 200 + "{}]", "a.json", "BS-R035"),
        ("run,D,loss\né,2e9,3.5\n" * 100, "a.csv", "BS-R032"),
    ],
)
def test_a_large_file_without_runs_is_refused(tmp_path, monkeypatch, text, name, code):
    monkeypatch.setattr(sources, "MOST_BYTES", 1000)
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(RunsError) as caught:
        read_runs(tmp_path / name)
    assert caught.value.code == code and caught.value.remedy


HOSTILE = [
    '=HYPERLINK("http://example.org")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "＝1+1",
    "<script>alert(1)</script>",
    "\\input{secret} $x$ & %",
    "[link](http://example.org) | `code`",
    "a\u202eb" * 3000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:12])
def test_cells_never_become_formulas_or_markup(text):
    runs = read_runs({"run": [text, "b"], "N": [1e8, 2e8], "D": [2e9, 4e9], "loss": [3.5, 3.1]})
    assert runs.frame["run"].iloc[0] == text.strip()
    assert "<script" not in runs._repr_html_()
    cell = next(csv.reader(io.StringIO(spreadsheet_text(text).replace("\n", " "))))[0] if text.strip() else ""
    assert not cell.startswith(("=", "+", "-", "@", "\t", "＝"))
    assert "<script" not in html_text(text) and "<script" not in markdown_text(text)
    assert not re.search(r"(?<!\\)\]\(", markdown_text(text))
    assert not re.search(r"(?<!\\)[$&%#]|\\input", latex_text(text))
    assert np.isfinite(runs.values("loss")).all()


ORDINARY = {"BS-R050", "BS-R053", "BS-R030", "BS-R051"}


@pytest.mark.parametrize(
    "text",
    [
        BAD.grid(),
        BAD.grid("params,tokens,flops,loss", row=lambda n, d, loss: f"{n:g},{d:g},{6.3 * n * d:g},{loss:.4f}"),
        BAD.grid("params,tokens,width,lr,val_loss", row=lambda n, d, loss: f"{n:g},{d:g},512,{n**-0.3:.4g},{loss:.4f}"),
        BAD.grid("N,D,family,loss", row=lambda n, d, loss: f"{n:g},{d:g},{'a' if n > 3e8 else 'b'},{loss:.4f}"),
        BAD.isoflop((1e18, 1e19), ((5e7, 1e8, 2e8, 4e8, 8e8), (1e8, 2e8, 4e8, 8e8, 1.6e9))),
    ],
)
def test_ordinary_tables_raise_no_alarm(text, tmp_path):
    (tmp_path / "runs.csv").write_text(text)
    assert {n.code for n in read_runs(tmp_path / "runs.csv").notes} <= ORDINARY


def test_a_ratio_of_compute_says_what_it_may_be():
    n, d = np.repeat([1e8, 2e8, 4e8], 3), np.tile([2e9, 4e9, 8e9], 3)
    loss = 1.7 + 480 * n**-0.35 + 2085 * d**-0.37
    for ratio, cause in (
        (1 / 3, "only the forward pass"),
        (0.4, "experts of a mixture"),
        (3.0, "several epochs"),
        (1 + 3e7 / n, "falls with N"),
        (1.5 - 4e7 / n, "rises with N"),
    ):
        runs = read_runs({"params": n, "tokens": d, "flops": ratio * 6 * n * d, "loss": loss})
        (said,) = (x.message for x in runs.notes if x.code == "BS-R011")
        assert cause in said, said


def test_one_loss_in_two_units_is_told_as_that():
    table = {"N": [1e8, 2e8, 4e8], "D": [2e9, 4e9, 8e9], "val_loss": [3.5, 3.2, 3.0]}
    with pytest.raises(RunsError, match="larger in bits and the other in nats"):
        read_runs(table | {"eval_loss": [x / np.log(2) for x in table["val_loss"]]})
    runs = read_runs(table | {"val_ppl": [float(np.exp(x)) for x in table["val_loss"]]})
    assert runs.column_map["loss"] == "val_loss" and any("is its perplexity" in a for a in runs.assumptions)


def test_losses_read_off_colours_are_told():
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(8, 10, 120), 10 ** rng.uniform(9, 11, 120)
    loss = 1.7 + 480 * n**-0.35 + 2085 * d**-0.37
    steps = np.exp(np.round(np.log(loss) / 0.01) * 0.01)
    told = {
        name: read_runs({"params": n, "tokens": d, "loss": x}) for name, x in (("as is", loss), ("read off", steps))
    }
    assert not any(x.code == "BS-R026" for x in told["as is"].notes)
    (said,) = (x.message for x in told["read off"].notes if x.code == "BS-R026")
    assert "distinct losses" in said and 0.002 < float(re.search(r"([\d.]+)% of the loss", said)[1]) / 100 < 0.004
