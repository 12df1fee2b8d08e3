"""A real server, a real browser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.test import override_settings
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from orgs.models import Organization, User
from tests import browser as chromium
from tests import builders, cluster
from tests.e2e.serving import Server, serve

# How long a page may take on a busy machine, for what is done and for what is expected.
TIMEOUT_MS = 15_000
expect.set_options(timeout=TIMEOUT_MS)
# An answer of 4xx, and a request that the next page cut off; any other end of one has an event of its own besides.
NO_COMPLAINT = re.compile(r"the server responded with a status of 4|^htmx:(sendAbort|afterRequest)\b")


@pytest.fixture(scope="package", autouse=True)
def _argon() -> Iterator[None]:
    """Hash as the server does, which knows no other way."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.Argon2PasswordHasher"]):
        yield


@pytest.fixture(scope="session")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(cluster._environment(cluster.database()), tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(**chromium.launch_options())
        yield running
        running.close()


@pytest.fixture
def context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    opened = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(TIMEOUT_MS)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page whose console must stay silent: a CSP violation or a script error fails the test."""
    opened = context.new_page()
    complaints = complaints_of(opened)
    yield opened
    assert not complaints


@dataclass(frozen=True)
class Acme:
    """An organization of its own, and Alice, who owns it."""

    where: Organization
    alice: User


@pytest.fixture
def acme() -> Acme:
    alice = builders.person("Alice")
    return Acme(builders.organization("Acme", owner=alice), alice)


def complaints_of(page: Page) -> list[str]:
    """Return the list that every error on the page's console is added to, but for `NO_COMPLAINT`."""
    complaints: list[str] = []

    def said(message) -> None:
        if message.type in {"error", "warning"} and not NO_COMPLAINT.search(message.text):
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    return complaints
