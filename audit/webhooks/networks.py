"""Which addresses nothing is sent to (spec EVENTS, Webhooks). Pure.

What `ipaddress` calls global differs between Python's versions: what EVENTS names beside it is refused here by name.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
# Each is a way to write an IPv4 address inside an IPv6 one, or leads to a relay of somebody else's.
_INDIRECT: Final = {
    ipaddress.ip_network(network): what
    for network, what in (
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("2002::/16", "a 6to4 address"),
        ("2001::/32", "a Teredo address"),
        ("::/96", "an IPv4-compatible address"),
        ("fec0::/10", "a site-local address"),
        ("192.88.99.0/24", "a 6to4 relay"),
    )
}
_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator adds: `refused` stands above everything, `private` opens networks that would be refused."""

    refused: Sequence[Network] = ()
    private: Sequence[Network] = ()


def refusal(address: Address, rules: Rules, is_own: Callable[[Address], bool]) -> str:
    """Return why nothing is sent to an address, "" where it passes.

    `is_own` says whether an address is this machine's own. An IPv4 address inside `::ffff:0:0/96` is judged as such.
    """
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if _is_in(address, rules.refused):
        return "an address that the operator refuses"
    if inner is not None:
        return refusal(inner, rules, is_own)
    if address.is_multicast or address.is_unspecified or address == _BROADCAST:
        return "an address of no single host"
    opened = [network for network in rules.private if address in network]
    if not opened and (reason := _reserved(address)):
        return reason
    # A range is of the operator's network, and this machine no receiver in it: its loopback, or itself named alone, is.
    is_meant = any(network.is_loopback or network.num_addresses == 1 for network in opened)
    return "an address of this server" if not is_meant and is_own(address) else ""


def _reserved(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        return "an address with a zone"
    for network, what in _INDIRECT.items():
        if address in network:
            return what
    # Beyond what is given out (2000::/3) lie addresses that some network may translate to IPv4, as ::ffff:0:0:0/96.
    is_given_out = address.is_global and not address.is_reserved
    return "" if is_given_out else "an address of a private or reserved network"


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
