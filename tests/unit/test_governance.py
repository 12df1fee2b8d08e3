from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import governance
from keys.errors import Invalid
from keys.governance import (
    Approval,
    ApprovalState,
    Bar,
    Decision,
    Parity,
    Step,
    StepState,
    compare,
    free,
    governed,
    needs_approval,
    parity,
)
from orgs.roles import Risk

bounded = settings(max_examples=60, deadline=None, database=None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
RISKS = {
    "incidents:read": Risk.READ,
    "incidents:write": Risk.WRITE,
    "admin:projects": Risk.ADMIN,
    "logs:*": Risk.READ,
    "logs:read": Risk.READ,
}
APPROVAL = Approval(
    id="apr_a",
    key_id="key_a",
    scope="incidents:write",
    resource="db-7",
    parameters_digest="0" * 64,
    decision=Decision.GRANTED,
    valid_until=NOW + HOUR,
    uses=2,
    spent=0,
)
steps = st.lists(st.builds(Step, st.sampled_from("abcd"), st.sampled_from("123")), max_size=9)


class TestState:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, ApprovalState.GRANTED),
            ({"decision": Decision.NONE}, ApprovalState.REQUESTED),
            ({"decision": Decision.DENIED}, ApprovalState.DENIED),
            ({"spent": 1}, ApprovalState.GRANTED),
            ({"spent": 2}, ApprovalState.USED_UP),
            ({"spent": 3}, ApprovalState.USED_UP),
            ({"valid_until": NOW}, ApprovalState.EXPIRED),
            ({"valid_until": NOW + TICK}, ApprovalState.GRANTED),
            ({"valid_until": NOW, "decision": Decision.NONE}, ApprovalState.EXPIRED),
            ({"valid_until": NOW, "decision": Decision.DENIED}, ApprovalState.DENIED),
            ({"valid_until": NOW, "spent": 2}, ApprovalState.USED_UP),
            ({"decision": Decision.NONE, "spent": 2}, ApprovalState.REQUESTED),
        ],
    )
    def test_each(self, changes, expected):
        assert replace(APPROVAL, **changes).state(NOW) is expected

    @pytest.mark.parametrize("decision", [Decision.NONE, Decision.DENIED])
    def test_nothing_but_a_grant_permits(self, decision):
        assert not replace(APPROVAL, decision=decision).permits(["incidents:write"], NOW)

    @bounded
    @given(
        st.sampled_from(Decision), st.integers(-5, 5), st.integers(1, 3), st.integers(0, 4), st.integers(0, 9)
    )
    def test_what_is_over_stays_over(self, decision, minutes, uses, spent, later):
        until = NOW + timedelta(minutes=minutes)
        before = governance.state(decision, until, uses, spent, NOW)
        after = governance.state(decision, until, uses, spent, NOW + timedelta(minutes=later))
        if before not in {ApprovalState.REQUESTED, ApprovalState.GRANTED}:
            assert after is before
        else:
            assert after in {before, ApprovalState.EXPIRED}


class TestPermits:
    @pytest.mark.parametrize(
        ("scope", "asked", "expected"),
        [
            ("incidents:write", ["incidents:write"], True),
            ("incidents:*", ["incidents:write"], True),
            ("incidents:*", ["incidents:*", "incidents:write"], True),
            ("incidents:write", ["incidents:*"], False),
            ("incidents:write", ["incidents:write", "admin:projects"], False),
            ("incidents:write", ["incidents:writer"], False),
            ("*:*", ["incidents:write"], False),
        ],
    )
    def test_all_that_is_asked_is_covered(self, scope, asked, expected):
        assert replace(APPROVAL, scope=scope).permits(asked, NOW) is expected


class TestNeeds:
    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            ("incidents:read", False),
            ("incidents:write", True),
            ("admin:projects", True),
            ("incidents:*", True),
            ("logs:*", False),
            ("unknown:read", True),
            ("unknown:*", True),
        ],
    )
    def test_whatever_may_do_more_than_read(self, scope, expected):
        assert needs_approval(scope, RISKS) is expected

    def test_a_wildcard_that_was_harmless_needs_one_when_a_scope_joins(self):
        assert needs_approval("logs:*", RISKS | {"logs:purge": Risk.ADMIN})

    def test_those_of_a_call(self):
        assert governed(["incidents:read", "incidents:write"], RISKS) == ("incidents:write",)

    @pytest.mark.parametrize(
        ("held", "left"),
        [
            (["incidents:*"], ("incidents:read",)),
            (["incidents:write", "approvals:request"], ("approvals:request",)),
            (["approvals:*"], ("approvals:request",)),
            (["keys:write", "keys:rotate"], ()),
        ],
    )
    def test_what_is_left_without_an_approval(self, held, left):
        assert free(held, RISKS | {"keys:write": Risk.WRITE, "approvals:request": Risk.WRITE}) == left


class TestValidity:
    def test_an_hour_where_nobody_says(self):
        assert governance.valid_until(None, NOW) == NOW + HOUR

    @pytest.mark.parametrize("asked", [60, 86_400, NOW + timedelta(minutes=1), NOW + timedelta(hours=24)])
    def test_bounds(self, asked):
        assert governance.valid_until(asked, NOW) <= NOW + timedelta(hours=24)

    @pytest.mark.parametrize(
        "asked", [0, -5, 59, 86_401, NOW, NOW - HOUR, NOW + timedelta(hours=24) + TICK, 10**9]
    )
    def test_beyond_them(self, asked):
        with pytest.raises(Invalid):
            governance.valid_until(asked, NOW)


class TestBar:
    @pytest.mark.parametrize(
        ("user", "by", "behind", "has_role", "expected"),
        [
            ("usr_b", "usr_a", (), True, None),
            ("usr_a", "usr_a", (), True, Bar.OWN),
            ("usr_a", "key_a", ("usr_a",), True, Bar.BEHIND),
            ("usr_b", "key_a", ("usr_a",), True, None),
            ("usr_b", "key_a", ("usr_a",), False, Bar.ROLE),
            ("usr_a", "usr_a", (), False, Bar.OWN),
        ],
    )
    def test_each(self, user, by, behind, has_role, expected):
        assert governance.bar(user, requested_by=by, behind=behind, has_role=has_role) is expected

    @bounded
    @given(st.sampled_from("abc"), st.sampled_from("abc"), st.sets(st.sampled_from("abc")), st.booleans())
    def test_never_ones_own(self, user, by, behind, has_role):
        if governance.bar(user, requested_by=by, behind=behind, has_role=has_role) is None:
            assert user != by
            assert user not in behind
            assert has_role


def states(planned, done):
    return [line.state.value for line in compare(planned, done)]


def plan(*names):
    return [Step(name, name) for name in names]


class TestCompare:
    @pytest.mark.parametrize(
        ("planned", "done", "expected"),
        [
            ("", "", []),
            ("abc", "abc", ["equal"] * 3),
            ("abc", "ac", ["equal", "missing", "equal"]),
            ("abc", "bc", ["missing", "equal", "equal"]),
            ("ac", "abc", ["equal", "extra", "equal"]),
            ("ab", "ba", ["missing", "equal", "extra"]),
            ("", "ab", ["extra", "extra"]),
            ("ab", "", ["missing", "missing"]),
            ("ab", "xy", ["missing", "missing", "extra", "extra"]),
        ],
    )
    def test_each(self, planned, done, expected):
        assert sorted(states(plan(*planned), plan(*done))) == sorted(expected)
        assert len(states(plan(*planned), plan(*done))) == len(expected)

    def test_one_of_a_name_that_repeats(self):
        planned = [Step("poll", "1"), Step("poll", "2"), Step("poll", "3")]
        assert states(planned, [planned[0], planned[2]]) == ["equal", "missing", "equal"]
        assert states(planned, [planned[1], Step("poll", "9")]) == ["missing", "equal", "changed"]

    @bounded
    @given(steps, steps)
    def test_each_step_stands_in_its_order_once(self, planned, done):
        lines = compare(planned, done)
        assert [line.planned for line in lines if line.planned is not None] == list(range(len(planned)))
        assert [line.done for line in lines if line.done is not None] == list(range(len(done)))
        for line in lines:
            match line.state:
                case StepState.EQUAL:
                    assert planned[line.planned] == done[line.done]
                case StepState.CHANGED:
                    one, other = planned[line.planned], done[line.done]
                    assert one.name == other.name
                    assert one.digest != other.digest
                case StepState.MISSING:
                    assert line.done is None
                case StepState.EXTRA:
                    assert line.planned is None

    @bounded
    @given(steps, steps)
    def test_all_are_equal_exactly_when_the_lists_are(self, planned, done):
        is_equal = all(state == "equal" for state in states(planned, done))
        assert is_equal is (planned == done)

    @bounded
    @given(steps.filter(bool), st.data())
    def test_one_difference_is_one_line(self, planned, data):
        at = data.draw(st.integers(0, len(planned) - 1))
        less = planned[:at] + planned[at + 1 :]
        other = [*planned[:at], Step(planned[at].name, "other"), *planned[at + 1 :]]
        rest = len(planned) - 1
        assert Counter(states(planned, less)) == Counter({"equal": rest, "missing": 1}) - Counter()
        assert Counter(states(less, planned)) == Counter({"equal": rest, "extra": 1}) - Counter()
        assert Counter(states(planned, other)) == Counter({"equal": rest, "changed": 1}) - Counter()

    @bounded
    @given(steps, steps)
    def test_it_is_the_same_seen_from_the_other_side(self, planned, done):
        swapped = {"missing": "extra", "extra": "missing"}
        there, back = states(planned, done), states(done, planned)
        assert Counter(there) == Counter(swapped.get(state, state) for state in back)

    def test_a_hundred_steps_are_quick(self):
        many = [Step("poll", str(number)) for number in range(100)]
        assert states(many, many[::-1]).count("equal") == 1


class TestParity:
    @pytest.mark.parametrize(
        ("done", "has_plan", "parameters", "expected"),
        [
            ("ab", True, "p", Parity.EQUAL),
            ("a", True, "p", Parity.MISMATCH),
            ("ab", True, "q", Parity.MISMATCH),
            ("ab", False, "p", Parity.NO_PLAN),
            ("ab", False, "q", Parity.MISMATCH),
            ("ab", False, None, Parity.NO_PLAN),
        ],
    )
    def test_each(self, done, has_plan, parameters, expected):
        lines = compare(plan("a", "b"), plan(*done)) if has_plan else ()
        found = parity(lines, has_plan=has_plan, planned_parameters=parameters, done_parameters="p")
        assert found is expected
