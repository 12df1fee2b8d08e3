"""The local mode of one client: what is kept, heard, counted and reported, in each process of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
from dataclasses import dataclass
from threading import Lock
from typing import Final
from weakref import WeakSet, finalize

from keystead.errors import ConfigurationError
from keystead.local import reporting
from keystead.local.hearing import Hearing
from keystead.local.kept import Kept, Mark
from keystead.local.reporting import CLOSING_SECONDS, Reporting
from keystead.local.uses import Uses
from keystead.models import Verdict
from keystead.question import Question
from keystead.settings import Settings

MAX_STALENESS: Final = 30.0


@dataclass(frozen=True)
class LocalOptions:
    """How verdicts are kept.

    Args:
        max_staleness: seconds after the question that a verdict is used at most, above 0 and at most 30. What narrows
            it sooner is heard of within a second whatever this is.
        max_entries: how many verdicts are kept at most; about 2 KB each.

    Raises:
        ConfigurationError: out of these bounds.
    """

    max_staleness: float = 2.0
    max_entries: int = 50_000

    def __post_init__(self) -> None:
        if not 0 < self.max_staleness <= MAX_STALENESS:
            raise ConfigurationError(f"max_staleness is above 0 and at most {MAX_STALENESS:.0f} seconds.")
        if self.max_entries < 1:
            raise ConfigurationError("max_entries is at least 1.")

    def open(self, settings: Settings) -> LocalMode:
        """Begin to keep verdicts for a client with these settings; nothing is sent before its first question."""
        return LocalMode(settings, self)


class _Parts:
    """What works together, without the `LocalMode` that its user may forget to close."""

    def __init__(self, settings: Settings, options: LocalOptions) -> None:
        self.kept = Kept(options.max_staleness, options.max_entries)
        self.uses = Uses()
        self.hearing = Hearing(settings, self.kept)
        self.reporting = Reporting(settings, self.uses)
        self._lock = Lock()
        self._is_started = False
        self._is_closed = False

    def start(self) -> None:
        """Start the threads, once."""
        with self._lock:
            if self._is_started or self._is_closed:
                return
            self._is_started = True
        self.hearing.start()
        self.reporting.start()

    def stop(self) -> None:
        """Keep nothing any more, and let the threads end: the one at once, the other when all is reported."""
        with self._lock:
            self._is_closed = True
        self.kept.close()
        self.hearing.stop()
        self.reporting.stop()

    def join(self) -> None:
        """Wait until all is reported, for a few seconds at most."""
        if self._is_started:
            self.reporting.join(CLOSING_SECONDS + 1)
            self.hearing.join(1)


class LocalMode:
    """Verdicts kept in this process. Any number of threads and event loops may use it, and both sides of a fork."""

    _is_started: bool

    def __init__(self, settings: Settings, options: LocalOptions) -> None:
        self._settings = settings
        self._options = options
        self._is_closed = False
        self._begin(_Parts(settings, options))
        _modes.add(self)

    def validate(self, question: Question) -> Verdict | None:
        """Return a verdict that still holds, its use counted; None: ask the portal."""
        entry = self._kept.find(question)
        if entry is None:
            return None
        self._uses.count(entry, question)
        return entry.verdict

    def asking(self) -> Mark | None:
        """Return a mark of this moment, for `learn`; the first begins to listen to the portal."""
        if not self._is_started:
            self._parts.start()
            self._is_started = True
        return self._kept.mark()

    def learn(self, mark: object, question: Question, verdict: Verdict) -> None:
        """Keep the portal's verdict, where it may be kept and nothing has changed since `mark`."""
        if isinstance(mark, Mark):
            self._kept.learn(mark, question, verdict)

    def close(self) -> None:
        """Keep nothing any more and report what is left; waits for that unless an event loop would have to."""
        self._is_closed = True
        self._parts.stop()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._parts.join()

    def begin_anew(self) -> None:
        """Begin anew in a forked child: it has no threads, another's connection, and locks in whatever state."""
        self._forgotten.detach()
        self._begin(_Parts(self._settings, self._options))
        if self._is_closed:
            self._parts.stop()

    def _begin(self, parts: _Parts) -> None:
        self._parts = parts
        self._kept = parts.kept
        self._uses = parts.uses
        self._is_started = False
        self._forgotten = finalize(self, parts.stop)
        self._forgotten.atexit = False


_modes: Final[WeakSet[LocalMode]] = WeakSet()


def _after_fork() -> None:
    reporting.forget_all()
    for mode in list(_modes):
        mode.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(reporting.report_all)
