"""The Keys page: the list with its filters, orders and pages, the search, and the export."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import ledger, tenancy
from keys import callers, services
from keys.secret import Kind
from keys.services import Owner
from orgs.roles import Role
from tests import builders, cluster, key_builders
from tests.key_builders import create

HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "rows"}
# A whole secret by form, of no key: the checksum is not looked at where it only has to be hidden.
BROWSERS: dict[str, Client] = {}
LEAK = "ks_cp_live_" + "Ab9" * 14 + "x" + "000000"


@pytest.fixture(scope="module")
def mixed(cast, django_db_blocker):
    """Keys of every sort, by name."""
    with django_db_blocker.unblock():
        return _mixed(cast)


def _mixed(cast):
    acme, alice = cast.acme, cast.alice
    lab, edge = builders.environment(acme), builders.project(builders.root(acme), "Edge")
    made = {
        "plain": create(acme, alice, name="plain", tags={"team": "noc"}),
        "in-lab": create(acme, alice, name="in-lab", environment=lab),
        "at-edge": create(acme, alice, name="at-edge", project=edge, owner=Owner(member=cast.bob)),
        "writer": create(acme, alice, name="writer", scopes=["incidents:read", "incidents:write"]),
        "sender": create(
            acme, alice, name="sender", kind=Kind.INGESTION, scopes=["ingest:write"], expires=None
        ),
        "soon": create(acme, alice, name="soon", expires=datetime.now(UTC) + timedelta(hours=5)),
        "off": create(acme, alice, name="off"),
        "gone": create(acme, alice, name="gone"),
        "over": create(acme, alice, name="over", expires=datetime.now(UTC) + timedelta(hours=5)),
        "old": create(acme, alice, name="old"),
        "turning": create(acme, alice, name="turning"),
    }
    actor = callers.of_member(cast.member(alice))
    with tenancy.within(acme.id):
        services.disable_key(made["off"].key, actor=actor)
        services.revoke_key(made["gone"].key, actor=actor, reason="leaked")
        services.rotate_key(made["turning"].key, actor=actor)
    key_builders.verify(made["plain"].secret, acme, ip="203.0.113.77")
    age(made["over"].key.id, expires_at=datetime.now(UTC) - timedelta(hours=1))
    age(made["old"].key.id, created_at=datetime.now(UTC) - timedelta(days=120))
    return made | {"lab": lab, "edge": edge}


def age(key_id, **columns):
    """Make a key older than a test can wait; no role of the product may do that."""
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for column, value in columns.items():
            superuser.execute(f"UPDATE keys_apikey SET {column} = %s WHERE id = %s".encode(), [value, key_id])


def browser(user):
    """Return a browser in which somebody is signed in, the same for all tests of this file."""
    if user.id not in BROWSERS:
        BROWSERS[user.id] = builders.signed_in(user)
    return BROWSERS[user.id]


def names(response):
    """Return the names of the rows, in their order."""
    return re.findall(r'<a class="name" href="/keys/key_[^"]+">([^<]+)</a>', response.content.decode())


def row(response, name):
    """Return one row's HTML."""
    rows = unescape(response.content.decode()).split("<tr")
    return next(part for part in rows if f">{name}</a>" in part)


def said(response):
    """Return the messages of a page, as text."""
    page = response.content.decode()
    return unescape(page[page.index('id="messages"') : page.index("head-text")])


def link(response, rel):
    """Return where a page link leads, None where there is none."""
    found = re.search(rf'href="([^"]+)" rel="{rel}"', response.content.decode())
    return unescape(found[1]) if found else None


def fresh():
    """Return an organization of its own with its owner, signed in."""
    owner = builders.person("Fresh")
    where = builders.organization("Fresh", owner=owner)
    return where, owner, builders.signed_in(owner)


def many(where, owner, number, prefix="bulk"):
    """Make keys in one transaction, as fast as may be."""
    actor = callers.of_member(builders.member(owner, where))
    root, production = builders.root(where), builders.production(where)
    with tenancy.within(where.id), ledger.recording(where.id, actor):
        for i in range(number):
            draft = services.Draft(
                kind=Kind.CONTROL_PLANE,
                name=f"{prefix}-{i:03}",
                project=root,
                environment=production,
                scopes=["incidents:read"],
                owner=Owner(member=owner) if i % 2 else Owner(team=f"Team {i}"),
            )
            services.create_key(draft, actor=actor)


class TestList:
    def test_shows_what_a_row_says(self, cast, mixed):
        page = browser(cast.alice).get("/?status=any&sort=name")
        assert page.status_code == 200
        plain = row(page, "plain")
        assert f"ks_cp_live_{mixed['plain'].key.hint}…" in plain
        for words in (
            "NOC",
            "Control plane",
            "Production",
            "incidents:read",
            "203.0.113.77",
            "just now",
            "90d",
        ):
            assert words in plain
        assert mixed["plain"].secret not in page.content.decode()

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("off", "Disabled"),
            ("gone", "Revoked · leaked"),
            ("over", "Expired"),
            ("soon", "Expires soon"),
            ("old", "Idle 120 days"),
            ("turning", "Rotating"),
            ("sender", "Never used"),
            ("sender", "No expiry"),
            ("plain", "Active"),
        ],
    )
    def test_says_how_a_key_stands(self, cast, mixed, name, words):
        page = browser(cast.alice).get("/?status=any")
        assert f">{words}<" in row(page, name)

    def test_ended_keys_are_left_out_unless_asked_for(self, cast, mixed):
        page = browser(cast.alice).get("/")
        assert {"plain", "off", "soon"} <= set(names(page))
        assert not {"gone", "over"} & set(names(page))

    def test_three_chips_and_the_rest_folded(self, cast):
        where, owner, client = fresh()
        create(
            where, owner, name="four", scopes=["incidents:read", "incidents:write", "keys:read", "usage:read"]
        )
        assert 'aria-label="Show 1 more scopes"' in row(client.get("/"), "four")

    def test_strangers_sign_in_first(self, client):
        for path in ("/", "/keys.csv"):
            assert client.get(path).status_code == 302
        assert client.post("/keys/search", {"q": "x"}).status_code == 302

    def test_only_reading(self, cast):
        client = browser(cast.alice)
        assert client.post("/").status_code == 405
        assert client.get("/keys/search").status_code == 405
        assert client.post("/keys.csv").status_code == 405

    def test_another_organization_sees_nothing_of_it(self, cast, mixed):
        client = browser(cast.mallory)
        page = client.get("/?status=any")
        assert names(page) == []
        assert "No keys yet" in page.content.decode()
        assert "plain" not in client.get("/keys.csv?status=any").getvalue().decode()

    @pytest.mark.parametrize("who", ["carol", "vera"])
    def test_readers_see_the_list_without_actions(self, cast, mixed, who):
        page = browser(getattr(cast, who)).get("/")
        html = page.content.decode()
        assert "plain" in names(page)
        for part in (
            'name="key"',
            'id="bulk"',
            "Actions for",
            'class="btn primary" href="/keys/new"',
            "c-pick",
        ):
            assert part not in html

    def test_a_role_at_a_project_shows_that_project_alone(self, cast, mixed):
        pat = builders.person("Pat")
        builders.join(pat, cast.acme, Role.DEVELOPER, mixed["edge"])
        assert names(builders.signed_in(pat).get("/")) == ["at-edge"]

    def test_a_reader_elsewhere_changes_only_where_they_may(self, cast, mixed):
        pat = builders.person("Pat")
        builders.join(pat, cast.acme, Role.VIEWER)
        builders.join(pat, cast.acme, Role.DEVELOPER, mixed["edge"])
        page = builders.signed_in(pat).get("/")
        assert "Actions for at-edge" in row(page, "at-edge")
        assert "Actions for" not in row(page, "plain")
        assert "Select plain" not in row(page, "plain")

    def test_the_chosen_project_narrows_it(self, cast, mixed):
        client = builders.signed_in(cast.alice)
        client.post("/switch/project", {"project": mixed["edge"].id})
        assert names(client.get("/")) == ["at-edge"]

    def test_a_revoked_key_offers_nothing_but_its_id(self, cast, mixed):
        gone = row(browser(cast.alice).get("/?status=any"), "gone")
        assert "Copy id" in gone
        assert not re.search("/rotate|/revoke|/disable|/enable|checkbox", gone)

    def test_a_disabled_key_offers_to_enable_it(self, cast, mixed):
        page = browser(cast.alice).get("/")
        assert f"/keys/{mixed['off'].key.id}/enable" in row(page, "off")
        assert f"/keys/{mixed['plain'].key.id}/disable" in row(page, "plain")

    def test_counts_of_queries_do_not_grow_with_keys(self):
        where, owner, client = fresh()
        many(where, owner, 10, "few")
        few = self._queries(client)
        many(where, owner, 190, "lot")
        # One more, which counts what does not fit on the page.
        assert self._queries(client) == few + 1

    def _queries(self, client):
        client.get("/")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get("/").status_code == 200
        return len(queries)

    def test_says_how_many_there_are_and_how_many_soon_stop(self):
        where, owner, client = fresh()
        create(where, owner)
        create(where, owner, expires=datetime.now(UTC) + timedelta(days=3))
        heading = unescape(client.get("/").content.decode())
        assert "2 keys, not counting ended ones." in heading
        assert ">1 key expires within 7 days<" in heading


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("status=disabled", {"off"}),
            ("status=revoked", {"gone"}),
            ("status=expired", {"over"}),
            ("kind=ingestion", {"sender"}),
            ("environment={lab}", {"in-lab"}),
            ("project={edge}", {"at-edge"}),
            ("owner={bob}", {"at-edge"}),
            ("scope=incidents:write", {"writer"}),
            ("tag=team:noc", {"plain"}),
            ("tag=team%3Dnoc", {"plain"}),
            ("expires=1", {"soon"}),
            ("unused=90", {"old"}),
            ("q=wri", {"writer"}),
            ("q=WRI", {"writer"}),
            ("q={id}", {"plain"}),
            ("q=ks_cp_live_{hint}…", {"plain"}),
            ("kind=control_plane&scope=incidents:write&sort=name", {"writer"}),
        ],
    )
    def test_each_narrows_the_list(self, cast, mixed, query, found):
        plain = mixed["plain"].key
        filled = query.format(
            lab=mixed["lab"].slug, edge=mixed["edge"].id, bob=cast.bob.id, id=plain.id, hint=plain.hint
        )
        page = browser(cast.alice).get(f"/?{filled}")
        assert set(names(page)) == found

    def test_an_active_one_can_be_removed_with_one_press(self, cast, mixed):
        client = browser(cast.alice)
        page = unescape(client.get("/?kind=ingestion&tag=team:noc&q=plain&sort=name").content.decode())
        for label, rest in (
            ("Kind: Ingestion", {"tag=team%3Anoc", "q=plain", "sort=name"}),
            ("Tag: team=noc", {"kind=ingestion", "q=plain", "sort=name"}),
            ("Search: plain", {"kind=ingestion", "tag=team%3Anoc", "sort=name"}),
            ("Status: not ended", {"status=any", "kind=ingestion", "tag=team%3Anoc", "q=plain", "sort=name"}),
        ):
            href = re.search(rf'href="/\?([^"]*)" aria-label="Remove the filter {label}"', page)
            assert href, label
            assert set(href[1].split("&")) == rest

    def test_nonsense_is_ignored_and_not_repeated(self, cast, mixed):
        page = browser(cast.alice).get(
            "/?kind=zzbogus&status=zzbogus&environment=ZZ!&project=zzbogus&scope=zzbogus&tag=zzbogus&expires=99&sort=zzbogus"
        )
        assert page.status_code == 200
        assert "plain" in names(page)
        assert "zzbogus" not in page.content.decode()

    @pytest.mark.parametrize(
        "query", ["q=%00", "owner=%00", "tag=a:%00", "q=%ff", "q=" + "x" * 5_000, "cursor=%00"]
    )
    def test_hostile_text_is_no_error(self, cast, query):
        client = browser(cast.alice)
        assert client.get(f"/?{query}", follow=True).status_code == 200

    @pytest.mark.usefixtures("mixed")
    def test_markup_in_a_filter_is_text(self, cast):
        page = browser(cast.alice).get("/?owner=<script>alert(1)</script>&tag=a:<b>")
        assert "<script>alert" not in page.content.decode()
        assert "&lt;script&gt;alert(1)" in page.content.decode()

    def test_no_match_names_the_filter_that_hides(self, cast, mixed):
        page = unescape(browser(cast.alice).get("/?q=gone").content.decode())
        assert "No key matches" in page
        assert "Remove Status: <bdi>not ended</bdi>" in page
        assert "shows 1 key<" in page
        assert 'href="/?status=any&q=gone"' in page or 'href="/?q=gone&status=any"' in page

    def test_no_match_that_no_single_filter_hides(self, cast, mixed):
        page = browser(cast.alice).get("/?q=no-such&kind=ingestion&scope=incidents:read")
        assert "No single filter hides" in page.content.decode()

    def test_empty_says_what_a_key_is_for_and_offers_one(self):
        _, _, client = fresh()
        page = client.get("/").content.decode()
        assert "No keys yet" in page
        assert page.count('class="btn primary" href="/keys/new"') == 1
        assert "/keys.csv" not in page

    def test_empty_offers_nothing_to_who_may_not(self):
        where, _, _ = fresh()
        viewer = builders.person("Viewer")
        builders.join(viewer, where, Role.VIEWER)
        page = builders.signed_in(viewer).get("/").content.decode()
        assert "No keys yet" in page
        assert 'class="btn primary"' not in page


class TestOrderAndPages:
    @pytest.mark.parametrize(
        ("sort", "first"),
        [
            ("name", "at-edge"),
            ("-name", "writer"),
            ("-last_used_at", "plain"),
            ("expires_at", "soon"),
            ("created_at", "old"),
        ],
    )
    def test_orders(self, cast, mixed, sort, first):
        page = browser(cast.alice).get(f"/?sort={sort}")
        assert names(page)[0] == first

    def test_the_heading_of_a_sorted_column_says_so_and_turns_it(self, cast, mixed):
        page = browser(cast.alice).get("/?sort=name").content.decode()
        assert 'aria-sort="ascending"><a id="sort-name" href="/?sort=-name">' in page
        assert page.count("aria-sort") == 1

    @pytest.mark.parametrize("sort", ["name", "-created_at"])
    def test_paging_skips_and_repeats_nothing_while_keys_are_made(self, sort):
        where, owner, client = fresh()
        many(where, owner, 120, "kept")
        seen, at, turn = [], f"/?sort={sort}", 0
        while at:
            page = client.get(at)
            seen += [name for name in names(page) if name.startswith("kept")]
            at, turn = link(page, "next"), turn + 1
            many(where, owner, 3, f"made-{turn}")
        assert turn >= 3
        assert len(seen) == len(set(seen)) == 120

    def test_back_again(self):
        where, owner, client = fresh()
        many(where, owner, 60)
        first = client.get("/?sort=name")
        assert link(first, "prev") is None
        second = client.get(link(first, "next"))
        assert link(second, "next") is None
        assert names(client.get(link(second, "prev"))) == names(first)
        assert ">60 keys<" in first.content.decode()

    def test_pages_of_a_time_filter_stay_of_one_list(self):
        where, owner, client = fresh()
        actor = callers.of_member(builders.member(owner, where))
        many(where, owner, 60)
        with tenancy.within(where.id), ledger.recording(where.id, actor):
            for key in services_of(where):
                services.change_key(
                    key, services.Changes(expires=datetime.now(UTC) + timedelta(days=3)), actor=actor
                )
        first = client.get("/?sort=name&expires=7")
        second = client.get(link(first, "next"))
        assert (len(names(first)), len(names(second))) == (50, 10)
        assert link(client.get(link(second, "prev")), "next")

    def test_a_cursor_of_another_list_begins_again(self, cast, mixed):
        client = browser(cast.alice)
        response = client.get("/?sort=name&cursor=nonsense")
        assert (response.status_code, response["Location"]) == (303, "/?sort=name")

    def test_long_lists_are_not_counted_out(self, monkeypatch):
        from keys.views import listing

        monkeypatch.setattr(listing, "COUNTED", 20)
        where, owner, client = fresh()
        many(where, owner, 60)
        page = client.get("/").content.decode()
        assert ">20+ keys<" in page


class TestHtmx:
    def test_swaps_the_rows_alone(self, cast, mixed):
        client = browser(cast.alice)
        part = client.get("/?kind=ingestion", **HTMX)
        html = part.content.decode()
        assert names(part) == ["sender"]
        assert html.lstrip().startswith('<div id="rows" data-announce="1 key"')
        assert "<html" not in html
        assert 'href="/keys.csv?kind=ingestion" hx-swap-oob="true"' in html

    def test_both_shapes_vary(self, cast, mixed):
        client = browser(cast.alice)
        for response in (client.get("/"), client.get("/", **HTMX)):
            assert "HX-Request" in response["Vary"]
            assert response["Cache-Control"] == "no-store"

    def test_without_htmx_the_whole_page(self, cast, mixed):
        page = browser(cast.alice).get("/?kind=ingestion").content.decode()
        assert "<html" in page
        assert "hx-swap-oob" not in page.partition('id="rows"')[2].partition("</main>")[0]


class TestSearch:
    def search(self, client, text, **more):
        return client.post("/keys/search", {"q": text}, **more)

    def test_a_pasted_secret_leads_to_its_key(self, cast, mixed):
        response = self.search(browser(cast.bob), f"  {mixed['plain'].secret}\n")
        assert (response.status_code, response["Location"]) == (303, f"/keys/{mixed['plain'].key.id}")

    def test_so_does_one_that_was_rotated_out(self, cast, mixed):
        response = self.search(browser(cast.alice), mixed["turning"].secret)
        assert response["Location"] == f"/keys/{mixed['turning'].key.id}"

    def test_another_organizations_is_as_unknown_as_none(self, cast, mixed):
        client = browser(cast.mallory)
        answers = []
        for text in (mixed["plain"].secret, unknown_secret()):
            response = self.search(client, text, follow=True)
            assert response.redirect_chain == [("/", 303)]
            assert text not in response.content.decode()
            answers.append(said(response))
        assert answers[0] == answers[1]
        assert "not of one of this organization's keys" in answers[0]

    def test_a_key_of_a_project_that_one_does_not_see_is_unknown(self, cast, mixed):
        pat = builders.person("Pat")
        builders.join(pat, cast.acme, Role.VIEWER, mixed["edge"])
        client = builders.signed_in(pat)
        assert self.search(client, mixed["plain"].secret)["Location"] == "/"
        assert self.search(client, mixed["at-edge"].secret)["Location"] == f"/keys/{mixed['at-edge'].key.id}"

    def test_an_id_leads_to_its_key_and_an_unknown_one_to_the_list(self, cast, mixed):
        client, unknown = browser(cast.alice), builders.new_id("key")
        assert self.search(client, mixed["gone"].key.id)["Location"] == f"/keys/{mixed['gone'].key.id}"
        assert self.search(client, unknown)["Location"] == f"/?q={unknown}"

    def test_words_lead_to_the_list(self, cast):
        assert self.search(browser(cast.alice), "wri")["Location"] == "/?q=wri"
        assert self.search(browser(cast.alice), "")["Location"] == "/"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text[:-1],
            lambda text: text[:40],
            lambda text: text[1:],
            lambda text: text.swapcase(),
            lambda text: f"Bearer {text}",
            lambda text: f"{text} {text}",
            lambda text: text[12:],
            lambda text: text.replace("_", "%5F"),
        ],
    )
    def test_no_piece_of_a_secret_gets_into_an_address(self, cast, mixed, spoil):
        piece = spoil(mixed["plain"].secret)
        client = browser(cast.alice)
        response = self.search(client, piece, follow=True)
        assert response.redirect_chain == [("/", 303)]
        assert "This looks like a secret" in said(response)
        assert piece[20:32] not in response.content.decode()

    def test_of_the_shown_beginning_the_hint_is_looked_for(self, cast, mixed):
        secret, hint = mixed["plain"].secret, mixed["plain"].key.hint
        response = self.search(browser(cast.alice), secret[:20], follow=True)
        assert names(response) == ["plain"]
        assert response.redirect_chain == [(f"/?q=ks_cp_live_{hint}%E2%80%A6", 303)]

    @pytest.mark.parametrize("field", ["q", "owner", "scope", "tag", "cursor", "sort", "at", "whatever"])
    def test_one_in_the_address_is_dropped_and_said(self, cast, field):
        client = browser(cast.alice)
        for path in ("/", "/keys.csv"):
            response = client.get(f"{path}?{field}={LEAK}&kind=service", follow=True)
            assert response.redirect_chain == [("/?kind=service", 303)]
            assert "looks like a secret" in said(response)
            assert LEAK[15:30] not in response.content.decode()

    def test_one_in_the_address_is_not_logged(self, cast, capfd):
        client = browser(cast.alice)
        client.get(f"/?q={LEAK}")
        self.search(client, LEAK)
        told = capfd.readouterr()
        assert LEAK[15:30] not in told.out + told.err


def services_of(where):
    """Return every key of an organization."""
    from keys.models import ApiKey

    return list(ApiKey.objects.of(where.id).select_related("project", "environment"))


def unknown_secret():
    """Return a well-formed secret of no key at all."""
    from keys.secret import Mode, generate

    return generate("ks", Kind.CONTROL_PLANE, Mode.LIVE)


class TestExport:
    def rows(self, response):
        assert response.status_code == 200, response
        return list(csv.DictReader(io.StringIO(response.getvalue().decode())))

    def test_holds_the_filtered_list_without_secrets_and_is_recorded(self, cast, mixed):
        client = browser(cast.alice)
        with builders.gains(cast.acme.id, "export.made") as gained:
            response = client.get("/keys.csv?status=any&scope=incidents:write&q=wri")
            (line,) = self.rows(response)
        assert line["name"] == "writer"
        assert line["scopes"] == "incidents:read incidents:write"
        assert (line["kind"], line["environment"], line["owner"]) == ("control_plane", "production", "NOC")
        assert (line["status"], line["last used"]) == ("active", "")
        assert line["hint"] == f"ks_cp_live_{mixed['writer'].key.hint}…"
        assert datetime.fromisoformat(line["created"])
        assert gained[0].data["rows"] == 1
        assert gained[0].data["filters"] == {"scope": "incidents:write"}
        assert mixed["writer"].secret not in response.getvalue().decode()

    def test_is_a_dated_file_that_nobody_keeps(self, cast, mixed):
        response = browser(cast.alice).get("/keys.csv")
        response.close()
        assert re.fullmatch(
            r'attachment; filename="keys-\d{4}-\d\d-\d\d\.csv"', response["Content-Disposition"]
        )
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert response["Cache-Control"] == "no-store"

    def test_holds_more_than_a_page_each_key_once(self):
        where, owner, client = fresh()
        many(where, owner, 230)
        found = [line["name"] for line in self.rows(client.get("/keys.csv?sort=name"))]
        assert found == [f"bulk-{i:03}" for i in range(230)]

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d"])
    def test_no_cell_runs_as_a_formula(self, start):
        where, owner, client = fresh()
        create(where, owner, owner=Owner(team=f'{start}HYPERLINK("https://evil.example","x")'))
        (line,) = self.rows(client.get("/keys.csv"))
        assert line["owner"].startswith(f"'{start}")
        assert all(not value or value[0] not in "=+-@\t\r" for value in line.values())

    def test_a_secret_typed_into_another_field_is_hidden(self, cast):
        where, owner, client = fresh()
        # The services refuse it today.
        age(create(where, owner).key.id, owner_team=f"x {LEAK}", tags=json.dumps({"note": LEAK}))
        text = client.get("/keys.csv").getvalue().decode()
        assert LEAK[:15] in text
        assert LEAK[15:30] not in text
        assert LEAK[15:30] not in client.get("/").content.decode()

    def test_readers_may_export_what_they_see(self, cast, mixed):
        pat = builders.person("Pat")
        builders.join(pat, cast.acme, Role.VIEWER, mixed["edge"])
        assert [line["name"] for line in self.rows(builders.signed_in(pat).get("/keys.csv"))] == ["at-edge"]

    def test_asks_for_the_password_where_it_was_long_ago(self, cast, mixed):
        client = builders.signed_in(cast.alice)
        session = client.session
        for record in session["account_authentication_methods"]:
            record["at"] -= 600
        session.save()
        with builders.gains(cast.acme.id):
            response = client.get("/keys.csv?kind=service")
        assert response.status_code == 303
        assert response["Location"] == "/account/confirm?next=%2Fkeys.csv%3Fkind%3Dservice"

    def test_more_than_it_may_hold_is_refused_and_not_recorded(self, monkeypatch):
        from keys.services import exporting

        monkeypatch.setattr(exporting, "MAX_ROWS", 3)
        where, owner, client = fresh()
        many(where, owner, 5)
        with builders.gains(where.id):
            response = client.get("/keys.csv", follow=True)
        assert "More than 3 keys. Narrow the list first." in said(response)
