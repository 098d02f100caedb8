"""The line that says how far a long question is."""

import io
import sys
import time
import types

import pytest

import qsjax as qs
from qsjax.grid import progress
from qsjax.grid.entry import entry


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    found = Screen()
    # pytest puts its own stream there before each test.
    own = types.SimpleNamespace(stderr=found, modules=sys.modules)
    monkeypatch.setattr(progress, "sys", own)
    monkeypatch.setattr(progress, "SILENCE", 0.05)
    monkeypatch.setattr(progress, "_PAUSE", 0.02)
    monkeypatch.delenv("QSJAX_PROGRESS", raising=False)
    return found


def test_a_long_body_is_told_and_the_line_is_wiped(screen):
    with progress.watch("explore"):
        for _ in progress.over(range(4)):
            time.sleep(0.05)
    said = screen.getvalue().split("\r")
    shown = [text.rstrip() for text in said if text.strip()]
    assert all(text.startswith("explore: ") for text in shown)
    assert any("50%" in text or "75%" in text for text in shown)
    assert any(text.endswith("left") for text in shown)
    assert said[-1] == ""
    assert set(said[-2]) == {" "}
    assert len(said[-2]) >= max(map(len, shown))


def test_a_short_body_is_silent(screen):
    with progress.watch("explore"):
        pass
    assert screen.getvalue() == ""


def test_nobody_watches_no_terminal(monkeypatch):
    monkeypatch.delenv("QSJAX_PROGRESS", raising=False)
    found = io.StringIO()
    monkeypatch.setattr(sys, "stderr", found)
    assert not progress.is_watched()
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert progress.is_watched()
    monkeypatch.setenv("QSJAX_PROGRESS", "off")
    assert not progress.is_watched()


def test_loops_in_loops_are_shares_of_a_step():
    watch = progress.Watch("sweep")
    watch.levels = [progress.Level(4, 1, ""), progress.Level(10, 5, "")]
    assert watch.share() == pytest.approx(0.25 + 0.25 * 0.5)
    watch.levels = [progress.Level(100e6, 20e6, "designs")]
    watch.levels[0].done = 60e6
    # 40 M in 4 s: 40 M more take as long, and what was there before took no time.
    assert watch.line(watch.began + 4.0) == "sweep: 60%, 4 s, 4 s left, 10.0 M designs/s"


def test_a_question_within_a_question_has_no_line_of_its_own(screen):
    with progress.watch("outer"), progress.watch("inner"):
        time.sleep(0.15)
    assert "outer" in screen.getvalue()
    assert "inner" not in screen.getvalue()


def test_questions_are_watched(screen, monkeypatch):
    names = []
    monkeypatch.setattr(progress.Watch, "__enter__", lambda watch: names.append(watch.name))
    monkeypatch.setattr(progress.Watch, "__exit__", lambda *_: None)
    qs.explore(qs.Problem("llama-3.1-8b", "h100-sxm", gpus=1, context=8192))
    qs.break_even(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192, twins=5))
    assert names == ["explore", "break_even"]


def test_an_error_ends_the_line(screen):
    @entry
    def explore():
        time.sleep(0.15)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore()
    assert progress._running is None
    assert screen.getvalue().endswith("\r")
