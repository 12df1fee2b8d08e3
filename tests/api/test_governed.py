"""Verification of bound keys: only with an approval that was granted, and each use is spent once."""

import pytest

from audit import tenancy
from keys import services
from keys.models import ApprovalUse
from keys.secret import Kind
from keys.tasks import approvals as tasks
from orgs.roles import Role
from orgs.terms import RateLimit
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api import calls
from tests.api.calls import Api, as_superuser, at_once, rows

VERIFY = "/keys/verify"


@pytest.fixture
def bound(cast):
    return gov.bound_key(cast.acme, cast.bob)


@pytest.fixture
def approval(cast, bound):
    return gov.granted(cast.acme, bound.key, cast.alice)


def asked(made, approval=None, **changes):
    trace = {"trace": {"approval": getattr(approval, "id", approval)}} if approval else {}
    return {"secret": made.secret, "scopes": ["incidents:write"], **trace, **changes}


def code(api, *args, **changes):
    return api.post(VERIFY, asked(*args, **changes)).json()["code"]


def spent(approval):
    return rows("SELECT spent FROM keys_approvalspend WHERE approval_id = %s", approval.id)[0][0]


def uses(approval):
    query = "SELECT number FROM keys_approvaluse WHERE approval_id = %s ORDER BY number"
    return [row[0] for row in rows(query, approval.id)]


class TestNeed:
    def test_none_to_read(self, api, bound):
        found = api.post(VERIFY, asked(bound, scopes=["incidents:read"])).json()
        assert (found["code"], found["approval"]) == ("VALID", None)

    def test_none_where_no_scope_is_named(self, api, bound):
        assert code(api, bound, scopes=None) == "VALID"
        assert code(api, bound, scopes=[]) == "VALID"

    @pytest.mark.parametrize(
        "scopes",
        [
            ["incidents:write"],
            ["incidents:read", "incidents:write"],
            "incidents:read OR incidents:write",
            "incidents:write OR incidents:read",
            "incidents:read AND (incidents:read OR incidents:write)",
            "incidents:read OR unknown:read",
            "incidents:read OR incidents:*",
        ],
    )
    def test_one_wherever_something_more_is_named(self, api, bound, scopes):
        found = api.post(VERIFY, asked(bound, scopes=scopes)).json()
        assert (found["valid"], found["code"]) == (False, "APPROVAL_REQUIRED")
        assert (found["approval"], found["scopes"]) == (None, [])

    @pytest.mark.parametrize("scopes", [None, ["incidents:read"]])
    def test_the_answer_lists_nothing_that_needs_one(self, api, bound, scopes):
        """Or whoever goes by the list, as the SDK's second guard of a request does, asks for no approval."""
        found = api.post(VERIFY, asked(bound, scopes=scopes)).json()
        assert found["scopes"] == ["approvals:request", "incidents:read"]
        answer = api.get("/authorize", X_Forwarded_Api_Key=bound.secret)
        assert answer["X-Keystead-Scopes"] == "approvals:request incidents:read"

    def test_the_answer_lists_what_was_approved(self, cast, api):
        made = gov.bound_key(cast.acme, cast.alice, scopes=[*gov.SCOPES, "keys:write"])
        approval = gov.granted(cast.acme, made.key, cast.anna)
        found = api.post(VERIFY, asked(made, approval)).json()
        assert found["scopes"] == ["approvals:request", "incidents:read", "incidents:write"]

    def test_scopes_that_the_key_lacks_come_first(self, api, bound):
        assert code(api, bound, scopes=["admin:projects"]) == "INSUFFICIENT_SCOPE"

    def test_a_key_that_is_not_bound_needs_none(self, cast, api):
        made = key_builders.create(cast.acme, cast.alice, kind=Kind.SERVICE, scopes=list(gov.SCOPES))
        found = api.post(VERIFY, asked(made, "apr_aaaaaaaaaaaaaaaaaaaa")).json()
        assert (found["code"], found["approval"]) == ("VALID", None)

    def test_forward_auth_has_no_trace(self, api, bound):
        answer = api.get(
            "/authorize?scopes=incidents:write", X_Forwarded_Api_Key=bound.secret, X_Forwarded_Method="POST"
        )
        assert (answer.status_code, answer["X-Keystead-Code"]) == (403, "APPROVAL_REQUIRED")
        answer = api.get("/authorize?scopes=incidents:read", X_Forwarded_Api_Key=bound.secret)
        assert answer.status_code == 204


class TestUse:
    def test_works_once(self, cast, api, bound, approval):
        found = api.post(VERIFY, asked(bound, approval, request_id="run-1")).json()
        assert (found["valid"], found["code"]) == (True, "VALID")
        assert set(found["approval"]) == {
            "id", "scope", "resource", "parameters_digest", "uses_left", "valid_until"
        }  # fmt: skip
        told = found["approval"]
        assert (told["id"], told["scope"], told["resource"]) == (approval.id, "incidents:write", "db-7")
        assert (told["uses_left"], told["parameters_digest"]) == (0, gov.digest("parameters"))
        again = api.post(VERIFY, asked(bound, approval)).json()
        assert (again["code"], again["approval"]) == ("APPROVAL_REQUIRED", None)
        assert (spent(approval), uses(approval)) == (1, [1])

    def test_as_often_as_was_granted(self, cast, api, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice, uses=3)
        left = [api.post(VERIFY, asked(bound, approval)).json() for _ in range(4)]
        assert [one["code"] for one in left] == ["VALID"] * 3 + ["APPROVAL_REQUIRED"]
        assert [one["approval"]["uses_left"] for one in left[:3]] == [2, 1, 0]

    def test_a_look_spends_nothing(self, api, bound, approval):
        for _ in range(3):
            found = api.post(VERIFY, asked(bound, approval, cost=0)).json()
            assert (found["code"], found["approval"]["uses_left"]) == ("VALID", 1)
        assert (spent(approval), uses(approval)) == (0, [])
        assert code(api, bound, approval) == "VALID"
        assert code(api, bound, approval, cost=0) == "APPROVAL_REQUIRED"

    def test_a_large_cost_is_one_use(self, cast, api, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice, uses=2)
        assert [code(api, bound, approval, cost=50) for _ in range(3)] == [
            "VALID",
            "VALID",
            "APPROVAL_REQUIRED",
        ]

    def test_reading_spends_none(self, api, bound, approval):
        assert code(api, bound, approval, scopes=["incidents:read"]) == "VALID"
        assert spent(approval) == 0

    def test_a_call_that_the_limit_refuses_spends_none(self, cast, api):
        made = gov.bound_key(cast.acme, cast.bob, rate_limit=RateLimit(1, 3600))
        approval = gov.granted(cast.acme, made.key, cast.alice, uses=5)
        assert code(api, made, approval) == "VALID"
        assert [code(api, made, approval) for _ in range(2)] == ["RATE_LIMITED"] * 2
        assert (spent(approval), uses(approval)) == (1, [1])

    def test_an_approval_that_is_used_up_spends_no_limit(self, cast, api):
        made = gov.bound_key(cast.acme, cast.bob, rate_limit=RateLimit(2, 3600))
        approval = gov.granted(cast.acme, made.key, cast.alice)
        codes = [code(api, made, approval) for _ in range(3)]
        assert codes == ["VALID", "APPROVAL_REQUIRED", "APPROVAL_REQUIRED"]
        assert code(api, made, scopes=["incidents:read"]) == "VALID"
        assert code(api, made, scopes=["incidents:read"]) == "RATE_LIMITED"

    @pytest.mark.parametrize("limit", [None, RateLimit(100, 3600)])
    def test_many_at_once_spend_exactly_what_there_is(self, cast, api, limit):
        made = gov.bound_key(cast.acme, cast.bob, **({"rate_limit": limit} if limit else {}))
        approval = gov.granted(cast.acme, made.key, cast.alice, uses=7)
        codes = at_once(40, lambda _: code(api, made, approval))
        assert codes.count("VALID") == 7
        assert set(codes) == {"VALID", "APPROVAL_REQUIRED"}
        assert (spent(approval), uses(approval)) == (7, list(range(1, 8)))

    def test_a_group_of_bound_and_other_keys_is_judged_each_by_itself(self, cast, api, bound):
        free = key_builders.create(cast.acme, cast.alice, kind=Kind.SERVICE, scopes=list(gov.SCOPES))
        approval = gov.granted(cast.acme, bound.key, cast.alice, uses=5)

        def call(number):
            match number % 4:
                case 0:
                    return code(api, bound, approval)
                case 1:
                    return code(api, bound)
                case 2:
                    return code(api, free, approval)
                case _:
                    return code(api, bound, scopes=["incidents:read"])

        codes = at_once(40, call)
        assert [codes[0::4].count("VALID"), spent(approval)] == [5, 5]
        assert set(codes[1::4]) == {"APPROVAL_REQUIRED"}
        assert set(codes[2::4]) | set(codes[3::4]) == {"VALID"}


class TestWrongApproval:
    def test_before_it_is_granted_and_after_it_is_denied(self, cast, api, bound):
        made = gov.request(bound.key)
        assert code(api, bound, made) == "APPROVAL_REQUIRED"
        gov.deny(made, cast.acme, cast.alice)
        assert code(api, bound, made) == "APPROVAL_REQUIRED"

    def test_when_its_time_is_over(self, api, bound, approval):
        as_superuser("UPDATE keys_approval SET valid_until = clock_timestamp() WHERE id = %s", approval.id)
        assert code(api, bound, approval) == "APPROVAL_REQUIRED"
        assert spent(approval) == 0

    def test_of_another_key_or_tenant_or_none_the_answer_is_the_same(self, cast, api, bound):
        other = gov.granted(cast.acme, gov.bound_key(cast.acme, cast.bob).key, cast.alice)
        heir = builders.person("Heir")
        builders.join(heir, cast.elsewhere, Role.ADMIN)
        foreign = gov.granted(cast.elsewhere, gov.bound_key(cast.elsewhere, cast.mallory).key, heir)
        answers = [
            api.post(VERIFY, asked(bound, id_)) for id_ in (other.id, foreign.id, builders.new_id("apr"), "x")
        ]
        assert {answer.json()["code"] for answer in answers} == {"APPROVAL_REQUIRED"}
        assert len({calls.without_id(answer) for answer in answers}) == 1
        assert (spent(other), spent(foreign)) == (0, 0)

    def test_of_another_scope(self, cast, api):
        made = gov.bound_key(cast.acme, cast.alice, scopes=[*gov.SCOPES, "keys:write"])
        approval = gov.granted(cast.acme, made.key, cast.anna, scope="keys:write")
        assert code(api, made, approval) == "APPROVAL_REQUIRED"
        assert code(api, made, approval, scopes=["keys:write", "incidents:write"]) == "APPROVAL_REQUIRED"
        assert code(api, made, approval, scopes=["keys:write", "incidents:read"]) == "VALID"

    @pytest.mark.parametrize(
        "value",
        ["'; DROP TABLE keys_approval; --", "apr_" + "a" * 124, "\ud83d\ude00", "apr_AAAAAAAAAAAAAAAAAAAA", " ", "%s",
         "apr_aaaaaaaaaaaaaaaaaaaa\n"],
    )  # fmt: skip
    def test_poison_in_the_trace_harms_nobody(self, api, bound, approval, value):
        def call(number):
            return code(api, bound, approval) if number == 0 else code(api, bound, value)

        codes = at_once(6, call)
        assert codes == ["VALID"] + ["APPROVAL_REQUIRED"] * 5

    def test_a_trace_that_is_too_long_or_of_another_type_is_refused(self, api, bound):
        for value in ("a" * 129, 5, ["apr_a"], {"id": "apr_a"}, "a\0"):
            answer = api.post(VERIFY, asked(bound) | {"trace": {"approval": value}})
            assert answer.status_code == 422

    def test_a_scope_taken_away_since(self, cast, api, bound, approval):
        with tenancy.within(cast.acme.id):
            services.change_key(
                key_builders.read(bound.key.id, cast.acme),
                services.Changes(scopes=["incidents:read"]),
                actor=gov.person(cast.alice, cast.acme),
            )
        assert code(api, bound, approval) == "INSUFFICIENT_SCOPE"
        assert spent(approval) == 0

    def test_after_a_rotation_it_is_the_same_keys(self, cast, api, bound, approval):
        new = key_builders.rotate(bound.key, cast.acme, cast.alice)
        assert code(api, new, approval) == "VALID"
        assert code(api, bound, approval) == "APPROVAL_REQUIRED"


class TestLedger:
    def test_each_use_is_told_once_by_the_key_that_used_it(self, cast, api, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice, uses=2)
        tasks.record_uses(0)
        for number in (1, 2):
            code(api, bound, approval, request_id=f"run-{number}", ip="203.0.113.5")
        with builders.gains(cast.acme.id, "approval.used", "approval.used") as gained:
            tasks.record_uses(0)
            tasks.record_uses(0)
        assert [entry.actor for entry in gained] == [bound.key.id] * 2
        assert [entry.data["number"] for entry in gained] == [1, 2]
        assert [entry.data["request_id"] for entry in gained] == ["run-1", "run-2"]
        assert {entry.data["target"] for entry in gained} == {approval.id}

    def test_two_workers_at_once_tell_it_once(self, cast, api, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice, uses=5)
        for _ in range(5):
            code(api, bound, approval)

        def act(_number):
            with tenancy.within(cast.acme.id):
                return services.record_approval_uses(approval.id)

        with builders.gains(cast.acme.id, *["approval.used"] * 5):
            assert sum(at_once(4, act)) == 5

    def test_one_that_is_cut_off_leaves_it_to_the_next(self, cast, api, bound, approval):
        tasks.record_uses(0)
        code(api, bound, approval)
        with builders.gains(cast.acme.id), pytest.raises(KeyboardInterrupt), tenancy.within(cast.acme.id):
            services.record_approval_uses(approval.id)
            raise KeyboardInterrupt
        with tenancy.within(cast.acme.id):
            assert ApprovalUse.objects.get(approval_id=approval.id).told_at is None
        with builders.gains(cast.acme.id, "approval.used"):
            tasks.record_uses(0)

    def test_a_refused_call_is_recorded_as_such(self, bound, api):
        code(api, bound, request_id=builders.unique("run"), trace={"incident": "INC-9"})
        query = "SELECT code, cost, incident FROM keys_call WHERE key_id = %s"
        assert rows(query, bound.key.id) == [("APPROVAL_REQUIRED", 0, "INC-9")]


def test_a_program_cannot_use_what_its_verifier_may_not_see(cast, approval, bound):
    foreign = Api(calls.key(cast.elsewhere, cast.mallory, ["keys:verify"]).secret)
    assert code(foreign, bound, approval) == "NOT_FOUND"
    assert spent(approval) == 0
