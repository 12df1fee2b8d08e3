"""Making deliveries of entries: each endpoint has a cursor, which moves over its organization's ledger exactly once.

The ledger is the outbox. Its entries become visible in the order of their index, because the head is locked until
COMMIT, so that nothing can appear behind a cursor.
"""

import logging
from collections.abc import Sequence

from django.db import connection

from audit import tenancy
from audit.models import Endpoint
from audit.webhooks import patterns, signing

BATCH = 1000
ENDPOINTS = 50
LAGGING = """
    SELECT e.organization_id, e.id FROM audit_endpoint e
    WHERE e.disabled_at IS NULL AND EXISTS (
        SELECT FROM audit_entry a WHERE a.organization_id = e.organization_id
            AND (a.epoch, a.index) > (e.cursor_epoch, e.cursor_index))
    ORDER BY random() LIMIT %s
"""
NEXT = """
    SELECT epoch, index, act FROM audit_entry
    WHERE organization_id = %s AND (epoch, index) > (%s, %s) ORDER BY epoch, index LIMIT %s
"""
INSERT = """
    INSERT INTO audit_delivery (id, organization_id, endpoint_id, epoch, index, act, asked_by, created_at, state,
        attempts, next_attempt_at, claim)
    SELECT g.id, %s, %s, g.epoch, g.index, g.act, '', now(), 'pending', 0, now(), ''
    FROM unnest(%s::text[], %s::smallint[], %s::bigint[], %s::text[]) g (id, epoch, index, act)
    ON CONFLICT DO NOTHING
"""
logger = logging.getLogger(__name__)


def expand() -> bool:
    """Move the cursors that lag, each by one batch at most; return whether there may be more to do."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(LAGGING, [ENDPOINTS])
        lagging = cursor.fetchall()
    moved = [_moved(organization_id, endpoint_id) for organization_id, endpoint_id in lagging]
    return max(moved, default=0) == BATCH or (len(moved) == ENDPOINTS and any(moved))


def _moved(organization_id: str, endpoint_id: str) -> int:
    try:
        return expand_one(organization_id, endpoint_id)
    except Exception:
        # One that can't be read must not keep the others from being heard.
        logger.exception("webhook %s: its entries could not be queued", endpoint_id)
        return 0


def expand_one(organization_id: str, endpoint_id: str) -> int:
    """Move one endpoint's cursor over the next batch, queue what it subscribes to; return how many entries it was.

    The row is locked, so that another worker does the same entries neither again nor out of turn.
    """
    with tenancy.within(organization_id):
        endpoint = (
            Endpoint.objects.select_for_update(skip_locked=True, no_key=True)
            .filter(pk=endpoint_id, disabled_at=None)
            .first()
        )
        if endpoint is None:
            return 0
        with connection.cursor() as cursor:
            cursor.execute(NEXT, [organization_id, endpoint.cursor_epoch, endpoint.cursor_index, BATCH])
            found: list[tuple[int, int, str]] = cursor.fetchall()
        if not found:
            return 0
        queue(endpoint, [place for place in found if patterns.matches(endpoint.acts, place[2])])
        epoch, index, _ = found[-1]
        Endpoint.objects.filter(pk=endpoint_id).update(cursor_epoch=epoch, cursor_index=index)
    return len(found)


def queue(endpoint: Endpoint, entries: Sequence[tuple[int, int, str]]) -> None:
    """Make deliveries of entries (epoch, index, act) to an endpoint, where there are none yet."""
    if not entries:
        return
    epochs, indices, acts = (list(column) for column in zip(*entries, strict=True))
    ids = [signing.message_id(endpoint.id, epoch, index) for epoch, index, _ in entries]
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [endpoint.organization_id, endpoint.id, ids, epochs, indices, acts])


def end_of_log(organization_id: str) -> tuple[int, int]:
    """Return where an organization's ledger ends now: (epoch, index), (1, -1) where it is empty."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT epoch, index FROM audit_entry WHERE organization_id = %s ORDER BY epoch DESC, index DESC LIMIT 1",
            [organization_id],
        )
        row: tuple[int, int] | None = cursor.fetchone()
    return row or (1, -1)
