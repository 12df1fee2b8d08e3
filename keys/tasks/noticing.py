"""What is noticed about keys by the clock: networks that are new to them, and that they came back by themselves."""

from functools import partial
from typing import Final

from procrastinate.contrib.django import app

from audit import tenancy
from audit.actors import WORKER
from keys import clock, services
from keys.leaks import networks
from keys.models import ApiKey
from keys.tasks.visiting import visit

EACH_MINUTE: Final = "* * * * *"
NIGHTLY: Final = "23 4 * * *"


@app.periodic(cron=EACH_MINUTE)
@app.task(name="keys.notice_networks", queueing_lock="keys.notice_networks")
def notice_networks(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Learn where keys are used from, and record what is new."""
    networks.learn()
    visit(networks.due(), partial(services.record_first_networks, actor=WORKER))


@app.periodic(cron=NIGHTLY)
@app.task(name="keys.forget_networks", queueing_lock="keys.forget_networks")
def forget_networks(timestamp: int) -> None:  # noqa: ARG001
    """Forget networks from which nothing came for 400 days."""
    networks.retain()


@app.periodic(cron=EACH_MINUTE)
@app.task(name="keys.notice_returns", queueing_lock="keys.notice_returns")
def notice_returns(timestamp: int) -> None:  # noqa: ARG001
    """Record that keys which were disabled for a while came back."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        back = ApiKey.objects.returned(clock.now()).order_by().values_list("organization_id", flat=True)
        organizations = list(back.distinct())
    visit(organizations, partial(services.record_returns, actor=WORKER))
