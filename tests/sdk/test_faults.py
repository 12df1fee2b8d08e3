"""A portal that is down, slow, busy or no portal: what is repeated, what is not, and that nobody gets in on it."""

import asyncio
import copy
import os
import pickle
import socket
import threading
import time

import keystead
import pytest
from keystead import AsyncKeystead, Keystead

from tests.sdk.conftest import KEY
from tests.sdk.faulty import VERDICT, Planned, refused

RAW = "ks_cp_live_" + "A" * 49
NOT_A_PORTAL = (
    Planned(body=b"<html>Welcome</html>"),
    Planned(body=b""),
    Planned(body=[]),
    Planned(body={}),
    Planned(body={"valid": True}),
    Planned(body={"valid": True, "code": "VALID"}),
    Planned(body={**VERDICT, "valid": "true"}),
    Planned(body={**VERDICT, "valid": 1}),
    Planned(body={**VERDICT, "code": "REVOKED"}),
    Planned(body={**VERDICT, "code": "SOMETHING_NEW"}),
    Planned(body={**VERDICT, "valid": False}),
    Planned(body={**VERDICT, "key": None}),
    Planned(body={**VERDICT, "scopes": "incidents:read"}),
    Planned(body={**VERDICT, "organization": {"id": 7}}),
    Planned(status=204),
    Planned(status=301, headers={"Location": "https://elsewhere.example/"}),
    Planned(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
    Planned(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"),
    Planned(raw=b""),
)


def a_client(faulty, **settings):
    return Keystead(faulty.url, KEY, **{"max_wait": 0.2, **settings})


def unreachable():
    """Return the address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("planned", NOT_A_PORTAL)
def test_what_is_no_portal_lets_nobody_in(faulty, planned):
    faulty.answers(planned)
    with a_client(faulty) as client, pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW)
    assert len(faulty.received) == 1


@pytest.mark.parametrize("planned", NOT_A_PORTAL)
def test_nor_awaited(faulty, planned):
    faulty.answers(planned)

    async def run():
        async with AsyncKeystead(faulty.url, KEY) as client:
            await client.api_keys.validate(RAW)

    with pytest.raises(keystead.Unavailable):
        asyncio.run(run())


def test_a_code_to_come_is_an_invalid_key(faulty):
    faulty.answers(refused("SOMETHING_NEW"))
    with a_client(faulty) as client, pytest.raises(keystead.InvalidKey) as caught:
        client.api_keys.validate(RAW)
    assert caught.value.code == "SOMETHING_NEW"


def test_what_was_answered_can_not_be_changed(faulty):
    with a_client(faulty) as client:
        key = client.api_keys.validate(RAW)
    for change in (
        lambda: key.entitlements.update(seats=1_000),
        lambda: key.entitlements.__setitem__("seats", 1_000),
        lambda: key.tags.setdefault("team", "noc"),
        lambda: setattr(key, "scopes", ("incidents:*",)),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == key  # noqa: S301


def test_members_to_come_are_skipped(faulty):
    faulty.answers(Planned(body={**VERDICT, "new": {"deep": 1}, "key": {**VERDICT["key"], "new": []}}))
    with a_client(faulty) as client:
        assert client.api_keys.validate(RAW).entitlement("seats") == 25


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_ENTITLED", keystead.NotEntitled),
        ("APPROVAL_REQUIRED", keystead.ApprovalRequired),
        ("ORGANIZATION_SUSPENDED", keystead.Forbidden),
        ("FORBIDDEN", keystead.Forbidden),
    ],
)
def test_each_code_has_its_exception(faulty, code, kind):
    faulty.answers(refused(code))
    with a_client(faulty) as client, pytest.raises(kind) as caught:
        client.api_keys.validate(RAW)
    assert not isinstance(caught.value, keystead.InvalidKey)


def test_limits_say_how_long_to_hold_back(faulty):
    limit = {
        "limit": 10,
        "remaining": 0,
        "window_seconds": 60,
        "reset_seconds": 41,
        "retry_after_seconds": 12,
    }
    faulty.answers(refused("RATE_LIMITED", rate_limit=limit))
    with a_client(faulty) as client, pytest.raises(keystead.RateLimited) as caught:
        client.api_keys.validate(RAW)
    assert caught.value.retry_after_seconds == 12
    faulty.answers(refused("RATE_LIMITED", rate_limit={**limit, "retry_after_seconds": None}))
    with a_client(faulty) as client, pytest.raises(keystead.RateLimited) as caught:
        client.api_keys.validate(RAW)
    assert caught.value.retry_after_seconds is None
    quota = {"limit": 10, "used": 10, "period_ends_at": "2999-01-01T00:00:00Z"}
    faulty.answers(refused("QUOTA_EXCEEDED", rate_limit=limit, quota=quota))
    with a_client(faulty) as client, pytest.raises(keystead.QuotaExceeded) as caught:
        client.api_keys.validate(RAW)
    assert caught.value.retry_after_seconds > 86_400


def test_a_busy_portal_is_asked_again(faulty):
    faulty.answers(Planned(503, headers={"Retry-After": "0"}), Planned(503), Planned(body=VERDICT))
    with a_client(faulty) as client:
        assert client.api_keys.validate(RAW).name == "noc"
    ids = {request.headers["x-request-id"] for request in faulty.received}
    assert len(faulty.received) == 3
    assert len(ids) == 1


def test_awaited_too(faulty):
    faulty.answers(Planned(503), Planned(503), Planned(body=VERDICT))

    async def run():
        async with AsyncKeystead(faulty.url, KEY) as client:
            return await client.api_keys.validate(RAW)

    assert asyncio.run(run()).name == "noc"
    assert len(faulty.received) == 3


def test_but_only_so_often(faulty):
    faulty.answers(Planned(503))
    with a_client(faulty, retries=1) as client, pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW)
    assert len(faulty.received) == 2


def test_retry_after_is_honoured(faulty):
    faulty.answers(Planned(503, headers={"Retry-After": "1"}), Planned(body=VERDICT))
    started = time.monotonic()
    with a_client(faulty, max_wait=1.5) as client:
        client.api_keys.validate(RAW)
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("asked", ["3600", "999999999"])
def test_up_to_a_bound(faulty, asked):
    faulty.answers(Planned(503, headers={"Retry-After": asked}))
    started = time.monotonic()
    with a_client(faulty) as client, pytest.raises(keystead.Unavailable) as caught:
        client.api_keys.validate(RAW)
    assert time.monotonic() - started < 1
    assert caught.value.retry_after_seconds == float(asked)
    assert len(faulty.received) == 1


@pytest.mark.parametrize("planned", [Planned(raw=b""), Planned(502), Planned(504), Planned(delay=1)])
def test_a_call_that_may_have_been_counted_is_not_sent_again(faulty, planned):
    faulty.answers(planned, Planned(body=VERDICT))
    with a_client(faulty, timeout=0.3) as client, pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW, cost=1)
    assert len(faulty.received) == 1


@pytest.mark.parametrize("planned", [Planned(raw=b""), Planned(502), Planned(504), Planned(delay=1)])
def test_one_that_costs_nothing_is(faulty, planned):
    faulty.answers(planned, Planned(body=VERDICT))
    with a_client(faulty, timeout=0.3) as client:
        assert client.keys.verify(RAW, cost=0)
    assert len(faulty.received) == 2


def test_nobody_there(faulty):
    started = time.monotonic()
    with Keystead(unreachable(), KEY, max_wait=0.1) as client, pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW)
    assert time.monotonic() - started < 2


def test_a_portal_that_comes_back(faulty):
    address = unreachable()
    port = int(address.rsplit(":", 1)[1])
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def come_back():
        time.sleep(0.3)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        connection, _ = listening.accept()
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=come_back)
    thread.start()
    with Keystead(address, KEY, retries=200, max_wait=0.05) as client:
        client.keys.revoke("key_a")
    thread.join()
    listening.close()


def test_an_answer_that_drips_is_cut_off(faulty):
    faulty.answers(Planned(body=VERDICT, drip=0.05))
    started = time.monotonic()
    with a_client(faulty, timeout=0.5) as client, pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW)
    assert time.monotonic() - started < 2


def test_an_answer_without_end_is_cut_off(faulty):
    faulty.answers(Planned(body=b" " * (17 * 1024 * 1024)))
    with a_client(faulty) as client, pytest.raises(keystead.Unavailable, match="too large"):
        client.api_keys.validate(RAW)


KEY_DOCUMENT = {
    "id": "key_a",
    "name": "noc",
    "kind": "service",
    "status": "active",
    "hint": "ks_sv_live_AAAA…",
    "organization": "org_1",
    "project": "prj_1",
    "environment": "production",
    "owner": {"type": "team", "name": "NOC"},
    "created_at": "2027-01-01T00:00:00.000000Z",
    "created_by": "usr_1",
}
DRAFT = {"name": "noc", "kind": "service", "environment": "production", "scopes": ["incidents:read"]}


@pytest.mark.parametrize(
    "first",
    [
        Planned(raw=b""),
        Planned(502),
        Planned(503),
        Planned(delay=1),
        Planned(409, {"code": "idempotency_running"}),
        Planned(429, headers={"Retry-After": "0"}),
    ],
)
def test_a_creation_is_repeated_under_one_idempotency_key(faulty, first):
    faulty.answers(first, Planned(201, {"key": KEY_DOCUMENT, "secret": RAW}))
    with a_client(faulty, timeout=0.3) as client:
        assert client.keys.create(**DRAFT).secret == RAW
        client.keys.create(**DRAFT)
    keys = [request.headers["idempotency-key"] for request in faulty.received]
    assert keys[0] == keys[1] != keys[2]
    assert faulty.received[0].body == faulty.received[1].body


def test_a_creation_whose_answer_was_lost_says_so(faulty):
    again = {"key": KEY_DOCUMENT, "secret": None, "secret_status": "already_shown"}
    faulty.answers(Planned(raw=b""), Planned(201, again))
    with a_client(faulty) as client:
        made = client.keys.create(**DRAFT)
    with pytest.raises(keystead.SecretAlreadyShown) as caught:
        made.secret  # noqa: B018
    assert caught.value.key_id == "key_a"


def test_a_name_that_is_taken_is_not_tried_again(faulty):
    faulty.answers(Planned(409, {"code": "name_taken", "detail": "The name is taken."}))
    with a_client(faulty) as client, pytest.raises(keystead.Conflict):
        client.keys.create(**DRAFT)
    assert len(faulty.received) == 1


def test_a_change_is_not_repeated_and_a_revocation_is(faulty):
    faulty.answers(Planned(raw=b""), Planned(204))
    with a_client(faulty) as client, pytest.raises(keystead.Unavailable):
        client.keys.update("key_a", name="other")
    assert len(faulty.received) == 1
    faulty.answers(Planned(raw=b""), Planned(204))
    with a_client(faulty) as client:
        client.keys.revoke("key_a", reason="leaked")
    assert len(faulty.received) == 2


def test_a_list_goes_on_after_a_fault(faulty):
    pages = ({"data": [KEY_DOCUMENT], "next_cursor": "c1"}, {"data": [KEY_DOCUMENT], "next_cursor": None})
    faulty.answers(Planned(body=pages[0]), Planned(raw=b""), Planned(body=pages[1]))
    with a_client(faulty) as client:
        assert len(list(client.keys.list(status="active"))) == 2
    assert [request.path for request in faulty.received] == [
        "/v1/api-keys?status=active",
        "/v1/api-keys?status=active&cursor=c1",
        "/v1/api-keys?status=active&cursor=c1",
    ]


def test_a_list_that_turns_in_a_circle_ends(faulty):
    faulty.answers(Planned(body={"data": [], "next_cursor": "c1"}))
    with a_client(faulty) as client, pytest.raises(keystead.UnreadableAnswer):
        list(client.keys.list())
    assert len(faulty.received) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, keystead.BadRequest),
        (401, keystead.AuthenticationError),
        (403, keystead.PermissionDenied),
        (404, keystead.NotFound),
        (418, keystead.ApiError),
        (422, keystead.Invalid),
        (500, keystead.ServerError),
    ],
)
def test_the_ladder_of_errors(faulty, status, kind):
    errors = [{"location": "name", "message": "Too long."}, "nonsense"]
    faulty.answers(Planned(status, {"code": "some_code", "detail": f"It was {RAW}.", "errors": errors}))
    with a_client(faulty) as client, pytest.raises(kind) as caught:
        client.keys.get("key_a")
    error = caught.value
    assert (error.status, error.code) == (status, "some_code")
    assert error.errors == (keystead.FieldError("name", "Too long."),)
    assert error.request_id == faulty.received[0].headers["x-request-id"]
    assert RAW not in str(error) + repr(error) + error.detail


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"[]", b'{"code": 7, "errors": {}}'])
def test_an_error_that_is_no_problem_document(faulty, body):
    faulty.answers(Planned(404, body))
    with a_client(faulty) as client, pytest.raises(keystead.NotFound) as caught:
        client.keys.get("key_a")
    assert (caught.value.code, caught.value.detail) == ("", "")


def test_too_many_calls_of_ones_own(faulty):
    faulty.answers(Planned(429, {"code": "rate_limited"}, {"Retry-After": "30"}))
    with a_client(faulty) as client, pytest.raises(keystead.TooManyRequests) as caught:
        client.keys.get("key_a")
    assert caught.value.retry_after_seconds == 30


def test_every_call_says_who_makes_it(faulty):
    with a_client(faulty, user_agent="incidents/2.1") as client:
        client.api_keys.validate(RAW)
    headers = faulty.received[0].headers
    assert headers["user-agent"].startswith(f"incidents/2.1 keystead-python/{keystead.__version__} ")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-request-id"].startswith("req_")
    assert faulty.received[0].body == {"secret": RAW, "cost": 1}


def test_no_proxy_reads_a_key_that_is_not_encrypted(faulty, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, unreachable())
    with a_client(faulty) as client:
        assert client.keys.verify(RAW)


def test_a_closed_client_sends_nothing(faulty):
    client = a_client(faulty)
    client.close()
    client.close()
    with pytest.raises(keystead.Unavailable):
        client.api_keys.validate(RAW)
    assert not faulty.received


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_share_connections(faulty):
    """Two processes on one connection would read each other's verdicts."""
    with a_client(faulty) as client:
        client.api_keys.validate(RAW)
        parents = client._transport._http
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            fresh = client._transport._client() is not parents
            os.write(writing, b"1" if fresh else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"1"
        os.close(reading)
        os.close(writing)
        assert client._transport._client() is parents


@pytest.mark.parametrize(
    "address",
    [
        "http://keys.example.com",
        "ftp://localhost",
        "localhost:8000",
        "https://user:pass@keys.example.com",
        "https://keys.example.com/?a=b",
        "https://",
        "http://[",
    ],
)
def test_an_address_that_is_not_safe(address):
    with pytest.raises(keystead.ConfigurationError):
        Keystead(address, KEY)


@pytest.mark.parametrize("key", ["", "  ", "a b", "a\r\nX-Evil: 1", "schlüssel"])
def test_a_key_that_is_none(key, monkeypatch):
    monkeypatch.delenv("KEYSTEAD_KEY", raising=False)
    with pytest.raises(keystead.ConfigurationError) as caught:
        Keystead("https://keys.example.com", key)
    assert not key.strip() or key not in str(caught.value)


def test_the_environment(monkeypatch, faulty):
    monkeypatch.setenv("KEYSTEAD_URL", faulty.url + "/")
    monkeypatch.setenv("KEYSTEAD_KEY", KEY + "\n")
    with Keystead() as client:
        assert client.keys.verify(RAW)
    monkeypatch.delenv("KEYSTEAD_URL")
    with pytest.raises(keystead.ConfigurationError, match="KEYSTEAD_URL"):
        Keystead()
