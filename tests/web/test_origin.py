"""What a browser says of where a form came from: `no-referrer` makes it hide the origin of our own forms too."""

import re

import pytest
from django.test import Client

from tests.builders import PASSWORD, person


@pytest.fixture
def form() -> tuple[Client, dict[str, str]]:
    client = Client(enforce_csrf_checks=True)
    page = client.get("/login").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    return client, {
        "csrfmiddlewaretoken": token[1],
        "login": person("Alice").email,
        "password": PASSWORD,
    }


class TestOrigin:
    def test_our_own_form(self, form: tuple[Client, dict[str, str]]) -> None:
        client, fields = form
        headers = {"origin": "null", "sec-fetch-site": "same-origin"}
        assert client.post("/login", fields, headers=headers).status_code == 302

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
    def test_a_hidden_origin_that_is_not_ours(self, form: tuple[Client, dict[str, str]], site: str) -> None:
        client, fields = form
        headers = {"origin": "null"} | ({"sec-fetch-site": site} if site else {})
        assert client.post("/login", fields, headers=headers).status_code == 403

    def test_the_token_is_still_needed(self, form: tuple[Client, dict[str, str]]) -> None:
        client, fields = form
        headers = {"origin": "null", "sec-fetch-site": "same-origin"}
        fields["csrfmiddlewaretoken"] = "x" * 64
        assert client.post("/login", fields, headers=headers).status_code == 403

    def test_an_origin_that_is_named_counts(self, form: tuple[Client, dict[str, str]]) -> None:
        client, fields = form
        headers = {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}
        assert client.post("/login", fields, headers=headers).status_code == 403
