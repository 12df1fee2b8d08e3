"""Webhooks: delivering when a change has put entries into the ledger, by the clock what that left, and retention."""

from collections.abc import Sequence

from django.db import connection
from procrastinate.contrib.django import app

from audit import queue
from audit.acts import Act
from audit.webhooks import patterns, retention, running

# The worker's own lane for what waits for other people's servers.
LANE = "webhooks"
EVERY_TEN_SECONDS = "* * * * * */10"
HOURLY = "17 * * * *"
IS_HEARD = """
    SELECT EXISTS (SELECT FROM audit_endpoint
        WHERE organization_id = %s AND disabled_at IS NULL AND acts && string_to_array(%s, ' ')::varchar[])
"""


@app.task(name="audit.deliver_webhooks", queue=LANE)
async def deliver_webhooks() -> None:
    """Deliver what was just appended."""
    await running.run()


@app.periodic(cron=EVERY_TEN_SECONDS)
@app.task(name="audit.sweep_webhooks", queue=LANE, queueing_lock="audit.sweep_webhooks")
async def sweep_webhooks(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Deliver what is due by the clock, and what a lost job left."""
    await running.run()


@app.periodic(cron=HOURLY)
@app.task(name="audit.retain_webhooks", queueing_lock="audit.retain_webhooks")
def retain_webhooks(timestamp: int) -> None:  # noqa: ARG001
    """Let deliveries and secrets go that are over."""
    retention.retain()


def deliver_soon(organization_id: str, acts: Sequence[Act]) -> None:
    """Queue a job with the entries of the running transaction, where an endpoint subscribes to one of them."""
    asked = {pattern for act in set(acts) for pattern in patterns.covering(act)}
    with connection.cursor() as cursor:
        cursor.execute(IS_HEARD, [organization_id, " ".join(asked)])
        (is_heard,) = cursor.fetchone()
    if is_heard:
        enqueue(organization_id)


def enqueue(organization_id: str) -> None:
    """Put one job into the queue that commits with the running transaction; one that waits already will do."""
    lock = f"audit.deliver_webhooks:{organization_id}"
    queue.put("audit.deliver_webhooks", lock=lock, arguments={}, queue=LANE)
