"""The two sweeps, each in a thread of its own beside the rounds, for as long as the notary runs."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from audit import stored
from audit.notary.alarms import Alarms, Watch
from audit.notary.reading import USING
from audit.notary.rounds import Rounds
from audit.notary.sweeping import HashSweep, StopSweep, look_at_notes, together, verify_ledgers

# A pass begins so long after the one before at the earliest. One over hashes that takes longer than ten seconds can't
# find everything within ten, whatever it does: then it leaves as much time to others as it takes.
EVERY_SECONDS: Final = 4.0
LONG_SECONDS: Final = 8.0
AFTER_TROUBLE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 5.0
# As many entries a ledger of which nothing was signed is taken to have: it may be small, and it may be large.
UNSIGNED: Final = 100
logger = structlog.get_logger("keystead.notary")


class Watching:
    """Sweeps until it is stopped; `swept_at` is the beginning of the newest whole pass over all hashes."""

    def __init__(self, rounds: Rounds, alarms: Alarms) -> None:
        self.rounds = rounds
        self.alarms = alarms
        self.swept_at: datetime | None = None
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._first = {self._hash: False, self._verify: False}
        self._threads = [
            threading.Thread(target=self._keep, args=(sweep,), name=f"notary{sweep.__name__}", daemon=True)
            for sweep in (self._hash, self._verify)
        ]

    def start(self) -> None:
        """Begin to sweep."""
        for thread in self._threads:
            thread.start()

    def once(self) -> None:
        """Sweep in both ways, here and now. Raises `DatabaseError`."""
        for sweep in (self._hash, self._verify):
            sweep()
            self._looked(sweep)

    def stop(self) -> None:
        """Let both end; one that hangs in PostgreSQL is left behind and ends with the process."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def check(self) -> None:
        """Raise what ended a sweep that should not have ended: a notary that does not watch must not go on."""
        if self._failure:
            raise self._failure

    def _keep(self, sweep: Callable[[], None]) -> None:
        try:
            self._sweep_again_and_again(sweep)
        except BaseException as error:
            self._failure = error
        finally:
            connections[USING].close()

    def _sweep_again_and_again(self, sweep: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                sweep()
                self._looked(sweep)
            except StopSweep:
                break
            except DatabaseError as error:
                logger.warning("a sweep broke off", sweep=sweep.__name__, error=type(error).__name__)
                connections[USING].close()
                self._stopping.wait(AFTER_TROUBLE_SECONDS)
            took = time.monotonic() - began
            # The other sweep rests while it works.
            is_long = sweep == self._hash and took > LONG_SECONDS
            self._stopping.wait(took if is_long else max(0.0, EVERY_SECONDS - took))

    def _looked(self, sweep: Callable[[], None]) -> None:
        """Forget what an earlier notary found, when everything was looked at in both ways."""
        self._first[sweep] = True
        if all(self._first.values()):
            self.alarms.end_others(Watch.EARLIER, ())

    def _hash(self) -> None:
        began = timezone.now()
        HashSweep(self.rounds, self.alarms, self._stopping.is_set).run()
        self.swept_at = began

    def _verify(self) -> None:
        for organizations in together(self._sizes()):
            began = time.monotonic()
            verify_ledgers(organizations, self.alarms, self._stopping.is_set)
            for organization_id in organizations:
                look_at_notes(organization_id, self.rounds, self.alarms)
            self._rest(time.monotonic() - began)

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """Yield every organization and how many entries of its ledger were signed, or a guess where none were yet."""
        for organization_id in stored.organizations(USING):
            signed = self.rounds.state.newest.get(organization_id)
            yield organization_id, signed.point.size if signed else UNSIGNED

    def _rest(self, took: float) -> None:
        """Leave a third of the time to the rounds and the other sweep."""
        if self._stopping.wait(took / 2):
            raise StopSweep
