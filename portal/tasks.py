"""What the worker does for the whole installation: jobs that a killed worker left, old jobs, sessions, counters."""

from typing import Final

from django.db import connection
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status

from orgs.models.session import Session

# A worker without a sign of life for so long is dead (`Worker.stalled_worker_timeout`).
DEAD_AFTER_SECONDS: Final = 30
KEPT_HOURS: Final = 72


@app.periodic(cron="* * * * *")
@app.task(name="portal.take_up_stalled_jobs", queueing_lock="portal.take_up_stalled_jobs", pass_context=True)
async def take_up_stalled_jobs(context: JobContext, timestamp: int) -> None:  # noqa: ARG001
    """Put the jobs of workers that were killed back into the queue."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER_SECONDS):
        try:
            await manager.retry_job(job)
        except UniqueViolation:
            # One like it waits already.
            await manager.finish_job(job, status=Status.FAILED, delete_job=True)


@app.periodic(cron="47 3 * * *")
@app.task(name="portal.sweep", queueing_lock="portal.sweep", pass_context=True)
async def sweep(context: JobContext, timestamp: int) -> None:  # noqa: ARG001
    """Delete jobs that ended three days ago."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEPT_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )


@app.periodic(cron="27 * * * *")
@app.task(name="portal.sweep_sessions", queueing_lock="portal.sweep_sessions")
def sweep_sessions(timestamp: int) -> None:  # noqa: ARG001
    """Delete sessions and counters that have expired; neither counts for anything any more."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM orgs_counter WHERE expires < now()")
