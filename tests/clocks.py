"""The clock of the key services, moved: what is due then is due now."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

from keys import clock


@contextmanager
def later(**by: float) -> Iterator[None]:
    """Let the services read a clock that is ahead (or, with negative values, behind) until the block ends."""
    real, ahead = clock.now, timedelta(**by)
    with mock.patch.object(clock, "now", lambda using="default": real(using) + ahead):
        yield
