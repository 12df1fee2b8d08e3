"""The one clock: the database's, so that every process agrees on what has expired."""

from datetime import datetime

from django.db import connections


def now(using: str = "default") -> datetime:
    """Return the database's time at this moment, not the transaction's start, in UTC."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row: tuple[datetime] = cursor.fetchone()
    return row[0]
