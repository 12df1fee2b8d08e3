"""What the local mode keeps, for how long, and what it counts; without a portal, by a clock of the tests' own."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from keystead.errors import ConfigurationError
from keystead.local import LocalOptions, hearing, kept, uses
from keystead.local.kept import Kept
from keystead.local.uses import Uses
from keystead.models import KeyInfo, Organization, Owner, Plan, Quota, RateLimit, UsedApproval, Verdict
from keystead.question import ask

SECRET = "ks_sv_live_" + "a" * 49
NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
KEY = KeyInfo(
    id="key_a",
    name="n",
    kind="service",
    owner=Owner("team", "NOC"),
    organization=Organization("org_a", "a", "A"),
    plan=Plan("p", "P"),
    project="prj_a",
    environment="production",
    scopes=("a:b",),
    entitlements={},
    tags={},
    secret_version=1,
    retiring=False,
    expires_at=None,
    expires_soon=False,
    accepted_until=None,
    rate_limit=None,
    quota=None,
    request_id="r",
)
VALID = Verdict(valid=True, code="VALID", request_id="r", key=KEY)
QUESTION = ask(SECRET, scopes=["a:b"], ip="203.0.113.7")


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = NOW.timestamp()

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(kept, "monotonic", lambda: found.monotonic)
    monkeypatch.setattr(kept, "time", lambda: found.wall)
    return found


@pytest.fixture
def live(clock):
    """What is connected to a portal and keeps for 2 seconds."""
    found = Kept(2.0, 100)
    found.begin(None, clock.monotonic)
    return found


def learn(live, question=QUESTION, verdict=VALID):
    mark = live.mark()
    assert mark is not None
    live.learn(mark, question, verdict)


def of(**changes):
    return replace(VALID, key=replace(KEY, **changes))


def holds(live, question=QUESTION):
    return live.find(question) is not None


class TestFinding:
    def test_the_same_question(self, live):
        assert not holds(live)
        learn(live)
        entry = live.find(QUESTION)
        assert entry is not None
        assert entry.verdict is VALID

    @pytest.mark.parametrize(
        "other",
        [
            {"scopes": ["a:c"]},
            {"scopes": "a:b"},
            {"scopes": None},
            {"environment": "live"},
            {"project": "prj_a"},
            {"entitlement": "x"},
            {"ip": "203.0.113.8"},
            {"ip": None},
        ],
        ids=str,
    )
    def test_another_question(self, live, other):
        learn(live)
        assert not holds(live, ask(SECRET, **{"scopes": ["a:b"], "ip": "203.0.113.7", **other}))

    def test_another_secret(self, live):
        learn(live)
        for other in (SECRET[:-1] + "b", SECRET[:-1], SECRET + "a", "", "é\udc80", "x" * 100_000):
            assert not holds(live, QUESTION._replace(secret=other))

    def test_where_and_how_much_is_the_same_question(self, live):
        learn(live)
        same = {"endpoint": "GET /", "region": "us", "user_agent": "x", "cost": 0, "request_id": "r"}
        assert holds(live, ask(SECRET, scopes=["a:b"], ip="203.0.113.7", **same))

    def test_what_is_traced_is_the_portals_to_record(self, live):
        traced = QUESTION._replace(trace={"incident": "INC-7"})
        learn(live, traced)
        assert len(live) == 0
        learn(live)
        assert not holds(live, traced)

    def test_the_secret_itself_is_not_kept(self, live):
        learn(live)
        place = next(iter(live._entries))
        assert SECRET not in repr(place)
        assert len(place[0]) == 32

    def test_it_is_hmac(self):
        from itertools import pairwise

        one, other = Kept(2, 9), Kept(2, 9)
        assert one._fingerprint(SECRET) != other._fingerprint(SECRET)
        assert all(one._fingerprint(a) != one._fingerprint(b) for a, b in pairwise(["", "a", "ab", SECRET]))

    def test_it_is_hmac_of_the_drawn_key(self, monkeypatch):
        monkeypatch.setattr(kept.os, "urandom", lambda size: b"k" * size)
        assert Kept(2, 9)._fingerprint(SECRET) == hmac.digest(b"k" * 32, SECRET.encode(), hashlib.sha256)


class TestWhatIsKept:
    @pytest.mark.parametrize(
        "verdict",
        [
            Verdict(valid=False, code="REVOKED", request_id="r", key=KEY),
            Verdict(valid=False, code="NOT_FOUND", request_id="r"),
            of(rate_limit=RateLimit(10, 9, 60, 1.0)),
            of(rate_limit=RateLimit(0, 0, 60, 1.0)),
            of(quota=Quota(10, 0, NOW)),
            of(approval=UsedApproval("apr_a", "a:b", "0" * 64)),
        ],
        ids=["refused", "unknown", "limited", "limited to nothing", "with a quota", "approved"],
    )
    def test_never(self, live, verdict):
        learn(live, verdict=verdict)
        assert len(live) == 0

    def test_not_before_it_hears(self, clock):
        found = Kept(2.0, 100)
        assert found.mark() is None

    def test_not_more_than_allowed(self, clock):
        found = Kept(2.0, 3)
        found.begin(None, 0)
        for number in range(10):
            learn(found, QUESTION._replace(project=f"prj_{number}"))
        assert len(found) == 3
        assert holds(found, QUESTION._replace(project="prj_9"))
        assert not holds(found, QUESTION._replace(project="prj_0"))
        found.narrow("key_a")
        assert (len(found), found._places) == (0, {})


class TestTime:
    def beating(self, live, clock, seconds):
        """Let time pass with a sign of the portal every 300 ms."""
        for _ in range(round(seconds / 0.1)):
            clock.pass_by(0.1)
            live.alive()

    def test_no_longer_than_its_staleness(self, live, clock):
        learn(live)
        self.beating(live, clock, 1.9)
        assert holds(live)
        self.beating(live, clock, 0.2)
        assert not holds(live)

    def test_from_the_question_not_the_answer(self, live, clock):
        mark = live.mark()
        self.beating(live, clock, 1.5)
        live.learn(mark, QUESTION, VALID)
        assert holds(live)
        self.beating(live, clock, 0.6)
        assert not holds(live)

    def test_an_answer_that_comes_too_late_is_not_kept(self, live, clock):
        mark = live.mark()
        self.beating(live, clock, 2.5)
        live.learn(mark, QUESTION, VALID)
        assert len(live) == 0

    @pytest.mark.parametrize("field", ["expires_at", "accepted_until"])
    def test_never_beyond_the_secrets_end(self, live, clock, field):
        learn(live, verdict=of(**{field: NOW + timedelta(seconds=0.5)}))
        assert holds(live)
        self.beating(live, clock, 0.6)
        assert not holds(live)

    def test_by_the_portals_clock_where_it_is_ahead(self, clock):
        found = Kept(2.0, 100)
        found.begin(clock.wall + 60, clock.monotonic)
        learn(found, verdict=of(expires_at=NOW + timedelta(seconds=59)))
        assert len(found) == 0
        learn(found, verdict=of(expires_at=NOW + timedelta(seconds=61)))
        assert holds(found)
        self.beating(found, clock, 1.1)
        assert not holds(found)

    def test_by_its_own_clock_where_that_is_ahead(self, clock):
        found = Kept(2.0, 100)
        found.begin(clock.wall - 60, clock.monotonic)
        learn(found, verdict=of(expires_at=NOW + timedelta(seconds=-1)))
        assert len(found) == 0

    def test_not_after_the_machine_slept(self, live, clock):
        """The monotonic clock may stand still meanwhile."""
        learn(live)
        clock.wall += 3600
        assert not holds(live)

    def test_not_after_the_clock_was_set_back(self, live, clock):
        learn(live, verdict=of(expires_at=NOW + timedelta(seconds=1)))
        clock.wall -= 3600
        assert not holds(live)

    def test_not_after_a_silence(self, live, clock):
        learn(live)
        clock.pass_by(0.99)
        assert holds(live)
        clock.pass_by(0.02)
        assert not holds(live)
        assert live.mark() is None
        live.alive()
        assert not holds(live)
        assert len(live) == 0


class TestNarrowing:
    @pytest.mark.parametrize("id_", ["key_a", "org_a"])
    def test_of_it(self, live, id_):
        learn(live)
        live.narrow(id_)
        assert not holds(live)
        learn(live)
        assert holds(live)

    def test_of_another(self, live):
        learn(live)
        live.narrow("key_b")
        live.narrow("org_b")
        assert holds(live)

    @pytest.mark.parametrize("act", ["narrow_all", "lose", "close"])
    def test_of_everything(self, live, act):
        learn(live)
        getattr(live, act)()
        assert not holds(live)

    @pytest.mark.parametrize("id_", ["key_a", "org_a", None])
    def test_while_it_is_asked_for(self, live, id_):
        mark = live.mark()
        live.narrow(id_) if id_ else live.narrow_all()
        live.learn(mark, QUESTION, VALID)
        assert len(live) == 0

    def test_of_another_while_it_is_asked_for(self, live):
        mark = live.mark()
        live.narrow("key_b")
        live.learn(mark, QUESTION, VALID)
        assert holds(live)

    def test_a_new_connection_while_it_is_asked_for(self, live, clock):
        mark = live.mark()
        live.lose()
        live.begin(None, clock.monotonic)
        live.learn(mark, QUESTION, VALID)
        assert len(live) == 0

    def test_more_than_can_be_remembered(self, live, monkeypatch):
        monkeypatch.setattr(kept, "MAX_NARROWED", 3)
        mark = live.mark()
        for number in range(4):
            live.narrow(f"key_{number}")
        live.learn(mark, QUESTION, VALID)
        assert len(live) == 0
        assert len(live._narrowed) <= 3

    def test_closed_is_for_good(self, live, clock):
        live.close()
        live.alive()
        live.begin(None, clock.monotonic)
        assert live.mark() is None


class TestOptions:
    @pytest.mark.parametrize("seconds", [0, -1, 30.1, float("nan"), float("inf")])
    def test_staleness_is_bounded(self, seconds):
        with pytest.raises(ConfigurationError):
            LocalOptions(max_staleness=seconds)

    def test_there_is_room(self):
        assert LocalOptions(max_staleness=30).max_staleness == 30
        with pytest.raises(ConfigurationError):
            LocalOptions(max_entries=0)


class TestEvents:
    def read(self, *parts):
        return list(hearing.events(iter(parts)))

    def test_whole_and_in_parts(self):
        stream = b"event: ready\ndata:\n\nevent: key\ndata: key_a\n\n: a comment\n\nevent: ping\ndata:\n\n"
        expected = [("ready", ""), ("key", "key_a"), ("ping", "")]
        assert self.read(stream) == expected
        assert self.read(*[bytes([byte]) for byte in stream]) == expected
        crlf = stream.replace(b"\n", b"\r\n")
        assert self.read(*[bytes([byte]) for byte in crlf]) == expected

    def test_an_event_that_never_ends(self):
        with pytest.raises(ValueError, match="too long"):
            self.read(*[b"x" * 10_000] * 8)

    def test_what_breaks_off_is_not_read(self):
        assert self.read(b"event: key\ndata: key_a\n") == []


class TestUses:
    @pytest.fixture
    def entry(self, live):
        learn(live)
        return live.find(QUESTION)

    def used(self, found):
        """Take all batches, and return their items."""
        return [item for batch in iter(found.batch, None) for item in batch.calls]

    def test_like_ones_are_told_together(self, entry):
        found = Uses()
        for _ in range(3):
            found.count(entry, QUESTION._replace(cost=5, endpoint="GET /"))
        found.count(entry, QUESTION)
        one, other = self.used(found)
        assert {name: one[name] for name in ("key", "secret_version", "calls", "cost", "endpoint", "ip")} == {
            "key": "key_a",
            "secret_version": 1,
            "calls": 3,
            "cost": 15,
            "endpoint": "GET /",
            "ip": "203.0.113.7",
        }
        assert "endpoint" not in other
        assert self.used(found) == []

    def test_threads_lose_none(self, entry):
        found = Uses()
        taken = []

        def count(_):
            for number in range(5_000):
                found.count(entry, QUESTION._replace(endpoint=f"GET /{number % 200}"))

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(count, number) for number in range(8)]
            while not all(one.done() for one in running):
                taken += self.used(found)
        taken += self.used(found)
        assert sum(item["calls"] for item in taken) == 40_000

    def test_batches_are_small(self, entry):
        found = Uses()
        for number in range(1_200):
            found.count(entry, QUESTION._replace(endpoint=f"GET /{number}".ljust(250, "é")[:250]))
        batches = list(iter(found.batch, None))
        assert len({batch.name for batch in batches}) == len(batches) >= 3
        assert all(len(batch.calls) <= 500 for batch in batches)
        assert all(len(json.dumps(batch.body)) < 256 * 1024 for batch in batches)
        assert sum(item["calls"] for batch in batches for item in batch.calls) == 1_200

    def test_numbers_that_the_portal_would_not_take_are_parted(self, entry):
        found = Uses()
        found.count(entry, QUESTION)
        (use,) = found._counted
        use.calls, use.cost = 1_500_000_001, 9_000_000_007
        items = self.used(found)
        assert (sum(item["calls"] for item in items), sum(item["cost"] for item in items)) == (
            1_500_000_001,
            9_000_000_007,
        )
        assert all(1 <= item["calls"] <= uses.MAX_CALLS and item["cost"] <= uses.MAX_COST for item in items)

    def test_what_the_portal_would_refuse_does_not_take_the_others_along(self, entry):
        found = Uses()
        bad = QUESTION._replace(endpoint="e\0" * 300, region="é" * 60, user_agent="\udc80agent")
        found.count(entry, bad)
        (item,) = self.used(found)
        assert (item["endpoint"], item["region"], item["user_agent"]) == ("e" * 256, "é" * 32, "agent")

    def test_it_stays_small_while_the_portal_is_away(self, entry, monkeypatch):
        monkeypatch.setattr(uses, "MAX_DETAILED", 100)
        found = Uses()
        for number in range(2_000):
            found.count(entry, QUESTION._replace(endpoint=f"GET /{number}"))
            found._gather()
        assert len(found._waiting) <= 105
        assert len(entry.uses) <= uses.MAX_VARIANTS
        assert sum(item["calls"] for item in self.used(found)) == 2_000

    def test_what_is_too_much_is_told_as_lost(self, entry, monkeypatch):
        monkeypatch.setattr(uses, "MAX_DETAILED", 0)
        monkeypatch.setattr(uses, "MAX_WAITING", 0)
        found = Uses()
        found.count(entry, QUESTION)
        assert self.used(found) == []
        assert found.lost == 1
