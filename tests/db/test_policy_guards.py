"""What the database refuses of a policy, and that nothing slips in while it changes."""

import threading
from dataclasses import asdict
from itertools import pairwise

import pytest
from django.db import IntegrityError, transaction

from audit import tenancy
from keys import services
from keys.errors import Invalid
from keys.models import KeyPolicy
from keys.secret import Kind
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api.calls import at_once


@pytest.fixture
def alice():
    return builders.person("Alice")


@pytest.fixture
def acme(alice):
    return builders.organization("Acme", owner=alice)


class TestBounds:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("approvals_required", "sometimes"),
            ("approvals_required", ""),
            ("approval_max_hours", 0),
            ("approval_max_hours", 25),
            ("approval_max_uses", 0),
            ("approval_max_uses", 101),
        ],
    )
    def test_the_database_refuses(self, acme, column, value):
        with pytest.raises(IntegrityError, match="policy_approval"), tenancy.within(acme.id):
            KeyPolicy.objects.create(organization=acme, **{column: value})

    @pytest.mark.parametrize(
        ("column", "value"),
        [("approvals_required", "sometimes"), ("approval_max_hours", 25), ("approval_max_uses", 0)],
    )
    def test_the_service_refuses_before(self, acme, alice, column, value):
        with builders.gains(acme.id), pytest.raises(Invalid) as caught:
            gov.rule(acme, alice, **{column: value})
        assert caught.value.field == column


class TestMeanwhile:
    def during_a_change(self, acme, alice, act, **changes):
        """Run `act` in another connection while a change of the policy is not committed; return what it was told."""
        told, ready = [], threading.Event()

        def attempt(_):
            ready.set()
            try:
                act()
            except Invalid as error:
                told.append(error.field)

        thread = threading.Thread(target=lambda: at_once(1, attempt))
        with tenancy.within(acme.id), transaction.atomic():
            gov.rule(acme, alice, **changes)
            thread.start()
            assert ready.wait(5)
            thread.join(0.5)
            assert thread.is_alive(), "it did not wait"
        thread.join(10)
        assert not thread.is_alive()
        return told

    def test_a_creation_waits_for_the_rule(self, acme, alice):
        def create():
            key_builders.create(acme, alice, kind=Kind.SERVICE)

        assert self.during_a_change(acme, alice, create, approvals_required="always") == ["approval_bound"]
        assert key_builders.count(acme) == 0

    def test_a_request_waits_for_the_rule(self, acme, alice):
        key = gov.bound_key(acme, alice).key

        def ask():
            gov.request(key, uses=9)

        assert self.during_a_change(acme, alice, ask, approval_max_uses=5) == ["uses"]

    def test_two_changes_tell_of_each_other(self, acme, alice):
        """What one calls before is what the other left, whichever is first."""
        change = services.PolicyChange(**_whole(acme))

        def hours(number):
            with tenancy.within(acme.id):
                fields = asdict(change) | {"approval_max_hours": number + 2}
                services.change_policy(services.PolicyChange(**fields), actor=builders.member(alice, acme))

        with builders.gains(acme.id, *["policy.changed"] * 4) as gained:
            at_once(4, hours)
        changes = [(entry.data["before"], entry.data["after"]) for entry in gained]
        assert changes[0][0] == {"approval_max_hours": 24}
        assert all(before == after for (_, after), (before, _) in pairwise(changes))


def _whole(acme):
    policy = KeyPolicy(organization=acme)
    return {name: getattr(policy, name) for name in services.PolicyChange.__dataclass_fields__}
