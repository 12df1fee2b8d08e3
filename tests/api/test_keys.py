"""`/v1/api-keys`: create, list, see, change, revoke."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import tenancy
from keys.secret import Kind
from keys.services import Owner
from orgs.models import Organization
from orgs.services.founding import appoint_owner
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api import calls
from tests.api.calls import Api, is_problem, where, without_id

FIELDS = {
    "id",
    "name",
    "kind",
    "status",
    "hint",
    "organization",
    "project",
    "environment",
    "owner",
    "description",
    "tags",
    "scopes",
    "allowed_ips",
    "rate_limit",
    "expires_at",
    "created_at",
    "created_by",
    "updated_at",
    "disabled_until",
    "last_used_at",
    "last_used_ip",
    "rotation_interval_days",
    "auto_rotate",
    "may_rotate_itself",
    "approval_bound",
    "secrets",
    "rotation",
    "revoked_at",
    "revoked_by",
    "revocation_reason",
}
UNKNOWN = "key_" + "a" * 20


def at(text):
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def known(made):
    return f"/api-keys/{made.key.id}"


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture(scope="module")
def operator(cast, django_db_blocker):
    """A program of the operator's own organization."""
    with django_db_blocker.unblock():
        owner, operator_id = builders.person("Oper"), tenancy.operator_id()
        with tenancy.within(operator_id):
            own = Organization.objects.get(pk=operator_id)
            appoint_owner(own, owner, actor=builders.OPERATOR)
        return calls.program(own, owner)


@pytest.fixture(scope="module")
def shelf(cast, django_db_blocker):
    """A project of its own with seven keys, and a program that sees them alone."""
    with django_db_blocker.unblock():
        project = builders.project(builders.root(cast.acme))
        below = builders.project(project)
        lab = builders.environment(cast.acme)
        reader = calls.key(cast.acme, cast.alice, ["keys:read"], project=project, name="shelf-reader")
        soon = timezone.now() + timedelta(days=3)
        rows = {
            "reader": reader,
            "plain": key_builders.create(cast.acme, cast.alice, project=project, name="shelf-plain"),
            "below": key_builders.create(cast.acme, cast.alice, project=below, name="below-shelf"),
            "lab": key_builders.create(
                cast.acme, cast.alice, project=project, environment=lab, name="shelf-lab"
            ),
            "soon": key_builders.create(
                cast.acme, cast.alice, project=project, expires=soon, name="shelf-soon"
            ),
            "never": key_builders.create(
                cast.acme,
                cast.alice,
                project=project,
                kind=Kind.INGESTION,
                scopes=["ingest:write"],
                expires=None,
                name="shelf-never",
            ),
            "bobs": key_builders.create(
                cast.acme,
                cast.alice,
                project=project,
                name="shelf-bobs",
                owner=Owner(member=cast.bob),
                tags={"team": "noc", "tier": "1"},
                scopes=["incidents:read", "incidents:write"],
            ),
        }
        assert key_builders.verify(rows["plain"].secret, cast.acme) == "VALID"
        return {"rows": rows, "below": below, "lab": lab, "api": Api(reader.secret), "bob": cast.bob}


class TestCreate:
    def test_works(self, cast, api):
        body = calls.draft(
            description="For the night shift",
            tags={"team": "noc"},
            allowed_ips=["203.0.113.7", "2001:db8::/32"],
            owner={"type": "member", "id": cast.bob.id},
            rotation_interval_days=30,
            expires_in_days=10,
        )
        with builders.gains(cast.acme.id, "key.created") as gained:
            answer = api.post("/api-keys", body)
        assert answer.status_code == 201
        assert set(answer.json()) == {"key", "secret"}
        key = answer.json()["key"]
        assert set(key) == FIELDS
        assert key["owner"] == {"type": "member", "id": cast.bob.id, "name": "Bob"}
        assert key["allowed_ips"] == ["203.0.113.7/32", "2001:db8::/32"]
        assert {name: key[name] for name in ("name", "kind", "environment", "tags", "description")} == {
            name: body[name] for name in ("name", "kind", "environment", "tags", "description")
        }
        assert key["organization"] == cast.acme.id
        assert timedelta(days=9.9) < at(key["expires_at"]) - at(key["created_at"]) < timedelta(days=10.1)
        assert gained[0].data["target"] == key["id"]
        assert gained[0].actor == key["created_by"]

    def test_the_secret_is_nowhere_else(self, api):
        answer = api.post("/api-keys", calls.draft())
        secret = answer.json()["secret"]
        assert answer.content.decode().count(secret) == 1
        assert answer.json()["key"]["hint"] == secret[:15] + "…"
        assert Api(secret).get("/me").status_code == 200
        shown = api.get(f"/api-keys/{answer.json()['key']['id']}")
        assert secret not in shown.content.decode()

    def test_neutral_values_of_what_is_to_come(self, api):
        body = calls.draft(rate_limit=None, auto_rotate=False, approval_bound=False)
        key = api.post("/api-keys", body).json()["key"]
        assert (key["rate_limit"], key["auto_rotate"], key["approval_bound"]) == (None, False, False)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("rate_limit", 5),
            ("rate_limit", []),
            ("auto_rotate", True),
            ("approval_bound", True),
            ("id", "key_mine"),
            ("created_by", "usr_mine"),
            ("organization_id", "org_mine"),
            ("newest_version", 7),
            ("secret", "mine"),
            ("name", 7),
            ("name", ""),
            ("name", "-a"),
            ("name", "A"),
            ("name", "a" * 64),
            ("name", "a\n"),
            ("kind", "root"),
            ("environment", "live"),
            ("environment", "nowhere"),
            ("environment", "\x00"),
            ("scopes", []),
            ("scopes", "incidents:read"),
            ("scopes", ["nobody:knows"]),
            ("scopes", ["*:*"]),
            ("scopes", ["a:b"] * 65),
            ("scopes", [None]),
            ("project", UNKNOWN),
            ("project", 7),
            ("description", "x" * 1001),
            ("description", "\x00"),
            ("description", "\ud800"),
            ("tags", {"A": "b"}),
            ("tags", {"a": 1}),
            ("tags", {str(n): "" for n in range(21)}),
            ("tags", []),
            ("allowed_ips", ["203.0.113.1/24"]),
            ("allowed_ips", ["all"]),
            ("allowed_ips", ["203.0.113.1"] * 65),
            ("may_rotate_itself", "yes"),
            ("may_rotate_itself", 1),
            ("rotation_interval_days", 0),
            ("rotation_interval_days", 366),
            ("rotation_interval_days", "30"),
            ("rotation_interval_days", 30.5),
            ("rotation_interval_days", True),
            ("expires_at", None),
            ("expires_at", "tomorrow"),
            ("expires_at", "2020-01-01T00:00:00Z"),
            ("expires_at", "2999-01-01T00:00:00Z"),
            ("expires_at", "2027-01-01T00:00:00"),
            ("expires_at", "2027-01-01"),
            ("expires_at", "0001-01-01T00:00:00+23:59"),
            ("expires_at", 1800000000),
            ("expires_in_days", 0),
            ("expires_in_days", 10**30),
            ("owner", {"type": "member", "id": "usr_nobody"}),
            ("owner", {"type": "team", "name": ""}),
            ("owner", {"type": "team", "name": "x" * 101}),
            ("owner", {"type": "god"}),
            ("owner", {"type": "team", "name": "a", "id": "usr_x"}),
            ("owner", "NOC"),
        ],
    )
    def test_what_is_refused(self, cast, api, name, value):
        with builders.gains(cast.acme.id):
            problem = is_problem(api.post("/api-keys", calls.draft(**{name: value})), 422, "invalid_value")
        assert {location.partition(".")[0].partition("[")[0] for location in where(problem)} == {name}

    def test_what_is_missing_is_told_at_once(self, api):
        problem = is_problem(api.post("/api-keys", {}), 422, "invalid_value")
        assert sorted(where(problem)) == ["environment", "kind", "name", "scopes"]

    def test_both_ways_to_say_when(self, api):
        body = calls.draft(expires_in_days=3, expires_at="2027-01-01T00:00:00Z")
        assert where(is_problem(api.post("/api-keys", body), 422, "invalid_value")) == ["expires_in_days"]

    def test_a_name_that_is_taken(self, api):
        body = calls.draft()
        assert api.post("/api-keys", body).status_code == 201
        is_problem(api.post("/api-keys", body), 409, "name_taken")

    def test_a_strangers_member_is_as_unknown_as_nobody(self, cast, api):
        answers = [
            api.post("/api-keys", calls.draft(name="who", owner={"type": "member", "id": user_id}))
            for user_id in (cast.mallory.id, "usr_" + "a" * 20)
        ]
        assert without_id(answers[0]) == without_id(answers[1])

    def test_a_strangers_project_is_as_unknown_as_none(self, cast, api):
        answers = [
            api.post("/api-keys", calls.draft(name="where", project=project_id))
            for project_id in (builders.root(cast.elsewhere).id, "prj_" + "a" * 20)
        ]
        assert answers[0].status_code == 422
        assert without_id(answers[0]) == without_id(answers[1])

    def test_a_secret_in_the_wrong_field_is_not_repeated(self, api):
        for body in (
            calls.draft(name=api.secret),
            calls.draft(**{api.secret: 1}),
            calls.draft(scopes=[api.secret]),
            calls.draft(tags={api.secret: "x"}),
            calls.draft(environment=api.secret),
            calls.draft(owner={"type": api.secret}),
        ):
            answer = api.post("/api-keys", body)
            assert answer.status_code == 422
            assert api.secret not in answer.content.decode()
            assert api.secret[20:40] not in answer.content.decode()

    @pytest.mark.parametrize("field", ["description", "owner", "tags"])
    def test_a_secret_in_a_free_text_is_not_kept(self, api, field):
        values = {
            "description": f"was {api.secret}",
            "owner": {"type": "team", "name": api.secret},
            "tags": {"old": api.secret},
        }
        answer = api.post("/api-keys", calls.draft(**{field: values[field]}))
        assert where(is_problem(answer, 422, "invalid_value"))[0].startswith(field)
        assert api.secret not in answer.content.decode()

    def test_two_of_one_name_at_once(self, api):
        body = calls.draft()
        answers = calls.at_once(2, lambda _: api.post("/api-keys", body))
        assert sorted(answer.status_code for answer in answers) == [201, 409]


class TestNobodyGrantsMoreThanTheyHold:
    def test_scopes(self, cast):
        api = calls.program(cast.acme, cast.alice, ["keys:write"])
        is_problem(api.post("/api-keys", calls.draft(scopes=["incidents:read"])), 403, "exceeds_grant")
        assert api.post("/api-keys", calls.draft(scopes=["keys:write"])).status_code == 201

    def test_a_wildcard_is_more_than_its_parts(self, cast):
        api = calls.program(cast.acme, cast.alice, ["keys:write", "incidents:read", "incidents:write"])
        is_problem(api.post("/api-keys", calls.draft(scopes=["incidents:*"])), 403, "exceeds_grant")

    def test_break_glass_is_an_owners_alone(self, cast, api):
        is_problem(api.post("/api-keys", calls.draft(scopes=["keys:breakglass"])), 403, "exceeds_grant")

    def test_its_project_and_below(self, cast):
        root = builders.root(cast.acme)
        own, beside = builders.project(root), builders.project(root)
        api = calls.program(cast.acme, cast.alice, project=own)
        below = builders.project(own)
        assert api.post("/api-keys", calls.draft(project=below.id)).status_code == 201
        assert api.post("/api-keys", calls.draft()).json()["key"]["project"] == own.id
        for project in (root, beside):
            is_problem(api.post("/api-keys", calls.draft(project=project.id)), 403, "forbidden")

    def test_live_or_test(self, cast):
        other = builders.environment(cast.acme)
        live = calls.program(cast.acme, cast.alice)
        is_problem(live.post("/api-keys", calls.draft(environment=other.slug)), 403, "exceeds_grant")
        test = calls.program(cast.acme, cast.alice, environment=other)
        is_problem(test.post("/api-keys", calls.draft()), 403, "exceeds_grant")
        made = test.post("/api-keys", calls.draft(environment=other.slug))
        assert made.json()["secret"].startswith("ks_cp_test_")

    def test_its_addresses(self, cast):
        made = calls.key(cast.acme, cast.alice, allowed_ips=["198.51.100.0/24"])
        api = Api(made.secret)
        for networks in ([], ["0.0.0.0/0"], ["198.51.100.0/23"], ["198.51.100.7", "203.0.113.1"]):
            is_problem(api.post("/api-keys", calls.draft(allowed_ips=networks)), 403, "exceeds_grant")
        assert api.post("/api-keys", calls.draft()).json()["key"]["allowed_ips"] == ["198.51.100.0/24"]
        assert api.post("/api-keys", calls.draft(allowed_ips=["198.51.100.8"])).status_code == 201

    def test_its_expiry(self, cast):
        made = calls.key(cast.acme, cast.alice, expires=timezone.now() + timedelta(days=3))
        api = Api(made.secret)
        is_problem(api.post("/api-keys", calls.draft(expires_in_days=4)), 403, "exceeds_grant")
        cut = api.post("/api-keys", calls.draft()).json()["key"]
        assert at(cut["expires_at"]) == made.key.expires_at

    def test_a_retiring_secret_gives_no_more_than_its_grace(self, cast):
        made = calls.key(cast.acme, cast.alice)
        key_builders.rotate(made.key, cast.acme, cast.alice, grace_seconds=3600)
        key = Api(made.secret).post("/api-keys", calls.draft()).json()["key"]
        assert at(key["expires_at"]) < datetime.now(UTC) + timedelta(hours=1)

    def test_no_key_changes_itself(self, cast):
        made = calls.key(cast.acme, cast.alice)
        for change in ({"scopes": ["keys:read"]}, {"name": "other-name"}, {}, {"enabled": False}):
            with builders.gains(cast.acme.id):
                is_problem(Api(made.secret).patch(known(made), change), 403, "forbidden")

    def test_no_key_widens_another(self, cast):
        weak = calls.program(cast.acme, cast.alice, ["keys:write", "incidents:read"])
        other = key_builders.create(cast.acme, cast.alice, allowed_ips=["203.0.113.0/24"])
        is_problem(weak.patch(known(other), {"scopes": ["incidents:write"]}), 403, "exceeds_grant")
        bound = calls.program(cast.acme, cast.alice, allowed_ips=["198.51.100.0/24"])
        is_problem(bound.patch(known(other), {"allowed_ips": []}), 403, "exceeds_grant")
        short = calls.program(cast.acme, cast.alice, expires=timezone.now() + timedelta(days=2))
        later = (timezone.now() + timedelta(days=80)).isoformat()
        is_problem(short.patch(known(other), {"expires_at": later}), 403, "exceeds_grant")

    def test_enabling_needs_all_that_it_opens_and_disabling_nothing(self, cast):
        weak = calls.program(cast.acme, cast.alice, ["keys:write"])
        other = key_builders.create(cast.acme, cast.alice)
        soon, later = ((timezone.now() + timedelta(hours=hours)).isoformat() for hours in (1, 2))
        assert weak.patch(known(other), {"disabled_until": soon}).status_code == 200
        assert weak.patch(known(other), {"disabled_until": later}).status_code == 200
        for change in ({"disabled_until": soon}, {"disabled_until": None}, {"enabled": True}):
            is_problem(weak.patch(known(other), change), 403, "exceeds_grant")
        assert weak.patch(known(other), {"enabled": False}).status_code == 200
        is_problem(weak.patch(known(other), {"enabled": True}), 403, "exceeds_grant")

    def test_rotating_another_gives_no_secret_for_more_addresses(self, cast):
        networks = ["198.51.100.0/24"]
        bound = calls.program(cast.acme, cast.alice, ["keys:rotate", "incidents:read"], allowed_ips=networks)
        anywhere = key_builders.create(cast.acme, cast.alice, scopes=["incidents:read"])
        as_bound = key_builders.create(cast.acme, cast.alice, scopes=["incidents:read"], allowed_ips=networks)
        is_problem(bound.post(f"{known(anywhere)}/rotate", {}), 403, "exceeds_grant")
        assert bound.post(f"{known(as_bound)}/rotate", {}).status_code == 201


class TestOperator:
    def test_creates_for_a_customer(self, cast, operator):
        with builders.gains(cast.acme.id, "key.created"):
            answer = operator.post("/api-keys", calls.draft(organization=cast.acme.id))
        assert answer.json()["key"]["organization"] == cast.acme.id
        assert answer.json()["key"]["project"] == builders.root(cast.acme).id

    def test_a_customers_policy_holds_for_the_operator(self, operator):
        owner = builders.person("Olga")
        strict = builders.organization("Strict", owner=owner)
        gov.rule(strict, owner, approvals_required="production")
        asked = calls.draft(organization=strict.id, kind="service")
        with builders.gains(strict.id):
            found = is_problem(operator.post("/api-keys", asked), 422, "invalid_value")
        assert calls.where(found) == ["approval_bound"]
        assert operator.post("/api-keys", asked | {"approval_bound": True}).status_code == 201

    def test_lists_a_customers(self, cast, operator, made):
        found = operator.get(f"/api-keys?organization={cast.acme.id}&q={made.key.id}").json()["data"]
        assert [key["id"] for key in found] == [made.key.id]

    def test_without_it_acts_in_its_own(self, operator, made):
        assert operator.get(f"/api-keys?q={made.key.id}").json()["data"] == []
        is_problem(operator.get(known(made)), 404, "not_found")

    def test_an_unknown_organization(self, operator):
        for answer in (
            operator.post("/api-keys", calls.draft(organization="org_nobody")),
            operator.get("/api-keys?organization=org_nobody"),
        ):
            is_problem(answer, 404, "not_found")

    def test_the_same_idempotency_key_for_two_customers(self, cast, operator):
        headers = {"Idempotency_Key": builders.unique("once")}
        ids = {
            operator.post("/api-keys", calls.draft(organization=place.id), **headers).json()["key"]["id"]
            for place in (cast.acme, cast.elsewhere)
        }
        assert len(ids) == 2

    def test_verifies_everybodys(self, operator, made):
        assert operator.post("/keys/verify", {"secret": made.secret}).json()["code"] == "VALID"

    def test_nobody_else_names_one(self, cast, api):
        for place in (cast.acme.id, cast.elsewhere.id, "org_nobody"):
            for answer in (
                api.post("/api-keys", calls.draft(organization=place)),
                api.get(f"/api-keys?organization={place}"),
            ):
                assert where(is_problem(answer, 422, "invalid_value")) == ["organization"]


class TestOne:
    def test_works(self, cast, api, made):
        with builders.gains(cast.acme.id):
            key = api.get(known(made)).json()
        assert set(key) == FIELDS
        assert (key["id"], key["status"], key["rotation"]) == (made.key.id, "active", None)
        assert [secret["version"] for secret in key["secrets"]] == [1]

    def test_a_strangers_and_an_unknown_are_the_same(self, cast, stranger, made):
        for call in (
            lambda key_id: stranger.get(f"/api-keys/{key_id}"),
            lambda key_id: stranger.patch(f"/api-keys/{key_id}", {"name": "mine"}),
            lambda key_id: stranger.delete(f"/api-keys/{key_id}"),
            lambda key_id: stranger.post(f"/api-keys/{key_id}/revoke", {"reason": "leaked"}),
            lambda key_id: stranger.post(f"/api-keys/{key_id}/rotate"),
            lambda key_id: stranger.post("/keys/rotate", {"key_id": key_id}),
        ):
            foreign, unknown = call(made.key.id), call(UNKNOWN)
            is_problem(foreign, 404, "not_found")
            assert without_id(foreign) == without_id(unknown)
            assert set(foreign.headers) == set(unknown.headers)

    @pytest.mark.parametrize("text", ["key_x", "%00", "key_" + "A" * 20, "key_" + "a" * 21, "é", "x" * 3000])
    def test_what_is_no_id(self, api, text):
        is_problem(api.get(f"/api-keys/{text}"), 404, "not_found")

    def test_another_projects_is_not_there(self, cast, made):
        api = calls.program(cast.acme, cast.alice, project=builders.project(builders.root(cast.acme)))
        is_problem(api.get(known(made)), 404, "not_found")

    def test_last_use(self, cast, api, made):
        assert key_builders.verify(made.secret, cast.acme) == "VALID"
        key = api.get(known(made)).json()
        assert key["last_used_ip"] == "203.0.113.9"
        assert key["last_used_at"] == key["secrets"][0]["last_used_at"] is not None


class TestChange:
    def test_works(self, cast, api, made):
        change = {
            "name": builders.unique("renamed"),
            "description": "Other words",
            "tags": {"team": "core"},
            "owner": {"type": "team", "name": "Core"},
            "rotation_interval_days": 7,
            "may_rotate_itself": False,
        }
        with builders.gains(cast.acme.id, "key.changed"):
            key = api.patch(known(made), change).json()
        assert {name: key[name] for name in change} == change
        assert at(key["updated_at"]) > at(key["created_at"])

    def test_what_is_left_out_stays(self, cast, api, made):
        before = api.get(known(made)).json()
        with builders.gains(cast.acme.id):
            assert api.patch(known(made), {}).json() == before

    def test_disabling_and_enabling(self, cast, api, made):
        with builders.gains(cast.acme.id, "key.disabled"):
            assert api.patch(known(made), {"enabled": False}).json()["status"] == "disabled"
        assert key_builders.verify(made.secret, cast.acme) == "DISABLED"
        with builders.gains(cast.acme.id, "key.enabled"):
            assert api.patch(known(made), {"enabled": True}).json()["status"] == "active"
        until = (timezone.now() + timedelta(minutes=15)).isoformat()
        assert api.patch(known(made), {"disabled_until": until}).json()["status"] == "disabled"
        assert api.patch(known(made), {"disabled_until": None}).json()["disabled_until"] is None

    def test_scopes_and_expiry(self, cast, made):
        api = calls.program(cast.acme, cast.alice, [*calls.MANAGING, "incidents:write"])
        with builders.gains(cast.acme.id, "key.scopes_changed"):
            key = api.patch(known(made), {"scopes": ["incidents:write"]}).json()
        assert key["scopes"] == ["incidents:write"]
        soon = (timezone.now() + timedelta(days=2)).isoformat().replace("+00:00", "Z")
        key = api.patch(known(made), {"expires_at": soon}).json()
        assert key["expires_at"] == key["secrets"][0]["expires_at"] == soon

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("id", UNKNOWN),
            ("created_by", "usr_x"),
            ("kind", "service"),
            ("environment", "lab"),
            ("project", "prj_x"),
            ("organization", "org_x"),
            ("revoked_at", None),
            ("newest_version", 9),
            ("name", None),
            ("name", "No"),
            ("enabled", "yes"),
            ("enabled", None),
            ("scopes", []),
            ("tags", None),
            ("disabled_until", "2020-01-01T00:00:00Z"),
            ("expires_at", None),
            ("auto_rotate", True),
            ("rate_limit", "gold"),
        ],
    )
    def test_what_is_refused(self, cast, api, made, name, value):
        with builders.gains(cast.acme.id):
            problem = is_problem(api.patch(known(made), {name: value}), 422, "invalid_value")
        assert where(problem) == [name]

    def test_a_name_that_is_taken(self, cast, api, made):
        other = key_builders.create(cast.acme, cast.alice)
        is_problem(api.patch(known(made), {"name": other.key.name}), 409, "name_taken")

    def test_what_has_ended_stays(self, api, made):
        assert api.delete(known(made)).status_code == 204
        is_problem(api.patch(known(made), {"name": "again-i-say"}), 409, "state_forbids")


class TestRevoke:
    def test_works(self, cast, api, made):
        with builders.gains(cast.acme.id, "key.revoked") as gained:
            answer = api.post(f"{known(made)}/revoke", {"reason": "leaked", "note": "In a log"})
        assert (answer.status_code, answer.content, "Content-Type" in answer) == (204, b"", False)
        assert gained[0].data["reason"] == "leaked"
        key = api.get(known(made)).json()
        assert (key["status"], key["revocation_reason"]) == ("revoked", "leaked")
        assert key["revoked_by"] == gained[0].actor
        assert key_builders.verify(made.secret, cast.acme) == "REVOKED"

    @pytest.mark.parametrize("body", [None, {}, {"reason": "unused"}])
    def test_delete_does_the_same(self, cast, api, made, body):
        assert api.delete(known(made), body).status_code == 204
        expected = (body or {}).get("reason", "other")
        assert api.get(known(made)).json()["revocation_reason"] == expected

    def test_again_answers_the_same(self, cast, api, made):
        assert api.delete(known(made), {"reason": "leaked"}).status_code == 204
        with builders.gains(cast.acme.id):
            assert api.delete(known(made)).status_code == 204
            assert api.post(f"{known(made)}/revoke", {"reason": "unused"}).status_code == 204
        assert api.get(known(made)).json()["revocation_reason"] == "leaked"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("reason", "boredom"), ("reason", None), ("note", "x" * 1001), ("note", 1), ("force", True)],
    )
    def test_what_is_refused(self, api, made, name, value):
        for answer in (
            api.delete(known(made), {name: value}),
            api.post(f"{known(made)}/revoke", {name: value}),
        ):
            assert where(is_problem(answer, 422, "invalid_value")) == [name]

    def test_a_key_may_end_itself(self, cast):
        made = calls.key(cast.acme, cast.alice)
        assert Api(made.secret).delete(known(made)).status_code == 204

    def test_no_verification_after_the_answer_succeeds(self, cast, api, made):
        """Threads that begin after the answer, each with connections of its own, see REVOKED."""
        assert api.delete(known(made)).status_code == 204
        answers = calls.at_once(8, lambda _: api.post("/keys/verify", {"secret": made.secret}).json()["code"])
        assert answers == ["REVOKED"] * 8


class TestList:
    def names(self, shelf, query):
        answer = shelf["api"].get(f"/api-keys?{query}")
        assert answer.status_code == 200, answer.content
        ids = {row.key.id: name for name, row in shelf["rows"].items()}
        return [ids[key["id"]] for key in answer.json()["data"]]

    def test_works(self, cast, shelf):
        with builders.gains(cast.acme.id):
            found = shelf["api"].get("/api-keys").json()
        assert found["next_cursor"] is None
        assert set(found["data"][0]) == FIELDS
        assert self.names(shelf, "") == ["bobs", "never", "soon", "lab", "below", "plain", "reader"]

    def test_filters(self, shelf):
        key = shelf["rows"]["bobs"].key
        for query, expected in {
            "kind=ingestion": {"never"},
            f"environment={shelf['lab'].slug}": {"lab"},
            "environment=none": set(),
            f"project={shelf['below'].id}": {"below"},
            "project=prj_none": set(),
            f"owner={shelf['bob'].id}": {"bobs"},
            "owner=Nobody": set(),
            "scope=incidents:write": {"bobs"},
            "scope=ingest:write": {"never"},
            "tag=team:noc": {"bobs"},
            "tag=team:noc&tag=tier:1": {"bobs"},
            "tag=team:noc&tag=tier:2": set(),
            f"q={key.id}": {"bobs"},
            f"q={key.hint}": {"bobs"},
            f"q=ks_cp_live_{key.hint}…": {"bobs"},
            "q=below": {"below"},
            "q=BELOW": {"below"},
            "q=shelf": set(shelf["rows"]) - {"below"},
            "q=elf": set(),
            "q=%25": set(),
            "q=%00": set(),
            "status=revoked": set(),
            "status=active": set(shelf["rows"]),
            "expires_before=2020-01-01T00:00:00Z": set(),
            f"expires_before={(timezone.now() + timedelta(days=4)).isoformat().replace('+00:00', 'Z')}": {
                "soon"
            },
            "unused_since=2020-01-01T00:00:00Z": set(),
        }.items():
            assert set(self.names(shelf, query)) == expected, query

    def test_unused(self, shelf):
        now = timezone.now().isoformat().replace("+00:00", "Z")
        # The key that asks is used as it does, and says so once a minute.
        assert {*self.names(shelf, f"unused_since={now}"), "reader"} == set(shelf["rows"])
        used_at = shelf["api"].get("/api-keys?q=shelf-plain").json()["data"][0]["last_used_at"]
        assert "plain" not in self.names(shelf, f"unused_since={used_at}")

    @pytest.mark.parametrize("sort", ["created_at", "last_used_at", "expires_at", "name"])
    @pytest.mark.parametrize("sign", ["", "-"])
    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_pages(self, shelf, sort, sign, limit):
        whole = shelf["api"].get(f"/api-keys?sort={sign}{sort}&limit=200").json()["data"]
        values = [key[sort] for key in whole]
        full = [value for value in values if value is not None]
        assert full == sorted(full, reverse=bool(sign))
        assert values == full + [None] * (len(values) - len(full))
        seen, cursor = [], ""
        for _ in range(8):
            page = shelf["api"].get(f"/api-keys?sort={sign}{sort}&limit={limit}{cursor}").json()
            assert len(page["data"]) <= limit
            seen += page["data"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        # But for the key that asks: it moves as its minute turns.
        asking = shelf["rows"]["reader"].key.id
        shown, expected = ([key["id"] for key in keys if key["id"] != asking] for keys in (seen, whole))
        assert shown == expected

    def test_a_key_that_is_made_meanwhile_shifts_nothing(self, cast, django_db_setup):
        where_ = builders.organization("Busy", owner=cast.alice)
        api = calls.program(where_, cast.alice, ["keys:read"])
        first = [key_builders.create(where_, cast.alice).key.id for _ in range(3)]
        page = api.get("/api-keys?limit=2").json()
        key_builders.create(where_, cast.alice)
        rest = api.get(f"/api-keys?limit=9&cursor={page['next_cursor']}").json()
        assert [key["id"] for key in page["data"]] == first[:0:-1]
        assert rest["data"][0]["id"] == first[0]

    def test_strangers_see_nothing_of_it(self, shelf, stranger):
        row = shelf["rows"]["bobs"].key
        for query in ("", f"q={row.id}", f"q={row.hint}", f"owner={shelf['bob'].id}", "q=shelf"):
            ids = {key["id"] for key in stranger.get(f"/api-keys?{query}").json()["data"]}
            assert ids.isdisjoint(made.key.id for made in shelf["rows"].values())

    def test_a_cursor_of_another_list(self, shelf, stranger):
        cursor = shelf["api"].get("/api-keys?limit=1").json()["next_cursor"]
        for query in (f"sort=name&cursor={cursor}", f"kind=service&cursor={cursor}"):
            assert where(is_problem(shelf["api"].get(f"/api-keys?{query}"), 422, "invalid_value")) == [
                "cursor"
            ]
        is_problem(stranger.get(f"/api-keys?cursor={cursor}"), 422, "invalid_value")

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=201",
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "sort=id",
            "sort=--name",
            "status=gone",
            "kind=root",
            "cursor=x",
            "cursor=" + "A" * 600,
            "cursor=W10",
            "cursor=bnVsbA",
            "cursor=%00",
            "cursor=é",
            "tag=team",
            "&".join(["tag=a:b"] * 21),
            "expires_before=soon",
            "unused_since=2027-01-01",
            "statu=active",
            "q=" + "x" * 111,
        ],
    )
    def test_what_is_refused(self, api, query):
        is_problem(api.get(f"/api-keys?{query}"), 422, "invalid_value")

    @pytest.mark.parametrize("position", range(5))
    @pytest.mark.parametrize("value", ["x", None, 7, [], {}, "\x00", True, 1e400])
    def test_a_forged_cursor(self, shelf, position, value):
        import base64
        import json

        cursor = shelf["api"].get("/api-keys?limit=1&sort=name").json()["next_cursor"]
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=="))
        parts[position] = value
        forged = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
        answer = shelf["api"].get(f"/api-keys?limit=1&sort=name&cursor={forged}")
        # A name that is one is no forgery to refuse: it is another place in a list that the caller sees anyway.
        assert answer.status_code == (200 if (position, value) == (3, "x") else 422)

    def test_a_constant_number_of_queries(self, shelf):
        def queries(limit):
            with (
                CaptureQueriesContext(connections["default"]) as own,
                CaptureQueriesContext(connections["verify"]) as verify,
            ):
                assert shelf["api"].get(f"/api-keys?limit={limit}").status_code == 200
            return len(own) + len(verify)

        assert queries(1) == queries(7) < 25
