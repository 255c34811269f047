"""Which commands a line of shell holds. Pure.

An allow-list can only be held against what is certain. So a line is plain, made of words, quotes and the operators
`| && || ;` between commands, or it is refused with the reason: whatever the shell would expand, redirect, nest or run
beside is not certain.

What no list of beginnings can see is what an allowed command does itself: `env rm`, `find -exec`, `git -c alias…`.
Allow what is harmless with any arguments; what keeps the rest in bounds is the isolation by the operating system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_BETWEEN = ("&&", "||", "|", ";")
_FORBIDDEN = {
    "$": "expands variables or runs commands in the line",
    "`": "runs commands in the line",
    "<": "redirects",
    ">": "redirects",
    "&": "runs beside",
    "(": "nests commands",
    ")": "nests commands",
    "{": "nests or expands",
    "}": "nests or expands",
    "\n": "is a new line",
    "\r": "is a new line",
    "*": "expands to names of files",
    "?": "expands to names of files",
    "[": "expands to names of files",
    "~": "expands to a folder",
    "#": "begins a comment",
    "!": "negates or recalls",
    "\0": "ends the line",
}
_WORDS = {
    "if",
    "then",
    "for",
    "while",
    "until",
    "case",
    "do",
    "done",
    "function",
    "select",
    "time",
    "coproc",
    ".",
}
_WORDS |= {"eval", "exec", "source", "command", "builtin", "trap", "alias", "export", "set"}


class NotPlain(ValueError):
    """The line is not certain to do what it says; the text says why."""


def commands(line: str) -> list[list[str]]:
    """The simple commands of a plain line, each as its words. Raises NotPlain."""
    found: list[list[str]] = [[]]
    word: str | None = None
    at = 0
    while at < len(line):
        char = line[at]
        if char in " \t":
            _end(found, word)
            word = None
            at += 1
        elif operator := next((one for one in _BETWEEN if line.startswith(one, at)), None):
            _end(found, word)
            word = None
            if not found[-1]:
                raise NotPlain(f"there is no command before {operator}")
            found.append([])
            at += len(operator)
        elif char in "'\"":
            text, at = _quoted(line, at)
            word = (word or "") + text
        elif char == "\\":
            if at + 1 >= len(line) or line[at + 1] in "\n\r":
                raise NotPlain("a backslash at the end of a line goes on in the next")
            word = (word or "") + line[at + 1]
            at += 2
        elif char in _FORBIDDEN and not (char == "#" and word is not None):
            raise NotPlain(f"{char!r} {_FORBIDDEN[char]}")
        else:
            word = (word or "") + char
            at += 1
    _end(found, word)
    if not found[-1]:
        raise NotPlain("the line is empty" if len(found) == 1 else "there is no command at the end")
    for first, *_ in found:
        if first in _WORDS:
            raise NotPlain(f"{first!r} is a word of the shell itself")
        if "=" in first:
            raise NotPlain(f"{first!r} sets a variable")
    return found


def refusal(line: str, allow: Sequence[str]) -> str:
    """Why the allow-list does not let `line` through, "" if it does. Each command must begin as one of `allow` does."""
    try:
        found = commands(line)
    except NotPlain as error:
        return f"only plain commands may be run: {error}"
    allowed = [entry.split() for entry in allow if entry.strip()]
    for command in found:
        if not any(command[: len(entry)] == entry for entry in allowed):
            return f"{command[0]!r} may not be run so; allowed are: {_listed(allow)}"
    return ""


def _listed(allow: Iterable[str]) -> str:
    return ", ".join(allow)


def _end(found: list[list[str]], word: str | None) -> None:
    if word is not None:
        found[-1].append(word)


def _quoted(line: str, at: int) -> tuple[str, int]:
    """The text of the quotes that begin at `at`, and where they end."""
    quote, text = line[at], ""
    at += 1
    while at < len(line):
        char = line[at]
        if char == quote:
            return text, at + 1
        if quote == '"':
            if char in "$`!":
                raise NotPlain(f"{char!r} {_FORBIDDEN[char]}")
            if char == "\\" and at + 1 < len(line) and line[at + 1] in '"\\':
                char = line[at + 1]
                at += 1
            elif char == "\\" and at + 1 < len(line) and line[at + 1] in "$`\n":
                raise NotPlain("a backslash before that is not certain")
        if char in "\n\r\0":
            raise NotPlain(f"{char!r} {_FORBIDDEN[char]}")
        text += char
        at += 1
    raise NotPlain(f"a {quote} is not closed")
