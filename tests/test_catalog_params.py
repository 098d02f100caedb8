"""Parameter counts and the dense twin: by hand, by an independent count, by limits, by gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import EXACT

from qsjax import catalog
from qsjax.cost.laws import params
from qsjax.engines.held import cache_bytes_per_token

DENSE, GROUPED, LATENT, HYBRID = (
    catalog.model(name)
    for name in ("llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "minimax-text-01")
)
COUNTS = {
    name: getattr(params, name)
    for name in (
        "attention_params replicated_attention_params all_attention_params pool_params "
        "shared_params dense_ffn_params router_params head_params embedding_params norm_params "
        "total_params active_params moe_layers full_layers softmax_layers"
    ).split()
}


def matrices(m):
    """Every matrix of a latent-attention model as (rows, columns), listed layer by layer."""
    heads, per_head = int(m.heads), m.qk_nope_dim + m.rope_dim
    for layer in range(int(m.layers)):
        yield m.hidden, m.q_lora_rank
        yield m.q_lora_rank, heads * per_head
        yield m.hidden, m.kv_latent + m.rope_dim
        yield m.kv_latent, heads * (m.qk_nope_dim + m.v_head_dim)
        yield heads * m.v_head_dim, m.hidden
        if layer < m.dense_layers:
            yield from [(m.hidden, m.dense_ff)] * 3
            continue
        yield m.hidden, m.experts
        yield from [(m.hidden, m.expert_ff)] * 3 * int(m.experts)
        yield from [(m.hidden, m.shared_ff)] * 3 * int(m.shared_experts)
    yield from [(m.vocab, m.hidden)] * 2


def test_latent_attention_agrees_with_a_list_of_all_matrices():
    listed = sum(rows * columns for rows, columns in matrices(LATENT))
    assert float(params.total_params(LATENT)) == listed


def test_grouped_attention_by_hand():
    # q and o: 8192 x 8192 each; k and v: 8192 x 1024 each.
    assert float(params.replicated_attention_params(DENSE)) == 2 * 8192 * 1024
    assert float(params.attention_params(DENSE)) == 2 * 8192 * 8192 + 2 * 8192 * 1024


def test_latent_attention_by_hand():
    # 7168 x (512 + 64) for the latent and its rotary key, 7168 x 1536 for the query.
    assert float(params.replicated_attention_params(LATENT)) == 7168 * 576 + 7168 * 1536
    assert cache_bytes_per_token(LATENT)["fp8_plain"] == 61 * 576


def test_query_without_a_low_rank_comes_from_the_hidden_state():
    lite = catalog.model("deepseek-v2-lite")
    assert float(params.replicated_attention_params(lite)) == 2048 * 576
    own = 2048 * 16 * 192 + 512 * 16 * 256 + 16 * 128 * 2048
    assert float(params.attention_params(lite)) == 2048 * 576 + own


def test_a_dense_model_has_no_router_and_uses_all_it_has():
    assert float(params.router_params(DENSE)) == 0
    assert float(params.active_params(DENSE)) == float(params.total_params(DENSE))
    assert float(params.moe_layers(DENSE)) == 80


def test_layers_by_kind():
    assert float(params.softmax_layers(HYBRID)) == 10
    windowed = catalog.model("gpt-oss-120b")
    assert float(params.full_layers(windowed)) == 18
    assert float(params.softmax_layers(windowed)) == 36


def test_linear_layers_weigh_but_cache_nothing():
    bare = dataclasses.replace(HYBRID, linear_params=0.0)
    gap = params.total_params(HYBRID) - params.total_params(bare)
    assert float(gap) == 70 * 5 * 6144 * 8192
    assert cache_bytes_per_token(HYBRID)["fp8_plain"] == 10 * 2 * 8 * 128


def test_sparse_attention_caches_its_index_keys():
    sparse = catalog.model("deepseek-v3.2")
    # An index key has 128 elements of a byte and 4 of scales.
    assert cache_bytes_per_token(sparse)["fp8_plain"] == 61 * (576 + 132)


def test_tied_embeddings_are_one_matrix():
    tied = catalog.model("gemma-2-9b")
    assert float(params.embedding_params(tied)) == float(params.head_params(tied))


def test_norms_are_apart_and_negligible():
    assert float(params.norm_params(DENSE)) == 8192 * 161
    assert float(params.norm_params(DENSE)) < 1e-4 * float(params.total_params(DENSE))


@pytest.mark.parametrize("q", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("model", [GROUPED, LATENT, HYBRID], ids=["grouped", "latent", "hybrid"])
def test_active_twin_holds_qs_of_the_pool_and_keeps_the_rest(model, q):
    twin = params.dense_twin(model, q)
    qs = q * float(params.sparsity(model))
    assert float(params.pool_params(twin)) == pytest.approx(
        qs * float(params.pool_params(model)), rel=EXACT
    )
    assert float(params.sparsity(twin)) == 1
    for count in ("all_attention_params", "shared_params", "dense_ffn_params", "embedding_params"):
        assert float(COUNTS[count](twin)) == float(COUNTS[count](model))


def test_twins_are_equal_in_bytes_where_qs_is_one():
    twin = params.dense_twin(LATENT, 1.0 / float(params.sparsity(LATENT)))
    gap = float(params.total_params(LATENT) - params.total_params(twin))
    assert gap == float(params.router_params(LATENT))


@pytest.mark.parametrize("model", [GROUPED, LATENT], ids=["grouped", "latent"])
def test_total_twin_holds_qs_of_the_total(model):
    twin = params.dense_twin(model, 5.0, "total")
    qs = 5.0 * float(params.sparsity(model))
    assert float(params.total_params(twin)) == pytest.approx(
        qs * float(params.total_params(model)), rel=EXACT
    )
    assert (twin.dense_layers, twin.shared_experts) == (0, 0)


def test_total_twin_is_never_negative():
    twin = params.dense_twin(catalog.model("switch-c-2048"), 0.01, "total")
    assert float(twin.expert_ff) == 0


@pytest.mark.parametrize("definition", ["active_ffn", "total"])
@pytest.mark.parametrize("q", [1e-6, 5.0])
def test_twin_has_a_finite_slope_in_q(definition, q):
    def total(q):
        return params.total_params(params.dense_twin(LATENT, q, definition))

    assert np.isfinite(jax.grad(total)(q))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(
    "model", [DENSE, GROUPED, LATENT, HYBRID], ids=["dense", "grouped", "latent", "hybrid"]
)
def test_every_slope_is_finite(name, model):
    slopes = jax.grad(lambda m: jnp.asarray(COUNTS[name](m), float).sum())(model)
    assert all(np.isfinite(slope) for slope in jax.tree.leaves(slopes))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_broadcast_and_trace(name):
    hidden = jnp.array([1024.0, 2048.0]).reshape(2, 1)
    layers = jnp.array([8.0, 16.0, 32.0]).reshape(1, 3)
    model = dataclasses.replace(GROUPED, hidden=hidden, layers=layers)
    traced = jax.jit(COUNTS[name])(model)
    for i in range(2):
        for j in range(3):
            one = dataclasses.replace(
                GROUPED, hidden=float(hidden[i, 0]), layers=float(layers[0, j])
            )
            at = np.broadcast_to(traced, (2, 3))[i, j]
            assert at == pytest.approx(float(COUNTS[name](one)), rel=EXACT)
