from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs import access, ports, services
from orgs.answers import see_other
from orgs.errors import Gone, OrgsError
from orgs.forms import InvitationForm, RemovalForm, RoleForm, refuse
from orgs.members import Member
from orgs.models import Membership
from orgs.requests import MemberRequest
from orgs.roles import Permission, Role
from orgs.step_up import step_up_required


@require_safe
def members(request: MemberRequest) -> HttpResponse:
    may_change = request.member.may(Permission.MEMBERS_CHANGE)
    memberships = access.memberships(request.member)
    context = {
        "memberships": memberships,
        "owners": {each.user_id for each in memberships if each.role == Role.OWNER},
        "invitations": access.open_invitations(request.member) if may_change else [],
        "may_change": may_change,
        "may_change_owners": request.member.may(Permission.OWNERS_CHANGE),
        "now": timezone.now(),
    }
    return render(request, "orgs/members.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def invite(request: MemberRequest) -> HttpResponse:
    member = request.member
    access.require(member, Permission.MEMBERS_CHANGE)
    projects = access.projects(member)
    form = InvitationForm(
        request.POST or None, roles=_grantable(member), projects=projects, initial={"role": "developer"}
    )
    if request.method == "POST" and form.is_valid():
        try:
            invited = services.invite_member(actor=member, **form.cleaned_data)
        except OrgsError as error:
            refuse(form, error)
        else:
            link = request.build_absolute_uri(reverse("orgs:invitation", args=[invited.token]))
            return render(request, "orgs/invited.html", {"invitation": invited.invitation, "link": link})
    return render(request, "orgs/invite.html", {"form": form})


@require_POST
def invitation_withdraw(request: MemberRequest, invitation_id: str) -> HttpResponse:
    invitation = access.invitation_for_change(request.member, invitation_id)
    if services.withdraw_invitation(invitation, actor=request.member):
        messages.success(request, "The invitation was withdrawn; its link no longer works.")
    else:
        messages.warning(request, "That invitation had already been used or withdrawn.")
    return see_other("orgs:members")


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def member_change(request: MemberRequest, membership_id: str) -> HttpResponse:
    membership = access.membership_for_change(request.member, membership_id)
    roles = _grantable(request.member, membership)
    form = RoleForm(request.POST or None, roles=roles, initial={"role": membership.role})
    if request.method == "POST" and form.is_valid():
        try:
            services.change_role(membership, form.cleaned_data["role"], actor=request.member)
        except Gone:
            return _gone(request)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The role was changed.")
            return see_other("orgs:members")
    return render(request, "orgs/member_change.html", {"form": form, "membership": membership})


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def member_remove(request: MemberRequest, membership_id: str) -> HttpResponse:
    membership = access.membership_for_change(request.member, membership_id)
    form = RemovalForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            services.remove_member(membership, actor=request.member, **form.cleaned_data)
        except Gone:
            return _gone(request)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The member was removed.")
            return see_other("orgs:members")
    others = access.other_memberships(membership)
    told = [tell(membership.organization_id, membership.user_id) for tell in ports.tell_member_leaving]
    context = {"form": form, "membership": membership, "others": others, "told": told}
    return render(request, "orgs/member_remove.html", context)


def _grantable(member: Member, membership: Membership | None = None) -> list[Role]:
    """Return the roles that a member may give: an owner's only by owners, and never at a project."""
    gives_owner = member.may(Permission.OWNERS_CHANGE) and not (membership and membership.project_id)
    return [role for role in Role if role is not Role.OWNER or gives_owner]


def _gone(request: MemberRequest) -> HttpResponse:
    messages.warning(request, "Somebody else ended that membership in the meantime.")
    return see_other("orgs:members")
