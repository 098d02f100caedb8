"""`qsjax study`, end to end, with its mistakes."""

import csv
import io
import json

import pytest
from prompt import qsjax

SMALL = ("mixtral-8x7b", "--gpus", "8", "--context", "8k,64k", "--twins", "2")


def run(*arguments, code=0):
    return qsjax("study", *arguments, code=code)


def test_the_study_is_printed_and_written(tmp_path):
    done = qsjax(
        "study", *SMALL, "--convention", "both", "--format", "json", "--out", str(tmp_path), code=0
    )
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    conventions = {row["convention"] for row in found["rows"]}
    assert conventions == {"physical", "paper"}
    (reference,) = (
        row
        for row in found["rows"]
        if (row["convention"], row["dimension"]) == ("physical", "reference")
    )
    assert reference["cells"] == 2
    assert len(found["combinations"]) == 4
    inputs = json.loads((tmp_path / "inputs.json").read_text())
    assert "study mixtral-8x7b" in inputs["repeat"]
    assert inputs["models"]["mixtral-8x7b"]["experts"] == 8
    assert json.loads((tmp_path / "result.json").read_text()) == found
    rows = list(csv.DictReader(io.StringIO((tmp_path / "study.csv").read_text())))
    assert len(rows) == 2 * len(found["rows"])  # two contexts
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1 + len(found["rows"])
    assert (tmp_path / "study.svg").read_text().count("</svg>") == 1


def test_one_convention_as_table_and_as_csv():
    text = run(*SMALL, "--convention", "paper").stdout
    assert text.startswith("On the paper's accelerator the dense twin wins in ")
    assert "paper accounting. A cell (model, q, context) flips where" in text
    assert "flips at q=2" in text
    assert "in every combination of the hardware dimensions" in text
    assert "physical" not in text
    printed = run(*SMALL, "--convention", "paper", "--format", "csv").stdout
    assert {row["convention"] for row in csv.DictReader(io.StringIO(printed))} == {"paper"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("llama-3.1-8b",), "llama-3.1-8b: no experts"),
        (("nosuch",), "nosuch"),
        (("mixtral-8x7b", "--gpus", "8,16"), "give one value"),
    ],
)
def test_mistakes_are_one_message(arguments, words):
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.count("Error:") == 1
    assert words in done.stderr
