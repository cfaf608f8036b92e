"""Laws of reinforcement learning."""

from math import log

from bayescale.law import Beta, Check, Input, Law, LogNormal, Parameter, Response
from bayescale.laws.references import KHATRI
from bayescale.laws.registry import catalogued


@catalogued(tier=1, family="RL")
def rl_sigmoid(compute: str = "gpu_hours") -> Law:
    """The pass rate along a run of reinforcement learning: a sigmoid in log compute (Khatri et al.)."""
    fitted = dict(R0=0.2, A=0.61, Cm=2000.0, B=1.2)
    return Law(
        name="rl_sigmoid",
        title="Sigmoid of reinforcement learning",
        equation=r"R(C) = R_0 + (A - R_0) / \left[1 + (C_m/C)^B\right]",
        mean=lambda C, R0, A, Cm, B: R0 + (A - R0) / (1 + (Cm / C) ** B),
        inputs=(Input("C", "GPU hours", "compute of the run so far", compute, reference=1e4),),
        parameters=(
            Parameter("R0", Beta(2.0, 6.0), "pass rate before training; fix it where measured", symbol="R_0"),
            Parameter("A", None, "pass rate at unlimited compute"),
            Parameter("Cm", None, "compute at half of the gain", unit="as C", symbol="C_m"),
            Parameter("B", LogNormal(log(1.2), 0.5), "efficiency: the slope in log-log before the middle"),
        ),
        sampled=(
            Parameter("gain", Beta(2.0, 2.0), "A - R0 as a share of 1 - R0"),
            Parameter("midpoint", LogNormal(0.0, 1.5), "C_m over C0"),
        ),
        natural={"A": lambda R0, gain: R0 + (1 - R0) * gain, "Cm": lambda midpoint, C0: midpoint * C0},
        inverse={"gain": lambda R0, A: (A - R0) / (1 - R0), "midpoint": lambda Cm, C0: Cm / C0},
        response=Response("pass_rate", "1", support="unit", meaning="mean pass rate held out", noise_scale=0.03),
        references=(KHATRI,),
        validity="One recipe; the paper leaves out the first 1,500 GPU hours. Points of one run are correlated: name "
        "it in a column `run`, or thin them.",
        relations=("sigmoid_compute with B the logit's slope", "power_law_offset far above C_m", "log_linear near C_m"),
        unidentified=("A and C_m apart until the run is past C_m: A is only bounded from below",),
        decisions=("which recipe to scale up", "when a run has gained what it can"),
        options={"compute": compute},
        checks=(Check("A = .61 at C = 1e4", dict(fitted, C=1e4), 0.558092),),
    )
