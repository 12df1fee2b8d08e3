"""Calls of the API as a customer's program makes them, and the keys to make them with."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import connections
from django.http import HttpResponse
from django.test import Client

from keys.services import Created
from orgs.models import Organization, User
from tests import builders, cluster, key_builders

MANAGING = ("keys:read", "keys:write", "keys:rotate", "keys:revoke", "keys:verify", "incidents:read")
JSON = "application/json"
PROBLEM = "application/problem+json"
HOST = "127.0.0.1"
ADDRESS = "198.51.100.7"


class Api:
    """A program that holds one secret; each call is a fresh client, without any cookie unless given."""

    def __init__(self, secret: str | None, *, address: str = ADDRESS, client: Client | None = None) -> None:
        self.secret = secret
        self.address = address
        self.client = client

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = JSON,
        **headers: str,
    ) -> HttpResponse:
        """Send one request; `headers` with underscores for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret is not None:
            given.setdefault("Authorization", f"Bearer {self.secret}")
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        client = self.client or Client(raise_request_exception=False)
        return client.generic(
            method,
            f"/v1{path}",
            content,
            content_type=content_type,
            headers=given,
            REMOTE_ADDR=self.address,
            SERVER_NAME=HOST,
        )

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.send("DELETE", path, body, **headers)


def key(where: Organization, by: User, scopes: Iterable[str] = MANAGING, **changes: Any) -> Created:
    """Make a key that may call the API."""
    return key_builders.create(where, by, scopes=list(scopes), **changes)


def program(where: Organization, by: User, scopes: Iterable[str] = MANAGING, **changes: Any) -> Api:
    """Return a program with a fresh key of its own."""
    return Api(key(where, by, scopes, **changes).secret)


def draft(**changes: Any) -> dict[str, Any]:
    """Return the body of a plain creation."""
    return {
        "name": builders.unique("key"),
        "kind": "control_plane",
        "environment": "production",
        "scopes": ["incidents:read"],
        **changes,
    }


def at_once[Result](number: int, act: Callable[[int], Result]) -> list[Result]:
    """Run `act` in threads, each with connections of its own, and return what they return."""

    def run(index: int) -> Result:
        try:
            return act(index)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(run, range(number)))


def as_superuser(statement: str, *parameters: Any) -> None:
    """Do what nobody of the product may: the tests' time machine. Triggers and row security stand aside."""
    url = cluster.cluster().url(dbname=cluster.database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode(), parameters)


def rows(query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Read what no page shows, past row security."""
    url = cluster.cluster().url(dbname=cluster.database())
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def is_problem(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """Assert that the answer is a whole problem document, and return it."""
    assert (response.status_code, response["Content-Type"]) == (status, PROBLEM), response.content
    found = json.loads(response.content)
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(found)
    assert (found["status"], found["code"]) == (status, code)
    assert found["type"].endswith(f"/{code}")
    assert found["request_id"] == response["X-Request-Id"]
    assert response["Cache-Control"] == "no-store"
    return found


def where(problem: dict[str, Any]) -> list[str]:
    """Return the locations that a 422 names."""
    return [error["location"] for error in problem["errors"]]


def without_id(response: HttpResponse) -> bytes:
    """Return the body without its request's id, to compare two answers byte by byte."""
    return response.content.replace(response["X-Request-Id"].encode(), b"")
