"""What the model says of cases: all deployments of a kind in one compiled call."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import decode_step
from qsjax.cost.ledger import resource_times, time_ledger
from qsjax.cost.prefill import interleaved_wait, prefill_step
from qsjax.cost.regimes import regimes_of
from qsjax.engines import memory
from qsjax.engines.operating_point import OperatingPoint
from qsjax.evidence.measurements.cases import SWEEP, Case
from qsjax.grid import axes
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload
from qsjax.records.units import GB

# Values of hardware fields that replace the catalogue's, and `trtllm_overhead`.
Constants = Mapping[str, float | jax.Array]

# TensorRT-LLM fuses more of a layer into one launch than vLLM and SGLang do: its launch overheads
# over theirs. Fitted with the other constants (benchmarks/fit_constants.py).
TRTLLM_OVERHEAD = 0.70
# Time to first token of a benchmark that keeps as many requests in flight as its concurrency. Its
# own prompt shares steps with the decoding of others: it takes PROMPT_STRETCH times what it takes
# alone, and FIRST_STEPS decode steps. BURST of the requests come all at once, at the start: these
# wait for half of the others' prompts. BURST is InferenceX's 10 requests for each one in flight;
# the others are fitted to the shipped records (`python -m benchmarks.left_out` prints them).
PROMPT_STRETCH, FIRST_STEPS, BURST = 1.60, 3.89, 0.1
OVERHEADS = tuple(f"{name}_overhead" for name in ("layer", "latent", "expert", "sequence", "step"))


class Batch(NamedTuple):
    """Deployments of one convention and set of dtypes; every leaf has their axis."""

    model: ModelSpec
    hardware: HardwareSpec
    partition: Partition
    workload: Workload
    prompt: np.ndarray
    output: np.ndarray
    prompts: np.ndarray
    is_trtllm: np.ndarray
    expert_launches: np.ndarray


class Outcome(NamedTuple):
    """Predictions of a batch, one for each deployment [s, tokens/s, B].

    `wait` is what the prompts of others add to each output token, `prefills` what all prompts do.
    `busy` is the mean of the shares of the time in which arithmetic and HBM run, with prompts.
    """

    tpot: jax.Array
    wait: jax.Array
    prefills: jax.Array
    ttft: jax.Array
    tokens_per_s: jax.Array
    weights: jax.Array
    kv_per_token: jax.Array
    busy: jax.Array
    resources: dict[str, jax.Array]


class Prediction(NamedTuple):
    """What the model says of a case, in the unit of the record."""

    case: Case
    value: float
    regime: str
    shares: dict[str, float]


def with_constants(
    hardware: HardwareSpec, constants: Constants, is_trtllm: np.ndarray | jax.Array
) -> HardwareSpec:
    """The hardware with the given constants, and with an engine's share of the overheads."""
    fields: dict[str, Any] = {k: v for k, v in constants.items() if k != "trtllm_overhead"}
    replaced = dataclasses.replace(hardware, **fields)
    factor = jnp.where(is_trtllm, constants.get("trtllm_overhead", TRTLLM_OVERHEAD), 1.0)
    scaled: dict[str, Any] = {name: factor * getattr(replaced, name) for name in OVERHEADS}
    return dataclasses.replace(replaced, **scaled)


def _launches_of_a_layer(one: OperatingPoint) -> float:
    """Launches of the experts beyond the accelerator's overheads, spread over all layers [s]."""
    layers, dense = float(one.model.layers), float(one.model.dense_layers)  # type: ignore[arg-type]  # catalogue entries hold floats
    return one.expert_launches * (layers - dense) / layers


def stack(deployments: Sequence[OperatingPoint], prompts: Sequence[float]) -> Batch:
    """One batch of deployments that share convention and dtypes."""

    def leaves(name: str) -> Any:
        return axes.stack([getattr(one, name) for one in deployments])

    return Batch(
        model=leaves("model"),
        hardware=leaves("hardware"),
        partition=leaves("partition"),
        workload=leaves("workload"),
        prompt=np.array([max(1.0, one.prompt) for one in deployments]),
        output=np.array([max(1.0, one.output) for one in deployments]),
        prompts=np.asarray(prompts, np.float64),
        is_trtllm=np.array([one.engine == "trtllm" and not one.kernels for one in deployments]),
        expert_launches=np.array([_launches_of_a_layer(one) for one in deployments]),
    )


def _evaluate(batch: Batch, constants: Constants, convention: Convention) -> Outcome:
    """Decode step and prefill of every deployment of a batch."""
    hardware = with_constants(batch.hardware, constants, batch.is_trtllm)
    launches = hardware.layer_overhead + batch.expert_launches
    hardware = dataclasses.replace(hardware, layer_overhead=launches)
    work, part = batch.workload, batch.partition
    step = decode_step(batch.model, hardware, part, work, convention)
    first = prefill_step(batch.model, hardware, part, work, convention, batch.prompt, batch.prompts)
    sequences = step.capacity.batch
    others = jnp.maximum(sequences - 1.0, 0.0)
    prefills = interleaved_wait(first, sequences, batch.output, batch.prompts)
    ledger = time_ledger(step, convention, part, work, jnp.asarray(hardware.step_overhead))
    return Outcome(
        tpot=step.tpot,
        wait=interleaved_wait(first, others, batch.output, batch.prompts),
        prefills=prefills,
        ttft=first.ttft,
        tokens_per_s=step.tokens_per_s,
        weights=step.capacity.weights,
        kv_per_token=step.capacity.kv_per_sequence / work.context,
        busy=(step.busy * step.tpot + first.t_busy / first.ttft * prefills)
        / (step.tpot + prefills),
        resources=resource_times(ledger),
    )


evaluate, _host = jax.jit(_evaluate, static_argnames="convention"), on_host(_evaluate)


def _key(one: OperatingPoint) -> tuple[Any, ...]:
    work = one.workload
    return (one.convention, work.attn_dtype, work.proj_dtype, work.ffn_dtype, work.head_dtype)


def batches(cases: Sequence[Case]) -> tuple[list[tuple[Batch, Convention]], np.ndarray]:
    """The deployments of all cases by convention and dtypes, and where each one ended up.

    The position counts over the batches in their order, and the deployments are those of the
    cases in theirs.
    """
    flat = [(one, case.kind) for case in cases for one in case.deployments]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, (one, _) in enumerate(flat):
        groups.setdefault(_key(one), []).append(i)
    built = []
    for members in groups.values():
        ones = [flat[i][0] for i in members]
        # A static batch prefills all its prompts at once.
        prompts = [
            float(flat[i][0].workload.batch) if flat[i][1] == "static" else 1.0  # type: ignore[arg-type]  # floats of deployment_of
            for i in members
        ]
        built.append((stack(ones, prompts), ones[0].convention))
    order = np.array([i for members in groups.values() for i in members])
    position = np.empty(len(flat), np.int64)
    position[order] = np.arange(len(flat))
    return built, position


def outcomes(
    built: Sequence[tuple[Batch, Convention]], position: np.ndarray, constants: Constants
) -> Outcome:
    """Outcomes of all deployments, in the order of the cases."""
    parts = [evaluate(batch, constants, convention) for batch, convention in built]
    joined: Outcome = jax.tree.map(lambda *x: jnp.concatenate(x)[position], *parts)
    return joined


def outcomes_on_host(
    built: Sequence[tuple[Batch, Convention]],
    position: np.ndarray,
    constants: Constants,
    lead: tuple[int, ...] = (),
) -> Outcome:
    """The same by NumPy, which needs no compiler; fields may have further axes `lead` in front."""
    parts = []
    for batch, convention in built:
        shape = (*lead, len(batch.prompt))
        found = _host(batch, dict(constants), convention=convention)
        parts.append(jax.tree.map(lambda x, to=shape: np.broadcast_to(x, to), found))
    joined: Outcome = jax.tree.map(lambda *x: np.concatenate(x, axis=-1)[..., position], *parts)
    return joined


def first_token_times(outcome: Outcome, sequences: np.ndarray) -> jax.Array:
    """Time to first token of served deployments [s]."""
    prompts = jnp.asarray(1.0 + 0.5 * BURST * (sequences - 1.0))
    return PROMPT_STRETCH * prompts * outcome.ttft + FIRST_STEPS * (outcome.tpot + outcome.wait)


def time_values(cases: Sequence[Case], outcome: Outcome) -> jax.Array:
    """Predictions of the cases that are times or rates, in SI units; others are not meaningful."""
    counts = np.array([len(case.deployments) for case in cases])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    last = first + counts - 1
    deployments = [case.deployments[0] for case in cases]
    output = np.array([max(1.0, one.output) for one in deployments])
    sequences = np.array([float(one.workload.batch) for one in deployments])  # type: ignore[arg-type]  # floats of deployment_of
    tokens = sequences * np.array([float(one.partition.dp) for one in deployments])  # type: ignore[arg-type]  # floats of deployment_of
    at_first: Outcome = jax.tree.map(lambda x: x[first], outcome)
    slope = (outcome.tpot[last] - outcome.tpot[first]) / (SWEEP[1] - SWEEP[0])
    by_kind = {
        "tpot": outcome.tpot[first],
        "served_tpot": outcome.tpot[first] + outcome.wait[first],
        "throughput": outcome.tokens_per_s[first],
        "served_throughput": tokens / (outcome.tpot[first] + outcome.prefills[first]),
        "static": tokens * output / (outcome.ttft[first] + output * outcome.tpot[first]),
        "ttft": first_token_times(at_first, np.maximum(1.0, sequences)),
        "slope": slope,
        "intercept": outcome.tpot[first] - slope * SWEEP[0],
    }
    values = outcome.tpot[first]
    kinds = np.array([case.kind for case in cases])
    for kind, value in by_kind.items():
        values = jnp.where(kinds == kind, value, values)
    return values


def _capacity_value(case: Case, weights: float, kv_per_token: float) -> float:
    """Bytes of weights or cache, or tokens that the cache holds."""
    one = case.deployments[0]
    weights = weights + memory.unquantised_bytes(one)
    if case.kind != "weights":
        weights = case.facts.get("weights_gb", weights / GB) * GB
    free = memory.usable_bytes(one, case.facts, weights, kv_per_token) - weights
    tokens = min(free / kv_per_token, case.facts.get("max_total_tokens", math.inf))
    return {"tokens": tokens, "kv": tokens * kv_per_token, "weights": weights}[case.kind]


def predict(cases: Sequence[Case], constants: Constants | None = None) -> list[Prediction]:
    """Predictions of all cases, in the units of their records.

    Args:
        cases: from `read_case`.
        constants: hardware fields that replace the catalogue's, and `trtllm_overhead`.
    """
    if not cases:
        return []
    built, position = batches(cases)
    outcome = outcomes_on_host(built, position, dict(constants or {}))
    times = np.asarray(time_values(cases, outcome))
    found, at = [], 0
    for case, time in zip(cases, times, strict=True):
        if case.kind in ("tokens", "kv", "weights"):
            sizes = (float(outcome.weights[at]), float(outcome.kv_per_token[at]))
            value = _capacity_value(case, *sizes)
            prediction = Prediction(case, value / case.unit, "memory", {})
        else:
            shares = {name: float(x[at]) for name, x in outcome.resources.items()}
            prompts = {"served_tpot": outcome.wait, "served_throughput": outcome.prefills}
            shares["prefill"] = float(prompts[case.kind][at]) if case.kind in prompts else 0.0
            total = sum(shares.values())
            shares = {name: x / total for name, x in shares.items()}
            prediction = Prediction(case, float(time) / case.unit, str(regimes_of(shares)), shares)
        found.append(prediction)
        at += len(case.deployments)
    return found
