"""A scanning partner with a key pair of its own, whose messages the portal believes."""

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.api import calls

PATH = "/secret-scanning/github"
PLACE = "https://github.com/octocat/hello/blob/main/.env#L3"


class Partner:
    """Signs what it sends as GitHub does."""

    def __init__(self, curve: ec.EllipticCurve | None = None, identifier: str = "partner-1") -> None:
        self.key = ec.generate_private_key(curve or ec.SECP256R1())
        self.identifier = identifier

    @property
    def pem(self) -> str:
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, body: bytes) -> str:
        return base64.b64encode(self.key.sign(body, ec.ECDSA(hashes.SHA256()))).decode()

    def send(
        self, found: Any = None, *, raw: bytes | None = None, signed: bytes | None = None, **headers: str
    ):
        """Post findings, or a raw body, with a signature over what is sent or over other bytes."""
        body = json.dumps(found).encode() if raw is None else raw
        given = {
            "Github_Public_Key_Identifier": self.identifier,
            "Github_Public_Key_Signature": self.sign(body if signed is None else signed),
            **headers,
        }
        return calls.Api(None).send("POST", PATH, raw=body, **given)


def document(*keys: tuple[str, str]) -> str:
    """Return public keys in GitHub's format."""
    return json.dumps(
        {"public_keys": [{"key_identifier": name, "key": pem, "is_current": True} for name, pem in keys]}
    )


def believed(settings: Any, folder: Path, *partners: Partner) -> None:
    """Let the portal believe these partners and nobody else."""
    file = folder / "partner_keys.json"
    file.write_text(document(*[(partner.identifier, partner.pem) for partner in partners]))
    settings.SECRET_SCANNING_KEYS = str(file)


def found(secret: str, url: str = PLACE) -> dict[str, str]:
    """Return one finding as GitHub sends it."""
    return {"token": secret, "type": "keystead_api_key", "url": url, "source": "content"}
