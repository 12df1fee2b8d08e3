"""A notary for the tests, with the vectors' key 1, which is the deployment's: it signs in this process."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.utils import timezone

from audit.notary import rounds
from audit.notary.alarms import Alarms
from audit.notary.signing import Signers
from audit.notary.state import State, load

KEY = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())


@dataclass(frozen=True, slots=True)
class Notary:
    """One on its own folder. It does not lock the folder: a test may have as many as it wants."""

    folder: Path
    rounds: rounds.Rounds

    def round(self) -> int:
        """Sign and publish, through the notary's login, everything that grew; return how many logs were."""
        signed = 0
        while now_signed := self.rounds.run(timezone.now()):
            signed += now_signed
        return signed


def new(folder: Path) -> Notary:
    """Return a notary with the test key in `folder`, which goes on where an earlier one in that folder ended."""
    private = folder / "private.pem"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not private.exists():
        private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "public.pem").write_bytes(public)
    made = rounds.Rounds(folder, Signers.read(folder), load(folder) or State.new(), Alarms())
    made.pause = timedelta(0)
    return Notary(folder, made)
