"""What a key may really do, and what it could do without."""

from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.views.decorators.http import require_POST, require_safe

from keys import access, clock, least, services
from keys.errors import Invalid, KeysError, StateForbids
from keys.forms.permissions import WINDOWS, DropForm
from keys.pages import effective
from keys.views import common
from keys.views.detail import header, refused
from orgs.answers import see_other
from orgs.requests import MemberRequest


@require_safe
def key_access(request: MemberRequest, key_id: str) -> HttpResponse:
    """Show which of the key's scopes count, what takes the others away, and which nothing asks for."""
    key, now = access.key(request.member, key_id), clock.now()
    narrowing = effective.of_key(key)
    asked = request.GET.get("days", "")
    days = next((days for days in WINDOWS if str(days) == asked), WINDOWS[0])
    context = {
        **header(request, key, now),
        "tab": "access",
        "narrowing": narrowing,
        "scope_rows": effective.rows(key.scopes, narrowing),
        "effective": narrowing.effective(key.scopes),
        "need": least.of_key(key, days, now),
        "windows": WINDOWS,
    }
    return common.answer(request, "keys/access.html", context)


@require_POST
def key_drop_scopes(request: MemberRequest, key_id: str) -> HttpResponse:
    """Take the scopes from a key that the page showed as unused, if they still are."""
    key, now = access.key_for_change(request.member, key_id), clock.now()
    form = DropForm(request.POST, key=key)
    try:
        if not form.is_valid():
            raise StateForbids("Choose scopes that the key has.")
        chosen = form.cleaned_data["scopes"]
        if not set(chosen) <= set(least.unused(key, timedelta(days=form.cleaned_data["days"]), now)):
            raise StateForbids("One of these scopes has been asked for meanwhile. Look at them again.")
        services.drop_scopes(key, chosen, actor=common.caller(request))
    except (KeysError, Invalid) as error:
        return refused(request, key_id, error)
    words = f"{key.name} no longer has {', '.join(chosen)}. If something misses them, “Change scopes” gives them back."
    messages.success(request, words)
    return see_other("keys:access", key.id)
