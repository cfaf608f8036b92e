"""Before sampling: can this table answer what the law asks?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import FAR, largest_compute
from bayescale.errors import BayescaleError, Finding, RunsError, worst
from bayescale.law import Law, PooledLaw, Spread
from bayescale.laws import LAWS, find_law
from bayescale.model import Model, build_model, compiled, double_precision
from bayescale.noise import LINKS
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, distinct

if TYPE_CHECKING:
    import pandas as pd

#: Two scales whose logs are tied by a line within this (natural-log) residual move together.
RAY_WIDTH = 0.05
#: Above this ratio of a budget to the largest run nothing in the table bears on the answer: the verdict is fail.
ABSURD = 1e3
#: Share of the prior's standard deviation that a design leaves an exponent, at typical noise.
WEAK, UNIDENTIFIED = 0.4, 0.7
_PRIOR_DRAWS = 64


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor found: the findings, and the status over all of them."""

    findings: tuple[Finding, ...]
    law: str
    source: str

    @property
    def status(self) -> str:
        """ "pass", "warn" or "fail"."""
        return worst(self.findings)

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Findings that forbid fitting."""
        return tuple(f for f in self.findings if f.refuses)

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
    model = build_model(law, runs, noise=noise, group="none", fix=fix, tie=tie)
    findings = [_rows(model), *_distinct(model)]
    if not any(f.refuses for f in findings):
        findings += _rays(model)
        design = _sensitivity(model)
        if design is not None:
            findings += [_identified(model, design), *_recipes(model, design)]
    findings += _compute(runs, flops)
    return Diagnosis(tuple(findings), law.spec, runs.source)


def require_answerable(diagnosis: Diagnosis, runs: Runs) -> None:
    """Raise `RunsError` for the first finding that forbids fitting."""
    for f in diagnosis.refusals:
        code = {"rows": "BS-R020", "distinct-inputs": "BS-R017", "design-ray": "BS-R018"}.get(f.code, "BS-F002")
        message, _, remedy = f.message.partition(" → ")
        raise RunsError(message, code=code, file=runs.source, remedy=remedy or None)


def _law_slots(model: Model) -> list[Any]:
    names = {p.name for p in model.law.coordinates()} | {p.name for p in model.law.parameters}
    return [s for s in model.structure.coordinates.slots if s.parameter.name in names]


def _rows(model: Model) -> Finding:
    parameters = sum(1 if isinstance(s.parameter.pooled, Spread) else s.size for s in _law_slots(model))
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
    found: list[tuple[int, str]] = []
    for name, entry in LAWS.items():
        if "x" not in entry.options:
            continue
        for column in varied:
            try:
                law = find_law(name, x=column)
            except BayescaleError:
                continue
            if law.floor and law.responses[0] == model.law.responses[0]:
                found.append((len(law.coordinates()), f"{name}:x={column}"))
    specs = [f"--law {spec}" for _, spec in sorted(found, key=lambda f: f[0])[:2]]  # those with the fewest parameters
    return f"Fit {' or '.join(specs)} instead." if specs else "Vary it."


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
                    f"the loss along this ray → {_simpler(model)} Three runs off the ray, at a quarter and at four "
                    f"times its {other}, would tell them apart.",
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


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """How the law reacts at the rows, for draws of the prior, in the prior's own standard deviations.

    `jacobian` is d(link of mean)/dz, shape (draws, rows, coordinates); `gradients` holds d(quantity)/dz by name.
    """

    jacobian: np.ndarray
    gradients: Mapping[str, np.ndarray]
    noise: float

    def left(self, name: str, rows: np.ndarray | None = None) -> float:
        """The share of the prior sd of a quantity that (some) rows leave, at typical noise; median over draws."""
        J = self.jacobian if rows is None else self.jacobian[:, rows]
        g = self.gradients[name]
        precision = np.eye(J.shape[2]) + np.einsum("drk,drl->dkl", J, J) / self.noise**2
        after = np.einsum("dk,dk->d", g, np.linalg.solve(precision, g[..., None])[..., 0])
        return float(np.median(np.sqrt(after / np.einsum("dk,dk->d", g, g))))

    def singular_values(self) -> np.ndarray:
        """Singular values in units of the noise, median over draws: below 1 the prior knows more than the design."""
        return np.median(np.linalg.svd(self.jacobian, compute_uv=False), axis=0) / self.noise


def _sensitivity(model: Model) -> Sensitivity | None:
    """The Jacobian over the prior, or None for laws with an exact likelihood."""
    import jax
    import jax.numpy as jnp

    structure, responses = model.structure, model.law.responses
    if model.law.likelihood is not None:
        return None
    slots = _law_slots(model)
    keep = np.concatenate([np.arange(s.start, s.start + s.size) for s in slots])
    names = [*(n for n in ("a",) if n in model.law.derived), *exponents_of(model.law)]

    def rows(z, data):
        """The link of every mean, in units of the first response's noise; nothing where a row observes another."""
        values, total = structure.values(z, data), 0.0
        for r in responses:
            size = responses[0].noise_scale / r.noise_scale
            means = size * LINKS[r.support].forward(structure.means(values, data, r))
            total = total + jnp.where(data["responses"][r.name]["used"], means, 0.0)
        return total

    def quantities(z, data):
        values = structure.values(z, data)
        values = values | structure.coordinates.derived(values, data["references"])
        return {n: jnp.mean(jnp.log(values[n])) for n in names}

    def both(z, data):
        return jax.jacfwd(rows)(z, data), jax.jacfwd(quantities)(z, data)

    z = np.random.default_rng(0).standard_normal((_PRIOR_DRAWS, structure.coordinates.dimension))
    with double_precision():
        J, G = compiled(("sensitivity", structure.key), jax.vmap(both, (0, None)), z, model.data)(z, model.data)
    J = np.asarray(J)[:, : len(model.runs), keep]
    gradients = {n: np.asarray(g)[:, keep] for n, g in G.items()}
    finite = np.isfinite(J).all(axis=(1, 2))
    for g in gradients.values():
        finite &= np.isfinite(g).all(axis=1)
    gradients = {n: g[finite] for n, g in gradients.items() if np.abs(g[finite]).max(initial=0) > 0}
    return Sensitivity(J[finite], gradients, responses[0].noise_scale)


def exponents_of(law: Law) -> list[str]:
    """The parameters that are exponents: those named by a contribution, or free of a unit and not the floor."""
    named = {e.removeprefix("-") for p in law.parameters for e in (p.at or {}).values()}
    return [p.name for p in law.parameters if p.name in named] or [
        p.name for p in law.parameters if p.unit == "1" and p.prior is not None and p.prior.support == "positive"
    ]


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
        if decades < np.log10(1.2):
            findings.append(
                Finding(
                    "one-isoflop",
                    "one compute budget",
                    "warn",
                    decades,
                    np.log10(1.2),
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
