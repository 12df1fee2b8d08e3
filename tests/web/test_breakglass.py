"""The break-glass page: what a filter takes and carries, the password, one act, and what a refusal leaves behind."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.core.cache import cache

from audit import ledger, tenancy
from keys import clock
from keys.models import Incident, IncidentKind
from keys.services import Owner
from keys.services.incidents import open_incident
from orgs.roles import Role
from tests import builders, key_builders, ledgers, usage_builders

PATH = "/break-glass"
REASON = "Laptop of the night shift stolen"


@pytest.fixture
def project(cast):
    return builders.project(builders.root(cast.acme))


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


def make(cast, project, number=1, **changes):
    return [key_builders.create(cast.acme, cast.alice, project=project, **changes) for _ in range(number)]


def page(client, **given):
    return client.get(f"{PATH}?{urlencode(given)}")


def part(client, target="found", **given):
    return client.get(f"{PATH}?{urlencode(given)}", headers={"HX-Request": "true", "HX-Target": target})


def text(response):
    """Return what a reader sees, tags and spaces aside."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def send(client, project, **changes):
    return client.post(PATH, {"filter": f"project={project.id}", "reason": REASON, **changes})


def stale(client):
    """Let the person's last proof of who they are be ten minutes old."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 600
    session.save()


class TestShowing:
    def test_nothing_is_taken_while_nothing_is_chosen(self, cast, project, alice):
        make(cast, project)
        response = alice.get(PATH)
        assert "Nothing is chosen yet" in text(response)
        assert 'id="act"' not in response.content.decode()

    def test_it_says_what_goes(self, cast, project, alice):
        made = make(cast, project, 2)
        below = make(cast, builders.project(project), environment=builders.environment(cast.acme))
        key_builders.verify(made[0].secret, cast.acme)
        response = page(alice, project=project.id)
        assert response.status_code == 200
        assert "3 keys in 2 projects, 2 in production" in text(response)
        assert "1 was used within the last hour, 1 within 24 hours" in text(response)
        assert "Revoke 3 keys now" in text(response)
        for one in (*made, *below):
            assert one.key.name in text(response)

    def test_htmx_gets_the_part_and_a_clean_address(self, cast, project, alice):
        make(cast, project)
        response = part(alice, project=project.id, kind="", q="")
        assert response.content.decode().strip().startswith('<div id="found"')
        assert response["HX-Push-Url"] == f"{PATH}?project={project.id}"
        assert "HX-Request" in response["Vary"]

    def test_the_project_that_is_looked_at_is_filled_in_for_all_to_see(self, cast, project, alice):
        make(cast, project)
        alice.post("/switch/project", {"project": project.id})
        response = alice.get(PATH)
        assert f'<option value="{project.id}" selected>' in response.content.decode()
        assert "1 key in 1 project" in text(response)

    @pytest.mark.parametrize(
        "given",
        [
            {"environment": "nowhere"},
            {"project": "prj_" + "a" * 20},
            {"kind": "other"},
            {"status": "revoked"},
            {"tags": "noequals"},
            {"created_before": "soon"},
            {"scope": "no:such"},
            {"owner": "Nobody"},
        ],
        ids=str,
    )
    def test_what_can_not_be_right_takes_nothing(self, cast, project, alice, given):
        """Left out, it would take more than was meant."""
        make(cast, project)
        response = page(alice, **{"project": project.id, **given})
        assert "The filter is not right yet" in text(response)
        assert 'id="act"' not in response.content.decode()
        sent = alice.post(PATH, {"filter": urlencode({"project": project.id, **given}), "reason": REASON})
        assert sent.status_code == 422

    def test_each_filter_narrows(self, cast, project, alice):
        name = builders.unique("breakme")
        make(cast, project, name=name, owner=Owner(team="Platform"), tags={"team": "noc"})
        make(cast, project, kind=key_builders.Kind.INGESTION, scopes=["ingest:write"])
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        for given in (
            {"q": name},
            {"owner": "Platform"},
            {"tags": "team=noc"},
            {"scope": "incidents:read"},
            {"kind": "control_plane"},
        ):
            assert "1 key in 1 project" in text(page(alice, project=project.id, **given)), given
        assert "2 keys in" in text(
            page(alice, project=project.id, created_before=f"{tomorrow:%Y-%m-%dT%H:%M}")
        )
        assert "No key matches" in text(page(alice, project=project.id, created_before="2020-01-01T00:00"))

    def test_a_secret_in_the_address_is_left_out(self, cast, project, alice):
        made = make(cast, project)[0]
        response = page(alice, q=made.secret)
        assert (response.status_code, response["Location"]) == (303, PATH)

    def test_many_are_paged(self, cast, project, alice):
        make(cast, project, 52)
        first = page(alice, project=project.id).content.decode()
        assert len(re.findall(r'<a class="name"', first)) == 50
        following = re.search(r'href="(\?[^"]*cursor=[^"]+)" rel="next"', first)
        second = alice.get(f"{PATH}{following[1].replace('&amp;', '&')}").content.decode()
        assert len(re.findall(r'<a class="name"', second)) == 2
        assert "52 keys" in second


class TestImpact:
    def test_it_counts_the_calls_that_would_fail(self, cast, project, alice):
        made = make(cast, project, 3)
        usage_builders.call(made[0].key, calls=47, endpoint="GET /v1/alerts", region="eu-7")
        usage_builders.call(made[1].key, calls=1)
        response = alice.get(f"{PATH}/impact?project={project.id}", headers={"HX-Request": "true"})
        assert response.content.decode().strip().startswith('<div id="impact"')
        assert "48 calls in the last 24 hours with 2 of them: about 2 an hour" in text(response)
        assert "GET /v1/alerts" in text(response)
        assert "eu-7" in text(response)

    def test_for_many_it_shows_how_far_it_is(self, cast, project, alice, monkeypatch):
        monkeypatch.setattr("keys.breakglass.STEP", 2)
        for one in make(cast, project, 5):
            usage_builders.call(one.key, calls=10)
        shown = page(alice, project=project.id).content.decode()
        url = next_step(shown)
        seen = []
        while url:
            shown = alice.get(url, headers={"HX-Request": "true"}).content.decode()
            found = re.search(r'max="(\d+)" value="(\d+)"', shown)
            seen.append(found.groups() if found else "done")
            url = next_step(shown)
        assert seen == [("5", "2"), ("5", "4"), "done"]
        assert "<b>50 calls</b>" in shown

    def test_without_scripts_it_counts_all_at_once(self, cast, project, alice, monkeypatch):
        monkeypatch.setattr("keys.breakglass.STEP", 2)
        for one in make(cast, project, 5):
            usage_builders.call(one.key, calls=10)
        response = alice.get(f"{PATH}/impact?project={project.id}")
        assert "50 calls in the last 24 hours" in text(response)
        assert "<html" in response.content.decode()

    @pytest.mark.parametrize(
        "given", ["after=key_x&done=9", "total=-1", "calls=1e9", "done=" + "9" * 40, "after=%00"]
    )
    def test_a_hostile_place_is_the_start(self, cast, project, alice, given):
        make(cast, project)
        response = alice.get(f"{PATH}/impact?project={project.id}&{given}", headers={"HX-Request": "true"})
        assert response.status_code == 200


def next_step(shown):
    found = re.search(r'hx-get="([^"]+/impact[^"]+)"', shown)
    return found[1].replace("&amp;", "&") if found else ""


class TestAct:
    def test_it_revokes_and_leads_to_the_incident(self, cast, project, alice):
        made = make(cast, project, 2)
        acts = ["key.revoked", "key.revoked", "breakglass.executed"]
        with builders.gains(cast.acme.id, *acts) as gained:
            response = send(alice, project)
        assert response.status_code == 303
        assert response["Location"] == f"/incidents/{gained[2].data['target']}"
        assert [key_builders.verify(one.secret, cast.acme) for one in made] == ["REVOKED"] * 2
        assert "2 keys are revoked" in text(alice.get(response["Location"]))

    def test_a_reason_is_asked_for_and_the_page_stays(self, cast, project, alice):
        make(cast, project)
        response = send(alice, project, reason=" ")
        assert response.status_code == 422
        assert "whoever reads the incident asks first" in text(response)
        assert "Revoke this key now" in text(response)

    def test_an_empty_filter_is_refused(self, cast, alice):
        for given in ("", "project=", "q=+", "kind=&tags="):
            with builders.gains(cast.acme.id):
                response = alice.post(PATH, {"filter": given, "reason": REASON})
            assert response.status_code == 422, given

    def test_no_match_is_told(self, cast, project, alice):
        response = send(alice, project)
        assert response["Location"] == PATH
        assert "nothing was revoked" in text(alice.get(PATH))

    def test_a_strangers_project_is_not_there(self, cast, alice):
        response = send(alice, builders.root(cast.elsewhere))
        assert response.status_code == 422

    def test_while_a_key_is_held_it_says_so_and_keeps_what_was_typed(self, cast, project, alice, monkeypatch):
        monkeypatch.setattr("keys.services.breakglass.PATIENCE", "200ms")
        made = make(cast, project)[0]
        with ledgers.superuser(autocommit=False) as other:
            other.execute("SELECT 1 FROM keys_apikey WHERE id = %s FOR UPDATE", [made.key.id])
            response = send(alice, project)
        assert response.status_code == 503
        assert "Nothing was revoked" in text(response)
        assert REASON in response.content.decode()
        assert key_builders.verify(made.secret, cast.acme) == "VALID"
        assert send(alice, project).status_code == 303

    def test_while_the_ledger_is_held_it_says_so(self, cast, project, alice):
        made = make(cast, project)[0]
        with ledgers.superuser(autocommit=False) as other:
            other.execute("SELECT 1 FROM audit_head WHERE organization_id = %s FOR UPDATE", [cast.acme.id])
            response = send(alice, project)
        assert response.status_code == 503
        assert "The ledger can&#x27;t be written" in response.content.decode()
        assert key_builders.verify(made.secret, cast.acme) == "VALID"


class TestConfirming:
    def test_a_fresh_password_is_not_asked_for_again(self, cast, project, alice):
        make(cast, project)
        assert 'name="password"' not in page(alice, project=project.id).content.decode()

    def test_a_stale_one_is_asked_for_in_the_form_itself(self, cast, project, alice):
        made = make(cast, project)[0]
        stale(alice)
        assert 'name="password"' in page(alice, project=project.id).content.decode()
        with builders.gains(cast.acme.id):
            response = send(alice, project)
        assert response.status_code == 422
        assert "Confirm that it is you" in text(response)
        assert key_builders.verify(made.secret, cast.acme) == "VALID"

    def test_a_wrong_one_revokes_nothing(self, cast, project, alice):
        made = make(cast, project)[0]
        stale(alice)
        response = send(alice, project, password="guessed right at once")
        assert "This is not your password" in text(response)
        assert REASON in response.content.decode()
        assert "guessed right" not in response.content.decode()
        assert key_builders.verify(made.secret, cast.acme) == "VALID"

    def test_the_right_one_is_enough(self, cast, project, alice):
        make(cast, project)
        stale(alice)
        before = alice.session.session_key
        assert send(alice, project, password=builders.PASSWORD).status_code == 303
        assert alice.session.session_key != before

    def test_it_can_not_be_guessed_at(self, cast, project, alice):
        make(cast, project)
        stale(alice)
        for _ in range(10):
            send(alice, project, password="guessed")
        response = send(alice, project, password=builders.PASSWORD)
        assert "Too many tries" in text(response)
        cache.clear()
        assert send(alice, project, password=builders.PASSWORD).status_code == 303

    def test_a_session_that_ended_confirms_nothing(self, cast, project, alice):
        make(cast, project)
        alice.post("/logout")
        assert send(alice, project, password=builders.PASSWORD)["Location"].startswith("/login")


class TestRefusing:
    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_whoever_may_not_leaves_an_entry_and_nothing_else(self, cast, project, who):
        made = make(cast, project)[0]
        user = getattr(cast, who)
        client = builders.signed_in(user)
        with builders.gains(cast.acme.id, "breakglass.refused") as gained:
            response = send(client, project)
        assert response.status_code == 403
        assert (gained[0].actor, gained[0].data["cause"]) == (user.id, "role")
        assert key_builders.verify(made.secret, cast.acme) == "VALID"

    def test_looking_leaves_none(self, cast):
        client = builders.signed_in(cast.bob)
        with builders.gains(cast.acme.id):
            assert client.get(PATH).status_code == 403
            assert client.get(f"{PATH}/impact").status_code == 403

    def test_the_way_there_is_shown_to_those_who_may(self, cast, alice):
        assert f'href="{PATH}"' in alice.get("/").content.decode()
        assert f'href="{PATH}"' not in builders.signed_in(cast.bob).get("/").content.decode()


class TestIncidents:
    @pytest.fixture
    def broken(self, cast, project, alice):
        made = make(cast, project, 2)
        usage_builders.call(
            made[0].key,
            at=usage_builders.ago(minutes=5),
            endpoint="GET /v1/alerts",
            region="eu-7",
            ip="203.0.113.99",
            request_id="req_before",
        )
        return made, send(alice, project)["Location"]

    def test_it_shows_what_went_and_what_it_did_before(self, alice, broken):
        shown = text(alice.get(broken[1]))
        for word in (
            REASON,
            "GET /v1/alerts",
            "eu-7",
            "203.0.113.99",
            "req_before",
            "Alice",
            broken[0][0].key.name,
        ):
            assert word in shown, word
        assert "No call was refused since" in shown

    def test_it_counts_what_is_refused_since(self, cast, alice, broken):
        made, path = broken
        for _ in range(3):
            key_builders.verify(made[0].secret, cast.acme, ip="203.0.113.55")
        response = alice.get(path, headers={"HX-Request": "true"})
        assert response.content.decode().strip().startswith('<div id="keys"')
        assert "3 calls refused since" in text(response)
        assert "203.0.113.55" in text(response)

    def test_a_key_is_issued_again_by_the_ordinary_form(self, cast, alice, broken):
        made, path = broken
        key = made[0].key
        assert f"/keys/new?like={key.id}" in alice.get(path).content.decode()
        form = alice.get(f"/keys/new?like={key.id}")
        assert f'value="{key.name}"' in form.content.decode()
        sent = key_builders.form(cast.acme, alice, at=key.project, name=key.name)
        assert alice.post("/keys/new", sent).status_code == 200
        assert "Reissued" in text(alice.get(path))
        again = alice.get(f"/keys/new?like={key.id}").content.decode()
        assert f'value="{key.name}-2"' in again

    def test_like_a_strangers_key_is_not_there(self, cast, alice):
        foreign = key_builders.create(cast.elsewhere, cast.mallory).key
        for key_id in (foreign.id, builders.new_id("key"), "key_x", "%00"):
            assert alice.get(f"/keys/new?like={key_id}").status_code == 404

    def test_the_list_has_it(self, alice, broken):
        shown = alice.get("/incidents").content.decode()
        assert f'href="{broken[1]}"' in shown

    def test_the_csv_is_recorded(self, cast, alice, broken):
        with builders.gains(cast.acme.id, "export.made") as gained:
            response = alice.get(f"{broken[1]}.csv")
        lines = b"".join(response.streaming_content).decode().splitlines()
        assert len(lines) == 3
        assert broken[0][0].key.id in "".join(lines)
        assert gained[0].data["filters"] == {"incident": broken[1].rpartition("/")[2]}

    def test_a_stranger_sees_nothing_of_it(self, cast, broken):
        client = builders.signed_in(cast.mallory)
        assert client.get(broken[1]).status_code == 404
        assert client.get(f"{broken[1]}.csv").status_code == 404
        assert broken[1] not in client.get("/incidents").content.decode()

    def test_a_member_of_a_project_sees_its_own_keys_of_it(self, cast, project, alice):
        mine, other = make(cast, builders.project(project))[0], make(cast, project)[0]
        pat = builders.person("Pat")
        builders.join(pat, cast.acme, Role.DEVELOPER, mine.key.project)
        path = send(alice, project)["Location"]
        shown = text(builders.signed_in(pat).get(path))
        assert mine.key.name in shown
        assert other.key.name not in shown
        elsewhere = make(cast, project)
        path = send(alice, project)["Location"]
        assert elsewhere
        assert builders.signed_in(pat).get(path).status_code == 404

    @pytest.mark.parametrize("number", ["0", "-1", "x", "9999999", "1e3", "\u0661"])
    def test_a_page_that_is_none(self, alice, broken, number):
        assert alice.get(f"{broken[1]}?page={number}").status_code == 404

    def test_a_leak_has_its_page_too(self, cast, alice):
        """Whatever opened it: it says where the key was found."""
        incident = _leak(cast)
        shown = text(alice.get(f"/incidents/{incident.id}"))
        for word in ("Leak", "secret scanning", "https://example.com/gist"):
            assert word in shown


def _leak(cast) -> Incident:
    key, actor = key_builders.create(cast.acme, cast.alice).key, cast.member(cast.alice)
    with tenancy.within(cast.acme.id), ledger.recording(cast.acme.id, actor) as entry:
        incident = open_incident(
            entry,
            kind=IncidentKind.LEAK,
            organization_id=cast.acme.id,
            reason="",
            keys=[key],
            actor=actor,
            now=clock.now(),
            source="github",
            url="https://example.com/gist",
        )
        entry("key.leaked", target=key.id, data={"name": key.name})
    return incident
