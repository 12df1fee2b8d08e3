"""No job of the worker and no command changes anything without an entry, but for what is listed here with a reason."""

import io
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command, get_commands
from django.utils import timezone
from procrastinate.contrib.django import app

from audit import mailing, tenancy
from audit.models import Endpoint
from audit.services import erasing
from audit.webhooks import guard
from keys.services import auto_rotation
from tests import builders, exports, key_builders, ledgers, usage_builders
from tests.api.calls import as_superuser
from tests.clocks import later
from tests.db import test_services_record as services
from tests.webhooks import acting

OURS = {"audit", "keys", "orgs", "portal"}
type Work = Callable[[], object]


@pytest.fixture
def world(cast):
    return services.World(cast)


def job(name: str, **arguments: object) -> Work:
    """Return the job of the clock's."""
    return lambda: app.tasks[name].func(**(arguments or {"timestamp": 0}))


def with_context(name: str) -> Work:
    return lambda: async_to_sync(app.tasks[name].func)(SimpleNamespace(app=app), timestamp=0)


def _advance(w) -> Work:
    w.ended_rotation()
    return job("keys.advance_rotations")


def _tell_of_expiry(w) -> Work:
    where = builders.organization("Fresh", owner=w.cast.alice)
    with later(days=-61):
        key_builders.create(where, w.cast.alice, expires=timezone.now() + timedelta(days=29))
    return job("keys.tell_of_expiry")


def _rotate(w) -> Work:
    # The job forgets what is over first, of other tests too: `test_a_sealed_secret_whose_time_is_over_is_forgotten`.
    auto_rotation.forget_ended(timezone.now() + timedelta(days=1))
    key_builders.recipient(w.cast.acme, w.cast.alice)
    key_builders.create(w.cast.acme, w.cast.alice, rotation_interval_days=1, auto_rotate=True)

    def work() -> None:
        with later(hours=12.1):
            job("keys.rotate_when_due")()

    return work


def _networks(w) -> Work:
    calls = [{"ip": "203.0.113.9", "at": usage_builders.ago(minutes=1)}, {"ip": "192.0.2.4"}]
    usage_builders.calls(w.key, calls)
    usage_builders.learned()
    return job("keys.notice_networks")


def _returned(w) -> Work:
    at = "disabled_until = now() - interval '1 second'"
    as_superuser(f"UPDATE keys_apikey SET {at} WHERE id = %s", w.key.id)
    return job("keys.notice_returns")


def _uses(w) -> Work:
    w.used_approval()
    return job("keys.record_approval_uses")


def _ends(w) -> Work:
    w.ended_approval()

    def work() -> None:
        with later(seconds=10):
            job("keys.record_approval_ends")()

    return work


def _export(w) -> Work:
    made = w.export()
    return job("audit.make_export", organization_id=made.organization_id, export_id=made.id)


def _lapsed(w) -> Work:
    w.lapsed_visit()
    return job("audit.close_support")


def _begun_erasure(w):
    """Return one of which the first step was done; a step is two entries here."""
    ledgers.append(w.cast.acme.id, 4, actor=builders.as_actor(w.cast.bob))
    erasure = erasing.erase_person(w.cast.acme.id, w.cast.bob.id, actor=w.actor)
    assert erasure.finished_at is None
    return erasure


def _erase(w) -> Work:
    erasure = _begun_erasure(w)
    return job("audit.erase", organization_id=erasure.organization_id, erasure_id=erasure.id)


def _sweep_erasures(w) -> Work:
    _begun_erasure(w)
    return job("audit.sweep_erasures")


def _undeliverable(w) -> Work:
    """An endpoint fails for the last time, and is disabled."""
    delivery = w.delivery()
    as_superuser("UPDATE audit_delivery SET attempts = 9, next_attempt_at = now() WHERE id = %s", delivery.id)

    def nowhere(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    def work() -> None:
        with mock.patch.object(guard, "resolver", nowhere):
            acting.deliver()

    return work


CHANGING = {
    "keys.advance_rotations": _advance,
    "keys.tell_of_expiry": _tell_of_expiry,
    "keys.rotate_when_due": _rotate,
    "keys.notice_networks": _networks,
    "keys.notice_returns": _returned,
    "keys.record_approval_uses": _uses,
    "keys.record_approval_ends": _ends,
    "audit.make_export": _export,
    "audit.close_support": _lapsed,
    "audit.erase": _erase,
    "audit.sweep_erasures": _sweep_erasures,
    # What the job runs, in this process.
    "audit.deliver_webhooks": _undeliverable,
}


def _rolled(w) -> Work:
    usage_builders.call(w.key)
    return job("keys.roll_up_usage")


def _composed(w) -> Work:
    w.key  # noqa: B018 - it is made
    return job("audit.compose_mails", organization_id=w.cast.acme.id)


# What they do is no state (`watching.QUIET` says why): usage, mail, words for searching, the queue, and plain entries.
NOTHING = {
    "audit.compose_mails": _composed,
    "audit.send_mails": lambda _: mailing.send_due,
    "audit.sweep_mails": lambda _: job("audit.sweep_mails"),
    "audit.forget_mails": lambda _: job("audit.forget_mails"),
    "audit.keep_words": lambda w: job("audit.keep_words", organization_id=w.cast.acme.id),
    "audit.sweep_words": lambda _: job("audit.sweep_words"),
    "audit.keep_keys": lambda _: job("audit.keep_keys"),
    "audit.record_checkpoints": lambda _: job("audit.record_checkpoints"),
    "audit.sweep_exports": lambda w: w.export() and job("audit.sweep_exports"),
    "audit.retain_webhooks": lambda _: job("audit.retain_webhooks"),
    "audit.sweep_webhooks": lambda _: acting.deliver,
    "keys.roll_up_usage": _rolled,
    "keys.add_usage_partitions": lambda _: job("keys.add_usage_partitions"),
    "keys.retain_usage": lambda _: job("keys.retain_usage"),
    "keys.forget_networks": lambda _: job("keys.forget_networks"),
    "keys.look_at_keys": lambda w: w.key and job("keys.look_at_keys"),
    "portal.take_up_stalled_jobs": lambda _: with_context("portal.take_up_stalled_jobs"),
    "portal.sweep": lambda _: with_context("portal.sweep"),
    "portal.sweep_sessions": lambda _: job("portal.sweep_sessions"),
}


def _expired_export(w) -> Work:
    made = exports.make(w.export())
    as_superuser("UPDATE audit_export SET expires_at = now() WHERE id = %s", made.id)
    return job("audit.expire_exports")


# Rules of time, and nobody's act.
WITHOUT = {
    # An export is kept for a day.
    "audit.expire_exports": (_expired_export, ["audit_export DELETE"]),
}
COMMANDS_ELSEWHERE = {
    "demo_data": "by the services alone; test_demo_data compares its ledgers",
    "migrate": "the owner's, before there is anything to tell of",
    "notary": "signs with a login that changes nothing else (tests/notary)",
    "secret_scanning": "calls /v1/secret-scanning/github as a partner would (tests/api)",
    "serve": "serves what is walked through in tests/web and tests/api",
    "setup_roles": "logins of the database",
    "worker": "runs the jobs above",
}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    """An erasure takes many steps, and there is no webhook of other tests."""

    monkeypatch.setattr(guard, "resolver", lambda _host, _port: ["8.8.8.8"])
    monkeypatch.setattr(services, "HOOK", "https://hook.example/")
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        Endpoint.objects.all().delete()
    for name, count in (("PAGE", 2), ("MOST_LOOKED_AT", 2), ("ENOUGH", 1)):
        monkeypatch.setattr(erasing, name, count)


def test_every_job_has_its_row():
    ours = {name for name in app.tasks if name.partition(".")[0] in OURS}
    rows = [set(CHANGING), set(NOTHING), set(WITHOUT)]
    assert set().union(*rows) == ours
    assert sum(map(len, rows)) == len(ours)


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_what_a_job_changes_is_recorded(world, watch, name):
    work = CHANGING[name](world)
    watch.forget()
    work()
    found = watch.changes()
    assert found.seen
    assert not found.unrecorded


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_what_changes_nothing(world, watch, name):
    work = NOTHING[name](world)
    watch.forget()
    work()
    assert not watch.changes().seen


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_what_is_a_rule_of_time(world, watch, name):
    prepare, expected = WITHOUT[name]
    work = prepare(world)
    watch.forget()
    work()
    assert watch.changes().unrecorded == expected


def test_a_sealed_secret_whose_time_is_over_is_forgotten(world, watch):
    """That the rotation ends then was told as it began; a fetch before is `rotation.fetched`."""
    _rotate(world)()
    watch.forget()
    auto_rotation.forget_ended(timezone.now() + timedelta(days=3))
    assert watch.changes().unrecorded == ["keys_rotation UPDATE"]


class TestCommands:
    def run(self, *arguments: str) -> None:
        call_command(*arguments, stdout=io.StringIO(), stderr=io.StringIO())

    def test_every_one_has_its_test(self):
        ours = {name for name, of in get_commands().items() if of in OURS}
        tested = {"createsuperuser", "ledger", "peppers", "encryption_keys"}
        assert ours == tested | set(COMMANDS_ELSEWHERE)

    def test_a_superuser(self, watch, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO("a-staple-of-another-kind\n"))
        watch.forget()
        self.run("createsuperuser", f"{builders.unique('olga')}@example.com")
        found = watch.changes()
        assert found.seen
        assert not found.unrecorded

    def test_an_erasure(self, world, watch):
        ledgers.append(world.cast.acme.id, 4, actor=builders.as_actor(world.cast.vera))
        watch.forget()
        self.run("ledger", "erase", "--organization", world.cast.acme.id, "--person", world.cast.vera.id)
        found = watch.changes()
        assert found.seen
        assert not found.unrecorded

    @pytest.mark.parametrize(
        "arguments",
        [("peppers",), ("encryption_keys",), ("encryption_keys", "--renew")],
        ids=" ".join,
    )
    def test_those_that_only_count_and_wrap_anew(self, world, watch, arguments):
        world.endpoint  # noqa: B018 - it is made
        watch.forget()
        self.run(*arguments)
        assert not watch.changes().seen
