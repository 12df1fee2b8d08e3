"""What is over goes after its time, and nothing else does."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit import services
from audit.models import Attempt, Delivery, EndpointSecret
from audit.webhooks import retention
from tests.webhooks import acting

pytestmark = pytest.mark.usefixtures("operator")


def test_deliveries_go_thirty_days_after_they_ended(cast, hooks):
    made = acting.made(cast, hooks.url())
    acting.cause(cast.acme, times=3)
    acting.deliver()
    hooks.scripts["/hook"] = (500, {}, b"")
    acting.cause(cast.acme)
    acting.deliver()
    old, newer, newest, waiting = acting.deliveries(made.endpoint)
    ago = {old.id: retention.KEPT + timedelta(minutes=1), newer.id: retention.KEPT - timedelta(minutes=1)}
    with acting.within(made.endpoint):
        for delivery_id, age in ago.items():
            Delivery.objects.filter(pk=delivery_id).update(finished_at=timezone.now() - age)
        Delivery.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(days=60))
    retention.retain()
    assert [each.id for each in acting.deliveries(made.endpoint)] == [newer.id, newest.id, waiting.id]
    with acting.within(made.endpoint):
        assert not Attempt.objects.filter(delivery_id=old.id).exists()


def test_it_goes_on_until_nothing_is_over(cast, hooks, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    made = acting.made(cast, hooks.url())
    acting.cause(cast.acme, times=5)
    acting.deliver()
    with acting.within(made.endpoint):
        Delivery.objects.update(finished_at=timezone.now() - timedelta(days=31))
    retention.retain()
    assert acting.deliveries(made.endpoint) == []


def test_secrets_go_when_they_sign_no_more(cast, hooks):
    made = acting.made(cast, hooks.url())
    with acting.within(made.endpoint):
        for _ in range(2):
            services.rotate_endpoint_secret(made.endpoint, actor=cast.member(cast.alice))
        EndpointSecret.objects.filter(endpoint=made.endpoint, version=1).update(
            signs_until=timezone.now() - timedelta(seconds=1)
        )
    retention.retain()
    with acting.within(made.endpoint):
        versions = EndpointSecret.objects.filter(endpoint=made.endpoint).order_by("version")
        assert list(versions.values_list("version", flat=True)) == [2, 3]
