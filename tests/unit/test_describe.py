"""Entries in plain words."""

from datetime import UTC, datetime

import pytest

from audit import describe
from audit.acts import Act
from audit.describe import Line

ID = "rot_" + "a" * 20


@pytest.mark.parametrize(
    ("act", "data", "line"),
    [
        ("key.enabled", {"target": "key_a", "name": "ingest", "request_id": "req_1"}, "Enabled"),
        ("key.revoked", {"reason": "leaked"}, "Revoked · reason: leaked"),
        (
            "member.role_changed",
            {"before": {"role": "viewer"}, "after": {"role": "admin"}},
            "Role changed · role: viewer → admin",
        ),
        (
            "key.scopes_changed",
            {"before": {"scopes": ["a:r", "b:r", "c:r"]}, "after": {"scopes": ["a:r", "d:r"]}},
            "Scopes changed · \N{MINUS SIGN} b:r, c:r + d:r",
        ),
        (
            "key.scopes_changed",
            {"before": {"scopes": ["a:r", "b:r"]}, "after": {"scopes": ["a:r"]}},
            "Scopes changed · \N{MINUS SIGN} b:r",
        ),
        (
            "key.scopes_changed",
            {"before": {"scopes": []}, "after": {"scopes": ["a:r", "b:r"]}},
            "Scopes changed · + a:r, b:r",
        ),
        (
            "key.created",
            {"after": {"kind": "service", "scopes": ["a", "b", "c", "d", "e"], "owner": None}},
            "Created · kind: service · scopes: a, b, c and 2 more",
        ),
        (
            "key.changed",
            {"before": {"expires_at": None}, "after": {"expires_at": "2027-01-01T00:00:00.000Z"}},
            "Changed · expiry: none → 2027-01-01 00:00 UTC",
        ),
        ("key.changed", {"before": {"tags": ["a=b"]}, "after": {"tags": []}}, "Changed · tags: a=b → none"),
        (
            "rotation.started",
            {"rotation": ID, "mode": "grace", "old_version": 3, "new_version": 4},
            "Started · mode: grace · version 3 → 4",
        ),
        (
            "user.created",
            {"is_superuser": True, "staff_role": "", "x": False},
            "Created · superuser: yes · x: no",
        ),
        (
            "execution.recorded",
            {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "reason": "r"},
            "Recorded · reason: r · a: 1 · b: 2 · c: 3 · and 2 more",
        ),
        (
            "policy.changed",
            {"before": {"live": {"max_days": 90}}, "after": {"live": {"max_days": None}}},
            "Changed · live: max days 90 → max days none",
        ),
        ("key.changed", {"before": None, "after": "odd"}, "Changed"),
        ("key.changed", {"list": ["a", None]}, "Changed · list: a, none"),
    ],
)
def test_one_line(act, data, line):
    assert describe.describe(act, data) == line


@pytest.mark.parametrize("act", Act)
def test_every_act_has_words_and_a_tone(act):
    assert describe.describe(act, {})[0].isupper()
    assert describe.TONES.get(act, "off") in {"ok", "warn", "bad", "acc", "off"}


def test_tones_are_of_acts_that_there_are():
    assert set(describe.TONES) <= set(Act)


def test_a_line_is_never_long():
    line = describe.describe("key.changed", {"after": {"note": "x" * 2000}})
    assert len(line) == describe.LONGEST
    assert line.endswith("…")


def test_what_stayed_is_no_change():
    data = {"before": {"a": 1, "b": 2, "c": None}, "after": {"a": 1, "b": 3, "c": []}}
    [change] = describe.changes(data)
    assert (change.label, change.before, change.after) == ("b", ("2",), ("3",))
    assert (change.gone, change.new) == (("2",), ("3",))


def test_facts_are_what_stands_beside_the_change():
    data = {
        "target": "key_a",
        "name": "n",
        "request_id": "r",
        "before": {},
        "after": {},
        "reason": "x",
        "vkey": "k",
        "e": "",
    }
    assert describe.facts(data) == [("reason", "x"), ("verifier key", "k")]


def line(**more):
    told = {
        "place": (1, 4),
        "act": "key.revoked",
        "at": datetime.now(UTC),
        "actor": "usr_a",
        "target": "",
        "request_id": "",
    }
    return Line(**told | more)


class TestWho:
    def test_the_name_that_the_entry_sealed(self):
        shown = line(openings={"name": "Alice", "email": "a@b", "ip": "203.0.113.9"})
        assert (shown.who, shown.email, shown.ip) == ("Alice", "a@b", "203.0.113.9")

    def test_else_the_address(self):
        shown = line(openings={"email": "a@b"})
        assert (shown.who, shown.email) == ("a@b", "")

    def test_else_the_id(self):
        assert line().who == "usr_a"

    def test_the_product_itself(self):
        shown = line(actor="sys_worker")
        assert (shown.who, shown.is_system, shown.tone) == ("Keystead", True, "bad")
