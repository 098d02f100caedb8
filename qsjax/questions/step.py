"""One decode step or prefill of one design: pure, for jit, vmap and grad."""

import dataclasses
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.feasibility import CONTRADICTION_BIT, OUT_OF_RANGE_BIT, reason_names
from qsjax.cost.ledger import time_ledger
from qsjax.cost.prefill import ContextParallel, PrefillCost, Prompts, prefill_step
from qsjax.grid.served import as_accelerator, as_served
from qsjax.numerics import trees
from qsjax.numerics.jax import jax
from qsjax.numerics.jaxpr import host_unless_traced
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import is_traced
from qsjax.output.words import joined
from qsjax.records import checks
from qsjax.records.fields import numbers_of
from qsjax.records.specs import Convention, Partition, Records, Workload, named_convention
from qsjax.records.units import MS


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Decode:
    """A decode step; every number is NaN, and every slope, where the design cannot run.

    Attributes:
        tpot: time per output token of a sequence [s].
        tokens_per_s_per_gpu: throughput of each GPU.
        tokens_per_s_per_user: rate of each sequence.
        tokens_per_s: throughput of all GPUs.
        batch: sequences of an attention replica.
        max_batch: the largest that fits.
        gpus: GPUs of the design.
        fits: whether it runs.
        reason_bits: why not, as bits of `feasibility.REASONS` and `TRACED_REASONS`; 0 if it runs.
        terms: the parts that sum to `tpot` [s].
        cost: every term of the step, also where it cannot run.
    """

    tpot: Array
    tokens_per_s_per_gpu: Array
    tokens_per_s_per_user: Array
    tokens_per_s: Array
    batch: Array
    max_batch: Array
    gpus: Array
    fits: Array
    reason_bits: Array
    terms: dict[str, Array]
    cost: StepCost

    @property
    def reasons(self) -> Any:
        """Why it cannot run: names, or an array of tuples of names. Not under a transformation."""
        return _reasons(self.reason_bits)

    def ledger(self) -> dict[str, Array]:
        """The parts that sum to `tpot` [s], by name."""
        return dict(self.terms)

    def __repr__(self) -> str:
        if (short := _short(self, "tpot")) is not None:
            return short
        return (
            f"Decode(tpot={float(self.tpot) / MS:.4g} ms, "
            f"{float(self.tokens_per_s_per_gpu):,.1f} tokens/s/GPU, "
            f"{float(self.tokens_per_s_per_user):,.1f} tokens/s/user, "
            f"batch {float(self.batch):,.10g} of {float(self.max_batch):,.0f})"
        )


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prefill:
    """A pass over whole prompts; every number is NaN, and every slope, where it cannot run.

    Attributes:
        ttft: time of the prompts through all stages, without queueing [s].
        tokens_per_s: prompt tokens of the whole design, stages kept busy.
        tokens_per_s_per_gpu: of each GPU.
        fits: whether it runs.
        reason_bits: why not, as bits of `feasibility.REASONS` and `TRACED_REASONS`; 0 if it runs.
        cost: every term of the pass, also where it cannot run.
    """

    ttft: Array
    tokens_per_s: Array
    tokens_per_s_per_gpu: Array
    fits: Array
    reason_bits: Array
    cost: PrefillCost

    @property
    def reasons(self) -> Any:
        """Why it cannot run, as for `Decode`."""
        return _reasons(self.reason_bits)

    def __repr__(self) -> str:
        if (short := _short(self, "ttft")) is not None:
            return short
        rate = f"{float(self.tokens_per_s_per_gpu):,.1f} prompt tokens/s/GPU"
        return f"Prefill(ttft={float(self.ttft) / MS:.4g} ms, {rate})"


def _reasons(reason_bits: Any) -> Any:
    """Names of the reasons, or an array of tuples of names."""
    if is_traced(reason_bits):
        raise ValueError(
            "reasons are names, which jit, vmap and grad cannot hold; look at `fits` or "
            "`reason_bits` there, and at `reasons` of what they return"
        )
    bits = np.asarray(reason_bits)
    if bits.ndim == 0:
        return tuple(reason_names(int(bits)))
    names = np.empty(bits.shape, object)
    for at in np.ndindex(bits.shape):
        names[at] = tuple(reason_names(int(bits[at])))
    return names


def _short(step: Decode | Prefill, first: str) -> str | None:
    """A step in a line where it is traced, has many designs or cannot run; else None."""
    kind, value = type(step).__name__, getattr(step, first)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in trees.leaves(step)):
        return f"{kind}({first}={value})"
    if np.ndim(value):
        return f"{kind}(shape {np.shape(value)}, {np.mean(np.asarray(step.fits)):.0%} run)"
    if not bool(np.asarray(step.fits)):
        return f"{kind}(cannot run: {'; '.join(step.reasons)})"
    return None


def _is_wide() -> bool:
    """Whether the process computes with 64 bits."""
    return bool(xp.result_type(float) == xp.float64)


def _traced_bits(*given: Any) -> Any:
    """Bits of `TRACED_REASONS`: what is wrong with traced numbers of the records."""
    is_out = reduce(or_, map(checks.traced_out_of_range, given))
    is_odd = reduce(or_, map(checks.traced_contradictions, given))
    return xp.where(is_out, OUT_OF_RANGE_BIT, 0) | xp.where(is_odd, CONTRADICTION_BIT, 0)


def _reason_bits(step: StepCost, traced: ArrayLike) -> Array:
    """The reasons of a step, and what is wrong with traced numbers [int32]."""
    return step.reasons + xp.asarray(traced).astype(xp.int32)


def _decode(records: Records, convention: Convention, traced: ArrayLike) -> Decode:
    step = decode_step(records, convention)
    ledger = time_ledger(step, records, convention)
    bits = _reason_bits(step, traced)
    fits = bits == 0
    # A product, since a selected constant would have the slope 0 and not NaN.
    known = xp.where(fits, 1.0, xp.nan)
    rates = ("tpot", "tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s")
    return Decode(
        **{name: getattr(step, name) * known for name in rates},
        batch=step.capacity.batch * known,
        max_batch=step.capacity.max_batch,
        gpus=step.gpus,
        fits=fits,
        reason_bits=bits,
        terms={name: term * known for name, term in ledger.items()},
        cost=step,
    )


_decode_anywhere = host_unless_traced(_decode)


def _answer(result: Any, is_wide: bool) -> Any:
    """Floats as the user's process has them: 64 bits, or 32 where a transformation asks."""
    if is_wide:
        return result

    def narrow(leaf: Any) -> Any:
        return leaf.astype(xp.float32) if leaf.dtype == xp.float64 else leaf

    return trees.map(narrow, result)


def _unmet(*records: Any, **others: Any) -> list[str]:
    """That arguments of several values do not broadcast to one shape."""
    given = [*(numbers_of(record) for record in records), others]
    shapes = {n: np.shape(x) for each in given for n, x in each.items() if np.ndim(x)}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        told = joined(f"{name} {shape}" for name, shape in shapes.items())
        return [f"the shapes of {told} do not broadcast; give lists of one length, or axes of 1"]
    return []


# The field whose bounds an argument of another name has.
_AS = {"prompt": "context", "prompts": "batch"}


def _checked(records: Records, rules: Convention, **others: Any) -> tuple[Any, ...]:
    """Records, accounting and the other arguments in float64.

    Raises:
        ValueError: with every problem of what is not traced.
    """
    names = ("model", "hardware", "partition", "workload", "convention")
    problems = []
    try:
        named: dict[str, Any] = dict(zip(names, (*records[:4], rules), strict=True))
        *sound, rules = checks.check_records(**named)
        records = Records(*sound)
    except ValueError as error:
        problems.append(str(error))
    for name, value in others.items():
        others[name], problem = checks.read_field(_AS.get(name, name), value)
        problems += [] if problem is None else [f"{name}: {problem}"]
    if problems := problems or _unmet(*records[:4], **others):
        raise ValueError("\n".join(problems))
    return records, rules, *others.values()


def _records(
    model: Any, hardware: Any, partition: Any, workload: Workload | None, changes: dict[str, Any]
) -> Records:
    served, device = as_served(model, workload=workload), as_accelerator(hardware)
    if not isinstance(served.workload, Workload):
        checks.check_records(workload=served.workload)
    work = dataclasses.replace(served.workload, **changes)
    return Records(served.spec, device.spec, partition, work)


def decode(
    model: Any,
    hardware: Any,
    partition: Partition | None = None,
    *,
    context: ArrayLike | str,
    batch: ArrayLike | None = None,
    workload: Workload | None = None,
    convention: str | Convention = "physical",
) -> Decode:
    """One decode step of one design, or of as many as the arguments broadcast to.

    Pure: it may be jitted, vmapped and differentiated in every number of its records. Numbers are
    computed with 64 bits whatever the process has set; a transformation in a process of 32 bits
    gets the result rounded to them.

    Args:
        model: a name, Hugging Face id, config.json or its dict, .toml file, or `ModelSpec`, such
            as that of `dense_twin`.
        hardware: a name, .toml file, or `HardwareSpec`.
        partition: parallel degrees, and copies of them (`replicas`); one GPU unless given.
        context: tokens of each sequence.
        batch: sequences of an attention replica; the largest that fits unless given.
        workload: precisions in place of those that the model is published in.
        convention: `physical`, `paper`, or a `Convention`.

    Returns:
        The step; NaN where the design cannot run or traced numbers are out of their range or
        contradict each other, with `reasons`.

    Raises:
        ValueError: a number is out of its range; the message lists all of them.

    >>> from qsjax.records.specs import Partition
    >>> bool(decode("deepseek-v3", "h200-sxm", Partition(tp=8, ep=8), context="8k", batch=64).fits)
    True
    >>> decode("deepseek-v3", "h200-sxm", context=8192).reasons
    ('weights do not fit',)
    """
    partition = partition or Partition()
    rules = convention if isinstance(convention, Convention) else named_convention(convention)
    records = _records(model, hardware, partition, workload, {"context": context, "batch": batch})
    is_wide = _is_wide() or not is_traced((records, rules))
    with jax.enable_x64(True):
        records, rules = _checked(records, rules)
        step = _decode_anywhere(records, rules, _traced_bits(*records[:4], rules))
        answer: Decode = _answer(step, is_wide)
    return answer


def _prefill(
    records: Records,
    convention: Convention,
    count: Array,
    traced: ArrayLike,
    context_parallel: ContextParallel,
) -> Prefill:
    work = records.workload
    cost = prefill_step(records, convention, Prompts(work.context, count), context_parallel)
    held = records._replace(workload=dataclasses.replace(work, batch=count))
    bits = _reason_bits(decode_step(held, convention), traced)
    fits = bits == 0
    known = xp.where(fits, 1.0, xp.nan)
    return Prefill(
        ttft=cost.ttft * known,
        tokens_per_s=cost.tokens_per_s * known,
        tokens_per_s_per_gpu=cost.tokens_per_s_per_gpu * known,
        fits=fits,
        reason_bits=bits,
        cost=cost,
    )


_prefill_anywhere = host_unless_traced(_prefill)


def prefill(
    model: Any,
    hardware: Any,
    partition: Partition | None = None,
    *,
    prompt: ArrayLike | str,
    prompts: ArrayLike = 1.0,
    workload: Workload | None = None,
    context_parallel: ContextParallel = "pass_kv",
    convention: str | Convention = "physical",
) -> Prefill:
    """One forward pass over whole prompts: time to first token and its parts, as `decode`.

    The weights and the cache of the prompts must fit.

    Args:
        model: as for `decode`.
        hardware: likewise.
        partition: parallel degrees; one GPU unless given.
        prompt: tokens of a prompt.
        prompts: prompts of an attention replica in one pass.
        workload: precisions in place of those that the model is published in.
        context_parallel: what goes round the ring of KV ranks: keys and values, or queries.
        convention: `physical`, or a `Convention`: `qsjax.PHYSICAL.replace(ffn_sharding="tp")` where
            every KV rank has a copy of the weights and runs its own tokens.

    Returns:
        The pass; NaN where the design cannot run, with `reasons`.

    Raises:
        ValueError: a number is out of its range; the message lists all of them.

    >>> from qsjax.records.specs import Partition
    >>> float(prefill("llama-3.1-8b", "h100-sxm", Partition(), prompt="4k").ttft) < 1
    True
    >>> prefill("mixtral-8x7b", "h100-sxm", prompt="4k")
    Prefill(cannot run: weights do not fit; batch does not fit)
    """
    checks.check_choice("context_parallel", context_parallel, ContextParallel)
    partition = partition or Partition()
    records = _records(model, hardware, partition, workload, {"context": 1.0, "batch": None})
    is_wide = _is_wide() or not is_traced((records, prompt, prompts))
    rules = convention if isinstance(convention, Convention) else named_convention(convention)
    if rules.scope != "full_model":
        raise ValueError('the paper counts decoding alone; give convention="physical"')
    with jax.enable_x64(True):
        records, rules, length, count = _checked(records, rules, prompt=prompt, prompts=prompts)
        work = dataclasses.replace(records.workload, context=length)
        records = records._replace(workload=work)
        traced = _traced_bits(*records[:3], dataclasses.replace(work, batch=count))
        step = _prefill_anywhere(records, rules, count, traced, context_parallel=context_parallel)
        answer: Prefill = _answer(step, is_wide)
    return answer
