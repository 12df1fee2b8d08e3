"""Rotating a key on its page: what happens when, and the new secret, once."""

from datetime import timedelta

import pytest

from audit import tenancy
from keys import clock
from keys.models import Rotation
from tests import builders, key_builders
from tests.key_builders import entries, secrets_in


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def created(cast):
    return key_builders.create(cast.acme, cast.alice)


def form(client, key, **changes):
    """Return what a browser sends from a page that it has just loaded."""
    token = key_builders.token(client, f"/keys/{key.id}/rotate")
    return {"token": token, "version": key.newest_version, "mode": "grace", "grace": "86400", **changes}


def rotation(key, cast):
    with tenancy.within(cast.acme.id):
        return Rotation.objects.filter(key_id=key.id).first()


class TestRotate:
    def test_grace_keeps_the_old_one_and_shows_the_new(self, alice, cast, created):
        before = entries(cast.acme)
        response = alice.post(f"/keys/{created.key.id}/rotate", form(alice, created.key))
        assert response.status_code == 200
        assert response["Cache-Control"] == "no-store"
        (fresh,) = secrets_in(response)
        assert fresh != created.secret
        assert [key_builders.verify(text, cast.acme) for text in (created.secret, fresh)] == ["VALID"] * 2
        gained = entries(cast.acme)[len(before) :]
        assert [entry["act"] for entry in gained] == ["rotation.started"]
        assert fresh not in str(gained)

    def test_the_new_secret_is_in_no_other_answer(self, alice, created):
        (fresh,) = secrets_in(alice.post(f"/keys/{created.key.id}/rotate", form(alice, created.key)))
        for path in ("", "/access", "/rotate"):
            assert fresh not in alice.get(f"/keys/{created.key.id}{path}").content.decode()
        assert fresh not in str(dict(alice.session.items()))

    def test_immediate_refuses_the_old_one(self, alice, cast, created):
        sent = form(alice, created.key, mode="immediate")
        (fresh,) = secrets_in(alice.post(f"/keys/{created.key.id}/rotate", sent))
        assert key_builders.verify(created.secret, cast.acme) == "SECRET_RETIRED"
        assert key_builders.verify(fresh, cast.acme) == "VALID"

    @pytest.mark.parametrize(
        ("changes", "length"),
        [
            ({"grace": "3600"}, timedelta(hours=1)),
            ({"grace": "604800"}, timedelta(days=7)),
            ({"grace": "custom", "amount": "5", "unit": "3600"}, timedelta(hours=5)),
            ({"grace": "custom", "amount": "2", "unit": "86400"}, timedelta(days=2)),
        ],
    )
    def test_the_grace_is_as_long_as_was_chosen(self, alice, cast, created, changes, length):
        alice.post(f"/keys/{created.key.id}/rotate", form(alice, created.key, **changes))
        started = rotation(created.key, cast)
        assert started.grace_ends_at - started.started_at == length

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"mode": "later"}, "mode"),
            ({"mode": "staged", "targets": ""}, "targets"),
            ({"mode": "staged", "targets": "eu\r\neu"}, "targets"),
            ({"mode": "staged", "targets": "é" * 33}, "targets"),
            ({"mode": "staged", "targets": "eu", "quiet": "0"}, "quiet"),
            ({"mode": "staged", "targets": "eu", "quiet": "1441"}, "quiet"),
            ({"mode": "staged", "targets": "eu", "deadline": "1"}, "deadline"),
            ({"grace": "1"}, "grace"),
            ({"grace": "custom", "amount": "", "unit": "3600"}, "amount"),
            ({"grace": "custom", "amount": "0", "unit": "3600"}, "amount"),
            ({"grace": "custom", "amount": "31", "unit": "86400"}, "amount"),
            ({"version": "x"}, "version"),
            ({"token": "short"}, "token"),
        ],
    )
    def test_an_error_stands_at_its_field(self, alice, cast, created, changes, field):
        before = entries(cast.acme)
        response = alice.post(f"/keys/{created.key.id}/rotate", form(alice, created.key, **changes))
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert entries(cast.acme) == before
        assert key_builders.verify(created.secret, cast.acme) == "VALID"

    def test_the_same_form_again_rotates_no_second_time(self, alice, cast, created):
        sent = form(alice, created.key)
        assert alice.post(f"/keys/{created.key.id}/rotate", sent).status_code == 200
        before = entries(cast.acme)
        again = alice.post(f"/keys/{created.key.id}/rotate", {**sent, "mode": "immediate"})
        assert again.status_code == 409
        assert secrets_in(again) == []
        assert "already sent" in again.content.decode()
        assert entries(cast.acme) == before

    def test_a_running_rotation_says_until_when(self, alice, cast, created):
        key_builders.rotate(created.key, cast.acme, cast.bob)
        sent = form(alice, key_builders.read(created.key.id, cast.acme))
        before = entries(cast.acme)
        response = alice.post(f"/keys/{created.key.id}/rotate", sent)
        assert response.status_code == 409
        assert "A rotation is still running" in response.content.decode()
        assert response.context["running"].grace_ends_at > clock.now()
        assert entries(cast.acme) == before

    def test_immediate_supersedes_a_running_one(self, alice, cast, created):
        running = key_builders.rotate(created.key, cast.acme, cast.bob)
        sent = form(alice, key_builders.read(created.key.id, cast.acme), mode="immediate")
        (fresh,) = secrets_in(alice.post(f"/keys/{created.key.id}/rotate", sent))
        assert key_builders.verify(created.secret, cast.acme) == "SECRET_RETIRED"
        assert key_builders.verify(running.secret, cast.acme) == "SECRET_RETIRED"
        assert key_builders.verify(fresh, cast.acme) == "VALID"

    def test_a_key_that_was_rotated_meanwhile_is_not_rotated(self, alice, cast, created):
        sent = form(alice, created.key, mode="immediate")
        other = key_builders.rotate(created.key, cast.acme, cast.bob)
        response = alice.post(f"/keys/{created.key.id}/rotate", sent)
        assert response.status_code == 409
        assert "rotated meanwhile" in response.content.decode()
        assert key_builders.verify(other.secret, cast.acme) == "VALID"
        again = {**sent, "token": response.context["form"]["token"].value()}
        again["version"] = response.context["form"]["version"].value()
        assert alice.post(f"/keys/{created.key.id}/rotate", again).status_code == 200

    @pytest.mark.parametrize("how", ["disable", "revoke"])
    def test_a_key_that_does_not_work_is_not_rotated(self, alice, cast, created, how):
        sent = form(alice, created.key)
        alice.post(f"/keys/{created.key.id}/{how}", {"reason": "other"})
        assert 'name="token"' not in alice.get(f"/keys/{created.key.id}/rotate").content.decode()
        response = alice.post(f"/keys/{created.key.id}/rotate", sent)
        assert response.status_code == 409
        assert secrets_in(response) == []

    def test_who_does_not_hold_all_of_it_gets_no_secret(self, cast):
        created = key_builders.create(cast.acme, cast.alice, scopes=["admin:projects"])
        bob, before = builders.signed_in(cast.bob), entries(cast.acme)
        page = bob.get(f"/keys/{created.key.id}/rotate").content.decode()
        assert "You can&#x27;t grant admin:projects." in page
        sent = {"token": key_builders.token(bob), "version": 1, "mode": "grace", "grace": "86400"}
        response = bob.post(f"/keys/{created.key.id}/rotate", sent)
        assert response.status_code == 422
        assert secrets_in(response) == []
        assert entries(cast.acme) == before


class TestPreview:
    def test_draws_and_changes_nothing(self, alice, cast, created):
        before = entries(cast.acme)
        path = f"/keys/{created.key.id}/rotate/preview"
        part = alice.post(path, form(alice, created.key, mode="immediate"), headers={"HX-Request": "true"})
        assert "refused from the moment" in part.content.decode()
        assert "<html" not in part.content.decode()
        whole = alice.post(path, form(alice, created.key, grace="custom", amount="3", unit="86400"))
        assert "<html" in whole.content.decode()
        assert "<svg" in whole.content.decode()
        assert entries(cast.acme) == before

    @pytest.mark.parametrize(
        "garbage",
        [{}, {"grace": "custom", "amount": "9" * 50}, {"grace": "-1"}, {"mode": "x", "amount": "²"}],
    )
    def test_garbage_is_no_error(self, alice, created, garbage):
        assert alice.post(f"/keys/{created.key.id}/rotate/preview", garbage).status_code == 200


class TestAccess:
    @pytest.mark.parametrize("path", ["rotate", "rotate/preview"])
    def test_strangers_and_readers(self, cast, created, path):
        url = f"/keys/{created.key.id}/{path}"
        before = entries(cast.acme)
        assert builders.signed_in(cast.mallory).post(url, {}).status_code == 404
        assert builders.signed_in(cast.carol).post(url, {}).status_code == 403
        assert builders.signed_in(cast.vera).post(url, {}).status_code == 403
        assert entries(cast.acme) == before

    def test_methods(self, alice, created):
        assert alice.put(f"/keys/{created.key.id}/rotate").status_code == 405
        assert alice.get(f"/keys/{created.key.id}/rotate/preview").status_code == 405
