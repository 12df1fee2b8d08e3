"""Step-up: some acts need the password again, at most five minutes ago (spec PEOPLE, Sign-in)."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.reauthentication import reauthenticate_by_password
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

from orgs import limits
from orgs.answers import see_other

FRESH_FOR = timedelta(minutes=5)

View = Callable[..., HttpResponseBase]


def has_stepped_up(request: HttpRequest) -> bool:
    """Return whether the person proved who they are within the last five minutes, by signing in or once more."""
    user = request.user if request.user.is_authenticated else None
    records = get_authentication_records(request, user)
    return any(0 <= time.time() - record["at"] < FRESH_FOR.total_seconds() for record in records)


def step_up(request: HttpRequest, password: str) -> bool:
    """Confirm who acts by the password, in the very form of an act that can't wait; return whether it is theirs.

    As often as the page for it allows, of which these tries are part.

    Raises:
        Ratelimited: too many tries (`orgs.limits`).
    """
    limits.count_confirmation(request)
    user = request.user
    if not user.is_authenticated or not get_adapter().reauthenticate(user, password):
        return False
    reauthenticate_by_password(request)
    return True


def step_up_required(view: View) -> View:
    """Send people to the confirmation page first; the view's URL must answer GET, where they come back to."""

    @wraps(view)
    def stepped_up(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return needed(request) or view(request, *args, **kwargs)

    return stepped_up


def needed(request: HttpRequest) -> HttpResponseBase | None:
    """Return the way to the confirmation page, which leads back to this address; None where it was confirmed."""
    if has_stepped_up(request):
        return None
    # With the query of a form's address, too: it says what the form was about.
    back = urlencode({"next": request.get_full_path()})
    return see_other(f"{reverse('account_reauthenticate')}?{back}")
