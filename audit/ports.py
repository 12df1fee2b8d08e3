"""What audit needs of the apps above, and no more: who reads the log, who hears of entries (`AppConfig.ready`)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from audit.acts import Act
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


# Called for each organization in the transaction that appended entries to its ledger, after they were: to put jobs
# into the queue that commit with them. (organization's id, acts in their order; a mass act has 10,000 of them).
on_appended: list[Callable[[str, Sequence[Act]], None]] = []
