"""The notary's process: rounds without end, beside them two sweeps, and every two seconds a sign of life."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from audit.notary import publishing, starting, state
from audit.notary.alarms import Alarms
from audit.notary.reading import USING
from audit.notary.rounds import Rounds
from audit.notary.watching import Watching

EVERY_SECONDS: Final = 2.0
logger = structlog.get_logger("keystead.notary")


class Notary:
    """One process on one folder. It ends when it is told to, when its file fails, or when another takes its place."""

    def __init__(self, folder: Path, *, take_over: bool = False) -> None:
        self.folder = folder
        self.take_over = take_over
        self.alarms = Alarms()
        self.stopping = threading.Event()
        self._locked: Any = None

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; where PostgreSQL goes away, go on when it is back.

        Raises `NotaryRefused`, and `OSError` where the file can't be read or written: then nothing more is signed.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with state.locked(self.folder):
            rounds = None
            while rounds is None and not self.stopping.is_set():
                rounds = self._tried_to_begin()
            if rounds:
                self._work(rounds)

    def run_rounds(self, number: int, *, watched: bool = False) -> None:
        """Work for so many rounds, without pauses, for tests; `watched`: each after one of both sweeps.

        Raises what `run` does and `DatabaseError`.
        """
        with state.locked(self.folder):
            rounds = self._begin()
            watching = Watching(rounds, self.alarms) if watched else None
            for _ in range(number):
                if watching:
                    watching.once()
                self._round(rounds, watching)

    def _begin(self) -> Rounds:
        keys = starting.signers(self.folder)
        self._hold()
        found = starting.find(self.folder, keys)
        self.alarms.recall(publishing.begin(found.instance, timezone.now(), take_over=self.take_over))
        logger.info("notary started", instance=found.instance, logs=len(found.logs))
        return Rounds(self.folder, keys, found, self.alarms)

    def _tried_to_begin(self) -> Rounds | None:
        try:
            return self._begin()
        except DatabaseError as error:
            self._lost(error)
            return None

    def _work(self, rounds: Rounds) -> None:
        watching = Watching(rounds, self.alarms)
        watching.start()
        try:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    self._round(rounds, watching)
                except DatabaseError as error:
                    self._lost(error)
                self.stopping.wait(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
        finally:
            watching.stop()
        logger.info("notary stopped")

    def _round(self, rounds: Rounds, watching: Watching | None) -> None:
        self._hold()
        now = timezone.now()
        if signed := rounds.run(now):
            logger.info("signed", logs=signed)
        if watching:
            watching.check()
        swept_at = watching.swept_at if watching else None
        publishing.beat(rounds.state.instance, timezone.now(), swept_at, self.alarms.published())

    def _hold(self) -> None:
        """Be the only one on this database: the lock is gone with each connection that breaks."""
        connections[USING].ensure_connection()
        if self._locked is not connections[USING].connection:
            starting.only_one()
            self._locked = connections[USING].connection

    def _lost(self, error: DatabaseError) -> None:
        logger.warning(
            "PostgreSQL refused", error=type(error).__name__, reason=str(error).strip().partition("\n")[0]
        )
        connections[USING].close()
        self.stopping.wait(EVERY_SECONDS)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping.set()
