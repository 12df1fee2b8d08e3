"""A WSGI application behind the middleware, served over HTTP."""

import httpx
import pytest
from keystead import Keystead
from keystead.wsgi import KeysteadMiddleware

from tests.sdk import serving
from tests.sdk.conftest import KEY
from tests.sdk.faulty import VERDICT, Planned
from tests.sdk.test_asgi import LIMIT, bearer
from tests.sdk.test_faults import RAW, unreachable


def application(environ, start_response):
    name = getattr(environ.get("keystead.key"), "name", "nobody")
    start_response("200 OK", [("Content-Type", "text/plain"), ("RateLimit-Policy", "mine")])
    return [name.encode()]


def protected(client, **options):
    return KeysteadMiddleware(
        application, client=client, exempt=["/healthz"], **{"scopes": ["incidents:read"], **options}
    )


def test_it_lets_in_who_may(client, presented):
    with serving.wsgi(protected(client)) as url:
        answer = httpx.get(f"{url}/incidents", headers=bearer(presented.secret))
        assert (answer.status_code, answer.text) == (200, presented.key.name)
        assert httpx.get(f"{url}/healthz").text == "nobody"


def test_it_refuses_the_rest(client, presented):
    with (
        serving.wsgi(protected(client, scopes=["incidents:write"])) as url,
        httpx.Client(base_url=url) as caller,
    ):
        answer = caller.get("/incidents")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
        assert caller.get("/incidents", headers=bearer("x")).json()["code"] == "invalid_token"
        answer = caller.get("/incidents", headers=bearer(presented.secret))
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
        assert caller.get("/incidents?access_token=x", headers=bearer(presented.secret)).status_code == 400
        for path in ("/healthz/", "//healthz"):
            assert caller.get(path).status_code == 401


def test_a_head_is_refused_without_a_body(client):
    sent = []
    environ = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/incidents"}
    body = b"".join(protected(client)(environ, lambda status, _headers: sent.append(status)))
    assert (sent, body) == (["401 Unauthorized"], b"")


def test_what_the_portal_is_told(faulty):
    faulty.answers(Planned(body={**VERDICT, "rate_limit": LIMIT}))
    with Keystead(faulty.url, KEY) as client:
        app = protected(client, headers=["X-Api-Key"], trusted_proxies=["127.0.0.0/8"])
        with serving.wsgi(app) as url:
            headers = {"X-Api-Key": RAW, "X-Forwarded-For": "203.0.113.7"}
            answer = httpx.put(f"{url}/größe", headers=headers)
    told = faulty.received[0].body
    assert (told["endpoint"], told["ip"]) == ("PUT /größe", "203.0.113.7")
    # The application's own word stands.
    assert (answer.headers["RateLimit-Policy"], answer.headers["RateLimit"]) == ("mine", '"per-key";r=7;t=41')


def test_a_service_that_is_away():
    with Keystead(unreachable(), KEY, retries=0) as client, serving.wsgi(protected(client)) as url:
        answer = httpx.get(f"{url}/incidents", headers=bearer(RAW))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("status", [401, 403, 422, 500])
def test_a_verifier_that_is_refused_lets_nobody_in(faulty, status):
    faulty.answers(Planned(status))
    with Keystead(faulty.url, KEY) as client, serving.wsgi(protected(client)) as url:
        answer = httpx.get(f"{url}/incidents", headers=bearer(RAW))
    assert answer.status_code == 502
