"""The blast radius: in words, what a key could do in the wrong hands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keys.models import ApiKey, OwnerType
from keys.models.key import Status
from keys.pages import limit_words
from keys.pages.effective import Narrowing, Row, of_key, rows
from keys.pages.words import listed, resource_of, spoken
from keys.scopes import BREAK_GLASS, holds, is_wildcard
from keys.secret import Kind
from orgs.models import Environment, Project
from orgs.roles import Risk

_VERBS = {Risk.READ: "read", Risk.WRITE: "change", Risk.ADMIN: "administer"}


@dataclass(frozen=True, slots=True)
class Clause:
    """What a key does with some resources: `read`, `change` with `incidents and alerts`; each verb with its risk."""

    verbs: tuple[tuple[str, Risk], ...]
    things: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """What counts of a key's scopes, in words, and what is taken away on the way there."""

    clauses: tuple[Clause, ...]
    rows: tuple[Row, ...]
    below: int

    @property
    def cut(self) -> list[Row]:
        """The scopes of which something is taken away."""
        return [row for row in self.rows if not row.is_whole]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a page says beside a key, be it made already or still on a form.

    `expires_at` is set of a key alone; `expiry` says it in words, of a form alone.
    """

    radius: Radius
    project: Project
    environment: Environment | None
    networks: Sequence[str]
    owner: str
    expires_at: datetime | None = None
    expiry: str = ""
    limit: str = ""
    is_bound: bool = False

    @property
    def notes(self) -> list[str]:
        """What deserves a second look."""
        counting = [scope for row in self.radius.rows for scope in row.remaining]
        is_harmful = any(risk is not Risk.READ for clause in self.radius.clauses for _, risk in clause.verbs)
        is_production = self.environment is not None and self.environment.is_production
        return [
            *(
                ["It can revoke every key of the organization at once."]
                if holds(counting, BREAK_GLASS)
                else []
            ),
            *(
                ["It changes production, from any address."]
                if is_harmful and is_production and not self.networks
                else []
            ),
        ]


def reach(key: ApiKey, now: datetime) -> str:
    """Return in one sentence from where, until when and how often a key that was stolen would work, as it is now."""
    match key.status(now):
        case Status.REVOKED:
            return "It is revoked: whoever holds a secret of it can do nothing."
        case Status.EXPIRED:
            return "It has expired: whoever holds a secret of it can do nothing."
    number = len(key.allowed_ips)
    where = f"from {number} address range{'' if number == 1 else 's'} alone" if number else "from any address"
    until = f"until {key.expires_at:%-d %B %Y}" if key.expires_at else "for as long as nobody revokes it"
    it = "Once it is enabled again, it" if key.status(now) is Status.DISABLED else "It"
    return f"{it} works {where}, {until}. Calls: {limit_words.of_key(key)}."


def summary_of(key: ApiKey) -> Summary:
    """Return the summary of a key; its project, environment and owner are needed with it."""
    return Summary(
        radius=radius(key.scopes, Kind(key.kind), of_key(key)),
        project=key.project,
        environment=key.environment,
        networks=key.allowed_ips,
        owner=str(key.owner_user) if key.owner_type == OwnerType.MEMBER else key.owner_team,
        expires_at=key.expires_at,
        expiry="" if key.expires_at else "Never",
        limit=limit_words.of_key(key),
        is_bound=key.approval_bound,
    )


def radius(scopes: Sequence[str], kind: Kind | None, narrowing: Narrowing) -> Radius:
    """Return the words for a key of a project, with its scopes, its owner and all that narrows both."""
    return Radius(
        clauses=_clauses(narrowing.effective(scopes), kind, narrowing),
        rows=tuple(rows(scopes, narrowing)),
        below=_below(narrowing.path[-1]),
    )


def _clauses(counting: Sequence[str], kind: Kind | None, narrowing: Narrowing) -> tuple[Clause, ...]:
    """Return one clause for all resources with which the same may be done, from the least risk to the most."""
    risks_of: dict[str, set[Risk]] = {}
    for scope in counting:
        known = narrowing.catalogue.get(scope)
        risks_of.setdefault(_thing(scope), set()).add(known.risk if known else Risk.ADMIN)
    things_of: dict[tuple[Risk, ...], list[str]] = {}
    for thing, risks in risks_of.items():
        things_of.setdefault(tuple(risk for risk in Risk if risk in risks), []).append(thing)
    by_risk = sorted(things_of.items(), key=lambda item: [list(Risk).index(risk) for risk in item[0]])
    return tuple(
        Clause(tuple((_verb(risk, kind), risk) for risk in risks), listed(things))
        for risks, things in by_risk
    )


def _thing(scope: str) -> str:
    name = spoken(resource_of(scope))
    return f"everything of {name}, present and future" if is_wildcard(scope) else name


def _verb(risk: Risk, kind: Kind | None) -> str:
    return "send" if kind is Kind.INGESTION and risk is Risk.WRITE else _VERBS[risk]


def _below(project: Project) -> int:
    """Return how many projects lie below one: a key serves them too."""
    beneath = Project.objects.of(project.organization_id).below([project]).filter(archived_at__isnull=True)
    return beneath.exclude(pk=project.pk).count()
