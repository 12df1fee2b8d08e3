"""The second customer: two thousand keys, the same in every demo but for ids and secrets."""

import random
from collections.abc import Iterator, Mapping
from typing import Final

from keys.policy import DEFAULTS
from keys.secret import Kind
from portal.demo_data.keyspecs import Fate, KeySpec

SLUG: Final = "heliograph"
NAME: Final = "Heliograph Analytics"
PLAN: Final = "enterprise"
AGREED: Final[Mapping[str, object]] = {}
COUNT: Final = 2000
ENVIRONMENTS: Final = (("staging", "Staging", "live"), ("sandbox", "Sandbox", "test"))
PROJECTS: Final = (("Pipelines", ""), ("Streaming", "Pipelines"), ("Dashboards", ""), ("Research", ""))
PEOPLE: Final = (
    ("hana", "owner", "Hana Svobodová", ""),
    ("idris", "developer", "Idris Bello", ""),
)

_SERVICES: Final = (
    "collector",
    "forwarder",
    "mirror",
    "scorer",
    "notebook",
    "dashboard",
    "exporter",
    "sampler",
)
_REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-2", "eu-north-1", "ap-south-1", "sa-east-1")
_TEAMS: Final = ("Ingest", "Streaming", "Insights", "Research", "Platform")
_SCOPES: Final = {
    Kind.INGESTION: (("ingest:write",), ("metrics:write",), ("events:write", "write:logs")),
    Kind.CONTROL_PLANE: (
        ("metrics:read",),
        ("reports:read", "reports:export"),
        ("incidents:read", "alerts:read"),
    ),
    Kind.SERVICE: (("replay:run",), ("metrics:read", "reports:read")),
}
_OLDEST: Final = {Kind.INGESTION: 330.0, Kind.CONTROL_PLANE: 330.0, Kind.SERVICE: 28.0}
# Days; the others live as long as the policy's default says, and some of them are over.
_LIVES: Final[Mapping[Kind, float | None]] = {Kind.INGESTION: None, Kind.CONTROL_PLANE: 365, Kind.SERVICE: 30}
_DEFAULT: Final = {kind: rule.default_days for kind, rule in DEFAULTS.items()}
_LONG_LIVED, _REVOKED, _DISABLED, _NEVER_USED = 0.9, 0.03, 0.03, 0.15
_REASONS: Final = ("leaked", "unused", "rotated_out", "incident", "other")


def specs() -> Iterator[KeySpec]:
    """Return the keys, each with a state, an age and a last use of its own."""
    dice = random.Random(2000)  # noqa: S311 - it draws examples, no secrets
    for number in range(1, COUNT + 1):
        yield _spec(number, dice)


def _spec(number: int, dice: random.Random) -> KeySpec:
    kind = dice.choices(list(_SCOPES), weights=(6, 3, 1))[0]
    service, region = dice.choice(_SERVICES), dice.choice(_REGIONS)
    age = round(dice.uniform(0.1, _OLDEST[kind]), 3)
    lives = _LIVES[kind] if dice.random() < _LONG_LIVED else 0
    fate = _fate(age, dice)
    return KeySpec(
        name=f"{service}-{region}-{number:04}",
        kind=kind,
        scopes=dice.choice(_SCOPES[kind]),
        environment=dice.choices(("production", "staging", "sandbox"), weights=(7, 2, 1))[0],
        project=dice.choice(("", *(name for name, _ in PROJECTS))),
        age_days=age,
        lives_days=lives,
        by=dice.choice(("hana", "idris")),
        owner=dice.choice(("hana", "idris", "", *(f"team:{team}" for team in _TEAMS))),
        tags={"region": region, "service": service},
        used_hours=_used(age, fate, 0 if lives is None else age - (lives or _DEFAULT[kind]), dice),
        used_ip=f"203.0.113.{number % 250 + 1}",
        fate=fate,
    )


def _fate(age: float, dice: random.Random) -> Fate | None:
    """Return what became of one key in sixteen, soon after it was made and so before it could expire."""
    days, roll = age * 0.97, dice.random()
    if roll < _REVOKED:
        return Fate(days=days, revoked=dice.choice(_REASONS))
    if roll < _REVOKED + _DISABLED:
        return Fate(days=days, disabled_hours=dice.choice((0, 4, 72)))
    return None


def _used(age: float, fate: Fate | None, expired_days: float, dice: random.Random) -> float | None:
    """Return the hours since the last use: none for some, and none after the key had stopped."""
    if dice.random() < _NEVER_USED:
        return None
    stopped = max(expired_days, fate.days if fate else 0.0, 0.0)
    return round(24 * (stopped + (age - stopped) * dice.random() ** 3), 2)
