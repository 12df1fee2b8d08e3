"""Whom the security log's pages talk to: `request.member` is of a class above, of which they need no more than this."""

from typing import Protocol

from audit.requests import Request


class Reader(Protocol):
    """A signed-in person in one organization."""

    @property
    def id(self) -> str:
        """The person's id, as entries name them."""

    @property
    def organization_id(self) -> str:
        """Whose ledger."""

    @property
    def reads_whole_log(self) -> bool:
        """Whether every entry is shown."""

    @property
    def reads_own_log(self) -> bool:
        """Whether at least the person's own entries are shown."""


class ReaderRequest(Request):
    """A request of a signed-in person."""

    member: Reader
