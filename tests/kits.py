"""What tests ask of a report: every number that is printed is the document's, in every notation."""

import csv
import json
import math
import re

QUICK = {"hold_out": False, "bootstrap": 20, "progress": False}
SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
#: A number as a report prints it in Markdown: 0.690, 1 200, 3.3M, 6.4e12.
PRINTED = re.compile(r"(?<![\w.])(-?\d[\d \u202f]*(?:\.\d+)?)(?:e(-?\d+))?([kMBT])?(?![\w.])")


def document_of(kit):
    return json.loads((kit.folder / "fit.json").read_text(encoding="utf-8"))


def table(kit, name):
    with (kit.folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def printed_rows(kit, name):
    lines = (kit.folder / "tables" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| ")][2:]


def values_of(cell):
    """Every number in a printed cell, with the unit of its last printed digit."""
    found = []
    for body, exponent, suffix in PRINTED.findall(cell):
        body = re.sub(r"\s", "", body)
        scale = SUFFIXES.get(suffix, 1.0) * 10.0 ** int(exponent or 0)
        digits = len(body.partition(".")[2])
        # The zeros that end a whole number may be places and not digits.
        if not digits and body.strip("0-"):
            digits = -(len(body) - len(body.rstrip("0")))
        found.append((float(body) * scale, scale * 10.0**-digits))
    return found


def check_numbers(kit):
    """Every interval of a kit: CSV equals the document exactly, print equals it to the printed digits."""
    made = document_of(kit)
    report = made["report"]
    quantities = {**made["parameters"], **made["derived"]}
    ends = ("median", "lower", "upper")
    checked = 0
    for row, shown in zip(table(kit, "coefficients"), printed_rows(kit, "coefficients"), strict=True):
        q, errors = quantities[row["quantity"]], report["mcse"][row["quantity"]]
        assert [float(row[f"value_{e}"]) for e in ends] == [q[e] for e in ends]
        checked += close(shown[2], q, errors)
    for name, entries, names in (
        ("budgets", report["budgets"], ("params", "tokens", "tokens_per_param", "loss")),
        ("sizes", report["sizes"], ("flops", "tokens", "tokens_per_param")),
    ):
        for row, shown, entry in zip(table(kit, name), printed_rows(kit, name), entries, strict=True):
            for k, quantity in enumerate(names):
                assert [float(row[f"{quantity}_{e}"]) for e in ends] == [entry[quantity][e] for e in ends]
                checked += close(shown[2 + k], entry[quantity], entry[quantity]["mcse"])
    by_budget = {e["flops"]: e for e in report["budgets"]}
    for entry in made["allocation"]:
        same = by_budget[entry["flops"]]
        assert all(same[n][e] == entry[n][e] for n in ("params", "tokens", "tokens_per_param", "loss") for e in ends)
    return checked


def close(cell, entry, errors):
    numbers = values_of(cell)
    assert len(numbers) == 3, cell
    for (value, unit), end in zip(numbers, ("median", "lower", "upper"), strict=True):
        assert abs(value - entry[end]) <= 0.5001 * unit, (cell, entry)
        one_digit = abs(value) < 10 * unit
        assert unit >= 0.999 * (errors[end] or 0) or one_digit, f"{cell}: a digit below {errors}"
    return 3


def numbers_in(document):
    """Every number of a document, wherever it stands."""
    if isinstance(document, dict):
        document = document.values()
    elif not isinstance(document, list):
        try:
            return {float(document)}
        except (TypeError, ValueError):
            return set()
    return set().union(*map(numbers_in, document))


def check_tables(kit):
    """Every number of every table: in CSV it is one of the document's to the last bit, in print to its digits."""
    known, checked = numbers_in(document_of(kit)), 0
    for name in kit.tables:
        rows = table(kit, name)
        for row, shown in zip(rows, printed_rows(kit, name), strict=True):
            cells = iter(shown)
            columns = list(row)
            while columns:
                key = columns.pop(0)
                values = [row[key]]
                if key.endswith("_median"):
                    values += [row[columns.pop(0)] for _ in ("lower", "upper")]
                cell = next(cells)
                try:
                    values = [float(v) for v in values if v]
                except ValueError:
                    continue  # text
                assert set(values) <= known, (name, key, values)
                printed = values_of(cell.replace("\\*", ""))
                if values and printed and not re.match(r"[<>]|&[lg]t;", cell):
                    scale = 100 if cell.endswith("%") else 1
                    for value, (said, unit) in zip(values, printed, strict=True):
                        assert math.isclose(said, scale * value, rel_tol=0, abs_tol=0.5001 * unit), (name, key, cell)
                checked += len(values)
    return checked


def check_notations(kit):
    """Every number of every table in LaTeX and in HTML is that of Markdown; returns how many."""
    page, checked = (kit.folder / "report.html").read_text(encoding="utf-8"), 0
    for name in kit.tables:
        latex = (kit.folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        body = [line for line in latex.split(r"\midrule")[-1].split(r"\bottomrule")[0].splitlines() if "&" in line]
        if name in ("priors", "checks", "checklist"):  # text
            continue
        part = page.split(f'id="table-{name}"')[1].split("</figure>")[0]
        cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in part.split("<tbody>")[1].split("<tr>")[1:]]
        for shown, line, row in zip(printed_rows(kit, name), body, cells, strict=True):
            printed = [values_of(c.replace("\\*", "")) for c in shown[1:]]
            tidy = re.sub(r"\$?(-?[\d.]+)\\times 10\^\{(-?\d+)\}\$?", r"\1e\2", line.replace(r"\,", ""))
            tidy = re.sub(r"\$10\^\{(-?\d+)\}\$", r"1e\1", tidy).rstrip("\\ ")
            tidy = re.sub(r"\$(-[\d.]+)\$", r"\1", tidy).replace("*", "")
            assert [values_of(c) for c in re.split(r"(?<!\\) & ", tidy)[1:]] == printed, (name, line)
            plain = [re.sub(r"×10<sup>(−?\d+)</sup>", r"e\1", c).replace("−", "-").replace("*", "") for c in row[1:]]
            plain = [re.sub(r"(?<![\d])10<sup>(-?\d+)</sup>", r"1e\1", c) for c in plain]
            assert [values_of(c) for c in plain] == printed, (name, row)
            checked += sum(map(len, printed))
    return checked
