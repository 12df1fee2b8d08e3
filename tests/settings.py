"""The product's settings on this run's own database, but for what only makes a test run slower."""

from tests import cluster

cluster.lay_out()

from portal.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
# Nothing is collected for Django's test client, and whitenoise would warn of the missing folder.
STATIC_ROOT = None
