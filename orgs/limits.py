"""Limits of pages that strangers can reach: django-ratelimit's, by address and by e-mail."""

import ipaddress
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest
from django.shortcuts import render
from django_ratelimit.core import is_ratelimited as _untyped_is_ratelimited
from django_ratelimit.decorators import ratelimit as _untyped_ratelimit
from django_ratelimit.exceptions import Ratelimited

View = Callable[..., Any]
RETRY_AFTER_SECONDS = 60
CONFIRMATIONS = "10/5m"
NOWHERE = "::"
ratelimit: Callable[..., Callable[[View], View]] = _untyped_ratelimit
is_ratelimited: Callable[..., bool] = _untyped_is_ratelimited


def client_address(request: HttpRequest) -> str:
    """Return the caller's address as `portal.middleware` found it behind the trusted proxies.

    Who has none, such as a server on a unix socket, counts together with all who have none.
    """
    found = str(getattr(request, "client_ip", "") or request.META.get("REMOTE_ADDR", "")).partition("%")[0]
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        return NOWHERE


def posted_email(group: str, request: HttpRequest) -> str:  # noqa: ARG001
    """Return the address typed into a sign-in form, so that one account can't be tried from many places."""
    return request.POST.get("login", "").strip().lower()[:254]


def limit_sign_in(view: View) -> View:
    """Let 20 attempts a minute through from an address, and 10 in five minutes for an account."""
    by_account = ratelimit(group="sign-in", key=posted_email, rate="10/5m", method="POST")(view)
    return _answering(ratelimit(group="sign-in", key="ip", rate="20/m", method="POST")(by_account))


def limit_confirmation(view: View) -> View:
    """Let 10 tries in five minutes through of a signed-in person's own password."""
    return _answering(ratelimit(group="confirm", key="user", rate=CONFIRMATIONS, method="POST")(view))


def count_confirmation(request: HttpRequest) -> None:
    """Count one try of the signed-in person's own password that no page of its own asked for.

    Raises:
        Ratelimited: they are too many.
    """
    if is_ratelimited(
        request, group="confirm", key="user", rate=CONFIRMATIONS, method="POST", increment=True
    ):
        raise Ratelimited


def limit_joining(view: View) -> View:
    """Let 30 requests a minute through from an address, so that nobody tries links."""
    return _answering(ratelimit(group="join", key="ip", rate="30/m")(view))


def exceeds(request: HttpRequest, *, group: str, rate: str) -> bool:
    """Count a call that nobody authenticates; return whether its address has made more than `rate` (`30/m`)."""
    return is_ratelimited(request, group=group, key="ip", rate=rate, increment=True)


def _answering(view: View) -> View:
    """Answer with a page of its own when the limit is reached."""

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(request, *args, **kwargs)
        except Ratelimited:
            context = {"request_id": getattr(request, "request_id", "")}
            response = render(request, "errors/429.html", context, status=HTTPStatus.TOO_MANY_REQUESTS)
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return response

    return limited
