"""The data sets that bayescale knows by name, one block each."""

from __future__ import annotations

import numpy as np

from bayescale.datasets.records import Dataset, Subset
from bayescale.errors import Note
from bayescale.law import Reference
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs

#: The nine IsoFLOP budgets that Hoffmann et al. name.
HOFFMANN_BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)
#: How far from a nominal budget a digitised run may be and still be one of its runs.
ON_BUDGET = 0.2
#: The column that marks those runs where budgets are reconstructed.
ON_BUDGET_FLAG = "on_budget"


def _with_ratio(runs: Runs, how: str) -> Runs:
    ratio = runs.values("flops") / (FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens"))
    message = f"{how}: {ratio.min():.2f} to {ratio.max():.2f} times 6ND in these rows"
    return runs.with_columns({}, Note("BS-R011", message))


def _byte_ladder(runs: Runs) -> Runs:
    return _with_ratio(runs, "flops is the exact count, 6·params + 6·256·depth·width a byte, attention included")


def _pile_models(runs: Runs) -> Runs:
    return _with_ratio(runs, "flops is the compute as reported, attention and embeddings included")


def _besiroglu(runs: Runs) -> Runs:
    flops = runs.values("flops")
    nominal = np.array(HOFFMANN_BUDGETS)
    budget = nominal[np.abs(np.log(flops[:, None] / nominal)).argmin(axis=1)]
    on = np.abs(flops / budget - 1) <= ON_BUDGET
    note = Note(
        "BS-R057",
        "budget is reconstructed, not published: the nearest of the nine nominal IsoFLOP budgets in log C. "
        f"{int(on.sum())} of {len(runs)} rows lie within {ON_BUDGET:.0%} of theirs (on_budget = 1); the others come "
        "from other experiments in the same figure, and for them budget is no more than a band of compute",
    )
    return runs.with_columns({"budget": budget, ON_BUDGET_FLAG: on.astype(float)}, note)


_ALL = Subset("every row of the table")

#: Data sets by name.
DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            name="byte-ladder",
            title="Byte-level transformers on Python source",
            description="134 transformers of 33 thousand to 2.3 million parameters, trained from scratch on Python "
            "source files: 5 IsoFLOP budgets from 3e12 to 3e14 FLOP, 4 to 7 sizes each, 2 to 5 learning rates each "
            "with its own cosine schedule, and further seeds in six cells.",
            references=(),
            licence="Apache-2.0",
            origin="trained for bayescale, released with it",
            file="byte_ladder.csv",
            loss_unit="nats/byte",
            convention="parameters in matrix products",
            subsets={
                "tuned": Subset("the best learning rate of each size and budget, at one seed", "tuned == 1"),
                "all": _ALL,
            },
            default="tuned",
            columns={"budget": "flops_budget", "eval_se": "loss_se"},
            notes=(
                Note("BS-R051", "params counts the parameters in matrix products: 12·depth·width² + 256·width"),
                Note(
                    "BS-R058",
                    "every cell of N and D was run at 2 to 5 learning rates: the default keeps the best at one seed; "
                    "--learning-rates surface uses all 134 rows and gives the error of each minimum",
                ),
                Note(
                    "BS-R030",
                    "'loss_se' is kept as 'eval_se': it is the spread between evaluation batches, which all runs "
                    "share, and not noise between runs",
                ),
            ),
            prepare=_byte_ladder,
            provenance={
                "domain": "language modelling of bytes: Python source code",
                "data": "371,631,186 bytes of 23,890 distinct Python source files: a standard library and installed "
                "packages, split by file",
                "repeats": "no: every run reads at most .31 of the corpus",
                "hyperparameters": "2 to 5 learning rates for every size and budget, multiples of 4e-3·√(64/width), "
                "the best of them kept (subset 'tuned'); a cosine schedule as long as each run; AdamW (.9, .98), "
                "weight decay .03 and batches of 8,192 bytes in all runs",
                "architecture": "RMSNorm, rotary positions, GELU, untied output, vocabulary 256, context 256 in all "
                "runs; width and depth grow with size",
                "training code": "not part of this package",
                "checkpoints": "not kept",
                "evaluation": "1.57 MB of held-out files of the same corpus, the same for all runs",
            },
        ),
        Dataset(
            name="pile-models",
            title="Public language models trained on the Pile",
            description="30 models of 70 million to 20 billion parameters from six families, with the cross-entropy on "
            "the Pile's test set and the training compute that the Cerebras-GPT model card reports.",
            references=(
                Reference(
                    "Dey et al.",
                    2023,
                    "Cerebras-GPT: Open Compute-Optimal Language Models Trained on the Cerebras Wafer-Scale Cluster",
                    "2304.03208",
                ),
                Reference(
                    "Biderman et al.",
                    2023,
                    "Pythia: A Suite for Analyzing Large Language Models Across Training and Scaling",
                    "2304.01373",
                ),
            ),
            licence="figures quoted from published tables; typed for bayescale, Apache-2.0",
            file="pile_models.csv",
            loss_unit="nats/token",
            convention="nominal",
            subsets={"all": _ALL},
            default="all",
            columns={"flops": "flops_reported", "recipe": "family"},
            notes=(
                Note("BS-R051", "params are nominal sizes"),
                Note("BS-R023", "six families and two tokenizers: losses differ between them at equal scale"),
                Note(
                    "BS-R018",
                    "D is nearly constant within Pythia and D = 20N within Cerebras-GPT: only the mixture of families "
                    "tells N from D",
                ),
                Note("BS-R004", "the loss of Pythia deduped 1.4B, 1.889, is kept as printed: possibly a misprint"),
            ),
            prepare=_pile_models,
            provenance={
                "domain": "language modelling of text",
                "data": "the Pile, with and without deduplication",
                "hyperparameters": "each family's own; they differ between families",
                "architecture": "each family's own; width and depth grow with size",
                "training code": "open for some of the families",
                "checkpoints": "open: the models are public",
                "evaluation": "the Pile's test set, as the authors of the Cerebras-GPT model card evaluated it",
            },
        ),
        Dataset(
            name="besiroglu2024",
            title="The runs of the Chinchilla paper, read off its Figure 4",
            description="245 losses of models of 57 million to 16 billion parameters, digitised by Besiroglu et al. "
            "from the figure of Hoffmann et al.; tokens follow from C = 6ND.",
            references=(
                Reference("Besiroglu et al.", 2024, "Chinchilla Scaling: A Replication Attempt", "2404.10102"),
                Reference("Hoffmann et al.", 2022, "Training Compute-Optimal Large Language Models", "2203.15556"),
            ),
            licence="none stated; downloaded from its source, not redistributed",
            file="svg_extracted_data.csv",
            url="https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/"
            "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv",
            sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
            loss_unit="nats/token",
            subsets={
                "published": Subset(
                    "the five highest losses are left out, as Besiroglu et al. did (subset 'all' keeps them)",
                    "loss < 3.44",
                ),
                "all": _ALL,
            },
            default="published",
            columns={"params": "Model Size", "flops": "Training FLOP"},
            notes=(
                Note(
                    "BS-R026",
                    "losses were read off 256 colours, in steps of about 0.3 %, and N off an axis: both carry errors "
                    "of digitisation",
                ),
            ),
            prepare=_besiroglu,
            provenance={
                "domain": "language modelling of text",
                "data": "MassiveText, as Hoffmann et al. describe it",
                "repeats": "no, according to Hoffmann et al.: fewer tokens than the corpus holds",
                "hyperparameters": "as Hoffmann et al. describe them: cosine schedules as long as the runs",
                "architecture": "as Hoffmann et al. list them: width and depth grow with size",
                "training code": "not open",
                "checkpoints": "not open",
                "evaluation": "the final loss that Hoffmann et al. plot, which they take from smoothed training loss",
            },
        ),
    )
}
