"""`keystead ledger`: the security log checked without the portal."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from keystead.commands.own import own_client
from keystead.errors import ApiError, ConfigurationError, Unavailable
from keystead.ledger.entry import MAX_LEAF_BYTES
from keystead.ledger.errors import LedgerError, LedgerTampered, NoteUntrusted
from keystead.ledger.keeping import Folder, Kept
from keystead.ledger.note import Checkpoint
from keystead.ledger.proof import MAX_PROOF_BYTES, Proof, verify_proof
from keystead.ledger.verifying import Verified, verify_bundle
from keystead.tables import plain

GOOD: Final = 0
UNREACHABLE: Final = 5
_MAX_NOTE: Final = 65_536
_PROGRESS: Final = 50_000
_CODES: Final = """\
exit codes:
  0  good
  1  tampered: which entry, and how
  2  malformed: no bundle, note, proof or key; or the extra keystead[crypto] is missing
  3  no signature of a trusted key
  4  not a continuation of an older checkpoint
  5  fetch: the portal is out of reach, or refused
"""


def add_ledger(command: argparse.ArgumentParser) -> None:
    """Add what `keystead ledger` takes."""
    command.epilog = _CODES
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    acts = command.add_subparsers(required=True, metavar="ACT", parser_class=type(command))
    _add_verify(_act(acts, "verify", verify))
    _add_proof(_act(acts, "proof", proof))
    _add_fetch(_act(acts, "fetch", fetch))


def ledger(options: argparse.Namespace) -> int:
    """Check a ledger, or that an entry stands in it, offline; or fetch one."""
    try:
        code: int = options.act(options)
        return code
    except LedgerError as error:
        if options.json:
            _print(_of_error(error))
        sys.stderr.write(f"keystead: {plain(str(error))}\n")
        return error.exit_code


def verify(options: argparse.Namespace) -> int:
    """Check a bundle: its signatures, every entry, the root, and each sealed value that it holds."""
    found = verify_bundle(
        options.bundle,
        vkeys=options.vkey,
        older=[_read(path, _MAX_NOTE) for path in options.checkpoint],
        progress=_progress(),
    )
    if options.json:
        _print(_of_bundle(found))
    else:
        sys.stdout.write("\n".join(_lines(found)) + "\n")
    return GOOD


def proof(options: argparse.Namespace) -> int:
    """Check that an entry stands in the log of a signed checkpoint."""
    if not options.vkey:
        raise NoteUntrusted("no key is trusted: give the log's with --vkey")
    # A line that was cut out of entries.jsonl ends in a newline, an entry never does.
    leaf = _read(options.entry, MAX_LEAF_BYTES + 1).removesuffix(b"\n")
    found = verify_proof(_read(options.proof, MAX_PROOF_BYTES), leaf, vkeys=options.vkey)
    if options.json:
        _print(_of_proof(found))
    else:
        sys.stdout.write(
            f"entry {found.index} of {found.checkpoint.origin}: {found.members['act']} by {found.members['actor']}, "
            f"{found.members['t']}\n{_signed(found.checkpoint)}\n"
        )
    return GOOD


def fetch(options: argparse.Namespace) -> int:
    """Fetch the newest checkpoint, prove that it continues the ones fetched before, and keep it beside them."""
    folder = Folder(options.keep)
    try:
        kept = _fetch(folder, options)
    except (ApiError, Unavailable) as error:
        sys.stderr.write(f"keystead: {plain(str(error))}\n")
        return UNREACHABLE
    found = _fetched_bundle(folder, kept, options) if options.bundle else None
    if options.json:
        continued = {"before": kept.before.size if kept.before else None, "pinned": kept.is_pinned}
        checked = {"bundle": _of_bundle(found)} if found else {}
        _print({"result": "good", **_of_checkpoint(kept.checkpoint), **continued, **checked})
    else:
        sys.stdout.write("\n".join([*_lines_of_kept(kept), *(_lines(found) if found else ())]) + "\n")
    return GOOD


def _fetched_bundle(folder: Folder, kept: Kept, options: argparse.Namespace) -> Verified:
    older = folder.notes(kept.checkpoint.epoch)
    vkeys = map(str, folder.keys())
    return verify_bundle(options.bundle, vkeys=vkeys, older=older, progress=_progress())


def _fetch(folder: Folder, options: argparse.Namespace) -> Kept:
    """Return what the newest checkpoint has come to, and save the bundle where one was asked for."""
    with own_client(options) as client:
        log = client.log
        note, announced = log.checkpoint(), log.verifier_keys()
        kept = folder.keep(note.encode(), announced, log.consistency, vkeys=options.vkey)
        if options.bundle:
            log.save_bundle(options.bundle)
        return kept


def _act(acts: Any, name: str, run: Callable[..., int]) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = acts.add_parser(
        name,
        help=run.__doc__,
        description=run.__doc__,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(act=run)
    command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    return command


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="the zip that the portal exports")
    _add_vkey(command, "the bundle's own unless given")
    command.add_argument(
        "--checkpoint",
        action="append",
        type=Path,
        default=[],
        metavar="OLD",
        help="an older checkpoint that must be continued; may be repeated",
    )


def _add_proof(command: argparse.ArgumentParser) -> None:
    command.add_argument("proof", type=Path, metavar="FILE", help="the .tlog-proof")
    command.add_argument(
        "--entry",
        type=Path,
        required=True,
        metavar="LEAF",
        help="the entry's bytes; - for the standard input",
    )
    _add_vkey(command, "")


def _add_fetch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keep", type=Path, required=True, metavar="FOLDER", help="where the checkpoints are kept"
    )
    command.add_argument(
        "--bundle", type=Path, metavar="FILE", help="save the whole ledger too, and check it"
    )
    _add_vkey(command, "those kept from before unless given, and the portal's the first time")
    for name, said in (("--url", "the portal's address"), ("--key-file", "where your own key is")):
        kind = Path if name == "--key-file" else str
        command.add_argument(name, type=kind, default=argparse.SUPPRESS, help=said)


def _add_vkey(command: argparse.ArgumentParser, otherwise: str) -> None:
    command.add_argument(
        "--vkey",
        action="append",
        default=[],
        help="; ".join(filter(None, ("a verifier key to trust, as the portal publishes it", otherwise)))
        + "; may be repeated",
    )


def _read(path: Path, most: int) -> bytes:
    """Return a short file."""
    if str(path) == "-":
        content = sys.stdin.buffer.read(most + 1)
    else:
        with path.open("rb") as file:
            content = file.read(most + 1)
    if len(content) > most:
        raise ConfigurationError(f"{path} has more than {most} bytes.")
    return content


def _progress() -> Callable[[int], None]:
    """Return what tells a person at a terminal how far it is."""
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        if count - told >= _PROGRESS and sys.stderr.isatty():
            told = count
            # What comes next is written over it.
            sys.stderr.write(f"{count:,} entries …\r")
            sys.stderr.flush()

    return tell


def _lines(found: Verified) -> list[str]:
    checkpoint = found.checkpoint
    lines = [
        f"{checkpoint.organization_id}  epoch {checkpoint.epoch}  size {checkpoint.size}  "
        f"root {_base64(checkpoint.root)}",
        _signed(checkpoint),
    ]
    if not found.is_pinned:
        lines.append(
            "trusted, because the bundle says so: compare the key with the one you were given, or pin it with --vkey"
        )
    lines += [f"continues the checkpoint of {old.size} entries" for old in found.older]
    lines.append(f"sealed values: {found.opened} are what was sealed, {found.erased} were erased")
    return lines


def _lines_of_kept(kept: Kept) -> list[str]:
    checkpoint = kept.checkpoint
    lines = [
        f"{checkpoint.organization_id}  epoch {checkpoint.epoch}  size {checkpoint.size}  "
        f"root {_base64(checkpoint.root)}",
        _signed(checkpoint),
    ]
    if not kept.is_pinned:
        lines.append(
            "trusted from now on, because the portal says so: compare the key with the one you were given"
        )
    if kept.before is not None:
        lines.append(f"continues the checkpoint of {kept.before.size} entries")
    return lines


def _signed(checkpoint: Checkpoint) -> str:
    return "\n".join(f"signed by {key}" for key in checkpoint.signers)


def _of_bundle(found: Verified) -> dict[str, Any]:
    return {
        "result": "good",
        **_of_checkpoint(found.checkpoint),
        "pinned": found.is_pinned,
        "continues": [old.size for old in found.older],
        "openings": found.opened,
        "erased": found.erased,
    }


def _of_proof(found: Proof) -> dict[str, Any]:
    return {"result": "good", **_of_checkpoint(found.checkpoint), "index": found.index}


def _of_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "log": checkpoint.origin,
        "epoch": checkpoint.epoch,
        "size": checkpoint.size,
        "root": _base64(checkpoint.root),
        "signers": [{"id": key.id.hex(), "vkey": str(key)} for key in checkpoint.signers],
    }


def _of_error(error: LedgerError) -> dict[str, Any]:
    said = {"result": error.name, "message": plain(str(error))}
    if isinstance(error, LedgerTampered):
        place = {"epoch": error.epoch, "index": error.index, "fault": error.fault}
        return {**said, **place, "what": plain(error.what)}
    return said


def _print(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values, indent=2) + "\n")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
