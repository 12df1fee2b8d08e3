"""The database's roles: what setup_roles makes, again and at once, on a database of its own."""

import contextlib
import io
import os
import re
import subprocess
import threading
import uuid
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command

from portal import database_roles, dsn
from portal.database_roles import APP, LOGINS, MIGRATE, NOTARY, OWNER, VERIFY
from portal.embedded_user import INSTALLED, installation
from tests import cluster


@pytest.fixture(scope="module")
def passwords(django_db_setup):
    return {login: cluster.cluster().password(login) for login in LOGINS}


@contextlib.contextmanager
def made(passwords):
    """A database as setup_roles leaves it, without any migration: (its name, login → URL)."""
    name = f"roles_{uuid.uuid4().hex[:12]}"
    database_roles.set_up(cluster.cluster().url(), name, passwords)
    urls = database_roles.login_urls(cluster.cluster().url(), name, passwords)
    yield name, {login: urls[variable] for login, variable in database_roles.URLS.items()}
    drop(name)


@pytest.fixture
def fresh(passwords):
    with made(passwords) as database:
        yield database


@pytest.fixture(scope="module")
def with_thing(passwords):
    """One database with a table and a function, for tests that are refused: login → URL."""
    with made(passwords) as (_, urls):
        migrated(urls)
        yield urls


def drop(name):
    with psycopg.connect(cluster.cluster().url(), autocommit=True) as superuser:
        superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
    return cursor.fetchall() if cursor.description else []


def migrated(urls):
    """Make a table with a sequence and a function as a migration does."""
    run(
        urls[MIGRATE],
        "CREATE TABLE thing (id serial PRIMARY KEY, name text)",
        "CREATE FUNCTION two() RETURNS int LANGUAGE sql RETURN 2",
    )


class TestWhatTheRolesAre:
    def test_no_role_is_more_than_a_login(self, fresh):
        rows = run(
            cluster.cluster().url(),
            "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'keystead%' AND NOT (rolsuper OR "
            "rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)",
        )
        assert sorted(rows) == sorted([(OWNER, False), *((login, True) for login in LOGINS)])

    def test_only_the_migrating_login_is_a_member_and_only_of_the_owner(self, fresh):
        rows = run(
            cluster.cluster().url(),
            "SELECT member::regrole::text, roleid::regrole::text FROM pg_auth_members "
            "WHERE member::regrole::text LIKE 'keystead%'",
        )
        assert rows == [(MIGRATE, OWNER)]

    def test_the_migrating_url_acts_as_the_owner(self, fresh):
        _, urls = fresh
        assert run(urls[MIGRATE], "SELECT session_user::text, current_user::text") == [(MIGRATE, OWNER)]
        migrated(urls)
        assert run(urls[MIGRATE], "SELECT tableowner::text FROM pg_tables WHERE tablename = 'thing'") == [
            (OWNER,)
        ]

    def test_the_migrating_login_without_that_role_owns_nothing(self, fresh):
        _, urls = fresh
        plain = dsn.replaced(urls[MIGRATE], options={})
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(plain, "CREATE TABLE public.thing (id int)")

    def test_passwords_are_kept_as_verifiers(self, fresh):
        kept = run(
            cluster.cluster().url(), "SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'keystead%'"
        )
        assert sum(row == (None,) for row in kept) == 1, "the owner has none"
        assert all(row[0] is None or row[0].startswith("SCRAM-SHA-256$4096:") for row in kept)

    @pytest.mark.parametrize("login", LOGINS)
    def test_a_wrong_password_is_refused(self, fresh, login):
        _, urls = fresh
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            run(dsn.replaced(urls[login], password="wrong"), "SELECT 1")


class TestWhatTheAppMayDo:
    def test_it_reads_and_writes_ordinary_rows(self, fresh):
        _, urls = fresh
        migrated(urls)
        rows = run(
            urls[APP],
            "INSERT INTO thing (name) VALUES ('a'), ('b')",
            "UPDATE thing SET name = 'c' WHERE id = 1",
            "DELETE FROM thing WHERE id = 2",
            "SELECT id, name FROM thing",
        )
        assert rows == [(1, "c")]

    @pytest.mark.parametrize(
        "statement",
        [
            "TRUNCATE thing",
            "ALTER TABLE thing ADD COLUMN other int",
            "ALTER TABLE thing DISABLE TRIGGER ALL",
            "DROP TABLE thing",
            "CREATE INDEX ON thing (name)",
            "SELECT setval('thing_id_seq', 1)",
            "SELECT two()",
            "CREATE TABLE public.mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE FUNCTION public.three() RETURNS int LANGUAGE sql RETURN 3",
            "CREATE ROLE mallory",
            "CREATE DATABASE mine",
            "SET ROLE keystead_owner",
            "SET SESSION AUTHORIZATION keystead_owner",
            "GRANT keystead_owner TO keystead_app",
            "SET session_replication_role = replica",
            "SELECT rolpassword FROM pg_authid",
            "SELECT pg_read_file('postgresql.conf')",
            "COPY thing TO PROGRAM 'true'",
            "ALTER ROLE keystead_app BYPASSRLS",
            "ALTER ROLE keystead_migrate PASSWORD 'mine'",
        ],
    )
    @pytest.mark.parametrize("login", [APP, VERIFY, NOTARY])
    def test_no_service_rules_over_the_database(self, with_thing, login, statement):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(with_thing[login], statement)

    @pytest.mark.parametrize("login", [VERIFY, NOTARY])
    @pytest.mark.parametrize("statement", ["SELECT * FROM thing", "INSERT INTO thing (name) VALUES ('a')"])
    def test_the_others_start_with_nothing(self, with_thing, login, statement):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(with_thing[login], statement)

    def test_it_passes_nothing_on(self, with_thing):
        run(with_thing[APP], f"GRANT SELECT ON thing TO {VERIFY}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(with_thing[VERIFY], "SELECT * FROM thing")

    def test_other_logins_of_the_server_stay_outside(self, fresh):
        name, _ = fresh
        with psycopg.connect(cluster.cluster().url(), autocommit=True) as superuser:
            superuser.execute(b"DROP ROLE IF EXISTS mallory")
            superuser.execute(b"CREATE ROLE mallory LOGIN PASSWORD 'mallory'")
        url = dsn.replaced(cluster.cluster().url(), user="mallory", password="mallory", dbname=name)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            run(url, "SELECT 1")


class TestRunningAgain:
    def test_it_takes_back_what_was_given_since(self, fresh, passwords):
        name, urls = fresh
        server = cluster.cluster().url()
        inside = dsn.replaced(server, dbname=name)
        run(
            server,
            f"GRANT {OWNER} TO {APP}",
            f"ALTER ROLE {APP} CREATEROLE",
            f"GRANT TEMP ON DATABASE {name} TO {APP}",
        )
        run(inside, f"GRANT CREATE ON SCHEMA public TO {VERIFY}")
        database_roles.set_up(server, name, passwords)
        for login, statement in [
            (APP, f"SET ROLE {OWNER}"),
            (APP, "CREATE ROLE mallory2"),
            (APP, "CREATE TEMPORARY TABLE mine (id int)"),
            (VERIFY, "CREATE TABLE public.mine (id int)"),
        ]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run(urls[login], statement)

    def test_many_at_once_make_one_set(self, passwords):
        name = f"roles_{uuid.uuid4().hex[:12]}"
        failures = []

        def set_up(database):
            try:
                database_roles.set_up(cluster.cluster().url(), database, passwords)
            except psycopg.Error as error:
                failures.append(error)

        names = [name, f"{name}_b"]
        threads = [threading.Thread(target=set_up, args=[names[i % 2]]) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for database in names:
            drop(database)
        assert failures == []


class TestCommand:
    def call(self, *arguments, **options):
        out, err = io.StringIO(), io.StringIO()
        call_command("setup_roles", *arguments, stdout=out, stderr=err, **options)
        return out.getvalue(), err.getvalue()

    def test_the_printed_sql_runs_in_psql_and_again(self, monkeypatch):
        name = f"roles_{uuid.uuid4().hex[:12]} \"o'dd"
        script, _ = self.call(database=name)
        psql = Path(str(installation())) / INSTALLED / "bin" / "psql"
        try:
            for _ in range(2):
                done = subprocess.run(
                    [psql, "-X", cluster.cluster().url()],
                    input=script,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert (done.returncode, done.stderr) == (0, "")
            url = database_roles.login_urls(
                cluster.cluster().url(), name, {login: cluster.cluster().password(login) for login in LOGINS}
            )["DATABASE_MIGRATE_URL"]
            run(url, "CREATE TABLE thing (id int)")
        finally:
            with psycopg.connect(cluster.cluster().url(), autocommit=True) as superuser:
                superuser.execute(f"DROP DATABASE IF EXISTS {database_roles.quoted(name)}".encode())

    def test_no_password_is_in_the_printed_sql(self, passwords):
        script, shown = self.call()
        assert all(password not in script for password in passwords.values())
        assert shown == "", "they are in the URLs already"

    def test_a_missing_password_is_drawn_and_shown_once(self, monkeypatch):
        monkeypatch.delenv("DATABASE_NOTARY_URL")
        script, shown = self.call()
        (drawn,) = re.findall(
            r"^DATABASE_NOTARY_URL='?postgres://keystead_notary:([\w-]+)@", shown, re.MULTILINE
        )
        assert len(drawn) == 32
        assert drawn not in script
        assert shown.count("postgres://") == 1

    def test_it_runs_by_itself(self):
        name = f"roles_{uuid.uuid4().hex[:12]}"
        self.call(run=True, superuser_url=cluster.cluster().url(), database=name)
        try:
            rows = run(
                cluster.cluster().url(),
                f"SELECT datdba::regrole::text FROM pg_database WHERE datname = '{name}'",
            )
            assert rows == [(OWNER,)]
        finally:
            drop(name)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "--superuser-url"),
            ({"superuser_url": "mysql://root:SECRET@db/x"}, "must begin with postgres://"),
            ({"superuser_url": "postgres://root:SECRET@127.0.0.1:1/x"}, "connection failed"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, options, message):
        with pytest.raises(CommandError, match=message) as caught:
            self.call(run=True, **options)
        assert "SECRET" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_passwords_must_be_plain(self):
        for password in ("", "pä", "a\nb"):
            with pytest.raises(ValueError, match="printable ASCII"):
                database_roles.scram(password)


def test_this_process_is_connected_as_the_app():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user::text, session_user::text, current_database()::text")
        assert cursor.fetchone() == (APP, APP, cluster.database())
    assert os.environ["DATABASE_URL"].startswith(f"postgres://{APP}:")
