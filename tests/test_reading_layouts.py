"""Public layouts read without options: headers as their authors wrote them, over rows that are ours.

Every entry names where the header stands. The rows are made from one law, so that nothing of a third party's table is
kept here; what is checked is that each column is taken for what it is, in its unit.
"""

import csv
import io
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from bayescale.errors import RunsError
from bayescale.reading import read_runs

SIZES = (1e8, 4e8, 1.6e9)
TOKENS = (4e9, 1.6e10, 6.4e10)


@dataclass(frozen=True)
class Layout:
    """A public header, where it stands, and how a cell of it follows from N, D and the loss."""

    source: str
    header: str
    cells: dict = field(default_factory=dict)
    has: tuple = ("params", "tokens", "flops", "loss")
    unit: str = "nats/token"
    response: str | None = "loss"


def _loss(n, d):
    return 1.7 + 480 * n**-0.35 + 2085 * d**-0.37


LAYOUTS = {
    "epoch-svg": Layout(
        "epoch-research/analyzing-chinchilla, data/svg_extracted_data.csv",
        "x,y,color,Model Size,Training FLOP,hex_color,loss",
        {"color": "#faebdd", "hex_color": "#faebdd", "x": "154.03", "y": "140.6"},
    ),
    "step-law": Layout(
        "step-law/steplaw, data/dense_lr_bs_loss.csv",
        "h,ffnh,numh,numl,lr,bs,ti,loss,smooth loss,exp_name,D,N,D/N",
    ),
    "misfitting": Layout(
        "hadasah/scaling_laws, data/scaling_results_last_ckpt_only.csv",
        "loss,C4 Eval Loss,N,N_no_emb,D,C,C_no_emb,C_6ND,C_6ND_no_emb,portion_steps_elapsed,model,train_tokens,"
        "total_steps,current_steps,total_epochs,current_epoch,peak_lr,sweep",
    ),
    "nslpfn": Layout(
        "DongWooLee-Eli/nslpfn, data/benchmark.lang.csv",
        "Domain,Task,Model,Seen Examples,Loss,Training",
        has=("loss",),
    ),
    "open-athena": Layout(
        "Open-Athena/scaling-law-analysis, data/isoflops/isoflops.csv",
        "source,dataset,model,condition,experiment,tokens,params,budget,loss",
        {"experiment": "ml_scalefit", "source": "a", "dataset": "massivetext", "model": "chinchilla", "condition": ""},
        has=("params", "tokens", "flops", "loss", "budget", "recipe"),
    ),
    "marin-wandb": Layout(
        "Open-Athena/scaling-law-analysis, data/isoflops/extract/marin_202603/raw/isoflop-comma.csv (a W&B export)",
        "Name,parameter_count,throughput/total_tokens,throughput/total_gflops,eval/paloma/macro_loss,"
        "trainer.train_batch_size,trainer.num_train_steps,optimizer.learning_rate,model.hidden_dim,model.num_layers",
        has=("params", "tokens", "flops", "loss", "run"),
    ),
    "nanochat": Layout(
        "nanochat, runs/scaling_laws.sh",
        "flops_budget,depth,model_dim,params_wte,params_value_embeds,params_lm_head,params_transformer,params_scalars,"
        "params_total,num_iterations,tokens_trained,val_bpb,core_score,train_time_sec",
        has=("params", "tokens", "flops", "loss", "budget"),
        unit="bits/byte",
    ),
    "nanochat-scaling-params": Layout(
        "nanochat, an earlier runs/scaling_laws.sh",
        "flops_budget,depth,model_dim,num_params,num_scaling_params,num_iterations,tokens_trained,param_data_ratio,"
        "val_bpb,core_score,train_time_sec",
        unit="bits/byte",
    ),
    "nanochat-miniseries": Layout(
        "nanochat, runs/miniseries.sh",
        "depth,model_dim,num_params,num_scaling_params,num_iterations,tokens_trained,param_data_ratio,val_bpb,"
        "core_score,train_time_sec",
        unit="bits/byte",
    ),
    "nanochat-loss": Layout(
        "a fork of nanochat, scaling_laws_results_v2",
        "flops_budget,depth,model_dim,num_scaling_params,num_iterations,tokens_trained,param_data_ratio,val_loss,"
        "train_time_sec",
        has=("tokens", "loss", "budget"),
    ),
    "hyperparameter-sweep": Layout(
        "a fork of nanochat, hp sweep", "flops_budget,depth,model_dim,num_params,lr,val_loss"
    ),
    "cs336": Layout("Stanford CS336, assignment 3, data/isoflops_curves.json", "parameters,compute_budget,final_loss"),
    "obs-scaling": Layout(
        "ryoungj/ObsScaling, eval_results/base_llm_benchmark_eval.csv",
        "Model,Model Family,Model Size (B),Pretraining Data Size (T),FLOPs (1E21),MMLU,ARC-C,HellaSwag",
        has=("params", "tokens", "flops", "recipe", "MMLU"),
        response="MMLU",
    ),
    "epoch-models": Layout(
        "Epoch AI, AI models (header as quoted in tests of its readers)",
        "Model,Organization,Publication date,Link,Parameters,Training compute (FLOP),Training dataset size (total),"
        "Confidence",
        has=("params", "tokens", "flops"),
        response=None,
    ),
    "teaching-csv": Layout("a course's loader, n_params/n_tokens", "n_params,n_tokens,loss"),
    "greek": Layout("fourlhs/greek-scaling-laws, results/results.csv", "run_id,n_params,n_tokens,flops,val_loss"),
    "measurements": Layout("a tutorial's fit_scaling.py", "params,tokens,loss,split", {"split": "train"}),
    "billions": Layout("a modelling contest's table B1", "N_params_B,D_tokens_B,val_loss"),
    "optiscale": Layout("optiscale, compare.csv", "optimizer,N,D,loss,tokens_per_param,n_ratio,compute_saved"),
    "schedules": Layout("a notebook's runs.csv, with schedules", "run,N,D,sched,loss"),
    "curve": Layout("a trainer's val_log.csv", "step,tokens,val_loss", has=("tokens", "loss")),
    "curve-ppl": Layout("smlm, metrics.csv", "step,tokens,val_loss,val_ppl", has=("tokens", "loss")),
    "byte-ladder": Layout(
        "bundled: byte_ladder.csv",
        "run,width,depth,heads,params,params_non_embedding,params_total,tokens,flops,flops_budget,steps,batch_tokens,lr,"
        "lr_multiple,seed,repeat,loss,loss_se,train_loss_ema,epochs,seconds,tuned",
        has=("params", "tokens", "flops", "loss", "budget", "loss_se", "run"),
    ),
    "pile-models": Layout("bundled: pile_models.csv", "family,model,params,tokens,flops_reported,loss"),
    "datablations": Layout(
        "huggingface/datablations, parametric_fit.ipynb, as a table",
        "run,params,tokens,unique_tokens,epochs,flops,loss,seed,in_published_fit",
        has=("params", "tokens", "flops", "loss", "unique_tokens", "run"),
    ),
    "gemstones": Layout(
        "mcleish7/gemstone-scaling-laws, wandb_dfs, as a table",
        "run,params,width,depth,tokens,steps,num_nodes,seconds_per_step,flops,loss,in_hot,in_hot_100b+,phase",
    ),
    "porian": Layout(
        "formll/resolving-scaling-law-discrepancies, summary_df, as a table",
        "source,dataset,hparams,warmup,decay,param_count,eval_set,flops_budget,params,tokens,loss,n_star_log_std",
        {"eval_set": "val", "param_count": "kaplan", "decay": "kaplan", "warmup": "long", "hparams": "base"},
    ),
    "gadre-grid": Layout(
        "mlfoundations/scaling, exp_data/grid.json, as a table",
        "model,width,depth,n_heads,global_batch_size,lr,weight_decay,tokens,warmup,cooldown_lr,loss",
        has=("tokens", "loss"),
    ),
    "parscale": Layout(
        "QwenLM/ParScale, parametric_fit.py, as a table", "params,n_streams,loss,dataset", has=("params", "loss")
    ),
    "multi-power-law": Layout(
        "thu-yao-01-luo/MultiPowerLaw, loss_curve_repo, as a table", "model,schedule,steps,lr,loss", has=("loss",)
    ),
    "olmo-ladder": Layout(
        "allenai/OLMo, scaling ladder logs, one evaluation set",
        "step,throughput/total_tokens,throughput/total_training_Gflops,eval/c4_en-validation/CrossEntropyLoss",
        has=("tokens", "flops", "loss"),
    ),
    "mlflow": Layout(
        "mlflow.search_runs, as mlflow/mlflow tests/tracking/fluent/test_fluent.py lists its columns",
        "status,artifact_uri,experiment_id,run_id,start_time,end_time,metrics.val_loss,params.n_params,params.tokens,"
        "tags.mlflow.runName",
        {"status": "FINISHED", "artifact_uri": "s3://x", "experiment_id": "0", "start_time": "2026-01-02T03:04:05Z"},
        has=("params", "tokens", "flops", "loss", "run"),
    ),
}


def _cell(layout, header, k, n, d):
    loss = _loss(n, d)
    if header in layout.cells:
        return layout.cells[header]
    key = header.lower()
    known = {
        **dict.fromkeys(("params", "n", "n_params", "num_params", "parameters", "params_total", "parameter_count"), n),
        **dict.fromkeys(("model size", "params.n_params"), n),
        **dict.fromkeys(("tokens", "d", "n_tokens", "tokens_trained", "throughput/total_tokens", "params.tokens"), d),
        **dict.fromkeys(("train_tokens", "training dataset size (total)", "unique_tokens"), d),
        **dict.fromkeys(
            ("flops", "c", "training flop", "training compute (flop)", "flops_reported", "c_6nd"), 6 * n * d
        ),
        **dict.fromkeys(("budget", "flops_budget", "compute_budget"), 6 * n * d),
        **dict.fromkeys(("throughput/total_gflops", "throughput/total_training_gflops"), 6 * n * d / 1e9),
        **dict.fromkeys(("loss", "val_loss", "final_loss", "metrics.val_loss", "c4 eval loss", "smooth loss"), loss),
        **dict.fromkeys(("eval/paloma/macro_loss", "eval/c4_en-validation/crossentropyloss"), loss),
        "val_bpb": loss / 3,
        "val_ppl": np.exp(loss),
        "model size (b)": n / 1e9,
        "pretraining data size (t)": d / 1e12,
        "flops (1e21)": 6 * n * d / 1e21,
        "n_params_b": n / 1e9,
        "d_tokens_b": d / 1e9,
        "mmlu": 0.3 + 0.05 * k,
        "loss_se": 0.01,
        "params_non_embedding": 0.8 * n,
        "n_no_emb": 0.8 * n,
        "c_no_emb": 4.8 * n * d,
        "portion_steps_elapsed": 1.0,
        "step": 1000.0 * (k + 1),
        "epochs": 1.0,
    }
    if key in known:
        return repr(float(known[key]))
    text = (
        "run",
        "run_id",
        "name",
        "exp_name",
        "model",
        "tags.mlflow.runname",
        "model family",
        "family",
        "organization",
    )
    return f"{key[:3]}{k}" if key in text or "name" in key else repr(0.5 + 0.01 * k)


def table(layout):
    """Rows under the header: every size at every number of tokens."""
    rows = [
        {h: _cell(layout, h, k, n, d) for h in layout.header.split(",")}
        for k, (n, d) in enumerate((n, d) for n in SIZES for d in TOKENS)
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, layout.header.split(","), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue(), rows


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts_are_read_without_options(name, tmp_path):
    layout = LAYOUTS[name]
    text, _ = table(layout)
    path = tmp_path / "runs.csv"
    path.write_text(text)
    runs = read_runs(path, response=layout.response)
    assert len(runs) == len(SIZES) * len(TOKENS) and runs.loss_unit == layout.unit
    assert set(layout.has) <= set(runs.columns), runs.columns
    n, d = (np.array([x[j] for x in [(n, d) for n in SIZES for d in TOKENS]]) for j in (0, 1))
    expected = {"params": n, "tokens": d, "flops": 6 * n * d, "budget": 6 * n * d, "loss": _loss(n, d)}
    if layout.unit == "bits/byte":
        expected["loss"] = expected["loss"] / 3
    for column in {"params", "tokens", "flops", "budget", "loss"} & set(layout.has):
        np.testing.assert_allclose(runs.values(column), expected[column], rtol=1e-6, err_msg=column)


def test_there_are_layouts_enough():
    assert len(LAYOUTS) >= 25 and all(layout.source for layout in LAYOUTS.values())


def test_the_json_of_a_course_is_read(tmp_path):
    rows = [{"parameters": n, "compute_budget": 6 * n * d, "final_loss": _loss(n, d)} for n in SIZES for d in TOKENS]
    path = tmp_path / "isoflops_curves.json"
    path.write_text(json.dumps(rows))
    np.testing.assert_allclose(read_runs(path).values("tokens")[:3], TOKENS)


# Layouts that are asked about, or refused, rightly.


@pytest.mark.parametrize(
    ("header", "code"),
    [
        # IBM/ColPret, aggregated_eval/datablations_losses.csv: compute falls there as tokens grow
        ("index,data,epochs,token_num,loss,num_params,model_args,tokens_per_epoch,flops,checkpoint", "BS-R056"),
        # a mixture of experts after nanochat: which parameters?
        ("flops_budget,depth,model_dim,active_params,total_params,scaling_params,tokens_trained,val_bpb", "BS-R012"),
        # IBM/ColPret, aggregated_eval/opt.csv: accuracies and no loss
        ("model_name,size,steps,flops,tokens,bigbench__implicatures", "BS-R030"),
        # a nanochat fork that logs two losses
        ("depth,params_total,num_iterations,tokens_trained,final_loss,val_bpb", "BS-R030"),
    ],
)
def test_what_could_be_read_in_two_ways_is_asked(header, code, tmp_path):
    cells = {"flops": "1e25", "active_params": "1e8", "total_params": "8e8", "token_num": "1e9", "num_params": "2.8B"}
    cells |= {"final_loss": "3.1", "loss": "3.2", "val_bpb": "0.9", "tokens_trained": "4e9", "params_total": "1e8"}
    rows = [",".join(cells.get(h, f"x{k}") for h in header.split(",")) for k in range(3)]
    (tmp_path / "runs.csv").write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(RunsError) as caught:
        read_runs(tmp_path / "runs.csv")
    assert caught.value.code == code, str(caught.value)


# Exports of trackers.


def test_a_wandb_history_is_put_under_each_other(tmp_path):
    header = ["Step"] + [f"run-{r} - val/loss{end}" for r in "ab" for end in ("", "__MIN", "__MAX")]
    rows = [[s, 5 - s / 10, 5 - s / 10, 5 - s / 10, 6 - s / 10, "", ""] for s in (1, 2, 3)] + [
        [4, 4.6, 4.6, 4.6, "", "", ""]
    ]
    path = tmp_path / "wandb_export.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    runs = read_runs(path)
    assert list(runs.frame["run"]) == ["run-a"] * 4 + ["run-b"] * 3
    np.testing.assert_allclose(runs.values("loss"), [4.9, 4.8, 4.7, 4.6, 5.9, 5.8, 5.7])
    assert any("side by side" in a for a in runs.assumptions)
    np.testing.assert_allclose(read_runs(path, rows_per_run="last").values("loss"), [4.6, 5.7])


def test_a_tensorboard_curve_is_named_by_its_file(tmp_path):
    text = "Wall time,Step,Value\n1654943296.2,100,5.25\n1654943313.7,200,4.5\n1654943332.3,300,4.25\n"
    path = tmp_path / "run-small-tag-val_loss.csv"
    path.write_text(text)
    runs = read_runs(path)
    assert runs.column_map["loss"] == "val_loss" and set(runs.frame["run"]) == {"small"}
    assert any("TensorBoard" in a for a in runs.assumptions)
    (tmp_path / "curve.csv").write_text(text)
    with pytest.raises(RunsError, match="no column for the loss"):
        read_runs(tmp_path / "curve.csv")


def test_runs_that_did_not_finish_are_said(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "Name,State,n_params,tokens,val_loss\na,finished,1e8,2e9,3.5\nb,crashed,2e8,4e9,3.9\nc,running,4e8,8e9,4\n"
    )
    runs = read_runs(path)
    (said,) = (a for a in runs.assumptions if "not finished" in a)
    assert said.startswith("2 of 3 runs") and "State == 'finished'" in said
    assert len(read_runs(path, where="State == 'finished'")) == 1


def test_an_mlflow_frame_is_read():
    import pandas as pd

    times = pd.to_datetime([1, 2, 3], unit="s", utc=True)
    frame = pd.DataFrame(
        {
            "run_id": ["a", "b", "c"],
            "experiment_id": ["0"] * 3,
            "status": ["FINISHED", "FINISHED", "FAILED"],
            "start_time": times,
            "metrics.eval_loss": [3.5, 3.2, 3.0],
            "params.n_params": ["100000000", "200000000", "400000000"],
            "params.train_tokens": ["2B", "4B", "8B"],
        }
    )
    runs = read_runs(frame)
    np.testing.assert_array_equal(runs.values("tokens"), [2e9, 4e9, 8e9])
    assert runs.column_map["run"] == "run_id" and any("1 of 3 runs had not finished" in a for a in runs.assumptions)


class Interchanged:
    """An object that offers its columns through the Arrow stream alone, as frames of other libraries do."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class Dataset:
    """What bayescale needs of a Hugging Face data set: names of columns, and itself as a dict."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)

    def to_dict(self):
        return {k: list(v) for k, v in self.columns.items()}


COLUMNS = {"N": [1e8, 2e8, 4e8], "D": [2e9, 4e9, 8e9], "val_loss": [3.5, 3.2, 3.0]}


def test_objects_with_an_arrow_stream_are_read():
    pa = pytest.importorskip("pyarrow")
    assert read_runs(Interchanged(pa.table(COLUMNS))).sha256 == read_runs(COLUMNS).sha256


def test_data_sets_are_read_by_what_they_offer():
    assert read_runs(Dataset(COLUMNS)).sha256 == read_runs(COLUMNS).sha256
    assert read_runs({"train": Dataset(COLUMNS)}).sha256 == read_runs(COLUMNS).sha256
    with pytest.raises(RunsError, match="2 splits") as caught:
        read_runs({"train": Dataset(COLUMNS), "test": Dataset(COLUMNS)})
    assert caught.value.code == "BS-R037" and "dataset['train']" in caught.value.remedy


def test_a_hugging_face_data_set_is_read():
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(COLUMNS)
    assert read_runs(made).sha256 == read_runs(COLUMNS).sha256
    assert read_runs(datasets.DatasetDict({"train": made})).sha256 == read_runs(COLUMNS).sha256


def test_a_polars_frame_is_read_lazily_imported():
    pl = pytest.importorskip("polars")
    assert read_runs(pl.DataFrame(COLUMNS)).sha256 == read_runs(COLUMNS).sha256
