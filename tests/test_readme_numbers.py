"""The numbers of README.md are those of the committed results."""

import json
import re

from snippets import ROOT

from benchmarks.wording import millions

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_speeds_are_those_of_the_committed_run():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    rate = re.search(r"would do [\d.]+ [MG] cells/s .*? does ([\d.]+ [MG])", results)[1]
    single = re.search(r"kept \| float32 \| (.*?) \|", results)[1]
    largest = re.search(r"\| 9,999,876,096 \| ([\d.]+) \| [\d.]+ \| (\d+) \|", results)
    numpy = re.search(r"over NumPy, same run \| ([\d.]+)x", results)[1]
    assert f"{rate} designs/s in float64, {numpy} times" in README
    assert f"({single} in float32)" in README
    assert f"{largest[1]} s and {float(largest[2]) / 1000:.2f} GB" in README


def test_the_machine_readable_results_are_those_of_the_page():
    runs = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    rates = re.findall(r'"argmax_f64_cells_per_s": ([\d.]+)', json.dumps(runs))
    assert any(f"{millions(float(rate))} designs/s" in README for rate in rates)
