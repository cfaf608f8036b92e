"""From a fit to a folder that a paper can be written from."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bayescale.errors import FitError, NotFittedFor, require_seed
from bayescale.posterior import Fit, require_examined, require_one_model
from bayescale.reporting.bibliography import bibtex, entries_of, listed
from bayescale.reporting.cells import Table, Written, say, symbol, text
from bayescale.reporting.checklist import Item, checklist_items, checklist_table, require_items, share_filled
from bayescale.reporting.columns import kind_of, reasons
from bayescale.reporting.figures import FIGURES, Drawn, draw_figures, figures_tried
from bayescale.reporting.manifest import MANIFEST, write_manifest
from bayescale.reporting.methods import checklist_source, methods_paragraphs
from bayescale.reporting.numbers import kit_document
from bayescale.reporting.pages import Report, html_page, latex_page, markdown_page
from bayescale.reporting.sections import Document, tables_of
from bayescale.sampling import Progress, progress_bar
from bayescale.tables import runs_table

#: Tables that stand in the appendix.
_APPENDIX = ("medians", "priors", "checks", "checklist")
#: About how many seconds each stage takes, for the bar; a figure that is not named takes 2.3.
_WORK = {
    "allocations": 2.0,
    "approaches 1, 2 and 3": 5.5,
    "refit without the largest runs": 10.0,
    **{f"figure {drawn.name}": 2.3 for drawn, _ in FIGURES},
    "figure isoflop": 4.0,
    "figure residuals": 4.0,
    "figure pairs": 4.8,
    "figure prior_posterior": 6.0,
    "figure held_out": 1.0,
    "text": 0.1,
}


@dataclass(frozen=True)
class Kit:
    """A report that was written: its folder, the tables and figures in it, what was left out and why.

    `filled` is the share of the checklist that is answered, `questions` what is left to the authors and `items` the
    numbers of these questions, as `answers` takes them.
    """

    folder: Path
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    left_out: dict[str, str]
    filled: float
    questions: tuple[str, ...]
    status: str
    items: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """The document that the command line prints."""
        return {
            "schema": "bayescale.kit/1",
            "folder": str(self.folder),
            "tables": list(self.tables),
            "figures": list(self.figures),
            "left_out": dict(self.left_out),
            "checklist": {"filled": self.filled, "questions": list(self.questions), "items": list(self.items)},
            "verdict": self.status,
        }


def report(
    fit: Fit,
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
    hold_out: bool = True,
    bootstrap: int = 200,
    seed: int = 0,
    figures: Sequence[str] | None = None,
    answers: Mapping[str, str] | None = None,
    progress: bool | Progress | None = None,
) -> Kit:
    """Write everything that a paper needs from a fit into a folder: tables, figures, methods, checklist, manifest.

    `report.html` is one page that needs nothing else, `report.tex` compiles as it stands, `report.md` is the same as
    Markdown; `tables/` holds every table as LaTeX, Markdown and CSV, `figures/` every figure for one and two columns as
    PDF and PNG. `fit.json` is the document of the fit with every printed number under `report`, `runs.csv` the table as
    it was understood, `references.bib` what to cite. `verify` compares the folder with its manifest.

    Printed intervals are the headline's: credible, or adjusted where they were widened. What the fit cannot answer is
    left out, with the reason. `hold_out` refits without the largest runs to try the extrapolation, `bootstrap` is the
    number of resamples of the least-squares fit, `figures` the names of those wanted (by default all). `answers` are
    yours to items of the checklist that no table tells, by their number: `{"2.8": "open, at …"}`. `progress` is as in
    `fit`.

    Raises `FitError` (BS-U002) when the folder exists and `force` is not given, or is not that of a report, and
    `NotFittedFor` for a least-squares fit or a stack, or (BS-U001) an unknown figure or item of the checklist; and
    `LawError` (BS-U001) for a seed that is none.

    Example:
        >>> bs.report(fit, "paper")  # doctest: +SKIP
    """
    if fit.info.get("method") == "least_squares":
        raise NotFittedFor("a least-squares fit has no posterior to report", remedy="Report a fit of `bayescale.fit`.")
    require_one_model(fit)
    require_examined(fit)
    seed, folder = require_seed(seed), Path(folder)
    if folder.exists() and not force:
        raise FitError(
            f"the folder {folder} exists", code="BS-U002", file=str(folder), remedy="Add --force (force=True)."
        )
    _require_replaceable(folder)
    tried = {drawn.name for drawn, _ in figures_tried(fit, figures)}
    require_items(answers or ())
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    left_out = {f"figure {drawn.name}" for drawn, _ in FIGURES if drawn.name not in tried}
    if not hold_out:
        left_out |= {"refit without the largest runs"}
    try:
        with progress_bar(progress, f"report of {fit.info['runs']['source']}") as tell:
            made = _write(fit, part, folder, hold_out, bootstrap, seed, figures, answers, _teller(tell, left_out))
        part.chmod(0o755)
        _put_in_place(part, folder)
    finally:
        if part.exists():
            shutil.rmtree(part)
    return made


def _require_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a report, before the work and not after it."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
        raise FitError(
            f"{folder} is not the folder of a report, and is left alone", code="BS-U002", remedy="Give another name."
        )


def _put_in_place(part: Path, folder: Path) -> None:
    """Make the finished folder the one asked for; an older one is gone only when the new one stands."""
    if not folder.exists():
        os.replace(part, folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".old"))
    os.replace(folder, old / "kit")
    os.replace(part, folder)
    shutil.rmtree(old)


def _teller(tell: Progress, left_out: Collection[str]) -> Callable[[str], None]:
    """Turns names of stages into a share of the work done, of which some stages are no part."""
    work = {stage: seconds for stage, seconds in _WORK.items() if stage not in left_out}
    stages, weights = [*work], [*work.values()]

    def told(doing: str) -> None:
        k = stages.index(doing) if doing in stages else len(stages)
        tell(sum(weights[:k]) / sum(weights), doing)

    return told


def _write(
    fit: Fit,
    part: Path,
    folder: Path,
    hold_out: bool,
    bootstrap: int,
    seed: int,
    wanted: Sequence[str] | None,
    answers: Mapping[str, str] | None,
    told: Callable[[str], None],
) -> Kit:
    document = kit_document(fit, hold_out=hold_out, bootstrap=bootstrap, seed=seed, told=told)
    figures, missing = draw_figures(fit, document, part / "figures", told, wanted)
    told("text")
    document["report"]["left_out"] |= missing
    items = checklist_items(fit, document, answers)
    document["report"]["checklist"] = {"filled": share_filled(items), "items": [i.to_json() for i in items]}
    tables = [*tables_of(fit, document), checklist_table(items)]
    written = _report(fit, document, tables, figures, items)
    _write_text(part / "fit.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _write_text(part / "runs.csv", runs_table(fit))
    (part / "tables").mkdir()
    for table in tables:
        for suffix, content in (("tex", table.latex()), ("md", table.markdown()), ("csv", table.csv())):
            _write_text(part / "tables" / f"{table.name}.{suffix}", content)
    entries = entries_of(fit)
    _write_text(part / "references.bib", bibtex(entries, fit.info["versions"]))
    _write_text(part / "methods.tex", "\n\n".join(p.latex for p in written.methods) + "\n")
    _write_text(part / "report.tex", latex_page(written))
    _write_text(part / "report.md", markdown_page(written))
    _write_text(part / "report.html", html_page(written, part / "figures"))
    about = {"law": fit.law.spec, "source": fit.info["runs"]["source"], "versions": fit.info["versions"]}
    write_manifest(part, about)
    return Kit(
        folder,
        tuple(t.name for t in tables),
        tuple(f.name for f in figures),
        document["report"]["left_out"],
        share_filled(items),
        tuple(i.asks for i in items if i.answer is None),
        document["verdict"]["status"],
        tuple(i.number for i in items if i.answer is None),
    )


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _report(
    fit: Fit, document: Document, tables: Sequence[Table], figures: Sequence[Drawn], items: Sequence[Item]
) -> Report:
    entries = entries_of(fit)
    about = document["runs"]
    lead: list[Written] = [
        say(
            "The law {equation} fitted to {used} of {rows} rows of {source}, with equal-tailed {kind} intervals.",
            equation=symbol(fit.law.equation, fit.law.equation),
            used=text(about["used"]),
            rows=text(about["rows"]),
            source=text(about["source"]),
            kind=text(kind_of(fit)),
        )
        if document["headline_source"] != "none"
        else text(
            f"{fit.law.title} on {about['used']} of {about['rows']} rows of {about['source']}. No number is headlined: "
            "the checks do not back one. What follows says which checks failed and how the model was made."
        ),
        checklist_source(entries),
    ]
    return Report(
        title=text(f"{fit.law.title} on {about['source']}"),
        status=document["verdict"]["status"],
        verdict=tuple(map(text, document["verdict"]["lines"])),
        lead=tuple(lead),
        results=tuple(t for t in tables if t.name not in _APPENDIX),
        figures=tuple(figures),
        methods=tuple(methods_paragraphs(fit, document, entries)),
        appendix=tuple(t for t in tables if t.name in _APPENDIX),
        questions=tuple(text(f"{i.number} {i.asks}?") for i in items if i.answer is None),
        left_out=tuple(map(text, reasons(document["report"]["left_out"]))),
        references=tuple(listed(entries, fit.info["versions"])),
    )
