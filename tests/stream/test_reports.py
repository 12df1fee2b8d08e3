"""`POST /v1/usage`: uses of kept verdicts count once, for the keys that the verifier may see, and for nobody else's."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from django.utils import timezone

from audit import tenancy
from keys.models import Call, KeyUse, SecretUse
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import is_problem, where


@pytest.fixture
def api(verifier):
    return calls.Api(verifier.secret)


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


def item(key, /, **changes):
    return {"key": key.id, "secret_version": 1, "at": now(), "calls": 3, "cost": 6, **changes}


def now(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).isoformat().replace("+00:00", "Z")


def report(api, *items, batch=None, **more):
    return api.post("/usage", {"batch": batch or builders.unique("batch"), "calls": list(items), **more})


def recorded(key):
    with tenancy.within(key.organization_id):
        return list(Call.objects.filter(key_id=key.id).order_by("at"))


class TestRecording:
    def test_it_is_kept_as_what_it_was(self, cast, api, verifier, made):
        more = {"endpoint": "GET /a", "region": "us", "ip": "203.0.113.9", "user_agent": "curl"}
        answer = report(api, item(made.key, **more))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        (kept,) = recorded(made.key)
        assert (kept.calls, kept.cost, kept.code, kept.version) == (3, 6, "VALID", 1)
        assert (kept.endpoint, kept.region, kept.ip, kept.user_agent) == tuple(more.values())
        assert (kept.verifier_id, kept.request_id) == (verifier.key.id, answer["X-Request-Id"])
        with tenancy.within(cast.acme.id):
            use, secret = (
                KeyUse.objects.get(pk=made.key.id),
                SecretUse.objects.get(key_id=made.key.id, version=1),
            )
        assert use.last_used_at == secret.last_used_at == kept.at
        assert use.last_used_ip == "203.0.113.9"

    def test_the_same_batch_counts_once(self, api, made):
        batch = builders.unique("batch")
        answers = [report(api, item(made.key), batch=batch).json() for _ in range(3)]
        assert answers == [{"accepted": 1}, {"accepted": 0}, {"accepted": 0}]
        assert len(recorded(made.key)) == 1

    def test_at_once_it_counts_once(self, api, made):
        batch = builders.unique("batch")
        answers = calls.at_once(8, lambda _: report(api, item(made.key), batch=batch))
        done = [answer.json()["accepted"] for answer in answers if answer.status_code == 202]
        assert sorted(done)[-1] == sum(done) == 1
        assert len(recorded(made.key)) == 1

    def test_another_verifiers_batch_of_the_same_name_is_another(self, cast, api, made):
        batch = builders.unique("batch")
        other = calls.program(cast.acme, cast.alice, ["keys:verify"])
        assert [report(one, item(made.key), batch=batch).json()["accepted"] for one in (api, other)] == [1, 1]

    def test_what_is_not_recorded_may_be_sent_again(self, api, made):
        """A batch that is refused has not been counted."""
        batch = builders.unique("batch")
        is_problem(report(api, item(made.key, calls=0), batch=batch), 422, "invalid_value")
        assert report(api, item(made.key), batch=batch).json() == {"accepted": 1}

    def test_foreign_and_unknown_keys_are_left_out_alike(self, cast, api, made):
        theirs = key_builders.create(cast.elsewhere, cast.mallory)
        unknown = {**item(made.key), "key": builders.new_id("key")}
        assert report(api, item(theirs.key)).json() == {"accepted": 0}
        assert report(api, unknown).json() == {"accepted": 0}
        assert report(api, item(made.key, secret_version=9)).json() == {"accepted": 0}
        assert report(api, item(theirs.key), item(made.key), unknown).json() == {"accepted": 1}
        assert recorded(theirs.key) == []
        with tenancy.within(cast.elsewhere.id):
            assert KeyUse.objects.get(pk=theirs.key.id).last_used_at is None

    def test_the_operators_verifier_reports_everybodys(self, cast, operator, made):
        theirs = key_builders.create(cast.elsewhere, cast.mallory)
        answer = report(calls.Api(operator), item(theirs.key), item(made.key))
        assert answer.json() == {"accepted": 2}
        assert [one.organization_id for one in recorded(theirs.key)] == [cast.elsewhere.id]

    def test_times_are_taken_within_the_hour(self, api, made):
        ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        report(api, item(made.key, at=now(days=9)), item(made.key, at=ahead))
        old, new = recorded(made.key)
        assert timedelta(minutes=59) < timezone.now() - old.at < timedelta(minutes=61)
        assert abs(timezone.now() - new.at) < timedelta(minutes=1)

    def test_a_report_never_turns_last_used_back(self, cast, api, made):
        key_builders.verify(made.secret, cast.acme, ip="203.0.113.1")
        with tenancy.within(cast.acme.id):
            before = KeyUse.objects.get(pk=made.key.id)
        report(api, item(made.key, at=now(minutes=30), ip="203.0.113.2"))
        with tenancy.within(cast.acme.id):
            after = KeyUse.objects.get(pk=made.key.id)
        assert (after.last_used_at, after.last_used_ip) == (before.last_used_at, before.last_used_ip)

    def test_looks_move_nothing(self, cast, api, made):
        report(api, item(made.key, cost=0))
        with tenancy.within(cast.acme.id):
            assert KeyUse.objects.get(pk=made.key.id).last_used_at is None
        assert len(recorded(made.key)) == 1

    def test_a_thousand_items(self, api, made):
        assert report(api, *[item(made.key, at="2027-01-31T12:00:00Z")] * 1000).json() == {"accepted": 1000}


class TestBounds:
    @pytest.mark.parametrize(
        ("changes", "at"),
        [
            ({"calls": 0}, "calls[0].calls"),
            ({"calls": 1_000_000_001}, "calls[0].calls"),
            ({"calls": True}, "calls[0].calls"),
            ({"cost": -1}, "calls[0].cost"),
            ({"cost": 2_000_000_001}, "calls[0].cost"),
            ({"secret_version": 2_147_483_648}, "calls[0].secret_version"),
            ({"key": "k" * 33}, "calls[0].key"),
            ({"key": "key_\0"}, "calls[0].key"),
            ({"endpoint": "e" * 257}, "calls[0].endpoint"),
            ({"region": "é" * 33}, "calls[0].region"),
            ({"region": "\0"}, "calls[0].region"),
            ({"ip": "nonsense"}, "calls[0].ip"),
            ({"at": "yesterday"}, "calls[0].at"),
            ({"code": "REVOKED"}, "calls[0].code"),
        ],
        ids=str,
    )
    def test_of_an_item(self, api, made, changes, at):
        problem = is_problem(report(api, item(made.key, **changes)), 422, "invalid_value")
        assert where(problem) == [at]
        assert recorded(made.key) == []

    def test_of_a_batch(self, api, made):
        for bad in ("", "b" * 65, "b\n", "a b"):
            is_problem(api.post("/usage", {"batch": bad, "calls": [item(made.key)]}), 422, "invalid_value")
        is_problem(report(api), 422, "invalid_value")
        is_problem(report(api, *[item(made.key, at="2027-01-31T12:00:00Z")] * 1001), 422, "invalid_value")
        is_problem(report(api, item(made.key), more=1), 422, "invalid_value")


class TestWhoMay:
    def test_the_scope_is_needed(self, cast, made):
        reader = calls.program(cast.acme, cast.alice, ["keys:read", "usage:read"])
        is_problem(report(reader, item(made.key)), 403, "insufficient_scope")
        is_problem(report(calls.Api(None), item(made.key)), 401, "unauthenticated")

    def test_reading_usage_has_the_same_address(self, cast, api):
        assert calls.program(cast.acme, cast.alice, ["usage:read"]).get("/usage").status_code == 200
        is_problem(api.get("/usage"), 403, "insufficient_scope")


class TestThroughTheGate:
    """The same where an ASGI server serves: the gate takes the reports, the pages answer the rest of the address."""

    def sent(self, server, secret, body, method="POST"):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.request(method, f"{server.url}/v1/usage", headers=headers, json=body, timeout=10)

    def test_it_is_recorded_once(self, server, verifier, made):
        body = {"batch": builders.unique("batch"), "calls": [item(made.key)]}
        answers = [self.sent(server, verifier.secret, body) for _ in range(2)]
        assert [(answer.status_code, answer.json()) for answer in answers] == [
            (202, {"accepted": 1}),
            (202, {"accepted": 0}),
        ]
        (kept,) = recorded(made.key)
        assert (kept.calls, kept.request_id) == (3, answers[0].headers["X-Request-Id"])

    def test_what_is_wrong_with_it(self, cast, server, verifier, made):
        body = {"batch": "b", "calls": [item(made.key, calls=0)]}
        reader = calls.key(cast.acme, cast.alice, ["keys:read"])
        answers = [
            self.sent(server, secret, body) for secret in ("", "nonsense", reader.secret, verifier.secret)
        ]
        assert [answer.status_code for answer in answers] == [401, 401, 403, 422]
        assert answers[-1].json()["errors"][0]["location"] == "calls[0].calls"
        assert recorded(made.key) == []

    def test_reading_goes_to_the_pages(self, cast, server):
        reader = calls.key(cast.acme, cast.alice, ["usage:read"])
        assert "series" in self.sent(server, reader.secret, None, "GET").json()


class TestTheStreamBehindWsgi:
    def test_it_says_that_it_is_not_served(self, api):
        is_problem(api.get("/revocations"), 501, "streams_not_served")

    def test_and_asks_for_the_scope_first(self, cast):
        is_problem(
            calls.program(cast.acme, cast.alice, ["keys:read"]).get("/revocations"), 403, "insufficient_scope"
        )
