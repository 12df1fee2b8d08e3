"""The engine of this process: on the server's own event loop, or, behind a WSGI server, on a thread of its own."""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any, Final

from django.conf import settings
from psycopg.conninfo import make_conninfo

from keys.errors import Unavailable
from keys.verification.asking import Answer, Call
from keys.verification.engine import Engine

DATABASE: Final = "verify"
# Longer than the engine's own patience: what answers nothing for so long is broken.
ANSWER_SECONDS: Final = 3.0


class Running:
    """An engine and the loop that it runs on."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.loop = loop
        self.pid = os.getpid()

    def wait[Result](self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run on the engine's loop, from another thread."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(ANSWER_SECONDS)
        except TookTooLong:
            future.cancel()
            raise Unavailable from None


_lock: Final = threading.Lock()
_running: Running | None = None


def dsn() -> str:
    """Return libpq's connection string of the verification's login. Secret."""
    entry = settings.DATABASES[DATABASE]
    options = {name: value for name, value in entry["OPTIONS"].items() if name != "options"}
    named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return make_conninfo(**options | {name: entry[key] for name, key in named.items() if entry[key]})


async def start() -> Engine:
    """Start this process's engine on the present loop; an ASGI server does, when it starts."""
    global _running  # noqa: PLW0603 - one engine a process is the point
    engine = Engine(dsn())
    await engine.start()
    _running = Running(engine, asyncio.get_running_loop())
    return engine


async def stop() -> None:
    """Stop this process's engine."""
    global _running
    if _running is not None:
        found, _running = _running, None
        await found.engine.stop()


def here() -> Engine:
    """Return the engine of the present loop.

    Raises:
        Unavailable: it has not started, or has stopped.
    """
    if _running is None:
        raise Unavailable
    return _running.engine


def ask(call: Call) -> Answer:
    """Return the answer to a call, from a thread that is not the engine's.

    Raises:
        Unavailable: the database can't be reached or is too slow.
    """
    found = current()
    return found.wait(found.engine.ask(call))


def current() -> Running:
    """Return this process's engine; where there is none yet, start one on a thread of its own."""
    global _running  # noqa: PLW0603
    with _lock:
        if _running is None or _running.pid != os.getpid():
            _running = _on_a_thread()
        return _running


def _on_a_thread() -> Running:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="keystead-verification", daemon=True).start()
    engine = Engine(dsn())
    found = Running(engine, loop)
    found.wait(engine.start())
    atexit.register(_end, found)
    return found


def _end(found: Running) -> None:
    """Close the connections before the interpreter goes, in the process that opened them."""
    if found.pid == os.getpid() and not found.loop.is_closed():
        found.wait(found.engine.stop())
        found.loop.call_soon_threadsafe(found.loop.stop)
