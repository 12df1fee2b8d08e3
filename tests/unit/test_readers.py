"""A server whose readers stop reading: what they hold is given back, and those who read slowly get everything."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from a2wsgi import WSGIMiddleware

from portal import readers

PIECE = b"x" * 1024 * 1024
PIECES = 40


class Download:
    """A WSGI application whose answer is forty megabytes; `ended` is set when it is closed."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __call__(self, _environ, start_response):
        start_response("200 OK", [("Content-Length", str(PIECES * len(PIECE)))])
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        try:
            for _ in range(PIECES):
                yield PIECE
        finally:
            self.ended.set()


@contextmanager
def served(application):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            WSGIMiddleware(application),
            http=readers.BoundedReaders,
            loop="uvloop",
            lifespan="off",
            log_config=None,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(readers, "MOST_SECONDS", 0.5)


def asked(where):
    client = socket.create_connection(where, timeout=10)
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def test_who_stops_reading_holds_nothing_for_good():
    application = Download()
    with served(application) as where, asked(where) as client:
        assert client.recv(15).startswith(b"HTTP/1.1 200")
        assert application.ended.wait(10)


def test_who_reads_slowly_gets_everything():
    """More than the time that one piece may take, in all."""
    application = Download()
    got, began = 0, time.monotonic()
    with served(application) as where, asked(where) as client:
        while got < PIECES * len(PIECE):
            part = client.recv(1024 * 1024)
            assert part, got
            got += len(part)
            time.sleep(0.03)
    assert time.monotonic() - began > 2 * readers.MOST_SECONDS
