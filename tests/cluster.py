"""The throw-away PostgreSQL of a test run: one server, one migrated template, one clone for each process.

Where it will be is settled, and the environment set, before Django reads its settings (`tests.settings`);
it is started by the first test that needs it, under a lock, whichever worker runs that. Who laid it out stops
it: `tests.run`, else pytest's controller, also when interrupted. What a killed run left, the next one clears.
"""

import atexit
import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from portal import database_roles
from portal.embedded import Cluster, locked

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "KEYSTEAD_TEST_CLUSTER"
# Set where the run's cluster keeps what a crash would lose: `./dev bench` measures what production pays.
DURABLE = "KEYSTEAD_TEST_DURABLE"
PREFIX = "keystead-tests-"
ON_DISK = "/var/tmp"
TEMPLATE = "keystead_template"
MIGRATION_SECONDS = 180
SETTINGS = {
    "KEYSTEAD_SECRET_KEY": "tests-only-" + "k" * 50,
    "KEYSTEAD_PEPPER": "1:" + "5a" * 32,
    "KEYSTEAD_ENCRYPTION_KEYS": "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=",
    "KEYSTEAD_BASE_URL": "http://127.0.0.1:8000",
    "LEDGER_ORIGIN_HOST": "ledger.example",
    # Of the vectors' key 1, whose seed is the SHA-256 of "TEST ONLY ledger log key 1".
    "LEDGER_PUBLIC_KEY": (
        "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEA84LaDhzNKqw8t0hpVmhVAkxOYL93Qlr3aA07eEQtxdA=\n"
        "-----END PUBLIC KEY-----\n"
    ),
    "KEYSTEAD_LOG_LEVEL": "WARNING",
}
# Of the person's own shell: would reach the tests and make them say something else there.
FOREIGN = ("KEYSTEAD_", "DATABASE_", "LEDGER_", "TRUSTED_PROXIES", "REPLICA_URL", "DJANGO_")


def lay_out(*, durable: bool = False) -> None:
    """Settle where this run's cluster is, point the environment at this process's clone; start nothing.

    A durable one is on a disk, where the temporary folder may be memory.
    """
    if VARIABLE not in os.environ:
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ON_DISK if durable else None))
        own = os.open(folder / "owner", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(own, fcntl.LOCK_EX)
        atexit.register(_discard, folder, os.getpid())
        _clear_environment()
        os.environ[VARIABLE] = str(folder)
        if durable:
            os.environ[DURABLE] = "1"
    cluster().prepare()
    os.environ.update(_environment(database()))


def cluster() -> Cluster:
    """Return this run's cluster, started or not."""
    return Cluster(folder() / "cluster", durable=DURABLE in os.environ)


def folder() -> Path:
    """Return this run's folder."""
    return Path(os.environ[VARIABLE])


def database() -> str:
    """Return the name of this process's clone."""
    return f"keystead_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


def ensure() -> None:
    """Start the cluster where it is not, migrate the template once, and make this process's clone."""
    with locked(folder() / "ready"):
        cluster().start()
        with psycopg.connect(cluster().url(), autocommit=True) as connection:
            if not _exists(connection, TEMPLATE):
                _make_template(connection)
            if not _exists(connection, database()):
                database_roles.create_database(connection, database(), template=TEMPLATE)


def new_clone(name: str) -> dict[str, str]:
    """Make one more clone, for a test that must have a database of its own; return its environment."""
    ensure()
    with psycopg.connect(cluster().url(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        database_roles.create_database(connection, name, template=TEMPLATE)
    return _environment(name)


def _make_template(connection: psycopg.Connection) -> None:
    """Migrate under another name and rename at the end, so that a broken-off try is no template."""
    draft = f"{TEMPLATE}_draft"
    connection.execute(f"DROP DATABASE IF EXISTS {draft} WITH (FORCE)".encode())
    passwords = {login: cluster().password(login) for login in database_roles.LOGINS}
    database_roles.set_up(cluster().url(), draft, passwords)
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity=0"],
        cwd=ROOT,
        env=dict(os.environ) | _environment(draft) | {"DJANGO_SETTINGS_MODULE": "portal.settings"},
        capture_output=True,
        text=True,
        timeout=MIGRATION_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"migrating the tests' template failed:\n{done.stdout}{done.stderr}")
    connection.execute(f"ALTER DATABASE {draft} RENAME TO {TEMPLATE}".encode())


def _exists(connection: psycopg.Connection, name: str) -> bool:
    found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
    return found.rowcount == 1


def _environment(name: str) -> dict[str, str]:
    passwords = {login: cluster().password(login) for login in database_roles.LOGINS}
    urls = database_roles.login_urls(cluster().url(), name, passwords)
    return SETTINGS | urls | {"KEYSTEAD_HOME": str(folder() / "home")}


def _clear_environment() -> None:
    for name in [name for name in os.environ if name.startswith((*FOREIGN, "PG"))]:
        if name != "DJANGO_SETTINGS_MODULE":
            del os.environ[name]


def _discard(folder: Path, owner: int) -> None:
    """Stop the run's cluster and delete its folder, unless this is a fork of the process that made it."""
    if os.getpid() != owner:
        return
    Cluster(folder / "cluster", durable=False).erase()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Discard what killed runs left behind: folders whose owner's lock nobody holds any more."""
    for left in itertools.chain.from_iterable(
        Path(where).glob(f"{PREFIX}*") for where in {tempfile.gettempdir(), ON_DISK}
    ):
        if left.is_symlink() or left.stat().st_uid != os.geteuid() or not (left / "owner").exists():
            continue
        with (left / "owner").open("r+") as own, contextlib.suppress(BlockingIOError):
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _discard(left, os.getpid())
