"""`explain_command`: a deployment by its engine's flags, and every design as flags again."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from qsjax import engines
from qsjax.cost.decode import evaluate
from qsjax.cost.laws.memory import usable_bytes
from qsjax.cost.prefix import requests_of
from qsjax.engines import WrittenEngine
from qsjax.engines.held import NAMES
from qsjax.engines.memory import sizes, static_base, trtllm_free
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.precision import REFUSING, broken_blocks
from qsjax.engines.spread import LEVEL
from qsjax.grid.case import Case
from qsjax.grid.diagnosis import Shortcoming
from qsjax.grid.entry import entry
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output.result import Row
from qsjax.questions.explain.answers import Explanation, explained
from qsjax.questions.explain.stated import STATED, Asked, Stated, stated_by
from qsjax.records.conversion import kind_of
from qsjax.records.specs import DEGREES, Records

# The field of `Deployment` in which each engine's share of the memory stands.
_ENGINES: dict[WrittenEngine, str] = {
    "vllm": "usable_fraction",
    "sglang": "static_fraction",
    "trtllm": "free_fraction",
}


def _shares(records: Records, stated: Stated) -> dict[str, float | None]:
    """The memory of a design as each engine's share; None where it would be above 1."""
    # On the host: nothing is compiled for a number.
    memory, (model, hardware, part, work) = stated.memory, records[:4]
    room = scalar(on_host(usable_bytes)(model, hardware)) + memory.beside
    one = OperatingPoint(
        model=model,
        model_name="",
        hardware=hardware,
        hardware_name="",
        partition=part,
        workload=work,
    )
    tokens = stated.deployment.batched_tokens
    weights = sizes(model, part, work)[0] + memory.beside
    free = trtllm_free(one, {"max_batched_tokens": tokens} if tokens else {}, weights)
    shares = {
        "usable_fraction": (room + memory.kept) / memory.visible,
        "static_fraction": room / static_base(scalar(hardware.hbm_bytes), memory.ranks),
        "free_fraction": (room - weights) / free if free > 0 else math.inf,
    }
    return {name: share if share <= 1 else None for name, share in shares.items()}


def _engine_flags(case: Case, stated: Stated, is_moe: bool) -> Row:
    """A design as flags of vLLM and SGLang, and of TensorRT-LLM where it is the engine."""
    part, step, deployment = case.records.partition, case.parts.step, stated.deployment
    degrees: dict[str, Any] = {n: scalar(getattr(part, n)) for n in (*DEGREES, "kv_mode")}
    degrees |= _shares(case.records, stated)
    copies = scalar(step.replicas)
    if not is_moe and case.rules.dense_replicas == "whole":
        copies, degrees["dp"] = copies * degrees["dp"], 1.0
    design = dataclasses.replace(
        deployment,
        **degrees,
        replicas=copies,
        batch=scalar(step.capacity.batch),
        context=stated.longest,
        bytes_kv=scalar(case.records.workload.bytes_kv),
    )
    by_engine: Row = {}
    others = {"trtllm"} - {stated.deployment.engine or stated.problem.engine}
    for engine, share in _ENGINES.items():
        if engine in others:
            continue
        # vLLM's data parallelism of a mixture shares the experts; SGLang's does beside its own.
        shares_experts = is_moe and (engine == "vllm" or degrees["dp"] > 1)
        is_apart = shares_experts or engine == "trtllm"  # which has no copies
        one = dataclasses.replace(design, replicas=1.0) if is_apart else design
        written = engines.write(one, engine, is_moe)
        notes = list(written.notes)
        if deployment.drafter is not None:
            notes.append("speculation is not among these flags; add your own")
        if engine == "trtllm" and re.search("attention_dp|cache_dtype", written.command):
            notes.append(
                "older releases take enable_attention_dp and kv_cache_config.dtype from the YAML "
                "file of --extra_llm_api_options alone"
            )
        if is_apart and copies > 1:
            notes.append(f"start {copies:g} of these, with nothing between them")
        if getattr(design, share) is None:
            notes.append(f"{engine} keeps more memory for itself than this design leaves it")
        notes += broken_blocks(case.records.model, part, stated.block, stated.expert_hidden)
        by_engine[engine] = {"flags": written.command, "notes": notes}
    return by_engine


def _refusal(case: Case, stated: Stated, longest: int) -> str:
    """What vLLM says of a limit that it takes from the model, if no sequence of that length fits.

    Source: vLLM, v1/core/kv_cache_utils.py (check_enough_kv_cache_memory).
    """
    deployment, work = stated.deployment, case.records.workload
    is_told = deployment.context or "max-model-len" in deployment.words.replace("_", "-")
    if deployment.engine != "vllm" or is_told or scalar(work.context) >= longest:
        return ""
    fits = [
        scalar(evaluate(records, case.rules).capacity.max_batch) >= 1
        for length in (scalar(work.context), float(longest))
        for one in [dataclasses.replace(work, context=length, batch=1.0)]
        for records in [case.records._replace(workload=one, gpus=None)]
    ]
    if fits != [True, False]:
        return ""
    return (
        f"vLLM refuses to start it without --max-model-len: it then takes the model's {longest:,} "
        f"tokens, and no sequence of that length fits; write --max-model-len {stated.longest:.0f}."
    )


def _with_engines(answer: Explanation, stated: Stated) -> Explanation:
    """The explanation with what engines make of it: flags, notes, and splits that they refuse."""
    deployment, case = stated.deployment, answer.stated
    own = (case.records.model, case.records.partition)
    broken = broken_blocks(*own, stated.block, stated.expert_hidden)
    notes = [*deployment.notes, *answer.notes]
    if deployment.engine in REFUSING:
        lacks = [Shortcoming("the engine refuses the split", 0.0, text) for text in broken]
        case = dataclasses.replace(case, shortcomings=(*case.shortcomings, *lacks))
    else:
        notes = [*broken, *notes]
    context = answer.problem.stated.contexts[0]
    if deployment.context == context:
        notes.append(
            f"every sequence counts as long as the engine's limit of {context:,.0f} tokens; "
            "--context, or --isl and --osl, say how long they are"
        )
    longest = answer.problem.stated.models[0].max_context
    if deployment.context and deployment.context > longest > 0:
        notes.append(
            f"engines refuse a limit of {deployment.context:,.0f} tokens for a model of "
            f"{longest:,}, unless its rope is scaled or VLLM_ALLOW_LONG_MAX_MODEL_LEN (SGLang: "
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN) is 1"
        )
    more = {
        name: {"engine_flags": _engine_flags(named, stated, answer.is_moe)}
        for name, named in answer.own.cases().items()
    }
    sides = (dataclasses.replace(answer.own, stated=case), *answer.sides[1:])
    refusal = _refusal(case, stated, longest)
    return dataclasses.replace(answer, sides=sides, notes=tuple(notes), more=more, refusal=refusal)


def _explained(stated: Stated, beside: Mapping[str, Any]) -> Explanation:
    """What a stated deployment does.

    An engine's limit of sequences is no promise: where fewer fit, the others wait.
    """
    engine = stated.deployment.engine or stated.problem.engine
    asked: Any = partial(explained, engine=engine, **beside)
    problem, partition = stated.problem, stated.partition
    limit, most, context = stated.deployment.batch, stated.memory.most, problem.stated.contexts[0]
    answer, notes = asked(problem, partition), tuple[str, ...]()
    lacks = {one.reason for one in answer.stated.shortcomings}
    if stated.is_limit and lacks == {"batch does not fit"}:
        answer = asked(dataclasses.replace(problem, batch=None), partition)
        fits = scalar(answer.stated.parts.step.capacity.batch)
        notes = (
            f"the engine takes up to {limit:,.0f} sequences, of which {fits:,.0f} of "
            f"{context:,.0f} tokens fit at once; the others wait",
        )
    fits = scalar(answer.stated.parts.step.capacity.batch)
    if (limit is None or stated.is_limit) and partition is not None and 1.0 <= most < fits:
        answer = asked(dataclasses.replace(problem, batch=most), partition)
        why = "where no flag says more" if limit is None else "by its pool of recurrent states"
        notes = (
            f"{NAMES[stated.deployment.engine or '']} runs {most:,.0f} sequences of a replica at "
            f"once {why}, of {fits:,.0f} of {context:,.0f} tokens that fit",
        )
    return dataclasses.replace(answer, notes=(*notes, *answer.notes))


@entry
def explain_command(
    command: str | Sequence[str],
    hardware: Any,
    *,
    design: Mapping[str, Any] | None = None,
    requests: tuple[float, float] | None = None,
    prefix_hit_rate: float = 0.0,
    acceptance: float | None = None,
    level: float = LEVEL,
    **stated: Any,
) -> Explanation:
    """Take the deployment of an engine's command line apart, by the rules of that engine.

    It is `explain` with what the flags say: degrees, batch, precisions, memory, kernels, drafts.
    `more` of the result has the designs as flags of vLLM and SGLang, and those of TensorRT-LLM
    where it is the engine.

    Args:
        command: of vLLM, SGLang or TensorRT-LLM: a line, a script, a manifest, or words; "" for a
            deployment that `design` or `gpus` states.
        hardware: a name, a .toml file or an entry of the catalogue; None for the one that the
            script or manifest asks for, else an H100.
        design: tp, ep, pp, dp, kvp, kv_mode, replicas, batch, in place of the engine's.
        requests: input and output tokens of a request.
        prefix_hit_rate: as for `explain`.
        acceptance: chance that a draft is accepted, where the command line drafts.
        level: as for `explain`.
        **stated: arguments of a `Problem`, in place of what the command line says: `model`,
            `twins` (one: the dense twin is explained instead), `gpus` (filled by copies; without a
            command or degrees the best design on so many), `context` (else the input and half of
            the output of `requests`, the engine's limit, or 8k), `weights`, `kv`, `economy`,
            `convention`, `engine` (of a deployment without a command line).

    Raises:
        ValueError: with what is wrong with the command line or an argument.

    >>> found = explain_command("vllm serve Qwen/Qwen3-8B -tp 2", "h100-sxm", context="8k")
    >>> found.own_name, int(found.stated.records.partition.tp)
    ('qwen3-8b', 2)
    """
    if unknown := sorted(stated.keys() - set(STATED)):
        raise ValueError(f"{', '.join(unknown)}: not known; give some of {', '.join(STATED)}")
    if not isinstance(command, Sequence):
        raise ValueError(f"command: {kind_of(command)} was given; give a command line as text")
    words = tuple(filter(None, [command] if isinstance(command, str) else command))
    requests = requests_of(requests)
    said = Asked(words, hardware, design or {}, requests, acceptance, **stated)
    deployed = stated_by(said)
    beside = {"requests": requests, "prefix_hit_rate": prefix_hit_rate, "level": level}
    return _with_engines(_explained(deployed, beside), deployed)
