"""The customers' own program (docs/check_ledger.go): good bundles, and one thing changed in them."""

import base64
import random
import shutil
import subprocess
from contextlib import closing

import pytest
from keystead.ledger import LedgerTampered, verify_bundle

from audit import tenancy
from audit.models import Entry
from audit.proofs import proving
from audit.services import hand_out_bundle
from audit.signatures import verifier_keys
from tests import ledgers, notaries, offline
from tests.go import toolchain
from tests.go.cases import THIEF, flipped
from tests.offline import Log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.zip"


@pytest.fixture
def log():
    return Log.of(12)


def told(check_ledger, path, *options):
    done = check_ledger(*options, path)
    assert (done.returncode == 0) == done.stdout.endswith("\n") == (not done.stderr)
    return done.returncode, done.stderr.strip()


class TestGood:
    @pytest.mark.parametrize("size", [1, 2, 3, 12, 300])
    def test_of_every_size(self, check_ledger, path, size):
        done = check_ledger(Log.of(size).write(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"good: {offline.ORIGIN}, {size} entries, root " in done.stdout
        assert offline.vkey(offline.ORIGIN) in done.stdout

    def test_unpacked_and_with_a_key_noted_elsewhere(self, check_ledger, log, path, tmp_path):
        shutil.unpack_archive(log.write(path), tmp_path / "folder")
        done = check_ledger("-vkey", offline.vkey(log.origin), tmp_path / "folder")
        assert done.returncode == 0
        assert "Compare" not in done.stdout

    def test_older_checkpoints(self, check_ledger, log, path, tmp_path):
        (tmp_path / "old").write_text(log.checkpoint(5))
        log.write(path, old_checkpoint=log.checkpoint(1))
        assert check_ledger("-old", tmp_path / "old", path).returncode == 0

    def test_what_was_erased(self, check_ledger, log, path):
        del log.openings[2]
        log.append(act="ledger.erasure", data={"target": "usr_alice", "entries": [2], "fields": ["email"]})
        assert check_ledger(log.write(path)).returncode == 0

    def test_a_later_epoch(self, check_ledger, path):
        assert check_ledger(Log.of(3, offline.ORIGIN + "/2").write(path)).returncode == 0

    def test_what_the_product_hands_out(self, check_ledger, path, tmp_path):
        organization_id = ledgers.new(40)
        notaries.new(tmp_path / "notary").round()
        with tenancy.within(organization_id), hand_out_bundle_of(organization_id) as pieces:
            path.write_bytes(b"".join(pieces))
        done = check_ledger(path)
        assert (done.returncode, done.stderr) == (0, "")
        assert ", 40 entries, " in done.stdout


class TestTampered:
    """It says what the SDK's verifier says, which is what the portal's says: the fault, and of which entry."""

    def test_one_change_at_random(self, check_ledger, path):
        dice, sizes = random.Random(11), [2, 5, 12, 40]
        seen = set()
        for _ in range(150):
            log = Log.of(dice.choice(sizes))
            checkpoint = log.checkpoint()
            change(log, dice)
            log.write(path, checkpoint=checkpoint)
            with pytest.raises(LedgerTampered) as caught:
                verify_bundle(path)
            ours = caught.value
            status, words = told(check_ledger, path)
            assert status == 1
            assert words.startswith(f"epoch 1, entry {ours.index}: {ours.fault}: "), str(ours)
            seen.add(ours.fault)
        assert {str(each) for each in seen} == {"altered", "dropped", "inserted", "swapped"}

    @pytest.mark.parametrize(
        "value",
        [b'"a":1.0', b'"a":1e3', b'"a":01', b'"a": 1', b'"a":1,"a":1', b'"a":"\\u0041"', b'"a":"\\/"'],
    )
    def test_bytes_that_say_the_same_otherwise(self, check_ledger, log, path, value):
        """Signed by the log's own key: what is not the one spelling is refused all the same."""
        log.leaves[3] = log.leaves[3].replace(b'"data":{', b'"data":{' + value + b",")
        status, words = told(check_ledger, log.write(path))
        assert (status, words.partition(": its")[0]) == (1, "epoch 1, entry 3: altered")

    def test_every_character_has_one_spelling(self, check_ledger, path):
        log = Log.of(1)
        for text in ('"\\/\b\f\n\r\t\x01\x1f\x7f', "\u2028\u2029<>&é€🔑\ufffd\ue000", ""):
            log.append(data={"text": text})
        assert told(check_ledger, log.write(path)) == (0, "")

    def test_time_beginning_and_log(self, check_ledger, log, path):
        log.append(t=offline.START)
        assert told(check_ledger, log.write(path))[1].startswith("epoch 1, entry 12: altered: it is older")
        log = Log.of(3)
        log.append(act="ledger.opened", data={"vkey": offline.vkey(log.origin)})
        assert "entry 3: altered: ledger.opened is the first" in told(check_ledger, log.write(path))[1]
        log = Log()
        log.append(act="ledger.opened", data={"vkey": offline.vkey(log.origin + "/2")})
        assert "entry 0: altered: it carries no verifier key" in told(check_ledger, log.write(path))[1]

    def test_openings(self, check_ledger, path):
        for at, change_, expected in [
            (6, lambda line: line.replace(b"alice4", b"alice5"), "entry 4: altered: the opening of email"),
            (7, lambda _: None, "entry 4: dropped: the opening of name"),
            (6, lambda line: line.replace(b'"email"', b'"fax"'), "entry 4: inserted: an opening"),
        ]:
            log = Log.of(9)
            checkpoint, line = log.checkpoint(), change_(log.openings[at])
            log.openings[at : at + 1] = [line] if line else []
            assert expected in told(check_ledger, log.write(path, checkpoint=checkpoint))[1]


class TestOtherwiseWrong:
    def test_who_signed(self, check_ledger, log, path):
        by_thief = log.write(path, checkpoint=log.checkpoint(None, THIEF))
        assert told(check_ledger, by_thief)[0] == 3
        replaced = log.write(
            path, checkpoint=log.checkpoint(None, THIEF), vkeys=offline.vkey(log.origin, THIEF) + "\n"
        )
        assert told(check_ledger, replaced)[0] == 0
        assert told(check_ledger, replaced, "-vkey", offline.vkey(log.origin))[0] == 3

    def test_another_logs_checkpoint(self, check_ledger, log, path):
        other = Log.of(12, offline.ORIGIN + "x")
        log.write(path, checkpoint=other.checkpoint())
        assert told(check_ledger, path)[0] == 3
        assert told(check_ledger, path, "-vkey", offline.vkey(other.origin))[0] == 1

    def test_two_histories(self, check_ledger, log, path, tmp_path):
        other = Log.of(4)
        other.append(data={"target": "key_x", "name": "told otherwise"})
        (tmp_path / "old").write_text(other.checkpoint())
        status, words = told(check_ledger, log.write(path), "-old", tmp_path / "old")
        assert (status, "the first 5 entries" in words) == (4, True)
        (tmp_path / "newer").write_text(Log.of(13).checkpoint())
        assert told(check_ledger, path, "-old", tmp_path / "newer")[0] == 4
        assert told(check_ledger, log.write(path, old_checkpoint=other.checkpoint()))[0] == 4

    @pytest.mark.parametrize(
        "changed",
        [
            {"entries": b"{}"},
            {"entries": None},
            {"sealed": None},
            {"sealed": b"no json\n"},
            {"vkeys": "no key\n"},
            {"vkeys": None},
            {"checkpoint": "no note\n"},
            {"checkpoint": None},
            {"old_checkpoint": "no note\n"},
        ],
    )
    def test_what_is_no_bundle(self, check_ledger, path, changed):
        log = Log.of(1)
        assert told(check_ledger, log.write(path, **changed))[0] == 2

    def test_no_file_at_all(self, check_ledger, tmp_path):
        assert check_ledger(tmp_path / "nothing").returncode == 2
        assert check_ledger().returncode == 2
        (tmp_path / "text").write_text("no zip")
        assert check_ledger(tmp_path / "text").returncode == 2


class TestProof:
    def test_one_entry(self, check_ledger, tmp_path):
        organization_id = ledgers.new(9)
        notaries.new(tmp_path / "notary").round()
        leaf, text, vkey = handed(organization_id, 5)
        (tmp_path / "leaf").write_bytes(leaf)
        (tmp_path / "proof").write_text(text)
        arguments = ["-vkey", vkey, "-entry", tmp_path / "leaf", tmp_path / "proof"]
        done = check_ledger(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("good: entry 5 of ledger.example/")
        (tmp_path / "leaf").write_bytes(flipped(leaf, random.Random(1)))
        done = check_ledger(*arguments)
        assert (done.returncode, "entry 5 is not in the log" in done.stderr) == (1, True)
        (tmp_path / "leaf").write_bytes(leaf)
        (tmp_path / "proof").write_text(text.replace("index 5", "index 4"))
        assert check_ledger(*arguments).returncode == 1
        (tmp_path / "proof").write_text(text.replace("index 5", "index 05"))
        assert check_ledger(*arguments).returncode == 2


def test_it_is_written_as_go_is_written():
    """`gofmt` finds nothing to change; `go vet` runs with each build."""
    sources = [toolchain.ROOT / "docs" / "check_ledger.go", *toolchain.ROOT.glob("tests/go/*.go")]
    assert len(sources) == 2
    gofmt = shutil.which("gofmt")
    assert gofmt is not None
    done = subprocess.run([gofmt, "-l", *sources], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def hand_out_bundle_of(organization_id):
    return closing(hand_out_bundle(organization_id, actor=ledgers.ALICE))


def handed(organization_id, index):
    """Return an entry's bytes, its proof, and the log's verifier key."""
    with tenancy.within(organization_id):
        leaf = bytes(Entry.objects.of(organization_id).get(index=index).leaf)
        (vkey,) = verifier_keys.published(organization_id, 1)
        return leaf, proving.inclusion_proof(organization_id, (1, index)), vkey


def change(log, dice):
    """Do one of the things that one can do to the entries of a log."""
    at, size = dice.randrange(len(log.leaves)), len(log.leaves)
    match dice.choice(["word", "bit", "drop", "swap", "insert", "cut", "append", "prev"]):
        case "bit":
            log.leaves[at] = without_newlines(flipped(log.leaves[at], dice))
        case "drop":
            del log.leaves[at]
        case "swap" if size > 2:
            one, other = dice.sample(range(size), 2)
            log.leaves[one], log.leaves[other] = log.leaves[other], log.leaves[one]
        case "insert":
            log.leaves.insert(at, log.leaves[dice.randrange(size)])
        case "cut":
            del log.leaves[dice.randrange(size) :]
        case "append":
            log.append()
        case "prev" if at > 0:
            prev = base64.b64encode(offline.tree.leaf_hash(log.leaves[at - 1]))
            log.leaves[at] = log.leaves[at].replace(prev, base64.b64encode(dice.randbytes(32)))
        case _:
            old, new = (b"sys_portal", b"sys_mallor") if at == 0 else (b"usr_alice", b"usr_mallo")
            log.leaves[at] = log.leaves[at].replace(old, new)


def without_newlines(leaf):
    return leaf.replace(b"\n", b"?")
