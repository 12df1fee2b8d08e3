"""The customer's collectors: in each region they present the key, and the API behind asks the portal whether it may.

Both sides are simulated here, the question is real: `POST /v1/keys/verify` with the operator's own key.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from portal.demo_traffic.api import Api, ApiError

SCOPE: Final = "ingest:write"
# Where the calls of each region come from: addresses of the documentation's networks.
REGIONS: Final[Mapping[str, str]] = {
    "us-east-1": "198.51.100.11",
    "us-west-2": "203.0.113.22",
    "eu-west-2": "192.0.2.33",
}
PAUSE_SECONDS: Final = 0.7


@dataclass
class Count:
    """What became of all calls; several threads add to it."""

    calls: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, failure: str) -> None:
        """Count one call; `failure` says why it failed, "" where it did not."""
        with self.lock:
            self.calls += 1
            if failure:
                self.refused[failure] += 1

    @property
    def failed(self) -> int:
        """How many calls failed."""
        return sum(self.refused.values())

    def told(self) -> str:
        """Return the count in words."""
        why = ", ".join(f"{count} {reason}" for reason, count in self.refused.most_common())
        return f"{self.calls:,} calls, {self.failed} calls failed" + (f": {why}" if why else "")


class Collector(threading.Thread):
    """One region: it calls until it is stopped, with the secret that it has at that moment."""

    def __init__(self, region: str, secret: str, api: Api, count: Count, stopped: threading.Event) -> None:
        super().__init__(name=region, daemon=True)
        self.region, self.secret = region, secret
        self.api, self.count, self.stopped = api, count, stopped

    def run(self) -> None:
        """Call, wait a moment, call again."""
        while not self.stopped.is_set():
            begun = time.monotonic()
            self.count.add(self.call())
            self.stopped.wait(max(0.0, PAUSE_SECONDS - (time.monotonic() - begun)))

    def call(self) -> str:
        """Make one call; return why it failed, "" where it did not."""
        question = {
            "secret": self.secret,
            "scopes": [SCOPE],
            "environment": "production",
            "region": self.region,
            "ip": REGIONS[self.region],
            "endpoint": "POST /v1/telemetry",
            "user_agent": "collector/4.2",
        }
        try:
            answer = self.api.post("/v1/keys/verify", question)
        except (ApiError, httpx.HTTPError) as error:
            # What the portal is stopped with, the last call need not survive.
            return "" if self.stopped.is_set() else f"{type(error).__name__} in {self.region}"
        return "" if answer["valid"] else f"{answer['code']} in {self.region}"
