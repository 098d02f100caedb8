"""What is served, and on what: models and accelerators under the names that answers give them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qsjax import catalog
from qsjax.catalog.quantisation import MXFP4
from qsjax.engines.kernels import kernels_of
from qsjax.engines.rules import ENGINES
from qsjax.engines.tuning import Tuned, formats_of, tune
from qsjax.numerics.numpy_backend import is_traced
from qsjax.numerics.safe import scalar
from qsjax.records import checks
from qsjax.records.fields import COUNT, SHARE
from qsjax.records.precision import workload_of
from qsjax.records.specs import PHYSICAL, Convention, HardwareSpec, ModelSpec, Workload

# What a record without a label is called.
MODEL, GPU = "my-model", "my-gpu"
TRACED = (
    "a traced value is no number to search by; differentiate qsjax.decode, or ask sensitivity for "
    "the slopes of the optimum"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One row of the comparison: the model itself, or its dense twin at a quality factor q."""

    name: str
    q: float | None

    @property
    def label(self) -> str:
        """`moe`, `dense`, or `dense q=5`."""
        return self.name if self.q is None else f"{self.name} q={self.q:g}"


class Served(NamedTuple):
    """A model with what is stored and multiplied in which precision, under its name.

    `max_context` is the longest context that it is published for [tokens], 0 where that is unknown;
    `mtp_layers` counts its layers for multi-token prediction.
    """

    name: str
    spec: ModelSpec
    workload: Workload
    max_context: int = 0
    mtp_layers: int = 0


class Accelerator(NamedTuple):
    """Hardware under its name.

    Attributes:
        name: in answers.
        spec: its numbers.
        engine: what serves on it; "" where that is not stated.
        tuned: by model name, its numbers with the constants of that engine's kernels.
    """

    name: str
    spec: HardwareSpec
    engine: str = ""
    tuned: Mapping[str, Tuned] = {}


def variants_of(model: ModelSpec, qs: Sequence[float]) -> list[Variant]:
    """The model and, if it has experts, its dense twins."""
    if not model.is_moe:
        return [Variant("dense", None)]
    return [Variant("moe", None), *(Variant("dense", q) for q in qs)]


def as_served(
    model: Any, weights: Any = None, kv: Any = None, workload: Workload | None = None
) -> Served:
    """A model from its name, a file, the dict of a config.json, its entry or its shapes.

    Args:
        model: any of these.
        weights: dtype of the weights instead of the published one.
        kv: dtype of the cache instead.
        workload: all precisions instead.

    Raises:
        ValueError: with what is wrong with it.
    """
    if isinstance(model, Served):
        return model
    if checks.is_record(model):
        name = base_name(str(getattr(model, "label", "")))
        entry = catalog.model_entry(name) if name in catalog.model_names() else None
    else:
        entry = model if isinstance(model, catalog.ModelEntry) else catalog.model_entry(model)
        model = entry.spec
    more = (entry.max_context, entry.mtp_layers) if entry else ()
    (spec,) = checks.check_records(model=model, single=True)
    if workload is None:
        workload = workload_of(spec, weights=weights, kv=kv, context=1.0)
    # The workload has the precisions now; without them models of any stack up.
    return Served(spec.label or MODEL, dataclasses.replace(spec, precision=None), workload, *more)


def served(
    model: Any,
    *,
    weights: Any = None,
    kv: Any = None,
    acceptance: float | None = None,
    drafts: int | None = None,
) -> Served:
    """A model with precisions or speculation of its own, under a name that says so.

    With speculation a step runs `drafts` + 1 tokens of each sequence and yields as many as are
    accepted in a row: (1 - a^(drafts + 1)) / (1 - a) for an acceptance a of each (Leviathan et al.,
    arXiv 2211.17192, eq. 1). The time of drafting itself is left out.

    Args:
        model: as for `Problem`.
        weights: dtype of the weights instead of the published one.
        kv: dtype of the cache instead.
        acceptance: share of drafted tokens that is accepted, at least 0 and below 1.
        drafts: tokens drafted in each step; 1 where an acceptance alone is given.

    Raises:
        ValueError: a name or a number is wrong.

    >>> served("deepseek-v3", acceptance=0.85).workload.tokens_per_step
    1.85
    """
    plain = as_served(model, weights, kv)
    if is_traced((acceptance, drafts)):
        raise ValueError(f"acceptance, drafts: {TRACED}")
    changes = [f"{name}={value}" for name, value in (("weights", weights), ("kv", kv)) if value]
    work = plain.workload
    if drafts is not None and acceptance is None:
        raise ValueError(f"drafts={drafts:g} says nothing alone; give acceptance=0.85 beside it")
    if acceptance is not None:
        drafts = 1 if drafts is None else drafts
        strange = checks.value_problem(SHARE, acceptance) or checks.value_problem(COUNT, drafts)
        if strange or acceptance == 1:
            raise ValueError(
                f"acceptance={acceptance}, drafts={drafts} is not allowed; give a share from 0 "
                "to below 1, such as 0.85, and a whole number of drafts, at least 1"
            )
        made = sum(acceptance**k for k in range(int(drafts) + 1))
        changes.append(f"acceptance={acceptance:g}" + (f" of {drafts:g}" if drafts > 1 else ""))
        work = dataclasses.replace(work, query_tokens=drafts + 1.0, tokens_per_step=made)
    name = ", ".join([plain.name, *changes])
    return plain._replace(name=name, workload=work)


def base_name(name: str) -> str:
    """What the name of a variant is a variant of.

    >>> base_name("llama-3.1-70b, kv=fp8")
    'llama-3.1-70b'
    """
    return name.partition(",")[0]


def as_accelerator(hardware: Any) -> Accelerator:
    """An accelerator from its name, a file, its entry or its numbers, or as it is.

    Raises:
        ValueError: with what is wrong with it.
    """
    if isinstance(hardware, Accelerator):
        return hardware
    if not checks.is_record(hardware):
        is_entry = isinstance(hardware, catalog.HardwareEntry)
        hardware = (hardware if is_entry else catalog.hardware_entry(hardware)).spec
    (spec,) = checks.check_records(hardware=hardware, single=True)
    return Accelerator(spec.label or GPU, spec)


def serving(device: Accelerator, model: Served) -> Accelerator:
    """An accelerator with the constants of its engine's kernels for a model."""
    tuned = device.tuned.get(model.name)
    return device if tuned is None else device._replace(spec=tuned.spec)


def counted(rules: Convention, tuned: Tuned | None) -> Convention:
    """An accounting with the load of the experts as the constants of kernels were fitted."""
    if tuned is None or rules != PHYSICAL:
        return rules
    return dataclasses.replace(rules, expert_balance=tuned.expert_balance)


def served_by(engine: str, models: Sequence[Served], device: Accelerator) -> Accelerator:
    """An accelerator with the constants of an engine's kernels for the formats of models.

    A model without measured kernels keeps the constants that fit all engines.

    Raises:
        ValueError: the engine is unknown.
    """
    if not engine:
        return device
    if problem := checks.choice_problem(engine, ENGINES):
        raise ValueError(f"engine: {problem}")
    tuned = {model.name: _tuned(engine, model, device) for model in models}
    return device._replace(engine=engine, tuned=tuned)


def _tuned(engine: str, model: Served, device: Accelerator) -> Tuned:
    is_mxfp4 = scalar(model.workload.bytes_ffn_weight) == MXFP4 and model.spec.is_moe
    rule = kernels_of({}, engine, device) if is_mxfp4 else None
    name, launches = (rule.name, rule.launches) if rule else ("", 0.0)
    formats = formats_of(model, model.workload, is_mxfp4=is_mxfp4, kernels=name)
    return tune(device, engine, formats, launches=launches)
