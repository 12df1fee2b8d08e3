"""Erasing somebody's personal data from the log: how much there is, doing it, and how far it has come."""

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render, resolve_url
from django.views.decorators.http import require_http_methods, require_safe

from audit import services
from audit.erasing import access
from audit.erasing.forms import EraseForm
from audit.ports import ReaderRequest
from audit.views.webhooks import FORM, SeeOther, confirmed


@require_http_methods(FORM)
@confirmed
def erase(request: ReaderRequest) -> HttpResponseBase:
    """Ask whose data; say how much that is; erase it once the name is typed again."""
    member = request.member
    access.require_eraser(member)
    given = request.GET.get("person", "")
    form = EraseForm(request.POST if request.method == "POST" else {"who": given} if given else None)
    found = None
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        found = access.erasable(member, asked["who"], with_notes=asked["with_notes"])
        if form.confirm(found.label):
            erasure = services.erase_person(
                member.organization_id,
                found.person_id,
                actor=member.actor,
                addresses=found.addresses,
                with_notes=asked["with_notes"],
                note=asked["reason"],
            )
            return SeeOther(resolve_url("audit:erasure", erasure.id))
    return render(request, "audit/erase.html", {"form": form, "found": found})


@require_safe
def erasure(request: ReaderRequest, erasure_id: str) -> HttpResponse:
    """Show how far an erasure has come; htmx asks again while it runs."""
    found = access.erasure(request.member, erasure_id)
    part = "#progress" if request.headers.get("HX-Target") == "progress" else ""
    return render(request, f"audit/erasure.html{part}", {"erasure": found})
