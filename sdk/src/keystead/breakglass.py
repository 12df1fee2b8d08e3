"""Break-glass: revoke every key that a filter takes, in one act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keystead.asking import Moment, creating, given, moment
from keystead.calls import Call

PATH = "/v1/api-keys/break-glass"


@dataclass(frozen=True)
class TakenKey:
    """A key that would go, or went. `calls_24h` is None where there was too much to count."""

    id: str
    name: str
    calls_24h: int | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class BrokenGlass:
    """What would go, or went.

    Args:
        count: how many; `keys` has the 1,000 of them with the most calls.
        incident: `inc_…`; None of a dry run, and where nothing was revoked.
        includes_caller: the client's own key is one of them.
    """

    dry_run: bool
    count: int
    keys: tuple[TakenKey, ...] = ()
    incident: str | None = None
    includes_caller: bool = False


def dry_run_break_glass(
    *,
    organization: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    kind: str | None = None,
    owner: str | None = None,
    tags: Mapping[str, str] | None = None,
    scope: str | None = None,
    status: str | None = None,
    q: str | None = None,
    created_before: Moment | None = None,
    expires_before: Moment | None = None,
    unused_since: Moment | None = None,
) -> Call[BrokenGlass]:
    """Return what `execute` with the same filter would revoke, with each key's last 24 hours; changes nothing.

    All that is given must hold, and something must be given. The scope keys:breakglass is needed.

    Args:
        organization: a customer's; with a key of the operator's organization alone. By itself: every key there.
        project: an id; its descendants count.
        environment: a slug.
        owner: a member's id, or a team's name.
        tags: of which all must be there.
        scope: as a key carries it.
        status: `active`, `disabled` or `expired`.
        q: a full id, a hint, or the start of a name; never a secret.

    Raises:
        ApiError: PermissionDenied, Invalid (an empty filter, an environment that is not there).
    """
    return _break(given_filter(**locals()), dry_run=True)


def break_glass(
    *,
    reason: str,
    organization: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    kind: str | None = None,
    owner: str | None = None,
    tags: Mapping[str, str] | None = None,
    scope: str | None = None,
    status: str | None = None,
    q: str | None = None,
    created_before: Moment | None = None,
    expires_before: Moment | None = None,
    unused_since: Moment | None = None,
    idempotency_key: str | None = None,
) -> Call[BrokenGlass]:
    """Revoke every key that the filter takes, for good: all of them are refused when this returns, or none.

    The client's own key goes too, where the filter takes it: `dry_run` says so. Give a created_before that is the time
    of the dry run, to take no key that it did not show.

    Args:
        reason: at most 1,000 bytes, kept with the incident.
        organization, project, environment, kind, owner, tags, scope, status, q: as `dry_run` takes them.
        idempotency_key: your own, so that an act that you repeat is one; drawn unless given.

    Raises:
        ApiError: PermissionDenied, Invalid.
    """
    filter_ = {name: value for name, value in locals().items() if name not in {"reason", "idempotency_key"}}
    return _break(given_filter(**filter_), dry_run=False, reason=reason, idempotency_key=idempotency_key)


def given_filter(*, tags: Mapping[str, str] | None = None, **members: Any) -> dict[str, Any]:
    """Return a filter as the API takes it; times have a zone."""
    filter_ = given(**{name: moment(value) for name, value in members.items()})
    return filter_ | ({"tag": [f"{name}:{value}" for name, value in tags.items()]} if tags else {})


def _break(
    filter_: Mapping[str, Any], *, dry_run: bool, reason: str = "", idempotency_key: str | None = None
) -> Call[BrokenGlass]:
    body = {"filter": filter_, "dry_run": dry_run, **({"reason": reason} if reason else {})}
    return creating(PATH, body, BrokenGlass, idempotency_key)
