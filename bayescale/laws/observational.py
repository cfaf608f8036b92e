"""Laws of benchmarks over model families: latent skills, observed and not controlled."""

from math import log

from bayescale.law import Beta, Check, Derived, HalfNormal, Law, Normal, Parameter, Response
from bayescale.laws.inputs import C
from bayescale.laws.references import RUAN
from bayescale.laws.registry import catalogued


def _score(C, C0, theta, nu_f, beta, alpha, h):
    import jax
    import jax.numpy as jnp

    return h * jax.nn.sigmoid(beta @ (theta * jnp.log(C / C0) + nu_f) + alpha)


def _loadings(loading):
    """Benchmark j loads on skills up to j, the j-th skill being in units of benchmark j: no rotation is left."""
    import jax.numpy as jnp

    return jnp.tril(loading, -1) + jnp.eye(*loading.shape, dtype=loading.dtype)


@catalogued(tier=2, family="downstream")
def obs_scaling(skills: int = 1) -> Law:
    """Benchmark scores from skills that grow with log compute at each family's own pace (Ruan et al.)."""
    return Law(
        name="obs_scaling",
        title="Observational scaling",
        equation=r"y_{fj} = h_j\,\sigma\left(\beta_j \cdot (\theta_f \ln(C/C_0) + \nu_f) + \alpha_j\right)",
        mean=_score,
        inputs=(C,),
        parameters=(
            # Skills are in logits of their first benchmark: a fifth to half a logit an e-fold of compute.
            Parameter("theta", Normal(0.3, 0.3), "slope", dims=("skill",), over="family", pooled=HalfNormal(0.7)),
            Parameter("nu_f", None, "efficiency, summing to zero over families", dims=("skill",), over="family"),
            Parameter("beta", None, "loadings", dims=("skill",), over="benchmark"),
            Parameter("alpha", Normal(0.0, 1.5), "difficulty", over="benchmark"),
            Parameter("h", Beta(8.0, 2.0), "best score", over="benchmark"),
        ),
        sampled=(
            Parameter("efficiency", Normal(0.0, 0.7), "nu_f before its mean is out", dims=("skill",), over="family"),
            Parameter("loading", Normal(1.0, 0.5), "free loadings", dims=("skill",), over="benchmark"),
        ),
        natural={"nu_f": lambda efficiency: efficiency - efficiency.mean(axis=0, keepdims=True), "beta": _loadings},
        inverse={"efficiency": lambda nu_f: nu_f, "loading": lambda beta: beta},
        response=Response("score", "1", support="unit", meaning="benchmark score", noise_scale=0.1),
        derived={
            "doubling": Derived(lambda theta: theta * log(2), "skill a doubling of compute", "1", ("skill",), "family")
        },
        dims={"skill": skills},
        references=(RUAN,),
        validity="One row a model and benchmark, scores strictly between 0 and 1 and off chance; families of three "
        "models or more that differ in compute, and benchmarks in alphabetical order, the first of which give the "
        "skills their units. Name the models in a column `run`: one better than its family's line is so on all.",
        relations=("sigmoid_compute for one family and benchmark",),
        unidentified=(
            "rotations of the skills, which the loadings fix",
            "theta of a family whose models are alike in compute",
        ),
        decisions=("the score of a larger model of a family", "which family turns compute into skill"),
        unverified="The sigmoid with a scale and shift is the released code's; it takes skills from principal "
        "components of eight benchmarks first (three, after filling gaps with one), and publishes no coefficients.",
        options={"skills": skills},
        checks=(
            Check(
                "one skill, ten times the reference",
                dict(h=1.0, beta=[1.0], theta=[0.3], C=10.0, C0=1.0, nu_f=[0.0], alpha=-1.0),
                0.423304,
            ),
        ),
    )
