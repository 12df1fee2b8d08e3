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
from django.test import Client

from audit import tenancy
from keys.errors import Conflict
from keys.models import Recipient
from keys.services.recipients import MAX_RECIPIENTS
from tests import builders, key_builders

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
        newest = alice.get(PAGE).context["current"][0]
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
