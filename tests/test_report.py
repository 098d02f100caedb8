"""The interactive page: what it holds, what it refuses, and how it behaves in a real browser."""

import csv
import io
import json
import re
import subprocess
import sys

import browser
import matplotlib.pyplot as plt
import pytest

from qsjax.output import report

CONTEXTS = (4096, 32768, 1048576)


def best(variant, q, context, rate, **more):
    return {
        "model": "toy",
        "variant": variant,
        "q": q,
        "gpus": 8,
        "context": context,
        "is_feasible": True,
        "cells_feasible": 5,
        "tp": 8,
        "ep": 1,
        "pp": 1,
        "dp": 1,
        "kvp": 4,
        "kv_mode": "kvp",
        "batch": 32,
        "tpot_ms": 10.0,
        "tokens_per_s_per_gpu": rate,
        "tokens_per_s_per_user": 100.0,
        "bound_by": "HBM KV",
        "speedup_over_moe": 1.0,
        "speedup_over_moe_paper": 4.5,
        "terms": {"hbm_kv": 7.0, "compute_ffn": 3.0},
        **more,
    }


ANSWER = "The toy is fastest alone.\nA twin would be slower."
RESULT = {
    "answer": ANSWER,
    "convention": "physical",
    "cells_evaluated": 12345,
    "best": [
        *(best("moe", None, c, 1e6 / c) for c in CONTEXTS[:2]),
        {"model": "toy", "variant": "moe", "q": None, "gpus": 8, "context": CONTEXTS[2],
         "is_feasible": False, "cells_feasible": 0, "reasons": {"no sequence fits": 3}},
        *(best("dense", 5.0, c, 2e6 / c) for c in CONTEXTS),
    ],
}  # fmt: skip
INPUTS = {"command": ["explore", "toy"], "flags": {"gpus": [8]}, "hardware": {"name": "card"}}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    (path / "result.json").write_text(json.dumps(RESULT))
    (path / "inputs.json").write_text(json.dumps(INPUTS))
    return path


def embedded(page):
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


class TestContent:
    def test_the_page_holds_rows_figures_and_inputs(self, folder):
        page = report.write([folder], folder)
        assert page == folder / "report.html"
        data = embedded(page.read_text())
        assert data["folders"][0]["inputs"] == INPUTS
        assert data["folders"][0]["summary"]["cells_evaluated"] == 12345
        (table,) = data["tables"]
        assert len(table["rows"]) == 6
        assert {"terms.hbm_kv", "reasons.no sequence fits"} == set(table["fine"]) - {
            "terms.compute_ffn"
        }
        titles = [chart["title"] for chart in data["charts"]]
        assert titles == [
            "Throughput of the best design over context",
            "Dense twin over MoE",
            "Where the time of a token goes",
        ]

    def test_an_infeasible_context_has_no_value_but_a_reason(self, folder):
        chart = embedded(report.html([report.read(folder)]))["charts"][0]
        (moe,) = (s for s in chart["series"] if s["variant"] == "MoE")
        assert moe["points"][2]["y"] is None
        assert ["infeasible", "no room for KV"] in moe["points"][2]["tip"]

    def test_the_page_names_no_address_to_load_from(self, folder):
        page = report.html([report.read(folder)])
        assert "http://www.w3.org/2000/svg" in page  # a name, not an address to load
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
        assert "default-src 'none'" in page

    def test_content_cannot_end_the_script_early(self, folder):
        evil = RESULT | {"note": "</script><script>alert(1)</script>"}
        (folder / "result.json").write_text(json.dumps(evil))
        page = report.html([report.read(folder)])
        assert "<script>alert" not in page
        assert embedded(page)["folders"][0]["summary"]["note"] == evil["note"]

    def test_other_tables_come_from_csv_and_pictures_inline(self, folder):
        text = io.StringIO()
        csv.writer(text).writerows([["name", "value"], ["a", "1.5"], ["b", ""]])
        (folder / "extra.csv").write_text(text.getvalue())
        (folder / "best.csv").write_text("x\n1\n")  # the same rows as result.json's `best`
        (folder / "picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        found = report.read(folder)
        assert set(found.tables) == {"best", "extra"}
        assert found.tables["extra"] == [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]
        assert found.pictures["picture"].startswith("data:image/svg+xml;base64,")

    def test_other_results_have_their_own_figures(self, folder):
        cells = [
            {"variant": "moe", "q": None, "context": c, "parameter": "hbm_bw", "elasticity": 0.8}
            for c in CONTEXTS
        ]
        records = [
            {"id": "r1", "gpu": "H100", "predicted": 11.0, "measured": 10.0, "error_pct": 10.0},
            {"id": "r2", "gpu": "H100", "skipped_because": "unknown batch"},
        ]
        front = [
            best("moe", None, 4096, 5e3 / k, tokens_per_s_per_user=10.0 * k, terms=None)
            for k in (1, 2, 3)
        ]
        content = {"cells": cells, "records": records, "front": front}
        (folder / "result.json").write_text(json.dumps(content))
        titles = {c["title"] for c in embedded(report.html([report.read(folder)]))["charts"]}
        assert {
            "Elasticities over context",
            "Predicted against measured",
            "Throughput against interactivity",
        } <= titles

    def test_elasticities_of_several_metrics_and_gpu_counts_are_not_one_line(self, folder):
        """One value a context on every line, and only the parameters that move the metric most."""
        cells = [
            {"variant": "moe", "q": None, "gpus": gpus, "context": c, "metric": metric,
             "parameter": f"p{k}", "elasticity": 0.9 - 0.1 * k}
            for metric in ("tpot", "speedup") for gpus in (8, 64)
            for c in CONTEXTS for k in range(8)
        ]  # fmt: skip
        (folder / "result.json").write_text(json.dumps({"cells": cells}))
        charts = embedded(report.html([report.read(folder)]))["charts"]
        assert len(charts) == 4
        assert {"Elasticities over context, speedup, 64 GPUs"} < {c["title"] for c in charts}
        for chart in charts:
            assert [s["name"] for s in chart["series"]] == [f"MoE: p{k}" for k in range(5)]
            assert {len(s["points"]) for s in chart["series"]} == {len(CONTEXTS)}
            assert len({s["mark"] for s in chart["series"]}) == 5

    def test_the_folder_of_a_sweep_is_read_too(self, folder):
        (folder / "result.json").unlink()
        (folder / "inputs.json").unlink()
        (folder / "summary.json").write_text(json.dumps({"designs_computed": 7}))
        (folder / "sweep.json").write_text(json.dumps({"sweep": {"models": ["toy"]}}))
        (folder / "winners.csv").write_text("context,batch\n4096,8\n")
        rates = ",tokens_per_s_per_gpu,tokens_per_s_per_user\n"
        (folder / "front.csv").write_text(f"model{rates}toy,1,2\ntoy,2,1\n")
        assert embedded(report.html([report.read(folder)]))["charts"] == []
        (folder / "front.csv").unlink()
        found = report.read(folder)
        assert found.summary == {"designs_computed": 7}
        assert found.inputs == {"sweep": {"models": ["toy"]}}
        assert found.tables == {"winners": [{"context": 4096, "batch": 8}]}

    def test_the_cells_of_a_sweep_are_drawn_over_their_longest_axis(self, tmp_path):
        heads = "model,hardware,hbm_bw,context,tokens_per_s_per_gpu,tokens_per_s_per_user"
        (tmp_path / "winners.csv").write_text(
            f"{heads}\ntoy,h100,1e12,4096,9,8\ntoy,h100,2e12,4096,7,6\n"
        )
        data = embedded(report.html([report.read(tmp_path)]))
        (chart,) = data["charts"]
        assert chart["title"] == "Throughput of the best design over HBM bandwidth"
        assert chart["x"]["label"] == "HBM bandwidth [B/s]"
        (line,) = chart["series"]
        assert [(point["x"], point["y"]) for point in line["points"]] == [(1e12, 9), (2e12, 7)]
        (table,) = data["tables"]
        assert dict(zip(table["columns"], table["units"], strict=True)) == {
            "model": "",
            "hardware": "",
            "hbm_bw": "B/s",
            "context": "tokens",
            "tokens_per_s_per_gpu": "tokens/s/GPU",
            "tokens_per_s_per_user": "tokens/s/user",
        }

    def test_several_folders_stand_side_by_side(self, folder, tmp_path):
        second = tmp_path / "second"
        second.mkdir()
        (second / "result.json").write_text(json.dumps(RESULT | {"convention": "paper"}))
        data = embedded(report.write([folder, second], tmp_path).read_text())
        assert [f["name"] for f in data["folders"]] == ["results", "second"]
        found = {s["convention"] for c in data["charts"] for s in c["series"]}
        assert found == {"physical", "paper"}

    def test_more_rows_than_a_page_can_hold_are_counted(self, folder):
        (folder / "result.json").write_text(json.dumps({"many": [{"x": k} for k in range(5007)]}))
        (table,) = embedded(report.html([report.read(folder)]))["tables"]
        assert (len(table["rows"]), table["left_out"]) == (5000, 7)


class TestMistakes:
    def test_all_problems_of_all_folders_at_once(self, folder, tmp_path):
        (folder / "result.json").write_text("{broken")
        (folder / "inputs.json").write_text("[1]")
        (folder / "bad.csv").write_text("a,b\n1\n")
        with pytest.raises(ValueError, match=r"result\.json") as error:
            report.write([folder, tmp_path / "missing"], tmp_path)
        message = str(error.value)
        assert "result.json: Expecting property name" in message
        assert "inputs.json: an object is expected, list was found" in message
        assert "bad.csv: line 2 has another number of columns" in message
        assert "missing is not a folder" in message
        assert not (tmp_path / "report.html").exists()

    def test_an_empty_folder_says_how_to_fill_it(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no JSON, CSV or SVG.*qsjax explore"):
            report.read(tmp_path)

    def test_the_command_line_ends_with_code_2_and_one_message(self, tmp_path):
        command = [sys.executable, "-m", "qsjax", "report", str(tmp_path / "none")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert "none is not a folder" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_the_command_line_writes_the_page(self, folder):
        command = [sys.executable, "-m", "qsjax", "report", str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (folder / "report.html").exists()
        assert "report.html" in ended.stdout


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.skipif(browser.WHY_NOT is not None, reason=str(browser.WHY_NOT))
class TestBrowser:
    @pytest.fixture
    def loaded(self, tab, folder):
        tab.forget()
        tab.open(report.write([folder], folder))
        return tab

    def count(self, tab, selector):
        return tab.run("return document.querySelectorAll(arguments[0]).length", selector)

    def text(self, tab, selector):
        return tab.run("return document.querySelector(arguments[0]).innerText", selector)

    def test_it_loads_without_an_error_or_a_request(self, loaded, folder):
        assert loaded.console() == []
        sent = [url for url in loaded.requests() if not url.startswith("data:")]
        assert all(url.startswith("file:") and url.endswith("report.html") for url in sent), sent
        assert self.count(loaded, ".chart svg") >= 3

    def test_a_script_error_would_be_seen(self, loaded, folder):
        page = folder / "broken.html"
        page.write_text((folder / "report.html").read_text().replace("start();", "absent();"))
        loaded.open(page)
        assert any("absent is not defined" in entry["message"] for entry in loaded.console())

    def test_a_hover_shows_the_design(self, loaded):
        assert loaded.run("return document.getElementById('tip').hidden")
        loaded.hover(".chart .mark")
        assert not loaded.run("return document.getElementById('tip').hidden")
        shown = self.text(loaded, "#tip")
        assert "tp=8 kvp=4" in shown
        assert "4k" in shown
        assert "HBM KV" in shown

    def test_the_keyboard_reaches_a_point_too(self, loaded):
        loaded.run("document.querySelector('.chart .mark').focus()")
        assert "tp=8 kvp=4" in self.text(loaded, "#tip")

    def test_an_infeasible_point_says_why(self, loaded):
        loaded.hover(".chart .missing")
        assert "no room for KV" in self.text(loaded, "#tip")

    def test_a_toggle_hides_a_variant_everywhere_and_back(self, loaded):
        before = self.count(loaded, ".chart .mark"), self.count(loaded, "tbody tr")
        loaded.click("#controls input[value='dense q=5']")
        assert self.count(loaded, "tbody tr") == 3
        assert self.count(loaded, ".chart .mark") < before[0]
        loaded.click("#controls input[value='dense q=5']")
        assert (self.count(loaded, ".chart .mark"), self.count(loaded, "tbody tr")) == before

    def test_a_toggle_hides_an_accounting(self, loaded):
        second = ".chart:nth-child(2) .mark"
        assert self.count(loaded, second) == 6
        loaded.click("#controls input[value='paper']")
        assert self.count(loaded, second) == 3

    def test_a_figure_with_all_off_says_so(self, loaded):
        loaded.click("#controls input[value='MoE']")
        loaded.click("#controls input[value='dense q=5']")
        assert "switch a variant" in self.text(loaded, ".chart .empty")

    def test_a_table_sorts_by_number_with_blanks_last(self, loaded):
        heads = "[...document.querySelectorAll('th button')]"
        at = f"{heads}.findIndex(t => t.innerText === 'tokens_per_s_per_gpu')"
        rows = "[...document.querySelectorAll('tbody tr')]"
        read = f"const k = {at}; return {rows}.map(r => r.cells[k].innerText)"
        click = f"{heads}[{at}].click()"
        loaded.run(click)
        up = loaded.run(read)
        assert up[-1] == ""
        assert [float(x) for x in up[:-1]] == sorted(float(x) for x in up[:-1])
        loaded.run(click)
        down = loaded.run(read)
        assert down[-1] == ""
        assert down[:-1] == up[:-1][::-1]

    def test_a_filter_keeps_matching_rows(self, loaded):
        loaded.type("input[type=search]", "1048576")
        assert self.count(loaded, "tbody tr") == 2
        assert "2 of 6 rows" in self.text(loaded, ".tools")

    def test_the_fine_print_unfolds(self, loaded):
        """Terms and reasons, and what is alike in every row and told above them."""
        before = self.count(loaded, "th")
        said = self.text(loaded, ".note")
        assert said.startswith("In every row: ")
        loaded.click(".tools button")
        assert self.count(loaded, "th") == before + 3 + said.count(", ") + 1

    def test_the_answer_comes_first(self, loaded):
        lines = self.text(loaded, "#answer").split("\n")
        assert [line for line in lines if line] == ANSWER.split("\n")
        top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
        assert loaded.run(top, "#answer") < loaded.run(top, "#charts")

    def test_heads_have_units_and_large_numbers_prefixes(self, loaded, folder):
        (folder / "chips.csv").write_text("hbm_bw,name\n3714300000000,a\n")
        loaded.open(report.write([folder], folder))
        texts = "return [...document.querySelectorAll(arguments[0])].map(x => x.innerText)"
        assert "hbm_bw[B/s]" in [x.replace(" ", "") for x in loaded.run(texts, "th")]
        assert "3.71T" in loaded.run(texts, "td")

    def test_nothing_is_cut_off_on_a_narrow_page(self, tmp_path, folder):
        long = {"path": "h100-sxm, hbm_bandwidth=3714300000000", "limits": list(range(40))}
        (folder / "inputs.json").write_text(json.dumps(INPUTS | {"a_field_of_a_long_name": long}))
        with browser.page(tmp_path / "narrow", (500, 900), dark=True) as narrow:
            narrow.open(report.write([folder], folder))
            narrow.run("document.querySelectorAll('details').forEach(x => { x.open = true })")
            # No value stands in a column too narrow for its words.
            widths = "[...document.querySelectorAll('.inputs dd')].map(x => x.clientWidth)"
            assert narrow.run(f"return Math.min(...{widths})") > 300
            assert narrow.run("return document.documentElement.scrollWidth <= innerWidth")
            ground = narrow.run("return getComputedStyle(document.body).backgroundColor")
            assert ground == "rgb(13, 17, 23)"

    def test_the_screenshot_is_drawn_upon(self, loaded):
        pixels = plt.imread(io.BytesIO(loaded.screenshot()))[..., :3]
        colours = {tuple(colour) for colour in (pixels[::2, ::2] * 255).astype(int).reshape(-1, 3)}
        wanted = [(0x2B, 0x8C, 0xD6), (0xE0, 0x69, 0x2A)]  # the MoE's blue, the twin's orange
        assert all(any(max(abs(a - b) for a, b in zip(c, w, strict=True)) < 4 for c in colours)
                   for w in wanted)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("deep.json", "[" * 200_000, "write the results again"),
        ("wide.csv", "a,b\n1," + "x" * 140_000 + "\n", "write the results again"),
        ("twice.csv", "a,b,a\n1,2,3\n", "column a stands twice"),
    ],
)
def test_hostile_files_are_told(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        report.read(tmp_path)


def test_only_pages_of_qsjax_are_overwritten(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    page = report.write([tmp_path], tmp_path)
    assert report.write([tmp_path], tmp_path) == page
    page.write_text("<title>My thesis</title>")
    with pytest.raises(ValueError, match="was not written by qsjax"):
        report.write([tmp_path], tmp_path)
    assert page.read_text() == "<title>My thesis</title>"
