"""Run the traffic against a demo that serves: `python -m portal.demo_traffic`; `./dev demo --traffic` starts both."""

import argparse
import json
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import httpx

from portal.demo_traffic.api import Api, ApiError
from portal.demo_traffic.collectors import REGIONS, Collector, Count
from portal.demo_traffic.receiver import Receiver
from portal.demo_traffic.staging import KEY, Pace, Watch, fresh_secret, roll_out, start

CUSTOMER: Final = "northline"
ACTS: Final = ["rotation.*", "key.*"]
LEFT_OUT: Final = frozenset({"target", "ledger", "request_id", "actor", "after"})
MOST_SHOWN: Final = 180
DESCRIPTION: Final = "The receiver of ./dev demo --traffic"


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive one rotation to its end, then keep the traffic up until a signal comes."""
    options = parsed(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        run(options)
    except Stopped:
        return 0
    except (ApiError, httpx.HTTPError, OSError, KeyError) as error:
        say(f"{type(error).__name__}: {error}")
        return 1


def run(options: argparse.Namespace) -> NoReturn:
    """Do it all. Raises `Stopped`, and what the portal or the network refuse."""
    document = json.loads((options.home / "demo.json").read_text())
    base_url = document["base_url"]
    customer = next(found for found in document["organizations"] if found["slug"] == CUSTOMER)
    pace = Pace(options.step_seconds, options.quiet_seconds)
    with ExitStack() as open_:
        admin = open_.enter_context(Api(base_url, customer["admin_key"]))
        verifier = open_.enter_context(Api(base_url, document["verify_key"]))
        open_.enter_context(listening(admin, options.port, options.home / "receiver" / "private.pem"))
        key_id, secret = fresh_secret(admin)
        count = Count()
        collectors = open_.enter_context(calling(verifier, secret, count))
        rotate(admin, key_id, collectors, pace)
        say(count.told())
        say("the collectors go on with the new secret; Ctrl-C stops them with the demo.")
        threading.Event().wait()
        raise Stopped


def rotate(admin: Api, key_id: str, collectors: Sequence[Collector], pace: Pace) -> None:
    """Let the regions work a moment with the old secret, rotate, and follow it to its end."""
    portal = str(admin.client.base_url).rstrip("/")
    say(f"three regions use the key {KEY}: {portal}/keys/{key_id}")
    threading.Event().wait(pace.step_seconds)
    rotation_id, secret = start(admin, key_id, pace)
    say(f"a staged rotation has started; watch it: {portal}/rotations/{rotation_id}")
    watch = Watch(admin, rotation_id, say)
    roll_out(collectors, secret, pace, watch)
    say(f"the rotation {watch.to_the_end()} by itself" if watch.states else "the rotation has no targets")
    # The old secret is refused from here on: what still used it would fail now.
    threading.Event().wait(min(pace.step_seconds, 5.0))


@contextmanager
def listening(admin: Api, port: int, certificate: Path) -> Iterator[Receiver]:
    """Register a receiver with the customer, in place of an earlier run's, and print what it is told."""
    receiver = Receiver(port, certificate, show)
    for webhook in admin.all("/v1/webhooks"):
        if webhook["description"] == DESCRIPTION:
            admin.delete(f"/v1/webhooks/{webhook['id']}")
    made = admin.post("/v1/webhooks", {"url": receiver.url, "acts": ACTS, "description": DESCRIPTION})
    receiver.start(made["secret"])
    say(f"a receiver listens for {', '.join(ACTS)} at {receiver.url}")
    try:
        yield receiver
    finally:
        receiver.stop()


@contextmanager
def calling(verifier: Api, secret: str, count: Count) -> Iterator[list[Collector]]:
    """Let a collector call in each region until the block ends."""
    stopped = threading.Event()
    collectors = [Collector(region, secret, verifier, count, stopped) for region in REGIONS]
    for collector in collectors:
        collector.start()
    try:
        yield collectors
    finally:
        stopped.set()
        for collector in collectors:
            collector.join(timeout=2)
        say(count.told())


def show(event: dict[str, Any]) -> None:
    """Print a verified event: its act, and its facts."""
    facts = {name: value for name, value in event["data"].items() if name not in LEFT_OUT and value}
    entry = event["data"].get("ledger", {}).get("index", "")
    shown = textwrap.shorten(json.dumps(facts, ensure_ascii=False), MOST_SHOWN, placeholder=" …")
    say(f"webhook, signature right: {event['type']} #{entry} {shown}")


def say(message: str) -> None:
    """Write one line."""
    print(f"traffic: {message}", flush=True)  # noqa: T201


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m portal.demo_traffic", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of the demo that serves")
    parser.add_argument("--port", type=int, required=True, help="of the receiver, as the demo allows it")
    parser.add_argument("--step-seconds", type=float, default=20, help="between two regions (20)")
    parser.add_argument("--quiet-seconds", type=int, default=20, help="until a region counts as moved (20)")
    return parser.parse_args(arguments)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
