"""What the pages of keys show of their calls: sparklines, badges, the Usage tab, and what a revocation stops."""

import re
from datetime import UTC, datetime
from html import unescape

import psycopg
import pytest

from keys.usage import rows as usage_rows
from tests import builders, cluster, key_builders, usage_builders
from tests.key_builders import create
from tests.usage_builders import ago, calls


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def key(cast):
    return create(cast.acme, cast.alice).key


def used(key, at=None):
    """Let a key have been used, as verification notes it."""
    usage_builders.use(key, last_used_at=at or datetime.now(UTC), last_used_ip="203.0.113.9")


def row(client, key):
    """Return a key's row of the list."""
    html = unescape(client.get(f"/?q={key.name}").content.decode())
    return next(part for part in html.split("<tr") if f">{key.name}</a>" in part)


def age(key, days):
    """Make a key older than a test can wait; no role of the product may do that."""
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE keys_apikey SET created_at = %s WHERE id = %s", [ago(days=days), key.id])


class TestSparklines:
    def test_fourteen_days_with_what_they_say(self, alice, key):
        calls(key, [{"calls": 5}, {"at": ago(days=3), "code": "REVOKED"}, {"at": ago(days=20), "calls": 100}])
        found = row(alice, key)
        assert 'aria-label="6 calls in the last 14 days"' in found
        columns, dashes = (path.count("M") for path in re.findall(r'<path[^>]* d="([^"]+)"', found))
        assert (columns, dashes) == (2, 12)

    def test_of_a_key_without_calls(self, alice, key):
        found = row(alice, key)
        assert 'aria-label="0 calls in the last 14 days"' in found
        assert [path.count("M") for path in re.findall(r'<path class="none" d="([^"]+)"', found)] == [14]


class TestBadges:
    def test_many_refusals(self, alice, key):
        used(key)
        calls(key, [{"calls": 60}, {"code": "INSUFFICIENT_SCOPE", "calls": 20}])
        found = row(alice, key)
        assert ">25 % refused<" in found
        assert "20 of its 80 calls in the last 30 days were refused" in found

    def test_few_refusals_are_no_badge(self, alice, key):
        calls(key, [{"calls": 60}, {"code": "INSUFFICIENT_SCOPE", "calls": 19}])
        assert "% refused" not in row(alice, key)

    def test_several_regions(self, alice, key):
        calls(key, [{"region": "eu-west-1"}, {"region": "us-east-1"}, {"region": "mars", "code": "REVOKED"}])
        assert ">2 regions<" in row(alice, key)

    def test_scopes_that_nobody_asks_for(self, alice, cast):
        scopes = ["admin:projects", "incidents:read", "incidents:write"]
        key = create(cast.acme, cast.alice, scopes=scopes).key
        age(key, 40)
        used(key)
        calls(key, [{}])
        assert "unused scope" not in row(alice, key)  # nobody says what they need: that says nothing
        usage_builders.asked(key, "admin:projects")
        found = row(alice, key)
        assert ">2 unused scopes<" in found
        assert "incidents:read, incidents:write" in found

    def test_in_words_on_the_tab(self, alice, key):
        html = alice.get(f"/keys/{key.id}/usage").content.decode()
        assert "Worth a look" in html
        assert "No call with it has been accepted yet" in html

    def test_none_of_a_key_that_has_ended(self, alice, key):
        calls(key, [{"region": "eu-west-1"}, {"region": "us-east-1"}])
        alice.post(f"/keys/{key.id}/revoke", {"reason": "other"})
        html = unescape(alice.get(f"/?status=any&q={key.name}").content.decode())
        assert ">2 regions<" not in html
        assert "Worth a look" not in alice.get(f"/keys/{key.id}/usage").content.decode()


class TestTab:
    def test_shows_its_calls_and_no_others(self, alice, cast, key):
        calls(create(cast.acme, cast.alice).key, [{"endpoint": "/v1/secret-place", "calls": 1_000}])
        calls(
            key,
            [
                {"request_id": "req_0123456789abcdef", "cost": 4},
                {
                    "code": "RATE_LIMITED",
                    "ip": "2001:db8::7",
                    "user_agent": "<b>bot</b>",
                    "at": ago(minutes=5),
                },
                {"endpoint": "/v1/alerts", "region": "us-east-1", "at": ago(hours=2)},
            ],
        )
        response = alice.get(f"/keys/{key.id}/usage")
        html = unescape(response.content.decode())
        assert response.context["stats"].calls == "3"
        assert response.context["stats"].rate == "33.3 %"
        assert response.context["stats"].cost == "5"
        for words in (
            "Rate limited",
            "/v1/alerts",
            "us-east-1",
            "2001:db8::7",
            "collector/4.2",
            "req_01…abcdef",
        ):
            assert words in html, words
        assert "&lt;b&gt;bot" in response.content.decode()
        assert "/v1/secret-place" not in html
        assert [call.code for call, _, _ in response.context["latest"]] == ["VALID", "RATE_LIMITED", "VALID"]
        assert [seen.value for seen in response.context["addresses"]] == ["203.0.113.9", "2001:db8::7"]

    def test_the_running_month_counts_all_of_it(self, alice, key):
        calls(key, [{"calls": 3}, {"code": "DISABLED"}])
        summary = alice.get(f"/keys/{key.id}/usage").context["summary"]
        assert summary.requests_current_period == 4

    def test_the_range_stays_with_the_key(self, alice, key):
        calls(key, [{"at": ago(days=5)}])
        assert "No calls in the last 24 hours" in alice.get(f"/keys/{key.id}/usage").content.decode()
        response = alice.get(f"/keys/{key.id}/usage?range=7d")
        assert response.context["stats"].calls == "1"
        assert all(f"/keys/{key.id}/usage" in option.url for option in response.context["ranges"])
        assert f'action="/keys/{key.id}/usage"' in response.content.decode()

    def test_filters_of_the_organization_change_nothing_here(self, alice, key):
        calls(key, [{}])
        response = alice.get(f"/keys/{key.id}/usage?endpoint=/nowhere&outcome=REVOKED&by=project")
        assert response.context["stats"].calls == "1"

    def test_what_is_spent_of_its_limit(self, alice, cast, key):
        with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute(
                "UPDATE keys_apikey SET rate_limit_requests = 100, rate_limit_window_seconds = 86400 WHERE id = %s",
                [key.id],
            )
        start = int(datetime.now(UTC).timestamp()) // 86_400 * 86_400
        usage_builders.use(key, window_seconds=86_400, window_start=start, current=85, previous=0)
        html = alice.get(f"/keys/{key.id}/usage").content.decode()
        assert "<dt>Rate limit</dt><dd>85</dd>" in html
        assert "of 100 · in a day, its own" in html
        assert 'class="meter warn"' in html

    def test_without_a_limit(self, alice, key):
        assert "<dt>Rate limit</dt><dd>None</dd>" in alice.get(f"/keys/{key.id}/usage").content.decode()

    def test_strangers_find_nothing(self, cast, key):
        assert builders.signed_in(cast.mallory).get(f"/keys/{key.id}/usage").status_code == 404

    def test_a_reader_reads_it(self, cast, key):
        calls(key, [{}])
        for reader in (cast.vera, cast.carol):
            assert builders.signed_in(reader).get(f"/keys/{key.id}/usage").status_code == 200

    def test_a_call_with_an_older_secret_says_so(self, alice, cast, key):
        key_builders.rotate(key, cast.acme, cast.alice)
        calls(key, [{"version": 1}, {"version": 2, "at": ago(minutes=1)}])
        assert alice.get(f"/keys/{key.id}/usage").content.decode().count("with v1") == 1


class TestRevoking:
    def test_says_what_stops(self, alice, key):
        calls(
            key,
            [
                {"calls": 40},
                {"endpoint": "/v1/alerts", "region": "us-east-1", "ip": "198.51.100.7"},
                {"endpoint": "/v1/long-ago", "at": ago(hours=30)},
            ],
        )
        response = alice.get(f"/keys/{key.id}/revoke")
        html = response.content.decode()
        assert "41 calls</b> in the last 24 hours" in html
        for words in ("/v1/incidents", "/v1/alerts", "us-east-1", "198.51.100.7", "203.0.113.9"):
            assert words in html
        assert "/v1/long-ago" not in html

    def test_says_that_nothing_does(self, alice, key):
        assert (
            "No call came with it in the last 24 hours"
            in alice.get(f"/keys/{key.id}/revoke").content.decode()
        )

    def test_more_than_fit_are_counted(self, alice, key):
        calls(key, [{"endpoint": f"/v1/thing-{number}"} for number in range(10)])
        assert "and 4 more" in alice.get(f"/keys/{key.id}/revoke").content.decode()

    def test_in_use_its_name_is_typed_and_idle_it_is_not(self, alice, cast, key):
        used(key, ago(minutes=61))
        assert "confirmation" not in alice.get(f"/keys/{key.id}/revoke").context["form"].fields
        used(key, ago(minutes=59))
        assert alice.post(f"/keys/{key.id}/revoke", {"reason": "unused"}).status_code == 422
        assert key_builders.read(key.id, cast.acme).revoked_at is None


class TestRevokingMany:
    def post(self, client, keys, **more):
        data = {"action": "revoke", "key": [key.id for key in keys], **more}
        return client.post("/keys/bulk", data)

    def sent(self, client, keys, **more):
        return self.post(client, keys, confirmed="1", reason="incident", note="", **more)

    def test_says_what_stops_and_of_which_key(self, alice, cast, key):
        other = create(cast.acme, cast.alice).key
        calls(key, [{"calls": 1_234, "endpoint": "/v1/alerts"}])
        response = self.post(alice, [key, other])
        html = response.content.decode()
        assert "1,234 calls</b> in the last 24 hours" in html
        assert "/v1/alerts" in html
        assert response.context["calls"] == {key.id: 1_234}

    def test_asks_for_the_names_of_those_in_use(self, alice, cast):
        keys = [create(cast.acme, cast.alice).key for _ in range(3)]
        for key in keys[:2]:
            used(key)
        names = [key.name for key in keys[:2]]
        assert names[0] in self.post(alice, keys).context["form"].fields["confirmation"].help_text
        for typed in ("", names[0], f"{names[0]} {keys[2].name}", " ".join([*names, "more"]), "2"):
            response = self.sent(alice, keys, confirmation=typed)
            assert response.status_code == 422, typed
            assert list(response.context["form"].errors) == ["confirmation"]
        assert all(key_builders.read(key.id, cast.acme).revoked_at is None for key in keys)
        assert self.sent(alice, keys, confirmation=f"{names[1]} and {names[0]}").status_code == 303
        assert all(key_builders.read(key.id, cast.acme).revoked_at for key in keys)

    def test_of_many_in_use_their_number(self, alice, cast):
        keys = [create(cast.acme, cast.alice).key for _ in range(6)]
        for key in keys:
            used(key)
        for typed in ("", "5", keys[0].name):
            assert self.sent(alice, keys, confirmation=typed).status_code == 422
        assert self.sent(alice, keys, confirmation="6").status_code == 303

    def test_nothing_is_typed_for_what_is_not_in_use(self, alice, cast, key):
        used(key, ago(hours=2))
        assert self.sent(alice, [key]).status_code == 303

    def test_disabling_says_it_too_but_asks_for_no_name(self, alice, key):
        used(key)
        calls(key, [{}])
        response = alice.post("/keys/bulk", {"action": "disable", "key": [key.id]})
        assert "1 call</b> in the last 24 hours" in response.content.decode()
        assert "confirmation" not in response.context["form"].fields
        tagging = alice.post("/keys/bulk", {"action": "tag", "key": [key.id]})
        assert "in the last 24 hours</span>" not in tagging.content.decode()


def test_a_custom_range_of_a_key(cast, alice, key):
    calls(key, [{"at": ago(days=40)}, {}])
    since, until = ago(days=41), ago(days=39)
    query = f"since={since:%Y-%m-%dT%H:%M}&until={until:%Y-%m-%dT%H:%M}"
    assert alice.get(f"/keys/{key.id}/usage?{query}").context["stats"].calls == "1"


def test_too_many_calls_of_one_key_say_so_and_the_rest_is_there(cast, alice, key, monkeypatch):
    calls(key, [{}])
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
        superuser.execute(
            "INSERT INTO keys_usage"
            " SELECT %s, 'h', date_trunc('hour', now(), 'UTC'), %s, 'GET /' || n, '', 'VALID', 1, 1"
            " FROM generate_series(1, 50000) n",
            [cast.acme.id, key.id],
        )
    monkeypatch.setattr(usage_rows, "PATIENCE", "5ms")
    html = alice.get(f"/keys/{key.id}/usage").content.decode()
    assert "Too many calls to count at once" in html
    assert f'href="/keys/{key.id}/usage?range=1h">The last hour' in html
    assert "Latest calls" in html
    monkeypatch.undo()
    assert alice.get(f"/keys/{key.id}/usage").context["stats"].calls == "50,001"
