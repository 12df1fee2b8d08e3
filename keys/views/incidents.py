"""Incidents: the list, one with its keys, and its keys as CSV."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from io import TextIOWrapper
from typing import IO, Any, Final, cast

from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.views.decorators.http import require_GET, require_safe

from keys import access, clock, services
from keys.forms.breakglass import FilterForm
from keys.models import Incident, LeakSource
from keys.pages import history, incidents, rows, words
from keys.views import common
from orgs.models import Project
from orgs.requests import MemberRequest
from orgs.step_up import step_up_required
from orgs.templatetags.ui import iso

_PAGE: Final = re.compile(r"[1-9][0-9]{0,5}")
FILTER_LABELS: Final = {
    **{name: str(field.label) for name, field in FilterForm.base_fields.items()},
    "tag": "Tags",
    "organization": "Whole organization",
}
SPOOLED_BYTES: Final = 1024 * 1024
COLUMNS: Final = (
    "id",
    "name",
    "kind",
    "environment",
    "project",
    "owner",
    "scopes",
    "revoked",
    "calls in 24 hours before",
    "last used before",
    "last used from",
    "refused since",
    "reissued as",
)


@require_safe
def incident_list(request: MemberRequest) -> HttpResponse:
    """Show the incidents, the newest first."""
    number = _number(request)
    found = access.incidents(request.member)
    shown = list(found[(number - 1) * incidents.PAGE : number * incidents.PAGE + 1])
    more, shown = len(shown) > incidents.PAGE, shown[: incidents.PAGE]
    counts = incidents.counted(shown, access.keys_of_incidents(request.member))
    names = history.names_of({one.opened_by for one in shown})
    context = {
        "place": "breakglass",
        "rows": [
            (one, counts.get(one.id, 0), names.get(one.opened_by, words.of_system(one.opened_by)))
            for one in shown
        ],
        "previous": f"?page={number - 1}" if number > 1 else "",
        "next": f"?page={number + 1}" if more else "",
        "now": clock.now(),
    }
    return common.answer(request, "keys/incidents.html", context)


@require_safe
def incident_page(request: MemberRequest, incident_id: str) -> HttpResponse:
    """Show one incident; to htmx its keys alone, with what was refused by now."""
    incident, number = access.incident(request.member, incident_id), _number(request)
    visible = access.keys_of_incidents(request.member).filter(incident=incident)
    now = clock.now()
    page = incidents.page(incident, request.member, visible, number, now)
    every = incidents.refused_by_key(incident, visible.values_list("key_id", flat=True), now)
    context = {
        "place": "breakglass",
        "incident": incident,
        "source": dict(LeakSource.choices).get(incident.source, incident.source),
        "page": page,
        "by": _opener(incident),
        "refused": sum(every.values()),
        "narrowed": _told(incident),
        "previous": f"?page={number - 1}" if number > 1 else "",
        "next": f"?page={number + 1}" if page.has_next else "",
        "now": now,
    }
    return common.part_or_page(request, "keys/incident.html", "keys", context)


def _opener(incident: Incident) -> str:
    names = history.names_of([incident.opened_by])
    return names.get(incident.opened_by, words.of_system(incident.opened_by))


@require_GET
@step_up_required
def incident_csv(request: MemberRequest, incident_id: str) -> HttpResponseBase:
    """Export the keys of an incident; recorded as every export is."""
    incident = access.incident(request.member, incident_id)
    response = FileResponse(_written(request, incident), as_attachment=True, filename=f"{incident.id}.csv")
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Cache-Control"] = "no-store"
    return response


def _written(request: MemberRequest, incident: Incident) -> IO[bytes]:
    """Return the export as a file without a name, at its start; what reads it closes it."""
    with ExitStack() as opened:
        file = opened.enter_context(tempfile.SpooledTemporaryFile(SPOOLED_BYTES))
        text = TextIOWrapper(cast(IO[bytes], file), encoding="utf-8", newline="")
        try:
            told = {"incident": incident.id}
            cells = _cells(request, incident)
            services.export_keys(cells, text, header=COLUMNS, filters=told, actor=request.member)
        finally:
            text.detach()
        file.seek(0)
        opened.pop_all()
    return file


def _cells(request: MemberRequest, incident: Incident) -> Iterator[list[str]]:
    visible = access.keys_of_incidents(request.member).filter(incident=incident)
    number = 1
    while True:
        page = incidents.page(incident, request.member, visible, number, clock.now())
        yield from map(_line, page.rows)
        if not page.has_next:
            return
        number += 1


def _line(row: incidents.Row) -> list[str]:
    key, frozen = row.key, row.frozen
    return [
        key.id,
        key.name,
        key.kind,
        key.environment.slug,
        key.project.label_path,
        rows.owner_name(key),
        " ".join(key.scopes),
        iso(key.revoked_at),
        "" if frozen.calls_24h is None else str(frozen.calls_24h),
        iso(frozen.last_used_at),
        frozen.last_used_ip or "",
        str(row.refused),
        row.successor.id if row.successor else "",
    ]


def _number(request: MemberRequest) -> int:
    """Return which page is asked for; raises `Http404` for what is none."""
    text = request.GET.get("page", "1")
    if _PAGE.fullmatch(text) is None:
        raise Http404
    return int(text)


def _told(incident: Incident) -> list[tuple[str, Any]]:
    """Return the filter in words, as the break-glass page has them."""
    told = incident.filter
    people = history.names_of([told["owner"]]) if "owner" in told else {}
    projects = {one.id: one.label_path for one in Project.objects.filter(pk=told.get("project", ""))}
    names = {**people, **projects}
    return [
        (
            FILTER_LABELS.get(name, name.replace("_", " ").capitalize()),
            ", ".join(value) if isinstance(value, list) else names.get(value, value),
        )
        for name, value in told.items()
    ]
