"""Auto-rotation over the API: asked for with an interval, its sealed secret handed out once and to the right caller."""

from base64 import b64decode
from datetime import timedelta

import pytest

from audit import services as audit_services
from audit import tenancy
from audit.webhooks import guard
from keys import clock
from keys.services.auto_rotation import rotate_when_due
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, is_problem
from tests.clocks import later


@pytest.fixture
def receiver(cast):
    return key_builders.recipient(cast.acme, cast.alice)


class Turned:
    """A key that rotated by itself some moments ago."""

    def __init__(self, cast, **fields):
        self.made = key_builders.create(
            cast.acme, cast.alice, rotation_interval_days=1, auto_rotate=True, **fields
        )
        with later(hours=12.1):
            self.rotation = rotate_when_due(cast.acme.id, self.made.key.id)
        self.path = f"/rotations/{self.rotation.id}"


@pytest.fixture
def turned(cast, receiver):
    return Turned(cast)


def create(api, **changes):
    return api.post("/api-keys", calls.draft(**changes))


class TestAsking:
    def test_with_an_interval(self, cast, api):
        with builders.gains(cast.acme.id, "key.created") as gained:
            key = create(api, auto_rotate=True, rotation_interval_days=30).json()["key"]
        assert (key["auto_rotate"], key["rotation_interval_days"]) == (True, 30)
        assert gained[0].data["after"]["auto_rotate"] is True

    def test_without_one_it_is_refused(self, api):
        answer = create(api, auto_rotate=True)
        assert is_problem(answer, 422, "invalid_value")["errors"][0]["location"] == "auto_rotate"

    @pytest.mark.parametrize("value", ["yes", 1, None])
    def test_it_is_true_or_false(self, api, value):
        assert create(api, auto_rotate=value, rotation_interval_days=30).status_code == 422

    def test_it_can_be_changed(self, cast, api):
        key = create(api, rotation_interval_days=30).json()["key"]
        path = f"/api-keys/{key['id']}"
        with builders.gains(cast.acme.id, "key.changed") as gained:
            assert api.send("PATCH", path, {"auto_rotate": True}).json()["auto_rotate"] is True
        assert gained[0].data["after"] == {"auto_rotate": True}
        refused = is_problem(api.send("PATCH", path, {"rotation_interval_days": None}), 422, "invalid_value")
        assert refused["errors"][0]["location"] == "rotation_interval_days"
        both = {"auto_rotate": False, "rotation_interval_days": None}
        assert api.send("PATCH", path, both).json()["auto_rotate"] is False
        assert is_problem(api.send("PATCH", path, {"auto_rotate": True}), 422, "invalid_value")

    def test_switching_it_on_needs_what_rotating_needs(self, cast, api):
        key = key_builders.create(
            cast.acme, cast.alice, scopes=["incidents:*"], rotation_interval_days=30, auto_rotate=False
        ).key
        poor = calls.key(cast.acme, cast.alice, scopes=["keys:write"])
        answer = Api(poor.secret).send("PATCH", f"/api-keys/{key.id}", {"auto_rotate": True})
        is_problem(answer, 403, "exceeds_grant")


class TestFetching:
    def test_it_is_handed_out_once_and_opens_to_a_valid_secret(self, cast, api, turned, receiver):
        with later(hours=12.2):
            found = api.get(turned.path).json()
        sealed = found["sealed_secret"]
        assert sealed["recipient"] == receiver.recipient.id
        text = receiver.open(b64decode(sealed["ciphertext"]), found["id"])
        answer = api.post("/keys/verify", {"secret": text})
        assert (answer.json()["code"], answer.json()["key"]["id"]) == ("VALID", turned.made.key.id)
        assert (found["started_by"], found["mode"], found["status"]) == ("sys_worker", "grace", "running")
        with later(hours=12.3):
            assert api.get(turned.path).json()["sealed_secret"] is None

    def test_it_is_in_no_other_answer(self, api, turned):
        with later(hours=12.2):
            key = api.get(f"/api-keys/{turned.made.key.id}").json()
            assert key["rotation"]["sealed_secret"] is None
            assert api.get(turned.path).json()["sealed_secret"] is not None

    def test_the_key_itself_never_takes_it(self, cast, api, receiver):
        turned = Turned(cast, scopes=["incidents:read", "keys:rotate"])
        with later(hours=12.2):
            assert Api(turned.made.secret).get(turned.path).status_code == 403
            sealed = api.get(turned.path).json()["sealed_secret"]
            assert receiver.open(b64decode(sealed["ciphertext"]), turned.rotation.id)
            itself = Turned(cast, scopes=["incidents:read", "keys:rotate"])
            ciphertext = bytes(itself.rotation.sealed_secret)
            newest = Api(receiver.open(ciphertext, itself.rotation.id))
            assert newest.get(itself.path).json()["sealed_secret"] is None
            assert api.get(itself.path).json()["sealed_secret"] is not None

    def test_neither_does_who_has_not_the_scope_nor_a_stranger(self, cast, api, turned, stranger):
        poor = calls.key(cast.acme, cast.alice, scopes=["keys:read"])
        with later(hours=12.2):
            assert Api(poor.secret).get(turned.path).status_code == 403
            assert Api(turned.made.secret).get(turned.path).status_code == 403
            assert stranger.get(turned.path).status_code == 404
            assert api.get(turned.path).json()["sealed_secret"] is not None

    def test_of_many_at_once_one_gets_it(self, api, turned):
        with later(hours=12.2):
            found = calls.at_once(6, lambda _: api.get(turned.path).json()["sealed_secret"])
        assert len([one for one in found if one]) == 1

    def test_nobody_takes_it_from_a_webhook_that_has_yet_to_carry_it(self, cast, stranger, monkeypatch):
        monkeypatch.setattr(guard, "resolver", lambda _host, _port: ["8.8.8.8"])
        where = cast.elsewhere
        receiver = key_builders.recipient(where, cast.mallory)
        made = key_builders.create(where, cast.mallory, rotation_interval_days=1, auto_rotate=True)
        with tenancy.within(where.id):
            actor = builders.member(cast.mallory, where)
            hook = audit_services.create_endpoint(
                where.id, "https://hook.example/", ["*"], actor=actor
            ).endpoint
        with later(hours=12.1):
            rotation = rotate_when_due(where.id, made.key.id)
        with later(hours=12.2):
            found = [stranger.get(f"/rotations/{rotation.id}").json()["sealed_secret"] for _ in range(2)]
            assert receiver.open(b64decode(found[0]["ciphertext"]), rotation.id)
            assert found[0] == found[1]
            with tenancy.within(where.id):
                audit_services.remove_endpoint(hook, actor=actor)
            assert stranger.get(f"/rotations/{rotation.id}").json()["sealed_secret"] == found[0]
            assert stranger.get(f"/rotations/{rotation.id}").json()["sealed_secret"] is None

    def test_completing_lets_go_of_it(self, api, turned):
        with later(hours=12.2):
            assert api.post(f"{turned.path}/complete").json()["sealed_secret"] is None
            assert api.get(turned.path).json()["sealed_secret"] is None


class TestTheHeader:
    NAME = "Keystead-Key-Expires"

    @pytest.fixture
    def soon(self):
        return clock.now() + timedelta(days=6)

    def text(self, at):
        return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def test_on_every_answer_to_a_key(self, cast, soon):
        made = calls.key(cast.acme, cast.alice, scopes=["keys:verify", "keys:read"], expires=soon)
        caller = Api(made.secret)
        answers = [
            caller.get("/me"),
            caller.get("/api-keys"),
            caller.get("/api-keys/none"),
            caller.post("/api-keys", calls.draft()),
            caller.post("/api-keys", {}),
            caller.get("/me?nonsense=1"),
            caller.post("/keys/verify", {"secret": "nonsense"}),
            caller.post("/keys/verify", {"secret": made.secret}),
            caller.post("/entitlements/check", {"secret": made.secret, "entitlement": "x"}),
            caller.post("/usage", {"batch": builders.unique("b"), "calls": [_use(made.key)]}),
            caller.get("/rotations/none"),
        ]
        assert [answer.headers.get(self.NAME) for answer in answers] == [self.text(soon)] * len(answers)

    def test_of_a_secret_that_retires_it_is_its_own_end(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice, grace_seconds=3_600)
        assert Api(made.secret).get("/me")[self.NAME] == self.text(rotated.rotation.grace_ends_at)
        assert self.NAME not in Api(rotated.secret).get("/me")

    def test_when_it_has_made_too_many_calls(self, cast, soon):
        made = calls.key(cast.acme, cast.alice, expires=soon)
        calls.as_superuser(
            "UPDATE keys_apikey SET rate_limit_requests = 1, rate_limit_window_seconds = 86400 WHERE id = %s",
            made.key.id,
        )
        answers = [Api(made.secret).get("/me") for _ in range(3)]
        assert answers[-1].status_code == 429
        assert [answer.headers.get(self.NAME) for answer in answers] == [self.text(soon)] * 3

    def test_of_the_clients_key_on_authorize(self, cast, api, soon):
        client = key_builders.create(cast.acme, cast.alice, expires=soon)
        far = key_builders.create(cast.acme, cast.alice)
        answer = api.get("/authorize", X_Forwarded_Api_Key=client.secret)
        assert (answer.status_code, answer[self.NAME]) == (204, self.text(soon))
        assert self.NAME not in api.get("/authorize", X_Forwarded_Api_Key=far.secret)

    def test_at_seven_days_and_not_before(self, cast):
        inside = calls.key(cast.acme, cast.alice, expires=clock.now() + timedelta(days=7))
        outside = calls.key(cast.acme, cast.alice, expires=clock.now() + timedelta(days=7, minutes=5))
        assert self.NAME in Api(inside.secret).get("/me")
        assert self.NAME not in Api(outside.secret).get("/me")

    def test_a_key_that_has_ended_learns_nothing(self, cast, soon):
        made = calls.key(cast.acme, cast.alice, expires=soon)
        calls.as_superuser("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", made.key.id)
        assert self.NAME not in Api(made.secret).get("/me")


def _use(key):
    return {
        "key": key.id,
        "secret_version": 1,
        "at": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "calls": 1,
        "cost": 1,
    }
