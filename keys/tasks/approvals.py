"""Approvals: uses and ends that the ledger does not have yet, by the clock."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from procrastinate.contrib.django import app

from audit import tenancy
from keys import clock, services
from keys.governance import ApprovalState
from keys.models import Approval, ApprovalUse

EVERY_MINUTE: Final = "* * * * *"
AT_ONCE: Final = "* * * * * */10"
MOST: Final = 1_000
# A verification that began in time may still be counting its use.
SETTLED_AFTER: Final = timedelta(seconds=5)

log = structlog.get_logger("keystead.approvals")


@app.periodic(cron=AT_ONCE)
@app.task(name="keys.record_approval_uses", queueing_lock="keys.record_approval_uses")
def record_uses(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Append an entry for each use of an approval that verification has counted."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        untold = ApprovalUse.objects.filter(told_at__isnull=True).order_by("at")[:MOST]
        due = dict(untold.values_list("approval_id", "organization_id"))
    _each(due, services.record_approval_uses)


@app.periodic(cron=EVERY_MINUTE)
@app.task(name="keys.record_approval_ends", queueing_lock="keys.record_approval_ends")
def record_ends(timestamp: int) -> None:  # noqa: ARG001
    """Append an entry for each approval whose time is over."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        ended = Approval.objects.filter(expired_told_at__isnull=True)
        ended = ended.in_state(ApprovalState.EXPIRED, clock.now() - SETTLED_AFTER).order_by("valid_until")
        due = dict(ended.values_list("id", "organization_id")[:MOST])
    _each(due, services.record_approval_end)


def _each(due: dict[str, str], record: Callable[[str], object]) -> None:
    """Do each in a transaction of its own: what fails stays due, and the others are done."""
    for approval_id, organization_id in due.items():
        try:
            with tenancy.within(organization_id):
                record(approval_id)
        except Exception as error:
            log.exception(
                "an approval could not be recorded", approval=approval_id, error=type(error).__name__
            )
