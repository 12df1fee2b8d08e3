"""What was signed last, in a file outside PostgreSQL (spec LEDGER, "The notary").

The file is the notary's only memory. It is replaced as a whole, and is on the disk before anything that it tells of is
signed; whatever fails on the way ends the process, so that the next one reads what is really there.
"""

import base64
import binascii
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from audit import entry as entry_rules
from audit.errors import NotaryRefused
from audit.tree import HASH_BYTES, Point

NAME = "state.json"
DRAFT = "state.json.new"
LOCK = "lock"
VERSION = 1
INSTANCE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """How far one log (an epoch of a ledger) was signed.

    `kept` is set where a later epoch took its place: what stood in the tables then. It is watched and never signed.
    """

    organization_id: str
    epoch: int
    origin: str
    point: Point
    kept: Point | None = None


@dataclass(frozen=True)
class State:
    """The file's content: who wrote it, and every log that was ever signed, by origin."""

    instance: str
    logs: Mapping[str, Signed] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Self:
        """Return what a notary begins with that never signed anything."""
        return cls(secrets.token_hex(INSTANCE_BYTES))

    @cached_property
    def newest(self) -> Mapping[str, Signed]:
        """The log of each organization's newest epoch, by organization."""
        return {log.organization_id: log for log in sorted(self.logs.values(), key=lambda log: log.epoch)}

    @cached_property
    def places(self) -> Mapping[tuple[str, int], Signed]:
        """Every log by organization and epoch."""
        return {(log.organization_id, log.epoch): log for log in self.logs.values()}

    def after(self, *changed: Signed) -> "State":
        """Return the state in which these logs stand at new places.

        Raises `NotaryRefused` where one would go back, or get a second root for its size: whatever asks for that.
        """
        for log in changed:
            known = self.logs.get(log.origin)
            if known and (log.point.size < known.point.size or _contradict(log.point, known.point)):
                raise NotaryRefused(
                    f"{log.origin} was signed at {known.point.size} entries, and goes on from there"
                )
        return replace(self, logs={**self.logs, **{signed.origin: signed for signed in changed}})


def _contradict(one: Point, other: Point) -> bool:
    return one.size == other.size and one.root != other.root


def signed(origin: str, point: Point, kept: Point | None = None) -> Signed:
    """Return a log's place by the log's name. Raises `NotaryRefused` where that is none."""
    found = entry_rules.ORIGIN.fullmatch(origin)
    if found is None or not entry_rules.is_origin(origin):
        raise NotaryRefused(f"{NAME} names a log that can't be one")
    epoch = int(found["epoch"] or 1)
    return Signed(organization_id=found["organization"], epoch=epoch, origin=origin, point=point, kept=kept)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that one notary alone works with it. Raises `NotaryRefused` and `OSError`."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotaryRefused(f"another notary works with {folder}") from None
        yield
    finally:
        os.close(descriptor)


def load(folder: Path) -> State | None:
    """Return what the file holds, or None where there is none.

    Raises `NotaryRefused` for what is no such file, and `OSError` where it can't be read: that is not "none".
    """
    try:
        content = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return _parse(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotaryRefused(f"{folder / NAME} is not what a notary writes") from None


def save(folder: Path, state: State) -> None:
    """Replace the file, so that it is on the disk as a whole when this returns.

    Raises `OSError` whatever fails; then nobody knows which of the two contents a crash would leave, and the process
    must end without signing anything.
    """
    draft, name = folder / DRAFT, folder / NAME
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, _format(state))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(name)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def _format(state: State) -> bytes:
    logs = {}
    for origin, log in sorted(state.logs.items()):
        logs[origin] = {"epoch": log.epoch, **_point(log.point)}
        if log.kept:
            logs[origin]["kept"] = _point(log.kept)
    return json.dumps({"v": VERSION, "instance": state.instance, "logs": logs}, indent=0).encode() + b"\n"


def _point(point: Point) -> dict[str, Any]:
    return {"size": point.size, "root": base64.b64encode(point.root).decode()}


def _parse(content: Any) -> State:
    instance = content["instance"]
    if content["v"] != VERSION or not isinstance(instance, str) or not instance:
        raise ValueError
    logs = {}
    for origin, log in content["logs"].items():
        kept = _read_point(log["kept"]) if "kept" in log else None
        logs[origin] = signed(origin, _read_point(log), kept)
        if logs[origin].epoch != log["epoch"]:
            raise ValueError
    return State(instance, logs)


def _read_point(told: Any) -> Point:
    size = told["size"]
    try:
        root = base64.b64decode(told["root"], validate=True)
    except binascii.Error:
        raise ValueError from None
    if type(size) is not int or size < 0 or len(root) != HASH_BYTES:
        raise ValueError
    return Point(size, root)
