"""Unit factors: multiply on the way in, divide on the way out (`80 * GB`, `t / MS`); unit names."""

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30
GFLOP, TFLOP, PFLOP = 1e9, 1e12, 1e15
US, MS = 1e-6, 1e-3
HOUR = 3600.0
# Units of fields and metrics, by the first part that their name contains.
_OF_NAMES = {
    "tpot": "s",
    "tokens_per_s_per_user": "tokens/s/user",
    "tokens_per_s_per_gpu": "tokens/s/GPU",
    "tokens_per_step": "tokens",
    "tokens_per_s": "tokens/s",
    "context": "tokens",
    "batch": "sequences",
    "_bw": "B/s",
    "flops": "FLOP/s",
    "latency": "s",
    "overhead": "s",
    "bytes": "B",
    "usd_per_hour": "USD/h",
    "watts": "W",
}


def unit_of(name: str) -> str:
    """Unit of a field or metric; 1 for shares, factors and counts."""
    return next((unit for part, unit in _OF_NAMES.items() if part in name), "1")


_SUFFIXES = {"k": KIB, "m": MIB}


def number(value: object, name: str = "value") -> float:
    """A number, also from text in which k and M stand for 1024 and 1024^2.

    Raises:
        ValueError: it is none.

    >>> number("8k")
    8192.0
    """
    text = str(value).strip()
    scale = _SUFFIXES.get(text[-1:].lower(), 1.0) if isinstance(value, str) else 1.0
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, str):
            return float(text[:-1] if scale != 1.0 else text) * scale
        return float(value)  # type: ignore[arg-type]  # whatever has __float__
    except (TypeError, ValueError):
        message = f"{name}: {value!r} is not a number; give one such as 8192 or '8k'"
        raise ValueError(message) from None
