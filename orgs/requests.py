"""The request of a page, for the type checker: what `MemberMiddleware` sets before a view runs."""

from typing import TYPE_CHECKING

from django_htmx.middleware import HtmxDetails

from audit.actors import Actor
from audit.requests import Request
from orgs.members import Member
from orgs.models import User

if TYPE_CHECKING:
    from orgs.visits import Visit


class PageRequest(Request):
    """A request that may be signed in; `organizations` are (id, name) of those that the person belongs to.

    `visit` is what support staff have open: then `member` is no member, and nothing is changed.

    A view whose path holds a secret sets `logged_path`, which the log shows instead.
    """

    user: User
    htmx: HtmxDetails
    member: Member | None
    organizations: list[tuple[str, str]]
    visit: "Visit | None"
    actor: Actor
    logged_path: str


class MemberRequest(PageRequest):
    """A request of a signed-in member, as every page behind the sign-in gets it."""

    member: Member
