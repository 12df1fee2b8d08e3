"""Reading whole ledgers as the notary's login may: in pages, so that any number of entries takes little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from audit.tree import Point
from audit.verify import Head, Opening, Row

PAGE = 500
# As text, because a tampered time may be one that Python has no value for.
_AT = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
ROWS = f"""
    SELECT epoch, index, leaf, act, actor, target, request_id, {_AT.format("at")} FROM audit_entry
    WHERE organization_id = %s AND (epoch, index) > (%s, %s) ORDER BY epoch, index LIMIT %s
"""  # noqa: S608 - constants
OPENINGS = """
    SELECT epoch, index, field, salt, value FROM audit_sealed
    WHERE organization_id = %s AND (epoch, index, field) > (%s, %s, %s) ORDER BY epoch, index, field LIMIT %s
"""
HEAD = f"SELECT origin, epoch, size, last_hash, {_AT.format('last_at')} FROM audit_head WHERE organization_id = %s"  # noqa: S608 - constants
SIGNED = """
    SELECT c.size, c.root FROM audit_checkpoint c JOIN audit_head h USING (organization_id, epoch)
    WHERE organization_id = %s AND c.size > %s ORDER BY c.size LIMIT %s
"""
NEXT_ORGANIZATION = """
    SELECT least(
        (SELECT min(organization_id) FROM audit_head WHERE organization_id > %(after)s),
        (SELECT min(organization_id) FROM audit_entry WHERE organization_id > %(after)s),
        (SELECT min(organization_id) FROM audit_sealed WHERE organization_id > %(after)s))
"""
LOWEST = -32_768


@contextmanager
def snapshot(using: str = "notary") -> Iterator[None]:
    """Read in one view of the database, so that what is appended meanwhile looks like no tampering."""
    with transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def organizations(using: str = "notary") -> Iterator[str]:
    """Yield the id of every organization that has a head, an entry or an opening, in order."""
    after = ""
    while (found := _query(using, NEXT_ORGANIZATION, {"after": after})[0][0]) is not None:
        after = found
        yield found


def head(organization_id: str, using: str = "notary") -> Head | None:
    """Return where a ledger is said to end."""
    for origin, epoch, size, last_hash, last_at in _query(using, HEAD, [organization_id]):
        return Head(origin=origin, epoch=epoch, size=size, last_hash=bytes(last_hash), last_at=last_at)
    return None


def rows(organization_id: str, using: str = "notary", *, epoch: int = 1) -> Iterator[Row]:
    """Yield a ledger's entries in order of epoch and index; run it in a `snapshot`.

    `epoch`: from that one on; what stands in an epoch below the first is yielded as well.
    """
    first = (LOWEST, -1) if epoch == 1 else (epoch, -1)
    for of_epoch, index, leaf, act, actor, target, request_id, at in _pages(
        using, ROWS, organization_id, first
    ):
        yield Row(
            epoch=of_epoch,
            index=index,
            leaf=bytes(leaf),
            act=act,
            actor=actor,
            target=target,
            request_id=request_id,
            at=at,
        )


def openings(organization_id: str, using: str = "notary", *, epoch: int = 1) -> Iterator[Opening]:
    """Yield the values of a ledger's sealed fields in order of epoch and index, from `epoch` on: personal data."""
    first = (LOWEST, -1, "") if epoch == 1 else (epoch, -1, "")
    for of_epoch, index, field, salt, value in _pages(using, OPENINGS, organization_id, first):
        yield Opening(epoch=of_epoch, index=index, field=field, salt=bytes(salt), value=value)


def signed(organization_id: str, using: str = "notary") -> Iterator[Point]:
    """Yield the sizes of a ledger's newest epoch that have a checkpoint, in order; run it in a `snapshot`."""
    for size, root in _pages(using, SIGNED, organization_id, (-1,)):
        yield Point(size, bytes(root))


def _pages(using: str, sql: str, organization_id: str, after: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    page = [after]
    while page:
        page = _query(using, sql, [organization_id, *page[-1][: len(after)], PAGE])
        yield from page


def _query(using: str, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
