"""A trivial view guarded by djangorestframework-api-key, as a whole Django project with nothing else in it.

`python -m tests.bench.rest_framework COUNT FILE` makes the tables and so many keys, and writes the keys to the file.
"""

import os
import secrets
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

from portal import dsn

URL = "BENCH_REST_FRAMEWORK_URL"
BATCH = 5_000

settings.configure(
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    # Connections that stay open, no middleware, no sessions: the fastest that its documentation allows.
    DATABASES={"default": {**dsn.parse(os.environ[URL], URL), "CONN_MAX_AGE": None}},
    MIDDLEWARE=[],
    INSTALLED_APPS=["rest_framework", "rest_framework_api_key"],
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework_api_key.permissions.HasAPIKey"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from django.core.management import call_command  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402


@api_view(["GET"])
def guarded(request: Request) -> Response:
    return Response({"valid": True})


urlpatterns = [path("", guarded)]
application = get_wsgi_application()


def main(count: int, file: Path) -> None:
    """Make the keys as the package makes them, but inserted in batches."""
    call_command("migrate", verbosity=0, interactive=False)
    with file.open("w") as out:
        for _ in range(0, count, BATCH):
            rows = [APIKey(name="bench") for _ in range(BATCH)]
            for row in rows:
                out.write(APIKey.objects.assign_key(row) + "\n")
            APIKey.objects.bulk_create(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
