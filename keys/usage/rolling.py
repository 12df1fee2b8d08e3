"""Adding calls to their minutes, hours and days, and letting go what is past keeping; the worker's part of usage."""

import time
from datetime import date
from typing import Final

from django.db import OperationalError, connection

from keys.usage import steps

TRIES: Final = 20
PAUSE_SECONDS: Final = 0.5


def roll_up() -> int:
    """Add every call of an ended transaction to the roll-ups; return how many rows of calls that were.

    In steps (`steps.take_all`): killed at any instant it loses nothing and counts nothing twice.
    """
    return steps.take_all("SELECT usage_roll_up(%s)")


def retain() -> None:
    """Delete usage that is past its organization's retention, and what else has had its time (`usage_retain`).

    Day by day, each its own transaction: the roll-up waits for none longer than that. A day whose partition is in use
    is left to the next run.
    """
    roll_up()
    steps.take("SELECT usage_retain()")
    for day in _past_days():
        _retain_day(day)


def _retain_day(day: date) -> None:
    for _ in range(TRIES):
        try:
            steps.take("SELECT usage_retain_calls(%s)", day)
        except OperationalError:
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _past_days() -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_past_days()")
        return [day for (day,) in cursor.fetchall()]
