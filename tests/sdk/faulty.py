"""A portal that fails as it is told: real HTTP over a real socket, one planned answer for each request."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

VERDICT: Mapping[str, Any] = {
    "valid": True,
    "code": "VALID",
    "request_id": "req_1",
    "key": {
        "id": "key_" + "a" * 20,
        "name": "noc",
        "kind": "control_plane",
        "expires_at": None,
        "expires_soon": False,
        "owner": {"type": "team", "name": "NOC"},
        "tags": {},
        "secret_version": 1,
        "retiring": False,
        "accepted_until": None,
    },
    "organization": {"id": "org_1", "slug": "acme", "name": "Acme"},
    "plan": {"slug": "standard", "name": "Standard"},
    "project": "prj_1",
    "environment": "production",
    "scopes": ["incidents:read"],
    "missing_scopes": [],
    "entitlements": {"seats": 25},
    "rate_limit": None,
    "quota": None,
    "approval": None,
}


@dataclass(frozen=True)
class Planned:
    """One answer. `raw` is sent instead of an answer, `delay` waits before it, `drip` between bytes of the body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay: float = 0.0
    drip: float = 0.0


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


def _content(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"" if body is None else json.dumps(body).encode()


def refused(code: str, **members: Any) -> Planned:
    """Plan a verdict on a known key that is not valid."""
    return Planned(body={**VERDICT, "valid": False, "code": code, **members})


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that hangs up in the middle is what some tests are about."""


class FaultyPortal:
    """Answers with what `plan` holds, in order; the last again and again."""

    def __init__(self) -> None:
        self.plan: list[Planned] = [Planned(body=VERDICT)]
        self.received: list[Received] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answers(self, *plan: Planned) -> None:
        """Answer like this from now on, counting anew."""
        self.plan, self.received = list(plan), []

    def _next(self, request: Received) -> Planned:
        with self._lock:
            self.received.append(request)
            return self.plan[min(len(self.received), len(self.plan)) - 1]

    def _handler(portal) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(content) if content else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                planned = portal._next(Received(self.command, self.path, headers, body))
                time.sleep(planned.delay)
                try:
                    self._send(planned)
                except OSError:
                    self.close_connection = True

            def _send(self, planned: Planned) -> None:
                if planned.raw is not None:
                    self.wfile.write(planned.raw)
                    self.close_connection = True
                    return
                is_bytes = isinstance(planned.body, bytes)
                content = (
                    planned.body
                    if is_bytes
                    else b""
                    if planned.body is None
                    else json.dumps(planned.body).encode()
                )
                self.send_response(planned.status)
                for name, value in planned.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if not planned.drip:
                    self.wfile.write(content)
                    return
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(planned.drip)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler
