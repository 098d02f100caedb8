"""One decode step or prefill of one design: pure, for jit, vmap and grad."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.feasibility import reason_names
from qsjax.cost.ledger import time_ledger
from qsjax.cost.prefill import PrefillCost, prefill_step
from qsjax.grid.problem import as_accelerator, as_served
from qsjax.numerics.numpy_backend import host_unless_traced, is_traced
from qsjax.records import checks
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention, Partition, Workload, named_convention

ContextParallel = Literal["pass_kv", "pass_q"]


@jax.tree_util.register_dataclass
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
        reason_bits: why not, as bits of `feasibility.REASONS`; 0 where it runs.
        terms: the parts that sum to `tpot` [s].
        cost: every term of the step, also where it cannot run.
    """

    tpot: jax.Array
    tokens_per_s_per_gpu: jax.Array
    tokens_per_s_per_user: jax.Array
    tokens_per_s: jax.Array
    batch: jax.Array
    max_batch: jax.Array
    gpus: jax.Array
    fits: jax.Array
    reason_bits: jax.Array
    terms: dict[str, jax.Array]
    cost: StepCost

    @property
    def reasons(self) -> Any:
        """Why it cannot run: names, or an array of tuples of names. Not under a transformation."""
        bits = np.asarray(self.reason_bits)
        if bits.ndim == 0:
            return tuple(reason_names(int(bits)))
        found = np.empty(bits.shape, object)
        for at in np.ndindex(bits.shape):
            found[at] = tuple(reason_names(int(bits[at])))
        return found

    def ledger(self) -> dict[str, jax.Array]:
        """The parts that sum to `tpot` [s], by name."""
        return dict(self.terms)

    def __repr__(self) -> str:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self)):
            return f"Decode(tpot={self.tpot})"
        if np.ndim(self.tpot):
            shown = f"shape {np.shape(self.tpot)}, {np.mean(np.asarray(self.fits)):.0%} run"
            return f"Decode({shown})"
        if not bool(np.asarray(self.fits)):
            return f"Decode(cannot run: {'; '.join(self.reasons)})"
        return (
            f"Decode(tpot={float(self.tpot) * 1e3:.4g} ms, "
            f"{float(self.tokens_per_s_per_gpu):,.1f} tokens/s/GPU, "
            f"{float(self.tokens_per_s_per_user):,.1f} tokens/s/user, "
            f"batch {float(self.batch):,.0f} of {float(self.max_batch):,.0f})"
        )


def _is_wide() -> bool:
    """Whether the process computes with 64 bits."""
    return bool(jnp.result_type(float) == jnp.float64)


def _decode(records: Records, convention: Convention) -> Decode:
    step = decode_step(records, convention)
    ledger = time_ledger(step, records, convention)
    fits = step.reasons == 0
    # A product, since a selected constant would have the slope 0 and not NaN.
    known = jnp.where(fits, 1.0, jnp.nan)
    return Decode(
        tpot=step.tpot * known,
        tokens_per_s_per_gpu=step.tokens_per_s_per_gpu * known,
        tokens_per_s_per_user=step.tokens_per_s_per_user * known,
        tokens_per_s=step.tokens_per_s * known,
        batch=step.capacity.batch * known,
        max_batch=step.capacity.max_batch,
        gpus=step.gpus,
        fits=fits,
        reason_bits=step.reasons,
        terms={name: term * known for name, term in ledger.items()},
        cost=step,
    )


_decode_anywhere = host_unless_traced(_decode)


def _answer(found: Any, is_wide: bool) -> Any:
    """Floats as the user's process has them: 64 bits, or 32 where a transformation asks."""
    if is_wide:
        return found

    def narrow(leaf: Any) -> Any:
        return leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf

    return jax.tree.map(narrow, found)


def _rules(convention: str | Convention) -> Convention:
    return convention if isinstance(convention, Convention) else named_convention(convention)


def _checked(
    records: Records, rules: Convention, prompts: ArrayLike = 1.0
) -> tuple[Records, Convention, Any]:
    """Records, accounting and prompts of a pass in float64.

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
    count, problem = checks.read_field("batch", prompts)
    problems += [] if problem is None else [f"prompts: {problem}"]
    if problems:
        raise ValueError("\n".join(problems))
    return records, rules, count


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
        The step; NaN where the design cannot run, with `reasons`.

    Raises:
        ValueError: a number is out of its range; the message lists all of them.

    >>> from qsjax.records.specs import Partition
    >>> bool(decode("deepseek-v3", "h200-sxm", Partition(tp=8, ep=8), context="8k", batch=64).fits)
    True
    >>> decode("deepseek-v3", "h200-sxm", context=8192).reasons
    ('weights do not fit',)
    """
    partition, rules = partition or Partition(), _rules(convention)
    changes = {"context": context, "batch": batch}
    records = _records(model, hardware, partition, workload, changes)
    is_wide = _is_wide() or not is_traced((records, rules))
    with jax.enable_x64(True):
        records, rules, _ = _checked(records, rules)
        answer: Decode = _answer(_decode_anywhere(records, rules), is_wide)
    return answer


_prefill = host_unless_traced(prefill_step)


def prefill(
    model: Any,
    hardware: Any,
    partition: Partition | None = None,
    *,
    prompt: ArrayLike | str,
    prompts: ArrayLike = 1.0,
    workload: Workload | None = None,
    context_parallel: ContextParallel = "pass_kv",
) -> PrefillCost:
    """One forward pass over whole prompts: time to first token and its parts, as `decode`.

    Args:
        model: as for `decode`.
        hardware: likewise.
        partition: parallel degrees; one GPU unless given.
        prompt: tokens of a prompt.
        prompts: prompts of an attention replica in one pass.
        workload: precisions in place of those that the model is published in.
        context_parallel: what goes round the ring of KV ranks: keys and values, or queries.

    Raises:
        ValueError: a number is out of its range; the message lists all of them.

    >>> from qsjax.records.specs import Partition
    >>> float(prefill("llama-3.1-8b", "h100-sxm", Partition(), prompt="4k").ttft) < 1
    True
    """
    partition = partition or Partition()
    changes = {"context": prompt, "batch": None}
    records = _records(model, hardware, partition, workload, changes)
    is_wide = _is_wide() or not is_traced((records, prompts))
    rules = named_convention("physical")
    with jax.enable_x64(True):
        own, rules, count = _checked(records, rules, prompts)
        length = own.workload.context
        found = _prefill(own, rules, length, count, context_parallel=context_parallel)
        answer: PrefillCost = _answer(found, is_wide)
    return answer
