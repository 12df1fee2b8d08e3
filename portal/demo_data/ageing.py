"""The one place where the demo tells a time that is not now.

Keys that were made months ago, have expired or lie idle can't be made by waiting. `as_of` lets the services of keys
read another clock while they make them, so that every rule and every trigger judges them as on that day. When a key
was last used is written by the verification's own login, as verification does. The ledger keeps the database's
clock: its entries say, truly, that all this was written when the demo was made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections

from keys import clock
from keys.verification import DATABASE


@dataclass(frozen=True, slots=True)
class Use:
    """The last use of one version of a key's secret."""

    key_id: str
    version: int
    at: datetime
    ip: str


@contextmanager
def as_of(moment: datetime) -> Iterator[None]:
    """Let the services of keys take `moment` for the present until the block ends."""
    real = clock.now
    setattr(clock, "now", lambda using="default": moment)  # noqa: ARG005, B010 - a plain assignment is no function
    try:
        yield
    finally:
        setattr(clock, "now", real)  # noqa: B010


def write_uses(uses: Sequence[Use]) -> None:
    """Write when and from where keys were last used, where nothing is written yet."""
    columns: list[Any] = [
        [use.key_id for use in uses],
        [use.version for use in uses],
        [use.at for use in uses],
        [use.ip for use in uses],
    ]
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(
            "UPDATE keys_keyuse u SET last_used_at = n.at, last_used_ip = n.ip"
            " FROM (SELECT DISTINCT ON (key_id) * FROM unnest(%s::text[], %s::int[], %s::timestamptz[], %s::inet[])"
            " AS n (key_id, version, at, ip) ORDER BY key_id, at DESC) n"
            " WHERE u.key_id = n.key_id AND u.last_used_at IS NULL",
            columns,
        )
        cursor.execute(
            "UPDATE keys_secretuse u SET last_used_at = n.at"
            " FROM unnest(%s::text[], %s::int[], %s::timestamptz[]) AS n (key_id, version, at)"
            " WHERE u.key_id = n.key_id AND u.version = n.version AND u.last_used_at IS NULL",
            columns[:3],
        )
