"""How latency and throughput follow from numbers of the accelerator: exact between events."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.engines.schedulers import Scheduler
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array
from qsjax.questions.simulation import events
from qsjax.questions.simulation.serving import deploy, simulate, slots_of
from qsjax.questions.simulation.steps import step_table
from qsjax.questions.simulation.traffic import Traffic
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention

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
    steps = simulate([one])[0]
    length = int(2 ** np.ceil(np.log2(len(steps.steps.now) + 2 * len(traffic.arrival) + 1)))
    lengths = (float(np.mean(traffic.prompt)), float(np.max(traffic.prompt + traffic.output)))

    def means(values: list[Array]) -> tuple[Array, Array]:
        changed: dict[str, Any] = dict(zip(fields, values, strict=True))
        hardware = dataclasses.replace(records.hardware, **changed)
        table = step_table(
            records._replace(hardware=hardware), convention, lengths, scheduler, traced=True
        )
        lanes = jax.tree.map(
            lambda x: jnp.asarray(x, float)[None], events.Lane(table, scheduler, traffic)
        )
        times = events.latencies(lanes, slots=slots_of(one), iterations=length)
        first, finish, arrival = (x[0] for x in (times.first, times.finish, times.arrival))
        gaps = (finish - first) / jnp.maximum(jnp.asarray(traffic.output) - 1.0, 1.0)
        rate = len(traffic.arrival) / jnp.max(finish)
        waits = [(first - arrival).mean(), gaps.mean(), (finish - arrival).mean(), rate]
        return (stacked := jnp.stack(waits)), stacked

    at = [jnp.asarray(getattr(records.hardware, name), float) for name in fields]
    slopes, value = jax.jit(jax.jacfwd(means, has_aux=True))(at)
    return {
        mean: {
            name: float(slope[row] * x / value[row])
            for name, slope, x in zip(fields, slopes, at, strict=True)
        }
        for row, mean in enumerate(MEANS)
    }
