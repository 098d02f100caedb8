"""Measurements that nothing was fitted to, against the predictions as they ship.

Run `python -m benchmarks.unseen`: errors by quantity and by group, and how many measured times the
80 % intervals hold; `--rows` prints every measurement. No constant may be fitted to this table.
What was mended after it was first scored (times per token 33.2 % off in the median then, those of
the 77 runs from 189 on 21.0 %) are rules that engines state: docs/validation.md.

A line of unseen.csv is a run, with what its source states of it and an address. `queues` marks
runs of more requests than the engine runs at a time, whose first tokens wait and are left out;
`num_prompts` counts the requests of a run, of which `cached_tokens` each are in a prefix cache.
`itl_ms` are gaps between tokens, `static_tok_s` are of one batch from prompt to end.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qsjax.catalog import model_entry
from qsjax.engines.rules import generation_of
from qsjax.engines.spread import LEVEL, error_of, factor_of, load_spread
from qsjax.evidence.measurements.names import find_model
from qsjax.evidence.validation import validate

TABLE = Path(__file__).with_name("unseen.csv")
# Column of the table: the metric and its unit, and what it is called here.
QUANTITIES = {
    "tpot_ms": ("TPOT", "ms", "time per token"),
    "itl_ms": ("median_ITL", "ms", "time per token"),
    "ttft_ms": ("TTFT", "ms", "first token"),
    "output_tok_s": ("output_throughput", "tok/s (whole deployment)", "throughput"),
    "static_tok_s": ("output_throughput", "tok/s (whole deployment)", "throughput"),
    "kv_gib": ("kv_gib_available", "GiB", "cache"),
    "kv_tokens": ("kv_tokens", "tokens", "cache"),
}
GROUPS = ("queues", "regime", "gpu", "engine", "model", "source")


def records() -> list[dict[str, Any]]:
    """A record of every measured number."""
    found = []
    for number, run in pd.read_csv(TABLE).iterrows():
        stated = {name: value for name, value in run.items() if pd.notna(value)}
        measured = {name: stated.pop(name) for name in QUANTITIES if name in stated}
        speculates = stated["speculation"] == "stated"
        for name, value in measured.items():
            metric, unit, _ = QUANTITIES[name]
            phase = "static batch" if name == "static_tok_s" else "aggregated"
            found.append(
                {
                    **stated,
                    "id": f"{number}-{name}",
                    "category": "unseen",
                    "phase": f"{phase}, EAGLE" if speculates else phase,
                    "metric": metric,
                    "value": float(value),
                    "unit": unit,
                }
            )
    return found


def rows() -> pd.DataFrame:
    """Every measured number with its prediction, the error [%] and whether the interval holds it.

    Intervals are those of the groups, without what the constants themselves are unsure of.
    """
    given = records()
    table = pd.DataFrame(validate(given).rows())
    table["quantity"] = [QUANTITIES[one["id"].split("-")[1]][2] for one in given]
    table["source"] = [_site(one["source"]) for one in given]
    table["run"] = [int(one["id"].split("-")[0]) for one in given]
    for name in ("tp", "dp", "concurrency"):
        table[name] = [one.get(name) for one in given]
    table["queues"] = ["yes" if one.get("queues") else "no" for one in given]
    timed = table.error_pct.notna() & (table.quantity != "cache")
    some = table[timed]
    groups = {
        "engine": some.engine.to_numpy(),
        "generation": np.array([generation_of(name) for name in some.gpu]),
        "kind": np.array([_kind(name) for name in some.model]),
        "regime": some.regime.to_numpy(),
    }
    spread = load_spread()
    factor = factor_of(spread, error_of(spread, groups))
    off = np.abs(np.log(some.predicted / some.measured))
    table.loc[timed, "is_held"] = (off <= np.log(factor)).to_numpy(float)
    return table


def elsewhere(table: pd.DataFrame) -> tuple[int, float]:
    """How many times per token and rates there are, and by which factor `LEVEL` of them are off."""
    steps = table[table.quantity.isin(["time per token", "throughput"])]
    off = np.abs(np.log(steps.predicted / steps.measured)).dropna()
    return len(off), float(np.exp(np.quantile(off, LEVEL)))


def _site(address: str) -> str:
    """Who published it: the first parts of an address."""
    parts = address.split("//")[1].split("/")
    return "/".join(parts[1:3]) if parts[0] == "github.com" else parts[0]


def _kind(name: str) -> str:
    model = find_model(name)
    experts = (model or model_entry(name)).spec.experts
    return "MoE" if float(experts) > 1 else "dense"


def errors(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count, median and 90th percentile of the absolute error, bias [%] and share held by group."""
    found = {}
    for name, some in table.dropna(subset="error_pct").groupby(by):
        wrong = some.error_pct.to_numpy(float)
        found[name] = {
            "n": len(wrong),
            "median %": np.median(np.abs(wrong)),
            "90 % %": np.quantile(np.abs(wrong), 0.9),
            "bias %": np.median(wrong),
            "held %": 100.0 * some.is_held.mean(),
        }
    return pd.DataFrame.from_dict(found, orient="index")


def main(arguments: Iterable[str] | None = None) -> None:
    """Print errors by quantity, and those of times per token by group."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", action="store_true", help="print every measurement too")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    table = rows()
    pd.set_option("display.width", 200)
    if asked.rows:
        names = ["run", "model", "gpu", "engine", "tp", "dp", "concurrency", "isl", "osl"]
        names += ["quantity", "measured", "predicted", "error_pct", "regime", "is_held"]
        print(table[names].round(2).to_string(index=False))
    if "skipped_because" in table:
        print(table.skipped_because.value_counts().to_string())
    print(errors(table, "quantity").round(1).to_string())
    for quantity in ("time per token", "throughput", "first token"):
        some = table[table.quantity == quantity]
        for by in GROUPS:
            print(f"\n{quantity} by {by}\n{errors(some, by).round(1).to_string()}")


if __name__ == "__main__":
    main()
