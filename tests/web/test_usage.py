"""The Usage page and its export: the very calls that were made, as far as the person reaches."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlencode

import psycopg
import pytest

from audit import tenancy
from keys.services import Owner
from keys.usage import rows as usage_rows
from orgs.models import Organization
from orgs.roles import Role
from tests import builders, cluster, usage_builders
from tests.key_builders import create
from tests.usage_builders import ago, calls

URL = "/usage"
HTMX = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "usage"}
SECRET = "ks_cp_live_" + "Ab9" * 14 + "x" + "000000"


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    """An organization with two projects, two environments and the calls of three keys; its people signed in."""
    with django_db_blocker.unblock():
        return World()


class World:
    def __init__(self):
        cast = self.cast = builders.cast()
        acme, alice = cast.acme, cast.alice
        self.lab = builders.environment(acme)
        self.edge = builders.project(builders.root(acme), "Edge")
        self.plain = create(acme, alice, name="plain").key
        self.at_edge = create(acme, alice, name="at-edge", project=self.edge).key
        self.in_lab = create(acme, alice, name="in-lab", environment=self.lab, owner=Owner(team="Lab")).key
        calls(
            self.plain,
            [
                {"cost": 3},
                {"at": ago(minutes=30), "endpoint": "/v1/alerts", "region": "us-east-1"},
                {"code": "RATE_LIMITED", "at": ago(hours=3)},
                {"code": "REVOKED", "at": ago(hours=5), "endpoint": ""},
                {"calls": 7, "cost": 7, "at": ago(days=20)},
            ],
        )
        calls(self.at_edge, [{"calls": 1_000_000, "cost": 1_000_000}, {"code": "FORBIDDEN"}])
        calls(self.in_lab, [{"endpoint": "=HYPERLINK(1)", "region": ""}])
        usage_builders.unknown(acme, "198.51.100.0/24", "MALFORMED", 12)
        usage_builders.unknown(acme, "198.51.100.0/24", "NOT_FOUND", 3)
        usage_builders.unknown(acme, "", number=2)
        self.pat = builders.person("Pat")
        builders.join(self.pat, acme, Role.DEVELOPER, self.edge)
        self.alice, self.mallory = builders.signed_in(alice), builders.signed_in(cast.mallory)
        self.outsider = builders.signed_in(self.pat)


def page(client, **query):
    response = client.get(f"{URL}?{urlencode(query)}")
    assert response.status_code == 200
    return response


def stats(response):
    """Return calls, refused and cost, as the page says them."""
    html = response.content.decode()
    found = html[html.index('class="card stats"') :]
    return tuple(re.findall(r"<dt>[^<]+</dt><dd[^>]*>([^<]+)</dd>", found)[:3])


def groups(response):
    """Return name and calls of each group, in their order."""
    html = unescape(response.content.decode())
    table = html[html.index("Calls by group") :]
    return re.findall(r'<bdi>([^<]*)</bdi>.*?<td class="num c-state">([^<]+)<', table, re.DOTALL)


def rows(client, **query):
    """Return the export, its header apart."""
    response = client.get(f"{URL}.csv?{urlencode(query)}")
    assert response.status_code == 200
    header, *found = csv.reader(io.StringIO(response.content.decode()))
    return header, found


class TestNumbers:
    def test_counts_the_very_calls_that_were_made(self, world):
        assert stats(page(world.alice)) == ("1,000,006", "3", "1,000,005")

    def test_the_range_is_chosen(self, world):
        assert stats(page(world.alice, range="1h")) == ("1,000,004", "1", "1,000,005")
        assert stats(page(world.alice, range="30d")) == ("1,000,013", "3", "1,000,012")

    def test_a_range_of_ones_own(self, world):
        since, until = ago(days=21), ago(days=19)
        response = page(world.alice, since=f"{since:%Y-%m-%dT%H:%M}", until=f"{until:%Y-%m-%dT%H:%M}")
        assert stats(response)[0] == "7"
        # The form keeps it, and so does every other link.
        assert f'value="{since:%Y-%m-%d}T' in response.content.decode()
        assert f"since={since:%Y-%m-%d}T" in response.context["bar"].groupings[1].url

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({"since": "2026-01-01"}, "both its times"),
            ({"since": "2026-02-01", "until": "2026-01-01"}, "ends before it begins"),
            ({"since": "2024-01-01", "until": "2026-01-01"}, "At most 366 days"),
            ({"since": "2090-01-01", "until": "2090-01-02"}, "not begun"),
            ({"since": "0001-01-01T00:00+14:00", "until": "nonsense"}, "both its times"),
        ],
    )
    def test_a_range_that_makes_no_sense_says_so(self, world, query, words):
        response = page(world.alice, **query)
        assert words in response.content.decode()
        assert stats(response)[0] == "1,000,006"

    @pytest.mark.parametrize(
        "query", ["range=x", "by=x", "outcome=x", "key=key_x", "project=%00", "environment=%00"]
    )
    def test_what_makes_no_sense_is_left_out(self, world, query):
        response = world.alice.get(f"{URL}?{query}")
        assert response.status_code == 200
        assert stats(response)[0] == "1,000,006"

    @pytest.mark.parametrize(
        ("by", "found"),
        [
            ("key", [("at-edge", "1,000,001"), ("plain", "4"), ("in-lab", "1")]),
            (
                "endpoint",
                [
                    ("/v1/incidents", "1,000,003"),
                    ("=HYPERLINK(1)", "1"),
                    ("Not given", "1"),
                    ("/v1/alerts", "1"),
                ],
            ),
            ("region", [("eu-west-1", "1,000,004"), ("Not given", "1"), ("us-east-1", "1")]),
            (
                "outcome",
                [("Allowed", "1,000,003"), ("Forbidden", "1"), ("Rate limited", "1"), ("Revoked", "1")],
            ),
            ("project", [("Edge", "1,000,001"), ("Acme", "5")]),
        ],
    )
    def test_told_apart_by(self, world, by, found):
        assert sorted(groups(page(world.alice, by=by))) == sorted(found)

    def test_by_environment(self, world):
        assert groups(page(world.alice, by="environment")) == [
            ("Production", "1,000,005"),
            (world.lab.name, "1"),
        ]

    def test_the_most_comes_first(self, world):
        assert groups(page(world.alice))[0] == ("at-edge", "1,000,001")

    @pytest.mark.parametrize(
        ("query", "number"),
        [
            ({"outcome": "RATE_LIMITED"}, "1"),
            ({"endpoint": "/v1/alerts"}, "1"),
            ({"endpoint": ""}, "1"),
            ({"region": "eu-west-1", "outcome": "VALID"}, "1,000,001"),
            ({"environment": "production"}, "1,000,005"),
        ],
    )
    def test_narrowed_to(self, world, query, number):
        assert stats(page(world.alice, **query))[0] == number

    def test_narrowed_to_a_project_with_what_lies_below(self, world):
        root = builders.root(world.cast.acme)
        assert stats(page(world.alice, project=world.edge.id))[0] == "1,000,001"
        assert stats(page(world.alice, project=root.id))[0] == "1,000,006"

    def test_a_group_leads_to_itself_and_a_key_to_its_page(self, world):
        html = unescape(page(world.alice, range="7d").content.decode())
        assert f'href="/usage?range=7d&key={world.plain.id}"' in html
        assert f'href="/keys/{world.plain.id}/usage?range=7d"' in html
        chip = page(world.alice, key=world.plain.id)
        assert "Key: <bdi>plain</bdi>" in chip.content.decode()

    def test_the_table_has_the_numbers_of_the_chart(self, world):
        drawn = page(world.alice).context["drawn"]
        cells = [[int(cell.replace(",", "")) for cell in line.cells] for line in drawn.lines]
        assert len(cells) == len(drawn.columns.columns) == 24
        assert [sum(column) for column in zip(*cells, strict=True)] == [1_000_006, 2, 1, 1_000_003, 1_000_005]
        assert all(total == sum(parts) for total, *parts, _ in cells)
        assert [entry.label for entry in drawn.legend] == ["Denied", "Over a limit", "Allowed"]

    def test_a_row_of_the_table_is_an_address_of_its_own(self, world):
        line = next(line for line in page(world.alice).context["drawn"].lines if line.url)
        found = world.alice.get(line.url)
        assert stats(found)[0] == line.cells[0]


class TestReach:
    def test_a_stranger_sees_nothing(self, world):
        for query in ("", f"?key={world.plain.id}", f"?project={world.edge.id}", "?by=endpoint"):
            html = world.mallory.get(URL + query).content.decode()
            for word in ("1,000,00", "plain", "at-edge", "198.51.100", "HYPERLINK"):
                assert word not in html, (query, word)
        assert rows(world.mallory)[1] == []

    def test_who_has_one_project_sees_its_calls_alone(self, world):
        response = page(world.outsider)
        assert stats(response)[0] == "1,000,001"
        assert groups(response) == [("at-edge", "1,000,001")]
        html = response.content.decode()
        for hidden in ("198.51.100", "Quota of", "without a known key", "HYPERLINK"):
            assert hidden not in html
        assert {row[1] for row in rows(world.outsider)[1]} == {world.at_edge.id}

    def test_who_has_one_project_learns_nothing_of_another_key(self, world):
        response = page(world.outsider, key=world.plain.id)
        assert stats(response)[0] == "0"
        assert ">plain<" not in response.content.decode()

    def test_the_chosen_project_narrows_it(self, world):
        client = builders.signed_in(world.cast.alice)
        client.post("/switch/project", {"project": world.edge.id})
        response = page(client)
        assert stats(response)[0] == "1,000,001"
        assert "without a known key" not in response.content.decode()

    @pytest.mark.parametrize("role", ["carol", "vera", "bob", "anna"])
    def test_every_role_sees_it(self, world, role):
        client = builders.signed_in(getattr(world.cast, role))
        assert stats(page(client))[0] == "1,000,006"


class TestUnknown:
    def test_by_network(self, world):
        html = unescape(page(world.alice).content.decode())
        assert re.search(r"198\.51\.100\.0/24</span></td><td[^>]*>15<", html)
        assert re.search(r"Address not given</span></td><td[^>]*>2<", html)
        assert "12 malformed" in html
        assert "5 unknown" in html

    def test_not_where_filters_speak_of_keys(self, world):
        assert "without a known key" not in page(world.alice, region="eu-west-1").content.decode()


class TestQuota:
    def test_what_is_spent_of_it(self):
        where, client = _fresh()
        # Nobody but the operator's services set it, and no page of theirs is tested here.
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            Organization.objects.filter(pk=where.id).update(overrides={"monthly_quota": 1_000})
        assert "of 1,000 " in client.get(URL).content.decode()
        now = datetime.now(UTC)
        usage_builders.spend(where, now.year * 100 + now.month, 850)
        html = client.get(URL).content.decode()
        assert f"Quota of {now:%B}</dt><dd>850</dd>" in html
        assert 'class="meter warn"' in html
        usage_builders.spend(where, 200_001, 850)
        assert f"Quota of {now:%B}</dt><dd>0</dd>" in client.get(URL).content.decode()

    def test_without_one(self, world):
        now = datetime.now(UTC)
        assert f"Quota of {now:%B}</dt><dd>None</dd>" in page(world.alice).content.decode()


class TestNothing:
    def test_before_the_first_call(self):
        _, client = _fresh()
        html = client.get(URL).content.decode()
        assert "No calls yet" in html
        assert "How to verify a key" in html

    def test_longer_ago(self):
        where, client = _fresh()
        calls(create(where, where.owner).key, [{"at": ago(days=10)}])
        html = client.get(URL).content.decode()
        assert "No calls in the last 24 hours" in html
        assert re.search(r'class="btn" href="/usage\?range=30d"', html)
        assert stats(client.get(f"{URL}?range=30d"))[0] == "1"

    def test_no_match_names_the_filters(self, world):
        html = unescape(page(world.alice, endpoint="/nowhere", region="mars").content.decode())
        assert "No call matches" in html
        assert "Remove Endpoint: <bdi>/nowhere</bdi>" in html
        assert 'href="/usage?endpoint=%2Fnowhere"' in html


class TestAddresses:
    def test_every_link_keeps_the_view(self, world):
        context = page(world.alice, range="7d", by="region", endpoint="/v1/incidents").context
        links = [
            *(option.url for option in context["bar"].groupings),
            *(option.url for option in context["ranges"]),
            *(option.url for option in context["bar"].environments),
            *(group.url for group in context["groups"]),
            context["view"].csv_url,
        ]
        assert all("endpoint=%2Fv1%2Fincidents" in link for link in links)
        assert sum("range=7d" in link for link in links) == len(links) - len(context["ranges"]) + 1

    def test_a_secret_in_an_address_is_left_out(self, world):
        for path in (URL, f"{URL}.csv", f"/keys/{world.plain.id}/usage"):
            response = world.alice.get(f"{path}?endpoint={SECRET}&range=7d")
            assert response.status_code == 303
            assert SECRET not in response["Location"]
        assert "looks like a secret" in world.alice.get(URL).content.decode()

    def test_htmx_gets_the_part(self, world):
        response = world.alice.get(f"{URL}?range=7d", **HTMX)
        html = response.content.decode()
        assert html.lstrip().startswith('<div id="usage"')
        assert 'id="export" href="/usage.csv?range=7d" hx-swap-oob="true"' in html
        assert "HX-Request" in response["Vary"]

    def test_the_sidebar_leads_to_it(self, world):
        assert re.search(r'href="/usage"[^>]*title="Usage"', world.alice.get("/").content.decode())
        assert re.search(r'title="Usage" aria-current="page"', page(world.alice).content.decode())

    def test_nothing_of_it_needs_a_script_or_a_style_attribute(self, world):
        html = page(world.alice, range="7d").content.decode()
        main = html[html.index("<main") : html.index("</main>")]
        assert not re.search(r"\sstyle=|\son\w+=|<script", main)
        assert 'role="img"' in main


class TestExport:
    def test_a_row_for_each_group_and_hour(self, world):
        header, found = rows(world.alice)
        assert header == ["from", "key", "key name", "calls", "refused", "cost"]
        assert sum(int(row[3]) for row in found) == 1_000_006
        assert {row[2] for row in found} == {"plain", "at-edge", "in-lab"}
        assert [row[0] for row in found] == sorted(row[0] for row in found)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00:00Z", row[0]) for row in found)

    def test_follows_the_view(self, world):
        header, found = rows(world.alice, by="outcome", environment="production", range="1h")
        assert header[1] == "outcome"
        assert {row[1]: int(row[3]) for row in _summed(found)} == {"VALID": 1_000_002, "FORBIDDEN": 1}

    def test_a_cell_that_would_run_gets_an_apostrophe(self, world):
        _, found = rows(world.alice, by="endpoint")
        assert {row[1] for row in found} == {"/v1/incidents", "/v1/alerts", "", "'=HYPERLINK(1)"}

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
    def test_every_dangerous_start(self, start):
        where, client = _fresh()
        calls(create(where, where.owner).key, [{"region": f"{start}1+1"}])
        _, found = rows(client, by="region")
        assert [row[1] for row in found] == [f"'{start}1+1"]

    def test_is_a_file_that_nobody_keeps(self, world):
        response = world.alice.get(f"{URL}.csv?by=region")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert "attachment" in response["Content-Disposition"]
        assert "usage-by-region" in response["Content-Disposition"]
        assert response["Cache-Control"] == "no-store"

    def test_is_no_act_of_the_ledger(self, world):
        with builders.gains(world.cast.acme.id):
            rows(world.alice)


def _summed(found):
    totals = {}
    for row in found:
        totals[row[1]] = totals.get(row[1], 0) + int(row[3])
    return [["", name, "", number] for name, number in totals.items()]


def _fresh():
    """Return an organization of its own, its owner beside it, and them signed in."""
    owner = builders.person("Fresh")
    where = builders.organization("Fresh", owner=owner)
    where.owner = owner
    return where, builders.signed_in(owner)


def test_many_groups_are_cut_and_said_so():
    where, client = _fresh()
    key = create(where, where.owner).key
    calls(key, [{"endpoint": f"/v1/thing-{number}"} for number in range(60)])
    response = page(client, by="endpoint")
    assert len(response.context["groups"]) == 51
    assert response.context["groups"][-1].name.label == "All others"
    assert response.context["groups"][-1].calls == "10"
    assert response.context["groups"][-1].url == ""
    assert "tells more of them apart" in response.content.decode()
    assert len(rows(client, by="endpoint")[1]) == 60


def test_a_year_by_day_has_few_groups_and_never_fails():
    where, client = _fresh()
    key = create(where, where.owner).key
    calls(key, [{"endpoint": f"/v1/thing-{number}", "at": ago(days=number)} for number in range(60)])
    since, until = ago(days=360), datetime.now(UTC) + timedelta(days=1)
    query = {"since": f"{since:%Y-%m-%d}", "until": f"{until:%Y-%m-%d}", "by": "endpoint"}
    assert stats(page(client, **query))[0] == "60"
    assert sum(int(row[3]) for row in rows(client, **query)[1]) == 60


class TestTooMuch:
    """Another session holds what the page must read; the page waits no longer than it may."""

    @pytest.fixture(autouse=True)
    def blocked(self, monkeypatch):
        monkeypatch.setattr(usage_rows, "PATIENCE", "50ms")
        with psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as other:
            other.execute("LOCK TABLE keys_usageplace, keys_usagekey IN ACCESS EXCLUSIVE MODE")
            yield

    def test_the_page_says_so_and_offers_less(self, world):
        response = page(world.alice, range="7d", region="eu-west-1")
        html = unescape(response.content.decode())
        assert "Too many calls to count at once" in html
        found = re.findall(r'class="btn" href="(/usage[^"]*)">([^<]*)<', html)
        assert found == [
            ("/usage?region=eu-west-1", "The last 24 hours"),
            ("/usage?range=1h&region=eu-west-1", "The last hour"),
        ]
        assert 'href="/usage?range=7d&by=outcome&region=eu-west-1"' in html
        assert "Calls by group" not in html
        assert "Quota of" not in html

    def test_so_does_the_part(self, world):
        html = world.alice.get(URL, **HTMX).content.decode()
        assert 'data-announce="Too many calls to count at once"' in html

    def test_what_is_not_in_the_way_is_counted(self, world, monkeypatch):
        monkeypatch.setattr(usage_rows, "PATIENCE", "20s")
        assert stats(page(world.alice, key=world.plain.id))[0] == "4"

    def test_there_is_no_export_but_a_reason(self, world):
        response = world.alice.get(f"{URL}.csv?range=30d")
        assert (response.status_code, response["Location"]) == (303, "/usage?range=30d")
        assert "There is no export: So many calls" in page(world.alice).content.decode()
