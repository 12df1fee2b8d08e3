"""Rate limits on the pages: New key, a key's overview and form, and Settings → Plan and limits."""

from html import unescape

import pytest

from audit import tenancy
from keys import clock, limits
from keys.models import ApiKey
from keys.policy import TierName
from orgs import services
from orgs.models import Plan
from orgs.roles import Role
from orgs.terms import RateLimit, Terms
from tests import builders, key_builders, limit_builders, usage_builders
from tests.key_builders import form, read, secrets_in

PLAN = {"requests": 1000, "window_seconds": 60}
OWN = {"rate_limit": "custom", "limit_requests": "5", "limit_window": "90"}


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        cast = builders.cast()
        builders.agree(cast.acme, rate_limit=PLAN)
        return cast


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def key(cast):
    return key_builders.create(cast.acme, cast.alice).key


def text(response) -> str:
    return " ".join(unescape(response.content.decode()).split())


def limit(key, where):
    with tenancy.within(where.id):
        return type(key).objects.select_related("tier").get(pk=key.id).limit


def newest(where):
    with tenancy.within(where.id):
        return ApiKey.objects.filter(organization=where).order_by("-created_at").first()


def errors(response) -> set[str]:
    assert response.status_code == 422
    return set(response.context["form"].errors)


class TestNewKey:
    def test_offers_what_the_plan_allows(self, alice):
        inside, outside = limit_builders.tier(500, 60, monthly_quota=9_000), limit_builders.tier(1001, 60)
        page = alice.get("/keys/new")
        labels = {option.data["value"]: option.choice_label for option in page.context["form"]["rate_limit"]}
        assert labels["inherit"] == "As the plan says: 1,000 in any minute"
        assert labels[f"tier:{inside.slug}"] == "Tier: 500 in any minute, 9,000 a month"
        assert f"tier:{outside.slug}" not in labels
        assert list(labels)[-1] == "custom"

    def test_inherits_unless_told(self, cast, alice):
        assert secrets_in(alice.post("/keys/new", form(cast.acme, alice)))
        assert limit(newest(cast.acme), cast.acme) is None

    def test_its_own(self, cast, alice):
        answer = alice.post("/keys/new", form(cast.acme, alice, **OWN))
        assert secrets_in(answer)
        assert "5 in any 90 seconds, its own" in text(answer)
        assert limit(newest(cast.acme), cast.acme) == RateLimit(5, 90)

    def test_a_tier(self, cast, alice):
        tier = limit_builders.tier(500, 60)
        answer = alice.post("/keys/new", form(cast.acme, alice, rate_limit=f"tier:{tier.slug}"))
        assert secrets_in(answer)
        assert "500 in any minute, from the tier Tier" in text(answer)
        assert limit(newest(cast.acme), cast.acme) == tier.limit

    @pytest.mark.parametrize(
        ("changes", "fields"),
        [
            ({**OWN, "limit_requests": ""}, {"limit_requests"}),
            ({**OWN, "limit_window": ""}, {"limit_window"}),
            ({**OWN, "limit_requests": "-1", "limit_window": "0"}, {"limit_requests", "limit_window"}),
            ({**OWN, "limit_requests": "x"}, {"limit_requests"}),
            ({**OWN, "limit_requests": "1001", "limit_window": "60"}, {"rate_limit"}),
            ({"rate_limit": "tier:nowhere"}, {"rate_limit"}),
            ({"rate_limit": "more"}, {"rate_limit"}),
        ],
    )
    def test_what_is_refused(self, cast, alice, changes, fields):
        with builders.gains(cast.acme.id):
            page = alice.post("/keys/new", form(cast.acme, alice, **changes))
        assert errors(page) == fields
        assert page.context["form"]["rate_limit"].value() == changes["rate_limit"]

    def test_a_tier_beyond_the_plan_can_not_be_posted(self, cast, alice):
        big = limit_builders.tier(1001, 60)
        page = alice.post("/keys/new", form(cast.acme, alice, rate_limit=f"tier:{big.slug}"))
        assert errors(page) == {"rate_limit"}

    def test_what_is_out_of_sight_is_not_judged(self, cast, alice):
        sent = form(cast.acme, alice, **OWN | {"rate_limit": "inherit", "limit_requests": "x"})
        assert secrets_in(alice.post("/keys/new", sent))

    def test_the_summary_says_it(self, cast, alice):
        sent = form(cast.acme, alice, **OWN)
        assert "5 in any 90 seconds" in text(
            alice.post("/keys/new/preview", sent, headers={"HX-Request": "true"})
        )
        assert 'value="90"' in alice.post("/keys/new/preview", sent).content.decode()

    def test_the_cap_is_said_before_and_after(self, cast):
        full = builders.organization("Full", owner=cast.mallory)
        mallory = builders.signed_in(cast.mallory)
        mallory.post("/switch/organization", {"organization": full.id})
        assert "no room" not in text(mallory.get("/keys/new"))
        builders.agree(full, key_cap=0)
        page = mallory.get("/keys/new")
        assert "The plan has no room for another key." in text(page)
        assert "/settings/plan" in page.content.decode()
        with builders.gains(full.id):
            refused = mallory.post("/keys/new", form(full, mallory))
        assert errors(refused) == {"__all__"}
        assert "The plan has room for 0 keys in use" in text(refused)
        assert not secrets_in(refused)


class TestAKey:
    def test_says_what_counts_and_whence(self, cast, alice, key):
        assert "1,000 in any minute, from the plan" in text(alice.get(f"/keys/{key.id}"))
        own = key_builders.create(cast.acme, cast.alice, rate_limit=RateLimit(1, 3600)).key
        assert "1 in any hour, its own" in text(alice.get(f"/keys/{own.id}"))
        tier = limit_builders.tier(2, 86_400, monthly_quota=30)
        named = key_builders.create(cast.acme, cast.alice, rate_limit=TierName(tier.slug)).key
        assert "2 in any day, 30 a month, from the tier Tier" in text(alice.get(f"/keys/{named.id}"))

    def test_without_any(self, cast):
        mallory = builders.signed_in(cast.mallory)
        key = key_builders.create(cast.elsewhere, cast.mallory).key
        assert "No limit, as the plan says" in text(mallory.get(f"/keys/{key.id}"))

    def test_each_way(self, cast, alice, key):
        tier, path = limit_builders.tier(500, 60), f"/keys/{key.id}/edit/limits"
        plain = {"expires": "keep", "allowed_ips": ""}
        for sent, stored in (
            (OWN, RateLimit(5, 90)),
            ({"rate_limit": f"tier:{tier.slug}"}, tier.limit),
            ({"rate_limit": "inherit"}, None),
        ):
            with builders.gains(cast.acme.id, "key.changed"):
                answer = alice.post(path, {**plain, **sent})
            assert (answer.status_code, answer["Location"]) == (303, f"/keys/{key.id}")
            assert limit(key, cast.acme) == stored
            shown = alice.get(path).context["form"]
            assert shown["rate_limit"].value() == sent["rate_limit"]

    @pytest.mark.parametrize("given", [RateLimit(5, 90), None])
    def test_the_form_as_it_came_changes_nothing(self, cast, alice, given):
        key = key_builders.create(cast.acme, cast.alice, rate_limit=given).key
        shown = alice.get(f"/keys/{key.id}/edit/limits").context["form"]
        sent = {name: shown[name].value() for name in shown.fields if shown[name].value() is not None}
        with builders.gains(cast.acme.id):
            assert alice.post(f"/keys/{key.id}/edit/limits", {**sent, "allowed_ips": ""}).status_code == 303

    def test_a_form_without_the_field_leaves_it(self, cast, alice):
        key = key_builders.create(cast.acme, cast.alice, rate_limit=RateLimit(5, 90)).key
        sent = {"expires": "keep", "allowed_ips": ""}
        assert alice.post(f"/keys/{key.id}/edit/limits", sent).status_code == 303
        assert limit(key, cast.acme) == RateLimit(5, 90)

    def test_what_the_operator_gave_stays_offered_to_its_key_alone(self, cast, alice, key):
        big = limit_builders.tier(9_000, 60)
        olga = builders.person("Olga", is_superuser=True)
        builders.join(olga, cast.acme, Role.ADMIN)
        with builders.gains(cast.acme.id, "key.changed"):
            sent = {"expires": "keep", "allowed_ips": "", "rate_limit": f"tier:{big.slug}"}
            builders.signed_in(olga).post(f"/keys/{key.id}/edit/limits", sent)
        with builders.gains(cast.acme.id):
            assert alice.post(f"/keys/{key.id}/edit/limits", sent).status_code == 303
        other = key_builders.create(cast.acme, cast.alice).key
        assert errors(alice.post(f"/keys/{other.id}/edit/limits", sent)) == {"rate_limit"}
        assert "given by the operator alone" in text(alice.get("/settings/plan"))

    def test_raising_takes_the_right_to_grant(self, cast, key):
        wide = key_builders.create(cast.acme, cast.alice, scopes=["admin:projects"]).key
        bob, sent = builders.signed_in(cast.bob), {"expires": "keep", "allowed_ips": ""}
        assert bob.post(f"/keys/{wide.id}/edit/limits", {**sent, **OWN}).status_code == 303
        page = bob.post(f"/keys/{wide.id}/edit/limits", {**sent, "rate_limit": "inherit"})
        assert page.status_code == 422
        assert "admin:projects" in text(page)
        assert limit(wide, cast.acme) == RateLimit(5, 90)
        assert read(wide.id, cast.acme).scopes == ["admin:projects"]


@pytest.fixture(scope="module")
def bought(django_db_setup, django_db_blocker):
    """An organization on a plan of its own, with something agreed and something spent."""
    with django_db_blocker.unblock():
        quinn = builders.person("Quinn")
        terms = Terms(
            rate_limit=RateLimit(600, 60),
            monthly_quota=10_000,
            key_cap=4,
            entitlements={"bulk_export": True, "sso": False, "seats": 2500},
        )
        plan = services.create_plan(
            "Team <b>",
            actor=builders.OPERATOR,
            slug=builders.unique("team"),
            description="For teams.",
            terms=terms,
            usage_retention_days=30,
        )
        made = services.create_organization(
            "Quay", actor=builders.OPERATOR, slug=builders.unique("quay"), plan=plan, owner=quinn
        )
        builders.agree(made, monthly_quota=20_000, entitlements={"seats": None, "beta": True})
        key_builders.create(made, quinn)
        usage_builders.spend(made, limits.period(clock.now()), 19_000)
        return made, quinn


class TestPlanAndLimits:
    def test_everything_of_it(self, bought):
        _, quinn = bought
        page = builders.signed_in(quinn).get("/settings/plan")
        said = text(page)
        for words in (
            "Plan: <bdi>Team <b></bdi>",
            "For teams.",
            "600 in any minute",
            "19,000",
            "of 20,000 in the calendar month",
            "of at most 4",
            "30 days",
            "changed by the operator of this portal alone",
        ):
            assert words in said, words
        assert "Team &lt;b&gt;" in page.content.decode()
        assert 'width="95.0%"' in said
        features = {each.name: (each.value, each.is_agreed) for each in page.context["bought"].features}
        assert features == {
            "beta": ("Included", True),
            "bulk_export": ("Included", False),
            "seats": ("Not included", True),
            "sso": ("Not included", False),
        }
        assert said.count("agreed with you") == 3
        assert "<form" not in said.partition("<main")[2].partition("</main>")[0]

    def test_nothing_limited(self, cast):
        page = builders.signed_in(cast.mallory).get("/settings/plan")
        said = text(page)
        assert "No limit" in said
        assert "of any number" in said
        assert "This plan names no features." in said

    @pytest.mark.parametrize("who", ["alice", "anna", "bob", "carol", "vera"])
    def test_every_member_reads_it(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        assert "1,000 in any minute" in text(client.get("/settings/plan"))
        assert '/settings/plan" aria-current="page"' in client.get("/settings/plan").content.decode()
        assert client.post("/settings/plan", {"monthly_quota": 1}).status_code == 405

    def test_whoever_sees_a_part_sees_no_sums(self, bought):
        made, _ = bought
        part = builders.project(builders.root(made))
        patty = builders.person("Patty")
        builders.join(patty, made, Role.DEVELOPER, part)
        said = text(builders.signed_in(patty).get("/settings/plan"))
        assert "600 in any minute" in said
        assert "19,000" not in said
        assert "At most 4" in said

    def test_last_months_spending_is_over(self, bought, monkeypatch):
        _, quinn = bought
        monkeypatch.setattr(limits, "period", lambda _: 209901)
        page = builders.signed_in(quinn).get("/settings/plan")
        assert page.context["bought"].spent.used == "0"

    def test_tiers_within_the_plan(self, cast, alice):
        inside, outside = limit_builders.tier(1000, 60), limit_builders.tier(1001, 60)
        key_builders.create(cast.acme, cast.alice, rate_limit=TierName(inside.slug))
        shown = {row.tier.slug: row.keys for row in alice.get("/settings/plan").context["bought"].tiers}
        assert shown[inside.slug] == 1
        assert outside.slug not in shown


def test_the_standard_plan_limits_nothing():
    """What the other tests rely on."""
    assert Plan.objects.get(pk="standard").terms == Terms()
