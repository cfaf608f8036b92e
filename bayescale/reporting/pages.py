"""The report in print: one LaTeX document, one Markdown file, one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bayescale.reporting.cells import Table, Written
from bayescale.reporting.figures import Drawn
from bayescale.tables.escaping import html_text, latex_text, markdown_text

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[a4paper,margin=22mm]{geometry}
\usepackage{amsmath}
\usepackage{array}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\sloppy
\setlength{\emergencystretch}{4em}
"""

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.55 system-ui, sans-serif; color: #262626; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1.2rem }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2.4rem; border-bottom: 1px solid #ddd }
figure { margin: 1.4rem 0 } figcaption { font-weight: 600; margin-bottom: .4rem }
img { max-width: 100%; height: auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .88rem; width: 100% }
thead tr { border-top: 2px solid #262626; border-bottom: 1px solid #262626 } tbody { border-bottom: 2px solid #262626 }
th, td { text-align: left; padding: .25rem .6rem; vertical-align: top }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap } sub, sup { line-height: 0 }
@media (max-width: 40rem) { td:not(.n):not(:first-child) { min-width: 7rem } }
.note { font-size: .82rem; color: #555; margin: .3rem 0 }
.verdict { border-left: 6px solid #0072B2; padding: .3rem 1rem; background: #f4f7fa }
.warn { border-color: #E69F00 } .fail { border-color: #D55E00 }
"""


@dataclass(frozen=True)
class Report:
    """Everything that is printed: title, verdict, and sections of paragraphs, tables and figures."""

    title: Written
    status: str
    verdict: tuple[Written, ...]
    lead: tuple[Written, ...]
    results: tuple[Table, ...]
    figures: tuple[Drawn, ...]
    methods: tuple[Written, ...]
    appendix: tuple[Table, ...]
    questions: tuple[Written, ...]
    left_out: tuple[Written, ...]
    references: tuple[tuple[str, Written], ...]


def latex_page(report: Report) -> str:
    """A document that compiles as it stands, tables and figures taken from their files."""
    lines = [
        _PREAMBLE + r"\begin{document}",
        rf"\section*{{{report.title.latex}}}",
        rf"\paragraph{{Verdict: {latex_text(report.status)}}}",
        *_latex_list(report.verdict),
        *(f"{p.latex}\n" for p in report.lead),
        r"\section*{Methods}",
        *(f"{p.latex}\n" for p in report.methods),
        r"\section*{Results}",
        *(rf"\input{{tables/{t.name}.tex}}" for t in report.results),
        r"\clearpage",
    ]
    for k, drawn in enumerate(report.figures):
        lines += [
            r"\begin{figure}[htbp]",
            r"\centering",
            rf"\includegraphics[width=\linewidth,height=0.8\textheight,keepaspectratio]{{figures/{drawn.name}_two.pdf}}",
            rf"\caption{{{latex_text(drawn.caption)}}}",
            rf"\label{{fig:{drawn.name.replace('_', '-')}}}",
            r"\end{figure}",
        ]
        if k % 4 == 3:
            lines.append(r"\clearpage")
    lines += [r"\clearpage", r"\section*{Appendix}", *(rf"\input{{tables/{t.name}.tex}}" for t in report.appendix)]
    if report.questions:
        lines += [r"\section*{Questions that only the authors can answer}", *_latex_list(report.questions)]
    if report.left_out:
        lines += [r"\section*{Left out}", *_latex_list(report.left_out)]
    lines += [r"\clearpage", r"\begin{thebibliography}{99}"]
    lines += [rf"\bibitem{{{key}}} {said.latex}" for key, said in report.references]
    lines += [r"\end{thebibliography}", r"\end{document}"]
    return "\n".join(lines) + "\n"


def _latex_list(items: Sequence[Written]) -> list[str]:
    return [r"\begin{itemize}", *(rf"\item {i.latex}" for i in items), r"\end{itemize}"] if items else []


def markdown_page(report: Report) -> str:
    """The report as one Markdown file beside its figures."""
    parts = [f"# {report.title.markdown}", f"**Verdict: {markdown_text(report.status)}**", _bullets(report.verdict)]
    parts += [p.markdown for p in report.lead]
    parts += ["## Results", *(t.markdown().rstrip() for t in report.results), "## Figures"]
    for drawn in report.figures:
        parts += [f"![{drawn.name}](figures/{drawn.name}_two.png)", f"*{markdown_text(drawn.caption)}*"]
    parts += ["## Methods", *(p.markdown for p in report.methods)]
    parts += ["## Appendix", *(t.markdown().rstrip() for t in report.appendix)]
    for title, items in (("Questions that only the authors can answer", report.questions),
                         ("Left out", report.left_out)):  # fmt: skip
        if items:
            parts += [f"## {title}", _bullets(items)]
    parts += ["## References", _bullets([said for _, said in report.references])]
    return "\n\n".join(p for p in parts if p) + "\n"


def _bullets(items: Sequence[Written]) -> str:
    return "\n".join(f"- {i.markdown}" for i in items)


def html_page(report: Report, folder: Path) -> str:
    """One page that holds its own pictures and loads nothing; no script runs in it."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{report.title.html}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{report.title.html}</h1>",
        f'<div class="verdict {html_text(report.status)}"><b>Verdict: {html_text(report.status)}</b>',
        _html_list(report.verdict) + "</div>",
        *(f"<p>{p.html}</p>" for p in report.lead),
        "<h2>Results</h2>",
        *(t.html() for t in report.results),
        "<h2>Figures</h2>",
    ]
    for drawn in report.figures:
        wide, narrow = (_inline(folder / f"{drawn.name}_{columns}.png") for columns in ("two", "one"))
        caption = html_text(drawn.caption)
        parts.append(
            f'<figure><picture><source media="(max-width: 40rem)" srcset="{narrow}"><img alt="{caption}" src="{wide}">'
            f"</picture><figcaption>{caption}</figcaption></figure>"
        )
    parts += ["<h2>Methods</h2>", *(f"<p>{p.html}</p>" for p in report.methods)]
    parts += ["<h2>Appendix</h2>", *(t.html() for t in report.appendix)]
    for title, items in (("Questions that only the authors can answer", report.questions),
                         ("Left out", report.left_out)):  # fmt: skip
        if items:
            parts += [f"<h2>{title}</h2>", _html_list(items)]
    parts += ["<h2>References</h2>", _html_list([said for _, said in report.references]), "</body></html>"]
    return "\n".join(parts) + "\n"


def _inline(picture: Path) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _html_list(items: Sequence[Written]) -> str:
    return "<ul>" + "".join(f"<li>{i.html}</li>" for i in items) + "</ul>"
