"""One total order of modules, and what importing may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bayescale

PACKAGE = Path(bayescale.__file__).parent
ORDER = (
    "errors records law noise runs one_design laws model reading datasets posterior sampling allocation forecasting "
    "baseline diagnostics narrowness verdicts inference batch comparison backtesting auditing design calibration "
    "tables plots reporting cli"
).split()
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path):
    """The position of a file in the order; the package's own `__init__` and `__main__` see everything."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return len(ORDER) if first in ("__init__", "__main__") else ORDER.index(first)


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import on line {node.lineno}"
            if node.module == "bayescale":
                yield from ((a.name, node.lineno) for a in node.names)
            elif node.module and node.module.startswith("bayescale."):
                yield node.module.split(".")[1], node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_keeps_to_its_layer(path):
    text = path.read_text()
    assert text.count("\n") <= 500, "a file has at most 500 lines"
    tree = ast.parse(text)
    own = layer(path)
    for name, line in imported(tree):
        if name in ORDER:
            assert ORDER.index(name) <= own, f"line {line}: {path.name} imports {name}, a later module"
    stem = path.parent.name if path.stem == "__init__" else path.stem
    functions = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    if stem not in ("bayescale", "doctor", "check", "fit"):
        assert stem not in functions, "a public function never has its module's name"
    assert "import matplotlib" not in text or path.name == "plots.py" or "plots" in path.parts


def test_engine_names_no_law():
    """Nothing but the catalogue and the defaults of the public functions spells a law's name."""
    from bayescale.laws import LAWS

    for path in FILES:
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if top in ("laws", "cli", "inference", "datasets", "law", "__init__"):
            continue
        tree = ast.parse(path.read_text())
        docs = {
            id(n.body[0].value)
            for n in ast.walk(tree)
            if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Module) and n.body and isinstance(n.body[0], ast.Expr)
        }
        defaults = {
            id(d)
            for n in ast.walk(tree)
            if isinstance(n, ast.FunctionDef)
            for d in (*n.args.defaults, *n.args.kw_defaults)
            if d
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | defaults:
                assert node.value not in LAWS, f"{path.name} line {node.lineno} names the law {node.value!r}"


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_import_loads_neither_jax_nor_pandas():
    done = run_python(
        "import sys, bayescale as bs; bs.LogNormal; bs.LAWS\n"
        "print([m for m in ('jax', 'pandas', 'numpyro', 'arviz', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_arviz_first_does_not_break_a_fit():
    done = run_python(
        "import arviz, bayescale as bs\n"
        "from bayescale.model import build_model\n"
        "import jax, numpy as np\n"
        "m = build_model('chinchilla', bs.load_runs('byte-ladder'), group='none')\n"
        "with jax.enable_x64(True):\n"
        "    print(np.isfinite(float(m.structure.potential(np.zeros(m.structure.dimension), m.data))))"
    )
    assert done.stdout.strip() == "True", done.stderr


def test_every_public_name_exists_and_is_documented():
    for name in bayescale.__all__:
        value = getattr(bayescale, name)
        if callable(value):
            assert value.__doc__, f"{name} has no docstring"


def test_every_code_in_the_source_is_declared_once():
    import re

    from bayescale.errors import CODES

    used = {c for path in FILES for c in re.findall(r"BS-[A-Z]\d{3}", path.read_text())}
    assert used <= set(CODES) | {"BS-R0nn"}
