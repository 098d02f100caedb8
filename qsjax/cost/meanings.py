"""Unit and meaning of everything that a result names: fields, axes, metrics, parts of a step."""

from collections.abc import Mapping
from typing import NamedTuple

from qsjax.cost.metrics import METRICS
from qsjax.cost.prefix import Reuse
from qsjax.records.fields import facts_of
from qsjax.records.specs import FIELDS


class Meaning(NamedTuple):
    """What a named array holds, in a few words, and its unit."""

    long_name: str
    units: str = "1"


_OTHERS: Mapping[str, Meaning] = {
    # Groups of fields that are scaled together.
    "flops": Meaning("arithmetic rate"),
    "link_bw": Meaning("link bandwidth"),
    "latency": Meaning("latency of links"),
    "overhead": Meaning("overheads"),
    "score": Meaning("objective"),
    "model": Meaning("model"),
    "hardware": Meaning("accelerator"),
    "variant": Meaning("the model or its dense twin"),
    "reason": Meaning("reason why a design cannot run"),
    "batch": Meaning("sequences of an attention replica", "sequences"),
    "users": Meaning("sequences of all replicas together", "sequences"),
    "replicas": Meaning("independent copies of the deployment"),
    "kv_mode": Meaning("KV parallelism: none (0), Helix (1, kvp), context-parallel ring (2, cp)"),
    "margin": Meaning("winner's objective over the runner-up's, less 1"),
    "cells_feasible": Meaning("designs that run and keep the limits"),
    "is_feasible": Meaning("whether any design runs and keeps the limits"),
    "infeasible_reasons": Meaning("designs with each reason"),
    "reasons": Meaning("reasons why a design cannot run, as bits"),
    "bound_by": Meaning("resource with the largest part of TPOT"),
    "tpot_low": Meaning("time per output token, low end of its interval", "s"),
    "tpot_high": Meaning("time per output token, high end of its interval", "s"),
    "tokens_per_s_per_gpu_low": Meaning("throughput of each GPU, low end", "tokens/s/GPU"),
    "tokens_per_s_per_gpu_high": Meaning("throughput of each GPU, high end", "tokens/s/GPU"),
    "chance_over_moe": Meaning("probability of more tokens/s/GPU than the MoE"),
    "speedup_over_moe": Meaning("throughput of each GPU over that of the MoE"),
    "point": Meaning("place on the front, by falling interactivity"),
    "share": Meaning("part of TPOT that the parameter accounts for"),
    "elasticity": Meaning("d log metric / d log parameter"),
    "chance": Meaning("probability of more tokens/s/GPU than the first subject"),
    "is_sure": Meaning("whether the difference is larger than the error"),
    "wait": Meaning("longer than without prompts", "s"),
    "second": Meaning("d2 log metric / (d log parameter d log other)"),
    "other": Meaning("parameter of the second derivative"),
    "elasticity_usd_per_million_tokens": Meaning("d log price of a token / d log parameter"),
    "elasticity_joules_per_token": Meaning("d log energy of a token / d log parameter"),
    "amplification": Meaning("% of throughput for 1 % of TPOT at the same interactivity"),
    "tpot_limit": Meaning("longest time per output token", "s"),
    "winner": Meaning("side that wins with the largest probability"),
    "tokens_per_s_per_gpu_moe": Meaning("throughput of each GPU, MoE", "tokens/s/GPU"),
    "speedup_low": Meaning("throughput over that of the MoE, q at its 95 % quantile"),
    "speedup_high": Meaning("throughput over that of the MoE, q at its 5 % quantile"),
    "p_dense_wins": Meaning("probability that the dense twin wins"),
    "p_moe_wins": Meaning("probability that the MoE wins"),
    "break_even_q": Meaning("largest q up to which the dense twin wins"),
    "architecture": Meaning("what differs from the reference"),
    "quality": Meaning("quality under the law, in its unit"),
    "gain": Meaning("throughput of each GPU over that of the other way"),
    "total_params": Meaning("parameters", "parameters"),
    "active_params": Meaning("parameters that a token uses", "parameters"),
    "limited_by": Meaning("what keeps the batch from growing"),
    "least_hbm_bytes": Meaning("HBM of each GPU from which a design would fit", "B"),
    "capacity_usable": Meaning("usable memory of a GPU", "B"),
    "capacity_weights": Meaning("weights of a GPU", "B"),
    "capacity_kv_per_sequence": Meaning("cache of a sequence on a GPU", "B"),
    "capacity_max_batch": Meaning("largest batch of an attention replica that fits", "sequences"),
    "capacity_batch": Meaning("sequences of an attention replica", "sequences"),
    "load": Meaning("users in flight, or requests that arrive a second"),
    "load_unit": Meaning("unit of the load"),
    "largest_rate": Meaning("requests served a second when none is waited for", "1/s"),
    "measured_requests": Meaning("requests that are measured", "requests"),
    "requests_per_s": Meaning("answers a second", "1/s"),
    "goodput_per_s": Meaning("answers a second that keep the limits", "1/s"),
    "attained": Meaning("share of the requests that keep the limits"),
    "waiting": Meaning("requests that wait for their first token", "requests"),
    "decoding": Meaning("requests that decode", "requests"),
    "evictions": Meaning("requests that lost their cache and started anew", "requests"),
    "pool": Meaning("prefill or decode"),
    "label": Meaning("series"),
    "convention": Meaning("accounting"),
    "subject": Meaning("what is compared"),
    "is_winner": Meaning("whether the subject has the most tokens/s/GPU"),
    "is_moe": Meaning("whether the model has experts"),
    "interval_rests_on": Meaning("measurements that the interval rests on"),
    "metric": Meaning("what is judged"),
    "parameter": Meaning("what is varied"),
    "switch_down": Meaning("factor below 1 from which another design is best"),
    "switch_up": Meaning("factor above 1 from which another design is best"),
    "switch_down_what": Meaning("what changes at the factor below 1"),
    "switch_up_what": Meaning("what changes at the factor above 1"),
    "partition_down": Meaning("factor below 1 from which another partition is best"),
    "partition_up": Meaning("factor above 1 from which another partition is best"),
    "resource_down": Meaning("factor below 1 from which another resource binds"),
    "resource_up": Meaning("factor above 1 from which another resource binds"),
    "winner_down": Meaning("factor below 1 from which MoE or twin changes the lead"),
    "winner_up": Meaning("factor above 1 from which MoE or twin changes the lead"),
    "first_order": Meaning("share of the objective's variance by the input alone"),
    "first_order_verdict": Meaning("share of the speed-up's variance by the input alone"),
    "p_feasible": Meaning("probability that a design runs"),
    "kinds": Meaning("how the order changes: equal, or a step"),
    "sides": Meaning("who is ahead between the values"),
    "halfway": Meaning("lead halfway between two values"),
    "turn": Meaning("number of the value"),
    "message": Meaning("answer in words"),
    "tried": Meaning("values tried"),
    "design": Meaning("partition, or which design"),
    "loss": Meaning("throughput lost against a design of one's own"),
    "claim": Meaning("what is claimed"),
    "says": Meaning("what the claim says"),
    "verdict": Meaning("proved, refuted or undecided"),
    "instead": Meaning("what holds where the claim is refuted"),
    "dimension": Meaning("what is varied"),
    "cells": Meaning("cells: models, q and contexts"),
    "dense_wins": Meaning("cells that the dense twin wins"),
    "flips": Meaning("cells with another winner than the reference"),
    "to_dense": Meaning("cells that the dense twin takes over"),
    "law": Meaning("law of the loss"),
    "prefill_gpus_per_decode_gpu": Meaning("prefill GPUs for each decode GPU"),
    "decoding_aggregated": Meaning("sequences that decode where GPUs do both", "sequences"),
    "busy_aggregated": Meaning("load where GPUs do both"),
    "busy_disaggregated": Meaning("load of separate pools"),
    "marginal": Meaning("d log objective / d log cost of the quantity"),
    "at_bound": Meaning("whether the quantity is at the end of its range"),
    "quantity": Meaning("what is chosen"),
    "transfer": Meaning("time of a prompt's cache from prefill to decode", "s"),
    "replica_gpus": Meaning("GPUs of a replica", "GPUs"),
    "gpus_screened": Meaning("GPUs that the screening asks for", "GPUs"),
    "designs_screened": Meaning("designs that hold a request", "designs"),
    "designs_simulated": Meaning("designs that were simulated", "designs"),
    "binds": Meaning("limits that one replica less would break"),
    "best_ttft": Meaning("shortest time to first token of any design without load", "s"),
    "best_tpot": Meaning("shortest time per output token of any design", "s"),
    "microbatch": Meaning("sequences of a microbatch", "sequences"),
    "proved": Meaning("share of the box in which the claim is proved"),
    "largest": Meaning("largest box in which the claim is proved, over the one asked for"),
    "refuted_from": Meaning("smallest box with a known counter-example, over the one asked for"),
    "parts": Meaning("parts of the box that were judged"),
    "evaluated": Meaning("designs times parts that were judged"),
    "t_bound": Meaning("time before communication", "s"),
    "t_overhead": Meaning("overheads of a stage", "s"),
    "t_stage": Meaning("time of a stage", "s"),
    "busy": Meaning("mean of the shares of the time in which arithmetic and HBM run"),
    "watts_per_gpu": Meaning("power of a GPU while serving", "W"),
    "power_is_measured": Meaning("whether the power is known against the load"),
    "tpot_speculated": Meaning("time per output token with speculation", "s"),
    "t_busy": Meaning("mean of the times in which arithmetic and HBM run", "s"),
    "t_p2p": Meaning("time between stages", "s"),
    "place": Meaning("where the cache of prefixes is"),
    "found": Meaning("share of the prefixes that are still there"),
    "prefixes": Meaning("prefixes in use of an attention replica", "prefixes"),
    "holds_for": Meaning("longest reuse interval at which every prefix is there", "s"),
    "prefix_bytes": Meaning("cache of a prefix on each GPU", "B"),
    "prefix_bytes_per_token": Meaning("the same of a token", "B"),
    "load_time": Meaning("time of a load from the tier", "s"),
    "pays_from": Meaning("bandwidth from which a load is faster than computing", "B/s"),
    "is_best": Meaning("whether no place has more tokens/s"),
} | {name: Meaning(fact.meaning, fact.unit) for name, fact in facts_of(Reuse).items()}
# By the first part of a name.
_PARTS: Mapping[str, Meaning] = {
    "term": Meaning("part of TPOT", "s"),
    "compute": Meaning("arithmetic time", "s"),
    "hbm": Meaning("HBM time", "s"),
    "comm": Meaning("communication time", "s"),
    "ttft": Meaning("time to first token", "s"),
    "tpot": Meaning("time per output token", "s"),
    "itl": Meaning("time between tokens", "s"),
    "e2e": Meaning("time of a whole request", "s"),
    "share": Meaning("share of the time"),
    "windows": Meaning("time in which communication may hide", "s"),
    "exposed": Meaning("communication time that overlap leaves", "s"),
    "speedup": Meaning("throughput of each GPU over that of the model"),
    "terms": Meaning("part of TPOT", "s"),
    "hidden": Meaning("time behind other work", "s"),
    "gpu_time": Meaning("GPU time of an output token", "s"),
    "attribution": Meaning("share of the gap"),
    "table_5": Meaning("GPU time over the arithmetic of the first subject"),
    "slopes": Meaning("% of throughput for 1 % more at the same quality"),
}


# A number of something within: what follows has the unit.
_WITHIN = ("own", "prefill", "prompt")


def meaning_of(name: str) -> Meaning:
    """Meaning and unit of a name; the name itself and "1" where nothing is known of it.

    >>> meaning_of("hbm_bw")
    Meaning(long_name='HBM bandwidth', units='B/s')
    >>> meaning_of("term_hbm_kv")
    Meaning(long_name='part of TPOT: hbm kv', units='s')
    """
    if name in _OTHERS:
        return _OTHERS[name]
    if name in METRICS:
        metric = METRICS[name]
        return Meaning(metric.meaning, metric.unit)
    if name in FIELDS:
        return Meaning(FIELDS[name].meaning, FIELDS[name].unit)
    if metric_of := max((m for m in METRICS if name.startswith(f"{m}_")), key=len, default=""):
        own = meaning_of(metric_of)
        rest = name[len(metric_of) + 1 :].replace("_", " ")
        return Meaning(f"{own.long_name}: {rest}", own.units)
    part, dot, rest = name.partition("." if "." in name else "_")
    words = rest.replace("_", " ")
    if part not in _PARTS and (dot == "." or part in _WITHIN):
        own = meaning_of(rest)
        return Meaning(f"{part.replace('_', ' ')}: {own.long_name}", own.units)
    if part in _PARTS:
        return Meaning(f"{_PARTS[part].long_name}: {words}".removesuffix(": "), _PARTS[part].units)
    return Meaning(name.replace("_", " "))


def attributes_of(name: str) -> dict[str, str]:
    """Attributes of an array of this name in a data set: `units` and `long_name`."""
    return meaning_of(name)._asdict()
