"""A real nginx on loopback addresses, with the configuration that we ship, between a client and an API."""

import contextlib
import http.client
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import debian
from tests.e2e import serving

SHIPPED = serving.ROOT / "docs/nginx.conf"
START_SECONDS = 10
# What is ours to define beside the shipped file, and an API that tells what reached it.
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream keystead {{ server {keystead}; keepalive 4; }}
    upstream api {{ server 127.0.0.1:{api}; }}
    server {{
        listen 127.0.0.1:{port};
        include {shipped};
    }}
    log_format reached escape=json '{{"uri": "$request_uri", "authorization": "$http_authorization", '
        '"api_key": "$http_x_forwarded_api_key", "verifier": "$http_x_keystead_verifier", '
        '"org": "$http_x_keystead_org", "key": "$http_x_keystead_key", "plan": "$http_x_keystead_plan", '
        '"scopes": "$http_x_keystead_scopes", "code": "$http_x_keystead_code", "for": "$http_x_forwarded_for"}}';
    server {{
        listen 127.0.0.1:{api};
        access_log {folder}/reached reached;
        root {folder}/static;
    }}
}}
"""


@dataclass(frozen=True)
class Answer:
    """What a client got. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Gateway:
    """A running nginx."""

    port: int
    api: int
    folder: Path

    def get(self, path: str = "/incidents", *, key: str | None = None, **headers: str) -> Answer:
        """Send a request as a client does; `headers` with underscores for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        return self.send("GET", path, given)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
        """Send a request."""
        return _send(self.port, method, path, headers, body)

    def reached(self) -> list[dict[str, Any]]:
        """Return what has reached the API so far, as it saw it."""
        # It writes its log after its answers; past a request that we send there ourselves, the log is complete.
        mark = f"/mark-{secrets.token_hex(8)}"
        _send(self.api, "GET", mark, {})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            seen = [json.loads(line) for line in (self.folder / "reached").read_text().splitlines()]
            if any(each["uri"] == mark for each in seen):
                return [each for each in seen if not each["uri"].startswith("/mark-")]
        raise RuntimeError("the API does not log")


def _send(port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())


@contextlib.contextmanager
def gateway(folder: Path, keystead: str, verifier: str) -> Iterator[Gateway]:
    """Run nginx before an API of one static file, asking the product at the URL `keystead` with a verifier's key."""
    folder.mkdir(parents=True)
    (folder / "static").mkdir()
    (folder / "static" / "incidents").write_text("all quiet\n")
    credential = folder / "keystead-verifier.conf"
    credential.touch(mode=0o600)
    credential.write_text(f'proxy_set_header Authorization "Bearer {verifier}";\n')
    found = Gateway(serving._free_port(), serving._free_port(), folder)
    text = CONFIGURATION.format(
        folder=folder,
        keystead=urlsplit(keystead).netloc,
        api=found.api,
        port=found.port,
        shipped=SHIPPED,
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    log = folder / "error.log"
    command = [debian.find("nginx"), "-p", str(folder), "-e", str(log), "-c", str(configuration)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(found, process, log)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(found: Gateway, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            found.send("GET", "/_keystead", {})
            return
        time.sleep(0.05)
    raise RuntimeError(f"nginx did not start:\n{log.read_text()}")
