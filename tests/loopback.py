"""No test leaves this machine: Python's sockets reach loopback and unix sockets, names are not looked up."""

import ipaddress
import socket
import sys

CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
LOOKING_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
LOCAL_NAMES = frozenset({"", "localhost", socket.gethostname()})


class LeavesTheMachineError(RuntimeError):
    """A test tried to reach another machine."""


def guard() -> None:
    """Refuse, for the life of this process (an audit hook can't be undone), what would leave the machine."""
    sys.addaudithook(_refuse)


def is_local(host: str | bytes | None) -> bool:
    """Say whether a host is this machine, by address or by name."""
    name = host.decode(errors="replace") if isinstance(host, bytes) else host or ""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name in LOCAL_NAMES or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _is_address(host: str | bytes | None) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host or "")
    except ValueError:
        return False
    return True


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in LOOKING_UP:
        host = arguments[0]
        # An address is only parsed, not looked up.
        refused = isinstance(host, (str, bytes)) and not is_local(host) and not _is_address(host)
    elif event in CONNECTING:
        sock, host = arguments[0], arguments[1]
        inet = isinstance(sock, socket.socket) and sock.family in {socket.AF_INET, socket.AF_INET6}
        refused = inet and isinstance(host, tuple) and not is_local(host[0])
    else:
        return
    if refused:
        raise LeavesTheMachineError(f"{event} {host!r}: tests reach this machine only")
