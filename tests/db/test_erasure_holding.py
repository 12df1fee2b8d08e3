"""An opening goes by an entry that names it, and by nothing else, whoever asks (spec LEDGER, Bytes 11)."""

import contextlib
import os

import psycopg
import pytest

from audit import entry, ledger, stored, tenancy
from audit.actors import Actor
from audit.errors import Fault, LedgerFaulty, LedgerUnavailable
from audit.tree import root
from audit.verify import verify
from tests import ledgers

refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
unfit = pytest.raises(psycopg.errors.CheckViolation)
OPENINGS = "SELECT index, field FROM audit_sealed WHERE organization_id = %s ORDER BY index, field"
OWN = ["email", "ip", "name", "user_agent"]
OWNER = Actor(id="usr_owner")


@pytest.fixture
def organization_id():
    return ledgers.new(5)


def erase(organization_id, entries, fields, **more):
    with tenancy.within(organization_id), ledger.recording(organization_id, OWNER) as record:
        record("ledger.erasure", target="usr_alice", data={"entries": entries, "fields": fields, **more})


def openings(organization_id):
    with ledgers.superuser() as superuser:
        return superuser.execute(OPENINGS, [organization_id]).fetchall()


def verified(organization_id):
    with stored.snapshot():
        return verify(
            organization_id,
            stored.head(organization_id),
            stored.rows(organization_id),
            stored.openings(organization_id),
        )


@contextlib.contextmanager
def working_in(url, organization_id):
    with psycopg.connect(url) as connection:
        connection.execute("SELECT set_config('app.organization', %s, true)", [organization_id])
        yield connection
        connection.rollback()


class TestAnErasure:
    def test_its_openings_go_and_the_root_of_what_was_stays(self, organization_id):
        before = verified(organization_id)
        erase(organization_id, [1, 3], ["email", "ip"])
        left = [(i, f) for i in (1, 2, 3, 4) for f in OWN if i not in (1, 3) or f not in ("email", "ip")]
        assert openings(organization_id) == left
        found = verified(organization_id)
        assert found.size == before.size + 1
        with stored.snapshot():
            leaves = [row.leaf for row in stored.rows(organization_id)][: before.size]
        assert root(entry.leaf_hash(leaf) for leaf in leaves) == before.root

    def test_twice_is_harmless(self, organization_id):
        erase(organization_id, [1], OWN)
        erase(organization_id, [1], OWN)
        assert {index for index, _ in openings(organization_id)} == {2, 3, 4}
        assert verified(organization_id).size == 7

    @pytest.mark.parametrize(
        "data",
        [
            {"entries": [99], "fields": ["email"]},
            {"entries": [1], "fields": ["note"]},
            {"entries": [1, 0], "fields": ["email"]},
            {"entries": [-1], "fields": ["email"]},
            {"entries": [5], "fields": ["email"]},
            {"entries": [1], "fields": ["email"], "epoch": 2},
            {"entries": [1], "fields": ["email"], "epoch": 70_000},
            {"entries": [1], "fields": ["email"], "epoch": "1"},
            {"entries": [1], "fields": ["email"], "epoch": None},
            {"entries": [], "fields": ["email"]},
            {"entries": [1], "fields": []},
            {"entries": ["1"], "fields": ["email"]},
            {"entries": [1], "fields": [1]},
            {"entries": 1, "fields": ["email"]},
            {"entries": [1], "fields": "email"},
            {"entries": [1]},
            {"fields": ["email"]},
            {},
        ],
    )
    def test_what_was_never_sealed_can_not_be_named(self, organization_id, data):
        before = openings(organization_id)
        with (
            pytest.raises(LedgerUnavailable),
            tenancy.within(organization_id),
            ledger.recording(organization_id, OWNER) as record,
        ):
            record("ledger.erasure", target="usr_alice", data=data)
        assert openings(organization_id) == before
        assert verified(organization_id).size == 5

    def test_it_reaches_no_other_organization(self, organization_id):
        other = ledgers.new(5)
        erase(organization_id, [1, 2, 3, 4], OWN)
        assert len(openings(other)) == 16
        with (
            pytest.raises(LedgerUnavailable),
            tenancy.within(other),
            ledger.recording(organization_id, OWNER) as record,
        ):
            record("ledger.erasure", target="usr_alice", data={"entries": [1], "fields": OWN})

    def test_an_opening_that_is_gone_without_one_is_found(self, organization_id):
        erase(organization_id, [1, 2], ["email"])
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                "DELETE FROM audit_sealed WHERE organization_id = %s AND index = 2 AND field = 'name'",
                [organization_id],
            )
        with pytest.raises(LedgerFaulty) as caught:
            verified(organization_id)
        assert (caught.value.fault, caught.value.index) == (Fault.DROPPED, 2)
        assert "name" in caught.value.what


class TestWhoeverDeletes:
    """With the setting that the function uses, and without."""

    @pytest.fixture(params=["", "1-5", "1-1", "9-9", "x"])
    def setting(self, request):
        return request.param

    @pytest.fixture
    def place(self, organization_id):
        erase(organization_id, [1], ["email"])
        return organization_id

    def attempt(self, connection, place, setting):
        connection.execute("SELECT set_config('keystead.erasure', %s, true)", [setting])
        for statement in (
            "DELETE FROM audit_sealed WHERE organization_id = %s AND index = 1 AND field = 'name'",
            "DELETE FROM audit_sealed WHERE organization_id = %s AND index = 2 AND field = 'email'",
            "UPDATE audit_sealed SET value = '' WHERE organization_id = %s",
            "UPDATE audit_sealed SET field = 'email' WHERE organization_id = %s AND index = 1 AND field = 'name'",
        ):
            with refused, connection.transaction():
                connection.execute(statement.encode(), [place])
        with refused, connection.transaction():
            connection.execute("TRUNCATE audit_sealed")

    def test_the_application(self, place, setting):
        with working_in(os.environ["DATABASE_URL"], place) as app:
            self.attempt(app, place, setting)

    def test_the_owner(self, place, setting):
        with working_in(os.environ["DATABASE_MIGRATE_URL"], place) as owner:
            self.attempt(owner, place, setting)

    def test_a_superuser_as_a_replica(self, place, setting):
        with ledgers.superuser(autocommit=False) as superuser:
            superuser.execute("SET session_replication_role = replica")
            self.attempt(superuser, place, setting)

    def test_the_application_calls_neither_function(self, place):
        with working_in(os.environ["DATABASE_URL"], place) as app:
            for call in ("ledger_erase(%s, 1::smallint, 5)", "audit_sealed_stays()"):
                with refused, app.transaction():
                    app.execute(f"SELECT {call}".encode(), [place] if "%s" in call else [])

    def test_the_owner_repeats_an_erasure_and_makes_none_of_another_entry(self, place):
        with working_in(os.environ["DATABASE_MIGRATE_URL"], place) as owner:
            assert owner.execute("SELECT ledger_erase(%s, 1::smallint, 5)", [place]).fetchone() == (0,)
            with pytest.raises(psycopg.errors.NoDataFound), owner.transaction():
                owner.execute("SELECT ledger_erase(%s, 1::smallint, 2)", [place])

    def test_a_forged_erasure_can_not_be_appended_without_its_deed(self, place):
        """Whoever has the application's login writes one only by erasing, so that the log says what is true."""
        with working_in(os.environ["DATABASE_URL"], place) as app:
            at = app.execute("SELECT * FROM ledger_begin(%s, 'x')", [place]).fetchone()
            leaf = entry.build(
                log=at[0],
                i=at[1],
                prev=at[2],
                t=at[3],
                act="ledger.erasure",
                actor="usr_mallory",
                data={"entries": [2], "fields": ["ip"]},
            )
            app.execute("SELECT ledger_append(%s, %s, '[[]]')", [place, [leaf]])
            assert (2, "ip") not in app.execute(OPENINGS, [place]).fetchall()
