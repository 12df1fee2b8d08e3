"""What an organization has bought: its plan's terms, and what the operator agreed to differently. Pure.

An override that is absent leaves the plan's term; one that is null lifts the limit.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orgs.errors import Invalid, InvalidMany

RATE_LIMIT: Final = "rate_limit"
MONTHLY_QUOTA: Final = "monthly_quota"
KEY_CAP: Final = "key_cap"
ENTITLEMENTS: Final = "entitlements"
MAX_WINDOW_SECONDS: Final = 86_400 * 31
MAX_REQUESTS: Final = 2**31 - 1
MAX_CAP: Final = 2**31 - 1
MAX_NUMBER: Final = 10**15
MAX_ENTITLEMENTS: Final = 100
MAX_RETENTION_DAYS: Final = 3_650
OVERRIDABLE: Final = (RATE_LIMIT, MONTHLY_QUOTA, KEY_CAP, ENTITLEMENTS)
# The fields of a plan that a rate limit is made of.
REQUESTS: Final = "rate_limit_requests"
WINDOW: Final = "rate_limit_window_seconds"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

type Entitlement = bool | int | float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` units of cost in any sliding window of `window_seconds` (KEYS §7)."""

    requests: int
    window_seconds: int

    def __str__(self) -> str:
        """Return the limit as entries of the ledger tell of it."""
        return f"{self.requests} in {self.window_seconds} s"

    def is_within(self, other: "RateLimit | None") -> bool:
        """Tell whether what passes this, however bunched, passes the other too; None refuses nothing.

        A shorter window never is: it forgets sooner, and whoever changed to it for a while would come back with nothing
        spent of the longer one.
        """
        if other is None:
            return True
        return self.window_seconds >= other.window_seconds and self.requests <= other.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms that count for an organization.

    Args:
        rate_limit: of each key that has none of its own; None for no limit.
        monthly_quota: units of cost for the whole organization in a calendar month (UTC); None for no quota.
        key_cap: how many keys may be in use at a time; None for any number.
        entitlements: feature to a boolean or a number; what is not named is not bought.
    """

    rate_limit: RateLimit | None = None
    monthly_quota: int | None = None
    key_cap: int | None = None
    entitlements: Mapping[str, Entitlement] = field(default_factory=dict)


def effective(plan: Terms, overrides: Mapping[str, Any]) -> Terms:
    """Return the plan's terms with an organization's overrides, as `Organization.overrides` stores them.

    Of entitlements each override replaces one of the plan; null takes it away.
    """
    own = overrides.get(ENTITLEMENTS) or {}
    merged = {**plan.entitlements, **own}
    return Terms(
        rate_limit=_rate(overrides[RATE_LIMIT]) if RATE_LIMIT in overrides else plan.rate_limit,
        monthly_quota=overrides.get(MONTHLY_QUOTA, plan.monthly_quota),
        key_cap=overrides.get(KEY_CAP, plan.key_cap),
        entitlements={name: value for name, value in merged.items() if value is not None},
    )


def is_entitled(value: Entitlement | None) -> bool:
    """Tell whether an entitlement's value grants anything: true, or a number above zero."""
    return bool(value) and value is not None and value > 0


def whole_limit(requests: int | None, window_seconds: int | None) -> RateLimit | None:
    """Return a limit from its two fields, None where both are empty.

    Raises:
        Invalid: one is there without the other (field `rate_limit_requests` or `rate_limit_window_seconds`).
    """
    if requests is None and window_seconds is None:
        return None
    if requests is None:
        raise Invalid("A limit needs both: how much, and in how many seconds.", field=REQUESTS)
    if window_seconds is None:
        raise Invalid("A limit needs both: how much, and in how many seconds.", field=WINDOW)
    return RateLimit(requests, window_seconds)


def check_terms(terms: Terms) -> None:
    """Pass terms whose every part is within its bounds.

    Raises:
        InvalidMany: fields `rate_limit_requests`, `rate_limit_window_seconds`, `monthly_quota`, `key_cap`,
            `entitlements`.
    """
    _raise(term_errors(terms))


def term_errors(terms: Terms) -> list[Invalid]:
    """Return what is wrong with terms, by the fields of `check_terms`."""
    return [
        *_of_limit(terms.rate_limit),
        *_of_number(MONTHLY_QUOTA, terms.monthly_quota, MAX_NUMBER),
        *_of_number(KEY_CAP, terms.key_cap, MAX_CAP),
        *_of_entitlements(terms.entitlements),
    ]


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Pass overrides as `Organization.overrides` stores them: terms that may be overridden, null to lift a limit.

    Raises:
        Invalid: a term that is not there to override, or parts of another shape.
        InvalidMany: as `check_terms`.
    """
    own, limit = overrides.get(ENTITLEMENTS, {}), overrides.get(RATE_LIMIT)
    if set(overrides) - set(OVERRIDABLE):
        raise Invalid(f"Only {', '.join(OVERRIDABLE)} can be agreed to differently.")
    if not isinstance(own, Mapping):
        raise Invalid("Entitlements are an object of names and values.", field=ENTITLEMENTS)
    if limit is not None and (not isinstance(limit, Mapping) or set(limit) != {"requests", "window_seconds"}):
        raise Invalid("A limit needs both: how much, and in how many seconds.", field=REQUESTS)
    errors = list(_of_entitlements({name: False if value is None else value for name, value in own.items()}))
    try:
        check_terms(effective(Terms(), {**overrides, ENTITLEMENTS: {}}))
    except InvalidMany as error:
        errors += error.errors
    _raise(errors)


def check_retention(days: int) -> None:
    """Pass 1 to `MAX_RETENTION_DAYS` days for which calls are kept.

    Raises:
        Invalid: any other number (field `usage_retention_days`).
    """
    if not _is_whole(days) or not 1 <= days <= MAX_RETENTION_DAYS:
        raise Invalid(f"1 to {MAX_RETENTION_DAYS:,} days.", field="usage_retention_days")


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of entitlements that are not the same in both, in order; true and 1 are not the same."""
    names = sorted({*before, *after})
    return [name for name in names if spelled(before, name) != spelled(after, name)]


def spelled(entitlements: Mapping[str, Any], name: str) -> str:
    """Return one entitlement as entries of the ledger tell of it; "" where it is not named."""
    if name not in entitlements:
        return ""
    match entitlements[name]:
        case None:
            return f"{name}: taken away"
        case bool() as value:
            return f"{name}: {'yes' if value else 'no'}"
        case value:
            return f"{name}: {value}"


def _rate(value: Mapping[str, int] | None) -> RateLimit | None:
    return None if value is None else RateLimit(value["requests"], value["window_seconds"])


def _raise(errors: list[Invalid]) -> None:
    if errors:
        raise InvalidMany(errors)


def _of_limit(limit: RateLimit | None) -> Iterator[Invalid]:
    """Find what is not 0 to `MAX_REQUESTS` in 1 to `MAX_WINDOW_SECONDS`."""
    if limit is None:
        return
    yield from _of_number(REQUESTS, limit.requests, MAX_REQUESTS)
    yield from _of_number(WINDOW, limit.window_seconds, MAX_WINDOW_SECONDS, least=1)


def _of_number(name: str, value: object, most: int, *, least: int = 0) -> Iterator[Invalid]:
    if value is not None and not (isinstance(value, int) and _is_whole(value) and least <= value <= most):
        yield Invalid(f"A whole number from {least} to {most:,}.", field=name)


def _of_entitlements(entitlements: Mapping[Any, Any]) -> Iterator[Invalid]:
    if len(entitlements) > MAX_ENTITLEMENTS:
        yield Invalid(f"At most {MAX_ENTITLEMENTS} entitlements.", field=ENTITLEMENTS)
    for place, (name, value) in enumerate(entitlements.items(), start=1):
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            words = "a name is a letter, then letters, digits and underscores, at most 63, in lower case"
            yield Invalid(f"Entitlement {place}: {words}.", field=ENTITLEMENTS)
        elif not _is_entitlement(value):
            words = f"true, false, or a number from 0 to {MAX_NUMBER:,}"
            yield Invalid(f"{name}: {words}.", field=ENTITLEMENTS)


def _is_entitlement(value: object) -> bool:
    if isinstance(value, bool):
        return True
    # Neither NaN nor infinity is between the two.
    return isinstance(value, int | float) and 0 <= value <= MAX_NUMBER


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
