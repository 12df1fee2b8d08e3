"""What can narrow a verdict is told once, as it commits, whoever changes it; what can't is not."""

import dataclasses
import importlib
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from audit import tenancy
from keys import callers, verdict
from keys import services as key_services
from keys.models import KeySecret, Scope, Tier
from keys.rotation import Mode
from keys.secret import Kind
from keys.services import Changes, Owner, ScopeDraft
from orgs import services
from orgs.models import Membership, Plan
from orgs.roles import Risk, Role
from tests import builders, key_builders
from tests.stream.listening import items, listening, superuser

# Each watched table's columns: those that a verdict goes by, with another value for each, and the rest.
NARROWS = {
    "keys_apikey": {
        "organization_id": "'org_aaaaaaaaaaaaaaaaaaaa'",
        "project_id": "'prj_aaaaaaaaaaaaaaaaaaaa'",
        "environment_id": "'env_aaaaaaaaaaaaaaaaaaaa'",
        "kind": "'service'",
        "owner_type": "'member', owner_user_id = 'usr_aaaaaaaaaaaaaaaaaaaa', owner_team = ''",
        "owner_user_id": "'usr_aaaaaaaaaaaaaaaaaaaa', owner_type = 'member', owner_team = ''",
        "scopes": "'{incidents:write}'",
        "allowed_ips": "'{192.0.2.0/24}'",
        "rate_limit_requests": "5, rate_limit_window_seconds = 60",
        "rate_limit_window_seconds": "60, rate_limit_requests = 5",
        "tier_id": "'no-such-tier'",
        "newest_version": "newest_version + 1",
        "expires_at": "now() + interval '1 minute'",
        "is_disabled": "true",
        "disabled_until": "now() + interval '1 minute'",
        "revoked_at": "now(), ended_at = now(), revocation_reason = 'other'",
        "approval_bound": "true, kind = 'service'",
    },
    "keys_keysecret": {
        "organization_id": "'org_aaaaaaaaaaaaaaaaaaaa'",
        "expires_at": "now() + interval '1 minute'",
        "accepted_until": "now() + interval '1 minute'",
        "digest": "sha256(digest)",
        "version": "version + 7",
        "key_id": "'key_aaaaaaaaaaaaaaaaaaaa'",
    },
    "keys_scope": {"risk": "'admin'", "name": "name || 'x'"},
    "keys_tier": {
        "requests": "requests + 1",
        "window_seconds": "window_seconds + 1",
        "monthly_quota": "5",
        "slug": "slug || 'x'",
    },
    "orgs_organization": {
        "is_operator": None,
        "plan_id": "'no-such-plan'",
        "overrides": "'{\"monthly_quota\": 5}'",
        "suspended_at": "now()",
    },
    "orgs_membership": {
        "organization_id": "'org_aaaaaaaaaaaaaaaaaaaa'",
        "user_id": "'usr_aaaaaaaaaaaaaaaaaaaa'",
        "project_id": "'prj_aaaaaaaaaaaaaaaaaaaa'",
        "role": "'viewer'",
        "id": "'mbr_aaaaaaaaaaaaaaaaaaaa'",
    },
    "orgs_project": {
        "organization_id": "'org_aaaaaaaaaaaaaaaaaaaa'",
        "parent_id": "'prj_aaaaaaaaaaaaaaaaaaaa'",
        "path": "'/prj_aaaaaaaaaaaaaaaaaaaa/'",
        "scopes": "'{incidents:read}'",
        "id": "'prj_aaaaaaaaaaaaaaaaaaab'",
    },
    "orgs_environment": {
        "organization_id": "'org_aaaaaaaaaaaaaaaaaaaa'",
        "slug": "slug || 'x'",
        "mode": "'live'",
        "id": "'env_aaaaaaaaaaaaaaaaaaab'",
    },
    "orgs_plan": {
        "rate_limit_requests": "5, rate_limit_window_seconds = 60",
        "rate_limit_window_seconds": "60, rate_limit_requests = 5",
        "monthly_quota": "5",
        "entitlements": "'{\"seats\": 5}'",
        "slug": "slug || 'x'",
    },
    "orgs_user": {"is_active": "false"},
}
HARMLESS = {
    "keys_apikey": {
        "id", "name", "description", "owner_team", "tags", "rotation_interval_days", "may_rotate_itself", "hint",
        "auto_rotate", "revoked_by", "revocation_reason", "revocation_note", "ended_at", "created_at", "created_by",
        "updated_at", "person_touched_at",
    },
    "keys_keysecret": {"pepper_version", "hint", "created_at"},
    "keys_scope": {"description", "kinds", "is_deprecated", "is_builtin", "created_at"},
    "keys_tier": {"name", "description", "created_at"},
    "orgs_organization": {"id", "slug", "name", "created_at"},
    "orgs_membership": {"created_at"},
    "orgs_project": {"name", "label_path", "archived_at", "created_at"},
    "orgs_environment": {"name", "is_production", "archived_at", "created_at"},
    "orgs_plan": {"name", "description", "key_cap", "usage_retention_days", "created_at"},
    "orgs_user": {"id", "email", "name", "password", "last_login", "staff_role", "is_superuser", "created_at"},
}  # fmt: skip
# Where each field of what `verdict.decide` reads comes from.
READ = {
    "organization_id": {"keys_apikey.organization_id"},
    "is_organization_suspended": {"orgs_organization.suspended_at"},
    "revoked_at": {"keys_apikey.revoked_at"},
    "is_disabled": {"keys_apikey.is_disabled"},
    "disabled_until": {"keys_apikey.disabled_until"},
    "version": {"keys_keysecret.version"},
    "newest_version": {"keys_apikey.newest_version"},
    "expires_at": {"keys_keysecret.expires_at"},
    "accepted_until": {"keys_keysecret.accepted_until"},
    "environment": {"keys_apikey.environment_id", "orgs_environment.slug"},
    "mode": {"orgs_environment.mode"},
    "project_id": {"keys_apikey.project_id"},
    "networks": {"keys_apikey.allowed_ips"},
    "scopes": {"keys_apikey.scopes"},
    "layers": {"orgs_project.scopes", "orgs_project.path"},
    "risks": {"keys_scope.risk", "keys_scope.name"},
    "ceiling": {"keys_apikey.owner_user_id", "orgs_membership.role", "orgs_membership.project_id"},
    "entitlements": {"orgs_organization.plan_id", "orgs_organization.overrides", "orgs_plan.entitlements"},
    "is_bound": {"keys_apikey.approval_bound"},
}
CHANGES = [(table, column) for table, columns in NARROWS.items() for column in columns if columns[column]]
EVERYTHING = {"keys_scope", "keys_tier", "orgs_plan"}


@pytest.fixture
def ear():
    with listening() as listener:
        yield listener


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice, scopes=["incidents:read", "incidents:write"])


def of_key(key, where):
    return {f"{key.id} {where.id}"}


def a_row(table, cast, made):
    """Make a row of a table to change, and return the condition that finds it."""
    slug = builders.unique("row")
    make = {
        "keys_apikey": lambda: ("id", made.key.id),
        "keys_keysecret": lambda: ("key_id", made.key.id),
        "keys_scope": lambda: ("name", a_scope().name),
        "keys_tier": lambda: (
            "slug",
            Tier.objects.create(slug=slug, name=slug, requests=9, window_seconds=9).slug,
        ),
        "orgs_organization": lambda: ("id", cast.acme.id),
        "orgs_membership": lambda: ("id", a_membership(cast).id),
        "orgs_project": lambda: ("id", builders.project(builders.root(cast.acme)).id),
        "orgs_environment": lambda: ("id", builders.environment(cast.acme).id),
        "orgs_plan": lambda: ("slug", Plan.objects.create(slug=slug, name=slug).slug),
        "orgs_user": lambda: ("id", cast.bob.id),
    }
    column, value = make[table]()
    return f"{column} = '{value}'"


def a_scope():
    draft = ScopeDraft(description="", risk=Risk.READ, kinds=(Kind.CONTROL_PLANE,))
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        return key_services.create_scope(f"narrow:{builders.unique('scope')}", draft, actor=builders.OPERATOR)


def a_membership(cast):
    with tenancy.within(cast.acme.id):
        return Membership.objects.get(organization=cast.acme, user=cast.bob)


class TestColumns:
    @pytest.mark.parametrize("table", NARROWS)
    def test_each_column_is_thought_of(self, table):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", [table]
            )
            columns = {name for (name,) in cursor.fetchall() if "pg.dropped" not in name}
        assert columns == NARROWS[table].keys() | HARMLESS[table]
        assert not NARROWS[table].keys() & HARMLESS[table]

    def test_all_that_the_verdict_reads_is_watched(self):
        fields = {field.name for field in dataclasses.fields(verdict.Record)}
        assert fields <= READ.keys()
        watched = {f"{table}.{column}" for table, columns in NARROWS.items() for column in columns}
        assert set().union(*READ.values()) <= watched

    @pytest.mark.parametrize(("table", "column"), CHANGES, ids=".".join)
    def test_a_superuser_changes_it_and_it_is_told(self, table, column, cast, made, ear):
        row = a_row(table, cast, made)
        first = column.partition(",")[0]
        with superuser(replica=True) as session:
            before = session.execute(f"SELECT ctid::text, to_jsonb(t) FROM {table} t WHERE {row}").fetchall()
            assert len(before) == 1
            ear.heard()
            session.execute("BEGIN")
            session.execute(f"UPDATE {table} SET {column} = {NARROWS[table][column]} WHERE {row}")
            kept = session.execute(
                "SELECT narrowed_keys, narrowed_organizations FROM keys_narrowing"
            ).fetchall()
            # What a broken reference would leave behind for other tests is not theirs to meet.
            if column in {"organization_id", "plan_id", "tier_id", "project_id", "environment_id", "user_id"}:
                session.execute("ROLLBACK")
                told = {item for one in kept for part in one for item in part}
            else:
                session.execute("COMMIT")
                told = items(ear.heard())
                restore(session, table, before[0][1], row if first not in row else None)
        assert told == expected(table, cast, made)

    @pytest.mark.parametrize("table", NARROWS)
    def test_what_is_harmless_is_not_told(self, table, cast, made, ear):
        row = a_row(table, cast, made)
        ear.heard()
        with superuser(replica=True) as session:
            for column in HARMLESS[table] - {"id"}:
                session.execute(f"UPDATE {table} SET {column} = {column} WHERE {row}")
            if "name" in HARMLESS[table]:
                session.execute(f"UPDATE {table} SET name = name || 'x' WHERE {row}")
        assert ear.heard() == []


def expected(table, cast, made):
    if table in EVERYTHING:
        return {"*"}
    return of_key(made.key, cast.acme) if table in {"keys_apikey", "keys_keysecret"} else {cast.acme.id}


def restore(session, table, row, condition):
    """Put a row back as it was; where its key itself was changed, it is left: nothing refers to it."""
    if condition is None:
        return
    names = [name for name in row if name not in {"digest"}]
    columns = ", ".join(names)
    session.execute(
        f"UPDATE {table} SET ({columns}) ="
        f" (SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s)) WHERE {condition}",
        [psycopg.types.json.Jsonb(row)],
    )


class TestServices:
    """Through the front door each act is told, once, in its own transaction."""

    def changed(self, cast, key, **changes):
        with tenancy.within(cast.acme.id):
            key_services.change_key(key, Changes(**changes), actor=callers.of_member(cast.member(cast.alice)))

    @pytest.mark.parametrize(
        "changes",
        [
            {"enabled": False},
            {"disabled_until": timezone.now() + timedelta(hours=2)},
            {"scopes": ["incidents:read"]},
            {"allowed_ips": ["192.0.2.0/24"]},
            {"expires": timezone.now() + timedelta(days=2)},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_change_of_a_key(self, cast, made, ear, changes):
        assert ear.hears(lambda: self.changed(cast, made.key, **changes)) == [*of_key(made.key, cast.acme)]

    def test_another_owner(self, cast, made, ear):
        told = ear.hears(lambda: self.changed(cast, made.key, owner=Owner(member=cast.bob)))
        assert told == [*of_key(made.key, cast.acme)]

    def test_words_are_not_told(self, cast, made, ear):
        assert ear.hears(lambda: self.changed(cast, made.key, description="x", tags={"a": "b"})) == []

    def test_a_revocation(self, cast, made, ear):
        def revoke():
            with tenancy.within(cast.acme.id):
                key_services.revoke_key(made.key, actor=callers.of_member(cast.member(cast.alice)))

        assert ear.hears(revoke) == [*of_key(made.key, cast.acme)]

    @pytest.mark.parametrize("mode", [Mode.IMMEDIATE, Mode.GRACE])
    def test_a_rotation(self, cast, made, ear, mode):
        told = ear.hears(lambda: key_builders.rotate(made.key, cast.acme, cast.alice, mode=mode))
        assert told == [*of_key(made.key, cast.acme)]

    def test_the_end_of_a_grace(self, cast, made, ear):
        key_builders.rotate(made.key, cast.acme, cast.alice)

        def complete():
            with tenancy.within(cast.acme.id):
                old = KeySecret.objects.filter(key=made.key, version=1)
                old.update(accepted_until=timezone.now())

        assert ear.hears(complete) == [*of_key(made.key, cast.acme)]

    def test_a_demotion_and_a_removal(self, cast, ear):
        eve = builders.person("Eve")
        membership = builders.join(eve, cast.acme, Role.DEVELOPER)
        alice = cast.member(cast.alice)
        assert ear.hears(lambda: services.change_role(membership, Role.VIEWER, actor=alice)) == [cast.acme.id]
        assert ear.hears(lambda: services.remove_member(membership, actor=alice)) == [cast.acme.id]

    def test_a_leavers_keys_and_the_organization_in_one(self, cast, ear):
        eve = builders.person("Eve")
        builders.join(eve, cast.acme, Role.DEVELOPER)
        for _ in range(3):
            key_builders.create(cast.acme, cast.alice, owner=Owner(member=eve))
        with tenancy.within(cast.acme.id):
            membership = Membership.objects.get(organization=cast.acme, user=eve)
        told = ear.hears(
            lambda: services.remove_member(membership, actor=cast.member(cast.alice), entirely=True)
        )
        assert told == [cast.acme.id]

    def test_a_suspension(self, ear):
        where = builders.organization("Suspended")
        assert ear.hears(lambda: services.suspend_organization(where, actor=builders.OPERATOR)) == [where.id]

    def test_a_narrowed_project(self, cast, ear):
        below = builders.project(builders.root(cast.acme))
        narrow = lambda: services.set_project_scopes(below, ["incidents:read"], actor=builders.OPERATOR)  # noqa: E731
        assert ear.hears(narrow) == [cast.acme.id]

    def test_a_person_who_may_not_sign_in(self, cast, ear):
        eve = builders.person("Eve")
        builders.join(eve, cast.acme, Role.DEVELOPER)
        builders.join(eve, cast.elsewhere, Role.DEVELOPER)
        told = ear.hears(lambda: services.disable_user(eve, actor=builders.OPERATOR))
        assert items(told) == {cast.acme.id, cast.elsewhere.id}
        assert len(told) == 1

    def test_a_raised_risk_and_a_new_scope(self, cast, ear):
        name = f"narrow:{builders.unique('risk')}"
        draft = ScopeDraft(description="", risk=Risk.READ, kinds=(Kind.CONTROL_PLANE,))
        raised = dataclasses.replace(draft, risk=Risk.ADMIN)

        def change(to):
            with tenancy.everywhere(tenancy.Reason.COMMAND):
                key_services.change_scope(Scope.objects.get(name=name), to, actor=builders.OPERATOR)

        with tenancy.everywhere(tenancy.Reason.COMMAND):
            key_services.create_scope(name, draft, actor=builders.OPERATOR)
        assert ear.heard() == ["*"]
        assert ear.hears(lambda: change(raised)) == ["*"]
        assert ear.hears(lambda: change(dataclasses.replace(raised, description="Other words"))) == []

    def test_a_use_and_a_new_pepper_are_not_told(self, cast, made, ear):
        """As verification writes it: the digest grows with the pepper's version."""
        with superuser() as session:
            session.execute("SET SESSION AUTHORIZATION keystead_verify")
            renew = "UPDATE keys_keysecret SET digest = sha256(digest), pepper_version = 2 WHERE key_id = %s"
            used = "UPDATE keys_keyuse SET last_used_at = now() WHERE key_id = %s"
            assert ear.hears(lambda: [session.execute(one, [made.key.id]) for one in (renew, used)]) == []


class TestOnce:
    def test_one_transaction_is_told_once_and_only_when_it_commits(self, cast, ear):
        keys = [key_builders.create(cast.acme, cast.alice).key for _ in range(3)]
        ear.heard()
        with superuser() as session:
            session.execute("BEGIN")
            for key in keys:
                session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [key.id])
            session.execute(
                "UPDATE orgs_organization SET overrides = '{\"key_cap\": 9}' WHERE id = %s",
                [cast.elsewhere.id],
            )
            assert ear.heard() == []
            session.execute("COMMIT")
        told = ear.heard()
        assert len(told) == 1
        assert items(told) == {f"{key.id} {cast.acme.id}" for key in keys} | {cast.elsewhere.id}

    def test_what_is_rolled_back_is_not_told(self, cast, made, ear):
        other = key_builders.create(cast.acme, cast.alice).key
        ear.heard()
        disable = "UPDATE keys_apikey SET is_disabled = true WHERE id = %s"
        with superuser() as session:
            session.execute("BEGIN")
            session.execute(disable, [made.key.id])
            session.execute("ROLLBACK")
            assert ear.heard() == []
            session.execute("BEGIN; SAVEPOINT a")
            session.execute(disable, [made.key.id])
            session.execute("ROLLBACK TO a")
            session.execute(disable, [other.id])
            session.execute("COMMIT")
        assert ear.heard() == [*of_key(other, cast.acme)]

    def test_above_a_hundred_keys_it_is_their_organization(self, cast, ear):
        where = builders.organization("Many", owner=cast.alice)
        many(where, builders.root(where), builders.production(where), 101)
        ear.heard()
        with superuser() as session:
            session.execute(
                "UPDATE keys_apikey SET is_disabled = true WHERE organization_id = %s", [where.id]
            )
            assert ear.heard() == [where.id]
            hundred = "id IN (SELECT id FROM keys_apikey WHERE organization_id = %s ORDER BY id LIMIT 100)"
            session.execute(f"UPDATE keys_apikey SET is_disabled = false WHERE {hundred}", [where.id])
            told = ear.heard()
            assert len(told) == 1
            assert len(items(told)) == 100
            assert len(told[0]) < 8000
            session.execute("BEGIN")
            ids = session.execute(
                "SELECT id FROM keys_apikey WHERE organization_id = %s", [where.id]
            ).fetchall()
            for (key_id,) in ids:
                session.execute(
                    "UPDATE keys_apikey SET is_disabled = NOT is_disabled WHERE id = %s", [key_id]
                )
            session.execute("COMMIT")
        assert ear.heard() == [where.id]

    def test_above_two_hundred_organizations_it_is_everything(self, cast, ear):
        with superuser(replica=True) as session:
            session.execute("BEGIN")
            session.execute(
                "INSERT INTO orgs_organization (id, slug, name, is_operator, plan_id, overrides, created_at)"
                " SELECT 'org_' || lpad(translate(n::text, '0189', 'abcd'), 20, 'q'), 'lots-' || n, 'Lots', false,"
                " 'standard', '{}', now() FROM generate_series(1, 201) n"
            )
            session.execute("UPDATE orgs_organization SET suspended_at = now() WHERE slug LIKE 'lots-%'")
            kept = session.execute("SELECT narrowed_organizations FROM keys_narrowing").fetchall()
            session.execute("ROLLBACK")
        assert kept == [(["*"],)]

    def test_an_id_that_is_not_like_ours_stands_for_nothing_else(self, cast, ear):
        """A comma, a blank or a line break in an id must not be read as another item."""
        with superuser(replica=True) as session:
            session.execute(
                "INSERT INTO orgs_organization (id, slug, name, is_operator, plan_id, overrides, created_at)"
                " VALUES (E'org_a,\\norg_b', 'odd-org', 'Odd', false, 'standard', '{}', now())"
            )
            ear.heard()
            session.execute("UPDATE orgs_organization SET suspended_at = now() WHERE slug = 'odd-org'")
            assert ear.heard() == ["*"]
            session.execute("DELETE FROM orgs_organization WHERE slug = 'odd-org'")
            assert ear.heard() == ["*"]

    def test_constraints_set_immediate_hide_nothing(self, cast, made, ear):
        with superuser() as session:
            session.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE")
            session.execute("UPDATE keys_apikey SET is_disabled = true WHERE id = %s", [made.key.id])
            session.execute("COMMIT")
        assert set(ear.heard()) == of_key(made.key, cast.acme)

    def test_rows_that_are_deleted_are_told(self, cast, made, ear):
        with superuser(replica=True) as session:
            row = session.execute("SELECT * FROM keys_keysecret WHERE key_id = %s", [made.key.id]).fetchone()
            assert row
            ear.heard()
            session.execute("DELETE FROM keys_keysecret WHERE key_id = %s", [made.key.id])
            assert ear.heard() == ["*"]
            session.execute("DELETE FROM keys_keysecret WHERE key_id = %s", [made.key.id])
            assert ear.heard() == []
            session.execute("BEGIN")
            session.execute("TRUNCATE keys_keysecret")
            assert session.execute("SELECT narrowed_organizations FROM keys_narrowing").fetchall() == [
                (["*"],)
            ]
            session.execute("ROLLBACK")

    def test_nothing_is_left_behind(self):
        with superuser() as session:
            assert session.execute("SELECT count(*) FROM keys_narrowing").fetchall() == [(0,)]


class TestRights:
    @pytest.mark.parametrize("login", ["keystead_app", "keystead_verify", "keystead_notary"])
    def test_no_login_reaches_what_is_gathered(self, login):
        with superuser() as session:
            session.execute(f"SET SESSION AUTHORIZATION {login}")
            for statement in (
                "SELECT * FROM keys_narrowing",
                "DELETE FROM keys_narrowing",
                "INSERT INTO keys_narrowing VALUES ('1', '{}', '{}')",
                "SELECT keys_narrow('{}', '{*}')",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement)

    def test_functions_pin_their_search_path_and_are_nobodys(self):
        with superuser() as session:
            found = session.execute(
                "SELECT proname, proconfig, proacl::text, prosecdef FROM pg_proc"
                " WHERE proname LIKE 'keys_narrow%' OR proname = 'keys_tell_narrowed'"
            ).fetchall()
        assert len(found) == 15
        for name, settings, rights, is_definer in found:
            assert settings == ["search_path=pg_catalog, pg_temp"], name
            assert rights == "{keystead_owner=X/keystead_owner}", name
            assert is_definer is (name != "keys_narrow")

    def test_every_trigger_fires_always(self):
        with superuser() as session:
            found = session.execute(
                "SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE tgname LIKE 'keys_narrowed%'"
            ).fetchall()
        assert {table for table, _ in found} == NARROWS.keys()
        assert {enabled for _, enabled in found} == {"A"}
        assert len(found) == 31


def test_the_migration_can_be_taken_back_and_done_again():
    migration = importlib.import_module("keys.migrations.0004_narrowing")
    left = (
        "SELECT (SELECT count(*) FROM pg_proc WHERE proname LIKE 'keys_narrow%' OR proname = 'keys_tell_narrowed'),"
        " (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'keys_narrowed%')"
    )
    with superuser() as session:
        session.execute("BEGIN; SET LOCAL ROLE keystead_owner")
        session.execute(migration.REVERSE)
        assert session.execute(left).fetchall() == [(0, 0)]
        session.execute(migration.SQL)
        assert session.execute(left).fetchall() == [(15, 31)]
        session.execute("ROLLBACK")


def many(where, project, environment, number):
    """Insert keys, far more than services would make in a test's time."""
    with superuser() as session:
        session.execute(
            "INSERT INTO keys_apikey (id, organization_id, project_id, environment_id, kind, name, description,"
            " owner_type, owner_team, tags, scopes, allowed_ips, may_rotate_itself, newest_version, hint, is_disabled,"
            " revoked_by, revocation_reason, revocation_note, created_at, created_by, updated_at, person_touched_at)"
            " SELECT 'key_' || translate(left(md5(%s || n), 20), '0189', 'ghij'), %s, %s, %s, 'service',"
            " 'many-' || n, '', 'team', 'NOC', '{}', '{incidents:read}', '{}', true, 1, 'abcd', false, '', '', '',"
            " now(), 'sys_tests', now(), now()"
            " FROM generate_series(1, %s) n",
            [where.id, where.id, project.id, environment.id, number],
        )


@pytest.mark.timed
def test_ten_thousand_keys_in_one_statement_cost_little(cast):
    where = builders.organization("Crowd", owner=cast.alice)
    many(where, builders.root(where), builders.production(where), 10_000)
    spent = []
    with superuser() as session:
        for _ in range(4):
            session.execute("BEGIN")
            explained = session.execute(
                "EXPLAIN (ANALYZE, FORMAT JSON) UPDATE keys_apikey SET is_disabled = NOT is_disabled"
                " WHERE organization_id = %s",
                [where.id],
            ).fetchone()
            session.execute("ROLLBACK")
            assert explained
            triggers = {one["Trigger Name"]: one["Time"] for one in explained[0][0]["Triggers"]}
            spent.append(triggers["keys_narrowed_update"])
    assert min(spent) < 100, spent
