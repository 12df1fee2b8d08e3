"""What the notary writes into the database: notes and nodes of what its file holds, its pulse and its alarms."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction

from audit.errors import NotaryRefused
from audit.notary.peaks import Node
from audit.notary.reading import USING
from audit.notary.state import Signed

BATCH = 5_000
# Another root is never overwritten: such a row does not come back, and is an alarm.
CHECKPOINTS = """
    INSERT INTO audit_checkpoint AS c (organization_id, epoch, size, root, note, signed_at, published_at)
    SELECT u.*, %(now)s, %(now)s FROM unnest(%(organizations)s::text[], %(epochs)s::smallint[], %(sizes)s::bigint[],
        %(roots)s::bytea[], %(notes)s::text[]) u
    ON CONFLICT (organization_id, epoch, size) DO UPDATE SET note = EXCLUDED.note, published_at = EXCLUDED.published_at
        WHERE c.root = EXCLUDED.root
    RETURNING organization_id, epoch
"""
NODES = """
    INSERT INTO audit_node AS n (organization_id, epoch, level, index, hash)
    SELECT * FROM unnest(%(organizations)s::text[], %(epochs)s::smallint[], %(levels)s::smallint[],
        %(indexes)s::bigint[], %(hashes)s::bytea[])
    ON CONFLICT (organization_id, epoch, level, index) DO UPDATE SET hash = EXCLUDED.hash
        WHERE n.hash <> EXCLUDED.hash
"""

PULSE = """
    UPDATE audit_notary SET beat_at = %(now)s, swept_at = coalesce(%(swept_at)s, swept_at), alarms = %(alarms)s::jsonb
    WHERE instance = %(instance)s
"""
# Whose row is not ours: only where it has been silent for long, and we were told to.
BEGUN = """
    INSERT INTO audit_notary AS n (id, instance, started_at, beat_at) VALUES (1, %(instance)s, %(now)s, %(now)s)
    ON CONFLICT (id) DO UPDATE SET
        instance = EXCLUDED.instance, started_at = EXCLUDED.started_at, beat_at = EXCLUDED.beat_at
        WHERE n.instance = EXCLUDED.instance OR %(take_over)s AND n.beat_at < %(silent_since)s
    RETURNING alarms::text
"""
SILENT_AFTER = timedelta(seconds=30)


def begin(instance: str, now: datetime, *, take_over: bool) -> list[dict[str, Any]]:
    """Say that this notary runs now; return the alarms that stood when the last one ended.

    Raises `NotaryRefused` where another one's row stands, which beat less than 30 s ago or is not to be taken over.
    """
    parameters = {
        "instance": instance,
        "now": now,
        "take_over": take_over,
        "silent_since": now - SILENT_AFTER,
    }
    found = _query(BEGUN, parameters)
    if not found:
        raise NotaryRefused(
            "another notary signs this database's ledgers. Where it is gone for good, wait 30 s after it ended and "
            "start this one with --take-over"
        )
    alarms: list[dict[str, Any]] = json.loads(found[0][0])
    return alarms


def beat(instance: str, now: datetime, swept_at: datetime | None, alarms: list[dict[str, Any]]) -> None:
    """Say that it lives and what it found. Raises `NotaryRefused` where another one took over."""
    with connections[USING].cursor() as cursor:
        cursor.execute(
            PULSE, {"instance": instance, "now": now, "swept_at": swept_at, "alarms": json.dumps(alarms)}
        )
        if cursor.rowcount != 1:
            raise NotaryRefused("another notary has taken over")


def publish(
    notes: Sequence[tuple[Signed, str]], nodes: Sequence[tuple[Signed, Node]], now: datetime
) -> set[str]:
    """Write notes and nodes in one transaction; return the origins of those notes whose root is the published one."""
    origins = {(signed.organization_id, signed.epoch): signed.origin for signed, _ in notes}
    with transaction.atomic(using=USING):
        for batch in _batches(nodes):
            write_nodes(batch)
        accepted = _query(
            CHECKPOINTS,
            {
                "organizations": [signed.organization_id for signed, _ in notes],
                "epochs": [signed.epoch for signed, _ in notes],
                "sizes": [signed.point.size for signed, _ in notes],
                "roots": [signed.point.root for signed, _ in notes],
                "notes": [text for _, text in notes],
                "now": now,
            },
        )
    return {origins[organization_id, epoch] for organization_id, epoch in accepted}


def write_nodes(nodes: Sequence[tuple[Signed, Node]]) -> None:
    """Write nodes, and over those that stand there otherwise."""
    with connections[USING].cursor() as cursor:
        cursor.execute(NODES, node_arrays(nodes))


def node_arrays(nodes: Sequence[tuple[Signed, Node]]) -> dict[str, Any]:
    """Return nodes column by column, as the statements about them take them."""
    return {
        "organizations": [signed.organization_id for signed, _ in nodes],
        "epochs": [signed.epoch for signed, _ in nodes],
        "levels": [node.level for _, node in nodes],
        "indexes": [node.place for _, node in nodes],
        "hashes": [node.hash for _, node in nodes],
    }


def _batches[T](items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _query(sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connections[USING].cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
