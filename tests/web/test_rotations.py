"""Rotations on their pages: the list, the page that one watches, and ending one by hand."""

import re

import pytest

from audit import tenancy
from keys.models import Rotation
from keys.rotation import Mode
from orgs.roles import Role
from tests import builders, key_builders, usage_builders
from tests.api.calls import as_superuser
from tests.key_builders import secrets_in
from tests.web.test_keys_rotation import form


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def created(cast):
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def running(cast, created):
    return key_builders.rotate(
        created.key, cast.acme, cast.alice, mode=Mode.STAGED, targets=["eu-west-2", "us <b>1</b>"]
    )


def page(client, rotation, end="", **headers):
    return client.get(f"/rotations/{rotation.id}{end}", headers=headers)


def text(response):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def use(cast, secret, region, **asked):
    assert key_builders.judged(secret, cast.acme, region=region, **asked).verdict.code == "VALID"


def status(cast, rotated):
    with tenancy.within(cast.acme.id):
        found = Rotation.objects.get(pk=rotated.rotation.id)
        return [name for name in ("completed", "cancelled", "superseded") if getattr(found, f"{name}_at")]


class TestForm:
    def test_it_suggests_where_the_key_was_used(self, alice, created):
        for region, calls in (("us-east-1", 3), ("eu-west-2", 9), ("", 50)):
            usage_builders.call(created.key, region=region, calls=calls)
        usage_builders.call(created.key, region="mars", code="EXPIRED")
        usage_builders.call(created.key, region="old", at=usage_builders.ago(days=8))
        shown = alice.get(f"/keys/{created.key.id}/rotate").content.decode()
        field = re.search(r'<textarea name="targets"[^>]*>\s*([^<]*)</textarea>', shown)
        assert field[1].split() == ["eu-west-2", "us-east-1"]

    def test_it_starts_a_staged_one(self, alice, cast, created):
        sent = {"mode": "staged", "targets": "eu west\r\n\r\n us-east-1 ", "quiet": "5", "deadline": "86400"}
        with builders.gains(cast.acme.id, "rotation.started"):
            response = alice.post(f"/keys/{created.key.id}/rotate", form(alice, created.key, **sent))
        assert len(secrets_in(response)) == 1
        found = response.context["rotation"]
        assert f"/rotations/{found.id}" in response.content.decode()
        with tenancy.within(cast.acme.id):
            kept = Rotation.objects.get(pk=found.id)
            assert [target.name for target in kept.targets.all()] == ["eu west", "us-east-1"]
        assert kept.quiet_seconds == 300
        assert 86_395 < (kept.deadline - kept.started_at).total_seconds() <= 86_400

    def test_it_draws_one(self, alice, created):
        sent = {"mode": "staged", "targets": "eu", "deadline": "86400"}
        shown = alice.post(
            f"/keys/{created.key.id}/rotate/preview", sent, headers={"HX-Request": "true"}
        ).content.decode()
        assert "deadline" in shown
        assert "nothing is cut off" in shown
        assert "<html" not in shown


class TestWatching:
    def test_it_shows_who_moved(self, alice, cast, created, running):
        use(cast, created.secret, "eu-west-2", ip="198.51.100.7", user_agent="collector/<4>")
        use(cast, running.secret, "us <b>1</b>")
        use(cast, created.secret, "mars", ip="198.51.100.8")
        shown = page(alice, running.rotation)
        assert shown.status_code == 200
        body, words = shown.content.decode(), text(shown)
        assert "0 of 2 moved" in words
        assert "Still on the old secret" in words
        assert "New seen, old quiet" in words
        assert "Outside all targets" in words
        assert "1 of 2 targets would fail" in words
        assert "about 2 calls an hour, from 2 addresses" in words
        assert "198.51.100.7" in words
        assert "us &lt;b&gt;1&lt;/b&gt;" in body
        assert "collector/&lt;4&gt;" in body
        assert "<b>1</b>" not in body

    def test_its_live_part_asks_for_itself(self, alice, running):
        shown = page(alice, running.rotation).content.decode()
        asked = re.search(r'id="progress" hx-get="([^"]+)" hx-trigger="every 3s" hx-swap="outerHTML"', shown)
        part = alice.get(asked[1], headers={"HX-Request": "true"})
        assert "HX-Request" in part["Vary"]
        body = part.content.decode()
        assert "<html" not in body
        assert 'id="progress" hx-get' in body
        assert 'id="rotation-acts" hx-swap-oob="true"' in body
        assert "data-announce" not in body

    def test_what_is_new_is_said_once(self, alice, running):
        body = page(alice, running.rotation, "?seen=running-1", HX_Request="true").content.decode()
        assert 'data-announce="0 of 2 targets moved"' in body

    def test_it_stops_asking_once_it_has_ended(self, alice, cast, running):
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE id = %s", running.rotation.id)
        body = page(alice, running.rotation, "?seen=running-0", HX_Request="true").content.decode()
        assert "hx-trigger" not in body
        assert 'data-announce="The rotation is completed"' in body
        assert "/complete" not in body

    def test_overdue(self, alice, running):
        as_superuser(
            "UPDATE keys_rotation SET deadline = now() - interval '1 hour' WHERE id = %s", running.rotation.id
        )
        assert "Overdue" in text(page(alice, running.rotation))

    def test_a_grace(self, alice, cast, created):
        rotated = key_builders.rotate(created.key, cast.acme, cast.alice)
        words = text(page(alice, rotated.rotation))
        assert "Ends by itself" in words
        assert "Targets" not in words

    def test_an_immediate_one(self, alice, cast, created):
        rotated = key_builders.rotate(created.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        assert "Completed" in text(page(alice, rotated.rotation))

    def test_no_secret_is_in_it(self, alice, cast, created, running):
        use(cast, created.secret, "eu-west-2", user_agent=created.secret)
        assert secrets_in(page(alice, running.rotation)) == []

    def test_a_stranger(self, cast, running):
        assert page(builders.signed_in(cast.mallory), running.rotation).status_code == 404

    @pytest.mark.parametrize("name", ["carol", "vera"])
    def test_who_only_looks_ends_nothing(self, cast, running, name):
        client = builders.signed_in(getattr(cast, name))
        shown = page(client, running.rotation)
        assert shown.status_code == 200
        assert "/complete" not in shown.content.decode()
        for end in ("/complete", "/cancel"):
            assert page(client, running.rotation, end).status_code == 403
            assert (
                client.post(f"/rotations/{running.rotation.id}{end}", {"is_known": "on"}).status_code == 403
            )
        assert status(cast, running) == []

    def test_a_developer_of_another_project(self, cast, running):
        near = builders.project(builders.root(cast.acme))
        user = builders.person("Nina")
        builders.join(user, cast.acme, Role.DEVELOPER, near)
        client = builders.signed_in(user)
        for end in ("", "/complete", "/cancel"):
            assert page(client, running.rotation, end).status_code == 404
        assert running.rotation.id not in client.get("/rotations").content.decode()

    def test_a_developer_of_its_project(self, cast):
        near = builders.project(builders.root(cast.acme))
        user = builders.person("Nils")
        builders.join(user, cast.acme, Role.DEVELOPER, near)
        made = key_builders.create(cast.acme, cast.alice, project=near)
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice)
        client = builders.signed_in(user)
        assert client.post(f"/rotations/{rotated.rotation.id}/complete").status_code == 303
        assert status(cast, rotated) == ["completed"]


class TestEnding:
    @pytest.mark.parametrize(("end", "act"), [("complete", "completed"), ("cancel", "cancelled")])
    def test_works(self, alice, cast, running, end, act):
        assert page(alice, running.rotation, f"/{end}").status_code == 200
        with builders.gains(cast.acme.id, f"rotation.{act}"):
            response = alice.post(f"/rotations/{running.rotation.id}/{end}")
        assert (response.status_code, response["Location"]) == (303, f"/rotations/{running.rotation.id}")
        assert status(cast, running) == [act]

    @pytest.mark.parametrize(("end", "index"), [("complete", 0), ("cancel", 1)])
    def test_whoever_breaks_somebody_says_so(self, alice, cast, created, running, end, index):
        use(cast, (created.secret, running.secret)[index], "eu-west-2", ip="198.51.100.7")
        words = text(page(alice, running.rotation, f"/{end}"))
        assert ("1 of 2 targets would fail", "Whoever has the new secret fails")[index] in words
        with builders.gains(cast.acme.id):
            response = alice.post(f"/rotations/{running.rotation.id}/{end}")
        assert response.status_code == 422
        assert alice.post(f"/rotations/{running.rotation.id}/{end}", {"is_known": "on"}).status_code == 303

    @pytest.mark.parametrize("end", ["complete", "cancel"])
    def test_too_late(self, alice, cast, running, end):
        alice.post(f"/rotations/{running.rotation.id}/cancel")
        with builders.gains(cast.acme.id):
            response = alice.post(f"/rotations/{running.rotation.id}/{end}")
        assert response.status_code == 409
        assert "Nothing was changed" in text(response)
        assert "cancelled already" in text(page(alice, running.rotation, f"/{end}"))

    def test_what_it_looks_like_then(self, alice, running):
        alice.post(f"/rotations/{running.rotation.id}/cancel")
        words = text(page(alice, running.rotation))
        assert "Cancelled" in words
        assert "goes by version 1 again" in words


class TestList:
    def test_running_first_then_the_others(self, alice, cast, running):
        made = key_builders.create(cast.acme, cast.alice)
        ended = key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        body = alice.get("/rotations").content.decode()
        assert body.index(running.rotation.id) < body.index("History</h2>") < body.index(ended.rotation.id)
        assert "0 of 2 moved" in text(alice.get("/rotations"))

    def test_none_yet(self, cast):
        client = builders.signed_in(cast.mallory)
        assert "No rotation yet" in text(client.get("/rotations"))

    def test_pages_skip_and_repeat_nothing(self):
        cast = builders.cast()
        made = key_builders.create(cast.acme, cast.alice)
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE).rotation
        as_superuser(
            "INSERT INTO keys_rotation (id, key_id, organization_id, mode, old_version, new_version, started_at,"
            " started_by, grace_ends_at, completed_at, completed_by, cancelled_by)"
            " SELECT 'rot_' || translate(lpad(n::text, 20, '0'), '0123456789', 'abcdefghij'), key_id,"
            " organization_id, mode, n, n + 1, started_at - make_interval(secs => n / 3), started_by, grace_ends_at,"
            " completed_at, '', '' FROM keys_rotation, generate_series(10, 129) n WHERE id = %s",
            rotated.id,
        )
        client = builders.signed_in(cast.alice)
        forwards, url = [], "/rotations"
        while url:
            body = client.get(url).content.decode()
            forwards += re.findall(r'class="name" dir="auto" href="/rotations/(rot_\w+)"', body)
            following = re.search(r'href="(/rotations\?before=[^"]+)" rel="next"', body)
            url = following and following[1]
        assert len(forwards) == len(set(forwards)) == 121
        back = re.search(r'href="(/rotations\?after=[^"]+)" rel="prev"', body)
        again = re.findall(
            r'class="name" dir="auto" href="/rotations/(rot_\w+)"', client.get(back[1]).content.decode()
        )
        assert again == forwards[50:100]

    @pytest.mark.parametrize("query", ["before=rot_x", "after=%00", "before=rot_" + "a" * 20])
    def test_a_place_that_is_not_there(self, alice, query):
        assert alice.get(f"/rotations?{query}").status_code == 404

    def test_the_key_leads_to_it(self, alice, created, running):
        body = alice.get(f"/keys/{created.key.id}").content.decode()
        assert body.count(f'href="/rotations/{running.rotation.id}"') >= 2
        assert "9999" not in body
