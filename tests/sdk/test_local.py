"""The local mode against the real portal: what is kept, how soon it goes, what is counted, and what never opens."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone
from keystead import AsyncKeystead, Keystead
from keystead.errors import InvalidKey, Refused, Unavailable
from keystead.local import LocalOptions
from keystead.question import ask

from audit import tenancy
from keys import callers
from keys import services as key_services
from keys.models import Call, KeySecret
from keys.rotation import Mode
from keys.services import Changes, Owner
from orgs import services
from orgs.models import Organization
from orgs.roles import Role
from tests import builders, key_builders
from tests.api import calls
from tests.stream.listening import superuser
from tests.stream.serving import BOUND, serving

pytestmark = pytest.mark.timed

PATIENCE = 10
SDK = Path(__file__).resolve().parent.parent.parent / "sdk" / "src"


@pytest.fixture(scope="module")
def portal(django_db_setup, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("portal")) as found:
        yield found


@pytest.fixture
def own_portal(django_db_setup, tmp_path):
    """One to kill."""
    with serving(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def verifier(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return calls.key(cast.acme, cast.alice, ["keys:verify"])


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice, scopes=["incidents:read", "incidents:write"])


def keeping(portal, verifier, **options):
    return Keystead(portal.url, verifier.secret, timeout=1.0, retries=0, local=LocalOptions(**options))


@pytest.fixture
def client(portal, verifier):
    with keeping(portal, verifier, max_staleness=30) as found:
        yield found


def kept(client):
    return client._judge._local._kept


def keep(client, secret, **question):
    """Ask until the verdict is kept."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        client.api_keys.validate(secret, **question)
        if kept(client).find(ask(secret, **question)) is not None:
            return
        time.sleep(0.02)
    raise AssertionError("it was never kept")


def refused_after(client, secret, **question):
    """Ask until it is refused; return the seconds that it took and the code."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        try:
            client.api_keys.validate(secret, **question)
        except Refused as error:
            return time.monotonic() - start, error.code
        time.sleep(0.001)
    raise AssertionError("it was never refused")


def recorded(key):
    """Return how many calls of a key the portal has recorded."""
    with tenancy.within(key.organization_id):
        return sum(call.calls for call in Call.objects.filter(key_id=key.id))


def change(cast, key, **changes):
    with tenancy.within(cast.acme.id):
        key_services.change_key(key, Changes(**changes), actor=callers.of_member(cast.member(cast.alice)))


def revoke(cast, key):
    with tenancy.within(key.organization_id):
        key_services.revoke_key(key, actor=callers.of_member(cast.member(cast.alice)))


class TestNarrowing:
    """Each reaches a connected client within a second, though it would keep for thirty."""

    def is_refused(self, client, secret, code, **question):
        took, found = refused_after(client, secret, **question)
        assert (found, took < BOUND) == (code, True), took

    def test_a_revocation(self, cast, client, made):
        keep(client, made.secret)
        revoke(cast, made.key)
        self.is_refused(client, made.secret, "REVOKED")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"enabled": False}, "DISABLED"),
            ({"disabled_until": timezone.now() + timedelta(hours=2)}, "DISABLED"),
            ({"scopes": ["incidents:read"]}, "INSUFFICIENT_SCOPE"),
            ({"allowed_ips": ["192.0.2.0/24"]}, "IP_NOT_ALLOWED"),
        ],
        ids=["disabled", "disabled for a while", "scopes", "addresses"],
    )
    def test_a_change(self, cast, client, made, changes, code):
        question = {"scopes": ["incidents:write"], "ip": "203.0.113.7"}
        keep(client, made.secret, **question)
        change(cast, made.key, **changes)
        self.is_refused(client, made.secret, code, **question)

    def test_an_expiry_that_comes_sooner(self, cast, client, made):
        keep(client, made.secret)
        with superuser() as session:
            for table, column in (("keys_apikey", "id"), ("keys_keysecret", "key_id")):
                session.execute(f"UPDATE {table} SET expires_at = now() WHERE {column} = %s", [made.key.id])
        self.is_refused(client, made.secret, "EXPIRED")

    def test_a_demotion(self, cast, client):
        eve = builders.person("Eve")
        membership = builders.join(eve, cast.acme, Role.DEVELOPER)
        made = key_builders.create(cast.acme, cast.alice, scopes=["incidents:write"], owner=Owner(member=eve))
        keep(client, made.secret, scopes=["incidents:write"])
        services.change_role(membership, Role.VIEWER, actor=cast.member(cast.alice))
        self.is_refused(client, made.secret, "FORBIDDEN", scopes=["incidents:write"])

    def test_a_narrowed_project(self, cast, client):
        project = builders.project(builders.root(cast.acme))
        made = key_builders.create(cast.acme, cast.alice, scopes=["incidents:write"], project=project)
        keep(client, made.secret, scopes=["incidents:write"])
        services.set_project_scopes(project, ["incidents:read"], actor=builders.OPERATOR)
        self.is_refused(client, made.secret, "FORBIDDEN", scopes=["incidents:write"])

    def test_a_suspension(self, portal, operators):
        owner = builders.person("Owner")
        where = builders.organization("Suspended", owner=owner)
        made = key_builders.create(where, owner)
        with keeping(portal, operators, max_staleness=30) as client:
            keep(client, made.secret)
            services.suspend_organization(where, actor=builders.OPERATOR)
            self.is_refused(client, made.secret, "ORGANIZATION_SUSPENDED")

    def test_a_rotation_at_once(self, cast, client, made):
        keep(client, made.secret)
        key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        self.is_refused(client, made.secret, "SECRET_RETIRED")

    def test_a_completed_rotation(self, cast, client, made):
        key_builders.rotate(made.key, cast.acme, cast.alice)
        keep(client, made.secret)
        with tenancy.within(cast.acme.id):
            KeySecret.objects.filter(key=made.key, version=1).update(accepted_until=timezone.now())
        self.is_refused(client, made.secret, "SECRET_RETIRED")

    def test_a_limit_that_is_new(self, client, made):
        """From then on every call goes to the portal, so that the limit is exact."""
        keep(client, made.secret)
        with superuser() as session:
            session.execute(
                "UPDATE keys_apikey SET rate_limit_requests = 5, rate_limit_window_seconds = 3600 WHERE id = %s",
                [made.key.id],
            )
        self.is_refused(client, made.secret, "RATE_LIMITED")
        before = recorded(made.key)
        for _ in range(3):
            with pytest.raises(Refused):
                client.api_keys.validate(made.secret)
        assert recorded(made.key) == before + 3

    def test_of_a_stranger_changes_nothing(self, cast, client, made):
        theirs = key_builders.create(cast.elsewhere, cast.mallory)
        keep(client, made.secret)
        with superuser() as session:
            session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [theirs.key.id])
        time.sleep(0.5)
        assert kept(client).find(ask(made.secret)) is not None

    def test_while_it_is_asked_for(self, cast, client, made):
        """The answer left the portal before the revocation, and arrives after it was heard of."""
        keep(client, made.secret)
        local, question = client._judge._local, ask(made.secret)
        mark = local.asking()
        verdict = client._judge.verify(question)
        revoke(cast, made.key)
        deadline = time.monotonic() + PATIENCE
        while local.validate(question) is not None:
            assert time.monotonic() < deadline
        local.learn(mark, question, verdict)
        assert local.validate(question) is None


@pytest.fixture(scope="module")
def operators(django_db_setup, django_db_blocker):
    """A key that may verify every organization's keys."""
    with django_db_blocker.unblock():
        owner, operator_id = builders.person("Oper"), tenancy.operator_id()
        with tenancy.within(operator_id):
            own = Organization.objects.get(pk=operator_id)
            services.appoint_owner(own, owner, actor=builders.OPERATOR)
        return calls.key(own, owner, ["keys:verify"])


class TestWithoutThePortal:
    def test_a_killed_portal_opens_nothing(self, own_portal, verifier, made):
        with keeping(own_portal, verifier, max_staleness=30) as client:
            keep(client, made.secret)
            own_portal.kill()
            start = time.monotonic()
            while time.monotonic() - start < BOUND:
                with contextlib.suppress(Unavailable):
                    client.api_keys.validate(made.secret)
            for _ in range(3):
                with pytest.raises(Unavailable):
                    client.api_keys.validate(made.secret)
            assert len(kept(client)) == 0
            own_portal.start()
            keep(client, made.secret)

    def test_a_portal_that_falls_silent_is_not_believed(self, cast, own_portal, verifier, made):
        """Its connections stay open; it is only stopped. What happens meanwhile is not heard of."""
        with keeping(own_portal, verifier, max_staleness=30) as client:
            keep(client, made.secret)
            assert own_portal.process
            os.kill(own_portal.process.pid, signal.SIGSTOP)
            try:
                stopped = time.monotonic()
                revoke(cast, made.key)
                last = stopped
                while kept(client).find(ask(made.secret)) is not None:
                    last = time.monotonic()
                    assert last - stopped < BOUND
                with pytest.raises(Unavailable):
                    client.api_keys.validate(made.secret)
            finally:
                os.kill(own_portal.process.pid, signal.SIGCONT)
            assert refused_after(client, made.secret)[1] == "REVOKED"

    def test_a_portal_without_a_stream_is_asked_each_time(self, cast, portal, made):
        """Its own key may not listen: each call is asked for, as without the local mode."""
        other = calls.key(cast.acme, cast.alice, ["keys:verify"])
        with keeping(portal, other, max_staleness=30) as client:
            keep(client, made.secret)
            revoke(cast, other.key)
            deadline = time.monotonic() + BOUND
            while kept(client).is_live and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not kept(client).is_live
            assert len(kept(client)) == 0

    def test_a_new_connection_begins_with_nothing(self, client, made):
        keep(client, made.secret)
        with superuser() as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'keystead revocations' AND datname = current_database()"
            )
        deadline = time.monotonic() + BOUND
        while kept(client).find(ask(made.secret)) is not None:
            assert time.monotonic() < deadline
        keep(client, made.secret)


class TestCounting:
    def test_every_use_is_counted_once(self, portal, verifier, made):
        with keeping(portal, verifier, max_staleness=30) as client:
            keep(client, made.secret)
            done = 0
            for number in range(2_000):
                client.api_keys.validate(made.secret, endpoint=f"GET /{number % 7}", cost=2)
                done += 1
            before = recorded(made.key)
            assert before < 2_000
        with tenancy.within(made.key.organization_id):
            found = list(Call.objects.filter(key_id=made.key.id, cost__gt=1))
        assert sum(call.calls for call in found) == done
        assert sum(call.cost for call in found) == 2 * done
        assert {call.endpoint for call in found} == {f"GET /{number}" for number in range(7)}

    def test_without_being_closed_within_seconds(self, client, made):
        keep(client, made.secret)
        before = recorded(made.key)
        for _ in range(100):
            client.api_keys.validate(made.secret)
        deadline = time.monotonic() + 5
        while recorded(made.key) < before + 100:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_what_waits_while_the_portal_is_away_is_told_later_once(self, own_portal, verifier, made):
        with keeping(own_portal, verifier, max_staleness=30) as client:
            keep(client, made.secret)
            time.sleep(1.5)
            before = recorded(made.key)
            for _ in range(50):
                assert client._judge._local.validate(ask(made.secret)) is not None
            own_portal.kill()
            time.sleep(2)
            own_portal.start()
        # Closing waits for what is left; a report that was under way counts once.
        assert recorded(made.key) == before + 50

    def test_a_program_that_just_ends(self, portal, verifier, made):
        program = """
            client = Keystead(url, own, local=LocalOptions(max_staleness=30))
            for _ in range(400):
                client.api_keys.validate(presented)
                time.sleep(0.002)
            print(sum(1 for _ in range(500) if client.api_keys.validate(presented)))
        """
        assert run(portal, verifier, made, program) == "500"
        assert recorded(made.key) == 900


class TestProcesses:
    def test_a_forked_child_has_its_own(self, portal, verifier, made):
        """It knows nothing of the parent's verdicts, listens itself, and what both count is counted once."""
        program = """
            client = Keystead(url, own, local=LocalOptions(max_staleness=30))
            local = client._judge._local
            def keep():
                while len(local._kept) == 0:
                    client.api_keys.validate(presented)
                    time.sleep(0.01)
            keep()
            for _ in range(100):
                client.api_keys.validate(presented)
            child = os.fork()
            if child == 0:
                assert len(local._kept) == 0 and not local._kept.is_live
                keep()
                for _ in range(100):
                    client.api_keys.validate(presented)
                client.close()
                os._exit(7)
            for _ in range(100):
                client.api_keys.validate(presented)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            client.close()
        """
        assert run(portal, verifier, made, program) == "7"
        with tenancy.within(made.key.organization_id):
            told = Call.objects.filter(key_id=made.key.id, calls__gt=1)
            assert 280 <= sum(call.calls for call in told) <= 300


def run(portal, verifier, made, program):
    """Run a program of somebody's in a process of its own; return what it printed."""
    lines = [
        "import os, sys, time",
        "from keystead import Keystead",
        "from keystead.local import LocalOptions",
        "url, own, presented = sys.argv[1:]",
        *[line.removeprefix(" " * 12) for line in program.splitlines()],
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(lines), portal.url, verifier.secret, made.secret],
        env={"PYTHONPATH": str(SDK)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


async def aside(act, *arguments):
    """Reach the database on a thread, and leave no connection behind on it."""

    def run():
        try:
            return act(*arguments)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


class TestAsync:
    def test_it_keeps_and_hears_too(self, cast, portal, verifier, made):
        async def use():
            async with AsyncKeystead(
                portal.url, verifier.secret, local=LocalOptions(max_staleness=30)
            ) as client:
                deadline = time.monotonic() + PATIENCE
                while kept(client).find(ask(made.secret)) is None:
                    assert time.monotonic() < deadline
                    await client.api_keys.validate(made.secret)
                    await asyncio.sleep(0.02)
                before = await aside(recorded, made.key)
                for _ in range(100):
                    await client.api_keys.validate(made.secret)
                assert await aside(recorded, made.key) == before
                await aside(revoke, cast, made.key)
                start = time.monotonic()
                with pytest.raises(InvalidKey):
                    while True:
                        await client.api_keys.validate(made.secret)
                        await asyncio.sleep(0.001)
                assert time.monotonic() - start < BOUND
                return before

        before = asyncio.run(use())
        deadline = time.monotonic() + PATIENCE
        while recorded(made.key) < before + 100:
            assert time.monotonic() < deadline
            time.sleep(0.1)
