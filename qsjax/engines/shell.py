"""What a shell makes of a script: words, where lines begin, and what its variables stand for."""

import fnmatch
import re
import reprlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from qsjax.engines import conditions

# Between lines, through shlex, to which an end of line is only a space.
_LINE = "\x1e"
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)
_MAKE = ("?=", ":=", "::=")
# ${NAME}, ${NAME:-default}, ${NAME:=default}, ${NAME[@]}, $(NAME) of manifests and of make, $NAME
_USED = re.compile(r"\$(?:\{(\w+)(?:\[[@*]\])?(?::?[-=]([^{}]*))?\}|\((\w+)\)|(\w+))")
_KEPT = re.compile(r"\$\{(\w+):?=([^{}]*)\}")
_NESTED = 4  # defaults within defaults that are followed
# ${NAME:+words}: the words where the variable has a value.
_IF_SET = re.compile(r"\$\{(\w+):?\+((?:[^{}]|\{[^{}]*\})*)\}")
# ${NAME:?message}, which ends the script without a value; ${NAME[0]} and ${#NAME[@]} of a list.
_DEMANDED = re.compile(r"\$\{(\w+):?\?[^{}]*\}")
_INDEXED = re.compile(r"\$\{(?:(\w+)\[(\d+)\]|#(\w+)\[[@*]\])\}")
# $(( sum )), and $(command with words), whose value is not known: one word each.
_SUM = r"\$\(\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)\)"
_COMPUTED = re.compile(_SUM + r"|\$\(([^()\s]+)\s[^()\n]*\)")
# NAME=$(echo words), which is those words.
_ECHOED = re.compile(r"(?m)(?<==)\$\(echo[ \t]+(?!-e\b)([^()|<>\n]*)\)")
_SUMS = re.compile(_SUM)
# `expr sum`, which is how old scripts write $(( sum )).
_EXPR = re.compile(r"`expr ([^`\n]*)`|\$\(expr ([^()\n]*)\)")
# What a script was started with.
_ARGUMENT = re.compile(r"\$\{?(?:OPTARG|\d|[*@])")
# A variable by itself.
_ALONE = re.compile(r"\$\{?(\w+)\}?")
# All words that a function is called with, or those from one on.
_HANDED = re.compile(r"\$(?:[@*]|\{[@*](?::(\d+))?\})")
_CALLS = 4  # functions that call functions that are followed
# Behind what a command begins that is not the first word of its line.
_BEGINS = ("&&", "||", "then", "do", "else", "if", "!", "{")


_SHORT = reprlib.Repr()
_SHORT.maxstring = 300
shown = _SHORT.repr  # a text in a message, without its middle where it is long


def is_assignment(word: str) -> bool:
    """Whether a word is `NAME=value`."""
    return _ASSIGNED.match(word) is not None


class First(str):
    """A word at the beginning of a line."""

    __slots__ = ()


# What stands in quotation marks or behind a backslash, and a comment at the end of a line.
_COMMENT = re.compile(
    r"""(\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s#'"\\]+#*|\s+(?!\s|\#))|(?<=\s)\#[^\n]*|(.)""", re.DOTALL
)


def words_of(text: str) -> list[str]:
    r"""The words of a script; those that begin a line are `First`.

    Raises:
        ValueError: a quotation mark is not closed.

    >>> words_of("a=1\nvllm serve m \\ # the model\n  -tp 2")
    ['a=1', 'vllm', 'serve', 'm', '-tp', '2']
    """
    lines = [one for one in text.splitlines() if not one.lstrip().startswith("#")]
    lines = _COMMENT.sub(lambda one: one[1] or one[2] or "", "\n".join(lines)).splitlines()
    # Recipes put comments behind the backslash, where a shell would end the command.
    joined = re.sub(r"\\[ \t]*(?:[ \t]#[^\n]*)?(\n|$)", " ", "\n".join(lines))
    joined = _IF_SET.sub(lambda one: one[2] if f"\n{one[1]}=" in f"\n{text}" else "", joined)
    joined = _DEMANDED.sub(r"${\1}", joined)
    joined = re.sub(r"(?<=[\s=])\$(?=')", "", joined)  # $'...', with escapes that no flag needs
    joined = _ECHOED.sub(lambda one: shlex.quote(one[1].strip()), joined)
    joined = _EXPR.sub(lambda one: f"$(({(one[1] or one[2]).replace(chr(92), '')}))", joined)
    joined = _COMPUTED.sub(
        lambda one: f"$(({''.join(one[1].split())}))" if one[2] is None else f"$({one[2]}...)",
        joined,
    )
    try:
        split = shlex.split(joined.replace("\n", f" {_LINE} "))
    except ValueError as error:
        raise ValueError(
            f"flags:\n  {error} in {shown(text)}; close every quotation mark"
        ) from None
    words: list[str] = []
    begins = True
    for word in split:
        if word == _LINE:
            begins = True
            continue
        whole = word.replace(f" {_LINE} ", "\n")
        if whole.strip() and whole != "\\":
            words.append(First(whole) if begins else whole)
            begins = False
    return words


class Variables:
    """What the variables of a script hold where its server is started.

    A variable that two branches set differently is not known, and one that a branch sets over
    another value keeps that. Words that a branch adds to one are left out, and named in `left_out`.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self._branches: dict[str, set[tuple[str, ...]]] = {}
        self._before: dict[str, list[str]] = {}
        self.left_out: list[str] = []
        # What the function is called with whose words are read, None outside of functions.
        self.arguments: list[str] | None = None

    def _left_out(self, name: str, words: list[str], adds: bool, branch: str) -> str | None:
        """What a branch adds that is left out, "" where that is nothing; None where it counts."""
        old, said = self._values.get(name), " ".join(words)
        start, is_empty = " ".join(old or []), old in ([], [""])
        if is_empty and any(word.lstrip()[:1] == "-" for word in words):
            return said.strip()
        if adds:
            return said.strip()
        if start and "".join(words[:1]).startswith(f"{start} "):
            return said[len(start) :].strip()
        if branch == "and" and start:  # an option of the script, which is not given
            return ""
        is_told = _ARGUMENT.search(said) is not None
        if branch == "case" and is_empty and is_told:
            self.forget(name)  # whoever starts the script has to say it
        is_set = old is not None and name not in self._branches
        return "" if branch == "case" and (is_set or is_told) else None

    def set(self, name: str, words: list[str], *, adds: bool, branch: str) -> None:
        """Enter an assignment; `branch` is "", "if", "and" (behind `&&` and `||`) or "case"."""
        dropped = self._left_out(name, words, adds, branch) if branch else None
        if dropped is not None:
            self.left_out += [dropped] if dropped else []
            return
        old = self._values.get(name, [])
        self._values[name] = [*old, *words] if adds else words
        if branch:
            if " ".join(old) and name not in self._branches:
                self._before[name] = old
            self._branches.setdefault(name, set()).add(tuple(words))
        else:
            self._branches.pop(name, None)
            self._before.pop(name, None)

    def forked(self) -> None:
        """Forget what the branches of an `if` set differently."""
        for name, values in self._branches.items():
            if len(values) > 1:
                self._values.pop(name, None)
                self._before.pop(name, None)

    def joined(self) -> None:
        """Behind an `if`: what one branch alone has set over another value is as it was before."""
        self.forked()
        for name, words in self._before.items():
            dropped = self._values.pop(name, [])
            self._values[name] = words
            if any(word.startswith("-") for word in dropped):
                self.left_out.append(" ".join(dropped))
            self._branches.pop(name, None)
        self._before = {}

    def forget(self, name: str) -> None:
        """Make a variable one whose value is not known."""
        for held in (self._values, self._before, self._branches):
            held.pop(name, None)

    def shift(self, count: str) -> None:
        """Drop the first words that the function was called with, one without a count."""
        if self.arguments is not None:
            self.arguments = self.arguments[int(count) if count.isdigit() else 1 :]

    def is_unset(self, word: str) -> bool:
        """Whether a word is a variable that nothing has set so far."""
        name = _ALONE.fullmatch(word)
        return name is not None and not {name[1]} & (self._values.keys() | self._branches.keys())

    def expand(self, word: str) -> list[str]:
        """The words that a word stands for: one, or those of a list or of a text of flags."""
        if self.arguments is not None:
            if handed := _HANDED.fullmatch(word):
                return self.arguments[max(0, int(handed[1] or 1) - 1) :]
            word = _HANDED.sub(lambda one: " ".join(self.expand(one[0])), word)
        word = _INDEXED.sub(self._indexed, word)
        whole = _USED.fullmatch(word)
        name = whole and (whole[1] or whole[3] or whole[4])
        if name and name in self._values:
            return self._items(self._values[name])
        for name, default in _KEPT.findall(word):
            if not self.text(name):
                self.set(name, self.expand(default) or [""], adds=False, branch="")
        full = word
        for _ in range(_NESTED):
            before, full = full, _USED.sub(self._value, full)
            if full == before or "${" not in full:
                break
        full = _SUMS.sub(self._sum, full)
        return [full] if full or not word else []

    def _items(self, held: list[str]) -> list[str]:
        """The words that the value of a variable is: a list, or a text of flags."""
        one = held[0] if len(held) == 1 else ""
        if re.search(r"(?:^|\s)--?\w", one) and not one.lstrip().startswith("{"):
            return list(words_of(one))
        return [x for x in held if x] or ([] if held == [""] else held)

    def text(self, name: str) -> str:
        """What a variable holds, "" where that is not known."""
        return " ".join(self._values.get(name, []))

    def command(self, pattern: re.Pattern[str]) -> list[str]:
        """The words of the first variable whose text has this pattern; none without one."""
        for held in self._values.values():
            if pattern.search(" ".join(held)):
                return held if len(held) > 1 else words_of(held[0])
        return []

    def _indexed(self, found: re.Match[str]) -> str:
        held = self._values.get(found[1] or found[3])
        if held is None or found[3]:
            return found[0] if held is None else str(len(held))
        return (held[int(found[2]) :] or [found[0]])[0]

    def _sum(self, found: re.Match[str]) -> str:
        value = conditions.computed(found[1], self.text)
        return found[0] if value is None else str(value)

    def _value(self, found: re.Match[str]) -> str:
        name, default = found[1] or found[3] or found[4], found[2]
        if self.arguments is not None and name.isdigit() and name != "0":
            return next(iter(self.arguments[int(name) - 1 :]), "") or default or ""
        if name in self._values and default is None:
            return self.text(name)
        return self.text(name) or (found[0] if default is None else default)


def _array(words: Sequence[str], at: int, first: str) -> tuple[list[str], int]:
    """The items of `NAME=( ... )`, of which `first` follows the parenthesis; and what is next."""
    items: list[str] = []
    word = first
    while True:
        bare, closes = word.rstrip(";"), word.rstrip(";").endswith(")")
        if re.search(r"\)\.\w+$", bare) and "(" not in bare:  # (Resolve-Path ...).Path
            return [], at
        bare = bare[:-1] if closes else word
        if closes and "(" in bare:  # `$(seq 1 8)` or `$(NAME)` within the list
            bare, closes = word, False
        if bare:
            items.append(bare)
        if closes or at >= len(words):
            return items, at
        word, at = words[at], at + 1


class _Branches:
    """In which branches of `if` and `case` a word stands, and which of them are taken."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        # Of each that is open: its kind, whether this branch is taken, whether one so far is.
        self._open: list[tuple[str, bool | None, bool | None]] = []
        # What each of them tests that is a `case`; "" of `if`, and where it is not known.
        self._subjects: list[str] = []

    def _holds(self, words: Sequence[str]) -> bool | None:
        full = [" ".join(self._variables.expand(word)) for word in words]
        return conditions.holds(full, self._variables.is_unset, self._variables.text)

    def enter(self, word: str, words: Sequence[str], at: int) -> None:
        """Enter a word that may begin or end a branch; the words behind it begin at a place."""
        if word in ("else", "elif"):
            self._variables.forked()
        elif word in ("fi", "esac"):
            self._variables.joined()
        kind = self._open[-1][0] if self._open else ""
        if kind == "case" and self._subjects[-1] and word != "esac":
            self._arm(words, at)
        if word == "if":
            holds = self._test(words[at:])
            self._open.append((word, holds, holds))
            self._subjects.append("")
        elif word == "case":
            subject = " ".join(x for one in words[at : at + 1] for x in self._variables.expand(one))
            self._subjects.append("" if re.search(r"[$`]", subject) else subject)
            self._open.append((word, None, False))
        elif word in ("elif", "else") and kind == "if":
            self._turn(self._test(words[at:]) if word == "elif" else True)
        elif word in ("fi", "esac") and self._open:
            self._open.pop()
            self._subjects.pop()

    def _turn(self, holds: bool | None) -> None:
        """Enter the next branch, which is taken if it holds and none before it does."""
        kind, _, before = self._open[-1]
        taken = holds if before is False else False if before or holds is False else None
        before = True if True in (holds, before) else None if None in (holds, before) else False
        self._open[-1] = (kind, taken, before)

    def _arm(self, words: Sequence[str], at: int) -> None:
        """Enter the arm of a `case` whose pattern begins in front of a place, if one does."""
        behind = words[at - 2] if at > 1 else ""
        is_first = behind == "in" and words[at - 4 : at - 3] == ["case"]
        if not (is_first or behind.endswith(";;")):
            return
        ends = (end for end in range(at - 1, len(words)) if ")" in words[end])
        pattern = "".join(words[at - 1 : next(ends, at - 1) + 1]).partition(")")[0].strip("(")
        full = "".join(self._variables.expand(pattern))
        matches = any(fnmatch.fnmatchcase(self._subjects[-1], one) for one in full.split("|"))
        self._turn(None if "$" in full else matches)

    def _test(self, after: Sequence[str]) -> bool | None:
        ends = (at for at, word in enumerate(after) if word == "then")
        return self._holds(after[: next(ends, 0)]) if "then" in after else None

    def guarded(self, words: Sequence[str], at: int) -> bool | None:
        """Whether the word at a place runs, behind the `&&` or `||` in front of it."""
        start = at - 1
        while start > 0 and not isinstance(words[start], First):
            start -= 1
        holds = self._holds(words[start : at - 1])
        return holds if holds is None or words[at - 1] == "&&" else not holds

    @property
    def is_taken(self) -> bool:
        """Whether the words here may run."""
        return all(taken is not False for _, taken, _ in self._open)

    @property
    def kind(self) -> str:
        """The innermost branch of which it is not known whether it is taken, "" without one."""
        return next((kind for kind, taken, _ in reversed(self._open) if taken is None), "")


def _assign(words: Sequence[str], at: int, variables: Variables, branch: str) -> int | None:
    """Enter the assignment in front of a place, if one is there; the place behind it, of a list."""
    word = words[at - 1]
    found = _ASSIGNED.match(word)
    if isinstance(word, First) and at + 1 < len(words) and words[at] in _MAKE:
        variables.set(word, [words[at + 1]], adds=False, branch=branch)
    elif found and found[3].startswith("("):
        items, at = _array(words, at, found[3][1:])
        full = [x for item in items for x in variables.expand(item)]
        variables.set(found[1], full, adds=found[2] == "+=", branch=branch)
        return at
    elif found:
        # Text is added to text without a space between; a list keeps its items apart.
        value = " ".join(variables.expand(found[3].rstrip(";"))) if found[3] else ""
        adds = found[2] == "+="
        if adds and not branch:
            value, adds = f"{variables.text(found[1])}{value}", False
        variables.set(found[1], [value], adds=adds, branch=branch)
    return None


class _Function(NamedTuple):
    """A function of a script: where its definition begins, its body, and what is behind it."""

    start: int
    body: int
    end: int


def _is_command(words: Sequence[str], at: int) -> bool:
    """Whether a command begins at a place."""
    before = words[at - 1] if at else ""
    return isinstance(words[at], First) or before in _BEGINS or before.endswith(";")


def _functions(words: Sequence[str]) -> dict[str, _Function]:
    """The functions that a script calls by itself, by name."""
    found: dict[str, _Function] = {}
    for at, word in enumerate(words):
        if word != "{" and not word.endswith("(){"):
            continue
        start = at
        while start and not isinstance(words[start], First):
            start -= 1
        if word == "{" and start == at and at:  # on a line of its own
            start -= 1 + (words[at - 1] == "()")
        head = "".join(words[max(0, start) : at + 1]).removeprefix("function")
        name = head.removesuffix("{").removesuffix("()")
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name) or (
            not head.endswith("(){") and words[start] != "function"
        ):
            continue
        depth, end = 1, at + 1
        while depth and end < len(words):
            depth += {"{": 1, "}": -1}.get(words[end].rstrip(";"), 0)
            end += 1
        called = any(
            words[i].rstrip(";") == name
            and _is_command(words, i)
            and words[i + 1 : i + 2] != ["()"]
            for i in range(len(words))
            if not start <= i < end
        )
        if called and not depth:
            found[name] = _Function(start, at + 1, end)
    return found


def _of_loop(words: Sequence[str], at: int, variables: Variables) -> None:
    """Enter what a loop does to variables, whose first word is in front of a place.

    That of `for` is known with one value alone, and none is known that a turn makes of itself.
    """
    end = next((i for i in range(at, len(words)) if words[i].rstrip(";") == "do"), at)
    depth, last = 1, end + 1
    while depth and last < len(words):
        depth += {"do": 1, "done": -1}.get(words[last].rstrip(";"), 0)
        last += 1
    if words[at - 1] == "for" and words[at + 1 : at + 2] == ["in"]:
        values = [x for word in words[at + 2 : end] for x in variables.expand(word.rstrip(";"))]
        if len(values) == 1 and not values[0].startswith("$"):
            variables.set(words[at], values, adds=False, branch="")
        else:
            variables.forget(words[at])
    for word in words[end:last]:
        found = _ASSIGNED.match(word)
        if found and found[2] == "=" and re.search(rf"\b{found[1]}\b", found[3]):
            variables.forget(found[1])


def _call(words: Sequence[str], at: int, variables: Variables) -> tuple[list[str], int]:
    """What the function in front of a place is called with, and the place behind that."""
    given: list[str] = []
    if words[at - 1].endswith(";"):
        return given, at
    while at < len(words) and not isinstance(words[at], First):
        word = words[at]
        if re.match(r"[|&]|\d?>", word):
            break
        at += 1
        given += variables.expand(word.rstrip(";"))
        if word.endswith(";"):
            break
    return given, at


def expanded(
    words: Sequence[str],
    variables: Variables,
    functions: Mapping[str, Sequence[str]] | None = None,
    depth: int = 0,
) -> Iterator[str]:
    """The words with their variables, which `variables` learns from them on the way.

    What stands in a branch that is not taken is left out. A function that the script calls is read
    where it is called, and `functions` are those of the script around it.
    """
    own = _functions(words)
    skipped = {one.start: one.end for one in own.values()}
    bodies = {
        **(functions or {}),
        **{name: words[one.body : one.end - 1] for name, one in own.items()},
    }
    inside = _Branches(variables)
    at = 0
    while at < len(words):
        if at in skipped:
            at = skipped[at]
            continue
        word, at = words[at], at + 1
        bare = word.rstrip(";")
        inside.enter(bare, words, at)
        if not inside.is_taken:
            continue
        begins = _is_command(words, at - 1)
        if bare in bodies and depth < _CALLS and begins:
            given, at = _call(words, at, variables)
            around, variables.arguments = variables.arguments, given
            yield from expanded(bodies[bare], variables, bodies, depth + 1)
            variables.arguments = around
            continue
        if bare in ("for", "while", "until") and begins:
            _of_loop(words, at, variables)
        if bare == "shift":
            variables.shift("".join(words[at : at + 1]).rstrip(";"))
        branch = inside.kind
        if words[at - 2 : at - 1] in (["&&"], ["||"]) and is_assignment(word):
            runs = inside.guarded(words, at - 1)
            if runs is False:
                continue
            branch = branch if runs else "and"
        behind = _assign(words, at, variables, branch)
        if behind is not None:
            at = behind
            continue
        full = variables.expand(word)
        if isinstance(word, First) and full:
            full[0] = First(full[0])
        yield from full
