"""An independent reading of docs/concepts/cost-model.md in plain Python scalars.

It imports nothing but the standard library and shares no code with the package: agreement of the
two is evidence that both say what the document says. Records are any objects with the attribute
names of the specs. Each function is one section of the document; `evaluate` puts them together.
"""

import itertools
import math
import types

REASONS = (
    "weights",
    "no_sequence",
    "heads",
    "experts",
    "stage",
    "layers",
    "gpus",
    "kv_mode",
    "batch",
)
KV_NONE, KV_HELIX, KV_CP = 0.0, 1.0, 2.0


def ceil(x, convention):
    """Smallest integer not below x; x itself where the convention relaxes rounding."""
    return x if convention.rounding == "relaxed" else float(math.ceil(x))


def floor(x, convention):
    """Largest integer not above x; x itself where the convention relaxes rounding."""
    return x if convention.rounding == "relaxed" else float(math.floor(x))


def params(m):
    """Parameter counts: section "Parameters"."""
    l_m = m.layers - m.dense_layers - m.bare_layers
    l_a = m.layers - m.linear_layers
    s = m.top_k / m.experts
    if m.kv_latent > 0:
        rep = m.hidden * (m.kv_latent + m.rope_dim)
        q_width = m.heads * (m.qk_nope_dim + m.rope_dim)
        if m.q_lora_rank > 0:
            rep += m.hidden * m.q_lora_rank
            query = m.q_lora_rank * q_width
        else:
            query = m.hidden * q_width
        key_value = m.kv_latent * m.heads * (m.qk_nope_dim + m.v_head_dim)
        att = rep + query + key_value + m.heads * m.v_head_dim * m.hidden + m.attn_extra_params
    else:
        rep = 2 * m.hidden * m.kv_heads * m.head_dim
        att = 2 * m.hidden * m.heads * m.head_dim + rep + m.attn_extra_params
    own = m.window_params if m.window_params > 0 else att
    attention = (l_a - m.window_layers) * att + m.window_layers * own
    attention += m.linear_layers * m.linear_params
    pool = l_m * m.experts * m.ffn_matrices * m.hidden * m.expert_ff
    shared = l_m * m.shared_experts * m.ffn_matrices * m.hidden * m.shared_ff
    dense = m.dense_layers * m.ffn_matrices * m.hidden * m.dense_ff
    router = l_m * m.hidden * m.experts if m.experts > 1 else 0.0
    embeddings = m.vocab * m.hidden * (2 - m.tied_embeddings)
    others = attention + shared + dense + router + embeddings + m.extra_params + m.lookup_params
    others -= m.repeated_params
    return {
        "replicated": rep,
        "per_attention_layer": att,
        "pool": pool,
        "shared": shared,
        "dense": dense,
        "router": router,
        "head": m.vocab * m.hidden,
        "norm": 2 * m.hidden * m.layers + m.hidden,
        "total": others + pool + m.idle_params,
        "active": others + s * pool,
    }


def dense_twin(m, q, definition):
    """The fields of the dense twin as a dict: section "Dense twin"."""
    fields = {name: getattr(m, name) for name in MODEL_FIELDS}
    fields["experts"] = 1.0
    fields["top_k"] = 1.0
    if definition == "active_ffn":
        fields["expert_ff"] = q * m.top_k * m.expert_ff
        return fields
    n = params(m)
    wanted = q * m.top_k / m.experts * n["total"]
    not_ffn = n["total"] - n["pool"] - n["shared"] - n["dense"] - n["router"]
    fields["dense_layers"] = 0.0
    fields["shared_experts"] = 0.0
    per_width = max(1.0, m.layers - m.bare_layers) * m.ffn_matrices * m.hidden
    fields["expert_ff"] = max(0.0, wanted - not_ffn) / per_width
    return fields


MODEL_FIELDS = (
    "layers hidden vocab heads kv_heads head_dim expert_ff experts top_k shared_experts shared_ff "
    "dense_layers dense_ff ffn_matrices tied_embeddings kv_latent rope_dim q_lora_rank qk_nope_dim "
    "v_head_dim window_layers window linear_layers linear_params linear_state linear_tail "
    "sparse_topk index_layers index_heads index_dim attn_extra_params extra_params "
    "lookup_params bare_layers window_cache window_params shared_kv_layers entry_tokens "
    "pooled_layers pooled_tokens repeated_params idle_params"
).split()


def beside_windows(m, tokens, most):
    """Entries of several tokens in all layers, at most `most` of a layer that chooses."""
    found = m.pooled_layers * tokens / m.pooled_tokens if m.pooled_layers else 0.0
    if m.entry_tokens > 0:
        found += m.index_layers * min(tokens / m.entry_tokens, most)
    return found


def index_entries(m, tokens):
    """Keys of an indexer."""
    return tokens / m.entry_tokens if m.entry_tokens > 0 else tokens


def unfinished(m):
    """Elements that compressors keep for entries that are not complete: section "Memory"."""
    entry = 2 * m.kv_heads * m.head_dim * m.window_cache
    pooled = m.pooled_layers * m.pooled_tokens * 2 * entry
    overlapping = m.index_layers * (2 * m.entry_tokens) * 2 * 2 * (entry + m.index_dim)
    return pooled + overlapping


def kv_elements(m, tp, layout, convention):
    """Elements per token and layer, and the number of ways they are split: table "Layout"."""
    if m.kv_latent == 0:
        per_gpu = ceil(m.kv_heads / tp, convention)
        return 2 * m.kv_heads * m.head_dim, m.kv_heads / per_gpu
    return {
        "latent": (m.kv_latent + m.rope_dim, 1.0),
        "latent_over_tp": (m.kv_latent + m.rope_dim, tp),
        "two_latents": (2 * (m.kv_latent + m.rope_dim), 1.0),
        "keys_and_values_over_tp": (2 * m.kv_latent, tp),
    }[layout]


def ffn_layout(m, p, convention):
    """Expert tensor parallelism, dense split, and replicas sharing a pool: table "Layout"."""
    if convention.ffn_sharding == "stage":
        copies = m.experts <= 1 and convention.dense_replicas == "whole"
        sharing = 1.0 if copies else p.dp
        return max(1.0, sharing * p.kvp * p.tp / p.ep), p.kvp * p.tp, sharing
    return p.tp, p.tp, max(1.0, p.ep / p.kvp)


def weight_ranks(p):
    """Ranks that share attention's weights and the vocabulary: table "Layout"."""
    return p.tp * p.kvp if p.gathers_queries else p.tp


def pool_growth(m, p):
    """Expert pool with its redundant copies over the model's own: table "Symbols"."""
    return 1 + p.redundant_experts / m.experts if m.experts > 1 else 1.0


def weight_split(m, p, convention):
    """Ways the replicated part of an attention layer is split: section "Memory"."""
    if m.kv_latent > 0:
        return 1.0
    ranks = weight_ranks(p)
    return m.kv_heads / ceil(m.kv_heads / ranks, convention)


def attention_weights_per_gpu(m, p, convention, att, rep, own):
    """Attention parameters of one GPU; Q of section "Compute" and the bracket of W."""
    layer = (att - rep) / weight_ranks(p) + rep / weight_split(m, p, convention)
    own = own / weight_ranks(p) if own > 0 else layer
    softmax = (m.layers - m.linear_layers - m.window_layers) * layer + m.window_layers * own
    other = (m.linear_layers * m.linear_params + m.extra_params) / weight_ranks(p)
    return (softmax + other) / p.pp


def shared_weight_bytes(w):
    """Bytes of a weight of shared experts and dense layers: table "Symbols"."""
    return w.bytes_ffn_weight * w.shared_weight_ratio


def memory(m, hw, p, w, convention):
    """Bytes of weights and of a sequence on one GPU, and the largest batch: section "Memory"."""
    n = params(m)
    tau, phi, _ = ffn_layout(m, p, convention)
    attention = attention_weights_per_gpu(
        m, p, convention, n["per_attention_layer"], n["replicated"], m.window_params
    )
    ffn = (pool_growth(m, p) * n["pool"] + m.idle_params) / (p.ep * tau) + n["router"]
    weights = w.bytes_attn_weight * attention
    weights += w.bytes_ffn_weight / p.pp * ffn
    weights += shared_weight_bytes(w) / p.pp * (n["shared"] + n["dense"]) / phi
    ends = [w.bytes_head_weight] + [w.bytes_embedding_weight] * (not m.tied_embeddings)
    weights += n["head"] / weight_ranks(p) * (sum(ends) if p.pp == 1 else max(ends))
    looked_up = m.lookup_params / (weight_ranks(p) * p.pp)
    weights += w.bytes_embedding_weight * (looked_up + n["norm"] / p.pp)
    weights -= w.bytes_attn_weight * m.repeated_params / (weight_ranks(p) * p.pp)

    c, sigma = kv_elements(m, p.tp, convention.mla_cache, convention)
    l_f = m.layers - m.window_layers - m.linear_layers
    blocks = w.kv_block * ceil(w.context / w.kv_block, convention)
    windowed = m.window_layers * min(blocks, m.window) + beside_windows(m, blocks, math.inf)
    tokens = l_f * blocks + m.window_cache * windowed
    if m.layers > m.linear_layers:
        tokens *= 1 - m.shared_kv_layers / (m.layers - m.linear_layers)
    kept = (w.bytes_kv * c + w.kv_scale_bytes) / sigma * tokens
    kept += w.bytes_index * m.index_dim * m.index_layers * index_entries(m, blocks)
    kv = convention.kv_overhead / (p.kvp * p.pp) * kept
    state = w.bytes_state * m.linear_state + w.bytes_act * m.linear_tail
    kv += m.linear_layers * state / (weight_ranks(p) * p.pp)
    kv += w.bytes_state * unfinished(m) / p.pp

    usable = hw.usable_fraction * hw.hbm_bytes - hw.reserve_bytes
    usable -= hw.moe_reserve_bytes if m.experts > 1 else 0.0
    return {
        "usable_bytes": usable,
        "weights_bytes": weights,
        "kv_bytes_per_seq": kv,
        "max_batch": floor((usable - weights) / kv, convention),
    }


def reasons(m, p, w, convention, mem, gpus):
    """Bitmask of the reasons why a design is not feasible: section "Memory"."""
    stage = p.dp * p.kvp * p.tp
    ranks = p.ep * p.tp if convention.ffn_sharding == "tp" else p.ep
    weights_fit = mem["weights_bytes"] <= mem["usable_bytes"]
    facts = (
        not weights_fit,
        weights_fit and mem["max_batch"] < 1,
        m.heads % weight_ranks(p) != 0,
        (m.experts + p.redundant_experts if m.experts > 1 else 1.0) % p.ep != 0,
        stage % ranks != 0,
        p.pp > m.layers,
        gpus is not None
        and (
            gpus % (stage * p.pp) != 0 if p.replicas is None else gpus != stage * p.pp * p.replicas
        ),
        (p.kv_mode == KV_NONE and p.kvp > 1) or (p.kv_mode == KV_CP and p.kvp == 1),
        w.batch is not None and w.batch > mem["max_batch"],
    )
    return sum(2**bit for bit, fact in enumerate(facts) if fact)


def scoped_params(m, convention):
    """Parameters that take time; `scope="routed_ffn"` leaves most of them out."""
    n = params(m)
    if convention.scope == "routed_ffn":
        n = {**n, "shared": 0.0, "dense": 0.0, "router": 0.0, "head": 0.0}
        if m.experts == 1:
            n["pool"] = n["total"]
    return n


def expert_group(m, p, b, convention):
    """Expert shard in time, tokens over one pool, and load of the busiest rank."""
    tau, _, rho = ffn_layout(m, p, convention)
    if convention.expert_time_sharding == "none":
        shard, tokens = tau, b
    else:
        shard, tokens = p.ep * tau, b * rho
    load = convention.expert_load_factor if m.experts > 1 else 1.0
    if convention.expert_balance == "skewed" and m.experts > 1:
        load *= 1 + 0.03 * math.log2(p.ep)
    if convention.expert_balance == "poisson" and m.experts > 1:
        load *= 1 + math.sqrt(2 * math.log(p.ep) / (tokens * m.top_k / p.ep))
    return shard, tokens, load


def compute(m, hw, p, w, convention, b):
    """FLOP of each phase per microbatch and stage on one GPU: section "Compute"."""
    n = scoped_params(m, convention)
    l_f = m.layers - m.window_layers - m.linear_layers
    read = min(w.context, m.sparse_topk) if m.sparse_topk > 0 else w.context
    if m.kv_latent > 0:
        a = 2 * m.heads * (2 * m.kv_latent + m.rope_dim)
    else:
        a = 4 * m.heads * m.head_dim
    scores = l_f * read + m.window_layers * min(w.context, m.window)
    scores += beside_windows(m, w.context, m.sparse_topk)
    per_token = a * scores
    indexer = 2 * m.index_heads * m.index_dim * m.index_layers * index_entries(m, w.context)
    if w.attn_dtype == "bf16" and w.bytes_index < 2:
        indexer /= 2  # 8-bit products take half the time of 16-bit ones
    state = 4 * m.linear_state * m.linear_layers
    ways = p.kvp if convention.attention_flops_over_kvp else 1.0

    att, rep, own = n["per_attention_layer"], n["replicated"], m.window_params
    if convention.mla_projection == "two_d_squared" and m.kv_latent > 0:
        att, rep, own = 2 * m.hidden**2, 0.0, 0.0

    _, phi, _ = ffn_layout(m, p, convention)
    shard, tokens, load = expert_group(m, p, b, convention)
    factor = convention.dense_flops_factor if m.experts == 1 else 1.0
    s = m.top_k / m.experts
    routed = 2 * load * factor * tokens * s * n["pool"] / (shard * p.pp)
    ffn = routed + 2 * b * (n["shared"] + n["dense"]) / (phi * p.pp)
    ffn += 2 * b * n["router"] / p.pp
    flops = {
        "attention": b * ((per_token + indexer) / (ways * p.tp) + state / weight_ranks(p)) / p.pp,
        "projection": 2 * b * attention_weights_per_gpu(m, p, convention, att, rep, own),
        "ffn": ffn,
        "head": 2 * b * n["head"] / (weight_ranks(p) * p.pp),
    }
    peak = {"bf16": hw.flops_bf16, "fp8": hw.flops_fp8, "fp4": hw.flops_fp4}
    if convention.compute_dtype == "bf16":
        peak = dict.fromkeys(peak, hw.flops_bf16)
    times = {
        "attention": flops["attention"] / (peak[w.attn_dtype] * hw.eff_attention),
        "projection": flops["projection"] / (peak[w.proj_dtype] * hw.eff_gemm),
        "ffn": (flops["ffn"] - routed + routed / expert_ratio(m, hw.expert_gemm_ratio))
        / (peak[w.ffn_dtype] * hw.eff_gemm),
        "head": flops["head"] / (peak[w.head_dtype] * hw.eff_gemm),
    }
    if convention.attention_tiles:
        # Query rows that meet the same keys fill whole tiles; one tile cannot hide its softmax.
        keys = 1 if m.kv_latent > 0 else math.ceil(m.kv_heads / p.tp)
        rows = m.heads / p.tp / keys * w.query_tokens
        tiles = math.ceil(rows / hw.query_tile) if hw.query_tile > 1 else rows
        share = b * tiles * hw.query_tile / rows / (ways * p.tp * p.pp)
        products = share * per_token / (peak[w.attn_dtype] * hw.eff_attention)
        softmax = 0.0
        if hw.flops_exp > 0:
            softmax = share * m.heads * scores / (hw.flops_exp * hw.eff_exp)
        rest = b * (indexer / (ways * p.tp) + state / weight_ranks(p)) / p.pp
        rest /= peak[w.attn_dtype] * hw.eff_attention
        times["attention"] = rest + (products + softmax if tiles <= 1 else max(products, softmax))
    return flops, times


def expert_ratio(m, ratio):
    """Efficiency of routed experts over that of dense products: section "Kernels"."""
    return ratio if m.experts > 1 else 1.0


def blend(a, b, share):
    """Time of two resources that overlap in part: section "Kernels"."""
    return (a + b) / 2 + math.sqrt((a - b) ** 2 / 4 + share * a * b)


def expert_share(m, p, b, tokens, convention):
    """Share u of the routed pool that is streamed: section "HBM traffic"."""
    s = m.top_k / m.experts
    if convention.expert_traffic == "coverage":
        if m.experts == 1:
            return 1.0
        missed = (1 - s / pool_growth(m, p)) ** tokens
        if convention.expert_balance == "skewed":
            drawn = -tokens * math.log(1 - s / pool_growth(m, p)) if s < pool_growth(m, p) else 0
            missed = 1 / (1 + drawn / 2) ** 2 if s < pool_growth(m, p) else 0.0
        return 1 - missed
    if convention.expert_traffic == "full_pool":
        r = b * s
        return b * min(1.0, r) / max(1.0, r)
    return 1.0 if convention.expert_traffic == "all_experts" else s


def stream_bytes(m, p, w, convention, b, tokens_b):
    """Bytes of KV cache and weights per microbatch and stage on one GPU: section "HBM traffic"."""
    exact = params(m)
    n = scoped_params(m, convention)
    c, sigma = kv_elements(m, p.tp, convention.mla_read, convention)
    l_f = m.layers - m.window_layers - m.linear_layers
    read = min(w.context, m.sparse_topk) if m.sparse_topk > 0 else w.context
    per_token = (w.bytes_kv * c + w.kv_scale_bytes) / sigma
    windowed = m.window_layers * min(w.context, m.window)
    windowed += beside_windows(m, w.context, m.sparse_topk)
    kv = per_token * (l_f * read + m.window_cache * windowed)
    kv += w.bytes_index * m.index_dim * m.index_layers * index_entries(m, w.context)
    kv *= b / (p.kvp * p.pp)
    state = w.bytes_state * m.linear_state + w.bytes_act * m.linear_tail
    kv += 2 * b * m.linear_layers * state / (weight_ranks(p) * p.pp)

    _, phi, _ = ffn_layout(m, p, convention)
    mixed = m.experts > 1
    shard, tokens, _ = expert_group(m, p, tokens_b, convention)
    q_exact = attention_weights_per_gpu(
        m, p, convention, exact["per_attention_layer"], exact["replicated"], m.window_params
    )
    if convention.scope == "routed_ffn":
        q_exact = 0.0  # the tables stream the cache and the routed pool, and nothing else
    return {
        "kv": kv,
        "attn_weights": w.bytes_attn_weight * q_exact,
        "shared": shared_weight_bytes(w) * (n["shared"] + n["dense"]) / (phi * p.pp)
        + w.bytes_ffn_weight * n["router"] / p.pp,
        "routed": w.bytes_ffn_weight
        * pool_growth(m, p)
        * n["pool"]
        * (1 + 0.03 * math.log2(p.ep) if convention.expert_balance == "skewed" and mixed else 1)
        / (shard * p.pp)
        * expert_share(m, p, b, tokens, convention),
        "head": w.bytes_head_weight * n["head"] / (weight_ranks(p) * p.pp),
    }


def activation_bytes(m, p, w, convention, b):
    """Bytes that matrix products read and write, by phase: section "HBM traffic"."""
    if convention.activations == "none":
        return {"attention": 0.0, "projection": 0.0, "ffn": 0.0, "head": 0.0}
    l_m, l_d = m.layers - m.dense_layers - m.bare_layers, m.dense_layers
    l_a = m.layers - m.linear_layers
    d, g = m.hidden, m.ffn_matrices
    if m.kv_latent > 0:
        o_q = m.heads * (m.kv_latent + m.rope_dim)
        o_v = m.heads * m.kv_latent
        projection = 2 * d
        width = m.heads * (m.qk_nope_dim + m.rope_dim) + m.heads * m.v_head_dim
        projection += width / weight_ranks(p)
        projection += m.kv_latent + m.rope_dim
    else:
        o_q = o_v = m.heads * m.head_dim
        projection = 2 * d + (m.heads + 2 * m.kv_heads) * m.head_dim / weight_ranks(p)
        projection += m.heads * m.head_dim / weight_ranks(p)
    _, phi, _ = ffn_layout(m, p, convention)
    shard, tokens, _ = expert_group(m, p, b, convention)
    ffn = l_m * (tokens * m.top_k / p.ep * 2 * d + tokens * m.top_k / shard * g * m.expert_ff)
    head = b * (d + m.vocab / weight_ranks(p))
    if convention.scope == "full_model":
        shared_width = m.shared_experts * m.shared_ff
        ffn += b * l_m * (2 * d * m.shared_experts + g * shared_width / phi)
        ffn += b * l_d * (2 * d + g * m.dense_ff / phi)
    else:
        head = 0.0
    return {
        "attention": 2 * b * w.bytes_act * l_a / p.pp * (o_q + o_v) / (2 * p.tp),
        "projection": b * w.bytes_act * l_a / p.pp * projection,
        "ffn": w.bytes_act / p.pp * ffn,
        "head": w.bytes_act / p.pp * head,
    }


def island_split(hw, convention, n, stride):
    """Ranks of a group that share an island, and islands: section "Collectives"."""
    if convention.topology == "flat":
        return (n, 1.0) if n * stride <= hw.island_size else (1.0, n)
    inner = min(n, max(1.0, floor(hw.island_size / stride, convention)))
    return inner, ceil(n / inner, convention)


def inside_rate(hw, n):
    """Bandwidth of one of n ranks to the others: through a switch all, in a mesh their links."""
    links = hw.island_size - 1
    used = max(n - 1, 1)
    if used >= links:
        return hw.intra_bw
    return hw.intra_bw * ((1 - hw.mesh) + hw.mesh * used / links)


def half(hw, convention, n, stride, m_bytes):
    """All-gather or reduce-scatter: bandwidth part and start-up part."""
    n_i, n_o = island_split(hw, convention, n, stride)
    bandwidth = (n_i - 1) / n_i * m_bytes / (inside_rate(hw, n_i) * hw.eff_link)
    bandwidth += (n_o - 1) / n_o * m_bytes / (n_i * hw.inter_bw * hw.eff_link)
    if convention.startup == "ring":
        startup = (n_i - 1) * hw.intra_latency + (n_o - 1) * hw.inter_latency
    else:
        startup = hw.intra_latency * (n_i > 1) + hw.inter_latency * (n_o > 1)
    return bandwidth, startup


def tensor_parallel(m, hw, p, w, convention, b):
    """Two all-reduces a layer."""
    _, phi, _ = ffn_layout(m, p, convention)
    m_2 = b * m.hidden * w.bytes_act
    is_divided = convention.ffn_sharding == "stage" and not p.gathers_queries
    m_1 = m_2 / p.kvp if is_divided else m_2
    bw_1, start_1 = half(hw, convention, weight_ranks(p), 1.0, m_1)
    bw_2, start_2 = half(hw, convention, phi, 1.0, m_2)
    layers = m.layers / p.pp
    two, one, doublings = 0.0, 0.0, 0.0
    for bandwidth, n, message in ((bw_1, weight_ranks(p), m_1), (bw_2, phi, m_2)):
        n_i, n_o = island_split(hw, convention, n, 1.0)
        both_ways = 2 / hw.eff_allreduce * bandwidth
        two += both_ways + (hw.two_shot_latency if n_i > 1 else 0.0)
        if hw.one_shot_share > 0 and n_o <= 1:
            one += (n_i - 1) * message / (inside_rate(hw, n_i) * hw.one_shot_share)
        else:
            one += both_ways
        doublings += math.log2(n_i)
    startup = 2 * (start_1 + start_2) + doublings * hw.rank_latency
    return layers * min(one, two), layers * p.tp_messages / 2 * startup


def exchange(hw, convention, n, stride, message):
    """All-to-all: an equal part of the message for every rank; start-ups as for a half."""
    n_i, n_o = island_split(hw, convention, n, stride)
    inside = (n_i - 1) / (n_i * n_o) * message / fabric(hw, inside=True, n=n_i)[1]
    outside = (n_o - 1) / n_o * message / fabric(hw, inside=False)[1]
    return inside + outside, half(hw, convention, n, stride, 0.0)[1]


def kv_parallel(m, hw, p, w, convention, b):
    """Exchange of partial attention outputs, and the query ring of context parallelism."""
    if p.kvp <= 1:
        return 0.0, 0.0
    mla = m.kv_latent > 0
    d_o = m.kv_latent if mla else m.head_dim
    d_q = m.kv_latent + m.rope_dim if mla else m.head_dim
    heads = m.heads / p.tp
    message = b * heads * (d_o + 1) * w.bytes_act
    bandwidth, startup = exchange(hw, convention, p.kvp, p.tp, message)
    bandwidth *= convention.kv_exchange_volume
    startup *= p.kv_messages
    if p.kv_mode == KV_CP:
        _, n_o = island_split(hw, convention, p.kvp, p.tp)
        alpha, beta = fabric(hw, inside=n_o <= 1)
        bandwidth += (p.kvp - 1) / p.kvp * b * heads * d_q * w.bytes_act / beta
        startup += (p.kvp - 1) * alpha
    if p.gathers_queries:
        queries = b * heads * d_q * w.bytes_act
        bw_q, start_q = half(hw, convention, p.kvp, p.tp, queries)
        bandwidth, startup = bandwidth + bw_q, startup + start_q
    layers = (m.layers - m.linear_layers) / p.pp
    return layers * bandwidth, layers * startup


def fabric(hw, inside, n=2):
    """Start-up and reachable bandwidth of a fabric, between n ranks where it is inside."""
    if inside:
        return hw.intra_latency, inside_rate(hw, n) * hw.eff_link
    return hw.inter_latency, hw.inter_bw * hw.eff_link


def expert_parallel(m, hw, p, w, convention, b):
    """Dispatch to and combine from the experts."""
    tau, _, rho = ffn_layout(m, p, convention)
    if convention.expert_time_sharding == "none":
        rho = 1
    _, _, load = expert_group(m, p, b, convention)
    if convention.expert_exchange == "every_token":
        alpha, beta = fabric(hw, inside=tau * p.ep <= hw.island_size)
        volume = 2 * b * m.top_k * m.hidden * w.bytes_act
        bandwidth = volume / beta if p.ep > 1 else 0.0
        startup = alpha if p.ep > 1 else 0.0
    else:
        n_i, _ = island_split(hw, convention, p.ep, tau)
        replica = p.kvp * p.tp
        own = max(1, p.ep / rho)
        takers = min(tau, replica)
        sent = (
            b / replica * min(m.top_k, p.ep) * takers * m.hidden * (w.bytes_dispatch + w.bytes_act)
        )
        island = max(n_i, own)
        near = (island - own) / p.ep
        far = (p.ep - island) / p.ep
        each = max(1, takers / hw.island_size)
        alpha_i, beta_i = fabric(hw, inside=True, n=n_i * takers / each)
        alpha_o, beta_o = fabric(hw, inside=False)
        inside, outside = sent * near, sent * far
        if convention.expert_exchange == "relayed":
            # One copy for every other island that any of a token's experts is on, for all of those
            # that an expert of several islands is on.
            islands, copies = p.ep / n_i, min(m.top_k, p.ep)
            met = (p.ep - island) / n_i * (1 - ((islands - 1) / islands) ** copies)
            outside = sent / (copies * takers) * met * each
            inside += sent * far * (1 - each / (n_i * takers))
        bandwidth = max(inside / beta_i, outside / beta_o)
        # Ranks of an island synchronise in the kernel itself.
        startup = alpha_o if far > 0 else alpha_i + hw.exchange_overhead if near > 0 else 0.0
    layers = (m.layers - m.dense_layers - m.bare_layers) / p.pp
    bandwidth *= convention.ep_exchange_volume
    return layers * load * bandwidth, layers * p.ep_messages * startup


def layout_change(m, hw, p, w, convention, b):
    """Collectives that bring tokens from the attention layout to the FFN layout."""
    if convention.ffn_sharding != "stage":
        return 0.0, 0.0
    tau, _, _ = ffn_layout(m, p, convention)
    replica = p.kvp * p.tp
    tokens = b * m.hidden * w.bytes_act
    bw_v, start_v = half(hw, convention, p.kvp, p.tp, tokens)
    if p.gathers_queries:
        bw_v, start_v = 0.0, 0.0
    y = max(1.0, tau / replica)
    bw_y, start_y = half(hw, convention, y, replica, y * tokens)
    every = m.layers / p.pp
    moe = (m.layers - m.dense_layers - m.bare_layers) / p.pp
    bandwidth = every * bw_v + moe * 2 * bw_y
    startup = every * start_v + moe * 2 * start_y
    return bandwidth, p.layout_messages * startup


def point_to_point(m, hw, p, w, b):
    """One microbatch from a stage to the next."""
    if p.pp <= 1:
        return 0.0
    alpha, beta = fabric(hw, inside=p.pp * p.dp * p.kvp * p.tp <= hw.island_size)
    return alpha + b * m.hidden * w.bytes_act / beta


def startups(m, hw):
    """Start-ups of all layers and of the head, kernel by kernel: section "Kernels"."""
    total = hw.gemm_startup
    for layer in range(int(m.layers)):
        is_linear = layer < m.linear_layers
        has_network = layer < m.layers - m.bare_layers
        is_routed = layer >= m.dense_layers and has_network and m.experts > 1
        products = 3 if is_linear else 5 if m.kv_latent > 0 else 2
        if has_network and (not is_routed or m.shared_experts > 0):
            products += 2
        total += products * hw.gemm_startup
        total += hw.linear_overhead if is_linear else hw.attention_startup
        total += hw.expert_startup if is_routed else 0.0
    return total


def exposed(hw, family, eta, window, tail):
    """Part of a family's time that the step waits for: section "Overlap"."""
    bandwidth, startup = family
    hidden_part = max(0.0, (1 - tail) * bandwidth - eta * window)
    return tail * bandwidth + hidden_part + (1 - hw.overlap_startup) * startup


def evaluate(m, hw, p, w, convention, gpus=None):
    """Every term of one decode step as a dict of floats."""
    n = params(m)
    mem = memory(m, hw, p, w, convention)
    mask = reasons(m, p, w, convention, mem, gpus)
    batch = max(1.0, mem["max_batch"] if w.batch is None else w.batch)
    halves = 2 if convention.two_batch_overlap else 1
    sequences = max(1.0, batch / (halves * p.pp))
    b = w.query_tokens * sequences

    flops, c = compute(m, hw, p, w, convention, b)
    stream = stream_bytes(m, p, w, convention, sequences, b)
    acts = activation_bytes(m, p, w, convention, b)
    bw_kv, bw = hw.hbm_bw * hw.eff_kv_read, hw.hbm_bw * hw.eff_weight_read
    t_stream = {name: x / (bw_kv if name == "kv" else bw) for name, x in stream.items()}
    t_act = {name: x / bw for name, x in acts.items()}
    t_stream["routed"] /= expert_ratio(m, hw.expert_read_ratio)
    t_act["ffn"] /= expert_ratio(m, hw.expert_read_ratio)
    h = {
        "attention": t_stream["kv"] + t_act["attention"],
        "projection": t_stream["attn_weights"] + t_act["projection"],
        "ffn": t_stream["shared"] + t_stream["routed"] + t_act["ffn"],
        "head": t_stream["head"] + t_act["head"],
    }
    if convention.bottleneck == "per_phase":
        share = {"attention": 0.0, "projection": hw.gemm_blend, "head": hw.gemm_blend}
        share["ffn"] = hw.expert_blend if m.experts > 1 else hw.gemm_blend
        window = {i: blend(c[i], h[i], share[i]) for i in c}
        t_bound = sum(window.values())
    else:
        t_bound = max(sum(c.values()), sum(h.values()))
        window = c

    families = {
        "tp": tensor_parallel(m, hw, p, w, convention, b),
        "kv": kv_parallel(m, hw, p, w, convention, b),
        "ep": expert_parallel(m, hw, p, w, convention, b),
        "layout": layout_change(m, hw, p, w, convention, b),
    }
    tail = hw.cp_ring_tail if p.kv_mode == KV_CP else 0.0
    seen = {
        "tp": exposed(hw, families["tp"], hw.overlap_tp, window["projection"] + window["ffn"], 0.0),
        "kv": exposed(hw, families["kv"], hw.overlap_kv, window["attention"], tail),
        "ep": exposed(hw, families["ep"], hw.overlap_ep, window["ffn"], 0.0),
        "layout": exposed(hw, families["layout"], hw.overlap_layout, window["ffn"], 0.0),
    }
    if convention.two_batch_overlap:
        seen["ep"] = max(0.0, sum(families["ep"]) - t_bound)
    t_p2p = point_to_point(m, hw, p, w, b)
    overhead = m.layers * hw.layer_overhead
    if m.kv_latent > 0:
        overhead += (m.layers - m.linear_layers) * hw.latent_overhead
    if m.experts > 1 and w.ffn_dtype != "fp4":
        overhead += (m.layers - m.dense_layers - m.bare_layers) * hw.expert_overhead
    overhead += startups(m, hw)
    if w.bytes_index < w.bytes_act:
        overhead += m.index_layers * hw.sparse_overhead
    overhead /= p.pp
    overhead += sequences * hw.sequence_overhead
    t_stage = t_bound + sum(seen.values()) + overhead
    tpot = (halves * p.pp * (t_stage + t_p2p) + hw.step_overhead) / w.tokens_per_step
    one_copy = p.dp * p.pp * p.kvp * p.tp
    copies = p.replicas
    if copies is None:
        copies = 1.0 if gpus is None else max(1.0, gpus // one_copy)
    n_gpus = one_copy * copies
    tokens_per_s = copies * p.dp * batch / tpot
    given_fits = w.batch is None or 1 <= w.batch <= mem["max_batch"]
    return {
        "total_params": n["total"],
        "active_params": n["active"],
        **mem,
        "reasons": mask,
        "is_feasible": mask == 0 and mem["max_batch"] >= 1 and given_fits,
        "batch": batch,
        **{f"flops_{i}": x for i, x in flops.items()},
        **{f"t_compute_{i}": x for i, x in c.items()},
        **{f"t_hbm_{i}": x for i, x in t_stream.items()},
        **{f"t_hbm_act_{i}": x for i, x in t_act.items()},
        **{f"t_bandwidth_{i}": x[0] for i, x in families.items()},
        **{f"t_startup_{i}": x[1] for i, x in families.items()},
        **{f"t_exposed_{i}": x for i, x in seen.items()},
        "t_p2p": t_p2p,
        "t_bound": t_bound,
        "t_stage": t_stage,
        "tpot": tpot,
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_gpu": tokens_per_s / n_gpus,
        "tokens_per_s_per_user": 1 / tpot,
        "n_gpus": n_gpus,
    }


def filled_steps(batch, prompt, output, budget, mixed, whole, bunched=0, pp=1, query=1, accepted=1):
    """What fills the steps of a closed loop: section "Prompts beside answers"."""
    steps = max(output - 1, 1) / accepted
    if not mixed:
        others, here, most = max(batch - 1, 0), 1.0, math.inf
        room = fits = budget * pp
        whole_prompts = max(1, fits // prompt) * prompt
    else:
        here = steps / (steps + max(1, prompt / (budget * pp)))
        others = max(batch - 1, 0) * here
        fits = max(1, budget * pp - query * (1 + others))
        whole_prompts = max(1, fits // prompt) * prompt
        most = whole_prompts * steps / prompt if whole else (budget * pp - query) / (
            query + prompt / steps
        )  # fmt: skip
        others = min(others, most)
        room = max(1, budget * pp - query * (1 + others))
    piece = prompt if whole else prompt / math.ceil(prompt / room)
    a_step = others * prompt / steps
    rate = a_step / piece
    chunk = piece if rate == 0 else piece * rate / (1 - math.exp(-rate))
    chunk = min(chunk, whole_prompts if whole else room)
    everyone = min(batch * here, 1 + most)
    delaying = others
    if bunched:
        chunk = min(max(batch, 1) * prompt, whole_prompts if whole else room)
        delaying = max(1 + others - max(1, chunk / prompt), 0)
        if not mixed:
            delaying /= 2
    share = prompt / steps / chunk
    return 1 + others, everyone, chunk, delaying * share, everyone * share


def loaded_beside(load, computing, layers):
    """Seconds by which loading a cache holds up a pass: layer by layer, section "Prefixes"."""
    clock = 0.0
    for layer in range(1, layers + 1):
        there = layer * load / layers
        clock = max(clock, there) + computing / layers
    return clock - computing


def prefix_place(hit, miss, room, kept, interval):
    """Mean seconds of a request and share of prefixes found, by bisection on that share.

    With a share x found a replica takes `miss - x (miss - hit)` for a request, so that
    interval / that prefixes are in use, of which room / kept fit.
    """

    def seconds(share):
        return miss - share * (miss - hit)

    def fitting(share):
        in_use = interval / seconds(share)
        return 1.0 if kept * in_use == 0 else min(1.0, room / kept / in_use)

    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fitting(middle) > middle else (low, middle)
    share = 1.0 if fitting(1.0) == 1.0 else high
    return seconds(share), share


def best(designs, objective, tie=1e-9):
    """Index of the best feasible design by brute force; None if no design is feasible.

    `designs` are results of `evaluate` in flat order, and more of `objective` is better. Scores
    within a relative `tie` of the best are equal; then fewest GPUs, then the lowest index.
    """
    feasible = [i for i, design in enumerate(designs) if design["is_feasible"]]
    if not feasible:
        return None
    top = max(designs[i][objective] for i in feasible)
    tied = [i for i in feasible if designs[i][objective] >= top - tie * abs(top)]
    return min(tied, key=lambda i: (designs[i]["n_gpus"], i))


def grid_search(m, hw, p, w, convention, degrees, objective, gpus=None):
    """Best flat index and its design over a product of partition degrees, by nested loops.

    `degrees` maps names of partition fields to values; the last name varies fastest. `p` has the
    fields that are not searched.
    """
    designs = []
    for values in itertools.product(*degrees.values()):
        at = types.SimpleNamespace(**{**vars(p), **dict(zip(degrees, values, strict=True))})
        designs.append(evaluate(m, hw, at, w, convention, gpus))
    index = best(designs, objective)
    return index, None if index is None else designs[index]
