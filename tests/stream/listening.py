"""Hearing what PostgreSQL tells on the channel of narrowings, as the server's hub does."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests import cluster

CHANNEL = "keystead_narrowed"
QUIET_SECONDS = 0.05


class Listener:
    """A connection of the verification login that listens."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def heard(self) -> list[str]:
        """Return what was told since the last time; what was committed before is among it."""
        self._connection.execute("SELECT 1")
        return [one.payload for one in self._connection.notifies(timeout=QUIET_SECONDS)]

    def hears(self, act: Callable[[], Any]) -> list[str]:
        """Return what was told while `act` ran."""
        self.heard()
        act()
        return self.heard()


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen on this process's clone until the block ends."""
    password = cluster.cluster().password("keystead_verify")
    url = cluster.cluster().url(dbname=cluster.database())
    parts = psycopg.conninfo.conninfo_to_dict(url) | {"user": "keystead_verify", "password": password}
    with psycopg.connect(**parts, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        yield Listener(connection)


@contextmanager
def superuser(*, replica: bool = False) -> Iterator[psycopg.Connection]:
    """Open a superuser's session in autocommit, as psql does; `replica` sets ordinary triggers aside."""
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as connection:
        if replica:
            connection.execute("SET session_replication_role = replica")
        yield connection


def items(payloads: list[str]) -> set[str]:
    """Return the items of some payloads, each of the right form."""
    found = {item for payload in payloads for item in payload.split(",")}
    assert all(re.fullmatch(r"\*|org_[a-z2-7]{20}|key_[a-z2-7]{20} org_[a-z2-7]{20}", item) for item in found)
    return found
