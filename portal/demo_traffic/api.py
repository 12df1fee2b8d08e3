"""The few calls of the REST API that the traffic needs, as any customer's script would make them."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

TIMEOUT_SECONDS = 10.0


class ApiError(Exception):
    """The portal refused a call; the message is its own `detail`."""


class Api:
    """One caller of the REST API: `secret` is the key that it presents."""

    def __init__(self, base_url: str, secret: str) -> None:
        self.client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=TIMEOUT_SECONDS,
            # The portal is on this machine, whatever proxy the shell names.
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str, **query: str) -> Any:
        """Return what is there."""
        return self.send("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a change and return its answer."""
        return self.send("POST", path, json=dict(body or {}))

    def delete(self, path: str) -> None:
        """Remove what is there."""
        self.send("DELETE", path)

    def send(self, method: str, path: str, **how: Any) -> Any:
        """Return a call's answer as JSON, None where it has none. Raises `ApiError`, `httpx.HTTPError`."""
        answer = self.client.request(method, path, **how)
        if answer.is_error:
            raise ApiError(f"{method} {path}: {answer.status_code} {answer.json().get('detail', '')}")
        return answer.json() if answer.content else None

    def all(self, path: str, **query: str) -> Sequence[Any]:
        """Return every item of a list, page by page."""
        found: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, **query, **cursor)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}
