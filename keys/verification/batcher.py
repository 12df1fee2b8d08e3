"""Coalescing: calls that arrive while statements are in flight wait, and one group of statements serves them all.

Nothing here knows of keys. A full queue and a slow database are told at once and within the second; a group that fails
is done again in halves, so that one poisoned call harms no other.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import psycopg
import structlog

from keys.errors import Unavailable
from keys.verification.channel import Channel

LANES: Final = 2
GATHER_SECONDS: Final = 0.001
HELP_SECONDS: Final = 0.02
MAX_GROUP: Final = 128
MAX_WAITING: Final = 2_000
# A call is answered, if only with 503, within a second of its arrival.
PATIENCE_SECONDS: Final = 0.9
SWEEP_SECONDS: Final = 0.05
RECONNECT_SECONDS: Final = (0.05, 1.0)
# What says nothing about a call, only that the database can't serve it now.
LOST: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # A migration has changed what a prepared statement returns; on a new connection it is prepared anew.
    psycopg.NotSupportedError,
    OSError,
    TimeoutError,
)

log = structlog.get_logger("keystead.verification")


class Waiting[Ask, Answer]:
    """A call on its way: what is asked, since when, and who waits for the answer."""

    __slots__ = ("ask", "future", "since")

    def __init__(self, ask: Ask, future: asyncio.Future[Answer], since: float) -> None:
        self.ask = ask
        self.future = future
        self.since = since

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


type Connect = Callable[[], Awaitable[Channel]]
type Serve[Ask, Answer] = Callable[[Channel, Sequence[Ask]], Awaitable[Sequence[Answer]]]


class Batcher[Ask, Answer]:
    """Serve calls in groups over a few connections, each with one group in flight."""

    def __init__(self, connect: Connect, serve: Serve[Ask, Answer], *, lanes: int = LANES) -> None:
        """`connect` opens a connection in autocommit; `serve` answers a group, in its order."""
        self._connect = connect
        self._serve = serve
        self._lanes = lanes
        self._queue: deque[Waiting[Ask, Answer]] = deque()
        self._flying: dict[int, Sequence[Waiting[Ask, Answer]]] = {}
        self._arrived = asyncio.Event()
        self._wanted = 0
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: dict[int, Channel] = {}
        self._serving: set[asyncio.Task[Sequence[Answer]]] = set()
        self._is_open = False

    async def start(self) -> None:
        """Begin to serve; connections are opened as they are needed."""
        self._is_open = True
        self._tasks = [asyncio.create_task(self._lane(number)) for number in range(self._lanes)]
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def stop(self) -> None:
        """End all lanes; whoever still waits is told that the service is unavailable."""
        self._is_open = False
        ending = [*self._tasks, *self._serving]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for connection in self._connections.values():
            await _close(connection)
        self._fail(self._queue)
        self._queue.clear()

    async def submit(self, ask: Ask) -> Answer:
        """Return the answer.

        Raises:
            Unavailable: the queue is full, the database does not answer in time, or all has ended.
        """
        if not self._is_open or len(self._queue) >= MAX_WAITING:
            raise Unavailable
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(ask, future, time.monotonic()))
        self._arrived.set()
        if len(self._queue) >= self._wanted:
            self._enough.set()
        return await future

    async def _lane(self, number: int) -> None:
        pause = RECONNECT_SECONDS[0]
        last = 0
        while True:
            await self._arrived.wait()
            if number == 0:
                await self._gather(last)
            elif not await self._is_needed():
                continue
            group = self._take()
            last = len(group)
            if not group:
                continue
            self._flying[number] = group
            try:
                await self._answer(number, group)
                pause = RECONNECT_SECONDS[0]
            except LOST as error:
                log.warning("verification lost its database", error=type(error).__name__)
                self._fail(group)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_SECONDS[1])
            finally:
                # Nobody waits on after the end, whatever it was.
                self._fail(self._flying.pop(number))

    async def _gather(self, last: int) -> None:
        """Let calls join that are about to arrive: what is in the sockets already, and for a millisecond at most so
        many as were answered just now, whose clients are likely to ask again."""
        await asyncio.sleep(0)
        if len(self._queue) < last:
            self._wanted = last
            self._enough.clear()
            timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._enough.set)
            await self._enough.wait()
            timer.cancel()
            self._wanted = 0

    async def _is_needed(self) -> bool:
        """Tell whether the first lane leaves calls waiting, because its database is slow: then another one helps."""
        await asyncio.sleep(HELP_SECONDS)
        return bool(self._queue) and self._queue[0].since < time.monotonic() - HELP_SECONDS

    def _take(self) -> list[Waiting[Ask, Answer]]:
        """Take the calls that wait, oldest first; who has given up meanwhile is left out."""
        group: list[Waiting[Ask, Answer]] = []
        while self._queue and len(group) < MAX_GROUP:
            call = self._queue.popleft()
            if not call.future.done():
                group.append(call)
        if not self._queue:
            self._arrived.clear()
        return group

    async def _answer(self, number: int, group: Sequence[Waiting[Ask, Answer]]) -> None:
        """Answer a group. Raises what is in `LOST`, and nothing else."""
        try:
            answers = await self._ask(number, [call.ask for call in group])
        except LOST:
            raise
        except Exception as error:
            if len(group) == 1:
                log.exception("verification of one call failed", error=type(error).__name__)
                group[0].fail(error)
                return
            middle = len(group) // 2
            await self._answer(number, group[:middle])
            await self._answer(number, group[middle:])
            return
        for call, answer in zip(group, answers, strict=True):
            if not call.future.done():
                call.future.set_result(answer)

    async def _ask(self, number: int, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Let a group be served on a lane's connection, which is not used again if anything goes wrong."""
        connection = self._connections.pop(number, None)
        if connection is None or not connection.is_usable:
            connection = await asyncio.wait_for(self._connect(), PATIENCE_SECONDS)
        self._connections[number] = connection
        task = asyncio.create_task(self._serve_or_close(connection, asks))
        self._serving.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if not done or task.exception() is not None:
            del self._connections[number]
        if not done:
            # A database that hangs does not hear either that it is no longer wanted: the lane does not wait for that.
            task.cancel()
            raise TimeoutError
        return task.result()

    async def _serve_or_close(self, connection: Channel, asks: Sequence[Ask]) -> Sequence[Answer]:
        try:
            return await self._serve(connection, asks)
        except BaseException:
            await _close(connection)
            raise

    def _forget(self, task: asyncio.Task[Sequence[Answer]]) -> None:
        self._serving.discard(task)
        if not task.cancelled():
            # Else the loop would complain that nobody looked.
            task.exception()

    async def _sweep(self) -> None:
        """Tell those who have waited too long, in the queue or on a lane whose database hangs."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            late = time.monotonic() - PATIENCE_SECONDS
            for group in (self._queue, *self._flying.values()):
                self._fail([call for call in group if call.since < late])

    @staticmethod
    def _fail(calls: Iterable[Waiting[Ask, Answer]]) -> None:
        for call in calls:
            call.fail(Unavailable())


async def _close(connection: Channel) -> None:
    with contextlib.suppress(*LOST):
        await connection.close()
