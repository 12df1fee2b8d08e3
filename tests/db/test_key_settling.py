"""What organizations ask of keys: a leaver's keys, and keys that stand in the way of archiving."""

import pytest

from audit import tenancy
from keys import settling
from keys.services import Owner
from orgs import errors, ports, services
from orgs.models import Membership
from tests import builders, key_builders


@pytest.fixture
def cast():
    key_builders.catalogue()
    return builders.cast()


def leave(cast, user):
    with tenancy.within(cast.acme.id):
        membership = Membership.objects.get(organization=cast.acme, user=user)
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
