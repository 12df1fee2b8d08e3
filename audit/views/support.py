"""The support console: a search over every organization's entries, and the way into one of them, to read alone."""

from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit import paging, ports, redaction, services, tenancy
from audit.errors import SupportRefused
from audit.ports import Customer, StaffRequest
from audit.support import access, browser, searching
from audit.support.browser import SEARCH, VISIT, of_staff
from audit.support.forms import ReasonForm, SearchForm
from audit.views.webhooks import FORM, SeeOther, confirmed

PLACE: Final = {"place": "support"}


@of_staff
@require_safe
def console(request: StaffRequest) -> HttpResponse:
    """Show the search, with its results where something is asked, and what is open."""
    if any(redaction.holds_secret(text) for _, texts in request.GET.lists() for text in texts):
        return HttpResponseRedirect(reverse("audit:support"))
    session = browser.open_searches(request)
    context: dict[str, Any] = PLACE | {"session": session}
    if session is None:
        return render(request, "audit/support.html", context | {"reason_form": ReasonForm()})
    form = SearchForm(request.GET)
    context["form"] = form
    if form.is_valid() and form.asked:
        try:
            found = searching.search(session, form.asked, request.GET.get("before", ""), actor=request.actor)
        except SupportRefused as refused:
            messages.warning(request, refused.detail)
            return _see("audit:support")
        context |= {"found": found, "older": found.older and form.url(before=found.older)}
    return render(request, "audit/support.html", context)


@of_staff
@require_http_methods(FORM)
@confirmed
def support_begin(request: StaffRequest) -> HttpResponse:
    """Ask why, and let the person search for so long."""
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            session = services.open_search(actor=request.actor, **form.cleaned_data)
        except SupportRefused as refused:
            form.add_error(None, refused.detail)
        else:
            request.session[SEARCH] = session.id
            return _see("audit:support")
    return render(request, "audit/support_begin.html", PLACE | {"form": form}, status=_status(form))


@of_staff
@require_POST
def support_end(request: StaffRequest) -> HttpResponse:
    """Close the searches."""
    _close(request, SEARCH)
    messages.success(request, "Your searches are closed.")
    return _see("audit:support")


@of_staff
@require_http_methods(FORM)
@confirmed
def support_open(request: StaffRequest, organization_id: str) -> HttpResponse:
    """Ask why, and open an organization to be read; `?entry=` leads on to one of its entries."""
    customer = _customer(organization_id)
    entry = request.GET.get("entry", "")
    there = reverse("audit:entry", args=[paging.read(entry)]) if entry else "/"
    session = browser.open_searches(request)
    initial = {"reason": session.reason} if session else None
    form = ReasonForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            visit = services.open_visit(customer.id, actor=request.actor, **form.cleaned_data)
        except SupportRefused as refused:
            form.add_error(None, refused.detail)
        else:
            request.session[VISIT] = visit.id
            return _see(there)
    context = PLACE | {"form": form, "customer": customer, "entry": entry}
    return render(request, "audit/support_open.html", context, status=_status(form))


@of_staff
@require_POST
def support_leave(request: StaffRequest) -> HttpResponse:
    """Close the visit: the one form that works in it, beside signing out."""
    _close(request, VISIT)
    messages.success(request, "You have left. What you saw stands in the security log of the customer.")
    return _see("audit:support")


def _customer(organization_id: str) -> Customer:
    """Return who can be visited; raises `Http404` for the operator's own organization and for none."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        found = ports.support[0].customers([organization_id]).get(organization_id)
    if found is None or found.is_operator:
        raise Http404
    return found


def _close(request: StaffRequest, key: str) -> None:
    """Close what is open under a key of the browser's session, which forgets it once it is closed."""
    id_ = request.session.get(key)
    if id_ and (found := access.session(id_, request.actor.id)) is not None:
        services.close_support(found, actor=request.actor)
    request.session.pop(key, None)


def _status(form: ReasonForm) -> int:
    return 422 if form.errors else 200


def _see(to: str) -> SeeOther:
    return SeeOther(resolve_url(to))
