"""What several browser tests do: sign in, make a key on its page, ask the verifier, age what can't be waited for."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

import psycopg
from django.core.cache import cache
from playwright.sync_api import Page, expect

from orgs.models import Organization, User
from tests import builders, cluster, key_builders


def sign_in(page: Page, user: User, at: str = "/") -> None:
    """Sign somebody in on the sign-in page; its limits are tested elsewhere."""
    cache.clear()
    page.goto(at)
    page.locator("[name=login]").fill(user.email)
    page.locator("[name=password]").fill(builders.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")
    # The heading is there before the scripts are: a key pressed in between does nothing.
    page.wait_for_load_state()


def secret_on(page: Page) -> str:
    """Return the secret that the page shows, and tick that it is stored."""
    text = page.locator("#secret").inner_text().strip()
    assert key_builders.SECRET.fullmatch(text)
    page.locator("[data-stored]").check()
    return text


def key_id_of(page: Page) -> str:
    """Return the id of the key in the page's address."""
    found = re.search(r"/keys/(key_[a-z2-7]{20})", page.url)
    assert found, page.url
    return found[1]


def done(page: Page) -> str:
    """Leave the page of a secret for the key's own, and return its id."""
    page.get_by_role("button", name="Done").click()
    page.get_by_role("navigation", name="About this key").wait_for()
    return key_id_of(page)


def rotate(page: Page, key_id: str) -> str:
    """Rotate with a day of grace on the key's page; return the new secret."""
    page.goto(f"/keys/{key_id}/rotate")
    page.get_by_role("button", name="Rotate", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Key rotated")
    return secret_on(page)


def revoke(page: Page, key_id: str, name: str, note: str = "") -> None:
    """Revoke a leaked key that is in use on its page."""
    page.goto(f"/keys/{key_id}/revoke")
    page.locator("[name=reason][value=leaked]").check(force=True)
    page.locator("[name=note]").fill(note)
    page.locator("[name=confirmation]").fill(name)
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.locator("#messages")).to_contain_text(f"{name} is revoked")


def create_key(page: Page, name: str, scope: str = "incidents:read", *, scripts: bool = True) -> str:
    """Fill in the form of a new key and send it; return the secret."""
    page.goto("/keys/new")
    page.locator("[name=kind][value=control_plane]").check(force=True)
    if scripts:
        # The scopes that the kind may carry take the place of the first ones.
        page.locator("[name=offered_for][value^='control_plane:']").wait_for(state="attached")
    page.locator("[name=environment]").first.check(force=True)
    page.locator("[name=name]").fill(name)
    page.locator(f"[name=scopes][value='{scope}']").check()
    # Leaving while a part of the form is on its way would be an error on the console.
    expect(page.locator(".htmx-request")).to_have_count(0)
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Key created")
    return secret_on(page)


def verifier(where: Organization, by: User) -> str:
    """Make a key that may verify, and return its secret."""
    return key_builders.create(where, by, scopes=["keys:verify"]).secret


def call(
    url: str, method: str, path: str, bearer: str, body: object = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Call the API as a program would; return the status and the document."""
    request = urllib.request.Request(
        f"{url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, _document(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _document(error.read())


def _document(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body) if body else {}
    return document


def verify(url: str, bearer: str, secret: str) -> str:
    """Present a secret to POST /v1/keys/verify and return the code."""
    status, answer = call(url, "POST", "/v1/keys/verify", bearer, {"secret": secret, "ip": "203.0.113.9"})
    assert status == 200, answer
    code: str = answer["code"]
    return code


def superuser(**options: Any) -> psycopg.Connection:
    """Connect to the tests' database as PostgreSQL's superuser, whom no policy holds."""
    return psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True, **options)


def age(key_id: str, **columns: object) -> None:
    """Make a key older than a test can wait; no role of the product may do that."""
    with superuser() as connection:
        connection.execute("SET session_replication_role = replica")
        for column, value in columns.items():
            connection.execute(
                f"UPDATE keys_apikey SET {column} = %s WHERE id = %s".encode(), [value, key_id]
            )
