"""The whole product behind an ASGI server: what services call all day goes through the gate, pages run as WSGI in
threads beside it (DESIGN, decision 5)."""

from typing import Any, cast

from a2wsgi import WSGIMiddleware

from portal.wsgi import application as pages

# After the settings, which `portal.wsgi` has read.
from keys.gate.asgi import Gate  # isort: skip
from keys.gate.wire import App  # isort: skip

THREADS = 16
application = Gate(cast("App", WSGIMiddleware(cast("Any", pages), workers=THREADS)))
