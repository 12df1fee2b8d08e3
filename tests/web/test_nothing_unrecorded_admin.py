"""No page and no action of the admin site changes anything without an entry; whatever is not listed changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import RequestFactory
from django.urls import reverse

from audit import tenancy
from keys.secret import Kind
from keys.services import ScopeDraft, create_scope
from orgs import services
from orgs.models import Organization, User
from orgs.roles import Risk
from tests import builders, limit_builders
from tests.web import test_admin as site

NEW_PASSWORD = "a-staple-of-another-kind"
PLAIN_TERMS = {"rate_limit": "plan", "monthly_quota_is": "plan", "key_cap_is": "plan"}

type Row = Callable[[], tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker) -> site.Cast:
    with django_db_blocker.unblock():
        olga, alice = builders.person("Olga", is_superuser=True), builders.person("Alice")
        acme = builders.organization("Acme", owner=alice)
        return site.Cast(builders.signed_in(olga), olga, alice, acme, tenancy.operator_id())


def _organization() -> Organization:
    return builders.organization(owner=builders.person("Owner"))


def _suspended() -> Organization:
    made = _organization()
    services.suspend_organization(made, actor=builders.OPERATOR)
    return made


def _disabled() -> User:
    made = builders.person()
    services.disable_user(made, actor=builders.OPERATOR)
    return made


def _scope() -> str:
    name = f"{builders.unique('thing')}:read"[-60:]
    draft = ScopeDraft(description="See", risk=Risk.READ, kinds=[Kind.SERVICE])
    with tenancy.everywhere(tenancy.Reason.ADMIN):
        return create_scope(name, draft, actor=builders.OPERATOR).pk


def _plan() -> str:
    return services.create_plan(
        builders.unique("Plan"), actor=builders.OPERATOR, slug=builders.unique("plan")
    ).pk


def added(model: str, form: Callable[[], dict[str, Any]]) -> Row:
    return lambda: (reverse(f"admin:{model}_add"), form())


def changed(model: str, pk: Callable[[], str], form: Callable[[str], dict[str, Any]]) -> Row:
    def row() -> tuple[str, dict[str, Any]]:
        made = pk()
        return reverse(f"admin:{model}_change", args=[quote(made)]), form(made)

    return row


def acted(model: str, action: str, made: Callable[[], Any]) -> Row:
    return lambda: (
        reverse(f"admin:{model}_changelist"),
        {"action": action, "_selected_action": [made().pk]},
    )


def about(name: str, made: Callable[[], Any], form: Callable[[], dict[str, Any]]) -> Row:
    return lambda: (reverse(f"admin:{name}", args=[made().pk]), form())


ROWS: dict[str, Row] = {
    "orgs_organization_add": added(
        "orgs_organization",
        lambda: {
            "name": "Globex",
            "slug": builders.unique("globex"),
            "plan": "standard",
            "owner": builders.person().email,
        },
    ),
    "orgs_organization_change": changed(
        "orgs_organization",
        lambda: _organization().pk,
        lambda _: {"name": "Acme Inc", "slug": builders.unique("acme"), "plan": "standard"},
    ),
    "orgs_organization_changelist suspend": acted("orgs_organization", "suspend", _organization),
    "orgs_organization_changelist resume": acted("orgs_organization", "resume", _suspended),
    "orgs_organization_owner": about(
        "orgs_organization_owner", _organization, lambda: {"owner": builders.person().email}
    ),
    "orgs_organization_terms": about(
        "orgs_organization_terms",
        _organization,
        lambda: {**PLAIN_TERMS, "key_cap_is": "own", "key_cap": "17"},
    ),
    "orgs_plan_add": added("orgs_plan", lambda: {"name": "Gold", "slug": builders.unique("plan")}),
    "orgs_plan_change": changed(
        "orgs_plan", _plan, lambda slug: {"name": builders.unique("Plan"), "slug": slug, "description": "New"}
    ),
    "orgs_user_add": added(
        "orgs_user",
        lambda: {
            "email": f"{builders.unique('new')}@example.com",
            "name": "New Person",
            "password": NEW_PASSWORD,
        },
    ),
    "orgs_user_change": changed(
        "orgs_user", lambda: builders.person().pk, lambda _: {"staff_role": "support"}
    ),
    "orgs_user_changelist disable": acted("orgs_user", "disable", builders.person),
    "orgs_user_changelist enable": acted("orgs_user", "enable", _disabled),
    "orgs_user_password": about(
        "orgs_user_password",
        builders.person,
        lambda: {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD},
    ),
    "keys_scope_add": added(
        "keys_scope",
        lambda: {
            "name": f"{builders.unique('thing')}:read",
            "description": "See",
            "kinds": ["control_plane"],
            "risk": "read",
        },
    ),
    "keys_scope_change": changed(
        "keys_scope",
        _scope,
        lambda name: {"name": name, "description": "New", "kinds": ["service"], "risk": "admin"},
    ),
    "keys_tier_add": added(
        "keys_tier",
        lambda: {"name": "Gold", "slug": builders.unique("tier"), "requests": "5", "window_seconds": "60"},
    ),
    "keys_tier_change": changed(
        "keys_tier",
        lambda: limit_builders.tier().slug,
        lambda slug: {"name": "Gold", "slug": slug, "requests": "600", "window_seconds": "60"},
    ),
}


def writable() -> set[str]:
    """Return what the registry lets a superuser write: pages that add and change, and actions."""
    request = RequestFactory().post("/admin/")
    request.user = User(is_active=True, is_superuser=True)
    found = set()
    for model, page in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found |= {f"{name}_add"} if page.has_add_permission(request) else set()
        found |= {f"{name}_change"} if page.has_change_permission(request) else set()
        found |= {f"{name}_changelist {action}" for action in page.get_actions(request)}
    return found


OWN_PAGES = {"orgs_organization_owner", "orgs_organization_terms", "orgs_user_password"}


def test_every_page_and_action_has_its_row():
    assert set(ROWS) == writable() | OWN_PAGES
    named = set(site.patterns(admin.site.urls[0])) - {"(unnamed)"}
    assert named >= {name.partition(" ")[0] for name in ROWS}
    assert named == site.MODEL_URLS | site.OTHER_URLS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_it_changes_is_recorded(cast, watch, name):
    address, form = ROWS[name]()
    alice, dave = builders.signed_in(cast.alice), builders.signed_in(builders.person(staff_role="support"))
    watch.forget()
    for refused in (alice, dave):
        assert refused.post(address, form).status_code == 404
    assert cast.client.post(address, {}).status_code < 500
    assert not watch.changes().seen, "refused, or without a form"
    response = cast.client.post(address, form)
    found = watch.changes()
    assert response.status_code == 302, response.content.decode()
    assert found.seen, response.content.decode()
    assert not found.unrecorded


@pytest.mark.parametrize("name", sorted(name for name in ROWS if " " in name))
def test_an_action_of_the_page_of_one(cast, watch, name):
    address, form = ROWS[name]()
    model, action = name.split("_changelist ")
    (pk,) = form["_selected_action"]
    address = reverse(f"admin:{model}_change", args=[quote(pk)])
    watch.forget()
    cast.client.post(address, {"change_form-action": action, "_selected_action": [pk]})
    assert not watch.changes().unrecorded


def test_nothing_else_changes_anything(cast, watch):
    """Every address with every sort of POST that Django's admin knows, and with every other method."""
    selected = {"_selected_action": [cast.acme.pk, cast.alice.pk], "post": "yes"}
    forms = (
        {"post": "yes"},
        {"action": "delete_selected", **selected},
        {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": "1", "_save": "Save"},
    )
    every = site.addresses(cast)
    watch.forget()
    for address in every:
        for form in forms:
            assert cast.client.post(address, form).status_code < 500, address
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"):
            cast.client.generic(method, address)
        assert not watch.changes().seen, address
