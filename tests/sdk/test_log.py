"""The security log over the client, against the real portal, and checked with the package's own verifier."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import keystead
import pytest
from keystead import AsyncKeystead, Keystead
from keystead.ledger import verify_bundle, verify_proof

from audit import note, tree
from tests import builders, bundles
from tests.api import calls
from tests.sdk.conftest import KEY
from tests.sdk.faulty import FaultyPortal, Planned


@pytest.fixture
def reader(cast):
    made = calls.key(cast.acme, cast.alice, scopes=["audit:read"])
    bundles.sign(cast.acme.id)
    return made


@pytest.fixture
def log(server, reader):
    with Keystead(server.url, reader.secret) as client:
        yield client.log


def test_entries(cast, log):
    key = calls.key(cast.acme, cast.bob).key
    (entry,) = log.entries(target=key.id, since=datetime.now(UTC) - timedelta(hours=1))
    assert (entry.act, entry.actor) == ("key.created", cast.bob.id)
    assert entry.personal["email"] == cast.bob.email
    assert cast.bob.email not in repr(entry)
    assert entry in list(log.entries(action="key.*", actor=cast.bob.id, page_size=1))
    assert not list(log.entries(until="2020-01-01T00:00:00Z"))
    assert log.get(entry.index).leaf.startswith("{")


def test_a_proof_is_checked_with_what_was_noted(log):
    vkeys = log.verifier_keys()
    entry = log.get(4)
    found = verify_proof(log.proof(4).encode(), entry.leaf.encode(), vkeys=vkeys)
    assert (found.index, found.members["act"]) == (4, entry.act)
    assert log.proof(4, epoch=1) == log.proof(4)


def test_checkpoints_and_consistency(cast, log):
    older = bundles.sign(cast.acme.id, 3)
    assert log.checkpoint(size=3) == older
    keys = [note.VerifierKey.parse(each) for each in log.verifier_keys()]
    old, new = (note.open_checkpoint(each, keys[0].name, keys) for each in (older, log.checkpoint()))
    hashes = log.consistency(3, new.size)
    tree.verify_consistency(3, new.size, old.root, new.root, hashes)


def test_a_bundle_is_saved_whole(cast, log, tmp_path):
    bundles.sign(cast.acme.id, 3)
    path = tmp_path / "ledger.zip"
    path.write_text("older")
    with builders.gains(cast.acme.id, "export.made"):
        size = log.save_bundle(path, old_size=3)
    assert (size, os.listdir(tmp_path)) == (path.stat().st_size, ["ledger.zip"])
    assert path.stat().st_mode & 0o777 == 0o600
    found = verify_bundle(path, vkeys=log.verifier_keys())
    assert [each.size for each in found.older] == [3]


def test_refusals(log, client, tmp_path):
    with pytest.raises(keystead.PermissionDenied):
        list(client.log.entries())
    with pytest.raises(keystead.NotFound):
        log.get(999_999)
    with pytest.raises(keystead.NotFound):
        log.save_bundle(tmp_path / "ledger.zip", old_size=999_999)
    with pytest.raises(keystead.Conflict) as caught:
        log.consistency(1, 999_999)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("not_signed", 10)
    with pytest.raises(keystead.Invalid):
        list(log.entries(action="key.imagined"))
    for index in (-1, "1", True):
        with pytest.raises(ValueError, match="whole number"):
            log.get(index)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No such file"):
        log.save_bundle(tmp_path / "nowhere" / "ledger.zip")


def test_awaited(server, reader, tmp_path):
    async def run():
        async with AsyncKeystead(server.url, reader.secret) as client:
            log = client.log
            entries = [each async for each in log.entries(page_size=2)]
            entry, text = await log.get(0), await log.proof(0)
            vkeys = await log.verifier_keys()
            assert (await log.checkpoint()).startswith(vkeys[0].partition("+")[0])
            await log.save_bundle(tmp_path / "ledger.zip")
            with pytest.raises(keystead.NotFound):
                await log.save_bundle(tmp_path / "other.zip", old_size=999_999)
            return entries, entry, text, vkeys

    entries, entry, text, vkeys = asyncio.run(run())
    assert entries[-1].index == 0
    assert verify_proof(text.encode(), entry.leaf.encode(), vkeys=vkeys).checkpoint.size
    assert verify_bundle(tmp_path / "ledger.zip", vkeys=vkeys).is_pinned
    assert os.listdir(tmp_path) == ["ledger.zip"]


def test_a_bundle_that_breaks_off_is_none(tmp_path):
    """An older bundle stays, and nothing half-written is left."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nPK\x03\x04\r\n"
    (tmp_path / "ledger.zip").write_text("older")
    with FaultyPortal() as portal, Keystead(portal.url, KEY) as client:
        portal.answers(Planned(raw=head))
        with pytest.raises(keystead.Unavailable):
            client.log.save_bundle(tmp_path / "ledger.zip")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("ledger.zip", "older")]
