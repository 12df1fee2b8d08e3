"""`POST /v1/api-keys/break-glass`: the scope, the reach, the filter, the dry run, once for all."""

import json
from dataclasses import replace

import pytest

from audit import tenancy
from keys import callers, services
from keys.models import ApiKey, Incident
from orgs.models import Organization
from orgs.services import appoint_owner
from tests import builders, key_builders, ledgers, usage_builders
from tests.api import calls

PATH = "/api-keys/break-glass"
BREAKING = ("keys:breakglass", "keys:verify")


def stepped_up(where, by):
    return replace(callers.of_member(builders.member(by, where)), has_stepped_up=True)


def breaker(where, by, scopes=BREAKING, **changes):
    """Make a key that may break the glass: an owner's, under step-up."""
    fields = {
        "kind": key_builders.Kind.CONTROL_PLANE,
        "name": builders.unique("breaker"),
        "project": builders.root(where),
        "environment": builders.production(where),
        "scopes": list(scopes),
    }
    with tenancy.within(where.id):
        return services.create_key(services.Draft(**{**fields, **changes}), actor=stepped_up(where, by))


@pytest.fixture
def project(cast):
    return builders.project(builders.root(cast.acme))


@pytest.fixture(scope="module")
def api(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return calls.Api(breaker(cast.acme, cast.alice).secret)


@pytest.fixture(scope="module")
def operator(cast, django_db_blocker):
    with django_db_blocker.unblock():
        owner, operator_id = builders.person("Oper"), tenancy.operator_id()
        with tenancy.within(operator_id):
            own = Organization.objects.get(pk=operator_id)
            appoint_owner(own, owner, actor=builders.OPERATOR)
        return calls.Api(breaker(own, owner).secret)


def make(cast, project, number=1, **changes):
    return [key_builders.create(cast.acme, cast.alice, project=project, **changes) for _ in range(number)]


def body(project, **changes):
    return {"filter": {"project": project.id}, "reason": "A laptop was stolen", **changes}


class TestAct:
    def test_it_revokes_and_names_the_incident(self, cast, api, project):
        made = make(cast, project, 2)
        response = api.post(PATH, body(project))
        assert response.status_code == 200, response.content
        found = response.json()
        assert (found["dry_run"], found["count"], found["includes_caller"]) == (False, 2, False)
        assert {key["id"] for key in found["keys"]} == {one.key.id for one in made}
        with tenancy.within(cast.acme.id):
            assert Incident.objects.get(pk=found["incident"]).reason == "A laptop was stolen"
        verified = api.post("/keys/verify", {"secret": made[0].secret}).json()
        assert verified["code"] == "REVOKED"

    def test_a_dry_run_tells_and_changes_nothing(self, cast, api, project):
        made = make(cast, project, 2)
        usage_builders.call(made[1].key, calls=5)
        with builders.gains(cast.acme.id):
            found = api.post(PATH, body(project, dry_run=True, reason="")).json()
        assert (found["dry_run"], found["count"], found["incident"]) == (True, 2, None)
        assert [key["calls_24h"] for key in found["keys"]] == [5, 0]
        assert found["keys"][0] | {"last_used_at": None} == {
            "id": made[1].key.id,
            "name": made[1].key.name,
            "calls_24h": 5,
            "last_used_at": None,
        }
        assert [key_builders.verify(one.secret, cast.acme) for one in made] == ["VALID"] * 2

    def test_the_same_idempotency_key_gets_the_first_answer(self, cast, api, project):
        make(cast, project)
        first = api.post(PATH, body(project), Idempotency_Key="leak-7")
        make(cast, project)
        with builders.gains(cast.acme.id):
            again = api.post(PATH, body(project), Idempotency_Key="leak-7")
        assert again.json() == first.json()
        other = api.post(PATH, body(project, reason="Else"), Idempotency_Key="leak-7")
        calls.is_problem(other, 422, "idempotency_key_reused")

    def test_a_dry_run_is_never_replayed(self, cast, api, project):
        asked = body(project, dry_run=True)
        assert api.post(PATH, asked, Idempotency_Key="dry-7").json()["count"] == 0
        make(cast, project)
        assert api.post(PATH, asked, Idempotency_Key="dry-7").json()["count"] == 1

    def test_the_calling_key_goes_too_and_is_told(self, cast, project):
        own = breaker(cast.acme, cast.alice, project=project)
        api = calls.Api(own.secret)
        assert api.post(PATH, body(project, dry_run=True)).json()["includes_caller"] is True
        found = api.post(PATH, body(project)).json()
        assert (found["count"], found["includes_caller"]) == (1, True)
        calls.is_problem(api.post(PATH, body(project)), 401, "invalid_token")

    def test_nothing_that_matches_is_no_error(self, api, project):
        found = api.post(PATH, body(project)).json()
        assert (found["count"], found["incident"], found["keys"]) == (0, None, [])

    def test_tags_come_one_or_several(self, cast, api, project):
        make(cast, project, tags={"team": "noc", "tier": "a"})
        make(cast, project, tags={"team": "noc"})

        def ask(tag):
            sent = {"filter": {"project": project.id, "tag": tag}, "dry_run": True}
            return api.post(PATH, sent).json()["count"]

        assert (ask("team:noc"), ask(["team:noc", "tier:a"]), ask(["team:else"])) == (2, 1, 0)


class TestFilter:
    @pytest.mark.parametrize(
        "given",
        [{}, {"tag": []}, {"q": "  "}, {"environment": None}, {"owner": ""}, {"kind": None, "q": None}],
    )
    def test_an_empty_one_is_refused(self, api, given):
        found = calls.is_problem(api.post(PATH, {"filter": given, "reason": "x"}), 422, "invalid_value")
        assert calls.where(found) == ["filter"]
        dry = api.post(PATH, {"filter": given, "dry_run": True})
        assert calls.where(calls.is_problem(dry, 422, "invalid_value")) == ["filter"]

    @pytest.mark.parametrize(
        ("given", "location"),
        [
            ({"id": "key_x"}, "filter.id"),
            ({"limit": 1}, "filter.limit"),
            ({"status": "revoked"}, "filter.status"),
            ({"kind": "any"}, "filter.kind"),
            ({"environment": "no-such"}, "filter.environment"),
            ({"project": "prj_" + "a" * 20}, "filter.project"),
            ({"tag": "team"}, "filter.tag"),
            ({"tag": ["team:noc", 1]}, "filter.tag[1]"),
            ({"q": "a\0b"}, "filter.q"),
            ({"created_before": "yesterday"}, "filter.created_before"),
            ({"project": ["a"]}, "filter.project"),
        ],
    )
    def test_what_it_can_not_mean_is_refused(self, api, given, location):
        found = calls.is_problem(api.post(PATH, {"filter": given, "reason": "x"}), 422, "invalid_value")
        assert location in calls.where(found)

    @pytest.mark.parametrize(
        "sent", [{}, {"filter": []}, {"filter": "all"}, {"filter": {"q": "x"}, "all": True}]
    )
    def test_a_body_of_another_shape_is_refused(self, api, sent):
        calls.is_problem(api.post(PATH, sent), 422, "invalid_value")

    def test_a_reason_is_needed_to_act(self, cast, api, project):
        make(cast, project)
        found = calls.is_problem(api.post(PATH, body(project, reason=" ")), 422, "invalid_value")
        assert calls.where(found) == ["reason"]

    def test_a_strangers_project_looks_like_an_unknown_one(self, cast, api):
        foreign, unknown = builders.root(cast.elsewhere).id, builders.new_id("prj")
        answers = [api.post(PATH, {"filter": {"project": p}, "reason": "x"}) for p in (foreign, unknown)]
        assert calls.without_id(answers[0]) == calls.without_id(answers[1])


class TestRight:
    def test_a_key_without_the_scope_leaves_an_entry(self, cast, project):
        made = make(cast, project)[0]
        api = calls.program(cast.acme, cast.alice)
        with builders.gains(cast.acme.id, "breakglass.refused") as gained:
            response = api.post(PATH, body(project))
        calls.is_problem(response, 403, "insufficient_scope")
        assert 'scope="keys:breakglass"' in response["WWW-Authenticate"]
        assert gained[0].data["cause"] == "scope"
        assert gained[0].actor.startswith("key_")
        assert key_builders.verify(made.secret, cast.acme) == "VALID"

    def test_no_key_leaves_none(self, cast, project):
        with builders.gains(cast.acme.id):
            calls.is_problem(calls.Api(None).post(PATH, body(project)), 401, "unauthenticated")

    def test_a_key_reaches_its_own_project_and_below(self, cast, project):
        below = builders.project(project)
        api = calls.Api(breaker(cast.acme, cast.alice, project=below).secret)
        outside, inside = make(cast, project)[0], make(cast, below)[0]
        found = api.post(PATH, {"filter": {"kind": "control_plane"}, "reason": "x"}).json()
        assert (found["count"], found["includes_caller"]) == (2, True)
        assert key_builders.verify(outside.secret, cast.acme) == "VALID"
        assert key_builders.verify(inside.secret, cast.acme) == "REVOKED"

    def test_an_organization_is_the_operators_to_name(self, cast, api):
        for named in (cast.acme.id, cast.elsewhere.id):
            sent = {"filter": {"organization": named}, "reason": "x"}
            found = calls.is_problem(api.post(PATH, sent), 422, "invalid_value")
            assert calls.where(found) == ["organization"]


class TestOperator:
    def test_it_takes_a_whole_customer(self, cast, operator):
        owner = builders.person("Owner")
        customer, neighbour = (
            builders.organization("Hit", owner=owner),
            builders.organization("Near", owner=owner),
        )
        made, spared = key_builders.create(customer, owner), key_builders.create(neighbour, owner)
        with builders.gains(customer.id, "key.revoked", "breakglass.executed") as gained:
            response = operator.post(PATH, {"filter": {"organization": customer.id}, "reason": "fraud"})
        assert response.json()["count"] == 1, response.content
        assert gained[1].data["filter"] == {"organization": customer.id}
        assert key_builders.verify(made.secret, customer) == "REVOKED"
        assert key_builders.verify(spared.secret, neighbour) == "VALID"

    def test_without_a_name_it_means_its_own(self, cast, operator):
        sent = {"filter": {"q": "no-such-key-anywhere"}, "dry_run": True}
        assert operator.post(PATH, sent).json()["count"] == 0

    def test_an_unknown_one_is_404(self, operator):
        sent = {"filter": {"organization": builders.new_id("org")}, "reason": "x"}
        calls.is_problem(operator.post(PATH, sent), 404, "not_found")


class TestWaiting:
    def test_a_key_that_is_held_answers_503_and_changes_nothing(self, cast, api, project, monkeypatch):
        monkeypatch.setattr("keys.services.breakglass.PATIENCE", "200ms")
        made = make(cast, project, 2)
        with ledgers.superuser(autocommit=False) as other:
            other.execute("SELECT 1 FROM keys_apikey WHERE id = %s FOR UPDATE", [made[0].key.id])
            response = api.post(PATH, body(project), Idempotency_Key="held-7")
        found = calls.is_problem(response, 503, "unavailable")
        assert "Nothing was revoked" in found["detail"]
        assert response["Retry-After"]
        with tenancy.within(cast.acme.id):
            assert ApiKey.objects.filter(project=project, revoked_at=None).count() == 2
        assert api.post(PATH, body(project), Idempotency_Key="held-7").json()["count"] == 2


def test_a_thousand_at_most_are_listed(cast, api, project, monkeypatch):
    monkeypatch.setattr("keys.api.breakglass.MOST_KEYS", 2)
    make(cast, project, 3)
    for dry_run in (True, False):
        found = json.loads(api.post(PATH, body(project, dry_run=dry_run)).content)
        assert (found["count"], len(found["keys"])) == (3, 2)
