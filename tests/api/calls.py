"""Calls of the API as a customer's program makes them, and the keys to make them with."""

import json
from typing import Any

from django.test import Client

from keys.services import Created
from orgs.models import Organization, User
from tests import key_builders

MANAGING = ("keys:read", "keys:write", "keys:rotate", "keys:revoke", "keys:verify", "incidents:read")
JSON = "application/json"
HOST = "127.0.0.1"


class Api:
    """A program that holds one secret; each call is a fresh client without any cookie."""

    def __init__(self, secret: str | None, *, address: str = "198.51.100.7") -> None:
        self.secret = secret
        self.address = address

    def send(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str):
        """Send one request; `headers` with underscores for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret is not None:
            given.setdefault("Authorization", f"Bearer {self.secret}")
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        client = Client(raise_request_exception=False, REMOTE_ADDR=self.address, SERVER_NAME=HOST)
        return client.generic(method, f"/v1{path}", content, content_type=JSON, headers=given)

    def get(self, path: str, **headers: str):
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str):
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str):
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, body: Any = None, **headers: str):
        return self.send("DELETE", path, body, **headers)


def key(where: Organization, by: User, scopes: tuple[str, ...] = MANAGING, **changes: Any) -> Created:
    """Make a key that may call the API."""
    return key_builders.create(where, by, scopes=list(scopes), **changes)


def program(where: Organization, by: User, scopes: tuple[str, ...] = MANAGING, **changes: Any) -> Api:
    """Return a program with a fresh key of its own."""
    return Api(key(where, by, scopes, **changes).secret)
