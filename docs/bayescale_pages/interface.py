"""The pages of the Python interface: every public name, by the module that holds it."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

import bayescale
from bayescale_pages.markdown import section, table


def public_names() -> dict[str, list[str]]:
    """The public names of every module, in the order of their import."""
    made: dict[str, list[str]] = {}
    for name in bayescale.__all__:
        if name in bayescale._MODULE_OF:
            made.setdefault(bayescale._MODULE_OF[name], []).append(name)
    order = list(bayescale._PUBLIC)
    return dict(sorted(made.items(), key=lambda item: order.index(item[0])))


def interface_pages() -> dict[str, str]:
    """One page a module with its public names, and the list of all."""
    made, rows = {}, []
    for module_name, names in public_names().items():
        module = importlib.import_module(f"bayescale.{module_name}")
        page = module_name.replace(".", "-")
        lines = [*section(1, _title(module)), *_rest(module)]
        for name in sorted(names, key=lambda n: _place(module, n)):
            item = getattr(bayescale, name)
            lines += _entry(module, name, item)
            rows.append((f"{{py:obj}}`{name} <bayescale.{name}>`", _sentence(module, name, item)))
        made[page] = "\n".join(lines)
    lines = [
        *section(1, "Python"),
        "`import bayescale as bs`: every public name is loaded when it is first used. Nothing prints; functions return",
        "records that hold xarray, whose `.frame()` is a pandas table.",
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *made,
        "```",
        "",
        *table(("name", "what it is"), sorted(rows, key=lambda row: row[0].lower())),
    ]
    return {"index": "\n".join(lines), **made}


def _title(module: ModuleType) -> str:
    return f"`bayescale.{module.__name__.removeprefix('bayescale.')}`"


def _rest(module: ModuleType) -> list[str]:
    """What a module says of itself, as reStructuredText."""
    return ["```{eval-rst}", inspect.getdoc(module) or "", "```", ""]


def _place(module: ModuleType, name: str) -> tuple[int, str]:
    """Functions first, then records, then constants."""
    item = getattr(bayescale, name)
    return (0 if inspect.isfunction(item) else 1 if inspect.isclass(item) else 2, name)


def _entry(module: ModuleType, name: str, item: object) -> list[str]:
    lines = section(2, f"`{name}`")
    if inspect.isfunction(item):
        return [*lines, "```{eval-rst}", f".. autofunction:: bayescale.{name}", "```", ""]
    if inspect.isclass(item):
        rest = [f".. autoclass:: bayescale.{name}", "   :members:"]
        return [*lines, "```{eval-rst}", *rest, "```", ""]
    told = [f".. py:data:: bayescale.{name}", "", f"   {comment_on(module, name)}"]
    if isinstance(item, dict):
        told += ["", "   Keys: " + ", ".join(f"`{key}`" for key in item) + "."]
    return [*lines, "```{eval-rst}", *told, "```", ""]


def comment_on(module: ModuleType, name: str) -> str:
    """The `#:` comment above a constant in its module or package; else what the module says it is about."""
    sources = [module, *(m for key, m in _submodules(module))]
    for source in sources:
        found = re.search(rf"((?:^#: .*\n)+){name}\b", inspect.getsource(source), re.MULTILINE)
        if found:
            return " ".join(line.removeprefix("#: ") for line in found[1].splitlines())
    return f"By name. {(inspect.getdoc(module) or '').splitlines()[0]}"


def _submodules(module: ModuleType) -> list[tuple[str, ModuleType]]:
    import sys

    return [(k, m) for k, m in sys.modules.items() if k.startswith(f"{module.__name__}.")]


def _sentence(module: ModuleType, name: str, item: object) -> str:
    if inspect.isfunction(item) or inspect.isclass(item):
        text = inspect.getdoc(item) or ""
        return re.split(r"(?<=[.?])\s", " ".join(text.split("\n\n")[0].split()))[0]
    return comment_on(module, name)
