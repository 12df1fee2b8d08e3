"""Keys looked at by the clock: what their hygiene page and its filters know."""

import structlog
from procrastinate.contrib.django import app

from audit import tenancy
from keys import checkup
from orgs.models import Organization

log = structlog.get_logger("keystead.worker")


@app.periodic(cron="*/10 * * * *")
@app.task(name="keys.look_at_keys", queueing_lock="keys.look_at_keys")
def look_at_keys(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Look at every organization's keys: once a day at all of them, else at those that changed or were used."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        organizations = list(Organization.objects.order_by("pk").values_list("pk", flat=True))
    for organization_id in organizations:
        try:
            checkup.look(organization_id)
        except Exception:
            log.exception("an organization's keys could not be looked at", organization=organization_id)
