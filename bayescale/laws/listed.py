"""Laws that are not built yet, and entries of the catalogue that are examples of a law that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bayescale.laws.registry import LAWS


@dataclass(frozen=True)
class Planned:
    """A law that is listed but not built: its name, title, tier, family and sources on arXiv."""

    name: str
    title: str
    tier: int
    family: str
    arxiv: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """An entry that needs no law of its own: specifications of the law that it is an example of, and what each is."""

    name: str
    title: str
    tier: int
    family: str
    of: str
    arxiv: tuple[str, ...]
    cases: Mapping[str, str] = field(default_factory=dict)
    advice: str = ""


_LISTED = (
    Planned("ppl_piecewise", "Piecewise power law for few-shot regimes", 2, "univariate", ("2303.01598",)),
    Planned("lc_zoo", "Other learning-curve forms", 3, "univariate", ("2103.10948", "2201.12150")),
    Planned("chinchilla_gamma", "Chinchilla with outer exponent", 3, "N-D loss", ("2502.08606",)),
    Planned("farseer", "Farseer: data exponent depends on size", 3, "N-D loss", ("2506.10972",)),
    Planned("inverse_clip", "Token length against model size", 3, "multi-axis loss", ("2306.15658",)),
    Planned("multi_power_law", "Multi-power law of schedules", 3, "trajectory", ("2503.12811",)),
    Planned("surge_lr", "Surge law of the learning rate", 2, "hyperparameters", ("2405.14578", "2307.13813")),
    Planned("carbs", "Hyperparameter optimum against cost", 3, "hyperparameters", ("2306.08055",)),
    Planned("deepseek_hparams", "Learning rate and batch size against compute", 3, "hyperparameters", ("2401.02954",)),
    Planned("data_pruning", "Scaling with pruned data", 2, "data", ("2206.14486", "2302.06960")),
    Planned("model_collapse", "Scaling with synthetic data", 2, "data", ("2402.07043", "2402.07712")),
    Planned("projektor", "Performance from optimal-transport distance", 2, "data", ("2307.02460",)),
    Planned("qqt_filter", "Quality against quantity with decaying utility", 2, "data", ("2404.07177",)),
    Planned("bimix", "BiMix bivariate mixing law", 3, "data", ("2405.14908",)),
    Planned("multilingual_mix", "Multilingual effective capacity", 3, "data", ("2302.09650",)),
    Planned("transfer_effective_data", "Effective data transferred", 3, "data", ("2102.01293",)),
    Planned("distillation", "Distillation scaling law", 2, "architecture", ("2502.08606",)),
    Planned("joint_moe", "Joint law of mixtures of experts", 3, "architecture", ("2502.05172",)),
    Planned("krajewski_moe", "Fine-grained mixtures of experts", 3, "architecture", ("2402.07871",)),
    Planned("parscale", "Parallel scaling law", 3, "architecture", ("2505.10475",)),
    Planned("precision", "Precision law", 3, "architecture", ("2411.04330",)),
    Planned("vocabulary", "Vocabulary scaling law", 3, "architecture", ("2407.13623",)),
    Planned("metric_transform", "From token likelihood to a sharp metric", 2, "downstream", ("2304.15004",)),
    Planned("obs_scaling", "Observational scaling of benchmarks", 2, "downstream", ("2405.10938",)),
    Planned("sloth", "Skills of model families", 3, "downstream", ("2412.06540",)),
    Planned(
        "test_time_gap", "Gap between verified and unverified sampling", 3, "test-time", ("2502.12118", "2501.09732")
    ),
    Planned("board_games", "Elo frontier in compute and board size", 2, "RL", ("2104.03113",)),
    Planned("value_rl", "Data, batch and learning rate of value-based RL", 2, "RL", ("2502.04327",)),
    Planned("algorithmic_progress", "Vintage law of algorithmic progress", 2, "progress", ("2403.05812",)),
    Planned("theory_exponents", "Exponents from theory", 2, "theory", ("2310.02258", "2401.08865", "2210.16859")),
    Planned("information_capacity", "Information-capacity identity", 3, "theory", ("2411.00660",)),
)

#: Entries of the catalogue by name that are specifications of a built law.
EXAMPLES: dict[str, Example] = {
    e.name: e
    for e in (
        Example(
            name="generic_other_axis",
            title="Power laws on other axes",
            tier=2,
            family="univariate",
            of="power_law_offset",
            arxiv=("2404.02973", "2404.11568", "2409.16040", "2410.12360", "2403.02545", "1711.02846", "2309.14322"),
            cases={
                "power_law_offset:x=galaxies,y=error": "error of galaxy classifiers against labelled galaxies",
                "power_law_offset:x=molecules,y=error": "error of graph networks against molecules in pre-training",
                "power_law_offset:x=series": "loss of time-series models against training points",
                "power_law_offset:x=interactions": "loss of recommenders against interactions",
                "power_law_offset:x=width": "loss against width alone",
            },
            advice="Name the column with x=. A quantity that grows with x, such as the largest attention logit (about "
            "1e4 at the onset of instability), needs a prior of either sign: --prior 'alpha=normal(0,.5)'.",
        ),
    )
}


def planned() -> list[Planned]:
    """The laws that are listed but not built; one that is built leaves the list by itself."""
    return [p for p in _LISTED if p.name not in LAWS]
