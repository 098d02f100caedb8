"""Checks of what a user gives, on the host and before any jit.

Each check collects every problem of one input and raises a single `ValueError` with all of them:
what was given, what is allowed, how to mend it. Bounds of single fields are the tables `*_RULES`;
conditions between fields are functions. Laws never check: their arguments may be tracers.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qsjax.specs import KV_MODES, Convention, HardwareSpec, ModelSpec, Partition, Workload


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Bounds of a number; `low` and `high` are allowed values unless `above` is set."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False

    def __str__(self) -> str:
        """What is allowed, in words that follow "give"."""
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            return f"{kind} {start} to {self.high:g}"
        return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}"


_POSITIVE = Rule(above=True)
_NOT_NEGATIVE = Rule()
_COUNT = Rule(low=1.0, whole=True)
_COUNT_OR_NONE = Rule(whole=True)
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
    **_each(_NOT_NEGATIVE, "intra_latency inter_latency reserve_bytes layer_overhead"),
    **_each(_NOT_NEGATIVE, "step_overhead usd_per_hour watts"),
    **_each(_EFFICIENCY, "usable_fraction eff_kv_read eff_weight_read eff_gemm eff_attention"),
    **_each(_EFFICIENCY, "eff_link"),
    **_each(_SHARE, "overlap_tp overlap_kv overlap_ep overlap_layout overlap_startup cp_ring_tail"),
    "island_size": _COUNT,
}
PARTITION_RULES: dict[str, Rule] = {
    **_each(_COUNT, "tp ep pp dp kvp"),
    **_each(_NOT_NEGATIVE, "tp_messages kv_messages ep_messages layout_messages"),
    "kv_mode": Rule(high=max(KV_MODES.values()), whole=True),
}
WORKLOAD_RULES: dict[str, Rule] = {
    **_each(_POSITIVE, "context bytes_attn_weight bytes_ffn_weight bytes_head_weight"),
    **_each(_POSITIVE, "bytes_kv bytes_act bytes_dispatch"),
    **_each(Rule(low=1.0), "kv_block tokens_per_step batch"),
}
CONVENTION_RULES: dict[str, Rule] = {
    **_each(_NOT_NEGATIVE, "kv_exchange_volume ep_exchange_volume"),
    **_each(_POSITIVE, "dense_flops_factor"),
    **_each(Rule(low=1.0), "kv_overhead expert_load_factor"),
}
_RECORDS = MODEL_RULES | HARDWARE_RULES | PARTITION_RULES | WORKLOAD_RULES | CONVENTION_RULES
AXIS_RULES: dict[str, Rule] = _RECORDS | {"q": _POSITIVE, "gpus": _COUNT}


def value_problem(rule: Rule, value: Any) -> str | None:
    """What is wrong with a number or an array of numbers under a rule, or None."""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return f"{value!r} is not a number; give {rule}"
    if numbers.size == 0:
        return f"no value was given; give at least one, each {rule}"
    too_low = numbers <= rule.low if rule.above else numbers < rule.low
    bad = ~np.isfinite(numbers) | too_low | (numbers > rule.high)
    if rule.whole:
        bad |= numbers != np.floor(numbers)
    if not bad.any():
        return None
    return f"{numbers[bad].flat[0]:g} is not allowed; give {rule}"


def _rule_problems(rules: Mapping[str, Rule], values: Mapping[str, Any]) -> dict[str, str]:
    found = {name: value_problem(rules[name], values[name]) for name in rules if name in values}
    return {name: problem for name, problem in found.items() if problem is not None}


def _show(value: Any) -> str:
    return f"{np.max(value):g}"


def _divisors(number: Any) -> str:
    whole = int(np.max(number))
    return ", ".join(str(k) for k in range(1, min(whole, 4096) + 1) if whole % k == 0)


def _fails(condition: Callable[..., Any], *values: Any) -> bool:
    return not bool(np.all(condition(*(np.asarray(value, dtype=float) for value in values))))


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


def _model_relations(v: Mapping[str, Any]) -> dict[str, str]:
    """Problems between fields, under the field to be mended."""
    found: dict[str, str] = {}
    layers, heads, experts = (_show(v[name]) for name in ("layers", "heads", "experts"))
    if _fails(np.less_equal, v["top_k"], v["experts"]):
        found["top_k"] = f"{_show(v['top_k'])} exceeds the {experts} experts; give at most those"
    if _fails(lambda h, n, c: (c > 0) | (h % n == 0), v["heads"], v["kv_heads"], v["kv_latent"]):
        found["kv_heads"] = (
            f"{_show(v['kv_heads'])} does not divide {heads} query heads; "
            f"choose a divisor of {heads}: {_divisors(v['heads'])}"
        )
    if _fails(np.less_equal, v["dense_layers"], v["layers"]):
        found["dense_layers"] = f"{_show(v['dense_layers'])} exceeds the {layers} layers"
    kinds = (v["window_layers"], v["linear_layers"], v["layers"])
    if _fails(lambda window, linear, n: window + linear <= n, *kinds):
        windowed, linear = _show(kinds[0]), _show(kinds[1])
        found["window_layers"] = (
            f"{windowed} windowed and {linear} linear layers exceed the {layers} layers"
        )
    for count, size in _GOES_WITH.items():
        if _fails(lambda n, width: (n == 0) | (width > 0), v[count], v[size]):
            given = f"{count} = {_show(v[count])}"
            found[size] = f"0 is not allowed with {given}; give a number above 0"
    routed = (v["layers"], v["dense_layers"], v["expert_ff"])
    if _fails(lambda n, dense, width: (n == dense) | (width > 0), *routed):
        found["expert_ff"] = "0 leaves layers without a feed-forward network; give its width"
    return found


def _hardware_relations(v: Mapping[str, Any]) -> dict[str, str]:
    parts = [v[name] for name in ("overlap_tp", "overlap_ep", "overlap_layout")]
    if _fails(lambda tp, ep, layout: tp + ep + layout <= 1.0 + 1e-9, *parts):
        return {
            "overlap_tp": "the sum with overlap_ep and overlap_layout exceeds 1, but the three "
            "share the window of the feed-forward network; lower one of them"
        }
    return {}


def _partition_relations(p: Mapping[str, Any], m: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for degree, whole, what in (("tp", "heads", "query heads"), ("ep", "experts", "experts")):
        if _fails(lambda part, total: total % part == 0, p[degree], m[whole]):
            part, total = _show(p[degree]), _show(m[whole])
            found[degree] = (
                f"{degree}={part} does not divide {total} {what}; "
                f"choose a divisor of {total}: {_divisors(m[whole])}"
            )
    if _fails(np.less_equal, p["pp"], m["layers"]):
        found["pp"] = f"pp={_show(p['pp'])} exceeds the {_show(m['layers'])} layers; lower it"
    return found


def model_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Problem by field of a (partial) set of `ModelSpec` fields; relations need the full set."""
    found = _rule_problems(MODEL_RULES, values)
    return found or (_model_relations(values) if MODEL_RULES.keys() <= values.keys() else {})


def hardware_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Problem by field of a (partial) set of `HardwareSpec` fields, as `model_problems`."""
    found = _rule_problems(HARDWARE_RULES, values)
    return found or (_hardware_relations(values) if HARDWARE_RULES.keys() <= values.keys() else {})


def _values(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _raise_fields(subject: str, found: Mapping[str, str]) -> None:
    if found:
        lines = (f"  {name}: {problem}" for name, problem in found.items())
        raise ValueError("\n".join([f"{subject}:", *lines]))


def check_model(model: ModelSpec, name: str = "model") -> None:
    """Raise `ValueError` with every problem of a model's shapes."""
    _raise_fields(name, model_problems(_values(model)))


def check_hardware(hardware: HardwareSpec, name: str = "hardware") -> None:
    """Raise `ValueError` with every problem of an accelerator's numbers."""
    _raise_fields(name, hardware_problems(_values(hardware)))


def check_workload(workload: Workload) -> None:
    """Raise `ValueError` with every problem of a workload; `batch` may be None."""
    given = {name: value for name, value in _values(workload).items() if value is not None}
    _raise_fields("workload", _rule_problems(WORKLOAD_RULES, given))


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
    values = _values(partition)
    found = _rule_problems(PARTITION_RULES, values)
    if model is not None and not found:
        found = _partition_relations(values, _values(model))
    _raise_fields("partition", found)
