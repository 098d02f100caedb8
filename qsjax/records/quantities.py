"""Unit and meaning of everything that has a name: fields of records, axes and metrics."""

from collections.abc import Mapping

from qsjax.records.fields import GPUS, POSITIVE, Facts, facts_of
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload

# Every number that a user may name as an axis.
FIELDS: Mapping[str, Facts] = {
    name: facts
    for record in (ModelSpec, HardwareSpec, Partition, Workload, Convention)
    for name, facts in facts_of(record).items()
} | {
    "q": Facts(meaning="quality-equivalence factor", rule=POSITIVE),
    "gpus": Facts(meaning="GPUs", rule=GPUS),
}

# Metrics of a step and of a grid; the parts of a step by the first part of their names.
_METRICS: Mapping[str, tuple[str, str]] = {
    "tpot": ("time per output token", "s"),
    "score": ("objective", "1"),
    "tokens_per_s": ("throughput", "tokens/s"),
    "tokens_per_s_per_gpu": ("throughput of a GPU", "tokens/s/GPU"),
    "tokens_per_s_per_user": ("speed for a user", "tokens/s/user"),
    "capacity_usable": ("usable memory of a GPU", "B"),
    "capacity_weights": ("weights of a GPU", "B"),
    "capacity_kv_per_sequence": ("cache of a sequence on a GPU", "B"),
    "capacity_max_batch": ("largest batch of a replica", "sequences"),
    "capacity_batch": ("batch of a replica", "sequences"),
    "microbatch": ("sequences of a microbatch", "sequences"),
    "t_bound": ("time before communication", "s"),
    "t_overhead": ("overheads of a stage", "s"),
    "t_stage": ("time of a stage", "s"),
    "t_p2p": ("time between stages", "s"),
    "usd_per_million_tokens": ("price of a million tokens", "USD/1M tokens"),
    "joules_per_token": ("energy of a token", "J/token"),
    "margin": ("lead of the best design over the next", "1"),
    "is_feasible": ("whether any design can run", "1"),
    "cells_feasible": ("designs that can run", "1"),
    "infeasible_reasons": ("designs that cannot run, by reason", "1"),
    "reasons": ("reasons why a design cannot run, as bits", "1"),
}
_PARTS: Mapping[str, tuple[str, str]] = {
    "term": ("part of the time per output token", "s"),
    "compute": ("arithmetic time", "s"),
    "hbm": ("HBM time", "s"),
    "comm": ("communication time", "s"),
    "exposed": ("seen communication time", "s"),
    "speedup": ("throughput of a GPU over that of the model", "1"),
}


def _described(name: str) -> tuple[str, str]:
    """Meaning and unit of a name; the name itself and "1" where nothing is known of it."""
    if name in FIELDS:
        return FIELDS[name].meaning, FIELDS[name].unit
    if name in _METRICS:
        return _METRICS[name]
    part, _, rest = name.partition("_")
    words = rest.replace("_", " ")
    if part in _PARTS:
        meaning, unit = _PARTS[part]
        return f"{meaning}: {words}", unit
    return name.replace("_", " "), "1"


def unit_of(name: str) -> str:
    """Unit of a field, axis or metric; 1 for shares, factors and counts.

    >>> unit_of("hbm_bw"), unit_of("tpot"), unit_of("term_hbm_kv"), unit_of("q")
    ('B/s', 's', 's', '1')
    """
    return _described(name)[1]


def long_name_of(name: str) -> str:
    """What a field, axis or metric is, as the label of an axis.

    >>> long_name_of("hbm_bw"), long_name_of("exposed_tp")
    ('HBM bandwidth', 'seen communication time: tp')
    """
    return _described(name)[0]
