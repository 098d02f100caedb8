"""Speculation: tokens that are accepted, and what drafting them takes, by the laws of the step.

Drafts of the model's own layer (multi-token prediction) and of an Eagle head are passes of a model
of one layer on the same GPUs, one after the other, each with one token of every sequence; n-grams
cost nothing. Then the model verifies all drafts and one token more in one step. Formulas:
docs/concepts/cost-model.md, section "Speculation".
"""

import dataclasses
from typing import Literal

from qsjax.cost.decode import decode_step
from qsjax.cost.feasibility import capacity
from qsjax.cost.laws import params
from qsjax.cost.laws.sharding import context_of
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import Convention, ModelSpec, Partition, Records

Method = Literal["mtp", "eagle", "ngram"]
# Where nobody says it: below the 0.85 to 0.9 that DeepSeek-V3 reports of its own second token
# (arXiv 2412.19437, section 5.4.3), for later drafts and other heads are accepted less.
ACCEPTANCE = 0.8
METHODS: tuple[Method, ...] = ("mtp", "eagle", "ngram")
# Width of an Eagle head's network over the hidden one, where its parameters are not given: that of
# the layer of Llama 3 which the published heads are.
HEAD_WIDTH = 3.5
NO_HEAD = (
    "no multi-token-prediction layer of {} is known, and engines refuse mtp without one: the "
    "numbers assume a layer like its own; an Eagle head or n-grams need none"
)


def accepted_tokens(acceptance: ArrayLike, drafts: ArrayLike) -> Array:
    """Tokens that a step yields: the drafts accepted in a row, and the model's own [tokens].

    (1 - a^(k+1)) / (1 - a) for k drafts of which each is accepted with chance a, given those before
    (Leviathan et al., arXiv 2211.17192, eq. 1).

    >>> float(accepted_tokens(0.5, 2)), float(accepted_tokens(1.0, 3)), float(accepted_tokens(0, 3))
    (1.75, 4.0, 1.0)
    """
    chance, count = xp.asarray(acceptance, float), xp.asarray(drafts, float) + 1.0
    is_sure = chance >= 1.0
    below = xp.where(is_sure, 0.5, chance)
    power = xp.where(below > 0, xp.exp(count * xp.log(xp.where(below > 0, below, 1.0))), 0.0)
    return xp.where(is_sure, count, (1.0 - power) / (1.0 - below))


def draft_model(
    model: ModelSpec, method: Method, head_params: ArrayLike | None = None
) -> ModelSpec:
    """The model of one layer that drafts: the model's own kind of layer, or a dense one.

    Args:
        model: what is served.
        method: `mtp` or `eagle`.
        head_params: parameters of the Eagle head without embedding and output head; by the width
            of a Llama layer if None.
    """
    one, none = xp.ones(()), xp.zeros(())
    layer = dataclasses.replace(
        model,
        layers=one,
        dense_layers=none,
        bare_layers=none,
        # A layer that drafts for one with entries has its window alone.
        window_layers=xp.where(xp.asarray(model.entry_tokens) > 0, one, none),
        pooled_layers=none,
        shared_kv_layers=none,
        linear_layers=none,
        index_layers=xp.where(
            xp.asarray(model.entry_tokens) > 0, none, xp.minimum(model.index_layers, 1.0)
        ),
        lookup_params=none,
        idle_params=none,
        repeated_params=none,
        # Hidden state and embedding, side by side, are projected to the hidden width.
        extra_params=2.0 * xp.asarray(model.hidden) ** 2,
        label="",
    )
    if method == "mtp":
        return layer
    dense = dataclasses.replace(
        layer, experts=one, top_k=one, shared_experts=none, shared_ff=none, expert_ff=none
    )
    hidden = xp.asarray(model.hidden)
    width = HEAD_WIDTH * hidden
    if head_params is not None:
        rest = xp.asarray(head_params) - layer_params(dense)
        width = xp.maximum(rest, 0.0) / (hidden * model.ffn_matrices)
    return dataclasses.replace(dense, expert_ff=width)


def layer_params(draft: ModelSpec) -> Array:
    """Parameters of a draft without those that it shares with the model [1]."""
    return params.total_params(draft) - params.embedding_params(draft)


def _alone(partition: Partition) -> Partition:
    """The GPUs of one stage, which run the draft."""
    return dataclasses.replace(partition, pp=1.0, replicas=None)


def draft_seconds(draft: ModelSpec, records: Records, convention: Convention) -> Array:
    """Time of one draft token of every sequence [s].

    A decode step of the draft with the batch of the workload, which must be given. Host work for
    the sequences is the verifying step's.
    """
    bare = dataclasses.replace(records.hardware, sequence_overhead=0.0)
    work = records.workload.replace(query_tokens=1.0, tokens_per_step=1.0, draft_time=0.0)
    return decode_step(Records(draft, bare, _alone(records.partition), work), convention).tpot


def draft_bytes(draft: ModelSpec, records: Records, convention: Convention) -> tuple[Array, Array]:
    """What the draft holds on a GPU: its weights without embedding and head, cache of a sequence.

    Returns:
        Both in B.
    """
    drafting = records._replace(model=draft, partition=_alone(records.partition))
    cap = capacity(context_of(drafting, convention))
    return layer_params(draft) / params.total_params(draft) * cap.weights, cap.kv_per_sequence


def speculated(
    records: Records,
    convention: Convention,
    method: Method,
    acceptance: ArrayLike,
    drafts: ArrayLike,
    head_params: ArrayLike | None = None,
) -> Records:
    """The records of a design that speculates: tokens of a step, time and memory of drafting.

    Args:
        records: the design with its batch.
        convention: accounting.
        method: who drafts.
        acceptance: chance that a draft is accepted if those before it are.
        drafts: how many a step verifies.
        head_params: of `draft_model`.
    """
    model, hardware, partition, workload, gpus = records
    made = dataclasses.replace(
        workload,
        query_tokens=xp.asarray(drafts, float) + 1.0,
        tokens_per_step=accepted_tokens(acceptance, drafts),
    )
    if method == "ngram":
        return records._replace(workload=made)
    draft = draft_model(model, method, head_params)
    one = draft_seconds(draft, records, convention)
    weights, cache = draft_bytes(draft, records, convention)
    # Its cache is read by the draft alone: memory of the verifying step's sequences, no traffic.
    kept = weights + cache * xp.asarray(workload.batch)
    return Records(
        model,
        dataclasses.replace(hardware, reserve_bytes=xp.asarray(hardware.reserve_bytes) + kept),
        partition,
        dataclasses.replace(made, draft_time=xp.asarray(drafts) * one),
        gpus,
    )
