"""When a secret stops by itself (KEYS §2): defaults, maxima, and who may never expire."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

from keys.errors import Invalid, InvalidMany
from keys.secret import Kind

MAX_DAYS: Final = 365


class Absent(Enum):
    """What stands for a field that was not sent, where None has a meaning of its own."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT

# Not sent: the policy decides. None: never.
type Requested = datetime | Literal[Absent.ABSENT] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryRule:
    """An organization's rule for one kind of key; days are of 24 hours."""

    default_days: int
    max_days: int
    may_never: bool


DEFAULTS: Final[Mapping[Kind, ExpiryRule]] = MappingProxyType(
    {
        Kind.INGESTION: ExpiryRule(default_days=90, max_days=365, may_never=True),
        Kind.CONTROL_PLANE: ExpiryRule(default_days=90, max_days=365, may_never=False),
        Kind.SERVICE: ExpiryRule(default_days=7, max_days=30, may_never=False),
    }
)


def check_rule(kind: Kind, rule: ExpiryRule) -> ExpiryRule:
    """Return an organization's own rule if it stays within the product's for the kind (`DEFAULTS`).

    Raises:
        InvalidMany: a maximum beyond the product's, a default beyond the maximum, or never where only
            ingestion keys may (fields `max_days`, `default_days`, `may_never`).
    """
    most = DEFAULTS[kind]
    errors = []
    if not 1 <= rule.max_days <= most.max_days:
        errors.append(Invalid(f"The maximum is 1 to {most.max_days} days.", field="max_days"))
    if not 1 <= rule.default_days <= rule.max_days:
        errors.append(Invalid("The default is 1 day up to the maximum.", field="default_days"))
    if rule.may_never and not most.may_never:
        errors.append(Invalid("Only ingestion keys may be allowed to never expire.", field="may_never"))
    if errors:
        raise InvalidMany(errors)
    return rule


def check_interval(days: int | None, *, is_automatic: bool = False) -> int | None:
    """Return the rotation interval in days; None for none.

    `is_automatic`: the key is to rotate by itself, which needs one.

    Raises:
        Invalid: not 1 to 365 (field `rotation_interval_days`), or none where there must be (field `auto_rotate`).
    """
    if days is None and is_automatic:
        raise Invalid("To rotate by itself, a key needs a rotation interval.", field="auto_rotate")
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise Invalid(f"The interval is 1 to {MAX_DAYS} days.", field="rotation_interval_days")
    return days


def after_days(days: int, now: datetime) -> datetime:
    """Return the time that many days from now, for `expires_in_days`; the rule judges it afterwards.

    Raises:
        Invalid: not 1 to 365 (field `expires_in_days`).
    """
    if not 1 <= days <= MAX_DAYS:
        raise Invalid(f"1 to {MAX_DAYS} days.", field="expires_in_days")
    return now + timedelta(days=days)


def expires_at(rule: ExpiryRule, requested: Requested, now: datetime) -> datetime | None:
    """Return when a new secret expires, in UTC; None for never.

    Raises:
        Invalid: a time without a zone, not in the future or beyond the maximum, or never where the rule does
            not allow it (field `expires_at`).
    """
    if requested is ABSENT:
        return now + timedelta(days=rule.default_days)
    if requested is None and not rule.may_never:
        raise Invalid("This kind of key must expire.", field="expires_at")
    if requested is None:
        return None
    if requested.tzinfo is None:
        raise Invalid("The time needs a zone, such as Z.", field="expires_at")
    if requested <= now:
        raise Invalid("The time is past.", field="expires_at")
    if requested > now + timedelta(days=rule.max_days):
        raise Invalid(f"This kind of key expires within {rule.max_days} days.", field="expires_at")
    return requested.astimezone(UTC)
