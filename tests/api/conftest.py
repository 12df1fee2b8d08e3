"""The cast, once for a module: each test makes keys of its own and never counts on being alone."""

import pytest

from tests.api import calls


@pytest.fixture
def api(cast):
    """A program of acme's with every scope that these tests need."""
    return calls.program(cast.acme, cast.alice)


@pytest.fixture
def stranger(cast):
    """The same of another organization's."""
    return calls.program(cast.elsewhere, cast.mallory)
