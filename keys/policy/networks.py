"""The addresses from which a key may be used: at most 64 networks, IPv4 and IPv6 (KEYS §2).

IPv4-mapped IPv6 (`::ffff:203.0.113.7`) is IPv4 throughout: which of the two a socket reports depends on the
listener, and a list must not be passed by or fail on that accident.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)
from typing import Final

from keys.errors import Invalid

MAX_NETWORKS: Final = 64

# No zone (%eth0), no dotted masks, which read one way and mean another (/0.0.0.255).
_CIDR: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")
_MAPPED_BITS: Final = 96

type Network = IPv4Network | IPv6Network


def normalise_networks(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the networks in canonical form, in their order, each once; an empty list means any address.

    A single address is a network of one. `0.0.0.0/0` is every IPv4 address and no IPv6 one.

    Raises:
        Invalid: more than 64, or one that is no network or has host bits set (field `allowed_ips[<index>]`).
    """
    if len(texts) > MAX_NETWORKS:
        raise Invalid(f"At most {MAX_NETWORKS} networks.", field="allowed_ips")
    return tuple(dict.fromkeys(str(_network(text, index)) for index, text in enumerate(texts)))


def address_allowed(networks: Sequence[str], address: str | None) -> bool:
    """Tell whether a call from the address passes; with a list, one without a valid address does not."""
    if not networks:
        return True
    try:
        caller = _unmapped(ip_address(address or ""))
    except ValueError:
        return False
    return any(caller in network for network in _parsed(tuple(networks)))


def networks_within(child: Sequence[str], parent: Sequence[str]) -> bool:
    """Tell whether every address that the child list lets in is let in by the parent list.

    Both in canonical form. An empty list is any address: within nothing but another empty list.
    """
    if not parent:
        return True
    outer = _merged(parent)
    return bool(child) and all(
        any(_is_within(inner, net) for net in outer) for inner in _parsed(tuple(child))
    )


def _network(text: str, index: int) -> Network:
    field = f"allowed_ips[{index}]"
    if _CIDR.fullmatch(text) is None:
        raise Invalid("Not a network such as 203.0.113.0/24 or 2001:db8::/32.", field=field)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Invalid("Not a network such as 203.0.113.0/24 or 2001:db8::/32.", field=field) from None
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        raise Invalid(f"There are host bits set: for the whole network write {network}.", field=field)
    return _unmapped_network(network)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv4Network) or network.prefixlen < _MAPPED_BITS:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


@lru_cache(maxsize=4096)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(ip_network, networks))


def _merged(networks: Iterable[str]) -> list[Network]:
    """Join neighbours, so that two halves in one list hold the whole of the other."""
    parsed = _parsed(tuple(networks))
    four = [network for network in parsed if isinstance(network, IPv4Network)]
    six = [network for network in parsed if isinstance(network, IPv6Network)]
    return [*collapse_addresses(four), *collapse_addresses(six)]


def _is_within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
