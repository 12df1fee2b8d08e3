"""What the database itself refuses, whoever asks (spec LEDGER, “Holding it”)."""

import base64
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import entry, ledger
from audit.errors import EntryInvalid
from orgs import ids
from tests import ledgers

TABLES = ("audit_entry", "audit_sealed", "audit_head")
refused = pytest.raises(psycopg.errors.InsufficientPrivilege)


@pytest.fixture
def organization_id():
    return ledgers.new(3)


@pytest.fixture
def app():
    """The application's login, in a transaction that is never committed."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def owner():
    with psycopg.connect(os.environ["DATABASE_MIGRATE_URL"]) as connection:
        yield connection
        connection.rollback()


def works_in(connection, organization_id):
    connection.execute("SELECT set_config('app.organization', %s, true)", [organization_id])
    return connection


class TestTheApplicationsLogin:
    @pytest.mark.parametrize("table", TABLES)
    @pytest.mark.parametrize(
        "action", ["UPDATE {} SET epoch = epoch", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
    )
    def test_it_changes_nothing(self, app, organization_id, table, action):
        with refused:
            works_in(app, organization_id).execute(action.format(table).encode())

    @pytest.mark.parametrize("table", TABLES)
    def test_it_inserts_nothing_itself(self, app, organization_id, table):
        with refused:
            works_in(app, organization_id).execute(f"INSERT INTO {table} DEFAULT VALUES".encode())

    def test_it_does_not_read_the_head(self, app, organization_id):
        with refused:
            works_in(app, organization_id).execute("SELECT size FROM audit_head")

    @pytest.mark.parametrize(
        "statement",
        [
            "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
            "ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_keep",
            "ALTER TABLE audit_entry DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE audit_entry OWNER TO keystead_app",
            "DROP TRIGGER audit_entry_keep ON audit_entry",
            "DROP TABLE audit_entry CASCADE",
            "DROP POLICY tenant ON audit_entry",
            "CREATE TRIGGER mine BEFORE INSERT ON audit_entry EXECUTE FUNCTION audit_refuse()",
            "CREATE RULE mine AS ON INSERT TO audit_entry DO INSTEAD NOTHING",
            "CREATE INDEX ON audit_entry (act)",
            "SET session_replication_role = replica",
            "SET ROLE keystead_owner",
            "SET SESSION AUTHORIZATION keystead_owner",
            "CREATE TABLE mine (id int)",
            "CREATE TEMP TABLE mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE OR REPLACE FUNCTION audit_reaches(text) RETURNS boolean LANGUAGE sql RETURN true",
            "ALTER FUNCTION ledger_append(text, bytea[], jsonb) SECURITY INVOKER",
            "SELECT audit_refuse()",
            "SELECT audit_read('{}')",
            "SELECT audit_canonical('{}', 1)",
            "SELECT audit_commitment('a', 'b', sha256(''))",
        ],
    )
    def test_it_takes_no_right(self, app, statement):
        with pytest.raises(psycopg.Error) as caught:
            app.execute(statement.encode())
        assert isinstance(
            caught.value, psycopg.errors.InsufficientPrivilege | psycopg.errors.FeatureNotSupported
        )

    def test_it_reads_the_entries_of_the_organization_it_works_in_alone(self, app, organization_id):
        count = "SELECT count(*) FROM audit_entry WHERE organization_id = %s"
        other = ledgers.new(2)
        assert app.execute(count, [organization_id]).fetchone() == (0,)
        works_in(app, organization_id)
        assert app.execute(count, [organization_id]).fetchone() == (3,)
        assert app.execute(count, [other]).fetchone() == (0,)
        assert app.execute("SELECT count(DISTINCT organization_id) FROM audit_sealed").fetchone() == (1,)

    @pytest.mark.parametrize("elsewhere", ["", "org_other"])
    def test_it_appends_for_no_organization_but_that_one(self, app, organization_id, elsewhere):
        works_in(app, elsewhere)
        with refused, app.transaction():
            app.execute("SELECT ledger_begin(%s, 'x')", [organization_id])
        with refused:
            app.execute("SELECT ledger_append(%s, ARRAY['\\x7b7d'::bytea], '[[]]')", [organization_id])


class TestTheOwner:
    @pytest.mark.parametrize("table", TABLES)
    @pytest.mark.parametrize(
        "action", ["UPDATE {} SET epoch = epoch", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
    )
    def test_the_triggers_refuse(self, owner, organization_id, table, action):
        with refused:
            owner.execute(action.format(table).encode())

    def test_nor_does_it_switch_them_off_for_a_session(self, owner):
        with refused:
            owner.execute("SET session_replication_role = replica")

    def test_the_head_only_grows(self, owner, organization_id):
        for change in (
            "size = size - 1",
            "last_at = last_at - interval '1 s', size = size + 1",
            "origin = 'x'",
        ):
            with refused, owner.transaction():
                owner.execute(
                    f"UPDATE audit_head SET {change} WHERE organization_id = %s".encode(), [organization_id]
                )


class TestASuperuser:
    @pytest.mark.parametrize("table", TABLES)
    @pytest.mark.parametrize("action", ["UPDATE {} SET epoch = 2", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
    def test_a_replicas_session_is_refused_too(self, organization_id, table, action):
        with ledgers.superuser(autocommit=False) as superuser:
            superuser.execute("SET session_replication_role = replica")
            with refused:
                superuser.execute(action.format(table).encode())
            superuser.rollback()

    # That one who disables the triggers succeeds, and is found: test_ledger_tampering.


class Appending:
    """One try to append as the application's login does, in a transaction that is taken back."""

    def __init__(self, app, organization_id):
        self.app, self.organization_id = works_in(app, organization_id), organization_id
        begin = "SELECT log, next_index, prev, at FROM ledger_begin(%s, %s)"
        self.log, self.i, self.prev, self.at = app.execute(
            begin, [organization_id, f"ledger.example/ledger/{organization_id}"]
        ).fetchone()

    def members(self, **changes):
        members = {
            "v": 1,
            "log": self.log,
            "i": self.i,
            "t": entry.format_time(self.at),
            "prev": base64.b64encode(self.prev).decode(),
            "act": "key.created",
            "actor": "usr_alice",
            "data": {"target": "key_x"},
        }
        members.update(changes)
        return {name: value for name, value in members.items() if value is not ...}

    def append(self, *leaves, openings=None):
        openings = [[]] * len(leaves) if openings is None else openings
        with self.app.transaction():
            self.app.execute(
                "SELECT ledger_append(%s, %s, %s)", [self.organization_id, list(leaves), json.dumps(openings)]
            )

    def refuses(self, *leaves, openings=None):
        with pytest.raises(psycopg.Error) as caught:
            self.append(*leaves, openings=openings)
        assert not isinstance(caught.value, psycopg.errors.InternalError_ | psycopg.errors.SyntaxError)


@pytest.fixture
def appending(app, organization_id):
    return Appending(app, organization_id)


def sealed_as(value, salt, field="email"):
    return {field: entry.commit(field, value, salt)}, [[field, base64.b64encode(salt).decode(), value]]


class TestWhatTheFunctionsAppend:
    def test_an_entry(self, appending):
        sealed, opened = sealed_as("alice@northline.example", bytes(32))
        appending.append(rfc8785.dumps(appending.members(sealed=sealed)), openings=[opened])

    @pytest.mark.parametrize("wrong", [0, 2, 4, "3", None, 3.5, -1])
    def test_no_other_index(self, appending, wrong):
        appending.refuses(rfc8785.dumps(appending.members(i=wrong)))

    @pytest.mark.parametrize("wrong", ["", base64.b64encode(bytes(32)).decode(), None, 1])
    def test_no_other_predecessor(self, appending, wrong):
        appending.refuses(rfc8785.dumps(appending.members(prev=wrong)))

    @pytest.mark.parametrize("wrong", ["", "ledger.example/ledger/org_other", None])
    def test_no_other_log(self, appending, wrong):
        appending.refuses(rfc8785.dumps(appending.members(log=wrong)))

    @pytest.mark.parametrize("seconds", [-86_400, -120, 5, 86_400])
    def test_no_time_of_its_own(self, appending, seconds):
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        appending.refuses(rfc8785.dumps(appending.members(t=entry.format_time(at))))

    @pytest.mark.parametrize("wrong", ["now", "infinity", "", None, 0, "2026-02-30T12:00:00.000Z"])
    def test_no_time_that_is_none(self, appending, wrong):
        appending.refuses(rfc8785.dumps(appending.members(t=wrong)))

    def test_it_can_not_push_the_ledgers_time_ahead(self, app, appending):
        """Each entry a little ahead of the one before would freeze the time for everybody."""
        ahead = 0
        for _ in range(5):
            step = Appending(app, appending.organization_id)
            at = max(step.at, datetime.now(UTC)) + timedelta(milliseconds=900)
            try:
                step.append(rfc8785.dumps(step.members(t=entry.format_time(at))))
            except psycopg.errors.CheckViolation:
                continue
            ahead += 1
        assert ahead == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"v": 2},
            {"v": "1"},
            {"v": ...},
            {"act": "Key.created"},
            {"act": "created"},
            {"act": "ledger.opened"},
            {"act": ["key.created"]},
            {"actor": "alice@northline.example"},
            {"actor": ""},
            {"actor": None},
            {"data": ...},
            {"data": []},
            {"data": {"target": 1}},
            {"data": {"request_id": None}},
            {"data": {"a": {"b": {"c": {}}}}},
            {"data": {"a": {"b": [[]]}}},
            {"data": {"A": 1}},
            {"data": {"a-b": 1}},
            {"data": {"": 1}},
            {"data": {"a": "x" * 2049}},
            {"data": {"a": "é" * 1025}},
            {"data": {"a": 1.5}},
            {"data": {f"a{n}": "x" * 2000 for n in range(9)}},
            {"sealed": {}},
            {"sealed": []},
            {"extra": 1},
        ],
    )
    def test_nothing_that_verifiers_refuse(self, appending, changes):
        appending.refuses(rfc8785.dumps(appending.members(**changes)))

    @pytest.mark.parametrize(
        "change",
        [
            (b'"act":', b' "act":'),
            (b'{"act"', b'\n{"act"'),
            (b'"data":', b'"data":{},"data":'),
            (b'"target":"key_x"', b'"target":"key_a","target":"key_x"'),
            (b'"key_x"', b'"\\u006bey_x"'),
            (b'"key_x"', b'"key\\/x"'),
            (b'"key_x"', b'"key_x","n":1.0'),
            (b'"key_x"', b'"key_x","n":1e2'),
            (b'"key_x"', b'"key_x","n":-0'),
            (b'"key_x"', b'"key_x","n":9007199254740992'),
            (b'"key_x"', b'"key_x","a":1'),
            (b'"key_x"', b'"\\u001F"'),
            (b'"key_x"', b'"\\u0000"'),
            (b'"key_x"', b'"\\ud800"'),
            (b'"key_x"', b'"\xff"'),
            (b'{"act"', b'\xef\xbb\xbf{"act"'),
        ],
    )
    def test_no_other_spelling_of_an_entry(self, appending, change):
        leaf = rfc8785.dumps(appending.members())
        assert change[0] in leaf
        appending.refuses(leaf.replace(*change, 1))

    @pytest.mark.parametrize("leaf", [b"", b"{}", b"[]", b"null", b"1", b'""', b"[" * 16_000, b"\x00"])
    def test_nothing_else(self, appending, leaf):
        appending.refuses(leaf)

    def test_no_batch_of_none(self, appending):
        appending.refuses()

    def test_no_opening_that_does_not_fit(self, appending):
        sealed, opened = sealed_as("alice@northline.example", bytes(32))
        leaf = rfc8785.dumps(appending.members(sealed=sealed))
        field, salt, value = opened[0]
        for wrong in (
            [],
            [[]],
            [[], []],
            [[[field, salt, "mallory"]]],
            [[[field, base64.b64encode(b"x" * 32).decode(), value]]],
            [[["name", salt, value]]],
            [[opened[0], ["name", salt, value]]],
            [[opened[0], opened[0]]],
            [opened, opened],
            None,
            "x",
            {"0": opened},
        ):
            appending.refuses(leaf, openings=wrong)

    def test_no_opening_of_what_is_not_sealed(self, appending):
        _, opened = sealed_as("alice@northline.example", bytes(32))
        appending.refuses(rfc8785.dumps(appending.members()), openings=[opened])

    def test_no_opening_beyond_measure(self, appending):
        sealed, opened = sealed_as("x" * 2049, bytes(32))
        appending.refuses(rfc8785.dumps(appending.members(sealed=sealed)), openings=[opened])

    @pytest.mark.parametrize("salt", [b"", bytes(31), bytes(33), bytes(64)])
    def test_no_salt_of_another_length(self, appending, salt):
        """A shorter one, padded as HMAC pads a key, would open the same commitment."""
        sealed, opened = sealed_as("alice", bytes(32))
        opened[0][1] = base64.b64encode(salt).decode()
        appending.refuses(rfc8785.dumps(appending.members(sealed=sealed)), openings=[opened])

    def test_all_of_a_batch_or_nothing(self, app, appending, organization_id):
        first = rfc8785.dumps(appending.members())
        appending.refuses(first, first)
        query = "SELECT count(*) FROM audit_entry WHERE organization_id = %s"
        assert app.execute(query, [organization_id]).fetchone() == (3,)


class TestHowALedgerOpens:
    @pytest.mark.parametrize(
        "origin",
        [
            "",
            "ledger.example/ledger/org_other",
            "ledger.example/ledger/{}/2",
            "ledger.example/x/ledger/{}",
            "Ledger.example/ledger/{}",
            "/ledger/{}",
            "ledger..example/ledger/{}",
            "a" * 170 + "/ledger/{}",
            None,
        ],
    )
    def test_not_under_another_name(self, app, origin):
        organization_id = ids.new("org")
        works_in(app, organization_id)
        name = origin and origin.format(organization_id)
        with pytest.raises(psycopg.errors.CheckViolation):
            app.execute("SELECT ledger_begin(%s, %s)", [organization_id, name])

    def test_not_for_what_is_no_organization(self, app):
        works_in(app, "x")
        with pytest.raises(psycopg.errors.CheckViolation):
            app.execute("SELECT ledger_begin('x', 'ledger.example/ledger/x')")

    def test_with_its_verifier_key_and_nothing_else(self, app):
        opening = Appending(app, ids.new("org"))
        good = ledger.verifier_key(opening.log)
        name, key_id, key = good.split("+", 2)
        other = ledger.verifier_key("ledger.example/ledger/org_other")
        for wrong in (
            {},
            {"vkey": ""},
            {"vkey": None},
            {"vkey": other},
            {"vkey": f"{name}+00000000+{key}"},
            {"vkey": f"{name}+{key_id}+{key[:-4]}AAA="},
            {"vkey": good + "\n"},
            {"vkey": f"{name}+{key_id.upper()}+{key}" if key_id.upper() != key_id else ""},
        ):
            opening.refuses(rfc8785.dumps(opening.members(act="ledger.opened", data=wrong)))
        opening.refuses(rfc8785.dumps(opening.members(data={"vkey": good})))
        opening.append(rfc8785.dumps(opening.members(act="ledger.opened", data={"vkey": good})))


# What strangers may have tried: values near the bounds of Bytes 2, and spellings beside RFC 8785.
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**53 - 1, 2**53, -(2**53), 10**16, 10**30, 1.0, 1.5, 1e20]),
    st.integers(),
    TEXT,
)
NAMES = st.one_of(st.sampled_from(["target", "a", "a_b", "b1", "A", "_a", "", "é"]), TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spellings(draw):
    """Bytes near an entry: values of any kind, in JSON as one writer or another has it."""
    members = {
        "v": 1,
        "log": "ledger.example/ledger/org_a",
        "i": draw(st.sampled_from([0, 1, 7])),
        "t": draw(st.sampled_from(["2026-11-21T12:00:00.000Z", "2026-11-21T24:00:00.000Z", "x"])),
        "prev": base64.b64encode(bytes(32)).decode(),
        "act": draw(st.sampled_from(["key.created", "key.", "key.created_1", "a.b.c_d"])),
        "actor": draw(st.sampled_from(["usr_a", "a@b", "U", "a" * 65])),
        "data": draw(st.dictionaries(NAMES, VALUES, max_size=3)),
    }
    if draw(st.booleans()):
        members["sealed"] = {"name": base64.b64encode(hashlib.sha256(b"x").digest()).decode()}
    if draw(st.integers(0, 9)) == 0:
        members[draw(NAMES)] = draw(VALUES)
    plain = json.dumps(members, separators=(",", ":"), sort_keys=True, ensure_ascii=draw(st.booleans()))
    return plain.encode("utf-8", "surrogatepass")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spellings())
def test_the_database_and_the_verifiers_read_the_same(leaf):
    """Whatever `audit_read` passes, `entry.parse` reads; it refuses no more than that but values of projections."""
    try:
        parsed = entry.parse(leaf)
    except EntryInvalid:
        parsed = None
    with ledgers.superuser() as superuser:
        try:
            superuser.execute("SELECT public.audit_read(%s)", [leaf])
            passed = True
        except (psycopg.errors.DataError, psycopg.errors.IntegrityError):
            passed = False
    projected = parsed and all(
        isinstance(parsed.data.get(name, ""), str) for name in ("target", "request_id")
    )
    assert passed == bool(projected)
