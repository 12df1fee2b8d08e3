"""What organizations ask of keys: a leaver's keys, and keys that stand in the way of archiving."""

from datetime import timedelta

import pytest

from audit import tenancy
from keys import callers, clock, settling
from keys import services as key_services
from keys.models import KeySecret, Rotation
from keys.scopes import parse_query
from keys.services import Owner
from orgs import errors, ports, services
from orgs.models import Membership
from orgs.roles import Role
from tests import builders, key_builders


@pytest.fixture
def cast():
    return builders.cast()


def leave(cast, user):
    with tenancy.within(cast.acme.id):
        membership = Membership.objects.filter(organization=cast.acme, user=user)[0]
        services.remove_member(membership, actor=cast.member(cast.alice), entirely=True)


def told(cast, user):
    with tenancy.within(cast.acme.id):
        return [tell(cast.acme.id, user.id) for tell in ports.tell_member_leaving]


def test_each_port_is_filled_once():
    assert ports.tell_member_leaving.count(settling.tell_leaving) == 1
    assert ports.on_archiving.count(settling.working_keys_at) == 1
    assert ports.on_member_leaving.count(settling.settle_keys_of_leaver) == 1


def test_a_leavers_keys_are_disabled_in_the_same_act(cast):
    created = key_builders.create(cast.acme, cast.alice, owner=Owner(member=cast.bob))
    assert told(cast, cast.bob) == ["Their key is disabled."]
    before = key_builders.entries(cast.acme)
    leave(cast, cast.bob)
    assert key_builders.verify(created.secret, cast.acme) == "DISABLED"
    gained = key_builders.entries(cast.acme)[len(before) :]
    assert [entry["act"] for entry in gained] == ["key.disabled", "member.removed"]
    assert (gained[1]["data"]["keys_action"], gained[1]["data"]["keys_count"]) == ("disable", 1)


@pytest.mark.parametrize(
    ("action", "words"),
    [("revoke", "Their 2 keys are revoked, for good."), ("hand_over", "Their 2 keys are handed to NOC.")],
)
def test_the_page_says_what_the_policy_does(cast, action, words):
    client = builders.signed_in(cast.alice)
    policy = client.get("/settings/policies").context["form"].initial
    client.post("/settings/policies", {**policy, "leaver_action": action, "leaver_team": "NOC"})
    for _ in range(2):
        key_builders.create(cast.acme, cast.alice, owner=Owner(member=cast.bob))
    assert told(cast, cast.bob) == [words]
    leave(cast, cast.bob)
    assert told(cast, cast.bob) == [""]


def set_policy(cast, **changes):
    client = builders.signed_in(cast.alice)
    form = client.get("/settings/policies").context["form"]
    before = {name: form[name].value() for name in form.fields if form[name].value() is not False}
    assert client.post("/settings/policies", {**before, **changes}).status_code == 303


class TestRotating:
    @pytest.fixture(autouse=True)
    def policy(self, cast):
        set_policy(cast, leaver_action="rotate", leaver_team="NOC", leaver_grace_hours=48)

    def leave(self, cast):
        before = len(key_builders.entries(cast.acme))
        leave(cast, cast.bob)
        return key_builders.entries(cast.acme)[before:]

    def test_with_a_recipient_each_has_a_new_secret_and_works_on(self, cast):
        receiver = key_builders.recipient(cast.acme, cast.alice, "vault")
        created = key_builders.create(
            cast.acme, cast.alice, owner=Owner(member=cast.bob), scopes=["incidents:write"]
        )
        (sentence,) = told(cast, cast.bob)
        assert sentence.startswith(
            "Their key is handed to NOC, and gets a new secret, sealed to vault; the old one works on for 48 hours."
        )
        gained = self.leave(cast)
        assert [entry["act"] for entry in gained] == ["key.changed", "rotation.started", "member.removed"]
        assert gained[1]["data"]["cause"] == "owner_left"
        assert gained[1]["actor"] == cast.alice.id
        told_facts = gained[2]["data"]
        assert (told_facts["keys_action"], told_facts["keys_count"], told_facts["keys_ending"]) == (
            "rotate",
            1,
            0,
        )
        key = key_builders.read(created.key.id, cast.acme)
        assert (key.owner_type, key.owner_team, key.owner_user_id) == ("team", "NOC", None)
        # Handed over in the same transaction: of a member without a role it would be worth nothing.
        assert key_builders.verify(created.secret, cast.acme, query=parse_query("incidents:write")) == "VALID"
        with tenancy.within(cast.acme.id):
            rotation = Rotation.objects.get(key=key)
        assert rotation.grace_ends_at - rotation.started_at == timedelta(hours=48)
        text = receiver.open(bytes(rotation.sealed_secret), rotation.id)
        assert key_builders.verify(text, cast.acme, query=parse_query("incidents:write")) == "VALID"

    def test_nothing_is_sealed_to_a_recipient_of_whoever_leaves(self, cast):
        """They hold its private key, and perhaps a webhook that still hears of the rotation."""
        heir = builders.person("Heir")
        builders.join(heir, cast.acme, Role.ADMIN)
        created = key_builders.create(cast.acme, cast.alice, owner=Owner(member=heir))
        first = key_builders.recipient(cast.acme, cast.alice, "vault").recipient
        key_builders.recipient(cast.acme, heir, "laptop")
        assert "sealed to vault;" in told(cast, heir)[0]
        leave(cast, heir)
        with tenancy.within(cast.acme.id):
            assert Rotation.objects.get(key=created.key).sealed_to == first.id

    def test_and_with_no_other_the_key_ends(self, cast):
        heir = builders.person("Heir")
        builders.join(heir, cast.acme, Role.ADMIN)
        created = key_builders.create(cast.acme, cast.alice, owner=Owner(member=heir))
        key_builders.recipient(cast.acme, heir, "laptop")
        assert "No recipient key is registered" in told(cast, heir)[0]
        leave(cast, heir)
        with tenancy.within(cast.acme.id):
            assert not Rotation.objects.filter(key=created.key).exists()
        assert key_builders.read(created.key.id, cast.acme).expires_at <= clock.now() + timedelta(hours=48)

    def test_without_one_it_ends_after_the_grace_and_a_notice_tells(self, cast):
        created = key_builders.create(cast.acme, cast.alice, owner=Owner(member=cast.bob))
        (sentence,) = told(cast, cast.bob)
        assert "ends after 48 hours: somebody must rotate it and renew the expiry" in sentence
        assert "No recipient key" in sentence
        gained = self.leave(cast)
        assert [entry["act"] for entry in gained] == ["key.changed", "member.removed"]
        assert gained[1]["data"]["keys_ending"] == 1
        key = key_builders.read(created.key.id, cast.acme)
        assert timedelta(hours=47.9) < key.expires_at - clock.now() <= timedelta(hours=48)
        assert key_builders.verify(created.secret, cast.acme) == "VALID"
        with tenancy.within(cast.acme.id):
            assert KeySecret.objects.get(key=key, version=1).expires_at == key.expires_at
        key_services.tell_of_expiry(cast.acme.id, [key.id])
        notice = key_builders.entries(cast.acme)[-1]
        assert (notice["act"], notice["data"]["days_left"]) == ("key.expiring", 2)

    def test_what_can_not_be_rotated_ends(self, cast):
        key_builders.recipient(cast.acme, cast.alice, "vault")
        mine = Owner(member=cast.bob)
        disabled = key_builders.create(cast.acme, cast.alice, owner=mine)
        turning = key_builders.create(cast.acme, cast.alice, owner=mine)
        soon = key_builders.create(
            cast.acme, cast.alice, owner=mine, expires=clock.now() + timedelta(hours=3)
        )
        with tenancy.within(cast.acme.id):
            caller = callers.of_member(cast.member(cast.alice))
            key_services.disable_key(disabled.key, actor=caller)
        key_builders.rotate(turning.key, cast.acme, cast.alice, grace_seconds=2_592_000)
        gained = self.leave(cast)
        assert gained[-1]["data"]["keys_count"] == 3
        assert gained[-1]["data"]["keys_ending"] == 2
        end = clock.now() + timedelta(hours=48)
        with tenancy.within(cast.acme.id):
            for created in (disabled, turning):
                for secret in KeySecret.objects.filter(key=created.key):
                    assert secret.expires_at <= end or secret.accepted_until <= end
            assert Rotation.objects.get(key=soon.key).grace_ends_at == soon.key.expires_at

    def test_a_failure_later_on_undoes_it_all(self, cast, monkeypatch):
        key_builders.recipient(cast.acme, cast.alice, "vault")
        created = key_builders.create(cast.acme, cast.alice, owner=Owner(member=cast.bob))
        monkeypatch.setattr("audit.ledger._append", _broken)
        with pytest.raises(RuntimeError):
            leave(cast, cast.bob)
        monkeypatch.undo()
        with tenancy.within(cast.acme.id):
            assert not Rotation.objects.filter(key=created.key).exists()
        assert key_builders.read(created.key.id, cast.acme).owner_user_id == cast.bob.id


class TestHandingOver:
    """A team's key is bound by no role: so it takes over what the leaver's let the key do, and no more."""

    @pytest.fixture(autouse=True)
    def policy(self, cast):
        set_policy(cast, leaver_action="hand_over", leaver_team="NOC")

    def can(self, created, cast, scope):
        return key_builders.verify(created.secret, cast.acme, query=parse_query(scope)) == "VALID"

    def made(self, cast, *scopes, owner=None, **fields):
        return key_builders.create(
            cast.acme, cast.alice, scopes=scopes, owner=Owner(member=owner or cast.bob), **fields
        )

    def leave(self, cast, user):
        before = len(key_builders.entries(cast.acme))
        leave(cast, user)
        return key_builders.entries(cast.acme)[before:]

    @pytest.mark.parametrize("action", ["hand_over", "rotate"])
    def test_what_their_role_kept_from_the_key_is_taken_from_it(self, cast, action):
        set_policy(cast, leaver_action=action)
        created = self.made(cast, "incidents:write", "admin:projects")
        assert not self.can(created, cast, "admin:projects")
        gained = self.leave(cast, cast.bob)
        assert [entry["act"] for entry in gained] == ["key.scopes_changed", "key.changed", "member.removed"]
        assert gained[0]["data"]["before"] == {"scopes": ["admin:projects", "incidents:write"]}
        assert gained[0]["data"]["after"] == {"scopes": ["incidents:write"]}
        assert gained[0]["data"]["cause"] == "owner_left"
        assert gained[-1]["data"]["keys_narrowed"] == 1
        assert key_builders.read(created.key.id, cast.acme).scopes == ["incidents:write"]
        assert self.can(created, cast, "incidents:write")
        assert not self.can(created, cast, "admin:projects")

    def test_a_wildcard_becomes_what_it_was_worth(self, cast):
        created = self.made(cast, "incidents:*")
        worth = {scope: self.can(created, cast, scope) for scope in key_builders.SCOPES}
        assert worth["incidents:write"]
        assert not worth["incidents:*"]
        leave(cast, cast.bob)
        assert {scope: self.can(created, cast, scope) for scope in key_builders.SCOPES} == worth
        assert not self.can(created, cast, "incidents:made_up")

    def test_it_is_the_role_of_that_moment(self, cast):
        created = self.made(cast, "incidents:read", "incidents:write")
        with tenancy.within(cast.acme.id):
            membership = Membership.objects.get(organization=cast.acme, user=cast.bob)
            services.change_role(membership, Role.VIEWER, actor=cast.member(cast.alice))
        leave(cast, cast.bob)
        assert key_builders.read(created.key.id, cast.acme).scopes == ["incidents:read"]

    def test_and_the_role_at_the_keys_project(self, cast):
        above, heir = builders.project(builders.root(cast.acme)), builders.person("Heir")
        builders.join(heir, cast.acme, Role.VIEWER)
        builders.join(heir, cast.acme, Role.ADMIN, above)
        scopes = ("admin:projects", "incidents:read")
        there = self.made(cast, *scopes, owner=heir, project=builders.project(above))
        elsewhere = self.made(cast, *scopes, owner=heir)
        gained = self.leave(cast, heir)
        assert gained[-1]["data"]["keys_narrowed"] == 1
        assert key_builders.read(there.key.id, cast.acme).scopes == list(scopes)
        assert key_builders.read(elsewhere.key.id, cast.acme).scopes == ["incidents:read"]

    def test_who_may_everything_leaves_keys_that_may_what_they_could(self, cast):
        created = self.made(cast, "incidents:*", "admin:projects", owner=cast.anna)
        assert [entry["act"] for entry in self.leave(cast, cast.anna)] == ["key.changed", "member.removed"]
        assert self.can(created, cast, "incidents:made_up")

    @pytest.mark.parametrize("action", ["hand_over", "rotate"])
    def test_a_key_that_could_do_nothing_is_disabled(self, cast, action):
        """Where the leaver lost the role at its project before, it was worth nothing; it wakes up for nobody."""
        key_builders.recipient(cast.acme, cast.alice)
        set_policy(cast, leaver_action=action)
        project = builders.project(builders.root(cast.acme))
        other = builders.project(builders.root(cast.acme))
        heir = builders.person("Heir")
        at_project = builders.join(heir, cast.acme, Role.DEVELOPER, project)
        builders.join(heir, cast.acme, Role.DEVELOPER, other)
        created = self.made(cast, "incidents:read", owner=heir, project=project)
        with tenancy.within(cast.acme.id):
            assert not services.remove_member(at_project, actor=cast.member(cast.alice))
        assert not self.can(created, cast, "incidents:read")
        gained = self.leave(cast, heir)
        assert [entry["act"] for entry in gained] == ["key.disabled", "key.changed", "member.removed"]
        assert key_builders.verify(created.secret, cast.acme) == "DISABLED"
        assert key_builders.read(created.key.id, cast.acme).owner_team == "NOC"

    def test_one_that_was_disabled_is_not_disabled_again(self, cast):
        created = self.made(cast, "admin:projects")
        with tenancy.within(cast.acme.id):
            key_services.disable_key(created.key, actor=callers.of_member(cast.member(cast.alice)))
        assert [entry["act"] for entry in self.leave(cast, cast.bob)] == ["key.changed", "member.removed"]

    def test_whoever_hands_one_over_themselves_gives_what_they_hold(self, cast):
        created = self.made(cast, "incidents:read", "admin:projects")
        with tenancy.within(cast.acme.id):
            key_services.change_key(
                created.key,
                key_services.Changes(owner=Owner(team="NOC")),
                actor=callers.of_member(cast.member(cast.alice)),
            )
        assert self.can(created, cast, "admin:projects")
        leave(cast, cast.bob)
        assert self.can(created, cast, "admin:projects")


def _broken(*_arguments):
    raise RuntimeError("killed")


def test_who_owns_no_key_leaves_without_a_word(cast):
    assert told(cast, cast.vera) == [""]


def test_working_keys_stand_in_the_way_of_archiving(cast):
    above = builders.project(builders.root(cast.acme))
    environment = builders.environment(cast.acme)
    below = builders.project(above)
    key = key_builders.create(cast.acme, cast.alice, project=below, environment=environment).key
    with tenancy.within(cast.acme.id):
        with pytest.raises(errors.StillInUse):
            services.archive_project(above, actor=cast.member(cast.alice))
        with pytest.raises(errors.StillInUse):
            services.archive_environment(environment, actor=cast.member(cast.alice))
    client = builders.signed_in(cast.alice)
    client.post(f"/keys/{key.id}/revoke", {"reason": "unused"})
    with tenancy.within(cast.acme.id):
        services.archive_project(above, actor=cast.member(cast.alice))
        services.archive_environment(environment, actor=cast.member(cast.alice))
