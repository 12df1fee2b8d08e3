"""`GET /v1/usage` and `GET /v1/api-keys/{id}/usage`."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import psycopg
import pytest

from audit import tenancy
from keys.models import ApiKey
from keys.usage import rolling
from keys.usage import rows as usage_rows
from orgs.models import Organization
from orgs.services.founding import appoint_owner
from tests import builders, cluster, key_builders, usage_builders
from tests.api import calls
from tests.api.calls import is_problem

SCOPES = ("usage:read", "incidents:read")


@pytest.fixture
def where(cast):
    return builders.organization("Fresh", owner=cast.alice)


@pytest.fixture
def key(cast, where):
    return key_builders.create(where, cast.alice).key


@pytest.fixture
def reader(cast, where):
    return calls.program(where, cast.alice, SCOPES)


@pytest.fixture(scope="module")
def operator(cast, django_db_blocker):
    """A program of the operator's own organization."""
    with django_db_blocker.unblock():
        owner, operator_id = builders.person("Oper"), tenancy.operator_id()
        with tenancy.within(operator_id):
            own = Organization.objects.get(pk=operator_id)
            appoint_owner(own, owner, actor=builders.OPERATOR)
        return calls.program(own, owner, SCOPES)


def ask(api, path="/usage", **query):
    return api.get(f"{path}?{urlencode(query, doseq=True)}")


def series(answer):
    assert answer.status_code == 200, answer.content
    return {one["group"]: sum(point["calls"] for point in one["points"]) for one in answer.json()["series"]}


def stamp(time):
    return time.isoformat().replace("+00:00", "Z")


class TestUsage:
    def test_the_shape(self, reader, where, key):
        at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        usage_builders.calls(key, [{"at": at}, {"at": at, "code": "RATE_LIMITED"}, {"at": at, "cost": 4}])
        rolling.roll_up()
        usage_builders.unknown(where, "203.0.113.0/24", "NOT_FOUND", 2)
        query = {"from": stamp(at), "to": stamp(at + timedelta(hours=2)), "interval": "hour"}
        assert ask(reader, **query).json() == {
            "from": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "to": (at + timedelta(hours=2)).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "interval": "hour",
            "series": [
                {
                    "group": None,
                    "points": [
                        {"at": _full(at), "calls": 3, "refused": 1, "cost": 5},
                        {"at": _full(at + timedelta(hours=1)), "calls": 0, "refused": 0, "cost": 0},
                    ],
                }
            ],
            "totals": {
                "calls": 3,
                "refused": 1,
                "cost": 5,
                "unknown": {"malformed": 0, "not_found": 2},
            },
        }

    def test_without_anything_it_is_the_last_day(self, reader, key):
        usage_builders.calls(
            key, [{}, {"at": usage_builders.ago(hours=23)}, {"at": usage_builders.ago(hours=26)}]
        )
        found = ask(reader).json()
        assert (found["interval"], found["totals"]["calls"], len(found["series"][0]["points"])) == (
            "hour",
            2,
            25,
        )

    @pytest.mark.parametrize("group_by", ["key", "endpoint", "region", "outcome", "environment", "project"])
    def test_groups(self, reader, where, key, group_by):
        usage_builders.calls(key, [{}, {}])
        expected = {
            "key": key.id,
            "endpoint": "/v1/incidents",
            "region": "eu-west-1",
            "outcome": "VALID",
            "environment": "production",
            "project": builders.root(where).id,
        }[group_by]
        assert series(ask(reader, group_by=group_by)) == {expected: 2}
        assert series(ask(reader, **{"group_by": group_by, group_by: expected})) == {expected: 2}
        assert series(ask(reader, **{"group_by": group_by, group_by: ["nothing", "else"]})) == {}

    def test_filters_by_any_of_several_values_and_by_all_of_several_filters(self, reader, key):
        usage_builders.calls(
            key, [{"region": "a"}, {"region": "b"}, {"region": "b", "endpoint": ""}, {"region": "c"}]
        )
        assert ask(reader, region=["a", "b"]).json()["totals"]["calls"] == 3
        found = ask(reader, region=["a", "b"], endpoint="").json()["totals"]
        assert (found["calls"], found["unknown"]) == (1, None)

    @pytest.mark.parametrize(
        ("query", "location"),
        [
            ({"interval": "week"}, "interval"),
            ({"group_by": "ip"}, "group_by"),
            ({"from": "yesterday"}, "from"),
            ({"from": "2027-01-31T12:00:00"}, "from"),
            ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
            ({"from": "0001-01-01T00:00:00Z"}, "to"),
            ({"from": "2020-01-01T00:00:00Z", "interval": "hour"}, "interval"),
            ({"to": "9999-12-31T23:59:59Z"}, "to"),
            ({"to": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]}, "to"),
            ({"region": ["x"] * 51}, "region"),
            ({"region": "x" * 257}, "region"),
            ({"region": "\0"}, "region[0]"),
            ({"since": "2026-01-01T00:00:00Z"}, "query"),
            ({"group_by": "organization"}, "group_by"),
            ({"organization": "org_aaaaaaaaaaaaaaaaaaaa"}, "organization"),
        ],
    )
    def test_what_is_not_asked_so(self, reader, query, location):
        found = is_problem(ask(reader, **query), 422, "invalid_value")
        assert [where.split("[")[0] for where in calls.where(found)] == [location.split("[")[0]]

    def test_a_secret_in_the_address_is_refused_and_a_keys_id_is_not(self, reader, key):
        assert ask(reader, key=key.id).status_code == 200
        is_problem(ask(reader, key=reader.secret), 400, "invalid_request")
        is_problem(ask(reader, api_key=key.id), 400, "invalid_request")

    def test_what_takes_too_long_is_a_problem_of_the_range(self, reader, key, monkeypatch):
        with (
            monkeypatch.context() as impatient,
            psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as other,
        ):
            impatient.setattr(usage_rows, "PATIENCE", "50ms")
            other.execute("LOCK TABLE keys_usageplace IN ACCESS EXCLUSIVE MODE")
            for query in ({}, {"group_by": "key"}, {"group_by": "endpoint"}):
                found = is_problem(ask(reader, **query), 422, "takes_too_long")
                assert calls.where(found) == ["from"]
        assert ask(reader).status_code == 200

    def test_needs_its_scope(self, cast, where):
        api = calls.program(where, cast.alice, ["keys:read"])
        is_problem(ask(api), 403, "insufficient_scope")

    def test_nobody_writes_it_with_another_method(self, reader):
        assert reader.delete("/usage").status_code == 405


class TestWhoSeesWhat:
    def test_another_organizations_calls_are_nowhere(self, cast, key, reader):
        usage_builders.call(key)
        stranger = calls.program(cast.elsewhere, cast.mallory, SCOPES)
        assert series(ask(stranger, group_by="key", key=key.id)) == {}
        assert series(ask(reader, group_by="key")) == {key.id: 1}

    def test_a_key_sees_its_project_and_below(self, cast, where):
        top = builders.project(builders.root(where))
        low, beside = builders.project(top), builders.project(builders.root(where))
        keys = [key_builders.create(where, cast.alice, project=at).key for at in (top, low, beside)]
        for key in keys:
            usage_builders.call(key)
        api = calls.program(where, cast.alice, SCOPES, project=top)
        assert series(ask(api, group_by="key")) == {keys[0].id: 1, keys[1].id: 1}
        assert series(ask(api, group_by="project", project=beside.id)) == {}
        assert ask(api).json()["totals"] == {"calls": 2, "refused": 0, "cost": 2, "unknown": None}

    def test_the_operator_sees_a_customers_and_everybodys(self, operator, where, key):
        usage_builders.call(key)
        assert series(ask(operator, organization=where.id, group_by="key")) == {key.id: 1}
        assert series(ask(operator, group_by="organization"))[where.id] == 1
        assert series(ask(operator, group_by="organization", organization=where.id)) == {where.id: 1}
        assert key.id not in series(ask(operator, group_by="key"))
        assert ask(operator, group_by="organization").json()["totals"]["unknown"] is not None
        is_problem(ask(operator, organization="org_aaaaaaaaaaaaaaaaaaaa"), 404, "not_found")


class TestOneKey:
    def path(self, key: ApiKey) -> str:
        return f"/api-keys/{key.id}/usage"

    def test_the_shape(self, reader, key):
        now = datetime.now(UTC)
        usage_builders.calls(key, [{"at": now}, {"at": now, "code": "EXPIRED"}])
        rolling.roll_up()
        usage_builders.use(key, last_used_at=now, last_used_ip="203.0.113.9")
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (first + timedelta(days=32)).replace(day=1)
        assert ask(reader, self.path(key)).json() == {
            "requests_current_period": 2,
            "period": {"start": _full(first), "end": _full(end)},
            "by_outcome": {"EXPIRED": 1, "VALID": 1},
            "error_rate": 0.5,
            "last_used": {
                "at": _full(now),
                "ip": "203.0.113.9",
                "region": "eu-west-1",
                "user_agent": "collector/4.2",
            },
            "by_endpoint": {"/v1/incidents": 2},
            "by_region": {"eu-west-1": 2},
        }

    def test_a_key_that_was_never_used(self, reader, key):
        found = ask(reader, self.path(key)).json()
        assert (found["requests_current_period"], found["last_used"], found["error_rate"]) == (0, None, 0)

    def test_a_foreign_and_an_unknown_key_are_the_same(self, cast, key):
        stranger = calls.program(cast.elsewhere, cast.mallory, SCOPES)
        foreign = ask(stranger, self.path(key))
        unknown = ask(stranger, f"/api-keys/{builders.new_id('key')}/usage")
        is_problem(foreign, 404, "not_found")
        assert calls.without_id(foreign) == calls.without_id(unknown)

    def test_a_key_beside_is_not_seen(self, cast, where, key):
        below = builders.project(builders.root(where))
        api = calls.program(where, cast.alice, SCOPES, project=below)
        is_problem(ask(api, self.path(key)), 404, "not_found")

    def test_the_operator_names_the_organization(self, operator, where, key, reader):
        is_problem(ask(operator, self.path(key)), 404, "not_found")
        assert ask(operator, self.path(key), organization=where.id).status_code == 200
        is_problem(ask(reader, self.path(key), organization=where.id), 422, "invalid_value")

    def test_needs_its_scope(self, cast, where, key):
        api = calls.program(where, cast.alice, ["keys:read"])
        is_problem(ask(api, self.path(key)), 403, "insufficient_scope")


def _full(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
