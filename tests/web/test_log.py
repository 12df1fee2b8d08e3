"""The security log's pages: who reads what, how it is narrowed, and that a page never says more than the entry does."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus

import pytest
from django.urls import reverse

from audit import access, ledger, tenancy
from audit.actors import Actor
from audit.views import log as views
from orgs.models import User
from tests import builders, ledgers

KEY = "key_" + "a" * 20
OTHER = "key_" + "b" * 20


@pytest.fixture
def cast():
    return builders.cast()


def record(where, actor, act, target=KEY, data=None, **sealed):
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        entry(act, target=target, data=data or {}, sealed=sealed)


def story(cast):
    """Let alice, bob and the product each leave an entry or two."""
    alice = replace(cast.member(cast.alice), ip="203.0.113.9", request_id="req_of_alice")
    bob = cast.member(cast.bob)
    scopes = {"before": {"scopes": ["a:read", "b:write"]}, "after": {"scopes": ["a:read", "c:read"]}}
    record(cast.acme, bob, "key.created", OTHER, {"name": "bobs-key"})
    record(cast.acme, alice, "key.scopes_changed", KEY, {"name": "ingest"} | scopes)
    record(
        cast.acme, alice, "key.revoked", KEY, {"name": "ingest", "reason": "leaked"}, note="told the partner"
    )
    record(cast.acme, Actor.system("worker"), "key.expired", OTHER, {"name": "bobs-key"})
    return cast


@cache
def shared():
    return story(builders.cast())


@pytest.fixture
def told():
    """The story as all who only read it may share it."""
    return shared()


@pytest.fixture
def own(cast):
    """The story for a test that changes it."""
    return story(cast)


@cache
def browser_of(email):
    user = User.objects.get(email=email)
    return builders.signed_in(user)


def signed_in(user):
    """Return one browser for each person: signing in is slow, and not what is tested here."""
    return browser_of(user.email)


def acts(response):
    assert response.status_code == HTTPStatus.OK
    return re.findall(r'aria-label="Entry \d+: ([a-z._]+)"', response.content.decode())


def page(client, path="/log", **query):
    return client.get(path, query)


def index_of(cast, act):
    return next(entry.i for entry in builders.entries(cast.acme.id) if entry.act == act)


class TestLog:
    def test_the_newest_stands_first(self, told):
        response = page(signed_in(told.carol))
        assert acts(response)[:4] == ["key.expired", "key.revoked", "key.scopes_changed", "key.created"]
        assert acts(response)[-1] == "ledger.opened"
        shown = response.content.decode()
        for words in ("Alice", "Bob", "Keystead", "ingest", "reason: leaked", "203.0.113.9", "+ c:read"):
            assert words in shown
        assert "told the partner" not in shown

    @pytest.mark.parametrize("who", ["alice", "anna", "carol"])
    def test_who_reads_all_of_it(self, told, who):
        response = page(signed_in(getattr(told, who)))
        assert {"key.created", "key.revoked"} <= set(acts(response))

    def test_a_developer_reads_their_own_actions_and_is_told_so(self, told):
        client = signed_in(told.bob)
        response = page(client)
        assert set(acts(response)) == {"key.created", "member.joined"}
        assert "What you did yourself" in response.content.decode()
        assert "Alice" not in response.content.decode()
        assert acts(page(client, who=told.alice.id)) == []
        assert acts(page(client, target=KEY)) == []

    def test_a_viewer_finds_nothing_here(self, told):
        client = signed_in(told.vera)
        assert page(client).status_code == HTTPStatus.NOT_FOUND
        assert client.get("/log/0").status_code == HTTPStatus.NOT_FOUND

    def test_a_stranger_reads_their_own_organizations(self, told):
        response = page(signed_in(told.mallory))
        assert "key.revoked" not in acts(response)
        assert "ingest" not in response.content.decode()

    def test_nobody_without_signing_in(self, client):
        assert client.get("/log").status_code == HTTPStatus.FOUND
        assert client.get("/log/0").status_code == HTTPStatus.FOUND

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    @pytest.mark.parametrize("path", ["/log", "/log/0"])
    def test_it_is_only_read(self, told, method, path):
        response = getattr(signed_in(told.alice), method)(path)
        assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED

    def test_reading_appends_nothing(self, told):
        client = signed_in(told.alice)
        with builders.gains(told.acme.id):
            page(client)
            client.get("/log/1")

    def test_htmx_gets_the_rows_alone(self, told):
        client = signed_in(told.alice)
        part = client.get("/log", headers={"HX-Request": "true", "HX-Target": "rows"})
        assert part.content.decode().lstrip().startswith('<div id="rows"')
        assert "<html" not in part.content.decode()
        whole = client.get("/log")
        assert "<html" in whole.content.decode()
        for response in (part, whole):
            assert "HX-Request" in response["Vary"]
            assert response["Cache-Control"] == "no-store"


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"act": "key.revoked"}, ["key.revoked"]),
            ({"act": "key.*"}, ["key.expired", "key.revoked", "key.scopes_changed", "key.created"]),
            ({"act": "rotation.*"}, []),
            ({"target": KEY}, ["key.revoked", "key.scopes_changed"]),
            ({"target": f" {KEY} "}, ["key.revoked", "key.scopes_changed"]),
            ({"target": "key_none"}, []),
            ({"request": "req_of_alice"}, ["key.revoked", "key.scopes_changed"]),
            ({"request": "req_of_alice", "act": "key.revoked"}, ["key.revoked"]),
            ({"who": "sys_worker"}, ["key.expired"]),
            ({"who": "usr_nobody"}, []),
            ({"since": "2001-01-01", "until": "2001-01-31"}, []),
            ({"since": "2999-01-01"}, []),
        ],
    )
    def test_what_each_leaves(self, told, query, expected):
        assert acts(page(signed_in(told.alice), **query)) == expected

    def test_by_person(self, told):
        assert "key.created" in acts(page(signed_in(told.alice), who=told.bob.id))
        assert "key.revoked" not in acts(page(signed_in(told.alice), who=told.bob.id))

    def test_days_are_whole_and_in_utc(self, told):
        client, today = signed_in(told.alice), datetime.now(UTC).date()
        yesterday = today - timedelta(days=1)
        everything = acts(page(client))
        assert acts(page(client, since=str(yesterday), until=str(today))) == everything
        assert acts(page(client, until=str(yesterday - timedelta(days=1)))) == []

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({"act": "key.exploded"}, "“key.exploded” is not an action of this log."),
            ({"act": "<script>"}, "&lt;script&gt;"),
            ({"since": "yesterday"}, "Enter a valid date"),
            ({"target": "x" * 65}, "at most 64 characters"),
            ({"who": "x" * 65}, "at most 64 characters"),
            ({"request": "a\x00b"}, "Null characters are not allowed."),
        ],
    )
    def test_what_can_not_be_understood_shows_nothing_and_says_why(self, told, query, words):
        response = page(signed_in(told.alice), **query)
        assert acts(response) == []
        assert words in response.content.decode()
        assert "<script>" not in response.content.decode().split("<main", 1)[1]

    def test_no_match_leads_back_to_everything(self, told):
        shown = page(signed_in(told.alice), target="key_none").content.decode()
        assert "No entry matches" in shown
        assert 'href="/log"' in shown

    def test_the_people_to_choose_from_are_those_of_this_ledger(self, told):
        shown = page(signed_in(told.alice)).content.decode()
        options = dict(re.findall(r'<option value="((?:usr|sys)_[^"]*)"[^>]*>([^<]*)<', shown))
        assert options[told.alice.id] == "Alice"
        assert options[told.bob.id] == "Bob"
        assert told.mallory.id not in options

    def test_each_filter_keeps_the_others(self, told):
        shown = page(signed_in(told.alice), act="key.*", target=KEY).content.decode()
        assert f'href="/log?target={KEY}"' in shown
        assert 'href="/log?act=key.%2A"' in shown
        assert f'<input type="hidden" name="target" value="{KEY}">' in shown


class TestPages:
    @pytest.fixture
    def long(self, cast, monkeypatch):
        monkeypatch.setattr(views, "PAGE_SIZE", 5)
        for number in range(12):
            record(
                cast.acme,
                cast.member(cast.alice),
                "key.created",
                f"key_{number}",
                {"name": f"number-{number}"},
            )
        return cast

    def names(self, response):
        return re.findall(r"number-(\d+)", response.content.decode())

    def link(self, response, rel):
        found = re.search(rf'href="([^"]+)" rel="{rel}"', response.content.decode())
        return found and found[1].replace("&amp;", "&")

    def test_there_and_back_again(self, long):
        client = signed_in(long.alice)
        first = page(client, act="key.*")
        assert self.names(first) == ["11", "10", "9", "8", "7"]
        assert self.link(first, "prev") is None
        second = client.get(self.link(first, "next"))
        third = client.get(self.link(second, "next"))
        assert self.names(second) + self.names(third) == ["6", "5", "4", "3", "2", "1", "0"]
        assert self.link(third, "next") is None
        assert self.names(client.get(self.link(third, "prev"))) == self.names(second)
        again = client.get(self.link(second, "prev"))
        assert self.names(again) == self.names(first)
        assert self.link(again, "prev") is None

    def test_what_is_appended_meanwhile_moves_nothing(self, long):
        client = signed_in(long.alice)
        following = self.link(page(client, act="key.*"), "next")
        record(long.acme, long.member(long.alice), "key.created", "key_new", {"name": "number-99"})
        assert self.names(client.get(following)) == ["6", "5", "4", "3", "2"]

    @pytest.mark.parametrize(
        "cursor", ["x", "1-", "-1", "1-x", "99999-1", "9" * 30, "\N{ARABIC-INDIC DIGIT ONE}"]
    )
    def test_a_cursor_of_no_entry(self, long, cursor):
        client = signed_in(long.alice)
        assert page(client, before=cursor).status_code == HTTPStatus.NOT_FOUND
        assert page(client, after=cursor).status_code == HTTPStatus.NOT_FOUND

    def test_beyond_the_end(self, long):
        assert acts(page(signed_in(long.alice), after="999999")) == []


class TestEntry:
    def test_everything_that_it_says(self, told):
        index = index_of(told, "key.scopes_changed")
        response = signed_in(told.carol).get(f"/log/{index}")
        shown = response.content.decode()
        assert "<del" in shown
        assert "b:write</del>" in shown
        assert "c:read</ins>" in shown
        assert ">a:read</span>" in shown
        entry = next(entry for entry in builders.entries(told.acme.id) if entry.i == index)
        assert entry.prev.hex() in shown
        with tenancy.within(told.acme.id):
            stored = access.Entry.objects.of(told.acme.id).get(index=index)
        assert stored.leaf_hash().hex() in shown
        assert bytes(stored.leaf).decode().replace('"', "&quot;") in shown
        assert shown.count("fits the entry") == len(entry.sealed)
        assert f'href="/log/{index - 1}" rel="prev"' in shown
        assert f'href="/log/{index + 1}" rel="next"' in shown

    def test_the_note_is_shown_to_who_opens_the_entry(self, told):
        response = signed_in(told.carol).get(f"/log/{index_of(told, 'key.revoked')}")
        assert "told the partner" in response.content.decode()

    def test_a_key_is_linked(self, told):
        response = signed_in(told.alice).get(f"/log/{index_of(told, 'key.revoked')}")
        assert f'href="{reverse("keys:detail", args=[KEY])}"' in response.content.decode()

    def test_the_first_and_the_last_have_one_neighbour(self, told):
        client = signed_in(told.alice)
        assert 'rel="prev"' not in client.get("/log/0").content.decode()
        last = client.get(f"/log/{len(builders.entries(told.acme.id)) - 1}").content.decode()
        assert 'rel="prev"' in last
        assert 'rel="next"' not in last

    def test_a_developer_opens_their_own_and_goes_on_to_their_own(self, told):
        client = signed_in(told.bob)
        own = client.get(f"/log/{index_of(told, 'key.created')}")
        assert own.status_code == HTTPStatus.OK
        assert 'rel="next"' not in own.content.decode()
        assert client.get(f"/log/{index_of(told, 'key.revoked')}").status_code == HTTPStatus.NOT_FOUND

    def test_a_stranger_sees_their_own_entry_at_the_same_place(self, told):
        response = signed_in(told.mallory).get("/log/0")
        assert told.acme.id not in response.content.decode()

    @pytest.mark.parametrize("place", ["99999", "2-0", "9999-0", "9" * 18])
    def test_no_such_entry(self, told, place):
        assert signed_in(told.alice).get(f"/log/{place}").status_code == HTTPStatus.NOT_FOUND

    @pytest.mark.parametrize("place", ["x", "-1", "1-", "9" * 19, "99999-1"])
    def test_no_such_address(self, told, place):
        assert signed_in(told.alice).get(f"/log/{place}").status_code == HTTPStatus.NOT_FOUND

    def test_the_first_epoch_may_be_named(self, told):
        assert signed_in(told.alice).get("/log/1-0").status_code == HTTPStatus.OK

    def test_what_people_wrote_is_text(self, own):
        record(own.acme, own.member(own.alice), "key.created", OTHER, {"name": "<b>x</b>"}, note="<i>y</i>")
        client = signed_in(own.alice)
        for path in ("/log", f"/log/{len(builders.entries(own.acme.id)) - 1}"):
            shown = client.get(path).content.decode()
            assert "&lt;b&gt;x&lt;/b&gt;" in shown
            assert "<b>x</b>" not in shown
            assert "<i>y</i>" not in shown


class TestTampered:
    """The pages say so, and do not break."""

    def change(self, statement, *parameters):
        with ledgers.without_triggers() as superuser:
            assert superuser.execute(statement.encode(), parameters).rowcount > 0

    def test_bytes_that_are_no_entry(self, own):
        index = index_of(own, "key.revoked")
        self.change(
            "UPDATE audit_entry SET leaf = '\\xff00' || leaf WHERE organization_id = %s AND index = %s",
            own.acme.id,
            index,
        )
        client = signed_in(own.alice)
        assert "be read any more" in client.get("/log").content.decode()
        shown = client.get(f"/log/{index}").content.decode()
        assert "This entry was damaged" in shown
        assert "\\xff" in shown

    def test_an_opening_that_does_not_fit(self, own):
        index = index_of(own, "key.revoked")
        self.change(
            "UPDATE audit_sealed SET value = 'Mallory' WHERE organization_id = %s AND index = %s AND field = 'name'",
            own.acme.id,
            index,
        )
        shown = signed_in(own.alice).get(f"/log/{index}").content.decode()
        assert shown.count("is not what was sealed") == 1

    def test_an_opening_that_is_gone(self, own):
        index = index_of(own, "key.revoked")
        self.change(
            "DELETE FROM audit_sealed WHERE organization_id = %s AND index = %s AND field = 'ip'",
            own.acme.id,
            index,
        )
        assert "no entry erased it" in signed_in(own.alice).get(f"/log/{index}").content.decode()

    @pytest.mark.parametrize("how", ["altered", "dropped"])
    def test_an_entry_that_does_not_follow(self, own, how):
        index = index_of(own, "key.revoked")
        if how == "dropped":
            self.change(
                "DELETE FROM audit_entry WHERE organization_id = %s AND index = %s", own.acme.id, index - 1
            )
        else:
            self.change(
                "UPDATE audit_entry SET leaf = "
                "convert_to(replace(convert_from(leaf, 'UTF8'), 'ingest', 'egress'), 'UTF8') "
                "WHERE organization_id = %s AND index = %s",
                own.acme.id,
                index - 1,
            )
        shown = signed_in(own.alice).get(f"/log/{index}").content.decode()
        assert "does not follow the one before it" in shown


class TestEntriesForTarget:
    def about(self, cast, user, target=KEY, **options):
        member = cast.member(user)
        with tenancy.within(member.organization_id):
            return [line.act for line in access.entries_for_target(member, target, **options)]

    def test_newest_first(self, told):
        assert self.about(told, told.carol) == ["key.revoked", "key.scopes_changed"]
        assert self.about(told, told.carol, limit=1) == ["key.revoked"]

    def test_only_what_one_may_read(self, told):
        assert self.about(told, told.bob) == []
        assert self.about(told, told.bob, OTHER) == ["key.created"]
        assert self.about(told, told.vera, OTHER) == []
        assert self.about(told, told.mallory) == []
