"""Protecting Django's views: a decorator for one, middleware for all below a path.

    @require_scopes("incidents:read")
    def incidents(request): ...            # request.keystead is the verified key

Settings: `KEYSTEAD = {"URL": …, "KEY": …}`, else KEYSTEAD_URL and KEYSTEAD_KEY of the environment. Further names in it:
of the client TIMEOUT, RETRIES, MAX_WAIT, ALLOW_HTTP, LOCAL, USER_AGENT; of decorator and middleware ENVIRONMENT,
PROJECT, REGION, HEADERS, TRUSTED_PROXIES, REALM; of the middleware alone SCOPES, ENTITLEMENT,
PATHS (prefixes; all paths unless given) and EXEMPT (whole paths).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from keystead.client import Keystead
from keystead.errors import ConfigurationError, KeysteadError
from keystead.guard import Guard, Reply, Seen, rate_limit_headers
from keystead.models import KeyInfo
from keystead.question import Question

View = TypeVar("View", bound=Callable[..., Any])
KEY: Final = "keystead"
SETTING: Final = "KEYSTEAD"
_QUESTION: Final = "_keystead_question"
_PUBLIC: Final = "keystead_is_public"
_OF_CLIENT: Final = {
    "URL": "base_url",
    "KEY": "key",
    "TIMEOUT": "timeout",
    "RETRIES": "retries",
    "MAX_WAIT": "max_wait",
    "ALLOW_HTTP": "allow_http",
    "LOCAL": "local",
    "USER_AGENT": "user_agent",
}
_OF_BOTH: Final = ("ENVIRONMENT", "PROJECT", "REGION", "HEADERS", "TRUSTED_PROXIES", "REALM")
_OF_MIDDLEWARE: Final = ("SCOPES", "ENTITLEMENT", "PATHS", "EXEMPT")


@functools.cache
def client() -> Keystead:
    """Return this process's client, made from the settings when it is first needed.

    Raises:
        ConfigurationError: the settings lack something, or have something that there is not.
    """
    known = _settings()
    return Keystead(**{_OF_CLIENT[name]: value for name, value in known.items() if name in _OF_CLIENT})


def _renew(*, setting: str, **_: Any) -> None:
    """Make another client when a test changes the settings."""
    if setting == SETTING and client.cache_info().currsize:
        client().close()
        client.cache_clear()


setting_changed.connect(_renew)


def require_scopes(*scopes: str, **guard: Any) -> Callable[[View], View]:
    """Decorate a view, `def` or `async def`, that only a key with these scopes may call.

    Args:
        scopes: all of them are needed; one may be a query such as `a:read AND (b:read OR b:*)`; none: any valid key.
        guard: entitlement, cost, environment … of `keystead.guard.Guard`, before what the settings say.
    """

    def decorate(view: View) -> View:
        wanted = scopes[0] if len(scopes) == 1 else scopes
        # What is wrong here is said now, not at the first request; the settings can't be read yet.
        Guard(wanted, **guard)

        def admit(request: HttpRequest) -> KeyInfo | Reply:
            return _admit(Guard(wanted, **{**_common(_settings()), **guard}), request)

        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                # One client for all: an async one would need connections for each request's event loop under WSGI.
                judged = await sync_to_async(admit, thread_sensitive=False)(request)
                if isinstance(judged, Reply):
                    return _response(judged)
                return _limited(judged, await view(request, *args, **kwargs))

            return cast(View, guarded_async)

        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            judged = admit(request)
            if isinstance(judged, Reply):
                return _response(judged)
            return _limited(judged, view(request, *args, **kwargs))

        return cast(View, guarded)

    return decorate


def public(view: View) -> View:
    """Decorate a view that the middleware lets anybody call."""
    setattr(view, _PUBLIC, True)
    return view


class KeysteadMiddleware(MiddlewareMixin):
    """Lets a request reach a view below PATHS only with a key that is good for SCOPES."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        known = _settings()
        self._paths = _texts(known, "PATHS", "/")
        self._exempt = frozenset(_texts(known, "EXEMPT"))
        entitlement = known.get("ENTITLEMENT")
        self._guard = Guard(known.get("SCOPES", ()), entitlement=entitlement, **_common(known))

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponse | None:
        """Judge the request's key as soon as its view is known; an answer here stands in the view's place."""
        path = request.path_info
        is_here = path.startswith(self._paths) and path not in self._exempt
        if not is_here or getattr(view, _PUBLIC, False):
            return None
        judged = _admit(self._guard, request)
        return _response(judged) if isinstance(judged, Reply) else None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Tell the client how much is left, so that it can pace itself."""
        key = getattr(request, KEY, None)
        return _limited(key, response) if isinstance(key, KeyInfo) else response


def _admit(guard: Guard, request: HttpRequest) -> KeyInfo | Reply:
    """Return the request's verified key, which it then has too, or the answer that refuses it."""
    asked: Question | Reply | None = guard.question(_seen(request))
    earlier = getattr(request, KEY, None)
    if isinstance(asked, Question) and isinstance(earlier, KeyInfo):
        asked = guard.again(asked, earlier, getattr(request, _QUESTION))
        if asked is None:
            return earlier
    if isinstance(asked, Reply):
        return asked
    try:
        key = client().api_keys.judge(cast(Question, asked))
    except KeysteadError as error:
        return guard.reply(error)
    setattr(request, KEY, key)
    setattr(request, _QUESTION, asked)
    return key


def _seen(request: HttpRequest) -> Seen:
    match = request.resolver_match
    return Seen(
        method=request.method or "",
        route=f"/{match.route}" if match else request.path,
        headers=[(name.lower(), value) for name, value in request.headers.items()],
        query=request.META.get("QUERY_STRING", ""),
        peer=request.META.get("REMOTE_ADDR", ""),
    )


def _response(reply: Reply) -> HttpResponse:
    return HttpResponse(reply.body, status=reply.status, headers=dict(reply.headers))


def _limited(key: KeyInfo, response: HttpResponseBase) -> HttpResponseBase:
    for name, value in rate_limit_headers(key).items():
        response.headers.setdefault(name, value)
    return response


def _settings() -> Mapping[str, Any]:
    """Return the settings, of which a name that is misspelt must not leave a view open."""
    known: Mapping[str, Any] = getattr(settings, SETTING, {})
    unknown = set(known) - {*_OF_CLIENT, *_OF_BOTH, *_OF_MIDDLEWARE}
    if unknown:
        raise ConfigurationError(f"KEYSTEAD has no {', '.join(sorted(unknown))}.")
    return known


def _common(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): known[name] for name in _OF_BOTH if name in known}


def _texts(known: Mapping[str, Any], name: str, *default: str) -> tuple[str, ...]:
    value = known.get(name, default)
    return (value,) if isinstance(value, str) else tuple(value)
