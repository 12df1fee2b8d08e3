"""Break-glass at the service: who may, what a filter takes, all or nothing, and whoever races with it."""

import contextlib
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from audit import access as audit_access
from audit import tenancy
from audit.errors import LedgerUnavailable
from keys import breakglass, callers, clock, services, verification
from keys.errors import Forbidden, Invalid, KeysError, StepUpNeeded, Unavailable
from keys.listing import Filters
from keys.models import ApiKey, Incident, IncidentKey
from keys.services import Owner
from orgs.roles import Role
from tests import builders, key_builders, ledgers, usage_builders
from tests.api import calls
from tests.bench.loading import organization_with


@pytest.fixture
def place(cast):
    """A project of acme's that no other test has, and what makes keys and breaks the glass there."""
    project = builders.project(builders.root(cast.acme))
    filters = Filters(organization_id=cast.acme.id, project=project.id)

    def create(**changes):
        return key_builders.create(cast.acme, cast.alice, **{"project": project, **changes})

    return SimpleNamespace(project=project, filters=filters, create=create, where=cast.acme)


def person(cast, user=None, *, has_stepped_up=True):
    return callers.of_member(cast.member(user or cast.alice), has_stepped_up=has_stepped_up)


def act(filters, actor, reason="A laptop was stolen", **how):
    with tenancy.within(filters.organization_id):
        return services.break_glass(filters, actor=actor, reason=reason, **how)


def state(made, where):
    return key_builders.verify(made.secret, where)


class TestAct:
    def test_everything_that_matches_is_refused_and_nothing_else(self, cast, place):
        taken = [place.create() for _ in range(3)]
        spared = key_builders.create(cast.acme, cast.alice)
        foreign = key_builders.create(cast.elsewhere, cast.mallory)
        done = act(place.filters, person(cast))
        assert (done.count, done.took_caller) == (3, False)
        assert [state(made, cast.acme) for made in taken] == ["REVOKED"] * 3
        assert state(spared, cast.acme) == "VALID"
        assert state(foreign, cast.elsewhere) == "VALID"

    def test_the_rows_say_who_why_and_when(self, cast, place):
        made = place.create()
        done = act(place.filters, person(cast), reason="  A laptop was stolen\r\n")
        key = key_builders.read(made.key.id, cast.acme)
        assert (key.revoked_by, key.revocation_reason) == (cast.alice.id, "incident")
        assert key.revocation_note == "A laptop was stolen"
        assert key.revoked_at == key.ended_at == done.incident.opened_at

    def test_one_entry_for_each_key_and_one_for_the_act_which_alone_seals_who(self, cast, place):
        keys = sorted(place.create().key.id for _ in range(2))
        acts = ["key.revoked", "key.revoked", "breakglass.executed"]
        with builders.gains(cast.acme.id, *acts) as gained:
            done = act(place.filters, person(cast))
        assert [entry.data["target"] for entry in gained] == [*keys, done.incident.id]
        assert {entry.data.get("part_of") for entry in gained[:2]} == {done.incident.id}
        assert [sorted(entry.sealed) for entry in gained[:2]] == [[], []]
        assert {"name", "email", "ip", "reason"} <= set(gained[2].sealed)
        assert gained[2].data["count"] == 2
        assert gained[2].data["filter"] == {"project": place.project.id}
        assert {entry.actor for entry in gained} == {cast.alice.id}

    def test_the_log_names_who_it_was_on_every_line(self, cast, place):
        place.create()
        act(place.filters, person(cast))
        with tenancy.within(cast.acme.id):
            member = cast.member(cast.carol)
            lines = audit_access.lines(member, list(audit_access.entries(member).newest_first()[:2]))
            detail = audit_access.entry(member, lines[1].place)
        assert [(line.act, line.who, line.ip) for line in lines] == [
            ("breakglass.executed", "Alice", "192.0.2.1"),
            ("key.revoked", "Alice", "192.0.2.1"),
        ]
        assert detail.line.who == "Alice"
        assert "reason" not in detail.line.openings

    def test_the_incident_freezes_what_each_key_carried(self, cast, place):
        made = place.create()
        usage_builders.call(made.key, at=usage_builders.ago(hours=2), calls=7)
        done = act(place.filters, person(cast))
        with tenancy.within(cast.acme.id):
            row = IncidentKey.objects.get(incident=done.incident)
            incident = Incident.objects.get(pk=done.incident.id)
        assert (row.key_id, row.calls_24h) == (made.key.id, 7)
        assert (incident.kind, incident.reason) == ("breakglass", "A laptop was stolen")
        assert incident.filter == {"project": place.project.id}

    def test_disabled_and_expired_keys_go_too(self, cast, place):
        """An expired key's older secret may still be accepted: nothing that matches is left unrevoked."""
        disabled, expired, revoked = (place.create() for _ in range(3))
        with tenancy.within(cast.acme.id):
            services.disable_key(disabled.key, actor=person(cast))
            services.revoke_key(revoked.key, actor=person(cast), reason="unused")
        calls.as_superuser(
            "UPDATE keys_apikey SET expires_at = now() - interval '1 hour' WHERE id = %s", expired.key.id
        )
        assert act(place.filters, person(cast)).count == 2
        assert key_builders.read(revoked.key.id, cast.acme).revocation_reason == "unused"

    def test_nothing_left_to_revoke_is_told_and_opens_no_incident(self, cast, place):
        with builders.gains(cast.acme.id, "breakglass.executed") as gained:
            done = act(place.filters, person(cast))
        assert (done.incident, done.count) == (None, 0)
        assert (gained[0].data["count"], gained[0].data["target"]) == (0, cast.acme.id)

    def test_what_came_after_the_dry_run_goes_too(self, cast, place):
        place.create()
        with tenancy.within(cast.acme.id):
            shown = breakglass.reach(
                breakglass.matching(place.filters, person(cast), clock.now()), clock.now()
            )
        late = place.create()
        assert (shown.keys, act(place.filters, person(cast)).count) == (1, 2)
        assert state(late, cast.acme) == "REVOKED"


class TestFilter:
    @pytest.mark.parametrize(
        "given",
        [
            {"kind": "control_plane"},
            {"status": "active"},
            {"owner": "Platform"},
            {"scope": "incidents:read"},
            {"tags": (("team", "noc"),)},
            {"search": "breakme"},
        ],
        ids=lambda given: next(iter(given)),
    )
    def test_each_name_narrows(self, cast, place, given):
        hit = place.create(
            name=builders.unique("breakme"), owner=Owner(team="Platform"), tags={"team": "noc"}
        )
        miss = place.create(
            name=builders.unique("spare"),
            scopes=["ingest:write"],
            kind=key_builders.Kind.INGESTION,
            owner=Owner(team="Else"),
        )
        with tenancy.within(cast.acme.id):
            services.disable_key(miss.key, actor=person(cast))
        assert act(replace(place.filters, **given), person(cast)).count == 1
        assert (state(hit, cast.acme), state(miss, cast.acme)) == ("REVOKED", "DISABLED")

    def test_times_narrow(self, cast, place):
        old, new = place.create(), place.create()
        before = key_builders.read(new.key.id, cast.acme).created_at
        assert act(replace(place.filters, created_before=before), person(cast)).count == 1
        assert (state(old, cast.acme), state(new, cast.acme)) == ("REVOKED", "VALID")

    def test_a_project_takes_what_lies_below(self, cast, place):
        below = builders.project(place.project)
        deep = place.create(project=below)
        assert act(place.filters, person(cast)).count == 1
        assert state(deep, cast.acme) == "REVOKED"

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({}, "filter"),
            ({"environment": "no-such"}, "filter.environment"),
            ({"environment": "production\0"}, "filter"),
            ({"kind": "a\0b"}, "filter"),
            ({"tags": (("a\0b", "c"),)}, "filter"),
            ({"project": "prj_" + "a" * 20}, "filter.project"),
            ({"status": "revoked"}, "filter.status"),
        ],
    )
    def test_what_says_nothing_or_speaks_of_nothing_is_refused(self, cast, given, field):
        with builders.gains(cast.acme.id), pytest.raises(Invalid) as caught:
            act(Filters(organization_id=cast.acme.id, **given), person(cast))
        assert caught.value.field == field

    def test_a_strangers_project_is_unknown(self, cast):
        foreign = builders.root(cast.elsewhere)
        with pytest.raises(Invalid, match="no such project"):
            act(Filters(organization_id=cast.acme.id, project=foreign.id), person(cast))

    @pytest.mark.parametrize("name", ["kind", "owner", "scope", "search"])
    @pytest.mark.parametrize(
        "hostile",
        ["' OR '1'='1", "%", "_%", "x'); DELETE FROM keys_apikey; --", "\\", "%(keys)s", "%s"],
    )
    def test_a_hostile_value_is_a_value(self, cast, place, name, hostile):
        made = place.create()
        assert act(replace(place.filters, **{name: hostile}), person(cast)).count == 0
        assert act(replace(place.filters, tags=((hostile, hostile),)), person(cast)).count == 0
        assert state(made, cast.acme) == "VALID"

    def test_the_whole_organization_only_where_it_is_named(self, cast):
        with tenancy.within(cast.acme.id):
            breakglass.check(Filters(organization_id=cast.acme.id), is_whole=True)

    @pytest.mark.parametrize("reason", ["", " \n", "x" * 1_001, "a\0b", "ks_cp_live_" + "A" * 49])
    def test_a_reason_is_needed(self, cast, place, reason):
        place.create()
        with builders.gains(cast.acme.id), pytest.raises(Invalid) as caught:
            act(place.filters, person(cast), reason=reason)
        assert caught.value.field == "reason"


class TestRight:
    @pytest.mark.parametrize("who", ["bob", "carol", "vera"])
    def test_developers_auditors_and_viewers_may_not(self, cast, place, who):
        made = place.create()
        with pytest.raises(Forbidden):
            act(place.filters, person(cast, getattr(cast, who)))
        assert state(made, cast.acme) == "VALID"

    def test_an_admin_may(self, cast, place):
        place.create()
        assert act(place.filters, person(cast, cast.anna)).count == 1

    def test_a_stranger_may_not(self, cast, place):
        actor = callers.of_member(cast.member(cast.mallory), has_stepped_up=True)
        with pytest.raises(Forbidden):
            act(place.filters, actor)

    def test_a_persons_password_must_be_fresh(self, cast, place):
        made = place.create()
        with builders.gains(cast.acme.id), pytest.raises(StepUpNeeded):
            act(place.filters, person(cast, has_stepped_up=False))
        assert state(made, cast.acme) == "VALID"

    def test_a_projects_admin_reaches_that_project_alone(self, cast, place):
        admin = builders.person("Pam")
        builders.join(admin, cast.acme, Role.ADMIN, place.project)
        mine, other = place.create(), key_builders.create(cast.acme, cast.alice)
        everything = Filters(organization_id=cast.acme.id, kind="control_plane")
        assert act(everything, person(cast, admin)).count == 1
        assert (state(mine, cast.acme), state(other, cast.acme)) == ("REVOKED", "VALID")

    def test_the_project_that_is_looked_at_narrows_nothing(self, cast, place):
        """What is not on the screen must not silently stay alive."""
        elsewhere = builders.project(builders.root(cast.acme))
        place.create()
        member = replace(cast.member(cast.alice), project=elsewhere)
        assert act(place.filters, callers.of_member(member, has_stepped_up=True)).count == 1

    def test_a_refusal_stays_although_the_act_failed(self, cast):
        actor = person(cast, cast.vera)
        with builders.gains(cast.acme.id, "breakglass.refused") as gained:
            services.refuse_break_glass(cast.acme.id, actor=actor, cause="role")
        assert (gained[0].actor, gained[0].data["cause"]) == (cast.vera.id, "role")


class TestWaiting:
    """Whoever holds what the act needs holds it up for seconds, not for ever, and then nothing is half done."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch):
        monkeypatch.setattr("keys.services.breakglass.PATIENCE", "300ms")

    def test_a_key_that_is_held(self, cast, place):
        free, held = place.create(), place.create()
        with ledgers.superuser(autocommit=False) as other:
            other.execute("SELECT 1 FROM keys_apikey WHERE id = %s FOR UPDATE", [held.key.id])
            with builders.gains(cast.acme.id), pytest.raises(Unavailable, match="Nothing was revoked"):
                act(place.filters, person(cast))
        assert [state(made, cast.acme) for made in (free, held)] == ["VALID"] * 2
        assert act(place.filters, person(cast)).count == 2

    def test_creation_that_is_held(self, cast, place):
        made = place.create()
        with ledgers.superuser(autocommit=False) as other:
            other.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('keys:create:' || %s, 0))", [cast.acme.id]
            )
            with pytest.raises(Unavailable):
                act(place.filters, person(cast))
        assert state(made, cast.acme) == "VALID"

    @pytest.mark.timed
    def test_the_ledgers_head_that_is_held(self, cast, place):
        made = place.create()
        with ledgers.superuser(autocommit=False) as other:
            other.execute("SELECT 1 FROM audit_head WHERE organization_id = %s FOR UPDATE", [cast.acme.id])
            start = time.monotonic()
            with pytest.raises(LedgerUnavailable):
                act(place.filters, person(cast))
            assert time.monotonic() - start < 8
        assert state(made, cast.acme) == "VALID"

    def test_a_ledger_that_fails_leaves_everything(self, cast, place, monkeypatch):
        made = place.create()
        monkeypatch.setattr("audit.entry.build", _broken)
        with pytest.raises(LedgerUnavailable):
            act(place.filters, person(cast))
        assert state(made, cast.acme) == "VALID"
        with tenancy.within(cast.acme.id):
            assert not IncidentKey.objects.filter(key_id=made.key.id).exists()


def _broken(*_, **__):
    raise OperationalError("out of reach")


class TestRaces:
    def test_two_at_once_revoke_each_key_once(self, cast, place):
        for _ in range(6):
            place.create()
        done = calls.at_once(4, lambda _: act(place.filters, person(cast)).count)
        assert sorted(done) == [0, 0, 0, 6]
        with tenancy.within(cast.acme.id):
            keys = set(ApiKey.objects.filter(project=place.project).values_list("pk", flat=True))
            assert IncidentKey.objects.filter(key_id__in=keys).count() == 6
        told = [e for e in key_builders.entries(cast.acme) if e["data"].get("target") in keys]
        assert [e["act"] for e in told].count("key.revoked") == 6

    def test_overlapping_ones_never_deadlock(self, cast, place):
        for number in range(20):
            place.create(tags={"half": "a"} if number % 2 else {"half": "b"})
        filters = [place.filters, replace(place.filters, tags=(("half", "a"),))]
        done = calls.at_once(6, lambda i: act(filters[i % 2], person(cast)).count)
        assert sum(done) == 20

    def test_a_rotation_meanwhile_leaves_no_secret_that_works(self, cast, place):
        """Whichever comes first: the new secret is dead, or was never given out."""
        made = [place.create() for _ in range(8)]
        new: list = []

        def run(index):
            if index == 0:
                time.sleep(0.02)
                return act(place.filters, person(cast)).count
            key = key_builders.read(made[index - 1].key.id, cast.acme)
            with contextlib.suppress(KeysError):
                new.append(key_builders.rotate(key, cast.acme, cast.alice))
            return None

        assert calls.at_once(9, run)[0] == 8
        secrets = [*(one.secret for one in made), *(one.secret for one in new)]
        assert {key_builders.verify(secret, cast.acme) for secret in secrets} == {"REVOKED"}

    def test_a_key_made_meanwhile_goes_too_or_was_made_after(self, cast, place):
        done_at, made = [], []

        def run(index):
            if index == 0:
                time.sleep(0.05)
                act(place.filters, person(cast))
                done_at.append(time.monotonic())
                return
            for _ in range(8):
                began = time.monotonic()
                made.append((began, place.create()))

        calls.at_once(3, run)
        began_before = [one for began, one in made if began < done_at[0]]
        alive = [one for one in began_before if state(one, cast.acme) == "VALID"]
        # Those that waited for the act and were made after it: they see that it is over.
        opened = Incident.objects.order_by("-opened_at")
        with tenancy.within(cast.acme.id):
            at = opened.filter(organization=cast.acme)[0].opened_at
        assert all(key_builders.read(one.key.id, cast.acme).created_at > at for one in alive)

    def test_a_key_that_is_revoked_by_it_leaves_none_behind(self, cast, place):
        """A stolen key that creates others in a loop, at the very moment: it waits, and finds itself revoked."""
        thief = place.create(scopes=["keys:write", "incidents:read"])
        presented = verification.authenticate(thief.secret, ip="", cost=1).presented
        actor = callers.of_key(presented, ip="", user_agent="", request_id="")
        ready, errors = threading.Event(), []

        def mint():
            try:
                with tenancy.within(cast.acme.id):
                    ready.set()
                    services.create_key(
                        services.Draft(
                            kind=key_builders.Kind.CONTROL_PLANE,
                            name=builders.unique("key"),
                            project=place.project,
                            environment=builders.production(cast.acme),
                            scopes=["incidents:read"],
                        ),
                        actor=actor,
                    )
            except KeysError as error:
                errors.append(error)

        with tenancy.within(cast.acme.id), transaction.atomic():
            services.break_glass(place.filters, actor=person(cast), reason="stolen")
            thread = threading.Thread(target=lambda: calls.at_once(1, lambda _: mint()))
            thread.start()
            ready.wait(5)
            time.sleep(0.3)
        thread.join(10)
        assert [type(error) for error in errors] == [Forbidden]
        with tenancy.within(cast.acme.id):
            assert not ApiKey.objects.filter(project=place.project, revoked_at=None).exists()

    def test_single_revocations_meanwhile(self, cast, place):
        made = [place.create() for _ in range(6)]

        def run(index):
            if index == 0:
                return act(place.filters, person(cast)).count
            with tenancy.within(cast.acme.id):
                key = key_builders.read(made[index - 1].key.id, cast.acme)
                return services.revoke_key(key, actor=person(cast), reason="unused")

        counts = calls.at_once(7, run)
        assert counts[0] + sum(counts[1:]) == 6


class TestAsking:
    def test_a_dry_run_counts_in_few_statements_whatever_the_number(self, cast, place):
        def asked():
            with tenancy.within(cast.acme.id):
                now = clock.now()
                found = breakglass.matching(place.filters, person(cast), now)
                return breakglass.reach(found, now), breakglass.carried(found, cast.acme.id, now, most=1_000)

        place.create()
        few = _statements(asked)
        for _ in range(5):
            place.create()
        assert _statements(asked) == few

    def test_it_says_how_much_would_go(self, cast, place):
        busy, idle = place.create(), place.create(environment=builders.environment(cast.acme))
        below = place.create(project=builders.project(place.project))
        with tenancy.within(cast.acme.id):
            services.disable_key(below.key, actor=person(cast))
        key_builders.verify(busy.secret, cast.acme)
        with tenancy.within(cast.acme.id):
            now = clock.now()
            found = breakglass.matching(place.filters, person(cast), now)
            reach = breakglass.reach(found, now)
            keys = breakglass.carried(found, cast.acme.id, now, most=2)
        assert (reach.keys, reach.projects, reach.production, reach.disabled) == (3, 2, 2, 1)
        assert (reach.used_1h, reach.used_24h, reach.expired) == (1, 1, 0)
        assert keys[0].id == busy.key.id
        assert (len(keys), keys[0].calls_24h, keys[1].calls_24h) == (2, 1, 0)
        assert idle.key.id != keys[0].id


def _statements(ask):
    with CaptureQueriesContext(connection) as caught:
        ask()
    return len(caught)


@pytest.mark.timed
class TestMany:
    """Thousands of keys: as many statements as for one, and in seconds (`./dev bench breakglass` measures)."""

    LOADED, KEYS, SECONDS = 2_223, 2_000, 20

    def test_thousands_go_in_one_act(self):
        made, owner = organization_with(self.LOADED)
        actor = callers.of_member(builders.member(owner, made), has_stepped_up=True)
        filters = Filters(organization_id=made.id, project=builders.root(made).id)
        start = time.monotonic()
        with CaptureQueriesContext(connection) as caught:
            assert act(filters, actor).count == self.KEYS
        assert time.monotonic() - start < self.SECONDS
        assert len(caught) < 40
        with tenancy.within(made.id):
            assert not ApiKey.objects.filter(revoked_at=None).exists()
        acts = [entry.act for entry in builders.entries(made.id)]
        assert (acts.count("key.revoked"), acts.count("breakglass.executed")) == (self.KEYS, 1)
