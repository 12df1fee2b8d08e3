"""Adding calls to their minutes, hours and days, and letting go what is past keeping; the worker's part of usage."""

import time
from datetime import date
from typing import Final

from django.db import OperationalError, connection, transaction

AT_ONCE: Final = 100_000
TIMEOUT: Final = "10min"
TRIES: Final = 20
PAUSE_SECONDS: Final = 0.5


def roll_up() -> int:
    """Add every call of an ended transaction to the roll-ups; return how many rows of calls that were.

    In steps of about 100,000 rows, each its own transaction: killed at any instant it loses nothing and counts nothing
    twice. Where another process is at it, this one leaves the work to it.
    """
    rolled = 0
    while True:
        step = _call("SELECT usage_roll_up(%s)", AT_ONCE)
        rolled += step or 0
        if not step or step < AT_ONCE:
            return rolled


def retain() -> None:
    """Delete usage that is past its organization's retention, and what else has had its time (`usage_retain`).

    Day by day, each its own transaction: the roll-up waits for none longer than that. A day whose partition is in use
    is left to the next run.
    """
    roll_up()
    _call("SELECT usage_retain()")
    for day in _past_days():
        _retain_day(day)


def _retain_day(day: date) -> None:
    for _ in range(TRIES):
        try:
            _call("SELECT usage_retain_calls(%s)", day)
        except OperationalError:
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _past_days() -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_past_days()")
        return [day for (day,) in cursor.fetchall()]


def _call(statement: str, *parameters: date | int) -> int | None:
    """Run one function in a transaction of its own, with more time than a page has."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [TIMEOUT])
        cursor.execute(statement, parameters)
        row: tuple[int | None] = cursor.fetchone()
    return row[0]
