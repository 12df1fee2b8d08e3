"""A ledger that anyone can check, by the parts that a customer has: portal, worker, notary, Chromium, SDK and Go.

All of it stands on a database of its own, whose ledgers nobody but this notary signs.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from playwright.sync_api import Browser, Page, expect

from audit import tenancy
from audit.models import Checkpoint
from keys import callers, services
from orgs.models import Organization, User
from orgs.roles import Role
from orgs.sessions import SessionStore
from tests import builders, cluster, key_builders, notaries, offline, outage
from tests.customer import Customer, commands
from tests.e2e import steps
from tests.e2e.conftest import complaints_of
from tests.e2e.serving import Server, beside, serve
from tests.notary.stage import until

SECONDS = 60
WAIT_MS = SECONDS * 1000
CASE = "Case 4711: an integration stopped at night"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A portal with its notary, where Bob of Acme and Mallory of Elsewhere have each revoked a key."""

    environment: dict[str, str]
    folder: Path
    server: Server
    acme: Organization
    alice: User
    dave: User
    kept: str

    def entry(self, act: str) -> int:
        """Return the number of Acme's only entry of an act."""
        [found] = [entry.i for entry in builders.entries(self.acme.id) if entry.act == act]
        return found

    def signed(self, index: int) -> bool:
        """Say whether the notary has published a checkpoint over an entry."""
        with tenancy.within(self.acme.id):
            newest = Checkpoint.objects.of(self.acme.id).newest()
        return newest is not None and newest.size > index


@pytest.fixture(scope="module")
def place(
    django_db_setup: None, django_db_blocker: Any, _argon: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    name, folder = f"{cluster.database()}_ledger", tmp_path_factory.mktemp("ledger")
    environment = cluster.new_clone(name)
    notaries.new(folder / "notary")
    with (
        django_db_blocker.unblock(),
        _working_in(name),
        serve(environment, folder) as server,
        beside(environment, folder, "notary", "run", f"--folder={folder / 'notary'}"),
    ):
        yield Place(environment=environment, folder=folder, server=server, **_seed())


@pytest.fixture(scope="module")
def server(place: Place) -> Server:
    """The portal that this module's browser opens."""
    return place.server


@contextlib.contextmanager
def _working_in(database: str) -> Iterator[None]:
    """Let this process's logins work in another database."""
    earlier = {alias: connections[alias].settings_dict["NAME"] for alias in connections}
    try:
        _move(dict.fromkeys(earlier, database))
        yield
    finally:
        _move(earlier)


def _move(databases: dict[str, str]) -> None:
    for alias, database in databases.items():
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = database


def _seed() -> dict[str, Any]:
    key_builders.catalogue()
    alice, bob, mallory = map(builders.person, ("Alice", "Bob", "Mallory"))
    acme = builders.organization("Acme", owner=alice)
    builders.join(bob, acme, Role.ADMIN)
    _revoke(acme, bob, "billing")
    _revoke(builders.organization("Elsewhere", owner=mallory), mallory, "theirs")
    return {
        "acme": acme,
        "alice": alice,
        "dave": builders.person("Dave", staff_role="support"),
        "kept": key_builders.create(acme, alice, name="kept").key.id,
    }


def _revoke(where: Organization, by: User, name: str) -> None:
    key = key_builders.create(where, by, name=name).key
    with tenancy.within(where.id):
        services.revoke_key(key, actor=callers.of_member(builders.member(by, where)), reason="leaked")


class TestChecking:
    """An owner downloads the log, and what was changed in it is found without the portal."""

    def test_a_bundle_is_exported_and_checked_and_one_byte_is_found(
        self, page: Page, place: Place, tmp_path: Path
    ) -> None:
        index = place.entry("key.revoked")
        until(SECONDS, lambda: place.signed(index))
        steps.sign_in(page, place.alice, at="/log")
        expect(page.locator("#seal")).to_contain_text("Signed up to entry")
        customer = _customer(page, tmp_path)
        _export(page, place, customer.folder / "bundle.zip")
        checked = customer.run("pin", "verify", "go_build", "go_verify")
        assert checked.stderr == ""
        assert checked.stdout.splitlines().count("0") == 2, checked.stdout
        assert "are what was sealed" in checked.stdout
        assert f"good: {settings.LEDGER_ORIGIN_HOST}/ledger/{place.acme.id}, " in checked.stdout

        _change_a_byte(customer.folder / "bundle.zip", index)
        for command in ("verify", "go_verify"):
            refused = customer.run(command)
            assert refused.stdout.splitlines()[-1] == "1", command
            assert f"entry {index}: altered: " in refused.stderr, command

    def test_the_proof_of_one_entry(self, page: Page, place: Place, tmp_path: Path) -> None:
        index = place.entry("key.revoked")
        until(SECONDS, lambda: place.signed(index))
        steps.sign_in(page, place.alice, at="/log?act=key.revoked")
        page.get_by_role("link", name=f"Entry {index}: key.revoked").click()
        names = (f"entry-{index}.json", f"entry-{index}.tlog-proof")
        for name in names:
            _save(page, name, tmp_path / name)
        of_entry = {name: page.locator(f"#{name}-command").inner_text() for name in ("hash", "sdk", "go")}
        leaf_hash = page.locator("#leaf-hash").inner_text()
        customer = _customer(page, tmp_path)
        customer.shown |= of_entry
        assert customer.run("go_build").returncode == 0
        assert customer.run("hash").stdout.startswith(leaf_hash)
        assert [customer.run(command).returncode for command in ("sdk", "go")] == [0, 0]
        leaf = tmp_path / names[0]
        leaf.write_bytes(leaf.read_bytes().replace(b"usr_", b"usr-"))
        assert [customer.run(command).returncode for command in ("sdk", "go")] == [1, 1]


class TestSupport:
    """Support finds who revoked a key, looks at it, and is seen looking."""

    def test_a_visit_from_the_search_to_the_customers_log(
        self, page: Page, browser: Browser, place: Place
    ) -> None:
        steps.sign_in(page, place.dave)
        page.get_by_label("Reason").fill(CASE)
        page.get_by_role("button", name="Begin").click()
        page.get_by_label("Action").select_option("key.revoked")
        page.get_by_role("button", name="Search", exact=True).click()
        rows = page.locator("table.entries tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="Elsewhere")).to_contain_text("Mallory")
        expect(rows.filter(has_text="Acme")).to_contain_text("Bob")

        rows.filter(has_text="Acme").get_by_role("link").click()
        expect(page.get_by_label("Reason")).to_have_value(CASE)
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("key.revoked")
        expect(page.get_by_label("Support visit")).to_contain_text(CASE)
        _reads_alone(page, place)

        page.get_by_role("button", name="Leave").click()
        expect(page.locator("#messages")).to_contain_text("You have left")
        page.goto(f"/keys/{place.kept}")
        assert page.url.endswith("/support")
        _the_customer_sees_it(browser, place)
        environment = {**os.environ, **place.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
        outage.run(environment, "manage.py", "ledger", "verify")


def _customer(page: Page, folder: Path) -> Customer:
    """Take along what the customers' page says, and its program."""
    page.goto("/log")
    page.get_by_role("link", name="How to check this without us").click()
    page.get_by_role("heading", name="How to check this ledger without us").wait_for()
    _save(page, "check_ledger.go", folder / "check_ledger.go")
    return Customer(folder, commands(page.content()))


def _export(page: Page, place: Place, path: Path) -> None:
    """Export a bundle, as somebody who signed in long ago; the worker begins while they look on."""
    page.goto("/log")
    page.get_by_role("link", name="Export").click()
    _step_down(page)
    page.get_by_role("button", name="Make the bundle").click()
    page.get_by_label("Password").fill(builders.PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="Make the bundle").click()
    expect(page.locator("#exports")).to_contain_text("Waiting")
    with beside(place.environment, place.folder, "worker"):
        expect(page.locator("#exports")).to_contain_text("Ready", timeout=WAIT_MS)
    _save(page, "Download", path)


def _save(page: Page, link: str, path: Path) -> None:
    with page.expect_download() as downloading:
        page.get_by_role("link", name=link, exact=True).first.click()
    downloading.value.save_as(path)


def _step_down(page: Page) -> None:
    """Let the browser's person have given their password an hour ago."""
    [cookie] = [each for each in page.context.cookies() if each["name"] == settings.SESSION_COOKIE_NAME]
    session = SessionStore(cookie["value"])
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()


def _change_a_byte(path: Path, index: int) -> None:
    """Write a bundle anew, in which one byte of one entry is another one."""
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    lines = members["entries.jsonl"].splitlines(keepends=True)
    changed = lines[index].replace(b'"leaked"', b'"leaket"')
    assert sum(one != other for one, other in zip(lines[index], changed, strict=True)) == 1
    lines[index] = changed
    offline.write(path, members | {"entries.jsonl": b"".join(lines)})


def _reads_alone(page: Page, place: Place) -> None:
    """See a key, and change nothing, on the page and past it."""
    page.goto("/")
    page.get_by_role("link", name="kept").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("kept")
    expect(page.locator("main form[method=post]")).to_have_count(0)
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    for part in ("rotate", "revoke", "edit"):
        answer = page.goto(f"/keys/{place.kept}/{part}")
        assert answer is not None
        assert answer.status == 403, part
    for part in ("rotate", "revoke", "disable"):
        form = {"csrfmiddlewaretoken": token, "reason": "leaked", "confirmation": "kept"}
        sent = page.context.request.post(f"/keys/{place.kept}/{part}", form=form)
        assert sent.status == 403, part
    page.goto("/")
    assert key_builders.read(place.kept, place.acme).revoked_at is None


def _the_customer_sees_it(browser: Browser, place: Place) -> None:
    context = browser.new_context(base_url=place.server.url)
    page = context.new_page()
    complaints = complaints_of(page)
    steps.sign_in(page, place.alice, at="/log?act=support.*")
    acts = page.locator("table.entries .c-name").all_inner_texts()
    # The search that showed them an entry, and four pages.
    assert (acts[0], acts.count("support.opened"), acts[-1]) == ("support.closed", 1, "support.viewed")
    assert acts.count("support.viewed") >= 5
    [opened] = page.locator("table.entries tbody tr").filter(has_text="support.opened").all()
    expect(opened).to_contain_text("Dave")
    expect(opened).to_contain_text(CASE)
    page.get_by_role("link", name="support.viewed").last.click()
    expect(page.locator("#main")).to_contain_text(CASE)
    assert not complaints
    context.close()
