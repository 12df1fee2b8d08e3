"""The gate as ASGI: no Django middleware on the way; the engine lives on the server's own loop."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import structlog
from django.conf import settings

from audit.requests import client_address, request_id
from keys import revocations
from keys.api import problems
from keys.gate import reports
from keys.gate.authorize import authorize
from keys.gate.messages import FORESEEN, JSON, Incoming, Outgoing, of_error, of_problem, wrong_method
from keys.gate.verify import verify
from keys.gate.wire import App, Receive, Scope, Send, read_headers, send_answer
from keys.verification import NO_CREDENTIAL, Call, Own, running
from keys.verification.engine import Engine

type Operation = Callable[[Incoming, Engine], Coroutine[Any, Any, Outgoing]]

OPERATIONS: Final[dict[str, tuple[Operation, tuple[str, ...]]]] = {
    "/v1/keys/verify": (verify, ("POST",)),
    "/v1/authorize": (authorize, ("GET", "POST")),
}
log = structlog.get_logger("keystead.gate")


class Gate:
    """The application: the operations themselves, and everything else by `pages`, where this process has them."""

    def __init__(self, pages: App | None) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's start and end."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif (scope["type"] == "http" and scope["path"] in OPERATIONS) or _is(
            scope, reports.METHOD, reports.PATH
        ):
            await _serve(scope, receive, send)
        elif _is(scope, "GET", revocations.PATH):
            await revocations.revocations(scope, receive, send)
        elif self._pages is not None:
            await self._pages(scope, receive, send)
        elif scope["type"] == "http":
            await _bare(scope, receive, send)


def _is(scope: Scope, method: str, path: str) -> bool:
    """Tell whether it is a request of an address that the pages answer by other methods."""
    return bool(scope["type"] == "http" and scope["path"] == path and scope["method"] == method)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start the engine with the server, and stop it with it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await running.start()
            await send({"type": "lifespan.startup.complete"})
        else:
            await revocations.stop()
            await running.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as any application
    """Answer where there are no pages: that the process lives, whether it can verify, and 404."""
    id_ = request_id(read_headers(scope["headers"]).get("x-request-id", ""))
    outgoing = Outgoing(HTTPStatus.OK, b'{"status": "ok"}', {"Content-Type": JSON})
    if scope["path"] == "/readyz":
        try:
            await running.here().ask(Call(verifier=NO_CREDENTIAL, own=Own(ip=None)))
        except FORESEEN as error:
            outgoing = of_error(error, id_)
    elif scope["path"] != "/healthz":
        outgoing = of_problem(problems.not_found(), id_)
    await send_answer(send, outgoing, id_)


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one call of an address in `OPERATIONS`."""
    headers = read_headers(scope["headers"])
    id_ = request_id(headers.get("x-request-id", ""))
    try:
        outgoing = await _answer(scope, receive, headers, id_)
    except FORESEEN as error:
        outgoing = of_error(error, id_)
    except Exception:
        log.exception("a call failed", request_id=id_)
        outgoing = of_problem(_BUG, id_)
    await send_answer(send, outgoing, id_)


_BUG: Final = problems.Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal_server_error", "Something went wrong on our side."
)


async def _answer(scope: Scope, receive: Receive, headers: dict[str, str], id_: str) -> Outgoing:
    operation, methods = OPERATIONS.get(scope["path"], (reports.report, (reports.METHOD,)))
    peer = scope["client"][0] if scope.get("client") else ""
    trusted = settings.TRUSTED_PROXIES
    forwarded = headers.get("x-forwarded-for", "") if trusted else ""
    incoming = Incoming(
        method=scope["method"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=await _body(receive),
        request_id=id_,
        peer=peer,
        client_ip=client_address(peer, forwarded, trusted),
    )
    if incoming.method not in methods:
        raise wrong_method(*methods)
    return await operation(incoming, running.here())


async def _body(receive: Receive) -> bytes:
    """Return the body; one that is too large is read to its end, so that the answer is heard, and not kept."""
    most: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    chunks: list[bytes] = []
    size, is_last = 0, False
    while not is_last:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
        if size > most:
            chunks.clear()
        is_last = not message.get("more_body")
    if size > most:
        raise problems.TOO_LARGE
    return b"".join(chunks)
