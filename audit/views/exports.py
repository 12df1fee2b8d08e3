"""Exports of the security log: ask for one, see how far it is, download it, delete it."""

from http import HTTPStatus
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit import access as log
from audit import ports, redaction, services
from audit.errors import ExportError, ExportStateForbids
from audit.exports import access
from audit.exports.facts import COLUMNS
from audit.exports.forms import TYPES, ExportForm, filename, filters, words
from audit.exports.sending import send
from audit.forms import LogFilter
from audit.models import Format
from audit.ports import ReaderRequest
from audit.signatures import sealing
from audit.views.webhooks import FORM, SeeOther, confirmed

SELF: Final = "audit:exports"


@require_http_methods(FORM)
def exports(request: ReaderRequest) -> HttpResponseBase:
    """Show the exports and offer a form, narrowed as the log was; make one of it."""
    if any(redaction.holds_secret(text) for _, texts in request.GET.lists() for text in texts):
        return SeeOther(resolve_url(SELF))
    access.require(request.member)
    return export_request(request) if request.method == "POST" else _page(request)


@confirmed
def export_request(request: ReaderRequest) -> HttpResponse:
    """Ask for an export."""
    member = request.member
    form = ExportForm(request.POST, access.checkpoints(member))
    narrowed = LogFilter(request.GET)
    if not form.is_valid() or not (form.cleaned_data["format"] == Format.BUNDLE or narrowed.is_valid()):
        return _page(request, form)
    try:
        services.request_export(member.organization_id, form.draft(filters(narrowed)), actor=member.actor)
    except ExportError as error:
        form.refuse(error)
        return _page(request, form)
    messages.success(request, "The export is being made. You can leave this page.")
    return _back(request)


@require_safe
@confirmed
def export_confirm(request: ReaderRequest) -> HttpResponse:
    """Come back from the password with leave to download."""
    access.require(request.member)
    messages.success(request, "Confirmed: for five minutes you can make and download exports.")
    return _back(request)


@require_safe
@confirmed
def export_download(request: ReaderRequest, export_id: str) -> HttpResponseBase:
    """Hand out an export's bytes."""
    export = access.export(request.member, export_id, timezone.now())
    if not export.is_ready or export.ready_at is None:
        raise Http404
    headers = {
        "Content-Disposition": f'attachment; filename="{filename(export, export.ready_at)}"',
        "Content-Length": str(export.size),
        "Content-Type": TYPES[Format(export.format)],
        "Cache-Control": "no-store",
        "Accept-Ranges": "none",
    }
    if request.method == "HEAD":
        return HttpResponse(headers=headers)
    try:
        return StreamingHttpResponse(send(export), headers=headers)
    except ExportStateForbids as error:
        messages.error(request, error.detail)
        return _back(request)


@require_POST
def export_remove(request: ReaderRequest, export_id: str) -> HttpResponse:
    """Delete an export before its day is over."""
    export = access.export(request.member, export_id, timezone.now())
    try:
        services.remove_export(export, actor=request.member.actor)
    except ExportStateForbids as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "The export was deleted.")
    return _back(request)


def _page(request: ReaderRequest, form: ExportForm | None = None) -> HttpResponse:
    member, now = request.member, timezone.now()
    checkpoints = access.checkpoints(member)
    names = dict(log.actors(member))
    narrowed = LogFilter(request.GET)
    found = access.exports(member, now)
    context: dict[str, Any] = {
        "place": "audit",
        "now": now,
        "rows": [(export, words(export.filters, names), export.percent) for export in found],
        "is_running": any(export.is_unfinished for export in found),
        "form": form or ExportForm(None, checkpoints),
        "narrowed": narrowed,
        "words": words(narrowed.chosen, names),
        "query": narrowed.query,
        "asked": request.GET.get("format", ""),
        "is_confirmed": all(needed(request) is None for needed in ports.step_up),
        "checkpoints": checkpoints,
        "columns": COLUMNS.items(),
        "seal": sealing.seal(member.organization_id),
    }
    is_part = request.headers.get("HX-Target") == "exports"
    status = HTTPStatus.UNPROCESSABLE_ENTITY if context["form"].errors else HTTPStatus.OK
    response = render(
        request, "audit/exports.html#exports" if is_part else "audit/exports.html", context, status=status
    )
    patch_vary_headers(response, ["HX-Request"])
    return response


def _back(request: ReaderRequest) -> SeeOther:
    chosen = LogFilter(request.GET).query
    return SeeOther(resolve_url(SELF) + (f"?{chosen}" if chosen else ""))
