"""Which keys a ledger knows and which of them sign, from what its entries say alone."""

from datetime import UTC, datetime, timedelta

from audit import entry
from audit.acts import Act
from audit.signatures import key_life
from audit.signatures.key_life import KeyEvent

START = datetime(2026, 1, 1, tzinfo=UTC)
LOG = "ledger.example/ledger/org_a"


def opened(vkey="A", day=0):
    return KeyEvent(Act.LEDGER_OPENED, vkey, START + timedelta(days=day))


def added(vkey, day):
    return KeyEvent(Act.LEDGER_KEY_ADDED, vkey, START + timedelta(days=day))


def retired(vkey, day=200):
    return KeyEvent(Act.LEDGER_KEY_RETIRED, vkey, START + timedelta(days=day))


def parsed(act, i, data):
    leaf = entry.build(
        log=LOG, i=i, t=START, prev=entry.genesis_prev(), act=act, actor="sys_worker", data=data
    )
    return entry.parse(leaf)


class TestEvent:
    def test_the_entry_that_opens(self):
        assert key_life.event(parsed("ledger.opened", 0, {"vkey": "A"})) == opened()
        assert key_life.event(parsed("ledger.reopened", 0, {"vkey": "A"})).act == Act.LEDGER_REOPENED

    def test_a_later_one_opens_nothing(self):
        assert key_life.event(parsed("ledger.opened", 4, {"vkey": "M"})) is None
        assert key_life.event(parsed("ledger.reopened", 4, {"vkey": "M"})) is None

    def test_the_first_entry_adds_nothing(self):
        assert key_life.event(parsed("ledger.key_added", 0, {"vkey": "M"})) is None

    def test_what_says_nothing_of_a_key(self):
        assert key_life.event(parsed("key.created", 3, {"vkey": "M"})) is None
        assert key_life.event(parsed("ledger.key_added", 3, {})) is None
        assert key_life.event(parsed("ledger.key_added", 3, {"vkey": 7})) is None


class TestPublished:
    def test_every_key_that_was_ever_announced_in_order(self):
        events = [opened(), added("B", 1), retired("A"), added("C", 300), added("B", 301)]
        assert key_life.published(events) == ["A", "B", "C"]

    def test_retiring_announces_nothing(self):
        assert key_life.published([opened(), retired("M")]) == ["A"]

    def test_of_nothing(self):
        assert key_life.published([]) == []
        assert key_life.signing([]) == []


class TestSigning:
    def test_one_key(self):
        assert key_life.signing([opened()]) == ["A"]

    def test_both_until_the_older_is_retired(self):
        both = [opened(), added("B", 1)]
        assert key_life.signing(both) == ["A", "B"]
        assert key_life.signing([*both, retired("A")]) == ["B"]

    def test_the_newest_signs_whatever_retires_it(self):
        assert key_life.signing([opened(), retired("A")]) == ["A"]
        assert key_life.signing([opened(), added("B", 1), retired("B")]) == ["A", "B"]

    def test_a_retired_key_does_not_come_back(self):
        events = [opened(), added("B", 1), retired("A"), added("A", 300)]
        assert key_life.signing(events) == ["B"]


class TestOverdue:
    def test_after_90_days_beside_the_newer(self):
        events = [opened(), added("B", 100)]
        assert key_life.overdue(events, START + timedelta(days=190) - timedelta(seconds=1)) == []
        assert key_life.overdue(events, START + timedelta(days=190)) == ["A"]

    def test_each_counts_from_the_key_after_it(self):
        events = [opened(), added("B", 0), added("C", 50)]
        assert key_life.overdue(events, START + timedelta(days=100)) == ["A"]
        assert key_life.overdue(events, START + timedelta(days=140)) == ["A", "B"]

    def test_announcing_again_does_not_lengthen_it(self):
        events = [opened(), added("B", 0), added("B", 80)]
        assert key_life.overdue(events, START + timedelta(days=90)) == ["A"]

    def test_what_is_retired_and_the_newest_never(self):
        events = [opened(), added("B", 0), retired("A", 90)]
        assert key_life.overdue(events, START + timedelta(days=5000)) == []
