"""The signed-in person as the rest of the product sees them: who, in which organization, with which roles where."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.actors import Actor
from orgs.models import Membership, Organization, Project, User
from orgs.roles import Permission, Role, highest, may


@dataclass(frozen=True, slots=True)
class Grant:
    """One role, over the whole organization (`path` is "") or over a project and what lies below it."""

    role: Role
    path: str


@dataclass(frozen=True, kw_only=True)
class Member(Actor):
    """Somebody acting in one organization. `project` is the one they have chosen to look at, or None for all."""

    user: User
    organization: Organization
    project: Project | None
    grants: tuple[Grant, ...]

    @property
    def actor(self) -> Actor:
        """The person as services record them; what `audit` asks for."""
        return self

    @property
    def organization_id(self) -> str:
        """The active organization's id; what `audit` asks for."""
        return self.organization.id

    @property
    def role(self) -> Role:
        """The highest role anywhere in the organization, for display and for what belongs to no project."""
        return highest(grant.role for grant in self.grants) or Role.VIEWER

    @property
    def organization_role(self) -> Role | None:
        """The role over the whole organization, if any."""
        return highest(grant.role for grant in self.grants if not grant.path)

    def role_at(self, project: Project) -> Role | None:
        """Return the highest role that holds at a project; None where the person has no standing there."""
        return role_at(self.grants, project)

    def may(self, permission: Permission, project: Project | None = None) -> bool:
        """Return whether any role at `project`, or over the whole organization, allows something.

        Each role is asked: rank is not inclusion (an auditor reads the log, a developer does not).
        """
        path = project.path if project else ""
        return any(may(grant.role, permission) for grant in self.grants if path.startswith(grant.path))

    def may_anywhere(self, permission: Permission) -> bool:
        """Return whether any of the person's roles allows something somewhere."""
        return any(may(grant.role, permission) for grant in self.grants)

    @property
    def may_break_glass(self) -> bool:
        """Whether the person may revoke many keys at once somewhere."""
        return self.may_anywhere(Permission.KEYS_BREAK_GLASS)

    @property
    def reads_whole_log(self) -> bool:
        """Whether the security log shows everything, or at most the person's own actions."""
        return self.may(Permission.LOG_VIEW)

    @property
    def reads_own_log(self) -> bool:
        """Whether the security log shows at least the person's own actions."""
        return self.reads_whole_log or self.may_anywhere(Permission.LOG_VIEW_OWN)

    @property
    def may_erase(self) -> bool:
        """Whether the person erases others' data from the security log, as `audit` asks: an owner."""
        return self.may(Permission.ORGANIZATION_OWN)

    @property
    def may_change_webhooks(self) -> bool:
        """Whether the person sees and changes the organization's webhooks, as `audit` asks."""
        return self.may(Permission.ORGANIZATION_CONFIGURE)


def role_at(held: Sequence[Grant], project: Project) -> Role | None:
    """Return the highest of some grants' roles that holds at a project; None where none does."""
    return highest(grant.role for grant in held if project.path.startswith(grant.path))


def grants(memberships: Sequence[Membership]) -> tuple[Grant, ...]:
    """Return the grants of one person's memberships in one organization."""
    return tuple(Grant(Role(m.role), m.project.path if m.project else "") for m in memberships)
