"""Approvals and executions: what waits, who asks for what, the decision, and the trail of an incident."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit import access as log
from keys import access, catalogue, clock, governance, services
from keys.errors import Conflict, DecisionRefused, KeysError
from keys.forms.approvals import ApprovalFilter, ApprovalForm, DecisionForm, TrailForm
from keys.governance import ApprovalState, Parity
from keys.models import Approval, ApprovalUse
from keys.pages import approvals as approval_pages
from keys.pages import history, offers, trail
from keys.services.executions import trace
from keys.views import common
from orgs.answers import see_other
from orgs.requests import MemberRequest

PLACE: Final = {"place": "approvals"}
MOST_EXECUTIONS: Final = 20
TABS: Final = (
    ("", "All"),
    (ApprovalState.REQUESTED, "Waiting"),
    (ApprovalState.GRANTED, "Granted"),
    (ApprovalState.USED_UP, "Used up"),
    (ApprovalState.DENIED, "Denied"),
    (ApprovalState.EXPIRED, "Expired"),
)


@require_safe
def approval_list(request: MemberRequest) -> HttpResponse:
    """What waits for a decision, then all the others, the newest first."""
    member, now = request.member, clock.now()
    chosen = ApprovalFilter(request.GET).chosen
    found = access.approvals(member)
    narrowed = {"key_id": chosen.get("key"), "incident": chosen.get("incident")}
    found = found.filter(**{name: value for name, value in narrowed.items() if value})
    status, before = chosen.get("status", ""), chosen.pop("before", "")
    is_first = not status and not before
    waiting = approval_pages.rows(approval_pages.waiting(found, now), member, now) if is_first else []
    others = (
        found.in_state(status, now) if status else found.exclude(id__in=[row.approval.id for row in waiting])
    )
    page = approval_pages.page(others, member, now, _before(request, before))
    context = {
        **PLACE,
        "waiting": waiting,
        "page": page,
        "older": page.older and f"?{urlencode(chosen | {'before': page.older})}",
        "tabs": [(value, label, _address(chosen, value)) for value, label in TABS],
        "status": status,
        "chosen": chosen,
        "key_name": history.names_of([chosen["key"]]).get(chosen["key"], "") if "key" in chosen else "",
        "may_ask": bool(access.projects_for_creation(member)),
        "now": now,
    }
    return common.answer(request, "keys/approvals.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def approval_new(request: MemberRequest) -> HttpResponse:
    """Offer the form; ask for what it says."""
    if not access.projects_for_creation(request.member):
        raise PermissionDenied("Owners, admins and developers ask for approvals.")
    keys = access.keys_for_approval(request.member, clock.now())
    posted = request.POST if request.method == "POST" else None
    rule = offers.approval_rule(request.member.organization_id)
    form = ApprovalForm(posted, keys=keys, rule=rule, initial={"key": request.GET.get("key", "")})
    if form.is_bound and form.is_valid():
        try:
            made = services.request_approval(form.draft(), actor=common.caller(request))
        except Conflict as error:
            form.add_error("key", error.detail)
        except KeysError as error:
            common.attach(form, error)
        else:
            messages.success(request, "Asked. Somebody else decides.")
            return see_other("keys:approval", made.id)
    return common.answer(request, "keys/approval_new.html", {**PLACE, "form": form, "keys": keys})


@require_http_methods(["GET", "HEAD", "POST"])
def key_bind(request: MemberRequest, key_id: str) -> HttpResponse:
    """Bind a service key to approvals."""
    key, problem = access.key_for_change(request.member, key_id), ""
    if request.method == "POST":
        try:
            services.bind_key(key, actor=common.caller(request))
        except Conflict as error:
            problem = error.detail
        else:
            messages.success(request, f"{key.name} needs an approval now for all but reading.")
            return see_other("keys:detail", key.id)
    governed = governance.governed(key.scopes, catalogue.risks(catalogue.load()))
    context = {"key": key, "governed": governed, "problem": problem}
    status = HTTPStatus.CONFLICT if problem else HTTPStatus.OK
    return common.answer(request, "keys/bind.html", context, status=status)


@require_safe
def approval_detail(request: MemberRequest, approval_id: str) -> HttpResponse:
    """Show who asks for what, why, and what became of it."""
    return _page(request, access.approval(request.member, approval_id), DecisionForm())


@require_POST
def approval_grant(request: MemberRequest, approval_id: str) -> HttpResponse:
    """Grant it, as somebody else than whoever asked."""
    return _decide(request, approval_id, services.grant_approval, "Granted.")


@require_POST
def approval_deny(request: MemberRequest, approval_id: str) -> HttpResponse:
    """Deny it."""
    return _decide(request, approval_id, services.deny_approval, "Denied.")


@require_safe
def execution_detail(request: MemberRequest, execution_id: str) -> HttpResponse:
    """Set what was done beside what was planned."""
    execution = access.execution(request.member, execution_id)
    found = trace(execution)
    context = {
        **PLACE,
        "execution": execution,
        "trace": found,
        "lines": approval_pages.lines(found, execution),
        "verdict": approval_pages.VERDICTS[found.verdict],
        "parameters_differ": found.planned_parameters not in {None, execution.parameters_digest},
        "lines_of_log": log.entries_for_target(request.member, execution.id),
    }
    return common.answer(request, "keys/execution.html", context)


@require_safe
def trail_page(request: MemberRequest) -> HttpResponse:
    """Show all of one incident, or of one request."""
    form = TrailForm(request.GET or None)
    if form.is_bound and form.holds_secret:
        messages.warning(request, "The address held something that looks like a secret. It was left out.")
        return redirect("keys:trail")
    found = None
    if form.is_bound and form.is_valid() and any(form.cleaned_data.values()):
        found = trail.follow(request.member, clock.now(), **form.cleaned_data)
    return common.answer(request, "keys/trail.html", {**PLACE, "form": form, "trail": found})


def _decide(
    request: MemberRequest, approval_id: str, decide: Callable[..., Approval], done: str
) -> HttpResponse:
    approval, form = access.approval(request.member, approval_id), DecisionForm(request.POST)
    problem, status = "", HTTPStatus.OK
    if form.is_valid():
        try:
            decide(approval, actor=common.caller(request), note=form.cleaned_data["note"])
        except (Conflict, DecisionRefused) as error:
            problem = error.detail
            status = HTTPStatus.CONFLICT if isinstance(error, Conflict) else HTTPStatus.FORBIDDEN
        except KeysError as error:
            common.attach(form, error)
        else:
            messages.success(request, done)
            return see_other("keys:approval", approval_id)
    found = access.approval(request.member, approval_id)
    return _page(request, found, form, problem=problem, status=status)


def _page(
    request: MemberRequest,
    approval: Approval,
    form: DecisionForm,
    *,
    problem: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    member, now = request.member, clock.now()
    names = history.names_of([approval.requested_by, approval.decided_by])
    context: dict[str, Any] = {
        **PLACE,
        "approval": approval,
        "state": approval.state(now),
        "left": approval.uses - approval.spent,
        "by": names.get(approval.requested_by, approval.requested_by),
        "decider": names.get(approval.decided_by, approval.decided_by),
        "bar": approval_pages.bar(member, approval, now),
        "parameters": "" if approval.parameters is None else approval_pages.pretty(approval.parameters),
        "used": list(ApprovalUse.objects.filter(approval_id=approval.id).order_by("number")),
        "executions": [
            (one, *approval_pages.VERDICTS[Parity(one.verdict)])
            for one in approval.executions.order_by("-recorded_at")[:MOST_EXECUTIONS]
        ],
        "lines": log.entries_for_target(member, approval.id),
        "form": form,
        "problem": problem,
    }
    return common.answer(request, "keys/approval.html", context, status=status)


def _before(request: MemberRequest, approval_id: str) -> Approval | None:
    if not approval_id:
        return None
    found = access.approvals(request.member).filter(pk=approval_id).first()
    if found is None:
        raise Http404
    return found


def _address(chosen: dict[str, str], status: str) -> str:
    query = {name: value for name, value in chosen.items() if name != "status"}
    query |= {"status": status} if status else {}
    return reverse("keys:approvals") + (f"?{urlencode(query)}" if query else "")
