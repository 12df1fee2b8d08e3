"""The pages of keys under Settings: the organization's rules for its keys, the scopes in use, plan and limits."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from keys import access, clock, services
from keys.errors import KeysError
from keys.forms.policies import PolicyForm
from keys.pages import plan as plan_page
from keys.pages import usage_of_scopes
from keys.services.common import policy_of
from keys.services.recipients import lapsed_recipients, newest_recipient
from keys.views import common
from orgs.answers import see_other
from orgs.requests import MemberRequest
from orgs.roles import Permission


@require_http_methods(["GET", "HEAD", "POST"])
def policies(request: MemberRequest) -> HttpResponse:
    """Show and replace the organization's rules for its keys."""
    member = request.member
    if not member.may(Permission.ORGANIZATION_CONFIGURE):
        raise PermissionDenied("Owners and admins set the rules for keys.")
    form = PolicyForm(
        request.POST if request.method == "POST" else None, policy=policy_of(member.organization_id)
    )
    if form.is_bound and form.is_valid():
        try:
            services.change_policy(form.change(), actor=member)
        except KeysError as error:
            common.attach(form, error)
        else:
            messages.success(request, "The rules for keys are saved.")
            return see_other("keys:policies")
    context = {
        "form": form,
        "place": "orgs",
        "recipient": newest_recipient(member.organization_id),
        "lapsed": lapsed_recipients(member.organization_id),
    }
    return common.answer(request, "keys/policies.html", context)


@require_safe
def scopes(request: MemberRequest) -> HttpResponse:
    """Show the catalogue, and how many of the running keys that the person sees carry each scope."""
    groups = usage_of_scopes.groups(access.keys(request.member), clock.now())
    return common.answer(request, "keys/scopes.html", {"groups": groups, "place": "orgs"})


@require_safe
def plan(request: MemberRequest) -> HttpResponse:
    """Show what the organization has bought, and how much of it is spent; nothing can be changed here."""
    context = {"bought": plan_page.of_member(request.member, clock.now()), "place": "orgs"}
    return common.answer(request, "keys/plan.html", context)
