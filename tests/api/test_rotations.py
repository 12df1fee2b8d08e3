"""`/v1/rotations/{id}`: what a staged rotation shows, who may see and end it, and what that does to the secrets."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from audit import tenancy
from keys import usage as key_usage
from keys.models import ApiKey
from orgs.terms import RateLimit
from tests import builders, key_builders, usage_builders
from tests.api import calls
from tests.api.calls import Api, is_problem, where, without_id
from tests.api.test_rotation import FIELDS, code, path

TARGETS = ["us-east-1", "us-west-2", "eu-west-2"]
UNKNOWN = "rot_" + "a" * 20
EACH = [("GET", ""), ("POST", "/complete"), ("POST", "/cancel")]


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


class Running:
    """A staged rotation that a program began."""

    def __init__(self, api, made, **body):
        answer = api.post(path(made), {"mode": "staged", "targets": TARGETS, **body})
        assert answer.status_code == 201, answer.content
        self.answer = answer.json()
        self.id = self.answer["rotation"]["id"]
        self.path = f"/rotations/{self.id}"
        self.old, self.new = made.secret, self.answer["secret"]


@pytest.fixture
def running(api, made):
    return Running(api, made)


def use(api, secret, region, **more):
    answer = api.post("/keys/verify", {"secret": secret, "region": region, **more})
    assert answer.json()["code"] == "VALID"


class TestStaged:
    def test_it_begins(self, cast, api, made):
        with builders.gains(cast.acme.id, "rotation.started"):
            running = Running(api, made, quiet_seconds=60)
        rotation = running.answer["rotation"]
        assert set(rotation) == FIELDS
        assert (rotation["mode"], rotation["status"], rotation["overdue"]) == ("staged", "running", False)
        assert rotation["quiet_seconds"] == 60
        lasts = datetime.fromisoformat(rotation["deadline"]) - datetime.fromisoformat(rotation["started_at"])
        assert lasts == timedelta(days=7)
        assert rotation["grace_ends_at"] == running.answer["key"]["secrets"][1]["accepted_until"]
        assert rotation["targets"] == [
            {
                "name": name,
                "state": "waiting",
                "old_last_used_at": None,
                "new_last_used_at": None,
                "old_calls_1h": 0,
                "new_calls_1h": 0,
            }
            for name in TARGETS
        ]
        assert rotation["elsewhere"] == {"old_last_used_at": None, "old_calls_1h": 0}
        assert running.answer["key"]["rotation"] == rotation
        assert [code(api, secret) for secret in (running.old, running.new)] == ["VALID", "VALID"]

    def test_it_shows_who_moved(self, api, running):
        use(api, running.old, "us-east-1")
        use(api, running.new, "us-east-1")
        use(api, running.new, "us-west-2")
        use(api, running.old, "us-west-2", cost=0)
        use(api, running.old, "mars")
        for _ in range(2):
            found = api.get(running.path).json()
            targets = {target["name"]: target for target in found["targets"]}
            assert targets["us-east-1"]["state"] == targets["us-west-2"]["state"] == "moving"
            assert targets["eu-west-2"]["state"] == "waiting"
            assert (targets["us-east-1"]["old_calls_1h"], targets["us-east-1"]["new_calls_1h"]) == (1, 1)
            assert (targets["us-west-2"]["old_calls_1h"], targets["us-west-2"]["new_calls_1h"]) == (0, 1)
            assert targets["us-west-2"]["old_last_used_at"] is None
            assert found["elsewhere"]["old_calls_1h"] == 1
            usage_builders.rolled_up()

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "targets"),
            ({"targets": []}, "targets"),
            ({"targets": None}, "targets"),
            ({"targets": ["eu"] * 2}, "targets[1]"),
            ({"targets": [f"t{number}" for number in range(65)]}, "targets"),
            ({"targets": ["é" * 33]}, "targets[0]"),
            ({"targets": [""]}, "targets[0]"),
            ({"targets": [7]}, "targets[0]"),
            ({"targets": "eu"}, "targets"),
            ({"targets": ["eu"], "grace_seconds": 60}, "grace_seconds"),
            ({"targets": ["eu"], "quiet_seconds": 0}, "quiet_seconds"),
            ({"targets": ["eu"], "quiet_seconds": 86_401}, "quiet_seconds"),
            ({"targets": ["eu"], "quiet_seconds": "60"}, "quiet_seconds"),
            ({"targets": ["eu"], "deadline": "2020-01-01T00:00:00Z"}, "deadline"),
            ({"targets": ["eu"], "deadline": "2100-01-01T00:00:00Z"}, "deadline"),
            ({"targets": ["eu"], "deadline": 7}, "deadline"),
        ],
    )
    def test_what_is_refused(self, cast, api, made, body, field):
        with builders.gains(cast.acme.id):
            problem = is_problem(api.post(path(made), {"mode": "staged", **body}), 422, "invalid_value")
        assert where(problem) == [field]

    def test_a_secret_is_no_target(self, api, made):
        answer = api.post(path(made), {"mode": "staged", "targets": [made.secret]})
        assert where(is_problem(answer, 422, "invalid_value")) == ["targets[0]"]
        assert made.secret not in answer.content.decode()

    def test_a_second_one_is_told_of_the_first(self, api, made, running):
        for body in ({}, {"mode": "staged", "targets": ["eu"]}):
            problem = is_problem(api.post(path(made), body), 409, "rotation_running")
            assert problem["rotation"] == running.id

    def test_the_key_itself(self, cast, made):
        body = {"mode": "staged", "targets": ["eu"]}
        with builders.gains(cast.acme.id, "rotation.started") as gained:
            answer = Api(made.secret).post("/keys/rotate", body)
        assert answer.status_code == 201
        assert (gained[0].actor, answer.json()["rotation"]["mode"]) == (made.key.id, "staged")

    def test_another_by_the_other_address(self, api, made):
        body = {"key_id": made.key.id, "mode": "staged", "targets": ["eu"]}
        assert api.post("/keys/rotate", body).json()["rotation"]["mode"] == "staged"

    def test_the_same_again_for_its_idempotency_key(self, cast, api, made):
        body = {"mode": "staged", "targets": TARGETS}
        with builders.gains(cast.acme.id, "rotation.started"):
            first, again = (api.post(path(made), body, Idempotency_Key=made.key.id) for _ in range(2))
        assert again.json() == {**first.json(), "secret": None, "secret_status": "already_shown"}


class TestEnding:
    def test_complete(self, cast, api, running):
        with builders.gains(cast.acme.id, "rotation.completed") as gained:
            answer = api.post(f"{running.path}/complete")
        assert answer.status_code == 200
        found = answer.json()
        assert (found["status"], found["completed_at"] is None) == ("completed", False)
        assert [code(api, secret) for secret in (running.old, running.new)] == ["SECRET_RETIRED", "VALID"]
        assert api.get(running.path).json()["status"] == "completed"
        assert gained[0].data["how"] == "by_hand"

    def test_cancel(self, cast, api, made, running):
        with builders.gains(cast.acme.id, "rotation.cancelled"):
            answer = api.post(f"{running.path}/cancel", {})
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert [code(api, secret) for secret in (running.old, running.new)] == ["VALID", "SECRET_RETIRED"]
        key = api.get(f"/api-keys/{made.key.id}").json()
        assert ([secret["version"] for secret in key["secrets"]], key["rotation"]) == ([1], None)
        assert key["secrets"][0]["accepted_until"] is None
        told = api.post("/keys/verify", {"secret": running.old}).json()["key"]
        assert (told["secret_version"], told["retiring"], told["accepted_until"]) == (1, False, None)
        assert Running(api, made).answer["rotation"]["new_version"] == 3

    @pytest.mark.parametrize(("first", "second"), [("complete", "cancel"), ("cancel", "complete")])
    def test_only_once(self, cast, api, running, first, second):
        assert api.post(f"{running.path}/{first}").status_code == 200
        with builders.gains(cast.acme.id):
            for word in (first, second):
                is_problem(api.post(f"{running.path}/{word}"), 409, "rotation_ended")

    @pytest.mark.parametrize("word", ["complete", "cancel"])
    def test_the_same_answer_for_its_idempotency_key(self, cast, api, running, word):
        with builders.gains(cast.acme.id, f"rotation.{word}d".replace("canceld", "cancelled")):
            first, again = (api.post(f"{running.path}/{word}", Idempotency_Key=running.id) for _ in range(2))
        assert first.status_code == again.status_code == 200
        assert first.json() == again.json()

    @pytest.mark.parametrize("word", ["complete", "cancel"])
    def test_a_body_has_nothing_to_say(self, api, running, word):
        problem = is_problem(api.post(f"{running.path}/{word}", {"force": True}), 422, "invalid_value")
        assert where(problem) == ["force"]

    def test_a_grace_too(self, api, made):
        rotation = api.post(path(made)).json()["rotation"]
        assert api.post(f"/rotations/{rotation['id']}/complete").json()["status"] == "completed"
        assert code(api, made.secret) == "SECRET_RETIRED"

    def test_not_of_a_revoked_key(self, api, made, running):
        assert api.delete(f"/api-keys/{made.key.id}").status_code == 204
        assert api.get(running.path).json()["status"] == "superseded"
        for word in ("complete", "cancel"):
            is_problem(api.post(f"{running.path}/{word}"), 409, "rotation_ended")

    def test_of_complete_and_cancel_at_once_one_does(self, cast, api, made):
        running = Running(api, made)
        words = ("complete", "cancel")
        answers = calls.at_once(10, lambda n: api.post(f"{running.path}/{words[n % 2]}"))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
        codes = sorted(code(api, secret) for secret in (running.old, running.new))
        assert codes == ["SECRET_RETIRED", "VALID"]


class TestAccess:
    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_the_newest_secret_of_the_key_needs_no_scope(self, running, method, end):
        answer = Api(running.new).send(method, running.path + end)
        assert (answer.status_code, answer.json()["id"]) == (200, running.id)

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_an_old_secret_of_it_may_nothing(self, cast, running, method, end):
        with builders.gains(cast.acme.id):
            is_problem(Api(running.old).send(method, running.path + end), 403, "self_rotation_refused")

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_not_even_with_the_scope(self, cast, api, method, end):
        made = calls.key(cast.acme, cast.alice)
        running = Running(Api(made.secret), made)
        with builders.gains(cast.acme.id):
            is_problem(Api(running.old).send(method, running.path + end), 403, "self_rotation_refused")

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_a_stranger_gets_what_an_unknown_one_gets(self, cast, stranger, running, method, end):
        with builders.gains(cast.acme.id):
            theirs, nobodys = (
                stranger.send(method, f"/rotations/{id_}{end}") for id_ in (running.id, UNKNOWN)
            )
        is_problem(theirs, 404, "not_found")
        assert without_id(theirs) == without_id(nobodys)

    @pytest.mark.parametrize(("method", "end"), EACH)
    @pytest.mark.parametrize("id_", ["rot_x", "key_" + "a" * 20, "ROT_" + "A" * 20, "%00"])
    def test_what_is_no_id(self, api, method, end, id_):
        is_problem(api.send(method, f"/rotations/{id_}{end}"), 404, "not_found")

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_another_key_needs_the_scope(self, cast, running, method, end):
        weak = calls.program(cast.acme, cast.alice, ["keys:read", "incidents:read"])
        answers = [weak.send(method, f"/rotations/{id_}{end}") for id_ in (running.id, UNKNOWN)]
        for answer in answers:
            is_problem(answer, 403, "insufficient_scope")
        assert without_id(answers[0]) == without_id(answers[1])

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_and_must_reach_the_keys_project(self, cast, running, method, end):
        below = builders.project(builders.root(cast.acme))
        near = calls.program(cast.acme, cast.alice, project=below)
        is_problem(near.send(method, running.path + end), 404, "not_found")

    @pytest.mark.parametrize(("method", "end"), EACH)
    def test_nobody_without_a_key(self, running, method, end):
        answer = Api(None).send(method, running.path + end)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="keystead"')

    def test_the_wrong_method(self, api, running):
        assert api.post(running.path).status_code == 405
        assert api.get(f"{running.path}/complete").status_code == 405


class TestLimits:
    def test_an_overlap_doubles_nothing(self, cast, api):
        """The limit is the key's: both secrets draw on the same window."""
        made = key_builders.create(cast.acme, cast.alice, rate_limit=RateLimit(4, 86_400))
        running = Running(api, made)
        codes = [code(api, running.old if n % 2 else running.new) for n in range(6)]
        assert codes == ["VALID"] * 4 + ["RATE_LIMITED"] * 2
        assert api.post(f"{running.path}/cancel").status_code == 200
        assert code(api, running.old) == "RATE_LIMITED"

    def test_usage_is_the_keys(self, cast, api, made):
        running = Running(api, made)
        for secret in (running.old, running.new, running.new):
            use(api, secret, "us-east-1")
        with tenancy.within(cast.acme.id):
            key = ApiKey.objects.get(pk=made.key.id)
            assert key_usage.summary(key, timezone.now()).requests_current_period == 3
