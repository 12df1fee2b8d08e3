"""What every test has: a database where its folder needs one, and no way off this machine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from django.core.cache import cache
from django.db import connections
from pytest_django import DjangoDbBlocker

from keys.verification import batcher, engine, running
from tests import builders, cluster, key_builders, loopback, watching

# Playwright's sync interface keeps an event loop on the main thread, which Django takes for an async caller.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
loopback.guard()

TESTS = Path(__file__).resolve().parent
LONGEST = frozenset(
    {"test_demo.py", "test_dying.py", "test_syscalls.py", "test_worker.py", "test_demo_data.py"}
)
WITH_DATABASE = frozenset({"db", "webhooks", "web", "api", "sdk", "e2e", "stream", "gateway", "notary", "go"})


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # The default is to die at once, and the cluster would stay behind.
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse what would wrap a test in a transaction or flush tables, which the ledger's triggers forbid.

    The longest go first, so that none of them is left to run alone at the end.
    """
    for item in items:
        if item.get_closest_marker("django_db") or {"db", "transactional_db"} & set(_fixtures(item)):
            raise pytest.UsageError(
                f"{item.nodeid}: neither django_db nor its fixtures; see WITH_DATABASE in tests/conftest.py"
            )
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Start the shared cluster where it is not, make this process's clone, and declare the scopes in it."""
    cluster.ensure()
    with django_db_blocker.unblock():
        key_builders.catalogue()
    yield
    with django_db_blocker.unblock():
        connections.close_all()


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the verification in this process take, beside other tests, what is an outage elsewhere.

    What is `timed` runs alone and keeps the product's own bounds.
    """
    if not request.node.get_closest_marker("timed"):
        monkeypatch.setattr(batcher, "PATIENCE_SECONDS", 20)
        monkeypatch.setattr(running, "ANSWER_SECONDS", 30)
        monkeypatch.setattr(engine, "SETTINGS", "-c plan_cache_mode=force_generic_plan")


@pytest.fixture(scope="module")
def cast(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> builders.Cast:
    """Two organizations of this module's own with their people."""
    with django_db_blocker.unblock():
        return builders.cast()


@pytest.fixture(scope="module")
def watch(django_db_setup: None) -> Iterator[watching.Watch]:
    """A watch over every table, for changes without an entry."""
    with watching.installed() as found:
        yield found


@pytest.fixture(autouse=True)
def _database(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let a test of `WITH_DATABASE` reach the database; what it changes, it commits."""
    if request.path.relative_to(TESTS).parts[0] not in WITH_DATABASE:
        yield
        return
    request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        # All tests come from one address, and more often than a person may.
        cache.clear()
        yield
        left_open = [alias for alias in connections if connections[alias].in_atomic_block]
        assert not left_open, f"the test left a transaction open on {left_open}"


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
