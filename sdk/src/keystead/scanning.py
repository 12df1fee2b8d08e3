"""Finding secrets in files, offline: by their form and their checksum, so that there are no false alarms.

Also as they look in Markdown (`ks\\_cp\\_…`), addresses (`ks%5Fcp%5F…`), JSON (`ks\\u005fcp…`), UTF-16, and in base64,
as Kubernetes and HTTP's Basic authentication have them.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from keystead.secret import DEFAULT_BRAND, Secret, has_checksum, redact

MAX_SIZE: Final = 50 * 1024 * 1024
STDIN: Final = "-"
_BRAND: Final = re.compile(r"[a-z0-9]{2,8}")
_UNDERSCORE: Final = rb"(?:\\?_|%5[Ff]|\\u005[Ff])"
_ANY_UNDERSCORE: Final = re.compile(_UNDERSCORE)
_AFTER_BRAND: Final = len("_cp_live_") + 49
_PROBE: Final = 8_192
_BROKEN: Final = 3
_WIDE: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Hit(NamedTuple):
    """A secret and where it begins, in bytes. `repr` shows no more of it than its hint."""

    at: int
    secret: Secret


@dataclass(frozen=True)
class Finding:
    """A secret in a file: line and column count from 1, `hint` may be shown. `secret` must not be."""

    path: str
    line: int
    column: int
    hint: str
    secret: Secret = field(repr=False)


class Scanner:
    """Looks for the secrets of one or several portals, each known by its brand."""

    def __init__(self, brands: Sequence[str] = (DEFAULT_BRAND,)) -> None:
        """Prepare the patterns.

        Raises:
            ValueError: a brand is not 2 to 8 of a-z and 0-9.
        """
        if not brands or not all(map(_BRAND.fullmatch, brands)):
            raise ValueError("A brand is 2 to 8 of a-z and 0-9.")
        self._plain = [_plain_pattern(brand.encode()) for brand in brands]
        self._encoded = [_Base64(brand.encode(), before) for brand in brands for before in range(3)]

    def hits(self, content: bytes) -> list[Hit]:
        """Return the secrets in the content, in order."""
        found = [hit for pattern in self._plain for hit in _plain_hits(pattern, content)]
        found += [hit for encoded in self._encoded for hit in encoded.hits(content)]
        return sorted(found)

    def findings(self, path: str, content: bytes) -> Iterator[Finding]:
        """Yield the secrets of a file, as its lines have them."""
        if content[:2] in _WIDE:
            content = content.decode(_WIDE[content[:2]], errors="replace").encode()
        line, since = 1, 0
        for hit in self.hits(content):
            line += content.count(b"\n", since, hit.at)
            since = hit.at
            before = content[content.rfind(b"\n", 0, hit.at) + 1 : hit.at].decode(errors="replace")
            yield Finding(path, line, len(before) + 1, redact(hit.secret), hit.secret)


class _Base64:
    """Secrets in base64, with `before` bytes in front of them in the first group of three."""

    def __init__(self, brand: bytes, before: int) -> None:
        self._before = before
        self._size = len(brand) + _AFTER_BRAND
        # Of the first characters some bits are others' bytes; those that are left are always the same.
        self._skipped = (0, 2, 3)[before]
        start = brand + b"_"
        whole = base64.b64encode(b"\0" * before + start)[: (before + len(start)) * 4 // 3]
        self._pattern = re.compile(re.escape(whole[self._skipped :]))

    def hits(self, content: bytes) -> Iterator[Hit]:
        for match in self._pattern.finditer(content):
            begin = match.start() - self._skipped
            length = -(-(self._before + self._size) // 3) * 4
            # Programs break base64 into lines, and configuration files indent these.
            text = content[max(0, begin) : begin + _BROKEN * length].translate(None, b"\r\n\t ")[:length]
            found = _decoded(text)[self._before :][: self._size]
            if begin >= 0 and has_checksum(found):
                yield Hit(match.start(), Secret(found.decode()))


@dataclass
class Skipped:
    """What was not looked at, and why; `errors` are those that were meant to be."""

    binary: int = 0
    large: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """Which files are read.

    Args:
        max_size: larger ones are skipped, in bytes.
        binary: those with NUL bytes too.
    """

    max_size: int = MAX_SIZE
    binary: bool = False

    def takes(self, content: bytes, skipped: Skipped) -> bool:
        """Tell whether the content is to be looked at; counts it where it is not."""
        if len(content) > self.max_size:
            skipped.large += 1
            return False
        if not self.binary and content[:2] not in _WIDE and b"\0" in content[:_PROBE]:
            skipped.binary += 1
            return False
        return True

    def read(self, paths: Sequence[str], skipped: Skipped) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files, `-` for the standard input, and of those below folders.

        Below a folder no link is followed and `.git` is left out; what is named itself is always read.
        """
        for path in paths:
            if path == STDIN:
                yield "<stdin>", sys.stdin.buffer.read()
            elif os.path.isdir(path):
                yield from self._below(path, skipped)
            else:
                yield from self._one(path, skipped)

    def _below(self, folder: str, skipped: Skipped) -> Iterator[tuple[str, bytes]]:
        def failed(error: OSError) -> None:
            skipped.errors.append(f"{error.filename}: {error.strerror}")

        for parent, folders, names in os.walk(folder, onerror=failed):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(names):
                path = os.path.join(parent, name)
                # A worktree's .git is a file.
                if name != ".git" and _is_file(path):
                    yield from self._one(path, skipped)

    def _one(self, path: str, skipped: Skipped) -> Iterator[tuple[str, bytes]]:
        try:
            with Path(path).open("rb") as file:
                content = file.read(self.max_size + 1)
        except OSError as error:
            skipped.errors.append(f"{path}: {error.strerror}")
            return
        if self.takes(content, skipped):
            yield path, content

    def staged(self, paths: Sequence[str], skipped: Skipped) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents as they are about to be committed to git.

        Raises:
            OSError: there is no git, or no repository.
        """
        listed = _git(
            "diff",
            "--cached",
            "--raw",
            "-z",
            "--no-renames",
            "--no-abbrev",
            "--diff-filter=AMT",
            "--",
            *paths,
        )
        parts = listed.split(b"\0")
        for facts, name in zip(parts[::2], parts[1::2], strict=False):
            _, mode, _, blob, _ = facts.decode().split()
            # Of a submodule there is nothing to read.
            if mode.startswith("16"):
                continue
            content = _git("cat-file", "blob", blob)
            if self.takes(content, skipped):
                yield os.fsdecode(name), content


def _plain_pattern(brand: bytes) -> re.Pattern[bytes]:
    middle = _UNDERSCORE + rb"(?:in|cp|sv)" + _UNDERSCORE + rb"(?:live|test)" + _UNDERSCORE
    # The rest is looked at, not taken: another secret may begin before it ends.
    return re.compile(b"(%s%s)(?=([0-9A-Za-z]{49}))" % (brand, middle))


def _plain_hits(pattern: re.Pattern[bytes], content: bytes) -> Iterator[Hit]:
    for match in pattern.finditer(content):
        found = _ANY_UNDERSCORE.sub(b"_", match[1]) + match[2]
        if has_checksum(found):
            yield Hit(match.start(), Secret(found.decode()))


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except binascii.Error:
        return b""


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise OSError(f"git: {os.fsdecode(done.stderr).strip()}")
    return done.stdout
