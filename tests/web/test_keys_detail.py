"""A key's page: overview, effective permissions, and the forms that edit it in place."""

from datetime import timedelta
from html import unescape

import pytest

from audit import tenancy
from keys import clock
from keys.rotation import Mode
from keys.secret import Kind
from keys.services import Owner
from orgs import services as orgs_services
from orgs.roles import Role
from tests import builders, key_builders
from tests.key_builders import entries, secrets_in


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def key(cast):
    return key_builders.create(cast.acme, cast.alice).key


READING = ["", "/access", "/activity"]
EDITS = {
    "/edit": {"name": "renamed", "owner": "me"},
    "/edit/scopes": {"scopes": ["incidents:read", "incidents:write"]},
    "/edit/limits": {"expires": "keep", "allowed_ips": "203.0.113.0/24"},
    "/edit/rotation": {"rotation_interval_days": "30", "may_rotate_itself": "on"},
}


def fresh(changes):
    return {**changes, "name": builders.unique("key")} if "name" in changes else changes


class TestAccess:
    @pytest.mark.parametrize("path", [*READING, *EDITS])
    def test_a_stranger_and_an_unknown_key_get_the_same_404(self, cast, key, path):
        stranger = builders.signed_in(cast.mallory)
        theirs = stranger.get(f"/keys/{key.id}{path}")
        unknown = stranger.get(f"/keys/{builders.new_id('key')}{path}")
        assert theirs.status_code == unknown.status_code == 404

    @pytest.mark.parametrize("path", EDITS)
    def test_a_stranger_changes_nothing(self, cast, key, path):
        stranger, before = builders.signed_in(cast.mallory), entries(cast.acme)
        assert stranger.post(f"/keys/{key.id}{path}", EDITS[path]).status_code == 404
        assert entries(cast.acme) == before

    @pytest.mark.parametrize("who", ["carol", "vera"])
    @pytest.mark.parametrize("path", EDITS)
    def test_a_read_only_role_sees_but_changes_nothing(self, cast, key, who, path):
        client, before = builders.signed_in(getattr(cast, who)), entries(cast.acme)
        assert client.get(f"/keys/{key.id}").status_code == 200
        assert client.get(f"/keys/{key.id}{path}").status_code == 403
        assert client.post(f"/keys/{key.id}{path}", EDITS[path]).status_code == 403
        assert entries(cast.acme) == before

    def test_a_read_only_role_is_offered_no_change(self, cast, key):
        page = builders.signed_in(cast.vera).get(f"/keys/{key.id}").content.decode()
        for path in ("rotate", "revoke", "disable", "edit"):
            assert f"/keys/{key.id}/{path}" not in page

    def test_who_has_a_role_elsewhere_alone_sees_nothing(self, cast, key):
        person, below = builders.person("Pam"), builders.project(builders.root(cast.acme))
        builders.join(person, cast.acme, Role.ADMIN, below)
        assert builders.signed_in(person).get(f"/keys/{key.id}").status_code == 404

    @pytest.mark.parametrize("path", READING)
    def test_reading_is_by_get(self, alice, key, path):
        assert alice.post(f"/keys/{key.id}{path}").status_code == 405

    @pytest.mark.parametrize("path", EDITS)
    def test_other_methods_are_refused(self, alice, key, path):
        assert alice.delete(f"/keys/{key.id}{path}").status_code == 405

    def test_what_is_no_id_is_no_page(self, alice):
        for path in ("/keys/key_1", "/keys/%00", "/keys/key_" + "A" * 20):
            assert alice.get(path).status_code == 404


class TestOverview:
    def test_shows_what_there_is_to_know(self, alice, cast):
        created = key_builders.create(
            cast.acme,
            cast.alice,
            description="A < B",
            tags={"team": "noc"},
            allowed_ips=["203.0.113.0/24"],
            owner=Owner(member=cast.bob),
        )
        page = alice.get(f"/keys/{created.key.id}").content.decode()
        for words in (created.key.id, "A &lt; B", "team=noc", "203.0.113.0/24", "Bob", "incidents:read"):
            assert words in page
        assert created.secret not in page
        assert created.secret[-10:] not in page

    def test_shows_each_secret_with_its_use(self, alice, cast):
        created = key_builders.create(cast.acme, cast.alice)
        assert key_builders.verify(created.secret, cast.acme) == "VALID"
        key_builders.rotate(created.key, cast.acme, cast.alice)
        response = alice.get(f"/keys/{created.key.id}")
        states = [(v.secret.version, v.state, bool(v.last_used_at)) for v in response.context["versions"]]
        assert states == [(2, "newest", False), (1, "accepted", True)]
        assert "Rotation running" in response.content.decode()
        assert "<svg" in response.content.decode()

    def test_an_immediate_rotation_retires_at_once(self, alice, cast, key):
        key_builders.rotate(key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        response = alice.get(f"/keys/{key.id}")
        assert [version.state for version in response.context["versions"]] == ["newest", "retired"]
        assert [turn.state for turn in response.context["turns"]] == ["completed"]
        assert response.context["running"] is None

    def test_tells_by_whom(self, alice, cast, key):
        key_builders.rotate(key, cast.acme, cast.bob)
        response = alice.get(f"/keys/{key.id}")
        assert [turn.by for turn in response.context["turns"]] == ["Bob"]
        assert response.context["creator"] == "Alice"

    def test_a_revoked_key_says_why_and_offers_nothing(self, alice, cast, key):
        alice.post(f"/keys/{key.id}/revoke", {"reason": "leaked", "note": "In a <public> place"})
        page = alice.get(f"/keys/{key.id}").content.decode()
        assert "leaked" in page
        assert "In a &lt;public&gt; place" in page
        assert f"/keys/{key.id}/rotate" not in page


class TestEffectivePermissions:
    def test_the_owners_role_takes_away(self, alice, cast):
        owner = Owner(member=cast.vera)
        scopes = ["incidents:read", "incidents:write"]
        key = key_builders.create(cast.acme, cast.alice, scopes=scopes, owner=owner).key
        response = alice.get(f"/keys/{key.id}/access")
        rows = {row.scope: row for row in response.context["scope_rows"]}
        assert response.context["effective"] == ("incidents:read",)
        assert rows["incidents:read"].is_whole
        assert (rows["incidents:write"].role_allows, rows["incidents:write"].remaining) == (False, ())
        assert "viewer: no write scopes" in unescape(response.content.decode())

    def test_a_project_on_the_path_takes_away(self, alice, cast):
        above = builders.project(builders.root(cast.acme), builders.unique("Narrow"))
        below = builders.project(above)
        with tenancy.within(cast.acme.id):
            orgs_services.set_project_scopes(above, ["incidents:read"], actor=builders.OPERATOR)
        scopes = ["incidents:*"]
        key = key_builders.create(cast.acme, cast.alice, scopes=scopes, project=below).key
        response = alice.get(f"/keys/{key.id}/access")
        (row,) = response.context["scope_rows"]
        assert [project.id for project in row.refusing] == [above.id]
        assert row.remaining == ("incidents:read",)
        assert above.name in unescape(response.content.decode())

    def test_it_is_what_a_verification_says(self, alice, cast):
        owner = Owner(member=cast.bob)
        scopes = ["admin:projects", "incidents:write"]
        created = key_builders.create(cast.acme, cast.alice, scopes=scopes, owner=owner)
        answered = key_builders.judged(created.secret, cast.acme, cost=0).verdict.scopes
        assert alice.get(f"/keys/{created.key.id}/access").context["effective"] == answered

    def test_a_teams_key_is_narrowed_by_no_role(self, alice, key):
        response = alice.get(f"/keys/{key.id}/access")
        assert all(row.role_allows for row in response.context["scope_rows"])


class TestActivity:
    def acts(self, client, key):
        return [line.act for line in client.get(f"/keys/{key.id}/activity").context["lines"]]

    def test_shows_the_entries_of_this_key_alone(self, alice, cast, key):
        key_builders.create(cast.acme, cast.alice)
        alice.post(f"/keys/{key.id}/edit/scopes", {"scopes": ["incidents:write"]})
        assert self.acts(alice, key) == ["key.scopes_changed", "key.created"]
        assert self.acts(builders.signed_in(cast.carol), key) == ["key.scopes_changed", "key.created"]

    def test_a_developer_sees_their_own_part(self, cast, key):
        bob = builders.signed_in(cast.bob)
        assert self.acts(bob, key) == []
        bob.post(f"/keys/{key.id}/disable")
        assert self.acts(bob, key) == ["key.disabled"]

    def test_a_viewer_sees_none(self, cast, key):
        assert self.acts(builders.signed_in(cast.vera), key) == []


class TestEdit:
    @pytest.mark.parametrize(
        ("path", "act"),
        [
            ("/edit", "key.changed"),
            ("/edit/scopes", "key.scopes_changed"),
            ("/edit/limits", "key.changed"),
            ("/edit/rotation", "key.changed"),
        ],
    )
    def test_saves_and_records_one_entry(self, alice, cast, key, path, act):
        before = entries(cast.acme)
        assert alice.get(f"/keys/{key.id}{path}").status_code == 200
        response = alice.post(f"/keys/{key.id}{path}", fresh(EDITS[path]))
        assert (response.status_code, response["Location"]) == (303, f"/keys/{key.id}")
        gained = entries(cast.acme)[len(before) :]
        assert [(entry["act"], entry["data"]["target"]) for entry in gained] == [(act, key.id)]

    @pytest.mark.parametrize("path", EDITS)
    def test_the_form_as_it_came_changes_nothing(self, alice, cast, path):
        key = key_builders.create(
            cast.acme,
            cast.alice,
            description="Two\nlines",
            tags={"team": "noc", "a": "b"},
            allowed_ips=["203.0.113.0/24", "2001:db8::/32"],
            rotation_interval_days=30,
        ).key
        before = entries(cast.acme)
        form = alice.get(f"/keys/{key.id}{path}").context["form"]
        shown = {name: form[name].value() for name in form.fields}
        sent = {
            name: value if name == "scopes" else form.fields[name].prepare_value(value)
            for name, value in shown.items()
            if value not in (None, False)
        }
        assert alice.post(f"/keys/{key.id}{path}", sent).status_code == 303
        assert entries(cast.acme) == before

    def test_takes_every_field(self, alice, cast, key):
        name = builders.unique("key")
        sent = {
            "name": name,
            "description": "What for",
            "tags": "team=noc",
            "owner": "team",
            "owner_team": "Platform",
        }
        alice.post(f"/keys/{key.id}/edit", sent)
        alice.post(f"/keys/{key.id}/edit/limits", {"expires": "30", "allowed_ips": "10.0.0.0/8"})
        alice.post(f"/keys/{key.id}/edit/rotation", {"rotation_interval_days": "7"})
        now = key_builders.read(key.id, cast.acme)
        assert (now.name, now.description, now.tags) == (name, "What for", {"team": "noc"})
        assert (now.owner_team, now.allowed_ips) == ("Platform", ["10.0.0.0/8"])
        assert timedelta(days=29) < now.expires_at - clock.now() < timedelta(days=30, minutes=1)
        assert (now.rotation_interval_days, now.may_rotate_itself) == (7, False)

    @pytest.mark.parametrize(
        ("path", "sent", "field"),
        [
            ("/edit", {"name": "No Way", "owner": "me"}, "name"),
            ("/edit", {"name": "fine", "owner": "me", "tags": "x"}, "tags"),
            ("/edit/rotation", {"rotation_interval_days": "", "auto_rotate": "on"}, "auto_rotate"),
            ("/edit/scopes", {}, "scopes"),
            ("/edit/scopes", {"scopes": ["ingest:write"]}, "scopes"),
            ("/edit/limits", {"expires": "never", "allowed_ips": ""}, "expires"),
            ("/edit/limits", {"expires": "keep", "allowed_ips": "nowhere"}, "allowed_ips"),
            ("/edit/rotation", {"rotation_interval_days": "0"}, "rotation_interval_days"),
        ],
    )
    def test_an_error_stands_at_its_field(self, alice, cast, key, path, sent, field):
        before = entries(cast.acme)
        response = alice.post(f"/keys/{key.id}{path}", sent)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert entries(cast.acme) == before

    def test_a_taken_name_says_so_at_the_name(self, alice, cast, key):
        other = key_builders.create(cast.acme, cast.alice).key
        response = alice.post(f"/keys/{key.id}/edit", {"name": other.name, "owner": "me"})
        assert list(response.context["form"].errors) == ["name"]

    def test_nobody_widens_beyond_their_role(self, cast, key):
        bob, before = builders.signed_in(cast.bob), entries(cast.acme)
        response = bob.post(f"/keys/{key.id}/edit/scopes", {"scopes": ["admin:projects"]})
        assert list(response.context["form"].errors) == ["scopes"]
        assert entries(cast.acme) == before

    def test_who_cannot_grant_a_scope_may_take_it_away(self, cast):
        key = key_builders.create(cast.acme, cast.alice, scopes=["admin:projects", "incidents:read"]).key
        bob = builders.signed_in(cast.bob)
        box = unescape(bob.get(f"/keys/{key.id}/edit/scopes").content.decode())
        box = box[box.index('value="admin:projects"') :]
        assert "disabled" not in box[: box.index(">")]
        response = bob.post(f"/keys/{key.id}/edit/scopes", {"scopes": ["incidents:read"]})
        assert response.status_code == 303
        assert key_builders.read(key.id, cast.acme).scopes == ["incidents:read"]

    def test_a_key_that_has_ended_stays_as_it_is(self, alice, cast, key):
        alice.post(f"/keys/{key.id}/revoke", {"reason": "unused"})
        before = entries(cast.acme)
        response = alice.post(f"/keys/{key.id}/edit", {"name": "too-late", "owner": "me"})
        assert response.status_code == 409
        assert "ended" in response.content.decode()
        assert entries(cast.acme) == before

    def test_ingestion_offers_never(self, alice, cast):
        key = key_builders.create(cast.acme, cast.alice, kind=Kind.INGESTION, scopes=["ingest:write"]).key
        assert 'value="never"' in alice.get(f"/keys/{key.id}/edit/limits").content.decode()
        alice.post(f"/keys/{key.id}/edit/limits", {"expires": "never", "allowed_ips": ""})
        assert key_builders.read(key.id, cast.acme).expires_at is None

    def test_no_page_shows_a_secret(self, alice, key):
        for path in [*READING, *EDITS]:
            assert secrets_in(alice.get(f"/keys/{key.id}{path}")) == []
