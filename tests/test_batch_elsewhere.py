"""A batch that is killed, spread over devices or processes, or large: the same numbers to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from worlds import chinchilla_world

import bayescale as bs
from bayescale.batch import fitting

KILLED = """
import sys
from bayescale.batch import fitting
from bayescale.cli import run
fitting.BLOCK = 1
sys.exit(run(sys.argv[1:]))
"""
DEVICES = """
import sys
import jax
from worlds import chinchilla_world
import bayescale as bs
from bayescale.model import programs
assert len(jax.local_devices()) == int(sys.argv[1])
tables = {str(k): chinchilla_world(24, 900 + k) for k in range(3)}
batch = bs.fit_many("chinchilla", tables, seed=4, group="none", progress=False)
used = {key[0][-1] for key in programs._programs if key[0][0] == "ensemble"}
assert len(used) == len(jax.local_devices()), used
print(*(float(batch[name].draws()["a"].sum()).hex() for name in tables))
"""


def _python(code, *arguments, **environment):
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_killed_in_the_middle_and_resumed(tmp_path, monkeypatch, capsys):
    from bayescale.cli import run

    files = []
    for k in range(6):
        files.append(str(tmp_path / f"{k}.csv"))
        chinchilla_world(24, 900 + k).frame.to_csv(files[-1], index=False)
    store = tmp_path / "store"
    command = ["batch", *files, "--group", "none", "--seed", "4", "--store", str(store), "--quiet"]
    process = _python(KILLED, *command)
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None and not (store / "part-0001.nc").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    parts = sorted(store.glob("part-*.nc"))
    assert 2 <= len(parts) < 6 and all(bs.load_fit(p).converged for p in parts)  # what is there is whole
    monkeypatch.setattr(fitting, "BLOCK", 1)
    assert run([*command, "--resume", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)["tables"]
    assert run(["batch", *files, "--group", "none", "--seed", "4", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["tables"]
    assert [*resumed] == files
    for name in files:
        assert resumed[name]["quantities"] == alone[name]["quantities"]


@pytest.mark.slow
def test_one_bad_table_among_a_thousand(tmp_path, capsys):
    from bayescale.cli import run

    rng = np.random.default_rng(0)
    files = []
    for k in range(1000):
        frame = chinchilla_world(16, 5000 + k).frame
        if k == 500:
            frame.loc[frame.index[3], "loss"] = np.nan
        files.append(str(tmp_path / f"{k:03}.csv"))
        frame.iloc[rng.permutation(len(frame))].to_csv(files[-1], index=False)
    assert run(["batch", *files, "--group", "none", "--json"]) == 5
    tables = json.loads(capsys.readouterr().out)["tables"]
    failed = [n for n, t in tables.items() if t["status"] == "failed"]
    certified = sum(t["status"] == "certified" for t in tables.values())
    assert failed == [files[500]] and "BS-R001" in tables[files[500]]["sentence"]
    assert certified >= 980 and all(np.isfinite(tables[n]["quantities"]["a"]["mean"]) for n in files if n not in failed)


@pytest.mark.slow
def test_tables_are_shared_out_over_devices():
    said = []
    for count in (1, 2):
        process = _python(DEVICES, str(count), XLA_FLAGS=f"--xla_force_host_platform_device_count={count}")
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err.decode()
        said.append(out)
    assert said[0] == said[1] and len(said[0].split()) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dask's own, of ports and of workers that end slowly
def test_workers_of_dask_find_the_same(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(fitting, "BLOCK", 2)
    tables = {str(k): chinchilla_world(24, 900 + k) for k in range(4)}
    here = bs.fit_many("chinchilla", tables, seed=4, group="none", progress=False)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = bs.fit_many("chinchilla", tables, seed=4, group="none", progress=False, client=client)
    assert there.names == here.names and there.converged
    for name in tables:
        for variable, draws in here[name].tree["posterior"].data_vars.items():
            assert np.array_equal(draws, there[name].tree["posterior"][variable])
