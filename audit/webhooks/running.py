"""Delivering, for as long as there is something to do: one loop in each worker, many attempts at once.

The attempts are asynchronous, so that a receiver that keeps silent costs a place and no thread; the database is asked
in threads, and no transaction is open while an attempt runs. What one organization and one endpoint may have running
at once is bounded (`claims`): a dead endpoint, or a thousand of them, delay nobody else's.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from django.db import close_old_connections, connections
from django.utils import timezone

from audit.webhooks import claims, expansion, guard
from audit.webhooks.claims import Claimed, Prepared
from audit.webhooks.sending import Attempt

PLACES: Final = guard.THREADS
DATABASE_THREADS: Final = 4
# Retries that are due so soon are waited for: the sweep by the clock comes every ten seconds.
STAYS: Final = timedelta(seconds=12)
LOOKS_AGAIN_SECONDS: Final = 1.0
logger = logging.getLogger(__name__)


async def run() -> None:
    """Deliver until nothing is due for a while; where this process does so already, wake it up and return."""
    if _loops.get(asyncio.get_running_loop()) is None:
        await Loop().run()
    else:
        _loops[asyncio.get_running_loop()].awake.set()


class Loop:
    """One process's delivering."""

    def __init__(self, stays: timedelta = STAYS) -> None:
        self.stays = stays
        self.awake = asyncio.Event()
        self.running: dict[asyncio.Task[None], Claimed] = {}
        self.threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="webhooks")

    async def run(self) -> None:
        """Work until nothing is due; cancelled, break off what runs: its leases end by themselves."""
        here = asyncio.get_running_loop()
        _loops[here] = self
        try:
            while await self.turn():
                pass
        finally:
            del _loops[here]
            await self.stop()

    async def turn(self) -> bool:
        """Queue what was appended, begin what is due, and wait; return whether there may be more to do."""
        self.awake.clear()
        if await self.database(expansion.expand):
            self.awake.set()
        begun = await self.begin()
        if begun or self.running:
            await self.wait(LOOKS_AGAIN_SECONDS)
            return True
        seconds = await self.database(claims.next_due, self.stays)
        if seconds is not None:
            await self.wait(max(seconds, 0.05))
        return seconds is not None or self.awake.is_set()

    async def begin(self) -> bool:
        """Start attempts for the places that are free; return whether there were any to start."""
        free = PLACES - len(self.running)
        if free <= 0:
            return False
        endpoints, organizations = claims.running(list(self.running.values()))
        found = await self.database(claims.claim, free, endpoints, organizations)
        for claimed in found:
            task = asyncio.create_task(self.deliver(claimed))
            self.running[task] = claimed
            task.add_done_callback(self.ended)
        return bool(found)

    async def deliver(self, claimed: Claimed) -> None:
        """Make one attempt and write down what came of it."""
        try:
            prepared = await self.database(claims.prepare, claimed)
            if prepared is None:
                return
            if not isinstance(prepared, Prepared):
                await self.database(claims.record, claimed, timezone.now(), prepared)
                return
            attempt = Attempt(prepared.url, prepared.headers, prepared.body)
            answer = await attempt.run(prepared.at)
            await self.database(claims.record, claimed, prepared.at, answer)
            await attempt.freed()
        except Exception:
            # Its lease brings it back.
            logger.exception("webhook delivery %s broke off", claimed.id)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Free the place of an attempt."""
        del self.running[task]
        self.awake.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something happens, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.awake.wait()

    async def database[T](self, ask: Callable[..., T], *arguments: Any) -> T:
        """Call something that asks the database, in one of this loop's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, _asking, ask, arguments)

    async def stop(self) -> None:
        """Break off what runs, and close the threads' connections."""
        for task in list(self.running):
            task.cancel()
        # Each thread closes its own: none takes a second of these before all have taken one.
        together = threading.Barrier(DATABASE_THREADS)
        for _ in range(DATABASE_THREADS):
            self.threads.submit(_close, together)
        self.threads.shutdown(wait=False)


_loops: dict[asyncio.AbstractEventLoop, Loop] = {}


def _asking[T](ask: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    close_old_connections()
    try:
        return ask(*arguments)
    finally:
        close_old_connections()


def _close(together: threading.Barrier) -> None:
    with suppress(threading.BrokenBarrierError):
        together.wait(timeout=20)
    connections.close_all()
