"""Where a delivery may go: every address behind a name is looked up once and judged, at each attempt and on saving.

The connection is then made to an address that was judged, so that a name that changes its answer in between (DNS
rebinding) leads nowhere else. Source: spec EVENTS, "Where it may go".
"""

import asyncio
import concurrent.futures
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from audit.errors import WebhookAddressRefused
from audit.webhooks import address as addresses
from audit.webhooks.address import Destination
from audit.webhooks.networks import Address, Rules, refusal

type Lookup = concurrent.futures.Future[Sequence[str]]

# A name server that never answers holds a thread, which nothing can end, for longer than anybody waits for it.
THREADS: Final = 128
SAVING_SECONDS: Final = 3.0
# Whoever saves chooses the name servers that are asked: at most so many look-ups at once for one organization in a
# process, and so many for all of them together, so that nobody's keep the others waiting, nor the deliveries.
SAVING_EACH: Final = 4
SAVING_ALL: Final = THREADS // 2
_NOWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
_threads: Final = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
_saving: Final[list[tuple[str, Lookup]]] = []
_saving_lock: Final = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where to connect: addresses that were judged, in the order in which to try them."""

    destination: Destination
    addresses: Sequence[Address]


class NameUnknown(WebhookAddressRefused):
    """The name has no address, or its name servers do not answer."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Return every A and AAAA answer for a name, as text; raises `OSError` where there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


# What looks names up. Tests put theirs in its place: they leave this machine for no name.
resolver: Callable[[str, int], Sequence[str]] = resolve


def check(url: str, organization_id: str) -> Destination:
    """Return where a URL leads if a delivery may go there now; raises `WebhookAddressRefused`.

    For saving: it waits for the DNS for three seconds at most, and refuses at once where four look-ups for the
    organization, or 64 for all of them, are still without an answer in this process.
    """
    destination = addresses.parse(url, settings.WEBHOOK_PORTS)
    lookup = start_lookup(destination) if destination.literal else _start_saving(organization_id, destination)
    try:
        judged(destination, lookup.result(SAVING_SECONDS))
    except TimeoutError:
        # Ends one that no thread has begun; any other holds its place until the DNS gives up.
        lookup.cancel()
        raise refused("The host's name could not be looked up in time.") from None
    except OSError:
        raise NameUnknown(UNKNOWN, field="url") from None
    return destination


async def route(destination: Destination, lookup: Lookup) -> Route:
    """Return where to connect; raises `WebhookAddressRefused`, and as such `NameUnknown` for one without address."""
    try:
        found = await asyncio.wrap_future(lookup)
    except OSError:
        raise NameUnknown(UNKNOWN, field="url") from None
    return judged(destination, found)


def start_lookup(destination: Destination) -> Lookup:
    """Begin to look a destination's name up, in a thread that lives until the DNS answers or gives up."""
    if literal := destination.literal:
        known: Lookup = concurrent.futures.Future()
        known.set_result([str(literal)])
        return known
    return _threads.submit(resolver, destination.host, destination.port)


def judged(destination: Destination, found: Sequence[str]) -> Route:
    """Return the route over what a name resolved to, if **every** address passes; raises `WebhookAddressRefused`."""
    rules = Rules(refused=settings.WEBHOOK_REFUSED, private=settings.WEBHOOK_PRIVATE)
    answers = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
    if not answers:
        raise refused(UNKNOWN)
    for each in answers:
        if reason := refusal(each, rules, is_own):
            raise refused(f"The host leads to {reason}, where nothing is sent.")
    return Route(destination=destination, addresses=[_plain(each) for each in answers])


def is_own(address: Address) -> bool:
    """Whether an address is this machine's: a socket can be bound to such a one only.

    Where the system lets any address be bound (`ip_nonlocal_bind`), the way to one's own begins at itself.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    if not _binds(family, str(address)):
        return False
    return not _binds(family, _NOWHERE[family]) or _begins_at_itself(family, str(address))


def refused(reason: str) -> WebhookAddressRefused:
    """Return the error that says why nothing is sent there."""
    return WebhookAddressRefused(reason, field="url")


UNKNOWN: Final = "The host's name has no address."
BUSY: Final = "The names of earlier addresses are still being looked up; try again in a moment."


def _start_saving(organization_id: str, destination: Destination) -> Lookup:
    with _saving_lock:
        _saving[:] = [(whose, lookup) for whose, lookup in _saving if not lookup.done()]
        own = sum(whose == organization_id for whose, _ in _saving)
        if own >= SAVING_EACH or len(_saving) >= SAVING_ALL:
            raise refused(BUSY)
        lookup = start_lookup(destination)
        _saving.append((organization_id, lookup))
    return lookup


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _binds(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        # Anything but "not mine": better refused than reached.
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def _begins_at_itself(family: socket.AddressFamily, address: str) -> bool:
    """Whether packets to an address would be sent from it; none is."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False
