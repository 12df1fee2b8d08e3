"""What a client may send beside bodies: the parser keeps every header, however many there are and however long."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Twice what nginx takes, and room for a browser's cookies.
MAX_BYTES: Final = 65_536
# So long a refused client may go on sending, so that it hears the answer.
LINGER_SECONDS: Final = 1.0
_ANSWER: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n"
    b"Cache-Control: no-store\r\n\r\n"
)


class HeadTooLarge(Exception):  # noqa: N818 - it is raised as what it says
    """A request's address and headers are more than `MAX_BYTES`."""


class BoundedHeads(HttpToolsProtocol):
    """HTTP/1.1 whose heads and trailers are bounded; the answer beyond is 431, and the connection ends."""

    _apart = 0
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take what came; it counts until a part of a body comes, or the end of a request."""
        if self._is_refused:
            return
        self._apart += len(data)
        super().data_received(data)
        if self._apart > MAX_BYTES:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large: it may have come all at once."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_BYTES:
            raise HeadTooLarge
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of a body on."""
        self._apart = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass the end of a request on."""
        self._apart = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self._apart > MAX_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.transport.write(_ANSWER)
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
