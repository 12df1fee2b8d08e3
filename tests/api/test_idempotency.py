"""`Idempotency-Key`: the first answer again, and never a second change."""

import pytest

from audit import tenancy
from keys.models import IdempotencyRecord
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser, is_problem, where


@pytest.fixture
def once():
    return {"Idempotency_Key": builders.unique("once")}


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


def records(cast):
    with tenancy.within(cast.acme.id):
        return list(IdempotencyRecord.objects.filter(organization_id=cast.acme.id))


class TestAgain:
    def test_a_creation(self, cast, api, once):
        body = calls.draft()
        with builders.gains(cast.acme.id, "key.created"):
            first, second = (api.post("/api-keys", body, **once) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 201)
        assert second.json() == first.json() | {"secret": None, "secret_status": "already_shown"}

    def test_a_rotation(self, cast, api, made, once):
        path = f"/api-keys/{made.key.id}/rotate"
        with builders.gains(cast.acme.id, "rotation.started"):
            first, second = (api.post(path, **once) for _ in range(2))
        assert second.json() == first.json() | {"secret": None, "secret_status": "already_shown"}

    def test_a_key_that_rotates_itself(self, cast, made, once):
        """Its old secret, still in its grace, asks again after a lost answer."""
        first, second = (Api(made.secret).post("/keys/rotate", **once) for _ in range(2))
        assert second.json()["rotation"]["id"] == first.json()["rotation"]["id"]
        assert second.json()["secret"] is None

    def test_a_revocation(self, cast, api, made, once):
        path = f"/api-keys/{made.key.id}/revoke"
        with builders.gains(cast.acme.id, "key.revoked"):
            answers = [api.post(path, {"reason": "unused"}, **once) for _ in range(2)]
        assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2

    def test_no_record_holds_a_secret(self, cast, api, once):
        secret = api.post("/api-keys", calls.draft(), **once).json()["secret"]
        answers = [str(record.answer) for record in records(cast)]
        assert any('"secret": None' in text or "'secret': None" in text for text in answers)
        assert not [text for text in answers if secret in text or secret[20:40] in text]

    def test_after_a_day_it_is_new(self, cast, api, once):
        body = calls.draft()
        first = api.post("/api-keys", body, **once).json()
        as_superuser(
            "UPDATE keys_idempotencyrecord SET created_at = now() - interval '1 day' WHERE caller = %s",
            first["key"]["created_by"],
        )
        is_problem(api.post("/api-keys", body, **once), 409, "name_taken")
        assert api.post("/api-keys", calls.draft(), **once).json()["secret"] is not None


class TestAnother:
    def test_body(self, cast, api, once):
        assert api.post("/api-keys", calls.draft(), **once).status_code == 201
        with builders.gains(cast.acme.id):
            problem = is_problem(api.post("/api-keys", calls.draft(), **once), 422, "idempotency_key_reused")
        assert where(problem) == ["Idempotency-Key"]

    def test_path(self, api, made, once):
        assert api.post(f"/api-keys/{made.key.id}/rotate", **once).status_code == 201
        answer = api.post(f"/api-keys/{made.key.id}/revoke", **once)
        is_problem(answer, 422, "idempotency_key_reused")

    def test_caller(self, cast, api, once):
        other = calls.program(cast.acme, cast.alice)
        ids = {caller.post("/api-keys", calls.draft(), **once).json()["key"]["id"] for caller in (api, other)}
        assert len(ids) == 2


class TestWhatIsNotKept:
    def test_a_refusal_blocks_no_retry(self, cast, api, once):
        taken = key_builders.create(cast.acme, cast.alice)
        is_problem(api.post("/api-keys", calls.draft(name=taken.key.name), **once), 409, "name_taken")
        is_problem(api.post("/api-keys", calls.draft(name="-"), **once), 422, "invalid_value")
        assert api.post("/api-keys", calls.draft(), **once).status_code == 201

    def test_a_revoked_caller_is_not_told_again(self, cast, once):
        """The caller must still be let in: what was answered is no way around its revocation."""
        caller = calls.key(cast.acme, cast.alice)
        assert Api(caller.secret).post("/api-keys", calls.draft(), **once).status_code == 201
        assert calls.program(cast.acme, cast.alice).delete(f"/api-keys/{caller.key.id}").status_code == 204
        answer = Api(caller.secret).post("/api-keys", calls.draft(), **once)
        is_problem(answer, 401, "invalid_token")


class TestTheKey:
    @pytest.mark.parametrize("text", ["", " ", "a b", "é", "x" * 256, "a\x7f"])
    def test_what_is_refused(self, api, text):
        answer = api.post("/api-keys", calls.draft(), Idempotency_Key=text)
        assert where(is_problem(answer, 422, "invalid_value")) == ["Idempotency-Key"]

    def test_the_longest(self, api):
        text = builders.unique("x").ljust(255, "~")
        assert api.post("/api-keys", calls.draft(), Idempotency_Key=text).status_code == 201


class TestAtOnce:
    def test_one_creation(self, cast, api, once):
        body = calls.draft()
        with builders.gains(cast.acme.id, "key.created"):
            answers = calls.at_once(12, lambda _: api.post("/api-keys", body, **once))
        made = [answer.json() for answer in answers if answer.status_code == 201]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {
            "idempotency_running"
        }
        assert len({answer["key"]["id"] for answer in made}) == 1
        assert sum(answer["secret"] is not None for answer in made) == 1
        again = api.post("/api-keys", body, **once).json()
        assert (again["key"]["id"], again["secret"]) == (made[0]["key"]["id"], None)
