"""Mail of the ledger's entries: to whom it goes, that it goes once, and what a crash or a broken server leaves."""

import smtplib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import connection

from audit import ledger, mailing, ports, tenancy
from audit.actors import Actor
from audit.mailing import ServerUnreachableError
from audit.models import Endpoint, Mail, NoticeCursor
from audit.tasks import notices as tasks
from keys import clock
from keys.callers import of_member
from keys.listing import Filters
from keys.secret import Kind
from orgs import services
from orgs.models import Project, User
from orgs.roles import Role
from tests import builders, key_builders, ledgers

WORKER = Actor.system("worker")
LOCMEM = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.MAILERS = LOCMEM
    settings.DEFAULT_FROM_EMAIL = "keys@portal.example"
    # What other tests left is not looked at.
    for organization_id in mailing.behind():
        mailing.compose(organization_id)
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        Mail.objects.filter(state="waiting").update(state="dropped")
    mail.outbox = []


@pytest.fixture
def cast():
    return builders.cast()


def key_of(cast, owner=None, **changes):
    owned = {} if owner is None else {"owner": key_builders.services.Owner(member=owner)}
    return key_builders.create(cast.acme, cast.alice, **owned, **changes).key


def append(where, act, target, count=1, actor=WORKER, **data):
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        for number in range(count):
            entry(act, target=target if count == 1 else f"{target}{number}", data={"name": "noc", **data})


def work(where):
    """Do what the worker does, to the end."""
    tasks.compose_mails(where.id)
    tasks.send_mails()


def addressed():
    return sorted(address for message in mail.outbox for address in message.to)


def rows(where):
    with tenancy.within(where.id):
        return list(Mail.objects.filter(organization_id=where.id).order_by("id"))


def waiting_jobs(where):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_name, queue_name, args, scheduled_at > now() FROM procrastinate_jobs"
            " WHERE queueing_lock = %s AND status = 'todo'",
            [f"mail {where.id}"],
        )
        return cursor.fetchall()


@contextmanager
def breaking(monkeypatch, name, error):
    """Let one function fail until the block ends."""
    with monkeypatch.context() as patch:

        def fail(*_args, **_named):
            raise error

        patch.setattr(name, fail)
        yield


class TestWhoIsTold:
    def test_owners_admins_and_whose_it_is(self, cast):
        key = key_of(cast, owner=cast.bob)
        append(cast.acme, "key.expiring", key.id, expires_at="2026-12-03T09:00:00.000Z")
        work(cast.acme)
        assert addressed() == sorted([cast.alice.email, cast.anna.email, cast.bob.email])
        text = mail.outbox[0].body
        assert mail.outbox[0].subject == f"[Acme] The key “{key.name}” expires on 3 December 2026, 09:00 UTC"
        assert f"http://127.0.0.1:8000/keys/{key.id}" in text
        assert {message.from_email for message in mail.outbox} == {"keys@portal.example"}

    def test_an_owner_who_is_an_admin_too_gets_one(self, cast):
        key = key_of(cast, owner=cast.anna)
        append(cast.acme, "key.expired", key.id)
        work(cast.acme)
        assert addressed() == sorted([cast.alice.email, cast.anna.email])

    def test_not_who_owns_a_key_out_of_their_reach(self, cast):
        project = builders.project(builders.root(cast.acme))
        outsider = builders.person("Otto")
        membership = builders.join(outsider, cast.acme, Role.DEVELOPER)
        key = key_of(cast, owner=outsider)
        builders.join(outsider, cast.acme, Role.DEVELOPER, project)
        with tenancy.within(cast.acme.id):
            services.remove_member(membership, actor=cast.member(cast.alice))
        append(cast.acme, "key.expired", key.id)
        work(cast.acme)
        assert outsider.email not in addressed()

    def test_nobody_who_lost_their_standing_since_it_was_made(self, cast):
        key = key_of(cast, owner=cast.bob)
        append(cast.acme, "key.leaked", key.id)
        tasks.compose_mails(cast.acme.id)
        services.disable_user(cast.bob, actor=builders.OPERATOR)
        with tenancy.within(cast.acme.id):
            [admin] = [
                found
                for found in cast.anna.memberships.filter(organization=cast.acme)
                if found.role == Role.ADMIN
            ]
            services.change_role(admin, Role.VIEWER, actor=cast.member(cast.alice))
        tasks.send_mails()
        assert addressed() == [cast.alice.email]
        assert sorted(row.state for row in rows(cast.acme)) == ["dropped", "dropped", "sent"]

    def test_nobody_of_a_suspended_organization(self, cast):
        append(cast.elsewhere, "key.expired", "key_x")
        services.suspend_organization(cast.elsewhere, actor=builders.OPERATOR)
        work(cast.elsewhere)
        assert addressed() == []

    def test_nobody_of_another_organization(self, cast):
        append(cast.acme, "key.expired", key_of(cast).id)
        work(cast.acme)
        work(cast.elsewhere)
        assert cast.mallory.email not in addressed()
        with tenancy.within(cast.elsewhere.id):
            assert not Mail.objects.exists()
            assert {row.pk for row in NoticeCursor.objects.all()} == {cast.elsewhere.id}

    def test_whoever_asked_for_an_approval_and_who_may_grant_it(self, cast):
        """By real services: the request goes to who decides, the answer to who asked, and both lead to its page."""
        key = key_of(cast, kind=Kind.SERVICE, scopes=["incidents:write"], approval_bound=True)
        draft = key_builders.services.ApprovalDraft(
            key=key, scope="incidents:write", reason="Why not", parameters={}
        )
        with tenancy.within(cast.acme.id):
            asked = key_builders.services.request_approval(draft, actor=of_member(cast.member(cast.bob)))
        work(cast.acme)
        assert addressed() == sorted([cast.alice.email, cast.anna.email])
        assert all(f"/approvals/{asked.id}\n" in message.body for message in mail.outbox)
        assert all("Bob asks" in message.body and "Why not" not in message.body for message in mail.outbox)
        mail.outbox.clear()
        with tenancy.within(cast.acme.id):
            key_builders.services.deny_approval(
                asked, actor=of_member(cast.member(cast.alice), has_stepped_up=True)
            )
        work(cast.acme)
        assert addressed() == [cast.bob.email]
        assert mail.outbox[0].subject == "[Acme] Your request for incidents:write was denied"

    def test_owners_of_a_webhook_that_was_disabled(self, cast):
        now = datetime.now(UTC)
        with tenancy.within(cast.acme.id):
            Endpoint.objects.create(
                id=builders.new_id("whk"),
                organization_id=cast.acme.id,
                url="https://hooks.example.com/t0ken",
                acts=["*"],
                cursor_epoch=1,
                cursor_index=0,
                created_at=now,
                updated_at=now,
            )
            [endpoint] = Endpoint.objects.all()
        append(cast.acme, "webhook.disabled", endpoint.id, reason="failing")
        work(cast.acme)
        assert addressed() == [cast.alice.email]
        assert mail.outbox[0].subject == "[Acme] The webhook to https://hooks.example.com was disabled"
        assert f"/webhooks/{endpoint.id}\n" in mail.outbox[0].body
        assert "t0ken" not in mail.outbox[0].body

    def test_who_was_removed_with_keys(self, cast):
        key_of(cast, owner=cast.bob)
        with tenancy.within(cast.acme.id):
            membership = cast.bob.memberships.get(organization=cast.acme)
            services.remove_member(membership, actor=cast.member(cast.alice))
        work(cast.acme)
        assert {message.to[0] for message in mail.outbox} == {cast.alice.email, cast.anna.email}
        assert all("Somebody left" in message.subject for message in mail.outbox)


@dataclass(frozen=True)
class Places:
    """Two projects, `east` below the first, and their admins: nora, ed and ben of one each, `both` of noc and east."""

    noc: Project
    east: Project
    billing: Project
    nora: User
    ed: User
    ben: User
    both: User


@pytest.fixture
def places(cast):
    noc, billing = builders.project(builders.root(cast.acme)), builders.project(builders.root(cast.acme))
    east = builders.project(noc)
    nora, ed, ben, both = (builders.person(name) for name in ("Nora", "Ed", "Ben", "Both"))
    for user, project in ((nora, noc), (ed, east), (ben, billing), (both, noc), (both, east)):
        builders.join(user, cast.acme, Role.ADMIN, project)
    for role in (Role.DEVELOPER, Role.AUDITOR, Role.VIEWER):
        builders.join(builders.person("Somebody"), cast.acme, role, noc)
    return Places(noc, east, billing, nora, ed, ben, both)


def expires(cast, project, **changes):
    """Make a key of a project that ends in five days, and let the worker's service tell of it."""
    key = key_of(cast, project=project, expires=clock.now() + timedelta(days=5), **changes)
    with tenancy.within(cast.acme.id):
        assert key_builders.services.tell_of_expiry(cast.acme.id, [key.id]) == 1
    return key


def above(cast, *others):
    return sorted(user.email for user in (cast.alice, cast.anna, *others))


def leave(cast, user, project):
    with tenancy.within(cast.acme.id):
        membership = user.memberships.get(organization=cast.acme, project=project)
        services.remove_member(membership, actor=cast.member(cast.alice))


class TestAdminsOfProjects:
    def test_those_of_the_keys_project_and_above_it_once_each(self, cast, places):
        key = expires(cast, places.noc)
        work(cast.acme)
        assert addressed() == above(cast, places.nora, places.both)
        [letter] = [message for message in mail.outbox if message.to == [places.nora.email]]
        assert f"The key “{key.name}” expires on" in letter.subject
        assert letter.body.endswith("You get this as an admin of a project of Acme.\n")
        mail.outbox.clear()
        expires(cast, places.east)
        work(cast.acme)
        assert addressed() == above(cast, places.nora, places.ed, places.both)

    def test_those_of_the_first_project(self, cast, places):
        """A role there is one in every project."""
        rita = builders.person("Rita")
        builders.join(rita, cast.acme, Role.ADMIN, builders.root(cast.acme))
        expires(cast, places.billing)
        expires(cast, builders.root(cast.acme))
        work(cast.acme)
        assert addressed() == sorted(above(cast, rita) * 2 + [places.ben.email])

    def test_nobody_gets_two_who_hears_as_something_else_already(self, cast, places):
        builders.join(cast.anna, cast.acme, Role.ADMIN, places.noc)
        key = expires(cast, places.noc, owner=places.nora)
        work(cast.acme)
        assert addressed() == above(cast, places.nora, places.both)
        [own] = [message for message in mail.outbox if message.to == [places.nora.email]]
        assert key.name in own.subject
        assert "concerns what is yours" in own.body

    def test_many_at_once_name_ones_own_projects_keys_alone(self, cast, places):
        ours = [expires(cast, places.east).name for _ in range(4)]
        theirs = [expires(cast, places.billing).name for _ in range(5)]
        work(cast.acme)
        bodies = {message.to[0]: message.body for message in mail.outbox}
        assert sorted(bodies) == above(cast, places.nora, places.ed, places.both, places.ben)
        for user in (places.nora, places.ed, places.both):
            assert "4 keys expire soon" in bodies[user.email]
            assert all(name in bodies[user.email] for name in ours)
            assert not any(name in bodies[user.email] for name in theirs)
        assert "5 keys expire soon" in bodies[places.ben.email]
        assert not any(name in bodies[places.ben.email] for name in ours)
        assert "9 keys expire soon" in bodies[cast.alice.email]

    def test_whoever_may_grant_an_approval_there(self, cast, places):
        key = key_of(
            cast,
            project=places.noc,
            kind=Kind.SERVICE,
            scopes=["incidents:write"],
            approval_bound=True,
        )
        draft = key_builders.services.ApprovalDraft(
            key=key, scope="incidents:write", reason="Why not", parameters={}
        )
        with tenancy.within(cast.acme.id):
            asker = of_member(cast.member(places.both))
            asked = key_builders.services.request_approval(draft, actor=asker)
        work(cast.acme)
        assert addressed() == above(cast, places.nora)
        assert all(f"/approvals/{asked.id}\n" in message.body for message in mail.outbox)

    def test_break_glass_within_a_project(self, cast, places):
        for project in (places.east, places.noc):
            key_of(cast, project=project)
        shatter(cast, places.noc)
        work(cast.acme)
        assert addressed() == above(cast, places.nora, places.both)
        assert all("2 keys were revoked" in message.subject for message in mail.outbox)

    def test_break_glass_beyond_a_project_tells_its_admins_nothing_of_the_others(self, cast, places):
        for project in (places.billing, places.noc):
            key_of(cast, project=project)
        shatter(cast, builders.root(cast.acme))
        work(cast.acme)
        assert addressed() == above(cast)

    def test_not_of_another_organizations_project(self, cast, places):
        theirs = builders.project(builders.root(cast.elsewhere))
        builders.join(builders.person("Eve"), cast.elsewhere, Role.ADMIN, theirs)
        expires(cast, places.billing)
        work(cast.acme)
        work(cast.elsewhere)
        assert addressed() == above(cast, places.ben)

    def test_nobody_who_lost_the_role_there_since_it_was_made(self, cast, places):
        """That it is held still at one of the projects is not enough for a mail of another's key."""
        expires(cast, places.noc)
        tasks.compose_mails(cast.acme.id)
        leave(cast, places.both, places.noc)
        services.disable_user(places.nora, actor=builders.OPERATOR)
        tasks.send_mails()
        assert addressed() == above(cast)
        assert sorted(row.state for row in rows(cast.acme)) == ["dropped", "dropped", "sent", "sent"]

    def test_a_role_that_was_raised_since_is_no_loss(self, cast, places):
        expires(cast, places.billing)
        tasks.compose_mails(cast.acme.id)
        builders.join(places.ben, cast.acme, Role.ADMIN)
        leave(cast, places.ben, places.billing)
        tasks.send_mails()
        assert addressed() == above(cast, places.ben)

    def test_nobody_of_a_suspended_organization(self, cast, places):
        expires(cast, places.noc)
        services.suspend_organization(cast.acme, actor=builders.OPERATOR)
        work(cast.acme)
        assert addressed() == []


def shatter(cast, project):
    with tenancy.within(cast.acme.id):
        key_builders.services.break_glass(
            Filters(organization_id=cast.acme.id, project=project.id),
            actor=of_member(cast.member(cast.alice), has_stepped_up=True),
            reason="A laptop was stolen",
        )


class TestOnce:
    def test_however_often_it_is_worked(self, cast):
        append(cast.acme, "key.expired", key_of(cast).id)
        for _ in range(3):
            work(cast.acme)
        tasks.sweep_mails(timestamp=0)
        assert addressed() == sorted([cast.alice.email, cast.anna.email])

    def test_a_job_waits_only_where_something_is_told(self, cast):
        append(cast.acme, "key.changed", "key_x")
        assert waiting_jobs(cast.acme) == []
        append(cast.acme, "key.expired", "key_x")
        append(cast.acme, "key.expired", "key_y")
        [(task, queue, arguments, is_later)] = waiting_jobs(cast.acme)
        assert (task, queue, is_later) == ("audit.compose_mails", "mail", True)
        assert arguments in ({"organization_id": cast.acme.id}, f'{{"organization_id": "{cast.acme.id}"}}')

    def test_the_job_goes_where_the_change_goes(self, cast):
        with pytest.raises(Killed), tenancy.within(cast.acme.id):
            append(cast.acme, "key.expired", "key_x")
            assert waiting_jobs(cast.acme)
            raise Killed
        assert waiting_jobs(cast.acme) == []

    def test_what_a_lost_job_left_the_sweep_finds(self, cast):
        append(cast.acme, "key.expired", key_of(cast).id)
        assert cast.acme.id in mailing.behind()
        tasks.sweep_mails(timestamp=0)
        assert cast.acme.id not in mailing.behind()
        assert cast.alice.email in addressed()

    def test_a_crash_while_making_makes_it_later(self, cast, monkeypatch):
        append(cast.acme, "key.expired", key_of(cast).id)
        with breaking(monkeypatch, "audit.queue.put", Killed()), pytest.raises(Killed):
            tasks.compose_mails(cast.acme.id)
        assert rows(cast.acme) == []
        work(cast.acme)
        assert len(addressed()) == 2

    def test_one_organizations_trouble_is_not_the_others(self, cast, monkeypatch):
        def answer(organization_id, targets):
            if organization_id == cast.acme.id:
                raise ZeroDivisionError
            return {}

        append(cast.acme, "key.expired", "key_x")
        append(cast.elsewhere, "key.expired", "key_x")
        with monkeypatch.context() as patch:
            patch.setattr(ports, "subjects", [answer])
            tasks.sweep_mails(timestamp=0)
        assert addressed() == [cast.mallory.email]
        assert cast.elsewhere.id not in mailing.behind()
        tasks.sweep_mails(timestamp=0)
        assert cast.alice.email in addressed()

    def test_where_no_mail_is_sent_nothing_piles_up(self, cast, settings):
        settings.MAILERS = {}
        append(cast.acme, "key.expired", key_of(cast).id)
        assert waiting_jobs(cast.acme) == []
        tasks.sweep_mails(timestamp=0)
        assert rows(cast.acme) == []
        settings.MAILERS = LOCMEM
        tasks.sweep_mails(timestamp=0)
        assert addressed() == []


class TestManyAtOnce:
    def test_ten_thousand_are_one_mail_a_person(self, cast):
        append(cast.acme, "key.expired", "key_", count=10_000)
        work(cast.acme)
        assert addressed() == sorted([cast.alice.email, cast.anna.email])
        assert mail.outbox[0].subject == "[Acme] 10,000 keys have expired"
        assert "and 9,980 more" in mail.outbox[0].body
        assert len(mail.outbox[0].body) < 4_000

    def test_more_than_one_reading_holds(self, cast, monkeypatch):
        monkeypatch.setattr(mailing, "MOST_ENTRIES", 7)
        append(cast.acme, "key.expired", "key_", count=20)
        work(cast.acme)
        subjects = [message.subject for message in mail.outbox if message.to == [cast.alice.email]]
        assert subjects == [f"[Acme] {count} keys have expired" for count in (7, 7, 6)]


class TestSending:
    def test_a_crash_before_it_was_recorded_sends_it_again_as_the_same(self, cast, monkeypatch):
        append(cast.elsewhere, "key.expired", "key_x")
        tasks.compose_mails(cast.elsewhere.id)
        with breaking(monkeypatch, "audit.mailing._record", Killed()), pytest.raises(Killed):
            tasks.send_mails()
        tasks.send_mails()
        assert len(mail.outbox) == 1
        make_due(cast.elsewhere)
        tasks.send_mails()
        tasks.send_mails()
        first, second = mail.outbox
        assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"]
        assert rows(cast.elsewhere)[0].state == "sent"

    def test_a_crash_before_it_was_sent_loses_nothing(self, cast, monkeypatch):
        append(cast.elsewhere, "key.expired", "key_x")
        tasks.compose_mails(cast.elsewhere.id)
        with breaking(monkeypatch, "audit.mailing._reader", Killed()), pytest.raises(Killed):
            tasks.send_mails()
        make_due(cast.elsewhere)
        tasks.send_mails()
        assert addressed() == [cast.mallory.email]

    def test_two_workers_send_it_once(self, cast):
        """The one holds the row that it claims; the other steps over it."""
        append(cast.elsewhere, "key.expired", "key_x")
        tasks.compose_mails(cast.elsewhere.id)
        first, second = mailing._claim(), mailing._claim()
        assert first is not None
        assert second is None

    def test_a_refused_mail_comes_later_and_does_not_hold_others_up(self, cast, monkeypatch):
        append(cast.acme, "key.expired", key_of(cast).id)
        tasks.compose_mails(cast.acme.id)
        refused = smtplib.SMTPRecipientsRefused({cast.alice.email: (550, b"no such user")})
        send = mail.backends.locmem.EmailBackend.send_messages

        def picky(self, messages):
            if messages[0].to == [cast.alice.email]:
                raise refused
            return send(self, messages)

        monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", picky)
        tasks.send_mails()
        assert addressed() == [cast.anna.email]
        [left] = [row for row in rows(cast.acme) if row.state == "waiting"]
        assert (left.attempts, left.error) == (1, "SMTPRecipientsRefused")
        assert cast.alice.email not in left.error
        assert left.due_at > left.created_at

    def test_a_dead_server_is_asked_once_and_nothing_is_lost(self, cast, monkeypatch):
        append(cast.acme, "key.expired", key_of(cast).id)
        tasks.compose_mails(cast.acme.id)
        error = ConnectionRefusedError("[Errno 111]")
        with breaking(monkeypatch, "django.core.mail.backends.locmem.EmailBackend.open", error):
            tasks.send_mails()
        assert sorted(row.attempts for row in rows(cast.acme)) == [0, 1]
        make_due(cast.acme)
        tasks.send_mails()
        assert len(addressed()) == 2

    def test_after_three_days_it_is_given_up(self, cast):
        append(cast.elsewhere, "key.expired", "key_x")
        tasks.compose_mails(cast.elsewhere.id)
        with tenancy.within(cast.elsewhere.id), connection.cursor() as cursor:
            cursor.execute("UPDATE audit_mail SET created_at = now() - interval '73 hours'")
        tasks.send_mails()
        assert addressed() == []
        [row] = rows(cast.elsewhere)
        assert (row.state, row.text) == ("given_up", "")

    def test_what_went_is_forgotten_after_a_month(self, cast):
        append(cast.elsewhere, "key.expired", "key_x")
        work(cast.elsewhere)
        tasks.forget_mails(timestamp=0)
        assert len(rows(cast.elsewhere)) == 1
        with tenancy.within(cast.elsewhere.id), connection.cursor() as cursor:
            cursor.execute("UPDATE audit_mail SET created_at = now() - interval '31 days'")
        tasks.forget_mails(timestamp=0)
        assert rows(cast.elsewhere) == []

    def test_a_name_adds_no_header(self, cast):
        append(cast.acme, "key.expired", "key_x", name="noc\r\nBcc: x@evil.example\r\n\r\nSign in at evil")
        work(cast.acme)
        assert mail.outbox
        for message in mail.outbox:
            assert message.recipients() == message.to
            assert "\n" not in message.subject
            assert "\nBcc" not in message.message().as_string()

    def test_what_is_sent_is_kept_no_longer(self, cast):
        append(cast.elsewhere, "key.expired", "key_x")
        work(cast.elsewhere)
        [row] = rows(cast.elsewhere)
        assert (row.state, row.text, row.sent_at is None) == ("sent", "", False)


def make_due(where):
    with tenancy.within(where.id):
        Mail.objects.filter(state="waiting").update(due_at="2020-01-01T00:00:00Z")


def test_a_mail_server_that_dies_stops_the_run(cast, monkeypatch):
    append(cast.acme, "key.expired", key_of(cast).id)
    tasks.compose_mails(cast.acme.id)
    error = smtplib.SMTPServerDisconnected("gone")
    with breaking(monkeypatch, "django.core.mail.backends.locmem.EmailBackend.send_messages", error):
        claimed = mailing._claim()
        with mailing._mailer() as mailer, pytest.raises(ServerUnreachableError):
            mailing._send(claimed, mailer)
        tasks.send_mails()
    assert sorted(row.attempts for row in rows(cast.acme)) == [1, 1]


def test_an_entry_whose_act_somebody_changed_keeps_nobody_elses_mail_back(cast):
    key = key_of(cast)
    append(cast.acme, "key.leaked", key.id)
    with ledgers.without_triggers() as superuser:
        superuser.execute(
            "UPDATE audit_entry SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'key.leaked', 'key.leakee'),"
            " 'UTF8') WHERE organization_id = %s AND act = 'key.leaked'",
            [cast.acme.id],
        )
    append(cast.acme, "key.leaked", key.id)
    work(cast.acme)
    assert addressed()
