"""What a key may really do: its scopes, less what its project and its owner's role take away (spec KEYS §4)."""

from collections.abc import Sequence
from dataclasses import dataclass

from keys import catalogue
from keys.catalogue import Catalogue
from keys.models import ApiKey
from keys.scopes import allows, effective, holds
from orgs.models import Membership, Project, User
from orgs.roles import EVERY_RISK, Risk, Role, ceiling, highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """All that narrows a key of one project and one owner, read at one moment.

    `path` is the projects from the root down to the key's own. `role` is the owner's at the key's project, None
    where they have none there; it means nothing unless a member owns the key (`has_owner`).
    """

    catalogue: Catalogue
    path: Sequence[Project]
    has_owner: bool
    role: Role | None

    @property
    def allowed(self) -> frozenset[Risk]:
        """The risks that the owner's role lets a key use; every one where no member owns the key."""
        return ceiling(self.role) if self.has_owner else EVERY_RISK

    @property
    def layers(self) -> list[list[str] | None]:
        """What each project of the path allows; None where it narrows nothing."""
        return [project.scopes for project in self.path]

    def effective(self, scopes: Sequence[str]) -> tuple[str, ...]:
        """Return the scopes that count."""
        return effective(scopes, self.layers, catalogue.risks(self.catalogue), self.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scope of a key, and what became of it on its way.

    `refusing` are the projects that take it away, `role_allows` is whether the owner's role leaves it, `remaining`
    is what counts of it: itself, nothing, or the part of a wildcard that passes.
    """

    scope: str
    risk: str
    refusing: tuple[Project, ...]
    role_allows: bool
    remaining: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was taken away."""
        return self.remaining == (self.scope,)


def narrowing_of(project: Project, owner: User | None) -> Narrowing:
    """Read what narrows the keys that `owner` has at `project`; None stands for a team, or nobody."""
    path = Project.objects.of(project.organization_id).filter(pk__in=project.ancestors)
    return Narrowing(
        catalogue=catalogue.load(),
        path=sorted(path, key=lambda ancestor: ancestor.depth),
        has_owner=owner is not None,
        role=_role_at(project, owner) if owner else None,
    )


def of_key(key: ApiKey) -> Narrowing:
    """Read what narrows a key; its project and its owner are needed with it."""
    return narrowing_of(key.project, key.owner_user)


def rows(scopes: Sequence[str], narrowing: Narrowing) -> list[Row]:
    """Return one row for each scope, in the key's order."""
    risks = catalogue.risks(narrowing.catalogue)
    return [
        Row(
            scope=scope,
            risk=risks.get(scope, Risk.ADMIN),
            refusing=tuple(
                project
                for project in narrowing.path
                if project.scopes is not None and not holds(project.scopes, scope)
            ),
            role_allows=allows(scope, risks, narrowing.allowed),
            remaining=narrowing.effective([scope]),
        )
        for scope in scopes
    ]


def _role_at(project: Project, owner: User) -> Role | None:
    standing = Membership.objects.filter(organization_id=project.organization_id, user=owner).select_related(
        "project"
    )
    return highest(
        Role(membership.role)
        for membership in standing
        if membership.project is None or project.path.startswith(membership.project.path)
    )
