"""Who may call: a valid key in the Authorization header, and nothing else (RFC 6750)."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import secret
from keys.secret import Kind, Mode
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser, is_problem

PATHS = (
    ("POST", "/api-keys"),
    ("GET", "/api-keys"),
    ("GET", "/api-keys/key_aaaaaaaaaaaaaaaaaaaa"),
    ("PATCH", "/api-keys/key_aaaaaaaaaaaaaaaaaaaa"),
    ("DELETE", "/api-keys/key_aaaaaaaaaaaaaaaaaaaa"),
    ("POST", "/api-keys/key_aaaaaaaaaaaaaaaaaaaa/revoke"),
    ("POST", "/api-keys/key_aaaaaaaaaaaaaaaaaaaa/rotate"),
    ("POST", "/keys/rotate"),
    ("POST", "/keys/verify"),
    ("GET", "/projects"),
    ("GET", "/environments"),
    ("GET", "/scopes"),
    ("GET", "/me"),
)
every_operation = pytest.mark.parametrize(("method", "path"), PATHS)
BARE = 'Bearer realm="keystead"'
INVALID = f'{BARE}, error="invalid_token"'


def refused(api, path="/me"):
    answer = api.get(path)
    is_problem(answer, 401, "invalid_token")
    assert answer["WWW-Authenticate"] == INVALID


class TestWithoutAKey:
    @every_operation
    def test_no_credential_is_401_without_an_error_code(self, cast, method, path):
        answer = Api(None).send(method, path)
        is_problem(answer, 401, "unauthenticated")
        assert answer["WWW-Authenticate"] == BARE

    def test_another_scheme_is_no_credential(self, cast):
        answer = Api(None).get("/me", Authorization="Basic YTpi")
        is_problem(answer, 401, "unauthenticated")
        assert answer["WWW-Authenticate"] == BARE

    @every_operation
    def test_a_session_never_authenticates_and_is_never_read(self, cast, method, path):
        client = builders.signed_in(cast.alice)
        client.raise_request_exception = False
        with CaptureQueriesContext(connection) as queries:
            answer = Api(None, client=client).send(method, path)
        is_problem(answer, 401, "unauthenticated")
        assert "Cookie" not in answer.get("Vary", "")
        assert not answer.cookies
        assert not [query for query in queries if "session" in query["sql"]]

    def test_a_session_adds_nothing_to_a_key(self, cast):
        client = builders.signed_in(cast.alice)
        weak = calls.key(cast.acme, cast.alice, ["incidents:read"]).secret
        is_problem(Api(weak, client=client).get("/api-keys"), 403, "insufficient_scope")

    def test_unknown_paths_are_problems_too(self, cast):
        is_problem(Api(None).get("/nothing/here"), 404, "not_found")


class TestBadKeys:
    @pytest.mark.parametrize("text", ["x", "ks_cp_live_x", "ks_cp_live_" + "0" * 49, "a b", "", "é", "\x00"])
    def test_what_is_no_key(self, cast, text):
        answer = Api(None).get("/me", Authorization=f"Bearer {text}")
        is_problem(answer, 401, "invalid_token")
        assert answer["WWW-Authenticate"] == INVALID

    def test_an_unknown_key(self, cast):
        refused(Api(secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)))

    def test_a_revoked_key(self, cast):
        made = calls.key(cast.acme, cast.alice)
        assert Api(made.secret).delete(f"/api-keys/{made.key.id}").status_code == 204
        refused(Api(made.secret))

    def test_an_expired_key(self, cast):
        made = calls.key(cast.acme, cast.alice)
        past = timezone.now() - timedelta(seconds=1)
        as_superuser("UPDATE keys_keysecret SET expires_at = %s WHERE key_id = %s", past, made.key.id)
        refused(Api(made.secret))

    def test_a_disabled_key(self, cast, api):
        made = calls.key(cast.acme, cast.alice)
        assert api.patch(f"/api-keys/{made.key.id}", {"enabled": False}).status_code == 200
        refused(Api(made.secret))
        assert api.patch(f"/api-keys/{made.key.id}", {"enabled": True}).status_code == 200
        assert Api(made.secret).get("/me").status_code == 200

    def test_a_retired_secret(self, cast):
        made = calls.key(cast.acme, cast.alice)
        key_builders.rotate(made.key, cast.acme, cast.alice)
        past = timezone.now() - timedelta(seconds=1)
        as_superuser(
            "UPDATE keys_keysecret SET accepted_until = %s WHERE key_id = %s AND version = 1",
            past,
            made.key.id,
        )
        refused(Api(made.secret))

    def test_a_suspended_organization(self, django_db_setup):
        owner = builders.person("Olga")
        where = builders.organization("Late", owner=owner)
        api = calls.program(where, owner)
        assert api.get("/me").status_code == 200
        as_superuser("UPDATE orgs_organization SET suspended_at = now() WHERE id = %s", where.id)
        refused(api)

    def test_its_own_addresses_hold(self, cast):
        made = calls.key(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
        assert Api(made.secret, address="203.0.113.9").get("/me").status_code == 200
        refused(Api(made.secret, address="198.51.100.9"))

    def test_a_forwarded_address_of_nobody_trusted_does_not_count(self, cast):
        made = calls.key(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
        answer = Api(made.secret, address="198.51.100.9").get("/me", X_Forwarded_For="203.0.113.9")
        is_problem(answer, 401, "invalid_token")


class TestTwoWaysAtOnce:
    @pytest.mark.parametrize(
        "header",
        ["Bearer {0}, Bearer {0}", "Basic YTpi, Bearer {0}", "Bearer {0}, Basic YTpi", "bearer {0},"],
    )
    def test_twice_in_the_header(self, api, header):
        answer = api.get("/me", Authorization=header.format(api.secret))
        is_problem(answer, 400, "invalid_request")

    @pytest.mark.parametrize(
        "name", ["access_token", "api_key", "apikey", "key", "token", "secret", "API_KEY"]
    )
    @pytest.mark.parametrize("value", ["", "x"])
    def test_a_parameter_for_keys(self, api, name, value):
        is_problem(api.get(f"/me?{name}={value}"), 400, "invalid_request")
        is_problem(Api(None).get(f"/me?{name}={value}"), 400, "invalid_request")

    @pytest.mark.parametrize("query", ["q={0}", "limit=1&x={0}", "{0}=1", "q=x{0}y", "q=%20{0}"])
    def test_what_looks_like_a_key_in_any_parameter(self, api, query):
        answer = api.get("/api-keys?" + query.format(api.secret))
        is_problem(answer, 400, "invalid_request")
        assert api.secret not in answer.content.decode()


class TestScopes:
    NEEDED = (
        ("POST", "/api-keys", "keys:write"),
        ("GET", "/api-keys", "keys:read"),
        ("GET", "/api-keys/{}", "keys:read"),
        ("PATCH", "/api-keys/{}", "keys:write"),
        ("DELETE", "/api-keys/{}", "keys:revoke"),
        ("POST", "/api-keys/{}/revoke", "keys:revoke"),
        ("POST", "/api-keys/{}/rotate", "keys:rotate"),
        ("POST", "/keys/verify", "keys:verify"),
    )

    @pytest.mark.parametrize(("method", "path", "scope"), NEEDED)
    def test_each_operation_needs_its_own(self, cast, method, path, scope):
        others = [name for name in calls.MANAGING if name != scope]
        made = calls.key(cast.acme, cast.alice, others)
        answer = Api(made.secret).send(method, path.format(made.key.id))
        is_problem(answer, 403, "insufficient_scope")
        assert answer["WWW-Authenticate"] == f'{BARE}, error="insufficient_scope", scope="{scope}"'

    @pytest.mark.parametrize("path", ["/projects", "/environments", "/scopes", "/me"])
    def test_some_need_none(self, cast, path):
        ingestion = calls.program(cast.acme, cast.alice, ["ingest:write"], kind=Kind.INGESTION)
        assert ingestion.get(path).status_code == 200

    def test_what_the_owners_role_cuts_away_does_not_count(self, cast):
        owned = calls.key(cast.acme, cast.alice, ["keys:read", "keys:write"], owner=owner(cast.vera))
        api = Api(owned.secret)
        assert api.get("/api-keys?limit=1").status_code == 200
        is_problem(api.post("/api-keys", calls.draft()), 403, "insufficient_scope")

    def test_what_a_project_cuts_away_does_not_count(self, cast):
        made = calls.key(
            cast.acme, cast.alice, ["keys:read"], project=builders.project(builders.root(cast.acme))
        )
        as_superuser("UPDATE orgs_project SET scopes = %s WHERE id = %s", ["keys:write"], made.key.project_id)
        is_problem(Api(made.secret).get("/api-keys"), 403, "insufficient_scope")


class TestHeaders:
    def test_a_sane_request_id_comes_back(self, api):
        assert api.get("/me", X_Request_Id="trace-7")["X-Request-Id"] == "trace-7"

    def test_another_one_does_not(self, api):
        assert api.get("/me", X_Request_Id="a\tb")["X-Request-Id"].startswith("req_")

    def test_nothing_is_stored(self, api):
        for answer in (api.get("/me"), api.post("/api-keys", calls.draft()), api.get("/none")):
            assert answer["Cache-Control"] == "no-store"

    def test_the_coming_expiry(self, cast):
        soon = timezone.now() + timedelta(days=6)
        made = calls.key(cast.acme, cast.alice, expires=soon)
        for answer in (Api(made.secret).get("/me"), Api(made.secret).get("/api-keys/none")):
            assert answer["Keystead-Key-Expires"] == soon.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def test_a_far_expiry_is_not_told(self, cast, api):
        assert "Keystead-Key-Expires" not in api.get("/me")
        assert "Keystead-Key-Expires" not in Api(None).get("/me")

    @every_operation
    def test_a_wrong_method(self, api, method, path):
        answer = api.send("PUT", path)
        is_problem(answer, 405, "method_not_allowed")
        assert method in answer["Allow"]


def owner(user):
    from keys.services import Owner

    return Owner(member=user)
