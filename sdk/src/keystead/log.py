"""The security log as programs read it: entries, what the notary signed, proofs. Checking them: `keystead.ledger`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keystead.asking import Moment, moment, query, reading
from keystead.calls import Call, Repeat
from keystead.errors import UnreadableAnswer
from keystead.reading import read

PATH = "/v1/audit"


@dataclass(frozen=True)
class Entry:
    """An entry of the log.

    Args:
        act: what happened: `key.revoked`.
        actor: who did it: `usr_…`, `key_…` or `sys_…`.
        target: the id of what was changed.
        data: what the entry says; nothing personal.
        personal: what it sealed, None where that was erased.
        readable: False where its bytes were damaged, so that nothing in `data` is known.
    """

    epoch: int
    index: int
    at: datetime
    act: str
    actor: str
    target: str = ""
    request_id: str = ""
    summary: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    personal: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    readable: bool = True


@dataclass(frozen=True)
class Entries:
    """A page of entries, and the cursor of the next."""

    data: tuple[Entry, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class EntryBytes(Entry):
    """An entry with what is hashed of it.

    Args:
        leaf: its bytes, character for character, which `ledger.verify_proof` takes encoded as UTF-8.
        leaf_hash: SHA-256 of a zero byte and the leaf, in base64; `prev` is that of the entry before.
        sealed: the commitments to what is personal, by name.
    """

    log: str = ""
    prev: str = ""
    leaf: str = field(default="", repr=False)
    leaf_hash: str = ""
    sealed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Consistency:
    hashes: tuple[str, ...]


def list_entries(
    *,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    request_id: str | None = None,
    q: str | None = None,
    page_size: int | None = None,
) -> Call[Entries]:
    """Search the security log, the newest entries first, page by page.

    Args:
        actor: the id of who acted.
        action: an act such as `key.revoked`, or all of a subject: `key.*`.
        target: the id of what was changed.
        since, until: from when, and until before when.
        request_id: of the call that caused it.
        q: words that the entry holds; phrases in quotation marks.

    Raises:
        ApiError: PermissionDenied, Invalid (an act that there is not).
    """
    asked = query(actor=actor, action=action, target=target, request_id=request_id, q=q, limit=page_size)
    return reading(
        f"{PATH}/entries", Entries, [*asked, *query(**{"from": moment(since), "to": moment(until)})]
    )


def get_entry(index: int, *, epoch: int | None = None) -> Call[EntryBytes]:
    """Return an entry with its bytes.

    Args:
        epoch: which log, where it was reopened; the newest unless given.

    Raises:
        NotFound: there is none.
    """
    return reading(f"{PATH}/entries/{_number(index)}", EntryBytes, query(epoch=epoch))


def get_proof(index: int, *, epoch: int | None = None) -> Call[str]:
    """Return the `.tlog-proof` of an entry: that it stands in the log that the notary signed.

    Raises:
        ApiError: NotFound; Conflict where the entry is not signed yet, or the ledger was tampered with.
    """
    return _text(f"{PATH}/entries/{_number(index)}/proof", query(epoch=epoch))


def get_checkpoint(*, size: int | None = None, epoch: int | None = None) -> Call[str]:
    """Return a checkpoint's signed note, the newest unless a size is given. Keep it where the portal can't reach.

    Raises:
        ApiError: NotFound for a size that was never signed; Conflict where nothing is signed yet.
    """
    return _text(f"{PATH}/checkpoint", query(size=size, epoch=epoch))


def get_consistency(older: int, newer: int, *, epoch: int | None = None) -> Call[tuple[bytes, ...]]:
    """Return the hashes that prove the log of `newer` entries to begin with that of `older` (RFC 6962).

    Raises:
        ApiError: Invalid; Conflict where one of the sizes was never signed, or the ledger was tampered with.
    """
    parameters = query(**{"from": older, "to": newer, "epoch": epoch})
    path = f"{PATH}/consistency"
    return Call("GET", path, _hashes, parameters=parameters, repeat=Repeat.ANY_TIME)


def list_verifier_keys(*, epoch: int | None = None) -> Call[tuple[str, ...]]:
    """Return the log's verifier keys, the oldest first. Compare them with those that you noted elsewhere.

    Raises:
        NotFound: there is no such log.
    """
    call = _text(f"{PATH}/keys", query(epoch=epoch))
    return Call("GET", call.path, _lines, parameters=call.parameters, repeat=call.repeat, is_text=True)


def get_bundle(*, epoch: int | None = None, old_size: int | None = None) -> Call[None]:
    """Save the offline bundle to a file, whole or not at all; its entry `export.made` says that you did.

    It has every entry that is signed, with the personal data that they sealed. `keystead ledger verify` checks it.

    Args:
        old_size: puts the checkpoint of this size into it as well.

    Raises:
        ApiError: NotFound; Conflict where nothing is signed yet.
        Unavailable: too many are being downloaded, or the connection broke off.
    """
    return Call("GET", f"{PATH}/bundle", lambda _: None, parameters=query(epoch=epoch, old_size=old_size))


def _text(path: str, parameters: list[tuple[str, str]]) -> Call[str]:
    return Call("GET", path, str, parameters=parameters, repeat=Repeat.ANY_TIME, is_text=True)


def _number(index: int) -> int:
    if type(index) is not int or index < 0:
        raise ValueError("An entry's index is a whole number from 0 on.")
    return index


def _lines(text: Any) -> tuple[str, ...]:
    return tuple(text.splitlines())


def _hashes(data: Any) -> tuple[bytes, ...]:
    try:
        return tuple(base64.b64decode(each, validate=True) for each in read(_Consistency, data).hashes)
    except binascii.Error:
        raise UnreadableAnswer("The answer is not one of a portal: a hash is no base64.") from None
