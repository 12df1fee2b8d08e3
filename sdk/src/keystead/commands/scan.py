"""`keystead scan`: secrets in files, for pre-commit hooks, CI, and whoever just found one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from keystead.client import Keystead
from keystead.commands.own import client_with
from keystead.errors import ConfigurationError, KeysteadError
from keystead.scanning import MAX_SIZE, Choice, Finding, Scanner, Skipped
from keystead.secret import DEFAULT_BRAND, Secret, redact
from keystead.settings import NO_KEY
from keystead.tables import plain

NONE, FOUND, FAILED = range(3)
_MEGABYTE = 1024 * 1024
_MOST = 2**62


def add_scan(command: argparse.ArgumentParser) -> None:
    """Add what `keystead scan` takes."""
    command.add_argument(
        "path", nargs="*", metavar="PATH", help="files, folders, or - for the standard input"
    )
    command.add_argument("--staged", action="store_true", help="what is about to be committed to git instead")
    command.add_argument(
        "--brand",
        action="append",
        help=f"of the portal's keys, {DEFAULT_BRAND} unless given; may be repeated",
    )
    command.add_argument("--binary", action="store_true", help="look into binary files too")
    command.add_argument(
        "--max-size",
        type=_bytes,
        default=MAX_SIZE,
        metavar="MB",
        help=f"skip larger files; {MAX_SIZE // _MEGABYTE} unless given",
    )
    command.add_argument(
        "--burn", action="store_true", help="have the portal revoke what is found, at once and for good"
    )
    command.add_argument("--yes", action="store_true", help="don't ask before that")


def _bytes(megabytes: str) -> int:
    size = float(megabytes) * _MEGABYTE
    if not 0 < size < _MOST:
        raise ValueError
    return int(size)


def scan(options: argparse.Namespace) -> int:
    """Find secrets in files, offline; shows where, and never what."""
    if not options.path and not options.staged:
        raise ConfigurationError("Say where: a file, a folder, - for the standard input, or --staged.")
    skipped = Skipped()
    found = list(_findings(options, skipped))
    _show(options, found, skipped)
    if found and options.burn:
        _burn(options, list(dict.fromkeys(each.secret for each in found)))
    if found:
        return FOUND
    return FAILED if skipped.errors else NONE


def _findings(options: argparse.Namespace, skipped: Skipped) -> Iterable[Finding]:
    scanner = Scanner(options.brand or (DEFAULT_BRAND,))
    choice = Choice(options.max_size, options.binary)
    files = choice.staged(options.path, skipped) if options.staged else choice.read(options.path, skipped)
    for path, content in files:
        yield from scanner.findings(path, content)


def _show(options: argparse.Namespace, found: Sequence[Finding], skipped: Skipped) -> None:
    if options.json:
        # A file may be named after what is in it.
        rows = [
            {"path": redact(each.path), "line": each.line, "column": each.column, "hint": each.hint}
            for each in found
        ]
        said = {**asdict(skipped), "errors": list(map(redact, skipped.errors))}
        sys.stdout.write(f"{json.dumps({'findings': rows, 'skipped': said}, indent=2)}\n")
        return
    for each in found:
        sys.stdout.write(plain(f"{each.path}:{each.line}:{each.column}: {each.hint}") + "\n")
    for error in skipped.errors:
        sys.stderr.write(f"keystead: {plain(error)}\n")
    if skipped.large:
        sys.stderr.write(
            f"keystead: {skipped.large} files are larger than --max-size, and were not looked at.\n"
        )


def _burn(options: argparse.Namespace, secrets: Sequence[Secret]) -> None:
    """Tell the portal of each secret, by its possession alone; the portal never says what it was.

    Raises:
        KeysteadError: of the last that was not heard, when all were tried.
    """
    _confirm(options, len(secrets))
    with client_with(options, NO_KEY, max_wait=60) as client:
        failures = [error for secret in secrets if (error := _burned(client, secret))]
    if failures:
        raise failures[-1]


def _burned(client: Keystead, secret: Secret) -> KeysteadError | None:
    try:
        client.keys.burn(secret)
    except KeysteadError as error:
        sys.stderr.write(f"{plain(secret)}: not burned.\n")
        return error
    sys.stderr.write(f"{plain(secret)}: the portal was told; it is refused from now on.\n")
    return None


def _confirm(options: argparse.Namespace, count: int) -> None:
    if options.yes:
        return
    answer = ""
    # The standard input may be what was scanned.
    with suppress(OSError), Path("/dev/tty").open(encoding="utf-8") as terminal:
        sys.stderr.write(f"Revoke {count} key{'s' * (count > 1)} for good? Type yes: ")
        sys.stderr.flush()
        answer = terminal.readline()
    if answer.strip().lower() != "yes":
        raise ConfigurationError("Nothing was burned: give --yes to do it without being asked.")
