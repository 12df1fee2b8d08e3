"""Expiry: notices before it and the entry when it came, each minute. Rotations that are due by themselves, too."""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from procrastinate.contrib.django import app

from keys import clock, looking
from keys.models.notice import What
from keys.services.auto_rotation import forget_ended, rotate_when_due, tell_of_failure
from keys.services.expiry import tell_of_expiry

EACH_MINUTE: Final = "* * * * *"
# One run's bounds: another follows within the minute.
AT_ONCE: Final = 200
MOST_KEYS: Final = 5_000
MOST_SECONDS: Final = 45.0
LEFT_ALONE: Final = timedelta(minutes=10)
logger = logging.getLogger(__name__)


@app.periodic(cron=EACH_MINUTE)
@app.task(name="keys.tell_of_expiry", queueing_lock="keys.tell_of_expiry")
def tell_all_of_expiry(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Say what is to be said of keys that end, until nothing is due or the time is up."""
    give_up_at = time.monotonic() + MOST_SECONDS
    while time.monotonic() < give_up_at:
        found = looking.due_keys(What.EXPIRY, clock.now(), limit=MOST_KEYS)
        if not sum(_tell(organization_id, key_ids, give_up_at) for organization_id, key_ids in found.items()):
            return


@app.periodic(cron=EACH_MINUTE)
@app.task(name="keys.rotate_when_due", queueing_lock="keys.rotate_when_due")
def rotate_all_when_due(timestamp: int) -> None:  # noqa: ARG001
    """Rotate keys by themselves whose time has come, each in a transaction of its own; forget what is over."""
    give_up_at = time.monotonic() + MOST_SECONDS
    forget_ended(clock.now())
    for organization_id, key_ids in looking.due_keys(What.ROTATION, clock.now(), limit=MOST_KEYS).items():
        for key_id in key_ids:
            if time.monotonic() > give_up_at:
                return
            _rotate(organization_id, key_id)


def _rotate(organization_id: str, key_id: str) -> None:
    try:
        rotate_when_due(organization_id, key_id)
    except Exception:
        logger.exception("%s could not be rotated", key_id)
        _tell_of_failure(organization_id, key_id)
        looking.put_off(organization_id, What.ROTATION, [key_id], clock.now() + LEFT_ALONE)


def _tell_of_failure(organization_id: str, key_id: str) -> None:
    try:
        tell_of_failure(organization_id, key_id)
    except Exception:
        logger.exception("that %s could not be rotated could not be told", key_id)


def _tell(organization_id: str, key_ids: Sequence[str], give_up_at: float) -> int:
    """Return how many keys were looked at; a group that fails is halved down to the key that makes it fail."""
    done = 0
    groups = [key_ids[start : start + AT_ONCE] for start in range(0, len(key_ids), AT_ONCE)]
    while groups and time.monotonic() < give_up_at:
        group = groups.pop(0)
        try:
            done += tell_of_expiry(organization_id, group)
        except Exception:
            if len(group) > 1:
                middle = len(group) // 2
                groups[:0] = [group[:middle], group[middle:]]
                continue
            logger.exception("the end of %s could not be told", group[0])
            looking.put_off(organization_id, What.EXPIRY, group, clock.now() + LEFT_ALONE)
    return done
