"""One attempt: a POST over TLS to an address that was judged, and what came back, in fifteen seconds in all.

No redirects, no proxy, cookies or certificates from the environment, no connection kept: the next delivery to the same
address may be another tenant's.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, override

import certifi
import httpcore
from django.conf import settings

from audit.errors import WebhookAddressRefused
from audit.webhooks import address, guard, schedule
from audit.webhooks.networks import Address

TIMEOUT_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 6.0
MOST_ANSWER_BYTES: Final = 64 * 1024
MOST_SHOWN_BYTES: Final = 1024
# Of what arrives at all, and in how many pieces: reading an answer cut into single bytes, or interim answers without
# end, keeps this process from everybody else's deliveries.
MOST_ARRIVING_BYTES: Final = 256 * 1024
MOST_PIECES: Final = 512
MOST_ADDRESSES: Final = 4
USER_AGENT: Final = "Keystead-Webhooks/1"
logger = logging.getLogger(__name__)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_UNREACHABLE: Final = (httpcore.ConnectError, httpcore.ConnectTimeout)


class Outcome(StrEnum):
    """How an attempt ended: a closed list."""

    DELIVERED = "delivered"
    ADDRESS_REFUSED = "address_refused"
    NAME_UNKNOWN = "name_unknown"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    BROKEN_OFF = "broken_off"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    GONE = "gone"
    NOT_BUILT = "not_built"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an attempt came to. `status` is None where there was no answer; `detail` says in words what was wrong.

    `text` is the first kilobyte of what the receiver answered, without control characters: a stranger's words.
    """

    outcome: Outcome
    duration_ms: int = 0
    status: int | None = None
    detail: str = ""
    text: str = ""
    retry_after: timedelta | None = None


class Attempt:
    """One attempt to POST `body` to `url`. `lookup` is done when its thread is free, perhaps after the attempt."""

    def __init__(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.lookup: guard.Lookup | None = None
        self.network: Pinned | None = None

    async def run(self, now: datetime) -> Answer:
        """Return the answer; raises nothing that a receiver can cause. `now` dates a `Retry-After`."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await self._post(now)
        except guard.NameUnknown as error:
            found = _failed(Outcome.NAME_UNKNOWN, error.detail)
        except WebhookAddressRefused as error:
            found = _failed(Outcome.ADDRESS_REFUSED, error.detail)
        except (TimeoutError, httpcore.ReadTimeout, httpcore.WriteTimeout):
            found = _failed(Outcome.TIMED_OUT, f"No whole answer within {TIMEOUT_SECONDS:g} seconds.")
        except _UNREACHABLE as error:
            found = _unreachable(error)
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError):
            found = _failed(Outcome.BROKEN_OFF, "The answer broke off, or was no HTTP.")
        except OSError:
            logger.exception("a webhook could not be sent")
            found = _failed(Outcome.NOT_BUILT, "A fault of this server: nothing was sent.")
        finally:
            if self.network is not None:
                await self.network.close()
        return replace(found, duration_ms=round((time.monotonic() - began) * 1000))

    async def freed(self) -> None:
        """Wait until the thread that looks the name up is free: a name server may keep it longer than the attempt."""
        if self.lookup is not None and not self.lookup.done():
            await asyncio.wait([asyncio.wrap_future(self.lookup)])

    async def _post(self, now: datetime) -> Answer:
        to = address.parse(self.url, settings.WEBHOOK_PORTS)
        self.lookup = guard.start_lookup(to)
        route = await guard.route(to, self.lookup)
        self.network = Pinned(route.addresses)
        connection = httpcore.AsyncHTTPConnection(
            origin=httpcore.Origin(b"https", to.host.encode(), to.port),
            ssl_context=trust(settings.WEBHOOK_CA_FILE),
            network_backend=self.network,
        )
        response = await connection.handle_async_request(self._request(to))
        return _answer(response, await _start_of(response), now)

    def _request(self, to: address.Destination) -> httpcore.Request:
        headers = {
            "Host": to.authority,
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        return httpcore.Request(
            "POST",
            httpcore.URL(scheme=b"https", host=to.host.encode(), port=to.port, target=to.target.encode()),
            headers=list(headers.items()),
            content=self.body,
            extensions={"timeout": {"connect": CONNECT_SECONDS}},
        )


class Pinned(httpcore.AsyncNetworkBackend):
    """A network that leads to addresses that were judged, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.addresses = addresses[:MOST_ADDRESSES]
        self.opened: list[httpcore.AsyncNetworkStream] = []
        self.network = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the addresses that answers: nothing is sent before, so that each may be tried."""
        for i, each in enumerate(self.addresses, start=1):
            try:
                stream = await self.network.connect_tcp(str(each), port, timeout=timeout)
            except _UNREACHABLE:
                if i == len(self.addresses):
                    raise
            else:
                self.opened.append(stream)
                return Bounded(stream)
        raise httpcore.ConnectError

    async def close(self) -> None:
        """Close what was opened, also where a handshake was cut off: httpcore leaves that to the garbage collector."""
        for stream in self.opened:
            with suppress(OSError, httpcore.NetworkError):
                await stream.aclose()


class Bounded(httpcore.AsyncNetworkStream):
    """A connection over which only so much arrives: what goes on then has broken off."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self.stream = stream
        self.left = MOST_ARRIVING_BYTES

    @override
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.left <= 0:
            raise httpcore.ReadError
        found = await self.stream.read(min(max_bytes, self.left), timeout)
        self.left -= len(found)
        return found

    @override
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self.stream.write(buffer, timeout)

    @override
    async def aclose(self) -> None:
        await self.stream.aclose()

    @override
    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return Bounded(await self.stream.start_tls(ssl_context, server_hostname, timeout))

    @override
    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


async def _start_of(response: httpcore.Response) -> bytes:
    """Read the answer up to 64 KiB, as it came and never unpacked, and let the rest go."""
    read, pieces = b"", 0
    async for chunk in response.aiter_stream():
        read, pieces = read + chunk, pieces + 1
        if len(read) >= MOST_ANSWER_BYTES or pieces == MOST_PIECES:
            break
    return read[:MOST_SHOWN_BYTES]


def _answer(response: httpcore.Response, start: bytes, now: datetime) -> Answer:
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004
        outcome, detail = Outcome.DELIVERED, ""
    elif 300 <= status < 400:  # noqa: PLR2004
        outcome, detail = Outcome.REDIRECTED, "Redirects are not followed: give the address it leads to."
    elif status == HTTPStatus.GONE:
        outcome, detail = Outcome.GONE, "The receiver says that it is gone for good."
    else:
        outcome, detail = Outcome.REFUSED, "Only an answer of 2xx counts."
    return Answer(
        outcome=outcome,
        status=status,
        detail=detail,
        text=_shown(start),
        retry_after=schedule.retry_after(_header(response, b"retry-after"), now),
    )


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _shown(start: bytes) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", start.decode("utf-8", "replace"))


def _unreachable(error: Exception) -> Answer:
    if isinstance(error, httpcore.ConnectTimeout):
        return _failed(Outcome.UNREACHABLE, "Nothing answers at the address.")
    if _is_tls(error):
        return _failed(Outcome.TLS_FAILED, _of_tls(error))
    return _failed(Outcome.UNREACHABLE, "The connection was refused.")


def _is_tls(error: BaseException) -> bool:
    return _cause(error) is not None


def _of_tls(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"The certificate does not fit: {cause.verify_message}"[:240]
    return "TLS could not be agreed upon."


def _cause(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _failed(outcome: Outcome, detail: str) -> Answer:
    return Answer(outcome=outcome, detail=detail)


@lru_cache(maxsize=2)
def trust(ca_file: str) -> ssl.SSLContext:
    """Return whom to trust: the public authorities, and what the operator has for its own network."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
