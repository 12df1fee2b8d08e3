"""Having a presented secret judged: here where the local mode may, else by the portal. It raises or returns the key."""

from __future__ import annotations

from keystead import operations
from keystead.models import KeyInfo, Verdict
from keystead.question import Question
from keystead.seam import LocalVerdicts
from keystead.transport import AsyncTransport, Transport

# What can't be a secret is not sent: the portal would refuse the request as a whole.
_MALFORMED = Verdict(valid=False, code="MALFORMED")


class Judge:
    """Judges, and waits for the portal where it must."""

    def __init__(self, transport: Transport, local: LocalVerdicts | None) -> None:
        self._transport = transport
        self._local = local

    def verify(self, question: Question) -> Verdict:
        """Return the portal's verdict, whatever it is; never one that was kept.

        Raises:
            Unavailable: there is none: let nobody in.
            ApiError: the client's own key may not ask, or not like that.
        """
        if not question.is_sendable():
            return _MALFORMED
        return self._transport.send(operations.verify(question))

    def validate(self, question: Question) -> KeyInfo:
        """Return the key, good for all that was asked.

        Raises:
            Refused: it is not: InvalidKey, InsufficientScope, Forbidden, NotEntitled, ApprovalRequired,
                RateLimited, QuotaExceeded.
            Unavailable: there is no verdict: let nobody in.
            ApiError: the client's own key may not ask, or not like that.
        """
        local = self._local
        if local is None:
            return self.verify(question).key_or_raise()
        known = local.validate(question)
        if known is None:
            mark = local.asking()
            known = self.verify(question)
            local.learn(mark, question, known)
        return known.key_or_raise()

    def close(self) -> None:
        """End the local mode; may be called twice."""
        if self._local is not None:
            self._local.close()


class AsyncJudge:
    """Judges, and awaits the portal where it must."""

    def __init__(self, transport: AsyncTransport, local: LocalVerdicts | None) -> None:
        self._transport = transport
        self._local = local

    async def verify(self, question: Question) -> Verdict:
        """Return the portal's verdict, as `Judge.verify` does."""
        if not question.is_sendable():
            return _MALFORMED
        return await self._transport.send(operations.verify(question))

    async def validate(self, question: Question) -> KeyInfo:
        """Return the key, good for all that was asked, as `Judge.validate` does."""
        local = self._local
        if local is None:
            return (await self.verify(question)).key_or_raise()
        known = local.validate(question)
        if known is None:
            mark = local.asking()
            known = await self.verify(question)
            local.learn(mark, question, known)
        return known.key_or_raise()

    def close(self) -> None:
        """End the local mode; may be called twice."""
        if self._local is not None:
            self._local.close()
