r"""`python -m benchmarks.simulation`: how fast serving is simulated, and how near measurements.

\b
    python -m benchmarks.simulation                    speed: 1,000 deployments of 1,000 requests
    python -m benchmarks.simulation --vidur PYTHON     beside Vidur's loop, in its environment
    python -m benchmarks.simulation --mixed            steps with prompts against the laws by phase
    python -m benchmarks.simulation --prompts          averages with and without a step's budget
    python -m benchmarks.simulation --shipped 7        every 7th shipped record with a `ttft_ms`
    python -m benchmarks.simulation --records FILE     such records of one's own
"""

import dataclasses
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from benchmarks.timing import cores, peak_rss_mb
from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.engines.schedulers import default_scheduler
from qsjax.evidence.measurements import (
    Case,
    OperatingPoint,
    load_records,
    predict,
    read_case,
    read_json,
)
from qsjax.evidence.measurements.predict import polls, with_constants
from qsjax.numerics.safe import scalar
from qsjax.questions.simulation import events, serving, steps, traffic
from qsjax.records.specs import PHYSICAL, Partition, Records
from qsjax.records.units import MS

DEPLOYMENTS, REQUESTS = 1_000, 1_000
DEMAND = traffic.Demand("800-1024", "800-1024", requests=REQUESTS)
MODELS = ("qwen3-8b", "llama-3.1-8b", "gpt-oss-20b", "mistral-nemo-12b")
# Of the nominal length, where none is stated, or all are and prompts ride in decode steps: equal
# ones keep users in step for ever, as only engines do that read all prompts first.
UNSTATED = 0.9, 1.1
PER_USER = 10  # requests of a record, as the benchmark sends them
APART = 0.05  # of the two averages, from which the budget of a step shows
LONG_PROMPTS = 4.0  # input over output tokens from which prompts dominate


def speed() -> dict[str, float]:
    """Deployments of four models, users from 8 to 64, all seeds their own."""
    rules = default_scheduler("vllm", 141e9)
    bases = []
    for model in MODELS:
        work = catalog.workload(model)
        records = Records(catalog.model(model), catalog.hardware("h200-sxm"), Partition(), work)
        some = traffic.closed_loop(1, DEMAND)
        bases.append(serving.deploy(records, PHYSICAL, rules, some))

    def build(seed: int) -> list[events.Lane]:
        return [
            serving.with_traffic(
                bases[at % len(bases)],
                traffic.closed_loop(8 + at % 57, DEMAND._replace(seed=seed + at)),
            )
            for at in range(DEPLOYMENTS)
        ]

    times = []
    for seed in (0, DEPLOYMENTS):
        some = build(seed)
        start = time.perf_counter()
        serving.simulate(some)
        times.append(time.perf_counter() - start)
    return {
        "first_s": times[0],
        "again_s": times[1],
        "requests_per_s": DEPLOYMENTS * REQUESTS / times[1],
        "peak_mb": peak_rss_mb(),
        "cores": float(cores()),
    }


def vidur(python: Path) -> dict[str, Any]:
    """Requests a second of Vidur's loop, one replica, run by an interpreter that has it."""
    script = Path(__file__).with_name("vidur_loop.py")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(python), str(script)], cwd=folder, capture_output=True, text=True, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def pass_time(
    table: steps.StepTable,
    prompts: ArrayLike,
    tokens: ArrayLike,
    sequences: ArrayLike,
    context: float,
) -> jax.Array:
    """One pass of one stage over whole prompts, and over sequences that decode beside them [s].

    Args:
        table: of one deployment.
        prompts: how many, all of a length; 0 for a decode step.
        tokens: of all of them.
        sequences: that decode; 0 for a pass over prompts alone.
        context: their mean context [tokens].
    """
    prompts, tokens, sequences = (jnp.asarray(x, float) for x in (prompts, tokens, sequences))
    low, _ = steps.context_segment(jnp.asarray(context, float))
    short, base, slope = steps.decode_line(table, sequences, low)
    decodes = base + slope * context
    attention = prompts * steps.prompt_attention(table, tokens / jnp.maximum(prompts, 1.0))
    read = steps.interpolate(table.linear, tokens + sequences) + attention
    beside = jnp.where(sequences > 0, decodes - short, 0.0)
    return jnp.where(prompts > 0, read + beside, decodes)


def mixed() -> list[dict[str, float]]:
    """Steps of Llama 3.1 8B on one H100 with a prompt's first chunk, against the laws by phase.

    The laws: in every phase the slower of the arithmetic of answers and chunk, and of what both
    read, the weights once. `added_pct` is the error of a decode step and a prefill one after the
    other.
    """
    records = Records(
        catalog.model("llama-3.1-8b"),
        catalog.hardware("h100-sxm"),
        Partition(),
        catalog.workload("llama-3.1-8b"),
    )
    table = steps.step_table(records, PHYSICAL, (2000.0, 3000.0))
    rows = []
    for sequences, chunk, context in itertools.product(
        (4.0, 16.0, 64.0, 256.0), (128.0, 512.0, 2048.0, 7936.0), (500.0, 4000.0)
    ):
        work = dataclasses.replace(records.workload, context=context, batch=sequences, kv_block=1.0)
        answers = decode_step(records._replace(workload=work, gpus=None), PHYSICAL)
        prompt = prefill_step(records._replace(workload=records.workload), PHYSICAL, Prompts(chunk))
        once = answers.hbm
        weights = (0.0, once.attention_weights, once.always + once.routed, once.head)
        arithmetic = [a + b for a, b in zip(answers.compute, prompt.compute, strict=True)]
        read = [a + b - c for a, b, c in zip(once.phases(), prompt.hbm, weights, strict=True)]
        law = sum(max(float(a), float(b)) for a, b in zip(arithmetic, read, strict=True))
        hardware = records.hardware
        law += float(prompt.t_overhead) + scalar(hardware.step_overhead)
        law += sequences * scalar(hardware.sequence_overhead)
        seconds = pass_time(table, 1.0, chunk, sequences, context)
        rows.append(
            {
                "sequences": sequences,
                "chunk": chunk,
                "context": context,
                "law_ms": law / MS,
                "error_pct": 100.0 * (float(seconds) / law - 1.0),
                "added_pct": 100.0 * (float(answers.tpot + prompt.ttft) / law - 1.0),
            }
        )
    return rows


def records_of(one: OperatingPoint) -> Records:
    """The design of a record, with what its engine's launches take."""
    hardware = with_constants(
        one.hardware, {}, np.array(one.engine == "trtllm" and not one.kernels)
    )
    layers, dense = scalar(one.model.layers), scalar(one.model.dense_layers)
    extra = one.expert_launches * (layers - dense) / layers
    hardware = dataclasses.replace(hardware, layer_overhead=hardware.layer_overhead + extra)
    return Records(one.model, hardware, one.partition, one.workload)


def _deployment(case: Case, record: Mapping[str, Any]) -> events.Lane:
    """A record as a closed loop of its concurrency, with lengths as its benchmark draws them."""
    one = case.deployments[0]
    users = max(1, round(scalar(one.workload.batch)))
    rules = default_scheduler(
        one.engine or "vllm", scalar(one.hardware.hbm_bytes), one.hardware_name
    )
    if waits := polls(case):
        waits *= predict([case])[0].value * case.unit
        rules = dataclasses.replace(rules, frontend=rules.frontend + waits)
    stated = case.facts.get("length_ratio", math.inf)
    is_drawn = stated < 1.0 or (stated == 1.0 and not scalar(rules.mixed))
    least, most = (stated, 1.0) if is_drawn else UNSTATED
    isl, osl = (f"{int(least * record[n])}-{int(most * record[n])}" for n in ("isl", "osl"))
    work = traffic.closed_loop(users, traffic.Demand(isl, osl, requests=users * PER_USER))
    return serving.deploy(records_of(one), one.convention, rules, work)


def _errors(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    error = np.array([row[name] for row in rows])
    return {
        "records": len(rows),
        "median_abs_pct": float(np.median(np.abs(error))),
        "p90_abs_pct": float(np.percentile(np.abs(error), 90)),
        "bias_pct": float(np.median(error)),
    }


def _unbounded(one: OperatingPoint) -> float:
    """Time per token with B - 1 prompts added to each answer, whatever a step holds [s]."""
    design = (records_of(one)._replace(gpus=None), one.convention)
    step, prompt = decode_step(*design), prefill_step(*design, Prompts(one.prompt))
    return float(step.tpot) + (scalar(one.workload.batch) - 1.0) * float(prompt.ttft) / one.output


def truth(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Errors of the simulation and of the steady average, one row for each record."""
    kept: list[tuple[Mapping[str, Any], Case, events.Lane]] = []
    skipped = 0
    for record in records:
        if not record.get("ttft_ms") or record.get("not_scored"):
            continue
        case = read_case(record)
        if not isinstance(case, Case) or case.kind != "served_tpot":
            continue
        try:
            kept.append((record, case, _deployment(case, record)))
        except ValueError:  # the longest request does not fit, by the accelerator's own reserve
            skipped += 1
    click.echo(f"{len(kept)} records, {skipped} do not fit", err=True)
    outcomes = serving.simulate([one for _, _, one in kept])
    steady = predict([case for _, case, _ in kept])
    first = predict([dataclasses.replace(case, kind="ttft", unit=MS) for _, case, _ in kept])
    rows = []
    for (record, case, one), seen, average, steady_ttft in zip(
        kept, outcomes, steady, first, strict=True
    ):
        measured = case.measured * case.unit
        added = _unbounded(case.deployments[0])
        # Over all requests, as the benchmark has it, the first of every user too.
        middle = np.median if case.is_median else np.mean
        ttft = float(middle(seen.first - seen.arrival))
        tokens = np.maximum(seen.traffic.output - 1.0, 1.0)
        tpot = float(middle((seen.finish - seen.first) / tokens))
        rows.append(
            {
                "id": case.id,
                "gpu": case.deployments[0].hardware_name,
                "model": case.deployments[0].model_name,
                "engine": case.deployments[0].engine,
                "users": int(one.traffic.users),
                "isl": record["isl"],
                "osl": record["osl"],
                "long": record["isl"] / record["osl"] >= LONG_PROMPTS,
                "tpot_pct": 100.0 * (tpot / measured - 1.0),
                "steady_pct": 100.0 * (average.value / case.measured - 1.0),
                "unbounded_pct": 100.0 * (added / measured - 1.0),
                "steady_ttft_pct": 100.0 * (steady_ttft.value / record["ttft_ms"] - 1.0),
                "ttft_pct": 100.0 * (ttft / (record["ttft_ms"] * MS) - 1.0),
                "ttft_ms": record["ttft_ms"],
            }
        )
    return rows


def prompts() -> dict[str, Any]:
    """Two averages on shipped records with long prompts, by how far the two are apart.

    One adds B - 1 prompts to each answer without bound; the other is within the engine's budget.
    """
    cases, found = [], []
    for record in load_records():
        isl, osl = record.get("isl"), record.get("osl")
        if record.get("not_scored") or not isl or not osl or isl / osl < LONG_PROMPTS:
            continue
        case = read_case(record)
        if isinstance(case, Case) and case.kind == "served_tpot":
            cases.append(case)
    for case, told in zip(cases, predict(cases), strict=True):
        added = _unbounded(case.deployments[0]) / (case.measured * case.unit)
        bounded = told.value / case.measured
        apart = abs(np.log(added / bounded))
        found.append(
            {
                "apart": apart,
                "unbounded_pct": 100.0 * (added - 1.0),
                "steady_pct": 100.0 * (bounded - 1.0),
            }
        )
    names = ("unbounded_pct", "steady_pct")
    return {
        f"apart by {least:.0%} or more": {
            name: _errors([row for row in found if row["apart"] >= least], name) for name in names
        }
        for least in (0.0, 0.02, 0.05, 0.1)
    }


def _apart(row: Mapping[str, Any]) -> float:
    """How far averages with and without a step's budget are apart [1]."""
    bounded, added = (1.0 + row[name] / 100.0 for name in ("steady_pct", "unbounded_pct"))
    return abs(float(np.log(added / bounded)))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of all rows, of those with long prompts, and by accelerator and engine."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups["all"].append(row)
        groups["isl/osl >= 4" if row["long"] else "isl/osl < 4"].append(row)
        groups[f"{row['engine']} on {row['gpu']}"].append(row)
        if row["long"] and _apart(row) >= APART:
            groups[f"isl/osl >= 4, averages {APART:.0%} apart"].append(row)
        groups[f"users to {4 ** int(np.ceil(np.log(max(row['users'], 1)) / np.log(4)))}"].append(
            row
        )
    names = ("ttft_pct", "steady_ttft_pct", "tpot_pct", "steady_pct", "unbounded_pct")
    return {key: {name: _errors(some, name) for name in names} for key, some in groups.items()}


@click.command()
@click.option(
    "--records",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON list of records with `ttft_ms`.",
)
@click.option("--shipped", "every", type=click.IntRange(1), help="Every so many of those shipped.")
@click.option("--vidur", "python", type=click.Path(path_type=Path), help="Python with Vidur.")
@click.option("--mixed", "by_phase", is_flag=True, help="Steps with prompts against the laws.")
@click.option("--prompts", "long", is_flag=True, help="Averages where prompts are long.")
@click.option("--rows", type=click.Path(path_type=Path), help="File for one JSON row a record.")
def main(
    records: Path | None,
    every: int | None,
    python: Path | None,
    by_phase: bool,
    long: bool,
    rows: Path | None,
) -> None:
    """Measure the speed, or compare with records or with the laws."""
    if by_phase or long:
        json.dump(mixed() if by_phase else prompts(), sys.stdout, indent=1)
        return
    if records is None and every is None:
        found = speed()
        if python is not None:
            found["vidur_requests_per_s"] = vidur(python)["requests_per_s"]
            found["ratio"] = found["requests_per_s"] / found["vidur_requests_per_s"]
        json.dump(found, sys.stdout, indent=1)
        return
    given = read_json(records) if records else load_records()
    compared = truth([x for x in given if x.get("ttft_ms")][:: every or 1])
    if rows is not None:
        rows.write_text(json.dumps(compared, indent=1))
    json.dump(summary(compared), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
