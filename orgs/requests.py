"""The request of a page, for the type checker: what `MemberMiddleware` sets before a view runs."""

from django_htmx.middleware import HtmxDetails

from audit.requests import Request
from orgs.members import Member
from orgs.models import User


class PageRequest(Request):
    """A request that may be signed in; `organizations` are (id, name) of those that the person belongs to.

    A view whose path holds a secret sets `logged_path`, which the log shows instead.
    """

    user: User
    htmx: HtmxDetails
    member: Member | None
    organizations: list[tuple[str, str]]
    logged_path: str


class MemberRequest(PageRequest):
    """A request of a signed-in member, as every page behind the sign-in gets it."""

    member: Member
