"""Unit and meaning of everything that a result names: fields, axes, metrics, parts of a step."""

import functools
from typing import Literal, NamedTuple

from qsjax.cost.metrics import METRICS
from qsjax.cost.prefix import Reuse
from qsjax.records.fields import facts_of
from qsjax.records.specs import FIELDS
from qsjax.records.tables import table


class Meaning(NamedTuple):
    """What a named array holds, in a few words, and its unit."""

    long_name: str
    units: str = "1"


@functools.cache
def _known(kind: Literal["names", "parts"]) -> dict[str, Meaning]:
    """Meanings by name, or by the first part of one."""
    return {name: Meaning(*said) for name, said in table("cost/meanings.toml")[kind].items()}


_FACTS = {**FIELDS, **facts_of(Reuse)}
# A number of something within: what follows has the unit.
_WITHIN = ("own", "prefill", "prompt")


def meaning_of(name: str) -> Meaning:
    """Meaning and unit of a name; the name itself and "1" where nothing is known of it.

    >>> meaning_of("hbm_bw")
    Meaning(long_name='HBM bandwidth', units='B/s')
    >>> meaning_of("terms.hbm_kv")
    Meaning(long_name='part of TPOT: hbm kv', units='s')
    """
    if known := _known("names").get(name):
        return known
    if name in METRICS:
        metric = METRICS[name]
        return Meaning(metric.meaning, metric.unit)
    if name in _FACTS:
        return Meaning(_FACTS[name].meaning, _FACTS[name].unit)
    if metric_of := max((m for m in METRICS if name.startswith(f"{m}_")), key=len, default=""):
        inner = meaning_of(metric_of)
        rest = name[len(metric_of) + 1 :].replace("_", " ")
        return Meaning(f"{inner.long_name}: {rest}", inner.units)
    part, dot, rest = name.partition("." if "." in name else "_")
    words = rest.replace("_", " ")
    parts = _known("parts")
    if part not in parts and (dot == "." or part in _WITHIN):
        inner = meaning_of(rest)
        return Meaning(f"{part.replace('_', ' ')}: {inner.long_name}", inner.units)
    if part in parts:
        return Meaning(f"{parts[part].long_name}: {words}".removesuffix(": "), parts[part].units)
    return Meaning(name.replace("_", " "))


def attributes_of(name: str) -> dict[str, str]:
    """Attributes of an array of this name in a data set: `units` and `long_name`."""
    return meaning_of(name)._asdict()
