"""The least that a key needs: which of its scopes calls asked for, and which it could do without (spec PAGES)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from keys import usage
from keys.models import ApiKey
from keys.scopes import covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a window of so many days tells of a key's scopes.

    `unused`: carried all through it and never asked for; none of a key that is younger (`is_old_enough`). `is_asked`:
    some call asked for some scope, without which silence about one says nothing. `asked`: the last day of each.
    """

    days: int
    unused: tuple[str, ...]
    is_old_enough: bool
    is_asked: bool
    is_everything: bool
    asked: Mapping[str, date]

    @property
    def may_drop(self) -> bool:
        """Whether the unused ones can go with one click: something is left, and the silence means something."""
        return bool(self.unused) and self.is_asked and not self.is_everything


def of_key(key: ApiKey, days: int, now: datetime) -> Need:
    """Return what the last `days` tell of a key's scopes."""
    window = timedelta(days=days)
    uses = usage.scope_uses(key)
    found = unused(key, window, now)
    return Need(
        days=days,
        unused=found,
        is_old_enough=key.created_at < now - window,
        is_asked=any(day >= (now - window).date() for day in uses.values()),
        is_everything=len(found) == len(key.scopes),
        asked=_last_asked(key.scopes, uses),
    )


def unused(key: ApiKey, window: timedelta, now: datetime) -> tuple[str, ...]:
    """Return the scopes that a key carried all through the window and no call asked for; none of a younger key."""
    return usage.unused_scopes(key.organization_id, [key.id], now, window).get(key.id, ())


def _last_asked(scopes: Sequence[str], uses: Mapping[str, date]) -> dict[str, date]:
    """Return when each of the key's scopes was last needed; a wildcard is by whatever it covers."""
    found = {scope: [day for use, day in uses.items() if covers(scope, use)] for scope in scopes}
    return {scope: max(days) for scope, days in found.items() if days}
