"""Kinds, risks and scopes in the words that pages use."""

from collections.abc import Iterable, Mapping
from typing import Final

from keys.secret import Kind

KIND_NAMES: Final[Mapping[str, str]] = {
    Kind.INGESTION: "Ingestion",
    Kind.CONTROL_PLANE: "Control plane",
    Kind.SERVICE: "Service",
}
KIND_CARDS: Final[Mapping[str, Mapping[str, str]]] = {
    Kind.INGESTION: {
        "icon": "arrow-up",
        "text": "Sends data in and can do nothing else. For devices, agents and pages that others can open.",
    },
    Kind.CONTROL_PLANE: {
        "icon": "sliders",
        "text": "Reads and changes through the API, within the scopes that you tick. For your own backends and tools.",
    },
    Kind.SERVICE: {
        "icon": "clock",
        "text": "The same, but short-lived: days, not months. For one job, a pipeline or a migration.",
    },
}
_ACTIONS: Final = frozenset({"read", "write", "admin", "list", "get", "create", "delete", "manage"})


def resource_of(scope: str) -> str:
    """Return what a scope is about: `incidents` of `incidents:read`, `logs` of `read:logs`."""
    first, _, second = scope.partition(":")
    return second if first in _ACTIONS else first


def spoken(name: str) -> str:
    """Return an identifier as words: `audit-log` is `audit log`."""
    return name.replace("-", " ").replace("_", " ")


def listed(words: Iterable[str]) -> str:
    """Return words as a person lists them: `a`, `a and b`, `a, b and c`."""
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def days(count: int) -> str:
    """Return a number of days in words."""
    return "1 day" if count == 1 else f"{count} days"


def lasting(seconds: int) -> str:
    """Return a length of time in its largest whole unit: `10 minutes`, `90 seconds`, `1 hour`."""
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        amount, rest = divmod(seconds, unit)
        if amount and not rest:
            return f"{amount} {name}{'' if amount == 1 else 's'}"
    return "no time"


def of_system(id_: str) -> str:
    """Return who acted, where nobody of a name did: the product's own parts are the product."""
    return "Keystead" if id_.startswith("sys_") else id_
