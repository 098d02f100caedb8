"""What an engine's command line and the flags of `explain` state: a problem and a partition."""

import dataclasses
import re
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import jax

from qsjax import catalog, engines
from qsjax.catalog import lookup
from qsjax.catalog.huggingface import expanded
from qsjax.cli import serving_options, session
from qsjax.cost.laws.memory import reserve_bytes, usable_bytes
from qsjax.cost.speculation import ACCEPTANCE, speculated
from qsjax.engines import Deployment, WrittenEngine
from qsjax.engines.held import held
from qsjax.engines.memory import static_base, visible_bytes
from qsjax.engines.precision import (
    REFUSING,
    about_name,
    bits_of_gguf,
    broken_blocks,
    weights_of,
)
from qsjax.engines.rules import load_engines
from qsjax.grid.case import Case
from qsjax.grid.diagnosis import Shortcoming
from qsjax.grid.evaluation import evaluate
from qsjax.grid.problem import Problem, named_rules
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output.result import Row
from qsjax.questions.explain import Explanation, explain
from qsjax.records.precision import stored_in
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    DEGREES,
    KV_MODES,
    Convention,
    HardwareSpec,
    Partition,
    Workload,
)
from qsjax.records.units import GIB, MS

CONTEXT = 8192.0  # where neither a flag nor the engine says one
# The field of `Deployment` in which each engine's share of the memory stands.
_ENGINES: dict[WrittenEngine, str] = {"vllm": "usable_fraction", "sglang": "static_fraction"}
_PROGRAM = re.compile(
    r"[A-Z_]\w*=|-|(.*/)?(vllm|sglang|trtllm-\S+|python[\d.]*|docker|podman|uvx?|env|nohup|exec|srun"
    r"|mpirun|torchrun|numactl|sudo|bash|sh|ssh|kubectl|singularity|apptainer|tmux|timeout"
    # Engines whose flags are not read, which are told so.
    r"|lmdeploy|ollama|llama-server|text-generation-launcher|mlx_lm\.server|tritonserver)$"
)
# A script, a manifest or a call in one word: no name has lines, a flag behind a space, or brackets.
_TEXT = re.compile(r"\n|\s--?[A-Za-z]|\w\(|^\s*\{")
_LONGEST = 80


def served(model: str, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """MODEL and the engine's words; of a command line alone, the model that it serves.

    Raises:
        ValueError: the command line serves none.
    """
    is_text = not words and _TEXT.search(model)
    if not (is_text or _PROGRAM.match(model.partition(" ")[0])):
        return model, words
    line = (model, *words)
    name = engines.read(line).model
    name = name and re.sub(r"^\$\{?\w+\}?/(?=.)", "", name)  # a folder that a variable holds
    if not name or name.startswith(("$", "<", "{")):
        shown = " ".join(" ".join(line).split())
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
        raise ValueError(
            f"MODEL is missing in front of `--`, and {shown!r} names none; write qsjax explain "
            "MODEL [OPTIONS] -- COMMAND LINE"
        )
    return _here(name), line


def _here(name: str) -> str:
    """A model by name; of a folder that is not on this machine, what the folder is called."""
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
    if not is_path or expanded(name).exists():
        return name
    last = PurePosixPath(name).name
    try:
        lookup.find("models", last)
    except ValueError:
        return name
    return last


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
    if deployment.bytes_state is not None:
        changes["bytes_state"] = deployment.bytes_state
    if deployment.bytes_kv is not None and flags["kv"] is None:
        changes["bytes_kv"] = deployment.bytes_kv
    partition = Partition(**degrees, gathers_queries=deployment.gathers_queries)
    return partition, dataclasses.replace(work, **changes)


def _is_small(hardware: catalog.HardwareEntry) -> bool:
    """Whether what accelerators of 80 GB keep for the runtime is too much for this one.

    What a file states holds, and so does the memory of the paper's accelerators; other entries of
    the catalogue state it for one GPU, which the engine's rules refine.
    """
    large = float(load_engines()["vllm"]["large"]) * GIB
    is_file = hardware.name not in catalog.hardware_names()
    is_stated = "reserve" in hardware.given and (is_file or "usable_fraction" in hardware.given)
    return scalar(hardware.spec.hbm_bytes) < large and not is_stated


def _held(
    deployment: Deployment,
    entry: catalog.ModelEntry,
    partition: Partition,
    work: Workload,
    flags: dict[str, Any],
) -> tuple[HardwareSpec, Workload, Own, tuple[str, ...]]:
    """Accelerator and workload as the engine of the command line holds them, or as they are."""
    hardware = catalog.hardware_entry(flags["hardware"])
    capacity, ranks = scalar(hardware.spec.hbm_bytes), deployment.gpus / deployment.replicas
    more: tuple[str, ...] = ()
    if deployment.engine is None and _is_small(hardware):
        deployment = dataclasses.replace(deployment, engine="vllm")
        more = (
            "without an engine's command line the memory of an accelerator below 70 GiB is divided "
            "as vLLM does",
        )
    if deployment.engine is None:
        kept = scalar(on_host(reserve_bytes)(entry.spec, hardware.spec))
        return hardware.spec, work, Own(0.0, kept, capacity, ranks), ()
    is_given = deployment.bytes_kv is not None or flags["kv"] is not None
    found = held(deployment, entry, hardware, partition, work, is_cache_given=is_given)
    own = Own(found.beside, found.kept, visible_bytes(capacity), ranks)
    return found.hardware, found.workload, own, (*found.notes, *more)


class Stated(NamedTuple):
    """A deployment as it was stated.

    Attributes:
        problem: its one cell.
        partition: its degrees; None where the best of so many GPUs is asked for.
        deployment: what the engine's flags say, with notes.
        own: what engines' shares of the memory hold besides.
        block: elements of a block of quantised weights; 0 without.
        longest: tokens of the longest request, prompt and answer.
        is_limit: whether the batch is only a limit of the engine's.
    """

    problem: Problem
    partition: Partition | None
    deployment: Deployment
    own: Own
    block: int
    longest: float
    is_limit: bool


def _speculating(
    records: Records, deployment: Deployment, name: str, acceptance: float | None
) -> tuple[HardwareSpec, Workload, tuple[str, ...]]:
    """Accelerator and workload of a deployment that drafts, and what is taken to be so.

    Raises:
        ValueError: the acceptance is no share, or nothing drafts.
    """
    drafts, method = deployment.drafts, deployment.drafter
    if acceptance is not None and not 0 <= acceptance <= 1:
        raise ValueError(f"--acceptance: {acceptance:g} is not allowed; give a share from 0 to 1")
    if drafts is None or method is None or deployment.verified is None:
        if acceptance is not None:
            raise ValueError(
                "--acceptance: nothing drafts here; add the engine's flags of speculation after "
                "`--`, or ask qsjax speculate"
            )
        return records.hardware, records.workload, ()
    share = ACCEPTANCE if acceptance is None else acceptance
    convention, _, _ = named_rules(name)  # drafting has one cost: that of the first accounting
    batch = deployment.batch
    if batch is None:
        batch = scalar(evaluate(_with_batch(records, 1.0), convention).capacity.max_batch)
    drafting = _with_batch(records, max(1.0, batch))
    found = _speculated(drafting, share, drafts, convention=convention, method=method)
    plain: Any = jax.tree.map(scalar, found._replace(gpus=None))
    work = dataclasses.replace(plain.workload, batch=None, query_tokens=float(deployment.verified))
    told = "taken to be" if acceptance is None else "said to be"
    note = (
        f"each of {drafts:g} drafts ({method}) is {told} accepted with a chance of {share:g}: "
        f"{scalar(work.tokens_per_step):.2f} tokens a step; drafting takes "
        f"{scalar(work.draft_time) / MS:.2f} ms of it (part of the overhead)"
    )
    # Names do not pass through the law.
    own = dataclasses.replace(plain.hardware, label=records.hardware.label)
    return own, work, (note,)


def _with_batch(records: Records, batch: float) -> Records:
    return records._replace(workload=dataclasses.replace(records.workload, batch=batch))


@on_host
def _speculated(
    records: Records, acceptance: Any, drafts: Any, *, convention: Convention, method: Any
) -> Records:
    return speculated(records, convention, method, acceptance, drafts)


def read(model: str, words: tuple[str, ...], flags: dict[str, Any]) -> Stated:
    """What MODEL, the words of an engine and the flags state.

    Raises:
        ValueError: with what is wrong with them.
    """
    name, q = serving_options.model_and_q(model)
    entry = catalog.model_entry(name)
    deployment = _deployment(words, flags, q is None and scalar(entry.spec.experts) > 1)
    dtype, of_weights = weights_of(entry.weight_dtype, deployment)
    stored = flags["weights"] or dtype
    bits, of_file = bits_of_gguf(deployment)
    notes = (
        *_about_model(name, deployment.model),
        *deployment.notes,
        *(() if flags["weights"] else (*of_weights, *of_file)),
        *about_name(deployment.model, stored or entry.weight_dtype),
    )
    work = serving_options.workload_of(name, flags | {"weights": stored})
    if bits is not None and not flags["weights"]:
        work = stored_in(work, bits / 8.0)
    partition, work = _inputs(deployment, work, flags)
    hardware, work, own, more = _held(deployment, entry, partition, work, flags)
    records = Records(entry.spec, hardware, partition, work, None)
    hardware, work, drafted = _speculating(
        records, deployment, flags["convention"], flags.get("acceptance")
    )
    session.note_contexts(name, entry.max_context, [scalar(work.context)])
    gpus = serving_options.one("gpus", flags["gpus"])
    is_free = gpus is not None and not words and not any(flags[name] for name in DEGREES)
    problem = Problem(
        entry.spec,
        hardware,
        gpus=gpus or deployment.gpus,
        context=scalar(work.context),
        twins=() if q is None else q,
        batch=deployment.batch or "largest",
        economy=serving_options.economy_flags(flags),
        convention=flags["convention"],
        workload=dataclasses.replace(work, batch=None),
    )
    deployment = dataclasses.replace(deployment, notes=(*more, *drafted, *notes), weights=dtype)
    # A twin, or other weights, have no blocks.
    block = entry.weight_block if q is None and not stored else 0
    requests = serving_options.requests_of(flags)
    longest = sum(requests) if requests else scalar(work.context)
    chosen = None if is_free else partition
    longest = max(longest, deployment.context or 0.0)
    is_limit = flags["batch"] is None and deployment.batch is not None
    return Stated(problem, chosen, deployment, own, block, longest, is_limit)


def engine_flags(case: Case, stated: Stated, is_moe: bool) -> Row:
    """A design as flags of both engines."""
    part, step, deployment = case.records.partition, case.parts.step, stated.deployment
    degrees: dict[str, Any] = {n: scalar(getattr(part, n)) for n in (*DEGREES, "kv_mode")}
    degrees |= _shares(case.records, stated.own)
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
    found: Row = {}
    for engine, share in _ENGINES.items():
        # vLLM's data parallelism of a mixture shares the experts; SGLang's does beside its own.
        is_apart = is_moe and (engine == "vllm" or degrees["dp"] > 1)
        one = dataclasses.replace(design, replicas=1.0) if is_apart else design
        written = engines.write(one, engine, is_moe)
        notes = list(written.notes)
        if deployment.drafter is not None:
            notes.append("speculation is not among these flags; add your own")
        if is_apart and copies > 1:
            notes.append(f"start {copies:g} of these, with nothing between them")
        if getattr(design, share) is None:
            notes.append(f"{engine} keeps more memory for itself than this design leaves it")
        notes += broken_blocks(case.records.model, part, stated.block)
        found[engine] = {"flags": written.command, "notes": notes}
    return found


def explained(
    stated: Stated,
    requests: tuple[float, float] | None,
    prefix_hit_rate: float,
    level: float,
) -> Explanation:
    """What a stated deployment does, with what engines make of it.

    An engine's limit of sequences is no promise: where fewer fit, the others wait.
    """
    engine = stated.deployment.engine or ""
    asked = partial(
        explain,
        requests=requests,
        prefix_hit_rate=prefix_hit_rate,
        engine=engine,
        level=level,
    )
    found = asked(stated.problem, stated.partition)
    limit, lacks = stated.deployment.batch, {one.reason for one in found.stated.shortcomings}
    if not stated.is_limit or lacks != {"batch does not fit"}:
        return with_engines(found, stated)
    free = dataclasses.replace(stated.problem, batch="largest")
    found = asked(free, stated.partition)
    fits = scalar(found.stated.parts.step.capacity.batch)
    context = free.stated.contexts[0]
    note = (
        f"the engine takes up to {limit:,.0f} sequences, of which {fits:,.0f} of {context:,.0f} "
        "tokens fit at once; the others wait"
    )
    return with_engines(dataclasses.replace(found, notes=(note, *found.notes)), stated)


def with_engines(found: Explanation, stated: Stated) -> Explanation:
    """The explanation with what engines make of it: flags, notes, and splits that they refuse."""
    deployment, case = stated.deployment, found.stated
    broken = broken_blocks(case.records.model, case.records.partition, stated.block)
    notes = [*deployment.notes, *found.notes]
    if deployment.engine in REFUSING:
        lacks = [Shortcoming("the engine refuses the split", 0.0, text) for text in broken]
        case = dataclasses.replace(case, shortcomings=(*case.shortcomings, *lacks))
    else:
        notes = [*broken, *notes]
    context = found.problem.stated.contexts[0]
    if deployment.context == context:
        notes.append(
            f"every sequence counts as long as the engine's limit of {context:,.0f} tokens; "
            "--context, or --isl and --osl, say how long they are"
        )
    more = {
        name: {"engine_flags": engine_flags(own, stated, found.is_moe)}
        for name, own in found.own.cases().items()
    }
    side = dataclasses.replace(found.own, stated=case)
    return dataclasses.replace(found, own=side, notes=tuple(notes), more=more)
