"""The catalogue of laws and the list of data sets, as text, Markdown and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bayescale.datasets import DATASETS, fetch as fetch_file
from bayescale.errors import RunsError, nearest
from bayescale.law import Law
from bayescale.runs import Runs
from bayescale.tables.text import aligned


@dataclass(frozen=True)
class Support:
    """Whether a table has the columns of a law, and which are missing."""

    law: str
    missing: tuple[str, ...]


def supported(runs: Runs, laws: Sequence[Law]) -> list[Support]:
    """For each law, the columns of its inputs and response that the table lacks."""
    made = []
    for law in laws:
        columns = [c for i in law.inputs for c in (i.columns(runs.columns) or (i.column,))]
        columns += [r.source for r in law.responses]
        made.append(Support(law.spec, tuple(c for c in dict.fromkeys(columns) if not runs.has(c))))
    return made


def catalogue_lines(laws: Sequence[Law], support: Sequence[Support] | None = None) -> list[str]:
    """One line a law: name, title, inputs; with a table, whether it has the columns."""
    rows = []
    for k, law in enumerate(laws):
        row = [law.name, law.title, f"{law.responses[0].name} from {', '.join(i.name for i in law.inputs)}"]
        if support is not None:
            missing = support[k].missing
            row.append(f"missing: {', '.join(missing)}" if missing else "fits this table")
        rows.append(row)
    return aligned(rows)


def markdown_table(laws: Sequence[Law]) -> list[str]:
    """The catalogue as a Markdown table."""
    lines = ["| law | equation | predicts | from | source |", "|---|---|---|---|---|"]
    for law in laws:
        inputs = ", ".join(i.name for i in law.inputs)
        source = f"{law.references[0].authors} {law.references[0].year}"
        equation = law.equation.replace("|", r"\vert ")
        lines.append(f"| `{law.name}` | ${equation}$ | {law.responses[0].name} | {inputs} | {source} |")
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
