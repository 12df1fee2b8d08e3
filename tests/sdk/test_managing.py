"""Creating, listing, changing, rotating and revoking against the real portal."""

import asyncio
from datetime import UTC, datetime, timedelta

import keystead
import pytest
from keystead import Keystead

from audit import tenancy
from orgs import services
from orgs.models import Organization
from tests import builders
from tests.api import calls


def draft(**changes):
    return {
        "name": builders.unique("sdk"),
        "kind": "control_plane",
        "environment": "production",
        "scopes": ["incidents:read"],
        **changes,
    }


def test_a_created_key_verifies(client):
    made = client.keys.create(**draft(tags={"team": "noc"}, description="For the night", expires_in_days=30))
    assert made.secret_status == "shown"
    assert client.api_keys.validate(made.secret).id == made.key.id
    days = (made.key.expires_at - made.key.created_at) / timedelta(days=1)
    assert 29 < days <= 30
    assert (made.key.tags, made.key.description) == ({"team": "noc"}, "For the night")
    assert client.keys.get(made.key.id).hint == made.key.hint


def test_a_times_zone_is_needed(client):
    with pytest.raises(ValueError, match="zone"):
        client.keys.create(**draft(expires_at=datetime(2027, 1, 1)))  # noqa: DTZ001
    ends_at = datetime.now(UTC) + timedelta(days=3)
    assert client.keys.create(**draft(expires_at=ends_at)).key.expires_at == ends_at


def test_the_builder_reads_as_a_sentence(client):
    name = builders.unique("built")
    made = (
        client.keys.create()
        .named(name)
        .of_kind("control_plane")
        .in_environment("production")
        .with_scopes(["incidents:read"])
        .owned_by_team("NOC")
        .tagged(team="noc")
        .tagged(tier="gold")
        .from_addresses(["203.0.113.0/24"])
        .expires_in_days(60)
        .issue()
    )
    assert (made.key.name, made.key.owner.name) == (name, "NOC")
    assert made.key.tags == {"team": "noc", "tier": "gold"}
    assert made.key.allowed_ips == ("203.0.113.0/24",)


def test_the_builder_says_what_is_missing_and_changes_nothing(client):
    plain = client.keys.create().named("x-y")
    with pytest.raises(ValueError, match="kind, environment, scopes"):
        plain.issue()
    assert plain.of_kind("service") is not plain
    assert "kind" not in plain.draft


def operators_key():
    """Make a key of the operator's organization."""
    owner, operator_id = builders.person("Oper"), tenancy.operator_id()
    with tenancy.within(operator_id):
        operator = Organization.objects.get(pk=operator_id)
    services.appoint_owner(operator, owner, actor=builders.OPERATOR)
    return calls.key(operator, owner)


def test_the_operators_back_end_creates_for_its_customers(server, cast):
    with Keystead(server.url, operators_key().secret) as client:
        made = (
            client.keys.create()
            .for_org(cast.acme.id)
            .named(builders.unique("bought"))
            .of_kind("control_plane")
            .in_environment("production")
            .with_scopes(["incidents:read"])
            .expires_in_days(60)
            .issue()
        )
        assert made.key.organization == cast.acme.id
        found = list(client.keys.list(org_id=cast.acme.id, q=made.key.name))
        assert [key.id for key in found] == [made.key.id]
        assert client.api_keys.validate(made.secret).organization.id == cast.acme.id


def test_only_an_operators_key_names_an_organization(client, cast):
    with pytest.raises(keystead.Invalid) as caught:
        client.keys.create(**draft(org_id=cast.elsewhere.id))
    assert caught.value.errors[0].location == "organization"


def test_the_list_goes_on_over_its_pages(client):
    tag = {"batch": builders.unique("batch")}
    made = {client.keys.create(**draft(tags=tag)).key.id for _ in range(5)}
    found = [key.id for key in client.keys.list(tags=tag, page_size=2, sort="name")]
    assert len(found) == 5
    assert set(found) == made


def test_the_list_takes_its_filters(client, presented):
    assert [key.id for key in client.keys.list(q=presented.key.id)] == [presented.key.id]
    assert not list(client.keys.list(q=presented.key.id, status="revoked"))


def test_changing(client, presented):
    changed = client.keys.update(
        presented.key.id, description="Now", disabled_until=datetime.now(UTC) + timedelta(hours=1)
    )
    assert (changed.description, changed.status) == ("Now", "disabled")
    assert client.keys.update(presented.key.id, disabled_until=None).status == "active"


def test_rotating_and_itself(server, client, presented, cast):
    rotated = client.keys.rotate(presented.key.id, grace_seconds=600)
    assert rotated.rotation.status == "running"
    assert client.api_keys.validate(rotated.secret).secret_version == 2
    assert client.api_keys.validate(presented.secret).retiring
    with pytest.raises(keystead.Conflict) as caught:
        client.keys.rotate(presented.key.id)
    assert caught.value.code == "rotation_running"
    itself = calls.key(cast.acme, cast.alice)
    with Keystead(server.url, itself.secret) as machine:
        swapped = machine.keys.rotate()
        assert swapped.key.id == machine.me().id
    with Keystead(server.url, swapped.secret) as machine:
        assert machine.me().secret_version == 2


def test_revoking_twice_is_once(client, presented):
    client.keys.revoke(presented.key.id, reason="unused", note="Nobody knew it")
    client.keys.revoke(presented.key.id)
    key = client.keys.get(presented.key.id)
    assert (key.status, key.revocation_reason) == ("revoked", "unused")


def test_who_am_i(client, own, cast):
    me = client.me()
    assert (me.id, me.organization.id, me.is_operator) == (own.key.id, cast.acme.id, False)
    assert "keys:verify" in me.scopes


def test_a_strangers_key_is_not_found(client, cast):
    theirs = calls.key(cast.elsewhere, cast.mallory)
    for act in (client.keys.get, client.keys.rotate, client.keys.revoke):
        with pytest.raises(keystead.NotFound) as caught:
            act(theirs.key.id)
        assert caught.value.code == "not_found"


def test_a_taken_name_is_a_conflict(client, presented):
    with pytest.raises(keystead.Conflict) as caught:
        client.keys.create(**draft(name=presented.key.name))
    assert caught.value.code == "name_taken"


@pytest.mark.parametrize("key_id", ["", ".", "..", "../me", "a/b", "key_?x=1", "ks_cp_live_" + "A" * 49])
def test_what_is_no_id_is_not_sent(client, key_id):
    for act in (client.keys.get, client.keys.revoke, client.usage.of_key):
        with pytest.raises(ValueError, match="id"):
            act(key_id)


def test_a_secret_is_not_searched_for(client, presented):
    with pytest.raises(ValueError, match="address") as caught:
        list(client.keys.list(q=presented.secret))
    assert presented.secret not in str(caught.value)


def test_a_repeated_creation_is_one_key_without_its_secret(client):
    same = draft(idempotency_key=builders.unique("once"))
    first, again = client.keys.create(**same), client.keys.create(**same)
    assert again.key.id == first.key.id
    assert again.secret_status == "already_shown"
    with pytest.raises(keystead.SecretAlreadyShown, match=first.key.id):
        again.secret  # noqa: B018
    with pytest.raises(keystead.Invalid) as caught:
        client.keys.create(**{**same, "description": "another"})
    assert caught.value.code == "idempotency_key_reused"


def test_a_repeated_rotation_too(client, presented):
    once = builders.unique("once")
    first = client.keys.rotate(presented.key.id, idempotency_key=once)
    again = client.keys.rotate(presented.key.id, idempotency_key=once)
    assert again.rotation.id == first.rotation.id
    with pytest.raises(keystead.SecretAlreadyShown):
        again.secret  # noqa: B018


def test_awaited_it_is_the_same(portal):
    async def run():
        async with portal.awaited() as client:
            tag = {"batch": builders.unique("batch")}
            made = await client.keys.create(**draft(tags=tag))
            built = client.keys.create().named(builders.unique("built")).of_kind("control_plane")
            more = (
                await built.in_environment("production").with_scopes(["incidents:read"]).tagged(**tag).issue()
            )
            found = {key.id async for key in client.keys.list(tags=tag, page_size=1)}
            rotated = await client.keys.rotate(made.key.id)
            await client.keys.revoke(more.key.id)
            return {made.key.id, more.key.id}, found, rotated, await client.keys.get(more.key.id)

    made, found, rotated, revoked = asyncio.run(run())
    assert found == made
    assert rotated.key.id in made
    assert revoked.status == "revoked"
