"""The guard that all frameworks share: what a request must show, and how each refusal is answered."""

import json

import keystead
import pytest
from keystead.guard import Guard, Reply, Seen
from keystead.question import Question

from tests.sdk.test_faults import RAW

BEARER = ("authorization", f"Bearer {RAW}")


def seen(*headers, **changes):
    return Seen(
        **{"method": "GET", "route": "/incidents/{id}", "headers": headers, "peer": "192.0.2.9", **changes}
    )


def asked(*headers, guard=None, **changes) -> Question:
    found = (guard or Guard(["incidents:read"])).question(seen(*headers, **changes))
    assert isinstance(found, Question)
    return found


def refused(*headers, guard=None, **changes) -> Reply:
    found = (guard or Guard(["incidents:read"])).question(seen(*headers, **changes))
    assert isinstance(found, Reply)
    assert RAW not in repr(found)
    return found


def header(reply, name):
    return dict(reply.headers).get(name)


def test_a_question_tells_where_the_call_went_and_came_from():
    guard = Guard(["incidents:read"], environment="production", region="us-east-1", cost=3)
    question = asked(BEARER, ("user-agent", "curl/8"), ("x-request-id", "abc-1"), guard=guard)
    assert question == keystead.question.ask(
        RAW,
        scopes=["incidents:read"],
        environment="production",
        ip="192.0.2.9",
        endpoint="GET /incidents/{id}",
        region="us-east-1",
        user_agent="curl/8",
        cost=3,
        request_id="abc-1",
    )


def test_what_is_too_long_or_no_text_is_cut():
    question = asked(BEARER, ("user-agent", "ü" * 300), ("x-request-id", "no id"), route="/" + "\0é" * 300)
    assert len(question.user_agent.encode()) <= 256
    assert len(question.endpoint.encode()) <= 256
    assert "\0" not in question.endpoint
    assert question.request_id is None


def test_a_secret_in_a_path_or_a_user_agent_is_not_passed_on():
    question = asked(BEARER, ("user-agent", RAW), ("x-request-id", RAW), route=f"/of/{RAW}")
    assert RAW not in f"{question.user_agent}{question.endpoint}{question.request_id}"


def test_no_key_is_challenged_without_an_error():
    for headers in ((), (("authorization", "Basic dTpw"),), (("cookie", f"key={RAW}"),)):
        reply = refused(*headers)
        assert (reply.status, header(reply, "WWW-Authenticate")) == (401, 'Bearer realm="api"')


@pytest.mark.parametrize(
    "value", ["Bearer ", "Bearer", "Bearer a b", "Bearer " + "x" * 4_097, 'Bearer "', "Bearer é"]
)
def test_what_can_be_no_key_is_refused_without_asking(value):
    reply = refused(("authorization", value))
    assert reply.status == 401
    assert 'error="invalid_token"' in header(reply, "WWW-Authenticate")


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([BEARER, BEARER], ""),
        ([("authorization", f"Bearer {RAW}, Bearer {RAW}")], ""),
        ([("authorization", f"Bearer {RAW}, Basic dTpw")], ""),
        ([BEARER, ("x-api-key", RAW)], ""),
        ([BEARER, ("x-api-key", f"Bearer {RAW}")], ""),
        ([BEARER], "access_token=a"),
        ([BEARER], f"q=%6b{RAW[1:]}"),
        ([BEARER], f"{RAW}=1"),
        ([], "a=1&API_KEY=x"),
    ],
)
def test_two_methods_or_a_key_in_the_address(headers, query):
    reply = refused(*headers, query=query, guard=Guard((), headers=("Authorization", "X-Api-Key")))
    assert reply.status == 400
    assert 'error="invalid_request"' in header(reply, "WWW-Authenticate")


def test_another_header():
    guard = Guard((), headers="X-Api-Key")
    assert asked(("x-api-key", RAW), guard=guard).secret == RAW
    assert asked(("x-api-key", f"bearer {RAW}"), guard=guard).secret == RAW
    # Somebody else's business, unless a key stands there too.
    assert asked(("x-api-key", RAW), ("authorization", "Bearer eyJhbGciOi"), guard=guard).secret == RAW
    assert refused(BEARER, ("x-api-key", RAW), guard=guard).status == 400
    assert refused(("x-api-key", f"{RAW},{RAW}"), guard=guard).status == 400


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.9", "203.0.113.1", "192.0.2.9"),
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        ("10.0.0.1", "6.6.6.6, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "203.0.113.1", None),
        ("/run/app.sock", "", None),
        ("fe80::1%eth0", "", "fe80::1"),
    ],
)
def test_the_address_is_the_peers_or_the_proxys_word(peer, forwarded, address):
    guard = Guard((), trusted_proxies=["10.0.0.0/8"])
    assert asked(BEARER, ("x-forwarded-for", forwarded), peer=peer, guard=guard).ip == address


def test_nobody_is_a_proxy_unless_told():
    assert asked(BEARER, ("x-forwarded-for", "203.0.113.1"), peer="10.0.0.1").ip == "10.0.0.1"


def error_of(code, **members):
    verdict = keystead.Verdict(valid=False, code=code, request_id="req_7", **members)
    with pytest.raises(keystead.Refused) as caught:
        verdict.key_or_raise()
    return caught.value


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("MALFORMED", 401),
        ("NOT_FOUND", 401),
        ("REVOKED", 401),
        ("DISABLED", 401),
        ("EXPIRED", 401),
        ("SECRET_RETIRED", 401),
        ("SOMETHING_NEW", 401),
        ("ORGANIZATION_SUSPENDED", 403),
        ("WRONG_ENVIRONMENT", 403),
        ("WRONG_PROJECT", 403),
        ("IP_NOT_ALLOWED", 403),
        ("INSUFFICIENT_SCOPE", 403),
        ("FORBIDDEN", 403),
        ("NOT_ENTITLED", 403),
        ("APPROVAL_REQUIRED", 403),
        ("RATE_LIMITED", 429),
        ("QUOTA_EXCEEDED", 429),
    ],
)
def test_each_code_has_its_status(code, status):
    reply = Guard(["incidents:read"]).reply(error_of(code))
    assert reply.status == status
    assert header(reply, "Cache-Control") == "no-store"
    document = json.loads(reply.body)
    assert (document["status"], document["request_id"]) == (status, "req_7")


def test_a_bad_key_is_not_told_why():
    guard = Guard()
    codes = ("MALFORMED", "NOT_FOUND", "REVOKED", "DISABLED", "EXPIRED", "SECRET_RETIRED", "SOMETHING_NEW")
    assert len({guard.reply(error_of(code)) for code in codes}) == 1


def test_a_missing_scope_is_named():
    reply = Guard(["incidents:read", "alerts:read"]).reply(error_of("INSUFFICIENT_SCOPE"))
    challenge = header(reply, "WWW-Authenticate")
    assert challenge == 'Bearer realm="api", error="insufficient_scope", scope="incidents:read alerts:read"'
    missing = error_of("INSUFFICIENT_SCOPE", missing_scopes=("b:read", 'x" evil="1', "a:read"))
    reply = Guard("a:read OR b:read").reply(missing)
    assert header(reply, "WWW-Authenticate").endswith('scope="b:read a:read"')


def test_the_portals_own_trouble_is_not_the_clients():
    guard = Guard()
    away = guard.reply(keystead.Unavailable("away", retry_after_seconds=2.2))
    assert (away.status, header(away, "Retry-After")) == (503, "3")
    assert header(guard.reply(keystead.Unavailable("away")), "Retry-After") == "1"
    denied = guard.reply(keystead.AuthenticationError(401, code="invalid_token"))
    assert denied.status == 502
    assert header(denied, "WWW-Authenticate") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": ["incidents"]},
        {"scopes": ["a:read AND b:read", "c:read"]},
        {"scopes": ""},
        {"headers": ()},
        {"headers": ("X Key",)},
        {"realm": 'a" b="'},
        {"trusted_proxies": ["everybody"]},
    ],
)
def test_a_guard_that_makes_no_sense_is_none(wrong):
    with pytest.raises(keystead.ConfigurationError):
        Guard(**wrong)
