"""Answers that are written while they are read: few at once, because each holds a thread and a connection."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from audit.exports.places import Held, NoPlace, Places
from keys.api.problems import Problem

RETRY_AFTER_SECONDS: Final = 15
PLACES: Final = Places()


def held(organization_id: str, begin: Callable[[], Iterator[bytes]]) -> Held:
    """Return what `begin` begins; raises a `Problem` with 503 where as many are running as may."""
    try:
        return PLACES.hold(organization_id, begin)
    except NoPlace:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too_many_downloads",
            "Too many downloads are running: wait for one of them.",
            {"Retry-After": str(RETRY_AFTER_SECONDS)},
        ) from None
