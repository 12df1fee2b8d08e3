"""What tests of pages share."""

import time

import pytest


@pytest.fixture
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the window of every limit open, however close to its end a test begins."""
    end = int(time.time())
    monkeypatch.setattr("django_ratelimit.core._get_window", lambda _value, period: end + period)
