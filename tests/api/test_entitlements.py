"""`POST /v1/entitlements/check` and the `entitlement` of a verification: what was bought, and by whom."""

import json

import pytest

from keys import secret
from keys.secret import Kind, Mode
from tests import builders, key_builders
from tests.api.calls import as_superuser, is_problem, program, rows

PATH = "/entitlements/check"


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def _bought(cast):
    """Acme has bought one thing, and a number of another; the third was taken away."""
    given = {"bulk_export": True, "seats": 25, "sso": False, "nothing": 0}
    as_superuser(
        "UPDATE orgs_organization SET overrides = %s WHERE id = %s",
        json.dumps({"entitlements": given}),
        cast.acme.id,
    )
    yield
    as_superuser("UPDATE orgs_organization SET overrides = '{}' WHERE id = %s", cast.acme.id)


def check(api, **asked):
    answer = api.post(PATH, asked)
    assert answer.status_code == 200, answer.content
    return answer.json()


@pytest.mark.usefixtures("_bought")
class TestCheck:
    @pytest.mark.parametrize(
        ("name", "allowed", "value"),
        [
            ("bulk_export", True, True),
            ("seats", True, 25),
            ("sso", False, False),
            ("nothing", False, 0),
            ("never_heard_of", False, None),
        ],
    )
    def test_by_id_and_by_secret(self, api, made, name, allowed, value):
        plan = {"slug": "standard", "name": builders.plan().name}
        wanted = {"allowed": allowed, "value": value, "plan": plan}
        assert check(api, key_id=made.key.id, entitlement=name) == wanted
        assert check(api, secret=made.secret, entitlement=name) == wanted

    def test_a_key_that_has_ended_may_nothing(self, api, made):
        assert api.delete(f"/api-keys/{made.key.id}").status_code == 204
        for who in ({"key_id": made.key.id}, {"secret": made.secret}):
            found = check(api, **who, entitlement="bulk_export")
            assert (found["allowed"], found["value"]) == (False, True)

    def test_a_retired_secret_may_nothing_while_its_key_may(self, cast, api, made):
        key_builders.rotate(made.key, cast.acme, cast.alice)
        as_superuser(
            "UPDATE keys_keysecret SET accepted_until = now() - interval '1 s' WHERE key_id = %s AND version = 1",
            made.key.id,
        )
        assert check(api, secret=made.secret, entitlement="seats")["allowed"] is False
        assert check(api, key_id=made.key.id, entitlement="seats")["allowed"] is True

    def test_it_leaves_no_trace(self, api, made):
        check(api, secret=made.secret, entitlement="seats")
        assert api.get(f"/api-keys/{made.key.id}").json()["last_used_at"] is None
        assert rows("SELECT 1 FROM keys_call WHERE key_id = %s", made.key.id) == []

    def test_anothers_key_is_the_same_as_none(self, stranger, made):
        unknown = secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)
        for asked in (
            {"key_id": made.key.id},
            {"key_id": "key_aaaaaaaaaaaaaaaaaaaa"},
            {"secret": made.secret},
            {"secret": unknown},
            {"secret": "x"},
        ):
            is_problem(stranger.post(PATH, {**asked, "entitlement": "seats"}), 404, "not_found")

    def test_the_scope_is_needed(self, cast, made):
        reader = program(cast.acme, cast.alice, ["keys:read"])
        is_problem(reader.post(PATH, {"key_id": made.key.id, "entitlement": "x"}), 403, "insufficient_scope")

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"entitlement": "x"},
            {"entitlement": "x", "key_id": "k", "secret": "s"},
            {"key_id": "k"},
            {"key_id": "k", "entitlement": ""},
            {"key_id": "k", "entitlement": 7},
        ],
    )
    def test_what_is_refused(self, api, asked):
        is_problem(api.post(PATH, asked), 422, "invalid_value")


@pytest.mark.usefixtures("_bought")
class TestInVerification:
    def test_it_is_in_every_answer(self, api, made):
        found = api.post("/keys/verify", {"secret": made.secret}).json()
        assert found["entitlements"] == {"bulk_export": True, "seats": 25, "sso": False, "nothing": 0}

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("bulk_export", "VALID"),
            ("seats", "VALID"),
            ("sso", "NOT_ENTITLED"),
            ("nothing", "NOT_ENTITLED"),
            ("never_heard_of", "NOT_ENTITLED"),
        ],
    )
    def test_it_may_be_demanded(self, api, made, name, code):
        found = api.post("/keys/verify", {"secret": made.secret, "entitlement": name}).json()
        assert (found["code"], found["valid"]) == (code, code == "VALID")

    def test_a_missing_scope_comes_first(self, api, made):
        asked = {"secret": made.secret, "entitlement": "sso", "scopes": ["admin:projects"]}
        assert api.post("/keys/verify", asked).json()["code"] == "INSUFFICIENT_SCOPE"
