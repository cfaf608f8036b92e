"""The papers that the catalogue's laws come from, each named once."""

from bayescale.law import Reference

ABNAR = Reference(
    "Abnar et al.",
    2025,
    "Parameters vs FLOPs: Scaling Laws for Optimal Sparsity for Mixture-of-Experts Language Models",
    "2501.12370",
)
ALABDULMOHSIN = Reference(
    "Alabdulmohsin et al.", 2022, "Revisiting Neural Scaling Laws in Language and Vision", "2209.06640"
)
BESIROGLU = Reference(
    "Besiroglu, Erdil, Barnett and You", 2024, "Chinchilla Scaling: A replication attempt", "2404.10102"
)
BHAGIA = Reference(
    "Bhagia et al.", 2024, "Establishing Task Scaling Laws via Compute-Efficient Model Ladders", "2412.04403"
)
BJORCK = Reference("Bjorck et al.", 2024, "Scaling Optimal LR Across Token Horizons", "2409.19913")
BORDELON = Reference("Bordelon, Atanasov and Pehlevan", 2024, "A Dynamical Model of Neural Scaling Laws", "2402.01092")
BRANDFONBRENER = Reference(
    "Brandfonbrener et al.", 2024, "Loss-to-Loss Prediction: Scaling Laws for All Datasets", "2411.12925"
)
BROWN = Reference("Brown et al.", 2024, "Large Language Monkeys", "2407.21787")
CABALLERO = Reference("Caballero et al.", 2022, "Broken Neural Scaling Laws", "2210.14891")
CLARK = Reference("Clark et al.", 2022, "Unified Scaling Laws for Routed Language Models", "2202.01169")
DEY = Reference("Dey et al.", 2023, "Cerebras-GPT", "2304.03208")
FRANTAR = Reference("Frantar et al.", 2023, "Scaling Laws for Sparsely-Connected Foundation Models", "2309.08520")
GADRE = Reference(
    "Gadre et al.", 2024, "Language models scale reliably with over-training and on downstream tasks", "2403.08540"
)
GUO = Reference("Guo", 2024, "More Compute Is What You Need", "2404.19484")
HENDRYCKS = Reference(
    "Hendrycks et al.", 2021, "Measuring Mathematical Problem Solving With the MATH Dataset", "2103.03874"
)
HENIGHAN = Reference("Henighan et al.", 2020, "Scaling Laws for Autoregressive Generative Modeling", "2010.14701")
HESTNESS = Reference("Hestness et al.", 2017, "Deep Learning Scaling is Predictable, Empirically", "1712.00409")
HOFFMANN = Reference("Hoffmann et al.", 2022, "Training Compute-Optimal Large Language Models", "2203.15556")
HU = Reference("Hu et al.", 2023, "Predicting Emergent Abilities with Infinite Resolution Evaluation", "2310.03262")
INBAR = Reference("Inbar and Sernau", 2024, "Time Matters: Scaling Laws for Any Budget", "2406.18922")
JONES = Reference("Jones", 2021, "Scaling Scaling Laws with Board Games", "2104.03113")
KAPLAN = Reference("Kaplan et al.", 2020, "Scaling Laws for Neural Language Models", "2001.08361")
KHATRI = Reference("Khatri et al.", 2025, "The Art of Scaling Reinforcement Learning Compute for LLMs", "2510.13786")
LEVI = Reference("Levi", 2024, "A Simple Model of Inference Scaling Laws", "2410.16377")
LI = Reference(
    "Li et al.", 2025, "Predictable Scale: Part I, Optimal Hyperparameter Scaling Law in LLM Pretraining", "2503.04715"
)
LIN = Reference(
    "Lin et al.", 2024, "Selecting Large Language Model to Fine-tune via Rectified Scaling Law", "2402.02314"
)
LIU = Reference("Liu et al.", 2025, "Muon is Scalable for LLM Training", "2502.16982")
LUO = Reference("Luo et al.", 2025, "A Multi-Power Law for Loss Curve Prediction", "2503.12811")
MCCANDLISH = Reference(
    "McCandlish et al.",
    2018,
    "An Empirical Model of Large-Batch Training",
    "1812.06162",
)
MCLEISH = Reference("McLeish et al.", 2025, "Gemstones", "2502.06857")
MUENNIGHOFF = Reference("Muennighoff et al.", 2023, "Scaling Data-Constrained Language Models", "2305.16264")
NEZHURINA = Reference(
    "Nezhurina et al.",
    2025,
    "Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models and Datasets",
    "2506.04598",
)
PORIAN = Reference(
    "Porian et al.", 2024, "Resolving Discrepancies in Compute-Optimal Scaling of Language Models", "2406.19146"
)
QUE = Reference(
    "Que et al.",
    2024,
    "D-CPT Law: Domain-specific Continual Pre-Training Scaling Law for Large Language Models",
    "2406.01375",
)
RUAN = Reference(
    "Ruan, Maddison and Hashimoto",
    2024,
    "Observational Scaling Laws and the Predictability of Language Model Performance",
    "2405.10938",
)
SARDANA = Reference("Sardana et al.", 2023, "Beyond Chinchilla-Optimal: Accounting for Inference", "2401.00448")
SCHAEFFER_DOWNSTREAM = Reference(
    "Schaeffer et al.",
    2024,
    "Why Has Predicting Downstream Capabilities of Frontier AI Models with Scale Remained Elusive?",
    "2406.04391",
)
SCHAEFFER_MONKEYS = Reference(
    "Schaeffer et al.", 2025, "How Do Large Language Monkeys Get Their Power (Laws)?", "2502.17578"
)
SHAO = Reference(
    "Shao et al.",
    2024,
    "Scaling Retrieval-Based Language Models with a Trillion-Token Datastore",
    "2407.12854",
)
STANIC = Reference("Stanić et al.", 2023, "The Languini Kitchen", "2309.11197")
TISSUE = Reference("Tissue, Wang and Wang", 2024, "Scaling Law with Learning Rate Annealing", "2408.11029")
VIERING = Reference("Viering and Loog", 2021, "The Shape of Learning Curves: a Review", "2103.10948")
WEI_EMERGENT = Reference("Wei et al.", 2022, "Emergent Abilities of Large Language Models", "2206.07682")
WEI_U_SHAPED = Reference("Wei, Kim, Tay and Le", 2022, "Inverse scaling can become U-shaped", "2211.02011")
WORTSMAN = Reference(
    "Wortsman et al.",
    2023,
    "Small-scale proxies for large-scale Transformer training instabilities",
    "2309.14322",
)
YE = Reference("Ye et al.", 2024, "Data Mixing Laws", "2403.16952")
ZHANG = Reference("Zhang et al.", 2024, "How Does Critical Batch Size Scale in Pre-training?", "2410.21676")
