"""Searching the log and walking through what is found; which filters hide what; what it costs."""

import re
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import ledger, tenancy
from audit.models import Entry
from audit.tasks import search as tasks
from audit.views import log as views
from tests import builders

KEY = "key_" + "a" * 20


def record(where, actor, act="key.created", target=KEY, data=None, times=1, **sealed):
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        for number in range(times):
            entry(act, target=target, data={"number": number} | (data or {}), sealed=sealed)


def acts(response):
    assert response.status_code == HTTPStatus.OK
    return re.findall(r'aria-label="Entry \d+: ([a-z._]+)"', response.content.decode())


def link(response, rel):
    found = re.search(rf'href="([^"]+)" rel="{rel}"', response.content.decode())
    return found and found[1].replace("&amp;", "&")


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        made = builders.cast()
        bob, alice = made.member(made.bob), made.member(made.alice)
        record(made.acme, bob, "key.created", data={"name": "bobs-needle"}, note="for the night shift")
        record(
            made.acme,
            alice,
            "key.revoked",
            data={"name": "alices-needle", "reason": "leaked"},
            note="ticket 5512",
        )
        record(made.acme, alice, "key.changed", data={"name": "common"}, times=140)
        tasks.keep_words(made.acme.id)
        record(made.acme, alice, "key.changed", data={"name": "common"}, times=8)
    return made


@pytest.fixture(scope="module")
def browser(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return {
            name: builders.signed_in(getattr(cast, name)) for name in ("alice", "bob", "carol", "mallory")
        }


class TestSearch:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("needle", ["key.revoked", "key.created"]),
            ("Needle ALICE", ["key.revoked"]),
            ("ticket 5512", ["key.revoked"]),
            ('"night shift"', ["key.created"]),
            ('"shift night"', []),
            ("leak", ["key.revoked"]),
            ("nowhere", []),
        ],
    )
    def test_words(self, browser, text, expected):
        response = browser["carol"].get("/log", {"q": text})
        assert acts(response) == expected
        assert f'value="{text.replace(chr(34), "&quot;")}"' in response.content.decode()

    def test_words_with_other_filters(self, cast, browser):
        client = browser["carol"]
        assert acts(client.get("/log", {"q": "needle", "who": cast.bob.id})) == ["key.created"]
        assert acts(client.get("/log", {"q": "needle", "act": "key.revoked", "last": "1h"})) == [
            "key.revoked"
        ]
        assert acts(client.get("/log", {"q": "needle", "act": "rotation.*"})) == []
        assert len(acts(client.get("/log", {"q": "needle", "target": KEY, "request": "req_tests"}))) == 2

    def test_signs_alone_are_refused_with_words(self, browser):
        response = browser["carol"].get("/log", {"q": "— !"})
        assert acts(response) == []
        assert "signs alone are not searched" in response.content.decode()

    def test_a_secret_is_not_searched_for_and_does_not_stay_in_the_address(self, browser):
        response = browser["carol"].get("/log", {"q": "kst_sv_live_" + "a" * 43})
        assert (response.status_code == HTTPStatus.FOUND) == (response.get("Location") == "/log")

    def test_there_and_back_again(self, browser):
        client = browser["carol"]
        first = client.get("/log", {"q": "common"})
        pages = [first]
        while following := link(pages[-1], "next"):
            pages.append(client.get(following))
        assert [len(acts(page)) for page in pages] == [50, 50, 48]
        again = client.get(link(pages[2], "prev"))
        assert places(again) == places(pages[1])
        assert places(client.get(link(again, "prev"))) == places(first)
        assert link(client.get(link(again, "prev")), "prev") is None
        everything = [place for page in pages for place in places(page)]
        assert everything == sorted(set(everything), reverse=True)

    def test_it_goes_on_where_the_look_was_bounded(self, cast, browser, monkeypatch):
        record(cast.elsewhere, cast.member(cast.mallory), "key.created", data={"name": "first"})
        record(cast.elsewhere, cast.member(cast.mallory), "key.changed", times=2100)
        client = browser["mallory"]
        response = client.get("/log", {"q": "first"})
        shown = response.content.decode()
        assert acts(response) == []
        assert "Nothing so far" in shown
        assert "No entry matches" not in shown
        go_on = re.search(r'id="go-on" href="([^"]+)"', shown)[1].replace("&amp;", "&")
        assert acts(client.get(go_on)) == ["key.created"]
        back = client.get(link(client.get(go_on), "prev"))
        assert acts(back) == []

    def test_a_stranger_finds_nothing_of_ours(self, browser):
        assert acts(browser["mallory"].get("/log", {"q": "needle"})) == []


def places(response):
    return [int(index) for index in re.findall(r'aria-label="Entry (\d+):', response.content.decode())]


class TestOwn:
    """A developer finds what they did themselves, and can't tell that there is more."""

    def test_only_ones_own(self, cast, browser):
        client = browser["bob"]
        assert acts(client.get("/log", {"q": "needle"})) == ["key.created"]
        assert acts(client.get("/log", {"q": "common"})) == []
        assert acts(client.get("/log", {"q": "needle", "who": cast.alice.id})) == []
        assert acts(client.get("/log", {"who": cast.bob.id, "q": "needle"})) == ["key.created"]

    def test_nothing_tells_of_others(self, browser):
        def shown(text):
            body = browser["bob"].get("/log", {"q": text}).content.decode()
            return re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"|nonce="[^"]*"', "", body).replace(
                text, ""
            )

        assert "Go on searching" not in shown("common")
        assert len(shown("common")) == len(shown("absent"))

    def test_no_seal_and_no_numbers_of_the_whole(self, browser):
        shown = browser["bob"].get("/log").content.decode()
        assert 'id="seal"' not in shown
        assert 'href="/log/check"' in shown


class TestTime:
    def test_the_last_hours_and_days(self, browser):
        client = browser["carol"]
        for last in ("1h", "24h", "7d", "30d"):
            response = client.get("/log", {"last": last, "q": "needle"})
            assert acts(response) == ["key.revoked", "key.created"]
            assert 'aria-current="true"' in response.content.decode()
        assert acts(client.get("/log", {"last": "1y"})) == []

    def test_minutes_are_whole_and_in_utc(self, browser):
        client, now = browser["carol"], datetime.now(UTC)
        minutes = [(now + timedelta(minutes=shift)).strftime("%Y-%m-%dT%H:%M") for shift in (-30, -20, 0, 20)]
        assert acts(client.get("/log", {"since": minutes[0], "q": "needle"})) == [
            "key.revoked",
            "key.created",
        ]
        assert acts(client.get("/log", {"since": minutes[0], "until": minutes[1], "q": "needle"})) == []
        assert acts(client.get("/log", {"since": minutes[3]})) == []
        shown = client.get("/log", {"since": minutes[0]}).content.decode()
        assert f'value="{minutes[0]}"' in shown

    @pytest.mark.parametrize("text", ["9999-12-31", "9999-12-31T23:59", "0001-01-01", "2026-02-30", "x"])
    def test_times_beyond_every_calendar(self, browser, text):
        for name in ("since", "until"):
            assert browser["carol"].get("/log", {name: text}).status_code == HTTPStatus.OK


class TestNoMatch:
    def test_it_says_which_filter_hides_what(self, cast, browser):
        response = browser["carol"].get("/log", {"q": "needle", "who": cast.carol.id})
        shown = response.content.decode()
        assert "No entry matches" in shown
        assert f'href="/log?who={cast.carol.id}"' in shown
        assert 'href="/log?q=needle"' in shown
        assert "Remove Search" in shown
        assert "Remove Who" in shown

    def test_it_offers_none_that_would_not_help(self, browser):
        shown = browser["carol"].get("/log", {"q": "nowhere", "target": "key_none"}).content.decode()
        assert "No single filter hides" in shown
        shown = browser["carol"].get("/log", {"q": "nowhere", "act": "key.*"}).content.decode()
        assert "Remove Search" in shown
        assert "Remove Action" not in shown


class TestCost:
    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"q": "common"},
            {"q": "common", "act": "key.changed"},
            {"act": "key.*"},
            {"who": "usr_x", "act": "key.*"},
        ],
    )
    def test_as_many_queries_for_few_as_for_many(self, cast, browser, query, monkeypatch):
        counts = set()
        for size in (2, 50):
            monkeypatch.setattr(views, "PAGE_SIZE", size)
            browser["carol"].get("/log", query)
            with CaptureQueriesContext(connection) as captured:
                browser["carol"].get("/log", query)
            counts.add(len(captured))
        assert len(counts) == 1

    def test_the_whole_log_is_never_read(self, cast, browser):
        with CaptureQueriesContext(connection) as captured:
            browser["carol"].get("/log", {"q": "common"})
        entries = [query["sql"] for query in captured if "audit_entry" in query["sql"]]
        assert entries
        assert all("LIMIT" in sql or '"index" IN' in sql or '"index" =' in sql for sql in entries), entries
        with tenancy.within(cast.acme.id):
            assert Entry.objects.of(cast.acme.id).count() > 150
