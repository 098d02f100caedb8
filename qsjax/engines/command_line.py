"""A command line in parts: which engine's program it starts, and the words after it."""

import difflib
import functools
import itertools
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from qsjax.engines import jobs, pasted, shell, tools
from qsjax.engines.rules import ENGINES, Engine, engines_by, flags_of, load_spellings

# What names a program, a module or an image of each engine.
NAMES: dict[str, Engine] = engines_by("programs")
# How people spell engines beside `NAMES`, without what is no letter.
_SPELT: dict[str, Engine] = load_spellings()["words"] | {name: name for name in ENGINES}
# Scripts that start an engine's server, where they are called by name alone.
SCRIPTS: dict[str, Engine] = load_spellings()["scripts"]
_DOCKER = load_spellings()["docker"]
_CONTAINERS, _MOVES = _DOCKER["programs"].split(), {*_DOCKER["moves"].split()}
_BEFORE_NO_IMAGE = _DOCKER["before_no_image"].split()
_IMAGE = re.compile(
    r"^(?=.*/)(?:.*/)?[\w.-]*?(vllm|sglang|tensorrt-llm|trtllm|huggingfaceserver)[^/:]*"
    r"(/[\w.-]+)?([:@][^/]*)?$"
)
_LOCAL_IMAGE = re.compile(r"^(vllm|sglang|tensorrt-llm|trtllm)[\w.-]*(?::[\w.-]+)?$")
_PATH = re.compile(r"\w[\w.-]*(/[\w.-]+)+(:\S+)?")
# Commands of trtllm-serve that hand requests on, and of trtllm-bench that run a model.
_ORCHESTRATORS = ("disaggregated", "disaggregated_mpi_worker", "mm_embedding_serve")
_RUNS = {"throughput", "latency"}
_VERBS = ("bench", "chat", "complete")  # of vLLM, beside `serve`: they measure, or ask a server
# Modules and scripts of an engine that start no server of it.
_CLIENT = re.compile(
    r"bench(?:mark)?_serving|launch_router|send_one|\.test\.|/tests?/|^vllm\.(?!entrypoints)"
)
_END = re.compile(r"(\d?>>?.*|&>.*|\|\|?|&&?|;|\)|#.*)$")  # what the shell does after the program
# A word of text that holds the command of an engine: `bash -c "vllm serve ..."`
_QUOTED = re.compile(
    r"\S*(?:vllm|sglang|trtllm|atom\.entry)\S*\s.*\s-"
    r"|\A\s*(?:.*(?:&&|[;\n])\s*)?(?:exec )?(?:vllm|sglang|trtllm-serve) serve [^\s-]\S*\s*\Z",
    re.DOTALL,
)
_WRAPPED = re.compile(r"--(?:wrap|command|cmd)=(.*)", re.DOTALL)  # of sbatch and the like
# What begins another command on a line of its own.
_COMMAND = re.compile(
    r"(?:\S*/)?(?:python[\d.]*|pip\d?|uv|vllm|sglang|trtllm-\w+|genai-perf|aiperf|guidellm|curl|wget"
    r"|echo|printf|sleep|wait|exit|docker|kubectl|export|source|cd|unset|set|kill|pkill|local"
    r"|return|tail|tee|cat|nohup|exec|ray|srun|mpirun|bash|sh|sudo|if|fi|for|done|do|while|else"
    r"|elif|then|esac|trap|function)|[A-Za-z_]\w*=.*|[}\])]|\S+:",
    re.DOTALL,
)


# `cat > FILE << EOF`, in any order
_HERE = re.compile(
    r"^(?P<line>[^\n]*)<<-?\s*(?P<q>['\"]?)(?P<end>\w+)(?P=q)(?P<rest>[^\n]*)\n(?P<text>.*?)\n"
    r"[ \t]*(?P=end)[ \t]*(?:\n|$)",
    re.DOTALL | re.MULTILINE,
)
# What begins and ends branches of a shell.
_OPENS = re.compile(r"(?m)^[ \t]*(if|fi|case|esac)\b")
_GUARD = "_WRITES_FILE_"
_MANIFEST = re.compile(r"^\s*(?:apiVersion|kind|services)\s*:", re.MULTILINE)
# `echo -e "a: 1\nb: 2" > FILE`
_ECHOED = re.compile(
    r"""^[ \t]*(?:echo(?:[ \t]+-e)?|printf)[ \t]+(?P<q>['"])(?P<text>[^'"]*:[^'"]*)(?P=q)"""
    r"""[ \t]*>>?[ \t]*['"]?(?P<path>[^\s|;&<>'"]+)""",
    re.MULTILINE,
)
# A block of Markdown that begins with the name of the settings file that it shows.
_SHOWN = re.compile(
    r"^[ \t]*```ya?ml[^\n]*\n[ \t]*#[ \t]*(?P<name>[\w./-]+\.ya?ml):?[ \t]*\n"
    r"(?P<text>.*?)^[ \t]*```",
    re.DOTALL | re.MULTILINE,
)
_WRITTEN = re.compile(r"(?:>>?|\btee(?: -a)?)\s*['\"]?([^\s|;&<>'\"]+)")


def engine_named(text: str) -> Engine | None:
    """The engine that a name means, None where it is none of them, or several.

    >>> engine_named("TensorRT-LLM 1.2"), engine_named("vllm-v1"), engine_named("dynamo-trt")
    ('trtllm', 'vllm', 'trtllm')
    """
    if "," in text:
        return None
    words = re.findall(r"[a-z]+", re.sub(r"(?i)(trt|tensorrt)[-_ ]?llm", "trtllm", text).lower())
    return next((_SPELT[word] for word in words if word in _SPELT), None)


class Command(NamedTuple):
    """One command: the engine of its program, None without one, and the words after that.

    `files` are the settings that the same script writes, by path; `notes` say what else is in it.
    """

    engine: Engine | None
    words: list[str]
    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


# A file of a ConfigMap: its name, and its text as a block.
_MOUNTED = re.compile(
    r"^(?P<indent>[ \t]+)(?P<name>[\w.-]+\.(?:ya?ml|json))[ \t]*:[ \t]*\|[-+]?[ \t]*\n"
    r"(?P<text>(?:(?P=indent)[ \t]+\S.*(?:\n|$)|[ \t]*(?:\n|$))+)",
    re.MULTILINE,
)


def _is_manifest(text: str) -> bool:
    """Whether a text is a manifest, or values of a chart that describe a server."""
    return bool(_MANIFEST.search(text) or jobs.described(text))


# A unit of systemd, or a program of supervisord: what it starts, and with which variables.
_SERVICE = re.compile(r"^\[(?:Service|program:.*)\][ \t]*$", re.MULTILINE)
_OF_SERVICE = re.compile(r"^(Environment|ExecStart|command)=((?:.*\\\n)*.*)$", re.MULTILINE)


def _of_unit(text: str) -> str:
    """The command of a unit behind its variables; another text as it is."""
    found = _OF_SERVICE.findall(text) if _SERVICE.search(text) else []
    if not any(key != "Environment" for key, _ in found):  # Podman's units start an image
        return re.sub(r"(?m)^ExecStart=", "", text)
    lines: list[str] = []
    for key, value in found:
        parts = re.findall(r"\"[^\"]*\"|'[^']*'|\S+", value)
        variables = [shlex.quote(one.strip("\"'")) for one in parts]
        lines += variables if key == "Environment" else [value.lstrip("-@+!:")]
    return "\n".join(lines)


class _File(NamedTuple):
    """A settings file that a script writes, and a variable that is empty where it does not."""

    path: str
    text: str
    guard: str = ""


def _here(text: str) -> tuple[str, list[_File]]:
    """A script without the files that it writes in place, and those that its first server finds.

    What is written over one that a server has read is of another server. What is written under a
    condition sets a variable in its place, which says whether the condition holds.
    """
    files: dict[str, list[_File]] = {}
    read, parts, end = set[str](), list[str](), 0
    for at, here in enumerate(_HERE.finditer(text)):
        line, lead = f"{here['line']} {here['rest']}", text[end : here.start()]
        if pasted.SERVER.search(lead):
            read |= files.keys()
        parts += [lead, here["text"] if _is_manifest(here["text"]) else "", "\n"]
        end = here.end()
        path = _WRITTEN.search(line)
        if path and path[1] not in read:
            is_more = ">>" in line or "-a" in line.split()
            opened = _OPENS.findall(text[: here.start()])
            is_open = opened.count("fi") + opened.count("esac") < len(opened) / 2
            guard = f"{_GUARD}{at}" if is_open else ""
            before = files.get(path[1], []) if is_more or guard else []
            files[path[1]] = [*before, _File(path[1], here["text"], guard)]
            key = re.search(r"[\w-]+", here["text"])
            parts += [f"{guard}=--{key[0] if key else path[1]}\n"] if guard else []
    return "".join([*parts, text[end:]]), [one for each in files.values() for one in each]


def _files(text: str) -> tuple[str, list[_File]]:
    """A script without the files that it writes, and those."""
    mounted = [_File(one["name"], textwrap.dedent(one["text"])) for one in _MOUNTED.finditer(text)]
    text = _MOUNTED.sub("", text)
    echoed = [_File(x["path"], x["text"].replace("\\n", "\n")) for x in _ECHOED.finditer(text)]
    # What is handed to a program may be a manifest, and what is written a script or a unit.
    bare, found = _here(text)
    found += [*mounted, *echoed]
    if not pasted.SERVER.search(bare):
        # A script that another writes has the variables of that one.
        written = (*(one.text for one in found), *(here["text"] for here in _HERE.finditer(text)))
        inner = next((one for one in written if pasted.SERVER.search(one)), "")
        bare = inner if _is_manifest(inner) else f"{bare}\n{_of_unit(inner)}"
    return _of_unit(bare), found


def _module(word: str) -> Engine | None:
    """Engine of `python -m WORD` or of a script; `dynamo.vllm` passes its flags on to vLLM."""
    for part in re.split(r"[./]", word) if not _CLIENT.search(word) else ():
        if part in NAMES:
            return NAMES[part]
    return None


def _program_at(words: list[str]) -> tuple[Engine | None, int]:
    """The engine that a program or a module starts, and the place of the word after it."""
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        program = NAMES.get(PurePosixPath(word).name)
        module = _module(after) if word == "-m" else None
        if module:
            return module, at + 2 + (words[at + 2 : at + 3] == ["serve"])
        # A path may be a model's or an option's: a program stands in front of `serve`, or first.
        if word.endswith("trtllm-bench") and not {*words[at:][: _end(words[at:])]} & _RUNS:
            continue
        if program and (after == "serve" or word.endswith(("-serve", "-bench"))):
            return program, at + 1 + (after == "serve") + (words[at + 1 : at + 3] == ["serve"] * 2)
        if word.endswith(".py") and (_module(word) or word in SCRIPTS):
            return _module(word) or SCRIPTS[word], at + 1
    return None, 0


def _server_at(words: list[str]) -> tuple[Engine | None, int]:
    """As `_program_at`, or of a container in front of it whose image is handed flags."""
    program, at = _program_at(words)
    image, place = _container_at(words[:at]) if program else (None, 0)
    first = "".join(words[place : place + 1])
    is_handed = first.startswith("--") or re.fullmatch(r"[\w.-]+/[\w.-]+", first)
    if image and is_handed and place + _end(words[place:]) < at:
        return image, place
    return program, at


def _image_at(words: list[str]) -> tuple[Engine | None, int]:
    """The engine of the first word, or of a container's image, and the place of the next word."""
    for at, word in enumerate(words):
        if word.startswith("-"):
            break
        is_alone = at > 0 and at + 1 == len(words)  # `docker-compose up vllm`
        is_import = "import" in words[max(0, at - 1) : at + 2]  # `import vllm`, `from vllm import`
        is_none = is_alone or is_import or shell.is_assignment(word)
        if PurePosixPath(word).name in NAMES and not is_none:
            return NAMES[PurePosixPath(word).name], at + 1
    return _container_at(words)


def _container_at(words: list[str]) -> tuple[Engine | None, int]:
    """The engine of a container's image, and the place of the next word."""
    starts = [
        at
        for at, word in enumerate(words)
        if PurePosixPath(word).name in _CONTAINERS and not {*words[at + 1 : at + 2]} & _MOVES
    ]
    for pattern in (_IMAGE, _LOCAL_IMAGE) if starts else ():
        for at, word in enumerate(words[starts[0] :], starts[0]):
            image = pattern.match(word)
            is_path = word.startswith(("-", "/", "~")) and not word.endswith(".sif")
            after = words[at + 1 : at + 2]  # `-m` here is of a module that is no engine's
            if image and not (is_path or after == ["-m"] or words[at - 1] in _BEFORE_NO_IMAGE):
                is_named = "instance" in words[starts[0] : at]  # `apptainer instance run FILE NAME`
                before = is_named + (after == ["serve"])  # of `--entrypoint vllm`
                engine = NAMES[image[1].replace("tensorrt-llm", "tensorrt_llm")]
                return engine, min(at + 1 + before, len(words))
    return None, 0


def _unquoted(words: list[str], variables: shell.Variables) -> list[str]:
    """The words with the first text that holds a command of an engine in words of its own."""
    for at, word in enumerate(words):
        wrapped = _WRAPPED.fullmatch(word)
        is_own = wrapped or not (word.startswith("-") or shell.is_assignment(word))
        if is_own and _QUOTED.search(word):
            inner = wrapped[1] if wrapped else word
            return [*words[:at], *shell.expanded(shell.words_of(inner), variables)]
    return variables.command(_QUOTED) or words  # `CMD="vllm serve ..."`


def _start(words: list[str], variables: shell.Variables) -> tuple[list[str], Engine | None, int]:
    """The words, without quotation marks around the command; the engine; and the place after it."""
    engine, at = _server_at(words)
    if engine is None:
        words = _unquoted(tools.as_engine(words), variables)
        engine, at = _server_at(words)
    return (words, engine, at) if engine else (words, *_image_at(words))


@functools.cache
def _switches() -> set[str]:
    """Flags that take no value in any engine, without their dashes."""
    flags = [flag for engine in ENGINES for flag in flags_of(engine).values()]
    return {one.name for one in flags} - {one.name for one in flags if one.values}


def _takes_value(word: str) -> bool:
    """Whether a word is a flag whose value may be the next word."""
    name = word.lstrip("-").replace("_", "-")
    is_switch = name.startswith("no-") or name in _switches()
    return word.startswith("-") and "=" not in word and not is_switch


def _end(words: list[str]) -> int:
    """How many words belong to the program: up to a sign of the shell, or to another command."""
    for at, word in enumerate(words):
        if _END.match(word) or (at and words[at - 1].endswith(";")):
            return at
        if not isinstance(word, shell.First) or word.startswith(("-", "$", "{", "<")):
            continue
        if _COMMAND.fullmatch(word) or (at and not _takes_value(words[at - 1])):
            return at
    return len(words)


def _runs_else(words: list[str]) -> bool:
    """Whether words of a container run a shell, or a module of Python, and no engine's server."""
    names = [PurePosixPath(word).name for word in words]
    return bool({*names[:1]} & {"sh", "bash"}) or any(
        word == "-m" and "python" in before for before, word in itertools.pairwise(names)
    )


def _program(words: list[str]) -> str:
    """Name of a program that is no engine's: of its Python module or its container's image."""
    if "python" in PurePosixPath(words[0]).name and len(words) > 1:
        scripts = [word for word in words[1:3] if word.endswith(".py")]
        if words[1] == "-m" or scripts:
            return scripts[0] if scripts else words[min(2, len(words) - 1)]
    if any(PurePosixPath(word).name in _CONTAINERS for word in words[:3]):
        for before, word in itertools.pairwise(words):
            if before not in _BEFORE_NO_IMAGE and _PATH.fullmatch(word):
                return word
    return PurePosixPath(words[0]).name


class _Server(NamedTuple):
    """A server of a script: its engine, the place of the first word after its program, those."""

    engine: Engine
    at: int
    words: list[str]

    @property
    def prefills(self) -> bool:
        """Whether it is one that only prefills."""
        return bool(pasted.PREFILLS.search(" ".join(self.words)))


def _servers(words: list[str], engine: Engine | None, at: int) -> list[_Server]:
    """The servers of a script from the first on, each once: scripts print what they start."""
    found: dict[tuple[str, ...], _Server] = {}
    while engine:
        after = words[at:]
        following, more = _server_at(after)
        own = after[: _end(after[: more or None])]
        found.setdefault((engine, *own), _Server(engine, at, own))
        engine, at = following, at + more
    every = list(found.values())
    return [one for one in every if not pasted.JOINS.search(" ".join(one.words))] or every


def _notes(variables: shell.Variables, servers: list[_Server]) -> tuple[str, ...]:
    """What is said of a script beyond the server that is read."""
    prefills = [one.prefills for one in servers]
    decodes = bool(prefills) and prefills[0] and not all(prefills)
    left_out = [text for text in variables.left_out if "-" in text]
    dropped = (pasted.LEFT_OUT + ", ".join(left_out),) if left_out else ()
    return jobs.others("text", len(servers), decodes=decodes) + dropped


def _without_program(words: list[str]) -> list[str]:
    """Flags that have variables alone in front of them."""
    rest = [*itertools.dropwhile(lambda x: shell.is_assignment(x) or x == "export", words)]
    if rest and not rest[0].startswith("-"):
        has_flags = any(word.startswith("-") for word in rest)
        said = shell.shown(" ".join(rest))
        dashless = "" if has_flags else f", and no flag (which starts with a dash) is in {said}"
        raise ValueError(
            f"flags:\n  {shell.shown(_program(rest))} is not an engine whose flags are read"
            f"{dashless}; give the command line of vllm serve, sglang serve (or their "
            "Python modules), trtllm-serve or atom.entrypoints.openai_server, or MODEL with --tp, "
            "--batch and --context alone"
        )
    if not rest and "".join(words).strip():
        raise ValueError(
            "flags:\n  the text sets variables alone; give the command line of vllm serve, sglang "
            "serve (or their Python modules) or trtllm-serve"
        )
    return rest


def _served(engine: Engine, program: str, rest: list[str]) -> list[str]:
    """The words behind a program that starts a server, or behind a benchmark that runs a model.

    Raises:
        ValueError: the program starts no server of a model.
    """
    verb = "".join(rest[:1])
    if engine == "vllm" and verb in _VERBS and program != "serve":
        if verb != "bench" or rest[1:2] == ["serve"]:
            raise ValueError(
                f"flags:\n  `vllm {' '.join(rest[: 1 + (verb == 'bench')])}` is a client; give "
                "the command line of its server"
            )
        return rest[2:]
    if engine == "trtllm" and verb in _ORCHESTRATORS:
        raise ValueError(
            f"flags:\n  `trtllm-serve {verb}` starts no server of a model; give the command "
            "line of the servers that decode"
        )
    if program.endswith("trtllm-bench"):
        if not {*rest} & _RUNS:
            raise ValueError(
                "flags:\n  `trtllm-bench` runs a model by `throughput` or `latency` alone; give "
                "that command line"
            )
        return ["--model" if word == "-m" else word for word in rest if word not in _RUNS]
    is_bare = "serve" not in (program, verb)
    if is_bare and difflib.get_close_matches(verb, ["serve"], cutoff=0.75):
        raise ValueError(f"flags:\n  {verb!r} is not a command of {program}; did you mean `serve`?")
    return rest


def _held(text: str) -> tuple[jobs.Held, list[_File]]:
    """What a text holds of a command, and the files that it writes or shows."""
    typed = pasted.as_typed(text)
    if text.strip() and not typed.strip():
        raise ValueError("flags:\n  the text holds remarks alone; give the command of a server")
    bare, written = _files(typed)
    shown = [_File(x["name"], textwrap.dedent(x["text"])) for x in _SHOWN.finditer(text)]
    return pasted.command_in(bare), written + shown


def split(flags: str | Sequence[str]) -> Command:
    """The engine and flags of a command line; variables, launchers and containers are dropped.

    Raises:
        ValueError: the program is none of an engine that is read.

    >>> split("VLLM_USE_V1=1 vllm serve m -tp 8 > log").words
    ['m', '-tp', '8']
    """
    words: list[str] = [flags] if isinstance(flags, str) else list(flags)
    more: list[str] = []
    if len(words) > 1 and "\n" in words[0]:  # flags behind a script are those of its server
        words, more = words[:1], words[1:]
    if len(words) > 1 and re.fullmatch(r"\S+( +\S+)+", words[0]):  # more behind a quoted line
        words = [" ".join([words[0], *map(shlex.quote, words[1:])])]
    written: list[_File] = []
    variables, held = shell.Variables(), jobs.Held("")
    if len(words) == 1:  # a whole command line, quoted in the shell
        held, written = _held(words[0])
        words = shell.words_of(held.text)
    for one in written:
        if one.guard:
            variables.set(one.guard, [""], adds=False, branch="")
    words, engine, at = _start(list(shell.expanded(words, variables)), variables)
    servers = _servers(words, engine, at)
    if servers:
        _, at, _ = meant = next((one for one in servers if not one.prefills), servers[0])
        engine = meant.engine
    if engine is None and held.image and not _runs_else(words):
        words = [word for word in words if word.startswith("-") or not shell.is_assignment(word)]
        words, engine, at = _start(["docker", "run", held.image, *words], variables)
    rest = _served(engine, words[at - 1], words[at:]) if engine else _without_program(words)
    end = _end(rest)
    texts: dict[str, str] = {}
    for path, text, guard in written:
        if guard and not variables.text(guard):
            continue
        name = "".join(variables.expand(path))
        lines = [" ".join(variables.expand(line)) for line in text.splitlines()]
        texts[name] = "\n".join([texts.get(name, ""), *lines])
    for word in words[:at]:  # a container has them at other paths: `-v ON_DISK:IN_CONTAINER:ro`
        disk, _, inside = word.partition(":")
        if disk in texts and inside:
            texts[inside.partition(":")[0]] = texts[disk]
    own = [*rest[:end][:-1], *(word.rstrip(";") for word in rest[:end][-1:])]
    return Command(engine, [*own, *more], texts, held.notes + _notes(variables, servers))
