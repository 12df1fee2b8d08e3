"""The watch that other tests rely on: it sees what was changed without an entry, and knows every table."""

import pytest
from django.db import transaction
from django.utils import timezone

from audit import tenancy
from orgs.models import Project, User
from tests import builders, watching


@pytest.fixture
def project(watch):
    made = builders.project(builders.root(builders.organization()))
    watch.forget()
    return made


def rename(project, name):
    Project.objects.filter(pk=project.pk).update(name=name)


class TestWhatItSees:
    def test_a_change_past_the_services(self, watch, project):
        with tenancy.within(project.organization_id):
            rename(project, "Past the services")
        assert watch.changes().unrecorded == ["orgs_project UPDATE"]
        assert not watch.changes()

    def test_a_change_of_a_service_with_its_entry(self, watch, project):
        builders.project(project)
        found = watch.changes()
        assert found
        assert not found.unrecorded

    def test_an_entry_of_another_transaction_is_none(self, watch, project):
        builders.project(project)
        with tenancy.within(project.organization_id):
            rename(project, "After it")
        assert watch.changes().unrecorded == ["orgs_project UPDATE"]

    def test_what_is_rolled_back_was_never_there(self, watch, project):
        with tenancy.within(project.organization_id):
            rename(project, "Not to be")
            transaction.set_rollback(True)
        assert not watch.changes()

    def test_what_is_no_state(self, watch):
        user = builders.person()
        watch.forget()
        User.objects.filter(pk=user.pk).update(last_login=timezone.now())
        User.objects.filter(pk=user.pk).update(name=user.name)
        assert not watch.changes()
        User.objects.filter(pk=user.pk).update(last_login=None, name="Another")
        assert watch.changes().unrecorded == ["orgs_user UPDATE"]

    def test_a_table_that_nobody_listed(self, watch):
        with watching.ledgers.superuser() as connection:
            connection.execute(b"CREATE TABLE public.of_tomorrow (word text)")
            try:
                watching._watch(connection, "of_tomorrow")
                connection.execute(b"INSERT INTO of_tomorrow VALUES ('x')")
                assert watch.changes().unrecorded == ["of_tomorrow INSERT"]
            finally:
                connection.execute(b"DROP TABLE public.of_tomorrow")


class TestTheList:
    def test_names_only_what_is_there(self, watch):
        assert set(watching.QUIET) <= set(watching.tables(watch.connection))
        for table, quiet in watching.QUIET.items():
            found = watch.connection.execute(
                b"SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass", [table]
            )
            assert set(quiet.columns) <= {name for (name,) in found}, table

    def test_every_other_table_is_watched(self, watch):
        found = watch.connection.execute(
            b"SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'watching' AND tgparentid = 0"
        )
        silent = {name for name, quiet in watching.QUIET.items() if quiet.operations == watching.ALL}
        watched = {name for (name,) in found} - {"audit_entry"}
        assert watched == set(watching.tables(watch.connection)) - silent
