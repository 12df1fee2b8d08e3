"""Django's views behind the decorator and the middleware, through Django's own handlers, sync and async."""

import asyncio

import pytest
from django.test import AsyncClient, Client, override_settings
from keystead import ConfigurationError
from keystead.django import require_scopes

from tests.sdk.conftest import KEY
from tests.sdk.faulty import VERDICT, Planned, refused
from tests.sdk.test_asgi import LIMIT
from tests.sdk.test_faults import RAW, unreachable

MIDDLEWARE = "keystead.django.KeysteadMiddleware"
URLS = "tests.sdk.django_site"


@pytest.fixture
def site(portal):
    """A site with the decorator alone."""
    known = {"URL": portal.url, "KEY": portal.key, "ENVIRONMENT": "production"}
    with override_settings(ROOT_URLCONF=URLS, MIDDLEWARE=[], KEYSTEAD=known):
        yield Client()


def guarded(url, key=KEY, **more):
    """Return the settings of a site with the middleware."""
    known = {
        "URL": url,
        "KEY": key,
        "SCOPES": ["incidents:read"],
        "PATHS": ["/api/"],
        "EXEMPT": ["/api/exempt"],
        **more,
    }
    return override_settings(
        ROOT_URLCONF=URLS, MIDDLEWARE=[MIDDLEWARE], KEYSTEAD={"EXEMPT": ["/api/exempt"], **known}
    )


def get(client, path, secret="", **headers):
    known = {"Authorization": f"Bearer {secret}"} if secret else {}
    return client.get(path, headers={**known, **headers})


@pytest.mark.parametrize("path", ["/api/incidents/7", "/api/awaited", "/api/class"])
def test_the_decorator_lets_in_who_may(site, presented, path):
    answer = get(site, path, presented.secret)
    assert (answer.status_code, answer.json()) == (200, {"for": presented.key.name})


@pytest.mark.parametrize("path", ["/api/incidents/7", "/api/awaited", "/api/class"])
def test_the_decorator_refuses_the_rest(site, presented, client, path):
    answer = get(site, path)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    assert get(site, f"{path}?api_key=x", presented.secret).status_code == 400
    client.keys.revoke(presented.key.id)
    answer = get(site, path, presented.secret)
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")


def test_a_missing_scope(site, presented):
    answer = get(site, "/api/both", presented.secret)
    assert answer.status_code == 403
    assert 'scope="incidents:read incidents:write"' in answer["WWW-Authenticate"]


def test_under_asgi(site, presented):
    async def run():
        caller = AsyncClient()
        headers = {"Authorization": f"Bearer {presented.secret}"}
        return [
            (await caller.get(path, headers=headers)).status_code
            for path in ("/api/awaited", "/api/incidents/7")
        ] + [(await caller.get("/api/awaited")).status_code]

    assert asyncio.run(run()) == [200, 200, 401]


def test_what_the_portal_is_told(faulty):
    with guarded(faulty.url, REGION="eu-1"):
        get(Client(REMOTE_ADDR="192.0.2.9"), "/api/plain", RAW, X_Forwarded_For="6.6.6.6")
        get(Client(REMOTE_ADDR="192.0.2.9"), "/elsewhere", RAW)
    (told,) = [request.body for request in faulty.received]
    assert (told["endpoint"], told["ip"], told["region"]) == ("GET /api/plain", "192.0.2.9", "eu-1")


def test_the_middleware_guards_below_its_paths(portal, presented):
    with guarded(portal.url, portal.key):
        caller = Client()
        assert get(caller, "/api/plain").status_code == 401
        assert get(caller, "/api/plain", presented.secret).json() == {"for": presented.key.name}
        for path in ("/api/health", "/api/exempt", "/elsewhere"):
            assert get(caller, path).status_code == 200


def test_decorator_and_middleware_count_one_call(faulty):
    faulty.answers(Planned(body={**VERDICT, "rate_limit": LIMIT}))
    with guarded(faulty.url):
        answer = get(Client(), "/api/incidents/7", RAW)
        assert (answer.status_code, answer["RateLimit"]) == (200, '"per-key";r=7;t=41')
        assert len(faulty.received) == 1
        assert get(Client(), "/api/both", RAW).status_code == 403
        # Of a query only the portal can tell: it is asked, and nothing is spent twice.
        assert get(Client(), "/api/awaited", RAW).status_code == 200
    assert [request.body["cost"] for request in faulty.received] == [1, 1, 1, 0]


def test_a_service_that_is_away(presented):
    with guarded(unreachable(), RETRIES=0):
        answer = get(Client(), "/api/plain", presented.secret)
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")


def test_too_much(faulty):
    faulty.answers(refused("RATE_LIMITED", rate_limit={**LIMIT, "remaining": 0, "retry_after_seconds": 3}))
    with guarded(faulty.url):
        answer = get(Client(), "/api/plain", RAW)
    assert (answer.status_code, answer["Retry-After"]) == (429, "3")
    assert answer["RateLimit-Policy"] == '"per-key";q=10;w=60'


def test_a_misspelt_setting_leaves_nothing_open(faulty):
    with guarded(faulty.url, SCOPE=["incidents:read"]), pytest.raises(ConfigurationError, match="SCOPE"):
        get(Client(), "/elsewhere")


def test_changed_settings_take_another_client(faulty, portal, presented):
    with guarded(faulty.url):
        assert get(Client(), "/api/plain", presented.secret).json() == {"for": "noc"}
        with guarded(portal.url, portal.key):
            assert get(Client(), "/api/plain", presented.secret).json() == {"for": presented.key.name}


def test_a_decorator_that_makes_no_sense_says_so_at_once():
    with pytest.raises(ConfigurationError):
        require_scopes("incidents")(print)
