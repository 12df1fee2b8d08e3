"""What the tests of webhooks do: make endpoints by the services, cause entries, deliver, let time pass."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection

from audit import ledger, services, tenancy
from audit.models import Attempt, Delivery, Endpoint
from audit.services import Made
from audit.webhooks import running
from tests import builders


def made(cast: builders.Cast, url: str, *acts: str, by=None, where=None) -> Made:
    """Make an endpoint of Acme, by alice unless told."""
    where, by = where or cast.acme, by or cast.alice
    with tenancy.within(where.id):
        return services.create_endpoint(where.id, url, acts or ("key.*",), actor=cast.member(by))


def cause(where, act: str = "key.changed", times: int = 1, **data: object) -> None:
    """Append entries."""
    with tenancy.within(where.id), ledger.recording(where.id, builders.OPERATOR) as entry:
        for _ in range(times):
            entry(act, target=builders.new_id("key"), data=data)


def deliver() -> None:
    """Do what the worker does until nothing is due at this moment."""
    asyncio.run(running.Loop(timedelta(0)).run())


def passes(where, seconds: float) -> None:
    """Let time pass for the deliveries of an organization."""
    with tenancy.within(where.id), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_delivery SET next_attempt_at = next_attempt_at - make_interval(secs => %s)"
            " WHERE organization_id = %s AND state = 'pending'",
            [seconds, where.id],
        )


def deliveries(endpoint: Endpoint) -> list[Delivery]:
    with tenancy.within(endpoint.organization_id):
        return list(Delivery.objects.filter(endpoint=endpoint).order_by("epoch", "index"))


def attempts(endpoint: Endpoint) -> list[Attempt]:
    with tenancy.within(endpoint.organization_id):
        return list(Attempt.objects.filter(delivery__endpoint=endpoint).order_by("id"))


def fresh(endpoint: Endpoint) -> Endpoint:
    with tenancy.within(endpoint.organization_id):
        return Endpoint.objects.get(pk=endpoint.pk)


@contextmanager
def within(endpoint: Endpoint) -> Iterator[None]:
    with tenancy.within(endpoint.organization_id):
        yield
