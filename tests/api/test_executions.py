"""`/v1/executions`: what was done, once, beside what was planned."""

import pytest

from keys.secret import Kind
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api import calls
from tests.api.calls import Api, at_once, is_problem, where

PATH = "/executions"
FIELDS = {
    "id", "key", "execution", "approval", "incident", "request_id", "parameters_digest", "steps", "recorded_at",
    "parity",
}  # fmt: skip


@pytest.fixture
def bound(cast):
    return gov.bound_key(cast.acme, cast.bob)


@pytest.fixture
def itself(bound):
    return Api(bound.secret)


@pytest.fixture
def approval(cast, bound):
    return gov.granted(cast.acme, bound.key, cast.alice)


def step(name, text="", **more):
    return {"name": name, "digest": gov.digest(text or name), **more}


def body(approval=None, **changes):
    return {
        "execution": builders.unique("run"),
        "parameters_digest": gov.digest("parameters"),
        "steps": [step("drain", result="ok"), step("switch")],
        **({"approval": approval.id} if approval else {}),
        **changes,
    }


class TestRecord:
    def test_works(self, cast, itself, bound, approval):
        with builders.gains(cast.acme.id, "execution.recorded") as gained:
            answer = itself.post(PATH, body(approval))
        found = answer.json()
        assert answer.status_code == 201
        assert set(found) == FIELDS
        assert (found["approval"], found["incident"], found["key"]) == (approval.id, "INC-7", bound.key.id)
        assert found["steps"] == [step("drain", result="ok"), step("switch", result="")]
        planned = gov.digest("parameters")
        assert found["parity"] == {
            "verdict": "equal",
            "parameters": {"planned": planned, "done": planned},
            "steps": [
                {"name": name, "state": "equal", "planned": gov.digest(name), "done": gov.digest(name)}
                for name in ("drain", "switch")
            ],
        }
        assert gained[0].data["parity"] == "equal"
        assert itself.get(f"{PATH}/{found['id']}").json() == found

    @pytest.mark.parametrize(
        ("steps", "states", "named"),
        [
            ([step("drain")], ["equal", "missing"], {"missing": ["switch"]}),
            ([step("drain"), step("switch", "other")], ["equal", "changed"], {"changed": ["switch"]}),
            ([step("drain"), step("wipe"), step("switch")], ["equal", "extra", "equal"], {"extra": ["wipe"]}),
            ([], ["missing", "missing"], {"missing": ["drain", "switch"]}),
        ],
    )
    def test_a_difference_is_an_entry_of_its_own(self, cast, itself, approval, steps, states, named):
        with builders.gains(cast.acme.id, "execution.recorded", "execution.mismatch") as gained:
            found = itself.post(PATH, body(approval, steps=steps)).json()
        assert found["parity"]["verdict"] == "mismatch"
        assert [line["state"] for line in found["parity"]["steps"]] == states
        told = gained[1].data
        assert {name: told[name] for name in named} == named
        assert (told["target"], told["differing"]) == (found["id"], sum(map(len, named.values())))

    def test_other_parameters_are_a_difference_too(self, cast, itself, approval):
        with builders.gains(cast.acme.id, "execution.recorded", "execution.mismatch") as gained:
            found = itself.post(PATH, body(approval, parameters_digest=gov.digest("other"))).json()
        assert found["parity"]["verdict"] == "mismatch"
        assert gained[1].data["parameters"] == "changed"

    def test_a_hundred_differences_fit_into_an_entry(self, cast, itself, approval):
        many = [step(f"{number:03}" + "x" * 125) for number in range(100)]
        assert itself.post(PATH, body(approval, steps=many)).status_code == 201

    def test_without_a_plan_nothing_is_compared(self, cast, bound, itself):
        approval = gov.granted(cast.acme, bound.key, cast.alice, steps=[])
        found = itself.post(PATH, body(approval)).json()["parity"]
        assert (found["verdict"], found["steps"]) == ("no_plan", [])

    def test_a_key_that_is_not_bound_needs_no_approval(self, cast):
        made = key_builders.create(cast.acme, cast.alice, kind=Kind.SERVICE)
        found = Api(made.secret).post(PATH, body()).json()
        assert (found["approval"], found["parity"]["verdict"]) == (None, "no_plan")
        assert found["parity"]["parameters"]["planned"] is None

    def test_the_same_again_is_the_same(self, cast, itself, approval):
        said = body(approval)
        first = itself.post(PATH, said)
        with builders.gains(cast.acme.id):
            again = itself.post(PATH, said)
        assert (again.status_code, again.content) == (201, first.content)

    @pytest.mark.parametrize(
        "changes",
        [{"steps": []}, {"parameters_digest": "0" * 64}, {"incident": "INC-8"},
         {"steps": [step("drain"), step("switch")]}],
    )  # fmt: skip
    def test_something_else_under_its_id_is_refused(self, cast, itself, approval, changes):
        said = body(approval)
        itself.post(PATH, said)
        with builders.gains(cast.acme.id):
            is_problem(itself.post(PATH, said | changes), 409, "execution_conflict")

    def test_two_keys_may_have_one_id(self, cast, itself, approval):
        said = body(approval)
        other = gov.bound_key(cast.acme, cast.bob)
        theirs = gov.granted(cast.acme, other.key, cast.alice)
        ids = {
            itself.post(PATH, said).json()["id"],
            Api(other.secret).post(PATH, said | {"approval": theirs.id}).json()["id"],
        }
        assert len(ids) == 2

    def test_of_many_at_once_one_is_recorded(self, cast, itself, approval):
        said = body(approval)
        with builders.gains(cast.acme.id, "execution.recorded"):
            answers = at_once(8, lambda _: itself.post(PATH, said))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1


class TestRefusal:
    def test_a_key_of_another_kind_records_nothing(self, api):
        is_problem(api.post(PATH, body()), 403, "forbidden")

    def test_a_bound_key_names_its_approval(self, itself):
        assert where(is_problem(itself.post(PATH, body()), 422, "invalid_value")) == ["approval"]

    def test_one_that_was_granted(self, cast, bound, itself):
        waiting = gov.request(bound.key)
        denied = gov.deny(gov.request(bound.key), cast.acme, cast.alice)
        for one in (waiting, denied):
            found = is_problem(itself.post(PATH, body(one)), 422, "invalid_value")
            assert found["errors"] == [{"location": "approval", "message": "This approval was not granted."}]

    def test_to_this_very_key(self, cast, itself):
        other = gov.granted(cast.acme, gov.bound_key(cast.acme, cast.bob).key, cast.alice)
        foreign = gov.bound_key(cast.elsewhere, cast.mallory)
        theirs = gov.request(foreign.key)
        problems = [
            is_problem(itself.post(PATH, body(approval=None) | {"approval": id_}), 422, "invalid_value")[
                "errors"
            ]
            for id_ in (other.id, theirs.id, builders.new_id("apr"), "apr_", "x")
        ]
        assert problems == [[{"location": "approval", "message": "This key has no such approval."}]] * 5

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ({"execution": ""}, "execution"),
            ({"execution": " "}, "execution"),
            ({"execution": "x" * 129}, "execution"),
            ({"execution": "a\0"}, "execution"),
            ({"incident": "é" * 65}, "incident"),
            ({"request_id": "a\nb"}, "request_id"),
            ({"parameters_digest": "x"}, "parameters_digest"),
            ({"steps": [step("a")] * 101}, "steps"),
            ({"steps": [step("a", result="x" * 257)]}, "steps[0].result"),
            ({"steps": [step("a") | {"name": "a\x1b"}]}, "steps[0].name"),
            ({"parity": "equal"}, "parity"),
        ],
    )
    def test_a_bad_value(self, itself, approval, changes, place):
        answer = itself.post(PATH, body(approval, **changes))
        assert where(is_problem(answer, 422, "invalid_value")) == [place]

    def test_a_report_may_come_when_the_approval_is_over(self, cast, itself, approval):
        calls.as_superuser("UPDATE keys_approvalspend SET spent = 1 WHERE approval_id = %s", approval.id)
        assert itself.post(PATH, body(approval)).status_code == 201


class TestSee:
    def test_who_may(self, cast, bound, itself, approval):
        made = itself.post(PATH, body(approval)).json()["id"]
        asking = calls.program(cast.acme, cast.alice, ["approvals:request"])
        assert asking.get(f"{PATH}/{made}").status_code == 200
        below = builders.project(builders.root(cast.acme))
        others = [
            calls.program(cast.acme, cast.alice, ["keys:read"]),
            calls.program(cast.acme, cast.alice, ["approvals:request"], project=below),
            calls.program(cast.elsewhere, cast.mallory, ["approvals:request"]),
        ]
        for other in others:
            gone = is_problem(other.get(f"{PATH}/{made}"), 404, "not_found")
            unknown = is_problem(other.get(f"{PATH}/{builders.new_id('exe')}"), 404, "not_found")
            assert gone | {"request_id": ""} == unknown | {"request_id": ""}
        is_problem(itself.get(f"{PATH}/x"), 404, "not_found")
