"""The matrix: every address by every role, with an expectation in every cell. An address without a row fails."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from audit import services as audit_services
from audit import tenancy
from audit.models import Delivery, Endpoint, Export
from keys import callers, services
from keys.listing import Filters
from keys.secret import Kind
from orgs import services as org_services
from orgs.roles import Role
from tests import builders, exports, key_builders
from tests import governance_builders as gov

ROLES = ("owner", "admin", "developer", "auditor", "viewer", "stranger", "anonymous")
# What a cell says: let in · forbidden (403) · not found (404) · method not allowed · sent to sign in.
IN, FORBIDDEN, MISSING, METHOD, SIGN_IN = "o", "f", "n", "m", "l"

# url name: (GET by role, POST by role), in the order of ROLES. A stranger owns another organization, so that pages
# of one's own organization let them in, and every object of this one is not there.
MATRIX = {
    "healthz": ("ooooooo", "mmmmmmm"),
    "readyz": ("ooooooo", "mmmmmmm"),
    # The demo's alone: see test_mailbox.
    "mailbox": ("nnnnnnn", "mmmmmmm"),
    "mailbox_message": ("nnnnnnn", "mmmmmmm"),
    "account_login": ("ooooooo", "ooooooo"),
    "account_logout": ("ooooooo", "ooooooo"),
    "account_change_password": ("ooooool", "ooooool"),
    "account_reauthenticate": ("ooooool", "ooooool"),
    "orgs:invitation": ("nnnnnnn", "mmmmmmm"),
    "orgs:join": ("nnnnnnn", "nnnnnnn"),
    "orgs:join_new": ("mmmmmmm", "nnnnnnn"),
    "orgs:settings": ("ooooool", "mmmmmml"),
    "orgs:organization": ("ooooool", "oofffol"),
    "orgs:members": ("ooooool", "mmmmmml"),
    "orgs:invite": ("oofffol", "oofffol"),
    "orgs:member_change": ("oofffnl", "oofffnl"),
    "orgs:member_remove": ("oofffnl", "oofffnl"),
    "orgs:invitation_withdraw": ("mmmmmml", "oofffnl"),
    "orgs:projects": ("ooooool", "mmmmmml"),
    "orgs:project_create": ("oofffnl", "oofffnl"),
    "orgs:project_rename": ("oofffnl", "oofffnl"),
    "orgs:project_scopes": ("oofffnl", "oofffnl"),
    "orgs:project_archive": ("oofffnl", "oofffnl"),
    "orgs:environments": ("ooooool", "mmmmmml"),
    "orgs:environment_create": ("oofffol", "oofffol"),
    "orgs:environment_rename": ("oofffnl", "oofffnl"),
    "orgs:environment_archive": ("oofffnl", "oofffnl"),
    "orgs:switch_organization": ("mmmmmml", "nnnnnnl"),
    "orgs:switch_project": ("mmmmmml", "ooooool"),
    "audit:log": ("oooonol", "mmmmmml"),
    "audit:entry": ("oononol", "mmmmmml"),
    "audit:entry_proof": ("oononol", "mmmmmml"),
    "audit:entry_leaf": ("oononol", "mmmmmml"),
    "audit:erase": ("offffol", "offffol"),
    "audit:erasure": ("offffnl", "mmmmmml"),
    "audit:checking": ("oooonol", "mmmmmml"),
    "audit:checking_program": ("oooonol", "mmmmmml"),
    "audit:support_access": ("oononol", "mmmmmml"),
    # To all but support staff (test_support_visits) they are not there.
    "audit:support": ("nnnnnnl", "nnnnnnl"),
    "audit:support_begin": ("nnnnnnl", "nnnnnnl"),
    "audit:support_end": ("nnnnnnl", "nnnnnnl"),
    "audit:support_leave": ("nnnnnnl", "nnnnnnl"),
    "audit:support_open": ("nnnnnnl", "nnnnnnl"),
    "audit:exports": ("oofofol", "oofofol"),
    "audit:export_confirm": ("oofofol", "mmmmmml"),
    "audit:export_download": ("oofofnl", "mmmmmml"),
    "audit:export_remove": ("mmmmmml", "oofofnl"),
    "audit:webhooks": ("oofffol", "mmmmmml"),
    "audit:webhook_create": ("oofffol", "oofffol"),
    "audit:webhook": ("oofffnl", "mmmmmml"),
    "audit:webhook_edit": ("oofffnl", "oofffnl"),
    "audit:webhook_rotate": ("oofffnl", "oofffnl"),
    "audit:webhook_disable": ("mmmmmml", "oofffnl"),
    "audit:webhook_enable": ("mmmmmml", "oofffnl"),
    "audit:webhook_test": ("mmmmmml", "oofffnl"),
    "audit:webhook_resend": ("oofffnl", "oofffnl"),
    "audit:webhook_delivery": ("oofffnl", "mmmmmml"),
    "audit:webhook_delivery_resend": ("mmmmmml", "oofffnl"),
    "audit:webhook_remove": ("oofffnl", "oofffnl"),
    "keys:list": ("ooooool", "mmmmmml"),
    "keys:search": ("mmmmmml", "ooooool"),
    "keys:bulk": ("mmmmmml", "oooffol"),
    "keys:csv": ("ooooool", "mmmmmml"),
    "keys:hygiene": ("ooooool", "mmmmmml"),
    "keys:drop_scopes": ("mmmmmml", "oooffnl"),
    "keys:new": ("oooffol", "oooffol"),
    "keys:preview": ("mmmmmml", "oooffol"),
    "keys:detail": ("ooooonl", "mmmmmml"),
    "keys:usage": ("ooooool", "mmmmmml"),
    "keys:usage_csv": ("ooooool", "mmmmmml"),
    "keys:key_usage": ("ooooonl", "mmmmmml"),
    "keys:activity": ("ooooonl", "mmmmmml"),
    "keys:access": ("ooooonl", "mmmmmml"),
    "keys:edit": ("oooffnl", "oooffnl"),
    "keys:edit_scopes": ("oooffnl", "oooffnl"),
    "keys:edit_limits": ("oooffnl", "oooffnl"),
    "keys:edit_rotation": ("oooffnl", "oooffnl"),
    "keys:approvals": ("ooooool", "mmmmmml"),
    "keys:approval": ("ooooonl", "mmmmmml"),
    # A key of Bob asks. Whoever has not the role is refused: it is not hidden from them.
    "keys:approval_grant": ("mmmmmml", "oofffnl"),
    "keys:approval_deny": ("mmmmmml", "oofffnl"),
    "keys:approval_new": ("oooffol", "oooffol"),
    "keys:execution": ("ooooonl", "mmmmmml"),
    "keys:trail": ("ooooool", "mmmmmml"),
    "keys:bind": ("oooffnl", "oooffnl"),
    "keys:rotate": ("oooffnl", "oooffnl"),
    "keys:rotate_preview": ("mmmmmml", "oooffnl"),
    "keys:rotations": ("ooooool", "mmmmmml"),
    "keys:rotation": ("ooooonl", "mmmmmml"),
    "keys:rotation_complete": ("oooffnl", "oooffnl"),
    "keys:rotation_cancel": ("oooffnl", "oooffnl"),
    "keys:revoke": ("oooffnl", "oooffnl"),
    "keys:disable": ("mmmmmml", "oooffnl"),
    "keys:enable": ("mmmmmml", "oooffnl"),
    "keys:break_glass": ("oofffol", "oofffol"),
    "keys:break_glass_impact": ("oofffol", "mmmmmml"),
    "keys:incidents": ("ooooool", "mmmmmml"),
    "keys:incident": ("ooooonl", "mmmmmml"),
    "keys:incident_csv": ("ooooonl", "mmmmmml"),
    "keys:policies": ("oofffol", "oofffol"),
    "keys:recipients": ("oofffol", "mmmmmml"),
    "keys:recipient_register": ("oofffol", "oofffol"),
    "keys:recipient_confirm": ("oofffnl", "oofffnl"),
    "keys:recipient_remove": ("oofffnl", "oofffnl"),
    "keys:scopes": ("ooooool", "mmmmmml"),
    "keys:plan": ("ooooool", "mmmmmml"),
}
# Walked elsewhere: the admin site (test_admin), the API (tests/api).
ELSEWHERE = ("admin/", "v1/")


@dataclass(frozen=True)
class World:
    cast: builders.Cast
    clients: dict[str, Client]
    key_id: str


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker) -> Iterator[World]:
    with django_db_blocker.unblock():
        yield world_of()


def world_of() -> World:
    """Make a cast with a browser for each role, and a key."""
    cast = builders.cast()
    actor = cast.member(cast.alice)
    with tenancy.within(cast.acme.id):
        made = services.create_key(
            services.Draft(
                kind=Kind.CONTROL_PLANE,
                name=builders.unique("key"),
                project=builders.root(cast.acme),
                environment=builders.production(cast.acme),
                scopes=["keys:read"],
            ),
            actor=callers.of_member(actor),
        )
    people = {
        "owner": cast.alice,
        "admin": cast.anna,
        "developer": cast.bob,
        "auditor": cast.carol,
        "viewer": cast.vera,
        "stranger": cast.mallory,
    }
    clients = {role: builders.signed_in(user) for role, user in people.items()} | {"anonymous": Client()}
    return World(cast, clients, made.key.id)


def _membership(cast: builders.Cast) -> str:
    newcomer = builders.person("Newcomer")
    return builders.join(newcomer, cast.acme, Role.VIEWER).id


def _invitation(cast: builders.Cast) -> str:
    email = f"{builders.unique('new')}@example.com"
    return org_services.invite_member(email, Role.VIEWER, actor=cast.member(cast.alice)).invitation.id


def _rotation(cast: builders.Cast) -> str:
    made = key_builders.create(cast.acme, cast.alice, scopes=["keys:read"])
    return key_builders.rotate(made.key, cast.acme, cast.alice).rotation.id


def _webhook(cast: builders.Cast) -> str:
    """Make one with a delivery, in place of the one before."""
    alice = cast.member(cast.alice)
    with tenancy.within(cast.acme.id):
        Endpoint.objects.all().delete()
        made = audit_services.create_endpoint(cast.acme.id, "https://1.1.1.1/hook", ["key.*"], actor=alice)
        audit_services.send_test_event(made.endpoint, actor=alice)
    return made.endpoint.id


def _export(cast: builders.Cast) -> str:
    """Make one, in place of those before."""
    with tenancy.within(cast.acme.id):
        Export.objects.all().delete()
    return exports.make(exports.request(cast.acme.id)).id


def _delivery(cast: builders.Cast) -> str:
    with tenancy.within(cast.acme.id):
        return Delivery.objects.get().id


def _approval(cast: builders.Cast) -> str:
    return gov.request(gov.bound_key(cast.acme, cast.bob).key).id


def _execution(cast: builders.Cast) -> str:
    key = gov.bound_key(cast.acme, cast.bob).key
    return gov.execute(key, gov.granted(cast.acme, key, cast.alice)).id


def _incident(cast: builders.Cast) -> str:
    key = key_builders.create(cast.acme, cast.alice, scopes=["keys:read"]).key
    caller = callers.of_member(cast.member(cast.alice), has_stepped_up=True)
    filters = Filters(organization_id=cast.acme.id, search=key.id)
    with tenancy.within(cast.acme.id):
        return services.break_glass(filters, actor=caller, reason="stolen").incident.id


def _erasure(cast: builders.Cast) -> str:
    alice = cast.member(cast.alice)
    return audit_services.erase_person(cast.acme.id, "usr_nobody", actor=alice).id


# What an address names, made afresh for each walk: some are used up by an empty form.
ARGUMENTS = {
    "key_id": lambda world: world.key_id,
    "approval_id": lambda world: _approval(world.cast),
    "execution_id": lambda world: _execution(world.cast),
    "membership_id": lambda world: _membership(world.cast),
    "invitation_id": lambda world: _invitation(world.cast),
    "recipient_id": lambda world: key_builders.recipient(world.cast.acme, world.cast.alice).recipient.id,
    "rotation_id": lambda world: _rotation(world.cast),
    "project_id": lambda world: builders.project(builders.root(world.cast.acme)).id,
    "environment_id": lambda world: builders.environment(world.cast.acme).id,
    "endpoint_id": lambda world: _webhook(world.cast),
    "export_id": lambda world: _export(world.cast),
    "delivery_id": lambda world: _delivery(world.cast),
    "erasure_id": lambda world: _erasure(world.cast),
    "incident_id": lambda world: _incident(world.cast),
    "organization_id": lambda world: world.cast.acme.id,
    "token": lambda _: "not-a-token",
    "place": lambda _: (1, 1),
    "name": lambda _: "1-1-1",
}


def names() -> set[str]:
    return {name for name, _ in _patterns(get_resolver())}


def _letter(response) -> str:
    response.close()
    if response.status_code in {301, 302, 303} and response["Location"].startswith("/login?"):
        return SIGN_IN
    return {403: FORBIDDEN, 404: MISSING, 405: METHOD}.get(
        response.status_code, IN if response.status_code < 500 else "!"
    )


def _path(world: World, name: str) -> str:
    pattern = next(p for p in _patterns(get_resolver()) if p[0] == name)[1]
    return reverse(name, kwargs={key: ARGUMENTS[key](world) for key in pattern.pattern.converters})


def _patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        if str(pattern.pattern).startswith(ELSEWHERE):
            continue
        if isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}", pattern
        else:
            yield from _patterns(pattern, f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix)


def test_every_address_has_its_row():
    assert names() == set(MATRIX)


@pytest.mark.parametrize("name", sorted(MATRIX))
def test_reading(world, name):
    path = _path(world, name)
    if name == "account_logout":
        return
    found = "".join(_letter(world.clients[role].get(path)) for role in ROLES)
    assert found == MATRIX[name][0]


@pytest.mark.parametrize("name", sorted(set(MATRIX) - {"account_login", "account_logout"}))
def test_changing(world, name):
    """Whoever may not send an empty form is refused before it is looked at."""
    found = "".join(_letter(world.clients[role].post(_path(world, name))) for role in ROLES)
    assert found == MATRIX[name][1]
