"""Incidents: opened inside another act's recording, with what each key carried frozen, and never changed."""

import pytest
from django.db import IntegrityError, ProgrammingError, connection

from audit import ledger, tenancy
from keys import clock
from keys.models import ApiKey, Incident, IncidentKey, IncidentKind
from keys.services.incidents import open_incident
from tests import key_builders, usage_builders


def opened(cast, keys, **changes):
    where = cast.acme
    actor = cast.member(cast.alice)
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        given = {
            "kind": IncidentKind.LEAK,
            "organization_id": where.id,
            "reason": "found in a gist",
            "keys": keys,
            "actor": actor,
            "now": clock.now(),
        }
        incident = open_incident(entry, **{**given, **changes})
        entry("key.leaked", target=keys[0].id, data={"incident": incident.id})
    return incident


def rows(incident, where):
    with tenancy.within(where.id):
        return list(IncidentKey.objects.filter(incident=incident).order_by("key_id"))


class TestOpening:
    def test_it_keeps_why_and_what_each_key_carried(self, cast):
        busy, idle = (key_builders.create(cast.acme, cast.alice) for _ in range(2))
        key_builders.verify(busy.secret, cast.acme, ip="203.0.113.77")
        for hours in (1, 23, 25):
            usage_builders.call(busy.key, at=usage_builders.ago(hours=hours))
        incident = opened(cast, [busy.key, idle.key], source="github", url="https://example.com/x")
        found = {row.key_id: row for row in rows(incident, cast.acme)}
        assert incident.id.startswith("inc_")
        assert (incident.kind, incident.reason) == ("leak", "found in a gist")
        assert (incident.source, incident.url) == ("github", "https://example.com/x")
        assert incident.opened_by == cast.alice.id
        assert found[busy.key.id].calls_24h == 3
        assert found[busy.key.id].last_used_ip == "203.0.113.77"
        assert found[idle.key.id].calls_24h == 0
        assert found[idle.key.id].last_used_at is None

    def test_what_is_rolled_up_counts_the_same(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        for minutes in (1, 5, 59, 61, 119, 1_380, 1_439, 1_442, 1_500):
            usage_builders.call(made.key, at=usage_builders.ago(minutes=minutes))
        fresh = rows(opened(cast, [made.key]), cast.acme)[0].calls_24h
        usage_builders.rolled_up()
        rolled = rows(opened(cast, [made.key]), cast.acme)[0].calls_24h
        assert (fresh, rolled) == (7, 7)

    def test_counting_never_holds_up_the_act(self, cast, monkeypatch):
        monkeypatch.setattr("keys.services.incidents.COUNTING", "1ms")
        monkeypatch.setattr("keys.usage.many._CALLS", "SELECT 'key', 1 FROM (SELECT pg_sleep(1)) s")
        made = key_builders.create(cast.acme, cast.alice)
        assert rows(opened(cast, [made.key]), cast.acme)[0].calls_24h is None

    def test_it_needs_the_recording_of_its_own_organization(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        with pytest.raises(ValueError, match="its own organization"):
            opened(cast, [made.key], organization_id=cast.elsewhere.id)

    def test_a_strangers_key_is_refused_by_the_database(self, cast):
        made = key_builders.create(cast.elsewhere, cast.mallory)
        with pytest.raises(IntegrityError):
            opened(cast, [made.key])


class TestKeeping:
    @pytest.mark.parametrize("statement", ["UPDATE {} SET organization_id = ''", "DELETE FROM {}"])
    @pytest.mark.parametrize("table", ["keys_incident", "keys_incidentkey"])
    def test_nobody_changes_one(self, cast, table, statement):
        opened(cast, [key_builders.create(cast.acme, cast.alice).key])
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            tenancy.within(cast.acme.id),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement.format(table))

    def test_a_stranger_sees_none(self, cast):
        incident = opened(cast, [key_builders.create(cast.acme, cast.alice).key])
        with tenancy.within(cast.elsewhere.id):
            assert not Incident.objects.filter(pk=incident.id).exists()
            assert not IncidentKey.objects.filter(incident=incident.id).exists()
            assert not ApiKey.objects.filter(incidents__incident=incident.id).exists()
