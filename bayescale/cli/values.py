"""Reading the values of options: name=value pairs, numbers with units, sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayescale.errors import BayescaleError, FitError, RunsError, nearest

if TYPE_CHECKING:
    from bayescale.posterior import Fit
    from bayescale.runs import Runs


def pairs(option: str, values: Sequence[str] | None) -> dict[str, str]:
    """`name=value` pairs of a repeated option; raises `BayescaleError` (BS-U001) for anything else."""
    made: dict[str, str] = {}
    for text in values or ():
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise BayescaleError(f"{option} takes name=value, got {text!r}", code="BS-U001")
        made[name.strip()] = value.strip()
    return made


def numbers(option: str, values: Sequence[str] | None) -> dict[str, float]:
    """`name=number` pairs of a repeated option."""
    return {k: number(option, v) for k, v in pairs(option, values).items()}


def number(option: str, text: str) -> float:
    """A number such as 1e21, 70B or 1.4T; neither infinite nor none."""
    x = budget(option, text)
    if not math.isfinite(x):
        raise BayescaleError(f"{option} takes a finite number such as 1e21 or 70B, got {text!r}", code="BS-U001")
    return x


def budget(option: str, text: str) -> float:
    """An amount of compute such as 1e21, which the verb that spends it refuses where it is none."""
    scale = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
    clean = text.strip().replace(",", "").replace("_", "")
    factor = scale.get(clean[-1:].lower(), 1.0)
    try:
        return float(clean[:-1] if factor != 1.0 else clean) * factor
    except ValueError:
        raise BayescaleError(f"{option} takes a number such as 1e21 or 70B, got {text!r}", code="BS-U001") from None


def one_fit(path: str) -> Fit:
    """The fit that a path names; raises `FitError` (BS-F004) for a batch, whose tables are asked one by one."""
    from bayescale.posterior import Batch, load_fit

    found = load_fit(path)
    if isinstance(found, Batch):
        raise FitError(
            f"holds {len(found)} tables of a batch, and this command asks one fit",
            code="BS-F004",
            file=path,
            remedy=f"In Python: bayescale.load_fit({path!r})[{found.names[0]!r}].",
        )
    return found


#: Options of reading that are not called as the flag that sets them.
_FLAGS = {"columns": "--column", "units": "--unit"}


def reading(
    where: str | None = None,
    drop_missing: bool = False,
    loss_unit: str | None = None,
    column: Sequence[str] | None = None,
    unit: Sequence[str] | None = None,
    rows_per_run: str | None = None,
    learning_rates: str | None = None,
) -> dict[str, Any]:
    """The options of reading as `read_runs` takes them."""
    return {
        "where": where,
        "drop_missing": drop_missing,
        "loss_unit": loss_unit,
        "columns": pairs("--column", column),
        "units": pairs("--unit", unit),
        "rows_per_run": rows_per_run,
        "learning_rates": learning_rates,
    }


def pool_of(text: str | None) -> str | dict[str, tuple[str, ...]] | None:
    """The value of `--pool`: a column, or a column and the parameters that differ by it."""
    if text is None:
        return None
    column, sign, names = text.partition("=")
    listed = tuple(n.strip() for n in names.split(",") if n.strip())
    if not column.strip() or (sign and not listed):
        raise BayescaleError(f"--pool takes COLUMN or COLUMN=A,B, got {text!r}", code="BS-U001")
    return {column.strip(): listed} if listed else column.strip()


def read_source(source: str, **reading: Any) -> Runs:
    """The runs of a bundled or downloadable data set, or of a file.

    Raises `RunsError` (BS-R037) when it is neither, naming data sets of a similar name.
    """
    from bayescale.datasets import DATASETS, load_runs
    from bayescale.reading import read_runs

    if source in DATASETS and not Path(source).is_file():
        taken = {k: reading.pop(k, None) for k in ("where", "rows_per_run", "learning_rates")}
        reading.pop("response", None)
        given = [k for k, v in reading.items() if v]
        if given:
            flag = _FLAGS.get(given[0], f"--{given[0].replace('_', '-')}")
            raise RunsError(
                f"{source} is a data set whose columns and units are known",
                code="BS-U001",
                remedy=f"Leave out {flag}, or give a file.",
            )
        return load_runs(source, **taken)
    if not Path(source).exists() and "/" not in source and "." not in source:
        raise RunsError(f"no file and no data set {source!r}", code="BS-R037", remedy=nearest(source, [*DATASETS]))
    return read_runs(source, **reading)


def least_flops(text: str | None) -> float | str | None:
    """The value of `--min-flops`: an amount of compute, "auto" or nothing."""
    return text if text in (None, "auto") else number("--min-flops", text)


def budgets_of(flops: Sequence[str] | None) -> tuple[float, ...]:
    """The budgets of a repeated `--flops`."""
    return tuple(budget("--flops", f) for f in flops or ())


def read_for(
    source: str, law: str, *, best: bool = False, group: str = "auto", pool: str | None = None, **reading: Any
) -> Runs:
    """The runs of a source, with the response that a law predicts; with `best`, of each design the best run alone.

    What was noted of columns that the law, `group` or `pool` uses is left out.
    """
    from bayescale.laws import find_law

    found = find_law(law)  # a law without a table of its own is refused by name when it is fitted
    runs = read_source(source, response=found.responses[0].source if found.kind == "model" else None, **reading)
    used = [*(p.over for p in (*found.parameters, *found.sampled) if p.over), *(g.strip() for g in group.split(","))]
    runs = runs.using([*used, (pool or "").partition("=")[0].strip()])
    if not best:
        return runs
    from bayescale.diagnostics import best_runs

    return best_runs(runs, found)
