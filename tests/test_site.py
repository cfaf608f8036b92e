"""The site: every page that is named exists, every public name, law, code and command has its place."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import bayescale as bs
from bayescale.cli.app import app
from bayescale.errors import CODES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import bayescale_pages  # noqa: E402
from bayescale_pages import evidence  # noqa: E402
from bayescale_pages.markdown import plain, table  # noqa: E402

sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def generated():
    return bayescale_pages.pages()


def test_every_page_of_a_toctree_exists(generated):
    folder = bayescale_pages.FOLDER
    known = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.glob("*.md")}
    known |= {f"{folder}/{name}" for name in generated}
    known |= {f"{folder}/notebooks/{p.stem}" for p in bayescale_pages.notebooks()}
    sources = {p.stem: p.read_text(encoding="utf-8") for p in DOCS.glob("*.md")}
    sources |= {f"{folder}/{name}": text for name, text in generated.items()}
    named = set()
    for page, text in sources.items():
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            entries = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            for entry in entries:
                found = {k for k in known if Path(k).match((Path(page).parent / entry).as_posix()) and k.count("/") < 4}
                assert found, f"{page}: {entry}"
                named |= found
    assert known - named == {"index"}, "a page that no toctree names"
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([\w/.-]+\.(?:md|ipynb))\)", page.read_text(encoding="utf-8")):
            assert target.rsplit(".", 1)[0] in known, f"{page.name}: {target}"


def test_every_public_name_has_a_place(generated):
    pages = "\n".join(text for name, text in generated.items() if name.startswith("api/"))
    for name in set(bs.__all__) - {"__version__"}:
        assert re.search(rf"^\.\. (autofunction|autoclass|py:data):: bayescale\.{name}$", pages, re.MULTILINE), name
    index = generated["api/index"]
    assert all(f"<bayescale.{name}>`" in index for name in set(bs.__all__) - {"__version__"})


def test_every_law_has_one_section_with_what_it_declares(generated):
    pages = "\n".join(text for name, text in generated.items() if name.startswith("catalogue/"))
    for name in bs.LAWS:
        assert pages.count(f"(law-{name})=") == 1
        law = bs.find_law(name)
        (section,) = re.findall(rf"^\(law-{name}\)=\n(.*?)(?=^\(law-|\Z)", pages, re.DOTALL | re.MULTILINE)
        assert law.equation in section and plain(law.validity) in section
        assert all(f"| `{p.name}` |" in section for p in (*law.parameters, *law.sampled))
        assert all(plain(d) in generated["choice"] for d in law.decisions)
        promised = re.search(r"# (\S+): .*?\n```\n\nprints\n\n```text\n(.*?)\n", section, re.DOTALL)
        assert float(promised[2]) == pytest.approx(float(promised[1]), rel=1e-4)


def test_every_code_and_command_has_a_place(generated):
    assert all(f"| `{code}` |" in generated["codes"] for code in CODES)
    for name, command in typer.main.get_command(app).commands.items():
        assert f"(command-{name})=" in generated["commands"]
        for option in command.params:
            assert option.param_type_name == "argument" or option.opts[0] in generated["commands"]


def test_evidence_is_read_from_the_results(tmp_path):
    """A changed result changes the page; a result that no table is made for is listed."""
    import shutil

    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    path = tmp_path / "benchmarks" / "results" / "batch_calibration.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["simulations"], document["coverage"]["a"]["90%"] = 4321, 0.12345
    path.write_text(json.dumps(document), encoding="utf-8")
    (path.parent / "new.json").write_text('{"date": "2026-01-02T03:04", "revision": "abc"}', encoding="utf-8")
    page = evidence.evidence_page(tmp_path / "benchmarks")
    assert "4,321 tables" in page and "12.3\u00a0%" in page and "| `new.json` | 2026-01-02 | abc |" in page


def test_markup_in_text_is_disarmed():
    assert plain("a_b * `c_d` <x>") == r"a\_b \* `c_d` \<x>"
    assert table(("h",), [("a|b",)])[2] == r"| a\|b |"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", str(DOCS), str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert made.returncode == 0, made.stderr[-4000:]
    tutorial = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    assert "output text_plain" in tutorial and "<img" in tutorial
