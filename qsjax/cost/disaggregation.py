"""Prefill beside decode: first token, the split of GPUs between the two, or both on the same."""

import dataclasses

import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.prefill import PrefillCost, Prompts, prefill_step
from qsjax.cost.shared import Filling, shared_steps
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.specs import PHYSICAL, Convention, Records, is_papers


@dataclasses.dataclass(frozen=True, slots=True)
class Companion:
    """What prompts cost a deployment that decodes; rates are per GPU.

    Attributes:
        ttft: time to first token of one prompt, without queueing [s].
        prompt_tokens_per_s_per_gpu: prefill throughput of each GPU, in full steps.
        prefill_gpus_per_decode_gpu: GPUs of prefill, split as the decode design, that keep one GPU
            of decode supplied (disaggregated serving).
        tokens_per_s_per_gpu_disaggregated: output tokens of each GPU, those of prefill counted.
        tpot_aggregated: time per output token if the same GPUs do both [s].
        wait: what that is longer than without prompts [s]; less than 0 where so many wait for their
            prompt to be read that those which decode are faster.
        ttft_aggregated: time to first token then, of a request that comes when an answer ends [s].
        decoding_aggregated: sequences of the batch that decode then; the others are read or wait.
        tokens_per_s_per_gpu_aggregated: output tokens of each GPU then.
        busy_aggregated: mean of the shares of the time in which arithmetic and HBM run then.
        busy_disaggregated: the same over the GPUs of decode and of prefill.
    """

    ttft: float
    prompt_tokens_per_s_per_gpu: float
    prefill_gpus_per_decode_gpu: float
    tokens_per_s_per_gpu_disaggregated: float
    tpot_aggregated: float
    wait: float
    ttft_aggregated: float
    decoding_aggregated: float
    tokens_per_s_per_gpu_aggregated: float
    busy_aggregated: float
    busy_disaggregated: float

    @property
    def best_rate(self) -> float:
        """Output tokens of each GPU in the better of both ways, prompts served too."""
        return max(self.tokens_per_s_per_gpu_disaggregated, self.tokens_per_s_per_gpu_aggregated)

    @property
    def is_apart(self) -> bool:
        """Whether GPUs of their own for prefill make more of all GPUs."""
        return self.best_rate > self.tokens_per_s_per_gpu_aggregated

    @property
    def best_busy(self) -> float:
        """Mean load of the GPUs in the better of both ways."""
        return self.busy_disaggregated if self.is_apart else self.busy_aggregated


@on_host
def _busy(
    records: Records, prompt: ArrayLike, output: ArrayLike, *, convention: Convention
) -> Array:
    read = prefill_step(records, convention, Prompts(prompt))
    step = decode_step(records, convention)
    each = step.busy * step.tpot / step.capacity.batch
    return read.t_busy + xp.asarray(output) * each


def busy_seconds(
    records: Records, prompt: ArrayLike, output: ArrayLike, convention: Convention
) -> float:
    """What a request adds to the load of the GPUs of an attention replica, times its rate [s].

    Args:
        records: the design, all scalars, with the batch and context at which it decodes.
        prompt: tokens that are read.
        output: tokens that are made.
        convention: accounting.
    """
    return float(_busy(records._replace(gpus=None), prompt, output, convention=convention))


def _replicas(step: StepCost) -> Array:
    """Attention replicas on each GPU."""
    return step.tokens_per_s_per_gpu * step.tpot / step.capacity.batch


def readers_for(decoded: float, prompt: float, output: float, read: float) -> float:
    """GPUs that read prompts for each that decodes.

    A request brings `prompt` tokens and takes `output` tokens, so r output tokens/s need
    r * prompt / output prompt tokens/s.

    Args:
        decoded: output tokens of a GPU that decodes [1/s].
        prompt: tokens of a request's prompt.
        output: tokens that a request is given.
        read: prompt tokens of a GPU that reads [1/s].
    """
    return decoded * prompt / output / read


def _real(convention: Convention) -> Convention:
    """The accounting of prompts: that of decoding, physical beside the paper's, which has none."""
    return PHYSICAL if is_papers(convention) else convention


def _filled(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    rules: Filling,
    cached: ArrayLike,
    most: ArrayLike,
) -> PrefillCost:
    """Prefill by itself, of as many prompts as fill a step, and no more than their caches fit."""
    several = xp.asarray(rules.budget) / (xp.asarray(prompt) - cached)
    several = xp.maximum(xp.minimum(several, most), 1.0)
    return prefill_step(records, convention, Prompts(prompt, several, cached))


@on_host
def _served(
    records: Records,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling,
    cached: ArrayLike,
    *,
    convention: Convention,
) -> tuple[Array, ...]:
    step = decode_step(records, convention)
    read = _filled(records, convention, prompt, rules, cached, step.capacity.max_batch)
    shared = shared_steps(records, convention, prompt, output, rules, cached)
    both = _replicas(step) * shared.tokens_per_s
    return step.tokens_per_s_per_gpu, step.tpot, read.tokens_per_s_per_gpu, both, shared.tpot


def served_rates(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling,
    *,
    cached: ArrayLike = 0.0,
) -> tuple[np.ndarray, ...]:
    """What designs make with prefill on GPUs of its own, and with both on the same.

    Args:
        records: the designs with their batches, which all must run; arrays broadcast.
        convention: accounting; physical in place of the paper's.
        prompt: tokens of a request's prompt.
        output: tokens that a request is given.
        rules: how the engine fills the steps that prompts and answers share.
        cached: tokens of a prompt whose cache is there already.

    Returns:
        Of decode alone output tokens of each GPU [1/s] and time per output token [s]; prompt
        tokens of each GPU of prefill alone [1/s]; and of both on the same GPUs output tokens of
        each [1/s] and time per output token [s].
    """
    own = _real(convention)
    rates = _served(records._replace(gpus=None), prompt, output, rules, cached, convention=own)
    return tuple(np.asarray(x) for x in rates)


@on_host
def _both(
    records: Records,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling,
    cached: ArrayLike,
    most: ArrayLike,
    *,
    convention: Convention,
) -> tuple[Array, ...]:
    """Prefill by itself, of one prompt and of as many as fill a step, and shared with decoding."""
    alone = prefill_step(records, convention, Prompts(prompt, cached=cached))
    filled = _filled(records, convention, prompt, rules, cached, most)
    shared = shared_steps(records, convention, prompt, output, rules, cached)
    return (
        *(alone.ttft, filled.tokens_per_s_per_gpu, filled.busy),
        *(shared.tpot, shared.ttft, shared.steps.decoding, shared.tokens_per_s, shared.busy),
    )


def companion(
    records: Records,
    step: StepCost,
    convention: Convention,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling = Filling(),  # noqa: B008  # immutable
    *,
    cached: ArrayLike = 0.0,
) -> Companion:
    """Prefill of the deployment that decodes.

    Args:
        records: the design, all scalars, with its batch.
        step: its decode step.
        convention: accounting of that step; prompts have the physical one beside the paper's.
        prompt: tokens of a request's prompt.
        output: tokens that a request is given.
        rules: how the engine fills the steps that prompts and answers share.
        cached: tokens of a prompt whose cache is there already.
    """
    tpot, busy = scalar(step.tpot), scalar(step.busy)
    tokens_per_s_per_gpu = scalar(step.tokens_per_s_per_gpu)
    most = step.capacity.max_batch
    asked = (records._replace(gpus=None), prompt, output, rules, cached, most)
    costs = _both(*asked, convention=_real(convention))
    ttft, rate, alone, shared, first, decoding, served, load = (float(x) for x in costs)
    ratio = readers_for(tokens_per_s_per_gpu, scalar(prompt), scalar(output), rate)
    return Companion(
        ttft=ttft,
        prompt_tokens_per_s_per_gpu=rate,
        prefill_gpus_per_decode_gpu=ratio,
        tokens_per_s_per_gpu_disaggregated=tokens_per_s_per_gpu / (1.0 + ratio),
        tpot_aggregated=shared,
        wait=shared - tpot,
        ttft_aggregated=first,
        decoding_aggregated=decoding,
        tokens_per_s_per_gpu_aggregated=scalar(_replicas(step)) * served,
        busy_aggregated=load,
        busy_disaggregated=(busy + ratio * alone) / (1.0 + ratio),
    )
