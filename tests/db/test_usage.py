"""Usage as it is read: exact at every moment, rolled up or not, and nobody sees a stranger's."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from audit import tenancy
from keys import usage
from keys.errors import Invalid
from keys.models import Grain
from keys.usage import GroupBy, Question, rolling
from tests import builders, key_builders, usage_builders
from tests.api import calls as api_calls
from tests.usage_builders import ago

DAY = timedelta(days=1)


@pytest.fixture
def where(cast):
    return builders.organization("Fresh", owner=cast.alice)


@pytest.fixture
def key(cast, where):
    return key_builders.create(where, cast.alice).key


def noon(days=0):
    return (datetime.now(UTC) - timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)


def report(where, **changes):
    now = datetime.now(UTC)
    question = {"organization_id": where.id, "since": now - DAY, "until": now + DAY / 24, **changes}
    with tenancy.within(where.id):
        return usage.report(Question(**question), now)


def groups(found):
    return {one.group: one.totals.calls for one in found.series}


def total(where, **changes):
    return report(where, **changes).totals.calls


@pytest.fixture(params=["rolled up", "not rolled up"])
def settle(request):
    """Let what was recorded so far be rolled up, or not: no answer may show the difference."""
    return rolling.roll_up if request.param == "rolled up" else lambda: 0


class TestReport:
    def test_each_call_is_counted_once_whatever_is_rolled_up(self, where, key, settle):
        usage_builders.calls(key, [{}, {"code": "RATE_LIMITED", "cost": 5}, {"calls": 7, "cost": 9}])
        settle()
        usage_builders.call(key, cost=3)
        found = report(where).totals
        assert (found.calls, found.refused, found.cost) == (10, 1, 13)
        rolling.roll_up()
        assert report(where).totals == found

    @pytest.mark.parametrize(
        ("group_by", "expected"),
        [
            (GroupBy.ENDPOINT, {"GET /a": 2, "GET /b": 1, "": 1}),
            (GroupBy.REGION, {"eu": 3, "us": 1}),
            (GroupBy.OUTCOME, {"VALID": 3, "EXPIRED": 1}),
        ],
    )
    def test_it_tells_calls_apart(self, where, key, settle, group_by, expected):
        usage_builders.calls(
            key,
            [
                {"endpoint": "GET /a", "region": "eu"},
                {"endpoint": "GET /a", "region": "us"},
                {"endpoint": "GET /b", "region": "eu", "code": "EXPIRED"},
            ],
        )
        settle()
        usage_builders.call(key, endpoint="", region="eu")
        assert groups(report(where, group_by=group_by)) == expected

    def test_by_key_environment_and_project(self, cast, where, key):
        below = builders.project(builders.root(where))
        staging = builders.environment(where)
        other = key_builders.create(where, cast.alice, project=below, environment=staging).key
        usage_builders.calls(key, [{}, {}])
        rolling.roll_up()
        usage_builders.call(other)
        root = builders.root(where)
        assert groups(report(where, group_by=GroupBy.KEY)) == {key.id: 2, other.id: 1}
        assert groups(report(where, group_by=GroupBy.ENVIRONMENT)) == {"production": 2, staging.slug: 1}
        assert groups(report(where, group_by=GroupBy.PROJECT)) == {root.id: 2, below.id: 1}
        assert groups(report(where, group_by=GroupBy.ORGANIZATION)) == {where.id: 3}
        for filters, number in (
            ({GroupBy.KEY: [other.id]}, 1),
            ({GroupBy.KEY: [key.id, other.id]}, 3),
            ({GroupBy.ENVIRONMENT: [staging.slug]}, 1),
            ({GroupBy.PROJECT: [below.id]}, 1),
            ({GroupBy.PROJECT: [root.id]}, 3),
            ({GroupBy.OUTCOME: ["EXPIRED"]}, 0),
            ({GroupBy.ORGANIZATION: ["org_of_another"]}, 0),
        ):
            assert total(where, filters=filters) == number, filters
        assert total(where, project_ids=[below.id]) == 1
        assert total(where, project_ids=[]) == 0

    def test_the_series_hold_every_bucket_and_the_busiest_comes_first(self, where, key):
        usage_builders.calls(key, [{"region": "b"}, {"region": "b"}, {"region": "a"}])
        found = report(where, group_by=GroupBy.REGION, interval=Grain.HOUR)
        assert [one.group for one in found.series] == ["b", "a"]
        for one in found.series:
            assert [point.at for point in one.points] == found.window.buckets
            assert sum(point.calls for point in one.points) == one.totals.calls

    def test_without_calls_there_is_one_empty_series_and_no_group(self, where):
        assert report(where).series[0].group is None
        assert report(where).totals.calls == 0
        assert report(where, group_by=GroupBy.KEY).series == []

    def test_the_top_groups_and_the_rest(self, where, key):
        usage_builders.calls(key, [{"region": name} for name in "aaabbcd"])
        found = report(where, group_by=GroupBy.REGION, top=2)
        assert [(one.group, one.totals.calls) for one in found.series] == [("a", 3), ("b", 2), ("other", 2)]

    @pytest.mark.parametrize("interval", list(Grain))
    def test_a_bucket_that_the_range_cuts_counts_whole(self, where, key, settle, interval):
        at = noon(1) + timedelta(seconds=30)
        usage_builders.calls(key, [{"at": at}, {"at": at + timedelta(seconds=20)}])
        settle()
        cut = at + timedelta(seconds=10)
        assert total(where, since=cut, until=cut + timedelta(seconds=1), interval=interval) == 2

    def test_midnight_parts_the_days(self, where, key, settle):
        midnight = noon(2).replace(hour=0)
        last = midnight - timedelta(microseconds=1)
        usage_builders.calls(key, [{"at": last}, {"at": midnight}, {"at": midnight + timedelta(minutes=1)}])
        settle()
        found = report(where, since=midnight - DAY, until=midnight + DAY, interval=Grain.DAY)
        assert [(point.at, point.calls) for point in found.series[0].points] == [
            (midnight - DAY, 1),
            (midnight, 2),
        ]
        assert total(where, since=midnight, until=midnight + DAY, interval=Grain.MINUTE) == 2

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"since": ago(days=1), "until": ago(days=2)}, "to"),
            ({"since": ago(days=5_000)}, "to"),
            ({"since": ago(days=8), "until": ago(days=8, hours=-1), "interval": Grain.MINUTE}, "interval"),
            ({"since": ago(days=500), "interval": Grain.HOUR}, "interval"),
            ({"since": ago(days=3), "interval": Grain.MINUTE}, "interval"),
        ],
    )
    def test_what_is_too_much_is_refused(self, where, changes, field):
        with pytest.raises(Invalid) as raised:
            report(where, **changes)
        assert raised.value.field == field

    def test_so_are_too_many_points_over_all_series(self, where, key):
        usage_builders.calls(key, [{"endpoint": f"/{number}"} for number in range(420)])
        with pytest.raises(Invalid) as raised:
            report(where, group_by=GroupBy.ENDPOINT, interval=Grain.HOUR)
        assert raised.value.field == "group_by"
        found = report(where, group_by=GroupBy.ENDPOINT, interval=Grain.HOUR, top=10)
        assert (len(found.series), found.totals.calls) == (11, 420)

    @pytest.mark.parametrize(
        ("since", "grain"),
        [
            (ago(hours=1), Grain.MINUTE),
            (ago(hours=30), Grain.HOUR),
            (ago(days=30), Grain.DAY),
        ],
    )
    def test_the_range_chooses_the_interval(self, where, since, grain):
        assert report(where, since=since, until=datetime.now(UTC)).window.grain is grain


class TestTenants:
    def test_a_stranger_sees_nothing(self, cast, where, key, settle):
        usage_builders.call(key)
        settle()
        now = datetime.now(UTC)
        # Of every key that other tests used, too: in days, or there would be too many points.
        question = Question(
            organization_id=None, since=now - DAY, until=now + DAY, group_by=GroupBy.KEY, interval=Grain.DAY
        )
        with tenancy.within(cast.elsewhere.id):
            assert key.id not in groups(usage.report(question, now))
            assert usage.sparklines(where.id, [key.id], now) == {key.id: [0] * 14}
            assert usage.summary(key, now).requests_current_period == 0
            assert usage.latest(key) == []
            assert usage.traffic([key.id], now - DAY, now).calls == 0
            assert usage.health(where.id, [key.id], now)[key.id].calls == 0
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            assert groups(usage.report(question, now))[key.id] == 1

    def test_unknown_calls_are_their_verifiers(self, cast, where):
        usage_builders.unknown(where, "203.0.113.0/24", "NOT_FOUND", 3)
        usage_builders.unknown(where, "", "MALFORMED", 2)
        now = datetime.now(UTC)
        with tenancy.within(where.id):
            found = usage.unknown(where.id, now - DAY, now)
        assert (found.malformed, found.not_found) == (2, 3)
        assert found.by_network == {"203.0.113.0/24": 3, "": 2}
        with tenancy.within(cast.elsewhere.id):
            assert usage.unknown(None, now - DAY, now).by_network == {}


class TestKeys:
    def test_sparklines_count_fourteen_days(self, where, key, settle):
        usage_builders.calls(key, [{"at": noon(13)}, {"at": noon(14)}, {"at": noon(1)}])
        settle()
        usage_builders.call(key)
        with tenancy.within(where.id):
            found = usage.sparklines(where.id, [key.id, "key_unused"], datetime.now(UTC))
            assert usage.sparklines(where.id, [], datetime.now(UTC)) == {}
        assert found == {key.id: [1, *[0] * 11, 1, 1], "key_unused": [0] * 14}

    def test_summary(self, where, key, settle):
        now = datetime.now(UTC)
        usage_builders.calls(key, [{"at": now}, {"at": now, "code": "RATE_LIMITED", "region": ""}])
        settle()
        usage_builders.call(key, at=now, endpoint="GET /b")
        usage_builders.call(key, at=now.replace(day=1, hour=0, minute=0, second=0) - DAY)
        usage_builders.use(key, last_used_at=now, last_used_ip="203.0.113.9")
        with tenancy.within(where.id):
            found = usage.summary(key, now)
        assert found.requests_current_period == 3
        assert (found.period_start.day, found.period_end.day) == (1, 1)
        assert found.by_outcome == {"VALID": 2, "RATE_LIMITED": 1}
        assert found.error_rate == pytest.approx(1 / 3)
        assert found.by_endpoint == {"/v1/incidents": 2, "GET /b": 1}
        assert found.by_region == {"eu-west-1": 2, "": 1}
        assert found.last_used
        assert (found.last_used.at, found.last_used.ip) == (now, "203.0.113.9")
        assert (found.last_used.region, found.last_used.user_agent) == ("eu-west-1", "collector/4.2")

    def test_a_key_that_was_never_used(self, where, key):
        with tenancy.within(where.id):
            found = usage.summary(key, datetime.now(UTC))
        assert (found.requests_current_period, found.error_rate, found.last_used) == (0, 0.0, None)

    def test_many_endpoints_are_shortened(self, where, key):
        usage_builders.calls(key, [{"endpoint": f"/{number:02}"} for number in range(60)])
        with tenancy.within(where.id):
            found = usage.summary(key, datetime.now(UTC)).by_endpoint
        assert (len(found), found["other"], sum(found.values())) == (51, 10, 60)

    def test_latest_calls_come_newest_first(self, where, key):
        usage_builders.calls(key, [{"at": ago(minutes=n), "request_id": f"req_{n}"} for n in (3, 1, 2)])
        with tenancy.within(where.id):
            assert [call.request_id for call in usage.latest(key, 2)] == ["req_1", "req_2"]

    def test_traffic_of_the_last_day(self, cast, where, key, settle):
        other = key_builders.create(where, cast.alice).key
        at = ago(hours=2)
        usage_builders.calls(key, [{"at": ago(hours=30)}, {"at": at, "region": "us"}])
        settle()
        usage_builders.call(key, at=ago(hours=3), ip=None)
        now = datetime.now(UTC)
        with tenancy.within(where.id):
            found = usage.traffic([key.id, other.id], now - DAY, now)
        assert found.calls == 2
        assert {name: (seen.calls, seen.last_at) for name, seen in found.by_key.items()} == {key.id: (2, at)}
        assert {name: seen.calls for name, seen in found.by_region.items()} == {"us": 1, "eu-west-1": 1}
        assert {name: seen.calls for name, seen in found.by_ip.items()} == {"203.0.113.9": 1, "": 1}
        assert found.by_endpoint["/v1/incidents"].calls == 2
        assert found.are_ips_complete

    def test_traffic_of_a_busy_key_reads_its_latest_addresses_alone(self, where, key):
        usage_builders.calls(key, [{"at": ago(minutes=n % 60)} for n in range(501)])
        now = datetime.now(UTC)
        with tenancy.within(where.id):
            found = usage.traffic([key.id], now - DAY, now)
        assert (found.calls, found.by_ip["203.0.113.9"].calls, found.are_ips_complete) == (501, 500, False)

    def test_health(self, cast, where, key, settle):
        old = key_builders.create(where, cast.alice, scopes=["incidents:*", "incidents:read"]).key
        api_calls.as_superuser(
            "UPDATE keys_apikey SET created_at = now() - interval '31 days' WHERE id = %s", old.id
        )
        usage_builders.calls(old, [{"region": "eu"}, {"region": "us", "ip": "198.51.100.1"}, {"region": ""}])
        settle()
        usage_builders.calls(old, [{"code": "EXPIRED", "region": "ap", "ip": "2001:db8::1"}])
        with psycopg.connect(os.environ["DATABASE_VERIFY_URL"], autocommit=True) as verify:
            verify.execute(
                "INSERT INTO keys_scopeuse VALUES (%s, 'incidents:write', %s, current_date)",
                [old.id, where.id],
            )
        with tenancy.within(where.id):
            found = usage.health(where.id, [old.id, key.id], datetime.now(UTC))
        assert (found[old.id].calls, found[old.id].refused, found[old.id].refused_share) == (4, 1, 0.25)
        assert (found[old.id].regions, found[old.id].networks) == (2, 3)
        assert found[old.id].unused_scopes == ("incidents:read",)
        assert (found[key.id].refused_share, found[key.id].unused_scopes) == (None, ())


class TestReadingWhileItRollsUp:
    def test_no_reader_ever_misses_or_doubles_a_call(self, where, key):
        """A writer commits, a roll-up runs without pause; each read lies between what was begun and what was done."""
        done = threading.Event()
        begun = committed = 0

        def write():
            nonlocal begun, committed
            with psycopg.connect(os.environ["DATABASE_VERIFY_URL"], autocommit=True) as verify:
                while not done.is_set():
                    begun += 1
                    verify.execute(
                        "INSERT INTO keys_call (at, organization_id, key_id, version, code, cost, verifier_id)"
                        " VALUES (now(), %s, %s, 1, 'VALID', 1, 'key_v')",
                        [where.id, key.id],
                    )
                    committed += 1
                    # Else the reads take ever longer, and so does the writing.
                    time.sleep(0.001)

        def roll():
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as app:
                while not done.is_set():
                    app.execute("SELECT usage_roll_up(3)")

        threads = [threading.Thread(target=act) for act in (write, roll, roll)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(150):
                least = committed
                seen = total(where)
                assert least <= seen <= begun
                by_outcome, by_key = self.both(where)
                assert by_outcome == by_key >= seen
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert total(where) == committed > 100
        rolling.roll_up()
        assert total(where) == committed

    def both(self, where):
        """Return what one page's chart and one page's table count."""
        now = datetime.now(UTC)
        question = Question(organization_id=where.id, since=now - DAY, until=now + DAY / 24, top=5)
        with tenancy.within(where.id):
            found = usage.overview(question, [GroupBy.KEY], now)
        return found.by_outcome.totals.calls, sum(one.totals.calls for one in found.shares[GroupBy.KEY])
