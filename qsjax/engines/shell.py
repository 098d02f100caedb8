"""What a shell makes of a script: words, where lines begin, and what its variables stand for."""

import re
import shlex
from collections.abc import Iterator, Sequence

# Between lines, through shlex, to which an end of line is only a space.
_LINE = "\x1e"
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)
_MAKE = ("?=", ":=", "::=")
# ${NAME}, ${NAME:-default}, ${NAME:=default}, ${NAME[@]}, $(NAME) of manifests and of make, $NAME
_USED = re.compile(
    r"\$(?:\{(\w+)(?:\[[@*]\])?(?::?[-=]([^{}]*))?\}|\((\w+)\)|(\w+))",
)
_KEPT = re.compile(r"\$\{(\w+):?=([^{}]*)\}")
_NESTED = 4  # defaults within defaults that are followed
# ${NAME:+words}: the words where the variable has a value.
_IF_SET = re.compile(r"\$\{(\w+):?\+((?:[^{}]|\{[^{}]*\})*)\}")
# $(( sum )) and $(command with words): one word each, whose value is not known.
_COMPUTED = re.compile(r"\$\(\(([^()]*)\)\)|\$\(([^()\s]+)\s[^()\n]*\)")


def is_assignment(word: str) -> bool:
    """Whether a word is `NAME=value`."""
    return _ASSIGNED.match(word) is not None


class First(str):
    """A word at the beginning of a line."""

    __slots__ = ()


def words_of(text: str) -> list[str]:
    r"""The words of a script; those that begin a line are `First`.

    Raises:
        ValueError: a quotation mark is not closed.

    >>> words_of("a=1\nvllm serve m \\ # the model\n  -tp 2")
    ['a=1', 'vllm', 'serve', 'm', '-tp', '2']
    """
    lines = [one for one in text.splitlines() if not one.lstrip().startswith("#")]
    # Recipes put comments behind the backslash, where a shell would end the command.
    joined = re.sub(r"\\[ \t]*(?:[ \t]#[^\n]*)?(\n|$)", " ", "\n".join(lines))
    joined = _IF_SET.sub(lambda one: one[2] if f"\n{one[1]}=" in f"\n{text}" else "", joined)
    joined = _COMPUTED.sub(
        lambda one: f"$(({one[1].replace(' ', '')}))" if one[2] is None else f"$({one[2]}...)",
        joined,
    )
    try:
        split = shlex.split(joined.replace("\n", f" {_LINE} "))
    except ValueError as error:
        raise ValueError(f"flags:\n  {error} in {text!r}; close every quotation mark") from None
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

    A variable that two branches set differently is not known. Words that a branch adds to one are
    left out, and named in `left_out`.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self._branches: dict[str, set[tuple[str, ...]]] = {}
        self.left_out: list[str] = []

    def set(self, name: str, words: list[str], *, adds: bool, branch: str) -> None:
        """Enter an assignment; `branch` is "", "if" or "case"."""
        old = self._values.get(name)
        start = " ".join(old or [])
        flags = branch == "if" and old in ([], [""]) and any(w.startswith("-") for w in words)
        if flags or (branch and (adds or (start and "".join(words[:1]).startswith(f"{start} ")))):
            said = " ".join(words)
            self.left_out.append((said if adds else said[len(start) :]).strip())
        elif branch == "case" and old is not None:
            pass  # an option of the script, which is not given
        else:
            self._values[name] = [*(old or []), *words] if adds else words
            self._branches[name] = self._branches.get(name, set()) if branch else set()
            if branch:
                self._branches[name].add(tuple(words))

    def forked(self) -> None:
        """Forget what the branches of an `if` set differently."""
        for name, values in self._branches.items():
            if len(values) > 1:
                self._values.pop(name, None)

    def expand(self, word: str) -> list[str]:
        """The words that a word stands for: one, or those of a list or of a text of flags."""
        whole = _USED.fullmatch(word)
        name = whole and (whole[1] or whole[3] or whole[4])
        if name and name in self._values:
            held = self._values[name]
            one = held[0] if len(held) == 1 else ""
            if re.search(r"(?:^|\s)--?\w", one) and not one.lstrip().startswith("{"):
                return list(words_of(one))
            return [x for x in held if x] or ([] if held == [""] else held)
        for name, default in _KEPT.findall(word):
            if not self.text(name):
                self.set(name, self.expand(default) or [""], adds=False, branch="")
        full = word
        for _ in range(_NESTED):
            before, full = full, _USED.sub(self._value, full)
            if full == before or "${" not in full:
                break
        return [full] if full or not word else []

    def text(self, name: str) -> str:
        """What a variable holds, "" where that is not known."""
        return " ".join(self._values.get(name, []))

    def command(self, pattern: re.Pattern[str]) -> list[str]:
        """The words of the first variable whose text has this pattern; none without one."""
        for held in self._values.values():
            if pattern.search(" ".join(held)):
                return held if len(held) > 1 else words_of(held[0])
        return []

    def _value(self, found: re.Match[str]) -> str:
        name, default = found[1] or found[3] or found[4], found[2]
        return self.text(name) or (found[0] if default is None else default)


def _array(words: Sequence[str], at: int, first: str) -> tuple[list[str], int]:
    """The items of `NAME=( ... )`, of which `first` follows the parenthesis; and what is next."""
    items: list[str] = []
    word = first
    while True:
        bare, closes = word.rstrip(";"), word.rstrip(";").endswith(")")
        bare = bare[:-1] if closes else word
        if closes and "(" in bare:  # `$(seq 1 8)` or `$(NAME)` within the list
            bare, closes = word, False
        if bare:
            items.append(bare)
        if closes or at >= len(words):
            return items, at
        word, at = words[at], at + 1


def _branch(inside: list[str], word: str, before: str) -> str:
    """In what branch a word stands, with `inside` brought up to date."""
    if word in ("if", "case"):
        inside.append(word)
    elif word in ("fi", "esac") and inside:
        inside.pop()
    return "if" if before in ("&&", "||") else (inside[-1] if inside else "")


def expanded(words: Sequence[str], variables: Variables) -> Iterator[str]:
    """The words with their variables, which `variables` learns from them on the way."""
    inside: list[str] = []
    at, before = 0, ""
    while at < len(words):
        word, at = words[at], at + 1
        branch = _branch(inside, word.rstrip(";"), before)
        found = _ASSIGNED.match(word)
        if word.rstrip(";") in ("else", "elif", "fi", "esac"):
            variables.forked()
        if isinstance(word, First) and at + 1 < len(words) and words[at] in _MAKE:
            variables.set(word, [words[at + 1]], adds=False, branch=branch)
        elif found and found[3].startswith("("):
            items, at = _array(words, at, found[3][1:])
            full = [x for item in items for x in variables.expand(item)]
            variables.set(found[1], full, adds=found[2] == "+=", branch=branch)
            before = word
            continue
        elif found:
            # Text is added to text without a space between; a list keeps its items apart.
            value = " ".join(variables.expand(found[3].rstrip(";"))) if found[3] else ""
            adds = found[2] == "+="
            if adds and not branch:
                value, adds = f"{variables.text(found[1])}{value}", False
            variables.set(found[1], [value], adds=adds, branch=branch)
        before = word
        full = variables.expand(word)
        if isinstance(word, First) and full:
            full[0] = First(full[0])
        yield from full
