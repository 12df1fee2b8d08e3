"""Writing the ledger: entries are collected while a service works and appended just before COMMIT.

An entry and the change it tells of share one transaction: without the entry there is no change. The head of an
organization's ledger is locked last and for the shortest time, because the outermost `recording` appends for all.
Source: spec LEDGER, "Writing".
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, transaction

from audit import entry as entry_rules
from audit import note, ports, redaction
from audit.actors import Actor
from audit.acts import Act
from audit.errors import LedgerUnavailable

PORTAL = Actor.system("portal")
REGRESSION_MS = 5_000
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry before it has an index, a time and a predecessor."""

    act: Act
    actor: str
    data: dict[str, Any]
    openings: dict[str, str]


@dataclass(slots=True)
class _Pending:
    """What the running transaction will append, by organization."""

    drafts: dict[str, list[Draft]] = field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        return {organization: len(drafts) for organization, drafts in self.drafts.items()}

    def cut_back(self, sizes: Mapping[str, int]) -> None:
        for organization, drafts in self.drafts.items():
            del drafts[sizes.get(organization, 0) :]


@dataclass(frozen=True, slots=True)
class Recorder:
    """What `recording` yields: call it once for each entry."""

    pending: _Pending
    organization_id: str
    actor: Actor

    def __call__(
        self,
        act: str,
        *,
        target: str,
        data: Mapping[str, Any] | None = None,
        sealed: Mapping[str, str] | None = None,
        part_of: str = "",
    ) -> None:
        """Collect one entry.

        `target` is the id of what was changed. `data` holds facts without personal data or secrets, at most two
        levels deep; `sealed` holds free text and personal data, each at most 2,048 bytes, beside the actor's own.
        What looks like a secret is cut down to its hint in either: somebody pasted it where it does not belong.

        `part_of` is the target of another entry of this recording that tells of the whole act: who acted is sealed
        there, once, and not in each of its 10,000 parts.
        """
        body = {"target": target, **_plain(data or {})}
        if part_of:
            body["part_of"] = part_of
        if self.actor.request_id:
            body["request_id"] = redaction.redact(self.actor.request_id)
        own = {} if part_of else self.actor.sealed()
        given = {**own, **{key: value for key, value in (sealed or {}).items() if value}}
        openings = {key: redaction.redact(value) for key, value in given.items()}
        draft = Draft(act=Act(act), actor=self.actor.id, data=body, openings=openings)
        self.pending.drafts.setdefault(self.organization_id, []).append(draft)


_pending: ContextVar[_Pending | None] = ContextVar("ledger_pending", default=None)


@contextmanager
def recording(organization_id: str, actor: Actor, *, is_last: bool = False) -> Iterator[Recorder]:
    """Collect entries of `actor` for one organization's ledger and append them as the transaction ends.

    The outermost opens the transaction where none is open and appends everything, organization by organization in
    order of id; an inner one joins it under a savepoint, and takes back its entries together with its rows when it
    fails. `is_last` promises that the transaction around it ends with it, so that it needs no savepoint to go back to.
    Raises `LedgerUnavailable` where the ledger can't be written: then nothing is changed.
    """
    outer = _pending.get()
    with transaction.atomic(savepoint=outer is not None or not is_last):
        if outer is not None:
            sizes = outer.sizes()
            try:
                yield Recorder(outer, organization_id, actor)
            except BaseException:
                outer.cut_back(sizes)
                raise
            return
        pending = _Pending()
        token = _pending.set(pending)
        try:
            yield Recorder(pending, organization_id, actor)
            _append_all(pending)
        finally:
            _pending.reset(token)


def _append_all(pending: _Pending) -> None:
    try:
        for organization_id in sorted(pending.drafts):
            if pending.drafts[organization_id]:
                _append(organization_id, pending.drafts[organization_id])
    except DatabaseError as error:
        raise LedgerUnavailable(str(error).partition("\n")[0]) from error


def _append(organization_id: str, drafts: list[Draft]) -> None:
    """Lock the head, give the drafts their places in the chain, and insert them as one batch."""
    fresh_origin = entry_rules.origin(settings.LEDGER_ORIGIN_HOST, organization_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM ledger_begin(%s, %s)", [organization_id, fresh_origin])
        log, index, prev, at, behind, is_heard = cursor.fetchone()
        leaves, openings = _chain(_with_notices(drafts, log, index, behind), log, index, bytes(prev), at)
        cursor.execute("SELECT ledger_append(%s, %s, %s)", [organization_id, leaves, json.dumps(openings)])
    _tell(organization_id, [draft.act for draft in drafts], is_heard=is_heard)


def _tell(organization_id: str, acts: list[Act], *, is_heard: bool) -> None:
    for told in (*ports.on_appended, *(ports.on_heard if is_heard else ())):
        told(organization_id, acts)


def _with_notices(drafts: list[Draft], log: str, index: int, behind: int) -> list[Draft]:
    """Put before the drafts what the ledger itself must say: that it opens, or that the clock went back."""
    notices = []
    if index == 0:
        notices.append(_notice(Act.LEDGER_OPENED, {"vkey": verifier_key(log)}))
    if behind > REGRESSION_MS:
        notices.append(_notice(Act.CLOCK_REGRESSED, {"behind_ms": behind}))
    return notices + drafts


def _notice(act: Act, data: dict[str, Any]) -> Draft:
    return Draft(act=act, actor=PORTAL.id, data=data, openings={})


def _chain(
    drafts: list[Draft], log: str, index: int, prev: bytes, at: datetime
) -> tuple[list[bytes], list[list[tuple[str, str, str]]]]:
    leaves: list[bytes] = []
    openings: list[list[tuple[str, str, str]]] = []
    for i, draft in enumerate(drafts, start=index):
        sealed = {}
        openings.append([])
        for name, text in draft.openings.items():
            value, salt = entry_rules.clip(text, entry_rules.MAX_STRING_BYTES), entry_rules.new_salt()
            sealed[name] = entry_rules.commit(name, value, salt)
            openings[-1].append((name, base64.b64encode(salt).decode(), value))
        leaf = entry_rules.build(
            log=log,
            i=i,
            t=at,
            prev=prev,
            act=draft.act,
            actor=draft.actor,
            data=draft.data,
            sealed=sealed or None,
        )
        leaves.append(leaf)
        prev = entry_rules.leaf_hash(leaf)
    return leaves, openings


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain_value(item) for key, item in value.items()}


def _plain_value(item: Any) -> Any:
    match item:
        case datetime():
            return entry_rules.format_time(item)
        case Mapping():
            return _plain(item)
        case tuple() | list():
            return [_plain_value(part) for part in item]
        case str():
            return redaction.redact(str(item))
        case _:
            return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a ledger's next entry goes: `index` in the log named `log`, at `at` or later, after `prev` (32 bytes)."""

    log: str
    index: int
    prev: bytes
    at: datetime

    @property
    def epoch(self) -> int:
        """The log's epoch."""
        return entry_rules.epoch_of(self.log)


def lock(organization_id: str) -> Place:
    """Keep everybody else from appending to a ledger until the transaction ends, and return where it stands.

    For what must be decided by the ledger's own entries and appended once. It opens no ledger: call it for one that
    has entries. Raises `LedgerUnavailable` where another transaction holds it for five seconds.
    """
    origin = entry_rules.origin(settings.LEDGER_ORIGIN_HOST, organization_id)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT log, next_index, prev, at FROM ledger_begin(%s, %s)", [organization_id, origin]
            )
            log, index, prev, at = cursor.fetchone()
    except DatabaseError as error:
        raise LedgerUnavailable(str(error).partition("\n")[0]) from error
    return Place(log=log, index=index, prev=bytes(prev), at=at)


def reopen(organization_id: str, drafted: Draft, *, log: str, at: datetime) -> None:
    """Append the entry that opens a newer epoch of a ledger: the first of the log named `log`.

    `drafted` is a `ledger.reopened` of `audit.signatures.reopening`, whose data the database checks against the head;
    `at` is that of `lock`. Raises `LedgerUnavailable` where the database refuses it.
    """
    [leaf], [openings] = _chain([drafted], log, 0, entry_rules.genesis_prev(), at)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT ledger_reopen(%s, %s, %s)", [organization_id, leaf, json.dumps(openings)])
    except DatabaseError as error:
        raise LedgerUnavailable(str(error).partition("\n")[0]) from error
    _tell(organization_id, [drafted.act], is_heard=True)


@cache
def public_keys() -> tuple[bytes, ...]:
    """Return the deployment's Ed25519 public keys, 32 bytes each, oldest first (spec LEDGER, Bytes 13).

    Raises `ImproperlyConfigured` without one, and where one is no such key or stands there twice.
    """
    texts = _PEM.findall(settings.LEDGER_PUBLIC_KEY) or [settings.LEDGER_PUBLIC_KEY]
    keys = tuple(_public_key(text) for text in texts)
    if len(set(keys)) < len(keys):
        raise ImproperlyConfigured("LEDGER_PUBLIC_KEY holds a key twice: each once, oldest first.")
    return keys


def _public_key(pem: str) -> bytes:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ImproperlyConfigured(
            "LEDGER_PUBLIC_KEY is missing or no Ed25519 key; run manage.py notary init."
        )
    return key.public_bytes_raw()


def public_key() -> bytes:
    """Return the newest of `public_keys`: new ledgers open with it."""
    return public_keys()[-1]


def verifier_key(log: str) -> str:
    """Return the note verifier key of one ledger, of the newest key (spec LEDGER, Bytes 7)."""
    return note.VerifierKey(log, public_key()).format()


def verifier_keys(log: str) -> list[str]:
    """Return the note verifier keys of one ledger, of every public key of the deployment, oldest first."""
    return [note.VerifierKey(log, key).format() for key in public_keys()]
