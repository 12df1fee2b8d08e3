"""Putting a job into the queue in the transaction that causes it, from a page as from a job of the worker.

procrastinate's own `defer` does so on Django's connection in the web process alone: in the worker it has a connection
of its own, and the job would be there before the change, or without it.
"""

import json
from collections.abc import Mapping

from django.db import connection

# The lock is of the jobs that wait: one that runs already may have read what was there before.
PUT = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args, scheduled_at)
    VALUES (%s, %s, %s, %s::jsonb, CASE WHEN %s > 0 THEN clock_timestamp() + make_interval(secs => %s) END)
    ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""


def put(
    task: str,
    *,
    lock: str,
    arguments: Mapping[str, str | int],
    queue: str = "default",
    delay_seconds: float = 0,
) -> None:
    """Let a worker run `task` once this transaction commits, unless a job of the same `lock` waits already.

    Args:
        task: the name of a task, as its decorator gives it.
        lock: what is one job, such as `mail org_…`. Of two transactions with the same, the second waits for the end
            of the first: name the organization in it, whose ledger's head they wait for anyway.
        arguments: ids alone; the queue is no tenant's.
        queue: which of the worker's lanes takes it.
        delay_seconds: how long to gather what else comes.
    """
    with connection.cursor() as cursor:
        cursor.execute(PUT, [queue, task, lock, json.dumps(dict(arguments)), delay_seconds, delay_seconds])
