"""Erasing what a person wrote, wherever else it stands: what was sealed and its copies go in one transaction."""

import json
from dataclasses import dataclass, field

import pytest
from django.db import DatabaseError, connection

from audit import services as audit_services
from audit import tenancy
from audit.models import Endpoint, Export, Format, SupportSession
from audit.services import erasing
from audit.services.exports import ExportDraft, request_export
from keys import callers, services
from keys.listing import Filters
from keys.models import ApiKey, Approval, IdempotencyRecord, Incident
from keys.services.changes import Changes
from orgs.roles import Role
from tests import builders, governance_builders, key_builders
from tests.db.test_erasing import tables_with


@pytest.fixture
def cast():
    return builders.cast()


@pytest.fixture
def dora(cast):
    """An owner beside Alice, whose words nobody else has."""
    found = builders.person(builders.unique("Dora"))
    builders.join(found, cast.acme, Role.OWNER)
    return found


def caller(user, where):
    return callers.of_member(builders.member(user, where), has_stepped_up=True)


def erase(cast, person, *, with_notes=True, addresses=()):
    alice = cast.member(cast.alice)
    return erasing.erase_person(
        cast.acme.id, person.id, actor=alice, with_notes=with_notes, addresses=addresses
    )


@dataclass
class Written:
    """What somebody wrote, each in words of its own."""

    words: dict[str, str] = field(default_factory=dict)

    def __call__(self, what):
        return self.words.setdefault(what, f"{builders.unique('said')} of {what}")


@pytest.fixture
def written(cast, dora):
    """Everything that a person can write, as they do it."""
    say, where = Written(), cast.acme
    actor = builders.member(dora, where)
    bound = governance_builders.bound_key(where, cast.alice).key
    own = governance_builders.request(bound, caller(dora, where), reason=say("request"))
    governance_builders.grant(own, where, cast.alice)
    for decide in (governance_builders.grant, governance_builders.deny):
        decide(governance_builders.request(bound), where, dora, note=say(decide.__name__))
    revoked = key_builders.create(where, cast.alice, description="What Alice wrote").key
    described = key_builders.create(where, dora, description=say("description")).key
    both = key_builders.create(where, dora, description=say("description of a revoked key")).key
    changed = key_builders.create(where, cast.alice, description="As it was").key
    project = builders.project(builders.root(where))
    taken = [key_builders.create(where, cast.alice, project=project).key for _ in range(2)]
    with tenancy.within(where.id):
        services.revoke_key(revoked, actor=caller(dora, where), note=say("revocation"))
        services.revoke_key(both, actor=caller(cast.alice, where), note="Alice's reason")
        services.change_key(changed, Changes(description=say("change")), actor=caller(dora, where))
        filters = Filters(organization_id=where.id, project=project.id, search=taken[0].name[:-1])
        services.break_glass(filters, actor=caller(dora, where), reason=say("break-glass"))
        audit_services.create_endpoint(
            where.id, "https://1.1.1.1/hook", ["key.*"], actor=actor, description=say("webhook")
        )
        request_export(where.id, ExportDraft(format=Format.CSV, filters={"q": say("export")}), actor=actor)
        IdempotencyRecord.objects.create(
            organization_id=where.id,
            caller=described.id,
            key_digest=b"k" * 32,
            request_digest=b"r" * 32,
            status=201,
            answer={"id": "rot_1", "key": {"description": say("description"), "tags": ["x"]}},
        )
    with tenancy.within(where.id), connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_write(1000)")
    return say.words


class TestCopies:
    def test_no_table_holds_what_they_wrote(self, cast, dora, written):
        before = {what: tables_with(words) for what, words in written.items()}
        assert all(before.values())
        # Those that stood in two places and more, so that this can fail.
        assert {"keys_approval", "audit_sealed"} <= set(before["request"]) & set(before["grant"])
        assert {"keys_incident", "keys_apikey", "audit_sealed"} <= set(before["break-glass"])
        assert {"keys_apikey", "keys_idempotencyrecord"} <= set(before["description"])
        assert before["webhook"] == ["audit_endpoint"]
        erase(cast, dora)
        assert {what: tables_with(words) for what, words in written.items()} == {what: [] for what in written}

    def test_what_others_wrote_stays(self, cast, dora, written):
        erase(cast, dora)
        with tenancy.within(cast.acme.id):
            said = set(ApiKey.objects.values_list("description", "revocation_note"))
            reasons = set(Approval.objects.values_list("reason", "note"))
            kept = IdempotencyRecord.objects.get(organization_id=cast.acme.id)
            incident = Incident.objects.get(organization_id=cast.acme.id)
        assert ("What Alice wrote", "(erased)") in said
        assert ("(erased)", "Alice's reason") in said
        assert reasons == {("(erased)", ""), ("INC-7: fail over", "(erased)")}
        assert kept.answer == {"id": "rot_1", "key": {"description": "(erased)", "tags": ["x"]}}
        assert (incident.reason, incident.filter["q"]) == ("(erased)", "(erased)")
        assert incident.filter["project"]

    def test_without_notes_all_of_it_stays(self, cast, dora, written):
        erase(cast, dora, with_notes=False)
        with tenancy.within(cast.acme.id):
            assert Endpoint.objects.get(organization_id=cast.acme.id).description == written["webhook"]
            assert Incident.objects.get(organization_id=cast.acme.id).reason == written["break-glass"]
            assert not ApiKey.objects.filter(description="(erased)").exists()
        assert "keys_approval" in tables_with(written["grant"])

    def test_what_somebody_else_described_since_stays(self, cast, dora):
        key = key_builders.create(cast.acme, dora, description="Dora's words").key
        with tenancy.within(cast.acme.id):
            services.change_key(
                key, Changes(description="Alice's words"), actor=caller(cast.alice, cast.acme)
            )
            hook = audit_services.create_endpoint(
                cast.acme.id,
                "https://1.1.1.1/hook",
                ["*"],
                actor=builders.member(dora, cast.acme),
                description="Dora's words",
            ).endpoint
            audit_services.change_endpoint(
                hook,
                audit_services.Changes(description="Alice's words"),
                actor=builders.member(cast.alice, cast.acme),
            )
        erase(cast, dora)
        with tenancy.within(cast.acme.id):
            key.refresh_from_db()
            hook.refresh_from_db()
        assert key.description == hook.description == "Alice's words"

    def test_another_persons_note_goes_where_it_names_them(self, cast, dora):
        key = key_builders.create(cast.acme, cast.alice).key
        with tenancy.within(cast.acme.id):
            note = f"Asked {dora.email} first"
            services.revoke_key(key, actor=caller(cast.alice, cast.acme), note=note)
        erase(cast, dora, with_notes=False, addresses=[dora.email])
        with tenancy.within(cast.acme.id):
            assert ApiKey.objects.get(pk=key.pk).revocation_note == "(erased)"

    def test_an_open_support_visit_goes_on_without_its_reason(self, cast):
        reason = f"{builders.unique('case')} of a customer"
        visit = audit_services.open_visit(
            cast.acme.id, actor=builders.as_actor(cast.dave), reason=reason, minutes=60
        )
        assert set(tables_with(reason)) == {"audit_sealed", "audit_supportsession"}
        erase(cast, cast.dave)
        assert tables_with(reason) == []
        with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
            session = SupportSession.objects.get(pk=visit.pk)
        assert (session.reason, session.ended_at) == ("(erased)", None)
        assert session.expires_at == visit.expires_at

    def test_an_export_that_was_asked_for_with_their_words_is_gone(self, cast, dora, written):
        erase(cast, dora)
        with tenancy.within(cast.acme.id):
            assert not Export.objects.filter(organization_id=cast.acme.id).exists()

    def test_names_of_things_stand_in_the_entries(self, cast, dora):
        label = builders.unique("vault")
        key_builders.recipient(cast.acme, dora, label)
        erase(cast, dora)
        assert label in json.dumps([entry.data for entry in builders.entries(cast.acme.id)])


class TestTheGuards:
    @pytest.mark.parametrize(
        ("table", "column"),
        [
            ("keys_apikey", "revocation_note = 'another'"),
            ("keys_apikey", "description = 'another'"),
            ("keys_apikey", "description = '(erased)', name = 'another'"),
            ("keys_approval", "reason = 'another'"),
            ("keys_approval", "note = 'another'"),
            ("keys_approval", "reason = '(erased)', uses = 5"),
            ("keys_approval", "decision = 'denied', note = '(erased)'"),
            ("keys_incident", "reason = 'another'"),
            ("keys_incident", """filter = '{"q": "(erased)"}'"""),
            ("keys_incident", """filter = filter || '{"q": "another"}'"""),
            ("keys_incident", "reason = '(erased)', opened_by = 'usr_x'"),
        ],
    )
    def test_nothing_else_is_written_over(self, cast, dora, written, table, column):
        where = {"keys_apikey": "revoked_at IS NOT NULL", "keys_approval": "decision = 'granted'"}
        statement = f"UPDATE {table} SET {column} WHERE {where.get(table, 'true')} AND organization_id = %s"
        with (
            pytest.raises(DatabaseError) as refused,
            tenancy.within(cast.acme.id),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, [cast.acme.id])
        assert refused.value.__cause__.sqlstate in {"23514", "42501"}
