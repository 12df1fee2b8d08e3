"""A secret appears in exactly one answer: the product is driven everywhere with secrets, then everything is searched.

What is searched for is any 12 characters in a row of the random part after the hint, in the database (as PostgreSQL
dumps it, hexadecimal included), PostgreSQL's own log (with every statement that changes something), the portal's log at
its most talkative, every answer but the one, and what the browser kept.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route

from audit import tenancy
from audit.models import Entry, Sealed
from keys.secret import CHECK_LENGTH, HINT_LENGTH, RANDOM_LENGTH
from orgs.models.session import Session
from orgs.sessions import SessionStore
from portal.embedded import tool_environment
from portal.embedded_user import INSTALLED, installation
from tests import builders, cluster, key_builders
from tests.e2e import steps
from tests.e2e.conftest import TIMEOUT_MS, Acme
from tests.e2e.serving import Server, serve

WINDOW = 12
STORAGE = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, history.state])"


def random_part(secret: str) -> str:
    """Return the 43 random characters."""
    return secret[-RANDOM_LENGTH - CHECK_LENGTH : -CHECK_LENGTH]


def windows(secret: str) -> list[str]:
    """Return every piece of the random part that nobody may see."""
    hidden = random_part(secret)[HINT_LENGTH:]
    return [hidden[start : start + WINDOW] for start in range(len(hidden) - WINDOW + 1)]


def leaked(secret: str, text: str) -> bool:
    """Say whether a text holds a piece of the secret, in any case of letters, or its bytes in hexadecimal."""
    lower = text.lower()
    return any(piece.lower() in lower or piece.encode().hex() in lower for piece in windows(secret))


@dataclass
class Record:
    """Every answer that was given, as `(what was asked, headers and body)`, and every secret that was made."""

    url: str
    answers: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Record what the page is answered, on its way: a page that it has left, it can't be asked about."""
        page.route("**/*", self._pass_on)

    def _pass_on(self, route: Route) -> None:
        if "/static/" in route.request.url:
            route.continue_()
            return
        # The browser adds it after this place.
        headers = route.request.all_headers() | {"sec-fetch-site": "same-origin"}
        answer = route.fetch(max_redirects=0, headers=headers)
        self.note(
            f"{route.request.method} {answer.url} {answer.status}", json.dumps(answer.headers) + answer.text()
        )
        route.fulfill(response=answer)

    def note(self, asked: str, answer: str) -> None:
        self.answers.append((asked, answer))

    def made(self, secret: str) -> str:
        assert key_builders.SECRET.fullmatch(secret)
        self.secrets.append(secret)
        return secret


@pytest.fixture
def loud(django_db_setup: None, tmp_path: Path) -> Iterator[Server]:
    """A portal that logs all it can, on a PostgreSQL that logs every statement that changes something."""
    name = cluster.database()
    with steps.superuser() as connection:
        connection.execute(f"ALTER DATABASE {name} SET log_statement = 'mod'".encode())
    try:
        with serve(cluster._environment(name), tmp_path, log_level="DEBUG") as running:
            yield running
    finally:
        with steps.superuser() as connection:
            connection.execute(f"ALTER DATABASE {name} RESET log_statement".encode())


@pytest.fixture
def context(browser: Browser, loud: Server) -> Iterator[BrowserContext]:
    opened = browser.new_context(base_url=loud.url, viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(TIMEOUT_MS)
    yield opened
    opened.close()


def test_a_secret_is_in_one_answer_and_nowhere_else(
    context: BrowserContext, loud: Server, acme: Acme
) -> None:
    record = Record(loud.url)
    page = context.new_page()
    record.watch(page)
    verifier = steps.verifier(acme.where, acme.alice)
    steps.sign_in(page, acme.alice)
    key_id = _pages(page, record)
    _api(record, acme)
    _wrong_places(context, page, record, key_id, acme)
    _verifications(record, verifier)
    page.goto("/log", wait_until="networkidle")
    kept = page.evaluate(STORAGE) + json.dumps(context.storage_state())
    context.close()
    loud.process.terminate()
    loud.process.wait(timeout=20)

    assert len(record.secrets) == 6
    assert any("/keys/new/preview" in asked for asked, _ in record.answers)
    log, dump, statements = loud.log.read_text(), _dump(), cluster.cluster().log.read_text(errors="replace")
    pasted = record.secrets[2]
    hint = pasted[: len("ks_cp_live_") + HINT_LENGTH]
    assert sum(asked.endswith(" 422") and f"{hint}…" in answer for asked, answer in record.answers) > 10
    assert "/keys/search" in log
    assert 'INSERT INTO "keys_keysecret"' in statements
    places = {
        "the portal's log": log,
        "the database": dump,
        "PostgreSQL's log": statements,
        "the browser": kept,
    }
    places |= {"the ledger": _ledger(acme), "the sessions": _sessions(acme)}
    for secret in record.secrets:
        assert [place for place, text in places.items() if leaked(secret, text)] == []
        shown = [asked for asked, answer in record.answers if leaked(secret, answer)]
        assert len(shown) == 1, shown
    # Made without an answer, and so it is in none.
    assert not any(
        leaked(verifier, text) for text in (*places.values(), *(answer for _, answer in record.answers))
    )


def test_the_search_finds() -> None:
    """What is searched for would be found where it stood, as it stands there."""
    secret = "ks_cp_live_" + "aB3dEfGhIj" * 4 + "xYz" + "000000"
    for text in (secret, secret.upper(), secret[20:33], f"\\x{secret.encode().hex()}"):
        assert leaked(secret, f"something {text} more")
    assert not leaked(secret, secret[: len("ks_cp_live_") + HINT_LENGTH])


def _pages(page: Page, record: Record) -> str:
    """Make a key and rotate it in both modes on its pages."""
    record.made(steps.create_key(page, "leaky"))
    key_id = steps.done(page)
    record.made(steps.rotate(page, key_id))
    page.goto(f"/keys/{key_id}/rotate")
    page.locator("[name=mode][value=immediate]").check(force=True)
    page.get_by_role("button", name="Rotate", exact=True).click()
    record.made(steps.secret_on(page))
    page.reload()
    for part in ("", "/activity", "/access", "/edit"):
        page.goto(f"/keys/{key_id}{part}", wait_until="networkidle")
    return key_id


def _api(record: Record, acme: Acme) -> None:
    """Make a key and rotate it in both modes over the API, each asked for twice under one idempotency key."""
    admin = key_builders.create(
        acme.where, acme.alice, scopes=["keys:read", "keys:write", "keys:rotate", "incidents:read"]
    ).secret
    asked = {
        "name": "leaky-api",
        "kind": "control_plane",
        "environment": "production",
        "project": builders.root(acme.where).id,
        "scopes": ["incidents:read"],
    }
    created = _twice(record, "/v1/api-keys", admin, asked)
    for mode in ("grace", "immediate"):
        _twice(record, f"/v1/api-keys/{created['key']['id']}/rotate", admin, {"mode": mode})
    for path in ("/v1/api-keys", f"/v1/api-keys/{created['key']['id']}"):
        status, answer = steps.call(record.url, "GET", path, admin)
        assert status == 200
        record.note(f"GET {path}", json.dumps(answer))


def _twice(record: Record, path: str, bearer: str, body: dict[str, object]) -> dict[str, str]:
    headers = {"Idempotency-Key": builders.unique("leak")}
    status, first = steps.call(record.url, "POST", path, bearer, body, **headers)
    assert status in {200, 201}, first
    record.note(f"POST {path}", json.dumps(first))
    record.made(first["secret"])
    status, again = steps.call(record.url, "POST", path, bearer, body, **headers)
    assert again["secret"] is None, again
    record.note(f"POST {path} again", json.dumps(again))
    return first


def _wrong_places(context: BrowserContext, page: Page, record: Record, key_id: str, acme: Acme) -> None:
    """Put a secret where it does not belong, in every field and address that takes text."""
    secret = record.secrets[2]
    page.goto("/")
    page.locator("#search").fill(secret)
    page.locator("#search").press("Enter")
    page.wait_for_url(f"**/keys/{key_id}")
    for path in _addresses(secret, key_id):
        _get(context, record, path)
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    for path, fields in _forms(context, secret, key_id, acme):
        _post(context, record, path, {"csrfmiddlewaretoken": token, **fields})
    sloppy = context.request.get(
        "/settings/organization",
        headers={"X-Request-Id": secret, "User-Agent": secret, "Referer": f"/?{secret}"},
    )
    _keep(record, "headers", sloppy)
    _post(
        context,
        record,
        f"/keys/{key_id}/edit",
        {"csrfmiddlewaretoken": token, "name": "leaky-too", "owner": "me"},
        {"User-Agent": f"curl {secret}", "X-Request-Id": secret},
    )
    export = _get(context, record, "/keys.csv?status=any")
    assert "leaky-too" in export
    stranger = context.browser
    assert stranger is not None
    _failing_sign_ins(stranger, record, secret, acme)


def _addresses(secret: str, key_id: str) -> list[str]:
    cut, encoded = secret[:-3], quote(secret.replace("_", "%5F"))
    query = [f"/?{name}={secret}" for name in ("q", "tag", "owner", "scope", "cursor", "status", "anything")]
    query += [
        f"/log?{name}={secret}" for name in ("who", "act", "target", "since", "request", "before", "after")
    ]
    return [
        *query,
        f"/?q={cut}",
        f"/?q={secret.lower()}",
        f"/?q={encoded}",
        f"/?{secret}=1",
        f"/keys.csv?q={secret}",
        f"/keys/{secret}",
        f"/keys/{key_id}/{secret}",
        f"/keys/key_{secret}/rotate",
        f"/log/{secret}",
        f"/join/{secret}",
        f"/settings/projects/{secret}/rename",
        f"/settings/members/{secret}",
        f"/login?next=/{secret}",
        f"/account/confirm?next=/{secret}",
        f"/static/{secret}",
        f"/{secret}%00",
        f"/v1/api-keys/{secret}",
        f"/v1/{secret}",
        f"/admin/{secret}",
    ]


def _forms(context: BrowserContext, secret: str, key_id: str, acme: Acme) -> list[tuple[str, dict[str, str]]]:
    """Return each form that takes text, with the secret in one of its fields, the rest as it should be."""
    root, production = builders.root(acme.where).id, builders.production(acme.where).id
    fresh = {
        "kind": "control_plane",
        "environment": production,
        "project": root,
        "scopes": "incidents:read",
        "owner": "me",
        "expires": "default",
    }
    of_key = {"name": "leaky", "owner": "me"}
    typed = (
        "name",
        "description",
        "tags",
        "owner_team",
        "scopes",
        "allowed_ips",
        "kind",
        "token",
        "expires_on",
    )
    values = {"tags": f"team={secret}", "description": f"The secret is {secret}."}
    forms = []
    for each in typed:
        value = values.get(each, secret)
        team = {"owner": "team"} if each == "owner_team" else {}
        named = {"name": builders.unique("stray")}
        forms.append(("/keys/new", {**fresh, "token": builders.new_id("tok"), **named, **team, each: value}))
        forms.append(("/keys/new/preview", {**fresh, **named, **team, each: value}))
        if each in {"name", "description", "tags", "owner_team"}:
            forms.append((f"/keys/{key_id}/edit", {**of_key, **team, each: value}))
    bulk = {"key": key_id, "confirmed": "1"}
    return [
        *forms,
        (f"/keys/{key_id}/edit", {**of_key, "tags": f"{secret}=1"}),
        (f"/keys/{key_id}/edit/limits", {"expires": "keep", "allowed_ips": secret}),
        (
            f"/keys/{key_id}/revoke",
            {"reason": "leaked", "note": f"It was {secret}.", "confirmation": "leaky"},
        ),
        (f"/keys/{key_id}/revoke", {"reason": secret, "confirmation": secret}),
        (f"/keys/{key_id}/rotate", {"mode": secret, "version": secret}),
        (f"/keys/{key_id}/disable", {"minutes": secret}),
        ("/keys/bulk", {**bulk, "action": "tag", "name": "team", "value": secret}),
        ("/keys/bulk", {**bulk, "action": "owner", "owner": "team", "owner_team": secret}),
        ("/keys/bulk", {**bulk, "action": "revoke", "reason": "leaked", "note": secret}),
        ("/keys/bulk", {"key": secret, "action": "tag", "back": f"q={secret}"}),
        ("/keys/search", {"q": secret[:-2]}),
        ("/keys/search", {"q": f"Bearer {secret}"}),
        ("/settings/organization", {"name": secret, "slug": acme.where.slug}),
        ("/settings/organization", {"name": "Acme", "slug": secret}),
        ("/settings/members/invite", {"email": f"{secret}@example.com", "role": "viewer"}),
        (f"/settings/projects/{root}/new", {"name": f"Project {secret}"}),
        (f"/settings/projects/{root}/rename", {"name": secret}),
        (f"/settings/projects/{root}/scopes", {"narrows": "listed", "scopes": f"incidents:{secret}"}),
        ("/settings/environments/new", {"name": secret, "slug": builders.unique("env"), "mode": "test"}),
        ("/settings/environments/new", {"name": "Lab", "slug": secret, "mode": "test"}),
        (f"/settings/environments/{production}/rename", {"name": secret}),
        ("/settings/policies", {"control_plane_default_days": secret}),
        ("/account/password", {"oldpassword": secret, "password1": secret, "password2": secret}),
        ("/account/confirm", {"password": secret}),
        ("/switch/organization", {"organization": secret}),
        ("/switch/project", {"project": secret, "next": f"/?q={secret}"}),
    ]


def _failing_sign_ins(browser: Browser, record: Record, secret: str, acme: Acme) -> None:
    context = browser.new_context(base_url=record.url)
    page = context.new_page()
    page.goto("/login")
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    for login, password in ((acme.alice.email, secret), (secret, "x"), (f"{secret}@example.com", secret)):
        fields = {"csrfmiddlewaretoken": token, "login": login, "password": password}
        _post(context, record, "/login", fields)
    _post(context, record, "/login", {"login": secret, "password": secret})  # without a token: 403
    _get(context, record, f"/?q={secret}")
    context.close()


def _verifications(record: Record, verifier: str) -> None:
    """Verify each right and wrong, and in every wrong place that an API call has."""
    for secret in record.secrets:
        steps.verify(record.url, verifier, secret)
    secret = record.secrets[-1]
    typo = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for text in (
        typo,
        secret.lower(),
        f" {secret}",
        secret + "\0",
        secret[:-8],
        secret.replace("_cp_", "_in_"),
    ):
        _call(record, "POST", "/v1/keys/verify", verifier, {"secret": text})
    for body in (
        {"secret": [secret]},
        {"secret": {secret: secret}},
        {"secret": secret, secret: 1},
        {"secret": secret, "ip": secret, "scope": secret, "project": secret, "environment": secret},
        {"secret": secret, "cost": secret},
        {"key": secret},
        [secret],
        secret,
    ):
        _call(record, "POST", "/v1/keys/verify", verifier, body)
    for bearer in (secret, typo, f"{secret} {secret}", f"x{secret}"):
        for path in (
            "/v1/me",
            "/v1/keys/verify",
            f"/v1/api-keys/{secret}",
            f"/v1/scopes?key={secret}",
            f"/v1/{secret}",
        ):
            _call(record, "GET", path, bearer)
    for field_name in (
        "name",
        "description",
        "kind",
        "environment",
        "project",
        "scopes",
        "tags",
        "owner",
        "expires_at",
    ):
        _call(
            record,
            "POST",
            "/v1/api-keys",
            secret,
            {"name": "x-y", "kind": "control_plane", field_name: secret},
        )
    _call(
        record,
        "GET",
        "/v1/me",
        secret,
        **{"X-Request-Id": secret, "User-Agent": secret, "Idempotency-Key": secret},
    )


def _call(record: Record, method: str, path: str, bearer: str, body: object = None, **headers: str) -> None:
    status, answer = steps.call(record.url, method, path, bearer, body, **headers)
    assert status < 500, (path, answer)
    record.note(f"{method} {path} {status}", json.dumps(answer))


def _get(context: BrowserContext, record: Record, path: str) -> str:
    return _keep(record, path, context.request.get(path, max_redirects=0))


def _post(
    context: BrowserContext,
    record: Record,
    path: str,
    fields: dict[str, str],
    headers: dict[str, str] | None = None,
) -> None:
    _keep(record, path, context.request.post(path, form=fields, headers=headers, max_redirects=0))  # type: ignore[arg-type]


def _keep(record: Record, asked: str, answer: APIResponse) -> str:
    assert answer.status < 500, asked
    text = answer.text()
    record.note(f"{asked} {answer.status}", json.dumps(answer.headers) + text)
    return text


def _dump() -> str:
    """Return the whole database as PostgreSQL's superuser dumps it."""
    package = installation()
    assert package is not None
    program = package / INSTALLED / "bin" / "pg_dump"
    url = cluster.cluster().url(dbname=cluster.database())
    done = subprocess.run(
        [program, "--dbname", url], env=tool_environment({}), capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def _ledger(acme: Acme) -> str:
    """Return every leaf and every sealed value of the organization, in the clear."""
    with tenancy.within(acme.where.id):
        leaves = [bytes(entry.leaf).decode() for entry in Entry.objects.of(acme.where.id)]
        sealed = [each.value for each in Sealed.objects.filter(organization_id=acme.where.id)]
    assert len(leaves) > 5
    assert sealed
    return "\n".join(leaves + sealed)


def _sessions(acme: Acme) -> str:
    """Return what the sessions hold; their rows in the dump are compressed."""
    read = [
        str(SessionStore().decode(row.session_data)) for row in Session.objects.filter(user_id=acme.alice.id)
    ]
    assert read
    return "\n".join(read)
