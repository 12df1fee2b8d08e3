"""Keys that rotate by themselves: once for each time they are due, whole or not at all, readable by nobody else."""

import threading
from base64 import b64decode
from datetime import timedelta

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from django.db import connections

from audit import ports, tenancy
from audit import services as audit_services
from audit.actors import Actor
from audit.acts import Act
from audit.webhooks import expansion, guard
from keys import callers, clock, looking, services
from keys.models import KeySecret, Rotation
from keys.models.notice import What
from keys.rotation import Mode
from keys.secret import Kind
from keys.services import Changes, auto_rotation
from keys.services.auto_rotation import forget_ended, hand_out, rotate_when_due
from keys.tasks import expiry
from orgs import services as org_services
from orgs.roles import Role
from tests import builders, cluster, key_builders
from tests.clocks import later

FETCHER = Actor(id="key_fetcher")
STARTED, FAILED = "rotation.started", "rotation.failed"


@pytest.fixture
def where(cast):
    return builders.organization("Fresh", owner=cast.alice)


@pytest.fixture
def receiver(where, cast):
    return key_builders.recipient(where, cast.alice)


def make(where, cast, days=10, **fields):
    return key_builders.create(where, cast.alice, rotation_interval_days=days, auto_rotate=True, **fields)


def work(where):
    """Do what the job does, for one organization."""
    forget_ended(clock.now())
    found = looking.due_keys(What.ROTATION, clock.now(), limit=100_000).get(where.id, [])
    return [one for one in (rotate_when_due(where.id, key_id) for key_id in found) if one]


def gained(where, *acts):
    return [entry for entry in key_builders.entries(where) if entry["act"] in acts]


def rotations(where, key):
    with tenancy.within(where.id):
        return list(Rotation.objects.filter(key_id=key.id).select_related("key").order_by("new_version"))


def opened(receiver, rotation):
    return receiver.open(bytes(rotation.sealed_secret), rotation.id)


def change(key, where, by, **changes):
    with tenancy.within(where.id):
        caller = callers.of_member(builders.member(by, where))
        return services.change_key(key_builders.read(key.id, where), Changes(**changes), actor=caller)


class TestItsTurn:
    def test_a_grace_before_its_interval_is_over_and_sealed(self, where, cast, receiver):
        made = make(where, cast)
        with later(days=8.99):
            assert work(where) == []
        with later(days=9.01):
            (rotation,) = work(where)
            assert work(where) == []
        (kept,) = rotations(where, made.key)
        assert (kept.id, kept.mode, kept.started_by, kept.sealed_to) == (
            rotation.id,
            "grace",
            "sys_worker",
            receiver.recipient.id,
        )
        text = opened(receiver, kept)
        assert key_builders.SECRET.fullmatch(text)
        assert key_builders.verify(text, where) == "VALID"
        assert key_builders.verify(made.secret, where) == "VALID"
        (entry,) = gained(where, STARTED)
        assert entry["actor"] == "sys_worker"
        data = entry["data"]
        assert (data["rotation"], data["recipient"], data["cause"]) == (
            kept.id,
            receiver.recipient.id,
            "interval",
        )
        assert text not in str(key_builders.entries(where))

    def test_again_and_again_and_the_key_stays(self, where, cast, receiver):
        made = make(where, cast, days=10)
        for turn in range(1, 5):
            with later(days=9.1 * turn):
                assert len(work(where)) == 1
        kept = rotations(where, made.key)
        assert [rotation.new_version for rotation in kept] == [2, 3, 4, 5]
        assert key_builders.verify(opened(receiver, kept[-1]), where) == "VALID"
        assert key_builders.read(made.key.id, where).newest_version == 5

    def test_an_interval_of_one_day_leaves_half_of_it(self, where, cast, receiver):
        made = make(where, cast, days=1)
        with later(hours=11.9):
            assert work(where) == []
        with later(hours=12.1):
            (rotation,) = work(where)
        assert rotation.grace_ends_at - rotation.started_at == timedelta(hours=12)
        assert made.key.id == rotation.key_id

    def test_a_secret_that_expires_sooner_rotates_before_it_does(self, where, cast, receiver):
        made = make(where, cast, days=90, expires=clock.now() + timedelta(days=5))
        with later(days=3.9):
            assert work(where) == []
        with later(days=4.1):
            (rotation,) = work(where)
        assert rotation.grace_ends_at <= made.key.expires_at
        assert key_builders.read(made.key.id, where).expires_at > made.key.expires_at

    def test_a_key_that_never_expires_rotates_too(self, where, cast, receiver):
        made = make(where, cast, kind=Kind.INGESTION, scopes=["ingest:write"], expires=None)
        with later(days=10):
            assert len(work(where)) == 1
        assert key_builders.read(made.key.id, where).expires_at is None

    def test_a_worker_that_was_down_rotates_once_what_is_still_alive(self, where, cast, receiver):
        alive, dead = (
            make(where, cast, days=10),
            make(where, cast, days=10, expires=clock.now() + timedelta(days=15)),
        )
        with later(days=19):
            work(where)
            work(where)
        assert len(rotations(where, alive.key)) == 1
        assert rotations(where, dead.key) == []

    def test_others_are_left_alone(self, where, cast, receiver):
        plain = key_builders.create(where, cast.alice, rotation_interval_days=10).key
        stopped, off, gone = (make(where, cast).key for _ in range(3))
        change(stopped, where, cast.alice, enabled=False)
        change(off, where, cast.alice, auto_rotate=False)
        with tenancy.within(where.id):
            services.revoke_key(gone, actor=callers.of_member(builders.member(cast.alice, where)))
        with later(days=11):
            assert work(where) == []
        assert all(rotations(where, key) == [] for key in (plain, stopped, off, gone))
        assert gained(where, FAILED) == []
        change(stopped, where, cast.alice, enabled=True)
        with later(days=11):
            assert [rotation.key_id for rotation in work(where)] == [stopped.id]

    def test_a_suspended_organization_waits(self, where, cast, receiver):
        make(where, cast)
        org_services.suspend_organization(where, actor=builders.OPERATOR)
        with later(days=9.5):
            assert work(where) == []
        org_services.resume_organization(where, actor=builders.OPERATOR)
        with later(days=9.6):
            assert len(work(where)) == 1

    def test_a_rotation_that_somebody_took_back_is_not_repeated_at_once(self, where, cast, receiver):
        made = make(where, cast)
        with later(days=9.1):
            work(where)
        (rotation,) = rotations(where, made.key)
        with later(days=9.2), tenancy.within(where.id):
            services.cancel_rotation(rotation, actor=callers.of_member(builders.member(cast.alice, where)))
        with later(days=9.6):
            assert work(where) == []
        with later(days=9.8):
            assert len(work(where)) == 1


class TestFailures:
    def test_without_a_recipient_it_is_told_once_and_done_when_there_is_one(self, where, cast):
        made = make(where, cast)
        for days in (9.1, 9.2, 9.5, 9.9):
            with later(days=days):
                assert work(where) == []
        (entry,) = gained(where, FAILED)
        assert (entry["data"]["reason"], entry["data"]["target"]) == ("no_recipient", made.key.id)
        assert entry["data"]["name"] == made.key.name
        receiver = key_builders.recipient(where, cast.alice)
        with later(days=9.1):
            assert len(work(where)) == 1
        assert key_builders.verify(opened(receiver, rotations(where, made.key)[0]), where) == "VALID"

    def test_with_a_recipient_whose_registrant_has_left_it_waits_for_somebody_to_confirm_it(
        self, where, cast
    ):
        made, heir = make(where, cast), builders.person("Heir")
        membership = builders.join(heir, where, Role.ADMIN)
        receiver = key_builders.recipient(where, heir)
        alice = builders.member(cast.alice, where)
        with tenancy.within(where.id):
            org_services.remove_member(membership, actor=alice)
        for days in (9.1, 9.2):
            with later(days=days):
                assert work(where) == []
        (entry,) = gained(where, FAILED)
        assert entry["data"]["reason"] == "recipient_unconfirmed"
        with later(days=9.3):
            with tenancy.within(where.id):
                assert services.confirm_recipient(receiver.recipient, actor=alice)
            assert len(work(where)) == 1
        assert key_builders.verify(opened(receiver, rotations(where, made.key)[0]), where) == "VALID"

    def test_the_next_time_it_is_due_is_told_again(self, where, cast):
        made = make(where, cast)
        with later(days=9.5):
            work(where)
        with later(days=9.6):
            key_builders.rotate(key_builders.read(made.key.id, where), where, cast.alice)
        with later(days=19):
            work(where)
        assert [entry["data"]["version"] for entry in gained(where, FAILED)] == [1, 2]

    def test_a_running_rotation_is_waited_for(self, where, cast, receiver):
        made = make(where, cast)
        with later(days=8.8):
            key = key_builders.read(made.key.id, where)
            key_builders.rotate(key, where, cast.alice, grace_seconds=2_592_000)
        change(made.key, where, cast.alice, rotation_interval_days=3)
        with later(days=11):
            assert work(where) == []
        with later(days=11.1):
            assert work(where) == []
        (entry,) = gained(where, FAILED)
        assert entry["data"]["reason"] == "rotation_running"
        assert len(rotations(where, made.key)) == 1

    def test_a_fault_leaves_nothing_but_one_entry_and_stops_no_other(self, where, cast, receiver, caplog):
        bad, good = make(where, cast), make(where, cast)
        _execute(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.key_id = '{bad.key.id}' THEN RAISE 'poisoned'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER poison BEFORE INSERT ON keys_rotation FOR EACH ROW EXECUTE FUNCTION poison()",
        )
        try:
            with later(days=9.1):
                expiry.rotate_all_when_due(0)
            with later(days=9.2):
                expiry.rotate_all_when_due(0)
        finally:
            _execute("DROP TRIGGER poison ON keys_rotation", "DROP FUNCTION poison()")
        assert bad.key.id in caplog.text
        assert rotations(where, bad.key) == []
        with tenancy.within(where.id):
            assert KeySecret.objects.filter(key_id=bad.key.id).count() == 1
        assert len(rotations(where, good.key)) == 1
        assert [entry["data"]["reason"] for entry in gained(where, FAILED)] == ["internal_error"]
        assert key_builders.verify(bad.secret, where) == "VALID"
        with later(days=9.3):
            assert len(work(where)) == 1

    @pytest.mark.parametrize("step", ["insert_secret", "_retire", "_record", "_described"])
    def test_a_crash_between_any_two_statements_leaves_nothing(
        self, where, cast, receiver, step, monkeypatch
    ):
        made = make(where, cast)
        monkeypatch.setattr(f"keys.services.rotating.{step}", _die)
        with later(days=9.1), pytest.raises(SystemExit):
            rotate_when_due(where.id, made.key.id)
        monkeypatch.undo()
        assert rotations(where, made.key) == []
        assert gained(where, STARTED, FAILED) == []
        assert key_builders.verify(made.secret, where) == "VALID"
        with later(days=9.1):
            assert len(work(where)) == 1
        assert opened(receiver, rotations(where, made.key)[0])

    def test_a_recipient_of_another_organization_is_refused(self, where, cast, receiver):
        made = make(where, cast)
        stranger = key_builders.recipient(cast.elsewhere, cast.mallory).recipient
        with tenancy.within(where.id), pytest.raises(ValueError, match="own organization"):
            auto_rotation.rotate_unattended(
                lambda *_, **__: None,
                made.key,
                recipient=stranger,
                grace_seconds=60,
                actor=Actor.system("worker"),
                now=clock.now(),
                cause="interval",
            )


class TestWorkers:
    def test_two_at_once_make_one_rotation(self, where, cast, receiver):
        made = [make(where, cast) for _ in range(4)]
        with later(days=9.1):
            found = looking.due_keys(What.ROTATION, clock.now(), limit=100_000)[where.id]
            threads = [threading.Thread(target=_rotate_all, args=(where.id, found)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            work(where)
        assert [len(rotations(where, one.key)) for one in made] == [1] * 4
        assert len(gained(where, STARTED)) == 4

    def test_it_meets_a_person_who_rotates(self, where, cast, receiver):
        made = make(where, cast)
        with later(days=9.1):
            key_builders.rotate(key_builders.read(made.key.id, where), where, cast.alice)
            assert work(where) == []
        (rotation,) = rotations(where, made.key)
        assert (rotation.sealed_secret, rotation.sealed_to) == (None, "")


class TestOnItsWay:
    @pytest.fixture
    def rotation(self, where, cast, receiver):
        made = make(where, cast)
        with later(days=9.1):
            work(where)
        return rotations(where, made.key)[0]

    def test_it_is_handed_out_once(self, where, receiver, rotation):
        with builders.gains(where.id, "rotation.fetched") as told, tenancy.within(where.id):
            sealed = hand_out(rotation, clock.now(), actor=FETCHER)
            assert sealed.recipient == receiver.recipient.id
            assert receiver.open(b64decode(sealed.ciphertext), rotation.id).startswith("ks_cp_live_")
            assert hand_out(rotation, clock.now(), actor=FETCHER) is None
        assert rotations(where, rotation.key)[0].sealed_secret is None
        assert (told[0].actor, told[0].data["target"]) == (FETCHER.id, rotation.key_id)
        assert (told[0].data["rotation"], told[0].data["recipient"]) == (rotation.id, receiver.recipient.id)

    @pytest.fixture(autouse=True)
    def names(self, monkeypatch):
        monkeypatch.setattr(guard, "resolver", lambda _host, _port: ["8.8.8.8"])

    def fetch(self, where, rotation):
        with tenancy.within(where.id):
            return hand_out(
                Rotation.objects.select_related("key").get(pk=rotation.id), clock.now(), actor=FETCHER
            )

    def hook(self, where, cast, *acts):
        with tenancy.within(where.id):
            url = f"https://{builders.unique('hook')}.example/"
            actor = builders.member(cast.alice, where)
            return audit_services.create_endpoint(where.id, url, acts, actor=actor).endpoint

    @pytest.mark.parametrize("acts", [["rotation.started"], ["rotation.*"], ["*", "key.created"]])
    def test_a_fetch_leaves_it_to_a_webhook_that_has_yet_to_carry_it(self, where, cast, receiver, acts):
        """In every state of a delivery: not queued, queued, tried in vain; then delivered, and a fetch ends it."""
        hook, made = self.hook(where, cast, *acts), make(where, cast)
        with later(days=9.1):
            work(where)
        (rotation,) = rotations(where, made.key)
        carried = ports.webhook_facts[Act.ROTATION_STARTED]
        first = self.fetch(where, rotation)
        assert receiver.open(b64decode(first.ciphertext), rotation.id)
        while expansion.expand_one(where.id, hook.id):
            assert self.fetch(where, rotation) == first
        assert self.fetch(where, rotation) == first
        assert carried(where.id, {"rotation": rotation.id})["sealed_secret"]["ciphertext"] == first.ciphertext
        _execute(
            "UPDATE audit_delivery SET state = 'delivered', next_attempt_at = NULL, finished_at = now()"
            f" WHERE endpoint_id = '{hook.id}' AND act = 'rotation.started'"
        )
        assert self.fetch(where, rotation) == first
        assert self.fetch(where, rotation) is None

    def test_an_endpoint_that_hears_of_nothing_keeps_nothing(self, where, cast, receiver):
        self.hook(where, cast, "rotation.completed", "key.*")
        disabled = self.hook(where, cast, "*")
        made = make(where, cast)
        with later(days=9.1):
            work(where)
        with tenancy.within(where.id):
            audit_services.disable_endpoint(disabled, actor=builders.member(cast.alice, where))
        self.hook(where, cast, "*")  # it hears of what comes from now on
        (rotation,) = rotations(where, made.key)
        assert self.fetch(where, rotation)
        assert self.fetch(where, rotation) is None

    def test_another_organizations_webhook_keeps_nothing(self, where, cast, receiver, rotation):
        with tenancy.within(cast.elsewhere.id):
            actor = builders.member(cast.mallory, cast.elsewhere)
            audit_services.create_endpoint(cast.elsewhere.id, "https://hook.example/", ["*"], actor=actor)
        assert self.fetch(where, rotation)
        assert self.fetch(where, rotation) is None

    def test_it_opens_for_its_own_rotation_and_recipient_alone(self, where, cast, receiver, rotation):
        other = key_builders.recipient(where, cast.alice)
        for wrong in ((receiver, "rot_aaaaaaaaaaaaaaaaaaaa"), (other, rotation.id)):
            with pytest.raises(InvalidTag):
                wrong[0].open(bytes(rotation.sealed_secret), wrong[1])

    def test_a_fetch_that_is_undone_hands_out_nothing(self, where, rotation):
        with pytest.raises(SystemExit), tenancy.within(where.id):
            assert hand_out(rotation, clock.now(), actor=FETCHER)
            raise SystemExit
        assert rotations(where, rotation.key)[0].sealed_secret is not None

    @pytest.mark.parametrize("how", ["complete", "cancel", "immediate", "revoke", "time"])
    def test_it_goes_when_the_rotation_ends(self, where, cast, rotation, how):
        with later(days=9.2), tenancy.within(where.id):
            caller = callers.of_member(builders.member(cast.alice, where))
            key = key_builders.read(rotation.key_id, where)
            match how:
                case "complete":
                    services.complete_rotation(rotation, actor=caller)
                case "cancel":
                    services.cancel_rotation(rotation, actor=caller)
                case "immediate":
                    services.rotate_key(key, actor=caller, mode=Mode.IMMEDIATE)
                case "revoke":
                    services.revoke_key(key, actor=caller)
        with later(days=10.2 if how == "time" else 9.3):
            found = rotations(where, rotation.key)[0]
            with tenancy.within(where.id):
                assert hand_out(found, clock.now(), actor=FETCHER) is None
            assert ports.webhook_facts[Act.ROTATION_STARTED](where.id, {"rotation": rotation.id}) == {
                "sealed_secret": None
            }
            forget_ended(clock.now())
        kept = rotations(where, rotation.key)[0]
        assert kept.sealed_secret is None
        assert kept.sealed_to

    def test_the_webhook_carries_it_while_it_is_here(self, where, cast, receiver, rotation):
        told = ports.webhook_facts[Act.ROTATION_STARTED]
        with later(days=9.2):
            sealed = told(where.id, {"rotation": rotation.id, "target": rotation.key_id})["sealed_secret"]
            assert sealed["recipient"] == receiver.recipient.id
            assert receiver.open(b64decode(sealed["ciphertext"]), rotation.id)
            assert told(cast.elsewhere.id, {"rotation": rotation.id}) == {"sealed_secret": None}
            assert told(where.id, {}) == {"sealed_secret": None}
            with tenancy.within(where.id):
                hand_out(rotation, clock.now(), actor=FETCHER)
            assert told(where.id, {"rotation": rotation.id}) == {"sealed_secret": None}

    def test_nobody_puts_another_in_its_place(self, where, rotation):
        for change in ("sealed_secret = 'x'", "sealed_to = 'rcp_x'"):
            with pytest.raises(psycopg.Error, match="only goes"):
                _execute(f"UPDATE keys_rotation SET {change} WHERE id = '{rotation.id}'")

    def test_no_table_has_the_plaintext(self, where, receiver, rotation):
        text = opened(receiver, rotation)
        with psycopg.connect(_url()) as superuser:
            tables = superuser.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for (table,) in tables:
                found = superuser.execute(
                    f"SELECT count(*) FROM {table} t WHERE t::text LIKE %s OR t::text LIKE %s",
                    [f"%{text[11:]}%", f"%{text[11:].encode().hex()}%"],
                ).fetchone()
                assert found == (0,), table
        assert len(tables) > 30


def _url():
    return cluster.cluster().url(dbname=cluster.database())


def _execute(*statements):
    with psycopg.connect(_url(), autocommit=True) as superuser:
        for statement in statements:
            superuser.execute(statement)


def _rotate_all(organization_id, key_ids):
    try:
        for key_id in key_ids:
            rotate_when_due(organization_id, key_id)
    finally:
        connections.close_all()


def _die(*_arguments, **_options):
    raise SystemExit
