"""Statements on their way to PostgreSQL and back: prepared once a connection, binary both ways, several in one round
trip.

libpq and the reading of rows are psycopg's; its cursors do the same at four times the cost of a statement, which groups
of calls feel. What goes out between two answers is one transaction, unless `BEGIN` makes it longer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection, OperationalError
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult

from keys.verification.arrays import Column

type Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the name that it is prepared under."""

    name: bytes
    sql: bytes


def statement(name: str, sql: str) -> Statement:
    """Return a statement; each `%s` is a parameter."""
    head, *rest = sql.split("%s")
    numbered = "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))
    return Statement(name.encode(), (head + numbered).encode())


BEGIN: Final = statement("begin", "BEGIN")
COMMIT: Final = statement("commit", "COMMIT")

type Query = tuple[Statement, Sequence[Column]]


class Channel:
    """A connection that is used through `run` alone. After any error it is not to be used again."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        """Take over a connection in autocommit."""
        self._connection = connection
        self._libpq = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._rows = Transformer(connection)
        self._prepared: set[bytes] = set()
        self._libpq.enter_pipeline_mode()

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return not (self._connection.closed or self._connection.broken)

    async def close(self) -> None:
        """End the connection, whatever it is doing."""
        await self._connection.close()

    async def run(self, *queries: Query) -> list[list[Row]]:
        """Send statements together and return the rows of each.

        Raises:
            psycopg.Error: of the first that failed; none of them is in force then.
        """
        is_query: list[bool] = []
        for each, columns in queries:
            if each.name not in self._prepared:
                self._libpq.send_prepare(each.name, each.sql, [column.oid for column in columns])
                is_query.append(False)
            values = [column.body for column in columns]
            formats = [Format.BINARY] * len(values)
            self._libpq.send_query_prepared(each.name, values, formats, result_format=Format.BINARY)
            is_query.append(True)
        self._libpq.pipeline_sync()
        await self._flush()
        results = await self._results()
        self._prepared.update(each.name for each, _ in queries)
        return [self._read(result) for result, wanted in zip(results, is_query, strict=True) if wanted]

    async def _flush(self) -> None:
        while self._libpq.flush():
            await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _results(self) -> list[PGresult]:
        results: list[PGresult] = []
        error: Exception | None = None
        while True:
            while self._libpq.is_busy():
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                self._libpq.consume_input()
            result = self._libpq.get_result()
            if result is None:
                if self._libpq.status != ConnStatus.OK:
                    # There never comes anything else: what came was no answer of PostgreSQL's.
                    raise OperationalError("the connection is lost") from error
                continue
            match result.status:
                case ExecStatus.PIPELINE_SYNC:
                    break
                case ExecStatus.FATAL_ERROR:
                    error = error or error_from_result(result)
                case _:
                    results.append(result)
        if error is not None:
            raise error
        return results

    async def _ready(self, add: Any, remove: Any) -> None:
        """Wait until the socket can be read, or written."""
        future = self._loop.create_future()
        number = self._libpq.socket
        if number < 0:
            raise OperationalError("the connection is closed")
        add(number, _wake, future)
        try:
            await future
        finally:
            remove(number)

    def _read(self, result: PGresult) -> list[Row]:
        if not result.ntuples:
            return []
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
