"""The catalogue: which law decides what, and every law as it is declared."""

from __future__ import annotations

import contextlib
import io
import re

from bayescale.datasets import load_runs
from bayescale.law import Law, Parameter, Reference
from bayescale.laws import LAWS, find_law
from bayescale.laws.listed import EXAMPLES, planned
from bayescale.runs import COLUMNS
from bayescale.tables.catalogue import nested_with, support_lines, supported
from bayescale.tables.text import law_example
from bayescale_pages.markdown import maths, plain, section, table


def families() -> dict[str, list[Law]]:
    """The laws of every family, in the order of the catalogue."""
    made: dict[str, list[Law]] = {}
    for name, entry in LAWS.items():
        made.setdefault(entry.family, []).append(find_law(name))
    return made


def choice_page() -> str:
    """Which law? By what is to be decided, by the columns that are there, and by how the laws nest."""
    lines = [
        *section(1, "Which law?"),
        "A law is chosen by what you want to decide and by the columns that you have, not by how well it fits: many",
        "laws fit a small table alike. With a table at hand, let the columns speak:",
        "",
        "```text",
        "$ bayescale laws --for byte-ladder",
        *support_lines(supported(load_runs("byte-ladder"))),
        "```",
        "",
        "Names lead to the catalogue, with equation, priors, limits and sources.",
        "",
        *section(2, "By decision"),
    ]
    for family, laws in families().items():
        rows = [(plain(d), link(law), _columns(law), _predicts(law)) for law in laws for d in law.decisions]
        if rows:
            lines += section(3, family.capitalize() if family.islower() else family)
            lines += table(("to decide", "law", "columns it reads", "predicts"), rows)
    lines += section(2, "How the laws nest")
    lines += [
        "A law that is nested in another one is that law with a constraint. Where both fit, the constraint can be tied",
        "or fixed (`--tie`, `--fix`) instead of taking another law.",
        "",
    ]
    rows = [(link(law), _linked("; ".join(law.relations), law)) for ls in families().values() for law in ls]
    lines += table(("law", "relation to others"), [r for r in rows if r[1]])
    lines += section(2, "Laws on other axes")
    for example in EXAMPLES.values():
        lines += [f"{example.title}: [`{example.of}`](#law-{example.of}). {example.advice}", ""]
        lines += table(("specification", "what it is"), [(f"`{k}`", v) for k, v in example.cases.items()])
    if left := planned():
        lines += section(2, "Not built yet")
        lines += ["Listed so that you need not look for them:", ""]
        lines += table(("law", "title", "sources"), [(f"`{p.name}`", p.title, _arxiv(p.arxiv)) for p in left])
    return "\n".join(lines)


def catalogue_pages() -> dict[str, str]:
    """One page a family with one section a law, the list of all, and the table of symbols."""
    made = {}
    lines = [
        *section(1, "Catalogue"),
        f"{len(LAWS)} laws, each one declaration: everything on these pages is read from it. In a terminal,",
        "`bayescale laws NAME` prints the same.",
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *(file_name(family) for family in families()),
        "symbols",
        "```",
        "",
    ]
    for family, laws in families().items():
        title = family.capitalize() if family.islower() else family
        lines += section(2, title)
        rows = [(link(law), maths(law.equation), _predicts(law)) for law in laws]
        lines += table(("law", "equation", "predicts"), rows)
        page = [*section(1, title), *(line for law in laws for line in law_section(law))]
        made[file_name(family)] = "\n".join(page)
    return {"index": "\n".join(lines), **made, "symbols": symbols_page()}


def file_name(family: str) -> str:
    """The page of a family."""
    return re.sub(r"\W+", "-", family.lower()).strip("-")


def law_section(law: Law) -> list[str]:
    """Everything that a law declares."""
    lines = [*section(2, f"`{law.name}`", f"law-{law.name}"), f"**{plain(law.title)}**", ""]
    lines += ["$$", law.equation, "$$", ""]
    inputs = [
        (maths(i.name if len(i.name) == 1 else rf"\mathrm{{{i.name}}}"), f"`{i.column}`", i.unit, plain(i.meaning))
        for i in law.inputs
    ]
    lines += table(("input", "column", "unit", "meaning"), inputs)
    predicted = [(f"`{r.source}`", r.unit, r.support, plain(r.meaning or r.name)) for r in law.responses]
    lines += table(("predicts", "unit", "support", "meaning"), predicted)
    parameters = [
        (maths(p.latex), f"`{p.name}`", plain(p.meaning), _unit(p, law), _prior(p, law))
        for p in (*law.parameters, *law.sampled)
    ]
    lines += table(("symbol", "name", "meaning", "unit", "prior"), parameters)
    derived = [(f"`{n}`", plain(d.meaning), "" if d.unit == "1" else d.unit) for n, d in law.derived.items()]
    lines += table(("derived", "meaning", "unit"), derived)
    if law.options:
        rows = [(f"`{k}`", f"`{v}`") for k, v in law.options.items()]
        lines += [f"Options are given as `{law.spec}`.", "", *table(("option", "default"), rows)]
    said = (
        ("Decides", "; ".join(map(plain, law.decisions))),
        ("Valid for", plain(law.validity)),
        ("Not identified", "; ".join(map(plain, law.unidentified))),
        ("Nested with", _linked("; ".join(law.relations), law)),
        ("Compute-optimal N and D", "in closed form" if law.optimum else ""),
        ("Not checked against its source", plain(law.unverified)),
        ("Sources", "; ".join(map(_source, law.references))),
    )
    for title, content in said:
        if content:
            lines += [title, f": {content}", ""]
    if example := law_example(law):
        lines += ["```python", *example, "```", "", "prints", "", "```text", *_printed(example), "```", ""]
    return lines


def _printed(code: tuple[str, ...]) -> list[str]:
    """What an example prints when it is run now."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n".join(code), "example", "exec"), {})
    return out.getvalue().splitlines()


def _unit(p: Parameter, law: Law) -> str:
    units = {"response": law.responses[0].unit, "1/response": f"1/({law.responses[0].unit})", "1": ""}
    return units.get(p.unit, p.unit)


def _prior(p: Parameter, law: Law) -> str:
    if p.prior is None:
        return "computed from " + ", ".join(f"`{s.name}`" for s in law.sampled) if law.sampled else "computed"
    told = f"`{p.prior.described}`"
    if p.at:
        told += " of its contribution at " + ", ".join(f"{axis} = {axis}0" for axis in p.at)
    if p.over:
        told += f", one a level of `{p.over}`"
    if p.pooled:
        told += f", pooled with `{p.pooled}`"
    for side in ("above", "below"):
        if (bound := getattr(p, side)) is not None:
            told += f", {side} {bound}"
    return told


def _columns(law: Law) -> str:
    wanted = [c for i in law.inputs for c in i.column.split("+")]
    wanted += [p.over for p in (*law.parameters, *law.sampled) if p.over]
    return ", ".join(f"`{c}`" for c in dict.fromkeys(wanted))


def _predicts(law: Law) -> str:
    return ", ".join(r.name for r in law.responses)


def link(law: Law) -> str:
    """A law's name that leads to its section."""
    return f"[`{law.name}`](#law-{law.name})"


def _linked(relations: str, law: Law) -> str:
    """Relations as text, the laws that they name as links."""
    names = nested_with(law)
    parts = re.split(r"\b(" + "|".join(map(re.escape, names)) + r")\b", relations) if names else [relations]
    return "".join(f"[`{part}`](#law-{part})" if part in names else plain(part) for part in parts)


def _source(reference: Reference) -> str:
    said = plain(f"{reference.authors} ({reference.year}), {reference.title}")
    if reference.arxiv:
        return f"{said}, {_arxiv((reference.arxiv,))}"
    return f"{said}, <{reference.url}>" if reference.url else said


def _arxiv(numbers: tuple[str, ...]) -> str:
    return ", ".join(f"[arXiv:{n}](https://arxiv.org/abs/{n})" for n in numbers)


def symbols_page() -> str:
    """Papers' symbols against names in code, over all laws, and the columns of a table of runs."""
    lines = [
        *section(1, "Symbols: papers and code"),
        "Parameters keep the symbols of their papers, so one letter may mean two things in two laws. `A_ref` is the",
        "contribution of `A` at the reference scale, which is what is sampled; `A` itself is reported as well.",
        "",
        *section(2, "Columns of a table of runs"),
    ]
    lines += table(("column", "meaning", "unit"), [(f"`{c.name}`", plain(c.meaning), c.unit) for c in COLUMNS.values()])
    entries: dict[tuple[str, str, str], list[Law]] = {}
    for laws in families().values():
        for law in laws:
            for i in law.inputs:
                entries.setdefault((f"`{i.name}`", f"column `{i.column}`", plain(i.meaning)), []).append(law)
    lines += section(2, "Inputs")
    rows = [(*k, _used(laws)) for k, laws in sorted(entries.items(), key=lambda kv: kv[0][0].lower())]
    lines += table(("name in code", "column", "meaning", "laws"), rows)
    symbols: dict[tuple[str, str, str], list[Law]] = {}
    for laws in families().values():
        for law in laws:
            for p in law.parameters:
                symbols.setdefault((maths(p.latex), f"`{p.name}`", plain(p.meaning)), []).append(law)
    lines += section(2, "Parameters")
    rows = [(*k, _used(laws)) for k, laws in sorted(symbols.items(), key=lambda kv: kv[0][1].lower())]
    return "\n".join([*lines, *table(("in the paper", "in code", "meaning", "laws"), rows)])


def _used(laws: list[Law]) -> str:
    return ", ".join(link(law) for law in {law.name: law for law in laws}.values())
