"""`GET /v1/revocations`: server-sent events for anything that can narrow a verdict, as it commits. Spec API.

One connection a process listens (`narrowing.sql` tells) and one timer pings all streams. A ping is sent only after
that connection has answered, so that it says: what was committed before it has been told. Whoever hears nothing for a
second must believe no verdict that it kept.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection

from audit.requests import client_address, request_id
from keys.api import problems
from keys.api.problems import Problem
from keys.errors import KeysError, Unavailable
from keys.gate import credentials, standing
from keys.gate.messages import FORESEEN, Outgoing, of_error, wrong_method
from keys.gate.wire import Receive, Scope, Send, answer_headers, read_headers, send_answer
from keys.verification import Call, Judged, Own, credential, running

type Connect = Callable[[], Awaitable[AsyncConnection[Any]]]

PATH: Final = "/v1/revocations"
NEEDED: Final = "keys:verify"
CHANNEL: Final = "keystead_narrowed"
PING_SECONDS: Final = 0.3
# Longer than this no answer of the database is waited for, a subscriber for LISTEN, LISTEN for a new connection.
ANSWER_SECONDS: Final = 1.0
READY_SECONDS: Final = 2.0
LOST_SECONDS: Final = 3.0
RECONNECT_SECONDS: Final = 0.2
# A client that takes nothing for so long is gone, or wants to fill our memory.
STALL_SECONDS: Final = 10.0
MAX_PENDING: Final = 256
MAX_STREAMS: Final = 1_000
# So that one customer's verifiers leave room for the others'.
MAX_OF_ORGANIZATION: Final = 250
RETRY_AFTER: Final = "2"

log = structlog.get_logger("keystead.revocations")


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is narrowed: a key, all keys of an organization (`key_id` empty), or everything (both empty)."""

    key_id: str
    organization_id: str

    def is_for(self, organization_id: str | None) -> bool:
        """Tell whether it concerns those who see one organization; None sees all."""
        return not self.organization_id or organization_id is None or organization_id == self.organization_id

    @property
    def event(self) -> bytes:
        """As it is sent."""
        if self.key_id:
            return f"event: key\ndata: {self.key_id}\n\n".encode()
        if self.organization_id:
            return f"event: organization\ndata: {self.organization_id}\n\n".encode()
        return b"event: everything\ndata: *\n\n"


EVERYTHING: Final = Narrowed("", "")
READY: Final = b"event: ready\ndata:\n\n"
PING: Final = b"event: ping\ndata:\n\n"
_ITEM: Final = re.compile(r"(?:(key_\w{1,64}) )?(org_\w{1,64})", re.ASCII)


def parse(payload: str) -> list[Narrowed]:
    """Return the items of a notification; what can't be read narrows everything: any login may send one."""
    found = [_ITEM.fullmatch(item) for item in payload.split(",")]
    items = [Narrowed(one[1] or "", one[2]) for one in found if one is not None]
    return items if len(items) == len(found) else [EVERYTHING]


class Subscriber:
    """One stream's share of what is told: bounded, because its client may read slowly or not at all."""

    def __init__(self, organization_id: str | None) -> None:
        """`organization_id` is the only one whose keys it may see; None sees all."""
        self.organization_id = organization_id
        self._pending: dict[Narrowed, None] = {}
        self._is_pinged = False
        self._is_closed = False
        self._wake = asyncio.Event()

    def tell(self, items: Iterable[Narrowed]) -> None:
        """Add what concerns it; where too much waits, everything takes its place."""
        self._pending |= dict.fromkeys(item for item in items if item.is_for(self.organization_id))
        if len(self._pending) > MAX_PENDING or EVERYTHING in self._pending:
            self._pending = {EVERYTHING: None}
        if self._pending:
            self._wake.set()

    def ping(self) -> None:
        """Say that it heard of all there was."""
        self._is_pinged = True
        self._wake.set()

    def close(self) -> None:
        """End the stream."""
        self._is_closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[tuple[list[Narrowed], bool]]:
        """Yield what is to be sent, and whether a ping is, until it is closed."""
        while not self._is_closed:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            is_pinged, self._is_pinged = self._is_pinged, False
            if not self._is_closed:
                yield list(pending), is_pinged


class PooledError(psycopg.OperationalError):
    """The connection does not lead to PostgreSQL directly."""


class Hub:
    """Hears what PostgreSQL tells and passes it on to every stream of the process.

    While it can't listen it sends no ping; each loss and each return is told as everything; streams are closed where
    the loss lasts.
    """

    def __init__(self, connect: Connect) -> None:
        """`connect` opens a connection in autocommit that reaches the server directly, not through a pooler."""
        self._connect = connect
        self._subscribers: set[Subscriber] = set()
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lost_at = 0.0

    @contextlib.asynccontextmanager
    async def subscribed(self, organization_id: str | None) -> AsyncIterator[Subscriber]:
        """Tell a new subscriber all that is told from now on, once it is listened for.

        Raises:
            Unavailable: it is not.
            Problem: 503, there are too many streams.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="keystead-revocations")
        self._refuse_too_many(organization_id)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._listening.wait()
        except TimeoutError:
            raise Unavailable from None
        self._refuse_too_many(organization_id)
        subscriber = Subscriber(organization_id)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    async def close(self) -> None:
        """End every stream and stop listening."""
        self.close_streams()
        task, self._task = self._task, None
        self._listening.clear()
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def close_streams(self) -> None:
        """End every stream; their clients come again."""
        for subscriber in self._subscribers:
            subscriber.close()

    def _refuse_too_many(self, organization_id: str | None) -> None:
        of_same = sum(one.organization_id == organization_id for one in self._subscribers)
        is_full = organization_id is not None and of_same >= MAX_OF_ORGANIZATION
        if is_full or len(self._subscribers) >= MAX_STREAMS:
            detail = "This process holds as many streams as it can. Try again, or ask the portal each time."
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "too_many_streams", detail, {"Retry-After": RETRY_AFTER}
            )

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOST_SECONDS):
                    connection = await self._connect()
                async with connection:
                    await self._listen(connection)
            except (psycopg.Error, OSError) as error:
                reason = str(error) if isinstance(error, PooledError) else type(error).__name__
                log.warning("not listening", error=reason)
            self._lose()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.execute(f"LISTEN {CHANNEL}")
        await self._check(connection)
        self._tell([EVERYTHING])
        self._listening.set()
        ping_at = time.monotonic()
        while True:
            await self._hear(connection, ping_at - time.monotonic())
            await self._check(connection)
            await self._hear(connection, 0)
            for subscriber in self._subscribers:
                subscriber.ping()
            ping_at = max(ping_at + PING_SECONDS, time.monotonic())

    @staticmethod
    async def _check(connection: AsyncConnection[Any]) -> None:
        """Ask whether the server is still there, and is the one that was connected to.

        A transaction-mode pooler would take LISTEN and never pass on what is told; it gives itself away by the number
        of the server's process, which it makes up.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        if found is None or found[0] != connection.info.backend_pid:
            raise PooledError("DATABASE_VERIFY_URL leads to a pooler: streams need the server itself")

    async def _hear(self, connection: AsyncConnection[Any], seconds: float) -> None:
        async for told in connection.notifies(timeout=max(0.0, seconds)):
            self._tell(parse(told.payload))

    def _tell(self, items: Iterable[Narrowed]) -> None:
        found = list(items)
        for subscriber in self._subscribers:
            subscriber.tell(found)

    def _lose(self) -> None:
        now = time.monotonic()
        if self._listening.is_set():
            self._listening.clear()
            self._lost_at = now
        self._tell([EVERYTHING])
        if now - self._lost_at > LOST_SECONDS:
            self.close_streams()


_hubs: Final[dict[asyncio.AbstractEventLoop, Hub]] = {}


def hub() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        for ended in [other for other in _hubs if other.is_closed()]:
            del _hubs[ended]
        _hubs[loop] = Hub(_connect)
    return _hubs[loop]


async def stop() -> None:
    """End the running loop's streams and its hub; an ASGI server does, when it stops."""
    found = _hubs.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


def end_streams() -> None:
    """End every stream of this process, from a signal's handler or any thread: a server that stops waits for them."""
    for loop, found in list(_hubs.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(found.close_streams)


async def _connect() -> AsyncConnection[Any]:
    return await AsyncConnection.connect(
        running.dsn(), autocommit=True, application_name="keystead revocations"
    )


async def revocations(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve `GET /v1/revocations` until the client goes, its key is narrowed, or nothing can be told any more."""
    headers = read_headers(scope["headers"])
    id_ = request_id(headers.get("x-request-id", ""))
    try:
        if scope["method"] != "GET":
            raise wrong_method("GET")
        own = await _admitted(scope, headers)
        async with hub().subscribed(own.organization_id) as subscriber:
            await _stream(own, subscriber, receive, send, id_)
    except FORESEEN as error:
        await send_answer(send, of_error(error, id_), id_)


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Whose stream it is: its secret and address, to ask again; its key; and what it may see."""

    token: str
    ip: str
    judged: Judged

    @property
    def organization_id(self) -> str | None:
        """The only organization that it sees; None sees all."""
        known = self.judged.known
        return None if known is None or known.place.is_operator else known.row.organization_id

    @property
    def ends_at(self) -> datetime | None:
        """When its secret ends by itself, of which nobody tells."""
        return self.judged.known.ends_at if self.judged.known else None

    def is_among(self, items: Iterable[Narrowed]) -> bool:
        """Tell whether its own key may be narrowed by any of it."""
        row = self.judged.known.row if self.judged.known else None
        return row is None or any(
            item.key_id == row.key_id or (not item.key_id and item.is_for(row.organization_id))
            for item in items
        )


async def _admitted(scope: Scope, headers: Mapping[str, str]) -> _Verifier:
    query = scope["query_string"].decode("latin-1")
    token = credentials.bearer(headers.get("authorization", ""))
    credentials.refuse_key_in_query(query)
    peer = scope["client"][0] if scope.get("client") else ""
    ip = client_address(peer, headers.get("x-forwarded-for", ""), settings.TRUSTED_PROXIES)
    found = await _authenticated(token, ip)
    if query:
        raise problems.invalid("query", "There is no parameter of this name.")
    return found


async def _authenticated(token: str, ip: str) -> _Verifier:
    """Judge the verifier's own key.

    Raises:
        Problem: 401 or 403.
        Unavailable: nothing can be said now.
    """
    call = Call(verifier=credential(token), own=Own(ip=ip, scope=NEEDED))
    judged = (await running.here().ask(call)).verifier
    if judged is None or not judged.verdict.is_valid:
        credentials.refuse_token()
    credentials.require(judged.verdict.scopes, NEEDED)
    return _Verifier(token, ip, judged)


async def _stream(own: _Verifier, subscriber: Subscriber, receive: Receive, send: Send, id_: str) -> None:
    # nginx would gather what is to arrive at once.
    own_headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    headers = answer_headers(Outgoing(200, headers=own_headers | standing.expiry_headers(own.judged)), id_)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send(send, READY)
    gone = asyncio.create_task(_close_when_gone(receive, subscriber))
    try:
        await _pass_on(own, subscriber, send)
        await _send(send, b"", is_last=True)
    except TimeoutError:
        log.info("a stream was not read", request_id=id_)
    finally:
        gone.cancel()


async def _pass_on(own: _Verifier, subscriber: Subscriber, send: Send) -> None:
    """Send until the stream is closed or its own key no longer does; a narrowed key is judged anew."""
    async for items, is_pinged in subscriber:
        if own.ends_at is not None and datetime.now(UTC) >= own.ends_at:
            return
        events = b"".join(item.event for item in items) + (PING if is_pinged else b"")
        await _send(send, events)
        if items and own.is_among(items):
            try:
                own = await _authenticated(own.token, own.ip)
            except (Problem, KeysError):
                return


async def _close_when_gone(receive: Receive, subscriber: Subscriber) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.close()


async def _send(send: Send, body: bytes, *, is_last: bool = False) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})
