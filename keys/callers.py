"""Who asks the key services, a person or a key, and the most that they may give (spec KEYS §3)."""

from dataclasses import dataclass, fields
from typing import Any

from audit.actors import Actor
from keys.models import ApiKey
from keys.policy import Bounds, Given
from keys.secret import Mode
from orgs.members import Member
from orgs.models import Project
from orgs.roles import Permission, Role, grantable


@dataclass(frozen=True, slots=True)
class Presented:
    """The key that authenticates a call to the API: which version of its secret, and the scopes that count of it."""

    key: ApiKey
    version: int
    project: Project
    mode: Mode
    scopes: tuple[str, ...]
    is_operator: bool


@dataclass(frozen=True, kw_only=True)
class Caller(Actor):
    """Somebody who asks for a change to keys: exactly one of `member` and `presented` is set.

    `has_stepped_up`: the person confirmed their password within the last five minutes.
    """

    member: Member | None = None
    presented: Presented | None = None
    has_stepped_up: bool = False

    @property
    def is_person(self) -> bool:
        """Whether a person acts, which restarts the clock of self-rotation."""
        return self.member is not None

    def reaches(self, project: Project) -> bool:
        """Return whether the caller may change keys at a project at all."""
        if self.member is not None:
            return self.member.may(Permission.KEYS_CHANGE, project)
        if self.presented is None:
            return False
        return self.presented.is_operator or self.presented.project.id in project.ancestors

    def bounds(self, project: Project) -> Bounds:
        """Return the most that the caller may give to a key of `project`."""
        if self.member is not None:
            is_owner = self.member.organization_role is Role.OWNER
            return Bounds.of_person(
                grantable(self.member.role_at(project)),
                may_break_glass=is_owner and self.has_stepped_up,
                exceeds_plan=self.member.user.is_superuser,
            )
        if self.presented is None:
            return Bounds.of_person(frozenset())
        key = self.presented.key
        return Bounds.of_key(
            scopes=self.presented.scopes,
            project_id=None if self.presented.is_operator else self.presented.project.id,
            mode=self.presented.mode,
            networks=tuple(key.allowed_ips),
            expires_at=key.expires_at,
            limit=None if self.presented.is_operator else _limit_of(key.id),
        )


def _limit_of(key_id: str) -> Given:
    """Return what a presented key has been given: as it is now, and its tier's quota with it."""
    return ApiKey.objects.select_related("tier").get(pk=key_id).limit


def of_member(member: Member, *, has_stepped_up: bool = False) -> Caller:
    """Return the signed-in person as a caller."""
    identity: dict[str, Any] = {field.name: getattr(member, field.name) for field in fields(Actor)}
    return Caller(**identity, member=member, has_stepped_up=has_stepped_up)


def of_key(presented: Presented, *, ip: str, user_agent: str, request_id: str) -> Caller:
    """Return a presented key as a caller; its name is no personal data, so nothing but the address is sealed."""
    return Caller(
        id=presented.key.id, ip=ip, user_agent=user_agent, request_id=request_id, presented=presented
    )
