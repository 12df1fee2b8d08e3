"""Plans' terms: which limit is within which, what overrides do, and every bound of every field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import MAX_STRING_BYTES
from orgs import terms
from orgs.errors import Invalid, InvalidMany
from orgs.services.differences import PER_ENTRY, changed_overrides, parts, told_entitlements
from orgs.terms import RateLimit, Terms

limits = st.builds(RateLimit, st.integers(0, 12), st.integers(1, 12))


def fields(check, *args) -> list[str]:
    with pytest.raises(Invalid) as refused:
        check(*args)
    return [error.field for error in refused.value.errors]


def admitted(limit: RateLimit, attempts: list[int]) -> list[int]:
    """Return the seconds at which calls pass, each tried in turn: at most so many in any window."""
    passed: list[int] = []
    for at in sorted(attempts):
        if sum(at - limit.window_seconds < other <= at for other in passed) < limit.requests:
            passed.append(at)
    return passed


class TestWithin:
    @given(limits, limits, st.lists(st.integers(0, 40), max_size=60))
    def test_what_passes_the_narrower_passes_the_wider(self, inner, outer, attempts):
        passed = admitted(inner, attempts)
        if inner.is_within(outer):
            assert admitted(outer, passed) == passed

    @given(limits, limits)
    def test_what_is_not_within_can_pass_too_much_or_forgets_sooner(self, inner, outer):
        burst = [0] * inner.requests
        assert admitted(inner, burst) == burst
        fits, remembers = admitted(outer, burst) == burst, inner.window_seconds >= outer.window_seconds
        assert (fits and remembers) is inner.is_within(outer)

    def test_examples(self):
        plan = RateLimit(1000, 60)
        assert plan.is_within(plan)
        assert plan.is_within(None)
        assert RateLimit(0, 60).is_within(plan)
        assert RateLimit(1000, 3600).is_within(plan)
        assert not RateLimit(1001, 60).is_within(plan)
        assert not RateLimit(1, 59).is_within(plan)
        assert not RateLimit(700, 45).is_within(plan)
        assert not RateLimit(60_000, 3600).is_within(plan)


class TestOverrides:
    plan = Terms(
        rate_limit=RateLimit(10, 60), monthly_quota=100, key_cap=3, entitlements={"seats": 5, "sso": True}
    )

    def test_absent_is_the_plans(self):
        assert terms.effective(self.plan, {}) == self.plan

    def test_null_lifts(self):
        lifted = terms.effective(self.plan, {"rate_limit": None, "monthly_quota": None, "key_cap": None})
        assert lifted == Terms(entitlements=self.plan.entitlements)

    def test_own_values(self):
        own = {
            "rate_limit": {"requests": 0, "window_seconds": 1},
            "monthly_quota": 0,
            "key_cap": 0,
            "entitlements": {"seats": 50, "sso": None, "export": True},
        }
        found = terms.effective(self.plan, own)
        assert found == Terms(
            rate_limit=RateLimit(0, 1),
            monthly_quota=0,
            key_cap=0,
            entitlements={"seats": 50, "export": True},
        )

    def test_what_is_granted(self):
        assert all(map(terms.is_entitled, (True, 0.5, 3)))
        assert not any(map(terms.is_entitled, (False, 0, 0.0, None)))

    @pytest.mark.parametrize(
        ("overrides", "found"),
        [
            ({"rate_limit": {"requests": -1, "window_seconds": 0}}, [terms.REQUESTS, terms.WINDOW]),
            ({"rate_limit": {"requests": 1}}, [terms.REQUESTS]),
            ({"rate_limit": 5}, [terms.REQUESTS]),
            ({"monthly_quota": -1, "key_cap": True}, ["monthly_quota", "key_cap"]),
            ({"monthly_quota": "9"}, ["monthly_quota"]),
            ({"entitlements": []}, ["entitlements"]),
            ({"entitlements": {"Seats": None}}, ["entitlements"]),
            ({"entitlements": {"seats": "many"}}, ["entitlements"]),
            ({"is_operator": True}, [""]),
        ],
    )
    def test_refused(self, overrides, found):
        assert fields(terms.check_overrides, overrides) == found

    def test_passed(self):
        terms.check_overrides({})
        terms.check_overrides(
            {
                "rate_limit": {"requests": 5, "window_seconds": 1},
                "key_cap": None,
                "entitlements": {"a": None, "b": 2},
            }
        )


class TestBounds:
    @pytest.mark.parametrize(
        "limit",
        [RateLimit(0, 1), RateLimit(terms.MAX_REQUESTS, terms.MAX_WINDOW_SECONDS), None],
    )
    def test_limits_within(self, limit):
        terms.check_terms(Terms(rate_limit=limit))

    @pytest.mark.parametrize(
        ("requests", "window", "found"),
        [
            (-1, 60, [terms.REQUESTS]),
            (terms.MAX_REQUESTS + 1, 60, [terms.REQUESTS]),
            (1, 0, [terms.WINDOW]),
            (1, terms.MAX_WINDOW_SECONDS + 1, [terms.WINDOW]),
            (True, 60, [terms.REQUESTS]),
            (1.5, "60", [terms.REQUESTS, terms.WINDOW]),
        ],
    )
    def test_limits_beyond(self, requests, window, found):
        assert fields(terms.check_terms, Terms(rate_limit=RateLimit(requests, window))) == found

    def test_a_limit_is_whole(self):
        assert terms.whole_limit(None, None) is None
        assert terms.whole_limit(0, 5) == RateLimit(0, 5)
        assert fields(terms.whole_limit, 1, None) == [terms.WINDOW]
        assert fields(terms.whole_limit, None, 1) == [terms.REQUESTS]

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True),
            st.booleans() | st.integers(0, terms.MAX_NUMBER) | st.floats(0, terms.MAX_NUMBER),
            max_size=5,
        )
    )
    def test_entitlements_within(self, entitlements):
        terms.check_terms(Terms(entitlements=entitlements))

    @pytest.mark.parametrize(
        "value", [-1, -0.5, terms.MAX_NUMBER + 1, 10**400, float("nan"), float("inf"), "5", None, [], {}]
    )
    def test_values_beyond(self, value):
        assert fields(terms.check_terms, Terms(entitlements={"seats": value})) == ["entitlements"]

    @pytest.mark.parametrize("name", ["", "Seats", "1seat", "_seat", "se at", "seats\n", "s" * 64, "sëat"])
    def test_names_beyond(self, name):
        """What was typed is not repeated: somebody pastes a secret there one day."""
        with pytest.raises(InvalidMany) as refused:
            terms.check_terms(Terms(entitlements={"fine": 1, name: True}))
        [error] = refused.value.errors
        assert error.detail.startswith("Entitlement 2: ")
        assert not name or name not in error.detail

    def test_so_many_and_no_more(self):
        terms.check_terms(Terms(entitlements={f"e{n}": True for n in range(terms.MAX_ENTITLEMENTS)}))
        too_many = {f"e{n}": True for n in range(terms.MAX_ENTITLEMENTS + 1)}
        assert fields(terms.check_terms, Terms(entitlements=too_many)) == ["entitlements"]

    @pytest.mark.parametrize("days", [0, -1, 3_651, True])
    def test_retention(self, days):
        terms.check_retention(1)
        terms.check_retention(3_650)
        assert fields(terms.check_retention, days) == ["usage_retention_days"]


class TestWhatEntriesTell:
    def test_nothing(self):
        assert parts({}, {"a": 1}, {"a": 1}) == []
        assert changed_overrides({}, {}) == []

    def test_true_is_not_one(self):
        [part] = parts({}, {"a": True, "b": 2}, {"a": 1, "b": 2})
        assert part == {"before": {"entitlements": ["a: yes"]}, "after": {"entitlements": ["a: 1"]}}

    def test_what_comes_and_goes(self):
        [part] = parts({"before": {"name": "A"}, "after": {"name": "B"}}, {"a": False}, {"b": 0.5})
        assert part == {
            "before": {"name": "A", "entitlements": ["a: no"]},
            "after": {"name": "B", "entitlements": ["b: 0.5"]},
        }

    def test_many_go_into_several(self):
        many = {f"e{n:03}": True for n in range(PER_ENTRY * 2 + 1)}
        found = parts({}, {}, many)
        assert [len(part["after"]["entitlements"]) for part in found] == [PER_ENTRY, PER_ENTRY, 1]
        told = [line for part in found for line in part["after"]["entitlements"]]
        assert told == told_entitlements(many)
        assert all(len(line) < MAX_STRING_BYTES for line in told_entitlements({"n" * 63: 10**15 - 0.125}))

    def test_overrides(self):
        before = {"monthly_quota": None, "entitlements": {"a": None}}
        after = {"rate_limit": {"requests": 5, "window_seconds": 60}, "key_cap": 7, "entitlements": {"a": 2}}
        assert changed_overrides(before, after) == [
            {
                "before": {
                    "rate_limit": "as the plan says",
                    "monthly_quota": "no limit",
                    "key_cap": "as the plan says",
                    "entitlements": ["a: taken away"],
                },
                "after": {
                    "rate_limit": "5 in 60 s",
                    "monthly_quota": "as the plan says",
                    "key_cap": 7,
                    "entitlements": ["a: 2"],
                },
            }
        ]
