"""An entry of the ledger and its bytes (LEDGER.md Bytes 1-3, 5 and 11).

`build` is the only writer of leaf bytes and `parse` the only reader; both run every rule of the format, so
what one makes the other accepts, and nothing else. The whole is a claim by whoever wrote it: that it stands
in the ledger is for the tree and its signed root to show.
"""

import base64
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audit.errors import ChainBroken, EntryInvalid
from audit.tree import EMPTY_ROOT, HASH_BYTES, leaf_hash

__all__ = [
    "ACT",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MAX_LEAF_BYTES",
    "MAX_STRING_BYTES",
    "ParsedEntry",
    "build",
    "check_successor",
    "clip",
    "commit",
    "epoch_of",
    "format_time",
    "genesis_prev",
    "is_origin",
    "leaf_hash",
    "new_salt",
    "origin",
    "parse",
]

VERSION = 1
MAX_DEPTH = 4
MAX_INTEGER = 2**53 - 1
MAX_STRING_BYTES = 2048
MAX_LEAF_BYTES = 16384
MAX_ORIGIN_BYTES = 200
SALT_BYTES = 32

ACT = re.compile(r"[a-z]+(\.[a-z_]+)+")
# Neither "@" nor "." fits in: an e-mail address can't pass for an id.
ACTOR = re.compile(r"[a-z][a-z0-9_]{0,63}")
MEMBER = re.compile(r"[a-z][a-z0-9_]{0,31}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
ORIGIN = re.compile(
    r"(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*)"
    r"/ledger/(?P<organization>org_[a-z0-9_]+)"
    r"(/(?P<epoch>[2-9]|[1-9][0-9]+))?"
)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REQUIRED = frozenset({"v", "log", "i", "t", "prev", "act", "actor", "data"})
OPTIONAL = frozenset({"sealed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedEntry:
    """The members of an entry whose bytes passed every rule.

    `i` counts from 0; `t` is UTC to the millisecond; `prev` is the 32-byte leaf hash of entry i-1;
    `sealed` maps field names to base64 commitments, and is empty where there is no personal data.
    """

    log: str
    i: int
    t: datetime
    prev: bytes
    act: str
    actor: str
    data: dict[str, Any]
    sealed: dict[str, str]


def build(
    *,
    log: str,
    i: int,
    t: datetime,
    prev: bytes,
    act: str,
    actor: str,
    data: Mapping[str, object],
    sealed: Mapping[str, str] | None = None,
) -> bytes:
    """Return the leaf bytes L of an entry: its JCS (RFC 8785), at most 16,384 bytes.

    `i` is 0 to 2^53-1; `t` any aware time, cut to the millisecond; `prev` 32 bytes (`genesis_prev()` for
    entry 0); `sealed` base64 commitments of `commit`; none, or an empty one, leaves the member out. Nothing
    in `data` is hidden: secrets and personal data do not belong there. Depth counts objects and arrays, the
    entry itself being 1 and `data` 2, so `data.before.tags` may be an array and hold no further one.

    Raises EntryInvalid, naming the path, where a rule of LEDGER.md Bytes 1-3 or 11 is broken.
    """
    members: dict[str, Any] = {
        "v": VERSION,
        "log": log,
        "i": i,
        "t": format_time(t),
        "prev": base64.b64encode(prev).decode(),
        "act": act,
        "actor": actor,
        "data": dict(data),
    }
    if sealed:
        members["sealed"] = dict(sealed)
    _read(members)
    leaf = canonical(members)
    _check_length(leaf)
    return leaf


def parse(leaf: bytes) -> ParsedEntry:
    """Return the entry of which `leaf` is the one canonical form.

    Raises EntryInvalid for everything else: not UTF-8, not JSON, a duplicate name, a float, a broken rule
    of LEDGER.md Bytes 1-3 or 11, or bytes that differ from JCS(parse(leaf)).
    """
    members = _decode(leaf)
    entry = _read(members)
    # This also finds two members of one name: the reader of JSON kept the last alone.
    if canonical(members) != leaf:
        raise EntryInvalid("entry", "is not in canonical form (RFC 8785)")
    return entry


def canonical(members: Mapping[str, Any]) -> bytes:
    """Return RFC 8785 of an object within LEDGER.md Bytes 2, where names are ASCII and numbers are integers.

    For these the standard library writes what the RFC demands, several times as fast as a library for all of JSON.
    """
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_successor(previous: ParsedEntry | None, previous_hash: bytes, this: ParsedEntry) -> None:
    """Check that `this` directly follows `previous`, or opens the log where that is None.

    `previous_hash` is the 32-byte leaf hash of `previous`; for entry 0, `genesis_prev()`. The caller takes
    it from bytes it trusts, never from an entry. Equal times are in order; the log's name may not change.

    Raises ChainBroken with the expected index and the member that does not fit (LEDGER.md Bytes 5, 14).
    """
    index = 0 if previous is None else previous.i + 1
    if this.i != index:
        raise ChainBroken(index, "i")
    if this.prev != (genesis_prev() if previous is None else previous_hash):
        raise ChainBroken(index, "prev")
    if previous is None:
        return
    if this.log != previous.log:
        raise ChainBroken(index, "log")
    if this.t < previous.t:
        raise ChainBroken(index, "t")


def genesis_prev() -> bytes:
    """Return the 32 bytes that stand as `prev` in entry 0: H("") (LEDGER.md Bytes 5)."""
    return EMPTY_ROOT


def origin(host: str, organization_id: str, epoch: int = 1) -> str:
    """Return the name of an organization's log, which is its signing key's name too (LEDGER.md Bytes 1).

    `host` is lower-case, without scheme or port; `organization_id` starts `org_`; `epoch` counts from 1.
    Raises EntryInvalid for a part that is not such, or more than 200 bytes in all.
    """
    text = f"{host}/ledger/{organization_id}" + ("" if epoch == 1 else f"/{epoch}")
    found = ORIGIN.fullmatch(text)
    # The parts are compared, or an organization named "org_a/2" would get the second epoch of org_a.
    parts = (host, organization_id, None if epoch == 1 else str(epoch))
    if found is None or found.group("host", "organization", "epoch") != parts:
        raise EntryInvalid("log", "an origin is host/ledger/org_id, from epoch 2 on with /epoch")
    if not is_origin(text):
        raise EntryInvalid("log", f"an origin has at most {MAX_ORIGIN_BYTES} bytes")
    return text


def epoch_of(origin: str) -> int:
    """Return the epoch of the log that `origin` names. Raises EntryInvalid for what is no log's name."""
    found = ORIGIN.fullmatch(origin)
    if found is None or not is_origin(origin):
        raise EntryInvalid("log", "is no log's name")
    return int(found["epoch"] or 1)


def is_origin(text: str) -> bool:
    """Say whether `text` is a log's name in the form of LEDGER.md Bytes 1."""
    return len(text) <= MAX_ORIGIN_BYTES and ORIGIN.fullmatch(text) is not None


def format_time(t: datetime) -> str:
    """Return an aware time as `YYYY-MM-DDTHH:MM:SS.mmmZ`, in UTC and cut (not rounded) to the millisecond.

    Raises EntryInvalid for a naive time, and for one that UTC carries out of the years 1 to 9999.
    """
    if t.utcoffset() is None:
        raise EntryInvalid("t", "has no time zone")
    try:
        utc = t.astimezone(UTC)
    except OverflowError:
        raise EntryInvalid("t", "is out of range") from None
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def commit(field: str, value: str, salt: bytes) -> str:
    """Return the commitment that stands in `sealed` for a personal value: base64, 44 characters.

    HMAC-SHA-256(key = salt, msg = field‖0x00‖value) (LEDGER.md Bytes 11). `salt` is 32 random bytes used
    for this value alone and kept beside it; without it the commitment tells nothing, so it is as secret as
    the value, and erased with it. `value` may be of any length.

    Raises EntryInvalid for a field that is no member name, a salt of another length, or a value with
    U+0000 or a lone surrogate (see `clip`).
    """
    path = f"sealed.{_shown(field)}"
    if MEMBER.fullmatch(field) is None:
        raise EntryInvalid(path, "is not a member name")
    if len(salt) != SALT_BYTES:
        raise EntryInvalid(path, f"a salt has {SALT_BYTES} bytes")
    _check_storable(value, path)
    message = field.encode() + b"\x00" + value.encode()
    return base64.b64encode(hmac.digest(salt, message, "sha256")).decode()


def new_salt() -> bytes:
    """Return 32 random bytes for one sealed value. Secret: see `commit`."""
    return secrets.token_bytes(SALT_BYTES)


def clip(text: str, max_bytes: int) -> str:
    """Return the longest start of `text` that is at most `max_bytes` of UTF-8, no character split.

    U+0000 and lone surrogates, which neither an entry nor PostgreSQL can hold, become U+FFFD first. For
    what strangers send, such as a user agent; the result can be sealed.
    """
    return UNSTORABLE.sub("\ufffd", text).encode()[:max_bytes].decode("utf-8", "ignore")


def _decode(leaf: bytes) -> dict[str, Any]:
    _check_length(leaf)
    try:
        members = json.loads(leaf.decode("utf-8"))
    except (ValueError, RecursionError):
        # No chaining: the parser's message may quote what it refused.
        raise EntryInvalid("entry", "is not JSON in UTF-8") from None
    if not isinstance(members, dict):
        raise EntryInvalid("entry", "is not an object")
    return members


def _check_length(leaf: bytes) -> None:
    if len(leaf) > MAX_LEAF_BYTES:
        raise EntryInvalid("entry", f"has {len(leaf)} bytes, at most {MAX_LEAF_BYTES} are allowed")


def _read(members: dict[str, Any]) -> ParsedEntry:
    if not REQUIRED <= members.keys() <= REQUIRED | OPTIONAL:
        raise EntryInvalid("entry", "has other members than v, log, i, t, prev, act, actor, data, sealed")
    _check_value(members, "", 1)
    if type(members["v"]) is not int or members["v"] != VERSION:
        raise EntryInvalid("v", f"is not {VERSION}")
    if type(members["i"]) is not int or members["i"] < 0:
        raise EntryInvalid("i", "is not an index")
    if not isinstance(members["log"], str) or not is_origin(members["log"]):
        raise EntryInvalid("log", "is not an origin")
    if not isinstance(members["data"], dict):
        raise EntryInvalid("data", "is not an object")
    return ParsedEntry(
        log=members["log"],
        i=members["i"],
        t=_read_time(members["t"]),
        prev=_read_digest(members["prev"], "prev"),
        act=_read_form(members["act"], ACT, "act"),
        actor=_read_form(members["actor"], ACTOR, "actor"),
        data=members["data"],
        sealed=_read_sealed(members["sealed"]) if "sealed" in members else {},
    )


def _check_value(value: object, path: str, depth: int) -> None:
    # `depth` is what this value would have as an object or array; anything else adds none.
    match value:
        case None | bool():
            return
        case int():
            if abs(value) > MAX_INTEGER:
                raise EntryInvalid(path, "is an integer beyond 2^53-1")
        case str():
            _check_string(value, path)
        case dict() | list() | tuple():
            _check_container(value, path, depth)
        case _:
            raise EntryInvalid(path, f"a {type(value).__name__} has no place in an entry")


def _check_container(value: dict[Any, Any] | list[Any] | tuple[Any, ...], path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise EntryInvalid(path, f"is more than {MAX_DEPTH} objects or arrays deep")
    if not isinstance(value, dict):
        for place, element in enumerate(value):
            _check_value(element, f"{path}[{place}]", depth + 1)
        return
    for name, member in value.items():
        below = f"{path}.{_shown(name)}".lstrip(".")
        if not isinstance(name, str) or MEMBER.fullmatch(name) is None:
            raise EntryInvalid(below, "is not a member name")
        _check_value(member, below, depth + 1)


def _check_string(value: str, path: str) -> None:
    _check_storable(value, path)
    if len(value.encode()) > MAX_STRING_BYTES:
        raise EntryInvalid(path, f"has more than {MAX_STRING_BYTES} bytes")


def _check_storable(value: str, path: str) -> None:
    if UNSTORABLE.search(value):
        raise EntryInvalid(path, "holds U+0000 or a lone surrogate")


def _shown(name: object) -> str:
    # A name that breaks the rule may be anything: long, or not printable.
    return name if isinstance(name, str) and MEMBER.fullmatch(name) else "(name)"


def _read_time(value: object) -> datetime:
    try:
        return datetime.fromisoformat(_read_form(value, TIME, "t"))
    except ValueError:
        raise EntryInvalid("t", "is not in the calendar") from None


def _read_digest(value: object, path: str) -> bytes:
    try:
        digest = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        digest = b""
    # Encoding again refuses what decoders let pass: spare bits in the last character.
    if len(digest) != HASH_BYTES or base64.b64encode(digest).decode() != value:
        raise EntryInvalid(path, f"is not base64 of {HASH_BYTES} bytes")
    return digest


def _read_form(value: object, form: re.Pattern[str], path: str) -> str:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise EntryInvalid(path, f"does not match {form.pattern}")
    return value


def _read_sealed(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise EntryInvalid("sealed", "is not an object with members")
    for name, commitment in value.items():
        _read_digest(commitment, f"sealed.{name}")
    return value
