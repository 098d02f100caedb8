"""Checks of what a user gives, on the host and before any jit.

Each check raises one `ValueError` with all problems of its input: what was given, what is allowed,
how to mend it. Bounds of fields are the tables `*_RULES`, conditions between fields are functions.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qsjax.records.specs import KV_MODES, Convention, HardwareSpec, ModelSpec, Partition, Workload

Values = Mapping[str, Any]
Relations = Callable[[Values], dict[str, str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Bounds of a number; `low` and `high` are allowed values unless `above` is set."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            start = f"above {self.low:g} and up" if self.above else f"from {self.low:g}"
            return f"{kind} {start} to {self.high:g}"
        return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}"


# Beyond this the products of a few numbers leave the range of floats.
LARGEST = 1e24
_POSITIVE = Rule(above=True)
_NOT_NEGATIVE = Rule()
_COUNT = Rule(low=1.0, whole=True)
_COUNT_OR_NONE = Rule(whole=True)
_MOST_GPUS = 1e9  # every divisor is enumerated
_SHARE = Rule(high=1.0)
_EFFICIENCY = Rule(high=1.0, above=True)
_FLAG = Rule(high=1.0, whole=True)


def _each(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


MODEL_RULES: dict[str, Rule] = {
    **_each(_COUNT, "layers hidden vocab heads kv_heads head_dim experts top_k"),
    **_each(_COUNT_OR_NONE, "shared_experts dense_layers window_layers linear_layers"),
    **_each(_COUNT_OR_NONE, "window sparse_topk index_heads index_dim"),
    **_each(_COUNT_OR_NONE, "kv_latent rope_dim q_lora_rank qk_nope_dim v_head_dim"),
    **_each(_NOT_NEGATIVE, "expert_ff shared_ff dense_ff linear_params linear_state"),
    **_each(_NOT_NEGATIVE, "attn_extra_params extra_params"),
    "ffn_matrices": Rule(low=2.0, high=3.0, whole=True),
    "tied_embeddings": _FLAG,
}
HARDWARE_RULES: dict[str, Rule] = {
    **_each(_POSITIVE, "hbm_bytes hbm_bw flops_bf16 flops_fp8 flops_fp4 intra_bw inter_bw"),
    **_each(_NOT_NEGATIVE, "intra_latency inter_latency reserve_bytes moe_reserve_bytes flops_exp"),
    **_each(_NOT_NEGATIVE, "exchange_overhead layer_overhead latent_overhead step_overhead"),
    **_each(_NOT_NEGATIVE, "expert_overhead sequence_overhead prefill_overhead usd_per_hour watts"),
    **_each(_NOT_NEGATIVE, "gemm_startup attention_startup expert_startup linear_overhead"),
    **_each(_NOT_NEGATIVE, "sparse_overhead two_shot_latency rank_latency"),
    **_each(_SHARE, "gemm_blend expert_blend one_shot_share"),
    **_each(_POSITIVE, "expert_read_ratio expert_gemm_ratio"),
    **_each(_EFFICIENCY, "usable_fraction eff_kv_read eff_weight_read eff_gemm eff_attention"),
    **_each(_EFFICIENCY, "eff_link eff_allreduce eff_exp"),
    **_each(_SHARE, "overlap_tp overlap_kv overlap_ep overlap_layout overlap_startup cp_ring_tail"),
    **_each(_COUNT, "island_size query_tile"),
}
PARTITION_RULES: dict[str, Rule] = {
    **_each(_COUNT, "tp ep pp dp kvp"),
    **_each(_NOT_NEGATIVE, "tp_messages kv_messages ep_messages layout_messages"),
    "kv_mode": Rule(high=max(KV_MODES.values()), whole=True),
    "redundant_experts": _COUNT_OR_NONE,
}
WORKLOAD_RULES: dict[str, Rule] = {
    **_each(_POSITIVE, "context bytes_attn_weight bytes_ffn_weight bytes_head_weight"),
    **_each(_POSITIVE, "bytes_kv bytes_act bytes_dispatch"),
    **_each(Rule(low=1.0), "kv_block query_tokens tokens_per_step batch"),
    "kv_scale_bytes": _NOT_NEGATIVE,
}
CONVENTION_RULES: dict[str, Rule] = {
    **_each(_NOT_NEGATIVE, "kv_exchange_volume ep_exchange_volume"),
    **_each(_POSITIVE, "dense_flops_factor"),
    **_each(Rule(low=1.0), "kv_overhead expert_load_factor"),
}
_RECORDS = MODEL_RULES | HARDWARE_RULES | PARTITION_RULES | WORKLOAD_RULES | CONVENTION_RULES
AXIS_RULES: dict[str, Rule] = _RECORDS | {
    "q": _POSITIVE,
    "gpus": Rule(low=1.0, high=_MOST_GPUS, whole=True),
}


def value_problem(rule: Rule, value: Any) -> str | None:
    """What is wrong with a number or an array of numbers under a rule, or None."""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return f"{value!r} is not a number; give {rule}"
    if numbers.size == 0:
        return f"no value was given; give at least one, each {rule}"
    too_low = numbers <= rule.low if rule.above else numbers < rule.low
    bad = ~np.isfinite(numbers) | too_low | (numbers > min(rule.high, LARGEST))
    if rule.whole:
        bad |= numbers != np.floor(numbers)
    if not bad.any():
        return None
    worst = float(numbers[bad].flat[0])
    limit = f", at most {LARGEST:g}" if LARGEST < worst < math.inf else ""
    return f"{worst:.12g} is not allowed; give {rule}{limit}"


def _rule_problems(rules: Mapping[str, Rule], values: Values) -> dict[str, str]:
    found = {name: value_problem(rules[name], values[name]) for name in rules if name in values}
    return {name: problem for name, problem in found.items() if problem is not None}


def _show(value: Any) -> str:
    return f"{np.max(value):g}"


def _divisors(number: Any) -> str:
    whole = int(np.max(number))
    return ", ".join(str(k) for k in range(1, min(whole, 4096) + 1) if whole % k == 0)


def _fails(condition: Callable[..., Any], v: Values, names: str) -> bool:
    """Whether a condition between fields is false; not where one of them is absent."""
    if not v.keys() >= set(names.split()):
        return False
    return not np.all(condition(*(np.asarray(v[name], dtype=float) for name in names.split())))


# A field of the model that must be positive where the first is.
_GOES_WITH: dict[str, str] = {
    "dense_layers": "dense_ff",
    "shared_experts": "shared_ff",
    "window_layers": "window",
    "linear_layers": "linear_params",
    "kv_latent": "v_head_dim",
    "v_head_dim": "qk_nope_dim",
    "q_lora_rank": "kv_latent",
    "index_heads": "index_dim",
}


def _model_relations(v: Values) -> dict[str, str]:
    found: dict[str, str] = {}
    if _fails(np.less_equal, v, "top_k experts"):
        found["top_k"] = f"{_show(v['top_k'])} exceeds the {_show(v['experts'])} experts; lower it"
    if _fails(lambda h, n, c: (c > 0) | (h % n == 0), v, "heads kv_heads kv_latent"):
        heads = _show(v["heads"])
        found["kv_heads"] = (
            f"{_show(v['kv_heads'])} does not divide {heads} query heads; "
            f"choose a divisor of {heads}: {_divisors(v['heads'])}"
        )
    if _fails(np.less_equal, v, "dense_layers layers"):
        dense = _show(v["dense_layers"])
        found["dense_layers"] = f"{dense} exceeds the {_show(v['layers'])} layers; lower it"
    if _fails(lambda w, linear, n: w + linear <= n, v, "window_layers linear_layers layers"):
        window, linear, layers = (_show(v[f"{kind}layers"]) for kind in ("window_", "linear_", ""))
        both = f"{window} with a window and {linear} linear ones"
        found["window_layers"] = f"{both} exceed the {layers} layers; lower one"
    for count, size in _GOES_WITH.items():
        if _fails(lambda n, width: (n == 0) | (width > 0), v, f"{count} {size}"):
            given = f"{count} = {_show(v[count])}"
            found[size] = f"0 is not allowed with {given}; give a number above 0"
    if _fails(lambda n, d, width: (n == d) | (width > 0), v, "layers dense_layers expert_ff"):
        found["expert_ff"] = "0 leaves layers without a feed-forward network; give its width"
    return found


def _hardware_relations(v: Values) -> dict[str, str]:
    windows = "overlap_tp overlap_ep overlap_layout"
    if not _fails(lambda tp, ep, layout: tp + ep + layout <= 1.0 + 1e-9, v, windows):
        return {}
    share = "share the window of the feed-forward network"
    return {"overlap_tp": f"{windows} {share}, but their sum exceeds 1; lower one of them"}


def _partition_relations(given: Values) -> dict[str, str]:
    found: dict[str, str] = {}
    v = dict(given)
    if v.keys() >= {"experts", "redundant_experts"}:
        experts = np.asarray(v["experts"], dtype=float)
        v["experts"] = experts + np.where(experts > 1, v["redundant_experts"], 0.0)
    for degree, whole, what in (("tp", "heads", "query heads"), ("ep", "experts", "experts")):
        if _fails(lambda part, total: total % part == 0, v, f"{degree} {whole}"):
            part, total = _show(v[degree]), _show(v[whole])
            found[degree] = (
                f"{degree}={part} does not divide {total} {what}; "
                f"choose a divisor of {total}: {_divisors(v[whole])}"
            )
    if _fails(np.less_equal, v, "pp layers"):
        found["pp"] = f"pp={_show(v['pp'])} exceeds the {_show(v['layers'])} layers; lower it"
    return found


def _workload_relations(v: Values) -> dict[str, str]:
    if not _fails(lambda accepted, run: accepted <= run, v, "tokens_per_step query_tokens"):
        return {}
    run = f"the {_show(v['query_tokens'])} query_tokens that a step runs; raise it"
    return {"tokens_per_step": f"{_show(v['tokens_per_step'])} exceeds {run}"}


def _problems(rules: dict[str, Rule], relations: Relations, values: Values) -> dict[str, str]:
    """Problems of single fields, and between those that have none."""
    found = _rule_problems(rules, values)
    return found | relations({name: values[name] for name in values if name not in found})


def model_problems(values: Values) -> dict[str, str]:
    """Problem by field of a set of `ModelSpec` fields, not necessarily all of them."""
    return _problems(MODEL_RULES, _model_relations, values)


def hardware_problems(values: Values) -> dict[str, str]:
    """Problem by field of a set of `HardwareSpec` fields, not necessarily all of them."""
    return _problems(HARDWARE_RULES, _hardware_relations, values)


def _values(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def workload_problems(values: Values) -> dict[str, str]:
    """Problem by field of a set of `Workload` fields; those that are None count as absent."""
    given = {name: value for name, value in values.items() if value is not None}
    return _problems(WORKLOAD_RULES, _workload_relations, given)


def _raise_fields(subject: str, found: Mapping[str, str]) -> None:
    if found:
        lines = (f"  {name}: {problem}" for name, problem in found.items())
        raise ValueError("\n".join([f"{subject}:", *lines]))


def _expect(record: Any, kind: type, subject: str) -> None:
    """Raise `ValueError` if something else stands where a record is due, such as its name."""
    if isinstance(record, kind):
        return
    is_name = isinstance(record, str) and kind in (ModelSpec, HardwareSpec)
    how = f"qsjax.{subject}({record!r})" if is_name else kind.__name__
    given = repr(record) if len(repr(record)) < 60 else f"a {type(record).__name__}"
    raise ValueError(f"{subject}: {given} is no {kind.__name__}; give {how}")


def check_lists(given: Mapping[str, Any]) -> None:
    """Raise one `ValueError` that names all values that are no list, tuple or array of one axis."""
    problems = []
    for name, values in given.items():
        if isinstance(values, str) or np.ndim(values) != 1:
            how = f"give one, such as [{values!r}]" if np.ndim(values) == 0 else "give one axis"
            problems.append(f"{name}: {values!r} is not a list; {how}")
    if problems:
        raise ValueError("\n".join(problems))


def check_model(model: ModelSpec, name: str = "model") -> None:
    """Raise `ValueError` with every problem of a model's shapes."""
    _expect(model, ModelSpec, "model")
    _raise_fields(name, model_problems(_values(model)))


def check_hardware(hardware: HardwareSpec, name: str = "hardware") -> None:
    """Raise `ValueError` with every problem of an accelerator's numbers."""
    _expect(hardware, HardwareSpec, "hardware")
    _raise_fields(name, hardware_problems(_values(hardware)))


def check_workload(workload: Workload) -> None:
    """Raise `ValueError` with every problem of a workload; `batch` may be None."""
    _expect(workload, Workload, "workload")
    _raise_fields("workload", workload_problems(_values(workload)))


def check_convention(convention: Convention) -> None:
    """Raise `ValueError` with every problem of a convention's factors."""
    _raise_fields("convention", _rule_problems(CONVENTION_RULES, _values(convention)))


def check_axis(name: str, values: Any) -> None:
    """Raise `ValueError` if the values of a named axis are empty, not finite or out of bounds."""
    if name not in AXIS_RULES:
        near = difflib.get_close_matches(name, AXIS_RULES, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(AXIS_RULES)}"
        raise ValueError(f"unknown axis {name!r}; {hint}")
    _raise_fields("axes", _rule_problems(AXIS_RULES, {name: values}))


def check_partition(partition: Partition, model: ModelSpec | None = None) -> None:
    """Raise `ValueError` with every problem of one explicit partition, also against a model.

    A grid does not call this with a model: there an illegal cell is a result with its reasons.
    """
    _expect(partition, Partition, "partition")
    if model is not None:
        _expect(model, ModelSpec, "model")
    values = _values(partition) | ({} if model is None else _values(model))
    _raise_fields("partition", _problems(PARTITION_RULES, _partition_relations, values))
