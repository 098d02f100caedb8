"""Commands that Python keeps as a list of words, as `subprocess` takes them."""

import ast
import shlex
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from qsjax.engines.conditions import COMPARED, computed

# Helpers that start a server: its command, and the argument of further words behind the model.
_HELPERS = {
    "popen_launch_server": ("python -m sglang.launch_server --model-path", "other_args"),
    "prepare_server_args": ("python -m sglang.launch_server", ""),
    "RemoteOpenAIServer": ("vllm serve", "vllm_serve_args"),
}
# What a call that runs a container names its image and the words behind it: Docker's, RunPod's.
_IMAGES, _ARGUMENTS = ("image", "image_name"), ("command", "docker_args", "args")
_ENGINES = ("vllm", "sglang", "tensorrt-llm")


class Words(NamedTuple):
    """The words of a list, a variable as `$NAME`, and what is added to it under a condition."""

    words: list[str]
    left_out: list[str]


class _Reader:
    """The lists of words of a file, and the names that it sets to one constant alone."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names: dict[str, Any] = {}
        self._lists: dict[str, ast.expr] = {}
        self._scope: list[ast.stmt] = tree.body
        self._left_out: list[str] = []
        every = list(ast.walk(tree))
        self._functions = [one for one in every if isinstance(one, ast.FunctionDef)]
        sets = (one for one in every if isinstance(one, ast.Assign | ast.AnnAssign))
        self._sets = sorted(sets, key=lambda one: one.lineno)
        several = set()
        for node in self._sets:
            for target in _targets(node):
                value = getattr(node, "value", None)
                if target in self._names or not isinstance(value, ast.Constant):
                    several.add(target)
                else:
                    self._names[target] = value.value
        for name in several:
            self._names.pop(name, None)

    def _look_back(self, line: int) -> None:
        """Take for every name, and attribute, what was set last in front of a line."""
        self._names, self._lists = {}, {}
        for function in self._functions:  # functions in functions come last
            if function.lineno < line <= (function.end_lineno or 0):
                self._scope = function.body
        for node in self._sets:
            if node.lineno >= line:
                break
            value = node.value
            for target in _targets(node):
                self._names.pop(target, None)
                self._lists.pop(target, None)
                if isinstance(value, ast.Constant):
                    self._names[target] = value.value
                elif value is not None:
                    self._lists[target] = value

    def _value(self, node: ast.expr) -> Any:
        """What an expression is, None where that is not known."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return self._names.get(_name(node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            value = self._value(node.operand)
            return None if value is None else not value
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = self._value(node.left), self._value(node.comparators[0])
            compare = COMPARED.get(type(node.ops[0]))
            if compare and left is not None and right is not None and type(left) is type(right):
                return compare(left, right)
        return None

    def _words(self, node: ast.expr) -> Iterator[str]:
        """The words that an item of a list is."""
        if isinstance(node, ast.Call):
            yield from self._called(node)
        elif isinstance(node, ast.IfExp):
            yield from self._either(node)
        elif isinstance(node, ast.Name | ast.Attribute) and _name(node) in self._lists:
            outer = self._lists.pop(_name(node))  # it may be made of itself
            yield from self._words(outer)
            yield from self._added(ast.unparse(node), self._scope, is_sure=True)
            self._lists[_name(node)] = outer
        elif isinstance(node, ast.JoinedStr):
            yield "".join(word for part in node.values for word in self._words(part))
        elif parts := _parts(node):
            for one in parts:
                yield from self._words(one)
        elif not isinstance(node, ast.List | ast.Tuple):
            yield self._word(node)

    def _word(self, node: ast.expr) -> str:
        """The word that an expression is, `$NAME` where its value is not known."""
        value = self._value(node)
        if isinstance(node, ast.BinOp):
            names = {name: str(known) for name, known in self._names.items()}
            value = computed(ast.unparse(node), lambda name: names.get(name, ""))
        named = "".join(ast.unparse(node).split()).split(".")[-1].split("[")[0]
        return f"${named}" if value is None else str(value)

    def _called(self, node: ast.Call) -> Iterator[str]:
        """The words that a call makes of its arguments."""
        name = ast.unparse(node.func)
        if not node.args:
            said = self._words(getattr(node.func, "value", node.func))
            is_split = _name(node.func) == "split"
            yield from (x for one in said for x in one.split()) if is_split else [self._word(node)]
        elif name in ("os.environ.get", "os.getenv") and len(node.args) > 1:
            yield from self._words(node.args[1])
        elif name.endswith(".get"):  # of a dict that comes from elsewhere
            yield f"${''.join(self._words(node.args[0]))}"
        else:
            yield from self._words(node.args[0])

    def _either(self, node: ast.IfExp) -> Iterator[str]:
        """The words of a conditional expression; of a value that is not known, what decides it."""
        holds = self._value(node.test)
        if holds is not None:
            yield from self._words(node.body if holds else node.orelse)
            return
        words = list(self._words(node.body))
        if "".join(words[:1]).startswith("-"):
            self._left_out.append(" ".join(words))
        elif not isinstance(node.body, ast.List | ast.Tuple):
            named = [one.id for one in ast.walk(node.test) if isinstance(one, ast.Name)]
            yield f"${named[-1] if named else 'CONDITION'}"

    def _added(self, name: str, nodes: list[ast.stmt], is_sure: bool) -> Iterator[str]:
        """The words that statements add to a list of this name."""
        for node in nodes:
            inner = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            if isinstance(node, ast.If):
                holds = self._value(node.test)
                sure = is_sure and holds is not None
                for branch, taken in zip(inner, (holds, not holds), strict=False):
                    if holds is None or taken:
                        yield from self._added(name, branch, sure)
                continue
            more = _addition(node, name)
            if more is not None and is_sure:
                yield from self._words(more)
            elif more is not None:
                self._left_out.append(" ".join(self._words(more)))
            for branch in inner:
                yield from self._added(name, branch, is_sure)

    def texts(self) -> Iterator[str]:
        """Each text that is set to a name or handed to a call."""
        for node in ast.walk(self._tree):
            given = [node.value] if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.Call):
                given = [*node.args, *(one.value for one in node.keywords)]
            for one in given:
                is_text = isinstance(getattr(one, "value", None), str)
                if isinstance(one, ast.JoinedStr) or is_text:
                    self._look_back(one.lineno)
                    yield from self._words(one)

    def launched(self) -> Iterator[Words]:
        """The command of each call of a helper that starts a server, or runs its container."""
        for node in ast.walk(self._tree):
            given = {x.arg: x.value for x in node.keywords} if isinstance(node, ast.Call) else {}
            if not isinstance(node, ast.Call) or not (
                _name(node.func) in _HELPERS or given.keys() & {*_ARGUMENTS}
            ):
                continue
            self._look_back(node.lineno)
            self._left_out = []
            words, behind = self._start(node, given)
            if words:
                own = list(self._words(behind)) if behind is not None else []
                words += shlex.split(own[0]) if len(own) == 1 else own
                yield Words(words, [text for text in self._left_out if text])

    def _start(
        self, node: ast.Call, given: dict[str | None, ast.expr]
    ) -> tuple[list[str], ast.expr | None]:
        """The words of a call up to the model or the image, none where it starts no engine.

        And the argument of the words behind them.
        """
        command, more = _HELPERS.get(_name(node.func), ("", ""))
        if command and node.args:
            second = node.args[1] if command == "vllm serve" and node.args[1:] else None
            return [*command.split(), *self._words(node.args[0])], given.get(more, second)
        behind = next((given[x] for x in _ARGUMENTS if x in given), None)
        image = next((given[x] for x in _IMAGES if x in given), [*node.args, None][0])
        words = ["docker", "run", *(self._words(image) if image is not None else ())]
        is_engine = behind is not None and any(one in words[-1] for one in _ENGINES)
        return (words if is_engine else []), behind

    def lists(self) -> Iterator[Words]:
        """Each list that has a text first, with what is added to it later."""
        named = {
            id(value): targets[0]
            for node in ast.walk(self._tree)
            if (value := getattr(node, "value", None)) and (targets := _targets(node))
        }
        for node in ast.walk(self._tree):
            if isinstance(node, ast.List) and node.elts:
                self._left_out = []
                words = list(self._words(node))
                if id(node) in named:
                    words += self._added(named[id(node)], self._tree.body, is_sure=True)
                yield Words(words, [text for text in self._left_out if text])


def _name(node: ast.expr) -> str:
    """A name, or that of an attribute, which classes of tests set as they are made."""
    return ast.unparse(node).rpartition(".")[2]


def _parts(node: ast.expr) -> list[ast.expr]:
    """The expressions whose words follow each other in one."""
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [node.left, node.right]
    return [node.value] if isinstance(node, ast.Starred | ast.FormattedValue) else []


def _targets(node: ast.AST) -> list[str]:
    """The names that a statement sets."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        every = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [_name(one) for one in every if isinstance(one, ast.Name | ast.Attribute)]
    return []


def _addition(node: ast.stmt, name: str) -> ast.expr | None:
    """What a statement adds to a list of this name: `+=`, `extend` or `append`."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        return node.value if ast.unparse(node.target) == name else None
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or len(call.args) != 1:
        return None
    is_of_it = ast.unparse(call.func) in (f"{name}.extend", f"{name}.append")
    return call.args[0] if is_of_it else None


def _read(text: str) -> _Reader | None:
    """The reader of a text of Python, None where it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Reader(ast.parse(textwrap.dedent(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def texts(text: str) -> list[str]:
    """The texts that a text of Python names or hands on, a variable as `$NAME`; else none.

    >>> texts("run(f'vllm serve {model} ' '-tp 2', shell=True)")
    ['vllm serve $model -tp 2']
    """
    reader = _read(text)
    return list(reader.texts()) if reader else []


def launched(text: str) -> list[Words]:
    """The commands of the servers that calls of helpers start in a text of Python.

    >>> launched("popen_launch_server('m', url, other_args=['--tp', 2])")[0].words[2:]
    ['sglang.launch_server', '--model-path', 'm', '--tp', '2']
    """
    reader = _read(text)
    return list(reader.launched()) if reader else []


def lists(text: str) -> list[Words]:
    """The lists of words in a text of Python, none where it is not Python.

    >>> lists('''N = 2
    ... cmd = ["vllm", "serve", "m", "--enforce-eager" if debug else "-q"]
    ... cmd += ["-tp", str(N)]''')[0]
    Words(words=['vllm', 'serve', 'm', '-tp', '2'], left_out=['--enforce-eager'])
    """
    reader = _read(text)
    return list(reader.lists()) if reader else []
