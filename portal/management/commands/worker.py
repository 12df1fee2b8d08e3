"""Run the worker: jobs that are due by the clock, and those that a change put into the queue (spec EVENTS)."""

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import Any, Final

import psycopg
import psycopg_pool
from django.core.management.base import BaseCommand
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import ConnectorException

CONCURRENCY: Final = 4
# Jobs that run get this long to end; the process is gone after the second.
GRACE_SECONDS: Final = 3.0
STOP_SECONDS: Final = 6.0
PAUSE_SECONDS: Final = 2.0
_BROKEN: Final = (ConnectorException, psycopg.Error, psycopg_pool.PoolTimeout, OSError)
logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Runs the worker until SIGTERM or SIGINT: usage roll-ups, partitions, retention and queued jobs. "
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
        connector = app.connector
        if not isinstance(connector, DjangoConnector):
            raise TypeError("the worker makes its own connections")
        with app.replace_connector(connector.get_worker_connector()) as worker_app:
            async with worker_app.open_async():
                await self.until_stopped(worker_app)

    async def until_stopped(self, worker_app: App) -> None:
        """Run procrastinate's worker; cancelling it lets running jobs end first."""
        working = asyncio.create_task(
            worker_app.run_worker_async(
                concurrency=CONCURRENCY,
                delete_jobs="successful",
                install_signal_handlers=False,
                shutdown_graceful_timeout=GRACE_SECONDS,
            )
        )
        stopping = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, return_exceptions=self.stopped.is_set())

    async def pause(self) -> None:
        """Wait a moment, or less when told to stop."""
        waiting = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({waiting}, timeout=PAUSE_SECONDS)
        waiting.cancel()


def _leave() -> None:
    sys.stdout.flush()
    os._exit(0)
