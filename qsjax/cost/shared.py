"""Prompts and answers that share steps: the steady state of an engine with a budget of tokens.

In a step every decoding sequence gets its tokens, and prompts fill what the budget leaves.
A step with prompts reads the weights once for both. So what prompts add to an output token is
bounded by the time of a full step, however many wait. Formulas: docs/concepts/cost-model.md,
section "Prompts beside answers"; one request at a time: `qsjax.questions.simulation`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.laws.sharding import layout
from qsjax.cost.prefill import Answers, ContextParallel, PrefillCost, prefill_step
from qsjax.numerics.safe import ceil, floor
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention, Partition, Workload

# Least share of steps with prompts, and of steps without, that counts.
SELDOM = 1e-9


class Filling(NamedTuple):
    """How an engine fills its steps.

    Attributes:
        budget: most tokens of a step, of each pipeline stage.
        mixed: 1 if prompts ride in decode steps, 0 if decoding waits for them.
        whole: 1 if prompts are never cut.
        lockstep: 1 if replicas that share experts wait for the prompts of each, 0 if all of them
            read in the same steps.
        stream_steps: steps until a user has a token that was made, and asks anew after the last.
        frontend: time from a request's arrival until the scheduler sees it [s].
        bunched: 1 if requests of equal lengths start and end together, so that their prompts fill
            as few steps as the budget allows, 0 if they come by chance.
    """

    budget: ArrayLike = 8192.0
    mixed: ArrayLike = 1.0
    whole: ArrayLike = 0.0
    lockstep: ArrayLike = 0.0
    stream_steps: ArrayLike = 0.0
    frontend: ArrayLike = 0.0
    bunched: ArrayLike = 0.0


class Steps(NamedTuple):
    """What fills the steps of an attention replica, on average.

    Attributes:
        decoding: sequences that decode; the others are read or wait for it.
        everyone: the same as a mean over all steps, also those in which none decodes.
        chunk: prompt tokens of a step that has any.
        share: steps with prompts for each decode step that a sequence takes part in.
        share_of_all: the same for each decode step, whoever takes part in it.
    """

    decoding: jax.Array
    everyone: jax.Array
    chunk: jax.Array
    share: jax.Array
    share_of_all: jax.Array


class Shared(NamedTuple):
    """Serving in which the same GPUs read prompts and decode.

    Attributes:
        step: the decode step of the sequences that decode at a time.
        steps: what fills the steps.
        full: a step with prompts.
        wait: what prompts of others add to each output token [s].
        tpot: time per output token [s].
        ttft: time to first token, of a request that comes when another's answer ends [s]; 0 where
            answers have no end.
        tokens_per_s: of an attention replica, first tokens counted.
        busy: mean of the shares of the time in which arithmetic and HBM run.
    """

    step: StepCost
    steps: Steps
    full: PrefillCost
    wait: jax.Array
    tpot: jax.Array
    ttft: jax.Array
    tokens_per_s: jax.Array
    busy: jax.Array


def _at_once(tokens: jax.Array, one: jax.Array) -> jax.Array:
    """Tokens of a step that has any, if units of `one` come by chance, `tokens` a step on average.

    Of Poisson arrivals of rate x a step none come with probability exp(-x).
    """
    rate = tokens / one
    is_rare = rate < 1e-6
    usual = jnp.where(is_rare, 1.0, rate)
    return one * jnp.where(is_rare, 1.0 + 0.5 * rate, usual / -jnp.expm1(-usual))


def filled_steps(
    partition: Partition,
    workload: Workload,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling,
) -> Steps:
    """What fills the steps where as many requests are in flight as the batch has sequences.

    A request decodes for S = (output - 1) / tokens a step, after ceil(prompt / budget) steps that
    read it, and before those in which its last token is on the way to a user who then asks anew,
    so that B - 1 others are S / (S + reads + streams) of the time beside a sequence that decodes.
    In each of its steps n others end n / S answers, whose successors bring n * prompt / S tokens;
    where n decoding sequences and these exceed the budget, fewer decode and the others wait.
    Requests that start together are read in steps as full as can be, and none of those that are
    read in one step waits for another's prompt. Where decoding waits, a request decodes once all
    are read, so that of the others it has half before its first token and half after it.

    Args:
        partition: pipeline stages, each with a microbatch and a budget of its own.
        workload: requests in flight of an attention replica, tokens a step.
        prompt: tokens of a prompt.
        output: tokens of an answer.
        rules: of the engine.
    """
    query, pp = jnp.asarray(workload.query_tokens), jnp.asarray(partition.pp)
    prompt, is_mixed = jnp.asarray(prompt), jnp.asarray(rules.mixed) > 0
    steps = jnp.maximum(jnp.asarray(output) - 1.0, 1.0) / workload.tokens_per_step
    batch, budget = jnp.asarray(workload.batch), jnp.asarray(rules.budget) * pp
    reads = jnp.where(is_mixed, jnp.maximum(prompt / budget, 1.0), 0.0)
    here = 1.0 / (1.0 + (reads + rules.stream_steps) / steps)
    others = jnp.maximum(batch - 1.0, 0.0) * here
    answers = jnp.where(is_mixed, query, 0.0)
    room = jnp.maximum(budget - answers * (1.0 + others), 1.0)
    uncut = prompt * jnp.maximum(floor(room / prompt, "floor"), 1.0)
    is_whole = jnp.asarray(rules.whole) > 0
    most = jnp.where(
        is_whole, uncut * steps / prompt, (budget - answers) / (answers + prompt / steps)
    )
    decoding = jnp.where(is_mixed, jnp.minimum(others, most), others)
    left = jnp.maximum(budget - answers * (1.0 + decoding), 1.0)
    largest = jnp.where(is_whole, uncut, left)
    one = jnp.where(is_whole, prompt, prompt / ceil(prompt / left, "floor"))
    tokens = decoding * prompt / steps
    is_bunched = jnp.asarray(rules.bunched) > 0
    together = jnp.maximum(batch, 1.0) * prompt
    chunk = jnp.minimum(jnp.where(is_bunched, together, _at_once(tokens, one)), largest)
    beside = jnp.where(is_bunched, jnp.maximum(chunk / prompt, 1.0), 1.0)
    delaying = jnp.maximum(1.0 + decoding - beside, 0.0)
    delaying = jnp.where(is_bunched & ~is_mixed, 0.5 * delaying, delaying)
    everyone = jnp.minimum(batch * here, jnp.where(is_mixed, 1.0 + most, jnp.inf))
    share = prompt / steps / chunk
    return Steps(1.0 + decoding, everyone, chunk, delaying * share, everyone * share)


def with_any(share: ArrayLike, replicas: ArrayLike) -> jax.Array:
    """Steps in which any of several replicas reads prompts, over those in which one does [1].

    Prompts come to each by chance in a `share` of its steps, so that one of n has some in
    1 - (1 - share)^n of them.
    """
    one = jnp.clip(jnp.asarray(share), SELDOM, 1.0 - SELDOM)
    return -jnp.expm1(jnp.asarray(replicas) * jnp.log1p(-one)) / one


def shared_steps(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling = Filling(),  # noqa: B008  # immutable
    context_parallel: ContextParallel = "pass_kv",
    cached: ArrayLike = 0.0,
) -> Shared:
    """Steady state of a closed loop in which the same GPUs read prompts and decode.

    Pure and unchecked, and broadcasting like `decode_step`. Of a prompt, `cached` tokens are there
    already: they fill no step. Replicas in `lockstep` have as many more steps with prompts as
    `with_any` says, in which fewer of them bring tokens to the experts.
    """
    partition, workload = records.partition, records.workload
    missing = jnp.asarray(prompt) - cached
    steps = filled_steps(partition, workload, missing, output, rules)
    work = dataclasses.replace(workload, batch=steps.decoding)
    step = decode_step(records._replace(workload=work, gpus=None), convention)
    pp, accepted = jnp.asarray(partition.pp), jnp.asarray(workload.tokens_per_step)
    mixed = jnp.where(jnp.asarray(rules.mixed) > 0, 1.0, 0.0)
    # Of the microbatches of all stages, those that the prompts fill.
    filled = jnp.clip(steps.chunk / rules.budget, 1.0, pp)
    beside = mixed * step.microbatch
    answers = Answers(
        tokens=beside * workload.query_tokens,
        arithmetic=mixed * step.compute.attention,
        hbm=mixed * (step.hbm.kv + step.hbm.activations.attention),
        fixed=mixed * step.exposed.kv + beside * records.hardware.sequence_overhead,
    )
    prompts = steps.chunk / (filled * missing)
    sharing = layout(records.model, partition, convention).pool_replicas
    more = with_any(steps.share, jnp.where(jnp.asarray(rules.lockstep) > 0, sharing, 1.0))
    full = prefill_step(
        *(records, convention, prompt, prompts, context_parallel, answers, cached), 1.0 / more
    )
    # The laws of a prefill have long messages: no step is shorter for the prompts that ride in it.
    longer = jnp.maximum(full.ttft / accepted - mixed * step.tpot, 0.0)
    wait, of_all = more * steps.share * longer, more * steps.share_of_all
    mean = step.tpot + of_all * longer
    works = step.busy * step.tpot * (1.0 - mixed * of_all) + of_all * pp * full.t_busy / accepted
    made = jnp.maximum(jnp.asarray(output), 2.0) - 1.0
    rate = steps.everyone / mean
    return Shared(
        step=step,
        steps=steps,
        full=full,
        wait=wait,
        tpot=step.tpot + wait,
        # Little's law: requests in flight are their rate times how long one takes.
        ttft=jnp.asarray(rules.frontend)
        + jnp.where(jnp.isfinite(made), made, 0.0)
        * (jnp.asarray(workload.batch) / rate - (step.tpot + wait)),
        tokens_per_s=rate * (1.0 + 1.0 / made),
        busy=works / mean,
    )


def rush(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    rules: Filling = Filling(),  # noqa: B008  # immutable
) -> jax.Array:
    """Mean time to first token if all requests in flight come at once, and none decodes yet [s].

    Passes over as many prompts as the budget holds; a request waits for half of the others.
    """
    prompt, budget = jnp.asarray(prompt), jnp.asarray(rules.budget) * records.partition.pp
    tokens = jnp.asarray(records.workload.batch) * prompt
    passes = jnp.maximum(tokens / budget, 1.0)
    filled = jnp.minimum(tokens, rules.budget) / prompt
    one = prefill_step(records, convention, prompt, filled)
    return 0.5 * (passes + 1.0) * one.ttft
