"""A report prints what its document says, in every notation, and nothing that came with a table becomes code."""

import csv
import html.parser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from kits import QUICK, check_notations, check_numbers, check_tables, document_of, table

import bayescale as bs
from bayescale.cli import run
from bayescale.laws import LAWS, find_law
from bayescale.runs import Runs
from bayescale.tables import write_folder
from bayescale.tables.escaping import html_text, latex_text, markdown_text, spreadsheet_text


@pytest.fixture(scope="module")
def kit(ladder_fit, tmp_path_factory):
    """A report of the bundled ladder with one of its figures."""
    folder = tmp_path_factory.mktemp("report") / "kit"
    return bs.report(ladder_fit, folder, figures=["isoflop"], **QUICK)


@pytest.fixture(scope="module")
def epoch_kit(epoch, tmp_path_factory):
    """A report of the Chinchilla replication's runs: its verdict is fail and its intervals are adjusted."""
    fit = bs.fit("chinchilla", epoch, seed=0)
    return bs.report(fit, tmp_path_factory.mktemp("report") / "kit", figures=[], **QUICK)


def test_every_number_is_the_document_s(kit):
    assert check_numbers(kit) > 100 and check_tables(kit) > 300
    assert "multiplier" not in document_of(kit)["report"], "there are no recipes to compare, and none is missed"


def test_every_number_is_the_document_s_on_the_replication(epoch_kit):
    assert check_numbers(epoch_kit) > 100 and check_tables(epoch_kit) > 300


def test_latex_and_html_print_the_same_numbers_as_markdown(kit, epoch_kit):
    assert check_notations(kit) > 250 and check_notations(epoch_kit) > 250


# Evaluation from the document alone.


def test_evaluate_is_the_law_at_the_printed_medians(kit):
    made = document_of(kit)
    p = {n: made["parameters"][n]["median"] for n in ("E", "A", "B", "alpha", "beta")}
    found = bs.evaluate(kit.folder / "fit.json", N=3e6, D=5e7)
    assert found.loss == pytest.approx(p["E"] + p["A"] * 3e6 ** -p["alpha"] + p["B"] * 5e7 ** -p["beta"], rel=1e-12)
    assert found.unit == "nats/byte" and found.flops == 6 * 3e6 * 5e7
    for row in table(kit, "near_optimal"):
        at = bs.evaluate(made, C=float(row["flops"]))
        assert at.params == float(row["params_at_medians"]) and at.best_loss == float(row["loss_at_medians"])
        assert at.tokens == float(row["tokens_at_medians"]) and at.loss == pytest.approx(at.best_loss, rel=1e-12)
        again = bs.evaluate(made, N=at.params, D=at.tokens)
        assert again.loss == pytest.approx(at.loss, rel=1e-12)
    for row in table(kit, "budgets"):
        shown = bs.evaluate(made, C=float(row["flops"])).posterior
        assert shown["loss"]["median"] == float(row["loss_median"])
        assert shown["params"]["upper"] == float(row["params_upper"])


def test_evaluate_needs_the_plain_document_only_and_neither_jax_nor_pandas(ladder_fit, tmp_path):
    write_folder(ladder_fit, tmp_path / "fit")
    code = (
        "import sys, bayescale as bs\n"
        f"at = bs.evaluate({str(tmp_path / 'fit' / 'fit.json')!r}, C=1e15)\n"
        "assert at.params > 1e6 and at.posterior['loss']['lower'] < at.loss < at.posterior['loss']['upper']\n"
        "print([m for m in ('jax', 'pandas', 'xarray', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_search_along_a_budget_finds_the_closed_form_s_optimum(kit, monkeypatch):
    made, law = document_of(kit), find_law("chinchilla")
    exact = bs.evaluate(made, C=1e15)
    searched = bs.evaluate(made, C=1e15, law=replace(law, optimum=None))
    assert searched.params == pytest.approx(exact.params, rel=1e-3)
    assert searched.best_loss == pytest.approx(exact.best_loss, rel=1e-9)


def test_evaluate_refuses_what_it_cannot_answer(kit, tmp_path):
    made = document_of(kit)
    with pytest.raises(bs.NotFittedFor, match="headlined"):
        bs.evaluate({**made, "headline_source": "none"}, N=1e6, D=1e8)
    assert bs.evaluate({**made, "headline_source": "none"}, N=1e6, D=1e8, draws="posterior").loss > 0
    with pytest.raises(bs.NotFittedFor, match="needs D"):
        bs.evaluate(made, N=1e6)
    with pytest.raises(bs.NotFittedFor, match="positive"):
        bs.evaluate(made, N=-1.0, D=1e8)
    with pytest.raises(bs.FitError, match="private law"):
        bs.evaluate({**made, "law": "mine"}, N=1e6, D=1e8)
    (tmp_path / "other.json").write_text('{"schema": "bayescale.kit/1"}')
    for path in (tmp_path / "other.json", tmp_path / "missing.json"):
        with pytest.raises(bs.FitError):
            bs.evaluate(path, N=1e6, D=1e8)


def checked_means():
    """Every value that a law of scalars says its formula must reproduce."""
    found = []
    for name in LAWS:
        law = find_law(name)
        plain = law.likelihood is None and len(law.responses) == 1 and not any(i.per for i in law.inputs)
        if not plain or any(p.over or p.dims for p in law.parameters):
            continue
        wanted = {*(p.name for p in law.parameters), *(i.name for i in law.inputs)}
        for c in law.checks:
            if c.of == "mean" and wanted <= set(c.at):
                found.append(pytest.param(law, c, id=f"{name}: {c.meaning}"))
    return found


@pytest.mark.parametrize("law, check", checked_means())
def test_evaluate_reproduces_the_laws_own_checks(law, check):
    inputs = {i.name: check.at[i.name] for i in law.inputs}
    parameters = {p.name: {"median": check.at[p.name]} for p in law.parameters}
    made = {
        "schema": "bayescale.fit/1",
        "law": law.name,
        "parameters": parameters,
        "references": {k: v for k, v in check.at.items() if k not in parameters and k not in inputs},
        "loss_unit": "nats/token",
        "headline_source": "posterior",
        "allocation": [],
    }
    found = bs.evaluate(made, inputs=inputs, law=law)
    assert found.loss == pytest.approx(check.value, rel=check.tolerance)


def test_printed_medians_have_digits_enough_to_compute_with(kit):
    made = document_of(kit)
    digits = made["report"]["medians"]["digits"]
    shown = {row["parameter"]: row for row in table(kit, "medians")}
    for entry in made["allocation"]:
        exact = bs.evaluate(made, C=entry["flops"])
        short = {
            n: {**q, "median": float(f"{q['median']:.{digits - 1}e}")} if n in shown else q
            for n, q in made["parameters"].items()
        }
        near = bs.evaluate({**made, "parameters": short}, C=entry["flops"])
        wide = np.log(entry["params"]["upper"] / entry["params"]["lower"]) / (2 * 1.645)
        assert abs(np.log(near.params / exact.params)) < 0.13 * wide


# The manifest.


def test_a_changed_or_missing_file_is_named(kit, tmp_path, capsys):
    folder = tmp_path / "kit"
    shutil.copytree(kit.folder, folder)
    assert run(["verify", str(folder)]) == 0
    (folder / "notes.txt").write_text("mine")
    found = bs.verify(folder)
    assert found.whole and found.unknown == ("notes.txt",)
    file = folder / "tables" / "budgets.csv"
    file.write_bytes(file.read_bytes()[:-1] + b"9")
    (folder / "figures" / "isoflop_one.pdf").unlink()
    capsys.readouterr()
    assert run(["verify", str(folder), "--json"]) == 3
    made = json.loads(capsys.readouterr().out)
    assert (made["changed"], made["missing"]) == (["tables/budgets.csv"], ["figures/isoflop_one.pdf"])
    assert made["schema"] == "bayescale.error/1" and made["code"] == "BS-F005" and made["remedy"]
    assert run(["verify", str(folder)]) == 3
    said = capsys.readouterr().err
    assert "tables/budgets.csv" in said and "isoflop_one.pdf" in said and "--force" in said


def test_a_manifest_cannot_be_rewritten_or_point_outside(kit, tmp_path):
    folder = tmp_path / "kit"
    shutil.copytree(kit.folder, folder)
    path = folder / "manifest.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    made["files"].pop("tables/budgets.csv")
    path.write_text(json.dumps(made), encoding="utf-8")
    assert bs.verify(folder).changed == ("manifest.json",)
    made["files"]["../secret"] = {"sha256": "0" * 64, "bytes": 1}
    path.write_text(json.dumps(made), encoding="utf-8")
    assert bs.verify(folder).changed == ("manifest.json",)
    for text in ("{}", "no json", '{"files": [1]}'):
        path.write_text(text)
        with pytest.raises(bs.FitError):
            bs.verify(folder)
    assert run(["verify", str(tmp_path)]) == 3


# Text that came with a table.

ANY = st.text(max_size=40) | st.text("\\{}$&#%_^~<>|\"'`-,=+@\n\t[](!.*", max_size=20)


@given(ANY)
@settings(max_examples=300, deadline=None)
def test_latex_text_holds_no_command_of_its_own(said):
    made = latex_text(said)
    commands = r"\\(?:text\w+|ldots)(?:\{[^{}]*\})?|\\\([^()]*\\\)|\\allowbreak\{\}|\\[{}$&#%_]|\{\}"
    rest = re.sub(commands, "", made)
    assert not set(rest) & set('\\{}$&#%_^~<>|"`'), made
    assert "\n" not in made and not re.search(r"--|''|,,", made)


@given(ANY)
@settings(max_examples=300, deadline=None)
def test_markup_and_formulas_are_disarmed(said):
    assert not set(html_text(said)) & set("<>\"'\n")
    shown = markdown_text(said)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|$#]", shown) and not set(shown) & set("<>\n")
    cell = spreadsheet_text(said)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and cell.endswith(said)


class Tags(html.parser.HTMLParser):
    """Which elements and attributes a page has, and whether they nest."""

    EMPTY = frozenset({"meta", "img", "br", "source"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.sources += [v for k, v in attrs if k in ("src", "srcset", "href")]
        assert tag != "img" or dict(attrs).get("alt"), "a picture says in words what it shows"
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = (
    "=cmd|'/C calc'!A0",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "$x_1^2$ %#&~",
    "| a | b |",
    "日本",
)


@pytest.fixture(scope="module")
def hostile_kit(tmp_path_factory):
    """A report of a table whose names are formulas, markup and commands."""
    rng = np.random.default_rng(0)
    N, D = 10 ** rng.uniform(7, 9.5, 36), 10 ** rng.uniform(8.5, 11, 36)
    loss = (1.8 + 480 * N**-0.35 + 2085 * D**-0.366) * np.exp(0.01 * rng.standard_normal(36))
    frame = pd.DataFrame(
        {"params": N, "tokens": D, "loss": loss, "=1+1": "+2", "<b>#$": [HOSTILE[k % 6] for k in range(36)]}
    )
    fit = bs.fit("chinchilla", Runs(frame, r"=a&b_<i>\x{.csv"), seed=0, group=["<b>#$"], draws=300, warmup=500)
    folder = tmp_path_factory.mktemp("hostile") / "kit"
    return bs.report(fit, folder, figures=["groups"], **QUICK)


def test_a_hostile_table_stays_text(hostile_kit):
    folder = hostile_kit.folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open and not tags.seen & {"script", "b>", "i>", "iframe", "link", "object"}
    assert tags.sources and all(s.startswith("data:image/png;base64,") for s in tags.sources)
    for path in [folder / "runs.csv", *(folder / "tables").glob("*.csv")]:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    try:
                        float(cell)
                    except ValueError:
                        assert not cell.startswith(("=", "+", "-", "@")), (path.name, cell)
    latex = "".join(p.read_text(encoding="utf-8") for p in [folder / "report.tex", *(folder / "tables").glob("*.tex")])
    assert r"\input{/etc" not in latex and "\\textbackslash{}x\\{" in latex
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<i>" not in markdown and "<script" not in markdown


def balanced(latex):
    """Whether braces and environments of a LaTeX file close in order."""
    stripped = re.sub(r"\\[{}\\]", "", re.sub(r"(?<!\\)%.*", "", latex))
    depth = 0
    for c in stripped:
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return False
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", latex):
        if kind == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            return False
    return depth == 0 and not stack


def test_latex_closes_what_it_opens(kit, hostile_kit):
    for made in (kit, hostile_kit):
        files = [made.folder / "report.tex", made.folder / "methods.tex", *(made.folder / "tables").glob("*.tex")]
        assert len(files) > 8
        for path in files:
            text = path.read_text(encoding="utf-8")
            assert balanced(text), path.name
            for rows in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL):
                counts = {len(re.findall(r"(?<!\\)&", r)) for r in rows.splitlines() if r.endswith(r"\\")}
                assert len(counts) <= 1, path.name
        named = re.findall(
            r"\\(?:input|includegraphics\[[^\]]*\])\{([^}]*)\}", (made.folder / "report.tex").read_text()
        )
        assert named and all((made.folder / n).is_file() for n in named)
        cited = set(re.findall(r"\\cite\{([^}]*)\}", (made.folder / "report.tex").read_text()))
        keys = {k for c in cited for k in c.split(",")}
        assert keys <= set(re.findall(r"\\bibitem\{(\w+)\}", (made.folder / "report.tex").read_text()))
        assert keys <= set(re.findall(r"@\w+\{(\w+),", (made.folder / "references.bib").read_text()))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_untouched(kit, hostile_kit, tmp_path):
    for k, made in enumerate((kit, hostile_kit)):
        shutil.copytree(made.folder, tmp_path / str(k))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
        done = subprocess.run(
            command, cwd=tmp_path / str(k), capture_output=True, text=True, errors="replace", timeout=120
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / str(k) / "report.pdf").stat().st_size > 50_000


# What is said.


def test_figures_come_for_one_and_two_columns(kit):
    from matplotlib import image

    names = {p.name for p in (kit.folder / "figures").iterdir()}
    assert names == {f"isoflop_{w}.{s}" for w in ("one", "two") for s in ("png", "pdf")}
    for width, inches, dpi in (("one", 3.3, 240), ("two", 6.9, 160)):
        assert image.imread(kit.folder / "figures" / f"isoflop_{width}.png").shape[1] == pytest.approx(
            inches * dpi, abs=1
        )


def test_adjusted_intervals_are_never_called_credible(epoch_kit, kit):
    for name in ("report.md", "methods.tex", "tables/coefficients.tex"):
        said = (epoch_kit.folder / name).read_text(encoding="utf-8")
        assert "adjusted" in said and not re.search(r"\d\\?% credible", said), name
    assert "adjusted" not in (kit.folder / "tables" / "coefficients.tex").read_text(encoding="utf-8")
    assert epoch_kit.status == "fail"


def test_the_checklist_is_filled_from_the_fit(kit, epoch_kit, hostile_kit):
    assert kit.filled >= 0.85 and epoch_kit.filled >= 0.85
    assert hostile_kit.filled >= 0.75 and "Which data" in hostile_kit.questions
    asked = (hostile_kit.folder / "report.md").read_text(encoding="utf-8")
    assert "Questions that only the authors can answer" in asked
    items = document_of(kit)["report"]["checklist"]["items"]
    assert {f"{k}.{j}" for k, n in ((1, 5), (4, 6)) for j in range(1, n + 1)} <= {i["number"] for i in items}


def test_a_fit_that_headlines_nothing_prints_no_allocation(ladder_fit, tmp_path):
    fit = ladder_fit.with_info(headline_source="none")
    made = bs.report(fit, tmp_path / "kit", figures=["frontier", "stability"], **QUICK)
    assert made.figures == ("stability",) and "figure frontier" in made.left_out
    assert {"budgets", "sizes", "coefficients", "medians"}.isdisjoint(made.tables)
    assert "No number is headlined" in (tmp_path / "kit" / "report.md").read_text(encoding="utf-8")


def test_held_out_runs_are_forecast_from_the_others(plain_fit, tmp_path):
    from bayescale.reporting.held_out import held_out_runs

    found = held_out_runs(plain_fit)
    C = plain_fit.runs.values("flops")
    assert (
        found["count"] == int((C > found["cut"]).sum()) == len(found["runs"]) and found["kept"] == 30 - found["count"]
    )
    rows = dict(zip(plain_fit.runs.rows, plain_fit.runs.values("loss"), strict=True))
    for record in found["runs"]:
        assert record["observed"] == rows[record["row"]] and record["lower"] < record["median"] < record["upper"]
        assert record["inside"] == (record["lower"] <= record["observed"] <= record["upper"])
    assert found["inside"] == sum(r["inside"] for r in found["runs"])


# The command line.


def test_report_on_the_command_line(ladder_fit, kit, tmp_path, capsys, monkeypatch):
    write_folder(ladder_fit, tmp_path / "fit")
    monkeypatch.setattr("bayescale.reporting.kit.kit_document", lambda fit, **options: document_of(kit))
    monkeypatch.setattr("bayescale.reporting.figures.FIGURES", ())
    monkeypatch.setattr("bayescale.reporting.kit.FIGURES", ())
    out = str(tmp_path / "kit")
    arguments = ["report", str(tmp_path / "fit"), "--out", out, "--no-hold-out"]
    assert run([*arguments, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "bayescale.kit/1" and made["checklist"]["filled"] >= 0.85
    assert run(arguments) == 2 and "--force" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no progress where nobody looks"
    assert "report.html" in captured.out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    assert run(["report", str(tmp_path / "fit"), "--out", str(tmp_path / "other"), "--force"]) == 2
    assert (tmp_path / "other" / "thesis.tex").read_text() == "mine"
    assert run(["report", str(tmp_path / "nothing"), "--out", out]) == 3
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "no half-made folder is left"


@pytest.mark.slow
def test_a_whole_kit_has_every_figure(ladder_fit, tmp_path):
    made = bs.report(ladder_fit, tmp_path / "kit", progress=False)
    assert len(made.figures) == 11 and "held_out" in made.tables and bs.verify(tmp_path / "kit").whole
    assert check_numbers(made) > 100 and check_tables(made) > 300 and check_notations(made) > 250
