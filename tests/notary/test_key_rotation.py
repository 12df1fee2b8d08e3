"""Who signs while keys come and go: what the ledger's own entries say, of the keys in the folder."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.utils import timezone

from audit import ledger, note, tenancy
from audit.actors import WORKER
from audit.errors import NotaryRefused
from audit.models import Checkpoint
from audit.notary import state
from audit.notary.sweeping import HashSweep
from audit.signatures import keeping, key_files, reopening, verifier_keys
from audit.tree import Point
from tests import ledgers, notaries

LATER = timedelta(days=91)


@pytest.fixture
def notary(tmp_path):
    return notaries.new(tmp_path / "notary")


@pytest.fixture
def organization_id():
    return ledgers.new(3)


@pytest.fixture
def announced(settings):
    """Give the web process the public halves of some keys; what it had comes back."""

    def announce(*keys):
        settings.LEDGER_PUBLIC_KEY = "".join(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            for key in keys
        )
        ledger.public_keys.cache_clear()

    yield announce
    ledger.public_keys.cache_clear()


def log_of(organization_id):
    return f"ledger.example/ledger/{organization_id}"


def newest(organization_id):
    with tenancy.within(organization_id):
        return Checkpoint.objects.of(organization_id).newest()


def ids_of(organization_id, *keys):
    return [note.VerifierKey.of(log_of(organization_id), key).id for key in keys]


def signers(organization_id):
    return [key_id for _, key_id in note.signers_named(newest(organization_id).note)]


def keep(organization_id, after=timedelta(0)):
    return keeping.keep_keys(organization_id, timezone.now() + after)


def alarms(notary):
    return {told["organization"]: told for told in notary.rounds.alarms.published()}


def say(organization_id, act, key):
    vkey = note.VerifierKey.of(log_of(organization_id), key).format()
    with tenancy.within(organization_id), ledger.recording(organization_id, WORKER) as entry:
        entry(act, target=log_of(organization_id), data={"vkey": vkey})


class TestRotation:
    def test_from_one_key_to_the_next(self, notary, organization_id, announced):
        key_files.make_next(notary.folder)
        old, new = key_files.private_keys(notary.folder)
        notary = notaries.new(notary.folder)
        notary.round()
        assert signers(organization_id) == ids_of(organization_id, old)

        announced(old, new)
        assert keep(organization_id) == ["ledger.key_added"]
        notary.round()
        assert signers(organization_id) == ids_of(organization_id, old, new)
        size = newest(organization_id).size

        assert keep(organization_id, LATER) == ["ledger.key_retired"]
        notary.round()
        assert signers(organization_id) == ids_of(organization_id, new)
        assert newest(organization_id).size == size + 1
        with tenancy.within(organization_id):
            published = verifier_keys.published(organization_id, 1)
            every = list(Checkpoint.objects.of(organization_id).order_by("size"))
        assert len(published) == 2
        keys = [note.VerifierKey.parse(vkey) for vkey in published]
        sizes = [note.open_checkpoint(each.note, log_of(organization_id), keys).size for each in every]
        assert sizes == [3, size, size + 1]
        assert alarms(notary).get(organization_id) is None

    def test_the_new_key_never_signs_alone_before_it_is_announced(self, notary, organization_id):
        """The older key's file is gone too early: nothing is published rather than what nobody can verify."""
        key_files.make_next(notary.folder)
        (notary.folder / "private.pem").rename(notary.folder / "gone.pem")
        without = notaries.new(notary.folder / "other")
        (without.folder / "private.pem").write_bytes((notary.folder / "private-2.pem").read_bytes())
        without = notaries.new(without.folder)
        without.round()
        assert newest(organization_id) is None
        assert alarms(without)[organization_id]["kind"] == "key"

    def test_a_new_ledger_is_signed_by_the_newest_alone(self, notary, announced):
        key_files.make_next(notary.folder)
        old, new = key_files.private_keys(notary.folder)
        announced(old, new)
        organization_id = ledgers.new(2)
        notaries.new(notary.folder).round()
        assert signers(organization_id) == ids_of(organization_id, new)

    def test_a_key_that_somebody_else_announced(self, notary, organization_id, tmp_path):
        """It is told, and what is ours goes on being signed: the evidence must not end there."""
        key_files.make_first(tmp_path / "mallorys")
        [foreign] = key_files.private_keys(tmp_path / "mallorys")
        say(organization_id, "ledger.key_added", foreign)
        notary.round()
        assert signers(organization_id) == ids_of(organization_id, notaries.KEY)
        told = alarms(notary)[organization_id]
        assert told["kind"] == "key"
        assert ids_of(organization_id, foreign)[0].hex() in told["what"]
        ledgers.append(organization_id)
        assert notary.round() == 1
        assert newest(organization_id).size == 5


class TestReopening:
    def test_a_fault_in_the_old_epoch_does_not_keep_the_new_one_from_being_signed(
        self, notary, organization_id
    ):
        notary.round()
        kept = newest(organization_id).note
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                "UPDATE audit_entry SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'ingest', 'digest'),"
                " 'UTF8') WHERE organization_id = %s AND index = 1",
                [organization_id],
            )
        self.sweep(notary)
        ledgers.append(organization_id)
        assert notary.round() == 0
        reopening.reopen_ledger(organization_id, kept, actor=WORKER, reason="nobody has the right bytes")
        assert notary.round() == 1
        assert (newest(organization_id).epoch, newest(organization_id).size) == (2, 1)
        self.sweep(notary)
        assert alarms(notary)[organization_id]["epoch"] == 1
        ledgers.append(organization_id)
        assert notary.round() == 1

    def test_one_that_carried_the_wrong_checkpoint_is_not_the_end(self, notary, organization_id):
        notary.round()
        wrong = newest(organization_id).note
        ledgers.append(organization_id)
        notary.round()
        right = newest(organization_id).note
        reopening.reopen_ledger(organization_id, wrong, actor=WORKER, reason="a mistake")
        assert notary.round() == 0
        assert alarms(notary)[organization_id]["kind"] == "reopened"
        reopening.reopen_ledger(organization_id, right, actor=WORKER, reason="put right")
        assert notary.round() == 1
        assert (newest(organization_id).epoch, newest(organization_id).size) == (3, 1)

    @staticmethod
    def sweep(notary):
        HashSweep(notary.rounds, notary.rounds.alarms, lambda: False).run()


def test_the_file_never_goes_back_and_gets_no_second_root():
    origin = "ledger.example/ledger/org_a"
    at = state.State.new().after(state.signed(origin, Point(5, b"\x01" * 32)))
    for point in (Point(4, b"\x01" * 32), Point(5, b"\x02" * 32)):
        with pytest.raises(NotaryRefused, match="goes on from there"):
            at.after(state.signed(origin, point))
    assert at.after(state.signed(origin, Point(5, b"\x01" * 32))).logs == at.logs
