"""Forward-auth by a real nginx with the file that we ship: who gets through, what gets through, and closed doors."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from keys.secret import CHECK_LENGTH, check
from keys.services import Created
from orgs.terms import MAX_WINDOW_SECONDS, RateLimit
from tests import builders, cluster, key_builders
from tests.e2e import serving
from tests.gateway import nginx
from tests.gateway.nginx import Gateway

PATH = "/incidents"
FORGED = {
    "X-Keystead-Org": "org_forged",
    "X-Keystead-Key": "key_forged",
    "X-Keystead-Plan": "forged",
    "X-Keystead-Scopes": "admin:projects",
    "X-Keystead-Code": "FORGED",
}


@dataclass(frozen=True)
class Scene:
    """A gateway, the product's address behind it, and keys of one organization."""

    gateway: Gateway
    product: str
    verifier: Created
    reader: Created
    writer: Created
    elsewhere: Created
    cast: builders.Cast

    def reached(self) -> int:
        """Return how many requests the API has seen."""
        return len(self.gateway.reached())


@pytest.fixture(scope="module")
def scene(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[Scene]:
    with django_db_blocker.unblock():
        cast = builders.cast()
        keys = {
            "verifier": key_builders.create(cast.acme, cast.alice, scopes=["keys:verify"]),
            "reader": key_builders.create(cast.acme, cast.alice, scopes=["incidents:read"]),
            "writer": key_builders.create(cast.acme, cast.alice, scopes=["incidents:write"]),
            "elsewhere": key_builders.create(cast.elsewhere, cast.mallory, scopes=["incidents:read"]),
        }
    folder = tmp_path_factory.mktemp("gateway")
    environment = cluster._environment(cluster.database())
    with (
        serving.serve(environment, folder) as product,
        nginx.gateway(folder / "nginx", product.url, keys["verifier"].secret) as gateway,
    ):
        yield Scene(gateway, product.url, cast=cast, **keys)


class TestWhoGetsThrough:
    def test_a_valid_key(self, scene):
        answer = scene.gateway.get(key=scene.reader.secret)
        assert (answer.status, answer.body) == (200, b"all quiet\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_a_body_goes_to_the_api_alone(self, scene, method):
        headers = {"Authorization": f"Bearer {scene.reader.secret}"}
        answer = scene.gateway.send(method, PATH, headers, b"x" * 100_000)
        # The API, which serves a file, says so; the question without the body was answered.
        assert answer.status == 405

    def test_without_a_key(self, scene):
        answer = scene.gateway.get()
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")

    def test_an_unknown_key(self, scene):
        assert scene.gateway.get(key=_unknown(scene.reader.secret)).status == 401

    def test_a_key_of_another_organization(self, scene):
        assert scene.gateway.get(key=scene.elsewhere.secret).status == 401

    def test_a_key_without_the_scope(self, scene):
        assert scene.gateway.get(key=scene.writer.secret).status == 403

    def test_the_verifiers_own_key_is_no_clients(self, scene):
        assert scene.gateway.get(key=scene.verifier.secret).status == 403

    def test_none_of_them_reaches_the_api(self, scene):
        before = scene.reached()
        for key in (None, "", "nonsense", _unknown(scene.reader.secret), scene.writer.secret):
            assert scene.gateway.get(key=key).status in (401, 403)
        assert scene.reached() == before

    def test_beyond_its_limit(self, scene):
        limited = key_builders.create(
            scene.cast.acme, scene.cast.alice, rate_limit=RateLimit(3, MAX_WINDOW_SECONDS)
        )
        before = scene.reached()
        answers = [scene.gateway.get(key=limited.secret) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert scene.reached() == before + 3
        assert answers[0].headers["ratelimit"].startswith('"per-key";r=2;')
        refused = answers[-1].headers
        assert refused["x-keystead-code"] == "RATE_LIMITED"
        assert int(refused["retry-after"]) > 0
        assert refused["ratelimit-policy"] == f'"per-key";q=3;w={MAX_WINDOW_SECONDS}'

    def test_the_question_itself_is_not_open_to_clients(self, scene):
        answer = scene.gateway.get("/_keystead", key=scene.reader.secret)
        assert answer.status == 404
        assert "x-keystead-key" not in answer.headers


class TestWhatGetsThrough:
    def test_who_it_is(self, scene):
        scene.gateway.get(key=scene.reader.secret)
        assert scene.gateway.reached()[-1] == {
            "uri": PATH,
            "authorization": "",
            "api_key": "",
            "verifier": "",
            "org": scene.cast.acme.id,
            "key": scene.reader.key.id,
            "plan": builders.plan().slug,
            "scopes": "incidents:read",
            "code": "VALID",
            "for": "127.0.0.1",
        }

    def test_a_client_forges_who_it_is(self, scene):
        headers = {
            "Authorization": f"Bearer {scene.reader.secret}",
            **FORGED,
            "X-Forwarded-For": "198.51.100.9",
        }
        assert scene.gateway.send("GET", PATH, headers).status == 200
        seen = scene.gateway.reached()[-1]
        assert (seen["org"], seen["key"]) == (scene.cast.acme.id, scene.reader.key.id)
        assert not any("forged" in str(value).lower() for value in seen.values())
        assert (seen["scopes"], seen["for"]) == ("incidents:read", "127.0.0.1")

    @pytest.mark.parametrize(
        "name", ["X-Forwarded-Api-Key", "X-Keystead-Verifier", "x-forwarded-api-key", "X_Forwarded_Api_Key"]
    )
    def test_a_client_brings_a_key_by_the_proxys_way(self, scene, name):
        """Neither a better key beside a bad one, nor the verifier's place."""
        before = scene.reached()
        good = scene.reader.secret
        assert scene.gateway.send("GET", PATH, {name: good}).status == 401
        both = {"Authorization": f"Bearer {_unknown(good)}", name: good}
        assert scene.gateway.send("GET", PATH, both).status == 401
        assert scene.reached() == before

    def test_it_ends_at_the_gateway_beside_a_good_one(self, scene):
        headers = {
            "Authorization": f"Bearer {scene.reader.secret}",
            "X-Forwarded-Api-Key": scene.writer.secret,
        }
        assert scene.gateway.send("GET", PATH, headers).status == 200
        assert scene.gateway.reached()[-1]["api_key"] == ""

    def test_a_client_asks_for_less(self, scene):
        """The scopes that a location needs are not the client's to choose."""
        for path in (f"{PATH}?scopes=", f"{PATH}?scopes=incidents:write", f"{PATH}%3Fscopes=incidents:write"):
            assert scene.gateway.get(path, key=scene.writer.secret).status == 403

    def test_a_client_forges_its_address(self, scene):
        near, far = (
            key_builders.create(scene.cast.acme, scene.cast.alice, allowed_ips=[network])
            for network in ("127.0.0.0/8", "198.51.100.0/24")
        )
        forged = {
            "X_Forwarded_For": "198.51.100.9",
            "Forwarded": "for=198.51.100.9",
            "X_Real_Ip": "198.51.100.9",
        }
        assert scene.gateway.get(key=near.secret).status == 200
        assert scene.gateway.get(key=far.secret, **forged).status == 403


class TestClosedDoors:
    @pytest.mark.parametrize("fault", ["unknown", "without the scope", "nonsense"])
    def test_a_wrong_verifiers_key(self, scene, tmp_path, fault):
        verifier = {
            "unknown": _unknown(scene.verifier.secret),
            "without the scope": scene.writer.secret,
            "nonsense": "nonsense",
        }[fault]
        with nginx.gateway(tmp_path / "nginx", scene.product, verifier) as wrong:
            answers = [wrong.get(key=key) for key in (scene.reader.secret, None)]
            assert [answer.status for answer in answers] == [503, 503]
            assert answers[0].headers["x-keystead-code"] == "VERIFIER_REFUSED"
            assert wrong.reached() == []

    def test_the_product_is_down(self, scene, tmp_path):
        nowhere = f"http://127.0.0.1:{serving._free_port()}"
        with nginx.gateway(tmp_path / "nginx", nowhere, scene.verifier.secret) as alone:
            assert alone.get(key=scene.reader.secret).status == 503
            assert alone.reached() == []

    def test_a_location_that_nobody_thought_of(self, scene):
        before = scene.reached()
        assert scene.gateway.get("/else/where").status == 401
        assert scene.reached() == before


def _unknown(secret: str) -> str:
    """Return a well-formed secret that nobody has."""
    body = secret[:-CHECK_LENGTH]
    other = body[:-1] + ("a" if body[-1] != "a" else "b")
    return other + check(other)
