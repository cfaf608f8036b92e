"""The papers that the catalogue's laws come from, each named once."""

from bayescale.law import Reference

BESIROGLU = Reference(
    "Besiroglu, Erdil, Barnett and You", 2024, "Chinchilla Scaling: A replication attempt", "2404.10102"
)
BORDELON = Reference("Bordelon, Atanasov and Pehlevan", 2024, "A Dynamical Model of Neural Scaling Laws", "2402.01092")
DEY = Reference("Dey et al.", 2023, "Cerebras-GPT", "2304.03208")
GADRE = Reference(
    "Gadre et al.", 2024, "Language models scale reliably with over-training and on downstream tasks", "2403.08540"
)
HENIGHAN = Reference("Henighan et al.", 2020, "Scaling Laws for Autoregressive Generative Modeling", "2010.14701")
HESTNESS = Reference("Hestness et al.", 2017, "Deep Learning Scaling is Predictable, Empirically", "1712.00409")
HOFFMANN = Reference("Hoffmann et al.", 2022, "Training Compute-Optimal Large Language Models", "2203.15556")
KAPLAN = Reference("Kaplan et al.", 2020, "Scaling Laws for Neural Language Models", "2001.08361")
MCLEISH = Reference("McLeish et al.", 2025, "Gemstones", "2502.06857")
MUENNIGHOFF = Reference("Muennighoff et al.", 2023, "Scaling Data-Constrained Language Models", "2305.16264")
