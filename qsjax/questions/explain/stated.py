"""A deployment as a command line or a few words state it: its records, and what they leave open."""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from qsjax import catalog, engines
from qsjax.catalog import gguf, lookup
from qsjax.catalog.huggingface import expanded
from qsjax.cost.decode import evaluate
from qsjax.cost.laws.memory import reserve_bytes
from qsjax.cost.metrics import Economy
from qsjax.cost.prefix import mean_context
from qsjax.cost.speculation import ACCEPTANCE, NO_HEAD, speculated
from qsjax.engines import Deployment
from qsjax.engines.held import held
from qsjax.engines.memory import visible_bytes
from qsjax.engines.precision import about_name, bits_of_gguf, weights_of
from qsjax.engines.rules import load_engines
from qsjax.engines.tuning import Tuned
from qsjax.grid.problem import Problem, named_rules, numbers
from qsjax.grid.served import Accelerator, as_accelerator, counted
from qsjax.numerics import trees
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.checks import check_names, value_problem
from qsjax.records.fields import SHARE
from qsjax.records.precision import dtype_named, stored_in
from qsjax.records.specs import (
    DEGREES,
    KV_MODES,
    Convention,
    HardwareSpec,
    Partition,
    Records,
    Workload,
)
from qsjax.records.units import GIB, MS

_PAPERS = (
    "constants of an engine are fitted to the physical accounting; the paper's accounting counts "
    "with them too"
)
_SMALL = (
    "what the runtime keeps of the memory is measured on 80 GB; of so small an accelerator state "
    "reserve_gib (1.9 on the catalogue's GPUs of 24 to 48 GB)"
)
_PLACED = "what was given asks for {0}, and this is {1}: --hardware {0} tells of that"
_TAKEN = "{0} is taken, for which the given text asks; --hardware gives another"
_HARDWARE = "h100-sxm"  # where nothing says which
CONTEXT = 8192.0  # where neither the user nor the engine says one
DESIGN = (*DEGREES, "kv_mode", "replicas", "batch")  # what a design may state beside the engine
_PROGRAM = re.compile(
    r"[A-Z_]\w*=|-|(.*/)?(vllm|sglang|trtllm-\S+|python[\d.]*|docker|podman|uvx?|env|nohup|exec|srun"
    r"|mpirun|torchrun|numactl|sudo|bash|sh|ssh|kubectl|singularity|apptainer|tmux|timeout"
    r"|nice|setsid|screen|stdbuf|taskset|nsys|ncu|ray|pixi|poetry|conda|enroot|systemd-run|xargs"
    r"|pm2|start-stop-daemon|lm[-_]eval|lighteval|swift|helm|gcloud|vastai|az|runpodctl|trl"
    # Engines whose flags are not read, which are told so.
    r"|lmdeploy|ollama|llama-(server|cli)|llamafile|text-generation-launcher|tritonserver"
    r"|mlx_lm\.server|mlc_llm|aphrodite|koboldcpp|xinference|gpustack|ramalama|lms|exo)$"
)
# A script, a manifest or a call in one word: no name has lines, a flag behind a space, or brackets.
_TEXT = re.compile(r"\n|\s--?[A-Za-z]|\w\(|^\s*\{")
_LONGEST = 80


class Asked(NamedTuple):
    """What a user says of a deployment, in the arguments of `explain_command` that state it."""

    words: tuple[str, ...]
    hardware: Any
    design: Mapping[str, Any]
    requests: tuple[float, float] | None
    acceptance: float | None
    model: Any = None
    twins: Any = ()
    gpus: Any = None
    context: Any = None
    weights: Any = None
    kv: Any = None
    economy: Economy | Mapping[str, float] | None = None
    convention: str | Convention = "physical"
    engine: str | None = None

    @property
    def twin(self) -> float | None:
        """Quality factor of the dense twin that is meant; None for the model itself."""
        return None if np.size(self.twins) == 0 else _one("twins", self.twins)


STATED = tuple(Asked._field_defaults)  # arguments of a `Problem` beside its hardware


def is_command(text: str, *after: str) -> bool:
    """Whether words begin a command line, or are a script or a manifest: no name of a model.

    A name before `serve`, `run` or `launch` is that of a program, known or not.

    >>> is_command("vllm serve Qwen/Qwen3-8B -tp 2"), is_command("qwen3-8b")
    (True, False)
    >>> is_command("mystery", "serve", "Qwen/Qwen3-8B"), is_command("lm_eval", "--model", "vllm")
    (True, True)
    """
    known = _TEXT.search(text) or _PROGRAM.match(text.partition(" ")[0])
    return bool(known or (after and after[0] in ("serve", "run", "launch")))


def _served(words: tuple[str, ...]) -> str:
    """The model that a command line serves.

    Raises:
        ValueError: it names none.
    """
    deployment = engines.read(words)
    name, under = deployment.model, _UNDER.search(deployment.words)
    name = name and re.sub(r"^\$\{?\w+\}?/(?=.)", "", name)  # a folder that a variable holds
    if not name or name.startswith(("$", "<", "{")):
        shown = " ".join(" ".join(words).split())
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
        raise ValueError(
            f"MODEL is missing: {shown!r} names none; write qsjax explain MODEL [OPTIONS] -- "
            "COMMAND LINE, or model= in Python"
        )
    try:
        return _here(name)
    except ValueError:  # a folder, which may be served under the name of its model
        if under is None or not lookup.is_model(under[1]):
            raise
        return under[1]


_UNDER = re.compile(r"--served[-_]model[-_]name[= ]+['\"]?([\w./:-]+)")
# Folders that Hugging Face's tools keep models in, and a revision in one.
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_REVISION = re.compile(r"/snapshots/\w+/*$")


def _here(name: str) -> str:
    """A model by name; of a folder that is not on this machine, what the folder is called.

    Raises:
        ValueError: there is no such folder, and no model of its name.
    """
    base = gguf.without(name)
    bare = base if base.count("/") == 1 and base[0] not in "/.~" else PurePosixPath(base).name
    if base != name and lookup.is_model(bare):
        return bare  # `engines.precision` reads the type of the file
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
    cached = _CACHED.search(name)
    if not (is_path or cached) or expanded(name).exists():
        return name
    last = f"{cached[1]}/{cached[2]}" if cached else PurePosixPath(_REVISION.sub("", name)).name
    try:
        lookup.find("models", last)
    except ValueError as error:
        raise ValueError(
            f"the command's model is the folder {name!r}, which is not on this machine: {error} "
            "MODEL in front of the command line says which it is"
        ) from None
    return last


def _about_name(model: Any, deployment: Deployment) -> tuple[str, ...]:
    """A note where the model of a command line is that under whose name it serves a folder."""
    under = _UNDER.search(deployment.words)
    is_under = under is not None and under[1] == model != deployment.model
    return (f"the model is {model}, as it is served under that name",) if is_under else ()


def _about_model(name: str, served: str | None) -> tuple[str, ...]:
    """A note where the engine's command line serves another model of the catalogue."""
    try:
        asked, other = (lookup.find("models", one) for one in (name, served or name))
    except ValueError:  # a file of the user's, or a name that only the engine knows
        return ()
    if asked == other:
        return ()
    return (f"the engine's flags serve {served}, but all that is said here is of {asked}",)


def _deployment(asked: Asked, is_moe: bool) -> Deployment:
    """What the engine's flags say, overridden by the user's own words."""
    stated: dict[str, Any] = {n: value for n, value in asked.design.items() if value is not None}
    check_names("design", sorted(stated), DESIGN)
    mode = stated.get("kv_mode")
    if mode is not None and mode not in KV_MODES:
        raise ValueError(f"kv_mode: {mode!r} is not one mode; give {', '.join(KV_MODES)}")
    for name, value in stated.items():
        stated[name] = KV_MODES[value] if name == "kv_mode" else _one(name, value)
    read = engines.read(asked.words, is_moe=is_moe) if asked.words else Deployment()
    notes = [
        f"{name}={value:g} is given in place of the command line's {getattr(read, name):g}"
        for name, value in stated.items()
        if asked.words and name != "kv_mode" and getattr(read, name) not in (None, value)
    ]
    return dataclasses.replace(read, **stated, notes=(*read.notes, *notes))


def _one(name: str, value: Any) -> float:
    """One number of an argument ("8k" is 8,192).

    Raises:
        ValueError: it is none, or there are several.
    """
    values, is_one = numbers("gpus" if name == "replicas" else name, value)
    if not is_one:
        raise ValueError(f"{name}: {value!r} was given, but one design has one; give one number")
    return float(values[0])


class EngineMemory(NamedTuple):
    """What an engine's share of the memory holds besides the weights and cache of the laws [B].

    Attributes:
        beside: held beside the weights.
        kept: vLLM's buffers, within its share.
        visible: the memory of which vLLM's share is a part.
        ranks: GPUs of the design.
        most: sequences of a replica that the engine of the command line runs at once [1].
    """

    beside: float
    kept: float
    visible: float
    ranks: float
    most: float = math.inf


def _inputs(deployment: Deployment, work: Workload, asked: Asked) -> tuple[Partition, Workload]:
    """The records of a deployment; what its flags leave open is the catalogue's or a default."""
    degrees = {name: getattr(deployment, name) for name in (*DEGREES, "kv_mode")}
    context = None if asked.context is None else _one("context", asked.context)
    if context is None and asked.requests is not None:  # on average half of the answer is there
        context = mean_context(*asked.requests)
    context = context or deployment.context or CONTEXT
    if deployment.context is not None and context > deployment.context:
        raise ValueError(
            f"the context of {context:g} tokens and the engine's limit of "
            f"{deployment.context:g} contradict each other; lower one or raise the other"
        )
    said = {name: getattr(deployment, name) for name in ("kv_block", "bytes_state")}
    said["bytes_kv"] = deployment.bytes_kv if asked.kv is None else None
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    partition = Partition(**degrees, gathers_queries=deployment.gathers_queries)
    return partition, dataclasses.replace(work, context=context, batch=deployment.batch, **changes)


def _held(
    deployment: Deployment,
    entry: catalog.ModelEntry,
    partition: Partition,
    work: Workload,
    asked: Asked,
) -> tuple[Tuned, Workload, EngineMemory, tuple[str, ...]]:
    """Accelerator and workload as the engine of the command line holds them, or as they are."""
    placed = lookup.placed(deployment.words)
    named = next(iter(placed)) if len(placed) == 1 else None
    hardware = asked.hardware
    if not isinstance(hardware, catalog.HardwareEntry):
        hardware = catalog.hardware_entry(hardware or named or _HARDWARE)
    capacity, ranks = scalar(hardware.spec.hbm_bytes), deployment.gpus / deployment.replicas
    if deployment.engine is None:
        kept = scalar(on_host(reserve_bytes)(entry.spec, hardware.spec))
        is_small = capacity < load_engines()["vllm"]["large"] * GIB
        notes = (_SMALL,) if is_small and "reserve" not in hardware.given else ()
        memory = EngineMemory(0.0, kept, capacity, ranks)
        return Tuned(spec=hardware.spec), work, memory, notes
    is_given = deployment.bytes_kv is not None or asked.kv is not None
    in_hbm = held(deployment, entry, hardware, partition, work, is_cache_given=is_given)
    most = in_hbm.most if asked.words else math.inf
    memory = EngineMemory(in_hbm.beside, in_hbm.kept, visible_bytes(capacity), ranks, most)
    papers = (_PAPERS,) if "paper" in named_rules(asked.convention)[1:] else ()
    is_told = named and (asked.hardware is None or hardware.name != named)
    told = _TAKEN if asked.hardware is None else _PLACED
    other = (told.format(named, hardware.name),) if is_told else ()
    tuned = Tuned(spec=in_hbm.hardware, expert_balance=in_hbm.expert_balance)
    return tuned, in_hbm.workload, memory, (*in_hbm.notes, *papers, *other)


class Stated(NamedTuple):
    """A deployment as it was stated.

    Attributes:
        problem: its one cell.
        partition: its degrees; None where the best of so many GPUs is asked for.
        deployment: what the engine's flags say, with notes.
        memory: what the engine's share of the memory holds besides.
        block: elements of a block of quantised weights; 0 of a twin, of other weights, or without.
        expert_hidden: as that of a `ModelEntry`.
        longest: tokens of the longest request, prompt and answer.
        is_limit: whether the batch is only a limit of the engine's.
    """

    problem: Problem
    partition: Partition | None
    deployment: Deployment
    memory: EngineMemory
    block: int
    expert_hidden: int
    longest: float
    is_limit: bool


def _speculating(
    records: Records, deployment: Deployment, tuned: Tuned, asked: Asked
) -> tuple[HardwareSpec, Workload, tuple[str, ...]]:
    """Accelerator and workload of a deployment that drafts, and what is taken to be so.

    Raises:
        ValueError: the acceptance is no share, or nothing drafts.
    """
    drafts, method, acceptance = deployment.drafts, deployment.drafter, asked.acceptance
    if acceptance is not None and (problem := value_problem(SHARE, acceptance)):
        raise ValueError(f"acceptance: {problem}")
    if drafts is None or method is None or deployment.verified is None:
        if acceptance is not None:
            raise ValueError(
                "acceptance: nothing drafts here; add the engine's flags of speculation to "
                "its command line, or ask speculate"
            )
        return records.hardware, records.workload, ()
    share = ACCEPTANCE if acceptance is None else acceptance
    # Drafting has one cost: that of the first accounting.
    rules = counted(named_rules(asked.convention)[0], tuned)
    batch = deployment.batch
    if batch is None:
        batch = scalar(evaluate(_with_batch(records, 1.0), rules).capacity.max_batch)
    drafting = _with_batch(records, max(1.0, batch))
    drafted = _speculated(drafting, share, drafts, convention=rules, method=method)
    plain: Any = trees.map(scalar, drafted._replace(gpus=None))
    work = dataclasses.replace(plain.workload, batch=None, query_tokens=float(deployment.verified))
    told = "taken to be" if acceptance is None else "said to be"
    note = (
        f"each of {drafts:g} drafts ({method}) is {told} accepted with a chance of {share:g}: "
        f"{scalar(work.tokens_per_step):.2f} tokens a step; drafting takes "
        f"{scalar(work.draft_time) / MS:.2f} ms of it (part of the overhead)"
    )
    # Names do not pass through the law.
    chip = dataclasses.replace(plain.hardware, label=records.hardware.label)
    return chip, work, (note,)


def _with_batch(records: Records, batch: float) -> Records:
    return records._replace(workload=dataclasses.replace(records.workload, batch=batch))


@on_host
def _speculated(
    records: Records, acceptance: Any, drafts: Any, *, convention: Convention, method: Any
) -> Records:
    return speculated(records, convention, method, acceptance, drafts)


def _tuned(hardware: HardwareSpec, model: str, tuned: Tuned) -> Accelerator:
    """The accelerator, whose experts count as its kernels were fitted."""
    held = dataclasses.replace(tuned, spec=hardware)
    return as_accelerator(hardware)._replace(tuned={model: held})


def stated_by(asked: Asked) -> Stated:
    """What a user's words and those of an engine state.

    Raises:
        ValueError: with what is wrong with them.
    """
    asked = asked._replace(weights=dtype_named(asked.weights), kv=dtype_named(asked.kv))
    model = _served(asked.words) if asked.model is None else asked.model
    entry = model if isinstance(model, catalog.ModelEntry) else catalog.model_entry(model)
    is_moe = entry.spec.is_moe
    if asked.twin is not None and not is_moe:
        raise ValueError(f"twins: {entry.name} has no experts, so it has no dense twin; drop it")
    deployment = _deployment(asked, is_moe and asked.twin is None)
    engine = "" if deployment.engine else asked.engine or ""
    if deployment.engine and asked.engine not in (None, "", deployment.engine):
        raise ValueError(f"engine: the command line is one of {deployment.engine}; drop engine")
    dtype, of_weights = weights_of(entry.weight_dtype, deployment)
    stored: Any = asked.weights or dtype
    bits, of_file = bits_of_gguf(deployment)
    notes = (
        *_about_name(None if asked.model else model, deployment),
        *_about_model(entry.name, deployment.model),
        *deployment.notes,
        *(() if asked.weights else (*of_weights, *of_file)),
        *about_name(deployment.model, stored or entry.weight_dtype),
    )
    work = catalog.workload_of(entry, stored, asked.kv)
    if bits is not None and not asked.weights:
        work = stored_in(work, bits / 8.0)
    partition, work = _inputs(deployment, work, asked)
    tuned, work, memory, more = _held(deployment, entry, partition, work, asked)
    records = Records(entry.spec, tuned.spec, partition, work, None)
    hardware, work, drafted = _speculating(records, deployment, tuned, asked)
    if deployment.drafter == "mtp" and not entry.mtp_layers:
        drafted = (NO_HEAD.format(entry.name), *drafted)
    states_design = asked.words or any(asked.design.get(name) for name in DEGREES)
    problem = Problem(
        entry,
        _tuned(hardware, entry.name, tuned),
        gpus=deployment.gpus if asked.gpus is None else _one("gpus", asked.gpus),
        context=scalar(work.context),
        twins=asked.twins,
        batch=deployment.batch,
        economy=asked.economy,
        convention=asked.convention,
        workload=dataclasses.replace(work, batch=None),
        engine=engine,
    )
    deployment = dataclasses.replace(deployment, notes=(*more, *drafted, *notes), weights=dtype)
    length = sum(asked.requests) if asked.requests else scalar(work.context)
    return Stated(
        problem,
        partition if states_design or asked.gpus is None else None,
        deployment,
        memory,
        block=entry.weight_block if asked.twin is None and not stored else 0,
        expert_hidden=entry.expert_hidden,
        longest=max(length, deployment.context or 0.0),
        is_limit=asked.design.get("batch") is None and deployment.batch is not None,
    )
