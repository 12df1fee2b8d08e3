"""Where keys are used from: networks learned from calls as usage is rolled up, and those that are news."""

from typing import Final

from django.db import connection, transaction

from audit import tenancy
from keys.models import KeyNetwork

AT_ONCE: Final = 100_000
TIMEOUT: Final = "10min"


def learn() -> int:
    """Learn from every call of an ended transaction where its key is used from; return how many rows that were.

    In steps of about 100,000 rows, each its own transaction: killed at any instant it loses nothing and learns nothing
    twice. Where another process is at it, this one leaves the work to it.
    """
    looked_at = 0
    while True:
        step = _call("SELECT networks_learn(%s)", AT_ONCE)
        looked_at += step or 0
        if not step or step < AT_ONCE:
            return looked_at


def due() -> list[str]:
    """Return the organizations that have networks to be told of."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        found = KeyNetwork.objects.filter(is_due=True).values_list("organization_id", flat=True)
        return list(found.distinct())


def retain() -> None:
    """Forget networks from which nothing came for 400 days."""
    _call("SELECT networks_retain()")


def _call(statement: str, *parameters: int) -> int | None:
    """Run one function in a transaction of its own, with more time than a page has."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [TIMEOUT])
        cursor.execute(statement, parameters)
        row: tuple[int | None] = cursor.fetchone()
    return row[0]
