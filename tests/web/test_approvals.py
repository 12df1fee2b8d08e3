"""The pages of approvals and executions: who sees what, who decides, and why somebody may not."""

import pytest

from audit import tenancy
from keys.governance import Step
from keys.models import ApiKey, Approval
from keys.scopes import all_of
from orgs.roles import Role
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api.calls import as_superuser


@pytest.fixture(scope="module")
def clients(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return {
            name: builders.signed_in(getattr(cast, name))
            for name in ("alice", "anna", "bob", "vera", "mallory")
        }


@pytest.fixture
def alice(clients):
    return clients["alice"]


@pytest.fixture
def bound(cast):
    return gov.bound_key(cast.acme, cast.bob)


@pytest.fixture
def asked(bound):
    return gov.request(bound.key)


def page(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def form(bound, **changes):
    return {
        "key": bound.id, "scope": "incidents:write", "resource": "db-7", "parameters": '{"to": "db-8"}',
        "parameters_digest": "", "steps": f"drain {gov.digest('drain')}\n\nswitch over {gov.digest('switch')}\n",
        "reason": "INC-7: fail over", "incident": "INC-7", "valid": "3600", "uses": "2", **changes,
    }  # fmt: skip


class TestList:
    def test_what_waits_comes_first_and_says_for_whom(self, cast, clients, alice, bound):
        done = gov.granted(cast.acme, bound.key, cast.alice)
        waiting = gov.request(bound.key)
        found = page(alice, f"/approvals?key={bound.key.id}")
        assert found.index(waiting.id) < found.index(done.id)
        assert found.count("for you</span>") == 1
        assert "for you</span>" not in page(clients["bob"], f"/approvals?key={bound.key.id}")

    def test_the_frame_counts_what_waits_for_this_person(self, cast):
        owner, admin = builders.person("Olive"), builders.person("Adam")
        where = builders.organization("Fresh", owner=owner)
        builders.join(admin, where, Role.ADMIN)
        key = gov.bound_key(where, owner).key
        gov.request(key)
        gov.request(key, gov.person(admin, where))
        counts = [page(builders.signed_in(who), "/").count("(1 wait for you)") for who in (owner, admin)]
        # Each has one: the key's is behind its maker, the admin's own is for the owner.
        assert counts == [1, 1]

    @pytest.mark.parametrize("status", ["requested", "granted", "denied", "expired", "used_up"])
    def test_by_state(self, cast, alice, bound, status):
        one = gov.request(bound.key)
        if status in {"granted", "used_up"}:
            gov.grant(one, cast.acme, cast.alice)
        if status == "used_up":
            as_superuser("UPDATE keys_approvalspend SET spent = 1 WHERE approval_id = %s", one.id)
        if status == "denied":
            gov.deny(one, cast.acme, cast.alice)
        if status == "expired":
            as_superuser("UPDATE keys_approval SET valid_until = now() WHERE id = %s", one.id)
        for other in ("requested", "granted", "denied", "expired", "used_up"):
            assert (one.id in page(alice, f"/approvals?key={bound.key.id}&status={other}")) is (
                other == status
            )

    def test_pages(self, alice, bound, monkeypatch):
        monkeypatch.setattr("keys.pages.approvals.PAGE_SIZE", 2)
        made = [gov.request(bound.key).id for _ in range(5)]
        seen, path = [], f"/approvals?key={bound.key.id}&status=requested"
        while path:
            response = alice.get(path)
            seen += [row.approval.id for row in response.context["page"].rows]
            older = response.context["older"]
            path = f"/approvals{older}" if older else ""
        assert seen == made[::-1]

    @pytest.mark.parametrize("query", ["status=x", "key=x", "before=x", "status=%00"])
    def test_a_filter_that_means_nothing_is_left_out(self, alice, query):
        assert alice.get(f"/approvals?{query}").status_code == 200

    def test_empty(self, clients):
        assert "Nobody has asked yet" in page(clients["mallory"], "/approvals")
        assert "No approval matches" in page(clients["mallory"], "/approvals?status=denied")

    def test_a_stranger_sees_none(self, clients, asked):
        assert asked.id not in page(clients["mallory"], "/approvals")
        assert clients["mallory"].get(f"/approvals?before={asked.id}").status_code == 404


class TestAsk:
    def test_works(self, cast, clients, bound):
        with builders.gains(cast.acme.id, "approval.requested") as gained:
            response = clients["bob"].post("/approvals/new", form(bound.key))
        assert response.status_code == 303
        with tenancy.within(cast.acme.id):
            made = Approval.objects.get(pk=gained[0].data["target"])
        assert response["Location"] == f"/approvals/{made.id}"
        assert (made.requested_by, made.uses, made.parameters) == (cast.bob.id, 2, {"to": "db-8"})
        assert [step["name"] for step in made.steps] == ["drain", "switch over"]
        found = page(clients["bob"], f"/approvals/{made.id}")
        assert "You can’t decide on this." in found
        assert "You asked for this yourself" in found

    @pytest.mark.parametrize(
        ("changes", "fields"),
        [
            ({"reason": ""}, ["reason"]),
            ({"scope": "incidents:read"}, ["scope"]),
            ({"parameters": "{"}, ["parameters"]),
            ({"parameters": '{"a": 1, "a": 2}'}, ["parameters"]),
            ({"parameters": "NaN"}, ["parameters"]),
            ({"parameters": "[" * 3_000}, ["parameters"]),
            ({"parameters": ""}, ["parameters_digest"]),
            ({"parameters_digest": "x"}, ["parameters_digest"]),
            ({"steps": "drain"}, ["steps"]),
            ({"steps": "drain xyz"}, ["steps"]),
            ({"uses": "0"}, ["uses"]),
            ({"uses": "101"}, ["uses"]),
            ({"valid": "86401"}, ["valid"]),
            ({"key": "key_aaaaaaaaaaaaaaaaaaaa"}, ["key"]),
        ],
    )
    def test_an_error_is_at_its_field(self, cast, clients, bound, changes, fields):
        with builders.gains(cast.acme.id):
            response = clients["bob"].post("/approvals/new", form(bound.key, **changes))
        assert response.status_code == 422
        assert list(response.context["form"].errors) == fields

    @pytest.fixture
    def strict(self, django_db_blocker):
        owner = builders.person("Odile")
        where = builders.organization("Governed", owner=owner)
        gov.rule(where, owner, approval_max_hours=2, approval_max_uses=5)
        return where, gov.bound_key(where, owner).key, builders.signed_in(owner)

    @pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["plain", "htmx"])
    @pytest.mark.parametrize(
        ("changes", "field", "words"),
        [
            ({"valid": "14400"}, "valid", "2 hours at most"),
            ({"valid": "86400"}, "valid", "2 hours at most"),
            ({"uses": "6"}, "uses", "1 to 5 uses"),
        ],
    )
    def test_beyond_the_organizations_own_rule(self, strict, changes, field, words, headers):
        where, key, client = strict
        with builders.gains(where.id):
            response = client.post("/approvals/new", form(key, **changes), headers=headers)
        assert response.status_code == 422
        errors = response.context["form"].errors
        assert list(errors) == [field]
        assert words in errors[field][0]
        assert errors[field][0] in response.content.decode()

    def test_within_it(self, strict):
        where, key, client = strict
        with builders.gains(where.id, "approval.requested"):
            assert client.post("/approvals/new", form(key, valid="7200", uses="5")).status_code == 303

    @pytest.mark.parametrize(
        ("hours", "offered"),
        [
            (1, ["900", "3600"]),
            (2, ["900", "3600", "7200"]),
            (4, ["900", "3600", "14400"]),
            (23, ["900", "3600", "14400", "82800"]),
            (24, ["900", "3600", "14400", "86400"]),
        ],
    )
    def test_it_offers_what_the_rule_allows(self, hours, offered):
        owner = builders.person("Otto")
        where = builders.organization("Governed", owner=owner)
        gov.rule(where, owner, approval_max_hours=hours, approval_max_uses=7)
        gov.bound_key(where, owner)
        response = builders.signed_in(owner).get("/approvals/new")
        shown = response.context["form"]
        assert [value for value, _ in shown.fields["valid"].choices] == offered
        assert shown["valid"].value() == "3600"
        assert 'max="7"' in response.content.decode()

    def test_what_was_asked_before_the_rule_is_still_decided_on(self, cast):
        owner, admin = builders.person("Ona"), builders.person("Ada")
        where = builders.organization("Later", owner=owner)
        builders.join(admin, where, Role.ADMIN)
        asked = gov.request(gov.bound_key(where, owner).key, valid=86_400, uses=9)
        gov.rule(where, owner, approval_max_hours=1, approval_max_uses=1)
        client = builders.signed_in(admin)
        assert client.post(f"/approvals/{asked.id}/grant", {"note": ""}).status_code == 303

    def test_without_such_a_key_it_says_so(self, clients):
        assert "No key here needs approvals" in page(clients["mallory"], "/approvals/new")


class TestDecide:
    def test_another_person_grants(self, cast, alice, asked):
        assert "Your decision" in page(alice, f"/approvals/{asked.id}")
        with builders.gains(cast.acme.id, "approval.granted"):
            response = alice.post(f"/approvals/{asked.id}/grant", {"note": "Go ahead"})
        assert (response.status_code, response["Location"]) == (303, f"/approvals/{asked.id}")
        found = page(alice, f"/approvals/{asked.id}")
        assert "Granted by" in found
        assert "Go ahead" in found

    def test_or_denies(self, cast, alice, asked):
        with builders.gains(cast.acme.id, "approval.denied"):
            assert alice.post(f"/approvals/{asked.id}/deny", {"note": ""}).status_code == 303
        assert "Denied by" in page(alice, f"/approvals/{asked.id}")

    def test_who_may_not_sees_why_and_is_refused(self, cast, clients, asked):
        found = page(clients["bob"], f"/approvals/{asked.id}")
        assert "The key that asked is yours" in found
        assert "Owners and admins" in page(clients["vera"], f"/approvals/{asked.id}")
        for name in ("bob", "vera"):
            for what in ("grant", "deny"):
                with builders.gains(cast.acme.id):
                    response = clients[name].post(f"/approvals/{asked.id}/{what}", {"note": ""})
                assert response.status_code == 403
        with tenancy.within(cast.acme.id):
            assert Approval.objects.get(pk=asked.id).decision == ""

    def test_the_person_behind_the_key_is_refused_on_the_page(self, cast, clients):
        mine = gov.request(gov.bound_key(cast.acme, cast.anna).key)
        with builders.gains(cast.acme.id):
            assert clients["anna"].post(f"/approvals/{mine.id}/grant", {}).status_code == 403

    def test_too_late(self, cast, alice, asked):
        gov.deny(asked, cast.acme, cast.anna)
        response = alice.post(f"/approvals/{asked.id}/grant", {"note": ""})
        assert response.status_code == 409
        assert "denied already" in response.content.decode()

    def test_a_note_that_is_a_secret_is_refused(self, alice, bound, asked):
        response = alice.post(f"/approvals/{asked.id}/grant", {"note": bound.secret})
        assert response.status_code == 422

    @pytest.mark.parametrize("what", ["", "/grant", "/deny"])
    def test_a_stranger_finds_nothing(self, clients, asked, what):
        send = clients["mallory"].post if what else clients["mallory"].get
        foreign = send(f"/approvals/{asked.id}{what}")
        unknown = send(f"/approvals/{builders.new_id('apr')}{what}")
        assert (foreign.status_code, unknown.status_code) == (404, 404)

    def test_words_of_others_are_no_markup(self, cast, clients, bound):
        evil = "<script>alert(1)</script>"
        one = gov.request(bound.key, reason=evil, resource=evil, incident=evil)
        for path in (
            f"/approvals/{one.id}",
            f"/approvals?key={bound.key.id}",
            "/trace?incident=%3Cscript%3E",
        ):
            assert evil not in page(clients["alice"], path)


class TestExecution:
    def test_planned_and_done_stand_side_by_side(self, cast, alice, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice)
        steps = [Step("drain", gov.digest("drain")), Step("switch", gov.digest("x"))]
        made = gov.execute(bound.key, approval, steps=steps)
        found = page(alice, f"/executions/{made.id}")
        assert "Not as planned" in found
        assert found.count("Equal") == 1
        assert found.count("Changed") == 1
        assert "The parameters are those that were approved." in found
        assert made.execution in page(alice, f"/approvals/{approval.id}")

    def test_other_parameters(self, cast, alice, bound):
        approval = gov.granted(cast.acme, bound.key, cast.alice)
        made = gov.execute(bound.key, approval, parameters_digest=gov.digest("other"))
        assert "Other parameters than those that were approved." in page(alice, f"/executions/{made.id}")

    def test_without_a_plan(self, cast, alice):
        made = gov.execute(gov.bound_key(cast.acme, cast.bob, approval_bound=False).key)
        assert "nothing to compare it with" in page(alice, f"/executions/{made.id}")

    def test_a_stranger_finds_nothing(self, cast, clients, bound):
        made = gov.execute(bound.key, gov.granted(cast.acme, bound.key, cast.alice))
        assert clients["mallory"].get(f"/executions/{made.id}").status_code == 404


class TestTrail:
    def test_all_of_an_incident_in_one_line(self, cast, alice, clients, bound):
        incident = builders.unique("INC")
        approval = gov.granted(cast.acme, bound.key, cast.alice, incident=incident)
        trace = {"incident": incident, "approval": approval.id, "execution": "run-1"}
        asked = {"query": all_of(["incidents:write"]), "trace": trace, "request_id": "req-77"}
        assert key_builders.judged(bound.secret, cast.acme, **asked).verdict.is_valid
        gov.execute(bound.key, approval)
        response = alice.get(f"/trace?incident={incident}")
        kinds = [event.kind for event in response.context["trail"].events]
        assert kinds == ["approval", "entry", "entry", "call", "execution", "entry"]
        times = [event.at.isoformat(timespec="milliseconds") for event in response.context["trail"].events]
        assert times == sorted(times)
        seen = clients["vera"].get(f"/trace?incident={incident}").context["trail"].events
        assert [event.kind for event in seen] == ["approval", "call", "execution"]
        assert clients["mallory"].get(f"/trace?incident={incident}").context["trail"].events == []

    def test_all_of_a_request(self, cast, alice, bound):
        request_id = builders.unique("req")
        key_builders.judged(bound.secret, cast.acme, query=all_of(["incidents:read"]), request_id=request_id)
        events = alice.get(f"/trace?request_id={request_id}").context["trail"].events
        assert [event.kind for event in events] == ["call"]

    def test_nothing_and_too_much(self, alice, bound):
        assert "Nothing is known of it" in page(alice, "/trace?incident=no-such-incident")
        assert alice.get("/trace?incident=a&request_id=b").status_code == 422
        assert alice.get("/trace?incident=a%00b").status_code == 422
        assert alice.get("/trace?incident=" + "a" * 129).status_code == 422
        response = alice.get(f"/trace?incident={bound.secret}")
        assert (response.status_code, response["Location"]) == (302, "/trace")
        assert alice.get("/trace").status_code == 200


class TestBind:
    def test_for_good(self, cast, alice):
        made = gov.bound_key(cast.acme, cast.bob, approval_bound=False)
        assert "Require them" in page(alice, f"/keys/{made.key.id}")
        with builders.gains(cast.acme.id, "key.changed"):
            assert alice.post(f"/keys/{made.key.id}/bind").status_code == 303
        with builders.gains(cast.acme.id):
            alice.post(f"/keys/{made.key.id}/bind")
        assert key_builders.read(made.key.id, cast.acme).approval_bound
        assert "needed for all but reading" in page(alice, f"/keys/{made.key.id}")

    def test_service_keys_alone(self, cast, alice):
        made = key_builders.create(cast.acme, cast.alice)
        assert alice.post(f"/keys/{made.key.id}/bind").status_code == 409

    def test_a_new_key_is_made_so(self, cast, alice):
        fields = key_builders.form(
            cast.acme,
            alice,
            kind="service",
            scopes=["incidents:write"],
            approval_bound="on",
            name="bound-one",
        )
        assert alice.post("/keys/new", fields).status_code == 200
        with tenancy.within(cast.acme.id):
            assert ApiKey.objects.get(organization=cast.acme, name="bound-one").approval_bound

    def test_one_of_another_kind_is_not(self, cast, alice):
        fields = key_builders.form(cast.acme, alice, approval_bound="on", name="free-one")
        assert alice.post("/keys/new", fields).status_code == 200
        with tenancy.within(cast.acme.id):
            assert not ApiKey.objects.get(organization=cast.acme, name="free-one").approval_bound
