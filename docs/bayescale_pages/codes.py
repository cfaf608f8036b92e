"""The page of message codes, from the package's one list of them."""

from __future__ import annotations

from bayescale import errors
from bayescale_pages.markdown import plain, section, table

#: Families of codes by their beginning: title, and what happens.
_FAMILIES = {
    "BS-R": (
        "Reading a table",
        "Said as a note where something was assumed; where a table cannot be read, exit code 3.",
    ),
    "BS-F": ("Questions that a table or fit cannot answer", "Exit code 3."),
    "BS-L": ("Laws: declarations, names, options and priors", "Exit code 2."),
    "BS-U": ("Usage of the command line", "Exit code 2."),
    "": ("Findings of checks", "Not errors: pass, warn or fail, beside the number and its threshold in `fit.json`."),
}
#: The letters of a code's kind.
_KINDS = {"E": "refused", "W": "warned of", "F": "fixed and said", "A": "asked, with the flag that settles it"}


def codes_page() -> str:
    """Every code with what it means and what to do, by what it is about."""
    lines = [
        *section(1, "Message codes"),
        "Every message ends with its code in brackets, names file, column and rows, and says what to do. With `--json`",
        "an error is a document with `code`, `message`, `file`, `column`, `rows` and `remedy`; in Python the same are",
        "attributes of `BayescaleError`. Codes do not change from version to version; sentences may.",
        "",
    ]
    left = dict(errors.CODES)
    messages = getattr(errors, "MESSAGES", {})  # what is said about a code beyond its title
    for beginning, (title, about) in _FAMILIES.items():
        codes = [code for code in left if code.startswith(beginning)]
        titles = {code: plain(left.pop(code)) for code in codes}
        if not codes:
            continue
        lines += [*section(2, title), about, ""]
        if all(code in messages for code in codes):
            head = ("code", "message", "what happens", "why", "what to do")
            rows = [
                (f"`{c}`", titles[c], _happens(messages[c]), plain(messages[c].meaning), plain(messages[c].remedy))
                for c in codes
            ]
        else:
            head, rows = ("code", "meaning"), [(f"`{code}`", titles[code]) for code in codes]
        lines += table(head, rows)
    return "\n".join(lines)


def _happens(message) -> str:
    """The ways in which a message is said, in words."""
    return ", ".join(_KINDS.get(letter, letter) for letter in message.kind)
