"""The catalogue of laws and the list of data sets, as text, Markdown and documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bayescale.datasets import DATASETS, fetch as fetch_file
from bayescale.errors import RunsError, nearest
from bayescale.law import Law
from bayescale.laws import LAWS, find_law
from bayescale.laws.listed import EXAMPLES, Example, Planned, planned
from bayescale.runs import COLUMNS, Runs
from bayescale.tables.document import law_document
from bayescale.tables.text import aligned


@dataclass(frozen=True)
class Support:
    """Whether a table has the columns of a law, which are missing, and the laws that it is nested with."""

    law: Law
    missing: tuple[str, ...]
    nested: tuple[str, ...]


def supported(runs: Runs) -> list[Support]:
    """For each law of the catalogue, the columns of its inputs, levels and responses that the table lacks.

    A law of one scale is tried on the scales that the table has.
    """
    made = []
    for name in LAWS:
        law = find_law(name)
        missing = missing_columns(law, runs)
        if missing and "x" in LAWS[name].options:
            for column in (c for c in runs.columns if c in COLUMNS and COLUMNS[c].kind == "scale"):
                other = find_law(name, x=column)
                if len(found := missing_columns(other, runs)) < len(missing):
                    law, missing = other, found
        made.append(Support(law, missing, nested_with(law)))
    return made


def missing_columns(law: Law, runs: Runs) -> tuple[str, ...]:
    """The columns that a law reads and a table does not have."""
    wanted = [c for i in law.inputs for c in (i.columns(runs.columns) or (i.column,))]
    wanted += [p.over for p in (*law.parameters, *law.sampled) if p.over]
    if any(i.per == "run" for i in law.inputs):
        wanted.append("run")
    wanted += [r.source for r in law.responses]
    return tuple(c for c in dict.fromkeys(wanted) if not runs.has(c))


def nested_with(law: Law) -> tuple[str, ...]:
    """The laws of the catalogue that a law's relations name."""
    named = re.findall(r"[a-z][a-z0-9_]*", " ".join(law.relations))
    return tuple(dict.fromkeys(n for n in named if n in LAWS and n != law.name))


def short_spec(law: Law) -> str:
    """A law's specification without the options that are as they come: `power_law:x=tokens`."""
    usual = LAWS[law.name].options
    options = ",".join(f"{k}={v}" for k, v in law.options.items() if v != usual[k])
    return f"{law.name}:{options}" if options else law.name


def one_column_more(support: Sequence[Support]) -> dict[str, list[str]]:
    """The laws that one more column would open, by that column."""
    opened: dict[str, list[str]] = {}
    for s in support:
        if len(s.missing) == 1:
            opened.setdefault(s.missing[0], []).append(short_spec(s.law))
    return opened


def catalogue_lines() -> list[str]:
    """One line a law: name, title, what it predicts from what; then those that are examples or planned."""
    laws = [find_law(name) for name in LAWS]
    lines = aligned([[law.name, law.title, _predicts(law)] for law in laws])
    lines += ["", "Examples of these"]
    lines += aligned([[f"  {e.name}", e.title, f"--law {spec}"] for e in EXAMPLES.values() for spec in e.cases])
    if left := planned():
        lines += ["", "Planned, not built", *aligned([[f"  {p.name}", p.title] for p in left])]
    return lines


def support_lines(support: Sequence[Support]) -> list[str]:
    """The laws that a table supports and how they nest, then what one more column would open."""
    fits = [s for s in support if not s.missing]
    lines = ["Laws whose columns this table has"]
    lines += aligned([[f"  {short_spec(s.law)}", s.law.title, _predicts(s.law)] for s in fits]) or ["  none"]
    names = {s.law.name for s in fits}
    nests = [[f"  {s.law.name}", n] for s in fits if (n := "; ".join(_within(s, names)))]
    if nests:
        lines += ["", "How they nest", *aligned(nests)]
    if opened := one_column_more(support):
        rows = [[f"  {column}", ", ".join(specs)] for column, specs in opened.items()]
        lines += ["", "One more column would open", *aligned(rows)]
    return lines


def _within(s: Support, names: set[str]) -> list[str]:
    """The relations of a law that name another law of the set."""
    return [r for r in s.law.relations if {n for n in re.findall(r"[a-z][a-z0-9_]*", r)} & (names - {s.law.name})]


def _predicts(law: Law) -> str:
    responses = ", ".join(r.name for r in law.responses)
    return f"{responses} from {', '.join(i.name for i in law.inputs)}"


def support_document(support: Sequence[Support]) -> dict[str, Any]:
    """Every law with whether a table supports it, what is missing, and what one more column would open."""
    laws = [
        {
            **law_document(s.law),
            "spec": short_spec(s.law),
            "supported": not s.missing,
            "missing": list(s.missing),
            "nested": list(s.nested),
        }
        for s in support
    ]
    return {"laws": laws, "one_column_more": one_column_more(support)}


def catalogue_documents() -> list[dict[str, Any]]:
    """Every law, then the entries that have no law of their own: examples of one, and laws that are planned."""
    examples = [
        _listed(e, status="built", example_of=e.of, cases=dict(e.cases), advice=e.advice) for e in EXAMPLES.values()
    ]
    return [*(law_document(find_law(n)) for n in LAWS), *examples, *(_listed(p, status="planned") for p in planned())]


def _listed(entry: Planned | Example, **more: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "tier": entry.tier,
        "family": entry.family,
        "references": [f"arXiv:{number}" for number in entry.arxiv],
        **more,
    }


def markdown_table(laws: Sequence[Law]) -> list[str]:
    """The catalogue as a Markdown table."""
    lines = ["| law | equation | predicts | from | source |", "|---|---|---|---|---|"]
    for law in laws:
        inputs, responses = (", ".join(q.name for q in quantities) for quantities in (law.inputs, law.responses))
        source = f"{law.references[0].authors} {law.references[0].year}"
        equation = law.equation.replace("|", r"\vert ")
        lines.append(f"| `{law.name}` | ${equation}$ | {responses} | {inputs} | {source} |")
    return lines


def dataset_documents(name: str | None, fetch: bool) -> list[dict[str, Any]]:
    """What is known of one data set or of all; with `fetch`, one that is downloaded is downloaded now."""
    if name is not None and name not in DATASETS:
        raise RunsError(f"no data set {name!r}", code="BS-R037", remedy=nearest(name, [*DATASETS]))
    chosen = [DATASETS[name]] if name is not None else [*DATASETS.values()]
    documents = []
    for dataset in chosen:
        document: dict[str, Any] = {
            "name": dataset.name,
            "title": dataset.title,
            "description": dataset.description,
            "bundled": dataset.bundled,
            "default": dataset.default,
            "subsets": {k: s.meaning for k, s in dataset.subsets.items()},
            "loss_unit": dataset.loss_unit,
            "licence": dataset.licence,
            "source": dataset.citation,
            "url": dataset.url,
            "sha256": dataset.sha256,
            "notes": [n.message for n in dataset.notes],
        }
        if fetch:
            document["path"] = str(fetch_file(dataset.name))
        documents.append(document)
    return documents


def dataset_lines(documents: Sequence[dict[str, Any]], full: bool) -> list[str]:
    """One line a data set, or everything about one."""
    if not full:
        return aligned([[d["name"], d["title"]] for d in documents])
    lines = []
    for d in documents:
        for key, value in d.items():
            if isinstance(value, dict):
                lines += [f"{key}:", *(f"  {k}: {v}" for k, v in value.items())]
            elif isinstance(value, list | tuple):
                lines += [f"{key}:", *(f"  {v}" for v in value)]
            elif value is not None:
                lines.append(f"{key}: {value}")
    return lines
