"""What the support console keeps in the browser's session, the ids of what is open there, and whom it lets in."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponseBase

from audit import services
from audit.actors import Actor
from audit.errors import LedgerUnavailable
from audit.models import SupportEnd, SupportKind, SupportSession
from audit.support import access

VISIT: Final = "support_visit"
SEARCH: Final = "support_search"
ROLE: Final = "support"

type View = Callable[..., HttpResponseBase]
logger = logging.getLogger(__name__)


def is_staff(user: object) -> bool:
    """Return whether somebody who is signed in has the role `support`."""
    return getattr(user, "staff_role", "") == ROLE


def of_staff(view: View) -> View:
    """Let only support staff in: the page is a 404 to everybody else. It is of no organization, whoever's they are."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_staff(request.user):
            raise Http404
        return view(request, *args, **kwargs)

    guarded.of_staff = True  # type: ignore[attr-defined]
    return guarded


def open_searches(request: HttpRequest) -> SupportSession | None:
    """Return the searches that are open in this browser."""
    id_ = request.session.get(SEARCH)
    return access.open_session(id_, str(request.user.pk), SupportKind.SEARCH) if id_ else None


def close_all(request: HttpRequest, actor: Actor) -> None:
    """Close what is open in a browser that signs out. Where the ledger can't be written the time will close it."""
    for key in (VISIT, SEARCH):
        id_ = request.session.get(key)
        found = access.session(id_, actor.id) if id_ else None
        if found is None:
            continue
        try:
            services.close_support(found, actor=actor, why=SupportEnd.SIGNED_OUT)
        except LedgerUnavailable:
            logger.exception("%s could not be closed at sign-out", found.id)
