"""The ledger in the admin site: read, never written. The site gives these pages their addresses."""

import json
from typing import Any, Final

from django.contrib import admin
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from audit.models import Entry
from audit.requests import Request

PAGE_SIZE: Final = 50


@require_safe
def entry_list(request: Request, organization_id: str) -> HttpResponse:
    """Show an organization's ledger, newest first, page by page; `before=EPOCH.INDEX` is where the page begins."""
    entries = Entry.objects.of(organization_id).newest_first()
    if before := request.GET.get("before", ""):
        entries = entries.before(*_place(before))
    found = list(entries[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    following = f"{page[-1].epoch}.{page[-1].index}" if len(found) > PAGE_SIZE else ""
    context = {"entries": page, "following": following, "organization_id": organization_id}
    return _render(request, "admin/ledger/list.html", f"Ledger of {organization_id}", context)


@require_safe
def entry_detail(request: Request, organization_id: str, epoch: int, index: int) -> HttpResponse:
    """Show one entry and its leaf hash. What is sealed stays so: it is personal, and the customer's to open."""
    entry = Entry.objects.of(organization_id).filter(epoch=epoch, index=index).first()
    if entry is None:
        raise Http404
    parsed = entry.parsed()
    context = {
        "entry": entry,
        "leaf_hash": entry.leaf_hash().hex(),
        "facts": json.dumps(parsed.data, indent=2, ensure_ascii=False),
        "sealed": sorted(parsed.sealed),
        "organization_id": organization_id,
    }
    return _render(request, "admin/ledger/entry.html", f"{entry.act} #{index}", context)


def _place(text: str) -> tuple[int, int]:
    """Read `EPOCH.INDEX`; raises `Http404` for anything else, and for what no column of the table can hold."""
    epoch, dot, index = text.partition(".")
    numbers = (epoch + index).isascii() and epoch.isdigit() and index.isdigit()
    if not dot or not numbers or len(epoch) > 4 or len(index) > 18:  # noqa: PLR2004 - smallint, bigint
        raise Http404
    return int(epoch), int(index)


def _render(request: Request, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), "title": title, **context})
