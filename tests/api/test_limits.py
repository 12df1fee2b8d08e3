"""Rate limits as callers meet them: in verify answers, and on calls of the API itself."""

import pytest

from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser, is_problem

HOUR = 3_600


def limited(made, requests, window=HOUR):
    as_superuser(
        "UPDATE keys_apikey SET rate_limit_requests = %s, rate_limit_window_seconds = %s WHERE id = %s",
        requests,
        window,
        made.key.id,
    )
    return made


class TestVerify:
    def test_the_answer_tells_where_the_key_stands(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 10)
        found = api.post("/keys/verify", {"secret": made.secret, "cost": 4}).json()
        standing = found["rate_limit"]
        assert 1 <= standing.pop("reset_seconds") <= HOUR
        assert standing == {"limit": 10, "remaining": 6, "window_seconds": HOUR, "retry_after_seconds": 0}

    def test_a_look_spends_nothing(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 10)
        for _ in range(3):
            found = api.post("/keys/verify", {"secret": made.secret, "cost": 0}).json()
            assert (found["code"], found["rate_limit"]["remaining"]) == ("VALID", 10)

    def test_what_is_too_much_spends_nothing_and_says_when(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 10)
        ask = {"secret": made.secret, "cost": 6}
        assert api.post("/keys/verify", ask).json()["code"] == "VALID"
        found = api.post("/keys/verify", ask).json()
        assert (found["valid"], found["code"]) == (False, "RATE_LIMITED")
        assert (found["rate_limit"]["remaining"], found["scopes"]) == (4, [])
        assert 1 <= found["rate_limit"]["retry_after_seconds"] <= 2 * HOUR
        assert api.post("/keys/verify", {**ask, "cost": 4}).json()["code"] == "VALID"

    def test_more_than_the_limit_never_passes(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 10)
        found = api.post("/keys/verify", {"secret": made.secret, "cost": 11}).json()
        assert (found["code"], found["rate_limit"]["retry_after_seconds"]) == ("RATE_LIMITED", None)

    @pytest.mark.parametrize("cost", [0, 1])
    def test_a_limit_of_zero(self, cast, api, cost):
        made = limited(key_builders.create(cast.acme, cast.alice), 0)
        found = api.post("/keys/verify", {"secret": made.secret, "cost": cost}).json()
        assert (found["code"], found["rate_limit"]["retry_after_seconds"]) == ("RATE_LIMITED", None)

    def test_a_refused_call_spends_nothing(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 1)
        for _ in range(3):
            found = api.post("/keys/verify", {"secret": made.secret, "scopes": ["admin:projects"]}).json()
            assert (found["code"], found["rate_limit"]) == ("INSUFFICIENT_SCOPE", None)
        assert api.post("/keys/verify", {"secret": made.secret}).json()["code"] == "VALID"

    def test_both_secrets_of_a_rotation_spend_the_same(self, cast, api):
        made = limited(key_builders.create(cast.acme, cast.alice), 2)
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice)
        codes = [
            api.post("/keys/verify", {"secret": text}).json()["code"]
            for text in (made.secret, rotated.secret, made.secret, rotated.secret)
        ]
        assert codes == ["VALID", "VALID", "RATE_LIMITED", "RATE_LIMITED"]

    def test_the_verifiers_own_key_spends_nothing(self, cast):
        verifier = limited(calls.key(cast.acme, cast.alice), 1)
        made = key_builders.create(cast.acme, cast.alice)
        for _ in range(3):
            answer = Api(verifier.secret).post("/keys/verify", {"secret": made.secret})
            assert answer.json()["code"] == "VALID"

    def test_a_quota_of_the_plan(self, cast):
        owner = builders.person("Olga")
        where = builders.organization("Metered", owner=owner)
        builders.agree(where, monthly_quota=10)
        api = calls.program(where, owner)
        made = [key_builders.create(where, owner) for _ in range(2)]
        found = [api.post("/keys/verify", {"secret": made[n % 2].secret, "cost": 4}).json() for n in range(3)]
        assert [each["code"] for each in found] == ["VALID", "VALID", "QUOTA_EXCEEDED"]
        assert [each["quota"]["used"] for each in found] == [4, 8, 8]
        assert found[0]["quota"]["limit"] == 10
        assert found[0]["quota"]["period_ends_at"].endswith("-01T00:00:00.000000Z")


class TestCallsOfTheApi:
    def test_each_counts_and_says_where_the_key_stands(self, cast):
        api = Api(limited(calls.key(cast.acme, cast.alice), 3).secret)
        for left in (2, 1, 0):
            answer = api.get("/me")
            assert (answer.status_code, answer["RateLimit-Policy"]) == (200, f'"per-key";q=3;w={HOUR}')
            assert answer["RateLimit"].startswith(f'"per-key";r={left};t=')
        answer = api.get("/me")
        is_problem(answer, 429, "rate_limited")
        assert 1 <= int(answer["Retry-After"]) <= 2 * HOUR
        assert answer["RateLimit"].startswith('"per-key";r=0;t=')

    def test_a_key_without_limit_hears_of_none(self, api):
        assert "RateLimit" not in api.get("/me")
