"""The demo's people: their accounts, their places, and themselves as the actors of what the demo did."""

import secrets
import string
from dataclasses import dataclass, field

from audit import tenancy
from audit.actors import Actor
from keys.callers import Caller, of_member
from orgs import services
from orgs.members import Member, grants
from orgs.models import Membership, Organization, Project, User
from orgs.roles import Role

ALPHABET = string.ascii_lowercase + string.digits
NETWORK = "198.51.100."


@dataclass(frozen=True, slots=True)
class SignIn:
    """What `demo.json` tells of a person. Secret."""

    email: str
    password: str = field(repr=False)
    role: str
    organization: str


def new_password() -> str:
    """Return a password to type: four groups of five, about 103 bits."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(4))


def create(
    email: str, name: str, *, actor: Actor, is_superuser: bool = False, staff_role: str = ""
) -> tuple[User, str]:
    """Make an account; return it with its password. Secret."""
    password = new_password()
    user = services.create_user(
        email, actor=actor, name=name, password=password, is_superuser=is_superuser, staff_role=staff_role
    )
    return user, password


def join(user: User, role: Role, *, by: Member, project: Project | None = None) -> None:
    """Make somebody a member as everybody becomes one: invited by a member, accepted by themselves."""
    invited = services.invite_member(user.email, role, actor=by, project=project)
    services.accept_invitation(bytes(invited.invitation.digest), user, actor=identity(user))


def identity(user: User) -> Actor:
    """Return a person as the ledgers know them, at an address of the documentation's network."""
    return Actor(
        id=user.id,
        name=user.name,
        email=user.email,
        ip=f"{NETWORK}{1 + sum(user.id.encode()) % 250}",
        user_agent="Keystead demo data",
    )


def member(user: User, organization: Organization) -> Member:
    """Return a person as the actor of services in an organization."""
    with tenancy.within(organization.id):
        own = list(Membership.objects.filter(organization=organization, user=user).select_related("project"))
    who = identity(user)
    return Member(
        id=who.id,
        name=who.name,
        email=who.email,
        ip=who.ip,
        user_agent=who.user_agent,
        user=user,
        organization=organization,
        project=None,
        grants=grants(own),
    )


def caller(user: User, organization: Organization) -> Caller:
    """Return a person as the caller of the key services, just confirmed by their password."""
    return of_member(member(user, organization), has_stepped_up=True)
