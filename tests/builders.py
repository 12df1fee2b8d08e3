"""What tests begin with: people and organizations, made by the services as the product makes them."""

import itertools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.core.cache import cache
from django.test import Client

from audit import tenancy
from audit.actors import Actor
from audit.acts import Act
from audit.entry import ParsedEntry
from audit.models import Entry
from orgs import ids, services
from orgs.members import Member, grants
from orgs.models import Environment, Membership, Organization, Plan, Project, User
from orgs.roles import Role

PASSWORD = "correct horse battery staple"
OPERATOR = Actor(id="sys_tests")

_numbers = itertools.count(1)
_run = secrets.token_hex(3)


def unique(word: str) -> str:
    """Return a slug that nothing else has."""
    return f"{word}-{_run}-{next(_numbers)}"


def plan() -> Plan:
    """Return the plan that the first migration makes."""
    return Plan.objects.get(slug="standard")


def person(name: str = "Somebody", *, staff_role: str = "", is_superuser: bool = False) -> User:
    """Make an account with an address of its own and the password `PASSWORD`."""
    email = f"{unique(name.lower().replace(' ', '.'))}@example.com"
    return services.create_user(
        email, actor=OPERATOR, name=name, password=PASSWORD, staff_role=staff_role, is_superuser=is_superuser
    )


def organization(name: str = "Acme", *, owner: User | None = None) -> Organization:
    """Make an organization with its root project and production environment, owned by `owner`."""
    return services.create_organization(name, actor=OPERATOR, slug=unique("org"), plan=plan(), owner=owner)


def agree(where: Organization, **overrides: object) -> None:
    """Agree with an organization to terms of its own: `rate_limit`, `monthly_quota`, `key_cap`, `entitlements`."""
    services.change_overrides(where, overrides, actor=OPERATOR)


def join(user: User, where: Organization, role: Role, project: Project | None = None) -> Membership:
    """Make somebody a member by an owner's invitation, as the pages do."""
    owner = _an_owner(where)
    invited = services.invite_member(user.email, role, actor=member(owner, where), project=project)
    return services.accept_invitation(bytes(invited.invitation.digest), user, actor=as_actor(user))


def member(user: User, where: Organization, *, project: Project | None = None) -> Member:
    """Return somebody as the actor of services in one organization."""
    with tenancy.within(where.id):
        own = list(Membership.objects.filter(organization=where, user=user).select_related("project"))
    return Member(
        id=user.id,
        name=user.name,
        email=user.email,
        ip="192.0.2.1",
        user_agent="tests",
        request_id="req_tests",
        user=user,
        organization=where,
        project=project,
        grants=grants(own),
    )


def as_actor(user: User) -> Actor:
    """Return somebody as the actor of what belongs to no organization."""
    return Actor(id=user.id, name=user.name, email=user.email)


def root(where: Organization) -> Project:
    """Return an organization's first project."""
    with tenancy.within(where.id):
        return Project.objects.get(organization=where, parent=None)


def production(where: Organization) -> Environment:
    """Return an organization's first environment."""
    with tenancy.within(where.id):
        return Environment.objects.get(organization=where, slug="production")


def environment(where: Organization, mode: str = "test") -> Environment:
    """Make another environment, of test mode unless told."""
    slug = unique("env")
    return services.create_environment(
        where, slug, actor=OPERATOR, name=slug.capitalize(), mode=mode, is_production=False
    )


def project(parent: Project, name: str = "") -> Project:
    """Make a project below another."""
    return services.create_project(parent, name or unique("Project"), actor=OPERATOR)


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Everybody that tests speak of. `anna` is an admin; `mallory` owns `elsewhere` and is a stranger to `acme`."""

    acme: Organization
    elsewhere: Organization
    alice: User
    anna: User
    bob: User
    carol: User
    vera: User
    dave: User
    mallory: User

    def member(self, user: User) -> Member:
        """Return one of them as the actor in their organization."""
        return member(user, self.elsewhere if user == self.mallory else self.acme)


def cast() -> Cast:
    """Make everybody afresh: alice owns, anna is admin, bob develops, carol audits, vera views, dave is support."""
    alice, mallory = person("Alice"), person("Mallory")
    acme, elsewhere = organization("Acme", owner=alice), organization("Elsewhere", owner=mallory)
    others = {}
    for name, role in (
        ("anna", Role.ADMIN),
        ("bob", Role.DEVELOPER),
        ("carol", Role.AUDITOR),
        ("vera", Role.VIEWER),
    ):
        others[name] = person(name.capitalize())
        join(others[name], acme, role)
    dave = person("Dave", staff_role="support")
    return Cast(acme=acme, elsewhere=elsewhere, alice=alice, mallory=mallory, dave=dave, **others)


def signed_in(user: User, *, password: str = PASSWORD) -> Client:
    """Return a browser in which somebody has just signed in on the sign-in page, and so has stepped up."""
    # One of the cast signs in more often than a person may.
    cache.clear()
    client = Client(HTTP_USER_AGENT="tests")
    response = client.post("/login", {"login": user.email, "password": password})
    assert response.status_code == 302, response.content.decode()
    return client


def entries(organization_id: str, *, since: tuple[int, int] | None = None) -> list[ParsedEntry]:
    """Return every entry of an organization's ledger after a place, in order."""
    with tenancy.within(organization_id):
        found = Entry.objects.of(organization_id).after(*(since or (0, 0))).oldest_first()
        return [entry.parsed() for entry in found]


@contextmanager
def gains(organization_id: str, *acts: str) -> Iterator[list[ParsedEntry]]:
    """Assert that the block appends exactly these acts to a ledger; the list that it yields then holds the entries.

    That a ledger opens is not of them: the operator's does with whichever test comes first.
    """
    with tenancy.within(organization_id):
        newest = Entry.objects.of(organization_id).newest_first().first()
    gained: list[ParsedEntry] = []
    yield gained
    since = newest and newest.place
    gained += [entry for entry in entries(organization_id, since=since) if entry.act != Act.LEDGER_OPENED]
    assert [entry.act for entry in gained] == list(acts)


def new_id(prefix: str) -> str:
    """Return an id of the right form that nothing has."""
    return ids.new(prefix)


def _an_owner(where: Organization) -> User:
    with tenancy.within(where.id):
        return Membership.objects.filter(organization=where, role=Role.OWNER).select_related("user")[0].user
