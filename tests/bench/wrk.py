"""Load: wrk sends one request with ever other keys, and says how fast the answers came."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests import debian

SCRIPT = Path(__file__).with_name("wrk.lua")
THREADS = 2
PLACE = "@@"


@dataclass(frozen=True)
class Load:
    """What is sent, and to whom: `request` is the whole of it, `PLACE` standing for a line of `lines`."""

    url: str
    request: Path
    lines: Path
    connections: int

    def run(self, seconds: float) -> "Round":
        """Send for so long."""
        command = [debian.find("wrk"), f"-t{THREADS}", f"-c{self.connections}", f"-d{seconds:g}s"]
        command += ["-s", str(SCRIPT), self.url, "--", str(self.request), str(self.lines)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode:
            raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
        return Round(**json.loads(done.stdout.strip().splitlines()[-1]))


@dataclass(frozen=True)
class Round:
    """What one run of wrk saw. `p50` and `p99` in milliseconds; `refused` are answers of 400 and above."""

    calls: int
    seconds: float
    p50: float
    p99: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


@dataclass(frozen=True)
class Measured:
    """Several rounds of one load: medians, and errors of all of them."""

    rounds: Sequence[Round]

    @property
    def rate(self) -> float:
        """Calls per second."""
        return statistics.median(each.rate for each in self.rounds)

    @property
    def errors(self) -> int:
        """Answers that were errors, and those that never came."""
        return sum(each.refused + each.broken for each in self.rounds)

    def over(self, other: "Measured") -> float:
        """Return the ratio of the rates: the median over rounds that ran one after the other."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(own.rate / others.rate for own, others in pairs)

    def __str__(self) -> str:
        p50 = statistics.median(each.p50 for each in self.rounds)
        p99 = statistics.median(each.p99 for each in self.rounds)
        return f"{self.rate:,.0f} /s · p50 {p50:.1f} ms · p99 {p99:.1f} ms · {self.errors} errors"


def interleaved(loads: dict[str, Load], *, rounds: int, seconds: float) -> dict[str, Measured]:
    """Run every load in turn, so many times, after a round that doesn't count: the machine's mood meets them all."""
    seen: dict[str, list[Round]] = {name: [] for name in loads}
    for number in range(rounds + 1):
        for name, load in loads.items():
            found = load.run(seconds if number else min(seconds, 2))
            if number:
                seen[name].append(found)
    return {name: Measured(found) for name, found in seen.items()}


def write_request(
    path: Path, url: str, *, method: str, target: str, headers: dict[str, str], body: str, line: int
) -> Path:
    """Write a whole request with its length computed for lines of `line` bytes; return the path."""
    length = {"Content-Length": str(len(body) - len(PLACE) + line)} if body else {}
    lines = [f"{method} {target} HTTP/1.1", f"Host: {urlsplit(url).netloc}"]
    lines += [f"{name}: {value}" for name, value in {**headers, **length}.items()]
    path.write_bytes("\r\n".join([*lines, "", body]).encode())
    return path
