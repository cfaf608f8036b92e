"""Write docs/bad-inputs.md: every kind of bad or odd input as a file, what is said about it, and the remedy at work.

Run it from the root of a clone: `uv run python docs/bad_inputs.py`. A test runs every case and compares the page.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bayescale as bs
from bayescale.errors import MESSAGES, BayescaleError

PAGE = Path(__file__).with_name("bad-inputs.md")
KINDS = {"E": "refused", "W": "warned of", "F": "fixed and said", "A": "asked"}
FLAGS = {
    "where": "--where",
    "loss_unit": "--loss-unit",
    "rows_per_run": "--rows-per-run",
    "learning_rates": "--learning-rates",
}


@dataclass(frozen=True)
class Case:
    """One kind: a file, the options it is read with, the code that answers, and what settles it.

    `check` is "read" or "doctor" (then with a law and budgets). `remedy` are the options that settle it, `instead` the
    corrected file. `test` names the test that shows what no file can.
    """

    number: int
    title: str
    code: str = ""
    file: str | bytes = ""
    options: dict[str, Any] = field(default_factory=dict)
    remedy: dict[str, Any] = field(default_factory=dict)
    instead: str = ""
    check: str = "read"
    test: str = ""
    why: str = ""


def grid(
    header: str = "params,tokens,loss",
    sizes: Sequence[float] = (1e8, 2e8, 4e8, 8e8),
    tokens: Sequence[float] = (2e9, 4e9, 8e9, 16e9),
    row=lambda n, d, loss: f"{n:g},{d:g},{loss:.4f}",
) -> str:
    """A table at every size and number of tokens, with losses of a Chinchilla law and a little noise of its own."""
    lines = [header]
    for i, n in enumerate(sizes):
        for j, d in enumerate(tokens):
            loss = (1.7 + 480 * n**-0.35 + 2085 * d**-0.37) * (1 + 0.003 * ((7 * i + 3 * j) % 5 - 2))
            made = row(n, d, loss)
            lines += made if isinstance(made, list) else [made]
    return "\n".join(lines) + "\n"


def isoflop(budgets: Sequence[float], sizes: Sequence[Sequence[float]]) -> str:
    """A ladder of compute budgets, each with models of several sizes."""
    lines = ["budget,params,flops,loss"]
    for c, ns in zip(budgets, sizes, strict=True):
        for n in ns:
            d = c / (6 * n)
            lines.append(f"{c:g},{n:g},{c:g},{1.7 + 480 * n**-0.35 + 2085 * d**-0.37:.4f}")
    return "\n".join(lines) + "\n"


GOOD = "params,tokens,loss\n1e8,2e9,3.512\n2e8,4e9,3.206\n4e8,8e9,2.981\n8e8,16e9,2.793\n"
LADDER = ((1e18, 1e19), ((1e8, 2e8, 4e8, 8e8), (4e8, 8e8, 1.6e9, 3.2e9)))


def with_row(line: str) -> str:
    """The good table with one more row."""
    return GOOD + line + "\n"


def curve(step: Sequence[int]) -> str:
    """Two runs logged at these steps."""
    lines = ["run_id,params,step,tokens,loss"]
    for name, n in (("a", 1e8), ("b", 4e8)):
        lines += [f"{name},{n:g},{s},{s * 1e6:g},{2 + 480 * n**-0.35 + 2085 * (s * 1e6) ** -0.37:.4f}" for s in step]
    return "\n".join(lines) + "\n"


UNEVEN = [k * 97 % 1000 * 3 + k * 20 + 100 for k in range(60)]

CASES: tuple[Case, ...] = (
    Case(1, "A blank loss, “-” or “N/A”", "BS-R001", with_row("1e9,2e10,N/A"), remedy={"drop_missing": True}),
    Case(2, "A loss that is zero, negative or infinite", "BS-R002", with_row("1e9,2e10,0"),
         remedy={"where": "loss > 0"}),
    Case(3, "A negative or zero N, D or C", "BS-R003", with_row("-1e9,2e10,2.7"), remedy={"where": "params > 0"}),
    Case(4, "A diverged run", "BS-R004", grid() + "8e8,3.2e10,9.71\n", remedy={"where": "loss < 9"},
         why="The row is kept, because heavy-tailed noise can bear it; fit with and without it to see what it does."),
    Case(5, "A perplexity", "BS-R005", "params,tokens,loss\n1e8,2e9,33.5\n2e8,4e9,24.7\n4e8,8e9,19.7\n",
         remedy={"loss_unit": "ppl"}),
    Case(6, "Bits among nats", "BS-R006",
         grid("source,params,tokens,loss",
              row=lambda n, d, loss: f"{'paper' if n > 3e8 else 'ours'},{n:g},{d:g},"
                                     f"{loss / 0.693147 if n > 3e8 else loss:.4f}")
         + grid(row=lambda n, d, loss: f"ours,{n * 1.5:g},{d:g},{loss:.4f}").partition("\n")[2],
         remedy={"where": "source == 'ours'"}),
    Case(7, "An accuracy in the place of a loss", "BS-R007",
         "params,tokens,loss,nll_val\n1e8,2e9,0.26,3.51\n2e8,4e9,0.31,3.21\n4e8,8e9,0.38,2.98\n8e8,16e9,0.47,2.79\n",
         remedy={"columns": {"loss": "nll_val"}}),
    Case(8, "Parameters in millions", "BS-R008", "params,tokens,loss\n70,3e11,2.61\n160,3e11,2.38\n410,3e11,2.2\n",
         remedy={"units": {"params": "millions"}}),
    Case(9, "Tokens in billions", "BS-R009",
         "params,tokens,flops,loss\n1e8,2,1.2e18,3.51\n2e8,5,6e18,3.21\n4e8,8,1.92e19,2.98\n",
         why="C = 6ND holds in every row for one multiple alone, so nothing is left to ask."),
    Case(10, "Compute in PF-days", "BS-R010",
         "params,tokens,flops,loss\n1e8,2e9,0.01389,3.51\n2e8,5e9,0.06944,3.21\n4e8,8e9,0.2222,2.98\n",
         why="As above: one PF-day is 8.64e19 FLOP."),
    Case(11, "Compute that is not 6ND", "BS-R011",
         "params,tokens,flops,loss\n1e8,2e9,3.1e18,3.51\n2e8,4e9,9.1e18,3.21\n4e8,8e9,2.9e19,2.98\n8e8,16e9,9e19,2.79\n",
         why="Allocations can be made with the runs' own way of counting: `bayescale allocate --cost table`."),
    Case(12, "A mixture of experts: total and active parameters", "BS-R012",
         "total_params,active_params,tokens,loss\n8e8,1e8,2e9,3.31\n1.6e9,2e8,4e9,3.02\n3.2e9,4e8,8e9,2.81\n",
         remedy={"columns": {"params": "active_params"}}),
    Case(13, "Repeated data", "BS-R013",
         grid("params,tokens,unique_tokens,loss", row=lambda n, d, loss: f"{n:g},{d:g},4e9,{loss:.4f}"),
         remedy={"where": "tokens <= unique_tokens"}),
    Case(14, "Exact duplicates", "BS-R014", with_row("8e8,16e9,2.793")),
    Case(15, "One configuration, several losses", "BS-R015",
         grid("params,tokens,seed,loss",
              row=lambda n, d, loss: [f"{n:g},{d:g},{s},{loss * (1 + 0.004 * (s - 1)):.4f}" for s in (0, 1, 2)]),
         why="Replicates are welcome: they show the noise between seeds."),
    Case(16, "Checkpoints of one run", "BS-R016", curve([500, 1000, 2000, 4000, 8000]),
         remedy={"rows_per_run": "last"}),
    Case(17, "One distinct N", "distinct-inputs", grid(sizes=(1e8,), tokens=[2e9 * 1.6**k for k in range(9)]),
         check="doctor", remedy={"law": "power_law_offset:x=tokens"}),
    Case(18, "D = kN throughout", "design-ray",
         grid(sizes=[1e8 * 1.7**k for k in range(9)], tokens=(1e9,), row=lambda n, d, loss: f"{n:g},{20 * n:g},"
              f"{1.7 + 480 * n**-0.35 + 2085 * (20 * n) ** -0.37:.4f}"),
         check="doctor", remedy={"law": "power_law_offset:x=flops"}),
    Case(19, "One IsoFLOP curve only", "one-isoflop", isoflop((1e18,), ([5e7 * 1.5**k for k in range(9)],)),
         check="doctor",
         instead=isoflop((1e18, 2e19), ([5e7 * 1.5**k for k in range(9)], [2e8 * 1.5**k for k in range(9)]))),
    Case(20, "Fewer rows than parameters and two", "rows", GOOD, check="doctor", instead=grid()),
    Case(21, "Less than a decade of compute", "compute-range",
         grid(sizes=(1e8, 1.2e8, 1.5e8, 1.8e8), tokens=(2e9, 2.5e9, 3e9, 4e9)), check="doctor", instead=grid()),
    Case(22, "A minimum at the edge of a profile", "BS-R022", isoflop((1e18, 1e19), (LADDER[1][0][1:], LADDER[1][1])),
         instead=isoflop((1e18, 1e19), ((5e7, 1e8, 2e8, 4e8, 8e8), (1e8, 2e8, 4e8, 8e8, 1.6e9)))),
    Case(23, "Mixed data sets, tokenizers or families", "BS-R023",
         grid("params,tokens,tokenizer,loss",
              row=lambda n, d, loss: f"{n:g},{d:g},{'bpe' if d > 5e9 else 'unigram'},{loss:.4f}"),
         remedy={"where": "tokenizer == 'bpe'"},
         why="A column that names a family, a recipe or a data set is recognised, and gets an effect of its own."),
    Case(24, "Training and held-out losses in one column", "BS-R024",
         grid("params,tokens,split,loss",
              row=lambda n, d, loss: [f"{n:g},{d:g},train,{loss - 0.1:.4f}", f"{n:g},{d:g},val,{loss:.4f}"]),
         remedy={"where": "split == 'val'"}),
    Case(25, "A smoothed loss", "BS-R025",
         grid("params,tokens,loss_ema,loss_raw", row=lambda n, d, loss: f"{n:g},{d:g},{loss + 0.02:.4f},{loss:.4f}"),
         options={"columns": {"loss": "loss_ema"}}, remedy={"columns": {"loss": "loss_raw"}}),
    Case(26, "Rounded losses", "BS-R026", grid(row=lambda n, d, loss: f"{n:g},{d:g},{loss:.2f}"), instead=grid()),
    Case(27, "A question far outside the data", "extrapolation", grid(), check="doctor", options={"flops": [1e24]},
         remedy={"flops": [1e20]}),
    Case(28, "Absurd compute", "BS-R028", "params,flops,loss\n1e8,1e40,3.51\n2e8,4.8e18,3.21\n4e8,1.9e19,2.98\n",
         remedy={"where": "flops < 1e30"}),
    Case(29, "Integer overflow, float32", test="tests/test_reading.py::test_6nd_beyond_int64_does_not_overflow",
         code="BS-R029", why="A text file has no such types. In a frame, float16 and float32 are converted and said."),
    Case(30, "Other names for the columns", "BS-R030",
         "Model Size,Training Tokens,loss_c4,loss_pile\n1e8,2e9,3.512,3.61\n2e8,4e9,3.206,3.31\n4e8,8e9,2.981,3.08\n",
         remedy={"columns": {"loss": "loss_c4"}}),
    Case(31, "Comments, a row of units, semicolons, decimal commas", "BS-R031",
         "# exported by hand\nN;D;val_loss\n(M);(B);nats/token\n100;2;3,51\n200;4;3,21\n400;8;2,98\n"),
    Case(32, "Not UTF-8", "BS-R032", GOOD.encode("utf-16")),
    Case(33, "Ragged rows, a row of totals", "BS-R033",
         "run,params,tokens,loss\na,1e8,2e9,3.51\nb,2e8,4e9\nc,4e8,8e9,2.98\n",
         instead="run,params,tokens,loss\na,1e8,2e9,3.51\nb,2e8,4e9,3.21\nc,4e8,8e9,2.98\n"),
    Case(34, "Numbers that a spreadsheet turned into dates", "BS-R034",
         "params,tokens,loss\n1e8,2e9,3-May\n2e8,4e9,3.21\n",
         instead="params,tokens,loss\n1e8,2e9,3.5\n2e8,4e9,3.21\n"),
    Case(35, "A file too large to hold", "BS-R035",
         test="tests/test_bad_inputs.py::test_a_large_file_is_read_in_pieces"),
    Case(36, "A history that a tracker sampled", "BS-R036", curve(sorted(UNEVEN)), remedy={"rows_per_run": "last"}),
    Case(37, "A pickle, a folder, an empty file", "BS-R037", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.",
         instead=GOOD, why="A pickle is never loaded: it can run code."),
    Case(38, "Formulas and markup in cells",
         test="tests/test_bad_inputs.py::test_cells_never_become_formulas_or_markup",
         why="Text from a table is read as it is, and made inert wherever it is written: CSV, LaTeX, Markdown, HTML."),
    Case(39, "True/false, complex numbers, dates", "BS-R039",
         "params,tokens,loss,nll\n1e8,2e9,true,3.51\n2e8,4e9,false,3.21\n",
         remedy={"columns": {"loss": "nll"}}),
    Case(40, "One bad table among a thousand", "BS-R040",
         test="tests/test_batch.py::test_a_bad_table_costs_only_itself",
         why="The others are fitted; the exit code is 5."),
    Case(41, "Disk full, killed, out of memory in the middle of a batch",
         test="tests/test_batch.py::test_a_store_goes_on_where_it_stopped",
         why="Every table's result is written to a temporary name and renamed; --resume goes on with what is whole."),
    Case(42, "A prior in conflict with the runs", "prior-conflict",
         test="tests/test_auditing.py::test_a_prior_against_the_runs_is_told",
         why="`bayescale audit` says what the prior and the runs say alone, and how far apart that is."),
)  # fmt: skip


def outcome(case: Case, again: bool, folder: Path) -> tuple[str, list[str], set[str]]:
    """What happens to a case, first as it is and then with its remedy: "refused" or "read", the text, and the codes."""
    if (case.number, again) not in _DONE:
        _DONE[case.number, again] = _outcome(case, again, folder)
    return _DONE[case.number, again]


_DONE: dict[tuple[int, bool], tuple[str, list[str], set[str]]] = {}


def _outcome(case: Case, again: bool, folder: Path) -> tuple[str, list[str], set[str]]:
    options = {**case.options, **(case.remedy if again else {})}
    file = case.instead if again and case.instead else case.file
    path = folder / ("runs.pkl" if file[:1] == b"\x80" else "runs.csv")
    path.write_bytes(file if isinstance(file, bytes) else file.encode())
    law, flops = options.pop("law", "chinchilla"), options.pop("flops", ())
    try:
        runs = bs.read_runs(path, **options)
    except BayescaleError as error:
        return "refused", [str(error).replace(str(path), path.name)], {error.code}
    notes = {n.code for n in runs.notes}
    said = [f"{n.message} [{n.code}]" for n in runs.notes if n.code == case.code]
    kept = f"{len(runs)} of {runs.rows_read} rows read" if len(runs) != runs.rows_read else f"{len(runs)} rows read"
    if case.check != "doctor":
        return "read", [kept, *said], notes
    found = bs.doctor(runs, law, flops=flops)
    told = [f for f in found.findings if f.code == case.code and f.status != "pass"]
    lines = [f"{f.status.upper()}: {f.message} [{f.code}]" for f in told]
    status = "refused" if found.refusals else "read"
    return status, [kept, *(lines or [f"{case.code}: pass"])], notes | {f.code for f in told}


def command(case: Case, again: bool) -> str:
    """The case as a person would type it."""
    options = {**case.options, **(case.remedy if again else {})}
    words = ["bayescale doctor", "runs.pkl" if isinstance(case.file, bytes) and case.file[:1] == b"\x80" and not again
             else "runs.csv"]  # fmt: skip
    for name, value in options.items():
        if name == "law":
            words.append(f"--law {value}")
        elif name == "flops":
            words += [f"--flops {v:g}" for v in value]
        elif name == "drop_missing":
            words.append("--drop-missing")
        elif name in ("columns", "units"):
            words += [f"--{name[:-1]} {k}={v}" for k, v in value.items()]
        else:
            words.append(f'{FLAGS[name]} "{value}"' if " " in str(value) else f"{FLAGS[name]} {value}")
    return " ".join(words)


def shown(file: str | bytes) -> str:
    """A file as the page prints it: at most seven lines."""
    if isinstance(file, bytes):
        return repr(file[:40])[2:-1] + " …"
    lines = file.rstrip("\n").split("\n")
    return "\n".join(lines if len(lines) <= 8 else [*lines[:4], f"… ({len(lines) - 6} more lines)", *lines[-2:]])


def section(case: Case, folder: Path) -> list[str]:
    """One kind of the page."""
    code = MESSAGES.get(case.code)
    kinds = ", ".join(KINDS[k] for k in code.kind) if code else ""
    whose = "`bayescale doctor`" if case.check == "doctor" else "the audit"
    named = f"`{case.code}`" + (f" ({kinds}): {code.title}." if code else f", a finding of {whose}.")
    lines = [f"## {case.number}. {case.title}", ""]
    lines += [named, ""] if case.code else []
    if code:
        lines += [code.meaning, ""]
    if case.why:
        lines += [case.why, ""]
    if case.test:
        return [*lines, f"Shown by `{case.test}`.", ""]
    _, said, _ = outcome(case, False, folder)
    lines += ["```text", shown(case.file), "```", "", "```console", f"$ {command(case, False)}", *said, "```", ""]
    if case.instead:
        lines += ["Corrected:", "", "```text", shown(case.instead), "```", ""]
    if case.remedy or case.instead:
        _, said, _ = outcome(case, True, folder)
        lines += ["```console", f"$ {command(case, True)}", *said, "```", ""]
    return lines


def page() -> str:
    """The whole page."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            "# Bad and odd inputs",
            "",
            "Every kind of bad or odd input that bayescale knows of: a file that shows it, what is said about it, and "
            "the remedy at work. This page is made by `docs/bad_inputs.py`, which runs every case; the lines after `$` "
            "are shortened to what that kind is about. Line 1 of a file is its header.",
            "",
            *(line for case in CASES for line in section(case, Path(folder))),
            "## All codes",
            "",
            "E refused, W warned of, F fixed and said, A asked with the flag that settles it.",
            "",
            "| code | kind | what it says | what to do |",
            "|---|---|---|---|",
        ]
    cell = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;"})
    for c in MESSAGES.values():
        also = f" (finding `{c.finding}`)" if c.finding else ""
        lines.append(f"| `{c.code}` | {c.kind} | {c.title.translate(cell)}{also} | {c.remedy.translate(cell)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(Path.cwd())}", file=sys.stderr)
