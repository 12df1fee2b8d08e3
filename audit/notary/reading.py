"""What the notary reads of the ledgers: heads all at once, leaves in pages, so that memory stays flat."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from audit import entry as entry_rules
from audit import stored
from audit.errors import EntryInvalid
from audit.notary.state import Signed
from audit.signatures import key_life
from audit.signatures.key_life import KeyEvent

USING = "notary"
PAGE = 4_000
HEADS = "SELECT organization_id, origin, epoch, size, last_hash FROM audit_head ORDER BY organization_id"
LEAVES = """
    SELECT index, leaf FROM audit_entry
    WHERE organization_id = %s AND epoch = %s AND index >= %s AND index < %s ORDER BY index LIMIT %s
"""
EVERYTHING = """
    SELECT organization_id, epoch, index, leaf FROM audit_entry
    WHERE (organization_id, epoch, index) > (%s, %s, %s) ORDER BY organization_id, epoch, index LIMIT %s
"""

KEY_ENTRIES = """
    SELECT e.organization_id, e.epoch, e.index, e.leaf
    FROM unnest(%s::text[], %s::smallint[], %s::bigint[]) l (organization_id, epoch, size)
    JOIN audit_entry e ON e.organization_id = l.organization_id AND e.epoch = l.epoch AND e.index < l.size
        AND e.act = ANY (%s)
    ORDER BY e.organization_id, e.epoch, e.index
"""


class Head(NamedTuple):
    """Where the table says that a ledger ends."""

    organization_id: str
    origin: str
    epoch: int
    size: int
    last_hash: bytes


class Leaf(NamedTuple):
    """An entry's bytes, and where they stand."""

    organization_id: str
    epoch: int
    i: int
    leaf: bytes


def heads() -> list[Head]:
    """Return every ledger's head, by one query whatever their number."""
    return [Head(*row) for row in query(HEADS)]


def leaves(organization_id: str, epoch: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield (index, leaf bytes) of what is there of `first` to `end - 1`, in order; run it in a snapshot."""
    while first < end:
        page = query(LEAVES, [organization_id, epoch, first, end, PAGE])
        yield from page
        if not page:
            return
        first = page[-1][0] + 1


def everything() -> Iterator[list[Leaf]]:
    """Yield all entries of all ledgers in pages, in order of organization, epoch and index; in no one snapshot."""
    after: tuple[Any, ...] = ("", -32_768, -1)
    while page := query(EVERYTHING, [*after, PAGE]):
        yield [Leaf(*row) for row in page]
        after = page[-1][:3]


def announced(logs: Sequence[Signed]) -> dict[str, list[str]]:
    """Return, by origin, the verifier keys that sign these logs, as the entries below each one's size have it."""
    columns = zip(*((s.organization_id, s.epoch, s.point.size) for s in logs), strict=True)
    events: dict[tuple[str, int], list[KeyEvent]] = {}
    for row in query(KEY_ENTRIES, [*(list(column) for column in columns), sorted(key_life.ACTS)]):
        leaf = Leaf(*row)
        with suppress(EntryInvalid):
            if found := key_life.event(entry_rules.parse(leaf.leaf)):
                events.setdefault((leaf.organization_id, leaf.epoch), []).append(found)
    return {s.origin: key_life.signing(events.get((s.organization_id, s.epoch), [])) for s in logs}


def query(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Return the rows of a query over the notary's own login."""
    return stored.query(USING, sql, parameters)
