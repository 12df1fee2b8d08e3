"""The admin site: whoever is no superuser gets nothing; whatever a superuser changes is told in a ledger."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import connections
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from audit import tenancy
from audit.admin_pages import ReadOnlyAdmin, RecordedAdmin
from audit.models import Entry
from keys import peppers
from keys.callers import of_member
from keys.models import Scope, Tier
from keys.secret import Kind
from keys.services import Created, Draft, create_key
from orgs import services
from orgs.models import Membership, Organization, Plan, User
from orgs.roles import Role
from orgs.terms import RateLimit, Terms
from tests import limit_builders
from tests.builders import (
    OPERATOR,
    PASSWORD,
    join,
    member,
    organization,
    person,
    production,
    root,
    signed_in,
    unique,
)

SIGN_INS = ("/login", "/admin/login/?next=")
NEW_PASSWORD = "a-staple-of-another-kind"
PLAN_TERMS = Terms(
    rate_limit=RateLimit(600, 60),
    monthly_quota=1_000_000,
    key_cap=50,
    entitlements={"bulk_export": True, "seats": 25, "share": 0.5},
)
# What a request may leave behind beside an entry: its session, counters of limits, and Django's own diary.
UNRECORDED = ("orgs_session", "orgs_counter", "django_admin_log", "django_content_type")


@dataclass
class Cast:
    """One superuser and what there is to administer, fresh for each test."""

    client: Client
    olga: User
    alice: User
    acme: Organization
    operator_id: str


@pytest.fixture
def cast() -> Cast:
    olga, alice = person("Olga", is_superuser=True), person("Alice")
    acme = organization("Acme", owner=alice)
    return Cast(signed_in(olga), olga, alice, acme, tenancy.operator_id())


def make_key(cast: Cast) -> Created:
    draft = Draft(
        kind=Kind.CONTROL_PLANE,
        name="reader",
        project=root(cast.acme),
        environment=production(cast.acme),
        scopes=["keys:read"],
    )
    with tenancy.within(cast.acme.id):
        return create_key(draft, actor=of_member(member(cast.alice, cast.acme)))


def entries(organization_id: str) -> list[Entry]:
    with tenancy.within(organization_id):
        return list(Entry.objects.of(organization_id).order_by("epoch", "index"))


class Gained:
    """What the ledgers of the operator and of one organization gained in a block."""

    def __init__(self, cast: Cast) -> None:
        self.ledgers = (cast.operator_id, cast.acme.id)

    def __enter__(self) -> "Gained":
        self.sizes = {ledger: len(entries(ledger)) for ledger in self.ledgers}
        return self

    def __exit__(self, *_: object) -> None:
        self.entries = [new for ledger in self.ledgers for new in entries(ledger)[self.sizes[ledger] :]]

    def acts(self) -> list[tuple[str, str, str]]:
        return [(entry.organization_id, entry.act, entry.actor) for entry in self.entries]


def fingerprint() -> dict[str, str]:
    """Return a digest of every row of every table that an unrecorded request must leave alone."""
    url = connections["migrate"].get_connection_params()
    with psycopg.connect(
        **{key: url[key] for key in ("dbname", "user", "password", "host", "port", "options") if key in url}
    ) as owner:
        tables = [
            name
            for (name,) in owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            if name not in UNRECORDED
        ]
        digest = "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} t"
        return {name: owner.execute(digest.format(name)).fetchone()[0] for name in tables}


def patterns(found: list[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in found:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        else:
            yield pattern.name or "(unnamed)"


READ_ONLY = ("orgs_membership", "keys_apikey")
WRITTEN = ("orgs_organization", "orgs_plan", "orgs_user", "keys_scope", "keys_tier")
PAGES = ("changelist", "add", "history", "delete", "change")
# Every URL of the site has a row here or in `test_every_address_is_tested`.
MODEL_URLS = {f"{model}_{page}" for model in (*READ_ONLY, *WRITTEN) for page in PAGES}
OTHER_URLS = {
    "index",
    "login",
    "logout",
    "password_change",
    "password_change_done",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "app_list",
    "health",
    "ledger_operator",
    "ledger",
    "ledger_entry",
    "orgs_user_password",
    "orgs_organization_owner",
    "orgs_organization_terms",
}


def addresses(cast: Cast) -> list[str]:
    """Return an address of every page, with the objects of the cast."""
    with tenancy.within(cast.acme.id):
        membership = Membership.objects.get(organization=cast.acme)
    objects = {
        "orgs_organization": cast.acme.pk,
        "orgs_plan": "standard",
        "orgs_user": cast.alice.pk,
        "orgs_membership": membership.pk,
        "keys_scope": "keys:read",
        "keys_tier": limit_builders.tier().slug,
        "keys_apikey": "key_unknown",
    }
    found = [reverse(f"admin:{model}_{page}") for model in objects for page in ("changelist", "add")]
    found += [
        reverse(f"admin:{model}_{page}", args=[quote(pk)])
        for model, pk in objects.items()
        for page in ("history", "delete", "change")
    ]
    found += [
        reverse(f"admin:{name}") for name in ("index", "health", "jsi18n", "autocomplete", "ledger_operator")
    ]
    found += [
        reverse("admin:app_list", args=["orgs"]),
        reverse("admin:orgs_user_password", args=[cast.alice.pk]),
        reverse("admin:orgs_organization_owner", args=[cast.acme.pk]),
        reverse("admin:orgs_organization_terms", args=[cast.acme.pk]),
    ]
    found += [
        reverse("admin:ledger", args=[cast.acme.pk]),
        reverse("admin:ledger_entry", args=[cast.acme.pk, 1, 1]),
    ]
    return [*found, reverse("admin:view_on_site", args=[1, "x"]), "/admin/nothing/here/"]


class TestWhoGetsIn:
    def test_every_address_is_tested(self) -> None:
        named = set(patterns(admin.site.urls[0]))
        assert named == MODEL_URLS | OTHER_URLS | {"(unnamed)"}

    def test_only_pages_that_record_are_registered(self) -> None:
        assert admin.site._registry
        for model, page in admin.site._registry.items():
            assert isinstance(page, (ReadOnlyAdmin, RecordedAdmin)), model
            assert not page.inlines
            assert not page.list_editable

    def test_nobody_else(self, cast: Cast) -> None:
        owner, support = signed_in(cast.alice), signed_in(person("Dave", staff_role="support"))
        disabled = person("Former", is_superuser=True)
        former = signed_in(disabled)
        services.disable_user(disabled, actor=OPERATOR)
        for address in addresses(cast):
            for method in ("get", "post"):
                anonymous = getattr(Client(), method)(address)
                assert anonymous.status_code == 302, address
                assert anonymous["Location"].startswith(SIGN_INS), address
                assert getattr(former, method)(address)["Location"].startswith(SIGN_INS), address
                assert getattr(owner, method)(address).status_code == 404, address
                assert getattr(support, method)(address).status_code == 404, address

    def test_the_portals_own_sign_in(self, cast: Cast) -> None:
        asked = Client().get("/admin/login/?next=/admin/orgs/plan/")
        assert asked["Location"] == f"{reverse('account_login')}?next=/admin/orgs/plan/"
        assert (
            Client().post("/admin/login/", {"username": cast.olga.email, "password": PASSWORD}).status_code
            == 302
        )
        assert signed_in(cast.alice).get("/admin/login/").status_code == 404
        assert cast.client.get("/admin/login/")["Location"] == "/admin/"
        signed_out = cast.client.post("/admin/logout/")
        assert (signed_out.status_code, signed_out["Location"]) == (307, reverse("account_logout"))
        assert cast.client.get("/admin/password_change/")["Location"] == reverse("account_change_password")

    def test_a_superuser_reads_everything(self, cast: Cast) -> None:
        missing = {"/admin/nothing/here/", "/admin/r/1/x/", "/admin/autocomplete/"}
        for address in addresses(cast):
            status = cast.client.get(address).status_code
            if address in missing or address.endswith("/delete/") or "key_unknown" in address:
                assert status in {302, 403, 404}, address
            elif address in {reverse(f"admin:{model}_add") for model in READ_ONLY}:
                assert status == 403, address
            else:
                assert status in {200, 302}, address

    def test_every_organization_is_listed(self, cast: Cast) -> None:
        """The superuser belongs to none, and row-level security must not leave the lists empty."""
        listed = cast.client.get(reverse("admin:orgs_organization_changelist"), {"q": cast.acme.slug}).content
        assert cast.acme.slug.encode() in listed
        members = cast.client.get(
            reverse("admin:orgs_membership_changelist"), {"q": cast.alice.email}
        ).content
        assert cast.acme.name.encode() in members

    def test_a_superuser_within_an_organization_sees_all_of_them_too(self, cast: Cast) -> None:
        organization("Own", owner=cast.olga)
        with Gained(cast) as gained:
            change = {"name": "Acme Two", "slug": cast.acme.slug, "plan": "standard"}
            cast.client.post(reverse("admin:orgs_organization_change", args=[quote(cast.acme.pk)]), change)
        assert gained.acts() == [(cast.acme.id, "organization.changed", cast.olga.id)]


class TestEveryMutation:
    """Address by address: what the POST wrote, and exactly which entries tell of it."""

    def gains(self, cast: Cast, address: str, form: dict[str, object], *acts: tuple[str, str]) -> None:
        with Gained(cast) as gained:
            answer = cast.client.post(address, form)
            assert answer.status_code == 302, answer.content.decode()
        assert gained.acts() == [(organization, act, cast.olga.id) for organization, act in acts]
        assert all(entry.request_id for entry in gained.entries)

    def test_organization_created(self, cast: Cast) -> None:
        slug = unique("globex")
        form = {"name": "Globex", "slug": slug, "plan": "standard", "owner": cast.alice.email}
        self.gains(cast, reverse("admin:orgs_organization_add"), form)
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            made = Organization.objects.get(slug=slug)
            assert list(made.memberships.values_list("user_id", "role")) == [(cast.alice.id, "owner")]
        assert [(e.act, e.actor) for e in entries(made.id)] == [
            ("ledger.opened", "sys_portal"),
            ("organization.created", cast.olga.id),
        ]

    def test_organization_changed(self, cast: Cast) -> None:
        address = reverse("admin:orgs_organization_change", args=[quote(cast.acme.pk)])
        form = {"name": "Acme Inc", "slug": cast.acme.slug, "plan": "standard", "is_operator": "on"}
        self.gains(cast, address, form, (cast.acme.id, "organization.changed"))
        with tenancy.within(cast.acme.id):
            cast.acme.refresh_from_db()
        assert (cast.acme.name, cast.acme.is_operator) == ("Acme Inc", False)

    def test_organization_suspended_and_resumed(self, cast: Cast) -> None:
        address = reverse("admin:orgs_organization_changelist")
        for action, act in (("suspend", "suspended"), ("resume", "resumed")):
            form = {"action": action, "_selected_action": [cast.acme.pk]}
            self.gains(cast, address, form, (cast.acme.id, f"organization.{act}"))

    def test_owner_appointed(self, cast: Cast) -> None:
        address = reverse("admin:orgs_organization_owner", args=[cast.acme.pk])
        self.gains(cast, address, {"owner": cast.olga.email}, (cast.acme.id, "member.joined"))
        vera = person("Vera")
        join(vera, cast.acme, Role.VIEWER)
        self.gains(cast, address, {"owner": vera.email}, (cast.acme.id, "member.role_changed"))
        with tenancy.within(cast.acme.id):
            owners = Membership.objects.filter(organization=cast.acme, role="owner", project=None)
            assert {owner.user_id for owner in owners} == {cast.alice.id, cast.olga.id, vera.id}

    def test_the_operator_is_not_suspended(self, cast: Cast) -> None:
        form = {"action": "suspend", "_selected_action": [cast.operator_id]}
        self.gains(cast, reverse("admin:orgs_organization_changelist"), form)
        shown = cast.client.get(reverse("admin:orgs_organization_changelist")).content.decode()
        assert "can&#x27;t be suspended" in shown

    def test_plan_created_and_changed(self, cast: Cast) -> None:
        slug = unique("plan")
        form = {"name": slug, "slug": slug, "description": "Words"}
        self.gains(cast, reverse("admin:orgs_plan_add"), form, (cast.operator_id, "plan.created"))
        address = reverse("admin:orgs_plan_change", args=[slug])
        self.gains(cast, address, {**form, "description": "Others"}, (cast.operator_id, "plan.changed"))
        assert Plan.objects.get(slug=slug).description == "Others"

    def test_a_plan_with_all_its_terms(self, cast: Cast) -> None:
        slug = unique("plan")
        form = {
            "name": slug,
            "slug": slug,
            "rate_limit_requests": "600",
            "rate_limit_window_seconds": "60",
            "monthly_quota": "1000000",
            "key_cap": "50",
            "entitlements": '{"bulk_export": true, "seats": 25, "share": 0.5}',
            "usage_retention_days": "30",
        }
        self.gains(cast, reverse("admin:orgs_plan_add"), form, (cast.operator_id, "plan.created"))
        stored = Plan.objects.get(pk=slug)
        assert (stored.terms, stored.usage_retention_days) == (PLAN_TERMS, 30)
        address = reverse("admin:orgs_plan_change", args=[slug])
        shown = cast.client.get(address).context["adminform"].form
        same = {name: shown[name].value() for name in shown.fields}
        self.gains(cast, address, same)
        assert '"seats": 25,' in cast.client.get(address).content.decode().replace("&quot;", '"')
        bare = {"name": slug}
        self.gains(cast, address, bare, (cast.operator_id, "plan.changed"))
        stored.refresh_from_db()
        assert (stored.terms, stored.usage_retention_days) == (Terms(), 30)

    def test_terms_agreed_with_one_organization(self, cast: Cast) -> None:
        address = reverse("admin:orgs_organization_terms", args=[cast.acme.pk])
        own = {
            "rate_limit": "own",
            "rate_limit_requests": "5",
            "rate_limit_window_seconds": "60",
            "monthly_quota_is": "none",
            "monthly_quota": "17",
            "key_cap_is": "plan",
            "entitlements": '{"seats": 50, "sso": null}',
        }
        self.gains(cast, address, own, (cast.acme.id, "organization.changed"))
        with tenancy.within(cast.acme.id):
            cast.acme.refresh_from_db()
        assert cast.acme.overrides == {
            "rate_limit": {"requests": 5, "window_seconds": 60},
            "monthly_quota": None,
            "entitlements": {"seats": 50, "sso": None},
        }
        form = cast.client.get(address).context["form"]
        again = {name: form[name].value() for name in form.fields}
        assert again["monthly_quota_is"] == "none"
        self.gains(cast, address, {name: value for name, value in again.items() if value is not None})
        page = cast.client.get(reverse("admin:orgs_organization_change", args=[quote(cast.acme.pk)]))
        assert "entitlements, monthly quota, rate limit" in page.content.decode()
        nothing = {"rate_limit": "plan", "monthly_quota_is": "plan", "key_cap_is": "plan"}
        self.gains(cast, address, nothing, (cast.acme.id, "organization.changed"))
        with tenancy.within(cast.acme.id):
            cast.acme.refresh_from_db()
        assert cast.acme.overrides == {}

    def test_tier_created_and_changed(self, cast: Cast) -> None:
        slug = unique("tier")
        form = {"name": "Gold", "slug": slug, "requests": "500", "window_seconds": "60", "monthly_quota": "9"}
        self.gains(cast, reverse("admin:keys_tier_add"), form, (cast.operator_id, "tier.created"))
        address = reverse("admin:keys_tier_change", args=[slug])
        self.gains(cast, address, form)
        changed = {**form, "slug": "another", "requests": "600", "monthly_quota": ""}
        self.gains(cast, address, changed, (cast.operator_id, "tier.changed"))
        tier = Tier.objects.get(pk=slug)
        assert (tier.rate_limit, tier.monthly_quota) == (RateLimit(600, 60), None)
        assert (
            cast.client.post(reverse("admin:keys_tier_delete", args=[slug]), {"post": "yes"}).status_code
            == 403
        )

    def test_scope_created_and_changed(self, cast: Cast) -> None:
        name = f"{unique('thing')}:read"
        form = {"name": name, "description": "See", "kinds": ["control_plane"], "risk": "read"}
        self.gains(cast, reverse("admin:keys_scope_add"), form, (cast.operator_id, "scope.created"))
        address = reverse("admin:keys_scope_change", args=[quote(name)])
        changed = {**form, "name": "other:read", "risk": "admin", "is_deprecated": "on", "is_builtin": "on"}
        self.gains(cast, address, changed, (cast.operator_id, "scope.changed"))
        scope = Scope.objects.get(pk=name)
        assert (scope.risk, scope.is_deprecated, scope.is_builtin) == ("admin", True, False)

    def test_built_in_scopes_stay(self, cast: Cast) -> None:
        form = {"description": "x", "kinds": ["ingestion"], "risk": "read"}
        answer = cast.client.post(reverse("admin:keys_scope_change", args=[quote("keys:write")]), form)
        assert answer.status_code == 403

    def test_user_created(self, cast: Cast) -> None:
        email = f"{unique('New.Person')}@Example.com"
        form = {"email": email, "name": "New Person", "password": NEW_PASSWORD, "staff_role": "support"}
        self.gains(cast, reverse("admin:orgs_user_add"), form, (cast.operator_id, "user.created"))
        made = User.objects.get(email=email.lower())
        assert (made.check_password(NEW_PASSWORD), made.is_superuser, made.staff_role) == (
            True,
            False,
            "support",
        )

    def test_user_staff_changed(self, cast: Cast) -> None:
        address = reverse("admin:orgs_user_change", args=[quote(cast.alice.pk)])
        form = {"is_superuser": "on", "staff_role": "support", "email": "other@example.com", "password": "x"}
        self.gains(cast, address, form, (cast.operator_id, "user.staff_changed"))
        fresh = User.objects.get(pk=cast.alice.pk)
        assert (fresh.is_superuser, fresh.staff_role, fresh.email) == (True, "support", cast.alice.email)
        assert fresh.password == cast.alice.password

    def test_user_disabled_and_enabled(self, cast: Cast) -> None:
        for action, act in (("disable", "disabled"), ("enable", "enabled")):
            form = {"action": action, "_selected_action": [cast.alice.pk]}
            self.gains(cast, reverse("admin:orgs_user_changelist"), form, (cast.operator_id, f"user.{act}"))

    def test_actions_of_the_change_page(self, cast: Cast) -> None:
        form = {"change_form-action": "disable", "_selected_action": [cast.alice.pk]}
        address = reverse("admin:orgs_user_change", args=[quote(cast.alice.pk)])
        with Gained(cast) as gained:
            cast.client.post(address, form)
        is_disabled = not User.objects.get(pk=cast.alice.pk).is_active
        assert [act for _, act, _ in gained.acts()] == (["user.disabled"] if is_disabled else [])

    def test_password_set(self, cast: Cast) -> None:
        address = reverse("admin:orgs_user_password", args=[cast.alice.pk])
        form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
        theirs = signed_in(cast.alice)
        self.gains(cast, address, form, (cast.operator_id, "user.password_changed"))
        assert User.objects.get(pk=cast.alice.pk).check_password(NEW_PASSWORD)
        assert theirs.get(reverse("orgs:settings"))["Location"].startswith(reverse("account_login"))

    def test_oneself(self, cast: Cast) -> None:
        """The last superuser can't lock the site by a slip."""
        form = {"action": "disable", "_selected_action": [cast.olga.pk]}
        self.gains(cast, reverse("admin:orgs_user_changelist"), form)
        answer = cast.client.post(
            reverse("admin:orgs_user_change", args=[quote(cast.olga.pk)]), {"staff_role": ""}
        )
        assert "Somebody else must take this from you." in answer.content.decode()
        assert User.objects.get(pk=cast.olga.pk).is_superuser


class TestNothingElseWrites:
    def test_posts_that_are_none_of_the_above(self, cast: Cast) -> None:
        """Every other address, and every sort of POST that Django's admin knows, leaves all rows as they are."""
        with tenancy.within(cast.acme.id):
            membership = Membership.objects.get(organization=cast.acme)
        selected = {"_selected_action": [cast.acme.pk, cast.alice.pk, membership.pk], "post": "yes"}
        every = addresses(cast)
        before = fingerprint()
        for address in every:
            for form in (
                {"post": "yes"},
                {"action": "delete_selected", **selected},
                {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": "1", "_save": "Save"},
            ):
                assert cast.client.post(address, form).status_code < 500, address
        assert fingerprint() == before

    def test_read_only_pages_refuse(self, cast: Cast) -> None:
        with tenancy.within(cast.acme.id):
            membership = Membership.objects.get(organization=cast.acme)
        form = {"role": "admin", "user": cast.olga.pk, "organization": cast.acme.pk}
        assert cast.client.post(reverse("admin:orgs_membership_add"), form).status_code == 403
        address = reverse("admin:orgs_membership_change", args=[quote(membership.pk)])
        assert cast.client.post(address, form).status_code == 403
        assert cast.client.post(reverse("admin:keys_apikey_add"), form).status_code == 403
        assert cast.client.post(reverse("admin:ledger", args=[cast.acme.pk])).status_code == 405

    def test_a_form_of_another_site_is_refused(self, cast: Cast) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(cast.olga)
        assert (
            strict.post(reverse("admin:orgs_plan_add"), {"name": "x", "slug": unique("x")}).status_code == 403
        )


class TestErrorsAtTheForm:
    def refused(self, cast: Cast, address: str, form: dict[str, object], words: str) -> None:
        with Gained(cast) as gained:
            answer = cast.client.post(address, form)
        assert answer.status_code == 200
        assert words in answer.content.decode()
        assert not gained.entries

    def test_taken_slug(self, cast: Cast) -> None:
        form = {"name": "Typed Name", "slug": cast.acme.slug, "plan": "standard"}
        self.refused(cast, reverse("admin:orgs_organization_add"), form, "already exists")
        answer = cast.client.post(reverse("admin:orgs_organization_add"), form)
        assert "Typed Name" in answer.content.decode()

    def test_what_only_the_service_refuses(self, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two superusers at once pass the form's check; the slower one meets the database's."""
        monkeypatch.setattr("django.forms.ModelForm.validate_unique", lambda _: None)
        form = {"name": "Acme", "slug": cast.acme.slug, "plan": "standard"}
        words = "Another organization has this short name."
        self.refused(cast, reverse("admin:orgs_organization_add"), form, words)
        form = {"email": cast.alice.email, "password": NEW_PASSWORD}
        words = "There is already an account with this address."
        self.refused(cast, reverse("admin:orgs_user_add"), form, words)

    @pytest.mark.parametrize("slug", ["Two Words", "", "x" * 64])
    def test_bad_slug(self, cast: Cast, slug: str) -> None:
        form = {"name": "Name", "slug": slug, "plan": "standard"}
        self.refused(cast, reverse("admin:orgs_organization_add"), form, "errorlist")

    def test_owner(self, cast: Cast) -> None:
        address = reverse("admin:orgs_organization_owner", args=[cast.acme.pk])
        self.refused(cast, address, {"owner": cast.alice.email}, "They own it already.")
        self.refused(cast, address, {"owner": "nobody@example.com"}, "Nobody with this address")
        self.refused(cast, address, {"owner": ""}, "required")

    def test_scope(self, cast: Cast) -> None:
        form = {"name": "No Scope", "kinds": ["control_plane"], "risk": "read"}
        self.refused(cast, reverse("admin:keys_scope_add"), form, "resource:action")
        form = {"name": "keys:read", "kinds": ["control_plane"], "risk": "read"}
        self.refused(cast, reverse("admin:keys_scope_add"), form, "already exists")
        form = {"name": "some:thing", "risk": "read"}
        self.refused(cast, reverse("admin:keys_scope_add"), form, "required")

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"rate_limit_requests": "5"}, "A limit needs both"),
            ({"rate_limit_requests": "5", "rate_limit_window_seconds": "0"}, "A whole number from 1 to"),
            ({"rate_limit_requests": "-5", "rate_limit_window_seconds": "60"}, "greater than or equal to 0"),
            ({"monthly_quota": "9999999999999999"}, "A whole number from 0 to 1,000,000,000,000,000."),
            ({"key_cap": "x"}, "Enter a whole number."),
            ({"usage_retention_days": "3651"}, "1 to 3,650 days."),
            ({"entitlements": "{"}, "Enter a valid JSON."),
            ({"entitlements": "[]"}, "Write an object"),
            ({"entitlements": '{"seats": "many"}'}, "seats: true, false, or a number"),
            ({"entitlements": '{"seats": NaN}'}, "seats: true, false, or a number"),
            ({"entitlements": '{"Seats!": 1}'}, "Entitlement 1: a name is"),
        ],
    )
    def test_terms_of_a_plan(self, cast: Cast, wrong: dict[str, object], words: str) -> None:
        form = {"name": "Name", "slug": unique("plan"), **wrong}
        self.refused(cast, reverse("admin:orgs_plan_add"), form, words)
        answer = cast.client.post(reverse("admin:orgs_plan_add"), form)
        assert "Constraint" not in answer.content.decode()

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"rate_limit": "own"}, "Its own needs a number."),
            ({"key_cap_is": "own", "key_cap": "-1"}, "A whole number from 0 to"),
            ({"monthly_quota_is": "more"}, "Select a valid choice"),
            ({"entitlements": '{"seats": []}'}, "seats: true, false, or a number"),
            ({"rate_limit": ""}, "required"),
        ],
    )
    def test_agreed_terms(self, cast: Cast, wrong: dict[str, object], words: str) -> None:
        form = {"rate_limit": "plan", "monthly_quota_is": "plan", "key_cap_is": "plan", **wrong}
        address = reverse("admin:orgs_organization_terms", args=[cast.acme.pk])
        self.refused(cast, address, form, words)
        assert cast.client.get(reverse("admin:orgs_organization_terms", args=["org_none"])).status_code == 404

    def test_tier(self, cast: Cast) -> None:
        address = reverse("admin:keys_tier_add")
        form = {"name": "Gold", "slug": unique("tier"), "requests": "5", "window_seconds": "0"}
        self.refused(cast, address, form, "A whole number from 1 to")
        self.refused(cast, address, {**form, "window_seconds": "", "monthly_quota": "-1"}, "required")
        taken = {**form, "window_seconds": "60", "slug": limit_builders.tier().slug}
        self.refused(cast, address, taken, "already exists")
        self.refused(cast, address, {**form, "window_seconds": "60", "slug": "Gold_1"}, "lower-case letters")

    def test_bytes_that_no_entry_holds(self, cast: Cast) -> None:
        form = {"name": "Name", "slug": unique("plan"), "description": "😀" * 900}
        self.refused(cast, reverse("admin:orgs_plan_add"), form, "At most 2,048 bytes")
        form = {"name": "Na\0me", "slug": unique("plan")}
        self.refused(cast, reverse("admin:orgs_plan_add"), form, "Null characters")

    def test_weak_password(self, cast: Cast) -> None:
        email = f"{unique('person')}@example.com"
        for password in ("short", "password1234", email):
            form = {"email": email, "name": "P", "password": password}
            self.refused(cast, reverse("admin:orgs_user_add"), form, "password")
        address = reverse("admin:orgs_user_password", args=[cast.alice.pk])
        form = {"password1": NEW_PASSWORD, "password2": PASSWORD}
        self.refused(cast, address, form, "match")
        self.refused(cast, address, {"password1": cast.alice.email, "password2": cast.alice.email}, "similar")


class TestKeyPages:
    def test_a_key_is_shown_without_its_digest(self, cast: Cast) -> None:
        made = make_key(cast)
        digest = peppers.digest(made.secret)
        address = reverse("admin:keys_apikey_change", args=[quote(made.key.pk)])
        shown = cast.client.get(address).content
        assert made.key.hint.encode() in shown
        for form in (digest, digest.hex().encode(), base64.b64encode(digest), made.secret.encode()):
            assert form not in shown
        listed = cast.client.get(reverse("admin:keys_apikey_changelist"), {"q": made.key.pk}).content
        assert b"reader" in listed

    def test_a_key_stays_as_it_is(self, cast: Cast) -> None:
        made = make_key(cast)
        before = fingerprint()
        for page in ("change", "delete"):
            address = reverse(f"admin:keys_apikey_{page}", args=[quote(made.key.pk)])
            form = {"name": "writer", "scopes": "keys:write", "is_disabled": "on", "post": "yes"}
            assert cast.client.post(address, form).status_code == 403
        form = {"action": "delete_selected", "_selected_action": [made.key.pk], "post": "yes"}
        cast.client.post(reverse("admin:keys_apikey_changelist"), form)
        assert fingerprint() == before


class TestLedgerPages:
    def test_entries_are_shown_without_what_is_sealed(self, cast: Cast) -> None:
        found = entries(cast.operator_id)
        made = next(entry for entry in reversed(found) if entry.target == cast.alice.id)
        address = reverse("admin:ledger_entry", args=[cast.operator_id, made.epoch, made.index])
        shown = cast.client.get(address).content.decode()
        assert made.leaf_hash().hex() in shown
        assert cast.alice.id in shown
        assert "user_email" in shown
        assert cast.alice.email not in shown

    def test_paging(self, cast: Cast) -> None:
        address = reverse("admin:ledger", args=[cast.acme.pk])
        newest = entries(cast.acme.id)[-1].index
        assert f"/1/{newest}/" in cast.client.get(address).content.decode()
        assert f"/1/{newest}/" not in cast.client.get(address, {"before": f"1.{newest}"}).content.decode()
        for broken in ("1", "1.x", "9" * 30, f"1.{'9' * 30}", "²."):
            assert cast.client.get(address, {"before": broken}).status_code == 404
        beyond = reverse("admin:ledger_entry", args=[cast.acme.pk, 1, 10**6])
        assert cast.client.get(beyond).status_code == 404
