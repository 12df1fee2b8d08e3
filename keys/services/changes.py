"""Changing a key in place: its fields, its scopes, and whether it is enabled."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, transaction

from audit import ledger
from audit.acts import Act
from keys import catalogue, clock
from keys.callers import Caller
from keys.errors import Forbidden, Invalid, NameTaken, StateForbids
from keys.models import ApiKey, KeySecret, OwnerType, Tier
from keys.policy import (
    ABSENT,
    Absent,
    Given,
    Requested,
    TierName,
    allowance,
    check_description,
    check_interval,
    check_name,
    check_scopes,
    check_tags,
    grant_expiry,
    grant_limit,
    grant_networks,
    normalise_networks,
    refuse_excess,
    told,
)
from keys.secret import Kind, Mode
from keys.services.common import (
    LimitAsked,
    check_limit,
    check_reach,
    collect,
    facts,
    limit_columns,
    policy_of,
    rule_for,
    tag_list,
    terms_of,
)
from keys.services.creation import Owner, check_owner
from keys.services.expiry import carry_notices_over
from orgs.terms import whole_limit

MAX_DISABLED: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to become of a key; a field that stays `ABSENT` stays as it is."""

    name: str | Absent = ABSENT
    description: str | Absent = ABSENT
    owner: Owner | Absent = ABSENT
    tags: Mapping[str, str] | Absent = ABSENT
    scopes: Sequence[str] | Absent = ABSENT
    allowed_ips: Sequence[str] | Absent = ABSENT
    expires: Requested = ABSENT
    rate_limit: LimitAsked = ABSENT
    rotation_interval_days: int | Absent | None = ABSENT
    auto_rotate: bool | Absent = ABSENT
    may_rotate_itself: bool | Absent = ABSENT
    enabled: bool | Absent = ABSENT
    disabled_until: datetime | Absent | None = ABSENT

    def given(self) -> dict[str, Any]:
        """Return the fields that are to change."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not ABSENT}


def change_key(key: ApiKey, changes: Changes, *, actor: Caller) -> ApiKey:
    """Change a key's fields; what is equal already is no change.

    Writes the key (and the newest secret's expiry) in one guarded statement, and an entry for each sort of change:
    `key.changed`, `key.scopes_changed`, `key.disabled`, `key.enabled`.

    Args:
        key: with its project and environment; the caller's access to it was checked (404).

    Raises:
        Forbidden: a key changes itself.
        Invalid, InvalidMany: fields out of their bounds.
        ExceedsGrant: the key as it would be holds more than the caller.
        StateForbids: the key has ended.
        NameTaken: another key has the name.
    """
    if actor.presented is not None and actor.presented.key.id == key.id:
        raise Forbidden("A key can't change itself.")
    check_reach(actor, key)
    with ledger.recording(key.organization_id, actor) as entry:
        now = clock.now()
        key = _locked(key)
        columns = _columns(key, changes, actor, now)
        _check_rotation(key, columns)
        before = {name: getattr(key, name) for name in columns}
        columns = {name: value for name, value in columns.items() if value != before[name]}
        if not columns:
            return key
        _refuse_widening(key, columns, actor)
        _update(key, columns, now)
        for act, data, sealed in _entries(key, before, columns):
            entry(act, target=key.id, data=facts(key, **data), sealed=sealed)
    return key


def drop_scopes(key: ApiKey, scopes: Collection[str], *, actor: Caller) -> ApiKey:
    """Take some scopes from a key and leave it every other one, whatever was given to it meanwhile.

    Writes what `change_key` writes: the entry `key.scopes_changed`, where any of them was there.

    Raises:
        Invalid: nothing would be left (field `scopes`).
        Forbidden, StateForbids: as `change_key`.
    """
    with ledger.recording(key.organization_id, actor):
        left = [scope for scope in _locked(key).scopes if scope not in scopes]
        if not left:
            raise Invalid("A key keeps at least one scope: revoke it instead.", field="scopes")
        return change_key(key, Changes(scopes=left), actor=actor)


def bind_key(key: ApiKey, *, actor: Caller) -> ApiKey:
    """Bind a service key to approvals, for good; entry `key.changed`. A key that is bound already is left alone.

    Raises:
        Forbidden: the caller changes no keys at this project, or is the key itself.
        StateForbids: no service key, or one that has ended.
    """
    if actor.presented is not None and actor.presented.key.id == key.id:
        raise Forbidden("A key can't change itself.")
    check_reach(actor, key)
    if key.kind != Kind.SERVICE:
        raise StateForbids("Service keys alone are bound to approvals.")
    with ledger.recording(key.organization_id, actor) as entry:
        now, key = clock.now(), _locked(key)
        if key.approval_bound:
            return key
        _update(key, {"approval_bound": True}, now)
        told = {"before": {"approval_bound": False}, "after": {"approval_bound": True}}
        entry(Act.KEY_CHANGED, target=key.id, data=facts(key, **told))
    return key


def disable_key(key: ApiKey, *, actor: Caller, until: datetime | None = None) -> ApiKey:
    """Disable a key, without end or until a time at which it comes back by itself; entry `key.disabled`.

    One that is disabled for longer already stays so: disabling never lets a key come back sooner.

    Raises:
        StateForbids: it is disabled until then, or longer.
    """
    if until is None:
        return change_key(key, Changes(enabled=False), actor=actor)
    with ledger.recording(key.organization_id, actor):
        held = _locked(key)
        if held.is_disabled or (held.disabled_until is not None and held.disabled_until >= until):
            raise StateForbids("It is disabled for longer already.")
        return change_key(key, Changes(disabled_until=until), actor=actor)


def enable_key(key: ApiKey, *, actor: Caller) -> ApiKey:
    """Enable a disabled key; entry `key.enabled`."""
    return change_key(key, Changes(enabled=True), actor=actor)


def _locked(key: ApiKey) -> ApiKey:
    """Read the key again under its row's lock, so that before and after are of one moment."""
    return (
        ApiKey.objects.select_related("project", "environment").select_for_update(of=("self",)).get(pk=key.pk)
    )


def _columns(key: ApiKey, changes: Changes, actor: Caller, now: datetime) -> dict[str, Any]:
    given = changes.given()
    checks = [_CHECKS[name] for name in given if name in _CHECKS]
    values = [given[name] for name in given if name in _CHECKS]
    columns: dict[str, Any] = {}
    found = collect([partial(check, key, value) for check, value in zip(checks, values, strict=True)])
    for part in found:
        columns |= part
    if "expires" in given:
        rule = rule_for(policy_of(key.organization_id), Kind(key.kind))
        columns["expires_at"] = grant_expiry(actor.bounds(key.project), rule, given["expires"], now)
    return columns | _disabling(given, now)


def _check_rotation(key: ApiKey, columns: Mapping[str, Any]) -> None:
    """Refuse auto-rotation without an interval, whichever of the two changes."""
    days = columns.get("rotation_interval_days", key.rotation_interval_days)
    try:
        check_interval(days, is_automatic=columns.get("auto_rotate", key.auto_rotate))
    except Invalid as error:
        field = "auto_rotate" if "auto_rotate" in columns else "rotation_interval_days"
        raise Invalid(error.detail, field=field) from None


def _disabling(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns for `enabled` and `disabled_until`; enabling clears both."""
    until = given.get("disabled_until")
    if until is not None and not now < until <= now + MAX_DISABLED:
        raise Invalid("A time in the future, within a year.", field="disabled_until")
    if given.get("enabled") is True:
        if until is not None:
            raise Invalid("A key can't be enabled and disabled at once.", field="disabled_until")
        return {"is_disabled": False, "disabled_until": None}
    columns: dict[str, Any] = {"disabled_until": until} if "disabled_until" in given else {}
    return columns | ({"is_disabled": True} if given.get("enabled") is False else {})


def _owner(key: ApiKey, owner: Owner) -> dict[str, Any]:
    team = check_owner(owner, key.organization_id)
    return {
        "owner_type": OwnerType.MEMBER if owner.member else OwnerType.TEAM,
        "owner_user_id": owner.member.pk if owner.member else None,
        "owner_team": team,
    }


def _networks(key: ApiKey, texts: Sequence[str]) -> dict[str, Any]:
    networks = list(normalise_networks(texts))
    if (
        not networks
        and key.environment.is_production
        and policy_of(key.organization_id).requires_ips_in_production
    ):
        raise Invalid("This organization's production keys need address ranges.", field="allowed_ips")
    return {"allowed_ips": networks}


def _scopes(key: ApiKey, scopes: Sequence[str]) -> dict[str, Any]:
    return {"scopes": list(check_scopes(scopes, Kind(key.kind), catalogue.load()))}


_CHECKS: Final[Mapping[str, Any]] = {
    "name": lambda _, value: {"name": check_name(value)},
    "description": lambda _, value: {"description": check_description(value)},
    "owner": _owner,
    "tags": lambda _, value: {"tags": check_tags(value)},
    "scopes": _scopes,
    "allowed_ips": _networks,
    "rotation_interval_days": lambda _, value: {"rotation_interval_days": check_interval(value)},
    "auto_rotate": lambda _, value: {"auto_rotate": value},
    "may_rotate_itself": lambda _, value: {"may_rotate_itself": value},
    "rate_limit": lambda _, value: limit_columns(check_limit(value)),
}
_LIMIT: Final = frozenset(limit_columns(None))
_WIDENING: Final = frozenset(
    {
        "scopes",
        "allowed_ips",
        "expires_at",
        "auto_rotate",
        "owner_type",
        "owner_user_id",
        "is_disabled",
        "disabled_until",
    }
)


def _refuse_widening(key: ApiKey, columns: Mapping[str, Any], actor: Caller) -> None:
    """Refuse a change that could give the key more than the caller holds.

    A new owner counts too: another role may lift the ceiling, and so does enabling; auto-rotation needs what rotating
    needs. Taking away never needs more.
    """
    if not _may_widen(key, columns):
        return
    bounds = actor.bounds(key.project)
    refuse_excess(
        bounds,
        scopes=columns.get("scopes", key.scopes),
        risks=catalogue.risks(catalogue.load()),
        project_path=key.project.ancestors,
        mode=Mode(key.environment.mode),
    )
    if "allowed_ips" in columns:
        grant_networks(bounds, tuple(columns["allowed_ips"]))
    if _raises_limit(key, columns):
        grant_limit(bounds, _given(key, columns), terms_of(key.organization_id).rate_limit)


def _may_widen(key: ApiKey, columns: Mapping[str, Any]) -> bool:
    """Tell whether a change could give more; taking scopes away and disabling, or for longer, never does."""
    widening = _WIDENING & set(columns)
    if columns.get("is_disabled") is True:
        widening -= {"is_disabled"}
    if columns.get("auto_rotate") is False:
        widening -= {"auto_rotate"}
    until = columns.get("disabled_until")
    if until is not None and (key.disabled_until is None or until > key.disabled_until):
        widening -= {"disabled_until"}
    if set(columns.get("scopes", ())) <= set(key.scopes):
        widening -= {"scopes"}
    return bool(widening) or _raises_limit(key, columns)


def _raises_limit(key: ApiKey, columns: Mapping[str, Any]) -> bool:
    """Tell whether a change lets through anything that the key's limit or its tier's quota refused before."""
    if not _LIMIT & set(columns):
        return False
    plan = terms_of(key.organization_id).rate_limit
    return not allowance(_given(key, columns), plan).is_within(allowance(key.limit, plan))


def _given(key: ApiKey, columns: Mapping[str, Any]) -> Given:
    """Return what the key would have been given."""
    after = {name: columns.get(name, getattr(key, name)) for name in _LIMIT}
    tier = after["tier_id"] and Tier.objects.get(pk=after["tier_id"])
    return (
        tier.limit if tier else whole_limit(after["rate_limit_requests"], after["rate_limit_window_seconds"])
    )


def _update(key: ApiKey, columns: dict[str, Any], now: datetime) -> None:
    running = ApiKey.objects.filter(pk=key.pk).not_ended(now)
    _free_name(key, columns, now)
    try:
        with transaction.atomic():
            changed = running.update(**columns, updated_at=now)
    except IntegrityError as error:
        if "key_name_unique" in str(error):
            raise NameTaken(field="name") from None
        raise
    if not changed:
        raise StateForbids("A key that has ended stays as it is.")
    if "expires_at" in columns:
        KeySecret.objects.filter(key=key, version=key.newest_version).update(expires_at=columns["expires_at"])
        carry_notices_over(key, columns["expires_at"], now)
    for name, value in columns.items():
        setattr(key, name, value)
    key.updated_at = now


def _free_name(key: ApiKey, columns: Mapping[str, Any], now: datetime) -> None:
    if "name" in columns:
        ApiKey.objects.filter(
            environment_id=key.environment_id,
            name=columns["name"],
            ended_at__isnull=True,
            expires_at__lte=now,
        ).update(ended_at=now)


type _Entry = tuple[Act, dict[str, Any], dict[str, str]]


def _entries(key: ApiKey, before: Mapping[str, Any], columns: Mapping[str, Any]) -> list[_Entry]:
    """Return one entry for each sort of change, so that none outgrows the leaf and each can be subscribed to."""
    entries: list[_Entry] = []
    told_apart = {"scopes", "is_disabled", "disabled_until", "description", *_LIMIT}
    rest = sorted(set(columns) - told_apart)
    data = {
        "before": {name: _shown(name, before[name]) for name in rest},
        "after": {name: _shown(name, columns[name]) for name in rest},
    }
    if _LIMIT & set(columns):
        data["before"]["rate_limit"] = _told_limit(before)
        data["after"]["rate_limit"] = _told_limit({name: getattr(key, name) for name in _LIMIT})
    if data["after"] or "description" in columns:
        entries.append((Act.KEY_CHANGED, data, {"description": columns.get("description", "")}))
    if "scopes" in columns:
        data = {"before": {"scopes": before["scopes"]}, "after": {"scopes": columns["scopes"]}}
        entries.append((Act.KEY_SCOPES_CHANGED, data, {}))
    if {"is_disabled", "disabled_until"} & set(columns):
        act = Act.KEY_DISABLED if key.is_disabled or key.disabled_until else Act.KEY_ENABLED
        entries.append((act, {"until": key.disabled_until} if key.disabled_until else {}, {}))
    return entries


def _told_limit(columns: Mapping[str, Any]) -> str:
    own = whole_limit(columns["rate_limit_requests"], columns["rate_limit_window_seconds"])
    return told(TierName(columns["tier_id"]) if columns["tier_id"] else own)


def _shown(name: str, value: Any) -> Any:
    return tag_list(value) if name == "tags" else value
