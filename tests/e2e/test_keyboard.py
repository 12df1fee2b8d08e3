"""By keyboard alone; and what scripts add: commands, copying, a warning before a secret is lost, the theme."""

import re

import pytest
from playwright.sync_api import Error, Page, expect

from tests import key_builders
from tests.e2e import steps
from tests.e2e.conftest import Acme


@pytest.fixture
def alice(page: Page, acme: Acme) -> Page:
    """The page with Alice signed in, who has one key."""
    key_builders.create(acme.where, acme.alice, name="one")
    key_builders.create(acme.where, acme.alice, name="two")
    steps.sign_in(page, acme.alice)
    return page


def focused(page: Page) -> str:
    """Return what the focused element is called."""
    return str(
        page.evaluate(
            "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
        )
    )


def test_skip_and_search(alice: Page) -> None:
    alice.keyboard.press("Tab")
    assert focused(alice) == "Skip to the page"
    expect(alice.locator(".skip")).to_be_in_viewport()
    alice.keyboard.press("Enter")
    assert alice.evaluate("document.activeElement.id") == "main"
    alice.keyboard.press("/")
    expect(alice.locator("#search")).to_be_focused()
    alice.keyboard.type("a/b")
    expect(alice.locator("#search")).to_have_value("a/b")


def test_the_command_list(alice: Page) -> None:
    alice.keyboard.press("Control+k")
    query = alice.get_by_label("Command, or what to search for")
    expect(query).to_be_focused()
    alice.keyboard.type("log")
    expect(alice.locator("#command-list a:visible")).to_have_text(["Security log"])
    alice.keyboard.press("Escape")
    expect(alice.locator("#commands")).to_be_hidden()
    alice.wait_for_function("document.activeElement === document.body")
    alice.keyboard.press("/")
    expect(alice.locator("#search")).to_be_focused()
    alice.keyboard.press("Control+k")
    expect(query).to_be_focused()
    alice.keyboard.press("Escape")
    expect(alice.locator("#commands")).to_be_hidden()
    expect(alice.locator("#search")).to_be_focused()
    alice.keyboard.press("Control+k")
    alice.keyboard.type("sec")
    alice.keyboard.press("ArrowDown")
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/log")


def test_a_menu_of_a_row(alice: Page) -> None:
    alice.get_by_label("Actions for one", exact=True).focus()
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowDown")
    assert focused(alice) == "Rotate"
    alice.keyboard.press("ArrowDown")
    assert focused(alice) == "Disable for 15 minutes"
    alice.keyboard.press("Escape")
    assert focused(alice) == "Actions for one"
    expect(alice.locator("details.menu[open]")).to_have_count(0)
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowUp")
    assert focused(alice) == "Revoke"
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/revoke")


def test_one_menu_at_a_time(alice: Page) -> None:
    alice.get_by_label("Actions for one", exact=True).click()
    alice.get_by_label("Actions for two", exact=True).click()
    expect(alice.locator("details.menu[open]")).to_have_count(1)
    alice.get_by_role("heading", level=1).click()
    expect(alice.locator("details.menu[open]")).to_have_count(0)


def test_the_menu_of_a_phone(alice: Page) -> None:
    alice.set_viewport_size({"width": 390, "height": 844})
    opener = alice.get_by_role("button", name="Open the menu")
    opener.focus()
    alice.keyboard.press("Enter")
    expect(alice.locator("#places")).to_be_visible()
    alice.keyboard.press("Escape")
    expect(alice.locator("#places")).to_be_hidden()
    expect(opener).to_be_focused()


def test_a_filter_keeps_the_focus(alice: Page) -> None:
    alice.locator("#filter-kind").focus()
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowDown")
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/?*kind=*")
    expect(alice.locator("#filter-kind")).to_be_focused()
    expect(alice.locator("#announce")).to_have_text("0 keys")


def test_the_filters_of_the_log(alice: Page) -> None:
    """By words, by a menu that is opened, chosen from and removed again; the focus stays where it was."""
    alice.goto("/log")
    search = alice.get_by_role("search", name="In the log").get_by_role("searchbox")
    search.focus()
    alice.keyboard.type("one")
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/log?q=one")
    expect(search).to_be_focused()
    opener = alice.locator("#filter-open-act")
    opener.focus()
    alice.keyboard.press("Enter")
    alice.keyboard.press("Tab")
    expect(alice.locator("select[name=act]")).to_be_focused()
    # The closed list: each letter chooses another action, and nothing is sent before Enter.
    alice.keyboard.type("key.created")
    assert alice.url.endswith("/log?q=one")
    alice.keyboard.press("Escape")
    expect(opener).to_be_focused()
    assert alice.url.endswith("/log?q=one")
    alice.keyboard.press("Enter")
    alice.keyboard.press("Tab")
    expect(alice.locator("select[name=act]")).to_have_value("")
    alice.keyboard.type("key.created")
    alice.keyboard.press("Enter")
    alice.wait_for_url("**act=key.created*")
    expect(alice.locator("#announce")).to_have_text("1 entry")
    expect(opener).to_be_focused()
    alice.keyboard.press("Tab")
    assert focused(alice) == "Remove the filter Action: key.created"
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/log?q=one")
    alice.locator("#filter-open-last").focus()
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowDown")
    assert focused(alice) == "Last hour"
    alice.keyboard.press("Enter")
    alice.wait_for_url("**last=1h*")


def test_the_menu_of_an_entry(alice: Page) -> None:
    alice.goto("/log?act=key.created")
    opener = alice.locator("summary[aria-label^='Actions for entry']").first
    opener.focus()
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowDown")
    assert focused(alice) == "Open"
    alice.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(alice.locator("details.menu[open]")).to_have_count(0)
    alice.keyboard.press("Enter")
    alice.keyboard.press("ArrowUp")
    assert focused(alice) == "Revoke the key"
    alice.keyboard.press("Enter")
    alice.wait_for_url("**/revoke?entry=*")


def test_chosen_rows_are_counted(alice: Page) -> None:
    alice.get_by_label("Select all keys on this page").focus()
    alice.keyboard.press("Space")
    expect(alice.locator("[data-selected-count]")).to_have_text("2 selected")
    alice.get_by_label("Select one", exact=True).focus()
    alice.keyboard.press("Space")
    expect(alice.locator("[data-selected-count]")).to_have_text("1 selected")


def test_copying_and_leaving_the_secret(alice: Page) -> None:
    alice.context.grant_permissions(["clipboard-read", "clipboard-write"])
    secret = steps.create_key(alice, "copied")
    alice.locator("[data-stored]").uncheck()
    alice.get_by_role("button", name="Copy the secret").focus()
    alice.keyboard.press("Enter")
    expect(alice.locator("#announce")).to_have_text("Copied")
    assert alice.evaluate("navigator.clipboard.readText()") == secret
    asked: list[str] = []

    def stay(dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    alice.once("dialog", stay)
    alice.locator("nav.side a", has_text="Security log").click()
    expect(alice.locator("#secret")).to_have_text(secret)
    assert asked == ["beforeunload"]
    alice.get_by_role("button", name="Done").click()
    expect(alice.locator("#secret")).to_have_text(secret)
    alice.locator("[data-stored]").check()
    alice.get_by_role("button", name="Done").click()
    alice.get_by_role("navigation", name="About this key").wait_for()
    assert asked == ["beforeunload"]
    assert secret not in alice.content()


def test_the_secret_is_not_shown_again(alice: Page) -> None:
    secret = steps.create_key(alice, "once")
    answer = alice.reload()
    assert answer is not None
    assert answer.status == 409
    assert secret not in alice.content()
    alice.get_by_role("link", name=re.compile("[Rr]otate")).first.wait_for()
    alice.goto("/")
    steps.create_key(alice, "once-more")
    steps.done(alice)
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        alice.go_back()


def test_the_theme_stays(alice: Page) -> None:
    alice.locator("summary[aria-label$='your account']").click()
    alice.get_by_role("button", name="Dark", exact=True).click()
    dark = _background(alice)
    alice.goto("/log")
    assert _background(alice) == dark
    assert alice.evaluate("document.documentElement.dataset.theme") == "dark"
    alice.keyboard.press("Control+k")
    alice.keyboard.type("light")
    alice.keyboard.press("ArrowDown")
    alice.keyboard.press("Enter")
    assert _background(alice) != dark
    alice.reload()
    assert alice.evaluate("document.documentElement.dataset.theme") == "light"


def _background(page: Page) -> str:
    return str(page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor"))
