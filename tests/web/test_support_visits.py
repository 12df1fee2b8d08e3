"""A support visit: one customer's pages to read, each recorded, and nothing that could change anything."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from django.conf import settings
from django.db import DatabaseError, connections
from django.test import Client
from django.urls import get_resolver, reverse

from audit import ledger, services, tenancy
from audit.errors import LedgerUnavailable
from audit.models import Sealed, SupportSession
from keys.api.urls import urlpatterns as api_patterns
from keys.models import ApiKey
from keys.views import listing
from orgs import services as org_services
from orgs import visits
from orgs.roles import Role
from tests import builders, key_builders
from tests.db.test_support_sessions import let_lapse
from tests.web import test_access as matrix

WHY = "Case 4711: a key stopped working"
UNSAFE = ("post", "put", "patch", "delete")
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return matrix.world_of()


@pytest.fixture(scope="module")
def cast(world):
    return world.cast


@pytest.fixture
def dave():
    return builders.person("Dave Support", staff_role="support")


@pytest.fixture(scope="module")
def visiting(world, django_db_blocker):
    """One browser in a visit, for tests that leave it as it is."""
    with django_db_blocker.unblock():
        return opened(builders.person("Vic Support", staff_role="support"), world.cast.acme)


def opened(user, where, client=None, minutes=60):
    client = client or builders.signed_in(user)
    response = client.post(f"/support/open/{where.id}", {"reason": WHY, "minutes": str(minutes)})
    assert (response.status_code, response["Location"]) == (303, "/"), response.content.decode()
    return client


def session_of(user):
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return SupportSession.objects.filter(user_id=user.id).latest("opened_at")


def recorded_query(organization_id, index):
    with tenancy.within(organization_id):
        return Sealed.objects.get(organization_id=organization_id, index=index, field="query").value


def is_over(response):
    return (response.status_code, response.headers.get("Location")) == (303, "/support")


class TestReading:
    def test_each_page_is_recorded_where_the_customer_reads_it(self, world, dave):
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, *["support.viewed"] * 3) as gained:
            page = client.get("/").content.decode()
            assert client.get(f"/keys/{world.key_id}").status_code == HTTPStatus.OK
            assert client.get("/log", {"who": world.cast.alice.id}).status_code == HTTPStatus.OK
        assert "Support visit to" in page
        assert WHY in page
        assert [entry.data["page"] for entry in gained] == ["keys", "key", "security log"]
        assert {entry.actor for entry in gained} == {dave.id}
        assert {entry.data["session"] for entry in gained} == {session_of(dave).id}
        assert gained[1].data["target"] == gained[1].data["key_id"] == world.key_id
        assert "query" in gained[2].sealed

    def test_the_customer_sees_it_in_their_log(self, world, dave):
        opened(dave, world.cast.acme).get("/")
        shown = builders.signed_in(world.cast.alice).get("/log", {"act": "support.*"}).content.decode()
        assert "support.opened" in shown
        assert "support.viewed" in shown
        assert "Dave Support" in shown
        assert WHY in shown

    def test_every_page_of_a_visit_is_there(self, world, visiting):
        for name in visits.READABLE:
            response = visiting.get(matrix._path(world, name))
            # The way on to a page, or back to the entry that no checkpoint covers yet.
            leads_on = name in {"orgs:settings", "audit:entry_proof"}
            assert ("Location" in response.headers) == leads_on, name
            assert leads_on or response.status_code == HTTPStatus.OK, name
            if response.status_code == HTTPStatus.OK and response["Content-Type"].startswith("text/html"):
                shown = response.content.decode()
                assert "Support visit to" in shown, name
                assert not re.search(r"export|\.csv", " ".join(re.findall(r'href="([^"]*)"', shown))), name
                assert shown.count('method="post"') == 2, f"{name} offers a form"

    def test_no_other_page_is(self, world, visiting):
        public = {"healthz", "readyz", "mailbox", "mailbox_message", "account_login", "account_logout"}
        public |= {"orgs:invitation", "orgs:join", "orgs:join_new"}
        for name in matrix.names() - set(visits.READABLE) - public - {"audit:support", "audit:support_leave"}:
            path = matrix._path(world, name)
            with builders.gains(world.cast.acme.id):
                assert visiting.get(path).status_code == HTTPStatus.FORBIDDEN, name

    def test_nothing_of_another_organization(self, world, visiting):
        stranger = key_builders.create(world.cast.elsewhere, world.cast.mallory, scopes=["keys:read"]).key
        with builders.gains(world.cast.acme.id), builders.gains(world.cast.elsewhere.id):
            assert visiting.get(f"/keys/{stranger.id}").status_code == HTTPStatus.NOT_FOUND
            assert visiting.get(f"/keys/{builders.new_id('key')}").status_code == HTTPStatus.NOT_FOUND

    def test_the_whole_of_what_was_looked_for_is_recorded(self, world, dave):
        """Whoever puts junk before it hides nothing from the customer."""
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, "support.viewed") as gained:
            assert client.get("/log", {"x": "a" * 1500, "q": "Боб"}).status_code == HTTPStatus.OK
        assert recorded_query(world.cast.acme.id, gained[0].i).endswith("a&q=Боб")
        with builders.gains(world.cast.acme.id):
            assert client.get("/log", {"x": "a" * 2048, "q": "Bob"}).status_code == HTTPStatus.FORBIDDEN

    def test_what_is_recorded_holds_no_secret_however_it_is_written(self, world, dave):
        client = opened(dave, world.cast.acme)
        secret = "ks_cp_live_" + "A" * 43
        written = "".join(f"%{ord(letter):02x}" for letter in secret)
        with builders.gains(world.cast.acme.id, "support.viewed") as gained:
            assert client.get(reverse("orgs:members") + f"?x={written}%00").status_code == HTTPStatus.OK
        told = recorded_query(world.cast.acme.id, gained[0].i)
        assert told.startswith("x=ks_cp_live_")
        assert "A" * 43 not in told

    def test_what_it_says_of_people_is_found_when_they_are_erased(self, cast, dave):
        client = opened(dave, cast.acme)
        with builders.gains(cast.acme.id, "support.viewed") as gained:
            client.get("/log", {"q": cast.vera.email})
        assert recorded_query(cast.acme.id, gained[0].i) == f"q={cast.vera.email}"
        services.erase_person(cast.acme.id, cast.vera.id, actor=cast.member(cast.alice))
        with pytest.raises(Sealed.DoesNotExist):
            recorded_query(cast.acme.id, gained[0].i)

    def test_without_its_entry_no_page_is_shown(self, world, dave, monkeypatch):
        client = opened(dave, world.cast.acme)
        client.raise_request_exception = False

        def fail(*_):
            raise LedgerUnavailable("gone")

        monkeypatch.setattr(ledger, "_append", fail)
        response = client.get("/")
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "Acme" not in response.content.decode()

    def test_a_head_is_a_view_too(self, world, dave):
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, "support.viewed"):
            assert client.head("/").status_code == HTTPStatus.OK

    def test_answers_are_kept_nowhere(self, visiting):
        assert visiting.get("/")["Cache-Control"] == "no-store"


class TestPolls:
    def test_a_part_asked_for_again_is_the_same_view(self, world, dave):
        client = opened(dave, world.cast.acme)
        path = matrix._path(world, "keys:rotation")
        with builders.gains(world.cast.acme.id, "support.viewed"):
            client.get(path)
            for seen in ("running-0", "running-1", "running-1"):
                assert client.get(path, {"seen": seen}, **HTMX).status_code == HTTPStatus.OK

    def test_a_part_that_was_not_viewed_is_recorded(self, world, dave):
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, *["support.viewed"] * 3):
            client.get(f"/keys/{world.key_id}", **HTMX)
            client.get("/log", {"act": "key.*"}, **HTMX)
            client.get("/log", {"act": "support.*"}, **HTMX)

    def test_a_page_opened_again_is_recorded_again(self, world, dave):
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, *["support.viewed"] * 3):
            client.get("/log")
            client.get("/log")
            client.get("/log", **HTMX, HTTP_HX_BOOSTED="true")

    def test_a_clock_that_was_put_back_hides_nothing(self, world, dave, monkeypatch):
        client = opened(dave, world.cast.acme)
        with builders.gains(world.cast.acme.id, *["support.viewed"] * 2):
            client.get("/log")
            before = time.time() - 3600
            monkeypatch.setattr(visits.time, "time", lambda: before)
            client.get("/log", **HTMX)

    def test_what_an_earlier_visit_saw_is_not_this_ones(self, world, dave):
        client = opened(dave, world.cast.acme)
        client.get("/log")
        client.post("/support/leave")
        opened(dave, world.cast.acme, client)
        with builders.gains(world.cast.acme.id, "support.viewed"):
            client.get("/log", **HTMX)

    def test_the_seal_does_not_ask_for_itself(self, visiting):
        assert 'id="seal"' in (page := visiting.get("/log").content.decode())
        assert "data-poll" not in page


class TestChangingNothing:
    @pytest.mark.parametrize("method", UNSAFE)
    def test_no_address_takes_anything_but_reading(self, world, visiting, method):
        """Every address of the product, whoever may post there otherwise."""
        for name in sorted(matrix.names() - {"audit:support_leave", "account_logout"}):
            path = matrix._path(world, name)
            with builders.gains(world.cast.acme.id), builders.gains(tenancy.operator_id()):
                response = getattr(visiting, method)(path)
            assert response.status_code == HTTPStatus.FORBIDDEN, name

    @pytest.mark.parametrize("method", ["options", "trace"])
    def test_nor_any_other_method(self, world, visiting, method):
        for path in ("/", f"/keys/{world.key_id}", "/support"):
            assert getattr(visiting, method)(path).status_code == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize("method", ["get", *UNSAFE])
    def test_the_admin_site_neither_for_a_superuser(self, cast, method):
        root = builders.person("Root", staff_role="support", is_superuser=True)
        client = opened(root, cast.acme)
        for path in ("/admin/", f"/admin/orgs/organization/{cast.acme.id}/change/", "/admin/logout/"):
            assert getattr(client, method)(path).status_code == HTTPStatus.FORBIDDEN, path

    def test_a_method_in_a_header_or_a_field_is_not_believed(self, world, visiting):
        path = f"/keys/{world.key_id}/disable"
        assert visiting.get(path, HTTP_X_HTTP_METHOD_OVERRIDE="POST").status_code == HTTPStatus.FORBIDDEN
        assert visiting.get(path, {"_method": "POST"}).status_code == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize(
        "path", ["//", "/./", "/?x", "/KEYS/new", "/keys/new/", "/%6beys/new", "/log/../keys/new"]
    )
    def test_tricks_with_paths(self, visiting, path):
        for method in UNSAFE:
            status = getattr(visiting, method)(path).status_code
            assert status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}

    def test_the_api_knows_no_visit(self, world, visiting):
        """Whatever is asked there is answered as to somebody without any cookie."""
        stranger = Client()
        with builders.gains(world.cast.acme.id), builders.gains(tenancy.operator_id()):
            for pattern in api_patterns:
                path = "/v1/" + re.sub(r"<(?:\w+:)?\w+>", world.key_id, str(pattern.pattern))
                for method in ("get", *UNSAFE):
                    answers = [getattr(client, method)(path) for client in (visiting, stranger)]
                    assert answers[0].status_code == answers[1].status_code, path
                    assert answers[0].status_code != HTTPStatus.OK or "openapi" in path or "docs" in path

    def test_the_database_refuses_what_a_view_would_write(self, world, visiting, monkeypatch):
        def write(*_args, **_kwargs):
            ApiKey.objects.filter(pk=world.key_id).update(description="changed")

        visiting.raise_request_exception = True
        monkeypatch.setattr(listing.access, "keys", write)
        with pytest.raises(DatabaseError, match="read-only transaction"):
            visiting.get("/")

    def test_a_form_of_leaving_needs_its_token(self, cast, dave):
        client = Client(enforce_csrf_checks=True)
        token = client.get("/login").cookies[settings.CSRF_COOKIE_NAME].value
        client.post(
            "/login", {"login": dave.email, "password": builders.PASSWORD, "csrfmiddlewaretoken": token}
        )
        token = client.cookies[settings.CSRF_COOKIE_NAME].value
        form = {"reason": WHY, "minutes": "60"}
        there = f"/support/open/{cast.acme.id}"
        assert client.post(there, form).status_code == HTTPStatus.FORBIDDEN
        assert client.post(there, form | {"csrfmiddlewaretoken": token}).status_code == HTTPStatus.SEE_OTHER
        assert client.post("/support/leave").status_code == HTTPStatus.FORBIDDEN
        assert client.get("/").status_code == HTTPStatus.OK

    def test_another_sites_form_neither(self, visiting):
        answer = visiting.post("/support/leave", HTTP_SEC_FETCH_SITE="cross-site")
        assert answer.status_code == HTTPStatus.FORBIDDEN


class TestEnding:
    def test_leaving(self, cast, dave):
        client = opened(dave, cast.acme)
        with builders.gains(cast.acme.id, "support.closed"):
            assert client.post("/support/leave")["Location"] == "/support"
        assert "You have left" in client.get("/support").content.decode()
        assert client.get("/")["Location"] == "/support"

    def test_the_time_is_up(self, cast, dave):
        client = opened(dave, cast.acme)
        let_lapse(session_of(dave))
        with builders.gains(cast.acme.id, "support.closed") as gained:
            assert is_over(client.get("/"))
        assert gained[0].data["reason"] == "lapsed"
        assert "Your visit is over" in client.get("/support").content.decode()

    def test_the_browser_is_told_in_its_own_way(self, cast, dave):
        client = opened(dave, cast.acme)
        let_lapse(session_of(dave))
        response = client.get("/log", **HTMX)
        assert response["HX-Redirect"] == "/support"
        assert b"entry" not in response.content

    def test_the_browsers_clock_means_nothing(self, cast, dave):
        client = opened(dave, cast.acme)
        session = client.session
        session["support_views"] = {"x": 9e15}
        session.save()
        let_lapse(session_of(dave))
        assert is_over(client.get("/"))

    @pytest.mark.parametrize("how", ["role", "disabled", "password"])
    def test_the_next_request_after_losing_it(self, cast, dave, how):
        client = opened(dave, cast.acme)
        if how == "role":
            org_services.change_staff(dave, actor=builders.OPERATOR, is_superuser=False, staff_role="")
        elif how == "disabled":
            org_services.disable_user(dave, actor=builders.OPERATOR)
        else:
            org_services.set_password(dave, "another long password", actor=builders.OPERATOR)
        with builders.gains(cast.acme.id):
            response = client.get("/log")
        assert response.status_code == HTTPStatus.FOUND
        assert response["Location"].startswith("/login")

    def test_a_role_that_vanished_past_the_service(self, cast, dave):
        """The session of the browser goes on; the visit does not."""
        client = opened(dave, cast.acme)
        type(dave).objects.filter(pk=dave.pk).update(staff_role="")
        response = client.get("/log")
        assert (response.status_code, response["Location"]) == (HTTPStatus.SEE_OTHER, "/")
        assert client.get("/support").status_code == HTTPStatus.NOT_FOUND

    @pytest.mark.parametrize("how", ["left", "role", "time"])
    def test_while_a_page_is_read(self, cast, dave, monkeypatch, how):
        """It is neither shown nor recorded after the end."""
        client = opened(dave, cast.acme)
        session = session_of(dave)

        def end():
            try:
                if how == "left":
                    services.close_support(session, actor=builders.as_actor(dave))
                elif how == "role":
                    org_services.change_staff(
                        dave, actor=builders.OPERATOR, is_superuser=False, staff_role=""
                    )
                else:
                    let_lapse(session)
            finally:
                connections.close_all()

        stop_writing = visits._stop_writing

        def meanwhile():
            with ThreadPoolExecutor(1) as another:
                another.submit(end).result()
            stop_writing()

        monkeypatch.setattr(visits, "_stop_writing", meanwhile)
        with builders.gains(cast.acme.id, "support.closed"):
            response = client.get("/log")
        # With the role the browser's session went, too.
        assert response.status_code == (HTTPStatus.BAD_REQUEST if how == "role" else HTTPStatus.SEE_OTHER)
        assert b"entries" not in response.content
        assert cast.acme.id.encode() not in response.content

    def test_signing_out(self, cast, dave):
        client = opened(dave, cast.acme)
        with builders.gains(cast.acme.id, "support.closed") as gained:
            client.post("/logout")
        assert gained[0].data["reason"] == "signed_out"
        assert client.get("/")["Location"].startswith("/login")

    def test_another_browser_of_the_same_person_is_in_no_visit(self, cast, dave):
        opened(dave, cast.acme)
        other = builders.signed_in(dave)
        assert other.get("/")["Location"] == "/support"
        assert other.get("/log")["Location"] == "/support"

    def test_a_visit_opened_elsewhere_ends_this_one(self, cast, dave):
        first = opened(dave, cast.acme)
        opened(dave, cast.elsewhere)
        assert is_over(first.get("/"))

    def test_somebody_elses_visit_is_nobodys(self, cast, dave):
        opened(dave, cast.acme)
        thief = builders.person("Thief", staff_role="support")
        client = builders.signed_in(thief)
        client.get("/support")
        session = client.session
        session["support_visit"] = session_of(dave).id
        session.save()
        with builders.gains(cast.acme.id):
            assert is_over(client.get("/log"))
        assert session_of(dave).ended_at is None

    def test_searches_are_no_visit(self, cast, dave):
        client = builders.signed_in(dave)
        client.post("/support/begin", {"reason": WHY, "minutes": "60"})
        session = client.session
        session["support_visit"] = session["support_search"]
        session.save()
        with builders.gains(tenancy.operator_id()):
            assert is_over(client.get("/log"))


class TestOpening:
    def test_it_asks_for_the_password_first(self, cast, dave):
        client = builders.signed_in(dave)
        session = client.session
        session["account_authentication_methods"] = [
            record | {"at": record["at"] - 3600} for record in session["account_authentication_methods"]
        ]
        session.save()
        there = f"/support/open/{cast.acme.id}"
        with builders.gains(cast.acme.id):
            for response in (client.get(there), client.post(there, {"reason": WHY, "minutes": "60"})):
                assert response["Location"].startswith("/account/confirm")
            assert client.get("/support/begin")["Location"].startswith("/account/confirm")

    @pytest.mark.parametrize(
        "form",
        [
            {"minutes": "60"},
            {"reason": "short", "minutes": "60"},
            {"reason": WHY},
            {"reason": WHY, "minutes": "241"},
            {"reason": WHY, "minutes": "-1"},
            {"reason": WHY, "minutes": "99999"},
            {"reason": "They sent us whsec_" + "A" * 43 + "= today", "minutes": "60"},
        ],
    )
    def test_what_is_refused(self, cast, dave, form):
        client = builders.signed_in(dave)
        with builders.gains(cast.acme.id):
            response = client.post(f"/support/open/{cast.acme.id}", form)
        assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert client.get("/")["Location"] == "/support"

    def test_no_forged_organization(self, dave):
        client = builders.signed_in(dave)
        for id_ in (tenancy.operator_id(), builders.new_id("org"), "*", "org_x", "0"):
            response = client.post(f"/support/open/{id_}", {"reason": WHY, "minutes": "60"})
            assert response.status_code == HTTPStatus.NOT_FOUND

    @pytest.mark.parametrize("entry", ["http://evil.example", "//evil.example", "../keys/new", "x", "1-1-1"])
    def test_it_leads_nowhere_else(self, cast, dave, entry):
        client = builders.signed_in(dave)
        response = client.get(f"/support/open/{cast.acme.id}", {"entry": entry})
        assert response.status_code == HTTPStatus.NOT_FOUND

    def test_it_leads_on_to_an_entry(self, cast, dave):
        client = builders.signed_in(dave)
        form = {"reason": WHY, "minutes": "15"}
        response = client.post(f"/support/open/{cast.acme.id}?entry=1", form)
        assert response["Location"] == "/log/1"
        assert client.get("/log/1").status_code == HTTPStatus.OK


class TestApart:
    """Somebody of the staff who belongs to organizations too."""

    def test_their_own_role_counts_for_nothing_in_a_visit(self, cast):
        both = builders.person("Both", staff_role="support")
        builders.join(both, cast.acme, Role.ADMIN)
        client = builders.signed_in(both)
        assert "Support visit" not in client.get("/").content.decode()
        opened(both, cast.acme, client)
        assert client.get("/keys/new").status_code == HTTPStatus.FORBIDDEN
        assert client.get("/webhooks").status_code == HTTPStatus.FORBIDDEN
        assert client.post("/switch/organization", {"organization": cast.acme.id}).status_code == 403

    def test_and_is_there_again_afterwards(self, cast):
        both = builders.person("Both", staff_role="support")
        builders.join(both, cast.acme, Role.ADMIN)
        client = opened(both, cast.elsewhere)
        shown = client.get("/").content.decode()
        assert "Elsewhere" in shown
        assert "Acme" not in shown
        client.post("/support/leave")
        own = client.get("/")
        assert own.status_code == HTTPStatus.OK
        assert "Acme" in own.content.decode()
        with builders.gains(cast.elsewhere.id):
            assert client.get("/keys/new").status_code == HTTPStatus.OK

    def test_a_project_chosen_before_narrows_no_visit(self, cast):
        both = builders.person("Both", staff_role="support")
        builders.join(both, cast.acme, Role.ADMIN)
        client = builders.signed_in(both)
        client.post("/switch/project", {"project": builders.root(cast.acme).id})
        assert opened(both, cast.elsewhere, client).get("/").status_code == HTTPStatus.OK


class TestTheConsole:
    PAGES = ("support", "support_begin", "support_end", "support_leave")

    @pytest.mark.parametrize("who", ["alice", "carol", "mallory"])
    def test_nobody_else_finds_it(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        paths = [reverse(f"audit:{name}") for name in self.PAGES] + [f"/support/open/{cast.acme.id}"]
        for path in paths:
            for method in ("get", "head", "options", *UNSAFE):
                assert getattr(client, method)(path).status_code == HTTPStatus.NOT_FOUND, path

    def test_a_superuser_without_the_role_neither(self):
        client = builders.signed_in(builders.person("Root", is_superuser=True))
        assert client.get("/support").status_code == HTTPStatus.NOT_FOUND

    def test_it_is_not_named_to_others(self, cast):
        assert "/support" not in builders.signed_in(cast.alice).get("/").content.decode()

    def test_staff_find_it_at_once(self, dave):
        client = builders.signed_in(dave)
        assert client.get("/")["Location"] == "/support"
        assert "Support console" in client.get("/support").content.decode()


def test_each_readable_page_exists():
    assert set(visits.READABLE) <= {name for name, _ in matrix._patterns(get_resolver())}
