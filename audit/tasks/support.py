"""Closing what support staff left open when its time was up."""

from procrastinate.contrib.django import app

from audit.services.support import close_lapsed_support

EACH_MINUTE = "* * * * *"


@app.periodic(cron=EACH_MINUTE)
@app.task(name="audit.close_support", queueing_lock="audit.close_support")
def close_support(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Close visits and searches that are over, each in a transaction of its own."""
    close_lapsed_support()
