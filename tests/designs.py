"""Every law of the catalogue with a design made from its declaration alone."""

import numpy as np
import pandas as pd

from bayescale.law import LOSS_UNITS, Law
from bayescale.laws import LAWS, find_law
from bayescale.runs import Runs

#: Every law as it comes, and with options that change its formula or inputs.
SPECS = [
    *LAWS,
    "kaplan_nd:floor=true",
    "power_law:x=tokens",
    "power_law_offset:x=params",
    "additive_power:axes=params+tokens+flops",
    "bnsl:x=tokens,y=error,breaks=3",
    "log_linear:y=elo",
    "chinchilla_a1:y=tokens",
    "isoflop_parabola:flattening=true",
    "isoflop_parabola:vertex=chinchilla",
    "chinchilla:over=eval",
    "mccandlish_tradeoff:over=model",
    "sigmoid_compute:counts=beta_binomial",
    "obs_scaling:skills=2",
    "data_mixing:over=eval",
]
TYPICAL = {"params": 1e9, "tokens": 2e10, "unique_tokens": 2e10, "flops": 1e21, "tokens_per_param": 20.0}
ROWS = 30
#: Laws that take a table; the others are computed from the posterior of one that does.
FITTED = [s for s in SPECS if find_law(s).kind == "model"]


def design(law: Law, unit: str, rows: int = ROWS) -> Runs:
    """Rows scattered over three decades around each input's reference, as the input's declaration says it is."""
    rng = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {}
    for i in law.inputs:
        if i.simplex:
            shares = rng.dirichlet([2.0] * 3, rows)
            columns |= {i.column.replace("*", str(k)): shares[:, k] for k in range(3)}
            continue
        for column in i.column.split("+"):
            middle = i.reference or TYPICAL.get(column, 1.0)
            if i.unit in LOSS_UNITS:  # a loss is in the table's unit
                middle *= LOSS_UNITS[unit].per_nat / LOSS_UNITS[i.unit].per_nat
            spread = rng.uniform(-1, 1, rows)
            columns[column] = {
                "ratio": middle * 10 ** (1.5 * spread),
                "difference": middle + 3 * spread,
                "least": middle * (1.5 + spread / 2),
                "most": middle * (1 + spread) / 2,
                "none": middle * (1 + spread) / 2,
            }[i.centre]
            if column == "tokens_per_param":  # a table computes it
                columns["params"] = 10 ** rng.uniform(8, 10, rows)
                columns["tokens"] = columns["params"] * columns.pop(column)
        if i.per == "run":
            columns["run"] = np.repeat(["a", "b", "c"], rows // 3)
    for p in (*law.parameters, *law.sampled):
        if p.over:
            columns[p.over] = np.resize(["a", "b", "c", "d", "e"], rows)
    for r in law.responses:
        columns[r.source] = np.full(rows, 0.5 if r.support == "unit" else 1.0)
    if len(law.responses) > len({r.source for r in law.responses}):
        columns["response"] = np.resize([r.name for r in law.responses], rows)
    return Runs(pd.DataFrame(columns), "design", loss_unit=unit)


def own_unit(law: Law) -> str:
    """The unit of loss that a law declares, or nats per token where it predicts none."""
    own = law.responses[0].unit
    return own if own in LOSS_UNITS else "nats/token"
