"""Prompts and answers that share steps: the steady state of an engine with a budget of tokens.

In a step every decoding sequence gets its tokens, and prompts fill what the budget leaves.
A step with prompts reads the weights once for both. So what prompts add to an output token is
bounded by the time of a full step, however many wait. Formulas: docs/concepts/cost-model.md,
section "Prompts beside answers"; one request at a time: `qsjax.questions.simulation`.
"""

import dataclasses
from typing import NamedTuple

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.laws.sharding import layout
from qsjax.cost.prefill import Answers, PrefillCost, Prompts, prefill_step
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.safe import ceil, floor
from qsjax.records.specs import Convention, Partition, Records, Workload

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

    decoding: Array
    everyone: Array
    chunk: Array
    share: Array
    share_of_all: Array


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
    wait: Array
    tpot: Array
    ttft: Array
    tokens_per_s: Array
    busy: Array


def _at_once(tokens: Array, one: Array) -> Array:
    """Tokens of a step that has any, if units of `one` come by chance, `tokens` a step on average.

    Of Poisson arrivals of rate x a step none come with probability exp(-x).
    """
    rate = tokens / one
    is_rare = rate < 1e-6
    usual = xp.where(is_rare, 1.0, rate)
    return one * xp.where(is_rare, 1.0 + 0.5 * rate, usual / -xp.expm1(-usual))


def filled_steps(
    partition: Partition, workload: Workload, prompt: ArrayLike, output: ArrayLike, rules: Filling
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
    query, pp = xp.asarray(workload.query_tokens), xp.asarray(partition.pp)
    prompt, is_mixed = xp.asarray(prompt), xp.asarray(rules.mixed) > 0
    steps = xp.maximum(xp.asarray(output) - 1.0, 1.0) / workload.tokens_per_step
    batch, budget = xp.asarray(workload.batch), xp.asarray(rules.budget) * pp
    reads = xp.where(is_mixed, xp.maximum(prompt / budget, 1.0), 0.0)
    here = 1.0 / (1.0 + (reads + rules.stream_steps) / steps)
    others = xp.maximum(batch - 1.0, 0.0) * here
    answers = xp.where(is_mixed, query, 0.0)
    room = xp.maximum(budget - answers * (1.0 + others), 1.0)
    uncut = prompt * xp.maximum(floor(room / prompt, "floor"), 1.0)
    is_whole = xp.asarray(rules.whole) > 0
    most = xp.where(
        is_whole, uncut * steps / prompt, (budget - answers) / (answers + prompt / steps)
    )
    decoding = xp.where(is_mixed, xp.minimum(others, most), others)
    left = xp.maximum(budget - answers * (1.0 + decoding), 1.0)
    largest = xp.where(is_whole, uncut, left)
    one = xp.where(is_whole, prompt, prompt / ceil(prompt / left, "floor"))
    tokens = decoding * prompt / steps
    is_bunched = xp.asarray(rules.bunched) > 0
    together = xp.maximum(batch, 1.0) * prompt
    chunk = xp.minimum(xp.where(is_bunched, together, _at_once(tokens, one)), largest)
    beside = xp.where(is_bunched, xp.maximum(chunk / prompt, 1.0), 1.0)
    delaying = xp.maximum(1.0 + decoding - beside, 0.0)
    delaying = xp.where(is_bunched & ~is_mixed, 0.5 * delaying, delaying)
    everyone = xp.minimum(batch * here, xp.where(is_mixed, 1.0 + most, xp.inf))
    share = prompt / steps / chunk
    return Steps(1.0 + decoding, everyone, chunk, delaying * share, everyone * share)


def with_any(share: ArrayLike, replicas: ArrayLike) -> Array:
    """Steps in which any of several replicas reads prompts, over those in which one does [1].

    Prompts come to each by chance in a `share` of its steps, so that one of n has some in
    1 - (1 - share)^n of them.
    """
    one = xp.clip(xp.asarray(share), SELDOM, 1.0 - SELDOM)
    return -xp.expm1(xp.asarray(replicas) * xp.log1p(-one)) / one


def shared_steps(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    output: ArrayLike,
    rules: Filling = Filling(),  # noqa: B008  # immutable
    cached: ArrayLike = 0.0,
) -> Shared:
    """Steady state of a closed loop in which the same GPUs read prompts and decode.

    Pure and unchecked, and broadcasting like `decode_step`. Of a prompt, `cached` tokens are there
    already: they fill no step. Replicas in `lockstep` have as many more steps with prompts as
    `with_any` says, in which fewer of them bring tokens to the experts.
    """
    partition, workload = records.partition, records.workload
    missing = xp.asarray(prompt) - cached
    steps = filled_steps(partition, workload, missing, output, rules)
    work = dataclasses.replace(workload, batch=steps.decoding)
    step = decode_step(records._replace(workload=work, gpus=None), convention)
    pp, accepted = xp.asarray(partition.pp), xp.asarray(workload.tokens_per_step)
    mixed = xp.where(xp.asarray(rules.mixed) > 0, 1.0, 0.0)
    # Of the microbatches of all stages, those that the prompts fill.
    filled = xp.clip(steps.chunk / rules.budget, 1.0, pp)
    beside = mixed * step.microbatch
    answers = Answers(
        tokens=beside * workload.query_tokens,
        arithmetic=mixed * step.compute.attention,
        hbm=mixed * (step.hbm.kv + step.hbm.activations.attention),
        fixed=mixed * step.exposed.kv + beside * records.hardware.sequence_overhead,
    )
    prompts = steps.chunk / (filled * missing)
    sharing = layout(records.model, partition, convention).pool_replicas
    more = with_any(steps.share, xp.where(xp.asarray(rules.lockstep) > 0, sharing, 1.0))
    read = Prompts(prompt, prompts, cached, reading=1.0 / more)
    full = prefill_step(records, convention, read, answers=answers)
    # The laws of a prefill have long messages: no step is shorter for the prompts that ride in it.
    longer = xp.maximum(full.ttft / accepted - mixed * step.tpot, 0.0)
    wait, of_all = more * steps.share * longer, more * steps.share_of_all
    mean = step.tpot + of_all * longer
    works = step.busy * step.tpot * (1.0 - mixed * of_all) + of_all * pp * full.t_busy / accepted
    made = xp.maximum(xp.asarray(output), 2.0) - 1.0
    rate = steps.everyone / mean
    return Shared(
        step=step,
        steps=steps,
        full=full,
        wait=wait,
        tpot=step.tpot + wait,
        # Little's law: requests in flight are their rate times how long one takes.
        ttft=xp.asarray(rules.frontend)
        + xp.where(xp.isfinite(made), made, 0.0)
        * (xp.asarray(workload.batch) / rate - (step.tpot + wait)),
        # The step that reads a prompt makes the first token of its answer, the only one of some.
        tokens_per_s=rate * (1.0 + 1.0 / made) * (xp.minimum(xp.asarray(output), 2.0) / 2.0),
        busy=works / mean,
    )


def rush(
    records: Records,
    convention: Convention,
    prompt: ArrayLike,
    rules: Filling = Filling(),  # noqa: B008  # immutable
    cached: ArrayLike = 0.0,
) -> Array:
    """Mean time to first token if all requests in flight come at once, and none decodes yet [s].

    Passes over as many prompts as the budget holds, without the `cached` tokens of each; a request
    waits for half of the others.
    """
    missing, budget = xp.asarray(prompt) - cached, xp.asarray(rules.budget) * records.partition.pp
    tokens = xp.asarray(records.workload.batch) * missing
    passes = xp.maximum(tokens / budget, 1.0)
    filled = xp.minimum(tokens, rules.budget) / missing
    one = prefill_step(records, convention, Prompts(prompt, filled, cached))
    return 0.5 * (passes + 1.0) * one.ttft
