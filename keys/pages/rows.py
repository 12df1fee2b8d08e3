"""The rows of the Keys page: each key with all that its row says, for any number of keys in a few queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings

from keys import catalogue, health, secret
from keys.health import Badge, Mark
from keys.models import ApiKey, Rotation
from keys.models.key import RevocationReason, Status
from keys.pages import charts
from keys.pages.charts import Spark
from keys.pages.words import KIND_NAMES
from keys.scopes import Risks, allows
from keys.secret import Kind, Mode
from keys.usage import Health
from orgs.members import Member
from orgs.roles import Permission, Risk

# What the state's own word says need not be said again below it.
_STATES: Final = {Badge.EXPIRES_SOON: "expiring", Badge.IDLE: "idle"}
_RISING: Final = ((Risk.READ, {Risk.READ}), (Risk.WRITE, {Risk.READ, Risk.WRITE}))


@dataclass(frozen=True, slots=True)
class RowScope:
    """A scope as a chip: its name, and the risk that colours it."""

    name: str
    risk: Risk


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was counted of the calls with some keys, by their ids: the facts behind badges, the calls of 14 days."""

    health: Mapping[str, Health]
    days: Mapping[str, Sequence[int]]


UNCOUNTED: Final = Evidence({}, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key as the page shows it. `state` is of the state component, `notes` stand below it.

    `days` are the calls of the last 14 days, today last; empty where nobody asked for them.
    """

    key: ApiKey
    status: Status
    state: str
    label: str
    notes: tuple[Mark, ...]
    about: str
    scopes: tuple[RowScope, ...]
    last_used_at: datetime | None
    last_used_ip: str
    may_change: bool
    days: Sequence[int] = ()

    @property
    def spark(self) -> Spark:
        """The calls of the last 14 days, drawn."""
        return charts.sparkline(self.days)

    @property
    def spark_words(self) -> str:
        """The calls of the last 14 days, said."""
        number = sum(self.days)
        return f"{number:,} call{'' if number == 1 else 's'} in the last 14 days"

    @property
    def shown(self) -> str:
        """The key's newest secret as it may be seen."""
        return shown_secret(self.key)

    @property
    def kind(self) -> str:
        """The kind in words."""
        return KIND_NAMES[self.key.kind]

    @property
    def owner(self) -> str:
        """The owner's name; empty where nobody is named."""
        return owner_name(self.key)

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be done with the key any more."""
        return self.status in {Status.REVOKED, Status.EXPIRED}

    @property
    def may_select(self) -> bool:
        """Whether there is anything that the person can still do with the key: a revoked one stays as it is."""
        return self.may_change and self.status is not Status.REVOKED

    @property
    def may_rotate(self) -> bool:
        """Whether the key is in a state to be rotated."""
        return self.may_change and self.status is Status.ACTIVE


def of(keys: Sequence[ApiKey], member: Member, now: datetime, evidence: Evidence = UNCOUNTED) -> list[Row]:
    """Return the rows of keys, in their order, as of `now`.

    `keys` come with their project, environment, owner and evidence of use; two queries more, however many they are.
    Without `evidence` of their calls there are no badges about these.
    """
    ids = [key.id for key in keys]
    rotating = set(Rotation.objects.running(now).filter(key_id__in=ids).values_list("key_id", flat=True))
    risks = catalogue.risks(catalogue.load())
    return [
        _row(key, member, risks, is_rotating=key.id in rotating, evidence=evidence, now=now) for key in keys
    ]


def shown_secret(key: ApiKey) -> str:
    """Return a key's newest secret as it may be seen: `ks_cp_live_AbCd…`."""
    mode = Mode(key.environment.mode)
    return secret.display(settings.KEY_BRAND, Kind(key.kind), mode, key.hint)


def owner_name(key: ApiKey) -> str:
    """Return who answers for a key; a secret that was typed there by mistake is hidden."""
    return secret.redact(str(key.owner_user) if key.owner_user else key.owner_team)


def risk_of(scope: str, risks: Risks) -> Risk:
    """Return the highest risk that a scope carries; a wildcard has that of all it covers."""
    return next((risk for risk, allowed in _RISING if allows(scope, risks, allowed)), Risk.ADMIN)


def marks(key: ApiKey, now: datetime, counts: Health = health.NOTHING) -> list[Mark]:
    """Return what about a key deserves a look; nothing of one that has ended."""
    if key.status(now) in {Status.REVOKED, Status.EXPIRED}:
        return []
    used = key.use.last_used_at
    idle = now - health.idle_since(key.created_at, used)
    found = health.badges(
        created_at=key.created_at, expires_at=key.expires_at, last_used_at=used, now=now, counts=counts
    )
    return [health.mark(badge, counts, idle) for badge in found]


def _row(
    key: ApiKey, member: Member, risks: Risks, *, is_rotating: bool, evidence: Evidence, now: datetime
) -> Row:
    found = marks(key, now, evidence.health.get(key.id, health.NOTHING))
    state, label, notes, about = _standing(key, found, is_rotating=is_rotating, now=now)
    return Row(
        key=key,
        status=key.status(now),
        state=state,
        label=label,
        notes=tuple(notes),
        about=about,
        scopes=tuple(RowScope(scope, risk_of(scope, risks)) for scope in key.scopes),
        last_used_at=key.use.last_used_at,
        last_used_ip=key.use.last_used_ip or "",
        may_change=member.may(Permission.KEYS_CHANGE, key.project),
        days=evidence.days.get(key.id, ()),
    )


def _standing(
    key: ApiKey, found: Sequence[Mark], *, is_rotating: bool, now: datetime
) -> tuple[str, str, Sequence[Mark], str]:
    """Return the state, its words ("" for the state's own), what is said below it, and what the words mean."""
    status = key.status(now)
    if status is Status.REVOKED:
        reason = RevocationReason(key.revocation_reason).label.lower()
        return "revoked", "" if reason == "other" else f"Revoked · {reason}", (), ""
    if status is Status.EXPIRED:
        return "expired", "", (), ""
    if status is Status.DISABLED:
        back = key.disabled_until and not key.is_disabled
        return "disabled", "Disabled for a while" if back else "", found, ""
    if is_rotating:
        return "rotating", "", found, ""
    first = next((mark for mark in found if mark.badge in _STATES), None)
    if first is None:
        return "active", "", found, ""
    return _STATES[first.badge], first.words, [mark for mark in found if mark is not first], first.about
