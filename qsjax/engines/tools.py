"""Tools that start an engine by arguments of their own: the engine's command that they lead to.

Clouds and daemons that are told an image or a program and its arguments, charts whose values stand
on the command line of helm, evaluations (lm_eval, lighteval), ms-swift, Xinference, FastChat, verl.
"""

import itertools
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from qsjax.engines import jobs, keywords, settings, shell
from qsjax.engines.rules import load_spellings

_MOST = 1_000  # words of a command
_DEEP = 30  # keys within keys of a chart's values
_ENDS = re.compile(r"\d?>|[|&;)]")  # of a command
_PAIRS = re.compile(r",(?=[\w.-]+=)")
# Values of helm: commas divide them but within braces; points and indices lead to what they set.
_VALUES = re.compile(r"(?<!\\),(?![^{]*\})")
_STEPS = re.compile(r"\.|\[(\d+)\]")


def _own(words: Sequence[str], at: int) -> list[str]:
    """The words of a command behind its program."""

    def is_inside(word: str) -> bool:
        return not isinstance(word, shell.First) and _ENDS.match(word) is None

    return list(itertools.takewhile(is_inside, words[at + 1 : at + 1 + _MOST]))


def _told(words: Sequence[str]) -> dict[str, str]:
    """The value of each flag, "" without one; names have dashes."""
    told: dict[str, str] = {}
    for word, after in itertools.pairwise([*words, "-"]):
        name, equals, value = word.partition("=")
        if name.startswith("-"):
            bare = "" if re.match(r"-\D|-$", after) else after
            told[name.lstrip("-").replace("_", "-")] = value if equals else bare
    return told


def _started(engine: str, told: dict[str, str]) -> list[str]:
    """The words of an engine's server with those of these flags that it has; none of others."""
    if engine not in jobs.PROGRAMS:
        return []
    given = {name: value for name, value in told.items() if value not in ("None", "auto")}
    return shlex.split(jobs.served(engine, given, load_spellings()["tools"]))


# Options that name a container's image and what it starts; those of Vertex AI begin with container.
_OF_CONTAINER = {
    **dict.fromkeys(("--image", "--imageName", "--container-image-uri", "-i"), "--image"),
    **dict.fromkeys(("--command", "--container-command"), "--command"),
    **dict.fromkeys(("--args", "--container-args"), "--args"),
}


def _contained(program: str, own: list[str]) -> list[str]:
    """Words as of `docker run`, of a cloud that is told an image and its arguments.

    That is Google's `--args=A,B`, or `^;^A;B` with a comma of its own, Vast.ai's `--args A B`,
    RunPod's `--args "A B"`, `kubectl run NAME --image=IMAGE -- A B` and Run:ai's `-i IMAGE -- A B`.
    """
    told: dict[str, str] = {}
    for word, after in itertools.pairwise([*own, ""]):
        name, equals, value = word.partition("=")
        if name in _OF_CONTAINER:
            told.setdefault(_OF_CONTAINER[name], value if equals else after)
    image = told.get("--image")
    if not image:
        return []
    if program in ("kubectl", "oc", "runai"):
        return ["docker", "run", image, *own[own.index("--") + 1 :]] if "--" in own else []
    if "--args" not in told:
        return []
    if program == "runpodctl":
        args = shell.words_of(told["--args"])
    elif program == "gcloud":
        lists = (told.get("--command", ""), told["--args"])
        args = [x for one in lists if one for x in _divided(one)]
    else:
        args = own[own.index("--args") + 1 :] if "--args" in own else []
    return ["docker", "run", image, *args]


def _divided(text: str) -> list[str]:
    other = re.match(r"\^(.+?)\^", text)
    return text[other.end() :].split(other[1]) if other else text.split(",")


def _evaluated(program: str, own: list[str]) -> list[str]:
    """The engine that an evaluation loads: `--model vllm --model_args pretrained=M,dtype=auto`.

    Source: EleutherAI/lm-evaluation-harness, lm_eval/models/vllm_causallms.py; lighteval's
    documentation, "Use vLLM as backend".
    """
    told = _told(own)
    if program == "lighteval":
        engine, text = [*own, "", ""][:2]
    else:
        engine, start = told.get("model", told.get("m", "")), len(own)
        at = next((i for i, x in enumerate(own) if x.startswith(("--model_args", "-a"))), start)
        words = [own[at].partition("=")[2]] if "=" in "".join(own[at : at + 1]) else []
        words += itertools.takewhile(lambda x: not x.startswith("-"), own[at + 1 :])
        text = ",".join(filter(None, words))
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, dict):
        pairs = dict(one.partition("=")[::2] for one in _PAIRS.split(text))
    return _started(engine, {str(k).replace("_", "-"): str(v) for k, v in pairs.items()})


def _swift(_: str, own: list[str]) -> list[str]:
    """ms-swift's `deploy`, `infer` and `rollout`: flags of the engine behind its name."""
    told = _told(own)
    engine = told.get("infer-backend", "vllm" if own[:1] == ["rollout"] else "")
    return _started(engine, {name.removeprefix(f"{engine}-"): x for name, x in told.items()})


def _xinference(_: str, own: list[str]) -> list[str]:
    """Xinference's `launch`, which splits a model over all of its GPUs and passes the rest on."""
    short = {"en": "model-engine", "n": "model-name", "s": "size-in-billions", "f": "model-format"}
    told = {short.get(name, name): value for name, value in _told(own).items()}
    engine = told.get("model-engine", "").lower()
    if own[:1] != ["launch"]:
        return []
    if size := told.get("size-in-billions", "").replace("_", "."):
        kind = r"(?=-(?:instruct|chat|it)$)|$"
        told["model-name"] = re.sub(kind, f"-{size}b", told.get("model-name", ""), count=1)
    degree = "tensor-parallel-size" if engine == "vllm" else "tp-size"
    if told.get("n-gpu", "auto") != "auto":
        told.setdefault(degree, told["n-gpu"])
    # Its quantisation is one of its own formats (Int4), which the engine reads in the checkpoint.
    return _started(engine, {k: v for k, v in told.items() if k != "quantization"})


def _factory(_: str, own: list[str]) -> list[str]:
    """LLaMA-Factory's server and chat, whose settings are flags or `key=value`."""
    told = {name.replace("-", "_"): value for name, value in _told(own).items()}
    told |= dict(x.partition("=")[::2] for x in own if not x.startswith("-") and "=" in x)
    return shlex.split(jobs.factory({name: value or "true" for name, value in told.items()}))


def _verl(_: str, own: list[str]) -> list[str]:
    """The engine with which verl samples: what it is told of it, and what it hands on."""
    told = dict(word.lstrip("+").partition("=")[::2] for word in own)
    rollout = re.compile(r"actor_rollout_ref\.rollout\.(?:engine_kwargs\.\w+\.)?(\w+)")
    given = {at[1]: x for name, x in told.items() if (at := rollout.fullmatch(name))}
    engine = given.pop("name", "")
    given["model"] = told.get("actor_rollout_ref.model.path", "")
    return _started(engine, {name.replace("_", "-"): value for name, value in given.items()})


def _listed(node: Any) -> Any:
    """Nested values with a list where keys are places in one."""
    if not isinstance(node, dict):
        return node
    inner = {key: _listed(value) for key, value in node.items()}
    return [*inner.values()] if all(map(str.isdigit, inner)) else inner


def _helm(_: str, own: list[str]) -> list[str]:
    """The server of a chart whose values are given by `--set a.b[0].c=d`."""
    values: dict[str, object] = {}
    for word, after in itertools.pairwise([*own, ""]):
        name, equals, text = word.partition("=")
        if not re.fullmatch(r"--set(-string|-json|-literal)?", name):
            continue
        for one in _VALUES.split(text if equals else after):
            path, _, value = one.partition("=")
            node, steps = values, [step for step in _STEPS.split(path) if step]
            for step in steps[: min(len(steps), _DEEP) - 1]:
                inner = node.setdefault(step, {})
                node = inner if isinstance(inner, dict) else {}
            bare = value.replace("\\", "")
            typed = settings.mapping(f"value: {bare}").get("value")  # a number, a truth
            typed = bare if typed is None else typed
            listed = re.fullmatch(r"\{(.*)\}", value)
            if 0 < len(steps) <= _DEEP:
                node[steps[-1]] = listed[1].split(",") if listed else typed
    text = settings.yaml.safe_dump(_listed(values), sort_keys=False)
    found = jobs.described(text)
    return shlex.split(keywords.command_in(text) or (found.text if found else ""))


_READERS = {
    **dict.fromkeys(("gcloud", "vastai", "az", "kubectl", "oc", "runai", "runpodctl"), _contained),
    **dict.fromkeys(("lm_eval", "lm-eval", "lighteval"), _evaluated),
    "swift": _swift,
    "xinference": _xinference,
    "helm": _helm,
    "llamafactory-cli": _factory,
    "fastchat.serve.vllm_worker": lambda _, own: _started("vllm", _told(own)),
    "verl.trainer.main_ppo": _verl,
}


def as_engine(words: list[str]) -> list[str]:
    """The words of the engine that a tool starts; others as they are.

    >>> as_engine(["lm_eval", "--model", "vllm", "--model_args", "pretrained=m,max_length=8192"])
    ['vllm', 'serve', 'm', '--max-model-len', '8192']
    >>> as_engine("pm2 start vllm --name a -- serve m -tp 4".split())
    ['pm2', 'start', 'vllm', 'serve', 'm', '-tp', '4']
    """
    for at, word in enumerate(words):
        name = PurePosixPath(word).name
        # Of a daemon: `pm2 start vllm --name a -- serve m`, `start-stop-daemon --exec vllm -- ...`
        if name in jobs.PROGRAMS and "serve" in words[at + 1 :]:
            serve = words.index("serve", at)
            if words[serve - 1] == "--":
                return words[: at + 1] + words[serve:]
        if name in _READERS and (found := _READERS[name](name, _own(words, at))):
            return [*words[:at], *found]
    return words
