"""What the model says of cases: all deployments of a kind in one compiled call."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.ledger import regimes_of, resource_times, time_ledger
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.cost.shared import Filling, Shared, rush, shared_steps
from qsjax.engines import memory
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.schedulers import filling_of, sharing
from qsjax.evidence.measurements.cases import SERVED, SWEEP, Case
from qsjax.grid import axes
from qsjax.numerics.jax import jax
from qsjax.numerics.jaxpr import by_tape, on_host_by_jax
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.rows import grouped
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Records, Workload
from qsjax.records.units import GB

# Values of hardware fields that replace the catalogue's, and `trtllm_overhead`.
Constants = Mapping[str, float | Array]

# TensorRT-LLM fuses more of a layer into one launch than vLLM and SGLang do: its launch overheads
# over theirs. Fitted with the other constants (benchmarks/fit_constants.py).
TRTLLM_OVERHEAD = 0.70


class FirstToken(NamedTuple):
    """Of a benchmark that keeps as many requests in flight as its concurrency.

    `steps` are decode steps until a request is seen; `rush` the share of the mean time that it
    takes when all come at once, as they do at the start: those that follow are bunched for a while.
    It is that of a benchmark of ten requests for each in flight (`FIRST_OF_ALL`). The median
    request is none of these. All beyond the steady state, which knows the server's front end and
    the steps that a token is on its way (schedulers.toml).
    """

    steps: float | np.ndarray
    rush: float | np.ndarray


# `python -m benchmarks.left_out` fits and prints them, with the front ends in schedulers.toml. What
# records do not tell apart is shared. TensorRT-LLM's ranks of data parallelism wait for each
# other's requests.
FIRST_TOKENS = {
    "vllm": FirstToken(steps=0.0, rush=0.199),
    "trtllm": FirstToken(steps=0.0, rush=0.144),
    "trtllm dp": FirstToken(steps=26.0, rush=0.144),
}
# Of the requests of InferenceX, which sends ten for each in flight, those that come first.
FIRST_OF_ALL = 0.1
OVERHEADS = tuple(f"{name}_overhead" for name in ("layer", "latent", "expert", "sequence", "step"))


class Batch(NamedTuple):
    """Deployments of one convention and set of dtypes; every leaf has their axis.

    `output` is infinite where prompts are no part of what was measured: nothing is read then.
    """

    model: ModelSpec
    hardware: HardwareSpec
    partition: Partition
    workload: Workload
    prompt: np.ndarray
    cached: np.ndarray
    output: np.ndarray
    prompts: np.ndarray
    rules: Filling
    is_trtllm: np.ndarray
    expert_launches: np.ndarray


class Outcome(NamedTuple):
    """Predictions of a batch, one for each deployment [s, tokens/s, B].

    `tpot` is the decode step of those that decode at a time, `wait` what the prompts of others add.
    `prefill` is a pass over the prompts by itself; `ttft` that of a steady state, `rush` that of
    all requests at once.
    `busy` is the mean of the shares of the time in which arithmetic and HBM run, with prompts.
    """

    tpot: Array
    wait: Array
    prefill: Array
    ttft: Array
    rush: Array
    tokens_per_s: Array
    weights: Array
    kv_per_token: Array
    busy: Array
    resources: dict[str, Array]


class Prediction(NamedTuple):
    """What the model says of a case, in the unit of the record."""

    case: Case
    value: float
    regime: str
    shares: dict[str, float]


def with_constants(
    hardware: HardwareSpec, constants: Constants, is_trtllm: np.ndarray | Array
) -> HardwareSpec:
    """The hardware with the given constants, and with an engine's share of the overheads."""
    fields: dict[str, Any] = {k: v for k, v in constants.items() if k != "trtllm_overhead"}
    replaced = dataclasses.replace(hardware, **fields)
    factor = xp.where(is_trtllm, constants.get("trtllm_overhead", TRTLLM_OVERHEAD), 1.0)
    scaled: dict[str, Any] = {name: factor * getattr(replaced, name) for name in OVERHEADS}
    return dataclasses.replace(replaced, **scaled)


def _launches_of_a_layer(one: OperatingPoint) -> float:
    """Launches of the experts beyond the accelerator's overheads, spread over all layers [s]."""
    layers, dense = scalar(one.model.layers), scalar(one.model.dense_layers)
    return one.expert_launches * (layers - dense) / layers


class Asked(NamedTuple):
    """A deployment, and what of it is predicted."""

    one: OperatingPoint
    kind: str
    facts: Mapping[str, float]

    @property
    def prompts(self) -> float:
        """Prompts of one pass: a static batch prefills all of its own at once."""
        return scalar(self.one.workload.batch) if self.kind == "static" else 1.0  # type: ignore[arg-type]  # given

    @property
    def rules(self) -> Filling:
        """How the engine fills its steps, with the budget that the record states.

        Requests of one length start and end together. Lengths that are not stated count as one
        where prompts ride in decode steps; where decoding waits they do not: `sglang.bench_serving`
        draws them from one token on unless told otherwise. First tokens of prompts that ride in
        decode steps come one after the other whatever the lengths: who is read first decodes and
        ends first.
        """
        one = self.one
        device = scalar(one.hardware.hbm_bytes), one.hardware_name
        usual = filling_of(one.engine, *device, sharing(one.model, one.partition))
        budget = self.facts.get("max_batched_tokens", usual.budget)
        by_default = 1.0 if usual.mixed else 0.0
        is_spread = bool(usual.mixed) and self.kind == "ttft"
        if is_spread or self.facts.get("length_ratio", by_default) != 1.0:
            return usual._replace(budget=budget)
        # Replicas whose requests start together read them in the same steps.
        return usual._replace(budget=budget, bunched=1.0, lockstep=0.0)


def stack(asked: Sequence[Asked]) -> Batch:
    """One batch of deployments that share convention and dtypes."""
    deployments = [each.one for each in asked]

    def leaves(name: str) -> Any:
        return axes.stack([getattr(one, name) for one in deployments])

    outputs = [max(1.0, x.one.output) if x.kind in SERVED else math.inf for x in asked]
    prompts = np.array([max(1.0, one.prompt) for one in deployments])
    cached = [x.facts.get("cached_tokens", 0.0) for x in asked]
    return Batch(
        model=leaves("model"),
        hardware=leaves("hardware"),
        partition=leaves("partition"),
        workload=leaves("workload"),
        prompt=prompts,
        cached=np.minimum(cached, prompts - 1.0),  # the last token is read for its answer
        output=np.array(outputs),
        prompts=np.array([each.prompts for each in asked]),
        rules=Filling(*np.array([each.rules for each in asked], np.float64).T),
        is_trtllm=np.array([one.engine == "trtllm" and not one.kernels for one in deployments]),
        expert_launches=np.array([_launches_of_a_layer(one) for one in deployments]),
    )


def records_of(batch: Batch, hardware: HardwareSpec) -> Records:
    """The design of every deployment on an accelerator, with the launches of its experts."""
    launches = hardware.layer_overhead + batch.expert_launches
    launching = dataclasses.replace(hardware, layer_overhead=launches)
    return Records(batch.model, launching, batch.partition, batch.workload)


def served(batch: Batch, hardware: HardwareSpec, convention: Convention) -> Shared:
    """Every deployment of a batch on an accelerator, prompts beside answers where it has both."""
    work = (records_of(batch, hardware), convention, batch.prompt, batch.output, batch.rules)
    return shared_steps(*work, cached=batch.cached)


def _evaluate(batch: Batch, constants: Constants, convention: Convention) -> Outcome:
    """Decode step and prefill of every deployment of a batch."""
    hardware = with_constants(batch.hardware, constants, batch.is_trtllm)
    shared, records = served(batch, hardware, convention), records_of(batch, hardware)
    step = shared.step
    return Outcome(
        tpot=step.tpot,
        wait=shared.wait,
        prefill=prefill_step(
            records, convention, Prompts(batch.prompt, batch.prompts, batch.cached)
        ).ttft,
        ttft=shared.ttft,
        rush=rush(records, convention, batch.prompt, batch.rules, batch.cached),
        tokens_per_s=xp.asarray(batch.partition.dp) * shared.tokens_per_s,
        weights=step.capacity.weights,
        kv_per_token=step.capacity.kv_per_sequence / batch.workload.context,
        busy=shared.busy,
        resources=resource_times(time_ledger(step, records, convention)),
    )


_host, _traced = on_host(_evaluate), by_tape(_evaluate)


@on_host_by_jax
def _along(
    batch: Batch, logs: Constants, direction: Constants, fixed: Constants, *, convention: Convention
) -> Outcome:
    """Derivatives of the outcomes of a batch along a direction of the constants' logarithms."""

    def of(logs: Constants) -> Outcome:
        moved = {name: xp.exp(value) for name, value in logs.items()}
        return _traced(batch, {**fixed, **moved}, convention=convention)._replace(resources={})

    return jax.jvp(of, (logs,), (direction,))[1]


def _key(one: OperatingPoint) -> tuple[Any, ...]:
    work = one.workload
    return (one.convention, work.attn_dtype, work.proj_dtype, work.ffn_dtype, work.head_dtype)


def batches(cases: Sequence[Case]) -> tuple[list[tuple[Batch, Convention]], np.ndarray]:
    """The deployments of all cases by convention and dtypes, and where each one ended up.

    The position counts over the batches in their order, and the deployments are those of the
    cases in theirs.
    """
    flat = [Asked(one, case.kind, case.facts) for case in cases for one in case.deployments]
    groups = grouped(range(len(flat)), lambda i: _key(flat[i].one))
    built = [
        (stack([flat[i] for i in members]), flat[members[0]].one.convention)
        for members in groups.values()
    ]
    order = np.array([i for members in groups.values() for i in members])
    position = np.empty(len(flat), np.int64)
    position[order] = np.arange(len(flat))
    return built, position


def _joined(
    built: Sequence[tuple[Batch, Convention]],
    position: np.ndarray,
    evaluated: Sequence[Outcome],
    lead: tuple[int, ...],
) -> Outcome:
    """Outcomes of all deployments, in the order of the cases, from those of their batches."""
    parts = []
    for (batch, _), part in zip(built, evaluated, strict=True):
        shape = (*lead, len(batch.prompt))
        parts.append(jax.tree.map(lambda x, to=shape: np.broadcast_to(x, to), part))
    return jax.tree.map(lambda *x: np.concatenate(x, axis=-1)[..., position], *parts)


def outcomes(
    built: Sequence[tuple[Batch, Convention]],
    position: np.ndarray,
    constants: Constants,
    lead: tuple[int, ...] = (),
) -> Outcome:
    """Outcomes of all deployments, in the order of the cases; `lead` are further axes in front."""
    evaluated = [_host(batch, dict(constants), convention=rules) for batch, rules in built]
    return _joined(built, position, evaluated, lead)


def polls(case: Case) -> float:
    """Decode steps that a request waits in the mean until its engine looks for new ones.

    SGLang's `--scheduler-recv-interval` has it look every so many steps; every step otherwise.
    """
    return 0.5 * (case.facts.get("recv_interval", 1.0) - 1.0)


def rush_share(usual: float, in_flight: float, requests: float | None) -> float:
    """Share of the time that all requests at once take, in the mean of a run of so many [1].

    Those in flight come first and take all of it, those that follow as much as they do where
    `usual` was fitted.

    Args:
        usual: of a run of `FIRST_OF_ALL`.
        in_flight: requests that the benchmark keeps in flight.
        requests: of the whole run; as in `usual` where it is not stated.

    >>> rush_share(0.19, 32, None), rush_share(0.19, 32, 64), rush_share(0.19, 32, 32)
    (0.19, 0.55, 1.0)
    """
    if requests is None:
        return usual
    first = min(1.0, in_flight / max(requests, 1.0))
    return first + (1.0 - first) * (usual - FIRST_OF_ALL) / (1.0 - FIRST_OF_ALL)


def first_token_name(case: Case) -> str:
    """Which of `FIRST_TOKENS` a deployment has; vLLM's where its engine is not among them."""
    one = case.deployments[0]
    ranked = f"{one.engine} dp" if scalar(one.partition.dp) > 1 else one.engine
    return next(name for name in (ranked, one.engine, "vllm") if name in FIRST_TOKENS)


def slopes_of_outcomes(
    built: Sequence[tuple[Batch, Convention]],
    position: np.ndarray,
    logs: Mapping[str, float],
    fixed: Constants,
) -> Outcome:
    """Derivatives of `outcomes` in the logarithms of constants, (constant, deployment)."""
    directions = dict(zip(logs, np.eye(len(logs))[:, :, None], strict=True))
    given = (dict(logs), directions, dict(fixed))
    slopes = [_along(batch, *given, convention=convention) for batch, convention in built]
    return _joined(built, position, slopes, (len(logs),))


class CaseColumns(NamedTuple):
    """What the value of each case takes beside outcomes; every field has the axis of cases.

    Attributes:
        first: where the first deployment of a case is.
        last: where its last one is.
        kind: index in KINDS.
        output: tokens of an answer.
        tokens: sequences of all replicas.
        beyond: what a first token takes beyond the steady state.
    """

    first: np.ndarray
    last: np.ndarray
    kind: np.ndarray
    output: np.ndarray
    tokens: np.ndarray
    beyond: FirstToken


KINDS = (
    *("tpot", "served_tpot", "throughput", "served_throughput", "static", "ttft"),
    *("slope", "intercept"),
)


def columns_of(cases: Sequence[Case]) -> CaseColumns:
    """The columns of the cases."""
    last = np.cumsum([len(case.deployments) for case in cases]) - 1
    deployments = [case.deployments[0] for case in cases]
    sequences = np.array([scalar(one.workload.batch) for one in deployments])  # type: ignore[arg-type]  # given
    tokens = sequences * np.array([scalar(one.partition.dp) for one in deployments])
    known = []
    for case, in_flight in zip(cases, tokens, strict=True):
        usual = FIRST_TOKENS[first_token_name(case)]
        rush = rush_share(float(usual.rush), in_flight, case.facts.get("num_prompts"))
        known.append(FirstToken(usual.steps + polls(case), 0.0 if case.is_median else rush))
    return CaseColumns(
        first=np.concatenate([[0], last[:-1] + 1]),
        last=last,
        kind=np.array([KINDS.index(c.kind) if c.kind in KINDS else 0 for c in cases], float),
        output=np.array([max(1.0, one.output) for one in deployments]),
        tokens=tokens,
        beyond=FirstToken(*np.array(known).T),
    )


def _value(first: Outcome, tpot_of_last: Array, columns: CaseColumns) -> Array:
    """The value of a case, from the outcomes of its first and last deployments."""
    steps, rush = columns.beyond
    slope = (tpot_of_last - first.tpot) / (SWEEP[1] - SWEEP[0])
    by_kind = {
        "served_tpot": first.tpot + first.wait,
        "throughput": first.tokens_per_s,
        "served_throughput": first.tokens_per_s,
        "static": columns.tokens * columns.output / (first.prefill + columns.output * first.tpot),
        "ttft": first.ttft + steps * first.tpot + rush * first.rush,
        "slope": slope,
        "intercept": first.tpot - slope * SWEEP[0],
    }
    value = first.tpot
    for kind, of_kind in by_kind.items():
        value = xp.where(columns.kind == float(KINDS.index(kind)), of_kind, value)
    return value


@on_host_by_jax
def _log_slope(
    first: Outcome, of_last: Array, columns: CaseColumns, change: Outcome, change_of_last: Array
) -> Array:
    """Derivative of the logarithm of a value along changes of the outcomes."""

    def of(first: Outcome, of_last: Array) -> Array:
        return xp.log(_value(first, of_last, columns))

    return jax.jvp(of, (first, of_last), (change, change_of_last))[1]


_value_on_host = on_host(_value)


def _ends(columns: CaseColumns, outcome: Outcome) -> tuple[Outcome, Any]:
    at_first = jax.tree.map(lambda x: x[..., columns.first], outcome._replace(resources={}))
    return at_first, outcome.tpot[..., columns.last]


def time_values(columns: CaseColumns, outcome: Outcome) -> np.ndarray:
    """Predictions of the cases that are times or rates, in SI units; others are not meaningful."""
    return np.asarray(_value_on_host(*_ends(columns, outcome), columns))


def log_slopes(columns: CaseColumns, outcome: Outcome, change: Outcome) -> np.ndarray:
    """Derivatives of the logarithms of `time_values` as outcomes change, (constant, case)."""
    return np.asarray(_log_slope(*_ends(columns, outcome), columns, *_ends(columns, change)))


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
    outcome = outcomes(built, position, dict(constants or {}))
    times = time_values(columns_of(cases), outcome)
    predictions, at = list[Prediction](), 0
    for case, time in zip(cases, times, strict=True):
        if case.kind in ("tokens", "kv", "weights"):
            sizes = (float(outcome.weights[at]), float(outcome.kv_per_token[at]))
            prediction = Prediction(case, _capacity_value(case, *sizes) / case.unit, "memory", {})
        else:
            shares = {name: float(x[at]) for name, x in outcome.resources.items()}
            is_served = case.kind in ("served_tpot", "served_throughput")
            shares["prefill"] = float(outcome.wait[at]) if is_served else 0.0
            total = sum(shares.values())
            shares = {name: x / total for name, x in shares.items()}
            prediction = Prediction(case, float(time) / case.unit, str(regimes_of(shares)), shares)
        predictions.append(prediction)
        at += len(case.deployments)
    return predictions
