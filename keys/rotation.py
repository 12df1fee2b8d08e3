"""Rotation: a new secret on the same key, with or without a time in which both are accepted. Spec KEYS §5.

Nothing here runs when time passes. Whether a secret is accepted and whether a rotation is running follow from
the clock and the rows, so that a worker that is down extends nobody's grace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.errors import Invalid, RotationRunning, SelfRotationRefused, StateForbids, VersionConflict
from keys.policy.expiry import ExpiryRule

DEFAULT_GRACE_SECONDS: Final = 86_400
MAX_GRACE_SECONDS: Final = 2_592_000
DEFAULT_SELF_ROTATION_DAYS: Final = 365


class Mode(StrEnum):
    """What becomes of the old secret: it stops at once, or lives on for a while."""

    IMMEDIATE = "immediate"
    GRACE = "grace"


class State(StrEnum):
    """What a rotation has come to."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One version of a key's secret, without anything secret.

    `accepted_until` is set once a newer one has taken its place: then, at the latest, it is refused.
    """

    version: int
    created_at: datetime
    expires_at: datetime | None
    accepted_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The times of one rotation, of which the first counts. At `ends_at` the old secret stops by itself."""

    ends_at: datetime
    completed_at: datetime | None = None
    cancelled_at: datetime | None = None
    superseded_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The key as a rotation finds it, read under the lock that guards it.

    Args:
        secrets: every version that there is, in any order; retired ones too, so that no number is used twice.
        newest_version: the version that the key goes by.
        is_revoked, is_disabled: its state at this moment.
        running_id: the id of the rotation that is running now, or None.
        interval_days: its rotation interval, or None.
        rule: the organization's expiry rule for its kind.
    """

    secrets: Sequence[Secret]
    newest_version: int
    is_revoked: bool
    is_disabled: bool
    running_id: str | None
    interval_days: int | None
    rule: ExpiryRule

    @property
    def newest(self) -> Secret:
        """Return the secret that the key goes by."""
        return next(secret for secret in self.secrets if secret.version == self.newest_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Itself:
    """A key that rotates itself: with which version, whether it may, and until when without a person.

    Args:
        version: of the secret that it presented.
        may: the key's `may_rotate_itself`.
        person_touched_at: when a person last created or rotated it.
        max_age_days: the organization's maximum since then.
    """

    version: int
    may: bool
    person_touched_at: datetime
    max_age_days: int = DEFAULT_SELF_ROTATION_DAYS

    @property
    def ends_at(self) -> datetime:
        """Return the time from which a person must do it."""
        return self.person_touched_at + timedelta(days=self.max_age_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rotation writes, if `newest_version` still is `old_version` when it does.

    The old secret's `accepted_until` becomes `old_accepted_until`; that of every other earlier secret becomes
    the present, unless it is past. `supersedes` says that a running rotation ends with it.
    """

    mode: Mode
    old_version: int
    new_version: int
    new_expires_at: datetime | None
    old_accepted_until: datetime
    supersedes: bool


def is_accepted(secret: Secret, newest_version: int, now: datetime) -> bool:
    """Tell whether the secret is accepted, as far as it alone decides: neither expired nor retired."""
    return not is_expired(secret.expires_at, now) and not is_retired(
        secret.version, newest_version, secret.accepted_until, now
    )


def is_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Tell whether the time has come; None never comes."""
    return expires_at is not None and expires_at <= now


def is_retired(version: int, newest_version: int, accepted_until: datetime | None, now: datetime) -> bool:
    """Tell whether a secret was replaced and its time is up.

    A secret that is not the newest and has no `accepted_until` is a row that should not be: refused.
    """
    if accepted_until is None:
        return version != newest_version
    return accepted_until <= now


def state(rotation: Course, now: datetime) -> State:
    """Return what the rotation has come to, as of `now`; what came first stays."""
    ends = [
        (rotation.ends_at, State.COMPLETED),
        (rotation.completed_at, State.COMPLETED),
        (rotation.cancelled_at, State.CANCELLED),
        (rotation.superseded_at, State.SUPERSEDED),
    ]
    past = [(at, outcome) for at, outcome in ends if at is not None and at <= now]
    return min(past, key=lambda end: end[0])[1] if past else State.RUNNING


def plan(
    key: Standing,
    *,
    mode: Mode,
    grace_seconds: int | None,
    version: int | None,
    itself: Itself | None,
    now: datetime,
) -> Plan:
    """Return what rotating the key would write.

    The caller's right to rotate it is checked elsewhere (`policy.refuse_excess`).

    Args:
        key: as found.
        mode: `immediate` supersedes a running rotation, `grace` waits for its end.
        grace_seconds: 1 to 2,592,000, with `grace` only; None for 86,400. Never past the old secret's expiry.
        version: the newest that the caller knows; None if it does not say.
        itself: set where the key rotates itself.
        now: the present.

    Raises:
        StateForbids: the key is revoked, disabled or expired.
        SelfRotationRefused: not the newest secret, switched off, or too long since a person did it.
        Invalid: `immediate` by the key itself (`mode`), or the grace out of bounds (`grace_seconds`).
        RotationRunning: `grace` while another one runs, with that one's id.
        VersionConflict: the newest is another than the caller knows.
    """
    old = key.newest
    _check_state(key, old, now)
    if itself is not None:
        _check_itself(itself, key.newest_version, mode, now)
    accepted_until = _accepted_until(mode, grace_seconds, old, now)
    if mode is Mode.GRACE and key.running_id is not None:
        raise RotationRunning(key.running_id)
    if version is not None and version != key.newest_version:
        raise VersionConflict
    return Plan(
        mode=mode,
        old_version=old.version,
        new_version=max(secret.version for secret in key.secrets) + 1,
        new_expires_at=_new_expiry(key, old, itself, now),
        old_accepted_until=accepted_until,
        supersedes=key.running_id is not None,
    )


def _check_state(key: Standing, old: Secret, now: datetime) -> None:
    if key.is_revoked:
        raise StateForbids("A revoked key can't be rotated.")
    if key.is_disabled:
        raise StateForbids("A disabled key can't be rotated: enable it first.")
    if not is_accepted(old, key.newest_version, now):
        raise StateForbids("An expired key can't be rotated.")


def _check_itself(itself: Itself, newest_version: int, mode: Mode, now: datetime) -> None:
    if not itself.may:
        raise SelfRotationRefused("This key may not rotate itself.")
    if itself.version != newest_version:
        raise SelfRotationRefused("A key rotates itself with its newest secret only.")
    if now >= itself.ends_at:
        raise SelfRotationRefused(f"After {itself.max_age_days} days a person must rotate this key.")
    if mode is Mode.IMMEDIATE:
        # Were the answer lost, the machine would hold no accepted secret and nobody would be there to help.
        raise Invalid("A key can't rotate itself immediately: a lost answer would lock it out.", field="mode")


def _accepted_until(mode: Mode, grace_seconds: int | None, old: Secret, now: datetime) -> datetime:
    if mode is Mode.IMMEDIATE:
        if grace_seconds is not None:
            raise Invalid("An immediate rotation has no grace.", field="grace_seconds")
        return now
    seconds = DEFAULT_GRACE_SECONDS if grace_seconds is None else grace_seconds
    if not 1 <= seconds <= MAX_GRACE_SECONDS:
        raise Invalid(f"The grace is 1 to {MAX_GRACE_SECONDS:,} seconds.", field="grace_seconds")
    end = now + timedelta(seconds=seconds)
    return end if old.expires_at is None else min(end, old.expires_at)


def _new_expiry(key: Standing, old: Secret, itself: Itself | None, now: datetime) -> datetime | None:
    """Return when the new secret expires: it takes the key's policy.

    With a rotation interval the old secret's lifetime starts anew; without one the expiry stays where a
    person set it, or whoever stole a secret could keep the key alive by rotating it. Either is cut to the
    organization's rule of today, and where the key rotates itself to the time from which a person must.
    """
    if old.expires_at is None and key.rule.may_never:
        return None
    limits = [now + timedelta(days=key.rule.max_days), _inherited_expiry(key, old, now)]
    if itself is not None:
        limits.append(itself.ends_at)
    return min(limits)


def _inherited_expiry(key: Standing, old: Secret, now: datetime) -> datetime:
    if old.expires_at is None:
        return now + timedelta(days=key.rule.default_days)
    return old.expires_at if key.interval_days is None else now + (old.expires_at - old.created_at)
