"""The demo's data, made for real in a database of its own: what it tells of is there, and every rule was kept."""

import json
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.management.base import CommandError
from django.db import connections

from audit import tenancy
from keys import clock, peppers
from keys.models import Scope
from keys.models.key import RevocationReason
from orgs.models import Organization, User
from portal import demo_data
from portal.demo_data import heliograph
from portal.demo_data.ageing import as_of
from portal.management.commands.demo_data import Command
from tests import cluster

# Each worker makes its own, where both have tests of this file.
DATABASE = f"{cluster.database()}_demo_data"


@dataclass
class Made:
    """A clone with the demo's data, its environment, the document, and when it was begun."""

    environment: dict[str, str]
    home: Path
    document: dict[str, Any]
    begun: datetime

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read as the owner, whom no policy narrows."""
        with psycopg.connect(self.environment["DATABASE_MIGRATE_URL"]) as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def organization(self, slug: str) -> dict[str, Any]:
        return next(each for each in self.document["organizations"] if each["slug"] == slug)


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of manage.py as the product runs it."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=cluster.ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def untouched(django_db_setup: None) -> Iterator[None]:
    """Let this process's connections work in a clone in which no other test has declared scopes or people."""
    cluster.new_clone(f"{DATABASE}_untouched")
    names = {alias: connections[alias].settings_dict["NAME"] for alias in connections}
    for alias in names:
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = f"{DATABASE}_untouched"
    yield
    for alias, name in names.items():
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = name


@pytest.fixture(scope="module")
def made(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    home = tmp_path_factory.mktemp("demo") / "home"
    environment = cluster.new_clone(DATABASE) | {"KEYSTEAD_HOME": str(home)}
    begun = datetime.now(UTC)
    done = manage(environment, "demo_data")
    assert done.returncode == 0, done.stderr
    assert "2,000 keys" in done.stderr
    yield Made(environment, home, json.loads((home / "demo.json").read_text()), begun)
    with psycopg.connect(cluster.cluster().url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())


class TestTheDocument:
    def test_its_shape(self, made: Made) -> None:
        document = made.document
        assert set(document) == {"base_url", "verify_key", "people", "organizations"}
        assert document["base_url"] == made.environment["KEYSTEAD_BASE_URL"]
        assert all(
            set(person) == {"email", "password", "role", "organization"} for person in document["people"]
        )
        fields = {"slug", "id", "admin_key", "environments", "keys"}
        assert all(set(organization) == fields for organization in document["organizations"])
        keys = [key for organization in document["organizations"] for key in organization["keys"]]
        assert all(set(key) == {"id", "name", "secret", "status"} for key in keys)
        slugs = [organization["slug"] for organization in document["organizations"]]
        assert slugs == ["northline", "heliograph", "quiet-harbor"]
        counts = [len(organization["keys"]) for organization in document["organizations"]]
        assert counts == [48, 2000, 0]

    def test_it_is_private(self, made: Made) -> None:
        assert stat.S_IMODE((made.home / "demo.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(made.home.stat().st_mode) == 0o700
        assert not list(made.home.glob("*.new"))

    def test_every_secret_is_the_newest_of_its_key(self, made: Made) -> None:
        stored = {
            bytes(digest): key_id
            for digest, key_id in made.rows(
                "SELECT s.digest, k.id FROM keys_keysecret s JOIN keys_apikey k ON k.id = s.key_id "
                "WHERE s.version = k.newest_version"
            )
        }
        told = {made.document["verify_key"]: None}
        for organization in made.document["organizations"]:
            told[organization["admin_key"]] = None
            told |= {key["secret"]: key["id"] for key in organization["keys"]}
        assert len(told) == len(stored)
        for secret, key_id in told.items():
            found = stored[peppers.digest(secret)]
            assert key_id in (None, found)

    def test_every_password_signs_in(self, made: Made) -> None:
        hashes = dict(made.rows("SELECT email, password FROM orgs_user"))
        assert len(made.document["people"]) == len(hashes)
        assert all(len(person["password"]) >= 16 for person in made.document["people"])
        for person in made.document["people"][:3]:
            assert Argon2PasswordHasher().verify(person["password"], hashes[person["email"]])
        assert len({person["password"] for person in made.document["people"]}) == len(hashes)

    def test_every_role_is_there(self, made: Made) -> None:
        told = {(person["organization"], person["role"]) for person in made.document["people"]}
        everybody = {("northline", role) for role in ("owner", "admin", "developer", "auditor", "viewer")}
        assert everybody | {("operator", "superuser"), ("operator", "support")} <= told
        assert made.rows("SELECT is_superuser, staff_role FROM orgs_user WHERE email LIKE 'operator@%'") == [
            (True, "")
        ]
        assert made.rows("SELECT is_superuser, staff_role FROM orgs_user WHERE email LIKE 'support@%'") == [
            (False, "support")
        ]

    def test_nothing_of_it_is_in_the_database(self, made: Made) -> None:
        secrets = [made.document["verify_key"], made.document["people"][0]["password"]]
        secrets += [organization["admin_key"] for organization in made.document["organizations"]]
        secrets += [key["secret"] for key in made.organization("northline")["keys"]]
        tables = [
            name for (name,) in made.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        for table in tables:
            rows = "\n".join(text for (text,) in made.rows(f'SELECT t::text FROM "{table}" t'))
            assert not [secret for secret in secrets if secret in rows], table


class TestTheKeys:
    def test_admin_keys_hold_everything(self, made: Made) -> None:
        catalogue = {name for (name,) in made.rows("SELECT name FROM keys_scope")}
        assert "keys:breakglass" in catalogue
        assert len(catalogue) <= 40
        found = made.rows(
            "SELECT k.scopes, k.kind, e.mode, p.parent_id, s.digest FROM keys_apikey k"
            " JOIN orgs_environment e ON e.id = k.environment_id JOIN orgs_project p ON p.id = k.project_id"
            " JOIN keys_keysecret s ON s.key_id = k.id WHERE k.name = 'admin'"
        )
        told = {peppers.digest(organization["admin_key"]) for organization in made.document["organizations"]}
        assert {bytes(row[4]) for row in found} == told
        for scopes, *place, _ in found:
            assert set(scopes) == catalogue
            assert place == ["control_plane", "live", None]

    def test_the_verify_key_is_the_operators(self, made: Made) -> None:
        found = made.rows(
            "SELECT o.is_operator, k.scopes FROM keys_keysecret s JOIN keys_apikey k ON k.id = s.key_id"
            " JOIN orgs_organization o ON o.id = k.organization_id WHERE s.digest = %s",
            peppers.digest(made.document["verify_key"]),
        )
        assert found == [(True, ["keys:read", "keys:verify", "keys:write"])]

    def test_the_three_that_are_spoken_of(self, made: Made) -> None:
        found = {
            name: (kind, scopes, days)
            for name, kind, scopes, days in made.rows(
                "SELECT name, kind, scopes, extract(day FROM expires_at - created_at)::int FROM keys_apikey"
            )
        }
        assert found["prod-ingest-us-east-1"] == ("ingestion", ["ingest:write"], None)
        assert found["noc-readonly"] == ("control_plane", ["alerts:read", "incidents:read"], 30)
        assert found["replay-runner"] == ("service", ["approvals:read", "replay:run"], 7)

    def test_every_state_is_there(self, made: Made) -> None:
        statuses = Counter(key["status"] for key in made.organization("northline")["keys"])
        assert set(statuses) == {"active", "disabled", "expired", "revoked"}
        northline = made.organization("northline")["id"]
        one = made.rows(
            "SELECT bool_or(is_disabled), bool_or(disabled_until > now()), "
            " bool_or(revoked_at IS NULL AND owner_team = ''"
            " AND owner_user_id IS NULL), max(cardinality(scopes)) FILTER (WHERE name <> 'admin'), max(length(name)),"
            " bool_or(cardinality(allowed_ips) > 1),"
            " bool_or(revoked_at IS NULL AND expires_at BETWEEN now() AND now() + interval '7 days')"
            " FROM keys_apikey WHERE organization_id = %s",
            northline,
        )
        assert one == [(True, True, True, 30, 61, True, True)]
        reasons = {
            reason
            for (reason,) in made.rows(
                "SELECT revocation_reason FROM keys_apikey WHERE revoked_at IS NOT NULL"
            )
        }
        assert reasons == set(RevocationReason.values)
        assert made.rows(
            "SELECT count(*) FROM keys_rotation WHERE mode = 'grace' AND grace_ends_at > now()"
        ) == [(2,)]

    def test_last_use_fits_the_key(self, made: Made) -> None:
        """Nobody used a key before it was made, after it had stopped, from where it may not be used, or tomorrow."""
        joined = "FROM keys_apikey k JOIN keys_keyuse u ON u.key_id = k.id"
        wrong = "u.last_used_at NOT BETWEEN k.created_at AND least(now(), k.expires_at, k.revoked_at)"
        assert made.rows(f"SELECT k.name {joined} WHERE {wrong}") == []
        beyond = "cardinality(allowed_ips) > 0 AND NOT (u.last_used_ip <<= ANY (allowed_ips::cidr[]))"
        assert made.rows(f"SELECT k.name {joined} WHERE {beyond}") == []
        just_now = dict(made.rows(f"SELECT k.name, now() - u.last_used_at < interval '10 minutes' {joined}"))
        assert just_now["prod-ingest-us-east-1"]
        idle = "SELECT bool_or(now() - u.last_used_at > interval '94 days'), bool_or(u.last_used_at IS NULL)"
        assert made.rows(f"{idle} {joined} WHERE k.revoked_at IS NULL") == [(True, True)]
        assert made.rows("SELECT count(*) FROM keys_keyuse WHERE last_used_at IS NOT NULL")[0][0] > 1500


class TestTheHistory:
    def test_two_weeks_of_calls_that_fit_their_keys(self, made: Made) -> None:
        """Nobody called before a key was made, after it was last used, or from where it may not be used."""
        joined = (
            "FROM keys_call c JOIN keys_apikey k ON k.id = c.key_id JOIN keys_keyuse u ON u.key_id = k.id"
        )
        [(days, keys, refused, latest)] = made.rows(
            "SELECT count(DISTINCT c.at::date), count(DISTINCT k.id), count(*) FILTER (WHERE code <> 'VALID'),"
            f" max(c.at) {joined} WHERE k.organization_id = %s",
            made.organization("northline")["id"],
        )
        assert days >= 14
        assert keys > 15
        assert refused > 10
        assert latest <= datetime.now(UTC)
        wrong = "c.at NOT BETWEEN k.created_at AND least(u.last_used_at, k.expires_at, k.revoked_at)"
        assert made.rows(f"SELECT k.name {joined} WHERE {wrong}") == []
        beyond = "cardinality(allowed_ips) > 0 AND NOT (c.ip <<= ANY (allowed_ips::cidr[]))"
        assert made.rows(f"SELECT k.name {joined} WHERE {beyond}") == []

    def test_it_is_not_too_much_to_begin_with(self, made: Made) -> None:
        assert made.rows("SELECT count(*) FROM keys_call")[0][0] < 40_000

    def test_a_key_that_is_shared_by_regions(self, made: Made) -> None:
        found = made.rows(
            "SELECT count(DISTINCT region) FROM keys_call c JOIN keys_apikey k ON k.id = c.key_id"
            " WHERE k.name = 'edge-telemetry'"
        )
        assert found == [(3,)]

    def test_the_month_is_counted(self, made: Made) -> None:
        northline = made.organization("northline")["id"]
        first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        cost = "SELECT coalesce(sum(cost), 0)::bigint FROM keys_call WHERE organization_id = %s AND at >= %s"
        spent = "SELECT spent FROM keys_organizationspend WHERE organization_id = %s"
        assert made.rows(cost, northline, first) == made.rows(spent, northline)


class TestThePlans:
    def test_three_and_one_without_limits(self, made: Made) -> None:
        found = made.rows(
            "SELECT slug, rate_limit_requests, monthly_quota, key_cap FROM orgs_plan WHERE slug = ANY (%s)"
            " ORDER BY slug",
            ["free", "growth", "enterprise", "standard"],
        )
        assert [row[0] for row in found] == ["enterprise", "free", "growth", "standard"]
        assert found[3] == ("standard", None, None, None)
        assert None not in found[1] + found[2]

    def test_one_organization_has_more_than_its_plan(self, made: Made) -> None:
        agreed = dict(made.rows("SELECT slug, overrides FROM orgs_organization WHERE NOT is_operator"))
        assert set(agreed["northline"]) == {"rate_limit", "key_cap", "entitlements"}
        assert agreed["heliograph"] == agreed["quiet-harbor"] == {}

    def test_keys_with_a_tier_and_with_a_limit_of_their_own(self, made: Made) -> None:
        found = made.rows(
            "SELECT name, tier_id, rate_limit_requests, rate_limit_window_seconds FROM keys_apikey"
            " WHERE tier_id IS NOT NULL OR rate_limit_requests IS NOT NULL ORDER BY name"
        )
        assert found == [
            ("metrics-gateway", "high-volume", None, None),
            ("partner-portal", None, 600, 60),
        ]


class TestTheLedger:
    def test_everything_is_told(self, made: Made) -> None:
        for table, condition, act in (
            ("keys_apikey", "true", "key.created"),
            ("keys_apikey", "revoked_at IS NOT NULL", "key.revoked"),
            ("keys_apikey", "is_disabled OR disabled_until IS NOT NULL", "key.disabled"),
            ("keys_rotation", "true", "rotation.started"),
            ("orgs_user", "true", "user.created"),
            ("orgs_environment", "slug <> 'production'", "environment.created"),
            ("orgs_project", "parent_id IS NOT NULL", "project.created"),
            ("orgs_organization", "NOT is_operator", "organization.created"),
            ("keys_scope", "NOT is_builtin", "scope.created"),
            ("keys_tier", "true", "tier.created"),
            ("orgs_organization", "overrides <> '{}' OR is_operator", "organization.changed"),
        ):
            columns = {"keys_scope": "name", "keys_rotation": "key_id", "keys_tier": "slug"}
            column = columns.get(table, "id")
            rows = sorted(made.rows(f"SELECT {column} FROM {table} WHERE {condition}"))
            assert rows == sorted(made.rows("SELECT target FROM audit_entry WHERE act = %s", act)), (
                table,
                act,
            )

    def test_its_times_are_true(self, made: Made) -> None:
        """Keys of other days are made under another day's clock; the ledger is not."""
        [(first, created)] = made.rows(
            "SELECT (SELECT min(at) FROM audit_entry), min(created_at) FROM keys_apikey"
        )
        assert (made.begun - first).total_seconds() < 1
        assert (made.begun - created).days > 300

    def test_verify_agrees(self, made: Made) -> None:
        done = manage(made.environment, "ledger", "verify")
        assert done.returncode == 0, done.stdout + done.stderr


class TestRunningAgain:
    def test_a_second_run_reuses(self, made: Made) -> None:
        before = made.rows("SELECT count(*), max(index) FROM audit_entry")
        elsewhere = made.environment | {"KEYSTEAD_BASE_URL": "http://127.0.0.1:8999"}
        done = manage(elsewhere, "demo_data")
        assert done.returncode == 0, done.stderr
        again = json.loads((made.home / "demo.json").read_text())
        assert again == made.document | {"base_url": "http://127.0.0.1:8999"}
        assert stat.S_IMODE((made.home / "demo.json").stat().st_mode) == 0o600
        assert made.rows("SELECT count(*), max(index) FROM audit_entry") == before

    def test_without_its_document_it_makes_no_second_one(self, made: Made, tmp_path: Path) -> None:
        before = made.rows("SELECT count(*) FROM orgs_user")
        done = manage(made.environment | {"KEYSTEAD_HOME": str(tmp_path)}, "demo_data")
        assert done.returncode == 1
        assert re.fullmatch(r"CommandError: [^\n]*--reset\)\.\n", done.stderr), done.stderr
        assert made.rows("SELECT count(*) FROM orgs_user") == before

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", "{}", '{"organizations": []}', '{"organizations": [{"id": 1}]}']
    )
    def test_a_broken_document_is_none(self, settings: Any, tmp_path: Path, text: str) -> None:
        settings.KEYSTEAD_HOME = tmp_path
        (tmp_path / "demo.json").write_text(text)
        earlier = Command().read()
        assert earlier is None or not demo_data.refresh(earlier, "http://127.0.0.1:1")

    @pytest.mark.usefixtures("untouched")
    def test_what_is_not_told_is_not_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The document is the only place of the secrets: where it can't be written, nothing stays."""
        monkeypatch.setattr(heliograph, "COUNT", 5)

        def fail(_: demo_data.Document) -> None:
            with tenancy.everywhere(tenancy.Reason.COMMAND):
                assert Organization.objects.filter(slug="northline").exists()
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            demo_data.make("http://127.0.0.1:1", fail, lambda _: None)
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            assert not Organization.objects.filter(slug="northline").exists()
        assert not User.objects.filter(email="operator@keystead.example").exists()
        assert not Scope.objects.filter(name="ingest:write").exists()

    def test_an_unwritable_place_is_one_line(self, settings: Any, tmp_path: Path) -> None:
        settings.KEYSTEAD_HOME = tmp_path
        (tmp_path / "demo.json").mkdir()
        assert Command().read() is None
        with pytest.raises(CommandError, match=r"^can't write [^\n]*$"):
            Command().write({})


def test_the_clock_comes_back() -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)

    def fail() -> None:
        with as_of(moment):
            assert clock.now() == moment
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (datetime.now(UTC) - clock.now()).total_seconds() < 60
