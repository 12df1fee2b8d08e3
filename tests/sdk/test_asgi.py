"""FastAPI and bare ASGI applications, protected, served by uvicorn and called over HTTP."""

import asyncio
import contextlib

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from keystead import AsyncKeystead, KeyInfo
from keystead.asgi import KeysteadMiddleware
from keystead.fastapi import RequireScopes
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tests import key_builders
from tests.sdk import serving
from tests.sdk.conftest import KEY
from tests.sdk.faulty import VERDICT, Planned, refused
from tests.sdk.test_faults import RAW, unreachable

LIMIT = {"limit": 10, "remaining": 7, "window_seconds": 60, "reset_seconds": 40.5, "retry_after_seconds": 0}


def bearer(secret, **headers):
    return {"Authorization": f"Bearer {secret}", **headers}


def closing(client: AsyncKeystead):
    """Return a lifespan that closes the client with the application."""

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        async with client:
            yield

    return lifespan


def protected(client: AsyncKeystead) -> FastAPI:
    app = FastAPI(lifespan=closing(client))

    @app.get("/incidents/{number}")
    async def incident(
        number: int,
        key: KeyInfo = Depends(RequireScopes("incidents:read", client=client)),  # noqa: B008
    ) -> dict[str, str]:
        return {"for": key.organization.id}

    router = APIRouter(dependencies=[Depends(RequireScopes("incidents:read", client=client))])

    @router.post("/incidents", dependencies=[Depends(RequireScopes("incidents:write", client=client))])
    def open_incident(request: Request) -> dict[str, str]:
        return {"by": request.state.keystead.name}

    @app.get("/either")
    async def either(
        key: KeyInfo = Depends(RequireScopes("alerts:read OR incidents:read", client=client)),  # noqa: B008
    ) -> dict[str, str]:
        return {"by": key.name}

    @app.websocket("/feed")
    async def feed(
        socket: WebSocket,
        key: KeyInfo = Depends(RequireScopes("incidents:read", client=client)),  # noqa: B008
    ) -> None:
        await socket.accept()
        await socket.send_text(key.name)
        await socket.close()

    app.include_router(router)
    return app


@pytest.fixture
def fast(portal):
    with serving.asgi(protected(portal.awaited())) as url, httpx.Client(base_url=url) as caller:
        yield caller


def test_fastapi_lets_in_who_may(fast, presented, cast):
    answer = fast.get("/incidents/7", headers=bearer(presented.secret))
    assert (answer.status_code, answer.json()) == (200, {"for": cast.acme.id})
    assert fast.get("/either", headers=bearer(presented.secret)).status_code == 200


def test_fastapi_refuses_as_rfc_6750_says(fast, presented, client):
    answer = fast.get("/incidents/7")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    answer = fast.get("/incidents/7", headers=bearer("nonsense"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    answer = fast.post("/incidents", headers=bearer(presented.secret))
    assert answer.status_code == 403
    assert 'error="insufficient_scope", scope="incidents:write"' in answer.headers["WWW-Authenticate"]
    answer = fast.get("/incidents/7?access_token=x", headers=bearer(presented.secret))
    assert answer.status_code == 400
    client.keys.revoke(presented.key.id)
    assert fast.get("/incidents/7", headers=bearer(presented.secret)).status_code == 401


def test_two_dependencies_count_one_call(faulty):
    faulty.answers(Planned(body={**VERDICT, "scopes": ["incidents:*"]}))
    with serving.asgi(protected(AsyncKeystead(faulty.url, KEY))) as url:
        assert httpx.post(f"{url}/incidents", headers=bearer(RAW)).json() == {"by": "noc"}
    assert [request.body["cost"] for request in faulty.received] == [1]


def test_the_second_is_not_let_off(faulty):
    with serving.asgi(protected(AsyncKeystead(faulty.url, KEY))) as url:
        answer = httpx.post(f"{url}/incidents", headers=bearer(RAW))
    assert (answer.status_code, len(faulty.received)) == (403, 1)


def test_what_the_portal_is_told(faulty):
    with serving.asgi(protected(AsyncKeystead(faulty.url, KEY))) as url:
        headers = bearer(
            RAW, **{"User-Agent": "curl/8", "X-Request-Id": "call-7", "X-Forwarded-For": "6.6.6.6"}
        )
        httpx.get(f"{url}/incidents/7", headers=headers)
    assert faulty.received[0].body == {
        "secret": RAW,
        "scopes": ["incidents:read"],
        "ip": "127.0.0.1",
        "endpoint": "GET /incidents/{number}",
        "user_agent": "curl/8",
        "cost": 1,
        "request_id": "call-7",
    }


def test_a_service_that_is_away_lets_nobody_in(presented):
    with serving.asgi(protected(AsyncKeystead(unreachable(), KEY, retries=0))) as url:
        answer = httpx.get(f"{url}/incidents/7", headers=bearer(presented.secret))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_limits_are_told(faulty):
    faulty.answers(
        Planned(body={**VERDICT, "rate_limit": LIMIT}),
        refused("RATE_LIMITED", rate_limit={**LIMIT, "remaining": 0, "retry_after_seconds": 3.2}),
    )
    with serving.asgi(protected(AsyncKeystead(faulty.url, KEY))) as url:
        first = httpx.get(f"{url}/incidents/7", headers=bearer(RAW))
        second = httpx.get(f"{url}/incidents/7", headers=bearer(RAW))
    assert first.headers["RateLimit-Policy"] == '"per-key";q=10;w=60'
    assert first.headers["RateLimit"] == '"per-key";r=7;t=41'
    assert (second.status_code, second.headers["Retry-After"]) == (429, "4")
    assert second.headers["RateLimit"] == '"per-key";r=0;t=41'


def test_fastapi_documents_the_key(portal):
    document = protected(portal.awaited()).openapi()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert document["paths"]["/incidents/{number}"]["get"]["security"] == [{"ApiKey": []}]


def websocket(app, client, secret="", **scope):
    """Open a WebSocket at /feed as a server would, and return what the application sent."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    headers = [(b"authorization", f"Bearer {secret}".encode())] if secret else []
    known = {"path": "/feed", "raw_path": b"/feed", "query_string": b"", "root_path": "", "headers": headers}

    async def run():
        await app({"type": "websocket", "client": ("127.0.0.1", 1), **known, **scope}, receive, send)
        await client._transport.close_loop()

    asyncio.run(run())
    return sent


def test_a_websocket_of_fastapi(portal, presented):
    client = portal.awaited()
    app = protected(client)
    accepted, text, *_ = websocket(app, client, presented.secret)
    assert (accepted["type"], text["text"]) == ("websocket.accept", presented.key.name)
    assert "websocket.accept" not in [message["type"] for message in websocket(app, client)]
    start, *_ = websocket(app, client, extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)


def starlette(client: AsyncKeystead, **options) -> Starlette:
    async def show(request):
        return JSONResponse({"for": request.state.keystead.name})

    async def health(_request):
        return JSONResponse({"ok": True})

    app = Starlette(
        routes=[
            Route("/healthz", health),
            Route("/incidents/{number:int}", show),
            Mount("/deep", routes=[Route("/{name}", show)]),
        ],
        lifespan=closing(client),
    )
    app.add_middleware(KeysteadMiddleware, client=client, exempt=["/healthz"], **options)
    return app


def test_middleware_guards_every_path_but_the_exempt(portal, presented):
    app = starlette(portal.awaited(), scopes=["incidents:read"])
    with serving.asgi(app) as url, httpx.Client(base_url=url) as caller:
        assert caller.get("/healthz").status_code == 200
        for path in ("/incidents/7", "/nowhere", "/healthz/", "//healthz", "/HEALTHZ", "/deep/x"):
            assert caller.get(path).status_code == 401
        answer = caller.get("/incidents/7", headers=bearer(presented.secret))
        assert (answer.status_code, answer.json()) == (200, {"for": presented.key.name})
        assert caller.get("/nowhere", headers=bearer(presented.secret)).status_code == 404
        refusal = caller.get("/incidents/7", headers=bearer("x"))
        assert refusal.headers["Content-Type"] == "application/problem+json"
        assert refusal.json()["code"] == "invalid_token"


def test_middleware_knows_the_route(faulty):
    app = starlette(AsyncKeystead(faulty.url, KEY), headers=["X-Api-Key"], region="eu-1")
    with serving.asgi(app) as url:
        for path in ("/incidents/7", "/deep/x", "/nowhere"):
            httpx.get(url + path, headers={"X-Api-Key": RAW})
    endpoints = [request.body["endpoint"] for request in faulty.received]
    assert endpoints == ["GET /incidents/{number:int}", "GET /deep/x", "GET /nowhere"]
    assert faulty.received[0].body["region"] == "eu-1"


def test_middleware_tells_the_limits(faulty):
    faulty.answers(Planned(body={**VERDICT, "rate_limit": LIMIT}))
    with serving.asgi(starlette(AsyncKeystead(faulty.url, KEY))) as url:
        assert (
            httpx.get(f"{url}/incidents/7", headers=bearer(RAW)).headers["RateLimit"] == '"per-key";r=7;t=41'
        )


def test_middleware_lets_no_unknown_protocol_through(portal):
    async def run():
        middleware = KeysteadMiddleware(None, client=portal.awaited())
        with contextlib.suppress(TypeError):
            await middleware({"type": "webtransport", "path": "/", "headers": []}, None, None)

    with pytest.raises(RuntimeError):
        asyncio.run(run())


def test_middleware_closes_a_websocket_before_it_opens(portal, presented):
    client = portal.awaited()
    app = FastAPI()
    app.add_middleware(KeysteadMiddleware, client=client, scopes=["incidents:read"])

    @app.websocket("/feed")
    async def feed(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.state.keystead.name)
        await socket.close()

    accepted, text, *_ = websocket(app, client, presented.secret)
    assert (accepted["type"], text["text"]) == ("websocket.accept", presented.key.name)
    assert websocket(app, client) == [{"type": "websocket.close", "code": 1008}]
    start, body = websocket(app, client, extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert body["type"] == "websocket.http.response.body"


def test_an_address_bound_key_is_judged_by_its_peer(portal, cast):
    local = key_builders.create(cast.acme, cast.alice, allowed_ips=["127.0.0.0/8"])
    other = key_builders.create(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
    with serving.asgi(protected(portal.awaited())) as url:
        assert httpx.get(f"{url}/incidents/7", headers=bearer(local.secret)).status_code == 200
        spoofed = bearer(other.secret, **{"X-Forwarded-For": "203.0.113.7"})
        assert httpx.get(f"{url}/incidents/7", headers=spoofed).status_code == 403
