"""Tenants: what one transaction sees and writes of another organization's rows, which is nothing (spec PEOPLE)."""

import secrets

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from audit import ledger, tenancy
from audit.errors import LedgerUnavailable
from orgs import services
from orgs.models import Environment, Invitation, Membership, Organization, Project
from orgs.roles import Role
from tests import builders

# Written by functions of the definer, whom FORCE would blind, or by the notary alone.
LEDGER = {"audit_entry", "audit_sealed", "audit_head", "audit_checkpoint", "audit_node", "audit_searchblock"}
# Read by functions of the definer alone.
CLOSED = {"audit_head", "audit_searchblock"}
THREE = {"tenant", "everywhere", "owner"}
MODELS = [Organization, Project, Environment, Membership, Invitation]
# What has an organization's id and no row security, each with the reason for it.
OPEN: set[str] = set()


def rows(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def tenant_tables():
    """Every table or partition with an organization's id, and the organizations themselves."""
    return rows(
        """
        SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relispartition
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND (
            c.relname = 'orgs_organization'
            OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id'))
        ORDER BY 1
        """
    )


def policies(table):
    return {
        name: (command, roles, using, check)
        for name, command, roles, using, check in rows(
            "SELECT policyname, cmd, roles::text[], qual, with_check FROM pg_policies WHERE tablename = %s",
            table,
        )
    }


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        everybody = builders.cast()
        for where in (everybody.acme, everybody.elsewhere):
            owner = everybody.alice if where == everybody.acme else everybody.mallory
            guest = f"{builders.unique('guest')}@example.com"
            services.invite_member(guest, Role.VIEWER, actor=builders.member(owner, where))
    return everybody


class TestPolicies:
    def test_every_tenant_table_is_found(self):
        names = {name for name, *_ in tenant_tables()}
        assert {f"orgs_{model._meta.model_name}" for model in MODELS} | LEDGER <= names
        assert {"keys_apikey", "keys_keypolicy"} <= names

    def test_row_security_is_forced_everywhere_but_on_the_ledger(self):
        found = {name: (security, force) for name, security, force, _ in tenant_tables() if name not in OPEN}
        assert {name for name, (security, _) in found.items() if not security} == set()
        assert {name for name, (_, force) in found.items() if not force} <= LEDGER

    def test_each_has_the_three_policies_on_its_own_column(self):
        for name, *_, is_partition in tenant_tables():
            if name in LEDGER | OPEN or is_partition:
                continue
            column = "id" if name == "orgs_organization" else "organization_id"
            own = f"(({column})::text = current_setting('app.organization'::text, true))"
            everywhere = "(current_setting('app.organization'::text, true) = '*'::text)"
            found = policies(name)
            assert found["tenant"] == ("ALL", ["keystead_app"], own, own), name
            assert found["everywhere"] == ("ALL", ["keystead_app"], everywhere, everywhere), name
            assert found["owner"] == ("ALL", ["keystead_owner"], "true", "true"), name
            others = {name: roles for name, (_, roles, *_) in found.items() if name not in THREE}
            assert all(roles == ["keystead_verify"] for roles in others.values()), name

    def test_the_queue_holds_no_tenants_rows(self):
        """Jobs name what they are about by ids alone: the queue's tables are the worker's, and of no organization."""
        tables = rows(
            "SELECT relname::text FROM pg_class WHERE relname LIKE 'procrastinate%%' AND relkind = 'r'"
        )
        columns = rows(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name LIKE 'procrastinate%%'"
        )
        assert ("procrastinate_jobs",) in tables
        assert not {"organization_id", "secret", "key_id"} & {name for (name,) in columns}

    def test_policies_for_everybody_do_not_exist(self):
        assert rows("SELECT policyname FROM pg_policies WHERE 'public' = ANY (roles::text[])") == []

    def test_the_application_neither_owns_nor_bypasses(self):
        assert rows(
            "SELECT current_user::text, rolbypassrls, rolsuper FROM pg_roles WHERE rolname = current_user"
        ) == [("keystead_app", False, False)]


class TestReading:
    def test_without_a_setting_there_is_nothing(self, cast):
        assert [model.objects.count() for model in MODELS] == [0] * len(MODELS)
        assert rows("SELECT count(*) FROM audit_entry") == [(0,)]

    def test_within_one_there_is_only_its_own(self, cast):
        with tenancy.within(cast.acme.id):
            assert set(Organization.objects.values_list("id", flat=True)) == {cast.acme.id}
            for model in MODELS[1:]:
                assert set(model.objects.values_list("organization_id", flat=True)) == {cast.acme.id}, model
            assert rows("SELECT DISTINCT organization_id FROM audit_entry") == [(cast.acme.id,)]

    def test_no_table_at_all_shows_a_stranger_anything(self, cast):
        with tenancy.within(builders.new_id("org")):
            for name, *_, is_partition in tenant_tables():
                if name not in CLOSED and not is_partition:
                    assert rows(f"SELECT count(*) FROM {connection.ops.quote_name(name)}") == [(0,)], name

    def test_a_partition_shows_nobody_anything(self, cast):
        """Its parent's policies don't hold on it: it is read through the parent alone."""
        partitions = [name for name, *_, is_partition in tenant_tables() if is_partition]
        assert "keys_call_default" in partitions
        assert len(partitions) > 14
        for name in partitions:
            with (
                pytest.raises(ProgrammingError, match="permission denied"),
                tenancy.within(cast.acme.id),
            ):
                rows(f"SELECT FROM {connection.ops.quote_name(name)}")
            assert {policy: roles for policy, (_, roles, *_) in policies(name).items()} == {
                "owner": ["keystead_owner"]
            }

    def test_everywhere_shows_all(self, cast):
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            assert {cast.acme.id, cast.elsewhere.id} <= set(Organization.objects.values_list("id", flat=True))

    @pytest.mark.parametrize("table", sorted(CLOSED))
    def test_what_is_closed_is_nobodys_to_read(self, cast, table):
        with pytest.raises(ProgrammingError, match="permission denied"), tenancy.within(cast.acme.id):
            rows(f"SELECT * FROM {connection.ops.quote_name(table)}")


class TestWriting:
    def test_a_strangers_row_is_not_updated(self, cast):
        root = builders.root(cast.acme)
        with tenancy.within(cast.elsewhere.id):
            assert Project.objects.filter(pk=root.pk).update(name="mine") == 0
            assert Membership.objects.filter(organization_id=cast.acme.id).delete()[0] == 0
        assert builders.root(cast.acme).name == "Acme"

    @pytest.mark.parametrize("model", [Project, Environment, Membership, Invitation])
    def test_no_row_is_made_for_a_stranger(self, cast, model):
        with tenancy.within(cast.acme.id):
            row = model.objects.filter(organization=cast.acme).first()
        row.pk = builders.new_id("new")
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            tenancy.within(cast.elsewhere.id),
        ):
            row.save(force_insert=True)

    def test_no_row_is_handed_over(self, cast):
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            tenancy.within(cast.elsewhere.id),
        ):
            Membership.objects.filter(user=cast.mallory).update(organization_id=cast.acme.id)

    def test_a_row_of_one_organization_names_no_project_of_another(self, cast):
        """Under `everywhere` row security is silent; the foreign key over both columns is not."""
        foreign = builders.root(cast.acme)
        with (
            pytest.raises(IntegrityError, match="membership_project_of_same"),
            tenancy.everywhere(tenancy.Reason.ADMIN),
        ):
            Membership.objects.create(
                organization=cast.elsewhere, user=cast.dave, project=foreign, role=Role.VIEWER
            )

    def test_the_ledger_of_a_stranger_is_not_written(self, cast):
        with (
            builders.gains(cast.acme.id),
            pytest.raises(LedgerUnavailable),
            tenancy.within(cast.elsewhere.id),
            ledger.recording(cast.acme.id, builders.OPERATOR) as entry,
        ):
            entry("key.created", target="key_x")

    def test_organizations_projects_environments_and_people_are_never_deleted(self, cast):
        for table in ("orgs_organization", "orgs_project", "orgs_environment", "orgs_user"):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                rows(f"DELETE FROM {table} RETURNING id")


class TestNesting:
    def test_an_inner_block_gives_back_what_the_outer_one_had(self, cast):
        with tenancy.within(cast.acme.id):
            with tenancy.everywhere(tenancy.Reason.COMMAND):
                pass
            assert Organization.objects.get().id == cast.acme.id

    def test_so_does_one_that_fails(self, cast):
        with tenancy.within(cast.acme.id):
            with pytest.raises(ZeroDivisionError), tenancy.within(cast.elsewhere.id):
                raise ZeroDivisionError
            assert Organization.objects.get().id == cast.acme.id

    def test_nothing_is_left_on_the_connection(self, cast):
        with tenancy.within(cast.acme.id):
            pass
        with pytest.raises(ZeroDivisionError), tenancy.everywhere(tenancy.Reason.COMMAND):
            raise ZeroDivisionError
        assert Organization.objects.count() == 0

    @pytest.mark.parametrize("nobody", ["", "*"])
    def test_within_needs_an_id(self, nobody):
        with pytest.raises(ValueError, match="needed"), tenancy.within(nobody):
            pass

    def test_everywhere_needs_a_reason_on_the_list(self):
        with pytest.raises(ValueError, match="because"), tenancy.everywhere("because"):
            pass


def test_one_connection_alternates_ten_thousand_times_and_meets_no_foreign_row(cast):
    """As in a pool of one: a setting that outlived its transaction would show."""
    ids = [cast.acme.id, cast.elsewhere.id, ""]
    process = rows("SELECT pg_backend_pid()")
    sql = "SELECT coalesce(array_agg(DISTINCT organization_id::text), '{}') FROM orgs_membership"
    with connection.cursor() as cursor:
        for _ in range(10_000):
            turn = secrets.choice(ids)
            if not turn:
                cursor.execute(sql)
                assert cursor.fetchone() == ([],)
                continue
            cursor.execute("BEGIN")
            cursor.execute("SELECT set_config('app.organization', %s, true)", [turn])
            cursor.execute(sql)
            assert cursor.fetchone() == ([turn],)
            cursor.execute(secrets.choice(["COMMIT", "ROLLBACK"]))
    assert rows("SELECT pg_backend_pid()") == process


def test_the_product_alternates_on_one_connection_and_meets_no_foreign_row(cast):
    process = rows("SELECT pg_backend_pid()")
    for _ in range(300):
        where = secrets.choice([cast.acme, cast.elsewhere])
        with tenancy.within(where.id):
            assert {m.organization_id for m in Membership.objects.all()} == {where.id}
    assert rows("SELECT pg_backend_pid()") == process
