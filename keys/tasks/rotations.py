"""Rotations: what their targets did, and that they ended, by the clock."""

from functools import partial
from itertools import batched
from typing import Final

from procrastinate.contrib.django import app

from audit import tenancy
from audit.actors import WORKER
from keys import clock, services
from keys.models import Rotation
from keys.models.rotation import RotationMode
from keys.services.advancing import due_rotations
from keys.tasks.visiting import visit
from keys.usage import rolling

# The sixth column is seconds.
EVERY_FIVE_SECONDS: Final = "* * * * * */5"
AT_ONCE: Final = 100


@app.periodic(cron=EVERY_FIVE_SECONDS)
@app.task(name="keys.advance_rotations", queueing_lock="keys.advance_rotations")
def advance_rotations(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Write down which targets moved, which rotations ended by themselves and which are overdue."""
    rolling.roll_up()
    for rotation_id, organization_id in due().items():
        visit([organization_id], partial(_advance, rotation_id))


def _advance(rotation_id: str, _organization_id: str) -> int:
    return services.advance_rotation(rotation_id, actor=WORKER)


def due() -> dict[str, str]:
    """Return the rotations for which there is something to write down, with their organizations."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        now = clock.now()
        _hold_suspended()
        going = (
            Rotation.objects.not_ended()
            .filter(key__revoked_at=None)
            .exclude(mode=RotationMode.GRACE, grace_ends_at__gt=now)
        )
        found = list(going.select_related("key").order_by("id"))
        return {
            one.id: one.organization_id
            for part in batched(found, AT_ONCE, strict=False)
            for one in due_rotations(part, now)
        }


def _hold_suspended() -> None:
    """Count the silence of a suspended organization's keys from its end on: nobody moved meanwhile."""
    held = Rotation.objects.not_ended().filter(mode=RotationMode.STAGED)
    held.filter(key__organization__suspended_at__isnull=False).update(held_at=clock.now())
