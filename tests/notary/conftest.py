import pytest

from tests.cluster import database
from tests.notary.stage import Stage


@pytest.fixture
def stage(request, tmp_path):
    return Stage(f"{database()}_notary", tmp_path / "notary")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Stage(f"{database()}_notaries", tmp_path_factory.mktemp("shared") / "notary")
