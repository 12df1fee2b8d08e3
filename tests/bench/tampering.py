"""A superuser's tamperings with a stored ledger: how many of 1,000 each verifier finds, and the running notary."""

import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from keystead.ledger import LedgerTampered, verify_bundle

from audit import stored
from audit import verify as portal
from audit.errors import LedgerFaulty
from tests import bundles, ledgers, notaries, offline, outage, tamperings
from tests.bench.report import Row

NUMBER = 1_000
SIZE = 25
# The running notary watches as many ledgers, one of which is tampered with so often.
EVERY_SECONDS = 0.05
MOST_SECONDS = 10
PATIENCE_SECONDS = 30
SIGNED = "SELECT count(DISTINCT organization_id) FROM audit_checkpoint WHERE organization_id = ANY (%s)"
ALARMS = "SELECT a ->> 'organization' FROM audit_notary, jsonb_array_elements(alarms) a"


def measure() -> Iterator[Row]:
    """Yield how many were found by the notary, by the portal's verifier, by the offline one, and named alike."""
    # The notary first: it refuses a database whose checkpoints are in another's file, and what is verified is signed.
    yield from _watched()
    yield from _verified()


def _verified() -> Iterator[Row]:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.zip")
        for number in range(NUMBER):
            chance = random.Random(f"bench {number}")
            tampering = tamperings.draw(chance, SIZE, fits_head=chance.random() < 0.5)
            theirs, ours = _found(path, tampering)
            counts.update(
                {"portal": theirs is not None, "offline": ours is not None, "alike": theirs == ours}
            )
            counts[tampering.kind] += 1
    kinds = ", ".join(
        f"{counts[kind]} {kind}" for kind in ("flip", "opening", "delete", "swap", "insert", "cut")
    )
    for figure, name in (
        (f"tamperings found by manage.py ledger verify's verifier ({kinds})", "portal"),
        ("of them found by keystead ledger verify in the bundle", "offline"),
        ("of them named alike by both: fault, epoch, entry", "alike"),
    ):
        yield Row(
            figure=figure,
            measured=f"{counts[name]:,}",
            at_least=f"{NUMBER:,}",
            holds=counts[name] == NUMBER,
        )


def _watched() -> Iterator[Row]:
    """Tamper with one ledger after the other under the eyes of a notary's process."""
    watched = [ledgers.new(SIZE) for _ in range(NUMBER)]
    with tempfile.TemporaryDirectory() as folder, _notary(Path(folder)) as notary:
        with ledgers.superuser() as superuser:
            while superuser.execute(SIGNED, [watched]).fetchone() != (NUMBER,):
                assert notary.poll() is None, Path(folder, "log").read_text()[-4000:]
                time.sleep(0.2)
        told: dict[str, float] = {}
        done = threading.Event()
        listening = threading.Thread(target=_listen, args=(told, done))
        listening.start()
        at = dict(_tampered(watched))
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and not told.keys() >= at.keys():
            time.sleep(0.1)
        done.set()
        listening.join()
    waits = [told[each] - at[each] for each in at if each in told]
    found = sum(wait <= MOST_SECONDS for wait in waits)
    yield Row(
        figure=f"of {NUMBER:,} others, found by the running notary within {MOST_SECONDS} s",
        measured=f"{found:,} (median {statistics.median(waits):.1f} s, longest {max(waits):.1f} s)",
        at_least=f"{NUMBER:,}",
        holds=found == NUMBER,
    )


def _tampered(watched: list[str]) -> Iterator[tuple[str, float]]:
    """Yield each ledger and when it was tampered with: what is cut off its end, the head does not show."""
    with ledgers.without_triggers(autocommit=True) as superuser:
        for number, organization_id in enumerate(watched):
            chance = random.Random(f"notary {number}")
            tampering = tamperings.draw(chance, SIZE, fits_head=chance.random() < 0.5)
            with superuser.transaction():
                tamperings.done_to(superuser, organization_id, tampering)
            yield organization_id, time.monotonic()
            time.sleep(EVERY_SECONDS)


def _listen(told: dict[str, float], done: threading.Event) -> None:
    with ledgers.superuser() as superuser:
        while not done.is_set():
            for (organization_id,) in superuser.execute(ALARMS):
                told.setdefault(organization_id, time.monotonic())
            time.sleep(0.1)


@contextlib.contextmanager
def _notary(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    notaries.new(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "notary", "run", "--folder", str(folder)],
            cwd=outage.ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _found(path: Path, tampering: tamperings.Tampering) -> tuple[object, object]:
    organization_id = ledgers.new(SIZE)
    checkpoint = bundles.sign(organization_id)
    tamperings.apply(organization_id, tampering)
    offline.from_rows(path, organization_id, checkpoint)
    return portal_finds(organization_id), offline_finds(path)


def portal_finds(organization_id: str) -> tuple[str, int, int] | None:
    """Return the fault that the portal's verifier names, from the rows."""
    with stored.snapshot():
        parts = (stored.head, stored.rows, stored.openings, stored.signed)
        head, rows, openings, signed = (part(organization_id) for part in parts)
        try:
            portal.verify(organization_id, head, rows, openings, signed)
        except LedgerFaulty as fault:
            return str(fault.fault), fault.epoch, fault.index
    return None


def offline_finds(path: Path) -> tuple[str, int, int] | None:
    """Return the fault that the offline verifier names, from a bundle."""
    try:
        verify_bundle(path)
    except LedgerTampered as fault:
        return fault.fault, fault.epoch, fault.index
    return None
