"""Sending calls over HTTP, blocking or not; all that is decided is decided in `calls` and `retrying`."""

from __future__ import annotations

import asyncio
import os
import random
import time
from threading import Lock
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import httpx

from keystead.calls import Answer, Call, Lost, Outcome, result
from keystead.errors import Unavailable, UnreadableAnswer
from keystead.retrying import wait_before_repeating
from keystead.saving import Part
from keystead.settings import CONNECTIONS, KEEPALIVE_SECONDS, Settings

T = TypeVar("T")
MAX_ANSWER: Final = 16 * 1024 * 1024
# Raised before anything of the request went out.
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_LIMITS: Final = httpx.Limits(
    max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS
)


class _Attempts:
    """What both transports do around an attempt: the request, and what follows from its outcome."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def options(self) -> dict[str, Any]:
        # Under plain http a proxy of the environment would read the key.
        is_encrypted = self.settings.base_url.startswith("https:")
        return {"headers": self.settings.headers(), "limits": _LIMITS, "trust_env": is_encrypted}

    def request(self, http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
        request = http.build_request(
            call.method,
            self.settings.base_url + call.path,
            params=list(call.parameters) or None,
            json=call.body,
            headers=call.headers(),
            timeout=self.settings.timeouts(),
        )
        if call.is_anonymous:
            del request.headers["Authorization"]
        return request

    def wait(self, call: Call[Any], outcome: Outcome, attempt: int) -> float | None:
        return wait_before_repeating(
            call,
            outcome,
            attempt,
            retries=self.settings.retries,
            max_wait=self.settings.max_wait,
            dice=random.random,
        )


class Transport:
    """Sends calls and waits for their answers. May be used by many threads, and on both sides of a fork."""

    def __init__(self, settings: Settings) -> None:
        self._attempts = _Attempts(settings)
        self._lock = Lock()
        self._http: httpx.Client | None = None
        self._process = os.getpid()
        self._is_closed = False

    def send(self, call: Call[T]) -> T:
        """Return what the answer says, after as many attempts as are allowed; raises as `calls.result` does."""
        attempt = 1
        while True:
            outcome = self._attempt(call)
            wait = self._attempts.wait(call, outcome, attempt)
            if wait is None:
                return result(call, outcome)
            time.sleep(wait)
            attempt += 1

    def save(self, call: Call[None], path: str | os.PathLike[str]) -> int:
        """Save what is answered in a file, of whatever size, and return the number of its bytes.

        It is sent once, and only a whole answer gets the name. Raises as `calls.result` does, and OSError.
        """
        return _whole(call, self._saved(call, path))

    def _saved(self, call: Call[None], path: str | os.PathLike[str]) -> Outcome | int:
        http = self._client()
        try:
            response = http.send(self._attempts.request(http, call), stream=True)
            try:
                if not response.is_success:
                    refusal = _Content(time.monotonic() + self._attempts.settings.timeout)
                    for piece in response.iter_raw():
                        refusal.add(piece)
                    return Answer(response.status_code, response.headers, refusal.whole())
                with Part(path) as part:
                    for piece in response.iter_raw():
                        part.add(piece)
                    return part.keep()
            finally:
                response.close()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, _NotReadError) as error:
            return _lost(error)

    def close(self) -> None:
        """Close the connections; what is sent after raises."""
        self._is_closed = True
        http, self._http = self._http, None
        if http is not None and self._process == os.getpid():
            http.close()

    def _attempt(self, call: Call[Any]) -> Outcome:
        # What goes wrong is returned, not raised: an exception would carry httpx's frames, and those the key.
        http = self._client()
        deadline = time.monotonic() + self._attempts.settings.timeout
        try:
            response = http.send(self._attempts.request(http, call), stream=True)
            try:
                content = _Content(deadline)
                for part in response.iter_raw():
                    content.add(part)
            finally:
                response.close()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, _NotReadError) as error:
            return _lost(error)
        return Answer(response.status_code, response.headers, content.whole())

    def _client(self) -> httpx.Client:
        """Return the pool of this process: after a fork the parent's sockets would give one's answers to the other."""
        with self._lock:
            if self._is_closed:
                raise Unavailable("This client is closed.")
            if self._http is None or self._process != os.getpid():
                self._process = os.getpid()
                self._http = httpx.Client(**self._attempts.options())
            return self._http


class AsyncTransport:
    """Sends calls without blocking; each event loop has connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._attempts = _Attempts(settings)
        self._pools: WeakKeyDictionary[Any, httpx.AsyncClient] = WeakKeyDictionary()
        self._process = os.getpid()
        self._is_closed = False

    async def send(self, call: Call[T]) -> T:
        """Return what the answer says, after as many attempts as are allowed; raises as `calls.result` does."""
        attempt = 1
        while True:
            outcome = await self._attempt(call)
            wait = self._attempts.wait(call, outcome, attempt)
            if wait is None:
                return result(call, outcome)
            await asyncio.sleep(wait)
            attempt += 1

    async def save(self, call: Call[None], path: str | os.PathLike[str]) -> int:
        """Save what is answered in a file, of whatever size, and return the number of its bytes.

        It is sent once, and only a whole answer gets the name. Raises as `calls.result` does, and OSError.
        """
        return _whole(call, await self._saved(call, path))

    async def _saved(self, call: Call[None], path: str | os.PathLike[str]) -> Outcome | int:
        http = self._client()
        try:
            response = await http.send(self._attempts.request(http, call), stream=True)
            try:
                if not response.is_success:
                    refusal = _Content(time.monotonic() + self._attempts.settings.timeout)
                    async for piece in response.aiter_raw():
                        refusal.add(piece)
                    return Answer(response.status_code, response.headers, refusal.whole())
                with Part(path) as part:
                    async for piece in response.aiter_raw():
                        part.add(piece)
                    return part.keep()
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, _NotReadError) as error:
            return _lost(error)

    async def close(self) -> None:
        """Close this event loop's connections; what is sent after raises."""
        self._is_closed = True
        await self.close_loop()

    async def close_loop(self) -> None:
        """Close this event loop's connections, before it ends; other loops go on."""
        http = self._pools.pop(asyncio.get_running_loop(), None)
        if http is not None and self._process == os.getpid():
            await http.aclose()

    async def _attempt(self, call: Call[Any]) -> Outcome:
        http = self._client()
        deadline = time.monotonic() + self._attempts.settings.timeout
        try:
            response = await http.send(self._attempts.request(http, call), stream=True)
            try:
                content = _Content(deadline)
                async for part in response.aiter_raw():
                    content.add(part)
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, _NotReadError) as error:
            return _lost(error)
        return Answer(response.status_code, response.headers, content.whole())

    def _client(self) -> httpx.AsyncClient:
        if self._is_closed:
            raise Unavailable("This client is closed.")
        if self._process != os.getpid():
            self._process, self._pools = os.getpid(), WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        http = self._pools.get(loop)
        if http is None:
            http = httpx.AsyncClient(**self._attempts.options())
            self._pools[loop] = http
        return http


class _NotReadError(Exception):
    """The answer was too large, or came too slowly."""


class _Content:
    """What was read of an answer, bounded in size and time."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MAX_ANSWER:
            raise _NotReadError("its answer is too large")
        if time.monotonic() > self._deadline:
            raise _NotReadError("its answer took too long")
        self._parts.append(part)

    def whole(self) -> bytes:
        return b"".join(self._parts)


def _whole(call: Call[None], saved: Outcome | int) -> int:
    """Return the size of what was saved; raise what was answered instead."""
    if isinstance(saved, int):
        return saved
    result(call, saved)
    raise UnreadableAnswer("The answer is not one of a portal.", request_id=call.request_id)


def _lost(error: Exception) -> Lost:
    """Return what went wrong by its kind alone: a message could repeat what was sent."""
    why = str(error) if isinstance(error, _NotReadError) else type(error).__name__
    return Lost(f"The portal is out of reach: {why}.", is_sent=not isinstance(error, _UNSENT))
