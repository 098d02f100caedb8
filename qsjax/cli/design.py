"""`qsjax design MODEL`: hardware from a budget or from targets."""

import dataclasses
import json
from functools import partial
from typing import Any, get_args

import click

from qsjax.cli import figures, options, session
from qsjax.cli.grid_options import cell_name, inputs_text, settings_of
from qsjax.grid.search import Objective
from qsjax.output import files
from qsjax.questions.design import CostModel, Design, Price, best_hardware, cheapest_hardware
from qsjax.questions.design.costs import members
from qsjax.questions.sensitivity import of_variant, problem
from qsjax.records.quantities import unit_of


@click.command("design")
@options.model_argument
@options.system_options
@options.workload_options
@options.axis_options
@click.option(
    "--price",
    multiple=True,
    metavar="FIELD=COST[^EXPONENT]",
    help="Cost of a field at the reference hardware's value, growing with its power: hbm_bytes=20, "
    "flops=40^1.2. Fields: hbm_bytes, hbm_bw, flops, intra_bw, inter_bw, link_bw. Repeat it.",
)
@click.option("--base", type=float, default=0.0, show_default=True, help="Cost of everything else.")
@click.option("--budget", type=float, help="Find the best hardware that costs at most this.")
@click.option(
    "--target",
    type=options.Numbers(),
    help="Find the cheapest hardware that reaches this, one value or one per workload "
    "(tpot in seconds).",
)
@click.option(
    "--metric",
    type=click.Choice(get_args(Objective)),
    default="tokens_per_s_per_gpu",
    show_default=True,
    help="What counts.",
)
@click.option("--weight", type=options.Numbers(), help="Shares of the workloads.  [default: equal]")
@click.option("--dense", is_flag=True, help="Design for the first dense twin instead of the MoE.")
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
    r"""Find the best accelerator for MODEL under a budget, or the cheapest that meets targets.

    Every context (and GPU count) is one workload. Costs are in any unit, relative to the reference
    accelerator of --hardware. Answers are verified on the exact grid, with whole batches.

    \b
    Examples:
      qsjax design deepseek-v3 --context 8k,128k --budget 100 \
          --price hbm_bytes=25 --price hbm_bw=35 --price flops=30^1.2 --price link_bw=10
      qsjax design deepseek-v3 --context 32k --metric tpot --target 0.02 \
          --price hbm_bytes=40 --price hbm_bw=60
    """
    cost = CostModel(dict(_price(text) for text in flags["price"]), flags["base"])
    settings = settings_of(model, flags)
    if not flags["context"]:
        settings["contexts"] = [131072.0]
    stated = of_variant(problem(**settings), 1 if flags["dense"] else 0)
    found = _solve(stated, cost, flags)
    result = {"model": model, "convention": flags["convention"], **dataclasses.asdict(found)}
    if flags["format_"] == "json":
        options.print_json(result)
    elif flags["format_"] == "csv":
        click.echo(files.csv_text(_rows(found)), nl=False)
    else:
        _tables(model, found, flags["metric"])
    if flags["out"]:
        out = flags["out"]
        files.write_atomically(out / "inputs.json", inputs_text("design", model, flags, settings))
        files.write_atomically(out / "result.json", json.dumps(files.finite(result), indent=1))
        files.write_atomically(out / "design.csv", files.csv_text(_rows(found)))
        names = ["inputs.json", "result.json", "design.csv"]
        names += figures.save(out, {"design": partial(_draw, model, found, flags["metric"])})
        session.note(f"Written to {out}: {', '.join(names)}")


def _price(text: str) -> tuple[str, Price]:
    name, _, rest = text.partition("=")
    cost, _, exponent = rest.partition("^")
    try:
        return name.strip(), Price(float(cost), float(exponent or 1.0))
    except ValueError:
        raise ValueError(f"--price {text!r}: write FIELD=COST, or FIELD=COST^EXPONENT") from None


def _solve(stated: Any, cost: CostModel, flags: dict[str, Any]) -> Design:
    budget, target, metric = flags["budget"], flags["target"], flags["metric"]
    if (budget is None) == (target is None):
        raise ValueError("give either --budget or --target")
    if target is None:
        return best_hardware(stated, cost, budget, weights=flags["weight"], metric=metric)
    if flags["weight"]:
        raise ValueError("--weight mixes workloads for a budget; every target holds by itself")
    if len(target) not in (1, stated.cells):
        raise ValueError(f"--target: give one value, or {stated.cells}, one per workload")
    wanted = target if len(target) > 1 else target[0]
    return cheapest_hardware(stated, cost, wanted, metric=metric)


def _draw(model: str, found: Design, metric: str) -> Any:
    from qsjax import plotting
    from qsjax.plotting import scales

    rows = []
    for row in _rows(found):
        fields = {name: found.hardware[name] for name in members(row["quantity"])}
        values = [scales.with_unit(x, unit_of(name)) for name, x in fields.items()]
        is_bound = row["quantity"] in found.at_bound
        # The dtypes of arithmetic scale together: the first stands for all.
        text = ", ".join(dict.fromkeys(values)) if len(values) < 3 else f"{values[0]} in BF16"
        rows.append({**row, "value": text, "at_bound": is_bound})
    title = f"{model}: {metric} {found.objective:.4g} at a cost of {found.cost:.4g}"
    return plotting.chosen_hardware(rows, title=title)


def _rows(found: Design) -> list[dict[str, Any]]:
    return [
        {"quantity": name, "factor": factor, "marginal": found.marginal[name]}
        for name, factor in found.factors.items()
    ]


def _tables(model: str, found: Design, metric: str) -> None:
    lines = [
        (row["quantity"], f"x{row['factor']:.4g}", f"{row['marginal']:+.3f} %")
        for row in _rows(found)
    ]
    heads = ("quantity", "over the reference", "gain for 1 % more cost")
    options.print_table(f"{model}: hardware that costs {found.cost:.6g}", heads, lines)
    unit = " s" if metric == "tpot" else ""
    for label, value, design in zip(found.labels, found.metrics, found.designs, strict=True):
        split = " ".join(f"{name}={degree}" for name, degree in design.items())
        click.echo(f"{cell_name(label)}: {metric} {value:.6g}{unit} with {split}")
    click.echo(
        f"Mix {found.objective:.6g}{unit} with whole batches ({found.relaxed:.6g}{unit} with "
        "fractional ones); the reference, scaled to the same cost, reaches "
        f"{found.reference:.6g}{unit}."
    )
    if found.at_bound:
        click.echo(f"At the edge of the range searched: {', '.join(found.at_bound)}.")
