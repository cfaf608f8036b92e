"""What the documents show is what the package does: commands, output, code, tables and notebooks."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
import typer.main
from nbclient import NotebookClient

from bayescale.cli.app import app
from bayescale.laws import LAWS, find_law
from bayescale.tables import fit_lines, headline_allocation
from bayescale.tables.catalogue import markdown_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REFRESH = "run: uv run python notebooks/readme.py"


def block(name):
    """What the README holds between `<!-- name -->` and `<!-- /name -->`."""
    found = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert len(found) == 1, name
    return found[0]


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands():
    """Every call of `bayescale` in the README's shell blocks and inline code, as words."""
    lines = [line for code in fenced("sh") for line in code.splitlines()]
    prose = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    lines += [code for code in re.findall(r"`([^`\n]+)`", prose.replace("\n", " ")) if code.startswith("bayescale ")]
    found = [re.split(r"\bbayescale ", line, maxsplit=1)[1] for line in lines if "bayescale " in line]
    return list(dict.fromkeys(found))


def without_numbers(text):
    """Lines with every number and run of spaces made alike: the last digits differ between platforms."""
    masked = re.sub(r"\d[\d,.]*(e[+-]?\d+)?[kMBT]?\b", "#", text)
    return [re.sub(r"\s+", " ", line).strip() for line in masked.splitlines()]


@pytest.fixture(scope="module")
def readme_python(tmp_path_factory):
    """The names that the README's Python block leaves behind, and the folder it ran in."""
    from matplotlib import pyplot

    (code,) = fenced("python")
    folder, names = tmp_path_factory.mktemp("readme"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "README.md", "exec"), names)
    pyplot.close("all")
    return names, folder


def test_the_table_of_laws_is_the_generated_one():
    assert block("laws").splitlines() == markdown_table([find_law(name) for name in LAWS]), REFRESH


def test_the_python_block_runs_and_writes_what_it_says(readme_python):
    names, folder = readme_python
    assert {"frontier.png", "fit.nc"} == {p.name for p in folder.iterdir()}
    assert names["fit"].converged


def test_the_terminal_output_is_what_a_fit_prints(readme_python):
    fit = readme_python[0]["fit"]
    printed = without_numbers("\n".join(fit_lines(fit, headline_allocation(fit))))
    shown = without_numbers(re.fullmatch(r"```text\n(.*)\n```", block("fit"), re.DOTALL)[1])
    assert shown[: len(printed)] == printed, REFRESH
    rest = [line for line in shown[len(printed) :] if line]
    assert len(rest) == 1 and rest[0].startswith("Cross-check: "), REFRESH


def test_the_two_commands_stand_as_promised():
    assert "pip install uv && uv run bayescale fit byte-ladder\npip install uv && uv run pytest\n" in fenced("sh")


@pytest.mark.parametrize("command", commands())
def test_commands_name_real_subcommands_and_flags(command):
    name, *words = shlex.split(command)
    known = typer.main.get_command(app).commands
    assert name in known
    flags = {flag for option in known[name].params for flag in option.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= flags


def test_flags_named_in_prose_exist():
    known = typer.main.get_command(app).commands.values()
    flags = {flag for command in known for option in command.params for flag in option.opts}
    assert set(re.findall(r"`(--[a-z][a-z-]*)", README)) <= flags


def test_links_and_pictures_exist_and_are_small():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets and not [t for t in targets if not (ROOT / t).is_file()]
    pictures = [ROOT / t for t in targets if t.endswith(".png")]
    assert pictures and all(p.stat().st_size < 150_000 for p in pictures)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_is_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.source for cell in code if cell.outputs or cell.execution_count is not None]
    first = {
        name: min((k for k, c in enumerate(code) if f"import {name}" in c.source), default=len(code))
        for name in ("bayescale", "arviz")
    }
    assert first["bayescale"] < first["arviz"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch, request):
    if "besiroglu2024" in path.read_text(encoding="utf-8"):
        request.getfixturevalue("epoch")  # skips where the table is not at hand
    # The kernel is a process of its own and draws as in Jupyter; it inherits the suite's cache of compiled programs.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    pictures = [o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert pictures
    assert not [*tmp_path.iterdir()], "a notebook leaves nothing behind"
