"""Servers that settings describe without a command line.

Jobs of srt-slurm (https://github.com/ishandhanani/srt-slurm), with which Dynamo and InferenceX are
measured; KServe's LLMInferenceService; variables of SageMaker's and RunPod's containers, options of
AWS's; files of LLaMA-Factory, Truss and TensorRT-LLM's pools; values of charts; and a settings file
of an engine by itself.
"""

import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qsjax.engines import settings, yaml_text
from qsjax.engines.rules import flags_of, load_spellings
from qsjax.engines.yaml_text import text_at, under

_SPELLINGS = load_spellings()
PROGRAMS = {
    "vllm": "vllm serve",
    "sglang": "python -m sglang.launch_server",
    "trtllm": "trtllm-serve",
}
# Roles of workers, of which the first that a job has is meant.
_ROLES = ("decode", "aggregated", "agg")
_SERVICE = re.compile(r"^kind:[ \t]*LLMInferenceService[ \t]*$", re.MULTILINE)
_MORE_ARGS = re.compile(
    r"^(?P<indent>[ \t]*)-[ \t]+name:[ \t]*VLLM_ADDITIONAL_ARGS[ \t]*\n"
    r"[ \t]+value:[ \t]*(?:[>|][-+]?[ \t]*\n"
    r"(?P<block>(?:(?P=indent)[ \t]{3,}\S.*\n?)+)|(['\"]?)(?P<line>.*)\3[ \t]*$)",
    re.MULTILINE,
)
# Variables of which the containers for SageMaker make flags.
_SAGEMAKER = re.compile(
    r"""((?:-e|--env)[ \t=]+)?\bSM_(VLLM|SGLANG)_(\w+)['"]?[ \t]*(?:[:=]|\n[ \t]*value:)[ \t]*"""
    r"""(['"]?)([^\n]*?)\4[ \t]*(?:,?[ \t]*(?:#.*)?$|[ \t](?=\\|-)|(?(1)[ \t]|(?!)))""",
    re.MULTILINE,
)
# Values of a chart or a tool: flags that it passes on, by what such keys are called, and what names
# the model there. `args` are those of KubeAI's Model, else of a container.
_EXTRA = re.compile(
    r"^(?P<lead>[ \t]*)['\"]?(?P<key>[\w-]*(?:arg(?:ument)?s|cmd|flags|parameters)\w*)['\"]?:[ \t]*"
    r"(?:&\w+[ \t]*)?(?P<rest>\[?[ \t]*['\"]?--?[A-Za-z].*|(?:[>|][-+]?)?[ \t]*"
    r"(?=(?:\n[ \t]*(?:#.*)?)*\n[ \t]*(?:-[ \t]+)?['\"]?--?[A-Za-z]))$",
    re.MULTILINE | re.IGNORECASE,
)
# The arguments of a container.
_ARGS = re.compile(r"^(?P<lead>[ \t]*)(?:-[ \t]+)?args:[ \t]*(?P<rest>.*)$", re.MULTILINE)
_MODEL = re.compile(
    r"^[ \t-]*(?:model(?:_?name|_?id|uri|url)?|name|url|repo_id|(?:huggingface|hf)_\w+):[ \t]*"
    r"['\"]?(?:hf://)?(\w[\w.-]*/\w[\w.-]*|(?:(?<=model: ['\"])|(?<=model: ))/[\w./-]+)['\"]?"
    r"[ \t]*(?:#.*)?$",
    re.MULTILINE | re.IGNORECASE,
)
_KUBEAI = re.compile(r"^apiVersion:[ \t]*kubeai", re.MULTILINE)
_RUNPOD = re.compile(r"runpod/worker-v1-vllm|worker-vllm")
# A variable of a container or an option of a file, in any spelling, and its value.
_ENGINE_ARG = re.compile(
    r"""\b(option\.\w+|[A-Z][A-Z_]{3,}\w*)['"]?[ \t]*(?:[:=]|\n[ \t]*value:)[ \t]*"""
    r"""(['"]?)(\{[^\n]*\}|[^\s'",]+)\2"""
)
# What options of AWS's containers for large models begin with, and variables that are some:
# https://docs.djl.ai/master/docs/serving/serving/docs/lmi
_OPTION = re.compile(r"option\.|OPTION_|HF_(?=MODEL_ID$)|(?=(?:TENSOR|PIPELINE)_PARALLEL_DEGREE$)")
_ROLLING = ("vllm", "lmi-dist", "auto", "disable")
_SETTING = re.compile(r"^([A-Za-z][\w-]*):(?:[ \t]|$)", re.MULTILINE)


class Held(NamedTuple):
    """A command, the image that runs it, and what is said of what holds it."""

    text: str
    image: str = ""
    notes: tuple[str, ...] = ()


def others(what: str, servers: int, *, decodes: bool) -> tuple[str, ...]:
    """What is said of servers beside the one that is read: the first, or first that decodes."""
    if servers < 2:
        return ()
    which = "first of them that decodes" if decodes else "first of them"
    return (f"the {what} starts {servers} servers; this is the {which}, so give each by itself",)


def started(engine: str, model: str, flags: list[str]) -> str:
    """The command line of an engine's server; `model` is "" where none is named."""
    lead = ["--model-path", model] if engine == "sglang" else [model]
    return " ".join([PROGRAMS[engine], *map(shlex.quote, [*(lead if model else []), *flags])])


def as_flag(name: str, value: str) -> list[str]:
    """The words of a flag that a setting is: a switch where it is true, none where it is false."""
    if value.lower() == "false":
        return []
    return [f"--{name}", *([value] if value and value.lower() != "true" else [])]


def served(
    engine: str,
    told: Mapping[str, str],
    renamed: Mapping[str, str] = _SPELLINGS["containers"],
    more: Sequence[str] = (),
) -> str:
    """The command line of a server with those settings that are flags of its engine.

    Args:
        engine: of the server.
        told: settings by name with dashes, the model among them.
        renamed: settings that are called otherwise than the flag.
        more: further words.
    """
    # A flag's own name holds: MODEL_NAME beside MODEL is what clients call the model.
    named = {renamed.get(x, x): value for x, value in told.items() if renamed.get(x) not in told}
    model = named.get("model") or named.get("model-path") or ""
    known = spelled(engine) - {"model", "model-path"}
    flags = [x for name, value in named.items() if name in known for x in as_flag(name, value)]
    return started(engine, model, [*flags, *more])


def _job(text: str) -> Held | None:
    """The server that decodes in a job of srt-slurm; both of its schemas."""
    found = [(text_at(text, "engine"), role, ("roles", role, "args")) for role in _ROLES]
    found += [
        (engine, role, ("backend", f"{engine}_config", role))
        for role in _ROLES
        for engine in PROGRAMS
    ]
    for engine, role, path in found:
        block = under(text, *path)
        if engine not in PROGRAMS or not block:
            continue
        model = text_at(under(text, "model"), "path")
        served = text_at(block, "served-model-name")
        # A path may be a name that a cluster's own settings resolve.
        name = served if "/" in served and "/" not in model else model
        note = f"the job's workers are of several roles; these are its {role} workers, one of them"
        return Held(started(engine, name, settings.read("the job", block)), "", (note,))
    return None


def _degrees(split: str) -> list[str]:
    """The flags of vLLM for the parallelism that a service or a chart states."""
    flags = []
    for key, flag in (
        ("tensor", "--tensor-parallel-size"),
        ("pipeline", "--pipeline-parallel-size"),
        ("data", "--data-parallel-size"),
    ):
        if value := text_at(split, key):
            flags += [flag, value]
    return [*flags, "--enable-expert-parallel"] if text_at(split, "expert") == "true" else flags


def _modelservice(text: str) -> Held | None:
    """The server that decodes in llm-d's modelservice chart, which writes its command."""
    model, decode = text_at(under(text, "modelArtifacts"), "uri"), under(text, "decode")
    if not model or not decode:
        return None
    head = next((one for one in _EXTRA.finditer(decode) if one["key"] == "args"), None)
    words = _passed(decode, head) if head else []
    flags = [*_degrees(under(decode, "parallelism")), *words]
    command = started("vllm", model.removeprefix("hf://"), flags)
    return Held(command, "", ("the chart's workers that decode, one of them",))


# What TensorRT-LLM's file of a disaggregated service says beside the settings of its servers.
_OF_SERVICE = ("num_instances", "urls", "router", "nodes")


def _disaggregated(text: str) -> Held | None:
    """The servers that decode in TensorRT-LLM's file of a disaggregated service.

    Or in that of its benchmark under Slurm (examples/disaggregated/slurm/benchmark).
    """
    block = under(text, "generation_servers") or under(text, "worker_config", "gen")
    if not block:
        return None
    told = settings.texts("the settings", block)
    whole = text_at(text, "model") or text_at(under(text, "environment"), "model_path")
    model = told.pop("model", "") or whole
    words = [f"--{name}={x}" for name, x in told.items() if name.split(".")[0] not in _OF_SERVICE]
    note = "the service's servers that decode, one of them"
    return Held(started("trtllm", model, words), "", (note,))


def _service(text: str) -> Held | None:
    """The server of KServe's LLMInferenceService, whose controller writes the command."""
    if not _SERVICE.search(text):
        return None
    spec = under(text, "spec")
    model, flags = under(spec, "model"), _degrees(under(spec, "parallelism"))
    drafter = under(spec, "speculator", "config")
    if drafter:
        names = re.findall(r"^(\w+):", drafter, re.MULTILINE)
        pairs = {name: text_at(drafter, name) for name in names}
        whole = {name: int(x) if x.isdigit() else x for name, x in pairs.items()}
        flags += ["--speculative-config", json.dumps(whole)]
    name = text_at(model, "uri")
    if not name.startswith("hf://"):
        name = text_at(model, "name")
    command = started("vllm", name.removeprefix("hf://"), flags)
    template = under(spec, "template")
    own = _passed(template, head) if (head := _ARGS.search(template)) else []
    own = [*itertools.dropwhile(lambda word: not word.startswith("-"), own)]  # behind the model
    command = " ".join([command, *map(shlex.quote, own)])
    if more := _MORE_ARGS.search(template):
        command += " " + " ".join((more["block"] or more["line"]).split())
    note = "the service's template and parallelism, without those of its prefill workers"
    return Held(command, "", (note,))


def _sagemaker(text: str) -> Held | None:
    """The server of a container for SageMaker, whose variables are its flags.

    `SM_VLLM_MAX_MODEL_LEN=4096` is `--max-model-len 4096` (sagemaker-entrypoint.sh of vLLM).
    """
    flags, model, engine = [], "", ""
    for _, name, key, _, value in _SAGEMAKER.findall(text):
        engine, flag = name.lower(), key.lower().replace("_", "-")
        value = re.sub(r"^str\((.*)\)$", r"\1", value)
        if flag in ("model", "model-path"):
            model = value
        else:
            flags += as_flag(flag, value)
    if not flags and not model:
        return None
    return Held(started(engine, model, flags), "", ("the flags are the variables SM_*",))


def _runpod(text: str) -> Held | None:
    """The server of RunPod's worker, which takes vLLM's flags from variables in capitals."""
    if not _RUNPOD.search(text):
        return None
    told = {key.lower().replace("_", "-"): value for key, _, value in _ENGINE_ARG.findall(text)}
    return Held(served("vllm", told), "", ("the flags are the variables of the worker",))


def _options(text: str) -> Held | None:
    """The server of AWS's container for large models, where it runs vLLM."""
    found = {
        name[start.end() :].lower().replace("_", "-"): value
        for name, _, value in _ENGINE_ARG.findall(text)
        if (start := _OPTION.match(name))
    }
    if found.keys() <= {"model-id"} or found.get("rolling-batch", "vllm") not in _ROLLING:
        return None
    note = "the flags are the options of the container, which runs vLLM with them"
    return Held(served("vllm", found), "", (note,))


def factory(told: dict[str, str]) -> str:
    """The command of the engine that LLaMA-Factory starts with these settings, "" for none."""
    engine = told.get("infer_backend", "")
    if engine not in PROGRAMS:
        return ""
    flags = {"maxlen": "4096"}
    for name, value in told.items():
        if name.startswith(f"{engine}_"):
            own = name.removeprefix(f"{engine}_").removeprefix("config.").replace("_", "-")
            flags[own] = value
    given = {**flags, "model": told.get("model_name_or_path", "")}
    return served(engine, given, _SPELLINGS["factory"].get(engine, {}))


def _factory(text: str) -> Held | None:
    """The server that a settings file of LLaMA-Factory describes."""
    if not re.search(r"^infer_backend:", text, re.MULTILINE):
        return None
    command = factory(settings.texts("the settings", text))
    note = (
        "LLaMA-Factory splits a model over all GPUs that it sees unless its settings say a degree; "
        "write it behind the command"
    )
    return Held(command, "", (note,)) if command else None


_TRUSS_PARTS = re.compile(r"^(?:(?:build|runtime|patch_kwargs|engine_config)\.)+")


def _truss(text: str) -> Held | None:
    """The server of TensorRT-LLM that a settings file of Baseten's Truss describes."""
    block = under(text, "trt_llm")
    if not block:
        return None
    written = settings.texts("the settings", block)
    told = {_TRUSS_PARTS.sub("", name): value for name, value in written.items()}
    model, kind = told.get("checkpoint_repository.repo", ""), told.get("quantization_type", "")
    if not model or told.get("base_model", "").startswith(("encoder", "whisper")):
        return None
    flags = {name.replace("_", "-"): value for name, value in told.items()}
    lengths = [flags[name] for name in ("max-input-len", "max-output-len") if name in flags]
    if "max-seq-len" not in flags and len(lengths) == 2:
        if not all(map(str.isdecimal, lengths)):
            given = " and ".join(lengths)
            raise ValueError(f"max_input_len, max_output_len: {given}; give two whole numbers")
        flags["max-seq-len"] = str(sum(map(int, lengths)))
    weights = kind.replace("_kv", "")
    known = _SPELLINGS["truss_weights"]
    if weights in known:
        flags["quant-config.quant-algo"] = known[weights]
    if kind.endswith("_kv"):
        flags["kv-cache-config.dtype"] = "fp8"
    elif kind.startswith("weights_kv"):
        flags["kv-cache-config.dtype"] = "int8"
    unread = [f"quantization_type: {kind}"] * (weights not in (*known, "", "no_quant"))
    unread += ["speculator"] * any(name.startswith("speculator") for name in told)
    notes = ["the settings are of Truss, which builds TensorRT-LLM's engine of them"]
    notes += [f"not read: {', '.join(unread)}; all numbers are without it"] if unread else []
    return Held(served("trtllm", {**flags, "model": model}, _SPELLINGS["truss"]), "", tuple(notes))


def _divided(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark of prose
        return text.split()


def _passed(text: str, head: re.Match[str]) -> list[str]:
    """The words of a list or a text of YAML behind its key."""
    rest, more = head["rest"].strip(), text[head.end() + 1 :].splitlines()
    items = _divided(yaml_text.given(rest, more, len(head["lead"])))
    if rest and rest[0] != "[":  # a text, which a shell divides
        return items
    # An item may be a flag with its value, or JSON.
    return [word for one in items for word in ([one] if "{" in one else one.split())]


def _prefills(text: str, head: re.Match[str]) -> bool:
    """Whether a key stands below one of what prefills."""
    depth = len(head["lead"])
    outer = [x for x in text[: head.start()].splitlines() if x.strip() and not x[:depth].isspace()]
    return bool(depth and outer and "prefill" in outer[-1])


def _plain(word: str) -> str:
    """The name of a flag that a word is, "" where it is none."""
    name = word.partition("=")[0].replace("_", "-")
    return name.lstrip("-").removeprefix("no-") if name.startswith("-") else ""


def _chart(text: str) -> Held | None:
    """The server that values of a chart or a tool describe: flags to pass on, and what is beside.

    Several such flags are those of alternatives, of which none is meant.
    """
    heads = [
        (head, _passed(text, head))
        for head in _EXTRA.finditer(text)
        if (head["key"] != "args" or _KUBEAI.search(text)) and not _prefills(text, head)
    ]
    model = _MODEL.search(text)
    engine = "sglang" if "sglang" in text.lower() else "vllm"
    heads = [one for one in heads if any(_plain(word) in spelled(engine) for word in one[1])]
    if len(heads) > 1:  # a client has some of these flags, but none that is read
        heads = [one for one in heads if any(_plain(word) in _read(engine) for word in one[1])]
    if not model or len(heads) != 1:
        return None
    head, words = heads[0]
    beside = rf"^{head['lead']}(\w+):[ \t]*['\"]?([\w.-]+)['\"]?[ \t]*(?:#.*)?$"
    told = {k: x for k, x in re.findall(beside, text, re.MULTILINE) if x != "null"}
    flags = _flags_of({k: x for k, x in told.items() if k != "quantization"}, engine)
    note = "the flags that a chart or a tool passes on: what it adds by itself is not known"
    return Held(started(engine, model[1], [*flags, *words]), "", (note,))


_NAMES_MODEL = re.compile(r"(?:hf://)?(\w[\w.-]*/\w[\w.-]*|/[\w./-]+)")


def _flags_of(tree: Mapping[str, Any], engine: str) -> list[str]:
    """The flags of an engine that keys of a mapping are, also `maxModelLen` for `max-model-len`."""
    read, words = _read(engine), list[str]()
    for name, value in settings.dashed(tree).items():
        if name in read and value is not None and not isinstance(value, dict | list):
            short = len(name) <= 3 and engine == "vllm"  # `-tp`
            words += [x[short * x.startswith("--") :] for x in as_flag(name, str(value))]
    return words


# What has an engine's flags beside a model: `args`, `server_parameters`, `serve`, `engineArgs`.
_PASSES = re.compile(r"arg(?:ument)?s|cmd|flags|parameters", re.IGNORECASE)
_MODELS = ("model", "modelURL", "modelName", "model_name", "modelId")
_OF_SERVER = re.compile(r"^args$|^(?:engine|serve|vllm|sglang)", re.IGNORECASE)


def _listed(tree: Mapping[str, Any], engine: str) -> list[str]:
    """The flags of an engine that keys of a mapping hold as lists or texts, one after another."""
    words = list[str]()
    for key, value in tree.items():
        listed = value if isinstance(value, list) else ()
        own = [str(x) for x in listed if not isinstance(x, dict | list)]
        own = _divided(value) if isinstance(value, str) else own
        if _PASSES.search(key) and any(_plain(word) in _read(engine) for word in own):
            words += own
    return words


def _values(text: str) -> Held | None:
    """The server that values of a chart or a test describe by keys that are an engine's flags."""
    engine = "sglang" if "sglang" in text.lower() else "vllm"
    commands: dict[str, bool] = {}  # whether it is of a worker that prefills
    for one in settings.mappings(text):
        names = (one.get(key) for key in _MODELS)
        model = next((x for x in map(_NAMES_MODEL.fullmatch, map(str, names)) if x), None)
        inner = (x for key, x in one.items() if isinstance(x, dict) and _OF_SERVER.search(key))
        words = _flags_of({k: x for each in (one, *inner) for k, x in each.items()}, engine)
        words += _listed(one, engine)
        count = sum(word.startswith("--") for word in words)
        if model and (count > 1 or (count and len(one) > 2 and engine_of_keys([*one]))):
            roles = " ".join(str(one.get(key)) for key in ("role", "name", "type", "mode"))
            commands.setdefault(started(engine, model[1], words), "prefill" in roles.lower())
    if not commands:
        return None
    command = min(commands, key=commands.__getitem__)
    note = "the flags are values of a chart or a test: what it adds by itself is not known"
    decodes = any(commands.values()) and not commands[command]
    more = others("text", len(commands), decodes=decodes)
    return Held(command, "", (note, *more))


def _stack(text: str) -> Held | None:
    """The server of the production stack's chart where it states nothing but the model."""
    found = re.search(r"^[ \t-]*modelURL:[ \t]*['\"]?([^\s'\"#]+)", text, re.MULTILINE)
    if not found or "servingEngineSpec:" not in text:
        return None
    note = "the chart states the model alone, served by one GPU"
    return Held(started("vllm", found[1], []), "", (note,))


def _read(engine: str) -> set[str]:
    """Names of the flags of an engine that are read, but the model's."""
    flags = flags_of(engine).values()
    return {one.name for one in flags if one.effect == "read" and one.quantity != "model"}


def spelled(engine: str) -> set[str]:
    """Names of an engine's flags, without dashes."""
    return {flag.name for flag in flags_of(engine).values()}


def engine_of_keys(keys: Sequence[str], engines: Sequence[str] = tuple(PROGRAMS)) -> str | None:
    """The engine of which most of these keys are flags, the first of equals; None where of none."""
    names = [key.replace("_", "-").removeprefix("no-") for key in keys]
    counts = {engine: sum(name in spelled(engine) for name in names) for engine in engines}
    engine = max(engines, key=lambda one: counts[one])
    return engine if counts[engine] >= max(2, 0.7 * len(keys)) else None


# A file of variables: nothing else, and no command.
_ENV_FILE = re.compile(
    r"(?:[ \t]*(?:#.*|(?:export[ \t]+)?[A-Z]\w*(?:(?:ARGS|FLAGS|OPTS)=.*"
    r"|=(?![^'\"\n#]*[ \t][^\s#]).*))?(?:\n|$))+"
)
_MORE = re.compile(
    r"^[ \t]*(?:export[ \t]+)?\w*(?:ARGS|FLAGS|OPTS)=(['\"]?)(-.*?)\1[ \t]*$", re.MULTILINE
)
_PREFIX = re.compile(r"^(?:VLLM|SGLANG|SGL)_")


def _env_file(text: str) -> Held | None:
    """The server that a file of variables describes by names of an engine's flags."""
    if not _ENV_FILE.fullmatch(text):
        return None
    pairs = [(_PREFIX.sub("", key), value) for key, _, value in _ENGINE_ARG.findall(text)]
    told = {key.lower().replace("_", "-"): value for key, value in pairs}
    has_model = any(key in told for key in ("model", "model-name", "model-path"))
    more = [word for _, words in _MORE.findall(text) for word in words.split()]
    keys = {*told, *(word.lstrip("-").partition("=")[0] for word in more)}
    counts = {one: len(_read(one) & keys) for one in PROGRAMS}
    engine = max(counts, key=lambda one: counts[one])
    if counts[engine] + has_model < 2 or not counts[engine]:
        return None
    note = f"variables by themselves, read as flags of {engine}: what starts it is not known"
    return Held(served(engine, told, more=more), "", (note,))


def _settings(text: str) -> Held | None:
    """A settings file of an engine, which names no model: most of its keys are flags of one."""
    # Underscores are TensorRT-LLM's.
    order = sorted(PROGRAMS, key=lambda one: (one == "trtllm") != ("_" in text))
    engine = engine_of_keys(_SETTING.findall(text), order)
    if engine is None:
        return None
    note = "a settings file by itself: the flags of the command that reads it are not known"
    return Held(started(engine, "", settings.read("the settings", text)), "", (note,))


def described(text: str) -> Held | None:
    r"""The command line that says what settings describe; None where they are none of these.

    >>> described("tensor_parallel_size: 8\nkv_cache_config:\n  dtype: fp8\n").text
    'trtllm-serve --tensor_parallel_size=8 --kv_cache_config.dtype=fp8'
    """
    text = settings.in_blocks(text)
    readers = [_sagemaker, _runpod, _options]
    if "\n" in text.strip():
        readers += [_env_file, _factory, _truss, _service, _disaggregated, _job, _modelservice]
        readers += [_chart, _settings, _values, _stack]
    return next((found for read in readers if (found := read(text))), None)
