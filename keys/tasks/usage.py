"""Usage: roll-ups, partitions, retention, by the clock."""

from procrastinate.contrib.django import app

from keys.usage import partitions, rolling

# The sixth column is seconds.
EVERY_TEN_SECONDS = "* * * * * */10"
HOURLY = "7 * * * *"
HOURLY_LATER = "37 * * * *"


@app.periodic(cron=EVERY_TEN_SECONDS)
@app.task(name="keys.roll_up_usage", queueing_lock="keys.roll_up_usage")
def roll_up_usage(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Add recorded calls to their minutes, hours and days."""
    rolling.roll_up()


@app.periodic(cron=HOURLY)
@app.task(name="keys.add_usage_partitions", queueing_lock="keys.add_usage_partitions")
def add_usage_partitions(timestamp: int) -> None:  # noqa: ARG001
    """Make the partitions of calls for the next 14 days."""
    partitions.ensure()


@app.periodic(cron=HOURLY_LATER)
@app.task(name="keys.retain_usage", queueing_lock="keys.retain_usage")
def retain_usage(timestamp: int) -> None:  # noqa: ARG001
    """Let usage go that is past its organization's retention."""
    rolling.retain()
