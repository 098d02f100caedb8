"""Do the tests notice a wrong token? Mutants of laws, grid, simulation, readers and sweeps.

A mutant is a module with one token changed: a comparison, an operator, a number, `and` for `or`,
the least for the largest. It runs the tests that should notice in a copy of the tree, until one
fails.

`python -m benchmarks.mutants --sample 150 --seed 1` tries so many, spread over the rooms; `--room
qsjax/grid qsjax/engines/shell.py` only those of the sample that are there; `--only
qsjax/cost/laws/memory.py:57` all of a line or file; `--list` shows them. Mutants that survive and
are no gap stand in `benchmarks/mutants.toml`, each with its reason.
"""

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import cache
from io import StringIO
from itertools import pairwise
from math import ceil, inf
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NamedTuple, get_args

ROOT = Path(__file__).parent.parent
EQUIVALENT = Path(__file__).with_suffix(".toml")
# Rooms by pattern of their modules, each with the tests that should notice, the quickest first. A
# module belongs to the first pattern that fits it.
ROOMS = {
    "qsjax/cost/speculation.py": "speculation",
    "qsjax/cost/prefill.py": "prefill shared",
    "qsjax/cost/disaggregation.py": "prefill handworked questions",
    "qsjax/cost/prefix.py": "prefix_cache",
    "qsjax/cost/shared.py": "shared",
    "qsjax/cost/roofline.py": "breakdown theory explain",
    "qsjax/cost/ledger.py": "breakdown speculation explain",
    "qsjax/cost/coefficients.py": "handworked oracle",
    "qsjax/cost/meanings.py": "records",
    "qsjax/cost/metrics.py": "economics search",
    "qsjax/cost/laws/params.py": "catalog_params theory handworked oracle",
    "qsjax/cost/laws/*.py": "kernel_laws theory handworked oracle",
    "qsjax/cost/*.py": "handworked breakdown serving oracle",
    "qsjax/grid/bounds.py": "bounds certify",
    "qsjax/grid/diagnosis.py": "explain cli_answers",
    "qsjax/grid/distributions.py": "uncertainty",
    "qsjax/grid/fronts.py": "pareto best_batch",
    "qsjax/grid/gradients.py": "sensitivity",
    "qsjax/grid/infeasibility.py": "serving pareto compare",
    "qsjax/grid/intervals.py": "intervals",
    "qsjax/grid/pairs.py": "best_batch serving pareto",
    "qsjax/grid/prefixes.py": "prefix_cache breakeven",
    "qsjax/grid/progress.py": "progress",
    "qsjax/grid/proofs.py": "bounds certify",
    "qsjax/grid/roots.py": "breakeven",
    "qsjax/grid/staging.py": "blocks sweep oracle",
    "qsjax/grid/tiles.py": "blocks sweep",
    "qsjax/grid/*.py": "serving_relax sensitivity_stability best_batch search blocks explore",
    "qsjax/catalog/*.py": "hf_config catalog_files",
    "qsjax/engines/held.py": "held engines",
    "qsjax/engines/memory.py": "validation::test_which_engine_of_vllm engines held validation",
    "qsjax/engines/spread.py": "intervals",
    "qsjax/engines/releases.py": "records_shipped held",
    "qsjax/engines/schedulers.py": "simulation::test_a_schedule_worked_by_hand shared "
    "simulation_serving",
    "qsjax/engines/kernels.py": "held kernel_laws validation",
    "qsjax/engines/tuning.py": "held kernel_laws validation",
    "qsjax/engines/*.py": "engines engine_commands pasted_commands commands engine_of_problem held",
    "qsjax/numerics/enclosing.py": "bounds certify",
    "qsjax/numerics/intervals.py": "bounds certify",
    "qsjax/numerics/*.py": "host loading programs bounds kernel_laws breakeven",
    "qsjax/questions/simulation/pools.py": "pools",
    "qsjax/questions/simulation/searching.py": "simulation_serving pools simulation",
    "qsjax/questions/simulation/screening.py": "simulation::test_a_screening_worked_by_hand "
    "simulation_serving pools simulation",
    "qsjax/questions/simulation/sizing.py": "simulation_serving pools simulation",
    "qsjax/questions/simulation/traffic.py": "simulation_serving simulation",
    "qsjax/questions/simulation/*.py": "simulation simulation_serving",
    "qsjax/records/*.py": "records catalog_hardware catalog_files handworked records_shipped "
    "explore",
    "qsjax/streaming/pruning.py": "sweep_pruning sweep",
    "qsjax/streaming/hosts.py": "sweep_hosts",
    "qsjax/streaming/campaign.py": "sweep_hosts sweep_resume sweep_pruning",
    "qsjax/streaming/results.py": "sweep_resume sweep_pruning sweep",
    "qsjax/streaming/*.py": "sweep_spec sweep sweep_resume sweep_hosts sweep_pruning",
}
MUTATED = (
    *("qsjax/cost/**/*.py", "qsjax/grid/*.py"),
    *("qsjax/catalog/quantisation.py", "qsjax/engines/*.py", "qsjax/numerics/*.py"),
    *("qsjax/questions/simulation/*.py", "qsjax/records/*.py", "qsjax/streaming/*.py"),
)
FLIPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "*",
    "**": "*",
    "and": "or",
    "or": "and",
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
}
MOST_KIB = 12 * 2**20  # virtual memory of a run; JAX with eight devices takes 4 GiB
Fate = Literal["killed", "survived", "explained", "stopped"]


class Mutant(NamedTuple):
    """One token of a module, and what takes its place.

    Attributes:
        path: module, relative to the root.
        line: of the token, from 1.
        column: of the token, from 0.
        old: token.
        new: token in its place.
        text: the whole line.
    """

    path: str
    line: int
    column: int
    old: str
    new: str
    text: str

    @property
    def changed(self) -> str:
        """The line with the other token."""
        return self.text[: self.column] + self.new + self.text[self.column + len(self.old) :]

    @property
    def key(self) -> tuple[str, str]:
        """What names the mutant also when lines above it change."""
        return self.path, self.changed.strip()

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}"
        return f"{place}  {self.old} -> {self.new}  {self.text.strip()}"


def _passed_over(tree: ast.AST) -> Iterator[ast.AST]:
    """Parts whose tokens compute nothing: annotations, messages of errors, f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr):
            yield node
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation


def _spans(node: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Stretches of source below a node in which a token may change."""
    sides: list[ast.expr] = []
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.BinOp):
        sides = [node.left, node.right]
    elif isinstance(node, ast.BoolOp):
        sides = node.values
    for left, right in pairwise(sides):
        yield (left.end_lineno or 0, left.end_col_offset or 0), (right.lineno, right.col_offset)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        end = (node.func.end_lineno or 0, node.func.end_col_offset or 0)
        yield (end[0], end[1] - len(name)), end


def _instead(token: tokenize.TokenInfo) -> str | None:
    """What takes the place of a token: numbers are off by one, or doubled from 1,000 on."""
    if token.type == tokenize.NUMBER:
        value = ast.literal_eval(token.string)
        return repr(value + 1 if abs(value) < 1000 else 2 * value)
    return FLIPS.get(token.string)


def mutants(path: str) -> list[Mutant]:
    """All mutants of a module, in the order of its tokens."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines, tree = source.splitlines(), ast.parse(source)
    skipped = {id(part) for node in _passed_over(tree) for part in ast.walk(node)}
    spans = [s for node in ast.walk(tree) if id(node) not in skipped for s in _spans(node)]
    return [
        Mutant(path, *token.start, token.string, new, lines[token.start[0] - 1])
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if (new := _instead(token)) and any(a <= token.start < b for a, b in spans)
        # The tree counts bytes, tokens count characters.
        if lines[token.start[0] - 1].isascii()
    ]


def tests_of(path: str) -> list[str]:
    """Files that should notice a change of a module, its own examples first."""
    names = next(names for pattern, names in ROOMS.items() if fnmatch(path, pattern))
    own = [path] if ">>>" in (ROOT / path).read_text(encoding="utf-8") else []
    parts = [name.partition("::") for name in names.split()]
    return [*own, *(f"tests/test_{file}.py{mark}{test}" for file, mark, test in parts)]


def sample(count: int, seed: int) -> list[Mutant]:
    """So many mutants, each room with its share by lines of modules, none from the same line."""
    rng = random.Random(seed)
    paths = sorted({str(p.relative_to(ROOT)) for glob in MUTATED for p in ROOT.glob(glob)})
    shuffled = rng.sample(every := [m for path in paths for m in mutants(path)], len(every))
    rooms: dict[str, list[Mutant]] = {}
    for mutant in {(m.path, m.line): m for m in shuffled}.values():
        rooms.setdefault(str(Path(mutant.path).parent), []).append(mutant)
    share = count / sum(len(room) for room in rooms.values())
    found = [m for room in rooms.values() for m in room[: ceil(len(room) * share)]]
    return rng.sample(found, len(found))  # so that those of a run that ends early are spread too


class Copy:
    """A copy of the tree in which one mutant at a time lives."""

    def __init__(self, place: Path, programs: Path) -> None:
        self.place, self.changes = place, 0
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        for name in listed.stdout.decode().split("\0"):
            if name and not name.startswith("notebooks/"):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, place / name)
        # JAX keys the programs that it keeps by their text, so those of a mutant are its own.
        kept = {
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_ENABLE_X64": "1",  # a module's own examples run without the settings of tests
        }
        self.environment = {**kept, **os.environ, "PYTHONPATH": str(place), "QSJAX_CACHE": "off"}

    def _write(self, path: str, source: str) -> None:
        (self.place / path).write_text(source, encoding="utf-8")
        # Python's own cache goes by time and size of a module.
        self.changes += 1
        stamp = time.time() + 10 * self.changes
        os.utime(self.place / path, (stamp, stamp))

    def passes(self, test: str, limit: float) -> bool | None:
        """Whether tests pass; None where a limit [s] or the system, short of memory, stops them."""
        # A mutant may fill the memory.
        command = ["sh", "-c", f'ulimit -v {MOST_KIB}; exec "$@"', "sh", sys.executable]
        command += ["-m", "pytest", "-qx", "-n", "0", "-p", "no:cacheprovider"]
        with subprocess.Popen(
            [*command, "-m", "not slow", test], cwd=self.place, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as run:  # fmt: skip
            try:
                said, _ = run.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                return None
        if run.returncode < 0:
            return None
        # 1: a test failed; 2, 4: a module or the settings of the tests could not be loaded, which
        # a mutant may cause too.
        if run.returncode not in (0, 1, 2, 4):
            raise RuntimeError(f"pytest ended with {run.returncode}:\n{said[-2000:]}")
        return run.returncode == 0

    def fate(self, mutant: Mutant, limit: float) -> tuple[Fate, str]:
        """What becomes of a mutant, and the test that decides it."""
        source = (ROOT / mutant.path).read_text(encoding="utf-8")
        lines = source.splitlines(keepends=True)
        lines[mutant.line - 1] = f"{mutant.changed}\n"
        self._write(mutant.path, "".join(lines))
        try:
            for test in tests_of(mutant.path):
                passed = self.passes(test, limit)
                if not passed:
                    return ("stopped" if passed is None else "killed"), test
        finally:
            self._write(mutant.path, source)
        return ("explained" if mutant.key in explained() else "survived"), ""


@cache
def explained() -> dict[tuple[str, str], str]:
    """Reasons of mutants that are no gap, by module and changed line."""
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    return {(mutant["path"], mutant["line"]): mutant["reason"] for mutant in listed}


def table(fates: Mapping[Mutant, Fate]) -> str:
    """Mutants by room and fate, as Markdown."""
    kinds = get_args(Fate)
    rooms = sorted({str(Path(m.path).parent) for m in fates})
    lines = [f"| room | mutants | {' | '.join(kinds)} |", "|---" * (len(kinds) + 2) + "|"]
    for room in [*rooms, "all"]:
        here = [f for m, f in fates.items() if room in (str(Path(m.path).parent), "all")]
        lines.append(f"| {room} | {len(here)} | {' | '.join(str(here.count(k)) for k in kinds)} |")
    return "\n".join(lines)


def play(
    chosen: Sequence[Mutant], workers: int, limit: float, seconds: float
) -> dict[Mutant, Fate]:
    """The fate of each mutant that is begun in time, told as it is found.

    Raises:
        RuntimeError: a test that killed mutants fails without one.
    """
    found: dict[Mutant, tuple[Fate, str]] = {}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for k in range(workers):
            copies.put(Copy(Path(folder) / f"copy-{k}", Path(folder) / "programs"))

        def one(mutant: Mutant) -> None:
            if time.monotonic() > end:
                return
            copy = copies.get()
            try:
                found[mutant] = copy.fate(mutant, limit)
                print(f"{found[mutant][0]:9}  {mutant}", flush=True)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, chosen))
        whole = copies.get()
        for test in sorted({test for _, test in found.values() if test}):
            if not whole.passes(test, limit):
                raise RuntimeError(f"{test} fails without a mutant, or takes over {limit:g} s")
    return {mutant: fate for mutant, (fate, _) in found.items()}


def main() -> None:
    """Play a sample, or the mutants of one place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=(), metavar="FILE[:LINE[:COLUMN]]")
    parser.add_argument("--room", nargs="*", default=("qsjax",), help="of the sample, by path")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a file of tests")
    parser.add_argument("--minutes", type=float, default=inf, help="none is begun after so many")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    rooms = tuple(given.room)
    chosen = [m for m in sample(given.sample, given.seed) if m.path.startswith(rooms)]
    if given.only:
        chosen = [
            mutant
            for place in given.only
            for mutant in mutants(place.partition(":")[0])
            if f"{mutant.path}:{mutant.line}:{mutant.column}:".startswith(f"{place}:")
        ]
    if given.list:
        print(*chosen, sep="\n")
        return
    fates = play(chosen, given.workers, given.limit, 60.0 * given.minutes)
    print(table(fates))
    print(*(f"{m}\n  {explained()[m.key]}" for m, f in fates.items() if f == "explained"), sep="\n")
    sys.exit("survived" in fates.values())


if __name__ == "__main__":
    main()
