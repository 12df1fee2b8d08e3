"""Tables as CSV that a spreadsheet opens without running anything, and that carry no secret."""

import csv
from collections.abc import Iterable, Sequence
from typing import IO

from audit.exports import facts
from keys import secret


def cell(text: str) -> str:
    """Return a text as a cell: secrets hidden, and an apostrophe before what a spreadsheet would run."""
    return facts.cell(secret.redact(text))


def write(file: IO[str], header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write a header and rows to a text file opened with `newline=""`; return the number of rows."""
    writer = csv.writer(file)
    writer.writerow(header)
    count = 0
    for row in rows:
        writer.writerow([cell(text) for text in row])
        count += 1
    return count
