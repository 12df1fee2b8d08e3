"""What a superuser may do to a stored ledger, drawn at random: described first, as values, and then done.

Each is one act, with what its doer would do beside it: moving the other entries, so that no index is missing.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests import ledgers

# Out of the way of every index while rows are moved.
FAR = 1_000_000_000
PRINTABLE = range(0x20, 0x7F)


@dataclass(frozen=True, kw_only=True)
class Tampering:
    """One act on the log of an organization's epoch.

    Args:
        kind: flip, opening, delete, swap, insert or cut.
        index: of the entry that it is done to, or the size that a cut leaves.
        other: the entry that is swapped with it.
        place: of a changed byte, as a part of the whole from 0 to 1.
        bit: of that byte, 0 to 7.
        closes_ranks: whether the entries behind move up, or the indexes show the gap.
        fits_head: whether the head is made to count what is left, and names the last of it; a verifier that knows no
            checkpoint can't find that where it is the end which was cut.
    """

    kind: str
    index: int
    other: int = 0
    place: float = 0
    bit: int = 0
    closes_ranks: bool = False
    fits_head: bool = False


def draw(chance: random.Random, size: int, *, fits_head: bool = False) -> Tampering:
    """Describe one tampering with a log of `size` entries, at least 4, all of them signed."""
    kind = chance.choice(("flip", "flip", "opening", "delete", "swap", "insert", "cut"))
    index = chance.randrange(size)
    if kind == "flip":
        return Tampering(kind=kind, index=index, place=chance.random(), bit=chance.randrange(8))
    if kind == "opening":
        return Tampering(
            kind=kind, index=chance.randrange(1, size), place=chance.random(), bit=chance.randrange(8)
        )
    if kind == "delete":
        return Tampering(kind=kind, index=index, closes_ranks=chance.random() < 0.5, fits_head=fits_head)
    if kind == "swap":
        one, other = sorted(chance.sample(range(size), 2))
        return Tampering(kind=kind, index=one, other=other)
    if kind == "insert":
        return Tampering(kind=kind, index=chance.randrange(1, size), closes_ranks=True, fits_head=fits_head)
    return Tampering(kind=kind, index=chance.randrange(1, size), fits_head=fits_head)


def apply(organization_id: str, tampering: Tampering, *, epoch: int = 1) -> None:
    """Do it, as a superuser who has disabled the triggers; the triggers are as they were afterwards."""
    with ledgers.without_triggers() as connection:
        done_to(connection, organization_id, tampering, epoch=epoch)


def done_to(
    connection: psycopg.Connection, organization_id: str, tampering: Tampering, *, epoch: int = 1
) -> None:
    """Do it over the connection of one whom no trigger hinders."""
    log = _Log(connection, organization_id, epoch)
    acts: dict[str, Callable[[_Log, Tampering], None]] = {
        "flip": _flip,
        "opening": _opening,
        "delete": _delete,
        "swap": _swap,
        "insert": _insert,
        "cut": _cut,
    }
    acts[tampering.kind](log, tampering)
    if tampering.fits_head:
        log.fit_head()


class _Log:
    """The rows of one log."""

    def __init__(self, connection: psycopg.Connection, organization_id: str, epoch: int) -> None:
        self.connection = connection
        self.key = (organization_id, epoch)

    def run(self, statement: str, *values: Any) -> psycopg.Cursor[Any]:
        """Run a statement in which `$log` is the condition for this log; the values come before it."""
        sql = statement.replace("$log", "organization_id = %s AND epoch = %s")
        return self.connection.execute(sql.encode(), [*values, *self.key])

    def move(self, table: str, first: int, by: int) -> None:
        """Give the rows from `first` on other indexes."""
        self.run(f"UPDATE {table} SET index = index + %s WHERE index >= %s AND $log", FAR, first)
        self.run(f"UPDATE {table} SET index = index - %s WHERE index >= %s AND $log", FAR - by, FAR)

    def fit_head(self) -> None:
        """Make the head say what the rows say."""
        self.run(
            "UPDATE audit_head h SET size = last.index + 1, last_at = last.at, last_hash = "
            "sha256('\\x00'::bytea || last.leaf) FROM (SELECT index, at, leaf FROM audit_entry WHERE "
            f"organization_id = '{self.key[0]}' AND epoch = {self.key[1]} ORDER BY index DESC LIMIT 1) last WHERE $log"
        )


def _flip(log: _Log, tampering: Tampering) -> None:
    (leaf,) = log.run("SELECT leaf FROM audit_entry WHERE index = %s AND $log", tampering.index).fetchone()
    changed = bytearray(leaf)
    changed[int(tampering.place * len(changed))] ^= 1 << tampering.bit
    log.run("UPDATE audit_entry SET leaf = %s WHERE index = %s AND $log", bytes(changed), tampering.index)


def _opening(log: _Log, tampering: Tampering) -> None:
    """Flip a bit of a sealed value or its salt; where the value is no text then, of the salt."""
    found = log.run(
        "SELECT field, salt, value FROM audit_sealed WHERE index = %s AND $log ORDER BY field",
        tampering.index,
    ).fetchall()
    field, salt, value = found[int(tampering.place * len(found))]
    texts, salts = bytearray(value.encode()), bytearray(salt)
    place = int(tampering.place * len(texts))
    if tampering.bit % 2 and texts[place] ^ 1 in PRINTABLE:
        texts[place] ^= 1
    else:
        salts[int(tampering.place * len(salts))] ^= 1 << tampering.bit
    log.run(
        "UPDATE audit_sealed SET value = %s, salt = %s WHERE index = %s AND field = %s AND $log",
        texts.decode(),
        bytes(salts),
        tampering.index,
        field,
    )


def _delete(log: _Log, tampering: Tampering) -> None:
    for table in ("audit_sealed", "audit_entry"):
        log.run(f"DELETE FROM {table} WHERE index = %s AND $log", tampering.index)
        if tampering.closes_ranks:
            log.move(table, tampering.index + 1, -1)


def _swap(log: _Log, tampering: Tampering) -> None:
    for table in ("audit_entry", "audit_sealed"):
        for old, new in ((tampering.index, FAR), (tampering.other, tampering.index), (FAR, tampering.other)):
            log.run(f"UPDATE {table} SET index = %s WHERE index = %s AND $log", new, old)


def _insert(log: _Log, tampering: Tampering) -> None:
    """Put a copy of the entry before it in, that says it stands here; the others move down."""
    for table in ("audit_sealed", "audit_entry"):
        log.move(table, tampering.index, 1)
    columns = "act, actor, target, request_id, at"
    (leaf,) = log.run(
        "SELECT leaf FROM audit_entry WHERE index = %s AND $log", tampering.index - 1
    ).fetchone()
    copied = re.sub(rb'"i":[0-9]+', b'"i":%d' % tampering.index, bytes(leaf), count=1)
    log.run(
        f"INSERT INTO audit_entry (organization_id, epoch, index, leaf, {columns}) SELECT organization_id, epoch, %s, "
        f"%s, {columns} FROM audit_entry WHERE index = %s AND $log",
        tampering.index,
        copied,
        tampering.index - 1,
    )


def _cut(log: _Log, tampering: Tampering) -> None:
    for table in ("audit_sealed", "audit_entry"):
        log.run(f"DELETE FROM {table} WHERE index >= %s AND $log", tampering.index)
