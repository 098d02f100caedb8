"""Disaggregated serving: the fewest GPUs of prefill and of decode, of different kinds if wanted.

Two pools, each sized by `sizing.size`: on the one prompts with an answer of one token, on the other
answers to prompts whose cache is there already. Between them every GPU of a decode replica fetches
its share of a prompt's cache through its own adapter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsjax.cost.laws.memory import kv_bytes_per_sequence
from qsjax.grid.problem import Problem, fixed_question
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.output import words
from qsjax.output.result import Result, Row, Table
from qsjax.questions.simulation.loads import number_of, read_demand
from qsjax.questions.simulation.sizing import (
    REPLICA_GPUS,
    SERVED,
    Sizing,
    sentences,
    size,
    table_of,
)
from qsjax.questions.simulation.traffic import Demand, draw_lengths
from qsjax.records.specs import Convention, HardwareSpec, Records


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class PoolSizes(Result):
    """The fewest GPUs of each of two pools.

    Attributes:
        problem: what is asked of decode.
        prefill: the pool that reads prompts.
        decode: the pool that answers.
        transfer: time of a mean prompt's cache from one pool to the other [s]; 0 where no number
            of GPUs decodes.
    """

    problem: Problem
    prefill: Sizing
    decode: Sizing
    transfer: float

    stem = "size"
    index = ("pool",)

    def lengths(self) -> list[float]:
        """The longest request [tokens]."""
        return self.decode.lengths()

    def rows(self) -> list[Row]:
        """One row for each pool; price and energy are those of its own tokens."""
        pools = {"prefill": self.prefill, "decode": self.decode}
        return [{"pool": name, **pool.rows()[0]} for name, pool in pools.items()]

    def tables(self) -> list[Table]:
        """Both pools; what tokens cost is told of them together."""
        return [table_of(self.rows(), ("pool", "model", "hardware"), SERVED)]

    def totals(self) -> Row:
        """GPUs, price and energy of both pools for each output token; None where not known."""
        rows = self.rows()
        totals: Row = {"gpus": None, "transfer": self.transfer}
        served = all(row["gpus"] is not None for row in rows)
        if served:
            totals["gpus"] = sum(row["gpus"] for row in rows)
        for name in ("usd_per_million_tokens", "joules_per_token"):
            known = served and all(row[name] is not None for row in rows)
            # A prompt's pool makes one token of each answer; all are paid by those of decode.
            spent = sum(row[name] * row["tokens_per_s"] for row in rows) if known else 0.0
            totals[name] = spent / rows[1]["tokens_per_s"] if known else None
        return totals

    def summary(self) -> str:
        """How many GPUs of each pool serve, and what all of them cost."""
        total = self.totals()
        lines = [
            f"{name.capitalize()}: " + "\n".join(sentences(row, pool.target, pool=name))
            for name, pool in (("prefill", self.prefill), ("decode", self.decode))
            for row in pool.rows()
        ]
        if total["gpus"] is None:
            return "\n".join(lines)
        price, energy = total["usd_per_million_tokens"], total["joules_per_token"]
        cost = "no price known" if price is None else f"{price:,.2f} USD per million output tokens"
        cost += "" if energy is None else f", {energy:,.2f} J per output token"
        first = (
            f"{words.count(total['gpus'], 'GPU')} in all: {cost}, both pools included; the cache "
            f"of a prompt takes {words.milliseconds(self.transfer)} from one to the other."
        )
        return "\n".join([first, *lines])

    def record(self) -> Row:
        """Rows and totals."""
        return Result.record(self) | {"totals": self.totals()}

    def inputs(self) -> Row:
        """The problem, the accelerator of prefill, and the requests."""
        (device,) = self.prefill.problem.stated.accelerators
        return Result.inputs(self) | self.decode.asked | {"prefill_hardware": device.name}


@on_host
def _transfer(
    records: Records, reading: HardwareSpec, prompt: ArrayLike, *, convention: Convention
) -> Array:
    model, hardware, partition, workload, _ = records
    work = dataclasses.replace(workload, context=prompt)
    held = kv_bytes_per_sequence(model, partition, work, convention)
    slower = xp.minimum(
        xp.asarray(hardware.inter_bw) * hardware.eff_link,
        xp.asarray(reading.inter_bw) * reading.eff_link,
    )
    return held / slower + hardware.inter_latency


def _moved(decode: Sizing, reading: Problem, isl: str | float) -> float:
    """Time of a mean prompt's cache between the pools [s]; 0 where nothing decodes."""
    option = decode.sized[0].option
    if option is None:
        return 0.0
    device = reading.stated.accelerators[0].spec
    prompt = float(np.mean(draw_lengths(isl, 1000, np.random.default_rng(0))))
    records, rules = option.records._replace(gpus=None), reading.stated.rules
    return float(_transfer(records, device, prompt, convention=rules))


def _reading(problem: Problem, prefill: Any) -> Problem:
    """The problem on the accelerator of prefill.

    Raises:
        ValueError: there are several models or accelerators.
    """
    stated = problem.stated
    if len(stated.models) * len(stated.accelerators) != 1:
        raise ValueError("pools are sized for one model on one accelerator each; give one of each")
    device = stated.accelerators[0].spec if prefill is None else prefill
    reading = dataclasses.replace(problem, hardware=device)
    if len(reading.stated.accelerators) != 1:
        raise ValueError("prefill: give one accelerator")
    return reading


def _check_requests(isl: Any, osl: Any) -> None:
    """Raise `ValueError` where lengths are missing or nothing decodes."""
    read_demand(Demand(isl, osl))
    if np.max(draw_lengths(osl, 1000, np.random.default_rng(0))) <= 1:
        raise ValueError("osl: one token comes with the prompt, and nothing decodes; give more")


@fixed_question("looks for the fewest GPUs")
def size_apart(
    problem: Problem,
    prefill: Any = None,
    *,
    rate: float,
    isl: str | float | None = None,
    osl: str | float | None = None,
    ttft: float | str = float("inf"),
    tpot: float | str = float("inf"),
    quantile: float = 0.95,
    replica_gpus: Sequence[int] = REPLICA_GPUS,
    seed: int = 0,
    scheduler: Mapping[str, ArrayLike] | None = None,
) -> PoolSizes:
    """The fewest GPUs that serve a rate of requests with prefill and decode on GPUs of their own.

    The prefill pool must keep TTFT less the time of the transfer, the decode pool TPOT. Both are
    whole replicas, simulated request by request.

    Args:
        problem: one model on one accelerator, which decodes.
        prefill: the accelerator that reads prompts; the same if None.
        rate: mean arrival rate, at random times (Poisson) [requests/s].
        isl: input tokens of a request, as for `size`.
        osl: output tokens, more than 1.
        ttft: longest time to first token, transfer included [s].
        tpot: longest mean time between the tokens of a request [s].
        quantile: share of the requests that must keep each limit.
        replica_gpus: sizes of a replica that are tried, in both pools.
        seed: seed of lengths and arrivals.
        scheduler: rules in place of those of the problem's engine, or vLLM's, by name.

    Raises:
        ValueError: with everything that is out of range; the limit of TTFT is shorter than the
            transfer.
    """
    _check_requests(isl, osl)
    reading = _reading(problem, prefill)
    shared: dict[str, Any] = {
        "rate": rate,
        "isl": isl,
        "quantile": quantile,
        "seed": seed,
        "replica_gpus": replica_gpus,
    }
    rules = dict(scheduler or {})
    # The request has passed the front end when its cache arrives, all but its last token's.
    received = {"frontend": 0.0, **rules}
    decode = size(problem, osl=osl, tpot=tpot, prefix_hit_rate=1.0, scheduler=received, **shared)
    moved, ttft = _moved(decode, reading, isl or 1), number_of("ttft", ttft, unit="s")
    if moved >= ttft:
        raise ValueError(
            f"ttft: {ttft:g} s is over before the cache of a prompt has moved, which takes "
            f"{moved:.3g} s; give a longer one, or accelerators with a faster network"
        )
    reading_pool = size(reading, osl=1, ttft=ttft - moved, scheduler=rules, **shared)
    return PoolSizes(problem, reading_pool, decode, moved)
