import re

import pytest

from audit.acts import Act
from audit.entry import ACT

# EVENTS.md's list as it was first published. Acts may join the enum; none may leave it.
PUBLISHED = """
organization.created|changed|suspended|closed
user.created|disabled|staff_changed|password_changed|mfa_changed
session.started|revoked
token.issued|revoked
scope.created|changed
tier.created|changed
member.invited|joined|role_changed|removed
project.created|changed|archived
environment.created|changed
policy.changed
plan.changed
key.created|changed|scopes_changed|disabled|enabled|revoked|expired|expiring|leaked|first_network
rotation.started|target_moved|completed|cancelled|superseded|overdue|failed
recipient.registered|removed
breakglass.executed|refused
approval.requested|granted|denied|expired|used
execution.recorded|mismatch
webhook.created|changed|disabled|secret_rotated|removed|resent
sso.connection_created|changed|enabled|disabled|domain_verified|login_refused
support.opened|viewed|closed
export.made
ledger.opened|checkpoint|erasure|key_added|key_retired|reopened
clock.regressed
"""


def published():
    for line in PUBLISHED.split():
        subject, _, happened = line.partition(".")
        yield from (f"{subject}.{what}" for what in happened.split("|"))


def test_every_published_act_is_in_the_enum():
    assert set(published()) <= {act.value for act in Act}


def test_a_name_says_its_value():
    assert all(act.name == re.sub(r"\W", "_", act.value).upper() for act in Act)


@pytest.mark.parametrize("act", sorted(Act))
def test_an_act_has_the_form_that_a_verifier_checks(act):
    assert ACT.fullmatch(act)


@pytest.mark.parametrize(
    "text", ["", "key", "key.", ".created", "Key.created", "key.created ", "key..made", "key.v2"]
)
def test_the_form_refuses(text):
    assert ACT.fullmatch(text) is None
