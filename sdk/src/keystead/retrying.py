"""When to send a call again, and how long to wait before. Pure but for the dice, which are an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from keystead.calls import Answer, Call, Lost, Outcome, Repeat, problem

BASE_SECONDS: Final = 0.1
CAP_SECONDS: Final = 2.0
# Nothing was done: the portal sheds load, or the caller's key calls too often.
_NOT_PROCESSED: Final = frozenset({429, 503})
_MAYBE_PROCESSED: Final = frozenset({502, 504})
_RUNNING: Final = "idempotency_running"


def wait_before_repeating(
    call: Call[Any],
    outcome: Outcome,
    attempt: int,
    *,
    retries: int,
    max_wait: float,
    dice: Callable[[], float],
) -> float | None:
    """Return the seconds to wait before the call is sent again, None if it may not be or need not.

    Full jitter: anything up to a bound that doubles with each attempt; after a `Retry-After` that much more.

    Args:
        attempt: how many were made, 1 after the first.
        max_wait: a longer `Retry-After` is not waited for.
        dice: 0 to 1, uniform.
    """
    if attempt > retries or not _may_repeat(call, outcome):
        return None
    jitter = dice() * min(CAP_SECONDS, max_wait, BASE_SECONDS * 2.0 ** (attempt - 1))
    asked = outcome.retry_after_seconds if isinstance(outcome, Answer) else None
    if asked is None:
        return jitter
    return None if asked > max_wait else asked + jitter


def _may_repeat(call: Call[Any], outcome: Outcome) -> bool:
    is_any_time = call.repeat is Repeat.ANY_TIME
    if isinstance(outcome, Lost):
        return is_any_time or not outcome.is_sent
    if outcome.status in _NOT_PROCESSED:
        return True
    if outcome.status == 409:
        return bool(call.idempotency_key) and problem(outcome.content).get("code") == _RUNNING
    return is_any_time and outcome.status in _MAYBE_PROCESSED
