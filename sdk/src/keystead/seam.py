"""The seam of the local mode: what a client asks before it asks the portal. `keystead.local` is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from keystead.models import Verdict
    from keystead.question import Question
    from keystead.settings import Settings


class LocalVerdicts(Protocol):
    """Verdicts kept in this process, for the blocking and the async client alike.

    Called from any thread and any event loop, so that nothing here may block or wait. A client calls `validate`;
    where that gives None it calls `asking`, asks the portal, and hands the answer to `learn`.
    """

    def validate(self, question: Question) -> Verdict | None:
        """Return a verdict that still holds, the call counted for the next report; None: ask the portal."""
        ...

    def asking(self) -> object:
        """Return a mark of this moment: what is asked for before a change was heard of must not be kept after it."""
        ...

    def learn(self, mark: object, question: Question, verdict: Verdict) -> None:
        """Keep the portal's verdict where it may be kept and nothing has changed since `mark`."""
        ...

    def close(self) -> None:
        """Stop listening and report what is left; may be called twice."""
        ...


class LocalOptions(Protocol):
    """How verdicts are to be kept: `keystead.local.LocalOptions(max_staleness=2.0)`."""

    def open(self, settings: Settings) -> LocalVerdicts:
        """Begin to keep verdicts for a client with these settings."""
        ...
