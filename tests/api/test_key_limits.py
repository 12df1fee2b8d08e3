"""`rate_limit` of keys over the API: what may be asked, by whom, what is shown, and the plan's cap."""

import pytest

from audit import tenancy
from orgs import services
from orgs.models import Organization
from orgs.terms import RateLimit
from tests import builders, key_builders, limit_builders
from tests.api import calls
from tests.api.calls import is_problem, where

PLAN = {"requests": 1000, "window_seconds": 60}
SMALL = {"requests": 10, "window_seconds": 60}


@pytest.fixture(scope="module")
def acme(cast, django_db_blocker):
    """An organization of its own: its terms are not the cast's."""
    with django_db_blocker.unblock():
        made = builders.organization("Acme", owner=cast.alice)
        builders.agree(made, rate_limit=PLAN)
        return made


@pytest.fixture
def api(acme, cast):
    return calls.program(acme, cast.alice)


@pytest.fixture
def limited(acme, cast):
    return calls.program(acme, cast.alice, rate_limit=RateLimit(**SMALL))


@pytest.fixture(scope="module")
def operator(cast, django_db_blocker):
    """The operator's back end."""
    with django_db_blocker.unblock():
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            own = Organization.objects.get(is_operator=True)
        olga = builders.person("Olga")
        services.appoint_owner(own, olga, actor=builders.OPERATOR)
        return calls.program(own, olga)


def create(api, **changes):
    answer = api.post("/api-keys", calls.draft(**changes))
    assert answer.status_code == 201, answer.content
    return answer.json()["key"]


class TestWhatIsShown:
    def test_each_source(self, api):
        tier = limit_builders.tier(500, 60)
        assert create(api)["rate_limit"] == {**PLAN, "source": "plan"}
        assert create(api, rate_limit=None)["rate_limit"] == {**PLAN, "source": "plan"}
        assert create(api, rate_limit=SMALL)["rate_limit"] == {**SMALL, "source": "key"}
        made = create(api, rate_limit={"tier": tier.slug})
        shown = {"requests": 500, "window_seconds": 60, "source": "tier", "tier": tier.slug}
        assert made["rate_limit"] == shown
        assert api.get(f"/api-keys/{made['id']}").json()["rate_limit"] == shown
        listed = {key["id"]: key["rate_limit"] for key in api.get("/api-keys").json()["data"]}
        assert listed[made["id"]] == shown

    def test_without_any(self, stranger):
        assert create(stranger)["rate_limit"] is None
        assert stranger.get("/me").json()["rate_limit"] is None

    def test_ones_own(self, api, limited):
        assert api.get("/me").json()["rate_limit"] == {**PLAN, "source": "plan"}
        assert limited.get("/me").json()["rate_limit"] == {**SMALL, "source": "key"}


class TestWhatMayBeAsked:
    @pytest.mark.parametrize(
        ("asked", "places"),
        [
            ({}, ["rate_limit.requests", "rate_limit.window_seconds"]),
            ({"requests": 5}, ["rate_limit.window_seconds"]),
            ({"requests": -1, "window_seconds": 60}, ["rate_limit.requests"]),
            ({"requests": 2**31, "window_seconds": 60}, ["rate_limit.requests"]),
            ({"requests": 5, "window_seconds": 0}, ["rate_limit.window_seconds"]),
            ({"requests": 5, "window_seconds": 86_400 * 31 + 1}, ["rate_limit.window_seconds"]),
            ({"requests": 5.0, "window_seconds": 60}, ["rate_limit.requests"]),
            (
                {"requests": True, "window_seconds": "60"},
                ["rate_limit.requests", "rate_limit.window_seconds"],
            ),
            ({**SMALL, "source": "key"}, ["rate_limit.source"]),
            ({"tier": "nowhere"}, ["rate_limit.tier"]),
            ({"tier": ""}, ["rate_limit.tier"]),
            ({"tier": None}, ["rate_limit.tier"]),
            ({"tier": "a\x00b"}, ["rate_limit.tier"]),
            ({**SMALL, "tier": "gold"}, ["rate_limit.requests", "rate_limit.window_seconds"]),
            (5, ["rate_limit"]),
        ],
    )
    def test_what_is_refused(self, acme, api, asked, places):
        made = create(api)
        with builders.gains(acme.id):
            created = api.post("/api-keys", calls.draft(rate_limit=asked))
            changed = api.patch(f"/api-keys/{made['id']}", {"rate_limit": asked})
        for answer in (created, changed):
            assert sorted(where(is_problem(answer, 422, "invalid_value"))) == places

    def test_more_than_the_plan(self, acme, api):
        made, big = create(api), limit_builders.tier(1001, 60)
        for asked in ({"requests": 1001, "window_seconds": 60}, {"tier": big.slug}):
            with builders.gains(acme.id):
                is_problem(api.post("/api-keys", calls.draft(rate_limit=asked)), 403, "exceeds_grant")
                answer = api.patch(f"/api-keys/{made['id']}", {"rate_limit": asked})
            is_problem(answer, 403, "exceeds_grant")

    def test_changing(self, acme, api):
        made = create(api, rate_limit=SMALL)
        path = f"/api-keys/{made['id']}"
        with builders.gains(acme.id, "key.changed"):
            assert api.patch(path, {"rate_limit": None}).json()["rate_limit"] == {**PLAN, "source": "plan"}
            assert api.patch(path, {"rate_limit": None}).status_code == 200
        assert api.patch(path, {"rate_limit": SMALL}).json()["rate_limit"] == {**SMALL, "source": "key"}
        assert api.patch(path, {"description": "x"}).json()["rate_limit"] == {**SMALL, "source": "key"}

    def test_a_limited_key(self, acme, api, limited):
        assert create(limited)["rate_limit"] == {**SMALL, "source": "key"}
        made, other = create(limited, rate_limit={"requests": 9, "window_seconds": 60}), create(api)
        with builders.gains(acme.id):
            for asked in (None, {"requests": 11, "window_seconds": 60}):
                is_problem(limited.post("/api-keys", calls.draft(rate_limit=asked)), 403, "exceeds_grant")
                changed = limited.patch(f"/api-keys/{made['id']}", {"rate_limit": asked})
                is_problem(changed, 403, "exceeds_grant")
            is_problem(limited.post(f"/api-keys/{other['id']}/rotate", {}), 403, "exceeds_grant")

    def test_the_operator_gives_any(self, acme, operator):
        more = {"requests": 50_000, "window_seconds": 1}
        key = create(operator, organization=acme.id, rate_limit=more)
        assert (key["organization"], key["rate_limit"]) == (acme.id, {**more, "source": "key"})
        inherits = create(operator, organization=acme.id)
        assert inherits["rate_limit"] == {**PLAN, "source": "plan"}


class TestTheCap:
    def test_no_room(self, cast):
        full = builders.organization("Full", owner=cast.alice)
        api = calls.program(full, cast.alice)
        builders.agree(full, key_cap=2)
        made = create(api)
        with builders.gains(full.id):
            problem = is_problem(api.post("/api-keys", calls.draft()), 409, "key_cap_reached")
        assert "2 keys" in problem["detail"]
        assert key_builders.count(full) == 2
        assert api.delete(f"/api-keys/{made['id']}").status_code == 204
        create(api)

    def test_the_operator_too(self, cast, operator):
        full = builders.organization("Full", owner=cast.alice)
        builders.agree(full, key_cap=0)
        answer = operator.post("/api-keys", calls.draft(organization=full.id))
        is_problem(answer, 409, "key_cap_reached")
