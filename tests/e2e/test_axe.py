"""axe finds nothing on any page, in either theme, wide or on a phone; nothing is wider than the window.

A page is loaded once: axe looks at all of it in light, at its colors again in dark, then the window is made narrow.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from keys.governance import Step
from orgs.roles import Role
from tests import builders, bundles
from tests import governance_builders as gov
from tests.e2e import showroom, steps
from tests.e2e.conftest import TIMEOUT_MS, complaints_of
from tests.e2e.serving import Server
from tests.e2e.showroom import Showroom

AXE = Axe()
RUN = "options => axe.run(options).then(found => found.violations)"
EVERYTHING: dict[str, Any] = {"resultTypes": ["violations"]}
COLORS = EVERYTHING | {"runOnly": ["color-contrast", "link-in-text-block"]}
WIDE, ZOOMED, PHONE = 1440, 720, 390


@pytest.fixture(scope="package")
def room(django_db_setup: None, django_db_blocker: Any, _argon: None) -> Showroom:
    """Made once for each worker: one that took over some of these tests may come back to others."""
    with django_db_blocker.unblock():
        return showroom.build()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page whose console stays silent and whose colors do not fade from one theme to the other."""
    context = browser.new_context(
        base_url=server.url, viewport={"width": WIDE, "height": 900}, reduced_motion="reduce"
    )
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(AXE.axe_script)
    opened = context.new_page()
    complaints = complaints_of(opened)
    yield opened
    context.close()
    assert not complaints


def look(page: Page, *, narrow: bool = False) -> list[str]:
    """Return what is wrong with the page as it is now; `narrow` has axe look at it on a phone, too."""
    at = page.evaluate("location.pathname + location.search + ' · ' + document.title")
    wrong = [f"{at} · light: {each}" for each in _violations(page, EVERYTHING)]
    page.emulate_media(color_scheme="dark")
    wrong += [f"{at} · dark: {each}" for each in _violations(page, COLORS)]
    for width in (ZOOMED, PHONE):
        page.set_viewport_size({"width": width, "height": 844})
        needed = page.evaluate("document.documentElement.scrollWidth")
        wrong += [f"{at} · {width}: needs {needed}"] if needed > width else []
    if narrow:
        wrong += [f"{at} · phone, dark: {each}" for each in _violations(page, EVERYTHING)]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDE, "height": 900})
    return wrong


def _violations(page: Page, options: dict[str, Any]) -> list[str]:
    return [
        f"{found['id']} at {' '.join(map(str, node['target']))}: {node['html'][:160]} {node['failureSummary']}"
        for found in page.evaluate(RUN, options)
        for node in found["nodes"]
    ]


def visit(page: Page, *addresses: str, status: int = 200, narrow: bool = False) -> list[str]:
    """Look at pages that are there for the asking."""
    wrong = []
    for address in addresses:
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == status, (address, answer.status)
        wrong += look(page, narrow=narrow)
    return wrong


def test_the_instrument(page: Page, room: Showroom) -> None:
    """A page that is wrong in each of these ways is found wrong."""
    page.goto("/login")
    page.evaluate("""() => {
        const wrong = document.createElement("section");
        wrong.className = "wrong";
        wrong.innerHTML = "<img src=/static/favicon.svg><p>Grey in the dark.</p>";
        document.querySelector("main").append(wrong);
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(".wrong { width: 900px } @media (prefers-color-scheme: dark) { .wrong p { color: #333 } }");
        document.adoptedStyleSheets = [sheet];
    }""")
    wrong = "\n".join(look(page))
    for part in ("light: image-alt", "dark: color-contrast", "720: needs", "390: needs"):
        assert part in wrong, wrong


def test_signed_out(page: Page, room: Showroom) -> None:
    wrong = visit(page, "/login", f"/join/{room.token}", narrow=True)
    page.goto("/login")
    page.locator("[name=login]").fill("nobody@example.com")
    page.locator("[name=password]").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.locator(".note.bad, .error").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_keys(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "empty")
    wrong = visit(page, "/")
    _enter(page, room, "where")
    wrong += visit(page, "/?status=any&sort=name", narrow=True)
    wrong += visit(page, "/?kind=control_plane&tag=tag-1:x&q=nothing", f"/?project={room.edge.id}")
    page.goto("/")
    for opened in ("Actions for rotated", "your account", "Organization:", "Sorted by"):
        page.locator(f"summary[aria-label*='{opened}']").click()
        wrong += look(page)
        page.keyboard.press("Escape")
    page.locator("#filter-scope").click()
    wrong += look(page)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    wrong += look(page)
    page.keyboard.press("Escape")
    for act in ("Revoke", "Set owner"):
        page.goto("/")
        for name in ("rotated", "full"):
            page.get_by_label(f"Select {name}", exact=True).check()
        page.locator("#bulk").get_by_role("button", name=act).click()
        page.get_by_role("heading", name="2 keys?").wait_for()
        wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_a_new_key(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "where")
    wrong = visit(page, "/keys/new", narrow=True)
    page.locator("[name=kind][value=service]").check(force=True)
    page.locator("[name=environment]").first.check(force=True)
    page.locator("[name=name]").fill("Not A Name")
    page.locator("[name=owner][value=team]").check(force=True)
    page.get_by_role("button", name="Create key").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    steps.create_key(page, "just-made")
    wrong += look(page, narrow=True)
    page.goto(f"/keys/{room.full}/rotate")
    wrong += look(page)
    page.get_by_role("button", name="Rotate", exact=True).click()
    steps.secret_on(page)
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_a_key(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "where")
    wrong = visit(page, f"/keys/{room.full}", narrow=True)
    of_full = ("activity", "access", "edit", "edit/scopes", "edit/limits", "edit/rotation", "revoke")
    wrong += visit(page, *(f"/keys/{room.full}/{part}" for part in of_full))
    wrong += visit(
        page, f"/keys/{room.rotated}/rotate", f"/keys/{room.rotated}", f"/keys/{room.rotated}/revoke"
    )
    wrong += visit(page, *(f"/keys/{each}" for each in (room.revoked, room.disabled)))
    wrong += visit(page, f"/keys/{room.disabled}/rotate", f"/keys/{room.revoked}/revoke")
    page.goto(f"/keys/{room.full}/edit")
    page.locator("[name=name]").fill("Not A Name")
    page.get_by_role("button", name="Save").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_usage(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "empty")
    wrong = visit(page, "/usage")
    _enter(page, room, "where")
    wrong += visit(page, "/usage", f"/keys/{room.full}/usage", narrow=True)
    wrong += visit(page, "/usage?range=7d&by=endpoint", "/usage?region=nowhere&since=2026-01-01")
    wrong += visit(page, f"/keys/{room.disabled}/usage", f"/keys/{room.full}/usage?range=1h")
    page.goto("/usage")
    page.get_by_text("The same numbers as a table").click()
    page.locator("#filter-range").click()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_approvals(page: Page, room: Showroom) -> None:
    admin = builders.person("Admin")
    builders.join(admin, room.where, Role.ADMIN)
    bound = gov.bound_key(room.where, admin).key
    free = gov.bound_key(room.where, admin, approval_bound=False).key
    words = {"resource": showroom.RTL, "reason": showroom.LONG * 3, "incident": "INC-7"}
    plan = [Step(showroom.LONG, gov.digest()), Step("b", gov.digest()), Step(showroom.RTL, gov.digest("c"))]
    waiting = gov.request(
        bound, parameters={"to": showroom.LONG}, parameters_digest=None, steps=plan, **words
    )
    granted = gov.granted(room.where, bound, room.owner, steps=plan, **words)
    denied = gov.deny(gov.request(bound, gov.person(admin, room.where)), room.where, room.owner)
    done = gov.execute(
        bound, granted, steps=[plan[0], Step("b", gov.digest("other")), Step("d", gov.digest())]
    )
    steps.sign_in(page, room.owner)
    _enter(page, room, "empty")
    wrong = visit(page, "/approvals", "/approvals/new")
    _enter(page, room, "where")
    wrong += visit(page, "/approvals", f"/approvals/{waiting.id}", f"/executions/{done.id}", narrow=True)
    wrong += visit(page, f"/approvals/{granted.id}", f"/approvals/{denied.id}", "/approvals?status=expired")
    wrong += visit(page, "/trace?incident=INC-7", narrow=True)
    wrong += visit(page, "/trace", "/trace?request_id=nothing", f"/keys/{free.id}/bind", f"/keys/{bound.id}")
    page.goto("/approvals/new")
    page.get_by_label("Reason").fill("Without parameters")
    page.get_by_role("button", name="Ask for approval").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_the_log(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "where")
    wrong = visit(page, "/log", narrow=True)
    wrong += visit(page, "/log?act=key.*", "/log?act=rotation.completed&target=x", "/log/0", "/log/12")
    wrong += visit(page, "/log?act=nothing", "/log?last=30d&q=key")
    bundles.sign(room.where.id)
    wrong += visit(page, "/log/1", "/log/check", narrow=True)
    page.goto("/log/1")
    page.get_by_text("The path, hash by hash").click()
    wrong += look(page)
    page.goto("/log")
    menu = page.locator("summary[aria-label^='Actions for entry']").first
    for opened in (page.locator("#filter-open-act"), menu):
        opened.click()
        wrong += look(page)
        page.keyboard.press("Escape")
    assert not wrong, "\n".join(wrong)


def test_exports_of_the_log(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "empty")
    wrong = visit(page, "/log/export")
    _enter(page, room, "where")
    showroom.exports_of(room)
    wrong += visit(page, "/log/export?act=key.*", narrow=True)
    page.get_by_text("Put an older checkpoint in").click()
    page.get_by_text("The columns").click()
    page.get_by_label("Actions for CSV", exact=True).first.click()
    wrong += look(page)
    page.keyboard.press("Escape")
    page.locator("[name=old_note]").fill("no note")
    page.get_by_role("button", name="Make the bundle").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_erasing_from_the_log(page: Page, room: Showroom) -> None:
    going, ended = showroom.erasures(room)
    steps.sign_in(page, room.owner)
    _enter(page, room, "where")
    wrong = visit(page, "/log/erase", f"/log/erase?person={room.owner.id}", narrow=True)
    wrong += visit(page, "/log/erase?person=usr_nobody", f"/log/erasures/{going}", f"/log/erasures/{ended}")
    page.goto(f"/log/erase?person={room.owner.id}")
    page.locator("[name=confirmation]").fill("somebody else")
    page.get_by_role("button", name="Erase").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_the_support_console(page: Page, room: Showroom) -> None:
    support = builders.person("Dave", staff_role="support")
    steps.sign_in(page, support)
    wrong = visit(page, "/support", "/support/begin", f"/support/open/{room.where.id}", narrow=True)
    page.goto("/support")
    page.get_by_label("Reason").fill("short" + " " * 20)
    page.get_by_role("button", name="Begin").click()
    page.locator(".error").first.wait_for()
    wrong += look(page)
    page.get_by_label("Reason").fill(showroom.LONG)
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("button", name="End searching").wait_for()
    wrong += look(page)
    found = f"/support?act=key.*&organization={room.where.id}"
    wrong += visit(page, found, narrow=True)
    wrong += visit(page, "/support?who=nobody.at.all", "/support?since=2026-01-01", "/support?act=nothing")
    page.goto(f"/support/open/{room.where.id}")
    page.get_by_role("button", name="Open").click()
    page.get_by_label("Support visit").wait_for()
    wrong += visit(page, "/", f"/keys/{room.full}", "/log/1", narrow=True)
    wrong += visit(page, "/log", "/log/check", "/usage", "/settings/members")
    wrong += visit(page, f"/keys/{room.full}/revoke", status=403)
    assert not wrong, "\n".join(wrong)


def test_webhooks(page: Page, room: Showroom) -> None:
    hook, delivery = showroom.webhook(room)
    steps.sign_in(page, room.owner)
    _enter(page, room, "empty")
    wrong = visit(page, "/webhooks")
    _enter(page, room, "where")
    wrong += visit(
        page, "/webhooks", f"/webhooks/{hook}", f"/webhooks/{hook}/deliveries/{delivery}", narrow=True
    )
    wrong += visit(page, "/webhooks/new", f"/webhooks/{hook}?state=failed")
    wrong += visit(page, *(f"/webhooks/{hook}/{part}" for part in ("edit", "rotate", "resend", "remove")))
    page.goto("/webhooks/new")
    page.get_by_label("URL").fill("https://10.0.0.1/")
    page.get_by_role("button", name="Create webhook").click()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_settings(page: Page, room: Showroom) -> None:
    steps.sign_in(page, room.owner)
    _enter(page, room, "where")
    wrong = visit(page, "/settings/members", "/settings/projects", narrow=True)
    wrong += visit(
        page,
        *(
            f"/settings/{part}"
            for part in ("organization", "members/invite", "environments", "policies", "scopes", "plan")
        ),
        "/settings/environments/new",
        f"/settings/environments/{room.environment}/rename",
        f"/settings/environments/{room.environment}/archive",
        f"/settings/members/{room.membership}",
        f"/settings/members/{room.membership}/remove",
        *(f"/settings/projects/{room.edge.id}/{part}" for part in ("new", "rename", "scopes", "archive")),
        "/account/password",
        "/account/confirm",
        "/logout",
    )
    page.goto("/settings/members/invite")
    page.locator("[name=email]").fill("somebody.else@example.com")
    page.locator("[name=role]").first.check(force=True)
    page.locator("main form button[type=submit]").click()
    page.get_by_text("/join/").first.wait_for()
    wrong += look(page)
    assert not wrong, "\n".join(wrong)


def test_refusals(page: Page, room: Showroom) -> None:
    """What somebody meets who may not, or who has lost their way."""
    steps.sign_in(page, room.viewer)
    wrong = visit(page, "/", f"/keys/{room.full}")
    wrong += visit(page, f"/keys/{room.full}/revoke", "/keys/new", status=403)
    wrong += visit(page, "/nowhere", "/keys/key_" + "a" * 20, status=404)
    wrong += visit(page, f"/join/{room.token}", status=200)
    assert not wrong, "\n".join(wrong)


def _enter(page: Page, room: Showroom, name: str) -> None:
    where = getattr(room, name)
    page.locator("summary[aria-label^='Organization:']").click()
    page.locator(f"button[name=organization][value={where.id}]").click()
    page.locator(f"summary[aria-label='Organization: {where.name}']").wait_for()
