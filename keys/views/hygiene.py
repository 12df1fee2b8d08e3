"""The hygiene page: what about the keys deserves a look."""

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from keys import clock
from keys.pages import hygiene
from keys.views import common
from orgs.requests import MemberRequest


@require_safe
def key_hygiene(request: MemberRequest) -> HttpResponse:
    """Show what of the running keys deserves a look, how often, why, and which they are."""
    now = clock.now()
    return common.answer(
        request, "keys/hygiene.html", {"report": hygiene.report(request.member, now), "now": now}
    )
