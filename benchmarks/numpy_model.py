"""The physical cost model vectorised in plain NumPy: the yardstick.

What somebody writes who knows NumPy well and stops there: one function, every term, broadcasting
over whole arrays. It shares no code with the package; tests/test_bench_numpy.py holds the two
together. Records are any objects with the attribute names of the specs, numbers or arrays that
broadcast. Symbols and formulas are those of docs/concepts/cost-model.md. The conventions are those
of `PHYSICAL`, the batch is the largest that fits, and phases run in the default dtypes.

Not modelled, so that their fields must be neutral: windows with parameters or a cache of their own,
layers that share a cache, embeddings that are looked up, ranks that gather queries, and prescribed
copies of a deployment.
"""

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Rules = dict[str, np.ndarray]
# In the order in which the package counts them.
REASONS = tuple("weights,no sequence,heads,experts,stage,layers,gpus,kv mode,batch".split(","))
TIE = 1e-9
KV_NONE, KV_CP = 0.0, 2.0


class Step(NamedTuple):
    """What is kept of a decode step; each reason has the axes that it depends on."""

    max_batch: Array
    tpot: Array
    tokens_per_s_per_gpu: Array
    reasons: Rules


class Best(NamedTuple):
    """The winner of every kept cell, and counts."""

    position: Array
    score: Array
    feasible: Array
    reasons: Array


def _params(m: Any) -> dict[str, Array]:
    l_m, l_a = m.layers - m.dense_layers - m.bare_layers, m.layers - m.linear_layers
    d, g = m.hidden, m.ffn_matrices
    is_mla = m.kv_latent > 0
    copied = np.where(
        is_mla, d * (m.kv_latent + m.rope_dim + m.q_lora_rank), 2 * d * m.kv_heads * m.head_dim
    )
    query = np.where(m.q_lora_rank > 0, m.q_lora_rank, d) * m.heads * (m.qk_nope_dim + m.rope_dim)
    latent = m.kv_latent * m.heads * (m.qk_nope_dim + m.v_head_dim) + m.heads * m.v_head_dim * d
    own = np.where(is_mla, query + latent, 2 * d * m.heads * m.head_dim) + m.attn_extra_params
    return {
        "l_m": l_m,
        "l_a": l_a,
        "l_f": l_a - m.window_layers,
        "is_mla": is_mla,
        "is_moe": m.experts > 1,
        "copied": copied,
        "own": own,
        "other": m.linear_layers * m.linear_params + m.extra_params,
        "pool": l_m * m.experts * g * d * m.expert_ff,
        "always": g * d * (l_m * m.shared_experts * m.shared_ff + m.dense_layers * m.dense_ff),
        "router": np.where(m.experts > 1, l_m * d * m.experts, 0.0),
        "head": m.vocab * d,
        "norm": d * (2 * m.layers + 1),
    }


def _state(m: Any, w: Any) -> Array:
    return m.linear_layers * (w.bytes_state * m.linear_state + w.bytes_act * m.linear_tail)


def _group(n: Array, stride: Array, hw: Any) -> tuple[Array, Array]:
    # Ranks of a group inside an island, and islands.
    inner = np.minimum(n, np.maximum(1.0, np.floor(hw.island_size / stride)))
    return inner, np.ceil(n / inner)


def _inside(n: Array, hw: Any) -> Array:
    # Bandwidth of a rank to the others of n in its island: in a mesh that of their links alone.
    links = np.maximum(n - 1.0, 1.0)
    idle = 1.0 - links / np.maximum(hw.island_size - 1.0, links)
    return np.asarray(hw.intra_bw * (1.0 - hw.mesh * idle))


def _half(n: Array, stride: Array, hw: Any) -> tuple[Array, Array, Array, Array]:
    # Seconds per byte of a half and of an all-to-all, start-ups, islands of a group.
    inner, outer = _group(n, stride, hw)
    inside, outside = _inside(inner, hw) * hw.eff_link, hw.inter_bw * hw.eff_link
    half = (inner - 1) / (inner * inside) + (outer - 1) / (outer * inner * outside)
    exchange = (inner - 1) / (inner * outer * inside) + (outer - 1) / (outer * outside)
    start = (inner > 1) * hw.intra_latency + (outer > 1) * hw.inter_latency
    return half, exchange, start, outer


def _exchange(m: Any, hw: Any, p: Any, w: Any, lay: dict[str, Array]) -> tuple[Array, Array]:
    # Dispatch and combine of one sequence's token in one layer: start-up and bandwidth part.
    own = np.maximum(1.0, p.ep / lay["sharing"])
    island = np.maximum(1.0, np.floor(hw.island_size / lay["tau"]))
    near = np.maximum(np.minimum(p.ep, island), own)
    takers = np.minimum(lay["tau"], lay["phi"])
    reached = np.minimum(p.ep, island) * takers / np.maximum(1.0, takers / hw.island_size)
    sent = np.minimum(m.top_k, p.ep) * takers * m.hidden
    sent = sent / lay["phi"] * (w.bytes_dispatch + w.bytes_act) / p.ep * w.query_tokens
    inside = sent * (near - own) / _inside(reached, hw)
    outside = sent * (p.ep - near) / hw.inter_bw
    nearby = np.where(near > own, hw.intra_latency + hw.exchange_overhead, 0.0)
    start = np.where(p.ep > near, hw.inter_latency, nearby)
    return start, np.maximum(inside, outside) / hw.eff_link


def _shots(p: Any, hw: Any, halves: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    # Seconds per byte of one-shot all-reduces, what two shots take longer, growth with the ranks.
    one, growth, real = np.zeros(()), np.zeros(()), np.zeros(())
    share = np.asarray(hw.one_shot_share)
    for n, parts, half in zip((p.tp, p.kvp * p.tp), (p.kvp, 1.0), halves, strict=True):
        inner, outer = _group(n, 1.0, hw)
        direct = (inner - 1) / (_inside(inner, hw) * np.where(share > 0, share, 1.0))
        ring = 2 / hw.eff_allreduce * half
        one = one + np.where((share > 0) & (outer <= 1), direct, ring) / parts
        growth, real = growth + np.log2(inner), real + (inner > 1)
    return one, real * hw.two_shot_latency, growth * hw.rank_latency


def _families(
    m: Any, hw: Any, p: Any, w: Any, n: dict[str, Array], lay: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array], Array, Array]:
    # Start-ups per microbatch and bandwidth parts per sequence, of a stage; of all-reduces in two
    # shots the further start-up, and the bandwidth part in one shot.
    phi, tau = lay["phi"], lay["tau"]
    layers, moe, softmax = m.layers / p.pp, n["l_m"] / p.pp, n["l_a"] / p.pp
    message = m.hidden * w.bytes_act * w.query_tokens
    half_1, _, start_1, _ = _half(p.tp, 1.0, hw)
    half_2, _, start_2, _ = _half(phi, 1.0, hw)
    tp = layers * 2 / hw.eff_allreduce * message * (half_1 / p.kvp + half_2)
    one, late, growth = _shots(p, hw, (half_1, half_2))
    half_v, all_v, start_v, islands = _half(p.kvp, p.tp, hw)
    out = np.where(n["is_mla"], m.kv_latent, m.head_dim) + 1
    query = np.where(n["is_mla"], m.kv_latent + m.rope_dim, m.head_dim)
    per_dim = m.heads / p.tp * w.bytes_act * w.query_tokens
    near = islands <= 1
    is_ring = p.kv_mode == KV_CP
    link = np.where(near, _inside(np.asarray(2.0), hw), hw.inter_bw) * hw.eff_link
    ring = is_ring * (p.kvp - 1) / p.kvp * per_dim * query / link
    hop = is_ring * (p.kvp - 1) * np.where(near, hw.intra_latency, hw.inter_latency)
    wide = np.maximum(1.0, tau / phi)
    half_y, _, start_y, _ = _half(wide, phi, hw)
    start_e, exchange = _exchange(m, hw, p, w, lay)
    starts = {
        "tp": layers * p.tp_messages * (start_1 + start_2 + growth / 2),
        "kv": softmax * (p.kv_messages * start_v + hop),
        "ep": moe * p.ep_messages * start_e,
        "layout": p.layout_messages * (layers * start_v + 2 * moe * start_y),
    }
    sizes = {
        "tp": tp,
        "kv": softmax * (per_dim * out * all_v + ring),
        "ep": moe * exchange,
        "layout": message * (layers * half_v + 2 * moe * wide * half_y),
    }
    return starts, sizes, layers * late, layers * message * one


def _memory(
    m: Any, hw: Any, p: Any, w: Any, n: dict[str, Array], lay: dict[str, Array]
) -> tuple[Array, Array, Array, Array]:
    # Usable bytes, weights, bytes of a sequence, and attention elements of one GPU.
    usable = hw.usable_fraction * hw.hbm_bytes - hw.reserve_bytes
    usable = usable - np.where(n["is_moe"], hw.moe_reserve_bytes, 0.0)
    split_w = np.where(n["is_mla"], 1.0, lay["sigma"])
    attention = n["l_a"] * (n["own"] / p.tp + n["copied"] / split_w) + n["other"] / p.tp
    attention = attention / p.pp
    ffn = lay["chi"] * n["pool"] / (p.ep * lay["tau"]) + n["router"]
    ffn = ffn + w.shared_weight_ratio * n["always"] / lay["phi"]
    untied = (1 - m.tied_embeddings) * w.bytes_embedding_weight
    ends = np.where(p.pp > 1, np.maximum(w.bytes_head_weight, untied), w.bytes_head_weight + untied)
    head = n["head"] * ends / p.tp + w.bytes_embedding_weight * n["norm"] / p.pp
    weights = w.bytes_attn_weight * attention + w.bytes_ffn_weight * ffn / p.pp
    weights = weights + head
    tokens = w.kv_block * np.ceil(w.context / w.kv_block)
    kept = n["l_f"] * tokens + m.window_layers * np.minimum(tokens, m.window)
    per_token = (w.bytes_kv * lay["c"] + w.kv_scale_bytes) / lay["split"]
    cache = per_token * kept + w.bytes_index * m.index_dim * m.index_layers * tokens
    state = _state(m, w) / (p.tp * p.pp)
    return usable, weights, cache / (p.kvp * p.pp) + state, attention


def _rules(m: Any, p: Any, n: dict[str, Array], lay: dict[str, Array], gpus: Any) -> Rules:
    # The rules that do not depend on memory.
    return {
        "heads": m.heads % p.tp != 0,
        "experts": np.round(m.experts * lay["chi"]) % p.ep != 0,
        "stage": lay["stage"] % p.ep != 0,
        "layers": p.pp > m.layers,
        "gpus": np.zeros(1, bool) if gpus is None else gpus % (lay["stage"] * p.pp) != 0,
        "kv mode": np.where(p.kvp > 1, p.kv_mode == KV_NONE, p.kv_mode == KV_CP),
    }


def _attention(m: Any, hw: Any, p: Any, w: Any, n: dict[str, Array], per_head: Array) -> Array:
    # Seconds of a sequence per token that its queries meet: products on whole tiles, and softmax.
    kv_heads = np.where(n["is_mla"], 1.0, np.ceil(m.kv_heads / p.tp))
    rows = m.heads / p.tp / kv_heads * w.query_tokens
    tiles = np.where(hw.query_tile > 1, np.ceil(rows / hw.query_tile), rows)
    products = per_head / (hw.flops_bf16 * hw.eff_attention)
    has_rate = np.asarray(hw.flops_exp) > 0
    softmax = np.where(has_rate, 1.0 / (np.where(has_rate, hw.flops_exp, 1.0) * hw.eff_exp), 0.0)
    score = np.where(tiles > 1, np.maximum(products, softmax), products + softmax)
    return w.query_tokens * m.heads * tiles * hw.query_tile / rows * score / (p.tp * p.pp * p.kvp)


def _phases(
    m: Any, hw: Any, p: Any, w: Any, n: dict[str, Array], lay: dict[str, Array], held: Array
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array], Array]:
    # Arithmetic and HBM seconds of a sequence, seconds of the weights, seconds of the pool.
    phi, shard = lay["phi"], p.ep * lay["tau"]
    seen = np.where(m.sparse_topk > 0, np.minimum(w.context, m.sparse_topk), w.context)
    tokens = n["l_f"] * seen + m.window_layers * np.minimum(w.context, m.window)
    per_head = np.where(n["is_mla"], 2 * (2 * m.kv_latent + m.rope_dim), 4 * m.head_dim)
    attention = _attention(m, hw, p, w, n, per_head) * tokens
    is_half = w.attn_dtype == "bf16" and w.bytes_index < 2
    indexer = (1 if is_half else 2) * m.index_heads * m.index_dim * m.index_layers * w.context
    state = m.linear_state * m.linear_layers
    sparsity = m.top_k / m.experts
    always = (n["always"] / phi + n["router"]) / p.pp
    kept = (w.shared_weight_ratio * n["always"] / phi + n["router"]) / p.pp
    routed = sparsity * n["pool"] * lay["sharing"] / (shard * p.pp)
    read = np.where(n["is_moe"], hw.expert_read_ratio, 1.0)
    multiplied = np.where(n["is_moe"], hw.expert_gemm_ratio, 1.0)
    q = w.query_tokens
    flops = {
        "attention": q * (indexer / p.kvp + 4 * state) / (p.tp * p.pp),
        "projection": 2 * q * held,
        "ffn": 2 * q * (routed / multiplied + always),
        "head": 2 * q * n["head"] / (p.tp * p.pp),
    }
    peaks = {
        "attention": hw.flops_bf16 * hw.eff_attention,
        "projection": hw.flops_fp8 * hw.eff_gemm,
    }
    peaks |= dict.fromkeys(("projection", "ffn"), hw.flops_fp8 * hw.eff_gemm)
    peaks["head"] = hw.flops_bf16 * hw.eff_gemm
    stream = hw.hbm_bw * hw.eff_weight_read
    cache = (w.bytes_kv * lay["c"] + w.kv_scale_bytes) / lay["split"] * tokens
    cache = cache + w.bytes_index * m.index_dim * m.index_layers * w.context
    cache = cache / (p.kvp * p.pp) + 2 * _state(m, w) / (p.tp * p.pp)
    latent = 2 * m.kv_latent + m.rope_dim
    width = m.heads * np.where(n["is_mla"], latent, 2 * m.head_dim) / p.tp
    inner = m.heads * (m.qk_nope_dim + m.rope_dim + m.v_head_dim)
    inner = np.where(n["is_mla"], inner, 2 * m.head_dim * (m.heads + m.kv_heads)) / p.tp
    copied = 2 * m.hidden + np.where(n["is_mla"], m.kv_latent + m.rope_dim, 0.0)
    d, g = m.hidden, m.ffn_matrices
    expert = lay["sharing"] * m.top_k * (2 * d / p.ep + g * m.expert_ff / shard)
    shared = m.shared_experts * (2 * d + g * m.shared_ff / phi)
    dense = m.dense_layers * (2 * d + g * m.dense_ff / phi)
    act = q * w.bytes_act / p.pp / stream
    moving = {
        "attention": cache / (hw.hbm_bw * hw.eff_kv_read) + act * n["l_a"] * width,
        "projection": act * n["l_a"] * (copied + inner),
        "ffn": act / read * (n["l_m"] * (expert + shared) + dense),
        "head": act * (d + m.vocab / p.tp),
    }
    fixed = {
        "attention": np.zeros(()),
        "projection": w.bytes_attn_weight * held / stream,
        "ffn": w.bytes_ffn_weight * kept / stream,
        "head": w.bytes_head_weight * n["head"] / (p.tp * p.pp) / stream,
    }
    pool = w.bytes_ffn_weight * lay["chi"] * n["pool"] / (shard * p.pp) / stream
    seconds = {k: flops[k] / peaks[k] for k in flops}
    seconds["attention"] = seconds["attention"] + attention
    return seconds, moving, fixed, pool / read


def _startups(m: Any, hw: Any, w: Any, n: dict[str, Array]) -> Array:
    # Launches of all layers, and start-ups of their kernels and of the head's.
    routed = np.where(n["is_moe"], n["l_m"], 0.0)
    shared = np.where(m.shared_experts > 0, routed, 0.0)
    networks = m.layers - m.bare_layers - routed + shared
    products = np.where(n["is_mla"], 5.0, 2.0) * n["l_a"] + 3 * m.linear_layers + 2 * networks + 1
    launches = m.layers * hw.layer_overhead + n["is_mla"] * n["l_a"] * hw.latent_overhead
    launches = launches + routed * (hw.expert_overhead + hw.expert_startup)
    sparse = np.where(w.bytes_index < w.bytes_act, m.index_layers, 0.0) * hw.sparse_overhead
    launches = launches + sparse + m.linear_layers * hw.linear_overhead
    return launches + products * hw.gemm_startup + n["l_a"] * hw.attention_startup


def _windows(m: Any, hw: Any, n: dict[str, Array], c: Any, h: Any) -> dict[str, Array]:
    # Time of a phase: the slower of arithmetic and bytes, and of the other a part.
    ffn = np.where(n["is_moe"], hw.expert_blend, hw.gemm_blend)
    share = {"projection": np.asarray(hw.gemm_blend), "ffn": ffn, "head": np.asarray(hw.gemm_blend)}
    window = {}
    for k in h:
        window[k] = np.maximum(c[k], h[k])
        if k in share and share[k].any():
            root = np.sqrt((c[k] - h[k]) ** 2 / 4 + share[k] * c[k] * h[k])
            window[k] = (c[k] + h[k]) / 2 + root
    return window


def _layout(m: Any, p: Any, n: dict[str, Array]) -> dict[str, Array]:
    stage = p.dp * p.kvp * p.tp
    # Replicas of a dense model are whole copies: they share no feed-forward network.
    sharing = np.where(n["is_moe"], p.dp, 1.0)
    sigma = m.kv_heads / np.ceil(m.kv_heads / p.tp)
    return {
        "stage": stage,
        "sharing": sharing,
        "tau": np.maximum(1.0, sharing * p.kvp * p.tp / p.ep),
        "phi": p.kvp * p.tp,
        "chi": np.where(n["is_moe"], 1 + p.redundant_experts / m.experts, 1.0),
        "sigma": sigma,
        "c": np.where(n["is_mla"], m.kv_latent + m.rope_dim, 2 * m.kv_heads * m.head_dim),
        "split": np.where(n["is_mla"], 1.0, sigma),
    }


def decode(m: Any, hw: Any, p: Any, w: Any, gpus: Any) -> Step:
    """One decode step of every design, every term of the physical convention."""
    n = _params(m)
    lay = _layout(m, p, n)
    usable, weights, sequence, held = _memory(m, hw, p, w, n, lay)
    largest = np.floor((usable - weights) / sequence)
    batch = np.maximum(largest, 1.0)
    b = np.maximum(batch / p.pp, 1.0)
    compute, moving, fixed, pool = _phases(m, hw, p, w, n, lay, held)
    # exp is three times as fast as a power; a dense model's expert is always hit.
    miss = np.where(n["is_moe"], 1 - m.top_k / m.experts / lay["chi"], 1e-300)
    hit = 1 - np.exp(b * (lay["sharing"] * w.query_tokens * np.log(miss)))
    hbm = {k: b * moving[k] + fixed[k] for k in moving}
    hbm["ffn"] = hbm["ffn"] + hit * pool
    window = _windows(m, hw, n, {k: b * x for k, x in compute.items()}, hbm)
    starts, sizes, late, one = _families(m, hw, p, w, n, lay)
    size = {k: b * sizes[k] for k in sizes}
    if np.any(hw.one_shot_share):
        size["tp"] = np.minimum(late + size["tp"], b * one)
    tail = (p.kv_mode == KV_CP) * hw.cp_ring_tail
    ffn = window["ffn"]
    seen = np.maximum(0.0, size["tp"] - hw.overlap_tp * (window["projection"] + ffn))
    seen = seen + np.maximum(0.0, size["ep"] - hw.overlap_ep * ffn)
    seen = seen + np.maximum(0.0, size["layout"] - hw.overlap_layout * ffn)
    attention = hw.overlap_kv * window["attention"]
    seen = seen + tail * size["kv"] + np.maximum(0.0, (1 - tail) * size["kv"] - attention)
    bound = window["attention"] + window["projection"] + ffn + window["head"]
    launches = _startups(m, hw, w, n) / p.pp
    start = (1 - hw.overlap_startup) * sum(starts.values())
    inside = lay["stage"] * p.pp <= hw.island_size
    link = np.where(inside, _inside(np.asarray(2.0), hw), hw.inter_bw) * hw.eff_link
    hop = np.where(inside, hw.intra_latency, hw.inter_latency)
    hand = (p.pp > 1) * (hop + b * w.query_tokens * m.hidden * w.bytes_act / link)
    stage_time = bound + seen + start + launches + b * hw.sequence_overhead
    tpot = (p.pp * (stage_time + hand) + hw.step_overhead + w.draft_time) / w.tokens_per_step
    rate = p.dp * batch / tpot / (lay["stage"] * p.pp)
    lacks = weights > usable
    rules = _rules(m, p, n, lay, gpus) | {"weights": lacks, "no sequence": ~lacks & (largest < 1)}
    return Step(largest, tpot, rate, {k: rules.get(k, np.zeros(1, bool)) for k in REASONS})


def _choose(score: Array, allowed: Array, gpus: Array) -> Array:
    # Best score within the tie tolerance, then fewest GPUs, then the lowest index.
    masked = np.where(allowed, score, -np.inf)
    best = masked.max(axis=-1, keepdims=True)
    tied = allowed & (masked >= best - TIE * np.abs(best))
    return np.where(tied, gpus, np.inf).argmin(axis=-1)


def search(m: Any, hw: Any, p: Any, w: Any, gpus: Any, shape: tuple[int, ...]) -> Best:
    """The best design along the last axis, and why the others fell out."""
    step = decode(m, hw, p, w, gpus)
    score = np.broadcast_to(step.tokens_per_s_per_gpu, shape)
    broken = np.zeros((), bool)
    for is_broken in step.reasons.values():
        broken = broken | is_broken
    allowed = np.broadcast_to(~broken, shape)
    size = p.dp * p.kvp * p.tp * p.pp if gpus is None else np.asarray(gpus)
    with np.errstate(invalid="ignore"):
        first = _choose(score, allowed, size)
    flags = (np.broadcast_to(x, (*x.shape[:-1], shape[-1])) for x in step.reasons.values())
    counts = [np.broadcast_to(np.count_nonzero(x, axis=-1), shape[:-1]) for x in flags]
    chosen = np.take_along_axis(np.where(allowed, score, -np.inf), first[..., None], axis=-1)
    return Best(first, chosen[..., 0], allowed.sum(axis=-1), np.stack(counts))
