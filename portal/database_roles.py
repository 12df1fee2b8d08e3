"""The database's roles and what each may do before the first migration (spec LEDGER, “Holding it”).

Plain SQL for PostgreSQL 15 to 18, run by a superuser, each part in a transaction; it may run again. Three
parts, because roles belong to the whole server, some rights to a database's name and others to what is inside
it: a clone made with `CREATE DATABASE … TEMPLATE` needs the second part anew and inherits the third.
"""

import base64
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from portal import dsn

OWNER = "keystead_owner"
MIGRATE = "keystead_migrate"
APP = "keystead_app"
VERIFY = "keystead_verify"
NOTARY = "keystead_notary"
LOGINS = (MIGRATE, APP, VERIFY, NOTARY)
TIMEOUTS = (
    (APP, "lock_timeout", "5s"),
    (APP, "statement_timeout", "30s"),
    (APP, "idle_in_transaction_session_timeout", "60s"),
    (VERIFY, "statement_timeout", "2s"),
    (VERIFY, "idle_in_transaction_session_timeout", "5s"),
)
# The variable of each login's URL.
URLS = {
    APP: "DATABASE_URL",
    MIGRATE: "DATABASE_MIGRATE_URL",
    VERIFY: "DATABASE_VERIFY_URL",
    NOTARY: "DATABASE_NOTARY_URL",
}
SCRAM_ITERATIONS = 4096
# Two who set up at once would meet in "tuple concurrently updated". A lock on a table that all databases share.
ONE_AT_A_TIME = "LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE"
MEMBER_OF_NOTHING = """
DO $$
DECLARE membership record;
BEGIN
    FOR membership IN
        SELECT roleid::regrole AS role, member::regrole AS member, grantor::regrole AS grantor
        FROM pg_catalog.pg_auth_members
        WHERE member IN ({roles})
    LOOP
        EXECUTE format('REVOKE %s FROM %s', membership.role, membership.member)
            || CASE WHEN current_setting('server_version_num')::int >= 160000
                    THEN format(' GRANTED BY %s', membership.grantor) ELSE '' END;
    END LOOP;
END $$
"""


def server_statements(passwords: Mapping[str, str]) -> list[str]:
    """Return the SQL that makes the roles and gives each login of `LOGINS` its password.

    Only a SCRAM verifier of a password enters the SQL, so that no server log and no terminal shows one.
    Raises `ValueError` for a password that is empty or not ASCII, whose preparation (RFC 4013) we leave out.
    """
    quiet = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    bound = ", ".join(f"'{role}'::regrole" for role in (APP, VERIFY, NOTARY, OWNER))
    return [
        ONE_AT_A_TIME,
        *(_create(role) for role in (OWNER, *LOGINS)),
        f"ALTER ROLE {OWNER} NOLOGIN PASSWORD NULL {quiet}",
        *(f"ALTER ROLE {role} LOGIN PASSWORD '{scram(passwords[role])}' {quiet}" for role in LOGINS),
        # It acts as the owner only by SET ROLE, so that whatever it makes is the owner's.
        f"ALTER ROLE {MIGRATE} NOINHERIT",
        # A lock that is held too long is a 503, never a hung request; here and not in the DSN, which PgBouncer cuts.
        *(f"ALTER ROLE {role} SET {name} = '{value}'" for role, name, value in TIMEOUTS),
        MEMBER_OF_NOTHING.format(roles=bound).strip(),
        f"GRANT {OWNER} TO {MIGRATE}",
    ]


def database_statements(database: str) -> list[str]:
    """Return the SQL that gives the database `database` to the owner and lets in the logins, nobody else."""
    name = quoted(database)
    return [
        ONE_AT_A_TIME,
        f"ALTER DATABASE {name} OWNER TO {OWNER}",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        *(f"REVOKE ALL ON DATABASE {name} FROM {login}" for login in LOGINS),
        f"GRANT CONNECT ON DATABASE {name} TO {', '.join(LOGINS)}",
    ]


def schema_statements() -> list[str]:
    """Return the SQL to run inside the database: the owner's schema, and what the app may do with its tables.

    Functions are executable by those alone to whom a migration grants it.
    """
    own = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER}"
    return [
        ONE_AT_A_TIME,
        f"ALTER SCHEMA public OWNER TO {OWNER}",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        *(f"REVOKE ALL ON SCHEMA public FROM {login}" for login in LOGINS),
        f"GRANT USAGE ON SCHEMA public TO {APP}, {VERIFY}, {NOTARY}",
        f"{own} REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
        f"{own} IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APP}",
        f"{own} IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {APP}",
    ]


def set_up(superuser_url: str, database: str, passwords: Mapping[str, str]) -> None:
    """Make the roles and, where it is missing, the database, through a superuser's URL.

    Raises `psycopg.Error`, `ValueError` and `DsnError`.
    """
    superuser_url = dsn.replaced(superuser_url)
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        with connection.transaction():
            _run(connection, server_statements(passwords))
        create_database(connection, database)
    with psycopg.connect(dsn.replaced(superuser_url, dbname=database)) as connection:
        _run(connection, schema_statements())


def create_database(connection: psycopg.Connection, database: str, *, template: str = "template0") -> None:
    """Make the database where it is missing and hand it over; `connection` is a superuser's in autocommit."""
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'")
    with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        connection.execute(create.format(sql.Identifier(database), sql.Identifier(template)))
    with connection.transaction():
        _run(connection, database_statements(database))


def login_urls(server_url: str, database: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Return variable → URL of every login, for `database` on the server of `server_url`.

    Secret: they hold the passwords. Raises `DsnError`.
    """
    parts = dsn.parse(server_url, "the server's URL")
    options = {key: str(value) for key, value in parts["OPTIONS"].items() if key != "options"}
    as_owner = {"options": f"-c role={OWNER}"}
    return {
        variable: dsn.replaced(
            server_url,
            user=login,
            password=passwords[login],
            dbname=database,
            options=options | (as_owner if login == MIGRATE else {}),
        )
        for login, variable in URLS.items()
    }


def quoted(identifier: str) -> str:
    """Return a name as SQL writes it, between double quotes."""
    return sql.Identifier(identifier).as_string()


def scram(password: str) -> str:
    """Return PostgreSQL's SCRAM-SHA-256 verifier of a password, with a fresh salt (RFC 5803, RFC 7677).

    It signs nobody in, yet lets the password be guessed: treat it as secret where the password is a weak one.
    """
    if not password.isascii() or not password.isprintable() or not password:
        raise ValueError("a database password must be printable ASCII")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"


def _create(role: str) -> str:
    return (
        f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )


def _run(connection: psycopg.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement.encode())
