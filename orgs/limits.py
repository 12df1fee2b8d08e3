"""Limits of pages that strangers can reach: django-ratelimit's, by address and by e-mail."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django_ratelimit.decorators import ratelimit as _untyped_ratelimit

View = Callable[..., Any]
ratelimit: Callable[..., Callable[[View], View]] = _untyped_ratelimit


def client_address(request: HttpRequest) -> str:
    """Return the caller's address as `portal.middleware` found it behind the trusted proxies."""
    return str(getattr(request, "client_ip", "") or request.META.get("REMOTE_ADDR", ""))


def posted_email(group: str, request: HttpRequest) -> str:  # noqa: ARG001
    """Return the address typed into a sign-in form, so that one account can't be tried from many places."""
    return request.POST.get("login", "").strip().lower()[:254]


def limit_sign_in(view: View) -> View:
    """Let 20 attempts a minute through from an address, and 10 in five minutes for an account."""
    by_account = ratelimit(group="sign-in", key=posted_email, rate="10/5m", method="POST")(view)
    return ratelimit(group="sign-in", key="ip", rate="20/m", method="POST")(by_account)
