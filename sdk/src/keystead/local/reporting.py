"""Reporting uses of kept verdicts to the portal, each once: a batch is sent under its name until it is taken."""

from __future__ import annotations

import logging
from dataclasses import replace
from threading import Event, Thread
from time import monotonic, sleep, time
from typing import Any, Final

from keystead.calls import Call, Repeat
from keystead.errors import ApiError
from keystead.local.uses import Batch, Uses
from keystead.settings import Settings
from keystead.transport import Transport

EVERY_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0
ATTEMPT_SECONDS: Final = 2.0
CLOSING_SECONDS: Final = 4.0
AGAIN_SECONDS: Final = 0.2
# The portal counts a name once for as long as it keeps it; older ones are given up rather than counted twice.
MAX_AGE_SECONDS: Final = 12 * 3_600
# What the portal will never take; the rest may be taken later.
_HOPELESS: Final = frozenset({400, 404, 405, 413, 415, 422, 501})

log = logging.getLogger("keystead.local")


class Reporting:
    """Reports on a thread of its own, from `start` until `stop`, which leaves nothing behind if the portal is there."""

    def __init__(self, settings: Settings, uses: Uses) -> None:
        self._uses = uses
        self._transport = Transport(
            replace(settings, timeout=min(settings.timeout, ATTEMPT_SECONDS), retries=0)
        )
        self._stopping = Event()
        self._batch: Batch | None = None
        self._lost = 0
        self._thread = Thread(target=self._run, name="keystead-reporting", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        _running.add(self)
        self._thread.start()

    def stop(self) -> None:
        """Report what is left, and end."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        self._thread.join(seconds)

    def _run(self) -> None:
        wait = EVERY_SECONDS
        while not self._stopping.wait(wait):
            wait = EVERY_SECONDS if self._report() else min(wait * 2, LONGEST_WAIT_SECONDS)
        deadline = monotonic() + CLOSING_SECONDS
        while not self._report() and monotonic() < deadline:
            sleep(AGAIN_SECONDS)
        if self._batch is not None:
            log.warning("uses of kept verdicts could not be reported to the portal")
        self._transport.close()
        _running.discard(self)

    def _report(self) -> bool:
        """Send all there is; return whether the portal took it."""
        while True:
            if self._batch is None:
                self._batch = self._uses.batch()
            if self._batch is None:
                self._tell_lost()
                return True
            if not self._is_done(self._batch):
                return False
            self._batch = None

    def _is_done(self, batch: Batch) -> bool:
        """Send a batch; return whether it need not be sent again."""
        if time() - batch.made_at > MAX_AGE_SECONDS:
            log.warning("uses of kept verdicts are given up: the portal did not take them for too long")
            return True
        try:
            self._transport.send(Call("POST", "/v1/usage", _nothing, body=batch.body, repeat=Repeat.ANY_TIME))
        except ApiError as error:
            if error.status not in _HOPELESS:
                return False
            log.warning("the portal refused a report of uses (%s): they are lost", error.status)
        except Exception as error:  # Whatever it is: the next attempt may do.
            log.debug("uses of kept verdicts can't be reported now: %s", type(error).__name__)
            return False
        return True

    def _tell_lost(self) -> None:
        if self._uses.lost > self._lost:
            log.warning("%s uses of kept verdicts were too many to report", self._uses.lost - self._lost)
            self._lost = self._uses.lost


_running: Final[set[Reporting]] = set()


def report_all() -> None:
    """At the interpreter's end, report what clients have left that nobody closed."""
    left = list(_running)
    for reporting in left:
        reporting.stop()
    for reporting in left:
        reporting.join(CLOSING_SECONDS + 1)


def forget_all() -> None:
    """In a forked child: what the parent counted, the parent reports."""
    _running.clear()


def _nothing(_data: Any) -> None:
    return None
