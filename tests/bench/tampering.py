"""A superuser's tamperings with a stored ledger: how many of 1,000 each verifier finds, and whether they agree."""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from keystead.ledger import LedgerTampered, verify_bundle

from audit import stored
from audit import verify as portal
from audit.errors import LedgerFaulty
from tests import bundles, ledgers, offline, tamperings
from tests.bench.report import Row

NUMBER = 1_000
SIZE = 25


def measure() -> Iterator[Row]:
    """Yield how many were found by the portal's verifier, by the offline one, and named alike."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.zip")
        for number in range(NUMBER):
            tampering = tamperings.draw(random.Random(f"bench {number}"), SIZE)
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


def _found(path: Path, tampering: tamperings.Tampering) -> tuple[object, object]:
    organization_id = ledgers.new(SIZE)
    checkpoint = bundles.sign(organization_id)
    tamperings.apply(organization_id, tampering)
    offline.from_rows(path, organization_id, checkpoint)
    return portal_finds(organization_id), offline_finds(path)


def portal_finds(organization_id: str) -> tuple[str, int, int] | None:
    """Return the fault that the portal's verifier names, from the rows."""
    with stored.snapshot():
        head, rows, openings = (part(organization_id) for part in (stored.head, stored.rows, stored.openings))
        try:
            portal.verify(organization_id, head, rows, openings)
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
