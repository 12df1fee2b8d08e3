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
    ApprovalRule,
    ApprovalState,
    Bar,
    Decision,
    Parity,
    Required,
    Step,
    StepState,
    compare,
    free,
    governed,
    needs_approval,
    parity,
)
from keys.secret import Kind
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
        assert governance.valid_until(None, NOW, ApprovalRule(max_hours=1)) == NOW + HOUR

    @pytest.mark.parametrize("asked", [60, 86_400, NOW + timedelta(minutes=1), NOW + timedelta(hours=24)])
    def test_bounds(self, asked):
        assert NOW < governance.valid_until(asked, NOW, ApprovalRule()) <= NOW + timedelta(hours=24)

    @pytest.mark.parametrize(
        "asked", [0, -5, 59, 86_401, NOW, NOW - HOUR, NOW + timedelta(hours=24) + TICK, 10**9]
    )
    def test_beyond_them(self, asked):
        with pytest.raises(Invalid):
            governance.valid_until(asked, NOW, ApprovalRule())

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            (7_201, "valid_for_seconds"),
            (86_400, "valid_for_seconds"),
            (NOW + 2 * HOUR + TICK, "valid_until"),
        ],
    )
    def test_beyond_the_organizations_own(self, asked, field):
        with pytest.raises(Invalid, match="2 hours at most") as caught:
            governance.valid_until(asked, NOW, ApprovalRule(max_hours=2))
        assert caught.value.field == field

    @bounded
    @given(st.integers(1, 24), st.integers(-10, 90_000), st.booleans())
    def test_never_longer_than_the_rule(self, hours, seconds, is_time):
        asked = NOW + timedelta(seconds=seconds) if is_time else seconds
        is_within = 60 <= seconds <= hours * 3_600
        try:
            found = governance.valid_until(asked, NOW, ApprovalRule(max_hours=hours))
        except Invalid:
            assert not is_within
        else:
            assert is_within
            assert found == NOW + timedelta(seconds=seconds)


class TestUses:
    @pytest.mark.parametrize(("uses", "most"), [(1, 1), (5, 5), (4, 5), (100, 100)])
    def test_within(self, uses, most):
        assert governance.check_uses(uses, ApprovalRule(max_uses=most)) == uses

    @pytest.mark.parametrize(
        ("uses", "most", "words"),
        [(0, 100, "1 to 100"), (-1, 5, "1 to 5"), (6, 5, "1 to 5"), (2, 1, "1 use ")],
    )
    def test_beyond(self, uses, most, words):
        with pytest.raises(Invalid, match=words) as caught:
            governance.check_uses(uses, ApprovalRule(max_uses=most))
        assert caught.value.field == "uses"


class TestBinding:
    @pytest.mark.parametrize("is_production", [True, False])
    @pytest.mark.parametrize("required", Required)
    @pytest.mark.parametrize("kind", Kind)
    def test_service_keys_where_the_rule_says(self, kind, required, is_production):
        asked = {Required.NONE: False, Required.PRODUCTION: is_production, Required.ALWAYS: True}[required]
        rule = ApprovalRule(required=required)
        found = governance.must_be_bound(kind, rule, is_production=is_production)
        assert found is (asked and kind is Kind.SERVICE)
        refused = {
            is_bound
            for is_bound in (True, False)
            if _is_refused(kind, rule, is_bound=is_bound, is_production=is_production)
        }
        assert refused == ({True} if kind is not Kind.SERVICE else {False} if asked else set())

    def test_it_says_where(self):
        rules = [ApprovalRule(required=required) for required in (Required.PRODUCTION, Required.ALWAYS)]
        said = []
        for rule in rules:
            with pytest.raises(Invalid) as caught:
                governance.check_binding(Kind.SERVICE, rule, is_bound=False, is_production=True)
            assert caught.value.field == "approval_bound"
            said.append("in production" in caught.value.detail)
        assert said == [True, False]


def _is_refused(kind, rule, **what):
    try:
        governance.check_binding(kind, rule, **what)
    except Invalid:
        return True
    return False


class TestRule:
    def test_none_is_the_products_own(self):
        assert ApprovalRule() == ApprovalRule(required=Required.NONE, max_hours=24, max_uses=100)

    @pytest.mark.parametrize(
        ("check", "inside", "outside", "field"),
        [
            (governance.check_max_hours, (1, 24), (0, 25, -1), "approval_max_hours"),
            (governance.check_max_uses, (1, 100), (0, 101, -1), "approval_max_uses"),
            (
                governance.check_required,
                ("none", "production", "always"),
                ("", "None", "live"),
                "approvals_required",
            ),
        ],
    )
    def test_bounds(self, check, inside, outside, field):
        assert [check(value) for value in inside] == list(inside)
        for value in outside:
            with pytest.raises(Invalid) as caught:
                check(value)
            assert caught.value.field == field

    def test_it_speaks_of_one_as_of_one(self):
        rule = ApprovalRule(max_hours=1, max_uses=1)
        assert "1 hour at most" in rule.validity_words
        assert "1 use here" in rule.uses_words


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
