"""A webhook receiver as a customer would write one: https, and every event verified with `standardwebhooks`."""

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

HOST: Final = "127.0.0.1"
PATH: Final = "/events"
MOST_BYTES: Final = 64 * 1024
SILENT_AFTER_SECONDS: Final = 20

type Show = Callable[[dict[str, Any]], None]


class Receiver:
    """Listens on the loopback and shows each event whose signature is right; the rest it refuses with 400."""

    def __init__(self, port: int, certificate: Path, show: Show) -> None:
        self.url = f"https://{HOST}:{port}{PATH}"
        self.show = show
        self.webhook: Webhook | None = None
        self.refused = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server = Server((HOST, port), _handler(self))
        self.server.socket = context.wrap_socket(
            # The handshake is made in the thread of its connection, so that a silent one stops nobody else.
            self.server.socket,
            server_side=True,
            do_handshake_on_connect=False,
        )

    def start(self, secret: str) -> None:
        """Listen, in a thread of its own, for events signed with `secret` (`whsec_…`)."""
        self.webhook = Webhook(secret)
        threading.Thread(target=self.server.serve_forever, name="receiver", daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()

    def take(self, body: bytes, headers: dict[str, str]) -> bool:
        """Show an event, and tell whether it was signed by the portal within the last minutes."""
        if self.webhook is None:
            return False
        try:
            event = self.webhook.verify(body, headers)
        except (WebhookVerificationError, json.JSONDecodeError):
            self.refused += 1
            return False
        self.show(event)
        return True


class Server(http.server.ThreadingHTTPServer):
    """Whoever goes away in the middle is nobody's trouble."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = SILENT_AFTER_SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path != PATH or not length.isdigit() or int(length) > MOST_BYTES:
                self.answer(HTTPStatus.BAD_REQUEST)
                return
            # Signed are the very bytes: read them before any JSON is.
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            is_right = receiver.take(body, headers)
            self.answer(HTTPStatus.NO_CONTENT if is_right else HTTPStatus.BAD_REQUEST)

        def answer(self, status: HTTPStatus) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
