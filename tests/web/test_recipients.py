"""Recipient keys: owners and admins register and remove them, having confirmed their password; nobody else."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.db import IntegrityError, connection
from django.test import Client

from audit import tenancy
from keys import services
from keys.errors import Conflict, Forbidden
from keys.models import Recipient
from keys.pages import offers
from keys.services.recipients import MAX_RECIPIENTS, newest_recipient
from orgs import services as org_services
from orgs.roles import Role
from tests import builders, key_builders
from tests.api import calls

PAGE, NEW = "/settings/recipients", "/settings/recipients/new"


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def where(cast):
    return builders.organization("Fresh", owner=cast.mallory)


def public_pem():
    key = X25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def kept(where):
    with tenancy.within(where.id):
        return list(Recipient.objects.filter(organization_id=where.id))


def stale(client):
    """Let five minutes pass since the person signed in."""
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time() - 400}]
    session.save()
    return client


class TestRegistering:
    @pytest.mark.parametrize("who", ["alice", "anna"])
    def test_owners_and_admins_do_with_one_entry(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        with builders.gains(cast.acme.id, "recipient.registered") as gained:
            answer = client.post(NEW, {"name": "vault", "public_key": public_pem()})
        assert (answer.status_code, answer["Location"]) == (303, PAGE)
        newest = kept(cast.acme)[0]
        assert gained[0].data["target"] == newest.id
        assert gained[0].data["fingerprint"] == newest.fingerprint
        page = client.get(PAGE).content.decode()
        assert newest.fingerprint in page
        assert "secrets are sealed to it" in page

    def test_the_same_key_again_is_refused(self, cast, alice):
        sent = {"name": "vault", "public_key": public_pem()}
        assert alice.post(NEW, sent).status_code == 303
        with builders.gains(cast.acme.id):
            answer = alice.post(NEW, sent)
        assert answer.status_code == 422
        assert list(answer.context["form"].errors) == ["public_key"]

    @pytest.mark.parametrize(
        ("sent", "field"),
        [
            ({"name": "", "public_key": public_pem()}, "name"),
            ({"name": "x" * 101, "public_key": public_pem()}, "name"),
            ({"name": "vault", "public_key": ""}, "public_key"),
            ({"name": "vault", "public_key": "AAAA"}, "public_key"),
            ({"name": "vault", "public_key": "A" * 43 + "="}, "public_key"),
        ],
    )
    def test_an_error_stands_at_its_field(self, cast, alice, sent, field):
        with builders.gains(cast.acme.id):
            answer = alice.post(NEW, sent)
        assert answer.status_code == 422
        assert list(answer.context["form"].errors) == [field]

    def test_a_private_key_is_not_sent_back(self, alice):
        private = X25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        answer = alice.post(NEW, {"name": "vault", "public_key": text})
        assert answer.status_code == 422
        page = answer.content.decode()
        assert "This is a private key" in page
        assert text.splitlines()[1] not in page

    def test_a_password_of_long_ago_does_not_do(self, cast):
        client = stale(builders.signed_in(cast.alice))
        with builders.gains(cast.acme.id):
            answer = client.post(NEW, {"name": "vault", "public_key": public_pem()})
        assert answer.status_code == 303
        assert answer["Location"].startswith("/account/confirm?next=")
        assert client.get(PAGE).status_code == 200

    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_others_are_refused(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        with builders.gains(cast.acme.id):
            assert client.get(PAGE).status_code == 403
            assert client.get(NEW).status_code == 403
            assert client.post(NEW, {"name": "vault", "public_key": public_pem()}).status_code == 403

    def test_there_are_so_many_at_most(self, cast, where):
        for number in range(MAX_RECIPIENTS):
            key_builders.recipient(where, cast.mallory, f"vault {number}")
        with pytest.raises(Conflict):
            key_builders.recipient(where, cast.mallory, "one more")
        assert len(kept(where)) == MAX_RECIPIENTS

    def test_no_api_registers_one(self, cast):
        made = key_builders.create(cast.acme, cast.alice, scopes=["keys:write"])
        client = Client(HTTP_AUTHORIZATION=f"Bearer {made.secret}")
        for path in ("/v1/recipients", "/v1/settings/recipients"):
            assert client.post(path, {}, content_type="application/json").status_code == 404


class Left:
    """Whoever registered one and is no owner or admin any more may have kept the private key."""

    @pytest.fixture
    def owner(self):
        return builders.person("Olga")

    @pytest.fixture
    def where(self, owner):
        return builders.organization("Fresh", owner=owner)

    @pytest.fixture
    def heir(self):
        return builders.person("Heir")

    @pytest.fixture
    def membership(self, where, heir):
        return builders.join(heir, where, Role.ADMIN)

    @pytest.fixture
    def found(self, where, heir, membership):
        return key_builders.recipient(where, heir, "laptop").recipient

    @pytest.fixture
    def olga(self, owner):
        return builders.signed_in(owner)

    def remove(self, owner, where, membership):
        with tenancy.within(where.id):
            org_services.remove_member(membership, actor=builders.member(owner, where))

    def sealed_to(self, where, but_by=""):
        with tenancy.within(where.id):
            found = newest_recipient(where.id, but_by=but_by)
        return found and found.id


class TestLapsing(Left):
    def test_as_they_leave(self, owner, where, heir, membership, found):
        assert self.sealed_to(where) == found.id
        assert self.sealed_to(where, but_by=heir.id) is None
        self.remove(owner, where, membership)
        assert self.sealed_to(where) is None

    def test_as_their_account_is_disabled_until_it_is_enabled(self, where, heir, found):
        org_services.disable_user(heir, actor=builders.OPERATOR)
        assert self.sealed_to(where) is None
        org_services.enable_user(heir, actor=builders.OPERATOR)
        assert self.sealed_to(where) == found.id

    def test_as_they_may_not_register_any_more(self, owner, where, membership, found):
        with tenancy.within(where.id):
            org_services.change_role(membership, Role.DEVELOPER, actor=builders.member(owner, where))
        assert self.sealed_to(where) is None

    def test_a_role_in_a_project_or_elsewhere_vouches_for_nothing(
        self, owner, where, heir, membership, found
    ):
        builders.join(heir, where, Role.ADMIN, builders.root(where))
        builders.organization("Theirs", owner=heir)
        self.remove(owner, where, membership)
        assert self.sealed_to(where) is None

    def test_another_ones_is_taken_instead(self, owner, where, membership, found, olga):
        self.remove(owner, where, membership)
        other = key_builders.recipient(where, owner, "vault").recipient
        assert self.sealed_to(where) == other.id
        page = olga.get(PAGE).content.decode()
        assert page.index("secrets are sealed to it") < page.index("nothing is sealed to it")

    def test_pages_say_so(self, owner, where, membership, found, olga):
        self.remove(owner, where, membership)
        page = olga.get(PAGE).content.decode()
        assert "nothing is sealed to it" in page
        assert "secrets are sealed to it" not in page
        assert "who registered it, has left, and may have kept the private key" in page
        assert "Keep it: we hold the private key" in page
        rules = olga.get("/settings/policies").content.decode()
        assert "Nothing is sealed to <bdi>laptop</bdi>" in rules
        assert "No recipient key is registered.</b>" not in rules
        with tenancy.within(where.id):
            assert "until an owner or admin confirms it" in offers.auto_rotation(where.id)

    def test_the_page_that_removes_them_says_so(self, owner, where, heir, membership, found):
        browser = builders.signed_in(owner)
        page = browser.get(f"/settings/members/{membership.id}/remove").content.decode()
        assert "They vouch for the recipient key laptop: nothing more is sealed to it" in page

    def test_what_has_become_of_them(self, owner, where, heir, membership, found, olga):
        with tenancy.within(where.id):
            org_services.change_role(membership, Role.VIEWER, actor=builders.member(owner, where))
        assert "is no owner or admin any more" in olga.get(PAGE).content.decode()
        org_services.disable_user(heir, actor=builders.OPERATOR)
        assert "may not sign in any more" in olga.get(PAGE).content.decode()


class TestConfirming(Left):
    @pytest.fixture
    def found(self, owner, where, heir, membership):
        found = key_builders.recipient(where, heir, "laptop").recipient
        self.remove(owner, where, membership)
        return found

    @pytest.fixture
    def path(self, found):
        return f"{PAGE}/{found.id}/confirm"

    def test_works_once_with_one_entry(self, owner, where, found, path, olga):
        asked = olga.get(path).content.decode()
        assert found.fingerprint in asked
        assert "has left" in asked
        with builders.gains(where.id, "recipient.registered") as gained:
            assert olga.post(path)["Location"] == PAGE
        assert (gained[0].data["target"], gained[0].data["confirmed"]) == (found.id, True)
        assert gained[0].data["fingerprint"] == found.fingerprint
        assert self.sealed_to(where) == found.id
        with builders.gains(where.id):
            assert olga.post(path)["Location"] == PAGE
            assert olga.get(path)["Location"] == PAGE
        page = olga.get(PAGE).content.decode()
        assert "kept by <bdi>Olga</bdi>" in page
        assert "Keep it:" not in page

    def test_of_two_at_once_one_does(self, owner, where, found):
        def confirm(_):
            with tenancy.within(where.id):
                return services.confirm_recipient(found, actor=builders.member(owner, where))

        with builders.gains(where.id, "recipient.registered"):
            assert sorted(calls.at_once(2, confirm)) == [False, True]

    def test_it_lapses_with_whoever_confirmed_it(self, owner, where, found, path, olga):
        other = builders.person("Other")
        theirs = builders.join(other, where, Role.ADMIN)
        builders.signed_in(other).post(path)
        assert self.sealed_to(where) == found.id
        self.remove(owner, where, theirs)
        assert self.sealed_to(where) is None
        olga.post(path)
        assert kept(where)[0].vouched_by == [found.created_by, other.id, owner.id]

    def test_nobody_else_may(self, cast, owner, where, found, path):
        developer = builders.person("Developer")
        builders.join(developer, where, Role.DEVELOPER)
        with builders.gains(where.id):
            assert builders.signed_in(cast.alice).post(path).status_code == 404
            assert builders.signed_in(developer).post(path).status_code == 403
            stepped_down = stale(builders.signed_in(owner))
            assert stepped_down.post(path)["Location"].startswith("/account/confirm?next=")
            with tenancy.within(where.id), pytest.raises(Forbidden):
                services.confirm_recipient(found, actor=builders.member(developer, where))
            with tenancy.within(cast.acme.id):
                assert not services.confirm_recipient(found, actor=cast.member(cast.alice))
        assert self.sealed_to(where) is None

    def test_one_that_was_removed_stays_so(self, owner, where, found, path, olga):
        olga.post(f"{PAGE}/{found.id}/remove")
        with builders.gains(where.id):
            assert olga.post(path).status_code == 404
            with tenancy.within(where.id):
                assert not services.confirm_recipient(found, actor=builders.member(owner, where))

    @pytest.mark.parametrize(
        "vouched_by", ["'{}'", "ARRAY['usr_other']", "vouched_by[:0] || 'usr_x'::varchar"]
    )
    def test_who_vouched_is_never_taken_back(self, where, found, vouched_by):
        with pytest.raises(IntegrityError), tenancy.within(where.id), connection.cursor() as cursor:
            cursor.execute(f"UPDATE keys_recipient SET vouched_by = {vouched_by} WHERE id = %s", [found.id])


class TestRemoving:
    @pytest.fixture
    def found(self, cast):
        return key_builders.recipient(cast.acme, cast.alice).recipient

    def test_works_once_with_one_entry(self, cast, alice, found):
        path = f"{PAGE}/{found.id}/remove"
        assert found.fingerprint in alice.get(path).content.decode()
        with builders.gains(cast.acme.id, "recipient.removed") as gained:
            assert alice.post(path)["Location"] == PAGE
        assert gained[0].data["target"] == found.id
        with builders.gains(cast.acme.id):
            assert alice.post(path).status_code == 404
        assert found.fingerprint in alice.get(PAGE).content.decode()

    def test_a_removed_one_may_be_registered_again(self, alice):
        sent = {"name": "vault", "public_key": public_pem()}
        alice.post(NEW, sent)
        newest = alice.get(PAGE).context["current"][0].recipient
        alice.post(f"{PAGE}/{newest.id}/remove")
        assert alice.post(NEW, sent).status_code == 303

    def test_a_stranger_finds_none(self, cast, found):
        path = f"{PAGE}/{found.id}/remove"
        assert builders.signed_in(cast.mallory).post(path).status_code == 404
        assert builders.signed_in(cast.bob).post(path).status_code == 403

    def test_a_password_of_long_ago_does_not_do(self, cast, found):
        client = stale(builders.signed_in(cast.alice))
        assert client.post(f"{PAGE}/{found.id}/remove")["Location"].startswith("/account/confirm?next=")
        with tenancy.within(cast.acme.id):
            assert Recipient.objects.get(pk=found.id).removed_at is None

    def test_other_methods_are_refused(self, alice, found):
        assert alice.delete(f"{PAGE}/{found.id}/remove").status_code == 405
        assert alice.post(PAGE).status_code == 405
