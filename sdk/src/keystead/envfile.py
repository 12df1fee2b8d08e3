"""Files of variables (`.env`): finding a secret in one, and putting another in its place. Bytes in, bytes out, no I/O.

What such files are read by differs (shells, systemd, docker, dotenv libraries), so that nothing but the secret itself
is touched: lines, comments, quotes, order, line ends and whatever encoding the rest has stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from keystead.errors import ConfigurationError
from keystead.secret import Secret, has_checksum

DEFAULT_NAME: Final = "KEYSTEAD_API_KEY"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOM: Final = b"\xef\xbb\xbf"
_ASSIGNMENT: Final = re.compile(rb"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*")
# A quoted value may go over several lines: what looks like an assignment within it is none.
_QUOTED: Final = re.compile(rb"""'([^']*)'|"((?:[^"\\]|\\[\s\S])*)\"""")
_BARE: Final = re.compile(rb"([^\s;]*)")
_TO_NEXT_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Assignment:
    """A variable that is set: its name, and where its value is, without quotes. The value may be secret."""

    name: str
    start: int
    end: int
    value: bytes = field(repr=False)


def assignments(content: bytes) -> Iterator[Assignment]:
    """Yield what is set, in order; comments, and what can't be read, are passed over."""
    at = len(_BOM) if content.startswith(_BOM) else 0
    while at < len(content):
        if found := _ASSIGNMENT.match(content, at):
            value = _QUOTED.match(content, found.end()) or _BARE.match(content, found.end())
            if value is not None and value.lastindex is not None:
                start, end = value.span(value.lastindex)
                yield Assignment(found[1].decode(), start, end, content[start:end])
                at = value.end()
        line = _TO_NEXT_LINE.match(content, at)
        at = line.end() if line is not None else len(content)


def secret_of(content: bytes, names: Sequence[str]) -> Secret:
    """Return the secret that these variables hold; of a name that is set several times, the last.

    Raises:
        ConfigurationError: a variable is not there or holds no key, they hold different ones, or yet another holds
            the same, and would be left with one that ends. No message has a value.
    """
    values = {each.name: each.value for each in assignments(content)}
    held = {_held(name, values) for name in names}
    if len(held) != 1:
        raise ConfigurationError("The variables hold different keys.")
    secret = held.pop()
    others = sorted(name for name, value in values.items() if value == secret and name not in names)
    if others:
        raise ConfigurationError(f"{others[0]} holds the same key: give --name for each of them.")
    return Secret(secret.decode())


def with_secret(content: bytes, names: Sequence[str], secret: str, *, instead_of: str | None = None) -> bytes:
    """Return the content with a secret in these variables; one that is not there is added at the end.

    Args:
        instead_of: the secret that was there; where a name is set several times, each that holds it is changed, and
            the last in any case.

    Raises:
        ValueError: it is no secret: nothing else is written into a file that a shell may run.
    """
    new = secret.encode()
    if not has_checksum(new):
        raise ValueError("This is no key.")
    found = [each for each in assignments(content) if each.name in names]
    last = {each.name: each for each in found}
    old = None if instead_of is None else instead_of.encode()
    for each in reversed(found):
        if each.value == old or last[each.name] is each:
            content = content[: each.start] + new + content[each.end :]
    for name in names:
        if name not in last:
            content = _appended(content, name, new)
    return content


def checked_name(name: str) -> str:
    """Return the name of a variable.

    Raises:
        ValueError: it is none.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError("A variable's name is letters, digits and underscores.")
    return name


def _held(name: str, values: dict[str, bytes]) -> bytes:
    value = values.get(name)
    if value is not None and has_checksum(value):
        return value
    holding = sorted(other for other, value in values.items() if has_checksum(value))
    advice = f" There is a key in {holding[0]}: give --name {holding[0]}." if holding else ""
    raise ConfigurationError(f"{name} is {'not set' if value is None else 'no key'} in the file.{advice}")


def _appended(content: bytes, name: str, value: bytes) -> bytes:
    found = _LINE_END.search(content)
    end = found[0] if found else b"\n"
    gap = b"" if not content or content.endswith((b"\n", b"\r")) else end
    return b"".join((content, gap, name.encode(), b"=", value, end))
