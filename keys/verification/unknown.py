"""Calls with secrets that nobody knows, or that are none: counted by verifier, network and minute, written each second.

Whoever guesses secrets shows here. Memory stays bounded whatever is sent: at most 1,000 networks an organization and
minute are told apart, the rest is `other`, and while the database is away no more than that is kept.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

import structlog
from psycopg import AsyncConnection

from keys.verdict import Code
from keys.verification.batcher import LOST

EVERY_SECONDS: Final = 1.0
MAX_NETWORKS: Final = 1_000
MAX_KEPT: Final = 10_000
# So many rows a transaction: each ends well within the statement timeout, and what is written stays written.
ROWS: Final = 1_000
OTHER: Final = "other"
IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 56
# Of the networks that are new to a minute, those beyond the thousandth become `other`.
WRITE: Final = """
WITH u AS (
    SELECT organization_id, to_timestamp(minute) AS minute, network, code, calls
      FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::bigint[])
        AS u (organization_id, minute, network, code, calls)
), fresh AS (
    SELECT organization_id, minute, network,
           row_number() OVER (PARTITION BY organization_id, minute ORDER BY network)
           + (SELECT count(DISTINCT x.network) FROM keys_unknowncalls x
               WHERE x.organization_id = f.organization_id AND x.minute = f.minute) AS place
      FROM (SELECT DISTINCT organization_id, minute, network FROM u) f
     WHERE NOT EXISTS (SELECT FROM keys_unknowncalls x WHERE x.organization_id = f.organization_id
                          AND x.minute = f.minute AND x.network = f.network)
)
INSERT INTO keys_unknowncalls AS c (organization_id, minute, network, code, calls)
SELECT u.organization_id, u.minute, CASE WHEN fresh.place > 1000 THEN 'other' ELSE u.network END, u.code, sum(u.calls)
  FROM u LEFT JOIN fresh USING (organization_id, minute, network)
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (organization_id, minute, network, code) DO UPDATE SET calls = c.calls + excluded.calls
"""

# Processes write one after the other: else each would give away the thousand places.
IN_TURN: Final = "SELECT pg_advisory_xact_lock(hashtextextended('keystead unknown calls', 0))"

type Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
type Counts = Counter[tuple[str, int, str, str]]

log = structlog.get_logger("keystead.verification")


def network_of(ip: str | None) -> str:
    """Return the network of an address, /24 or /56; "" where the verifier named no address."""
    if not ip:
        return ""
    address = ip_address(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    prefix = IPV4_PREFIX if address.version == 4 else IPV6_PREFIX  # noqa: PLR2004 - the version of the protocol
    return str(ip_network((address, prefix), strict=False))


class Unknown:
    """The counts of one process, on their way to the database."""

    def __init__(self) -> None:
        self._counts: Counts = Counter()
        self._networks: dict[tuple[str, int], set[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._connect: Connect | None = None

    def start(self, connect: Connect) -> None:
        """Begin to write each second."""
        self._connect = connect
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, having tried to write what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(*LOST):
            connection = await self._flush(None)
            if connection is not None:
                await connection.close()

    def add(self, organization_id: str, network: str, code: Code) -> None:
        """Count one call from a network (`network_of`)."""
        minute = int(time.time()) // 60 * 60
        where = network
        known = self._networks.setdefault((organization_id, minute), set())
        if where not in known and len(known) >= MAX_NETWORKS:
            where = OTHER
        known.add(where)
        place = (organization_id, minute, where, code.value)
        if place not in self._counts and len(self._counts) >= MAX_KEPT:
            place = (organization_id, minute, OTHER, code.value)
        self._counts[place] += 1

    async def _run(self) -> None:
        connection: AsyncConnection[Any] | None = None
        try:
            while True:
                await asyncio.sleep(EVERY_SECONDS)
                try:
                    connection = await self._flush(connection)
                except Exception as error:
                    log.warning("unknown calls could not be written", error=type(error).__name__)
                    if connection is not None:
                        await connection.close()
                    connection = None
        finally:
            if connection is not None:
                await connection.close()

    async def _flush(self, connection: AsyncConnection[Any] | None) -> AsyncConnection[Any] | None:
        """Write what was counted; where that fails, close the connection and keep what is left for the next time."""
        minute = int(time.time()) // 60 * 60
        self._networks = {place: known for place, known in self._networks.items() if place[1] >= minute}
        if not self._counts or self._connect is None:
            return connection
        counts, self._counts = self._counts, Counter()
        try:
            if connection is None or connection.broken or connection.closed:
                connection = await asyncio.wait_for(self._connect(), EVERY_SECONDS)
            for rows in itertools.batched(tuple(counts.items()), ROWS):
                places, calls = zip(*rows, strict=True)
                async with connection.transaction():
                    await connection.execute(IN_TURN.encode())
                    await connection.execute(
                        WRITE.encode(), [*map(list, zip(*places, strict=True)), list(calls)]
                    )
                for place in places:
                    del counts[place]
        except BaseException:
            counts.update(self._counts)
            self._counts = counts
            if connection is not None:
                await connection.close()
            raise
        return connection
