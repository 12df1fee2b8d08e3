"""`POST /v1/keys/verify`: one answer with everything, and of what is not yours nothing."""

import pytest

from keys import secret
from keys.secret import Kind, Mode
from keys.services import Owner
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser, is_problem, where, without_id

UNKNOWN = {"valid", "code", "request_id"}
KNOWN = UNKNOWN | {
    "key",
    "organization",
    "plan",
    "project",
    "environment",
    "scopes",
    "missing_scopes",
    "entitlements",
    "rate_limit",
    "quota",
    "approval",
}


@pytest.fixture
def made(cast):
    return key_builders.create(
        cast.acme, cast.alice, tags={"team": "noc"}, scopes=["incidents:read", "incidents:write"]
    )


def ask(api, made, **more):
    answer = api.post("/keys/verify", {"secret": made.secret, **more})
    assert answer.status_code == 200, answer.content
    return answer.json()


class TestValid:
    def test_works(self, cast, api, made):
        with builders.gains(cast.acme.id):
            found = ask(api, made)
        assert set(found) == KNOWN
        assert (found["valid"], found["code"]) == (True, "VALID")
        key = found["key"]
        assert key.pop("expires_at").endswith("Z")
        assert key == {
            "id": made.key.id,
            "name": made.key.name,
            "kind": "control_plane",
            "expires_soon": False,
            "owner": {"type": "team", "name": "NOC"},
            "tags": {"team": "noc"},
            "secret_version": 1,
            "retiring": False,
            "accepted_until": None,
        }
        assert found["organization"] == {
            "id": cast.acme.id,
            "slug": cast.acme.slug,
            "name": "Acme",
        }
        assert found["plan"] == {"slug": "standard", "name": builders.plan().name}
        assert (found["project"], found["environment"]) == (builders.root(cast.acme).id, "production")
        assert found["scopes"] == ["incidents:read", "incidents:write"]
        assert (found["missing_scopes"], found["entitlements"]) == ([], {})
        assert (found["rate_limit"], found["quota"], found["approval"]) == (None, None, None)

    def test_the_answer_names_its_request(self, api, made):
        answer = api.post("/keys/verify", {"secret": made.secret}, X_Request_Id="r-1")
        assert (answer.json()["request_id"], answer["X-Request-Id"]) == ("r-1", "r-1")

    def test_a_members_key(self, cast, api):
        made = key_builders.create(cast.acme, cast.alice, owner=Owner(member=cast.bob))
        assert ask(api, made)["key"]["owner"] == {"type": "member", "id": cast.bob.id, "name": "Bob"}

    @pytest.mark.parametrize(
        "scopes",
        [
            ["incidents:read"],
            [],
            "incidents:read AND incidents:write",
            "admin:projects OR (incidents:read)",
            None,
        ],
    )
    def test_scopes(self, api, made, scopes):
        assert ask(api, made, scopes=scopes)["code"] == "VALID"

    @pytest.mark.parametrize("environment", ["production", "live"])
    def test_where(self, cast, api, made, environment):
        project = builders.root(cast.acme).id
        assert ask(api, made, environment=environment, project=project)["code"] == "VALID"

    def test_it_leaves_evidence_unless_it_costs_nothing(self, cast, api, made):
        assert ask(api, made, cost=0, ip="203.0.113.5")["code"] == "VALID"
        assert api.get(f"/api-keys/{made.key.id}").json()["last_used_at"] is None
        assert ask(api, made, cost=1_000_000, ip="203.0.113.5")["code"] == "VALID"
        assert api.get(f"/api-keys/{made.key.id}").json()["last_used_ip"] == "203.0.113.5"

    def test_everything_that_may_be_told(self, api, made):
        more = {
            "ip": "::ffff:203.0.113.5",
            "endpoint": "GET /v1/incidents",
            "region": "us-east-1",
            "user_agent": "curl/8",
            "request_id": "client-7",
            "trace": {"incident": "INC-7", "approval": "apr_x", "execution": None},
        }
        assert ask(api, made, **more)["code"] == "VALID"


class TestRefused:
    def test_missing_scopes(self, api, made):
        found = ask(api, made, scopes=["incidents:read", "admin:projects"])
        assert set(found) == KNOWN
        assert (found["valid"], found["code"]) == (False, "INSUFFICIENT_SCOPE")
        assert (found["missing_scopes"], found["scopes"]) == (["admin:projects"], [])

    def test_cut_away_by_the_owners_role(self, cast, api):
        made = key_builders.create(
            cast.acme, cast.alice, owner=Owner(member=cast.vera), scopes=["incidents:read", "incidents:write"]
        )
        found = ask(api, made, scopes=["incidents:write"])
        assert (found["code"], found["missing_scopes"]) == ("FORBIDDEN", ["incidents:write"])

    def test_elsewhere(self, cast, api, made):
        below = builders.project(builders.root(cast.acme))
        lower = key_builders.create(cast.acme, cast.alice, project=below)
        for key, more, code in (
            (made, {"environment": "test"}, "WRONG_ENVIRONMENT"),
            (made, {"environment": "nowhere"}, "WRONG_ENVIRONMENT"),
            (lower, {"project": builders.root(cast.acme).id}, "WRONG_PROJECT"),
            (made, {"project": builders.root(cast.elsewhere).id}, "WRONG_PROJECT"),
            (made, {"project": "prj_none"}, "WRONG_PROJECT"),
        ):
            assert ask(api, key, **more)["code"] == code
        assert ask(api, made, project=below.id)["code"] == "VALID"

    def test_its_addresses(self, cast, api):
        made = key_builders.create(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24", "2001:db8::/32"])
        codes = [
            ask(api, made, **({"ip": ip} if ip else {}))["code"] for ip in ("203.0.113.5", "2001:db8::1")
        ]
        assert codes == ["VALID", "VALID"]
        for ip in (None, "198.51.100.1", "2001:db9::1"):
            assert ask(api, made, ip=ip)["code"] == "IP_NOT_ALLOWED"

    def test_states(self, cast, api, made):
        address = f"/api-keys/{made.key.id}"
        strong = calls.program(cast.acme, cast.alice, [*calls.MANAGING, "incidents:write"])
        assert strong.patch(address, {"enabled": False}).status_code == 200
        assert ask(api, made)["code"] == "DISABLED"
        assert strong.patch(address, {"enabled": True}).status_code == 200
        as_superuser(
            "UPDATE keys_keysecret SET expires_at = now() - interval '1 s' WHERE key_id = %s", made.key.id
        )
        found = ask(api, made)
        assert (found["code"], found["key"]["expires_soon"]) == ("EXPIRED", True)
        assert strong.delete(address).status_code == 204
        assert ask(api, made)["code"] == "REVOKED"


class TestUnknown:
    @pytest.mark.parametrize(
        "text", ["", "x", "ks_cp_live_", "ks_cp_live_" + "0" * 49, "\x00", "🔑", "x" * 4096]
    )
    def test_malformed(self, api, text):
        answer = api.post("/keys/verify", {"secret": text})
        assert answer.json() == {"valid": False, "code": "MALFORMED", "request_id": answer["X-Request-Id"]}

    def test_not_found(self, api):
        text = secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)
        answer = api.post("/keys/verify", {"secret": text})
        assert answer.json() == {"valid": False, "code": "NOT_FOUND", "request_id": answer["X-Request-Id"]}

    def test_anothers_key_is_the_same_as_none(self, cast, api, stranger, made):
        """Whatever is asked, in the same bytes and headers; and the key's evidence stays untouched."""
        unknown = secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)
        for more in (
            {},
            {"scopes": ["nobody:has"]},
            {"environment": "test"},
            {"project": builders.root(cast.elsewhere).id},
            {"cost": 0},
        ):
            answers = [
                stranger.post("/keys/verify", {"secret": text, **more}) for text in (made.secret, unknown)
            ]
            assert answers[0].json()["code"] == "NOT_FOUND"
            assert without_id(answers[0]) == without_id(answers[1])
            assert set(answers[0].headers) == set(answers[1].headers)
        assert api.get(f"/api-keys/{made.key.id}").json()["last_used_at"] is None

    def test_a_revoked_one_of_anothers_too(self, cast, api, stranger, made):
        assert api.delete(f"/api-keys/{made.key.id}").status_code == 204
        assert ask(stranger, made)["code"] == "NOT_FOUND"


class TestRequest:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("secret", 7),
            ("secret", None),
            ("secret", "x" * 4097),
            ("secret", "\ud800"),
            ("scopes", 7),
            ("scopes", ["a:b"] * 65),
            ("scopes", ["no scope"]),
            ("scopes", ["\x00"]),
            ("scopes", ""),
            ("scopes", "a:b AND"),
            ("scopes", "a:b, c:d"),
            ("scopes", "(" * 21 + "a:b" + ")" * 21),
            ("scopes", "a:b OR " * 200 + "a:b"),
            ("environment", 1),
            ("environment", "x" * 64),
            ("environment", "\x00"),
            ("project", "\x00"),
            ("project", "x" * 33),
            ("entitlement", ""),
            ("entitlement", "x" * 64),
            ("entitlement", "\x00"),
            ("ip", "nowhere"),
            ("ip", "203.0.113.1/32"),
            ("ip", "fe80::1%eth0"),
            ("ip", 3405803777),
            ("endpoint", "x" * 257),
            ("endpoint", "é" * 129),
            ("user_agent", "x" * 257),
            ("user_agent", "\x00"),
            ("region", "x" * 65),
            ("region", "é" * 33),
            ("cost", -1),
            ("cost", 1_000_001),
            ("cost", "1"),
            ("cost", 1.0),
            ("cost", True),
            ("cost", None),
            ("request_id", "x" * 129),
            ("trace", []),
            ("trace", {"incident": "x" * 129}),
            ("trace", {"incident": "é" * 65}),
            ("trace", {"other": "x"}),
            ("verifier_organization_id", None),
        ],
    )
    def test_what_is_refused(self, api, made, name, value):
        answer = api.post("/keys/verify", {"secret": made.secret, name: value})
        problem = is_problem(answer, 422, "invalid_value")
        assert {location.partition(".")[0] for location in where(problem)} == {name}
        assert made.secret not in answer.content.decode()

    def test_the_secret_is_needed(self, api):
        assert where(is_problem(api.post("/keys/verify", {}), 422, "invalid_value")) == ["secret"]
        is_problem(api.post("/keys/verify"), 422, "invalid_value")

    def test_the_bounds_are_within(self, api, made):
        more = {"endpoint": "é" * 128, "region": "x" * 64, "user_agent": "x" * 256, "cost": 1_000_000}
        assert ask(api, made, **more)["code"] == "VALID"

    def test_idempotency_keys_mean_nothing_here(self, api, made):
        answers = [
            api.post("/keys/verify", {"secret": text}, Idempotency_Key="same") for text in (made.secret, "x")
        ]
        assert [answer.json()["code"] for answer in answers] == ["VALID", "MALFORMED"]

    def test_the_verifiers_own_fault_is_no_verdict(self, cast, made):
        is_problem(Api("x").post("/keys/verify", {"secret": made.secret}), 401, "invalid_token")


def test_an_ipv4_caller_behind_an_ipv6_socket_is_of_its_own_network(api, made):
    """Kept as it is written, every such caller would be of the one network `::/56`, and none of them news."""
    ask(api, made, ip="::ffff:203.0.113.9")
    assert api.get(f"/api-keys/{made.key.id}").json()["last_used_ip"] == "203.0.113.9"
