"""What the portal counted of the very calls that were made, limits as it decided them, and entitlements."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import keystead
import pytest
from keystead import Keystead

from tests import builders, key_builders
from tests.api import calls
from tests.sdk import serving
from tests.sdk.faulty import Planned
from tests.sdk.test_asgi import bearer, protected
from tests.sdk.test_faults import KEY, RAW

COUNTING = (*calls.MANAGING, "usage:read")


@pytest.fixture
def counting(server, cast):
    with Keystead(server.url, calls.key(cast.acme, cast.alice, COUNTING).secret) as client:
        yield client


def test_a_protected_apps_calls_are_counted(server, counting, presented, portal):
    with serving.asgi(protected(portal.awaited())) as url:
        headers = bearer(presented.secret, **{"User-Agent": "curl/8"})
        for number in range(3):
            httpx.get(f"{url}/incidents/{number}", headers=headers)
        httpx.post(f"{url}/incidents", headers=headers)
    found = counting.usage.of_key(presented.key.id)
    # The router's own demand was met, the route's was not; that was one call.
    assert found.requests_current_period == 4
    assert found.by_endpoint == {"GET /incidents/{number}": 3, "POST /incidents": 1}
    assert (found.last_used.ip, found.last_used.user_agent) == ("127.0.0.1", "curl/8")
    report = counting.usage.get(key=[presented.key.id], group_by="endpoint", interval="hour")
    assert [series.group for series in report.series] == ["GET /incidents/{number}", "POST /incidents"]
    assert report.totals.calls == 4
    assert sum(point.calls for series in report.series for point in series.points) == 4


def test_refusals_are_counted_as_such(counting, presented):
    assert not counting.keys.verify(presented.secret, scopes=["incidents:write"], region="eu-1")
    found = counting.usage.of_key(presented.key.id)
    assert found.by_outcome == {"INSUFFICIENT_SCOPE": 1}
    assert (found.error_rate, found.last_used) == (1.0, None)
    until = datetime.now(UTC) + timedelta(minutes=1)
    report = counting.usage.get(
        since=until - timedelta(hours=1), until=until, key=presented.key.id, region="eu-1"
    )
    assert (report.totals.refused, report.interval) == (1, "minute")


def test_the_scope_to_count_is_asked_for(client):
    with pytest.raises(keystead.PermissionDenied):
        client.usage.get()


def test_a_limit_is_told_and_kept(client):
    made = client.keys.create(
        name=builders.unique("limited"),
        kind="control_plane",
        environment="production",
        scopes=["incidents:read"],
        rate_limit={"requests": 3, "window_seconds": 3600},
    )
    assert (made.key.rate_limit.requests, made.key.rate_limit.source) == (3, "key")
    left = [client.api_keys.validate(made.secret).rate_limit.remaining for _ in range(3)]
    assert left == [2, 1, 0]
    with pytest.raises(keystead.RateLimited) as caught:
        client.api_keys.validate(made.secret)
    assert caught.value.retry_after_seconds > 0
    with pytest.raises(keystead.RateLimited) as caught:
        client.api_keys.validate(made.secret, cost=4)
    assert caught.value.retry_after_seconds is None


def test_a_limited_key_under_an_app(client, portal):
    made = (
        client.keys.create()
        .named(builders.unique("limited"))
        .of_kind("control_plane")
        .in_environment("production")
        .with_scopes(["incidents:read"])
        .limited_to(2, window_seconds=3600)
        .issue()
    )
    with serving.asgi(protected(portal.awaited())) as url, httpx.Client(base_url=url) as caller:
        answers = [caller.get("/incidents/7", headers=bearer(made.secret)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert int(answers[2].headers["Retry-After"]) > 0


def test_entitlements(client, presented):
    for subject in (presented.key.id, presented.secret):
        check = client.entitlements.check_for_key(subject, "bulk_export")
        assert not check
        assert check.allowed is False


def test_what_was_not_bought_is_refused(client, presented):
    with pytest.raises(keystead.NotEntitled):
        client.api_keys.validate(presented.secret, entitlement="bulk_export")


def test_a_secret_is_never_sent_as_an_id(faulty):
    faulty.answers(Planned(body={"allowed": True, "value": 25, "plan": None}))
    with Keystead(faulty.url, KEY) as client:
        assert client.entitlements.check_for_key(RAW, "seats").value == 25
        assert client.entitlements.check_for_key("key_" + "a" * 20, "seats")
    bodies = [request.body for request in faulty.received]
    assert bodies == [
        {"secret": RAW, "entitlement": "seats"},
        {"key_id": "key_" + "a" * 20, "entitlement": "seats"},
    ]


def test_awaited_too(server, cast):
    presented = key_builders.create(cast.acme, cast.alice)
    secret = calls.key(cast.acme, cast.alice, COUNTING).secret

    async def run():
        async with keystead.AsyncKeystead(server.url, secret) as client:
            await client.keys.verify(presented.secret)
            return await client.usage.of_key(presented.key.id), await client.usage.get(key=presented.key.id)

    of_key, report = asyncio.run(run())
    assert of_key.requests_current_period == report.totals.calls == 1
