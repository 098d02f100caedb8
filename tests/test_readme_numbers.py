"""The numbers of README.md are those of the committed results."""

import json
import re

from snippets import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_speeds_are_those_of_the_committed_run():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    ceiling, rate = re.search(
        r"would do ([\d.]+ [MG]) cells/s .*? does ([\d.]+) M", results
    ).groups()
    most, single = (
        re.search(pattern, results)[1]
        for pattern in (r"at these ceilings \| .*? \| (.*?) \|", r"kept \| float32 \| (.*?) \|")
    )
    largest = re.search(r"\| 9,999,876,096 \| ([\d.]+) \| [\d.]+ \| (\d+) \|", results)
    numpy = re.search(r"over NumPy, same run \| ([\d.]+)x", results)[1]
    rivals = re.findall(r"^\| (?:aicon|llm-|genz).*? \| .*? \| ([\d,]+) \|", results, re.MULTILINE)
    assert f"{ceiling} at this machine's" in README
    assert f"{float(rate):.0f} M, {numpy} times" in README
    assert f"| The same in float32 | {most} | {single} |" in README
    assert f"{largest[1]} s, {float(largest[2]) / 1000:.2f} GB" in README
    assert len(rivals) == 3
    for number in rivals:
        assert f" {number}" in README


def test_errors_are_those_of_the_validation_page():
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    rows = re.findall(r"median ([\d.]+) %, 90 % ([\d.]+) %, bias ([+-][\d.]+) %, n = (\d+)", page)
    assert len(rows) >= 2
    for median, most, _, count in rows[:2]:
        assert f"{count} measurements | median error {median} %, 90 % below {most} %" in README
    worst = re.search(r"KV capacity.*?median ([\d.]+) %, worst ([\d.]+) %, n = (\d+)", page)
    expected = f"{worst[3]} measurements | median error {worst[1]} %, worst {float(worst[2]):.0f} %"
    assert expected in README
    small = re.search(r"gpt-oss-20b on H100.*?worst ([\d.]+) %, n = (\d+)", page)
    assert f"in the fit | {small[2]} measurements | worst {small[1]} %" in README


def test_the_machine_readable_results_are_those_of_the_page():
    runs = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    rates = re.findall(r'"argmax_f64_cells_per_s": ([\d.]+)', json.dumps(runs))
    assert any(f"{float(rate) / 1e6:.0f} M, " in README for rate in rates)
