"""Break-glass: which keys would go and what they carry; then all of them in one act."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe
from django_ratelimit.exceptions import Ratelimited

from audit import tenancy
from audit.errors import LedgerUnavailable
from keys import access, breakglass, catalogue, clock, listing, services, usage
from keys.breakglass import Counting
from keys.callers import Caller
from keys.errors import Invalid, KeysError, Unavailable
from keys.forms.breakglass import ActForm, FilterForm, holds_secret, query_of
from keys.listing import Filters
from keys.pages import figures, rows
from keys.views import common
from keys.views.listing import LEFT_OUT
from orgs import access as orgs_access
from orgs.answers import see_other
from orgs.middleware import outside_organization
from orgs.requests import MemberRequest
from orgs.step_up import step_up

SORT: Final = "-last_used_at"
TEMPLATE: Final = "keys/breakglass.html"


@outside_organization
@require_http_methods(["GET", "HEAD", "POST"])
def break_glass(request: MemberRequest) -> HttpResponse:
    """Show what a filter would take; take it. Outside the request's transaction: the act is one of its own."""
    if request.member is None:
        return see_other("keys:list")
    if not request.member.may_break_glass:
        _refuse(request)
    if request.method == "POST":
        return _act(request)
    if holds_secret(request.GET):
        messages.warning(request, LEFT_OUT)
        return see_other("keys:break_glass")
    with tenancy.within(request.member.organization_id):
        form = _filter_form(request)
        response = common.part_or_page(request, TEMPLATE, "found", _shown(request, form))
        # The browser would put every empty field into the address.
        response["HX-Push-Url"] = f"{request.path}?{form.text}" if form.text else request.path
        return response


@require_safe
def break_glass_impact(request: MemberRequest) -> HttpResponse:
    """Count the calls that would fail, a thousand keys further at each request of htmx; without it, all of them."""
    if not request.member.may_break_glass:
        raise PermissionDenied
    caller, context = common.caller(request), _shown(request, _filter_form(request))
    if not context.get("reach"):
        return see_other("keys:break_glass")
    counting, now = Counting.of(request.GET), context["now"]
    found = breakglass.matching(context["filters"], caller, now)
    while True:
        counting = breakglass.count_on(found, request.member.organization_id, counting, now)
        if request.htmx or counting.is_done:
            break
    context |= {"counting": counting}
    if counting.is_done:
        context |= _impact(found, context)
    return common.part_or_page(request, TEMPLATE, "impact", context)


def _refuse(request: MemberRequest) -> None:
    """Refuse; a try to act leaves an entry, in a transaction of its own."""
    if request.method == "POST":
        member = request.member
        services.refuse_break_glass(member.organization_id, actor=common.caller(request), cause="role")
    raise PermissionDenied("Owners and admins break the glass.")


def _act(request: MemberRequest) -> HttpResponse:
    caller, organization_id = common.caller(request), request.member.organization_id
    act = ActForm(request.POST, is_confirmed=caller.has_stepped_up)
    with tenancy.within(organization_id):
        chosen = _offered(request, query_of(request.POST.get("filter", "")), caller)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if chosen.is_valid() and act.is_valid() and _confirm(request, act):
        caller = replace(caller, has_stepped_up=True)
        try:
            with tenancy.within(organization_id):
                filters = chosen.filters(organization_id)
                broken = services.break_glass(filters, actor=caller, reason=act.cleaned_data["reason"])
        except (Unavailable, LedgerUnavailable) as error:
            act.add_error(None, _words(error))
            status = HTTPStatus.SERVICE_UNAVAILABLE
        except KeysError as error:
            common.attach(act, error)
        else:
            return _done(request, broken)
    with tenancy.within(organization_id):
        return common.answer(request, TEMPLATE, _shown(request, chosen, act), status=status)


def _words(error: Unavailable | LedgerUnavailable) -> str:
    if isinstance(error, Unavailable):
        return error.detail
    return "The ledger can't be written at the moment. Nothing was revoked: try again at once."


def _confirm(request: MemberRequest, act: ActForm) -> bool:
    """Return whether who acts is who they say, by what they did before or by the password that came with the form."""
    if "password" not in act.fields:
        return True
    try:
        if step_up(request, act.cleaned_data["password"]):
            return True
        act.add_error("password", "This is not your password.")
    except Ratelimited:
        act.add_error("password", "Too many tries. Wait five minutes, or use a key with keys:breakglass.")
    return False


def _done(request: MemberRequest, broken: services.Broken) -> HttpResponse:
    if broken.incident is None:
        messages.warning(request, "No key matched any more: nothing was revoked.")
        return see_other("keys:break_glass")
    is_one = broken.count == 1
    words = "1 key is revoked: none of its" if is_one else f"{broken.count:,} keys are revoked: none of their"
    messages.success(request, f"{words} secrets is accepted any more, anywhere.")
    return see_other("keys:incident", broken.incident.id)


def _filter_form(request: MemberRequest) -> FilterForm:
    project, caller = request.member.project, common.caller(request)
    if not request.GET and project is not None:
        return _offered(request, query_of(f"project={project.id}"), caller)
    return _offered(request, request.GET, caller)


def _offered(request: MemberRequest, given: Any, caller: Caller) -> FilterForm:
    member = request.member
    form = FilterForm(given)
    form.offer(
        projects=orgs_access.projects(member),
        environments=orgs_access.environments(member),
        owners=breakglass.owners(access.keys_to_break(caller, member.organization_id)),
        scopes=list(catalogue.load()),
    )
    return form


def _shown(request: MemberRequest, form: FilterForm, act: ActForm | None = None) -> dict[str, Any]:
    """Return what the page shows: nothing but the form where the filter is empty or wrong."""
    caller, now = common.caller(request), clock.now()
    is_confirmed = caller.has_stepped_up
    context: dict[str, Any] = {
        "filter": form,
        "form": act or ActForm(initial={"filter": form.text}, is_confirmed=is_confirmed),
        "now": now,
        "is_narrowed": False,
        "place": "breakglass",
    }
    if not form.is_valid():
        return context
    filters = form.filters(request.member.organization_id)
    if filters.is_empty:
        return context
    found = breakglass.matching(filters, caller, now)
    context |= {"is_narrowed": True, "filters": filters, "reach": breakglass.reach(found, now)}
    return context | _listed(request, found, filters, context)


def _listed(request: MemberRequest, found: Any, filters: Filters, context: dict[str, Any]) -> dict[str, Any]:
    """Return one page of the keys that would go, those in use first, with what each carried."""
    now, text = context["now"], context["filter"].text
    try:
        page = listing.page(found, filters=filters, sort=SORT, cursor=request.GET.get("cursor") or None)
    except Invalid:  # a cursor of another list
        page = listing.page(found, filters=filters, sort=SORT)
    seen = usage.traffic([key.id for key in page.items], now - breakglass.DAY, now)
    return {
        "rows": rows.of(page.items, request.member, now),
        "calls": {key_id: one.calls for key_id, one in seen.by_key.items()},
        "previous": f"?{text}&cursor={page.previous}" if page.previous else "",
        "next": f"?{text}&cursor={page.next}" if page.next else "",
        "counting": Counting(total=context["reach"].keys),
    }


def _impact(found: Any, context: dict[str, Any]) -> dict[str, Any]:
    ids = breakglass.busiest(found)
    traffic = usage.traffic(ids, context["now"] - breakglass.DAY, context["now"])
    return {"stops": figures.stops(traffic), "is_of_some": len(ids) == breakglass.TOLD_APART}
