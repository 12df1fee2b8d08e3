"""Members: who may change whom, and that an organization keeps an owner whatever two people do at once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from audit import tenancy
from orgs import ports, services, sessions
from orgs.errors import (
    AlreadyInvited,
    AlreadyMember,
    Forbidden,
    Gone,
    Invalid,
    InvitationDead,
    LastOwner,
    Taken,
    WrongPerson,
)
from orgs.members import Grant
from orgs.models import Invitation, Membership, Session, User
from orgs.roles import Role
from tests import builders


def of(user, where):
    with tenancy.within(where.id):
        return list(
            Membership.objects.filter(user=user, organization=where).select_related("user").order_by("id")
        )


def role_of(user, where):
    return {membership.role for membership in of(user, where) if membership.project_id is None}


@pytest.fixture
def cast():
    return builders.cast()


class TestChangeRole:
    def test_writes_the_role_and_tells(self, cast):
        bob = of(cast.bob, cast.acme)[0]
        with builders.gains(cast.acme.id, "member.role_changed") as gained:
            assert services.change_role(bob, Role.AUDITOR, actor=cast.member(cast.alice))
        assert role_of(cast.bob, cast.acme) == {"auditor"}
        assert gained[0].actor == cast.alice.id
        assert gained[0].data == {
            "target": bob.id,
            "user": cast.bob.id,
            "project": None,
            "before": {"role": "developer"},
            "after": {"role": "auditor"},
            "invitations_withdrawn": 0,
            "request_id": "req_tests",
        }
        assert {"member_email", "member_name", "email", "name"} <= set(gained[0].sealed)

    def test_the_same_role_is_no_change(self, cast):
        with builders.gains(cast.acme.id):
            assert not services.change_role(
                of(cast.bob, cast.acme)[0], Role.DEVELOPER, actor=cast.member(cast.alice)
            )

    @pytest.mark.parametrize("who", ["bob", "carol", "vera", "mallory"])
    def test_is_for_owners_and_admins_of_the_organization(self, cast, who):
        with builders.gains(cast.acme.id), pytest.raises(Forbidden):
            services.change_role(
                of(cast.vera, cast.acme)[0], Role.DEVELOPER, actor=cast.member(getattr(cast, who))
            )

    def test_an_admin_changes_all_but_owners(self, cast):
        anna = cast.member(cast.anna)
        assert services.change_role(of(cast.bob, cast.acme)[0], Role.ADMIN, actor=anna)
        with pytest.raises(Forbidden):
            services.change_role(of(cast.alice, cast.acme)[0], Role.VIEWER, actor=anna)
        with pytest.raises(Forbidden):
            services.change_role(of(cast.anna, cast.acme)[0], Role.OWNER, actor=anna)

    def test_an_admin_of_one_project_changes_nobody(self, cast):
        project = builders.project(builders.root(cast.acme))
        paul = builders.person("Paul")
        at_project = builders.join(paul, cast.acme, Role.ADMIN, project)
        with pytest.raises(Forbidden):
            services.change_role(at_project, Role.DEVELOPER, actor=builders.member(paul, cast.acme))

    def test_nobody_owns_a_project(self, cast):
        project = builders.project(builders.root(cast.acme))
        at_project = builders.join(builders.person("Paul"), cast.acme, Role.VIEWER, project)
        with pytest.raises(Invalid):
            services.change_role(at_project, Role.OWNER, actor=cast.member(cast.alice))

    def test_the_last_owner_stays(self, cast):
        with builders.gains(cast.acme.id), pytest.raises(LastOwner):
            services.change_role(of(cast.alice, cast.acme)[0], Role.ADMIN, actor=cast.member(cast.alice))
        assert role_of(cast.alice, cast.acme) == {"owner"}

    def test_an_owner_who_may_not_sign_in_does_not_count(self, cast):
        services.change_role(of(cast.anna, cast.acme)[0], Role.OWNER, actor=cast.member(cast.alice))
        services.disable_user(cast.anna, actor=builders.OPERATOR)
        with pytest.raises(LastOwner):
            services.change_role(of(cast.alice, cast.acme)[0], Role.ADMIN, actor=cast.member(cast.alice))

    def test_what_the_actor_lost_meanwhile_counts(self, cast):
        """The request began while anna was admin; by the time of the change she is not."""
        anna = cast.member(cast.anna)
        services.change_role(of(cast.anna, cast.acme)[0], Role.VIEWER, actor=cast.member(cast.alice))
        with pytest.raises(Forbidden):
            services.change_role(of(cast.bob, cast.acme)[0], Role.ADMIN, actor=anna)

    def test_whoever_may_no_longer_invite_has_no_open_links(self, cast):
        invited = services.invite_member("x@example.com", Role.ADMIN, actor=cast.member(cast.anna))
        services.change_role(of(cast.anna, cast.acme)[0], Role.VIEWER, actor=cast.member(cast.alice))
        with tenancy.within(cast.acme.id):
            assert Invitation.objects.get(pk=invited.invitation.pk).withdrawn_at is not None


class TestRemoveMember:
    def test_ends_the_membership_the_sessions_and_the_links(self, cast):
        browser = builders.signed_in(cast.anna)
        services.invite_member("y@example.com", Role.VIEWER, actor=cast.member(cast.anna))
        with builders.gains(cast.acme.id, "member.removed") as gained:
            assert services.remove_member(of(cast.anna, cast.acme)[0], actor=cast.member(cast.alice))
        assert of(cast.anna, cast.acme) == []
        assert not Session.objects.filter(user_id=cast.anna.id).exists()
        assert browser.get("/settings/organization").status_code == 302
        facts = gained[0].data
        assert (facts["user"], facts["role"], facts["has_left"]) == (cast.anna.id, "admin", True)
        assert (facts["sessions_ended"], facts["invitations_withdrawn"]) == (1, 1)
        assert cast.anna.email not in str(facts)

    def test_asks_the_apps_above_in_the_same_transaction(self, cast, monkeypatch):
        asked = []

        def settle(organization_id, user_id, *, grants, actor):
            held = {(grant.role, grant.path) for grant in grants}
            asked.append((organization_id, user_id, held, actor.id, connection.in_atomic_block))
            return {"keys_action": "disable", "keys_count": 3}

        monkeypatch.setattr(ports, "on_member_leaving", [settle])
        with builders.gains(cast.acme.id, "member.removed") as gained:
            services.remove_member(of(cast.bob, cast.acme)[0], actor=cast.member(cast.alice))
        assert asked == [(cast.acme.id, cast.bob.id, {(Role.DEVELOPER, "")}, cast.alice.id, True)]
        assert (gained[0].data["keys_action"], gained[0].data["keys_count"]) == ("disable", 3)

    def test_and_tells_them_every_role_that_ends_in_it(self, cast, monkeypatch):
        asked = []
        monkeypatch.setattr(
            ports, "on_member_leaving", [lambda *_, grants, **__: asked.append(set(grants)) or {}]
        )
        project = builders.project(builders.root(cast.acme))
        builders.join(cast.bob, cast.acme, Role.ADMIN, project)
        services.remove_member(of(cast.bob, cast.acme)[0], actor=cast.member(cast.alice), entirely=True)
        assert asked == [{Grant(Role.DEVELOPER, ""), Grant(Role.ADMIN, project.path)}]

    def test_nothing_is_removed_when_they_fail(self, cast, monkeypatch):
        def fail(*_, **__):
            raise ZeroDivisionError

        monkeypatch.setattr(ports, "on_member_leaving", [fail])
        browser = builders.signed_in(cast.bob)
        with builders.gains(cast.acme.id), pytest.raises(ZeroDivisionError):
            services.remove_member(of(cast.bob, cast.acme)[0], actor=cast.member(cast.alice))
        assert len(of(cast.bob, cast.acme)) == 1
        assert Session.objects.filter(user_id=cast.bob.id).count() == 1
        assert browser.session

    def test_one_role_of_two_leaves_the_other(self, cast, monkeypatch):
        monkeypatch.setattr(ports, "on_member_leaving", [lambda *_, **__: pytest.fail("nobody leaves")])
        project = builders.project(builders.root(cast.acme))
        at_project = builders.join(cast.vera, cast.acme, Role.DEVELOPER, project)
        with builders.gains(cast.acme.id, "member.removed") as gained:
            assert not services.remove_member(at_project, actor=cast.member(cast.alice))
        assert gained[0].data["has_left"] is False
        assert role_of(cast.vera, cast.acme) == {"viewer"}

    def test_entirely_ends_them_all(self, cast):
        project = builders.project(builders.root(cast.acme))
        at_project = builders.join(cast.vera, cast.acme, Role.DEVELOPER, project)
        with builders.gains(cast.acme.id, "member.removed", "member.removed"):
            assert services.remove_member(at_project, actor=cast.member(cast.alice), entirely=True)
        assert of(cast.vera, cast.acme) == []

    def test_anybody_may_leave_but_the_last_owner(self, cast):
        assert services.remove_member(of(cast.vera, cast.acme)[0], actor=cast.member(cast.vera))
        with builders.gains(cast.acme.id), pytest.raises(LastOwner):
            services.remove_member(of(cast.alice, cast.acme)[0], actor=cast.member(cast.alice))

    @pytest.mark.parametrize(
        ("who", "whom"),
        [("bob", "vera"), ("carol", "bob"), ("vera", "bob"), ("mallory", "bob"), ("anna", "alice")],
    )
    def test_is_refused_beyond_the_standing(self, cast, who, whom):
        with builders.gains(cast.acme.id), pytest.raises(Forbidden):
            services.remove_member(
                of(getattr(cast, whom), cast.acme)[0], actor=cast.member(getattr(cast, who))
            )

    def test_a_second_time_it_is_gone(self, cast):
        bob = of(cast.bob, cast.acme)[0]
        services.remove_member(bob, actor=cast.member(cast.alice))
        with builders.gains(cast.acme.id), pytest.raises(Gone):
            services.remove_member(bob, actor=cast.member(cast.alice))


def demote(membership, actor):
    services.change_role(membership, Role.VIEWER, actor=actor)


def remove(membership, actor):
    services.remove_member(membership, actor=actor)


class TestTwoOwnersAtOnce:
    """Two real connections; the second one is seen waiting for the first before that one commits."""

    @pytest.fixture
    def two(self, cast):
        services.change_role(of(cast.anna, cast.acme)[0], Role.OWNER, actor=cast.member(cast.alice))
        return cast

    @pytest.mark.parametrize("second", [demote, remove])
    @pytest.mark.parametrize("first", [demote, remove])
    @pytest.mark.parametrize("anna_is_first", [True, False])
    @pytest.mark.parametrize("each_other", [True, False])
    def test_one_owner_is_left(self, two, first, second, anna_is_first, each_other):
        one, other = (two.anna, two.alice) if anna_is_first else (two.alice, two.anna)
        victims = (other, one) if each_other else (one, other)
        started, outcome = threading.Event(), []
        acts = [
            (first, of(victims[0], two.acme)[0], two.member(one)),
            (second, of(victims[1], two.acme)[0], two.member(other)),
        ]

        def race():
            act, membership, actor = acts[1]
            try:
                with transaction.atomic():
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT pg_backend_pid()")
                        outcome.append(cursor.fetchone()[0])
                    started.set()
                    act(membership, actor)
                outcome.append(None)
            except (LastOwner, Forbidden, Gone) as error:
                outcome.append(type(error))
            finally:
                connections.close_all()

        thread = threading.Thread(target=race)
        with transaction.atomic():
            act, membership, actor = acts[0]
            act(membership, actor)
            thread.start()
            assert started.wait(10)
            assert waits(outcome[0])
        thread.join(10)
        assert outcome[1] in ({Forbidden, Gone} if each_other else {LastOwner})
        with tenancy.within(two.acme.id):
            owners = Membership.objects.filter(organization=two.acme, role=Role.OWNER)
            assert [owner.user_id for owner in owners] == [(one if each_other else other).id]


def waits(process):
    """Whether another connection comes to wait for a lock within five seconds."""
    for _ in range(250):
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0, pg_sleep(0.02)", [process])
            if cursor.fetchone()[0]:
                return True
    return False


class TestInviteMember:
    def test_keeps_a_digest_and_tells_no_address(self, cast):
        with builders.gains(cast.acme.id, "member.invited") as gained:
            invited = services.invite_member(" New@Example.com", Role.DEVELOPER, actor=cast.member(cast.anna))
        assert len(invited.token) == 43
        assert invited.token not in repr(invited)
        with tenancy.within(cast.acme.id):
            row = Invitation.objects.filter(pk=invited.invitation.pk).values().get()
        assert row["email"] == "new@example.com"
        assert timedelta(days=6, hours=23) < row["expires_at"] - timezone.now() <= timedelta(days=7)
        assert invited.token not in str(
            {name: bytes(v) if name == "digest" else v for name, v in row.items()}
        )
        assert "example.com" not in str(gained[0].data)
        assert "member_email" in gained[0].sealed

    def test_only_owners_make_owners(self, cast):
        with builders.gains(cast.acme.id), pytest.raises(Forbidden):
            services.invite_member("o@example.com", Role.OWNER, actor=cast.member(cast.anna))
        assert services.invite_member("o@example.com", Role.OWNER, actor=cast.member(cast.alice))

    def test_nobody_is_invited_to_own_a_project(self, cast):
        with pytest.raises(Invalid) as refused:
            services.invite_member(
                "o@example.com",
                Role.OWNER,
                actor=cast.member(cast.alice),
                project=builders.root(cast.acme),
            )
        assert refused.value.field == "role"

    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_others_invite_nobody(self, cast, who):
        with builders.gains(cast.acme.id), pytest.raises(Forbidden):
            services.invite_member("o@example.com", Role.VIEWER, actor=cast.member(getattr(cast, who)))

    def test_refuses_a_member_and_a_second_link(self, cast):
        alice = cast.member(cast.alice)
        with pytest.raises(AlreadyMember):
            services.invite_member(cast.bob.email.upper(), Role.VIEWER, actor=alice)
        services.invite_member("twice@example.com", Role.VIEWER, actor=alice)
        with pytest.raises(AlreadyInvited):
            services.invite_member("twice@example.com", Role.ADMIN, actor=alice)

    def test_withdrawing_is_once(self, cast):
        invited = services.invite_member("w@example.com", Role.VIEWER, actor=cast.member(cast.alice))
        with builders.gains(cast.acme.id, "member.invitation_withdrawn"):
            assert services.withdraw_invitation(invited.invitation, actor=cast.member(cast.anna))
            assert not services.withdraw_invitation(invited.invitation, actor=cast.member(cast.anna))

    def test_an_owners_link_is_withdrawn_by_owners(self, cast):
        invited = services.invite_member("w@example.com", Role.OWNER, actor=cast.member(cast.alice))
        with pytest.raises(Forbidden):
            services.withdraw_invitation(invited.invitation, actor=cast.member(cast.anna))


def invite(cast, email, role=Role.DEVELOPER, project=None):
    made = services.invite_member(email, role, actor=cast.member(cast.alice), project=project)
    return bytes(made.invitation.digest)


def newcomer(email):
    return builders.as_actor(User(email=email))


class TestAccepting:
    def test_joins_once(self, cast):
        ned = builders.person("Ned")
        digest = invite(cast, ned.email)
        with builders.gains(cast.acme.id, "member.joined") as gained:
            services.accept_invitation(digest, ned, actor=builders.as_actor(ned))
            with pytest.raises(InvitationDead):
                services.accept_invitation(digest, ned, actor=builders.as_actor(ned))
        assert (gained[0].actor, gained[0].data["invited_by"]) == (ned.id, cast.alice.id)
        assert role_of(ned, cast.acme) == {"developer"}

    def test_is_for_the_invited_address_alone(self, cast):
        digest = invite(cast, "somebody@example.com")
        with builders.gains(cast.acme.id), pytest.raises(WrongPerson):
            services.accept_invitation(digest, cast.mallory, actor=builders.as_actor(cast.mallory))

    def test_not_for_who_may_not_sign_in(self, cast):
        ned = builders.person("Ned")
        digest = invite(cast, ned.email)
        services.disable_user(ned, actor=builders.OPERATOR)
        with pytest.raises(WrongPerson):
            services.accept_invitation(digest, ned, actor=builders.as_actor(ned))

    def test_dead_links_let_nobody_in(self, cast):
        ned = builders.person("Ned")
        digest = invite(cast, ned.email)
        with tenancy.within(cast.acme.id):
            waiting = Invitation.objects.filter(digest=digest)
            waiting.update(expires_at=timezone.now() - timedelta(seconds=1))
        with pytest.raises(InvitationDead):
            services.accept_invitation(digest, ned, actor=builders.as_actor(ned))
        with pytest.raises(InvitationDead):
            services.accept_invitation(b"\0" * 32, ned, actor=builders.as_actor(ned))

    def test_nor_does_an_archived_project(self, cast):
        ned = builders.person("Ned")
        project = builders.project(builders.root(cast.acme))
        digest = invite(cast, ned.email, project=project)
        services.archive_project(project, actor=cast.member(cast.alice))
        with builders.gains(cast.acme.id), pytest.raises(InvitationDead):
            services.accept_invitation(digest, ned, actor=builders.as_actor(ned))

    def test_of_two_at_once_one_joins(self, cast):
        ned = builders.person("Ned")
        digest = invite(cast, ned.email)
        barrier, outcomes = threading.Barrier(2), []

        def accept():
            try:
                barrier.wait(10)
                services.accept_invitation(digest, ned, actor=builders.as_actor(ned))
                outcomes.append("joined")
            except (InvitationDead, AlreadyMember):
                outcomes.append("refused")
            finally:
                connections.close_all()

        threads = [threading.Thread(target=accept) for _ in range(2)]
        with builders.gains(cast.acme.id, "member.joined"):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert sorted(outcomes) == ["joined", "refused"]


class TestJoiningWithANewAccount:
    def join(self, digest, email):
        actor = builders.as_actor(User(email=email, name="Nina"))
        return services.join_with_new_account(digest, actor=actor, name="Nina", password=builders.PASSWORD)

    def test_makes_the_account_and_the_membership_in_both_ledgers(self, cast):
        email = f"{builders.unique('nina')}@example.com"
        digest = invite(cast, email)
        with (
            builders.gains(tenancy.operator_id(), "user.created") as operators,
            builders.gains(cast.acme.id, "member.joined"),
        ):
            membership = self.join(digest, email)
        assert User.objects.get(email=email).check_password(builders.PASSWORD)
        assert operators[0].actor == operators[0].data["target"] == membership.user_id
        assert email not in str(operators[0].data)

    def test_never_takes_over_an_account(self, cast):
        digest = invite(cast, cast.mallory.email)
        before = User.objects.get(pk=cast.mallory.pk).password
        with (
            builders.gains(tenancy.operator_id()),
            builders.gains(cast.acme.id),
            pytest.raises(Taken) as refused,
        ):
            self.join(digest, cast.mallory.email)
        assert refused.value.field == "email"
        assert User.objects.get(pk=cast.mallory.pk).password == before

    def test_makes_no_account_where_the_link_dies_meanwhile(self, cast):
        email = f"{builders.unique('nina')}@example.com"
        project = builders.project(builders.root(cast.acme))
        digest = invite(cast, email, project=project)
        services.archive_project(project, actor=cast.member(cast.alice))
        with builders.gains(tenancy.operator_id()), pytest.raises(InvitationDead):
            self.join(digest, email)
        assert not User.objects.filter(email=email).exists()


def test_sessions_end_but_for_the_kept_one():
    user = builders.person("Sam")
    kept, other = builders.signed_in(user), builders.signed_in(user)
    assert sessions.end_all(user.id, keep=kept.session.session_key) == 1
    assert Session.objects.filter(user_id=user.id).count() == 1
    assert other.get("/settings").url.startswith("/login")
