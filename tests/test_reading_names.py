"""Headers: which canonical column they mean, in which unit, and what happens when several could be one."""

import numpy as np
import pytest

from bayescale.errors import RunsError, UnitError
from bayescale.reading import read_runs
from bayescale.reading.headers import SYNONYMS, WEAK_SYNONYMS, meaning_as, recognise
from bayescale.runs import COLUMNS


def table(**columns):
    made = {"params": [1e8, 2e8, 4e8], "tokens": [2e9, 4e9, 8e9], "loss": [3.5, 3.2, 3.0]}
    return {name: values for name, values in {**made, **columns}.items() if values is not None}


def said(runs):
    return " ".join(n.message for n in runs.notes)


def ask(source, code="BS-R030", **options):
    with pytest.raises(RunsError) as caught:
        read_runs(source, **options)
    assert caught.value.code == code, str(caught.value)
    return caught.value


@pytest.mark.parametrize("table_of_names", [SYNONYMS, WEAK_SYNONYMS])
def test_every_synonym_means_its_column(table_of_names):
    for column, names in table_of_names.items():
        assert column in COLUMNS
        for name in names.split(","):
            meaning = recognise(name.strip())
            assert meaning is not None and meaning.column == column, name


def test_canonical_names_mean_themselves():
    assert all(recognise(name).rank == 0 and recognise(name).column == name for name in COLUMNS)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("Model Size", "params"),
        ("numParams", "params"),
        ("N_PARAMS", "params"),
        ("config.n_params", "params"),
        ("params/n_params", "params"),
        ("Tokens Seen", "tokens"),
        ("train-tokens", "tokens"),
        ("Training FLOP", "flops"),
        ("Training compute (FLOP)", "flops"),
        ("val/loss", "loss"),
        ("loss/val", "loss"),
        ("metrics.eval_loss", "loss"),
        ("final_val_loss", "loss"),
        ("Validation Loss", "loss"),
        ("cross-entropy", "loss"),
        ("test_nll", "loss"),
        ("Model Family", "recipe"),
        ("flops_budget", "budget"),
    ],
)
def test_headers_are_matched_without_case_and_punctuation(header, column):
    assert recognise(header).column == column


@pytest.mark.parametrize(
    "header",
    [
        "train_loss",
        "loss_c4_val",
        "loss (C4)",
        "loss_last",
        "goal_loss",
        "D/N",
        "d_k",
        "n_b",
        "log_N",
        "log10 params",
        "tflops",
        "C_6ND",
        "vocab_size",
        "params_per_layer",
        "tokens_per_param",
        "bits",
        "val",
        "steps",
        "width",
        "accuracy",
        "",
        " ",
        "x",
    ],
)
def test_other_headers_mean_nothing(header):
    assert recognise(header) is None


@pytest.mark.parametrize(
    ("header", "column", "factor"),
    [
        ("params (M)", "params", 1e6),
        ("params_M", "params", 1e6),
        ("paramsM", "params", 1e6),
        ("num_params_in_millions", "params", 1e6),
        ("N (billions)", "params", 1e9),
        ("N_B", "params", 1e9),
        ("tokens [B]", "tokens", 1e9),
        ("tokens_billions", "tokens", 1e9),
        ("train_tokens_trillion", "tokens", 1e12),
        ("tokens (10^9)", "tokens", 1e9),
        ("compute (EFLOP)", "flops", 1e18),
        ("flops_1e18", "flops", 1e18),
        ("zettaflops", "flops", 1e21),
        ("compute (PF-days)", "flops", 8.64e19),
        ("compute_pf_days", "flops", 8.64e19),
        ("petaflop/s-days", "flops", 8.64e19),
        ("flops_budget (ZFLOPs)", "budget", 1e21),
    ],
)
def test_units_in_headers(header, column, factor):
    meaning = recognise(header)
    assert meaning.column == column and meaning.factor == factor


def test_units_in_headers_are_applied_and_said():
    runs = read_runs(
        {"params_M": [70, 160], "tokens (B)": [1.4, 3.2], "compute (EFLOP)": [0.588, 3.072], "L": [3.5, 3.1]}
    )
    np.testing.assert_allclose(runs.values("params"), [7e7, 1.6e8])
    np.testing.assert_allclose(runs.values("tokens"), [1.4e9, 3.2e9])
    np.testing.assert_allclose(runs.values("flops"), [5.88e17, 3.072e18])
    assert {n.code for n in runs.notes} >= {"BS-R008", "BS-R009", "BS-R056"}


def test_a_flag_wins_over_the_header():
    runs = read_runs(table(params=None, params_M=[0.1, 0.2, 0.4]), units={"params": "billions"})
    np.testing.assert_allclose(runs.values("params"), [1e8, 2e8, 4e8])


@pytest.mark.parametrize(
    ("header", "convention"),
    [
        ("params_non_embedding", "non-embedding"),
        ("N_no_emb", "non-embedding"),
        ("params (non-embedding)", "non-embedding"),
        ("params (M, non-embedding)", "non-embedding"),
        ("nonembedding_params", "non-embedding"),
        ("params_without_embeddings", "non-embedding"),
        ("Total Params", "total"),
        ("active_parameters", "active"),
        ("params_nominal", "nominal"),
        ("params_reported_M", "reported"),
    ],
)
def test_conventions_of_n(header, convention):
    meaning = recognise(header)
    assert meaning.column == "params" and meaning.convention == convention


def test_the_exact_name_wins_and_the_others_are_named():
    runs = read_runs(table(val_loss=[3, 3, 3], loss_last=[3, 3, 3], N=[1, 2, 3]))
    assert runs.column_map["loss"] == "loss" and runs.column_map["params"] == "params"
    assert "'val_loss'" in said(runs) and "'loss_last'" in said(runs) and "'N'" in said(runs)
    assert {"val_loss", "loss_last", "N"} <= set(runs.columns)


def test_two_candidates_are_asked_about():
    error = ask(table(loss=None, val_loss=[3.5, 3.2, 3.0], test_loss=[3.6, 3.3, 3.1]))
    assert error.column == "val_loss" and "'test_loss'" in error.message
    assert "--column loss=val_loss" in error.remedy and "columns={'loss': 'val_loss'}" in error.remedy
    assert "--column tokens=" in ask(table(tokens=None, D=[2e9, 4e9, 8e9], tokens_seen=[1e9, 2e9, 3e9])).remedy


def test_two_candidates_with_equal_values_are_one():
    runs = read_runs(table(tokens=None, D=[2e9, 4e9, 8e9], train_tokens=["2B", "4B", "8B"]))
    assert runs.column_map["tokens"] == "D" and "train_tokens" in runs.columns


def test_labels_that_group_alike_are_one():
    runs = read_runs(table(run_id=[7, 8, 9], run_name=["a", "b", "c"]))
    assert runs.column_map["run"] == "run_id"
    assert "--column run=run_id" in ask(table(run_id=[7, 8, 9], run_name=["a", "b", "b"])).remedy


def test_several_losses_without_a_plain_one_are_asked_about():
    error = ask(table(loss=None, loss_c4_val=[3, 3, 3], loss_openlm=[4, 4, 4]))
    assert "'loss_c4_val', 'loss_openlm'" in error.message and "--column loss=loss_c4_val" in error.remedy
    assert "--column loss=train_loss" in ask(table(loss=None, train_loss=[3, 3, 3])).remedy
    assert '--column "loss=loss (C4)"' in ask(table(loss=None, **{"loss (C4)": [3, 3, 3]})).remedy


def test_a_table_without_a_loss_lists_its_columns():
    error = ask(table(loss=None, mmlu=[0.3, 0.4, 0.5]))
    assert "--column loss=HEADER" in error.remedy and "'mmlu'" in error.remedy


def test_overrides_are_taken_and_free_the_old_name():
    runs = read_runs(table(final=[3.6, 3.3, 3.1]), columns={"loss": "final"})
    np.testing.assert_array_equal(runs.values("loss"), [3.6, 3.3, 3.1])
    np.testing.assert_array_equal(runs.values("loss_as_read"), [3.5, 3.2, 3.0])
    assert runs.column_map["loss"] == "final" and "'loss_as_read'" in said(runs)
    assert read_runs(table(loss=None, **{"Final Loss!": [3, 3, 3]}), columns={"loss": "Final Loss!"}).has("loss")
    assert read_runs(table(), columns={"other": "LOSS"}, response=None).column_map["other"] == "loss"


def test_overrides_keep_the_unit_of_the_header():
    runs = read_runs(
        table(loss=None, **{"C4 loss (bits/byte)": [1.5, 1.4, 1.3]}), columns={"loss": "C4 loss (bits/byte)"}
    )
    assert runs.loss_unit == "bits/byte"
    runs = read_runs(table(loss=None, c4_ppl=[30.0, 20.0, 15.0]), columns={"loss": "c4_ppl"})
    np.testing.assert_allclose(runs.values("loss"), np.log([30.0, 20.0, 15.0]))
    assert meaning_as("size (M)", "params").factor == 1e6 and meaning_as("size", "params").factor is None


def test_wrong_overrides_name_the_nearest_header():
    error = ask(table(), columns={"loss": "losss"})
    assert "Did you mean loss" in error.remedy and error.column == "losss"
    ask(table(), columns={"loss": "loss", "other": "loss"})


def test_weak_names_count_only_where_nothing_better_is_there():
    assert read_runs({"n": [1e8, 2e8], "d": [2e9, 4e9], "L": [3.5, 3.1]}).column_map == {
        "params": "n",
        "tokens": "d",
        "loss": "L",
    }
    runs = read_runs(table(n=[1, 2, 3], d=[64, 128, 256], c=["#fff", "#eee", "#ddd"], L=[2, 4, 8]))
    assert runs.column_map == {"params": "params", "tokens": "tokens", "loss": "loss"}
    assert list(read_runs(table(c=["#fff", "#eee", "#ddd"])).frame["c"]) == ["#fff", "#eee", "#ddd"]


def test_a_data_set_is_a_recipe_unless_a_family_is_there():
    assert read_runs(table(dataset=["c4", "c4", "rw"])).column_map["recipe"] == "dataset"
    runs = read_runs(table(dataset=["c4", "c4", "rw"], family=["a", "b", "b"]))
    assert runs.column_map["recipe"] == "family" and "dataset" in runs.columns and "'dataset'" in said(runs)


def test_the_map_of_columns_is_the_first_assumption():
    runs = read_runs({"N": [1e8, 2e8], "D": [2e9, 4e9], "val_loss": [3.5, 3.1]})
    assert runs.assumptions[0] == "columns: params = 'N', tokens = 'D', loss = 'val_loss'"


def test_unknown_units_under_the_header_are_asked_about(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\nfurlongs,B,nats\n70,1.4,3.5\n160,3.2,3.1\n")
    error = ask(path, "BS-R006")
    assert isinstance(error, UnitError) and error.column == "N" and "--unit params=millions" in error.remedy
    assert len(read_runs(path, units={"params": "millions"})) == 2
