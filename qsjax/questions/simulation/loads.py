"""One design under several loads: the curve of latency against users or rate, and its end."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.feasibility import REASONS
from qsjax.engines.schedulers import Scheduler
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.questions.simulation.outcomes import Outcome, row_of
from qsjax.questions.simulation.serving import deploy, largest_rate, simulate, with_traffic
from qsjax.questions.simulation.traffic import Demand, Traffic, dealt, traffic_of
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Loads:
    """A design under loads.

    Attributes:
        rows: one for each load: `load`, `load_unit`, and the numbers of `row_of`.
        outcomes: of the attention replica that was simulated, in the same order.
        gpus: of the design.
        replicas: attention replicas of it.
        largest_rate: requests/s of the design when it never waits for any.
        notes: loads that it does not sustain, and what would.
    """

    rows: list[Row]
    outcomes: list[Outcome]
    gpus: float
    replicas: int
    largest_rate: float
    notes: tuple[str, ...]

    @property
    def requests(self) -> list[Row]:
        """One row for each simulated request of each load; times in s."""
        return [
            {
                "load": row["load"],
                "arrival": float(seen.arrival[at]),
                "isl": float(seen.traffic.prompt[at]),
                "osl": float(seen.traffic.output[at]),
                "first_token": float(seen.first[at]),
                "finish": float(seen.finish[at]),
                "is_measured": bool(seen.measured[at]),
            }
            for row, seen in zip(self.rows, self.outcomes, strict=True)
            for at in range(len(seen.arrival))
        ]


@on_host
def _step(records: Records, *, convention: Convention) -> StepCost:
    model, hardware, partition, workload, _ = records
    return decode_step(model, hardware, partition, workload, convention)


def gpus_of(records: Records, convention: Convention) -> float:
    """GPUs of a design.

    Raises:
        ValueError: it cannot run, with every reason.
    """
    work = dataclasses.replace(records.workload, context=1.0, batch=1.0)
    asked = records._replace(workload=work, gpus=None)
    plain = jax.tree.map(lambda x: np.asarray(x, np.float64), asked)
    step = _step(plain, convention=convention)
    bits = int(np.asarray(step.reasons))
    broken = [f"  {text}" for text, bit in REASONS.items() if bits & bit]
    if broken:
        hint = "`qsjax explain` says what is missing"
        raise ValueError("\n".join([f"the design cannot run ({hint}):", *broken]))
    return scalar(step.gpus)


def at_loads(
    records: Records,
    convention: Convention,
    scheduler: Scheduler,
    demand: Demand,
    *,
    users: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    ttft: float = math.inf,
    tpot: float = math.inf,
) -> Loads:
    """One design at several numbers of users, or rates of requests.

    Attention replicas (`dp`) are dealt equal shares; the one with the most users is simulated.

    Args:
        records: the design; context and batch of the workload are not looked at.
        convention: accounting.
        scheduler: rules of the engine.
        demand: lengths and number of the requests.
        users: requests in flight in the whole design.
        rates: requests/s to the whole design.
        ttft: limit that `attained` counts [s].
        tpot: limit on the mean time between the tokens of a request [s].

    Raises:
        ValueError: with everything that is out of range or cannot run.
    """
    if (users is None) == (rates is None):
        raise ValueError("give either users or rates, not both")
    dp = int(scalar(records.partition.dp))
    if users is not None:
        named = [(load, traffic_of(demand, users=load, replicas=dp)) for load in users]
    else:
        named = [(load, traffic_of(demand, rate=load, replicas=dp)) for load in rates or ()]
    unit = "users" if users is not None else "req/s"
    return _run(records, convention, scheduler, named, unit, ttft, tpot)


def at_trace(
    records: Records,
    convention: Convention,
    scheduler: Scheduler,
    trace: Traffic,
    *,
    ttft: float = math.inf,
    tpot: float = math.inf,
) -> Loads:
    """One design with the requests of a trace; arguments and errors as of `at_loads`."""
    dp = int(scalar(records.partition.dp))
    span = float(trace.arrival[-1])
    rate = len(trace.arrival) / span if span > 0 else math.inf
    one = dealt(trace, dp) if dp > 1 else trace
    return _run(records, convention, scheduler, [(rate, one)], "req/s", ttft, tpot)


def _run(
    records: Records,
    convention: Convention,
    scheduler: Scheduler,
    named: list[tuple[float, Traffic]],
    unit: str,
    ttft: float,
    tpot: float,
) -> Loads:
    gpus = gpus_of(records, convention)
    replicas = int(scalar(records.partition.dp))
    longest = max((work for _, work in named), key=lambda w: float(np.max(w.prompt + w.output)))
    one = deploy(records, convention, scheduler, longest)
    outcomes = simulate([with_traffic(one, work) for _, work in named])
    rows: list[Row] = [
        {"load": load, "load_unit": unit}
        | row_of(outcome, replicas=replicas, gpus=gpus, ttft=ttft, tpot=tpot)
        for (load, _), outcome in zip(named, outcomes, strict=True)
    ]
    most = replicas * largest_rate(one)
    notes = [
        f"{load:g} requests/s are more than the {most:.3g} that this design sustains: the queue "
        "grows without end, and its times say how long the run was; "
        f"{math.ceil(load / most)} of it would do."
        for load, _ in named
        if unit == "req/s" and most < load < math.inf
    ]
    return Loads(rows, outcomes, gpus, replicas, most, tuple(notes))
