"""Everything works in a browser that runs no scripts: whole pages, plain forms, menus that open by themselves."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import builders, key_builders, usage_builders
from tests.e2e import steps
from tests.e2e.conftest import TIMEOUT_MS, Acme
from tests.e2e.serving import Server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(
        base_url=server.url, viewport={"width": 1440, "height": 900}, java_script_enabled=False
    )
    context.set_default_timeout(TIMEOUT_MS)
    yield context.new_page()
    context.close()


def shows(page: Page, *names: str) -> None:
    """Wait until the list shows the keys of these names, in this order."""
    expect(page.locator("#rows a.name")).to_have_text(names)


def test_the_main_path(page: Page, server: Server, acme: Acme) -> None:
    verifier = steps.verifier(acme.where, acme.alice)
    steps.sign_in(page, acme.alice)
    first = steps.create_key(page, "plain-path", scripts=False)
    key_id = steps.done(page)
    assert steps.verify(server.url, verifier, first) == "VALID"
    second = steps.rotate(page, key_id)
    assert steps.done(page) == key_id
    assert [steps.verify(server.url, verifier, each) for each in (first, second)] == ["VALID", "VALID"]
    steps.revoke(page, key_id, "plain-path")
    assert steps.verify(server.url, verifier, second) == "REVOKED"


def test_looking_before_sending(page: Page, acme: Acme) -> None:
    """What scripts draw while somebody fills in a form, a button draws."""
    steps.sign_in(page, acme.alice)
    page.goto("/keys/new")
    page.locator("[name=kind][value=control_plane]").check(force=True)
    page.locator("[name=name]").fill("kept-over-looking")
    page.get_by_role("button", name="Update").click()
    expect(page.locator("[name=name]")).to_have_value("kept-over-looking")
    page.get_by_role("button", name="Read-only").click()
    expect(page.locator("[name=scopes][value='incidents:read']")).to_be_checked()
    expect(page.locator("[name=scopes][value='incidents:write']")).not_to_be_checked()
    expect(page.locator("#blast")).to_contain_text("incidents:read")
    key = key_builders.create(acme.where, acme.alice).key
    page.goto(f"/keys/{key.id}/rotate")
    page.locator("[name=mode][value=immediate]").check(force=True)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#drawn")).to_contain_text("refused from the moment")


def test_filter_search_and_sort(page: Page, acme: Acme) -> None:
    other = key_builders.create(acme.where, acme.alice, name="another", scopes=["incidents:write"])
    found = key_builders.create(acme.where, acme.alice, name="to-be-found", tags={"team": "noc"})
    steps.sign_in(page, acme.alice)
    page.locator("#filter-scope").click()
    page.get_by_role("link", name="incidents:write", exact=True).click()
    shows(page, "another")
    page.get_by_role("link", name=re.compile("^Remove the filter Scope")).click()
    shows(page, "to-be-found", "another")
    page.locator("summary[aria-label^='Sorted by']").click()
    page.locator(".menu-list a", has_text=re.compile("^Name")).click()
    shows(page, "another", "to-be-found")
    for text, where in (
        ("to-be", "?q=to-be"),
        (found.secret, f"/keys/{found.key.id}"),
        (other.key.id, other.key.id),
    ):
        page.goto("/")
        page.locator("#search").fill(text)
        page.locator("#search").press("Enter")
        expect(page).to_have_url(re.compile(re.escape(where) + "$"))
    page.goto("/?q=to-be")
    shows(page, "to-be-found")


def test_switch_organization_and_project(page: Page, acme: Acme) -> None:
    second = builders.organization("Second", owner=acme.alice)
    edge = builders.project(builders.root(acme.where), "Edge")
    key_builders.create(acme.where, acme.alice, name="at-edge", project=edge)
    key_builders.create(acme.where, acme.alice, name="at-root")
    key_builders.create(second, acme.alice, name="of-second")
    steps.sign_in(page, acme.alice)
    page.locator("summary[aria-label^='Organization:']").click()
    page.locator(f"button[value={second.id}]").click()
    shows(page, "of-second")
    page.locator("summary[aria-label^='Organization:']").click()
    page.locator(f"button[value={acme.where.id}]").click()
    shows(page, "at-root", "at-edge")
    page.locator("summary[aria-label^='Project:']").click()
    page.locator(f"button[value={edge.id}]").click()
    shows(page, "at-edge")


def test_row_menus_and_bulk(page: Page, acme: Acme) -> None:
    for name in ("one", "two"):
        key_builders.create(acme.where, acme.alice, name=name)
    steps.sign_in(page, acme.alice)
    page.get_by_label("Actions for one", exact=True).click()
    page.get_by_role("button", name="Disable", exact=True).first.click()
    expect(page.locator("#messages")).to_contain_text("one is disabled")
    page.goto("/")
    page.get_by_label("Actions for two", exact=True).click()
    page.locator("details[open] a", has_text="Revoke").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Revoke two")
    page.goto("/")
    for name in ("one", "two"):
        page.get_by_label(f"Select {name}", exact=True).check()
    page.locator("#bulk").get_by_role("button", name="Add tag").click()
    page.locator("[name=name]").fill("team")
    page.locator("[name=value]").fill("core")
    page.get_by_role("button", name="Tag 2 keys").click()
    expect(page.locator("#messages")).to_contain_text("Tagged 2 keys")
    page.goto("/?tag=team:core")
    shows(page, "two", "one")


def test_the_theme_is_the_systems_and_nothing_is_offered_in_vain(page: Page, acme: Acme) -> None:
    steps.sign_in(page, acme.alice)
    key_builders.create(acme.where, acme.alice, name="one")
    page.goto("/")
    colors = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        colors.append(page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor"))
    assert colors[0] != colors[1]
    page.locator("summary[aria-label$='your account']").click()
    expect(page.get_by_role("button", name="Dark")).to_be_hidden()
    page.get_by_label("Actions for one", exact=True).click()
    for name in ("Copy id", "Select all keys on this page"):
        expect(page.get_by_text(name).or_(page.get_by_label(name)).first).to_be_hidden()


def test_usage_is_looked_at_by_links_and_one_form(page: Page, acme: Acme) -> None:
    key = key_builders.create(acme.where, acme.alice).key
    usage_builders.calls(key, [{"endpoint": "/v1/places"}, {"at": usage_builders.ago(days=3)}])
    steps.sign_in(page, acme.alice)
    page.goto("/usage")
    expect(page.get_by_role("img", name="Calls in the last 24 hours")).to_be_visible()
    page.get_by_text("The same numbers as a table").click()
    expect(page.get_by_role("region", name="Calls in the last 24 hours")).to_be_visible()
    page.get_by_role("link", name="Endpoint", exact=True).click()
    page.get_by_role("link", name="/v1/places").click()
    expect(page).to_have_url(re.compile("endpoint=%2Fv1%2Fplaces"))
    page.get_by_text("From–to").click()
    page.get_by_label("From (UTC)").fill("2026-01-01T00:00")
    page.get_by_label("To (UTC)").fill("2026-01-02T00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="No call matches")).to_be_visible()
    page.get_by_role("link", name="Remove Endpoint").first.click()
    expect(page).to_have_url(re.compile("since=2026-01-01T00%3A00"))
    page.goto(f"/keys/{key.id}")
    page.get_by_label("About this key").get_by_role("link", name="Usage").click()
    expect(page.get_by_role("heading", name="Latest calls")).to_be_visible()
