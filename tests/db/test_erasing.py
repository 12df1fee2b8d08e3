"""Erasing a person: what is theirs goes from every table, what is others' stays, and the ledger still proves itself."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from audit import entry, ledger, note, stored, tenancy, tree
from audit.erasing import finding
from audit.erasing.finding import BEFORE_ALL, Sought
from audit.errors import BundleUnavailable
from audit.exports.bundle import open_bundle
from audit.models import Attempt, Delivery, DeliveryState, Endpoint, Mail, Sealed
from audit.services import erasing
from audit.tasks.erasing import sweep_erasures
from audit.verify import verify
from orgs import services
from orgs.roles import Role
from tests import builders, bundles, ledgers
from tests.ledgers import ALICE

OWN = ["email", "ip", "name", "user_agent"]
EVERY_TABLE = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname = 'public' ORDER BY 1
"""


@pytest.fixture
def cast():
    return builders.cast()


def bob_of(cast, **more):
    """Bob as he acts: with an address, a browser and a name that nobody else has."""
    word = builders.unique("bob")
    return replace(
        cast.member(cast.bob),
        ip="198.51.100.77",
        user_agent=f"Agent of {word}",
        name=f"Old Name {word}",
        **more,
    )


def record(where, actor, act, target, data=None, **sealed):
    with tenancy.within(where.id), ledger.recording(where.id, actor) as write:
        write(act, target=target, data=data or {}, sealed=sealed)


def sealed_of(organization_id):
    with tenancy.within(organization_id):
        rows = Sealed.objects.filter(organization_id=organization_id)
        return {(row.index, row.field): row.value for row in rows}


def verified(organization_id):
    with stored.snapshot():
        return verify(
            organization_id,
            stored.head(organization_id),
            stored.rows(organization_id),
            stored.openings(organization_id),
        )


def tables_with(word):
    """Return every table of which a row says this, in whatever column: bytes are looked through, too."""
    as_hex, as_b64 = word.encode().hex(), base64.b64encode(word.encode()).decode().rstrip("=")[:-2]
    with ledgers.superuser() as superuser:
        tables = [name for (name,) in superuser.execute(EVERY_TABLE).fetchall()]
        return [
            table
            for table in tables
            if superuser.execute(
                f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text ILIKE ANY (%s))".encode(),
                [[f"%{word}%", f"%{as_hex}%", f"%{as_b64}%"]],
            ).fetchone()[0]
        ]


def erase(cast, person, **how):
    return erasing.erase_person(cast.acme.id, person.id, actor=cast.member(cast.alice), **how)


class TestWhatGoes:
    def test_what_the_person_sealed_of_themselves_and_what_others_sealed_of_them(self, cast):
        bob, alice = bob_of(cast), cast.member(cast.alice)
        record(cast.acme, bob, "key.created", "key_1")
        record(
            cast.acme, alice, "member.role_changed", "mbr_1", {"user": bob.id}, member_email="b@old.example"
        )
        mark = len(builders.entries(cast.acme.id))
        record(cast.acme, alice, "key.revoked", "key_1", note=f"asked {cast.bob.email.upper()} about it")
        before = sealed_of(cast.acme.id)
        erasure = erase(cast, cast.bob)
        left = sealed_of(cast.acme.id)
        gone = set(before) - set(left)
        assert {field for index, field in gone if index == mark - 2} == set(OWN)
        assert {field for index, field in gone if index == mark - 1} == {"member_email"}
        assert {field for index, field in gone if index == mark} == {"note"}
        # That he joined was written when the cast was made.
        joined = [
            e for e in builders.entries(cast.acme.id) if e.data.get("user") == bob.id and e.i < mark - 2
        ]
        assert {(e.i, f) for e in joined for f in ("member_email", "member_name")} <= gone
        assert erasure.finished_at is not None
        assert erasure.fields == len(gone)
        assert erasure.entries == len({index for index, _ in gone})
        assert not any(cast.bob.email in value.lower() for value in left.values())

    def test_what_others_are_called_stays(self, cast):
        bob = bob_of(cast)
        record(cast.acme, bob, "member.invited", "inv_1", member_email="carla@acme.example")
        record(cast.acme, bob, "key.first_network", "key_1", address="192.0.2.1")
        at = len(builders.entries(cast.acme.id)) - 1
        erase(cast, cast.bob)
        left = sealed_of(cast.acme.id)
        assert left[at - 1, "member_email"] == "carla@acme.example"
        assert left[at, "address"] == "192.0.2.1"
        assert (at, "ip") not in left

    @pytest.mark.parametrize("with_notes", [True, False])
    def test_what_they_wrote_is_a_choice(self, cast, with_notes):
        record(cast.acme, bob_of(cast), "key.revoked", "key_1", note="the partner rang")
        at = len(builders.entries(cast.acme.id)) - 1
        erase(cast, cast.bob, with_notes=with_notes)
        assert ((at, "note") in sealed_of(cast.acme.id)) is not with_notes

    def test_somebody_who_only_was_invited(self, cast):
        address = f"{builders.unique('guest')}@partner.example"
        with tenancy.within(cast.acme.id):
            invited = services.invite_member(address, Role.VIEWER, actor=cast.member(cast.alice))
            services.withdraw_invitation(invited.invitation, actor=cast.member(cast.alice))
        assert set(tables_with(address)) == {"audit_sealed", "orgs_invitation"}
        erasing.erase_person(cast.acme.id, "", actor=cast.member(cast.alice), addresses=[address.upper()])
        assert tables_with(address) == []
        said = builders.entries(cast.acme.id)[-1]
        assert (said.act, said.data["target"]) == ("ledger.erasure", cast.acme.id)

    def test_an_open_invitation_stays_as_it_works(self, cast):
        address = f"{builders.unique('guest')}@partner.example"
        with tenancy.within(cast.acme.id):
            services.invite_member(address, Role.VIEWER, actor=cast.member(cast.alice))
        erasing.erase_person(cast.acme.id, "", actor=cast.member(cast.alice), addresses=[address])
        assert tables_with(address) == ["orgs_invitation"]

    @pytest.mark.parametrize("other", ["jim{}", "{}.au", "{}x", "x-{}"])
    def test_an_address_inside_another_one_is_somebody_elses(self, cast, other):
        alice = cast.member(cast.alice)
        address = f"{builders.unique('bob')}@partner.example"
        record(cast.acme, alice, "member.invited", "inv_1", member_email=other.format(address))
        record(cast.acme, alice, "key.revoked", "key_1", note=f"see {other.format(address)}, please")
        assert erasing.erase_person(cast.acme.id, "", actor=alice, addresses=[address]).fields == 0

    def test_who_erases_themselves_leaves_nothing_new(self, cast):
        alice = replace(cast.member(cast.alice), ip="198.51.100.1", user_agent=builders.unique("agent"))
        record(cast.acme, alice, "key.created", "key_1")
        erasing.erase_person(cast.acme.id, alice.id, actor=alice)
        assert builders.entries(cast.acme.id)[-1].sealed == {}
        assert tables_with(alice.user_agent) == []

    def test_who_erased_another_stays_named(self, cast):
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        erase(cast, cast.bob, note="ticket 4711")
        said = builders.entries(cast.acme.id)[-1]
        left = sealed_of(cast.acme.id)
        assert left[said.i, "email"] == cast.alice.email
        assert left[said.i, "note"] == "ticket 4711"

    def test_the_reason_does_not_keep_what_it_erases(self, cast):
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        erase(cast, cast.bob, note=f"{cast.bob.email.upper()} asked for it")
        said = builders.entries(cast.acme.id)[-1]
        assert sealed_of(cast.acme.id)[said.i, "note"] == "(erased) asked for it"

    def test_another_organizations_ledger_keeps_its_own(self, cast):
        stranger = replace(cast.member(cast.mallory), name="X")
        record(cast.elsewhere, stranger, "key.created", "key_1")
        before = sealed_of(cast.elsewhere.id)
        erasing.erase_person(cast.acme.id, cast.mallory.id, actor=cast.member(cast.alice))
        assert sealed_of(cast.elsewhere.id) == before


class TestNothingIsLeft:
    def test_no_table_holds_it_any_more(self, cast):
        bob = bob_of(cast)
        record(cast.acme, bob, "key.created", "key_1")
        at = len(builders.entries(cast.acme.id)) - 1
        now = timezone.now()
        with tenancy.within(cast.acme.id):
            for user, place in ((cast.alice, at), (cast.carol, 0)):
                Mail.objects.create(
                    organization_id=cast.acme.id,
                    epoch=1,
                    index=place,
                    user_id=user.id,
                    act="key.created",
                    subject=f"{bob.name} made a key",
                    text=f"{bob.name} <{bob.email}> from {bob.ip} with {bob.user_agent}",
                    created_at=now,
                    due_at=now,
                )
            endpoint = Endpoint.objects.create(
                id=builders.new_id("whk"),
                organization_id=cast.acme.id,
                url="https://hooks.example/",
                acts=["*"],
                cursor_epoch=1,
                cursor_index=at,
                created_at=now,
                created_by=cast.alice.id,
                updated_at=now,
            )
            delivery = Delivery.objects.create(
                id=builders.new_id("whd"),
                organization_id=cast.acme.id,
                endpoint=endpoint,
                epoch=1,
                index=at,
                act="key.created",
                created_at=now,
                state=DeliveryState.DELIVERED,
                finished_at=now,
            )
            Attempt.objects.create(
                delivery=delivery,
                organization_id=cast.acme.id,
                at=now,
                duration_ms=1,
                outcome="delivered",
                text=f"thank you, {bob.email}",
            )
        self.index_for_search(cast.acme.id)
        unique = bob.user_agent.partition("Agent of ")[2]
        assert set(tables_with(unique)) >= {"audit_sealed", "audit_mail"}
        erase(cast, cast.bob)
        # Only Carol's mail, of an entry that is not his.
        assert tables_with(bob.user_agent) == ["audit_mail"]
        with tenancy.within(cast.acme.id):
            mail = Mail.objects.get(organization_id=cast.acme.id, user_id=cast.alice.id)
            assert mail.subject == "(erased) made a key"
            assert mail.text == "(erased) <(erased)> from (erased) with (erased)"
            assert mail.state == Mail.State.WAITING
            Mail.objects.filter(user_id=cast.carol.id).delete()
            assert Attempt.objects.get(delivery=delivery).text == "thank you, (erased)"
        assert tables_with(unique) == []
        # His account is not this ledger's, nor what the operator's says of its making (see TestTheCommand).
        assert cast.bob.email not in sealed_of(cast.acme.id).values()
        assert tables_with(cast.bob.email) == ["audit_sealed", "orgs_user"]

    @staticmethod
    def index_for_search(organization_id):
        with tenancy.within(organization_id), connection.cursor() as cursor:
            cursor.execute("SELECT audit_search_write(1000)")

    def test_the_search_finds_it_no_more(self, cast):
        bob = bob_of(cast)
        for _ in range(70):
            record(cast.acme, bob, "key.created", "key_1")
        self.index_for_search(cast.acme.id)
        word = bob.user_agent.rpartition(" ")[2]
        erase(cast, cast.bob)
        assert tables_with(word) == []
        self.index_for_search(cast.acme.id)
        assert tables_with(word) == []


class TestTheLedgerAfterwards:
    def test_roots_checkpoints_and_older_bundles_hold(self, cast):
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        signed = bundles.sign(cast.acme.id)
        with tenancy.within(cast.acme.id):
            older = b"".join(open_bundle(cast.acme.id))
        erase(cast, cast.bob)
        found = verified(cast.acme.id)
        with stored.snapshot():
            leaves = [row.leaf for row in stored.rows(cast.acme.id)]
        vkey = note.VerifierKey.parse(ledger.verifier_key(entry.parse(leaves[0]).log))
        checkpoint = note.open_checkpoint(signed, vkey.name, [vkey])
        assert tree.root(map(entry.leaf_hash, leaves[: checkpoint.size])) == checkpoint.root
        assert found.size > checkpoint.size
        assert bundles.read([older]).openings
        bundles.sign(cast.acme.id)
        with tenancy.within(cast.acme.id):
            newer = bundles.read(open_bundle(cast.acme.id))
        assert cast.bob.email not in newer.openings.values()

    def test_twice_is_harmless_and_says_only_that_it_was_asked_for(self, cast):
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        erase(cast, cast.bob)
        with builders.gains(cast.acme.id, "ledger.erasure_requested") as told:
            again = erase(cast, cast.bob)
        assert (again.entries, again.fields) == (0, 0)
        # Nothing says that this organization ever knew them.
        assert told[0].data["target"] == again.id
        assert cast.bob.id not in str(told[0].data)
        verified(cast.acme.id)

    def test_thousands_of_entries_are_several_erasures(self, cast, monkeypatch):
        ledgers.append(cast.acme.id, 2_100, actor=bob_of(cast))
        erasure = erase(cast, cast.bob)
        assert erasure.finished_at is None
        while erasing.advance_erasure(cast.acme.id, erasure.id):
            pass
        said = [e for e in builders.entries(cast.acme.id) if e.act == "ledger.erasure"]
        assert len(said) >= 5
        assert {e.data["erasure"] for e in said} == {erasure.id}
        assert {e.actor for e in said} == {cast.alice.id}
        assert max(len(e.data["entries"]) for e in said) <= 500
        left = sealed_of(cast.acme.id)
        assert not any("Old Name" in value for value in left.values())
        with tenancy.within(cast.acme.id):
            erasure.refresh_from_db()
        assert erasure.addresses == []
        assert erasure.entries >= 2_100
        verified(cast.acme.id)

    def test_what_a_lost_job_left_is_ended_by_the_clock(self, cast, monkeypatch):
        monkeypatch.setattr(erasing, "ENOUGH", 1)
        monkeypatch.setattr(erasing, "PAGE", 3)
        ledgers.append(cast.acme.id, 12, actor=bob_of(cast))
        erasure = erase(cast, cast.bob)
        assert erasure.finished_at is None
        sweep_erasures(0)
        with tenancy.within(cast.acme.id):
            erasure.refresh_from_db()
        assert erasure.finished_at is not None
        assert not any("Old Name" in value for value in sealed_of(cast.acme.id).values())
        verified(cast.acme.id)

    def test_it_counts_before_what_it_does(self, cast):
        ledgers.append(cast.acme.id, 5, actor=bob_of(cast))
        with tenancy.within(cast.acme.id):
            sought = erasing.sought_of(cast.acme.id, cast.bob.id)
            counted = erasing.survey(cast.acme.id, sought)
        erasure = erase(cast, cast.bob)
        assert counted == (erasure.entries, erasure.fields, True)


class TestRaces:
    def test_erasures_appends_and_exports_at_once(self, cast):
        ledgers.append(cast.acme.id, 200, actor=bob_of(cast))
        bundles.sign(cast.acme.id)
        acts = [self.append, self.append, self.export, *[partial(erase, cast, cast.bob)] * 3]
        with ThreadPoolExecutor(len(acts)) as threads:
            for done in [threads.submit(self.closing, act, cast.acme.id) for act in acts]:
                done.result(60)
        assert not any("Old Name" in value for value in sealed_of(cast.acme.id).values())
        said = [e for e in builders.entries(cast.acme.id) if e.act == "ledger.erasure"]
        named = [(i, field) for e in said for i in e.data["entries"] for field in e.data["fields"]]
        assert len(named) == len(set(named))
        verified(cast.acme.id)

    @staticmethod
    def closing(act, organization_id):
        try:
            act(organization_id) if not isinstance(act, partial) else act()
        finally:
            connection.close()

    @staticmethod
    def append(organization_id):
        for _ in range(20):
            ledgers.append(organization_id, 3, actor=ALICE)

    @staticmethod
    def export(organization_id):
        """Each bundle says what it lacks, or is not made until the notary has signed that."""
        for _ in range(8):
            with tenancy.within(organization_id), suppress(BundleUnavailable):
                bundles.read(open_bundle(organization_id))
            bundles.sign(organization_id)


class TestTheCommand:
    def run(self, *arguments):
        out = StringIO()
        call_command("ledger", "erase", *arguments, stdout=out)
        return out.getvalue()

    def test_by_address_in_one_organization(self, cast):
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        where = ["--organization", cast.acme.id, "--person", cast.bob.email]
        before = sealed_of(cast.acme.id)
        assert "would erase" in self.run(*where, "--dry-run")
        assert sealed_of(cast.acme.id) == before
        assert "erased" in self.run(*where)
        assert cast.bob.email not in sealed_of(cast.acme.id).values()
        assert "nothing found" in self.run(*where)
        *_, said, asked = builders.entries(cast.acme.id)
        assert (said.act, said.actor, said.data["target"]) == ("ledger.erasure", "sys_command", cast.bob.id)
        assert (asked.act, asked.actor) == ("ledger.erasure_requested", "sys_command")

    def test_everywhere(self, cast):
        builders.join(cast.bob, cast.elsewhere, Role.VIEWER)
        record(cast.acme, bob_of(cast), "key.created", "key_1")
        record(cast.elsewhere, bob_of(cast), "key.created", "key_2")
        said = self.run("--everywhere", "--person", cast.bob.id)
        assert cast.acme.id in said
        assert cast.elsewhere.id in said
        # The operator's ledger tells that the account was made.
        assert tables_with(cast.bob.email) == ["orgs_user"]

    def test_who_is_no_account_and_no_address(self, cast):
        with pytest.raises(CommandError):
            self.run("--organization", cast.acme.id, "--person", "bob")
        with pytest.raises(CommandError):
            self.run("--person", "usr_x")


class TestFinding:
    def test_a_damaged_entry_stops_nothing(self, cast):
        record(
            cast.acme,
            cast.member(cast.alice),
            "member.removed",
            "mbr_1",
            {"user": cast.bob.id},
            member_name="B",
        )
        at = len(builders.entries(cast.acme.id)) - 1
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                "UPDATE audit_entry SET leaf = '\\x00' WHERE organization_id = %s AND index = %s",
                [cast.acme.id, at],
            )
        with tenancy.within(cast.acme.id):
            sought = Sought(person_id=cast.bob.id, addresses=[cast.bob.email], with_notes=False)
            found, _, count = finding.page(cast.acme.id, sought, BEFORE_ALL, 1_000)
        assert count == at + 1
        assert (at, "member_name") not in {(each.position[1], each.field) for each in found}
