"""Roles, and what each may do: spec/PEOPLE.md *Roles*, spec/KEYS.md §4.

Pure: no role is looked up here, only judged. Everything denies by default: a role that is missing (`None`)
may nothing, and a permission that is not in the table of a role is refused.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """A role at an organization or a project, declared from the highest rank to the lowest."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    AUDITOR = "auditor"
    VIEWER = "viewer"

    @property
    def rank(self) -> int:
        """Return the rank: 5 for an owner down to 1 for a viewer."""
        return len(_LOWEST_LAST) - _LOWEST_LAST.index(self)


class Risk(StrEnum):
    """How much harm a scope can do, from the least to the most."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Permission(StrEnum):
    """What the portal asks a role for. A closed vocabulary: names are never changed or reused."""

    KEYS_VIEW = "keys.view"
    KEYS_CHANGE = "keys.change"
    KEYS_BREAK_GLASS = "keys.break_glass"
    ORGANIZATION_CONFIGURE = "organization.configure"
    ORGANIZATION_OWN = "organization.own"
    MEMBERS_CHANGE = "members.change"
    OWNERS_CHANGE = "owners.change"
    LOG_VIEW = "log.view"
    LOG_VIEW_OWN = "log.view_own"
    APPROVALS_GRANT = "approvals.grant"


_LOWEST_LAST: Final = tuple(Role)
_NO_RISK: Final[frozenset[Risk]] = frozenset()
EVERY_RISK: Final = frozenset(Risk)

_CEILINGS: Final = {
    Role.OWNER: EVERY_RISK,
    Role.ADMIN: EVERY_RISK,
    Role.DEVELOPER: frozenset({Risk.READ, Risk.WRITE}),
    Role.AUDITOR: frozenset({Risk.READ}),
    Role.VIEWER: frozenset({Risk.READ}),
}

_DEVELOPER: Final = frozenset({Permission.KEYS_VIEW, Permission.KEYS_CHANGE, Permission.LOG_VIEW_OWN})
_OWNERS_ALONE: Final = frozenset({Permission.OWNERS_CHANGE, Permission.ORGANIZATION_OWN})

_PERMISSIONS: Final = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(Permission) - _OWNERS_ALONE,
    Role.DEVELOPER: _DEVELOPER,
    Role.AUDITOR: frozenset({Permission.KEYS_VIEW, Permission.LOG_VIEW, Permission.LOG_VIEW_OWN}),
    Role.VIEWER: frozenset({Permission.KEYS_VIEW}),
}


def highest(roles: Iterable[Role]) -> Role | None:
    """Return the role of the highest rank, or None of no roles at all.

    Rank is not inclusion: an auditor reads the whole security log and a developer does not. Whoever holds
    several roles is asked for each of them where that matters.
    """
    return max(roles, key=lambda role: role.rank, default=None)


def ceiling(role: Role | None) -> frozenset[Risk]:
    """Return the risks that a key may use while its owner has this role (KEYS §4).

    None, an owner without standing, gives the empty set: a key never outlives its owner's standing.
    """
    return _NO_RISK if role is None else _CEILINGS[role]


def grantable(role: Role | None) -> frozenset[Risk]:
    """Return the risks of the scopes that this role may put on a key.

    Not the same as `ceiling`: an auditor's key may read, but an auditor makes no keys.
    """
    return ceiling(role) if may(role, Permission.KEYS_CHANGE) else _NO_RISK


def may(role: Role | None, permission: Permission) -> bool:
    """Tell whether the role has the permission.

    Whose keys (a developer's own and its projects') and which projects is for the caller to narrow:
    the table says only what a role may do somewhere.
    """
    return role is not None and permission in _PERMISSIONS[role]
