"""The live page: its answers are those of `explore`, and a real browser moves its sliders."""

import dataclasses
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import browser
import numpy as np
import pytest
from click.testing import CliRunner

import qsjax as qs
from qsjax.cli import cli
from qsjax.output.live import view as live
from qsjax.output.live.view import Setting

NAMES = {"context": ["8k", "32k"], "gpus": 8, "twins": 5}
RIGHT, END = "\ue014", "\ue010"  # keys, as WebDriver writes them


def problem(**more):
    return qs.Problem("mixtral-8x7b", "h100-sxm", **(NAMES | more))


def setting(**more):
    return Setting(**({"hardware": "h100-sxm", "gpus": 8.0, "context": 32768.0, "q": 5.0} | more))


class TestAnswers:
    def test_the_first_setting_is_the_problem(self):
        asked = problem(limits=qs.Limits(max_tpot=0.02, min_user_rate=10.0))
        assert live.first(asked) == setting(max_tpot=0.02, min_user_rate=10.0)

    def test_the_answer_is_that_of_explore(self):
        found = live.view(problem(), setting())
        asked = qs.explore(problem(context="32k"))
        assert found.answer == asked.summary()
        assert found.rows == asked.rows()

    @pytest.mark.parametrize(
        ("moved", "asked"),
        [
            ({"hardware": "h200-sxm"}, {"hardware": "h200-sxm"}),
            ({"gpus": 16.0}, {"gpus": 16}),
            ({"context": 8192.0}, {"context": "8k"}),
            ({"q": 3.0}, {"twins": 3}),
            ({"q": 0.0}, {"twins": ()}),
            ({"max_tpot": 0.02}, {"limits": qs.Limits(max_tpot=0.02), "batch": "best"}),
            ({"min_user_rate": 40.0}, {"limits": qs.Limits(min_user_rate=40.0), "batch": "best"}),
        ],
    )
    def test_every_control_says_what_the_problem_would(self, moved, asked):
        own = {"model": "mixtral-8x7b", "hardware": "h100-sxm", **NAMES, "context": "32k"} | asked
        found = live.view(problem(), setting(**moved))
        expected = qs.explore(qs.Problem(**own))
        assert found.answer == expected.summary()
        assert found.rows == expected.rows()

    @pytest.mark.parametrize(
        ("factor", "fields"),
        [
            ("hbm_bw", ["hbm_bw"]),
            ("hbm_bytes", ["hbm_bytes"]),
            ("link_bw", ["intra_bw", "inter_bw"]),
            ("flops", ["flops_bf16", "flops_fp8", "flops_fp4"]),
        ],
    )
    def test_a_factor_scales_all_that_its_name_says(self, factor, fields):
        device = qs.hardware("h100-sxm")
        scaled = device.replace(**{name: 2.0 * float(getattr(device, name)) for name in fields})
        moved = live.accelerator(problem(), setting(**{factor: 2.0})).spec
        for field in dataclasses.fields(device):
            if field.name != "label":
                assert getattr(moved, field.name) == getattr(scaled, field.name), field.name
        found = live.view(problem(), setting(**{factor: 2.0}))
        expected = qs.explore(
            qs.Problem("mixtral-8x7b", scaled, gpus=8, context="32k", twins=5)
        ).rows()
        assert [row["tpot"] for row in found.rows] == [row["tpot"] for row in expected]
        assert found.rows[0]["hardware"] == f"h100-sxm, 2x {live.FACTORS[factor]}"
        assert found.rows[0]["interval_rests_on"] == expected[0]["interval_rests_on"]

    def test_bars_sum_to_the_time_and_to_the_memory(self):
        found = live.view(problem(), setting(hbm_bytes=1.5))
        assert [one.row["q"] for one in found.shown] == [None, 5.0]
        for one in found.shown:
            assert sum(one.time.values()) == pytest.approx(one.row["tpot"], rel=1e-12)
            held = 1.5 * float(qs.hardware("h100-sxm").hbm_bytes)
            assert sum(one.memory.values()) == pytest.approx(held, rel=1e-12)
            assert min(one.memory.values()) >= 0

    def test_curves_are_the_rows_of_explore(self):
        asked = problem()
        rows = live.view(asked, setting()).curve
        assert rows == qs.explore(asked).rows()

    def test_a_single_context_has_the_usual_ones_around_it(self):
        assert live.contexts(problem(context=3000)) == (
            *(1024.0, 2048.0, 3000.0, 4096.0, 8192.0, 16384.0, 32768.0),
        )

    def test_a_limit_that_nothing_keeps_is_named(self):
        """It said before that the model would fit with less memory than there is."""
        found = live.view(problem(), setting(max_tpot=1e-4))
        assert found.shown == []
        lines = found.answer.split("\n")
        assert lines[0] == "No design keeps TPOT <= 0.1 ms."
        assert "some fit, but none keeps TPOT <= 0.1 ms." in lines[1]
        assert "it would fit" not in found.answer

    def test_a_twin_that_does_not_run_is_explained(self):
        found = live.view(problem(), setting(gpus=1.0, hbm_bytes=1.41, q=16.0))
        asked = qs.explore(live.problem_at(problem(), setting(gpus=1.0, hbm_bytes=1.41, q=16.0)))
        assert found.answer == asked.summary()
        assert found.answer.count("No design for the dense twin of mixtral-8x7b at q=16") == 1
        assert len(found.shown) == 1

    def test_what_one_page_cannot_show_is_told_at_once(self):
        asked = qs.Problem(
            ["mixtral-8x7b", "llama-3.1-8b"],
            "h100-sxm",
            convention="both",
            axes={"hbm_bw": [3e12, 4e12]},
        )
        with pytest.raises(ValueError, match="model: the page shows one model") as told:
            live.check(asked)
        assert "axes: the page shows one value of hbm_bw; 2 are given" in str(told.value)
        assert "convention: " in str(told.value)


class TestMistakes:
    def test_without_panel_one_message_names_the_extra(self):
        code = (
            "import sys; sys.modules['panel'] = None\n"
            "from qsjax.cli import main\n"
            "sys.argv = ['qsjax', 'app', 'mixtral-8x7b', '--no-browser']\n"
            "main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 2
        assert "pip install 'qsjax[app]'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_port_in_use_is_told_in_one_line(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = CliRunner().invoke(
                cli, ["app", "mixtral-8x7b", "--gpus", "8", "--port", str(port), "--no-browser"]
            )
        assert done.exit_code == 2
        (line,) = [line for line in done.output.splitlines() if line.startswith("Error")]
        assert f"port {port} cannot be used (Address already in use); give another one" in line

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["mixtral-8x7c"], "mixtral-8x7b"),
            (["mixtral-8x7b", "--port", "70000"], "port 70000 is not allowed"),
            (["mixtral-8x7b", "--convention", "both"], "give physical or paper"),
        ],
    )
    def test_mistakes_end_with_code_2(self, arguments, says):
        done = CliRunner().invoke(cli, ["app", *arguments, "--no-browser"])
        assert done.exit_code == 2
        assert says in done.output


class TestPage:
    """Without a browser: what follows a move of a control."""

    @pytest.fixture
    def page(self):
        from qsjax.output.live.page import Page

        return Page(problem())

    def rates(self, page):
        return [list(source.data["rate"]) for source in page.curves.sources]

    def test_a_move_is_answered_and_drawn(self, page):
        before = self.rates(page)
        page.controls["hbm_bw"].value = 2.0
        moved = live.view(problem(), setting(hbm_bw=2.0))
        assert moved.answer.split("\n")[0] in page.answer.object
        rows = live.view(problem(), setting(hbm_bw=2.0)).curve
        own = [[r["tokens_per_s_per_gpu"] for r in rows if r["q"] == q] for q in (None, 5.0)]
        assert self.rates(page) == own
        assert [list(source.data["rate"]) for source in page.curves.starts] == before
        assert own != before

    def explored(self, monkeypatch):
        """The problems that are explored from now on."""
        asked, explore = [], live.explore
        monkeypatch.setattr(
            live, "explore", lambda problem: asked.append(problem) or explore(problem)
        )
        return asked

    def test_a_move_computes_what_it_changes_and_nothing_twice(self, page, monkeypatch):
        """Work is counted, not time: one exploration for the answer and the curves."""
        asked = self.explored(monkeypatch)
        page.controls["hbm_bw"].value = 2.0
        assert [len(problem.stated.contexts) for problem in asked] == [2]
        before = page.answer.object
        page.controls["context"].value = 8192.0  # was computed for the curves
        assert page.answer.object != before
        page.controls["context"].value = 32768.0
        page.controls["hbm_bw"].value = 1.0
        page.controls["hbm_bw"].value = 2.0
        assert page.answer.object == before
        assert len(asked) == 1

    def test_within_a_limit_the_curves_answer_moves_of_the_context(self, page, monkeypatch):
        page.controls["max_tpot"].value = 0.05
        asked = self.explored(monkeypatch)
        page.controls["context"].value = 8192.0
        assert asked == []
        expected = live.view(problem(), setting(max_tpot=0.05, context=8192.0)).answer
        assert expected.split("\n")[0] in page.answer.object

    def test_answers_that_are_kept_have_an_end(self, page, monkeypatch):
        monkeypatch.setattr("qsjax.output.live.page.KEPT", 2)
        for factor in (1.19, 1.41, 1.68):
            page.controls["hbm_bw"].value = factor
        assert [kept.hbm_bw for kept in page.explored] == [1.41, 1.68]

    def test_bars_end_where_the_time_of_the_token_does(self, page):
        page.controls["context"].value = 8192.0
        ends = {}
        for y, right in zip(*(page.time.source.data[k] for k in ("y", "right")), strict=True):
            ends[y] = max(right, ends.get(y, 0.0))
        rows = live.view(problem(), setting(context=8192.0)).rows
        assert [ends[1], ends[0]] == pytest.approx([1e3 * row["tpot"] for row in rows])

    def test_without_a_twin_there_is_one_bar_and_one_curve(self, page):
        page.controls["q"].value = 0.0
        assert set(page.time.source.data["y"]) == {0}
        assert self.rates(page)[1] == []
        assert "dense" not in page.time.table.object

    def test_nothing_that_runs_is_an_answer_too(self, page):
        page.controls["max_tpot"].value = page.controls["max_tpot"].values[1]
        page.controls["gpus"].value = 1.0
        assert "Nothing runs" in page.answer.object
        assert page.time.source.data["y"] == []
        assert np.isnan(self.rates(page)).all()

    def test_a_dense_model_has_no_twin_to_choose(self):
        from qsjax.output.live.page import Page

        page = Page(qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k"))
        assert "q" not in page.controls
        assert "llama-3.1-8b is fastest" in page.answer.object

    def test_what_does_not_fit_an_accelerator_is_said_on_the_page(self):
        from qsjax.output.live.page import Page

        page = Page(problem(limits=qs.Limits(max_usd=100.0)))
        unpriced = next(
            name for name in qs.hardware_names() if not float(qs.hardware(name).usd_per_hour)
        )
        page.controls["hardware"].value = unpriced
        assert "has no usd_per_hour" in page.answer.object

    def test_names_are_text_and_no_markup(self):
        from qsjax.output.live.page import Page

        device = qs.hardware("h100-sxm").replace(label="<b>mine</b>")
        page = Page(qs.Problem("mixtral-8x7b", device, gpus=8, context="8k"))
        assert "&lt;b&gt;mine" in page.answer.object
        assert "<b>mine" not in page.answer.object

    def test_an_update_takes_less_than_a_tenth_of_a_second_of_computing(self):
        """At 64 GPUs and eight contexts; the bound leaves room for a busy machine."""
        from qsjax.output.live.page import Page

        page = Page(qs.Problem("deepseek-v3", "h200-sxm", gpus=64, twins=5))
        spent = []
        for factor in (1.19, 1.41, 1.68, 2.0, 2.38):
            start = time.process_time()
            page.controls["hbm_bw"].value = factor
            spent.append(time.process_time() - start)
        assert min(spent) < 0.25


@pytest.fixture(scope="module")
def served():
    page = qs.app(problem(), browser=False)
    yield page
    page.stop()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


TEXT = "(deep(document, '.lead') || {innerText: ''}).innerText"
SHOWS = f"return {TEXT}.includes(arguments[0])"


class TestServer:
    def test_only_this_machine_reaches_it(self, served):
        port = int(served.url.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        # Another address of the same machine: what listens on all of them would answer.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), 5)

    @pytest.mark.parametrize(
        ("origin", "code"), [("http://127.0.0.1:{}", 101), ("http://example.org", 403)]
    )
    def test_pages_of_others_may_not_talk_to_it(self, served, origin, code):
        port = int(served.url.rstrip("/").rpartition(":")[2])
        head = (
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: {origin.format(port)}\r\n"
            f"Sec-WebSocket-Protocol: bokeh, {token(served.url)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(head.encode())
            assert line.recv(100).split()[1] == str(code).encode()

    def test_a_notebook_shows_it_and_it_ends(self):
        page = qs.app(problem(context="8k"), browser=False)
        assert page.url in page._repr_html_()
        assert page.url in repr(page)
        page.stop()
        page.stop()
        port = int(page.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)

    def test_the_command_says_where_and_ends_with_an_interrupt(self):
        command = ["app", "mixtral-8x7b", "--gpus", "8", "--context", "8k"]
        with subprocess.Popen(
            [sys.executable, "-m", "qsjax", *command, "--port", "0", "--no-browser"],
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            url = running.stdout.readline().split()[0]
            with urllib.request.urlopen(url) as answer:
                assert "mixtral-8x7b" in answer.read().decode()
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 0


def token(url):
    """The token of a new session, from the page."""
    with urllib.request.urlopen(url) as answer:
        return re.search(r'"token":"([^"]+)"', answer.read().decode())[1]


@pytest.mark.skipif(browser.WHY_NOT is not None, reason=str(browser.WHY_NOT))
class TestBrowser:
    @pytest.fixture
    def loaded(self, served, tab):
        tab.forget()
        tab.open(served.url)
        tab.wait(SHOWS, "mixtral-8x7b is fastest")
        return tab

    def handle(self, tab, name):
        return tab.deep(f".{name}") and tab.run(
            f"{browser.DEEP} return deep(deep(document, arguments[0]).shadowRoot, '.noUi-handle')",
            f".{name}",
        )

    def first_sentence(self, **moved):
        return live.view(problem(), setting(**moved)).answer.split("\n")[0]

    def test_it_opens_with_the_answer_of_the_problem(self, loaded):
        assert loaded.run(f"{browser.DEEP} return {TEXT}") == self.first_sentence()

    def test_a_key_on_a_slider_changes_sentence_and_figures(self, loaded):
        before = loaded.screenshot()
        loaded.press(self.handle(loaded, "hbm_bw"), RIGHT * 4)
        loaded.wait(SHOWS, "2x HBM bandwidth")
        assert loaded.run(f"{browser.DEEP} return {TEXT}") == self.first_sentence(hbm_bw=2.0)
        curve = live.view(problem(), setting(hbm_bw=2.0)).curve
        top = max(row["tokens_per_s_per_gpu"] for row in curve)
        # What Bokeh holds in the page, and what it has drawn of it.
        loaded.wait(
            "return [...Bokeh.documents[0]._all_models.values()].some(m => m.data"
            " && m.data.rate && Math.max(...m.data.rate) === arguments[0])",
            top,
        )
        assert loaded.screenshot() != before

    def test_what_stands_above_a_slider_is_where_it_stands(self, loaded):
        """Quick moves left an older value there, written while the newer one was sent."""
        loaded.press(self.handle(loaded, "max_tpot"), RIGHT * 6)
        tpot = live.view(problem(), setting(max_tpot=0.03)).answer.split("\n")[0]
        loaded.wait(SHOWS, tpot)
        text = "[...Bokeh.documents[0]._all_models.values()].map(m => m.text).filter(t => t)"
        assert "time of a token at most: <b>30 ms</b>" in loaded.run(f"return {text}")

    def test_a_slider_follows_the_mouse(self, loaded):
        loaded.drag(self.handle(loaded, "context"), -200)
        loaded.wait(SHOWS, " at 8k")
        assert loaded.run(f"{browser.DEEP} return {TEXT}") == self.first_sentence(context=8192.0)

    def test_another_accelerator_is_chosen(self, loaded):
        loaded.run(
            f"{browser.DEEP} const s = deep(deep(document, '.hardware').shadowRoot, 'select');"
            "s.value = 'h200-sxm'; s.dispatchEvent(new Event('change'))"
        )
        loaded.wait(SHOWS, "h200-sxm")
        sentence = self.first_sentence(hardware="h200-sxm")
        assert loaded.run(f"{browser.DEEP} return {TEXT}") == sentence

    def test_a_limit_that_nothing_keeps_is_said(self, loaded):
        loaded.press(self.handle(loaded, "max_tpot"), RIGHT)
        loaded.press(self.handle(loaded, "hbm_bw"), "\ue011")
        loaded.press(self.handle(loaded, "min_user_rate"), END)
        loaded.wait(SHOWS, "No design keeps")

    def test_nothing_leaves_this_machine_and_no_script_fails(self, loaded, served):
        loaded.press(self.handle(loaded, "q"), RIGHT)
        loaded.wait("return (deep(document, 'table') || {innerText: ''}).innerText.includes('q=6')")
        asked = [url for url in loaded.requests() if url.startswith(("http", "ws"))]
        assert len(asked) > 3
        local = (served.url, served.url.replace("http", "ws"))
        assert [url for url in asked if not url.startswith(local)] == []
        assert [line for line in loaded.console() if line["level"] == "SEVERE"] == []

    def test_a_narrow_dark_page_cuts_nothing_off(self, served, tmp_path):
        with browser.page(tmp_path / "narrow", (400, 900), dark=True) as narrow:
            narrow.open(served.url)
            narrow.wait(SHOWS, "mixtral-8x7b is fastest")
            assert narrow.run("return document.documentElement.scrollWidth <= innerWidth")
            ground = narrow.run("return getComputedStyle(document.body).backgroundColor")
            assert ground == "rgb(13, 17, 23)"
            # The answer stands above the sliders there.
            top = f"{browser.DEEP} return deep(document, arguments[0]).getBoundingClientRect().top"
            assert narrow.run(top, ".answer") < narrow.run(top, ".controls")
