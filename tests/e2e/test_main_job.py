"""The main job, from one end to the other: made in the browser, verified over HTTP, rotated, revoked, and told."""

import os
import subprocess
import sys

from playwright.sync_api import Browser, Page, expect

from tests import builders, cluster
from tests.e2e import steps
from tests.e2e.conftest import complaints_of
from tests.e2e.serving import ROOT, Server

KEY_PAGES = (
    "",
    "/activity",
    "/access",
    "/edit",
    "/edit/scopes",
    "/edit/limits",
    "/edit/rotation",
    "/rotate",
    "/revoke",
)
KEY_POSTS = ("/rotate", "/rotate/preview", "/revoke", "/disable", "/enable", "/edit")


def test_from_the_first_key_to_its_end(page: Page, browser: Browser, server: Server) -> None:
    alice, mallory = builders.person("Alice"), builders.person("Mallory")
    acme = builders.organization("Acme", owner=alice)
    elsewhere = builders.organization("Elsewhere", owner=mallory)
    verifier = steps.verifier(acme, alice)
    steps.sign_in(page, alice)

    first = steps.create_key(page, "noc-bridge")
    key_id = steps.done(page)
    expect(page.get_by_text("never").first).to_be_visible()
    assert steps.verify(server.url, verifier, first) == "VALID"
    page.reload()
    expect(page.locator(".facts").first).to_contain_text("just now 203.0.113.9")

    second = steps.rotate(page, key_id)
    assert [steps.verify(server.url, verifier, each) for each in (first, second)] == ["VALID", "VALID"]
    _end_grace(key_id)
    assert steps.verify(server.url, verifier, first) == "SECRET_RETIRED"
    assert steps.verify(server.url, verifier, second) == "VALID"

    steps.revoke(page, key_id, "noc-bridge", note="Seen in a public repository.")
    assert [steps.verify(server.url, verifier, each) for each in (first, second)] == ["REVOKED", "REVOKED"]

    _log_tells_all(page, key_id)
    _ledger_agrees(acme.id)
    _stranger_finds_nothing(browser, server, mallory, key_id)
    assert steps.verify(server.url, steps.verifier(elsewhere, mallory), second) == "NOT_FOUND"


def _end_grace(key_id: str) -> None:
    """What a day of waiting does; the database lets an acceptance end sooner, and nobody but a superuser here."""
    with steps.superuser() as connection:
        ended = connection.execute(
            "UPDATE keys_keysecret SET accepted_until = now() - interval '1 second' WHERE key_id = %s AND version = 1",
            [key_id],
        )
    assert ended.rowcount == 1


def _log_tells_all(page: Page, key_id: str) -> None:
    page.goto(f"/log?target={key_id}")
    acts = page.locator("table.entries .c-name").all_inner_texts()
    assert acts == ["key.revoked", "rotation.started", "key.created"]
    page.goto(f"/keys/{key_id}/activity")
    for act in acts:
        expect(page.locator("#main")).to_contain_text(act)
    page.locator("#main a[href^='/log/']").first.click()
    expect(page.locator("#main")).to_contain_text("Seen in a public repository.")


def _ledger_agrees(organization_id: str) -> None:
    environment = cluster._environment(cluster.database()) | {"DJANGO_SETTINGS_MODULE": "portal.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", "ledger", "verify", f"--organization={organization_id}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _stranger_finds_nothing(browser: Browser, server: Server, mallory: object, key_id: str) -> None:
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    complaints = complaints_of(page)
    steps.sign_in(page, mallory)
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    for part in KEY_PAGES:
        answer = page.goto(f"/keys/{key_id}{part}")
        assert answer is not None
        assert answer.status == 404, part
        assert "noc-bridge" not in page.content()
    for part in KEY_POSTS:
        sent = context.request.post(f"/keys/{key_id}{part}", form={"csrfmiddlewaretoken": token})
        assert sent.status == 404, part
    page.goto(f"/log?target={key_id}")
    expect(page.locator("table.entries")).to_have_count(0)
    assert not complaints
    context.close()
