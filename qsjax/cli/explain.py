"""`qsjax explain MODEL`: one stated deployment."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from qsjax import catalog, engines
from qsjax.catalog import lookup
from qsjax.cli import explained, figures, options, serving_options, session
from qsjax.cost.laws.memory import reserve_bytes, usable_bytes
from qsjax.cost.metrics import Economy, costs, elasticities
from qsjax.engines import Deployment, WrittenEngine
from qsjax.engines.held import held
from qsjax.engines.memory import static_base, visible_bytes
from qsjax.engines.precision import REFUSING, about_name, broken_blocks, weights_of
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import files, folder
from qsjax.questions.diagnosis import remarks
from qsjax.questions.disaggregation import companion
from qsjax.questions.explain import Case, Explanation, explain_both, explanation_record
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    CONVENTIONS,
    DEGREES,
    KV_MODES,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)

CONTEXT = 8192.0  # where neither a flag nor the engine says one
# The field of `Deployment` in which each engine's share of the memory stands.
_ENGINES: dict[WrittenEngine, str] = {"vllm": "usable_fraction", "sglang": "static_fraction"}
_PROGRAMS = ("vllm", "sglang", "python", "python3")


def _check_model(model: str) -> None:
    """Refuse a command line whose program stands where MODEL should."""
    if model.startswith("-") or Path(model).name in _PROGRAMS:
        raise ValueError(
            f"MODEL is missing in front of `--`: {model!r} is a word of the engine's command line; "
            "write qsjax explain MODEL [OPTIONS] -- COMMAND LINE"
        )


def _about_model(name: str, served: str | None) -> tuple[str, ...]:
    """A note where the engine's command line serves another model of the catalogue."""
    try:
        own, other = (lookup.find("models", one) for one in (name, served or name))
    except ValueError:  # a file of the user's, or a name that only the engine knows
        return ()
    if own == other:
        return ()
    return (f"the engine's flags serve {served}, but all that is said here is of {own}",)


def _deployment(words: tuple[str, ...], flags: dict[str, Any], is_moe: bool) -> Deployment:
    """The engine's flags, overridden by this command's own."""
    own: dict[str, Any] = {
        name: serving_options.one(name, flags[name]) for name in (*DEGREES, "batch")
    }
    if flags["kv_mode"] is not None:
        if flags["kv_mode"] not in KV_MODES:
            raise ValueError(
                f"--kv-mode: {flags['kv_mode']!r} is not one mode; give {', '.join(KV_MODES)}"
            )
        own["kv_mode"] = KV_MODES[flags["kv_mode"]]
    read = engines.read(words, is_moe=is_moe) if words else Deployment()
    return dataclasses.replace(read, **{n: v for n, v in own.items() if v is not None})


class Own(NamedTuple):
    """What engines' shares of the memory hold besides the weights and cache of the laws [B].

    Attributes:
        beside: weights.
        kept: vLLM's own buffers, in its share.
        visible: what vLLM's share is one of.
        ranks: GPUs of the design.
    """

    beside: float
    kept: float
    visible: float
    ranks: float


def _shares(records: Records, own: Own) -> dict[str, float | None]:
    """The memory of a design as each engine's share; None where it would be above 1."""
    # On the host: nothing is compiled for a number.
    room = scalar(on_host(usable_bytes)(records.model, records.hardware)) + own.beside
    shares = {
        "usable_fraction": (room + own.kept) / own.visible,
        "static_fraction": room / static_base(scalar(records.hardware.hbm_bytes), own.ranks),
    }
    return {name: share if share <= 1 else None for name, share in shares.items()}


def _inputs(
    deployment: Deployment, work: Workload, flags: dict[str, Any]
) -> tuple[Partition, Workload]:
    """The records of a deployment; what its flags leave open is the catalogue's or a default."""
    degrees = {name: getattr(deployment, name) for name in (*DEGREES, "kv_mode")}
    context = serving_options.contexts_of(flags, (deployment.context or CONTEXT,))
    if deployment.context is not None and max(context) > deployment.context:
        raise ValueError(
            f"the context of {max(context):g} tokens and the engine's limit of "
            f"{deployment.context:g} contradict each other; lower one or raise the other"
        )
    changes: dict[str, Any] = {"context": serving_options.one("context", context)}
    changes["batch"] = deployment.batch
    if deployment.kv_block is not None:
        changes["kv_block"] = deployment.kv_block
    if deployment.bytes_kv is not None and flags["kv"] is None:
        changes["bytes_kv"] = deployment.bytes_kv
    partition = Partition(**degrees, gathers_queries=deployment.gathers_queries)
    return partition, dataclasses.replace(work, **changes)


def _held(
    deployment: Deployment,
    entry: catalog.ModelEntry,
    partition: Partition,
    work: Workload,
    flags: dict[str, Any],
) -> tuple[ModelSpec, HardwareSpec, Workload, Own, tuple[str, ...]]:
    """The records as the engine of the command line holds them; without one as they are."""
    hardware = catalog.hardware_entry(flags["hardware"])
    capacity, ranks = scalar(hardware.spec.hbm_bytes), deployment.gpus / deployment.replicas
    if deployment.engine is None:
        kept = scalar(on_host(reserve_bytes)(entry.spec, hardware.spec))
        return entry.spec, hardware.spec, work, Own(0.0, kept, capacity, ranks), ()
    is_given = deployment.bytes_kv is not None or flags["kv"] is not None
    found = held(deployment, entry, hardware, partition, work, is_cache_given=is_given)
    own = Own(found.beside, found.kept, visible_bytes(capacity), ranks)
    return found.model, found.hardware, found.workload, own, found.notes


def _case_flags(case: Case, deployment: Deployment, own: Own, is_moe: bool) -> dict[str, Any]:
    """A design as flags of both engines."""
    records = case.records
    degrees: dict[str, Any] = {
        name: scalar(getattr(records.partition, name)) for name in (*DEGREES, "kv_mode")
    }
    degrees |= _shares(records, own)
    design = dataclasses.replace(
        deployment,
        **degrees,
        batch=scalar(case.parts.step.capacity.batch),
        context=scalar(records.workload.context),
        bytes_kv=scalar(records.workload.bytes_kv),
    )
    found: dict[str, Any] = {}
    for engine, share in _ENGINES.items():
        written = engines.write(design, engine, is_moe)
        notes = list(written.notes)
        if getattr(design, share) is None:
            notes.append(f"{engine} keeps more memory for itself than this design leaves it")
        found[engine] = {"flags": written.command, "notes": notes}
    return found


def _record(
    both: tuple[Explanation, Explanation],
    deployment: Deployment,
    own: Own,
    is_moe: bool,
    economy: Economy,
    requests: tuple[float, float] | None,
) -> dict[str, Any]:
    chosen, beside = both
    record = explanation_record(chosen)
    for name in ("stated", "best", "best_as_fast"):
        case: Case | None = getattr(chosen, name)
        if case is not None:
            rate = scalar(case.parts.step.tokens_per_s_per_gpu)
            record[name]["engine_flags"] = _case_flags(case, deployment, own, is_moe)
            record[name]["costs"] = costs(rate, economy)
    record["cost_elasticities"] = elasticities(
        scalar(chosen.stated.parts.step.tokens_per_s_per_gpu), economy
    )
    rules = CONVENTIONS[chosen.convention]
    attention = chosen.stated.parts.roofs["attention"]
    stated = chosen.stated.records
    record["notes"] = [*deployment.notes, *remarks(stated, rules, attention)]
    if deployment.context == scalar(stated.workload.context):
        record["notes"].append(
            f"every sequence counts as long as the engine's limit of {deployment.context:,.0f} "
            "tokens; --context, or --isl and --osl, say how long they are"
        )
    record["replicas"] = deployment.replicas
    record["beside"] = explanation_record(beside)
    if requests and chosen.stated.is_feasible:
        step = chosen.stated.parts.step
        rates = float(step.tpot), float(step.tokens_per_s_per_gpu)
        record["prefill"] = dataclasses.asdict(companion(chosen.stated.records, *rates, *requests))
    return record


def _refuse(record: dict[str, Any], found: Explanation, deployment: Deployment, block: int) -> None:
    """Say of every design whether engines refuse its split; a stated one of theirs does not run."""
    for name in ("stated", "best", "best_as_fast"):
        case: Case | None = getattr(found, name)
        if case is None:
            continue
        broken = broken_blocks(case.records.model, case.records.partition, block)
        for text in broken:
            if name == "stated" and deployment.engine in REFUSING:
                lacks = {"reason": "the engine refuses the split", "missing": 0.0, "text": text}
                record[name]["shortcomings"].append(lacks)
                record[name]["is_feasible"] = False
            elif name == "stated":
                record["notes"].insert(0, text)
            else:
                for engine in _ENGINES:
                    record[name]["engine_flags"][engine]["notes"].append(text)


def _drawings(record: dict[str, Any], hardware: HardwareSpec, title: str) -> dict[str, Any]:
    from qsjax import plotting

    variant = "moe" if record["is_moe"] else "dense"
    cases = {name: record[name] for name in ("stated", "best") if record[name]}
    ledgers = [
        {
            "label": name,
            "terms": explained.named(case["memory_bytes"], record["is_moe"]),
            "capacity": case["hbm_bytes"],
        }
        for name, case in cases.items()
    ]
    points = [
        {"variant": variant, "q": None, "phase": name, **roof}
        for name, roof in record["stated"]["roofline"].items()
    ]
    peaks = {name: scalar(getattr(hardware, f"flops_{name}")) for name in ("bf16", "fp8")}
    roofs = {"hbm_bw": scalar(hardware.hbm_bw), "peaks": peaks}
    found: dict[str, Any] = {
        "roofline": partial(plotting.roofline, points, roofs, title=title),
    }
    if all(min(case["memory_bytes"].values()) >= 0 for case in cases.values()):
        found["memory"] = partial(plotting.memory_ledger, ledgers, title=title)
    return found


@click.command("explain")
@options.model_argument
@click.argument("engine_flags", nargs=-1, type=click.UNPROCESSED)
@options.hardware_option
@click.option("--context", type=options.Numbers(whole=True), help="Context length.  [default: 8k]")
@serving_options.request_options
@options.axis_options
@options.dtype_options
@serving_options.economy_options
@options.output_options
@options.input_errors
def command(model: str, engine_flags: tuple[str, ...], **flags: Any) -> None:
    r"""Take one deployment of MODEL apart: does it run, where do memory and time go.

    Beside it stands the best design of as many GPUs, also as flags of vLLM and SGLang.

    MODEL:q=5 is the dense twin at that quality factor. State the split by --tp, --ep, --pp, --dp,
    --kvp, or by the command line of an engine (vLLM, SGLang, TensorRT-LLM) after `--`. Without
    --batch it is the largest that fits.

    \b
    Examples:
      qsjax explain deepseek-v3 --hardware h200-sxm --tp 8 --dp 8 --ep 64 --context 32k
      qsjax explain mixtral-8x7b --hardware h100-sxm --tp 8 --isl 4096 --osl 1024
      qsjax explain deepseek-v3 --hardware h200-sxm -- \
        vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 \
        --data-parallel-size 4 --enable-expert-parallel --max-num-seqs 128
    """
    _check_model(model)
    title = f"{model} on {flags['hardware']}"
    name, q = serving_options.model_and_q(model)
    spec: ModelSpec = catalog.model(name)
    is_moe = q is None and scalar(spec.experts) > 1
    deployment = _deployment(engine_flags, flags, is_moe)
    about = _about_model(name, deployment.model)
    entry = catalog.model_entry(name)
    dtype, of_weights = weights_of(entry.weight_dtype, deployment)
    served = about_name(deployment.model, flags["weights"] or dtype or entry.weight_dtype)
    notes = (*about, *deployment.notes, *(() if flags["weights"] else of_weights), *served)
    deployment = dataclasses.replace(deployment, notes=notes, weights=dtype)
    weights = {"weights": flags["weights"] or dtype}
    work = serving_options.workload_of(name, flags | weights)
    partition, work = _inputs(deployment, work, flags)
    spec, hardware, work, own, held_notes = _held(deployment, entry, partition, work, flags)
    deployment = dataclasses.replace(deployment, notes=(*held_notes, *deployment.notes))
    # A twin, or other weights, have no blocks.
    block = entry.weight_block if q is None and not (flags["weights"] or dtype) else 0
    economy = serving_options.economy_from(hardware, flags)
    session.note_contexts(name, [scalar(work.context)])
    both = explain_both(spec, hardware, partition, work, flags["convention"], q)
    isl, osl = serving_options.one("isl", flags["isl"]), serving_options.one("osl", flags["osl"])
    requests = (isl, osl) if isl is not None and osl is not None else None
    record = {"model": model, "is_moe": is_moe, "hardware": flags["hardware"]}
    record["context"] = work.context
    record |= _record(both, deployment, own, is_moe, economy, requests)
    _refuse(record, both[0], deployment, block)
    title += f", context {work.context:,.0f}"
    if flags["format_"] == "table":
        explained.show(record, title)
    else:
        options.print_record(record, flags["format_"])
    if flags["out"]:
        records = {
            "model": {"name": model, **files.spec_dict(spec)},
            "hardware": {"name": flags["hardware"], **files.spec_dict(hardware)},
            "partition": files.spec_dict(partition),
            "workload": files.spec_dict(work),
        }
        asked = folder.text("explain", [model, *engine_flags], flags, records)
        _write(flags["out"], asked, record, hardware, title)


def _write(
    out: Path, asked: str, record: dict[str, Any], hardware: HardwareSpec, title: str
) -> None:
    files.write_atomically(out / "inputs.json", asked)
    files.write_atomically(out / "result.json", json.dumps(files.finite(record), indent=1))
    names = ["inputs.json", "result.json", *figures.save(out, _drawings(record, hardware, title))]
    session.note(f"Written to {out}: {', '.join(names)}")
