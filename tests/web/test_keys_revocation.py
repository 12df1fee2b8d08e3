"""Stopping a key on its page: revoking, disabling, enabling."""

from datetime import timedelta

import pytest

from audit import tenancy
from keys import clock, services
from keys.callers import of_member
from tests import builders, key_builders
from tests.key_builders import entries


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def created(cast):
    return key_builders.create(cast.acme, cast.alice)


class TestRevoke:
    def test_revokes_and_records_one_entry(self, alice, cast, created):
        before = entries(cast.acme)
        assert alice.get(f"/keys/{created.key.id}/revoke").status_code == 200
        response = alice.post(
            f"/keys/{created.key.id}/revoke", {"reason": "leaked", "note": "Seen in public"}
        )
        assert (response.status_code, response["Location"]) == (303, f"/keys/{created.key.id}")
        assert key_builders.verify(created.secret, cast.acme) == "REVOKED"
        gained = entries(cast.acme)[len(before) :]
        assert [(entry["act"], entry["data"]["reason"]) for entry in gained] == [("key.revoked", "leaked")]
        assert "Seen in public" not in str(gained)

    def test_again_records_nothing(self, alice, cast, created):
        for _ in range(2):
            alice.post(f"/keys/{created.key.id}/revoke", {"reason": "unused"})
        revoked = [e for e in entries(cast.acme) if e["data"].get("target") == created.key.id]
        assert [entry["act"] for entry in revoked] == ["key.created", "key.revoked"]
        assert "revoked already" in alice.get(f"/keys/{created.key.id}/revoke").content.decode()

    def test_a_key_in_use_needs_its_name_typed(self, alice, cast, created):
        key_builders.verify(created.secret, cast.acme)
        path = f"/keys/{created.key.id}/revoke"
        assert "203.0.113.9" in alice.get(path).content.decode()
        for typed in ("", "something-else", created.key.name.upper()):
            response = alice.post(path, {"reason": "unused", "confirmation": typed})
            assert response.status_code == 422
            assert list(response.context["form"].errors) == ["confirmation"]
        assert key_builders.verify(created.secret, cast.acme) == "VALID"
        assert alice.post(path, {"reason": "unused", "confirmation": created.key.name}).status_code == 303
        assert key_builders.verify(created.secret, cast.acme) == "REVOKED"

    @pytest.mark.parametrize(
        ("sent", "field"),
        [({}, "reason"), ({"reason": "boredom"}, "reason"), ({"reason": "other", "note": "\u202e"}, "note")],
    )
    def test_an_error_stands_at_its_field(self, alice, cast, created, sent, field):
        response = alice.post(f"/keys/{created.key.id}/revoke", sent)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert key_builders.verify(created.secret, cast.acme) == "VALID"

    def test_every_secret_that_works_is_named(self, alice, cast, created):
        key_builders.rotate(created.key, cast.acme, cast.alice)
        versions = alice.get(f"/keys/{created.key.id}/revoke").context["versions"]
        assert [version.secret.version for version in versions] == [2, 1]


class TestDisable:
    def test_until_somebody_enables_it(self, alice, cast, created):
        before = entries(cast.acme)
        assert alice.post(f"/keys/{created.key.id}/disable", {"minutes": ""}).status_code == 303
        assert key_builders.verify(created.secret, cast.acme) == "DISABLED"
        assert alice.post(f"/keys/{created.key.id}/enable").status_code == 303
        assert key_builders.verify(created.secret, cast.acme) == "VALID"
        acts = [entry["act"] for entry in entries(cast.acme)[len(before) :]]
        assert acts == ["key.disabled", "key.enabled"]

    def test_for_fifteen_minutes_it_comes_back_by_itself(self, alice, cast, created):
        alice.post(f"/keys/{created.key.id}/disable", {"minutes": "15"})
        key = key_builders.read(created.key.id, cast.acme)
        left = key.disabled_until - clock.now()
        assert not key.is_disabled
        assert timedelta(minutes=14) < left <= timedelta(minutes=15)
        assert key_builders.verify(created.secret, cast.acme) == "DISABLED"
        assert "It comes back by itself" in alice.get(f"/keys/{key.id}").content.decode()

    @pytest.mark.parametrize("longer", [{"minutes": ""}, {"days": 30}])
    def test_for_fifteen_minutes_never_lets_one_come_back_sooner(self, alice, cast, created, longer):
        until = clock.now() + timedelta(days=30) if "days" in longer else None
        with tenancy.within(cast.acme.id):
            services.disable_key(created.key, actor=of_member(cast.member(cast.alice)), until=until)
        before = entries(cast.acme)
        response = alice.post(f"/keys/{created.key.id}/disable", {"minutes": "15"}, follow=True)
        assert "disabled for longer already" in response.content.decode()
        key = key_builders.read(created.key.id, cast.acme)
        assert (key.is_disabled, key.disabled_until) == (until is None, until)
        assert entries(cast.acme) == before

    @pytest.mark.parametrize("minutes", ["1", "-15", "525600000", "x"])
    def test_only_the_offered_times(self, alice, cast, created, minutes):
        response = alice.post(f"/keys/{created.key.id}/disable", {"minutes": minutes})
        assert response.status_code == 422
        assert key_builders.verify(created.secret, cast.acme) == "VALID"

    @pytest.mark.parametrize("act", ["disable", "enable"])
    def test_a_revoked_key_stays_revoked(self, alice, cast, created, act):
        if act == "enable":
            alice.post(f"/keys/{created.key.id}/disable")
        alice.post(f"/keys/{created.key.id}/revoke", {"reason": "other"})
        before = entries(cast.acme)
        response = alice.post(f"/keys/{created.key.id}/{act}")
        assert response.status_code == 409
        assert "ended" in response.content.decode()
        assert entries(cast.acme) == before

    def test_who_cannot_grant_its_scopes_cannot_bring_it_back(self, alice, cast):
        created = key_builders.create(cast.acme, cast.alice, scopes=["admin:projects"])
        alice.post(f"/keys/{created.key.id}/disable")
        response = builders.signed_in(cast.bob).post(f"/keys/{created.key.id}/enable")
        assert response.status_code == 403
        assert key_builders.verify(created.secret, cast.acme) == "DISABLED"


class TestAccess:
    @pytest.mark.parametrize("act", ["revoke", "disable", "enable"])
    def test_strangers_and_readers_stop_nothing(self, cast, created, act):
        path, before = f"/keys/{created.key.id}/{act}", entries(cast.acme)
        assert builders.signed_in(cast.mallory).post(path, {"reason": "other"}).status_code == 404
        for reader in (cast.carol, cast.vera):
            assert builders.signed_in(reader).post(path, {"reason": "other"}).status_code == 403
        assert entries(cast.acme) == before
        assert key_builders.verify(created.secret, cast.acme) == "VALID"

    @pytest.mark.parametrize("act", ["disable", "enable"])
    def test_only_by_post(self, alice, created, act):
        assert alice.get(f"/keys/{created.key.id}/{act}").status_code == 405

    def test_the_revocation_has_a_page(self, alice, created):
        assert alice.put(f"/keys/{created.key.id}/revoke").status_code == 405
