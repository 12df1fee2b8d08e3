"""The note that a new epoch carries, from the notary's folder."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from audit import note
from audit.entry import MAX_STRING_BYTES
from audit.notary import state
from audit.signatures import last_notes
from audit.tree import Point


def test_it_fits_into_an_entry_however_many_keys_there_were(tmp_path):
    origin = "ledger.example/ledger/org_".ljust(200, "a")
    for number in range(1, 31):
        key = Ed25519PrivateKey.generate()
        name = "private.pem" if number == 1 else f"private-{number}.pem"
        (tmp_path / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (tmp_path / name).chmod(0o600)
    state.save(tmp_path, state.State.new().after(state.signed(origin, Point(2**53, b"\x01" * 32))))
    with last_notes.held(tmp_path) as notes:
        (last,) = notes.values()
    assert len(last.note.encode()) <= MAX_STRING_BYTES
    assert note.open_checkpoint(last.note, origin, [note.VerifierKey.of(origin, key)]).size == 2**53
