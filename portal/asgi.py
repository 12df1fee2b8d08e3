"""The same behind an ASGI server: pages run as WSGI in threads (DESIGN, decision 5)."""

from typing import Any, cast

from a2wsgi import WSGIMiddleware

from portal.wsgi import application as pages

THREADS = 16
application = WSGIMiddleware(cast("Any", pages), workers=THREADS)
