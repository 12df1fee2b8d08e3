"""What support staff open and close: times by the database's clock, one at a time, each in the customer's ledger."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection, connections, transaction
from django.utils import timezone

from audit import services, tenancy
from audit.errors import SupportRefused
from audit.models import SupportEnd, SupportSession
from audit.tasks import support as tasks
from orgs import services as org_services
from tests import builders
from tests.api.calls import as_superuser

WHY = "Case 4711: a key stopped working"


@pytest.fixture
def cast():
    return builders.cast()


def actor(cast):
    return builders.as_actor(cast.dave)


def visit(cast, where=None, minutes=60, reason=WHY):
    where = where or cast.acme
    return services.open_visit(where.id, actor=actor(cast), reason=reason, minutes=minutes)


def fresh(session):
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return SupportSession.objects.get(pk=session.id)


def let_lapse(session):
    """Make it an old one, as only a superuser can who takes the guard away."""
    as_superuser("ALTER TABLE audit_supportsession DISABLE TRIGGER support_times")
    as_superuser(
        "UPDATE audit_supportsession SET opened_at = now() - interval '4 hours',"
        " expires_at = now() - interval '1 second' WHERE id = %s",
        session.id,
    )
    as_superuser("ALTER TABLE audit_supportsession ENABLE TRIGGER support_times")


class TestOpening:
    def test_the_customer_reads_who_and_why(self, cast):
        with builders.gains(cast.acme.id, "support.opened") as gained:
            session = visit(cast)
        entry = gained[0]
        assert (entry.actor, entry.data["target"], entry.data["kind"]) == (cast.dave.id, session.id, "visit")
        assert {"reason", "name"} <= set(entry.sealed)
        assert WHY not in str(entry.data)

    def test_the_times_are_the_databases(self, cast):
        session = visit(cast, minutes=240)
        assert session.expires_at - session.opened_at == timedelta(hours=4)
        assert abs(timezone.now() - session.opened_at) < timedelta(seconds=5)

    @pytest.mark.parametrize("minutes", [0, -5, 241, 100_000])
    def test_four_hours_at_most(self, cast, minutes):
        with builders.gains(cast.acme.id), pytest.raises(SupportRefused):
            visit(cast, minutes=minutes)

    @pytest.mark.parametrize("reason", ["", "too short", "   a \n b   c d   ", "x" * 401])
    def test_a_reason_is_needed(self, cast, reason):
        with builders.gains(cast.acme.id), pytest.raises(SupportRefused):
            visit(cast, reason=reason)

    def test_a_secret_in_the_reason_is_cut(self, cast):
        session = visit(cast, reason="They sent whsec_" + "A" * 43 + "= to us")
        assert "A" * 43 not in session.reason

    def test_nobody_without_the_role(self, cast):
        for user in (cast.alice, builders.person("Root", is_superuser=True)):
            with builders.gains(cast.acme.id), pytest.raises(SupportRefused):
                services.open_visit(cast.acme.id, actor=builders.as_actor(user), reason=WHY, minutes=15)

    def test_no_operator_and_no_stranger(self, cast):
        for id_ in (tenancy.operator_id(), builders.new_id("org"), "*", ""):
            with pytest.raises(SupportRefused):
                services.open_visit(id_, actor=actor(cast), reason=WHY, minutes=15)

    def test_a_suspended_one_can_be_looked_at(self, cast):
        org_services.suspend_organization(cast.elsewhere, actor=builders.OPERATOR)
        assert visit(cast, cast.elsewhere).id

    def test_one_at_a_time_across_organizations(self, cast):
        first = visit(cast)
        with (
            builders.gains(cast.acme.id, "support.closed") as closed,
            builders.gains(cast.elsewhere.id, "support.opened"),
        ):
            visit(cast, cast.elsewhere)
        assert closed[0].data == {"target": first.id, "reason": "replaced"}
        assert fresh(first).ended_why == SupportEnd.REPLACED

    def test_two_at_once_leave_one(self, cast):
        def run(where):
            try:
                return visit(cast, where)
            except SupportRefused:
                return None
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(run, [cast.acme, cast.elsewhere] * 4))
        with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
            assert SupportSession.objects.filter(user_id=cast.dave.id, ended_at=None).count() == 1
        for where in (cast.acme, cast.elsewhere):
            acts = [entry.act for entry in builders.entries(where.id)]
            assert acts.count("support.opened") - acts.count("support.closed") in (0, 1)

    def test_searches_stand_in_the_operators_ledger_and_beside_a_visit(self, cast):
        session = visit(cast)
        with builders.gains(tenancy.operator_id(), "support.opened"):
            services.open_search(actor=actor(cast), reason=WHY, minutes=60)
        assert fresh(session).ended_at is None


class TestClosing:
    def test_once_and_without_the_reason(self, cast):
        session = visit(cast)
        with builders.gains(cast.acme.id, "support.closed") as gained:
            assert services.close_support(session, actor=actor(cast))
            assert not services.close_support(session, actor=actor(cast))
        assert gained[0].data == {"target": session.id, "reason": "left"}
        assert (fresh(session).reason, fresh(session).ended_why) == ("", "left")

    def test_what_runs_does_not_lapse(self, cast):
        session = visit(cast)
        assert not services.close_support(session, actor=actor(cast), why=SupportEnd.LAPSED)
        services.close_lapsed_support()
        assert fresh(session).ended_at is None

    def test_the_worker_closes_what_lapsed(self, cast):
        session = visit(cast)
        let_lapse(session)
        with builders.gains(cast.acme.id, "support.closed") as gained:
            tasks.close_support(0)
            tasks.close_support(0)
        assert (gained[0].actor, gained[0].data["reason"]) == ("sys_portal", "lapsed")
        assert fresh(session).ended_at == fresh(session).expires_at

    @pytest.mark.parametrize("how", ["role", "disabled", "password", "superuser"])
    def test_who_loses_the_role_or_the_sessions_loses_the_visit(self, cast, how):
        session = visit(cast)
        changes = {
            "role": lambda: org_services.change_staff(
                cast.dave, actor=builders.OPERATOR, is_superuser=False, staff_role=""
            ),
            "superuser": lambda: org_services.change_staff(
                cast.dave, actor=builders.OPERATOR, is_superuser=True, staff_role="support"
            ),
            "disabled": lambda: org_services.disable_user(cast.dave, actor=builders.OPERATOR),
            "password": lambda: org_services.set_password(
                cast.dave, "another long password", actor=builders.as_actor(cast.dave)
            ),
        }
        with builders.gains(cast.acme.id, "support.closed") as gained:
            changes[how]()
        assert gained[0].actor == "sys_portal"
        expected = "role_lost" if how in {"role", "disabled"} else "signed_out"
        assert fresh(session).ended_why == expected


INSERT = (
    "INSERT INTO audit_supportsession"
    " (id, organization_id, kind, user_id, reason, minutes, opened_at, expires_at, ended_why)"
    " VALUES (%s, %s, 'visit', %s, 'long enough a reason', %s, '2020-01-01', '2099-01-01', '')"
)


class TestTheDatabase:
    """What a faulty or hostile caller can't do with the application's login."""

    def run(self, sql, *parameters):
        with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION), connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    def test_no_time_is_the_callers(self, cast):
        id_ = builders.new_id("sup")
        self.run(INSERT, id_, cast.acme.id, builders.new_id("usr"), 5)
        session = fresh(SupportSession(id=id_))
        assert session.expires_at - session.opened_at == timedelta(minutes=5)

    @pytest.mark.parametrize(
        "change",
        [
            "expires_at = expires_at + interval '1 hour'",
            "minutes = 5",
            "organization_id = 'org_x'",
            "user_id = 'usr_x'",
            "reason = 'something else entirely'",
            "ended_why = ''",
        ],
    )
    def test_nothing_is_prolonged_or_moved(self, cast, change):
        session = visit(cast)
        with pytest.raises((IntegrityError, DatabaseError)):
            self.run(f"UPDATE audit_supportsession SET {change} WHERE id = %s", session.id)

    def test_nothing_is_reopened(self, cast):
        session = visit(cast)
        services.close_support(session, actor=actor(cast))
        with pytest.raises(IntegrityError):
            self.run(
                "UPDATE audit_supportsession SET ended_at = NULL, ended_why = '' WHERE id = %s", session.id
            )

    def test_nothing_is_deleted(self, cast):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            self.run("DELETE FROM audit_supportsession")

    @pytest.mark.parametrize("minutes", [0, 241])
    def test_five_hours_are_refused_there_too(self, cast, minutes):
        with pytest.raises(IntegrityError):
            self.run(INSERT, builders.new_id("sup"), cast.acme.id, builders.new_id("usr"), minutes)

    def test_a_stranger_sees_none(self, cast):
        session = visit(cast)
        with tenancy.within(cast.elsewhere.id):
            assert not SupportSession.objects.filter(pk=session.id).exists()
        with tenancy.within(cast.acme.id):
            assert SupportSession.objects.filter(pk=session.id).exists()
