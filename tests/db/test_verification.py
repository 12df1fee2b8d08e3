"""The engine of verification against itself: several, with connections of their own, as processes have them."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connections
from psycopg.conninfo import make_conninfo

from keys import peppers, secret
from keys.errors import Unavailable
from keys.limits import Meter
from keys.rotation import Mode as RotationMode
from keys.scopes import all_of
from keys.secret import Kind, Mode
from keys.services import Owner
from keys.verdict import Code
from keys.verification import NO_CREDENTIAL, Ask, Call, Own, credential, running
from keys.verification.batcher import MAX_WAITING
from keys.verification.engine import Engine
from keys.verification.unknown import MAX_KEPT, MAX_NETWORKS, OTHER, ROWS, Unknown, network_of
from orgs.roles import Role
from portal.embedded import SOCKET_NAME
from tests import builders, cluster, key_builders, limit_builders
from tests.api.calls import as_superuser, rows

# So wide that no test meets its edge.
WIDE = 86_400 * 31
PATIENCE_SECONDS = 20
VERIFIES = ["keys:verify", "keys:read"]
# An engine gives up on a database that is as slow as one beside other tests may be.
pytestmark = pytest.mark.timed


@pytest.fixture
def where(cast):
    return builders.organization("Fresh", owner=cast.alice)


@pytest.fixture
def made(cast, where):
    return key_builders.create(where, cast.alice)


def with_engines(number, body, **options):
    """Run `body(engines)` on a loop of its own."""

    async def whole():
        engines = [Engine(running.dsn(), **options) for _ in range(number)]
        for engine in engines:
            await engine.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await body(engines)
        finally:
            for engine in engines:
                await engine.stop()

    return asyncio.run(whole())


def call(made, where, cost=1, **asked):
    """Return a call of the product's own, as `keys.verification.ask` makes it."""
    return Call(
        verifier=None,
        organization_id=where.id,
        presented=credential(made.secret),
        ask=Ask(cost=cost, **asked),
    )


def by(verifier, presented, **asked):
    """Return a call of a verifier that is a key itself."""
    return Call(
        verifier=credential(verifier.secret),
        own=Own(ip="192.0.2.1", scope="keys:verify"),
        presented=presented,
        ask=Ask(**asked),
    )


async def in_thread(act, *arguments, **options):
    """Do what blocks beside the engines' loop, on connections that are closed with it."""

    def whole():
        try:
            return act(*arguments, **options)
        finally:
            connections.close_all()

    return await asyncio.to_thread(whole)


def all_at_once(number, calls):
    """Spread calls over engines, all at the same time; return the codes in their order."""

    async def body(engines):
        turns = itertools.cycle(engines)
        answers = await asyncio.gather(*(next(turns).ask(each) for each in calls))
        return [answer.presented.verdict.code.value for answer in answers]

    return with_engines(number, body)


def one_by_one(*calls):
    """Ask one call after another, each of another engine; return the answers."""

    async def body(engines):
        return [await engine.ask(each) for engine, each in zip(itertools.cycle(engines), calls, strict=False)]

    return with_engines(2, body)


def code(made, where, **asked):
    return one_by_one(call(made, where, **asked))[0].presented.verdict.code.value


def limit(made, requests, seconds=WIDE):
    as_superuser(
        "UPDATE keys_apikey SET rate_limit_requests = %s, rate_limit_window_seconds = %s WHERE id = %s",
        requests,
        seconds,
        made.key.id,
    )


def recorded(*keys):
    """Return how many calls were recorded, by code and cost."""
    found = rows(
        "SELECT code, cost, count(*) FROM keys_call WHERE key_id = ANY (%s) GROUP BY 1, 2",
        [made.key.id for made in keys],
    )
    return {(code, cost): number for code, cost, number in found}


def use(made):
    """Return what verification keeps of a key's use."""
    return rows(
        "SELECT last_used_at, window_seconds, current, previous, period, spent FROM keys_keyuse WHERE key_id = %s",
        made.key.id,
    )[0]


def age(*keys):
    """Let the last use of keys be so long ago that a verifier's is noted again."""
    as_superuser(
        "UPDATE keys_keyuse SET last_used_at = now() - interval '1 hour' WHERE key_id = ANY (%s)",
        [made.key.id for made in keys],
    )


class TestLimits:
    def test_exactly_the_limit_passes_over_all_engines(self, made, where):
        limit(made, 100)
        codes = Counter(all_at_once(4, [call(made, where)] * 400))
        assert codes == {"VALID": 100, "RATE_LIMITED": 300}
        assert recorded(made) == {("VALID", 1): 100, ("RATE_LIMITED", 0): 300}
        assert use(made)[1:4] == (WIDE, 100, 0)

    def test_mixed_costs_never_exceed_it_and_leave_no_room_for_one(self, made, where):
        limit(made, 100)
        costs = [1, 7, 0, 13, 2, 100, 3, 101] * 40
        codes = all_at_once(4, [call(made, where, cost) for cost in costs])
        spent = sum(cost for cost, code in zip(costs, codes, strict=True) if code == "VALID")
        assert spent == 100
        assert not {"VALID"} & {code for cost, code in zip(costs, codes, strict=True) if cost == 101}
        assert {code for cost, code in zip(costs, codes, strict=True) if cost == 0} == {"VALID"}
        assert use(made)[2] == 100
        assert sum(cost * number for (_, cost), number in recorded(made).items()) == 100

    def test_nothing_passes_a_limit_of_zero(self, made, where):
        limit(made, 0)
        assert set(all_at_once(2, [call(made, where, cost) for cost in (0, 1, 5)])) == {"RATE_LIMITED"}
        assert recorded(made) == {("RATE_LIMITED", 0): 3}

    def test_an_organizations_quota_is_one_over_many_keys(self, cast, where):
        keys = [key_builders.create(where, cast.alice) for _ in range(8)]
        builders.agree(where, monthly_quota=100)
        calls = [call(each, where, cost) for cost in (1, 2) for each in keys * 12]
        codes = all_at_once(4, calls)
        spent = sum(each.ask.cost for each, code in zip(calls, codes, strict=True) if code == "VALID")
        assert (spent, set(codes)) == (100, {"VALID", "QUOTA_EXCEEDED"})
        assert rows("SELECT spent FROM keys_organizationspend WHERE organization_id = %s", where.id) == [
            (100,)
        ]
        assert sum(cost * number for (_, cost), number in recorded(*keys).items()) == 100
        assert sum(recorded(*keys).values()) == len(calls)

    def test_a_tiers_quota_is_each_keys_own(self, cast, where):
        tier = limit_builders.tier(1_000, WIDE, monthly_quota=20)
        keys = [key_builders.create(where, cast.alice) for _ in range(2)]
        as_superuser(
            "UPDATE keys_apikey SET tier_id = %s WHERE id = ANY (%s)",
            tier.slug,
            [made.key.id for made in keys],
        )
        codes = all_at_once(4, [call(each, where) for each in keys * 50])
        for first in (0, 1):
            assert Counter(codes[first::2]) == {"VALID": 20, "QUOTA_EXCEEDED": 30}
        assert [use(each)[5] for each in keys] == [20, 20]

    def test_what_the_quota_refuses_spends_no_rate_limit(self, made, where):
        limit(made, 50)
        builders.agree(where, monthly_quota=10)
        assert Counter(all_at_once(4, [call(made, where)] * 60)) == {"VALID": 10, "QUOTA_EXCEEDED": 50}
        assert use(made)[2] == 10

    def test_two_keys_share_no_limit(self, cast, where):
        builders.agree(where, rate_limit={"requests": 10, "window_seconds": WIDE})
        keys = [key_builders.create(where, cast.alice) for _ in range(2)]
        codes = all_at_once(4, [call(each, where) for each in keys * 30])
        for first in (0, 1):
            assert Counter(codes[first::2]) == {"VALID": 10, "RATE_LIMITED": 20}

    def test_both_secrets_of_a_rotation_share_one(self, cast, made, where):
        rotated = key_builders.rotate(made.key, where, cast.alice, mode=RotationMode.GRACE)
        limit(made, 20)
        codes = all_at_once(4, [call(made, where), call(rotated, where)] * 30)
        assert Counter(codes) == {"VALID": 20, "RATE_LIMITED": 40}
        assert {"VALID"} < {*codes[0::2], *codes[1::2]}
        versions = rows("SELECT version, count(*) FROM keys_call WHERE key_id = %s GROUP BY 1", made.key.id)
        assert dict(versions) == {1: 30, 2: 30}

    def test_while_windows_turn_it_is_the_formula(self, made, where, monkeypatch):
        """Every call as it was counted, in the order of the counter's lock, against the formula of KEYS §7."""
        limit(made, 40, 1)
        seen = watch(monkeypatch)

        async def body(engines):
            end = time.monotonic() + 2.6
            while time.monotonic() < end:
                costs = (1, 1, 2, 5)
                await asyncio.gather(
                    *(
                        each.ask(call(made, where, cost))
                        for each, cost in zip(itertools.cycle(engines), costs, strict=False)
                    )
                )

        with_engines(4, body)
        spent = Counter()
        for now_ms, cost, passed in seen:
            start, elapsed = now_ms // 1000, now_ms % 1000
            used = spent[start] * 1000 + spent[start - 1] * (1000 - elapsed)
            assert passed is (used + cost * 1000 <= 40 * 1000), (now_ms, cost)
            spent[start] += cost * passed
        assert len(spent) >= 3
        assert {passed for *_, passed in seen} == {True, False}
        assert sum(recorded(made).values()) == len(seen)
        assert recorded(made)["VALID", 1] == sum(passed and cost == 1 for _, cost, passed in seen)

    def test_other_terms_hold_at_the_next_call(self, made, where):
        async def body(engines):
            codes = []
            for requests in (2, 2, 2, 3, None, 1):
                terms = requests and {"requests": requests, "window_seconds": WIDE}
                await in_thread(builders.agree, where, rate_limit=terms)
                answers = [await engine.ask(call(made, where)) for engine in engines]
                codes += [answer.presented.verdict.code.value for answer in answers]
            return codes

        ok, no = "VALID", "RATE_LIMITED"
        assert with_engines(2, body) == [ok, ok, no, no, no, no, ok, no, ok, ok, no, no]

    def test_a_window_switched_back_and_forth_gains_nothing(self, made, where):
        codes = []
        for i in range(12):
            limit(made, 10, (WIDE, WIDE // 2, 86_400 * 7)[i % 3])
            codes += all_at_once(2, [call(made, where)] * 3)
        assert Counter(codes) == {"VALID": 10, "RATE_LIMITED": 26}

    def test_a_call_that_asks_for_too_much_can_never_pass(self, made, where):
        limit(made, 5)
        found = one_by_one(call(made, where, 6))[0].presented
        assert found.verdict.code == "RATE_LIMITED"
        assert found.counted.rate_limit.retry_after_seconds is None
        assert found.counted.rate_limit.remaining == 5


def watch(monkeypatch):
    """Note each call as it is counted: when by the database's clock, what it costs, whether it passed."""
    seen = []
    spend = Meter.spend

    def noting(meter, key_id, organization_id, bounds, cost):
        counted = spend(meter, key_id, organization_id, bounds, cost)
        seen.append((meter.now_ms, cost, counted.refusal is None))
        return counted

    monkeypatch.setattr(Meter, "spend", noting)
    return seen


class TestParallel:
    def test_a_hot_key(self, made, where):
        began = datetime.now(UTC) - timedelta(seconds=1)
        assert set(all_at_once(4, [call(made, where)] * 64)) == {"VALID"}
        assert recorded(made) == {("VALID", 1): 64}
        assert use(made)[0] > began
        assert rows("SELECT last_used_at FROM keys_secretuse WHERE key_id = %s", made.key.id) == [
            (use(made)[0],)
        ]

    @pytest.mark.parametrize("limited", [True, False])
    def test_overlapping_sets_in_another_order_never_deadlock(self, cast, where, limited):
        keys = [key_builders.create(where, cast.alice) for _ in range(8)]
        for each in keys[::2] if limited else ():
            limit(each, 1_000)
        builders.agree(where, monthly_quota=100_000 if limited else None)

        async def body(engines):
            for i in range(20):
                orders = [keys[i % 8 :] + keys[: i % 8], keys[::-1], keys, keys[::2] + keys[1::2]]
                answers = await asyncio.gather(
                    *(
                        each.ask(call(made, where))
                        for each, order in zip(engines, orders, strict=True)
                        for made in order
                    )
                )
                assert {answer.presented.verdict.code.value for answer in answers} == {"VALID"}

        with_engines(4, body)
        assert recorded(*keys) == {("VALID", 1): 20 * 4 * 8}

    def test_two_verifiers_that_ask_about_each_other(self, cast, where):
        """Each key is counted in one call and noted as the verifier's own in the other: one order for both locks."""
        builders.agree(where, rate_limit={"requests": 1_000, "window_seconds": WIDE})
        keys = [key_builders.create(where, cast.alice, scopes=VERIFIES) for _ in range(2)]
        low, high = sorted(keys, key=lambda made: made.key.id)
        url = cluster.cluster().url(dbname=cluster.database())

        async def body(engines):
            await asyncio.gather(*(each.ask(Call(verifier=NO_CREDENTIAL)) for each in engines))
            age(low, high)
            async with await psycopg.AsyncConnection.connect(url) as superuser:
                await superuser.execute("SELECT FROM keys_keyuse WHERE key_id = %s FOR UPDATE", [low.key.id])
                first = asyncio.create_task(engines[0].ask(by(high, credential(low.secret))))
                await asyncio.sleep(0.1)
                second = asyncio.create_task(engines[1].ask(by(low, credential(high.secret))))
                await asyncio.sleep(0.1)
            return await asyncio.gather(first, second)

        answers = with_engines(2, body)
        assert [answer.presented.verdict.code for answer in answers] == ["VALID", "VALID"]

    def test_a_verifier_with_a_quota_that_is_asked_about_too(self, cast, where):
        builders.agree(where, monthly_quota=1_000_000)
        keys = [key_builders.create(where, cast.alice, scopes=VERIFIES) for _ in range(4)]

        async def body(engines):
            for _ in range(10):
                age(*keys)
                calls = [by(one, credential(other.secret)) for one, other in itertools.permutations(keys, 2)]
                turns = itertools.cycle(engines)
                answers = await asyncio.gather(*(next(turns).ask(each) for each in calls))
                assert {answer.presented.verdict.code.value for answer in answers} == {"VALID"}

        with_engines(4, body)


class TestEvidence:
    def test_a_look_is_recorded_and_moves_nothing(self, made, where):
        assert code(made, where, cost=0, query=all_of(["incidents:read"])) == "VALID"
        assert recorded(made) == {("VALID", 0): 1}
        assert use(made)[0] is None
        assert rows("SELECT FROM keys_scopeuse WHERE key_id = %s", made.key.id) == []

    @pytest.mark.parametrize(
        ("asked", "wanted"),
        [
            ({"environment": "test"}, "WRONG_ENVIRONMENT"),
            ({"project": "prj_none"}, "WRONG_PROJECT"),
            ({"query": all_of(["incidents:write"])}, "INSUFFICIENT_SCOPE"),
            ({"entitlement": "export"}, "NOT_ENTITLED"),
        ],
    )
    def test_a_refused_call_is_recorded_with_its_code_and_costs_nothing(self, made, where, asked, wanted):
        limit(made, 10)
        builders.agree(where, monthly_quota=10)
        assert code(made, where, cost=9, **asked) == wanted
        assert recorded(made) == {(wanted, 0): 1}
        assert use(made) == (None, 0, 0, 0, 0, 0)
        assert rows("SELECT FROM keys_scopeuse WHERE key_id = %s", made.key.id) == []
        assert (
            rows(
                "SELECT spent FROM keys_organizationspend WHERE organization_id = %s AND spent > 0", where.id
            )
            == []
        )

    def test_one_beyond_its_limit_moves_nothing(self, made, where):
        limit(made, 1)
        assert code(made, where) == "VALID"
        before = use(made)
        assert code(made, where) == "RATE_LIMITED"
        assert use(made) == before

    def test_scopes_are_noted_once_a_day(self, cast, where):
        made = key_builders.create(where, cast.alice, scopes=["incidents:*"])
        asked = all_of(["incidents:read", "incidents:write"])
        found = "SELECT scope, last_used_on, xmin::text FROM keys_scopeuse WHERE key_id = %s ORDER BY 1"
        assert set(all_at_once(4, [call(made, where, query=asked)] * 16)) == {"VALID"}
        first = rows(found, made.key.id)
        assert [(scope, day) for scope, day, _ in first] == [
            (scope, datetime.now(UTC).date()) for scope in ("incidents:read", "incidents:write")
        ]
        assert set(all_at_once(2, [call(made, where, query=asked)] * 4)) == {"VALID"}
        assert rows(found, made.key.id) == first
        as_superuser(
            "UPDATE keys_scopeuse SET last_used_on = last_used_on - 1 WHERE key_id = %s", made.key.id
        )
        assert code(made, where, query=asked) == "VALID"
        assert [row[:2] for row in rows(found, made.key.id)] == [row[:2] for row in first]

    def test_a_record_is_whole(self, made, where):
        told = {
            "ip": "2001:db8::1",
            "endpoint": "GET /é/{}\"',\\N",
            "region": "NULL",
            "user_agent": "{a,b}\t\n",
            "request_id": "r-1",
            "trace": {"incident": 'INC-é"\\'},
        }
        assert code(made, where, cost=1_000_000, **told) == "VALID"
        found = rows(
            "SELECT host(ip), endpoint, region, user_agent, request_id, trace, cost, version, calls"
            " FROM keys_call WHERE key_id = %s",
            made.key.id,
        )
        assert found == [(*told.values(), 1_000_000, 1, 1)]

    def test_the_verifiers_own_use_is_noted_at_most_once_a_minute(self, cast, made, where):
        verifier = key_builders.create(where, cast.alice, scopes=VERIFIES)
        ask = by(verifier, credential(made.secret))
        one_by_one(ask)
        first = use(verifier)[0]
        one_by_one(ask, ask)
        assert use(verifier)[0] == first
        age(verifier)
        one_by_one(ask)
        assert use(verifier)[0] > first
        assert recorded(verifier) == {}

    def test_an_old_secrets_own_use_is_noted_beside_the_new_ones(self, cast, made, where):
        """Or a rotation, which waits for the old one to be quiet, ends while a verifier still goes by it."""
        verifier = key_builders.create(where, cast.alice, scopes=VERIFIES)
        old = by(verifier, credential(made.secret))
        new = by(key_builders.rotate(verifier.key, where, cast.alice), credential(made.secret))
        found = "SELECT last_used_at FROM keys_secretuse WHERE key_id = %s ORDER BY version"
        one_by_one(new, old, new, old)
        times = [at for (at,) in rows(found, verifier.key.id)]
        assert None not in times
        one_by_one(new, old)
        assert rows(found, verifier.key.id)[1] == (times[1],)

        async def body(engines):
            for ask in (old, old, new, old):
                assert (await engines[0].ask(ask)).presented.verdict.is_valid
                uses.append(await in_thread(rows, found, verifier.key.id))

        uses = []
        with_engines(1, body)
        assert uses[0] == uses[-1]


class TestOthers:
    def test_anothers_verifier_touches_nothing_of_a_key(self, cast, made, where):
        limit(made, 10)
        as_seen = "SELECT u.*, s.* FROM keys_keyuse u JOIN keys_secretuse s USING (key_id) WHERE key_id = %s"
        before = rows(as_seen, made.key.id)
        stranger = key_builders.create(cast.elsewhere, cast.mallory, scopes=VERIFIES)
        asks = [
            by(stranger, credential(made.secret), ip="198.51.100.77", query=query)
            for query in (None, all_of(["incidents:read"]), all_of(["nobody:has"]))
        ]
        answers = one_by_one(*asks)
        assert {(found.presented.verdict.code.value, found.presented.known) for found in answers} == {
            ("NOT_FOUND", None)
        }
        assert rows(as_seen, made.key.id) == before
        assert recorded(made) == {}
        assert unknown(cast.elsewhere)["198.51.100.0/24", "NOT_FOUND"] == 3
        assert unknown(where) == {}

    def test_of_a_verifier_that_does_not_do_nothing_is_told_or_counted(self, cast, made, where):
        reader = key_builders.create(where, cast.alice, scopes=["keys:read"])
        revoked = key_builders.create(where, cast.alice, scopes=VERIFIES)
        as_superuser("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", revoked.key.id)
        asks = [by(each, credential(made.secret)) for each in (reader, revoked)]
        asks += [by(each, NO_CREDENTIAL) for each in (reader, revoked)]
        assert [found.presented for found in one_by_one(*asks)] == [None] * 4
        assert recorded(made) == {}
        assert unknown(where) == {}


def unknown(where):
    """Return the calls without a known key that an organization's verifiers made, by network and code."""
    found = rows(
        "SELECT network, code, sum(calls)::int FROM keys_unknowncalls WHERE organization_id = %s GROUP BY 1, 2",
        where.id,
    )
    return {(network, code): calls for network, code, calls in found}


class TestUnknown:
    def test_it_is_counted_by_network(self, where):
        text = credential(secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE))
        addresses = [
            "203.0.113.1",
            "203.0.113.250",
            "::ffff:203.0.113.9",
            "2001:db8:0:1::1",
            "2001:db8:0:2::1",
        ]
        asks = [
            Call(verifier=None, organization_id=where.id, presented=presented, ask=Ask(ip=ip))
            for presented in (text, NO_CREDENTIAL)
            for ip in (*addresses, None, "")
        ]
        assert set(all_at_once(1, asks)) == {"NOT_FOUND", "MALFORMED"}
        wanted = {"203.0.113.0/24": 3, "2001:db8::/56": 2, "": 2}
        assert unknown(where) == {
            (network, code): calls for code in ("NOT_FOUND", "MALFORMED") for network, calls in wanted.items()
        }

    def test_it_is_written_within_about_a_second(self, where):
        async def body(engines):
            await engines[0].ask(
                Call(verifier=None, organization_id=where.id, presented=NO_CREDENTIAL, ask=Ask())
            )
            await asyncio.sleep(1.4)
            return await in_thread(unknown, where)

        assert with_engines(1, body) == {("", "MALFORMED"): 1}

    def test_of_50_000_networks_1_000_are_told_apart_and_memory_is_bounded(self, where):
        asks = [
            Call(
                verifier=None,
                organization_id=where.id,
                presented=NO_CREDENTIAL,
                ask=Ask(ip=f"10.{i % 250}.{i // 250}.1"),
            )
            for i in range(50_000)
        ]

        async def body(engines):
            most = 0
            for start in range(0, len(asks), 1_000):
                await asyncio.gather(*(engines[0].ask(each) for each in asks[start : start + 1_000]))
                kept = engines[0]._unknown
                most = max(most, len(kept._counts), *map(len, kept._networks.values()))
            return most

        assert with_engines(1, body, lanes=1) <= 2 * (MAX_NETWORKS + 1)
        found = unknown(where)
        assert sum(found.values()) == 50_000
        assert found[OTHER, "MALFORMED"] >= 50_000 - 2 * MAX_NETWORKS
        assert told_apart(where) <= MAX_NETWORKS

    def test_processes_that_write_at_the_same_time_share_the_1_000(self, where):
        async def body():
            engine = Engine(running.dsn())
            kept = [Unknown() for _ in range(4)]
            for number, each in enumerate(kept):
                each._connect = engine._connect
                for i in range(600):
                    each.add(where.id, network_of(f"10.{number * 10 + i // 250}.{i % 250}.1"), Code.MALFORMED)
            for connection in await asyncio.gather(*(each._flush(None) for each in kept)):
                await connection.close()

        asyncio.run(body())
        assert sum(unknown(where).values()) == 4 * 600
        assert told_apart(where) <= MAX_NETWORKS

    def test_what_could_not_be_written_is_kept_bounded_and_counted_once(self, where):
        async def refuse():
            raise ConnectionRefusedError

        async def body():
            kept = Unknown()
            kept._connect = refuse
            for i in range(MAX_KEPT + 500):
                whose = builders.new_id("org") if i >= 1_000 else where.id
                kept.add(whose, f"10.{i % 250}.{i // 250}.0/24", Code.MALFORMED)
            with pytest.raises(ConnectionRefusedError):
                await kept._flush(None)
            assert sum(kept._counts.values()) == MAX_KEPT + 500
            kept._connect = Engine(running.dsn())._connect
            connection = await kept._flush(None)
            assert not kept._counts
            await connection.close()

        asyncio.run(body())
        assert sum(unknown(where).values()) == 1_000

    def test_what_was_written_before_a_failure_is_not_written_again(self, where):
        engine, opened, writes = Engine(running.dsn()), [], []

        async def connect():
            connection = await engine._connect()
            execute = connection.execute

            async def fail_at_the_third(query, *arguments, **options):
                if b"INSERT INTO keys_unknowncalls" in query:
                    writes.append(query)
                    if len(writes) == 3:
                        raise psycopg.errors.QueryCanceled
                return await execute(query, *arguments, **options)

            connection.execute = fail_at_the_third
            opened.append(connection)
            return connection

        async def body():
            kept = Unknown()
            kept._connect = connect
            for i in range(ROWS * 4):
                kept.add(where.id, f"10.{i % 250}.{i // 250}.0/24", Code.MALFORMED)
                kept._networks.clear()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await kept._flush(None)
            assert opened[0].closed
            assert sum((await in_thread(unknown, where)).values()) == ROWS * 2
            await (await kept._flush(None)).close()

        asyncio.run(body())
        assert sum(unknown(where).values()) == ROWS * 4

    def test_a_failure_that_nobody_foresaw_does_not_end_the_counting(self, where):
        async def body(engines):
            kept, failed = engines[0]._unknown, []
            flush = kept._flush

            async def fail_once(connection):
                if not failed:
                    failed.append(True)
                    raise psycopg.errors.UndefinedTable
                return await flush(connection)

            kept._flush = fail_once
            await engines[0].ask(
                Call(verifier=None, organization_id=where.id, presented=NO_CREDENTIAL, ask=Ask())
            )
            found = {}
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not found:
                    await asyncio.sleep(0.1)
                    found = await in_thread(unknown, where)
            assert failed
            return found

        assert with_engines(1, body) == {("", "MALFORMED"): 1}


def told_apart(where):
    """Return how many networks, at most, are told apart in one minute."""
    found = rows(
        "SELECT count(DISTINCT network) FILTER (WHERE network <> 'other') FROM keys_unknowncalls"
        " WHERE organization_id = %s GROUP BY minute",
        where.id,
    )
    return max(number for (number,) in found)


class TestNarrowing:
    """What was answered before a call begins holds for it, on another engine."""

    def test_a_change_is_never_late(self, cast, where):
        project = builders.project(builders.root(where))
        made = key_builders.create(where, cast.alice, project=project)
        changes = [
            ("UPDATE keys_apikey SET is_disabled = %s WHERE id = %s", made.key.id, "DISABLED"),
            (
                "UPDATE orgs_organization SET suspended_at = CASE WHEN %s THEN now() END WHERE id = %s",
                where.id,
                "ORGANIZATION_SUSPENDED",
            ),
            (
                "UPDATE keys_keysecret SET expires_at = CASE WHEN %s THEN now() END WHERE key_id = %s",
                made.key.id,
                "EXPIRED",
            ),
            (
                "UPDATE orgs_project SET scopes = CASE WHEN %s THEN '{}'::varchar[] END WHERE id = %s",
                project.id,
                "FORBIDDEN",
            ),
        ]
        asked = call(made, where, query=all_of(["incidents:read"]))

        async def body(engines):
            for i in range(50):
                statement, id_, wanted = changes[i % len(changes)]
                for is_on, expected in ((True, wanted), (False, "VALID")):
                    busy = [asyncio.create_task(engine.ask(asked)) for engine in engines for _ in range(3)]
                    await in_thread(as_superuser, statement, is_on, id_)
                    answers = await asyncio.gather(*(engine.ask(asked) for engine in engines))
                    assert {answer.presented.verdict.code.value for answer in answers} == {expected}
                    await asyncio.gather(*busy)

        with_engines(2, body)

    def test_a_demotion_is_never_late(self, cast, where):
        bob = builders.person("Bob")
        builders.join(bob, where, Role.ADMIN)
        made = key_builders.create(
            where, cast.alice, owner=Owner(member=bob), scopes=["incidents:write", "incidents:read"]
        )
        change = "UPDATE orgs_membership SET role = %s WHERE organization_id = %s AND user_id = %s"
        asked = call(made, where, query=all_of(["incidents:write"]))

        async def body(engines):
            for i in range(20):
                role = ("viewer", "admin")[i % 2]
                await in_thread(as_superuser, change, role, where.id, bob.id)
                answers = await asyncio.gather(*(engine.ask(asked) for engine in engines))
                wanted = {"viewer": "FORBIDDEN", "admin": "VALID"}[role]
                assert {answer.presented.verdict.code.value for answer in answers} == {wanted}

        with_engines(2, body)

    def test_a_revocation_under_load_lets_nothing_through_that_begins_later(self, cast, where):
        keys = [key_builders.create(where, cast.alice) for _ in range(50)]
        revoke = (
            "UPDATE keys_apikey SET revoked_at = now(), ended_at = now(), revoked_by = 'usr_a',"
            " revocation_reason = %s WHERE id = %s"
        )

        async def body(engines):
            for each in keys:
                busy = [asyncio.create_task(engines[0].ask(call(each, where))) for _ in range(8)]
                await in_thread(as_superuser, revoke, "superseded", each.key.id)
                answer = await engines[1].ask(call(each, where))
                assert answer.presented.verdict.code == "REVOKED"
                await asyncio.gather(*busy)

        with_engines(2, body)


POISON = {"endpoint": "\0", "ip": "nowhere", "trace": {"incident": "\0"}, "user_agent": "\ud800"}


class TestPoisoned:
    """Values that `Ask` must never hold, brought past every bound."""

    @pytest.mark.parametrize("field", POISON)
    @pytest.mark.parametrize("limited", [False, True])
    def test_one_of_50_fails_alone(self, made, where, field, limited):
        if limited:
            limit(made, 100)
        calls = [call(made, where, query=all_of(["incidents:read"])) for _ in range(50)]
        calls[31] = call(made, where, **{field: POISON[field]})

        async def body(engines):
            return await asyncio.gather(*(engines[0].ask(each) for each in calls), return_exceptions=True)

        answers = with_engines(1, body, lanes=1)
        failed = answers.pop(31)
        assert isinstance(failed, Exception)
        assert not isinstance(failed, Unavailable)
        assert [each for each in answers if isinstance(each, Exception)] == []
        assert {each.presented.verdict.code.value for each in answers} == {"VALID"}
        assert recorded(made) == {("VALID", 1): 49}
        assert use(made)[2] == (49 if limited else 0)

    def test_an_unknown_one_fails_before_anything_is_written(self, made, where):
        calls = [call(made, where) for _ in range(20)]
        calls[7] = Call(
            verifier=None, organization_id=where.id, presented=NO_CREDENTIAL, ask=Ask(ip="nowhere")
        )

        async def body(engines):
            return await asyncio.gather(*(engines[0].ask(each) for each in calls), return_exceptions=True)

        answers = with_engines(1, body, lanes=1)
        assert isinstance(answers.pop(7), ValueError)
        assert {each.presented.verdict.code.value for each in answers} == {"VALID"}
        assert recorded(made) == {("VALID", 1): 19}

    def test_a_statement_that_no_longer_fits_its_tables_is_prepared_anew(self, made, where):
        """A migration that widens a column that is read, while connections are open."""

        widen = "ALTER TABLE keys_apikey ALTER COLUMN owner_team TYPE varchar({})"
        length = rows(
            "SELECT character_maximum_length FROM information_schema.columns"
            " WHERE (table_name, column_name) = ('keys_apikey', 'owner_team')"
        )[0][0]

        async def body(engines):
            for _ in range(8):
                await engines[0].ask(call(made, where))
            await in_thread(as_superuser, widen.format(length + 1))
            with pytest.raises(Unavailable):
                await engines[0].ask(call(made, where))
            return [(await engines[0].ask(call(made, where))).presented.verdict.code for _ in range(3)]

        try:
            assert with_engines(1, body, lanes=1) == ["VALID"] * 3
        finally:
            as_superuser(widen.format(length))


@pytest.fixture
def two_peppers(settings):
    """The pepper before, and a newer one beside it from `renew` on."""
    old = dict(settings.KEY_PEPPERS)

    def renew():
        settings.KEY_PEPPERS = old | {max(old) + 1: b"n" * 32}

    return renew


def digest_of(made):
    return rows(
        "SELECT digest, pepper_version, xmin::text FROM keys_keysecret WHERE key_id = %s", made.key.id
    )[0]


class TestPeppers:
    def test_a_use_moves_the_digest_once(self, made, where, two_peppers):
        before = digest_of(made)
        two_peppers()
        assert code(made, where, cost=0) == "VALID"
        assert code(made, where, environment="test") == "WRONG_ENVIRONMENT"
        assert digest_of(made) == before
        assert set(all_at_once(4, [call(made, where)] * 20)) == {"VALID"}
        after = digest_of(made)
        assert after[:2] == (peppers.digest(made.secret), peppers.newest())
        assert after[:2] != before[:2]
        assert set(all_at_once(4, [call(made, where)] * 20)) == {"VALID"}
        assert digest_of(made) == after
        assert recorded(made) == {("VALID", 0): 1, ("WRONG_ENVIRONMENT", 0): 1, ("VALID", 1): 40}

    def test_a_limited_one_too(self, made, where, two_peppers):
        limit(made, 10)
        two_peppers()
        assert Counter(all_at_once(4, [call(made, where)] * 20)) == {"VALID": 10, "RATE_LIMITED": 10}
        assert digest_of(made)[1] == peppers.newest()

    def test_an_open_change_of_the_secret_stalls_nothing(self, made, where, two_peppers):
        """A rotation holds the secret's row: the digest moves with a later use."""
        two_peppers()
        url = cluster.cluster().url(dbname=cluster.database())
        with psycopg.connect(url) as superuser:
            superuser.execute("SELECT FROM keys_keysecret WHERE key_id = %s FOR UPDATE", [made.key.id])
            assert code(made, where) == "VALID"
            assert digest_of(made)[1] < peppers.newest()
        assert code(made, where) == "VALID"
        assert digest_of(made)[1] == peppers.newest()


def backends():
    """Return PostgreSQL's processes that serve engines, newest first."""
    found = rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = 'keystead_verify'"
        " AND query <> '' ORDER BY backend_start DESC",
        cluster.database(),
    )
    return [pid for (pid,) in found]


NO_ANSWERS = {
    "no length": b"Z\xff\xff\xff\xff",
    "half a row": b"D\0\0\0\6\0\7",
    "nothing known": b"\0" * 64,
    "an empty error": b"E\0\0\0\5\0",
    "the end": b"",
}


class TestOutage:
    """Every call ends within about a second, and the engine recovers by itself."""

    def test_a_stop_leaves_nobody_waiting(self, made, where):
        async def body():
            engine = Engine(running.dsn())
            await engine.start()
            asks = [asyncio.create_task(engine.ask(call(made, where))) for _ in range(300)]
            await asyncio.sleep(0)
            await engine.stop()
            done = await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 2)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(engine.ask(call(made, where)), 2)
            return done

        answers = asyncio.run(body())
        answered = [each for each in answers if not isinstance(each, Exception)]
        assert {type(each) for each in answers} <= {Unavailable, *map(type, answered)}
        assert len(answered) <= sum(recorded(made).values())

    def test_a_full_queue_refuses_at_once(self, made, where):
        url = cluster.cluster().url(dbname=cluster.database())

        async def body(engines):
            await engines[0].ask(call(made, where))
            with psycopg.connect(url) as superuser:
                superuser.execute("LOCK TABLE keys_keyuse IN ACCESS EXCLUSIVE MODE")
                asks = [asyncio.create_task(engines[0].ask(call(made, where))) for _ in range(MAX_WAITING)]
                await asyncio.sleep(0.05)
                asks += [asyncio.create_task(engines[0].ask(call(made, where))) for _ in range(256)]
                await asyncio.sleep(0)
                began = time.monotonic()
                more = (engines[0].ask(call(made, where)) for _ in range(600))
                refused = await asyncio.gather(*more, return_exceptions=True)
                assert {type(each) for each in refused} == {Unavailable}
                took = time.monotonic() - began
                done = await asyncio.gather(*asks, return_exceptions=True)
            return took, {type(each) for each in done}

        took, kinds = with_engines(1, body)
        # At once: before any that waits is given up.
        assert took < 0.8
        assert kinds == {Unavailable}

    def test_a_locked_table(self, made, where):
        url = cluster.cluster().url(dbname=cluster.database())

        async def body(engines):
            await engines[0].ask(call(made, where))
            times = []
            with psycopg.connect(url) as superuser:
                superuser.execute("LOCK TABLE keys_keyuse IN ACCESS EXCLUSIVE MODE")
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    began = time.monotonic()
                    done = await asyncio.gather(
                        *(engines[0].ask(call(made, where)) for _ in range(5)), return_exceptions=True
                    )
                    times.append(time.monotonic() - began)
                    assert {type(each) for each in done} == {Unavailable}
            return times, await recovers(engines[0], call(made, where))

        times, recovery = with_engines(1, body)
        assert max(times) < 1.2
        assert recovery < 2

    def test_backends_that_hang(self, made, where):
        """Neither refused nor broken: the connection just says nothing any more."""

        async def body(engines):
            await asyncio.gather(*(engines[0].ask(call(made, where)) for _ in range(300)))
            stopped = await in_thread(backends)
            try:
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                return await recovers(engines[0], call(made, where))
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)

        assert with_engines(1, body) < 4

    @pytest.mark.parametrize("answer", NO_ANSWERS)
    def test_a_connection_that_says_something_senseless(self, made, where, alarm, answer):
        """An answer that is none, or the end without a word, in the middle of a group."""

        async def body():
            async with proxied() as (dsn, spoil):
                engine = Engine(dsn)
                await engine.start()
                try:
                    assert (await engine.ask(call(made, where))).presented.verdict.is_valid
                    spoil(NO_ANSWERS[answer])
                    with pytest.raises(Unavailable):
                        await engine.ask(call(made, where))
                    return await recovers(engine, call(made, where))
                finally:
                    await engine.stop()

        assert asyncio.run(body()) < 2


@pytest.fixture
def alarm():
    """End a test whose event loop turns in a circle."""

    def too_long(number, frame):
        raise AssertionError("the loop is blocked")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.asynccontextmanager
async def proxied():
    """Stand between engines and PostgreSQL; yield where, and what spoils the next answer: other bytes, then the end."""
    spoiled = []

    async def pump(reader, writer, *, is_answer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if is_answer and spoiled:
                    writer.write(spoiled.pop())
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        path = cluster.cluster().socket_folder / SOCKET_NAME
        up, down = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, down, is_answer=False), pump(up, writer, is_answer=True))

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    try:
        yield make_conninfo(running.dsn(), host="127.0.0.1", port=port), spoiled.append
    finally:
        server.close()
        await server.wait_closed()


async def recovers(engine, asked):
    """Ask until there is an answer; return after how many seconds. No call takes longer than a good second."""
    began = time.monotonic()
    while time.monotonic() - began < 10:
        start = time.monotonic()
        try:
            answer = await engine.ask(asked)
        except Unavailable:
            assert time.monotonic() - start < 1.2
            await asyncio.sleep(0.02)
        else:
            assert answer.presented.verdict.is_valid
            return time.monotonic() - began
    raise AssertionError("it does not recover")
