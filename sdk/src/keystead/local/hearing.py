"""Hearing of what is narrowed: the portal's server-sent events, read on a thread of their own."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from threading import Event, Thread
from time import monotonic
from typing import Final

import httpx

from keystead.local.kept import SILENCE_SECONDS, Kept
from keystead.settings import CONNECT_SECONDS, Settings

PATH: Final = "/v1/revocations"
MAX_EVENT: Final = 65_536
# A `Date` says the second, and servers write it at most once in one.
DATE_SLACK_SECONDS: Final = 2.0
FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 5.0
# The key of this client may not listen, or the portal has no stream: it won't change at once.
REFUSED_WAIT_SECONDS: Final = 30.0
_REFUSED: Final = frozenset({400, 401, 403, 404, 405, 422, 501})

log = logging.getLogger("keystead.local")


class Hearing:
    """Keeps `kept` true to the portal, from `start` to `stop`."""

    def __init__(self, settings: Settings, kept: Kept) -> None:
        self._settings = settings
        self._kept = kept
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="keystead-hearing", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; the thread ends within a second."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(seconds)

    def _run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            started = monotonic()
            try:
                refused = self._listen()
            except Exception as error:
                refused = None
                log.debug("the portal's stream broke off: %s", type(error).__name__)
            finally:
                self._kept.lose()
            if monotonic() - started > LONGEST_WAIT_SECONDS:
                wait = FIRST_WAIT_SECONDS
            self._stopping.wait(wait * random.uniform(0.5, 1.0) if refused is None else refused)  # noqa: S311
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _listen(self) -> float | None:
        """Listen until the stream ends; return the seconds to wait where the portal does not let us."""
        settings, asked_at = self._settings, monotonic()
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=min(settings.timeout, CONNECT_SECONDS))
        headers = {**settings.headers(), "Accept": "text/event-stream", "Cache-Control": "no-store"}
        # Under plain http a proxy of the environment would read the key.
        is_encrypted = settings.base_url.startswith("https:")
        with (
            httpx.Client(timeout=timeout, headers=headers, trust_env=is_encrypted) as http,
            http.stream("GET", settings.base_url + PATH) as response,
        ):
            if response.status_code != httpx.codes.OK:
                return self._refused(response)
            portals_time = _latest(response.headers.get("date"))
            is_ready = False
            for name, data in events(response.iter_raw()):
                if self._stopping.is_set():
                    break
                if name == "ready":
                    is_ready = True
                    self._kept.begin(portals_time, asked_at)
                elif is_ready:
                    self._take(name, data)
        return None

    def _take(self, name: str, data: str) -> None:
        self._kept.alive()
        if name in {"key", "organization"} and data:
            self._kept.narrow(data)
        elif name != "ping":
            # `everything`, or what a newer portal says: better too much than too little.
            self._kept.narrow_all()

    @staticmethod
    def _refused(response: httpx.Response) -> float | None:
        log.warning("the portal does not stream revocations (%s): nothing is kept", response.status_code)
        if response.status_code in _REFUSED:
            return REFUSED_WAIT_SECONDS
        wait = response.headers.get("retry-after", "")
        return min(float(wait), REFUSED_WAIT_SECONDS) if wait.isdecimal() else None


def events(parts: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Yield each event's name and data as it is whole.

    Raises:
        ValueError: one is too long to be one of ours.
    """
    waiting = b""
    for part in parts:
        waiting = (waiting + part).replace(b"\r\n", b"\n")
        *whole, waiting = waiting.split(b"\n\n")
        if len(waiting) > MAX_EVENT:
            raise ValueError("an event is too long")
        for text in whole:
            found = _event(text.decode())
            if found is not None:
                yield found


def _event(text: str) -> tuple[str, str] | None:
    name, data = "", []
    for line in text.split("\n"):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
    return (name, "\n".join(data)) if name or data else None


def _latest(date: str | None) -> float | None:
    """Return the latest time that the portal's clock may have shown when it wrote a `Date`."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() + DATE_SLACK_SECONDS
    except ValueError:
        return None
