"""Hygiene: what is found about keys, what the page says of it, and the filters it leads to."""

import re

import pytest

from audit import tenancy
from keys import callers, checkup, clock, services
from keys.models import KeyFinding
from keys.secret import Kind
from keys.services import Owner
from keys.tasks import health as tasks
from orgs import services as org_services
from orgs.roles import Role
from orgs.terms import RateLimit
from tests import builders, key_builders, usage_builders
from tests.api.calls import as_superuser
from tests.usage_builders import ago


@pytest.fixture
def where(django_db_setup):
    """An organization of its own: counts are exact."""
    owner = builders.person("Olga")
    made = builders.organization("Tidy", owner=owner)
    made.olga = owner
    return made


def create(where, **changes):
    return key_builders.create(where, where.olga, **changes).key


def aged(key, days):
    as_superuser(
        "UPDATE keys_apikey SET created_at = now() - make_interval(days => %s) WHERE id = %s", days, key.id
    )
    return key


def used(key, days=0):
    usage_builders.use(key, last_used_at=ago(days=days, minutes=1))
    return key


def found(where, key):
    with tenancy.within(where.id):
        return set(KeyFinding.objects.filter(key_id=key.id).values_list("finding", flat=True))


def listed(client, query):
    html = client.get(f"/?{query}").content.decode()
    return set(re.findall(r'class="name" href="/keys/(key_\w+)"', html))


def checks(client):
    """Return the page's checks that found something, with their counts."""
    report = client.get("/hygiene").context["report"]
    return {one.check.name: one.number for one in report.found}


class TestFindings:
    def test_each_is_found_and_the_filter_takes_exactly_these(self, where):
        client = builders.signed_in(where.olga)
        good = used(create(where))
        idle = used(aged(create(where), 200), days=91)
        never = aged(create(where), 8)
        fresh = create(where)
        endless = used(create(where, kind=Kind.INGESTION, scopes=["ingest:write"], expires=None))
        unowned = used(create(where, owner=Owner()))
        refused = used(create(where))
        usage_builders.calls(refused, [{"code": "INSUFFICIENT_SCOPE"}] * 20)
        shared = used(create(where))
        usage_builders.calls(shared, [{"region": "eu"}, {"region": "us"}])
        roaming = used(create(where))
        usage_builders.calls(roaming, [{"ip": f"10.0.{n}.1"} for n in range(11)])
        unused = used(aged(create(where, scopes=["incidents:read", "incidents:write"]), 31))
        usage_builders.calls(unused, [{}])
        usage_builders.asked(unused, "incidents:read")
        usage_builders.learned()
        tasks.look_at_keys(0)
        expected = {
            "unused=90": {idle.id},
            "health=never_used": {never.id},
            "health=no_expiry": {endless.id},
            "health=no_owner": {unowned.id},
            "health=refused": {refused.id},
            "health=regions": {shared.id},
            "health=networks": {roaming.id},
            "health=unused_scopes": {unused.id},
            "health=above_plan": set(),
        }
        assert {query: listed(client, query) for query in expected} == expected
        assert {good.id, fresh.id} & set().union(*expected.values()) == set()
        names = (
            "idle",
            "never_used",
            "no_expiry",
            "no_owner",
            "refused",
            "regions",
            "networks",
            "unused_scopes",
        )
        assert checks(client) == dict.fromkeys(names, 1)

    def test_a_limit_above_a_plan_that_was_lowered(self, where):
        builders.agree(where, rate_limit={"requests": 100, "window_seconds": 60})
        key = create(where, rate_limit=RateLimit(100, 60))
        checkup.look(where.id)
        assert found(where, key) == set()
        builders.agree(where, rate_limit={"requests": 50, "window_seconds": 60})
        as_superuser("UPDATE keys_healthrun SET looked_at_all_at = now() - interval '2 days'")
        checkup.look(where.id)
        assert found(where, key) == {"above_plan"}

    def test_an_owner_who_left(self, where):
        bob = builders.person("Bob")
        membership = builders.join(bob, where, Role.DEVELOPER)
        key = create(where, owner=Owner(member=bob))
        checkup.look(where.id)
        assert found(where, key) == set()
        org_services.remove_member(membership, actor=builders.member(where.olga, where))
        checkup.look(where.id)
        assert found(where, key) == {"no_owner"}


class TestLooking:
    def test_what_is_mended_goes_at_the_next_look(self, where):
        key = create(where, owner=Owner())
        checkup.look(where.id)
        assert found(where, key) == {"no_owner"}
        with tenancy.within(where.id):
            services.change_key(
                key,
                services.Changes(owner=Owner(team="NOC")),
                actor=callers.of_member(builders.member(where.olga, where)),
            )
        checkup.look(where.id)
        assert found(where, key) == set()

    def test_only_what_changed_or_was_used_is_looked_at_again(self, where):
        first, second = create(where), create(where)
        assert checkup.look(where.id) == 2
        as_superuser(
            "UPDATE keys_apikey SET updated_at = now() - interval '1 hour' WHERE organization_id = %s",
            where.id,
        )
        assert checkup.look(where.id) == 0
        usage_builders.calls(first, [{"code": "INSUFFICIENT_SCOPE"}] * 20)
        usage_builders.rolled_up()
        assert checkup.look(where.id) == 1
        assert (found(where, first), found(where, second)) == ({"refused"}, set())

    def test_all_are_looked_at_once_a_day(self, where):
        create(where)
        checkup.look(where.id)
        as_superuser("UPDATE keys_apikey SET updated_at = now() - interval '1 hour'")
        as_superuser("UPDATE keys_healthrun SET looked_at_all_at = now() - interval '25 hours'")
        assert checkup.look(where.id) == 1

    def test_of_a_key_that_ended_nothing_is_left(self, where):
        key = create(where, owner=Owner())
        checkup.look(where.id)
        with tenancy.within(where.id):
            services.revoke_key(key, actor=callers.of_member(builders.member(where.olga, where)))
        checkup.look(where.id)
        assert found(where, key) == set()

    def test_one_organization_that_fails_does_not_stop_the_next(self, where, monkeypatch):
        other = builders.organization("Other", owner=where.olga)
        poisoned, sound = sorted((where, other), key=lambda each: each.id)
        key = key_builders.create(sound, where.olga, owner=Owner()).key
        real = checkup.look

        def broken(organization_id):
            if organization_id == poisoned.id:
                raise RuntimeError("poisoned")
            return real(organization_id) if organization_id == sound.id else 0

        monkeypatch.setattr(checkup, "look", broken)
        tasks.look_at_keys(0)
        assert found(sound, key) == {"no_owner"}

    def test_strangers_see_none_of_it(self, where):
        key = create(where, owner=Owner())
        checkup.look(where.id)
        other = builders.organization("Other", owner=builders.person("Other"))
        with tenancy.within(other.id):
            assert not KeyFinding.objects.filter(key_id=key.id).exists()


class TestPage:
    def test_before_the_first_look_it_says_so(self, where):
        aged(create(where), 8)
        html = builders.signed_in(where.olga).get("/hygiene").content.decode()
        assert "has not looked at these keys yet" in html
        assert 'href="/?health=never_used"' in html

    def test_without_keys_it_says_so(self, where):
        assert "Nothing to look at" in builders.signed_in(where.olga).get("/hygiene").content.decode()

    def test_where_all_is_well_it_says_so(self, where):
        used(create(where))
        html = builders.signed_in(where.olga).get("/hygiene").content.decode()
        assert "Nothing deserves a look" in html

    def test_a_member_of_a_project_sees_its_keys_alone(self, where):
        project = builders.project(builders.root(where))
        bob = builders.person("Bob")
        builders.join(bob, where, Role.DEVELOPER, project)
        aged(create(where), 8)
        mine = aged(create(where, project=project), 8)
        assert checks(builders.signed_in(where.olga))["never_used"] == 2
        client = builders.signed_in(bob)
        assert checks(client)["never_used"] == 1
        assert listed(client, "health=never_used") == {mine.id}

    def test_keys_and_the_command_list_lead_to_it(self, where):
        create(where)
        html = builders.signed_in(where.olga).get("/").content.decode()
        assert html.count('href="/hygiene"') == 2

    @pytest.mark.parametrize("health", ["x", "NO_OWNER", "' or 1", "no_owner\x00"])
    def test_an_unknown_filter_is_left_out(self, where, health):
        key = create(where)
        assert listed(builders.signed_in(where.olga), f"health={health}") == {key.id}

    def test_pages_of_a_filter_lead_on(self, where):
        with_none = {aged(create(where), 8 + n).id for n in range(3)}
        with tenancy.within(where.id):
            from keys import listing
            from keys.models import ApiKey

            filters = listing.Filters(organization_id=where.id, health="never_used")
            now, seen, cursor = clock.now(), set(), None
            while True:
                keys = listing.apply(ApiKey.objects.of(where.id), filters, now)
                page = listing.page(keys, filters=filters, sort="-last_used_at", cursor=cursor, limit=1)
                seen |= {key.id for key in page.items}
                cursor = page.next
                if cursor is None:
                    break
        assert seen == with_none
