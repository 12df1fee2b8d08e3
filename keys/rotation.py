"""Rotation: a new secret on the same key, with or without a time in which both are accepted. Spec KEYS §5.

Nothing here runs when time passes. Whether a secret is accepted and whether a rotation is running follow from
the clock and the rows, so that a worker that is down extends nobody's grace.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.errors import (
    Invalid,
    RotationEnded,
    RotationRunning,
    SelfRotationRefused,
    StateForbids,
    VersionConflict,
)
from keys.policy.expiry import ExpiryRule
from keys.secret import redact

DEFAULT_GRACE_SECONDS: Final = 86_400
MAX_GRACE_SECONDS: Final = 2_592_000
DEFAULT_SELF_ROTATION_DAYS: Final = 365
DEFAULT_QUIET_SECONDS: Final = 600
MAX_QUIET_SECONDS: Final = 86_400
DEFAULT_DEADLINE_SECONDS: Final = 604_800
MAX_DEADLINE_SECONDS: Final = 2_592_000
MAX_TARGETS: Final = 64
MAX_TARGET_BYTES: Final = 64
# Until when a secret without an expiry is accepted where nothing but a completion ends it: a row has a time.
NO_END: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Mode(StrEnum):
    """What becomes of the old secret: it stops at once, lives on for a while, or until its targets have moved."""

    IMMEDIATE = "immediate"
    GRACE = "grace"
    STAGED = "staged"


class State(StrEnum):
    """What a rotation has come to."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class TargetState(StrEnum):
    """How far a target of a staged rotation has come: the new secret not seen, both in use, the old one quiet."""

    WAITING = "waiting"
    MOVING = "moving"
    MOVED = "moved"


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
    """The times of one rotation, of which the first counts. At `ends_at` the old secret stops by itself.

    A key's revocation supersedes its rotation.
    """

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
        is_cut_off: whether the organization has the old secret of a staged rotation stop at the deadline.
    """

    secrets: Sequence[Secret]
    newest_version: int
    is_revoked: bool
    is_disabled: bool
    running_id: str | None
    interval_days: int | None
    rule: ExpiryRule
    is_cut_off: bool = False

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
class Stages:
    """What a staged rotation waits for: its targets, for how long the old secret must be quiet, and until when."""

    targets: tuple[str, ...]
    quiet_seconds: int
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How somebody wants a key rotated; None where they say nothing.

    Args:
        mode: `immediate` supersedes a running rotation, the others wait for its end.
        grace_seconds: 1 to 2,592,000, with `grace` only; None for 86,400. Never past the old secret's expiry.
        targets: 1 to 64 names of 1 to 64 bytes, all different, with `staged` only.
        quiet_seconds: 1 to 86,400, with `staged` only; None for 600.
        deadline: in the future, at most 30 days ahead, with `staged` only; None for 7 days.
    """

    mode: Mode = Mode.GRACE
    grace_seconds: int | None = None
    targets: Sequence[str] = ()
    quiet_seconds: int | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rotation writes, if `newest_version` still is `old_version` when it does.

    The old secret's `accepted_until` becomes `old_accepted_until`; that of every other earlier secret becomes
    the present, unless it is past. `supersedes` says that a running rotation ends with it. `stages` are a staged
    rotation's.
    """

    mode: Mode
    old_version: int
    new_version: int
    new_expires_at: datetime | None
    old_accepted_until: datetime
    supersedes: bool
    stages: Stages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """When the old and the new secret were last used in one place; None for never, as far as is known."""

    old_at: datetime | None
    new_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """By what a staged rotation is judged.

    Args:
        since: from when silence counts: the rotation's start, or later where the key could not be used at all.
        quiet_seconds: for how long the old secret must not be used.
    """

    since: datetime
    quiet_seconds: int

    def is_quiet(self, old_at: datetime | None, now: datetime) -> bool:
        """Tell whether the old secret was left alone for long enough."""
        return now - max(self.since, old_at or self.since) >= timedelta(seconds=self.quiet_seconds)

    def state(self, seen: Seen, now: datetime) -> TargetState:
        """Return how far a target has come."""
        if seen.new_at is None:
            return TargetState.WAITING
        return TargetState.MOVED if self.is_quiet(seen.old_at, now) else TargetState.MOVING

    def is_complete(self, targets: Collection[Seen], old_at: datetime | None, now: datetime) -> bool:
        """Tell whether every target has moved and the old secret was quiet everywhere.

        Args:
            targets: of each target; none never completes.
            old_at: when the old secret was last used anywhere.
            now: the present.
        """
        moved = all(self.state(seen, now) is TargetState.MOVED for seen in targets)
        return bool(targets) and moved and self.is_quiet(old_at, now)


def known_end(accepted_until: datetime | None) -> datetime | None:
    """Return until when an old secret is accepted, as people and programs are told; None where nothing ends it yet."""
    return None if accepted_until is None or accepted_until >= NO_END else accepted_until


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


def is_overdue(course: Course, deadline: datetime | None, now: datetime) -> bool:
    """Tell whether a staged rotation still runs although its deadline has come; the others have none."""
    return deadline is not None and deadline <= now and state(course, now) is State.RUNNING


def plan(
    key: Standing,
    wish: Wish,
    *,
    version: int | None,
    itself: Itself | None,
    now: datetime,
) -> Plan:
    """Return what rotating the key would write.

    The caller's right to rotate it is checked elsewhere (`policy.refuse_excess`).

    Args:
        key: as found.
        wish: how to rotate it.
        version: the newest that the caller knows; None if it does not say.
        itself: set where the key rotates itself.
        now: the present.

    Raises:
        StateForbids: the key is revoked, disabled or expired.
        SelfRotationRefused: not the newest secret, switched off, or too long since a person did it.
        Invalid: `immediate` by the key itself (`mode`); what the mode does not have, or out of its bounds
            (`grace_seconds`, `targets`, `targets[3]`, `quiet_seconds`, `deadline`).
        RotationRunning: while another one runs, with that one's id; not for `immediate`.
        VersionConflict: the newest is another than the caller knows.
    """
    old = key.newest
    _check_state(key, old, now)
    if itself is not None:
        _check_itself(itself, key.newest_version, wish.mode, now)
    stages = _stages(wish, now)
    accepted_until = _accepted_until(wish, stages, old, now, is_cut_off=key.is_cut_off)
    if wish.mode is not Mode.IMMEDIATE and key.running_id is not None:
        raise RotationRunning(key.running_id)
    if version is not None and version != key.newest_version:
        raise VersionConflict
    return Plan(
        mode=wish.mode,
        old_version=old.version,
        new_version=max(secret.version for secret in key.secrets) + 1,
        new_expires_at=_new_expiry(key, old, itself, now),
        old_accepted_until=accepted_until,
        supersedes=key.running_id is not None,
        stages=stages,
    )


def restored_expiry(course: Course, old: Secret, new: Secret, now: datetime) -> datetime | None:
    """Return when the old secret expires once its rotation is cancelled and the key goes by it again.

    What shortened the new secret's life, a person or a stricter rule, holds for the old one too: a cancel never gives
    a key more time than it had.

    Raises:
        RotationEnded: it is not running any more.
        StateForbids: the old secret would be refused.
    """
    if state(course, now) is not State.RUNNING:
        raise RotationEnded
    times = [at for at in (old.expires_at, new.expires_at) if at is not None]
    expires_at = min(times, default=None)
    if is_expired(expires_at, now):
        raise StateForbids("The old secret is not accepted any more: there is nothing to go back to.")
    return expires_at


def check_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Return the targets of a staged rotation, as they were named.

    Raises:
        Invalid: none or more than 64 (`targets`), or one out of form or named twice (`targets[3]`).
    """
    if not 1 <= len(names) <= MAX_TARGETS:
        raise Invalid(f"A staged rotation has 1 to {MAX_TARGETS} targets.", field="targets")
    for number, name in enumerate(names):
        fault = _fault(name, names[:number])
        if fault:
            raise Invalid(fault, field=f"targets[{number}]")
    return tuple(names)


def _fault(name: str, earlier: Sequence[str]) -> str:
    if not 1 <= len(name.encode(errors="replace")) <= MAX_TARGET_BYTES:
        return f"A target is 1 to {MAX_TARGET_BYTES} bytes."
    if name != name.strip() or any(unicodedata.category(char).startswith("C") for char in name):
        return "A target has no control characters, and no space at its ends."
    if redact(name) != name:
        return "This looks like a secret. A target is a region's name."
    return "This target is named twice." if name in earlier else ""


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


def _stages(wish: Wish, now: datetime) -> Stages | None:
    """Return what a staged rotation waits for; None for the other modes, which have nothing of it."""
    if wish.mode is not Mode.STAGED:
        given = {
            "targets": wish.targets or None,
            "quiet_seconds": wish.quiet_seconds,
            "deadline": wish.deadline,
        }
        for name, value in given.items():
            if value is not None:
                raise Invalid("Only a staged rotation has this.", field=name)
        return None
    targets = check_targets(wish.targets)
    quiet = DEFAULT_QUIET_SECONDS if wish.quiet_seconds is None else wish.quiet_seconds
    if not 1 <= quiet <= MAX_QUIET_SECONDS:
        raise Invalid(f"The quiet time is 1 to {MAX_QUIET_SECONDS:,} seconds.", field="quiet_seconds")
    deadline = wish.deadline or now + timedelta(seconds=DEFAULT_DEADLINE_SECONDS)
    if not now < deadline <= now + timedelta(seconds=MAX_DEADLINE_SECONDS):
        raise Invalid("A time in the future, within 30 days.", field="deadline")
    return Stages(targets=targets, quiet_seconds=quiet, deadline=deadline)


def _accepted_until(
    wish: Wish, stages: Stages | None, old: Secret, now: datetime, *, is_cut_off: bool
) -> datetime:
    if stages is not None and wish.grace_seconds is not None:
        raise Invalid("A staged rotation has a deadline, no grace.", field="grace_seconds")
    if stages is not None:
        end = stages.deadline if is_cut_off else NO_END
    elif wish.mode is Mode.IMMEDIATE:
        if wish.grace_seconds is not None:
            raise Invalid("An immediate rotation has no grace.", field="grace_seconds")
        return now
    else:
        end = now + _grace(wish.grace_seconds)
    return end if old.expires_at is None else min(end, old.expires_at)


def _grace(asked: int | None) -> timedelta:
    seconds = DEFAULT_GRACE_SECONDS if asked is None else asked
    if not 1 <= seconds <= MAX_GRACE_SECONDS:
        raise Invalid(f"The grace is 1 to {MAX_GRACE_SECONDS:,} seconds.", field="grace_seconds")
    return timedelta(seconds=seconds)


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
