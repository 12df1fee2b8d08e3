"""Readers that stop reading: the thread and the place that a download holds are not theirs for good."""

from asyncio import TimerHandle
from typing import Final

from portal.heads import BoundedHeads

# For at most about a megabyte, which is what one piece of a download has.
MOST_SECONDS: Final = 60.0


class BoundedReaders(BoundedHeads):
    """HTTP/1.1 that breaks a connection off where what was written is not taken within `MOST_SECONDS`."""

    _waiting: TimerHandle | None = None

    def pause_writing(self) -> None:
        """Begin to wait: there is more than the client has taken."""
        super().pause_writing()
        self._waiting = self._waiting or self.loop.call_later(MOST_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has taken most of it."""
        self._forget()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
