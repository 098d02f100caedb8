"""Commands of servers that are started from Python or a mapping, and that their logs tell."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from qsjax.engines import settings
from qsjax.engines.jobs import engine_of_keys, spelled, started
from qsjax.engines.rules import engines_by
from qsjax.engines.yaml_text import below

# Calls whose keywords are an engine's flags.
_CALLS = engines_by("calls")
_CALL = re.compile(rf"(?<![\w'\"])(?:[\w]+\.)?({'|'.join(_CALLS)})\(")
_STARTED = re.compile(r"\b(?:vllm|sglang) serve\b|launch_server|trtllm-serve|api_server")
_CONSTANT = re.compile(
    r"""^([ \t]*)(\w+)[ \t]*(?::[ \t]*\w+[ \t]*)?=[ \t]*"""
    r"""(['"][^'"\n\\]*['"]|0|[1-9][0-9]*(?:\.[0-9]+)?|0?\.[0-9]+)[ \t]*(?:#.*)?$""",
    re.M,
)
# What vLLM and SGLang say of their flags when they start; SGLang names every one that it has.
_LOGGED = re.compile(r"(non-default args: (?=\{)|server_args=ServerArgs(?=\())")
_OBJECT = re.compile(r"<[\w.]+:? ?([^<>]*)>")  # `<Mode.FAST: 3>`
_DEEP = 5  # names within names
_MODEL = ("model_source", "model_id", "model_path", "model")
# Ray's `engine_kwargs`, and `vllmConfig` of the production stack's chart, which writes camelCase.
_MAPPING = re.compile(
    r"^(?P<indent>[ \t]*)(?:-[ \t]+)?(?:engine_(?:kw)?args|vllm_args|vllmConfig):[ \t]*(?:#.*)?$",
    re.M,
)
_SERVED = re.compile(
    r"^[ \t-]*(model_source|model_id|modelURL)\s*:\s*(?:bucket_uri:[ \t]*)?['\"]?([^\s'\"#]+)", re.M
)


def _call_at(text: str, start: int) -> str:
    """A call from its name to the parenthesis that closes it."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#":
            at = (text.find("\n", at) + len(text)) % len(text) if "\n" in text[at:] else len(text)
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                return text[start : at + 1]
        at += 1
    return ""


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression holds: a constant, a dict of its keywords, or `$NAME` where unknown."""
    if isinstance(node, ast.Call) and node.keywords:
        kind = ast.unparse(node.func).rpartition(".")[2]
        drafter = kind.removesuffix("DecodingConfig")  # TensorRT-LLM's
        told = {"decoding_type": drafter} if drafter != kind else {}
        return told | _keywords(node, names)
    if isinstance(node, ast.Dict):
        held: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            one = _value(value, names)
            if isinstance(key, ast.Constant):
                held[str(key.value)] = one
            elif key is None and isinstance(one, dict):  # `**{...}`
                held |= one
        return held
    if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in names:
        return names[ast.unparse(node)]
    if isinstance(node, ast.Call) and len(node.args) == _DEFAULTS.get(ast.unparse(node.func)):
        return _value(node.args[-1], names)  # int(...), or what a variable is where none sets it
    try:
        held = ast.literal_eval(node)
        json.dumps(held)  # `...`, a set and the like are no values of flags
    except (ValueError, TypeError):
        name = re.match(r"\w*", ast.unparse(node).split(".")[-1])
        return f"${name[0] if name and name[0] else '_'}"
    return held


# Calls that are their last argument, if they have so many; what argparse makes of a command line.
_DEFAULTS = {"int": 1, "float": 1, "str": 1, "os.getenv": 2, "os.environ.get": 2}
_PARSED = re.compile(r"^[ \t]*(\w+)(?:,[ \t]*\w+)?[ \t]*=.*\bparse(?:_known)?_args\(", re.MULTILINE)
_OPTION = re.compile(
    r"add_argument\(\s*(?:['\"]-\w+['\"],\s*)?['\"]--([\w-]+)['\"](?:[^()]|\([^()]*\))*?"
    r"\bdefault\s*=\s*((?:[^(),\n]|\([^()]*\))+)"
)


def _keywords(node: ast.Call, names: dict[str, Any]) -> dict[str, Any]:
    return {one.arg: _value(one.value, names) for one in node.keywords if one.arg}


def _words(key: str, value: Any, nested: bool) -> Iterator[str]:
    """The words of a keyword; off and None are what it is without."""
    flag = f"--{key}"
    if value is True:
        yield flag
    elif isinstance(value, dict):
        if not nested:
            yield from (flag, json.dumps(value))
        for name, one in value.items() if nested else ():
            yield from _words(f"{key}.{name}", one, nested)
    elif isinstance(value, str) and value.startswith("$"):
        yield f"{flag}={value}"  # of a switch too, whose value would stand alone
    elif value is not None and value is not False:
        yield from (flag, value if isinstance(value, str) else json.dumps(value))


def _command(engine: str, model: Any, given: dict[str, Any]) -> str:
    words = [w for key, value in given.items() for w in _words(key, value, engine == "trtllm")]
    return started(engine, model if isinstance(model, str) else "", words)


def _in_log(text: str) -> str:
    """The command of a server that its log tells."""
    found = _LOGGED.search(text)
    if found is None:
        return ""
    engine = "vllm" if found[1].startswith("non") else "sglang"
    told = _OBJECT.sub(r"'\1'", _call_at(text, found.end()))
    try:
        node = ast.parse(told if engine == "vllm" else f"dict{told}", mode="eval").body
    except (SyntaxError, ValueError):
        return ""
    given = _value(node, {})
    if not isinstance(given, dict):
        return ""
    model = given.get("model") or given.get("model_path")
    known = spelled(engine) if engine == "sglang" else ()
    given = {
        name: value
        for name, value in given.items()
        if name not in (*_MODEL, "model_tag") and value not in (None, [], {}, "")
        if not known or name.replace("_", "-") in known
    }
    return _command(engine, model, given)


def _parsed(text: str) -> ast.expr | None:
    """A text as an expression of Python, None where it is none."""
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _named(named: str, text: str, names: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The dict of this name in a text, with what is put into it later."""
    found: dict[str, Any] = {}
    word = rf"(?m)^[ \t]*{re.escape(named)}\b"
    for how in re.finditer(
        rf"{word}(?:(?P<to>[^=\n\[.]*=(?!=)|\.update)|\[(['\"])(\w+)\2\]\s*=)", text
    ):
        if how[3]:
            line = text[how.end() :].partition("\n")[0].partition(" #")[0]
            node = _parsed(line)
            found |= {how[3]: _value(node, names)} if node is not None else {}
            continue
        node = _parsed(_call_at(text, how.end()))
        if how["to"] == ".update" and isinstance(node, ast.Name) and depth < _DEEP:
            found |= _named(node.id, text, names, depth + 1)
        held = _value(node, names) if isinstance(node, ast.Dict | ast.Call) else {}
        found |= held if isinstance(held, dict) else {}
    return found


def _spread(call: ast.Call, text: str, names: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `**{...}`, or of `**NAME` where the text sets that name to a dict."""
    found: dict[str, Any] = {}
    for one in call.keywords:
        if one.arg is None:
            held = _value(one.value, names) if isinstance(one.value, ast.Dict | ast.Call) else None
            named = ast.unparse(one.value)
            found |= held if isinstance(held, dict) else _named(named, text, names)
    return found


def _constants(text: str, at: int) -> dict[str, Any]:
    """What names hold at a place: those of the module, and any that were set in front of it."""
    own = [one for one in _CONSTANT.findall(text) if not one[0]]
    held = {name: ast.literal_eval(value) for _, name, value in own + _CONSTANT.findall(text[:at])}
    for whole in _PARSED.findall(text):
        for option in _OPTION.finditer(text):
            told = _value(_parsed(option[2]) or ast.Constant(None), held)
            held[f"{whole}.{option[1].replace('-', '_')}"] = told
    return held


def _in_python(text: str) -> str:
    for found in _CALL.finditer(text):
        names = _constants(text, found.start())
        try:
            node = ast.parse(_call_at(text, found.start()), mode="eval").body
        except SyntaxError:
            continue
        if not isinstance(node, ast.Call):
            continue
        engine = _CALLS[found[1]]
        if engine == "sglang" and "sgl" not in text:
            continue
        if found[1] == "LLM" and "tensorrt_llm" in text:
            engine = "trtllm"
        given = _spread(node, text, names) | _keywords(node, names)
        held = {name: x for name, x in given.items() if isinstance(x, dict)}
        outer = {**given, **held.get("model_loading_config", {})}
        model = next((outer[name] for name in _MODEL if isinstance(outer.get(name), str)), None)
        if found[1] in ("LLMConfig", "vLLMEngineProcessorConfig"):
            engine = "sglang" if "sglang" in str(outer.get("server_cls")).lower() else engine
            given = held.get("engine_kwargs", {})
        elif node.args:
            first = _value(node.args[0], names)
            model = first if isinstance(first, str) else model
        given = {key: x for key, x in given.items() if key not in _MODEL}
        if model or given:
            return _command(engine, model, given)
    return ""


def _beside_url(text: str) -> dict[str, Any]:
    """What the production stack's operator has of the engine beside the address of a model."""
    for one in settings.mappings(text):
        if "modelURL" in one and "vllmConfig" not in one:
            return {k: x for k, x in settings.dashed(one).items() if k in spelled("vllm")}
    return {}


def _in_mapping(text: str) -> str:
    text = text if _MAPPING.search(text) else settings.in_blocks(text)
    found = _MAPPING.search(text)
    given = settings.mapping(below(text[found.end() :], len(found["indent"]))) if found else {}
    if not found or not given:
        return ""
    given = settings.dashed(given)
    listed = given.pop("extra-args", None)
    given = _beside_url(text) | given
    # Of several models the one in front of the mapping, else the first behind it.
    named = [*_SERVED.finditer(text)]
    before = [one for one in named if one.start() < found.start()]
    near = before[-2:] if before else named[:2]
    served = {one[1]: one[2] for one in reversed(near)}
    model = served.get("modelURL") or served.get("model_source") or served.get("model_id")
    if model is None and "engine_kwargs" not in found[0] and "model" not in given:
        return ""  # of a template that says the model and its split elsewhere
    command = _command("sglang" if "sglang:" in text else "vllm", model, given)
    return " ".join([command, *map(shlex.quote, map(str, listed or ()))])


def _in_object(text: str) -> str:
    """The command of an engine's arguments as an object of JSON: model.json of Triton's backend."""
    try:
        whole: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    inner = (whole.get(key) for key in ("engine_args", "engine_kwargs"))
    given = next((one for one in inner if one and isinstance(one, dict)), whole)
    engine = engine_of_keys(list(given))
    if engine is None:
        return ""
    model = next((given[key] for key in _MODEL if isinstance(given.get(key), str)), None)
    return _command(engine, model, {key: x for key, x in given.items() if key not in _MODEL})


def command_in(text: str) -> str:
    """The command line that does what a call or a mapping says; "" where there is none.

    >>> command_in('LLMConfig(model_loading_config=dict(model_id="q", model_source="Qwen/QwQ-32B"),'
    ...            ' engine_kwargs=dict(tensor_parallel_size=8, enable_expert_parallel=True))')
    'vllm serve Qwen/QwQ-32B --tensor_parallel_size 8 --enable_expert_parallel'
    """
    if logged := _in_log(text):
        return logged
    if _STARTED.search(re.sub(r"#.*", "", text)):
        return ""
    if text.lstrip().startswith("{") and (found := _in_object(text)):
        return found
    return _in_python(text) or _in_mapping(text)
