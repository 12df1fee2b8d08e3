"""`/v1/approvals`: a bound key asks, people decide, and whoever asked never does."""

import hashlib
from datetime import timedelta

import pytest
import rfc8785
from django.db import IntegrityError, ProgrammingError
from django.utils import timezone

from audit import tenancy
from keys import services
from keys.errors import DecisionRefused, PersonRequired, StateForbids
from keys.models import Approval
from keys.secret import Kind
from keys.services import Changes, Owner
from keys.tasks import approvals
from orgs import services as org_services
from orgs.errors import Gone
from orgs.roles import Role
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.api import calls
from tests.api.calls import Api, as_superuser, at_once, is_problem, where

FIELDS = {
    "id", "key", "status", "scope", "resource", "parameters_digest", "parameters", "steps", "reason", "incident",
    "valid_until", "uses", "uses_left", "requested_at", "requested_by", "decided_at", "decided_by", "note",
}  # fmt: skip
PATH = "/approvals"


@pytest.fixture
def bound(cast):
    return gov.bound_key(cast.acme, cast.bob)


@pytest.fixture
def itself(bound):
    return Api(bound.secret)


def body(**changes):
    return {
        "scope": "incidents:write",
        "resource": "db-7",
        "parameters_digest": gov.digest("parameters"),
        "steps": [{"name": "drain", "digest": gov.digest("drain")}],
        "reason": "INC-7: fail over",
        "incident": "INC-7",
        **changes,
    }


def past(approval, seconds=1):
    as_superuser(
        "UPDATE keys_approval SET requested_at = now() - interval '2 hours', valid_until = now() - %s * interval '1 s'"
        " WHERE id = %s",
        seconds,
        approval.id,
    )


class TestBinding:
    def test_a_key_says_that_it_is_bound(self, api):
        made = api.post("/api-keys", calls.draft(kind="service", approval_bound=True))
        assert made.status_code == 201
        assert made.json()["key"]["approval_bound"] is True
        assert api.get(f"/api-keys/{made.json()['key']['id']}").json()["approval_bound"] is True

    def test_another_kind_is_not_bound(self, api):
        found = is_problem(api.post("/api-keys", calls.draft(approval_bound=True)), 422, "invalid_value")
        assert where(found) == ["approval_bound"]

    @pytest.mark.parametrize("required", ["production", "always"])
    def test_the_policy_may_ask_for_it(self, required):
        owner = builders.person("Olga")
        strict = builders.organization("Strict", owner=owner)
        lab = builders.environment(strict, "live")
        gov.rule(strict, owner, approvals_required=required)
        api = calls.program(strict, owner)
        free = calls.draft(kind="service", environment=lab.slug)
        with builders.gains(strict.id):
            answers = [api.post("/api-keys", calls.draft(kind="service"))]
            answers += [api.post("/api-keys", calls.draft(kind="service", approval_bound=False))]
            answers += [api.post("/api-keys", free)] if required == "always" else []
        for answer in answers:
            found = is_problem(answer, 422, "invalid_value")
            assert where(found) == ["approval_bound"]
        with builders.gains(strict.id, "key.created", "key.created"):
            assert api.post("/api-keys", calls.draft(kind="service", approval_bound=True)).status_code == 201
            assert api.post("/api-keys", calls.draft()).status_code == 201
        if required == "production":
            assert api.post("/api-keys", free).status_code == 201

    @pytest.mark.parametrize("value", [True, False])
    def test_it_is_for_good(self, api, bound, value):
        answer = api.patch(f"/api-keys/{bound.key.id}", {"approval_bound": value})
        assert where(is_problem(answer, 422, "invalid_value")) == ["approval_bound"]

    def test_not_even_the_database_lets_it_go(self, cast, bound):
        with pytest.raises(IntegrityError, match="stays bound"), tenancy.within(cast.acme.id):
            bound.key.__class__.objects.filter(pk=bound.key.id).update(approval_bound=False)

    def test_it_stays_through_a_rotation(self, cast, bound):
        key_builders.rotate(bound.key, cast.acme, cast.alice)
        assert key_builders.read(bound.key.id, cast.acme).approval_bound

    def test_a_bound_key_does_nothing_more_than_read_over_the_api(self, cast):
        scopes = [*gov.SCOPES, "keys:read", "keys:write", "keys:rotate", "keys:revoke"]
        made = gov.bound_key(cast.acme, cast.alice, scopes=scopes)
        api = Api(made.secret)
        assert api.get("/api-keys").status_code == 200
        assert api.get("/me").json()["scopes"] == ["approvals:request", "incidents:read", "keys:read"]
        unbound = calls.draft(kind="service", scopes=["incidents:write"])
        is_problem(api.post("/api-keys", unbound), 403, "insufficient_scope")
        other = key_builders.create(cast.acme, cast.alice).key.id
        is_problem(api.post(f"/api-keys/{other}/rotate"), 403, "insufficient_scope")
        is_problem(api.post(f"/api-keys/{other}/revoke"), 403, "insufficient_scope")


class TestRequest:
    def test_works(self, cast, bound, itself):
        with builders.gains(cast.acme.id, "approval.requested") as gained:
            answer = itself.post(PATH, body())
        found = answer.json()
        assert answer.status_code == 201
        assert set(found) == FIELDS
        assert (found["key"], found["requested_by"]) == (bound.key.id, bound.key.id)
        assert (found["status"], found["uses"], found["uses_left"]) == ("requested", 1, 1)
        assert gained[0].data["target"] == found["id"]
        assert gained[0].data["scope"] == "incidents:write"
        assert "INC-7: fail over" not in str(gained[0].data)
        assert itself.get(f"{PATH}/{found['id']}").json() == found

    def test_another_key_asks_for_it(self, cast, bound):
        other = calls.program(cast.acme, cast.alice, ["approvals:request"])
        found = other.post(PATH, body(key=bound.key.id)).json()
        assert found["key"] == bound.key.id
        assert found["requested_by"] != bound.key.id

    def test_one_that_does_not_reach_it_sees_no_key(self, cast, bound, stranger):
        below = builders.project(builders.root(cast.acme))
        aside = calls.program(cast.acme, cast.alice, ["approvals:request"], project=below)
        foreign = calls.program(cast.elsewhere, cast.mallory, ["approvals:request"])
        unknown = body(key=builders.new_id("key"))
        answers = [
            aside.post(PATH, body(key=bound.key.id)),
            foreign.post(PATH, body(key=bound.key.id)),
            foreign.post(PATH, unknown),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({calls.without_id(answer) for answer in answers}) == 1

    def test_it_needs_the_scope(self, cast):
        made = gov.bound_key(cast.acme, cast.alice, scopes=["incidents:write"])
        is_problem(Api(made.secret).post(PATH, body()), 403, "insufficient_scope")

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ({"scope": "incidents:read"}, "scope"),
            ({"scope": "admin:projects"}, "scope"),
            ({"scope": "incidents:*"}, "scope"),
            ({"scope": "nonsense"}, "scope"),
            ({"resource": "x" * 129}, "resource"),
            ({"resource": "é" * 65}, "resource"),
            ({"resource": "a\nb"}, "resource"),
            ({"reason": ""}, "reason"),
            ({"reason": "  \n"}, "reason"),
            ({"reason": "x" * 1001}, "reason"),
            ({"incident": "x" * 129}, "incident"),
            ({"incident": "a\0b"}, "incident"),
            ({"uses": 0}, "uses"),
            ({"uses": 101}, "uses"),
            ({"uses": "1"}, "uses"),
            ({"valid_for_seconds": 59}, "valid_for_seconds"),
            ({"valid_for_seconds": 86_401}, "valid_for_seconds"),
            ({"valid_until": "2020-01-01T00:00:00Z"}, "valid_until"),
            ({"valid_until": "9999-01-01T00:00:00Z"}, "valid_until"),
            ({"parameters_digest": None}, "parameters_digest"),
            ({"parameters_digest": "A" * 64}, "parameters_digest"),
            ({"parameters_digest": "0" * 63}, "parameters_digest"),
            ({"parameters": {"a": 1}}, "parameters_digest"),
            ({"steps": [{"name": "a"}]}, "steps[0].digest"),
            ({"steps": [{"name": "", "digest": "0" * 64}]}, "steps[0].name"),
            ({"steps": [{"name": " ", "digest": "0" * 64}]}, "steps[0].name"),
            ({"steps": [{"name": "x" * 129, "digest": "0" * 64}]}, "steps[0].name"),
            ({"steps": [{"name": "a", "digest": "0" * 64}] * 101}, "steps"),
            ({"decision": "granted"}, "decision"),
            ({"requested_by": "usr_a"}, "requested_by"),
        ],
    )
    def test_a_bad_value(self, itself, changes, place):
        assert where(is_problem(itself.post(PATH, body(**changes)), 422, "invalid_value")) == [place]

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ({"valid_for_seconds": 7_201}, "valid_for_seconds"),
            ({"valid_for_seconds": 86_400}, "valid_for_seconds"),
            ({"valid_until": timedelta(hours=3)}, "valid_until"),
            ({"uses": 6}, "uses"),
        ],
    )
    def test_beyond_the_organizations_own_rule(self, changes, place):
        owner = builders.person("Odo")
        strict = builders.organization("Governed", owner=owner)
        gov.rule(strict, owner, approval_max_hours=2, approval_max_uses=5)
        itself = Api(gov.bound_key(strict, owner).secret)
        if place == "valid_until":
            changes = {place: (timezone.now() + changes[place]).isoformat()}
        with builders.gains(strict.id):
            answer = itself.post(PATH, body(**changes))
        assert where(is_problem(answer, 422, "invalid_value")) == [place]
        with builders.gains(strict.id, "approval.requested"):
            assert itself.post(PATH, body(valid_for_seconds=7_200, uses=5)).status_code == 201

    def test_two_ends_are_one_too_many(self, itself):
        asked = body(valid_for_seconds=60, valid_until="2027-01-01T00:00:00Z")
        is_problem(itself.post(PATH, asked), 422, "invalid_value")

    def test_a_secret_is_refused_and_not_repeated(self, itself, bound):
        for changes in (
            {"reason": bound.secret},
            {"resource": bound.secret},
            {"parameters": {"a": bound.secret}},
        ):
            answer = itself.post(PATH, body(parameters_digest=None, **changes))
            assert answer.status_code == 422
            assert bound.secret not in answer.content.decode()

    def test_the_digest_of_the_parameters_is_that_of_their_canonical_form(self, itself):
        given = {"b": [1.0, "é", None], "a": {"z": True, "\u20ac": 1e21}}
        found = itself.post(PATH, body(parameters=given, parameters_digest=None)).json()
        assert found["parameters_digest"] == hashlib.sha256(rfc8785.dumps(given)).hexdigest()
        assert found["parameters"] == given
        again = itself.post(PATH, body(parameters=given, parameters_digest=found["parameters_digest"]))
        assert again.status_code == 201

    @pytest.mark.parametrize(
        "parameters",
        ['"' + "x" * 8_191 + '"', "[" * 21 + "]" * 21, "[" * 5_000 + "]" * 5_000, "1e400", "1" * 30, r'"a\u0000b"',
         r'{"a\u0000": 1}', r'"\ud800"', r'{"\ud800": 1}'],
    )  # fmt: skip
    def test_parameters_without_a_canonical_form_that_can_be_kept(self, itself, parameters):
        raw = '{"scope": "incidents:write", "reason": "r", "parameters": %s}' % parameters  # noqa: UP031
        answer = itself.send("POST", PATH, raw=raw.encode())
        assert answer.status_code in {400, 422}, answer.content

    def test_a_key_that_is_not_bound_needs_none(self, cast):
        made = key_builders.create(cast.acme, cast.alice, kind=Kind.SERVICE, scopes=list(gov.SCOPES))
        is_problem(Api(made.secret).post(PATH, body()), 409, "state_forbids")

    def test_nor_does_one_that_has_ended(self, cast, bound):
        other = calls.program(cast.acme, cast.alice, ["approvals:request"])
        with tenancy.within(cast.acme.id):
            services.revoke_key(bound.key, actor=gov.person(cast.alice, cast.acme))
        is_problem(other.post(PATH, body(key=bound.key.id)), 409, "state_forbids")

    def test_once_with_its_idempotency_key(self, itself):
        header = builders.unique("once")
        first, again = (itself.post(PATH, body(), Idempotency_Key=header) for _ in range(2))
        assert (first.status_code, again.json()) == (201, first.json())


class TestList:
    def test_pages_newest_first_without_gaps(self, cast, bound, itself):
        made = [gov.request(bound.key).id for _ in range(5)]
        seen, cursor = [], ""
        for _ in range(3):
            page = itself.get(f"{PATH}?key={bound.key.id}&limit=2{cursor}").json()
            seen += [one["id"] for one in page["data"]]
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == made[::-1]
        assert page["next_cursor"] is None

    def test_by_state(self, cast, bound, itself):
        waiting = gov.request(bound.key)
        granted = gov.granted(cast.acme, bound.key, cast.alice)
        denied = gov.deny(gov.request(bound.key), cast.acme, cast.alice)
        expired = gov.request(bound.key)
        past(expired)
        used = gov.granted(cast.acme, bound.key, cast.alice)
        as_superuser("UPDATE keys_approvalspend SET spent = 1 WHERE approval_id = %s", used.id)
        expected = {
            "requested": waiting, "granted": granted, "denied": denied, "expired": expired, "used_up": used
        }  # fmt: skip
        for status, one in expected.items():
            page = itself.get(f"{PATH}?key={bound.key.id}&status={status}").json()
            assert [(each["id"], each["status"]) for each in page["data"]] == [(one.id, status)]

    def test_by_incident(self, bound, itself):
        incident = builders.unique("INC")
        made = gov.request(bound.key, incident=incident)
        assert [one["id"] for one in itself.get(f"{PATH}?incident={incident}").json()["data"]] == [made.id]

    @pytest.mark.parametrize(
        "query",
        ["status=open", "cursor=x", "cursor=YWJj", "limit=0", "limit=201", "nonsense=1", "incident=a%00b"],
    )
    def test_a_bad_question(self, itself, query):
        is_problem(itself.get(f"{PATH}?{query}"), 422, "invalid_value")

    def test_a_stranger_sees_none_of_it(self, cast, bound):
        made = gov.request(bound.key)
        foreign = calls.program(cast.elsewhere, cast.mallory, ["approvals:request"])
        assert foreign.get(f"{PATH}?key={bound.key.id}").json()["data"] == []
        gone = is_problem(foreign.get(f"{PATH}/{made.id}"), 404, "not_found")
        unknown = is_problem(foreign.get(f"{PATH}/{builders.new_id('apr')}"), 404, "not_found")
        assert gone | {"request_id": ""} == unknown | {"request_id": ""}

    def test_nor_does_a_key_of_another_project(self, cast, bound):
        made = gov.request(bound.key)
        below = builders.project(builders.root(cast.acme))
        aside = calls.program(cast.acme, cast.alice, ["approvals:request"], project=below)
        is_problem(aside.get(f"{PATH}/{made.id}"), 404, "not_found")


class TestDecision:
    @pytest.mark.parametrize("what", ["grant", "deny"])
    def test_a_key_decides_on_nothing(self, cast, bound, what):
        made = gov.request(bound.key)
        api = Api(calls.key(cast.acme, cast.alice, ["approvals:request", "keys:write"]).secret)
        for approval_id in (made.id, builders.new_id("apr"), "x"):
            is_problem(api.post(f"{PATH}/{approval_id}/{what}"), 403, "person_required")
        with pytest.raises(PersonRequired), tenancy.within(cast.acme.id):
            getattr(services, f"{what}_approval")(made, actor=gov.of_key(bound.key))
        assert gov.read(made).decision == ""

    def test_another_person_grants(self, cast, bound):
        made = gov.request(bound.key)
        with builders.gains(cast.acme.id, "approval.granted") as gained:
            found = gov.grant(made, cast.acme, cast.alice, note="Go ahead")
        assert (found.decision, found.decided_by, found.note) == ("granted", cast.alice.id, "Go ahead")
        assert gained[0].actor == cast.alice.id
        assert gained[0].data["requested_by"] == bound.key.id

    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    @pytest.mark.parametrize("decide", [gov.grant, gov.deny])
    def test_without_the_role_nobody_does(self, cast, who, decide):
        made = gov.request(gov.bound_key(cast.acme, cast.alice).key)
        with builders.gains(cast.acme.id), pytest.raises(DecisionRefused):
            decide(made, cast.acme, getattr(cast, who))

    def test_whoever_asked_on_the_page_does_not(self, cast, bound):
        made = gov.request(bound.key, gov.person(cast.alice, cast.acme))
        for decide in (gov.grant, gov.deny):
            with pytest.raises(DecisionRefused, match="yourself"):
                decide(made, cast.acme, cast.alice)
        assert gov.grant(made, cast.acme, cast.anna).decision == "granted"

    def test_not_even_past_the_services(self, cast, bound):
        made = gov.request(bound.key, gov.person(cast.alice, cast.acme))
        with pytest.raises(IntegrityError, match="approval_not_ones_own"), tenancy.within(cast.acme.id):
            Approval.objects.filter(pk=made.pk).update(
                decision="granted", decided_at=timezone.now(), decided_by=cast.alice.id
            )
        mine = gov.request(gov.bound_key(cast.acme, cast.alice).key)
        with pytest.raises(IntegrityError, match="approval_not_of_behind"), tenancy.within(cast.acme.id):
            Approval.objects.filter(pk=mine.pk).update(
                decision="granted", decided_at=timezone.now(), decided_by=cast.alice.id
            )

    def test_whoever_made_the_key_that_asked_does_not(self, cast):
        made = gov.request(gov.bound_key(cast.acme, cast.alice).key)
        with pytest.raises(DecisionRefused, match="The key that asked"):
            gov.grant(made, cast.acme, cast.alice)

    def test_nor_its_owner(self, cast):
        made = gov.request(gov.bound_key(cast.acme, cast.alice, owner=Owner(member=cast.anna)).key)
        with pytest.raises(DecisionRefused):
            gov.grant(made, cast.acme, cast.anna)

    def test_nor_its_owner_of_then_or_of_now(self, cast):
        key = gov.bound_key(cast.acme, cast.bob, owner=Owner(member=cast.anna)).key
        made = gov.request(key)
        with tenancy.within(cast.acme.id):
            key = key_builders.read(key.id, cast.acme)
            services.change_key(
                key, Changes(owner=Owner(member=cast.alice)), actor=gov.person(cast.alice, cast.acme)
            )
        for who in (cast.anna, cast.alice):
            with pytest.raises(DecisionRefused):
                gov.grant(made, cast.acme, who)

    def test_nor_whoever_rotated_its_secret_into_their_hands(self, cast, bound):
        key_builders.rotate(bound.key, cast.acme, cast.anna)
        key = key_builders.read(bound.key.id, cast.acme)
        with_old = gov.request(key, gov.of_key(key, version=1))
        with_new = gov.request(key, gov.of_key(key, version=2))
        assert gov.grant(with_old, cast.acme, cast.anna).decision == "granted"
        with pytest.raises(DecisionRefused):
            gov.grant(with_new, cast.acme, cast.anna)
        assert gov.grant(with_new, cast.acme, cast.alice).decision == "granted"

    def test_nor_whoever_let_it_rotate_itself_after_that(self, cast, bound):
        new = key_builders.rotate(bound.key, cast.acme, cast.anna)
        rotated = Api(new.secret).post("/keys/rotate", {"grace_seconds": 60})
        assert rotated.status_code == 409  # the first one is still running
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE key_id = %s", bound.key.id)
        newest = Api(new.secret).post("/keys/rotate", {"grace_seconds": 60}).json()["secret"]
        asked = Api(newest).post(PATH, body()).json()
        with tenancy.within(cast.acme.id):
            made = Approval.objects.whole().get(pk=asked["id"])
        with pytest.raises(DecisionRefused):
            gov.grant(made, cast.acme, cast.anna)

    def test_nor_whoever_made_the_key_that_made_the_key(self, cast):
        maker = calls.program(
            cast.acme, cast.alice, [*calls.MANAGING, "incidents:write", "approvals:request"]
        )
        draft = calls.draft(kind="service", scopes=list(gov.SCOPES), approval_bound=True)
        made = maker.post("/api-keys", draft).json()
        asked = Api(made["secret"]).post(PATH, body()).json()
        with tenancy.within(cast.acme.id):
            found = Approval.objects.whole().get(pk=asked["id"])
        assert cast.alice.id in found.behind
        with pytest.raises(DecisionRefused):
            gov.grant(found, cast.acme, cast.alice)
        assert gov.grant(found, cast.acme, cast.anna).decision == "granted"

    def test_nor_whoever_can_open_what_the_secret_was_sealed_to(self, cast):
        made = gov.bound_key(cast.acme, cast.bob, rotation_interval_days=6, auto_rotate=True)
        receiver = key_builders.recipient(cast.acme, cast.anna)
        as_superuser(
            "UPDATE keys_keysecret SET created_at = created_at - interval '6 days' WHERE key_id = %s",
            made.key.id,
        )
        rotation = services.auto_rotation.rotate_when_due(cast.acme.id, made.key.id)
        secret = receiver.open(rotation.sealed_secret, rotation.id)
        asked = Api(secret).post(PATH, body()).json()
        with tenancy.within(cast.acme.id):
            found = Approval.objects.whole().get(pk=asked["id"])
        with pytest.raises(DecisionRefused):
            gov.grant(found, cast.acme, cast.anna)
        assert gov.grant(found, cast.acme, cast.alice).decision == "granted"

    def test_nor_whoever_confirmed_that_they_hold_its_private_key(self, cast):
        heir = builders.person("Heir")
        membership = builders.join(heir, cast.acme, Role.ADMIN)
        receiver = key_builders.recipient(cast.acme, heir)
        with tenancy.within(cast.acme.id):
            org_services.remove_member(membership, actor=cast.member(cast.alice))
            services.confirm_recipient(receiver.recipient, actor=cast.member(cast.anna))
        made = gov.bound_key(cast.acme, cast.bob, rotation_interval_days=6, auto_rotate=True)
        as_superuser(
            "UPDATE keys_keysecret SET created_at = created_at - interval '6 days' WHERE key_id = %s",
            made.key.id,
        )
        rotation = services.auto_rotation.rotate_when_due(cast.acme.id, made.key.id)
        asked = Api(receiver.open(rotation.sealed_secret, rotation.id)).post(PATH, body()).json()
        with tenancy.within(cast.acme.id):
            found = Approval.objects.whole().get(pk=asked["id"])
        assert {heir.id, cast.anna.id} <= set(found.behind)
        with pytest.raises(DecisionRefused):
            gov.grant(found, cast.acme, cast.anna)

    def test_whoever_asks_through_another_key_of_theirs_does_not(self, cast, bound):
        mine = calls.program(cast.acme, cast.anna, ["approvals:request"])
        asked = mine.post(PATH, body(key=bound.key.id)).json()
        with tenancy.within(cast.acme.id):
            found = Approval.objects.whole().get(pk=asked["id"])
        with pytest.raises(DecisionRefused):
            gov.grant(found, cast.acme, cast.anna)

    def test_leaving_and_coming_back_changes_nothing(self, cast, bound):
        heir = builders.person("Heir")
        membership = builders.join(heir, cast.acme, Role.ADMIN)
        made = gov.request(bound.key, gov.person(heir, cast.acme))
        org_services.remove_member(membership, actor=cast.member(cast.alice))
        builders.join(heir, cast.acme, Role.ADMIN)
        with pytest.raises(DecisionRefused, match="yourself"):
            gov.grant(made, cast.acme, heir)

    def test_a_role_that_is_lost_meanwhile_counts_for_nothing(self, cast, bound):
        admin = builders.person("Admin")
        membership = builders.join(admin, cast.acme, Role.ADMIN)
        made = gov.request(bound.key)
        stale = gov.person(admin, cast.acme)
        org_services.change_role(membership, Role.DEVELOPER, actor=cast.member(cast.alice))
        with pytest.raises(DecisionRefused), tenancy.within(cast.acme.id):
            services.grant_approval(made, actor=stale)

    def test_nor_does_a_disabled_account(self, cast, bound):
        admin = builders.person("Admin")
        builders.join(admin, cast.acme, Role.ADMIN)
        made, stale = gov.request(bound.key), gov.person(admin, cast.acme)
        org_services.disable_user(admin, actor=builders.OPERATOR)
        with pytest.raises(DecisionRefused), tenancy.within(cast.acme.id):
            services.grant_approval(made, actor=stale)

    def test_an_admin_of_a_project_decides_there_alone(self, cast):
        here, there = (builders.project(builders.root(cast.acme)) for _ in range(2))
        admin = builders.person("Admin")
        builders.join(admin, cast.acme, Role.ADMIN, here)
        mine = gov.request(gov.bound_key(cast.acme, cast.alice, project=here).key)
        other = gov.request(gov.bound_key(cast.acme, cast.alice, project=there).key)
        assert gov.grant(mine, cast.acme, admin).decision == "granted"
        with pytest.raises(DecisionRefused):
            gov.grant(other, cast.acme, admin)

    def test_once_only(self, cast, bound):
        made = gov.granted(cast.acme, bound.key, cast.alice)
        for decide in (gov.grant, gov.deny):
            with pytest.raises(StateForbids, match="granted already"):
                decide(made, cast.acme, cast.anna)
        denied = gov.deny(gov.request(bound.key), cast.acme, cast.alice)
        with pytest.raises(StateForbids, match="denied already"):
            gov.grant(denied, cast.acme, cast.anna)

    def test_not_when_its_time_is_over(self, cast, bound):
        made = gov.request(bound.key)
        past(made)
        for decide in (gov.grant, gov.deny):
            with pytest.raises(StateForbids, match="expired"):
                decide(made, cast.acme, cast.alice)

    def test_not_when_its_key_has_ended(self, cast, bound):
        made = gov.request(bound.key)
        with tenancy.within(cast.acme.id):
            services.revoke_key(bound.key, actor=gov.person(cast.alice, cast.acme))
        with pytest.raises(StateForbids):
            gov.grant(made, cast.acme, cast.alice)
        assert gov.deny(made, cast.acme, cast.alice).decision == "denied"

    def test_a_stranger_finds_nothing(self, cast, bound):
        made = gov.request(bound.key)
        with pytest.raises(Gone), tenancy.within(cast.elsewhere.id):
            services.grant_approval(made, actor=gov.person(cast.mallory, cast.elsewhere))

    def test_of_two_at_once_one_decides(self, cast, bound):
        for _ in range(3):
            made = gov.request(bound.key)

            def decide(number, made=made):
                who = (cast.alice, cast.anna)[number % 2]
                act = (gov.grant, gov.deny)[number // 2 % 2]
                try:
                    return act(made, cast.acme, who).decision
                except StateForbids:
                    return None

            before = len(builders.entries(cast.acme.id))
            results = [one for one in at_once(8, decide) if one]
            assert [entry.act for entry in builders.entries(cast.acme.id)[before:]] == [
                f"approval.{results[0]}"
            ]
            assert len(results) == 1
            assert gov.read(made).decision == results[0]

    def test_an_end_between_look_and_click_wins(self, cast, bound):
        made = gov.request(bound.key)

        def act(number):
            if number == 0:
                past(made, 0)
                return None
            try:
                return gov.grant(made, cast.acme, cast.alice).decision
            except (StateForbids, IntegrityError):
                return None

        results = at_once(4, act)
        assert len([one for one in results if one]) <= 1

    def test_what_was_asked_for_never_changes(self, cast, bound):
        made = gov.granted(cast.acme, bound.key, cast.alice)
        for change in ({"scope": "admin:projects"}, {"uses": 9}, {"key_id": made.key_id}, {"behind": []}):
            with pytest.raises(ProgrammingError, match="permission denied"), tenancy.within(cast.acme.id):
                Approval.objects.filter(pk=made.pk).update(**change)
        for change in ({"decision": "denied"}, {"decided_by": cast.anna.id}, {"note": "Other words"}):
            with pytest.raises(IntegrityError, match="decided once"), tenancy.within(cast.acme.id):
                Approval.objects.filter(pk=made.pk).update(**change)


class TestEnd:
    def test_once(self, cast, bound):
        made = gov.request(bound.key)
        past(made)
        with tenancy.within(cast.acme.id), builders.gains(cast.acme.id, "approval.expired"):
            assert services.record_approval_end(made.id) is True
            assert services.record_approval_end(made.id) is False

    def test_by_two_workers_at_once(self, cast, bound):
        made = gov.request(bound.key)
        past(made)

        def act(_number):
            with tenancy.within(cast.acme.id):
                return services.record_approval_end(made.id)

        with builders.gains(cast.acme.id, "approval.expired"):
            assert sorted(at_once(4, act)) == [False, False, False, True]

    @pytest.mark.parametrize("is_used", [True, False])
    def test_what_was_used_up_or_denied_has_ended_otherwise(self, cast, bound, is_used):
        if is_used:
            made = gov.granted(cast.acme, bound.key, cast.alice)
            as_superuser("UPDATE keys_approvalspend SET spent = 1 WHERE approval_id = %s", made.id)
        else:
            made = gov.deny(gov.request(bound.key), cast.acme, cast.alice)
        past(made)
        with tenancy.within(cast.acme.id), builders.gains(cast.acme.id):
            assert services.record_approval_end(made.id) is False

    def test_the_job_finds_it_and_leaves_what_lives(self, cast, bound):
        made, living = gov.granted(cast.acme, bound.key, cast.alice), gov.request(bound.key)
        past(made, 60)
        approvals.record_ends(0)
        told = [entry for entry in builders.entries(cast.acme.id) if entry.act == "approval.expired"]
        assert [entry.data["was_granted"] for entry in told if entry.data["target"] == made.id] == [True]
        assert living.id not in {entry.data["target"] for entry in told}
