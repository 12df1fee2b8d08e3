"""Organizations, plans, people, projects, environments: rows and entries of each service."""

import pytest
from django.db import IntegrityError, connection

from audit import ledger, tenancy
from audit.errors import LedgerUnavailable
from orgs import ports, services
from orgs.errors import Forbidden, Gone, Invalid, StillInUse, Taken
from orgs.models import Environment, Organization, Plan, Project, Session, User
from orgs.terms import RateLimit, Terms
from tests import builders


@pytest.fixture
def alice():
    return builders.person("Alice")


@pytest.fixture
def acme(alice):
    return builders.organization("Acme", owner=alice)


@pytest.fixture
def actor(alice, acme):
    return builders.member(alice, acme)


def operator():
    return tenancy.operator_id()


class TestPeople:
    def test_creating_tells_no_name_and_no_address(self):
        with builders.gains(operator(), "user.created") as gained:
            user = services.create_user("Zoe.Z@Example.com", actor=builders.OPERATOR, name="Zoe")
        assert user.email == "zoe.z@example.com"
        assert not user.has_usable_password()
        assert gained[0].data == {"target": user.id, "is_superuser": False, "staff_role": ""}
        assert set(gained[0].sealed) == {"user_email", "user_name"}

    def test_an_address_has_one_account(self, alice):
        with builders.gains(operator()), pytest.raises(Taken) as refused:
            services.create_user(alice.email.upper(), actor=builders.OPERATOR)
        assert refused.value.field == "email"

    def test_disabling_ends_sessions_at_once(self, alice, acme):
        browser = builders.signed_in(alice)
        assert browser.get("/settings").status_code == 303
        with builders.gains(operator(), "user.disabled") as gained:
            assert services.disable_user(alice, actor=builders.OPERATOR)
            assert not services.disable_user(alice, actor=builders.OPERATOR)
        assert gained[0].data["sessions_ended"] == 1
        assert browser.get("/settings").url.startswith("/login")
        assert (
            browser.post("/login", {"login": alice.email, "password": builders.PASSWORD}).status_code == 200
        )

    def test_even_a_session_whose_row_stays_is_dead(self, alice, acme):
        browser = builders.signed_in(alice)
        User.objects.filter(pk=alice.pk).update(is_active=False)
        assert Session.objects.filter(user_id=alice.id).exists()
        assert browser.get("/settings").url.startswith("/login")

    def test_enabling(self, alice, acme):
        services.disable_user(alice, actor=builders.OPERATOR)
        with builders.gains(operator(), "user.enabled"):
            assert services.enable_user(alice, actor=builders.OPERATOR)
            assert not services.enable_user(alice, actor=builders.OPERATOR)
        assert builders.signed_in(alice)

    def test_staff(self, alice):
        change = {"is_superuser": False, "staff_role": "support"}
        with builders.gains(operator(), "user.staff_changed") as gained:
            assert services.change_staff(alice, actor=builders.OPERATOR, **change)
            assert not services.change_staff(alice, actor=builders.OPERATOR, **change)
        assert gained[0].data["before"] == {"staff_role": ""}
        assert gained[0].data["after"] == {"staff_role": "support"}
        assert User.objects.get(pk=alice.pk).staff_role == "support"

    def test_a_password_by_the_operator_ends_every_session(self, alice, acme):
        browser = builders.signed_in(alice)
        with builders.gains(operator(), "user.password_changed"):
            services.set_password(alice, "another long password", actor=builders.OPERATOR)
        assert browser.get("/settings").url.startswith("/login")
        assert builders.signed_in(alice, password="another long password")

    def test_the_operators_ledger_is_out_of_reach_within_another(self, alice, acme):
        """So that it is never written by accident: such a page is marked `outside_organization`."""
        with (
            pytest.raises(LedgerUnavailable),
            tenancy.within(acme.id),
            ledger.recording(acme.id, builders.OPERATOR),
        ):
            services.disable_user(alice, actor=builders.OPERATOR)
        assert User.objects.get(pk=alice.pk).is_active


class TestOrganizations:
    def test_creating_makes_a_root_and_production(self, alice):
        acme = builders.organization("Acme", owner=alice)
        root, production = builders.root(acme), builders.production(acme)
        assert (root.name, root.path, root.label_path) == ("Acme", f"/{root.id}/", "Acme")
        assert (production.mode, production.is_production) == ("live", True)
        entries = builders.entries(acme.id)
        assert [entry.act for entry in entries] == ["ledger.opened", "organization.created"]
        assert entries[1].data["owner"] == alice.id

    def test_a_slug_is_unique(self, acme):
        with pytest.raises(Taken) as refused:
            services.create_organization("B", actor=builders.OPERATOR, slug=acme.slug, plan=builders.plan())
        assert refused.value.field == "slug"

    def test_changing(self, acme, actor):
        slug = builders.unique("new")
        with builders.gains(acme.id, "organization.changed") as gained:
            assert services.change_organization(acme, actor=actor, name="Acme", slug=slug)
            assert not services.change_organization(acme, actor=actor, name="Acme", slug=slug)
        assert gained[0].data["after"] == {"slug": slug}

    def test_changing_the_plan(self, acme, actor):
        gold = services.create_plan("Gold", actor=builders.OPERATOR, slug=builders.unique("gold"))
        with builders.gains(acme.id, "organization.changed"):
            services.change_organization(
                acme, actor=builders.OPERATOR, name="Acme", slug=acme.slug, plan=gold
            )
        with tenancy.within(acme.id):
            assert Organization.objects.get().plan == gold

    def test_a_taken_slug_changes_nothing(self, acme, actor):
        other = builders.organization("Other")
        with builders.gains(acme.id), pytest.raises(Taken):
            services.change_organization(acme, actor=actor, name="Renamed", slug=other.slug)
        with tenancy.within(acme.id):
            assert Organization.objects.get().name == "Acme"

    def test_suspending_and_resuming(self, acme):
        with builders.gains(acme.id, "organization.suspended", "organization.resumed") as gained:
            assert services.suspend_organization(acme, actor=builders.OPERATOR, reason="unpaid: Bob")
            assert not services.suspend_organization(acme, actor=builders.OPERATOR)
            assert services.resume_organization(acme, actor=builders.OPERATOR)
            assert not services.resume_organization(acme, actor=builders.OPERATOR)
        assert "Bob" not in str(gained[0].data)

    def test_the_operator_is_never_suspended(self):
        with tenancy.everywhere(tenancy.Reason.ADMIN):
            own = Organization.objects.get(is_operator=True)
        with pytest.raises(Forbidden):
            services.suspend_organization(own, actor=builders.OPERATOR)

    def test_plans_are_told_in_the_operators_ledger(self):
        slug = builders.unique("plan")
        with builders.gains(operator(), "plan.created", "plan.changed"):
            plan = services.create_plan("Gold", actor=builders.OPERATOR, slug=slug)
            with pytest.raises(Taken):
                services.create_plan("Gold", actor=builders.OPERATOR, slug=slug)
            assert services.change_plan(plan, actor=builders.OPERATOR, name="Gold", description="More.")
            assert not services.change_plan(plan, actor=builders.OPERATOR, name="Gold", description="More.")
        assert Plan.objects.get(pk=slug).description == "More."


class TestTerms:
    terms = Terms(
        rate_limit=RateLimit(1000, 60),
        monthly_quota=5_000,
        key_cap=10,
        entitlements={"seats": 25, "sso": True, "discount": 0.5},
    )

    def test_a_plan_with_all_its_terms(self):
        slug = builders.unique("plan")
        with builders.gains(operator(), "plan.created", "plan.changed", "plan.changed") as gained:
            plan = services.create_plan(
                "Gold", actor=builders.OPERATOR, slug=slug, terms=self.terms, usage_retention_days=30
            )
            assert Plan.objects.get(pk=slug).terms == self.terms
            words = {"actor": builders.OPERATOR, "name": "Gold", "description": ""}
            assert not services.change_plan(plan, **words, terms=self.terms, usage_retention_days=30)
            assert services.change_plan(plan, **words, usage_retention_days=31)
            assert services.change_plan(plan, **words, terms=Terms(entitlements={"seats": True}))
        assert gained[0].data["rate_limit"] == "1000 in 60 s"
        assert gained[0].data["entitlements"] == ["discount: 0.5", "seats: 25", "sso: yes"]
        assert sides(gained[1]) == {
            "before": {"usage_retention_days": 30},
            "after": {"usage_retention_days": 31},
        }
        assert gained[2].data["before"]["entitlements"] == ["discount: 0.5", "seats: 25", "sso: yes"]
        assert gained[2].data["after"] == {
            "rate_limit": "no limit",
            "monthly_quota": "no limit",
            "key_cap": "no limit",
            "entitlements": ["seats: yes"],
        }
        stored = Plan.objects.get(pk=slug)
        assert (stored.terms, stored.usage_retention_days) == (Terms(entitlements={"seats": True}), 31)

    def test_the_longest_terms_fit_the_ledger(self):
        """Whatever the checks let through can be told of, in as many entries as it takes."""
        names = [f"{'n' * 60}{number:03}" for number in range(100)]
        slug, word = builders.unique("plan"), "\N{EURO SIGN}" * 600
        plan = services.create_plan(
            "Ü" * 100,
            actor=builders.OPERATOR,
            slug=slug,
            description=word,
            terms=Terms(entitlements=dict.fromkeys(names, 999_999_999_999_999.9)),
        )
        with builders.gains(operator(), *["plan.changed"] * 3) as gained:
            services.change_plan(
                plan,
                actor=builders.OPERATOR,
                name="Ö" * 100,
                description=word[1:],
                terms=Terms(entitlements=dict.fromkeys(names, 888_888_888_888_888.8)),
            )
        assert sum(len(entry.data["after"]["entitlements"]) for entry in gained) == 100

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"terms": Terms(rate_limit=RateLimit(1, 0))}, "rate_limit_window_seconds"),
            ({"terms": Terms(monthly_quota=-1)}, "monthly_quota"),
            ({"terms": Terms(entitlements={"seats": float("nan")})}, "entitlements"),
            ({"usage_retention_days": 0}, "usage_retention_days"),
        ],
    )
    def test_what_is_out_of_bounds_changes_nothing(self, changes, field):
        slug = builders.unique("plan")
        with builders.gains(operator(), "plan.created"):
            with pytest.raises(Invalid) as refused:
                services.create_plan("Gold", actor=builders.OPERATOR, slug=slug, **changes)
            assert [error.field for error in refused.value.errors] == [field]
            plan = services.create_plan("Gold", actor=builders.OPERATOR, slug=slug)
            with pytest.raises(Invalid):
                services.change_plan(plan, actor=builders.OPERATOR, name="Silver", description="", **changes)
        assert Plan.objects.get(pk=slug).name == "Gold"

    def test_overrides(self, acme):
        own = {"rate_limit": None, "monthly_quota": 9, "entitlements": {"sso": None, "seats": 3}}
        with builders.gains(acme.id, "organization.changed", "organization.changed") as gained:
            assert services.change_overrides(acme, own, actor=builders.OPERATOR)
            assert not services.change_overrides(acme, own, actor=builders.OPERATOR)
            assert stored_terms(acme) == Terms(monthly_quota=9, entitlements={"seats": 3})
            assert services.change_overrides(acme, {"entitlements": {}}, actor=builders.OPERATOR)
            assert not services.change_overrides(acme, {}, actor=builders.OPERATOR)
        assert stored_terms(acme) == builders.plan().terms
        assert sides(gained[0]) == {
            "before": {
                "rate_limit": "as the plan says",
                "monthly_quota": "as the plan says",
                "entitlements": [],
            },
            "after": {
                "rate_limit": "no limit",
                "monthly_quota": 9,
                "entitlements": ["seats: 3", "sso: taken away"],
            },
        }
        assert gained[1].data["before"] == gained[0].data["after"]

    def test_no_member_changes_what_was_bought(self, acme, actor):
        with builders.gains(acme.id), pytest.raises(Forbidden):
            services.change_overrides(acme, {"key_cap": None}, actor=actor)

    def test_overrides_out_of_bounds(self, acme):
        with builders.gains(acme.id), pytest.raises(Invalid) as refused:
            services.change_overrides(acme, {"key_cap": -1, "monthly_quota": "x"}, actor=builders.OPERATOR)
        assert {error.field for error in refused.value.errors} == {"key_cap", "monthly_quota"}
        assert stored_terms(acme) == builders.plan().terms


def sides(entry) -> dict:
    return {name: entry.data[name] for name in ("before", "after")}


def stored_terms(where) -> Terms:
    with tenancy.within(where.id):
        return Organization.objects.select_related("plan").get(pk=where.pk).terms


class TestWhatIsNoMore:
    def test_a_plan_a_person_an_organization(self):
        with pytest.raises(Gone):
            services.change_plan(Plan(slug="none"), actor=builders.OPERATOR, name="None", description="")
        with pytest.raises(Gone):
            services.change_staff(
                User(id="usr_none"), actor=builders.OPERATOR, is_superuser=True, staff_role=""
            )
        with pytest.raises(Gone):
            services.change_organization(
                Organization(id=builders.new_id("org")), actor=builders.OPERATOR, name="N", slug="n"
            )

    def test_a_constraint_without_words_is_a_bug(self, alice):
        """Not something to tell a person: an unknown plan never comes from a form."""
        with pytest.raises(IntegrityError):
            services.create_organization(
                "N", actor=builders.OPERATOR, slug=builders.unique("n"), plan=Plan(slug="none")
            )


class TestProjects:
    def test_creating(self, acme, actor):
        root = builders.root(acme)
        with builders.gains(acme.id, "project.created"):
            child = services.create_project(root, "Billing", actor=actor)
        assert (child.path, child.label_path) == (f"{root.path}{child.id}/", "Acme / Billing")

    def test_siblings_differ_cousins_need_not(self, acme, actor):
        root = builders.root(acme)
        one, two = builders.project(root), builders.project(root)
        services.create_project(one, "Api", actor=actor)
        services.create_project(two, "Api", actor=actor)
        with builders.gains(acme.id), pytest.raises(Taken):
            services.create_project(one, "Api", actor=actor)

    @pytest.mark.parametrize("name", ["a / b", "/ a", "a /", "/"])
    def test_a_name_reads_like_no_path(self, acme, actor, name):
        with pytest.raises(Invalid):
            services.create_project(builders.root(acme), name, actor=actor)

    def test_the_tree_ends(self, acme, actor):
        place = builders.root(acme)
        for _ in range(8):
            place = services.create_project(place, "Below", actor=actor)
        with pytest.raises(Invalid):
            services.create_project(place, "Below", actor=actor)

    def test_renaming_reaches_what_lies_below_and_nothing_beside(self, acme, actor):
        root = builders.root(acme)
        web = services.create_project(root, "Web", actor=actor)
        api = services.create_project(web, "Web", actor=actor)
        beside = services.create_project(root, "Web site", actor=actor)
        with builders.gains(acme.id, "project.changed") as gained:
            assert services.rename_project(web, "Front", actor=actor)
            assert not services.rename_project(web, "Front", actor=actor)
        with tenancy.within(acme.id):
            labels = dict(Project.objects.values_list("id", "label_path"))
        assert labels[web.id] == "Acme / Front"
        assert labels[api.id] == "Acme / Front / Web"
        assert labels[beside.id] == "Acme / Web site"
        assert (gained[0].data["before"], gained[0].data["after"]) == ({"name": "Web"}, {"name": "Front"})

    def test_in_tree_order_children_follow_their_parent(self, acme, actor):
        root = builders.root(acme)
        web = services.create_project(root, "Web", actor=actor)
        services.create_project(root, "Web (old)", actor=actor)
        services.create_project(web, "Api", actor=actor)
        with tenancy.within(acme.id):
            names = [project.name for project in Project.objects.of(acme.id).in_tree_order()]
        assert names == ["Acme", "Web", "Api", "Web (old)"]

    @pytest.mark.parametrize("scopes", [["b:read", "a:read", "a:read"], [], None])
    def test_narrowing(self, acme, actor, scopes):
        child = builders.project(builders.root(acme))
        services.set_project_scopes(child, ["z:write"], actor=actor)
        with builders.gains(acme.id, "project.changed") as gained:
            assert services.set_project_scopes(child, scopes, actor=actor)
            assert not services.set_project_scopes(child, scopes, actor=actor)
        wanted = None if scopes is None else sorted(set(scopes))
        assert gained[0].data["after"] == {"scopes": wanted}

    def test_archiving_takes_what_lies_below(self, acme, actor):
        child = builders.project(builders.root(acme))
        below = builders.project(child)
        with builders.gains(acme.id, "project.archived", "project.archived") as gained:
            assert services.archive_project(child, actor=actor) == 2
        assert {entry.data["target"] for entry in gained} == {child.id, below.id}
        for act in (
            lambda: services.create_project(below, "New", actor=actor),
            lambda: services.rename_project(child, "New", actor=actor),
            lambda: services.archive_project(child, actor=actor),
        ):
            with pytest.raises(Gone):
                act()

    def test_the_root_stays(self, acme, actor):
        with pytest.raises(Invalid):
            services.archive_project(builders.root(acme), actor=actor)

    def test_so_does_what_working_keys_need(self, acme, actor, monkeypatch):
        monkeypatch.setattr(ports, "on_archiving", [lambda _: 2])
        child = builders.project(builders.root(acme))
        with builders.gains(acme.id), pytest.raises(StillInUse, match="2 working keys"):
            services.archive_project(child, actor=actor)

    def test_the_database_keeps_a_project_where_it_is(self, acme):
        child = builders.project(builders.root(acme))
        with pytest.raises(IntegrityError, match="keeps its place"), tenancy.within(acme.id):
            Project.objects.filter(pk=child.pk).update(parent=None)


class TestEnvironments:
    def make(self, acme, actor, slug="staging", **more):
        facts = {"name": "Staging", "mode": "test", "is_production": False} | more
        return services.create_environment(acme, slug, actor=actor, **facts)

    def test_creating(self, acme, actor):
        with builders.gains(acme.id, "environment.created") as gained:
            made = self.make(acme, actor)
        assert gained[0].data == {
            "target": made.id,
            "slug": "staging",
            "name": "Staging",
            "mode": "test",
            "is_production": False,
            "request_id": "req_tests",
        }

    @pytest.mark.parametrize(
        ("facts", "field"),
        [
            ({"is_production": True}, "is_production"),
            ({"slug": "live"}, "slug"),
            ({"slug": "production"}, "slug"),
        ],
    )
    def test_what_it_may_not_be(self, acme, actor, facts, field):
        with builders.gains(acme.id), pytest.raises((Invalid, Taken)) as refused:
            self.make(acme, actor, **facts)
        assert refused.value.field == field

    def test_renaming(self, acme, actor):
        made = self.make(acme, actor)
        with builders.gains(acme.id, "environment.changed"):
            assert services.rename_environment(made, "Stage", actor=actor)
            assert not services.rename_environment(made, "Stage", actor=actor)

    def test_archiving_and_the_last_one(self, acme, actor, monkeypatch):
        made = self.make(acme, actor)
        monkeypatch.setattr(ports, "on_archiving", [lambda _: 1])
        with pytest.raises(StillInUse, match="1 working key is"):
            services.archive_environment(made, actor=actor)
        monkeypatch.setattr(ports, "on_archiving", [])
        with builders.gains(acme.id, "environment.archived"):
            services.archive_environment(made, actor=actor)
            with pytest.raises(Gone):
                services.archive_environment(made, actor=actor)
            with pytest.raises(Gone):
                services.rename_environment(made, "Stage", actor=actor)
            with pytest.raises(Invalid):
                services.archive_environment(builders.production(acme), actor=actor)

    def test_mode_and_slug_are_fixed_by_the_database(self, acme):
        with pytest.raises(IntegrityError, match="keeps its slug"), tenancy.within(acme.id):
            Environment.objects.filter(slug="production").update(slug="other")


def test_every_service_leaves_no_setting_behind(acme, actor):
    services.create_project(builders.root(acme), "Last", actor=actor)
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('app.organization', true), '')")
        assert cursor.fetchone() == ("",)
