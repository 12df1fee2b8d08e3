"""A rotation that one watches: three regions take up the new secret, and it completes by itself."""

import time

from playwright.sync_api import Page, expect

from keys import rotation
from keys.tasks.rotations import advance_rotations
from tests import key_builders
from tests.e2e import steps
from tests.e2e.conftest import Acme
from tests.e2e.serving import Server

REGIONS = ("us-east-1", "us-west-2", "eu-west-2")
QUIET = 3
# The page asks every three seconds; the worker looks every five.
SECONDS = 60


def call(server: Server, verifier: str, secret: str, region: str) -> None:
    body = {"secret": secret, "region": region, "ip": "203.0.113.9", "user_agent": "collector/4.2"}
    status, answer = steps.call(server.url, "POST", "/v1/keys/verify", verifier, body)
    assert (status, answer["code"]) == (200, "VALID"), (region, answer)


def test_the_page_shows_each_region_move(page: Page, server: Server, acme: Acme) -> None:
    verifier = steps.verifier(acme.where, acme.alice)
    made = key_builders.create(acme.where, acme.alice, name="edge-collector")
    secrets = dict.fromkeys(REGIONS, made.secret)
    for region in REGIONS:
        call(server, verifier, made.secret, region)
    steps.sign_in(page, acme.alice)
    how = {"mode": rotation.Mode.STAGED, "targets": REGIONS, "quiet_seconds": QUIET}
    rotated = key_builders.rotate(made.key, acme.where, acme.alice, **how)
    page.goto(f"/rotations/{rotated.rotation.id}")
    # A page that is loaded anew would lose it.
    page.evaluate("document.title = 'watched'")
    expect(page.locator("#progress")).to_contain_text("0 of 3 moved")

    for number, region in enumerate(REGIONS, start=1):
        secrets[region] = rotated.secret
        deadline = time.monotonic() + SECONDS
        while f"{number} of 3 moved" not in page.locator("#progress").inner_text():
            assert time.monotonic() < deadline
            for each, secret in secrets.items():
                call(server, verifier, secret, each)
            page.wait_for_timeout(500)

    deadline = time.monotonic() + SECONDS
    while page.locator("#rotation-acts a").count():
        assert time.monotonic() < deadline
        advance_rotations(timestamp=0)
        call(server, verifier, rotated.secret, REGIONS[0])
        page.wait_for_timeout(500)
    assert page.title() == "watched"
    assert steps.verify(server.url, verifier, made.secret) == "SECRET_RETIRED"
    page.goto(f"/log?target={made.key.id}")
    acts = page.locator("table.entries .c-name").all_inner_texts()
    assert acts[:2] == ["rotation.completed", "rotation.target_moved"]
    assert acts.count("rotation.target_moved") == len(REGIONS)
