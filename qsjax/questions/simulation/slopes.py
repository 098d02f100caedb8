"""How latency and throughput follow from numbers of the accelerator: exact between events."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.engines.schedulers import Scheduler
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array
from qsjax.questions.simulation.events import scan, start, times_of
from qsjax.questions.simulation.serving import deploy, lengths_of, room_of, simulate
from qsjax.questions.simulation.steps import step_table
from qsjax.questions.simulation.traffic import Traffic
from qsjax.records.specs import Convention, Records

MEANS = ("ttft", "tpot", "e2e", "requests_per_s")


def elasticities(
    records: Records,
    convention: Convention,
    scheduler: Scheduler,
    traffic: Traffic,
    fields: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Per cent by which the means change for one per cent of each field of the hardware [1].

    Means are over all requests: `ttft`, `tpot`, `e2e`, and `requests_per_s` until the last answer.
    Derivatives hold the schedule: who shares a step with whom. In a closed loop of equal lengths
    they are those of finite differences; where arrivals by the clock meet steps, a change of the
    hardware also moves requests from one step to the next, which is a jump and not in them.

    Args:
        records: the design, all scalars.
        convention: accounting.
        scheduler: rules of the engine.
        traffic: requests of an attention replica.
        fields: of the hardware, such as "hbm_bw".

    Returns:
        For each mean, d(ln mean)/d(ln field) by field.
    """
    one = deploy(records, convention, scheduler, traffic)
    work = jax.tree.map(lambda x: np.asarray(x)[None], traffic)
    events = len(simulate([one])[0].steps.now) + 2 * len(traffic.arrival) + 1

    def log_means(logs: dict[str, Any]) -> dict[str, Array]:
        hardware = dataclasses.replace(records.hardware, **jax.tree.map(jnp.exp, logs))
        changed = records._replace(hardware=hardware)
        table = step_table(changed, convention, lengths_of(traffic), scheduler)
        lanes = jax.tree.map(lambda x: jnp.asarray(x, float)[None], one._replace(table=table))
        _, seen = scan(lanes, start(room_of(one).slots, work), events)
        arrival, first, finish = (x[0] for x in times_of(lanes.traffic, seen))
        gaps = (finish - first) / jnp.maximum(jnp.asarray(traffic.output) - 1.0, 1.0)
        means = ((first - arrival).mean(), gaps.mean(), (finish - arrival).mean())
        rate = len(arrival) / jnp.max(finish)
        return dict(zip(MEANS, map(jnp.log, (*means, rate)), strict=True))

    at = {name: jnp.log(jnp.asarray(getattr(records.hardware, name), float)) for name in fields}
    return jax.tree.map(float, jax.jit(jax.jacfwd(log_means))(at))
