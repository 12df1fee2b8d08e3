"""The cast, the operator's verifier and one server with the stream, once for a module."""

import pytest

from audit import tenancy
from orgs.models import Organization
from orgs.services import appoint_owner
from tests import builders
from tests.api import calls
from tests.stream.serving import serving


@pytest.fixture(scope="module")
def operator(django_db_setup, django_db_blocker):
    """A secret that may verify every organization's keys."""
    with django_db_blocker.unblock():
        owner, operator_id = builders.person("Oper"), tenancy.operator_id()
        with tenancy.within(operator_id):
            own = Organization.objects.get(pk=operator_id)
            appoint_owner(own, owner, actor=builders.OPERATOR)
        return calls.key(own, owner, ["keys:verify"]).secret


@pytest.fixture(scope="module")
def server(django_db_setup, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def verifier(cast):
    """A key of acme's that may verify."""
    return calls.key(cast.acme, cast.alice, ["keys:verify"])
