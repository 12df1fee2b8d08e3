"""What a secret-scanning partner needs of this deployment, and a sample of what it would send (docs/leaks.md)."""

import argparse
import base64
import json
import os
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from keys.leaks import scanning

PATH: Final = "/v1/secret-scanning/github"
PLACE: Final = "https://github.com/octocat/hello-world/blob/main/.env#L1"
IDENTIFIER: Final = "sample"
PRIVATE_FILE: Final = "sample.pem"


class Command(BaseCommand):
    help = "`pattern` prints the regular expression for a partner; `sample` reports a secret as the partner would."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        acts.add_parser("pattern", help="the regular expression that finds this deployment's secrets")
        sample = acts.add_parser(
            "sample", help="report the secret on standard input as GitHub would: it is revoked"
        )
        sample.add_argument("--url", default=PLACE, help="where it was found")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        if options["act"] == "pattern":
            self.stdout.write(scanning.pattern())
            return
        secret = sys.stdin.readline().strip()
        if not secret:
            raise CommandError("Give the secret on standard input.")
        found = {"token": secret, "type": "keystead_api_key", "url": options["url"], "source": "content"}
        self.stdout.write(_sent(json.dumps([found]).encode()))


def _sent(body: bytes) -> str:
    """Send a signed message to this deployment; return the label of its one finding."""
    signature = base64.b64encode(_key().sign(body, ec.ECDSA(hashes.SHA256()))).decode()
    headers = {
        "Content-Type": "application/json",
        "Github-Public-Key-Identifier": IDENTIFIER,
        "Github-Public-Key-Signature": signature,
    }
    try:
        with httpx.Client(trust_env=False) as client:
            answer = client.post(settings.KEYSTEAD_BASE_URL + PATH, content=body, headers=headers)
    except httpx.HTTPError as error:
        raise CommandError(
            f"{settings.KEYSTEAD_BASE_URL} does not answer ({type(error).__name__})."
        ) from None
    if answer.status_code != HTTPStatus.OK:
        raise CommandError(f"It answered {answer.status_code}: {answer.json().get('detail', '')}")
    return str(answer.json()[0]["label"])


def _key() -> ec.EllipticCurvePrivateKey:
    """Return the key of a partner that is none, made where there is none yet: beside the file that is believed.

    Raises:
        CommandError: this deployment believes somebody real.
    """
    public = Path(settings.SECRET_SCANNING_KEYS)
    if public.parent != settings.KEYSTEAD_HOME.absolute() / "secret-scanning":
        raise CommandError(
            "A sample is for the demo: this deployment believes the keys of a real partner, or none."
        )
    private = public.with_name(PRIVATE_FILE)
    if not private.exists():
        _make(private, public)
    key = load_pem_private_key(private.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CommandError(f"{private} holds no key on an elliptic curve.")
    return key


def _make(private: Path, public: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    entry = {"key_identifier": IDENTIFIER, "key": pem, "is_current": True}
    public.write_text(json.dumps({"public_keys": [entry]}))
