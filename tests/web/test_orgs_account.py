"""Signing in and out, the password, and what a session is worth."""

import json
import re
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from audit import ledger, tenancy
from audit.errors import LedgerUnavailable
from orgs import services, sessions
from orgs.models import Session
from orgs.roles import Role
from tests import builders


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()


@pytest.fixture
def user():
    owner = builders.person("Olga")
    builders.organization("Own", owner=owner)
    return owner


def credentials(user, password=builders.PASSWORD):
    return {"login": user.email, "password": password}


def browser(address="203.0.113.1"):
    return Client(REMOTE_ADDR=address)


class TestSignIn:
    def test_starts_a_session_and_says_so(self, user):
        with builders.gains(tenancy.operator_id(), "session.started") as gained:
            response = browser().post("/login", credentials(user))
        assert (response.status_code, response.url) == (302, "/")
        assert gained[0].actor == gained[0].data["target"] == user.id
        assert {"ip", "email"} <= set(gained[0].sealed)

    def test_the_address_in_any_case(self, user):
        response = browser().post("/login", {"login": user.email.upper(), "password": builders.PASSWORD})
        assert response.status_code == 302

    def test_goes_on_to_where_one_wanted_to_be_on_this_site_only(self, user):
        ours, theirs = browser(), browser()
        assert ours.post("/login?next=/settings", credentials(user)).url == "/settings"
        assert theirs.post("/login?next=//evil.example/", credentials(user)).url == "/"

    def test_a_wrong_password_an_unknown_address_and_a_disabled_account_look_alike(self, user):
        gone = builders.person("Gone")
        services.disable_user(gone, actor=builders.OPERATOR)
        pages = []
        for form in (
            credentials(user, "wrong password here"),
            {"login": "nobody@example.com", "password": builders.PASSWORD},
            credentials(gone),
        ):
            with builders.gains(tenancy.operator_id()):
                response = browser().post("/login", form)
            assert response.status_code == 200
            text = re.sub(r'value="[^"]*"|nonce="[^"]*"', "", response.content.decode())
            pages.append(text)
        assert pages[0] == pages[1] == pages[2]

    def test_gets_a_new_session_id(self, user):
        client = browser()
        client.get("/login")
        fixed = client.session
        fixed["planted"] = True
        fixed.save()
        client.cookies["session"] = fixed.session_key
        client.post("/login", credentials(user))
        assert client.cookies["session"].value != fixed.session_key
        assert not Session.objects.filter(session_key=sessions.digest(fixed.session_key)).exists()

    @pytest.mark.usefixtures("one_window")
    def test_is_limited_by_account_with_a_page(self, user):
        answers = [
            browser(f"203.0.113.{number}").post("/login", credentials(user, "wrong password here"))
            for number in range(11)
        ]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        assert answers[-1]["Retry-After"] == "60"
        assert b"Too many attempts" in answers[-1].content

    @pytest.mark.usefixtures("one_window")
    def test_is_limited_by_address(self):
        answers = [
            browser("203.0.113.99").post("/login", {"login": f"{number}@example.com", "password": "x"})
            for number in range(21)
        ]
        assert [answer.status_code for answer in answers][-2:] == [200, 429]

    def test_needs_the_token_of_its_form(self, user):
        client = Client(enforce_csrf_checks=True)
        assert client.post("/login", credentials(user)).status_code == 403

    def test_is_refused_from_another_site(self, user):
        response = browser().post("/login", credentials(user), headers={"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 403

    def test_without_a_ledger_nobody_is_signed_in(self, user, monkeypatch):
        def fail(*_):
            raise LedgerUnavailable("down")

        client = browser()
        client.raise_request_exception = False
        with monkeypatch.context() as broken:
            broken.setattr(ledger, "_append_all", fail)
            assert client.post("/login", credentials(user)).status_code == 503
        assert not Session.objects.filter(user_id=user.id).exists()
        assert client.get("/settings").status_code == 302


@pytest.mark.parametrize(
    "name", ["signup", "reset_password", "email", "set_password", "inactive", "confirm_email"]
)
def test_the_rest_of_allauth_is_not_there(name):
    with pytest.raises(NoReverseMatch):
        reverse(f"account_{name}")


@pytest.mark.parametrize("path", ["/signup", "/accounts/signup/", "/password/reset/", "/login/", "/email/"])
def test_nor_are_its_paths(path):
    assert browser().get(path).status_code in {302, 404}
    assert browser().get(path).headers.get("Location", "/login").startswith("/login")


class TestSignOut:
    def test_ends_the_session_and_clears_the_browser(self, user):
        client = builders.signed_in(user)
        response = client.post("/logout")
        assert (response.status_code, response.url) == (302, "/login")
        assert "cookies" in response["Clear-Site-Data"]
        assert not Session.objects.filter(user_id=user.id).exists()

    def test_asks_first_on_get(self, user):
        client = builders.signed_in(user)
        assert client.get("/logout").status_code == 200
        assert client.get("/settings").status_code == 303


class TestPassword:
    new = "an entirely different one"

    def change(self, client, old=builders.PASSWORD, new=new):
        return client.post("/account/password", {"oldpassword": old, "password1": new, "password2": new})

    def test_ends_the_other_sessions_and_keeps_this_one(self, user):
        here, there = builders.signed_in(user), builders.signed_in(user)
        before = here.cookies["session"].value
        with builders.gains(tenancy.operator_id(), "user.password_changed") as gained:
            assert self.change(here).status_code == 302
        assert gained[0].actor == user.id
        assert gained[0].data["sessions_ended"] == 1
        assert here.get("/settings").status_code == 303
        assert here.cookies["session"].value != before
        assert there.get("/settings").url.startswith("/login")
        assert builders.signed_in(user, password=self.new)

    def test_needs_the_old_one(self, user):
        client = builders.signed_in(user)
        with builders.gains(tenancy.operator_id()):
            assert self.change(client, old="wrong password here").status_code == 200

    @pytest.mark.parametrize("bad", ["short", "password1234", "{email}"])
    def test_refuses_what_is_guessed_easily(self, user, bad):
        client = builders.signed_in(user)
        with builders.gains(tenancy.operator_id()):
            response = self.change(client, new=bad.format(email=user.email))
        assert response.status_code == 200
        assert list(response.context["form"].errors) == ["password1"]

    @pytest.mark.usefixtures("one_window")
    def test_is_limited(self, user):
        client = builders.signed_in(user)
        answers = [self.change(client, old="wrong password here").status_code for _ in range(11)]
        assert answers == [200] * 10 + [429]

    def test_works_without_any_organization(self, cast):
        client = builders.signed_in(cast.dave)
        assert client.get("/account/password").status_code == 200


class TestStepUp:
    def test_takes_the_password_changes_the_session_and_comes_back(self, cast):
        client = builders.signed_in(cast.alice)
        before = client.cookies["session"].value
        response = client.post("/account/confirm?next=/settings/members", {"password": builders.PASSWORD})
        assert (response.status_code, response.url) == (302, "/settings/members")
        assert client.cookies["session"].value != before
        assert not Session.objects.filter(session_key=sessions.digest(before)).exists()

    def test_a_wrong_password_is_no_step(self, cast):
        client = builders.signed_in(cast.alice)
        assert client.post("/account/confirm", {"password": "wrong password here"}).status_code == 200

    def test_lasts_five_minutes(self, cast):
        client = builders.signed_in(cast.alice)
        assert client.get("/settings/members/invite").status_code == 200
        with time_machine.travel(timezone.now() + timedelta(minutes=5, seconds=1), tick=False):
            response = client.get("/settings/members/invite")
            assert (response.status_code, response.url) == (
                303,
                "/account/confirm?next=%2Fsettings%2Fmembers%2Finvite",
            )
            with builders.gains(cast.acme.id):
                posted = client.post("/settings/members/invite", {"email": "x@example.com", "role": "viewer"})
            assert posted.status_code == 303
            client.post(response.url, {"password": builders.PASSWORD})
            assert client.get("/settings/members/invite").status_code == 200

    @pytest.mark.usefixtures("one_window")
    def test_is_limited(self, user):
        client = builders.signed_in(user)
        answers = [client.post("/account/confirm", {"password": "wrong"}).status_code for _ in range(11)]
        assert answers == [200] * 10 + [429]


class TestSession:
    def test_the_cookie_is_in_no_table(self, cast):
        """A dump signs nobody in: not with what is stored, in whatever form."""
        client = builders.signed_in(cast.bob)
        cookie = client.cookies["session"].value
        row = Session.objects.get(session_key=sessions.digest(cookie))
        assert row.user_id == cast.bob.id
        stored = json.dumps([row.session_key, row.session_data, row.get_decoded()], default=str)
        assert cookie not in stored
        for stolen in (row.session_key, row.session_data):
            thief = browser()
            thief.cookies["session"] = stolen
            assert thief.get("/settings").url.startswith("/login")

    def test_is_idle_for_thirty_minutes_at_most(self, cast):
        client = builders.signed_in(cast.bob)
        now = timezone.now()
        for minutes in (20, 40, 60):
            with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
                assert client.get("/settings").status_code == 303
        with time_machine.travel(now + timedelta(minutes=91), tick=False):
            assert client.get("/settings").url.startswith("/login")

    def test_what_a_page_asks_by_the_clock_is_no_use_of_it(self, cast):
        client = builders.signed_in(cast.bob)
        now = timezone.now()
        for minutes in (10, 20, 29):
            with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
                assert client.get("/log", headers={"Keystead-Poll": "1"}).status_code == 200
        with time_machine.travel(now + timedelta(minutes=32), tick=False):
            assert client.get("/log", headers={"Keystead-Poll": "1"}).url.startswith("/login")

    def test_is_over_after_twelve_hours_however_busy(self, user):
        client = builders.signed_in(user)
        now = timezone.now()
        for minutes in range(20, 12 * 60, 20):
            with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
                assert client.get("/settings").status_code == 303
        with time_machine.travel(now + timedelta(hours=12, seconds=1), tick=False):
            assert client.get("/settings").url.startswith("/login")
        assert not Session.objects.filter(user_id=user.id).exists()

    def test_step_up_does_not_lengthen_it(self, cast):
        client = builders.signed_in(cast.carol)
        now = timezone.now()
        for minutes in range(20, 12 * 60, 20):
            with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
                client.post("/account/confirm", {"password": builders.PASSWORD})
        with time_machine.travel(now + timedelta(hours=12, seconds=1), tick=False):
            assert client.get("/settings").url.startswith("/login")


class TestSomebodyWithoutAnOrganization:
    @pytest.mark.parametrize("path", ["/settings", "/settings/members", "/settings/organization"])
    def test_reads_what_to_do(self, path):
        response = builders.signed_in(builders.person("Nora")).get(path)
        assert response.status_code == 200
        assert b"No organization yet" in response.content

    @pytest.mark.parametrize("path", ["/", "/settings"])
    def test_support_goes_to_its_console(self, cast, path):
        response = builders.signed_in(cast.dave).get(path)
        assert (response.status_code, response.url) == (302, "/support")


class TestSwitching:
    def test_organization(self, cast):
        builders.join(cast.carol, cast.elsewhere, Role.VIEWER)
        client = builders.signed_in(cast.carol)
        for where in (cast.elsewhere, cast.acme):
            response = client.post("/switch/organization", {"organization": where.id})
            assert (response.status_code, response.url) == (303, "/")
            assert where.id in client.get("/settings/organization").content.decode()

    def test_not_to_a_strangers(self, cast):
        client = builders.signed_in(cast.bob)
        for wanted in (cast.elsewhere.id, "org_none", ""):
            assert client.post("/switch/organization", {"organization": wanted}).status_code == 404
        assert cast.acme.id in client.get("/settings/organization").content.decode()

    def test_project(self, cast):
        client = builders.signed_in(cast.bob)
        root = builders.root(cast.acme)
        response = client.post("/switch/project", {"project": root.id, "next": "/settings/projects"})
        assert (response.status_code, response.url) == (303, "/settings/projects")
        assert client.session["project"] == root.id
        client.post("/switch/project", {"project": ""})
        assert "project" not in client.session

    def test_not_to_a_strangers_project_nor_off_this_site(self, cast):
        client = builders.signed_in(cast.bob)
        assert (
            client.post("/switch/project", {"project": builders.root(cast.elsewhere).id}).status_code == 404
        )
        for url in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "\\\\evil.example"):
            assert client.post("/switch/project", {"project": "", "next": url}).url == "/"

    @pytest.mark.parametrize("path", ["/switch/organization", "/switch/project"])
    def test_is_posted(self, cast, path):
        assert builders.signed_in(cast.bob).get(path).status_code == 405
