"""No page and no form changes anything without an entry: every address that takes a form is sent one that works.

Whether something changed is asked of the database (`tests.watching`), not of the page.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.webhooks.forms import new_token
from orgs import services as org_services
from orgs.models import User
from orgs.roles import Role
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api.calls import as_superuser
from tests.web import test_access as matrix

WHY = {"reason": "Case 4711: a key stopped working", "minutes": "60"}
NEW_PASSWORD = "a-staple-of-another-kind"
REFUSED = 400


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A form that is sent by somebody who may; `wrong` is one that they may send, and that is refused at its fields.

    Where there is nothing to fill in there is nothing to get wrong.
    """

    client: Client
    path: str
    form: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, Any] = field(default_factory=dict)


type Row = Callable[["World"], Ask]


@dataclass(frozen=True)
class World(matrix.World):
    """The matrix's cast and browsers, one of support staff, and what makes objects."""

    @property
    def alice(self) -> Client:
        return self.clients["owner"]

    def key(self, **changes: Any) -> str:
        return key_builders.create(self.cast.acme, self.cast.alice, **changes).key.id

    def member(self, role: Role = Role.VIEWER) -> tuple[User, str]:
        newcomer = builders.person("Newcomer")
        return newcomer, builders.join(newcomer, self.cast.acme, role).id

    def invited(self, email: str) -> Client:
        """Return a browser that has followed an invitation's link."""
        made = org_services.invite_member(email, Role.VIEWER, actor=self.cast.member(self.cast.alice))
        client = Client()
        assert client.get(reverse("orgs:invitation", args=[made.token])).status_code == 303
        return client

    def staff(self) -> Client:
        return builders.signed_in(builders.person("Support", staff_role="support"))


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker) -> World:
    with django_db_blocker.unblock():
        made = matrix.world_of()
        return World(made.cast, made.clients, made.key_id)


def by_owner(name: str, form: dict[str, Any] | None = None, *wrong: dict[str, Any]) -> Row:
    """Return the row of a form that an owner sends, to the objects that the matrix makes."""

    def row(world: World) -> Ask:
        return Ask(client=world.alice, path=matrix._path(world, name), form=form or {}, wrong=(*wrong, {})[0])

    return row


def of_key(
    name: str, form: dict[str, Any] | None = None, wrong: dict[str, Any] | None = None, **made: Any
) -> Row:
    """Return the row of a form about a fresh key."""

    def row(world: World) -> Ask:
        path = reverse(f"keys:{name}", args=[world.key(**made)])
        return Ask(client=world.alice, path=path, form=form or {}, wrong=wrong or {})

    return row


def _key_new(world: World) -> Ask:
    return Ask(
        client=world.alice,
        path=reverse("keys:new"),
        form=key_builders.form(world.cast.acme, world.alice),
    )


def _rotate(world: World) -> Ask:
    path = reverse("keys:rotate", args=[world.key()])
    token = key_builders.token(world.alice, path)
    return Ask(
        client=world.alice,
        path=path,
        form={"token": token, "version": "1", "mode": "grace", "grace": "86400"},
    )


def _bulk(action: str, **answers: str) -> Row:
    def row(world: World) -> Ask:
        keys = {"action": action, "key": [world.key(), world.key()]}
        return Ask(
            client=world.alice,
            path=reverse("keys:bulk"),
            form={**keys, "confirmed": "1", **answers},
            # What asks before it does.
            wrong=keys,
        )

    return row


def _drop_scopes(world: World) -> Ask:
    key_id = world.key(scopes=["incidents:read", "incidents:write"])
    as_superuser("UPDATE keys_apikey SET created_at = now() - interval '100 days' WHERE id = %s", key_id)
    return Ask(
        client=world.alice,
        path=reverse("keys:drop_scopes", args=[key_id]),
        form={"days": "30", "scopes": ["incidents:write"]},
        wrong={"days": "30", "scopes": ["incidents:*"]},
    )


def _enable(world: World) -> Ask:
    key_id = world.key()
    assert world.alice.post(reverse("keys:disable", args=[key_id]), {"minutes": ""}).status_code == 303
    return Ask(client=world.alice, path=reverse("keys:enable", args=[key_id]))


def _bind(world: World) -> Ask:
    return Ask(
        client=world.alice,
        path=reverse(
            "keys:bind", args=[gov.bound_key(world.cast.acme, world.cast.bob, approval_bound=False).key.id]
        ),
    )


def _approval_new(world: World) -> Ask:
    asked = {"key": gov.bound_key(world.cast.acme, world.cast.bob).key.id, "scope": "incidents:write"}
    asked |= {"parameters": '{"to": "db-8"}', "reason": "INC-7", "valid": "3600", "uses": "2"}
    return Ask(
        client=world.alice,
        path=reverse("keys:approval_new"),
        form=asked,
        wrong={**asked, "uses": "0"},
    )


def _break_glass(world: World) -> Ask:
    project = builders.project(builders.root(world.cast.acme))
    world.key(project=project)
    return Ask(
        client=world.alice,
        path=reverse("keys:break_glass"),
        form={"filter": f"project={project.id}", "reason": "Laptop stolen"},
        wrong={"filter": f"project={project.id}", "reason": ""},
    )


def _policies(world: World) -> Ask:
    form = world.alice.get(reverse("keys:policies")).context["form"]
    shown = {name: form[name].value() for name in form.fields}
    kept = {name: "on" if value is True else value for name, value in shown.items() if value is not False}
    return Ask(
        client=world.alice,
        path=reverse("keys:policies"),
        form={**kept, "service_max_days": str(shown["service_max_days"] - 1)},
        wrong={**kept, "service_max_days": "0"},
    )


def _recipient_register(world: World) -> Ask:
    public_key = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    return Ask(
        client=world.alice,
        path=reverse("keys:recipient_register"),
        form={"name": "vault", "public_key": public_key},
        wrong={"name": "vault", "public_key": "AAAA"},
    )


def _recipient_confirm(world: World) -> Ask:
    heir, membership_id = world.member(Role.ADMIN)
    found = key_builders.recipient(world.cast.acme, heir, "laptop").recipient
    world.alice.post(reverse("orgs:member_change", args=[membership_id]), {"role": "viewer"})
    return Ask(client=world.alice, path=reverse("keys:recipient_confirm", args=[found.id]))


def _organization(world: World) -> Ask:
    return Ask(
        client=world.alice,
        path=reverse("orgs:organization"),
        form={"name": builders.unique("Acme"), "slug": builders.unique("acme")},
        wrong={"name": "Acme", "slug": world.cast.elsewhere.slug},
    )


def _invite(world: World) -> Ask:
    return Ask(
        client=world.alice,
        path=reverse("orgs:invite"),
        form={"email": f"{builders.unique('new')}@example.com", "role": "viewer"},
        wrong={"email": "nobody", "role": "viewer"},
    )


def _environment_create(world: World) -> Ask:
    slug = builders.unique("env")
    return Ask(
        client=world.alice,
        path=reverse("orgs:environment_create"),
        form={"name": slug, "slug": slug, "mode": "test"},
        wrong={"name": slug, "slug": "production", "mode": "test"},
    )


def _join(world: World) -> Ask:
    user = builders.person("Kim")
    client = world.invited(user.email)
    client.post("/login", {"login": user.email, "password": builders.PASSWORD})
    return Ask(client=client, path=reverse("orgs:join"))


def _join_new(world: World) -> Ask:
    return Ask(
        client=world.invited(f"{builders.unique('nina')}@example.com"),
        path=reverse("orgs:join_new"),
        form={"name": "Nina", "password": NEW_PASSWORD},
        wrong={"name": "Nina", "password": "short"},
    )


def _password(_: World) -> Ask:
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    return Ask(
        client=builders.signed_in(builders.person("Pat")),
        path=reverse("account_change_password"),
        form={"oldpassword": builders.PASSWORD, **passwords},
        wrong={"oldpassword": "another one", **passwords},
    )


def _erase(world: World) -> Ask:
    newcomer, _ = world.member()
    return Ask(
        client=world.alice,
        path=reverse("audit:erase"),
        form={"who": newcomer.email, "confirmation": newcomer.email, "with_notes": "on"},
        wrong={"who": newcomer.email, "confirmation": ""},
    )


def _erase_nobody(world: World) -> Ask:
    """Of somebody of whom there is nothing the request is kept all the same."""
    nobody = f"{builders.unique('nobody')}@example.com"
    form = {"who": nobody, "confirmation": nobody}
    return Ask(
        client=world.alice, path=reverse("audit:erase"), form=form, wrong={**form, "confirmation": "x"}
    )


def _support_begin(world: World) -> Ask:
    return Ask(
        client=world.staff(), path=reverse("audit:support_begin"), form=WHY, wrong={**WHY, "reason": "x"}
    )


def _support_end(world: World) -> Ask:
    client = world.staff()
    assert client.post(reverse("audit:support_begin"), WHY).status_code == 303
    return Ask(client=client, path=reverse("audit:support_end"))


def _support_open(world: World) -> Ask:
    path = reverse("audit:support_open", args=[world.cast.elsewhere.id])
    return Ask(client=world.staff(), path=path, form=WHY, wrong={**WHY, "minutes": "1"})


def _support_leave(world: World) -> Ask:
    client = world.staff()
    opened = client.post(reverse("audit:support_open", args=[world.cast.elsewhere.id]), WHY)
    assert opened.status_code == 303
    return Ask(client=client, path=reverse("audit:support_leave"))


def _webhook_form(name: str) -> Row:
    def row(world: World) -> Ask:
        form = {"url": "https://1.1.1.1:8443/x", "acts": ["member.*"], "token": new_token()}
        path = matrix._path(world, name)
        return Ask(client=world.alice, path=path, form=form, wrong={**form, "url": "https://127.0.0.1/"})

    return row


def _webhook_enable(world: World) -> Ask:
    path = matrix._path(world, "audit:webhook_enable")
    assert world.alice.post(path.replace("enable", "disable")).status_code == 303
    return Ask(client=world.alice, path=path)


def _webhook_resend(world: World) -> Ask:
    path = matrix._path(world, "audit:webhook_resend")
    world.key()
    now = timezone.now()
    times = {"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)}
    form = {name: f"{at:%Y-%m-%dT%H:%M:%S}" for name, at in times.items()}
    return Ask(client=world.alice, path=path, form=form, wrong={**form, "until": "2020-01-01T00:00:00"})


def _export(world: World) -> Ask:
    return Ask(
        client=world.alice,
        path=reverse("audit:exports"),
        form={"format": "jsonl"},
        wrong={"format": "pdf"},
    )


CHANGING: dict[str, Row] = {
    "account_change_password": _password,
    "orgs:join": _join,
    "orgs:join_new": _join_new,
    "orgs:organization": _organization,
    "orgs:invite": _invite,
    "orgs:member_change": by_owner("orgs:member_change", {"role": "auditor"}, {"role": "king"}),
    "orgs:member_remove": by_owner("orgs:member_remove"),
    "orgs:invitation_withdraw": by_owner("orgs:invitation_withdraw"),
    "orgs:project_create": by_owner("orgs:project_create", {"name": "Below"}),
    "orgs:project_rename": by_owner("orgs:project_rename", {"name": "Renamed"}),
    "orgs:project_scopes": by_owner(
        "orgs:project_scopes",
        {"narrows": "listed", "scopes": "a:read"},
        {"narrows": "listed", "scopes": "everything"},
    ),
    "orgs:project_archive": by_owner("orgs:project_archive"),
    "orgs:environment_create": _environment_create,
    "orgs:environment_rename": by_owner("orgs:environment_rename", {"name": "Renamed"}),
    "orgs:environment_archive": by_owner("orgs:environment_archive"),
    "audit:erase": _erase,
    "audit:erase nobody": _erase_nobody,
    "audit:support_begin": _support_begin,
    "audit:support_end": _support_end,
    "audit:support_open": _support_open,
    "audit:support_leave": _support_leave,
    "audit:exports": _export,
    "audit:export_remove": by_owner("audit:export_remove"),
    "audit:webhook_create": _webhook_form("audit:webhook_create"),
    "audit:webhook_edit": _webhook_form("audit:webhook_edit"),
    "audit:webhook_rotate": by_owner("audit:webhook_rotate", {"version": "1"}),
    "audit:webhook_disable": by_owner("audit:webhook_disable"),
    "audit:webhook_enable": _webhook_enable,
    "audit:webhook_remove": by_owner("audit:webhook_remove"),
    "keys:bulk revoke": _bulk("revoke", reason="incident"),
    "keys:bulk disable": _bulk("disable", minutes=""),
    "keys:bulk disable for a while": _bulk("disable", minutes="15"),
    "keys:bulk owner": _bulk("owner", owner="team", owner_team="Core team"),
    "keys:bulk tag": _bulk("tag", name="team", value="noc"),
    "keys:new": _key_new,
    "keys:edit": of_key("edit", {"name": "renamed", "owner": "me"}),
    "keys:edit_scopes": of_key("edit_scopes", {"scopes": ["incidents:write"]}, {"scopes": ["ingest:write"]}),
    "keys:edit_limits": of_key(
        "edit_limits",
        {"expires": "30", "allowed_ips": "203.0.113.0/24"},
        {"expires": "keep", "allowed_ips": "nowhere"},
    ),
    "keys:edit_rotation": of_key(
        "edit_rotation", {"rotation_interval_days": "30"}, {"rotation_interval_days": "0"}
    ),
    "keys:drop_scopes": _drop_scopes,
    "keys:approval_new": _approval_new,
    "keys:approval_grant": by_owner("keys:approval_grant"),
    "keys:approval_deny": by_owner("keys:approval_deny"),
    "keys:bind": _bind,
    "keys:rotate": _rotate,
    "keys:rotation_complete": by_owner("keys:rotation_complete"),
    "keys:rotation_cancel": by_owner("keys:rotation_cancel"),
    "keys:revoke": of_key("revoke", {"reason": "leaked", "note": "In public"}, {"reason": "boredom"}),
    "keys:disable": of_key("disable"),
    "keys:enable": _enable,
    "keys:break_glass": _break_glass,
    "keys:policies": _policies,
    "keys:recipient_register": _recipient_register,
    "keys:recipient_confirm": _recipient_confirm,
    "keys:recipient_remove": by_owner("keys:recipient_remove"),
}


def _sign_in(_: World) -> Ask:
    user = builders.person("Sam")
    return Ask(client=Client(), path="/login", form={"login": user.email, "password": builders.PASSWORD})


def _sign_out(_: World) -> Ask:
    return Ask(client=builders.signed_in(builders.person("Sam")), path="/logout")


def _confirm(_: World) -> Ask:
    client = builders.signed_in(builders.person("Sam"))
    return Ask(client=client, path="/account/confirm", form={"password": builders.PASSWORD})


def _switch_organization(world: World) -> Ask:
    chosen = {"organization": world.cast.acme.id}
    return Ask(client=world.alice, path="/switch/organization", form=chosen)


def _preview(world: World) -> Ask:
    form = key_builders.form(world.cast.acme, world.alice)
    return Ask(client=world.alice, path="/keys/new/preview", form=form)


# What they do is no state: one's own session, a search, a look ahead, and webhooks' deliveries of what is recorded.
NOTHING: dict[str, Row] = {
    "account_login": _sign_in,
    "account_logout": _sign_out,
    "account_reauthenticate": _confirm,
    "orgs:switch_organization": _switch_organization,
    "orgs:switch_project": by_owner("orgs:switch_project", {"project": ""}),
    "audit:webhook_test": by_owner("audit:webhook_test"),
    "audit:webhook_resend": _webhook_resend,
    "audit:webhook_delivery_resend": by_owner("audit:webhook_delivery_resend"),
    "keys:search": by_owner("keys:search", {"q": "collector"}),
    "keys:preview": _preview,
    "keys:rotate_preview": of_key("rotate_preview", {"mode": "immediate"}),
}


# To all but support staff it is not there, and they only read it.
READ_BY_STAFF = {"audit:support"}


def unsafe() -> set[str]:
    """Return every address that takes a form from somebody, whoever that is (`test_access` proves the matrix)."""
    safe = {matrix.METHOD, matrix.SIGN_IN}
    return {name for name, (_, post) in matrix.MATRIX.items() if set(post) - safe} - READ_BY_STAFF


def refused(name: str) -> list[str]:
    """Return the roles that the matrix refuses, of which nobody is the one that the row's form is of."""
    cells = matrix.MATRIX[name.partition(" ")[0]][1]
    return [role for role, cell in zip(matrix.ROLES, cells, strict=True) if cell != matrix.IN]


def test_every_address_that_takes_a_form_has_its_row():
    assert {name.partition(" ")[0] for name in CHANGING} | set(NOTHING) == unsafe()
    assert not set(CHANGING) & set(NOTHING)


def test_the_console_is_only_read(world):
    client = world.staff()
    for name in READ_BY_STAFF:
        assert client.post(reverse(name)).status_code == 405


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_what_it_changes_is_recorded(world, watch, name):
    ask = CHANGING[name](world)
    watch.forget()
    for role in refused(name):
        assert world.clients[role].post(ask.path, ask.form).status_code not in {200, 303}, role
        assert not watch.changes().seen, f"{role} was refused"
    if ask.form:
        assert ask.client.post(ask.path, ask.wrong).status_code < 500
        assert not watch.changes().seen, "the form was wrong"
    response = ask.client.post(ask.path, ask.form)
    found = watch.changes()
    assert response.status_code < REFUSED, response.content.decode()
    assert found.seen, response.content.decode()
    assert not found.unrecorded


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_what_changes_nothing(world, watch, name):
    ask = NOTHING[name](world)
    watch.forget()
    response = ask.client.post(ask.path, ask.form)
    assert response.status_code < REFUSED, response.content.decode()
    assert not watch.changes().seen


@pytest.mark.parametrize("name", sorted(matrix.MATRIX))
def test_no_other_method_changes_anything(world, watch, name):
    path = matrix._path(world, name)
    watch.forget()
    for method in ("get", "head", "options", "put", "patch", "delete"):
        world.alice.generic(method.upper(), path).close()
        assert not watch.changes().seen, method
