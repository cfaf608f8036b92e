"""Tables of a report: cells that know their value, printed as LaTeX, Markdown, HTML and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.tables.escaping import html_text, latex_text, markdown_text, spreadsheet_text

_GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon eta kappa lambda mu nu pi rho sigma tau theta Delta".split(),
        "αβγδεηκλμνπρστθΔ",
        strict=True,
    )
)
_SCALES = ((1e15, ""), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_FEWEST, _MOST = -60, 12


@dataclass(frozen=True)
class Written:
    """One piece of text in every notation; `value` is what CSV holds in its place."""

    latex: str
    markdown: str
    html: str
    value: Any


def text(said: object) -> Written:
    """Plain text, inert in every notation."""
    return Written(latex_text(said), markdown_text(said), html_text(said), str(said))


def symbol(latex: str, value: object) -> Written:
    """A symbol of the law's own declaration, as mathematics."""
    return Written(f"${latex}$", f"${latex}$", html_of_maths(latex), str(value))


def html_of_maths(latex: str) -> str:
    """Simple mathematics as HTML: Greek letters, sub- and superscripts; what it does not know stays LaTeX in code."""
    body = re.sub(r"\\[,;!]", " ", re.sub(r"\\(left|right|displaystyle)(?![A-Za-z])", "", latex))
    body = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", body)
    body = re.sub(r"\\(?:mathrm|text|operatorname)\{([^{}]*)\}", r"{\1}", body)
    body = re.sub(r"\\hat ([A-Za-z])", "\\1\u0302", body)
    body = re.sub(r"\\([A-Za-z]+)", lambda m: _KNOWN.get(m[1], m[0]), body)
    body = re.sub(r"\\bar (\w)", "\\1\u0304", body).replace("-", "−")
    made = html_text(body)
    for _ in range(4):
        made = re.sub(r" ?_\{([^{}]*)\}", r"<sub>\1</sub>", made)
        made = re.sub(r"\^\{([^{}]*)\}", r"<sup>\1</sup>", made)
        made = re.sub(r"(?<![_^])\{([^{}]*)\}", r"\1", made)
    made = re.sub(r" ?_([\w*∞])", r"<sub>\1</sub>", made)
    made = re.sub(r"\^(\w|\*)", r"<sup>\1</sup>", made)
    return f"<code>{html_text(latex)}</code>" if "\\" in made or "{" in made else f"<i>{made}</i>"


_KNOWN = {**_GREEK, "sum": "∑", "times": "×", "cdot": "·", "log": "log ", "ln": "ln ", "sim": "~",
          "exp": "exp ", "prod": "∏", "infty": "∞"}  # fmt: skip


def decimals_of(error: float | None, value: float) -> int:
    """How many decimals of a value its Monte Carlo error supports (negative: tens, hundreds), one digit at least."""
    size = int(np.floor(np.log10(abs(value)))) if value else 0
    if error is None or not np.isfinite(error):
        return 2 - size
    if error <= 0:
        return 5 - size
    return max(-size, min(int(np.floor(-np.log10(error))), 6 - size))


def rounded(value: float, decimals: int) -> str:
    """A number to so many decimals; in scientific notation where that is shorter."""
    decimals = int(np.clip(decimals, _FEWEST, _MOST))
    exact = round(value, decimals)
    if exact and not 1e-4 <= abs(exact) < 1e6:
        digits = max(0, decimals + int(np.floor(np.log10(abs(exact)))))
        return f"{exact:.{digits}e}"
    return f"{exact:,.{max(0, decimals)}f}" if abs(exact) >= 1e4 else f"{exact:.{max(0, decimals)}f}"


def _scientific(written: str) -> tuple[str, str] | None:
    if "e" not in written:
        return None
    mantissa, exponent = written.split("e")
    return mantissa, str(int(exponent))


def _number(written: str, suffix: str = "") -> Written:
    """A number as it was rounded, with a suffix for thousands, millions and so on."""
    minus = written.startswith("-")
    if parts := _scientific(written):
        mantissa, exponent = parts
        one = mantissa in ("1", "-1")
        head = "-" if minus else ""
        latex = rf"${head}10^{{{exponent}}}$" if one else rf"${mantissa}\times 10^{{{exponent}}}$"
        page = f"10<sup>{exponent}</sup>" if one else f"{mantissa}×10<sup>{exponent}</sup>"
        plain = f"{mantissa}e{exponent}"
        return Written(latex + suffix, plain + suffix, page.replace("-", "−") + suffix, plain)
    latex = f"${written}$" if minus else written
    return Written(
        latex.replace(",", r"\,") + suffix,
        written.replace(",", " ") + suffix,
        written.replace(",", " ").replace("-", "−") + suffix,
        written,
    )


def number(
    value: float | None, error: float | None = None, *, count: bool = False, digits: int | None = None
) -> Written:
    """A number with the digits that its Monte Carlo error supports, or so many significant ones; "--" where it is None.

    `count` writes thousands as k, millions as M and so on.
    """
    if value is None or not np.isfinite(value):
        return Written("--", "–", "–", "")
    scale, suffix = _scale(abs(value)) if count else (1.0, "")
    shown = value / scale
    size = int(np.floor(np.log10(abs(shown)))) if shown else 0
    places = digits - 1 - size if digits is not None else decimals_of(None if error is None else error / scale, shown)
    made = _number(rounded(shown, places), suffix)
    return Written(made.latex, made.markdown, made.html, float(value))


def _scale(size: float) -> tuple[float, str]:
    for scale, letter in _SCALES:
        if size >= 0.9995 * scale:
            return (scale, letter) if letter else (1.0, "")
    return 1.0, ""


def power(value: float) -> Written:
    """A budget in FLOP, to three digits."""
    made = _number(f"{value:.2e}".replace(".00e", "e").replace("0e", "e") if value else "0")
    return Written(made.latex, made.markdown, made.html, float(value))


@dataclass(frozen=True)
class Interval:
    """A median with the two ends of its interval; CSV holds them in three columns."""

    median: Written
    lower: Written
    upper: Written

    @property
    def missing(self) -> bool:
        """Whether there is no number to print."""
        return self.median.value == ""


#: Ends of an interval that are closer than this factor are printed to the same decimal.
_ALIKE = 3.0


def interval(entry: Mapping[str, Any], *, count: bool = False) -> Interval:
    """The cell of a record with median, lower, upper and, under `mcse`, their Monte Carlo errors."""
    errors = dict(entry.get("mcse") or {})
    low, high = entry["lower"], entry["upper"]
    if low and high and 1 / _ALIKE < high / low < _ALIKE and errors.get("lower") and errors.get("upper"):
        errors["lower"] = errors["upper"] = max(errors["lower"], errors["upper"])
    ends = (number(entry[k], errors.get(k), count=count) for k in ("median", "lower", "upper"))
    return Interval(*ends)


Cell = Written | Interval


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV, its heading, and whether it holds intervals."""

    key: str
    heading: Written
    interval: bool = False


#: Shares of a line: a letter of small text, the space between two columns; and letters of short and of long cells.
_LETTER, _GAP, _SHORT, _LONG = 0.0115, 0.0265, 16, 90
#: Text longer than so many letters is broken into lines.
_WRAPPED = 30


@dataclass(frozen=True)
class Table:
    """A table of a report: file name, caption, columns, rows of cells, and notes below it."""

    name: str
    caption: Written
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[Written, ...] = ()
    wide: bool = False

    def latex(self) -> str:
        """A `table` with the rules of booktabs, or a `longtable` where cells hold running text."""
        heads = " & ".join(c.heading.latex for c in self.columns) + r" \\"
        body = [" & ".join(_latex_of(c) for c in row) + r" \\" for row in self.rows]
        caption = rf"\caption{{{self.caption.latex}}}"
        label = rf"\label{{tab:{self.name.replace('_', '-')}}}"
        rules = [r"\toprule", heads, r"\midrule"]
        notes = [rf"\par\smallskip{{\footnotesize {n.latex}\par}}" for n in self.notes]
        if self.wide:
            return "\n".join(
                [
                    "% A longtable: among two columns of text it goes after \\onecolumn.",
                    r"\begingroup\small",
                    rf"\begin{{longtable}}{{{self._paragraphs()}}}",
                    caption + label + r" \\",
                    *rules,
                    r"\endfirsthead",
                    *rules,
                    r"\endhead",
                    r"\bottomrule",
                    r"\endlastfoot",
                    *body,
                    r"\end{longtable}",
                    *notes,
                    r"\endgroup",
                    "",
                ]
            )
        kinds = "".join(self._kind(k) for k in range(len(self.columns)))
        lines = [r"\begin{table}[htbp]", r"\centering", r"\setlength{\belowcaptionskip}{4pt}"]
        lines += [caption, label, r"\small"]
        # Natural size, or the width of the text where it is wider.
        lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        lines += [rf"\begin{{tabular}}{{{kinds}}}", *rules, *body, r"\bottomrule", r"\end{tabular}}"]
        return "\n".join([*lines, *notes, r"\end{table}", ""])

    def _kind(self, k: int) -> str:
        """Numbers to the right, text to the left; long text in lines, so that the table need not be made small."""
        if not self._is_text(k):
            return "l" if k == 0 else "r"
        longest = max((len(c.markdown) for row in self.rows if isinstance(c := row[k], Written)), default=0)
        return r">{\raggedright\arraybackslash}p{0.27\linewidth}" if longest > _WRAPPED else "l"

    def _is_text(self, k: int) -> bool:
        return all(isinstance(row[k], Written) and isinstance(row[k].value, str) for row in self.rows)  # type: ignore[union-attr]

    def _paragraphs(self) -> str:
        """Columns of running text: short ones as wide as they are, the others share the rest by how much they hold."""
        cells = [
            [c.markdown for row in self.rows if isinstance(c := row[k], Written)] for k in range(len(self.columns))
        ]
        sizes = [max(map(len, [c.heading.markdown, *held])) for c, held in zip(self.columns, cells, strict=True)]
        short = {k: _LETTER * n for k, n in enumerate(sizes) if n <= _SHORT}
        rest = {k: min(n, _LONG) for k, n in enumerate(sizes) if k not in short}
        room = 0.985 - _GAP * len(sizes) - sum(short.values())
        shares = short | {k: room * n / sum(rest.values()) for k, n in rest.items()}
        return "".join(rf">{{\raggedright\arraybackslash}}p{{{shares[k]:.3f}\linewidth}}" for k in range(len(sizes)))

    def markdown(self) -> str:
        """A pipe table with its caption above and its notes below."""
        rows = [[c.heading.markdown for c in self.columns], ["---"] * len(self.columns)]
        rows += [[_markdown_of(c) for c in row] for row in self.rows]
        lines = [f"**{self.caption.markdown}**", "", *("| " + " | ".join(r) + " |" for r in rows)]
        for note in self.notes:
            lines += ["", note.markdown]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """A `figure` with a `table`."""
        head = "".join(f"<th>{c.heading.html}</th>" for c in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td{_class(c)}>{_html_of(c)}</td>" for c in row) + "</tr>\n" for row in self.rows
        )
        notes = "".join(f"<p class=note>{n.html}</p>" for n in self.notes)
        return (
            f'<figure id="table-{html_text(self.name)}"><figcaption>{self.caption.html}</figcaption>'
            f"<div class=scroll><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
            f"{notes}</figure>\n"
        )

    def csv(self) -> str:
        """Every value at full precision, an interval in three columns; text that would be a formula is disarmed."""
        names: list[str] = []
        for c in self.columns:
            names += [f"{c.key}_{end}" for end in ("median", "lower", "upper")] if c.interval else [c.key]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([spreadsheet_text(n) for n in names])
        for row in self.rows:
            values: list[Any] = []
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Interval):
                    values += [cell.median.value, cell.lower.value, cell.upper.value]
                else:
                    values += [cell.value] + (["", ""] if column.interval else [])
            writer.writerow([spreadsheet_text(v) if isinstance(v, str) else repr(v) for v in values])
        return out.getvalue()


def _latex_of(cell: Cell) -> str:
    if isinstance(cell, Interval):
        return "--" if cell.missing else f"{cell.median.latex} ({cell.lower.latex} to {cell.upper.latex})"
    return cell.latex


def _markdown_of(cell: Cell) -> str:
    if isinstance(cell, Interval):
        return "–" if cell.missing else f"{cell.median.markdown} ({cell.lower.markdown} to {cell.upper.markdown})"
    return cell.markdown


def _html_of(cell: Cell) -> str:
    if isinstance(cell, Interval):
        return "–" if cell.missing else f"{cell.median.html} ({cell.lower.html} to {cell.upper.html})"
    return cell.html


def _class(cell: Cell) -> str:
    return "" if isinstance(cell, Written) and isinstance(cell.value, str) else " class=n"


def heading(said: str, unit: str = "") -> Written:
    """A column's heading with its unit."""
    return text(f"{said} ({unit})" if unit else said)


def joined(parts: Sequence[Written]) -> Written:
    """Pieces of text one after the other."""
    return Written(
        "".join(p.latex for p in parts),
        "".join(p.markdown for p in parts),
        "".join(p.html for p in parts),
        "".join(str(p.value) for p in parts),
    )


def say(template: str, **pieces: Written) -> Written:
    """Text with `{name}` where a piece that is written in every notation goes."""
    parts: list[Written] = []
    for k, part in enumerate(re.split(r"\{(\w+)\}", template)):
        if k % 2:
            parts.append(pieces[part])
        elif part:
            parts.append(_running(part))
    return joined(parts)


def _running(part: str) -> Written:
    """Text between two pieces: it keeps the spaces at its ends."""
    made = text(part)
    left, right = (" " if part[:1].isspace() else ""), (" " if part[-1:].isspace() and part.strip() else "")
    return Written(f"{left}{made.latex}{right}", f"{left}{made.markdown}{right}", f"{left}{made.html}{right}", part)
