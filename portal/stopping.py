"""Being told to stop: signals become one exception, at once or where a step may be broken off."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Signals:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Stopped`, at once or where `held` ends.

    Only the first: whoever presses Ctrl-C twice would else break off the stopping.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.is_held = False

    def listen(self) -> None:
        """Take the three signals over, but for a SIGHUP that nohup silenced."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._take)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let a step end first that would else leave behind a process which nobody knows yet."""
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
        if self.arrived:
            raise Stopped(self.arrived)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.arrived:
            return
        self.arrived = number
        if not self.is_held:
            raise Stopped(number)
