"""Stopping a key: revoking it, disabling it, and enabling it again."""

from datetime import timedelta
from typing import Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from audit import paging
from keys import access, clock, services, usage
from keys.errors import Conflict, KeysError
from keys.forms.revocation import TEST_MINUTES, DisableForm, RevokeForm
from keys.models.key import Status
from keys.pages import figures, history
from keys.views import common
from keys.views.detail import refused
from orgs.answers import see_other
from orgs.requests import MemberRequest

DAY: Final = timedelta(days=1)


@require_http_methods(["GET", "HEAD", "POST"])
def key_revoke(request: MemberRequest, key_id: str) -> HttpResponse:
    """Say what stops; revoke the key."""
    key, now, entry = access.key_for_change(request.member, key_id), clock.now(), _entry(request)
    is_busy = history.is_busy(key, now) and key.status(now) is Status.ACTIVE
    form = RevokeForm(request.POST if request.method == "POST" else None, key=key, is_busy=is_busy)
    if form.is_bound and form.is_valid():
        chosen = {name: form.cleaned_data[name] for name in ("reason", "note")}
        try:
            did_revoke = services.revoke_key(key, actor=common.caller(request), **chosen)
        except KeysError as error:
            common.attach(form, error)
        else:
            words = "is revoked. No secret of it is accepted any more" if did_revoke else "was revoked before"
            messages.success(request, f"{key.name} {words}.")
            return see_other(_back(key_id, entry))
    context = {
        "form": form,
        "entry": entry,
        "back": _back(key_id, entry),
        "key": key,
        "status": key.status(now),
        "is_busy": is_busy,
        "stops": figures.stops(usage.traffic([key.id], now - DAY, now)),
        "use": history.use(key),
        "versions": [version for version in history.versions(key, now) if version.state in history.WORKING],
        "minutes": TEST_MINUTES,
    }
    return common.answer(request, "keys/revoke.html", context)


def _entry(request: HttpRequest) -> str:
    """Return the entry of the security log that the person came from, as the address names it; "" for none."""
    try:
        return paging.written(paging.read(request.GET.get("entry", "")))
    except Http404:
        return ""


def _back(key_id: str, entry: str) -> str:
    if entry:
        return reverse("audit:entry", args=[paging.read(entry)])
    return reverse("keys:detail", args=[key_id])


@require_POST
def key_disable(request: MemberRequest, key_id: str) -> HttpResponse:
    """Disable a key, until somebody enables it or for as long as the form says."""
    key, form = access.key_for_change(request.member, key_id), DisableForm(request.POST)
    if not form.is_valid():
        return HttpResponse("minutes: choose one of the offered.", status=422, content_type="text/plain")
    until = form.until(clock.now())
    try:
        services.disable_key(key, actor=common.caller(request), until=until)
    except Conflict as error:
        return refused(request, key_id, error)
    back = f" It comes back by itself at {until:%H:%M} UTC." if until else ""
    messages.success(request, f"{key.name} is disabled.{back}")
    return see_other("keys:detail", key.id)


@require_POST
def key_enable(request: MemberRequest, key_id: str) -> HttpResponse:
    """Enable a disabled key."""
    key = access.key_for_change(request.member, key_id)
    try:
        services.enable_key(key, actor=common.caller(request))
    except KeysError as error:
        return refused(request, key_id, error)
    messages.success(request, f"{key.name} is enabled.")
    return see_other("keys:detail", key.id)
