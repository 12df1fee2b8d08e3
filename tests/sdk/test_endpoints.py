"""Webhooks as they are managed, against the real portal."""

import asyncio
from datetime import UTC, datetime, timedelta

import keystead
import pytest
from keystead import AsyncKeystead, Keystead

from tests import builders
from tests.api import calls

URL = "https://1.1.1.1/hook"


@pytest.fixture
def manager(cast):
    return calls.key(cast.acme, cast.alice, scopes=["webhooks:write"])


@pytest.fixture
def webhooks(server, manager):
    with Keystead(server.url, manager.secret) as client:
        yield client.webhooks


def test_the_life_of_a_webhook(webhooks):
    made = webhooks.create(URL, acts=["key.*", "rotation.started"], description="Ours")
    assert made.secret.startswith("whsec_")
    assert made.secret[8:] not in repr(made)
    hook = made.webhook
    assert (hook.url, hook.acts, hook.status) == (URL, ("key.*", "rotation.started"), "active")
    assert webhooks.get(hook.id) == hook
    assert hook.id in {each.id for each in webhooks.list(page_size=1)}

    changed = webhooks.update(hook.id, acts=["*"], enabled=False)
    assert (changed.acts, changed.status, changed.disabled_reason) == (("*",), "disabled", "person")
    assert webhooks.update(hook.id, enabled=True).status == "active"

    again = webhooks.rotate_secret(hook.id)
    assert again.secret != made.secret

    assert webhooks.delete(hook.id) is None
    with pytest.raises(keystead.NotFound):
        webhooks.get(hook.id)


def test_deliveries(webhooks):
    hook = webhooks.create(URL, acts=["key.*"]).webhook
    sent = webhooks.test(hook.id)
    assert (sent.act, sent.index) == ("webhook.test", None)
    (listed,) = webhooks.deliveries(hook.id)
    assert listed.id == sent.id
    assert not list(webhooks.deliveries(hook.id, state="delivered"))
    now = datetime.now(UTC)
    assert webhooks.resend_range(hook.id, since=now - timedelta(hours=1), until=now).deliveries >= 1
    webhooks.delete(hook.id)


def test_refusals(webhooks, client):
    with pytest.raises(keystead.Invalid) as caught:
        webhooks.create("https://10.0.0.1/", acts=["*"])
    assert caught.value.errors[0].location == "url"
    with pytest.raises(keystead.PermissionDenied):
        list(client.webhooks.list())
    for act in (webhooks.get, webhooks.delete, webhooks.test):
        with pytest.raises(ValueError, match="webhook's id"):
            act("../keys")
    with pytest.raises(ValueError, match="delivery's id"):
        webhooks.resend("whk_a", "a/b")
    with pytest.raises(keystead.NotFound):
        webhooks.resend("whk_" + "a" * 20, "msg_a")


def test_a_repeated_creation_has_no_secret(webhooks):
    once = builders.unique("once")
    first = webhooks.create(URL, acts=["*"], idempotency_key=once)
    again = webhooks.create(URL, acts=["*"], idempotency_key=once)
    assert again.webhook.id == first.webhook.id
    with pytest.raises(keystead.SecretAlreadyShown):
        again.secret  # noqa: B018
    webhooks.delete(first.webhook.id)


def test_awaited(server, manager):
    async def run():
        async with AsyncKeystead(server.url, manager.secret) as client:
            made = await client.webhooks.create(URL, acts=["key.revoked"])
            await client.webhooks.test(made.webhook.id)
            found = [each async for each in client.webhooks.deliveries(made.webhook.id)]
            listed = {each.id async for each in client.webhooks.list()}
            await client.webhooks.delete(made.webhook.id)
            return made, found, listed

    made, found, listed = asyncio.run(run())
    assert made.webhook.id in listed
    assert len(found) == 1
