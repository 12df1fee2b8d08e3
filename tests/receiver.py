"""A webhook receiver on the loopback: real TLS under a throw-away authority, verified by the public package."""

import contextlib
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

NAME = "hooks.example.com"
# What a path answers: status, headers, body; or a function that takes the handler over.
type Script = tuple[int, dict[str, str], bytes] | Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, *secrets: str) -> Any:
        """Return the body as JSON once the public package has verified it with each of the secrets."""
        found = [Webhook(secret).verify(self.body, self.headers) for secret in secrets]
        assert all(each == found[0] for each in found)
        return found[0]


@dataclass
class Receiver:
    """The server, what it got, and what it answers by path: 204 unless told."""

    port: int
    ca_file: Path
    got: list[Got] = field(default_factory=list)
    scripts: dict[str, Script] = field(default_factory=dict)
    names: list[str | None] = field(default_factory=list)

    def url(self, path: str = "/hook", host: str = NAME) -> str:
        return f"https://{host}:{self.port}{path}"

    def of(self, act: str) -> list[Got]:
        """Return the requests that tell of an act."""
        return [each for each in self.got if f'"type":"{act}"'.encode() in each.body]


@contextlib.contextmanager
def running(folder: Path, names: Sequence[str] = (NAME, "127.0.0.1")) -> Iterator[Receiver]:
    """Serve on a free port of the loopback with a certificate for `names`."""
    ca_file, chain = certificates(folder, names)
    receiver = Receiver(port=0, ca_file=ca_file)

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 30
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.got.append(Got(self.path, headers, body))
            script = receiver.scripts.get(self.path, (204, {}, b""))
            if callable(script):
                script(self)
                return
            status, more, answer = script
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(answer))} | more).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Clients that go away are what is tested."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.sni_callback = lambda _socket, name, _context: receiver.names.append(name)
    with Server(("127.0.0.1", 0), Handler) as server:
        # The handshake in the request's own thread: one that never ends must not hold up the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Listen on a port of the loopback and never say a word; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        yield listening.getsockname()[1]


def certificates(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Make an authority and a certificate of it for `names`; return the files (authority, certificate with its key)."""
    authority, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Throw-away authority")
    ca = _signed(issuer, issuer, authority, authority, [], is_ca=True)
    certificate = _signed(_name("receiver"), issuer, leaf, authority, names, is_ca=False)
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, chain = folder / "ca.pem", folder / "receiver.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    key = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key)
    return ca_file, chain


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if is_ca:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        signing = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage)
        builder = builder.add_extension(signing, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_san, names))), critical=False)
    return builder.sign(by, hashes.SHA256())


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
