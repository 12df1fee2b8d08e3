"""Delivering to a real receiver, which verifies with the public package."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from audit import ports, services, tenancy
from audit.models import Delivery, EndpointSecret
from audit.webhooks import claims, signing
from tests import builders
from tests.webhooks import acting

pytestmark = pytest.mark.usefixtures("operator")


def test_an_entry_reaches_its_endpoint_signed(cast, hooks):
    made = acting.made(cast, hooks.url(), "key.*")
    acting.cause(cast.acme, "key.changed", scopes=["a:b"])
    acting.deliver()
    (got,) = hooks.got
    told = got.verified(made.secret)
    entry = builders.entries(cast.acme.id)[-1]
    assert told["type"] == "key.changed"
    assert told["timestamp"].endswith("Z")
    assert told["data"]["target"] == entry.data["target"]
    assert told["data"]["scopes"] == ["a:b"]
    assert told["data"]["actor"] == "sys_tests"
    assert told["data"]["ledger"] == {"log": entry.log, "index": entry.i}
    assert got.id == signing.message_id(made.endpoint.id, 1, entry.i)
    assert got.headers["host"] == f"hooks.example.com:{hooks.port}"
    assert got.headers["content-type"] == "application/json"
    assert hooks.names == ["hooks.example.com"]
    assert got.body == json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    (delivery,) = acting.deliveries(made.endpoint)
    assert (delivery.state, delivery.attempts, delivery.claim) == ("delivered", 1, "")
    (attempt,) = acting.attempts(made.endpoint)
    assert (attempt.outcome, attempt.status, attempt.text) == ("delivered", 204, "")
    assert acting.fresh(made.endpoint).last_delivered_at


def test_only_what_is_subscribed_and_only_from_now_on(cast, hooks):
    acting.cause(cast.acme, "key.changed")
    made = acting.made(cast, hooks.url(), "key.revoked", "project.*")
    for act in ("key.changed", "key.revoked", "project.archived", "member.joined"):
        acting.cause(cast.acme, act)
    acting.deliver()
    assert sorted(got.verified(made.secret)["type"] for got in hooks.got) == [
        "key.revoked",
        "project.archived",
    ]
    acting.deliver()
    assert len(hooks.got) == 2


def test_a_strangers_entries_are_not_delivered(cast, hooks):
    acting.made(cast, hooks.url(), "*")
    acting.deliver()
    hooks.got.clear()
    acting.cause(cast.elsewhere)
    acting.deliver()
    assert hooks.got == []


def test_personal_data_stays_at_home(cast, hooks):
    acting.made(cast, hooks.url(), "*")
    builders.join(builders.person("Newcomer"), cast.acme, builders.Role.VIEWER)
    acting.deliver()
    assert len(hooks.got) > 1
    for got in hooks.got:
        for personal in (b"@example.com", b"Alice", b"Newcomer", b"192.0.2.1", b"sealed"):
            assert personal not in got.body


def test_both_secrets_sign_for_a_day(cast, hooks):
    made = acting.made(cast, hooks.url())
    with acting.within(made.endpoint):
        second = services.rotate_endpoint_secret(made.endpoint, actor=cast.member(cast.alice)).secret
        third = services.rotate_endpoint_secret(made.endpoint, actor=cast.member(cast.alice)).secret
    acting.cause(cast.acme)
    acting.deliver()
    (got,) = hooks.got
    got.verified(made.secret, second, third)
    assert len(got.headers["webhook-signature"].split(" ")) == 3
    with acting.within(made.endpoint):
        past = EndpointSecret.objects.filter(endpoint=made.endpoint, signs_until__isnull=False)
        past.update(signs_until=timezone.now() - timedelta(seconds=1))
    acting.cause(cast.acme)
    acting.deliver()
    got = hooks.got[-1]
    got.verified(third)
    assert len(got.headers["webhook-signature"].split(" ")) == 1


def test_a_port_adds_facts_at_each_attempt(cast, hooks, monkeypatch):
    monkeypatch.setitem(
        ports.webhook_facts,
        "rotation.started",
        lambda _, data: {"sealed_secret": data["target"][:4]},
    )
    made = acting.made(cast, hooks.url(), "rotation.*")
    acting.cause(cast.acme, "rotation.started")
    acting.deliver()
    assert hooks.got[0].verified(made.secret)["data"]["sealed_secret"] == "key_"


def test_a_port_that_fails_is_an_attempt_that_failed(cast, hooks, monkeypatch):
    monkeypatch.setitem(ports.webhook_facts, "key.changed", lambda *_: 1 / 0)
    made = acting.made(cast, hooks.url())
    acting.cause(cast.acme)
    acting.cause(cast.acme, "key.revoked")
    acting.deliver()
    assert [got.verified(made.secret)["type"] for got in hooks.got] == ["key.revoked"]
    assert {attempt.outcome for attempt in acting.attempts(made.endpoint)} == {"not_built", "delivered"}


def test_a_mass_act_arrives_whole_and_once(cast, hooks):
    made = acting.made(cast, hooks.url())
    acting.cause(cast.acme, times=600)
    acting.deliver()
    assert len(hooks.got) == len({got.id for got in hooks.got}) == 600
    with tenancy.within(cast.acme.id):
        assert Delivery.objects.filter(endpoint=made.endpoint, state="delivered").count() == 600


def test_acts_about_webhooks_make_no_loop(cast, hooks):
    made = acting.made(cast, hooks.url(), "*")
    acting.deliver()
    acting.deliver()
    assert [got.verified(made.secret)["type"] for got in hooks.got] == ["webhook.created"]


class TestRetrying:
    def test_ten_attempts_with_one_id_then_disabled(self, cast, hooks):
        hooks.scripts["/hook"] = (500, {}, b"no")
        made = acting.made(cast, hooks.url())
        watcher = acting.made(cast, hooks.url("/watcher"), "webhook.disabled")
        acting.cause(cast.acme)
        for _ in range(12):
            acting.deliver()
            acting.passes(cast.acme, 27 * 3600)
        failed = [got for got in hooks.got if got.path == "/hook"]
        assert len(failed) == 10
        assert len({got.id for got in failed}) == 1
        (delivery,) = acting.deliveries(made.endpoint)
        assert (delivery.state, delivery.attempts) == ("failed", 10)
        endpoint = acting.fresh(made.endpoint)
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "failing")
        (told,) = [got for got in hooks.got if got.path == "/watcher"]
        assert told.verified(watcher.secret)["data"]["reason"] == "failing"
        assert [entry.act for entry in builders.entries(cast.acme.id)].count("webhook.disabled") == 1

    def test_the_schedule(self, cast, hooks):
        hooks.scripts["/hook"] = (500, {}, b"no")
        made = acting.made(cast, hooks.url())
        acting.cause(cast.acme)
        waits = []
        for _ in range(9):
            acting.deliver()
            (delivery,) = acting.deliveries(made.endpoint)
            (last,) = acting.attempts(made.endpoint)[-1:]
            waits.append((delivery.next_attempt_at - last.at).total_seconds())
            acting.passes(cast.acme, 27 * 3600)
        expected = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
        for wait, plan in zip(waits, expected, strict=True):
            assert 0.9 * plan <= wait <= 1.1 * plan + 3

    def test_it_goes_on_when_the_receiver_is_back(self, cast, hooks):
        hooks.scripts["/hook"] = (503, {}, b"")
        made = acting.made(cast, hooks.url())
        acting.cause(cast.acme)
        acting.deliver()
        assert acting.fresh(made.endpoint).status == "failing"
        hooks.scripts.clear()
        acting.passes(cast.acme, 6)
        acting.deliver()
        one, two = hooks.got
        assert one.id == two.id
        assert int(two.headers["webhook-timestamp"]) >= int(one.headers["webhook-timestamp"])
        assert acting.fresh(made.endpoint).status == "active"

    @pytest.mark.parametrize(
        ("header", "low", "high"),
        [("120", 120, 123), ("9999999", 86400, 86403), ("1", 4, 9), ("never", 4, 9)],
    )
    def test_retry_after(self, cast, hooks, header, low, high):
        hooks.scripts["/hook"] = (429, {"Retry-After": header}, b"")
        made = acting.made(cast, hooks.url())
        acting.cause(cast.acme)
        acting.deliver()
        (delivery,) = acting.deliveries(made.endpoint)
        assert (
            low <= (delivery.next_attempt_at - acting.attempts(made.endpoint)[0].at).total_seconds() <= high
        )

    def test_gone_disables_at_once(self, cast, hooks):
        hooks.scripts["/hook"] = (410, {}, b"")
        made = acting.made(cast, hooks.url())
        acting.cause(cast.acme, times=3)
        acting.deliver()
        endpoint = acting.fresh(made.endpoint)
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "gone")
        assert {delivery.state for delivery in acting.deliveries(endpoint)} == {"failed"}
        assert [entry.act for entry in builders.entries(cast.acme.id)].count("webhook.disabled") == 1
        before = len(hooks.got)
        acting.cause(cast.acme)
        acting.deliver()
        assert len(hooks.got) == before


def test_an_act_that_there_is_not_adds_no_facts():
    """Whoever has the application's login may append one; its deliveries must not stop the others."""
    delivery = Delivery(organization_id="org_a", act="nobody.knows", epoch=1, index=3)
    assert claims.facts_of(delivery) == {}
