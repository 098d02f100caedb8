"""Progress of a question on one line, shown after two seconds.

The line is on standard error and is wiped when the answer is there. It appears in terminals and in
notebooks, and nowhere else; `QSJAX_PROGRESS=off` leaves it out there too.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

SILENCE = 2.0  # seconds without a word
_PAUSE = 0.5  # between two lines
_OFF = ("off", "0", "no")
_MINUTE = 60


def is_watched() -> bool:
    """Whether a person sees standard error: in a terminal, or in a notebook."""
    if os.environ.get("QSJAX_PROGRESS", "").lower() in _OFF:
        return False
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    return sys.stderr.isatty() or hasattr(kernel, "kernel")


class Level:
    """A loop: its total, what is done, and what was done before this run."""

    def __init__(self, total: float, done: float, unit: str) -> None:
        self.total, self.done, self.start, self.unit = total, done, done, unit

    def advance(self, by: float = 1.0) -> None:
        """Count `by` more steps as done."""
        self.done += by


class Watch:
    """A question that runs: its loops, from the outermost."""

    def __init__(self, name: str) -> None:
        self.name, self.began = name, time.monotonic()
        self.levels: list[Level] = []
        self._ended = threading.Event()
        self._width = 0
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def share(self) -> float:
        """Share that is done [1]."""
        part, width = 0.0, 1.0
        for level in list(self.levels):
            part += width * level.done / level.total if level.total else 0.0
            width = width / level.total if level.total else 0.0
        return min(part, 1.0)

    def line(self, now: float) -> str:
        """How far it is at a time of the monotonic clock [s]."""
        spent, share = now - self.began, self.share()
        words = [f"{self.name}:"]
        if share > 0:
            words.append(f"{share:.0%},")
        words.append(f"{_clock(spent)}")
        levels = list(self.levels)
        begun = levels[0].start / levels[0].total if levels and levels[0].total else 0.0
        if share > begun:
            words[-1] += f", {_clock(spent * (1.0 - share) / (share - begun))} left"
        if levels and levels[0].unit:
            rate = (levels[0].done - levels[0].start) / spent
            words[-1] += f", {rate / 1e6:,.1f} M {levels[0].unit}/s"
        return " ".join(words)

    def _tell(self) -> None:
        wait = SILENCE
        while not self._ended.wait(wait):
            text = self.line(time.monotonic())
            self._write(f"\r{text:<{self._width}}")
            self._width, wait = len(text), _PAUSE

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a stream that was closed meanwhile
            sys.stderr.write(text)
            sys.stderr.flush()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._width:
            self._write(f"\r{'':<{self._width}}\r")


_running: Watch | None = None


@contextlib.contextmanager
def watch(name: str) -> Iterator[None]:
    """Show the progress of the body once it takes long; only the outermost call shows any."""
    global _running
    if _running is not None or not is_watched():
        yield
        return
    try:
        with Watch(name) as _running:
            yield
    finally:
        _running = None


@contextlib.contextmanager
def steps(total: float, done: float = 0.0, unit: str = "") -> Iterator[Level]:
    """A loop of `total` steps, `done` of them before; `unit` names one where rates are told."""
    level, levels = Level(total, done, unit), _running.levels if _running else []
    levels.append(level)
    try:
        yield level
    finally:
        levels.remove(level)


def over(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each of which is a step."""
    listed = list(items)
    with steps(len(listed)) as loop:
        for item in listed:
            yield item
            loop.advance()


def _clock(seconds: float) -> str:
    """A time in words.

    >>> _clock(3.2), _clock(75)
    ('3 s', '1 min 15 s')
    """
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
