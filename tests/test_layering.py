"""The package's architecture as data: who imports whom, who may touch files, who may compile.

A new module needs one line in LAYERS. A module not listed fails the suite.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "qsjax"

# Top to bottom. A row may import the rows below it, never its own row or one above. A name covers
# its submodules unless they have a row of their own; `__init__` is the package's public face.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("__init__",),
    ("output.live",),
    ("output.report",),
    ("evidence",),
    ("questions",),
    ("streaming",),
    ("output",),
    ("plotting",),
    ("grid",),
    ("engines",),
    ("catalog",),
    ("cost",),
    ("cost.laws",),
    ("cost.laws.collectives",),
    ("cost.laws.params",),
    ("cost.laws.sharding",),
    ("records",),
    ("numerics",),
)
# Imports limited further than the order of the layers does.
ONLY = {"catalog": {"records", "cost.laws.params"}}
# Packages whose modules do not know each other (their __init__ may gather them).
STRANGERS = {"cost.laws"}
# Rooms whose parts are peers: `questions.mix` may not reach into `questions.explain`.
PEERS = {"questions"}
MATPLOTLIB = {"plotting"}
PANEL = {"output.live"}  # an extra: the rest of the package runs without it
FILES = {
    *("cli", "output", "catalog", "grid.free_memory", "engines"),
    *("evidence.measurements.storage", "evidence.calibration"),
    *("numerics.programs", "records.tables"),
    *("streaming.store", "streaming.results", "streaming.hosts"),
}
JIT = {"grid", "numerics.jaxpr", "numerics.loading", "streaming", "questions", "evidence"}
# JAX comes through `numerics.jax`, which tells it the records; others may take its parts after it.
JAX = {"numerics.jax", "numerics.namespace"}

# They load what is below them late: verbs, and the rooms that are public as they are.
DYNAMIC_IMPORTS = {"cli", "__init__"}

FILE_CALLS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "touch", "unlink"),
    *("loadtxt", "savetxt", "savez", "fromfile", "tofile", "savefig"),
    *("open_dataset", "open_zarr", "read_csv", "read_parquet"),
    *("to_csv", "to_netcdf", "to_parquet", "to_zarr"),
}
MAX_FUNCTION_LINES = 60

RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def covers(names, module):
    """The longest of `names` that is `module` or a package around it; None if there is none."""
    parts = module.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in names), None)


def exists(module):
    return module in MODULES or f"{module}.__init__" in MODULES or module in RANK


def imports(module, tree):
    """(line, absolute name) of every import, `from qsjax.cost.laws import params` as the module."""
    package = ["qsjax", *module.split(".")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*around, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                known = name.startswith("qsjax.") and exists(name.removeprefix("qsjax."))
                yield node.lineno, name if known else origin


def layer_problem(module, target):
    """Why `module` may not import `target`, both relative to qsjax; None if it may."""
    own, other = covers(RANK, module), covers(RANK, target)
    if other is None:
        return f"{target} is in no layer"
    if own == other and own in PEERS:
        pair = [name.removeprefix(f"{own}.").split(".")[0] for name in (module, target)]
        return f"{pair[0]} and {pair[1]} are peers" if pair[0] != pair[1] else None
    if own == other:
        stranger = own in STRANGERS and not module.endswith("__init__")
        return f"modules of {own} do not import each other" if stranger else None
    if RANK[other] <= RANK[own]:
        return f"{own} is not above {other}"
    if own in ONLY and other not in ONLY[own]:
        return f"{own} may import only {sorted(ONLY[own])}"
    return None


def import_problems(module, tree):
    for line, name in imports(module, tree):
        root, _, rest = name.partition(".")
        if root == "qsjax":
            problem = layer_problem(module, rest or "__init__")
            if problem:
                yield f"line {line}: imports {name}: {problem}"
        elif root == "matplotlib" and not covers(MATPLOTLIB, module):
            yield f"line {line}: matplotlib belongs in {sorted(MATPLOTLIB)}"
        elif root in ("panel", "bokeh") and not covers(PANEL, module):
            yield f"line {line}: {root} belongs in {sorted(PANEL)}"
        elif name in {"jax", "jax.numpy", "jax.typing"} and not covers(JAX, module):
            yield f"line {line}: import jax through numerics.jax"
        elif root == "__future__":
            yield f"line {line}: no __future__ imports"


def use_problems(module, tree):
    for node in ast.walk(tree):
        name = getattr(node, "id", getattr(node, "attr", getattr(node, "name", None)))
        if name in {"import_module", "__import__"} and not covers(DYNAMIC_IMPORTS, module):
            yield f"line {node.lineno}: {name} hides an import from this test"
        if name in {"jit", "pjit"} and not covers(JIT, module):
            yield f"line {node.lineno}: jit belongs in {sorted(JIT)}"
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", None))
            if called in FILE_CALLS and not covers(FILES, module):
                yield f"line {node.lineno}: {called}() belongs in {sorted(FILES)}"


def size_problems(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}: split it"


def problems(module, source):
    if covers(RANK, module) is None:
        return [f"{module} is in no layer: give it a line in LAYERS"]
    tree = ast.parse(source)
    return [
        *import_problems(module, tree),
        *use_problems(module, tree),
        *size_problems(tree),
    ]


def test_there_are_at_most_twelve_rooms():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert rooms == {name for row in LAYERS for name in row if "." not in name and "__" not in name}
    assert len(rooms) <= 12


def test_the_package_is_found():
    assert {"__init__", "records.specs", "records.units"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module(module):
    found = problems(module, MODULES[module].read_text())
    assert not found, "\n".join([f"qsjax/{module.replace('.', '/')}.py", *found])


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("records.specs", "import qsjax.cost.decode"),
        ("records.specs", "from qsjax.cost import decode"),
        ("records.specs", "from qsjax import __version__"),
        ("records.specs", "from ..cost.laws import params"),
        ("cost.laws.memory", "from ...grid.optimum import best"),
        ("cost.laws.memory", "from qsjax.cost.laws import traffic"),
        ("cost.laws.memory", "from . import traffic"),
        ("cost.laws.params", "from qsjax.cost.laws import collectives"),
        ("catalog.models", "from qsjax.cost.laws import traffic"),
        ("catalog", "from qsjax.grid.optimum import best"),
        ("questions.design.solvers", "from qsjax.questions.sensitivity import solve"),
        ("questions.mix", "from qsjax.questions import explain"),
        ("grid.optimum", "def late():\n    from qsjax.output import files"),
        ("grid.optimum", "from qsjax.unknown import name"),
        ("unknown", "x = 1"),
        ("output.report", "import matplotlib.pyplot as plt"),
        ("plotting.style", "from bokeh.plotting import figure"),
        ("grid.optimum", "from __future__ import annotations"),
        ("grid.optimum", "import importlib\nimportlib.import_module('qsjax.cli')"),
        ("cost.decode", "from qsjax.numerics.jax import jax\nf = jax.jit(abs)"),
        ("cost.decode", "from qsjax.numerics.jax import jax\n@jax.jit\ndef f(x): ..."),
        ("grid.optimum", "import jax"),
        ("grid.optimum", "from jax import jit"),
        ("grid.optimum", "def late():\n    import jax.numpy as jnp"),
        ("cost.decode", "text = open('numbers').read()"),
        ("sweep", "path.write_text('')"),
        ("plotting", "figure.savefig('a.png')"),
        ("records.units", "def f():\n" + "    x = 1\n" * 60),
    ],
)
def test_a_violation_is_caught(module, source):
    assert problems(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("__init__", "from qsjax.grid.optimum import best as best"),
        ("cli", "from qsjax import __version__\nopen('f')"),
        ("cost.laws.__init__", "from . import memory, traffic"),
        ("cost.laws.memory", "from qsjax.cost.laws.params import total"),
        (
            "catalog.models",
            "from qsjax.catalog.sources import cite\nfrom qsjax.records import specs",
        ),
        ("output.tables", "from qsjax.plotting import render\nfrom ..grid import axes"),
        ("plotting.heatmap", "import matplotlib\nfrom ..cost import ledger"),
        ("grid.optimum", "from qsjax.numerics.jax import jax\nf = jax.jit(abs)"),
        ("streaming.store", "from qsjax.streaming.run import chunks\npath.write_text('')"),
    ],
)
def test_a_lawful_module_passes(module, source):
    assert problems(module, source) == []
