"""Text that came with a table, made inert for where it is printed: never a formula, never markup."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "·": r"\(\cdot\)",
    "×": r"\(\times\)",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "±": r"\(\pm\)",
    "−": r"\(-\)",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "→": r"\(\to\)",
    "≤": r"\(\leq\)",
    "≥": r"\(\geq\)",
    "≈": r"\(\approx\)",
    "∞": r"\(\infty\)",
    "α": r"\(\alpha\)",
    "β": r"\(\beta\)",
    "ν": r"\(\nu\)",
    "σ": r"\(\sigma\)",
    "τ": r"\(\tau\)",
    "µ": r"\(\mu\)",
    "μ": r"\(\mu\)",
}
#: Letters that the T1 encoding has; all else is written as its number.
_T1 = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$#])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain_text(text: object) -> str:
    """One line of text without control characters."""
    kept = ("" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and not c.isspace() else c for c in str(text))
    return " ".join("".join(kept).split())


def latex_text(text: object) -> str:
    """Text for LaTeX under T1 and UTF-8: every special character as a command, unknown ones as their code point."""
    escaped = "".join(_latex_character(c) for c in plain_text(text))
    # Two of these in a row would join to another sign.
    return re.sub(r"([-',])(?=\1)", r"\1{}", escaped)


def _latex_character(c: str) -> str:
    if c in _LATEX:
        return _LATEX[c]
    return c if c.isascii() or _T1.match(c) else rf"\texttt{{U+{ord(c):04X}}}"


def markdown_text(text: object) -> str:
    """Text for Markdown: every character that could be markup behind a backslash or as an entity."""
    escaped = _MARKDOWN.sub(r"\\\1", plain_text(text).replace("&", "&amp;"))
    for sign, entity in (("<", "&lt;"), (">", "&gt;"), ("://", "&#58;//"), ("www.", "www&#46;")):
        escaped = escaped.replace(sign, entity)
    return escaped


def html_text(text: object) -> str:
    """Text for HTML, in elements and in quoted attributes."""
    return html.escape(plain_text(text), quote=True)


def spreadsheet_text(text: object) -> str:
    """Text for a CSV cell: behind an apostrophe where a spreadsheet would take it for a formula."""
    text = str(text)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith(_FORMULA) else text


def inert_csv(frame: pd.DataFrame, index_label: str | None = None) -> str:
    """A frame as CSV: headers, names of rows and cells of text that a spreadsheet would take for formulas are inert."""
    safe = frame.rename(columns=spreadsheet_text, index=lambda v: spreadsheet_text(v) if isinstance(v, str) else v)
    for k, column in enumerate(safe.columns):
        if safe.dtypes.iloc[k].kind not in "biuf":
            cells = safe.iloc[:, k].tolist()
            safe[column] = [spreadsheet_text(v) if isinstance(v, str) else v for v in cells]
    return safe.to_csv(index_label=index_label, lineterminator="\n")
