"""A connection beside Django's own: it keeps a snapshot or a lock while the others come and go."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import psycopg
from django.db import connections


def connected() -> psycopg.Connection:
    """Return a new connection of the same login, in no transaction. Close it."""
    database = connections["default"]
    return cast(psycopg.Connection, database.get_new_connection(database.get_connection_params()))


@contextmanager
def lock(name: str) -> Iterator[bool]:
    """Hold a lock until the block ends or the process dies; yield False at once where another one holds it."""
    with closing(connected()) as connection:
        connection.autocommit = True
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"export:{name}"]
        ).fetchone()
        yield bool(row and row[0])
