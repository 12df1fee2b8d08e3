"""`./dev demo`: PostgreSQL, migrations, demo data and the portal, started in order and stopped together."""

import argparse
import base64
import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import psycopg

from portal import config, database_roles
from portal.demo_traffic import certificate
from portal.dsn import DsnError
from portal.embedded import Cluster, EmbeddedError, make_private_folder
from portal.stopping import Signals, Stopped

HOST = "127.0.0.1"
DATABASE = "keystead"
ENV_FILE = "env"
PEPPER_FILE = "pepper"
ENCRYPTION_FILE = "encryption-keys"
SIGN_INS_FILE = "demo.json"
# The public half; the private one beside it is for the notary alone.
LEDGER_KEY = "notary/public.pem"
SIGNING_KEY = "notary/private.pem"
RECEIVER_FOLDER = "receiver"
RECEIVER_OFFSET = 443
MAX_PORT = 65535
# Made by `manage.py secret_scanning sample`, whose samples are then believed; the only partner that the demo has.
SCANNING_KEYS = "secret-scanning/public.json"
START_SECONDS = 60
STOP_SECONDS = 15
# What the demo makes in its folder and --reset deletes; last the file that shows the folder is a demo's.
MADE = (
    PEPPER_FILE,
    ENCRYPTION_FILE,
    SIGN_INS_FILE,
    "static",
    "mailbox",
    RECEIVER_FOLDER,
    "notary",
    "secret-scanning",
    "postgresql",
    ENV_FILE,
)
# Settings of the person's shell that would contradict the demo's own.
OWN_SETTINGS = (
    "DATABASE_",
    "LEDGER_",
    "KEYSTEAD_SECRET_KEY",
    "KEYSTEAD_PEPPER",
    "KEYSTEAD_ENCRYPTION_KEYS",
    "KEYSTEAD_BASE_URL",
    "KEYSTEAD_EMAIL_",
    "KEYSTEAD_SECRET_SCANNING_KEYS",
    "KEYSTEAD_WEBHOOK_",
    "PG",
)


class DemoError(Exception):
    """The demo can't run; the message is one line for the person at the terminal."""


class Demo:
    """One run of the demo in the folder `home`, serving on `port` of the loopback address."""

    def __init__(self, home: Path, port: int, *, with_traffic: bool = False) -> None:
        self.home = home
        self.port = port
        self.with_traffic = with_traffic
        self.signals = Signals()
        self.is_embedded = not os.environ.get("DATABASE_URL")
        self.cluster = Cluster(home / "postgresql")
        self.serving = False

    @property
    def url(self) -> str:
        """Where the browser goes."""
        return f"http://{HOST}:{self.port}"

    @property
    def receiver_port(self) -> int:
        """Where the traffic's webhook receiver listens: 8443 beside 8000."""
        return (
            self.port + RECEIVER_OFFSET
            if self.port + RECEIVER_OFFSET <= MAX_PORT
            else self.port - RECEIVER_OFFSET
        )

    def run(self, *, reset: bool) -> NoReturn:
        """Start everything, serve until a signal comes, stop everything. Raises `DemoError` and `Stopped`."""
        with only_one(self.home, self.url):
            self.check_port(self.port)
            if self.with_traffic:
                self.check_port(self.receiver_port)
            if reset:
                self.reset()
            with contextlib.ExitStack() as started:
                if self.is_embedded:
                    started.callback(self.cluster.stop)
                self.prepare_database()
                self.manage("migrate", "--no-input", "--verbosity=0", saying="migrating the database")
                self.manage("demo_data", saying="writing the demo data")
                self.manage("collectstatic", "--no-input", "--verbosity=0", saying="collecting static files")
                self.serve()

    def check_port(self, port: int) -> None:
        """Refuse a port that somebody else listens on, before anything slow is done."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                message = f"port {port} is not free ({error.strerror}); choose another: ./dev demo --port N"
                raise DemoError(message) from error

    def reset(self) -> None:
        """Delete what earlier runs made in the folder, nothing else there, nothing in a folder not ours."""
        if "KEYSTEAD_PEPPER_FILE" not in read_env(self.home / ENV_FILE):
            return
        say("deleting the earlier demo")
        self.cluster.erase()
        for name in MADE:
            path = self.home / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def prepare_database(self) -> None:
        """Start the embedded server with its roles, and write the configuration that names it."""
        urls: dict[str, str] = {}
        if self.is_embedded:
            say("starting PostgreSQL")
            with self.signals.held():
                self.cluster.start()
            urls = self.make_roles()
        elif not os.environ.get("DATABASE_MIGRATE_URL"):
            raise DemoError(
                "DATABASE_URL is set, so DATABASE_MIGRATE_URL must be too (manage.py setup_roles)."
            )
        self.write_env(urls)
        set_outside = not self.is_embedded and os.environ.get("LEDGER_PUBLIC_KEY")
        if not (set_outside or (self.home / LEDGER_KEY).exists()):
            self.manage("notary", "init", saying="making the ledgers' signing key", output=subprocess.DEVNULL)
            self.write_env(urls)

    def make_roles(self) -> dict[str, str]:
        """Make roles and database on the embedded server; return the logins' URLs. Secret."""
        passwords = {login: self.cluster.password(login) for login in database_roles.LOGINS}
        database_roles.set_up(self.cluster.url(), DATABASE, passwords)
        return database_roles.login_urls(self.cluster.url(), DATABASE, passwords)

    def write_env(self, urls: dict[str, str]) -> None:
        """Write the file that settings read where the environment names no database; its secrets stay."""
        path, pepper = self.home / ENV_FILE, self.home / PEPPER_FILE
        encryption = self.home / ENCRYPTION_FILE
        earlier = read_env(path)
        if not pepper.exists():
            replace_private(pepper, f"1:{secrets.token_hex(32)}\n")
        if not encryption.exists():
            replace_private(encryption, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() + "\n")
        values = urls | {
            "KEYSTEAD_SECRET_KEY": earlier.get("KEYSTEAD_SECRET_KEY") or secrets.token_urlsafe(48),
            "KEYSTEAD_PEPPER_FILE": str(pepper),
            "KEYSTEAD_ENCRYPTION_KEYS_FILE": str(encryption),
            "KEYSTEAD_BASE_URL": self.url,
            "KEYSTEAD_STATIC_ROOT": str(self.home / "static"),
            # Part of the ledgers' names, and so the same whatever the port.
            "LEDGER_ORIGIN_HOST": "localhost",
            "KEYSTEAD_SECRET_SCANNING_KEYS": str(self.home / SCANNING_KEYS),
            "KEYSTEAD_EMAIL_URL": "mailbox:",
            "KEYSTEAD_EMAIL_FROM": "Keystead <keys@keystead.example>",
            # Webhooks may go to a receiver on this machine, which no deployment would allow.
            "KEYSTEAD_WEBHOOK_PRIVATE": "127.0.0.0/8",
            "KEYSTEAD_WEBHOOK_PORTS": f"443,8443,{self.receiver_port}",
            "KEYSTEAD_WEBHOOK_CA_FILE": str(self.make_certificate()),
        }
        if (self.home / LEDGER_KEY).exists():
            values["LEDGER_PUBLIC_KEY_FILE"] = str(self.home / LEDGER_KEY)
        replace_private(path, "".join(f"{name}={value}\n" for name, value in values.items()))

    def make_certificate(self) -> Path:
        """Make the webhook receiver's certificate where there is none that lasts; return its file."""
        folder = self.home / RECEIVER_FOLDER
        public, now = folder / "certificate.pem", datetime.now(UTC)
        if not certificate.is_fresh(public, now):
            make_private_folder(folder)
            shown, private = certificate.pem(now)
            replace_private(folder / "private.pem", private)
            replace_private(public, shown)
        return public

    def environment(self) -> dict[str, str]:
        """Return our processes' environment; with our own server, our file decides and not the shell."""
        written = read_env(self.home / ENV_FILE)
        if not self.is_embedded:
            return {**written, **os.environ, "KEYSTEAD_HOME": str(self.home)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
        return {"KEYSTEAD_LOG_LEVEL": "WARNING"} | kept | {"KEYSTEAD_HOME": str(self.home)}

    def manage(self, *arguments: str, saying: str, output: int | None = None) -> None:
        """Run one management command to its end. Raises `DemoError` where it fails; its errors are shown."""
        say(saying)
        with self.process("manage.py", *arguments, output=output) as process:
            if process.wait():
                raise DemoError(f"manage.py {arguments[0]} failed; see above.")

    def serve(self) -> NoReturn:
        """Serve until a signal comes. Raises `DemoError` where the server ends by itself."""
        say("starting the portal, its worker and its notary")
        server = ("manage.py", "serve", f"--host={HOST}", f"--port={self.port}", "--workers=1")
        worker = self.process("manage.py", "worker", output=subprocess.DEVNULL)
        with worker, self.notary(), self.process(*server) as process:
            self.await_health(process)
            print(welcome(self.url, read_sign_ins(self.home / SIGN_INS_FILE)), flush=True)  # noqa: T201
            self.serving = True
            with self.traffic():
                code = process.wait()
            raise DemoError(f"the portal ended by itself (exit code {code}); see above.")

    @contextlib.contextmanager
    def notary(self) -> Iterator[None]:
        """Run the notary meanwhile, where the signing key is ours; elsewhere somebody else runs it."""
        if not (self.is_embedded and (self.home / SIGNING_KEY).exists()):
            yield
            return
        with self.process("manage.py", "notary", "run", output=subprocess.DEVNULL):
            yield

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Run the simulated collectors meanwhile, if they were asked for; they end before the portal does."""
        if not self.with_traffic:
            yield
            return
        options = (f"--home={self.home}", f"--port={self.receiver_port}")
        with self.process("-m", "portal.demo_traffic", *options):
            yield

    def await_health(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the portal answers on /healthz."""
        deadline = time.monotonic() + START_SECONDS
        while not is_healthy(self.port):
            if process.poll() is not None:
                raise DemoError("the portal could not start; see above.")
            if time.monotonic() > deadline:
                raise DemoError(f"the portal did not answer on {self.url}/healthz within {START_SECONDS} s.")
            time.sleep(0.1)

    @contextlib.contextmanager
    def process(self, *arguments: str, output: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run Python in a process group of its own, so that we, not the terminal, stop it."""
        with contextlib.ExitStack() as stack:
            with self.signals.held():
                process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                    [sys.executable, *arguments],
                    cwd=config.BASE_DIR,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    start_new_session=True,
                )
                stack.callback(end, process)
            yield process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code: 0 after a stop that was asked for, else 1 or 128 + the signal."""
    options = parsed(arguments)
    demo = Demo(config.home().absolute(), options.port, with_traffic=options.traffic)
    demo.signals.listen()
    try:
        demo.run(reset=options.reset)
    except Stopped as stopped:
        say("stopped")
        return 0 if demo.serving else stopped.exit_code
    except OSError as error:
        say(f"{error.filename or demo.home}: {error.strerror or error}")
    except psycopg.Error as error:
        say(f"PostgreSQL: {' '.join(str(error).split())}")
    except (DemoError, DsnError, EmbeddedError) as error:
        say(str(error))
    return 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options `port`, `reset` and `traffic`; exit with 2 where they are wrong."""
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (8000)")
    parser.add_argument("--reset", action="store_true", help="delete the earlier demo's data first")
    parser.add_argument(
        "--traffic",
        action="store_true",
        help="rotate a key of three regions while they use it, and show webhooks",
    )
    options = parser.parse_args(arguments)
    if options.port not in range(1, MAX_PORT + 1):
        parser.error("--port is a number from 1 to 65535")
    return options


@contextlib.contextmanager
def only_one(home: Path, url: str) -> Iterator[None]:
    """Hold the folder's lock, which names where this demo runs. Raises `DemoError` where another holds it."""
    make_private_folder(home)
    with (home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise DemoError(f"already running at {lock.read().strip() or home}") from error
        lock.truncate(0)
        lock.write(url)
        lock.flush()
        yield


def read_env(path: Path) -> dict[str, str]:
    """Return the `KEY=value` lines of a file, nothing where there is none."""
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def replace_private(path: Path, text: str) -> None:
    """Write a file of mode 600, whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(path)


def is_healthy(port: int) -> bool:
    """Say whether /healthz answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and its group: kindly, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)


def read_sign_ins(path: Path) -> list[dict[str, str]]:
    """Return the sign-ins that `demo_data` wrote (column → text, the same columns in each), or none."""
    try:
        return list(json.loads(path.read_text())["people"])
    except FileNotFoundError:
        return []


def welcome(url: str, sign_ins: list[dict[str, str]]) -> str:
    """Return what the person reads when all is up: addresses, and a table of who may sign in."""
    places = (("Portal", ""), ("Admin site", "/admin/"), ("API", "/v1/docs"), ("Mail", "/dev/mail"))
    addresses = [(name, f"{url}{path}") for name, path in places]
    blocks = [table(addresses)]
    if sign_ins:
        columns = list(sign_ins[0])
        header = [column.replace("_", " ").capitalize() for column in columns]
        blocks.append(table([header, *([row[column] for column in columns] for row in sign_ins)]))
    return "\n" + "\n\n".join([*blocks, "  Ctrl-C stops it."]) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def say(message: str) -> None:
    """Write one line of progress or of what went wrong."""
    print(f"demo: {message}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
