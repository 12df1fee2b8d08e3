"""`GET /v1/revocations` on a real server: who hears what, how soon, and what ends a stream."""

import asyncio
import contextlib
import socket
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import psycopg
import pytest
from django.utils import timezone

from audit import tenancy
from keys import callers, revocations
from keys import services as key_services
from keys.errors import Unavailable
from keys.revocations import EVERYTHING, Hub, Narrowed, Subscriber
from keys.rotation import Mode
from keys.services import Changes
from keys.verification import running
from orgs import services
from orgs.models import Membership
from orgs.roles import Role
from tests import builders, key_builders
from tests.api import calls
from tests.stream.listening import superuser
from tests.stream.serving import BOUND, serving, stream

pytestmark = pytest.mark.timed

LISTENER = "application_name = 'keystead revocations' AND datname = current_database()"


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def listening(server, verifier):
    """A stream of acme's verifier."""
    with stream(server, verifier.secret) as events:
        # LISTEN may just have begun with it.
        events.rest(0.1)
        yield events


def change(cast, key, **changes):
    with tenancy.within(cast.acme.id):
        key_services.change_key(key, Changes(**changes), actor=callers.of_member(cast.member(cast.alice)))


def revoke(cast, key):
    with tenancy.within(key.organization_id):
        who = cast.mallory if key.organization_id == cast.elsewhere.id else cast.alice
        key_services.revoke_key(key, actor=callers.of_member(cast.member(who)))


def of_key(key):
    return ("key", key.id)


class TestWhatIsHeard:
    def test_a_revocation(self, cast, made, listening):
        revoke(cast, made.key)
        assert listening.next() == of_key(made.key)

    @pytest.mark.parametrize(
        "changes", [{"enabled": False}, {"allowed_ips": ["192.0.2.1"]}], ids=["disabled", "addresses"]
    )
    def test_a_change(self, cast, made, listening, changes):
        change(cast, made.key, **changes)
        assert listening.next() == of_key(made.key)

    def test_a_rotation_at_once(self, cast, made, listening):
        key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        assert listening.next() == of_key(made.key)

    def test_a_demotion(self, cast, listening):
        with tenancy.within(cast.acme.id):
            carol = Membership.objects.get(organization=cast.acme, user=cast.carol)
        services.change_role(carol, Role.VIEWER, actor=cast.member(cast.alice))
        assert listening.next() == ("organization", cast.acme.id)
        assert listening.rest() == []

    def test_psql(self, made, listening):
        with superuser() as session:
            session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [made.key.id])
        assert listening.next() == of_key(made.key)

    def test_a_foreign_organization_hears_nothing(self, cast, made, server, listening):
        stranger = calls.key(cast.elsewhere, cast.mallory, ["keys:verify"])
        theirs = key_builders.create(cast.elsewhere, cast.mallory)
        with stream(server, stranger.secret) as events:
            revoke(cast, made.key)
            assert listening.next() == of_key(made.key)
            revoke(cast, theirs.key)
            assert events.next() == of_key(theirs.key)
            assert listening.rest() == []
            assert events.rest() == []

    def test_the_operator_hears_all(self, cast, made, server, operator):
        theirs = key_builders.create(cast.elsewhere, cast.mallory)
        with stream(server, operator) as events:
            revoke(cast, made.key)
            assert events.next() == of_key(made.key)
            revoke(cast, theirs.key)
            assert events.next() == of_key(theirs.key)

    def test_a_suspension_reaches_the_operator(self, server, operator):
        where = builders.organization("Suspended")
        with stream(server, operator) as events:
            services.suspend_organization(where, actor=builders.OPERATOR)
            assert events.next() == ("organization", where.id)

    def test_a_forged_notification_only_makes_everybody_ask_again(self, listening):
        with superuser() as session:
            session.execute("SELECT pg_notify('keystead_narrowed', E'org_a\\n\\nevent: ready')")
        assert listening.next() == ("everything", "*")

    def test_a_ping_every_300_ms(self, listening):
        time.sleep(3)
        gaps = [later - sooner for sooner, later in zip(listening.pings, listening.pings[1:], strict=False)]
        assert len(gaps) >= 8
        assert max(gaps) < BOUND
        assert 0.2 < sum(gaps) / len(gaps) < 0.45

    def test_it_is_heard_at_once(self, cast, listening):
        took = []
        for _ in range(20):
            key = key_builders.create(cast.acme, cast.alice).key
            start = time.monotonic()
            with superuser() as session:
                session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [key.id])
            assert listening.next() == of_key(key)
            took.append(time.monotonic() - start)
        assert max(took) < BOUND


class TestTheEndOfAStream:
    def test_its_own_key_is_revoked(self, cast, verifier, listening):
        revoke(cast, verifier.key)
        assert listening.next() == of_key(verifier.key)
        assert listening.next() is None

    def test_its_own_key_loses_the_scope(self, cast, server):
        own = calls.key(cast.acme, cast.alice, ["keys:verify", "keys:read"])
        with stream(server, own.secret) as events:
            change(cast, own.key, scopes=["keys:read"])
            assert events.rest()[-2:] == [of_key(own.key), None]

    def test_a_change_that_leaves_it_what_it_needs_ends_nothing(self, cast, server):
        own = calls.key(cast.acme, cast.alice, ["keys:verify", "keys:read"])
        with stream(server, own.secret) as events:
            change(cast, own.key, scopes=["keys:verify"])
            assert events.rest()[-1:] == [of_key(own.key)]

    def test_its_own_secret_expires(self, cast, server):
        own = calls.key(cast.acme, cast.alice, ["keys:verify"], expires=timezone.now() + timedelta(seconds=3))
        with stream(server, own.secret) as events:
            start = time.monotonic()
            while events.next(5) is not None:
                pass
            assert time.monotonic() - start < 4

    def test_its_organization_is_suspended(self, server):
        owner = builders.person("Owner")
        where = builders.organization("Suspended", owner=owner)
        own = calls.key(where, owner, ["keys:verify"])
        with stream(server, own.secret) as events:
            services.suspend_organization(where, actor=builders.OPERATOR)
            assert events.rest() == [("organization", where.id), None]

    def test_the_listening_connection_is_lost(self, server, listening):
        """Told as everything, and again when it is back; pings go on."""
        with superuser() as session:
            ended = session.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENER}"
            )
            # Of a server that another test stopped, one may still be there.
            assert ended.rowcount >= 1
        assert listening.rest(1)[:2] == [("everything", "*")] * 2
        before = len(listening.pings)
        time.sleep(1)
        assert len(listening.pings) > before


class TestTheGateAlone:
    def test_it_streams_and_a_stop_does_not_wait_for_the_clients(self, cast, made, verifier, tmp_path):
        with serving(tmp_path, is_gate=True) as gate, stream(gate, verifier.secret) as events:
            revoke(cast, made.key)
            assert events.next() == of_key(made.key)
            assert gate.process
            start = time.monotonic()
            gate.process.terminate()
            assert events.next(5) is None
            assert gate.process.wait(5) == 0
            assert time.monotonic() - start < 5


class TestWhoMayListen:
    def asked(self, server, method="GET", query="", **headers):
        return httpx.request(method, f"{server.url}/v1/revocations{query}", headers=headers, timeout=5)

    def test_nobody(self, server):
        answer = self.asked(server)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="keystead"'
        self.is_problem(answer)

    def test_a_secret_that_is_none(self, server):
        answer = self.asked(server, Authorization="Bearer nonsense")
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        self.is_problem(answer)

    def test_a_revoked_key(self, cast, server, verifier):
        revoke(cast, verifier.key)
        assert self.asked(server, Authorization=f"Bearer {verifier.secret}").status_code == 401

    def test_a_key_without_the_scope(self, cast, server):
        other = calls.key(cast.acme, cast.alice, ["keys:read"])
        answer = self.asked(server, Authorization=f"Bearer {other.secret}")
        assert answer.status_code == 403
        assert 'error="insufficient_scope", scope="keys:verify"' in answer.headers["WWW-Authenticate"]
        self.is_problem(answer)

    def test_a_key_from_another_address(self, cast, server):
        own = calls.key(cast.acme, cast.alice, ["keys:verify"], allowed_ips=["192.0.2.1"])
        assert self.asked(server, Authorization=f"Bearer {own.secret}").status_code == 401

    def test_a_key_in_the_address(self, server, verifier):
        assert self.asked(server, query=f"?key={verifier.secret}").status_code == 401
        answer = self.asked(server, query="?access_token=x", Authorization=f"Bearer {verifier.secret}")
        assert answer.status_code == 400

    def test_an_unknown_parameter(self, server, verifier):
        answer = self.asked(server, query="?since=1", Authorization=f"Bearer {verifier.secret}")
        assert answer.status_code == 422

    def test_another_method(self, server, verifier):
        answer = self.asked(server, "POST", Authorization=f"Bearer {verifier.secret}")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")

    def test_what_an_answer_has(self, server, verifier):
        headers = {"Authorization": f"Bearer {verifier.secret}", "X-Request-Id": "mine-1"}
        with httpx.stream("GET", f"{server.url}/v1/revocations", headers=headers, timeout=5) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Request-Id"] == "mine-1"
            assert next(response.iter_raw()) == b"event: ready\ndata:\n\n"

    def is_problem(self, answer):
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


class TestSlowReaders:
    def test_one_that_reads_nothing_holds_up_nobody(self, server, cast, verifier, listening):
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            request = (
                f"GET /v1/revocations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {verifier.secret}\r\n\r\n"
            )
            deaf.sendall(request.encode())
            for _ in range(5):
                key = key_builders.create(cast.acme, cast.alice).key
                with superuser() as session:
                    session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [key.id])
                assert listening.next() == of_key(key)

    def test_too_much_becomes_everything(self):
        subscriber = Subscriber(None)
        subscriber.tell(Narrowed(f"key_{n}", "org_a") for n in range(revocations.MAX_PENDING + 1))
        assert next_of(subscriber) == ([EVERYTHING], False)
        subscriber.tell([Narrowed("key_1", "org_a"), Narrowed("key_1", "org_a")])
        subscriber.ping()
        assert next_of(subscriber) == ([Narrowed("key_1", "org_a")], True)


def next_of(subscriber):
    async def first():
        return await anext(aiter(subscriber))

    return asyncio.run(first())


class TestHub:
    """What can't be shown from outside: a database that is away."""

    def test_nobody_is_told_ready_who_is_not_listened_for(self, monkeypatch):
        monkeypatch.setattr(revocations, "READY_SECONDS", 0.2)

        async def away():
            raise OSError("away")

        async def subscribe():
            hub = Hub(away)
            try:
                async with hub.subscribed(None):
                    pytest.fail("ready")
            finally:
                await hub.close()

        with pytest.raises(Unavailable):
            asyncio.run(subscribe())

    def test_a_pooler_is_no_server_to_listen_to(self, monkeypatch):
        """It would take LISTEN, answer every question, and pass nothing on."""
        monkeypatch.setattr(revocations, "READY_SECONDS", 1)

        class Pooled(psycopg.AsyncConnection):
            @property
            def info(self):
                return SimpleNamespace(backend_pid=super().info.backend_pid + 1)

        async def subscribe():
            hub = Hub(lambda: Pooled.connect(running.dsn(), autocommit=True))
            try:
                async with hub.subscribed(None):
                    pytest.fail("ready")
            finally:
                await hub.close()

        with pytest.raises(Unavailable):
            asyncio.run(subscribe())

    def test_streams_are_closed_where_the_loss_lasts(self, monkeypatch):
        monkeypatch.setattr(revocations, "LOST_SECONDS", 0.5)
        monkeypatch.setattr(revocations, "RECONNECT_SECONDS", 0.05)
        first = True

        async def once():
            nonlocal first
            if not first:
                raise OSError("away")
            first = False
            return await revocations._connect()

        async def subscribe():
            hub = Hub(once)
            heard = []
            async with hub.subscribed("org_a") as subscriber:
                with superuser() as session:
                    session.execute(
                        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENER}"
                    )
                lost_at = None
                async with asyncio.timeout(10):
                    async for items, is_pinged in subscriber:
                        heard += items
                        if heard and lost_at is None:
                            lost_at = time.monotonic()
                        assert not (heard and is_pinged)
            await hub.close()
            return heard, time.monotonic() - (lost_at or 0)

        heard, lasted = asyncio.run(subscribe())
        assert set(heard) == {EVERYTHING}
        assert lasted < 2

    def test_streams_are_bounded(self, monkeypatch):
        monkeypatch.setattr(revocations, "MAX_OF_ORGANIZATION", 2)
        monkeypatch.setattr(revocations, "MAX_STREAMS", 3)

        async def fill(*organizations):
            hub = Hub(revocations._connect)
            async with contextlib.AsyncExitStack() as stack:
                for organization_id in organizations:
                    await stack.enter_async_context(hub.subscribed(organization_id))
                await hub.close()

        asyncio.run(fill("org_a", "org_a", "org_b"))
        for full in (("org_a", "org_a", "org_a"), ("org_a", "org_a", "org_b", None)):
            with pytest.raises(revocations.Problem) as caught:
                asyncio.run(fill(*full))
            assert (caught.value.status, caught.value.code) == (503, "too_many_streams")
            assert caught.value.headers == {"Retry-After": "2"}


def test_the_channel_is_the_one_that_is_told():
    sql = (Path(revocations.__file__).parent / "migrations" / "narrowing.sql").read_text()
    assert f"pg_notify('{revocations.CHANNEL}'" in sql
