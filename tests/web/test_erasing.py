"""Erasing from the log by hand: who may, what it says first, and that it is done once the name is typed again."""

from dataclasses import replace

import pytest
from django.urls import reverse

from audit import ledger, tenancy
from audit.models import Erasure, Sealed
from audit.services import erasing
from orgs.models import User
from tests import builders, ledgers

ERASE = "/log/erase"


@pytest.fixture
def cast():
    cast = builders.cast()
    bob = replace(cast.member(cast.bob), ip="198.51.100.7", user_agent="Agent of Bob")
    with tenancy.within(cast.acme.id), ledger.recording(cast.acme.id, bob) as entry:
        entry("key.revoked", target="key_1", sealed={"note": "it was his"})
    return cast


def values(organization_id):
    with tenancy.within(organization_id):
        return set(Sealed.objects.filter(organization_id=organization_id).values_list("value", flat=True))


def said(response):
    return " ".join(response.content.decode().split())


class TestErase:
    def test_a_link_says_how_much_there_is_and_changes_nothing(self, cast):
        client = builders.signed_in(cast.alice)
        with builders.gains(cast.acme.id):
            page = client.get(ERASE, {"person": cast.bob.id})
        assert "would go" in said(page)
        assert cast.bob.email in said(page)
        assert "Agent of Bob" in values(cast.acme.id)

    def test_posting_without_the_name_only_counts(self, cast):
        client = builders.signed_in(cast.alice)
        with builders.gains(cast.acme.id):
            page = client.post(ERASE, {"who": cast.bob.email.upper()})
        assert "would go" in said(page)

    def test_a_wrong_name_erases_nothing(self, cast):
        client = builders.signed_in(cast.alice)
        with builders.gains(cast.acme.id):
            page = client.post(ERASE, {"who": cast.bob.email, "confirmation": cast.carol.email})
        assert "That is not what stands above." in said(page)

    def test_with_the_name_it_is_done_and_told(self, cast):
        client = builders.signed_in(cast.alice)
        asked = {"who": cast.bob.id, "confirmation": cast.bob.email, "reason": "ticket 4711"}
        before = len(builders.entries(cast.acme.id))
        done = client.post(ERASE, asked)
        told = builders.entries(cast.acme.id)[before:]
        assert done.status_code == 303
        assert "are gone." in said(client.get(done["Location"]))
        assert {(entry.act, entry.data["target"]) for entry in told} == {("ledger.erasure", cast.bob.id)}
        left = values(cast.acme.id)
        assert not {"Agent of Bob", "198.51.100.7", cast.bob.email} & left
        assert {"it was his", "ticket 4711"} <= left

    def test_their_notes_go_where_that_is_chosen(self, cast):
        client = builders.signed_in(cast.alice)
        asked = {"who": cast.bob.id, "confirmation": cast.bob.email, "with_notes": "on"}
        assert client.post(ERASE, asked).status_code == 303
        assert "it was his" not in values(cast.acme.id)

    def test_nobody_is_told_who_a_stranger_is(self, cast):
        """Neither an account's address by its id, nor its id by its address."""
        client = builders.signed_in(cast.alice)
        by_id = said(client.get(ERASE, {"person": cast.mallory.id}))
        assert cast.mallory.email not in by_id
        by_address = said(client.post(ERASE, {"who": cast.mallory.email}))
        assert cast.mallory.id not in by_address
        unknown = said(client.post(ERASE, {"who": "nobody@nowhere.example"}))
        assert by_address.count("holds nothing of") == unknown.count("holds nothing of") == 1

    def test_the_address_that_somebody_has_got_since_is_not_told(self, cast):
        """Bob left, and has another address now, of another organization."""
        known, new = cast.bob.email, f"aaa-{cast.bob.email}"
        User.objects.filter(pk=cast.bob.id).update(email=new)
        client = builders.signed_in(cast.alice)
        by_id = said(client.get(ERASE, {"person": cast.bob.id}))
        assert known in by_id
        assert new not in by_id
        by_address = said(client.post(ERASE, {"who": known}))
        assert "would go" in by_address
        assert new not in by_address

    @pytest.mark.parametrize("who", ["anna", "bob", "carol", "vera"])
    def test_nobody_but_an_owner(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        asked = {"who": cast.bob.id, "confirmation": cast.bob.email}
        with builders.gains(cast.acme.id):
            assert client.post(ERASE, asked).status_code == 403
            assert client.get(ERASE, {"person": cast.bob.id}).status_code == 403

    def test_only_who_confirmed_their_password_just_now(self, cast):
        client = builders.signed_in(cast.alice)
        session = client.session
        session["account_authentication_methods"] = [
            {"method": "password", "at": 0, "email": cast.alice.email}
        ]
        session.save()
        with builders.gains(cast.acme.id):
            asked = {"who": cast.bob.id, "confirmation": cast.bob.email}
            assert client.post(ERASE, asked)["Location"].startswith("/account/confirm?next=")

    def test_a_strangers_erasure_is_none(self, cast):
        erasure = erasing.erase_person(cast.acme.id, cast.bob.id, actor=cast.member(cast.alice))
        path = reverse("audit:erasure", args=[erasure.id])
        assert builders.signed_in(cast.mallory).get(path).status_code == 404
        assert builders.signed_in(cast.carol).get(path).status_code == 403
        assert builders.signed_in(cast.alice).get(path).status_code == 200

    def test_one_that_goes_on_is_asked_for_again(self, cast, monkeypatch):
        monkeypatch.setattr(erasing, "PAGE", 2)
        monkeypatch.setattr(erasing, "ENOUGH", 1)
        ledgers.append(cast.acme.id, 9, actor=cast.member(cast.bob))
        client = builders.signed_in(cast.alice)
        done = client.post(ERASE, {"who": cast.bob.id, "confirmation": cast.bob.email})
        page = said(client.get(done["Location"], headers={"HX-Request": "true", "HX-Target": "progress"}))
        assert 'hx-trigger="every 2s"' in page
        assert "<html" not in page
        with tenancy.within(cast.acme.id):
            erasure = Erasure.objects.get(organization_id=cast.acme.id)
        while erasing.advance_erasure(cast.acme.id, erasure.id):
            pass
        assert "every 2s" not in said(client.get(done["Location"]))


class TestWhereItIsFound:
    def test_an_owner_finds_it_on_entries_members_and_removing(self, cast):
        place = len(builders.entries(cast.acme.id)) - 1
        pages = [reverse("audit:entry", args=[(1, place)]), reverse("orgs:members")]
        link = f"{ERASE}?person={cast.bob.id}"
        for path in pages:
            assert link in said(builders.signed_in(cast.alice).get(path)), path
            assert ERASE not in said(builders.signed_in(cast.anna).get(path)), path
