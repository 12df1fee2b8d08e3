"""`keystead`: verify, create, list, rotate, revoke and count keys from a terminal; keep a file's fresh; find leaks.

The portal's address is KEYSTEAD_URL or --url; the key to call it with is KEYSTEAD_KEY, or in the file that
KEYSTEAD_KEY_FILE or --key-file names. Neither it nor a secret to verify is ever an argument: every user of the machine
can read those. The one secret that is printed is the one that `create` or `rotate` just made.

exit codes:
  0  done; with verify: the key is valid
  1  verify: the key is refused
  2  the command line is wrong, or a setting is missing
  3  the key in KEYSTEAD_KEY is not valid, or may not do that
  4  the portal refused: nothing there, a name taken, a field wrong
  5  the portal is out of reach or too busy
  6  rotate --write-env, agent: the secret in the file was replaced by one that nobody here knows; a person must help
  7  rotate --write-env, agent: half done and safe, or another is at it; the next run goes on
scan: 0 nothing found, 1 found, 2 something could not be read.
ledger: 0 good, 1 tampered, 2 malformed, 3 no trusted signature, 4 not a continuation, 5 the portal did not help.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

from keystead.client import Keystead
from keystead.commands.files import add_agent, add_file, agent, rotate_file
from keystead.commands.ledger import add_ledger, ledger
from keystead.commands.own import own_client
from keystead.commands.scan import add_scan, scan
from keystead.commands.sealing import add_open, add_recipient, open_, recipient
from keystead.errors import (
    ApiError,
    AuthenticationError,
    Busy,
    ConfigurationError,
    KeysteadError,
    PermissionDenied,
    SuccessorLost,
    Unavailable,
    Unfinished,
)
from keystead.models import CreatedKey, Verdict
from keystead.secret import redact
from keystead.tables import aligned, plain
from keystead.usage import KeyUsage, UsageReport
from keystead.version import __version__

VALID, REFUSED, USAGE, DENIED, FAILED, UNREACHABLE, LOST, UNFINISHED = range(8)
REASONS: Final = ("leaked", "unused", "rotated_out", "owner_left", "incident", "other")
KINDS: Final = ("ingestion", "control_plane", "service")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints repeat no secret that was typed in the wrong place."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with 2."""
        super().error(redact(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = _run(options)
        return code
    except KeysteadError as error:
        return _complain(plain(str(error)), _code(error))
    except (OSError, ValueError) as error:
        return _complain(plain(str(error)), USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", FAILED)


def _run(options: argparse.Namespace) -> int:
    code: int
    if options.alone or (options.run is rotate and options.write_env):
        code = (rotate_file if options.run is rotate else options.run)(options)
        return code
    with own_client(options) as client:
        code = options.run(client, options)
        return code


def verify(client: Keystead, options: argparse.Namespace) -> int:
    """Judge the secret in a file or on the standard input."""
    verdict = client.keys.verify(
        _read_secret(options.secret_file),
        scopes=options.scope or options.query,
        environment=options.environment,
        project=options.project,
        entitlement=options.entitlement,
        ip=options.ip,
        cost=options.cost,
    )
    _show(options, verdict, _verdict_lines(verdict))
    return VALID if verdict else REFUSED


def create(client: Keystead, options: argparse.Namespace) -> int:
    """Create a key and print its secret, once."""
    created = client.keys.create(
        name=options.name,
        kind=options.kind,
        environment=options.environment,
        scopes=options.scope,
        org_id=options.organization,
        project=options.project,
        description=options.description,
        owner={"type": "team", "name": options.team} if options.team else None,
        tags=_tags(options.tag) or None,
        allowed_ips=options.allow_ip,
        expires_in_days=options.expires_in_days,
    )
    return _show_made(options, created)


def list_keys(client: Keystead, options: argparse.Namespace) -> int:
    """List keys in a table."""
    found = client.keys.list(
        org_id=options.organization,
        status=options.status,
        kind=options.kind,
        environment=options.environment,
        project=options.project,
        scope=options.scope,
        tags=_tags(options.tag),
        q=options.search,
        sort=options.sort,
    )
    keys = list(islice(found, options.limit))
    header = ("ID", "NAME", "KIND", "STATUS", "ENVIRONMENT", "HINT", "EXPIRES", "LAST USED")
    rows = [
        (
            key.id,
            key.name,
            key.kind,
            key.status,
            key.environment,
            key.hint,
            _moment(key.expires_at, "never"),
            _moment(key.last_used_at, "never"),
        )
        for key in keys
    ]
    _show(options, keys, aligned(header, rows))
    return VALID


def rotate(client: Keystead, options: argparse.Namespace) -> int:
    """Give a key a new secret and print it, once."""
    rotated = client.keys.rotate(
        options.key,
        mode=options.mode,
        grace_seconds=options.grace_seconds,
        version=options.version,
        targets=options.target,
        quiet_seconds=options.quiet_seconds,
        deadline=options.deadline,
    )
    return _show_made(options, rotated)


def revoke(client: Keystead, options: argparse.Namespace) -> int:
    """Revoke a key for good."""
    client.keys.revoke(options.key, reason=options.reason, note=options.note)
    _show(options, {"id": options.key, "status": "revoked"}, f"{options.key} is revoked.")
    return VALID


def usage(client: Keystead, options: argparse.Namespace) -> int:
    """Count calls, of one key or of all."""
    if options.key:
        of_key = client.usage.of_key(options.key, org_id=options.organization)
        _show(options, of_key, _usage_of_key(of_key))
        return VALID
    report = client.usage.get(
        since=options.since,
        until=options.until,
        interval=options.interval,
        group_by=options.group_by,
        org_id=options.organization,
    )
    _show(options, report, _usage_table(report))
    return VALID


def _parser() -> argparse.ArgumentParser:
    about, _, codes = (__doc__ or "").partition("exit codes:")
    shape = argparse.RawDescriptionHelpFormatter
    parser = Parser("keystead", description=about, epilog=f"exit codes:{codes}", formatter_class=shape)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    run: Callable[..., int]
    for name, run, add, alone in (
        ("verify", verify, _add_verify, False),
        ("create", create, _add_create, False),
        ("list", list_keys, _add_list, False),
        ("rotate", rotate, _add_rotate, False),
        ("agent", agent, add_agent, True),
        ("revoke", revoke, _add_revoke, False),
        ("usage", usage, _add_usage, False),
        ("scan", scan, add_scan, True),
        ("recipient", recipient, add_recipient, True),
        ("open", open_, add_open, True),
        ("ledger", ledger, add_ledger, True),
    ):
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        # One that is alone needs no key of ours.
        command.set_defaults(run=run, alone=alone)
        add(command)
        _add_common(command)
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", help="the portal's address; KEYSTEAD_URL unless given")
    command.add_argument("--key-file", type=Path, help="where your own key is; KEYSTEAD_KEY unless given")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--secret-file", type=Path, help="where the secret is; the standard input unless given"
    )
    scopes = command.add_mutually_exclusive_group()
    scopes.add_argument("--scope", action="append", help="that it must have; may be repeated")
    scopes.add_argument("--query", help="of scopes: a:read AND (b:read OR b:*)")
    command.add_argument("--environment")
    command.add_argument("--project")
    command.add_argument("--entitlement")
    command.add_argument("--ip", help="the address that it came from")
    command.add_argument("--cost", type=int, default=0, help="0 (unless given) looks and leaves no trace")


def _add_create(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", required=True)
    command.add_argument("--kind", required=True, choices=KINDS)
    command.add_argument("--environment", required=True)
    command.add_argument("--scope", required=True, action="append", help="may be repeated")
    command.add_argument("--organization", help="the customer's, with an operator's key")
    command.add_argument("--project")
    command.add_argument("--description")
    command.add_argument("--team", help="that owns it")
    command.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    command.add_argument("--allow-ip", action="append", metavar="CIDR", help="may be repeated")
    command.add_argument("--expires-in-days", type=int)


def _add_list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--organization", help="the customer's, with an operator's key")
    command.add_argument("--status", choices=("active", "disabled", "expired", "revoked"))
    command.add_argument("--kind", choices=KINDS)
    command.add_argument("--environment")
    command.add_argument("--project")
    command.add_argument("--scope")
    command.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    command.add_argument("--search", help="a full id, a hint, or the start of a name")
    command.add_argument(
        "--sort", help="created_at, last_used_at, expires_at or name; - before it for falling"
    )
    command.add_argument("--limit", type=int, default=1_000, help="at most so many; 1000 unless given")


def _add_rotate(command: argparse.ArgumentParser) -> None:
    command.add_argument("key", nargs="?", metavar="KEY_ID", help="your own key unless given")
    modes = command.add_mutually_exclusive_group()
    modes.add_argument("--mode", choices=("grace", "staged", "immediate"))
    modes.add_argument("--staged", dest="mode", action="store_const", const="staged", help="--mode staged")
    command.add_argument("--grace-seconds", "--grace", type=int, metavar="SECONDS", help="86400 unless given")
    command.add_argument("--target", action="append", help="of a staged rotation; may be repeated")
    command.add_argument("--quiet-seconds", type=int, help="without the old secret: then a target has moved")
    command.add_argument("--deadline", help="a time such as 2027-01-31T12:00:00Z; then targets are overdue")
    command.add_argument("--version", type=int, help="the newest that you know")
    file = command.add_argument_group("the key in a file")
    file.add_argument(
        "--write-env", type=Path, metavar="FILE", help="rotate the key in this file, and write it there"
    )
    ends = file.add_mutually_exclusive_group()
    ends.add_argument(
        "--complete",
        dest="completes",
        action="store_const",
        const=True,
        help="retire the old secret when the new one works, as --staged does",
    )
    ends.add_argument(
        "--keep-old",
        dest="completes",
        action="store_const",
        const=False,
        help="don't, as with --grace-seconds",
    )
    add_file(command)


def _add_revoke(command: argparse.ArgumentParser) -> None:
    command.add_argument("key", metavar="KEY_ID")
    command.add_argument("--reason", choices=REASONS)
    command.add_argument("--note")


def _add_usage(command: argparse.ArgumentParser) -> None:
    command.add_argument("key", nargs="?", metavar="KEY_ID", help="all keys unless given")
    command.add_argument("--since", help="a time such as 2027-01-31T12:00:00Z")
    command.add_argument("--until")
    command.add_argument("--interval", choices=("minute", "hour", "day"))
    groups = ("key", "organization", "endpoint", "region", "outcome", "environment", "project")
    command.add_argument("--group-by", choices=groups)
    command.add_argument("--organization", help="the customer's, with an operator's key")


def _read_secret(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    if sys.stdin.isatty():
        sys.stderr.write("The secret, then Enter and Ctrl-D: ")
    return sys.stdin.read().strip()


def _tags(pairs: Sequence[str]) -> dict[str, str]:
    found = [pair.partition("=") for pair in pairs]
    if not all(sign for _, sign, _ in found):
        raise ValueError("A tag is written NAME=VALUE.")
    return {name: value for name, _, value in found}


def _show(options: argparse.Namespace, result: Any, text: str) -> None:
    sys.stdout.write((_json(result) if options.json else text) + "\n")


def _show_made(options: argparse.Namespace, made: CreatedKey) -> int:
    """Print the secret alone on the standard output, what is said about it on the other one."""
    secret = str(made.secret)
    if options.json:
        values = _values(made)
        del values["shown"]
        sys.stdout.write(_json({**values, "secret": secret}) + "\n")
        return VALID
    sys.stderr.write(f"{plain(made.key.id)} {plain(made.key.name)}: its secret is shown this once.\n")
    sys.stdout.write(f"{secret}\n")
    return VALID


def _json(result: Any) -> str:
    values = [_values(each) for each in result] if isinstance(result, list) else _values(result)
    return json.dumps(values, indent=2, default=_text)


def _values(value: Any) -> Any:
    is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_instance else value


def _text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _moment(value: datetime | None, absent: str) -> str:
    return value.strftime("%Y-%m-%d %H:%M") if value else absent


def _verdict_lines(verdict: Verdict) -> str:
    rows = [("CODE", verdict.code)]
    if key := verdict.key:
        rows += [
            ("KEY", f"{key.id} {key.name}"),
            ("ORGANIZATION", f"{key.organization.id} {key.organization.name}"),
            ("PLAN", key.plan.name),
            ("ENVIRONMENT", key.environment),
            ("SCOPES", " ".join(key.scopes)),
            ("EXPIRES", _moment(key.expires_at, "never")),
        ]
    if verdict.missing_scopes:
        rows.append(("MISSING", " ".join(verdict.missing_scopes)))
    return aligned(rows[0], rows[1:])


def _usage_table(report: UsageReport) -> str:
    header = ("GROUP", "FROM", "CALLS", "REFUSED", "COST")
    rows = [
        (series.group or "", _moment(point.at, ""), str(point.calls), str(point.refused), str(point.cost))
        for series in report.series
        for point in series.points
    ]
    totals = report.totals
    rows.append(("total", "", str(totals.calls), str(totals.refused), str(totals.cost)))
    return aligned(header, rows)


def _usage_of_key(found: KeyUsage) -> str:
    used = found.last_used
    rows = [
        ("ERROR RATE", f"{found.error_rate:.2%}"),
        ("LAST USED", _moment(used.at if used else None, "never")),
        ("LAST ADDRESS", (used.ip if used else None) or ""),
    ]
    return aligned(("REQUESTS", str(found.requests_current_period)), rows)


def _code(error: KeysteadError) -> int:
    kinds: Sequence[tuple[type[KeysteadError] | tuple[type[KeysteadError], ...], int]] = (
        (ConfigurationError, USAGE),
        ((AuthenticationError, PermissionDenied), DENIED),
        (Unavailable, UNREACHABLE),
        (SuccessorLost, LOST),
        ((Unfinished, Busy), UNFINISHED),
        (ApiError, FAILED),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), FAILED)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"keystead: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
