"""Tables as research groups publish them, from the folder named by BAYESCALE_RUNS: each is read or refused rightly."""

import os
from pathlib import Path

import pytest

from bayescale.errors import CODES, BayescaleError
from bayescale.reading import read_runs

FOLDER = Path(os.environ["BAYESCALE_RUNS"]) if os.environ.get("BAYESCALE_RUNS") else None
TABLES = sorted(FOLDER.glob("*.csv")) if FOLDER else []

#: What is expected of a table: its rows as read and kept, or the code of the refusal.
EXPECTED: dict[str, tuple[int, int] | str] = {
    "bnsl_4digit_addition": (17, 17),
    "chinchilla_architectures": "BS-R030",  # a table of architectures: no loss
    "chinchilla_epoch": (245, 245),
    "critical_batch_size": "BS-R030",  # goal_loss is an input there
    "datablations_c4": (296, 296),
    "double_descent": "BS-R030",  # x and y
    "gadre_hparam_grid": (435, 435),
    "gadre_overtraining": "BS-R030",  # ten losses, none of them plain
    "gemstones": (1368, 653),  # up to 23 checkpoints of each run, those that two phases share once
    "google_revisiting_benchmark": (3950, 3950),
    "misfitting_openlm": (261, 260),
    "misfitting_openlm_ckpts": (4852, 1164),  # up to 6
    "mixture_regmix": "BS-R030",  # thirteen losses
    "multipowerlaw_curves": (6265, 6265),
    "obs_scaling_base": "BS-R030",  # accuracies
    "parscale": (48, 48),
    "porian_isoflop": "BS-R024",  # losses of training and of validation in one column
    "sloth_leaderboard": "BS-R030",  # accuracies
    "steplaw_dense": (1911, 1911),
    "vocab_scaling": "BS-R030",  # a normalised loss, negative
}
#: What to say about the tables that ask, and the rows they then give.
ANSWERS = {
    "critical_batch_size": ({"response": "steps_to_goal"}, 45),
    "double_descent": ({"response": "y"}, 927),
    "gadre_overtraining": ({"columns": {"loss": "loss_c4_val"}}, 104),
    "mixture_regmix": ({"columns": {"loss": "loss_pile_cc"}}, 1088),
    "obs_scaling_base": ({"response": "mmlu", "drop_missing": True}, None),
    "porian_isoflop": ({"where": "eval_set == 'val'"}, 940),
    "sloth_leaderboard": ({"response": "mmlu", "drop_missing": True}, None),
    "vocab_scaling": ({"response": "loss_unigram_normalized"}, 1200),
    "chinchilla_architectures": ({"response": None}, 50),
}


@pytest.mark.skipif(not TABLES, reason="BAYESCALE_RUNS names no folder with tables")
def test_every_public_table_has_the_expected_outcome():
    for path in TABLES:
        expected = EXPECTED.get(path.stem)
        try:
            runs = read_runs(path)
        except BayescaleError as error:
            assert error.code in CODES and error.remedy
            assert expected is None or expected == error.code, f"{path.stem}: {error}"
        else:
            assert expected is None or expected == (runs.rows_read, len(runs)), path.stem
            assert all(n.code in CODES for n in runs.notes)


@pytest.mark.skipif(not TABLES, reason="BAYESCALE_RUNS names no folder with tables")
@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_refusal_asks_for_is_enough(name):
    options, rows = ANSWERS[name]
    runs = read_runs(FOLDER / f"{name}.csv", **options)
    assert rows is None or len(runs) == rows


#: What must be said of tables whose rows have more in common than a law of N and D knows.
SAID = {
    "datablations_c4": {"BS-R013"},  # repeated tokens
    "gemstones": {"BS-R016", "BS-R023"},  # curves, and phases of the learning rate
    "misfitting_openlm_ckpts": {"BS-R016", "BS-R057"},  # checkpoints, whose runs are reconstructed
    "chinchilla_epoch": set(),
    "misfitting_openlm": set(),
}


@pytest.mark.skipif(not TABLES, reason="BAYESCALE_RUNS names no folder with tables")
@pytest.mark.parametrize("name", SAID)
def test_what_rows_have_in_common_is_said(name):
    codes = {n.code for n in read_runs(FOLDER / f"{name}.csv").notes}
    assert codes & {"BS-R013", "BS-R016", "BS-R023", "BS-R057"} == SAID[name]
