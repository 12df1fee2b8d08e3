"""The API's page in a browser: both themes, a phone's width, no sign-in, nothing from elsewhere."""

import pytest
from axe_playwright_python.sync_playwright import Axe


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page(page, server, theme, width):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.goto("/v1/docs")
    assert page.get_by_role("heading", level=1).text_content() == "REST API, version 1"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(url.startswith(server.url) for url in asked)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_each_operation_is_reached_from_the_top(page):
    page.goto("/v1/docs")
    page.get_by_role("link", name="Verify a presented secret").click()
    assert page.locator("#verify_key").is_visible()
    assert "keys/verify" in page.locator("#verify_key-example").text_content()
