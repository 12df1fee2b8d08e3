"""`keystead rotate --write-env` and `keystead agent`: the secret in a file, replaced without downtime."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import signal
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from keystead import envfile
from keystead.agent import BEFORE_EXPIRY_DAYS, Agent, Due, Schedule, Standing
from keystead.commands.own import client_with
from keystead.errors import ConfigurationError
from keystead.journal import Journal
from keystead.place import Place, mode_of
from keystead.swap import Connect, Swap, Swapped, Wait, Way, this_machine
from keystead.tables import plain

DONE: Final = 0


def add_file(command: argparse.ArgumentParser) -> None:
    """Add what both commands take: which file, and what happens between writing and retiring."""
    command.add_argument(
        "--name",
        action="append",
        help=f"the variable that holds the key, {envfile.DEFAULT_NAME} unless given; may be repeated",
    )
    command.add_argument(
        "--file-mode", default="600", help="600 (unless given), or 640 where a group reads it"
    )
    command.add_argument(
        "--exec", metavar="COMMAND", help="run when the new secret is written, such as a reload"
    )
    command.add_argument(
        "--settle",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long before the old secret is retired",
    )


def add_agent(command: argparse.ArgumentParser) -> None:
    """Add what `keystead agent` takes."""
    command.add_argument(
        "--write-env", type=Path, required=True, metavar="FILE", help="the file with the key"
    )
    add_file(command)
    command.add_argument(
        "--every", type=float, metavar="DAYS", help="instead of the key's own rotation interval"
    )
    command.add_argument(
        "--before-expiry",
        type=float,
        default=BEFORE_EXPIRY_DAYS,
        metavar="DAYS",
        help=f"rotate so long before the key expires; {BEFORE_EXPIRY_DAYS:g} unless given",
    )
    once = command.add_mutually_exclusive_group()
    once.add_argument("--once", action="store_true", help="rotate if it is due, and end: for cron and timers")
    once.add_argument("--check", action="store_true", help="say when it is due, and change nothing")


def rotate_file(options: argparse.Namespace) -> int:
    """Rotate the key whose secret is in a file, and write the new one there."""
    if options.key or options.version is not None:
        raise ConfigurationError("The key in the file rotates itself: give no KEY_ID and no --version.")
    with Place(options.write_env, mode=mode_of(options.file_mode)) as place, Journal(place) as journal:
        done = Swap(place, journal, _way(options), connecting(options), waiting()).run()
        _narrowed(place)
        tell(options, place, done)
    return DONE


def agent(options: argparse.Namespace) -> int:
    """Rotate the key whose secret is in a file, on its schedule."""
    _log_lines()
    schedule = Schedule(options.every, options.before_expiry)
    mode = mode_of(options.file_mode)
    running = Agent(
        lambda: Place(options.write_env, mode=mode), _way(options), schedule, connecting(options), waiting()
    )
    if options.check:
        sys.stdout.write(f"{_next(*running.look())}\n")
    elif options.once:
        running.once()
    else:
        running.run()
    return DONE


def way_of(options: argparse.Namespace) -> Way:
    """Return which variables, and what happens between writing and retiring, as `add_file` has it."""
    return Way(
        names=tuple(map(envfile.checked_name, options.name or (envfile.DEFAULT_NAME,))),
        command=shlex.split(options.exec or ""),
        settle_seconds=options.settle,
    )


def _way(options: argparse.Namespace) -> Way:
    request = _request(options)
    return replace(way_of(options), request=request, completes=_completes(options, request))


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Return the body of the rotation: staged, unless a grace was asked for."""
    grace = getattr(options, "grace_seconds", None)
    staged: dict[str, Any] = {
        "targets": getattr(options, "target", None),
        "quiet_seconds": getattr(options, "quiet_seconds", None),
        "deadline": getattr(options, "deadline", None),
    }
    said = {name: value for name, value in staged.items() if value is not None}
    kind = getattr(options, "mode", None) or ("staged" if grace is None else "grace")
    if kind == "immediate":
        raise ConfigurationError("A key can't rotate itself immediately: a lost answer would lock it out.")
    if kind == "staged" and grace is not None:
        raise ConfigurationError("A staged rotation has no grace.")
    if kind == "grace" and said:
        raise ConfigurationError("Targets are those of a staged rotation.")
    if kind == "staged":
        return {"mode": kind, "targets": [this_machine()], **said}
    return {"mode": kind, **({} if grace is None else {"grace_seconds": grace})}


def _completes(options: argparse.Namespace, request: dict[str, Any]) -> bool:
    chosen = getattr(options, "completes", None)
    return request["mode"] == "staged" if chosen is None else bool(chosen)


def connecting(options: argparse.Namespace) -> Connect:
    """Return what makes a client of the secret in a file."""
    return lambda secret: client_with(options, secret)


def waiting() -> Wait:
    """Return what waits, and is cut short by SIGTERM: a step that was begun is always finished."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, lambda *_: ending.set())
    return ending.wait


def _log_lines() -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Line("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("keystead.agent")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


class _Line(logging.Formatter):
    """One line for each event, without a secret whatever it says."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record).replace("\n", " "))


def _narrowed(place: Place) -> None:
    if place.was_wider:
        sys.stderr.write(
            f"{plain(str(place.path))}: others could read it until now; --file-mode 640 lets its group go on.\n"
        )


def tell(options: argparse.Namespace, place: Place, done: Swapped) -> None:
    """Say what a swap has come to."""
    if options.json:
        sys.stdout.write(f"{json.dumps(asdict(done), indent=2)}\n")
    else:
        sys.stderr.write(f"{plain(str(place.path))}: {_told(done)}\n")


def _told(done: Swapped) -> str:
    ended = (
        "the old one is retired"
        if done.is_complete
        else f"the old one is accepted still ({done.rotation_id})"
    )
    return plain(f"{done.key_id} has secret {done.version}; {ended}.")


def _next(standing: Standing, due: Due) -> str:
    when = due.at.strftime("%Y-%m-%dT%H:%M:%SZ") if due.at else "never"
    return plain(f"{standing.key_id} version {standing.version}: due {when}, {due.why}")
