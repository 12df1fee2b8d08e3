"""`keystead recipient` and `keystead open`: new secrets that the portal sealed to a machine, and nobody has seen."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keystead import sealed
from keystead.commands.files import add_file, connecting, tell, waiting, way_of
from keystead.commands.own import own_client
from keystead.errors import ConfigurationError
from keystead.journal import Journal
from keystead.models import SealedSecret
from keystead.place import Place, create_private, mode_of
from keystead.reading import read
from keystead.swap import Swap
from keystead.webhooks import TOLERANCE_SECONDS, open_event

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

DONE: Final = 0
STARTED: Final = "rotation.started"
_SEALED: Final = "sealed"


def add_recipient(command: argparse.ArgumentParser) -> None:
    """Add what `keystead recipient` takes."""
    command.add_argument("act", choices=("new",), help="draw a key pair")
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="where the private key goes, mode 600"
    )


def add_open(command: argparse.ArgumentParser) -> None:
    """Add what `keystead open` takes."""
    command.add_argument("--private-key", type=Path, required=True, metavar="FILE", help="the recipient's")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--rotation", metavar="ROT_ID", help="ask the portal for it, with your own key")
    source.add_argument("--event", metavar="FILE", help="the body of a webhook; - for the standard input")
    event = command.add_argument_group("the webhook's signature")
    event.add_argument("--webhook-secret-file", type=Path, metavar="FILE", help="the endpoint's, whsec_…")
    event.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="webhook-id, -timestamp and -signature",
    )
    event.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE_SECONDS,
        metavar="SECONDS",
        help=f"how old the webhook may be; {TOLERANCE_SECONDS} unless given",
    )
    file = command.add_argument_group("where it goes; the standard output unless given")
    file.add_argument("--write-env", type=Path, metavar="FILE", help="the file with the key")
    file.add_argument(
        "--complete", action="store_true", help="retire the old secret; otherwise its grace does"
    )
    add_file(command)


def recipient(options: argparse.Namespace) -> int:
    """Draw a key pair that new secrets can be sealed to, and print its public half."""
    pair = sealed.new_recipient()
    create_private(options.out, pair.private_pem)
    sys.stderr.write(f"Register this at the portal; its fingerprint is {pair.fingerprint}.\n")
    sys.stdout.write(f"{pair.public_key}\n")
    return DONE


def open_(options: argparse.Namespace) -> int:
    """Open a new secret that was sealed to this machine, and write it into a file."""
    private = sealed.load_recipient(options.private_key.read_bytes())
    if options.write_env is not None:
        return _write(options, private)
    rotation_id, found = _fetched(options) if options.rotation else _delivered(options)
    sys.stdout.write(f"{sealed.open_sealed(private, rotation_id, found.ciphertext)}\n")
    return DONE


def _write(options: argparse.Namespace, private: X25519PrivateKey) -> int:
    """Open it into a file. It is handed out once: so it is noted, still sealed, before anything is done with it."""
    mode = mode_of(options.file_mode)
    with Place(options.write_env, mode=mode) as place, Journal(place) as journal:
        place.rehearse()
        rotation_id, found = _noted(options, journal) or (
            _fetched(options) if options.rotation else _delivered(options)
        )
        journal.note(**{_SEALED: {"rotation": rotation_id, **asdict(found)}})
        secret = sealed.open_sealed(private, rotation_id, found.ciphertext)
        swap = Swap(place, journal, way_of(options), connecting(options), waiting())
        done = swap.take(secret, rotation_id if options.complete else "")
        journal.forget(_SEALED)
        tell(options, place, done)
    return DONE


def _noted(options: argparse.Namespace, journal: Journal) -> tuple[str, SealedSecret] | None:
    """Return what an earlier run was handed and did not finish with."""
    noted = journal.get(_SEALED)
    if not options.rotation or not isinstance(noted, dict) or noted.get("rotation") != options.rotation:
        return None
    return options.rotation, read(SealedSecret, noted)


def _fetched(options: argparse.Namespace) -> tuple[str, SealedSecret]:
    with own_client(options) as client:
        rotation = client.rotations.get(options.rotation)
    if rotation.sealed_secret is None:
        raise ConfigurationError("This rotation has no sealed secret, or has it no longer.")
    return rotation.id, rotation.sealed_secret


def _delivered(options: argparse.Namespace) -> tuple[str, SealedSecret]:
    """Return what a webhook carries. Unsigned it is not opened: anybody can seal to a public key."""
    if options.webhook_secret_file is None:
        raise ConfigurationError("Give --webhook-secret-file: only a signed webhook is opened.")
    body = sys.stdin.buffer.read() if options.event == "-" else Path(options.event).read_bytes()
    headers = {
        name.strip(): value.strip() for name, _, value in (each.partition(":") for each in options.header)
    }
    secret = options.webhook_secret_file.read_text(encoding="utf-8")
    event = open_event(secret, headers, body, tolerance_seconds=options.tolerance)
    rotation_id, found = event.data.get("rotation"), event.data.get("sealed_secret")
    if event.type != STARTED or not isinstance(rotation_id, str) or found is None:
        raise ConfigurationError(f"This webhook carries no sealed secret: it is a {event.type}.")
    return rotation_id, read(SealedSecret, found)
