"""Joining by a link: what it lets in, and what it gives away."""

import logging

import pytest
from django.test import Client

from audit import tenancy
from orgs import invitations, services, sessions
from orgs.models import Membership, Session, User
from orgs.roles import Role
from tests import builders

PASSWORD = "a sentence that is long enough"


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()


def invite(cast, email=None, role=Role.DEVELOPER):
    email = email or f"{builders.unique('new')}@example.com"
    return email, services.invite_member(email, role, actor=cast.member(cast.alice)).token


def opened(token, client=None):
    client = client or Client()
    response = client.get(f"/join/{token}")
    assert (response.status_code, response.url) == (303, "/join")
    return client


def role_of(email, where):
    with tenancy.within(where.id):
        return list(Membership.objects.filter(user__email=email).values_list("role", flat=True))


class TestLink:
    def test_the_token_leaves_the_address_and_is_kept_as_a_digest(self, cast):
        _, token = invite(cast)
        client = opened(token)
        page = client.get("/join")
        assert page.status_code == 200
        assert token not in page.content.decode()
        row = Session.objects.get(pk=sessions.digest(client.cookies["session"].value))
        assert token not in str(row.get_decoded())
        assert invitations.digest(token).hex() in str(row.get_decoded())
        for response in (page, client.get(f"/join/{token}")):
            assert response["Referrer-Policy"] == "no-referrer"
            assert response["Cache-Control"] == "no-store"

    def test_the_log_shows_no_token(self, cast, capfd, caplog):
        _, token = invite(cast)
        with caplog.at_level(logging.DEBUG):
            opened(token)
        assert token not in caplog.text + "".join(capfd.readouterr())

    def test_looking_uses_nothing_up(self, cast):
        _, token = invite(cast)
        opened(token)
        client = opened(token)
        assert client.get("/join").status_code == 200

    @pytest.mark.parametrize("token", ["x", "x" * 43, "a" * 500, "é"])
    def test_a_wrong_one_is_dead(self, cast, token):
        response = Client().get(f"/join/{token}")
        assert response.status_code == 404
        assert b"no longer works" in response.content

    def test_a_nul_is_no_page_at_all(self):
        assert Client().get("/join/%00").status_code == 404

    def test_without_a_link_there_is_nothing(self):
        for response in (Client().get("/join"), Client().post("/join"), Client().post("/join/new")):
            assert response.status_code == 404

    def test_a_withdrawn_one_dies_in_every_browser(self, cast):
        email, token = invite(cast)
        client = opened(token)
        found = invitations.find_open(invitations.digest(token))
        services.withdraw_invitation(found, actor=cast.member(cast.alice))
        assert client.get("/join").status_code == 404
        answer = client.post("/join/new", {"name": "N", "password": PASSWORD})
        assert answer.status_code == 404
        assert not User.objects.filter(email=email).exists()

    def test_methods(self, cast):
        _, token = invite(cast)
        client = opened(token)
        assert client.post(f"/join/{token}").status_code == 405
        assert client.get("/join/new").status_code == 405
        assert client.put("/join").status_code == 405


class TestNewAccount:
    def test_is_made_joins_and_is_signed_in(self, cast):
        email, token = invite(cast)
        client = opened(token)
        anonymous = client.cookies["session"].value
        acts = ("user.created", "session.started")
        with builders.gains(tenancy.operator_id(), *acts), builders.gains(cast.acme.id, "member.joined"):
            response = client.post("/join/new", {"name": "Nina", "password": PASSWORD})
        assert (response.status_code, response.url) == (303, "/")
        assert client.cookies["session"].value != anonymous
        assert role_of(email, cast.acme) == ["developer"]
        assert cast.acme.id in client.get("/settings/organization").content.decode()
        assert Client().get(f"/join/{token}").status_code == 404

    @pytest.mark.parametrize(
        ("form", "field"),
        [
            ({"password": "short"}, "password"),
            ({"password": "password1234"}, "password"),
            ({"name": ""}, "name"),
        ],
    )
    def test_says_what_is_wrong_and_makes_nothing(self, cast, form, field):
        email, token = invite(cast)
        client = opened(token)
        with builders.gains(tenancy.operator_id()), builders.gains(cast.acme.id):
            response = client.post("/join/new", {"name": "Nina", "password": PASSWORD} | form)
        assert response.status_code == 200
        assert list(response.context["form"].errors) == [field]
        assert PASSWORD not in response.content.decode()
        assert not User.objects.filter(email=email).exists()

    def test_never_replaces_an_account(self, cast):
        kim = builders.person("Kim")
        _, token = invite(cast, kim.email)
        client = opened(token)
        assert b"Sign in" in client.get("/join").content
        assert b'name="password"' not in client.get("/join").content
        with builders.gains(tenancy.operator_id()), builders.gains(cast.acme.id):
            assert client.post("/join/new", {"name": "Kim", "password": PASSWORD}).status_code == 200
        assert role_of(kim.email, cast.acme) == []
        assert builders.signed_in(kim)

    def test_is_posted_from_this_site_with_a_token(self, cast):
        _, token = invite(cast)
        client = Client(enforce_csrf_checks=True)
        opened(token, client)
        assert client.post("/join/new", {"name": "N", "password": PASSWORD}).status_code == 403


class TestOwnAccount:
    def test_joins_after_signing_in(self, cast):
        kim = builders.person("Kim")
        _, token = invite(cast, kim.email, Role.AUDITOR)
        client = opened(token)
        signed_in = client.post("/login?next=/join", {"login": kim.email, "password": builders.PASSWORD})
        assert signed_in.url == "/join"
        with builders.gains(cast.acme.id, "member.joined"):
            assert client.post("/join").status_code == 303
        assert role_of(kim.email, cast.acme) == ["auditor"]

    def test_another_person_does_not(self, cast):
        email, token = invite(cast)
        client = opened(token, builders.signed_in(cast.mallory))
        assert cast.mallory.email in client.get("/join").content.decode()
        with builders.gains(cast.acme.id):
            response = client.post("/join")
        assert b"another e-mail address" in response.content
        assert client.post("/join/new", {"name": "M", "password": PASSWORD}).status_code == 303
        assert role_of(email, cast.acme) == []
        assert not User.objects.filter(email=email).exists()

    def test_lands_in_the_organization_that_was_joined(self, cast):
        _, token = invite(cast, cast.mallory.email, Role.VIEWER)
        client = opened(token, builders.signed_in(cast.mallory))
        client.post("/join")
        assert cast.acme.id in client.get("/settings/organization").content.decode()

    @pytest.mark.usefixtures("one_window")
    def test_is_limited(self, cast):
        _, token = invite(cast)
        client = opened(token, Client(REMOTE_ADDR="203.0.113.200"))
        answers = {client.get("/join").status_code for _ in range(31)}
        assert answers == {200, 429}
