"""PostgreSQL goes away before or in the middle of a request: 503, nothing half done, and then it works again."""

import time

import psycopg
import pytest
from django.db import connections, transaction

from keys import services
from keys.api import keys as operations
from keys.verification import records
from tests import builders, cluster, key_builders
from tests.api import calls
from tests.api.calls import is_problem


@pytest.fixture(autouse=True)
def reconnect():
    """As between two requests of a server: a broken connection is thrown away."""
    yield
    for connection in connections.all():
        connection.close()


def kill(alias):
    """End the server's side of our own connection, as a restart of PostgreSQL does."""
    terminate(connections[alias].connection.info.backend_pid)


def terminate(pid):
    """End one of PostgreSQL's processes."""
    url = cluster.cluster().url(dbname=cluster.database())
    with psycopg.connect(url, autocommit=True) as superuser:
        assert superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)


def eventually(ask):
    """Return the first answer that is not 503: the engine has been away for a moment."""
    for _ in range(100):
        answer = ask()
        if answer.status_code != 503:
            return answer
        time.sleep(0.05)
    return answer


def is_unavailable(answer):
    is_problem(answer, 503, "unavailable")
    assert int(answer["Retry-After"]) >= 1


class TestInTheMiddle:
    def test_of_a_creation(self, cast, api, monkeypatch):
        """The key's rows are written and the ledger's entry waits for the end, when the connection breaks."""
        before = key_builders.count(cast.acme)
        create = services.create_key

        def create_and_lose(draft, *, actor):
            made = create(draft, actor=actor)
            kill("default")
            return made

        monkeypatch.setattr(operations.services, "create_key", create_and_lose)
        body, once = calls.draft(), {"Idempotency_Key": builders.unique("once")}
        with builders.gains(cast.acme.id):
            is_unavailable(api.post("/api-keys", body, **once))
            connections["default"].close()
        assert key_builders.count(cast.acme) == before
        monkeypatch.undo()
        with builders.gains(cast.acme.id, "key.created"):
            answer = api.post("/api-keys", body, **once)
        assert answer.status_code == 201
        assert answer.json()["secret"]

    def test_of_a_verification(self, cast, api, monkeypatch):
        """The secret was read and judged, when the connection breaks: no verdict without its record."""
        made = key_builders.create(cast.acme, cast.alice)
        read = records.read

        async def read_and_lose(channel, digests, projects):
            found = await read(channel, digests, projects)
            terminate(channel._connection.info.backend_pid)
            return found

        monkeypatch.setattr(records, "read", read_and_lose)
        is_unavailable(api.post("/keys/verify", {"secret": made.secret}))
        monkeypatch.undo()
        assert eventually(lambda: api.post("/keys/verify", {"secret": made.secret})).json()["code"] == "VALID"

    def test_of_authentication(self, api, monkeypatch):
        assert api.get("/me").status_code == 200
        read = records.read

        async def lose(channel, digests, projects):
            terminate(channel._connection.info.backend_pid)
            return await read(channel, digests, projects)

        monkeypatch.setattr(records, "read", lose)
        is_unavailable(api.get("/me"))
        monkeypatch.undo()
        assert eventually(lambda: api.get("/me")).status_code == 200


class TestLocked:
    def test_a_ledger_that_can_not_be_written(self, cast, api):
        """Somebody holds the ledger's head for longer than we wait: nothing is changed without its entry."""
        assert api.post("/api-keys", calls.draft()).status_code == 201
        before = key_builders.count(cast.acme)
        url = cluster.cluster().url(dbname=cluster.database())
        with psycopg.connect(url) as superuser:
            superuser.execute(
                "SELECT 1 FROM audit_head WHERE organization_id = %s FOR UPDATE", [cast.acme.id]
            )
            assert superuser.execute("SELECT count(*) FROM pg_locks WHERE granted").fetchone()
            is_unavailable(api.post("/api-keys", calls.draft()))
        assert key_builders.count(cast.acme) == before
        assert api.post("/api-keys", calls.draft()).status_code == 201

    def test_an_open_change_of_a_key_stalls_no_verification(self, cast, api):
        made = key_builders.create(cast.acme, cast.alice)
        url = cluster.cluster().url(dbname=cluster.database())
        with psycopg.connect(url) as superuser:
            superuser.execute("SELECT 1 FROM keys_apikey WHERE id = %s FOR UPDATE", [made.key.id])
            assert api.post("/keys/verify", {"secret": made.secret}).json()["code"] == "VALID"


def test_a_failing_answer_undoes_the_change(cast, api, monkeypatch):
    """What goes wrong after the service and before the end leaves neither key nor entry."""

    def broken(*_arguments):
        raise RuntimeError("a bug")

    before = key_builders.count(cast.acme)
    monkeypatch.setattr(operations.present, "key", broken)
    with builders.gains(cast.acme.id):
        is_problem(api.post("/api-keys", calls.draft()), 500, "internal_server_error")
    assert key_builders.count(cast.acme) == before


def test_each_request_sees_its_own_organization_alone(cast, api):
    """After a request nothing of its organization is left on the connection."""
    assert api.get("/api-keys").status_code == 200
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('app.organization', true), '')")
        assert cursor.fetchone() == ("",)
