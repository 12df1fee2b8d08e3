"""The same change to many keys: asked first, then done, then told."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from audit import tenancy
from keys import callers, services
from keys.models.key import Status
from keys.services import Owner
from orgs.roles import Role
from tests import builders, key_builders
from tests.key_builders import create

URL = "/keys/bulk"
CONFIRMED = {
    "revoke": {"reason": "incident", "note": "INC-7"},
    "disable": {"minutes": ""},
    "enable": {},
    "owner": {"owner": "team", "owner_team": "Core team"},
    "tag": {"name": "team", "value": "noc"},
}


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def two(cast):
    return [create(cast.acme, cast.alice).key for _ in range(2)]


def ask(client, action, keys, **more):
    return client.post(URL, {"action": action, "key": [key.id for key in keys], **more})


def do(client, action, keys, **more):
    return ask(client, action, keys, confirmed="1", **{**CONFIRMED[action], **more})


def now_(key, cast):
    """Return a key as it is now."""
    return key_builders.read(key.id, cast.acme)


def status(key, cast):
    return now_(key, cast).status(datetime.now(UTC))


def disable(keys, cast):
    actor = callers.of_member(cast.member(cast.alice))
    for key in keys:
        with tenancy.within(cast.acme.id):
            services.disable_key(key, actor=actor)


def said(client, url="/"):
    """Return the messages that the next page shows."""
    page = client.get(url).content.decode()
    return unescape(page[page.index('id="messages"') : page.index("head-text")])


class TestAsking:
    @pytest.mark.parametrize("action", list(CONFIRMED))
    def test_lists_what_will_change_and_changes_nothing(self, alice, cast, two, action):
        with builders.gains(cast.acme.id):
            response = ask(alice, action, two, back="kind=control_plane")
        page = unescape(response.content.decode())
        assert response.status_code == 200
        assert "2 keys?" in page
        assert all(f">{key.name}</a>" in page and f'value="{key.id}"' in page for key in two)
        assert page.count('href="/?kind=control_plane"') == 2

    def test_offers_the_reasons_of_a_revocation(self, alice, two):
        page = ask(alice, "revoke", two).content.decode()
        assert set(re.findall(r'name="reason" value="(\w+)"', page)) == {
            "leaked",
            "unused",
            "owner_left",
            "incident",
            "other",
        }

    def test_warns_of_keys_in_use(self, alice, cast):
        used = create(cast.acme, cast.alice)
        key_builders.verify(used.secret, cast.acme)
        for action, is_warned in (("revoke", True), ("disable", True), ("tag", False)):
            page = unescape(ask(alice, action, [used.key]).content.decode())
            assert ("1 of these keys was used in the last 24 hours" in page) is is_warned

    def test_only_posts(self, alice):
        assert alice.get(URL).status_code == 405

    def test_strangers_sign_in_first(self, client):
        assert client.post(URL, {"action": "revoke"}).status_code == 302

    @pytest.mark.parametrize("who", ["carol", "vera"])
    @pytest.mark.parametrize("action", list(CONFIRMED))
    def test_a_read_only_role_is_refused(self, cast, two, who, action):
        client = builders.signed_in(getattr(cast, who))
        with builders.gains(cast.acme.id):
            assert ask(client, action, two).status_code == 403
            assert do(client, action, two).status_code == 403

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"action": "revoke"}, "Choose the keys first"),
            ({"action": "explode", "key": ["key_a"]}, "Choose what to do"),
            ({"key": ["key_a"]}, "Choose what to do"),
            ({"action": "revoke", "key": ["key_a", "\0", "'"]}, "None of the chosen keys"),
            ({"action": "revoke", "key": [f"key_{i}" for i in range(201)]}, "At most 200 keys at a time"),
        ],
    )
    def test_what_makes_no_sense_is_said(self, alice, form, words):
        response = alice.post(URL, {**form, "confirmed": "1", "back": "kind=service"})
        assert (response.status_code, response["Location"]) == (303, "/?kind=service")
        assert words in said(alice)

    def test_leads_back_to_nowhere_else(self, alice, two):
        for back in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "&" * 5_000):
            page = ask(alice, "tag", two, back=back).content.decode()
            assert "evil.example" not in page
            assert "javascript:" not in page
            assert do(alice, "tag", two, back=back)["Location"] == "/"


class TestDoing:
    def test_revokes(self, alice, cast, two):
        with builders.gains(cast.acme.id, "key.revoked", "key.revoked") as gained:
            response = do(alice, "revoke", two, back="sort=name")
        assert (response.status_code, response["Location"]) == (303, "/?sort=name")
        assert {entry.data["target"] for entry in gained} == {key.id for key in two}
        for key in two:
            ended = now_(key, cast)
            assert (ended.revocation_reason, ended.revocation_note) == ("incident", "INC-7")
        names = ", ".join(key.name for key in sorted(two, key=lambda key: key.id))
        assert f"Revoked 2 keys: {names}." in said(alice)

    def test_disables_and_enables(self, alice, cast, two):
        do(alice, "disable", two)
        assert {status(key, cast) for key in two} == {Status.DISABLED}
        do(alice, "enable", two)
        assert {status(key, cast) for key in two} == {Status.ACTIVE}

    def test_disables_for_a_quarter_of_an_hour(self, alice, cast, two):
        do(alice, "disable", two, minutes="15")
        for key in two:
            left = now_(key, cast).disabled_until - datetime.now(UTC)
            assert timedelta(minutes=14) < left <= timedelta(minutes=15)
            assert not now_(key, cast).is_disabled

    def test_for_a_quarter_of_an_hour_never_lets_one_come_back_sooner(self, alice, cast, two):
        until, actor = datetime.now(UTC) + timedelta(days=30), callers.of_member(cast.member(cast.alice))
        with tenancy.within(cast.acme.id):
            services.disable_key(two[0], actor=actor, until=until)
        do(alice, "disable", two, minutes="15")
        assert now_(two[0], cast).disabled_until == until
        assert now_(two[1], cast).disabled_until < until

    @pytest.mark.parametrize("owner", ["me", "member", "team"])
    def test_sets_the_owner(self, alice, cast, two, owner):
        do(alice, "owner", two, owner=owner, owner_member=cast.bob.id, owner_team="  Core team ")
        for key in two:
            found = now_(key, cast)
            wanted = {"me": (cast.alice.id, ""), "member": (cast.bob.id, ""), "team": (None, "Core team")}
            assert (found.owner_user_id, found.owner_team) == wanted[owner]

    def test_adds_a_tag_to_those_that_are_there(self, alice, cast):
        first = create(cast.acme, cast.alice, tags={"tier": "1", "team": "old"}).key
        second = create(cast.acme, cast.alice).key
        do(alice, "tag", [first, second])
        assert now_(first, cast).tags == {"tier": "1", "team": "noc"}
        assert now_(second, cast).tags == {"team": "noc"}

    def test_says_what_was_refused_and_why(self, alice, cast, two):
        disable(two[:1], cast)
        with builders.gains(cast.acme.id, "key.disabled"):
            do(alice, "disable", two)
        told = said(alice)
        assert f"Disabled 1 key: {two[1].name}." in told
        assert f"Left 1 key as it was: {two[0].name}. It was so already." in told

    def test_what_has_ended_stays_as_it_is(self, alice, cast, two):
        do(alice, "revoke", two[:1])
        said(alice)
        with builders.gains(cast.acme.id, "key.changed"):
            do(alice, "tag", two)
        assert f"Left 1 key as it was: {two[0].name}." in said(alice)
        with builders.gains(cast.acme.id):
            do(alice, "revoke", two[:1])
        assert "It was revoked already." in said(alice)

    def test_a_twentieth_and_first_tag_is_refused_for_that_key_alone(self, alice, cast, two):
        full = create(cast.acme, cast.alice, tags={f"t{i}": "x" for i in range(20)}).key
        do(alice, "tag", [full, two[0]])
        told = said(alice)
        assert f"Tagged 1 key: {two[0].name}." in told
        assert f"Left 1 key as it was: {full.name}. A key has at most 20 tags." in told

    def test_a_developer_gives_no_key_more_than_they_hold(self, cast, two):
        admin = create(cast.acme, cast.alice, scopes=["admin:projects"]).key
        disable([admin, *two], cast)
        bob = builders.signed_in(cast.bob)
        do(bob, "enable", [admin, *two])
        assert status(admin, cast) is Status.DISABLED
        assert {status(key, cast) for key in two} == {Status.ACTIVE}

    @pytest.mark.parametrize(
        ("action", "wrong"),
        [
            ("revoke", {"reason": "boredom"}),
            ("revoke", {"reason": ""}),
            ("revoke", {"note": "x" * 1_001}),
            ("disable", {"minutes": "99999"}),
            ("owner", {"owner": "member", "owner_member": "usr_nobody"}),
            ("owner", {"owner": "member", "owner_member": ""}),
            ("owner", {"owner_team": " "}),
            ("owner", {"owner_team": "x" * 101}),
            ("tag", {"name": "No Good"}),
            ("tag", {"value": "ä" * 33}),
            ("tag", {"name": ""}),
        ],
    )
    def test_a_wrong_answer_comes_back_and_changes_nothing(self, alice, cast, two, action, wrong):
        with builders.gains(cast.acme.id):
            response = do(alice, action, two, **wrong)
        assert response.status_code == 422
        page = response.content.decode()
        assert 'class="error' in page
        assert all(f'value="{key.id}"' in page for key in two)

    def test_a_strangers_keys_are_left_out(self, cast, two):
        mallory = builders.signed_in(cast.mallory)
        own = create(cast.elsewhere, cast.mallory).key
        with builders.gains(cast.acme.id), builders.gains(cast.elsewhere.id, "key.revoked"):
            do(mallory, "revoke", [own, *two])
        assert {status(key, cast) for key in two} == {Status.ACTIVE}
        told = said(mallory)
        assert f"Revoked 1 key: {own.name}." in told
        assert "Left out 2 keys that you may not change." in told
        assert two[0].name not in told

    def test_keys_beyond_ones_projects_are_left_out(self, cast, two):
        pat, edge = builders.person("Pat"), builders.project(builders.root(cast.acme))
        builders.join(pat, cast.acme, Role.VIEWER)
        builders.join(pat, cast.acme, Role.DEVELOPER, edge)
        own = create(cast.acme, cast.alice, project=edge).key
        client = builders.signed_in(pat)
        page = unescape(ask(client, "disable", [own, *two]).content.decode())
        assert "2 keys that you may not change are left out" in page
        assert two[0].name not in page
        do(client, "disable", [own, *two])
        assert status(own, cast) is Status.DISABLED
        assert {status(key, cast) for key in two} == {Status.ACTIVE}

    def test_two_hundred_at_a_time(self, alice, cast):
        made = [create(cast.acme, cast.alice, owner=Owner()).key for _ in range(200)]
        with builders.gains(cast.acme.id, *["key.revoked"] * 200):
            do(alice, "revoke", made)
        assert "Revoked 200 keys" in said(alice)

    def test_needs_the_csrf_token(self, alice, cast, two):
        alice.handler.enforce_csrf_checks = True
        assert do(alice, "revoke", two).status_code == 403
        assert {status(key, cast) for key in two} == {Status.ACTIVE}
