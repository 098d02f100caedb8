"""What a reader of an answer should know about its problem, in lines: sources, slips, limits."""

from collections.abc import Sequence

import numpy as np

from qsjax import catalog
from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import Economy
from qsjax.grid.problem import Problem, economy_of, several
from qsjax.grid.served import base_name
from qsjax.records.units import listed, with_unit

# Below SMALLEST and from LARGEST on a size or rate is not in SI units, nor a limit on a time from
# _LONGEST on [s].
RATES_AND_SIZES = (
    *("hbm_bytes", "hbm_bw", "flops_bf16", "flops_fp8", "flops_fp4", "intra_bw", "inter_bw"),
)
SMALLEST, LARGEST = 1e6, {"B": 1e15, "B/s": 1e15, "FLOP/s": 1e18}
_LONGEST = {"TPOT": 5.0, "TTFT": 300.0}


def beyond_published(problem: Problem, lengths: Sequence[float]) -> list[str]:
    """Which of these contexts are longer than a model is published for, one line a model."""
    lines = []
    for model in problem.stated.models:
        beyond = [x for x in lengths if x > model.max_context > 0]
        if beyond:
            lines.append(
                f"{model.name} is published for up to {model.max_context:,} tokens; "
                f"{listed(beyond)} {'is' if len(beyond) == 1 else 'are'} beyond that."
            )
    return lines


def under_other_names(problem: Problem) -> list[str]:
    """Models that were asked for by the name of another one of their shape, one line each."""
    lines = []
    for given, model in zip(several(problem.model)[0], problem.stated.models, strict=False):
        if isinstance(given, str) and catalog.lookup.is_model(given):
            asked, name = (
                "".join(filter(str.isalnum, x.lower()))
                for x in (given.rpartition("/")[2], base_name(model.name))
            )
            if asked not in name and name not in asked:
                lines.append(f"{given} has the shape of {model.name}, under whose name it counts.")
    return lines


def only_dense(problem: Problem) -> list[str]:
    """That twins change nothing where no model has experts, in a line."""
    stated = problem.stated
    if not stated.twins or len(stated.dense) < len(stated.models):
        return []
    are = "is" if len(stated.dense) == 1 else "are"
    return [f"{', '.join(stated.dense)} {are} dense, so twins change nothing: there are none."]


def hardly_in_si(problem: Problem) -> list[str]:
    """Numbers that were probably not given in SI units, one line each.

    A bandwidth of 3.35 was meant in TB/s, a limit of 20 in ms.
    """
    stated, lines = problem.stated, []
    for name in RATES_AND_SIZES:
        specs = [np.ravel(np.asarray(getattr(h.spec, name))) for h in stated.accelerators]
        given = stated.kept.get(name) or np.concatenate(specs)
        unit = meaning_of(name).units
        lines += [
            f"{name} is {with_unit(float(one), unit)}; 1 T{unit} is 1e12."
            for one in dict.fromkeys((min(given), max(given)))
            if 0 < one < SMALLEST or one >= LARGEST[unit]
        ]
    return [*lines, *long_limits(float(np.asarray(problem.limits.max_tpot)))]


def long_limits(tpot: float, ttft: float = np.inf) -> list[str]:
    """Limits [s] that were probably meant in ms, one line each."""
    return [
        f"the limit on {name} is {limit:g} s; 20 ms is 0.02."
        for name, limit in (("TPOT", tpot), ("TTFT", ttft))
        if _LONGEST[name] <= limit < np.inf
    ]


def prices_of(problem: Problem) -> list[str]:
    """The price of a GPU-hour of each accelerator, and its source."""
    lines = []
    for device in problem.stated.accelerators:
        price = float(np.asarray(economy_of(problem, device).usd_per_hour))
        name, given = device.name.partition(",")[0], problem.economy
        is_stated = isinstance(given, Economy) or "usd_per_hour" in (given or {})
        source = "as stated"
        if not is_stated and name in catalog.hardware_names():
            entry = catalog.hardware_entry(name)
            if price == entry.spec.usd_per_hour:
                source = "; ".join(one.at for one in entry.sources if "price" in one.of)
        if price:
            lines.append(f"Price of {device.name}: {price:,.4g} USD per GPU-hour ({source}).")
    return lines


def kernels_used(problem: Problem) -> list[str]:
    """The kernels behind the constants of a problem with an engine, one clause each."""
    tuned = [one for device in problem.stated.accelerators for one in device.tuned.values()]
    used = [note for one in tuned for note in one.notes]
    if problem.engine and not used:
        used = [f"no kernels of {problem.engine} are known here: constants that fit all engines"]
    return list(dict.fromkeys(used))
