"""`./dev bench [PART …]`: what the product promises of its speed, measured in one run on one machine.

Without a part all but the long ones. Each part is a module with a `measure` that yields the rows of the table.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from tests import cluster, debian
from tests.bench import report

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

# Of each part, its module and what it is about.
PARTS = {
    "verify": ("verify", "verification beside a bare SELECT and djangorestframework-api-key"),
    "sizes": ("sizes", "verification at 1,000 keys and at 1,000,000"),
    "limits": ("limits", "a limit of 100 under 1,000 parallel calls, over 4 processes"),
    "pages": ("keys_page", "the Keys page at 100, 10,000 and 100,000 keys"),
    "ledger": ("ledger", "appends and verification of the ledger"),
    "breakglass": ("breakglass", "10,000 keys revoked in one act"),
    "log": ("log", "the Security log's pages, filters and search at 1,000,000 entries (--entries)"),
    "local": ("local_mode", "the SDK's local mode: kept verdicts, and how soon a revocation arrives"),
    "export": ("export", "1,000,000 entries exported as a bundle, CSV and JSON lines"),
    "offline": ("offline", "a ledger of 1,000,000 entries checked offline by the SDK's command"),
    "tampering": ("tampering", "1,000 tamperings with a stored ledger, found by both verifiers"),
    "kills": ("kills", "SIGKILL of PostgreSQL, web and notary while keys are made"),
    "soak": ("soak", "memory of a verify process over ten minutes"),
}
LONG = frozenset({"kills", "soak", "tampering"})


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print the table; return 1 where something promised does not hold."""
    chosen = _parser().parse_args(arguments)
    try:
        debian.ensure("wrk")
    except debian.MissingError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _set_up()
    rows: list[report.Row] = []
    for part in chosen.parts or [part for part in PARTS if part not in LONG]:
        print(f"bench: {part}: {PARTS[part][1]}", file=sys.stderr, flush=True)
        rows += _told(_measure(part, chosen))
    print(report.table(rows))
    if chosen.write:
        report.RESULTS.write_text(report.document(rows, " ".join(["./dev bench", *arguments])))
    return int(any(row.holds is False for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parts = "; ".join(f"{name}: {about}" for name, (_, about) in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=parts)
    parser.add_argument("--minutes", type=float, default=10, help="how long the soak takes (default 10)")
    parser.add_argument("--kills", type=int, default=100, help="kills of each program (default 100)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each load (default 7)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a round (default 4)")
    parser.add_argument(
        "--entries", type=int, default=1_000_000, help="entries of the log (default 1,000,000)"
    )
    parser.add_argument("--write", action="store_true", help="keep the table in tests/bench/RESULTS.md")
    return parser


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(PARTS)}")
    return text


def _measure(part: str, chosen: argparse.Namespace) -> Iterable[report.Row]:
    measure: Callable[..., Iterable[report.Row]] = import_module(f"tests.bench.{PARTS[part][0]}").measure
    if part in ("verify", "sizes"):
        return measure(rounds=chosen.rounds, seconds=chosen.seconds)
    if part == "kills":
        return measure(rounds=chosen.kills)
    if part == "log":
        return measure(entries=chosen.entries)
    return measure(minutes=chosen.minutes) if part == "soak" else measure()


def _told(rows: Iterable[report.Row]) -> list[report.Row]:
    told = []
    for row in rows:
        print(f"bench:   {row.figure}: {row.measured}", file=sys.stderr, flush=True)
        told.append(row)
    return told


def _set_up() -> None:
    """Start the durable cluster and Django on it, the SDK beside."""
    sys.path.insert(0, str(cluster.ROOT / "sdk" / "src"))
    cluster.lay_out(durable=True)
    cluster.ensure()
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
