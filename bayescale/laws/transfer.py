"""Laws from one loss to another."""

from bayescale.law import Beta, Check, Input, Law, LogNormal, Parameter
from bayescale.laws.inputs import FLOOR, LOSS
from bayescale.laws.references import BRANDFONBRENER
from bayescale.laws.registry import catalogued


@catalogued(tier=1, family="transfer")
def loss_to_loss() -> Law:
    """The loss on one data set from that on another: a power law shifted by both floors (Brandfonbrener et al.)."""
    return Law(
        name="loss_to_loss",
        title="Loss-to-loss shifted power law",
        equation=r"L_1 = E_1 + K (L_0 - E_0)^{\kappa}",
        mean=lambda L0, K, kappa, E0, E1: K * (L0 - E0) ** kappa + E1,
        inputs=(Input("L0", "nats/token", "loss on the first data set", "loss_0", reference=2.5, centre="least"),),
        parameters=(
            Parameter("K", None, "scale: 1 where both losses fall alike"),
            Parameter("kappa", LogNormal(0.0, 0.3), "ratio of the exponents: 1 where the relation is affine"),
            Parameter("E0", None, "floor of the first loss", unit="response", symbol="E_0"),
            Parameter("E1", FLOOR, "floor of the second loss", unit="response", symbol="E_1"),
        ),
        sampled=(
            Parameter("share", Beta(6.0, 3.0), "E0 as a share of the smallest L0"),
            # Train-to-train fits have K of .6 to 1.07 and kappa of .97 to 1.1; train-to-test .93 to 4.7 and .36 to 1.1.
            Parameter("K_ref", LogNormal(0.0, 0.5), "K where losses are in units of the smallest L0"),
        ),
        natural={"E0": lambda share, L00: share * L00, "K": lambda K_ref, kappa, L00: K_ref * L00 ** (1 - kappa)},
        inverse={"share": lambda E0, L00: E0 / L00, "K_ref": lambda K, kappa, L00: K * L00 ** (kappa - 1)},
        response=LOSS,
        floor="E1",
        references=(BRANDFONBRENER,),
        validity="Pairs of losses of the same models (or, train to train, of models of the same compute). L0 is taken "
        "as exact: its own noise, some tenths of a percent, is absorbed by sigma.",
        relations=("power_law_offset in compute, twice, with kappa the ratio of their exponents", "pow4 in form"),
        unidentified=("E0, E1 and kappa trade off: a fit of each loss's floor, fixed here, settles them",),
        decisions=("which data set to train on for a target task", "the loss of a large run on another data set"),
        checks=(
            Check("FineWeb-Edu 2.6 to StarCoder", dict(K=0.63, L0=2.6, E0=1.97, kappa=1.1, E1=0.85), 1.22898),
            Check("FineWeb-Edu 2.6 to Hellaswag", dict(K=0.93, L0=2.6, E0=1.97, kappa=1.08, E1=2.12), 2.68464),
        ),
    )
