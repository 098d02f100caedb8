"""Prefill of the deployment that decodes: time to first token and prompt throughput.

The laws are those of the decode step with a whole prompt as the tokens of a sequence. What differs:
attention is causal and, for latent attention, not in its absorbed form; only the last token of a
prompt meets the output head; context parallelism divides the tokens of a prompt over the KV ranks;
messages are long, so that all-reduces fill the link. Formulas: docs/concepts/cost-model.md,
section "Prefill".
"""

import dataclasses
from typing import Literal, NamedTuple

from qsjax.cost.coefficients import Phases, Rates, rates
from qsjax.cost.decode import blends
from qsjax.cost.laws import collectives, compute, memory, overheads, params, traffic
from qsjax.cost.laws.communication import exposed_bandwidth, exposed_startup
from qsjax.cost.laws.sharding import Context, context_of, kv_head_split
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.safe import blend
from qsjax.records.specs import Convention, ModelSpec, Records, Workload

ContextParallel = Literal["pass_kv", "pass_q"]


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrefillCost:
    """Every term of one forward pass over prompts; times are per pipeline stage.

    Attributes:
        compute: arithmetic time by phase [s].
        hbm: HBM time by phase [s].
        comm: exposed communication: tensor parallelism, context parallelism, experts, layout [s].
        t_overhead: launch overhead [s].
        t_busy: mean of the times in which a GPU's arithmetic and its HBM run [s].
        busy: the same as a share of the time, stages kept busy.
        ttft: time of the prompts through all stages, without queueing [s].
        tokens_per_s: prompt tokens of the whole design, cached ones too, stages kept busy.
        tokens_per_s_per_gpu: of each GPU.
    """

    compute: Phases
    hbm: Phases
    comm: Array
    t_overhead: Array
    t_busy: Array
    busy: Array
    ttft: Array
    tokens_per_s: Array
    tokens_per_s_per_gpu: Array


class Prompts(NamedTuple):
    """Prompts of one forward pass, of an attention replica.

    Attributes:
        tokens: of a prompt.
        number: how many; a part of one is a mean chunk.
        cached: tokens of a prompt whose cache is there already; at least one is not.
        reading: share of the replicas with common experts that read prompts in this pass.
    """

    tokens: ArrayLike
    number: ArrayLike = 1.0
    cached: ArrayLike = 0.0
    reading: ArrayLike = 1.0


class Answers(NamedTuple):
    """What decodes in the same pass as the prompts, of an attention replica; times of a stage.

    Attributes:
        tokens: of the decoding sequences.
        arithmetic: of their attention [s].
        hbm: of their attention: reading the cache [s].
        fixed: what else they take: messages of their attention, host work [s].
    """

    tokens: ArrayLike = 0.0
    arithmetic: ArrayLike = 0.0
    hbm: ArrayLike = 0.0
    fixed: ArrayLike = 0.0


def mean_attended(prompt: ArrayLike, limit: ArrayLike) -> Array:
    """Tokens that a token of a prompt attends to on average, at most `limit` of them [1].

    Token i attends to min(i, limit), so the mean is limit - limit^2 / (2 prompt) once the prompt is
    the longer of the two, and half of the prompt before.
    """
    reach = xp.minimum(xp.asarray(prompt), limit)
    return reach - reach * reach / (2.0 * xp.asarray(prompt))


def attention_flops_per_token(
    model: ModelSpec, workload: Workload, prompt: ArrayLike, padding: ArrayLike = 1.0
) -> Array:
    """Causal scores and values of a token, averaged over a prompt, before any split [FLOP].

    Latent attention is counted with keys and values of every head, as prefill kernels run it. Where
    each token attends to tokens of its own choice, no two share an operand: the rows of one fill
    tiles as in a decode step, `padding` times as many, and latents stay absorbed. Source: FlashMLA
    (https://github.com/deepseek-ai/FlashMLA), sparse prefill in multi-query mode.
    """
    topk = xp.asarray(model.sparse_topk)
    per_head = xp.where(
        xp.asarray(model.kv_latent) > 0,
        2.0 * (xp.asarray(model.qk_nope_dim) + model.rope_dim + model.v_head_dim),
        4.0 * xp.asarray(model.head_dim),
    )
    full = mean_attended(prompt, xp.where(topk > 0, topk, xp.inf))
    chosen = mean_attended(params.index_keys(model, prompt), topk)
    pooled = params.pooled_entries(model, prompt) / 2.0
    window = mean_attended(prompt, xp.asarray(model.window, float))
    window = window + params.beside_window(model, chosen, pooled)
    layers = params.full_layers(model)
    indexer = compute.index_flops(model, workload) * (xp.asarray(prompt) / 2.0)
    is_chosen = (topk > 0) & (xp.asarray(prompt) > topk)
    each = xp.where(is_chosen, compute.flops_per_score(model) * padding, per_head)
    softmax = xp.asarray(model.heads) * (
        each * layers * full + per_head * model.window_layers * window
    )
    linear = 4.0 * xp.asarray(model.linear_state) * model.linear_layers
    return softmax + indexer + linear


class _Pass(NamedTuple):
    """What passes the layers of an attention replica at once.

    Attributes:
        prompts: how many, or a part of one.
        prompt: tokens of each, those in the cache too.
        cached: of these, the tokens whose cache is there.
        read: tokens that are not cached, of all prompts.
        answers: tokens that decode beside them.
        tokens: all of them.
        routed: tokens of every attention replica that meet a rank's experts, in the mean of the
            replicas that share them.
        met: tokens that meet a rank's feed-forward network: where KV ranks have copies of it, their
            own.
    """

    prompts: Array
    prompt: Array
    cached: Array
    read: Array
    answers: Array
    tokens: Array
    routed: Array
    met: Array


def _ring(ctx: Context, one: _Pass, context_parallel: ContextParallel) -> collectives.Cost:
    """Context parallelism of prompts in one stage: keys and values, or queries, go round [s]."""
    model, hardware, part, work, conv, _ = ctx
    if part.gathers_queries:  # every rank has the keys and values of its heads
        return collectives.Cost(xp.zeros(()), xp.zeros(()))
    kvp, latent = xp.asarray(part.kvp), xp.asarray(model.kv_latent)
    ranks = collectives.group(kvp, part.tp, hardware, conv)
    sent = one.prompt if context_parallel == "pass_kv" else one.prompt - one.cached
    share = sent * work.bytes_act * (kvp - 1.0) / kvp
    heads = xp.asarray(model.heads) / part.tp
    if context_parallel == "pass_kv":
        split = xp.where(latent > 0, 1.0, kv_head_split(model, part.tp))
        grouped = 2.0 * xp.asarray(model.kv_heads) * model.head_dim
        width = xp.where(latent > 0, latent + model.rope_dim, grouped) / split
    else:
        query = xp.asarray(model.qk_nope_dim) + model.rope_dim
        query = xp.where(latent > 0, query, model.head_dim)
        output = xp.where(latent > 0, model.v_head_dim, model.head_dim)
        width = heads * (query + output + 1.0) / kvp
    once = collectives.point_to_point(ranks.outer <= 1, share * width, hardware)
    layers = params.softmax_layers(model) / part.pp
    startup = layers * (kvp - 1.0) * once.startup
    return collectives.Cost(startup, one.prompts * (layers * once.bandwidth))


def _phases(ctx: Context, rate: Rates, one: _Pass, load: Array) -> tuple[Phases, Phases]:
    """Arithmetic and HBM time of each phase [s]; `load` is that of the busiest expert rank.

    Answers meet the head, all of them, and their attention is left out. The cache of a whole prompt
    passes the HBM: that of its `cached` tokens is read, the rest written.
    """
    model, hardware, part, work, conv, lay = ctx
    ranks, shards = xp.asarray(part.kvp), xp.asarray(part.tp) * part.pp * part.kvp
    # Ranks that share the weights project all tokens of a prompt, each to its own heads.
    divided = xp.ones(()) if part.gathers_queries else ranks
    peak = compute.peak_flops(hardware, work.attn_dtype, conv) * hardware.eff_attention
    prompts, prompt, cached, read, answers, tokens, routed, met = one
    heads = prompts + answers
    padding = compute.query_tiles(ctx)[1] if conv.attention_tiles else 1.0
    attended = attention_flops_per_token(model, work, prompt, padding)
    # Of all that a prompt attends to, less what its cached tokens do among themselves.
    saved = attention_flops_per_token(model, work, xp.where(cached > 0, cached, 1.0), padding)
    looks = read * attended + prompts * cached * (attended - saved)
    arithmetic = Phases(
        attention=looks / (shards * peak),
        projection=tokens * rate.compute.projection / divided,
        ffn=routed * (load * rate.compute_routed) + met * rate.compute.ffn,
        head=heads * rate.compute.head,
    )
    written = memory.kv_bytes_per_sequence(
        model, part, dataclasses.replace(work, context=prompt, kv_block=1.0), conv
    )
    coverage = traffic.expert_traffic_factor(ctx, routed * lay.pool_replicas, routed)
    act, weights = rate.activations, rate.weights
    cache = prompts * written / (xp.asarray(hardware.hbm_bw) * hardware.eff_kv_read)
    hbm = Phases(
        attention=cache + read * act.attention / ranks,
        projection=weights.projection + tokens * act.projection / divided,
        ffn=weights.ffn + coverage * rate.pool + routed * act.ffn,
        head=weights.head + heads * act.head,
    )
    return arithmetic, hbm


def _communication(
    ctx: Context, rate: Rates, ring: collectives.Cost, tokens: Array, load: Array, bound: Phases
) -> Array:
    """What overlap leaves of every family [s]."""
    hardware, family = ctx.hardware, rate.comm
    around = bound.projection + bound.ffn
    seen = (
        exposed_bandwidth(tokens * family.tp.bandwidth, around, hardware.overlap_tp)
        + exposed_bandwidth(ring.bandwidth, bound.attention, hardware.overlap_kv)
        + exposed_bandwidth(load * tokens * family.ep.bandwidth, bound.ffn, hardware.overlap_ep)
        + exposed_bandwidth(tokens * family.layout.bandwidth, bound.ffn, hardware.overlap_layout)
    )
    startups = family.tp.startup + ring.startup + family.ep.startup + family.layout.startup
    return seen + exposed_startup(startups, hardware.overlap_startup)


def _context(records: Records, convention: Convention) -> Context:
    # Where links join pairs (AMD), engines send long messages in four bits (QuickReduce), which
    # makes up for the links that few ranks leave idle.
    long = dataclasses.replace(records.hardware, eff_allreduce=1.0, mesh=0.0)
    single = dataclasses.replace(records.workload, query_tokens=1.0)
    # Exchanges of long passes are relayed; in decode steps each copy goes straight to its expert.
    if convention.expert_exchange == "off_replica":
        convention = dataclasses.replace(convention, expert_exchange="relayed")
    return context_of(records._replace(hardware=long, workload=single), convention)


def _longer(phases: Phases, seconds: ArrayLike) -> Phases:
    """Phases whose attention takes so much longer [s]."""
    return phases._replace(attention=phases.attention + seconds)


def _with_answers(
    ctx: Context, phases: tuple[Phases, Phases], answers: Answers
) -> tuple[Phases, Phases, Phases]:
    """Time of each phase, its arithmetic and its bytes; answers attend in kernels of their own."""
    arithmetic, hbm = phases
    bound = Phases(*map(blend, arithmetic, hbm, blends(ctx.model, ctx.hardware)))
    return (
        _longer(bound, xp.maximum(answers.arithmetic, answers.hbm)),
        _longer(arithmetic, answers.arithmetic),
        _longer(hbm, answers.hbm),
    )


def prefill_step(
    records: Records,
    convention: Convention,
    prompts: Prompts,
    context_parallel: ContextParallel = "pass_kv",
    answers: Answers = Answers(),  # noqa: B008  # immutable
) -> PrefillCost:
    """Cost of one forward pass over prompts, and over answers beside them [s, tokens/s].

    Pure and unchecked, and broadcasting like `decode_step`. Every attention replica runs its own
    prompts at the same time, or a share of them does, and the others wait for it. The workload
    gives dtypes; its context and batch are not looked at.

    Args:
        records: the design; with kvp > 1 the tokens of a prompt are divided over the ranks.
        convention: accounting; the prefill exists in the physical one (full model, even stage).
        prompts: what is read.
        context_parallel: what goes round the KV ranks (arXiv 2411.01783): cache or queries.
        answers: what decodes in the same pass: weights are read once for all its tokens.
    """
    model, hardware, partition, workload, _ = records
    ctx = _context(records, convention)
    # The context enters no rate that is used here.
    rate = rates(ctx._replace(workload=dataclasses.replace(ctx.workload, context=1.0)))
    pp, (prompt, count, cached, reading) = xp.asarray(partition.pp), map(xp.asarray, prompts)
    read, decoding = count * (prompt - cached), xp.asarray(answers.tokens)
    # Copies of the weights on every KV rank run its own tokens; divided ones meet all.
    is_copied = convention.ffn_sharding == "tp" and not partition.gathers_queries
    copies = xp.asarray(partition.kvp) if is_copied else xp.ones(())
    tokens, met = read + decoding, (read + decoding) / copies
    one = _Pass(
        count, prompt, cached, read, decoding, tokens, (reading * read + decoding) / copies, met
    )
    load = compute.expert_load(ctx, one.routed * ctx.lay.pool_replicas)
    bound, arithmetic, hbm = _with_answers(ctx, _phases(ctx, rate, one, load), answers)
    comm = _communication(ctx, rate, _ring(ctx, one, context_parallel), met, load, bound)
    overhead = overheads.overhead(model, hardware, partition, workload) + answers.fixed
    overhead = overhead + overheads.eager(model, hardware, tokens) / pp
    p2p = rate.p2p.startup + met * rate.p2p.bandwidth
    # A stage with its hand-over: its phases as in a decode step, and the rest.
    t_stage = sum(bound[1:], bound[0]) + comm + overhead + p2p
    t_busy = 0.5 * sum((*arithmetic[1:], *hbm), arithmetic[0])
    tokens_per_s = xp.asarray(partition.dp) * (count * prompt) / t_stage
    return PrefillCost(
        compute=arithmetic,
        hbm=hbm,
        comm=comm,
        t_overhead=overhead,
        t_busy=t_busy,
        busy=t_busy / t_stage,
        ttft=pp * t_stage + hardware.step_overhead,
        tokens_per_s=tokens_per_s,
        tokens_per_s_per_gpu=tokens_per_s / ctx.lay.gpus,
    )
