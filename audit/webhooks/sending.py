"""One attempt: a POST over TLS to an address that was judged, and what came back, in fifteen seconds in all.

No redirects, no proxy, cookies or certificates from the environment, no connection kept: the next delivery to the same
address may be another tenant's.
"""

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import certifi
import httpx
from django.conf import settings

from audit.errors import WebhookAddressRefused
from audit.webhooks import address, guard, schedule
from audit.webhooks.networks import Address

TIMEOUT_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 6.0
MOST_ANSWER_BYTES: Final = 64 * 1024
MOST_SHOWN_BYTES: Final = 1024
MOST_ADDRESSES: Final = 4
USER_AGENT: Final = "Keystead-Webhooks/1"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_UNREACHABLE: Final = (httpx.ConnectError, httpx.ConnectTimeout)


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

    def __init__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.lookup: guard.Lookup | None = None

    async def run(self, now: datetime) -> Answer:
        """Return the answer; raises nothing that a receiver can cause. `now` dates a `Retry-After`."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await self._post(now)
        except WebhookAddressRefused as error:
            found = _failed(Outcome.ADDRESS_REFUSED, error.detail)
        except (TimeoutError, httpx.TimeoutException):
            found = _failed(Outcome.TIMED_OUT, f"No whole answer within {TIMEOUT_SECONDS:.0f} seconds.")
        except _UNREACHABLE as error:
            found = _unreachable(error)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError):
            found = _failed(Outcome.BROKEN_OFF, "The answer broke off, or was no HTTP.")
        except OSError:
            found = _failed(Outcome.NAME_UNKNOWN, guard.UNKNOWN)
        return _lasting(found, round((time.monotonic() - began) * 1000))

    async def freed(self) -> None:
        """Wait until the thread that looks the name up is free: a name server may keep it longer than the attempt."""
        if self.lookup is not None and not self.lookup.done():
            await asyncio.wait([asyncio.wrap_future(self.lookup)])

    async def _post(self, now: datetime) -> Answer:
        destination = address.parse(self.url, settings.WEBHOOK_PORTS)
        self.lookup = guard.start_lookup(destination)
        route = await guard.route(destination, self.lookup)
        for i, each in enumerate(route.addresses[:MOST_ADDRESSES], start=1):
            try:
                return await self._post_to(route.destination, each, now)
            except _UNREACHABLE as error:
                # Nothing was sent yet, so that another address of the same name may be tried.
                if i == min(len(route.addresses), MOST_ADDRESSES) or _is_tls(error):
                    raise
        raise guard.refused(guard.UNKNOWN)

    async def _post_to(self, to: address.Destination, at: Address, now: datetime) -> Answer:
        shown = f"[{at}]" if at.version == 6 else str(at)  # noqa: PLR2004
        request = httpx.Request(
            "POST",
            f"https://{shown}:{to.port}{to.target}",
            headers={
                "Host": to.authority,
                "User-Agent": USER_AGENT,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "Content-Type": "application/json",
                **self.headers,
            },
            content=self.body,
            extensions={
                "sni_hostname": to.host,
                "timeout": httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS).as_dict(),
            },
        )
        async with httpx.AsyncHTTPTransport(
            verify=_trust(settings.WEBHOOK_CA_FILE),
            trust_env=False,
            http2=False,
            retries=0,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
        ) as transport:
            response = await transport.handle_async_request(request)
            try:
                return _answer(response, await _start_of(response), now)
            finally:
                await response.aclose()


async def _start_of(response: httpx.Response) -> bytes:
    """Read the answer up to 64 KiB, as it came and never unpacked, and let the rest go."""
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= MOST_ANSWER_BYTES:
            break
    return read[:MOST_SHOWN_BYTES]


def _answer(response: httpx.Response, start: bytes, now: datetime) -> Answer:
    status = response.status_code
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
        retry_after=schedule.retry_after(response.headers.get("Retry-After", ""), now),
    )


def _shown(start: bytes) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", start.decode("utf-8", "replace"))


def _unreachable(error: httpx.TransportError) -> Answer:
    if isinstance(error, httpx.ConnectTimeout):
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


def _lasting(answer: Answer, duration_ms: int) -> Answer:
    return Answer(
        outcome=answer.outcome,
        duration_ms=duration_ms,
        status=answer.status,
        detail=answer.detail,
        text=answer.text,
        retry_after=answer.retry_after,
    )


@lru_cache(maxsize=2)
def _trust(ca_file: str) -> ssl.SSLContext:
    """Return whom to trust: the public authorities, and what the operator has for its own network."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context
