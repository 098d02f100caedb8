"""Writes what README.md and pages quote from the library: `python docs/quoted.py [NAME ...]`.

A part between `<!-- quoted: NAME -->` and `<!-- end -->` is what this script says under NAME; one
of `<!-- output: qsjax ... -->` is what the command prints, cut after the lines that it asks for
(`<!-- output 6: qsjax ... -->`). With names, only parts whose name or command begins so.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

import qsjax as qs
from qsjax.evidence.paper.printed import CONTEXT_128K, PRINTED, Q
from qsjax.evidence.validation import Report, validate
from qsjax.grid.intervals import is_sure
from qsjax.output.files import write_atomically
from qsjax.records.units import tokens

HERE = Path(__file__).parent
PAGES = (HERE.parent / "README.md", HERE / "limits.md", *sorted((HERE / "guides").glob("*.md")))
PART = re.compile(r"<!-- (quoted|output(?: \d+)?): (.*?) -->\n.*?<!-- end -->", re.DOTALL)


def table(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def truth(report: Report | None = None) -> str:
    """How near the predictions come: the groups that `qsjax validate` prints first."""
    rows = (report or validate()).headlines()
    heads = ("measured", "role", "n", "median error", "90 % below", "bias", "largest")
    cells = [
        (
            row["what"],
            row["role"],
            f"{row['predicted']:,}",
            f"{row['median_abs_error_pct']:.1f} %",
            f"{row['p90_abs_error_pct']:.1f} %",
            f"{row['bias_pct']:+.1f} %",
            f"{row['worst_abs_error_pct']:.0f} %",
        )
        for row in rows
    ]
    return table(heads, cells)


def limits() -> str:
    """What is not modelled, what follows, and what to do instead."""
    listed = tomllib.loads((HERE / "limits.toml").read_text(encoding="utf-8"))["limit"]
    heads = ("not modelled", "consequence", "instead")
    return table(heads, ((x["effect"], x["consequence"], x["instead"]) for x in listed))


def interactivity() -> str:
    """The paper's leads of DeepSeek-V3's twin, and those at equal interactivity."""
    rows = [row for row in PRINTED["table_4"] if row[0] <= 2**17]
    printed = {context: float(dense) / float(moe) for context, _, _, moe, dense in rows}
    printed[int(CONTEXT_128K)] = float(PRINTED["headline"])  # of which the table has two digits
    contexts = sorted(printed)
    problem = qs.Problem("deepseek-v3", "h200-sxm", gpus=64, context=contexts)
    found = qs.moe_or_dense(problem, tpots=[0.02, 0.05], q=qs.lognormal(Q, 0.25)).frame()
    own = found[found.convention == "physical"]
    leads = (f"{printed[context]:.1f}" for context in contexts)
    lines = [["printed in the paper, each at its largest batch", *leads]]
    asked = {np.inf: "each at its fastest", 0.05: "within 50 ms", 0.02: "within 20 ms a token"}
    for limit, name in asked.items():
        part = own[own.tpot_limit == limit].sort_values("context")
        marks = ("" if is_sure(chance) else "*" for chance in part.chance_over_moe)
        told = zip(part.speedup_over_moe, marks, part.p_dense_wins, strict=True)
        cells = (f"{gain:.2f}{mark} ({_chance(chance)})" for gain, mark, chance in told)
        lines.append([f"64 H200, physical, {name}", *cells])
    return table(("twin over DeepSeek-V3 at", *map(tokens, contexts)), lines)


def _chance(probability: float) -> str:
    """A probability in per cent; what rounds to all or nothing as a bound."""
    per_cent = 100.0 * probability
    return "<1 %" if per_cent < 0.5 else ">99 %" if per_cent > 99.5 else f"{per_cent:.0f} %"


QUOTED: dict[str, Callable[[], str]] = {
    "truth": truth, "limits": limits, "interactivity": interactivity,
}  # fmt: skip


def output(command: str, lines: int | None) -> str:
    """What a command prints, as a block of text."""
    _, *words = shlex.split(command)
    call = [sys.executable, "-m", "qsjax", *words]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout.rstrip()
    kept = said.splitlines()
    if lines is not None and len(kept) > lines:
        kept = [*kept[:lines], "..."]
    return "\n".join(["```text", *(line.rstrip() for line in kept), "```"])


def written(page: str, wanted: Sequence[str]) -> str:
    """A page with its parts written anew."""

    def part(found: re.Match[str]) -> str:
        kind, name = found.groups()
        if wanted and not name.startswith(tuple(wanted)):
            return found[0]
        most = int(kind.split()[1]) if " " in kind else None
        content = QUOTED[name]() if kind == "quoted" else output(name, most)
        return f"<!-- {kind}: {name} -->\n{content}\n<!-- end -->"

    return PART.sub(part, page)


def quoted(page: str) -> dict[str, str]:
    """The parts of a page by name, as they stand."""
    return {
        found[2]: found[0].partition("-->\n")[2].removesuffix("<!-- end -->").rstrip("\n")
        for found in PART.finditer(page)
    }


if __name__ == "__main__":
    for path in PAGES:
        old = path.read_text(encoding="utf-8")
        new = written(old, sys.argv[1:])
        if new != old:
            write_atomically(path, new)
            sys.stdout.write(f"{path}\n")
