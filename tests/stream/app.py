"""The gate with the stream in front of the pages, as the product's own entry mounts them."""

import asyncio
import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
django.setup()

from a2wsgi import WSGIMiddleware  # noqa: E402 - Django first

from keys import revocations  # noqa: E402
from keys.gate import asgi as gate  # noqa: E402
from keys.verification import running  # noqa: E402
from portal.wsgi import application as pages  # noqa: E402

_pages = WSGIMiddleware(pages, workers=8)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] == "/v1/revocations":
        await revocations.revocations(scope, receive, send)
    elif scope["path"] in gate.OPERATIONS:
        await gate.serve(scope, receive, send)
    else:
        await _pages(scope, receive, send)


async def _live(receive: Any, send: Any) -> None:
    await receive()
    await running.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await revocations.stop()
    await running.stop()
    await asyncio.sleep(0)
    await send({"type": "lifespan.shutdown.complete"})
