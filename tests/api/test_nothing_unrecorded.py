"""No operation of the API changes anything without an entry: every one of the OpenAPI document is called.

Whether something changed is asked of the database (`tests.watching`), not of the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from audit import tenancy
from audit.models import Delivery, Endpoint
from keys.api.urls import document, urlpatterns
from keys.builtin import SCOPES
from keys.services.auto_rotation import rotate_when_due
from tests import builders, bundles, key_builders
from tests import governance_builders as gov
from tests.api import calls, test_approvals, test_executions
from tests.api.calls import Api
from tests.api.test_breakglass import breaker
from tests.clocks import later
from tests.leak_builders import PATH as SCANNING
from tests.leak_builders import Partner, believed, found

HOOK = {"url": "https://1.1.1.1/hook", "acts": ["member.*"]}
EVERY_SCOPE = [name for name, *_ in SCOPES if name != "keys:breakglass"]
EVERY_SCOPE += ["incidents:read", "incidents:write"]
NONSENSE = {"nonsense": 1}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that works. `open_to` is who else may send it: `weak` keys, `anybody`."""

    api: Api
    path: str
    body: Any = None
    open_to: frozenset[str] = frozenset()
    send: Callable[[], Any] | None = None


@dataclass(frozen=True)
class World:
    """Programs: one that holds every scope, one that may break the glass, one with little, and another customer's."""

    cast: builders.Cast
    api: Api
    breaker: Api
    weak: Api
    stranger: Api
    partner: Partner

    @property
    def acme(self):
        return self.cast.acme

    def made(self, **changes: Any):
        return key_builders.create(self.acme, self.cast.alice, **changes)

    def key(self, **changes: Any) -> str:
        return self.made(**changes).key.id

    def hook(self) -> str:
        answer = self.api.post("/webhooks", HOOK)
        assert answer.status_code == 201, answer.content
        return answer.json()["webhook"]["id"]

    def rotation(self) -> str:
        return key_builders.rotate(self.made().key, self.acme, self.cast.alice).rotation.id


@pytest.fixture(scope="module")
def world(cast, django_db_blocker) -> World:
    with django_db_blocker.unblock():
        return World(
            cast,
            calls.program(cast.acme, cast.alice, EVERY_SCOPE),
            Api(breaker(cast.acme, cast.alice).secret),
            calls.program(cast.acme, cast.alice, ["incidents:read"]),
            calls.program(cast.elsewhere, cast.mallory, EVERY_SCOPE),
            Partner(),
        )


@pytest.fixture(autouse=True)
def _scanning(settings, tmp_path, world):
    believed(settings, tmp_path, world.partner)


@pytest.fixture(autouse=True)
def _few_hooks(world):
    """There are so many webhooks at most."""
    with tenancy.within(world.acme.id):
        Endpoint.objects.all().delete()


def of_key(path: str = "", body: Any = None, **made: Any):
    return lambda w: Call(api=w.api, path=f"/api-keys/{w.key(**made)}{path}", body=body)


def of_rotation(end: str):
    return lambda w: Call(api=w.api, path=f"/rotations/{w.rotation()}{end}")


def of_hook(path: str = "", body: Any = None):
    return lambda w: Call(api=w.api, path=f"/webhooks/{w.hook()}{path}", body=body)


def _break_glass(w: World) -> Call:
    project = builders.project(builders.root(w.acme))
    w.made(project=project)
    body = {"filter": {"project": project.id}, "reason": "A laptop was stolen"}
    return Call(api=w.breaker, path="/api-keys/break-glass", body=body)


def _fetch(w: World) -> Call:
    """A key has just rotated by itself, and its new secret waits to be fetched."""
    receiver = key_builders.recipient(w.acme, w.cast.alice)
    made = w.made(rotation_interval_days=1, auto_rotate=True)
    with later(hours=12.1):
        rotation = rotate_when_due(w.acme.id, made.key.id)
    assert rotation.sealed_to == receiver.recipient.id

    def send():
        with later(hours=12.2):
            return w.api.get(f"/rotations/{rotation.id}")

    return Call(api=w.api, path=f"/rotations/{rotation.id}", send=send)


def _rotate_itself(w: World) -> Call:
    return Call(api=Api(w.made().secret), path="/keys/rotate", open_to=frozenset({"weak", "stranger"}))


def _burn(w: World) -> Call:
    everybody = frozenset({"weak", "stranger", "anybody"})
    body = {"secret": w.made().secret}
    return Call(api=Api(None), path="/keys/revoke", body=body, open_to=everybody)


def _scan(w: World) -> Call:
    body = [found(w.made().secret)]
    return Call(api=Api(None), path=SCANNING, body=body, send=lambda: w.partner.send(body))


def _ask(w: World) -> Call:
    itself = Api(gov.bound_key(w.acme, w.cast.bob).secret)
    return Call(
        api=itself,
        path="/approvals",
        body=test_approvals.body(),
    )


def _execution(w: World) -> Call:
    bound = gov.bound_key(w.acme, w.cast.bob)
    approval = gov.granted(w.acme, bound.key, w.cast.alice)
    return Call(api=Api(bound.secret), path="/executions", body=test_executions.body(approval))


CHANGING: dict[str, Callable[[World], Call]] = {
    "break_glass": _break_glass,
    "create_key": lambda w: Call(
        api=w.api, path="/api-keys", body=calls.draft(), open_to=frozenset({"stranger"})
    ),
    "change_key": of_key(body={"description": "new"}),
    "delete_key": of_key(),
    "revoke_key": of_key("/revoke", {"reason": "unused"}),
    "rotate_key": of_key("/rotate"),
    "rotate_itself": _rotate_itself,
    "get_rotation": _fetch,
    "complete_rotation": of_rotation("/complete"),
    "cancel_rotation": of_rotation("/cancel"),
    "burn_secret": _burn,
    "report_found_secrets": _scan,
    "request_approval": _ask,
    "record_execution": _execution,
    "create_webhook": lambda w: Call(api=w.api, path="/webhooks", body=HOOK, open_to=frozenset({"stranger"})),
    "change_webhook": of_hook(body={"enabled": False}),
    "delete_webhook": of_hook(),
    "rotate_webhook_secret": of_hook("/rotate-secret"),
}


def _delivery(w: World) -> str:
    hook = w.hook()
    made = Delivery(
        id=f"msg_{hook}", organization_id=w.acme.id, endpoint_id=hook, epoch=1, index=1, act="key.changed"
    )
    made.created_at = made.finished_at = timezone.now()
    made.state = "failed"
    with builders.tenancy.within(w.acme.id):
        made.save(force_insert=True)
    return f"/webhooks/{hook}/deliveries/{made.id}"


def _resend(w: World) -> Call:
    path = f"/webhooks/{w.hook()}/resend"
    builders.join(builders.person(), w.acme, builders.Role.VIEWER)
    now = timezone.now()
    times = {
        name: (now + by).isoformat()
        for name, by in (("from", -timedelta(hours=1)), ("to", timedelta(hours=1)))
    }
    return Call(api=w.api, path=path, body=times)


def _verify(w: World) -> Call:
    return Call(api=w.api, path="/keys/verify", body={"secret": w.made().secret, "ip": "203.0.113.9"})


def _authorize(w: World) -> Call:
    forwarded = {"X_Forwarded_Api_Key": w.made().secret}
    return Call(api=w.api, path="/authorize", send=lambda: w.api.get("/authorize", **forwarded))


def _authorize_by_post(w: World) -> Call:
    forwarded = {"X_Forwarded_Api_Key": w.made().secret}
    return Call(api=w.api, path="/authorize", send=lambda: w.api.post("/authorize", **forwarded))


def _entitlement(w: World) -> Call:
    return Call(api=w.api, path="/entitlements/check", body={"key_id": w.key(), "entitlement": "seats"})


def _report(w: World) -> Call:
    at = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    use = {"key": w.key(), "secret_version": 1, "at": at, "calls": 3, "cost": 3}
    return Call(api=w.api, path="/usage", body={"batch": builders.unique("b"), "calls": [use]})


def _bundle(w: World) -> Call:
    bundles.sign(w.acme.id)

    def send():
        answer = w.api.get("/audit/bundle")
        assert b"".join(answer.streaming_content)
        return answer

    return Call(api=w.api, path="/audit/bundle", send=send)


def read(path: str):
    return lambda w: Call(api=w.api, path=path)


def signed(path: str):
    def call(w: World) -> Call:
        bundles.sign(w.acme.id)
        return Call(api=w.api, path=path)

    return call


def _consistency(w: World) -> Call:
    bundles.sign(w.acme.id, 2)
    signed_at = len(builders.entries(w.acme.id))
    bundles.sign(w.acme.id)
    return Call(api=w.api, path=f"/audit/consistency?from=2&to={signed_at}")


def _execution_read(w: World) -> Call:
    key = gov.bound_key(w.acme, w.cast.bob).key
    return Call(api=w.api, path=f"/executions/{gov.execute(key, gov.granted(w.acme, key, w.cast.alice)).id}")


# What they do is no state: usage and evidence of calls, deliveries of what is recorded, and reading.
NOTHING: dict[str, Callable[[World], Call]] = {
    "verify_key": _verify,
    "authorize": _authorize,
    "authorize_by_post": _authorize_by_post,
    "check_entitlement": _entitlement,
    "report_usage": _report,
    "test_webhook": of_hook("/test"),
    "resend_webhook": _resend,
    "resend_delivery": lambda w: Call(api=w.api, path=f"{_delivery(w)}/resend"),
    "get_bundle": _bundle,
    "list_keys": read("/api-keys"),
    "get_key": of_key(),
    "get_usage": read("/usage"),
    "get_key_usage": of_key("/usage"),
    "list_approvals": read("/approvals"),
    "get_approval": lambda w: Call(
        api=w.api, path=f"/approvals/{gov.request(gov.bound_key(w.acme, w.cast.bob).key).id}"
    ),
    "get_execution": _execution_read,
    "list_webhooks": read("/webhooks"),
    "get_webhook": of_hook(),
    "list_deliveries": of_hook("/deliveries"),
    "list_entries": read("/audit/entries"),
    "get_entry": read("/audit/entries/1"),
    "get_proof": signed("/audit/entries/1/proof"),
    "get_checkpoint": signed("/audit/checkpoint"),
    "get_consistency": _consistency,
    "list_verifier_keys": read("/audit/keys"),
    "list_projects": read("/projects"),
    "list_environments": read("/environments"),
    "list_scopes": read("/scopes"),
    "who_am_i": read("/me"),
}
# People decide: every key is refused.
REFUSING = {"grant_approval": "grant", "deny_approval": "deny"}
# A stream without end, which the gate serves beside Django (tests/stream): it only tells what others changed.
STREAMING = {"stream_revocations"}
PAGES = {"openapi.json", "docs"}


def operations() -> dict[str, tuple[str, str]]:
    """Return every operation's method and path, by its id."""
    return {
        operation["operationId"]: (method.upper(), path.removeprefix("/v1"))
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


def takes_body(name: str) -> bool:
    """Tell whether an operation reads a body at all."""
    method, path = operations()[name]
    return "requestBody" in document()["paths"][f"/v1{path}"][method.lower()]


def test_every_operation_has_its_row():
    rows = [set(CHANGING), set(NOTHING), set(REFUSING), STREAMING]
    assert set().union(*rows) == set(operations())
    assert sum(map(len, rows)) == len(operations())


def test_every_address_is_in_the_document():
    described = {path.removeprefix("/") for _, path in operations().values()}
    assert {str(one.pattern) for one in urlpatterns} - PAGES == {
        path.replace("{", "<").replace("}", ">") for path in described
    }


def sent(call: Call, name: str):
    method, _ = operations()[name]
    return call.send() if call.send else call.api.send(method, call.path, call.body)


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_what_it_changes_is_recorded(world, watch, name):
    cache.clear()
    call, (method, _) = CHANGING[name](world), operations()[name]
    watch.forget()
    others = {"weak": world.weak, "stranger": world.stranger, "anybody": Api(None), "nobody": Api("x")}
    for who in set(others) - call.open_to - ({"nobody"} if "anybody" in call.open_to else set()):
        answer = others[who].send(method, call.path, call.body)
        assert answer.status_code in {401, 403, 404, 409}, (who, answer.content)
        assert not watch.changes().seen, f"{who} was refused"
    if takes_body(name):
        answer = call.api.send(method, call.path, NONSENSE)
        assert answer.status_code in {401, 422}, answer.content
        assert not watch.changes().seen, "the body was wrong"
    answer = sent(call, name)
    seen = watch.changes()
    assert answer.status_code in {200, 201, 202, 204}, answer.content
    assert seen.seen, answer.content
    assert not seen.unrecorded


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_what_changes_nothing(world, watch, name):
    cache.clear()
    call = NOTHING[name](world)
    watch.forget()
    answer = sent(call, name)
    assert answer.status_code in {200, 201, 202, 204}, answer.content
    assert not watch.changes().seen


@pytest.mark.parametrize("name", sorted(REFUSING))
def test_no_key_decides(world, watch, name):
    approval = gov.request(gov.bound_key(world.acme, world.cast.bob).key)
    watch.forget()
    for api in (world.api, world.breaker, world.stranger):
        assert api.post(f"/approvals/{approval.id}/{REFUSING[name]}", {}).status_code in {403, 404}
    assert not watch.changes().seen


def test_the_first_answer_again_is_no_second_change(world, watch):
    body, once = calls.draft(), {"Idempotency_Key": builders.unique("once")}
    watch.forget()
    assert world.api.post("/api-keys", body, **once).status_code == 201
    assert not watch.changes().unrecorded
    assert world.api.post("/api-keys", body, **once).status_code == 201
    assert not watch.changes().seen


@pytest.mark.parametrize("path", sorted({path for _, path in operations().values()}))
def test_no_other_method_changes_anything(world, watch, path):
    cache.clear()
    taken = {method for method, other in operations().values() if other == path}
    place = path.replace("{key_id}", world.key()) if "{key_id}" in path else path
    watch.forget()
    for method in (*METHODS, "OPTIONS", "HEAD"):
        if method not in taken and not (method == "HEAD" and "GET" in taken):
            assert world.api.send(method, place, {}).status_code == 405, method
    assert not watch.changes().seen
