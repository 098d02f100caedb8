"""Writes the page of the public names: signature, documentation, example and picture of each.

`python docs/public.py` writes it, and so does every build of the site. The tests run the examples
too, one after the other.
"""

import ast
import contextlib
import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

import qsjax
from qsjax.output.files import write_atomically

PAGE = Path(__file__).parent / "public.md"
PICTURES = PAGE.with_suffix("")
START = """\
from pathlib import Path

import jax
import numpy as np
import qsjax as qs

problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=5)
curve = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="1k..128k", twins=5)
split = qs.Partition(tp=8)
"""
# Title, what the names have in common, and the names with an example each.
GROUPS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "State the problem",
        "Models and accelerators are records of numbers; their fields, with units and bounds, are "
        "listed under [Fields of records](fields.md).",
        {
            "Problem": 'qs.Problem(["mixtral-8x7b", "llama-3.1-70b"], "h100-sxm", gpus=[8, 16])',
            "model": 'qs.model("mixtral-8x7b").replace(layers=40)',
            "hardware": 'qs.hardware("h100-sxm").replace(hbm_bw=5e12)',
            "served": 'qs.served("deepseek-v3", acceptance=0.85)',
            "workload": 'qs.workload("mixtral-8x7b", weights="fp8")',
            "ideal": 'qs.ideal(qs.hardware("h100-sxm"))',
            "model_names": 'assert "deepseek-v3" in qs.model_names()',
            "hardware_names": 'assert "h100-sxm" in qs.hardware_names()',
            "Limits": "qs.Limits(max_tpot=0.05, max_tp=8.0)",
            "Economy": "qs.Economy(usd_per_hour=2.5, watts=700.0)",
            "ModelSpec": "qs.ModelSpec(layers=32, hidden=4096, vocab=32000, heads=32, kv_heads=8,\n"
            "             head_dim=128, expert_ff=14336, experts=8, top_k=2)",
            "HardwareSpec": 'assert isinstance(qs.hardware("h100-sxm"), qs.HardwareSpec)',
            "Partition": "qs.Partition(tp=4, dp=2, ep=8)",
            "Workload": "qs.Workload(context=8192.0, batch=16.0, bytes_kv=1.0)",
            "Convention": 'qs.Convention(dense_replicas="sharded")',
            "PHYSICAL": "assert qs.PHYSICAL == qs.Convention()",
            "PAPER": 'qs.Problem("grok-1", "paper-reference", convention=qs.PAPER)',
            "total_params": 'assert 46e9 < float(qs.total_params(qs.model("mixtral-8x7b"))) < 47e9',
            "active_params": 'assert float(qs.active_params(qs.model("mixtral-8x7b"))) < 13e9',
            "dense_twin": 'qs.dense_twin(qs.model("mixtral-8x7b"), 3.0)',
        },
    ),
    (
        "One design",
        "Pure functions for `jax.jit`, `jax.vmap` and `jax.grad`. What cannot run is NaN.",
        {
            "decode": 'step = qs.decode("mixtral-8x7b", "h100-sxm", split, context=8192, batch=9)\n'
            "step.tpot, step.ledger()  # seconds",
            "prefill": 'qs.prefill("mixtral-8x7b", "h100-sxm", split, prompt="4k").ttft  # seconds',
        },
    ),
    (
        "Questions",
        "Each takes a `Problem` and returns a result with `rows()`, `frame()`, `dataset` (units on "
        "every variable and coordinate), `plot()`, `figures`, `save(folder)` and a short "
        "`repr`. Times are in seconds.",
        {
            "explore": "qs.explore(curve)",
            "explain": 'cell = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k")\n'
            "qs.explain(cell, split)",
            "explain_command": 'qs.explain_command("vllm serve Qwen/Qwen3-8B -tp 2", "h100-sxm")',
            "pareto": "qs.pareto(problem)",
            "moe_or_dense": 'asked = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, '
            'context=["2k", "32k"])\n'
            "qs.moe_or_dense(asked, tpots=[0.02, 0.05], q=qs.normal(5, 1), nodes=3)",
            "binding": "qs.binding(problem)",
            "architecture": 'qs.architecture(asked, {"experts": [8, 16, 32]}, law="joint")',
            "compare": "qs.compare(curve)",
            "Subject": 'qs.compare(curve, {"a": qs.Subject(0, 0), "b": qs.Subject(0, 0, 5.0)})',
            "certify": 'qs.certify(problem, {"hbm_bw": 0.1}, claims=["winner"])',
            "mix": "qs.mix(problem, [(1000, 200), (4000, 100)])",
            "Request": "qs.mix(problem, [qs.Request(4096.0, 0.7), qs.Request(32768.0, 0.3)])",
            "simulate": "loads = qs.simulate(problem, split, users=[1, 2, 4, 8, 16], isl=500, "
            "osl=20, requests=60)",
            "size": "qs.size(problem, users=4, isl=500, osl=20, quantile=0.5, replica_gpus=[4])",
            "size_apart": 'qs.size_apart(qs.Problem("llama-3.1-8b", "h100-sxm"), "h200-sxm", '
            "rate=5, isl=500, osl=20, quantile=0.5, replica_gpus=[1],\n"
            '              scheduler={"sequences": 64})',
            "speculate": "qs.speculate(problem, acceptance=0.8, drafts=2)",
            "prefix_cache": "qs.prefix_cache(problem, prefix_hit_rate=0.8, reuse_interval=30)",
            "sensitivity": 'qs.sensitivity(problem, ["hbm_bw", "q"])',
            "switching": 'qs.switching(problem, ["hbm_bw"])',
            "uncertainty": 'qs.uncertainty(curve, {"q": qs.normal(5, 1)}, draws=64)',
            "normal": "qs.normal(5, 1)",
            "lognormal": "qs.lognormal(5, 0.2)",
            "uniform": "qs.uniform(3, 7)",
            "triangular": "qs.triangular(2, 5, 8)",
            "hessian": 'qs.hessian(problem, ["hbm_bw", "flops"])',
            "break_even": 'qs.break_even(problem, "q")',
            "solve_for": 'qs.solve_for(problem, "hbm_bw", tpot=0.01)',
            "design": "qs.design(problem, cost, budget=110)",
            "CostModel": 'cost = qs.CostModel({"hbm_bw": qs.Price(50.0)}, base=50.0)',
            "Price": "qs.Price(40.0, exponent=1.2)",
            "sweep": 'qs.sweep(problem, out="results/sweep")',
        },
    ),
    (
        "The live page",
        "With the extra `app`; see [the guide](guides/live-page.md).",
        {"app": "page = qs.app(problem, browser=False)\npage.stop()"},
    ),
    (
        "Evidence",
        "The paper's tables and published measurements; results like the others.",
        {
            "reproduce": "qs.reproduce()",
            "study": 'qs.study(curve, ["physical"])',
            "validate": 'qs.validate(category=["trtllm_static_batch"])',
            "calibrate": 'rows = [f"llama-3.1-8b,h100-sxm,1,{b},1024,{7 + b / 50}" for b in (1, 8, '
            '64)]\nhead = "model,hardware,tp,batch,context,tpot_ms"\n'
            'Path("mine.csv").write_text("\\n".join([head, *rows]))\n'
            'qs.calibrate("mine.csv", ["layer_overhead", "eff_weight_read"])',
        },
    ),
    (
        "Rooms",
        "",
        {
            "engines": 'qs.engines.read("vllm serve m -tp 8".split(), is_moe=True)',
            "plotting": 'qs.plotting.latency_against_load(loads.rows(), title="Latency")',
        },
    ),
)


def made() -> dict[str, Any]:
    """What the examples make, by name, in an order in which all of them run, in this folder."""
    named = {name: code for _, _, names in GROUPS for name, code in names.items()}
    first = {name: named.pop(name) for name in ("CostModel", "simulate")}
    space: dict[str, Any] = {}
    exec(START, space)
    found = {}
    for name, code in (first | named).items():
        *body, last = ast.parse(code).body
        exec(compile(ast.Module(body, []), name, "exec"), space)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)
        else:
            exec(compile(ast.Module([last], []), name, "exec"), space)
            value = space.get(ast.unparse(last).partition(" = ")[0])
        found[name] = value
    return found


def pictures() -> dict[str, bytes]:
    """What the result of each example draws, as SVG."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, result in made().items():
            if hasattr(result, "drawings") and result.drawings():
                found[name] = qsjax.plotting.render(result.plot())
                plt.close("all")
    return found


def _entry(name: str, example: str, is_drawn: bool) -> str:
    found = getattr(qsjax, name)
    if inspect.ismodule(found):
        text = f"**qsjax.{name}** ([module](api/qsjax.{name}))\n\n{inspect.getdoc(found)}"
    else:
        kind = "autoclass" if inspect.isclass(found) else "autofunction"
        kind = kind if callable(found) else "autodata"
        text = f"```{{eval-rst}}\n.. {kind}:: qsjax.{name}\n   :no-index:\n```"
    shown = f"\n![What {name} draws]({PICTURES.name}/{name}.svg)\n" if is_drawn else ""
    return f"### {name}\n{text}\n\n```python\n{example}\n```\n{shown}"


def page(names_drawn: Mapping[str, object]) -> str:
    """The page as Markdown, with a picture of each of some names."""
    parts = [
        "# Public names\n",
        "All of them are names of `qsjax`. The examples share these lines:\n",
        f"```python\n{START}```\n",
    ]
    for title, about, names in GROUPS:
        parts += [f"## {title}\n", f"{about}\n" if about else ""]
        parts += [_entry(name, code, name in names_drawn) for name, code in names.items()]
    return "\n".join(filter(None, parts))


def write() -> None:
    """Write the page and its pictures beside this script."""
    made = pictures()
    for name, picture in made.items():
        write_atomically(PICTURES / f"{name}.svg", picture)
    write_atomically(PAGE, page(made))


if __name__ == "__main__":
    write()
