"""Asking for an approval, acting on it and recording it, as a service and its key do."""

import asyncio

import keystead
import pytest
from keystead import AsyncKeystead, DoneStep, Keystead, Step, local
from keystead.governance import digest

from keys.models import Approval
from tests import builders
from tests import governance_builders as gov

PLANNED = {"action": "failover", "to": "db-8", "weight": 0.5}
STEPS = [Step.of("drain", {"host": "db-7"}), Step.of("switch", {"host": "db-8"})]


@pytest.fixture
def bound(cast):
    return gov.bound_key(cast.acme, cast.bob)


@pytest.fixture
def itself(server, bound):
    with Keystead(server.url, bound.secret) as own:
        yield own


def ask(itself, **changes):
    fields = {
        "scope": "incidents:write",
        "parameters": PLANNED,
        "steps": STEPS,
        "reason": "INC-7",
        "incident": "INC-7",
    }
    return itself.approvals.request(**{**fields, **changes})


def grant(asked, cast):
    gov.grant(_row(asked, cast), cast.acme, cast.alice)


def _row(asked, cast):
    from audit import tenancy

    with tenancy.within(cast.acme.id):
        return Approval.objects.whole().get(pk=asked.id)


class TestApprovals:
    def test_asked_granted_used_and_recorded(self, itself, bound, client, cast):
        asked = ask(itself, resource="db-7", valid_for_seconds=600)
        assert (asked.status, asked.key, asked.parameters_digest) == (
            "requested",
            bound.key.id,
            digest(PLANNED),
        )
        assert not asked.permits(PLANNED)
        wanted = {"scopes": ["incidents:write"], "trace": {"approval": asked.id, "execution": "run"}}
        with pytest.raises(keystead.ApprovalRequired):
            client.api_keys.validate(bound.secret, **wanted)

        grant(asked, cast)
        granted = itself.approvals.get(asked.id)
        assert granted.permits(PLANNED)
        assert not granted.permits({**PLANNED, "to": "db-9"})
        assert granted.decided_by == cast.alice.id

        info = client.api_keys.validate(bound.secret, **wanted)
        assert (info.approval.id, info.approval.uses_left, info.approval.resource) == (asked.id, 0, "db-7")
        assert info.approval.is_for(PLANNED)
        assert not info.approval.is_for({})
        with pytest.raises(keystead.ApprovalRequired):
            client.api_keys.validate(bound.secret, **wanted)

        done = itself.executions.record(
            execution=builders.unique("run"), approval=asked.id, parameters=PLANNED, steps=STEPS
        )
        assert done.parity.verdict == "equal"
        assert itself.executions.get(done.id) == done

    def test_the_one_step_that_differed(self, itself, cast):
        asked = ask(itself)
        grant(asked, cast)
        steps = [STEPS[0], DoneStep("switch", digest({"host": "db-9"}), "the other was full")]
        done = itself.executions.record(
            execution=builders.unique("run"), approval=asked.id, parameters=PLANNED, steps=steps
        )
        assert [(step.name, step.state) for step in done.parity.steps] == [
            ("drain", "equal"),
            ("switch", "changed"),
        ]
        assert done.steps[1].result == "the other was full"
        assert done.parity.verdict != "equal"

    def test_the_same_request_again_is_one(self, itself):
        once = builders.unique("once")
        first, again = ask(itself, idempotency_key=once), ask(itself, idempotency_key=once)
        assert first.id == again.id

    def test_the_list(self, itself, bound):
        made = {ask(itself).id for _ in range(3)}
        found = list(itself.approvals.list(key=bound.key.id, status="requested", page_size=2))
        assert {each.id for each in found} == made
        assert len(found) == 3

    def test_a_digest_alone(self, itself):
        asked = itself.approvals.request(
            scope="incidents:write", parameters_digest=digest(PLANNED), reason="Not for everybody's eyes"
        )
        assert (asked.parameters, asked.parameters_digest) == (None, digest(PLANNED))

    def test_what_can_not_be_sent(self, itself):
        with pytest.raises(ValueError, match="2\\^53"):
            ask(itself, parameters={"n": 2**60})
        for given in ({}, {"parameters": 1, "parameters_digest": "0" * 64}):
            with pytest.raises(ValueError, match="either"):
                itself.executions.record(execution="x", steps=[], **given)
        for act in (itself.approvals.get, itself.executions.get):
            with pytest.raises(ValueError, match="id"):
                act("../me")
            with pytest.raises(keystead.NotFound):
                act("apr_" + "a" * 20)

    def test_awaited(self, server, bound, cast):
        async def begin():
            async with AsyncKeystead(server.url, bound.secret) as own:
                asked = await own.approvals.request(scope="incidents:write", parameters=PLANNED, reason="r")
                return asked, [each async for each in own.approvals.list(page_size=1)]

        async def end(asked):
            async with AsyncKeystead(server.url, bound.secret) as own:
                fields = {"approval": asked.id, "parameters": PLANNED, "steps": STEPS}
                done = await own.executions.record(execution=builders.unique("run"), **fields)
                return done, await own.executions.get(done.id), await own.approvals.get(asked.id)

        asked, listed = asyncio.run(begin())
        assert asked.id in {each.id for each in listed}
        grant(asked, cast)
        done, again, approval = asyncio.run(end(asked))
        assert done == again
        assert approval.status == "granted"


def test_the_local_mode_asks_anew_for_each_use(server, own, bound, itself, cast):
    asked = ask(itself, uses=2)
    grant(asked, cast)
    wanted = {"scopes": ["incidents:write"], "trace": {"approval": asked.id}}
    with Keystead(server.url, own.secret, local=local.LocalOptions()) as service:
        for _ in range(20):
            service.api_keys.validate(bound.secret, scopes=["incidents:read"])
        assert service.api_keys.validate(bound.secret, **wanted).approval.uses_left == 1
        assert service.api_keys.validate(bound.secret, **wanted).approval.uses_left == 0
        with pytest.raises(keystead.ApprovalRequired):
            service.api_keys.validate(bound.secret, **wanted)
        with pytest.raises(keystead.ApprovalRequired):
            service.api_keys.validate(bound.secret, scopes=["incidents:write"])
