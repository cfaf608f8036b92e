"""Laws of the loss along training: steps, batch sizes and learning-rate schedules."""

from math import log

from bayescale.law import Beta, Check, Decision, Derived, Input, Law, LogNormal, Parameter
from bayescale.laws.implicit import newton_root
from bayescale.laws.inputs import FLOOR, LOSS, N
from bayescale.laws.references import KAPLAN, LUO, MCCANDLISH, TISSUE
from bayescale.laws.registry import catalogued

_KAPLAN = dict(Nc=8.8e13, aN=0.076, Sc=2100.0, aS=0.76, Bstar=2e8, aB=0.21)


def critical_batch(L, Bstar, aB):
    """The critical batch size in tokens at loss L: B_crit = B* / L^(1/alpha_B) (Kaplan et al. 2020, equation 5.3)."""
    return Bstar * L ** (-1 / aB)


def _along_training(N, S, B, Nc, aN, Sc, aS, Bstar, aB):
    """L = (Nc/N)^aN + (Sc/S_min)^aS with S_min = S / (1 + B_crit(L)/B), solved for log L.

    log L less the log of the right side is concave and increasing, and negative at the loss of an unlimited batch.
    """
    import jax.numpy as jnp

    size, steps = aN * (jnp.log(Nc) - jnp.log(N)), aS * (jnp.log(Sc) - jnp.log(S))

    def excess(u):
        penalty = aS * jnp.logaddexp(0.0, jnp.log(Bstar) - u / aB - jnp.log(B))
        return u - jnp.logaddexp(size, steps + penalty)

    return jnp.exp(newton_root(excess, jnp.logaddexp(size, steps)))


@catalogued(tier=1, family="trajectory")
def kaplan_ns() -> Law:
    """The training curve of Kaplan et al., with steps corrected for the batch size; an implicit formula."""
    return Law(
        name="kaplan_ns",
        title="Kaplan L(N, S) with batch size",
        equation=r"L = (N_c/N)^{\alpha_N} + (S_c/S_\mathrm{min})^{\alpha_S}, "
        r"S_\mathrm{min} = S / (1 + B_\mathrm{crit}(L)/B), B_\mathrm{crit} = B_* L^{-1/\alpha_B}",
        mean=_along_training,
        inputs=(
            N,
            Input("S", "steps", "training steps so far", "step", reference=1e4),
            Input("B", "tokens", "batch size", "batch_tokens", reference=5e5),
        ),
        parameters=(
            Parameter("Nc", None, "size scale", unit="parameters", symbol="N_c"),
            Parameter("aN", LogNormal(log(0.08), 0.5), "size exponent", symbol=r"\alpha_N"),
            Parameter("Sc", None, "scale of steps", unit="steps", symbol="S_c"),
            Parameter("aS", LogNormal(log(0.7), 0.4), "exponent of steps", symbol=r"\alpha_S"),
            Parameter("Bstar", None, "critical batch size at a loss of 1", unit="tokens", symbol="B_*"),
            Parameter("aB", LogNormal(log(0.21), 0.3), "exponent of the critical batch size", symbol=r"\alpha_B"),
        ),
        sampled=(
            Parameter("Nc_ref", LogNormal(log(2.3), 0.7), "loss at N0 after unlimited steps", unit="response"),
            Parameter("Sc_ref", LogNormal(log(0.3), 1.0), "loss that S0 steps leave above it", unit="response"),
            # Stated where the loss is that of N0: a batch size then has no unit of loss in it.
            Parameter("B_ref", LogNormal(log(1.5e6), 1.2), "critical batch size at the loss Nc_ref", unit="tokens"),
        ),
        natural={
            "Nc": lambda Nc_ref, aN, N0: N0 * Nc_ref ** (1 / aN),
            "Sc": lambda Sc_ref, aS, S0: S0 * Sc_ref ** (1 / aS),
            "Bstar": lambda B_ref, Nc_ref, aB: B_ref * Nc_ref ** (1 / aB),
        },
        inverse={
            "Nc_ref": lambda Nc, aN, N0: (Nc / N0) ** aN,
            "Sc_ref": lambda Sc, aS, S0: (Sc / S0) ** aS,
            "B_ref": lambda Bstar, Nc_ref, aB: critical_batch(Nc_ref, Bstar, aB),
        },
        response=LOSS,
        derived={
            "alpha_C": Derived(
                lambda aS, aB, aN: 1 / (1 / aS + 1 / aB + 1 / aN), "exponent of the loss in compute, well allocated"
            ),
        },
        references=(KAPLAN, MCCANDLISH),
        validity="Losses after warm-up at a constant learning rate, before it decays; residuals along a run are "
        "correlated: name the run in a column `run`.",
        relations=("kaplan_nd has data in place of steps", "mccandlish_tradeoff at one loss", "power_law in N"),
        unidentified=(
            "Bstar and aB unless batch sizes straddle the critical one at losses that differ",
            "Nc and aN, Sc and aS trade off along a ridge when the range is short",
        ),
        decisions=("when to stop a run", "the batch size that wastes neither steps nor tokens"),
        decides=Decision(
            instead="What a step costs beside a token is not in it: `reach` with over='S' says how many steps a loss "
            "takes at a batch size, and B_crit(L) = Bstar L^(-1/aB) is the batch that wastes neither."
        ),
        unverified="Constants of Su et al. 2024 (arXiv:2403.06563), which refit the law, could not be checked: no text "
        "of the paper and no code with them was at hand. The check values are Kaplan's.",
        checks=(
            Check(
                "Kaplan at N = 1e9 and S_min = 1e5: an unlimited batch", dict(_KAPLAN, N=1e9, S=1e5, B=1e30), 2.42871
            ),
            Check("Kaplan's predicted exponent in compute", _KAPLAN, 0.051987, of="alpha_C"),
        ),
    )


#: Memory of the annealing area: lambda = .999 in Tissue et al., a memory of a thousand steps.
_MEMORY = 0.999


def annealing_areas(eta, t, lam):
    """The summed learning rate S1 and the annealing area S2 of a schedule recorded at steps t, rates linear between.

    S2 = sum_i m_i with m_i = lam m_(i-1) + (eta_(i-1) - eta_i), over the steps after the rate's peak (Tissue et al.
    2024); a segment of n steps and drop d adds d/n a step, summed in closed form. Segments of no steps add nothing.
    """
    import jax.numpy as jnp

    steps = jnp.diff(t, prepend=0.0)
    before = jnp.concatenate([jnp.zeros_like(eta[:1]), eta[:-1]])
    S1 = (steps * (before + eta) / 2 + (eta - before) / 2).sum()
    last = t[-1]
    some = jnp.maximum(steps, 1.0)
    # A drop at step i counts (1 - lam^(s - i + 1)) / (1 - lam) by step s; averaged over the steps of its segment.
    decay = lam ** (last - t + 1)
    mean_decay = decay * (1 - lam**some) / (some * (1 - lam))
    falls = jnp.where(steps > 0, jnp.maximum(before - eta, 0.0), 0.0)  # warm-up is no annealing
    return S1, (falls * (1 - mean_decay) / (1 - lam)).sum()


def _annealed(eta, t, L0, A, alpha, Cc, lam):
    S1, S2 = annealing_areas(eta, t, lam)
    return L0 + A * S1**-alpha - Cc * S2


@catalogued(tier=2, family="trajectory")
def lr_annealing() -> Law:
    """The loss along any learning-rate schedule, from the summed rate and the annealing area (Tissue et al.)."""
    return Law(
        name="lr_annealing",
        title="Learning-rate annealing law",
        equation=r"L(s) = L_0 + A\,S_1^{-\alpha} - C\,S_2",
        mean=_annealed,
        inputs=(
            Input("eta", "1", "learning rate", "lr", reference=3e-4, dims=("checkpoint",), per="run", centre="most"),
            Input("t", "steps", "step", "step", reference=1e4, dims=("checkpoint",), per="run", centre="none"),
        ),
        parameters=(
            Parameter("L0", FLOOR, "floor", unit="response", symbol="L_0"),
            # At a summed rate of 1: a peak of 3e-4 held for 3,300 steps.
            Parameter("A", LogNormal(log(0.6), 0.7), "what a summed rate of 1 leaves above the floor", unit="response"),
            Parameter("alpha", LogNormal(log(0.5), 0.4), "exponent of the summed rate"),
            Parameter("Cc", None, "loss a unit of annealing area", unit="response", symbol="C"),
            Parameter("lam", None, "share of the annealing momentum kept a step", symbol=r"\lambda"),
        ),
        sampled=(
            Parameter("forgotten", LogNormal(log(1e-3), 0.7), "1 - lambda: one over the memory in steps"),
            # An annealing area is at most the peak rate times the memory: the loss stays positive. Published: .05.
            Parameter("drop", Beta(1.5, 15.0), "loss in an abrupt decay to zero, as a share of L0", below="L0"),
        ),
        natural={
            "lam": lambda forgotten: 1 - forgotten,
            "Cc": lambda drop, forgotten, eta0: drop * forgotten / eta0.max(),
        },
        inverse={
            "forgotten": lambda lam: 1 - lam,
            "drop": lambda Cc, forgotten, eta0: Cc * eta0.max() / forgotten,
        },
        response=LOSS,
        floor="L0",
        references=(TISSUE, LUO),
        validity="Checkpoints of runs after warm-up, schedules recorded often enough to be linear between rows; at "
        "least one run at a constant rate. Residuals along a run are correlated: thin the checkpoints.",
        relations=("power_law_offset in steps at a constant rate",),
        unidentified=("L0 and C when every run is annealed fully", "lambda without schedules of unlike annealing"),
        decisions=("the schedule of the next run", "how much of a run to spend on annealing", "when to start it"),
        decides=Decision(instead="A schedule is a sequence: forecast the loss at the end of those in question."),
        checks=(
            # One step at a rate of S1 has no annealing; the drop of the annealed curve is checked beside it.
            Check(
                "100M model without its annealing: S1 = 3.92773",
                dict(L0=2.79366, A=0.587859, alpha=0.46039, Cc=0.479703, lam=_MEMORY, eta=[3.92773], t=[1.0]),
                2.97859 + 0.479703 * 0.267265,
            ),
        ),
    )
