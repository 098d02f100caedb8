"""`python -m benchmarks.live_page`: how long a move of a slider takes, until answer and curves.

Needs the extra `app`. First in this process, where sending and painting are left out; then, where
there is a Chromium with its driver, from the key press to the changed sentence and curves.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import qsjax as qs
from tests import browser

MOVES = (1.19, 1.41, 1.68, 2.0, 2.38, 2.83, 3.36)


def _times(action: Callable[[float], Any]) -> dict[str, float]:
    """Median of wall and of processor time over the moves [ms]."""
    wall, cpu = [], []
    for factor in MOVES:
        start = time.perf_counter(), time.process_time()
        action(factor)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return {
        f"{k}_ms": round(1e3 * statistics.median(x), 1) for k, x in (("wall", wall), ("cpu", cpu))
    }


def measured(model: str = "deepseek-v3", gpus: int = 64, **more: Any) -> dict[str, Any]:
    """Times of the answer alone, and of a whole update: answer, bars and curves."""
    from qsjax.output.live import view as live
    from qsjax.output.live.page import Page

    problem = qs.Problem(model, "h200-sxm", gpus=gpus, twins=5, **more)
    page = Page(problem)

    def answer(factor: float) -> None:
        live.view(problem, dataclasses.replace(live.first(problem), hbm_bw=factor))

    def update(factor: float) -> None:
        page.controls["hbm_bw"].value = factor

    return {"problem": repr(problem), "answer": _times(answer), "update": _times(update)}


# In the page: of every key press the time until the sentence and the points of the curves differ.
WATCH = """
window.moves = []; let open = null;
const state = () => ({
  answer: (deep(document, '.lead') || {innerText: ''}).innerText,
  curves: JSON.stringify([...Bokeh.documents[0]._all_models.values()]
    .filter(m => m.data && m.data.rate).map(m => m.data.rate)),
});
let last = state();
document.addEventListener('keydown', () => {
  open = {start: performance.now()}; window.moves.push(open);
}, true);
const look = () => {
  const now = state();
  for (const name of ['answer', 'curves'])
    if (open && !open[name] && now[name] !== last[name])
      open[name] = performance.now() - open.start;
  last = now;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
RIGHT, LEFT = "\ue014", "\ue012"  # keys, as WebDriver writes them
# A slider, its key and how often: as far as it has positions, since answers are kept.
KEYS = (("hbm_bw", RIGHT, 12), ("context", LEFT, 4), ("q", RIGHT, 5))
HANDLE = "return deep(deep(document, arguments[0]).shadowRoot, '.noUi-handle')"


def in_browser(model: str = "deepseek-v3", gpus: int = 64, **more: Any) -> dict[str, Any]:
    """From a key press to the frame with the changed sentence, and the changed curves [ms]."""
    served = qs.app(qs.Problem(model, "h200-sxm", gpus=gpus, twins=5, **more), browser=False)
    found: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder, browser.page(Path(folder)) as tab:
            tab.open(served.url)
            tab.wait("return deep(document, '.lead')")
            time.sleep(3.0)  # until the curves of the start are drawn
            tab.run(f"{browser.DEEP} {WATCH}")
            for name, key, often in KEYS:
                handle = tab.run(f"{browser.DEEP} {HANDLE}", f".{name}")
                for _ in range(often):
                    tab.press(handle, key)
                    time.sleep(1.5)
                moves = tab.run("const all = window.moves; window.moves = []; return all")
                for part in ("answer", "curves"):
                    times = [move[part] for move in moves if move.get(part)]
                    if times:  # a context leaves the curves as they are
                        middle, ninth = np.quantile(times, (0.5, 0.9))
                        found[f"{name}: {part}, median [ms]"] = round(middle)
                        found[f"{name}: {part}, 90 % [ms]"] = round(ninth)
    finally:
        served.stop()
    return found


def main() -> None:
    """Print the times without and with a limit."""
    limits = qs.Limits(max_tpot=0.05)
    found = [measured(), measured(limits=limits)]
    if browser.WHY_NOT is None:
        found += [in_browser(), in_browser(limits=limits)]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
