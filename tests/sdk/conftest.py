"""The real portal on a port of its own, and clients of it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from keystead import AsyncKeystead, Keystead

from keys.services import Created
from tests import builders, cluster, key_builders
from tests.api import calls
from tests.e2e.serving import Server, serve
from tests.sdk.faulty import FaultyPortal

SOURCES = Path(__file__).resolve().parents[2] / "sdk" / "src"
SECONDS = 60
KEY = "ks_sv_live_" + "K" * 49


@pytest.fixture(scope="session")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(cluster._environment(cluster.database()), tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture
def own(cast: builders.Cast) -> Created:
    """The key that the service itself calls the portal with."""
    return calls.key(cast.acme, cast.alice)


@pytest.fixture
def client(server: Server, own: Created) -> Iterator[Keystead]:
    with Keystead(server.url, own.secret) as made:
        yield made


@dataclass(frozen=True)
class Portal:
    """Where the portal is, and a key that may call it; clients to be awaited belong to the loop that uses them."""

    url: str
    key: str

    def awaited(self) -> AsyncKeystead:
        return AsyncKeystead(self.url, self.key)


@pytest.fixture
def portal(server: Server, own: Created) -> Portal:
    return Portal(server.url, own.secret)


@pytest.fixture
def presented(cast: builders.Cast) -> Created:
    """A key of a customer's, with `incidents:read` alone."""
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def faulty() -> Iterator[FaultyPortal]:
    with FaultyPortal() as running:
        yield running


@pytest.fixture
def run(portal: Portal) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command `keystead` with the portal's address and a key in its environment."""

    def run(*arguments: str, given: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "KEYSTEAD_URL": portal.url,
            "KEYSTEAD_KEY": portal.key,
            **changes,
        }
        command = [sys.executable, "-m", "keystead", *arguments]
        done = subprocess.run(
            command,
            input=given,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert portal.key not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run
