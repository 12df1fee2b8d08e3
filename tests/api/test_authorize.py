"""`/v1/authorize`: what a proxy reads is the status and the headers."""

import json

import pytest

from keys import secret
from keys.secret import Kind, Mode
from keys.services import Owner
from tests import key_builders
from tests.api import calls
from tests.api.calls import Api, as_superuser

UNKNOWN = secret.generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice, scopes=["incidents:read", "incidents:write"])


def ask(api, client=None, query="", method="GET", **headers):
    """Ask as a proxy does, its key in Authorization."""
    given = {"X_Forwarded_Api_Key": client} if client is not None else {}
    return api.send(method, f"/authorize{query}", **given, **headers)


def code(answer):
    return answer.status_code, answer["X-Keystead-Code"]


class TestLetThrough:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_works(self, cast, api, made, method):
        answer = ask(api, made.secret, "?scopes=incidents:read", method)
        assert code(answer) == (204, "VALID")
        assert answer.content == b""
        assert answer["X-Keystead-Org"] == cast.acme.id
        assert answer["X-Keystead-Key"] == made.key.id
        assert answer["X-Keystead-Plan"] == "standard"
        assert answer["X-Keystead-Scopes"] == "incidents:read incidents:write"

    def test_a_client_may_send_it_after_bearer(self, api, made):
        assert code(ask(api, f"Bearer {made.secret}")) == (204, "VALID")

    @pytest.mark.parametrize("form", ["{}", "Bearer {}"])
    def test_the_verifier_in_a_header_of_its_own(self, api, made, form):
        client = Api(made.secret)
        answer = client.get("/authorize", X_Keystead_Verifier=form.format(api.secret))
        assert code(answer) == (204, "VALID")

    @pytest.mark.parametrize(
        "query",
        [
            "?scopes=incidents:read&scopes=incidents:write",
            "?scopes=incidents:read,incidents:write",
            "?scopes=incidents:read%20AND%20(admin:projects%20OR%20incidents:write)",
            "?environment=production&cost=3&region=eu-1",
            "?scopes=",
        ],
    )
    def test_what_may_be_asked(self, api, made, query):
        assert code(ask(api, made.secret, query)) == (204, "VALID")

    def test_it_is_recorded_as_the_proxy_tells_it(self, api, made):
        ask(
            api,
            made.secret,
            "?region=eu-1&cost=5",
            X_Forwarded_For="203.0.113.9",
            X_Forwarded_Method="PUT",
            X_Forwarded_Uri="/v1/incidents/7?secret=not-kept",
            User_Agent="curl/8",
            X_Request_Id="trace-9",
        )
        rows = calls.rows(
            "SELECT endpoint, region, host(ip), user_agent, request_id, cost FROM keys_call WHERE key_id = %s",
            made.key.id,
        )
        assert rows == [("PUT /v1/incidents/7", "eu-1", "203.0.113.9", "curl/8", "trace-9", 5)]

    def test_the_proxys_word_on_the_address_counts(self, cast, api):
        bound = key_builders.create(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
        for forwarded, wanted in (
            ("203.0.113.9", (204, "VALID")),
            ("198.51.100.1, 203.0.113.9", (204, "VALID")),
            ("203.0.113.9, 198.51.100.1", (403, "IP_NOT_ALLOWED")),
            ("nonsense", (403, "IP_NOT_ALLOWED")),
        ):
            found = ask(api, bound.secret, X_Forwarded_For=forwarded)
            assert code(found) == wanted, forwarded
        assert code(ask(api, bound.secret)) == (403, "IP_NOT_ALLOWED")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            pytest.param(UNKNOWN, "NOT_FOUND", id="of nobody"),
            pytest.param("x", "MALFORMED", id="no secret"),
            pytest.param("", "MALFORMED", id="empty"),
        ],
    )
    def test_unknown(self, api, text, wanted):
        answer = ask(api, text)
        assert code(answer) == (401, wanted)
        assert answer["WWW-Authenticate"].startswith("Bearer ")
        assert "X-Keystead-Org" not in answer

    def test_no_key_at_all(self, api):
        assert code(ask(api)) == (401, "MALFORMED")
        assert code(Api(None).get("/authorize", X_Keystead_Verifier=api.secret)) == (401, "MALFORMED")

    def test_anothers_key_is_unknown(self, stranger, made):
        assert code(ask(stranger, made.secret)) == (401, "NOT_FOUND")

    def test_ended(self, api, made):
        assert api.delete(f"/api-keys/{made.key.id}").status_code in (204, 403)
        as_superuser("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", made.key.id)
        status, found = code(ask(api, made.secret))
        assert (status, found) in ((401, "REVOKED"), (401, "DISABLED"))

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("?scopes=admin:projects", "INSUFFICIENT_SCOPE"),
            ("?environment=test", "WRONG_ENVIRONMENT"),
            ("?project=prj_none", "WRONG_PROJECT"),
            ("?entitlement=bulk_export", "NOT_ENTITLED"),
        ],
    )
    def test_403_for_the_rest(self, api, made, query, wanted):
        answer = ask(api, made.secret, query)
        assert code(answer) == (403, wanted)
        assert "X-Keystead-Scopes" not in answer

    def test_forbidden_by_the_owners_role(self, cast, api):
        owned = key_builders.create(
            cast.acme, cast.alice, owner=Owner(member=cast.vera), scopes=["incidents:read", "incidents:write"]
        )
        assert code(ask(api, owned.secret, "?scopes=incidents:write")) == (403, "FORBIDDEN")

    def test_limits(self, cast, api, made):
        as_superuser(
            "UPDATE keys_apikey SET rate_limit_requests = 2, rate_limit_window_seconds = 3600 WHERE id = %s",
            made.key.id,
        )
        for left in (1, 0):
            answer = ask(api, made.secret)
            assert code(answer) == (204, "VALID")
            assert answer["RateLimit-Policy"] == '"per-key";q=2;w=3600'
            assert answer["RateLimit"].startswith(f'"per-key";r={left};t=')
        answer = ask(api, made.secret)
        assert code(answer) == (429, "RATE_LIMITED")
        assert 1 <= int(answer["Retry-After"]) <= 7200

    def test_quotas(self, cast, stranger):
        other = key_builders.create(cast.elsewhere, cast.mallory)
        as_superuser(
            "UPDATE orgs_organization SET overrides = %s WHERE id = %s",
            json.dumps({"monthly_quota": 1}),
            cast.elsewhere.id,
        )
        assert [code(ask(stranger, other.secret)) for _ in range(2)] == [
            (204, "VALID"),
            (429, "QUOTA_EXCEEDED"),
        ]
        as_superuser("UPDATE orgs_organization SET overrides = '{}' WHERE id = %s", cast.elsewhere.id)


class TestTheProxysOwnFault:
    """502 whatever the client sends, which proxies turn into a closed door."""

    def test_no_verifier(self, made):
        assert code(ask(Api(None), made.secret)) == (502, "VERIFIER_REFUSED")

    def test_one_that_is_not_valid(self, made):
        assert code(ask(Api(UNKNOWN), made.secret)) == (502, "VERIFIER_REFUSED")
        assert code(ask(Api("x"), made.secret)) == (502, "VERIFIER_REFUSED")

    def test_one_that_may_not_verify(self, cast, made):
        reader = calls.program(cast.acme, cast.alice, ["keys:read"])
        assert code(ask(reader, made.secret)) == (502, "VERIFIER_REFUSED")

    def test_one_from_an_address_that_is_not_its_own(self, cast, made):
        bound = calls.key(cast.acme, cast.alice, ["keys:verify"], allowed_ips=["192.0.2.0/24"])
        answer = ask(Api(bound.secret), made.secret, X_Forwarded_For="192.0.2.7")
        assert code(answer) == (502, "VERIFIER_REFUSED")

    @pytest.mark.parametrize(
        "query",
        [
            "?scope=incidents:read",
            "?scopes=no",
            "?scopes=a:b%20AND",
            "?cost=-1",
            "?cost=x",
            "?cost=1000001",
            "?environment=a&environment=b",
            "?project=" + "x" * 33,
            "?region=" + "x" * 65,
            "?environment=%00",
            "?api_key=x",
        ],
    )
    def test_a_question_that_nobody_can_answer(self, api, made, query):
        assert code(ask(api, made.secret, query)) == (502, "REQUEST_INVALID")

    def test_a_client_that_brings_a_verifier_of_its_own(self, cast, api, made):
        """Its own verifier's key beside the proxy's must not turn the proxy's into the key that is asked about."""
        own = calls.key(cast.acme, cast.alice, ["keys:verify"])
        answer = ask(api, "x", X_Keystead_Verifier=own.secret)
        assert code(answer) == (502, "REQUEST_INVALID")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
def test_wrong_method(api, method):
    answer = api.send(method, "/authorize")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, POST")
