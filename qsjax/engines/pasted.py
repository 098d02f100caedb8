"""Command lines as people paste them: out of manifests, container files, chats."""

import dataclasses
import html
import json
import re
import shlex
import textwrap
from collections.abc import Callable

from qsjax.engines import jobs, keywords, lists, settings, yaml_text
from qsjax.engines.jobs import Held, others
from qsjax.engines.rules import load_spellings

# What holds a command in manifests and container files, and what a list there looks like.
_HELD = re.compile(
    r"^(?P<indent>[ \t]*)(?P<item>-[ \t]+)?['\"]?"
    r"(?P<key>[cC]ommand|args|entrypoint|EntryPoint|run|cmd|CMD|ENTRYPOINT"
    r"|(?<=\")(?i:cmd|program|args|arguments|docker(?:Entrypoint|StartCmd|Args)|entrypoint))['\"]?"
    r"(?:[ \t]*:|(?=[ \t]*\[)|(?<=CMD)(?=[ \t])|(?<=ENTRYPOINT)(?=[ \t]))[ \t]*(?P<rest>.*)$"
)
# Those of its keys that hold what stands behind the command.
_BEHIND = ("args", "arguments", "cmd", "dockerstartcmd", "dockerargs")
# A list of words in Python, of which the first is a program of an engine.
_CALL = re.compile(
    r"(?:[=(]|return)\s*(\[\s*(?:f?['\"](?:vllm|sglang|trtllm-serve|python[\d.]*)['\"]"
    r"|sys\.executable)\s*,.*?\])",
    re.DOTALL,
)
_VARIABLE = re.compile(r"\$\w*(vllm|sglang)\w*", re.IGNORECASE)
_NAME = re.compile(r"([\[,]\s*)(?:str\()?([A-Za-z_]\w*)\)?(?=\s*[,\]])")
_NUMBER = re.compile(r"([\[,]\s*)str\(([\d.]+)\)")
_IMAGE = re.compile(
    r"^\s*(?:-\s+)?['\"]?[iI]mage(?:Name\")?['\"]?\s*:\s*['\"]?([^\s'\"]+)|^FROM\s+(\S+)"
)
_VARIABLES = re.compile(r"^\s*\"?(?:environment|[eE]nvs?)\"?[ \t]*:[ \t]*[\[{]?[ \t]*(?:#.*)?$")
_ENV = re.compile(r"^(?:ENV|ARG)\s+(\w+)[=\s]\s*(.*)$")
_ENV_GOES_ON = re.compile(r"^(ENV\b.*?)[ \t]*\\\n[ \t]*", re.MULTILINE)
_PAIRS = re.compile(r"ENV(?:\s+\w+=(?:\"[^\"]*\"|'[^']*'|\S*))+\s*")
_PAIR = re.compile(r"^(?:-\s+)?['\"]?([A-Za-z_]\w*)['\"]?\s*(?:=|:\s+)(.*?)['\"]?$")
# A variable of a container as a mapping on one line.
_INLINE = re.compile(r"^-\s*\{\s*name:\s*['\"]?(\w+)['\"]?\s*,\s*value:\s*(.*?)\s*\}$")
_MAKE = re.compile(r"^[\w.-]+:.*\n\t", re.MULTILINE)  # a target of make; manifests have no tabs
_YAML = re.compile(r"(?:[ \t]*(?:#.*|---.*)?\n)*[A-Za-z_$][\w.-]*:(?:[ \t].*)?\n")
_JSON = re.compile(r"\s*[\[{]\s*[\"{\[]")
_PYTHON = re.compile(r"^(?:import [a-z]\w*|from [a-z][\w.]* import )", re.MULTILINE)
_ENGINE = re.compile(r"vllm|sglang|trtllm|tensorrt-llm|huggingfaceserver")
# What starts a server, what is one that only prefills or encodes images, and what stands beside.
SERVER = re.compile(
    r"\b(?:vllm|sglang) serve\b|launch_server|trtllm-serve|api_server\b"
    r"|\bdynamo\.(?:vllm|sglang|trtllm)\b|\batom\.entrypoints\b"
    r"|\b(?:docker|podman|nerdctl) run\b(?:[^\n]|\\\n){0,4000}?"
    r"(?:vllm-openai|lmsysorg/sglang|tensorrt-llm)"
)
# Lines that are remarks, which name commands and lists of words too.
_REMARK = re.compile(r"^[ \t]*#(?!SBATCH).*\n?", re.MULTILINE)
# Code of Markdown: a block, and within a line.
_FENCED = re.compile(r"^([ \t]*)```[^`\n]*\n(.*?)(?:^\1[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
# The same of reStructuredText.
_LITERAL = re.compile(
    r"^([ \t]*)\.\. (?:code(?:-block)?|sourcecode)::.*\n(?:\1[ \t]+:.*\n)*"
    r"((?:[ \t]*\n|\1[ \t]+\S.*(?:\n|\Z))+)",
    re.MULTILINE,
)
_SPAN = re.compile(r"`([^`\n]+)`")
# A server on a further node that another command, on the first node, belongs to.
JOINS = re.compile(r"--headless\b|--node[-_]rank(?:[= ]|' ')?['\"]?[1-9]")
PREFILLS = re.compile(
    r"--disaggregation-mode(?:[= ]|' ')?['\"]?prefill|--is-prefill-worker|kv_producer"
    r"|ec_producer|--encoder-only"
)
# What names a role of a manifest's workers.
_ROLE = re.compile(
    r"[ \t]*(?:-[ \t]+)?(?:\w+:[ \t]*\{(?:.*[,{])?[ \t]*)?['\"]?"
    r"(?:[\w./-]*(?:name|role|type)['\"]?:[ \t]*['\"]?"
    r"([\w.-]*(?:prefill|decode)[\w.-]*)|((?:prefill|decode)\w*)['\"]?:[ \t]*$)",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"dynamo\.(?:frontend|router|planner)|router|bench")
LEFT_OUT = "left out, because the script adds it under a condition: "
# Pods of a group of LeaderWorkerSet, which its controller tells each of them.
_GROUP = re.compile(r"^[ \t]*leaderWorkerTemplate:\n(?:.*\n)*?[ \t]+size:[ \t]*(\d+)", re.MULTILINE)
# What SkyPilot tells its commands: how many accelerators a node has, and how many nodes there are.
_ACCELERATORS = re.compile(r"^[ \t]*accelerators:[ \t]*(.+)$", re.MULTILINE)
_NODES = re.compile(r"^num_nodes:[ \t]*(\d+)", re.MULTILINE)
# What dstack is asked for, and tells its commands: `gpu: H100:80GB:4`, one without a count.
_GPU = re.compile(r"^[ \t]*gpu:[ \t]*([^\s#]+)", re.MULTILINE)
# What llm-d's modelservice chart tells its workers of their parallelism (templates/_helpers.tpl).
_OF_CHART = {"TP_SIZE": "tensor", "DP_SIZE": "data", "DP_SIZE_LOCAL": "dataLocal"}
# HCL of Terraform and Nomad, and Nix, in which the same keys have an equals sign.
_HCL = re.compile(
    r"^[ \t]*(?:(?:job|resource|module|task|config|container)\b[^\n=]*\{[ \t]*$"
    r"|(?:virtualisation\.)?oci-containers\b)",
    re.M,
)
# Values of its variables and locals, and where they are used.
_HCL_DEFAULT = re.compile(
    r"^variable[ \t]+\"(\w+)\"\s*\{[^{}]*?\bdefault[ \t]*=[ \t]*(\"?)([^\"\s{}\[(]+)\2", re.M
)
_HCL_LOCALS = re.compile(r"^locals[ \t]*\{([^{}]*)\}", re.M)
_HCL_LOCAL = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\"?)([^\"\s{}\[(]+)\2[ \t]*(?:#.*)?$", re.M)
_HCL_USED = re.compile(
    r"(\$\{\s*)?(tostring\(\s*)?\b(var|local)\.(\w+)(?(2)\s*\))(?(1)\s*\})", re.M
)
_HCL_KEY = re.compile(r"^([ \t]*(?:image|command|args|entrypoint|cmd))[ \t]*=[ \t]*", re.M)
# A container as a unit of systemd, by Podman.
_QUADLET = re.compile(r"^\[Container\][ \t]*$", re.M)
_QUADLET_KEY = re.compile(r"^(Image|Exec)=((?:.*\\\n)*.*)$", re.M)
# A runtime of KServe, which an InferenceService beside it starts with arguments of its own.
_RUNTIME = re.compile(r"^kind:[ \t]*(?:Cluster)?ServingRuntime[ \t]*$", re.MULTILINE)
# The model of an InferenceService of KServe, on the hub or in a store, and where a pod finds it.
_STORED = re.compile(r"^[ \t]*storageUri:[ \t]*['\"]?(?:hf://)?([\w.:/-]+)", re.MULTILINE)
# KServe's own runtime, which an InferenceService names by a format and not by an image.
_MOUNTED = "/mnt/models"
# What an operation of Kustomize's patches does to a container's command or arguments.
_PATCH = re.compile(
    r"^(?P<indent>[ \t]*)path:[ \t]*['\"]?[^\s'\"]*/(?P<key>args|command)(?P<item>/[-\d]+)?['\"]?"
    r"[ \t]*\n(?P=indent)value:(?P<rest>.*)",
    re.MULTILINE,
)
_KSERVE = re.compile(r"modelFormat:\s*\n\s*name:\s*['\"]?huggingface")


def _pairs(lines: list[str], indent: int) -> list[str]:
    """`NAME=value` for each variable of an indented list or mapping."""
    pairs: list[str] = []
    name = ""
    for line in lines:
        bare, depth = line.strip(), len(line) - len(line.lstrip())
        if bare and (depth < indent or (depth == indent and not bare.startswith("- "))):
            break
        pair = _PAIR.match(_INLINE.sub(r"\1: \2", bare))
        if pair is None:
            continue
        value = re.sub(r"\s+#.*$", "", pair[2]).strip().rstrip(",").strip("'\"")
        if pair[1] == "name":  # Kubernetes: a name, and its value in the next line
            name = value
        elif pair[1] == "value" and name:
            pairs.append(f"{name}={value}")
        elif value:
            pairs.append(f"{pair[1]}={value}")
    return pairs


@dataclasses.dataclass
class _Container:
    """What one container of a manifest runs, at its depth of indentation."""

    depth: int
    parts: list[str] = dataclasses.field(default_factory=list)
    args: list[str] = dataclasses.field(default_factory=list)
    variables: list[str] = dataclasses.field(default_factory=list)
    image: str = ""
    role: str = ""

    def text(self) -> str:
        """Its variables and its command, for a shell; arguments come last, wherever they stand."""
        return " ".join([*map(shlex.quote, self.variables), *self.parts, *self.args])


def _enter(container: _Container, line: str, more: list[str]) -> None:
    """Enter what a line of a container says: its image, its variables or a part of its command."""
    if image := _IMAGE.match(line):
        container.image = container.image or image[1] or image[2]
    elif _PAIRS.fullmatch(line):
        container.variables += shlex.split(line)[1:]
    elif env := _ENV.match(line):
        container.variables.append(f"{env[1]}={env[2].strip().strip(chr(34))}")
    elif _VARIABLES.match(line):
        container.variables += _pairs(more, container.depth)
    elif key := _HELD.match(line):
        parts = container.args if key["key"].lower() in _BEHIND else container.parts
        indent = len(key["indent"] + (key["item"] or ""))
        text = yaml_text.given(key["rest"], more, indent)
        # The lines of llama-swap's are one.
        parts.append(" ".join(text.split("\n")) if key["key"] == "cmd" else text)


def _role_in(line: str, role: str) -> str:
    """The role of the workers from a line on; `role` is that of those before."""
    if line.startswith("---"):
        return ""
    told = _ROLE.match(line)
    if not told:
        return role
    named = {*re.findall("prefill|decode", (told[1] or told[2]).lower())}
    return named.pop() if len(named) == 1 else ""


def _containers(text: str) -> list[_Container]:
    """The containers of a manifest that run something; a container file is one."""
    while (joined := _ENV_GOES_ON.sub(r"\1 ", text)) != text:
        text = joined
    lines, every = text.splitlines(), list[_Container]()
    open_: list[_Container] = []
    role = ""
    for at, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        role = _role_in(line, role)
        outer = len(line) - len(line.lstrip())
        depth = len(line) - len(re.sub(r"^\s*(?:-\s+)?", "", line))
        # A dash begins another container at the depth of the keys behind it.
        while open_ and (open_[-1].depth > depth or outer < open_[-1].depth <= depth != outer):
            open_.pop()
        if not any(key.match(line) for key in (_IMAGE, _ENV, _VARIABLES, _HELD)):
            continue
        if not open_ or open_[-1].depth != depth:
            outer_ones = [pair for one in open_ for pair in one.variables]
            open_.append(_Container(depth, variables=outer_ones, role=role))
            every.append(open_[-1])
        _enter(open_[-1], line, lines[at + 1 :])
    return [one for one in every if any(part.strip() for part in one.parts + one.args)]


def _laid_out(text: str) -> str:
    """JSON, and YAML with aliases, with one key or item a line; another text as it is."""
    try:
        is_json = text.lstrip()[:1] in ("{", "[")
        tree = json.loads(text) if is_json else settings.without_aliases(text)
    except (ValueError, RecursionError):
        tree = None
    if not tree:
        return text
    lead = '"args": ' if isinstance(tree[0] if isinstance(tree, list) else None, str) else ""
    return lead + json.dumps(tree, indent=1, ensure_ascii=False, default=str)


_BY_IMAGE = 2  # the rank of a container whose image starts a server; what only prefills is next


def _rank(container: _Container) -> int:
    """Which of several containers is meant: a server, and rather one that decodes."""
    words = " ".join(container.parts + container.args)
    prefills = bool(PREFILLS.search(words)) or container.role == "prefill"
    if SERVER.search(words):
        return int(prefills)
    runs = _ENGINE.search(f"{container.image} {words}") and not _BESIDE.search(words)
    return _BY_IMAGE + prefills if runs else _BY_IMAGE + 2


# A recipe of vLLM's: one file for a model, of which its site makes a command for each system.
_RECIPE = re.compile(r"^([ \t]*)base_args[ \t]*:[ \t]*(\[.*\])?[ \t]*$", re.MULTILINE)
_OF_RECIPE = re.compile(
    r"^  (model_id|docker_image|min_vllm_version)[ \t]*:[ \t]*['\"]?([^\s'\"]+)", re.MULTILINE
)


def _in_recipe(text: str) -> Held | None:
    """The command of one of vLLM's recipes, without what its site adds by choice."""
    args = _RECIPE.search(text)
    if args is None:
        return None
    own = {one[1]: one[2] for one in _OF_RECIPE.finditer(text)}
    lines = text[args.end() :].splitlines()
    words = yaml_text.items(args[2]) if args[2] else yaml_text.block(lines, len(args[1]))
    release = own.get("min_vllm_version", "latest")
    return Held(
        f"vllm serve {own.get('model_id', '')} {words}",
        own.get("docker_image", f"vllm/vllm-openai:{release}"),
        (
            "the recipe's base command: its features, variants, strategies and what it adds by "
            "hardware are left out; write them behind it (-tp 8 ...)",
        ),
    )


def _told(text: str) -> list[str]:
    """`NAME=value` for the variables that the controller of a manifest sets."""
    told = []
    if group := _GROUP.search(text):
        told.append(f"LWS_GROUP_SIZE={group[1]}")
    if asked := _ACCELERATORS.search(text):
        counts = {count or "1" for count in re.findall(r"[A-Za-z][\w-]*(?::[ ]*(\d+))?", asked[1])}
        nodes = _NODES.search(text)
        told.append(f"SKYPILOT_NUM_NODES={nodes[1] if nodes else 1}")
        if len(counts) == 1:
            told.append(f"SKYPILOT_NUM_GPUS_PER_NODE={counts.pop()}")
    if asked := _GPU.search(text):
        count = asked[1].rpartition(":")[2]
        told.append(f"DSTACK_GPUS_NUM={count if count.isdigit() else 1}")
    split = yaml_text.under(text, "decode", "parallelism")
    ranks = {name: yaml_text.text_at(split, key) for name, key in _OF_CHART.items()}
    told += [f"{name}={count}" for name, count in ranks.items() if count]
    if all(ranks[name].isdigit() and int(ranks[name]) for name in ("DP_SIZE", "DP_SIZE_LOCAL")):
        told.append(f"LWS_GROUP_SIZE={int(ranks['DP_SIZE']) // int(ranks['DP_SIZE_LOCAL'])}")
    return told


def _in_python(text: str) -> Held | None:
    """The command that Python has as a list of words, or hands to a helper or a shell."""

    def held(found: lists.Words) -> Held:
        notes = (LEFT_OUT + ", ".join(found.left_out),) if found.left_out else ()
        return Held(shlex.join(found.words), "", notes)

    if launched := lists.launched(text):
        first = held(launched[0])
        return first._replace(notes=first.notes + others("text", len(launched), decodes=False))
    call = _CALL.search(text)
    for found in lists.lists(text):
        # A program may be a variable that is called after it.
        is_served = found.words[1:2] == ["serve"]
        named = _VARIABLE.fullmatch(found.words[0]) if is_served else None
        command = shlex.join([named[1], *found.words[1:]] if named else found.words)
        if (call or is_served) and SERVER.search(command):
            return held(found)._replace(text=command)
    if call:  # in which a word without quotation marks is a variable
        return Held(yaml_text.items(_NAME.sub(r'\1"$\2"', _NUMBER.sub(r'\1"\2"', call[1]))))
    return next((Held(said) for said in lists.texts(text) if SERVER.search(said)), None)


# What the controller of KServe makes of a multi-node service's degrees.
_WORKERS = {
    "pipeline-parallel-size": re.compile(r"^[ \t]*pipelineParallelSize:[ \t]*(\d+)", re.MULTILINE),
    "tensor-parallel-size": re.compile(r"^[ \t]*tensorParallelSize:[ \t]*(\d+)", re.MULTILINE),
}


def _of_workers(text: str) -> tuple[list[str], list[str]]:
    """Variables and flags that KServe makes of the degrees below `workerSpec`."""
    workers = re.split(r"(?m)^[ \t]*workerSpec:", text, maxsplit=1)[1:]
    told = {name: x[1] for name, at in _WORKERS.items() for one in workers if (x := at.search(one))}
    variables = [f"{name.upper().replace('-', '_')}={n}" for name, n in told.items()]
    return variables, [f"--{name}={n}" for name, n in told.items() if f"--{name}" not in text]


# A ConfigMap, by its name, and where containers take variables from one: all, or one by its key.
_CONFIG_MAP = re.compile(r"^kind:[ \t]*ConfigMap[ \t]*$", re.MULTILINE)
_NAMED = re.compile(r"^[ \t]+name:[ \t]*['\"]?([\w.-]+)", re.MULTILINE)
_ALL_OF = re.compile(r"configMapRef:\s*(?:\{\s*)?name:\s*['\"]?([\w.-]+)")
_ONE_OF = re.compile(
    r"name:[ \t]*['\"]?(\w+)['\"]?\s+valueFrom:\s+configMapKeyRef:"
    r"(?=(?:\s+\w+:.*)?\s+name:[ \t]*['\"]?([\w.-]+))(?:\s+name:.*)?\s+key:[ \t]*['\"]?([\w.-]+)"
)


def _of_maps(text: str) -> list[str]:
    """`NAME=value` for the variables that containers take from ConfigMaps of the same text."""
    maps: dict[str, dict[str, str]] = {}
    for one in re.split(r"(?m)^---.*$", text):
        name, data = _NAMED.search(one), yaml_text.under(one, "data")
        if _CONFIG_MAP.search(one) and name:
            maps[name[1]] = dict(pair.split("=", 1) for pair in _pairs(data.splitlines(), -1))
    pairs = {key: x for name in _ALL_OF.findall(text) for key, x in maps.get(name, {}).items()}
    for variable, name, key in _ONE_OF.findall(text):
        if key in maps.get(name, {}):
            pairs[variable] = maps[name][key]
    return [f"{name}={value}" for name, value in pairs.items()]


# What a property list of launchd starts, and its variables.
_LAUNCHED = re.compile(r"<key>ProgramArguments</key>\s*<array>(.*?)</array>", re.DOTALL)
_OF_LAUNCHED = re.compile(r"<key>EnvironmentVariables</key>\s*<dict>(.*?)</dict>", re.DOTALL)
_STRING = re.compile(r"<(?:string|key)>(.*?)</(?:string|key)>", re.DOTALL)


def _in_property_list(text: str) -> Held | None:
    """The program of a property list of macOS's launchd."""
    if not (program := _LAUNCHED.search(text)):
        return None
    pairs = [html.unescape(x) for one in _OF_LAUNCHED.findall(text) for x in _STRING.findall(one)]
    told = (f"{name}={value}" for name, value in zip(pairs[::2], pairs[1::2], strict=False))
    return Held(shlex.join([*told, *map(html.unescape, _STRING.findall(program[1]))]))


# A program of PM2's ecosystem file, and its arguments as a text or a list.
_SCRIPT = re.compile(r"""\bscript['"]?\s*:\s*(['"])(.+?)\1""")
_ARGUMENTS = re.compile(r"""\bargs['"]?\s*:\s*(?:(['"`])(.*?)\1|(\[.*?\]))""", re.DOTALL)


def _in_ecosystem(text: str) -> Held | None:
    """The program of PM2's ecosystem file."""
    script, args = _SCRIPT.search(text), _ARGUMENTS.search(text)
    if not (script and args and re.search(r"\bapps['\"]?\s*:", text)):
        return None
    return Held(f"{script[2]} {args[2] or yaml_text.items(args[3] or '')}")


# What names a model of Ray's, of which a text may serve several.
_SOURCE = re.compile(r"\bmodel_source['\"]?[ \t]*[:=][ \t]*['\"]?([\w./-]+)")


def _servers(every: list[_Container], rank: int) -> list[_Container]:
    """The servers among containers, of which the first has a rank."""
    if rank >= _BY_IMAGE:
        by_image = (_BY_IMAGE, _BY_IMAGE + 1)
        return [one for one in every if _rank(one) in by_image and "--model" in one.text()]
    return [one for one in every if _rank(one) < _BY_IMAGE and not JOINS.search(one.text())]


def _meant(text: str, every: list[_Container]) -> Held:
    """The command of the container that is meant, with what controllers add to it."""
    container = min(every, key=_rank)
    variables, flags = _of_workers(text)
    container.variables = [*_of_maps(text), *container.variables, *_told(text), *variables]
    container.args += flags
    if _RUNTIME.search(text):
        bare = (one for one in every if not (one.parts or one.image or one is container))
        container.args += [x for one in bare for x in one.args]
    stored = _STORED.search(text)
    if stored and ("--model" not in container.text() or _MOUNTED in container.text()):
        container.args.append(shlex.quote(f"--model={stored[1]}"))
    servers = _servers(every, rank := _rank(container))
    decodes = any(_rank(one) == rank + 1 for one in servers)
    image = container.image or ("kserve/huggingfaceserver" if _KSERVE.search(text) else "")
    return Held(container.text(), image, others("manifest", len(servers), decodes=decodes))


def _in_keywords(text: str) -> Held | None:
    """The command of a call, a mapping or a log, as `keywords` reads them."""
    if not (command := keywords.command_in(text)):
        return None
    count = len({*_SOURCE.findall(text)})
    several = f"the text serves {count} models; this is one of them, so give each by itself"
    return Held(command, "", (several,) * (count > 1))


def _in_quadlet(text: str) -> Held | None:
    """The image and arguments of a container that is a unit of systemd."""
    unit = dict(_QUADLET_KEY.findall(text)) if _QUADLET.search(text) else {}
    return Held(unit.get("Exec", ""), unit["Image"]) if unit.get("Image") else None


def _in_patch(text: str) -> Held | None:
    """What the operations of a patch of Kustomize's for one target make of a command."""
    operations = [*_PATCH.finditer(text)]
    if not operations or len(re.findall(r"\btarget:", text)) > 1:
        return None
    words: dict[str, list[str]] = {"command": [], "args": []}
    for one in operations:
        more = text[one.end() + 1 :].splitlines()
        value = yaml_text.given(one["rest"], more, len(one["indent"]))
        words[one["key"]].append(shlex.quote(value.strip()) if one["item"] else value)
    note = "a patch by itself: what else the command that it changes says is not known"
    return Held(" ".join([*words["command"], *words["args"]]), "", (note,))


def _of_hcl(text: str) -> str:
    """A text of HCL with its keys as YAML has them, and the values that it tells of variables."""
    told = {f"var.{name}": value for name, _, value in _HCL_DEFAULT.findall(text)}
    for block in _HCL_LOCALS.findall(text):
        told |= {f"local.{name}": value for name, _, value in _HCL_LOCAL.findall(block)}
    text = _HCL_USED.sub(lambda x: told.get(f"{x[3]}.{x[4]}", f"${{{x[3]}.{x[4]}}}"), text)
    return _HCL_KEY.sub(r"\1: ", text)


# Where tools say what stands for a name in braces: Taskfile and Ansible, recipes, workflows.
_TELLS = re.compile(r"^[ \t]*(?:vars|defaults|matrix|parameters)[ \t]*:", re.MULTILINE)
_BRACED = re.compile(r"\{\{-?\s*(?:[\w.-]*\.)?(\w+)\s*-?\}\}|\$?(?<!\{)\{(\w+)\}(?!\})")
# A default of Jinja's and of Helm's.
_DEFAULT = re.compile(
    r"\{\{-?\s*(?:[\w.]*?(\w+)\s*\|\s*)?default\b[\s(]*(\\?['\"]?)([^'\"(){}|,\s\\]+)\2(?:\s+[\w.]+)?"
    r"(?:,\s*\w+)?[\s)]*(?:\|[^{}|]*)*-?\}\}"
)


def _filled(text: str) -> str:
    """A text with what it tells of names in braces that have one value.

    `{name}` is of recipes of spark-vllm-docker and sparkrun, in which a brace that is none is
    written twice. Source: https://github.com/eugr/spark-vllm-docker, recipes/README.md.
    """
    told: dict[str, set[str]] = {}
    for one in settings.mappings(text) if _TELLS.search(text) and "{" in text else ():
        pairs = [x for key in ("vars", "defaults", "matrix") if isinstance(x := one.get(key), dict)]
        pairs += [{one["name"]: one["value"]}] if {"name", "value"} <= one.keys() else []
        for name, value in (each for pair in pairs for each in pair.items()):
            values = value if isinstance(value, list) else [value]
            scalars = {str(x) for x in values if not isinstance(x, dict | list)}
            told.setdefault(str(name), set()).update(scalars)
    known = {name: next(iter(values)) for name, values in told.items() if len(values) == 1}
    text = _DEFAULT.sub(lambda x: known.get(x[1] or "", x[3]), text)
    filled = _BRACED.sub(lambda x: known.get(x[1] or x[2], x[0]), text) if known else text
    if known and '{{"' in filled:
        filled = filled.replace("{{", "{").replace("}}", "}")
    # One word where it is not known.
    return re.sub(r"\{\{-?\s*([\w.$]+)\s*(?:\|[^{}]*)?-?\}\}", r"{{\1}}", filled)


def _refuse_settings(text: str) -> None:
    kinds = {"Python": _PYTHON.search(text), "JSON": _JSON.match(text), "YAML": _YAML.match(text)}
    kind = next((one for one, is_one in kinds.items() if is_one), "")
    if kind and not SERVER.search(text):
        raise ValueError(
            f"flags:\n  the text is {kind} without the command of a server; give the command "
            "that it leads to (vllm serve MODEL -tp 8 ...), its settings as flags"
        )


def command_in(text: str) -> Held:
    """The command that a manifest, a container file or a call holds, and the image that runs it.

    Manifests are those of Compose, Kubernetes and SkyPilot. Entry point, command and arguments
    follow each other, behind the variables that the container gets. Of several containers it is the
    first that starts a server, and of those the first that decodes; else the first whose image is
    an engine's. Settings that describe a server (`jobs`) are the command that they lead to. Any
    other text is what it was, without an image.

    Raises:
        ValueError: the text is YAML, JSON or Python that starts no server.

    >>> command_in('CMD ["vllm", "serve", "m", "-tp", "4"]').text
    'vllm serve m -tp 4'
    """
    text = _filled(text)
    if whole := _in_keywords(text) or _in_recipe(text):
        return whole
    if _HCL.search(text):
        text = _of_hcl(text)
    manifest = _laid_out(text)
    readers: list[Callable[[str], Held | None]] = [_in_property_list, _in_ecosystem, _in_patch]
    readers += [] if manifest != text else [_in_python]
    readers += [_in_quadlet] if SERVER.search(text) else [_in_quadlet, jobs.described]
    if held := next((held for read in readers if (held := read(text))), None):
        return held
    if not _MAKE.search(text) and (every := _containers(manifest)):
        return _meant(text, every)
    _refuse_settings(text)
    # The commands of dstack are lines of a list, and its variables stand outermost.
    stated = _pairs(yaml_text.under(text, "env").splitlines(), -1)
    return Held("\n".join([*_told(text), *map(shlex.quote, stated), text]))


# What Slurm is asked for in a batch script, and the variables that tell it to the script.
_ASKED = re.compile(
    r"^#SBATCH\s+(?:--(?P<flag>nodes|gpus-per-node|gres|gpus)[= ]|-(?P<short>[NG])\s*)"
    r"(?:gpu:)?(?:[A-Za-z]\w*:)?(?P<count>\d+)[ \t]*(?:#.*)?$",
    re.MULTILINE,
)
_BY_SLURM = {
    "nodes": ("SLURM_NNODES", "SLURM_JOB_NUM_NODES"),
    "gpus": ("SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE"),
}
_COUNTED = re.compile(r"\$\(\s*nvidia-smi (?:-L|--list-gpus)[^()]*wc -l\s*\)")


def _with_slurm(text: str) -> str:
    """A batch script of Slurm behind the variables that Slurm sets by what it is asked for."""
    asked: dict[str, int] = {}
    for one in _ASKED.finditer(text):
        flag, count = one["flag"] or one["short"], int(one["count"])
        asked["nodes" if flag in ("nodes", "N") else "gpus"] = count
        if flag in ("gpus", "G"):  # of all nodes together
            asked["gpus"] = count // max(1, asked.get("nodes", 1))
    if "gpus" in asked:
        text = _COUNTED.sub(str(asked["gpus"]), text)
    told = [f"{name}={count}" for kind, count in asked.items() for name in _BY_SLURM[kind]]
    return "\n".join([*told, text])


# GitHub's workflows, and batch files of Windows.
_EXPRESSION = re.compile(r"\$\{\{\s*(?:env|inputs|matrix|vars)\.(\w+)\s*\}\}")
_BATCH = re.compile(r"^[ \t]*(?:@echo off|set [A-Za-z_]\w*=)", re.MULTILINE | re.IGNORECASE)
_OF_BATCH = re.compile(r"%([A-Za-z_]\w*)%")
_OF_JUST = re.compile(r"^(?:export[ \t]+)?(\w+)[ \t]*:=[ \t]*['\"]?([^'\"\n]*)", re.MULTILINE)
_OF_MAKE = re.compile(r"^(?:export[ \t]+)?(\w+)[ \t]*(?:\?|::?)?=[ \t]*(.*)\n?", re.MULTILINE)


# What word processors, chats, terminals and changes of files make of a command.
_TYPED = [(re.compile(one["pattern"]), one["typed"]) for one in load_spellings()["typed"]]


def _cells(text: str) -> str:
    """The code of a notebook; another text as it is."""
    try:
        cells = json.loads(text)["cells"] if '"cells"' in text else []
        code = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return text
    return "\n".join(code) or text


def _code(text: str) -> str:
    """The blocks of code of a document that holds a command in them; another text as it is.

    Around them is prose, whose apostrophes are no quotation marks. A block in which one is not
    closed is of another language.
    """
    found = (one for kind in (_FENCED, _LITERAL) for one in kind.finditer(text))
    blocks = [textwrap.dedent(one[2]) for one in found]
    code = []
    for block in blocks:
        try:
            shlex.split(block, comments=True)
        except ValueError:
            continue
        code.append(block)
    whole = "\n".join(code)
    if _RECIPE.search(text):  # whose guide has commands of other choices
        return text
    if SERVER.search(whole):
        return whole
    return next((block for block in code if lists.launched(block)), text)


def as_typed(text: str) -> str:
    """A text with the dashes and quotation marks that its writer typed, without a prompt."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.startswith("+") for line in lines):  # added lines of a change
        text = "\n".join(line[1:] for line in lines)
    text = _code(_REMARK.sub("", _cells(text)))
    for pattern, typed in _TYPED:
        text = pattern.sub(typed, text)
    spans = [span for span in _SPAN.findall(text) if SERVER.search(span)]
    if spans and not SERVER.search(_SPAN.sub("", text)):
        text = "\n".join(spans)
    text = _EXPRESSION.sub(r"${\1}", text)
    if just := dict(_OF_JUST.findall(text)):
        text = re.sub(r"\{\{[ \t]*(\w+)[ \t]*\}\}", lambda x: just.get(x[1], x[0]), text)
    if _BATCH.search(text):
        text = _OF_BATCH.sub(r"${\1}", text)
    if _MAKE.search(text):  # make reads all variables first
        bare = ((name, re.sub(r"\s+#.*", "", x).strip()) for name, x in _OF_MAKE.findall(text))
        told = (f"{name}={x}" if x[:1] in ("'", '"') else f'{name}="{x}"' for name, x in bare)
        text = "\n".join([*told, _OF_MAKE.sub("", text)])
    return _with_slurm(text) if "#SBATCH" in text else text
