"""The same change to many keys, chosen on the Keys page: asked first, then done, then told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseBase
from django.views.decorators.http import require_POST

from keys import access, clock, services, usage
from keys.callers import Caller
from keys.errors import StateForbids
from keys.forms.bulk import FOR_A_WHILE, DisableForm, EnableForm, OwnerForm, RevokeForm, TagForm
from keys.forms.listing import Listing
from keys.listing import ID
from keys.models import ApiKey
from keys.models.key import Status
from keys.pages import figures, history, offers, rows
from keys.services import Changes, Outcome
from keys.views.common import answer, caller
from orgs.answers import see_other
from orgs.requests import MemberRequest
from orgs.roles import Permission

MOST: Final = 200
NAMED: Final = 5
BUSY: Final = timedelta(days=1)

type Change = Callable[[ApiKey], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing to do with many keys: its words, what it asks, and how it makes the change out of the answers."""

    verb: str
    short: str
    icon: str
    done: str
    effect: str
    form: type[forms.Form]
    change: Callable[[Any, Caller], Change]
    stops: bool = False
    is_grave: bool = False


def _revoking(form: RevokeForm, actor: Caller) -> Change:
    reason, note = form.cleaned_data["reason"], form.cleaned_data["note"]

    def revoke(key: ApiKey) -> None:
        if not services.revoke_key(key, actor=actor, reason=reason, note=note):
            raise StateForbids("It was revoked already.")

    return revoke


def _disabling(form: DisableForm, actor: Caller) -> Change:
    for_a_while = form.cleaned_data["minutes"] == FOR_A_WHILE
    until = clock.now() + timedelta(minutes=int(FOR_A_WHILE)) if for_a_while else None
    if until is not None:
        return lambda key: services.disable_key(key, actor=actor, until=until)
    return _changing(actor, lambda _: Changes(enabled=False))


def _enabling(_: EnableForm, actor: Caller) -> Change:
    return _changing(actor, lambda _: Changes(enabled=True))


def _handing_over(form: OwnerForm, actor: Caller) -> Change:
    owner = form.chosen_owner()
    return _changing(actor, lambda _: Changes(owner=owner))


def _tagging(form: TagForm, actor: Caller) -> Change:
    tag = {form.cleaned_data["name"]: form.cleaned_data["value"]}
    return _changing(actor, lambda key: Changes(tags=key.tags | tag))


def _changing(actor: Caller, changes: Callable[[ApiKey], Changes]) -> Change:
    """Return the change that says so where there was nothing to change: the keys' rows are locked."""

    def change(key: ApiKey) -> None:
        before = key.updated_at
        if services.change_key(key, changes(key), actor=actor).updated_at == before:
            raise StateForbids("It was so already.")

    return change


ACTS: Final[Mapping[str, Act]] = {
    "disable": Act(
        verb="Disable",
        short="Disable",
        icon="pause",
        done="Disabled",
        effect="Their calls are refused from that moment. They can be enabled again.",
        form=DisableForm,
        change=_disabling,
        stops=True,
    ),
    "enable": Act(
        verb="Enable",
        short="Enable",
        icon="play",
        done="Enabled",
        effect="Their calls are accepted again from that moment.",
        form=EnableForm,
        change=_enabling,
    ),
    "owner": Act(
        verb="Set the owner of",
        short="Set owner",
        icon="user",
        done="Set the owner of",
        effect="A key can do no more than its owner's role at its project allows.",
        form=OwnerForm,
        change=_handing_over,
    ),
    "tag": Act(
        verb="Tag",
        short="Add tag",
        icon="tag",
        done="Tagged",
        effect="A tag with this name that a key already has is replaced.",
        form=TagForm,
        change=_tagging,
    ),
    "revoke": Act(
        verb="Revoke",
        short="Revoke",
        icon="ban",
        done="Revoked",
        effect="Their calls are refused from that moment, for good: a revoked key never works again.",
        form=RevokeForm,
        change=_revoking,
        stops=True,
        is_grave=True,
    ),
}


@require_POST
def keys_bulk(request: MemberRequest) -> HttpResponseBase:
    """Ask what the chosen act needs to know, listing what it would change; do it once that is confirmed."""
    if not request.member.may_anywhere(Permission.KEYS_CHANGE):
        raise PermissionDenied
    back = Listing.of_text(request.POST.get("back", "")).url()
    act = ACTS.get(request.POST.get("action", ""))
    ids = sorted(set(request.POST.getlist("key")))
    is_sent = "confirmed" in request.POST
    complaint = _complaint(act, ids)
    possible = [] if complaint else [key_id for key_id in ids if ID.fullmatch(key_id)]
    keys = access.keys_for_change(request.member, possible, is_locked=is_sent)
    if act is None or not keys:
        messages.warning(request, complaint or "None of the chosen keys is one that you may change.")
        return see_other(back)
    form = _form(act, request, keys, is_sent=is_sent)
    if not (is_sent and form.is_valid()):
        return answer(request, "keys/bulk.html", _asking(request, act, form, keys, len(ids)))
    actor = caller(request)
    outcome = services.change_many(
        keys, act.change(form, actor), actor=actor, organization_id=request.member.organization_id
    )
    _tell(request, act, outcome, left_out=len(ids) - len(keys))
    return see_other(back)


def _complaint(act: Act | None, ids: Sequence[str]) -> str:
    if act is None:
        return "Choose what to do with the keys."
    if not ids:
        return "Choose the keys first: tick their boxes."
    return f"At most {MOST} keys at a time." if len(ids) > MOST else ""


def _form(act: Act, request: MemberRequest, keys: Sequence[ApiKey], *, is_sent: bool) -> forms.Form:
    given = request.POST if is_sent else None
    if act.form is OwnerForm:
        form = OwnerForm(given)
        projects = list({key.project_id: key.project for key in keys}.values())
        form.offer_owners(request.member, offers.owners(request.member, projects))
        return form
    if act.form is RevokeForm:
        return RevokeForm(given, busy=_busy(keys))
    return act.form(given)


def _busy(keys: Sequence[ApiKey]) -> list[str]:
    """Return the names of the keys that are in use: what calls with them fails as soon as they are revoked."""
    now = clock.now()
    return [
        key.name
        for key in keys
        if key.status(now) is Status.ACTIVE
        and key.use.last_used_at is not None
        and now - key.use.last_used_at < history.BUSY_FOR
    ]


def _asking(
    request: MemberRequest, act: Act, form: forms.Form, keys: Sequence[ApiKey], chosen: int
) -> dict[str, Any]:
    now = clock.now()
    traffic = usage.traffic([key.id for key in keys], now - BUSY, now) if act.stops else None
    busy = [key for key in keys if key.use.last_used_at and now - key.use.last_used_at < BUSY]
    return {
        "act": act,
        "action": request.POST["action"],
        "back": Listing.of_text(request.POST.get("back", "")),
        "busy": len(busy),
        "calls": {key_id: seen.calls for key_id, seen in traffic.by_key.items()} if traffic else {},
        "stops": figures.stops(traffic) if traffic else None,
        "counted": count(len(keys)),
        "form": form,
        "ids": [key.id for key in keys],
        "left_out": count(chosen - len(keys)) if chosen > len(keys) else "",
        "rows": rows.of(keys, request.member, now),
    }


def _tell(request: MemberRequest, act: Act, outcome: Outcome, *, left_out: int) -> None:
    """Say what changed, and what did not and why."""
    if outcome.changed:
        messages.success(request, f"{act.done} {count(len(outcome.changed))}: {_named(outcome.changed)}.")
    refused = sorted(outcome.refused, key=lambda pair: pair[1])
    for reason, pairs in groupby(refused, key=lambda pair: pair[1]):
        keys = [key for key, _ in pairs]
        messages.warning(request, f"Left {count(len(keys))} as it was: {_named(keys)}. {reason}")
    if left_out:
        messages.warning(request, f"Left out {count(left_out)} that you may not change.")


def count(number: int) -> str:
    """Return a number of keys in words."""
    return "1 key" if number == 1 else f"{number} keys"


def _named(keys: Sequence[ApiKey]) -> str:
    names = ", ".join(key.name for key in keys[:NAMED])
    more = len(keys) - NAMED
    return f"{names} and {more} more" if more > 0 else names
