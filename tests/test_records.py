"""Every answer is a record: a table, a document without a number that JSON lacks, and a view for notebooks."""

import json

import pandas as pd
import pytest

import bayescale as bs

ASKED = {
    "fit": lambda fit: fit,
    "least squares": lambda fit: bs.least_squares("chinchilla", fit.runs),
    "allocate": lambda fit: bs.allocate(fit, [1e16]),
    "forecast": lambda fit: bs.forecast(fit, N=1e6, D=1e9),
    "doctor": lambda fit: bs.doctor(fit.runs),
    "audit": bs.audit,
    "stability": lambda fit: bs.stability(fit, ["a"]),
    "regret": lambda fit: bs.regret(fit, N=[3e6], flops=1e15),
    "next": lambda fit: bs.next_runs(fit, budget=1e15),
    "needed": lambda fit: bs.runs_needed(fit, "a", width=0.01),
    "judge": lambda fit: bs.judge((0.454, 0.455), 240, width=0.0514),
    "reach": lambda fit: bs.reach(fit, 1.0),
    "serve": lambda fit: bs.serve(fit, 1.0, 1e12),
    "evaluate": lambda fit: bs.evaluate(fit.to_json(), N=1e6, D=1e9),
    "calibrate": lambda fit: bs.calibrate("chinchilla", fit.runs, simulations=4, group="none", progress=False),
    "batch": lambda fit: bs.fit_many("chinchilla", {"x": fit.runs}, group="none", progress=False),
}


@pytest.mark.parametrize("kind", ASKED)
def test_every_answer_is_a_record(ladder_fit, kind):
    made = ASKED[kind](ladder_fit)
    assert isinstance(made.frame(), pd.DataFrame) and len(made.frame())
    json.dumps(made.to_json(), allow_nan=False)
    assert "<table" in made._repr_html_() and repr(made)


def test_a_fit_s_document_is_that_of_the_command_line(ladder_fit, tmp_path):
    from bayescale.tables import write_folder

    written = json.loads((write_folder(ladder_fit, tmp_path / "fit") / "fit.json").read_text())
    assert written == json.loads(json.dumps(ladder_fit.to_json()))
