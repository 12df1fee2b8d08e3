"""The offline bundle: one log with its newest checkpoint, for anybody to check without us (spec LEDGER, Bytes 14).

A zip of `vkeys`, `checkpoint`, optionally `old-checkpoint`, `entries.jsonl` and `sealed.jsonl`, written as a stream:
a million entries take no more memory than a thousand. All of it is read in one snapshot of the database, the checkpoint
too. An opening that is missing there was erased by an entry that stands in the same snapshot; where that entry lies
behind the checkpoint, a bundle would lack an opening without saying why, so that none is made until the notary has
signed that far. What is erased while a bundle is being written changes nothing in it.
"""

import base64
import json
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any, Final, cast

import psycopg

from audit.acts import Act
from audit.erasing import erasures
from audit.errors import BundleUnavailable
from audit.exports import apart
from audit.signatures import verifier_keys

PAGE: Final = 2000
RETRY_SECONDS: Final = 5
# Hashes and salts, most of the bytes, do not get smaller however long one tries.
EFFORT: Final = 3
# Who reads too slowly holds a snapshot for so long and no longer: PostgreSQL can't clean up behind it.
MOST_IDLE: Final = "60s"
NEWEST: Final = """
    SELECT epoch, size, note, signed_at FROM audit_checkpoint
    WHERE organization_id = %s AND (%s::smallint IS NULL OR epoch = %s) ORDER BY epoch DESC, size DESC LIMIT 1
"""
ERASED_BEHIND: Final = """
    SELECT epoch, leaf FROM audit_entry
    WHERE organization_id = %s AND act = %s AND (epoch, index) >= (%s, %s) ORDER BY epoch, index
"""
ENTRIES: Final = """
    SELECT leaf FROM audit_entry WHERE organization_id = %s AND epoch = %s AND index < %s ORDER BY index
"""
OPENINGS: Final = """
    SELECT field, index, salt, value FROM audit_sealed
    WHERE organization_id = %s AND epoch = %s AND index < %s ORDER BY index, field COLLATE "C"
"""

type Row = tuple[Any, ...]
# Called with the number of entries written so far.
type Told = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a bundle will hold: the log's epoch, the number of its entries, and the signed notes as published."""

    organization_id: str
    epoch: int
    size: int
    note: str
    signed_at: datetime
    vkeys: tuple[str, ...]
    old_note: str = ""


class Bundle(Iterator[bytes]):
    """The bytes of one bundle, in pieces. It holds a connection of its own until it is closed, or read to its end.

    `entries` and `openings` count what was written so far. It may be read by another thread than the one that opened
    it, by one at a time.
    """

    def __init__(self, connection: psycopg.Connection, contents: Contents, told: Told) -> None:
        self.contents = contents
        self.entries = 0
        self.openings = 0
        self._connection = connection
        self._told = told
        self._pieces = self._written()

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Let the connection go, and with it the snapshot; an end that was not reached leaves no whole zip."""
        self._pieces.close()
        self._connection.close()

    def _written(self) -> Generator[bytes]:
        sink = _Sink()
        contents = self.contents
        with zipfile.ZipFile(cast(Any, sink), "w") as file:
            file.writestr(self._member("vkeys"), "".join(f"{vkey}\n" for vkey in contents.vkeys))
            file.writestr(self._member("checkpoint"), contents.note)
            if contents.old_note:
                file.writestr(self._member("old-checkpoint"), contents.old_note)
            # How long they get is not known before, and may be more than a zip of the old kind holds.
            with file.open(self._member("entries.jsonl"), "w", force_zip64=True) as member:
                for page in self._pages("entries", ENTRIES):
                    member.write(b"".join([bytes(leaf) + b"\n" for (leaf,) in page]))
                    self.entries += len(page)
                    self._told(self.entries)
                    yield from sink.taken()
            with file.open(self._member("sealed.jsonl"), "w", force_zip64=True) as member:
                for page in self._pages("openings", OPENINGS):
                    member.write("".join([_opening(*row) for row in page]).encode())
                    self.openings += len(page)
                    self._told(self.entries)
                    yield from sink.taken()
        yield from sink.taken()
        self._connection.close()

    def _pages(self, name: str, sql: str) -> Iterator[list[Row]]:
        contents = self.contents
        with self._connection.cursor(name, binary=True) as cursor:
            cursor.execute(cast(Any, sql), [contents.organization_id, contents.epoch, contents.size])
            while page := cursor.fetchmany(PAGE):
                yield page

    def _member(self, name: str) -> zipfile.ZipInfo:
        # The checkpoint's own time: the same log at the same checkpoint is the same file.
        at = self.contents.signed_at.astimezone(UTC)
        info = zipfile.ZipInfo(name, date_time=at.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.compress_level = EFFORT
        info.external_attr = 0o600 << 16
        return info


def open_bundle(
    organization_id: str, *, epoch: int | None = None, old_note: str = "", told: Told = lambda _: None
) -> Bundle:
    """Begin a bundle of the log of one epoch, the newest unless told, up to its newest checkpoint.

    Run it within the organization (`tenancy.within`); reading goes on after that transaction. Close what it returns.
    It writes nothing: whoever hands it out records `export.made` first. The bytes hold personal data.

    Args:
        organization_id: whose log.
        epoch: from 1.
        old_note: an older checkpoint of that log, as it was signed, to put beside the newest one; "" for none.
        told: hears of the progress, at most once for 2,000 entries.

    Raises:
        BundleUnavailable: nothing of that log is signed, or an erasure is not signed yet; it says when to ask again.
    """
    connection = apart.connected()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        contents = _contents(connection, organization_id, epoch, old_note)
    except BaseException:
        connection.close()
        raise
    return Bundle(connection, contents, told)


def _contents(
    connection: psycopg.Connection, organization_id: str, epoch: int | None, old_note: str
) -> Contents:
    connection.execute(
        "SELECT set_config('app.organization', %s, true),"
        " set_config('idle_in_transaction_session_timeout', %s, true)",
        [organization_id, MOST_IDLE],
    )
    row = connection.execute(cast(Any, NEWEST), [organization_id, epoch, epoch]).fetchone()
    if row is None:
        raise BundleUnavailable("The notary has not signed this log yet.", retry_seconds=RETRY_SECONDS)
    found, size, signed, signed_at = row
    _refuse_unsaid_erasures(connection, organization_id, found, size)
    return Contents(
        organization_id=organization_id,
        epoch=found,
        size=size,
        note=signed,
        signed_at=signed_at,
        # After the checkpoint: a key is announced before it signs.
        vkeys=tuple(verifier_keys.published(organization_id, found)),
        old_note=old_note,
    )


def _refuse_unsaid_erasures(
    connection: psycopg.Connection, organization_id: str, epoch: int, size: int
) -> None:
    """Refuse a bundle that would lack openings which no entry in it erased."""
    with connection.cursor("erasures", binary=True) as cursor:
        cursor.execute(cast(Any, ERASED_BEHIND), [organization_id, Act.LEDGER_ERASURE, epoch, size])
        for stands_in, leaf in cursor:
            if stands_in == epoch:
                raise BundleUnavailable(
                    "Personal data was erased just now, and the notary has yet to sign the entry that says so.",
                    retry_seconds=RETRY_SECONDS,
                )
            if _epoch_erased(bytes(leaf), stands_in) == epoch:
                raise BundleUnavailable(
                    f"Personal data of epoch {epoch} was erased after that log had ended: a bundle of it would lack "
                    "values without saying why. Its entries can be had as CSV and JSON lines.",
                    retry_seconds=None,
                )


def _epoch_erased(leaf: bytes, stands_in: int) -> int | None:
    """Return the epoch whose data an erasure names; None for bytes that are no entry."""
    try:
        named = erasures.read(json.loads(leaf)["data"], stands_in)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return named.epoch if named else None


def _opening(field: str, index: int, salt: bytes, value: str) -> str:
    """Return a line: the RFC 8785 form, whose strings are written as Python's JSON writes them without ASCII alone."""
    encoded = base64.b64encode(salt).decode()
    return (
        f'{{"field":{encode_basestring(field)},"i":{index},"salt":"{encoded}",'
        f'"value":{encode_basestring(value)}}}\n'
    )


class _Sink:
    """Where the zip is written: nothing can be taken back, so that sizes stand behind each member."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        """Keep a piece."""
        self.pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Do nothing: what is kept is taken."""

    def taken(self) -> Iterator[bytes]:
        """Yield what was written since the last time, in one piece, and forget it."""
        if self.pieces:
            piece, self.pieces = b"".join(self.pieces), []
            yield piece
