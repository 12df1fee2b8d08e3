"""The clients: `Keystead` blocks, `AsyncKeystead` is awaited.

    api_keys.validate(raw, scopes=…)     the key's info, or an exception: what a service asks for each request
    keys.verify · create · list · get · update · rotate · revoke · burn
    rotations.get · complete · cancel
    approvals.request · list · get
    executions.record · get
    break_glass.dry_run · execute
    webhooks.create · list · get · update · delete · rotate_secret · test · deliveries · resend · resend_range
    log.entries · get · proof · checkpoint · consistency · verifier_keys · save_bundle
    usage.get · of_key
    entitlements.check_for_key
    me()

What each takes and means is written once, in `operations` and `question`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from keystead import breakglass, endpoints, governed, log, operations
from keystead.judging import AsyncJudge, Judge
from keystead.methods import (
    awaitable,
    awaitable_creation,
    awaitable_download,
    awaitable_pages,
    awaitable_question,
    blocking,
    blocking_creation,
    blocking_download,
    blocking_pages,
    blocking_question,
)
from keystead.models import KeyInfo
from keystead.question import Question, ask
from keystead.seam import LocalOptions
from keystead.settings import TIMEOUT_SECONDS, Settings, resolve
from keystead.transport import AsyncTransport, Transport


class Keystead:
    """A blocking client, for any number of threads. Keep one for the life of the process; close it at its end.

    Args:
        base_url: the portal's address, else KEYSTEAD_URL. Plain http only to this machine, unless `allow_http`.
        key: this service's own key, else KEYSTEAD_KEY; secret, and in no repr, error or log.
        timeout: seconds for one attempt.
        retries: how often a call that may safely be sent again is.
        max_wait: seconds that a retry waits at most; a longer `Retry-After` is raised as Unavailable instead.
        user_agent: your service's name and version, put before this package's.
        local: `keystead.local.LocalOptions(…)`, to keep verdicts in this process for a short while.

    Raises:
        ConfigurationError: an address or a key is missing, or not safe to use.
    """

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = 2,
        max_wait: float = 2.0,
        user_agent: str = "",
        allow_http: bool = False,
        local: LocalOptions | None = None,
    ) -> None:
        self._settings = resolve(
            base_url,
            key,
            timeout=timeout,
            retries=retries,
            max_wait=max_wait,
            user_agent=user_agent,
            allow_http=allow_http,
        )
        self._transport = Transport(self._settings)
        self._judge = Judge(self._transport, local.open(self._settings) if local else None)
        self.api_keys = ApiKeys(self._judge)
        self.keys = Keys(self._transport, self._judge)
        self.usage = Usage(self._transport)
        self.entitlements = Entitlements(self._transport)
        self.rotations = Rotations(self._transport)
        self.approvals = Approvals(self._transport)
        self.executions = Executions(self._transport)
        self.break_glass = BreakGlass(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.log = Log(self._transport)

    me = blocking(operations.get_me)

    def __repr__(self) -> str:
        return _described(self, self._settings)

    def __enter__(self) -> Keystead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and what the local mode keeps; may be called twice."""
        self._judge.close()
        self._transport.close()


class ApiKeys:
    """Keys that your own clients present."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    validate = blocking_question(ask, Judge.validate)

    def judge(self, question: Question) -> KeyInfo:
        """Return the key of a question that was put together before; raises as `validate` does."""
        return self._judge.validate(question)


class Keys:
    """Keys as they are managed."""

    def __init__(self, transport: Transport, judge: Judge) -> None:
        self._transport = transport
        self._judge = judge

    verify = blocking_question(ask, Judge.verify)
    create = blocking_creation(operations.create_key)
    list = blocking_pages(operations.list_keys)
    get = blocking(operations.get_key)
    update = blocking(operations.update_key)
    rotate = blocking(operations.rotate_key)
    revoke = blocking(operations.revoke_key)
    burn = blocking(operations.burn_secret)


class Rotations:
    """Rotations that are running, or have ended."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    get = blocking(operations.get_rotation)
    complete = blocking(operations.complete_rotation)
    cancel = blocking(operations.cancel_rotation)


class Approvals:
    """What people let bound service keys do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    request = blocking(governed.request_approval)
    list = blocking_pages(governed.list_approvals)
    get = blocking(governed.get_approval)


class Executions:
    """What service keys did."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    record = blocking(governed.record_execution)
    get = blocking(governed.get_execution)


class BreakGlass:
    """Every key that a filter takes, revoked in one act."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    dry_run = blocking(breakglass.dry_run_break_glass)
    execute = blocking(breakglass.break_glass)


class Webhooks:
    """Where the portal tells of what happens; `keystead.webhooks` receives it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    create = blocking(endpoints.create_webhook)
    list = blocking_pages(endpoints.list_webhooks)
    get = blocking(endpoints.get_webhook)
    update = blocking(endpoints.update_webhook)
    delete = blocking(endpoints.delete_webhook)
    rotate_secret = blocking(endpoints.rotate_webhook_secret)
    test = blocking(endpoints.test_webhook)
    deliveries = blocking_pages(endpoints.list_deliveries)
    resend = blocking(endpoints.resend_delivery)
    resend_range = blocking(endpoints.resend_range)


class Log:
    """The security log; `keystead.ledger` checks what comes from here."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    entries = blocking_pages(log.list_entries)
    get = blocking(log.get_entry)
    proof = blocking(log.get_proof)
    checkpoint = blocking(log.get_checkpoint)
    consistency = blocking(log.get_consistency)
    verifier_keys = blocking(log.list_verifier_keys)
    save_bundle = blocking_download(log.get_bundle)


class Usage:
    """What was called, and how often."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    get = blocking(operations.get_usage)
    of_key = blocking(operations.get_usage_of_key)


class Entitlements:
    """What organizations have bought."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    check_for_key = blocking(operations.check_entitlement)


class AsyncKeystead:
    """A client to be awaited; arguments and errors are those of `Keystead`. Each event loop has its own connections."""

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = 2,
        max_wait: float = 2.0,
        user_agent: str = "",
        allow_http: bool = False,
        local: LocalOptions | None = None,
    ) -> None:
        self._settings = resolve(
            base_url,
            key,
            timeout=timeout,
            retries=retries,
            max_wait=max_wait,
            user_agent=user_agent,
            allow_http=allow_http,
        )
        self._transport = AsyncTransport(self._settings)
        self._judge = AsyncJudge(self._transport, local.open(self._settings) if local else None)
        self.api_keys = AsyncApiKeys(self._judge)
        self.keys = AsyncKeys(self._transport, self._judge)
        self.usage = AsyncUsage(self._transport)
        self.entitlements = AsyncEntitlements(self._transport)
        self.rotations = AsyncRotations(self._transport)
        self.approvals = AsyncApprovals(self._transport)
        self.executions = AsyncExecutions(self._transport)
        self.break_glass = AsyncBreakGlass(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)
        self.log = AsyncLog(self._transport)

    me = awaitable(operations.get_me)

    def __repr__(self) -> str:
        return _described(self, self._settings)

    async def __aenter__(self) -> AsyncKeystead:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this event loop's connections, and what the local mode keeps; may be called twice."""
        self._judge.close()
        await self._transport.close()


class AsyncApiKeys:
    """Keys that your own clients present."""

    def __init__(self, judge: AsyncJudge) -> None:
        self._judge = judge

    validate = awaitable_question(ask, AsyncJudge.validate)

    async def judge(self, question: Question) -> KeyInfo:
        """Return the key of a question that was put together before; raises as `validate` does."""
        return await self._judge.validate(question)


class AsyncKeys:
    """Keys as they are managed."""

    def __init__(self, transport: AsyncTransport, judge: AsyncJudge) -> None:
        self._transport = transport
        self._judge = judge

    verify = awaitable_question(ask, AsyncJudge.verify)
    create = awaitable_creation(operations.create_key)
    list = awaitable_pages(operations.list_keys)
    get = awaitable(operations.get_key)
    update = awaitable(operations.update_key)
    rotate = awaitable(operations.rotate_key)
    revoke = awaitable(operations.revoke_key)
    burn = awaitable(operations.burn_secret)


class AsyncRotations:
    """Rotations that are running, or have ended."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    get = awaitable(operations.get_rotation)
    complete = awaitable(operations.complete_rotation)
    cancel = awaitable(operations.cancel_rotation)


class AsyncApprovals:
    """What people let bound service keys do."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    request = awaitable(governed.request_approval)
    list = awaitable_pages(governed.list_approvals)
    get = awaitable(governed.get_approval)


class AsyncExecutions:
    """What service keys did."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    record = awaitable(governed.record_execution)
    get = awaitable(governed.get_execution)


class AsyncBreakGlass:
    """Every key that a filter takes, revoked in one act."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    dry_run = awaitable(breakglass.dry_run_break_glass)
    execute = awaitable(breakglass.break_glass)


class AsyncWebhooks:
    """Where the portal tells of what happens; `keystead.webhooks` receives it."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    create = awaitable(endpoints.create_webhook)
    list = awaitable_pages(endpoints.list_webhooks)
    get = awaitable(endpoints.get_webhook)
    update = awaitable(endpoints.update_webhook)
    delete = awaitable(endpoints.delete_webhook)
    rotate_secret = awaitable(endpoints.rotate_webhook_secret)
    test = awaitable(endpoints.test_webhook)
    deliveries = awaitable_pages(endpoints.list_deliveries)
    resend = awaitable(endpoints.resend_delivery)
    resend_range = awaitable(endpoints.resend_range)


class AsyncLog:
    """The security log; `keystead.ledger` checks what comes from here."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    entries = awaitable_pages(log.list_entries)
    get = awaitable(log.get_entry)
    proof = awaitable(log.get_proof)
    checkpoint = awaitable(log.get_checkpoint)
    consistency = awaitable(log.get_consistency)
    verifier_keys = awaitable(log.list_verifier_keys)
    save_bundle = awaitable_download(log.get_bundle)


class AsyncUsage:
    """What was called, and how often."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    get = awaitable(operations.get_usage)
    of_key = awaitable(operations.get_usage_of_key)


class AsyncEntitlements:
    """What organizations have bought."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    check_for_key = awaitable(operations.check_entitlement)


def _described(client: Any, settings: Settings) -> str:
    return f"<{type(client).__name__} of {settings.base_url}>"
