"""The pages and the API as a WSGI application, which refuses to serve with a login that could change the ledger."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")


def _application() -> WSGIHandler:
    """Return the application, or end the process with one clear line."""
    try:
        made = get_wsgi_application()
        from audit import checks  # noqa: PLC0415

        checks.refuse_unsafe_login()
        connection.close()
    except ImproperlyConfigured as error:
        sys.exit(f"keystead: {error}")
    except DatabaseError as error:
        sys.exit(f"keystead: the database does not answer: {str(error).strip().splitlines()[0]}")
    return made


application = _application()
