"""The admin site in a browser: our content security policy must leave it whole."""

import pytest
from django.contrib.admin.utils import quote
from playwright.sync_api import Page, expect

from audit import tenancy
from audit.models import Entry
from tests.builders import PASSWORD, organization, person, unique
from tests.e2e.serving import Server


def sign_in(page: Page, email: str) -> None:
    page.locator("[name=login]").fill(email)
    page.locator("[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_sort_of_page(page: Page, server: Server, theme: str) -> None:
    """The page fixture fails for a word of complaint on the console, such as a style that was refused."""
    olga, alice = person("Olga", is_superuser=True), person("Alice")
    acme = organization("Acme", owner=alice)
    page.set_default_timeout(5000)
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.goto("/admin/orgs/plan/")
    sign_in(page, olga.email)
    expect(page.get_by_role("heading", level=1)).to_contain_text("plan")
    with tenancy.within(acme.id):
        entry = Entry.objects.of(acme.id).newest_first()[0]
    for address in (
        "",
        "orgs/",
        "orgs/organization/",
        "orgs/organization/add/",
        f"orgs/organization/{quote(acme.pk)}/change/",
        f"orgs/organization/{quote(acme.pk)}/history/",
        "orgs/membership/",
        "orgs/user/add/",
        f"orgs/user/{quote(alice.pk)}/change/",
        f"orgs/user/{alice.pk}/password/",
        "keys/scope/",
        "keys/scope/keys_3Aread/change/",
        "keys/apikey/",
        f"ledger/{acme.pk}/",
        f"ledger/{acme.pk}/{entry.epoch}/{entry.index}/",
    ):
        answer = page.goto(f"/admin/{address}")
        assert answer is not None
        assert answer.status == 200, address
        page.wait_for_load_state("load")


def test_create_and_act(page: Page, server: Server) -> None:
    """The scripts of lists and forms run: a plan is added, a person is disabled, and the sign-out is the portal's."""
    olga, alice = person("Olga", is_superuser=True), person("Alice")
    page.set_default_timeout(5000)
    page.goto("/admin/orgs/plan/add/")
    sign_in(page, olga.email)
    slug = unique("plan")
    page.get_by_label("Name:").fill("Browser plan")
    page.get_by_label("Slug:").fill(slug)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_contain_text("Browser plan")
    page.goto(f"/admin/orgs/user/?q={alice.email}")
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option(label="Disable: bar the chosen people from signing in")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    expect(page.locator(".messagelist")).to_contain_text("1 disabled.")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{server.url}/login")
