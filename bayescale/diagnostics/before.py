"""Before sampling: can this table answer what the law asks?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import ABSURD, FAR, largest_compute, require_budgets
from bayescale.diagnostics.jacobian import Sensitivity, law_slots, sensitivity
from bayescale.diagnostics.sweeps import sweep_finding
from bayescale.errors import BayescaleError, Finding, RunsError, worst
from bayescale.law import Law, PooledLaw, Spread
from bayescale.laws import LAWS, find_law
from bayescale.model import Model, bounded_rows, build_model
from bayescale.model.observing import CUT, EXCESS, RANGE
from bayescale.noise import LINKS
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, distinct, short

if TYPE_CHECKING:
    import pandas as pd

#: Two scales whose logs are tied by a line within this (natural-log) residual move together.
RAY_WIDTH = 0.05
#: Share of the prior's standard deviation that a design leaves an exponent, at typical noise.
WEAK, UNIDENTIFIED = 0.4, 0.7
#: Runs whose compute spans fewer decades share one budget.
ONE_BUDGET = float(np.log10(1.2))


#: The findings that say whether a design tells the law's exponents apart.
IDENTIFIABILITY = ("rows", "distinct-inputs", "design-ray", "identified", "recipe-confounded", "one-isoflop")


@dataclass(frozen=True)
class ProposedRun:
    """A run worth training: parameters, tokens, its compute, and the recipe to follow where the table mixes several."""

    params: float
    tokens: float
    flops: float
    recipe: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The run as `--json` prints it."""
        return asdict(self)


def proposal(runs: Sequence[ProposedRun]) -> str:
    """A sentence that names runs."""
    told = ", ".join(f"{short(r.params)} on {short(r.tokens)} tokens" for r in runs)
    recipe = f" of {runs[0].recipe}" if runs[0].recipe else ""
    number = ("one run", "two runs", "three runs", "four runs", "five runs", "six runs")
    total = f"{sum(r.flops for r in runs):.2g}".replace("e+", "e")
    count = number[len(runs) - 1] if len(runs) <= len(number) else f"{len(runs)} runs"
    return f"Next {count}{recipe} that would help: {told} ({total} FLOP in all)."


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor found: the findings, the status over all of them, and what would settle those that fail."""

    findings: tuple[Finding, ...]
    law: str
    source: str
    asked: Mapping[str, Any] | None = None

    @property
    def status(self) -> str:
        """ "pass", "warn" or "fail"."""
        return worst(self.findings)

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Findings that forbid fitting."""
        return tuple(f for f in self.findings if f.refuses)

    @cached_property
    def next_runs(self) -> tuple[ProposedRun, ...]:
        """The smallest set of runs found that would let the design tell the exponents apart, cheapest first.

        Empty where it can already, and where no runs of other sizes and tokens within reach would do.
        """
        from bayescale.diagnostics.proposing import runs_that_identify

        if self.asked is None or all(f.status == "pass" for f in self.findings if f.code in IDENTIFIABILITY):
            return ()
        return runs_that_identify(**self.asked)

    def frame(self) -> pd.DataFrame:
        """One row a finding."""
        import pandas as pd

        return pd.DataFrame([f.to_json() for f in self.findings])

    def to_json(self) -> list[dict[str, Any]]:
        """The findings as `--json` prints them."""
        return [f.to_json() for f in self.findings]

    def __repr__(self) -> str:
        lines = [f"<Diagnosis of {self.source} for {self.law}: {self.status}"]
        lines += [f"  {f.status:4} {f.name}: {f.message}" for f in self.findings]
        if self.next_runs:
            lines.append(f"  {proposal(self.next_runs)}")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        return self.frame().to_html(index=False)


def doctor(
    runs: Runs,
    law: str | Law = "chinchilla",
    *,
    flops: Sequence[float] = (),
    fix: Mapping[str, float] | None = None,
    tie: Sequence[tuple[str, str]] = (),
    noise: str = "student_t",
) -> Diagnosis:
    """Check a table against a law before sampling: rows, distinct values, rays, budgets, what the design identifies.

    `flops` are the budgets that will be asked about; `fix` and `tie` are as in `fit` and count as known. Singular
    values are those of the Jacobian of log loss in the prior's own standard deviations, over draws of the prior.

    Raises `RunsError` (BS-R030) when the table lacks a column that the law needs.

    Example:
        >>> bs.doctor(bs.load_runs("byte-ladder"), "chinchilla").status  # doctest: +SKIP
        'pass'
    """
    law = find_law(law)
    flops = require_budgets(flops).tolist() if np.size(flops) else []
    fix, tie = without_groups(law, fix, tie)
    model = build_model(law, runs, noise=noise, group="none", fix=fix, tie=tie)
    asked = dict(runs=runs, law=law, fix=fix, tie=tie, noise=noise)
    return Diagnosis((*design_findings(model, flops), *response_findings(model)), law.spec, runs.source, asked)


def without_groups(
    law: Law, fix: Mapping[str, float] | None, tie: Sequence[tuple[str, str]]
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """What is fixed and tied of a model without groups: spreads of effects, correlations and cuts are not in it."""
    own = {p.name for p in (*law.parameters, *law.coordinates())}

    def there(name: str) -> bool:
        stem = name.split("_")[0]
        return name in own or not (stem == "tau" or stem in (RANGE.name, EXCESS.name, CUT.name))

    return {n: v for n, v in (fix or {}).items() if there(n)}, [(a, b) for a, b in tie if there(a) and there(b)]


def design_findings(model: Model, flops: Sequence[float] = ()) -> tuple[Finding, ...]:
    """What the doctor finds of the table of a model without groups."""
    runs, law = model.runs, model.law
    findings = [_rows(model), *_distinct(model)]
    if not any(f.refuses for f in findings):
        findings += _rays(model)
        design = sensitivity(model)
        if design is not None:
            findings += [_identified(model, design), *_recipes(model, design)]
    return (*findings, *sweep_finding(runs, law), *_compute(runs, flops))


def response_findings(model: Model) -> list[Finding]:
    """Responses that no run of the law could have: nothing where they are as they should be."""
    found, law = [], model.law
    for r in law.responses if law.likelihood is None else ():
        data = model.data["responses"][r.name]
        y = LINKS[r.support].inverse(data["y"][data["used"]])
        floor, sign = (law.floor or "").removeprefix("-"), -1 if (law.floor or "").startswith("-") else 1
        value = model.options["fix"].get(floor) if r is law.responses[0] else None
        if bounded_rows(r.source, model.runs).all():
            message = (
                f"every row tells only a bound of {r.name}, so nothing says what a tuned run reaches → Mark the runs "
                "that were tuned, or leave the column undertuned out."
            )
        elif len(y) > 2 and np.ptp(y) == 0:
            message = (
                f"every run has {r.name} = {y[0]:.4g}: nothing varies that a law could explain → Check the column."
            )
        elif isinstance(value, float | int) and (sign * y < sign * value).all():
            side, end = ("below", y.max()) if sign > 0 else ("above", y.min())
            message = (
                f"{floor} is fixed at {value:.4g}, and every {r.name} lies {side} it (up to {end:.4g}): no run can "
                "be on this law → Fix another value, or none."
            )
        else:
            continue
        found.append(Finding("responses", f"values of {r.name}", "fail", None, None, message, refuses=True))
    return found


def require_answerable(findings: Sequence[Finding], runs: Runs, next_runs: Sequence[ProposedRun] = ()) -> None:
    """Raise `RunsError` for the first finding that forbids fitting; its remedy names the runs to add, if any are."""
    for f in findings:
        if not f.refuses:
            continue
        code = {"rows": "BS-R020", "distinct-inputs": "BS-R017", "design-ray": "BS-R018", "responses": "BS-R002"}.get(
            f.code, "BS-F002"
        )
        message, _, remedy = f.message.partition(" → ")
        if next_runs and f.code in IDENTIFIABILITY:
            remedy = f"{remedy} {proposal(next_runs)}".strip()
        raise RunsError(message, code=code, file=runs.source, remedy=remedy or None)


def _rows(model: Model) -> Finding:
    parameters = sum(1 if isinstance(s.parameter.pooled, Spread) else s.size for s in law_slots(model))
    rows, needed = len(model.runs), parameters + 2
    if rows < needed:
        return Finding(
            "rows",
            "rows",
            "fail",
            rows,
            needed,
            f"{rows} rows for {parameters} parameters: the answer would be the prior → Add runs, fix or tie "
            "parameters (--fix, --tie), or choose a law with fewer.",
            refuses=True,
        )
    return Finding("rows", "rows", "pass", rows, needed, f"{rows} rows for {parameters} parameters")


def _distinct(model: Model) -> list[Finding]:
    findings = []
    if model.law.likelihood is not None:
        return []  # counts at one setting already say what an exact likelihood asks
    for i in model.law.inputs:
        values = model.inputs[i.name].reshape(len(model.runs), -1)
        counts = [distinct(values[:, k]) for k in range(values.shape[1])]
        fewest = max(counts) if i.per == "run" else min(counts)  # schedules begin alike
        if fewest == 1:
            others = ", ".join(j.name for j in model.law.inputs if j.name != i.name) or "nothing else"
            findings.append(
                Finding(
                    "distinct-inputs",
                    f"distinct {i.name}",
                    "fail",
                    1,
                    2,
                    f"all runs have the same {i.name}: its exponent and coefficient are not identified, only how the "
                    f"loss depends on {others} → {_simpler(model)}",
                    refuses=True,
                )
            )
        else:
            few = fewest < 3
            findings.append(
                Finding(
                    "distinct-inputs",
                    f"distinct {i.name}",
                    "warn" if few else "pass",
                    fewest,
                    3,
                    f"{fewest} distinct values of {i.name}"
                    + (": two points cannot show a curve; its exponent leans on the prior" if few else ""),
                )
            )
    return findings


def _simpler(model: Model) -> str:
    """The one-variable laws that this table supports, named from the catalogue."""
    varied = [c for c in ("params", "tokens", "flops") if model.runs.has(c) and distinct(model.runs.values(c)) >= 3]
    specs = [f"--law {spec}" for c in varied for spec in laws_along(model.law, c)[:1]]
    return f"Fit {' or '.join(specs)} instead." if specs else "Vary it."


def laws_along(law: Law, column: str, rows: int | None = None) -> list[str]:
    """The catalogue's laws of the same response along one column that so many rows support, the simplest with a floor
    first.
    """
    found: list[tuple[bool, int, str]] = []
    for name, entry in LAWS.items():
        if "x" not in entry.options:
            continue
        try:
            other = find_law(name, x=column)
        except BayescaleError:
            continue
        count = len(other.coordinates())
        one = len(other.inputs) == 1 and not other.inputs[0].dims and other.likelihood is None
        if one and other.responses[0] == law.responses[0] and (rows is None or rows >= count + 2):
            found.append((not other.floor, count, f"{name}:x={column}"))
    return [spec for _, _, spec in sorted(found)]


def _rays(model: Model) -> list[Finding]:
    """Pairs of scales tied by a line in logs: a ray D = kN^p, or a single IsoFLOP budget (p = -1)."""
    scales = _scales_withexponents_of(model)
    findings = []
    for k, (one, x) in enumerate(scales):
        for other, y in scales[k + 1 :]:
            slope, level = np.polyfit(x, y, 1)
            width = float(np.std(y - slope * x - level))
            if width >= RAY_WIDTH:
                continue
            if {one, other} == {"N", "D"} and abs(slope + 1) < 0.1:
                continue  # an IsoFLOP budget, told by its own check
            factor = np.exp(level)
            along = f"{other} = {factor:.3g} {one}" + (f"^{slope:.2g}" if abs(slope - 1) > 0.02 else "")
            findings.append(
                Finding(
                    "design-ray",
                    f"{one} against {other}",
                    "fail",
                    width,
                    RAY_WIDTH,
                    f"all runs lie on {along}: the exponents of {one} and {other} cannot be told apart, only "
                    f"the loss along this ray → {_simpler(model)}",
                    refuses=True,
                )
            )
    if len(scales) > 1 and not findings:
        findings.append(
            Finding("design-ray", "inputs move apart", "pass", None, RAY_WIDTH, "inputs vary apart from each other")
        )
    return findings


def _scales_withexponents_of(model: Model) -> list[tuple[str, np.ndarray]]:
    """The logs of the scales that the law raises to exponents of their own, by name."""
    own = {axis for p in model.law.parameters for axis in (p.at or {})} | {"N", "D"}
    found: list[tuple[str, np.ndarray]] = []
    for i in model.law.inputs:
        if i.centre != "ratio" or i.per or not (i.dims or i.name in own):
            continue
        values = np.log(model.inputs[i.name])
        if not i.dims:
            found.append((i.name, values))
        elif values.ndim == 2:
            found += [(c, values[:, k]) for k, c in enumerate(i.columns(model.runs.columns))]
    return found


def _identified(model: Model, design: Sensitivity) -> Finding:
    shares = {n: design.left(n) for n in design.gradients}
    values = design.singular_values()
    told = ", ".join(f"{n} {s:.0%}" for n, s in shares.items())
    weak = int((values < 1).sum())
    if not shares:  # no exponent is free: only directions can be counted
        known = len(values) - weak
        sentence = f"the design knows {known} of {len(values)} directions better than the prior, at typical noise"
        return Finding("identified", "identified by the design", "pass" if known else "fail", known, 1, sentence)
    name = next(iter(shares))
    share = shares[name]
    sentence = f"the design leaves of the prior's spread: {told}, at {design.noise:.0%} noise" + (
        f"; {weak} of {len(values)} directions are known better by the prior" if weak else ""
    )
    status = "fail" if share > UNIDENTIFIED else "warn" if share > WEAK else "pass"
    if status == "fail":
        sentence += f". {name} would be the prior's: vary the inputs apart, over more than a decade"
    elif status == "warn":
        sentence += f". Expect a wide interval of {name} that leans on the prior"
    return Finding("identified", "identified by the design", status, share, UNIDENTIFIED, sentence)


def _recipes(model: Model, design: Sensitivity) -> list[Finding]:
    """Whether any recipe alone identifies the exponents, where several are mixed."""
    runs = model.runs
    if isinstance(model.law, PooledLaw):  # recipes are in the law: what the design leaves of it says all
        return []
    if not runs.has("recipe") or not design.gradients:
        return []
    index, names = runs.labels("recipe")
    if len(names) < 2:
        return []
    quantity = next(iter(design.gradients))
    pooled = design.left(quantity)
    shares = [design.left(quantity, np.flatnonzero(index == k)) for k in range(len(names))]
    best = int(np.argmin(shares))
    message = f"{len(names)} recipes; the one that says most about {quantity} alone, {names[best]!r}, "
    message += f"leaves {shares[best]:.0%} of the prior's spread, all together {pooled:.0%}"
    if shares[best] <= UNIDENTIFIED:
        return [Finding("recipe-confounded", "recipe and design", "pass", shares[best], UNIDENTIFIED, message)]
    return [
        Finding(
            "recipe-confounded",
            "recipe and design",
            "fail",
            shares[best],
            UNIDENTIFIED,
            f"recipe and design are confounded: no recipe alone tells the exponents apart, only differences between "
            f"recipes do, and those may be anything ({message}). Vary N and D apart within one recipe, or fit a "
            f"one-variable law to each with --where",
        )
    ]


def _compute(runs: Runs, flops: Sequence[float]) -> list[Finding]:
    """Range of compute, a single budget, compute against 6ND, distance of the budgets asked about."""
    findings: list[Finding] = []
    largest = largest_compute(runs)
    if runs.has("flops") or (runs.has("params") and runs.has("tokens")):
        both = runs.has("params") and runs.has("tokens")
        product = FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens") if both else None
        C = runs.values("flops") if runs.has("flops") else product
        assert C is not None
        decades = float(np.ptp(np.log10(C)))
        if decades < ONE_BUDGET:
            findings.append(
                Finding(
                    "one-isoflop",
                    "one compute budget",
                    "warn",
                    decades,
                    ONE_BUDGET,
                    f"all runs share one budget ({np.median(C):.3g} FLOP): they show the best size at it, but no "
                    "exponent in C. Add runs at a second budget, ten times smaller or larger",
                )
            )
        findings.append(
            Finding(
                "compute-range",
                "range of compute",
                "warn" if decades < 1 else "pass",
                decades,
                1.0,
                f"compute spans {decades:.1f} decades"
                + (": under one decade the exponents lean on the prior" if decades < 1 else ""),
            )
        )
        completed = any(n.code == "BS-R050" for n in runs.notes)
        if product is not None and runs.has("flops") and not completed:
            ratio = C / product
            off = float(np.max(np.abs(ratio - 1)))
            findings.append(
                Finding(
                    "flops-convention",
                    "compute against 6ND",
                    "warn" if off > 0.05 else "pass",
                    float(np.median(ratio)),
                    1.05,
                    f"the table's compute is {ratio.min():.2f} to {ratio.max():.2f} times 6ND"
                    + (
                        ": allocations count 6ND; `bayescale allocate --cost table` counts as the runs did"
                        if off > 0.05
                        else ""
                    ),
                )
            )
    for budget in flops:
        ratio = float(budget) / largest
        far = ratio > FAR
        findings.append(
            Finding(
                "extrapolation",
                f"budget {budget:.3g}",
                "fail" if ratio > ABSURD else "warn" if far else "pass",
                ratio,
                FAR,
                f"{budget:.3g} FLOP is {ratio:.3g} times the largest run"
                + (": the law's form decides the answer, not the data" if far else ""),
            )
        )
    return findings
