"""`validate` and `verify` against the real portal: every verdict becomes the key, or its exception."""

import asyncio

import keystead
import pytest
from keystead import Keystead

from keys.secret import Kind
from tests import builders, key_builders
from tests.api import calls


def test_a_valid_key_is_described_whole(client, presented, cast):
    key = client.api_keys.validate(
        presented.secret, scopes=["incidents:read"], environment="production", ip="203.0.113.7"
    )
    assert (key.id, key.name, key.kind) == (presented.key.id, presented.key.name, "control_plane")
    assert (key.organization.id, key.organization.slug) == (cast.acme.id, cast.acme.slug)
    assert (key.plan.slug, key.environment) == ("standard", "production")
    assert key.project == builders.root(cast.acme).id
    assert (key.secret_version, key.retiring, key.accepted_until) == (1, False, None)
    assert key.owner.name == "NOC"
    assert key.expires_at is not None
    assert key.expires_at.tzinfo is not None
    assert key.request_id.startswith("req_")


def test_scopes_and_wildcards(client, cast):
    wide = key_builders.create(cast.acme, cast.alice, scopes=["incidents:*"])
    key = client.api_keys.validate(wide.secret, scopes="incidents:read AND incidents:write")
    assert key.has_scope("incidents:read")
    assert key.has_scope("incidents:*")
    assert key.has_scopes("incidents:read", "incidents:write")
    for wanted in ("alerts:read", "incidents", "incidents:", ":read", "", "*:*", "*"):
        assert not key.has_scope(wanted)


def test_a_single_scope_is_no_wildcard(client, presented):
    key = client.api_keys.validate(presented.secret)
    assert key.has_scope("incidents:read")
    assert not key.has_scope("incidents:*")
    assert not key.has_scopes("incidents:read", "incidents:write")


def test_the_last_character_changed_is_malformed(client, presented):
    other = "0" if presented.secret[-1] != "0" else "1"
    with pytest.raises(keystead.Malformed) as caught:
        client.api_keys.validate(presented.secret[:-1] + other)
    assert isinstance(caught.value, keystead.InvalidKey)
    assert caught.value.code == "MALFORMED"


@pytest.mark.parametrize("raw", ["", " ", "x" * 5_000, "a\0b", "a\nb", "ключ", "\ud800"])
def test_what_can_be_no_secret_is_malformed(client, raw):
    with pytest.raises(keystead.Malformed):
        client.api_keys.validate(raw)
    assert client.keys.verify(raw).code == "MALFORMED"


def test_a_strangers_key_is_unknown(client, cast):
    theirs = key_builders.create(cast.elsewhere, cast.mallory)
    with pytest.raises(keystead.UnknownKey) as caught:
        client.api_keys.validate(theirs.secret)
    assert caught.value.verdict.key is None


def test_a_revoked_key(client, presented):
    client.keys.revoke(presented.key.id, reason="leaked")
    with pytest.raises(keystead.Revoked):
        client.api_keys.validate(presented.secret)


def test_a_disabled_key(client, presented):
    client.keys.update(presented.key.id, enabled=False)
    with pytest.raises(keystead.Disabled):
        client.api_keys.validate(presented.secret)


def test_an_expired_key(client, presented):
    calls.as_superuser(
        "UPDATE keys_keysecret SET expires_at = now() - interval '1 day' WHERE key_id = %s", presented.key.id
    )
    with pytest.raises(keystead.Expired):
        client.api_keys.validate(presented.secret)


def test_a_retired_secret(client, presented):
    client.keys.rotate(presented.key.id, mode="immediate")
    with pytest.raises(keystead.SecretRetired):
        client.api_keys.validate(presented.secret)


def test_a_missing_scope_is_named(client, presented):
    with pytest.raises(keystead.InsufficientScope) as caught:
        client.api_keys.validate(presented.secret, scopes=["incidents:read", "incidents:write"])
    assert caught.value.missing_scopes == ("incidents:write",)
    assert caught.value.verdict.key.id == presented.key.id


def test_another_environment_and_project(client, presented, cast):
    with pytest.raises(keystead.Forbidden) as caught:
        client.api_keys.validate(presented.secret, environment="test")
    assert caught.value.code == "WRONG_ENVIRONMENT"
    with pytest.raises(keystead.Forbidden) as caught:
        client.api_keys.validate(presented.secret, project=builders.root(cast.elsewhere).id)
    assert caught.value.code == "WRONG_PROJECT"


def test_another_address(client, cast):
    bound = key_builders.create(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
    assert client.api_keys.validate(bound.secret, ip="203.0.113.7").id == bound.key.id
    for ip in ("198.51.100.7", None):
        with pytest.raises(keystead.Forbidden) as caught:
            client.api_keys.validate(bound.secret, ip=ip)
        assert caught.value.code == "IP_NOT_ALLOWED"


def test_ingestion_keys_too(client, cast):
    collector = key_builders.create(cast.acme, cast.alice, kind=Kind.INGESTION, scopes=["ingest:write"])
    assert client.api_keys.validate(collector.secret, scopes=["ingest:write"], cost=500).kind == "ingestion"


def test_verify_gives_the_verdict_without_raising(client, presented):
    verdict = client.keys.verify(presented.secret, scopes=["incidents:write"])
    assert not verdict
    assert (verdict.valid, verdict.code) == (False, "INSUFFICIENT_SCOPE")
    assert client.keys.verify(presented.secret)


def test_the_request_id_of_the_caller_is_kept(client, presented):
    assert client.api_keys.validate(presented.secret, request_id="mine-7").request_id == "mine-7"
    # A secret, or what no id may have in it, never becomes one.
    assert (
        presented.secret
        not in client.api_keys.validate(presented.secret, request_id=presented.secret[:60]).request_id
    )
    assert client.keys.verify(presented.secret, request_id="a b\r\nc").request_id.startswith("req_")


@pytest.mark.parametrize("cost", [-1, 1_000_001, True])
def test_a_cost_out_of_range_is_not_sent(client, presented, cost):
    with pytest.raises(ValueError, match="cost"):
        client.api_keys.validate(presented.secret, cost=cost)


def test_the_clients_own_key_is_another_matter(server, presented, cast):
    with Keystead(server.url, presented.secret) as lesser, pytest.raises(keystead.PermissionDenied) as caught:
        lesser.api_keys.validate(presented.secret)
    assert caught.value.code == "insufficient_scope"
    unknown = "ks_cp_live_" + "0" * 49
    with Keystead(server.url, unknown) as nobody, pytest.raises(keystead.AuthenticationError) as caught:
        nobody.api_keys.validate(presented.secret)
    assert caught.value.status == 401
    assert caught.value.request_id.startswith("req_")


def test_a_broken_query_is_the_callers_fault(client, presented):
    with pytest.raises(keystead.Invalid) as caught:
        client.api_keys.validate(presented.secret, scopes="incidents:read AND")
    assert caught.value.errors[0].location == "scopes"


def test_awaited_it_says_the_same(portal, presented):
    async def run():
        async with portal.awaited() as client:
            key = await client.api_keys.validate(presented.secret, scopes=["incidents:read"])
            with pytest.raises(keystead.InsufficientScope):
                await client.api_keys.validate(presented.secret, scopes=["incidents:write"])
            many = await asyncio.gather(*(client.keys.verify(presented.secret) for _ in range(40)))
            return key, many

    key, many = asyncio.run(run())
    assert key.id == presented.key.id
    assert all(many)


def test_one_awaited_client_serves_loop_after_loop(portal, presented):
    client = portal.awaited()
    for _ in range(3):
        assert asyncio.run(_verify_and_close(client, presented.secret))


async def _verify_and_close(client, secret):
    found = await client.keys.verify(secret)
    # The connections of this loop alone; the client goes on.
    await client._transport.close_loop()
    return found


def test_threads_share_a_client(client, presented):
    assert all(calls.at_once(8, lambda _: client.keys.verify(presented.secret)))
