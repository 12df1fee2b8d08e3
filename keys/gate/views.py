"""The gate behind a WSGI server: the same operations, on the engine's own thread."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from keys.api import problems
from keys.gate.asgi import OPERATIONS
from keys.gate.messages import FORESEEN, Incoming, Outgoing, of_error, wrong_method
from keys.verification import running


def through(path: str) -> Callable[[HttpRequest], HttpResponse]:
    """Return the view of an operation."""
    operation, methods = OPERATIONS[path]

    def view(request: HttpRequest) -> HttpResponse:
        request_id: str = getattr(request, "request_id", "")
        try:
            if request.method not in methods:
                raise wrong_method(*methods)
            found = running.current()
            outgoing = found.wait(operation(_incoming(request, request_id), found.engine))
        except FORESEEN as error:
            outgoing = of_error(error, request_id)
        return _response(outgoing)

    return view


def _incoming(request: HttpRequest, request_id: str) -> Incoming:
    try:
        body = request.body
    except problems.UNREADABLE as error:
        raise problems.foreseen(error) from None
    return Incoming(
        method=request.method or "",
        query=request.META.get("QUERY_STRING", ""),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        request_id=request_id,
        peer=request.META.get("REMOTE_ADDR", ""),
        client_ip=getattr(request, "client_ip", ""),
    )


def _response(outgoing: Outgoing) -> HttpResponse:
    response = HttpResponse(outgoing.body, status=int(outgoing.status), headers=dict(outgoing.headers))
    if "Content-Type" not in outgoing.headers:
        del response["Content-Type"]
    return response
