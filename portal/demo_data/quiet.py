"""The third customer: nothing yet but its owner and the key for the API."""

from collections.abc import Mapping
from typing import Final

from portal.demo_data.keyspecs import KeySpec

SLUG: Final = "quiet-harbor"
NAME: Final = "Quiet Harbor"
PLAN: Final = "standard"
AGREED: Final[Mapping[str, object]] = {}
ENVIRONMENTS: Final[tuple[tuple[str, str, str], ...]] = ()
PROJECTS: Final[tuple[tuple[str, str], ...]] = ()
PEOPLE: Final = (("quinn", "owner", "Quinn Abernathy", ""),)


def specs() -> tuple[KeySpec, ...]:
    """Return no key."""
    return ()
