"""Prefixes of prompts that come again: their cache kept in HBM, loaded from a tier, or recomputed.

Of a prompt a share was seen before. Where its cache is still there, prefill runs the rest alone.
What it takes to keep it follows Little's law: prefixes kept are the rate of requests times the time
until a prefix comes again. Formulas: docs/concepts/cost-model.md, section "Prefixes and tiers".
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from qsjax.cost.decode import decode_step
from qsjax.cost.laws.memory import kv_bytes_per_sequence
from qsjax.cost.prefill import PrefillCost, Prompts, prefill_step
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.checks import value_problem
from qsjax.records.conversion import as_float64
from qsjax.records.fields import AT_LEAST_ONE, SHARE, number
from qsjax.records.specs import Convention, Records

# Fields `NAME_bytes`, `NAME_bw` and `NAME_latency` of `HardwareSpec` say what a tier is.
TIERS = ("host", "ssd", "remote")
PLACES = ("recompute", "hbm", *TIERS)


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Requests whose prompts begin with what was seen before."""

    isl: ArrayLike = number("input tokens of a request", "tokens", AT_LEAST_ONE, 8192.0)
    osl: ArrayLike = number("output tokens of a request", "tokens", AT_LEAST_ONE, 512.0)
    prefix_hit_rate: ArrayLike = number(
        "share of a prompt that was seen before", rule=SHARE, default=0.5
    )
    reuse_interval: ArrayLike = number(
        "time from an answer to the next prompt with its prefix", "s", default=60.0
    )


class PrefixCost(NamedTuple):
    """Serving with the cache of prefixes in one place.

    Attributes:
        kept: cache of a prefix on each GPU [B].
        load: time that the links take to bring it to its GPUs [s]; 0 where it is in HBM.
        pays_from: bandwidth of the tier from which a load takes less than computing it again [B/s];
            infinite where no bandwidth is enough, 0 for what is no tier.
        holds_for: longest reuse interval at which every prefix is still there [s].
        found: share of the prefixes that are still there.
        prefixes: prefixes for which an attention replica would need room: its rate of requests
            times the reuse interval.
        ttft: mean time to first token, without queueing [s].
        ttft_found: of a request whose prefix is there [s].
        seconds: time of an attention replica that a request takes, prompt and answer [s].
        tokens_per_s_per_gpu: output tokens, prompts served too.
    """

    kept: Array
    load: Array
    pays_from: Array
    holds_for: Array
    found: Array
    prefixes: Array
    ttft: Array
    ttft_found: Array
    seconds: Array
    tokens_per_s_per_gpu: Array


def cached_tokens(isl: ArrayLike, prefix_hit_rate: ArrayLike) -> Array:
    """Tokens of a prompt that need not be computed: the last one always is.

    >>> float(cached_tokens(1000.0, 0.75)), float(cached_tokens(1000.0, 1.0))
    (750.0, 999.0)
    """
    isl = xp.asarray(isl)
    return xp.minimum(isl * prefix_hit_rate, isl - 1.0)


def requests_of(given: Any) -> tuple[float, float] | None:
    """Input and output tokens of a request ("8k" is 8,192), or None where none is given.

    Raises:
        ValueError: it is no pair of numbers of at least 1.
    """
    if given is None:
        return None
    if not (isinstance(given, Sequence) and len(given) == 2) or isinstance(given, str):
        raise ValueError(
            f"requests: {given!r} is not allowed; give input and output tokens, as (4096, 1024)"
        )
    for name, tokens in zip(("input", "output"), given, strict=True):
        if problem := value_problem(AT_LEAST_ONE, tokens):
            raise ValueError(f"requests: {name}: {problem}")
    return float(as_float64(given[0])), float(as_float64(given[1]))


def mean_context(isl: float, osl: float) -> float:
    """The context of a decode step in the mean, the input and half the output [tokens]."""
    return float(int(isl + 0.5 * osl))


def cached_of(requests: tuple[float, float] | None, prefix_hit_rate: float) -> float:
    """Tokens of a prompt whose cache is there already.

    Raises:
        ValueError: the rate is no share, or says something of requests that were not given.
    """
    problem = value_problem(SHARE, prefix_hit_rate)
    if problem is None and prefix_hit_rate and requests is None:
        problem = "of which prompts? give the lengths of requests (--isl and --osl) too"
    if problem is not None:
        raise ValueError(f"prefix_hit_rate: {problem}")
    return 0.0 if requests is None else float(_on_host(requests[0], prefix_hit_rate))


_on_host = on_host(cached_tokens)


def exposed_load(load: ArrayLike, computing: ArrayLike, layers: ArrayLike) -> Array:
    """What loading a cache adds to the computation of the rest, layer by layer [s].

    Layer i + 1 is loaded while layer i runs: two stages of a pipeline, of which the longer one sets
    the pace and the shorter one is seen in one layer.

    Args:
        load: of all layers of a stage.
        computing: of the same layers.
        layers: how many.

    >>> float(exposed_load(3.0, 1.0, 10.0))  # 1/10 + 3 instead of 1
    2.1
    """
    load, computing = xp.asarray(load), xp.asarray(computing)
    return xp.maximum(load - computing, 0.0) + xp.minimum(load, computing) / layers


def _load_that_pays(saved: Array, computing: Array, layers: Array) -> Array:
    """The load that adds `saved` seconds: the inverse of `exposed_load`; 0 where none does."""
    hidden = saved * layers
    seen = saved + computing * (1.0 - 1.0 / layers)
    return xp.maximum(xp.where(hidden <= computing, hidden, seen), 0.0)


def _shared(
    hit: Array, miss: Array, room: Array, kept: Array, interval: ArrayLike
) -> tuple[Array, Array]:
    """Mean time of a request, and the share of prefixes found, where a replica has so much room.

    N = interval / seconds prefixes are in use and room / kept fit. Of equally popular ones, asked
    for by chance, the share that fits is found whatever is thrown out: found = room / (kept N), at
    most 1. With seconds = miss - found (miss - hit) that is one linear equation.
    """
    needed = kept * interval
    fits = room * hit >= needed
    whole = xp.where(fits, 1.0, needed + room * (miss - hit))
    part = miss * needed / whole
    found = room * part / xp.where(fits, 1.0, needed)
    return xp.where(fits, hit, part), xp.where(fits, 1.0, found)


def _of_prompt(read: PrefillCost, isl: ArrayLike, dp: ArrayLike) -> Array:
    """Time between two prompts of an attention replica whose stages are kept busy [s]."""
    return xp.asarray(dp) * isl / read.tokens_per_s


class _Request(NamedTuple):
    """A request on an attention replica, whatever is done with its prefix.

    Attributes:
        full: prefill of the whole prompt.
        rest: prefill of what was not seen before.
        decode: its share of the decode steps [s].
        again: time between two whole prompts [s].
        new: time between two of which the prefix is there [s].
        kept: cache of the prefix on each GPU [B].
        layers: of a stage.
        interval: time until the prefix comes again [s].
    """

    full: PrefillCost
    rest: PrefillCost
    decode: Array
    again: Array
    new: Array
    kept: Array
    layers: Array
    interval: Array

    def in_place(self, room: Array, speed: Array, latency: ArrayLike, tokens: Array) -> PrefixCost:
        """Its cost where there is `room` for prefixes, which come with `speed`.

        Args:
            room: on each GPU [B].
            speed: reached bandwidth from there to a GPU [B/s].
            latency: of a load [s].
            tokens: output tokens over the GPUs of a replica.
        """
        load, has_prefix = self.kept / speed, self.kept > 0
        extra = latency + exposed_load(load, self.new, self.layers)
        extra = xp.where(has_prefix, extra, 0.0)
        hit, miss = self.decode + self.new + extra, self.decode + self.again
        seconds, found = _shared(hit, miss, room, self.kept, self.interval)
        first = self.rest.ttft + extra
        held = room * hit / xp.where(has_prefix, self.kept, 1.0)
        return PrefixCost(
            kept=self.kept,
            load=load,
            pays_from=xp.zeros(()),
            holds_for=xp.where(has_prefix, held, xp.inf),
            found=found,
            prefixes=self.interval / seconds,
            ttft=found * first + (1.0 - found) * self.full.ttft,
            ttft_found=first,
            seconds=seconds,
            tokens_per_s_per_gpu=tokens / seconds,
        )

    def pays_from(self, latency: ArrayLike, efficiency: ArrayLike) -> Array:
        """Bandwidth from which a load adds less than computing the prefix again takes [B/s]."""
        most = _load_that_pays(self.again - self.new - latency, self.new, self.layers)
        least = self.kept / (xp.where(most > 0, most, 1.0) * efficiency)
        return xp.where(most > 0, least, xp.inf)


def prefix_costs(records: Records, convention: Convention, reuse: Reuse) -> dict[str, PrefixCost]:
    """Serving with prefixes in each of `PLACES`.

    Pure and unchecked, and broadcasting like `decode_step`. In a tier without capacity or bandwidth
    nothing is found. A request takes its share of the decode steps and its prefill one after the
    other, as if each had its GPUs, and prompts are read one by one; its load holds up its prefill.
    Writes to a tier go the other way, behind the computation, and are not counted. Requests come to
    the replica that has their prefix. Each GPU keeps and loads what it holds of a cache, copies
    among ranks too.

    Args:
        records: the design with its batch; its context is that of the requests.
        convention: accounting.
        reuse: the requests.
    """
    model, chip, part, workload, _ = records
    isl, cached = xp.asarray(reuse.isl), cached_tokens(reuse.isl, reuse.prefix_hit_rate)
    work = dataclasses.replace(workload, context=isl + 0.5 * xp.asarray(reuse.osl))
    design = Records(model, chip, part, work)
    step = decode_step(design, convention)
    full = prefill_step(design, convention, Prompts(isl))
    rest = prefill_step(design, convention, Prompts(isl, cached=cached))
    cap = step.capacity
    length = xp.where(cached > 0, cached, 1.0)  # in one block: parts of a token count
    prefix = dataclasses.replace(work, context=length, kv_block=length)
    kept = kv_bytes_per_sequence(model, part, prefix, convention)
    request = _Request(
        full=full,
        rest=rest,
        decode=xp.asarray(reuse.osl) * step.tpot / cap.batch,
        again=_of_prompt(full, isl, part.dp),
        new=_of_prompt(rest, isl, part.dp),
        kept=xp.where(cached > 0, kept, 0.0),
        layers=xp.asarray(model.layers) / part.pp,
        interval=xp.asarray(reuse.reuse_interval),
    )
    tokens = xp.asarray(reuse.osl) / (xp.asarray(part.tp) * part.pp * part.kvp)
    free = cap.usable - cap.weights - cap.batch * cap.kv_per_sequence
    endless = xp.full((), xp.inf)
    kept_in_hbm = request.in_place(xp.maximum(free, 0.0), endless, 0.0, tokens)
    seconds = request.decode + request.again
    again = kept_in_hbm._replace(
        holds_for=xp.zeros(()),
        found=xp.zeros(()),
        prefixes=request.interval / seconds,
        ttft=full.ttft,
        seconds=seconds,
        tokens_per_s_per_gpu=tokens / seconds,
    )
    by_place = {"recompute": again, "hbm": kept_in_hbm}
    for name in TIERS:
        room, speed, latency = (
            xp.asarray(getattr(chip, f"{name}_{what}")) for what in ("bytes", "bw", "latency")
        )
        exists = (room > 0) & (speed > 0)
        speed = xp.where(exists, speed * chip.eff_tier, 1.0)
        cost = request.in_place(xp.where(exists, room, 0.0), speed, latency, tokens)
        by_place[name] = cost._replace(pays_from=request.pays_from(latency, chip.eff_tier))
    return by_place
