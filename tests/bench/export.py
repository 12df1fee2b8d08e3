"""Exports of the security log at a million entries, each with four sealed values: seconds and memory of the worker."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from audit import entry, note, tenancy, tree
from audit.models import Export, ExportPart, Format
from tests import cluster, exports, ledgers, offline
from tests.bench import offline as verifying
from tests.bench import report
from tests.bench.report import Row

ENTRIES = 1_000_000
MOST_MEGABYTES = 300
ORGANIZATION = "org_northline"
ENTRY = "COPY audit_entry FROM STDIN"
OPENING = "COPY audit_sealed FROM STDIN"
PROGRAM = "import sys, django; django.setup(); from audit.exports import making; making.make(*sys.argv[1:])"


def measure() -> Iterator[Row]:
    """Yield, for each format, how long the worker takes, its processor time, its peak memory, and what came of it."""
    fill(ENTRIES)
    for kind in Format:
        export = exports.request(ORGANIZATION, kind)
        seconds, busy, megabytes = _made(export)
        export = exports.fresh(export)
        name = f"{kind.label} of {export.entries:,} entries"
        yield Row(figure=name, measured=f"{export.size / 1e6:,.0f} MB", holds=export.is_ready)
        yield Row(figure=f"{kind.label}: made in", measured=f"{seconds:.0f} s, {busy:.0f} s of processor")
        yield report.bound(
            f"{kind.label}: peak memory of the worker", megabytes, " MB", at_most=MOST_MEGABYTES
        )
        if kind == Format.BUNDLE:
            yield from _verified(export)
        with tenancy.within(ORGANIZATION):
            Export.objects.filter(pk=export.pk).delete()


def fill(size: int) -> None:
    """Write a ledger of so many entries, and its checkpoint, past the functions that would take an hour for it."""
    grown, at, last = tree.Tree(), "", b""
    with ledgers.superuser(autocommit=False) as database:
        # Neither triggers nor keys: a million checks each.
        database.execute("SET session_replication_role = replica")
        for lines, sealed in verifying._chunks(size, grown):
            with database.cursor() as cursor, cursor.copy(ENTRY) as rows:
                for last in lines.splitlines():
                    told = json.loads(last)
                    data, at = told["data"], told["t"]
                    rows.write_row(
                        (
                            ORGANIZATION,
                            1,
                            told["i"],
                            last,
                            told["act"],
                            told["actor"],
                            data.get("target", ""),
                            data.get("request_id", ""),
                            at,
                        )
                    )
            with database.cursor() as cursor, cursor.copy(OPENING) as rows:
                for line in sealed.splitlines():
                    told = json.loads(line)
                    salt = entry.base64.b64decode(told["salt"])
                    rows.write_row((ORGANIZATION, 1, told["i"], told["field"], salt, told["value"]))
        note_of = note.sign(
            note.checkpoint_text(offline.ORIGIN, size, grown.root()), offline.ORIGIN, offline.SIGNING_KEY
        )
        database.execute(
            "INSERT INTO audit_head VALUES (%s, %s, 1, %s, %s, %s)",
            [ORGANIZATION, offline.ORIGIN, size, entry.leaf_hash(last), at],
        )
        database.execute(
            "INSERT INTO audit_checkpoint VALUES (%s, 1, %s, %s, %s, now(), now())",
            [ORGANIZATION, size, grown.root(), note_of],
        )
    with ledgers.superuser() as database:
        database.execute("ANALYZE audit_entry, audit_sealed")


def _made(export: Export) -> tuple[float, float, float]:
    """Let a process of its own make it; return its seconds, its processor time and its peak memory in megabytes."""
    command = [sys.executable, "-c", PROGRAM, export.organization_id, export.id]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=cluster.ROOT, env=environment) as process:
        _, _, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = 0
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _verified(export: Export) -> Iterator[Row]:
    """Check the bundle with the SDK's command."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder, "bundle.zip")
        with path.open("wb") as file, tenancy.within(ORGANIZATION):
            for number in range(ExportPart.objects.filter(export=export).count()):
                file.write(ExportPart.objects.get(export=export, number=number).piece)
        run = verifying.verify(path)
    yield Row(
        figure="keystead ledger verify of the exported bundle",
        measured=f"{run.seconds:.0f} s, exit {run.code}",
        holds=run.code == 0,
    )
