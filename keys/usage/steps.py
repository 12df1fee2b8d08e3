"""Running the database's functions that go through calls: each step a transaction, with more time than a page has."""

from datetime import date
from typing import Final

from django.db import connection, transaction

AT_ONCE: Final = 100_000
TIMEOUT: Final = "10min"


def take(statement: str, *parameters: date | int) -> int | None:
    """Run one function in a transaction of its own; return what it does."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [TIMEOUT])
        cursor.execute(statement, parameters)
        row: tuple[int | None] = cursor.fetchone()
    return row[0]


def take_all(statement: str) -> int:
    """Run a function of how many rows to go through, until none are left; return how many rows that were.

    In steps of about 100,000 rows: killed at any instant it loses nothing and does nothing twice. Where another process
    is at it, and the function returns null, this one leaves the work to it.
    """
    done = 0
    while True:
        step = take(statement, AT_ONCE)
        done += step or 0
        if not step or step < AT_ONCE:
            return done
