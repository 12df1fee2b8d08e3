"""The same calls by key and endpoint, by place, by key and week: every question has one answer, whichever gives it."""

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from audit import tenancy
from keys import usage
from keys.errors import TakesTooLong
from keys.models import Grain
from keys.usage import OTHER, GroupBy, Question, Totals, rolling
from keys.usage import rows as usage_rows
from tests import builders, cluster, key_builders, usage_builders

DAY = timedelta(days=1)
SPAN = 40
FIELDS = {GroupBy.ENDPOINT: "endpoint", GroupBy.REGION: "region", GroupBy.OUTCOME: "code"}
VALUES = {
    "endpoint": ["GET /a", "GET /b", "other", ""],
    "region": ["eu", "us"],
    "code": ["VALID", "VALID", "EXPIRED"],
}


class World:
    """An organization whose keys lie in two projects and two environments, and all that was called with them."""

    def __init__(self):
        alice = builders.person("Alice")
        self.where = builders.organization("Ways", owner=alice)
        root, self.now = builders.root(self.where), datetime.now(UTC)
        projects = [root, builders.project(root)]
        environments = [builders.production(self.where), builders.environment(self.where)]
        self.keys = [
            key_builders.create(self.where, alice, project=project, environment=environment).key
            for project, environment in [*itertools.product(projects, environments), (root, environments[0])]
        ]
        self.below, self.lab = projects[1], environments[1]
        self.calls = []
        for _ in range(2):
            self._record(random.Random(20_261_121 + len(self.calls)), 400)
            rolling.roll_up()
        self._record(random.Random(1), 100)

    def _record(self, chance, number):
        for key in self.keys:
            made = [self._call(chance) for _ in range(chance.randrange(1, number))]
            usage_builders.calls(key, made)
            self.calls += [{**call, "key": key} for call in made]

    def _call(self, chance):
        number = chance.randrange(1, 9)
        at = self.now - SPAN * DAY * chance.random()
        return {"at": at, "calls": number, "cost": 2 * number} | {
            name: chance.choice(values) for name, values in VALUES.items()
        }

    def counted(self, question):
        """Return what each group has of the calls, counted one by one."""
        found = {}
        for call in self.calls:
            if all(self.value(call, group) in values for group, values in question.filters.items()):
                group = None if question.group_by is None else self.value(call, question.group_by)
                counter = found.setdefault(group, Counter())
                counter.update(calls=call["calls"])
                counter.update(
                    **({"cost": call["cost"]} if call["code"] == "VALID" else {"refused": call["calls"]})
                )
        return {group: Totals(**counter) for group, counter in found.items()}

    def value(self, call, group):
        key = call["key"]
        return {
            GroupBy.KEY: key.id,
            GroupBy.ORGANIZATION: key.organization_id,
            GroupBy.PROJECT: key.project_id,
            GroupBy.ENVIRONMENT: key.environment.slug,
        }.get(group) or (call[FIELDS[group]] if group in FIELDS else None)

    def question(self, **changes):
        return Question(
            **{
                "organization_id": self.where.id,
                "since": self.now - (SPAN + 1) * DAY,
                "until": self.now + DAY,
                "interval": Grain.DAY,
                **changes,
            }
        )

    def ask(self, **changes):
        with tenancy.within(self.where.id):
            return usage.report(self.question(**changes), self.now)

    def overview(self, by, **changes):
        with tenancy.within(self.where.id):
            return usage.overview(self.question(**{"top": 50, **changes}), by, self.now)


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return World()


@pytest.fixture
def filters(world, request):
    return {
        "none": {},
        "valid": {GroupBy.OUTCOME: ["VALID"]},
        "refused": {GroupBy.OUTCOME: ["EXPIRED"]},
        "both": {GroupBy.OUTCOME: ["EXPIRED", "VALID"]},
        "endpoint": {GroupBy.ENDPOINT: ["GET /a", ""]},
        "lab": {GroupBy.ENVIRONMENT: [world.lab.slug]},
        "below": {GroupBy.PROJECT: [world.below.id], GroupBy.REGION: ["eu"]},
        "keys": {GroupBy.KEY: [world.keys[0].id, world.keys[3].id]},
        "key in lab": {GroupBy.KEY: [world.keys[1].id], GroupBy.ENVIRONMENT: [world.lab.slug]},
    }[request.param]


EVERY_FILTER = pytest.mark.parametrize(
    "filters",
    ["none", "valid", "refused", "both", "endpoint", "lab", "below", "keys", "key in lab"],
    indirect=True,
)
EVERY_GROUP = pytest.mark.parametrize("group_by", list(GroupBy))


@EVERY_FILTER
@EVERY_GROUP
class TestEveryWay:
    def test_a_report_counts_what_was_called(self, world, filters, group_by):
        expected = world.counted(world.question(filters=filters, group_by=group_by))
        found = world.ask(filters=filters, group_by=group_by)
        assert {one.group: one.totals for one in found.series} == expected
        assert world.ask(filters=filters).totals == found.totals

    def test_the_busiest_and_the_rest_are_all(self, world, filters, group_by):
        expected = world.counted(world.question(filters=filters, group_by=group_by))
        best = sorted(expected, key=lambda group: -expected[group].calls)[:2]
        found = world.ask(filters=filters, group_by=group_by, top=2)
        assert {one.group for one in found.series} <= {*best, OTHER}
        assert found.totals == world.ask(filters=filters).totals
        if OTHER not in expected:
            assert {one.group: one.totals for one in found.series if one.group != OTHER} == {
                group: expected[group] for group in best
            }

    def test_shares_add_up_to_the_chart(self, world, filters, group_by):
        expected = world.counted(world.question(filters=filters, group_by=group_by))
        found = world.overview([group_by], filters=filters)
        assert {one.group: one.totals for one in found.shares[group_by]} == expected
        assert found.by_outcome.totals == world.ask(filters=filters).totals
        cut = world.overview([group_by], filters=filters, top=1).shares[group_by]
        assert sum(one.totals.calls for one in cut) == found.by_outcome.totals.calls
        assert len(cut) <= 2


@pytest.mark.parametrize("interval", [Grain.DAY, Grain.HOUR])
@pytest.mark.parametrize("since", range(0, 16, 3))
@pytest.mark.parametrize("length", [1, 6, 7, 8, 14, 20])
def test_by_key_a_range_may_begin_and_end_on_any_day_of_a_week(world, interval, since, length):
    start = (world.now - (SPAN - since) * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    window = {"since": start, "until": start + length * DAY, "interval": interval}
    expected = Counter()
    for call in world.calls:
        if start <= call["at"] < start + length * DAY:
            expected[call["key"].id] += call["calls"]
    shares = world.overview([GroupBy.KEY], **window).shares[GroupBy.KEY]
    assert {one.group: one.totals.calls for one in shares} == expected
    points = world.ask(group_by=GroupBy.KEY, top=2, **window)
    assert points.totals.calls == sum(expected.values())
    assert all(point.calls >= 0 for one in points.series for point in one.points)


def test_weeks_are_whole_days_from_monday():
    monday = datetime(2026, 11, 16, tzinfo=UTC)
    for since, until, weeks in (
        (monday, monday + 7 * DAY, (monday, monday + 7 * DAY)),
        (monday - DAY, monday + 15 * DAY, (monday, monday + 14 * DAY)),
        (monday + DAY, monday + 14 * DAY, (monday + 7 * DAY, monday + 14 * DAY)),
        (monday + DAY, monday + 13 * DAY, None),
        (monday, monday + 6 * DAY, None),
    ):
        assert usage.Window(Grain.DAY, since, until).weeks == (weeks or (until, until))
        assert usage.Window(Grain.HOUR, since, until).weeks == (until, until)


def test_only_those_projects_that_are_reached(world):
    reached = [world.below.id]
    for group_by in (GroupBy.KEY, GroupBy.ENDPOINT):
        found = world.ask(group_by=group_by, project_ids=reached).totals
        assert found == world.ask(filters={GroupBy.PROJECT: reached}).totals
        assert world.ask(group_by=group_by, project_ids=[]).totals == Totals()


def test_what_takes_too_long_is_broken_off_and_the_transaction_goes_on(world, monkeypatch):
    monkeypatch.setattr(usage_rows, "PATIENCE", "50ms")
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as other:
        other.execute("LOCK TABLE keys_usageplace IN ACCESS EXCLUSIVE MODE")
        with tenancy.within(world.where.id):
            before = usage_rows.rows(
                "SELECT current_setting('statement_timeout'), current_setting('work_mem')", {}
            )
            for ask in (
                lambda: usage.report(world.question(), world.now),
                lambda: usage.overview(world.question(top=5), [GroupBy.KEY], world.now),
            ):
                with pytest.raises(TakesTooLong) as raised:
                    ask()
                assert raised.value.field == "from"
            after = usage_rows.rows(
                "SELECT current_setting('statement_timeout'), current_setting('work_mem')", {}
            )
            assert before == after
            by_key = world.question(filters={GroupBy.KEY: [world.keys[0].id]})
            monkeypatch.undo()
            assert usage.report(by_key, world.now).totals.calls > 0
            assert usage_rows.rows("SELECT current_setting('statement_timeout')", {}) == [before[0][:1]]


def test_any_other_failure_is_no_matter_of_patience(world):
    with (
        tenancy.within(world.where.id),
        psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as other,
    ):
        other.execute("LOCK TABLE keys_usageplace IN ACCESS EXCLUSIVE MODE")
        usage_rows.rows("SELECT set_config('lock_timeout', '50ms', true)", {})
        with pytest.raises(usage_rows.OperationalError, match="lock timeout"):
            usage.report(world.question(), world.now)
