"""`keystead ledger`, run as a process: a bundle and a proof from the real portal, checked and changed."""

import json
import zipfile

import pytest

from tests import bundles, offline
from tests.api import calls
from tests.offline import Log, vkey
from tests.sdk.faulty import Planned

VERIFY, PROOF, FETCH = ("ledger", "verify"), ("ledger", "proof"), ("ledger", "fetch")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.zip"


@pytest.fixture
def reader(cast):
    """A key that may read the log, of a ledger that was just signed."""
    made = calls.key(cast.acme, cast.alice, scopes=["audit:read"])
    bundles.sign(cast.acme.id)
    return made


def test_a_good_bundle(run, path):
    log = Log.of(5)
    done = run(*VERIFY, str(log.write(path, old_checkpoint=log.checkpoint(3))))
    assert done.returncode == 0, done.stderr
    first, signed, trusted, continues, sealed = done.stdout.splitlines()
    assert first.startswith("org_northline  epoch 1  size 5  root ")
    assert signed == f"signed by {vkey(log.origin)}"
    assert "compare" in trusted
    assert continues == "continues the checkpoint of 3 entries"
    assert sealed == "sealed values: 8 are what was sealed, 0 were erased"
    pinned = run(*VERIFY, str(path), "--vkey", vkey(log.origin), KEYSTEAD_KEY="", KEYSTEAD_URL="")
    assert (pinned.returncode, "compare" in pinned.stdout) == (0, False)


def test_exit_codes(run, path, tmp_path):
    log = Log.of(5)
    old = tmp_path / "old"
    old.write_text(Log.of(7).checkpoint())
    assert run(*VERIFY, str(log.write(path)), "--checkpoint", str(old)).returncode == 4
    assert run(*VERIFY, str(path), "--vkey", vkey("witness.example/w")).returncode == 3
    assert run(*VERIFY, str(path), "--vkey", "nonsense").returncode == 2
    assert run(*VERIFY, str(path), "--checkpoint", str(tmp_path / "none")).returncode == 2
    checkpoint = log.checkpoint()
    log.leaves[2] = log.leaves[2].replace(b"key_2", b"key_3")
    done = run(*VERIFY, str(log.write(path, checkpoint=checkpoint)))
    assert done.returncode == 1
    assert (
        done.stderr
        == "keystead: epoch 1, entry 2: altered: the next entry refers to other bytes than these\n"
    )
    assert run(*VERIFY).returncode == 2
    assert run("ledger").returncode == 2
    assert "exit codes:" in run(*VERIFY, "--help").stdout


def test_json(run, path):
    log = Log.of(5)
    good = json.loads(run(*VERIFY, str(log.write(path)), "--json").stdout)
    assert (good["result"], good["size"], good["pinned"], good["openings"]) == ("good", 5, False, 8)
    assert good["signers"][0]["vkey"] == vkey(log.origin)
    del log.leaves[3]
    bad = run(*VERIFY, str(log.write(path, checkpoint=Log.of(5).checkpoint())), "--json")
    said = json.loads(bad.stdout)
    assert (bad.returncode, said["result"], said["index"], said["fault"]) == (1, "tampered", 3, "dropped")


def test_fetched_from_the_portal_and_checked(run, cast, reader, path, tmp_path):
    folder = tmp_path / "kept"
    arguments = (*FETCH, "--keep", str(folder), "--bundle", str(path))
    first = run(*arguments, KEYSTEAD_KEY=reader.secret)
    assert first.returncode == 0, first.stderr
    assert "trusted from now on" in first.stdout
    assert "are what was sealed" in first.stdout
    calls.key(cast.acme, cast.alice)
    bundles.sign(cast.acme.id)
    second = run(*arguments, KEYSTEAD_KEY=reader.secret)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("continues the checkpoint of ") >= 2
    checkpoints = sorted(folder.glob("1-*.checkpoint"))
    assert len(checkpoints) == 2

    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    assert run(*VERIFY, str(path), "--checkpoint", str(checkpoints[0])).returncode == 0
    lines = members["entries.jsonl"].splitlines(keepends=True)
    lines[2] = lines[2].replace(cast.alice.id[:-1].encode(), cast.alice.id[:-2].encode() + b"7", 1)
    done = run(*VERIFY, str(offline.write(path, members | {"entries.jsonl": b"".join(lines)})))
    assert (done.returncode, "entry 2: altered" in done.stderr) == (1, True), done.stderr


def test_a_portal_that_took_something_back(run, reader, faulty, tmp_path):
    folder, log = tmp_path / "kept", Log.of(5)
    text = {"content-type": "text/plain; charset=utf-8"}
    for size, code in ((5, 0), (5, 0), (4, 4)):
        faulty.answers(
            Planned(body=log.checkpoint(size).encode(), headers=text),
            Planned(body=f"{vkey(log.origin)}\n".encode(), headers=text),
        )
        done = run(*FETCH, "--keep", str(folder), KEYSTEAD_URL=faulty.url)
        assert done.returncode == code, done.stderr
    assert "does not continue" in done.stderr
    assert len(list(folder.glob("inconsistent-*"))) == 1


def test_a_key_that_may_not_read_the_log(run, presented, tmp_path):
    done = run(*FETCH, "--keep", str(tmp_path / "kept"), KEYSTEAD_KEY=presented.secret)
    assert (done.returncode, done.stdout) == (5, "")
    assert not (tmp_path / "kept").exists()


def test_a_proof_from_the_portal(run, cast, reader, server, tmp_path):
    from keystead import Keystead

    with Keystead(server.url, reader.secret) as client:
        proof, leaf, keys = client.log.proof(2), client.log.get(2).leaf, client.log.verifier_keys()
    (tmp_path / "p").write_text(proof)
    (tmp_path / "l").write_text(leaf)
    pinned = [argument for key in keys for argument in ("--vkey", key)]
    arguments = (*PROOF, str(tmp_path / "p"), "--entry")
    done = run(*arguments, str(tmp_path / "l"), *pinned)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("entry 2 of ")
    assert run(*arguments, "-", *pinned, given=leaf + "\n").returncode == 0
    assert json.loads(run(*arguments, "-", *pinned, "--json", given=leaf).stdout)["index"] == 2
    assert run(*arguments, "-", *pinned, given=leaf.replace("usr_", "usr_x", 1)).returncode == 1
    assert run(*arguments, "-", *pinned, given=leaf + "\n\n").returncode == 1
    assert run(*arguments, "-", *pinned, given="x" * 20_000).returncode == 2
    assert run(*arguments, "-", given=leaf).returncode == 3
    assert run(*arguments, "-", "--vkey", vkey("witness.example/w"), given=leaf).returncode == 3
