"""Run the worker: jobs that are due by the clock, and those that a change put into the queue (spec EVENTS)."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import procrastinate.worker
import psycopg
import psycopg_pool
from django.core.management.base import BaseCommand
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException

CLOCK: Final = "clock"
# Each lane takes jobs of its own queues alone, so that endpoints and mail servers that answer slowly, or not at all,
# never hold up what the clock asks for: expiry, rotations, roll-ups. (name, queues, jobs at once)
LANES: Final = (
    (CLOCK, ["default"], 4),
    ("webhooks", ["webhooks"], 2),
    ("mail", ["mail"], 2),
    # An export takes minutes.
    ("exports", ["exports"], 2),
)
SPARE: Final = 2
# Jobs that run get this long to end; the process is gone after the second.
GRACE_SECONDS: Final = 3.0
STOP_SECONDS: Final = 6.0
PAUSE_SECONDS: Final = 2.0
_BROKEN: Final = (ConnectorException, psycopg.Error, psycopg_pool.PoolTimeout, OSError)
logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Runs the worker until SIGTERM or SIGINT: expiry, rotations, webhooks, mail, usage and what else is queued. "
        "As many may run as wanted; it needs a direct connection to PostgreSQL (DATABASE_URL), not a pooler's."
    )

    def handle(self, *_arguments: Any, **_options: Any) -> None:
        self.stdout.write("worker: running; Ctrl-C stops it.")
        self.stdout.flush()
        asyncio.run(Worker().run())
        self.stdout.write("worker: stopped.")


class Worker:
    """Works until it is told to stop; where PostgreSQL goes away, it starts anew when that is back."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        while not self.stopped.is_set():
            try:
                await self.work()
            except _BROKEN as error:
                logger.warning("the worker lost PostgreSQL and tries again: %s", type(error).__name__)
            if not self.stopped.is_set():
                await self.pause()

    def stop(self) -> None:
        """Stop kindly; a job that is busy in PostgreSQL can't be broken off, so the process goes without it.

        What it was at is rolled back there and comes again, by the clock or by another worker.
        """
        self.stopped.set()
        killer = threading.Timer(STOP_SECONDS, _leave)
        killer.daemon = True
        killer.start()

    async def work(self) -> None:
        """Work until told to stop or a connection breaks. Raises what broke, or returns."""
        # Jobs are plain functions that run in threads: as many as jobs at once, or a slow lane would take them all.
        threads = ThreadPoolExecutor(sum(at_once for *_, at_once in LANES) + SPARE)
        asyncio.get_running_loop().set_default_executor(threads)
        # Each lane listens on a connection of its own, for good.
        connector = PsycopgConnector(kwargs=connector_params("default"), max_size=2 * len(LANES) + SPARE)
        with app.replace_connector(connector) as worker_app:
            async with worker_app.open_async():
                await self.until_stopped(worker_app)

    async def until_stopped(self, worker_app: App) -> None:
        """Run procrastinate's workers, one for each lane; cancelling them lets running jobs end first."""
        worker_app.perform_import_paths()  # type: ignore[no-untyped-call]
        lanes = [asyncio.create_task(_lane(worker_app, *lane).run()) for lane in LANES]  # type: ignore[no-untyped-call]
        stopping = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({*lanes, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # What broke one breaks the others: they share its connections.
        broken = [lane for lane in lanes if lane.done()]
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        if not self.stopped.is_set():
            await asyncio.gather(*broken)

    async def pause(self) -> None:
        """Wait a moment, or less when told to stop."""
        waiting = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({waiting}, timeout=PAUSE_SECONDS)
        waiting.cancel()


class Lane(procrastinate.worker.Worker):
    """One lane; only the first puts into the queue what the clock asks for, or they would stumble over each other."""

    async def _periodic_deferrer(self) -> None:
        if self.worker_name == CLOCK:
            await super()._periodic_deferrer()  # type: ignore[no-untyped-call]
        await asyncio.Event().wait()


def _lane(worker_app: App, name: str, queues: Sequence[str], at_once: int) -> Lane:
    return Lane(
        worker_app,
        name=name,
        queues=queues,
        concurrency=at_once,
        delete_jobs="successful",
        install_signal_handlers=False,
        shutdown_graceful_timeout=GRACE_SECONDS,
        task_middleware=worker_app.worker_defaults["task_middleware"],
    )


def _leave() -> None:
    sys.stdout.flush()
    os._exit(0)
