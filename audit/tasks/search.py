"""The words by which the log is searched: kept by the clock, and at once after an act with many entries."""

import logging
from collections.abc import Sequence

from procrastinate.contrib.django import app

from audit import queue, searching
from audit.acts import Act

EVERY_MINUTE = "* * * * *"
# So many at once are more than a search should have to read one by one.
MANY = 64
logger = logging.getLogger(__name__)


@app.task(name="audit.keep_words")
def keep_words(organization_id: str) -> None:
    """Keep the words of one organization's newest entries, block by block."""
    while searching.keep_words(organization_id):
        pass


@app.periodic(cron=EVERY_MINUTE)
@app.task(name="audit.sweep_words", queueing_lock="audit.sweep_words")
def sweep_words(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Keep what is behind; one organization's trouble does not hold the others up."""
    for organization_id in searching.behind():
        try:
            keep_words(organization_id)
        except Exception:
            logger.exception("no words could be kept for %s", organization_id)


def on_appended(organization_id: str, acts: Sequence[Act]) -> None:
    """Queue a job with the entries of the running transaction, where they are many."""
    if len(acts) >= MANY:
        queue.put(
            "audit.keep_words",
            lock=f"audit.keep_words:{organization_id}",
            arguments={"organization_id": organization_id},
        )
