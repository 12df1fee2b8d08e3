"""What `/readyz`, the operator and people's pages say of the worker: that it is there, or that nothing is delivered."""

import json
import os
from datetime import UTC, datetime

import psycopg
import pytest
from django.db import connection
from django.template import Context, Template
from django.test import Client
from django.urls import reverse

from audit import ledger, searching, tenancy
from audit.actors import Actor
from audit.models import Entry, Mail
from tests import builders, ledgers

KEYS = {"status", "database", "worker", "worker_seen_seconds", "queue", "search_behind", "undelivered"} | {
    f"notary{what}" for what in ("", "_beat_seconds", "_swept_seconds", "_alarms")
}


@pytest.fixture
def queue():
    """The queue's tables, as the worker writes them, from nothing on."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as app:
        forget(app)
        yield app
        forget(app)


def forget(queue):
    """Leave nothing of a worker, one of other tests included."""
    queue.execute("DELETE FROM procrastinate_jobs WHERE task_name LIKE 'tests.%'")
    queue.execute("DELETE FROM procrastinate_workers")
    queue.execute("DELETE FROM procrastinate_periodic_defers")


@pytest.fixture
def notary():
    """The notary's row, as it writes it: call it to let one be there."""
    with ledgers.superuser() as superuser:

        def beat(ago=0, alarms=()):
            superuser.execute(
                "INSERT INTO audit_notary (instance, started_at, beat_at, swept_at, alarms) VALUES"
                " ('a', now(), now() - make_interval(secs => %s), now() - interval '1 minute', %s)",
                [ago, json.dumps(alarms)],
            )

        superuser.execute("DELETE FROM audit_notary")
        yield beat
        superuser.execute("DELETE FROM audit_notary")


def readyz():
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    return answer.json()


def beat(queue, ago="0 seconds"):
    queue.execute("DELETE FROM procrastinate_workers")
    queue.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s::interval)", [ago])


def put(queue, status="todo", task="tests.job", scheduled=None):
    queue.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, scheduled_at)"
        " VALUES ('tests', %s, %s, now() + %s::interval)",
        [task, status, scheduled],
    )


def words():
    return Template('{% load worker %}{% worker_missing "Webhooks are not delivered." %}').render(Context())


class TestReadyz:
    def test_a_worker_that_lives(self, queue):
        beat(queue)
        found = readyz()
        assert set(found) == KEYS
        assert (found["status"], found["worker"]) == ("ok", "ok")
        assert found["worker_seen_seconds"] < 5

    def test_one_that_was_killed(self, queue):
        beat(queue, "2 minutes")
        found = readyz()
        assert (found["status"], found["worker"]) == ("ok", "missing")
        assert 115 < found["worker_seen_seconds"] < 125

    def test_one_that_was_stopped(self, queue):
        """It leaves no row behind; what the clock had it do tells when it was there."""
        queue.execute("DELETE FROM procrastinate_workers")
        queue.execute(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp)"
            " VALUES ('tests.job', extract(epoch FROM now())::bigint - 5)"
        )
        found = readyz()
        assert found["worker"] == "missing"
        assert 4 <= found["worker_seen_seconds"] < 15

    def test_none_ever(self, queue):
        queue.execute("DELETE FROM procrastinate_workers")
        found = readyz()
        assert (found["worker"], found["worker_seen_seconds"]) == ("missing", None)

    def test_what_waits(self, queue):
        before = readyz()["queue"]
        put(queue)
        put(queue, scheduled="-90 seconds")
        put(queue, scheduled="1 hour")
        put(queue, "failed")
        after = readyz()["queue"]
        assert after["due"] == before["due"] + 2
        assert after["failed"] == before["failed"] + 1
        assert after["oldest_seconds"] >= 90

    def test_counts_alone(self, queue):
        put(queue, "failed", task="tests.secret_name")
        acme = builders.organization()
        text = Client().get("/readyz").content.decode()
        assert "secret_name" not in text
        assert acme.id not in text

    def test_mail_that_waits_in_any_organization(self, queue):
        before, acme = readyz()["undelivered"]["mails"], builders.organization()
        waiting(acme)
        assert readyz()["undelivered"]["mails"] == before + 1


class TestTheOperatorsPage:
    def test_nothing_is_delivered(self, queue):
        beat(queue, "1 hour")
        client = builders.signed_in(builders.person("Olga", is_superuser=True))
        for name in ("admin:health", "admin:index"):
            shown = client.get(reverse(name)).content.decode()
            assert "Nothing is delivered: no worker has been seen since" in shown
            assert "No mail is sent" in shown
        beat(queue)
        assert "Nothing is delivered" not in client.get(reverse("admin:health")).content.decode()

    def test_without_a_mail_server_it_says_so(self, queue, settings):
        client = builders.signed_in(builders.person("Olga", is_superuser=True))
        assert "No mail is sent" in client.get(reverse("admin:health")).content.decode()
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
        assert "No mail is sent" not in client.get(reverse("admin:health")).content.decode()

    def test_what_failed(self, queue):
        put(queue, "failed", task="tests.broken_job")
        acme = builders.organization()
        waiting(acme, attempts=3, error="SMTPDataError 554")
        waiting(acme, index=2, state="given_up", error="TimeoutError")
        client = builders.signed_in(builders.person("Olga", is_superuser=True))
        shown = client.get(reverse("admin:health")).content.decode()
        assert "tests.broken_job" in shown
        assert "SMTPDataError 554" in shown
        assert "given up" in shown
        assert shown.count(acme.id) == 2


class TestTheNotary:
    def test_none_ever(self, notary):
        found = readyz()
        assert (found["status"], found["notary"], found["notary_alarms"]) == ("ok", "missing", 0)
        assert (found["notary_beat_seconds"], found["notary_swept_seconds"]) == (None, None)
        assert "no notary has ever been seen" in self.shown()

    def test_one_that_lives(self, notary):
        notary(ago=2)
        found = readyz()
        assert (found["status"], found["notary"]) == ("ok", "ok")
        assert 2 <= found["notary_beat_seconds"] < 10
        assert 60 <= found["notary_swept_seconds"] < 70
        assert "Nothing is signed" not in self.shown()

    def test_one_that_was_killed(self, notary):
        notary(ago=120)
        assert (readyz()["notary"], readyz()["status"]) == ("missing", "ok")
        assert "the notary has not been seen since" in self.shown()

    def test_what_it_found_is_counted_for_all_and_told_the_operator(self, notary):
        acme = builders.organization()
        notary(
            alarms=[{"organization": acme.id, "epoch": 1, "index": None, "kind": "rewritten", "what": "<b>x"}]
        )
        found = readyz()
        assert (found["status"], found["notary"], found["notary_alarms"]) == ("ok", "alarm", 1)
        assert acme.id not in json.dumps(found)
        shown = self.shown()
        assert "1 ledger is not as signed" in shown
        assert f"{acme.id}</th>" in shown
        assert "rewritten: &lt;b&gt;x" in shown

    def test_a_key_that_it_has_not_read_is_no_changed_ledger(self, notary):
        acme = builders.organization()
        what = "the ledger names a key that this notary does not hold (0badc0de)"
        notary(alarms=[{"organization": acme.id, "epoch": 1, "index": None, "kind": "key", "what": what}])
        assert (readyz()["notary"], readyz()["status"]) == ("alarm", "ok")
        shown = self.shown()
        assert "1 ledger announces a key that the notary does not sign with" in shown
        assert "restart <code>manage.py notary run</code>" in shown
        assert f"key: {what}" in shown
        assert "not as signed" not in shown

    @staticmethod
    def shown():
        client = builders.signed_in(builders.person("Olga", is_superuser=True))
        assert client.get(reverse("admin:index")).status_code == 200
        return client.get(reverse("admin:health")).content.decode()


class TestTheSearch:
    def test_how_far_it_is_behind(self):
        for each in searching.behind():
            while searching.keep_words(each):
                pass
        assert readyz()["search_behind"] == 0
        assert "up to date" in self.shown()
        acme = builders.organization()
        ledgers.append(acme.id, 3 * 64)
        found = readyz()
        assert (found["status"], found["search_behind"]) == ("ok", 3 * 64)
        assert "192 entries behind" in self.shown()
        # The last ones make no block: they are nobody's delay.
        searching.keep_words(acme.id, most=2)
        assert readyz()["search_behind"] == 64
        searching.keep_words(acme.id)
        assert readyz()["search_behind"] == 0

    def test_what_an_erasure_took_is_read_again(self):
        acme, bob = builders.organization(), Actor(id="usr_bob", name=builders.unique("Bob"))
        ledgers.append(acme.id, 2 * 64, actor=bob)
        searching.keep_words(acme.id)
        before = readyz()["search_behind"]
        with tenancy.within(acme.id):
            first = Entry.objects.of(acme.id).filter(actor=bob.id).oldest_first().first()
            with ledger.recording(acme.id, Actor.system("tests")) as entry:
                entry("ledger.erasure", target="usr_bob", data={"entries": [first.index], "fields": ["name"]})
        assert readyz()["search_behind"] == before + 64

    def test_nobody_asks_from_within_an_organization(self):
        acme = builders.organization()
        ledgers.append(acme.id, 2 * 64)
        with tenancy.within(acme.id), connection.cursor() as cursor:
            cursor.execute("SELECT audit_search_lag()")
            assert cursor.fetchone()[0] == 0

    @staticmethod
    def shown():
        client = builders.signed_in(builders.person("Olga", is_superuser=True))
        return client.get(reverse("admin:health")).content.decode()


class TestOtherPages:
    def test_they_say_what_does_not_happen(self, queue):
        beat(queue, "1 hour")
        assert "<b>Webhooks are not delivered.</b> No worker has been seen since" in words()
        queue.execute("DELETE FROM procrastinate_workers")
        assert "No worker has ever been seen." in words()

    def test_nothing_while_one_lives(self, queue):
        beat(queue)
        assert words().strip() == ""


def waiting(where, index=1, **columns):
    now = datetime.now(UTC)
    fields = {
        "epoch": 1,
        "user_id": "usr_x",
        "act": "key.expired",
        "created_at": now,
        "due_at": now,
    } | columns
    with tenancy.within(where.id):
        Mail.objects.create(organization_id=where.id, index=index, subject="s", text="t", **fields)
