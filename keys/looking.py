"""When the worker looks at a key next (`keys_due`): what is due by then, in bounded groups, whoever else looks too."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import connection

from audit import tenancy
from keys.models import KeyDue
from keys.models.notice import What


def due_keys(what: What, now: datetime, *, limit: int) -> dict[str, list[str]]:
    """Return the keys to look at, the longest due first, by organization: at most `limit` in all."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        rows = KeyDue.objects.filter(what=what, due_at__lte=now).order_by("due_at")[:limit]
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row.organization_id, []).append(row.key_id)
    return found


def look_again(organization_id: str, what: What, now: datetime) -> None:
    """Have the worker look at all keys of an organization anew: a rule of theirs is another."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE keys_due SET due_at = %s WHERE what = %s AND key_id IN (SELECT key_id FROM keys_due"
            " WHERE organization_id = %s AND what = %s AND due_at > %s ORDER BY key_id FOR UPDATE)",
            [now, what, organization_id, what, now],
        )


def postpone(what: What, times: Mapping[str, datetime | None]) -> None:
    """Note when to look at each key again, None for never; in order of ids, as everybody who takes several rows."""
    over = [key_id for key_id, at in times.items() if at is None]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM keys_due WHERE key_id = ANY (%s) AND what = %s ORDER BY key_id FOR UPDATE",
            [list(times), what],
        )
        cursor.execute(
            "UPDATE keys_due d SET due_at = n.at FROM unnest(%s::text[], %s::timestamptz[]) AS n (key_id, at)"
            " WHERE d.key_id = n.key_id AND d.what = %s AND n.at IS NOT NULL",
            [list(times), list(times.values()), what],
        )
    KeyDue.objects.filter(key_id__in=over, what=what).delete()


def put_off(organization_id: str, what: What, key_ids: Sequence[str], until: datetime) -> None:
    """Leave keys of which a look failed alone for a while, so that they hold nothing else up."""
    with tenancy.within(organization_id):
        postpone(what, dict.fromkeys(key_ids, until))
