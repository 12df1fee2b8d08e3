"""Where keys are used from: networks learned from calls as usage is rolled up, and those that are news."""

from audit import tenancy
from keys.models import KeyNetwork
from keys.usage import steps


def learn() -> int:
    """Learn from every call of an ended transaction where its key is used from; return how many rows that were.

    In steps (`steps.take_all`): killed at any instant it loses nothing and learns nothing twice.
    """
    return steps.take_all("SELECT networks_learn(%s)")


def due() -> list[str]:
    """Return the organizations that have networks to be told of."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        found = KeyNetwork.objects.filter(is_due=True).values_list("organization_id", flat=True)
        return list(found.distinct())


def retain() -> None:
    """Forget networks from which nothing came for 400 days."""
    steps.take("SELECT networks_retain()")
