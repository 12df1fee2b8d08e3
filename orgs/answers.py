"""Answers that several views give."""

from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme


class SeeOther(HttpResponseRedirect):
    """303: what was posted is done; read the result there."""

    status_code = HTTPStatus.SEE_OTHER


def see_other(to: str, *args: Any, **kwargs: Any) -> SeeOther:
    """Redirect after a POST, to a URL or to a named one."""
    return SeeOther(resolve_url(to, *args, **kwargs))


def own_url(request: HttpRequest, url: str, default: str = "/") -> str:
    """Return a URL that a form sent along if it is on this site, else `default`."""
    is_own = url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return url if is_own else default
