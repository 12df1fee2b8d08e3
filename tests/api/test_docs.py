"""`/v1/openapi.json` and `/v1/docs`: for everybody, and complete."""

import json
import re

import pytest
from django.test import Client

from keys.api.urls import document
from tests.api.calls import HOST, Api, is_problem

OPERATIONS = {
    ("POST", "/v1/api-keys"),
    ("GET", "/v1/api-keys"),
    ("GET", "/v1/api-keys/{key_id}"),
    ("PATCH", "/v1/api-keys/{key_id}"),
    ("DELETE", "/v1/api-keys/{key_id}"),
    ("POST", "/v1/api-keys/{key_id}/revoke"),
    ("GET", "/v1/rotations/{rotation_id}"),
    ("POST", "/v1/rotations/{rotation_id}/complete"),
    ("POST", "/v1/rotations/{rotation_id}/cancel"),
    ("POST", "/v1/api-keys/{key_id}/rotate"),
    ("POST", "/v1/keys/rotate"),
    ("POST", "/v1/keys/revoke"),
    ("POST", "/v1/secret-scanning/github"),
    ("POST", "/v1/keys/verify"),
    ("GET", "/v1/projects"),
    ("GET", "/v1/environments"),
    ("GET", "/v1/scopes"),
    ("GET", "/v1/me"),
    ("GET", "/v1/usage"),
    ("POST", "/v1/usage"),
    ("GET", "/v1/api-keys/{key_id}/usage"),
    ("GET", "/v1/authorize"),
    ("POST", "/v1/authorize"),
    ("POST", "/v1/entitlements/check"),
    ("GET", "/v1/revocations"),
    ("POST", "/v1/api-keys/break-glass"),
    ("POST", "/v1/approvals"),
    ("GET", "/v1/approvals"),
    ("GET", "/v1/approvals/{approval_id}"),
    ("POST", "/v1/approvals/{approval_id}/grant"),
    ("POST", "/v1/approvals/{approval_id}/deny"),
    ("POST", "/v1/executions"),
    ("GET", "/v1/executions/{execution_id}"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("GET", "/v1/webhooks/{webhook_id}"),
    ("PATCH", "/v1/webhooks/{webhook_id}"),
    ("DELETE", "/v1/webhooks/{webhook_id}"),
    ("POST", "/v1/webhooks/{webhook_id}/rotate-secret"),
    ("POST", "/v1/webhooks/{webhook_id}/test"),
    ("POST", "/v1/webhooks/{webhook_id}/resend"),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"),
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"),
    ("GET", "/v1/audit/entries"),
    ("GET", "/v1/audit/entries/{index}"),
    ("GET", "/v1/audit/entries/{index}/proof"),
    ("GET", "/v1/audit/checkpoint"),
    ("GET", "/v1/audit/consistency"),
    ("GET", "/v1/audit/keys"),
    ("GET", "/v1/audit/bundle"),
}
# No key authenticates these.
OPEN = {"/v1/keys/revoke", "/v1/secret-scanning/github"}


def operations(found):
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


class TestDocument:
    def test_is_served_without_a_key(self):
        answer = Api(None).get("/openapi.json")
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
        assert answer.json() == json.loads(json.dumps(document()))

    def test_has_every_operation_and_no_other(self):
        found = {(method, path) for method, path, _ in operations(Api(None).get("/openapi.json").json())}
        assert found == OPERATIONS

    def test_every_problem_is_documented_as_one(self):
        found = Api(None).get("/openapi.json").json()
        for _, path, operation in operations(found):
            if path == "/v1/authorize":
                continue  # proxies read the status and the headers alone
            problems = {
                status: answer for status, answer in operation["responses"].items() if status >= "400"
            }
            assert {"400", "422", "503"} <= set(problems), path
            assert "401" in problems or path in OPEN, path
            for status, answer in problems.items():
                assert answer == {"$ref": f"#/components/responses/{status}"}
        for answer in found["components"]["responses"].values():
            assert list(answer["content"]) == ["application/problem+json"]

    def test_every_reference_leads_somewhere(self):
        text = Api(None).get("/openapi.json").content.decode()
        found = json.loads(text)
        for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
            part = found
            for step in reference.split("/"):
                part = part[step]

    def test_each_operation_needs_a_bearer(self):
        found = Api(None).get("/openapi.json").json()
        assert found["components"]["securitySchemes"]["Bearer"]["scheme"] == "bearer"
        for _, path, operation in operations(found):
            assert operation.get("security") == (None if path in OPEN else [{"Bearer": []}]), path

    def test_is_read_alone(self):
        is_problem(Api(None).post("/openapi.json"), 405, "method_not_allowed")


class TestPage:
    @pytest.fixture
    def html(self):
        answer = Client().get("/v1/docs", SERVER_NAME=HOST)
        assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
        return answer.content.decode()

    def test_shows_every_operation_with_an_example(self, html):
        for method, path in OPERATIONS:
            assert f"{method} {path}" in html
            assert re.search(rf"curl -X {method} \S*{re.escape(path)}", html), path

    def test_shows_every_field_of_a_request(self, html):
        for name in (
            "expires_in_days",
            "may_rotate_itself",
            "grace_seconds",
            "unused_since",
            "disabled_until",
        ):
            assert f">{name}</code>" in html

    def test_holds_nothing_from_elsewhere(self, html):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
        assert "style=" not in html
        assert "<script>" not in html

    def test_is_read_alone(self):
        is_problem(Api(None).post("/docs"), 405, "method_not_allowed")
