"""The security log: an organization's entries, and each of them alone."""

from typing import Final

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from audit import access, describe, paging, redaction
from audit.forms import LogFilter
from audit.ports import ReaderRequest

PAGE_SIZE: Final = 50


@require_safe
def log(request: ReaderRequest) -> HttpResponse:
    """Show one page of the entries that the filters leave, newest first; to htmx only what they change."""
    if any(redaction.holds_secret(text) for _, texts in request.GET.lists() for text in texts):
        return HttpResponseRedirect(reverse("audit:log"))
    member = request.member
    entries = access.entries(member)
    form = LogFilter(request.GET, actors=access.actors(member))
    page = paging.page(form.narrow(entries), request.GET, PAGE_SIZE)
    context = {
        "form": form,
        "menus": form.menus(with_actors=member.reads_whole_log),
        "lines": access.lines(member, page.entries),
        "newer": page.newer and form.url(after=page.newer),
        "older": page.older and form.url(before=page.older),
        "reads_whole_log": member.reads_whole_log,
    }
    is_part = request.headers.get("HX-Target") == "rows"
    response = render(request, "audit/log.html#rows" if is_part else "audit/log.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
def entry(request: ReaderRequest, place: tuple[int, int]) -> HttpResponse:
    """Show one entry: what it says, what it seals, and the bytes that are hashed."""
    detail = access.entry(request.member, place)
    data = detail.parsed.data if detail.parsed else {}
    context = {
        "detail": detail,
        "line": detail.line,
        "changes": describe.changes(data),
        "facts": describe.facts(data),
        "leaf_hash": detail.entry.leaf_hash().hex(),
        "prev": detail.parsed.prev.hex() if detail.parsed else "",
        "leaf": bytes(detail.entry.leaf).decode("utf-8", "backslashreplace"),
    }
    return render(request, "audit/entry.html", context)
