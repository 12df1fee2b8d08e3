"""The least that verification could be: one indexed SELECT by the secret's digest for each call, and no rule at all.

`python -m tests.bench.bare PORT` is one process of it; several share the port.
"""

import hmac
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
from psycopg_pool import AsyncConnectionPool

# The best of 4, 8 and 16 on 2 cores.
CONNECTIONS = 8
SELECT = "SELECT key_id, version FROM keys_keysecret WHERE digest = %s"
PEPPER = bytes.fromhex(os.environ["KEYSTEAD_PEPPER"].partition(":")[2])
JSON = (b"content-type", b"application/json")

type Receive = Callable[[], Awaitable[dict[str, Any]]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]

pool = AsyncConnectionPool(
    os.environ["DATABASE_VERIFY_URL"],
    min_size=CONNECTIONS,
    max_size=CONNECTIONS,
    kwargs={"autocommit": True},
    open=False,
)


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["method"] == "POST":
        row = await _select(msgspec.json.decode(await _body(receive))["secret"])
        found = row is not None
        await _answer(send, 200 if found else 404, {"valid": found, "key": row and row[0]})
    else:
        await _answer(send, 404, {})


async def _select(secret: str) -> tuple[Any, ...] | None:
    digest = hmac.digest(PEPPER, secret.encode(), "sha256")
    async with pool.connection() as connection:
        cursor = await connection.execute(SELECT, (digest,))
        return await cursor.fetchone()


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, content: dict[str, Any]) -> None:
    body = msgspec.json.encode(content)
    headers = [JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await pool.open(wait=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})


def main(port: int) -> None:
    """Serve on a port that others may share."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("127.0.0.1", port))
        own.listen(2048)
        config = uvicorn.Config(
            application, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning"
        )
        uvicorn.Server(config).run(sockets=[own])


if __name__ == "__main__":
    main(int(sys.argv[1]))
