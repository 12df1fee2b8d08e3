"""What the worker notices about keys: a network that is new to a key, and that a key came back by itself."""

from typing import Final

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from keys import clock
from keys.models import ApiKey, KeyNetwork
from keys.services.common import facts

AT_ONCE: Final = 200
TIME_IS_UP: Final = "time_is_up"


def record_first_networks(organization_id: str, *, actor: Actor) -> int:
    """Tell of networks that are new to a key; the entries `key.first_network`, each once.

    Writes `told_at` in the transaction of the entries, so that neither a kill nor a second worker tells twice. The
    address itself is sealed; the network that it is of (/24, /56) is not.

    Returns:
        How many were told of, at most 200: call it until it returns 0.
    """
    with ledger.recording(organization_id, actor) as entry:
        now = clock.now()
        due = KeyNetwork.objects.filter(organization_id=organization_id, is_due=True)
        news = list(due.select_for_update().order_by("key_id", "first_seen_at", "network")[:AT_ONCE])
        keys = ApiKey.objects.of(organization_id).in_bulk({one.key_id for one in news})
        for one in news:
            due.filter(key_id=one.key_id, network=one.network).update(is_due=False, told_at=now)
            key = keys.get(one.key_id)
            if key is None:
                continue
            data = {"network": one.network, "region": one.first_region, "first_seen_at": one.first_seen_at}
            entry(
                Act.KEY_FIRST_NETWORK,
                target=key.id,
                data=facts(key, **data),
                sealed={"address": str(one.first_ip)},
            )
    return len(news)


def record_returns(organization_id: str, *, actor: Actor) -> int:
    """Tell of keys that were disabled for a while and came back by themselves; the entries `key.enabled`, each once.

    They came back when their time was up, whether anybody tells of it or not: this clears `disabled_until`, which no
    longer counts, and records it. One that was revoked, expired or disabled for good meanwhile did not come back.

    Returns:
        How many were told of, at most 200: call it until it returns 0.
    """
    with ledger.recording(organization_id, actor) as entry:
        now = clock.now()
        keys = ApiKey.objects.of(organization_id).returned(now).order_by("id")
        back = list(keys.select_for_update()[:AT_ONCE])
        ApiKey.objects.filter(pk__in=[key.pk for key in back]).update(disabled_until=None, updated_at=now)
        for key in back:
            data = facts(key, cause=TIME_IS_UP, until=key.disabled_until)
            entry(Act.KEY_ENABLED, target=key.id, data=data)
    return len(back)
