"""Rate limits and the cap of keys: what services let people and keys give, keep and record."""

import pytest
from django.db import IntegrityError, transaction

from audit import tenancy
from keys import callers, services
from keys.callers import Presented
from keys.errors import ExceedsGrant, Invalid, InvalidMany, KeyCapReached, NameTaken
from keys.models import ApiKey, Tier
from keys.policy import ABSENT, TierName
from keys.secret import Kind, Mode
from keys.services import Changes, TierDraft
from orgs.roles import Role
from orgs.terms import RateLimit
from tests import builders, key_builders, limit_builders
from tests.api.calls import as_superuser, at_once

PLAN = {"requests": 1000, "window_seconds": 60}


@pytest.fixture
def alice():
    return builders.person("Alice")


@pytest.fixture
def acme(alice):
    made = builders.organization("Acme", owner=alice)
    builders.agree(made, rate_limit=PLAN)
    return made


def by_key(created, where, *, is_operator: bool = False) -> callers.Caller:
    """Return a key as a caller, as the API has it: with no more of its row than authentication reads."""
    key = created.key
    presented = Presented(
        key=ApiKey(id=key.id, organization_id=where.id, allowed_ips=[], expires_at=None),
        version=1,
        project=builders.root(where),
        mode=Mode.LIVE,
        scopes=tuple(key.scopes),
        is_operator=is_operator,
    )
    return callers.of_key(presented, ip="203.0.113.9", user_agent="", request_id="")


def by_person(user, where) -> callers.Caller:
    return callers.of_member(builders.member(user, where))


def make(where, caller, **changes):
    fields = {
        "kind": Kind.CONTROL_PLANE,
        "name": builders.unique("key"),
        "project": builders.root(where),
        "environment": builders.production(where),
        "scopes": ["incidents:read"],
    }
    with tenancy.within(where.id):
        return services.create_key(services.Draft(**fields | changes), actor=caller).key


def change(key, where, caller, asked) -> ApiKey:
    with tenancy.within(where.id):
        services.change_key(key_builders.read(key.id, where), Changes(rate_limit=asked), actor=caller)
    return key_builders.read(key.id, where)


def limit(key, where):
    with tenancy.within(where.id):
        return ApiKey.objects.select_related("tier").get(pk=key.id).limit


class TestCreating:
    def test_inherited_unless_told(self, acme, alice):
        with builders.gains(acme.id, "key.created") as gained:
            key = make(acme, by_person(alice, acme))
        assert limit(key, acme) is None
        assert gained[0].data["after"]["rate_limit"] is None

    def test_its_own(self, acme, alice):
        with builders.gains(acme.id, "key.created") as gained:
            key = make(acme, by_person(alice, acme), rate_limit=RateLimit(5, 90))
        assert limit(key, acme) == RateLimit(5, 90)
        assert gained[0].data["after"]["rate_limit"] == "5 in 90 s"

    def test_a_tier(self, acme, alice):
        tier = limit_builders.tier(500, 60, monthly_quota=9)
        with builders.gains(acme.id, "key.created") as gained:
            key = make(acme, by_person(alice, acme), rate_limit=TierName(tier.slug))
        assert limit(key, acme) == tier.limit
        assert gained[0].data["after"]["rate_limit"] == f"tier {tier.slug}"

    def test_more_than_the_plan(self, acme, alice):
        big = limit_builders.tier(1001, 60)
        for asked in (RateLimit(1001, 60), TierName(big.slug)):
            with builders.gains(acme.id), pytest.raises(ExceedsGrant) as refused:
                make(acme, by_person(alice, acme), rate_limit=asked)
            assert refused.value.field == "rate_limit"

    def test_what_does_not_exist(self, acme, alice):
        with pytest.raises(Invalid) as refused:
            make(acme, by_person(alice, acme), rate_limit=TierName("nowhere"))
        assert refused.value.field == "rate_limit.tier"
        with pytest.raises(Invalid) as refused:
            make(acme, by_person(alice, acme), rate_limit=RateLimit(1, 0))
        assert refused.value.field == "rate_limit.window_seconds"

    def test_a_limited_key_hands_its_limit_on(self, acme, alice):
        creator = by_key(key_builders.create(acme, alice, rate_limit=RateLimit(10, 60)), acme)
        assert limit(make(acme, creator), acme) == RateLimit(10, 60)
        assert limit(make(acme, creator, rate_limit=RateLimit(9, 60)), acme) == RateLimit(9, 60)
        for asked in (None, RateLimit(11, 60)):
            with pytest.raises(ExceedsGrant):
                make(acme, creator, rate_limit=asked)

    def test_a_key_of_a_tier_hands_its_tier_on(self, acme, alice):
        tier = limit_builders.tier(10, 60, monthly_quota=100)
        creator = by_key(key_builders.create(acme, alice, rate_limit=TierName(tier.slug)), acme)
        assert limit(make(acme, creator), acme) == tier.limit
        with pytest.raises(ExceedsGrant):
            make(acme, creator, rate_limit=RateLimit(1, 60))

    def test_the_operators_key_gives_any(self, acme, alice):
        operators = by_key(
            key_builders.create(acme, alice, rate_limit=RateLimit(1, 60)), acme, is_operator=True
        )
        assert limit(make(acme, operators, rate_limit=RateLimit(9_999, 1)), acme) == RateLimit(9_999, 1)
        assert limit(make(acme, operators), acme) is None

    def test_a_superuser_gives_any(self, acme):
        olga = builders.person("Olga", is_superuser=True)
        builders.join(olga, acme, Role.ADMIN)
        key = make(acme, by_person(olga, acme), rate_limit=RateLimit(9_999, 1))
        assert limit(key, acme) == RateLimit(9_999, 1)


class TestChanging:
    def test_each_way(self, acme, alice):
        tier, person = limit_builders.tier(500, 60), by_person(alice, acme)
        key = make(acme, person)
        with builders.gains(acme.id, *["key.changed"] * 3) as gained:
            for asked in (RateLimit(5, 60), RateLimit(5, 60), TierName(tier.slug), None, None):
                key = change(key, acme, person, asked)
        told = [(entry.data["before"]["rate_limit"], entry.data["after"]["rate_limit"]) for entry in gained]
        assert told == [
            ("as the plan says", "5 in 60 s"),
            ("5 in 60 s", f"tier {tier.slug}"),
            (f"tier {tier.slug}", "as the plan says"),
        ]
        assert set(gained[0].data["after"]) == {"rate_limit"}
        assert limit(key, acme) is None

    def test_other_changes_leave_it(self, acme, alice):
        key = make(acme, by_person(alice, acme), rate_limit=RateLimit(5, 60))
        with tenancy.within(acme.id):
            services.change_key(key, Changes(description="new"), actor=by_person(alice, acme))
            services.rotate_key(key, actor=by_person(alice, acme))
        assert limit(key, acme) == RateLimit(5, 60)

    def test_raising_beyond_the_plan(self, acme, alice):
        key = make(acme, by_person(alice, acme))
        for asked in (RateLimit(1001, 60), RateLimit(1000, 59)):
            with builders.gains(acme.id), pytest.raises(ExceedsGrant) as refused:
                change(key, acme, by_person(alice, acme), asked)
            assert refused.value.field == "rate_limit"

    def test_raising_is_widening(self, acme, alice):
        """Whoever may not give the key's scopes may lower its limit, and not raise it again."""
        bob = builders.person("Bob")
        builders.join(bob, acme, Role.DEVELOPER)
        key = make(acme, by_person(alice, acme), scopes=["incidents:read", "admin:projects"])
        key = change(key, acme, by_person(bob, acme), RateLimit(5, 60))
        for asked in (None, RateLimit(6, 60)):
            with builders.gains(acme.id), pytest.raises(ExceedsGrant) as refused:
                change(key, acme, by_person(bob, acme), asked)
            assert refused.value.field == "scopes"

    def test_what_the_operator_gave_can_be_lowered_and_not_taken_back(self, acme, alice):
        operators = by_key(key_builders.create(acme, alice), acme, is_operator=True)
        key = make(acme, operators, rate_limit=RateLimit(9_000, 60))
        key = change(key, acme, by_person(alice, acme), RateLimit(5_000, 60))
        assert limit(key, acme) == RateLimit(5_000, 60)
        with pytest.raises(ExceedsGrant):
            change(key, acme, by_person(alice, acme), RateLimit(9_000, 60))
        assert limit(change(key, acme, operators, RateLimit(9_000, 60)), acme) == RateLimit(9_000, 60)

    def test_losing_a_tiers_quota_is_raising(self, acme, alice):
        tier = limit_builders.tier(1000, 60, monthly_quota=100)
        creator = by_key(key_builders.create(acme, alice, rate_limit=TierName(tier.slug)), acme)
        key = make(acme, creator)
        with pytest.raises(ExceedsGrant):
            change(key, acme, creator, None)

    def test_a_limited_key_raises_no_other_beyond_itself(self, acme, alice):
        creator = by_key(key_builders.create(acme, alice, rate_limit=RateLimit(10, 60)), acme)
        other = make(acme, by_person(alice, acme), rate_limit=RateLimit(5, 60))
        assert limit(change(other, acme, creator, RateLimit(10, 60)), acme) == RateLimit(10, 60)
        for asked in (RateLimit(11, 60), None):
            with pytest.raises(ExceedsGrant):
                change(other, acme, creator, asked)


class TestRotating:
    def test_a_limited_key_gets_no_secret_that_does_more(self, acme, alice):
        limited = by_key(key_builders.create(acme, alice, rate_limit=RateLimit(10, 60)), acme)
        more = make(acme, by_person(alice, acme))
        with tenancy.within(acme.id):
            with pytest.raises(ExceedsGrant) as refused:
                services.rotate_key(more, actor=limited)
            assert refused.value.field == "rate_limit"
            less = services.create_key(
                services.Draft(
                    kind=Kind.CONTROL_PLANE,
                    name=builders.unique("key"),
                    project=builders.root(acme),
                    environment=builders.production(acme),
                    scopes=["incidents:read"],
                ),
                actor=limited,
            ).key
            assert services.rotate_key(less, actor=limited).key.limit == RateLimit(10, 60)

    def test_what_the_operator_gave_bars_nobody(self, acme, alice):
        operators = by_key(key_builders.create(acme, alice), acme, is_operator=True)
        key = make(acme, operators, rate_limit=RateLimit(9_000, 60))
        with tenancy.within(acme.id):
            services.rotate_key(key, actor=by_person(alice, acme))
        assert limit(key, acme) == RateLimit(9_000, 60)


class TestTheCap:
    def test_no_room_is_said_and_nothing_made(self, acme, alice):
        builders.agree(acme, key_cap=1)
        make(acme, by_person(alice, acme))
        with builders.gains(acme.id), pytest.raises(KeyCapReached) as refused:
            make(acme, by_person(alice, acme))
        assert "1 keys in use" in refused.value.detail
        assert key_builders.count(acme) == 1

    def test_ended_keys_make_room_and_disabled_ones_do_not(self, acme, alice):
        builders.agree(acme, key_cap=2)
        person = by_person(alice, acme)
        first, second = make(acme, person), make(acme, person)
        with tenancy.within(acme.id):
            services.disable_key(first, actor=person)
        with pytest.raises(KeyCapReached):
            make(acme, person)
        with tenancy.within(acme.id):
            services.revoke_key(first, actor=person, reason="unused")
        make(acme, person)
        with pytest.raises(KeyCapReached):
            make(acme, person)
        as_superuser(
            "UPDATE keys_apikey SET expires_at = now() - interval '1 second' WHERE id = %s", second.id
        )
        make(acme, person)

    def test_none_at_all(self, acme, alice):
        builders.agree(acme, key_cap=0)
        with pytest.raises(KeyCapReached):
            make(acme, by_person(alice, acme))

    def test_a_wrong_draft_is_told_first(self, acme, alice):
        builders.agree(acme, key_cap=0)
        with pytest.raises(Invalid):
            make(acme, by_person(alice, acme), name="!")

    def test_exact_however_many_at_once(self, acme, alice):
        builders.agree(acme, key_cap=5)

        def one(_: int) -> bool:
            try:
                make(acme, by_person(alice, acme))
            except KeyCapReached:
                return False
            return True

        assert sorted(at_once(12, one)) == [False] * 7 + [True] * 5
        assert key_builders.count(acme) == 5


class TestTiers:
    draft = TierDraft(name="Gold", description="More.", requests=500, window_seconds=60, monthly_quota=9)

    def create(self, slug, draft=draft) -> Tier:
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            return services.create_tier(slug, draft, actor=builders.OPERATOR)

    def test_told_in_the_operators_ledger(self):
        slug = builders.unique("gold")
        smaller = TierDraft(name="Gold", requests=400, window_seconds=60)
        with builders.gains(tenancy.operator_id(), "tier.created", "tier.changed") as gained:
            tier = self.create(slug)
            with tenancy.everywhere(tenancy.Reason.COMMAND):
                assert not services.change_tier(tier, self.draft, actor=builders.OPERATOR)
                assert services.change_tier(tier, smaller, actor=builders.OPERATOR)
        assert (tier.rate_limit, tier.monthly_quota, tier.description) == (RateLimit(400, 60), None, "")
        assert gained[0].data["after"]["requests"] == 500
        assert gained[1].data["before"] == {"requests": 500, "monthly_quota": 9, "description": "More."}
        assert gained[1].data["after"] == {"requests": 400, "monthly_quota": None, "description": ""}

    def test_a_taken_name(self):
        tier = limit_builders.tier()
        with builders.gains(tenancy.operator_id()), pytest.raises(NameTaken):
            self.create(tier.slug)

    @pytest.mark.parametrize("slug", ["", "Gold", "a b", "-a", "a" * 64, "gold\n"])
    def test_no_slug(self, slug):
        with pytest.raises(Invalid) as refused:
            self.create(slug)
        assert refused.value.field == "slug"

    def test_out_of_bounds(self):
        wrong = TierDraft(name="Gold", requests=-1, window_seconds=0, monthly_quota=-1)
        with builders.gains(tenancy.operator_id()), pytest.raises(InvalidMany) as refused:
            self.create(builders.unique("gold"), wrong)
        assert [error.field for error in refused.value.errors] == [
            "requests",
            "window_seconds",
            "monthly_quota",
        ]

    def test_the_database_deletes_none(self):
        tier = limit_builders.tier()
        with pytest.raises(Exception, match="permission denied"), transaction.atomic():
            tier.delete()

    def test_a_key_has_one_or_the_other(self, acme, alice):
        """The database states it, whoever writes."""
        tier = limit_builders.tier()
        key = make(acme, by_person(alice, acme), rate_limit=RateLimit(1, 60))
        with pytest.raises(IntegrityError, match="key_rate_limit_whole"), tenancy.within(acme.id):
            ApiKey.objects.filter(pk=key.id).update(tier_id=tier.slug)


def test_absent_is_no_change(acme, alice):
    key = make(acme, by_person(alice, acme), rate_limit=RateLimit(1, 60))
    with builders.gains(acme.id):
        assert change(key, acme, by_person(alice, acme), ABSENT).own_rate_limit == RateLimit(1, 60)
