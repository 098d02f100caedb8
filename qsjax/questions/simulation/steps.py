"""Seconds of any engine step as three tables: decode, linear part of a pass, prompt attention.

The laws are evaluated once for each deployment, at knots of tokens and of contexts; a simulated
step is then a few interpolations. A step without prompts costs what the decode law says of its
sequences at their mean context. A step with prompts reads its weights once: it costs the linear
part of a prefill pass over all of its tokens, the attention of its chunks, and what the context
adds to the decoding sequences in it. Formulas and errors: docs/guides/simulation.md.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.engines.schedulers import Scheduler
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.jaxpr import host_unless_traced
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import is_traced
from qsjax.records.specs import Convention, Records

# Knots of tokens or sequences, two in every doubling, and of contexts, one in every doubling.
PER_OCTAVE = 2
TOKEN_KNOTS = 2.0 ** (np.arange(2 * 18 + 1) / PER_OCTAVE)  # to 262,144 tokens of a step
LENGTH_KNOTS = 2.0 ** (np.arange(2 * 22 + 1) / PER_OCTAVE)  # to 4,194,304 tokens of a prompt
UNBOUNDED = 1e9  # sequences where nothing bounds them
CONTEXT_KNOTS = 2.0 ** np.arange(4, 23)  # 16 to 4,194,304 tokens


class StepTable(NamedTuple):
    """What steps of deployments cost; a leading axis, if any, counts deployments.

    Attributes:
        decode: a decode step at TOKEN_KNOTS sequences and CONTEXT_KNOTS mean context [s].
        linear: a pass over TOKEN_KNOTS prompt tokens without the attention among them [s].
        attention: attention of a prompt of LENGTH_KNOTS tokens, for each of its tokens [s].
        query_tokens: tokens of a decoding sequence in a step.
        tokens_per_step: of them accepted.
        stages: pipeline stages; each holds a microbatch of its own.
        cache: tokens of cache of an attention replica.
        cache_each: what a sequence holds whatever its length, in tokens of cache.
        states: sequences whose recurrent states have room, where these have a pool of their own.
    """

    decode: Array
    linear: Array
    attention: Array
    query_tokens: Array
    tokens_per_step: Array
    stages: Array
    cache: Array
    cache_each: Array
    states: Array


class _Laws(NamedTuple):
    """What the laws say at the knots."""

    step: Array
    usable: Array
    weights: Array
    held: Array


@host_unless_traced
def _decode(records: Records, *, convention: Convention) -> _Laws:
    step = decode_step(records._replace(gpus=None), convention)
    cap, made = step.capacity, records.workload.tokens_per_step
    return _Laws(step.tpot * made, cap.usable, cap.weights, cap.kv_per_sequence)


@host_unless_traced
def _prefill(records: Records, prompt: ArrayLike, *, convention: Convention) -> tuple[Array, Array]:
    """A pass over one prompt, and the attention of a stage in it [s]."""
    cost = prefill_step(records, convention, Prompts(prompt))
    return cost.ttft, xp.maximum(cost.compute.attention, cost.hbm.attention)


def _ahead(tree: Records, axes: int) -> Records:
    """The records with so many axes behind those of their fields."""
    return jax.tree.map(lambda x: x[(..., *(None,) * axes)] if x.ndim else x, tree)


def _knots(values: np.ndarray, axes: int, designs: int) -> np.ndarray:
    """Values along the last but `axes` axis, behind the axes of the designs."""
    return values[(None,) * designs + (slice(None),) + (None,) * axes]


def step_table(
    records: Records,
    convention: Convention,
    lengths: tuple[float, float],
    rules: Scheduler = Scheduler(),  # noqa: B008  # frozen
) -> StepTable:
    """The tables of deployments, whose fields are scalars or have one axis, or are traced.

    Args:
        records: deployments; context and batch of the workload are not looked at.
        convention: accounting.
        lengths: a usual and the longest context [tokens]; the cache of a sequence is taken to be
            linear between them.
        rules: of the engine: its blocks of cache.
    """
    by = jnp if is_traced(records) else np
    work = dataclasses.replace(records.workload, context=1.0, batch=1.0, kv_block=1.0)
    plain = records._replace(gpus=None, workload=work)
    plain = jax.tree.map(lambda x: by.asarray(x, float), plain)
    designs = max((x.ndim for x in jax.tree.leaves(plain)), default=0)
    many = _ahead(plain, 2)
    workload = dataclasses.replace(
        many.workload,
        context=_knots(CONTEXT_KNOTS, 0, designs + 1),
        batch=_knots(TOKEN_KNOTS, 1, designs),
    )
    laws = _decode(many._replace(workload=workload), convention=convention)
    shape = np.broadcast_shapes(*(np.shape(x) for x in jax.tree.leaves(plain)))
    decode = by.broadcast_to(laws.step, (*shape, len(TOKEN_KNOTS), len(CONTEXT_KNOTS)))
    one = _ahead(plain, 1)
    long, attention = _prefill(one, _knots(LENGTH_KNOTS, 0, designs), convention=convention)
    passes, looks = (by.broadcast_to(x, (*shape, len(LENGTH_KNOTS))) for x in (long, attention))
    linear = (passes - one.partition.pp * looks)[..., : len(TOKEN_KNOTS)]
    cache, each, states = _cache(by, plain, convention, lengths, rules, shape)
    query, made, stages = (
        by.broadcast_to(x, shape)
        for x in (plain.workload.query_tokens, plain.workload.tokens_per_step, plain.partition.pp)
    )
    # Half a block of each sequence is empty on average.
    each = each + 0.5 * (by.asarray(rules.block) - 1.0)
    attention = looks / LENGTH_KNOTS
    return StepTable(decode, linear, attention, query, made, stages, cache, each, states)


def _cache(
    by: Any,
    plain: Records,
    convention: Convention,
    lengths: tuple[float, float],
    rules: Scheduler,
    shape: tuple[int, ...],
) -> tuple[Any, Any, Any]:
    """Cache of a replica, what a sequence holds whatever its length [tokens], and `states`."""
    low, high = max(1.0, lengths[0]), max(lengths[1], 2.0 * max(1.0, lengths[0]))
    held = []
    for length in (low, high, 0.0):
        work = dataclasses.replace(plain.workload, context=by.asarray(length, float))
        laws = _decode(plain._replace(workload=work), convention=convention)
        held.append(by.broadcast_to(laws.held, shape))
    free = by.maximum(by.broadcast_to(laws.usable - laws.weights, shape), 0.0)
    # A model without a growing cache: its state counts, and a token counts next to nothing.
    slope = by.maximum((held[1] - held[0]) / (high - low), 1e-6 * held[1] / high)
    pooled = by.where(by.asarray(plain.model.linear_layers) > 0, rules.state_share, 0.0)
    state = by.maximum(held[2], 1.0)
    states = by.where(pooled > 0, pooled * free / (rules.state_slots * state), UNBOUNDED)
    each = by.maximum(held[0] - by.where(pooled > 0, held[2], 0.0) - slope * low, 0.0)
    return (1.0 - pooled) * free / slope, each / slope, by.maximum(by.floor(states), 1.0)


def _between(position: Array, count: int) -> tuple[Array, Array]:
    """The knot below a position on a logarithmic axis, one that has a knot above it."""
    at = jax.lax.stop_gradient(jnp.clip(jnp.floor(position), 0.0, count - 2.0)).astype(jnp.int32)
    return at, at + jnp.int32(1)


def _linear(x: Array, low: Array, high: Array, y: Array, z: Array) -> Array:
    """The line through (low, y) and (high, z) at x."""
    return y + (z - y) * ((x - low) / (high - low))


def interpolate(values: Array, x: Array) -> Array:
    """A table over powers of sqrt(2) at x >= 1, linear between knots and beyond the last two."""
    low, high = _between(PER_OCTAVE * jnp.log2(jnp.maximum(x, 1.0)) + 1e-12, values.shape[-1])
    left, right = (jnp.exp2(at.astype(x.dtype) / PER_OCTAVE) for at in (low, high))
    return _linear(x, left, right, values[low], values[high])


def context_segment(context: Array) -> tuple[Array, Array]:
    """Index of the knot of contexts below, and the next knot [tokens]."""
    first = float(np.log2(CONTEXT_KNOTS[0]))
    position = jnp.log2(jnp.maximum(context, 1.0)) - first + 1e-12
    low, high = _between(position, len(CONTEXT_KNOTS))
    last = high == len(CONTEXT_KNOTS) - 1
    return low, jnp.where(last, jnp.inf, jnp.exp2(high.astype(context.dtype) + first))


def decode_line(table: StepTable, sequences: Array, low: Array) -> tuple[Array, Array, Array]:
    """A decode step as a line over the mean context, from knot `low` to the next one.

    Returns:
        Seconds at the shortest knot, seconds at context 0 of the line, and seconds per token.
    """
    count = table.decode.shape[-2]
    below, above = _between(PER_OCTAVE * jnp.log2(jnp.maximum(sequences, 1.0)) + 1e-12, count)
    left, right = (jnp.exp2(at.astype(sequences.dtype) / PER_OCTAVE) for at in (below, above))

    def at(context: Array) -> Array:
        y, z = table.decode[below, context], table.decode[above, context]
        return _linear(sequences, left, right, y, z)

    first = CONTEXT_KNOTS[0] * jnp.exp2(low.astype(sequences.dtype))
    start, end = at(low), at(low + jnp.int32(1))
    slope = (end - start) / first  # knots double: the next one is as far away as this one is long
    return at(jnp.int32(0)), start - slope * first, slope


def prompt_attention(table: StepTable, done: Array) -> Array:
    """Attention of the first `done` tokens of a prompt in one stage [s]; 0 for none."""
    return done * interpolate(table.attention, jnp.maximum(done, 1.0))
