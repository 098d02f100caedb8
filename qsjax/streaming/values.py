"""Values of an axis as a sweep's file gives them: a number, a list, a range or divisors."""

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from qsjax.grid.problem import divisors
from qsjax.records import checks
from qsjax.records.conversion import LONGEST
from qsjax.records.quantities import FIELDS
from qsjax.records.specs import DEGREES, KV_MODES

_RANGES = ({"from", "to", "steps"}, {"from", "to", "steps", "scale"}, {"from", "to", "step"})
RANGE_HELP = (
    'give a number, a list, {from, to, step}, or {from, to, steps} with scale = "linear" or "log"'
)


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def repeated(values: list[Any]) -> str | None:
    """What is wrong with a list that names something twice, or None."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if not twice:
        return None
    shown = f"{twice[0]:g}" if isinstance(twice[0], int | float) else repr(twice[0])
    return f"{shown} is there twice; give every value once"


def _too_long(count: float) -> str:
    return f"has {count:,.0f} values, more than {LONGEST:,}; give fewer, or several sweeps"


def _range(name: str, value: Mapping[str, Any]) -> tuple[list[float], str | None]:
    if set(value) not in _RANGES:
        unknown = ", ".join(sorted(set(value))) or "nothing"
        return [], f"{unknown} is not a range; {RANGE_HELP}"
    numbers = [value[key] for key in value if key != "scale"]
    if not all(map(is_number, numbers)):
        return [], f"a range needs finite numbers; {RANGE_HELP}"
    low, high = float(value["from"]), float(value["to"])
    if low > high:
        return [], f"from {low:g} to {high:g} runs backwards; swap the two"
    if "step" in value:
        step = float(value["step"])
        if step <= 0:
            return [], f"step {step:g} is not allowed; give a number above 0"
        count = (high - low) / step
        if count >= LONGEST:
            return [], _too_long(count)
        return [low + k * step for k in range(int(count * (1 + 1e-12)) + 1)], None
    steps, scale = value["steps"], value.get("scale", "linear")
    if not isinstance(steps, int) or steps < 1:
        return [], f"steps {steps!r} is not allowed; give a whole number of at least 1"
    if steps > LONGEST:
        return [], _too_long(steps)
    if scale not in ("linear", "log"):
        return [], f'scale {scale!r} is not allowed; give "linear" or "log"'
    if scale == "log" and low <= 0:
        return [], f"a logarithmic range cannot start at {low:g}; give a number above 0"
    values = np.geomspace(low, high, steps) if scale == "log" else np.linspace(low, high, steps)
    if (name in FIELDS and FIELDS[name].rule.whole) or name == "context":
        values = values.round()
    # Steps closer than whole numbers, and a range from a number to itself, repeat values.
    return [float(x) for x in np.unique(values)], None


def _divisors(name: str, gpus: list[float]) -> tuple[list[Any], str | None]:
    if name not in DEGREES:
        return [], f'"divisors" is for {", ".join(DEGREES)}; {RANGE_HELP}'
    if not gpus:
        return [], '"divisors" needs the axis gpus'
    found = {d for count in gpus for d in divisors(int(count))}
    return sorted(map(float, found)), None


def axis_values(name: str, value: Any, gpus: list[float]) -> tuple[list[Any], str | None]:
    """Values of an axis, or what is wrong with it."""
    values = value if isinstance(value, list) else [value]
    if name == "kv_mode":
        allowed = ", ".join(KV_MODES)
        wrong = [m for m in values if not (isinstance(m, str) and m in KV_MODES)]
        if wrong or not values:
            shown = repr(wrong[0]) if wrong else "an empty list"
            return [], f"{shown} is not allowed; give some of {allowed}"
        return values, repeated(values)
    if value == "divisors":
        return _divisors(name, gpus)
    problem: str | None = None
    if isinstance(value, dict):
        values, problem = _range(name, value)
    elif len(values) > LONGEST:
        return [], _too_long(len(values))
    elif wrong := [x for x in values if isinstance(x, bool) or not isinstance(x, int | float)]:
        return [], f"{wrong[0]!r} does not belong in a list of numbers; {RANGE_HELP}"
    else:
        values = [float(x) for x in values]
        problem = repeated(values)
    if problem is None:
        problem = checks.value_problem(FIELDS[name].rule, np.array(values))
    return ([], problem) if problem else (values, None)
