"""The Keys page: the list, its search, and its export."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from io import TextIOWrapper
from typing import IO, Any, Final, cast

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_POST, require_safe

from keys import access, catalogue, clock, listing, services, usage
from keys.errors import Invalid, Malformed
from keys.forms.listing import ANY, NOT_ENDED, Listing, is_secret_like, search_text
from keys.listing import Filters
from keys.models import ApiKey, ApiKeyQuerySet
from keys.pages import filterbar, offers, rows
from keys.pages.filterbar import Bar, Choices
from keys.pages.rows import Evidence
from keys.services import exporting
from keys.views.bulk import ACTS
from orgs import access as orgs_access
from orgs.answers import see_other
from orgs.members import Member
from orgs.requests import MemberRequest
from orgs.roles import Permission
from orgs.step_up import step_up_required
from orgs.templatetags.ui import iso

COUNTED: Final = 1_000
SPOOLED_BYTES: Final = 1024 * 1024
LEFT_OUT: Final = (
    "The address held something that looks like a secret. It was left out. If it is a secret of yours, rotate it: "
    "addresses are kept in histories and logs. Paste secrets into the search box only."
)
NOT_WHOLE: Final = (
    "This looks like a secret, but it is not a whole one of this portal: check that all of it was copied. "
    "It was neither searched for nor kept."
)
NOT_OURS: Final = "This is a secret, but not of one of this organization's keys that you can see."
COLUMNS: Final = (
    "id",
    "name",
    "kind",
    "environment",
    "project",
    "owner",
    "scopes",
    "tags",
    "status",
    "created",
    "expires",
    "last used",
    "hint",
)


@require_safe
def key_list(request: MemberRequest) -> HttpResponse:
    """Show one page of the keys that the filters leave; to htmx only what they change."""
    view = Listing.of(request.GET)
    if view.had_secret:
        messages.warning(request, LEFT_OUT)
        return see_other(view.url())
    try:
        context = _shown(request.member, view)
    except Invalid:  # a cursor of another list, or of none
        return see_other(view.but().url())
    is_part = request.htmx and request.htmx.target == "rows"
    if not is_part:
        context |= _heading(request.member, context["now"])
    context |= {"is_part": is_part, "acts": ACTS}
    response = render(request, "keys/list.html#rows" if is_part else "keys/list.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_POST
def key_search(request: MemberRequest) -> HttpResponse:
    """Answer a pasted secret or a full id with its key, anything else with the list; no secret gets into an address."""
    text = request.POST.get("q", "").strip()
    try:
        key = access.key_of_secret(request.member, text)
    except Malformed:
        return _search_plainly(request, text)
    except Http404:
        messages.warning(request, NOT_OURS)
        return see_other("keys:list")
    return see_other("keys:detail", key.id)


def _search_plainly(request: MemberRequest, text: str) -> HttpResponse:
    if is_secret_like(text):
        messages.warning(request, NOT_WHOLE)
        return see_other("keys:list")
    if listing.ID.fullmatch(text):
        try:
            return see_other("keys:detail", access.key(request.member, text).id)
        except Http404:
            pass  # the list says so
    return see_other(Listing(q=search_text(text)).url())


@require_GET
def keys_csv(request: MemberRequest) -> HttpResponseBase:
    """Export the filtered list; an address with a secret is cleaned before the password is asked for."""
    view = Listing.of(request.GET)
    if view.had_secret:
        messages.warning(request, LEFT_OUT)
        return see_other(view.url())
    return _export(request, view)


@step_up_required
def _export(request: MemberRequest, view: Listing) -> HttpResponseBase:
    now = clock.now()
    try:
        file = _written(request.member, view, now)
    except Invalid as error:
        messages.warning(request, error.detail)
        return see_other(view.url())
    response = FileResponse(file, as_attachment=True, filename=f"keys-{now:%Y-%m-%d}.csv")
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Cache-Control"] = "no-store"
    return response


def _written(member: Member, view: Listing, now: datetime) -> IO[bytes]:
    """Return the export as a file without a name, at its start; what reads it closes it."""
    filters = view.filters(member.organization_id, now)
    found = listing.apply(access.keys(member), filters, now)
    exporting.check_rows(_number(found, exporting.MAX_ROWS))
    with ExitStack() as opened:
        file = opened.enter_context(tempfile.SpooledTemporaryFile(SPOOLED_BYTES))
        text = TextIOWrapper(cast(IO[bytes], file), encoding="utf-8", newline="")
        try:
            services.export_keys(
                _cells(found, filters, view.sort, now),
                text,
                header=COLUMNS,
                filters=_told(view),
                actor=member,
            )
        finally:
            text.detach()
        file.seek(0)
        opened.pop_all()
    return file


def _told(view: Listing) -> dict[str, str]:
    """Return the filters as the ledger has them."""
    told = {name: value for name, value in view.active() if name != "tags"}
    return told | ({"tags": " ".join(view.tags)} if view.tags else {})


def _cells(found: ApiKeyQuerySet, filters: Filters, sort: str, now: datetime) -> Iterator[list[str]]:
    """Yield each key of the whole list as cells, page after page."""
    cursor: str | None = None
    while True:
        page = listing.page(found, filters=filters, sort=sort, cursor=cursor, limit=listing.MAX_LIMIT)
        yield from (_line(key, now) for key in page.items)
        cursor = page.next
        if cursor is None:
            return


def _line(key: ApiKey, now: datetime) -> list[str]:
    return [
        key.id,
        key.name,
        key.kind,
        key.environment.slug,
        key.project.label_path,
        rows.owner_name(key),
        " ".join(key.scopes),
        " ".join(f"{name}={value}" for name, value in sorted(key.tags.items())),
        key.status(now).value,
        iso(key.created_at),
        iso(key.expires_at),
        iso(key.use.last_used_at),
        rows.shown_secret(key),
    ]


def _shown(member: Member, view: Listing) -> dict[str, Any]:
    """Return what the changing part of the page shows; raises `Invalid` for a cursor that is none."""
    now = clock.now()
    filters = view.filters(member.organization_id, now)
    found = listing.apply(access.keys(member), filters, now)
    page = listing.page(found, filters=filters, sort=view.sort, cursor=view.cursor or None)
    choices = _choices(member)
    shown = rows.of(page.items, member, now, _evidence(member, page.items, now))
    return {
        "view": view,
        "now": now,
        "bar": Bar(view, choices),
        "rows": shown,
        "may_change": any(row.may_change for row in shown),
        "may_create": member.may_anywhere(Permission.KEYS_CHANGE),
        "total": f"{_counted(found)}" if page.next or page.previous else _keys(len(shown)),
        "previous": view.at_page(page.previous, now).url() if page.previous else "",
        "next": view.at_page(page.next, now).url() if page.next else "",
        **({} if shown else _nothing(member, view, choices, now)),
    }


def _evidence(member: Member, keys: Sequence[ApiKey], now: datetime) -> Evidence:
    """Return what was counted of the calls with one page of keys, in a few queries by their ids."""
    ids = [key.id for key in keys]
    if not ids:
        return rows.UNCOUNTED
    return Evidence(
        health=usage.health(member.organization_id, ids, now),
        days=usage.sparklines(member.organization_id, ids, now),
    )


def _choices(member: Member) -> Choices:
    root = member.project.path if member.project else ""
    projects = [project for project in orgs_access.projects(member) if project.path.startswith(root)]
    return Choices(
        person=member.user,
        environments=orgs_access.environments(member),
        projects=projects,
        people=offers.owners(member, projects),
        scopes=list(catalogue.load()),
    )


def _nothing(member: Member, view: Listing, choices: Choices, now: datetime) -> dict[str, Any]:
    """Say why nothing is shown: there are no keys at all, or which filter hides how many."""
    visible = access.keys(member)
    hiding = []
    for chip, (name, value) in zip(filterbar.active(view, choices), view.active(), strict=True):
        filters = view.without(name, value).filters(member.organization_id, now)
        number = _number(listing.apply(visible, filters, now), COUNTED)
        if number:
            hiding.append({"chip": chip, "count": _up_to(number)})
    return {"is_empty": not visible.exists(), "hiding": hiding, "everything": Listing(status=ANY).url()}


def _heading(member: Member, now: datetime) -> dict[str, Any]:
    """Return what the page says of all keys, whatever the filters: how many, and how many soon stop."""
    soon = Listing(expires="7")
    working = Listing(status=NOT_ENDED)
    count = {
        view.expires: _number(
            listing.apply(access.keys(member), view.filters(member.organization_id, now), now), COUNTED
        )
        for view in (soon, working)
    }
    return {
        "count": _up_to(count[""]),
        "expiring": {"count": _up_to(count["7"]), "number": count["7"], "url": soon.url()},
    }


def _number(found: ApiKeyQuerySet, most: int) -> int:
    """Return how many keys there are, at most one more than `most`: totals of long lists are not cheap."""
    return found.order_by()[: most + 1].count()


def _counted(found: ApiKeyQuerySet) -> str:
    return _up_to(_number(found, COUNTED))


def _up_to(number: int) -> str:
    return f"{COUNTED:,}+ keys" if number > COUNTED else _keys(number)


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number:,} keys"
