"""A key as the demo wants it, and the way from there to rows: the services, with another day's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keys import rotation
from keys.callers import Caller
from keys.models import ApiKey
from keys.policy import ABSENT, Requested, TierName
from keys.secret import Kind
from keys.services import Created, Draft, Owner, create_key, disable_key, revoke_key, rotate_key
from orgs.models import Environment, Project, User
from orgs.terms import RateLimit
from portal.demo_data.ageing import Use, as_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a key, `days` ago; at most one of the others.

    `disabled_hours` 0 disables without end; hours count from the present. `grace_hours` 0 rotates at once.
    """

    days: float
    revoked: str = ""
    note: str = ""
    disabled_hours: float | None = None
    grace_hours: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """One key. Days and hours count back from the present, `lives_days` from the key's making.

    `lives_days` 0 leaves it to the policy, None is for ever. `owner` is a person's first name or `team:` and a
    team's name.
    """

    name: str
    kind: Kind
    scopes: Sequence[str]
    environment: str = "production"
    project: str = ""
    age_days: float = 20
    lives_days: float | None = 0
    by: str = "alice"
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    allowed_ips: Sequence[str] = ()
    limit: RateLimit | TierName | None = None
    interval: int | None = None
    used_hours: float | None = None
    used_ip: str = "203.0.113.17"
    fate: Fate | None = None
    approval_bound: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A key of the demo with its newest secret, and its last uses yet to be written. `secret` is secret."""

    key: ApiKey
    secret: str = field(repr=False)
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """What specs name: an organization's projects by name ("" for the root), environments, people and callers."""

    projects: Mapping[str, Project]
    environments: Mapping[str, Environment]
    people: Mapping[str, User]
    callers: Mapping[str, Caller]


def make_key(spec: KeySpec, place: Place, now: datetime) -> Made:
    """Make a key as of its day, and let its fate come as of its own."""
    actor, day = place.callers[spec.by], now - timedelta(days=spec.age_days)
    draft = Draft(
        kind=spec.kind,
        name=spec.name,
        project=place.projects[spec.project],
        environment=place.environments[spec.environment],
        scopes=spec.scopes,
        owner=_owner(spec, place),
        description=spec.description,
        tags=spec.tags,
        allowed_ips=spec.allowed_ips or None,
        expires=_expires(spec, day),
        rate_limit=spec.limit,
        rotation_interval_days=spec.interval,
        approval_bound=spec.approval_bound,
    )
    with as_of(day):
        created = create_key(draft, actor=actor)
    key, secret = created.key, created.secret
    if spec.fate is not None:
        with as_of(now - timedelta(days=spec.fate.days)):
            key, secret = _befall(created, spec.fate, actor, now)
    return Made(key, secret, _uses(spec, key, now))


def _befall(created: Created, fate: Fate, actor: Caller, now: datetime) -> tuple[ApiKey, str]:
    """Do to the key what became of it; return it with the secret that it then has."""
    key = created.key
    if fate.revoked:
        revoke_key(key, actor=actor, reason=fate.revoked, note=fate.note)
    elif fate.disabled_hours is not None:
        until = now + timedelta(hours=fate.disabled_hours) if fate.disabled_hours else None
        key = disable_key(key, actor=actor, until=until)
    elif fate.grace_hours is not None:
        mode = rotation.Mode.GRACE if fate.grace_hours else rotation.Mode.IMMEDIATE
        seconds = fate.grace_hours * 3600 or None
        return key, rotate_key(key, actor=actor, mode=mode, grace_seconds=seconds).secret
    return key, created.secret


def _owner(spec: KeySpec, place: Place) -> Owner:
    kind, _, team = spec.owner.partition("team:")
    return Owner(team=team) if team else Owner(member=place.people[kind] if kind else None)


def _expires(spec: KeySpec, day: datetime) -> Requested:
    if spec.lives_days is None:
        return None
    return day + timedelta(days=spec.lives_days) if spec.lives_days else ABSENT


def _uses(spec: KeySpec, key: ApiKey, now: datetime) -> tuple[Use, ...]:
    """Return the last use of the newest secret, and of the one before it while both are accepted."""
    if spec.used_hours is None:
        return ()
    at = now - timedelta(hours=spec.used_hours)
    is_in_grace = spec.fate is not None and bool(spec.fate.grace_hours)
    versions = [key.newest_version, key.newest_version - 1] if is_in_grace else [key.newest_version]
    return tuple(
        Use(key.id, version, at - timedelta(minutes=11) * age, spec.used_ip)
        for age, version in enumerate(versions)
    )
