"""What happens around every request: its id, its caller's address, and the headers that guard every answer."""

from collections.abc import Callable
from urllib.parse import quote

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from audit.redaction import redact
from audit.requests import Request, client_address, is_trusted, request_id
from portal import errors

View = Callable[[HttpRequest], HttpResponseBase]
ELLIPSIS = "…"
REDACTED_TYPES = ("text/html", "text/plain")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})


class RequestMiddleware:
    """Give the request an id and an address, and log it in one line."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response
        self.log = structlog.get_logger("keystead.request")

    def __call__(self, request: Request) -> HttpResponseBase:
        request.request_id = request_id(request.headers.get("X-Request-Id", ""))
        peer = request.META.get("REMOTE_ADDR", "")
        request.client_ip = client_address(
            peer, request.headers.get("X-Forwarded-For", ""), settings.TRUSTED_PROXIES
        )
        if not is_trusted(peer, settings.TRUSTED_PROXIES):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)
        response = self.get_response(request)
        response["X-Request-Id"] = request.request_id
        if not request.path.startswith(settings.STATIC_URL):
            path = getattr(request, "logged_path", request.path)
            self.log.info("request", method=request.method, path=path, status=response.status_code)
        return response


class GuardMiddleware:
    """Refuse unsafe requests that another site caused, and add the headers that Django has no setting for."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _name_origin(request)
        response = errors.forbidden(request) if _is_foreign(request) else self.get_response(request)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        if isinstance(response, HttpResponse) and not request.path.startswith(settings.STATIC_URL):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


class RedactionMiddleware:
    """Hide secrets in every page but the one that shows a new one (`keys.views.common.show_secret`).

    Somebody pastes a secret into a wrong field or address, and the page with the error would give it back: a second
    answer that holds it. The API's answers are no pages: its errors go over the same filter where they are written.
    No path of ours holds a secret, nor a NUL, so that one that does leads nowhere, and is not looked up either.
    """

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_nowhere = "\0" in request.path or redact(request.path) != request.path
        response = errors.not_found(request) if is_nowhere else self.get_response(request)
        if place := response.headers.get("Location"):
            response.headers["Location"] = redact(place).replace(ELLIPSIS, quote(ELLIPSIS))
        if isinstance(response, HttpResponse) and _is_page(response):
            page = response.content.decode(response.charset)
            hidden = redact(page)
            if hidden != page:
                response.content = hidden.encode(response.charset)
        return response


def _is_page(response: HttpResponse) -> bool:
    is_text = response.headers.get("Content-Type", "").startswith(REDACTED_TYPES)
    return is_text and not getattr(response, "shows_secret", False)


def _name_origin(request: HttpRequest) -> None:
    """Put our own origin where the browser hid it: under `no-referrer` it sends `null` with every form.

    That the form is ours it says in `Sec-Fetch-Site`, which no page can set; the CSRF check then compares as ever.
    """
    meta = request.META
    if meta.get("HTTP_ORIGIN") == "null" and meta.get("HTTP_SEC_FETCH_SITE") == "same-origin":
        meta["HTTP_ORIGIN"] = f"{request.scheme}://{request.get_host()}"


def _is_foreign(request: HttpRequest) -> bool:
    """Tell whether another site sent an unsafe request, as the browser says; `/v1` has no cookies to abuse."""
    site = request.headers.get("Sec-Fetch-Site")
    return (
        request.method not in SAFE_METHODS
        and site is not None
        and site not in OWN_SITES
        and not request.path.startswith("/v1/")
    )
