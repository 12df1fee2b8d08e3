"""Verification as it is served, with its processes and its database killed under it, and with what no client sends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import connections as database_connections

from keys import secret
from keys.api.answers import UnknownOut, VerdictOut
from keys.secret import Kind, Mode
from portal import database_roles
from portal.embedded import Cluster
from tests import cluster, key_builders
from tests.api.calls import Api, as_superuser, rows
from tests.db import gate_serving
from tests.db.gate_serving import ROOT, VERIFY, asking, is_alive, load, memory, raw, send, until

pytestmark = pytest.mark.timed

CLIENTS = 16
VERIFIES = ["keys:verify", "keys:read"]
NOBODYS = secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)
# A second for the answer, and what a busy machine needs to carry it.
BOUND = 1.2


@pytest.fixture(scope="module")
def verifier(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return key_builders.create(cast.acme, cast.alice, scopes=VERIFIES).secret


@pytest.fixture(scope="module")
def server(cast, tmp_path_factory):
    with gate_serving.serve(tmp_path_factory.mktemp("serve"), workers=2) as found:
        yield found


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def superuser(server):
    """Whoever may do anything to the database; afterwards every process has found back to it."""
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as connection:
        yield connection
    until(lambda: {send(server.port, "GET", "/readyz").status for _ in range(20)} == {200}, 10, server.log)
    database_connections["verify"].close()
    until(lambda: Api(None).get("/me", Authorization="Bearer x").status_code == 401, 10, server.log)


def ask(server, verifier, text, **asked):
    body = json.dumps({"secret": text, **asked}).encode()
    return send(server.port, "POST", VERIFY, body, **asking(verifier))


def recorded(key_id):
    return {name for (name,) in rows("SELECT request_id FROM keys_call WHERE key_id = %s", key_id)}


def is_unavailable(reply):
    assert reply.status == 503, reply
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json["code"] == "unavailable"


def holds(result, names, *, in_flight):
    """Assert that nothing but verdicts and 503 in time was answered, and that every verdict is recorded, once."""
    assert set(result.statuses) <= {200, 503}
    for reply in result.replies:
        if reply.status == 503:
            is_unavailable(reply)
        else:
            assert reply.json["code"] == "VALID"
    assert max(reply.seconds for reply in result.replies) < BOUND
    assert result.answered <= set(names)
    assert len(names) - len(result.answered) <= in_flight
    assert len(names) == len(set(names))


class TestProcesses:
    def test_one_that_is_killed_loses_no_record_and_is_replaced(self, server, verifier, made):
        before = server.processes()
        with load(server.port, verifier, made.secret, CLIENTS) as result:
            result.more(50)
            os.kill(before[0], signal.SIGKILL)
            result.more(50)
            until(lambda: len(server.processes()) == 2 and server.backends() == 2, 10, server.log)
            result.more(50)
        assert before[0] not in server.processes()
        assert before[1] in server.processes()
        assert set(result.statuses) == {200}
        assert result.answered <= recorded(made.key.id)
        assert len(recorded(made.key.id) - result.answered) <= CLIENTS

    def test_sigterm_ends_all_and_every_answer_was_recorded(self, tmp_path, verifier, made):
        with gate_serving.serve(tmp_path, workers=2) as own:
            started = own.processes()
            with load(own.port, verifier, made.secret, CLIENTS) as result:
                result.more(50)
                began = time.monotonic()
                own.supervisor.terminate()
                assert own.supervisor.wait(10) == 0
                took = time.monotonic() - began
            assert not any(map(is_alive, started))
            assert took < 3
        assert set(result.statuses) == {200}
        assert result.answered <= recorded(made.key.id)
        assert own.backends() == 0
        assert "Traceback" not in own.log.read_text()

    def test_without_their_supervisor_they_end(self, tmp_path):
        with gate_serving.serve(tmp_path, workers=2) as own:
            started = own.processes()
            assert len(started) == 2
            own.supervisor.kill()
            own.supervisor.wait(5)
            assert until(lambda: not any(map(is_alive, started)), 6) < 4

    def test_nor_do_they_outlive_one_that_dies_while_they_start(self, tmp_path):
        with gate_serving.serve(tmp_path, workers=2, waits=False) as own:
            until(lambda: len(own.processes()) == 2, 30, own.log)
            started = own.processes()
            own.supervisor.kill()
            own.supervisor.wait(5)
            try:
                until(lambda: not any(map(is_alive, started)), 10)
            finally:
                for pid in filter(is_alive, started):
                    os.kill(pid, signal.SIGKILL)

    def test_a_port_that_is_taken_is_refused_in_one_line(self, server):
        done = subprocess.run(
            gate_serving.command(server.port, 1),
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.splitlines() == [
            f"CommandError: 127.0.0.1:{server.port} is not free (Address already in use)"
        ]
        assert send(server.port, "GET", "/readyz").status == 200


class TestDatabase:
    def test_all_connections_are_terminated_under_load(self, server, verifier, made, superuser):
        ends = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'keystead_verify' AND datname = current_database()"
        )
        superuser.autocommit = True
        rounds = 4
        with load(server.port, verifier, made.secret, CLIENTS) as result:
            for _ in range(rounds):
                result.more(60)
                superuser.execute(ends)
            result.more(60)
        assert result.broken == 0
        names = [name for (name,) in rows("SELECT request_id FROM keys_call WHERE key_id = %s", made.key.id)]
        holds(result, names, in_flight=CLIENTS * rounds)

    def test_a_locked_table(self, server, verifier, made, superuser):
        assert ask(server, verifier, made.secret).status == 200
        with load(server.port, verifier, made.secret, 6) as result:
            result.more(10)
            with superuser.transaction():
                superuser.execute("LOCK TABLE keys_keyuse IN ACCESS EXCLUSIVE MODE")
                time.sleep(0.1)
                before = len(result.replies)
                time.sleep(2.9)
                during = result.replies[before + 6 :]
            assert result.more(10) < 2.5
        assert during
        for reply in during:
            is_unavailable(reply)
        assert max(reply.seconds for reply in result.replies) < BOUND
        assert result.broken == 0


@pytest.fixture
def own_cluster(tmp_path):
    """A durable server of this test's own, because it is about to be killed."""
    own = Cluster(tmp_path / "cluster")
    own.start()
    yield own
    own.erase()


class TestPostmaster:
    def test_killed_under_load_it_comes_back_with_every_answer(self, own_cluster, tmp_path):
        passwords = {login: own_cluster.password(login) for login in database_roles.LOGINS}
        database_roles.set_up(own_cluster.url(), "keystead", passwords)
        urls = database_roles.login_urls(own_cluster.url(), "keystead", passwords)
        environment = {**cluster.SETTINGS, **urls}
        run(environment, "manage.py", "migrate", "--no-input", "--verbosity=0")
        text = json.loads(run(environment, "-m", "tests.e2e.seed"))["secret"]
        with gate_serving.serve(tmp_path, environment=environment) as own:
            with load(own.port, text, text, CLIENTS) as result:
                result.more(100)
                kill(own_cluster)
                result.more(CLIENTS, 503)
                own_cluster.start()
                result.more(100)
            assert result.broken == 0
            with psycopg.connect(own_cluster.url(dbname="keystead")) as connection:
                names = [name for (name,) in connection.execute("SELECT request_id FROM keys_call")]
            holds(result, names, in_flight=CLIENTS)


def run(environment, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill(own):
    """Kill the postmaster and wait until its children are gone too."""
    pid = int((own.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(1.5)


def request(verifier, text, *more, method="POST", path=VERIFY, version="1.1", body=None):
    """Return a request as bytes."""
    content = json.dumps({"secret": text}).encode() if body is None else body
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {verifier}",
        "Content-Type: application/json",
        *more,
    ]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in more):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def statuses(answer):
    """Return the statuses of the answers that follow each other in what was received."""
    parts = answer.split(b"HTTP/1.1 ")
    return [int(part[:3]) for part in parts[1:]]


CLOSE = "Connection: close"


class TestGarbage:
    def test_a_slow_body_holds_up_nobody(self, server, verifier, made):
        data = request(verifier, made.secret, CLOSE)
        with ThreadPoolExecutor(4) as threads:
            slow = [threads.submit(raw, server.port, data, pause=0.05, pieces=20) for _ in range(4)]
            times = [ask(server, verifier, made.secret).seconds for _ in range(20)]
            assert [statuses(each.result()) for each in slow] == [[200]] * 4
        assert max(times) < 0.5

    @pytest.mark.parametrize("chunked", [True, False])
    def test_a_body_that_is_too_large(self, server, verifier, chunked):
        body = b'{"secret": "' + b"x" * 3_000_000 + b'"}'
        more = [CLOSE]
        if chunked:
            more.append("Transfer-Encoding: chunked")
            parts = [body[start : start + 60_000] for start in range(0, len(body), 60_000)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        answer = raw(server.port, request(verifier, "", *more, body=body))
        assert statuses(answer) == [413]
        assert b'"code": "body_too_large"' in answer

    def test_a_body_without_end_costs_no_memory(self, server, verifier):
        before = sum(map(memory, server.processes()))
        part = b"%x\r\n%s\r\n" % (60_000, b"x" * 60_000)
        head = request(verifier, "", "Transfer-Encoding: chunked", body=b"")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(head)
            for _ in range(800):
                connection.sendall(part)
            grown = sum(map(memory, server.processes())) - before
        assert grown < 20

    @pytest.mark.parametrize("where", ["head", "trailer", "extension"])
    def test_headers_without_end_cost_no_memory(self, server, verifier, where):
        before = sum(map(memory, server.processes()))
        start = {
            "head": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
            "trailer": request(verifier, "", "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n"),
            "extension": request(verifier, "", "Transfer-Encoding: chunked", body=b"2;x="),
        }[where]
        line = b"x" * 60_000 if where == "extension" else b"X-More: " + b"x" * 60_000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(start)
            with contextlib.suppress(ConnectionError):
                for _ in range(800):
                    connection.sendall(line)
            grown = sum(map(memory, server.processes())) - before
        assert grown < 20

    def test_large_headers_are_refused(self, server, verifier, made):
        answer = raw(server.port, request(verifier, made.secret, CLOSE, "X-Large: " + "x" * 100_000))
        assert statuses(answer) == [431]
        answer = raw(server.port, request(verifier, made.secret, CLOSE, "X-Large: " + "x" * 30_000))
        assert statuses(answer) == [200]

    @pytest.mark.parametrize(
        "body",
        [b"{", b"[]", b"7", b"\xff\xfe", b'{"secret": "a", "secret": "b"}', b"[" * 100_000, b"{}", b"null"],
    )
    def test_a_body_that_says_nothing(self, server, verifier, body):
        reply = send(server.port, "POST", VERIFY, body, **asking(verifier))
        assert reply.status in {400, 422}
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json["request_id"] == reply.headers["x-request-id"]

    def test_what_is_no_request_at_all(self, server):
        for data in (
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"POST " + VERIFY.encode() + b" HTTP/9.9\r\n\r\n",
        ):
            assert statuses(raw(server.port, data, seconds=1)) in ([400], [])
        assert send(server.port, "GET", "/healthz").status == 200

    def test_requests_in_a_row_are_answered_in_their_order(self, server, verifier, made):
        texts = [made.secret, NOBODYS, "x"] * 20
        data = b"".join(request(verifier, text) for text in texts[:-1])
        answer = raw(server.port, data + request(verifier, texts[-1], CLOSE))
        assert statuses(answer) == [200] * 60
        codes = [part.partition(b'"')[0].decode() for part in answer.split(b'"code":"')[1:]]
        assert codes == ["VALID", "NOT_FOUND", "MALFORMED"] * 20

    def test_http_1_0(self, server, verifier, made):
        answer = raw(server.port, request(verifier, made.secret, version="1.0"))
        assert statuses(answer) == [200]
        assert b'"code":"VALID"' in answer

    def test_two_credentials_are_none(self, server, verifier, made):
        for other in (f"Bearer {verifier}", f"Bearer {NOBODYS}", "Basic eDp5"):
            answer = raw(server.port, request(verifier, made.secret, CLOSE, f"Authorization: {other}"))
            assert statuses(answer) == [400]
            assert b"VALID" not in answer

    def test_two_lengths_are_refused(self, server, verifier, made):
        for more in (
            ["Content-Length: 7", "Content-Length: 8"],
            ["Content-Length: 7", "Transfer-Encoding: chunked"],
        ):
            assert statuses(raw(server.port, request(verifier, made.secret, *more), seconds=1)) == [400]

    def test_clients_that_go_away(self, server, verifier, made):
        data = request(verifier, made.secret)
        for i in range(500):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(data[: (len(data), len(data) - 9, len(data) // 2, 20)[i % 4]])
        took = [ask(server, verifier, made.secret) for _ in range(20)]
        assert {reply.status for reply in took} == {200}
        until(lambda: not [pid for pid in server.processes() if connections(pid) > 10], 5)

    def test_a_zone_is_no_part_of_an_address(self, server, verifier, made):
        """What a proxy passes on is a client's: no address that the database refuses may come of it."""
        for forwarded in ("fe80::1%eth0", "fe80::1%'", "fe80::1%" + "x" * 300):
            reply = send(
                server.port,
                "GET",
                "/v1/authorize",
                Authorization=f"Bearer {verifier}",
                X_Forwarded_Api_Key=made.secret,
                X_Forwarded_For=forwarded,
            )
            assert (reply.status, reply.headers["x-keystead-code"]) == (204, "VALID")
            unknown = send(
                server.port,
                "GET",
                "/v1/authorize",
                Authorization=f"Bearer {verifier}",
                X_Forwarded_Api_Key=NOBODYS,
                X_Forwarded_For=forwarded,
            )
            assert (unknown.status, unknown.headers["x-keystead-code"]) == (401, "NOT_FOUND")

    def test_20_000_refusals_cost_no_memory(self, server):
        data = request("x", "x") * 249 + request("x", "x", CLOSE)
        before = 0.0
        for number in range(20):
            if number == 4:
                before = sum(map(memory, server.processes()))
            with ThreadPoolExecutor(4) as threads:
                for answer in threads.map(raw, [server.port] * 4, [data] * 4):
                    assert statuses(answer) == [401] * 250
        assert sum(map(memory, server.processes())) - before < 15


def connections(pid):
    """Return how many sockets a process has open."""
    folder = f"/proc/{pid}/fd"
    found = 0
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            found += os.readlink(f"{folder}/{name}").startswith("socket:")
    return found


class TestAnswers:
    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "GET", "DELETE", "PATCH", "TRACE"])
    def test_a_wrong_method(self, server, method):
        reply = send(server.port, method, VERIFY)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        is_guarded(reply)

    @pytest.mark.parametrize(
        "path",
        ["/", "/v1/keys/verify/", "/v1//keys/verify", "/v1/api-keys", "/login", "/%00", "/..%2f", "/é"],
    )
    def test_what_is_not_there(self, server, path):
        reply = send(server.port, "GET", path.replace("é", "%C3%A9"), X_Request_Id="r-404")
        assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
        assert (reply.json["code"], reply.json["request_id"]) == ("not_found", "r-404")
        is_guarded(reply, "r-404")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", VERIFY, "/v1/authorize", "/nowhere"])
    def test_the_requests_name(self, server, path):
        is_guarded(send(server.port, "GET", path, X_Request_Id="trace:1.a_b-C"), "trace:1.a_b-C")
        for insane in ("a b", "x" * 129, NOBODYS, "é", "<", ""):
            reply = send(server.port, "GET", path, X_Request_Id=insane)
            is_guarded(reply)
            assert reply.headers["x-request-id"].startswith("req_")

    def test_verdicts_are_of_the_documented_model(self, cast, server, verifier, made):
        limited = key_builders.create(cast.acme, cast.alice, tags={"team": "noc"})
        as_superuser(
            "UPDATE keys_apikey SET rate_limit_requests = 1, rate_limit_window_seconds = 86400 WHERE id = %s",
            limited.key.id,
        )
        asked = [
            (made, {}, "VALID"),
            (made, {"cost": 0, "scopes": ["incidents:read"]}, "VALID"),
            (made, {"environment": "test"}, "WRONG_ENVIRONMENT"),
            (made, {"project": "prj_x"}, "WRONG_PROJECT"),
            (made, {"scopes": ["admin:projects"]}, "INSUFFICIENT_SCOPE"),
            (made, {"entitlement": "export"}, "NOT_ENTITLED"),
            (limited, {}, "VALID"),
            (limited, {}, "RATE_LIMITED"),
            (limited, {"cost": 2}, "RATE_LIMITED"),
        ]
        for key, more, code in asked:
            reply = ask(server, verifier, key.secret, **more)
            VerdictOut.model_validate_json(reply.body, strict=True, extra="forbid")
            assert (reply.json["code"], reply.json["valid"]) == (code, code == "VALID")
            is_guarded(reply)
        for text, code in ((NOBODYS, "NOT_FOUND"), ("x", "MALFORMED")):
            reply = ask(server, verifier, text)
            UnknownOut.model_validate_json(reply.body, strict=True, extra="forbid")
            assert (reply.json["code"], reply.json["valid"]) == (code, False)
            is_guarded(reply)

    def test_behind_wsgi_it_is_the_same_in_bytes(self, server, verifier, made):
        """The pages' own server carries the gate where no other does."""
        api, id_ = Api(verifier), "the-same"
        bodies = [
            {"secret": text, **more}
            for text in (made.secret, NOBODYS, "x")
            for more in ({"cost": 0}, {"scopes": ["a:b", "incidents:read"]}, {"ip": "nowhere"}, {"é": 1})
        ]
        texts = [json.dumps(body).encode() for body in bodies] + [b"", b"{", b"\xff", b'"x"']
        for method, raw_body in [("POST", text) for text in texts] + [("PUT", b""), ("GET", b"")]:
            one = send(server.port, method, VERIFY, raw_body, X_Request_Id=id_, **asking(verifier))
            other = api.send(method, VERIFY.removeprefix("/v1"), raw=raw_body, X_Request_Id=id_)
            assert (one.status, one.body) == (other.status_code, other.content)
            for name in (
                "content-type",
                "allow",
                "www-authenticate",
                "cache-control",
                "x-request-id",
                "accept-post",
            ):
                assert one.headers.get(name) == other.headers.get(name), name
        for query in ("", "?cost=x", "?scopes=admin:projects"):
            given = {"X_Forwarded_Api_Key": made.secret, "X_Request_Id": id_}
            one = send(server.port, "GET", f"/v1/authorize{query}", **asking(verifier), **given)
            other = api.get(f"/authorize{query}", **given)
            assert (one.status, one.body) == (other.status_code, other.content)
            told = {
                name.lower(): value for name, value in other.headers.items() if name.startswith("X-Keystead")
            }
            assert {
                name: value for name, value in one.headers.items() if name.startswith("x-keystead")
            } == told


def is_guarded(reply, request_id=None):
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"]
    assert request_id in {None, reply.headers["x-request-id"]}
    assert "server" not in reply.headers
