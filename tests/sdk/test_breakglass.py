"""Break-glass through the client: what would go is what goes, and what is found burns."""

import asyncio
from datetime import UTC, datetime

import keystead
import pytest
from keystead import Keystead

from tests import builders, key_builders
from tests.api.test_breakglass import breaker as breaker_key


@pytest.fixture
def breaker(server, cast):
    """A client whose key may break the glass."""
    made = breaker_key(cast.acme, cast.alice)
    with Keystead(server.url, made.secret) as client:
        yield client


@pytest.fixture
def tagged(cast):
    tag = {"batch": builders.unique("batch")}
    return tag, [key_builders.create(cast.acme, cast.alice, tags=tag) for _ in range(3)]


def test_what_would_go_goes(breaker, client, tagged):
    tag, made = tagged
    client.api_keys.validate(made[0].secret)
    seen = breaker.break_glass.dry_run(tags=tag)
    assert (seen.dry_run, seen.count, seen.incident, seen.includes_caller) == (True, 3, None, False)
    assert {key.id for key in seen.keys} == {each.key.id for each in made}
    assert seen.keys[0].calls_24h >= 1
    assert client.keys.verify(made[0].secret)

    done = breaker.break_glass.execute(
        tags=tag, reason="Found in a public bucket", created_before=datetime.now(UTC)
    )
    assert (done.dry_run, done.count) == (False, 3)
    assert done.incident.startswith("inc_")
    assert {client.keys.verify(each.secret).code for each in made} == {"REVOKED"}


def test_nothing_without_a_filter_a_reason_or_the_scope(breaker, client, tagged):
    tag, made = tagged
    with pytest.raises(keystead.Invalid):
        breaker.break_glass.dry_run()
    with pytest.raises(keystead.Invalid):
        breaker.break_glass.execute(tags=tag, reason="")
    with pytest.raises(keystead.PermissionDenied):
        client.break_glass.dry_run(tags=tag)
    with pytest.raises(ValueError, match="zone"):
        breaker.break_glass.dry_run(created_before=datetime(2027, 1, 1))  # noqa: DTZ001
    assert all(client.keys.verify(each.secret) for each in made)


def test_awaited(portal, client, cast, presented, tagged, server):
    tag, _ = tagged
    key = breaker_key(cast.acme, cast.alice)

    async def run():
        async with keystead.AsyncKeystead(server.url, key.secret) as breaker:
            seen = await breaker.break_glass.dry_run(tags=tag)
            done = await breaker.break_glass.execute(tags=tag, reason="A drill")
            await breaker.keys.burn(presented.secret)
            return seen, done

    seen, done = asyncio.run(run())
    assert seen.count == done.count == 3
    assert client.keys.verify(presented.secret).code == "REVOKED"
