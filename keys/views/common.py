"""What the pages of keys share: who asks, how a service's error gets to its field, and the secret's one answer."""

from http import HTTPStatus
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from keys import access, callers
from keys.callers import Caller
from keys.errors import ExceedsGrant, Forbidden, Invalid, KeyCapReached, KeysError, NameTaken
from keys.models import ApiKey
from keys.pages import blast, snippets
from keys.pages.words import KIND_NAMES
from orgs.requests import MemberRequest
from orgs.step_up import has_stepped_up


def caller(request: MemberRequest) -> Caller:
    """Return the signed-in person as the key services know them."""
    return callers.of_member(request.member, has_stepped_up=has_stepped_up(request))


def attach(form: forms.Form, error: KeysError) -> None:
    """Put a service's error where it belongs in a form.

    Raises:
        PermissionDenied: the person may not do this at all, whatever they type.
    """
    match error:
        case Invalid():
            for single in error.errors:
                _add(form, single)
        case ExceedsGrant() | NameTaken() | KeyCapReached():
            _add(form, error)
        case Forbidden():
            raise PermissionDenied(error.detail)
        case _:
            raise error


_PARTS = {
    "rate_limit.requests": "limit_requests",
    "rate_limit.window_seconds": "limit_window",
    "rate_limit.tier": "rate_limit",
}


def _add(form: forms.Form, error: KeysError) -> None:
    """`allowed_ips[2]` and `tags.team` are places in a field; people count from one."""
    if error.field in _PARTS:
        form.add_error(_PARTS[error.field], error.detail)
        return
    field, _, index = error.field.partition("[")
    field, _, part = field.partition(".")
    place = f"Line {int(index.partition(']')[0]) + 1}: " if index else f"{part}: " if part else ""
    names = {
        "expires_at": "expires",
        "grace_seconds": "amount",
        "quiet_seconds": "quiet",
        "auto_grace_seconds": "auto_grace_hours",
        "leaver_grace_seconds": "leaver_grace_hours",
        "valid_for_seconds": "valid",
    }
    name = names.get(field, field)
    form.add_error(name if name in form.fields else None, f"{place}{error.detail}")


def answer(
    request: MemberRequest, template: str, context: dict[str, Any], *, status: HTTPStatus = HTTPStatus.OK
) -> HttpResponse:
    """Render a page, with 422 where its form has errors."""
    form = context.get("form")
    if status is HTTPStatus.OK and isinstance(form, forms.Form) and form.errors:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    return render(request, template, context, status=status)


def part_or_page(request: MemberRequest, template: str, part: str, context: dict[str, Any]) -> HttpResponse:
    """Render the part of a page that htmx asks for, else the whole of it."""
    response = render(request, f"{template}#{part}" if request.htmx else template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def show_secret(request: MemberRequest, key: ApiKey, text: str, **context: Any) -> HttpResponse:
    """Answer with the secret: the one POST that renders. Nothing keeps it, neither here nor on the way."""
    shown = {
        "key": key,
        "kind_name": KIND_NAMES[key.kind],
        "secret": text,
        "snippets": snippets.of(text),
        "summary": blast.summary_of(key),
        **context,
    }
    response = render(request, "keys/secret.html", shown)
    response.shows_secret = True  # type: ignore[attr-defined]
    response["Cache-Control"] = "no-store"
    return response


def already_done(request: MemberRequest, key_id: str) -> HttpResponse:
    """Answer a form that was obeyed before: the secret was in the first answer, and nowhere else."""
    key = access.key(request.member, key_id)
    return render(request, "keys/already_done.html", {"key": key}, status=HTTPStatus.CONFLICT)
