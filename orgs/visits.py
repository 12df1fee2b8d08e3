"""Support staff in one customer's organization: which pages they read, that nothing is changed, that each is recorded.

Everything denies by default: a page that is not named here is refused in a visit, and so is every method but reading,
before any view runs. A view that would write all the same is stopped by the database (spec PAGES, Support console).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from audit import ledger, services, tenancy
from audit.actors import Actor
from audit.entry import MAX_STRING_BYTES
from audit.models import SupportEnd, SupportKind, SupportSession
from audit.support import access, browser
from audit.support.browser import SEARCH, VISIT
from orgs.answers import see_other
from orgs.members import Grant, Member
from orgs.models import Organization, User
from orgs.requests import PageRequest
from orgs.roles import Role

CONSOLE: Final = "audit:support"
READING: Final = frozenset({"GET", "HEAD"})
# What is open beside the organization's own pages: the console, and ways out.
BESIDE: Final[Mapping[str, frozenset[str]]] = {
    CONSOLE: READING,
    "audit:support_leave": frozenset({"POST"}),
    "account_logout": READING | {"POST"},
}
# The pages of a visit, each with the word that the customer's ledger has for it.
READABLE: Final[Mapping[str, str]] = {
    "keys:list": "keys",
    "keys:hygiene": "hygiene of keys",
    "keys:detail": "key",
    "keys:key_usage": "usage of a key",
    "keys:activity": "activity of a key",
    "keys:access": "access of a key",
    "keys:usage": "usage",
    "keys:rotations": "rotations",
    "keys:rotation": "rotation",
    "keys:approvals": "approvals",
    "keys:approval": "approval",
    "keys:execution": "execution",
    "keys:trail": "trail of an id",
    "keys:incidents": "incidents",
    "keys:incident": "incident",
    "keys:scopes": "scopes in use",
    "keys:plan": "plan and limits",
    "audit:log": "security log",
    "audit:entry": "entry of the security log",
    "audit:entry_proof": "proof of an entry",
    "audit:entry_leaf": "bytes of an entry",
    "audit:checking": "how to check the ledger",
    "audit:support_access": "support access",
    "orgs:settings": "settings",
    "orgs:organization": "organization",
    "orgs:members": "members",
    "orgs:projects": "projects",
    "orgs:environments": "environments",
}
VIEWS: Final = "support_views"
# A part of a page that htmx asks for again within this time is that page still: polls would flood the ledger.
SAME_VIEW_SECONDS: Final = 600
MOST_VIEWS: Final = 30
# Parameters that change nothing but what a part announces.
UNTOLD: Final = frozenset({"seen"})
READ_ONLY: Final = "SET LOCAL transaction_read_only = on"
# An auditor's rights, over the whole organization.
GRANTS: Final = (Grant(Role.AUDITOR, ""),)

View = Callable[..., HttpResponseBase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a staff person has open, as the banner of every page says it."""

    session: SupportSession
    organization_name: str

    @property
    def id(self) -> str:
        """The support session's id."""
        return self.session.id

    @property
    def reason(self) -> str:
        """What the person said, who reads it on each page."""
        return self.session.reason

    @property
    def expires_at(self) -> datetime:
        """When it ends at the latest."""
        return self.session.expires_at


@dataclass(frozen=True, kw_only=True)
class Visitor(Member):
    """Support staff as pages see them: an auditor's reading rights, and nobody's membership."""

    @property
    def is_visitor(self) -> bool:
        """Whether this is no member at all."""
        return True


def refuse_changes(request: PageRequest) -> None:
    """Raise `PermissionDenied` for all but reading while a visit is open in this browser; `/v1` knows no browsers.

    Before the question who may see a page, and for public ones too: a form of any kind fails, but those that end it.
    """
    if request.method in READING or request.path_info.startswith("/v1/"):
        return
    if VISIT not in request.session or not request.user.is_authenticated:
        return
    if request.method not in BESIDE.get(_name(request), ()):
        raise PermissionDenied("In a support visit everything is read only.")


def resume(request: PageRequest) -> HttpResponseBase | None:
    """Find the visit that this browser has open, as `request.visit`; where it is over, lead back to the console."""
    id_ = request.session.get(VISIT)
    if id_ is None:
        return None
    found = access.open_session(id_, request.user.id, SupportKind.VISIT)
    if found is None or not browser.is_staff(request.user):
        return _ended(request, id_)
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        name = Organization.objects.values_list("name", flat=True).get(pk=found.organization_id)
    request.visit = Visit(session=found, organization_name=name)
    return None


def visitor(visit: Visit, who: Actor, user: User) -> Visitor:
    """Return the staff person as a reader of the organization that they visit."""
    organization = Organization.objects.select_related("plan").get(pk=visit.session.organization_id)
    identity = {name: getattr(who, name) for name in who.__dataclass_fields__}
    return Visitor(**identity, user=user, organization=organization, project=None, grants=GRANTS)


def show(request: PageRequest, view: View, who: Actor, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
    """Answer one page of a visit with its entry in the customer's ledger; None for the console, which is beside it.

    The page is read first, in a part of the transaction that can't write, and goes out only once the entry commits.

    Raises:
        PermissionDenied: no page of a visit.
        LedgerUnavailable: the entry could not be written.
    """
    visit, name = request.visit, _name(request)
    if visit is None:
        raise PermissionDenied
    if name in BESIDE:
        return None
    if name not in READABLE:
        raise PermissionDenied("This page is not open to support.")
    digest = _digest(request, visit, kwargs)
    try:
        with _looking(visit, who):
            with transaction.atomic():
                _stop_writing()
                request.member = visitor(visit, who, request.user)
                response = view(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse):
                    response = response.render()
            if getattr(response, "streaming", False):
                raise PermissionDenied("Nothing is exported in a support visit.")
            is_new = "Location" not in response.headers and not _is_same_view(request, digest)
            if is_new:
                _record(request, visit, who, READABLE[name], kwargs)
    except _OverError:
        return _ended(request, visit.id)
    if is_new:
        _remember(request, digest)
    return response


class _OverError(Exception):
    """The visit ended while a page of it was read."""


@contextmanager
def _looking(visit: Visit, who: Actor) -> Iterator[None]:
    """Run in the transaction of the customer's rows and ledger; raise `_OverError` where it is over."""
    organization_id = visit.session.organization_id
    with tenancy.within(organization_id), ledger.recording(organization_id, who):
        yield
        if not access.hold(visit.id):
            raise _OverError


def close_at_sign_out(request: PageRequest | None, user: User | None, **_signal: Any) -> None:
    """Close what a browser has open that signs out."""
    if request is not None and user is not None and (VISIT in request.session or SEARCH in request.session):
        browser.close_all(request, Actor(id=user.id, name=user.name, email=user.email))


def _record(request: PageRequest, visit: Visit, who: Actor, page: str, kwargs: Mapping[str, Any]) -> None:
    facts = {name: _plain(value) for name, value in kwargs.items()}
    target = next((value for name, value in facts.items() if name.endswith("_id")), "")
    services.record_page(
        visit.id,
        visit.session.organization_id,
        actor=who,
        page=page,
        target=target,
        facts=facts,
        query=_query(request),
    )


def _query(request: PageRequest) -> str:
    """Return the address's query as people read it; raises `PermissionDenied` for more than an entry holds.

    Otherwise what was looked for could stand behind what the customer can read of it.
    """
    query = unquote_plus(request.META.get("QUERY_STRING", "")).replace("\0", "\N{SYMBOL FOR NULL}")
    if len(query.encode()) > MAX_STRING_BYTES:
        raise PermissionDenied(
            "In a support visit an address is recorded whole; this one is too long for that."
        )
    return query


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _stop_writing() -> None:
    """Let nothing be written until the savepoint is released, which gives back what was before."""
    with connection.cursor() as cursor:
        cursor.execute(READ_ONLY)


def _ended(request: PageRequest, id_: str) -> HttpResponseBase:
    for key in (VISIT, VIEWS):
        request.session.pop(key, None)
    if (lapsed := access.session(id_, request.user.id)) is not None:
        services.close_support(lapsed, actor=Actor(id=request.user.id), why=SupportEnd.LAPSED)
    messages.warning(request, "Your visit is over.")
    there = reverse(CONSOLE) if browser.is_staff(request.user) else "/"
    return HttpResponseClientRedirect(there) if request.htmx else see_other(there)


def _name(request: PageRequest) -> str:
    return request.resolver_match.view_name if request.resolver_match else ""


def _digest(request: PageRequest, visit: Visit, kwargs: Mapping[str, Any]) -> str:
    query = sorted((name, texts) for name, texts in request.GET.lists() if name not in UNTOLD)
    about = [visit.id, _name(request), sorted((name, _plain(value)) for name, value in kwargs.items()), query]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _is_same_view(request: PageRequest, digest: str) -> bool:
    """Return whether htmx asks again for a part of what was recorded minutes ago; links that it boosts are views."""
    if not request.htmx or request.htmx.boosted:
        return False
    recorded: int = request.session.get(VIEWS, {}).get(digest, 0)
    # A clock that was put back does not make it longer.
    return 0 <= time.time() - recorded < SAME_VIEW_SECONDS


def _remember(request: PageRequest, digest: str) -> None:
    """Keep in the browser's session what was recorded, once it was."""
    views = request.session.get(VIEWS, {}) | {digest: int(time.time())}
    newest = sorted(views.items(), key=lambda view: view[1])[-MOST_VIEWS:]
    request.session[VIEWS] = dict(newest)
