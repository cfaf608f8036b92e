"""The tables that compare recipes: compute multipliers, and whether curves cross."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayescale.posterior import Fit
from bayescale.reporting.cells import Column, Table, heading, interval, power, text
from bayescale.reporting.columns import BEYOND_NOTE, beyond, chance, kind_of


def multipliers(fit: Fit, found: Mapping[str, Any]) -> Table:
    """The compute multiplier of every pair of recipes."""
    rows = tuple(
        (
            text(f"{y} over {x}"),
            power(e["flops"]),
            beyond(e["extrapolation_ratio"]),
            interval(e),
            chance(e["p_better"]),
        )
        for pair in found["pairs"]
        for x, y in [pair["between"]]
        for e in pair["multiplier"]
    )
    axis = found["axis"]
    return Table(
        "multiplier",
        text(
            f"Multipliers of {axis['meaning']} between levels of {found['column']}: how many times as much the second "
            f"needs to do as well as the first, with {kind_of(fit)} intervals."
        ),
        (
            Column("between", heading("")),
            Column("flops", heading(axis["name"], axis["unit"])),
            Column("extrapolation_ratio", heading("× largest run")),
            Column("multiplier", heading("multiplier"), interval=True),
            Column("p_better", heading("P(better)")),
        ),
        rows,
        (
            text("P(better): share of the posterior in which the first has the lower loss at that compute."),
            text(BEYOND_NOTE),
        ),
    )


def crossings(found: Mapping[str, Any]) -> Table:
    """Whether the curves of a pair of recipes cross, and what of the answer its prior holds."""
    rows = []
    for pair in found["pairs"]:
        x, y = pair["between"]
        c = pair["crossing"]
        shares = [f"{name}: {100 * v:.0f}%" for name, v in pair["prior_share"].items() if v is not None]
        rows.append(
            (
                text(f"{y} and {x}"),
                *(text("–") if c["impossible"] else chance(c[k]) for k in ("inside", "beyond", "never")),
                text("shared: they cannot cross" if c["impossible"] else "may differ"),
                text("; ".join(shares) or "–"),
            )
        )
    return Table(
        "crossings",
        text("Probability that two curves cross: among the runs, above them, or never."),
        (
            Column("between", heading("")),
            Column("p_inside", heading("among the runs")),
            Column("p_beyond", heading("above them")),
            Column("p_never", heading("never")),
            Column("slopes", heading("slopes")),
            Column("prior_share", heading("held by the prior")),
        ),
        tuple(rows),
    )
