"""`…/rotate` and `/v1/keys/rotate`: one successor, a grace, and a key that renews itself."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from audit import tenancy
from keys.models import KeySecret
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser, is_problem, where

FIELDS = {
    "id",
    "key",
    "mode",
    "status",
    "overdue",
    "old_version",
    "new_version",
    "started_at",
    "started_by",
    "grace_ends_at",
    "quiet_seconds",
    "deadline",
    "completed_at",
    "targets",
    "elsewhere",
    "sealed_secret",
}


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


def path(made):
    return f"/api-keys/{made.key.id}/rotate"


def versions(made):
    with tenancy.within(made.key.organization_id):
        return sorted(KeySecret.objects.filter(key=made.key).values_list("version", flat=True))


def code(api, secret):
    return api.post("/keys/verify", {"secret": secret}).json()["code"]


class TestRotate:
    @pytest.mark.parametrize("body", [None, {}, {"mode": "grace", "version": 1, "grace_seconds": 86_400}])
    def test_works(self, cast, api, made, body):
        with builders.gains(cast.acme.id, "rotation.started") as gained:
            answer = api.post(path(made), body)
        assert answer.status_code == 201
        found = answer.json()
        assert set(found) == {"rotation", "key", "secret"}
        rotation = found["rotation"]
        assert set(rotation) == FIELDS
        assert (rotation["mode"], rotation["status"]) == ("grace", "running")
        assert (rotation["old_version"], rotation["new_version"]) == (1, 2)
        assert found["key"]["rotation"] == rotation
        grace = datetime.fromisoformat(rotation["grace_ends_at"]) - datetime.fromisoformat(
            rotation["started_at"]
        )
        assert grace == timedelta(days=1)
        assert [secret["version"] for secret in found["key"]["secrets"]] == [2, 1]
        assert found["key"]["secrets"][1]["accepted_until"] == rotation["grace_ends_at"]
        assert found["key"]["hint"] == found["secret"][:15] + "…"
        assert answer.content.decode().count(found["secret"]) == 1
        assert gained[0].data["rotation"] == rotation["id"]

    def test_both_are_accepted_until_the_grace_ends(self, cast, api, made):
        new = api.post(path(made)).json()["secret"]
        assert [code(api, made.secret), code(api, new)] == ["VALID", "VALID"]
        told = api.post("/keys/verify", {"secret": made.secret}).json()["key"]
        assert (told["secret_version"], told["retiring"]) == (1, True)
        assert told["accepted_until"] is not None
        past = timezone.now() - timedelta(seconds=1)
        as_superuser(
            "UPDATE keys_keysecret SET accepted_until = %s WHERE key_id = %s AND version = 1",
            past,
            made.key.id,
        )
        as_superuser("UPDATE keys_rotation SET grace_ends_at = %s WHERE key_id = %s", past, made.key.id)
        assert [code(api, made.secret), code(api, new)] == ["SECRET_RETIRED", "VALID"]
        key = api.get(f"/api-keys/{made.key.id}").json()
        assert ([secret["version"] for secret in key["secrets"]], key["rotation"]) == ([2], None)
        assert api.post(path(made)).status_code == 201

    def test_a_second_one_is_told_of_the_first(self, cast, api, made):
        first = api.post(path(made)).json()["rotation"]["id"]
        with builders.gains(cast.acme.id):
            problem = is_problem(api.post(path(made)), 409, "rotation_running")
        assert problem["rotation"] == first

    def test_immediate_ends_every_earlier_secret(self, cast, api, made):
        second = api.post(path(made)).json()["secret"]
        with builders.gains(cast.acme.id, "rotation.superseded", "rotation.started"):
            answer = api.post(path(made), {"mode": "immediate"})
        rotation = answer.json()["rotation"]
        assert (rotation["mode"], rotation["status"]) == ("immediate", "completed")
        assert (rotation["grace_ends_at"], rotation["completed_at"]) == (None, rotation["started_at"])
        third = answer.json()["secret"]
        codes = [code(api, secret) for secret in (made.secret, second, third)]
        assert codes == ["SECRET_RETIRED", "SECRET_RETIRED", "VALID"]

    def test_the_grace_ends_with_the_old_secrets_own_expiry(self, cast, api):
        soon = timezone.now() + timedelta(hours=1)
        made = key_builders.create(cast.acme, cast.alice, expires=soon, rotation_interval_days=1)
        rotation = api.post(path(made)).json()["rotation"]
        assert datetime.fromisoformat(rotation["grace_ends_at"]) == made.key.expires_at

    def test_the_version_that_the_caller_knows(self, cast, api, made):
        with builders.gains(cast.acme.id):
            is_problem(api.post(path(made), {"version": 2}), 409, "version_conflict")
        assert versions(made) == [1]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("mode", "later"),
            ("mode", None),
            ("mode", 1),
            ("version", 0),
            ("version", "1"),
            ("version", 2**31),
            ("version", True),
            ("grace_seconds", 0),
            ("grace_seconds", 2_592_001),
            ("grace_seconds", 1.5),
            ("targets", ["eu"]),
            ("quiet_seconds", 600),
            ("deadline", "2100-01-01T00:00:00Z"),
            ("deadline", "tomorrow"),
            ("key_id", "key_x"),
        ],
    )
    def test_what_is_refused(self, cast, api, made, name, value):
        with builders.gains(cast.acme.id):
            problem = is_problem(api.post(path(made), {name: value}), 422, "invalid_value")
        assert where(problem) == [name]

    def test_an_immediate_one_has_no_grace(self, api, made):
        problem = is_problem(
            api.post(path(made), {"mode": "immediate", "grace_seconds": 60}), 422, "invalid_value"
        )
        assert where(problem) == ["grace_seconds"]

    def test_what_has_ended_or_is_disabled(self, cast, api, made):
        assert api.patch(f"/api-keys/{made.key.id}", {"enabled": False}).status_code == 200
        is_problem(api.post(path(made)), 409, "state_forbids")
        assert api.delete(f"/api-keys/{made.key.id}").status_code == 204
        is_problem(api.post(path(made)), 409, "state_forbids")

    def test_who_holds_less_gets_no_secret_of_it(self, cast):
        strong = key_builders.create(cast.acme, cast.alice, scopes=["incidents:read", "incidents:write"])
        weak = calls.program(cast.acme, cast.alice, ["keys:rotate", "incidents:read"])
        with builders.gains(cast.acme.id):
            is_problem(weak.post(path(strong)), 403, "exceeds_grant")
            is_problem(weak.post("/keys/rotate", {"key_id": strong.key.id}), 403, "exceeds_grant")
        assert versions(strong) == [1]

    def test_one_of_fifty_succeeds(self, cast, api, made):
        with builders.gains(cast.acme.id, "rotation.started"):
            answers = calls.at_once(50, lambda _: api.post(path(made)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] + [409] * 49, [
            answer.content for answer in answers if answer.status_code > 409
        ]
        assert versions(made) == [1, 2]
        new = next(answer.json()["secret"] for answer in answers if answer.status_code == 201)
        assert code(api, new) == "VALID"

    def test_one_of_ten_immediate_ones_at_a_known_version_succeeds(self, cast, api, made):
        body = {"mode": "immediate", "version": 1}
        answers = calls.at_once(10, lambda _: api.post(path(made), body))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
        assert versions(made) == [1, 2]


class TestItself:
    def test_works_without_any_scope(self, cast, made):
        with builders.gains(cast.acme.id, "rotation.started") as gained:
            answer = Api(made.secret).post("/keys/rotate")
        assert answer.status_code == 201
        assert gained[0].actor == made.key.id
        assert Api(answer.json()["secret"]).get("/me").json()["secret_version"] == 2
        assert Api(made.secret).get("/me").json()["retiring"] is True

    def test_a_chain(self, made):
        secret = made.secret
        for version in (2, 3):
            secret = Api(secret).post("/keys/rotate", {"version": version - 1}).json()["secret"]
            past = timezone.now() - timedelta(seconds=1)
            as_superuser(
                "UPDATE keys_keysecret SET accepted_until = %s WHERE key_id = %s AND version < %s",
                past,
                made.key.id,
                version,
            )
            as_superuser("UPDATE keys_rotation SET grace_ends_at = %s WHERE key_id = %s", past, made.key.id)
        assert versions(made) == [1, 2, 3]

    def test_never_immediately(self, cast, made):
        with builders.gains(cast.acme.id):
            answer = Api(made.secret).post("/keys/rotate", {"mode": "immediate"})
        assert where(is_problem(answer, 422, "invalid_value")) == ["mode"]

    def test_with_its_newest_secret_alone(self, cast, made):
        key_builders.rotate(made.key, cast.acme, cast.alice)
        with builders.gains(cast.acme.id):
            is_problem(Api(made.secret).post("/keys/rotate"), 403, "self_rotation_refused")

    def test_where_it_is_allowed(self, cast):
        made = key_builders.create(cast.acme, cast.alice, may_rotate_itself=False)
        is_problem(Api(made.secret).post("/keys/rotate"), 403, "self_rotation_refused")

    def test_the_other_address_has_the_same_rules(self, cast):
        made = calls.key(cast.acme, cast.alice, may_rotate_itself=False)
        for answer in (
            Api(made.secret).post(path(made)),
            Api(made.secret).post("/keys/rotate", {"key_id": made.key.id}),
        ):
            is_problem(answer, 403, "self_rotation_refused")

    def test_not_for_ever_without_a_person(self, made):
        before = timezone.now() - timedelta(days=366)
        as_superuser("UPDATE keys_apikey SET person_touched_at = %s WHERE id = %s", before, made.key.id)
        is_problem(Api(made.secret).post("/keys/rotate"), 403, "self_rotation_refused")

    def test_not_by_a_child_that_a_key_made_for_itself_either(self, cast):
        parent = calls.key(cast.acme, cast.alice, rotation_interval_days=30)
        before = timezone.now() - timedelta(days=364)
        as_superuser("UPDATE keys_apikey SET person_touched_at = %s WHERE id = %s", before, parent.key.id)
        child = Api(parent.secret).post("/api-keys", calls.draft(rotation_interval_days=30)).json()
        touched = key_builders.read(child["key"]["id"], cast.acme).person_touched_at
        assert touched == before
        rotated = Api(child["secret"]).post("/keys/rotate").json()
        assert rotated["key"]["expires_at"] <= (before + timedelta(days=365)).isoformat().replace(
            "+00:00", "Z"
        )

    def test_another_one_needs_the_scope(self, cast, api, made):
        weak = calls.program(cast.acme, cast.alice, ["incidents:read"])
        for key_id in (made.key.id, "key_" + "a" * 20):
            answer = weak.post("/keys/rotate", {"key_id": key_id})
            is_problem(answer, 403, "insufficient_scope")
            assert 'scope="keys:rotate"' in answer["WWW-Authenticate"]
        answer = api.post("/keys/rotate", {"key_id": made.key.id})
        assert answer.json()["key"]["id"] == made.key.id

    @pytest.mark.parametrize("body", [{"key_id": 7}, {"key_id": "x" * 33}, {"mode": "later"}, {"id": "x"}])
    def test_what_is_refused(self, api, body):
        assert where(is_problem(api.post("/keys/rotate", body), 422, "invalid_value")) == list(body)
