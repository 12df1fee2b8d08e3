"""The cast, once for a module: each test makes keys of its own and never counts on being alone."""

import pytest

from tests import builders, key_builders
from tests.api import calls


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        key_builders.catalogue()
        return builders.cast()


@pytest.fixture
def api(cast):
    """A program of acme's with every scope that these tests need."""
    return calls.program(cast.acme, cast.alice)


@pytest.fixture
def stranger(cast):
    """The same of another organization's."""
    return calls.program(cast.elsewhere, cast.mallory)
