"""One table of figures, what was promised beside what was measured; and the file that keeps them."""

import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests import cluster, debian

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADINGS = ("figure", "at least", "aim", "measured", "")
PACKAGES = {
    "uvicorn": "uvicorn",
    "psycopg": "psycopg",
    "Django": "Django",
    "djangorestframework-api-key": "djangorestframework-api-key",
    "gunicorn": "gunicorn",
}
VERDICTS = {True: "reached", False: "NOT REACHED", None: ""}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what was measured and, where something was promised, whether it holds."""

    figure: str
    measured: str
    at_least: str = ""
    aim: str = ""
    holds: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        return (self.figure, self.at_least, self.aim, self.measured, VERDICTS[self.holds])


def ratio(figure: str, value: float, *, at_least: float, aim: float) -> Row:
    """Return the row of a ratio that should be high."""
    return Row(
        figure=figure,
        measured=f"{value:.2f}",
        at_least=f"{at_least:g}",
        aim=f"{aim:g}",
        holds=value >= at_least,
    )


def bound(figure: str, value: float, unit: str, *, at_most: float, aim: float | None = None) -> Row:
    """Return the row of a figure that should be low."""
    return Row(
        figure=figure,
        measured=f"{value:.1f}{unit}",
        at_least=f"≤ {at_most:g}{unit}",
        aim=f"{aim:g}{unit}" if aim is not None else "",
        holds=value <= at_most,
    )


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table that reads the same in a terminal and in Markdown."""
    cells = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, str.ljust, widths) for row in cells]
    rule = _line(["-" * width for width in widths], str.ljust, widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def _line(cells: Iterable[str], pad: Callable[[str, int], str], widths: Iterable[int]) -> str:
    return "| " + " | ".join(pad(cell, width) for cell, width in zip(cells, widths, strict=True)) + " |"


def document(rows: list[Row], command: str) -> str:
    """Return what `RESULTS.md` says."""
    return "\n".join(
        [
            "# Measured",
            "",
            f"Written by `{command}` on {datetime.now(UTC):%-d %B %Y}: {os.cpu_count()} cores shared by the servers, "
            "PostgreSQL and the load generator. Ratios are of one run, sides interleaved, medians of the rounds; "
            "fsync and synchronous commit are on; both sides run as many processes as there are cores.",
            "",
            ", ".join(versions()) + ".",
            "",
            table(rows),
            "",
        ]
    )


def versions() -> list[str]:
    """Return what was measured with."""
    with psycopg.connect(cluster.cluster().url()) as connection:
        server = connection.execute("SHOW server_version").fetchone()
    named = [f"{name} {version(package)}" for name, package in PACKAGES.items()]
    return [f"Python {platform.python_version()}", f"PostgreSQL {server[0]}", *named, f"wrk {_wrk()}"]


def _wrk() -> str:
    said = subprocess.run([debian.find("wrk"), "-v"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else "unknown"
