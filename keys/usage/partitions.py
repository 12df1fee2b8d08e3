"""Days for the calls to come: made ahead when a server starts and each hour by the worker."""

import time
from typing import Final

from django.db import DatabaseError, OperationalError, connection

DAYS_AHEAD: Final = 14
TRIES: Final = 20
PAUSE_SECONDS: Final = 0.5
_MOVED_AT_ONCE: Final = 5_000


def ensure(days: int = DAYS_AHEAD) -> int:
    """Make the partitions of calls from today to `days` ahead, and move calls that came without one to their day.

    Safe at any moment and in any number of processes: who finds another at it leaves the work to them. Verification
    waits a quarter of a second for it at most; where a partition can't be had so quickly, it is tried again. Returns
    how many partitions were made.

    Raises:
        OperationalError: it was not to be had in ten seconds. Nothing is lost: calls go to the default partition.
    """
    _move_left()
    made = _added(days)
    _move_left()
    return made


def _added(days: int) -> int:
    for attempt in range(1, TRIES + 1):
        try:
            return _call("SELECT usage_add_partitions(%s)", days)
        except DatabaseError:
            # Somebody holds the table, or a call came in between: mostly a matter of a moment.
            if attempt == TRIES:
                raise
            _roll_up()
            time.sleep(PAUSE_SECONDS)
    raise OperationalError


def _move_left() -> None:
    while _call("SELECT usage_move_left(%s)", _MOVED_AT_ONCE):
        pass


def _roll_up() -> None:
    """Only what is rolled up may be set aside."""
    _call("SELECT usage_roll_up()")


def _call(statement: str, *parameters: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[int | None] = cursor.fetchone()
    return row[0] or 0
