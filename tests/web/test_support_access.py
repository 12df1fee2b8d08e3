"""Settings, Support access: what a customer reads there of who looked, why, and at what."""

import re
from datetime import timedelta
from http import HTTPStatus

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import services, tenancy
from audit.models import SupportSession
from audit.services import erasing
from audit.support import history
from tests import builders, key_builders
from tests.db.test_support_sessions import let_lapse

WHY = "Case 4711: a key stopped working"
PAGE = "/settings/support"


@pytest.fixture
def cast():
    return builders.cast()


def visit_of(user, where, *pages, reason=WHY):
    """Open a visit as the console does, and look at pages in it."""
    browser = builders.signed_in(user)
    assert browser.post(f"/support/open/{where.id}", {"reason": reason, "minutes": "60"}).status_code == 303
    for page in pages:
        assert browser.get(page).status_code == HTTPStatus.OK
    return browser


def shown_to(user, **query):
    response = builders.signed_in(user).get(PAGE, query)
    assert response.status_code == HTTPStatus.OK
    return response


def session_of(user, where):
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return SupportSession.objects.get(user_id=user.id, organization_id=where.id)


class TestReading:
    def test_nobody_was_there(self, cast):
        response = shown_to(cast.alice)
        assert response.context["visits"] == []
        assert "Nobody from support was here" in response.content.decode()

    def test_who_why_and_what_they_saw_while_it_runs(self, cast):
        key = key_builders.create(cast.acme, cast.alice).key
        visit_of(cast.dave, cast.acme, "/", f"/keys/{key.id}", "/log")
        response = shown_to(cast.carol)
        [visit] = response.context["visits"]
        assert (visit.who, visit.reason, visit.is_running) == (cast.dave.name, WHY, True)
        assert [(seen.page, seen.about) for seen in visit.seen] == [
            ("keys", ""),
            ("key", key.id),
            ("security log", ""),
        ]
        page = response.content.decode()
        assert response.context["running"] == [visit]
        assert page.index("is looking at this organization") < page.index("<table")
        # Each page leads to the entry that tells of it.
        links = re.findall(r'href="/log/(\d+)"[^>]*>(Keys|Key|Security log)<', page)
        told = {str(e.i): e.data["page"] for e in builders.entries(cast.acme.id) if e.act == "support.viewed"}
        assert {number: word.lower() for number, word in links} == told

    def test_how_long_it_was_and_how_it_ended(self, cast):
        browser = visit_of(cast.dave, cast.acme, "/")
        browser.post("/support/leave")
        [visit] = shown_to(cast.alice).context["visits"]
        assert (visit.is_running, visit.minutes, visit.why) == (False, 1, "left")
        assert "now, until" not in shown_to(cast.alice).content.decode()

    def test_what_nobody_closed_is_over_at_its_time(self, cast):
        visit_of(cast.dave, cast.acme)
        member = builders.member(cast.alice, cast.acme)
        with tenancy.within(cast.acme.id):
            [[visit], _] = history.visits(member, {}, timezone.now() + timedelta(minutes=61))
        assert (visit.is_running, visit.minutes) == (False, 60)

    def test_closed_late_it_ended_when_its_time_was_up(self, cast):
        visit_of(cast.dave, cast.acme)
        session = session_of(cast.dave, cast.acme)
        let_lapse(session)
        services.close_lapsed_support()
        [visit] = shown_to(cast.alice).context["visits"]
        assert (visit.is_running, visit.why) == (False, "the time was up")
        assert visit.minutes <= 60

    def test_each_visit_has_its_own_pages(self, cast):
        erin = builders.person("Erin Support", staff_role="support")
        first = visit_of(cast.dave, cast.acme, "/")
        visit_of(erin, cast.acme, "/rotations", reason="Case 4712: another thing")
        first.get("/usage")
        newest, older = shown_to(cast.alice).context["visits"]
        assert (newest.who, [seen.page for seen in newest.seen]) == ("Erin Support", ["rotations"])
        assert [seen.page for seen in older.seen] == ["keys", "usage"]

    def test_a_search_is_no_visit(self, cast):
        visit_of(cast.dave, cast.acme, "/")
        console = builders.signed_in(cast.dave)
        console.post("/support/begin", {"reason": WHY, "minutes": "60"})
        console.get("/support", {"organization": cast.acme.id, "act": "support.opened"})
        acts = [
            entry.data["page"] for entry in builders.entries(cast.acme.id) if entry.act == "support.viewed"
        ]
        assert "search" in acts
        [visit] = shown_to(cast.alice).context["visits"]
        assert [seen.page for seen in visit.seen] == ["keys"]

    def test_what_was_erased_is_said_so(self, cast):
        visit_of(cast.dave, cast.acme)
        alice = cast.member(cast.alice)
        erasing.erase_person(cast.acme.id, cast.dave.id, actor=alice, with_notes=True)
        response = shown_to(cast.alice)
        [visit] = response.context["visits"]
        assert (visit.who, visit.reason) == ("", "")
        assert WHY not in response.content.decode()


class TestMany:
    def test_pages_of_them_with_a_bounded_number_of_queries(self, cast):
        actor = builders.as_actor(cast.dave)
        for _ in range(history.PER_PAGE + 2):
            session = services.open_visit(cast.acme.id, actor=actor, reason=WHY, minutes=5)
        with tenancy.within(cast.acme.id):
            for number in range(history.MOST_SEEN + 5):
                services.record_page(session.id, cast.acme.id, actor=actor, page=f"page {number}")
        first = shown_to(cast.alice)
        visits = first.context["visits"]
        assert (len(visits), [v.is_running for v in visits].count(True)) == (history.PER_PAGE, 1)
        assert (len(visits[0].seen), visits[0].has_more) == (history.MOST_SEEN, True)
        assert visits[1].why == "another one was opened"
        older = builders.signed_in(cast.alice).get(first.context["older"])
        assert len(older.context["visits"]) == 2
        assert older.context["older"] == ""
        places = {visit.place for visit in [*visits, *older.context["visits"]]}
        assert len(places) == history.PER_PAGE + 2
        member = builders.member(cast.alice, cast.acme)
        with tenancy.within(cast.acme.id), CaptureQueriesContext(connection) as queries:
            history.visits(member, {}, timezone.now())
        assert len(queries) <= history.PER_PAGE + 6

    @pytest.mark.parametrize("before", ["x", "-1", "1-", "9" * 30])
    def test_no_forged_cursor(self, cast, before):
        response = builders.signed_in(cast.alice).get(PAGE, {"before": before})
        assert response.status_code == HTTPStatus.NOT_FOUND


class TestWho:
    def test_it_is_named_to_those_who_read_the_whole_log(self, cast):
        link = f'href="{PAGE}"'
        for user, is_named in ((cast.alice, True), (cast.carol, True), (cast.bob, False), (cast.vera, False)):
            page = builders.signed_in(user).get("/settings/projects").content.decode()
            assert (link in page) is is_named

    def test_another_organizations_visits_are_not_there(self, cast):
        visit_of(cast.dave, cast.acme, "/")
        assert shown_to(cast.mallory).context["visits"] == []
