"""Data sets: bundled tables, a pinned download, their subsets and what their records say."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bayescale.datasets import DATASETS, Dataset, Subset, fetch, find_dataset, load_runs
from bayescale.errors import CODES, RunsError
from bayescale.runs import FLOPS_PER_PARAM_TOKEN

FOLDER = os.environ.get("BAYESCALE_DATA", "")
offline = pytest.mark.skipif(
    not (Path(FOLDER) / "svg_extracted_data.csv").is_file() or not FOLDER,
    reason="the folder named by BAYESCALE_DATA does not hold svg_extracted_data.csv",
)
BUNDLED = [name for name, d in DATASETS.items() if d.bundled]


def said(runs):
    return " ".join(n.message for n in runs.notes)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_records_are_complete(dataset):
    assert DATASETS[dataset.name] is dataset
    assert dataset.title and dataset.description.endswith(".") and dataset.licence and dataset.citation
    assert dataset.default in dataset.subsets and "all" in dataset.subsets
    assert all(n.code in CODES for n in dataset.notes)
    if not dataset.bundled:
        assert len(dataset.sha256) == 64 and "main" not in dataset.url and "master" not in dataset.url


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_tables_read_in_every_subset(name):
    for subset in DATASETS[name].subsets:
        runs = load_runs(name, subset=subset)
        assert runs.source == name and runs.loss_unit == DATASETS[name].loss_unit
        assert {"params", "tokens", "flops", "loss"} <= set(runs.columns)
        assert f"subset {subset!r}" in said(runs)
        assert all(n.code in CODES for n in runs.notes)
    assert fetch(name).is_file()


def test_byte_ladder():
    runs, everything = load_runs("byte-ladder"), load_runs("byte-ladder", subset="all")
    assert len(runs) == 30 and runs.rows_read == len(everything) == 134
    assert runs.loss_unit == "nats/byte" and runs.convention == "parameters in matrix products"
    assert len(runs.labels("budget")[1]) == 5
    # The exact compute: products of the layers and the output, and attention over 256 positions.
    frame = everything.frame
    params = 12 * frame["depth"] * frame["width"] ** 2 + 256 * frame["width"]
    np.testing.assert_array_equal(everything.values("params"), params)
    exact = 6 * (params + 256 * frame["depth"] * frame["width"]) * frame["tokens"]
    np.testing.assert_allclose(everything.values("flops"), exact)
    ratio = exact / (FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"])
    assert f"{ratio.min():.2f} to {ratio.max():.2f} times 6ND" in said(everything)


def test_the_spread_between_evaluation_batches_is_no_noise_between_runs():
    runs = load_runs("byte-ladder")
    assert "eval_se" in runs.columns and not runs.has("loss_se")
    assert "not noise between runs" in said(runs)


def test_pile_models():
    runs = load_runs("pile-models")
    assert len(runs) == 30 and len(runs.labels("recipe")[1]) == 6 and runs.convention == "nominal"
    assert runs.column_map["flops"] == "flops_reported"
    ratio = runs.values("flops") / (FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens"))
    assert f"{ratio.min():.2f} to {ratio.max():.2f} times 6ND" in said(runs)
    assert "misprint" in said(runs)


def test_filters_come_on_top_of_the_subset():
    assert len(load_runs("pile-models", where="family == 'Pythia'")) == 8
    runs = load_runs("byte-ladder", where="budget < 1e14 and width > 32")
    assert 0 < len(runs) < 30 and runs.values("budget").max() < 1e14


def test_unknown_names_list_the_nearest():
    with pytest.raises(RunsError, match="Did you mean byte-ladder") as caught:
        load_runs("byte_ladder")
    assert caught.value.code == "BS-R037"
    with pytest.raises(RunsError, match="no data set"):
        fetch("nothing like it")
    with pytest.raises(RunsError, match="Did you mean tuned") as caught:
        load_runs("byte-ladder", subset="tunned")
    assert caught.value.code == "BS-R054"
    assert find_dataset("byte-ladder").bundled


def test_records_refuse_contradictions():
    some = DATASETS["byte-ladder"]
    common = {
        f: getattr(some, f) for f in ("name", "title", "description", "references", "licence", "file", "loss_unit")
    }
    with pytest.raises(ValueError, match="subsets"):
        Dataset(**common, subsets={"all": Subset("every row")}, default="tuned")
    with pytest.raises(ValueError, match="its origin"):
        Dataset(**common, subsets=some.subsets, default="tuned")
    with pytest.raises(ValueError, match="checksum"):
        Dataset(**common, subsets={"all": Subset("every row")}, default="all", url="https://example.org/x.csv")


# The pinned download. No test here reaches for the network.


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A machine without a network and with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("BAYESCALE_DATA", raising=False)
    return tmp_path


def test_without_a_network_the_address_is_named(no_network):
    with pytest.raises(RunsError) as caught:
        load_runs("besiroglu2024")
    assert caught.value.code == "BS-R055"
    assert DATASETS["besiroglu2024"].url in caught.value.remedy and "BAYESCALE_DATA" in caught.value.remedy


def test_a_folder_without_the_file_is_passed_over(no_network, monkeypatch):
    monkeypatch.setenv("BAYESCALE_DATA", str(no_network))
    with pytest.raises(RunsError, match="cannot be reached"):
        fetch("besiroglu2024")


def test_a_wrong_checksum_is_refused(no_network, monkeypatch):
    (no_network / "svg_extracted_data.csv").write_text("Model Size,Training FLOP,loss\n1e8,1e18,3.5\n")
    monkeypatch.setenv("BAYESCALE_DATA", str(no_network))
    with pytest.raises(RunsError, match="is another file") as caught:
        load_runs("besiroglu2024")
    assert caught.value.code == "BS-R055"


def test_a_download_that_changed_is_refused(no_network, monkeypatch):
    import pooch

    def downloaded(*args, **kwargs):
        raise ValueError("SHA256 hash of downloaded file does not match")

    monkeypatch.setattr(pooch, "retrieve", downloaded)
    with pytest.raises(RunsError, match="serves another file") as caught:
        fetch("besiroglu2024")
    assert caught.value.code == "BS-R055"


def test_a_cache_that_cannot_be_written_is_refused(no_network, monkeypatch):
    (no_network / "cache").write_text("a file where the cache should be")
    with pytest.raises(RunsError, match="cache cannot be written") as caught:
        fetch("besiroglu2024")
    assert caught.value.code == "BS-R055"


@offline
def test_besiroglu2024(monkeypatch):
    runs, everything = load_runs("besiroglu2024"), load_runs("besiroglu2024", subset="all")
    assert len(runs) == 240 and len(everything) == runs.rows_read == 245
    np.testing.assert_allclose(runs.values("flops"), 6 * runs.values("params") * runs.values("tokens"))
    # The published rule: losses below the fifth highest.
    losses = np.sort(everything.values("loss"))
    np.testing.assert_array_equal(np.sort(runs.values("loss")), losses[losses < losses[-5]])
    assert "five highest losses are left out" in said(runs) and "reconstructed, not published" in said(runs)
    assert len(runs.labels("params")[1]) == 42


@offline
def test_budgets_of_besiroglu2024_are_the_nearest_nominal_ones():
    runs = load_runs("besiroglu2024")
    budget, flops, on = (runs.values(c) for c in ("budget", "flops", "on_budget"))
    assert len(set(budget.tolist())) == 9 and np.isfinite(budget).all()
    np.testing.assert_array_equal(on, np.abs(flops / budget - 1) <= 0.2)
    assert on.sum() == 168 and f"{int(on.sum())} of 240 rows" in said(runs)
    assert len(load_runs("besiroglu2024", where="on_budget == 1")) == 168


@offline
def test_a_cached_download_needs_no_network(no_network):
    cached = no_network / "cache" / "bayescale" / "besiroglu2024"
    cached.mkdir(parents=True)
    shutil.copy(Path(FOLDER) / "svg_extracted_data.csv", cached)
    assert fetch("besiroglu2024").parent == cached
