"""Policies, and the scopes in use."""

import pytest

from audit import tenancy
from keys.services.common import policy_of
from orgs.roles import Role
from tests import builders, key_builders
from tests.key_builders import entries


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


def policy(cast):
    with tenancy.within(cast.acme.id):
        return policy_of(cast.acme.id)


def shown(client):
    """Return what the form sends as it came."""
    form = client.get("/settings/policies").context["form"]
    values = {name: form[name].value() for name in form.fields}
    return {name: "on" if value is True else value for name, value in values.items() if value is not False}


class TestPolicies:
    @pytest.mark.parametrize("who", ["alice", "anna"])
    def test_owners_and_admins_change_it_with_one_entry(self, cast, who):
        client, before = builders.signed_in(getattr(cast, who)), entries(cast.acme)
        days = 10 if who == "alice" else 20
        response = client.post("/settings/policies", {**shown(client), "service_max_days": days})
        assert (response.status_code, response["Location"]) == (303, "/settings/policies")
        assert policy(cast).service_max_days == days
        (gained,) = entries(cast.acme)[len(before) :]
        assert (gained["act"], gained["data"]["after"]) == ("policy.changed", {"service_max_days": days})

    def test_notices_and_graces(self, alice, cast):
        before = entries(cast.acme)
        changes = {
            "notice_days": "1 60,14",
            "auto_grace_hours": "12",
            "leaver_action": "rotate",
            "leaver_team": " NOC ",
            "leaver_grace_hours": "72",
        }
        assert alice.post("/settings/policies", {**shown(alice), **changes}).status_code == 303
        kept = policy(cast)
        assert (kept.notice_days, kept.auto_grace_seconds) == ([60, 14, 1], 43_200)
        assert (kept.leaver_action, kept.leaver_team, kept.leaver_grace_seconds) == ("rotate", "NOC", 259_200)
        (gained,) = entries(cast.acme)[len(before) :]
        assert gained["data"]["before"]["notice_days"] == [30, 7, 1]
        assert shown(alice)["notice_days"] == "60, 14, 1"

    @pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["plain", "htmx"])
    def test_rules_for_approvals(self, headers):
        owner = builders.person("Opal")
        where = builders.organization("Governed", owner=owner)
        client = builders.signed_in(owner)
        changes = {"approvals_required": "production", "approval_max_hours": "2", "approval_max_uses": "5"}
        with builders.gains(where.id, "policy.changed") as gained:
            response = client.post("/settings/policies", {**shown(client), **changes}, headers=headers)
        assert (response.status_code, response["Location"]) == (303, "/settings/policies")
        assert gained[0].data["before"] == {
            "approvals_required": "none",
            "approval_max_hours": 24,
            "approval_max_uses": 100,
        }
        assert gained[0].data["after"] == {
            "approvals_required": "production",
            "approval_max_hours": 2,
            "approval_max_uses": 5,
        }
        assert gained[0].data["target"] == where.id
        after = shown(client)
        assert {name: str(after[name]) for name in changes} == changes

    def test_it_says_whether_somebody_receives_new_secrets(self, cast):
        owner = builders.person("Olga")
        where = builders.organization("Without", owner=owner)
        client = builders.signed_in(owner)
        assert "No recipient key is registered" in client.get("/settings/policies").content.decode()
        key_builders.recipient(where, owner, "vault-production")
        page = client.get("/settings/policies").content.decode()
        assert "vault-production" in page
        assert "No recipient key is registered." not in page

    def test_the_form_as_it_came_records_nothing(self, alice, cast):
        before = entries(cast.acme)
        assert alice.post("/settings/policies", shown(alice)).status_code == 303
        assert entries(cast.acme) == before

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"service_max_days": "31"}, "service_max_days"),
            (
                {"control_plane_default_days": "200", "control_plane_max_days": "100"},
                "control_plane_default_days",
            ),
            ({"ingestion_max_days": "366"}, "ingestion_max_days"),
            ({"self_rotation_max_days": "0"}, "self_rotation_max_days"),
            ({"approvals_required": "sometimes"}, "approvals_required"),
            ({"approvals_required": ""}, "approvals_required"),
            ({"approval_max_hours": "0"}, "approval_max_hours"),
            ({"approval_max_hours": "25"}, "approval_max_hours"),
            ({"approval_max_hours": ""}, "approval_max_hours"),
            ({"approval_max_uses": "0"}, "approval_max_uses"),
            ({"approval_max_uses": "101"}, "approval_max_uses"),
            ({"leaver_action": "nothing"}, "leaver_action"),
            ({"leaver_action": "hand_over", "leaver_team": ""}, "leaver_team"),
            ({"leaver_action": "rotate", "leaver_team": ""}, "leaver_team"),
            ({"leaver_grace_hours": "0"}, "leaver_grace_hours"),
            ({"leaver_grace_hours": "721"}, "leaver_grace_hours"),
            ({"auto_grace_hours": "0"}, "auto_grace_hours"),
            ({"auto_grace_hours": "721"}, "auto_grace_hours"),
            ({"notice_days": ""}, "notice_days"),
            ({"notice_days": "0"}, "notice_days"),
            ({"notice_days": "366"}, "notice_days"),
            ({"notice_days": "7, 7"}, "notice_days"),
            ({"notice_days": "1 2 3 4 5 6"}, "notice_days"),
            ({"notice_days": "7, soon"}, "notice_days"),
            ({"notice_days": "-7"}, "notice_days"),
            ({"notice_days": "99999999999"}, "notice_days"),
        ],
    )
    def test_an_error_stands_at_its_field(self, alice, cast, changes, field):
        before = entries(cast.acme)
        response = alice.post("/settings/policies", {**shown(alice), **changes})
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert entries(cast.acme) == before

    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_others_are_refused(self, cast, who):
        client, before = builders.signed_in(getattr(cast, who)), entries(cast.acme)
        assert client.get("/settings/policies").status_code == 403
        assert client.post("/settings/policies", {}).status_code == 403
        assert entries(cast.acme) == before

    def test_an_admin_of_a_project_is_no_admin_of_all(self, cast):
        person, below = builders.person("Pia"), builders.project(builders.root(cast.acme))
        builders.join(person, cast.acme, Role.ADMIN, below)
        assert builders.signed_in(person).get("/settings/policies").status_code == 403

    def test_other_methods_are_refused(self, alice):
        assert alice.delete("/settings/policies").status_code == 405


class TestScopesInUse:
    def counts(self, client):
        groups = client.get("/settings/scopes").context["groups"]
        return {row.scope.name: row.keys for group in groups for row in group.scopes}

    def test_counts_running_keys_alone(self, cast):
        owner = builders.person("Una")
        where = builders.organization("Counted", owner=owner)
        client = builders.signed_in(owner)
        kept = key_builders.create(where, owner, scopes=["incidents:read", "incidents:write"]).key
        gone = key_builders.create(where, owner).key
        assert self.counts(client)["incidents:read"] == 2
        client.post(f"/keys/{gone.id}/revoke", {"reason": "unused"})
        found = self.counts(client)
        assert (found["incidents:read"], found["incidents:write"], found["admin:projects"]) == (1, 1, 0)
        assert kept.organization_id == where.id

    def test_of_ones_own_projects(self, cast, alice):
        person, below = builders.person("Pol"), builders.project(builders.root(cast.acme))
        builders.join(person, cast.acme, Role.VIEWER, below)
        before = self.counts(alice)["incidents:read"]
        key_builders.create(cast.acme, cast.alice)
        key_builders.create(cast.acme, cast.alice, project=below)
        assert self.counts(builders.signed_in(person))["incidents:read"] == 1
        assert self.counts(alice)["incidents:read"] == before + 2

    def test_links_to_the_keys(self, cast, alice):
        key_builders.create(cast.acme, cast.alice)
        assert "/?scope=incidents%3Aread" in alice.get("/settings/scopes").content.decode()

    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_everybody_in_the_organization_reads_it(self, cast, who):
        assert builders.signed_in(getattr(cast, who)).get("/settings/scopes").status_code == 200

    def test_other_methods_are_refused(self, alice):
        assert alice.post("/settings/scopes").status_code == 405
