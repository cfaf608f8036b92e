"""What is no argument is refused alike by every verb and command: seeds, budgets, numbers, levels, fixed values."""

import ast
import json
import re
import subprocess
import sys
import warnings
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import typer
from test_targets import stand_in

import bayescale as bs
from bayescale.cli import run
from bayescale.cli.app import app
from bayescale.errors import MESSAGES, SEEDS, require_seed
from bayescale.law import Beta, HalfNormal, LogNormal, LogUniform, Normal, Uniform
from bayescale.tables import fit_document, fit_lines, headline_allocation

N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e8, 1e10, 4), np.geomspace(2e9, 2e11, 4)))
PACKAGE = Path(bs.__file__).parent


@pytest.fixture(scope="module")
def plain():
    return stand_in("chinchilla", dict(params=N, tokens=D, loss=2.5))


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    return str(plain.save(tmp_path_factory.mktemp("arguments") / "plain.nc"))


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused, in text and as a document, and returns the document."""

    def ask(arguments, code):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run([*arguments, "--json"]) == code, arguments
            told = capsys.readouterr()
            assert told.out.count("\n") == 1 and not told.err, "one document and nothing else"
            assert run(list(arguments)) == code
        said = capsys.readouterr()
        assert said.out == "" and "Traceback" not in said.err and "Warning" not in said.err
        made = json.loads(told.out)
        assert made["schema"] == "bayescale.error/1"
        return made

    return ask


SEEDED = (
    ("fit", "byte-ladder"),
    ("compare", "byte-ladder", "--law", "chinchilla", "--law", "kaplan_nd"),
    ("backtest", "byte-ladder"),
    ("calibrate", "byte-ladder"),
    ("batch", "byte-ladder"),
)


@pytest.mark.parametrize("command", SEEDED, ids=lambda c: c[0])
@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_that_no_generator_takes_is_wrong_usage(refused, command, seed):
    made = refused([*command, "--seed", seed], 2)
    assert made["code"] == "BS-U001" and "seed" in made["message"]


def test_every_verb_with_a_seed_checks_it(plain, ladder, ladder_fit, tmp_path):
    for verb in (
        lambda seed: bs.fit("chinchilla", ladder, seed=seed),
        lambda seed: bs.fit_many("chinchilla", {"t": ladder}, seed=seed),
        lambda seed: bs.compare(ladder, ["chinchilla", "kaplan_nd"], seed=seed),
        lambda seed: bs.stack([plain, plain], weights=[1, 1], seed=seed),
        lambda seed: bs.backtest("chinchilla", ladder, seed=seed),
        lambda seed: bs.calibrate("chinchilla", ladder, seed=seed),
        lambda seed: bs.simulate("chinchilla", ladder, seed=seed),
        lambda seed: bs.least_squares("chinchilla", ladder, seed=seed),
        lambda seed: bs.ladders(ladder, seed=seed),
        lambda seed: bs.specifications(ladder_fit, seed=seed),
        lambda seed: bs.bayesbag(ladder_fit, seed=seed),
        lambda seed: bs.forecast(plain, N=1e9, D=2e10, seed=seed),
        lambda seed: bs.report(ladder_fit, tmp_path / "report", seed=seed),
        lambda seed: bs.plot_fit(plain, seed=seed),
        lambda seed: bs.plot_residuals(plain, seed=seed),
    ):
        for seed in (-1, SEEDS, 0.5, "0", None):
            with pytest.raises(bs.LawError, match="a seed is a whole number") as caught:
                verb(seed)
            assert caught.value.code == "BS-U001"
    assert require_seed(np.uint32(SEEDS - 1)) == SEEDS - 1


@pytest.mark.parametrize("turn", range(2))
def test_a_budget_that_is_no_amount_of_compute_is_refused(refused, folder, turn):
    values = islice(cycle(["nan", "-1", "0", "inf", "-inf"]), turn, None)
    for *arguments, option in (
        ("fit", "byte-ladder", "--flops"),
        ("doctor", "byte-ladder", "--flops"),
        ("batch", "byte-ladder", "--flops"),
        ("compare", "byte-ladder", "--law", "chinchilla", "--law", "kaplan_nd", "--flops"),
        ("backtest", "byte-ladder", "--flops"),
        ("allocate", folder, "--flops"),
        ("regret", folder, "--params", "1e9", "--flops"),
        ("next", folder, "--budget"),
        ("next", folder, "--budget", "1e21", "--target"),
    ):
        made = refused([*arguments, option, next(values)], 3)
        assert made["code"] == "BS-F001" and "positive numbers of FLOP" in made["message"]


def test_what_is_no_number_never_gets_through(refused, folder):
    """Every option once, with one of the three in turn: a call takes a second, and one parser reads them all."""
    for value, arguments in zip(cycle(["nan", "inf", "-inf"]), _NUMBERS, strict=False):
        given = [a.replace("VALUE", value).replace("FOLDER", str(folder)) for a in arguments]
        assert refused(given, 2)["code"] in ("BS-U001", "BS-L003")


_NUMBERS = (
    ("allocate", "FOLDER", "--flops", "1e21", "--max-params", "VALUE"),
    ("allocate", "FOLDER", "--flops", "1e21", "--given", "D=VALUE"),
    ("allocate", "FOLDER", "--flops", "1e21", "--weight", "a=VALUE"),
    ("allocate", "FOLDER", "--flops", "1e21", "--prob", "VALUE"),
    ("forecast", "FOLDER", "--params", "VALUE", "--tokens", "2e10"),
    ("forecast", "FOLDER", "--params", "1e9", "--tokens", "VALUE"),
    ("forecast", "FOLDER", "--given", "N=VALUE"),
    ("reach", "FOLDER", "--target", "VALUE"),
    ("serve", "FOLDER", "--loss", "VALUE", "--tokens", "1e12"),
    ("serve", "FOLDER", "--loss", "2", "--tokens", "VALUE"),
    ("regret", "FOLDER", "--params", "VALUE", "--flops", "1e21"),
    ("judge", "--interval", "0", "VALUE", "--rows", "10"),
    ("judge", "--interval", "-inf", "inf", "--rows", "10"),
    ("judge", "--interval", "0", "1", "--rows", "10", "--width", "VALUE"),
    ("judge", "--interval", "0", "1", "--rows", "10", "--prob", "VALUE"),
    ("fit", "byte-ladder", "--fix", "alpha=VALUE"),
    ("fit", "byte-ladder", "--min-flops", "VALUE"),
    ("fit", "byte-ladder", "--prob", "VALUE"),
    ("compare", "byte-ladder", "--cut", "VALUE"),
    ("backtest", "byte-ladder", "--cut", "VALUE"),
    ("backtest", "byte-ladder", "--prob", "VALUE"),
    ("batch", "byte-ladder", "--prob", "VALUE"),
)


def test_numbers_outside_what_they_count_are_refused(refused, folder, plain, ladder):
    for value in ("0", "-3"):
        assert "positive" in refused(["allocate", folder, "--flops", "1e21", "--max-params", value], 2)["message"]
    for arguments in (["batch", "byte-ladder"], ["backtest", "byte-ladder"], ["compare", "byte-ladder"]):
        assert "workers" in refused([*arguments, "--workers", "-1"], 2)["message"]
    assert "min_flops" in refused(["fit", "byte-ladder", "--min-flops", "-1"], 2)["message"]
    assert refused(["forecast", folder, "--params", "1e9", "--tokens", "2e10", "--flops", "-1"], 3)["code"] == "BS-F001"
    for ask in (
        lambda: bs.allocate(plain, 1e21, max_params=np.nan),
        lambda: bs.fit("chinchilla", ladder, min_flops=np.nan),
        lambda: bs.runs_needed(plain, "a", width=np.inf),
        lambda: bs.judge((0.0, np.inf), 10),
    ):
        with pytest.raises(bs.LawError) as caught:
            ask()
        assert caught.value.code == "BS-U001"


def test_a_target_must_be_one_that_the_response_can_take(refused, folder, plain):
    for target in ("-1", "0"):
        assert "positive" in refused(["reach", folder, "--target", target], 3)["message"]
    for ask in (
        lambda: bs.reach(plain, np.nan),
        lambda: bs.reach(plain, 2.0, over="N", given={"D": -1.0}),
        lambda: bs.serve(plain, -1.0, 1e12),
    ):
        with pytest.raises(bs.NotFittedFor):
            ask()
    share = stand_in("large_monkeys", dict(samples=[1.0, 3, 10, 30], coverage=[0.1, 0.2, 0.4, 0.5]))
    with pytest.raises(bs.NotFittedFor, match="between 0 and 1"):
        bs.reach(share, 1.5)


def test_a_fixed_value_lies_in_its_prior_s_support(refused, ladder):
    for fixed in ("E=-1", "alpha=0", "alpha=-0.3", "A=0", "sigma=-1"):
        made = refused(["fit", "byte-ladder", "--fix", fixed], 2)
        assert (
            made["code"] == "BS-U001" and "its prior is" in made["message"] and fixed.split("=")[0] in made["message"]
        )
    with pytest.raises(bs.LawError, match="cannot be nan"):
        bs.least_squares("chinchilla", ladder, fix={"E": np.nan})
    for fixed in ({"E": 0.0}, {"alpha": 0.3}, {"A": 20.0}):  # a floor of zero is a law without one
        bs.build_model("chinchilla", ladder, group="none", fix=fixed)


def test_priors_know_their_support():
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    for prior, inside in (
        (Normal(0, 1), [1, 1, 1, 1, 1]),
        (LogNormal(0, 1), [0, 0, 1, 1, 1]),
        (HalfNormal(1), [0, 0, 1, 1, 1]),
        (Beta(1, 1), [0, 0, 1, 0, 0]),
        (Uniform(0, 1), [0, 1, 1, 1, 0]),
        (Uniform(-1, 0.5), [1, 1, 1, 0, 0]),
        (LogUniform(0.5, 1), [0, 0, 1, 1, 0]),
    ):
        assert prior.contains(x).tolist() == [bool(i) for i in inside], prior
    assert not Normal(0, 1).contains([np.nan, np.inf]).any()


def test_a_level_that_contradicts_its_input_is_refused(ladder_fit):
    level = str(ladder_fit.runs.labels("params")[1][0])
    own = float(level)
    made = bs.forecast(ladder_fit, N=1.004 * own, D=1e7, levels={"params": level})
    assert "same_group" in made.dataset
    for asked in ([2 * own], [own, 1.02 * own]):
        with pytest.raises(bs.NotFittedFor, match="is asked") as caught:
            bs.forecast(ladder_fit, N=asked, D=1e7, levels={"params": level})
        assert caught.value.code == "BS-F001"


def test_budgets_that_are_left_out_are_named(ladder_fit):
    fit = ladder_fit.with_info(budgets=[1e15, 1e20])
    lines = "\n".join(fit_lines(fit, headline_allocation(fit)))
    assert "1e+20 FLOP is 3.7e+05 times the largest run: left out" in lines and "--flops 1e+20 --far-ok" in lines
    near, far = fit_document(fit)["allocation"]
    assert near["reason"] is None and "nothing in the table" in far["reason"] and far["params"]["median"] is None
    silent = fit.with_info(budgets=[1e15], headline_source="none")
    assert "no number is headlined" in fit_document(silent)["allocation"][0]["reason"]
    only_far = fit.with_info(budgets=[1e20])
    assert "left out" in "\n".join(fit_lines(only_far, headline_allocation(only_far)))


def test_flags_that_would_be_ignored_are_refused(refused, capsys):
    for arguments in (["laws", "chinchilla", "--for", "byte-ladder"], ["laws", "--for", "byte-ladder", "--markdown"]):
        assert "--for" in refused(arguments, 2)["message"]
    assert run(["laws", "chinchilla", "--markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[2:][0].startswith("| `chinchilla` |")


def test_what_is_missing_is_named(refused, folder):
    assert "no file was named" in refused(["fit", ""], 3)["message"]
    made = refused(["forecast", folder], 2)
    assert made["code"] == "BS-U001" and "--params" in made["remedy"]


def test_licence_and_source_are_told_once_each(capsys):
    assert run(["datasets", "byte-ladder"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "licence: Apache-2.0" in lines
    assert len({line.partition(": ")[2] for line in lines if line.startswith(("licence: ", "source: "))}) == 2


@pytest.mark.parametrize("arguments", ["laws", "laws --json", "laws --help", "datasets --json"])
def test_a_reader_who_has_seen_enough_is_no_failure(arguments):
    words = [sys.executable, "-m", "bayescale", *arguments.split()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()  # long before anything is written
        said = command.stderr.read().decode()
        assert command.wait(60) == 0, said
    assert said == ""


FLAG = re.compile(r"(?<![\w<!-])--[a-z][a-z-]*")


def options_of(command):
    return {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}


def texts():
    """Every text of the package and of its messages, with where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(PACKAGE)} line {node.lineno}", node.value
    for code in MESSAGES.values():
        yield code.code, f"{code.meaning} {code.remedy}"


def test_flags_that_are_named_exist():
    known = typer.main.get_command(app).commands
    flags = {"--help", "--version"}.union(*map(options_of, known.values()))
    for where, text in texts():
        assert set(FLAG.findall(text)) <= flags, where
        for name, rest in re.findall(r"`bayescale ([a-z]+)([^`]*)`", text):
            assert name in known and set(FLAG.findall(rest)) <= options_of(known[name]), where


@pytest.mark.parametrize("flag, value", [("--column", "loss=a"), ("--unit", "params=millions"), ("--loss-unit", "ppl")])
def test_the_flag_to_leave_out_is_the_one_that_was_given(refused, flag, value):
    assert refused(["fit", "byte-ladder", flag, value], 2)["remedy"].startswith(f"Leave out {flag},")


@pytest.mark.parametrize(
    "call",
    [
        lambda frame: bs.fit("chinchilla", frame),
        lambda frame: bs.fit("chinchilla", frame, pool="recipe"),
        lambda frame: bs.backtest("chinchilla", frame),
        lambda frame: bs.least_squares("chinchilla", frame),
        lambda frame: bs.doctor(frame, "chinchilla"),
        lambda frame: bs.compare(frame, ["chinchilla", "kaplan_nd"]),
        lambda frame: bs.build_model("chinchilla", frame),
    ],
)
def test_a_table_that_was_not_read_is_named_with_its_remedy(ladder, call):
    for source in (ladder.frame, {"params": [1e8]}, "runs.csv"):
        with pytest.raises(bs.RunsError, match="read_runs") as caught:
            call(source)
        assert type(source).__name__ in str(caught.value)


def test_a_law_that_is_none_is_named(ladder):
    for law in (ladder, None, 3):
        with pytest.raises(bs.LawError, match=type(law).__name__):
            bs.doctor(ladder, law)
