"""The command line as a script would use it: documents, exit codes, and nothing but the document on stdout."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.cli import run
from bayescale.sampling import Escalation
from bayescale.tables import fit_lines, headline_allocation

Q = {
    "mean",
    "sd",
    "median",
    "lower",
    "upper",
    "model_lower",
    "model_upper",
    "mcse_mean",
    "ess_bulk",
    "ess_tail",
    "r_hat",
    "narrowness",
    "prior_share",
}
I = {"median", "lower", "upper"}
F = {"code", "name", "status", "value", "threshold", "message"}
FIT_KEYS = {
    "schema",
    "law",
    "options",
    "noise",
    "group",
    "seed",
    "prob",
    "sampler",
    "runs",
    "parameters",
    "derived",
    "allocation",
    "checks",
    "audit",
    "verdict",
    "headline_source",
    "seconds",
    "versions",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fit made by the command line, once."""
    out = tmp_path_factory.mktemp("cli") / "fit"
    assert run(["fit", "byte-ladder", "--group", "none", "--out", str(out), "--quiet"]) == 0
    return out


def document(capsys, arguments, code=0):
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1, "one document and nothing else"
    return json.loads(captured.out)


def test_fit_document_has_the_contract_s_keys(capsys):
    made = document(capsys, ["fit", "byte-ladder", "--group", "none", "--json", "--flops", "1e15", "--flops", "1e16"])
    assert FIT_KEYS <= set(made)
    assert made["schema"] == "bayescale.fit/1" and made["law"] == "chinchilla" and made["group"] == []
    assert {"source", "rows", "used", "n_groups", "sha256", "assumptions"} <= set(made["runs"])
    assert (made["runs"]["rows"], made["runs"]["used"]) == (134, 30)
    assert {"E", "A", "B", "alpha", "beta", "sigma", "nu"} <= set(made["parameters"])
    assert {"a", "b", "G"} == set(made["derived"])
    for quantity in (*made["parameters"].values(), *made["derived"].values()):
        assert set(quantity) == Q
    assert [e["flops"] for e in made["allocation"]] == [1e15, 1e16]
    for entry in made["allocation"]:
        assert all(set(entry[n]) == I for n in ("params", "tokens", "tokens_per_param", "loss"))
        assert set(entry["near_optimal"]) == {"lower", "upper"}
        assert entry["near_optimal"]["lower"] < entry["params"]["median"] < entry["near_optimal"]["upper"]
    assert all(set(f) == F for f in (*made["checks"], *made["audit"]))
    assert made["verdict"]["status"] in ("pass", "warn", "fail")
    assert set(made["seconds"]) == {"read", "compile", "sample", "total"}
    assert {"bayescale", "jax", "numpyro"} <= set(made["versions"])
    assert made["headline_source"] == "posterior"


def test_folder_holds_the_three_files(folder):
    assert {p.name for p in folder.iterdir()} == {"posterior.nc", "fit.json", "runs.csv"}
    made = json.loads((folder / "fit.json").read_text())
    fit = bs.load_fit(folder)
    assert made["derived"]["a"]["mean"] == fit.quantities()["a"].mean
    again = bs.read_runs(folder / "runs.csv", loss_unit=made["loss_unit"])
    assert list(again.values("loss")) == list(fit.runs.values("loss"))
    assert pd.read_csv(folder / "runs.csv")["row"].tolist() == list(fit.runs.rows)


PLACES = {
    "a file instead of a folder": (["fit", "byte-ladder", "--force", "--out"], "file"),
    "below a file": (["fit", "byte-ladder", "--out"], "file/fit"),
    "below a file, report": (["fit", "byte-ladder", "--report"], "file/kit"),
    "a store": (["batch", "byte-ladder", "--store"], "file"),
    "a picture": (["compare", "byte-ladder", "--law", "chinchilla", "--law", "kaplan_nd", "--out"], "file/a.png"),
    "a folder instead of a picture": (["compare", "byte-ladder", "--law", "chinchilla", "--out"], "folder.png"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path, capsys, monkeypatch, kind):
    arguments, name = PLACES[kind]
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("bayescale.reading.read_runs", lambda *a, **k: pytest.fail("work was begun"))
    made = document(capsys, [*arguments, str(tmp_path / name), "--json"], code=2)
    assert made["code"] == "BS-U003" and str(tmp_path / name) == made["file"] and made["remedy"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.png"]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_is_said(more):
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            [sys.executable, "-m", "bayescale", "laws", *more], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert made.returncode == 2 and "cannot be written: no space left" in made.stderr and "Traceback" not in made.stderr


def test_existing_folder_is_kept(folder, capsys):
    before = (folder / "fit.json").read_bytes()
    made = document(capsys, ["fit", "byte-ladder", "--out", str(folder), "--json"], code=2)
    assert made["schema"] == "bayescale.error/1" and made["code"] == "BS-U002" and "--force" in made["remedy"]
    assert (folder / "fit.json").read_bytes() == before


def test_doctor_check_allocate_forecast(folder, capsys):
    doctor = document(capsys, ["doctor", "byte-ladder", "--flops", "1e16", "--json"])
    assert all(set(f) == F for f in doctor["findings"])
    check = document(capsys, ["check", str(folder), "--json"])
    assert check["converged"] and all(set(f) == F for f in check["checks"])
    allocate = document(capsys, ["allocate", str(folder), "--flops", "1e15", "--json"])
    assert allocate["allocation"][0]["flops"] == 1e15
    point = document(capsys, ["forecast", str(folder), "--params", "1M", "--tokens", "100M", "--json"])
    assert point["forecast"][0]["inputs"]["N"] == 1e6
    assert set(point["forecast"][0]["new_group"]) == I


def test_confounded_table_headlines_nothing(capsys, tmp_path):
    made = document(
        capsys, ["fit", "pile-models", "--json", "--group", "none", "--flops", "1e23", "--out", str(tmp_path / "fit")]
    )
    assert made["verdict"]["status"] == "fail" and made["headline_source"] == "none"
    assert made["allocation"][0]["params"] == {"median": None, "lower": None, "upper": None}
    assert any(f["code"] == "recipe-confounded" for f in made["design"])
    fit = bs.load_fit(tmp_path / "fit")
    shown = "\n".join(fit_lines(fit, headline_allocation(fit)))
    assert "confounded" in shown and "No number is headlined" in shown and "parameters  " not in shown


def test_laws_and_datasets(capsys):
    laws = document(capsys, ["laws", "--json"])["laws"]
    assert {"chinchilla", "power_law"} <= {law["name"] for law in laws}
    one = document(capsys, ["laws", "chinchilla", "--json"])
    assert 0.2 < one["implied_prior"]["a"]["lower"] < 0.3 < 0.7 < one["implied_prior"]["a"]["upper"] < 0.8
    answer = document(capsys, ["laws", "--for", "byte-ladder", "--json"])
    by_name = {law["name"]: law for law in answer["laws"]}
    assert by_name["chinchilla"]["supported"] and by_name["data_constrained"]["missing"] == ["unique_tokens"]
    assert "chinchilla" in by_name["gadre_overtrain"]["nested"]
    assert answer["one_column_more"]["unique_tokens"] == ["data_constrained"]
    assert {"byte-ladder", "pile-models"} <= {d["name"] for d in document(capsys, ["datasets", "--json"])["datasets"]}
    assert run(["laws", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| law |")


def test_laws_for_a_table(tmp_path, capsys):
    """Columns named by the user count; a law of one scale is offered on the scale that the table has."""
    table = tmp_path / "table.csv"
    table.write_text("tokens,final\n" + "".join(f"{n}e9,{3 - n / 10}\n" for n in range(1, 9)))
    assert run(["laws", "--for", str(table), "--column", "loss=final", "--loss-unit", "bits/byte"]) == 0
    printed = capsys.readouterr()
    supported, _, rest = printed.out.partition("How they nest")
    assert "power_law_offset:x=tokens" in supported and "chinchilla" not in supported
    assert "power_law with E > 0" in rest
    opened = rest.partition("One more column would open")[2]
    assert "chinchilla" in next(line for line in opened.splitlines() if line.split()[:1] == ["params"])
    refused = document(capsys, ["laws", "--column", "loss=final", "--json"], code=2)
    assert refused["code"] == "BS-U001" and "--for" in refused["remedy"]


def test_laws_of_counts_and_of_two_responses_are_fitted(tmp_path, capsys, monkeypatch):
    """What is printed says what was observed; a law of another's posterior is refused by name."""
    once = Escalation(((0.9, 1),), longest=1)  # so few draws need not pass every check
    monkeypatch.setattr("bayescale.inference.PLAIN", once)
    rng = np.random.default_rng(0)
    counts = pd.DataFrame(dict(samples=50, successes=rng.binomial(50, rng.beta(0.5, 3.0, 40))))
    counts.to_csv(tmp_path / "counts.csv", index=False)
    short = ["--chains", "2", "--draws", "300", "--quiet"]
    assert run(["fit", str(tmp_path / "counts.csv"), "--law", "beta_binomial_passk", *short]) in (0, 4)
    printed = capsys.readouterr().out
    assert "successes in samples" in printed and "exact likelihood" in printed
    N, D = (np.ravel(x) for x in np.meshgrid(np.logspace(8, 9, 4), np.logspace(9, 11, 4)))
    noise = np.exp(0.05 * rng.standard_normal((2, len(N))))
    best = pd.DataFrame(dict(params=N, tokens=D, lr=1.79 * N**-0.713 * D**0.307 * noise[0]))
    best.assign(batch_tokens=0.58 * D**0.571 * noise[1]).to_csv(tmp_path / "best.csv", index=False)
    assert run(["fit", str(tmp_path / "best.csv"), "--law", "step_law", "--group", "none", *short]) in (0, 4)
    assert "lr, batch_tokens in tokens" in capsys.readouterr().out
    refused = document(capsys, ["fit", str(tmp_path / "best.csv"), "--law", "inference_aware", "--json"], code=3)
    assert refused["code"] == "BS-F001"


def test_laws_that_are_not_built_are_listed(capsys):
    laws = {law["name"]: law for law in document(capsys, ["laws", "--json"])["laws"]}
    assert len(laws) >= 74
    assert laws["farseer"]["status"] == "planned" and laws["chinchilla"]["status"] == "built"
    example = laws["generic_other_axis"]
    assert example["status"] == "built" and example["example_of"] == "power_law_offset"
    assert run(["laws"]) == 0 and "Planned, not built" in capsys.readouterr().out
    assert run(["laws", "chinchilla"]) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("Decides", "Not identified", "Valid for", "Example", "nats/token"))


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("params,tokens,loss\n1e8,2e9,3.1\n2e8,4e9,\n", "BS-R001", "row 3"),
        ("params,tokens,loss\n1e8,2e9,3.1\n2e8,-4e9,2.9\n", "BS-R003", "tokens"),
        ("params,tokens,loss\n" + "".join(f"{n}e8,2e10,{3 - n / 10}\n" for n in range(1, 12)), "BS-R017", "same D"),
        ("params,tokens,loss\n" + "".join(f"{n}e8,{n}e9,{3 - n / 10}\n" for n in range(1, 12)), "BS-R018", "apart"),
        ("params,tokens,loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n3e8,1e10,2.7\n", "BS-R020", "3 rows"),
        ("", "BS-R037", "empty"),
    ],
)
def test_bad_input_is_one_message_and_exit_3(tmp_path, capsys, text, code, words):
    file = tmp_path / "runs.csv"
    file.write_text(text)
    made = document(capsys, ["fit", str(file), "--json"], code=3)
    assert made["schema"] == "bayescale.error/1" and made["code"] == code and made["remedy"]
    assert run(["fit", str(file)]) == 3
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    message = captured.err.strip().splitlines()[-1]
    assert message.startswith("Error: ") and words in message and code in message and "runs.csv" in message


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["fit"], 2),
        (["fit", "byte-ladder", "--chains", "many"], 2),
        (["fit", "byte-ladder", "--law", "chinchila"], 2),
        (["fit", "byte-ladder", "--fix", "E"], 2),
        (["fit", "byte-ladder", "--prior", "alpha=gaussian(1,2)"], 2),
        (["fit", "byte-lader"], 3),
        (["fit", "missing.csv"], 3),
        (["check", "nowhere"], 3),
        (["forecast", "nowhere", "--params", "1e9"], 3),
    ],
)
def test_exit_codes(capsys, arguments, code):
    made = document(capsys, [*arguments, "--json"], code=code)
    assert made["schema"] == "bayescale.error/1"
    assert run(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


def test_near_names_are_offered(capsys):
    run(["fit", "byte-lader"])
    assert "byte-ladder" in capsys.readouterr().err
    run(["fit", "byte-ladder", "--law", "chinchila"])
    assert "chinchilla" in capsys.readouterr().err


def test_questions_that_a_fit_cannot_answer(folder, capsys):
    made = document(capsys, ["forecast", str(folder), "--json"], code=2)
    assert "--params" in made["remedy"]


def test_the_verdict_counts_every_check(folder, capsys):
    """The cross-check too, which `check` and `audit` repeat."""
    made = json.loads((folder / "fit.json").read_text())
    found = [*made["design"], *made["checks"], *made["audit"]]
    assert "baseline-agreement" in [f["code"] for f in made["checks"]]
    told = f"{sum(f['status'] == 'pass' for f in found)} of {len(found)} checks passed."
    assert made["verdict"]["lines"][-1] == told
    check = document(capsys, ["check", str(folder), "--json"])
    assert [f["code"] for f in check["checks"]] == [f["code"] for f in made["checks"]]
    assert check["verdict"]["lines"][-1] == told


def test_not_converged_is_exit_4_with_the_results(tmp_path, capsys, monkeypatch):
    import bayescale.inference

    for ladder in ("PLAIN", "GROUPED"):
        monkeypatch.setattr(bayescale.inference, ladder, Escalation(((0.9, 1),), longest=1))
    out = tmp_path / "fit"
    arguments = ["fit", "byte-ladder", "--group", "none", "--draws", "20", "--chains", "2", "--out", str(out)]
    made = document(capsys, [*arguments, "--json"], code=4)
    assert not made["converged"] and made["headline_source"] == "none" and (out / "posterior.nc").exists()
    assert document(capsys, ["check", str(out), "--json"], code=4)["status"] == "fail"


def test_terminal_output_is_short_and_states_the_probability(folder, capsys):
    run(["fit", "byte-ladder", "--group", "none", "--prob", "0.8"])
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) < 30
    assert "80% credible intervals" in captured.out
    run(["fit", "byte-ladder", "--group", "none", "--details", "--quiet"])
    captured = capsys.readouterr()
    assert captured.err == "" and "R-hat" in captured.out and "Assumptions" in captured.out


def test_help_is_complete_and_loads_little():
    code = (
        "import sys\n"
        "from bayescale.cli import run\n"
        "code = run(['--help'])\n"
        "print([m for m in ('jax', 'pandas', 'numpy', 'scipy', 'matplotlib') if m in sys.modules], code)\n"
    )
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for command in "fit doctor check laws datasets allocate forecast".split():
        assert command in done.stdout


def interrupt_after(share_done):
    """A stand-in for the progress bar at which somebody presses Ctrl-C."""
    from contextlib import contextmanager

    @contextmanager
    def bar(progress, title):
        def report(share, doing):
            if doing == "sampling" and share > share_done:
                raise KeyboardInterrupt

        yield report

    return bar


def test_ctrl_c_keeps_a_usable_partial_posterior(tmp_path, capsys, monkeypatch):
    import bayescale.inference

    monkeypatch.setattr(bayescale.inference, "progress_bar", interrupt_after(0.5))
    out = tmp_path / "fit"
    arguments = ["fit", "byte-ladder", "--group", "none", "--draws", "4000", "--out", str(out), "--json"]
    made = document(capsys, arguments, code=130)
    assert made["verdict"]["status"] == "fail" and "Interrupted" in made["verdict"]["lines"][0]
    assert made["headline_source"] == "none"
    fit = bs.load_fit(out)
    assert fit.info["interrupted"] and 100 < fit.tree["posterior"].sizes["draw"] < 4000


def test_ctrl_c_in_warm_up_writes_nothing(tmp_path, capsys, monkeypatch):
    import bayescale.inference

    def bar(progress, title):
        raise KeyboardInterrupt

    monkeypatch.setattr(bayescale.inference, "progress_bar", bar)
    assert run(["fit", "byte-ladder", "--out", str(tmp_path / "fit"), "--quiet"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
