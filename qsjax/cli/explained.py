"""An explanation as text: what `qsjax explain` prints for people."""

from typing import Any

import click
import numpy as np

from qsjax.cli import options, serving_options
from qsjax.grid.problem import describe
from qsjax.output.labels import split_name
from qsjax.questions.explain import Explanation, for_people
from qsjax.records.units import GIB, MS, TFLOP


def _print_designs(record: dict[str, Any]) -> None:
    rows = []
    names = {"stated": "stated", "best": "best", "best_as_fast": "best, as fast"}
    for side in (record, record["beside"]):
        for key, label in names.items():
            case = side[key]
            if case is None:
                continue
            gain = f"{case['gain']:.2f}x" if case.get("gain") else ""
            runs = case["is_feasible"]
            cells = (
                f"{case['batch']:,}",
                f"{case['tpot'] / MS:,.2f}",
                f"{case['tokens_per_s_per_user']:,.1f}",
                f"{case['tokens_per_s_per_gpu']:,.1f}",
                gain,
            )
            shown = cells if runs else ("does not run", "", "", "", "")
            rows.append((side["convention"], label, split_name(case), *shown))
    heads = ("convention", "design", "split", "batch", "TPOT ms", "tok/s/user", "tok/s/GPU", "gain")
    options.print_table("The design, and the best ones of as many GPUs", heads, rows, left=3)


def _print_ledgers(case: dict[str, Any], is_moe: bool) -> None:
    capacity = case["hbm_bytes"]
    if not case["is_feasible"]:
        sequences = "1 sequence" if case["batch"] == 1 else f"{case['batch']:,} sequences"
        click.echo(f"What follows is what it would take with {sequences} if it ran:")
    memory = [
        (name, f"{size / GIB:,.3f}", f"{100 * size / capacity:.1f}")
        for name, size in for_people(case["memory_bytes"], is_moe).items()
        if size
    ]
    memory.append(("capacity", f"{capacity / GIB:,.3f}", "100.0"))
    options.print_table("Memory of one GPU", ("", "GiB", "%"), memory)
    time = [
        (name, f"{t / MS:,.4f}", f"{100 * t / case['tpot']:.1f}", _hidden(case, name))
        for name, t in for_people(case["terms"], is_moe).items()
        if t or case["hidden"].get(name)
    ]
    time.append(("TPOT", f"{case['tpot'] / MS:,.4f}", "100.0", ""))
    options.print_table("Time of one output token", ("", "ms", "%", "hidden ms"), time)
    roofs = [
        (
            name,
            roof["bound"],
            f"{roof['intensity']:,.1f}",
            f"{roof['ridge']:,.0f}",
            f"{roof['flops_per_s'] / TFLOP:,.1f}",
            f"{100 * roof['flops_share']:.1f}",
            f"{100 * roof['bandwidth_share']:.1f}",
        )
        for name, roof in case["roofline"].items()
    ]
    heads = ("phase", "bound", "FLOP/B", "ridge", "TFLOP/s", "% of peak", "% of HBM")
    options.print_table("Phases under the roofline", heads, roofs, left=2)


def _hidden(case: dict[str, Any], name: str) -> str:
    hidden = case["hidden"].get(name, 0.0)
    return f"{hidden / MS:,.4f}" if hidden else ""


def show(found: Explanation) -> None:
    """The whole explanation: verdict, designs, ledgers, prefill and engine flags."""
    record, title = found.record(), describe(found.problem)
    stated = record["stated"]
    verdict = "runs" if stated["is_feasible"] else "does not run"
    click.echo(f"{title}: {split_name(stated)} {verdict} ({record['convention']} convention).")
    if stated["replicas"] > 1:
        click.echo(f"These are {stated['replicas']} copies with nothing between them.")
    for item in stated["shortcomings"]:
        click.echo(f"  - {item['text']}")
    needs = record["needs"]
    if needs is not None:
        click.echo(f"  {_needs(needs)}")
    beside = record["beside"]
    for item in beside["stated"]["shortcomings"] if stated["is_feasible"] else ():
        click.echo(f"Under the {beside['convention']} convention: {item['text']}.")
    _print_designs(record)
    _print_costs(record)
    _print_ledgers(stated, record["is_moe"])
    if record["prefill"] is not None:
        _print_prefill(record["prefill"])
    best = record["best"]
    if best is not None:
        click.echo("The best design as engine flags:")
        for engine, written in best["engine_flags"].items():
            click.echo(f"  {engine}: {written['flags']}")
            for remark in written["notes"]:
                click.echo(f"    ({remark})")
    for remark in record["notes"]:
        click.echo(f"Note: {remark}.")


def _needs(needs: dict[str, float]) -> str:
    found = []
    if np.isfinite(needs["hbm_bytes"]):
        found.append(f"{needs['hbm_bytes'] / GIB:,.1f} GiB of HBM on each GPU with another split")
    if np.isfinite(needs["gpus"]):
        found.append(f"{needs['gpus']:,.0f} GPUs of this kind")
    return f"It takes {', or '.join(found)}." if found else "No number of GPUs is enough."


def _print_costs(record: dict[str, Any]) -> None:
    for name in ("stated", "best"):
        case = record[name]
        if case is None or not case["is_feasible"]:
            continue
        found = case["costs"]
        usd, joules = found["usd_per_million_tokens"], found["joules_per_token"]
        what = "output token" if found["with_prompts"] else "token"
        price = "no price known" if usd is None else f"{usd:,.3f} USD per million {what}s"
        energy = "no power known"
        if joules is not None:
            energy = f"{joules:,.3f} J per {what} ({serving_options.drawn(found)})"
        prompts = ", prompts included" if found["with_prompts"] else ""
        click.echo(f"Cost of the {name} design{prompts}: {price}, {energy}.")


def _print_prefill(found: dict[str, float]) -> None:
    click.echo(
        f"Prefill on the same design: first token after {found['ttft'] / MS:,.0f} ms, "
        f"{found['prompt_tokens_per_s_per_gpu']:,.0f} prompt tokens/s/GPU. Disaggregated: "
        f"{found['prefill_gpus_per_decode_gpu']:.3f} prefill GPUs for each decode GPU, "
        f"{found['tokens_per_s_per_gpu_disaggregated']:,.1f} tokens/s/GPU over both. Aggregated: "
        f"TPOT {found['tpot_aggregated'] / MS:,.2f} ms, "
        f"{found['tokens_per_s_per_gpu_aggregated']:,.1f} tokens/s/GPU."
    )
