"""The rotation: one key for three regions gets a new secret, and each region takes it up when it is its turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from portal.demo_traffic.api import Api
from portal.demo_traffic.collectors import REGIONS, SCOPE, Collector

KEY: Final = "edge-collector"
POLL_SECONDS: Final = 0.5

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it goes: a region takes the new secret up every `step_seconds`."""

    step_seconds: float
    quiet_seconds: int


def fresh_secret(api: Api) -> tuple[str, str]:
    """Return the id of the collectors' key and a secret of it that works; the first run makes the key.

    A later run does not know the secret any more, as it should be: it rotates the key at once, which also ends a
    rotation that an earlier run left in the middle.
    """
    for key in api.all("/v1/api-keys", q=KEY, status="active"):
        if key["name"] == KEY:
            return key["id"], api.post(f"/v1/api-keys/{key['id']}/rotate", {"mode": "immediate"})["secret"]
    made = api.post(
        "/v1/api-keys",
        {
            "name": KEY,
            "kind": "ingestion",
            "environment": "production",
            "scopes": [SCOPE],
            "owner": {"type": "team", "name": "Telemetry"},
            "description": "One key for the collectors of three regions; ./dev demo --traffic rotates it.",
            "tags": {"service": "collector"},
        },
    )
    return made["key"]["id"], made["secret"]


def start(api: Api, key_id: str, pace: Pace) -> tuple[str, str]:
    """Start the staged rotation; return its id and the new secret."""
    wish = {"mode": "staged", "targets": list(REGIONS), "quiet_seconds": pace.quiet_seconds}
    answer = api.post(f"/v1/api-keys/{key_id}/rotate", wish)
    return answer["rotation"]["id"], answer["secret"]


def roll_out(collectors: Sequence[Collector], secret: str, pace: Pace, watch: "Watch") -> None:
    """Give each region the new secret, one after the other, and follow the rotation meanwhile."""
    for collector in collectors:
        watch.for_seconds(pace.step_seconds)
        collector.secret = secret
        watch.say(f"{collector.region} takes up the new secret")


class Watch:
    """Follows one rotation and says what is new in it."""

    def __init__(self, api: Api, rotation_id: str, say: Say) -> None:
        self.api, self.rotation_id, self.say = api, rotation_id, say
        self.states: dict[str, str] = {}

    def look(self) -> str:
        """Say which targets have moved on since the last look; return the rotation's status."""
        found: dict[str, Any] = self.api.get(f"/v1/rotations/{self.rotation_id}")
        for target in found["targets"]:
            if self.states.get(target["name"], "waiting") != target["state"]:
                self.say(f"{target['name']} is {target['state']}")
            self.states[target["name"]] = target["state"]
        return str(found["status"])

    def for_seconds(self, seconds: float) -> None:
        """Follow it for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(POLL_SECONDS)

    def to_the_end(self) -> str:
        """Follow it until it is over; return what it came to."""
        while (status := self.look()) == "running":
            time.sleep(POLL_SECONDS)
        return status
