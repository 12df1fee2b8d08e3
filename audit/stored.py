"""Reading whole ledgers as the notary's login may: in pages, so that any number of entries takes little memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from django.db import connections, transaction

from audit.tree import Point
from audit.verify import Head, Opening, Row

PAGE = 500
# As text, because a tampered time may be one that Python has no value for.
_AT = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
_ROWS = f"""
    SELECT organization_id <= %s, organization_id, epoch, index, leaf, act, actor, target, request_id,
        {_AT.format("at")}
    FROM audit_entry WHERE {{}} ORDER BY organization_id, epoch, index LIMIT %s
"""  # noqa: S608 - constants
_OPENINGS = """
    SELECT organization_id <= %s, organization_id, epoch, index, field, salt, value
    FROM audit_sealed WHERE {} ORDER BY organization_id, epoch, index, field LIMIT %s
"""
# Of one ledger alone: nothing in another's rows can make that fail.
ROWS = _ROWS.format("organization_id = %s AND (epoch, index) > (%s, %s)")
OPENINGS = _OPENINGS.format("organization_id = %s AND (epoch, index, field) > (%s, %s, %s)")
# From one on. Given an upper bound, PostgreSQL may take the index of times and sort a whole ledger for each page.
ROWS_ON = _ROWS.format("(organization_id, epoch, index) > (%s, %s, %s)")
OPENINGS_ON = _OPENINGS.format("(organization_id, epoch, index, field) > (%s, %s, %s, %s)")
HEADS = f"""
    SELECT organization_id, origin, epoch, size, last_hash, {_AT.format("last_at")} FROM audit_head
    WHERE organization_id = ANY (%s)
"""  # noqa: S608 - constants
SIGNED = """
    SELECT true, c.size, c.root FROM audit_checkpoint c JOIN audit_head h USING (organization_id, epoch)
    WHERE organization_id = %s AND c.size > %s ORDER BY c.size LIMIT %s
"""
NEXT_ORGANIZATION = """
    SELECT least(
        (SELECT min(organization_id) FROM audit_head WHERE organization_id > %(after)s),
        (SELECT min(organization_id) FROM audit_entry WHERE organization_id > %(after)s),
        (SELECT min(organization_id) FROM audit_sealed WHERE organization_id > %(after)s))
"""
LOWEST = -32_768


class Ledger(NamedTuple):
    """One ledger as the tables hold it; its streams are read before the next one's, each once."""

    organization_id: str
    head: Head | None
    rows: Iterator[Row]
    openings: Iterator[Opening]


@contextmanager
def snapshot(using: str = "notary") -> Iterator[None]:
    """Read in one view of the database, so that what is appended meanwhile looks like no tampering."""
    with transaction.atomic(using=using):
        query(using, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def organizations(using: str = "notary") -> Iterator[str]:
    """Yield the id of every organization that has a head, an entry or an opening, in order."""
    after = ""
    while (found := query(using, NEXT_ORGANIZATION, {"after": after})[0][0]) is not None:
        after = found
        yield found


def head(organization_id: str, using: str = "notary") -> Head | None:
    """Return where a ledger is said to end."""
    return _heads([organization_id], using).get(organization_id)


def rows(organization_id: str, using: str = "notary", *, epoch: int = 1) -> Iterator[Row]:
    """Yield a ledger's entries in order of epoch and index; run it in a `snapshot`.

    `epoch`: from that one on; what stands in an epoch below the first is yielded as well.
    """
    first = LOWEST if epoch == 1 else epoch
    return (row for _, row in _rows(using, ROWS, (organization_id, first, -1), organization_id))


def openings(organization_id: str, using: str = "notary", *, epoch: int = 1) -> Iterator[Opening]:
    """Yield the values of a ledger's sealed fields in order of epoch and index, from `epoch` on: personal data."""
    first = LOWEST if epoch == 1 else epoch
    after = (organization_id, first, -1, "")
    return (opening for _, opening in _openings(using, OPENINGS, after, organization_id))


def ledger(organization_id: str, using: str = "notary", *, epoch: int = 1) -> Ledger:
    """Return one ledger alone, from `epoch` on; run it in a `snapshot`."""
    return Ledger(
        organization_id,
        head(organization_id, using),
        rows(organization_id, using, epoch=epoch),
        openings(organization_id, using, epoch=epoch),
    )


def ledgers(organizations: Sequence[str], using: str = "notary") -> Iterator[Ledger]:
    """Yield ledgers that follow upon each other, read together: a small one costs few queries of its own.

    Run it in a `snapshot`. What makes reading fail is of one of them or of the next: alone, each one is known.
    """
    first, last = organizations[0], organizations[-1]
    heads = _heads(organizations, using)
    rows = _Beside(organizations, _rows(using, ROWS_ON, (first, LOWEST, -1), last))
    openings = _Beside(organizations, _openings(using, OPENINGS_ON, (first, LOWEST, -1, ""), last))
    for each in organizations:
        yield Ledger(each, heads.get(each), rows.of(each), openings.of(each))


def signed(organization_id: str, using: str = "notary") -> Iterator[Point]:
    """Yield the sizes of a ledger's newest epoch that have a checkpoint, in order; run it in a `snapshot`."""
    for size, root in _pages(using, SIGNED, (-1,), organization_id):
        yield Point(size, root)


def query(using: str, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Return the rows of a query of ours, read in binary: a third of the time for leaves."""
    connection = connections[using]
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        cursor.execute(sql.encode(), parameters, binary=True)
        return cursor.fetchall() if cursor.description else []


class _Beside[T]:
    """A stream of (organization, what it has), handed out by organization, in the order of a list of them."""

    def __init__(self, organizations: Sequence[str], stream: Iterator[tuple[str, T]]) -> None:
        self.place = {each: place for place, each in enumerate(organizations)}
        self.groups = groupby(stream, key=itemgetter(0))
        self.next = next(self.groups, None)

    def of(self, organization_id: str) -> Iterator[T]:
        """Yield what one of them has; what an unlisted one has is left out."""
        while self.next and self.place.get(self.next[0], -1) < self.place[organization_id]:
            self.next = next(self.groups, None)
        if self.next and self.next[0] == organization_id:
            yield from (found for _, found in self.next[1])


def _heads(organizations: Sequence[str], using: str) -> dict[str, Head]:
    return {
        who: Head(origin=origin, epoch=epoch, size=size, last_hash=last_hash, last_at=last_at)
        for who, origin, epoch, size, last_hash, last_at in query(using, HEADS, [list(organizations)])
    }


def _rows(using: str, sql: str, after: tuple[str, int, int], last: str) -> Iterator[tuple[str, Row]]:
    for who, epoch, index, leaf, act, actor, target, request_id, at in _pages(using, sql, after, last):
        yield (
            who,
            Row(
                epoch=epoch,
                index=index,
                leaf=leaf,
                act=act,
                actor=actor,
                target=target,
                request_id=request_id,
                at=at,
            ),
        )


def _openings(
    using: str, sql: str, after: tuple[str, int, int, str], last: str
) -> Iterator[tuple[str, Opening]]:
    for who, epoch, index, field, salt, value in _pages(using, sql, after, last):
        yield who, Opening(epoch=epoch, index=index, field=field, salt=salt, value=value)


def _pages(using: str, sql: str, after: tuple[Any, ...], last: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows until one says that it is of another organization than those up to `last`."""
    full = True
    while full:
        page = query(using, sql, [last, *after, PAGE])
        for is_within, *found in page:
            if not is_within:
                return
            yield tuple(found)
        full = len(page) == PAGE
        after = page[-1][1 : 1 + len(after)] if page else after
